//! Rules of fusion.

use kiln_ir::attribute::Reducer;
use kiln_ir::{ConvOptions, Value};

use crate::How::Closely;
use crate::Row;
use crate::draw::Draw;

/// Epilogues repeat the ops they were made of: only the order of a few roundings may change.
const fn row(rule: &'static str, with: &'static [&'static str], make: fn(&mut Draw)) -> Row {
    Row { rule, with, how: Closely(1e-12), make }
}

/// A product or a convolution by constant weights, and the axis of its channels.
fn contraction(d: &mut Draw) -> (Value, usize) {
    if d.chance() {
        let dims = d.dims(3);
        let (x, w) = (d.input(&dims[..2]), d.weights(&dims[1..]));
        (d.b.matmul(x, w), 1)
    } else {
        let (x, w) = (d.input(&[1, 2, 4, 4]), d.weights(&[3, 2, 2, 2]));
        (d.b.conv(x, w, &ConvOptions::default()), 1)
    }
}

pub const ROWS: &[Row] = &[
    row("fuse_bias", &[], |d| {
        let (y, axis) = contraction(d);
        let dims = d.extents(y);
        let bias = if d.chance() { d.weights(&dims) } else { d.along(&dims, axis) };
        let y = d.b.add(y, bias);
        d.output(y);
    }),
    row("fuse_scale", &[], |d| {
        let (y, _) = contraction(d);
        let dims = d.extents(y);
        let scale = d.input(&dims);
        let y = d.b.mul(y, scale);
        d.output(y);
    }),
    row("fuse_activation", &[], |d| {
        let (y, _) = contraction(d);
        let y = match d.below(4) {
            0 => d.b.tanh(y),
            1 => d.b.neg(y),
            2 => d.b.clip(y, -2.0, 2.0),
            _ => d.b.sin(y),
        };
        d.output(y);
    }),
    row("fuse_residual", &[], |d| {
        let (y, _) = contraction(d);
        let dims = d.extents(y);
        let x = d.input(&dims);
        let y = if d.chance() { d.b.add(y, x) } else { d.b.sub(x, y) };
        d.output(y);
    }),
    row("fuse_epilogue", &[], |d| {
        let (y, _) = contraction(d);
        let dims = d.extents(y);
        let x = d.input(&dims);
        let y = d.b.maximum(y, x);
        d.output(y);
    }),
    row("fuse_elementwise", &[], |d| {
        let dims = d.any_dims();
        let (x, z) = (d.input(&dims), d.input(&dims));
        let a = d.b.sin(x);
        let b = d.b.mul(a, z);
        let y = d.b.tanh(b);
        d.output(y);
    }),
    row("inline_number", &["fill_uniform"], |d| {
        let dims = d.any_dims();
        let x = d.input(&dims);
        let number = f64::from(d.number());
        let k = d.filled(&dims, number);
        let y = if d.chance() { d.b.mul(x, k) } else { d.b.sub(k, x) };
        d.output(y);
    }),
    row("inline_broadcast", &[], |d| {
        let dims = d.dims(2);
        let axis = d.below(2);
        let (x, z) = (d.input(&dims), d.input(&dims[axis..=axis]));
        let z = d.broadcast(z, &dims, &[axis]);
        let y = if d.chance() { d.b.sub(x, z) } else { d.b.mul(z, x) };
        d.output(y);
    }),
    row("fuse_reduce", &[], |d| {
        let dims = d.dims(3);
        let (x, z) = (d.input(&dims), d.input(&dims));
        let p = d.b.mul(x, z);
        let axis = d.below(3);
        let reducer = d.one_of(&[Reducer::Sum, Reducer::Max]);
        let y = d.b.reduce(p, &[axis], reducer);
        d.output(y);
    }),
    row("fuse_attention", &["fuse_residual", "inline_broadcast"], |d| {
        let [batch, keys, depth, columns] = [0; 4].map(|_| d.extent());
        let queries = 8 + d.below(3);
        let (q, k, v) =
            (d.input(&[batch, queries, depth]), d.input(&[keys, batch, depth]), d.input(&[batch, columns, keys]));
        let scores = d.b.dot(q, k, &[0], &[1], &[2], &[2]);
        let dims = [batch, queries, keys];
        let scores = match d.below(3) {
            0 => scores,
            1 => {
                let mask = d.input(&dims);
                d.b.add(scores, mask)
            }
            _ => {
                let mask = d.input(&[batch, keys]);
                let mask = d.broadcast(mask, &dims, &[0, 2]);
                d.b.sub(scores, mask)
            }
        };
        let weights = d.b.softmax(scores, 2);
        let y = d.b.dot(weights, v, &[0], &[0], &[2], &[2]);
        d.output(y);
    }),
];
