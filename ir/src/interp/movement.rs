//! Ops that move elements: each result element is an operand's, found by strides.

use std::rc::Rc;

use super::array::{Array, Data, Datum, map_data, zip_data};
use super::error::EvalError;
use super::scalar::Scalar;
use super::strides::{Offsets, pick, row_major};
use crate::attribute::Padding;

/// The elements of `x` at `start` + Σ index · stride, as an array of extents `dims`.
fn strided<S: Scalar>(x: &Array<S>, dims: &[usize], strides: &[isize], start: isize) -> Array<S> {
    let offsets = Offsets::new(dims, strides, start);
    let data = map_data!(&*x.data, |v| offsets.map(|o| v[o]).collect());
    Array::new(x.dtype, dims, data)
}

/// The same elements under other extents.
pub fn reshape<S: Scalar>(x: &Array<S>, dims: &[usize]) -> Array<S> {
    Array { dtype: x.dtype, dims: dims.to_vec(), data: Rc::clone(&x.data) }
}

/// Axis i of the result is axis `perm[i]` of x.
pub fn transpose<S: Scalar>(x: &Array<S>, perm: &[usize]) -> Array<S> {
    strided(x, &pick(&x.dims, perm), &pick(&row_major(&x.dims), perm), 0)
}

/// Axis i of x becomes axis `axes[i]`; every other axis repeats.
pub fn broadcast<S: Scalar>(x: &Array<S>, dims: &[usize], axes: &[usize]) -> Array<S> {
    let mut strides = vec![0; dims.len()];
    for ((&axis, &extent), stride) in axes.iter().zip(&x.dims).zip(row_major(&x.dims)) {
        if extent != 1 {
            strides[axis] = stride;
        }
    }
    strided(x, dims, &strides, 0)
}

/// x with its extent-1 axes repeated up to `dims` of the same rank; x itself where there are none.
pub fn expanded<S: Scalar>(x: &Array<S>, dims: &[usize]) -> Array<S> {
    if x.dims == dims { x.clone() } else { broadcast(x, dims, &(0..dims.len()).collect::<Vec<_>>()) }
}

/// Elements start, start + stride, … along each axis.
pub fn slice<S: Scalar>(x: &Array<S>, dims: &[usize], start: &[usize], stride: &[usize]) -> Array<S> {
    let strides = row_major(&x.dims);
    let first = start.iter().zip(&strides).map(|(&s, &stride)| s as isize * stride).sum();
    let steps = spread(&strides, dims, |i| stride.get(i).copied().unwrap_or(1));
    strided(x, dims, &steps, first)
}

/// `strides` times `factor` along each axis that has neighbours; along the others the factor may be anything.
fn spread(strides: &[isize], dims: &[usize], factor: impl Fn(usize) -> usize) -> Vec<isize> {
    let along = |(i, &stride)| if dims[i] > 1 { stride * factor(i) as isize } else { 0 };
    strides.iter().enumerate().map(along).collect()
}

/// Turns each of `axes` around.
pub fn reverse<S: Scalar>(x: &Array<S>, axes: &[usize]) -> Array<S> {
    let mut strides = row_major(&x.dims);
    let mut first = 0;
    for &axis in axes {
        first += strides[axis] * (x.dims[axis] as isize - 1);
        strides[axis] = -strides[axis];
    }
    strided(x, &x.dims, &strides, first)
}

/// Surrounds x with `value`, and puts `interior` of it between neighbours.
pub fn pad<S: Scalar>(
    x: &Array<S>,
    dims: &[usize],
    padding: &[Padding],
    interior: &[usize],
    value: f64,
) -> Result<Array<S>, EvalError> {
    let strides = row_major(dims);
    let first = padding.iter().zip(&strides).map(|(p, &s)| p.low as isize * s).sum();
    let steps = spread(&strides, &x.dims, |i| interior.get(i).copied().unwrap_or(0) + 1);
    let places = Offsets::new(&x.dims, &steps, first);
    let fill: Data<S> = Datum::constant(value, x.dtype)?.repeated(dims.iter().product());
    let data = zip_data!(&*x.data, fill, |v, mut out| {
        for (&element, place) in v.iter().zip(places) {
            out[place] = element;
        }
        out
    });
    Ok(Array::new(x.dtype, dims, data))
}

/// Joins along `axis`.
pub fn concat<S: Scalar>(parts: &[Array<S>], dims: &[usize], axis: usize) -> Result<Array<S>, EvalError> {
    let Some(first) = parts.first() else { return Err(EvalError::Bug { what: "a concatenation of nothing" }) };
    let rows: usize = dims[..axis].iter().product();
    let mut out = Data::with_capacity(first.dtype, dims.iter().product());
    for row in 0..rows {
        for part in parts {
            let length = part.dims[axis..].iter().product::<usize>();
            out.append(&part.data, row * length, length)?;
        }
    }
    Ok(Array::new(first.dtype, dims, out))
}
