//! Convolutions by Winograd's minimal filtering against the interpreter in f64.

mod graph;

use std::sync::Arc;

use graph::{Numbers, targets};
use kiln_codegen::native::Target;
use kiln_codegen::tuning::{Algorithm, Choice, Choices};
use kiln_codegen::{CompileOptions, CompiledModule, compile_for, lower::Machine};
use kiln_ir::attribute::{ConvLayout, Padding};
use kiln_ir::interp::{self, State};
use kiln_ir::{Builder, DType, Dim, Graph, Op, Tensor};
use kiln_runtime::{Executor, PoolHandle};

/// `batch, [height, width], taps, channels in, channels out, padding`
type Shape = (usize, [usize; 2], usize, usize, usize, Padding);

fn convolution(
    numbers: &mut Numbers,
    (batch, [height, width], taps, inputs, outputs, padding): Shape,
) -> (Graph, Tensor) {
    let mut b = Builder::new("conv");
    let dims = [batch, height, width, inputs];
    let x = b.placeholder("x", DType::F32, &dims.map(Dim::Fixed));
    let w = b.constant(numbers.tensor(DType::F32, &[taps, taps, inputs, outputs]));
    let y = b.add_op(
        Op::Conv {
            strides: vec![],
            padding: vec![padding; 2],
            lhs_dilation: vec![],
            rhs_dilation: vec![],
            groups: 1,
            layout: ConvLayout::ChannelsLast,
        },
        &[x, w],
    );
    b.output("y", y);
    (b.finish().expect("the convolution is well formed"), numbers.tensor(DType::F32, &dims))
}

fn compiled(graph: &Graph, target: &Target, machine: Machine, exact: bool) -> CompiledModule {
    compile_for(graph, target, machine, CompileOptions { threads: 2, exact, ..CompileOptions::default() })
        .unwrap_or_else(|e| panic!("{e}\n{graph}"))
}

fn uses_winograd(module: &CompiledModule) -> bool {
    module.kernels().iter().any(|k| k.name.starts_with("winograd"))
}

#[test]
fn layers_of_many_shapes_are_within_1e_4_of_f64() {
    let (same, none) = (Padding { low: 1, high: 1 }, Padding::NONE);
    let shapes: [Shape; 9] = [
        (1, [56, 56], 3, 64, 64, same),
        (1, [28, 28], 3, 128, 96, same),
        (2, [14, 14], 3, 64, 64, same),
        (1, [15, 13], 3, 64, 80, same),
        (1, [31, 17], 3, 48, 40, none),
        (3, [9, 30], 3, 40, 72, Padding { low: 0, high: 2 }),
        (1, [7, 7], 3, 128, 128, same),
        (1, [27, 27], 5, 64, 64, Padding { low: 2, high: 2 }),
        (1, [4, 3], 3, 256, 256, same),
    ];
    for machine in [Machine::X86_64_512, Machine::X86_64_256] {
        let mut used = 0;
        for (seed, shape) in (1..).zip(shapes) {
            let (graph, x) = convolution(&mut Numbers::new(seed), shape);
            let want = interp::run::<f64>(&graph, &[("x", x.clone())], Some(&mut State::new())).expect("it runs");
            let want = want[0].1.to_f64_vec();
            let largest = want.iter().fold(0f64, |m, v| m.max(v.abs()));
            for target in targets() {
                let module = compiled(&graph, &target, machine, false);
                used += usize::from(uses_winograd(&module));
                let executable = module.executable().expect("it compiles");
                let results = [1, 3].map(|threads| {
                    let mut executor = Executor::new(executable.clone(), PoolHandle::new(threads)).expect("memory");
                    executor.run_named(&[("x", &x)]).expect("the feed fits")[0].1.to_f64_vec()
                });
                assert_eq!(results[0], results[1], "{shape:?} on {target}: the thread count changes results");
                let error = results[0].iter().zip(&want).fold(0f64, |m, (a, b)| m.max((a - b).abs()));
                assert!(results[0].iter().all(|v| v.is_finite()));
                assert!(error <= 1e-4 * largest, "{shape:?} on {target}: error {error:e}, largest result {largest}");
                let exact = compiled(&graph, &target, machine, true);
                assert!(!uses_winograd(&exact), "{shape:?}: exact means direct");
            }
        }
        assert!(used >= 3 * 6, "only {used} of the layers on {machine:?} are computed by Winograd's algorithm");
    }
}

/// With a bias, another value of the result's extents, and an activation, in the middle of a wider tensor.
#[test]
fn every_way_of_a_layer_is_followed_and_gives_the_same() {
    let same = Padding { low: 1, high: 1 };
    let shapes: [Shape; 8] = [
        (1, [13, 11], 3, 40, 72, same),
        (2, [7, 9], 3, 64, 64, same),
        (1, [20, 20], 3, 32, 128, Padding { low: -2, high: 1 }),
        (1, [9, 14], 5, 32, 64, Padding { low: 2, high: 2 }),
        (1, [1, 1], 3, 16, 16, same),
        (1, [12, 1], 3, 32, 32, same),
        (1, [1, 12], 3, 32, 32, same),
        (3, [2, 2], 3, 17, 19, same),
    ];
    for (seed, shape) in (1..).zip(shapes) {
        let (batch, [height, width], taps, inputs, outputs, padding) = shape;
        let mut numbers = Numbers::new(seed);
        let mut b = Builder::new("layer");
        let around = (padding.low + padding.high) as isize - taps as isize + 1;
        let [rows, columns] = [height, width].map(|n| n.strict_add_signed(around));
        let (x_dims, y_dims) = ([batch, height, width, inputs], [batch, rows, columns, outputs]);
        let feeds = [("x", x_dims), ("before", y_dims), ("beside", y_dims)].map(|(name, dims)| {
            let value = numbers.tensor(DType::F32, &dims);
            (b.placeholder(name, DType::F32, &dims.map(Dim::Fixed)), name, value)
        });
        let w = b.constant(numbers.tensor(DType::F32, &[taps, taps, inputs, outputs]));
        let bias = b.constant(numbers.tensor(DType::F32, &[1, 1, 1, outputs]));
        let op = Op::FusedConv {
            strides: vec![],
            padding: vec![padding; 2],
            lhs_dilation: vec![],
            rhs_dilation: vec![],
            groups: 1,
            layout: ConvLayout::ChannelsLast,
            epilogue: "max(a0 + a1 + a2, 0.0)".parse().expect("an expression"),
        };
        let y = b.add_op(op, &[feeds[0].0, w, bias, feeds[1].0]);
        let wider = b.concat(&[feeds[2].0, y], 3);
        b.output("y", wider);
        let graph = b.finish().expect("the layer is well formed");
        let named = feeds.each_ref().map(|(_, name, value)| (*name, value.clone()));
        let want = interp::run::<f64>(&graph, &named, Some(&mut State::new())).expect("it runs")[0].1.to_f64_vec();
        let largest = want.iter().fold(0f64, |m, v| m.max(v.abs()));
        let target = Target::host().expect("this machine is supported");
        let compiled = |choices| {
            let options = CompileOptions { threads: 1, exact: false, choices: Arc::new(choices) };
            compile_for(&graph, &target, Machine::X86_64_512, options).unwrap_or_else(|e| panic!("{e}\n{graph}"))
        };
        let decision = compiled(Choices::default()).decisions()[0].clone();
        let winograd = decision.candidates.iter().filter(|way| matches!(way, Algorithm::Winograd(_))).count();
        assert_eq!(winograd > 1, inputs >= 16, "{shape:?}: {winograd} of {}", decision.candidates.len());
        for way in decision.candidates {
            let mut choices = Choices::default();
            choices.insert(decision.layer.as_str(), Choice::Prescribed(way));
            let module = compiled(choices);
            assert_eq!(module.decisions()[0].algorithm, way, "{shape:?}");
            let executable = module.executable().expect("it compiles");
            let mut executor = Executor::new(executable, PoolHandle::new(2)).expect("memory");
            let named = named.each_ref().map(|(name, value)| (*name, value));
            let found = executor.run_named(&named).expect("the feeds fit")[0].1.to_f64_vec();
            let error = found.iter().zip(&want).fold(0f64, |m, (a, b)| m.max((a - b).abs()));
            assert!(found.iter().all(|v| v.is_finite()) && error <= 1e-4 * largest, "{shape:?}, {way}: {error:e}");
        }
    }
}
