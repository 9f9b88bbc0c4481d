//! Scales and shifts by constants: chains become one scale and one shift.

use egg::Id;
use kiln_ir::{Dim, Op};

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
        when: "a is a float constant between 1e-30 and 1e30 in size, so that its reciprocal is normal",
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
    let Some(values) = r.tensor(a).map(|t| t.to_f64_vec()) else { return none() };
    // Half floats have a narrower range than that.
    let range = if r.ty(a).dtype.size() == 2 { 1e-4..=1e4 } else { 1e-30..=1e30 };
    if !values.iter().all(|v| range.contains(&v.abs())) {
        return none();
    }
    let reciprocal = r.add(Op::Reciprocal {}, &[a])?;
    one(r.add(Op::Mul {}, &[x, reciprocal])?)
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
