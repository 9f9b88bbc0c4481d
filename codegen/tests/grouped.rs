//! Convolutions of narrow groups: vectors hold the input channels of several.

mod graph;

use graph::{Case, check};
use kiln_codegen::native::Target;
use kiln_codegen::{CompileOptions, CompiledModule, compile_for, lower::Machine};
use kiln_ir::attribute::{ConvLayout, Padding};
use kiln_ir::scalar::ScalarExpr;
use kiln_ir::{ConvOptions, DType, Graph, Op, Tensor};
use kiln_runtime::{Executor, PoolHandle};
use proptest::prelude::*;

fn options(groups: usize, rank: usize, padding: Padding) -> ConvOptions {
    ConvOptions { padding: vec![padding; rank], groups, layout: ConvLayout::ChannelsLast, ..ConvOptions::default() }
}

/// Whether a kernel exchanges lanes, as only vectors of input channels need.
fn exchanges_lanes(module: &CompiledModule) -> bool {
    module.kernels().iter().any(|k| k.name == "conv" && k.to_string().contains("shuffle"))
}

fn compiled(graph: &Graph, exact: bool) -> CompiledModule {
    let target = Target::host().expect("this machine is supported");
    compile_for(graph, &target, Machine::X86_64_512, CompileOptions { threads: 2, exact, ..CompileOptions::default() })
        .unwrap_or_else(|e| panic!("{e}\n{graph}"))
}

#[test]
fn groups_of_any_two_powers_of_two_fill_vectors_of_input_channels() {
    // groups, inputs and outputs of a group, and whether 512-bit vectors hold inputs
    let shapes = [
        (8, 4, 4, true),
        (32, 2, 2, true),
        (4, 8, 8, true),
        // 24 channels: vectors of 8
        (6, 4, 4, true),
        // more outputs than inputs, and fewer
        (8, 4, 8, true),
        (8, 2, 8, true),
        (16, 1, 4, true),
        (8, 8, 4, true),
        (16, 4, 1, true),
        // a group wider than a vector
        (2, 64, 8, true),
        (3, 32, 2, true),
        (1, 32, 4, true),
        // full vectors of outputs, one vector of inputs for one of outputs, odd numbers
        (2, 8, 16, false),
        (1, 8, 8, false),
        (8, 3, 4, false),
        (4, 4, 6, false),
    ];
    for (seed, (groups, inputs, outputs, fills)) in (1..).zip(shapes) {
        let mut c = Case::new(seed);
        let x = c.input(DType::F32, &[2, 9, 20, groups * inputs]);
        let w = c.constant(DType::F32, &[3, 3, inputs, groups * outputs]);
        let y = c.b.conv(x, w, &options(groups, 2, Padding::same(1)));
        c.b.output("y", y);
        let graph = c.b.finish().expect("the convolution is well formed");
        check(&graph, &c.feeds, 1e-5);
        let found = exchanges_lanes(&compiled(&graph, false));
        assert_eq!(found, fills, "{groups} groups of {inputs} to {outputs}");
    }
}

#[test]
fn epilogues_read_what_belongs_to_their_channels() {
    let expr = |text: &str| text.parse::<ScalarExpr>().expect("a scalar expression");
    for (seed, (inputs, outputs)) in (1..).zip([(4, 4), (4, 8), (8, 2)]) {
        let mut c = Case::new(seed);
        let x = c.input(DType::F32, &[2, 7, 9, 8 * inputs]);
        let w = c.constant(DType::F32, &[3, 3, inputs, 8 * outputs]);
        let bias = c.constant(DType::F32, &[1, 1, 1, 8 * outputs]);
        let skip = c.input(DType::F32, &[2, 7, 9, 8 * outputs]);
        let scale = c.input(DType::F32, &[1, 1, 1, 1]);
        let op = Op::FusedConv {
            strides: vec![],
            padding: vec![Padding::same(1); 2],
            lhs_dilation: vec![],
            rhs_dilation: vec![],
            groups: 8,
            layout: ConvLayout::ChannelsLast,
            epilogue: expr("max(a0 + a1 + a2, 0) * a3"),
        };
        let y = c.b.add_op(op, &[x, w, bias, skip, scale]);
        c.check(&[y], 1e-5);
    }
}

#[test]
fn every_dtype_that_is_multiplied_has_narrow_groups() {
    for (dtype, tolerance) in [
        (DType::F64, 1e-12),
        (DType::F16, 2e-3),
        (DType::BF16, 1e-2),
        (DType::I64, 0.0),
        (DType::I32, 0.0),
        (DType::I8, 0.0),
        (DType::U8, 0.0),
    ] {
        let mut c = Case::new(5);
        let x = c.input(dtype, &[1, 6, 7, 32]);
        let w = c.constant(dtype, &[3, 3, 2, 64]);
        let y = c.b.conv(x, w, &options(16, 2, Padding::same(1)));
        c.check(&[y], tolerance);
    }
}

#[test]
fn a_group_sees_no_other_group_and_is_exact() {
    // an infinity in group 1 would be a NaN in all groups that are multiplied by zeros beside it
    let mut c = Case::new(9);
    let mut numbers = c.numbers.tensor(DType::F32, &[1, 4, 4, 32]).to_f64_vec();
    numbers[5] = f64::INFINITY;
    let x = c.feed(Tensor::from_f64(DType::F32, &[1, 4, 4, 32], &numbers).expect("as many as before"));
    let w = c.constant(DType::F32, &[3, 3, 4, 32]);
    let y = c.b.conv(x, w, &options(8, 2, Padding::same(1)));
    c.b.output("y", y);
    let graph = c.b.finish().expect("the convolution is well formed");
    check(&graph, &c.feeds, 1e-5);
    assert!(exchanges_lanes(&compiled(&graph, true)));
    let executable = compiled(&graph, false).executable().expect("it compiles");
    let mut executor = Executor::new(executable, PoolHandle::new(1)).expect("memory");
    let (name, feed) = &c.feeds[0];
    let y = executor.run_named(&[(name.as_str(), feed)]).expect("the feed fits")[0].1.to_f64_vec();
    let touched: Vec<usize> = (0..32).filter(|&k| y.chunks(32).any(|pixel| !pixel[k].is_finite())).collect();
    assert_eq!(touched, [4, 5, 6, 7]);
}

/// A convolution of narrow groups: extents, taps, strides, paddings, spread and dilation of each axis, and channels.
#[derive(Clone, Debug)]
struct Shape {
    batch: usize,
    axes: Vec<(usize, usize, usize, i64, i64, usize, usize)>,
    groups: usize,
    inputs: usize,
    outputs: usize,
}

fn shape() -> impl Strategy<Value = Shape> {
    let axis = (1usize..30, 1usize..4, 1usize..4, -1i64..3, 0i64..3, 1usize..3, 1usize..3);
    let channels = (prop_oneof![Just(8usize), Just(16), 1usize..12], 0u32..6, 0u32..4);
    (1usize..3, proptest::collection::vec(axis, 1..3), channels)
        .prop_map(|(batch, axes, (groups, inputs, outputs))| Shape {
            batch,
            axes,
            groups,
            inputs: 1 << inputs,
            outputs: 1 << outputs,
        })
        .prop_filter("the window fits", |c| {
            c.axes.iter().all(|&(n, w, _, low, high, lhs, rhs)| {
                (n as i64 - 1) * lhs as i64 + 1 + low + high > (w as i64 - 1) * rhs as i64
            })
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_convolution_of_narrow_groups(shape in shape(), seed in any::<u64>()) {
        let mut c = Case::new(seed);
        let extents = shape.axes.iter().map(|a| a.0).collect();
        let taps = shape.axes.iter().map(|a| a.1).collect();
        let x = c.input(DType::F32, &[vec![shape.batch], extents, vec![shape.groups * shape.inputs]].concat());
        let w = c.constant(DType::F32, &[taps, vec![shape.inputs, shape.groups * shape.outputs]].concat());
        let options = ConvOptions {
            strides: shape.axes.iter().map(|a| a.2).collect(),
            padding: shape.axes.iter().map(|a| Padding { low: a.3, high: a.4 }).collect(),
            lhs_dilation: shape.axes.iter().map(|a| a.5).collect(),
            rhs_dilation: shape.axes.iter().map(|a| a.6).collect(),
            groups: shape.groups,
            layout: ConvLayout::ChannelsLast,
        };
        let y = c.b.conv(x, w, &options);
        // made where the convolution reads it, if it reads beyond
        let made = c.b.neg(x);
        let z = c.b.conv(made, w, &options);
        c.check(&[y, z], 1e-5);
    }
}
