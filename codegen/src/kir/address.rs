//! Which pointers a kernel needs, and where each is kept up to date: shared by the back ends.
//!
//! The variable part of an index is a chain of terms, outermost loop first. Every prefix of a chain is one pointer,
//! which changes only where its last variable does: it starts as the next shorter prefix when that loop is entered, and
//! advances by a constant each iteration. So an inner loop pays one addition for each distinct chain that mentions
//! its variable, however many accesses use it; constants, indices of unrolled loops among them, go into the
//! displacement of the load or store.

use std::collections::HashMap;

use super::{Block, Buffer, Index, Inst, Kernel, LoopKind, Statement, Var};

/// A pointer: a buffer and the variables' strides in bytes, outermost first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Chain {
    /// What it points into.
    pub buffer: Buffer,
    /// Variables and byte strides.
    pub terms: Vec<(Var, i64)>,
}

impl Chain {
    /// The chain without its last term.
    pub fn prefix(&self) -> Chain {
        let terms = &self.terms[..self.terms.len().saturating_sub(1)];
        Chain { buffer: self.buffer, terms: terms.to_vec() }
    }
}

/// The chains of a kernel, under the variable that each changes with.
#[derive(Debug, Default)]
pub(crate) struct AddressPlan {
    /// Nesting order of variables that exist at run time; unrolled ones and those of extent 1 have none.
    rank: HashMap<Var, usize>,
    by_var: HashMap<Var, Vec<Chain>>,
}

impl AddressPlan {
    pub fn new(kernel: &Kernel) -> AddressPlan {
        let mut plan = AddressPlan::default();
        for &var in &kernel.parallel {
            plan.rank(kernel, var);
        }
        plan.block(kernel, &kernel.body);
        plan
    }

    /// Pointers that change with a variable, in the order their accesses appear.
    pub fn chains(&self, var: Var) -> Vec<Chain> {
        self.by_var.get(&var).cloned().unwrap_or_default()
    }

    /// The chain of an index into a buffer of elements of `size` bytes.
    pub fn chain(&self, buffer: Buffer, index: &Index, size: i64) -> Chain {
        let terms = index.terms.iter().filter(|(var, _)| self.rank.contains_key(var));
        let mut terms: Vec<(Var, i64)> = terms.map(|&(var, stride)| (var, stride.wrapping_mul(size))).collect();
        terms.sort_by_key(|(var, _)| self.rank[var]);
        Chain { buffer, terms }
    }

    fn rank(&mut self, kernel: &Kernel, var: Var) {
        if kernel.extent(var) > 1 {
            let next = self.rank.len();
            self.rank.entry(var).or_insert(next);
        }
    }

    fn block(&mut self, kernel: &Kernel, block: &Block) {
        for statement in &block.statements {
            match statement {
                Statement::Let(_, Inst::Load { buffer, index, .. } | Inst::Gather { buffer, index, .. })
                | Statement::Store { buffer, index, .. }
                | Statement::Scatter { buffer, index, .. }
                | Statement::Prefetch { buffer, index } => self.need(kernel, *buffer, index),
                Statement::Let(..) => {}
                Statement::For(inner) => {
                    if inner.kind == LoopKind::Serial {
                        self.rank(kernel, inner.var);
                    }
                    self.block(kernel, &inner.body);
                }
                Statement::If(inner) => {
                    self.block(kernel, &inner.then);
                    self.block(kernel, &inner.otherwise);
                }
            }
        }
    }

    fn need(&mut self, kernel: &Kernel, buffer: Buffer, index: &Index) {
        let size = kernel.buffer_shape(buffer).map_or(1, |(dtype, _)| dtype.size() as i64);
        let mut chain = self.chain(buffer, index, size);
        while let Some(&(var, _)) = chain.terms.last() {
            let known = self.by_var.entry(var).or_default();
            let prefix = chain.prefix();
            if !known.contains(&chain) {
                known.push(chain);
            }
            chain = prefix;
        }
    }
}
