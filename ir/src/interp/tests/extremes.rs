//! Attributes near the limits of their types: the work is that of the elements touched, and results that no memory
//! holds are refused. Whatever is not bounded makes a test here run for years.

use super::{counting, folded, tensor, values};
use crate::attribute::{ConvLayout, Extreme, Padding, Real, Reducer};
use crate::dtype::DType;
use crate::interp::{EvalError, fold, run};
use crate::ops::Op;
use crate::tensor::Tensor;
use crate::text::parse;

const HUGE: usize = 1 << 60;

#[test]
fn an_lrn_of_any_size_costs_what_it_covers() {
    let x = tensor(&[1, 3, 2], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    for size in [5, 6, 1 << 20, HUGE, usize::MAX - 1, usize::MAX] {
        let op = Op::Lrn { size, alpha: Real(size as f64), beta: Real(1.0), bias: Real(1.0), axis: 1 };
        let sums = [1.0 + 9.0 + 25.0, 4.0 + 16.0 + 36.0];
        let expected: Vec<f32> = (1..=6).map(|i| i as f32 / (1.0 + sums[(i - 1) % 2])).collect();
        assert_eq!(values::<f32>(op, std::slice::from_ref(&x)), expected, "size {size}");
    }
    let nothing = Tensor::zeros(DType::F32, &[2, 0]).unwrap();
    let op = Op::Lrn { size: 3, alpha: Real(1.0), beta: Real(1.0), bias: Real(1.0), axis: 1 };
    assert_eq!(folded(op, &[nothing]).dims(), [2, 0]);
}

#[test]
fn windows_far_larger_than_x_cost_what_they_cover() {
    let x = counting(&[4]);
    let window = |window: usize, stride: usize, low: usize, high: usize, dilation: usize| Op::ReduceWindow {
        window: vec![window],
        strides: vec![stride],
        padding: vec![Padding { low: low as i64, high: high as i64 }],
        dilation: vec![dilation],
        reducer: Reducer::Sum,
    };
    let sum = |op: Op| values::<f32>(op, std::slice::from_ref(&x));
    // The window ends at each element in turn.
    assert_eq!(sum(window(HUGE, 1, HUGE - 1, 0, 1)), [0.0, 1.0, 3.0, 6.0]);
    // It begins at each.
    assert_eq!(sum(window(HUGE, 1, 0, HUGE - 1, 1)), [6.0, 6.0, 5.0, 3.0]);
    // Of three elements far apart, one meets x at a time.
    assert_eq!(sum(window(3, HUGE, HUGE, HUGE, HUGE)), [0.0]);
    assert_eq!(sum(window(2, 3, 0, HUGE, HUGE)), [0.0, 3.0]);
    // Two windows at the ends of a padding of which nothing else is visited.
    assert_eq!(sum(window(2, HUGE + 1, HUGE, 0, 1)), [0.0, 3.0]);
    let empty = Tensor::zeros(DType::F32, &[0]).unwrap();
    assert_eq!(values::<f32>(window(HUGE, 1, HUGE, 0, 1), &[empty]), [0.0]);
}

#[test]
fn gradients_of_windows_far_larger_than_x_cost_what_they_cover() {
    let x = tensor(&[4], &[1f32, 5.0, 2.0, 3.0]);
    let padding = vec![Padding { low: HUGE as i64 - 1, high: 0 }];
    let op = Op::SelectAndScatter { window: vec![HUGE], strides: vec![], padding, extreme: Extreme::Max };
    let source = tensor(&[4], &[1f32, 10.0, 100.0, 1000.0]);
    assert_eq!(values::<f32>(op, &[x, source]), [1.0, 1110.0, 0.0, 0.0]);
}

fn conv(strides: usize, padding: Padding, lhs_dilation: usize, rhs_dilation: usize) -> Op {
    Op::Conv {
        strides: vec![strides],
        padding: vec![padding],
        lhs_dilation: vec![lhs_dilation],
        rhs_dilation: vec![rhs_dilation],
        groups: 1,
        layout: ConvLayout::ChannelsFirst,
    }
}

#[test]
fn convolutions_cost_what_they_cover() {
    let x = counting(&[1, 1, 3]);
    let w = tensor(&[1, 1, 2], &[1f32, 10.0]);
    let apply = |op: Op| values::<f32>(op, &[x.clone(), w.clone()]);
    let huge = HUGE as i64;
    // Neighbours of the window, then of x, are far apart.
    assert_eq!(apply(conv(1, Padding { low: 0, high: huge }, 1, HUGE)), [0.0, 1.0, 2.0]);
    assert_eq!(apply(conv(HUGE, Padding::NONE, HUGE, 1)), [0.0, 1.0]);
    assert_eq!(apply(conv(HUGE, Padding { low: 1, high: 0 }, HUGE, 1)), [0.0, 10.0, 20.0]);
    assert_eq!(apply(conv(1 << 61, Padding { low: huge, high: 2 * huge }, 1, HUGE)), [0.0, 0.0]);
    // Cropped to its last two elements from dilated ones.
    assert_eq!(apply(conv(HUGE, Padding { low: -huge, high: 0 }, HUGE, HUGE)), [21.0]);
    assert_eq!(apply(conv(1, Padding { low: i64::MIN, high: i64::MAX }, 1, 1)), [0.0]);
}

#[test]
fn a_convolution_without_channels_sums_nothing_whatever_its_window() {
    let x = Tensor::zeros(DType::F32, &[1, 0, HUGE, 2]).unwrap();
    let w = Tensor::zeros(DType::F32, &[1, 0, HUGE, 1]).unwrap();
    let op = Op::Conv {
        strides: vec![],
        padding: vec![],
        lhs_dilation: vec![],
        rhs_dilation: vec![],
        groups: 1,
        layout: ConvLayout::ChannelsFirst,
    };
    assert_eq!(values::<f32>(op, &[x, w]), [0.0, 0.0]);
}

#[test]
fn a_product_over_nothing_is_zero_whatever_its_other_extents() {
    let x = Tensor::zeros(DType::F32, &[0, HUGE, HUGE]).unwrap();
    let axes = vec![1, 2, 0];
    let op = Op::Dot { lhs_batch: vec![], rhs_batch: vec![], lhs_contract: axes.clone(), rhs_contract: axes };
    assert_eq!(values::<f32>(op, &[x.clone(), x]), [0.0]);
}

#[test]
fn movement_by_huge_steps_costs_its_result() {
    let x = counting(&[3]);
    let slice = Op::Slice { start: vec![1], limit: vec![3], stride: vec![usize::MAX] };
    assert_eq!(values::<f32>(slice, std::slice::from_ref(&x)), [1.0]);
    let pad = |low: i64, between: usize| Op::Pad {
        padding: vec![Padding { low, high: 0 }],
        interior: vec![between],
        value: Real(7.0),
    };
    assert_eq!(values::<f32>(pad(1, usize::MAX), &[counting(&[1])]), [7.0, 0.0]);
    assert!(matches!(fold(&pad(0, HUGE), std::slice::from_ref(&x)), Err(EvalError::TooLarge { .. })));
    assert!(matches!(fold(&pad(1 << 40, 0), &[x]), Err(EvalError::TooLarge { .. })));
}

#[test]
fn results_that_no_memory_holds_are_refused_by_every_op_that_makes_them_from_attributes() {
    let x = counting(&[1]);
    let dims = vec![HUGE.into()];
    let padding = vec![Padding { low: 0, high: HUGE as i64 }];
    let counter = Tensor::scalar(0i64);
    let cases = [
        (Op::Iota { dtype: DType::I8, dims: dims.clone(), axis: 0 }, vec![]),
        (Op::RandomBits { dims: dims.clone(), seed: 1 }, vec![counter]),
        (Op::Broadcast { dims, axes: vec![0] }, vec![x.clone()]),
        (Op::Pad { padding: padding.clone(), interior: vec![], value: Real(0.0) }, vec![x.clone()]),
        (
            Op::ReduceWindow { window: vec![1], strides: vec![], padding, dilation: vec![], reducer: Reducer::Max },
            vec![x.clone()],
        ),
        (conv(1, Padding { low: 0, high: HUGE as i64 }, 1, 1), vec![counting(&[1, 1, 1]), counting(&[1, 1, 1])]),
    ];
    for (op, operands) in cases {
        let error = fold(&op, &operands).unwrap_err();
        assert!(matches!(error, EvalError::TooLarge { .. }), "{}: {error}", op.mnemonic());
        assert!(error.to_string().contains("does not fit in memory"), "{error}");
    }
}

#[test]
fn what_a_fused_reduction_reduces_must_fit_in_memory_too() {
    let text = "kiln 1\ngraph @g(%x: f32[1048576, 1], %z: f32[1, 1048576]) -> (y = %y) {\n  %y = fused_reduce %x, %z \
                {axes = [0, 1], reducer = sum, prologue = \"a0 * a1\"}\n}";
    let graph = parse(text, "t").unwrap_or_else(|e| panic!("{e}"));
    let zeros = |dims: &[usize]| Tensor::zeros(DType::F32, dims).unwrap();
    let error = run::<f32>(&graph, &[("x", zeros(&[1 << 20, 1])), ("z", zeros(&[1, 1 << 20]))], None).unwrap_err();
    assert!(error.to_string().contains("f32[1048576, 1048576] does not fit in memory"), "{error}");
}

#[test]
fn a_variable_that_no_memory_holds_is_an_error_that_names_it() {
    let text = "kiln 1\ngraph @g() -> (y = %y) {\n  variable \"w\": f32[288230376151711744] = fill(0)\n  \
                %v = read_var {variable = \"w\"} : f32[288230376151711744]\n  \
                %y = reduce %v {axes = [0], reducer = sum}\n}";
    let graph = parse(text, "t").unwrap_or_else(|e| panic!("{e}"));
    let error = run::<f32>(&graph, &[], None).unwrap_err().to_string();
    assert!(error.contains("`w`"), "{error}");
}
