//! Element types that Kiln does not compute in, held in wider ones: integers of 4 and 16 bits, unsigned ones of 32, and floats
//! of 8 bits.
//!
//! The wider type has every value of the narrower one, so that constants are exact, and so is what is done with them:
//! casts, quantising and back, movement, choices, and arithmetic of integers of 16 and 32 bits. Other operators refuse them by name. An
//! input or output of such a type has the wider one; what is fed is cast first.

use bytes::Bytes;
use half::f16;
use kiln_ir::attribute::Reducer;
use kiln_ir::{DType, Op, Tensor};

use super::emit::{Emitter, Operand};
use super::error::Result;
use super::proto::TensorDataType;

/// A tensor of a narrow element type.
#[derive(Clone, Debug)]
pub(super) struct Narrow {
    pub ty: NarrowType,
    /// The same values in the type that holds them.
    pub held: Operand,
}

/// A narrow element type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum NarrowType {
    /// Integers from the first to the last.
    Integer { name: &'static str, bits: usize, least: i64, most: i64 },
    /// Floats of 8 bits (Micikevicius et al. 2022; `Fnuz`: Noune et al. 2022).
    Float(Float8),
}

/// A format of 8-bit floats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Float8 {
    name: &'static str,
    /// Bits of the fraction.
    fraction: i32,
    /// What is subtracted from the exponent's bits.
    bias: i32,
    most: f64,
    /// Whether there are infinities and a negative zero, as IEEE 754 has them.
    infinities: bool,
    negative_zero: bool,
}

const E4M3FN: Float8 =
    Float8 { name: "float8e4m3fn", fraction: 3, bias: 7, most: 448.0, infinities: false, negative_zero: true };
const E4M3FNUZ: Float8 =
    Float8 { name: "float8e4m3fnuz", fraction: 3, bias: 8, most: 240.0, infinities: false, negative_zero: false };
const E5M2: Float8 =
    Float8 { name: "float8e5m2", fraction: 2, bias: 15, most: 57344.0, infinities: true, negative_zero: true };
const E5M2FNUZ: Float8 =
    Float8 { name: "float8e5m2fnuz", fraction: 2, bias: 16, most: 57344.0, infinities: false, negative_zero: false };

impl NarrowType {
    /// The narrow type of an ONNX element type, where it is one.
    pub fn of(data_type: i32) -> Option<NarrowType> {
        let integer = |name, bits, least, most| NarrowType::Integer { name, bits, least, most };
        Some(match TensorDataType::try_from(data_type).ok()? {
            TensorDataType::Int4 => integer("int4", 4, -8, 7),
            TensorDataType::Uint4 => integer("uint4", 4, 0, 15),
            TensorDataType::Int16 => integer("int16", 16, i16::MIN.into(), i16::MAX.into()),
            TensorDataType::Uint16 => integer("uint16", 16, 0, u16::MAX.into()),
            TensorDataType::Uint32 => integer("uint32", 32, 0, u32::MAX.into()),
            TensorDataType::Float8e4m3fn => NarrowType::Float(E4M3FN),
            TensorDataType::Float8e4m3fnuz => NarrowType::Float(E4M3FNUZ),
            TensorDataType::Float8e5m2 => NarrowType::Float(E5M2),
            TensorDataType::Float8e5m2fnuz => NarrowType::Float(E5M2FNUZ),
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            NarrowType::Integer { name, .. } => name,
            NarrowType::Float(format) => format.name,
        }
    }

    /// The type that has all its values.
    pub fn held_in(self) -> DType {
        match self {
            NarrowType::Integer { bits: 4, least, .. } => {
                if least < 0 {
                    DType::I8
                } else {
                    DType::U8
                }
            }
            NarrowType::Integer { bits: 16, .. } => DType::I32,
            NarrowType::Integer { .. } => DType::I64,
            NarrowType::Float(_) => DType::F16,
        }
    }

    /// The type in which the bits of its integers, and one more, are computed with.
    fn held_in_at_least_i32(self) -> DType {
        if self.held_in() == DType::I64 { DType::I64 } else { DType::I32 }
    }

    /// Whether ONNX has arithmetic of it.
    pub fn computes(self) -> bool {
        matches!(self, NarrowType::Integer { bits: 16.., .. })
    }

    /// Whether its elements are floats.
    pub fn is_float(self) -> bool {
        matches!(self, NarrowType::Float(_))
    }

    /// Whether it has negative values.
    pub fn signed(self) -> bool {
        !matches!(self, NarrowType::Integer { least: 0.., .. })
    }

    /// Bits of an element in a file.
    pub fn bits(self) -> usize {
        match self {
            NarrowType::Integer { bits, .. } => bits,
            NarrowType::Float(_) => 8,
        }
    }

    /// `count` elements as bytes of the type that holds them, from the bytes of a file, of which there are enough.
    pub fn widen(self, packed: &[u8], count: usize) -> Bytes {
        let mut out = Vec::with_capacity(count * self.held_in().size());
        match self {
            NarrowType::Integer { bits: 4, least, .. } => {
                // The first of two elements is in the lower half of their byte.
                let halves = packed.iter().flat_map(|&byte| [byte & 0xf, byte >> 4]).take(count);
                out.extend(halves.map(|half| if least < 0 && half > 7 { half | 0xf0 } else { half }));
            }
            NarrowType::Integer { bits: 16, least, .. } => {
                for pair in packed.chunks_exact(2).take(count) {
                    let bits = u16::from_le_bytes([pair[0], pair[1]]);
                    let value = if least < 0 { i32::from(bits as i16) } else { i32::from(bits) };
                    out.extend(value.to_le_bytes());
                }
            }
            NarrowType::Integer { .. } => {
                for four in packed.chunks_exact(4).take(count) {
                    let value = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
                    out.extend(i64::from(value).to_le_bytes());
                }
            }
            NarrowType::Float(format) => {
                for &byte in packed.iter().take(count) {
                    out.extend(format.value(byte).to_le_bytes());
                }
            }
        }
        Bytes::from(out)
    }

    /// x with values below the least integer and above the greatest one replaced by these.
    fn clamp(self, e: &mut Emitter, x: &Operand) -> Result<Operand> {
        let NarrowType::Integer { least, most, .. } = self else { return Ok(x.clone()) };
        let above = e.with_scalar(Op::Maximum {}, x, least as f64)?;
        e.with_scalar(Op::Minimum {}, &above, most as f64)
    }

    /// x / `scale` + `zero`, rounded to the nearest value, of two to the even one, and saturated (8-bit floats if so wanted).
    pub fn quantize(
        self,
        e: &mut Emitter,
        x: &Operand,
        scale: &Operand,
        zero: &Operand,
        saturate: bool,
    ) -> Result<Operand> {
        let scaled = e.div(x, scale)?;
        if let NarrowType::Float(format) = self {
            let zero = e.convert(zero, scaled.dtype())?;
            let moved = e.add(&scaled, &zero)?;
            return format.round(e, &moved, saturate);
        }
        let whole = e.op(Op::Round {}, &[&scaled])?;
        let whole = if whole.dtype() == DType::F64 { whole } else { e.convert(&whole, DType::F32)? };
        let (whole, zero) = (whole_numbers(e, &whole)?, e.convert(zero, DType::I64)?);
        let moved = e.add(&whole, &zero)?;
        let within = self.clamp(e, &moved)?;
        e.convert(&within, self.held_in())
    }

    /// The values of x that this type has: integers by dropping the fraction where x is a float, floats by rounding to the
    /// nearest. Floats that are out of range become the least or greatest value; or, 8-bit ones without `saturate`, infinity
    /// or no number.
    pub fn cast(self, e: &mut Emitter, x: &Operand, saturate: bool) -> Result<Operand> {
        match self {
            NarrowType::Integer { bits, least, most, .. } if x.dtype().is_integer() => {
                // The higher bits are dropped, as between other integers.
                let wide = if x.dtype() == DType::I64 { x.clone() } else { e.convert(x, self.held_in_at_least_i32())? };
                let period = (1i64 << bits) as f64;
                let low = e.with_scalar(Op::And {}, &wide, period - 1.0)?;
                let signed = if least < 0 {
                    let negative = e.with_scalar(Op::Greater {}, &low, most as f64)?;
                    let shifted = e.with_scalar(Op::Sub {}, &low, period)?;
                    e.select(&negative, &shifted, &low)?
                } else {
                    low
                };
                e.convert(&signed, self.held_in())
            }
            NarrowType::Integer { .. } => {
                let x = if x.dtype() == DType::F64 { x.clone() } else { e.convert(x, DType::F32)? };
                let whole = whole_numbers(e, &x)?;
                let within = self.clamp(e, &whole)?;
                e.convert(&within, self.held_in())
            }
            NarrowType::Float(format) => format.round(e, x, saturate),
        }
    }
}

/// x without its fractions as i64. What is beyond any narrow type's range, with any zero point of it, stays beyond it.
fn whole_numbers(e: &mut Emitter, x: &Operand) -> Result<Operand> {
    let far = (1i64 << 40) as f64;
    let above = e.with_scalar(Op::Maximum {}, x, -far)?;
    let within = e.with_scalar(Op::Minimum {}, &above, far)?;
    e.convert(&within, DType::I64)
}

impl Float8 {
    /// The value of a bit pattern. Every one is a value of f16, whose exponent has as many bits and whose fraction more.
    fn value(self, byte: u8) -> f16 {
        let sign = if byte & 0x80 == 0 { 1.0 } else { -1.0 };
        let exponent = i32::from(byte & 0x7f) >> self.fraction;
        let fraction = f64::from(i32::from(byte & 0x7f) & ((1 << self.fraction) - 1)) / f64::from(1 << self.fraction);
        let top = exponent == (0x7f >> self.fraction);
        let value = match self {
            // What would be the negative zero is the one pattern of no number.
            Float8 { negative_zero: false, .. } if byte == 0x80 => f64::NAN,
            Float8 { infinities: true, .. } if top && fraction == 0.0 => f64::INFINITY,
            Float8 { infinities: true, .. } if top => f64::NAN,
            Float8 { negative_zero: true, .. } if byte & 0x7f == 0x7f => f64::NAN,
            _ if exponent == 0 => fraction * 2f64.powi(1 - self.bias),
            _ => (1.0 + fraction) * 2f64.powi(exponent - self.bias),
        };
        f16::from_f64(sign * value)
    }

    /// Rounds to the nearest value, of two to the even one: x is a multiple of the spacing of values around it, rounded.
    fn round(self, e: &mut Emitter, x: &Operand, saturate: bool) -> Result<Operand> {
        let x = if x.dtype() == DType::F64 { x.clone() } else { e.convert(x, DType::F32)? };
        // Values below the least normal one are spaced as those above it are; every power of two doubles the spacing.
        let least = 1 - self.bias;
        let powers: Vec<i32> = (least + 1..=self.most.log2().floor() as i32).collect();
        let bounds: Vec<f64> = powers.iter().map(|&p| 2f64.powi(p)).collect();
        let spacings: Vec<f64> = (0..=powers.len() as i32).map(|i| 2f64.powi(least + i - self.fraction)).collect();
        let table = |values: &[f64]| -> Result<Operand> {
            Ok(Operand::known(Tensor::from_f64(x.dtype(), &[values.len()], values)?))
        };
        let (bounds, spacings) = (table(&bounds)?, table(&spacings)?);
        let size = e.op(Op::Abs {}, &[&x])?;
        let dims = [x.dims(), &[powers.len()]].concat();
        let axes: Vec<usize> = (0..x.rank()).collect();
        let spread = e.broadcast(&size, &dims, &axes)?;
        let reached = e.binary(Op::GreaterEqual {}, &spread, &bounds)?;
        let reached = e.convert(&reached, DType::I64)?;
        let place = e.reduce(&reached, &[x.rank()], Reducer::Sum)?;
        let spacing = e.gather(&spacings, &place, 0)?;
        let multiple = e.div(&x, &spacing)?;
        let multiple = e.op(Op::Round {}, &[&multiple])?;
        let mut y = e.mul(&multiple, &spacing)?;
        let size = e.op(Op::Abs {}, &[&y])?;
        if saturate {
            // No number stays none: a minimum with it is one too.
            let below = e.with_scalar(Op::Minimum {}, &y, self.most)?;
            y = e.with_scalar(Op::Maximum {}, &below, -self.most)?;
        } else {
            let beyond = e.with_scalar(Op::Greater {}, &size, self.most)?;
            let instead = if self.infinities {
                let sign = e.op(Op::Sign {}, &[&y])?;
                e.with_scalar(Op::Mul {}, &sign, f64::INFINITY)?
            } else {
                Operand::scalar(y.dtype(), f64::NAN)?
            };
            y = e.select(&beyond, &instead, &y)?;
        }
        if !self.negative_zero {
            let zero = e.with_scalar(Op::Equal {}, &y, 0.0)?;
            let positive = Operand::scalar(y.dtype(), 0.0)?;
            y = e.select(&zero, &positive, &y)?;
        }
        e.convert(&y, DType::F16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_the_values_that_their_definitions_list() {
        let value = |format: Float8, byte| format.value(byte).to_f64();
        // least subnormal, least normal, one, greatest
        for (format, patterns) in [
            (E4M3FN, [(0x01, 2f64.powi(-9)), (0x08, 2f64.powi(-6)), (0x38, 1.0), (0x7e, 448.0)]),
            (E4M3FNUZ, [(0x01, 2f64.powi(-10)), (0x08, 2f64.powi(-7)), (0x40, 1.0), (0x7f, 240.0)]),
            (E5M2, [(0x01, 2f64.powi(-16)), (0x04, 2f64.powi(-14)), (0x3c, 1.0), (0x7b, 57344.0)]),
            (E5M2FNUZ, [(0x01, 2f64.powi(-17)), (0x04, 2f64.powi(-15)), (0x40, 1.0), (0x7f, 57344.0)]),
        ] {
            for (byte, expected) in patterns {
                assert_eq!(value(format, byte), expected, "{} {byte:#x}", format.name);
                assert_eq!(value(format, byte | 0x80), -expected, "{} {byte:#x}", format.name);
            }
            let nan = if format.negative_zero { 0xff } else { 0x80 };
            assert!(value(format, nan).is_nan());
        }
        assert_eq!(value(E5M2, 0xfc), f64::NEG_INFINITY);
        assert!(value(E4M3FN, 0x7f).is_nan() && value(E4M3FN, 0x80) == 0.0);
    }

    #[test]
    fn rounding_gives_every_value_back_and_goes_to_the_nearest_between() {
        for format in [E4M3FN, E4M3FNUZ, E5M2, E5M2FNUZ] {
            let mut values: Vec<f64> = (0..0x80).map(|b| format.value(b).to_f64()).filter(|v| v.is_finite()).collect();
            values.sort_by(f64::total_cmp);
            let mut cases: Vec<(f64, f64)> = values.iter().map(|&v| (v, v)).collect();
            for (i, pair) in values.windows(2).enumerate() {
                let middle = (pair[0] + pair[1]) / 2.0;
                // the even one of two: their patterns follow each other
                cases.push((middle, pair[i % 2]));
                cases.push((middle * (1.0 - 2f64.powi(-20)), pair[0]));
                cases.push((middle * (1.0 + 2f64.powi(-20)), pair[1]));
            }
            cases.push((1e30, format.most));
            let cases: Vec<(f64, f64)> = cases.iter().flat_map(|&(x, y)| [(x, y), (-x, -y)]).collect();
            let x: Vec<f64> = cases.iter().map(|c| c.0).collect();
            let x = Operand::known(Tensor::from_f64(DType::F32, &[x.len()], &x).unwrap());
            let mut e = Emitter::new(kiln_ir::Graph::new("test"));
            let y = NarrowType::Float(format).cast(&mut e, &x, true).unwrap();
            for (found, (x, expected)) in y.tensor().unwrap().to_f64_vec().iter().zip(&cases) {
                assert_eq!(found, expected, "{} of {}", format.name, x);
            }
        }
    }

    #[test]
    fn what_is_beyond_the_range_saturates_or_does_not() {
        let beyond = [464.1, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e6, -1e6, -0.0];
        let x = Operand::known(Tensor::from_f64(DType::F32, &[beyond.len()], &beyond).unwrap());
        let cast = |format, saturate| {
            let mut e = Emitter::new(kiln_ir::Graph::new("test"));
            let y = NarrowType::Float(format).cast(&mut e, &x, saturate).unwrap();
            format!("{:?}", y.tensor().unwrap().to_f64_vec())
        };
        assert_eq!(cast(E4M3FN, true), "[448.0, 448.0, -448.0, NaN, 448.0, -448.0, -0.0]");
        assert_eq!(cast(E4M3FN, false), "[NaN, NaN, NaN, NaN, NaN, NaN, -0.0]");
        assert_eq!(cast(E4M3FNUZ, true), "[240.0, 240.0, -240.0, NaN, 240.0, -240.0, 0.0]");
        assert_eq!(cast(E5M2, false), "[448.0, inf, -inf, NaN, inf, -inf, -0.0]");
        assert_eq!(cast(E5M2FNUZ, false), "[448.0, NaN, NaN, NaN, NaN, NaN, 0.0]");
    }
}
