//! Composites spelled out.

use std::f64::consts::{FRAC_2_SQRT_PI, SQRT_2};

use kiln_ir::attribute::{Real, Reducer};
use kiln_ir::{Op, Value};

use crate::How::Closely;
use crate::Row;
use crate::draw::Draw;

/// Constants of the spelled-out forms are f32, so 1e-6.
const fn row(rule: &'static str, make: fn(&mut Draw)) -> Row {
    Row { rule, with: &[], how: Closely(1e-6), make }
}

fn input(d: &mut Draw) -> (Value, Vec<usize>) {
    let dims = d.any_dims();
    (d.input(&dims), dims)
}

/// x + `number`.
fn plus(d: &mut Draw, x: Value, number: f64) -> Value {
    let dims = d.extents(x);
    let k = d.filled(&dims, number);
    d.b.add(x, k)
}

/// x · `number`.
fn times(d: &mut Draw, x: Value, number: f64) -> Value {
    let dims = d.extents(x);
    let k = d.filled(&dims, number);
    d.b.mul(x, k)
}

/// x / `number`.
fn over(d: &mut Draw, x: Value, number: f64) -> Value {
    let dims = d.extents(x);
    let k = d.filled(&dims, number);
    d.b.div(x, k)
}

/// ½ · x · gate, in one of the orders that exporters use.
fn half_gated(d: &mut Draw, x: Value, gate: Value) -> Value {
    match d.below(3) {
        0 => {
            let p = d.b.mul(x, gate);
            times(d, p, 0.5)
        }
        1 => {
            let h = times(d, x, 0.5);
            d.b.mul(h, gate)
        }
        _ => {
            let p = d.b.mul(gate, x);
            over(d, p, 2.0)
        }
    }
}

/// The mean along `axis`, repeated along it.
fn mean(d: &mut Draw, x: Value, axis: usize) -> Value {
    let dims = d.extents(x);
    let sum = d.b.reduce(x, &[axis], Reducer::Sum);
    let mean = over(d, sum, dims[axis] as f64);
    let axes: Vec<usize> = (0..dims.len()).filter(|&a| a != axis).collect();
    d.broadcast(mean, &dims, &axes)
}

pub const ROWS: &[Row] = &[
    row("recognise_sigmoid", |d| {
        let (x, _) = input(d);
        let n = d.b.neg(x);
        let e = d.b.exp(n);
        let s = plus(d, e, 1.0);
        let y = d.b.reciprocal(s);
        d.output(y);
    }),
    row("recognise_softplus", |d| {
        let (x, _) = input(d);
        let e = d.b.exp(x);
        let s = plus(d, e, 1.0);
        let y = d.b.log(s);
        d.output(y);
    }),
    row("recognise_gelu", |d| {
        let (x, _) = input(d);
        let scaled = if d.chance() { over(d, x, SQRT_2) } else { times(d, x, 1.0 / SQRT_2) };
        let e = d.b.erf(scaled);
        let gate = plus(d, e, 1.0);
        let y = half_gated(d, x, gate);
        d.output(y);
    }),
    row("recognise_gelu_tanh", |d| {
        let (x, dims) = input(d);
        let cube = if d.chance() {
            let square = d.b.mul(x, x);
            d.b.mul(square, x)
        } else {
            let three = d.filled(&dims, 3.0);
            d.b.pow(x, three)
        };
        let small = times(d, cube, 0.044715);
        let sum = d.b.add(x, small);
        let scaled = times(d, sum, FRAC_2_SQRT_PI / SQRT_2);
        let t = d.b.tanh(scaled);
        let gate = plus(d, t, 1.0);
        let y = half_gated(d, x, gate);
        d.output(y);
    }),
    row("recognise_silu", |d| {
        let (x, _) = input(d);
        let s = d.b.sigmoid(x);
        let y = if d.chance() { d.b.mul(x, s) } else { d.b.mul(s, x) };
        d.output(y);
    }),
    row("recognise_hard_swish", |d| {
        let (x, _) = input(d);
        if d.chance() {
            let gate = d.add(Op::HardSigmoid { alpha: Real(1.0 / 6.0), beta: Real(0.5) }, &[x]);
            let y = if d.chance() { d.b.mul(x, gate) } else { d.b.mul(gate, x) };
            return d.output(y);
        }
        let moved = plus(d, x, 3.0);
        let limited = if d.chance() {
            d.b.clip(moved, 0.0, 6.0)
        } else {
            let r = d.b.relu(moved);
            d.b.clip(r, 0.0, 6.0)
        };
        let p = d.b.mul(x, limited);
        let y = if d.chance() { over(d, p, 6.0) } else { times(d, p, 1.0 / 6.0) };
        d.output(y);
    }),
    row("recognise_mish", |d| {
        let (x, _) = input(d);
        let s = d.b.softplus(x);
        let t = d.b.tanh(s);
        let y = if d.chance() { d.b.mul(x, t) } else { d.b.mul(t, x) };
        d.output(y);
    }),
    row("recognise_softmax", |d| {
        let dims = d.dims(3);
        let x = d.input(&dims);
        let axis = d.below(3);
        let axes: Vec<usize> = (0..3).filter(|&a| a != axis).collect();
        let shifted = if d.chance() {
            let max = d.b.reduce(x, &[axis], Reducer::Max);
            let max = d.broadcast(max, &dims, &axes);
            d.b.sub(x, max)
        } else {
            x
        };
        let e = d.b.exp(shifted);
        let sum = d.b.reduce(e, &[axis], Reducer::Sum);
        let sum = d.broadcast(sum, &dims, &axes);
        let y = d.b.div(e, sum);
        d.output(y);
    }),
    row("recognise_layer_norm", |d| {
        let dims = d.dims(3);
        let x = d.input(&dims);
        let average = mean(d, x, 2);
        let centred = d.b.sub(x, average);
        let square = d.b.mul(centred, centred);
        let sum = d.b.reduce(square, &[2], Reducer::Sum);
        let variance = over(d, sum, dims[2] as f64);
        let raised = plus(d, variance, 0.01);
        let root = d.b.sqrt(raised);
        let root = d.broadcast(root, &dims, &[0, 1]);
        let y = d.b.div(centred, root);
        d.output(y);
    }),
    row("scale_into_layer_norm", |d| {
        let dims = d.dims(2);
        let x = d.input(&dims);
        let (scale, zero) = (d.weights(&dims[1..]), d.filled(&dims[1..], 0.0));
        let n = d.b.layer_norm(x, scale, zero, 1, 0.01);
        let factor = d.input(&dims[1..]);
        let factor = d.broadcast(factor, &dims, &[1]);
        let y = if d.chance() { d.b.mul(n, factor) } else { d.b.mul(factor, n) };
        d.output(y);
    }),
    row("shift_into_layer_norm", |d| {
        let dims = d.dims(2);
        let x = d.input(&dims);
        let (scale, bias) = (d.weights(&dims[1..]), d.weights(&dims[1..]));
        let n = d.b.layer_norm(x, scale, bias, 1, 0.01);
        let shift = d.input(&dims[1..]);
        let shift = d.broadcast(shift, &dims, &[1]);
        let y = if d.chance() { d.b.add(n, shift) } else { d.b.add(shift, n) };
        d.output(y);
    }),
];
