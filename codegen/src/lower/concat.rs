//! Concatenation: parts that are made where they belong.
//!
//! ```text
//!     y = concat(a, b)    z = concat(a, b, c)         a value that several concatenations take is made in the last of them, and
//!    ┌─────────────────┬────────────┐                 one whose parts lie there side by side already is a part of that: no step
//!    │   a    │   b    │     c      │  one tensor     makes it. A copy is left where another user of a part wants it dense, or
//!    └─────────────────┴────────────┘                 where concatenations take the same value to different places.
//!    │←───── y ───────→│
//! ```

use kiln_ir::attribute::Padding;
use kiln_ir::scalar::ScalarExpr;
use kiln_ir::{NodeId, Op, Value};

use super::context::{Lowering, Slot};
use super::elementwise::{Operand, pointwise};
use super::error::LowerError;
use super::halo::{Halo, Wishes, makes};
use crate::plan::program::View;

/// Joins along an axis: copies the parts that are not in their places.
pub fn lower(l: &mut Lowering<'_>, id: NodeId, axis: usize) -> Result<(), LowerError> {
    let v = l.graph.value(id);
    let parts: Vec<Value> = l.graph.node(id).operands.to_vec();
    let known = l.reserved_halo(v);
    let Slot { view, strides, mut start, .. } = l.slot(v);
    let whole = known.unwrap_or_else(|| Halo::none(view.clone()));
    let mut first = 0;
    for &part in &parts {
        let lies = l.halo(part);
        let dims = l.dims(part);
        let (tensor, offset) = (&lies.tensor, start as usize * view.dtype.size());
        let in_place = lies == whole.part(axis, first, dims[axis])
            || (!l.has_slot(part) && tensor.storage == view.storage && tensor.offset == view.offset + offset);
        if !in_place {
            let target = Operand { view: view.clone(), strides: strides.clone(), start };
            pointwise(l, id, &dims, target, &[Operand::from(&lies)], &ScalarExpr::identity())?;
        }
        first += dims[axis];
        start += dims[axis] as i64 * strides[axis];
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
    // read elsewhere too is worth that if it saves more than one copy
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
        if wishes.anywhere(l, part) && pays(l, part) && makes(l, part, &room) {
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
    let whole = match l.reservation(v) {
        Some(view) => view.clone(),
        None => l.temporary(l.dtype(v), &l.dims(v)),
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
