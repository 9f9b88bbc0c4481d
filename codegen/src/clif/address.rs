//! Addresses: which pointers a kernel needs, and where each is kept up to date.
//!
//! The variable part of an index is a chain of terms, outermost loop first. Every prefix of a chain is one pointer,
//! which changes only where its last variable does: it starts as the next shorter prefix when that loop is entered, and
//! advances by a constant each iteration. So an inner loop pays one addition for each distinct chain that mentions
//! its variable, however many accesses use it; constants, indices of unrolled loops among them, go into the
//! displacement of the load or store.

use std::collections::HashMap;

use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{self, InstBuilder};

use super::emit::Emitter;
use crate::kir::{Block, Buffer, Index, Inst, Kernel, LoopKind, Statement, Var};

/// A pointer: a buffer and the variables' strides in bytes, outermost first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Chain {
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
pub(super) struct AddressPlan {
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
                | Statement::Scatter { buffer, index, .. } => self.need(kernel, *buffer, index),
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

impl Emitter<'_> {
    /// A chain's pointer where the emitter stands.
    pub(super) fn pointer(&mut self, chain: &Chain) -> ir::Value {
        if let Some(&pointer) = self.pointers.get(chain) {
            return pointer;
        }
        match chain.terms.last() {
            None => self.base(chain.buffer),
            Some(&(var, stride)) => {
                let prefix = self.pointer(&chain.prefix());
                let variable = self.variable(var);
                let offset = self.b.ins().imul_imm_s(variable, stride);
                self.b.ins().iadd(prefix, offset)
            }
        }
    }

    /// Computes the pointers that change with a parallel variable and remembers them.
    pub(super) fn compute_pointers(&mut self, var: Var) {
        for chain in self.plan.chains(var) {
            let pointer = self.pointer(&chain);
            self.pointers.insert(chain, pointer);
        }
    }

    /// Where an access is: a pointer, and a displacement that leaves room for the lanes' `reach` in bytes.
    pub(super) fn address(&mut self, buffer: Buffer, index: &Index, size: i64, reach: i64) -> (ir::Value, i64) {
        let chain = self.plan.chain(buffer, index, size);
        let mut pointer = self.pointer(&chain);
        let known = index.terms.iter().map(|&(var, stride)| self.known(var).unwrap_or(0).wrapping_mul(stride));
        let mut displacement = known.fold(index.offset, i64::wrapping_add).wrapping_mul(size);
        if let Buffer::Scratch(i) = buffer {
            displacement = displacement.wrapping_add(self.scratch_offsets[i as usize] as i64);
        }
        for term in &index.dynamic {
            let value = self.parts(term.value)[0];
            let offset = self.b.ins().imul_imm_s(value, term.stride.wrapping_mul(size));
            pointer = self.b.ins().iadd(pointer, offset);
        }
        let fits = |at: i64| i32::try_from(at).is_ok();
        if !fits(displacement) || !fits(displacement.wrapping_add(reach)) {
            pointer = self.b.ins().iadd_imm_s(pointer, displacement);
            displacement = 0;
        }
        (pointer, displacement)
    }

    /// An index without run-time summands as a number.
    pub(super) fn affine(&mut self, index: &Index) -> ir::Value {
        let known = index.terms.iter().map(|&(var, stride)| self.known(var).unwrap_or(0).wrapping_mul(stride));
        let constant = known.fold(index.offset, i64::wrapping_add);
        let mut sum: Option<ir::Value> = None;
        for &(var, stride) in &index.terms {
            if self.known(var).is_none() {
                let variable = self.variable(var);
                let term = if stride == 1 { variable } else { self.b.ins().imul_imm_s(variable, stride) };
                sum = Some(sum.map_or(term, |sum| self.b.ins().iadd(sum, term)));
            }
        }
        match (sum, constant) {
            (None, _) => self.b.ins().iconst(I64, constant),
            (Some(sum), 0) => sum,
            (Some(sum), _) => self.b.ins().iadd_imm_s(sum, constant),
        }
    }

    /// An index's number where it is a constant.
    pub(super) fn constant_index(&self, index: &Index) -> Option<i64> {
        let mut sum = index.offset;
        for &(var, stride) in &index.terms {
            sum = sum.wrapping_add(self.known(var)?.wrapping_mul(stride));
        }
        index.dynamic.is_empty().then_some(sum)
    }
}
