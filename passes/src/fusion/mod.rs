//! Fusion: elementwise work joins what makes or uses its operands, so that intermediates never reach memory.
//!
//! One sweep, operands first. An elementwise op whose result has a single user waits as a `Group`: its expression
//! and operands. If that user is elementwise, it takes the group in; a group may begin with a convolution or a
//! matrix product, whose epilogue it then is; a reduction takes a group as its prologue. What nobody takes is made.
//! Broadcasts and constant numbers are never operands of their own: a broadcast operand is passed with extents of 1,
//! and a number is part of the expression.
//!
//! Work is never done twice: a value with several users is made once and read. A group is made where its last user
//! stands, so all its operands exist by then and the graph stays acyclic. Of two contractions that meet (a
//! residual), the later one takes the other's result as an operand.

mod attention;
mod group;
mod operand;

use kiln_ir::scalar::{BinaryFn, ScalarNode};
use kiln_ir::{Graph, GraphError, NodeId, Op, Value, elementwise_op};

use crate::canonicalise::is_constant;
use crate::driver::{Context, PassFailure};
use crate::rewrite::{Rewriter, Values, live_nodes};
use group::{Argument, Group};
use operand::Operands;

/// The names of the rules.
pub const RULES: &[(&str, &str)] = &[
    (BIAS, "an addition of a constant is done in the contraction that makes the other operand"),
    (SCALE, "a multiplication is done in the contraction that makes one operand"),
    (ACTIVATION, "a function of a contraction's result is done in the contraction"),
    (RESIDUAL, "an addition of another value is done in the contraction that makes one operand"),
    (EPILOGUE, "other elementwise work on a contraction's result is done in the contraction"),
    (ELEMENTWISE, "an elementwise op takes in the elementwise ops that make its operands"),
    (NUMBER, "a constant number is part of the expression that uses it"),
    (BROADCAST, "a broadcast operand is read with extents of 1"),
    (PROLOGUE, "a reduction computes what it reduces"),
    (ATTENTION, "two products with a softmax between them are one op, which keeps no scores"),
];

const BIAS: &str = "fuse_bias";
const SCALE: &str = "fuse_scale";
const ACTIVATION: &str = "fuse_activation";
const RESIDUAL: &str = "fuse_residual";
const EPILOGUE: &str = "fuse_epilogue";
const ELEMENTWISE: &str = "fuse_elementwise";
const NUMBER: &str = "inline_number";
const BROADCAST: &str = "inline_broadcast";
const PROLOGUE: &str = "fuse_reduce";
const ATTENTION: &str = "fuse_attention";

/// Operands of a fused op beside a contraction's own two: more would crowd the registers of a kernel.
const MAX_OPERANDS: usize = 8;
/// Steps of a fused expression: long enough for several activations in a row.
const MAX_STEPS: usize = 64;
/// A sweep may join what an earlier one has made (two users that became one): after a few nothing changes.
const MAX_SWEEPS: usize = 4;

/// The pass.
pub fn run(graph: &Graph, context: &mut Context<'_>) -> Result<Graph, PassFailure> {
    let mut current = sweep(graph, context)?;
    for _ in 1..MAX_SWEEPS {
        let next = sweep(&current, context)?;
        let settled = next.len() == current.len();
        current = next;
        if settled {
            break;
        }
    }
    attention::run(&current, context)
}

/// What stands for a node of the source.
enum State {
    /// Not visited, or made: the rewriter has the values.
    Made,
    /// Waits for its only user.
    Waiting(Box<Group>),
    /// A broadcast that nothing has needed as such yet.
    Broadcast,
}

struct Fusion<'r, 'a, 'o> {
    rewriter: &'r mut Rewriter<'a, 'o>,
    states: Vec<State>,
    operands: Operands,
    /// The only node that uses each source node's results, where there is just one and it is no output.
    only_user: Vec<Option<NodeId>>,
}

fn sweep(graph: &Graph, context: &mut Context<'_>) -> Result<Graph, GraphError> {
    let live = live_nodes(graph);
    let only_user = only_users(graph, &live);
    let mut rewriter = Rewriter::new(graph, context, |_| true)?;
    let states = graph.node_ids().map(|_| State::Made).collect();
    let mut fusion = Fusion { rewriter: &mut rewriter, states, operands: Operands::default(), only_user };
    for id in graph.node_ids().filter(|id| live[id.0 as usize]) {
        fusion.rewriter.enter(id);
        fusion.visit(graph, id)?;
    }
    for (_, v) in graph.outputs() {
        fusion.made(*v)?;
    }
    rewriter.finish()
}

fn only_users(graph: &Graph, live: &[bool]) -> Vec<Option<NodeId>> {
    #[derive(Clone, Copy)]
    enum Users {
        None,
        One(NodeId),
        Many,
    }
    let mut users = vec![Users::None; graph.len()];
    for id in graph.node_ids().filter(|id| live[id.0 as usize]) {
        for v in &graph.node(id).operands {
            let slot = &mut users[v.node.0 as usize];
            *slot = match *slot {
                Users::None => Users::One(id),
                Users::One(other) if other == id => Users::One(id),
                _ => Users::Many,
            };
        }
    }
    for (_, v) in graph.outputs() {
        users[v.node.0 as usize] = Users::Many;
    }
    users.into_iter().map(|u| if let Users::One(id) = u { Some(id) } else { None }).collect()
}

/// Whether the op is an expression of its operands' elements.
fn is_elementwise(op: &Op) -> bool {
    matches!(op, elementwise_op!() | Op::FusedElementwise { .. })
}

impl Fusion<'_, '_, '_> {
    fn visit(&mut self, graph: &Graph, id: NodeId) -> Result<(), GraphError> {
        let node = graph.node(id);
        if is_elementwise(&node.op) {
            return self.elementwise(id);
        }
        match &node.op {
            Op::Broadcast { .. } if self.may(BROADCAST) => {
                self.states[id.0 as usize] = State::Broadcast;
                Ok(())
            }
            op if op.contraction().is_some() && self.waits_for_elementwise(id) => {
                let group = Group::of_contraction(id, node, &self.made_operands(id)?);
                match group {
                    Some(group) => self.states[id.0 as usize] = State::Waiting(Box::new(group)),
                    None => self.copy(id)?,
                }
                Ok(())
            }
            Op::Reduce { .. } => self.reduce(id),
            _ => self.copy(id),
        }
    }

    fn may(&self, rule: &str) -> bool {
        self.rewriter.context.may_fire(rule)
    }

    fn waits_for_elementwise(&self, id: NodeId) -> bool {
        let user = self.only_user[id.0 as usize].map(|u| &self.rewriter.source().node(u).op);
        user.is_some_and(is_elementwise)
    }

    /// The values of a node's operands, made if they were waiting.
    fn made_operands(&mut self, id: NodeId) -> Result<Values, GraphError> {
        let operands = self.rewriter.source().node(id).operands.clone();
        operands.iter().map(|&v| self.made(v)).collect()
    }

    fn copy(&mut self, id: NodeId) -> Result<(), GraphError> {
        self.made_operands(id)?;
        let values = self.rewriter.copy(id)?;
        self.rewriter.set(id, values);
        Ok(())
    }

    /// The value that stands for the source's `v`, made now if it was waiting.
    fn made(&mut self, v: Value) -> Result<Value, GraphError> {
        match std::mem::replace(&mut self.states[v.node.0 as usize], State::Made) {
            State::Made => {}
            State::Waiting(group) => {
                let value = group.make(self.rewriter)?;
                self.rewriter.set(v.node, Values::from_slice(&[value]));
            }
            State::Broadcast => {
                let x = self.rewriter.source().node(v.node).operands[0];
                self.made(x)?;
                let values = self.rewriter.within(v.node, |r| r.copy(v.node))?;
                self.rewriter.set(v.node, values);
            }
        }
        self.rewriter.mapped(v).ok_or(GraphError::ForeignValue { mnemonic: "fusion", operand: 0, location: None })
    }

    fn elementwise(&mut self, id: NodeId) -> Result<(), GraphError> {
        let graph = self.rewriter.source();
        let node = graph.node(id);
        let base = self.base(id);
        if let Some(at) = base {
            // What else waits is either taken in as an expression or made here, before the contraction.
            for &v in node.operands.iter().filter(|v| v.node != at) {
                if matches!(&self.states[v.node.0 as usize], State::Waiting(g) if g.base.is_some()) {
                    self.made(v)?;
                }
            }
        }
        let mut group = self.join(id, base)?;
        if group.is_none() {
            // Too long, or not typed as one expression: begin anew.
            for &v in &node.operands {
                if !matches!(self.states[v.node.0 as usize], State::Broadcast) {
                    self.made(v)?;
                }
            }
            group = self.join(id, None)?;
        }
        let Some(group) = group else { return self.copy(id) };
        let reduces = |u: NodeId| matches!(graph.node(u).op, Op::Reduce { .. });
        let taken = self.only_user[id.0 as usize].is_some_and(|u| is_elementwise(&graph.node(u).op) || reduces(u));
        self.states[id.0 as usize] = State::Waiting(Box::new(group));
        if !taken {
            self.made(Value { node: id, result: 0 })?;
        }
        Ok(())
    }

    /// The node whose group with a contraction `id` takes in, if any: of several the one that begins last.
    fn base(&self, id: NodeId) -> Option<NodeId> {
        let node = self.rewriter.source().node(id);
        let waiting = node.operands.iter().filter_map(|v| match &self.states[v.node.0 as usize] {
            State::Waiting(group) => group.base.as_ref().map(|base| (base.node, v.node)),
            _ => None,
        });
        let at = waiting.max()?.1;
        let same_dims = self.rewriter.source().node(at).types[0].dims == node.types[0].dims;
        (same_dims && self.epilogue_rules(id, at).iter().all(|rule| self.may(rule))).then_some(at)
    }

    /// The rules by which `id` is absorbed into the contraction below its operand `at`; the first names it.
    fn epilogue_rules(&self, id: NodeId, at: NodeId) -> Vec<&'static str> {
        let graph = self.rewriter.source();
        let node = graph.node(id);
        let others: Vec<Value> = node.operands.iter().copied().filter(|v| v.node != at).collect();
        let constant = others.iter().all(|&v| is_constant(graph, v));
        let sum = if constant { BIAS } else { RESIDUAL };
        match &node.op {
            // An earlier sweep may have made one op of several: all of their rules must be on.
            Op::FusedElementwise { expr } if !others.is_empty() => {
                let step = |n: &ScalarNode| match n {
                    ScalarNode::Arg(_) | ScalarNode::Const(_) => None,
                    ScalarNode::Binary(BinaryFn::Add | BinaryFn::Sub, ..) => Some(sum),
                    ScalarNode::Binary(BinaryFn::Mul | BinaryFn::Div, ..) => Some(SCALE),
                    ScalarNode::Unary(..) => Some(ACTIVATION),
                    _ => Some(EPILOGUE),
                };
                let rules: Vec<&'static str> = expr.nodes().iter().filter_map(step).collect();
                if rules.len() == 1 { rules } else { [EPILOGUE].into_iter().chain(rules).collect() }
            }
            Op::Add {} | Op::Sub {} if !others.is_empty() => vec![sum],
            Op::Mul {} | Op::Div {} if !others.is_empty() => vec![SCALE],
            _ if constant => vec![ACTIVATION],
            _ => vec![EPILOGUE],
        }
    }

    /// The group of `id` with what waits in its operands.
    fn join(&mut self, id: NodeId, base: Option<NodeId>) -> Result<Option<Group>, GraphError> {
        let graph = self.rewriter.source();
        let node = graph.node(id);
        let dims = &node.types[0].dims;
        let mut arguments: Vec<Argument> = Vec::with_capacity(node.operands.len());
        for (i, &v) in node.operands.iter().enumerate() {
            let number = if self.may(NUMBER) { operand::number(graph, id, i) } else { None };
            let same_dims = graph.ty(v).dims == *dims;
            let argument = match &self.states[v.node.0 as usize] {
                _ if number.is_some() => Argument::Number(number.unwrap_or_default()),
                State::Waiting(g) if Some(v.node) == base => Argument::Base((**g).clone()),
                State::Waiting(g) if g.base.is_none() && same_dims && self.may(ELEMENTWISE) => {
                    Argument::Group((**g).clone())
                }
                State::Broadcast => {
                    let x = self.made(graph.node(v.node).operands[0])?;
                    let narrow = self.operands.narrowed(self.rewriter, v.node, x)?;
                    Argument::Broadcast(narrow)
                }
                _ => Argument::Value(self.made(v)?),
            };
            arguments.push(argument);
        }
        let rule = base.and_then(|at| self.epilogue_rules(id, at).first().copied());
        let group = Group::join(self.rewriter, id, arguments, rule);
        Ok(group.filter(|g| g.operands.len() <= MAX_OPERANDS && g.expr.nodes().len() <= MAX_STEPS))
    }

    fn reduce(&mut self, id: NodeId) -> Result<(), GraphError> {
        let graph = self.rewriter.source();
        let node = graph.node(id);
        let x = node.operands[0];
        let Op::Reduce { axes, reducer } = &node.op else { return self.copy(id) };
        let group = match &self.states[x.node.0 as usize] {
            State::Waiting(group) if group.base.is_none() && self.may(PROLOGUE) => group.clone(),
            _ => return self.copy(id),
        };
        let op = Op::FusedReduce { axes: axes.clone(), reducer: *reducer, prologue: group.expr.clone() };
        self.states[x.node.0 as usize] = State::Made;
        group.record(self.rewriter);
        self.rewriter.fired(PROLOGUE);
        let value = self.rewriter.add(op, &group.operands)?;
        self.rewriter.set(id, Values::from_slice(&[value]));
        Ok(())
    }
}
