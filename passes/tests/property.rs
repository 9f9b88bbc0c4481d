//! Random linear networks: what the passes make of them is the same function, exactly.
//!
//! Weights, scales and shifts are small integers, so that what is folded at compile time is exact in f32; values are
//! compared in the prime field 2³¹ − 1, where sums and products are exact whatever their order. Two different linear
//! functions agree on random feeds with probability about degree / 2³¹ for each element.

mod common;

use common::check_equal;
use kiln_ir::attribute::{Padding, Reducer};
use kiln_ir::interp::{Fp, run};
use kiln_ir::{Builder, ConvOptions, DType, Dim, Graph, Tensor, Value, WindowOptions};
use kiln_passes::{Options, optimize};
use proptest::prelude::*;

/// A step of a network over [N, C, H, W].
#[derive(Clone, Debug)]
enum Step {
    Conv { outputs: usize, window: (usize, usize), stride: usize, padding: (i64, i64), dilation: usize, grouped: bool },
    Scale { whole: bool },
    Shift { whole: bool },
    Pad { top: i64, right: i64 },
    Negate,
    Residual,
    Split,
    TransposeAndBack,
    SumPool,
    Upsample,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1usize..5, (1usize..4, 1usize..4), 1usize..3, (0i64..3, 0i64..3), 1usize..3, any::<bool>()).prop_map(
            |(outputs, window, stride, padding, dilation, grouped)| Step::Conv {
                outputs, window, stride, padding, dilation, grouped
            }
        ),
        3 => any::<bool>().prop_map(|whole| Step::Scale { whole }),
        3 => any::<bool>().prop_map(|whole| Step::Shift { whole }),
        2 => (0i64..3, 0i64..3).prop_map(|(top, right)| Step::Pad { top, right }),
        1 => Just(Step::Negate),
        1 => Just(Step::Residual),
        1 => Just(Step::Split),
        1 => Just(Step::TransposeAndBack),
        1 => Just(Step::SumPool),
        1 => Just(Step::Upsample),
    ]
}

/// Small integers, from a seed.
fn integers(b: &mut Builder, dims: &[usize], seed: u64) -> Value {
    let n = dims.iter().product();
    let values: Vec<f32> = kiln_ir::random::uniform(seed, n).map(|u| (u * 7.0).floor() as f32 - 3.0).collect();
    b.constant(Tensor::from_slice(dims, &values).unwrap())
}

fn extents(b: &Builder, v: Value) -> Vec<usize> {
    b.dims(v).iter().filter_map(Dim::fixed).collect()
}

fn apply(b: &mut Builder, x: Value, step: &Step, seed: u64) -> Value {
    let dims = extents(b, x);
    let (channels, height, width) = (dims[1], dims[2], dims[3]);
    match *step {
        Step::Conv { outputs, window: (h, w), stride, padding: (low, high), dilation, grouped } => {
            let groups = if grouped { channels } else { 1 };
            let fits = |n: usize, window: usize| n as i64 + low + high > ((window - 1) * dilation) as i64;
            if !fits(height, h) || !fits(width, w) {
                return x;
            }
            let kernel = integers(b, &[outputs * groups, channels / groups, h, w], seed);
            let options = ConvOptions {
                strides: vec![stride; 2],
                padding: vec![Padding { low, high }; 2],
                rhs_dilation: vec![dilation; 2],
                groups,
                ..ConvOptions::default()
            };
            b.conv(x, kernel, &options)
        }
        Step::Scale { whole } | Step::Shift { whole } => {
            let factor = if whole {
                b.scalar(DType::F32, (seed % 5) as f64 - 2.0)
            } else {
                integers(b, &[channels, 1, 1], seed)
            };
            if matches!(step, Step::Scale { .. }) { b.mul(x, factor) } else { b.add(factor, x) }
        }
        Step::Pad { top, right } => {
            let pad = [Padding::NONE, Padding::NONE, Padding { low: top, high: 0 }, Padding { low: 0, high: right }];
            b.pad(x, &pad, 0.0)
        }
        Step::Negate => b.neg(x),
        Step::Residual => {
            let kernel = integers(b, &[channels, channels, 1, 1], seed);
            let y = b.conv(x, kernel, &ConvOptions::default());
            b.add(y, x)
        }
        Step::Split if channels > 1 => {
            let first = b.slice_axis(x, 1, 0, 1);
            let rest = b.slice_axis(x, 1, 1, channels);
            b.concat(&[first, rest], 1)
        }
        Step::Split => x,
        Step::TransposeAndBack => {
            let t = b.transpose(x, &[0, 2, 3, 1]);
            let factor = integers(b, &[channels], seed);
            let t = b.mul(t, factor);
            b.transpose(t, &[0, 3, 1, 2])
        }
        Step::SumPool if height > 1 && width > 1 => {
            let window = WindowOptions { window: vec![1, 1, 2, 2], ..WindowOptions::default() };
            b.reduce_window(x, &window, Reducer::Sum)
        }
        Step::SumPool => x,
        Step::Upsample if height < 9 => {
            let indices: Vec<i64> = (0..height as i64 * 2).map(|i| i / 2).collect();
            let indices = b.constant(Tensor::from_slice(&[height * 2], &indices).unwrap());
            b.gather(x, indices, 2)
        }
        Step::Upsample => x,
    }
}

fn network(steps: &[Step], classes: bool, seed: u64) -> Graph {
    let mut b = Builder::new("linear");
    let mut x = b.placeholder("x", DType::F32, &[2.into(), 2.into(), 5.into(), 4.into()]);
    for (i, step) in steps.iter().enumerate() {
        x = apply(&mut b, x, step, seed.wrapping_add(i as u64 * 1000));
    }
    if classes {
        let dims = extents(&b, x);
        let inner: usize = dims[1..].iter().product();
        let flat = b.reshape(x, &[2.into(), inner.into()]);
        let weights = integers(&mut b, &[inner, 3], seed);
        let bias = integers(&mut b, &[3], seed + 1);
        let y = b.matmul(flat, weights);
        x = b.add(y, bias);
    }
    b.output("y", x);
    b.finish().unwrap_or_else(|e| panic!("{e}"))
}

/// The outputs in the prime field, for feeds that are random residues.
fn exactly(graph: &Graph, seed: u64) -> Vec<Vec<i64>> {
    let feeds: Vec<(&str, Tensor)> = graph
        .input_types()
        .map(|(name, ty)| {
            let dims = ty.static_dims().unwrap();
            let n = dims.iter().product();
            let values: Vec<i64> = kiln_ir::random::uniform(seed, n).map(|u| (u * 2147483647.0) as i64).collect();
            (name, Tensor::from_slice(&dims, &values).unwrap())
        })
        .collect();
    let results = run::<Fp>(graph, &feeds, None).unwrap_or_else(|e| panic!("{e}\n{graph}"));
    results.into_iter().map(|(_, t)| t.to_i64_vec()).collect()
}

#[test]
fn the_exact_comparison_sees_another_weight() {
    let conv = Step::Conv { outputs: 2, window: (1, 1), stride: 1, padding: (0, 0), dilation: 1, grouped: false };
    let of = |seed| exactly(&network(std::slice::from_ref(&conv), false, seed), 7);
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn passes_keep_linear_networks_exactly(
        steps in prop::collection::vec(step(), 1..7), classes in any::<bool>(), seed in 0u64..1000,
    ) {
        let before = network(&steps, classes, seed);
        let got = optimize(&before, &Options::default()).unwrap_or_else(|e| panic!("{e}\n{before}"));
        prop_assert_eq!(exactly(&before, seed), exactly(&got.graph, seed), "{}\n{}", before, got.graph);
    }

    #[test]
    fn passes_keep_networks_with_activations(
        steps in prop::collection::vec(step(), 1..5), seed in 0u64..1000,
    ) {
        let mut b = Builder::extend(network(&steps, false, seed));
        let y = b.graph().outputs()[0].1;
        let a = b.relu(y);
        let kernel_inputs = extents(&b, a)[1];
        let kernel = integers(&mut b, &[3, kernel_inputs, 1, 1], seed + 5);
        let c = b.conv(a, kernel, &ConvOptions::default());
        let d = b.clip(c, -1.0, 6.0);
        let e = b.silu(d);
        b.output("e", e);
        let before = b.finish().unwrap_or_else(|e| panic!("{e}"));
        let got = optimize(&before, &Options::default()).unwrap_or_else(|e| panic!("{e}\n{before}"));
        check_equal(&before, &got.graph);
    }
}
