//! One op on values: the match that leads from the op table to the families.

use super::array::{Array, Data};
use super::contraction::{self, DotAxes};
use super::error::EvalError;
use super::scalar::Scalar;
use super::window::{self, Window};
use super::{elementwise, indexing, movement, quantize, random, reduction, run};
use crate::elementwise_op;
use crate::expand;
use crate::infer::{ConvAttributes, infer};
use crate::ops::Op;
use crate::scalar::ScalarExpr;
use crate::types::TensorType;

/// Most elements a result may have: more would take the naive loops hours.
const MAX_ELEMENTS: usize = 1 << 32;

/// The extents of a result, where memory has room for it.
fn static_dims(ty: &TensorType) -> Result<Vec<usize>, EvalError> {
    let dims = ty.static_dims().ok_or_else(|| EvalError::Symbolic { ty: ty.clone() })?;
    let too_large = || EvalError::TooLarge { ty: ty.clone() };
    let count = ty.element_count().filter(|&n| n <= MAX_ELEMENTS).ok_or_else(too_large)?;
    // Asked for and given back, so that a result too large for this machine is an error and not the end.
    Vec::<u64>::new().try_reserve_exact(count).map_err(|_| too_large())?;
    Ok(dims)
}

/// The results of `op`, whose operands and result types agree with inference. Results in f16 and bf16 are rounded
/// to their dtype.
pub fn evaluate<S: Scalar>(op: &Op, x: &[Array<S>], types: &[TensorType]) -> Result<Vec<Array<S>>, EvalError> {
    let dims: Vec<Vec<usize>> = types.iter().map(static_dims).collect::<Result<_, _>>()?;
    let Some(first) = dims.first() else { return Ok(Vec::new()) };
    let sourced = matches!(op, Op::Placeholder { .. } | Op::ReadVar { .. });
    if !sourced && dims.iter().all(|d| d.contains(&0)) {
        // There is nothing to compute, and other extents may be anything.
        let empty = |(ty, d): (&TensorType, &Vec<usize>)| Array::new(ty.dtype, d, Data::with_capacity(ty.dtype, 0));
        return Ok(types.iter().zip(&dims).map(empty).collect());
    }
    Ok(dispatch(op, x, types, first)?.into_iter().map(Array::rounded).collect())
}

/// `evaluate`, with the extents of the first result.
fn dispatch<S: Scalar>(
    op: &Op,
    x: &[Array<S>],
    types: &[TensorType],
    dims: &[usize],
) -> Result<Vec<Array<S>>, EvalError> {
    let result = match op {
        Op::Placeholder { .. } | Op::ReadVar { .. } => {
            return Err(EvalError::NotConstant { mnemonic: op.mnemonic() });
        }
        Op::Constant { value } => Array::from_tensor(value.tensor(), value.tensor().dtype())?,
        Op::Iota { dtype, axis, .. } => random::iota(*dtype, dims, *axis)?,
        Op::RandomBits { seed, .. } => random::random_bits(&x[0], dims, *seed)?,
        Op::Assign { .. } => x[0].clone(),
        Op::Group {} => return Ok(Vec::new()),

        elementwise_op!() | Op::FusedElementwise { .. } => {
            let expr = op.scalar().ok_or(EvalError::Bug { what: "an elementwise op without a formula" })?;
            elementwise::evaluate(&expr, x, dims, types[0].dtype)?
        }

        Op::Reshape { .. } => movement::reshape(&x[0], dims),
        Op::Transpose { perm } => movement::transpose(&x[0], perm),
        Op::Broadcast { axes, .. } => movement::broadcast(&x[0], dims, axes),
        Op::Slice { start, stride, .. } => movement::slice(&x[0], dims, start, stride),
        Op::Pad { padding, interior, value } => movement::pad(&x[0], dims, padding, interior, value.0)?,
        Op::Concat { axis } => movement::concat(x, dims, *axis)?,
        Op::Reverse { axes } => movement::reverse(&x[0], axes),
        Op::Gather { axis } => indexing::gather(&x[0], &x[1], dims, *axis)?,
        Op::Scatter { axis, mode } => indexing::scatter(&x[0], &x[1], &x[2], *axis, *mode)?,

        Op::Reduce { axes, reducer } => reduction::reduce(&x[0], dims, axes, *reducer)?,
        Op::ArgReduce { axis, extreme } => reduction::arg_reduce(&x[0], dims, *axis, *extreme)?,
        Op::TopK { axis, extreme, .. } => return Ok(reduction::top_k(&x[0], dims, *axis, *extreme)?.into()),
        Op::ReduceWindow { window, strides, padding, dilation, reducer } => {
            window::reduce_window(&x[0], dims, &Window { window, strides, padding, dilation }, *reducer)?
        }
        Op::SelectAndScatter { window, strides, padding, extreme } => {
            let window = Window { window, strides, padding, dilation: &[] };
            window::select_and_scatter(&x[0], &x[1], &window, *extreme)?
        }

        Op::Dot { lhs_batch, rhs_batch, lhs_contract, rhs_contract } => {
            let axes = DotAxes { batch: (lhs_batch, rhs_batch), contract: (lhs_contract, rhs_contract) };
            contraction::dot(&x[0], &x[1], dims, &axes)?
        }
        Op::Conv { strides, padding, lhs_dilation, rhs_dilation, groups, layout } => {
            let (groups, layout) = (*groups, *layout);
            let attributes = ConvAttributes { strides, padding, lhs_dilation, rhs_dilation, groups, layout };
            contraction::conv(&x[0], &x[1], dims, &attributes)?
        }
        Op::FusedDot { epilogue, .. } | Op::FusedConv { epilogue, .. } => {
            contraction_then(op, epilogue, x, types, dims)?
        }
        Op::FusedReduce { axes, reducer, prologue } => {
            let joined = joined_dims(x);
            let dtypes: Vec<_> = x.iter().map(|x| x.dtype).collect();
            let dtype = prologue.result_type(&dtypes).map_err(|_| EvalError::Bug { what: "an ill-typed prologue" })?;
            // What is reduced is held as a whole here, and may be far larger than the operands.
            static_dims(&TensorType::fixed(dtype, &joined))?;
            let inner = elementwise::evaluate(prologue, x, &joined, dtype)?;
            reduction::reduce(&inner, dims, axes, *reducer)?
        }

        Op::Quantize { dtype, axis } => quantize::quantize(&x[0], &x[1], &x[2], *dtype, *axis)?,
        Op::Dequantize { axis } => quantize::dequantize(&x[0], &x[1], &x[2], *axis)?,

        Op::Softmax { .. }
        | Op::LogSoftmax { .. }
        | Op::LayerNorm { .. }
        | Op::BatchNorm { .. }
        | Op::Lrn { .. }
        | Op::FusedAttention { .. }
        | Op::Recurrent { .. } => {
            let body = expand::body(op, &x.iter().map(Array::ty).collect::<Vec<_>>())?;
            return run::results(&body, x);
        }
    };
    Ok(vec![result])
}

/// A fused contraction: the contraction, not rounded, then the epilogue.
fn contraction_then<S: Scalar>(
    op: &Op,
    epilogue: &ScalarExpr,
    x: &[Array<S>],
    types: &[TensorType],
    dims: &[usize],
) -> Result<Array<S>, EvalError> {
    let base = op.contraction().ok_or(EvalError::Bug { what: "a fused op without a contraction" })?;
    let inner_types = infer(&base, &[x[0].ty(), x[1].ty()]).map_err(Box::new)?;
    let mut operands = dispatch(&base, &x[..2], &inner_types, dims)?;
    operands.extend_from_slice(&x[2..]);
    elementwise::evaluate(epilogue, &operands, dims, types[0].dtype)
}

/// The extents that operands of one rank broadcast to.
fn joined_dims<S>(x: &[Array<S>]) -> Vec<usize> {
    let mut dims = x.first().map(|x| x.dims.clone()).unwrap_or_default();
    for operand in x {
        for (have, &new) in dims.iter_mut().zip(&operand.dims) {
            if *have == 1 {
                *have = new;
            }
        }
    }
    dims
}
