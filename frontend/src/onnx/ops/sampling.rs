//! Reading images between their pixels. The compositions are those of the DSL's layers.

use super::super::emit::Operand;
use super::super::error::{NodeError, Result, invalid, unsupported};
use super::super::node::NodeContext;
use super::Results;
use super::window::{check_length, explicit_pads, per_axis};
use crate::dsl::layers::sampling::{
    DeformConv, GridSample, Interpolation, Outside, RoiAlign, RoiPooling, affine_points, deform_conv, grid_sample,
    roi_align,
};

/// An error unless what the operand is used for is done with floats.
fn check_float(x: &Operand, role: &str) -> Result<()> {
    if x.dtype().is_float() { Ok(()) } else { unsupported(format!("{role} of element type {}", x.dtype())) }
}

/// An error unless there are images, and they have pixels.
fn check_pixels(x: &Operand) -> Result<()> {
    match x.dims() {
        [images, _, spatial @ ..] if *images > 0 && !spatial.contains(&0) => Ok(()),
        _ => invalid(format!("X must have some pixels, found extents {:?}", x.dims())),
    }
}

pub(super) fn grid_samples(n: &mut NodeContext<'_>) -> Results {
    let (x, grid) = (n.input(0, "X")?, n.input(1, "grid")?);
    // The interpolations were renamed in opset 20.
    let modes: &[&str] =
        if n.opset < 20 { &["bilinear", "nearest", "bicubic"] } else { &["linear", "nearest", "cubic"] };
    let how = GridSample {
        interpolation: match n.attributes.word("mode", modes)? {
            "nearest" => Interpolation::Nearest,
            "bicubic" | "cubic" => Interpolation::Cubic,
            _ => Interpolation::Linear,
        },
        outside: match n.attributes.word("padding_mode", &["zeros", "border", "reflection"])? {
            "border" => Outside::Border,
            "reflection" => Outside::Reflection,
            _ => Outside::Zeros,
        },
        align_corners: n.attributes.flag("align_corners", false)?,
    };
    let (Some((&points, _)), images) = (grid.dims().split_last(), x.extent(0)) else {
        return invalid("grid must not be a scalar");
    };
    if x.rank() < 3 || grid.rank() != x.rank() || grid.extent(0) != images || points != x.rank() - 2 {
        return invalid(format!(
            "grid must be [N, …, axes] with a coordinate for each spatial axis of X, found extents {:?} for X of {:?}",
            grid.dims(),
            x.dims()
        ));
    }
    check_pixels(&x)?;
    check_float(&grid, "grid")?;
    if how.interpolation != Interpolation::Nearest {
        check_float(&x, "interpolation of X")?;
    }
    // Each axis multiplies the pixels around a point.
    const MOST_SPATIAL_AXES: usize = 3;
    if x.rank() - 2 > MOST_SPATIAL_AXES {
        return unsupported(format!("{} spatial axes (up to {MOST_SPATIAL_AXES} are)", x.rank() - 2));
    }
    Ok(vec![n.emit.compose(&[&x, &grid], |b, v| grid_sample(b, v[0], v[1], how))?])
}

pub(super) fn affine_grid(n: &mut NodeContext<'_>) -> Results {
    let theta = n.input(0, "theta")?;
    let size = n.required_integers(1, "size")?;
    let align_corners = n.attributes.flag("align_corners", false)?;
    let extents: Option<Vec<usize>> = size.iter().map(|&s| usize::try_from(s).ok()).collect();
    let (Some([images, _, spatial @ ..]), 4 | 5) = (extents.as_deref(), size.len()) else {
        return invalid(format!("size must be [N, C, H, W] or [N, C, D, H, W], found {size:?}"));
    };
    let axes = spatial.len();
    if theta.dims() != [*images, axes, axes + 1] {
        let expected = [*images, axes, axes + 1];
        return invalid(format!("theta must have extents {expected:?} for size {size:?}, found {:?}", theta.dims()));
    }
    check_float(&theta, "theta")?;
    Ok(vec![n.emit.compose(&[&theta], |b, v| affine_points(b, v[0], spatial, align_corners))?])
}

/// An attribute that counts something, 1 where it is missing.
fn count(n: &NodeContext<'_>, name: &str) -> Result<usize> {
    match n.attributes.int_or(name, 1)? {
        found @ 1.. => Ok(usize::try_from(found).unwrap_or(usize::MAX)),
        found => {
            Err(NodeError::Attribute { name: name.into(), expected: "at least 1".into(), found: found.to_string() })
        }
    }
}

pub(super) fn roi_aligned(n: &mut NodeContext<'_>) -> Results {
    let (x, regions, images) = (n.input(0, "X")?, n.input(1, "rois")?, n.input(2, "batch_indices")?);
    let a = &n.attributes;
    let bins = (count(n, "output_height")?, count(n, "output_width")?);
    let pooling = match a.word("mode", &["avg", "max"])? {
        "max" => RoiPooling::Max,
        _ => RoiPooling::Average,
    };
    let scale = a.float_or("spatial_scale", 1.0)?;
    // Regions were not moved before opset 16.
    let half_pixel = n.opset >= 16
        && a.word("coordinate_transformation_mode", &["half_pixel", "output_half_pixel"])? == "half_pixel";
    let samples = match a.int_or("sampling_ratio", 0)? {
        0 => {
            return unsupported(
                "sampling_ratio = 0: the number of samples then follows from the sizes of the regions, but graphs are \
                 static; export with the number of samples along a bin, 2 for example",
            );
        }
        found => usize::try_from(found).map_err(|_| NodeError::Attribute {
            name: "sampling_ratio".into(),
            expected: "at least 0".into(),
            found: found.to_string(),
        })?,
    };
    if x.rank() != 4 || regions.dims() != [images.dims().iter().product(), 4] || images.rank() != 1 {
        return invalid(format!(
            "X must be [N, C, H, W], rois [R, 4] and batch_indices [R], found extents {:?}, {:?} and {:?}",
            x.dims(),
            regions.dims(),
            images.dims()
        ));
    }
    check_pixels(&x)?;
    check_float(&x, "X")?;
    check_float(&regions, "rois")?;
    if let Some(known) = images.tensor()
        && let Some(bad) = known.to_i64_vec().iter().find(|&&i| usize::try_from(i).map_or(true, |i| i >= x.extent(0)))
    {
        return invalid(format!("batch index {bad} is out of range for {} images", x.extent(0)));
    }
    let how = RoiAlign { bins, scale, samples: (samples, samples), pooling, half_pixel };
    Ok(vec![n.emit.compose(&[&x, &regions, &images], |b, v| roi_align(b, v[0], v[1], v[2], &how))?])
}

pub(super) fn deformable_conv(n: &mut NodeContext<'_>) -> Results {
    let (x, w, offset) = (n.input(0, "X")?, n.input(1, "W")?, n.input(2, "offset")?);
    let (bias, mask) = (n.optional(3), n.optional(4));
    if x.rank() != 4 || w.rank() != 4 || offset.rank() != 4 {
        let ranks = [x.rank(), w.rank(), offset.rank()];
        return unsupported(format!("ranks {ranks:?} of X, W and offset (4, two spatial axes, is)"));
    }
    check_pixels(&x)?;
    check_float(&x, "X")?;
    let kernel = w.dims()[2..].to_vec();
    if let Some(stated) = n.attributes.extents("kernel_shape", 1)? {
        check_length("kernel_shape", stated.len(), 2)?;
        if stated != kernel {
            return invalid(format!("`kernel_shape` is {stated:?}, but W has {kernel:?}"));
        }
    }
    let (strides, dilations) = (per_axis(n, "strides", 2)?, per_axis(n, "dilations", 2)?);
    let pads = explicit_pads(n, 2)?;
    let (groups, offset_groups) = (count(n, "group")?, count(n, "offset_group")?);
    let (channels, filters) = (x.extent(1), w.extent(0));
    if channels % groups != 0 || w.extent(1) != channels / groups || filters % groups != 0 {
        return invalid(format!(
            "{channels} channels in {groups} groups do not fit W of extents {:?}: [filters, channels / group, …]",
            w.dims()
        ));
    }
    if channels % offset_groups != 0 {
        return invalid(format!("{channels} channels are no multiple of offset_group = {offset_groups}"));
    }
    let taps = kernel[0].saturating_mul(kernel[1]);
    let mut places = [0; 2];
    for at in 0..2 {
        let extent = kiln_ir::infer::window_extent(x.extent(2 + at), kernel[at], strides[at], pads[at], dilations[at]);
        places[at] = extent.ok_or_else(|| {
            NodeError::Invalid(format!("a window of {} does not fit extent {}", kernel[at], x.extent(2 + at)))
        })?;
    }
    let per_place = |per_tap: usize| offset_groups.saturating_mul(taps).saturating_mul(per_tap);
    let expected = |per_tap: usize| [x.extent(0), per_place(per_tap), places[0], places[1]];
    if offset.dims() != expected(2) {
        return invalid(format!("offset must have extents {:?}, found {:?}", expected(2), offset.dims()));
    }
    if let Some(mask) = &mask
        && mask.dims() != expected(1)
    {
        return invalid(format!("mask must have extents {:?}, found {:?}", expected(1), mask.dims()));
    }
    let how = DeformConv {
        strides: [strides[0], strides[1]],
        padding: [pads[0].low, pads[1].low],
        dilations: [dilations[0], dilations[1]],
        groups,
        offset_groups,
    };
    let operands: Vec<&Operand> = [Some(&x), Some(&w), Some(&offset), mask.as_ref()].into_iter().flatten().collect();
    let y = n.emit.compose(&operands, |b, v| deform_conv(b, v[0], v[1], v[2], v.get(3).copied(), &how))?;
    let Some(bias) = bias else { return Ok(vec![y]) };
    if bias.dims() != [filters] {
        return invalid(format!(
            "B must have one entry for each of {filters} filters, found extents {:?}",
            bias.dims()
        ));
    }
    let bias = n.emit.reshape(&bias, &[filters, 1, 1])?;
    Ok(vec![n.emit.add(&y, &bias)?])
}
