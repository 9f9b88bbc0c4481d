//! Refusals of the rules of layout, materialisation and fusion.

use kiln_ir::attribute::{ConvLayout, Reducer};
use kiln_ir::{ConvOptions, DType, Op, Value};

use super::Refusal;
use crate::draw::Draw;

/// A product or a convolution by constant weights.
fn contraction(d: &mut Draw) -> Value {
    if d.chance() {
        let dims = d.dims(3);
        let (x, w) = (d.input(&dims[..2]), d.weights(&dims[1..]));
        d.b.matmul(x, w)
    } else {
        let (x, w) = (d.input(&[1, 2, 4, 4]), d.weights(&[3, 2, 2, 2]));
        d.b.conv(x, w, &ConvOptions::default())
    }
}

/// `op` on what a rule would take it into: a contraction whose result is needed as well, or that is reshaped before; or a
/// value that no contraction makes.
fn after_contraction(d: &mut Draw, op: impl FnOnce(&mut Draw, Value) -> Value) {
    let kind = d.below(3);
    let x = match kind {
        0 => {
            let y = contraction(d);
            d.output(y);
            y
        }
        1 => {
            let y = contraction(d);
            let count = d.extents(y).iter().product();
            d.reshape(y, &[count])
        }
        _ => {
            let dims = d.any_dims();
            let x = d.input(&dims);
            d.b.softmax(x, 0)
        }
    };
    let y = op(d, x);
    d.output(y);
}

/// A fed value of the extents of `x`.
fn like(d: &mut Draw, x: Value) -> Value {
    let dims = d.extents(x);
    d.input(&dims)
}

pub const REFUSALS: &[Refusal] = &[
    ("convolve_channels_last", |d| {
        // By weights that are fed, channels last already, or no convolution.
        let kind = d.below(3);
        let y = match kind {
            0 => {
                let (x, w) = (d.input(&[1, 2, 4, 4]), d.input(&[3, 2, 2, 2]));
                d.b.conv(x, w, &ConvOptions::default())
            }
            1 => {
                let (x, w) = (d.input(&[1, 4, 4, 2]), d.weights(&[2, 2, 2, 3]));
                d.b.conv(x, w, &ConvOptions { layout: ConvLayout::ChannelsLast, ..Default::default() })
            }
            _ => {
                let (x, w) = (d.input(&[2, 4]), d.weights(&[4, 2]));
                d.b.matmul(x, w)
            }
        };
        d.output(y);
    }),
    ("relabel_transpose", |d| {
        // What is made in whatever order is asked for.
        let dims = d.dims(2);
        let x = if d.chance() {
            d.weights(&dims)
        } else {
            let vector = d.input(&dims[1..]);
            d.broadcast(vector, &dims, &[1])
        };
        let t = d.b.transpose(x, &[1, 0]);
        let z = like(d, t);
        let y = d.b.mul(t, z);
        d.output(y);
    }),
    ("store_transposed_constant", |d| {
        // What is fed cannot be stored.
        let (dims, perm) = (d.dims(3), d.permutation(3));
        let x = d.input(&dims);
        let t = d.b.transpose(x, &perm);
        let w = d.extents(t);
        let w = d.weights(&w);
        let y = d.b.add(t, w);
        d.output(y);
    }),
    ("store_broadcast_constant", |d| {
        // Fed, or read by an op that takes a vector.
        let (n, inner, outputs) = (d.extent(), d.extent(), d.extent());
        let y = if d.chance() {
            let (x, vector) = (d.input(&[n, inner]), d.input(&[outputs]));
            let w = d.broadcast(vector, &[inner, outputs], &[1]);
            d.b.matmul(x, w)
        } else {
            let (x, vector) = (d.input(&[n, inner]), d.weights(&[inner]));
            let k = d.broadcast(vector, &[n, inner], &[1]);
            if d.chance() { d.b.mul(x, k) } else { d.b.maximum(k, x) }
        };
        d.output(y);
    }),
    ("fuse_bias", |d| {
        if d.chance() {
            // what is fed is a residual
            let y = contraction(d);
            let z = like(d, y);
            let y = d.b.add(y, z);
            return d.output(y);
        }
        after_contraction(d, |d, y| {
            let dims = d.extents(y);
            let bias = d.weights(&dims);
            d.b.add(y, bias)
        });
    }),
    ("fuse_scale", |d| {
        after_contraction(d, |d, y| {
            let z = like(d, y);
            if d.chance() { d.b.mul(y, z) } else { d.b.div(z, y) }
        });
    }),
    ("fuse_activation", |d| {
        after_contraction(d, |d, y| if d.chance() { d.b.tanh(y) } else { d.b.clip(y, -2.0, 2.0) });
    }),
    ("fuse_residual", |d| {
        if d.chance() {
            // a constant is a bias
            let y = contraction(d);
            let dims = d.extents(y);
            let bias = d.weights(&dims);
            let y = d.b.sub(y, bias);
            return d.output(y);
        }
        after_contraction(d, |d, y| {
            let z = like(d, y);
            d.b.add(z, y)
        });
    }),
    ("fuse_epilogue", |d| {
        after_contraction(d, |d, y| {
            let z = like(d, y);
            d.b.maximum(y, z)
        });
    }),
    ("fuse_elementwise", |d| {
        // Another user, an op between, or a repetition.
        let dims = d.dims(2);
        let (x, z) = (d.input(&dims), d.input(&dims));
        let a = d.b.sin(x);
        let y = match d.below(3) {
            0 => {
                d.output(a);
                d.b.mul(a, z)
            }
            1 => {
                let flat = d.reshape(a, &[dims[0] * dims[1]]);
                d.b.tanh(flat)
            }
            _ => {
                let wide = d.broadcast(a, &[3, dims[0], dims[1]], &[1, 2]);
                d.b.tanh(wide)
            }
        };
        d.output(y);
    }),
    ("inline_number", |d| {
        // Not the same everywhere, fed, beside another number, or read by no expression.
        let dims = d.dims(2);
        let x = d.input(&dims);
        let two = d.filled(&dims, 2.0);
        let y = match d.below(4) {
            0 => {
                let vector = d.weights(&dims[1..]);
                let vector = d.broadcast(vector, &dims, &[1]);
                d.b.mul(x, vector)
            }
            1 => {
                let fed = d.input(&[]);
                let fed = d.broadcast(fed, &dims, &[]);
                d.b.sub(fed, x)
            }
            2 => {
                let three = d.filled(&dims, 3.0);
                d.b.add(two, three)
            }
            _ => d.b.concat(&[x, two], 0),
        };
        d.output(y);
    }),
    ("inline_broadcast", |d| {
        // Read by what takes no extents of 1 in its place.
        let dims = d.dims(2);
        let (x, vector) = (d.input(&dims), d.input(&dims[1..]));
        let wide = d.broadcast(vector, &dims, &[1]);
        let y = match d.below(3) {
            0 => d.b.concat(&[x, wide], 0),
            1 => d.b.reduce(wide, &[1], Reducer::Sum),
            _ => wide,
        };
        d.output(y);
    }),
    ("fuse_reduce", |d| {
        // Of what is fed, needed as well, or made by a contraction.
        let dims = d.dims(2);
        let x = d.input(&dims);
        let a = match d.below(3) {
            0 => x,
            1 => {
                let a = d.b.exp(x);
                d.output(a);
                a
            }
            _ => contraction(d),
        };
        let y = d.b.reduce(a, &[1], Reducer::Sum);
        d.output(y);
    }),
    ("fuse_attention", |d| {
        // Few queries, along the queries, scores or weights that are needed as well, or in f64.
        let kind = d.below(5);
        let [batch, depth, columns] = [0; 3].map(|_| d.extent());
        let n = if kind == 0 { 7 } else { 9 };
        let dtype = if kind == 4 { DType::F64 } else { DType::F32 };
        let [q, k, v] =
            [[batch, n, depth], [batch, n, depth], [batch, n, columns]].map(|dims| d.input_of("x", dtype, &dims));
        let scores = d.b.dot(q, k, &[0], &[0], &[2], &[2]);
        let weights = d.add(Op::Softmax { axis: if kind == 1 { 1 } else { 2 } }, &[scores]);
        match kind {
            2 => d.output(scores),
            3 => d.output(weights),
            _ => {}
        }
        let y = d.b.dot(weights, v, &[0], &[0], &[2], &[1]);
        d.output(y);
    }),
];
