//! Rules of the e-graph.

use kiln_ir::attribute::{Padding, Real, Reducer};
use kiln_ir::{ConvOptions, Op, Value, WindowOptions};

use crate::How::{Closely, Exactly, Identically};
use crate::Row;
use crate::draw::Draw;

const fn row(rule: &'static str, how: crate::How, make: fn(&mut Draw)) -> Row {
    Row { rule, with: &[], how, make }
}

/// [N, C, H, W] with few of each.
fn image(d: &mut Draw) -> Vec<usize> {
    vec![1 + d.below(2), 2 + d.below(2), 4 + d.below(2), 4 + d.below(2)]
}

/// A convolution of `x` by constant weights, and its extents.
fn conv(d: &mut Draw, x: Value, padded: bool) -> Value {
    let dims = d.extents(x);
    let (h, w, outputs) = (1 + d.below(3), 1 + d.below(3), d.extent());
    let weights = d.weights(&[outputs, dims[1], h, w]);
    let padding = if padded { vec![d.padding(), d.padding()] } else { vec![] };
    let strides = if d.chance() { vec![1 + d.below(2); 2] } else { vec![] };
    d.b.conv(x, weights, &ConvOptions { padding, strides, ..Default::default() })
}

/// x times a constant, or over it.
fn scaled(d: &mut Draw, x: Value, scale: Value) -> Value {
    if d.chance() { d.b.mul(x, scale) } else { d.b.div(x, scale) }
}

/// A product with a constant matrix: x's last axis with its first or second.
fn dot(d: &mut Draw, x: Value) -> Value {
    let dims = d.extents(x);
    let (inner, outputs) = (dims[dims.len() - 1], d.extent());
    if d.chance() {
        let w = d.weights(&[inner, outputs]);
        d.b.dot(x, w, &[], &[], &[dims.len() - 1], &[0])
    } else {
        let w = d.weights(&[outputs, inner]);
        d.b.dot(x, w, &[], &[], &[dims.len() - 1], &[1])
    }
}

pub const ROWS: &[Row] = &[
    row("merge_scales", Exactly, |d| {
        let dims = d.any_dims();
        let (x, a, b) = (d.input(&dims), d.weights(&dims), d.weights(&dims));
        let p = d.b.mul(x, a);
        let y = d.b.mul(p, b);
        d.output(y);
    }),
    row("merge_shifts", Exactly, |d| {
        let dims = d.any_dims();
        let (x, a, b) = (d.input(&dims), d.weights(&dims), d.weights(&dims));
        let p = d.b.add(x, a);
        let y = d.b.add(p, b);
        d.output(y);
    }),
    Row {
        rule: "scale_before_shift",
        // What makes the scale worth moving.
        with: &["fold_scale_into_conv"],
        how: Exactly,
        make: |d| {
            let dims = image(d);
            let x = d.input(&dims);
            let y = conv(d, x, true);
            let dims = d.extents(y);
            let (shift, vector) = (d.along(&dims, 1), d.weights(&dims[1..2]));
            let scale = d.broadcast(vector, &dims, &[1]);
            let p = d.b.add(y, shift);
            let y = d.b.mul(p, scale);
            d.output(y);
        },
    },
    row("div_by_constant", Exactly, |d| {
        let dims = d.any_dims();
        let (x, n) = (d.input(&dims), dims.iter().product());
        let powers: Vec<f32> = (0..n).map(|_| d.one_of(&[-4.0, -1.0, -0.5, 0.25, 0.5, 2.0, 8.0])).collect();
        let a = d.b.constant(kiln_ir::Tensor::from_slice(&dims, &powers).unwrap());
        let y = d.b.div(x, a);
        d.output(y);
    }),
    row("constant_before_broadcast", Exactly, |d| {
        let dims = d.dims(2);
        let axis = d.below(2);
        let x = d.input(&dims);
        let [a, b] = [(); 2].map(|()| d.weights(&dims[axis..=axis]));
        let (p, q) = (d.broadcast(a, &dims, &[axis]), d.broadcast(b, &dims, &[axis]));
        let k = if d.chance() { d.b.mul(p, q) } else { d.b.sub(p, q) };
        let y = d.b.add(x, k);
        d.output(y);
    }),
    row("fold_scale_into_conv", Exactly, |d| {
        let dims = image(d);
        let x = d.input(&dims);
        let y = conv(d, x, true);
        let dims = d.extents(y);
        let scale = d.along(&dims, 1);
        let y = scaled(d, y, scale);
        d.output(y);
    }),
    row("fold_scale_into_dot", Exactly, |d| {
        let rank = 2 + d.below(2);
        let dims = d.dims(rank);
        let x = d.input(&dims);
        let y = dot(d, x);
        let dims = d.extents(y);
        let scale = d.along(&dims, dims.len() - 1);
        let y = scaled(d, y, scale);
        d.output(y);
    }),
    row("fold_input_scale_into_conv", Exactly, |d| {
        let dims = image(d);
        let (x, scale) = (d.input(&dims), d.along(&dims, 1));
        let x = scaled(d, x, scale);
        let y = conv(d, x, true);
        d.output(y);
    }),
    row("fold_input_scale_into_dot", Exactly, |d| {
        let rank = 2 + d.below(2);
        let dims = d.dims(rank);
        let (x, scale) = (d.input(&dims), d.along(&dims, dims.len() - 1));
        let x = scaled(d, x, scale);
        let y = dot(d, x);
        d.output(y);
    }),
    Row {
        rule: "fold_input_shift_into_conv",
        with: &["merge_shifts"],
        how: Exactly,
        make: |d| {
            let dims = image(d);
            let (x, shift) = (d.input(&dims), d.along(&dims, 1));
            let x = d.b.add(x, shift);
            let y = conv(d, x, false);
            let dims = d.extents(y);
            let bias = d.along(&dims, 1);
            let y = d.b.add(y, bias);
            d.output(y);
        },
    },
    Row {
        rule: "fold_input_shift_into_dot",
        with: &["merge_shifts"],
        how: Exactly,
        make: |d| {
            let rank = 2 + d.below(2);
            let dims = d.dims(rank);
            let (x, shift) = (d.input(&dims), d.along(&dims, dims.len() - 1));
            let x = d.b.add(x, shift);
            let y = dot(d, x);
            let dims = d.extents(y);
            let bias = d.along(&dims, dims.len() - 1);
            let y = d.b.add(y, bias);
            d.output(y);
        },
    },
    row("merge_constant_products", Exactly, |d| {
        let (n, inputs, outputs) = (d.extent(), d.extent(), d.extent());
        let middle = 5 + d.below(3);
        let (x, a, b) = (d.input(&[n, inputs]), d.weights(&[inputs, middle]), d.weights(&[middle, outputs]));
        let p = d.b.matmul(x, a);
        let y = d.b.matmul(p, b);
        d.output(y);
    }),
    row("conv_of_one_place_as_dot", Exactly, |d| {
        let dims = d.dims(4);
        let outputs = d.extent();
        let (x, w) = (d.input(&dims), d.weights(&[outputs, dims[1], dims[2], dims[3]]));
        let y = d.b.conv(x, w, &ConvOptions::default());
        d.output(y);
    }),
    row("pad_into_conv", Exactly, |d| {
        let dims = image(d);
        let x = d.input(&dims);
        let padding = [Padding::NONE, Padding::NONE, d.padding(), d.padding()];
        let padded = d.add(Op::Pad { padding: padding.into(), interior: vec![], value: Real(0.0) }, &[x]);
        let y = conv(d, padded, true);
        d.output(y);
    }),
    row("pad_into_window", Identically, |d| {
        let dims = d.dims(2);
        let x = d.input(&dims);
        let (reducer, value) = d.one_of(&[
            (Reducer::Sum, 0.0),
            (Reducer::Prod, 1.0),
            (Reducer::Max, f64::NEG_INFINITY),
            (Reducer::Min, f64::INFINITY),
        ]);
        let padding = vec![d.padding(), d.padding()];
        let padded = d.add(Op::Pad { padding, interior: vec![], value: Real(value) }, &[x]);
        let window = WindowOptions {
            window: vec![2, 1 + d.below(2)],
            padding: vec![d.padding(), d.padding()],
            ..Default::default()
        };
        let y = d.b.reduce_window(padded, &window, reducer);
        d.output(y);
    }),
    row("cancel_transposes", Exactly, |d| {
        let dims = d.dims(3);
        let x = d.input(&dims);
        let (p, q) = (d.permutation(3), d.permutation(3));
        let a = d.b.transpose(x, &p);
        let b = d.b.transpose(a, &q);
        let y = d.b.neg(b);
        d.output(y);
    }),
    row("cancel_reshapes", Exactly, |d| {
        let dims = d.dims(3);
        let x = d.input(&dims);
        let a = d.reshape(x, &[dims[0] * dims[1], dims[2]]);
        let to = d.one_of(&[dims.clone(), vec![dims[0], dims[1] * dims[2]]]);
        let b = d.reshape(a, &to);
        let y = d.b.neg(b);
        d.output(y);
    }),
    Row {
        rule: "transpose_after_elementwise",
        with: &["cancel_transposes"],
        how: Exactly,
        make: |d| {
            let dims = d.dims(3);
            let perm = d.permutation(3);
            let (x, z) = (d.input(&dims), d.input(&dims));
            let [p, q] = [x, z].map(|v| d.b.transpose(v, &perm));
            let s = d.b.mul(p, q);
            let mut back = vec![0; 3];
            perm.iter().enumerate().for_each(|(i, &p)| back[p] = i);
            let y = d.b.transpose(s, &back);
            d.output(y);
        },
    },
    Row {
        rule: "reshape_after_elementwise",
        with: &["cancel_reshapes"],
        how: Exactly,
        make: |d| {
            let dims = d.dims(3);
            let (x, z) = (d.input(&dims), d.input(&dims));
            let flat = [dims.iter().product()];
            let (p, q) = (d.reshape(x, &flat), d.reshape(z, &flat));
            let s = d.b.sub(p, q);
            let y = d.reshape(s, &dims);
            d.output(y);
        },
    },
    row("slice_of_concat", Exactly, |d| {
        let n = d.extent();
        let lengths = d.dims(3);
        let parts: Vec<Value> = lengths.iter().map(|&l| d.input(&[l, n])).collect();
        let joined = d.b.concat(&parts, 0);
        let part = d.below(3);
        let first: usize = lengths[..part].iter().sum();
        let start = d.below(lengths[part]);
        let column = d.below(n);
        let y = d.b.slice(joined, &[first + start, column], &[first + lengths[part], n], &[]);
        d.output(y);
    }),
    row("concat_of_slices", Exactly, |d| {
        let n = d.extent();
        let x = d.input(&[9, n]);
        let first = d.below(2);
        let ends = [first, first + 1 + d.below(2), 4 + d.below(2), 7 + d.below(2)];
        let parts: Vec<Value> = ends.windows(2).map(|w| d.b.slice(x, &[w[0], 0], &[w[1], n], &[])).collect();
        let y = d.b.concat(&parts, 0);
        d.output(y);
    }),
    row("flatten_concats", Exactly, |d| {
        let n = d.extent();
        let parts: Vec<Value> =
            (0..4).map(|_| d.extent()).collect::<Vec<_>>().iter().map(|&l| d.input(&[l, n])).collect();
        let inner = d.b.concat(&parts[..2], 0);
        let outer = if d.chance() { [inner, parts[2], parts[3]] } else { [parts[2], inner, parts[3]] };
        let y = d.b.concat(&outer, 0);
        d.output(y);
    }),
    row("elementwise_before_concat", Identically, |d| {
        let n = d.extent();
        let parts: Vec<Value> =
            (0..3).map(|_| d.extent()).collect::<Vec<_>>().iter().map(|&l| d.input(&[l, n])).collect();
        let made: Vec<Value> = parts.iter().map(|&x| d.b.neg(x)).collect();
        let joined = d.b.concat(&made, 0);
        let dims = d.extents(joined);
        let number = f64::from(d.number());
        let k = d.filled(&dims, number);
        let y = match d.below(3) {
            0 => d.b.relu(joined),
            1 => d.b.mul(joined, k),
            _ => d.b.sub(k, joined),
        };
        d.output(y);
    }),
    row("slice_before_elementwise", Exactly, |d| {
        let dims = d.tall();
        let (x, axis) = (d.input(&dims), d.below(2));
        let z = match d.below(3) {
            0 => d.input(&dims),
            1 => d.along(&dims, axis),
            _ => {
                // stretched: one row for all, or one column
                let mut narrow = dims.clone();
                narrow[axis] = 1;
                let row = d.weights(&narrow);
                d.broadcast(row, &dims, &[0, 1])
            }
        };
        let a = d.b.sub(x, z);
        d.some(a);
    }),
    row("slice_before_dot", Exactly, |d| {
        let (batch, n, k, m) = (16 + d.below(9), 16 + d.below(9), 20 + d.below(5), d.extent());
        let (x, z) = (d.input(&[n, batch, k]), d.input(&[batch, m, k]));
        let a = d.b.dot(x, z, &[1], &[0], &[2], &[2]);
        d.some(a);
    }),
    row("slice_before_normalization", Closely(1e-12), |d| {
        let dims = d.tall();
        let x = d.input(&dims);
        let a = match d.below(4) {
            0 => d.b.softmax(x, 1),
            1 => {
                let [scale, bias] = [(); 2].map(|()| d.input(&dims[1..]));
                d.b.layer_norm(x, scale, bias, 1, 0.1)
            }
            2 => d.add(Op::LogSoftmax { axis: 1 }, &[x]),
            _ => d.b.reduce(x, &[1], Reducer::Max),
        };
        let dims = d.extents(a);
        let start = d.below(4);
        let (mut from, mut to) = (vec![0; dims.len()], dims);
        (from[0], to[0]) = (start, start + 1 + d.below(2));
        let y = d.b.slice(a, &from, &to, &[]);
        d.output(y);
    }),
    row("merge_reduces", Closely(1e-12), |d| {
        let dims = d.dims(4);
        let x = d.input(&dims);
        let reducer = d.one_of(&[Reducer::Sum, Reducer::Max, Reducer::Min, Reducer::Prod]);
        let (first, second) = d.one_of(&[(vec![1], vec![2]), (vec![3], vec![0, 1]), (vec![0, 2], vec![1])]);
        let a = d.b.reduce(x, &first, reducer);
        let y = d.b.reduce(a, &second, reducer);
        d.output(y);
    }),
    row("merge_sibling_products", Exactly, |d| {
        // One row, so that slices are views. Members differ in outputs; groups in the value, or in which axis of the weights is
        // contracted.
        let inputs = d.extent();
        let shared = d.input(&[1, inputs]);
        for group in 0..1 + d.below(3) {
            let inputs = d.extent();
            let x = if group < 2 && d.chance() { shared } else { d.input(&[1, inputs]) };
            let (inputs, negated) = (d.extents(x)[1], d.chance());
            for _ in 0..2 + d.below(2) {
                let outputs = d.extent();
                let w = d.weights(&if group == 0 { [inputs, outputs] } else { [outputs, inputs] });
                let y = d.b.dot(x, w, &[], &[], &[1], &[usize::from(group > 0)]);
                let bias = d.weights(&[outputs]);
                let bias = d.broadcast(bias, &[1, outputs], &[1]);
                let y = d.b.add(y, bias);
                let y = if negated { d.b.neg(y) } else { y };
                d.output(y);
            }
        }
        // an only child
        let x = d.input(&[1, inputs]);
        let w = d.weights(&[inputs, 2]);
        let y = d.b.matmul(x, w);
        d.output(y);
    }),
    row("merge_sibling_convolutions", Exactly, |d| {
        // Joined again, so that there are no slices: all groups by one concatenation, or each by its own. Members differ in
        // outputs; groups in the value, or in the window.
        let dims = image(d);
        let shared = d.input(&dims);
        let (number, together) = (f64::from(d.number()), d.chance());
        let mut parts = Vec::new();
        for group in 0..1 + d.below(3) {
            let x = if group < 2 && d.chance() { shared } else { d.input(&dims) };
            // of the same extents whatever the window
            let (window, padding) = if group == 1 { (3, 1) } else { (1, 0) };
            let padding = vec![Padding { low: padding, high: padding }; 2];
            for _ in 0..2 + d.below(2) {
                let outputs = d.extent();
                let w = d.weights(&[outputs, dims[1], window, window]);
                let y = d.b.conv(x, w, &ConvOptions { padding: padding.clone(), ..Default::default() });
                let dims = d.extents(y);
                let shift = if number > 0.0 { d.filled(&dims, number) } else { d.along(&dims, 1) };
                parts.push(d.b.add(y, shift));
            }
            if !together {
                let y = d.b.concat(&std::mem::take(&mut parts), 1);
                d.output(y);
            }
        }
        if together {
            // what is no member goes before or behind
            let other = d.b.neg(shared);
            let at = if d.chance() { 0 } else { parts.len() };
            parts.insert(at, other);
            let y = d.b.concat(&parts, 1);
            d.output(y);
        }
    }),
    row("merge_clips", Identically, |d| {
        let dims = d.dims(3);
        let x = d.input(&dims);
        let (a, c) = (-1.0 - d.below(2) as f64 / 2.0, d.below(3) as f64 / 2.0 - 1.0);
        let p = if d.chance() { d.b.relu(x) } else { d.b.clip(x, a, 1.5) };
        let y = d.b.clip(p, c, 2.0 - c.abs());
        d.output(y);
    }),
    row("relu_before_max_pool", Identically, |d| {
        // Behind a convolution the activation costs nothing.
        let dims = image(d);
        let x = d.input(&dims);
        let x = conv(d, x, true);
        let one = Padding { low: d.below(2) as i64, high: d.below(2) as i64 };
        let padding = vec![Padding::NONE, Padding::NONE, one, one];
        let window = WindowOptions { window: vec![1, 1, 2, 2], padding, ..Default::default() };
        let p = d.b.max_pool(x, &window);
        let y = d.b.relu(p);
        d.output(y);
    }),
    row("add_of_negative", Exactly, |d| {
        let dims = d.any_dims();
        let (x, z) = (d.input(&dims), d.input(&dims));
        let n = d.b.neg(z);
        let y = if d.chance() { d.b.add(x, n) } else { d.b.sub(x, n) };
        d.output(y);
    }),
    row("product_of_negatives", Exactly, |d| {
        let dims = d.any_dims();
        let (x, z) = (d.input(&dims), d.input(&dims));
        let (p, q) = (d.b.neg(x), d.b.neg(z));
        let y = if d.chance() { d.b.mul(p, q) } else { d.b.div(p, q) };
        d.output(y);
    }),
    Row {
        rule: "store_transposed_constant",
        with: &[],
        how: Closely(1e-12),
        make: |d| {
            let dims = d.dims(2);
            let (x, w) = (d.input(&[dims[1], dims[0]]), d.weights(&dims));
            let t = d.b.transpose(w, &[1, 0]);
            let y = d.b.add(x, t);
            d.output(y);
        },
    },
    row("store_broadcast_constant", Exactly, |d| {
        let (n, inner, outputs) = (d.extent(), d.extent(), d.extent());
        let (x, vector) = (d.input(&[n, inner]), d.weights(&[outputs]));
        let w = d.broadcast(vector, &[inner, outputs], &[1]);
        let y = d.b.matmul(x, w);
        d.output(y);
    }),
    row("convolve_channels_last", Exactly, |d| {
        let dims = image(d);
        let x = d.input(&dims);
        let y = conv(d, x, true);
        d.output(y);
    }),
    row("relabel_transpose", Exactly, |d| {
        let dims = d.dims(3);
        let x = d.input(&dims);
        let perm = d.permutation(3);
        let t = d.b.transpose(x, &perm);
        let n = d.b.neg(t);
        let mut back = vec![0; 3];
        perm.iter().enumerate().for_each(|(i, &p)| back[p] = i);
        let y = d.b.transpose(n, &back);
        d.output(y);
    }),
];
