//! Convolutions.

use kiln_ir::attribute::{ConvLayout, Padding};
use kiln_ir::{DType, Op};

use super::super::attributes::at_least;
use super::super::emit::{Emitter, Operand};
use super::super::error::{NodeError, Result, invalid};
use super::super::node::NodeContext;
use super::Results;
use super::window::{AutoPad, Window, auto_pad, check_length, explicit_pads, per_axis, split};

/// Number of spatial axes of a batch of channels, or an error.
pub(super) fn spatial_rank(x: &Operand, role: &str) -> Result<usize> {
    match x.rank() {
        rank @ 3.. => Ok(rank - 2),
        rank => invalid(format!("{role} must have a batch, a channel and a spatial axis, found rank {rank}")),
    }
}

fn groups(n: &NodeContext<'_>) -> Result<usize> {
    at_least("group", n.attributes.int_or("group", 1)?, 1)
}

/// The kernel's extents: those of the weights, which the attribute must repeat where it is there.
fn kernel(n: &NodeContext<'_>, w: &Operand) -> Result<Vec<usize>> {
    let from_weights = w.dims().get(2..).unwrap_or_default().to_vec();
    match n.attributes.extents("kernel_shape", 1)? {
        Some(stated) if stated != from_weights => {
            invalid(format!("`kernel_shape` {stated:?} is not that of the weights {:?}", w.dims()))
        }
        _ => Ok(from_weights),
    }
}

pub(super) fn with_bias(e: &mut Emitter, y: Operand, bias: Option<Operand>) -> Result<Operand> {
    let Some(bias) = bias else { return Ok(y) };
    if bias.dims() != y.dims().get(1..2).unwrap_or_default() {
        return invalid(format!(
            "the bias must have one entry per output channel of {:?}, found {:?}",
            y.dims(),
            bias.dims()
        ));
    }
    let bias = e.broadcast(&bias, y.dims(), &[1])?;
    e.add(&y, &bias)
}

pub(super) fn conv(n: &mut NodeContext<'_>) -> Results {
    let (x, w, bias) = (n.input(0, "X")?, n.input(1, "W")?, n.optional(2));
    let op = conv_op(n, &x, &w)?;
    let y = n.emit.op(op, &[&x, &w])?;
    Ok(vec![with_bias(n.emit, y, bias)?])
}

pub(super) fn conv_op(n: &NodeContext<'_>, x: &Operand, w: &Operand) -> Result<Op> {
    spatial_rank(x, "X")?;
    let window = Window::read(n, kernel(n, w)?, x.dims().get(2..).unwrap_or_default(), false)?;
    Ok(Op::Conv {
        strides: window.strides,
        padding: window.padding,
        lhs_dilation: Vec::new(),
        rhs_dilation: window.dilations,
        groups: groups(n)?,
        layout: ConvLayout::ChannelsFirst,
    })
}

/// Integers of 8 bits, each less its zero point, convolved exactly in i32.
pub(super) fn conv_integer(n: &mut NodeContext<'_>) -> Results {
    let (x, w) = (n.input(0, "x")?, n.input(1, "w")?);
    let (x_zero, w_zero) = (n.optional(2), n.optional(3));
    let op = conv_op(n, &x, &w)?;
    let x = centred(n.emit, &x, x_zero, None)?;
    let w = centred(n.emit, &w, w_zero, Some(0))?;
    Ok(vec![n.emit.op(op, &[&x, &w])?])
}

/// `x − zero` in i32. A vector of zero points goes along `axis`.
pub(super) fn centred(e: &mut Emitter, x: &Operand, zero: Option<Operand>, axis: Option<usize>) -> Result<Operand> {
    let wide = e.convert(x, DType::I32)?;
    let Some(zero) = zero else { return Ok(wide) };
    let zero = e.convert(&zero, DType::I32)?;
    let zero = match (zero.dims().iter().product::<usize>(), axis) {
        (1, _) => e.reshape(&zero, &[])?,
        (_, Some(axis)) if zero.rank() == 1 => e.broadcast(&zero, x.dims(), &[axis])?,
        _ => return invalid(format!("a zero point of extents {:?} for {:?}", zero.dims(), x.dims())),
    };
    e.sub(&wide, &zero)
}

/// The gradient of a convolution with respect to its input: a convolution of the dilated input with
/// the kernel turned around and its channels exchanged.
pub(super) fn conv_transpose(n: &mut NodeContext<'_>) -> Results {
    let (x, w, bias) = (n.input(0, "X")?, n.input(1, "W")?, n.optional(2));
    let spatial = spatial_rank(&x, "X")?;
    let kernel = kernel(n, &w)?;
    check_length("kernel_shape", kernel.len(), spatial)?;
    let strides = per_axis(n, "strides", spatial)?;
    let dilations = per_axis(n, "dilations", spatial)?;
    let extra = n.attributes.extents("output_padding", 0)?.unwrap_or_else(|| vec![0; spatial]);
    check_length("output_padding", extra.len(), spatial)?;
    let groups = groups(n)?;
    let extents = x.dims().get(2..).unwrap_or_default().to_vec();
    let padding = transposed_padding(n, &extents, &kernel, &strides, &dilations, &extra)?;

    // Weights [C, K/g, …] → [K, C/g, …], turned around.
    let [c, per_group, ..] = *w.dims() else { return invalid(format!("W of extents {:?}", w.dims())) };
    if c % groups != 0 || x.dims().get(1) != Some(&c) {
        return invalid(format!("X {:?}, W {:?} and {groups} groups do not fit together", x.dims(), w.dims()));
    }
    let e = &mut *n.emit;
    let mut split_dims = vec![groups, c / groups, per_group];
    split_dims.extend(&kernel);
    let mut perm: Vec<usize> = (0..split_dims.len()).collect();
    perm.swap(1, 2);
    let mut turned_dims = vec![groups * per_group, c / groups];
    turned_dims.extend(&kernel);
    let w = e.reverse(
        &w,
        &(0..spatial).filter(|&i| kernel.get(i).is_some_and(|&k| k > 1)).map(|i| i + 2).collect::<Vec<_>>(),
    )?;
    let w = e.reshape(&w, &split_dims)?;
    let w = e.transpose(&w, &perm)?;
    let w = e.reshape(&w, &turned_dims)?;
    let op = Op::Conv {
        strides: Vec::new(),
        padding,
        lhs_dilation: strides,
        rhs_dilation: dilations,
        groups,
        layout: ConvLayout::ChannelsFirst,
    };
    let y = e.op(op, &[&x, &w])?;
    Ok(vec![with_bias(e, y, bias)?])
}

/// The padding of the equivalent convolution, from the operator's formulas for `pads`, `auto_pad`,
/// `output_shape` and `output_padding`.
fn transposed_padding(
    n: &NodeContext<'_>,
    extents: &[usize],
    kernel: &[usize],
    strides: &[usize],
    dilations: &[usize],
    extra: &[usize],
) -> Result<Vec<Padding>> {
    let spatial = extents.len();
    let auto = auto_pad(n)?;
    let explicit = explicit_pads(n, spatial)?;
    let stated = n.attributes.extents("output_shape", 1)?;
    // Some exporters give all axes, not the spatial ones only.
    let stated = stated.map(|s| if s.len() == spatial + 2 { s.into_iter().skip(2).collect() } else { s });
    if let Some(s) = &stated {
        check_length("output_shape", s.len(), spatial)?;
    }
    let same = matches!(auto, AutoPad::SameUpper | AutoPad::SameLower);
    let big = || NodeError::Invalid("kernel, strides or padding are too large".to_owned());
    let number = |list: &[usize], i: usize| list.get(i).and_then(|&v| i64::try_from(v).ok()).ok_or_else(big);
    (0..spatial)
        .map(|i| {
            let (extent, stride, extra) = (number(extents, i)?, number(strides, i)?, number(extra, i)?);
            let span = (number(kernel, i)? - 1).checked_mul(number(dilations, i)?).ok_or_else(big)?;
            let wanted = match &stated {
                Some(s) => Some(number(s, i)?),
                None if same => Some(extent.checked_mul(stride).ok_or_else(big)?),
                None => None,
            };
            let (removed, extra) = match wanted {
                None => (explicit.get(i).copied().unwrap_or_default(), extra),
                Some(wanted) => {
                    let full = (extent - 1)
                        .checked_mul(stride)
                        .and_then(|f| f.checked_add(span + 1 + extra))
                        .ok_or_else(big)?;
                    // A result larger than the full one is padded at its end, as ONNX Runtime does.
                    let removed = split((full - wanted).max(0), auto == AutoPad::SameUpper);
                    (removed, extra + (wanted - full).max(0))
                }
            };
            Ok(Padding { low: span - removed.low, high: span - removed.high + extra })
        })
        .collect()
}
