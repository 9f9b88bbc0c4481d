//! A graph without some of its parts.

use std::collections::{BTreeMap, BTreeSet};

use kiln_ir::text::Names;
use kiln_ir::{DType, Graph, NodeId, Op, Tensor, TensorType, Value};

use super::is_source;

/// What becomes of values that are needed and that no node makes any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boundary {
    /// Inputs.
    Inputs,
    /// Constants, every element 1.
    Constants,
}

/// Which parts of a graph stay.
pub(super) struct Rebuild<'g> {
    graph: &'g Graph,
    /// Nodes that are cut off: their values are what the boundary says.
    cut: BTreeSet<NodeId>,
    boundary: Boundary,
    /// Values that others stand for.
    bypassed: BTreeMap<NodeId, Value>,
    outputs: Vec<(String, Value)>,
    effects: BTreeSet<NodeId>,
}

/// Each node that another value can stand for, with that value: an operand of the same type, or for an input the first other one of the same type.
pub(super) fn bypasses(graph: &Graph) -> Vec<(NodeId, Value)> {
    let mut inputs: Vec<NodeId> = Vec::new();
    let mut found = Vec::new();
    for id in graph.node_ids() {
        let node = graph.node(id);
        let [ty] = &node.types[..] else { continue };
        let same = |v: &Value| graph.ty(*v) == ty;
        let other = match node.op {
            Op::Placeholder { .. } => {
                let first = inputs.iter().map(|&input| graph.value(input)).find(same);
                inputs.push(id);
                first
            }
            _ if node.op.has_effect() => None,
            _ => node.operands.iter().copied().find(same),
        };
        found.extend(other.map(|v| (id, v)));
    }
    found
}

impl<'g> Rebuild<'g> {
    /// All of `graph`.
    pub(super) fn of(graph: &'g Graph) -> Rebuild<'g> {
        Rebuild {
            graph,
            cut: BTreeSet::new(),
            boundary: Boundary::Inputs,
            bypassed: BTreeMap::new(),
            outputs: graph.outputs().to_vec(),
            effects: graph.effects().iter().copied().collect(),
        }
    }

    /// With the outputs, then effects, for which `keep` has `true`.
    pub(super) fn with_outputs(mut self, keep: &[bool]) -> Rebuild<'g> {
        let (outputs, effects) = keep.split_at(self.outputs.len().min(keep.len()));
        self.outputs = kept(self.outputs, outputs).collect();
        self.effects = kept(self.graph.effects().iter().copied(), effects).collect();
        self
    }

    /// With the computing nodes for which `keep` has `true`. Their values that only other nodes used become outputs.
    pub(super) fn with_nodes(mut self, keep: &[bool], boundary: Boundary) -> Rebuild<'g> {
        let graph = self.graph;
        let computing = graph.node_ids().filter(|&id| !is_source(&graph.node(id).op));
        let cut = computing.zip(keep).filter(|(_, keep)| !**keep).map(|(id, _)| id);
        self.cut = cut.collect();
        self.boundary = boundary;
        let mut outputs: Vec<(String, Value)> = Vec::new();
        let mut taken = BTreeSet::new();
        let named = self.outputs.iter().filter(|(_, v)| !self.cut.contains(&v.node));
        outputs.extend(named.cloned());
        taken.extend(outputs.iter().map(|(_, v)| v.node));
        let names = Names::new(graph);
        for id in graph.node_ids().filter(|id| !self.cut.contains(id) && !taken.contains(id)) {
            let node = graph.node(id);
            let users = graph.users(id);
            let lost = !users.is_empty() && users.iter().all(|(user, _)| self.cut.contains(user));
            if !lost || is_source(&node.op) {
                continue;
            }
            for result in 0..node.types.len() as u32 {
                let value = Value { node: id, result };
                let name = unique(&plain(&names.value(value)), |name| outputs.iter().any(|(n, _)| n == name));
                outputs.push((name, value));
            }
        }
        self.outputs = outputs;
        self.effects.retain(|id| !self.cut.contains(id));
        self
    }

    /// With other values in the place of some nodes.
    pub(super) fn with_bypasses(mut self, bypasses: impl Iterator<Item = (NodeId, Value)>) -> Rebuild<'g> {
        self.bypassed = bypasses.collect();
        self
    }

    /// The value that stands for `v`.
    fn stands_for(&self, mut v: Value) -> Value {
        while let Some(&other) = self.bypassed.get(&v.node) {
            v = other;
        }
        v
    }

    /// The graph of what stays and is needed. `None` where it would have no output and no effect, or does not fit together.
    pub(super) fn build(self) -> Option<Graph> {
        let graph = self.graph;
        let mut needed = BTreeSet::new();
        let mut stack: Vec<NodeId> = self.outputs.iter().map(|(_, v)| self.stands_for(*v).node).collect();
        stack.extend(&self.effects);
        if stack.is_empty() {
            return None;
        }
        while let Some(id) = stack.pop() {
            if needed.insert(id) && !self.cut.contains(&id) {
                stack.extend(graph.node(id).operands.iter().map(|&v| self.stands_for(v).node));
            }
        }
        let mut out = empty_like(graph, |variable| {
            needed.iter().any(|&id| !self.cut.contains(&id) && variable_of(&graph.node(id).op) == Some(variable))
        })?;
        let names = Names::new(graph);
        let mut input_names: BTreeSet<String> = graph.input_types().map(|(name, _)| name.to_owned()).collect();
        let mut made: BTreeMap<Value, Value> = BTreeMap::new();
        for &id in &needed {
            let node = graph.node(id);
            let values = (0..node.types.len() as u32).map(|result| Value { node: id, result });
            if self.cut.contains(&id) {
                for v in values {
                    let name = unique(&plain(&names.value(v)), |name| input_names.contains(name));
                    let op = boundary(graph.ty(v), self.boundary, &name)?;
                    input_names.insert(name);
                    let new = out.add(op, &[], node.name.clone(), node.location.clone()).ok()?;
                    made.insert(v, out.value(new));
                }
            } else {
                let operands: Option<Vec<Value>> =
                    node.operands.iter().map(|&v| made.get(&self.stands_for(v)).copied()).collect();
                let new = out.add(node.op.clone(), &operands?, node.name.clone(), node.location.clone()).ok()?;
                made.extend(values.map(|v| (v, Value { node: new, result: v.result })));
            }
        }
        for (name, v) in &self.outputs {
            out.add_output(name, *made.get(&self.stands_for(*v))?).ok()?;
        }
        Some(out)
    }
}

fn kept<T>(all: impl IntoIterator<Item = T>, keep: &[bool]) -> impl Iterator<Item = T> {
    all.into_iter().zip(keep).filter(|(_, keep)| **keep).map(|(item, _)| item)
}

/// A graph without nodes, with the metadata of `graph` and those variables that `keep` says.
pub(super) fn empty_like(graph: &Graph, keep: impl Fn(&str) -> bool) -> Option<Graph> {
    let mut out = Graph::new(graph.name());
    for (key, value) in graph.metadata() {
        out.set_metadata(key, value);
    }
    for variable in graph.variables().iter().filter(|v| keep(&v.name)) {
        out.add_variable(variable.clone()).ok()?;
    }
    Some(out)
}

/// What stands for a value that no node makes any more.
fn boundary(ty: &TensorType, boundary: Boundary, name: &str) -> Option<Op> {
    Some(match boundary {
        Boundary::Inputs => Op::Placeholder { name: name.to_owned(), dtype: ty.dtype, dims: ty.dims.clone() },
        Boundary::Constants => Op::Constant { value: uniform(ty.dtype, &ty.static_dims()?, 1.0)?.into() },
    })
}

/// A tensor whose every element is `value`.
pub(super) fn uniform(dtype: DType, dims: &[usize], value: f64) -> Option<Tensor> {
    let count = kiln_ir::tensor::element_count(dims)?;
    Tensor::from_f64_iter(dtype, dims, std::iter::repeat_n(value, count)).ok()
}

/// A value's name without what the text format adds.
fn plain(name: &str) -> String {
    name.trim_start_matches('%').replace('"', "")
}

/// `name`, with a number after it where it is taken.
fn unique(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let numbered = (1..).map(|n| format!("{name}_{n}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
}

/// The variable that an op reads or assigns.
pub(super) fn variable_of(op: &Op) -> Option<&str> {
    match op {
        Op::ReadVar { variable, .. } | Op::Assign { variable } => Some(variable),
        _ => None,
    }
}
