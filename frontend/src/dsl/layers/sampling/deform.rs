//! Convolution whose taps have offsets of their own.

use kiln_ir::{Builder, Op, Value};

use super::grid::GridSample;
use super::taps::{channel_rows, dtype_of, first_rows, fixed, precise, reshape, sizes, sum, weighted_pixels, with};

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
    for (at, &extent) in spatial.iter().enumerate() {
        let own = b.slice_axis(moved, 3, at, at + 1);
        let own = reshape(b, own, &all);
        let mut line = |axis: usize, step: usize| {
            let mut dims = [1; 6];
            dims[axis] = all[axis];
            let index = b.add_op(Op::Iota { dtype, dims: fixed(&dims), axis }, &[]);
            with(b, Builder::mul, index, step as f64)
        };
        let (tap, place) = (line(2 + at, how.dilations[at]), line(4 + at, how.strides[at]));
        let regular = b.add(tap, place);
        let regular = with(b, Builder::sub, regular, how.padding[at] as f64);
        let point = b.add(regular, own);
        axes.push((extent, GridSample::default().taps(b, point, extent)));
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
