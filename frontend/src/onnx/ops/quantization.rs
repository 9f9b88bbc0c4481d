//! Quantising and back.

use kiln_ir::attribute::{Padding, Reducer};
use kiln_ir::{DType, Op};

use super::super::attributes::at_least;
use super::super::emit::{Emitter, Operand, axis, set};
use super::super::error::{NodeError, Result, invalid, unsupported};
use super::super::narrow::{Narrow, NarrowType};
use super::super::node::NodeContext;
use super::super::tensor::dtype_of;
use super::super::value::Value;
use super::contraction::product;
use super::conv::{centred, conv_op, with_bias};
use super::{Results, Values};

/// The type of what is quantised.
#[derive(Clone, Copy, PartialEq)]
enum Quantized {
    Kiln(DType),
    Narrow(NarrowType),
}

impl Quantized {
    fn of(value: &Value, index: usize) -> Result<(Quantized, Operand)> {
        match value {
            Value::Narrow(narrow) => Ok((Quantized::Narrow(narrow.ty), narrow.held.clone())),
            other => {
                let operand = other.tensor(index)?;
                Ok((Quantized::Kiln(operand.dtype()), operand.clone()))
            }
        }
    }

    /// The dtype that has the values.
    fn dtype(self) -> DType {
        match self {
            Quantized::Kiln(dtype) => dtype,
            Quantized::Narrow(ty) => ty.held_in(),
        }
    }

    fn name(self) -> String {
        match self {
            Quantized::Kiln(dtype) => dtype.to_string(),
            Quantized::Narrow(ty) => ty.name().to_owned(),
        }
    }
}

/// How a tensor is quantised.
struct Scheme {
    ty: Quantized,
    /// The axis along which scales differ.
    axis: usize,
    /// One scale for so many elements along it; 0 for one of each element, or of the whole tensor.
    block: usize,
    scale: Operand,
    zero: Operand,
}

/// The scheme that the attributes and inputs say; a missing zero point is 0, of the type `stated` or u8. A zero point that is
/// there must be of that type.
fn scheme(n: &mut NodeContext<'_>, x: &Operand, scale: &Operand, stated: Option<Quantized>) -> Result<Scheme> {
    let at = match scale.rank() {
        0 => {
            n.attributes.dismiss("axis");
            0
        }
        _ if n.opset >= 13 => axis(n.attributes.int_or("axis", 1)?, x.rank())?,
        _ => 0,
    };
    let block = if n.opset >= 21 { n.attributes.int_or("block_size", 0)? } else { 0 };
    let block = at_least("block_size", block, 0)?;
    let (ty, zero) = match n.value(2) {
        Some(zero) => {
            let (ty, zero) = Quantized::of(&zero, 2)?;
            if let Some(stated) = stated.filter(|&stated| stated != ty) {
                return invalid(format!("a zero point of {} for {}", ty.name(), stated.name()));
            }
            (ty, zero)
        }
        None => {
            let ty = stated.unwrap_or(Quantized::Kiln(DType::U8));
            let zero = Operand::scalar(ty.dtype(), 0.0)?;
            (ty, n.emit.broadcast_to(&zero, scale.dims())?)
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
    let single = |o: &Operand| matches!(o.dims(), [] | [1]);
    let (scale, zero) = if block == 0 && single(scale) && single(&zero) {
        (n.emit.reshape(scale, &[])?, n.emit.reshape(&zero, &[])?)
    } else {
        (scale.clone(), zero)
    };
    Ok(Scheme { ty, axis: at, block, scale, zero })
}

impl Scheme {
    /// x, quantised.
    fn quantize(&self, e: &mut Emitter, x: &Operand, saturate: bool) -> Result<Operand> {
        self.apply(e, x, |e, axis, [x, scale, zero]| match self.ty {
            Quantized::Kiln(dtype) => e.op(Op::Quantize { dtype, axis }, &[x, scale, zero]),
            Quantized::Narrow(ty) => {
                let (scale, zero) = (along(e, scale, x, axis)?, along(e, zero, x, axis)?);
                ty.quantize(e, x, &scale, &zero, saturate)
            }
        })
    }

    /// What x, of this scheme's type, stands for.
    fn dequantize(&self, e: &mut Emitter, x: &Operand) -> Result<Operand> {
        self.apply(e, x, |e, axis, [x, scale, zero]| {
            if !x.dtype().is_float() {
                return e.op(Op::Dequantize { axis }, &[x, scale, zero]);
            }
            let (x, zero) = (e.convert(x, scale.dtype())?, e.convert(zero, scale.dtype())?);
            let (scale, zero) = (along(e, scale, &x, axis)?, along(e, &zero, &x, axis)?);
            let centred = e.sub(&x, &zero)?;
            e.mul(&centred, &scale)
        })
    }

    /// Applies a function of an axis, and of x with the scales and zero points along it. Blocks become the rows of a matrix,
    /// which has one for each row.
    fn apply(
        &self,
        e: &mut Emitter,
        x: &Operand,
        op: impl FnOnce(&mut Emitter, usize, [&Operand; 3]) -> Result<Operand>,
    ) -> Result<Operand> {
        if self.block == 0 {
            return op(e, self.axis, [x, &self.scale, &self.zero]);
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
        let y = op(e, 0, [&rows, &scale, &zero])?;
        let y = e.reshape(&y, &moved)?;
        let mut back: Vec<usize> = (0..split.rank() - 1).collect();
        back.insert(self.axis + 1, split.rank() - 1);
        let y = e.transpose(&y, &back)?;
        let y = e.reshape(&y, padded.dims())?;
        e.slice_axis(&y, self.axis, 0, extent)
    }
}

/// A scale or zero point, or a list of them along an axis of x, as wide as x.
fn along(e: &mut Emitter, parameter: &Operand, x: &Operand, axis: usize) -> Result<Operand> {
    match parameter.dims() {
        [] => Ok(parameter.clone()),
        [count] if *count == x.extent(axis) => e.broadcast(parameter, x.dims(), &[axis]),
        dims => invalid(format!("scales or zero points of {dims:?} along axis {axis} of {:?}", x.dims())),
    }
}

pub(super) fn quantize(n: &mut NodeContext<'_>) -> Values {
    for i in 0..2 {
        n.value(i).map(|value| value.tensor(i).map(|_| ())).transpose()?;
    }
    let (x, scale) = (n.input(0, "x")?, n.input(1, "y_scale")?);
    // What does not fit an 8-bit float; integers always saturate.
    let saturate = n.attributes.flag("saturate", true)?;
    let stated = if n.opset >= 21 { n.attributes.int_or("output_dtype", 0)? } else { 0 };
    let stated = match i32::try_from(stated) {
        Ok(0) => None,
        Ok(stated) => Some(match NarrowType::of(stated) {
            Some(ty) => Quantized::Narrow(ty),
            None => Quantized::Kiln(
                dtype_of(stated).map_err(|found| NodeError::Unsupported(format!("output_dtype {found}")))?,
            ),
        }),
        Err(_) => return unsupported(format!("output_dtype {stated}")),
    };
    let mut scheme = scheme(n, &x, &scale, stated)?;
    scheme.scale = n.emit.convert(&scheme.scale, x.dtype())?;
    let y = scheme.quantize(n.emit, &x, saturate)?;
    Ok(vec![match scheme.ty {
        Quantized::Kiln(_) => y.into(),
        Quantized::Narrow(ty) => Value::Narrow(Narrow { ty, held: y }),
    }])
}

pub(super) fn dequantize(n: &mut NodeContext<'_>) -> Values {
    let x = n.value(0).ok_or(NodeError::MissingInput { index: 0, role: "x" })?;
    let (ty, x) = Quantized::of(&x, 0)?;
    let scale = n.value(1).ok_or(NodeError::MissingInput { index: 1, role: "x_scale" })?.tensor(1)?.clone();
    let scheme = scheme(n, &x, &scale, Some(ty))?;
    Ok(vec![scheme.dequantize(n.emit, &x)?.into()])
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
    // Zeros have no range. Any scale quantises them exactly; the operator's reference implementation takes a range of 1, whereas
    // ONNX Runtime takes a scale of 1.
    let flat = e.with_scalar(Op::Equal {}, &scale, 0.0)?;
    let unit = Operand::scalar(DType::F32, 1.0 / 255.0)?;
    let scale = e.select(&flat, &unit, &scale)?;
    let zero = e.div(&low, &scale)?;
    let zero = e.op(Op::Neg {}, &[&zero])?;
    let zero = e.op(Op::Round {}, &[&zero])?;
    let zero = e.convert(&zero, DType::U8)?;
    let y = e.op(Op::Quantize { dtype: DType::U8, axis: 0 }, &[&x, &scale, &zero])?;
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
    Ok(vec![requantize(e, &sum, &a_scale, &b_scale, 0, &scale, &zero)?])
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
    Ok(vec![requantize(e, &sum, &x_scale, &w_scale, 1, &scale, &zero)?])
}

/// An exact i32 sum times the scales of both factors (the second along `axis`, where it is more than one) over the result's,
/// rounded, from the zero point. As in ONNX Runtime, the scales make one number first, in f32: a product for each would round more
/// than once, and differently when constants are merged.
fn requantize(
    e: &mut Emitter,
    sum: &Operand,
    first: &Operand,
    second: &Operand,
    axis: usize,
    scale: &Operand,
    zero: &Operand,
) -> Result<Operand> {
    let [first, second, scale] = [first, second, scale].map(|s| e.convert(s, DType::F32));
    let (first, second, scale) = (e.reshape(&first?, &[])?, second?, e.reshape(&scale?, &[])?);
    let second = if second.dims().iter().all(|&d| d == 1) { e.reshape(&second, &[])? } else { second };
    let factor = e.mul(&first, &second)?;
    let factor = e.div(&factor, &scale)?;
    let factor = if factor.rank() == 0 { factor } else { e.broadcast(&factor, sum.dims(), &[axis])? };
    let y = e.convert(sum, DType::F32)?;
    let y = e.mul(&y, &factor)?;
    let (one, zero) = (Operand::scalar(DType::F32, 1.0)?, e.reshape(zero, &[])?);
    e.op(Op::Quantize { dtype: zero.dtype(), axis: 0 }, &[&y, &one, &zero])
}
