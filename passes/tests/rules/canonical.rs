//! Rules of canonicalisation, and the one of variables.

use kiln_ir::attribute::{Padding, Real, Reducer};
use kiln_ir::{ConvOptions, DType, Initializer, Op, Tensor};

use crate::How::{Closely, Exactly, Identically};
use crate::Row;
use crate::draw::{Draw, fixed};

/// A row of a rule that needs no other.
const fn row(rule: &'static str, how: crate::How, make: fn(&mut Draw)) -> Row {
    Row { rule, with: &[], how, make }
}

pub const ROWS: &[Row] = &[
    row("constant_from_variable", Exactly, |d| {
        let dims = d.any_dims();
        let (x, seed) = (d.input(&dims), d.below(1000) as u64);
        let init = Initializer::Value(Tensor::from_f64(DType::F32, &dims, &integers(seed, &dims)).unwrap().into());
        let v = d.b.variable("v", DType::F32, &dims, init);
        let y = d.b.mul(x, v);
        d.output(y);
    }),
    row("drop_identity_movement", Exactly, |d| {
        let dims = d.any_dims();
        let (x, rank) = (d.input(&dims), dims.len());
        let op = match d.below(7) {
            0 => Op::Reshape { dims: fixed(&dims) },
            1 => Op::Transpose { perm: (0..rank).collect() },
            2 => Op::Broadcast { dims: fixed(&dims), axes: (0..rank).collect() },
            3 => Op::Slice { start: vec![0; rank], limit: dims.clone(), stride: vec![] },
            4 => Op::Pad { padding: vec![Padding::NONE; rank], interior: vec![], value: Real(1.0) },
            5 => Op::Concat { axis: 0 },
            _ => Op::Reverse { axes: vec![] },
        };
        let moved = d.add(op, &[x]);
        let y = d.b.neg(moved);
        d.output(y);
    }),
    row("merge_reshapes", Exactly, |d| {
        let dims = d.dims(3);
        let x = d.input(&dims);
        let a = d.reshape(x, &[dims[0] * dims[1], dims[2]]);
        let y = d.reshape(a, &[dims[0], dims[1] * dims[2]]);
        d.output(y);
    }),
    row("merge_transposes", Exactly, |d| {
        let dims = d.dims(3);
        let x = d.input(&dims);
        let (p, q) = (d.permutation(3), d.permutation(3));
        let a = d.b.transpose(x, &p);
        let y = d.b.transpose(a, &q);
        d.output(y);
    }),
    row("transpose_as_reshape", Exactly, |d| {
        let (n, m) = (d.extent(), d.extent());
        let (dims, perm) = d.one_of(&[([n, 1, m], [1, 0, 2]), ([n, 1, m], [0, 2, 1]), ([1, n, m], [1, 2, 0])]);
        let x = d.input(&dims);
        let y = d.b.transpose(x, &perm);
        d.output(y);
    }),
    row("transpose_before_broadcast", Exactly, |d| {
        let dims = d.dims(3);
        let axes = d.one_of(&[vec![0], vec![1], vec![2], vec![0, 1], vec![0, 2], vec![1, 2]]);
        let x = d.input(&axes.iter().map(|&a| dims[a]).collect::<Vec<_>>());
        let wide = d.broadcast(x, &dims, &axes);
        let perm = d.permutation(3);
        let y = d.b.transpose(wide, &perm);
        d.output(y);
    }),
    row("broadcast_as_reshape", Exactly, |d| {
        let dims = d.dims(2);
        let x = d.input(&dims);
        let (to, axes) = d.one_of(&[
            ([1, dims[0], dims[1]], [1, 2]),
            ([dims[0], 1, dims[1]], [0, 2]),
            ([dims[0], dims[1], 1], [0, 1]),
        ]);
        let y = d.broadcast(x, &to, &axes);
        d.output(y);
    }),
    row("squeeze_broadcast", Exactly, |d| {
        let dims = d.dims(3);
        let narrow = d.one_of(&[[1, dims[1], dims[2]], [dims[0], 1, dims[2]], [dims[0], 1, 1]]);
        let x = d.input(&narrow);
        let y = d.broadcast(x, &dims, &[0, 1, 2]);
        d.output(y);
    }),
    row("merge_broadcasts", Exactly, |d| {
        let dims = d.dims(3);
        let x = d.input(&dims[1..2]);
        let (first, second) = if d.chance() { ([1, 2], 0) } else { ([0, 1], 1) };
        let middle: Vec<usize> = first.iter().map(|&a| dims[a]).collect();
        let a = d.broadcast(x, &middle, &[second]);
        let y = d.broadcast(a, &dims, &first);
        d.output(y);
    }),
    row("reshape_uniform", Exactly, |d| {
        let dims = d.dims(2);
        let number = d.number();
        let k = d.filled(&dims, number.into());
        let moved =
            if d.chance() { d.reshape(k, &[dims[0] * dims[1]]) } else { d.b.slice(k, &[1, 0], &[dims[0], 1], &[]) };
        let dims = d.extents(moved);
        let x = d.input(&dims);
        let y = d.b.mul(x, moved);
        d.output(y);
    }),
    row("merge_slices", Exactly, |d| {
        let x = d.input(&[20]);
        let (s, k, t, l) = (d.below(4), 1 + d.below(3), d.below(3), 1 + d.below(3));
        let a = d.b.slice(x, &[s], &[19], &[k]);
        let n = d.extents(a)[0];
        let y = d.b.slice(a, &[t], &[n], &[l]);
        d.output(y);
    }),
    row("merge_pads", Exactly, |d| {
        let dims = d.dims(2);
        let (x, value) = (d.input(&dims), f64::from(d.number()));
        let [p, q] = [(); 2].map(|()| [d.padding(), d.padding()]);
        let a = d.b.pad(x, &p, value);
        let y = d.b.pad(a, &q, value);
        d.output(y);
    }),
    row("drop_empty_parts", Exactly, |d| {
        let n = d.extent();
        let nothing = d.b.constant(Tensor::zeros(DType::F32, &[0, n]).unwrap());
        let mut parts = vec![nothing];
        for _ in 0..d.extent() {
            let m = d.extent();
            parts.push(d.input(&[m, n]));
        }
        let at = d.below(parts.len());
        parts.swap(0, at);
        let y = d.b.concat(&parts, 0);
        d.output(y);
    }),
    row("merge_converts", Identically, |d| {
        let dims = d.any_dims();
        let (from, middle, to) = d.one_of(&[
            (DType::I32, DType::I64, DType::F32),
            (DType::U8, DType::F32, DType::I64),
            (DType::Bool, DType::I32, DType::F32),
            (DType::F32, DType::F64, DType::I32),
        ]);
        let x = d.input_of("x", from, &dims);
        let a = d.b.convert(x, middle);
        let b = d.b.convert(a, to);
        let y = d.b.convert(b, DType::F32);
        d.output(y);
    }),
    row("gather_as_slice", Exactly, |d| {
        let n = d.extent();
        let x = d.input(&[9, n]);
        let (first, step, count) = (d.below(3), 1 + d.below(3), 1 + d.below(3));
        let list: Vec<i64> = (0..count).map(|i| (first + i * step) as i64).collect();
        let indices = d.b.constant(Tensor::from_slice(&[count], &list).unwrap());
        let y = d.b.gather(x, indices, 0);
        d.output(y);
    }),
    row("fill_uniform", Exactly, |d| {
        let dims = d.dims(2);
        let (x, number) = (d.input(&dims), d.number());
        let k = d.b.constant(Tensor::from_slice(&dims, &vec![number; dims[0] * dims[1]]).unwrap());
        let y = d.b.mul(x, k);
        d.output(y);
    }),
    row("elementwise_before_broadcast", Closely(1e-12), |d| {
        let dims = d.dims(2);
        let axis = d.below(2);
        let (x, z) = (d.input(&dims[axis..=axis]), d.input(&dims[axis..=axis]));
        let number = f64::from(d.number());
        let k = d.filled(&dims, number);
        let [p, q] = [x, z].map(|v| d.broadcast(v, &dims, &[axis]));
        let y = match d.below(4) {
            0 => d.b.mul(p, q),
            1 => d.b.exp(p),
            2 => d.b.sub(k, p),
            _ => d.b.maximum(p, k),
        };
        d.output(y);
    }),
    row("fold_constants", Exactly, |d| {
        let dims = d.dims(2);
        let (x, a, b) = (d.input(&dims), d.weights(&dims), d.weights(&dims));
        let k = match d.below(4) {
            0 => d.b.mul(a, b),
            1 => d.b.sub(a, b),
            2 => {
                let sum = d.b.reduce_keep(a, &[1], Reducer::Sum);
                d.broadcast(sum, &dims, &[0, 1])
            }
            _ => {
                let t = d.b.transpose(b, &[1, 0]);
                let t = d.b.matmul(a, t);
                d.b.matmul(t, b)
            }
        };
        let y = d.b.add(x, k);
        d.output(y);
    }),
    row("merge_common_subexpressions", Closely(1e-12), |d| {
        let dims = d.any_dims();
        let (x, z) = (d.input(&dims), d.input(&dims));
        let [p, q] = [(); 2].map(|()| {
            let product = d.b.mul(x, z);
            d.b.exp(product)
        });
        let r = d.b.sin(q);
        let y = d.b.sub(p, r);
        d.output(y);
    }),
    row("drop_trivial_reduce", Exactly, |d| {
        let (n, m) = (d.extent(), d.extent());
        let x = d.input(&[n, 1, m]);
        let y = if d.chance() {
            d.b.reduce(x, &[1], Reducer::Sum)
        } else {
            let op = Op::ReduceWindow {
                window: vec![1; 3],
                strides: vec![],
                padding: vec![],
                dilation: vec![],
                reducer: Reducer::Sum,
            };
            let same = d.add(op, &[x]);
            d.b.neg(same)
        };
        d.output(y);
    }),
    row("global_window_as_reduce", Identically, |d| {
        let dims = d.dims(4);
        let x = d.input(&dims);
        let reducer = d.one_of(&[Reducer::Max, Reducer::Min, Reducer::Sum]);
        let window = d.one_of(&[vec![1, 1, dims[2], dims[3]], vec![1, dims[1], 1, 1], vec![1, dims[1], 1, dims[3]]]);
        let op = Op::ReduceWindow { window, strides: vec![], padding: vec![], dilation: vec![], reducer };
        let y = d.add(op, &[x]);
        d.output(y);
    }),
    row("constant_second", Exactly, |d| {
        let dims = d.any_dims();
        let (x, k) = (d.input(&dims), d.weights(&dims));
        let y = if d.chance() { d.b.add(k, x) } else { d.b.mul(k, x) };
        d.output(y);
    }),
    Row {
        rule: "sub_as_add",
        with: &["fold_constants"],
        how: Exactly,
        make: |d| {
            let dims = d.any_dims();
            let (x, k) = (d.input(&dims), d.weights(&dims));
            let y = d.b.sub(x, k);
            d.output(y);
        },
    },
    row("drop_neutral_operand", Exactly, |d| {
        let dims = d.any_dims();
        let x = d.input(&dims);
        let (zero, one) = (d.filled(&dims, 0.0), d.filled(&dims, 1.0));
        let same = match d.below(4) {
            0 => d.b.add(x, zero),
            1 => d.b.sub(x, zero),
            2 => d.b.mul(x, one),
            _ => d.b.div(x, one),
        };
        let y = d.b.neg(same);
        d.output(y);
    }),
    row("simplify_power", Closely(1e-12), |d| {
        let dims = d.any_dims();
        // roots are taken of what visibly has no negative sign only
        let x = d.positive(&dims);
        let x = d.b.abs(x);
        let power = d.one_of(&[2.0, 0.5, -0.5, -1.0]);
        let k = d.filled(&dims, power);
        let y = d.b.pow(x, k);
        d.output(y);
    }),
    row("simplify_unary", Closely(1e-12), |d| {
        let dims = d.any_dims();
        let x = d.positive(&dims);
        let both: [[Op; 2]; 8] = [
            [Op::Neg {}, Op::Neg {}],
            [Op::Sqrt {}, Op::Reciprocal {}],
            [Op::Rsqrt {}, Op::Reciprocal {}],
            [Op::Neg {}, Op::Abs {}],
            [Op::Abs {}, Op::Abs {}],
            [Op::Relu {}, Op::Relu {}],
            [Op::Exp {}, Op::Relu {}],
            [Op::Abs {}, Op::Relu {}],
        ];
        let [first, second] = d.one_of(&both);
        // Of either sign where that has a meaning.
        let x = if matches!(first, Op::Sqrt {} | Op::Rsqrt {}) { x } else { d.input(&dims) };
        let a = d.add(first, &[x]);
        let b = d.add(second, &[a]);
        let y = d.b.sin(b);
        d.output(y);
    }),
    row("div_as_reciprocal", Exactly, |d| {
        let dims = d.any_dims();
        let (x, one) = (d.input(&dims), d.filled(&dims, 1.0));
        let y = d.b.div(one, x);
        d.output(y);
    }),
    row("limits_as_clip", Identically, |d| {
        let dims = d.dims(3);
        let x = d.input(&dims);
        let limit = f64::from(d.number()) / 2.0;
        let k = d.filled(&dims, limit);
        let y = match d.below(3) {
            0 => d.b.maximum(x, k),
            1 => d.b.minimum(x, k),
            _ => d.b.clip(x, 0.0, f64::INFINITY),
        };
        d.output(y);
    }),
    row("select_by_constant", Exactly, |d| {
        let dims = d.any_dims();
        let (x, z) = (d.input(&dims), d.input(&dims));
        let chosen = if d.chance() {
            let known = d.chance();
            let known = d.b.constant(Tensor::scalar(known));
            let condition = d.broadcast(known, &dims, &[]);
            d.b.select(condition, x, z)
        } else {
            let condition = d.input_of("condition", DType::Bool, &dims);
            d.b.select(condition, x, x)
        };
        let y = d.b.add(chosen, z);
        d.output(y);
    }),
    row("decompose_batch_norm", Closely(1e-12), |d| {
        let dims = d.dims(3);
        let x = d.input(&dims);
        let axis = d.below(3);
        let [scale, bias, mean, variance] = [(); 4].map(|()| d.positive(&dims[axis..=axis]));
        let y = d.b.batch_norm(x, [scale, bias, mean, variance], axis, 0.01);
        d.output(y);
    }),
    row("sort_contracted_axes", Exactly, |d| {
        let dims = d.dims(3);
        let (x, w) = (d.input(&dims), d.weights(&[dims[2], dims[0], 3]));
        let (l, r) = (vec![2, 0], vec![0, 1]);
        let y = d.b.dot(x, w, &[], &[], &l, &r);
        d.output(y);
    }),
    row("drop_default_windows", Exactly, |d| {
        let x = d.input(&[1, 2, 4, 4]);
        let w = d.weights(&[2, 2, 2, 3]);
        let options = match d.below(4) {
            0 => ConvOptions { strides: vec![1; 2], ..Default::default() },
            1 => ConvOptions { lhs_dilation: vec![1; 2], ..Default::default() },
            2 => ConvOptions { rhs_dilation: vec![1; 2], strides: vec![2; 2], ..Default::default() },
            _ => ConvOptions { padding: vec![Padding::NONE; 2], ..Default::default() },
        };
        let y = d.b.conv(x, w, &options);
        d.output(y);
    }),
];

fn integers(seed: u64, dims: &[usize]) -> Vec<f64> {
    kiln_ir::random::uniform(seed, dims.iter().product()).map(|u| (u * 9.0).floor() - 4.0).collect()
}
