//! Variables that nothing assigns are constants: their initialiser's value.

use std::collections::BTreeSet;

use kiln_ir::{Graph, Op};

use crate::driver::{Context, PassFailure};
use crate::rewrite::{Rewriter, Values, live_nodes};

/// The rule's name.
pub const RULE: &str = "constant_from_variable";

/// The pass. A variable that nothing reads or assigns any more is no longer declared.
pub fn run(graph: &Graph, context: &mut Context<'_>) -> Result<Graph, PassFailure> {
    let assigned: BTreeSet<&str> = graph
        .effects()
        .iter()
        .filter_map(|&id| match &graph.node(id).op {
            Op::Assign { variable } => Some(variable.as_str()),
            _ => None,
        })
        .collect();
    let live = live_nodes(graph);
    let becomes_constant = |variable: &str| !assigned.contains(variable);
    let may = context.may_fire(RULE);
    let mut rewriter = Rewriter::new(graph, context, |v| !may || !becomes_constant(&v.name))?;
    for id in graph.node_ids().filter(|id| live[id.0 as usize]) {
        rewriter.enter(id);
        let node = graph.node(id);
        let value = match &node.op {
            Op::ReadVar { variable, .. } if may && becomes_constant(variable) => {
                let dims = node.types[0].static_dims();
                graph.variable(variable).zip(dims).and_then(|(v, d)| v.init.materialize(v.ty.dtype, &d).ok())
            }
            _ => None,
        };
        let values = match value {
            Some(tensor) => {
                rewriter.fired(RULE);
                Values::from_slice(&[rewriter.add(Op::Constant { value: tensor.into() }, &[])?])
            }
            None => rewriter.copy(id)?,
        };
        rewriter.set(id, values);
    }
    Ok(rewriter.finish()?)
}
