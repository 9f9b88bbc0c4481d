//! The reference interpreter: what a graph means, as plainly as it can be written. Every other way of running a
//! graph is tested against it.
//!
//! ```text
//! Graph + feeds + State ──► run::<S> ──► outputs (+ State)        S: f32, f64 or Fp
//!                             │ one node after another
//!                             ▼
//!                         evaluate ──► elementwise, movement, reduction, window, contraction, indexing …
//! ```
//!
//! - Integers and truth values are exact in their dtype. Floats are computed in the [`Scalar`] `S`: `f32` gives each
//!   dtype its own precision (f16 and bf16 computed in f32 and rounded after each op), `f64` computes them all in
//!   f64, [`Fp`] in a prime field, where linear algebra is exact and what has no algebraic meaning is an error.
//! - Sums go through the elements in row-major order, in the precision of their type.
//! - exp, log, log1p, sin, cos, atan, tanh, erf and pow of f32 are those of f64 rounded once.
//! - Composites (L1) mean their scalar expression or their body ([`crate::expand`]); fused ops (L2) their definition.
//! - Only what outputs and effects need is computed, and values are dropped after their last use.

mod array;
mod contraction;
mod elementwise;
mod error;
mod evaluate;
mod field;
mod indexing;
mod movement;
mod number;
mod quantize;
mod random;
mod reduction;
mod run;
mod scalar;
mod strides;
mod window;

#[cfg(test)]
mod tests;

pub use error::{EvalError, FeedError, InterpError};
pub use field::Fp;
pub use number::{Number, Undefined};
pub use run::{State, run};
pub use scalar::Scalar;

use array::Array;

use crate::infer::infer;
use crate::ops::Op;
use crate::tensor::Tensor;
use crate::types::TensorType;

/// The results of one op on constants, each dtype in its own precision.
///
/// Ops that depend on feeds or state (`placeholder`, `read_var`, `assign`) are [`EvalError::NotConstant`].
pub fn fold(op: &Op, operands: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
    fold_in::<f32>(op, operands)
}

/// [`fold`] in any scalar: operands are in their dtypes, float results in the scalar's exchange dtype, as in [`run`].
pub fn fold_in<S: Scalar>(op: &Op, operands: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
    if op.has_effect() {
        return Err(EvalError::NotConstant { mnemonic: op.mnemonic() });
    }
    let given: Vec<TensorType> = operands.iter().map(|t| TensorType::fixed(t.dtype(), t.dims())).collect();
    let types = infer(op, &given).map_err(Box::new)?;
    let arrays: Vec<Array<S>> = operands.iter().map(|t| Array::from_tensor(t, t.dtype())).collect::<Result<_, _>>()?;
    evaluate::evaluate(op, &arrays, &types)?.iter().map(Array::to_tensor).collect()
}
