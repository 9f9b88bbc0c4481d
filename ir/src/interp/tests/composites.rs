//! Composites: their values by definition, and their bodies against direct evaluation.

use super::{counting, folded, tensor, values};
use crate::attribute::Real;
use crate::builder::Builder;
use crate::dtype::DType;
use crate::expand::{body, expand_graph};
use crate::graph::Graph;
use crate::initializer::Initializer;
use crate::interp::{fold, fold_in, run};
use crate::ops::{Level, Op, ROWS};
use crate::tensor::Tensor;
use crate::types::{Dim, TensorType};

#[track_caller]
fn close(found: &[f32], expected: &[f64], relative: f64) {
    assert_eq!(found.len(), expected.len());
    for (&f, &e) in found.iter().zip(expected) {
        assert!((f64::from(f) - e).abs() <= relative * e.abs(), "{f} for {e}");
    }
}

/// A few roundings of f32.
const FEW: f64 = 8.0 * 5.96e-8;

#[test]
fn softmax_sums_to_one_along_its_axis_whatever_the_magnitude() {
    // e^0, e^1, e^2 over their sum.
    let expected = [0.09003057317038046, 0.24472847105479764, 0.6652409557748218];
    for shift in [0.0f32, 1000.0, -1000.0] {
        let x = tensor(&[3], &[shift, shift + 1.0, shift + 2.0]);
        close(&values(Op::Softmax { axis: 0 }, &[x]), &expected, FEW);
    }
    let columns = values::<f32>(Op::Softmax { axis: 0 }, &[tensor(&[2, 2], &[0f32, 5.0, 0.0, 5.0])]);
    assert_eq!(columns, [0.5; 4]);
    let masked = values::<f32>(Op::Softmax { axis: 0 }, &[tensor(&[3], &[f32::NEG_INFINITY, 1.0, 1.0])]);
    assert_eq!(masked, [0.0, 0.5, 0.5]);
    // Nothing left, or no greatest finite element: 0/0.
    assert!(values::<f32>(Op::Softmax { axis: 0 }, &[tensor(&[2], &[f32::NEG_INFINITY; 2])])[0].is_nan());
    assert_eq!(folded(Op::Softmax { axis: 1 }, &[counting(&[2, 0])]).dims(), [2, 0]);
}

#[test]
fn log_softmax_keeps_what_softmax_would_lose() {
    let x = tensor(&[3], &[0f32, 1.0, 2.0]);
    let expected = [-2.4076059644443806, -1.4076059644443804, -0.4076059644443804];
    close(&values(Op::LogSoftmax { axis: 0 }, &[x]), &expected, FEW);
    assert_eq!(values::<f32>(Op::LogSoftmax { axis: 0 }, &[tensor(&[2], &[0f32, 500.0])]), [-500.0, 0.0]);
}

#[test]
fn layer_norm_centres_and_scales_the_trailing_axes() {
    let x = tensor(&[2, 4], &[1f32, 2.0, 3.0, 4.0, 10.0, 10.0, 10.0, 10.0]);
    let (scale, bias) = (tensor(&[4], &[1f32, 1.0, 2.0, 2.0]), tensor(&[4], &[0f32, 0.0, 0.0, 1.0]));
    let y = values::<f32>(Op::LayerNorm { axis: 1, epsilon: Real(0.0) }, &[x.clone(), scale.clone(), bias.clone()]);
    // Mean 2.5, variance 1.25; ±1.5/√1.25 and ±0.5/√1.25.
    let (far, near) = (1.3416407864998738, 0.4472135954999579);
    close(&y[..4], &[-far, -near, 2.0 * near, 2.0 * far + 1.0], FEW);
    assert!(y[4].is_nan(), "without epsilon a constant row is 0/0");
    let y = values::<f32>(Op::LayerNorm { axis: 1, epsilon: Real(1e-5) }, &[x.clone(), scale, bias]);
    assert_eq!(y[4..], [0.0, 0.0, 0.0, 1.0]);
    let ones = tensor(&[2, 4], &[1f32; 8]);
    let y = values::<f32>(Op::LayerNorm { axis: 0, epsilon: Real(1e-5) }, &[x, ones.clone(), ones]);
    let mean = y.iter().sum::<f32>() / 8.0;
    assert!((mean - 1.0).abs() < 1e-6, "normalised over both axes, then shifted by 1: {mean}");
}

#[test]
fn batch_norm_uses_the_given_statistics_per_channel() {
    let x = counting(&[1, 2, 2]);
    let vector = |a: f32, b: f32| tensor(&[2], &[a, b]);
    let statistics = [vector(2.0, 1.0), vector(0.5, -1.0), vector(1.0, 2.0), vector(4.0, 0.25)];
    let op = |axis| Op::BatchNorm { axis, epsilon: Real(0.0) };
    let operands = [&[x][..], &statistics].concat();
    assert_eq!(values::<f32>(op(1), &operands), [-0.5, 0.5, -1.0, 1.0]);
    assert_eq!(values::<f32>(op(2), &operands), [-0.5, -3.0, 1.5, 1.0]);
}

#[test]
fn lrn_divides_by_the_neighbouring_channels() {
    let x = tensor(&[1, 4, 1], &[1f32, 2.0, 3.0, 4.0]);
    let op = |size| Op::Lrn { size, alpha: Real(size as f64), beta: Real(1.0), bias: Real(1.0), axis: 1 };
    // Size 3: one neighbour on either side; size 2: the element and the one after it.
    close(&values(op(3), std::slice::from_ref(&x)), &[1.0 / 6.0, 2.0 / 15.0, 3.0 / 30.0, 4.0 / 26.0], FEW);
    close(&values(op(2), &[x]), &[1.0 / 6.0, 2.0 / 14.0, 3.0 / 26.0, 4.0 / 17.0], FEW);
    // Krizhevsky's own numbers, in Python.
    let op = Op::Lrn { size: 5, alpha: Real(1e-4), beta: Real(0.75), bias: Real(2.0), axis: 0 };
    close(&values(op, &[tensor(&[1], &[100f32])]), &[100.0 / (2.0f64 + 1e-4 / 5.0 * 1e4).powf(0.75)], FEW);
}

/// Operands that every composite accepts: positive variances, slopes and counts.
fn operands_of(op: &Op) -> Vec<Tensor> {
    let x = tensor(&[2, 3, 2], &crate::random::normal(5, 12).map(|v| v as f32).collect::<Vec<_>>());
    let vector = |seed| tensor(&[3], &crate::random::uniform(seed, 3).map(|v| v as f32 + 0.5).collect::<Vec<_>>());
    match op {
        Op::LayerNorm { .. } => {
            let tail = |seed| tensor(&[3, 2], &crate::random::normal(seed, 6).map(|v| v as f32).collect::<Vec<_>>());
            vec![x, tail(1), tail(2)]
        }
        Op::BatchNorm { .. } => vec![x, vector(1), vector(2), vector(3), vector(4)],
        Op::Recurrent { .. } => {
            let drawn = |seed, dims: &[usize]| {
                let n = dims.iter().product();
                tensor(dims, &crate::random::normal(seed, n).map(|v| v as f32).collect::<Vec<_>>())
            };
            let dims: [&[usize]; 5] = [&[3, 2, 8], &[8, 2], &[2, 2], &[2, 2], &[3, 2]];
            (1..).zip(dims).map(|(seed, dims)| drawn(seed, dims)).collect()
        }
        Op::PRelu {} => vec![x.clone(), x],
        _ => vec![x],
    }
}

fn composites() -> Vec<Op> {
    let axis = ("axis".to_owned(), crate::attribute::Attribute::Int(1));
    let size = ("size".to_owned(), crate::attribute::Attribute::Int(3));
    let cell = ("cell".to_owned(), crate::attribute::Attribute::Word("lstm".to_owned()));
    let made = ROWS.iter().filter(|row| row.level == Level::L1).map(|row| {
        let needed = |name: &str| row.attributes.iter().any(|a| a.name == name);
        let given: Vec<_> = [&axis, &size, &cell].into_iter().filter(|(n, _)| needed(n)).cloned().collect();
        Op::from_attributes(row.mnemonic, &given).unwrap()
    });
    made.collect()
}

#[test]
fn the_body_of_every_composite_is_l0_and_computes_what_the_op_does() {
    assert!(composites().len() >= 19, "the table has lost composites");
    for op in composites() {
        let operands = operands_of(&op);
        let types: Vec<TensorType> = operands.iter().map(|t| TensorType::fixed(t.dtype(), t.dims())).collect();
        let body = body(&op, &types).unwrap_or_else(|e| panic!("{}: {e}", op.mnemonic()));
        assert!(body.node_ids().all(|id| body.node(id).op.level() == Level::L0), "{}", op.mnemonic());
        let names: Vec<String> = (0..operands.len()).map(|i| format!("a{i}")).collect();
        let feeds: Vec<(&str, Tensor)> = names.iter().map(String::as_str).zip(operands.iter().cloned()).collect();
        // The same operations in the same order: equal to the last bit, in both precisions.
        let results = |run: Vec<(String, Tensor)>| run.into_iter().map(|(_, t)| t).collect::<Vec<_>>();
        let found = results(run::<f32>(&body, &feeds, None).unwrap());
        assert_eq!(found, fold(&op, &operands).unwrap(), "{}", op.mnemonic());
        let found = results(run::<f64>(&body, &feeds, None).unwrap());
        assert_eq!(found, fold_in::<f64>(&op, &operands).unwrap(), "{}", op.mnemonic());
    }
}

#[test]
fn fused_ops_expand_into_what_they_were_fused_from() {
    let mut b = Builder::new("fused");
    let x = b.placeholder("x", DType::F32, &[2.into(), 3.into()]);
    let w = b.placeholder("w", DType::F32, &[3.into(), 4.into()]);
    let bias = b.placeholder("bias", DType::F32, &[1.into(), 4.into()]);
    let epilogue = "t0 = a0 + a1; t0 * reciprocal(1 + exp(-t0))".parse().unwrap();
    let dot =
        Op::FusedDot { lhs_batch: vec![], rhs_batch: vec![], lhs_contract: vec![1], rhs_contract: vec![0], epilogue };
    let y = b.add_op(dot, &[x, w, bias]);
    let y = b.add_op(Op::FusedElementwise { expr: "select(isnan(a0), 1, trunc(a0 * 4))".parse().unwrap() }, &[y]);
    let reduce = Op::FusedReduce {
        axes: vec![1],
        reducer: crate::attribute::Reducer::Max,
        prologue: "a0 * a1".parse().unwrap(),
    };
    let z = b.add_op(reduce, &[y, bias]);
    b.output("y", y);
    b.output("z", z);
    let graph = b.finish().unwrap();
    let expanded = expand_graph(&graph, Level::L0).unwrap();
    assert!(expanded.node_ids().all(|id| expanded.node(id).op.level() == Level::L0));
    let random = |seed, dims: &[usize]| {
        let n = dims.iter().product();
        tensor(dims, &crate::random::normal(seed, n).map(|v| v as f32).collect::<Vec<_>>())
    };
    let feeds = [("x", random(1, &[2, 3])), ("w", random(2, &[3, 4])), ("bias", random(3, &[1, 4]))];
    assert_eq!(run::<f32>(&graph, &feeds, None).unwrap(), run::<f32>(&expanded, &feeds, None).unwrap());
}

fn mixed_graph() -> Graph {
    let mut b = Builder::new("mixed");
    b.graph_mut().set_metadata("origin", "test");
    let x = b.placeholder("x", DType::F32, &["batch".into(), 3.into()]);
    let v = b.variable("v", DType::F32, &[3], Initializer::ONES);
    let dims: Vec<Dim> = b.dims(x);
    b.set_name(Some("activation".into()));
    let y = b.gelu(x);
    b.set_name(None);
    let v = b.broadcast_to(v, &dims);
    let y = b.mul(y, v);
    let y = b.softmax(y, 1);
    b.output("y", y);
    b.finish().unwrap()
}

#[test]
fn expanding_a_graph_keeps_its_signature_state_names_and_symbols() {
    let graph = mixed_graph();
    let expanded = expand_graph(&graph, Level::L0).unwrap();
    assert!(expanded.node_ids().all(|id| expanded.node(id).op.level() == Level::L0));
    assert!(expanded.len() > graph.len());
    assert_eq!(expanded.input_types().collect::<Vec<_>>(), graph.input_types().collect::<Vec<_>>());
    assert_eq!(expanded.variables(), graph.variables());
    assert_eq!(expanded.metadata(), graph.metadata());
    assert_eq!(expanded.ty(expanded.outputs()[0].1), graph.ty(graph.outputs()[0].1));
    let named = |g: &Graph| g.node_ids().filter(|&id| g.node(id).name.as_deref() == Some("activation")).count();
    assert!(named(&expanded) > named(&graph));
}

#[test]
fn a_mean_over_a_symbolic_extent_has_no_body() {
    let op = Op::LayerNorm { axis: 0, epsilon: Real(1e-5) };
    let ty = TensorType::new(DType::F32, ["seq"]);
    let error = body(&op, &[ty.clone(), ty.clone(), ty]).unwrap_err().to_string();
    assert!(error.contains("layer_norm") && error.contains("bind them first") && error.contains("seq"), "{error}");
}

#[test]
fn a_composite_in_half_precision_is_evaluated_through_its_rounded_body() {
    let x = tensor(&[2], &[half::f16::ZERO, half::f16::ZERO]);
    assert_eq!(values::<half::f16>(Op::Softmax { axis: 0 }, &[x]), [half::f16::from_f32(0.5); 2]);
    let doubles = values::<f64>(Op::Softmax { axis: 0 }, &[tensor(&[2], &[0f64, 1.0])]);
    // The logistic function at −1 and 1.
    assert!((doubles[0] - 0.2689414213699951).abs() < 1e-16 && (doubles[1] - 0.7310585786300049).abs() < 2e-16);
}

#[test]
fn over_the_prime_field_composites_with_exponentials_are_refused_by_name() {
    let error = fold_in::<crate::interp::Fp>(&Op::Softmax { axis: 0 }, &[counting(&[3])]).unwrap_err().to_string();
    assert_eq!(error, "`max` has no meaning over the prime field of 2^31 - 1");
    let error = fold_in::<crate::interp::Fp>(&Op::Gelu {}, &[counting(&[3])]).unwrap_err().to_string();
    assert!(error.starts_with("`erf` has no meaning"), "{error}");
    assert!(fold(&Op::Gelu {}, &[counting(&[3])]).is_ok());
}
