//! The rules of the e-graph, by theme.
//!
//! Each states that two expressions are the same function of real numbers, and under which condition; those that compute with
//! constants or reorder sums and products change results by rounding. All are
//! directional, and each adds at most a fixed number of e-nodes for each place where it fires, so that the e-graph
//! grows linearly. There is no associativity, commutativity or pairwise merging: they make it explode; chains merge
//! only where both of the merged operands are constants.

pub mod affine;
pub mod contraction;
pub mod elementwise;
pub mod movement;
pub mod narrowing;
pub mod padding;
pub mod reduction;

use egg::Id;
use kiln_ir::{Dim, Op};

use super::saturate::{Equals, Matched, Rewrites};
use crate::driver::PassFailure;

/// What a rule gives: the values equal to the one it was asked about.
pub type Found = Result<Equals, PassFailure>;

/// A rewrite rule.
pub struct Rule {
    /// Name, as `disable` uses it.
    pub name: &'static str,
    /// The identity.
    pub doc: &'static str,
    /// When it holds.
    pub when: &'static str,
    /// What makes its right side the cheaper one.
    pub why: &'static str,
    /// Ops it is tried on.
    pub root: fn(&Op) -> bool,
    /// What it does.
    pub apply: fn(&mut Rewrites, &Matched<'_>) -> Found,
}

/// All rules.
pub static RULES: &[&[Rule]] = &[
    affine::RULES,
    contraction::RULES,
    padding::RULES,
    movement::RULES,
    narrowing::RULES,
    reduction::RULES,
    elementwise::RULES,
];

/// No equal value.
fn none() -> Found {
    Ok(Equals::new())
}

/// One equal value.
fn one(id: Id) -> Found {
    Ok(Equals::from_slice(&[id]))
}

/// A constant that is broadcast: the vector or scalar, and the axes it lies along.
struct Spread {
    inner: Id,
    axes: Vec<usize>,
}

/// The ways to see a constant class as broadcast.
fn spreads(r: &mut Rewrites, id: Id) -> Vec<Spread> {
    if !r.is_constant(id) {
        return Vec::new();
    }
    let found = r.find(id, |op| matches!(op, Op::Broadcast { .. }));
    let spread = |(op, kids): (std::sync::Arc<Op>, smallvec::SmallVec<[Id; 4]>)| match &*op {
        Op::Broadcast { axes, .. } => Some(Spread { inner: *kids.first()?, axes: axes.clone() }),
        _ => None,
    };
    found.into_iter().filter_map(spread).collect()
}

/// `inner` along `axes` of `dims`; itself where it has these dims.
fn broadcast(r: &mut Rewrites, inner: Id, dims: &[Dim], axes: Vec<usize>) -> Result<Id, PassFailure> {
    if r.dims(inner) == dims { Ok(inner) } else { r.add(Op::Broadcast { dims: dims.to_vec(), axes }, &[inner]) }
}

/// A weight times, or over, a broadcast factor; `axes` says where in the weight each axis of the factor's vector lies.
fn scaled_weight(r: &mut Rewrites, scaling: &Op, weight: Id, factor: Id, axes: Vec<usize>) -> Result<Id, PassFailure> {
    let dims = r.dims(weight);
    let mut order: Vec<usize> = (0..axes.len()).collect();
    order.sort_by_key(|&i| axes[i]);
    let factor = if order.is_sorted() { factor } else { r.add(Op::Transpose { perm: order.clone() }, &[factor])? };
    let spread = broadcast(r, factor, &dims, order.iter().map(|&i| axes[i]).collect())?;
    r.add(scaling.clone(), &[weight, spread])
}
