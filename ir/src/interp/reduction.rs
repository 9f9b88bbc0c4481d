//! Reductions, arg-reductions and sorting.
//!
//! Elements combine in row-major order, from the reducer's identity on, in the precision of their own type.

use std::cmp::Ordering;

use super::array::{Array, Data, map_data, with_data};
use super::error::EvalError;
use super::number::{Number, Undefined};
use super::scalar::Scalar;
use super::strides::{Offsets, row_major};
use crate::attribute::{Extreme, Reducer};
use crate::dtype::DType;
use crate::scalar::BinaryFn;

/// The function that `reducer` combines two elements with.
pub fn combiner(reducer: Reducer) -> BinaryFn {
    match reducer {
        Reducer::Sum => BinaryFn::Add,
        Reducer::Prod => BinaryFn::Mul,
        Reducer::Max => BinaryFn::Max,
        Reducer::Min => BinaryFn::Min,
        Reducer::And => BinaryFn::And,
        Reducer::Or => BinaryFn::Or,
    }
}

/// What a reduction of nothing gives.
pub fn identity<T: Number>(reducer: Reducer) -> Result<T, Undefined> {
    match reducer {
        Reducer::Sum => Ok(T::ZERO),
        Reducer::Prod => Ok(T::ONE),
        Reducer::Max => T::least(),
        Reducer::Min => T::greatest(),
        Reducer::And => Ok(T::ONE),
        Reducer::Or => Ok(T::ZERO),
    }
}

/// Combines the elements along `axes`.
pub fn reduce<S: Scalar>(x: &Array<S>, dims: &[usize], axes: &[usize], how: Reducer) -> Result<Array<S>, EvalError> {
    // Strides of the result along the axes of x: 0 along the reduced ones.
    let mut kept = row_major(dims).into_iter();
    let strides: Vec<isize> =
        (0..x.dims.len()).map(|i| if axes.contains(&i) { 0 } else { kept.next().unwrap_or(0) }).collect();
    let places = Offsets::new(&x.dims, &strides, 0);
    let data = map_data!(&*x.data, |v| combine(v, places, dims.iter().product(), how)?);
    Ok(Array::new(x.dtype, dims, data))
}

fn combine<T: Number>(v: &[T], places: Offsets, count: usize, how: Reducer) -> Result<Vec<T>, Undefined> {
    let mut out = vec![identity(how)?; count];
    let f = combiner(how);
    for (&element, place) in v.iter().zip(places) {
        out[place] = T::binary(f, out[place], element)?;
    }
    Ok(out)
}

/// The lines of an array along one axis: where each starts, and the distance of its elements.
struct Lines {
    starts: Vec<usize>,
    stride: usize,
    length: usize,
}

impl Lines {
    fn new(dims: &[usize], axis: usize) -> Lines {
        let mut strides = row_major(dims);
        let mut rest = dims.to_vec();
        rest.remove(axis);
        let stride = strides.remove(axis) as usize;
        Lines { starts: Offsets::new(&rest, &strides, 0).collect(), stride, length: dims[axis] }
    }

    fn elements<'a, T: Copy>(&'a self, v: &'a [T], start: usize) -> impl Iterator<Item = T> + 'a {
        (0..self.length).map(move |i| v[start + i * self.stride])
    }
}

/// Whether `x` comes before `best` when looking for `extreme`; NaN is an extreme of either kind.
pub fn beats<T: Number>(extreme: Extreme, x: T, best: T) -> Result<bool, Undefined> {
    let f = if extreme == Extreme::Max { BinaryFn::Gt } else { BinaryFn::Lt };
    Ok(!best.is_nan() && (x.is_nan() || T::compare(f, x, best)?))
}

/// Index of the first extreme element of each line.
pub fn arg_reduce<S: Scalar>(
    x: &Array<S>,
    dims: &[usize],
    axis: usize,
    extreme: Extreme,
) -> Result<Array<S>, EvalError> {
    let lines = Lines::new(&x.dims, axis);
    let indices: Vec<i64> = with_data!(&*x.data, |v| {
        let first_extreme = |&start: &usize| -> Result<i64, Undefined> {
            let mut best = (0, v[start]);
            for (i, element) in lines.elements(v, start).enumerate() {
                if beats(extreme, element, best.1)? {
                    best = (i as i64, element);
                }
            }
            Ok(best.0)
        };
        lines.starts.iter().map(first_extreme).collect::<Result<_, _>>()?
    });
    Ok(Array::new(DType::I64, dims, Data::I64(indices)))
}

/// Order of two elements with NaN above everything, zeros equal.
fn order<T: Number>(x: T, y: T) -> Result<Ordering, Undefined> {
    Ok(match (x.is_nan(), y.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        _ if T::compare(BinaryFn::Lt, x, y)? => Ordering::Less,
        _ if T::compare(BinaryFn::Gt, x, y)? => Ordering::Greater,
        _ => Ordering::Equal,
    })
}

/// The k most extreme elements of each line in order, and their indices.
pub fn top_k<S: Scalar>(
    x: &Array<S>,
    dims: &[usize],
    axis: usize,
    extreme: Extreme,
) -> Result<[Array<S>; 2], EvalError> {
    let lines = Lines::new(&x.dims, axis);
    let results = Lines::new(dims, axis);
    let mut indices = vec![0i64; dims.iter().product()];
    let values = map_data!(&*x.data, |v| {
        let mut out = vec![Number::ZERO; indices.len()];
        for (&from, &to) in lines.starts.iter().zip(&results.starts) {
            let mut line: Vec<_> = lines.elements(v, from).enumerate().collect();
            // Asked beforehand, so that the sort itself cannot fail.
            line.windows(2).try_for_each(|w| order(w[0].1, w[1].1).map(|_| ()))?;
            line.sort_by(|a, b| {
                let ascending = order(a.1, b.1).unwrap_or(Ordering::Equal);
                if extreme == Extreme::Max { ascending.reverse() } else { ascending }
            });
            for (i, (index, element)) in line.into_iter().take(results.length).enumerate() {
                out[to + i * results.stride] = element;
                indices[to + i * results.stride] = index as i64;
            }
        }
        out
    });
    let indices = Array::new(DType::I64, dims, Data::I64(indices));
    Ok([Array::new(x.dtype, dims, values), indices])
}
