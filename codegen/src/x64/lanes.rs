//! Values as registers; see the [back end's page](super).

use iced_x86::Code;
use regalloc2::VReg;

use super::emit::{Def, Emitter};
use super::function::VECTOR;
use super::inst::{Arg, Inst, Mem, Size};
use super::isa::{Isa, is_wide, lane_bytes};
use super::op::{Lowest, Op, Width};
use crate::kir::{Bits, DType, VType, Value};

/// The registers that make up a value, in lane order.
pub(super) type Parts = Vec<VReg>;

/// The bits of a lane that holds an element: narrow integers are extended, a mask lane is all ones.
pub(super) fn lane_bits(dtype: DType, bits: Bits) -> u64 {
    match dtype {
        DType::I8 => u64::from(bits.to_i64(DType::I8) as u32),
        DType::Bool => u64::from(if bits.0 != 0 { u32::MAX } else { 0 }),
        _ => bits.0,
    }
}

/// The order into which lanes of registers are brought.
#[derive(Clone, Copy)]
enum Order {
    /// Numbers of lanes in a register, for an instruction that takes it first.
    Register(Code, VReg),
    /// Numbers of the four 64-bit lanes, two bits each.
    Fixed(u8),
}

impl Order {
    fn new(e: &mut Emitter<'_>, wide: bool, lanes: &[(VReg, u32)]) -> Order {
        let numbers = lanes.iter().map(|&(_, lane)| u64::from(lane));
        let code = match (e.isa, wide) {
            (Isa::Avx2, true) => {
                return Order::Fixed(numbers.enumerate().map(|(i, lane)| (lane as u8) << (2 * i)).sum());
            }
            (Isa::Avx2, false) => Code::VEX_Vpermd_ymm_ymm_ymmm256,
            (Isa::Avx512, true) => Code::EVEX_Vpermq_zmm_k1z_zmm_zmmm512b64,
            (Isa::Avx512, false) => Code::EVEX_Vpermd_zmm_k1z_zmm_zmmm512b32,
        };
        Order::Register(code, e.lanes_constant(numbers, if wide { 8 } else { 4 }))
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
            Def::Constant(bits) => vec![self.constant_register(ty.dtype, bits); self.isa.parts(ty)],
            Def::Memory(places) => {
                let load = |e: &mut Self, (i, mem): (usize, Mem)| match mem.broadcast {
                    true => {
                        let op = if is_wide(ty.dtype) { Op::Broadcast64 } else { Op::Broadcast32 };
                        e.load_as(op, e.isa.width(ty, i), Mem { broadcast: false, ..mem })
                    }
                    false => e.load_as(Op::Load32, e.isa.width(ty, i), mem),
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
                vec![Source::Mem(self.constant_source(ty.dtype, bits)); self.isa.parts(ty)]
            }
            _ => self.parts(value).into_iter().map(Source::Reg).collect(),
        }
    }

    /// Whether a value is not in registers yet.
    pub(super) fn in_memory(&self, value: Value) -> bool {
        !matches!(self.values[value.0 as usize], Def::Parts(_))
    }

    /// A constant as an operand for every lane: one element where that may be broadcast, else as many as a register holds.
    pub(super) fn constant_source(&mut self, dtype: DType, bits: Bits) -> Mem {
        self.lane_source(lane_bytes(dtype), lane_bits(dtype, bits))
    }

    fn lane_source(&mut self, bytes: u32, lane: u64) -> Mem {
        let element = &lane.to_le_bytes()[..bytes as usize];
        match self.isa.embeds_broadcasts() {
            true => self.f.constant(element).broadcast(),
            false => self.f.constant(&element.repeat((self.isa.widest().bytes() / bytes) as usize)),
        }
    }

    /// A constant in every lane of a register.
    pub(super) fn constant_register(&mut self, dtype: DType, bits: Bits) -> VReg {
        match dtype {
            DType::Bool => self.mask_constant(bits.0 != 0),
            _ => self.lane_constant(lane_bytes(dtype), lane_bits(dtype, bits)),
        }
    }

    /// A register whose lanes of `bytes` bytes all have these bits.
    pub(super) fn lane_constant(&mut self, bytes: u32, lane: u64) -> VReg {
        // zeros of all dtypes share a register
        let key = (if lane == 0 { 0 } else { bytes }, lane);
        if let Some(&reg) = self.materialised.get(&key) {
            return reg;
        }
        let reg = if lane == 0 {
            let def = self.f.reg(VECTOR);
            let code = self.code(Op::Xor32, Width::X);
            self.f.push(Inst::new(code, &[Arg::Def(def, Size::V(Width::X))]));
            def
        } else {
            let mem = self.lane_source(bytes, lane);
            let op = match (mem.broadcast, bytes) {
                (false, _) => Op::Load32,
                (true, 8) => Op::Broadcast64,
                (true, _) => Op::Broadcast32,
            };
            self.load_as(op, self.isa.widest(), Mem { broadcast: false, ..mem })
        };
        self.materialised.insert(key, reg);
        reg
    }

    /// A vector constant, lane by lane.
    pub(super) fn lanes_constant(&mut self, lanes: impl Iterator<Item = u64>, bytes_per_lane: u32) -> VReg {
        let mut bytes: Vec<u8> =
            lanes.flat_map(|lane| lane.to_le_bytes().into_iter().take(bytes_per_lane as usize)).collect();
        bytes.resize(self.isa.widest().bytes() as usize, 0);
        let mem = self.f.constant(&bytes);
        self.load_as(Op::Load32, self.isa.widest(), mem)
    }

    /// The code of an instruction that the instruction set has.
    pub(super) fn code(&self, op: Op, w: Width) -> Code {
        op.code(self.isa, w).unwrap_or_else(|| unreachable!("{op:?} is no instruction of {:?}", self.isa))
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
        match op.code(self.isa, w) {
            Some(code) => self.vector(code, w, &[a.arg(Size::V(w))]),
            None => self.sequence1(op, w, a),
        }
    }

    /// `op` of one operand that is in memory.
    pub(super) fn load_as(&mut self, op: Op, w: Width, mem: Mem) -> VReg {
        self.vector(self.code(op, w), w, &[Arg::Mem(mem)])
    }

    /// `op` of two operands, all of one width.
    pub(super) fn op2(&mut self, op: Op, w: Width, a: VReg, b: Source) -> VReg {
        match op.code(self.isa, w) {
            Some(code) => self.vector(code, w, &[Arg::Use(a, Size::V(w)), b.arg(Size::V(w))]),
            None => self.sequence2(op, w, a, b),
        }
    }

    /// `op` of an operand and a number.
    pub(super) fn op_imm(&mut self, op: Op, w: Width, a: Source, imm: u8) -> VReg {
        self.vector(self.code(op, w), w, &[a.arg(Size::V(w)), Arg::Imm8(imm)])
    }

    /// `op` of one operand, whose lanes have twice the size of the result's: in the lower half of a register.
    pub(super) fn op_narrow(&mut self, op: Op, w: Width, a: VReg) -> VReg {
        match op.code(self.isa, w) {
            Some(code) => self.vector(code, w.half(), &[Arg::Use(a, Size::V(w))]),
            None => self.sequence_narrow(op, w, a),
        }
    }

    /// An operand in a register.
    pub(super) fn in_register(&mut self, w: Width, source: Source) -> VReg {
        match source {
            Source::Reg(reg) => reg,
            Source::Mem(mem) => {
                debug_assert!(!mem.broadcast, "an embedded broadcast is an operand of an instruction");
                self.load_as(Op::Load32, w, mem)
            }
        }
    }

    /// The upper half of a register.
    pub(super) fn upper_half(&mut self, reg: VReg) -> VReg {
        let code = match self.isa {
            Isa::Avx2 => Code::VEX_Vextracti128_xmmm128_ymm_imm8,
            Isa::Avx512 => Code::EVEX_Vextractf64x4_ymmm256_k1z_zmm_imm8,
        };
        let w = self.isa.widest();
        self.vector(code, w.half(), &[Arg::Use(reg, Size::V(w)), Arg::Imm8(1)])
    }

    /// Two registers' lower halves in one.
    pub(super) fn join_halves(&mut self, low: VReg, high: VReg) -> VReg {
        let code = match self.isa {
            Isa::Avx2 => Code::VEX_Vinserti128_ymm_ymm_xmmm128_imm8,
            Isa::Avx512 => Code::EVEX_Vinsertf64x4_zmm_k1z_zmm_ymmm256_imm8,
        };
        let w = self.isa.widest();
        let (low, high) = (Arg::Use(low, Size::V(w)), Arg::Use(high, Size::V(w.half())));
        self.vector(code, w, &[low, high, Arg::Imm8(1)])
    }

    /// Registers whose lower halves hold lanes, two by two in one.
    pub(super) fn pair_up(&mut self, halves: &[VReg]) -> Parts {
        let join = |e: &mut Self, pair: &[VReg]| match *pair {
            [low, high] => e.join_halves(low, high),
            _ => pair[0],
        };
        halves.chunks(2).map(|pair| join(self, pair)).collect()
    }

    /// A scalar in every lane of the parts of a type.
    pub(super) fn splat(&mut self, ty: VType, scalar: VReg) -> Parts {
        let reg = match ty.dtype {
            DType::Bool => self.splat_mask(scalar),
            _ => {
                let w = self.isa.width(ty, 0);
                let op = if is_wide(ty.dtype) { Op::Broadcast64 } else { Op::Broadcast32 };
                self.vector(self.code(op, w), w, &[Arg::Use(scalar, Size::V(Width::X))])
            }
        };
        vec![reg; self.isa.parts(ty)]
    }

    /// A general register in every lane of a register of 32-bit lanes, or of 64-bit ones where `wide`.
    pub(super) fn splat_number(&mut self, wide: bool, w: Width, number: VReg) -> VReg {
        let (broadcast, lowest, op, size) = match wide {
            false => (Op::BroadcastGpr32, Lowest::Load32, Op::Broadcast32, Size::R32),
            true => (Op::BroadcastGpr64, Lowest::Load64, Op::Broadcast64, Size::R64),
        };
        if let Some(code) = broadcast.code(self.isa, w) {
            return self.vector(code, w, &[Arg::Use(number, size)]);
        }
        let element = self.vector(lowest.code(self.isa), Width::X, &[Arg::Use(number, size)]);
        self.vector(self.code(op, w), w, &[Arg::Use(element, Size::V(Width::X))])
    }

    // Lanes in any order

    /// The parts of a value whose lanes are these lanes of these registers (masks have been made lanes).
    pub(super) fn permute(&mut self, wide: bool, lanes: &[(VReg, u32)]) -> Parts {
        let per_part = self.isa.widest().bytes() / if wide { 8 } else { 4 };
        lanes.chunks(per_part as usize).map(|chunk| self.permute_register(wide, chunk)).collect()
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
        if let (&[source], false) = (&sources[..], wide)
            && let Some(result) = self.ordered_by_quarters(source, lanes)
        {
            return result;
        }
        let order = Order::new(self, wide, lanes);
        let mut result = self.ordered(order, sources[0]);
        for &source in &sources[1..] {
            let bits = lanes.iter().enumerate().filter(|(_, (reg, _))| *reg == source).map(|(i, _)| 1u64 << i).sum();
            result = self.ordered_where(order, bits, source, result);
        }
        result
    }

    /// The 32-bit lanes of a register in another order, where an immediate holds it: the same order within each 128 bits, or
    /// 128 bits at a time.
    fn ordered_by_quarters(&mut self, source: VReg, lanes: &[(VReg, u32)]) -> Option<VReg> {
        // lanes beyond the value may be any
        let mut within = [None; 4];
        let mut quarters = [None; 4];
        let (mut stays, mut moves) = (true, true);
        for (i, &(_, lane)) in lanes.iter().enumerate() {
            let (i, lane) = (i as u32, lane as u8);
            stays &= u32::from(lane / 4) == i / 4 && *within[i as usize % 4].get_or_insert(lane % 4) == lane % 4;
            moves &= u32::from(lane % 4) == i % 4 && *quarters[i as usize / 4].get_or_insert(lane / 4) == lane / 4;
        }
        let immediate = |order: [Option<u8>; 4]| (0..4).map(|i| order[i].unwrap_or(0) << (2 * i)).sum::<u8>();
        let w = self.isa.widest();
        let from = Arg::Use(source, Size::V(w));
        match (stays, moves, self.isa) {
            (true, ..) => Some(self.op_imm(Op::PermuteFixed32, w, Source::Reg(source), immediate(within))),
            (_, true, Isa::Avx512) => {
                let code = Code::EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8;
                Some(self.vector(code, w, &[from, from, Arg::Imm8(immediate(quarters))]))
            }
            (_, true, Isa::Avx2) => {
                // two 64-bit lanes for each 128 bits
                let order = (0..2).map(|i| (0b0100 + 0b1010 * quarters[i].unwrap_or(0)) << (4 * i)).sum();
                Some(self.vector(Code::VEX_Vpermq_ymm_ymmm256_imm8, w, &[from, Arg::Imm8(order)]))
            }
            _ => None,
        }
    }

    /// The lanes of a register in another order.
    fn ordered(&mut self, order: Order, source: VReg) -> VReg {
        let w = self.isa.widest();
        let (source, size) = (Arg::Use(source, Size::V(w)), Size::V(w));
        match order {
            Order::Register(code, order) => self.vector(code, w, &[Arg::Use(order, size), source]),
            Order::Fixed(order) => self.vector(Code::VEX_Vpermq_ymm_ymmm256_imm8, w, &[source, Arg::Imm8(order)]),
        }
    }

    /// The same for the lanes whose bit is set; the others are those of `before`.
    fn ordered_where(&mut self, order: Order, bits: u64, source: VReg, before: VReg) -> VReg {
        let size = Size::V(self.isa.widest());
        match (self.isa, order) {
            (Isa::Avx512, Order::Register(code, order)) => {
                let mask = self.mask_bits(bits);
                let def = self.f.reg(VECTOR);
                let args = [Arg::Tied { def, from: before, size }, Arg::Use(order, size), Arg::Use(source, size)];
                self.f.push(Inst::new(code, &args).masked(mask, false));
                def
            }
            (_, Order::Register(..)) => {
                let all = self.ordered(order, source);
                self.blend_fixed(Width::Y, before, Source::Reg(all), bits as u8)
            }
            (_, Order::Fixed(_)) => {
                let all = self.ordered(order, source);
                let words = (0..4).filter(|i| bits >> i & 1 == 1).map(|i| 0b11 << (2 * i)).sum();
                self.blend_fixed(Width::Y, before, Source::Reg(all), words)
            }
        }
    }

    /// Where each lane of a value is; a mask's lanes are made lanes of vectors first.
    pub(super) fn lane_places(&mut self, ty: VType, parts: &[VReg]) -> Vec<(VReg, u32)> {
        let registers: Vec<VReg> = match ty.dtype {
            DType::Bool => parts.iter().map(|&mask| self.mask_to_lanes(mask)).collect(),
            _ => parts.to_vec(),
        };
        let per_part = self.isa.lanes_per_part(ty.dtype);
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
            let w = self.isa.width(ty, i);
            let reg = if ty.dtype == DType::Bool { self.ones_where(part, w) } else { part };
            let to = self.frame_lane(array, i as u32 * self.isa.lanes_per_part(ty.dtype), bytes);
            self.f.push(Inst::new(self.code(Op::Store32, w), &[Arg::Mem(to), Arg::Use(reg, Size::V(w))]));
        }
    }

    /// Reads a value's lanes back from a working array.
    pub(super) fn reload_lanes(&mut self, array: i32, ty: VType) -> Parts {
        let bytes = lane_bytes(ty.dtype);
        let load = |e: &mut Self, i: usize| {
            let w = e.isa.width(ty, i);
            let from = e.frame_lane(array, i as u32 * e.isa.lanes_per_part(ty.dtype), bytes);
            let reg = e.load_as(Op::Load32, w, from);
            if ty.dtype == DType::Bool { e.nonzero_lanes(reg, w) } else { reg }
        };
        (0..self.isa.parts(ty)).map(|i| load(self, i)).collect()
    }
}
