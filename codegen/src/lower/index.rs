//! Gather and scatter: places that are known at run time only.

use kiln_ir::attribute::ScatterMode;
use kiln_ir::{DType, NodeId};

use super::context::Lowering;
use super::error::LowerError;
use super::nest::Axis;
use super::normalize::around;
use super::scalar::{load, store};
use super::walk::{Body, run};
use crate::kir::{self, BinaryOp, Buffer, CompareOp, Index, KernelBuilder, VType, Value};

/// Runs shorter than this do not make a parallel iteration each.
const PARALLEL_RUN: i64 = 32;

/// The index at `at` as `i64`, and the same clamped to `0..extent`.
fn index_at(b: &mut KernelBuilder, indices: Buffer, at: &Index, extent: i64) -> (Value, Value) {
    let raw = b.load(indices, at, 1);
    let raw = b.convert(raw, DType::I64);
    let ty = VType::scalar(DType::I64);
    let (zero, last) = (b.constant_int(ty, 0), b.constant_int(ty, extent - 1));
    let low = b.max(raw, zero);
    (raw, b.min(low, last))
}

/// Slices of x along `axis`; indices beyond the ends are clamped.
pub fn gather(l: &mut Lowering<'_>, id: NodeId, axis: usize) -> Result<(), LowerError> {
    let v = l.graph.value(id);
    let (x, indices) = (l.view(l.operand(id, 0)), l.view(l.operand(id, 1)));
    let result = l.result(v);
    if result.is_empty() {
        return Ok(());
    }
    let (outer, extent, inner) = around(&x.dims, axis);
    let count = indices.len() as i64;
    let mut b = KernelBuilder::new("gather");
    let out = b.output("y", result.dtype, result.len() as i64);
    let from = b.input("x", x.dtype, x.len() as i64);
    let places = b.input("indices", indices.dtype, count);
    let lanes = l.machine.stream_lanes(x.dtype, false);
    let block = b.parallel(outer);
    let one = |b: &mut KernelBuilder, i: Index| {
        let (_, place) = index_at(b, places, &i, extent);
        let source = Index::dynamic(place, extent) * inner + block * (extent * inner);
        let target = (block * count + &i) * inner;
        let axis = Axis { extent: inner, strides: vec![1, 1] };
        run(b, &[target, source], &axis, inner, lanes, &mut Move { out, from });
    };
    if inner >= PARALLEL_RUN {
        let i = b.parallel(count);
        one(&mut b, i.into());
    } else {
        b.for_each(count, |b, i| one(b, i.into()));
    }
    l.step(l.label(id), b, &[&result, &x, &indices], 0)
}

struct Move {
    out: Buffer,
    from: Buffer,
}

impl Body for Move {
    fn lanes(&mut self, b: &mut KernelBuilder, at: &[Index], _: &[Value], lanes: u32) {
        let value = b.load(self.from, &at[1], lanes);
        b.store(self.out, &at[0], value);
    }
}

/// x with `updates` combined in at `indices`, in row-major order; indices beyond the ends are skipped.
pub fn scatter(l: &mut Lowering<'_>, id: NodeId, axis: usize, mode: ScatterMode) -> Result<(), LowerError> {
    let v = l.graph.value(id);
    let (x, indices, updates) = (l.view(l.operand(id, 0)), l.view(l.operand(id, 1)), l.view(l.operand(id, 2)));
    let result = l.result_in_place(id, v, &[0]);
    l.copy(l.label(id), &x, &result);
    if result.is_empty() || updates.is_empty() {
        return Ok(());
    }
    let (outer, extent, inner) = around(&x.dims, axis);
    let count = indices.len() as i64;
    let mut b = KernelBuilder::new("scatter");
    let out = b.buffer("y", x.dtype, x.len() as i64, kir::Access::ReadWrite);
    let places = b.input("indices", indices.dtype, count);
    let from = b.input("updates", updates.dtype, updates.len() as i64);
    let lanes = l.machine.stream_lanes(x.dtype, false);
    let block = b.parallel(outer);
    let combine = match mode {
        ScatterMode::Replace => None,
        ScatterMode::Add => Some(BinaryOp::Add),
        ScatterMode::Mul => Some(BinaryOp::Mul),
        ScatterMode::Max => Some(BinaryOp::Max),
        ScatterMode::Min => Some(BinaryOp::Min),
    };
    b.for_each(count, |b, i| {
        let (raw, place) = index_at(b, places, &i.into(), extent);
        let inside = b.compare(CompareOp::Eq, raw, place);
        b.when(inside, |b| {
            let target = Index::dynamic(place, extent) * inner + block * (extent * inner);
            let source = (block * count + i) * inner;
            let axis = Axis { extent: inner, strides: vec![1, 1] };
            run(b, &[target, source], &axis, inner, lanes, &mut Update { out, from, combine });
        });
    });
    l.step(l.label(id), b, &[&result, &indices, &updates], updates.len() as u64)
}

struct Update {
    out: Buffer,
    from: Buffer,
    combine: Option<BinaryOp>,
}

impl Body for Update {
    fn lanes(&mut self, b: &mut KernelBuilder, at: &[Index], _: &[Value], lanes: u32) {
        let Some(op) = self.combine else {
            let value = b.load(self.from, &at[1], lanes);
            return b.store(self.out, &at[0], value);
        };
        let (old, new) = (load(b, self.out, &at[0], 1, lanes), load(b, self.from, &at[1], 1, lanes));
        let value = b.binary(op, old, new);
        store(b, self.out, &at[0], 1, value);
    }
}
