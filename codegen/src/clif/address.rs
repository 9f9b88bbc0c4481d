//! Addresses, as the [plan](crate::kir::address) wants them kept.

use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{self, InstBuilder};

use super::emit::Emitter;
use crate::kir::address::Chain;
use crate::kir::{Buffer, Index, Var};

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
        let mut displacement = index.known_part(|var| self.known(var)).wrapping_mul(size);
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
        let constant = index.known_part(|var| self.known(var));
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
        index.as_number(|var| self.known(var))
    }
}
