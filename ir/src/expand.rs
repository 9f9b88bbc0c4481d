//! Bodies of the composite ops: what each L1 op is in terms of L0, built with the same builder as user code.
//!
//! Elementwise composites follow from their scalar expressions; L2 ops expand too, into the ops they were fused from.

use std::collections::BTreeMap;

use crate::attribute::{Cell, Padding, Reducer};
use crate::builder::{BuildErrors, Builder, WindowOptions};
use crate::dtype::DType;
use crate::elementwise_op;
use crate::graph::{Graph, GraphError, Value};
use crate::infer::{InferError, Violation};
use crate::ops::{Level, Op};
use crate::recurrence::{Source, Target};
use crate::scalar::{BinaryFn, ScalarExpr, ScalarNode, UnaryFn};
use crate::types::{Dim, TensorType};

/// The body of `op` over operands of these types as a graph of its own: inputs `a0, a1 …`, outputs `r0 …`.
pub fn body(op: &Op, operands: &[TensorType]) -> Result<Graph, BuildErrors> {
    let mut b = Builder::new(op.mnemonic());
    let inputs: Vec<Value> =
        operands.iter().enumerate().map(|(i, ty)| b.placeholder(&format!("a{i}"), ty.dtype, &ty.dims)).collect();
    let results = expand(op, &mut b, &inputs);
    for (i, r) in results.into_iter().enumerate() {
        b.output(&format!("r{i}"), r);
    }
    b.finish()
}

/// `graph` with every op above `to` replaced by its body. Names and locations stay with what replaces a node.
pub fn expand_graph(graph: &Graph, to: Level) -> Result<Graph, BuildErrors> {
    let mut b = Builder::new(graph.name());
    for (key, value) in graph.metadata() {
        b.graph_mut().set_metadata(key, value);
    }
    for variable in graph.variables() {
        if let Err(e) = b.graph_mut().add_variable(variable.clone()) {
            b.fail(e);
        }
    }
    let mut map: BTreeMap<Value, Value> = BTreeMap::new();
    for id in graph.node_ids() {
        let node = graph.node(id);
        let operands: Vec<Value> = node.operands.iter().filter_map(|v| map.get(v).copied()).collect();
        b.set_name(node.name.clone());
        b.set_location(node.location.clone());
        let results = if node.op.level() > to {
            expand(&node.op, &mut b, &operands)
        } else {
            b.add_node(node.op.clone(), &operands, node.types.len())
        };
        map.extend((0..).map(|result| Value { node: id, result }).zip(results));
    }
    for (name, v) in graph.outputs() {
        if let Some(&v) = map.get(v) {
            b.output(name, v);
        }
    }
    b.finish()
}

/// Adds the body of `op` and gives its results; an L0 op is its own body. Mistakes are recorded in the builder.
pub fn expand(op: &Op, b: &mut Builder, operands: &[Value]) -> Vec<Value> {
    // Operands that the op would not take are reported in terms of the op, not of its body.
    let types: Option<Vec<TensorType>> = operands.iter().map(|&v| b.ty(v).cloned()).collect();
    let checked = types.as_ref().map(|types| crate::infer::infer(op, types));
    if op.level() == Level::L0 || !matches!(checked, Some(Ok(_))) {
        return b.add_node(op.clone(), operands, result_count(op));
    }
    let x = operands;
    let result = match op {
        Op::Softmax { axis } => softmax(b, x[0], *axis),
        Op::LogSoftmax { axis } => log_softmax(b, x[0], *axis),
        Op::LayerNorm { axis, epsilon } => layer_norm(op, b, x, *axis, epsilon.0),
        Op::BatchNorm { axis, epsilon } => batch_norm(b, x, *axis, epsilon.0),
        Op::Recurrent { cell, activations, reverse } => return recurrent(op, b, x, *cell, activations, *reverse),
        Op::Lrn { size, alpha, beta, bias, axis } => lrn(b, x[0], *size, [alpha.0, beta.0, bias.0], *axis),

        elementwise_op!(composite) | Op::FusedElementwise { .. } => match op.scalar() {
            Some(expr) => expression(b, &expr, x),
            None => return Vec::new(),
        },
        Op::FusedConv { epilogue, .. } | Op::FusedDot { epilogue, .. } => match op.contraction() {
            Some(base) => {
                let inner = b.add_op(base, &x[..2]);
                expression(b, epilogue, &[&[inner], &x[2..]].concat())
            }
            None => return Vec::new(),
        },
        Op::FusedAttention { epilogue, .. } => match op.attention() {
            Some([scores, values]) => {
                let scores = b.add_op(scores, &x[..2]);
                let scores = expression(b, epilogue, &[&[scores], &x[3..]].concat());
                let keys = b.dims(scores).len().saturating_sub(1);
                let weights = softmax(b, scores, keys);
                b.add_op(values, &[weights, x[2]])
            }
            None => return Vec::new(),
        },
        Op::FusedReduce { axes, reducer, prologue } => {
            let inner = expression(b, prologue, x);
            b.reduce(inner, axes, *reducer)
        }

        Op::Placeholder { .. }
        | Op::Constant { .. }
        | Op::Iota { .. }
        | Op::RandomBits { .. }
        | elementwise_op!(primitive)
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Broadcast { .. }
        | Op::Slice { .. }
        | Op::Pad { .. }
        | Op::Concat { .. }
        | Op::Reverse { .. }
        | Op::Gather { .. }
        | Op::Scatter { .. }
        | Op::Reduce { .. }
        | Op::ArgReduce { .. }
        | Op::TopK { .. }
        | Op::ReduceWindow { .. }
        | Op::SelectAndScatter { .. }
        | Op::Dot { .. }
        | Op::Conv { .. }
        | Op::Quantize { .. }
        | Op::Dequantize { .. }
        | Op::ReadVar { .. }
        | Op::Assign { .. }
        | Op::Group {} => return b.add_node(op.clone(), operands, result_count(op)),
    };
    vec![result]
}

fn result_count(op: &Op) -> usize {
    match op {
        Op::TopK { .. } | Op::Recurrent { cell: Cell::Lstm, .. } => 2,
        Op::Group {} => 0,
        _ => 1,
    }
}

fn shifted(b: &mut Builder, x: Value, axis: usize) -> Value {
    let max = b.reduce_keep(x, &[axis], Reducer::Max);
    b.sub(x, max)
}

fn softmax(b: &mut Builder, x: Value, axis: usize) -> Value {
    let shifted = shifted(b, x, axis);
    let e = b.exp(shifted);
    let sum = b.reduce_keep(e, &[axis], Reducer::Sum);
    b.div(e, sum)
}

fn log_softmax(b: &mut Builder, x: Value, axis: usize) -> Value {
    let shifted = shifted(b, x, axis);
    let e = b.exp(shifted);
    let sum = b.reduce_keep(e, &[axis], Reducer::Sum);
    let log = b.log(sum);
    b.sub(shifted, log)
}

/// The variance is the mean of squared differences: a second pass over x, without the cancellation of E x² − (E x)².
fn layer_norm(op: &Op, b: &mut Builder, operands: &[Value], axis: usize, epsilon: f64) -> Value {
    let (x, scale, bias) = (operands[0], operands[1], operands[2]);
    let dims = b.dims(x);
    if dims[axis..].iter().any(|d| d.fixed().is_none()) {
        let found = format!("{} normalised from axis {axis} on", crate::infer::show_dims(&dims));
        return no_body(op, b, operands, found, "a mean over symbolic extents has no body: bind them first");
    }
    let axes: Vec<usize> = (axis..dims.len()).collect();
    let mean = b.mean_keep(x, &axes);
    let centred = b.sub(x, mean);
    let squares = b.mul(centred, centred);
    let variance = b.mean_keep(squares, &axes);
    let epsilon = b.scalar_like(x, epsilon);
    let raised = b.add(variance, epsilon);
    let factor = b.rsqrt(raised);
    let normalised = b.mul(centred, factor);
    let scaled = b.mul(normalised, scale);
    b.add(scaled, bias)
}

/// Records that `op` has no body for these operands.
fn no_body(op: &Op, b: &mut Builder, operands: &[Value], found: String, reason: &'static str) -> Value {
    let error = InferError {
        mnemonic: op.mnemonic(),
        violations: vec![(Violation { label: "body", found }, reason)],
        operands: operands.iter().filter_map(|&v| b.ty(v).cloned()).collect(),
    };
    b.fail(GraphError::Infer { error: Box::new(error), location: None })
}

/// Every step by itself, one after the other.
fn recurrent(
    op: &Op,
    b: &mut Builder,
    operands: &[Value],
    cell: Cell,
    activations: &[ScalarExpr],
    reverse: bool,
) -> Vec<Value> {
    let (x, w, more) = (operands[0], operands[1], &operands[3..]);
    let (dims, units) = (b.dims(x), b.dims(w)[1].fixed());
    let (Some(steps), Some(_), Some(units)) = (dims[0].fixed(), dims[1].fixed(), units) else {
        let found = format!("{} steps over a batch of {}", dims[0], dims[1]);
        let fail = no_body(op, b, operands, found, "steps over symbolic extents have no body: bind them first");
        return vec![fail; result_count(op)];
    };
    let vectors = more.get(usize::from(cell == Cell::Lstm)).copied();
    let updates = cell.updates(activations, vectors.is_some());
    let (mut hidden, mut state) = (operands[2], more.first().copied());
    let mut ys = vec![hidden; steps];
    for step in 0..steps {
        let at = if reverse { steps - 1 - step } else { step };
        let sums = b.slice_axis(x, 0, at, at + 1);
        let sums = b.reshape(sums, &dims[1..]);
        let product = |b: &mut Builder, h: Value| b.dot(h, w, &[], &[], &[1], &[1]);
        let (before, mut products) = (hidden, product(b, hidden));
        for update in &updates {
            let read: Vec<Value> = update
                .sources
                .iter()
                .map(|source| match *source {
                    Source::Input(gate) => b.slice_axis(sums, 1, gate * units, (gate + 1) * units),
                    Source::Product(gate) => b.slice_axis(products, 1, gate * units, (gate + 1) * units),
                    Source::Hidden => before,
                    Source::Cell => state.unwrap_or(before),
                    Source::Vector(n) => vectors.map_or(before, |v| b.slice_axis(v, 0, n, n + 1)),
                })
                .collect();
            let made = expression(b, &update.expr, &read);
            match update.target {
                Target::Cell => state = Some(made),
                // only gates that come after it read products again
                Target::Reset => {
                    let again = product(b, made);
                    let kept = b.slice_axis(products, 1, 0, 2 * units);
                    let last = b.slice_axis(again, 1, 2 * units, 3 * units);
                    products = b.concat(&[kept, last], 1);
                }
                Target::Hidden => hidden = made,
            }
        }
        ys[at] = b.reshape(hidden, &[&[Dim::Fixed(1)], &dims[1..2], &[Dim::Fixed(units)]].concat());
    }
    let y = if steps == 1 { ys[0] } else { b.concat(&ys, 0) };
    match (cell, state) {
        (Cell::Lstm, Some(state)) => vec![y, state],
        _ => vec![y],
    }
}

/// The factor scale / √(variance + epsilon) is a vector, worked out once a channel.
fn batch_norm(b: &mut Builder, operands: &[Value], axis: usize, epsilon: f64) -> Value {
    let (x, scale, bias, mean, variance) = (operands[0], operands[1], operands[2], operands[3], operands[4]);
    let dims = b.dims(x);
    let epsilon = b.scalar_like(x, epsilon);
    let raised = b.add(variance, epsilon);
    let deviation = b.sqrt(raised);
    let factor = b.div(scale, deviation);
    let [mean, factor, bias] = [mean, factor, bias].map(|v| b.broadcast_vector(v, &dims, axis));
    let centred = b.sub(x, mean);
    let scaled = b.mul(centred, factor);
    b.add(scaled, bias)
}

fn lrn(b: &mut Builder, x: Value, size: usize, [alpha, beta, bias]: [f64; 3], axis: usize) -> Value {
    let dims = b.dims(x);
    let rank = dims.len();
    // Channels that do not exist add nothing, however many of them the size speaks of.
    let most = dims[axis].fixed().map_or(usize::MAX, |channels| channels.saturating_sub(1));
    let (low, high) = (((size - 1) / 2).min(most), (size / 2).min(most));
    let mut window = WindowOptions { window: vec![1; rank], padding: vec![Padding::NONE; rank], ..Default::default() };
    window.window[axis] = low + 1 + high;
    window.padding[axis] = Padding { low: low as i64, high: high as i64 };
    let squares = b.mul(x, x);
    let sum = b.reduce_window(squares, &window, Reducer::Sum);
    let [weight, bias, beta] = [alpha / size as f64, bias, beta].map(|v| b.scalar_like(x, v));
    let weighted = b.mul(sum, weight);
    let base = b.add(weighted, bias);
    let divisor = b.pow(base, beta);
    b.div(x, divisor)
}

/// A scalar expression of operands that broadcast, as elementwise ops.
pub fn expression(b: &mut Builder, expr: &ScalarExpr, operands: &[Value]) -> Value {
    let types: Vec<TensorType> = operands.iter().filter_map(|&v| b.ty(v).cloned()).collect();
    let dtypes: Vec<DType> = types.iter().map(|ty| ty.dtype).collect();
    // Ill-typed expressions are refused by inference of the op that has them.
    let Ok(steps) = expr.types(&dtypes) else { return b.add_op(Op::FusedElementwise { expr: expr.clone() }, operands) };
    let mut dims: Vec<Dim> = types.first().map(|ty| ty.dims.clone()).unwrap_or_default();
    for ty in &types {
        for (have, new) in dims.iter_mut().zip(&ty.dims) {
            if *have == Dim::Fixed(1) {
                *have = new.clone();
            }
        }
    }
    let mut values: Vec<Value> = Vec::with_capacity(steps.len());
    for (node, dtype) in expr.nodes().iter().zip(steps) {
        let at = |i: u32| values[i as usize];
        let value = match *node {
            ScalarNode::Arg(i) => operands[i as usize],
            ScalarNode::Const(v) => b.scalar(dtype, v.0),
            ScalarNode::Unary(f, x) => unary(b, f, at(x)),
            ScalarNode::Binary(f, x, y) => binary(b, f, at(x), at(y)),
            ScalarNode::Select(c, x, y) => b.select(at(c), at(x), at(y)),
            ScalarNode::Convert(dtype, x) => b.convert(at(x), dtype),
        };
        values.push(value);
    }
    match values.last() {
        Some(&last) => b.broadcast_to(last, &dims),
        None => b.add_op(Op::FusedElementwise { expr: expr.clone() }, operands),
    }
}

fn unary(b: &mut Builder, f: UnaryFn, x: Value) -> Value {
    match f {
        UnaryFn::Neg => b.neg(x),
        UnaryFn::Abs => b.abs(x),
        UnaryFn::Sign => b.sign(x),
        UnaryFn::Floor => b.floor(x),
        UnaryFn::Ceil => b.ceil(x),
        UnaryFn::Round => b.round(x),
        UnaryFn::Trunc => {
            let zero = b.scalar_like(x, 0.0);
            let negative = b.less(x, zero);
            let (up, down) = (b.ceil(x), b.floor(x));
            b.select(negative, up, down)
        }
        UnaryFn::Sqrt => b.sqrt(x),
        UnaryFn::Rsqrt => b.rsqrt(x),
        UnaryFn::Reciprocal => b.reciprocal(x),
        UnaryFn::Exp => b.exp(x),
        UnaryFn::Log => b.log(x),
        UnaryFn::Log1p => b.log1p(x),
        UnaryFn::Sin => b.sin(x),
        UnaryFn::Cos => b.cos(x),
        UnaryFn::Atan => b.atan(x),
        UnaryFn::Tanh => b.tanh(x),
        UnaryFn::Erf => b.erf(x),
        UnaryFn::Not => b.not(x),
        UnaryFn::IsNan => b.is_nan(x),
    }
}

fn binary(b: &mut Builder, f: BinaryFn, x: Value, y: Value) -> Value {
    match f {
        BinaryFn::Add => b.add(x, y),
        BinaryFn::Sub => b.sub(x, y),
        BinaryFn::Mul => b.mul(x, y),
        BinaryFn::Div => b.div(x, y),
        BinaryFn::Rem => b.rem(x, y),
        BinaryFn::Pow => b.pow(x, y),
        BinaryFn::Max => b.maximum(x, y),
        BinaryFn::Min => b.minimum(x, y),
        BinaryFn::Eq => b.equal(x, y),
        BinaryFn::Ne => b.not_equal(x, y),
        BinaryFn::Lt => b.less(x, y),
        BinaryFn::Le => b.less_equal(x, y),
        BinaryFn::Gt => b.greater(x, y),
        BinaryFn::Ge => b.greater_equal(x, y),
        BinaryFn::And => b.and(x, y),
        BinaryFn::Or => b.or(x, y),
        BinaryFn::Xor => b.xor(x, y),
    }
}
