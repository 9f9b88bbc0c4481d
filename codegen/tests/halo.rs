//! Values made in the middle of the padding that their users read.

mod graph;

use graph::{Case, check};
use kiln_codegen::lower::Machine;
use kiln_codegen::native::Target;
use kiln_codegen::{CompileOptions, CompiledModule, compile_for};
use kiln_ir::attribute::ConvLayout::{ChannelsFirst, ChannelsLast};
use kiln_ir::attribute::{Padding, Real, Reducer};
use kiln_ir::{ConvOptions, DType, Op, Tensor, Value, WindowOptions};
use kiln_runtime::Work;

const SAME: Padding = Padding { low: 1, high: 1 };
/// Winograd's algorithm, three layers deep.
const TOLERANCE: f64 = 1e-4;

/// Every step of the plan: the name of its kernel, or what else it does.
fn steps(module: &CompiledModule) -> Vec<&str> {
    let name = |work| match work {
        &Work::Kernel { kernel, .. } => module.kernels()[kernel].name.as_str(),
        Work::Copy { .. } => "copy",
        Work::Fill { .. } => "fill",
    };
    module.plan().steps.iter().map(|s| name(&s.work)).collect()
}

/// How many steps make a padded copy for a convolution: their kernel is named as the op, the convolution's is not.
fn copies(module: &CompiledModule) -> usize {
    steps(module).iter().filter(|name| name.contains("conv_general")).count()
}

/// A convolution with constant weights of `taps × taps`, channels last unless `o` says otherwise.
fn conv(c: &mut Case, x: Value, taps: usize, [inputs, outputs]: [usize; 2], o: ConvOptions) -> Value {
    let inputs = inputs / o.groups;
    let w = match o.layout {
        ChannelsLast => c.constant(DType::F32, &[taps, taps, inputs, outputs]),
        ChannelsFirst => c.constant(DType::F32, &[outputs, inputs, taps, taps]),
    };
    c.b.conv(x, w, &o)
}

fn last(padding: Padding) -> ConvOptions {
    ConvOptions { padding: vec![padding; 2], layout: ChannelsLast, ..ConvOptions::default() }
}

/// Maxima of 2 × 2, channels last.
fn pool(c: &mut Case, x: Value) -> Value {
    let window = vec![1, 2, 2, 1];
    c.b.max_pool(x, &WindowOptions { strides: window.clone(), window, ..WindowOptions::default() })
}

#[test]
fn a_chain_of_convolutions_relus_and_pools_copies_the_input_only() {
    for (batch, [height, width], channels) in
        [(1, [16, 12], [3, 8, 8, 8]), (2, [13, 15], [3, 5, 7, 9]), (2, [22, 30], [16, 64, 64, 32])]
    {
        let mut c = Case::new(1);
        let x = c.input(DType::F32, &[batch, height, width, channels[0]]);
        let y = conv(&mut c, x, 3, [channels[0], channels[1]], last(SAME));
        let y = c.b.relu(y);
        let y = conv(&mut c, y, 3, [channels[1], channels[2]], last(SAME));
        let y = pool(&mut c, y);
        let y = conv(&mut c, y, 3, [channels[2], channels[3]], last(SAME));
        c.b.output("y", y);
        let graph = c.b.finish().expect("the chain is well formed");
        let module = check(&graph, &c.feeds, TOLERANCE);
        assert_eq!(copies(&module), 1, "{:?}", steps(&module));
        let borders = steps(&module).iter().filter(|&&name| name == "border").count();
        // those of the copy, of the relu and of the pool
        assert_eq!(borders, 3, "{:?}", steps(&module));
        assert!(!steps(&module).contains(&"fill"), "{:?}", steps(&module));
        let wide = compile_for(
            &graph,
            &Target::host().expect("this machine is supported"),
            Machine::X86_64_512,
            CompileOptions { threads: 2, ..CompileOptions::default() },
        );
        let wide = wide.expect("it compiles");
        assert_eq!(copies(&wide), 1, "{:?}", steps(&wide));
        assert_eq!(steps(&wide).iter().any(|s| s.starts_with("winograd")), channels[1] == 64, "{:?}", steps(&wide));
    }
}

#[test]
fn convolutions_of_any_kind_read_from_a_halo() {
    let low = Padding { low: 2, high: 0 };
    let options = |strides, lhs: usize, rhs: usize, groups| ConvOptions {
        strides: vec![strides; 2],
        padding: vec![SAME, low],
        lhs_dilation: vec![lhs; 2],
        rhs_dilation: vec![rhs; 2],
        groups,
        ..ConvOptions::default()
    };
    for layout in [ChannelsLast, ChannelsFirst] {
        // the third is depthwise, which skips what is outside where channels are last
        for (i, o) in
            [options(2, 1, 1, 1), options(1, 2, 1, 2), options(1, 1, 1, 6), options(2, 1, 2, 3)].into_iter().enumerate()
        {
            let mut c = Case::new(2);
            let dims = if layout == ChannelsLast { [2, 9, 8, 6] } else { [2, 6, 9, 8] };
            let x = c.input(DType::F32, &dims);
            let y = c.b.relu(x);
            let y = conv(&mut c, y, 3, [6, 6], ConvOptions { layout, ..o });
            let module = c.check(&[y], 1e-5);
            assert_eq!(copies(&module), 0, "{:?}", steps(&module));
            let guarded = layout == ChannelsLast && i == 2;
            assert_eq!(steps(&module).contains(&"border"), !guarded, "{:?}", steps(&module));
        }
    }
}

#[test]
fn zeros_between_elements_or_cropped_edges_need_no_halo_to_be_right() {
    for (padding, lhs) in [(SAME, 70), (Padding { low: -1, high: 2 }, 1), (Padding { low: 2, high: -1 }, 1)] {
        for channels in [6, 64] {
            let mut c = Case::new(3);
            let x = c.input(DType::F32, &[1, 11, 13, channels]);
            let y = c.b.relu(x);
            let options = ConvOptions { lhs_dilation: vec![lhs, 1], ..last(padding) };
            let y = conv(&mut c, y, 3, [channels, channels], options);
            c.check(&[y], TOLERANCE);
        }
    }
}

#[test]
fn the_parts_of_a_concatenation_are_made_in_its_halo() {
    for (axis, copied) in [(3, false), (1, false), (0, false), (3, true)] {
        let mut c = Case::new(4);
        let (x, z) = (c.input(DType::F32, &[2, 7, 9, 16]), c.input(DType::F32, &[2, 7, 9, 16]));
        let (x, z) = (c.b.exp(x), if copied { z } else { c.b.relu(z) });
        let k = c.b.concat(&[x, z], axis);
        let channels = if axis == 3 { 32 } else { 16 };
        let y = conv(&mut c, k, 3, [channels, 5], last(SAME));
        let module = c.check(&[y], TOLERANCE);
        assert_eq!(copies(&module), 0, "{:?}", steps(&module));
        assert_eq!(steps(&module).contains(&"concat"), copied, "{:?}", steps(&module));
    }
}

#[test]
fn a_halo_has_room_for_the_user_that_reads_farthest() {
    let mut c = Case::new(6);
    let x = c.input(DType::F32, &[2, 18, 21, 32]);
    let x = c.b.relu(x);
    let y = conv(&mut c, x, 3, [32, 32], last(SAME));
    let z = conv(&mut c, x, 5, [32, 8], last(Padding { low: 1, high: 3 }));
    let u = conv(&mut c, x, 3, [32, 32], last(Padding { low: 2, high: 0 }));
    let module = c.check(&[y, z, u], TOLERANCE);
    assert_eq!(copies(&module), 0, "{:?}", steps(&module));
}

#[test]
fn a_value_that_is_used_in_other_ways_as_well_is_dense() {
    // an output; an operand of an addition; of a convolution without padding; the filter of one
    for way in 0..4 {
        let mut c = Case::new(7);
        let x = c.input(DType::F32, &[3, 3, 8, 8]);
        let x = c.b.relu(x);
        let y = conv(&mut c, x, 3, [8, 8], last(SAME));
        let other = match way {
            0 => x,
            1 => c.b.add(x, y),
            2 => conv(&mut c, x, 1, [8, 8], last(Padding::NONE)),
            _ => c.b.conv(x, x, &last(SAME)),
        };
        let module = c.check(&[y, other], 1e-5);
        assert!(copies(&module) > 0, "{way}: {:?}", steps(&module));
    }
}

#[test]
fn a_residual_chain_is_right() {
    let mut c = Case::new(8);
    let x = c.input(DType::F32, &[2, 14, 14, 32]);
    let mut x = c.b.relu(x);
    for _ in 0..2 {
        let y = conv(&mut c, x, 1, [32, 16], last(Padding::NONE));
        let y = c.b.relu(y);
        let y = conv(&mut c, y, 3, [16, 16], last(SAME));
        let w = c.constant(DType::F32, &[1, 1, 16, 32]);
        let op = Op::FusedConv {
            strides: vec![],
            padding: vec![],
            lhs_dilation: vec![],
            rhs_dilation: vec![],
            groups: 1,
            layout: ChannelsLast,
            epilogue: "max(a0 * 0.1 + a1, 0.0)".parse().expect("parses"),
        };
        x = c.b.add_op(op, &[y, w, x]);
    }
    let y = conv(&mut c, x, 3, [32, 16], last(SAME));
    c.check(&[y], TOLERANCE);
}

#[test]
fn convolutions_of_an_image_read_its_planes_where_they_lie() {
    let spread = ConvOptions { lhs_dilation: vec![70, 1], ..last(SAME) };
    let strided = ConvOptions { strides: vec![2; 2], ..last(Padding { low: 3, high: 2 }) };
    let dilated = ConvOptions { rhs_dilation: vec![2; 2], ..last(Padding { low: -1, high: 4 }) };
    for o in [last(Padding::NONE), last(SAME), strided, dilated, spread] {
        for computed in [false, true] {
            let mut c = Case::new(8);
            let mut x = c.input(DType::F32, &[2, 3, 17, 19]);
            if computed {
                x = c.b.exp(x);
            }
            let x = c.b.transpose(x, &[0, 2, 3, 1]);
            // two users, which want different room
            let y = [3, 1].map(|taps| conv(&mut c, x, taps, [3, 20], o.clone()));
            let module = c.check(&y, 1e-5);
            assert!(!steps(&module).contains(&"transpose"), "{:?}", steps(&module));
            if o.padding[0] == Padding::NONE {
                assert_eq!(steps(&module).len(), 2 + usize::from(computed), "{:?}", steps(&module));
            }
        }
    }
}

#[test]
fn a_transpose_that_is_used_in_other_ways_as_well_is_made() {
    let other = |c: &mut Case, x| c.b.relu(x);
    let output = |_: &mut Case, x| x;
    let many = |c: &mut Case, x| conv(c, x, 3, [3, 3], ConvOptions { groups: 3, ..last(SAME) });
    for user in [other as fn(&mut Case, Value) -> Value, output, many] {
        let mut c = Case::new(9);
        let x = c.input(DType::F32, &[1, 3, 17, 19]);
        let x = c.b.transpose(x, &[0, 2, 3, 1]);
        let y = [conv(&mut c, x, 3, [3, 20], last(SAME)), user(&mut c, x)];
        let module = c.check(&y, 1e-5);
        assert!(steps(&module).contains(&"transpose"), "{:?}", steps(&module));
    }
}

#[test]
fn a_product_over_pixels_is_not_cut_into_short_rows() {
    // 5 pixels are no multiple of a tile's rows on any machine: the copy of so few pixels costs less
    let mut c = Case::new(9);
    let x = c.input(DType::F32, &[1, 5, 5, 8]);
    let y = conv(&mut c, x, 1, [8, 8], last(Padding::NONE));
    let y = conv(&mut c, y, 3, [8, 8], last(SAME));
    let module = c.check(&[y], 1e-5);
    assert_eq!(copies(&module), 1, "{:?}", steps(&module));
}

#[test]
fn whatever_was_in_the_border_is_overwritten_in_every_run() {
    // NaN and infinities reach only the results whose taps meet them
    let mut c = Case::new(10);
    let mut values = vec![1.0; 2 * 6 * 5 * 4];
    (values[0], values[17], values[239]) = (f64::NAN, f64::INFINITY, f64::NAN);
    let x = c.feed(Tensor::from_f64(DType::F32, &[2, 6, 5, 4], &values).expect("sizes agree"));
    let mut y = c.b.exp(x);
    let others = c.b.neg(x);
    for _ in 0..3 {
        y = conv(&mut c, y, 3, [4, 4], last(SAME));
    }
    let sum = c.b.reduce(others, &[1], Reducer::Sum);
    c.check(&[y, sum], 1e-5);
}

#[test]
fn only_what_a_padding_does_not_cover_is_filled() {
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16, DType::I64, DType::I32, DType::I8, DType::U8] {
        for padding in [
            [Padding::NONE, SAME, SAME, Padding::NONE],
            [Padding { low: 2, high: 0 }, Padding { low: 1, high: 2 }, Padding::NONE, Padding { low: 0, high: 19 }],
            [Padding { low: 0, high: 1 }, Padding::NONE, Padding { low: 7, high: 3 }, SAME],
        ] {
            let mut c = Case::new(11);
            let (x, empty) = (c.input(dtype, &[2, 5, 4, 3]), c.input(dtype, &[2, 0, 4, 3]));
            let pad = |interior| Op::Pad { padding: padding.to_vec(), interior, value: Real(3.0) };
            let tight = c.b.add_op(pad(vec![]), &[x]);
            let holes = c.b.add_op(pad(vec![0, 2, 0, 0]), &[x]);
            let nothing = c.b.add_op(pad(vec![]), &[empty]);
            let module = c.check(&[tight, holes, nothing], 0.0);
            let fills = steps(&module).iter().filter(|&&s| s == "fill").count();
            let empty = padding[1] == Padding::NONE;
            assert_eq!(fills, if empty { 1 } else { 2 }, "{padding:?} {:?}", steps(&module));
        }
    }
}
