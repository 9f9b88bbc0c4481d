//! Refusals of the rules that recognise composites: each spelling with one thing changed.

use std::f64::consts::{FRAC_2_SQRT_PI, SQRT_2};

use kiln_ir::attribute::{Real, Reducer};
use kiln_ir::{Op, Value};

use super::Refusal;
use crate::draw::Draw;

/// Two fed values.
fn inputs(d: &mut Draw) -> [Value; 2] {
    let dims = d.any_dims();
    [d.input(&dims), d.input(&dims)]
}

fn with(d: &mut Draw, op: Op, x: Value, number: f64) -> Value {
    let dims = d.extents(x);
    let k = d.filled(&dims, number);
    d.add(op, &[x, k])
}

fn plus(d: &mut Draw, x: Value, number: f64) -> Value {
    with(d, Op::Add {}, x, number)
}

fn times(d: &mut Draw, x: Value, number: f64) -> Value {
    with(d, Op::Mul {}, x, number)
}

/// `right`, or where `odd` says so `wrong`.
fn or(odd: bool, wrong: f64, right: f64) -> f64 {
    if odd { wrong } else { right }
}

/// ½ · x · (1 + gate), with one thing changed: 0 the half, 1 the one, 2 the value.
fn half_gated(d: &mut Draw, [x, z]: [Value; 2], gate: Value, odd: usize) {
    let gate = plus(d, gate, or(odd == 1, 2.0, 1.0));
    let product = d.b.mul(if odd == 2 { z } else { x }, gate);
    let y = times(d, product, or(odd == 0, 0.25, 0.5));
    d.output(y);
}

/// The mean along `axis`, repeated along it, but for `count` elements.
fn mean(d: &mut Draw, x: Value, axis: usize, count: f64) -> Value {
    let dims = d.extents(x);
    let sum = d.b.reduce(x, &[axis], Reducer::Sum);
    let mean = with(d, Op::Div {}, sum, count);
    spread(d, mean, &dims, axis)
}

/// What was reduced along `axis`, repeated along it.
fn spread(d: &mut Draw, x: Value, dims: &[usize], axis: usize) -> Value {
    let axes: Vec<usize> = (0..dims.len()).filter(|&a| a != axis).collect();
    d.broadcast(x, dims, &axes)
}

/// A layer norm of rows with something that a product or a sum with it does not go into.
fn around_layer_norm(d: &mut Draw, op: Op, other: Op, zero_bias: bool) {
    let n = d.extent();
    let x = d.input(&[n, n]);
    let scale = d.weights(&[n]);
    let kind = d.below(if zero_bias { 4 } else { 3 });
    let bias = if zero_bias && kind != 3 { d.filled(&[n], 0.0) } else { d.weights(&[n]) };
    let norm = d.b.layer_norm(x, scale, bias, 1, 0.01);
    let vector = d.input(&[n]);
    let y = match kind {
        // along the rows
        0 => {
            let wide = d.broadcast(vector, &[n, n], &[0]);
            d.add(op, &[norm, wide])
        }
        // an element for each
        1 => {
            let wide = d.input(&[n, n]);
            d.add(op, &[norm, wide])
        }
        2 => {
            let wide = d.broadcast(vector, &[n, n], &[1]);
            d.add(other, &[norm, wide])
        }
        // a bias that would be scaled too
        _ => {
            let wide = d.broadcast(vector, &[n, n], &[1]);
            d.add(op, &[norm, wide])
        }
    };
    d.output(y);
}

pub const REFUSALS: &[Refusal] = &[
    ("recognise_sigmoid", |d| {
        let ([x, _], odd) = (inputs(d), d.below(3));
        let n = if odd == 0 { x } else { d.b.neg(x) };
        let e = if odd == 1 { d.b.tanh(n) } else { d.b.exp(n) };
        let s = plus(d, e, or(odd == 2, 2.0, 1.0));
        let y = d.b.reciprocal(s);
        d.output(y);
    }),
    ("recognise_softplus", |d| {
        let ([x, _], odd) = (inputs(d), d.below(3));
        let e = if odd == 0 { d.b.tanh(x) } else { d.b.exp(x) };
        let s = plus(d, e, or(odd == 1, 2.0, 1.0));
        let y = if odd == 2 { d.b.sqrt(s) } else { d.b.log(s) };
        d.output(y);
    }),
    ("recognise_gelu", |d| {
        let ([x, z], odd) = (inputs(d), d.below(5));
        let scaled = times(d, x, 1.0 / or(odd == 3, 1.5, SQRT_2));
        let e = if odd == 4 { d.b.tanh(scaled) } else { d.b.erf(scaled) };
        half_gated(d, [x, z], e, odd);
    }),
    ("recognise_gelu_tanh", |d| {
        let ([x, z], odd) = (inputs(d), d.below(7));
        let square = d.b.mul(x, x);
        let cube = if odd == 3 { square } else { d.b.mul(square, x) };
        let small = times(d, cube, or(odd == 4, 0.05, 0.044715));
        let sum = d.b.add(x, small);
        let scaled = times(d, sum, or(odd == 5, 0.8, FRAC_2_SQRT_PI / SQRT_2));
        let t = if odd == 6 { d.b.erf(scaled) } else { d.b.tanh(scaled) };
        half_gated(d, [x, z], t, odd);
    }),
    ("recognise_silu", |d| {
        let [x, z] = inputs(d);
        let y = match d.below(3) {
            0 => {
                let s = d.b.sigmoid(z);
                d.b.mul(x, s)
            }
            1 => {
                let s = d.b.sigmoid(x);
                d.b.add(x, s)
            }
            _ => {
                let s = d.b.tanh(x);
                d.b.mul(s, x)
            }
        };
        d.output(y);
    }),
    ("recognise_hard_swish", |d| {
        let ([x, z], odd) = (inputs(d), d.below(7));
        if odd < 3 {
            let (alpha, beta) = (or(odd == 0, 0.2, 1.0 / 6.0), or(odd == 1, 0.4, 0.5));
            let gate = d.add(Op::HardSigmoid { alpha: Real(alpha), beta: Real(beta) }, &[x]);
            let y = d.b.mul(if odd == 2 { z } else { x }, gate);
            return d.output(y);
        }
        let moved = plus(d, x, or(odd == 3, 2.0, 3.0));
        let limited = d.b.clip(moved, or(odd == 4, -1.0, 0.0), or(odd == 5, 5.0, 6.0));
        let p = d.b.mul(x, limited);
        let y = times(d, p, 1.0 / or(odd == 6, 5.0, 6.0));
        d.output(y);
    }),
    ("recognise_mish", |d| {
        let [x, z] = inputs(d);
        let gate = match d.below(3) {
            0 => {
                let s = d.b.softplus(z);
                d.b.tanh(s)
            }
            1 => {
                let t = d.b.tanh(x);
                d.b.softplus(t)
            }
            _ => {
                let s = d.b.softplus(x);
                d.b.erf(s)
            }
        };
        let y = d.b.mul(x, gate);
        d.output(y);
    }),
    ("recognise_softmax", |d| {
        // Over two axes, of another numerator, of the greatest, or along an axis that it is not repeated along.
        let n = d.extent();
        let dims = [n, n];
        let (x, z) = (d.input(&dims), d.input(&dims));
        let (e, other) = (d.b.exp(x), d.b.exp(z));
        let odd = d.below(4);
        let total = match odd {
            0 => {
                let sum = d.b.reduce(e, &[0, 1], Reducer::Sum);
                d.broadcast(sum, &dims, &[])
            }
            _ => {
                let reducer = if odd == 2 { Reducer::Max } else { Reducer::Sum };
                let sum = d.b.reduce(e, &[1], reducer);
                spread(d, sum, &dims, if odd == 3 { 0 } else { 1 })
            }
        };
        let y = d.b.div(if odd == 1 { other } else { e }, total);
        d.output(y);
    }),
    ("recognise_layer_norm", |d| {
        // Not of the last axis, of an unbiased variance, about another mean, of other squares, or without a root.
        let n = 3 + d.below(2);
        let dims = [n, n];
        let (x, z, odd) = (d.input(&dims), d.input(&dims), d.below(5));
        let axis = usize::from(odd != 0);
        let average = mean(d, if odd == 2 { z } else { x }, axis, n as f64);
        let centred = d.b.sub(x, average);
        let square = d.b.mul(centred, if odd == 3 { z } else { centred });
        let sum = d.b.reduce(square, &[axis], Reducer::Sum);
        let variance = with(d, Op::Div {}, sum, n as f64 - or(odd == 1, 1.0, 0.0));
        let raised = plus(d, variance, 0.01);
        let root = if odd == 4 { raised } else { d.b.sqrt(raised) };
        let root = spread(d, root, &dims, axis);
        let y = d.b.div(centred, root);
        d.output(y);
    }),
    ("scale_into_layer_norm", |d| around_layer_norm(d, Op::Mul {}, Op::Add {}, true)),
    ("shift_into_layer_norm", |d| around_layer_norm(d, Op::Add {}, Op::Mul {}, false)),
];
