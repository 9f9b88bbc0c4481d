//! Booleans: bits of mask registers, or 32-bit lanes of all ones and zeros; [`Isa`] says which.
//!
//! A part of a boolean value stands for as many lanes as a vector register has 32-bit ones. An instruction on registers of
//! 64-bit lanes takes and gives masks of such registers, half a part each, whose lanes have 64 bits too:
//! [`Emitter::join_masks`] and [`Emitter::masks_for`] go from one to the other.

use iced_x86::Code;
use regalloc2::{RegClass, VReg};

use super::emit::Emitter;
use super::function::{MASK, VECTOR};
use super::inst::{Arg, Inst, Mem, Size};
use super::isa::{Isa, is_wide, lane_bytes};
use super::lanes::{Parts, Source};
use super::op::{Lowest, Op, Width};
use crate::kir::{Bits, CompareOp, DType, VType};

/// What makes one mask of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logic {
    /// Both hold.
    And,
    /// The second holds and the first does not.
    NotAnd,
    /// Either holds.
    Or,
    /// One of them holds.
    Xor,
    /// Both hold, or neither does.
    Equal,
}

impl Emitter<'_> {
    /// An instruction that gives the mask of a register.
    fn mask(&mut self, code: Code, w: Width, rest: &[Arg]) -> VReg {
        match self.isa {
            Isa::Avx2 => self.vector(code, w, rest),
            Isa::Avx512 => self.mask_register(code, rest),
        }
    }

    /// An instruction that writes a mask register.
    fn mask_register(&mut self, code: Code, rest: &[Arg]) -> VReg {
        let def = self.f.reg(MASK);
        let mut args = vec![Arg::Def(def, Size::K)];
        args.extend_from_slice(rest);
        self.f.push(Inst::new(code, &args));
        def
    }

    /// A mask of two masks.
    pub(super) fn logic(&mut self, op: Logic, a: VReg, b: VReg) -> VReg {
        match self.isa {
            Isa::Avx2 => {
                let op = match op {
                    Logic::And => Op::And32,
                    Logic::NotAnd => Op::AndNot,
                    Logic::Or => Op::Or32,
                    Logic::Xor => Op::Xor32,
                    Logic::Equal => Op::EqualI32,
                };
                self.op2(op, self.isa.widest(), a, Source::Reg(b))
            }
            Isa::Avx512 => {
                let code = match op {
                    Logic::And => Code::VEX_Kandw_kr_kr_kr,
                    Logic::NotAnd => Code::VEX_Kandnw_kr_kr_kr,
                    Logic::Or => Code::VEX_Korw_kr_kr_kr,
                    Logic::Xor => Code::VEX_Kxorw_kr_kr_kr,
                    Logic::Equal => Code::VEX_Kxnorw_kr_kr_kr,
                };
                self.mask_register(code, &[Arg::Use(a, Size::K), Arg::Use(b, Size::K)])
            }
        }
    }

    /// Where a mask does not hold.
    pub(super) fn not(&mut self, mask: VReg) -> VReg {
        match self.isa {
            Isa::Avx2 => self.with_bits(Op::Xor32, self.isa.widest(), mask, u32::MAX),
            Isa::Avx512 => self.mask_register(Code::VEX_Knotw_kr_kr, &[Arg::Use(mask, Size::K)]),
        }
    }

    /// `mask ? yes : no` of masks.
    pub(super) fn choose(&mut self, mask: VReg, yes: VReg, no: VReg) -> VReg {
        match self.isa {
            Isa::Avx2 => self.blend(false, self.isa.widest(), mask, no, Source::Reg(yes)),
            Isa::Avx512 => {
                let yes = self.logic(Logic::And, mask, yes);
                let no = self.logic(Logic::NotAnd, mask, no);
                self.logic(Logic::Or, yes, no)
            }
        }
    }

    /// A mask that holds everywhere or nowhere.
    pub(super) fn mask_constant(&mut self, holds: bool) -> VReg {
        match self.isa {
            Isa::Avx2 => self.lane_constant(4, if holds { u32::MAX.into() } else { 0 }),
            Isa::Avx512 => self.mask_bits(if holds { u16::MAX.into() } else { 0 }),
        }
    }

    /// A mask register with these bits.
    pub(super) fn mask_bits(&mut self, bits: u64) -> VReg {
        if let Some(&mask) = self.masks.get(&bits) {
            return mask;
        }
        let number = self.number(bits as i64);
        let mask = self.mask_register(Code::VEX_Kmovd_kr_r32, &[Arg::Use(number, Size::R32)]);
        self.masks.insert(bits, mask);
        mask
    }

    /// The mask of a register's first `lanes` lanes of `bytes` bytes.
    pub(super) fn first_lanes(&mut self, lanes: u32, bytes: u32) -> VReg {
        match self.isa {
            // a register each time: there are few
            Isa::Avx2 => {
                let word = |i: u32| if i < lanes * bytes / 4 { u64::from(u32::MAX) } else { 0 };
                self.lanes_constant((0..8).map(word), 4)
            }
            // computed once, before everything else
            Isa::Avx512 => {
                if let Some(&mask) = self.first_lanes.get(&lanes) {
                    return mask;
                }
                let (number, mask) = (self.f.reg(RegClass::Int), self.f.reg(MASK));
                let bits = ((1u64 << lanes) - 1) as u32;
                let number_args = [Arg::Def(number, Size::R32), Arg::Imm32(bits)];
                self.f.push_prologue(Inst::new(Code::Mov_r32_imm32, &number_args));
                let mask_args = [Arg::Def(mask, Size::K), Arg::Use(number, Size::R32)];
                self.f.push_prologue(Inst::new(Code::VEX_Kmovd_kr_r32, &mask_args));
                self.first_lanes.insert(lanes, mask);
                mask
            }
        }
    }

    /// The first lane of a mask as the lowest bit of a general register; its other bits may be anything.
    pub(super) fn int_of_mask(&mut self, mask: VReg) -> VReg {
        let def = self.f.reg(RegClass::Int);
        let (code, size) = match self.isa {
            Isa::Avx2 => (Lowest::Store32.code(self.isa), Size::V(Width::X)),
            Isa::Avx512 => (Code::VEX_Kmovd_r32_kr, Size::K),
        };
        self.f.push(Inst::new(code, &[Arg::Def(def, Size::R32), Arg::Use(mask, size)]));
        def
    }

    /// The first lane of a mask in every lane.
    pub(super) fn splat_mask(&mut self, mask: VReg) -> VReg {
        if self.isa == Isa::Avx2 {
            return self.vector(self.code(Op::Broadcast32, Width::Y), Width::Y, &[Arg::Use(mask, Size::V(Width::X))]);
        }
        let bits = self.int_of_mask(mask);
        let lowest = self.f.reg(RegClass::Int);
        let tied = Arg::Tied { def: lowest, from: bits, size: Size::R32 };
        self.f.push(Inst::new(Code::And_rm32_imm32, &[tied, Arg::Imm32(1)]));
        let all = self.f.reg(RegClass::Int);
        let tied = Arg::Tied { def: all, from: lowest, size: Size::R32 };
        self.f.push(Inst::new(Code::Neg_rm32, &[tied]));
        self.mask_register(Code::VEX_Kmovd_kr_r32, &[Arg::Use(all, Size::R32)])
    }

    // Comparisons

    /// The mask of a register's lanes for which a predicate of `vcmp` holds.
    pub(super) fn compare_floats(&mut self, wide: bool, w: Width, a: VReg, b: Source, predicate: u8) -> VReg {
        let op = if wide { Op::CompareF64 } else { Op::CompareF32 };
        let size = Size::V(w);
        self.mask(self.code(op, w), w, &[Arg::Use(a, size), b.arg(size), Arg::Imm8(predicate)])
    }

    /// The mask of a register's lanes for which a comparison of signed integers holds.
    pub(super) fn compare_integers(&mut self, wide: bool, w: Width, a: VReg, b: Source, op: CompareOp) -> VReg {
        if self.isa == Isa::Avx512 {
            let code = self.code(if wide { Op::CompareI64 } else { Op::CompareI32 }, w);
            let size = Size::V(w);
            let args = [Arg::Use(a, size), b.arg(size), Arg::Imm8(integer_predicate(op))];
            return self.mask_register(code, &args);
        }
        let equal = if wide { Op::EqualI64 } else { Op::EqualI32 };
        let greater = if wide { Op::GreaterI64 } else { Op::GreaterI32 };
        match op {
            CompareOp::Eq => self.op2(equal, w, a, b),
            CompareOp::Gt => self.op2(greater, w, a, b),
            CompareOp::Lt => {
                let b = self.in_register(w, b);
                self.op2(greater, w, b, Source::Reg(a))
            }
            CompareOp::Ne | CompareOp::Le | CompareOp::Ge => {
                let opposite = match op {
                    CompareOp::Ne => CompareOp::Eq,
                    CompareOp::Le => CompareOp::Gt,
                    _ => CompareOp::Lt,
                };
                let fails = self.compare_integers(wide, w, a, b, opposite);
                self.not(fails)
            }
        }
    }

    /// A mask of the lanes where a comparison holds.
    pub(super) fn compare(&mut self, op: CompareOp, from: VType, a: &[VReg], b: &[Source]) -> Parts {
        if from.dtype == DType::Bool {
            return a.iter().zip(b).map(|(&a, b)| self.compare_masks(op, a, *b)).collect();
        }
        let (float, wide) = (from.dtype.is_float(), is_wide(from.dtype));
        let masks = self.zip(from, a, b, |e, w, a, b| match float {
            true => e.compare_floats(wide, w, a, b, float_predicate(op)),
            false => e.compare_integers(wide, w, a, b, op),
        });
        if wide { self.join_masks(&masks) } else { masks }
    }

    fn compare_masks(&mut self, op: CompareOp, a: VReg, b: Source) -> VReg {
        let Source::Reg(b) = b else { unreachable!("masks are in registers") };
        match op {
            CompareOp::Eq => self.logic(Logic::Equal, a, b),
            CompareOp::Ne => self.logic(Logic::Xor, a, b),
            CompareOp::Lt => self.logic(Logic::NotAnd, a, b),
            CompareOp::Gt => self.logic(Logic::NotAnd, b, a),
            CompareOp::Le | CompareOp::Ge => {
                let (a, b) = if op == CompareOp::Le { (a, b) } else { (b, a) };
                let greater = self.logic(Logic::NotAnd, b, a);
                self.not(greater)
            }
        }
    }

    // Between masks of parts and of registers of 64-bit lanes

    /// Masks of registers of 64-bit lanes, two by two in one.
    fn join_masks(&mut self, masks: &[VReg]) -> Parts {
        if self.isa == Isa::Avx2 {
            return self.narrow_pairs(masks);
        }
        let join = |e: &mut Self, pair: &[VReg]| match *pair {
            [low, high] => {
                let args = [Arg::Use(high, Size::K), Arg::Use(low, Size::K)];
                e.mask_register(Code::VEX_Kunpckbw_kr_kr_kr, &args)
            }
            _ => pair[0],
        };
        masks.chunks(2).map(|pair| join(self, pair)).collect()
    }

    /// For each register of a type, the mask of its lanes.
    pub(super) fn masks_for(&mut self, ty: VType, masks: &[VReg]) -> Parts {
        if !is_wide(ty.dtype) {
            return masks.to_vec();
        }
        if self.isa == Isa::Avx2 {
            return self.widen(Op::SignExtend, ty, masks);
        }
        let upper = |e: &mut Self, mask: VReg| {
            e.mask_register(Code::VEX_Kshiftrw_kr_kr_imm8, &[Arg::Use(mask, Size::K), Arg::Imm8(8)])
        };
        let half = |e: &mut Self, i: usize| if i.is_multiple_of(2) { masks[i / 2] } else { upper(e, masks[i / 2]) };
        (0..self.isa.parts(ty)).map(|i| half(self, i)).collect()
    }

    // Between masks and lanes

    /// `mask ? b : a` of registers of 32-bit lanes, or 64-bit ones where `wide`.
    pub(super) fn blend(&mut self, wide: bool, w: Width, mask: VReg, a: VReg, b: Source) -> VReg {
        let size = Size::V(w);
        if self.isa == Isa::Avx2 {
            // a mask's 64-bit lanes are two 32-bit ones
            let args = [Arg::Use(a, size), b.arg(size), Arg::Use(mask, size)];
            return self.vector(self.code(Op::BlendLanes, w), w, &args);
        }
        let code = self.code(if wide { Op::Blend64 } else { Op::Blend32 }, w);
        let def = self.f.reg(VECTOR);
        self.f.push(Inst::new(code, &[Arg::Def(def, size), Arg::Use(a, size), b.arg(size)]).masked(mask, false));
        def
    }

    /// A register's first `lanes` lanes, and the others of another.
    pub(super) fn blend_first(&mut self, wide: bool, w: Width, lanes: u32, first: VReg, others: VReg) -> VReg {
        match self.isa {
            Isa::Avx2 => {
                let words = if wide { 2 * lanes } else { lanes };
                self.blend_fixed(w, others, Source::Reg(first), ((1u32 << words) - 1) as u8)
            }
            Isa::Avx512 => {
                let mask = self.first_lanes(lanes, if wide { 8 } else { 4 });
                self.blend(wide, w, mask, others, Source::Reg(first))
            }
        }
    }

    /// An instruction in the lanes of a mask; the others become 0.
    pub(super) fn vector_where(&mut self, mask: VReg, code: Code, w: Width, rest: &[Arg]) -> VReg {
        if self.isa == Isa::Avx2 {
            let all = self.vector(code, w, rest);
            return self.op2(Op::And32, w, all, Source::Reg(mask));
        }
        let def = self.f.reg(VECTOR);
        let mut args = vec![Arg::Def(def, Size::V(w))];
        args.extend_from_slice(rest);
        self.f.push(Inst::new(code, &args).masked(mask, true));
        def
    }

    /// `op` of one operand in the lanes of a mask; the others become 0.
    pub(super) fn op1_where(&mut self, mask: VReg, op: Op, w: Width, a: VReg) -> VReg {
        match op.code(self.isa, w) {
            Some(code) => self.vector_where(mask, code, w, &[Arg::Use(a, Size::V(w))]),
            None => {
                let all = self.op1(op, w, Source::Reg(a));
                self.op2(Op::And32, w, all, Source::Reg(mask))
            }
        }
    }

    /// An element of a dtype in the lanes of a mask, bits of 0 in the others.
    pub(super) fn element_where(&mut self, mask: VReg, dtype: DType, w: Width, element: Bits) -> VReg {
        let element = self.constant_source(dtype, element);
        match self.isa {
            Isa::Avx2 => self.op2(Op::And32, w, mask, Source::Mem(element)),
            Isa::Avx512 => {
                let op = if lane_bytes(dtype) == 8 { Op::Broadcast64 } else { Op::Broadcast32 };
                let element = Mem { broadcast: false, ..element };
                self.vector_where(mask, self.code(op, w), w, &[Arg::Mem(element)])
            }
        }
    }

    /// The lanes of a mask as a register of 32-bit ones and zeros: what booleans are in memory.
    pub(super) fn ones_where(&mut self, mask: VReg, w: Width) -> VReg {
        self.element_where(mask, DType::I32, w, Bits(1))
    }

    /// The mask of the 32-bit lanes that are not 0, of which none is negative.
    pub(super) fn nonzero_lanes(&mut self, reg: VReg, w: Width) -> VReg {
        match self.isa {
            Isa::Avx2 => {
                let zero = self.constant_register(DType::I32, Bits(0));
                self.op2(Op::GreaterI32, w, reg, Source::Reg(zero))
            }
            Isa::Avx512 => {
                let args = [Arg::Use(reg, Size::V(w)), Arg::Use(reg, Size::V(w))];
                self.mask_register(self.code(Op::TestLanes, w), &args)
            }
        }
    }

    /// All ones in the 32-bit lanes where a mask holds.
    pub(super) fn mask_to_lanes(&mut self, mask: VReg) -> VReg {
        match self.isa {
            Isa::Avx2 => mask,
            Isa::Avx512 => self.vector(self.code(Op::MaskToLanes, Width::Z), Width::Z, &[Arg::Use(mask, Size::K)]),
        }
    }

    /// The mask of the 32-bit lanes that are all ones; the others are 0.
    pub(super) fn lanes_to_mask(&mut self, reg: VReg) -> VReg {
        match self.isa {
            Isa::Avx2 => reg,
            Isa::Avx512 => {
                self.mask_register(self.code(Op::LanesToMask, Width::Z), &[Arg::Use(reg, Size::V(Width::Z))])
            }
        }
    }
}

fn float_predicate(op: CompareOp) -> u8 {
    match op {
        CompareOp::Eq => 0x00,
        CompareOp::Ne => 0x04,
        CompareOp::Lt => 0x11,
        CompareOp::Le => 0x12,
        CompareOp::Gt => 0x1E,
        CompareOp::Ge => 0x1D,
    }
}

fn integer_predicate(op: CompareOp) -> u8 {
    match op {
        CompareOp::Eq => 0,
        CompareOp::Lt => 1,
        CompareOp::Le => 2,
        CompareOp::Ne => 4,
        CompareOp::Ge => 5,
        CompareOp::Gt => 6,
    }
}
