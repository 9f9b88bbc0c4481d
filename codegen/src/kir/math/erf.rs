//! The error function. The coefficients are minimax fits (Remez, weighted for the relative error of the result,
//! computed with 60 digits): below 1 of `erf(x)/x − 1` in x², beyond of `ln(erfc(x) exp(x²))` in x − 2.

use super::Math;
use crate::kir::kernel::{CompareOp, Value};

/// Relative error 2⁻²⁹·⁶ on 0…1.
const SMALL_F32: [f64; 7] = [
    0.12837916573,
    -0.376126258242,
    0.112835851388,
    -0.0268538113764,
    0.00518832650195,
    -0.000801018273285,
    7.85382461517e-05,
];
/// Relative error 2⁻²⁹·⁸ on 1…4.
const LARGE_F32: [f64; 7] = [
    -1.36494104439,
    -0.418159387495,
    0.0762465169749,
    -0.0164879083681,
    0.00354422097846,
    -0.000711120451189,
    0.000186374475234,
];
/// Relative error 2⁻⁶⁸ on 0…1.
const SMALL_F64: [f64; 14] = [
    0.1283791670955126,
    -0.37612638903183754,
    0.11283791670955119,
    -0.026866170645129733,
    0.005223977625422084,
    -0.0008548327021853114,
    0.00012055332899354269,
    -1.4925647465011828e-05,
    1.646204340569717e-06,
    -1.6364614392996366e-07,
    1.4792145491419071e-08,
    -1.2163040370367748e-09,
    8.703784504700179e-11,
    -4.2228880286481776e-12,
];
/// Relative error 2⁻⁵⁹ on 1…6.
const LARGE_F64: [f64; 19] = [
    -1.3649412646166375,
    -0.4181608059944177,
    0.07624915817619564,
    -0.016465118136853276,
    0.0035707563461622187,
    -0.0007323993858521266,
    0.00013530933461322937,
    -2.0706432154694897e-05,
    1.952194305223925e-06,
    2.0364175301746184e-07,
    -1.7320583523679008e-07,
    5.779805960470433e-08,
    -1.3949746679606396e-08,
    2.538491007825805e-09,
    -2.7471263220899255e-10,
    -4.279431489287289e-11,
    3.7415572446560506e-11,
    -1.017381794584838e-11,
    1.0495962545688161e-12,
];

impl Math<'_> {
    pub(super) fn erf(&mut self, x: Value) -> Value {
        let sign = self.sign_bit(x);
        let magnitude = self.b.abs(x);
        let squared = self.b.mul(magnitude, magnitude);
        let p = self.polynomial(squared, self.either(&SMALL_F32[..], &SMALL_F64[..]));
        let small = self.b.fma(magnitude, p, magnitude);

        // erf rounds to 1 from 3.92 (5.93) on
        let limit = self.either(4.0, 6.0);
        let limit = self.constant(limit);
        let clamped = self.b.min(limit, magnitude);
        let shifted = self.add_constant(clamped, -2.0);
        let g = self.polynomial(shifted, self.either(&LARGE_F32[..], &LARGE_F64[..]));
        let minus = self.b.neg(clamped);
        let exponent = self.b.fma(minus, clamped, g);
        let complement = self.exp(exponent);
        let one = self.constant(1.0);
        let large = self.b.sub(one, complement);

        let is_small = self.is(CompareOp::Lt, magnitude, 1.0);
        let result = self.b.select(is_small, small, large);
        self.with_sign(result, sign)
    }
}
