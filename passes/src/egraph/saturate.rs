//! Growing the e-graph: rules fire until nothing changes, or the fuel ends.

use std::collections::HashMap;
use std::sync::Arc;

use egg::{Id, Language};
use kiln_ir::infer::infer;
use kiln_ir::{Dim, GraphError, Op, Tensor, TensorType};
use smallvec::SmallVec;

use super::language::{Classes, ENode, Symbol};
use super::rules::{RULES, Rule};
use crate::driver::{Context, Growth, PassFailure};
use crate::provenance::Origin;

/// Values equal to the one a rule was asked about.
pub type Equals = SmallVec<[Id; 2]>;

/// What rules see and build with.
pub struct Rewrites {
    /// The e-graph.
    pub classes: Classes,
    /// Where each e-node comes from.
    origins: HashMap<ENode, Origin>,
    /// What the e-nodes added from now on stand for.
    current: Origin,
    /// The e-nodes that the current rule has looked at.
    seen: Vec<ENode>,
    /// E-nodes that rules have added.
    added: usize,
}

impl Rewrites {
    /// Around an e-graph without nodes.
    pub fn new(classes: Classes) -> Rewrites {
        Rewrites { classes, origins: HashMap::new(), current: Origin::default(), seen: Vec::new(), added: 0 }
    }

    /// Adds an e-node that comes from `origin`.
    pub fn add_from(&mut self, enode: ENode, origin: Origin) -> Id {
        let enode = enode.map_children(|id| self.classes.find(id));
        self.origins.entry(enode.clone()).or_insert(origin);
        self.classes.add(enode)
    }

    /// The class of `op` over `children`, made if there is none.
    pub fn add(&mut self, op: Op, children: &[Id]) -> Result<Id, PassFailure> {
        let symbol = self.classes.analysis.symbols.op(op);
        let children = children.iter().map(|&c| self.classes.find(c)).collect();
        let enode = ENode { symbol, children };
        if let Some(id) = self.classes.lookup(enode.clone()) {
            return Ok(id);
        }
        if let Symbol::Op(op) = self.classes.analysis.symbols.get(symbol) {
            let operands: Vec<TensorType> = enode.children.iter().map(|&c| self.ty(c).clone()).collect();
            infer(op, &operands).map_err(|error| GraphError::Infer { error: Box::new(error), location: None })?;
        }
        // What the rule adds stands for all that it has looked at.
        for enode in std::mem::take(&mut self.seen) {
            if let Some(origin) = self.origins.get(&enode) {
                self.current.absorb(origin);
            }
        }
        self.origins.insert(enode.clone(), self.current.clone());
        self.added += 1;
        Ok(self.classes.add(enode))
    }

    /// The type of a class of one result.
    pub fn ty(&self, id: Id) -> &TensorType {
        static NONE: TensorType = TensorType { dtype: kiln_ir::DType::Bool, dims: Vec::new() };
        self.classes[id].data.types.first().unwrap_or(&NONE)
    }

    /// The dims of a class.
    pub fn dims(&self, id: Id) -> Vec<Dim> {
        self.ty(id).dims.clone()
    }

    /// Whether a class is known at compile time.
    pub fn is_constant(&self, id: Id) -> bool {
        self.classes[id].data.constant
    }

    /// The e-nodes of a class whose op `wanted` accepts: ops and children.
    pub fn find(&mut self, id: Id, wanted: impl Fn(&Op) -> bool) -> Vec<(Arc<Op>, SmallVec<[Id; 4]>)> {
        let mut found = Vec::new();
        for enode in &self.classes[id].nodes {
            if let Symbol::Op(op) = self.classes.analysis.symbols.get(enode.symbol)
                && wanted(op)
            {
                found.push((op.clone(), enode.children.clone()));
                self.seen.push(enode.clone());
            }
        }
        found
    }

    /// As [`Rewrites::find`], for a value that a rule would make unnecessary; none where something else uses it as
    /// well, because then it stays and the rule adds work. (Extraction is greedy: it would not notice.)
    pub fn find_sole(&mut self, id: Id, wanted: impl Fn(&Op) -> bool) -> Vec<(Arc<Op>, SmallVec<[Id; 4]>)> {
        if self.classes[id].data.users > 1 { Vec::new() } else { self.find(id, wanted) }
    }

    /// The tensor of a class that is a constant, or one under broadcasts and reshapes.
    pub fn tensor(&self, id: Id) -> Option<&Tensor> {
        let mut id = id;
        for _ in 0..4 {
            let mut next = None;
            for n in &self.classes[id].nodes {
                let Symbol::Op(op) = self.classes.analysis.symbols.get(n.symbol) else { continue };
                match &**op {
                    Op::Constant { value } => return Some(value.tensor()),
                    Op::Broadcast { .. } | Op::Reshape { .. } => next = n.children.first().copied(),
                    _ => {}
                }
            }
            id = next?;
        }
        None
    }

    /// Where an e-node comes from.
    pub fn origin(&self, enode: &ENode) -> Option<&Origin> {
        self.origins.get(enode)
    }

    /// Makes [`Rewrites::origin`] know e-nodes by their present classes.
    pub fn settle_origins(&mut self) {
        let mut settled: Vec<(ENode, Origin)> = self
            .origins
            .drain()
            .map(|(enode, origin)| (enode.map_children(|id| self.classes.find(id)), origin))
            .collect();
        // Where two e-nodes became one, the one the fewest rules made says more.
        settled.sort_by(|(a, p), (b, q)| (a, p.rules.len(), &p.sources).cmp(&(b, q.rules.len(), &q.sources)));
        for (enode, origin) in settled {
            self.origins.entry(enode).or_insert(origin);
        }
    }

    /// Fires rules until nothing changes, or an e-node or round limit is reached.
    pub fn saturate(&mut self, context: &mut Context<'_>) -> Result<(), PassFailure> {
        let options = context.options();
        let start = self.classes.total_number_of_nodes();
        // Counted as they are added, because the e-graph counts its e-nodes anew each time it is asked.
        let limit = start.saturating_mul(options.egraph_growth.saturating_sub(1));
        let mut rounds = 0;
        while rounds < options.egraph_iterations {
            rounds += 1;
            let before = (self.classes.total_number_of_nodes(), self.classes.number_of_classes());
            let mut ids: Vec<Id> = self.classes.classes().map(|c| c.id).collect();
            ids.sort_unstable();
            let mut unions: Vec<(Id, Id)> = Vec::new();
            for id in ids {
                for enode in self.classes[id].nodes.clone() {
                    let Symbol::Op(op) = self.classes.analysis.symbols.get(enode.symbol) else { continue };
                    let op = op.clone();
                    for rule in RULES.iter().copied().flatten().filter(|r| (r.root)(&op)) {
                        if self.added < limit && context.may_fire(rule.name) {
                            self.try_rule(rule, id, &enode, &op, context, &mut unions)?;
                        }
                    }
                }
            }
            for (a, b) in unions {
                self.classes.union(a, b);
            }
            self.classes.rebuild();
            self.settle_origins();
            if before == (self.classes.total_number_of_nodes(), self.classes.number_of_classes()) {
                break;
            }
        }
        let (after, classes) = (self.classes.total_number_of_nodes(), self.classes.number_of_classes());
        context.growth = Some(Growth { before: start, after, classes, rounds });
        Ok(())
    }

    fn try_rule(
        &mut self,
        rule: &'static Rule,
        id: Id,
        enode: &ENode,
        op: &Op,
        context: &mut Context<'_>,
        unions: &mut Vec<(Id, Id)>,
    ) -> Result<(), PassFailure> {
        self.seen.clear();
        self.seen.push(enode.clone());
        self.current = Origin::default();
        self.current.add_rule(context.next(rule.name));
        let matched = Matched { op, children: &enode.children };
        for equal in (rule.apply)(self, &matched)? {
            if self.ty(equal) != self.ty(id) {
                return Err(PassFailure::Rule {
                    rule: rule.name,
                    expected: self.ty(id).clone(),
                    found: self.ty(equal).clone(),
                });
            }
            if self.classes.find(equal) != self.classes.find(id) {
                context.fired(rule.name);
                unions.push((id, equal));
            }
        }
        Ok(())
    }
}

/// The e-node a rule is tried on.
pub struct Matched<'a> {
    /// Its op.
    pub op: &'a Op,
    /// Its children.
    pub children: &'a [Id],
}
