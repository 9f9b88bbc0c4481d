//! Losses of classifiers, which exported training graphs end in.

use kiln_ir::attribute::Reducer;
use kiln_ir::{DType, Op, Tensor};

use super::super::emit::{Emitter, Operand, fixed};
use super::super::error::{Result, invalid};
use super::super::node::NodeContext;
use super::Results;

pub(super) fn negative_log_likelihood(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "input")?;
    Ok(vec![loss(n, &x)?])
}

pub(super) fn softmax_cross_entropy(n: &mut NodeContext<'_>) -> Results {
    let scores = n.input(0, "scores")?;
    let log = n.emit.op(Op::LogSoftmax { axis: 1 }, &[&scores])?;
    Ok(vec![loss(n, &log)?, log])
}

/// −x[n, target, …] · weight[target], reduced as asked. The mean is weighted; ignored targets count
/// nothing.
fn loss(n: &mut NodeContext<'_>, x: &Operand) -> Result<Operand> {
    let (target, weight) = (n.input(1, "target")?, n.optional(2));
    let reduction = n.attributes.word("reduction", &["mean", "sum", "none"])?;
    let ignored = n.attributes.int("ignore_index")?;
    let [batch, _, rest @ ..] = x.dims() else {
        return invalid(format!("the input must have a batch and a class axis, found extents {:?}", x.dims()));
    };
    let outer = [&[*batch], rest].concat();
    if target.dims() != outer {
        return invalid(format!("targets of extents {:?} for an input of extents {:?}", target.dims(), x.dims()));
    }
    let (batch, rest) = (*batch, rest.to_vec());
    let e = &mut *n.emit;
    let target = e.convert(&target, DType::I64)?;
    let wanted = e.reshape(&target, &[&[batch, 1], rest.as_slice()].concat())?;
    let class = e.op(Op::Iota { dtype: DType::I64, dims: fixed(x.dims()), axis: 1 }, &[])?;
    let hit = e.binary(Op::Equal {}, &class, &wanted)?;
    let zero = Operand::scalar(x.dtype(), 0.0)?;
    let picked = pick(e, &hit, x, &zero)?;
    let mut weights = match &weight {
        Some(w) => {
            let w = e.broadcast(w, x.dims(), &[1])?;
            pick(e, &hit, &w, &zero)?
        }
        None => {
            let one = Operand::scalar(x.dtype(), 1.0)?;
            e.broadcast_to(&one, &outer)?
        }
    };
    if let Some(ignored) = ignored {
        let ignored = Operand::known(Tensor::scalar(ignored));
        let skip = e.binary(Op::Equal {}, &target, &ignored)?;
        weights = e.select(&skip, &zero, &weights)?;
    }
    let negative = e.op(Op::Neg {}, &[&picked])?;
    let mut losses = e.mul(&negative, &weights)?;
    if ignored.is_some() {
        // An ignored element may be infinite or NaN, and then 0 · it is not 0.
        let counted = e.with_scalar(Op::NotEqual {}, &weights, 0.0)?;
        losses = e.select(&counted, &losses, &zero)?;
    }
    let all: Vec<usize> = (0..outer.len()).collect();
    match reduction {
        "none" => Ok(losses),
        "sum" => e.reduce(&losses, &all, Reducer::Sum),
        _ => {
            let (sum, total) = (e.reduce(&losses, &all, Reducer::Sum)?, e.reduce(&weights, &all, Reducer::Sum)?);
            e.div(&sum, &total)
        }
    }
}

/// The values at the hits, of which there is at most one along axis 1, which vanishes.
fn pick(e: &mut Emitter, hit: &Operand, values: &Operand, zero: &Operand) -> Result<Operand> {
    let kept = e.select(hit, values, zero)?;
    e.reduce(&kept, &[1], Reducer::Sum)
}
