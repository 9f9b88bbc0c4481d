//! The prime field of 2³¹ − 1 elements: linear algebra without rounding.
//!
//! Two expressions that are the same polynomial in their inputs agree here bit for bit, and two that are not
//! disagree on random inputs with probability ≥ 1 − degree/2³¹ (Schwartz 1980, Zippel 1979). So a linear or
//! bilinear rewrite is checked exactly, where floats would only be close.

use super::number::{Number, Undefined, undefined};
use super::scalar::Scalar;
use crate::dtype::DType;
use crate::scalar::{BinaryFn, UnaryFn};
use crate::tensor::{Tensor, TensorError};

/// An element of the field of integers modulo 2³¹ − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Fp(u32);

impl Fp {
    /// The field's characteristic, a Mersenne prime.
    pub const P: u32 = (1 << 31) - 1;

    /// The class of an integer.
    pub const fn new(v: i64) -> Fp {
        Fp(v.rem_euclid(Fp::P as i64) as u32)
    }

    /// The representative in 0..P.
    pub const fn residue(self) -> u32 {
        self.0
    }

    /// 1/x; `None` of zero.
    pub fn inverse(self) -> Option<Fp> {
        // Fermat: x^(P − 1) = 1.
        let (mut base, mut exponent, mut result) = (self, Fp::P - 2, Fp(1));
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = result.times(base);
            }
            base = base.times(base);
            exponent >>= 1;
        }
        (self.0 != 0).then_some(result)
    }

    fn negated(self) -> Fp {
        Fp(if self.0 == 0 { 0 } else { Fp::P - self.0 })
    }
}

/// Largest denominator that a value of `dtype` is recognised with. Two fractions with denominators ≤ d differ by
/// 1/d² at least, so around 1 no two of them round to the same value of the dtype, and few arbitrary values are
/// taken for a fraction (one in 200 of f32's).
fn largest_denominator(dtype: DType) -> i64 {
    match dtype {
        DType::F64 => 1_000_000,
        DType::F16 => 32,
        DType::BF16 => 8,
        _ => 512,
    }
}

/// The simplest fraction that rounds to `v` in `dtype`, by continued fraction.
fn fraction(v: f64, dtype: DType) -> Option<(i64, i64)> {
    let rounds_back = |n: i64, d: i64| {
        let q = n as f64 / d as f64;
        match dtype {
            DType::F64 => q == v,
            // Comparing within the dtype: v is one of its values.
            _ => f32::from_f64(q, dtype).is_ok_and(|q| f64::from(q) == v),
        }
    };
    let limit = largest_denominator(dtype);
    let (mut previous, mut current) = ((1i64, 0i64), (v.floor() as i64, 1i64));
    let mut rest = v - v.floor();
    while !rounds_back(current.0, current.1) {
        if rest == 0.0 {
            return None;
        }
        let whole = (1.0 / rest).floor();
        rest = 1.0 / rest - whole;
        if whole > limit as f64 {
            return None;
        }
        let next = |a: i64, b: i64| a.checked_mul(whole as i64)?.checked_add(b);
        let found = (next(current.0, previous.0)?, next(current.1, previous.1)?);
        if found.1 > limit {
            return None;
        }
        previous = current;
        current = found;
    }
    Some(current)
}

/// k where v = k / 2³⁰.
fn dyadic(v: f64) -> Option<i64> {
    let k = v * 2f64.powi(30);
    (k.trunc() == k && k.abs() < 2f64.powi(62)).then_some(k as i64)
}

impl Number for Fp {
    const SCALAR: &'static str = "the prime field of 2^31 - 1";
    const ZERO: Fp = Fp(0);
    const ONE: Fp = Fp(1);

    fn plus(self, other: Fp) -> Fp {
        let sum = self.0 + other.0;
        Fp(if sum >= Fp::P { sum - Fp::P } else { sum })
    }

    fn times(self, other: Fp) -> Fp {
        Fp((u64::from(self.0) * u64::from(other.0) % u64::from(Fp::P)) as u32)
    }

    fn unary(f: UnaryFn, x: Fp) -> Result<Fp, Undefined> {
        match f {
            UnaryFn::Neg => Ok(x.negated()),
            UnaryFn::Reciprocal => x.inverse().ok_or(Undefined::DivisionByZero { function: f.text() }),
            _ => undefined::<_, Fp>(f.text()),
        }
    }

    fn binary(f: BinaryFn, x: Fp, y: Fp) -> Result<Fp, Undefined> {
        match f {
            BinaryFn::Add => Ok(x.plus(y)),
            BinaryFn::Sub => Ok(x.plus(y.negated())),
            BinaryFn::Mul => Ok(x.times(y)),
            BinaryFn::Div => match y.inverse() {
                Some(inverse) => Ok(x.times(inverse)),
                None => Err(Undefined::DivisionByZero { function: f.text() }),
            },
            _ => undefined::<_, Fp>(f.text()),
        }
    }

    fn compare(f: BinaryFn, _: Fp, _: Fp) -> Result<bool, Undefined> {
        // Not even equality: unequal reals may be equal residues.
        undefined::<_, Fp>(f.text())
    }

    fn is_nan(self) -> bool {
        false
    }

    fn least() -> Result<Fp, Undefined> {
        undefined::<_, Fp>(BinaryFn::Max.text())
    }

    fn greatest() -> Result<Fp, Undefined> {
        undefined::<_, Fp>(BinaryFn::Min.text())
    }
}

impl Scalar for Fp {
    fn holds(_: DType) -> bool {
        true
    }

    /// Residues.
    const EXCHANGE: Option<DType> = Some(DType::I64);

    fn from_f64(v: f64, dtype: DType) -> Result<Fp, Undefined> {
        let error = Undefined::Number { value: v };
        if v.is_finite() && v.trunc() == v {
            // Integers beyond i64 are reduced exactly too: the remainder of floats is exact.
            return Ok(Fp::new((v % f64::from(Fp::P)) as i64));
        }
        if !v.is_finite() || v.abs() >= 2f64.powi(52) {
            return Err(error);
        }
        let (n, d) = fraction(v, dtype).or_else(|| Some((dyadic(v)?, 1 << 30))).ok_or(error)?;
        let inverse = Fp::new(d).inverse().ok_or(error)?;
        Ok(Fp::new(n).times(inverse))
    }

    fn from_i64(v: i64) -> Fp {
        Fp::new(v)
    }

    fn to_f64(self) -> Result<f64, Undefined> {
        undefined::<_, Fp>("conversion to another dtype")
    }

    fn round_to(self, _: DType) -> Fp {
        self
    }

    fn to_tensor(values: &[Fp], _: DType, dims: &[usize]) -> Result<Tensor, TensorError> {
        Tensor::from_slice(dims, &values.iter().map(|v| i64::from(v.0)).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(n: i64, d: i64) -> Fp {
        Fp::binary(BinaryFn::Div, Fp::new(n), Fp::new(d)).unwrap()
    }

    #[test]
    fn every_sampled_element_times_its_inverse_is_one() {
        for v in [1, 2, 3, 1 << 30, 0x7fff_fffe, 123_456_789] {
            assert_eq!(Fp::new(v).times(Fp::new(v).inverse().unwrap()), Fp::ONE, "{v}");
        }
        assert_eq!(Fp::new(0).inverse(), None);
        assert_eq!(Fp::new(i64::from(Fp::P)), Fp::ZERO);
        assert_eq!(Fp::new(-1).residue(), Fp::P - 1);
    }

    #[test]
    fn simple_fractions_are_recognised_in_both_precisions() {
        for (n, d) in [(1, 6), (-1, 6), (1, 24), (-5, 12), (21, 4), (1, 3), (2, 45), (1, 180), (7, 1), (-9, 2)] {
            let v = n as f64 / d as f64;
            assert_eq!(Fp::from_f64(v, DType::F64), Ok(over(n, d)), "{n}/{d} in f64");
            assert_eq!(Fp::from_f64(f64::from(v as f32), DType::F32), Ok(over(n, d)), "{n}/{d} in f32");
        }
        assert_eq!(Fp::from_f64(999_983.0 / 999_979.0, DType::F64), Ok(over(999_983, 999_979)));
        // Beyond the fractions: exact multiples of 2^-30.
        assert_eq!(Fp::from_f64(2f64.powi(-30), DType::F64), Ok(over(1, 1 << 30)));
        let odd = 12_345_677.0 / 2f64.powi(24);
        assert_eq!(Fp::from_f64(odd, DType::F32), Ok(over(12_345_677, 1 << 24)));
        assert_eq!(Fp::from_f64(2f64.powi(80), DType::F64), Ok(Fp::new(1 << 18)), "2^31 = 1, so 2^80 = 2^18");
    }

    #[test]
    fn irrational_and_non_finite_constants_are_refused() {
        for v in [std::f64::consts::FRAC_1_SQRT_2, std::f64::consts::PI, 1e-5 / 3.0, f64::NAN, f64::INFINITY] {
            let refused = Fp::from_f64(v, DType::F64);
            assert!(matches!(refused, Err(Undefined::Number { .. })), "{v}: {refused:?}");
        }
    }

    #[test]
    fn functions_without_algebraic_meaning_are_refused_by_name() {
        for f in [UnaryFn::Exp, UnaryFn::Abs, UnaryFn::Sqrt, UnaryFn::Floor] {
            let text = Fp::unary(f, Fp::ONE).unwrap_err().to_string();
            assert_eq!(text, format!("`{}` has no meaning over the prime field of 2^31 - 1", f.text()));
        }
        assert!(Fp::binary(BinaryFn::Max, Fp::ONE, Fp::ZERO).is_err());
        assert!(Fp::compare(BinaryFn::Eq, Fp::ONE, Fp::ONE).is_err());
        assert_eq!(Fp::binary(BinaryFn::Div, Fp::ONE, Fp::ZERO), Err(Undefined::DivisionByZero { function: "/" }));
    }
}
