//! Canonicalisation: every value in its simplest form, by rules that never make a graph worse.
//!
//! One sweep, operands first. Each node goes through [`Canonicaliser::emit`]: constants fold, the rules of
//! [`RULES`] get their turn, and what remains is hash-consed. Rules build with `emit` themselves, so their results
//! are canonical too and one sweep is enough. Rules that trade one cost for another are in the e-graph instead.

pub mod arithmetic;
pub mod batch_norm;
pub mod bytes;
pub mod constant;
pub mod contraction;
pub mod intern;
pub mod movement;
pub mod reduction;

use std::collections::HashMap;

use kiln_ir::{DType, Graph, GraphError, Node, NodeId, Op, Tensor, TensorType, Value};

use crate::driver::{Context, PassFailure};
use crate::evaluate::View;
use crate::rewrite::{Rewriter, Values, results, rewrite};
use intern::Interner;

/// What a rule gives: the value that takes the place of the op's result, or `None` where it does not apply.
pub type Rewritten = Result<Option<Value>, GraphError>;

/// A local rewrite of an op of one result.
pub struct Rule {
    /// Name, as `disable` uses it.
    pub name: &'static str,
    /// What it does, and when.
    pub doc: &'static str,
    /// The rewrite.
    pub apply: fn(&mut Canonicaliser<'_, '_, '_>, &Op, &[Value]) -> Rewritten,
}

/// All rules, in the order in which they are tried.
pub static RULES: &[&[Rule]] = &[
    movement::RULES,
    constant::RULES,
    reduction::RULES,
    arithmetic::RULES,
    batch_norm::RULES,
    contraction::RULES,
    bytes::RULES,
    crate::recognise::RULES[0],
    crate::recognise::RULES[1],
];

/// The names of all rules, [`constant::CSE`] included.
pub fn rule_names() -> Vec<&'static str> {
    std::iter::once(constant::CSE).chain(RULES.iter().copied().flatten().map(|r| r.name)).collect()
}

/// Builds canonical nodes.
pub struct Canonicaliser<'r, 'a, 'o> {
    rewriter: &'r mut Rewriter<'a, 'o>,
    interner: &'r mut Interner,
    folded: &'r mut Folded,
}

/// Results of folding that are deferred: equal by what they were made of, as nobody looks at their elements.
pub(crate) type Folded = HashMap<(Op, Values), Value>;

/// The pass.
pub fn run(graph: &Graph, context: &mut Context<'_>) -> Result<Graph, PassFailure> {
    let mut interner = Interner::default();
    #[expect(clippy::mutable_key_type, reason = "what changes in a literal is its id, once it is asked for")]
    let mut folded = Folded::new();
    Ok(rewrite(graph, context, |rewriter, id, operands| {
        let node = rewriter.source().node(id);
        let mut c = Canonicaliser { rewriter, interner: &mut interner, folded: &mut folded };
        let values = match node.types.len() {
            1 => Values::from_slice(&[c.emit(node.op.clone(), operands)?]),
            n => results(c.intern(node.op.clone(), operands)?, n),
        };
        Ok(Some(values))
    })?)
}

impl Canonicaliser<'_, '_, '_> {
    /// The canonical value of `op` over `operands`, which are canonical.
    pub fn emit(&mut self, op: Op, operands: &[Value]) -> Result<Value, GraphError> {
        for rule in RULES.iter().copied().flatten() {
            if !self.rewriter.context.may_fire(rule.name) {
                continue;
            }
            let before = self.rewriter.target().len();
            if let Some(value) = (rule.apply)(self, &op, operands)? {
                self.rewriter.context.fired(rule.name);
                self.rewriter.mark(before, value.node, rule.name);
                return Ok(value);
            }
        }
        Ok(Value { node: self.intern(op, operands)?, result: 0 })
    }

    /// The node of `op` over `operands`, whether old or new; no rule is tried.
    fn intern(&mut self, op: Op, operands: &[Value]) -> Result<NodeId, GraphError> {
        let target = self.rewriter.target();
        if self.rewriter.context.may_fire(constant::CSE)
            && let Some(id) = self.interner.find(target, &op, operands)
        {
            // Sources are shared from the start in most graphs: to say so of each would bury the rest.
            if !operands.is_empty() {
                self.rewriter.context.fired(constant::CSE);
                self.rewriter.mark(self.rewriter.target().len(), id, constant::CSE);
            }
            return Ok(id);
        }
        let id = self.rewriter.add_node(op, operands)?;
        self.interner.insert(self.rewriter.target(), id);
        Ok(id)
    }

    /// A constant.
    pub fn constant(&mut self, tensor: Tensor) -> Result<Value, GraphError> {
        self.emit(Op::Constant { value: tensor.into() }, &[])
    }

    /// `value` in every element of a tensor of type `ty`; `None` where the dtype has no such value.
    pub fn fill(&mut self, ty: &TensorType, value: f64) -> Rewritten {
        let Ok(tensor) = Tensor::from_f64(ty.dtype, &[], &[value]) else { return Ok(None) };
        let scalar = self.constant(tensor)?;
        Ok(Some(self.emit(Op::Broadcast { dims: ty.dims.clone(), axes: Vec::new() }, &[scalar])?))
    }

    /// The graph so far.
    pub fn graph(&self) -> &Graph {
        self.rewriter.target()
    }

    /// The node that makes a value.
    pub fn producer(&self, v: Value) -> &Node {
        self.rewriter.producer(v)
    }

    /// The type of a value.
    pub fn ty(&self, v: Value) -> &TensorType {
        self.rewriter.ty(v)
    }

    /// The tensor of a constant.
    pub fn tensor(&self, v: Value) -> Option<&Tensor> {
        match &self.producer(v).op {
            Op::Constant { value } => Some(value.tensor()),
            _ => None,
        }
    }

    /// A constant under transposes and broadcasts.
    pub fn view(&self, v: Value) -> Option<View> {
        View::of_value(self.graph(), v)
    }

    /// Whether [`Canonicaliser::view`] gives something.
    pub fn is_constant(&self, v: Value) -> bool {
        is_constant(self.graph(), v)
    }

    /// The number that every element of `v` is, where that is known and exact in f64.
    pub fn splat(&self, v: Value) -> Option<f64> {
        splat(self.graph(), v)
    }

    /// The op and operands that make the first of `operands`.
    pub fn made_by(&self, operands: &[Value]) -> Option<(Op, Values)> {
        let node = self.producer(*operands.first()?);
        Some((node.op.clone(), node.operands.iter().copied().collect()))
    }
}

/// Whether `v` is a constant under transposes and broadcasts.
pub fn is_constant(graph: &Graph, v: Value) -> bool {
    let node = graph.node(v.node);
    match (&node.op, node.operands.first()) {
        (Op::Constant { .. }, _) => true,
        (Op::Transpose { .. } | Op::Broadcast { .. }, Some(&x)) => is_constant(graph, x),
        _ => false,
    }
}

/// The number that every element of `v` is: a constant of one element, perhaps broadcast.
pub fn splat(graph: &Graph, v: Value) -> Option<f64> {
    let node = graph.node(v.node);
    match &node.op {
        Op::Constant { value } if value.tensor().len() == 1 => {
            let number = value.tensor().to_f64_vec().first().copied()?;
            let exact = value.tensor().dtype() != DType::I64 || number.abs() < 9_007_199_254_740_992.0;
            exact.then_some(number)
        }
        Op::Broadcast { .. } => splat(graph, *node.operands.first()?),
        _ => None,
    }
}
