//! Random shapes and attributes, against the reference interpreter: odd sizes, tails, extents of 0 and 1.

mod graph;

use graph::Case;
use kiln_ir::attribute::{ConvLayout, Padding, Reducer};
use kiln_ir::{ConvOptions, DType, Dim, Op, Tensor, WindowOptions};
use proptest::prelude::*;

fn dims(rank: std::ops::Range<usize>) -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(prop_oneof![1 => Just(0usize), 3 => Just(1usize), 10 => 2usize..20], rank)
}

/// A permutation of `n` axes.
fn permutation(n: usize) -> impl Strategy<Value = Vec<usize>> {
    Just((0..n).collect::<Vec<_>>()).prop_shuffle()
}

/// A convolution that fits: spatial rank, extents, window, strides, paddings, dilations, groups and channels a group.
#[derive(Clone, Debug)]
struct Conv {
    batch: usize,
    spatial: Vec<(usize, usize, usize, i64, i64, usize, usize)>,
    groups: usize,
    inputs: usize,
    outputs: usize,
    last: bool,
    constant: bool,
}

fn conv() -> impl Strategy<Value = Conv> {
    let axis = (1usize..12, 1usize..4, 1usize..4, -1i64..3, 0i64..3, 1usize..3, 1usize..3);
    (1usize..3, proptest::collection::vec(axis, 1..4), 1usize..5, 1usize..6, 1usize..14, any::<bool>(), any::<bool>())
        .prop_map(|(batch, spatial, groups, inputs, outputs, last, constant)| Conv {
            batch,
            spatial,
            groups,
            inputs,
            outputs,
            last,
            constant,
        })
        .prop_filter("the window fits", |c| {
            c.spatial.iter().all(|&(n, w, _, low, high, lhs, rhs)| {
                let spread = (n as i64 - 1) * lhs as i64 + 1;
                spread + low + high > (w as i64 - 1) * rhs as i64
            })
        })
}

fn options(shape: &Conv) -> ConvOptions {
    ConvOptions {
        strides: shape.spatial.iter().map(|s| s.2).collect(),
        padding: shape.spatial.iter().map(|s| Padding { low: s.3, high: s.4 }).collect(),
        lhs_dilation: shape.spatial.iter().map(|s| s.5).collect(),
        rhs_dilation: shape.spatial.iter().map(|s| s.6).collect(),
        groups: shape.groups,
        layout: if shape.last { ConvLayout::ChannelsLast } else { ConvLayout::ChannelsFirst },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_convolution(shape in conv(), seed in any::<u64>()) {
        let mut c = Case::new(seed);
        let (ci, co) = (shape.groups * shape.inputs, shape.groups * shape.outputs);
        let extents: Vec<usize> = shape.spatial.iter().map(|s| s.0).collect();
        let windows: Vec<usize> = shape.spatial.iter().map(|s| s.1).collect();
        let (xd, wd) = if shape.last {
            ([vec![shape.batch], extents, vec![ci]].concat(), [windows, vec![shape.inputs, co]].concat())
        } else {
            ([vec![shape.batch, ci], extents].concat(), [vec![co, shape.inputs], windows].concat())
        };
        let x = c.input(DType::F32, &xd);
        let w = if shape.constant { c.constant(DType::F32, &wd) } else { c.input(DType::F32, &wd) };
        let options = options(&shape);
        let y = c.b.conv(x, w, &options);
        // made where the convolution reads it, if it reads beyond
        let made = c.b.neg(x);
        let z = c.b.conv(made, w, &options);
        // sums of up to 135 products in another order
        c.check(&[y, z], 1e-5);
    }

    #[test]
    fn any_product(
        extents in (0usize..3, 0usize..20, 0usize..40, 0usize..40),
        lhs in permutation(3),
        rhs in permutation(3),
        constant in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let (batch, m, k, n) = extents;
        let mut c = Case::new(seed);
        // axes batch, row, contracted (of rhs: batch, contracted, column) in any order
        let place = |order: &[usize], dims: [usize; 3]| {
            let mut placed = vec![0; 3];
            order.iter().zip(dims).for_each(|(&at, d)| placed[at] = d);
            placed
        };
        let x = c.input(DType::F32, &place(&lhs, [batch, m, k]));
        let wd = place(&rhs, [batch, k, n]);
        let w = if constant { c.constant(DType::F32, &wd) } else { c.input(DType::F32, &wd) };
        let y = c.b.dot(x, w, &[lhs[0]], &[rhs[0]], &[lhs[2]], &[rhs[1]]);
        c.check(&[y], 1e-5);
    }

    #[test]
    fn any_product_of_bytes(
        (batch, m, k, n) in (1usize..3, 1usize..20, 1usize..71, 1usize..70),
        lhs in permutation(3),
        rhs in permutation(3),
        dtypes in prop_oneof![3 => Just((DType::U8, DType::I8)), 1 => Just((DType::I8, DType::U8))],
        constant in prop_oneof![3 => Just(true), 1 => Just(false)],
        seed in any::<u64>(),
    ) {
        let mut c = Case::new(seed);
        let place = |order: &[usize], dims: [usize; 3]| {
            let mut placed = vec![0; 3];
            order.iter().zip(dims).for_each(|(&at, d)| placed[at] = d);
            placed
        };
        let x = c.input(dtypes.0, &place(&lhs, [batch, m, k]));
        let wd = place(&rhs, [batch, k, n]);
        let w = if constant { c.constant(dtypes.1, &wd) } else { c.input(dtypes.1, &wd) };
        let y = c.b.dot(x, w, &[lhs[0]], &[rhs[0]], &[lhs[2]], &[rhs[1]]);
        let bias = c.input(DType::I32, &[1, 1, n]);
        let epilogue = "u8(max(a0 + a1, 0))".parse().expect("parses");
        let axes = |list: &[usize]| list.to_vec();
        let fused = Op::FusedDot {
            lhs_batch: axes(&lhs[..1]),
            rhs_batch: axes(&rhs[..1]),
            lhs_contract: axes(&lhs[2..]),
            rhs_contract: axes(&rhs[1..2]),
            epilogue,
        };
        let z = c.b.add_op(fused, &[x, w, bias]);
        c.check(&[y, z], 0.0);
    }

    #[test]
    fn any_convolution_of_bytes(shape in conv(), wide in 1usize..12, signed in any::<bool>(), seed in any::<u64>()) {
        let mut c = Case::new(seed);
        let inputs = shape.inputs + wide;
        let (ci, co) = (shape.groups * inputs, shape.groups * shape.outputs);
        let extents: Vec<usize> = shape.spatial.iter().map(|s| s.0).collect();
        let windows: Vec<usize> = shape.spatial.iter().map(|s| s.1).collect();
        let (xd, wd) = if shape.last {
            ([vec![shape.batch], extents, vec![ci]].concat(), [windows, vec![inputs, co]].concat())
        } else {
            ([vec![shape.batch, ci], extents].concat(), [vec![co, inputs], windows].concat())
        };
        let dtypes = if signed { [DType::I8, DType::U8] } else { [DType::U8, DType::I8] };
        let x = c.input(dtypes[0], &xd);
        let w = if shape.constant { c.constant(dtypes[1], &wd) } else { c.input(dtypes[1], &wd) };
        let y = c.b.conv(x, w, &options(&shape));
        c.check(&[y], 0.0);
    }

    #[test]
    fn any_reduction(dims in dims(1..5), mask in 0usize..16, reducer in 0usize..4, seed in any::<u64>()) {
        let mut c = Case::new(seed);
        let reducer = Reducer::ALL[reducer];
        // terms of a sum may cancel, and then its order matters as much as its value: sums of whole numbers have none
        let (dtype, tolerance) = if reducer == Reducer::Sum { (DType::I8, 0.0) } else { (DType::F32, 1e-5) };
        let numbers = c.numbers.tensor(dtype, &dims).to_f64_vec();
        let x = c.feed(Tensor::from_f64(DType::F32, &dims, &numbers).expect("as many as before"));
        let axes: Vec<usize> = (0..dims.len()).filter(|i| mask >> i & 1 == 1).collect();
        let y = c.b.reduce(x, &axes, reducer);
        c.check(&[y], tolerance);
    }

    #[test]
    fn any_movement(dims in dims(4..5), perm in permutation(4), seed in any::<u64>()) {
        let mut c = Case::new(seed);
        let x = c.input(DType::F32, &dims);
        let mut pick = |below: usize| (c.numbers.next() >> 16) as usize % (below + 1);
        let start: Vec<usize> = dims.iter().map(|&d| pick(d)).collect();
        let limit: Vec<usize> = dims.iter().zip(&start).map(|(&d, &s)| s + pick(d - s)).collect();
        let stride: Vec<usize> = dims.iter().map(|_| 1 + pick(2)).collect();
        let padding: Vec<Padding> = dims.iter().map(|_| Padding { low: pick(2) as i64, high: pick(2) as i64 }).collect();
        let interior: Vec<usize> = dims.iter().map(|_| pick(1)).collect();
        let axes: Vec<usize> = (0..4).filter(|_| pick(1) == 1).collect();
        let axis = pick(3);
        let t = c.b.transpose(x, &perm);
        let s = c.b.slice(x, &start, &limit, &stride);
        let p = c.b.add_op(Op::Pad { padding, interior, value: kiln_ir::attribute::Real(2.5) }, &[x]);
        let r = c.b.add_op(Op::Reverse { axes }, &[x]);
        let y = c.b.neg(x);
        let k = c.b.concat(&[y, x, y], axis);
        let wide: Vec<Dim> = [&[3], &dims[..]].concat().into_iter().map(Dim::Fixed).collect();
        let b = c.b.broadcast(x, &wide, &[1, 2, 3, 4]);
        c.check(&[t, s, p, r, k, b], 0.0);
    }

    #[test]
    fn any_window(
        axes in proptest::collection::vec((1usize..10, 1usize..4, 1usize..4, 0i64..2, 0i64..3, 1usize..3), 1..5),
        reducer in 0usize..4,
        seed in any::<u64>(),
    ) {
        prop_assume!(axes.iter().all(|&(n, w, _, low, high, d)| n as i64 + low + high > (w as i64 - 1) * d as i64));
        let mut c = Case::new(seed);
        let x = c.input(DType::F32, &axes.iter().map(|a| a.0).collect::<Vec<_>>());
        let options = WindowOptions {
            window: axes.iter().map(|a| a.1).collect(),
            strides: axes.iter().map(|a| a.2).collect(),
            padding: axes.iter().map(|a| Padding { low: a.3, high: a.4 }).collect(),
            dilation: axes.iter().map(|a| a.5).collect(),
        };
        let y = c.b.reduce_window(x, &options, Reducer::ALL[reducer]);
        c.check(&[y], 1e-5);
    }

    #[test]
    fn any_broadcast_expression(dims in dims(1..5), masks in (0usize..16, 0usize..16), seed in any::<u64>()) {
        let mut c = Case::new(seed);
        let cut = |mask: usize| dims.iter().enumerate().map(|(i, &d)| if mask >> i & 1 == 1 { 1 } else { d }).collect::<Vec<_>>();
        let x = c.input(DType::F32, &dims);
        let (y, z) = (c.input(DType::F32, &cut(masks.0)), c.input(DType::F32, &cut(masks.1)));
        let expr = "max(a0 * a1 + a2, a1) - a2".parse().expect("parses");
        let op = Op::FusedElementwise { expr };
        let r = c.b.add_op(op, &[x, y, z]);
        c.check(&[r], 0.0);
    }
}
