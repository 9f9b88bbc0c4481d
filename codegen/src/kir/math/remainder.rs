//! The remainder of floats, exact: long division of the significands as integers, ten bits a step.

use kiln_ir::DType;

use super::Math;
use crate::kir::kernel::{CompareOp, Condition, ReduceOp, Value};

/// Bits of the quotient that one step finds: a significand of 53 bits shifted by them still fits in 63.
const STEP: i64 = 10;

impl Math<'_> {
    /// x − y · trunc(x / y). f32 is computed in f64, which is exact.
    pub(super) fn remainder(&mut self, x: Value, y: Value) -> Value {
        if self.is_f32() {
            let (wide_x, wide_y) = (self.b.convert(x, DType::F64), self.b.convert(y, DType::F64));
            // the exponents of f32, subnormals included, are 277 apart at most
            let wide = self.of(DType::F64).long_division(wide_x, wide_y, 277);
            return self.b.convert(wide, DType::F32);
        }
        self.long_division(x, y, 2098)
    }

    /// The remainder of f64 whose exponents are `distance` apart at most.
    fn long_division(&mut self, x: Value, y: Value, distance: i64) -> Value {
        let (x_magnitude, y_magnitude) = (self.b.abs(x), self.b.abs(y));
        let (dividend, x_exponent) = self.significand(x_magnitude);
        let (divisor, y_exponent) = self.significand(y_magnitude);
        let shift = self.b.sub(x_exponent, y_exponent);

        // both invariants of the loop: rest < divisor · 2^10, and `left` bits of the quotient are still to be found
        let (zero, step) = (self.int(0), self.int(STEP));
        let lanes = self.ty.lanes;
        let first = self.b.rem(dividend, divisor);
        let results = self.b.for_loop((distance + STEP - 1) / STEP, &[first, shift], |b, _, carried| {
            let (rest, left) = (carried[0], carried[1]);
            let active = b.compare(CompareOp::Gt, left, zero);
            let any = if lanes == 1 { active } else { b.reduce(ReduceOp::Or, active) };
            b.if_else(
                Condition::Value(any),
                |b| {
                    let bits = b.min(left, step);
                    let shifted = b.shl(rest, bits);
                    let next = b.rem(shifted, divisor);
                    let fewer = b.sub(left, bits);
                    vec![b.select(active, next, rest), b.select(active, fewer, left)]
                },
                |_| vec![rest, left],
            )
        });
        let rest = self.b.convert(results[0], DType::F64);
        let remainder = self.scale(rest, y_exponent);
        // |x| < |y|: x itself
        let smaller = self.b.compare(CompareOp::Lt, x_magnitude, y_magnitude);
        let remainder = self.b.select(smaller, x_magnitude, remainder);
        let sign = self.sign_bit(x);
        let remainder = self.with_sign(remainder, sign);

        let x_finite = self.is(CompareOp::Lt, x_magnitude, f64::INFINITY);
        let y_zero = self.is(CompareOp::Eq, y, 0.0);
        let y_nan = self.is_nan(y);
        let undefined = self.b.not(x_finite);
        let undefined = self.b.or(undefined, y_zero);
        let undefined = self.b.or(undefined, y_nan);
        self.replace(undefined, f64::NAN, remainder)
    }

    /// A magnitude as an integer of 53 bits (the topmost set, but of zero) and a power of two. Whatever it gives for
    /// infinity and NaN is not used.
    fn significand(&mut self, magnitude: Value) -> (Value, Value) {
        let subnormal = self.is(CompareOp::Lt, magnitude, 2f64.powi(-1022));
        let raised = self.times(magnitude, 2f64.powi(52));
        let normal = self.b.select(subnormal, raised, magnitude);
        let bits = self.bits(normal);
        let (fifty_two, zero) = (self.int(52), self.int(0));
        let biased = self.b.shr_logical(bits, fifty_two);
        let mask = self.int((1 << 52) - 1);
        let fraction = self.b.and(bits, mask);
        let hidden = self.int(1 << 52);
        let significand = self.b.or(fraction, hidden);
        let bias = self.int(1023 + 52);
        let exponent = self.b.sub(biased, bias);
        let lowered = self.b.select(subnormal, fifty_two, zero);
        (significand, self.b.sub(exponent, lowered))
    }
}
