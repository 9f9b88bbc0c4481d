//! Between real numbers and the integers that stand for them.

use super::array::{Array, Data, Datum};
use super::error::EvalError;
use super::number::{Number, Undefined};
use super::scalar::Scalar;
use crate::dtype::DType;
use crate::scalar::{BinaryFn, UnaryFn};

/// Which element of `scale` belongs to element i of a tensor of these dims.
fn channel<S>(scale: &Array<S>, dims: &[usize], axis: usize) -> impl Fn(usize) -> usize {
    let (per_tensor, extent) = (scale.dims.is_empty(), dims.get(axis).copied().unwrap_or(1));
    let inner: usize = dims.iter().skip(axis + 1).product();
    move |i| if per_tensor { 0 } else { i / inner % extent }
}

fn integer<S>(x: Datum<S>) -> Result<i64, EvalError> {
    match x {
        Datum::I32(v) => Ok(i64::from(v)),
        Datum::I8(v) => Ok(i64::from(v)),
        Datum::U8(v) => Ok(i64::from(v)),
        _ => Err(EvalError::Bug { what: "quantised values of another dtype" }),
    }
}

/// round(x / scale) + zero_point, saturated. The quotient is rounded in the precision of x; a NaN counts as 0.
pub fn quantize<S: Scalar>(
    x: &Array<S>,
    scale: &Array<S>,
    zero_point: &Array<S>,
    dtype: DType,
    axis: usize,
) -> Result<Array<S>, EvalError> {
    let of = channel(scale, &x.dims, axis);
    let mut out = Data::with_capacity(dtype, x.data.count());
    for i in 0..x.data.count() {
        let steps = match (x.data.get(i), scale.data.get(of(i))) {
            (Datum::Scalar(x), Datum::Scalar(s)) => steps(x, s)?.to_f64()?,
            (Datum::F64(x), Datum::F64(s)) => steps(x, s)?,
            _ => return Err(EvalError::Bug { what: "a scale of another dtype" }),
        };
        // f64 holds both the step count (f32 or f64 integers) and any zero point exactly; converting saturates.
        let steps = if steps.is_nan() { 0.0 } else { steps };
        let value = steps + integer(zero_point.data.get(of(i)))? as f64;
        out.push(Datum::F64(value).convert(dtype)?)?;
    }
    Ok(Array::new(dtype, &x.dims, out))
}

fn steps<T: Number>(x: T, scale: T) -> Result<T, Undefined> {
    T::unary(UnaryFn::Round, T::binary(BinaryFn::Div, x, scale)?)
}

/// (x − zero_point) · scale; the difference is exact.
pub fn dequantize<S: Scalar>(
    x: &Array<S>,
    scale: &Array<S>,
    zero_point: &Array<S>,
    axis: usize,
) -> Result<Array<S>, EvalError> {
    let of = channel(scale, &x.dims, axis);
    let mut out = Data::with_capacity(scale.dtype, x.data.count());
    for i in 0..x.data.count() {
        let difference = integer(x.data.get(i))? - integer(zero_point.data.get(of(i)))?;
        out.push(match scale.data.get(of(i)) {
            Datum::Scalar(s) => Datum::Scalar(S::from_i64(difference).times(s)),
            Datum::F64(s) => Datum::F64(difference as f64 * s),
            _ => return Err(EvalError::Bug { what: "a scale of no float dtype" }),
        })?;
    }
    Ok(Array::new(scale.dtype, &x.dims, out))
}
