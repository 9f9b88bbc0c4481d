//! What all samplers are made of: taps along an axis, and the pixels that combinations of taps weigh.

use kiln_ir::{Builder, DType, Dim, Op, Value};

use super::grid::{GridSample, Interpolation, Outside};

/// The extents of a value, all of which are numbers.
pub(super) fn sizes(b: &Builder, x: Value) -> Vec<usize> {
    b.dims(x).iter().filter_map(Dim::fixed).collect()
}

pub(super) fn fixed(dims: &[usize]) -> Vec<Dim> {
    dims.iter().copied().map(Dim::Fixed).collect()
}

pub(super) fn reshape(b: &mut Builder, x: Value, dims: &[usize]) -> Value {
    b.reshape(x, &fixed(dims))
}

/// x with a number: one closure for each op would be as long.
pub(super) fn with(b: &mut Builder, f: fn(&mut Builder, Value, Value) -> Value, x: Value, number: f64) -> Value {
    let number = b.scalar_like(x, number);
    f(b, x, number)
}

/// The dtype in which coordinates of `dtype` are computed: 16 bits cannot tell the pixels of a large image apart.
pub(super) fn precise(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

pub(super) fn dtype_of(b: &Builder, x: Value) -> DType {
    b.ty(x).map_or(DType::F32, |t| t.dtype)
}

/// One of the pixels along an axis that a point is interpolated from.
#[derive(Clone, Copy)]
pub(super) struct Tap {
    /// Its index, a float within the axis.
    pub index: Value,
    /// Its weight; `None` is 1.
    pub weight: Option<Value>,
    /// Where it counts at all; `None` is everywhere.
    pub inside: Option<Value>,
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
pub(super) fn pixel_coordinate(b: &mut Builder, grid: Value, extent: usize, align_corners: bool) -> Value {
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
    pub(super) fn taps(self, b: &mut Builder, coordinate: Value, extent: usize) -> Vec<Tap> {
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
pub(super) fn channel_rows(b: &mut Builder, x: Value) -> Value {
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
pub(super) fn weighted_pixels(b: &mut Builder, rows: Value, first: Value, axes: &[(usize, Vec<Tap>)]) -> Vec<Value> {
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

pub(super) fn sum(b: &mut Builder, values: &[Value]) -> Value {
    let (first, rest) = values.split_first().expect("a point has at least one tap");
    rest.iter().fold(*first, |so_far, &next| b.add(so_far, next))
}

/// 0, rows, 2·rows … along the first of `dims` axes, extents 1 elsewhere.
pub(super) fn first_rows(b: &mut Builder, images: usize, rows: usize, rank: usize) -> Value {
    let mut dims = vec![1; rank];
    dims[0] = images;
    let op = Op::Iota { dtype: DType::I64, dims: fixed(&dims), axis: 0 };
    let image = b.add_op(op, &[]);
    with(b, Builder::mul, image, rows as f64)
}

/// Element `at` of the last axis, which vanishes; f32 at least.
pub(super) fn component(b: &mut Builder, x: Value, at: usize) -> Value {
    let dims = sizes(b, x);
    let part = b.slice_axis(x, dims.len() - 1, at, at + 1);
    let part = reshape(b, part, &dims[..dims.len() - 1]);
    let dtype = precise(dtype_of(b, part));
    b.convert(part, dtype)
}
