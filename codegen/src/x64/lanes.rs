//! Values as registers; see the [back end's page](super).

use iced_x86::Code;
use regalloc2::{RegClass, VReg};

use super::emit::{Def, Emitter};
use super::function::{MASK, VECTOR};
use super::inst::{Arg, Inst, Mem, Size};
use super::op::{Op, Width};
use crate::kir::{Bits, DType, VType, Value};

/// The registers that make up a value, in lane order.
pub(super) type Parts = Vec<VReg>;

/// Lanes of a mask register that belong together: those of a vector register of 32-bit lanes.
pub(super) const GROUP: u32 = 16;

/// Whether a lane has 64 bits.
pub(super) fn is_wide(dtype: DType) -> bool {
    dtype.size() == 8
}

/// Bytes of a lane in a register: narrow dtypes have 4.
pub(super) fn lane_bytes(dtype: DType) -> u32 {
    if is_wide(dtype) { 8 } else { 4 }
}

/// Lanes of a full register.
pub(super) fn lanes_per_part(dtype: DType) -> u32 {
    if dtype == DType::Bool { GROUP } else { 64 / lane_bytes(dtype) }
}

/// Registers of a value.
pub(super) fn parts(ty: VType) -> usize {
    ty.lanes.div_ceil(lanes_per_part(ty.dtype)) as usize
}

/// Lanes of part `i`.
pub(super) fn lanes_of_part(ty: VType, i: usize) -> u32 {
    let per_part = lanes_per_part(ty.dtype);
    (ty.lanes - i as u32 * per_part).min(per_part)
}

/// Width of part `i`.
pub(super) fn width(ty: VType, i: usize) -> Width {
    Width::holding(lanes_of_part(ty, i) * lane_bytes(ty.dtype))
}

/// Whether every lane of every register is a lane of the value.
pub(super) fn full_parts(ty: VType) -> bool {
    (0..parts(ty)).all(|i| lanes_of_part(ty, i) * lane_bytes(ty.dtype) == width(ty, i).bytes())
}

/// The register class of a dtype's values.
pub(super) fn class(dtype: DType) -> RegClass {
    if dtype == DType::Bool { MASK } else { VECTOR }
}

/// The bits of a lane that holds an element: narrow integers are extended, a mask lane is all ones.
pub(super) fn lane_bits(dtype: DType, bits: Bits) -> u64 {
    match dtype {
        DType::I8 => u64::from(bits.to_i64(DType::I8) as u32),
        DType::Bool => u64::from(if bits.0 != 0 { u32::MAX } else { 0 }),
        _ => bits.0,
    }
}

/// An operand that may be in memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Reg(VReg),
    Mem(Mem),
}

impl Source {
    pub fn arg(self, size: Size) -> Arg {
        match self {
            Source::Reg(reg) => Arg::Use(reg, size),
            Source::Mem(mem) => Arg::Mem(mem),
        }
    }
}

impl Emitter<'_> {
    /// The parts of a value, in registers.
    pub(super) fn parts(&mut self, value: Value) -> Parts {
        let ty = self.kernel.type_of(value);
        match self.values[value.0 as usize].clone() {
            Def::Parts(parts) => parts,
            Def::Constant(bits) => vec![self.constant_register(ty.dtype, bits); parts(ty)],
            Def::Memory(places) => {
                let load = |e: &mut Self, (i, mem): (usize, Mem)| match mem.broadcast {
                    true => {
                        let op = if is_wide(ty.dtype) { Op::Broadcast64 } else { Op::Broadcast32 };
                        e.load_as(op, width(ty, i), Mem { broadcast: false, ..mem })
                    }
                    false => e.load_as(Op::Load32, width(ty, i), mem),
                };
                places.into_iter().enumerate().map(|place| load(self, place)).collect()
            }
            Def::Missing => unreachable!("the verifier keeps uses behind definitions"),
        }
    }

    /// The parts of a value, in memory where they may be.
    pub(super) fn sources(&mut self, value: Value) -> Vec<Source> {
        let ty = self.kernel.type_of(value);
        match self.values[value.0 as usize].clone() {
            Def::Memory(places) => places.into_iter().map(Source::Mem).collect(),
            Def::Constant(bits) if ty.dtype != DType::Bool => {
                vec![Source::Mem(self.constant_source(ty.dtype, bits)); parts(ty)]
            }
            _ => self.parts(value).into_iter().map(Source::Reg).collect(),
        }
    }

    /// Whether a value is not in registers yet.
    pub(super) fn in_memory(&self, value: Value) -> bool {
        !matches!(self.values[value.0 as usize], Def::Parts(_))
    }

    /// A constant as an operand for every lane.
    pub(super) fn constant_source(&mut self, dtype: DType, bits: Bits) -> Mem {
        let lane = lane_bits(dtype, bits);
        let bytes = lane.to_le_bytes();
        self.f.constant(&bytes[..lane_bytes(dtype) as usize]).broadcast()
    }

    /// A constant in every lane of a register.
    pub(super) fn constant_register(&mut self, dtype: DType, bits: Bits) -> VReg {
        if dtype == DType::Bool {
            return self.mask_constant(if bits.0 != 0 { u64::from(u16::MAX) } else { 0 });
        }
        let lane = lane_bits(dtype, bits);
        // zeros of all dtypes share a register
        let key = (if lane == 0 { 0 } else { lane_bytes(dtype) }, lane);
        if let Some(&reg) = self.materialised.get(&key) {
            return reg;
        }
        let reg = if lane == 0 {
            let def = self.f.reg(VECTOR);
            self.f.push(Inst::new(Op::Xor32.code(Width::X), &[Arg::Def(def, Size::V(Width::X))]));
            def
        } else {
            let mem = self.constant_source(dtype, bits);
            let op = if is_wide(dtype) { Op::Broadcast64 } else { Op::Broadcast32 };
            self.load_as(op, Width::Z, Mem { broadcast: false, ..mem })
        };
        self.materialised.insert(key, reg);
        reg
    }

    /// A vector constant, lane by lane.
    pub(super) fn lanes_constant(&mut self, lanes: impl Iterator<Item = u64>, bytes_per_lane: u32) -> VReg {
        let mut bytes: Vec<u8> =
            lanes.flat_map(|lane| lane.to_le_bytes().into_iter().take(bytes_per_lane as usize)).collect();
        bytes.resize(64, 0);
        let mem = self.f.constant(&bytes);
        self.load_as(Op::Load32, Width::Z, mem)
    }

    /// A mask register with these bits.
    pub(super) fn mask_constant(&mut self, bits: u64) -> VReg {
        if let Some(&mask) = self.masks.get(&bits) {
            return mask;
        }
        let number = self.number(bits as i64);
        let mask = self.f.reg(MASK);
        self.f.push(Inst::new(Code::VEX_Kmovd_kr_r32, &[Arg::Def(mask, Size::K), Arg::Use(number, Size::R32)]));
        self.masks.insert(bits, mask);
        mask
    }

    /// The mask of the first `lanes` lanes, which the function computes once.
    pub(super) fn first_lanes(&mut self, lanes: u32) -> VReg {
        if let Some(&mask) = self.first_lanes.get(&lanes) {
            return mask;
        }
        let (number, mask) = (self.f.reg(RegClass::Int), self.f.reg(MASK));
        let bits = ((1u64 << lanes) - 1) as u32;
        self.f.push_prologue(Inst::new(Code::Mov_r32_imm32, &[Arg::Def(number, Size::R32), Arg::Imm32(bits)]));
        self.f
            .push_prologue(Inst::new(Code::VEX_Kmovd_kr_r32, &[Arg::Def(mask, Size::K), Arg::Use(number, Size::R32)]));
        self.first_lanes.insert(lanes, mask);
        mask
    }

    /// An instruction with a vector result.
    pub(super) fn vector(&mut self, code: Code, size: Width, rest: &[Arg]) -> VReg {
        let def = self.f.reg(VECTOR);
        let mut args = vec![Arg::Def(def, Size::V(size))];
        args.extend_from_slice(rest);
        self.f.push(Inst::new(code, &args));
        def
    }

    /// `op` of one operand, all of one width.
    pub(super) fn op1(&mut self, op: Op, w: Width, a: Source) -> VReg {
        self.vector(op.code(w), w, &[a.arg(Size::V(w))])
    }

    /// `op` of one operand that is in memory.
    pub(super) fn load_as(&mut self, op: Op, w: Width, mem: Mem) -> VReg {
        self.vector(op.code(w), w, &[Arg::Mem(mem)])
    }

    /// `op` of two operands, all of one width.
    pub(super) fn op2(&mut self, op: Op, w: Width, a: VReg, b: Source) -> VReg {
        self.vector(op.code(w), w, &[Arg::Use(a, Size::V(w)), b.arg(Size::V(w))])
    }

    /// `op` of an operand and a number.
    pub(super) fn op_imm(&mut self, op: Op, w: Width, a: Source, imm: u8) -> VReg {
        self.vector(op.code(w), w, &[a.arg(Size::V(w)), Arg::Imm8(imm)])
    }

    /// A mask from mask registers.
    pub(super) fn mask_op(&mut self, code: Code, rest: &[Arg]) -> VReg {
        let def = self.f.reg(MASK);
        let mut args = vec![Arg::Def(def, Size::K)];
        args.extend_from_slice(rest);
        self.f.push(Inst::new(code, &args));
        def
    }

    /// A mask from two mask registers.
    pub(super) fn mask2(&mut self, code: Code, a: VReg, b: VReg) -> VReg {
        self.mask_op(code, &[Arg::Use(a, Size::K), Arg::Use(b, Size::K)])
    }

    /// `mask ? b : a` of registers of 32-bit lanes, or 64-bit ones where `wide`.
    pub(super) fn blend(&mut self, wide: bool, w: Width, mask: VReg, a: VReg, b: Source) -> VReg {
        let op = if wide { Op::Blend64 } else { Op::Blend32 };
        let def = self.f.reg(VECTOR);
        let size = Size::V(w);
        let inst = Inst::new(op.code(w), &[Arg::Def(def, size), Arg::Use(a, size), b.arg(size)]);
        self.f.push(inst.masked(mask, false));
        def
    }

    /// The lanes of a mask as a register of 32-bit ones and zeros: what booleans are in memory.
    pub(super) fn ones_where(&mut self, mask: VReg, w: Width) -> VReg {
        let one = self.constant_source(DType::I32, Bits(1));
        let def = self.f.reg(VECTOR);
        let code = match w {
            Width::X => Code::EVEX_Vpbroadcastd_xmm_k1z_xmmm32,
            Width::Y => Code::EVEX_Vpbroadcastd_ymm_k1z_xmmm32,
            Width::Z => Code::EVEX_Vpbroadcastd_zmm_k1z_xmmm32,
        };
        let mem = Mem { broadcast: false, ..one };
        self.f.push(Inst::new(code, &[Arg::Def(def, Size::V(w)), Arg::Mem(mem)]).masked(mask, true));
        def
    }

    /// Bits 8 to 15 of a mask.
    pub(super) fn upper_mask(&mut self, mask: VReg) -> VReg {
        self.mask_op(Code::VEX_Kshiftrw_kr_kr_imm8, &[Arg::Use(mask, Size::K), Arg::Imm8(8)])
    }

    /// The upper 256 bits of a register.
    pub(super) fn upper_half(&mut self, reg: VReg) -> VReg {
        let code = Code::EVEX_Vextractf64x4_ymmm256_k1z_zmm_imm8;
        self.vector(code, Width::Y, &[Arg::Use(reg, Size::V(Width::Z)), Arg::Imm8(1)])
    }

    /// Two registers' lower 256 bits in one.
    pub(super) fn join_halves(&mut self, low: VReg, high: VReg) -> VReg {
        let code = Code::EVEX_Vinsertf64x4_zmm_k1z_zmm_ymmm256_imm8;
        let (low, high) = (Arg::Use(low, Size::V(Width::Z)), Arg::Use(high, Size::V(Width::Y)));
        self.vector(code, Width::Z, &[low, high, Arg::Imm8(1)])
    }

    /// A scalar in every lane of the parts of a type.
    pub(super) fn splat(&mut self, ty: VType, scalar: VReg) -> Parts {
        if ty.dtype == DType::Bool {
            let bits = self.int_of_mask(scalar);
            let lowest = self.f.reg(RegClass::Int);
            let tied = Arg::Tied { def: lowest, from: bits, size: Size::R32 };
            self.f.push(Inst::new(Code::And_rm32_imm32, &[tied, Arg::Imm32(1)]));
            let all = self.f.reg(RegClass::Int);
            let tied = Arg::Tied { def: all, from: lowest, size: Size::R32 };
            self.f.push(Inst::new(Code::Neg_rm32, &[tied]));
            let mask = self.f.reg(MASK);
            self.f.push(Inst::new(Code::VEX_Kmovd_kr_r32, &[Arg::Def(mask, Size::K), Arg::Use(all, Size::R32)]));
            return vec![mask; parts(ty)];
        }
        let w = width(ty, 0);
        let op = if is_wide(ty.dtype) { Op::Broadcast64 } else { Op::Broadcast32 };
        let reg = self.vector(op.code(w), w, &[Arg::Use(scalar, Size::V(Width::X))]);
        vec![reg; parts(ty)]
    }

    // Lanes in any order

    /// The parts of a value whose lanes are these lanes of these registers (masks have been made lanes).
    pub(super) fn permute(&mut self, wide: bool, lanes: &[(VReg, u32)]) -> Parts {
        let per_part = if wide { 8 } else { 16 };
        lanes.chunks(per_part).map(|chunk| self.permute_register(wide, chunk)).collect()
    }

    fn permute_register(&mut self, wide: bool, lanes: &[(VReg, u32)]) -> VReg {
        let (first, _) = lanes[0];
        if lanes.iter().enumerate().all(|(i, &(reg, lane))| reg == first && lane == i as u32) {
            return first;
        }
        let mut sources: Vec<VReg> = Vec::new();
        for &(reg, _) in lanes {
            if !sources.contains(&reg) {
                sources.push(reg);
            }
        }
        let bytes = if wide { 8 } else { 4 };
        let order = self.lanes_constant(lanes.iter().map(|&(_, lane)| lane.into()), bytes);
        let code = match wide {
            true => Code::EVEX_Vpermq_zmm_k1z_zmm_zmmm512b64,
            false => Code::EVEX_Vpermd_zmm_k1z_zmm_zmmm512b32,
        };
        let size = Size::V(Width::Z);
        let mut result = self.vector(code, Width::Z, &[Arg::Use(order, size), Arg::Use(sources[0], size)]);
        for &source in &sources[1..] {
            let bits = lanes.iter().enumerate().filter(|(_, (reg, _))| *reg == source).map(|(i, _)| 1u64 << i).sum();
            let mask = self.mask_constant(bits);
            let def = self.f.reg(VECTOR);
            let args = [Arg::Tied { def, from: result, size }, Arg::Use(order, size), Arg::Use(source, size)];
            self.f.push(Inst::new(code, &args).masked(mask, false));
            result = def;
        }
        result
    }

    /// Where each lane of a value is; a mask's lanes are made lanes of vectors first.
    pub(super) fn lane_places(&mut self, ty: VType, parts: &[VReg]) -> Vec<(VReg, u32)> {
        let registers: Vec<VReg> = match ty.dtype {
            DType::Bool => parts.iter().map(|&mask| self.mask_to_lanes(mask)).collect(),
            _ => parts.to_vec(),
        };
        let per_part = lanes_per_part(ty.dtype);
        (0..ty.lanes).map(|lane| (registers[(lane / per_part) as usize], lane % per_part)).collect()
    }

    /// The parts of a value with these lanes.
    pub(super) fn gather_places(&mut self, dtype: DType, lanes: &[(VReg, u32)]) -> Parts {
        let registers = self.permute(is_wide(dtype), lanes);
        match dtype {
            DType::Bool => registers.into_iter().map(|reg| self.lanes_to_mask(reg)).collect(),
            _ => registers,
        }
    }

    /// All ones in the 32-bit lanes where a mask holds.
    pub(super) fn mask_to_lanes(&mut self, mask: VReg) -> VReg {
        self.vector(Op::MaskToLanes.code(Width::Z), Width::Z, &[Arg::Use(mask, Size::K)])
    }

    /// The mask of the 32-bit lanes with their highest bit set.
    pub(super) fn lanes_to_mask(&mut self, reg: VReg) -> VReg {
        self.mask_op(Op::LanesToMask.code(Width::Z), &[Arg::Use(reg, Size::V(Width::Z))])
    }

    // The frame: lanes one by one

    /// Bytes of one of the frame's two working arrays: the most lanes of 8 bytes.
    const FRAME_ARRAY: i32 = 512;

    /// Where lane `i` of working array 0 or 1 is.
    pub(super) fn frame_lane(&mut self, array: i32, i: u32, bytes: u32) -> Mem {
        self.f.reserve_frame(2 * Self::FRAME_ARRAY as u32);
        Mem::frame(array * Self::FRAME_ARRAY + (i * bytes) as i32)
    }

    /// Writes a value's lanes into a working array: 8 bytes each for 64-bit lanes, else 4 (booleans as 0 and 1).
    pub(super) fn spill_lanes(&mut self, array: i32, ty: VType, parts: &[VReg]) {
        let bytes = lane_bytes(ty.dtype);
        for (i, &part) in parts.iter().enumerate() {
            let w = width(ty, i);
            let reg = if ty.dtype == DType::Bool { self.ones_where(part, w) } else { part };
            let to = self.frame_lane(array, i as u32 * lanes_per_part(ty.dtype), bytes);
            self.f.push(Inst::new(Op::Store32.code(w), &[Arg::Mem(to), Arg::Use(reg, Size::V(w))]));
        }
    }

    /// Reads a value's lanes back from a working array.
    pub(super) fn reload_lanes(&mut self, array: i32, ty: VType) -> Parts {
        let bytes = lane_bytes(ty.dtype);
        let load = |e: &mut Self, i: usize| {
            let w = width(ty, i);
            let from = e.frame_lane(array, i as u32 * lanes_per_part(ty.dtype), bytes);
            let reg = e.load_as(Op::Load32, w, from);
            if ty.dtype == DType::Bool { e.nonzero_lanes(reg, w) } else { reg }
        };
        (0..parts(ty)).map(|i| load(self, i)).collect()
    }

    /// The mask of the 32-bit lanes that are not 0.
    pub(super) fn nonzero_lanes(&mut self, reg: VReg, w: Width) -> VReg {
        self.mask_op(Op::TestLanes.code(w), &[Arg::Use(reg, Size::V(w)), Arg::Use(reg, Size::V(w))])
    }
}
