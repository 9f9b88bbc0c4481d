//! Conversions between dtypes.

use super::arith::UNORDERED;
use super::emit::Emitter;
use super::inst::{Arg, Size};
use super::isa::Isa;
use super::lanes::{Parts, Source};
use super::op::{Op, Width};
use crate::kir::{Bits, CompareOp, DType, VType};
use regalloc2::VReg;

/// Predicate of `vcmp`: neither operand is NaN.
const ORDERED: u8 = 7;
/// Predicate of `vcmp`: greater or equal; false for NaN.
const AT_LEAST: u8 = 0x1D;

impl Emitter<'_> {
    /// Converts a value to the dtype of `to`.
    pub(super) fn convert(&mut self, from: VType, to: VType, a: &[VReg]) -> Parts {
        match (from.dtype, to.dtype) {
            (x, y) if x == y => a.to_vec(),
            (_, DType::Bool) => {
                let zero = self.constant_source(from.dtype, Bits(0));
                let zeros = vec![Source::Mem(zero); a.len()];
                self.compare(CompareOp::Ne, from, a, &zeros)
            }
            (DType::Bool, _) => self.bool_to(to, a),
            (DType::F16, _) => self.each(from, a, |e, w, a| e.half_to_float(w, a)),
            (DType::BF16, _) => self.each(from, a, |e, w, a| e.with_bits(Op::Shl32, w, a, 16)),
            (_, DType::F16) => self.each(from, a, |e, w, a| e.float_to_half(w, a)),
            (_, DType::BF16) => self.each(from, a, |e, w, a| e.float_to_bfloat(w, a)),
            (DType::F32, DType::F64) => self.widen(Op::F32ToF64, to, a),
            (DType::F64, DType::F32) => self.narrow(Op::F64ToF32, from, a),
            (DType::F32, DType::I64) => {
                let wide = self.widen(Op::F32ToF64, to.with_dtype(DType::F64), a);
                self.each(to, &wide, |e, w, a| e.truncate_f64(w, a))
            }
            (DType::F64, DType::I64) => self.each(from, a, |e, w, a| e.truncate_f64(w, a)),
            (DType::F64, _) => {
                let clamped = self.each(from, a, |e, w, a| e.clamp_to_i32(w, a));
                let narrow = self.narrow(Op::F64ToI32, from, &clamped);
                self.each(to, &narrow, |e, w, a| e.clamp_to(to.dtype, w, a))
            }
            (DType::F32, _) => self.each(from, a, |e, w, a| {
                let number = e.truncate_f32(w, a);
                e.clamp_to(to.dtype, w, number)
            }),
            (DType::I64, DType::F64) => self.each(from, a, |e, w, a| e.op1(Op::I64ToF64, w, Source::Reg(a))),
            (DType::I64, DType::F32) => self.narrow(Op::I64ToF32, from, a),
            (_, DType::F64) => self.widen(Op::I32ToF64, to, a),
            (_, DType::F32) => self.each(from, a, |e, w, a| e.op1(Op::I32ToF32, w, Source::Reg(a))),
            (DType::I64, y) => {
                let narrow = self.narrow(Op::Narrow, from, a);
                self.each(to, &narrow, |e, w, a| e.normalise(y, w, a))
            }
            (_, DType::I64) => self.widen(Op::SignExtend, to, a),
            (_, y) => self.each(to, a, |e, w, a| e.normalise(y, w, a)),
        }
    }

    /// Registers of 32-bit lanes to twice as many of 64-bit lanes.
    pub(super) fn widen(&mut self, op: Op, to: VType, a: &[VReg]) -> Parts {
        let one = |e: &mut Self, i: usize| {
            let w = e.isa.width(to, i);
            let half = if i.is_multiple_of(2) { a[i / 2] } else { e.upper_half(a[i / 2]) };
            e.vector(e.code(op, w), w, &[Arg::Use(half, Size::V(w.half()))])
        };
        (0..self.isa.parts(to)).map(|i| one(self, i)).collect()
    }

    /// Registers of 64-bit lanes to half as many of 32-bit lanes.
    fn narrow(&mut self, op: Op, from: VType, a: &[VReg]) -> Parts {
        if op == Op::Narrow && self.isa == Isa::Avx2 {
            return self.narrow_pairs(a);
        }
        let halves = self.each(from, a, |e, w, a| e.op_narrow(op, w, a));
        self.pair_up(&halves)
    }

    /// A mask as zeros and ones of another dtype.
    fn bool_to(&mut self, to: VType, masks: &[VReg]) -> Parts {
        let masks = self.masks_for(to, masks);
        let one = Bits::from_i64(to.dtype, 1);
        self.each(to, &masks, |e, w, mask| e.element_where(mask, to.dtype, w, one))
    }

    /// Truncates f32 lanes to 32-bit integers: saturates, NaN gives 0. The instruction gives the smallest integer for all
    /// that does not fit.
    fn truncate_f32(&mut self, w: Width, a: VReg) -> VReg {
        let ordered = self.compare_floats(false, w, a, Source::Reg(a), ORDERED);
        let number = self.op1_where(ordered, Op::F32ToI32, w, a);
        let limit = Source::Mem(self.constant_source(DType::F32, Bits::from_f64(DType::F32, 2f64.powi(31))));
        let above = self.compare_floats(false, w, a, limit, AT_LEAST);
        let most = Source::Mem(self.constant_source(DType::I32, Bits(i32::MAX as u64)));
        self.blend(false, w, above, number, most)
    }

    /// Truncates f64 lanes to 64-bit integers in the same way.
    fn truncate_f64(&mut self, w: Width, a: VReg) -> VReg {
        let ordered = self.compare_floats(true, w, a, Source::Reg(a), ORDERED);
        let number = self.op1_where(ordered, Op::F64ToI64, w, a);
        let limit = Source::Mem(self.constant_source(DType::F64, Bits(2f64.powi(63).to_bits())));
        let above = self.compare_floats(true, w, a, limit, AT_LEAST);
        let most = Source::Mem(self.constant_source(DType::I64, Bits(i64::MAX as u64)));
        self.blend(true, w, above, number, most)
    }

    /// Brings f64 lanes into the range of 32-bit integers; NaN gives 0.
    fn clamp_to_i32(&mut self, w: Width, a: VReg) -> VReg {
        let ordered = self.compare_floats(true, w, a, Source::Reg(a), ORDERED);
        let limit =
            |e: &mut Self, limit: i32| Source::Mem(e.constant_source(DType::F64, Bits(f64::from(limit).to_bits())));
        let (least, most) = (limit(self, i32::MIN), limit(self, i32::MAX));
        let size = Size::V(w);
        let raised = self.vector_where(ordered, self.code(Op::MaxF64, w), w, &[Arg::Use(a, size), least.arg(size)]);
        self.op2(Op::MinF64, w, raised, most)
    }

    /// Saturates 32-bit lanes to a narrow dtype's range.
    fn clamp_to(&mut self, dtype: DType, w: Width, a: VReg) -> VReg {
        let (low, high) = match dtype {
            DType::I8 => (-128i32, 127i32),
            DType::U8 => (0, 255),
            _ => return a,
        };
        let raised = self.with_bits(Op::MaxI32, w, a, low as u32);
        self.with_bits(Op::MinI32, w, raised, high as u32)
    }

    // Half precision. The bits are in the low half of 32-bit lanes.

    fn half_to_float(&mut self, w: Width, a: VReg) -> VReg {
        let packed = self.op_narrow(Op::NarrowToWords, w, a);
        self.vector(self.code(Op::HalfToF32, w), w, &[Arg::Use(packed, Size::V(w.half()))])
    }

    fn float_to_half(&mut self, w: Width, a: VReg) -> VReg {
        // 0: to nearest even
        let code = self.code(Op::F32ToHalf, w);
        let packed = self.vector(code, w.half(), &[Arg::Use(a, Size::V(w)), Arg::Imm8(0)]);
        self.vector(self.code(Op::ZeroExtendWords, w), w, &[Arg::Use(packed, Size::V(w.half()))])
    }

    /// f32 to bf16, to nearest even: half a unit (less one, plus the lowest kept bit) is added to the bits and the
    /// rest cut off. (The instruction for it takes subnormal numbers for zeros.)
    fn float_to_bfloat(&mut self, w: Width, a: VReg) -> VReg {
        let high = self.with_bits(Op::ShrLogical32, w, a, 16);
        let odd = self.and_bits(w, high, 1);
        let rounded = self.with_bits(Op::AddI32, w, a, 0x7FFF);
        let rounded = self.op2(Op::AddI32, w, rounded, Source::Reg(odd));
        let rounded = self.with_bits(Op::ShrLogical32, w, rounded, 16);
        let nan = self.with_bits(Op::Or32, w, high, 0x40);
        let is_nan = self.compare_floats(false, w, a, Source::Reg(a), UNORDERED);
        self.blend(false, w, is_nan, rounded, Source::Reg(nan))
    }
}
