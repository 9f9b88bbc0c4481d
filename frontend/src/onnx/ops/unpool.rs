//! What was taken from windows, back in place.

use kiln_ir::attribute::{Padding, ScatterMode};
use kiln_ir::infer::window_extent;
use kiln_ir::{DType, Op};

use super::super::emit::Operand;
use super::super::error::{NodeError, Result, invalid, unsupported};
use super::super::node::NodeContext;
use super::Results;
use super::conv::spatial_rank;
use super::index::row_major_strides;
use super::movement::extents;
use super::window::{check_length, explicit_pads, per_axis};

/// Tensors are built whole, so a few bytes of file must not ask for all memory.
fn checked_size(dims: &[usize]) -> Result<usize> {
    const MOST_ELEMENTS: usize = 1 << 32;
    let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    match count {
        Some(count) if count <= MOST_ELEMENTS => Ok(count),
        _ => unsupported(format!("a result of extents {dims:?}")),
    }
}

/// Elements at the places that a `MaxPool` gave, zeros elsewhere.
pub(super) fn max_unpool(n: &mut NodeContext<'_>) -> Results {
    let (x, places) = (n.input(0, "X")?, n.input(1, "I")?);
    let spatial = spatial_rank(&x, "X")?;
    let kernel = n
        .attributes
        .extents("kernel_shape", 1)?
        .ok_or(NodeError::MissingAttribute { name: "kernel_shape".into(), expected: "the window's extents" })?;
    check_length("kernel_shape", kernel.len(), spatial)?;
    let (strides, pads) = (per_axis(n, "strides", spatial)?, explicit_pads(n, spatial)?);
    let wanted = n.integers(2, "output_shape")?.map(|s| extents(&s, "output_shape")).transpose()?;
    if places.dims() != x.dims() {
        return invalid(format!("I must have the extents of X {:?}, found {:?}", x.dims(), places.dims()));
    }
    let mut dims = x.dims()[..2].to_vec();
    for i in 0..spatial {
        let extent = || {
            let steps = x.extent(2 + i).checked_sub(1)?.checked_mul(strides[i])?.checked_add(kernel[i])?;
            usize::try_from(i64::try_from(steps).ok()?.checked_sub(pads[i].low)?.checked_sub(pads[i].high)?).ok()
        };
        let extent = extent().ok_or_else(|| {
            NodeError::Invalid(format!(
                "window, strides and pads leave nothing of spatial axis {i} of X {:?}",
                x.dims()
            ))
        })?;
        dims.push(extent);
    }
    let (count, elements) = (checked_size(&dims)?, x.dims().iter().product());
    if let Some(wanted) = &wanted
        && (wanted.len() != dims.len() || wanted.iter().zip(&dims).any(|(w, d)| w < d))
    {
        return invalid(format!("output_shape must be at least {dims:?}, found {wanted:?}"));
    }
    let e = &mut *n.emit;
    let zero = Operand::scalar(x.dtype(), 0.0)?;
    let empty = e.broadcast_to(&zero, &[count])?;
    let (places, values) = (e.reshape(&places, &[elements])?, e.reshape(&x, &[elements])?);
    let y = e.op(Op::Scatter { axis: 0, mode: ScatterMode::Replace }, &[&empty, &places, &values])?;
    let y = e.reshape(&y, &dims)?;
    // Places are those of the extents that the window gives; what `output_shape` has beyond them comes after.
    let Some(wanted) = wanted else { return Ok(vec![y]) };
    checked_size(&wanted)?;
    let padding: Vec<Padding> =
        wanted.iter().zip(&dims).map(|(w, d)| Padding { low: 0, high: (w - d) as i64 }).collect();
    Ok(vec![e.pad(&y, &padding, 0.0)?])
}

/// Windows [N, C · elements, positions], each added at its position of an image [N, C, …].
pub(super) fn col2im(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "input")?;
    let image = extents(&n.required_integers(1, "image_shape")?, "image_shape")?;
    let block = extents(&n.required_integers(2, "block_shape")?, "block_shape")?;
    let spatial = image.len();
    check_length("block_shape", block.len(), spatial)?;
    let (strides, dilations) = (per_axis(n, "strides", spatial)?, per_axis(n, "dilations", spatial)?);
    let pads = explicit_pads(n, spatial)?;
    let mut counts = Vec::new();
    for i in 0..spatial {
        let count = window_extent(image[i], block[i], strides[i], pads[i], dilations[i]).filter(|_| block[i] > 0);
        counts.push(count.ok_or_else(|| {
            NodeError::Invalid(format!("a block of {} does not fit extent {} (axis {i})", block[i], image[i]))
        })?);
    }
    let elements: usize = checked_size(&block)?;
    let positions: usize = checked_size(&counts)?;
    if x.rank() != 3 || x.extent(1) % elements != 0 || x.extent(2) != positions {
        return invalid(format!(
            "input must be [N, C · {elements}, {positions}] for these blocks and this image, found extents {:?}",
            x.dims()
        ));
    }
    let pixels = checked_size(&image)?;
    // The places are a constant of the graph.
    const MOST_PLACES: usize = 1 << 26;
    let places = elements.checked_mul(positions).filter(|&p| p <= MOST_PLACES);
    let Some(places) = places else {
        return unsupported(format!("{elements} elements of blocks at {positions} positions"));
    };
    let (of_block, of_positions, of_image) =
        (row_major_strides(&block), row_major_strides(&counts), row_major_strides(&image));
    let (images, channels) = (x.extent(0), x.extent(1) / elements);
    let dims = [&[images, channels], image.as_slice()].concat();
    let zero = Operand::scalar(x.dtype(), 0.0)?;
    if images * channels == 0 {
        // places of nothing could still be many
        return Ok(vec![n.emit.broadcast_to(&zero, &dims)?]);
    }
    let place = |at: usize| -> i64 {
        let (element, position) = (at / positions, at % positions);
        let mut place = 0;
        for i in 0..spatial {
            let (tap, step) = (element / of_block[i] % block[i], position / of_positions[i] % counts[i]);
            let coordinate = (step * strides[i] + tap * dilations[i]) as i64 - pads[i].low;
            if coordinate < 0 || coordinate >= image[i] as i64 {
                // in the padding: a scatter skips what is out of range
                return -1;
            }
            place += coordinate * of_image[i] as i64;
        }
        place
    };
    let e = &mut *n.emit;
    e.room_for_constant(DType::I64, &[places])?;
    let indices: Vec<i64> = (0..places).map(place).collect();
    let empty = e.broadcast_to(&zero, &[images * channels, pixels])?;
    let updates = e.reshape(&x, &[images * channels, places])?;
    let op = Op::Scatter { axis: 1, mode: ScatterMode::Add };
    let y = e.op(op, &[&empty, &Operand::integers(&indices)?, &updates])?;
    Ok(vec![e.reshape(&y, &dims)?])
}
