//! Softmax and layer normalisation: whole rows in one kernel.

use kiln_ir::{DType, NodeId};
use kiln_runtime::Access;

use super::context::Lowering;
use super::error::LowerError;
use super::nest::Axis;
use super::reduce::{NARROW_CHAINS, fold_chains, fold_run};
use super::scalar::{compute_dtype, load, store};
use super::walk::{Body, run, walk};
use crate::kir::{self, BinaryOp, Bits, Buffer, Index, KernelBuilder, VType, Value};
use crate::plan::program::View;

/// Extents before, along and after an axis.
pub fn around(dims: &[usize], axis: usize) -> (i64, i64, i64) {
    let product = |d: &[usize]| d.iter().product::<usize>() as i64;
    (product(&dims[..axis]), dims[axis] as i64, product(&dims[axis + 1..]))
}

/// What softmax and its logarithm have in common.
#[derive(Clone, Copy)]
struct Softmax {
    logarithm: bool,
    dtype: DType,
    x: Buffer,
    y: Buffer,
    /// Elements along the axis, and between them.
    extent: i64,
    stride: i64,
}

/// Softmax along `axis`, or its logarithm.
pub fn softmax(l: &mut Lowering<'_>, id: NodeId, axis: usize, logarithm: bool) -> Result<(), LowerError> {
    let v = l.graph.value(id);
    let x = l.view(l.operand(id, 0));
    let result = l.result_in_place(id, v, &[0]);
    if result.is_empty() {
        return Ok(());
    }
    let (outer, extent, inner) = around(&x.dims, axis);
    let dtype = compute_dtype(x.dtype);
    let mut b = KernelBuilder::new(if logarithm { "log_softmax" } else { "softmax" });
    let y = b.buffer("y", x.dtype, x.len() as i64, kir::Access::ReadWrite);
    let from = b.input("x", x.dtype, x.len() as i64);
    let mut body = Softmax { logarithm, dtype, x: from, y, extent, stride: inner };
    let lanes = l.machine.stream_lanes(dtype, true);
    if inner == 1 {
        let row = b.parallel(outer);
        body.row(&mut b, &(row * extent), l.machine.stream_lanes(dtype, false), lanes);
    } else {
        let axes = [Axis::new(outer as usize, [extent * inner]), Axis::new(inner as usize, [1])];
        walk(&mut b, &axes, &[Index::constant(0)], lanes, &mut body);
    }
    let uses = vec![result.used(Access::Write), x.used(Access::Read)];
    l.step_with(l.label(id), b, uses, (x.len() as u64).saturating_mul(25))
}

impl Softmax {
    /// One row along memory, its maximum in vectors of `wide` lanes, what is expanded to polynomials in such of `lanes`.
    fn row(&self, b: &mut KernelBuilder, first: &Index, wide: u32, lanes: u32) {
        let run_of = (self.extent, lanes);
        let least = Bits::from_f64(self.dtype, f64::NEG_INFINITY);
        let max = fold_run(b, (self.extent, wide), (BinaryOp::Max, self.dtype, least), &mut |b, by, width| {
            load(b, self.x, &(first + by), 1, width)
        });
        let keep = !self.logarithm && b.dtype_of(self.y) == self.dtype;
        let sum = fold_run(b, run_of, (BinaryOp::Add, self.dtype, Bits(0)), &mut |b, by, width| {
            let e = self.exponential(b, &(first + by), max, width);
            if keep {
                store(b, self.y, &(first + by), 1, e);
            }
            e
        });
        let last = self.last(b, sum);
        let axis = Axis { extent: self.extent, strides: vec![1] };
        let mut finish = Finish { softmax: self, keep, max, last };
        run(b, std::slice::from_ref(first), &axis, self.extent, lanes, &mut finish);
    }

    fn exponential(&self, b: &mut KernelBuilder, at: &Index, max: Value, width: u32) -> Value {
        let x = load(b, self.x, at, 1, width);
        let max = if b.type_of(max).lanes == width { max } else { b.splat(max, width) };
        let shifted = b.sub(x, max);
        b.exp(shifted)
    }

    /// What the last pass multiplies by or subtracts. A division of each element would take as long as its exponential; the
    /// sum is between 1 and the number of elements, so its reciprocal is a normal number, and results round once more.
    fn last(&self, b: &mut KernelBuilder, sum: Value) -> Value {
        if self.logarithm {
            return b.log(sum);
        }
        let one = b.constant(b.type_of(sum), 1.0);
        b.div(one, sum)
    }

    fn result(&self, b: &mut KernelBuilder, at: &Index, max: Value, last: Value, kept: bool) {
        let width = b.type_of(last).lanes;
        let value = if self.logarithm {
            let x = load(b, self.x, at, 1, width);
            let shifted = b.sub(x, max);
            b.sub(shifted, last)
        } else {
            let e = if kept { load(b, self.y, at, 1, width) } else { self.exponential(b, at, max, width) };
            b.mul(e, last)
        };
        store(b, self.y, at, 1, value);
    }
}

struct Finish<'a> {
    softmax: &'a Softmax,
    keep: bool,
    max: Value,
    last: Value,
}

impl Body for Finish<'_> {
    fn prepare(&mut self, b: &mut KernelBuilder, _at: &[Index], lanes: u32) -> Vec<Value> {
        vec![b.splat(self.max, lanes), b.splat(self.last, lanes)]
    }

    fn lanes(&mut self, b: &mut KernelBuilder, at: &[Index], prepared: &[Value], _lanes: u32) {
        self.softmax.result(b, &at[0], prepared[0], prepared[1], self.keep);
    }
}

/// A vector of columns: the axis is walked in steps of what lies after it.
impl Body for Softmax {
    fn lanes(&mut self, b: &mut KernelBuilder, at: &[Index], _: &[Value], lanes: u32) {
        let ty = VType::new(self.dtype, lanes);
        let least = b.constant(ty, f64::NEG_INFINITY);
        let this = *self;
        let place = |at_axis: &Index| &at[0] + at_axis * this.stride;
        let element = &mut |b: &mut KernelBuilder, i: &Index| load(b, this.x, &place(i), 1, lanes);
        let max = fold_chains(b, (this.extent, NARROW_CHAINS), least, element, &|b, x, y| b.max(x, y));
        let zero = b.constant(ty, 0.0);
        let keep = !this.logarithm && b.dtype_of(this.y) == this.dtype;
        let element = &mut |b: &mut KernelBuilder, i: &Index| {
            let e = this.exponential(b, &place(i), max, lanes);
            if keep {
                store(b, this.y, &place(i), 1, e);
            }
            e
        };
        let sum = fold_chains(b, (this.extent, NARROW_CHAINS), zero, element, &|b, x, y| b.add(x, y));
        let last = this.last(b, sum);
        b.for_each(this.extent, |b, var| this.result(b, &place(&Index::from(var)), max, last, keep));
    }
}

/// Normalisation over the trailing axes from `axis` on.
pub fn layer_norm(l: &mut Lowering<'_>, id: NodeId, axis: usize, epsilon: f64) -> Result<(), LowerError> {
    let v = l.graph.value(id);
    let views: Vec<View> = (0..3).map(|i| l.view(l.operand(id, i))).collect();
    let (x, scale, bias) = (&views[0], &views[1], &views[2]);
    let result = l.result_in_place(id, v, &[0]);
    if result.is_empty() {
        return Ok(());
    }
    let extent = x.dims[axis..].iter().product::<usize>() as i64;
    let dtype = compute_dtype(x.dtype);
    let mut b = KernelBuilder::new("layer_norm");
    let out = b.output("y", x.dtype, x.len() as i64);
    let from = b.input("x", x.dtype, x.len() as i64);
    let scales = b.input("scale", scale.dtype, extent);
    let biases = b.input("bias", bias.dtype, extent);
    let row = b.parallel(x.len() as i64 / extent);
    let first = row * extent;
    let lanes = l.machine.stream_lanes(dtype, false);
    let count = b.constant(VType::scalar(dtype), extent as f64);
    let sum = fold_run(&mut b, (extent, lanes), (BinaryOp::Add, dtype, Bits(0)), &mut |b, by, width| {
        load(b, from, &(&first + by), 1, width)
    });
    let mean = b.div(sum, count);
    let squares = fold_run(&mut b, (extent, lanes), (BinaryOp::Add, dtype, Bits(0)), &mut |b, by, width| {
        let x = load(b, from, &(&first + by), 1, width);
        let mean = b.splat(mean, width);
        let d = b.sub(x, mean);
        b.mul(d, d)
    });
    let variance = b.div(squares, count);
    let epsilon = b.constant(VType::scalar(dtype), epsilon);
    let variance = b.add(variance, epsilon);
    let root = b.sqrt(variance);
    let one = b.constant(VType::scalar(dtype), 1.0);
    let factor = b.div(one, root);
    let mut body = Normalise { out, from, scales, biases, mean, factor };
    let axis = Axis { extent, strides: vec![1, 1] };
    run(&mut b, &[first.clone(), Index::constant(0)], &axis, extent, lanes, &mut body);
    l.step(l.label(id), b, &[&result, x, scale, bias], (x.len() as u64).saturating_mul(8))
}

struct Normalise {
    out: Buffer,
    from: Buffer,
    scales: Buffer,
    biases: Buffer,
    mean: Value,
    factor: Value,
}

impl Body for Normalise {
    fn prepare(&mut self, b: &mut KernelBuilder, _at: &[Index], lanes: u32) -> Vec<Value> {
        vec![b.splat(self.mean, lanes), b.splat(self.factor, lanes)]
    }

    fn lanes(&mut self, b: &mut KernelBuilder, at: &[Index], prepared: &[Value], lanes: u32) {
        let x = load(b, self.from, &at[0], 1, lanes);
        let (mean, factor) = (prepared[0], prepared[1]);
        let d = b.sub(x, mean);
        let normal = b.mul(d, factor);
        let scale = load(b, self.scales, &at[1], 1, lanes);
        let bias = load(b, self.biases, &at[1], 1, lanes);
        let value = b.fma(normal, scale, bias);
        store(b, self.out, &at[0], 1, value);
    }
}
