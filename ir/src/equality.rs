//! When two graphs are equal: what the text format keeps.

use std::collections::HashMap;

use crate::graph::{Graph, NodeId, Value};
use crate::ops::Op;

impl PartialEq for Graph {
    /// Equal names, metadata, variables, inputs, outputs, and the same nodes in the same order: ops, operands, types
    /// and names. Where among the other nodes the placeholders stand does not count, nor do locations, the names of
    /// placeholders' nodes (an input has its own) and of nodes without results.
    fn eq(&self, other: &Graph) -> bool {
        let signature = self.name() == other.name()
            && self.metadata() == other.metadata()
            && self.variables() == other.variables()
            && self.inputs().len() == other.inputs().len()
            && self.len() == other.len()
            && self.outputs().len() == other.outputs().len();
        if !signature {
            return false;
        }
        let (mine, theirs) = (canonical_order(self), canonical_order(other));
        let (my_place, their_place) = (places(&mine), places(&theirs));
        let same_value = |a: Value, b: Value| a.result == b.result && my_place.get(&a.node) == their_place.get(&b.node);
        let same_node = |(&a, &b): (&NodeId, &NodeId)| {
            let (a, b) = (self.node(a), other.node(b));
            let named = !a.types.is_empty() && !matches!(a.op, Op::Placeholder { .. });
            a.op == b.op
                && a.types == b.types
                && (!named || a.name == b.name)
                && a.operands.len() == b.operands.len()
                && a.operands.iter().zip(&b.operands).all(|(&a, &b)| same_value(a, b))
        };
        mine.iter().zip(&theirs).all(same_node)
            && self.outputs().iter().zip(other.outputs()).all(|((m, a), (n, b))| m == n && same_value(*a, *b))
    }
}

/// Placeholders first, then the rest, each in order.
fn canonical_order(graph: &Graph) -> Vec<NodeId> {
    let rest = graph.node_ids().filter(|&id| !matches!(graph.node(id).op, Op::Placeholder { .. }));
    graph.inputs().iter().copied().chain(rest).collect()
}

fn places(order: &[NodeId]) -> HashMap<NodeId, usize> {
    order.iter().enumerate().map(|(i, &id)| (id, i)).collect()
}
