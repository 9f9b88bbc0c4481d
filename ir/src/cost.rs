//! What an op costs, from its types alone: arithmetic and memory traffic.
//!
//! These are counts, not times. Profiles divide them by measured times; the e-graph weighs them by a machine's
//! peak rates ([`Cost::seconds`]) where nothing was measured.

use std::iter::Sum;
use std::ops::Add;

use crate::elementwise_op;
use crate::graph::{Graph, NodeId};
use crate::infer::conv_dims;
use crate::ops::Op;
use crate::scalar::{BinaryFn, ScalarExpr, ScalarNode, UnaryFn};
use crate::types::TensorType;

/// Arithmetic and memory traffic of an op.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Scalar operations. A multiply-add counts two; functions without an instruction of their own count the
    /// operations of a usual implementation (exp 12, say). Comparisons and selections count like arithmetic.
    pub flops: u64,
    /// Bytes of operands read, each element once.
    pub bytes_read: u64,
    /// Bytes of results written.
    pub bytes_written: u64,
}

impl Cost {
    /// Bytes read and written.
    pub fn bytes(&self) -> u64 {
        self.bytes_read.saturating_add(self.bytes_written)
    }

    /// Time on a machine of these peak rates (per second) that overlaps arithmetic with memory traffic: the roofline
    /// of Williams, Waterman & Patterson 2009.
    pub fn seconds(&self, flops_rate: f64, bytes_rate: f64) -> f64 {
        (self.flops as f64 / flops_rate).max(self.bytes() as f64 / bytes_rate)
    }
}

impl Add for Cost {
    type Output = Cost;

    fn add(self, other: Cost) -> Cost {
        Cost {
            flops: self.flops.saturating_add(other.flops),
            bytes_read: self.bytes_read.saturating_add(other.bytes_read),
            bytes_written: self.bytes_written.saturating_add(other.bytes_written),
        }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::default(), Add::add)
    }
}

/// The cost of a node; `None` where an extent is symbolic.
pub fn node_cost(graph: &Graph, id: NodeId) -> Option<Cost> {
    let node = graph.node(id);
    let operands: Vec<TensorType> = node.operands.iter().map(|&v| graph.ty(v).clone()).collect();
    cost(&node.op, &operands, &node.types)
}

/// The cost of every node; `None` where an extent is symbolic.
pub fn graph_cost(graph: &Graph) -> Option<Cost> {
    graph.node_ids().map(|id| node_cost(graph, id)).sum()
}

/// Multiply-accumulates of the convolutions and matrix products of `graph`, fused or not: what is usually published as a network's size,
/// some say as its "FLOPs". Products with padding count, those inside recurrent layers do not. `None` where an extent is symbolic.
pub fn multiply_accumulates(graph: &Graph) -> Option<u64> {
    let of = |id| {
        let node = graph.node(id);
        let Some(product) = node.op.contraction() else { return Some(0) };
        let operands: Vec<TensorType> = node.operands.iter().take(2).map(|&v| graph.ty(v).clone()).collect();
        Some(cost(&product, &operands, &node.types)?.flops / 2)
    };
    graph.node_ids().map(of).sum()
}

/// The cost of `op` for these operand and result types; `None` where an extent is symbolic.
pub fn cost(op: &Op, operands: &[TensorType], results: &[TensorType]) -> Option<Cost> {
    let written = bytes(results)?;
    let read = bytes(operands)?;
    let out = elements(results.first());
    let first = elements(operands.first());
    let streamed = |flops: Option<u64>| Some(Cost { flops: flops?, bytes_read: read, bytes_written: written });
    let each = |per_element: u64| streamed(out?.checked_mul(per_element));
    match op {
        // Nothing happens at run time: they name storage.
        Op::Placeholder { .. }
        | Op::Constant { .. }
        | Op::ReadVar { .. }
        | Op::Assign { .. }
        | Op::Group {}
        | Op::Reshape { .. } => Some(Cost::default()),

        // 20 rounds of add, rotate and exclusive or make two words.
        Op::RandomBits { .. } => each(30),
        Op::Iota { .. } => each(1),

        elementwise_op!() | Op::FusedElementwise { .. } => each(expression_flops(&op.scalar()?)),

        // Movement reads only what it keeps.
        Op::Transpose { .. } | Op::Broadcast { .. } | Op::Pad { .. } | Op::Concat { .. } | Op::Reverse { .. } => {
            each(0)
        }
        Op::Slice { .. } => Some(Cost { flops: 0, bytes_read: written, bytes_written: written }),
        Op::Gather { .. } => {
            let indices = bytes(operands.get(1..)?)?;
            Some(Cost { flops: 0, bytes_read: written.checked_add(indices)?, bytes_written: written })
        }
        // Copies x, then combines each update with one element.
        Op::Scatter { .. } => {
            let updates = operands.get(2)?;
            let again = Cost {
                flops: elements(Some(updates))?,
                bytes_read: bytes(std::slice::from_ref(updates))?,
                bytes_written: bytes(std::slice::from_ref(updates))?,
            };
            Some(streamed(Some(0))? + again)
        }

        Op::Reduce { .. } | Op::ArgReduce { .. } => streamed(first),
        Op::FusedReduce { prologue, .. } => {
            let joined = joined_elements(operands)?;
            streamed(joined.checked_mul(expression_flops(prologue).checked_add(1)?))
        }
        // A comparison sort of each line.
        Op::TopK { axis, .. } => {
            let extent = operands.first()?.dims.get(*axis)?.fixed()?;
            let depth = u64::from(usize::BITS - extent.leading_zeros());
            streamed(first?.checked_mul(depth))
        }
        Op::ReduceWindow { window, .. } => each(product(window)?),
        Op::SelectAndScatter { window, .. } => {
            let places = elements(operands.get(1))?;
            streamed(places.checked_mul(product(window)?.checked_add(1)?))
        }

        Op::Dot { lhs_contract, .. } => each(2u64.checked_mul(contracted(operands.first()?, lhs_contract)?)?),
        Op::FusedDot { lhs_contract, epilogue, .. } => {
            let product = 2u64.checked_mul(contracted(operands.first()?, lhs_contract)?)?;
            each(product.checked_add(expression_flops(epilogue))?)
        }
        // Its body, with the scores in cache.
        Op::FusedAttention { q_depth, v_keys, epilogue, .. } => {
            let (q, v) = (operands.first()?, operands.get(2)?);
            let (depth, keys) = (contracted(q, &[*q_depth])?, contracted(v, &[*v_keys])?);
            let scores = elements(Some(q))?.checked_div(depth)?.checked_mul(keys)?;
            let each_score = 2u64.checked_mul(depth)?.checked_add(expression_flops(epilogue) + 3 + EXP + DIVIDE)?;
            let products = out?.checked_mul(2)?.checked_mul(keys)?;
            streamed(scores.checked_mul(each_score)?.checked_add(products))
        }
        Op::Conv { .. } => each(conv_flops(op, operands)?),
        Op::FusedConv { epilogue, .. } => each(conv_flops(op, operands)?.checked_add(expression_flops(epilogue))?),

        Op::Quantize { .. } => each(5),
        Op::Dequantize { .. } => each(2),

        // Their bodies, with what lies between the steps in cache.
        Op::Softmax { .. } => each(3 + EXP + DIVIDE),
        Op::LogSoftmax { .. } => each(4 + EXP),
        Op::LayerNorm { .. } => each(8),
        Op::BatchNorm { .. } => each(3),
        Op::Lrn { size, .. } => each((*size as u64).checked_add(4 + POW + DIVIDE)?),
        // The recurrent weights are read again at each step.
        Op::Recurrent { cell, activations, .. } => {
            let units = operands.get(2)?.dims.get(1)?.fixed()? as u64;
            let updates = cell.updates(activations, operands.len() > 4);
            let scalar: u64 = updates.iter().map(|update| expression_flops(&update.expr)).sum();
            let product = 2u64.checked_mul(units)?.checked_mul(cell.gates() as u64)?;
            let again = operands.first()?.dims.first()?.fixed()?.saturating_sub(1) as u64;
            let weights = bytes(std::slice::from_ref(operands.get(1)?))?;
            let once = each(product.checked_add(scalar)?)?;
            Some(once + Cost { bytes_read: weights.checked_mul(again)?, ..Cost::default() })
        }
    }
}

fn elements(ty: Option<&TensorType>) -> Option<u64> {
    ty.map_or(Some(0), |ty| ty.element_count()?.try_into().ok())
}

fn bytes(types: &[TensorType]) -> Option<u64> {
    types.iter().try_fold(0u64, |sum, ty| sum.checked_add(ty.byte_count()?.try_into().ok()?))
}

fn product(extents: &[usize]) -> Option<u64> {
    extents.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64))
}

/// Products summed into one element of a matrix product.
fn contracted(lhs: &TensorType, axes: &[usize]) -> Option<u64> {
    axes.iter().try_fold(1u64, |n, &a| n.checked_mul(lhs.dims.get(a)?.fixed()? as u64))
}

/// Flops for one element of a convolution's result: every weight of its filter, also where it meets padding, but not
/// where it meets the zeros of a transposed convolution.
fn conv_flops(op: &Op, operands: &[TensorType]) -> Option<u64> {
    let Some(Op::Conv { layout, lhs_dilation, .. }) = op.contraction() else { return None };
    let w = operands.get(1)?;
    let filters = w.dims.get(conv_dims(layout, w.rank()).2)?.fixed()? as u64;
    let zeros = product(&lhs_dilation)?.max(1);
    Some(2u64.checked_mul(elements(Some(w))? / filters.max(1))?.div_ceil(zeros))
}

/// Elements of the extents that operands of one rank broadcast to.
fn joined_elements(operands: &[TensorType]) -> Option<u64> {
    let rank = operands.first()?.rank();
    (0..rank).try_fold(1u64, |n, axis| {
        let extents: Option<Vec<usize>> = operands.iter().map(|ty| ty.dims.get(axis)?.fixed()).collect();
        let extent = extents?.into_iter().find(|&d| d != 1).unwrap_or(1);
        n.checked_mul(extent as u64)
    })
}

// Operations of a usual vector implementation: range reduction, a polynomial, reconstruction.
const EXP: u64 = 12;
const LOG: u64 = 14;
const SIN: u64 = 16;
const TANH: u64 = 18;
const ERF: u64 = 18;
const ATAN: u64 = 14;
const POW: u64 = LOG + EXP + 4;
// Division and square root have a quarter of the throughput of a multiplication, or less.
const DIVIDE: u64 = 4;

/// Operations that one element of an expression takes, by the measure of [`Cost::flops`].
pub fn expression_flops(expr: &ScalarExpr) -> u64 {
    let of = |node: &ScalarNode| match node {
        ScalarNode::Arg(_) | ScalarNode::Const(_) => 0,
        ScalarNode::Select(..) | ScalarNode::Convert(..) => 1,
        ScalarNode::Unary(f, _) => match f {
            UnaryFn::Neg
            | UnaryFn::Abs
            | UnaryFn::Sign
            | UnaryFn::Floor
            | UnaryFn::Ceil
            | UnaryFn::Round
            | UnaryFn::Trunc
            | UnaryFn::Not
            | UnaryFn::IsNan => 1,
            UnaryFn::Sqrt | UnaryFn::Reciprocal => DIVIDE,
            UnaryFn::Rsqrt => 2 * DIVIDE,
            UnaryFn::Exp => EXP,
            UnaryFn::Log => LOG,
            UnaryFn::Log1p => LOG + DIVIDE,
            UnaryFn::Atan => ATAN,
            UnaryFn::Sin | UnaryFn::Cos => SIN,
            UnaryFn::Tanh => TANH,
            UnaryFn::Erf => ERF,
        },
        ScalarNode::Binary(f, ..) => match f {
            BinaryFn::Div => DIVIDE,
            BinaryFn::Rem => 2 * DIVIDE,
            BinaryFn::Pow => POW,
            BinaryFn::Add
            | BinaryFn::Sub
            | BinaryFn::Mul
            | BinaryFn::Max
            | BinaryFn::Min
            | BinaryFn::Eq
            | BinaryFn::Ne
            | BinaryFn::Lt
            | BinaryFn::Le
            | BinaryFn::Gt
            | BinaryFn::Ge
            | BinaryFn::And
            | BinaryFn::Or
            | BinaryFn::Xor => 1,
        },
    };
    expr.nodes().iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::{ConvLayout, Padding};
    use crate::dtype::DType;
    use crate::infer::infer;
    use crate::types::Dim;

    fn f32s(dims: &[usize]) -> TensorType {
        TensorType::fixed(DType::F32, dims)
    }

    #[track_caller]
    fn cost_of(op: &Op, operands: &[TensorType]) -> Cost {
        cost(op, operands, &infer(op, operands).unwrap()).unwrap()
    }

    fn conv(stride: usize, pad: i64, lhs_dilation: usize, groups: usize, layout: ConvLayout) -> Op {
        Op::Conv {
            strides: vec![stride; 2],
            padding: vec![Padding::same(pad); 2],
            lhs_dilation: vec![lhs_dilation; 2],
            rhs_dilation: Vec::new(),
            groups,
            layout,
        }
    }

    #[test]
    fn the_first_convolution_of_resnet_has_its_published_118_million_multiply_adds() {
        let first =
            cost_of(&conv(2, 3, 1, 1, ConvLayout::ChannelsFirst), &[f32s(&[1, 3, 224, 224]), f32s(&[64, 3, 7, 7])]);
        assert_eq!(first.flops, 2 * 118_013_952);
        assert_eq!(first.bytes(), 4 * (3 * 224 * 224 + 64 * 3 * 49 + 64 * 112 * 112));
        let last =
            cost_of(&conv(2, 3, 1, 1, ConvLayout::ChannelsLast), &[f32s(&[1, 224, 224, 3]), f32s(&[7, 7, 3, 64])]);
        assert_eq!(first, last);
    }

    #[test]
    fn groups_divide_the_work_and_inserted_zeros_are_free() {
        let depthwise =
            cost_of(&conv(1, 1, 1, 8, ConvLayout::ChannelsFirst), &[f32s(&[1, 8, 5, 5]), f32s(&[8, 1, 3, 3])]);
        assert_eq!(depthwise.flops, 2 * 8 * 25 * 9);
        // A transposed convolution by 2: each of 4 × 4 inputs meets each of 2 × 2 weights once.
        let up = cost_of(&conv(1, 1, 2, 1, ConvLayout::ChannelsFirst), &[f32s(&[1, 1, 4, 4]), f32s(&[1, 1, 2, 2])]);
        assert_eq!(up.flops, 2 * 8 * 8);
    }

    #[test]
    fn a_matrix_product_costs_2mnk_for_each_batch() {
        let op = Op::Dot { lhs_batch: vec![0], rhs_batch: vec![0], lhs_contract: vec![2], rhs_contract: vec![1] };
        assert_eq!(cost_of(&op, &[f32s(&[2, 3, 5]), f32s(&[2, 5, 7])]).flops, 2 * 2 * 3 * 5 * 7);
        let fused = Op::FusedDot {
            lhs_batch: vec![0],
            rhs_batch: vec![0],
            lhs_contract: vec![2],
            rhs_contract: vec![1],
            epilogue: "max(a0 + a1, 0)".parse().unwrap(),
        };
        let with_bias = cost_of(&fused, &[f32s(&[2, 3, 5]), f32s(&[2, 5, 7]), f32s(&[1, 1, 7])]);
        assert_eq!(with_bias.flops, 2 * 2 * 3 * 5 * 7 + 2 * 2 * 3 * 7);
        assert_eq!(with_bias.bytes_read, 4 * (30 + 70 + 7));
    }

    #[test]
    fn a_view_costs_nothing_and_a_slice_reads_what_it_keeps() {
        let reshape = Op::Reshape { dims: vec![Dim::Fixed(6)] };
        assert_eq!(cost_of(&reshape, &[f32s(&[2, 3])]), Cost::default());
        let slice = Op::Slice { start: vec![10], limit: vec![20], stride: vec![] };
        assert_eq!(cost_of(&slice, &[f32s(&[1000])]).bytes(), 80);
        let rows = cost_of(&Op::Gather { axis: 0 }, &[f32s(&[30_000, 384]), TensorType::fixed(DType::I64, &[128])]);
        assert_eq!(rows.bytes_read, 128 * 384 * 4 + 128 * 8);
    }

    #[test]
    fn fusing_saves_bytes_and_keeps_flops() {
        let x = f32s(&[64, 64]);
        let relu = cost_of(&Op::Relu {}, std::slice::from_ref(&x));
        let add = cost_of(&Op::Add {}, &[x.clone(), x.clone()]);
        let fused = Op::FusedElementwise { expr: "max(a0 + a1, 0)".parse().unwrap() };
        let fused = cost_of(&fused, &[x.clone(), x]);
        assert_eq!(fused.flops, (relu + add).flops);
        assert!(fused.bytes() < (relu + add).bytes());
    }

    #[test]
    fn multiply_accumulates_are_those_of_products_and_convolutions_alone_fused_or_not() {
        let mut b = crate::Builder::new("products");
        let x = b.placeholder("x", DType::F32, &[1, 3, 8, 8].map(Dim::Fixed));
        let w = b.placeholder("w", DType::F32, &[4, 3, 3, 3].map(Dim::Fixed));
        let y = b.conv(x, w, &crate::ConvOptions::default());
        let y = b.relu(y);
        let y = b.reshape(y, &[Dim::Fixed(4), Dim::Fixed(36)]);
        let m = b.placeholder("m", DType::F32, &[36, 5].map(Dim::Fixed));
        let z = b.matmul(y, m);
        let (bias, epilogue) = (b.broadcast_to(z, &[4, 5].map(Dim::Fixed)), "max(a0 + a1, 0)".parse().unwrap());
        let fused = Op::FusedDot {
            lhs_batch: vec![],
            rhs_batch: vec![],
            lhs_contract: vec![1],
            rhs_contract: vec![0],
            epilogue,
        };
        let fused = b.add_op(fused, &[y, m, bias]);
        b.output("z", fused);
        let graph = b.finish().unwrap();
        assert_eq!(multiply_accumulates(&graph), Some(4 * 36 * 27 + 2 * 4 * 5 * 36));

        let mut b = crate::Builder::new("symbolic");
        let x = b.placeholder("x", DType::F32, &[Dim::symbol("n"), Dim::Fixed(2)]);
        let y = b.dot(x, x, &[], &[], &[1], &[1]);
        b.output("y", y);
        assert_eq!(multiply_accumulates(&b.finish().unwrap()), None);
    }

    #[test]
    fn symbolic_extents_have_no_cost_and_absurd_ones_do_not_overflow() {
        let x = TensorType::new(DType::F32, ["batch"]);
        assert_eq!(cost(&Op::Relu {}, std::slice::from_ref(&x), std::slice::from_ref(&x)), None);
        let huge = f32s(&[usize::MAX / 8]);
        assert_eq!(cost(&Op::Erf {}, std::slice::from_ref(&huge), std::slice::from_ref(&huge)), None);
    }

    #[test]
    fn the_roofline_is_the_slower_of_arithmetic_and_memory() {
        let c = Cost { flops: 100, bytes_read: 30, bytes_written: 10 };
        assert_eq!(c.seconds(10.0, 1.0), 40.0);
        assert_eq!(c.seconds(1.0, 10.0), 100.0);
    }
}
