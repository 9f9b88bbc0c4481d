//! Refusals of the rules of canonicalisation, and of the one of variables.

use kiln_ir::attribute::{Padding, Real, Reducer};
use kiln_ir::{ConvOptions, DType, Initializer, Op, Tensor, Value};

use super::Refusal;
use crate::draw::{Draw, fixed};

/// Padding of one element at one end.
const ONE: Padding = Padding { low: 1, high: 0 };

fn integers(d: &mut Draw, dims: &[usize]) -> Value {
    d.input_of("n", DType::I32, dims)
}

fn number(d: &mut Draw, dtype: DType, dims: &[usize], value: f64) -> Value {
    let number = d.b.scalar(dtype, value);
    d.broadcast(number, dims, &[])
}

fn window(d: &mut Draw, x: Value, [window, strides]: [Vec<usize>; 2], padding: Vec<Padding>) {
    let reducer = d.one_of(&[Reducer::Sum, Reducer::Max]);
    let y = d.add(Op::ReduceWindow { window, strides, padding, dilation: vec![], reducer }, &[x]);
    d.output(y);
}

pub const REFUSALS: &[Refusal] = &[
    ("constant_from_variable", |d| {
        let dims = d.any_dims();
        let count: usize = dims.iter().product();
        let value = Tensor::from_slice(&dims, &vec![1.0f32; count]).unwrap();
        let (x, v) = (d.input(&dims), d.b.variable("v", DType::F32, &dims, Initializer::Value(value.into())));
        let y = d.b.mul(x, v);
        d.b.assign("v", y);
        d.output(y);
    }),
    ("merge_common_subexpressions", |d| {
        // Another op, another operand, another order, or another attribute.
        let n = d.extent();
        let (x, z) = (d.input(&[n, n]), d.input(&[n, n]));
        let [a, b] = match d.below(4) {
            0 => [d.b.add(x, z), d.b.mul(x, z)],
            1 => [d.b.sub(x, z), d.b.sub(x, x)],
            2 => [d.b.sub(x, z), d.b.sub(z, x)],
            _ => [d.b.reduce(x, &[0], Reducer::Sum), d.b.reduce(x, &[1], Reducer::Sum)],
        };
        d.output(a);
        d.output(b);
    }),
    ("drop_identity_movement", |d| {
        let dims = d.dims(2);
        let (x, z) = (d.input(&dims), d.input(&dims));
        let (rows, columns) = (dims[0], dims[1]);
        let padding = vec![ONE, Padding::NONE];
        let y = match d.below(8) {
            0 => d.reshape(x, &[rows, 1, columns]),
            1 => d.b.transpose(x, &[1, 0]),
            2 => d.broadcast(x, &[rows, 3, columns], &[0, 2]),
            3 => d.b.slice(x, &[1, 0], &[rows, columns], &[]),
            4 => d.add(Op::Pad { padding, interior: vec![], value: Real(0.0) }, &[x]),
            5 => d.b.concat(&[x, z], 1),
            6 => d.add(Op::Reverse { axes: vec![1] }, &[x]),
            _ => d.b.convert(x, DType::F64),
        };
        d.output(y);
    }),
    ("merge_reshapes", |d| {
        let dims = d.dims(2);
        let x = d.input(&dims);
        let a = d.reshape(x, &[dims[0] * dims[1]]);
        let b = d.b.exp(a);
        let y = d.reshape(b, &[dims[1], dims[0]]);
        d.output(y);
    }),
    ("merge_transposes", |d| {
        let dims = d.dims(3);
        let x = d.input(&dims);
        let [p, q] = [d.permutation(3), d.permutation(3)];
        let a = d.b.transpose(x, &p);
        let b = d.b.exp(a);
        let y = d.b.transpose(b, &q);
        d.output(y);
    }),
    ("transpose_as_reshape", |d| {
        let dims = d.dims(3);
        let (x, perm) = (d.input(&dims), d.permutation(3));
        let y = d.b.transpose(x, &perm);
        d.output(y);
    }),
    ("transpose_before_broadcast", |d| {
        // What is transposed is not the broadcast.
        let dims = d.dims(2);
        let (x, vector) = (d.input(&dims), d.input(&dims[1..]));
        let wide = d.broadcast(vector, &dims, &[1]);
        let sum = d.b.add(x, wide);
        let y = d.b.transpose(sum, &[1, 0]);
        d.output(y);
    }),
    ("broadcast_as_reshape", |d| {
        let dims = d.dims(2);
        let y = if d.chance() {
            let axis = d.below(2);
            let x = d.input(&dims[axis..=axis]);
            d.broadcast(x, &dims, &[axis])
        } else {
            // a number stays one
            let x = d.input(&[]);
            d.broadcast(x, &[1, 1], &[])
        };
        d.output(y);
    }),
    ("squeeze_broadcast", |d| {
        let dims = d.dims(3);
        let axes = d.one_of(&[vec![], vec![1], vec![0, 2]]);
        let x = d.input(&axes.iter().map(|&a| dims[a]).collect::<Vec<_>>());
        let y = d.broadcast(x, &dims, &axes);
        d.output(y);
    }),
    ("merge_broadcasts", |d| {
        let dims = d.dims(3);
        let x = d.input(&dims[1..2]);
        let a = d.broadcast(x, &dims[1..], &[0]);
        let b = d.b.exp(a);
        let y = d.broadcast(b, &dims, &[1, 2]);
        d.output(y);
    }),
    ("reshape_uniform", |d| {
        // A vector, or a number that is moved by another op.
        let dims = d.dims(2);
        let vector = d.chance();
        let k = if vector {
            let vector = d.weights(&dims[1..]);
            d.broadcast(vector, &dims, &[1])
        } else {
            d.filled(&dims, 2.0)
        };
        let y = match (vector, d.chance()) {
            (true, true) => d.reshape(k, &[dims[0] * dims[1]]),
            (true, false) => d.b.slice(k, &[1, 0], &[dims[0], 1], &[]),
            (false, _) => d.b.transpose(k, &[1, 0]),
        };
        d.output(y);
    }),
    ("merge_slices", |d| {
        // With something between, or of nothing beyond the end of what is cut.
        let x = d.input(&[20]);
        let a = d.b.slice(x, &[0], &[20], &[7]);
        let y = if d.chance() {
            let b = d.b.exp(a);
            d.b.slice(b, &[1], &[3], &[])
        } else {
            d.b.slice(a, &[3], &[3], &[])
        };
        d.output(y);
    }),
    ("merge_pads", |d| {
        let dims = d.dims(2);
        let (x, kind) = (d.input(&dims), d.below(3));
        let padding = vec![ONE, d.padding()];
        let interior = |on: bool| if on { vec![1, 0] } else { vec![] };
        let a = d.add(Op::Pad { padding: padding.clone(), interior: interior(kind == 0), value: Real(1.0) }, &[x]);
        let value = Real(if kind == 1 { 2.0 } else { 1.0 });
        let y = d.add(Op::Pad { padding, interior: interior(kind == 2), value }, &[a]);
        d.output(y);
    }),
    ("drop_empty_parts", |d| {
        // Nothing is empty, or everything.
        let (n, parts) = (d.extent(), 2 + d.below(2));
        let empty = d.chance();
        let parts: Vec<Value> = (0..parts).map(|_| d.input(&[if empty { 0 } else { n }, n])).collect();
        let y = d.b.concat(&parts, 0);
        d.output(y);
    }),
    ("merge_converts", |d| {
        // The first of two loses something.
        let dims = d.any_dims();
        let (from, middle) = d.one_of(&[
            (DType::I64, DType::I32),
            (DType::I32, DType::F32),
            (DType::F64, DType::F32),
            (DType::F32, DType::F16),
            (DType::F32, DType::Bool),
            (DType::I8, DType::U8),
        ]);
        let x = d.input_of("x", from, &dims);
        let a = d.b.convert(x, middle);
        let y = d.b.convert(a, DType::F64);
        d.output(y);
    }),
    ("gather_as_slice", |d| {
        let n = d.extent();
        let x = d.input(&[9, n]);
        let list = d.one_of(&[vec![0i64, 1, 3], vec![2, 2], vec![3, 2], vec![1, 4, 7, 8], vec![0, 2, 2]]);
        let indices = if d.chance() {
            d.b.constant(Tensor::from_slice(&[list.len()], &list).unwrap())
        } else {
            d.input_of("n", DType::I64, &[2])
        };
        let y = d.b.gather(x, indices, 0);
        d.output(y);
    }),
    ("fill_uniform", |d| {
        // Two values (as bits: the zeros differ), or one element.
        let dims = d.dims(2);
        let mut values = vec![0.0f32; dims[0] * dims[1]];
        let at = d.below(values.len());
        values[at] = d.one_of(&[-0.0, 1.0, f32::NAN]);
        let (x, one) = (d.input(&dims), d.chance());
        let dims = if one { vec![] } else { dims };
        let k = d.b.constant(Tensor::from_slice(&dims, if one { &[3.0] } else { &values }).unwrap());
        let y = if one { k } else { d.b.mul(x, k) };
        d.output(y);
    }),
    ("elementwise_before_broadcast", |d| {
        // Along two axes, or not all broadcast.
        let n = d.extent();
        let (p, q) = (d.input(&[n]), d.input(&[n]));
        let a = d.broadcast(p, &[n, n], &[0]);
        let b = if d.chance() { d.broadcast(q, &[n, n], &[1]) } else { d.input(&[n, n]) };
        let y = d.b.add(a, b);
        d.output(y);
    }),
    ("fold_constants", |d| {
        // One is fed, or the result is much larger than what it is made of.
        let dims = d.dims(2);
        let y = if d.chance() {
            let (x, w) = (d.input(&dims), d.weights(&dims));
            if d.chance() { d.b.sub(w, x) } else { d.b.mul(x, w) }
        } else {
            let dims = [130 + d.below(9), 130];
            let axis = d.below(2);
            d.add(Op::Iota { dtype: DType::F32, dims: fixed(&dims), axis }, &[])
        };
        d.output(y);
    }),
    ("drop_trivial_reduce", |d| {
        let dims = d.dims(2);
        let (x, kind) = (d.input(&[1, dims[0], dims[1]]), d.below(4));
        if kind == 0 {
            let axes = d.one_of(&[vec![1], vec![0, 2], vec![0, 1, 2]]);
            let y = d.b.reduce(x, &axes, Reducer::Sum);
            return d.output(y);
        }
        let of = |at: usize| if kind == at { vec![1, 2, 1] } else { vec![1; 3] };
        let padding = if kind == 3 { vec![Padding::NONE, ONE, Padding::NONE] } else { vec![] };
        window(d, x, [of(1), of(2)], padding);
    }),
    ("global_window_as_reduce", |d| {
        // Less than the axis, beyond it, or steps along another one.
        let dims = [3 + d.below(2), 4];
        let (x, kind) = (d.input(&dims), d.below(3));
        let padding = if kind == 1 { vec![ONE, Padding::NONE] } else { vec![] };
        let rows = dims[0] - usize::from(kind == 0);
        window(d, x, [vec![rows, 1], vec![1, if kind == 2 { 2 } else { 1 }]], padding);
    }),
    ("constant_second", |d| {
        // The constant is second, both are, none is, or the order matters.
        let dims = d.any_dims();
        let (x, z, k, l) = (d.input(&dims), d.input(&dims), d.weights(&dims), d.weights(&dims));
        let y = match d.below(4) {
            0 => d.b.mul(x, k),
            1 => d.b.add(k, l),
            2 => d.b.maximum(x, z),
            _ => d.b.sub(k, x),
        };
        d.output(y);
    }),
    ("sub_as_add", |d| {
        let dims = d.any_dims();
        let (x, z, k, l) = (d.input(&dims), d.input(&dims), d.weights(&dims), d.weights(&dims));
        let y = match d.below(3) {
            0 => d.b.sub(k, x),
            1 => d.b.sub(x, z),
            _ => d.b.sub(k, l),
        };
        d.output(y);
    }),
    ("drop_neutral_operand", |d| {
        // Another number, on the other side, fed, or not the same everywhere.
        let dims = d.dims(2);
        let (x, zero, one) = (d.input(&dims), d.filled(&dims, 0.0), d.filled(&dims, 1.0));
        let y = match d.below(8) {
            0 => d.b.add(x, one),
            1 => d.b.mul(x, zero),
            2 => d.b.sub(zero, x),
            3 => d.b.div(one, x),
            4 => d.b.pow(x, zero),
            5 => d.b.maximum(x, zero),
            6 => {
                let fed = d.input(&[]);
                let fed = d.broadcast(fed, &dims, &[]);
                d.b.mul(x, fed)
            }
            _ => {
                let mostly = d.weights(&dims[1..]);
                let mostly = d.broadcast(mostly, &dims, &[1]);
                d.b.add(x, mostly)
            }
        };
        d.output(y);
    }),
    ("simplify_power", |d| {
        // Another power, one that is fed or differs, a root of what may be negative, or integers.
        let dims = d.dims(2);
        let x = d.input(&dims);
        let y = match d.below(5) {
            0 => {
                let power = d.one_of(&[3.0, -2.0, 0.25, 1.5]);
                let k = d.filled(&dims, power);
                d.b.pow(x, k)
            }
            1 => {
                let power = d.one_of(&[0.5, -0.5]);
                let k = d.filled(&dims, power);
                d.b.pow(x, k)
            }
            2 => {
                let fed = d.input(&dims);
                d.b.pow(x, fed)
            }
            3 => {
                let k = d.weights(&dims);
                d.b.pow(x, k)
            }
            _ => {
                let n = integers(d, &dims);
                let two = number(d, DType::I32, &dims, 2.0);
                d.b.pow(n, two)
            }
        };
        d.output(y);
    }),
    ("simplify_unary", |d| {
        let dims = d.any_dims();
        let both: [[Op; 2]; 7] = [
            [Op::Abs {}, Op::Neg {}],
            [Op::Relu {}, Op::Abs {}],
            [Op::Neg {}, Op::Relu {}],
            [Op::Neg {}, Op::Reciprocal {}],
            [Op::Rsqrt {}, Op::Sqrt {}],
            [Op::Tanh {}, Op::Relu {}],
            [Op::Exp {}, Op::Neg {}],
        ];
        let y = if d.below(4) == 0 {
            // the absolute value of the least integer is negative
            let n = integers(d, &dims);
            let a = d.b.abs(n);
            d.add(Op::Relu {}, &[a])
        } else {
            let (x, [first, second]) = (d.input(&dims), d.one_of(&both));
            let a = d.add(first, &[x]);
            d.add(second, &[a])
        };
        d.output(y);
    }),
    ("div_as_reciprocal", |d| {
        let dims = d.any_dims();
        let (x, two) = (d.input(&dims), d.filled(&dims, 2.0));
        let y = match d.below(4) {
            0 => d.b.div(two, x),
            1 => {
                let one = d.filled(&dims, 1.0);
                d.b.div(x, one)
            }
            2 => {
                let z = d.input(&dims);
                d.b.div(z, x)
            }
            _ => {
                let (n, one) = (integers(d, &dims), number(d, DType::I32, &dims, 1.0));
                d.b.div(one, n)
            }
        };
        d.output(y);
    }),
    ("limits_as_clip", |d| {
        // A vector, fed, no number, integers, on the left, or another interval.
        let dims = d.dims(2);
        let x = d.input(&dims);
        let k = match d.below(6) {
            0 => {
                let vector = d.weights(&dims[1..]);
                d.broadcast(vector, &dims, &[1])
            }
            1 => d.input(&dims),
            2 => d.filled(&dims, f64::NAN),
            3 => {
                let (n, k) = (integers(d, &dims), number(d, DType::I32, &dims, 0.0));
                let y = d.b.maximum(n, k);
                return d.output(y);
            }
            4 => {
                let k = d.filled(&dims, 0.0);
                let y = d.b.maximum(k, x);
                return d.output(y);
            }
            _ => {
                let y = if d.chance() { d.b.clip(x, 0.0, 6.0) } else { d.b.clip(x, -1.0, f64::INFINITY) };
                return d.output(y);
            }
        };
        let y = if d.chance() { d.b.maximum(x, k) } else { d.b.minimum(x, k) };
        d.output(y);
    }),
    ("select_by_constant", |d| {
        // Fed, or known and not the same everywhere.
        let dims = d.dims(2);
        let (x, z) = (d.input(&dims), d.input(&dims));
        let condition = if d.chance() {
            d.input_of("condition", DType::Bool, &dims)
        } else {
            let known: Vec<bool> = (0..dims[1]).map(|i| i == 0).collect();
            let known = d.b.constant(Tensor::from_slice(&dims[1..], &known).unwrap());
            d.broadcast(known, &dims, &[1])
        };
        let y = d.b.select(condition, x, z);
        d.output(y);
    }),
    ("decompose_batch_norm", |d| {
        // Another normalisation.
        let dims = d.dims(2);
        let x = d.input(&dims);
        let (scale, bias) = (d.weights(&dims[1..]), d.weights(&dims[1..]));
        let y = d.b.layer_norm(x, scale, bias, 1, 0.01);
        d.output(y);
    }),
    ("sort_contracted_axes", |d| {
        // In order on the left, whatever the order is on the right.
        let (n, m, outputs) = (d.extent(), d.extent(), d.extent());
        let (x, w) = (d.input(&[n, m, 2]), d.weights(&[m, outputs, n]));
        let (left, right) = if d.chance() { (vec![0, 1], vec![2, 0]) } else { (vec![1], vec![0]) };
        let y = d.b.dot(x, w, &[], &[], &left, &right);
        d.output(y);
    }),
    ("drop_default_windows", |d| {
        // Nothing is said, or something that is no default.
        let (x, w) = (d.input(&[1, 2, 5, 5]), d.weights(&[2, 2, 2, 2]));
        let list = d.one_of(&[vec![2, 1], vec![1, 2], vec![2, 2]]);
        let options = match d.below(5) {
            0 => ConvOptions { strides: list, ..Default::default() },
            1 => ConvOptions { lhs_dilation: list, ..Default::default() },
            2 => ConvOptions { rhs_dilation: list, ..Default::default() },
            3 => ConvOptions { padding: vec![ONE, Padding::NONE], ..Default::default() },
            _ => ConvOptions::default(),
        };
        let y = d.b.conv(x, w, &options);
        d.output(y);
    }),
];
