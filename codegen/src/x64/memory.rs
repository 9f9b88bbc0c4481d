//! Loads and stores.

use iced_x86::Code;
use regalloc2::{RegClass, VReg};

use super::emit::{Def, Emitter};
use super::function::{MASK, VECTOR};
use super::inst::{Arg, Inst, Masked, Mem, Size};
use super::isa::{Isa, is_wide, lane_bytes};
use super::lanes::Parts;
use super::op::{Lowest, Op, Width};
use crate::kir::{Bits, Buffer, DType, Index, VType, Value};

/// Bytes of a line of the caches.
pub(super) const LINE: i64 = 64;

impl Emitter<'_> {
    /// Loads a value whose lanes are `stride` elements apart.
    pub(super) fn load(&mut self, value: Value, buffer: Buffer, index: &Index, stride: i64) -> Def {
        let ty = self.kernel.type_of(value);
        let size = self.kernel.element_size(buffer);
        let step = stride.wrapping_mul(size);
        let from = self.address(buffer, index, size, step.wrapping_mul(i64::from(ty.lanes)));
        if self.folds(value) {
            return Def::Memory(match stride {
                0 => vec![from.broadcast(); self.isa.parts(ty)],
                _ => {
                    (0..self.isa.parts(ty)).map(|i| from.plus((self.isa.widest().bytes() * i as u32) as i32)).collect()
                }
            });
        }
        Def::Parts(match stride {
            _ if ty.lanes == 1 => vec![self.load_scalar(ty.dtype, from)],
            0 => self.load_broadcast(ty, from),
            _ if step == ty.dtype.size() as i64 => {
                (0..self.isa.parts(ty)).map(|i| self.load_part(ty, i, from)).collect()
            }
            _ => self.load_strided(ty, from, step),
        })
    }

    /// Loads one element into the lowest lane.
    fn load_scalar(&mut self, dtype: DType, from: Mem) -> VReg {
        match dtype {
            DType::F32 | DType::I32 => self.vector(Lowest::Load32.code(self.isa), Width::X, &[Arg::Mem(from)]),
            DType::F64 | DType::I64 => self.vector(Lowest::Load64.code(self.isa), Width::X, &[Arg::Mem(from)]),
            _ => {
                let element = self.load_int(dtype, from);
                let def = self.vector(Lowest::Load32.code(self.isa), Width::X, &[Arg::Use(element, Size::R32)]);
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
        let w = self.isa.width(ty, 0);
        let reg = match ty.dtype.size() {
            4 => self.load_as(Op::Broadcast32, w, from),
            8 => self.load_as(Op::Broadcast64, w, from),
            _ => {
                let element = self.load_int(ty.dtype, from);
                self.splat_number(false, w, element)
            }
        };
        let reg = if ty.dtype == DType::Bool { self.nonzero_lanes(reg, w) } else { reg };
        vec![reg; self.isa.parts(ty)]
    }

    /// Loads part `i` of contiguous elements; lanes beyond the value's are not touched and become 0.
    fn load_part(&mut self, ty: VType, i: usize, from: Mem) -> VReg {
        let from = from.plus((i as u32 * self.isa.lanes_per_part(ty.dtype) * ty.dtype.size() as u32) as i32);
        let (lanes, w) = (self.isa.lanes_of_part(ty, i), self.isa.width(ty, i));
        let op = match ty.dtype {
            DType::F32 | DType::I32 => Op::Load32,
            DType::F64 | DType::I64 => Op::Load64,
            DType::F16 | DType::BF16 => Op::ZeroExtendWords,
            DType::I8 => Op::SignExtendBytes,
            DType::U8 | DType::Bool => Op::ZeroExtendBytes,
        };
        let reg = match self.isa {
            _ if self.isa.fills(ty, i) => self.load_as(op, w, from),
            Isa::Avx2 => self.load_first(ty.dtype, w, lanes, from),
            Isa::Avx512 => {
                let mask = self.first_lanes(lanes, lane_bytes(ty.dtype));
                self.vector_where(mask, self.code(op, w), w, &[Arg::Mem(from)])
            }
        };
        if ty.dtype == DType::Bool { self.nonzero_lanes(reg, w) } else { reg }
    }

    fn load_strided(&mut self, ty: VType, from: Mem, step: i64) -> Parts {
        if self.isa == Isa::Avx2 {
            let places: Vec<Mem> = self.places(ty, from, step);
            let per_part = self.isa.lanes_per_part(ty.dtype) as usize;
            let load = |e: &mut Self, places: &[Mem]| {
                let reg = e.insert_elements(ty.dtype, places);
                if ty.dtype == DType::Bool { e.nonzero_lanes(reg, Width::Y) } else { reg }
            };
            return places.chunks(per_part).map(|places| load(self, places)).collect();
        }
        let reach = step.wrapping_mul(64);
        if ty.dtype.size() == 4 && i32::try_from(reach).is_ok() {
            let load = |e: &mut Self, i: usize| {
                let group = e.isa.lanes_per_part(ty.dtype);
                let first = i as u32 * group;
                let offsets = (0..group).map(|lane| (step * i64::from(lane)) as u64);
                let index = e.lanes_constant(offsets, 4);
                let from = from.plus((step * i64::from(first)) as i32);
                e.gather_register(
                    Op::GatherIndex32Of32,
                    e.isa.lanes_of_part(ty, i),
                    e.isa.width(ty, i),
                    e.isa.width(ty, i),
                    from,
                    index,
                    1,
                )
            };
            return (0..self.isa.parts(ty)).map(|i| load(self, i)).collect();
        }
        for lane in 0..ty.lanes {
            let element = self.load_int(ty.dtype, from.plus((step * i64::from(lane)) as i32));
            self.store_frame_lane(0, ty.dtype, lane, element);
        }
        self.reload_lanes(0, ty)
    }

    /// Where the lanes of a value are that lie `step` bytes apart.
    fn places(&self, ty: VType, first: Mem, step: i64) -> Vec<Mem> {
        (0..ty.lanes).map(|lane| first.plus((step * i64::from(lane)) as i32)).collect()
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
        let mask = self.first_lanes(lanes, lane_bytes(DType::I32));
        let before = self.constant_register(DType::F32, Bits(0));
        let (def, after) = (self.f.reg(VECTOR), self.f.reg(MASK));
        let result_width = if op == Op::GatherIndex64Of32 { w.half() } else { w };
        let mem = Mem { index: Some((index, scale, Size::V(index_width))), ..from };
        let mut inst =
            Inst::new(self.code(op, w), &[Arg::Tied { def, from: before, size: Size::V(result_width) }, Arg::Mem(mem)]);
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
            4 | 8 => {
                let op = if size == 8 { Op::GatherIndex64Of64 } else { Op::GatherIndex64Of32 };
                let gather = |e: &mut Self, i: usize| {
                    let (lanes, w) = (e.isa.lanes_of_part(offset_type, i), e.isa.width(offset_type, i));
                    match e.isa {
                        Isa::Avx2 => e.gather_lanes(op, lanes, w, from, offsets[i], size),
                        Isa::Avx512 => e.gather_register(op, lanes, w, w, from, offsets[i], size),
                    }
                };
                let gathered: Parts = (0..self.isa.parts(offset_type)).map(|i| gather(self, i)).collect();
                if size == 8 { gathered } else { self.pair_up(&gathered) }
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

    /// Stores a value, its lanes `stride` elements apart.
    pub(super) fn store(&mut self, buffer: Buffer, index: &Index, stride: i64, value: Value) {
        let ty = self.kernel.type_of(value);
        let size = ty.dtype.size() as i64;
        let step = stride.wrapping_mul(size);
        let to = self.address(buffer, index, size, step.wrapping_mul(i64::from(ty.lanes)));
        let parts = self.parts(value);
        if stride == 1 || ty.lanes == 1 {
            let streams = self.streams(ty, buffer, index);
            for (i, &part) in parts.iter().enumerate() {
                match streams {
                    true => self.stream_part(ty, i, part, to),
                    false => self.store_part(ty, i, part, to),
                }
            }
            return;
        }
        if self.isa == Isa::Avx2 {
            let places = self.places(ty, to, step);
            for (i, places) in places.chunks(self.isa.lanes_per_part(ty.dtype) as usize).enumerate() {
                let w = self.isa.width(ty, i);
                let reg = if ty.dtype == DType::Bool { self.ones_where(parts[i], w) } else { parts[i] };
                self.extract_elements(ty.dtype, w, reg, places);
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

    /// Whether a store of contiguous elements passes the caches by: it writes whole vectors, with their alignment.
    fn streams(&self, ty: VType, buffer: Buffer, index: &Index) -> bool {
        let Buffer::Param(at) = buffer else { return false };
        let size = ty.dtype.size() as i64;
        let vectors = |elements: i64| elements.wrapping_mul(size) % i64::from(self.isa.widest().bytes()) == 0;
        self.streaming
            && self.kernel.buffers.get(at as usize).is_some_and(|param| param.streamed)
            && size >= 4
            && vectors(ty.lanes.into())
            && index.dynamic.is_empty()
            && vectors(index.offset)
            && index.terms.iter().all(|&(_, coefficient)| vectors(coefficient))
    }

    /// Stores part `i` of whole vectors past the caches.
    fn stream_part(&mut self, ty: VType, i: usize, part: VReg, to: Mem) {
        let (size, w) = (ty.dtype.size() as u32, self.isa.width(ty, i));
        let to = to.plus((i as u32 * self.isa.lanes_per_part(ty.dtype) * size) as i32);
        self.f.push(Inst::new(self.code(Op::Stream, w), &[Arg::Mem(to), Arg::Use(part, Size::V(w))]));
    }

    /// Stores part `i` of contiguous elements.
    fn store_part(&mut self, ty: VType, i: usize, part: VReg, to: Mem) {
        let size = ty.dtype.size() as u32;
        let to = to.plus((i as u32 * self.isa.lanes_per_part(ty.dtype) * size) as i32);
        let (lanes, w) = (self.isa.lanes_of_part(ty, i), self.isa.width(ty, i));
        let part = if ty.dtype == DType::Bool { self.ones_where(part, w) } else { part };
        if self.isa == Isa::Avx2 {
            return self.store_first(ty.dtype, w, lanes, part, to);
        }
        let op = match (size, lanes) {
            (4 | 8, 1) => {
                let lowest = if size == 4 { Lowest::Store32 } else { Lowest::Store64 };
                let args = [Arg::Mem(to), Arg::Use(part, Size::V(Width::X))];
                return self.f.push(Inst::new(lowest.code(self.isa), &args));
            }
            (4, _) => Op::Store32,
            (8, _) => Op::Store64,
            (2, _) => Op::NarrowToWords,
            _ => Op::NarrowToBytes,
        };
        let inst = Inst::new(self.code(op, w), &[Arg::Mem(to), Arg::Use(part, Size::V(w))]);
        let inst = match self.isa.fills(ty, i) {
            true => inst,
            false => {
                let mask = self.first_lanes(lanes, lane_bytes(ty.dtype));
                inst.masked(mask, false)
            }
        };
        self.f.push(inst);
    }
}
