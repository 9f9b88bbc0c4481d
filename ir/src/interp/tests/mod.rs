//! Tests of the interpreter, a file a family. Expected numbers are worked out by hand, or taken from numpy 2.4 or a
//! published source where the test says so.

mod composites;
mod contraction;
mod elementwise;
mod extremes;
mod indexing;
mod movement;
mod quantize;
mod random;
mod recurrent;
mod reduction;
mod run;
mod table;
mod window;

use super::{EvalError, fold};
use crate::attribute::Real;
use crate::dtype::DType;
use crate::ops::Op;
use crate::tensor::{Element, Tensor};

/// A tensor.
fn tensor<T: Element>(dims: &[usize], values: &[T]) -> Tensor {
    Tensor::from_slice(dims, values).unwrap()
}

/// 0, 1, 2 … as f32.
fn counting(dims: &[usize]) -> Tensor {
    let n = dims.iter().product();
    tensor(dims, &(0..n).map(|i| i as f32).collect::<Vec<_>>())
}

/// The only result of folding `op`.
#[track_caller]
fn folded(op: Op, operands: &[Tensor]) -> Tensor {
    let mut results = fold(&op, operands).unwrap_or_else(|e| panic!("{}: {e}", op.mnemonic()));
    assert_eq!(results.len(), 1);
    results.remove(0)
}

/// The elements of the only result of folding `op`.
#[track_caller]
fn values<T: Element>(op: Op, operands: &[Tensor]) -> Vec<T> {
    folded(op, operands).to_vec().unwrap()
}

#[test]
fn an_op_that_depends_on_the_run_is_no_constant() {
    let op = Op::Placeholder { name: "x".into(), dtype: DType::F32, dims: Vec::new() };
    assert_eq!(fold(&op, &[]), Err(EvalError::NotConstant { mnemonic: "placeholder" }));
    let op = Op::Assign { variable: "v".into() };
    assert_eq!(fold(&op, &[Tensor::scalar(1f32)]), Err(EvalError::NotConstant { mnemonic: "assign" }));
}

#[test]
fn operands_that_do_not_fit_are_refused_with_the_constraint() {
    let error = fold(&Op::Transpose { perm: vec![0, 0] }, &[counting(&[2, 2])]).unwrap_err().to_string();
    assert!(error.contains("C1: perm is a permutation of 0..rank"), "{error}");
}

#[test]
fn extents_that_are_symbols_or_astronomic_are_refused() {
    let symbolic = Op::Iota { dtype: DType::I64, dims: vec!["batch".into()], axis: 0 };
    assert!(fold(&symbolic, &[]).unwrap_err().to_string().contains("i64[batch] has symbolic extents"));
    let huge = Op::Iota { dtype: DType::I8, dims: vec![(1usize << 40).into()], axis: 0 };
    assert!(matches!(fold(&huge, &[]), Err(EvalError::TooLarge { .. })));
    let overflowing = Op::Iota { dtype: DType::I8, dims: vec![usize::MAX.into(), 3.into()], axis: 0 };
    assert!(matches!(fold(&overflowing, &[]), Err(EvalError::TooLarge { .. })));
}

#[test]
fn iota_counts_along_its_axis_in_any_dtype() {
    let op = |dtype, axis| Op::Iota { dtype, dims: vec![2.into(), 3.into()], axis };
    assert_eq!(values::<i32>(op(DType::I32, 0), &[]), [0, 0, 0, 1, 1, 1]);
    assert_eq!(values::<f32>(op(DType::F32, 1), &[]), [0.0, 1.0, 2.0, 0.0, 1.0, 2.0]);
    // Beyond 2048 an f16 cannot count by ones: 2049 rounds to even.
    let long = Op::Iota { dtype: DType::F16, dims: vec![2050.into()], axis: 0 };
    assert_eq!(values::<half::f16>(long, &[])[2049].to_f32(), 2048.0);
    let wrapping = Op::Iota { dtype: DType::U8, dims: vec![258.into()], axis: 0 };
    assert_eq!(values::<u8>(wrapping, &[])[255..], [255, 0, 1]);
    let empty = Op::Iota { dtype: DType::I32, dims: vec![0.into(), 3.into()], axis: 0 };
    assert_eq!(folded(empty, &[]).dims(), [0, 3]);
}

#[test]
fn constants_are_themselves_bit_for_bit() {
    for t in [counting(&[2, 2]), Tensor::scalar(-0.0f64), tensor(&[2], &[true, false]), tensor::<i64>(&[0], &[])] {
        assert_eq!(folded(Op::Constant { value: t.clone().into() }, &[]), t);
    }
}

#[test]
fn every_dtype_survives_a_round_trip_through_the_interpreter() {
    let identity = Op::Pad { padding: vec![Default::default()], interior: Vec::new(), value: Real(0.0) };
    for dtype in DType::ALL {
        let t = Tensor::from_f64(dtype, &[4], &[0.0, 1.0, 100.0, 0.099_975_586]).unwrap();
        assert_eq!(folded(identity.clone(), std::slice::from_ref(&t)), t, "{dtype}");
    }
}
