//! Hash-consing: equal ops over equal operands are one node (common subexpressions vanish).

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use kiln_ir::{Graph, NodeId, Op, Tensor, Value};

/// The nodes of a growing graph, by op and operands.
#[derive(Default)]
pub struct Interner {
    nodes: HashMap<u64, Vec<NodeId>>,
}

impl Interner {
    /// The node of `graph` that applies `op` to `operands`, where there is one.
    pub fn find(&self, graph: &Graph, op: &Op, operands: &[Value]) -> Option<NodeId> {
        if !mergeable(op) {
            return None;
        }
        let bucket = self.nodes.get(&hash(op, operands))?;
        bucket.iter().copied().find(|&id| {
            let node = graph.node(id);
            node.operands[..] == *operands && same_op(&node.op, op)
        })
    }

    /// Remembers a new node.
    pub fn insert(&mut self, graph: &Graph, id: NodeId) {
        let node = graph.node(id);
        if mergeable(&node.op) {
            self.nodes.entry(hash(&node.op, &node.operands)).or_default().push(id);
        }
    }
}

/// Effects happen as often as they are written, and an input is one by its name.
fn mergeable(op: &Op) -> bool {
    !op.has_effect() && !matches!(op, Op::Placeholder { .. })
}

fn hash(op: &Op, operands: &[Value]) -> u64 {
    let mut h = DefaultHasher::new();
    op_hash(op, &mut h);
    operands.hash(&mut h);
    h.finish()
}

/// Hashes an op; a constant by its type and a sample of its bytes, because a whole model's weights would take long (none
/// of a deferred one).
pub fn op_hash(op: &Op, h: &mut impl Hasher) {
    const SAMPLE: usize = 64;
    match op {
        Op::Constant { value } => {
            let t = value.tensor();
            (t.dtype(), t.dims()).hash(h);
            if t.is_deferred() {
                return;
            }
            let bytes = t.bytes();
            let end = bytes.len().saturating_sub(SAMPLE);
            for start in [0, end / 3, end / 3 * 2, end] {
                bytes[start..(start + SAMPLE).min(bytes.len())].hash(h);
            }
        }
        op => op.hash(h),
    }
}

/// Whether two ops are equal; constants by their bytes, which is cheaper than their content ids (deferred ones only where
/// they are the same tensor).
pub fn same_op(a: &Op, b: &Op) -> bool {
    match (a, b) {
        (Op::Constant { value: a }, Op::Constant { value: b }) => same_tensor(a.tensor(), b.tensor()),
        _ => a == b,
    }
}

fn same_tensor(a: &Tensor, b: &Tensor) -> bool {
    let known = !a.is_deferred() && !b.is_deferred();
    a.dtype() == b.dtype() && a.dims() == b.dims() && (a.shares_elements(b) || known && a.bytes() == b.bytes())
}
