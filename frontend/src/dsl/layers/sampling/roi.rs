//! Regions of interest, pooled to one size.

use std::panic::Location as Caller;

use kiln_ir::attribute::Reducer;
use kiln_ir::{Builder, DType, Op, Value};

use super::super::check_rank;
use super::grid::{GridSample, Outside};
use super::taps::{Tap, channel_rows, component, dtype_of, fixed, reshape, sizes, sum, weighted_pixels, with};
use super::{check, check_numbers, has_pixels, is_float, numbers};
use crate::dsl::Tensor;

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
/// The image is [N, C, H, W]; `regions` are [R, 4] corners (x₁, y₁, x₂, y₂), `images` (R of them) the index of each region's image; the result is
/// [R, C, height, width]. All extents are numbers. All samples are in memory at once: R · C times the samples of all bins.
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

/// The composition behind [`RoiAlign`], of operands that fit.
pub(crate) fn roi_align(b: &mut Builder, x: Value, regions: Value, images: Value, how: &RoiAlign) -> Value {
    let (dims, count) = (sizes(b, x), sizes(b, regions)[0]);
    let spatial = [dims[2], dims[3]];
    let (bins, samples) = ([how.bins.0, how.bins.1], [how.samples.0, how.samples.1]);
    let mut axes = Vec::new();
    let mut counted = Vec::new();
    for (at, &extent) in spatial.iter().enumerate() {
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
            b.add_op(Op::Iota { dtype, dims: fixed(&dims), axis }, &[])
        };
        let (number, sample) = (line(b, [1, bins[at], 1], 1), line(b, [1, 1, samples[at]], 2));
        let centre = with(b, Builder::add, sample, 0.5);
        let share = with(b, Builder::div, centre, samples[at] as f64);
        let place = b.add(number, share);
        let place = b.mul(place, bin);
        let place = b.add(start, place);
        // a sample more than a pixel outside counts as zero
        let before = b.scalar_like(place, -1.0);
        let after = b.scalar_like(place, extent as f64);
        let (low, high) = (b.greater_equal(place, before), b.less_equal(place, after));
        let counts = b.and(low, high);
        let how = GridSample { outside: Outside::Border, ..GridSample::default() };
        let taps = how.taps(b, place, extent);
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
        axes.push((extent, taps));
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
            with(b, Builder::div, total, samples[0] as f64 * samples[1] as f64)
        }
        RoiPooling::Max => {
            let largest = pixels[1..].iter().fold(pixels[0], |so_far, &next| b.maximum(so_far, next));
            b.reduce(largest, &[2, 4], Reducer::Max)
        }
    };
    b.transpose(y, &[0, 3, 1, 2])
}
