//! `gather` and `scatter` along one axis.

use super::array::{Array, Data, map_data, zip_data};
use super::error::EvalError;
use super::number::{Number, Undefined};
use super::scalar::Scalar;
use crate::attribute::ScatterMode;
use crate::scalar::BinaryFn;

/// The integers of an index tensor.
fn integers<S: Scalar>(indices: &Array<S>) -> Result<Vec<i64>, EvalError> {
    match &*indices.data {
        Data::I64(v) => Ok(v.clone()),
        Data::I32(v) => Ok(v.iter().map(|&i| i64::from(i)).collect()),
        _ => Err(EvalError::Bug { what: "indices of no integer type" }),
    }
}

/// Slices of x along `axis` picked by `indices`, which are clamped to the ends.
pub fn gather<S: Scalar>(x: &Array<S>, indices: &Array<S>, dims: &[usize], axis: usize) -> Result<Array<S>, EvalError> {
    let indices = integers(indices)?;
    let (outer, extent): (usize, usize) = (x.dims[..axis].iter().product(), x.dims[axis]);
    let inner: usize = x.dims[axis + 1..].iter().product();
    let data = map_data!(&*x.data, |v| {
        let mut out = Vec::with_capacity(dims.iter().product());
        for o in 0..outer {
            for &index in &indices {
                let row = o * extent + index.clamp(0, extent as i64 - 1) as usize;
                out.extend_from_slice(&v[row * inner..(row + 1) * inner]);
            }
        }
        out
    });
    Ok(Array::new(x.dtype, dims, data))
}

/// Combines `updates` into x along `axis`, in row-major order; indices beyond the ends are skipped.
pub fn scatter<S: Scalar>(
    x: &Array<S>,
    indices: &Array<S>,
    updates: &Array<S>,
    axis: usize,
    mode: ScatterMode,
) -> Result<Array<S>, EvalError> {
    let indices = integers(indices)?;
    let (outer, extent): (usize, usize) = (x.dims[..axis].iter().product(), x.dims[axis]);
    let inner: usize = x.dims[axis + 1..].iter().product();
    let data = zip_data!(&*x.data, &*updates.data, |v, u| {
        let mut out = v.clone();
        for o in 0..outer {
            for (n, &index) in indices.iter().enumerate() {
                let Some(index) = usize::try_from(index).ok().filter(|&i| i < extent) else { continue };
                let (to, from) = ((o * extent + index) * inner, (o * indices.len() + n) * inner);
                for i in 0..inner {
                    out[to + i] = meet(mode, out[to + i], u[from + i])?;
                }
            }
        }
        out
    });
    Ok(Array::new(x.dtype, &x.dims, data))
}

fn meet<T: Number>(mode: ScatterMode, there: T, update: T) -> Result<T, Undefined> {
    match mode {
        ScatterMode::Replace => Ok(update),
        ScatterMode::Add => T::binary(BinaryFn::Add, there, update),
        ScatterMode::Mul => T::binary(BinaryFn::Mul, there, update),
        ScatterMode::Max => T::binary(BinaryFn::Max, there, update),
        ScatterMode::Min => T::binary(BinaryFn::Min, there, update),
    }
}
