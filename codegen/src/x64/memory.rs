//! Loads and stores.

use iced_x86::Code;
use regalloc2::{RegClass, VReg};

use super::emit::{Def, Emitter};
use super::function::{MASK, VECTOR};
use super::inst::{Arg, Inst, Masked, Mem, Size};
use super::lanes::{GROUP, Parts, is_wide, lane_bytes, lanes_of_part, lanes_per_part, parts, width};
use super::op::{Op, Width};
use crate::kir::{Bits, Buffer, DType, Index, VType, Value};

impl Emitter<'_> {
    /// Loads a value whose lanes are `stride` elements apart.
    pub(super) fn load(&mut self, value: Value, buffer: Buffer, index: &Index, stride: i64) -> Def {
        let ty = self.kernel.type_of(value);
        let size = ty.dtype.size() as i64;
        let step = stride.wrapping_mul(size);
        let from = self.address(buffer, index, size, step.wrapping_mul(i64::from(ty.lanes)));
        if self.folds(value) {
            return Def::Memory(match stride {
                0 => vec![from.broadcast(); parts(ty)],
                _ => (0..parts(ty)).map(|i| from.plus(64 * i as i32)).collect(),
            });
        }
        Def::Parts(match stride {
            _ if ty.lanes == 1 => vec![self.load_scalar(ty.dtype, from)],
            0 => self.load_broadcast(ty, from),
            1 => (0..parts(ty)).map(|i| self.load_part(ty, i, from)).collect(),
            _ => self.load_strided(ty, from, step),
        })
    }

    /// Loads one element into the lowest lane.
    fn load_scalar(&mut self, dtype: DType, from: Mem) -> VReg {
        match dtype {
            DType::F32 | DType::I32 => self.vector(Code::EVEX_Vmovd_xmm_rm32, Width::X, &[Arg::Mem(from)]),
            DType::F64 | DType::I64 => self.vector(Code::EVEX_Vmovq_xmm_rm64, Width::X, &[Arg::Mem(from)]),
            _ => {
                let element = self.load_int(dtype, from);
                let def = self.vector(Code::EVEX_Vmovd_xmm_rm32, Width::X, &[Arg::Use(element, Size::R32)]);
                if dtype == DType::Bool { self.nonzero_lanes(def, Width::X) } else { def }
            }
        }
    }

    /// Loads a narrow element into a general register: sign-extended `i8`, the others zero-extended.
    fn load_int(&mut self, dtype: DType, from: Mem) -> VReg {
        let code = match dtype {
            DType::I8 => Code::Movsx_r32_rm8,
            DType::U8 | DType::Bool => Code::Movzx_r32_rm8,
            DType::F16 | DType::BF16 => Code::Movzx_r32_rm16,
            DType::F32 | DType::I32 => Code::Mov_r32_rm32,
            DType::F64 | DType::I64 => return self.int(Code::Mov_r64_rm64, &[Arg::Mem(from)]),
        };
        let def = self.f.reg(RegClass::Int);
        self.f.push(Inst::new(code, &[Arg::Def(def, Size::R32), Arg::Mem(from)]));
        def
    }

    fn load_broadcast(&mut self, ty: VType, from: Mem) -> Parts {
        let w = width(ty, 0);
        let reg = match ty.dtype.size() {
            4 => self.load_as(Op::Broadcast32, w, from),
            8 => self.load_as(Op::Broadcast64, w, from),
            _ => {
                let element = self.load_int(ty.dtype, from);
                self.vector(Op::BroadcastGpr32.code(w), w, &[Arg::Use(element, Size::R32)])
            }
        };
        let reg = if ty.dtype == DType::Bool { self.nonzero_lanes(reg, w) } else { reg };
        vec![reg; parts(ty)]
    }

    /// Loads part `i` of contiguous elements; lanes beyond the value's are not touched and become 0.
    fn load_part(&mut self, ty: VType, i: usize, from: Mem) -> VReg {
        let from = from.plus((i as u32 * lanes_per_part(ty.dtype) * ty.dtype.size() as u32) as i32);
        let (lanes, w) = (lanes_of_part(ty, i), width(ty, i));
        let op = match ty.dtype {
            DType::F32 | DType::I32 => Op::Load32,
            DType::F64 | DType::I64 => Op::Load64,
            DType::F16 | DType::BF16 => Op::ZeroExtendWords,
            DType::I8 => Op::SignExtendBytes,
            DType::U8 | DType::Bool => Op::ZeroExtendBytes,
        };
        let reg = if lanes * lane_bytes(ty.dtype) == w.bytes() {
            self.load_as(op, w, from)
        } else {
            let mask = self.first_lanes(lanes);
            let def = self.f.reg(VECTOR);
            self.f.push(Inst::new(op.code(w), &[Arg::Def(def, Size::V(w)), Arg::Mem(from)]).masked(mask, true));
            def
        };
        if ty.dtype == DType::Bool { self.nonzero_lanes(reg, w) } else { reg }
    }

    fn load_strided(&mut self, ty: VType, from: Mem, step: i64) -> Parts {
        let reach = step.wrapping_mul(64);
        if ty.dtype.size() == 4 && i32::try_from(reach).is_ok() {
            let load = |e: &mut Self, i: usize| {
                let first = i as u32 * GROUP;
                let offsets = (0..GROUP).map(|lane| (step * i64::from(lane)) as u64);
                let index = e.lanes_constant(offsets, 4);
                let from = from.plus((step * i64::from(first)) as i32);
                e.gather_register(
                    Op::GatherIndex32Of32,
                    lanes_of_part(ty, i),
                    width(ty, i),
                    width(ty, i),
                    from,
                    index,
                    1,
                )
            };
            return (0..parts(ty)).map(|i| load(self, i)).collect();
        }
        for lane in 0..ty.lanes {
            let element = self.load_int(ty.dtype, from.plus((step * i64::from(lane)) as i32));
            self.store_frame_lane(0, ty.dtype, lane, element);
        }
        self.reload_lanes(0, ty)
    }

    /// Writes a general register into a lane of a working array.
    pub(super) fn store_frame_lane(&mut self, array: i32, dtype: DType, lane: u32, element: VReg) {
        let to = self.frame_lane(array, lane, lane_bytes(dtype));
        let (code, size) = match is_wide(dtype) {
            true => (Code::Mov_rm64_r64, Size::R64),
            false => (Code::Mov_rm32_r32, Size::R32),
        };
        self.f.push(Inst::new(code, &[Arg::Mem(to), Arg::Use(element, size)]));
    }

    /// Reads a lane of a working array into a general register, 32-bit lanes sign-extended.
    pub(super) fn load_frame_lane(&mut self, array: i32, dtype: DType, lane: u32) -> VReg {
        let from = self.frame_lane(array, lane, lane_bytes(dtype));
        let code = if is_wide(dtype) { Code::Mov_r64_rm64 } else { Code::Movsxd_r64_rm32 };
        self.int(code, &[Arg::Mem(from)])
    }

    /// Gathers the first `lanes` lanes of a register. `index_width`: of the register of indices, `scale` bytes each.
    #[allow(clippy::too_many_arguments)] // one machine instruction
    fn gather_register(
        &mut self,
        op: Op,
        lanes: u32,
        w: Width,
        index_width: Width,
        from: Mem,
        index: VReg,
        scale: u32,
    ) -> VReg {
        let mask = self.first_lanes(lanes);
        let before = self.constant_register(DType::F32, Bits(0));
        let (def, after) = (self.f.reg(VECTOR), self.f.reg(MASK));
        let result_width = if op == Op::GatherIndex64Of32 { w.half() } else { w };
        let mem = Mem { index: Some((index, scale, Size::V(index_width))), ..from };
        let mut inst =
            Inst::new(op.code(w), &[Arg::Tied { def, from: before, size: Size::V(result_width) }, Arg::Mem(mem)]);
        inst.mask = Some(Masked { by: mask, zero: false, consumed: Some(after) });
        self.f.push(inst);
        def
    }

    /// Loads each lane from an offset of its own.
    pub(super) fn gather(&mut self, ty: VType, buffer: Buffer, index: &Index, offsets: Value) -> Parts {
        let size = ty.dtype.size() as u32;
        let from = self.address(buffer, index, i64::from(size), 0);
        if ty.lanes == 1 {
            let offset = self.scalar_int(offsets);
            let from = Mem { index: Some((offset, size, Size::R64)), ..from };
            return vec![self.load_scalar(ty.dtype, from)];
        }
        let offset_type = ty.with_dtype(DType::I64);
        let offsets = self.parts(offsets);
        match size {
            8 => (0..parts(ty))
                .map(|i| {
                    let (lanes, w) = (lanes_of_part(ty, i), width(ty, i));
                    self.gather_register(Op::GatherIndex64Of64, lanes, w, w, from, offsets[i], 8)
                })
                .collect(),
            4 => {
                let gather = |e: &mut Self, i: usize| {
                    let (lanes, w) = (lanes_of_part(offset_type, i), width(offset_type, i));
                    e.gather_register(Op::GatherIndex64Of32, lanes, w, w, from, offsets[i], 4)
                };
                let halves: Parts = (0..parts(offset_type)).map(|i| gather(self, i)).collect();
                self.pair_up(&halves)
            }
            _ => {
                self.spill_lanes(1, offset_type, &offsets);
                for lane in 0..ty.lanes {
                    let offset = self.load_frame_lane(1, DType::I64, lane);
                    let from = Mem { index: Some((offset, size, Size::R64)), ..from };
                    let element = self.load_int(ty.dtype, from);
                    self.store_frame_lane(0, ty.dtype, lane, element);
                }
                self.reload_lanes(0, ty)
            }
        }
    }

    /// Registers whose lower halves hold lanes, two by two in one.
    pub(super) fn pair_up(&mut self, halves: &[VReg]) -> Parts {
        let join = |e: &mut Self, pair: &[VReg]| match *pair {
            [low, high] => e.join_halves(low, high),
            _ => pair[0],
        };
        halves.chunks(2).map(|pair| join(self, pair)).collect()
    }

    /// Stores a value, its lanes `stride` elements apart.
    pub(super) fn store(&mut self, buffer: Buffer, index: &Index, stride: i64, value: Value) {
        let ty = self.kernel.type_of(value);
        let size = ty.dtype.size() as i64;
        let step = stride.wrapping_mul(size);
        let to = self.address(buffer, index, size, step.wrapping_mul(i64::from(ty.lanes)));
        let parts = self.parts(value);
        if stride == 1 || ty.lanes == 1 {
            for (i, &part) in parts.iter().enumerate() {
                self.store_part(ty, i, part, to);
            }
            return;
        }
        self.spill_lanes(0, ty, &parts);
        for lane in 0..ty.lanes {
            let element = self.load_frame_lane(0, ty.dtype, lane);
            self.store_int(ty.dtype, to.plus((step * i64::from(lane)) as i32), element);
        }
    }

    /// Stores each lane to an offset of its own, lane 0 first.
    pub(super) fn scatter(&mut self, buffer: Buffer, index: &Index, offsets: Value, value: Value) {
        let ty = self.kernel.type_of(value);
        let size = ty.dtype.size() as u32;
        let to = self.address(buffer, index, i64::from(size), 0);
        let (parts, offsets) = (self.parts(value), self.parts(offsets));
        self.spill_lanes(0, ty, &parts);
        self.spill_lanes(1, ty.with_dtype(DType::I64), &offsets);
        for lane in 0..ty.lanes {
            let offset = self.load_frame_lane(1, DType::I64, lane);
            let element = self.load_frame_lane(0, ty.dtype, lane);
            self.store_int(ty.dtype, Mem { index: Some((offset, size, Size::R64)), ..to }, element);
        }
    }

    /// Stores the low bytes of a general register.
    fn store_int(&mut self, dtype: DType, to: Mem, element: VReg) {
        let (code, size) = match dtype.size() {
            8 => (Code::Mov_rm64_r64, Size::R64),
            4 => (Code::Mov_rm32_r32, Size::R32),
            2 => (Code::Mov_rm16_r16, Size::R16),
            _ => (Code::Mov_rm8_r8, Size::R8),
        };
        self.f.push(Inst::new(code, &[Arg::Mem(to), Arg::Use(element, size)]));
    }

    /// Stores part `i` of contiguous elements.
    fn store_part(&mut self, ty: VType, i: usize, part: VReg, to: Mem) {
        let size = ty.dtype.size() as u32;
        let to = to.plus((i as u32 * lanes_per_part(ty.dtype) * size) as i32);
        let (lanes, w) = (lanes_of_part(ty, i), width(ty, i));
        let full = lanes * lane_bytes(ty.dtype) == w.bytes();
        let store = |e: &mut Self, op: Op, w: Width, reg: VReg| {
            let inst = Inst::new(op.code(w), &[Arg::Mem(to), Arg::Use(reg, Size::V(w))]);
            let inst = match full {
                true => inst,
                false => {
                    let mask = e.first_lanes(lanes);
                    inst.masked(mask, false)
                }
            };
            e.f.push(inst);
        };
        match (size, lanes) {
            (4, 1) => {
                self.f.push(Inst::new(Code::EVEX_Vmovd_rm32_xmm, &[Arg::Mem(to), Arg::Use(part, Size::V(Width::X))]))
            }
            (8, 1) => {
                self.f.push(Inst::new(Code::EVEX_Vmovq_rm64_xmm, &[Arg::Mem(to), Arg::Use(part, Size::V(Width::X))]))
            }
            (4, _) => store(self, Op::Store32, w, part),
            (8, _) => store(self, Op::Store64, w, part),
            (2, _) => store(self, Op::NarrowToWords, w, part),
            _ => {
                let reg = if ty.dtype == DType::Bool { self.ones_where(part, w) } else { part };
                store(self, Op::NarrowToBytes, w, reg);
            }
        }
    }
}
