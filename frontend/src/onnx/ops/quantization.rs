//! Quantising and back.

use kiln_ir::attribute::Reducer;
use kiln_ir::{DType, Op};

use super::super::emit::{Emitter, Operand, axis};
use super::super::error::{Result, invalid, unsupported};
use super::super::node::NodeContext;
use super::Results;

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
