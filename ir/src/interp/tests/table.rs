//! Every row of the op table at once: what inference promises, the interpreter keeps.

use std::collections::BTreeSet;

use super::{EvalError, fold};
use crate::attribute::{Attribute, Cell, ConvLayout, Extreme, Padding, Real, Reducer, ScatterMode};
use crate::dtype::DType;
use crate::infer::infer;
use crate::interp::{Fp, fold_in};
use crate::ops::{Op, ROWS};
use crate::tensor::Tensor;
use crate::types::{Dim, TensorType};

/// Ops that say something only within a graph.
const BOUND: [&str; 5] = ["placeholder", "read_var", "assign", "group", "constant"];

fn dims(d: &[usize]) -> Vec<Dim> {
    d.iter().map(|&n| Dim::Fixed(n)).collect()
}

/// An op, and the dims of its operands; those named in `fixed` have that dtype whatever is tried.
struct Sample {
    op: Op,
    operands: Vec<Vec<usize>>,
    fixed: Vec<(usize, DType)>,
}

fn sample(op: Op, operands: &[&[usize]]) -> Sample {
    Sample { op, operands: operands.iter().map(|d| d.to_vec()).collect(), fixed: Vec::new() }
}

fn convolution(layout: ConvLayout) -> Op {
    Op::Conv {
        strides: vec![2, 1],
        padding: vec![Padding { low: -1, high: 2 }, Padding::same(1)],
        lhs_dilation: vec![1, 2],
        rhs_dilation: vec![2, 1],
        groups: 2,
        layout,
    }
}

/// Samples of every kind, with `n` for an extent that may be 0.
fn samples(n: usize) -> Vec<Sample> {
    let mut all: Vec<Sample> = Vec::new();
    let axis = ("axis".to_owned(), Attribute::Int(1));
    for row in ROWS.iter().filter(|r| r.formula.is_some()) {
        let op = Op::from_attributes(row.mnemonic, &[]).unwrap();
        let mut s = sample(op, &vec![&[2, n][..]; row.operands.len()]);
        if row.mnemonic == "select" {
            s.fixed.push((0, DType::Bool));
        }
        all.push(s);
    }
    for mnemonic in ["softmax", "log_softmax"] {
        all.push(sample(Op::from_attributes(mnemonic, std::slice::from_ref(&axis)).unwrap(), &[&[2, n, 2]]));
    }
    all.push(sample(Op::LayerNorm { axis: 1, epsilon: Real(1e-5) }, &[&[2, n, 2], &[n, 2], &[n, 2]]));
    all.push(sample(Op::BatchNorm { axis: 1, epsilon: Real(1e-5) }, &[&[2, n], &[n], &[n], &[n], &[n]]));
    all.push(sample(Op::Lrn { size: 3, alpha: Real(1.0), beta: Real(0.5), bias: Real(1.0), axis: 1 }, &[&[n, 4, 2]]));
    for (cell, more) in [
        (Cell::Rnn, vec![]),
        (Cell::Lstm, vec![vec![n, 2]]),
        (Cell::Lstm, vec![vec![n, 2], vec![3, 2]]),
        (Cell::Gru, vec![vec![1, 2]]),
        (Cell::GruResetBefore, vec![]),
    ] {
        let sums = cell.gates() * 2;
        let operands = [vec![vec![3, n, sums], vec![sums, 2], vec![n, 2]], more].concat();
        let op = Op::Recurrent { cell, activations: Vec::new(), reverse: cell == Cell::Gru };
        all.push(Sample { op, operands, fixed: Vec::new() });
    }
    for dtype in DType::ALL {
        all.push(sample(Op::Convert { dtype }, &[&[n, 2]]));
        all.push(sample(Op::Iota { dtype, dims: dims(&[n, 3]), axis: 0 }, &[]));
        let mut quantize = sample(Op::Quantize { dtype, axis: 1 }, &[&[2, n], &[n], &[n]]);
        quantize.fixed.push((2, dtype));
        all.push(quantize);
        let mut dequantize = sample(Op::Dequantize { axis: 0 }, &[&[2, n], &[], &[]]);
        dequantize.fixed.push((1, DType::F32));
        all.push(dequantize);
    }
    let mut bits = sample(Op::RandomBits { dims: dims(&[n, 3]), seed: 1 }, &[&[]]);
    bits.fixed.push((0, DType::I64));
    all.push(bits);

    all.push(sample(Op::Reshape { dims: dims(&[n * 2, 3]) }, &[&[3, n, 2]]));
    all.push(sample(Op::Transpose { perm: vec![1, 2, 0] }, &[&[3, n, 2]]));
    all.push(sample(Op::Broadcast { dims: dims(&[2, n, 3]), axes: vec![1, 2] }, &[&[1, 3]]));
    all.push(sample(Op::Slice { start: vec![1, 0], limit: vec![4, n], stride: vec![2, 1] }, &[&[5, n]]));
    all.push(sample(
        Op::Pad { padding: vec![Padding { low: 1, high: 0 }; 2], interior: vec![1, 2], value: Real(2.0) },
        &[&[n, 2]],
    ));
    all.push(sample(Op::Concat { axis: 1 }, &[&[2, n, 3], &[2, 1, 3]]));
    all.push(sample(Op::Reverse { axes: vec![1] }, &[&[2, n]]));
    for dtype in [DType::I32, DType::I64] {
        let mut gather = sample(Op::Gather { axis: 1 }, &[&[2, 3, n], &[2, n]]);
        gather.fixed.push((1, dtype));
        all.push(gather);
        for &mode in ScatterMode::ALL {
            let mut scatter = sample(Op::Scatter { axis: 1, mode }, &[&[2, 3, 2], &[n], &[2, n, 2]]);
            scatter.fixed.push((1, dtype));
            all.push(scatter);
        }
    }
    for &reducer in Reducer::ALL {
        all.push(sample(Op::Reduce { axes: vec![0, 2], reducer }, &[&[2, 3, n]]));
        let of_truth = matches!(reducer, Reducer::And | Reducer::Or);
        let prologue = if of_truth { "a0 | a1" } else { "a0 + a1" };
        let fused = Op::FusedReduce { axes: vec![1], reducer, prologue: prologue.parse().unwrap() };
        all.push(sample(fused, &[&[2, n], &[2, 1]]));
        if !of_truth {
            let window = Op::ReduceWindow {
                window: vec![1, 3],
                strides: vec![1, 2],
                padding: vec![Padding::NONE, Padding::same(1)],
                dilation: vec![],
                reducer,
            };
            all.push(sample(window, &[&[n, 4]]));
        }
    }
    for &extreme in Extreme::ALL {
        all.push(sample(Op::ArgReduce { axis: 0, extreme }, &[&[3, n]]));
        all.push(sample(Op::TopK { k: n.min(2), axis: 1, extreme }, &[&[2, n]]));
        let scatter = Op::SelectAndScatter { window: vec![1, 2], strides: vec![1, 2], padding: vec![], extreme };
        all.push(sample(scatter, &[&[n, 4], &[n, 2]]));
    }
    let dot = Op::Dot { lhs_batch: vec![0], rhs_batch: vec![1], lhs_contract: vec![2], rhs_contract: vec![0] };
    all.push(sample(dot.clone(), &[&[2, 3, n], &[n, 2, 2]]));
    all.push(sample(dot.clone(), &[&[n, 3, 2], &[2, n, 2]]));
    let epilogue = || "a0 * a1".parse().unwrap();
    all.push(sample(dot.with_epilogue(epilogue()).unwrap(), &[&[2, 3, n], &[n, 2, 2], &[1, 3, 1]]));
    let attention = Op::FusedAttention {
        q_batch: vec![1],
        k_batch: vec![0],
        v_batch: vec![0],
        q_depth: 2,
        k_depth: 1,
        v_keys: 1,
        epilogue: "a0 * 0.5 + a1".parse().unwrap(),
    };
    all.push(sample(attention.clone(), &[&[n, 2, 3], &[2, 3, 4], &[2, 4, 5], &[1, n, 1]]));
    all.push(sample(attention, &[&[3, 2, 2], &[2, 2, n], &[2, n, 2], &[2, 1, n]]));
    let (first, last) = (convolution(ConvLayout::ChannelsFirst), convolution(ConvLayout::ChannelsLast));
    all.push(sample(first, &[&[n, 4, 5, 3], &[4, 2, 2, 3]]));
    all.push(sample(last.clone(), &[&[n, 5, 3, 4], &[2, 3, 2, 4]]));
    all.push(sample(last.with_epilogue(epilogue()).unwrap(), &[&[n, 5, 3, 4], &[2, 3, 2, 4], &[1, 1, 1, 4]]));
    all.push(sample(Op::FusedElementwise { expr: "select(a0 == a1, a0, a1)".parse().unwrap() }, &[&[2, 1], &[1, n]]));
    all
}

/// Small values, some of them zero and below.
fn operand(dtype: DType, dims: &[usize], seed: u64) -> Tensor {
    let n = dims.iter().product();
    let values: Vec<f64> = crate::random::uniform(seed, n).map(|u| (u * 9.0).floor() - 3.0).collect();
    Tensor::from_f64(dtype, dims, &values).unwrap()
}

/// Every sample in every dtype that inference takes: op, operands, result types.
fn accepted() -> Vec<(Op, Vec<Tensor>, Vec<TensorType>)> {
    let mut all = Vec::new();
    for s in [3, 2, 0].into_iter().flat_map(samples) {
        let before = all.len();
        for dtype in DType::ALL {
            let operands: Vec<Tensor> = (s.operands.iter().enumerate())
                .map(|(i, dims)| {
                    let fixed = s.fixed.iter().find(|(k, _)| *k == i).map(|f| f.1);
                    operand(fixed.unwrap_or(dtype), dims, i as u64)
                })
                .collect();
            let types: Vec<TensorType> = operands.iter().map(|t| TensorType::fixed(t.dtype(), t.dims())).collect();
            if let Ok(results) = infer(&s.op, &types) {
                all.push((s.op.clone(), operands, results));
            }
        }
        let partial = ["quantize", "dequantize", "iota"].contains(&s.op.mnemonic());
        assert!(partial || all.len() > before, "no dtype fits the sample {:?} of {:?}", s.op, s.operands);
    }
    all
}

#[test]
fn the_samples_cover_the_table() {
    let seen: BTreeSet<&str> = accepted().iter().map(|(op, ..)| op.mnemonic()).collect();
    let missing: Vec<&str> =
        ROWS.iter().map(|r| r.mnemonic).filter(|m| !seen.contains(m) && !BOUND.contains(m)).collect();
    assert!(missing.is_empty(), "no sample of {missing:?}");
}

#[test]
fn every_op_gives_results_of_the_inferred_types_in_every_dtype_and_on_empty_operands() {
    for (op, operands, types) in accepted() {
        let results = fold(&op, &operands).unwrap_or_else(|e| panic!("{op:?} of {operands:?}: {e}"));
        let found: Vec<TensorType> = results.iter().map(|t| TensorType::fixed(t.dtype(), t.dims())).collect();
        assert_eq!(found, types, "{op:?} of {operands:?}");
    }
}

#[test]
fn in_f64_every_op_gives_doubles_close_to_its_own_precision() {
    for (op, operands, types) in accepted() {
        let wide = fold_in::<f64>(&op, &operands).unwrap_or_else(|e| panic!("{op:?} of {operands:?}: {e}"));
        let narrow = fold(&op, &operands).unwrap();
        for ((wide, narrow), ty) in wide.iter().zip(&narrow).zip(&types) {
            assert_eq!(wide.dtype(), if ty.dtype.is_float() { DType::F64 } else { ty.dtype }, "{op:?}");
            // The values are small integers and few: each of at most 16 operations (the longest composite) loses
            // half a unit of a type with at least 8, 11, 24 or 53 bits, and bf16 composites round after each of them.
            let unit = match ty.dtype {
                DType::BF16 => 2f64.powi(-8),
                DType::F16 => 2f64.powi(-11),
                DType::F32 => 2f64.powi(-24),
                DType::F64 => 2f64.powi(-53),
                _ => 0.0,
            };
            for (w, n) in wide.to_f64_vec().into_iter().zip(narrow.to_f64_vec()) {
                let same = w == n || (w.is_nan() && n.is_nan());
                assert!(same || (w - n).abs() <= 16.0 * unit * w.abs().max(1.0), "{op:?} of {operands:?}: {n} for {w}");
            }
        }
    }
}

#[test]
fn over_the_field_every_op_gives_residues_or_says_what_has_no_meaning() {
    let (mut defined, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for (op, operands, types) in accepted() {
        match fold_in::<Fp>(&op, &operands) {
            Ok(results) => {
                for (t, ty) in results.iter().zip(&types) {
                    assert_eq!(t.dtype(), if ty.dtype.is_float() { DType::I64 } else { ty.dtype }, "{op:?}");
                }
                if operands.iter().all(|t| t.dtype() == DType::F32 && !t.is_empty()) {
                    defined.insert(op.mnemonic());
                }
            }
            Err(EvalError::Undefined(_)) => {
                refused.insert(op.mnemonic());
            }
            Err(e) => panic!("{op:?} of {operands:?}: {e}"),
        }
    }
    for linear in ["add", "sub", "mul", "neg", "conv_general", "dot_general", "fused_conv", "fused_dot", "reduce"] {
        assert!(defined.contains(linear), "{linear}");
    }
    for other in ["exp", "maximum", "less", "equal", "top_k", "arg_reduce", "softmax", "quantize", "relu", "sqrt"] {
        assert!(refused.contains(other), "{other}");
    }
}
