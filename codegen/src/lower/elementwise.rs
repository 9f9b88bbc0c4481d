//! Elementwise ops: one scalar expression over operands that are dense or broadcast.

use kiln_ir::scalar::ScalarExpr;
use kiln_ir::{DType, NodeId, Value};
use kiln_runtime::Access;

use super::context::{Lowering, Slot};
use super::error::LowerError;
use super::halo::Halo;
use super::nest::{self, Axis};
use super::scalar::{TypedExpr, load, store};
use super::walk::{Body, walk};
use crate::kir::{Buffer, Index, KernelBuilder, Value as KirValue};
use crate::plan::program::{Use, View};

/// An operand of a pointwise kernel: a view walked with these strides from this element.
#[derive(Clone, Debug)]
pub struct Operand {
    /// Where.
    pub view: View,
    /// Elements between neighbours, by axis of the walk.
    pub strides: Vec<i64>,
    /// First element.
    pub start: i64,
}

impl Operand {
    /// The whole view in its own order.
    pub fn dense(view: &View) -> Operand {
        Operand { view: view.clone(), strides: nest::row_major(&view.dims), start: 0 }
    }

    /// A vector along `axis` of a walk over `rank` axes (or a scalar: the same everywhere).
    pub fn along(view: &View, axis: usize, rank: usize) -> Operand {
        let mut strides = vec![0; rank];
        if let (Some(stride), true) = (strides.get_mut(axis), view.len() != 1) {
            *stride = 1;
        }
        Operand { view: view.clone(), strides, start: 0 }
    }
}

/// A value, repeated along its axes of extent 1.
impl From<&Halo> for Operand {
    fn from(halo: &Halo) -> Operand {
        let along = halo.strides().into_iter().zip(halo.dims());
        let strides = along.map(|(stride, extent)| if extent == 1 { 0 } else { stride }).collect();
        Operand { view: halo.tensor.clone(), strides, start: halo.start() }
    }
}

impl Operand {
    /// The same walk over no more of the memory than it touches, so that equal walks at other places are equal kernels.
    fn trimmed(&self, dims: &[usize]) -> Operand {
        if dims.contains(&0) {
            return self.clone();
        }
        let reach = |sign: i64| {
            let ends = self.strides.iter().zip(dims).map(|(&s, &d)| s * (d as i64 - 1));
            self.start + ends.filter(|end| end.signum() == sign).sum::<i64>()
        };
        let (low, high) = (reach(-1), reach(1));
        let offset = self.view.offset + low as usize * self.view.dtype.size();
        let view = View { offset, dims: vec![(high - low + 1) as usize], ..self.view.clone() };
        Operand { view, strides: self.strides.clone(), start: self.start - low }
    }

    /// A place for a value of extents `dims` that no step reads in part: equal walks to other such places are equal kernels.
    pub fn trimmed_slot(&self, dims: &[usize]) -> Slot {
        let Operand { view, strides, start } = self.trimmed(dims);
        Slot { view, strides, start, elements: dims.iter().product() }
    }

    /// What a walk over `dims` reads.
    fn read(&self, dims: &[usize]) -> Use {
        let moved = self.strides.iter().zip(dims).filter(|(stride, _)| **stride != 0);
        self.view.used_in_part(Access::Read, moved.map(|(_, &extent)| extent).product())
    }
}

/// Lowers an elementwise node. Operands have the result's dims, or 1 where they are broadcast.
pub fn lower(l: &mut Lowering<'_>, id: NodeId, expr: &ScalarExpr) -> Result<(), LowerError> {
    let v = l.graph.value(id);
    let operands: Vec<Value> = l.graph.node(id).operands.to_vec();
    let dims = l.dims(v);
    // an operand that is broadcast is read several times: its memory cannot become the result's
    let whole: Vec<usize> = (0..operands.len()).filter(|&i| l.dims(operands[i]) == dims).collect();
    let inputs: Vec<Operand> = operands.iter().map(|&o| Operand::from(&l.halo(o))).collect();
    let result = l.slot_in_place(id, v, &whole);
    let label = l.label(id);
    pointwise(l, (id, label), &dims, result, &inputs, expr)
}

/// Appends a step of the node that computes `expr` over a walk of extents `dims`, those of the result.
pub fn pointwise(
    l: &mut Lowering<'_>,
    (id, label): (NodeId, String),
    dims: &[usize],
    result: Slot,
    inputs: &[Operand],
    expr: &ScalarExpr,
) -> Result<(), LowerError> {
    if dims.contains(&0) {
        return Ok(());
    }
    let inputs: Vec<Operand> = inputs.iter().map(|o| o.trimmed(dims)).collect();
    let dtypes: Vec<DType> = inputs.iter().map(|o| o.view.dtype).collect();
    let typed = l.typed(id, expr, &dtypes)?;
    let strides: Vec<Vec<i64>> =
        std::iter::once(&result.strides).chain(inputs.iter().map(|o| &o.strides)).cloned().collect();
    let mut axes = nest::collapse(&nest::axes(dims, &strides));
    vectorise_along_memory(&mut axes);
    let mut b = KernelBuilder::new(l.graph.node(id).op.mnemonic());
    let out = b.output("y", result.view.dtype, result.view.len() as i64);
    let buffers: Vec<Buffer> =
        inputs.iter().enumerate().map(|(i, o)| b.input(format!("x{i}"), o.view.dtype, o.view.len() as i64)).collect();
    let start: Vec<Index> =
        std::iter::once(result.start).chain(inputs.iter().map(|o| o.start)).map(Index::constant).collect();
    let widest = dtypes.iter().copied().max_by_key(|d| d.size()).unwrap_or(result.view.dtype);
    let lanes = l.machine.stream_lanes(widest, typed.is_heavy());
    let count: usize = dims.iter().product();
    let flops = (count as u64).saturating_mul(typed.cost());
    let unit = Axis::unit(start.len());
    let inner = axes.last().unwrap_or(&unit).strides.clone();
    let copies = expr.is_identity() && dtypes == [result.view.dtype];
    walk(&mut b, &axes, &start, lanes, &mut Pointwise { out, buffers: &buffers, inner, expr: &typed, copies });
    let uses = std::iter::once(result.written()).chain(inputs.iter().map(|o| o.read(dims))).collect();
    l.step_with(label, b, uses, flops)
}

/// Puts the loop in which most operands go through memory in order innermost, where the innermost one is short.
fn vectorise_along_memory(axes: &mut [Axis]) {
    let Some(inner) = axes.last() else { return };
    if inner.extent >= 8 {
        return;
    }
    let score = |a: &Axis| {
        let dense = a.strides.iter().filter(|&&s| s == 1 || s == 0).count() as i64;
        (dense * 2 + i64::from(a.strides.first() == Some(&1)) + 1) * a.extent.min(16)
    };
    let mut best = axes.len() - 1;
    for at in 0..axes.len() {
        if score(&axes[at]) > score(&axes[best]) {
            best = at;
        }
    }
    axes[best..].rotate_left(1);
}

struct Pointwise<'a> {
    out: Buffer,
    buffers: &'a [Buffer],
    /// Strides of the innermost loop, the result's first.
    inner: Vec<i64>,
    expr: &'a TypedExpr,
    /// Whether elements only move: their bits stay as they are.
    copies: bool,
}

impl Body for Pointwise<'_> {
    fn prepare(&mut self, b: &mut KernelBuilder, at: &[Index], lanes: u32) -> Vec<KirValue> {
        if self.copies {
            return Vec::new();
        }
        let operands = self.buffers.iter().zip(&self.inner[1..]).zip(&at[1..]);
        operands
            .filter(|((_, stride), _)| **stride == 0)
            .map(|((&buffer, _), at)| load(b, buffer, at, 0, lanes))
            .collect()
    }

    fn lanes(&mut self, b: &mut KernelBuilder, at: &[Index], prepared: &[KirValue], lanes: u32) {
        if self.copies {
            let value = b.load_strided(self.buffers[0], &at[1], self.inner[1], lanes);
            // the stride of a single lane says nothing, and must not be 0
            b.store_strided(self.out, &at[0], if lanes == 1 { 1 } else { self.inner[0] }, value);
            return;
        }
        let mut prepared = prepared.iter();
        let mut values = Vec::with_capacity(self.buffers.len());
        for ((&buffer, &stride), at) in self.buffers.iter().zip(&self.inner[1..]).zip(&at[1..]) {
            values.push(match (stride, prepared.as_slice().first()) {
                (0, Some(&everywhere)) => {
                    prepared.next();
                    everywhere
                }
                _ => load(b, buffer, at, stride, lanes),
            });
        }
        let value = self.expr.emit(b, &values);
        store(b, self.out, &at[0], self.inner[0], value);
    }
}
