//! Movement: values that are views of others, and strided copies.

use kiln_ir::attribute::Padding;
use kiln_ir::infer::filled;
use kiln_ir::scalar::ScalarExpr;
use kiln_ir::{NodeId, Op, Tensor, Value};
use kiln_runtime::Access;

use super::context::{Lowering, Slot};
use super::elementwise::{Operand, pointwise};
use super::error::LowerError;
use super::halo::{self, Halo};
use super::nest::{self, Axis};
use super::walk::{Body, advance, run};
use crate::kir::{Bits, Buffer, Condition, Index, KernelBuilder, Value as KirValue};
use crate::plan::program::View;

/// The same memory under other extents.
pub fn reshape(l: &mut Lowering<'_>, id: NodeId) -> Result<(), LowerError> {
    let (v, x) = (l.graph.value(id), l.operand(id, 0));
    let dims = l.dims(v);
    if let Some(tensor) = l.literal(x)
        && let Ok(tensor) = tensor.reshape(&dims)
    {
        l.bind_literal(v, tensor.into());
        return Ok(());
    }
    let view = l.view(x).reshaped(&dims);
    l.bind(v, view);
    Ok(())
}

/// Axis i of the result is axis `perm[i]` of x.
pub fn transpose(l: &mut Lowering<'_>, id: NodeId, perm: &[usize]) -> Result<(), LowerError> {
    if let Some(made) = l.reserved_halo(l.operand(id, 0)).filter(|made| *made == made_transposed(&made.tensor, perm)) {
        l.bind(l.graph.value(id), made.tensor);
        return Ok(());
    }
    let x = l.view(l.operand(id, 0));
    let v = l.graph.value(id);
    if l.is_seen_through(v) {
        l.place(v, Halo::transposed(x, perm));
        return Ok(());
    }
    let strides = nest::row_major(&x.dims);
    let moved = perm.iter().map(|&p| strides[p]).collect();
    copy(l, id, Operand { strides: moved, view: x, start: 0 })
}

/// Asks for an operand that is used here alone to be made where its transpose lies, if the step that makes it writes rows of its
/// innermost axis wherever they go. As rows they stay, or storing them would be a scatter.
pub fn reserve_transposed(l: &mut Lowering<'_>, id: NodeId, perm: &[usize]) {
    let (v, x) = (l.graph.value(id), l.operand(id, 0));
    let scatters = matches!(l.graph.node(x.node).op, Op::FusedAttention { .. });
    let rows = perm.last().is_some_and(|&last| last + 1 == perm.len());
    if !scatters || !rows || l.uses(x) != 1 || l.has_slot(v) {
        return;
    }
    let view = match l.reservation(v) {
        Some(view) => view.clone(),
        None => l.temporary(l.dtype(v), &l.dims(v)),
    };
    l.reserve_halo(x, made_transposed(&view, perm));
}

/// The operand of a transpose where it is made so that its transpose lies at `view`.
fn made_transposed(view: &View, perm: &[usize]) -> Halo {
    let mut inverse = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(i, &p)| inverse[p] = i);
    Halo::transposed(view.clone(), &inverse)
}

/// Repeats along new axes and axes of extent 1.
pub fn broadcast(l: &mut Lowering<'_>, id: NodeId, axes: &[usize]) -> Result<(), LowerError> {
    let (v, x) = (l.graph.value(id), l.operand(id, 0));
    if let Some(tensor) = l.literal(x)
        && let Some(element) = only_element(tensor)
    {
        let result = l.result(v);
        l.fill(l.label(id), &result, element);
        return Ok(());
    }
    if l.literal(x).is_none() {
        let view = l.view(x);
        if view.len() == l.dims(v).iter().product::<usize>() {
            l.bind(v, view.reshaped(&l.dims(v)));
            return Ok(());
        }
    }
    let x = l.view(x);
    let mut strides = vec![0; l.dims(v).len()];
    for (&axis, stride) in axes.iter().zip(nest::broadcast_strides(&x.dims)) {
        strides[axis] = stride;
    }
    copy(l, id, Operand { view: x, strides, start: 0 })
}

/// The bits of the element of a tensor that has one.
fn only_element(tensor: &Tensor) -> Option<Bits> {
    let mut bits = [0; 8];
    let bytes = tensor.bytes();
    (tensor.len() == 1).then(|| {
        bits[..bytes.len()].copy_from_slice(bytes);
        Bits(u64::from_le_bytes(bits))
    })
}

/// Every `stride`-th element from `start` on. Rows that follow one another in memory are a view.
pub fn slice(l: &mut Lowering<'_>, id: NodeId, start: &[usize], stride: &[usize]) -> Result<(), LowerError> {
    let (v, x) = (l.graph.value(id), l.operand(id, 0));
    let dims = l.dims(v);
    let view = l.view(x);
    let steps = filled(stride, dims.len(), 1);
    let dense = nest::row_major(&view.dims);
    let first: i64 = start.iter().zip(&dense).map(|(&s, &d)| s as i64 * d).sum();
    // a step beyond the end is as good as one to the end
    let step = |(&s, &extent): (&usize, &usize)| s.min(extent.max(1)) as i64;
    let strides: Vec<i64> = steps.iter().zip(&view.dims).map(step).zip(&dense).map(|(s, d)| s * d).collect();
    let nest = nest::collapse(&nest::axes(&dims, std::slice::from_ref(&strides)));
    let contiguous = match nest.as_slice() {
        [] => true,
        [one] => one.strides == [1],
        _ => false,
    };
    if contiguous && !dims.contains(&0) {
        let offset = view.offset + first as usize * view.dtype.size();
        l.bind(v, View { offset, dims, ..view });
        return Ok(());
    }
    copy(l, id, Operand { view, strides, start: first })
}

/// Turns axes around.
pub fn reverse(l: &mut Lowering<'_>, id: NodeId, axes: &[usize]) -> Result<(), LowerError> {
    let view = l.view(l.operand(id, 0));
    let mut strides = nest::row_major(&view.dims);
    let mut start = 0;
    for &axis in axes {
        start += strides[axis] * (view.dims[axis] as i64 - 1).max(0);
        strides[axis] = -strides[axis];
    }
    copy(l, id, Operand { view, strides, start })
}

/// Surrounds x with a value.
pub fn pad(
    l: &mut Lowering<'_>,
    id: NodeId,
    padding: &[Padding],
    interior: &[usize],
    value: f64,
) -> Result<(), LowerError> {
    let v = l.graph.value(id);
    let x = l.view(l.operand(id, 0));
    let result = l.result(v);
    let interior = filled(interior, padding.len(), 0);
    // between the neighbours of a single element there is nothing, however much is asked for
    let dilation: Vec<usize> =
        interior.iter().zip(&x.dims).map(|(&n, &extent)| if extent > 1 { n + 1 } else { 1 }).collect();
    padded_into(l, id, &Halo::none(x), &result, padding, &dilation, value)
}

/// x surrounded by `value`, its neighbours `dilation` apart; negative padding crops.
pub fn padded(
    l: &mut Lowering<'_>,
    id: NodeId,
    x: &Halo,
    padding: &[Padding],
    dilation: &[usize],
    value: f64,
) -> Result<View, LowerError> {
    let dtype = x.tensor.dtype;
    let extent = |((&n, p), &d): ((&usize, &Padding), &usize)| {
        let spread = if n == 0 { 0 } else { (n as i64 - 1) * d as i64 + 1 };
        (spread + p.low + p.high).max(0) as usize
    };
    let dims: Vec<usize> = x.dims().iter().zip(padding).zip(dilation).map(extent).collect();
    let bytes = dims.iter().try_fold(dtype.size(), |n, &d| n.checked_mul(d));
    if bytes.is_none_or(|n| n > isize::MAX as usize / 2) {
        return Err(l.too_large(id, format!("a padded operand {dtype}{dims:?}")));
    }
    let result = l.temporary(dtype, &dims);
    padded_into(l, id, x, &result, padding, dilation, value)?;
    Ok(result)
}

fn padded_into(
    l: &mut Lowering<'_>,
    id: NodeId,
    x: &Halo,
    result: &View,
    padding: &[Padding],
    dilation: &[usize],
    value: f64,
) -> Result<(), LowerError> {
    // the elements of x that stay, per axis: first and count
    let mut kept = Vec::with_capacity(padding.len());
    for ((&n, p), &d) in x.dims().iter().zip(padding).zip(dilation) {
        let d = d as i64;
        let spread = if n == 0 { 0 } else { (n as i64 - 1) * d + 1 };
        // element i lies at low + i · d of the result, inside 0 … low + spread + high
        let total = spread + p.low + p.high;
        let first = if p.low < 0 { (-p.low + d - 1) / d } else { 0 };
        let last = (total - 1 - p.low).div_euclid(d).min(n as i64 - 1);
        kept.push((first, (last - first + 1).max(0)));
    }
    let dims: Vec<usize> = kept.iter().map(|&(_, count)| count as usize).collect();
    let element = Bits::from_f64(result.dtype, value);
    if dims.contains(&0) || dilation.iter().zip(&dims).any(|(&d, &n)| d > 1 && n > 1) {
        l.fill(l.label(id), result, element);
    } else {
        let room = kept.iter().zip(padding).zip(dilation).zip(&result.dims);
        let room = room.map(|(((&(first, count), p), &d), &extent)| {
            let low = p.low + first * d as i64;
            Padding { low, high: extent as i64 - low - count }
        });
        halo::border(l, id, result, &room.collect::<Vec<_>>(), element)?;
    }
    let (from, to) = (x.strides(), nest::row_major(&result.dims));
    let mut source = Operand::from(x);
    let mut target = Operand { view: result.clone(), strides: Vec::new(), start: 0 };
    for (axis, &(first, _)) in kept.iter().enumerate() {
        let d = dilation[axis] as i64;
        source.start += first * from[axis];
        target.start += (padding[axis].low + first * d) * to[axis];
        target.strides.push(to[axis] * d);
    }
    let label = format!("{} (padding)", l.label(id));
    pointwise(l, (id, label), &dims, target.trimmed_slot(&dims), &[source], &ScalarExpr::identity())
}

/// Whether the op's step finds operand `position` wherever that lies, inside a wider tensor too.
pub fn reads_by_strides(op: &Op, position: usize) -> bool {
    match op {
        Op::Conv { .. } | Op::FusedConv { .. } | Op::ReduceWindow { .. } => position == 0,
        Op::Quantize { .. } | Op::Dequantize { .. } | Op::BatchNorm { .. } => position == 0,
        Op::Concat { .. } => true,
        _ => op.scalar().is_some(),
    }
}

/// Whether the step that makes `v` can write it into a part of a wider tensor.
pub fn writes_by_strides(l: &Lowering<'_>, v: Value) -> bool {
    let op = &l.graph.node(v.node).op;
    match op {
        Op::Conv { .. } | Op::FusedConv { .. } | Op::ReduceWindow { .. } | Op::Concat { .. } => true,
        Op::Quantize { .. } | Op::Dequantize { .. } | Op::BatchNorm { .. } => true,
        _ => op.scalar().is_some(),
    }
}

/// Copies `source`, walked over the extents of the node's result, into the result.
fn copy(l: &mut Lowering<'_>, id: NodeId, source: Operand) -> Result<(), LowerError> {
    let v = l.graph.value(id);
    let dims = l.dims(v);
    let result = l.result(v);
    copy_into(l, id, &result, &dims, source)
}

/// Copies `source`, walked over `dims`, into the dense `result`.
pub fn copy_into(
    l: &mut Lowering<'_>,
    id: NodeId,
    result: &View,
    dims: &[usize],
    source: Operand,
) -> Result<(), LowerError> {
    if dims.contains(&0) {
        return Ok(());
    }
    let axes = nest::collapse(&nest::axes(dims, &[nest::row_major(dims), source.strides.clone()]));
    // where x is contiguous along another axis than the result, walk both in blocks
    let contiguous = axes.iter().rposition(|a| a.strides[1].abs() == 1);
    match (contiguous, axes.last()) {
        (Some(at), Some(inner)) if at + 1 < axes.len() && inner.extent >= 8 && inner.strides[1] != 0 => {
            blocked(l, id, result, &axes, at, &source)
        }
        _ => {
            let label = l.label(id);
            pointwise(l, (id, label), dims, Slot::whole(result.reshaped(dims)), &[source], &ScalarExpr::identity())
        }
    }
}

/// Rows of x that are read together while a block of the result's innermost axis is written: a cache line's worth.
const BLOCK: i64 = 16;

fn blocked(
    l: &mut Lowering<'_>,
    id: NodeId,
    result: &View,
    axes: &[Axis],
    along: usize,
    source: &Operand,
) -> Result<(), LowerError> {
    let mut b = KernelBuilder::new("transpose");
    let out = b.output("y", result.dtype, result.len() as i64);
    let x = b.input("x", source.view.dtype, source.view.len() as i64);
    let mut at = vec![Index::constant(0), Index::constant(source.start)];
    let last = axes.len() - 1;
    for axis in axes[..last].iter().enumerate().filter(|(i, _)| *i != along).map(|(_, a)| a) {
        let var = b.parallel(axis.extent);
        advance(&mut at, axis, &Index::from(var));
    }
    let (inner, along) = (&axes[last], &axes[along]);
    let (full, rest) = (inner.extent / BLOCK, inner.extent % BLOCK);
    let block = b.parallel(full + i64::from(rest > 0));
    let body = |b: &mut KernelBuilder, first: &Index, width: i64| {
        let mut at = at.clone();
        advance(&mut at, inner, first);
        b.for_each(along.extent, |b, var| {
            advance(&mut at, along, &Index::from(var));
            run(b, &at, inner, width, BLOCK as u32, &mut Copy { out, x, stride: inner.strides[1] });
        });
    };
    match (full, rest) {
        (_, 0) => body(&mut b, &(block * BLOCK), BLOCK),
        (0, _) => body(&mut b, &Index::constant(0), rest),
        _ => {
            b.if_else(
                Condition::NonNegative(vec![Index::constant(full - 1) - block]),
                |b| {
                    body(b, &(block * BLOCK), BLOCK);
                    Vec::new()
                },
                |b| {
                    body(b, &Index::constant(full * BLOCK), rest);
                    Vec::new()
                },
            );
        }
    }
    let uses = vec![result.used(Access::Write), source.view.used(Access::Read)];
    l.step_with(l.label(id), b, uses, 0)
}

struct Copy {
    out: Buffer,
    x: Buffer,
    stride: i64,
}

impl Body for Copy {
    fn lanes(&mut self, b: &mut KernelBuilder, at: &[Index], _: &[KirValue], lanes: u32) {
        let value = b.load_strided(self.x, &at[1], self.stride, lanes);
        b.store(self.out, &at[0], value);
    }
}
