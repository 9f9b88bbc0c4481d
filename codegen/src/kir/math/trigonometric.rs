//! `sin` and `cos`. The argument is reduced to `r` within ± π/4 and a quadrant, in f64 for both dtypes.

use std::f64::consts::{FRAC_2_PI, FRAC_PI_2};

use kiln_ir::DType;

use super::{Math, inverse_factorial};
use crate::kir::kernel::{CompareOp, Condition, ReduceOp, Value};

/// π/2 in three parts: twice 33 bits, so that integers to 2²⁰ times them are exact, and the rest.
const HALF_PI: [f64; 3] = [1.570_796_326_734_125_6, 6.077_100_506_303_966e-11, 2.022_266_248_795_950_7e-21];

/// The largest argument that is reduced with [`HALF_PI`].
const LARGE: f64 = 1e6;

/// Binary digits 1 to 1,170 of 2/π, 26 at a time.
const TWO_OVER_PI: [u32; 45] = [
    42722829, 48555073, 21659401, 56087029, 13858563, 28715353, 38736100, 4324945, 26128250, 62674459, 29957006,
    37899730, 58726692, 49193117, 6588223, 35515164, 46442140, 65964067, 24988590, 54822121, 41009306, 54917092,
    5137525, 37323603, 15192690, 4585659, 58608142, 52426903, 67074070, 25231090, 63202006, 34237727, 28629499,
    15891632, 40752081, 37709470, 25143477, 55737260, 33225084, 24853767, 15195689, 19476134, 50255852, 18845021,
    2185228,
];

impl Math<'_> {
    pub(super) fn sin(&mut self, x: Value) -> Value {
        self.sine(x, 0)
    }

    pub(super) fn cos(&mut self, x: Value) -> Value {
        self.sine(x, 1)
    }

    /// sin(x + quarters · π/2).
    fn sine(&mut self, x: Value, quarters: i64) -> Value {
        let wide = self.b.convert(x, DType::F64);
        let from_f32 = self.is_f32();
        let (r, quadrant) = self.of(DType::F64).reduce_by_half_pi(wide, from_f32);
        let r = self.b.convert(r, self.ty.dtype);
        let quadrant = self.b.convert(quadrant, self.integer());
        let quarters = self.int(quarters);
        let quadrant = self.b.add(quadrant, quarters);

        let z = self.b.mul(r, r);
        // the first terms left out are below 2⁻²⁸ (2⁻⁶⁰)
        let (sine_terms, cosine_terms) = self.either((5, 6), (9, 10));
        let term =
            |n: u32, sign: u32| if sign.is_multiple_of(2) { inverse_factorial(n) } else { -inverse_factorial(n) };
        let sine: Vec<f64> = (1..sine_terms).map(|k| term(2 * k + 1, k)).collect();
        let cosine: Vec<f64> = (2..cosine_terms).map(|k| term(2 * k, k)).collect();
        let p = self.polynomial(z, &sine);
        let cube = self.b.mul(z, r);
        let sine = self.b.fma(cube, p, r);
        let q = self.polynomial(z, &cosine);
        let fourth = self.b.mul(z, z);
        // 1 − z/2 and the rounding error that it makes
        let one = self.constant(1.0);
        let half = self.times(z, 0.5);
        let head = self.b.sub(one, half);
        let lost = self.b.sub(one, head);
        let lost = self.b.sub(lost, half);
        let tail = self.b.fma(fourth, q, lost);
        let cosine = self.b.add(head, tail);

        let one = self.int(1);
        let zero = self.int(0);
        let odd = self.b.and(quadrant, one);
        let is_odd = self.b.compare(CompareOp::Ne, odd, zero);
        let result = self.b.select(is_odd, cosine, sine);
        // quadrants 2 and 3 are negative: bit 1 moved to the sign
        let two = self.int(2);
        let negative = self.b.and(quadrant, two);
        let shift = self.int(self.either(30, 62));
        let sign = self.b.shl(negative, shift);
        self.with_sign(result, sign)
    }

    /// `r` and `n` with `x = n π/2 + r`, `n` modulo 4; of f64, whose values are f32's where `from_f32`.
    fn reduce_by_half_pi(&mut self, x: Value, from_f32: bool) -> (Value, Value) {
        let (n, quadrant) = self.nearest(x, FRAC_2_PI);
        let mut r = x;
        for part in HALF_PI {
            let product = self.times(n, part);
            r = self.b.sub(r, product);
        }
        let magnitude = self.b.abs(x);
        let large = self.is(CompareOp::Gt, magnitude, LARGE);
        let any = match self.ty.lanes {
            1 => large,
            _ => self.b.reduce(ReduceOp::Or, large),
        };
        // lane by lane, so that a lane's result does not depend on its neighbours
        let b = &mut *self.b;
        let ty = self.ty;
        let results = b.if_else(
            Condition::Value(any),
            |b| {
                let (far_r, far_quadrant) = Math { b, ty }.reduce_large(x, from_f32);
                vec![b.select(large, far_r, r), b.select(large, far_quadrant, quadrant)]
            },
            |_| vec![r, quadrant],
        );
        (results[0], results[1])
    }

    /// The same for large arguments (Payne and Hanek): x · 2/π is summed from exact products, each modulo 4.
    fn reduce_large(&mut self, x: Value, from_f32: bool) -> (Value, Value) {
        // scaled so that neither the products of the first digits overflow nor those of the last underflow
        const SCALE: i32 = 500;
        let x = self.times(x, 2f64.powi(-SCALE));
        let parts = match from_f32 {
            true => vec![x],
            false => {
                let bits = self.bits(x);
                let mask = self.int(!((1 << 27) - 1));
                let bits = self.b.and(bits, mask);
                let high = self.float(bits);
                vec![high, self.b.sub(x, high)]
            }
        };
        let digits = if from_f32 { 8 } else { TWO_OVER_PI.len() };
        let mut sum = self.constant(0.0);
        let (mut error, mut rest) = (sum, sum);
        for (i, &digit) in TWO_OVER_PI.iter().enumerate().take(digits) {
            let digit = f64::from(digit) * 2f64.powi(SCALE - 26 * (i as i32 + 1));
            for &part in &parts {
                let product = self.times(part, digit);
                let quarter = self.times(product, 0.25);
                let whole = self.b.round(quarter);
                let multiple = self.times(whole, 4.0);
                let product = self.b.sub(product, multiple);
                let lost;
                (sum, lost) = self.two_sum(sum, product);
                let lost_again;
                (error, lost_again) = self.two_sum(error, lost);
                rest = self.b.add(rest, lost_again);
            }
        }
        // what is left of the sums, then the nearest integer
        let quarter = self.times(sum, 0.25);
        let whole = self.b.round(quarter);
        let multiple = self.times(whole, 4.0);
        let sum = self.b.sub(sum, multiple);
        let (n, quadrant) = self.nearest(sum, 1.0);
        let fraction = self.b.sub(sum, n);
        let (fraction, lost) = self.two_sum(fraction, error);
        let rest = self.b.add(rest, lost);
        let fraction = self.b.add(fraction, rest);
        (self.times(fraction, FRAC_PI_2), quadrant)
    }
}
