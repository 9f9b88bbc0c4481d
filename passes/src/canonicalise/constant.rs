//! Rules about constants: folding, uniform tensors, and elementwise work below broadcasts.

use kiln_ir::{Op, Tensor, Value, elementwise_op};

use super::{Canonicaliser, Rewritten, Rule};
use crate::evaluate::{View, fold};
use crate::rewrite::Values;

/// The name that switches hash-consing off.
pub const CSE: &str = "merge_common_subexpressions";
/// What hash-consing does.
pub const CSE_STATEMENT: (&str, &str) = (CSE, "equal ops over equal operands are one node");

/// Results up to this size may be larger than what they are made of.
const FREE_GROWTH: usize = 64 << 10;
/// Multiply-adds up to which a contraction of constants is done at compile time.
pub const FOLDED_WORK: usize = 1 << 28;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "fill_uniform",
        doc: "a constant whose elements are all equal is a broadcast scalar",
        apply: fill_uniform,
    },
    Rule {
        name: "elementwise_before_broadcast",
        doc: "an elementwise op of equally broadcast operands is done before they are broadcast",
        apply: elementwise_before_broadcast,
    },
    Rule {
        name: "fold_constants",
        doc: "an op of constants is a constant, unless its result is much larger than they are or it takes too long",
        apply: fold_constants,
    },
];

fn fold_constants(c: &mut Canonicaliser<'_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let folds = match op {
        // A broadcast is the compact form; a transpose of a constant is a view until something stores it.
        Op::Broadcast { .. } | Op::Placeholder { .. } | Op::Constant { .. } | Op::ReadVar { .. } => false,
        Op::RandomBits { .. } => false,
        op => !op.has_effect(),
    };
    if !folds || operands.iter().any(|&v| !c.is_constant(v)) {
        return Ok(None);
    }
    let Some(views) = operands.iter().map(|&v| c.view(v)).collect::<Option<Vec<View>>>() else { return Ok(None) };
    let types: Vec<_> = operands.iter().map(|&v| c.ty(v).clone()).collect();
    let Ok(inferred) = kiln_ir::infer::infer(op, &types) else { return Ok(None) };
    let [ty] = inferred.as_slice() else { return Ok(None) };
    let stored: usize = views.iter().map(View::stored_bytes).sum();
    let limit = FREE_GROWTH.max(stored.saturating_mul(2));
    let fits = |bytes: Option<usize>| bytes.is_some_and(|n| n <= limit);
    if matches!(op, Op::Transpose { .. }) && ty.byte_count().is_none_or(|n| n > FREE_GROWTH) {
        return Ok(None);
    }
    // Only elementwise ops of f32 leave broadcast operands unstored; that their result fits bounds them as well.
    if !fits(ty.byte_count()) || !views.iter().all(|v| fits(v.byte_count())) || work(op, &types) > FOLDED_WORK {
        return Ok(None);
    }
    let key = (op.clone(), Values::from_slice(operands));
    if let Some(&known) = c.folded.get(&key) {
        return Ok(Some(known));
    }
    let Some([tensor]) = fold(op, &views).and_then(|tensors| <[Tensor; 1]>::try_from(tensors).ok()) else {
        return Ok(None);
    };
    let deferred = tensor.is_deferred();
    let result = c.constant(tensor)?;
    if deferred {
        c.folded.insert(key, result);
    }
    Ok(Some(result))
}

/// Multiply-adds of a contraction, elements read by a window reduction; 0 for what is linear in its operands.
fn work(op: &Op, types: &[kiln_ir::TensorType]) -> usize {
    let count = |i: usize| types.get(i).and_then(kiln_ir::TensorType::element_count).unwrap_or(usize::MAX);
    let extent = |i: usize, axis: usize| types.get(i).and_then(|t| t.dims.get(axis)?.fixed()).unwrap_or(1);
    match op {
        Op::Dot { rhs_batch, rhs_contract, .. } => {
            let shared: usize = rhs_batch.iter().chain(rhs_contract).map(|&a| extent(1, a)).product();
            count(0).saturating_mul(count(1) / shared.max(1))
        }
        Op::Conv { .. } => count(0).saturating_mul(count(1)),
        Op::ReduceWindow { window, .. } => window.iter().fold(count(0), |n, &w| n.saturating_mul(w)),
        _ => 0,
    }
}

fn fill_uniform(c: &mut Canonicaliser<'_, '_, '_>, op: &Op, _: &[Value]) -> Rewritten {
    let Op::Constant { value } = op else { return Ok(None) };
    let t = value.tensor();
    if t.is_deferred() {
        return Ok(None);
    }
    let size = t.dtype().size();
    let Some((first, rest)) = t.bytes().split_at_checked(size).filter(|_| t.len() > 1) else { return Ok(None) };
    if rest.chunks_exact(size).any(|e| e != first) {
        return Ok(None);
    }
    let dims = t.dims().iter().map(|&n| n.into()).collect();
    let Ok(scalar) = Tensor::from_bytes(t.dtype(), &[], t.bytes().slice(..size)) else { return Ok(None) };
    let scalar = c.constant(scalar)?;
    Ok(Some(c.emit(Op::Broadcast { dims, axes: Vec::new() }, &[scalar])?))
}

/// Op(broadcast(x), broadcast(y)) = broadcast(op(x, y)) where both go to the same axes; scalars go anywhere.
fn elementwise_before_broadcast(c: &mut Canonicaliser<'_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    if operands.is_empty() || !matches!(op, elementwise_op!()) {
        return Ok(None);
    }
    let mut inner: Vec<Value> = Vec::with_capacity(operands.len());
    let mut shape: Option<(Vec<usize>, Vec<kiln_ir::Dim>)> = None;
    for &v in operands {
        let Op::Broadcast { axes, .. } = &c.producer(v).op else { return Ok(None) };
        let x = c.producer(v).operands[0];
        if !axes.is_empty() {
            let this = (axes.clone(), c.ty(x).dims.clone());
            if *shape.get_or_insert_with(|| this.clone()) != this {
                return Ok(None);
            }
        }
        inner.push(x);
    }
    let (axes, small) = shape.unwrap_or_default();
    let dims = c.ty(operands[0]).dims.clone();
    for x in &mut inner {
        if c.ty(*x).rank() < small.len() {
            *x = c.emit(Op::Broadcast { dims: small.clone(), axes: Vec::new() }, &[*x])?;
        }
    }
    let result = c.emit(op.clone(), &inner)?;
    Ok(Some(c.emit(Op::Broadcast { dims, axes }, &[result])?))
}
