//! Normalisations.

use kiln_ir::Op;
use kiln_ir::attribute::{Real, Reducer};

use super::super::emit::{Emitter, Operand, axis};
use super::super::error::{NodeError, Result, invalid, unsupported};
use super::super::node::NodeContext;
use super::Results;

pub(super) fn batch_norm(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "X")?;
    let (scale, bias) = (n.input(1, "scale")?, n.input(2, "B")?);
    let (mean, variance) = (n.input(3, "mean")?, n.input(4, "var")?);
    let epsilon = n.attributes.float_or("epsilon", 1e-5)?;
    // How training updates the statistics.
    let momentum = n.attributes.float_or("momentum", 0.9)?;
    if n.opset < 7 && !n.attributes.flag("is_test", false)? {
        return unsupported("is_test = 0 (training)");
    }
    if n.opset < 9 && !n.attributes.flag("spatial", true)? {
        return unsupported("spatial = 0 (statistics for every element)");
    }
    let training = n.opset >= 14 && n.attributes.flag("training_mode", false)?;
    if x.rank() < 2 {
        return invalid(format!("X must have a channel axis, found extents {:?}", x.dims()));
    }
    let e = &mut *n.emit;
    // From opset 15 on the parameters may be wider than x.
    let (scale, bias) = (e.convert(&scale, x.dtype())?, e.convert(&bias, x.dtype())?);
    let op = Op::BatchNorm { axis: 1, epsilon: Real(epsilon) };
    if !training {
        let (mean, variance) = (e.convert(&mean, x.dtype())?, e.convert(&variance, x.dtype())?);
        return Ok(vec![e.op(op, &[&x, &scale, &bias, &mean, &variance])?]);
    }
    // the batch's own statistics, and the given ones moved towards them
    let channels = [x.extent(1)];
    let axes: Vec<usize> = (0..x.rank()).filter(|&axis| axis != 1).collect();
    let (own_mean, _, own_variance) = mean_and_variance(e, &x, &axes)?;
    let (own_mean, own_variance) = (e.reshape(&own_mean, &channels)?, e.reshape(&own_variance, &channels)?);
    let y = e.op(op, &[&x, &scale, &bias, &own_mean, &own_variance])?;
    let mut moved = |given: &Operand, own: &Operand| {
        let kept = e.with_scalar(Op::Mul {}, given, momentum)?;
        let own = e.convert(own, given.dtype())?;
        let added = e.with_scalar(Op::Mul {}, &own, 1.0 - momentum)?;
        e.add(&kept, &added)
    };
    Ok(vec![y, moved(&mean, &own_mean)?, moved(&variance, &own_variance)?])
}

pub(super) fn lrn(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "X")?;
    let size = n.attributes.required_int("size")?;
    let size =
        usize::try_from(size).map_err(|_| NodeError::Invalid(format!("`size` must be at least 1, found {size}")))?;
    let op = Op::Lrn {
        size,
        alpha: Real(n.attributes.float_or("alpha", 1e-4)?),
        beta: Real(n.attributes.float_or("beta", 0.75)?),
        bias: Real(n.attributes.float_or("bias", 1.0)?),
        axis: 1,
    };
    Ok(vec![n.emit.op(op, &[&x])?])
}

/// Statistics in f32 for 16-bit floats, unless `stash_type` says the type itself.
fn check_stash_type(n: &NodeContext<'_>) -> Result<()> {
    match n.attributes.int_or("stash_type", 1)? {
        1 => Ok(()),
        other => unsupported(format!("stash_type = {other} (only 1, float, is)")),
    }
}

pub(super) fn layer_norm(n: &mut NodeContext<'_>) -> Results {
    let (x, scale, bias) = (n.input(0, "X")?, n.input(1, "Scale")?, n.optional(2));
    let at = axis(n.attributes.int_or("axis", -1)?, x.rank())?;
    let epsilon = n.attributes.float_or("epsilon", 1e-5)?;
    check_stash_type(n)?;
    let e = &mut *n.emit;
    let inner = x.dims()[at..].to_vec();
    let bias = match bias {
        Some(bias) => bias,
        None => Operand::scalar(x.dtype(), 0.0)?,
    };
    let (scale, bias) = (e.broadcast_to(&scale, &inner)?, e.broadcast_to(&bias, &inner)?);
    let y = e.op(Op::LayerNorm { axis: at, epsilon: Real(epsilon) }, &[&x, &scale, &bias])?;
    if n.outputs < 2 {
        return Ok(vec![y]);
    }
    let axes: Vec<usize> = (at..x.rank()).collect();
    let e = &mut *n.emit;
    let (mean, _, deviation) = moments(e, &x, &axes, epsilon)?;
    let inverse = e.op(Op::Reciprocal {}, &[&deviation])?;
    Ok(vec![y, mean, inverse])
}

/// Mean, x less its mean, and √(variance + epsilon) over `axes`, which stay with extent 1.
fn moments(e: &mut Emitter, x: &Operand, axes: &[usize], epsilon: f64) -> Result<(Operand, Operand, Operand)> {
    let (mean, centred, variance) = mean_and_variance(e, x, axes)?;
    let shifted = e.with_scalar(Op::Add {}, &variance, epsilon)?;
    Ok((mean, centred, e.op(Op::Sqrt {}, &[&shifted])?))
}

/// The mean, x without it, and the variance (of the whole, not estimated from a sample) over the axes, which stay.
fn mean_and_variance(e: &mut Emitter, x: &Operand, axes: &[usize]) -> Result<(Operand, Operand, Operand)> {
    let mean = e.mean_keep(x, axes)?;
    let centred = e.sub(x, &mean)?;
    let square = e.op(Op::Mul {}, &[&centred, &centred])?;
    let variance = e.mean_keep(&square, axes)?;
    Ok((mean, centred, variance))
}

/// A vector with one entry per channel, along axis 1 of a tensor of `rank`.
fn along_channels(e: &mut Emitter, v: &Operand, rank: usize) -> Result<Operand> {
    let mut dims = vec![1; rank];
    super::super::emit::set(&mut dims, 1, v.dims().iter().product());
    e.reshape(v, &dims)
}

pub(super) fn instance_norm(n: &mut NodeContext<'_>) -> Results {
    let (x, scale, bias) = (n.input(0, "input")?, n.input(1, "scale")?, n.input(2, "B")?);
    let epsilon = n.attributes.float_or("epsilon", 1e-5)?;
    if x.rank() < 3 {
        return invalid(format!("input must have spatial axes, found extents {:?}", x.dims()));
    }
    let e = &mut *n.emit;
    let axes: Vec<usize> = (2..x.rank()).collect();
    let (_, centred, deviation) = moments(e, &x, &axes, epsilon)?;
    let normal = e.div(&centred, &deviation)?;
    let (scale, bias) = (along_channels(e, &scale, x.rank())?, along_channels(e, &bias, x.rank())?);
    let scaled = e.mul(&normal, &scale)?;
    Ok(vec![e.add(&scaled, &bias)?])
}

/// As instance normalisation, over groups of channels. Scale and bias are per group before opset 21,
/// then per channel.
pub(super) fn group_norm(n: &mut NodeContext<'_>) -> Results {
    let (x, scale, bias) = (n.input(0, "X")?, n.input(1, "scale")?, n.input(2, "bias")?);
    let epsilon = n.attributes.float_or("epsilon", 1e-5)?;
    let groups = n.attributes.required_int("num_groups")?;
    if n.opset >= 21 {
        check_stash_type(n)?;
    }
    let [batch, channels, ..] = *x.dims() else { return invalid(format!("X of extents {:?}", x.dims())) };
    let groups = usize::try_from(groups).ok().filter(|&g| g >= 1 && channels.is_multiple_of(g));
    let Some(groups) = groups else { return invalid(format!("`num_groups` must divide {channels} channels")) };
    let rows = [&[batch, groups, channels / groups], &x.dims()[2..]].concat();
    let e = &mut *n.emit;
    let flat = e.reshape(&x, &rows)?;
    let axes: Vec<usize> = (2..rows.len()).collect();
    let (_, centred, deviation) = moments(e, &flat, &axes, epsilon)?;
    let normal = e.div(&centred, &deviation)?;
    let per_group = scale.dims() == [groups] && (n.opset < 21 || groups == channels);
    let e = &mut *n.emit;
    let (normal, rank) = if per_group { (normal, rows.len()) } else { (e.reshape(&normal, x.dims())?, x.rank()) };
    let (scale, bias) = (along_channels(e, &scale, rank)?, along_channels(e, &bias, rank)?);
    let scaled = e.mul(&normal, &scale)?;
    let y = e.add(&scaled, &bias)?;
    Ok(vec![e.reshape(&y, x.dims())?])
}

/// x / √(mean x² + epsilon) · scale over the axes from `axis` on.
pub(super) fn rms_norm(n: &mut NodeContext<'_>) -> Results {
    let (x, scale) = (n.input(0, "X")?, n.input(1, "scale")?);
    let at = axis(n.attributes.int_or("axis", -1)?, x.rank())?;
    let epsilon = n.attributes.float_or("epsilon", 1e-5)?;
    check_stash_type(n)?;
    let e = &mut *n.emit;
    let axes: Vec<usize> = (at..x.rank()).collect();
    let square = e.op(Op::Mul {}, &[&x, &x])?;
    let mean = e.mean_keep(&square, &axes)?;
    let shifted = e.with_scalar(Op::Add {}, &mean, epsilon)?;
    let root = e.op(Op::Sqrt {}, &[&shifted])?;
    let normal = e.div(&x, &root)?;
    Ok(vec![e.mul(&normal, &scale)?])
}

/// (x − mean) / (deviation + 1e-9) over batch and space, or the axes stated.
pub(super) fn mean_variance(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "X")?;
    let list = n.attributes.ints("axes")?.unwrap_or(&[0, 2, 3]);
    let axes = super::super::emit::axes(list, x.rank())?;
    let e = &mut *n.emit;
    let (_, centred, deviation) = moments(e, &x, &axes, 0.0)?;
    // The constant of the operator's definition.
    let shifted = e.with_scalar(Op::Add {}, &deviation, 1e-9)?;
    Ok(vec![e.div(&centred, &shifted)?])
}

/// x / its 1- or 2-norm along one axis.
pub(super) fn lp_norm(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "input")?;
    let at = axis(n.attributes.int_or("axis", -1)?, x.rank())?;
    let p = n.attributes.int_or("p", 2)?;
    let e = &mut *n.emit;
    let norm = match p {
        1 => {
            let magnitude = e.op(Op::Abs {}, &[&x])?;
            e.reduce_keep(&magnitude, &[at], Reducer::Sum)?
        }
        2 => {
            let square = e.op(Op::Mul {}, &[&x, &x])?;
            let sum = e.reduce_keep(&square, &[at], Reducer::Sum)?;
            e.op(Op::Sqrt {}, &[&sum])?
        }
        other => return invalid(format!("`p` must be 1 or 2, found {other}")),
    };
    Ok(vec![e.div(&x, &norm)?])
}
