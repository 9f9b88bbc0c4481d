//! Storing constants that were views until now: each transposed weight is written once, in its final order.

use kiln_ir::{Graph, Op, Value};

use crate::driver::{Context, PassFailure};
use crate::evaluate::View;
use crate::rewrite::{Values, rewrite};

/// The rule's name.
pub const RULE: &str = "store_transposed_constant";

/// The pass.
pub fn run(graph: &Graph, context: &mut Context<'_>) -> Result<Graph, PassFailure> {
    Ok(rewrite(graph, context, |rewriter, id, operands| {
        let op = &rewriter.source().node(id).op;
        if !matches!(op, Op::Transpose { .. }) || !rewriter.context.may_fire(RULE) {
            return Ok(None);
        }
        // The source's operand is looked at, not the target's: a transpose of a transpose is one view of the first.
        let view = View::of_value(rewriter.source(), Value { node: id, result: 0 });
        let Some(tensor) = view.and_then(|v| v.store()) else { return Ok(None) };
        debug_assert_eq!(operands.len(), 1);
        rewriter.fired(RULE);
        Ok(Some(Values::from_slice(&[rewriter.add(Op::Constant { value: tensor.into() }, &[])?])))
    })?)
}
