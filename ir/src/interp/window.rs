//! Sliding windows: which elements a window covers, `reduce_window` and its gradient.

use super::array::{Array, map_data, zip_data};
use super::error::EvalError;
use super::number::{Number, Undefined};
use super::reduction::{beats, combiner, identity};
use super::scalar::Scalar;
use super::strides::row_major;
use crate::attribute::{Extreme, Padding, Reducer};
use crate::scalar::BinaryFn;

/// A window along one axis of x.
#[derive(Clone, Copy, Debug)]
pub struct WindowAxis {
    /// Extent of x.
    pub extent: usize,
    /// Extent of the window.
    pub window: usize,
    /// Step from one window to the next.
    pub stride: usize,
    /// Padding before x.
    pub low: i64,
    /// Distance between neighbours of x, zeros between them.
    pub lhs_dilation: usize,
    /// Distance between neighbours of the window.
    pub rhs_dilation: usize,
    /// Distance of neighbours in x's storage.
    pub x_step: usize,
    /// Distance of neighbours in the window's own storage.
    pub window_step: usize,
}

impl WindowAxis {
    /// The elements of x under window number `place`: (offset in x, offset in the window). What falls on padding or
    /// between dilated elements is left out; a window may be far larger than x, so padding is not even visited.
    fn covered(&self, place: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        // Attributes may be near the limits of their types; sums and products of two of them fit here.
        let wide = |n: usize| n as i128;
        let start = wide(place) * wide(self.stride) - i128::from(self.low);
        let end = if self.extent == 0 { 0 } else { wide(self.extent - 1) * wide(self.lhs_dilation) + 1 };
        let step = wide(self.rhs_dilation);
        // The numbers r of the window's elements with 0 ≤ start + r · step < end.
        let reaching = |at: i128| ((at - start + step - 1).div_euclid(step)).clamp(0, wide(self.window)) as usize;
        (reaching(0)..reaching(end)).filter_map(move |r| {
            let at = (start + wide(r) * step) as usize;
            at.is_multiple_of(self.lhs_dilation).then_some((at / self.lhs_dilation * self.x_step, r * self.window_step))
        })
    }
}

/// The elements of x under the window at `place` (one number per axis), in row-major order.
pub fn covered(axes: &[WindowAxis], place: &[usize]) -> Vec<(usize, usize)> {
    axes.iter().zip(place).fold(vec![(0, 0)], |outer, (axis, &place)| {
        let inner: Vec<(usize, usize)> = axis.covered(place).collect();
        outer.iter().flat_map(|&(x, w)| inner.iter().map(move |&(dx, dw)| (x + dx, w + dw))).collect()
    })
}

/// Every index below `dims`, in row-major order.
pub fn places(dims: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    let count: usize = dims.iter().product();
    (0..count).map(move |mut i| {
        let mut place = vec![0; dims.len()];
        for axis in (0..dims.len()).rev() {
            place[axis] = i % dims[axis];
            i /= dims[axis];
        }
        place
    })
}

/// The attributes of a window over every axis of x; empty lists mean 1, or no padding.
pub struct Window<'a> {
    /// Extents.
    pub window: &'a [usize],
    /// Steps.
    pub strides: &'a [usize],
    /// Padding.
    pub padding: &'a [Padding],
    /// Distance between the elements of a window.
    pub dilation: &'a [usize],
}

impl Window<'_> {
    fn axes(&self, dims: &[usize]) -> Vec<WindowAxis> {
        let steps = row_major(dims);
        (0..dims.len())
            .map(|i| WindowAxis {
                extent: dims[i],
                window: self.window[i],
                stride: self.strides.get(i).copied().unwrap_or(1),
                low: self.padding.get(i).map_or(0, |p| p.low),
                lhs_dilation: 1,
                rhs_dilation: self.dilation.get(i).copied().unwrap_or(1),
                x_step: steps[i] as usize,
                window_step: 0,
            })
            .collect()
    }
}

/// Combines the elements under each window; padding is the identity.
pub fn reduce_window<S: Scalar>(
    x: &Array<S>,
    dims: &[usize],
    window: &Window,
    how: Reducer,
) -> Result<Array<S>, EvalError> {
    let axes = window.axes(&x.dims);
    let f = combiner(how);
    fn of<T: Number>(
        v: &[T],
        axes: &[WindowAxis],
        dims: &[usize],
        how: Reducer,
        f: BinaryFn,
    ) -> Result<Vec<T>, Undefined> {
        let start = identity(how)?;
        places(dims)
            .map(|place| covered(axes, &place).into_iter().try_fold(start, |sum, (at, _)| T::binary(f, sum, v[at])))
            .collect()
    }
    let data = map_data!(&*x.data, |v| of(v, &axes, dims, how, f)?);
    Ok(Array::new(x.dtype, dims, data))
}

/// Adds each element of `source` at the place of the first extreme element of its window in x. A window that covers
/// nothing but padding adds nowhere.
pub fn select_and_scatter<S: Scalar>(
    x: &Array<S>,
    source: &Array<S>,
    window: &Window,
    extreme: Extreme,
) -> Result<Array<S>, EvalError> {
    let axes = window.axes(&x.dims);
    fn of<T: Number>(
        v: &[T],
        source: &[T],
        axes: &[WindowAxis],
        dims: &[usize],
        extreme: Extreme,
    ) -> Result<Vec<T>, Undefined> {
        let mut out = vec![T::ZERO; v.len()];
        for (place, &gradient) in places(dims).zip(source) {
            let mut chosen: Option<usize> = None;
            for (at, _) in covered(axes, &place) {
                let better = match chosen {
                    Some(best) => beats(extreme, v[at], v[best])?,
                    None => true,
                };
                if better {
                    chosen = Some(at);
                }
            }
            if let Some(at) = chosen {
                out[at] = out[at].plus(gradient);
            }
        }
        Ok(out)
    }
    let data = zip_data!(&*x.data, &*source.data, |v, g| of(v, g, &axes, &source.dims, extreme)?);
    Ok(Array::new(x.dtype, &x.dims, data))
}
