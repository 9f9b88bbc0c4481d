//! What an e-node costs at run time, in picoseconds: operations and bytes by [`kiln_ir::cost`], at round rates.
//!
//! The model only has to rank alternatives of one graph, so its rates are round ones of one core: 50 operations a
//! nanosecond in contractions and 4 elsewhere, 10 bytes a nanosecond. Integers keep sums exact, hence independent of
//! their order.

use kiln_ir::{Dim, Op, TensorType, elementwise_op};

/// A kernel's fixed cost.
const LAUNCH: u64 = 1_000_000;
/// Per operation of a contraction.
const CONTRACTION: u64 = 20;
/// Per operation of other work.
const STEP: u64 = 250;
/// Per byte read or written.
const BYTE: u64 = 100;

/// The cost of `op`. `in_registers` says of each operand whether it is made by something that fusion joins
/// elementwise work to: such work neither reads it from memory nor is a kernel of its own.
pub fn cost(op: &Op, operands: &[&TensorType], in_registers: &[bool], results: &[TensorType]) -> u64 {
    let operands: Vec<TensorType> = operands.iter().map(|t| numbered(t)).collect();
    let results: Vec<TensorType> = results.iter().map(numbered).collect();
    let Some(cost) = kiln_ir::cost::cost(op, &operands, &results) else { return u64::MAX / 1024 };
    let work = |rate: u64| cost.flops.saturating_mul(rate);
    let kernel = cost.bytes().saturating_mul(BYTE).saturating_add(LAUNCH);
    match op {
        Op::Placeholder { .. } | Op::Constant { .. } | Op::ReadVar { .. } => 0,
        // A new name for the same memory.
        Op::Reshape { .. } => LAUNCH / 100,
        // Read as it is by whatever uses it elementwise.
        Op::Broadcast { .. } => LAUNCH / 10,
        Op::Dot { .. } => work(CONTRACTION).saturating_add(kernel),
        // Of a convolution and a product that do the same work, the product has the simpler loops.
        Op::Conv { .. } => work(CONTRACTION).saturating_add(kernel).saturating_add(LAUNCH / 20),
        op if is_elementwise(op) && in_registers.contains(&true) => {
            let loaded = operands.iter().zip(in_registers).filter(|(_, here)| !**here);
            let bytes = loaded.filter_map(|(t, _)| t.byte_count()).fold(0u64, |n, b| n.saturating_add(b as u64));
            work(STEP).saturating_add(bytes.saturating_mul(BYTE))
        }
        _ => work(STEP).saturating_add(kernel),
    }
}

/// Whether an op is an expression of its operands' elements.
pub fn is_elementwise(op: &Op) -> bool {
    matches!(op, elementwise_op!())
}

/// The type with every symbol some number: the same on all sides, so comparisons hold.
fn numbered(ty: &TensorType) -> TensorType {
    const SOME: usize = 16;
    let dims = ty.dims.iter().map(|d| Dim::Fixed(d.fixed().unwrap_or(SOME))).collect();
    TensorType { dtype: ty.dtype, dims }
}
