//! What an e-node costs at run time, in picoseconds: operations and bytes by [`kiln_ir::cost`], at round rates.
//!
//! The model only has to rank alternatives of one graph, so its rates are round ones of one core: 50 operations a
//! nanosecond in contractions and 4 elsewhere, 10 bytes a nanosecond. Integers keep sums exact, hence independent of
//! their order.

use kiln_ir::{Dim, Graph, Op, TensorType, elementwise_op};

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
        Op::FusedConv { .. } | Op::FusedDot { .. } => {
            let product = op.contraction().and_then(|plain| kiln_ir::cost::cost(&plain, operands.get(..2)?, &results));
            let products = product.map_or(0, |c| c.flops);
            let epilogue = cost.flops.saturating_sub(products).saturating_mul(STEP);
            products.saturating_mul(CONTRACTION).saturating_add(epilogue).saturating_add(kernel)
        }
        Op::FusedAttention { .. } => work(CONTRACTION).saturating_add(kernel),
        op if is_elementwise(op) && in_registers.contains(&true) => {
            let loaded = operands.iter().zip(in_registers).filter(|(_, here)| !**here);
            let bytes = loaded.filter_map(|(t, _)| t.byte_count()).fold(0u64, |n, b| n.saturating_add(b as u64));
            work(STEP).saturating_add(bytes.saturating_mul(BYTE))
        }
        _ => work(STEP).saturating_add(kernel),
    }
}

/// The time of a contraction by the roofline model (Williams, Waterman, Patterson 2009): that of its arithmetic or of its
/// memory traffic, whichever is longer, because one hides the other. For comparisons of contractions that read the same.
pub fn bound(op: &Op, operands: &[TensorType], result: &TensorType) -> u64 {
    let operands: Vec<TensorType> = operands.iter().map(numbered).collect();
    let results = [numbered(result)];
    let Some(cost) = kiln_ir::cost::cost(op, &operands, &results) else { return u64::MAX / 1024 };
    cost.flops.saturating_mul(CONTRACTION).max(cost.bytes().saturating_mul(BYTE)).saturating_add(LAUNCH)
}

/// Where a part of a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In one piece: it needs a new name only.
    View,
    /// In many pieces.
    Apart,
}

/// What it costs to have a part of a value as one of its own.
pub fn copied(part: &TensorType, place: Place) -> u64 {
    let bytes = numbered(part).byte_count().unwrap_or(usize::MAX) as u64;
    match place {
        Place::View => LAUNCH / 100,
        Place::Apart => bytes.saturating_mul(2 * BYTE).saturating_add(LAUNCH),
    }
}

/// Which nodes of a graph have values that are known at compile time.
pub fn known(graph: &Graph) -> Vec<bool> {
    let mut known = vec![false; graph.len()];
    for id in graph.node_ids() {
        let node = graph.node(id);
        known[id.0 as usize] = match node.op {
            Op::Constant { .. } => true,
            _ => {
                let all = node.operands.iter().all(|v| known[v.node.0 as usize]);
                !node.operands.is_empty() && !node.op.has_effect() && all
            }
        };
    }
    known
}

/// What each node of a graph costs at run time, in picoseconds: nothing where its value is known at compile time, and
/// elementwise work behind a contraction or other elementwise work as what fusion makes of it.
pub fn node_costs(graph: &Graph) -> Vec<u64> {
    let known = known(graph);
    let mut joins = vec![false; graph.len()];
    let mut costs = Vec::with_capacity(graph.len());
    for id in graph.node_ids() {
        let (node, at) = (graph.node(id), id.0 as usize);
        let here: Vec<bool> = node.operands.iter().map(|v| joins[v.node.0 as usize]).collect();
        joins[at] = !known[at] && (matches!(node.op, Op::Conv { .. } | Op::Dot { .. }) || is_elementwise(&node.op));
        let operands: Vec<&TensorType> = node.operands.iter().map(|&v| graph.ty(v)).collect();
        costs.push(if known[at] { 0 } else { cost(&node.op, &operands, &here, &node.types) });
    }
    costs
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fusion_joins_costs_as_much_before_it_as_after() {
        let conv = "kiln 1\ngraph @g(%x: f32[1, 8, 16, 16], %w: f32[8, 8, 3, 3]) -> (%y) {\n";
        let parse =
            |body: &str| kiln_ir::text::parse(&format!("{conv}{body}}}\n"), "t").unwrap_or_else(|e| panic!("{e}"));
        let before = parse("  %c = conv_general %x, %w\n  %y = relu %c\n");
        let after = parse("  %y = fused_conv %x, %w {epilogue = \"max(a0, 0.0)\"}\n");
        let [before, after] = [before, after].map(|g| node_costs(&g).iter().sum::<u64>());
        // beside the twentieth of a launch by which a product is preferred to a convolution
        assert!(before.abs_diff(after) <= LAUNCH / 20, "{before} {after}");
    }

    #[test]
    fn what_is_known_at_compile_time_costs_nothing() {
        let text = "kiln 1\ngraph @g(%x: f32[64]) -> (%y) {\n  %c = constant dense<2.0> : f32[64]\n  %e = exp %c\n  %y = mul %x, %e\n}\n";
        let graph = kiln_ir::text::parse(text, "t").unwrap_or_else(|e| panic!("{e}"));
        let costs = node_costs(&graph);
        assert_eq!(costs[..3], [0, 0, 0]);
        assert!(costs[3] > 0, "{costs:?}");
    }
}
