//! Operands of fused ops: numbers, and broadcasts that keep their extents of 1.

use std::collections::HashMap;

use kiln_ir::{DType, Dim, Graph, GraphError, NodeId, Op, Value, elementwise_op};

use crate::canonicalise::splat;
use crate::rewrite::Rewriter;

/// The number that operand `i` of the elementwise node `id` is, where the expression may hold it: the dtype of a
/// constant follows from what it meets, so it must meet a value.
pub fn number(graph: &Graph, id: NodeId, i: usize) -> Option<f64> {
    let node = graph.node(id);
    let partner = match (&node.op, i) {
        (Op::Select {}, 1) => 2,
        (Op::Select {}, 2) => 1,
        (elementwise_op!(arithmetic) | Op::PRelu {}, _) => 1 - i,
        _ => return None,
    };
    if graph.ty(node.operands[i]).dtype == DType::Bool || splat(graph, node.operands[partner]).is_some() {
        return None;
    }
    splat(graph, node.operands[i])
}

/// Broadcast values with their extents of 1, each made once.
#[derive(Default)]
pub struct Operands {
    narrowed: HashMap<(Value, Vec<Dim>), Value>,
}

impl Operands {
    /// `x`, which the source's node `broadcast` repeats, with the broadcast's rank and extents of 1 where it repeats.
    pub fn narrowed(
        &mut self,
        rewriter: &mut Rewriter<'_, '_>,
        broadcast: NodeId,
        x: Value,
    ) -> Result<Value, GraphError> {
        let node = rewriter.source().node(broadcast);
        let Op::Broadcast { dims, axes } = &node.op else { return Ok(x) };
        let mut narrow = vec![Dim::Fixed(1); dims.len()];
        for (extent, &a) in rewriter.ty(x).dims.iter().zip(axes) {
            narrow[a].clone_from(extent);
        }
        if rewriter.ty(x).dims == narrow {
            return Ok(x);
        }
        let key = (x, narrow);
        if let Some(&made) = self.narrowed.get(&key) {
            return Ok(made);
        }
        let reshaped = match &rewriter.producer(x).op {
            Op::Constant { value } => {
                let extents: Option<Vec<usize>> = key.1.iter().map(Dim::fixed).collect();
                extents.and_then(|d| value.tensor().reshape(&d).ok()).map(|t| Op::Constant { value: t.into() })
            }
            _ => None,
        };
        let made = match reshaped {
            Some(constant) => rewriter.within(broadcast, |r| r.add(constant, &[]))?,
            None => rewriter.within(broadcast, |r| r.add(Op::Reshape { dims: key.1.clone() }, &[x]))?,
        };
        self.narrowed.insert(key, made);
        Ok(made)
    }
}
