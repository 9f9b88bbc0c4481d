//! Concatenation: parts that are made where they belong.
//!
//! ```text
//!     y = concat(a, b)    z = concat(a, b, c)         a value that several concatenations take is made in the last of them, and
//!    ┌─────────────────┬────────────┐                 one whose parts lie there side by side already is a part of that: no step
//!    │   a    │   b    │     c      │  one tensor     makes it, and its users read it by strides
//!    └─────────────────┴────────────┘
//!    │←───── y ───────→│
//! ```
//!
//! A copy is left where a part cannot be made in its place (an input, a product), where one of its users takes only what is dense (a
//! reduction), where concatenations take it to different places, and where its place would cost more than it saves.

use kiln_ir::attribute::Padding;
use kiln_ir::scalar::ScalarExpr;
use kiln_ir::{NodeId, Op, Value};

use super::context::Lowering;
use super::elementwise::{Operand, pointwise};
use super::error::LowerError;
use super::halo::{Halo, Wishes, makes};
use crate::plan::program::View;

/// Joins along an axis: copies the parts that are not in their places.
pub fn lower(l: &mut Lowering<'_>, id: NodeId, axis: usize) -> Result<(), LowerError> {
    let v = l.graph.value(id);
    let parts: Vec<Value> = l.graph.node(id).operands.to_vec();
    let known = l.reserved_halo(v);
    let view = l.slot(v).view;
    let whole = known.unwrap_or_else(|| Halo::none(view));
    let shared = l.has_slot(v) || parts.iter().any(|&part| l.has_slot(part));
    let mut first = 0;
    for &part in &parts {
        let (lies, dims) = (l.halo(part), l.dims(part));
        let place = whole.part(axis, first, dims[axis]);
        first += dims[axis];
        let offset = place.tensor.offset + place.start() as usize * place.tensor.dtype.size();
        let follows = lies.tensor.storage == place.tensor.storage && lies.tensor.offset == offset;
        if lies == place || (!l.has_slot(part) && follows) {
            continue;
        }
        // a step that reads a part relies on all of the tensor having been given to those that write parts
        let target = if shared { place.slot() } else { Operand::from(&place).trimmed_slot(&dims) };
        let label = l.label(id);
        pointwise(l, (id, label), &dims, target, &[Operand::from(&lies)], &ScalarExpr::identity())?;
    }
    Ok(())
}

/// Asks for the operands of a concatenation to be made in their places: any where these are contiguous, elsewhere those that are
/// written by strides and that all users find wherever they lie.
pub fn reserve_parts(l: &mut Lowering<'_>, wishes: &Wishes, id: NodeId, axis: usize) {
    let v = l.graph.value(id);
    let dims = l.dims(v);
    let parts: Vec<Value> = l.graph.node(id).operands.to_vec();
    if !l.has_slot(v) && dims[..axis].iter().all(|&d| d == 1) {
        return reserve_contiguous(l, v, &parts);
    }
    if l.reservation(v).is_none() && wishes.anywhere(l, v) {
        let known: Option<Vec<Halo>> = parts.iter().map(|&part| l.reserved_halo(part)).collect();
        if let Some(whole) = known.and_then(|known| joined(&known, axis)) {
            l.reserve_halo(v, whole);
        }
    }
    let whole = l.reserved_halo(v);
    // what lies in a wide tensor from early on keeps other values out of the caches and comes from memory in the end: a value that is
    // read elsewhere too is worth that if it saves more than one copy (a U-Net became 3 % slower where its skip connections did)
    let pays = |l: &Lowering<'_>, part: Value| {
        let joined = wishes.joined(part);
        joined == l.uses(part) || joined > 1 || matches!(l.graph.node(part.node).op, Op::Concat { .. })
    };
    let mut first = 0;
    let mut takes = Vec::new();
    for &part in &parts {
        let extent = l.dims(part)[axis];
        let mut room = whole.as_ref().map_or_else(|| vec![Padding::NONE; dims.len()], |whole| whole.room.clone());
        // however wide the others are
        room[axis].high += (dims[axis] - extent) as i64;
        if !l.is_reserved(part) && wishes.anywhere(l, part) && pays(l, part) && makes(l, part, &room) {
            takes.push((part, first, extent));
        }
        first += extent;
    }
    if takes.is_empty() {
        return;
    }
    let whole = whole.unwrap_or_else(|| {
        let view = l.reservation(v).cloned();
        let view = view.unwrap_or_else(|| l.temporary(l.dtype(v), &dims));
        l.reserve(v, view.clone());
        Halo::none(view)
    });
    for (part, first, extent) in takes {
        l.reserve_halo(part, whole.part(axis, first, extent));
    }
}

/// The same where parts follow one another in memory.
fn reserve_contiguous(l: &mut Lowering<'_>, v: Value, parts: &[Value]) {
    let known: Option<Vec<&View>> = parts.iter().map(|&part| l.reservation(part)).collect();
    let follow = |known: &Vec<&View>| {
        known.windows(2).all(|w| w[0].storage == w[1].storage && w[0].offset + w[0].bytes() == w[1].offset)
    };
    let first = known.filter(follow).and_then(|known| known.first().copied().cloned());
    let whole = match (l.reservation(v).cloned(), first) {
        (Some(view), _) => view,
        (None, Some(first)) => View { dims: l.dims(v), ..first },
        (None, None) => l.temporary(l.dtype(v), &l.dims(v)),
    };
    l.reserve(v, whole.clone());
    let mut offset = whole.offset;
    for &part in parts {
        let view = View { offset, dims: l.dims(part), ..whole.clone() };
        offset += view.bytes();
        l.reserve(part, view);
    }
}

/// The value whose parts these are, if they lie side by side along `axis`.
fn joined(parts: &[Halo], axis: usize) -> Option<Halo> {
    let (first, last) = (parts.first()?, parts.last()?);
    let mut room = first.room.clone();
    room[axis].high = last.room[axis].high;
    let whole = first.with_room(room)?;
    let mut at = 0;
    let side_by_side = parts.iter().all(|part| {
        let extent = part.dims()[axis];
        at += extent;
        at <= whole.dims()[axis] && *part == whole.part(axis, at - extent, extent)
    });
    side_by_side.then_some(whole)
}
