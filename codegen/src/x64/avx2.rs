//! What AVX2 has no instruction for and AVX-512 has: the same in several instructions.

use iced_x86::Code;
use regalloc2::VReg;

use super::emit::Emitter;
use super::inst::{Arg, Inst, Mem, Size};
use super::isa::Isa;
use super::lanes::{Parts, Source};
use super::op::{Lowest, Op, Width};
use crate::kir::{Bits, CompareOp, DType};

impl Emitter<'_> {
    /// An instruction of one operand, where the instruction set lacks it.
    pub(super) fn sequence1(&mut self, op: Op, w: Width, a: Source) -> VReg {
        let a = self.in_register(w, a);
        match op {
            Op::AbsI64 => {
                // −1 in negative lanes, else 0: (a ^ sign) − sign
                let zero = self.constant_register(DType::I64, Bits(0));
                let sign = self.op2(Op::GreaterI64, w, zero, Source::Reg(a));
                let flipped = self.op2(Op::Xor64, w, a, Source::Reg(sign));
                self.op2(Op::SubI64, w, flipped, Source::Reg(sign))
            }
            Op::I64ToF64 => self.i64_to_f64(w, a),
            Op::F64ToI64 => {
                let lanes = w.bytes() / 8;
                let from = self.store_lanes(w, a, lanes);
                for lane in 0..lanes {
                    let element = self.int(Code::VEX_Vcvttsd2si_r64_xmmm64, &[Arg::Mem(from.plus(8 * lane as i32))]);
                    self.store_frame_lane(1, DType::I64, lane, element);
                }
                let to = self.frame_lane(1, 0, 8);
                self.load_as(Op::Load64, w, to)
            }
            _ => unreachable!("{op:?} is in every instruction set"),
        }
    }

    /// An instruction of two operands, where the instruction set lacks it.
    pub(super) fn sequence2(&mut self, op: Op, w: Width, a: VReg, b: Source) -> VReg {
        match op {
            Op::MulI64 => {
                // low · low, and both low · high shifted up
                let size = Size::V(w);
                let b = Source::Reg(self.in_register(w, b));
                let swapped = self.vector(self.code(Op::Shuffle32, w), w, &[b.arg(size), Arg::Imm8(0b10_11_00_01)]);
                let cross = self.op2(Op::MulI32, w, a, Source::Reg(swapped));
                let upper = self.op_imm(Op::ShrFixed64, w, Source::Reg(cross), 32);
                let sum = self.op2(Op::AddI32, w, cross, Source::Reg(upper));
                let high = self.op_imm(Op::ShlFixed64, w, Source::Reg(sum), 32);
                let low = self.op2(Op::MulEven, w, a, b);
                self.op2(Op::AddI64, w, low, Source::Reg(high))
            }
            Op::MinI64 | Op::MaxI64 => {
                let greater = self.compare_integers(true, w, a, b, CompareOp::Gt);
                let b = self.in_register(w, b);
                let (yes, no) = if op == Op::MinI64 { (b, a) } else { (a, b) };
                self.blend(true, w, greater, no, Source::Reg(yes))
            }
            Op::Shr64 => {
                // the shifted sign bit, flipped and subtracted, fills what is above it
                let sign = self.constant_register(DType::I64, Bits(1 << 63));
                let by = Source::Reg(self.in_register(w, b));
                let sign = Source::Reg(self.op2(Op::ShrLogical64, w, sign, by));
                let shifted = self.op2(Op::ShrLogical64, w, a, by);
                let flipped = self.op2(Op::Xor64, w, shifted, sign);
                self.op2(Op::SubI64, w, flipped, sign)
            }
            _ => unreachable!("{op:?} is in every instruction set"),
        }
    }

    /// Lanes cut to half their size, in the lower half of a register, where the instruction set lacks it.
    pub(super) fn sequence_narrow(&mut self, op: Op, w: Width, a: VReg) -> VReg {
        match op {
            Op::Narrow => self.narrow_pairs(&[a])[0],
            Op::NarrowToWords => self.pack(w, a, Code::VEX_Vpackusdw_xmm_xmm_xmmm128),
            Op::I64ToF32 => {
                let lanes = w.bytes() / 8;
                let from = self.store_lanes(w, a, lanes);
                // the instruction keeps the upper lanes of a register that it reads
                let zero = self.constant_register(DType::F32, Bits(0));
                for lane in 0..lanes {
                    let args = [Arg::Use(zero, Size::V(Width::X)), Arg::Mem(from.plus(8 * lane as i32))];
                    let element = self.vector(Code::VEX_Vcvtsi2ss_xmm_xmm_rm64, Width::X, &args);
                    let to = self.frame_lane(1, lane, 4);
                    let args = [Arg::Mem(to), Arg::Use(element, Size::V(Width::X))];
                    self.f.push(Inst::new(Lowest::Store32.code(self.isa), &args));
                }
                let to = self.frame_lane(1, 0, 4);
                self.load_as(Op::Load32, Width::X, to)
            }
            _ => unreachable!("{op:?} is in every instruction set"),
        }
    }

    /// Writes a register of 64-bit lanes into the first working array: where.
    fn store_lanes(&mut self, w: Width, a: VReg, lanes: u32) -> Mem {
        debug_assert!(lanes * 8 == w.bytes());
        let to = self.frame_lane(0, 0, 8);
        self.f.push(Inst::new(self.code(Op::Store64, w), &[Arg::Mem(to), Arg::Use(a, Size::V(w))]));
        to
    }

    /// i64 to f64, rounded once: the halves become the digits of two floats by their bits alone, and only the
    /// sum of the two rounds. The upper half comes as h + 2³¹ under the exponent of 2⁸⁴, the lower under that of 2⁵².
    fn i64_to_f64(&mut self, w: Width, a: VReg) -> VReg {
        let constant = |e: &mut Self, bits: u64| Source::Mem(e.constant_source(DType::I64, Bits(bits)));
        let low_exponent = constant(self, 0x4330_0000_0000_0000);
        let high_exponent = constant(self, 0x4530_0000_8000_0000);
        // 2⁸⁴ + 2⁶³ + 2⁵²
        let excess = constant(self, 0x4530_0000_8010_0000);
        let low = self.blend_fixed(w, a, low_exponent, 0b1010_1010);
        let high = self.op_imm(Op::ShrFixed64, w, Source::Reg(a), 32);
        let high = self.op2(Op::Xor64, w, high, high_exponent);
        let high = self.op2(Op::SubF64, w, high, excess);
        self.op2(Op::AddF64, w, high, Source::Reg(low))
    }

    /// `bit ? b : a` of the 32-bit lanes of two registers.
    pub(super) fn blend_fixed(&mut self, w: Width, a: VReg, b: Source, bits: u8) -> VReg {
        let size = Size::V(w);
        self.vector(self.code(Op::BlendFixed, w), w, &[Arg::Use(a, size), b.arg(size), Arg::Imm8(bits)])
    }

    /// The lower halves of the 64-bit lanes of registers, two by two in one.
    pub(super) fn narrow_pairs(&mut self, registers: &[VReg]) -> Parts {
        debug_assert_eq!(self.isa, Isa::Avx2);
        let pair = |e: &mut Self, low: VReg, high: VReg| {
            let size = Size::V(Width::Y);
            // in each 128 bits the even lanes of the first, then those of the second
            let args = [Arg::Use(low, size), Arg::Use(high, size), Arg::Imm8(0b10_00_10_00)];
            let even = e.vector(e.code(Op::ShufflePair32, Width::Y), Width::Y, &args);
            let args = [Arg::Use(even, size), Arg::Imm8(0b11_01_10_00)];
            e.vector(Code::VEX_Vpermq_ymm_ymmm256_imm8, Width::Y, &args)
        };
        registers.chunks(2).map(|both| pair(self, both[0], both[both.len() - 1])).collect()
    }

    /// 32-bit lanes saturated to 16 bits, in the lower half of a register.
    fn pack(&mut self, w: Width, a: VReg, code: Code) -> VReg {
        let high = if w == Width::Y { self.upper_half(a) } else { a };
        let size = Size::V(Width::X);
        self.vector(code, Width::X, &[Arg::Use(a, size), Arg::Use(high, size)])
    }

    /// The 32-bit lanes of a narrow dtype's register as elements, from the lowest byte on.
    pub(super) fn pack_elements(&mut self, dtype: DType, w: Width, a: VReg) -> VReg {
        if dtype.size() == 2 {
            return self.pack(w, a, Code::VEX_Vpackusdw_xmm_xmm_xmmm128);
        }
        // each lane holds a number of its dtype, so that nothing saturates
        let words = self.pack(w, a, Code::VEX_Vpackssdw_xmm_xmm_xmmm128);
        let code = match dtype {
            DType::I8 => Code::VEX_Vpacksswb_xmm_xmm_xmmm128,
            _ => Code::VEX_Vpackuswb_xmm_xmm_xmmm128,
        };
        let size = Size::V(Width::X);
        self.vector(code, Width::X, &[Arg::Use(words, size), Arg::Use(words, size)])
    }

    /// A part whose lanes are elements here and there in memory.
    pub(super) fn insert_elements(&mut self, dtype: DType, places: &[Mem]) -> VReg {
        let w = Width::holding(places.len() as u32 * super::isa::lane_bytes(dtype));
        let size = Size::V(Width::X);
        let x = |e: &mut Self, places: &[Mem], first: VReg, start: usize, code: Code| {
            let insert = |reg: VReg, (lane, place): (usize, &Mem)| {
                let args = [Arg::Use(reg, size), Arg::Mem(*place), Arg::Imm8(lane as u8)];
                e.vector(code, Width::X, &args)
            };
            places.iter().enumerate().skip(start).fold(first, insert)
        };
        match dtype.size() {
            4 | 8 => {
                let (load, insert) = match dtype.size() {
                    4 => (Lowest::Load32, Code::VEX_Vpinsrd_xmm_xmm_rm32_imm8),
                    _ => (Lowest::Load64, Code::VEX_Vpinsrq_xmm_xmm_rm64_imm8),
                };
                let halves = places.chunks(16 / dtype.size()).map(|places| {
                    let first = self.vector(load.code(self.isa), Width::X, &[Arg::Mem(places[0])]);
                    x(self, places, first, 1, insert)
                });
                let halves: Vec<VReg> = halves.collect();
                self.pair_up(&halves)[0]
            }
            bytes => {
                let zero = self.constant_register(DType::I32, Bits(0));
                let (insert, extend) = match (bytes, dtype) {
                    (2, _) => (Code::VEX_Vpinsrw_xmm_xmm_r32m16_imm8, Op::ZeroExtendWords),
                    (_, DType::I8) => (Code::VEX_Vpinsrb_xmm_xmm_r32m8_imm8, Op::SignExtendBytes),
                    _ => (Code::VEX_Vpinsrb_xmm_xmm_r32m8_imm8, Op::ZeroExtendBytes),
                };
                let elements = x(self, places, zero, 0, insert);
                self.vector(self.code(extend, w), w, &[Arg::Use(elements, size)])
            }
        }
    }

    /// Writes a part's lanes here and there into memory.
    pub(super) fn extract_elements(&mut self, dtype: DType, w: Width, part: VReg, places: &[Mem]) {
        let bytes = dtype.size();
        let (code, registers) = match bytes {
            4 | 8 => {
                let high = if w == Width::Y { vec![self.upper_half(part)] } else { Vec::new() };
                let code = if bytes == 4 { Code::VEX_Vpextrd_rm32_xmm_imm8 } else { Code::VEX_Vpextrq_rm64_xmm_imm8 };
                (code, [vec![part], high].concat())
            }
            2 => (Code::VEX_Vpextrw_r32m16_xmm_imm8, vec![self.pack_elements(dtype, w, part)]),
            _ => (Code::VEX_Vpextrb_r32m8_xmm_imm8, vec![self.pack_elements(dtype, w, part)]),
        };
        let per_register = 16 / bytes;
        for (lane, &place) in places.iter().enumerate() {
            let from = Arg::Use(registers[lane / per_register], Size::V(Width::X));
            self.f.push(Inst::new(code, &[Arg::Mem(place), from, Arg::Imm8((lane % per_register) as u8)]));
        }
    }

    /// Loads a part of which only the first `lanes` lanes may be touched.
    pub(super) fn load_first(&mut self, dtype: DType, w: Width, lanes: u32, from: Mem) -> VReg {
        let bytes = dtype.size() as u32;
        match (bytes, lanes * bytes) {
            (4 | 8, 4) => self.vector(Lowest::Load32.code(self.isa), Width::X, &[Arg::Mem(from)]),
            (4 | 8, 8) => self.vector(Lowest::Load64.code(self.isa), Width::X, &[Arg::Mem(from)]),
            (4 | 8, _) => {
                let op = if bytes == 4 { Op::LoadWhere32 } else { Op::LoadWhere64 };
                let mask = self.first_lanes(lanes, bytes);
                self.vector(self.code(op, w), w, &[Arg::Use(mask, Size::V(w)), Arg::Mem(from)])
            }
            _ => {
                let places: Vec<Mem> = (0..lanes).map(|lane| from.plus((lane * bytes) as i32)).collect();
                self.insert_elements(dtype, &places)
            }
        }
    }

    /// Stores the first `lanes` lanes of a part.
    pub(super) fn store_first(&mut self, dtype: DType, w: Width, lanes: u32, part: VReg, to: Mem) {
        let bytes = dtype.size() as u32;
        let narrow = bytes < 4;
        let lowest = |e: &mut Self, op: Lowest, part: VReg| {
            let reg = if narrow { e.pack_elements(dtype, w, part) } else { part };
            e.f.push(Inst::new(op.code(e.isa), &[Arg::Mem(to), Arg::Use(reg, Size::V(Width::X))]));
        };
        match lanes * bytes {
            4 => lowest(self, Lowest::Store32, part),
            8 => lowest(self, Lowest::Store64, part),
            whole if narrow && whole == 16 => {
                let packed = self.pack_elements(dtype, w, part);
                let code = self.code(Op::Store32, Width::X);
                self.f.push(Inst::new(code, &[Arg::Mem(to), Arg::Use(packed, Size::V(Width::X))]));
            }
            _ if narrow => {
                let places: Vec<Mem> = (0..lanes).map(|lane| to.plus((lane * bytes) as i32)).collect();
                self.extract_elements(dtype, w, part, &places);
            }
            whole if whole == w.bytes() => {
                let code = self.code(Op::Store32, w);
                self.f.push(Inst::new(code, &[Arg::Mem(to), Arg::Use(part, Size::V(w))]));
            }
            _ => {
                let op = if bytes == 4 { Op::StoreWhere32 } else { Op::StoreWhere64 };
                let mask = self.first_lanes(lanes, bytes);
                let args = [Arg::Mem(to), Arg::Use(mask, Size::V(w)), Arg::Use(part, Size::V(w))];
                self.f.push(Inst::new(self.code(op, w), &args));
            }
        }
    }

    /// Gathers the first `lanes` lanes of a register from 64-bit indices of `scale` bytes each.
    pub(super) fn gather_lanes(&mut self, op: Op, lanes: u32, w: Width, from: Mem, index: VReg, scale: u32) -> VReg {
        let result = if op == Op::GatherIndex64Of32 { w.half() } else { w };
        let size = Size::V(result);
        // the instruction clears the mask as it goes
        let mask = self.first_lanes(lanes, scale);
        let before = self.constant_register(DType::F32, Bits(0));
        let (def, after) = (self.f.reg(super::function::VECTOR), self.f.reg(super::function::VECTOR));
        let mem = Mem { index: Some((index, scale, Size::V(w))), ..from };
        let args = [Arg::Tied { def, from: before, size }, Arg::Mem(mem), Arg::Tied { def: after, from: mask, size }];
        self.f.push(Inst::new(self.code(op, w), &args));
        def
    }
}
