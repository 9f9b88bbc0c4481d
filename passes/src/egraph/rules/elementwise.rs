//! Limits and signs.

use kiln_ir::Op;
use kiln_ir::attribute::{Padding, Real, Reducer};

use super::{Found, Rule, none, one};
use crate::egraph::saturate::{Matched, Rewrites};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "merge_clips",
        doc: "clip(clip(x, a, b), c, d) = clip(x, max(a, c), min(b, d)); relu is clip(x, 0, ∞)",
        when: "the intervals overlap, and nothing else uses the inner value",
        why: "one step less on each element",
        root: |op| limits(op).is_some(),
        apply: merge_clips,
    },
    Rule {
        name: "relu_before_max_pool",
        doc: "relu(max_pool(x)) = max_pool(relu(x))",
        when: "every window holds an element of x (padding less than the window, no dilation), and nothing else uses the pool",
        why: "a contraction before the pool takes in the activation",
        root: |op| matches!(op, Op::Relu {}),
        apply: relu_before_max_pool,
    },
    Rule {
        name: "add_of_negative",
        doc: "x + (−y) = x − y, and x − (−y) = x + y",
        when: "always",
        why: "one step less on each element",
        root: |op| matches!(op, Op::Add {} | Op::Sub {}),
        apply: add_of_negative,
    },
    Rule {
        name: "product_of_negatives",
        doc: "(−x) · (−y) = x · y, and (−x) / (−y) = x / y",
        when: "always",
        why: "two steps less on each element",
        root: |op| matches!(op, Op::Mul {} | Op::Div {}),
        apply: product_of_negatives,
    },
];

fn limits(op: &Op) -> Option<(f64, f64)> {
    match op {
        Op::Relu {} => Some((0.0, f64::INFINITY)),
        Op::Clip { min, max } => Some((min.0, max.0)),
        _ => None,
    }
}

fn merge_clips(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let (Some((c, d)), &[inner]) = (limits(m.op), m.children) else { return none() };
    if !r.ty(inner).dtype.is_float() || c > d {
        return none();
    }
    for (op, kids) in r.find_sole(inner, |o| limits(o).is_some()) {
        let Some((a, b)) = limits(&op) else { continue };
        let (low, high) = (a.max(c), b.min(d));
        if a <= b && low <= high {
            let relu = low == 0.0 && high == f64::INFINITY;
            let op = if relu { Op::Relu {} } else { Op::Clip { min: Real(low), max: Real(high) } };
            return one(r.add(op, &kids)?);
        }
    }
    none()
}

fn relu_before_max_pool(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let &[pooled] = m.children else { return none() };
    for (op, kids) in r.find_sole(pooled, |o| matches!(o, Op::ReduceWindow { reducer: Reducer::Max, .. })) {
        let Op::ReduceWindow { window, padding, dilation, .. } = &*op else { continue };
        let inside = |(p, &w): (&Padding, &usize)| p.low < w as i64 && p.high < w as i64;
        if dilation.iter().any(|&d| d != 1) || !padding.iter().zip(window).all(inside) {
            continue;
        }
        let relu = r.add(Op::Relu {}, &kids)?;
        return one(r.add((*op).clone(), &[relu])?);
    }
    none()
}

fn add_of_negative(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let &[x, y] = m.children else { return none() };
    let other = if matches!(m.op, Op::Add {}) { Op::Sub {} } else { Op::Add {} };
    match r.find(y, |o| matches!(o, Op::Neg {})).first() {
        Some((_, kids)) if !r.is_constant(y) => one(r.add(other, &[x, kids[0]])?),
        _ => none(),
    }
}

fn product_of_negatives(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let &[x, y] = m.children else { return none() };
    let (a, b) = (r.find(x, |o| matches!(o, Op::Neg {})), r.find(y, |o| matches!(o, Op::Neg {})));
    match (a.first(), b.first()) {
        // Division of integers towards zero has this property too, but for the least number over −1.
        (Some((_, p)), Some((_, q))) if r.ty(x).dtype.is_float() => one(r.add(m.op.clone(), &[p[0], q[0]])?),
        _ => none(),
    }
}
