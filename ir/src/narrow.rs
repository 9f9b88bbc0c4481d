//! Rounding to the 16-bit floats, once.
//!
//! By way of an f32 that was rounded to nearest, a number just beside the middle between two neighbours ends up on
//! the middle and is then rounded again, to the wrong one. An f32 *rounded to odd* (exact, or that neighbour whose
//! last bit is 1) is never on a middle it should not be on, because both formats have at least two bits less
//! (Boldo & Melquiond 2008, "Emulation of FMA and correctly rounded sums", theorem 3). `half`'s own conversions
//! from f64 drop the last 32 bits beforehand, and so take numbers just above a middle for the middle.

use half::{bf16, f16};

/// The f16 nearest to `v`, of two the even one.
pub fn f16_from_f64(v: f64) -> f16 {
    f16::from_f32(to_odd(v))
}

/// The bf16 nearest to `v`, of two the even one.
pub fn bf16_from_f64(v: f64) -> bf16 {
    bf16::from_f32(to_odd(v))
}

/// The bf16 nearest to `v`, of two the even one.
pub fn bf16_from_i64(v: i64) -> bf16 {
    bf16_from_f64(integer_to_odd(v))
}

/// `v` as an f32, rounded to odd.
fn to_odd(v: f64) -> f32 {
    let nearest = v as f32;
    let (found, wanted) = (f64::from(nearest).abs(), v.abs());
    // Towards zero, then odd unless it was exact. NaN is neither below nor above.
    let above = u32::from(found > wanted);
    f32::from_bits((nearest.to_bits() - above) | above | u32::from(found < wanted))
}

/// `v` as an f64, rounded to odd where an f64 has too few bits for it.
fn integer_to_odd(v: i64) -> f64 {
    if v.unsigned_abs() < 1 << 53 {
        return v as f64;
    }
    // 53 bits remain of 63 when the last ten go.
    let kept = v & !0x3FF;
    (if kept == v { v } else { kept | 0x400 }) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    /// The number of `all` nearest to `v`, of two the one at an even place: by comparing distances.
    fn nearest(v: f64, all: &[f64]) -> f64 {
        let above = all.partition_point(|&x| x < v).min(all.len() - 1);
        let below = above.saturating_sub(1);
        let (low, high) = (all[below], all[above]);
        // Both distances are exact: the neighbours are within a factor of two of v, or it is tiny.
        let (down, up) = (v - low, high - v);
        if down < up || (down == up && below.is_multiple_of(2)) { low } else { high }
    }

    /// Finite magnitudes in order, then what rounds to infinity: one further step of the last binade.
    fn magnitudes(bits: std::ops::Range<u16>, value: impl Fn(u16) -> f64) -> Vec<f64> {
        let mut all: Vec<f64> = bits.map(value).collect();
        let step = all[all.len() - 1] - all[all.len() - 2];
        all.push(all[all.len() - 1] + step);
        all
    }

    #[test]
    fn numbers_beside_a_middle_go_to_their_nearer_neighbour() {
        let middle = 1.0 + 2f64.powi(-11);
        assert_eq!(f16_from_f64(middle), f16::ONE);
        assert_eq!(f16_from_f64(middle + 2f64.powi(-40)), f16::from_bits(0x3C01));
        assert_eq!(f16_from_f64(-middle - 2f64.powi(-52)), f16::from_bits(0xBC01));
        let middle = 1.0 + 3.0 * 2f64.powi(-11);
        assert_eq!(f16_from_f64(middle), f16::from_bits(0x3C02));
        assert_eq!(f16_from_f64(middle - 2f64.powi(-40)), f16::from_bits(0x3C01));
        let middle = 1.0 + 2f64.powi(-8);
        assert_eq!(bf16_from_f64(middle + 2f64.powi(-50)), bf16::from_bits(0x3F81));
        assert_eq!(bf16_from_f64(middle), bf16::ONE);
        // Subnormal results: half of the least f16 is a tie with zero, anything above it is not.
        assert_eq!(f16_from_f64(2f64.powi(-25)), f16::ZERO);
        assert_eq!(f16_from_f64(2f64.powi(-25) * (1.0 + f64::EPSILON)), f16::from_bits(1));
        assert_eq!(bf16_from_f64(2f64.powi(-134) * (1.0 + f64::EPSILON)), bf16::from_bits(1));
    }

    #[test]
    fn infinities_nan_zeros_and_what_is_too_large_keep_their_kind() {
        assert_eq!(f16_from_f64(65520.0), f16::INFINITY);
        assert_eq!(f16_from_f64(65520.0f64.next_down()), f16::MAX);
        assert_eq!(f16_from_f64(-1e300), f16::NEG_INFINITY);
        assert_eq!(bf16_from_f64(f64::MAX), bf16::INFINITY);
        assert_eq!(bf16_from_f64(f64::from(f32::MAX)), bf16::INFINITY);
        assert!(f16_from_f64(f64::NAN).is_nan() && bf16_from_f64(-f64::NAN).is_nan());
        assert_eq!(f16_from_f64(-0.0).to_bits(), 0x8000);
        assert_eq!(bf16_from_f64(-1e-320).to_bits(), 0x8000);
    }

    #[test]
    fn random_numbers_and_neighbours_of_every_middle_agree_with_a_search() {
        let half = magnitudes(0..0x7C00, |b| f16::from_bits(b).to_f64());
        let brain = magnitudes(0..0x7F80, |b| bf16::from_bits(b).to_f64());
        let check = |v: f64| {
            let (found, wanted) = (f16_from_f64(v).to_f64(), nearest(v, &half));
            assert!(found == wanted || (wanted == 65536.0 && found.is_infinite()), "{v:e}: {found:e}, not {wanted:e}");
            let (found, wanted) = (bf16_from_f64(v).to_f64(), nearest(v, &brain));
            assert!(found == wanted || (wanted > 3.4e38 && found.is_infinite()), "{v:e}: {found:e}, not {wanted:e}");
        };
        for pairs in [&half, &brain] {
            for pair in pairs.windows(2) {
                let middle = (pair[0] + pair[1]) / 2.0;
                [middle.next_down(), middle, middle.next_up()].into_iter().for_each(check);
            }
        }
        let (exponents, digits) = (random::uniform(1, 20_000), random::uniform(2, 20_000));
        for (exponent, digit) in exponents.zip(digits) {
            check((1.0 + digit) * 2f64.powi((exponent * 60.0) as i32 - 40));
        }
    }

    #[test]
    fn integers_beyond_the_digits_of_an_f64_round_once() {
        let middle = (1i64 << 62) + (1 << 54);
        assert_eq!(bf16_from_i64(middle).to_f64(), 2f64.powi(62));
        assert_eq!(bf16_from_i64(middle + 1).to_f64(), 2f64.powi(62) + 2f64.powi(55));
        assert_eq!(bf16_from_i64(-middle - 1).to_f64(), -(2f64.powi(62) + 2f64.powi(55)));
        assert_eq!(bf16_from_i64(-middle + 1).to_f64(), -(2f64.powi(62)));
        assert_eq!(bf16_from_i64(i64::MIN).to_f64(), -(2f64.powi(63)));
        assert_eq!(bf16_from_i64(i64::MAX).to_f64(), 2f64.powi(63));
    }
}
