//! Which loads the instruction that uses them reads straight from memory.
//!
//! A load folds where its only use is an operand that may be in memory, in the same block, with no store, loop or conditional between
//! the two. A load of one element for every lane becomes an embedded broadcast, where the instruction set has
//! them, unless the value spans several registers: then one load for all of them is cheaper.

use std::collections::HashSet;

use super::isa::Isa;
use crate::kir::{BinaryOp, Block, Condition, DType, Inst, Kernel, Statement, Value};

/// By value: whether it is a load that folds.
pub(super) fn foldable_loads(kernel: &Kernel, isa: Isa, vnni: bool) -> Vec<bool> {
    let mut uses = vec![0u32; kernel.values.len()];
    count(&kernel.body, &mut uses);
    let mut folds = vec![false; kernel.values.len()];
    block(kernel, (isa, vnni), &kernel.body, &uses, &mut folds);
    folds
}

/// Counts the uses of every value in a block.
fn count(block: &Block, uses: &mut [u32]) {
    for statement in &block.statements {
        match statement {
            Statement::For(inner) => {
                inner.carried.iter().for_each(|c| uses[c.init.0 as usize] += 1);
                count(&inner.body, uses);
            }
            Statement::If(inner) => {
                if let Condition::Value(value) = inner.condition {
                    uses[value.0 as usize] += 1;
                }
                count(&inner.then, uses);
                count(&inner.otherwise, uses);
            }
            simple => simple.clone().operands_mut(|value| uses[value.0 as usize] += 1),
        }
    }
    block.yields.iter().for_each(|&value| uses[value.0 as usize] += 1);
}

fn block(kernel: &Kernel, (isa, vnni): (Isa, bool), body: &Block, uses: &[u32], folds: &mut [bool]) {
    let mut pending: HashSet<Value> = HashSet::new();
    for statement in &body.statements {
        match statement {
            Statement::Let(value, inst) => {
                if let Some(operand) = memory_operand(inst, vnni, |v| pending.contains(&v)) {
                    pending.remove(&operand);
                    folds[operand.0 as usize] = true;
                }
                if let Inst::Load { buffer, stride, .. } = inst {
                    let ty = kernel.type_of(*value);
                    let suits = matches!(ty.dtype, DType::F32 | DType::F64 | DType::I32 | DType::I64);
                    let whole = match stride.wrapping_mul(kernel.element_size(*buffer)) {
                        0 => isa.embeds_broadcasts() && isa.parts(ty) == 1,
                        step if step == ty.dtype.size() as i64 => (0..isa.parts(ty)).all(|i| isa.fills(ty, i)),
                        _ => false,
                    };
                    if suits && whole && uses[value.0 as usize] == 1 {
                        pending.insert(*value);
                    }
                }
            }
            Statement::Store { .. } | Statement::Scatter { .. } => pending.clear(),
            Statement::Prefetch { .. } => {}
            Statement::For(inner) => {
                pending.clear();
                block(kernel, (isa, vnni), &inner.body, uses, folds);
            }
            Statement::If(inner) => {
                pending.clear();
                block(kernel, (isa, vnni), &inner.then, uses, folds);
                block(kernel, (isa, vnni), &inner.otherwise, uses, folds);
            }
        }
    }
}

/// The operand that the emitted instruction takes from memory, given which could be.
fn memory_operand(inst: &Inst, vnni: bool, could: impl Fn(Value) -> bool) -> Option<Value> {
    let candidates = match *inst {
        Inst::Fma(a, b, _) => [Some(b), Some(a)],
        Inst::Binary(BinaryOp::Add | BinaryOp::Mul, a, b) => [Some(b), Some(a)],
        Inst::Binary(BinaryOp::Sub | BinaryOp::Div, _, b) => [Some(b), None],
        Inst::DotBytes(_, b, _) if vnni => [Some(b), None],
        _ => [None, None],
    };
    candidates.into_iter().flatten().find(|&value| could(value))
}
