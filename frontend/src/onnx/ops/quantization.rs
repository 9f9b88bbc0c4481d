//! Quantising and back.

use kiln_ir::attribute::{Padding, Reducer};
use kiln_ir::{DType, Op};

use super::super::emit::{Emitter, Operand, axis, set};
use super::super::error::{NodeError, Result, invalid, unsupported};
use super::super::node::NodeContext;
use super::Results;
use super::contraction::product;
use super::conv::{centred, conv_op, with_bias};

/// How a tensor is quantised.
struct Scheme {
    /// The axis along which scales differ.
    axis: usize,
    /// One scale for so many elements along it; 0 for one of each element, or of the whole tensor.
    block: usize,
    scale: Operand,
    zero: Operand,
}

/// The scheme that the attributes and inputs say; a missing zero point is 0.
fn scheme(n: &mut NodeContext<'_>, x: &Operand, scale: &Operand, default: DType) -> Result<Scheme> {
    let at = match scale.rank() {
        0 => {
            n.attributes.dismiss("axis");
            0
        }
        _ if n.opset >= 13 => axis(n.attributes.int_or("axis", 1)?, x.rank())?,
        _ => 0,
    };
    let block = if n.opset >= 21 { n.attributes.int_or("block_size", 0)? } else { 0 };
    let Ok(block) = usize::try_from(block) else {
        return Err(NodeError::Attribute {
            name: "block_size".into(),
            expected: "an integer of at least 0".into(),
            found: block.to_string(),
        });
    };
    let zero = match n.optional(2) {
        Some(zero) => zero,
        None => {
            let zero = Operand::scalar(default, 0.0)?;
            n.emit.broadcast_to(&zero, scale.dims())?
        }
    };
    // A block that is longer than the axis is the axis.
    let block = block.min(x.extent(at).max(1));
    if block > 0 {
        let mut dims = x.dims().to_vec();
        set(&mut dims, at, x.extent(at).div_ceil(block));
        if scale.dims() != dims || zero.dims() != dims {
            return invalid(format!(
                "scales of {:?} and zero points of {:?} for {:?} in blocks of {block} along axis {at}; expected {dims:?}",
                scale.dims(),
                zero.dims(),
                x.dims()
            ));
        }
    }
    // A vector of one is a scalar.
    let (scale, zero) = if block == 0 && scale.dims() == [1] {
        (n.emit.reshape(scale, &[])?, n.emit.reshape(&zero, &[])?)
    } else {
        (scale.clone(), zero)
    };
    Ok(Scheme { axis: at, block, scale, zero })
}

impl Scheme {
    /// Applies an op of x, scale and zero point. Blocks become the rows of a matrix, which has a scale for each row.
    fn apply(&self, e: &mut Emitter, x: &Operand, op: impl FnOnce(usize) -> Op) -> Result<Operand> {
        if self.block == 0 {
            return e.op(op(self.axis), &[x, &self.scale, &self.zero]);
        }
        let (extent, blocks) = (x.extent(self.axis), self.scale.extent(self.axis));
        // Elements beyond the last whole block do not matter: they are cut off again.
        let mut padding = vec![Padding::NONE; x.rank()];
        if let (Some(own), Some(more)) =
            (padding.get_mut(self.axis), blocks.checked_mul(self.block).and_then(|n| n.checked_sub(extent)))
        {
            own.high = more as i64;
        }
        let padded = e.pad(x, &padding, 0.0)?;
        let split_at = |dims: &[usize]| -> Vec<usize> {
            let (before, after) = dims.split_at(self.axis);
            [before, &[blocks, self.block], after.get(1..).unwrap_or_default()].concat()
        };
        let split = e.reshape(&padded, &split_at(padded.dims()))?;
        // The elements of a block last.
        let mut perm: Vec<usize> = (0..split.rank()).collect();
        perm.remove(self.axis + 1);
        perm.push(self.axis + 1);
        let rows = e.transpose(&split, &perm)?;
        let moved = rows.dims().to_vec();
        let count = self.scale.dims().iter().product();
        let rows = e.reshape(&rows, &[count, self.block])?;
        let (scale, zero) = (e.reshape(&self.scale, &[count])?, e.reshape(&self.zero, &[count])?);
        let y = e.op(op(0), &[&rows, &scale, &zero])?;
        let y = e.reshape(&y, &moved)?;
        let mut back: Vec<usize> = (0..split.rank() - 1).collect();
        back.insert(self.axis + 1, split.rank() - 1);
        let y = e.transpose(&y, &back)?;
        let y = e.reshape(&y, padded.dims())?;
        e.slice_axis(&y, self.axis, 0, extent)
    }
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
                .map_err(|found| NodeError::Unsupported(format!("output_dtype {found}")))?;
        }
    }
    let mut scheme = scheme(n, &x, &scale, default)?;
    scheme.scale = n.emit.convert(&scheme.scale, x.dtype())?;
    let dtype = scheme.zero.dtype();
    Ok(vec![scheme.apply(n.emit, &x, |axis| Op::Quantize { dtype, axis })?])
}

pub(super) fn dequantize(n: &mut NodeContext<'_>) -> Results {
    let (x, scale) = (n.input(0, "x")?, n.input(1, "x_scale")?);
    let scheme = scheme(n, &x, &scale, x.dtype())?;
    Ok(vec![scheme.apply(n.emit, &x, |axis| Op::Dequantize { axis })?])
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
