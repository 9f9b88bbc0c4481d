//! The inverse of the tangent. The coefficients are minimax fits (Remez, weighted for the relative error of the result,
//! computed with 60 digits) of `(atan(t)/t − 1)/t²` in t², for |t| up to tan(π/8).

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, SQRT_2};

use super::Math;
use crate::kir::kernel::{CompareOp, Value};

/// Relative error 2⁻³⁰·⁴.
const F32: [f64; 5] =
    [-0.3333331518143196, 0.19998471022513886, -0.14243523187572776, 0.10593733199570876, -0.06078005012801494];
/// Relative error 2⁻⁶⁴.
const F64: [f64; 12] = [
    -0.33333333333333326,
    0.19999999999997647,
    -0.14285714285385767,
    0.11111111088056642,
    -0.0909090814075715,
    0.076922826855488,
    -0.06666225839310186,
    0.058770142368024185,
    -0.05218364052191078,
    0.04503416259477563,
    -0.0334720129332087,
    0.015193282602206822,
];
/// What f64 leaves of π/2; of π/4 it leaves half as much.
const FRAC_PI_2_REST: f64 = 6.123233995736766e-17;

impl Math<'_> {
    /// atan x: beyond tan(π/8) it is `π/4 + atan((x − 1)/(x + 1))`, beyond tan(3π/8) `π/2 + atan(−1/x)`.
    pub(super) fn atan(&mut self, x: Value) -> Value {
        let sign = self.sign_bit(x);
        let magnitude = self.b.abs(x);
        let is_middle = self.is(CompareOp::Gt, magnitude, SQRT_2 - 1.0);
        let is_large = self.is(CompareOp::Gt, magnitude, SQRT_2 + 1.0);

        let (lowered, raised) = (self.add_constant(magnitude, -1.0), self.add_constant(magnitude, 1.0));
        let numerator = self.b.select(is_middle, lowered, magnitude);
        let numerator = self.replace(is_large, -1.0, numerator);
        let one = self.constant(1.0);
        let denominator = self.b.select(is_middle, raised, one);
        let denominator = self.b.select(is_large, magnitude, denominator);
        let t = self.b.div(numerator, denominator);

        let squared = self.b.mul(t, t);
        let p = self.polynomial(squared, self.either(&F32[..], &F64[..]));
        let cubed = self.b.mul(squared, t);
        let rest = self.either(FRAC_PI_2 - f64::from(FRAC_PI_2 as f32), FRAC_PI_2_REST);
        let tail = self.reference_angle(is_middle, is_large, (rest / 2.0, rest));
        let small = self.b.fma(cubed, p, tail);
        let small = self.b.add(t, small);
        let angle = self.reference_angle(is_middle, is_large, (FRAC_PI_4, FRAC_PI_2));
        let result = self.b.add(angle, small);
        self.with_sign(result, sign)
    }

    /// 0, or one of two constants.
    fn reference_angle(&mut self, is_middle: Value, is_large: Value, (middle, large): (f64, f64)) -> Value {
        let zero = self.constant(0.0);
        let angle = self.replace(is_middle, middle, zero);
        self.replace(is_large, large, angle)
    }
}
