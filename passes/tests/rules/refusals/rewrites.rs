//! Refusals of the e-graph's rules.

use kiln_ir::attribute::{Padding, Reducer};
use kiln_ir::{ConvOptions, Op, Value, WindowOptions};

use super::Refusal;
use crate::draw::Draw;

/// A convolution of `x` by constant weights.
fn conv(d: &mut Draw, x: Value, groups: usize, padding: Vec<Padding>) -> Value {
    let (inputs, window) = (d.extents(x)[1] / groups, 1 + d.below(2));
    let outputs = groups * d.extent();
    let w = d.weights(&[outputs, inputs, window, window]);
    d.b.conv(x, w, &ConvOptions { padding, groups, ..Default::default() })
}

fn dot(d: &mut Draw, x: Value, axis: usize) -> Value {
    let (inner, outputs) = (d.extents(x)[axis], d.extent());
    let w = d.weights(&[inner, outputs]);
    d.b.dot(x, w, &[], &[], &[axis], &[0])
}

fn image(d: &mut Draw) -> Value {
    let dims = [1 + d.below(2), 4, 4 + d.below(2), 4 + d.below(2)];
    d.input(&dims)
}

/// A vector along an axis: never a number.
fn vector(d: &mut Draw, dims: &[usize], axis: usize) -> Value {
    let vector = d.weights(&dims[axis..=axis]);
    d.broadcast(vector, dims, &[axis])
}

/// A product of `op(x, v)`, where v lies along the axis that the product keeps.
fn across_dot(d: &mut Draw, op: fn(&mut Draw, Value, Value) -> Value) {
    let dims = d.dims(2);
    let (x, axis) = (d.input(&dims), d.below(2));
    let v = vector(d, &dims, 1 - axis);
    let x = op(d, x, v);
    let y = dot(d, x, axis);
    d.output(y);
}

/// `op(op(x, a), b)` where the inner value is an output as well, or one of a and b is fed.
fn chain(d: &mut Draw, inner: Op, outer: Op) {
    let dims = d.dims(2);
    let x = d.input(&dims);
    let fed = d.below(3);
    let [a, b] = [0, 1].map(|i| if fed == i { d.input(&dims) } else { d.weights(&dims) });
    let p = d.add(inner, &[x, a]);
    let y = d.add(outer, &[p, b]);
    if fed == 2 {
        d.output(p);
    }
    d.output(y);
}

pub const REFUSALS: &[Refusal] = &[
    ("merge_scales", |d| chain(d, Op::Mul {}, Op::Mul {})),
    ("merge_shifts", |d| chain(d, Op::Add {}, Op::Add {})),
    ("scale_before_shift", |d| chain(d, Op::Add {}, Op::Mul {})),
    ("div_by_constant", |d| {
        // Among the elements a zero, no power of two, or one whose reciprocal is not normal.
        let dims = d.dims(2);
        let x = d.input(&dims);
        let mut values = vec![2.0f32; dims[0] * dims[1]];
        let at = d.below(values.len());
        values[at] = d.one_of(&[0.0, 3.0, 0.1, -41.0, 2f32.powi(127), 2f32.powi(-128)]);
        let a = d.b.constant(kiln_ir::Tensor::from_slice(&dims, &values).unwrap());
        let y = d.b.div(x, a);
        d.output(y);
    }),
    ("constant_before_broadcast", |d| {
        // Vectors along two axes, or one that is fed.
        let dims = d.dims(2);
        let (x, p) = (d.input(&dims), vector(d, &dims, 0));
        let q = if d.chance() {
            vector(d, &dims, 1)
        } else {
            let fed = d.input(&dims[..1]);
            d.broadcast(fed, &dims, &[0])
        };
        let k = d.b.mul(p, q);
        let y = d.b.add(x, k);
        d.output(y);
    }),
    ("fold_scale_into_conv", |d| {
        let x = image(d);
        let y = conv(d, x, 1, vec![]);
        let dims = d.extents(y);
        // Along the image, fed, or of a convolution that something else uses.
        let scale = match d.below(3) {
            0 => {
                let axis = 2 + d.below(2);
                vector(d, &dims, axis)
            }
            1 => d.input(&dims),
            _ => {
                d.output(y);
                vector(d, &dims, 1)
            }
        };
        let y = d.b.mul(y, scale);
        d.output(y);
    }),
    ("fold_scale_into_dot", |d| {
        let dims = d.dims(2);
        let x = d.input(&dims);
        let y = dot(d, x, 1);
        let dims = d.extents(y);
        let scale = match d.below(4) {
            0 => vector(d, &dims, 0),
            1 => d.input(&dims),
            // Weights over it could be infinite, or have no digits left.
            2 => {
                let divisor = d.one_of(&[0.0, 0.5, 1e-20, 1e20, f64::INFINITY]);
                let divisor = d.filled(&dims, divisor);
                let y = d.b.div(y, divisor);
                return d.output(y);
            }
            _ => {
                d.output(y);
                vector(d, &dims, 1)
            }
        };
        let y = d.b.mul(y, scale);
        d.output(y);
    }),
    ("fold_input_scale_into_conv", |d| {
        let x = image(d);
        let dims = d.extents(x);
        let (axis, groups) = d.one_of(&[(2, 1), (3, 1), (1, 2), (1, 4)]);
        let scale = vector(d, &dims, axis);
        let x = d.b.mul(x, scale);
        let y = conv(d, x, groups, vec![]);
        d.output(y);
    }),
    ("fold_input_scale_into_dot", |d| across_dot(d, |d, x, scale| d.b.mul(x, scale))),
    ("fold_input_shift_into_conv", |d| {
        // Padding puts in zeros that are not shifted; groups; along the image; another user.
        let x = image(d);
        let dims = d.extents(x);
        let kind = d.below(4);
        let shift = vector(d, &dims, if kind == 0 { 2 } else { 1 });
        let x = d.b.add(x, shift);
        let padding = if kind == 1 { vec![Padding { low: 1, high: 0 }; 2] } else { vec![] };
        let y = conv(d, x, if kind == 2 { 2 } else { 1 }, padding);
        if kind == 3 {
            d.output(x);
        }
        d.output(y);
    }),
    ("fold_input_shift_into_dot", |d| across_dot(d, |d, x, shift| d.b.add(x, shift))),
    ("merge_constant_products", |d| {
        // Through a bottleneck, whose product has more weights.
        let n = d.extent();
        let x = d.input(&[n, 6]);
        let (a, b) = (d.weights(&[6, 2]), d.weights(&[2, 6]));
        let p = d.b.matmul(x, a);
        let y = d.b.matmul(p, b);
        d.output(y);
    }),
    ("conv_of_one_place_as_dot", |d| {
        // Two places along an axis, padding, or groups.
        let (n, kind) = (d.extent(), d.below(3));
        let x = d.input(&[1, 2, n + usize::from(kind == 0), n]);
        let groups = if kind == 1 { 2 } else { 1 };
        let w = d.weights(&[4, 2 / groups, n, n]);
        let padding = if kind == 2 { vec![Padding { low: 1, high: 0 }, Padding::NONE] } else { vec![] };
        let y = d.b.conv(x, w, &ConvOptions { padding, groups, ..Default::default() });
        d.output(y);
    }),
    ("pad_into_conv", |d| {
        // With another number than zero, or of the channels.
        let x = image(d);
        let ones = d.chance();
        let one = Padding { low: d.below(2) as i64, high: 1 };
        let (channels, height) = if ones { (Padding::NONE, one) } else { (one, Padding::NONE) };
        let x = d.b.pad(x, &[Padding::NONE, channels, height, Padding::NONE], if ones { 1.0 } else { 0.0 });
        let y = conv(d, x, 1, vec![]);
        d.output(y);
    }),
    ("pad_into_window", |d| {
        let dims = d.dims(2);
        let x = d.input(&dims);
        let (reducer, value) = d.one_of(&[(Reducer::Max, 0.0), (Reducer::Sum, 1.0), (Reducer::Min, f64::NEG_INFINITY)]);
        let padding = Padding { low: 1, high: d.below(2) as i64 };
        let x = d.b.pad(x, &[padding, Padding::NONE], value);
        let y = d.b.reduce_window(x, &WindowOptions { window: vec![2, 1], ..Default::default() }, reducer);
        d.output(y);
    }),
    ("cancel_transposes", |d| {
        let dims = d.dims(2);
        let x = d.input(&dims);
        let a = d.b.transpose(x, &[1, 0]);
        let b = d.b.relu(a);
        let y = d.b.transpose(b, &[1, 0]);
        d.output(y);
    }),
    ("cancel_reshapes", |d| {
        let dims = d.dims(2);
        let x = d.input(&dims);
        let a = d.reshape(x, &[dims[0] * dims[1], 1]);
        let b = d.b.transpose(a, &[1, 0]);
        let y = d.reshape(b, &[dims[0], 1, dims[1]]);
        d.output(y);
    }),
    ("transpose_after_elementwise", |d| {
        // One operand is not transposed, is in another order, or the transposed value has another user.
        let n = d.extent();
        let (x, z) = (d.input(&[n, n, n]), d.input(&[n, n, n]));
        let kind = d.below(3);
        let a = d.b.transpose(x, &[1, 2, 0]);
        let b = match kind {
            0 => z,
            1 => d.b.transpose(z, &[2, 0, 1]),
            _ => d.b.transpose(z, &[1, 2, 0]),
        };
        if kind == 2 {
            d.output(a);
        }
        let y = d.b.add(a, b);
        d.output(y);
    }),
    ("reshape_after_elementwise", |d| {
        let (n, m) = (d.extent(), d.extent());
        let (x, flat) = (d.input(&[n, m]), [n * m]);
        let a = d.reshape(x, &flat);
        let b = match d.below(3) {
            0 => d.input(&flat),
            1 => d.weights(&flat),
            _ => {
                let z = d.input(&[m, 1, n]);
                d.reshape(z, &flat)
            }
        };
        let y = d.b.mul(a, b);
        d.output(y);
    }),
    ("slice_of_concat", |d| {
        // Across the seam.
        let (n, m) = (d.extent(), d.extent());
        let parts = [d.input(&[n]), d.input(&[m])];
        let joined = d.b.concat(&parts, 0);
        let (start, end) = (d.below(n), n + 1 + d.below(m));
        let y = d.b.slice(joined, &[start], &[end], &[]);
        d.output(y);
    }),
    ("concat_of_slices", |d| {
        // A gap, an overlap, the wrong order, a step, or two sources.
        let (x, z) = (d.input(&[9]), d.input(&[9]));
        let a = d.b.slice(x, &[1], &[4], &[]);
        let b = match d.below(5) {
            0 => d.b.slice(x, &[5], &[7], &[]),
            1 => d.b.slice(x, &[3], &[7], &[]),
            2 => d.b.slice(x, &[0], &[1], &[]),
            3 => d.b.slice(x, &[4], &[8], &[2]),
            _ => d.b.slice(z, &[4], &[7], &[]),
        };
        let y = d.b.concat(&[a, b], 0);
        d.output(y);
    }),
    ("flatten_concats", |d| {
        let (n, m) = (d.extent(), d.extent());
        let parts = [d.input(&[n, m]), d.input(&[n, m])];
        let a = d.b.concat(&parts, 1);
        let z = d.input(&[n, 2 * m]);
        let y = d.b.concat(&[a, z], 0);
        d.output(y);
    }),
    ("elementwise_before_concat", |d| {
        // The joined value is needed, f takes another value, or no part has anything to take f in.
        let (n, kind) = (d.extent(), d.below(3));
        let (x, z) = (d.input(&[n, 3]), d.input(&[n, 2]));
        let [a, b] = if kind == 2 { [x, z] } else { [d.b.neg(x), d.b.neg(z)] };
        let joined = d.b.concat(&[a, b], 1);
        if kind == 0 {
            d.output(joined);
        }
        let y = if kind == 1 {
            let other = d.input(&[n, 5]);
            d.b.mul(joined, other)
        } else {
            d.b.relu(joined)
        };
        d.output(y);
    }),
    ("slice_before_elementwise", |d| {
        let dims = d.tall();
        let x = d.input(&dims);
        let a = d.b.exp(x);
        d.output(a);
        d.some(a);
    }),
    ("slice_before_dot", |d| {
        let dims = d.tall();
        let x = d.input(&dims);
        let a = dot(d, x, 1);
        d.output(a);
        d.some(a);
    }),
    ("slice_before_normalization", |d| {
        let dims = d.tall();
        let x = d.input(&dims);
        let a = d.b.softmax(x, 1);
        let (start, more) = (d.below(4), 1 + d.below(3));
        let y = d.b.slice(a, &[0, start], &[1, start + more], &[]);
        d.output(y);
    }),
    ("merge_reduces", |d| {
        let dims = d.dims(3);
        let (x, same, axis) = (d.input(&dims), d.chance(), d.below(3));
        let a = d.b.reduce(x, &[axis], Reducer::Sum);
        if same {
            d.output(a);
        }
        let y = d.b.reduce(a, &[0], if same { Reducer::Sum } else { Reducer::Max });
        d.output(y);
    }),
    ("merge_sibling_products", |d| {
        // Several rows, two values, or fed weights.
        let (n, kind) = (d.extent(), d.below(3));
        let x = d.input(&[if kind == 0 { 16 } else { 1 }, n]);
        let z = if kind == 1 { d.input(&[1, n]) } else { x };
        for x in [x, z] {
            let outputs = d.extent();
            let w = if kind == 2 { d.input(&[n, outputs]) } else { d.weights(&[n, outputs]) };
            let y = d.b.matmul(x, w);
            d.output(y);
        }
    }),
    ("merge_sibling_convolutions", |d| {
        // Another window, stride or padding, or groups.
        let (x, kind) = (image(d), d.below(4));
        let with = |window: usize, stride: usize, low: i64, groups: usize| (window, stride, low, groups);
        let other = [with(2, 1, 0, 1), with(1, 2, 0, 1), with(1, 1, 1, 1), with(1, 1, 0, 2)][kind];
        for (window, stride, low, groups) in [with(1, 1, 0, 1), other] {
            let w = d.weights(&[2, 4 / groups, window, window]);
            let padding = vec![Padding { low, high: 0 }; 2];
            let y = d.b.conv(x, w, &ConvOptions { strides: vec![stride; 2], padding, groups, ..Default::default() });
            d.output(y);
        }
    }),
    ("merge_clips", |d| {
        // Apart: what lies between them is not an interval.
        let dims = d.dims(2);
        let x = d.input(&dims);
        let low = d.below(4) as f64;
        let a = d.b.clip(x, low, low + 1.0);
        let y = d.b.clip(a, low + 2.0, low + 3.0);
        d.output(y);
    }),
    ("relu_before_max_pool", |d| {
        // Windows of padding only, of another reducer, or a pool with another user.
        let dims = d.dims(2);
        let (x, kind) = (d.input(&dims), d.below(3));
        let padding = if kind == 0 { vec![Padding { low: 2, high: 0 }, Padding::NONE] } else { vec![] };
        let reducer = if kind == 1 { Reducer::Sum } else { Reducer::Max };
        let a = d.b.reduce_window(x, &WindowOptions { window: vec![2, 1], padding, ..Default::default() }, reducer);
        if kind == 2 {
            d.output(a);
        }
        let y = d.b.relu(a);
        d.output(y);
    }),
    ("add_of_negative", |d| {
        // −x + z: the rule is of the second operand.
        let dims = d.dims(2);
        let (x, z) = (d.input(&dims), d.input(&dims));
        let n = d.b.neg(x);
        let y = d.b.add(n, z);
        d.output(y);
    }),
    ("product_of_negatives", |d| {
        let dims = d.dims(2);
        let (x, z) = (d.input(&dims), d.input(&dims));
        let n = d.b.neg(x);
        let y = if d.chance() { d.b.mul(n, z) } else { d.b.div(z, n) };
        d.output(y);
    }),
];
