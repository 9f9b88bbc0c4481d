//! A group: an expression of several values, perhaps beginning with a contraction, that is not made yet.

use kiln_ir::infer::sum_dtype;
use kiln_ir::scalar::{ScalarBuilder, ScalarExpr};
use kiln_ir::{DType, Dim, GraphError, Node, NodeId, Op, Value};

use super::{BROADCAST, ELEMENTWISE, NUMBER};
use crate::rewrite::Rewriter;

/// The contraction that a group begins with; its result is the expression's `a0`.
#[derive(Clone, Debug)]
pub struct Base {
    /// The source's node.
    pub node: NodeId,
    /// The contraction, without epilogue.
    pub op: Op,
    /// Its first operand.
    pub lhs: Value,
    /// Its second operand.
    pub rhs: Value,
}

/// See the module page. Values are of the target.
#[derive(Clone, Debug)]
pub struct Group {
    /// What it begins with.
    pub base: Option<Base>,
    /// The expression; with a base, operand i is `a{i+1}`, else `a{i}`.
    pub expr: ScalarExpr,
    /// Operands, each extent 1 or the result's.
    pub operands: Vec<Value>,
    /// The source's nodes it computes, the last one last.
    nodes: Vec<NodeId>,
    /// The rules that made it.
    rules: Vec<&'static str>,
    /// The op to make where the group is still just one op over operands of its own dims.
    plain: Option<Op>,
}

/// An operand of an elementwise op that is about to join a group.
pub enum Argument {
    /// A value of the op's dims.
    Value(Value),
    /// A value with extents of 1 where it is broadcast.
    Broadcast(Value),
    /// A number.
    Number(f64),
    /// An expression that waits.
    Group(Group),
    /// A contraction with its epilogue so far.
    Base(Group),
}

impl Group {
    /// A contraction, fused or not, with no more than its own epilogue.
    pub fn of_contraction(id: NodeId, node: &Node, operands: &[Value]) -> Option<Group> {
        let op = node.op.contraction()?;
        let (&[lhs, rhs], extras) = operands.split_first_chunk::<2>()?;
        let expr = match &node.op {
            Op::FusedConv { epilogue, .. } | Op::FusedDot { epilogue, .. } => epilogue.clone(),
            _ => ScalarExpr::identity(),
        };
        Some(Group {
            base: Some(Base { node: id, op, lhs, rhs }),
            expr,
            operands: extras.to_vec(),
            nodes: vec![id],
            rules: Vec::new(),
            plain: Some(node.op.clone()),
        })
    }

    /// The group of the elementwise source node `id` over `arguments`; `None` where they make no typed expression of
    /// the node's dims. `rule` names what absorbs it into the contraction among the arguments.
    pub fn join(
        rewriter: &Rewriter<'_, '_>,
        id: NodeId,
        arguments: Vec<Argument>,
        rule: Option<&'static str>,
    ) -> Option<Group> {
        let node = rewriter.source().node(id);
        let own = node.op.scalar()?;
        let mut b = ScalarBuilder::default();
        let mut group =
            Group { base: None, expr: own.clone(), operands: vec![], nodes: vec![], rules: vec![], plain: None };
        let first = u32::from(arguments.iter().any(|a| matches!(a, Argument::Base(_))));
        let simple = arguments.iter().all(|a| matches!(a, Argument::Value(_)));
        let mut roots = Vec::with_capacity(arguments.len());
        for argument in arguments {
            roots.push(match argument {
                Argument::Value(v) => b.arg(first + group.operand(v)),
                Argument::Broadcast(v) => {
                    group.rules.push(BROADCAST);
                    b.arg(first + group.operand(v))
                }
                Argument::Number(n) => {
                    group.rules.push(NUMBER);
                    b.constant(n)
                }
                Argument::Group(inner) => {
                    group.take_in(&inner, ELEMENTWISE);
                    b.splice(&inner.expr, |b, i| {
                        let v = inner.operands.get(i as usize).copied();
                        b.arg(v.map_or(0, |v| first + group.operand(v)))
                    })
                }
                Argument::Base(inner) => {
                    group.take_in(&inner, rule.unwrap_or(ELEMENTWISE));
                    group.base.clone_from(&inner.base);
                    b.splice(&inner.expr, |b, i| {
                        let v = i.checked_sub(1).and_then(|i| inner.operands.get(i as usize)).copied();
                        b.arg(v.map_or(0, |v| first + group.operand(v)))
                    })
                }
            });
        }
        let root = b.splice(&own, |b, i| roots.get(i as usize).copied().unwrap_or_else(|| b.arg(i)));
        group.expr = b.finish(root);
        group.nodes.push(id);
        group.plain = simple.then(|| node.op.clone());
        let fits = group.is_typed(rewriter, node) && group.dims(rewriter, node)? == node.types[0].dims;
        fits.then_some(group)
    }

    /// The number of an operand, which is added if it is new.
    fn operand(&mut self, v: Value) -> u32 {
        let at = self.operands.iter().position(|&o| o == v).unwrap_or_else(|| {
            self.operands.push(v);
            self.operands.len() - 1
        });
        at as u32
    }

    fn take_in(&mut self, inner: &Group, rule: &'static str) {
        // A group that two operands share is one group.
        if !self.nodes.ends_with(&inner.nodes) {
            self.nodes.extend(&inner.nodes);
            self.rules.extend(&inner.rules);
            self.rules.push(rule);
        }
    }

    fn is_typed(&self, rewriter: &Rewriter<'_, '_>, node: &Node) -> bool {
        let base = self.base.iter().filter_map(|b| sum_dtype(rewriter.ty(b.lhs).dtype, rewriter.ty(b.rhs).dtype));
        let dtypes: Vec<DType> = base.chain(self.operands.iter().map(|&v| rewriter.ty(v).dtype)).collect();
        self.expr.result_type(&dtypes) == Ok(node.types[0].dtype)
    }

    /// The dims of the result: with a base its own, else what the operands' extents join to.
    fn dims(&self, rewriter: &Rewriter<'_, '_>, node: &Node) -> Option<Vec<Dim>> {
        if self.base.is_some() {
            return Some(node.types[0].dims.clone());
        }
        let mut dims = rewriter.ty(*self.operands.first()?).dims.clone();
        for &v in &self.operands {
            for (have, new) in dims.iter_mut().zip(&rewriter.ty(v).dims) {
                if *have == Dim::Fixed(1) {
                    have.clone_from(new);
                }
            }
        }
        Some(dims)
    }

    /// Records what the group stands for, and the rules that made it, for the nodes made next.
    pub fn record(&self, rewriter: &mut Rewriter<'_, '_>) {
        for &node in &self.nodes {
            rewriter.absorb(node);
        }
        for &rule in &self.rules {
            rewriter.fired(rule);
        }
    }

    /// Makes the group.
    pub fn make(&self, rewriter: &mut Rewriter<'_, '_>) -> Result<Value, GraphError> {
        // A contraction keeps its name; other work is known by what it ends in.
        let named = self.base.as_ref().map(|b| b.node).or(self.nodes.last().copied()).unwrap_or(NodeId(0));
        rewriter.within(named, |r| {
            self.record(r);
            let fused = match &self.base {
                Some(base) => base.op.with_epilogue(self.expr.clone()).unwrap_or_else(|| base.op.clone()),
                None => Op::FusedElementwise { expr: self.expr.clone() },
            };
            let op = self.plain.clone().unwrap_or(fused);
            let base = self.base.iter().flat_map(|b| [b.lhs, b.rhs]);
            // A plain op may name an operand twice; the group's list has it once.
            let operands: Vec<Value> = match (&self.plain, self.nodes.last()) {
                (Some(_), Some(&id)) => r.operands(id)?.to_vec(),
                _ => base.chain(self.operands.iter().copied()).collect(),
            };
            r.add(op, &operands)
        })
    }
}
