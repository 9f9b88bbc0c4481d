//! Scales and shifts by constants: chains become one scale and one shift.

use egg::Id;
use kiln_ir::{DType, Dim, Op};

use super::{Found, Rule, none, one, spreads};
use crate::egraph::cost::is_elementwise;
use crate::egraph::saturate::{Matched, Rewrites};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "merge_scales",
        doc: "(x · a) · b = x · (a · b)",
        when: "a and b are constants, and nothing else uses the inner value",
        why: "one multiplication less; the product of constants is made at compile time",
        root: |op| matches!(op, Op::Mul {}),
        apply: merge_scales,
    },
    Rule {
        name: "merge_shifts",
        doc: "(x + a) + b = x + (a + b)",
        when: "a and b are constants, and nothing else uses the inner value",
        why: "one addition less; the sum of constants is made at compile time",
        root: |op| matches!(op, Op::Add {}),
        apply: merge_shifts,
    },
    Rule {
        name: "scale_before_shift",
        doc: "(x + a) · b = x · b + a · b",
        when: "a and b are constants, and nothing else uses the inner value",
        why: "the scale comes to stand behind a contraction, whose weights take it in; the shift stays one addition",
        root: |op| matches!(op, Op::Mul {}),
        apply: scale_before_shift,
    },
    Rule {
        name: "div_by_constant",
        doc: "x / a = x · (1 / a)",
        when: "a is a float constant of powers of two of either sign, whose reciprocals are exact and normal, so that both sides round alike",
        why: "a multiplication costs a fraction of a division, and can go into weights",
        root: |op| matches!(op, Op::Div {}),
        apply: div_by_constant,
    },
    Rule {
        name: "constant_before_broadcast",
        doc: "f(broadcast(a), broadcast(b)) = broadcast(f(a, b))",
        when: "a and b are constants, numbers or along the same axes",
        why: "a vector is computed and stored, not all its copies",
        root: is_elementwise,
        apply: constant_before_broadcast,
    },
];

/// Op(op(x, a), b) = op(x, op(a, b)).
fn merge(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let &[inner, b] = m.children else { return none() };
    if !r.is_constant(b) || r.is_constant(inner) {
        return none();
    }
    let op = m.op.clone();
    for (_, kids) in r.find_sole(inner, |o| *o == op) {
        if !r.is_constant(kids[0]) && r.is_constant(kids[1]) {
            let both = r.add(op.clone(), &[kids[1], b])?;
            return one(r.add(op, &[kids[0], both])?);
        }
    }
    none()
}

fn merge_scales(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    merge(r, m)
}

fn merge_shifts(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    merge(r, m)
}

fn scale_before_shift(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let &[inner, b] = m.children else { return none() };
    if !r.is_constant(b) || r.is_constant(inner) {
        return none();
    }
    for (_, kids) in r.find_sole(inner, |o| matches!(o, Op::Add {})) {
        if !r.is_constant(kids[0]) && r.is_constant(kids[1]) {
            let scaled = r.add(Op::Mul {}, &[kids[0], b])?;
            let shift = r.add(Op::Mul {}, &[kids[1], b])?;
            return one(r.add(Op::Add {}, &[scaled, shift])?);
        }
    }
    none()
}

fn div_by_constant(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let &[x, a] = m.children else { return none() };
    if !r.is_constant(a) || r.is_constant(x) || !r.ty(a).dtype.is_float() {
        return none();
    }
    // The reciprocal of any other number is rounded, and so is its product with x once more: 41 · (1 / 41) is less than 1,
    // which a floor or a conversion to integers behind it turns into 0.
    let dtype = r.ty(a).dtype;
    if !r.tensor(a).is_some_and(|t| t.to_f64_vec().iter().all(|&v| has_exact_reciprocal(v, dtype))) {
        return none();
    }
    let reciprocal = r.add(Op::Reciprocal {}, &[a])?;
    one(r.add(Op::Mul {}, &[x, reciprocal])?)
}

/// Whether the float `dtype` has 1 / `v` as a normal number, not rounded.
fn has_exact_reciprocal(v: f64, dtype: DType) -> bool {
    // exponents of the least and the greatest power of two that is normal (IEEE 754-2019, table 3.5; bf16 has those of f32)
    let normal = match dtype {
        DType::F16 => -14..=15,
        DType::F32 | DType::BF16 => -126..=127,
        _ => -1022..=1023,
    };
    // f64 has all of them, and their reciprocals but for its own least ones, as normal numbers
    let fraction = v.to_bits() & ((1 << 52) - 1);
    let exponent = (v.to_bits() >> 52 & 0x7FF) as i32 - 1023;
    v.is_normal() && fraction == 0 && normal.contains(&-exponent)
}

fn constant_before_broadcast(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    if !m.children.iter().all(|&c| r.is_constant(c)) {
        return none();
    }
    let mut inner: Vec<Id> = Vec::with_capacity(m.children.len());
    let mut along: Option<(Vec<usize>, Vec<Dim>)> = None;
    for &c in m.children {
        let Some(spread) = spreads(r, c).into_iter().next() else { return none() };
        if !spread.axes.is_empty() {
            let this = (spread.axes.clone(), r.dims(spread.inner));
            if *along.get_or_insert_with(|| this.clone()) != this {
                return none();
            }
        }
        inner.push(spread.inner);
    }
    let Some(&first) = m.children.first() else { return none() };
    let dims = r.dims(first);
    let (axes, small) = along.unwrap_or_default();
    for x in &mut inner {
        if r.ty(*x).rank() < small.len() {
            *x = r.add(Op::Broadcast { dims: small.clone(), axes: Vec::new() }, &[*x])?;
        }
    }
    let value = r.add(m.op.clone(), &inner)?;
    one(r.add(Op::Broadcast { dims, axes }, &[value])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_powers_of_two_with_normal_reciprocals_are_divided_by_exactly() {
        let exact = |v, dtype| has_exact_reciprocal(v, dtype);
        for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
            assert!([1.0, -1.0, 0.5, -8.0, 4096.0].iter().all(|&v| exact(v, dtype)), "{dtype}");
            let others = [0.0, -0.0, 3.0, 0.1, 41.0, 1.5, f64::INFINITY, f64::NAN];
            assert!(!others.iter().any(|&v| exact(v, dtype)), "{dtype}");
        }
        for (dtype, least, greatest) in [(DType::F16, -15, 14), (DType::F32, -127, 126), (DType::BF16, -127, 126)] {
            let power = |n: i32| 2f64.powi(n);
            assert!(exact(power(least), dtype) && exact(power(greatest), dtype), "{dtype}");
            assert!(!exact(power(least - 1), dtype) && !exact(power(greatest + 1), dtype), "{dtype}");
        }
        assert!(exact(2f64.powi(1022), DType::F64) && exact(f64::MIN_POSITIVE, DType::F64));
        assert!(!exact(2f64.powi(1023), DType::F64) && !exact(f64::MIN_POSITIVE / 2.0, DType::F64));
    }
}
