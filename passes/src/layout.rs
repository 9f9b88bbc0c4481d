//! Layout: where the axes of each value lie in memory, chosen over the whole graph in one sweep.
//!
//! The graph's meaning speaks of axes by number; a value may be *stored* with its axes in another order. The sweep
//! keeps for each value the orders in which it has been made. Convolutions are made channels-last (their kernels
//! read and write whole vectors of channels); every op that can work in the order in which its operands already
//! are does so, with its attributes renumbered; a transpose in the graph merely gives the same stored tensor other
//! numbers. Only an op that needs the numbered order itself (a reshape that mixes axes, an output) costs a
//! transpose, made once. Constants and broadcasts are made in whatever order they are asked for.

mod ops;

use kiln_ir::attribute::ConvLayout;
use kiln_ir::{Graph, GraphError, NodeId, Op, Value, elementwise_op};

use crate::axes::{Order, broadcast_in_order, identity, inverse, is_identity, moves_only_ones, pick};
use crate::driver::{Context, PassFailure};
use crate::rewrite::{Rewriter, Values, live_nodes};

/// The rule that makes convolutions channels-last.
pub const CHANNELS_LAST: &str = "convolve_channels_last";
/// The rule that makes transposes cost nothing.
pub const RELABEL: &str = "relabel_transpose";
/// What they do.
pub const STATEMENTS: [(&str, &str); 2] = [
    (CHANNELS_LAST, "a convolution by constant weights reads and writes its channels last"),
    (RELABEL, "a transpose gives the same stored tensor other numbers of axes"),
];

/// A tensor that stores a value: stored axis `j` is the value's axis `order[j]`.
#[derive(Clone)]
struct Stored {
    order: Order,
    value: Value,
}

/// How a value of the source comes about in the target.
#[derive(Clone, Default)]
struct Home {
    /// In each order so far made; the first is where the op put it.
    versions: Vec<Stored>,
    /// Made when first asked for, in the order asked for.
    on_demand: bool,
}

struct Layout<'r, 'a, 'o> {
    rewriter: &'r mut Rewriter<'a, 'o>,
    /// By source node, then result.
    homes: Vec<Vec<Home>>,
    /// Source nodes whose value is known at compile time.
    constant: Vec<bool>,
}

/// The pass.
pub fn run(graph: &Graph, context: &mut Context<'_>) -> Result<Graph, PassFailure> {
    let live = live_nodes(graph);
    let mut rewriter = Rewriter::new(graph, context, |_| true)?;
    let mut layout = Layout {
        rewriter: &mut rewriter,
        homes: graph.node_ids().map(|id| vec![Home::default(); graph.node(id).types.len()]).collect(),
        constant: vec![false; graph.len()],
    };
    for id in graph.node_ids().filter(|id| live[id.0 as usize]) {
        layout.rewriter.enter(id);
        layout.visit(graph, id)?;
    }
    for (_, v) in graph.outputs() {
        let values: Result<Values, GraphError> = (0..graph.node(v.node).types.len() as u32)
            .map(|result| layout.numbered(Value { node: v.node, result }))
            .collect();
        layout.rewriter.set(v.node, values?);
    }
    Ok(rewriter.finish()?)
}

impl Layout<'_, '_, '_> {
    fn visit(&mut self, graph: &Graph, id: NodeId) -> Result<(), GraphError> {
        let node = graph.node(id);
        let known_operands: Vec<bool> = node.operands.iter().map(|v| self.constant[v.node.0 as usize]).collect();
        let elementwise = matches!(node.op, elementwise_op!());
        let movable = elementwise || matches!(node.op, Op::Transpose { .. });
        let known = matches!(node.op, Op::Constant { .. })
            || (movable || matches!(node.op, Op::Broadcast { .. })) && known_operands.iter().all(|&k| k);
        self.constant[id.0 as usize] = known;
        let lone_transpose = matches!(node.op, Op::Transpose { .. }) && self.is_on_demand(node.operands[0]);
        if known || matches!(node.op, Op::Broadcast { .. }) || lone_transpose {
            self.homes[id.0 as usize][0].on_demand = true;
            return Ok(());
        }
        match &node.op {
            Op::Conv { layout: ConvLayout::ChannelsFirst, .. }
                if known_operands.get(1) == Some(&true) && self.rewriter.context.may_fire(CHANNELS_LAST) =>
            {
                self.convolution(id)
            }
            Op::Transpose { perm } if self.rewriter.context.may_fire(RELABEL) => {
                self.relabel(id, perm);
                Ok(())
            }
            Op::Reshape { dims } => self.reshape(id, dims),
            _ if elementwise => self.joint(id),
            Op::Concat { .. } => self.joint(id),
            _ => self.single(id),
        }
    }

    fn is_on_demand(&self, v: Value) -> bool {
        self.home(v).is_some_and(|h| h.on_demand)
    }

    fn home(&self, v: Value) -> Option<&Home> {
        self.homes.get(v.node.0 as usize)?.get(v.result as usize)
    }

    /// Records that the source's value `v` is stored.
    fn store(&mut self, v: Value, order: Order, value: Value) {
        self.homes[v.node.0 as usize][v.result as usize].versions.push(Stored { order, value });
    }

    fn rank(&self, v: Value) -> usize {
        self.rewriter.source().ty(v).rank()
    }

    /// The value in the order of its axes' numbers.
    fn numbered(&mut self, v: Value) -> Result<Value, GraphError> {
        let order = identity(self.rank(v));
        self.stored(v, &order)
    }

    /// The order in which a value already is; that of its numbers for what is made on demand.
    fn natural_order(&self, v: Value) -> Order {
        match self.home(v).and_then(|h| h.versions.first()) {
            Some(stored) if !self.is_on_demand(v) => stored.order.clone(),
            _ => identity(self.rank(v)),
        }
    }

    /// The value with its axes in `order`.
    fn stored(&mut self, v: Value, order: &[usize]) -> Result<Value, GraphError> {
        let home = self.home(v).cloned().unwrap_or_default();
        if let Some(found) = home.versions.iter().find(|s| s.order[..] == *order) {
            return Ok(found.value);
        }
        let value = if home.on_demand {
            self.make(v.node, order)?
        } else {
            let from = home.versions.first().ok_or(GraphError::ForeignValue {
                mnemonic: "layout",
                operand: 0,
                location: None,
            })?;
            let places = inverse(&from.order);
            let perm: Order = order.iter().map(|&a| places[a]).collect();
            self.rewriter.within(v.node, |r| transpose(r, from.value, &perm))?
        };
        self.store(v, order.to_vec(), value);
        Ok(value)
    }

    /// Makes a constant or a broadcast in `order`.
    fn make(&mut self, id: NodeId, order: &[usize]) -> Result<Value, GraphError> {
        let graph = self.rewriter.source();
        let node = graph.node(id);
        let operands = node.operands.clone();
        match &node.op {
            Op::Broadcast { dims, axes } => {
                let (inner, broadcast) = broadcast_in_order(dims, axes, order);
                let x = self.stored(operands[0], &inner)?;
                self.rewriter.within(id, |r| r.add(broadcast, &[x]))
            }
            Op::Transpose { perm } => {
                let order: Order = order.iter().map(|&a| perm[a]).collect();
                self.stored(operands[0], &order)
            }
            Op::Constant { .. } if is_identity(order) => self.rewriter.within(id, |r| r.add(node.op.clone(), &[])),
            Op::Constant { .. } => {
                let x = self.numbered(Value { node: id, result: 0 })?;
                self.rewriter.within(id, |r| transpose(r, x, order))
            }
            _ => {
                let x: Result<Values, GraphError> = operands.iter().map(|&v| self.stored(v, order)).collect();
                let x = x?;
                self.rewriter.within(id, |r| r.add(node.op.clone(), &x))
            }
        }
    }

    fn relabel(&mut self, id: NodeId, perm: &[usize]) {
        let places = inverse(perm);
        let x = self.rewriter.source().node(id).operands[0];
        let versions = self.home(x).map(|h| h.versions.clone()).unwrap_or_default();
        for Stored { order, value } in versions {
            self.store(Value { node: id, result: 0 }, order.iter().map(|&a| places[a]).collect(), value);
        }
        self.rewriter.fired(RELABEL);
    }
}

/// A transpose; a reshape where only extents of 1 move.
fn transpose(rewriter: &mut Rewriter<'_, '_>, x: Value, perm: &[usize]) -> Result<Value, GraphError> {
    let dims = &rewriter.ty(x).dims;
    let op = if moves_only_ones(dims, perm) {
        Op::Reshape { dims: pick(dims, perm) }
    } else {
        Op::Transpose { perm: perm.to_vec() }
    };
    rewriter.add(op, &[x])
}
