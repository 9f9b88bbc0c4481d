//! Matrix products and convolutions: sums of products, in a stated order.

use super::array::{Array, zip_data};
use super::elementwise::convert;
use super::error::EvalError;
use super::number::Number;
use super::scalar::Scalar;
use super::strides::{Offsets, pick, row_major};
use super::window::{WindowAxis, covered, places};
use crate::infer::{ConvAttributes, ConvWindow, conv_dims, dot_dims, sum_dtype};

/// The axes of a `dot_general`.
pub struct DotAxes<'a> {
    /// Batch axes of lhs and rhs, pairwise.
    pub batch: (&'a [usize], &'a [usize]),
    /// Contracted axes of lhs and rhs, pairwise.
    pub contract: (&'a [usize], &'a [usize]),
}

/// Sums products over the contracted axes, in their row-major order.
pub fn dot<S: Scalar>(lhs: &Array<S>, rhs: &Array<S>, dims: &[usize], axes: &DotAxes) -> Result<Array<S>, EvalError> {
    let (lb, rb) = axes.batch;
    let (lc, rc) = axes.contract;
    let free = dot_dims(lhs.dims.len(), rhs.dims.len(), (lb, lc), (rb, rc));
    // Where the elements are whose indices differ along `axes` alone.
    let of = |x: &Array<S>, axes: &[usize]| -> Vec<usize> {
        Offsets::new(&pick(&x.dims, axes), &pick(&row_major(&x.dims), axes), 0).collect()
    };
    let batches: Vec<(usize, usize)> = of(lhs, lb).into_iter().zip(of(rhs, rb)).collect();
    let terms: Vec<(usize, usize)> = of(lhs, lc).into_iter().zip(of(rhs, rc)).collect();
    let (rows, columns) = (of(lhs, &free.lhs_free), of(rhs, &free.rhs_free));
    let places: Vec<(usize, usize)> =
        batches.iter().flat_map(|&(bx, by)| rows.iter().map(move |&row| (bx + row, by))).collect();
    let [lhs, rhs] = factors(lhs, rhs)?;
    let data = zip_data!(&*lhs.data, &*rhs.data, |x, y| rows_of_sums(x, y, &places, &terms, &columns));
    Ok(Array::new(lhs.dtype, dims, data))
}

/// Both operands in the dtype of their products.
fn factors<S: Scalar>(x: &Array<S>, y: &Array<S>) -> Result<[Array<S>; 2], EvalError> {
    let dtype = sum_dtype(x.dtype, y.dtype).ok_or(EvalError::Bug { what: "factors of unlike dtypes" })?;
    let converted = |x: &Array<S>| -> Result<Array<S>, EvalError> {
        Ok(if x.dtype == dtype { x.clone() } else { Array::new(dtype, &x.dims, convert(&x.data, dtype)?) })
    };
    Ok([converted(x)?, converted(y)?])
}

/// For each place (a start in x and one in y), and each column (an offset in y): the sum of products over `terms`,
/// first to last. A row of sums grows at a time, because rhs mostly has its columns side by side.
fn rows_of_sums<T: Number>(
    x: &[T],
    y: &[T],
    places: &[(usize, usize)],
    terms: &[(usize, usize)],
    columns: &[usize],
) -> Vec<T> {
    let mut out = vec![T::ZERO; places.len() * columns.len()];
    for (&(row, batch), sums) in places.iter().zip(out.chunks_mut(columns.len().max(1))) {
        for &(i, j) in terms {
            let factor = x[row + i];
            for (sum, &column) in sums.iter_mut().zip(columns) {
                *sum = sum.plus(factor.times(y[batch + j + column]));
            }
        }
    }
    out
}

/// Σ x\[x_start + i\] · y\[y_start + j\] over `terms`, first to last; 0 where there are none.
fn sum_of_products<T: Number>(x: &[T], x_start: usize, y: &[T], y_start: usize, terms: &[(usize, usize)]) -> T {
    if terms.is_empty() {
        // The operands may be empty, so that they have no start.
        return T::ZERO;
    }
    let (x, y) = (&x[x_start..], &y[y_start..]);
    terms.iter().fold(T::ZERO, |sum, &(i, j)| sum.plus(x[i].times(y[j])))
}

/// Convolution. Each result sums over input channels first to last and, within a channel, over the window in
/// row-major order; what falls on padding is left out.
pub fn conv<S: Scalar>(x: &Array<S>, w: &Array<S>, dims: &[usize], a: &ConvAttributes) -> Result<Array<S>, EvalError> {
    let rank = x.dims.len();
    let spatial = rank - 2;
    let (channel, x_first, out_channel, in_channel, w_first) = conv_dims(a.layout, rank);
    let (x_steps, w_steps, out_steps) = (row_major(&x.dims), row_major(&w.dims), row_major(dims));
    let ConvWindow { strides, padding, lhs_dilation, rhs_dilation } = a.window(spatial);
    let axes: Vec<WindowAxis> = (0..spatial)
        .map(|i| WindowAxis {
            extent: x.dims[x_first + i],
            window: w.dims[w_first + i],
            stride: strides[i],
            low: padding[i].low,
            lhs_dilation: lhs_dilation[i],
            rhs_dilation: rhs_dilation[i],
            x_step: x_steps[x_first + i] as usize,
            window_step: w_steps[w_first + i] as usize,
        })
        .collect();
    // The result has its channels where x has them.
    let (out_spatial, out_spatial_steps) = (&dims[x_first..x_first + spatial], &out_steps[x_first..x_first + spatial]);
    let (inputs, outputs) = (w.dims[in_channel], w.dims[out_channel] / a.groups);
    let (x_channel, w_in, w_out) =
        (x_steps[channel] as usize, w_steps[in_channel] as usize, w_steps[out_channel] as usize);

    let [x, w] = &factors(x, w)?;
    let data = zip_data!(&*x.data, &*w.data, |xs, ws| {
        let mut out = vec![Number::ZERO; dims.iter().product()];
        // Without channels there is nothing to sum, and a window without elements may have any extents.
        for place in places(out_spatial).filter(|_| inputs > 0) {
            let at: usize = place.iter().zip(out_spatial_steps).map(|(&p, &s)| p * s as usize).sum();
            let window = covered(&axes, &place);
            let terms: Vec<(usize, usize)> =
                (0..inputs).flat_map(|c| window.iter().map(move |&(i, j)| (c * x_channel + i, c * w_in + j))).collect();
            for image in 0..x.dims[0] {
                for group in 0..a.groups {
                    let from = image * x_steps[0] as usize + group * inputs * x_channel;
                    for k in group * outputs..(group + 1) * outputs {
                        let to = image * out_steps[0] as usize + k * out_steps[channel] as usize + at;
                        out[to] = sum_of_products(xs, from, ws, k * w_out, &terms);
                    }
                }
            }
        }
        out
    });
    Ok(Array::new(x.dtype, dims, data))
}
