//! Constants, shapes and dtypes.

use bytes::Bytes;
use kiln_ir::{DType, Op, Tensor, TensorError};

use super::super::emit::{Emitter, Operand};
use super::super::error::{NodeError, Result, invalid, unsupported};
use super::super::narrow::{Narrow, NarrowType};
use super::super::node::NodeContext;
use super::super::tensor::{dtype_of, read_value};
use super::super::value::Value;
use super::movement::extents;
use super::{Results, Values};

/// A constant stated by the one attribute that is there.
pub(super) fn constant(n: &mut NodeContext<'_>) -> Values {
    let a = &n.attributes;
    let tensor = if let Some(proto) = a.tensor("value")? {
        let name = proto.name.as_deref().filter(|s| !s.is_empty()).unwrap_or("value");
        return Ok(vec![read_value(proto, name, n.files, None)?]);
    } else if let Some(v) = a.float("value_float")? {
        // The attribute is an f32; widening it was exact.
        Tensor::scalar(v as f32)
    } else if let Some(list) = a.floats("value_floats")? {
        Tensor::from_slice(&[list.len()], list)?
    } else if let Some(v) = a.int("value_int")? {
        Tensor::scalar(v)
    } else if let Some(list) = a.ints("value_ints")? {
        Tensor::from_slice(&[list.len()], list)?
    } else {
        return unsupported(
            "a constant given neither as tensor nor as numbers (strings and sparse tensors are not supported)",
        );
    };
    Ok(vec![Operand::known(tensor).into()])
}

/// A tensor of one repeated value.
pub(super) fn constant_of_shape(n: &mut NodeContext<'_>) -> Values {
    let dims = extents(&n.required_integers(0, "input")?, "extents")?;
    let value = match n.attributes.tensor("value")? {
        Some(proto) => read_value(proto, "value", n.files, None)?,
        None => Operand::known(Tensor::scalar(0.0f32)).into(),
    };
    match value.held().and_then(Operand::tensor) {
        Some(number) if number.len() == 1 => Ok(vec![Value::of(value.narrow(), n.emit.filled(number, &dims)?)]),
        _ => invalid(format!("`value` must have one element, found {value}")),
    }
}

pub(super) fn shape(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "data")?;
    let rank = x.rank() as i64;
    let clamp = |v: i64| (if v < 0 { v.saturating_add(rank) } else { v }).clamp(0, rank) as usize;
    let start = clamp(n.attributes.int_or("start", 0)?);
    let end = clamp(n.attributes.int_or("end", rank)?);
    let dims: Vec<i64> = x.dims().get(start..end).unwrap_or_default().iter().map(|&d| d as i64).collect();
    Ok(vec![Operand::integers(&dims)?])
}

pub(super) fn size(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "data")?;
    let count: usize = x.dims().iter().product();
    Ok(vec![Operand::known(Tensor::scalar(count as i64))])
}

/// What a cast makes.
enum Target {
    Kiln(DType),
    Narrow(NarrowType),
}

pub(super) fn cast(n: &mut NodeContext<'_>) -> Values {
    let to = n.attributes.required_int("to")?;
    let target = i32::try_from(to).map_err(|_| format!("number {to}")).and_then(|to| match NarrowType::of(to) {
        Some(ty) => Ok(Target::Narrow(ty)),
        None => dtype_of(to).map(Target::Kiln),
    });
    let target = target.map_err(|found| NodeError::Unsupported(format!("a cast to {found}")))?;
    cast_to(n, target)
}

pub(super) fn cast_like(n: &mut NodeContext<'_>) -> Values {
    let target = match n.value(1).ok_or(NodeError::MissingInput { index: 1, role: "target_type" })? {
        Value::Narrow(narrow) => Target::Narrow(narrow.ty),
        other => Target::Kiln(other.tensor(1)?.dtype()),
    };
    cast_to(n, target)
}

fn cast_to(n: &mut NodeContext<'_>, target: Target) -> Values {
    // What does not fit an 8-bit float; integers always saturate.
    let saturate = n.attributes.flag("saturate", true)?;
    let x = match n.value(0).ok_or(NodeError::MissingInput { index: 0, role: "input" })? {
        Value::Narrow(narrow) => narrow.held,
        other => other.tensor(0)?.clone(),
    };
    Ok(vec![match target {
        Target::Kiln(dtype) => n.emit.convert(&x, dtype)?.into(),
        Target::Narrow(ty) => Value::Narrow(Narrow { ty, held: ty.cast(n.emit, &x, saturate)? }),
    }])
}

/// start, start + delta, … short of limit; all known at import.
pub(super) fn range(n: &mut NodeContext<'_>) -> Results {
    let scalar = |i: usize, role: &'static str| -> Result<Tensor> {
        let t = n.known(i, role)?.ok_or(NodeError::MissingInput { index: i, role })?;
        if t.len() == 1 { Ok(t) } else { invalid(format!("{role} must be a scalar, found {t:?}")) }
    };
    let (start, limit, delta) = (scalar(0, "start")?, scalar(1, "limit")?, scalar(2, "delta")?);
    let dtype = start.dtype();
    if limit.dtype() != dtype || delta.dtype() != dtype {
        return invalid(format!(
            "start, limit and delta must be of one type, found {dtype}, {} and {}",
            limit.dtype(),
            delta.dtype()
        ));
    }
    if dtype.is_integer() {
        return integer_range(n.emit, &start, &limit, &delta).map(|t| vec![Operand::known(t)]);
    }
    let first = |t: &Tensor| t.to_f64_vec().first().copied().unwrap_or(0.0);
    let (s, l, d) = (first(&start), first(&limit), first(&delta));
    let count = ((l - s) / d).ceil().max(0.0);
    if count.is_nan() || count > MOST {
        return invalid(format!("a range from {s} to {l} by {d}"));
    }
    n.emit.room_for_constant(dtype, &[count as usize])?;
    let values = (0..count as usize).map(|i| s + i as f64 * d);
    Ok(vec![Operand::known(Tensor::from_f64_iter(dtype, &[count as usize], values)?)])
}

/// Most elements of a range: it is a constant of the graph.
const MOST: f64 = (1u64 << 26) as f64;

fn integer_range(e: &mut Emitter, start: &Tensor, limit: &Tensor, delta: &Tensor) -> Result<Tensor> {
    let first = |t: &Tensor| i128::from(t.to_i64_vec().first().copied().unwrap_or(0));
    let (s, l, d) = (first(start), first(limit), first(delta));
    if d == 0 {
        return invalid("a range with delta 0");
    }
    let distance = if d > 0 { l - s } else { s - l };
    let count = if distance <= 0 { 0 } else { (distance + d.abs() - 1) / d.abs() };
    if count as f64 > MOST {
        return invalid(format!("a range from {s} to {l} by {d}"));
    }
    let (dtype, count) = (start.dtype(), count as usize);
    e.room_for_constant(dtype, &[count])?;
    let bytes = count.saturating_mul(dtype.size());
    let mut out = Vec::new();
    out.try_reserve_exact(bytes).map_err(|_| TensorError::Memory { dtype, dims: vec![count], bytes })?;
    for i in 0..count as i128 {
        // Every value lies between start and limit, so it fits the type: what is cut off is its sign.
        out.extend_from_slice((s + i * d).to_le_bytes().get(..dtype.size()).unwrap_or_default());
    }
    Ok(Tensor::from_bytes(dtype, &[count], Bytes::from(out))?)
}

/// Inference, or training that drops nothing: the input as it is, and a mask that keeps everything.
pub(super) fn dropout(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "data")?;
    // How many elements training would drop, and by which random numbers.
    n.attributes.dismiss("ratio");
    n.attributes.dismiss("seed");
    let ratio = n.optional(1);
    if n.opset < 7 {
        n.attributes.dismiss("is_test");
    }
    if n.opset >= 12 {
        let training = n.known(2, "training_mode")?.is_some_and(|t| t.to_f64_vec().first().is_some_and(|&v| v != 0.0));
        let drops_none = ratio.is_some_and(|r| r.tensor().is_some_and(|t| t.to_f64_vec() == [0.0]));
        if training && !drops_none {
            return unsupported("training_mode = true, which drops elements at random (a ratio of 0 drops none)");
        }
    }
    if n.outputs < 2 {
        return Ok(vec![x]);
    }
    let mask = n.emit.broadcast_to(&Operand::known(Tensor::scalar(true)), x.dims())?;
    Ok(vec![x, mask])
}

/// 1 on one diagonal, 0 elsewhere.
pub(super) fn eye_like(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "input")?;
    let k = n.attributes.int_or("k", 0)?;
    let dtype = n.attributes.dtype("dtype")?.unwrap_or(x.dtype());
    let [_, _] = *x.dims() else { return invalid(format!("input must be a matrix, found {:?}", x.dims())) };
    let e = &mut *n.emit;
    let iota = |axis: usize| Op::Iota { dtype: DType::I64, dims: super::super::emit::fixed(x.dims()), axis };
    let (row, column) = (e.op(iota(0), &[])?, e.op(iota(1), &[])?);
    let k = Operand::known(Tensor::scalar(k));
    let diagonal = e.add(&row, &k)?;
    let hit = e.binary(Op::Equal {}, &diagonal, &column)?;
    Ok(vec![e.convert(&hit, dtype)?])
}
