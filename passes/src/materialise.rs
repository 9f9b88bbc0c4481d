//! Storing constants that were views until now: each transposed weight is written once, in its final order, and a
//! uniform tensor where something reads it that cannot take a number or a vector in its place.

use std::collections::HashMap;

use kiln_ir::{Graph, Op, Value};

use crate::driver::{Context, PassFailure};
use crate::egraph::cost::is_elementwise;
use crate::evaluate::View;
use crate::rewrite::{Rewriter, Values, results, rewrite};

/// The rule that stores transposed constants.
pub const TRANSPOSED: &str = "store_transposed_constant";
/// The rule that stores broadcast constants.
pub const BROADCAST: &str = "store_broadcast_constant";
/// What they do.
pub const STATEMENTS: [(&str, &str); 2] = [
    (TRANSPOSED, "a transposed constant is a constant in its final order"),
    (
        BROADCAST,
        "a broadcast constant is a constant where something reads it that takes no number or vector in its place",
    ),
];

/// Broadcast constants up to this size are stored; beyond it memory is dearer than repeating a number.
const STORED: usize = 64 << 20;

/// The pass.
pub fn run(graph: &Graph, context: &mut Context<'_>) -> Result<Graph, PassFailure> {
    let mut stored: HashMap<Value, Value> = HashMap::new();
    Ok(rewrite(graph, context, |rewriter, id, operands| {
        let node = rewriter.source().node(id);
        if matches!(node.op, Op::Transpose { .. }) {
            return store(rewriter, Value { node: id, result: 0 }, TRANSPOSED)
                .map(|v| v.map(|v| Values::from_slice(&[v])));
        }
        if is_elementwise(&node.op) || matches!(node.op, Op::Broadcast { .. }) {
            return Ok(None);
        }
        let mut changed = false;
        let mut replaced = Values::from_slice(operands);
        for (v, slot) in node.operands.iter().zip(&mut replaced) {
            if !matches!(rewriter.source().node(v.node).op, Op::Broadcast { .. }) {
                continue;
            }
            let known = match stored.get(v) {
                Some(&known) => Some(known),
                None => store(rewriter, *v, BROADCAST)?,
            };
            if let Some(known) = known {
                stored.insert(*v, known);
                *slot = known;
                changed = true;
            }
        }
        if !changed {
            return Ok(None);
        }
        let made = rewriter.add_node(node.op.clone(), &replaced)?;
        Ok(Some(results(made, node.types.len())))
    })?)
}

/// The source's value as a constant of its own, where it is a view of one.
fn store(rewriter: &mut Rewriter<'_, '_>, v: Value, rule: &'static str) -> Result<Option<Value>, kiln_ir::GraphError> {
    if !rewriter.context.may_fire(rule) {
        return Ok(None);
    }
    // The source is looked at, not the target: there a transpose of a transpose is still one view of the first.
    let view = View::of_value(rewriter.source(), v)
        .filter(|view| rule == TRANSPOSED || view.byte_count().is_some_and(|n| n <= STORED));
    let Some(tensor) = view.and_then(|view| view.store()) else { return Ok(None) };
    rewriter.within(v.node, |r| {
        r.fired(rule);
        r.add(Op::Constant { value: tensor.into() }, &[]).map(Some)
    })
}
