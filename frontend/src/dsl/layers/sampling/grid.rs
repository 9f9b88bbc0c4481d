//! Images at the points of a grid, and grids that an affine transformation makes.

use std::panic::Location as Caller;

use kiln_ir::{Builder, Op, Value};

use super::super::check_rank;
use super::taps::{
    channel_rows, component, dtype_of, first_rows, fixed, pixel_coordinate, reshape, sizes, sum, weighted_pixels, with,
};
use super::{check, check_numbers, has_pixels, is_float, numbers};
use crate::dsl::Tensor;

/// How [`GridSample`] interpolates between pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Interpolation {
    /// The nearest pixel; of two as near, the one of even index.
    Nearest,
    /// From two pixels along each axis: bilinear, trilinear.
    #[default]
    Linear,
    /// From four pixels along each axis: cubic convolution (Keys 1981) with parameter −0.75.
    Cubic,
}

/// What [`GridSample`] finds beyond the border.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Outside {
    /// Zeros.
    #[default]
    Zeros,
    /// The pixel at the border.
    Border,
    /// The image mirrored, as often as it takes.
    Reflection,
}

/// Samples an image at the points of a grid, as PyTorch's `grid_sample` does (Jaderberg et al. 2015, section 3.3).
///
/// The image is [N, C, H, W], the grid [N, h, w, 2], the result [N, C, h, w]; or [N, C, D, H, W], [N, d, h, w, 3] and
/// [N, C, d, h, w]. A point is (x, y) or (x, y, z), −1 at one end of an axis and 1 at the other. All extents are numbers.
/// The grid is a float tensor, in which coordinates and weights are computed (f16 and bf16 ones in f32); the image is a float
/// tensor, or any for [`Interpolation::Nearest`].
///
/// ```
/// use kiln::dsl::layers::{GridSample, affine_grid};
/// use kiln::prelude::*;
///
/// let scope = Scope::new("transformer");
/// let x = scope.placeholder::<f32>("x", dims![1, 3, 32, 32]);
/// let theta = scope.placeholder::<f32>("theta", dims![1, 2, 3]);
/// let grid = affine_grid(theta, &[24, 24], false);
/// scope.output("y", GridSample::default().apply(x, grid));
/// assert_eq!(scope.finish()?.outputs().len(), 1);
/// # Ok::<(), kiln::ir::BuildErrors>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct GridSample {
    /// Interpolation.
    pub interpolation: Interpolation,
    /// What lies beyond the border.
    pub outside: Outside,
    /// Whether −1 and 1 are the centres of the outermost pixels, rather than their outer edges.
    pub align_corners: bool,
}

impl GridSample {
    /// x at the points of `grid`.
    #[track_caller]
    pub fn apply<'g>(self, x: Tensor<'g>, grid: Tensor<'g>) -> Tensor<'g> {
        let at = Caller::caller();
        self.build(x, grid, at).unwrap_or_else(|wrong| wrong)
    }

    fn build<'g>(self, x: Tensor<'g>, grid: Tensor<'g>, at: &Caller<'_>) -> Result<Tensor<'g>, Tensor<'g>> {
        let grid = x.scope.own(grid, at);
        check_rank("the image of `grid_sample`", x, (4, 5), "[N, C, H, W] or [N, C, D, H, W]", at)?;
        check_numbers("the image of `grid_sample`", x, at)?;
        check_numbers("the grid of `grid_sample`", grid, at)?;
        let (dims, points) = (numbers(x), numbers(grid));
        let expected = if dims.len() == 4 { "[N, h, w, 2], of x's N" } else { "[N, d, h, w, 3], of x's N" };
        let fits = points.len() == dims.len() && points[0] == dims[0] && points[points.len() - 1] == dims.len() - 2;
        check("the grid of `grid_sample`", grid, fits && is_float(grid), expected, at)?;
        let exact = self.interpolation == Interpolation::Nearest;
        check("the image of `grid_sample`", x, exact || is_float(x), "a float tensor, to interpolate", at)?;
        check("the image of `grid_sample`", x, has_pixels(x), "an image of some pixels", at)?;
        Ok(x.scope.emit(at, |b| grid_sample(b, x.value, grid.value, self)))
    }
}

/// The grid that an affine transformation makes of a regular one, for [`GridSample`]: theta [N, 2, 3] gives [N, h, w, 2] for
/// `extents` [h, w], theta [N, 3, 4] gives [N, d, h, w, 3] for [d, h, w]. Each point (x, y, 1) is multiplied by the matrix (Jaderberg et al.
/// 2015, eq. 1). `align_corners` as in [`GridSample`]. N is a number.
#[track_caller]
pub fn affine_grid<'g>(theta: Tensor<'g>, extents: &[usize], align_corners: bool) -> Tensor<'g> {
    let (at, what) = (Caller::caller(), "theta of `affine_grid`");
    let build = || -> Result<Tensor<'g>, Tensor<'g>> {
        check_rank(what, theta, (3, 3), "[N, 2, 3] or [N, 3, 4]", at)?;
        check_numbers(what, theta, at)?;
        let (dims, axes) = (numbers(theta), extents.len());
        let fits = (2..=3).contains(&axes) && dims[1..] == [axes, axes + 1] && is_float(theta);
        check(what, theta, fits, "float [N, 2, 3] for two extents, [N, 3, 4] for three", at)?;
        Ok(theta.scope.emit(at, |b| affine_points(b, theta.value, extents, align_corners)))
    };
    build().unwrap_or_else(|wrong| wrong)
}

/// The composition behind [`GridSample`], of operands that fit.
pub(crate) fn grid_sample(b: &mut Builder, x: Value, grid: Value, how: GridSample) -> Value {
    let (dims, points) = (sizes(b, x), sizes(b, grid));
    let (images, channels, spatial) = (dims[0], dims[1], &dims[2..]);
    let places = &points[1..points.len() - 1];
    let count: usize = places.iter().product();
    let flat = reshape(b, grid, &[images, count, spatial.len()]);
    let mut axes = Vec::new();
    for (at, &extent) in spatial.iter().enumerate() {
        // a point is (x, y, z), an image [D, H, W]
        let coordinate = component(b, flat, spatial.len() - 1 - at);
        let pixel = pixel_coordinate(b, coordinate, extent, how.align_corners);
        axes.push((extent, how.taps(b, pixel, extent)));
    }
    let rows = channel_rows(b, x);
    let first = first_rows(b, images, spatial.iter().product(), 2);
    let first = b.broadcast_to(first, &fixed(&[images, count]));
    let pixels = weighted_pixels(b, rows, first, &axes);
    let y = sum(b, &pixels);
    let y = b.transpose(y, &[0, 2, 1]);
    reshape(b, y, &[&[images, channels], places].concat())
}

/// The composition behind [`affine_grid`], of operands that fit.
pub(crate) fn affine_points(b: &mut Builder, theta: Value, extents: &[usize], align_corners: bool) -> Value {
    let (images, axes) = (sizes(b, theta)[0], extents.len());
    let dims = [&[images], extents].concat();
    let mut coordinates = Vec::new();
    // a point is (x, y, z), extents are [d, h, w]
    for (at, &extent) in extents.iter().enumerate().rev() {
        let op = Op::Iota { dtype: dtype_of(b, theta), dims: fixed(&[extent]), axis: 0 };
        let index = b.add_op(op, &[]);
        let (scale, offset) = match (align_corners, extent) {
            (true, 1) => (0.0, 0.0),
            (true, n) => (2.0 / (n as f64 - 1.0), -1.0),
            (false, n) => (2.0 / n.max(1) as f64, 1.0 / n.max(1) as f64 - 1.0),
        };
        let scaled = with(b, Builder::mul, index, scale);
        let coordinate = with(b, Builder::add, scaled, offset);
        coordinates.push(b.broadcast_vector(coordinate, &fixed(&dims), at + 1));
    }
    let mut parts = Vec::new();
    for row in 0..axes {
        let mut terms = Vec::new();
        for column in 0..=axes {
            let entry = b.slice(theta, &[0, row, column], &[images, row + 1, column + 1], &[]);
            let entry = reshape(b, entry, &[&[images][..], &vec![1; axes]].concat());
            terms.push(match coordinates.get(column) {
                Some(&coordinate) => b.mul(coordinate, entry),
                None => entry,
            });
        }
        let part = sum(b, &terms);
        parts.push(reshape(b, part, &[&dims[..], &[1]].concat()));
    }
    b.concat(&parts, axes + 1)
}
