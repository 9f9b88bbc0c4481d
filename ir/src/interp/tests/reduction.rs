use half::f16;

use super::{counting, folded, tensor, values};
use crate::attribute::{Extreme, Reducer};
use crate::dtype::DType;
use crate::interp::fold;
use crate::ops::Op;
use crate::tensor::Tensor;

const NAN: f32 = f32::NAN;

fn reduce(axes: &[usize], reducer: Reducer) -> Op {
    Op::Reduce { axes: axes.to_vec(), reducer }
}

#[test]
fn reductions_run_along_any_axes() {
    let x = [counting(&[2, 3, 2])];
    assert_eq!(values::<f32>(reduce(&[0], Reducer::Sum), &x), [6., 8., 10., 12., 14., 16.]);
    assert_eq!(values::<f32>(reduce(&[1], Reducer::Sum), &x), [6., 9., 24., 27.]);
    assert_eq!(values::<f32>(reduce(&[0, 2], Reducer::Sum), &x), [14., 22., 30.]);
    assert_eq!(folded(reduce(&[0, 1, 2], Reducer::Sum), &x), Tensor::scalar(66f32));
    assert_eq!(values::<f32>(reduce(&[2], Reducer::Max), &x), [1., 3., 5., 7., 9., 11.]);
    assert_eq!(values::<f32>(reduce(&[0, 1], Reducer::Min), &x), [0., 1.]);
    assert_eq!(values::<f32>(reduce(&[1], Reducer::Prod), &x), [0., 15., 480., 693.]);
    assert_eq!(folded(reduce(&[], Reducer::Sum), &x), x[0]);
}

#[test]
fn a_reduction_of_nothing_is_its_identity() {
    let none = [Tensor::zeros(DType::F32, &[2, 0]).unwrap()];
    assert_eq!(values::<f32>(reduce(&[1], Reducer::Sum), &none), [0.0, 0.0]);
    assert_eq!(values::<f32>(reduce(&[1], Reducer::Prod), &none), [1.0, 1.0]);
    assert_eq!(values::<f32>(reduce(&[1], Reducer::Max), &none), [f32::NEG_INFINITY; 2]);
    assert_eq!(values::<f32>(reduce(&[1], Reducer::Min), &none), [f32::INFINITY; 2]);
    assert!(values::<f32>(reduce(&[0], Reducer::Sum), &none).is_empty());
    let none = [Tensor::zeros(DType::I8, &[0]).unwrap()];
    assert_eq!(values::<i8>(reduce(&[0], Reducer::Max), &none), [-128]);
    assert_eq!(values::<i8>(reduce(&[0], Reducer::Min), &none), [127]);
    let none = [Tensor::zeros(DType::Bool, &[0]).unwrap()];
    assert_eq!(values::<bool>(reduce(&[0], Reducer::And), &none), [true]);
    assert_eq!(values::<bool>(reduce(&[0], Reducer::Or), &none), [false]);
}

#[test]
fn reductions_pass_nan_on_wrap_integers_and_join_truth() {
    let x = [tensor(&[2, 3], &[1.0, NAN, 3.0, 4.0, 5.0, 6.0])];
    for reducer in [Reducer::Sum, Reducer::Prod, Reducer::Max, Reducer::Min] {
        let y = values::<f32>(reduce(&[1], reducer), &x);
        assert!(y[0].is_nan() && !y[1].is_nan(), "{reducer:?}");
    }
    assert_eq!(values::<u8>(reduce(&[0], Reducer::Sum), &[tensor(&[3], &[200u8, 100, 3])]), [47]);
    let x = [tensor(&[2, 2], &[true, false, true, true])];
    assert_eq!(values::<bool>(reduce(&[1], Reducer::And), &x), [false, true]);
    assert_eq!(values::<bool>(reduce(&[0], Reducer::Or), &x), [true, true]);
}

#[test]
fn sums_go_left_to_right_in_the_elements_own_precision() {
    // (2^24 + 1) + 1: each addition ties back to 2^24 in f32; in the other order the ones would count.
    let x = tensor(&[3], &[16777216f32, 1.0, 1.0]);
    assert_eq!(values::<f32>(reduce(&[0], Reducer::Sum), &[x]), [16777216.0]);
    let x = tensor(&[3], &[1f32, 1.0, 16777216.0]);
    assert_eq!(values::<f32>(reduce(&[0], Reducer::Sum), &[x]), [16777218.0]);
    let x = tensor(&[3], &[16777216f64, 1.0, 1.0]);
    assert_eq!(values::<f64>(reduce(&[0], Reducer::Sum), &[x]), [16777218.0]);
    // f16 sums are rounded once, at the end: 2048 + 1 + 1 never passes through f16.
    let x = tensor(&[3], &[2048.0, 1.0, 1.0].map(f16::from_f32));
    assert_eq!(values::<f16>(reduce(&[0], Reducer::Sum), &[x]), [f16::from_f32(2050.0)]);
}

#[test]
fn fused_reduce_reduces_what_its_prologue_gives() {
    let op =
        Op::FusedReduce { axes: vec![1], reducer: Reducer::Sum, prologue: "(a0 - a1) * (a0 - a1)".parse().unwrap() };
    let x = [counting(&[2, 3]), tensor(&[2, 1], &[1f32, 4.0])];
    assert_eq!(values::<f32>(op, &x), [2.0, 2.0]);
}

fn arg(axis: usize, extreme: Extreme) -> Op {
    Op::ArgReduce { axis, extreme }
}

#[test]
fn arg_reduce_gives_the_first_extreme_and_nan_is_one() {
    let x = [tensor(&[2, 4], &[1.0, 5.0, 5.0, -2.0, -2.0, 7.0, -2.0, 0.0])];
    assert_eq!(values::<i64>(arg(1, Extreme::Max), &x), [1, 1]);
    assert_eq!(values::<i64>(arg(1, Extreme::Min), &x), [3, 0]);
    assert_eq!(values::<i64>(arg(0, Extreme::Max), &x), [0, 1, 0, 1]);
    let x = [tensor(&[4], &[1.0, NAN, 9.0, NAN])];
    assert_eq!(values::<i64>(arg(0, Extreme::Max), &x), [1]);
    assert_eq!(values::<i64>(arg(0, Extreme::Min), &x), [1]);
    let zeros = [tensor(&[2], &[-0.0f32, 0.0])];
    assert_eq!(values::<i64>(arg(0, Extreme::Max), &zeros), [0]);
    let infinite = [tensor(&[2], &[f32::NEG_INFINITY; 2])];
    assert_eq!(values::<i64>(arg(0, Extreme::Max), &infinite), [0]);
    assert_eq!(folded(arg(0, Extreme::Max), &[Tensor::zeros(DType::I32, &[2, 0]).unwrap()]).dims(), [0]);
}

#[track_caller]
fn top_k(x: Tensor, k: usize, axis: usize, extreme: Extreme) -> (Vec<f32>, Vec<i64>) {
    let results = fold(&Op::TopK { k, axis, extreme }, &[x]).unwrap();
    assert_eq!(results[0].dims(), results[1].dims());
    (results[0].to_vec().unwrap(), results[1].to_vec().unwrap())
}

#[test]
fn top_k_is_stable_and_nan_is_the_largest() {
    let x = || tensor(&[5], &[2.0, NAN, 3.0, 2.0, -1.0]);
    let (v, i) = top_k(x(), 4, 0, Extreme::Max);
    assert!(v[0].is_nan());
    assert_eq!((&v[1..], &i[..]), (&[3.0, 2.0, 2.0][..], &[1, 2, 0, 3][..]));
    let (v, i) = top_k(x(), 5, 0, Extreme::Min);
    assert!(v[4].is_nan());
    assert_eq!((&v[..4], &i[..]), (&[-1.0, 2.0, 2.0, 3.0][..], &[4, 0, 3, 2, 1][..]));
    // Zeros of either sign are equal, so they keep their order.
    assert_eq!(top_k(tensor(&[3], &[0f32, -0.0, 0.0]), 3, 0, Extreme::Max).1, [0, 1, 2]);
}

#[test]
fn top_k_works_along_inner_and_outer_axes() {
    let x = || tensor(&[3, 2], &[1f32, 6.0, 3.0, 4.0, 2.0, 5.0]);
    assert_eq!(top_k(x(), 2, 0, Extreme::Max), (vec![3.0, 6.0, 2.0, 5.0], vec![1, 0, 2, 2]));
    assert_eq!(top_k(x(), 1, 1, Extreme::Min), (vec![1.0, 3.0, 2.0], vec![0, 0, 0]));
    assert_eq!(top_k(x(), 0, 1, Extreme::Min), (vec![], vec![]));
    let integers = fold(&Op::TopK { k: 1, axis: 0, extreme: Extreme::Max }, &[tensor(&[3], &[3u8, 250, 7])]).unwrap();
    assert_eq!(integers[0].to_vec::<u8>().unwrap(), [250]);
}
