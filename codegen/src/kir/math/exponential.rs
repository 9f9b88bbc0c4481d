//! `exp`, `log`, `log1p`, `tanh`.

use std::f64::consts::{LN_2, LOG2_E, SQRT_2};

use super::{Math, inverse_factorial};
use crate::kir::kernel::{CompareOp, Value};

/// `ln 2` in two parts, the first with so few bits that small integers times it are exact in f32.
const LN_2_F32: (f64, f64) = (355.0 / 512.0, LN_2 - 355.0 / 512.0);
/// The same for f64: 32 bits, and the rest of ln 2 to 85 bits.
const LN_2_F64: (f64, f64) = (0.693_147_180_369_123_8, 1.908_214_929_270_587_8e-10);

impl Math<'_> {
    /// eˣ: with `n` the nearest integer to `x / ln 2` and `r = x − n ln 2`, it is `2ⁿ (1 + (eʳ − 1))`.
    pub(super) fn exp(&mut self, x: Value) -> Value {
        // beyond these the result is 0 or infinite, and between them `n` fits
        let (low, high) = self.either((-105.0, 89.0), (-746.0, 710.0));
        let (low, high) = (self.constant(low), self.constant(high));
        let x = self.b.max(low, x);
        let x = self.b.min(high, x);
        let (n, rest) = self.reduce_by_ln_2(x);
        let tail = self.exp_minus_1_small(rest);
        let one = self.constant(1.0);
        let mantissa = self.b.add(one, tail);
        self.scale(mantissa, n)
    }

    /// `n` and `x − n ln 2`, within ± ½ ln 2.
    fn reduce_by_ln_2(&mut self, x: Value) -> (Value, Value) {
        let (n, k) = self.nearest(x, LOG2_E);
        let (high, low) = self.either(LN_2_F32, LN_2_F64);
        let rest = self.fma_constant(n, -high, x);
        (k, self.fma_constant(n, -low, rest))
    }

    /// eʳ − 1 for |r| ≤ ½ ln 2: `r + r² (1/2! + r/3! + …)`.
    fn exp_minus_1_small(&mut self, r: Value) -> Value {
        // the first term left out is below 2⁻²⁷ (2⁻⁵⁷) of the result
        let degree = self.either(7, 13);
        let coefficients: Vec<f64> = (2..=degree).map(inverse_factorial).collect();
        let q = self.polynomial(r, &coefficients);
        let squared = self.b.mul(r, r);
        self.b.fma(squared, q, r)
    }

    /// tanh |x| = (e²ˣ − 1) / (e²ˣ − 1 + 2), with `e²ˣ − 1 = 2ⁿ (eʳ − 1) + (2ⁿ − 1)` accurate near 0.
    pub(super) fn tanh(&mut self, x: Value) -> Value {
        let sign = self.sign_bit(x);
        let magnitude = self.b.abs(x);
        // the result rounds to 1 from 9.02 (19.07) on
        let limit = self.either(10.0, 20.0);
        let limit = self.constant(limit);
        let magnitude = self.b.min(limit, magnitude);
        let doubled = self.b.add(magnitude, magnitude);
        let (n, rest) = self.reduce_by_ln_2(doubled);
        let small = self.exp_minus_1_small(rest);
        let power = self.power_of_two(n);
        let shifted = self.add_constant(power, -1.0);
        let numerator = self.b.fma(power, small, shifted);
        let denominator = self.add_constant(numerator, 2.0);
        let result = self.b.div(numerator, denominator);
        self.with_sign(result, sign)
    }

    /// ln x: with `x = 2ᵉ m`, m in √½…√2, and `s = (m − 1) / (m + 1)`, it is `e ln 2 + 2 (s + s³/3 + s⁵/5 + …)`.
    pub(super) fn log(&mut self, x: Value) -> Value {
        let (smallest, up) = self.either((2f64.powi(-126), 23), (2f64.powi(-1022), 52));
        let subnormal = self.is(CompareOp::Lt, x, smallest);
        let raised = self.times(x, 2f64.powi(up));
        let normal = self.b.select(subnormal, raised, x);

        // subtracting the bits of √½ puts the exponent's step there
        let bits = self.bits(normal);
        let sqrt_half = self.either(u64::from((SQRT_2 as f32 / 2.0).to_bits()), (SQRT_2 / 2.0).to_bits());
        let sqrt_half = self.int(sqrt_half as i64);
        let shift = self.int(self.significand_bits());
        let moved = self.b.sub(bits, sqrt_half);
        let exponent = self.b.shr(moved, shift);
        let whole = self.b.shl(exponent, shift);
        let mantissa = self.b.sub(bits, whole);
        let m = self.float(mantissa);
        let (plain, lowered) = (self.int(0), self.int(i64::from(up)));
        let correction = self.b.select(subnormal, lowered, plain);
        let exponent = self.b.sub(exponent, correction);
        let e = self.b.convert(exponent, self.ty.dtype);

        let f = self.add_constant(m, -1.0);
        let denominator = self.add_constant(f, 2.0);
        let s = self.b.div(f, denominator);
        let z = self.b.mul(s, s);
        // z ≤ 0.0295: the first term left out is below 2⁻²⁶ (2⁻⁵⁹) of the sum
        let terms = self.either(5, 11);
        let coefficients: Vec<f64> = (1..terms).map(|k| 2.0 / f64::from(2 * k + 1)).collect();
        let series = self.polynomial(z, &coefficients);
        let series = self.b.mul(z, series);
        // ln(1 + f) = f − (f²/2 − s (f²/2 + series)): f is exact and the rest is small
        let half = self.times(f, 0.5);
        let half_square = self.b.mul(half, f);
        let sum = self.b.add(half_square, series);
        let (high, low) = self.either(LN_2_F32, LN_2_F64);
        let small = self.times(e, low);
        let inner = self.b.fma(s, sum, small);
        let inner = self.b.sub(half_square, inner);
        let inner = self.b.sub(inner, f);
        let high = self.times(e, high);
        let result = self.b.sub(high, inner);

        let infinite = self.is(CompareOp::Eq, x, f64::INFINITY);
        let result = self.replace(infinite, f64::INFINITY, result);
        let zero = self.is(CompareOp::Eq, x, 0.0);
        let result = self.replace(zero, f64::NEG_INFINITY, result);
        // false for NaN too
        let in_domain = self.is(CompareOp::Ge, x, 0.0);
        let nan = self.constant(f64::NAN);
        self.b.select(in_domain, result, nan)
    }

    /// ln(1 + x): with `u = 1 + x` as rounded and `c` what rounding lost, it is `ln u + c/u`, but for terms below c².
    pub(super) fn log_1p(&mut self, x: Value) -> Value {
        let one = self.constant(1.0);
        let (u, lost) = self.two_sum(one, x);
        let log = self.log(u);
        let correction = self.b.div(lost, u);
        // neither where u is 0, and nothing is lost, nor where it is infinite, and what is lost is NaN
        let magnitude = self.b.abs(lost);
        let counts = self.is(CompareOp::Gt, magnitude, 0.0);
        let zero = self.constant(0.0);
        let correction = self.b.select(counts, correction, zero);
        let result = self.b.add(log, correction);
        // zeros keep their sign
        let is_zero = self.is(CompareOp::Eq, x, 0.0);
        self.b.select(is_zero, x, result)
    }
}
