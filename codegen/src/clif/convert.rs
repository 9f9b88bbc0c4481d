//! Conversions between dtypes.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32, F32X4, F64, F64X2, I32, I32X4, I64};
use cranelift_codegen::ir::{self, InstBuilder};
use kiln_ir::DType;

use super::emit::Emitter;
use super::lanes::{Layout, Parts, is_wide, scalar_type, vector_type};
use crate::kir::{BinaryOp, Bits, CompareOp, VType};

impl Emitter<'_> {
    /// Converts a value to the dtype of `to`.
    pub(super) fn convert(&mut self, from: VType, to: VType, parts: &[ir::Value]) -> Parts {
        match (from.dtype, to.dtype) {
            (_, DType::Bool) => {
                let zero = self.constant(from, Bits(0));
                self.compare(CompareOp::Ne, from, parts, &zero)
            }
            (DType::Bool, _) => self.bool_to(to, parts),
            (DType::F16, _) => self.each(parts, |e, part| e.half_to_float(part)),
            (DType::BF16, _) => self.each(parts, |e, part| {
                let bits = e.shift_constant(BinaryOp::Shl, part, 16);
                e.as_float(bits)
            }),
            (_, DType::F16) => self.each(parts, |e, part| e.float_to_half(part)),
            (_, DType::BF16) => self.each(parts, |e, part| e.float_to_bfloat(part)),
            (DType::F32, DType::I32 | DType::I8 | DType::U8) => {
                self.each(parts, |e, part| e.truncate_to_i32(to.dtype, part))
            }
            (DType::I32 | DType::I8 | DType::U8, DType::F32) => self.each(parts, |e, part| {
                let ty = if e.b.func.dfg.value_type(part).is_vector() { F32X4 } else { F32 };
                e.b.ins().fcvt_from_sint(ty, part)
            }),
            (a, b) if !is_wide(a) && !is_wide(b) => self.each(parts, |e, part| e.normalise(b, part)),
            (DType::I64, b) if b.is_integer() => self.narrow(from, to, parts),
            (a, DType::I64) if a.is_integer() => self.widen(from, parts),
            (DType::I64, DType::F64) => self.each(parts, |e, part| {
                let ty = if e.b.func.dfg.value_type(part).is_vector() { F64X2 } else { F64 };
                e.b.ins().fcvt_from_sint(ty, part)
            }),
            (_, DType::F64) => self.promote(from, parts),
            (DType::F64, DType::F32) => self.demote(from, parts),
            (a, b) => self.by_lane(from, parts, b, |e, lane| e.convert_lane(a, b, lane)),
        }
    }

    /// 32-bit lanes to f64: the low half of a register, then the high half moved down.
    fn promote(&mut self, from: VType, parts: &[ir::Value]) -> Parts {
        let (registers, tail) = parts.split_at(Layout::of(from).vectors());
        let mut wide = Parts::new();
        for &register in registers {
            let ty = vector_type(from.dtype);
            let high: Vec<u8> = (8..16).chain(8..16).collect();
            let moved = self.byte_shuffle(ty, register, register, &high);
            for half in [register, moved] {
                wide.push(match from.dtype {
                    DType::F32 => self.b.ins().fvpromote_low(half),
                    _ => {
                        let longs = self.b.ins().swiden_low(half);
                        self.b.ins().fcvt_from_sint(F64X2, longs)
                    }
                });
            }
        }
        wide.extend(tail.iter().map(|&lane| self.convert_lane(from.dtype, DType::F64, lane)));
        wide
    }

    /// f64 to f32: each half of a group is rounded into the low lanes of a register.
    fn demote(&mut self, from: VType, parts: &[ir::Value]) -> Parts {
        let (registers, tail) = parts.split_at(Layout::of(from).vectors());
        let mut narrow = Parts::new();
        for pair in registers.chunks(2) {
            let (low, high) = (self.b.ins().fvdemote(pair[0]), self.b.ins().fvdemote(pair[1]));
            let halves: Vec<u8> = (0..8).chain(16..24).collect();
            narrow.push(self.byte_shuffle(F32X4, low, high, &halves));
        }
        narrow.extend(tail.iter().map(|&lane| self.convert_lane(DType::F64, DType::F32, lane)));
        narrow
    }

    fn each(&mut self, parts: &[ir::Value], mut f: impl FnMut(&mut Self, ir::Value) -> ir::Value) -> Parts {
        parts.iter().map(|&part| f(self, part)).collect()
    }

    /// The conversions that CLIF has for scalars only: those between 64-bit lanes and others, or floats of 64 bits.
    fn convert_lane(&mut self, from: DType, to: DType, lane: ir::Value) -> ir::Value {
        let target = scalar_type(to);
        match (from, to) {
            (DType::F64, DType::F32) => self.b.ins().fdemote(F32, lane),
            (DType::F32, DType::F64) => self.b.ins().fpromote(F64, lane),
            (_, DType::F32 | DType::F64) => self.b.ins().fcvt_from_sint(target, lane),
            _ => {
                let number = self.b.ins().fcvt_to_sint_sat(target, lane);
                self.clamp_to(to, number)
            }
        }
    }

    /// A mask as zeros and ones of another dtype.
    fn bool_to(&mut self, to: VType, parts: &[ir::Value]) -> Parts {
        let layout = Layout::of(to);
        let one = self.constant(to, Bits::from_i64(to.dtype, 1));
        let mut masks = Vec::new();
        for (i, &part) in parts.iter().enumerate() {
            match i < layout.groups && layout.registers == 2 {
                true => masks.extend(self.widen_mask(part)),
                false => masks.push(part),
            }
        }
        let zero = self.constant(to, Bits(0));
        let lanes = masks.iter().zip(&one).zip(&zero).enumerate();
        lanes
            .map(|(i, ((&mask, &one), &zero))| {
                if i >= layout.vectors() {
                    return self.b.ins().select(mask, one, zero);
                }
                let ones = self.cast(self.b.func.dfg.value_type(mask), one);
                let bits = self.b.ins().band(mask, ones);
                self.cast(vector_type(to.dtype), bits)
            })
            .collect()
    }

    fn truncate_to_i32(&mut self, to: DType, part: ir::Value) -> ir::Value {
        let ty = if self.b.func.dfg.value_type(part).is_vector() { I32X4 } else { I32 };
        let number = self.b.ins().fcvt_to_sint_sat(ty, part);
        self.clamp_to(to, number)
    }

    /// Saturates 32-bit lanes to a narrow dtype's range.
    fn clamp_to(&mut self, dtype: DType, number: ir::Value) -> ir::Value {
        let (low, high) = match dtype {
            DType::I8 => (-128i32, 127i32),
            DType::U8 => (0, 255),
            _ => return number,
        };
        if self.b.func.dfg.value_type(number).is_vector() {
            let (low, high) = (self.splat_i32(low as u32), self.splat_i32(high as u32));
            let above = self.b.ins().smax(number, low);
            return self.b.ins().smin(above, high);
        }
        let (low, high) = (self.b.ins().iconst(I32, i64::from(low as u32)), self.b.ins().iconst(I32, i64::from(high)));
        let below = self.b.ins().icmp(IntCC::SignedLessThan, number, low);
        let number = self.b.ins().select(below, low, number);
        let above = self.b.ins().icmp(IntCC::SignedGreaterThan, number, high);
        self.b.ins().select(above, high, number)
    }

    fn narrow(&mut self, from: VType, to: VType, parts: &[ir::Value]) -> Parts {
        let (registers, tail) = parts.split_at(Layout::of(from).vectors());
        let mut narrowed: Parts = registers.chunks(2).map(|pair| self.narrow_pair(pair[0], pair[1])).collect();
        narrowed.extend(tail.iter().map(|&lane| self.b.ins().ireduce(I32, lane)));
        self.each(&narrowed, |e, part| e.normalise(to.dtype, part))
    }

    fn widen(&mut self, from: VType, parts: &[ir::Value]) -> Parts {
        let (registers, tail) = parts.split_at(Layout::of(from).vectors());
        let mut wide: Parts = registers.iter().flat_map(|&register| self.widen_mask(register)).collect();
        wide.extend(tail.iter().map(|&lane| self.b.ins().sextend(I64, lane)));
        wide
    }

    // Half precision. The bits are in the low half of 32-bit lanes.

    fn as_float(&mut self, bits: ir::Value) -> ir::Value {
        let ty = if self.b.func.dfg.value_type(bits).is_vector() { F32X4 } else { F32 };
        self.cast(ty, bits)
    }

    fn as_bits(&mut self, float: ir::Value) -> ir::Value {
        let ty = if self.b.func.dfg.value_type(float).is_vector() { I32X4 } else { I32 };
        self.cast(ty, float)
    }

    /// A constant in every 32-bit lane of something shaped like `like`.
    fn like(&mut self, like: ir::Value, bits: u32) -> ir::Value {
        match self.b.func.dfg.value_type(like).is_vector() {
            true => self.splat_i32(bits),
            false => self.b.ins().iconst(I32, i64::from(bits)),
        }
    }

    fn choose(&mut self, mask: ir::Value, a: ir::Value, b: ir::Value) -> ir::Value {
        match self.b.func.dfg.value_type(a).is_vector() {
            true => self.b.ins().bitselect(mask, a, b),
            false => self.b.ins().select(mask, a, b),
        }
    }

    /// f16 to f32: the exponent and significand moved into place make a float too small by 2¹¹², which a
    /// multiplication mends, subnormals included; infinity and NaN get the exponent of theirs.
    fn half_to_float(&mut self, half: ir::Value) -> ir::Value {
        let magnitude = self.and_constant(half, 0x7FFF);
        let moved = self.shift_constant(BinaryOp::Shl, magnitude, 13);
        let tiny = self.as_float(moved);
        let scale = self.like(half, (127 + 112) << 23);
        let scale = self.as_float(scale);
        let scaled = self.b.ins().fmul(tiny, scale);
        let scaled = self.as_bits(scaled);
        let infinite_from = self.like(half, 0x7C00);
        let special = self.b.ins().icmp(IntCC::SignedGreaterThanOrEqual, magnitude, infinite_from);
        let exponent = self.like(half, 0x7F80_0000);
        let infinite = self.b.ins().bor(moved, exponent);
        let positive = self.choose(special, infinite, scaled);
        let sign = self.and_constant(half, 0x8000);
        let sign = self.shift_constant(BinaryOp::Shl, sign, 16);
        let bits = self.b.ins().bor(positive, sign);
        self.as_float(bits)
    }

    /// f32 to f16, to nearest even. Normal results: half a unit (less one, plus the lowest kept bit) is added to
    /// the bits and the rest cut off. Subnormal ones: adding 0.5 lines the significand up, rounding on the way.
    fn float_to_half(&mut self, float: ir::Value) -> ir::Value {
        let bits = self.as_bits(float);
        let magnitude = self.and_constant(bits, 0x7FFF_FFFF);
        let dropped = self.shift_constant(BinaryOp::ShrLogical, magnitude, 13);
        let odd = self.and_constant(dropped, 1);
        let rounding = self.like(bits, 0xFFF_u32.wrapping_sub((127 - 15) << 23));
        let rounded = self.b.ins().iadd(magnitude, rounding);
        let rounded = self.b.ins().iadd(rounded, odd);
        let normal = self.shift_constant(BinaryOp::ShrLogical, rounded, 13);

        let absolute = self.as_float(magnitude);
        let half_bits = self.like(bits, 0x3F00_0000);
        let half = self.as_float(half_bits);
        let aligned = self.b.ins().fadd(absolute, half);
        let aligned = self.as_bits(aligned);
        let subnormal = self.b.ins().isub(aligned, half_bits);

        let smallest_normal = self.like(bits, (127 - 14) << 23);
        let is_subnormal = self.b.ins().icmp(IntCC::SignedLessThan, magnitude, smallest_normal);
        let finite = self.choose(is_subnormal, subnormal, normal);
        // 65520 and above round to infinity
        let overflow = self.like(bits, 0x477F_F000);
        let overflows = self.b.ins().icmp(IntCC::SignedGreaterThanOrEqual, magnitude, overflow);
        let infinity = self.like(bits, 0x7C00);
        let number = self.choose(overflows, infinity, finite);
        let is_nan = self.b.ins().fcmp(FloatCC::Unordered, float, float);
        let nan = self.like(bits, 0x7E00);
        let positive = self.choose(is_nan, nan, number);
        let sign = self.shift_constant(BinaryOp::ShrLogical, bits, 16);
        let sign = self.and_constant(sign, 0x8000);
        self.b.ins().bor(positive, sign)
    }

    /// f32 to bf16, to nearest even, in the same way as a normal f16.
    fn float_to_bfloat(&mut self, float: ir::Value) -> ir::Value {
        let bits = self.as_bits(float);
        let high = self.shift_constant(BinaryOp::ShrLogical, bits, 16);
        let odd = self.and_constant(high, 1);
        let rounding = self.like(bits, 0x7FFF);
        let rounded = self.b.ins().iadd(bits, rounding);
        let rounded = self.b.ins().iadd(rounded, odd);
        let rounded = self.shift_constant(BinaryOp::ShrLogical, rounded, 16);
        let quiet = self.like(bits, 0x40);
        let nan = self.b.ins().bor(high, quiet);
        let is_nan = self.b.ins().fcmp(FloatCC::Unordered, float, float);
        self.choose(is_nan, nan, rounded)
    }
}
