//! Shape and dtype inference: the types of an op's results from those of its operands, checking the op's
//! numbered constraints. All violations are reported at once.

mod contraction;
mod elementwise;
mod movement;
mod normalize;
mod recurrent;
mod reduction;
mod source;
mod window;

use std::fmt;

pub use contraction::{ConvAttributes, ConvWindow, DotDims, conv_dims, dot_dims, sum_dtype};
pub use window::{filled, padding_or_none, window_extent};

use crate::elementwise_op;
use crate::ops::Op;
use crate::types::TensorType;

/// One violated constraint of an op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The label in the op's row (`C1` …); `arity` where the number of operands is wrong.
    pub label: &'static str,
    /// What was found.
    pub found: String,
}

/// An op whose operands violate its constraints. Displays the op, each violated constraint with what was
/// found, and the operands' types.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InferError {
    /// The op's mnemonic.
    pub mnemonic: &'static str,
    /// What is wrong: label, constraint, found.
    pub violations: Vec<(Violation, &'static str)>,
    /// Types of the operands.
    pub operands: Vec<TensorType>,
}

impl fmt::Display for InferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` cannot take (", self.mnemonic)?;
        for (i, ty) in self.operands.iter().enumerate() {
            write!(f, "{}{ty}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str(")")?;
        for (v, constraint) in &self.violations {
            write!(f, "\n  {}: {constraint}; found {}", v.label, v.found)?;
        }
        Ok(())
    }
}

/// Collects violations.
#[derive(Default)]
pub(crate) struct Checker {
    violations: Vec<Violation>,
}

impl Checker {
    /// Records a violation of `label` unless `ok`; returns `ok`.
    pub(crate) fn check(&mut self, label: &'static str, ok: bool, found: impl FnOnce() -> String) -> bool {
        if !ok {
            self.violations.push(Violation { label, found: found() });
        }
        ok
    }

    /// Whether nothing was violated so far.
    pub(crate) fn clean(&self) -> bool {
        self.violations.is_empty()
    }
}

/// What inference of one op gives: result types, or `None` where violations were recorded.
type Inferred = Option<Vec<TensorType>>;

/// The types of `op`'s results for `operands`.
pub fn infer(op: &Op, operands: &[TensorType]) -> Result<Vec<TensorType>, InferError> {
    let row = op.row();
    let mut c = Checker::default();
    let n = operands.len();
    let arity = if row.variadic.is_some() { n >= row.operands.len() } else { n == row.operands.len() };
    let results = if c.check("arity", arity, || n.to_string()) { dispatch(op, operands, &mut c) } else { None };
    match results {
        Some(types) if c.clean() => Ok(types),
        _ => {
            let violations = c
                .violations
                .into_iter()
                .map(|v| {
                    let text = row.constraint(v.label).unwrap_or("the number of operands or their types");
                    (v, text)
                })
                .collect();
            Err(InferError { mnemonic: row.mnemonic, violations, operands: operands.to_vec() })
        }
    }
}

fn dispatch(op: &Op, t: &[TensorType], c: &mut Checker) -> Inferred {
    match op {
        Op::Placeholder { dtype, dims, .. } | Op::ReadVar { dtype, dims, .. } => {
            Some(vec![TensorType { dtype: *dtype, dims: dims.clone() }])
        }
        Op::Constant { value } => Some(vec![TensorType::fixed(value.tensor().dtype(), value.tensor().dims())]),
        Op::Iota { dtype, dims, axis } => source::iota(*dtype, dims, *axis, c),
        Op::RandomBits { dims, .. } => source::random_bits(dims, t, c),
        elementwise_op!() => elementwise::same_dims(op, t, c),
        Op::FusedElementwise { expr } => elementwise::fused(expr, t, c),
        Op::Reshape { dims } => movement::reshape(dims, t, c),
        Op::Transpose { perm } => movement::transpose(perm, t, c),
        Op::Broadcast { dims, axes } => movement::broadcast(dims, axes, t, c),
        Op::Slice { start, limit, stride } => movement::slice(start, limit, stride, t, c),
        Op::Pad { padding, interior, .. } => movement::pad(padding, interior, t, c),
        Op::Concat { axis } => movement::concat(*axis, t, c),
        Op::Reverse { axes } => movement::reverse(axes, t, c),
        Op::Gather { axis } => movement::gather(*axis, t, c),
        Op::Scatter { axis, mode } => movement::scatter(*axis, *mode, t, c),
        Op::Reduce { axes, reducer } => reduction::reduce("C1", "C2", axes, *reducer, &t[0], c),
        Op::FusedReduce { axes, reducer, prologue } => reduction::fused(axes, *reducer, prologue, t, c),
        Op::ArgReduce { axis, .. } => reduction::arg_reduce(*axis, t, c),
        Op::TopK { k, axis, .. } => reduction::top_k(*k, *axis, t, c),
        Op::ReduceWindow { window, strides, padding, dilation, reducer } => {
            window::reduce_window(window, strides, padding, dilation, *reducer, t, c)
        }
        Op::SelectAndScatter { window, strides, padding, .. } => {
            window::select_and_scatter(window, strides, padding, t, c)
        }
        Op::Dot { lhs_batch, rhs_batch, lhs_contract, rhs_contract } => {
            contraction::dot(lhs_batch, rhs_batch, lhs_contract, rhs_contract, t, c)
        }
        Op::Conv { strides, padding, lhs_dilation, rhs_dilation, groups, layout } => {
            let (groups, layout) = (*groups, *layout);
            contraction::conv(&ConvAttributes { strides, padding, lhs_dilation, rhs_dilation, groups, layout }, t, c)
        }
        Op::FusedDot { epilogue, .. } | Op::FusedConv { epilogue, .. } => match op.contraction() {
            Some(base) => contraction::fused(&base, epilogue, t, c),
            None => None,
        },
        Op::FusedAttention { epilogue, .. } => match op.attention() {
            Some(products) => contraction::attention(op, &products, epilogue, t, c),
            None => None,
        },
        Op::Quantize { dtype, axis } => source::quantize(*dtype, *axis, t, c),
        Op::Dequantize { axis } => source::dequantize(*axis, t, c),
        Op::Assign { .. } => Some(vec![t[0].clone()]),
        Op::Group {} => Some(Vec::new()),
        Op::Softmax { axis } | Op::LogSoftmax { axis } => normalize::softmax(*axis, t, c),
        Op::LayerNorm { axis, .. } => normalize::layer_norm(*axis, t, c),
        Op::BatchNorm { axis, .. } => normalize::batch_norm(*axis, t, c),
        Op::Lrn { size, axis, .. } => normalize::lrn(*size, *axis, t, c),
        Op::Recurrent { cell, activations, .. } => recurrent::recurrent(*cell, activations, t, c),
    }
}

/// Writes dims for an error text.
pub(crate) fn show_dims(dims: &[crate::types::Dim]) -> String {
    let items: Vec<String> = dims.iter().map(ToString::to_string).collect();
    format!("[{}]", items.join(", "))
}
