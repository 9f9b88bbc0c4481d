//! `pow`.

use kiln_ir::DType;

use super::Math;
use crate::kir::kernel::{CompareOp, Value};

impl Math<'_> {
    /// xʸ = exp(y ln |x|), negated where x is negative and y an odd integer. f32 is computed in f64.
    pub(super) fn pow(&mut self, x: Value, y: Value) -> Value {
        if self.is_f32() {
            let (wide_x, wide_y) = (self.b.convert(x, DType::F64), self.b.convert(y, DType::F64));
            let wide = self.of(DType::F64).pow(wide_x, wide_y);
            return self.b.convert(wide, DType::F32);
        }
        let magnitude = self.b.abs(x);
        let logarithm = self.log(magnitude);
        let exponent = self.b.mul(y, logarithm);
        let power = self.exp(exponent);

        let whole = self.b.trunc(y);
        let is_integer = self.b.compare(CompareOp::Eq, whole, y);
        let half = self.times(y, 0.5);
        let half_whole = self.b.trunc(half);
        let half_fraction = self.b.compare(CompareOp::Ne, half_whole, half);
        let is_odd = self.b.and(is_integer, half_fraction);

        let sign = self.sign_bit(x);
        let no_sign = self.int(0);
        let sign = self.b.select(is_odd, sign, no_sign);
        let result = self.with_sign(power, sign);
        // a negative finite number to a fractional power has no value
        let negative = self.is(CompareOp::Lt, x, 0.0);
        let finite = self.is(CompareOp::Ne, x, f64::NEG_INFINITY);
        let fractional = self.b.not(is_integer);
        let undefined = self.b.and(negative, finite);
        let undefined = self.b.and(undefined, fractional);
        let result = self.replace(undefined, f64::NAN, result);
        // (−1)^±∞ is 1; so is 1ʸ for every y, and x⁰ for every x, NaN among them
        let unit = self.is(CompareOp::Eq, magnitude, 1.0);
        let y_magnitude = self.b.abs(y);
        let y_infinite = self.is(CompareOp::Eq, y_magnitude, f64::INFINITY);
        let unit_to_infinity = self.b.and(unit, y_infinite);
        let one = self.is(CompareOp::Eq, x, 1.0);
        let to_zero = self.is(CompareOp::Eq, y, 0.0);
        let is_one = self.b.or(unit_to_infinity, one);
        let is_one = self.b.or(is_one, to_zero);
        self.replace(is_one, 1.0, result)
    }

    /// xʸ of integers by repeated squaring, wrapping.
    pub(super) fn integer_pow(&mut self, x: Value, y: Value) -> Value {
        let ty = self.ty;
        let zero = self.b.constant_int(ty, 0);
        let one = self.b.constant_int(ty, 1);
        let bits = 8 * ty.dtype.size() as i64;
        let results = self.b.for_loop(bits, &[one, x, y], |b, _, carried| {
            let (power, square, rest) = (carried[0], carried[1], carried[2]);
            let low = b.and(rest, one);
            let odd = b.compare(CompareOp::Ne, low, zero);
            let product = b.mul(power, square);
            vec![b.select(odd, product, power), b.mul(square, square), b.shr_logical(rest, one)]
        });
        // 1/x truncated: of 1 and −1 themselves (by the exponent's parity), of all others 0
        let minus_one = self.b.constant_int(ty, -1);
        let low = self.b.and(y, one);
        let odd = self.b.compare(CompareOp::Ne, low, zero);
        let sign = self.b.select(odd, minus_one, one);
        let is_one = self.b.compare(CompareOp::Eq, x, one);
        let is_minus_one = self.b.compare(CompareOp::Eq, x, minus_one);
        let inverse = self.b.select(is_minus_one, sign, zero);
        let inverse = self.b.select(is_one, one, inverse);
        let negative = self.b.compare(CompareOp::Lt, y, zero);
        self.b.select(negative, inverse, results[0])
    }
}
