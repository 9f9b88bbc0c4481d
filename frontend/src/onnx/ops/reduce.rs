//! Reductions.

use kiln_ir::attribute::{Extreme, Reducer};
use kiln_ir::{DType, Op};

use super::super::emit::{Emitter, Operand, axes, axis, kept_dims};
use super::super::error::{NodeError, Result};
use super::super::node::NodeContext;
use super::Results;

/// What is done around the plain reduction.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Plain(Reducer),
    Mean,
    L1,
    L2,
    SumSquare,
    LogSum,
    LogSumExp,
}

/// Axes are an attribute before opset 18 (13 for the sum), then an input.
pub(super) fn reduce(n: &mut NodeContext<'_>, kind: Kind) -> Results {
    let x = n.input(0, "data")?;
    let since = if matches!(kind, Kind::Plain(Reducer::Sum)) { 13 } else { 18 };
    let list = n.integers_since(since, "axes", 1, "axes")?.unwrap_or_default();
    let keep = n.attributes.flag("keepdims", true)?;
    let nothing_for_no_axes = n.opset >= since && n.attributes.flag("noop_with_empty_axes", false)?;
    let axes = match list.as_slice() {
        [] if nothing_for_no_axes => Vec::new(),
        [] => (0..x.rank()).collect(),
        list => axes(list, x.rank())?,
    };
    let y = apply(n.emit, kind, &x, &axes)?;
    let dims = if keep {
        kept_dims(x.dims(), &axes)
    } else {
        x.dims().iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, &d)| d).collect()
    };
    Ok(vec![n.emit.reshape(&y, &dims)?])
}

fn apply(e: &mut Emitter, kind: Kind, x: &Operand, axes: &[usize]) -> Result<Operand> {
    let absolute = |e: &mut Emitter, x: &Operand| {
        if x.dtype() == DType::U8 { Ok(x.clone()) } else { e.op(Op::Abs {}, &[x]) }
    };
    match kind {
        Kind::Plain(reducer) => plain(e, x, axes, reducer),
        Kind::Mean => e.mean_keep(x, axes),
        Kind::L1 => {
            let a = absolute(e, x)?;
            e.reduce(&a, axes, Reducer::Sum)
        }
        Kind::L2 => {
            let sum = apply(e, Kind::SumSquare, x, axes)?;
            e.op(Op::Sqrt {}, &[&sum])
        }
        Kind::SumSquare => {
            let square = e.op(Op::Mul {}, &[x, x])?;
            e.reduce(&square, axes, Reducer::Sum)
        }
        Kind::LogSum => {
            let sum = e.reduce(x, axes, Reducer::Sum)?;
            e.op(Op::Log {}, &[&sum])
        }
        Kind::LogSumExp => log_sum_exp(e, x, axes),
    }
}

/// The largest and the smallest of truth values are whether any and whether all are true.
fn plain(e: &mut Emitter, x: &Operand, axes: &[usize], reducer: Reducer) -> Result<Operand> {
    let reducer = match (x.dtype(), reducer) {
        (DType::Bool, Reducer::Max) => Reducer::Or,
        (DType::Bool, Reducer::Min) => Reducer::And,
        _ => reducer,
    };
    e.reduce(x, axes, reducer)
}

/// max + log Σ exp(x − max): without overflow, and −∞ where all of x is.
fn log_sum_exp(e: &mut Emitter, x: &Operand, axes: &[usize]) -> Result<Operand> {
    let max = e.reduce_keep(x, axes, Reducer::Max)?;
    // An infinite maximum would give ∞ − ∞.
    let magnitude = e.op(Op::Abs {}, &[&max])?;
    let infinite = e.with_scalar(Op::Equal {}, &magnitude, f64::INFINITY)?;
    let zero = Operand::scalar(x.dtype(), 0.0)?;
    let shift = e.select(&infinite, &zero, &max)?;
    let shifted = e.sub(x, &shift)?;
    let exp = e.op(Op::Exp {}, &[&shifted])?;
    let sum = e.reduce_keep(&exp, axes, Reducer::Sum)?;
    let log = e.op(Op::Log {}, &[&sum])?;
    e.add(&log, &shift)
}

pub(super) fn arg_reduce(n: &mut NodeContext<'_>, extreme: Extreme) -> Results {
    let x = n.input(0, "data")?;
    let at = axis(n.attributes.int_or("axis", 0)?, x.rank())?;
    let keep = n.attributes.flag("keepdims", true)?;
    let last = n.attributes.flag("select_last_index", false)?;
    let e = &mut *n.emit;
    // The last of equals is the first of the reversed.
    let data = if last { e.reverse(&x, &[at])? } else { x.clone() };
    let mut y = e.op(Op::ArgReduce { axis: at, extreme }, &[&data])?;
    if last {
        let end = Operand::scalar(DType::I64, x.extent(at) as f64 - 1.0)?;
        y = e.sub(&end, &y)?;
    }
    let dims = if keep { kept_dims(x.dims(), &[at]) } else { y.dims().to_vec() };
    Ok(vec![e.reshape(&y, &dims)?])
}

/// `k` is an attribute before opset 10, then an input.
pub(super) fn top_k(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "X")?;
    let k = if n.opset < 10 {
        n.attributes.required_int("k")?
    } else {
        n.required_integers(1, "K")?.first().copied().unwrap_or(-1)
    };
    let at = axis(n.attributes.int_or("axis", -1)?, x.rank())?;
    let largest = n.opset < 11 || n.attributes.flag("largest", true)?;
    // Sorted results are among those allowed where any order is.
    n.attributes.dismiss("sorted");
    let k = usize::try_from(k).map_err(|_| NodeError::Invalid(format!("K must not be negative, found {k}")))?;
    let extreme = if largest { Extreme::Max } else { Extreme::Min };
    n.emit.op_all(Op::TopK { k, axis: at, extreme }, &[&x])
}

/// Sums from the start of an axis (or its end) up to each element, which `exclusive` leaves out.
pub(super) fn cumulative_sum(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "x")?;
    let list = n.required_integers(1, "axis")?;
    let at = axis(list.first().copied().unwrap_or(0), x.rank())?;
    let (exclusive, reverse) = (n.attributes.flag("exclusive", false)?, n.attributes.flag("reverse", false)?);
    let extent = x.extent(at);
    if extent == 0 {
        return Ok(vec![x]);
    }
    // A window as long as the axis that ends (or starts) at each element.
    let mut window = vec![1; x.rank()];
    super::super::emit::set(&mut window, at, extent);
    let (reach, shift) = (extent as i64 - 1, i64::from(exclusive));
    let mut padding = vec![kiln_ir::attribute::Padding::NONE; x.rank()];
    if let Some(p) = padding.get_mut(at) {
        (p.low, p.high) = if reverse { (0, reach + shift) } else { (reach + shift, 0) };
    }
    let op = Op::ReduceWindow { window, strides: Vec::new(), padding, dilation: Vec::new(), reducer: Reducer::Sum };
    let y = n.emit.op(op, &[&x])?;
    // With `exclusive` there is one place too many, at the end that holds the whole sum.
    let first = usize::from(exclusive && reverse);
    Ok(vec![n.emit.slice_axis(&y, at, first, first + extent)?])
}
