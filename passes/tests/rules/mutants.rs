//! Graphs that differ from a given one in one place, in a way that mistakes do.

use kiln_ir::attribute::{Padding, Real, Reducer};
use kiln_ir::scalar::ScalarExpr;
use kiln_ir::{Graph, NodeId, Op, Tensor, Value};

/// The graphs with one mistake of each kind that there is a place for, of the same type as `graph`.
pub fn mutants(graph: &Graph, seed: u64) -> Vec<Graph> {
    let mut all = Vec::new();
    for id in graph.node_ids() {
        let node = graph.node(id);
        for op in other_ops(&node.op, seed) {
            all.extend(with(graph, id, op, &node.operands));
        }
        // Operands in another order, where that is another function.
        let ordered = matches!(node.op, Op::Sub {} | Op::Div {} | Op::Concat { .. } | Op::Dot { .. });
        let reversed: Vec<Value> = node.operands.iter().rev().copied().collect();
        if ordered && reversed[..] != node.operands[..] {
            all.extend(with(graph, id, node.op.clone(), &reversed));
        }
    }
    all.extend(other_outputs(graph));
    all
}

/// Ops that stand for a mistake in `op`.
fn other_ops(op: &Op, seed: u64) -> Vec<Op> {
    match op {
        Op::Constant { value } => other_element(value.tensor(), seed).into_iter().collect(),
        Op::Add {} => vec![Op::Sub {}],
        Op::Sub {} => vec![Op::Add {}],
        Op::Mul {} => vec![Op::Add {}],
        Op::Div {} => vec![Op::Mul {}],
        Op::Neg {} => vec![Op::Abs {}],
        Op::Reciprocal {} | Op::Sqrt {} | Op::Rsqrt {} | Op::Relu {} | Op::Abs {} => vec![Op::Neg {}],
        Op::Sigmoid {} | Op::Softplus {} | Op::Silu {} | Op::Mish {} => vec![Op::Tanh {}],
        Op::Gelu {} => vec![Op::GeluTanh {}],
        Op::GeluTanh {} => vec![Op::Gelu {}],
        Op::HardSwish {} => vec![Op::Silu {}],
        Op::Softmax { axis } => vec![Op::LogSoftmax { axis: *axis }],
        Op::Clip { min, max } => {
            let moved = |v: Real| Real(v.0 + 0.25);
            vec![Op::Clip { min: moved(*min), max: moved(*max) }]
        }
        Op::LayerNorm { axis, epsilon } => vec![Op::LayerNorm { axis: *axis, epsilon: Real(epsilon.0 + 1.0) }],
        Op::Transpose { perm } => swapped(perm).into_iter().map(|perm| Op::Transpose { perm }).collect(),
        Op::Reduce { axes, reducer } => vec![Op::Reduce { axes: axes.clone(), reducer: other_reducer(*reducer) }],
        Op::Slice { start, limit, stride } => shifted_slice(start, limit, stride),
        Op::Pad { padding, interior, value } => shifted(padding)
            .map(|padding| Op::Pad { padding, interior: interior.clone(), value: *value })
            .into_iter()
            .chain([Op::Pad { padding: padding.clone(), interior: interior.clone(), value: Real(value.0 + 1.0) }])
            .collect(),
        Op::ReduceWindow { window, strides, padding, dilation, reducer } => {
            let of = |padding: Vec<Padding>, reducer| Op::ReduceWindow {
                window: window.clone(),
                strides: strides.clone(),
                dilation: dilation.clone(),
                padding,
                reducer,
            };
            let other = of(padding.clone(), other_reducer(*reducer));
            shifted(padding).map(|p| of(p, *reducer)).into_iter().chain([other]).collect()
        }
        Op::Conv { strides, padding, lhs_dilation, rhs_dilation, groups, layout } => shifted(padding)
            .map(|padding| Op::Conv {
                strides: strides.clone(),
                padding,
                lhs_dilation: lhs_dilation.clone(),
                rhs_dilation: rhs_dilation.clone(),
                groups: *groups,
                layout: *layout,
            })
            .into_iter()
            .collect(),
        Op::Dot { lhs_batch, rhs_batch, lhs_contract, rhs_contract } => {
            let of = |rhs_contract: Vec<usize>| Op::Dot {
                lhs_batch: lhs_batch.clone(),
                rhs_batch: rhs_batch.clone(),
                lhs_contract: lhs_contract.clone(),
                rhs_contract,
            };
            swapped(rhs_contract).map(of).into_iter().collect()
        }
        Op::FusedElementwise { expr } => vec![Op::FusedElementwise { expr: plus_one(expr) }],
        Op::FusedReduce { axes, reducer, prologue } => {
            vec![Op::FusedReduce { axes: axes.clone(), reducer: *reducer, prologue: plus_one(prologue) }]
        }
        Op::FusedDot { epilogue, .. } | Op::FusedConv { epilogue, .. } => {
            op.with_epilogue(plus_one(epilogue)).into_iter().collect()
        }
        Op::FusedAttention { .. } => {
            // 1 more for each score is the same to a softmax
            let mut other = op.clone();
            if let Op::FusedAttention { epilogue, .. } = &mut other {
                *epilogue = format!("({epilogue}) * 2").parse().unwrap_or_else(|e| panic!("{epilogue}: {e}"));
            }
            vec![other]
        }
        _ => Vec::new(),
    }
}

/// The expression, and 1 more: read from its own text.
fn plus_one(expr: &ScalarExpr) -> ScalarExpr {
    format!("({expr}) + 1").parse().unwrap_or_else(|e| panic!("{expr}: {e}"))
}

/// The constant with one element changed.
fn other_element(tensor: &Tensor, seed: u64) -> Option<Op> {
    let mut values = tensor.to_f64_vec();
    let at = (seed as usize).checked_rem(values.len())?;
    values[at] = if tensor.dtype() == kiln_ir::DType::Bool { 1.0 - values[at] } else { values[at] + 1.0 };
    let value = Tensor::from_f64(tensor.dtype(), tensor.dims(), &values).ok()?.into();
    Some(Op::Constant { value })
}

fn other_reducer(reducer: Reducer) -> Reducer {
    match reducer {
        Reducer::Sum => Reducer::Prod,
        Reducer::Max => Reducer::Min,
        Reducer::And => Reducer::Or,
        Reducer::Or => Reducer::And,
        _ => Reducer::Sum,
    }
}

/// The list with its first and last entries swapped.
fn swapped(list: &[usize]) -> Option<Vec<usize>> {
    let mut other = list.to_vec();
    (list.len() > 1).then(|| {
        other.swap(0, list.len() - 1);
        other
    })
}

/// Padding of the same extent one element further on, along the last axis where there is some.
fn shifted(padding: &[Padding]) -> Option<Vec<Padding>> {
    let mut other = padding.to_vec();
    let axis = padding.iter().rposition(|p| p.low > 0 || p.high > 0)?;
    let by = if other[axis].high > 0 { 1 } else { -1 };
    other[axis] = Padding { low: other[axis].low + by, high: other[axis].high - by };
    Some(other)
}

/// The slice one element further back, or on: what is out of range does not become a mutant.
fn shifted_slice(start: &[usize], limit: &[usize], stride: &[usize]) -> Vec<Op> {
    let moved = |by: isize| {
        let (mut start, mut limit) = (start.to_vec(), limit.to_vec());
        [&mut start, &mut limit]
            .into_iter()
            .filter_map(|list| list.first_mut())
            .for_each(|v| *v = v.wrapping_add_signed(by));
        Op::Slice { start, limit, stride: stride.to_vec() }
    };
    [-1, 1].map(moved).into()
}

/// `graph` with another op and operands at `id`; `None` where that has another type.
fn with(graph: &Graph, id: NodeId, op: Op, operands: &[Value]) -> Option<Graph> {
    let mut other = Graph::new(graph.name());
    for node_id in graph.node_ids() {
        let node = graph.node(node_id);
        let (op, operands) = if node_id == id { (op.clone(), operands) } else { (node.op.clone(), &node.operands[..]) };
        let made = other.add(op, operands, node.name.clone(), None).ok()?;
        if other.node(made).types != node.types {
            return None;
        }
    }
    for (name, value) in graph.outputs() {
        other.add_output(name, *value).ok()?;
    }
    Some(other)
}

/// `graph` with the negative of its first output, where that is another function.
fn other_outputs(graph: &Graph) -> Option<Graph> {
    let mut builder = kiln_ir::Builder::extend(graph.clone());
    let (_, value) = graph.outputs().first()?;
    if !graph.ty(*value).dtype.is_float() {
        return None;
    }
    let one = builder.scalar_like(*value, 1.0);
    let more = builder.add(*value, one);
    let mut other = Graph::new(graph.name());
    for id in builder.graph().node_ids() {
        let node = builder.graph().node(id);
        other.add(node.op.clone(), &node.operands, node.name.clone(), None).ok()?;
    }
    for (i, (name, value)) in graph.outputs().iter().enumerate() {
        other.add_output(name, if i == 0 { more } else { *value }).ok()?;
    }
    Some(other)
}
