//! Variables that nothing assigns are constants: their initialiser's value.

use std::collections::{BTreeMap, BTreeSet};

use kiln_ir::{Graph, Op, Tensor};

use crate::driver::{Context, PassFailure};
use crate::rewrite::{Rewriter, Values, live_nodes};

/// The rule's name.
pub const RULE: &str = "constant_from_variable";
/// What it does.
pub const STATEMENT: (&str, &str) = (RULE, "a variable that nothing assigns is its initialiser's value");

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
    let read: BTreeSet<&str> = graph
        .node_ids()
        .filter(|id| live[id.0 as usize])
        .filter_map(|id| match &graph.node(id).op {
            Op::ReadVar { variable, .. } => Some(variable.as_str()),
            _ => None,
        })
        .collect();
    let may = context.may_fire(RULE);
    // One for which there is no memory stays a variable: whoever stores it says so.
    let constants: BTreeMap<&str, Tensor> = graph
        .variables()
        .iter()
        .filter(|v| may && read.contains(v.name.as_str()) && !assigned.contains(v.name.as_str()))
        .filter_map(|v| Some((v.name.as_str(), v.init.materialize(v.ty.dtype, &v.ty.static_dims()?).ok()?)))
        .collect();
    let stays = |name: &str| assigned.contains(name) || (read.contains(name) && !constants.contains_key(name));
    let mut rewriter = Rewriter::new(graph, context, |v| !may || stays(&v.name))?;
    for id in graph.node_ids().filter(|id| live[id.0 as usize]) {
        rewriter.enter(id);
        let value = match &graph.node(id).op {
            Op::ReadVar { variable, .. } => constants.get(variable.as_str()),
            _ => None,
        };
        let values = match value {
            Some(tensor) => {
                rewriter.fired(RULE);
                Values::from_slice(&[rewriter.add(Op::Constant { value: tensor.clone().into() }, &[])?])
            }
            None => rewriter.copy(id)?,
        };
        rewriter.set(id, values);
    }
    Ok(rewriter.finish()?)
}
