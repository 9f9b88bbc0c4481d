//! The scalars that float tensors are computed in: f32, f64, and (in [`super::field`]) a prime field.

use super::number::{Number, Undefined, compare_ordered, undefined};
use crate::dtype::DType;
use crate::narrow::{bf16_from_f64, f16_from_f64};
use crate::scalar::{BinaryFn, UnaryFn};
use crate::tensor::{Tensor, TensorError};

/// What the float dtypes of a graph are computed in.
///
/// - `f32`: every dtype has its own precision. f16 and bf16 are computed in f32 and rounded after each op; f64 in f64.
/// - `f64`: every float dtype is computed in f64 and never rounded, to see what the precision costs.
/// - [`super::Fp`]: float tensors hold elements of a prime field, in which linear algebra is exact.
pub trait Scalar: Number {
    /// Whether tensors of this float dtype hold `Self`; those that do not hold f64.
    fn holds(dtype: DType) -> bool;

    /// A dtype in which feeds and state may come beside the declared one, and in which float results are given;
    /// `None` where results have the declared dtype.
    const EXCHANGE: Option<DType>;

    /// The value for a number written in `dtype`.
    fn from_f64(v: f64, dtype: DType) -> Result<Self, Undefined>;

    /// The value for an integer.
    fn from_i64(v: i64) -> Self;

    /// The real number this is.
    fn to_f64(self) -> Result<f64, Undefined>;

    /// The value rounded to what `dtype` can hold, where tensors of `dtype` are rounded at all.
    fn round_to(self, dtype: DType) -> Self;

    /// Values as a tensor of the exchange dtype, or of `dtype` where there is none.
    fn to_tensor(values: &[Self], dtype: DType, dims: &[usize]) -> Result<Tensor, TensorError>;
}

/// The f32 nearest to `v` among those that `dtype` (f32, f16 or bf16) can hold.
fn narrow(v: f64, dtype: DType) -> f32 {
    match dtype {
        DType::F16 => f16_from_f64(v).to_f32(),
        DType::BF16 => bf16_from_f64(v).to_f32(),
        _ => v as f32,
    }
}

impl Scalar for f32 {
    fn holds(dtype: DType) -> bool {
        dtype != DType::F64
    }

    const EXCHANGE: Option<DType> = None;

    fn from_f64(v: f64, dtype: DType) -> Result<f32, Undefined> {
        Ok(narrow(v, dtype))
    }

    fn from_i64(v: i64) -> f32 {
        v as f32
    }

    fn to_f64(self) -> Result<f64, Undefined> {
        Ok(f64::from(self))
    }

    fn round_to(self, dtype: DType) -> f32 {
        if dtype == DType::F32 { self } else { narrow(f64::from(self), dtype) }
    }

    fn to_tensor(values: &[f32], dtype: DType, dims: &[usize]) -> Result<Tensor, TensorError> {
        if dtype == DType::F32 {
            return Tensor::from_slice(dims, values);
        }
        Tensor::from_f64(dtype, dims, &values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>())
    }
}

impl Scalar for f64 {
    fn holds(_: DType) -> bool {
        true
    }

    const EXCHANGE: Option<DType> = Some(DType::F64);

    fn from_f64(v: f64, _: DType) -> Result<f64, Undefined> {
        Ok(v)
    }

    fn from_i64(v: i64) -> f64 {
        v as f64
    }

    fn to_f64(self) -> Result<f64, Undefined> {
        Ok(self)
    }

    fn round_to(self, _: DType) -> f64 {
        self
    }

    fn to_tensor(values: &[f64], _: DType, dims: &[usize]) -> Result<Tensor, TensorError> {
        Tensor::from_slice(dims, values)
    }
}

/// f64 functions whose f32 values are the f64 ones rounded once: within 0.51 ulp, whatever the machine.
fn transcendental(f: UnaryFn, x: f64) -> Option<f64> {
    Some(match f {
        UnaryFn::Exp => libm::exp(x),
        UnaryFn::Log => libm::log(x),
        UnaryFn::Log1p => libm::log1p(x),
        UnaryFn::Sin => libm::sin(x),
        UnaryFn::Cos => libm::cos(x),
        UnaryFn::Atan => libm::atan(x),
        UnaryFn::Tanh => libm::tanh(x),
        UnaryFn::Erf => libm::erf(x),
        _ => return None,
    })
}

macro_rules! floats {
    ($($float:ident),*) => {$(
        impl Number for $float {
            const SCALAR: &'static str = stringify!($float);
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;

            fn plus(self, other: Self) -> Self {
                self + other
            }

            fn times(self, other: Self) -> Self {
                self * other
            }

            fn unary(f: UnaryFn, x: Self) -> Result<Self, Undefined> {
                Ok(match f {
                    UnaryFn::Neg => -x,
                    UnaryFn::Abs => x.abs(),
                    UnaryFn::Sign if x == 0.0 || x.is_nan() => x,
                    UnaryFn::Sign => x.signum(),
                    UnaryFn::Floor => x.floor(),
                    UnaryFn::Ceil => x.ceil(),
                    UnaryFn::Round => x.round_ties_even(),
                    UnaryFn::Trunc => x.trunc(),
                    UnaryFn::Sqrt => x.sqrt(),
                    UnaryFn::Rsqrt => 1.0 / x.sqrt(),
                    UnaryFn::Reciprocal => 1.0 / x,
                    _ => match transcendental(f, x as f64) {
                        Some(v) => v as $float,
                        None => return undefined::<_, $float>(f.text()),
                    },
                })
            }

            fn binary(f: BinaryFn, x: Self, y: Self) -> Result<Self, Undefined> {
                Ok(match f {
                    BinaryFn::Add => x + y,
                    BinaryFn::Sub => x - y,
                    BinaryFn::Mul => x * y,
                    BinaryFn::Div => x / y,
                    BinaryFn::Rem => x % y,
                    BinaryFn::Pow => libm::pow(x as f64, y as f64) as $float,
                    // NaN wins; of two zeros the positive one is the larger.
                    BinaryFn::Max if x.is_nan() || x > y || (x == y && y.is_sign_negative()) => x,
                    BinaryFn::Min if x.is_nan() || x < y || (x == y && y.is_sign_positive()) => x,
                    BinaryFn::Max | BinaryFn::Min => y,
                    _ => return undefined::<_, $float>(f.text()),
                })
            }

            fn compare(f: BinaryFn, x: Self, y: Self) -> Result<bool, Undefined> {
                compare_ordered(f, x, y)
            }

            fn is_nan(self) -> bool {
                $float::is_nan(self)
            }

            fn least() -> Result<Self, Undefined> {
                Ok($float::NEG_INFINITY)
            }

            fn greatest() -> Result<Self, Undefined> {
                Ok($float::INFINITY)
            }
        }
    )*};
}
floats!(f32, f64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_wins_in_maxima_and_minima_from_either_side() {
        for f in [BinaryFn::Max, BinaryFn::Min] {
            for (x, y) in [(f32::NAN, 1.0), (1.0, f32::NAN), (f32::NAN, f32::INFINITY), (f32::NEG_INFINITY, f32::NAN)] {
                assert!(f32::binary(f, x, y).unwrap().is_nan(), "{f:?} of {x} and {y}");
            }
        }
    }

    #[test]
    fn the_positive_zero_is_the_larger() {
        for (x, y) in [(0.0f64, -0.0f64), (-0.0, 0.0)] {
            assert!(f64::binary(BinaryFn::Max, x, y).unwrap().is_sign_positive());
            assert!(f64::binary(BinaryFn::Min, x, y).unwrap().is_sign_negative());
        }
    }

    #[test]
    fn rounding_goes_to_even_and_sign_keeps_zeros_and_nan() {
        let round = |x: f32| f32::unary(UnaryFn::Round, x).unwrap();
        assert_eq!([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.7].map(round), [-2.0, -2.0, -0.0, 0.0, 2.0, 2.0, 4.0]);
        let sign = |x: f32| f32::unary(UnaryFn::Sign, x).unwrap();
        assert_eq!([f32::NEG_INFINITY, -3.0, 2e-40, f32::INFINITY].map(sign), [-1.0, -1.0, 1.0, 1.0]);
        assert!(sign(-0.0).is_sign_negative() && sign(f32::NAN).is_nan());
    }

    #[test]
    fn halves_round_to_nearest_even() {
        // 1 + 2^-11 is halfway between 1 and the next f16; 1 + 3·2^-11 halfway to an odd neighbour.
        assert_eq!((1.0 + 2f32.powi(-11)).round_to(DType::F16), 1.0);
        assert_eq!((1.0 + 3.0 * 2f32.powi(-11)).round_to(DType::F16), 1.0 + 2f32.powi(-9));
        assert_eq!(65520f32.round_to(DType::F16), f32::INFINITY);
        assert_eq!((1.0 + 2f32.powi(-8)).round_to(DType::BF16), 1.0);
        assert!(f32::NAN.round_to(DType::BF16).is_nan());
    }
}
