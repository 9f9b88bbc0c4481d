//! Evaluating an op at import, by the reference interpreter: numerics live there.

use kiln_ir::infer::infer;
use kiln_ir::{Op, Tensor, TensorType, interp};

use super::error::{NodeError, Result};

/// Most elements of an operand or a result for which an op is evaluated at import. Shapes are far
/// below it; weights are above it, and are left to the passes, which fold them once and report it.
pub(super) const LIMIT: usize = 1 << 16;

/// Most bytes of results that are worked out however much import has worked out before: shapes and indices, without which
/// a model cannot be read at all.
pub(super) const ALWAYS: usize = 1 << 10;

/// The results of `op`, or `None` where it is not to be evaluated at import: results of more than `room` bytes, and more than
/// [`ALWAYS`], are not.
pub(super) fn evaluate(
    op: &Op,
    types: &[TensorType],
    operands: &[&Tensor],
    room: usize,
) -> Result<Option<Vec<Tensor>>> {
    if matches!(op, Op::Placeholder { .. } | Op::Constant { .. }) || is_heavy(op) {
        return Ok(None);
    }
    let results = infer(op, types).map_err(|e| NodeError::Infer(Box::new(e)))?;
    let small = |t: &TensorType| t.element_count().is_some_and(|n| n <= LIMIT);
    let bytes = |t: &TensorType| t.element_count().unwrap_or(usize::MAX).saturating_mul(t.dtype.size());
    if !types.iter().chain(&results).all(small) || results.iter().map(bytes).sum::<usize>() > room.max(ALWAYS) {
        return Ok(None);
    }
    let operands: Vec<Tensor> = operands.iter().map(|&t| t.clone()).collect();
    interp::fold(op, &operands).map(Some).map_err(|e| NodeError::Invalid(e.to_string()))
}

/// Ops that do more work than they have elements: no shape is computed by them.
fn is_heavy(op: &Op) -> bool {
    matches!(op, Op::Dot { .. } | Op::Conv { .. } | Op::ReduceWindow { .. })
}
