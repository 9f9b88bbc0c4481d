//! Only what is asked for is computed: slices move before the work that makes what they cut away.
//!
//! A network that classifies a text by its first token needs one row of its last layer, one that writes the next word the
//! logits of the last. What a slice moves past must have no other user: else it is computed whole anyway.

use std::sync::Arc;

use egg::Id;
use kiln_ir::attribute::Reducer;
use kiln_ir::infer::dot_dims;
use kiln_ir::{Dim, Op};
use smallvec::SmallVec;

use super::{Found, Rule, none, one};
use crate::driver::PassFailure;
use crate::egraph::cost::is_elementwise;
use crate::egraph::saturate::{Matched, Rewrites};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "slice_before_elementwise",
        doc: "slice(f(x, y)) = f(slice(x), slice(y))",
        when: "nothing else uses f(x, y)",
        why: "less of f is computed",
        root: |op| matches!(op, Op::Slice { .. }),
        apply: slice_before_elementwise,
    },
    Rule {
        name: "slice_before_dot",
        doc: "a slice of dot(x, y) is a dot of slices of x and y",
        when: "nothing else uses the product",
        why: "rows and columns that nobody reads are not multiplied; a slice of weights is made at compile time",
        root: |op| matches!(op, Op::Slice { .. }),
        apply: slice_before_dot,
    },
    Rule {
        name: "slice_before_normalization",
        doc: "slice(softmax(x)) = softmax(slice(x)), and so for log_softmax, layer_norm and sums, maxima … along axes",
        when: "the slice cuts along other axes than what is normalised or reduced, and nothing else uses the value",
        why: "rows that nobody reads are not normalised",
        root: |op| matches!(op, Op::Slice { .. }),
        apply: slice_before_normalization,
    },
];

/// What a slice leaves of an axis: start, limit, step.
type Cut = (usize, usize, usize);

/// A slice of a value of `dims`, axis by axis; `None` where nothing is left or it does not fit.
fn cuts(m: &Matched<'_>, dims: &[usize]) -> Option<Vec<Cut>> {
    let Op::Slice { start, limit, stride } = m.op else { return None };
    let cut = |axis: usize| (start[axis], limit[axis], stride.get(axis).copied().unwrap_or(1));
    (0..dims.len()).map(|a| Some(cut(a)).filter(|&(start, limit, _)| start < limit && limit <= dims[a])).collect()
}

fn whole(extent: usize) -> Cut {
    (0, extent, 1)
}

fn extent((start, limit, step): Cut) -> usize {
    (limit - start).div_ceil(step)
}

/// The slice of a class; of a broadcast constant it is one again.
fn sliced(r: &mut Rewrites, id: Id, cuts: &[Cut]) -> Result<Id, PassFailure> {
    let dims = r.ty(id).static_dims().unwrap_or_default();
    if cuts.iter().zip(&dims).all(|(&cut, &n)| cut == whole(n)) {
        return Ok(id);
    }
    if let Some(spread) = super::spreads(r, id).into_iter().next() {
        // An axis of extent 1 that the broadcast repeats stays as it is.
        let repeated = |axis: usize| r.ty(spread.inner).dims[axis] == Dim::Fixed(1);
        let inner = |(i, &a): (usize, &usize)| if repeated(i) { whole(1) } else { cuts[a] };
        let inner: Vec<Cut> = spread.axes.iter().enumerate().map(inner).collect();
        let small = sliced(r, spread.inner, &inner)?;
        let dims = cuts.iter().map(|&c| Dim::Fixed(extent(c))).collect();
        return r.add(Op::Broadcast { dims, axes: spread.axes }, &[small]);
    }
    let plain = cuts.iter().all(|c| c.2 == 1);
    let op = Op::Slice {
        start: cuts.iter().map(|c| c.0).collect(),
        limit: cuts.iter().map(|c| c.1).collect(),
        stride: if plain { Vec::new() } else { cuts.iter().map(|c| c.2).collect() },
    };
    r.add(op, &[id])
}

/// An op and the classes it is applied to.
type Maker = (Arc<Op>, SmallVec<[Id; 4]>);

/// What a slice cuts: the e-nodes that make its operand, where nothing else uses them, and the cuts.
fn sole(r: &mut Rewrites, m: &Matched<'_>, wanted: fn(&Op) -> bool) -> (Vec<Maker>, Vec<Cut>) {
    let Some(&inner) = m.children.first().filter(|&&x| !r.is_constant(x)) else { return Default::default() };
    match r.ty(inner).static_dims().and_then(|dims| cuts(m, &dims)) {
        Some(cuts) => (r.find_sole(inner, wanted), cuts),
        None => Default::default(),
    }
}

fn slice_before_elementwise(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let (makers, cuts) = sole(r, m, is_elementwise);
    let Some((op, kids)) = makers.into_iter().next() else { return none() };
    let parts = kids.iter().map(|&c| sliced(r, c, &cuts)).collect::<Result<Vec<Id>, PassFailure>>()?;
    one(r.add((*op).clone(), &parts)?)
}

fn slice_before_dot(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let (makers, cuts) = sole(r, m, |op| matches!(op, Op::Dot { .. }));
    let Some((op, kids)) = makers.into_iter().next() else { return none() };
    let (Op::Dot { lhs_batch, rhs_batch, lhs_contract, rhs_contract }, &[x, y]) = (&*op, &kids[..]) else {
        return none();
    };
    let (Some(lhs), Some(rhs)) = (r.ty(x).static_dims(), r.ty(y).static_dims()) else { return none() };
    let free = dot_dims(lhs.len(), rhs.len(), (lhs_batch, lhs_contract), (rhs_batch, rhs_contract));
    let [mut of_lhs, mut of_rhs] = [&lhs, &rhs].map(|dims| dims.iter().map(|&n| whole(n)).collect::<Vec<Cut>>());
    // The result's axes: the batch axes of both, then those that are free in x, then those in y.
    let (batch, rest) = cuts.split_at(lhs_batch.len());
    let (left, right) = rest.split_at(free.lhs_free.len());
    lhs_batch.iter().zip(batch).chain(free.lhs_free.iter().zip(left)).for_each(|(&a, &cut)| of_lhs[a] = cut);
    rhs_batch.iter().zip(batch).chain(free.rhs_free.iter().zip(right)).for_each(|(&a, &cut)| of_rhs[a] = cut);
    let parts = [sliced(r, x, &of_lhs)?, sliced(r, y, &of_rhs)?];
    one(r.add((*op).clone(), &parts)?)
}

fn slice_before_normalization(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let wanted = |op: &Op| {
        let norm = matches!(op, Op::Softmax { .. } | Op::LogSoftmax { .. } | Op::LayerNorm { .. });
        // Other reducers are not of floats.
        norm || matches!(op, Op::Reduce { reducer: Reducer::Sum | Reducer::Prod | Reducer::Max | Reducer::Min, .. })
    };
    let (makers, cuts) = sole(r, m, wanted);
    let Some((op, kids)) = makers.into_iter().next() else { return none() };
    let Some(dims) = r.ty(kids[0]).static_dims() else { return none() };
    let rank = dims.len();
    let used: Vec<usize> = match &*op {
        Op::Softmax { axis } | Op::LogSoftmax { axis } => vec![*axis],
        Op::LayerNorm { axis, .. } => (*axis..rank).collect(),
        Op::Reduce { axes, .. } => axes.clone(),
        _ => return none(),
    };
    let reduced = matches!(&*op, Op::Reduce { .. });
    let mut of_x: Vec<Cut> = dims.iter().map(|&n| whole(n)).collect();
    let kept = (0..rank).filter(|a| !reduced || !used.contains(a));
    for (axis, &cut) in kept.zip(&cuts) {
        if used.contains(&axis) && cut != of_x[axis] {
            return none();
        }
        of_x[axis] = cut;
    }
    let mut parts = kids.clone();
    parts[0] = sliced(r, kids[0], &of_x)?;
    one(r.add((*op).clone(), &parts)?)
}
