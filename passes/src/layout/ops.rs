//! How each kind of op works on operands stored in another order.

use kiln_ir::attribute::ConvLayout;
use kiln_ir::infer::dot_dims;
use kiln_ir::{Dim, GraphError, NodeId, Op, Value};

use super::{CHANNELS_LAST, Layout, Stored};
use crate::axes::{Order, channels_last, identity, inverse, is_identity, pick, through_reshape, unmixed, weights_last};
use crate::rewrite::Values;

/// How the op's operands and results are stored once its attributes are renumbered.
struct Plan {
    op: Op,
    operands: Vec<Order>,
    results: Vec<Order>,
}

impl Layout<'_, '_, '_> {
    /// A channels-first convolution, made channels-last.
    pub(super) fn convolution(&mut self, id: NodeId) -> Result<(), GraphError> {
        let node = self.rewriter.source().node(id);
        let rank = node.types[0].rank();
        let Op::Conv { strides, padding, lhs_dilation, rhs_dilation, groups, .. } = node.op.clone() else {
            return self.single(id);
        };
        let layout = ConvLayout::ChannelsLast;
        let op = Op::Conv { strides, padding, lhs_dilation, rhs_dilation, groups, layout };
        self.rewriter.fired(CHANNELS_LAST);
        let last = channels_last(rank);
        self.apply(id, Plan { op, operands: vec![last.clone(), weights_last(rank)], results: vec![last] })
    }

    /// An op whose operands and result all have the same axes: made in the order that needs the fewest transposes.
    pub(super) fn joint(&mut self, id: NodeId) -> Result<(), GraphError> {
        let node = self.rewriter.source().node(id);
        let rank = node.types[0].rank();
        let running: Vec<Value> = node.operands.iter().copied().filter(|&v| !self.is_on_demand(v)).collect();
        let mut candidates: Vec<Order> = Vec::new();
        for &v in &running {
            for s in self.home(v).map(|h| h.versions.as_slice()).unwrap_or_default() {
                if !candidates.contains(&s.order) {
                    candidates.push(s.order.clone());
                }
            }
        }
        let missing = |order: &Order| {
            let has = |v: &&Value| self.home(**v).is_some_and(|h| h.versions.iter().any(|s| s.order == *order));
            running.iter().filter(|v| !has(v)).count()
        };
        // Of equally cheap orders one made for a convolution: what follows will want it too.
        let order = candidates.iter().min_by_key(|o| (missing(o), is_identity(o))).cloned();
        let order = order.unwrap_or_else(|| identity(rank));
        let op = match &node.op {
            Op::Concat { axis } => Op::Concat { axis: inverse(&order)[*axis] },
            op => op.clone(),
        };
        let operands = vec![order.clone(); node.operands.len()];
        self.apply(id, Plan { op, operands, results: vec![order] })
    }

    /// A reshape of whichever stored version it does not mix, or of the nearest order that it does not.
    pub(super) fn reshape(&mut self, id: NodeId, dims: &[Dim]) -> Result<(), GraphError> {
        let node = self.rewriter.source().node(id);
        let x = node.operands[0];
        let from = self.rewriter.source().ty(x).static_dims();
        let to: Option<Vec<usize>> = dims.iter().map(Dim::fixed).collect();
        if let (Some(from), Some(to), false) = (from, to, self.is_on_demand(x)) {
            let versions = self.home(x).map(|h| h.versions.clone()).unwrap_or_default();
            let nearest = versions.first().and_then(|v| unmixed(&from, &to, &v.order).map(|near| copied(v, near)));
            for stored in versions.into_iter().map(|v| v.order).chain(nearest) {
                let Some(order) = through_reshape(&from, &to, &stored) else { continue };
                let op = Op::Reshape { dims: pick(dims, &order) };
                return self.apply(id, Plan { op, operands: vec![stored], results: vec![order] });
            }
        }
        self.single(id)
    }

    /// An op that works in the order of its first operand, or in that of the axes' numbers.
    pub(super) fn single(&mut self, id: NodeId) -> Result<(), GraphError> {
        let node = self.rewriter.source().node(id);
        let plan = match node.operands.first() {
            Some(&x) => {
                let order = self.natural_order(x);
                let other = node.operands.get(1).map(|&y| self.natural_order(y));
                self.plan(&node.op, id, order, other)
            }
            None => None,
        };
        let plan = plan.unwrap_or_else(|| {
            let ranks = |values: &[Value]| values.iter().map(|&v| identity(self.rank(v))).collect();
            Plan {
                op: node.op.clone(),
                operands: ranks(&node.operands),
                results: node.types.iter().map(|t| identity(t.rank())).collect(),
            }
        });
        self.apply(id, plan)
    }

    fn apply(&mut self, id: NodeId, plan: Plan) -> Result<(), GraphError> {
        let node = self.rewriter.source().node(id);
        let operands: Result<Values, GraphError> =
            node.operands.iter().zip(&plan.operands).map(|(&v, order)| self.stored(v, order)).collect();
        let made = self.rewriter.add_node(plan.op, &operands?)?;
        for (result, order) in (0u32..).zip(plan.results) {
            self.store(Value { node: id, result }, order, Value { node: made, result });
        }
        Ok(())
    }

    /// The op over a first operand stored in `order`; `None` where it must have the numbered order.
    fn plan(&self, op: &Op, id: NodeId, order: Order, other: Option<Order>) -> Option<Plan> {
        let places = inverse(&order);
        let like = |op: Op| Some(Plan { op, operands: vec![order.clone()], results: vec![order.clone()] });
        match op {
            Op::Slice { start, limit, stride } => {
                like(Op::Slice { start: pick(start, &order), limit: pick(limit, &order), stride: pick(stride, &order) })
            }
            Op::Pad { padding, interior, value } => {
                like(Op::Pad { padding: pick(padding, &order), interior: pick(interior, &order), value: *value })
            }
            Op::Reverse { axes } => like(Op::Reverse { axes: axes.iter().map(|&a| places[a]).collect() }),
            Op::Softmax { axis } => like(Op::Softmax { axis: places[*axis] }),
            Op::LogSoftmax { axis } => like(Op::LogSoftmax { axis: places[*axis] }),
            Op::Lrn { size, alpha, beta, bias, axis } => {
                like(Op::Lrn { size: *size, alpha: *alpha, beta: *beta, bias: *bias, axis: places[*axis] })
            }
            Op::ReduceWindow { window, strides, padding, dilation, reducer } => like(Op::ReduceWindow {
                window: pick(window, &order),
                strides: pick(strides, &order),
                padding: pick(padding, &order),
                dilation: pick(dilation, &order),
                reducer: *reducer,
            }),
            Op::SelectAndScatter { window, strides, padding, extreme } => {
                // Of equal elements, the first in the window counts: windowed axes must stay in their order.
                let windowed: Vec<usize> = order.iter().copied().filter(|&a| window[a] > 1).collect();
                windowed.is_sorted().then(|| Plan {
                    op: Op::SelectAndScatter {
                        window: pick(window, &order),
                        strides: pick(strides, &order),
                        padding: pick(padding, &order),
                        extreme: *extreme,
                    },
                    operands: vec![order.clone(), order.clone()],
                    results: vec![order.clone()],
                })
            }
            Op::BatchNorm { axis, epsilon } => Some(Plan {
                op: Op::BatchNorm { axis: places[*axis], epsilon: *epsilon },
                operands: vec![order.clone(), vec![0], vec![0], vec![0], vec![0]],
                results: vec![order.clone()],
            }),
            Op::LayerNorm { axis, .. } => {
                // The normalised axes must be the last ones, as numbered, for scale and bias to fit.
                (*axis..order.len()).all(|a| order[a] == a).then(|| Plan {
                    op: op.clone(),
                    operands: vec![order.clone(), identity(order.len() - axis), identity(order.len() - axis)],
                    results: vec![order.clone()],
                })
            }
            Op::Reduce { axes, reducer } => {
                let mut kept: Vec<usize> = axes.iter().map(|&a| places[a]).collect();
                kept.sort_unstable();
                let op = Op::Reduce { axes: kept, reducer: *reducer };
                Some(Plan { op, results: vec![without(&order, axes)], operands: vec![order] })
            }
            Op::ArgReduce { axis, extreme } => {
                let op = Op::ArgReduce { axis: places[*axis], extreme: *extreme };
                Some(Plan { op, results: vec![without(&order, &[*axis])], operands: vec![order] })
            }
            Op::TopK { k, axis, extreme } => {
                let op = Op::TopK { k: *k, axis: places[*axis], extreme: *extreme };
                Some(Plan { op, operands: vec![order.clone()], results: vec![order.clone(), order] })
            }
            Op::Gather { axis } => {
                let indices = self.rank(self.rewriter.source().node(id).operands[1]);
                // Axes after the indexed one move on by what the indices put in its place.
                let renumbered = |a: usize| if a < *axis { a } else { a - 1 + indices };
                let result = order
                    .iter()
                    .flat_map(|&a| if a == *axis { (*axis..*axis + indices).collect() } else { vec![renumbered(a)] })
                    .collect();
                let op = Op::Gather { axis: places[*axis] };
                Some(Plan { op, operands: vec![order, identity(indices)], results: vec![result] })
            }
            Op::Dot { lhs_batch, rhs_batch, lhs_contract, rhs_contract } => {
                let rhs = other?;
                let rhs_places = inverse(&rhs);
                let at = |places: &[usize], axes: &[usize]| -> Vec<usize> { axes.iter().map(|&a| places[a]).collect() };
                let free = dot_dims(order.len(), rhs.len(), (lhs_batch, lhs_contract), (rhs_batch, rhs_contract));
                // Result axes: batch, free axes of lhs, free axes of rhs; the free ones in the operands' stored order.
                let number =
                    |free: &[usize], a: usize, first: usize| free.iter().position(|&b| b == a).map(|i| first + i);
                let (first, second) = (lhs_batch.len(), lhs_batch.len() + free.lhs_free.len());
                let mut result = identity(first);
                result.extend(order.iter().filter_map(|&a| number(&free.lhs_free, a, first)));
                result.extend(rhs.iter().filter_map(|&a| number(&free.rhs_free, a, second)));
                let op = Op::Dot {
                    lhs_batch: at(&places, lhs_batch),
                    rhs_batch: at(&rhs_places, rhs_batch),
                    lhs_contract: at(&places, lhs_contract),
                    rhs_contract: at(&rhs_places, rhs_contract),
                };
                Some(Plan { op, operands: vec![order, rhs], results: vec![result] })
            }
            Op::Quantize { dtype, axis } => {
                let axis = places.get(*axis).copied().unwrap_or(0);
                self.with_vectors(Op::Quantize { dtype: *dtype, axis }, id, order)
            }
            Op::Dequantize { axis } => {
                let axis = places.get(*axis).copied().unwrap_or(0);
                self.with_vectors(Op::Dequantize { axis }, id, order)
            }
            _ => None,
        }
    }

    /// An op like its first operand; the others (scalars, vectors) as they are.
    fn with_vectors(&self, op: Op, id: NodeId, order: Order) -> Option<Plan> {
        let rest = self.rewriter.source().node(id).operands[1..].iter().map(|&v| identity(self.rank(v)));
        let operands = [order.clone()].into_iter().chain(rest).collect();
        Some(Plan { op, operands, results: vec![order] })
    }
}

/// The order in which `stored` is copied for a reshape that mixes nothing in the order `near`, nor in that of the axes' numbers:
/// the latter if only it keeps the innermost axis where it is, for then whole rows are copied, and what follows finds them.
fn copied(stored: &Stored, near: Order) -> Order {
    let numbered = identity(near.len());
    let innermost = stored.order.last();
    if near.last() != innermost && numbered.last() == innermost { numbered } else { near }
}

/// The order of what is left without `axes`, numbered anew.
fn without(order: &[usize], axes: &[usize]) -> Order {
    let renumbered = |a: usize| a - axes.iter().filter(|&&b| b < a).count();
    order.iter().filter(|a| !axes.contains(a)).map(|&a| renumbered(a)).collect()
}
