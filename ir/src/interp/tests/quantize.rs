use half::f16;

use super::{tensor, values};
use crate::dtype::DType;
use crate::ops::Op;
use crate::tensor::Tensor;

#[test]
fn quantize_rounds_ties_to_even_then_shifts_and_saturates() {
    let op = || Op::Quantize { dtype: DType::U8, axis: 0 };
    let x = tensor(&[9], &[0.0, 1.0, 3.0, 5.0, -3.0, 1e9, -1e9, f32::INFINITY, f32::NAN]);
    let y = values::<u8>(op(), &[x, Tensor::scalar(2f32), Tensor::scalar(100u8)]);
    // Steps 0, 0.5 → 0, 1.5 → 2, 2.5 → 2, −1.5 → −2; NaN counts as 0.
    assert_eq!(y, [100, 100, 102, 102, 98, 255, 0, 255, 100]);
    let x = tensor(&[3], &[f32::NEG_INFINITY, 3e9, -3e9]);
    let op = Op::Quantize { dtype: DType::I32, axis: 0 };
    let y = values::<i32>(op, &[x, Tensor::scalar(1f32), Tensor::scalar(-5i32)]);
    assert_eq!(y, [i32::MIN, i32::MAX, i32::MIN]);
}

#[test]
fn scales_may_be_one_a_channel() {
    let x = tensor(&[2, 2], &[1f32, 2.0, 3.0, 4.0]);
    let (scale, zero) = (tensor(&[2], &[1f32, 0.5]), tensor(&[2], &[0i8, 10]));
    let op = |axis| Op::Quantize { dtype: DType::I8, axis };
    assert_eq!(values::<i8>(op(0), &[x.clone(), scale.clone(), zero.clone()]), [1, 2, 16, 18]);
    assert_eq!(values::<i8>(op(1), &[x, scale.clone(), zero.clone()]), [1, 14, 3, 18]);
    let q = tensor(&[2, 2], &[1i8, 14, -128, 127]);
    let y = values::<f32>(Op::Dequantize { axis: 1 }, &[q, scale, zero]);
    assert_eq!(y, [1.0, 2.0, -128.0, 58.5]);
}

#[test]
fn dequantize_takes_the_difference_exactly() {
    let x = tensor(&[1], &[i32::MAX]);
    let y = values::<f64>(Op::Dequantize { axis: 0 }, &[x, Tensor::scalar(1f64), Tensor::scalar(i32::MIN)]);
    assert_eq!(y, [4294967295.0]);
    let op = Op::Dequantize { axis: 0 };
    let half = values::<f16>(op, &[tensor(&[1], &[3u8]), Tensor::scalar(f16::from_f32(0.1)), Tensor::scalar(0u8)]);
    // 3 × 0.0999755859375 = 0.2999267578125 is a tie between two halves: to even.
    assert_eq!(half[0].to_bits(), 0x34cc);
}
