//! Attention: two products with a softmax between them are one op, whose scores never reach memory.

use kiln_ir::scalar::ScalarExpr;
use kiln_ir::{DType, Graph, NodeId, Op, Value};

use super::{ATTENTION, only_users};
use crate::driver::{Context, PassFailure};
use crate::rewrite::{Values, live_nodes, rewrite};

/// Fewest queries for which scores are not stored: a block has its queries in the lanes of a vector, and fewer would leave most
/// of it empty.
const FEWEST_QUERIES: usize = 8;

/// The nodes of an attention and the op that they are.
struct Attention {
    op: Op,
    /// Of the source.
    operands: Vec<Value>,
    scores: NodeId,
    softmax: NodeId,
}

/// Makes attention of every softmax of the products of q and k, used only by a product with v. What else uses one of them needs it
/// in memory.
pub fn run(graph: &Graph, context: &mut Context<'_>) -> Result<Graph, PassFailure> {
    let only_user = only_users(graph, &live_nodes(graph));
    let made = rewrite(graph, context, |rewriter, id, _| {
        let Some(found) = recognise(graph, &only_user, id).filter(|_| rewriter.context.may_fire(ATTENTION)) else {
            return Ok(None);
        };
        let operands: Option<Vec<Value>> = found.operands.iter().map(|&v| rewriter.mapped(v)).collect();
        let Some(operands) = operands else { return Ok(None) };
        rewriter.absorb(found.scores);
        rewriter.absorb(found.softmax);
        rewriter.fired(ATTENTION);
        let value = rewriter.add(found.op, &operands)?;
        Ok(Some(Values::from_slice(&[value])))
    })?;
    Ok(made)
}

fn recognise(graph: &Graph, only_user: &[Option<NodeId>], id: NodeId) -> Option<Attention> {
    let node = graph.node(id);
    let Op::Dot { lhs_batch, rhs_batch: v_batch, lhs_contract, rhs_contract } = &node.op else { return None };
    let (weights, v) = (node.operands[0], node.operands[1]);
    let softmax = graph.node(weights.node);
    let Op::Softmax { axis } = softmax.op else { return None };
    let scored = softmax.operands[0];
    let scores = graph.node(scored.node);
    let alone = only_user[weights.node.0 as usize] == Some(id)
        && only_user[scored.node.0 as usize] == Some(weights.node)
        && v != weights;
    let Op::Dot { lhs_batch: q_batch, rhs_batch: k_batch, lhs_contract: q_contract, rhs_contract: k_contract } =
        scores.op.contraction()?
    else {
        return None;
    };
    let epilogue = match &scores.op {
        Op::FusedDot { epilogue, .. } => epilogue.clone(),
        _ => ScalarExpr::identity(),
    };
    let (&[q, k], extras) = scores.operands.split_first_chunk::<2>()?;
    let f32s = [q, k, v, scored].iter().all(|&x| graph.ty(x).dtype == DType::F32);
    let (&[q_depth], &[k_depth], &[v_keys]) = (&q_contract[..], &k_contract[..], &rhs_contract[..]) else {
        return None;
    };
    let batches = q_batch.len();
    let keys = batches + 1;
    // scores have dims [batch, queries, keys], and the softmax and the second product go along the keys
    let shaped = graph.ty(scored).rank() == batches + 2
        && graph.ty(q).rank() == batches + 2
        && graph.ty(v).rank() == batches + 2
        && lhs_batch.iter().copied().eq(0..batches)
        && axis == keys
        && lhs_contract[..] == [keys];
    let enough = graph.ty(scored).dims.get(batches)?.fixed()? >= FEWEST_QUERIES;
    (alone && f32s && shaped && enough).then(|| Attention {
        op: Op::FusedAttention { q_batch, k_batch, v_batch: v_batch.clone(), q_depth, k_depth, v_keys, epilogue },
        operands: [&[q, k, v], extras].concat(),
        scores: scored.node,
        softmax: weights.node,
    })
}
