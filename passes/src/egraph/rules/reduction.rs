//! Reductions of reductions.

use kiln_ir::Op;

use super::{Found, Rule, none, one};
use crate::egraph::saturate::{Matched, Rewrites};

pub(super) const RULES: &[Rule] = &[Rule {
    name: "merge_reduces",
    doc: "a reduction of a reduction is one along the axes of both",
    when: "both have one reducer, and nothing else uses the inner value",
    why: "what lies between is neither written nor read",
    root: |op| matches!(op, Op::Reduce { .. }),
    apply: merge_reduces,
}];

fn merge_reduces(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let (Op::Reduce { axes, reducer }, &[inner]) = (m.op, m.children) else { return none() };
    for (op, kids) in r.find_sole(inner, |o| matches!(o, Op::Reduce { reducer: other, .. } if other == reducer)) {
        let Op::Reduce { axes: first, .. } = &*op else { continue };
        let left: Vec<usize> = (0..r.ty(kids[0]).rank()).filter(|a| !first.contains(a)).collect();
        let mut all: Vec<usize> = first.iter().copied().chain(axes.iter().map(|&a| left[a])).collect();
        all.sort_unstable();
        return one(r.add(Op::Reduce { axes: all, reducer: *reducer }, &kids)?);
    }
    none()
}
