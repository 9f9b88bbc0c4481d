//! Quantising and back.

use kiln_ir::attribute::Reducer;
use kiln_ir::{DType, Op};

use super::super::emit::{Emitter, Operand, axis};
use super::super::error::{Result, invalid, unsupported};
use super::super::node::NodeContext;
use super::Results;
use super::contraction::product;
use super::conv::{centred, conv_op, with_bias};

/// The channel axis and, where it is missing, a zero point of 0.
fn parameters(
    n: &mut NodeContext<'_>,
    x: &Operand,
    scale: &Operand,
    default: DType,
) -> Result<(usize, Operand, Operand)> {
    let at = match scale.rank() {
        0 => {
            n.attributes.dismiss("axis");
            0
        }
        _ if n.opset >= 13 => axis(n.attributes.int_or("axis", 1)?, x.rank())?,
        _ => 0,
    };
    if n.opset >= 21 && n.attributes.int_or("block_size", 0)? != 0 {
        return unsupported("block_size (one scale per block)");
    }
    let zero = match n.optional(2) {
        Some(zero) => zero,
        None => {
            let zero = Operand::scalar(default, 0.0)?;
            n.emit.broadcast_to(&zero, scale.dims())?
        }
    };
    // A vector of one is a scalar.
    let (scale, zero) = if scale.dims() == [1] {
        (n.emit.reshape(scale, &[])?, n.emit.reshape(&zero, &[])?)
    } else {
        (scale.clone(), zero)
    };
    Ok((at, scale, zero))
}

pub(super) fn quantize(n: &mut NodeContext<'_>) -> Results {
    let (x, scale) = (n.input(0, "x")?, n.input(1, "y_scale")?);
    // Saturation is for 8-bit floats only.
    n.attributes.dismiss("saturate");
    let mut default = DType::U8;
    if n.opset >= 21 {
        let stated = n.attributes.int_or("output_dtype", 0)?;
        if stated != 0 {
            default = i32::try_from(stated)
                .map_err(|_| stated.to_string())
                .and_then(super::super::tensor::dtype_of)
                .map_err(|found| super::super::error::NodeError::Unsupported(format!("output_dtype {found}")))?;
        }
    }
    let (at, scale, zero) = parameters(n, &x, &scale, default)?;
    let scale = n.emit.convert(&scale, x.dtype())?;
    let op = Op::Quantize { dtype: zero.dtype(), axis: at };
    Ok(vec![n.emit.op(op, &[&x, &scale, &zero])?])
}

pub(super) fn dequantize(n: &mut NodeContext<'_>) -> Results {
    let (x, scale) = (n.input(0, "x")?, n.input(1, "x_scale")?);
    let (at, scale, zero) = parameters(n, &x, &scale, x.dtype())?;
    Ok(vec![n.emit.op(Op::Dequantize { axis: at }, &[&x, &scale, &zero])?])
}

/// Scale and zero point from the range of x, widened to hold 0, onto 0…255.
pub(super) fn dynamic_quantize(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "x")?;
    if x.dtype() != DType::F32 {
        return invalid(format!("x must be f32, found {}", x.dtype()));
    }
    let e: &mut Emitter = n.emit;
    let axes: Vec<usize> = (0..x.rank()).collect();
    let (high, low) = (e.reduce(&x, &axes, Reducer::Max)?, e.reduce(&x, &axes, Reducer::Min)?);
    let (high, low) = (e.with_scalar(Op::Maximum {}, &high, 0.0)?, e.with_scalar(Op::Minimum {}, &low, 0.0)?);
    let width = e.sub(&high, &low)?;
    let scale = e.with_scalar(Op::Div {}, &width, 255.0)?;
    // A constant 0 has no range; any scale quantises it exactly.
    let flat = e.with_scalar(Op::Equal {}, &scale, 0.0)?;
    let one = Operand::scalar(DType::F32, 1.0)?;
    let safe = e.select(&flat, &one, &scale)?;
    let zero = e.div(&low, &safe)?;
    let zero = e.op(Op::Neg {}, &[&zero])?;
    let zero = e.op(Op::Round {}, &[&zero])?;
    let zero = e.convert(&zero, DType::U8)?;
    let y = e.op(Op::Quantize { dtype: DType::U8, axis: 0 }, &[&x, &safe, &zero])?;
    Ok(vec![y, scale, zero])
}

/// Each operand less its zero point, multiplied exactly in i32, then scaled and quantised.
pub(super) fn quantized_matmul(n: &mut NodeContext<'_>) -> Results {
    let (a, b) = (n.input(0, "a")?, n.input(3, "b")?);
    let (a_scale, b_scale) = (n.input(1, "a_scale")?, n.input(4, "b_scale")?);
    let (a_zero, b_zero) = (n.input(2, "a_zero_point")?, n.input(5, "b_zero_point")?);
    let (scale, zero) = (n.input(6, "y_scale")?, n.input(7, "y_zero_point")?);
    let (rows, columns) = (a.rank().checked_sub(2), b.rank().checked_sub(1));
    let e = &mut *n.emit;
    let a = centred(e, &a, Some(a_zero), rows)?;
    let b = centred(e, &b, Some(b_zero), columns)?;
    let sum = product(e, &a, &b)?;
    for s in [&a_scale, &b_scale, &scale, &zero] {
        if s.dims().iter().product::<usize>() != 1 {
            return unsupported(format!("scales of extents {:?} (one scale for a whole matrix is)", s.dims()));
        }
    }
    Ok(vec![requantize(e, &sum, &[&a_scale, &b_scale], &scale, &zero)?])
}

/// As [`quantized_matmul`], of a convolution; the weights may have a scale per output channel, and the
/// bias is in units of x's scale times theirs.
pub(super) fn quantized_conv(n: &mut NodeContext<'_>) -> Results {
    let (x, w) = (n.input(0, "x")?, n.input(3, "w")?);
    let (x_scale, w_scale) = (n.input(1, "x_scale")?, n.input(4, "w_scale")?);
    let (x_zero, w_zero) = (n.input(2, "x_zero_point")?, n.input(5, "w_zero_point")?);
    let (scale, zero) = (n.input(6, "y_scale")?, n.input(7, "y_zero_point")?);
    let bias = n.optional(8);
    let op = conv_op(n, &x, &w)?;
    let e = &mut *n.emit;
    let x = centred(e, &x, Some(x_zero), None)?;
    let w = centred(e, &w, Some(w_zero), Some(0))?;
    let sum = e.op(op, &[&x, &w])?;
    let sum = with_bias(e, sum, bias)?;
    let w_scale =
        if w_scale.dims().iter().product::<usize>() == 1 { w_scale } else { e.broadcast(&w_scale, sum.dims(), &[1])? };
    Ok(vec![requantize(e, &sum, &[&x_scale, &w_scale], &scale, &zero)?])
}

/// An exact i32 sum times `factors`, quantised by one scale and zero point; the scaling is in f32.
fn requantize(
    e: &mut Emitter,
    sum: &Operand,
    factors: &[&Operand],
    scale: &Operand,
    zero: &Operand,
) -> Result<Operand> {
    let mut y = e.convert(sum, DType::F32)?;
    for factor in factors {
        let factor = e.convert(factor, DType::F32)?;
        let factor = if factor.dims() == [1] { e.reshape(&factor, &[])? } else { factor };
        y = e.mul(&y, &factor)?;
    }
    let scale = e.convert(scale, DType::F32)?;
    let (scale, zero) = (e.reshape(&scale, &[])?, e.reshape(zero, &[])?);
    e.op(Op::Quantize { dtype: zero.dtype(), axis: 0 }, &[&y, &scale, &zero])
}
