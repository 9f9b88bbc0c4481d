//! Building a new graph from an old one, in order: the one way in which passes change graphs.
//!
//! A pass visits the live nodes of the source, operands first, and says for each what takes its place; what it
//! does not touch is copied. Every node made while a source node is visited gets that node's location, name and
//! origin. Dead nodes are dropped at the end; inputs are kept, because they are the graph's signature.

use std::sync::Arc;

use kiln_ir::{Graph, GraphError, Location, Node, NodeId, Op, TensorType, Value, Variable};
use smallvec::SmallVec;

use crate::driver::Context;
use crate::provenance::{Firing, Origin};

/// The results that stand for a node of the source.
pub type Values = SmallVec<[Value; 1]>;

/// A graph under construction, with the map from the source's values to its own.
pub struct Rewriter<'a, 'o> {
    source: &'a Graph,
    target: Graph,
    /// Fuel, switches and the rules that fired.
    pub context: &'a mut Context<'o>,
    map: Vec<Option<Values>>,
    source_origins: Vec<Origin>,
    origins: Vec<Origin>,
    current: Origin,
    name: Option<Arc<str>>,
    location: Option<Location>,
}

impl<'a, 'o> Rewriter<'a, 'o> {
    /// A rewriter of `source` that keeps the variables that `keep` says.
    pub fn new(
        source: &'a Graph,
        context: &'a mut Context<'o>,
        keep: impl Fn(&Variable) -> bool,
    ) -> Result<Rewriter<'a, 'o>, GraphError> {
        let mut target = Graph::new(source.name());
        for (key, value) in source.metadata() {
            target.set_metadata(key, value);
        }
        for variable in source.variables().iter().filter(|v| keep(v)) {
            target.add_variable(variable.clone())?;
        }
        let source_origins = std::mem::take(&mut context.origins);
        Ok(Rewriter {
            source,
            target,
            context,
            map: vec![None; source.len()],
            source_origins,
            origins: Vec::new(),
            current: Origin::default(),
            name: None,
            location: None,
        })
    }

    /// The graph that is rewritten.
    pub fn source(&self) -> &'a Graph {
        self.source
    }

    /// The graph so far.
    pub fn target(&self) -> &Graph {
        &self.target
    }

    /// The node of the target that makes `v`.
    pub fn producer(&self, v: Value) -> &Node {
        self.target.node(v.node)
    }

    /// The type of a value of the target.
    pub fn ty(&self, v: Value) -> &TensorType {
        self.target.ty(v)
    }

    /// What stands for a value of the source that was visited already.
    pub fn mapped(&self, v: Value) -> Option<Value> {
        self.map.get(v.node.0 as usize)?.as_ref()?.get(v.result as usize).copied()
    }

    /// Says what stands for the results of a source node.
    pub fn set(&mut self, id: NodeId, values: Values) {
        if let Some(slot) = self.map.get_mut(id.0 as usize) {
            *slot = Some(values);
        }
    }

    /// From here on, new nodes come from the source node `id`.
    pub fn enter(&mut self, id: NodeId) {
        let node = self.source.node(id);
        self.name.clone_from(&node.name);
        self.location.clone_from(&node.location);
        self.current = self.source_origins.get(id.0 as usize).cloned().unwrap_or_default();
    }

    /// Makes nodes on behalf of the source node `id`, whatever node is being visited.
    pub fn within<T>(&mut self, id: NodeId, make: impl FnOnce(&mut Self) -> T) -> T {
        let outer = (self.name.take(), self.location.take(), std::mem::take(&mut self.current));
        self.enter(id);
        let made = make(self);
        (self.name, self.location, self.current) = outer;
        made
    }

    /// New nodes stand for the source node `id` as well; its name wins where the current one has none.
    pub fn absorb(&mut self, id: NodeId) {
        if let Some(origin) = self.source_origins.get(id.0 as usize) {
            self.current.absorb(origin);
        }
        if self.name.is_none() {
            self.name.clone_from(&self.source.node(id).name);
        }
    }

    /// Gives the new nodes another name.
    pub fn rename(&mut self, name: Option<Arc<str>>) {
        self.name = name;
    }

    /// New nodes stand for what the target's node `id` stands for as well.
    pub fn absorb_target(&mut self, id: NodeId) {
        if let Some(origin) = self.origins.get(id.0 as usize) {
            self.current.absorb(origin);
        }
    }

    /// Records that a rule fired: new nodes name it.
    pub fn fired(&mut self, rule: &'static str) {
        self.context.fired(rule);
        self.current.add_rule(self.context.latest(rule));
    }

    /// New nodes name a rule that fired before.
    pub fn credit(&mut self, firing: Firing) {
        self.current.add_rule(firing);
    }

    /// Records that `rule`, which fired last, made the target's nodes from number `first` on, and that `result` stands for the current
    /// source node as well.
    pub fn mark(&mut self, first: usize, result: NodeId, rule: &'static str) {
        let firing = self.context.latest(rule);
        let made = first..self.origins.len();
        if let Some(origins) = self.origins.get_mut(made) {
            origins.iter_mut().for_each(|o| o.add_rule(firing));
        }
        if let Some(origin) = self.origins.get_mut(result.0 as usize) {
            origin.absorb(&self.current);
            origin.add_rule(firing);
        }
    }

    /// Adds a node.
    pub fn add_node(&mut self, op: Op, operands: &[Value]) -> Result<NodeId, GraphError> {
        let id = self.target.add(op, operands, self.name.clone(), self.location.clone())?;
        self.origins.push(self.current.clone());
        Ok(id)
    }

    /// Adds a node of one result.
    pub fn add(&mut self, op: Op, operands: &[Value]) -> Result<Value, GraphError> {
        Ok(Value { node: self.add_node(op, operands)?, result: 0 })
    }

    /// Copies the source node `id`.
    pub fn copy(&mut self, id: NodeId) -> Result<Values, GraphError> {
        let node = self.source.node(id);
        let operands = self.operands(id)?;
        let copied = self.add_node(node.op.clone(), &operands)?;
        Ok(results(copied, node.types.len()))
    }

    /// The mapped operands of a source node.
    pub fn operands(&self, id: NodeId) -> Result<Values, GraphError> {
        let node = self.source.node(id);
        node.operands
            .iter()
            .enumerate()
            .map(|(operand, &v)| {
                self.mapped(v).ok_or_else(|| GraphError::ForeignValue {
                    mnemonic: node.op.mnemonic(),
                    operand,
                    location: node.location.clone(),
                })
            })
            .collect()
    }

    /// Names the outputs and drops what nothing needs.
    pub fn finish(mut self) -> Result<Graph, GraphError> {
        for (name, value) in self.source.outputs() {
            let mapped = self.mapped(*value).ok_or(GraphError::ForeignValue {
                mnemonic: "output",
                operand: 0,
                location: None,
            })?;
            self.target.add_output(name, mapped)?;
        }
        let (graph, origins) = drop_dead(self.target, self.origins)?;
        self.context.origins = origins;
        Ok(graph)
    }
}

/// The values of a node with `count` results.
pub fn results(node: NodeId, count: usize) -> Values {
    (0..count as u32).map(|result| Value { node, result }).collect()
}

/// Rewrites a graph node by node: `visit` gives what stands for a live node, or `None` to copy it.
pub fn rewrite<'o>(
    source: &Graph,
    context: &mut Context<'o>,
    mut visit: impl FnMut(&mut Rewriter<'_, 'o>, NodeId, &[Value]) -> Result<Option<Values>, GraphError>,
) -> Result<Graph, GraphError> {
    let live = live_nodes(source);
    let mut rewriter = Rewriter::new(source, context, |_| true)?;
    for id in source.node_ids().filter(|id| live[id.0 as usize]) {
        rewriter.enter(id);
        let operands = rewriter.operands(id)?;
        let values = match visit(&mut rewriter, id, &operands)? {
            Some(values) => values,
            None => rewriter.copy(id)?,
        };
        rewriter.set(id, values);
    }
    rewriter.finish()
}

/// Which nodes outputs or effects need; inputs always count.
pub fn live_nodes(graph: &Graph) -> Vec<bool> {
    let mut live = vec![false; graph.len()];
    for &id in graph.inputs().iter().chain(graph.effects()) {
        live[id.0 as usize] = true;
    }
    for (_, v) in graph.outputs() {
        live[v.node.0 as usize] = true;
    }
    // Operands come before their users, so one sweep from the end reaches everything.
    for id in graph.node_ids().rev() {
        if live[id.0 as usize] {
            for v in &graph.node(id).operands {
                live[v.node.0 as usize] = true;
            }
        }
    }
    live
}

fn drop_dead(graph: Graph, origins: Vec<Origin>) -> Result<(Graph, Vec<Origin>), GraphError> {
    let live = live_nodes(&graph);
    if live.iter().all(|&l| l) {
        return Ok((graph, origins));
    }
    let mut kept = Graph::new(graph.name());
    for (key, value) in graph.metadata() {
        kept.set_metadata(key, value);
    }
    for variable in graph.variables() {
        kept.add_variable(variable.clone())?;
    }
    let mut map = vec![NodeId(u32::MAX); graph.len()];
    let mut kept_origins = Vec::with_capacity(graph.len());
    let moved = |map: &[NodeId], v: Value| Value { node: map[v.node.0 as usize], result: v.result };
    for (id, origin) in graph.node_ids().zip(origins).filter(|(id, _)| live[id.0 as usize]) {
        let node = graph.node(id);
        let operands: Values = node.operands.iter().map(|&v| moved(&map, v)).collect();
        map[id.0 as usize] = kept.add(node.op.clone(), &operands, node.name.clone(), node.location.clone())?;
        kept_origins.push(origin);
    }
    for (name, v) in graph.outputs() {
        kept.add_output(name, moved(&map, *v))?;
    }
    Ok((kept, kept_origins))
}
