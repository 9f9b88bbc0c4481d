//! Reading images between their pixels: grids of points, regions of interest, deformable convolution.
//!
//! Every function here is a composition of gathers and elementwise ops. A point is a few *taps* along each axis, each with the
//! index of a pixel and its weight; the pixels around a point are all combinations of its taps. Pixels are gathered as rows
//! of channels, so that one index serves all of them.

use std::panic::Location as Caller;

use kiln_ir::attribute::Reducer;
use kiln_ir::{Builder, DType, Dim, GraphError, Location, Value};

use super::{check_rank, extents};
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

/// How [`RoiAlign`] combines the samples of a bin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RoiPooling {
    /// Their mean.
    #[default]
    Average,
    /// The largest of their weighted pixels, which is what ONNX defines: not the largest interpolated value.
    Max,
}

/// Pools regions of interest to one size by bilinear sampling (He et al. 2017, section 3: "RoIAlign"), as torchvision and ONNX do.
///
/// The image is [N, C, H, W]; `regions` are [R, 4] corners (x₁, y₁, x₂, y₂), `images` [R] the index of each region's image; the result is
/// [R, C, height, width]. All extents are numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct RoiAlign {
    /// Bins (rows, columns) of a region.
    pub bins: (usize, usize),
    /// What multiplies the corners: pixels of the image per unit.
    pub scale: f64,
    /// Samples (vertical, horizontal) of a bin.
    pub samples: (usize, usize),
    /// How samples are combined.
    pub pooling: RoiPooling,
    /// Whether corners are moved by half a pixel, to where pixels have their centres. Without, regions are at least one pixel large.
    pub half_pixel: bool,
}

impl RoiAlign {
    /// Means of 2 × 2 samples in `height` × `width` bins, corners in pixels, moved by half a pixel.
    pub fn new(height: usize, width: usize) -> RoiAlign {
        RoiAlign { bins: (height, width), scale: 1.0, samples: (2, 2), pooling: RoiPooling::Average, half_pixel: true }
    }

    /// What multiplies the corners.
    pub fn scale(self, scale: f64) -> RoiAlign {
        RoiAlign { scale, ..self }
    }

    /// `samples` × `samples` in each bin.
    pub fn samples(self, samples: usize) -> RoiAlign {
        RoiAlign { samples: (samples, samples), ..self }
    }

    /// The regions of x.
    #[track_caller]
    pub fn apply<'g>(&self, x: Tensor<'g>, regions: Tensor<'g>, images: Tensor<'g>) -> Tensor<'g> {
        let at = Caller::caller();
        self.build(x, regions, images, at).unwrap_or_else(|wrong| wrong)
    }

    fn build<'g>(
        &self,
        x: Tensor<'g>,
        regions: Tensor<'g>,
        images: Tensor<'g>,
        at: &Caller<'_>,
    ) -> Result<Tensor<'g>, Tensor<'g>> {
        let (regions, images) = (x.scope.own(regions, at), x.scope.own(images, at));
        let (of_x, of_regions, of_images) =
            ("the image of `roi_align`", "`regions` of `roi_align`", "`images` of `roi_align`");
        check_rank(of_x, x, (4, 4), "[N, C, H, W]", at)?;
        for (what, tensor) in [(of_x, x), (of_regions, regions), (of_images, images)] {
            check_numbers(what, tensor, at)?;
        }
        check(of_x, x, has_pixels(x) && is_float(x), "float [N, C, H, W] of some pixels", at)?;
        let fits = matches!(numbers(regions)[..], [_, 4]) && is_float(regions);
        check(of_regions, regions, fits, "float [R, 4]", at)?;
        let whole = images.ty().is_some_and(|t| t.dtype.is_integer());
        check(of_images, images, whole && numbers(images) == numbers(regions)[..1], "as many integers as regions", at)?;
        let some = [self.bins.0, self.bins.1, self.samples.0, self.samples.1].iter().all(|&n| n > 0);
        check("`roi_align` of no bins or no samples", x, some, "at least one of each", at)?;
        Ok(x.scope.emit(at, |b| roi_align(b, x.value, regions.value, images.value, self)))
    }
}

fn numbers(x: Tensor<'_>) -> Vec<usize> {
    x.dims().iter().filter_map(Dim::fixed).collect()
}

/// Whether there are images [N, C, …], and they have pixels.
fn has_pixels(x: Tensor<'_>) -> bool {
    numbers(x).iter().enumerate().all(|(axis, &extent)| axis == 1 || extent > 0)
}

fn is_float(x: Tensor<'_>) -> bool {
    x.ty().is_some_and(|t| t.dtype.is_float())
}

/// An error for each extent of x that is not a number.
fn check_numbers<'g>(what: &str, x: Tensor<'g>, at: &Caller<'_>) -> Result<(), Tensor<'g>> {
    let mut all = x.ty().map(|_| ()).ok_or(x);
    for axis in 0..x.dims().len() {
        if let Err(wrong) = extents(what, x, [axis], at) {
            all = Err(wrong);
        }
    }
    all
}

fn check<'g>(
    what: &str,
    x: Tensor<'g>,
    holds: bool,
    expected: &'static str,
    at: &Caller<'_>,
) -> Result<(), Tensor<'g>> {
    match x.ty() {
        None => Err(x),
        Some(_) if holds => Ok(()),
        Some(found) => {
            let location = Some(Location::caller(at));
            Err(x.scope.emit(at, |b| b.fail(GraphError::Rank { what: what.to_owned(), expected, found, location })))
        }
    }
}

/// The extents of a value, all of which are numbers.
fn sizes(b: &Builder, x: Value) -> Vec<usize> {
    b.dims(x).iter().filter_map(Dim::fixed).collect()
}

fn fixed(dims: &[usize]) -> Vec<Dim> {
    dims.iter().copied().map(Dim::Fixed).collect()
}

fn reshape(b: &mut Builder, x: Value, dims: &[usize]) -> Value {
    b.reshape(x, &fixed(dims))
}

/// x with a number: one closure for each op would be as long.
fn with(b: &mut Builder, f: fn(&mut Builder, Value, Value) -> Value, x: Value, number: f64) -> Value {
    let number = b.scalar_like(x, number);
    f(b, x, number)
}

/// The dtype in which coordinates of `dtype` are computed: 16 bits cannot tell the pixels of a large image apart.
fn precise(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

fn dtype_of(b: &Builder, x: Value) -> DType {
    b.ty(x).map_or(DType::F32, |t| t.dtype)
}

/// One of the pixels along an axis that a point is interpolated from.
#[derive(Clone, Copy)]
struct Tap {
    /// Its index, a float within the axis.
    index: Value,
    /// Its weight; `None` is 1.
    weight: Option<Value>,
    /// Where it counts at all; `None` is everywhere.
    inside: Option<Value>,
}

/// Cubic convolution's parameter: that of PyTorch and ONNX.
const CUBIC: f64 = -0.75;

/// Keys' weights of the four pixels around a point that lies `t` beyond the second.
fn cubic_weights(b: &mut Builder, t: Value) -> [Value; 4] {
    let one = b.scalar_like(t, 1.0);
    let rest = b.sub(one, t);
    // ((a + 2)·s − (a + 3))·s² + 1 at a distance s up to 1, (((s − 5)·s + 8)·s − 4)·a up to 2
    let near = |b: &mut Builder, s: Value| {
        let inner = with(b, Builder::mul, s, CUBIC + 2.0);
        let inner = with(b, Builder::sub, inner, CUBIC + 3.0);
        let square = b.mul(s, s);
        let product = b.mul(inner, square);
        with(b, Builder::add, product, 1.0)
    };
    let far = |b: &mut Builder, inside: Value| {
        let s = with(b, Builder::add, inside, 1.0);
        let sum = with(b, Builder::sub, s, 5.0);
        let product = b.mul(sum, s);
        let sum = with(b, Builder::add, product, 8.0);
        let product = b.mul(sum, s);
        let sum = with(b, Builder::sub, product, 4.0);
        with(b, Builder::mul, sum, CUBIC)
    };
    [far(b, t), near(b, t), near(b, rest), far(b, rest)]
}

/// The pixel coordinate of a grid's coordinate, along an axis of `extent` pixels.
fn pixel_coordinate(b: &mut Builder, grid: Value, extent: usize, align_corners: bool) -> Value {
    let shifted = with(b, Builder::add, grid, 1.0);
    if align_corners {
        return with(b, Builder::mul, shifted, (extent as f64 - 1.0) / 2.0);
    }
    let scaled = with(b, Builder::mul, shifted, extent as f64);
    let moved = with(b, Builder::sub, scaled, 1.0);
    with(b, Builder::mul, moved, 0.5)
}

/// A coordinate folded back at the borders: a triangle wave.
fn reflected(b: &mut Builder, x: Value, extent: usize, align_corners: bool) -> Value {
    let (low, span) = if align_corners { (0.0, extent as f64 - 1.0) } else { (-0.5, extent as f64) };
    if span == 0.0 {
        let zero = b.scalar_like(x, 0.0);
        return b.broadcast(zero, &b.dims(x), &[]);
    }
    let from_low = with(b, Builder::sub, x, low);
    let distance = b.abs(from_low);
    let period = with(b, Builder::rem, distance, 2.0 * span);
    let back = with(b, Builder::sub, period, span);
    let back = b.abs(back);
    // low + span − |period − span|
    let top = b.scalar_like(x, low + span);
    b.sub(top, back)
}

fn limited(b: &mut Builder, index: Value, extent: usize) -> Value {
    b.clip(index, 0.0, extent as f64 - 1.0)
}

/// 0 ≤ index ≤ extent − 1.
fn within(b: &mut Builder, index: Value, extent: usize) -> Value {
    let zero = b.scalar_like(index, 0.0);
    let after = b.greater_equal(index, zero);
    let last = b.scalar_like(index, extent as f64 - 1.0);
    let before = b.less_equal(index, last);
    b.and(after, before)
}

fn either(
    b: &mut Builder,
    f: fn(&mut Builder, Value, Value) -> Value,
    x: Option<Value>,
    y: Option<Value>,
) -> Option<Value> {
    match (x, y) {
        (Some(x), Some(y)) => Some(f(b, x, y)),
        (x, y) => x.or(y),
    }
}

impl GridSample {
    /// The taps of the points with these pixel coordinates along an axis.
    fn taps(self, b: &mut Builder, coordinate: Value, extent: usize) -> Vec<Tap> {
        // For cubic convolution it is the pixels that are folded back, not the point.
        let folds = self.interpolation != Interpolation::Cubic;
        let place = match self.outside {
            Outside::Border if folds => limited(b, coordinate, extent),
            Outside::Reflection if folds => {
                let place = reflected(b, coordinate, extent, self.align_corners);
                limited(b, place, extent)
            }
            _ => coordinate,
        };
        let around: Vec<(Value, Option<Value>)> = match self.interpolation {
            Interpolation::Nearest => vec![(b.round(place), None)],
            Interpolation::Linear => {
                let low = b.floor(place);
                let high = with(b, Builder::add, low, 1.0);
                let share = b.sub(place, low);
                let one = b.scalar_like(share, 1.0);
                vec![(low, Some(b.sub(one, share))), (high, Some(share))]
            }
            Interpolation::Cubic => {
                let low = b.floor(place);
                let share = b.sub(place, low);
                let weights = cubic_weights(b, share);
                let pixel = |(k, w): (f64, Value), b: &mut Builder| (with(b, Builder::add, low, k), Some(w));
                [-1.0, 0.0, 1.0, 2.0].into_iter().zip(weights).map(|tap| pixel(tap, b)).collect()
            }
        };
        let finish = |(index, weight): (Value, Option<Value>)| {
            let inside = (self.outside == Outside::Zeros).then(|| within(b, index, extent));
            let index = match self.outside {
                Outside::Reflection => reflected(b, index, extent, self.align_corners),
                _ => index,
            };
            Tap { index: limited(b, index, extent), weight, inside }
        };
        around.into_iter().map(finish).collect()
    }
}

/// Images [N, C, …] as rows of channels: [N · pixels, C].
fn channel_rows(b: &mut Builder, x: Value) -> Value {
    let dims = sizes(b, x);
    let (images, channels, pixels) = (dims[0], dims[1], dims[2..].iter().product::<usize>());
    let flat = reshape(b, x, &[images, channels, pixels]);
    let last = b.transpose(flat, &[0, 2, 1]);
    reshape(b, last, &[images * pixels, channels])
}

/// The weighted pixels around points, one for each combination of taps: rows of channels, so of the points' dims and one axis more.
///
/// `axes` are the extents of the image and the taps along each; all taps broadcast to the points' dims. `first` is the index of the
/// row that is the first pixel of each point's image.
fn weighted_pixels(b: &mut Builder, rows: Value, first: Value, axes: &[(usize, Vec<Tap>)]) -> Vec<Value> {
    let mut corners = vec![(first, None, None)];
    for (at, (_, taps)) in axes.iter().enumerate() {
        let stride: usize = axes[at + 1..].iter().map(|(extent, _)| extent).product();
        let mut next = Vec::new();
        for &(row, weight, inside) in &corners {
            for tap in taps {
                let index = b.convert(tap.index, DType::I64);
                let step = with(b, Builder::mul, index, stride as f64);
                let row = b.add(row, step);
                let weight = either(b, Builder::mul, weight, tap.weight);
                next.push((row, weight, either(b, Builder::and, inside, tap.inside)));
            }
        }
        corners = next;
    }
    let of_row = |(row, weight, inside): (Value, Option<Value>, Option<Value>), b: &mut Builder| {
        let mut pixels = b.gather(rows, row, 0);
        let points = [&sizes(b, row)[..], &[1]].concat();
        let over_channels = |b: &mut Builder, of_point: Value| {
            let dims = b.dims(row);
            let of_point = b.broadcast_to(of_point, &dims);
            reshape(b, of_point, &points)
        };
        if let Some(weight) = weight {
            let weight = b.convert(weight, dtype_of(b, rows));
            let weight = over_channels(b, weight);
            pixels = b.mul(pixels, weight);
        }
        if let Some(inside) = inside {
            // not by the weight: what lies beyond is zero even where the border's pixel is infinite
            let inside = over_channels(b, inside);
            let zero = b.scalar_like(pixels, 0.0);
            pixels = b.select(inside, pixels, zero);
        }
        pixels
    };
    corners.into_iter().map(|corner| of_row(corner, b)).collect()
}

fn sum(b: &mut Builder, values: &[Value]) -> Value {
    let (first, rest) = values.split_first().expect("a point has at least one tap");
    rest.iter().fold(*first, |so_far, &next| b.add(so_far, next))
}

/// 0, rows, 2·rows … along the first of `dims` axes, extents 1 elsewhere.
fn first_rows(b: &mut Builder, images: usize, rows: usize, rank: usize) -> Value {
    let mut dims = vec![1; rank];
    dims[0] = images;
    let op = kiln_ir::Op::Iota { dtype: DType::I64, dims: fixed(&dims), axis: 0 };
    let image = b.add_op(op, &[]);
    with(b, Builder::mul, image, rows as f64)
}

/// Element `at` of the last axis, which vanishes; f32 at least.
fn component(b: &mut Builder, x: Value, at: usize) -> Value {
    let dims = sizes(b, x);
    let part = b.slice_axis(x, dims.len() - 1, at, at + 1);
    let part = reshape(b, part, &dims[..dims.len() - 1]);
    let dtype = precise(dtype_of(b, part));
    b.convert(part, dtype)
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
        let op = kiln_ir::Op::Iota { dtype: dtype_of(b, theta), dims: fixed(&[extent]), axis: 0 };
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

/// The composition behind [`RoiAlign`], of operands that fit.
pub(crate) fn roi_align(b: &mut Builder, x: Value, regions: Value, images: Value, how: &RoiAlign) -> Value {
    let (dims, count) = (sizes(b, x), sizes(b, regions)[0]);
    let spatial = [dims[2], dims[3]];
    let (bins, samples) = ([how.bins.0, how.bins.1], [how.samples.0, how.samples.1]);
    let mut axes = Vec::new();
    let mut counted = Vec::new();
    for at in 0..2 {
        // corners are (x₁, y₁, x₂, y₂)
        let corner = |b: &mut Builder, place: usize| {
            let corner = component(b, regions, place);
            let scaled = with(b, Builder::mul, corner, how.scale);
            if how.half_pixel { with(b, Builder::sub, scaled, 0.5) } else { scaled }
        };
        let (start, end) = (corner(b, 1 - at), corner(b, 3 - at));
        let mut length = b.sub(end, start);
        if !how.half_pixel {
            length = with(b, Builder::maximum, length, 1.0);
        }
        let bin = with(b, Builder::div, length, bins[at] as f64);
        // sample s of bin i is at start + (i + (s + ½) / n) · bin
        let column = |b: &mut Builder, v: Value| reshape(b, v, &[count, 1, 1]);
        let (start, bin) = (column(b, start), column(b, bin));
        let dtype = dtype_of(b, bin);
        let line = |b: &mut Builder, dims: [usize; 3], axis: usize| {
            b.add_op(kiln_ir::Op::Iota { dtype, dims: fixed(&dims), axis }, &[])
        };
        let (number, sample) = (line(b, [1, bins[at], 1], 1), line(b, [1, 1, samples[at]], 2));
        let centre = with(b, Builder::add, sample, 0.5);
        let share = with(b, Builder::div, centre, samples[at] as f64);
        let place = b.add(number, share);
        let place = b.mul(place, bin);
        let place = b.add(start, place);
        // a sample more than a pixel outside counts as zero
        let before = b.scalar_like(place, -1.0);
        let after = b.scalar_like(place, spatial[at] as f64);
        let (low, high) = (b.greater_equal(place, before), b.less_equal(place, after));
        let counts = b.and(low, high);
        let how = GridSample { outside: Outside::Border, ..GridSample::default() };
        let taps = how.taps(b, place, spatial[at]);
        // [R, bins, samples] of the rows and of the columns become [R, rows, samples, columns, samples]
        let spread = if at == 0 { [count, bins[0], samples[0], 1, 1] } else { [count, 1, 1, bins[1], samples[1]] };
        let wide = |b: &mut Builder, v: Value| {
            let v = b.broadcast_to(v, &fixed(&[count, bins[at], samples[at]]));
            reshape(b, v, &spread)
        };
        let taps: Vec<Tap> = taps
            .into_iter()
            .map(|t| Tap { index: wide(b, t.index), weight: t.weight.map(|w| wide(b, w)), inside: None })
            .collect();
        axes.push((spatial[at], taps));
        counted.push(wide(b, counts));
    }
    let counted = b.and(counted[0], counted[1]);
    axes[0].1.iter_mut().for_each(|tap| tap.inside = Some(counted));
    let rows = channel_rows(b, x);
    let image = b.convert(images, DType::I64);
    let first = with(b, Builder::mul, image, (spatial[0] * spatial[1]) as f64);
    let first = reshape(b, first, &[count, 1, 1, 1, 1]);
    let first = b.broadcast_to(first, &fixed(&[count, bins[0], samples[0], bins[1], samples[1]]));
    let pixels = weighted_pixels(b, rows, first, &axes);
    let y = match how.pooling {
        RoiPooling::Average => {
            let values = sum(b, &pixels);
            let total = b.reduce(values, &[2, 4], Reducer::Sum);
            with(b, Builder::div, total, (samples[0] * samples[1]) as f64)
        }
        RoiPooling::Max => {
            let largest = pixels[1..].iter().fold(pixels[0], |so_far, &next| b.maximum(so_far, next));
            b.reduce(largest, &[2, 4], Reducer::Max)
        }
    };
    b.transpose(y, &[0, 3, 1, 2])
}

/// Attributes of a deformable convolution.
#[derive(Clone, Debug)]
pub(crate) struct DeformConv {
    /// Steps (vertical, horizontal).
    pub strides: [usize; 2],
    /// Rows above and columns before.
    pub padding: [i64; 2],
    /// Distance between the elements of the window.
    pub dilations: [usize; 2],
    /// Groups of channels with filters of their own.
    pub groups: usize,
    /// Groups of channels with offsets of their own.
    pub offset_groups: usize,
}

/// A convolution whose every tap reads where its own offset says (Dai et al. 2017, eq. 2; Zhu et al. 2019, eq. 1 with `mask`), of
/// operands that fit: x [N, C, H, W], w [filters, C / groups, kh, kw], offset [N, offset groups · kh · kw · 2, h, w] as (y, x),
/// mask [N, offset groups · kh · kw, h, w]. The result is [N, filters, h, w].
pub(crate) fn deform_conv(
    b: &mut Builder,
    x: Value,
    w: Value,
    offset: Value,
    mask: Option<Value>,
    how: &DeformConv,
) -> Value {
    let (dims, filters, points) = (sizes(b, x), sizes(b, w), sizes(b, offset));
    let (images, channels, spatial) = (dims[0], dims[1], [dims[2], dims[3]]);
    let (kernel, places) = ([filters[2], filters[3]], [points[2], points[3]]);
    let (parts, taps) = (how.offset_groups, kernel[0] * kernel[1]);
    let dtype = precise(dtype_of(b, offset));
    // [images, parts, kh, kw, h, w], the dims of all points
    let all = [images, parts, kernel[0], kernel[1], places[0], places[1]];
    let moved = reshape(b, offset, &[images, parts, taps, 2, places[0] * places[1]]);
    let moved = b.convert(moved, dtype);
    let mut axes = Vec::new();
    for at in 0..2 {
        let own = b.slice_axis(moved, 3, at, at + 1);
        let own = reshape(b, own, &all);
        let mut line = |axis: usize, step: usize| {
            let mut dims = [1; 6];
            dims[axis] = all[axis];
            let index = b.add_op(kiln_ir::Op::Iota { dtype, dims: fixed(&dims), axis }, &[]);
            with(b, Builder::mul, index, step as f64)
        };
        let (tap, place) = (line(2 + at, how.dilations[at]), line(4 + at, how.strides[at]));
        let regular = b.add(tap, place);
        let regular = with(b, Builder::sub, regular, how.padding[at] as f64);
        let point = b.add(regular, own);
        axes.push((spatial[at], GridSample::default().taps(b, point, spatial[at])));
    }
    // the channels of a part are images of their own
    let split = reshape(b, x, &[images * parts, channels / parts, spatial[0], spatial[1]]);
    let rows = channel_rows(b, split);
    let first = first_rows(b, images * parts, spatial[0] * spatial[1], 2);
    let first = reshape(b, first, &[images, parts, 1, 1, 1, 1]);
    let first = b.broadcast_to(first, &fixed(&all));
    let pixels = weighted_pixels(b, rows, first, &axes);
    let mut sampled = sum(b, &pixels);
    if let Some(mask) = mask {
        let mask = reshape(b, mask, &[&all[..], &[1]].concat());
        sampled = b.mul(sampled, mask);
    }
    // [images, parts, taps, points, channels of a part] → [images, points, channels, taps] → by group
    let (count, inputs) = (places[0] * places[1], channels / how.groups);
    let sampled = reshape(b, sampled, &[images, parts, taps, count, channels / parts]);
    let sampled = b.transpose(sampled, &[0, 3, 1, 4, 2]);
    let sampled = reshape(b, sampled, &[images, count, how.groups, inputs * taps]);
    let w = reshape(b, w, &[how.groups, filters[0] / how.groups, inputs * taps]);
    let y = b.dot(w, sampled, &[0], &[2], &[2], &[3]);
    // [groups, filters of a group, images, points]
    let y = b.transpose(y, &[2, 0, 1, 3]);
    reshape(b, y, &[images, filters[0], places[0], places[1]])
}
