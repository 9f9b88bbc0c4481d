//! What a variable starts as.

use std::fmt;

use crate::attribute::Real;
use crate::dtype::DType;
use crate::ops::Literal;
use crate::random;
use crate::tensor::{Tensor, TensorError, element_count};
use crate::types::TensorType;

/// A recipe for a variable's first value. The random ones are functions of their seed alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Initializer {
    /// Every element the same.
    Fill(Real),
    /// A given tensor.
    Value(Literal),
    /// Uniform in [low, high).
    Uniform {
        /// Least value.
        low: Real,
        /// Bound.
        high: Real,
        /// Seed.
        seed: u64,
    },
    /// Normal.
    Normal {
        /// Mean.
        mean: Real,
        /// Standard deviation.
        std: Real,
        /// Seed.
        seed: u64,
    },
    /// Uniform within ±√(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16).
    Xavier {
        /// Inputs that feed one output.
        fan_in: usize,
        /// Outputs that one input feeds.
        fan_out: usize,
        /// Seed.
        seed: u64,
    },
    /// Normal with standard deviation √(2 / fan_in) (He et al. 2015, eq. 10).
    He {
        /// Inputs that feed one output.
        fan_in: usize,
        /// Seed.
        seed: u64,
    },
}

impl Initializer {
    /// All zeros.
    pub const ZEROS: Initializer = Initializer::Fill(Real(0.0));
    /// All ones.
    pub const ONES: Initializer = Initializer::Fill(Real(1.0));

    /// Whether the recipe can make a tensor of `ty`.
    pub fn fits(&self, ty: &TensorType) -> bool {
        match self {
            Initializer::Fill(_) => true,
            Initializer::Value(v) => {
                v.tensor().dtype() == ty.dtype && ty.static_dims().is_some_and(|d| d == v.tensor().dims())
            }
            _ => ty.dtype.is_float(),
        }
    }

    /// The value for `dtype` and `dims`. Random values are made in f64 and rounded once.
    pub fn materialize(&self, dtype: DType, dims: &[usize]) -> Result<Tensor, TensorError> {
        let n = element_count(dims).ok_or_else(|| TensorError::TooLarge { dtype, dims: dims.to_vec() })?;
        match self {
            Initializer::Value(v) => Ok(v.tensor().clone()),
            Initializer::Fill(v) => Tensor::from_f64_iter(dtype, dims, std::iter::repeat_n(v.0, n)),
            Initializer::Uniform { low, high, seed } => {
                let values = random::uniform(*seed, n).map(|u| low.0 + (high.0 - low.0) * u);
                Tensor::from_f64_iter(dtype, dims, values)
            }
            Initializer::Normal { mean, std, seed } => {
                Tensor::from_f64_iter(dtype, dims, random::normal(*seed, n).map(|z| mean.0 + std.0 * z))
            }
            Initializer::Xavier { fan_in, fan_out, seed } => {
                let limit = (6.0 / (*fan_in as f64 + *fan_out as f64).max(1.0)).sqrt();
                let values = random::uniform(*seed, n).map(|u| limit * (2.0 * u - 1.0));
                Tensor::from_f64_iter(dtype, dims, values)
            }
            Initializer::He { fan_in, seed } => {
                let std = (2.0 / (*fan_in as f64).max(1.0)).sqrt();
                Tensor::from_f64_iter(dtype, dims, random::normal(*seed, n).map(|z| std * z))
            }
        }
    }
}

impl fmt::Display for Initializer {
    /// The text format's form: `fill(0.0)`, `xavier(fan_in=784, fan_out=10, seed=1)` …
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Initializer::Fill(v) => write!(f, "fill({v})"),
            Initializer::Value(v) => write!(f, "value(@{})", v.id().to_hex()),
            Initializer::Uniform { low, high, seed } => write!(f, "uniform(low={low}, high={high}, seed={seed})"),
            Initializer::Normal { mean, std, seed } => write!(f, "normal(mean={mean}, std={std}, seed={seed})"),
            Initializer::Xavier { fan_in, fan_out, seed } => {
                write!(f, "xavier(fan_in={fan_in}, fan_out={fan_out}, seed={seed})")
            }
            Initializer::He { fan_in, seed } => write!(f, "he(fan_in={fan_in}, seed={seed})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_for_which_there_is_no_memory_is_an_error() {
        let seed = 1;
        for recipe in [
            Initializer::ZEROS,
            Initializer::Uniform { low: Real(0.0), high: Real(1.0), seed },
            Initializer::Normal { mean: Real(0.0), std: Real(1.0), seed },
            Initializer::Xavier { fan_in: 1, fan_out: 1, seed },
            Initializer::He { fan_in: 1, seed },
        ] {
            let made = recipe.materialize(DType::F32, &[1 << 50]);
            assert!(matches!(made, Err(TensorError::Memory { bytes, .. }) if bytes == 1 << 52), "{recipe}: {made:?}");
        }
    }
}
