//! From an optimised graph to kernels: one file a family of ops.
//!
//! ```text
//! Graph ──► Lowering: a place for every value, a step for every op ──► Program ──► plan::build
//!              │
//!              ├── elementwise, movement      walk: independent iterations, in vectors
//!              ├── dot, conv, window, reduce  tile: rows × columns in registers around a reduction
//!              └── index, extreme, top_k, normalize, source, …   loops of their own
//! ```
//!
//! Values are dense and row-major. A reshape, and a slice of whole rows, is a view of its operand; a value that becomes
//! an output or a part of a concatenation is made in its place, one that only padded convolutions use is made in the
//! middle of its padding (see `halo`). Ops without elements make no step.

mod attention;
mod concat;
mod context;
mod contraction;
mod conv;
mod dot;
mod elementwise;
mod error;
mod extreme;
mod grouped;
mod halo;
mod index;
mod lrn;
mod machine;
mod movement;
mod nest;
mod normalize;
mod quantize;
mod recurrent;
mod reduce;
mod scalar;
mod select_and_scatter;
mod source;
mod tile;
mod top_k;
mod walk;
mod window;
mod winograd;

pub use context::Lowering;
pub use error::LowerError;
pub use machine::Machine;
pub use winograd::FilterTransform;

use kiln_ir::infer::ConvAttributes;
use kiln_ir::scalar::ScalarExpr;
use kiln_ir::{Graph, NodeId, Op, elementwise_op};

use crate::plan::program::Program;
use crate::tuning::Choices;

/// Lowers a graph with fixed dims.
pub fn lower(graph: &Graph, machine: Machine, exact: bool, choices: &Choices) -> Result<Program, LowerError> {
    let mut l = Lowering::new(graph, machine, exact, choices)?;
    l.bind_signature();
    literals(&mut l)?;
    reserve(&mut l);
    for id in graph.node_ids() {
        if l.is_live(id) && !l.is_bound(graph.value(id)) {
            l.start_node();
            halo::fill_room(&mut l, id)?;
            node(&mut l, id)?;
            l.finish_node(id);
        }
    }
    finish(&mut l)?;
    l.check_places()?;
    Ok(l.program)
}

/// What is known at compile time: algorithms are chosen by it.
fn literals(l: &mut Lowering<'_>) -> Result<(), LowerError> {
    for id in l.graph.node_ids() {
        let known = match &l.graph.node(id).op {
            Op::Constant { .. } | Op::ReadVar { .. } => true,
            Op::Reshape { .. } => l.literal(l.operand(id, 0)).is_some(),
            _ => false,
        };
        if l.is_live(id) && known {
            node(l, id)?;
            l.finish_node(id);
        }
    }
    Ok(())
}

/// Wishes of users for where their operands are made, users first.
fn reserve(l: &mut Lowering<'_>) {
    let mut wishes = halo::Wishes::default();
    let live: Vec<NodeId> = l.graph.node_ids().filter(|&id| l.is_live(id)).collect();
    live.iter().for_each(|&id| wishes.note(l, id));
    for &id in live.iter().rev() {
        wishes.grant(l, id);
        match &l.graph.node(id).op {
            Op::Concat { axis } => concat::reserve_parts(l, &wishes, id, *axis),
            Op::Transpose { perm } => movement::reserve_transposed(l, id, perm),
            Op::Reshape { .. } => {
                let (v, x) = (l.graph.value(id), l.operand(id, 0));
                if let Some(view) = l.reservation(v) {
                    let view = view.reshaped(&l.dims(x));
                    l.reserve(x, view);
                }
            }
            _ => {}
        }
    }
}

/// Outputs that were not made in their place, and the new values of variables.
fn finish(l: &mut Lowering<'_>) -> Result<(), LowerError> {
    let graph = l.graph;
    for (i, (name, v)) in graph.outputs().iter().enumerate() {
        let from = l.view(*v);
        let to = l.output(i, &from);
        l.copy(format!("output {name}"), &from, &to);
    }
    let mut assigned = Vec::new();
    for &id in graph.effects() {
        if let Op::Assign { variable } = &graph.node(id).op {
            let mut from = l.view(l.operand(id, 0));
            let to = l.state_view(variable)?;
            if l.is_state(&from) && from.storage != to.storage {
                // that variable may get its new value first
                let kept = l.temporary(from.dtype, &from.dims);
                l.copy(format!("keep {variable}"), &from, &kept);
                from = kept;
            }
            assigned.push((variable, from, to));
        }
    }
    for (variable, from, to) in assigned {
        l.copy(format!("assign {variable}"), &from, &to);
    }
    Ok(())
}

fn node(l: &mut Lowering<'_>, id: NodeId) -> Result<(), LowerError> {
    let graph = l.graph;
    let node = graph.node(id);
    let v = graph.value(id);
    match &node.op {
        // bound with the signature
        Op::Placeholder { .. } | Op::Group {} => Ok(()),
        Op::Constant { value } => {
            l.bind_literal(v, value.clone());
            Ok(())
        }
        Op::ReadVar { variable, .. } => l.bind_variable(v, variable),
        Op::Assign { .. } => {
            let view = l.view(l.operand(id, 0));
            l.bind(v, view);
            Ok(())
        }
        Op::Reshape { .. } => movement::reshape(l, id),
        Op::Transpose { perm } => movement::transpose(l, id, perm),
        Op::Broadcast { axes, .. } => movement::broadcast(l, id, axes),
        Op::Slice { start, stride, .. } => movement::slice(l, id, start, stride),
        Op::Pad { padding, interior, value } => movement::pad(l, id, padding, interior, value.0),
        Op::Concat { axis } => concat::lower(l, id, *axis),
        Op::Reverse { axes } => movement::reverse(l, id, axes),
        Op::Reduce { axes, reducer } => reduce::lower(l, id, axes, *reducer, &ScalarExpr::identity()),
        Op::FusedReduce { axes, reducer, prologue } => reduce::lower(l, id, axes, *reducer, prologue),
        Op::ReduceWindow { window, strides, padding, dilation, reducer } => {
            window::reduce_window(l, id, window, strides, padding, dilation, *reducer)
        }
        Op::Dot { lhs_batch, rhs_batch, lhs_contract, rhs_contract } => {
            let axes = dot::DotAxes { lhs_batch, rhs_batch, lhs_contract, rhs_contract };
            dot::lower(l, id, axes, &ScalarExpr::identity())
        }
        Op::FusedDot { lhs_batch, rhs_batch, lhs_contract, rhs_contract, epilogue } => {
            dot::lower(l, id, dot::DotAxes { lhs_batch, rhs_batch, lhs_contract, rhs_contract }, epilogue)
        }
        Op::FusedAttention { q_batch, k_batch, v_batch, q_depth, k_depth, v_keys, epilogue } => {
            let axes =
                attention::AttentionAxes { batch: [q_batch, k_batch, v_batch], named: [*q_depth, *k_depth, *v_keys] };
            attention::attention(l, id, axes, epilogue)
        }
        Op::Conv { strides, padding, lhs_dilation, rhs_dilation, groups, layout } => {
            let attributes =
                ConvAttributes { strides, padding, lhs_dilation, rhs_dilation, groups: *groups, layout: *layout };
            conv::lower(l, id, attributes, &ScalarExpr::identity())
        }
        Op::FusedConv { strides, padding, lhs_dilation, rhs_dilation, groups, layout, epilogue } => {
            let attributes =
                ConvAttributes { strides, padding, lhs_dilation, rhs_dilation, groups: *groups, layout: *layout };
            conv::lower(l, id, attributes, epilogue)
        }
        Op::Iota { axis, .. } => source::iota(l, id, *axis),
        Op::RandomBits { seed, .. } => source::random_bits(l, id, *seed),
        Op::Gather { axis } => index::gather(l, id, *axis),
        Op::Scatter { axis, mode } => index::scatter(l, id, *axis, *mode),
        Op::ArgReduce { axis, extreme } => extreme::arg_reduce(l, id, *axis, *extreme),
        Op::TopK { k, axis, extreme } => top_k::top_k(l, id, *k, *axis, *extreme),
        Op::SelectAndScatter { window, strides, padding, extreme } => {
            select_and_scatter::select_and_scatter(l, id, window, strides, padding, *extreme)
        }
        Op::Quantize { dtype, axis } => {
            let expr = quantize::quantize(*dtype, l.dtype(l.operand(id, 0)));
            quantize::along_axis(l, id, *axis, &expr)
        }
        Op::Dequantize { axis } => {
            let expr = quantize::dequantize(l.dtype(l.operand(id, 0)), l.dtype(v));
            quantize::along_axis(l, id, *axis, &expr)
        }
        Op::BatchNorm { axis, epsilon } => quantize::along_axis(l, id, *axis, &quantize::batch_norm(epsilon.0)),
        Op::Softmax { axis } => normalize::softmax(l, id, *axis, false),
        Op::LogSoftmax { axis } => normalize::softmax(l, id, *axis, true),
        Op::LayerNorm { axis, epsilon } => normalize::layer_norm(l, id, *axis, epsilon.0),
        Op::Recurrent { cell, activations, reverse } => recurrent::recurrent(l, id, *cell, activations, *reverse),
        Op::Lrn { size, alpha, beta, bias, axis } => {
            let numbers = lrn::Lrn { size: *size, alpha: alpha.0, beta: beta.0, bias: bias.0 };
            lrn::lrn(l, id, *axis, numbers)
        }
        elementwise_op!() | Op::FusedElementwise { .. } => match node.op.scalar() {
            Some(expr) => elementwise::lower(l, id, &expr),
            None => Err(LowerError::Unsupported {
                op: node.op.mnemonic(),
                reason: "the op table has no formula for it: this is a bug in Kiln, please report it".into(),
                location: node.location.clone(),
            }),
        },
    }
}
