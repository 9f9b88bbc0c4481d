//! Loads and stores.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32, F64, I8X16, I16X8, I32, I32X4, I64, I64X2};
use cranelift_codegen::ir::{self, InstBuilder};
use kiln_ir::DType;

use super::emit::{Emitter, memory_flags};
use super::lanes::{GROUP, Layout, Parts, vector_type};
use crate::kir::{Buffer, Index, VType, Value};

impl Emitter<'_> {
    /// Loads a value whose lanes are `stride` elements apart.
    pub(super) fn load(&mut self, ty: VType, buffer: Buffer, index: &Index, stride: i64) -> Parts {
        let size = self.kernel.element_size(buffer);
        let step = stride.wrapping_mul(size);
        let reach = step.wrapping_mul(i64::from(ty.lanes));
        let (pointer, at) = self.address(buffer, index, size, reach);
        match step {
            0 => {
                let scalar = self.load_scalar(ty.dtype, pointer, at);
                self.splat(ty, scalar)
            }
            _ if step == ty.dtype.size() as i64 => self.load_contiguous(ty, pointer, at),
            _ => {
                let lanes: Vec<ir::Value> = (0..i64::from(ty.lanes))
                    .map(|lane| self.load_scalar(ty.dtype, pointer, at + lane * step))
                    .collect();
                self.gather_lanes(ty.dtype, &lanes)
            }
        }
    }

    /// Loads each lane from an offset of its own.
    pub(super) fn gather(&mut self, ty: VType, buffer: Buffer, index: &Index, offsets: Value) -> Parts {
        let lanes = self.element_pointers(ty, buffer, index, offsets);
        let lanes: Vec<ir::Value> =
            lanes.into_iter().map(|(pointer, at)| self.load_scalar(ty.dtype, pointer, at)).collect();
        self.gather_lanes(ty.dtype, &lanes)
    }

    /// Stores a value, its lanes `stride` elements apart.
    pub(super) fn store(&mut self, buffer: Buffer, index: &Index, stride: i64, value: Value) {
        let ty = self.kernel.type_of(value);
        let parts = self.parts(value);
        let size = ty.dtype.size() as i64;
        let step = stride.wrapping_mul(size);
        let (pointer, at) = self.address(buffer, index, size, step.wrapping_mul(i64::from(ty.lanes)));
        if stride == 1 {
            return self.store_contiguous(ty, &parts, pointer, at);
        }
        for lane in 0..ty.lanes as usize {
            let scalar = self.lane(ty, &parts, lane);
            self.store_scalar(ty.dtype, scalar, pointer, at + lane as i64 * step);
        }
    }

    /// Stores each lane to an offset of its own.
    pub(super) fn scatter(&mut self, buffer: Buffer, index: &Index, offsets: Value, value: Value) {
        let ty = self.kernel.type_of(value);
        let parts = self.parts(value);
        for (lane, (pointer, at)) in self.element_pointers(ty, buffer, index, offsets).into_iter().enumerate() {
            let scalar = self.lane(ty, &parts, lane);
            self.store_scalar(ty.dtype, scalar, pointer, at);
        }
    }

    /// Pointer and displacement of every lane of a gather or scatter.
    fn element_pointers(&mut self, ty: VType, buffer: Buffer, index: &Index, offsets: Value) -> Vec<(ir::Value, i64)> {
        let size = ty.dtype.size() as i64;
        let (pointer, at) = self.address(buffer, index, size, 0);
        let parts = self.parts(offsets);
        let offsets = self.lanes(ty.with_dtype(DType::I64), &parts);
        let pointers = offsets.into_iter().map(|offset| {
            let bytes = self.b.ins().ishl_imm_u(offset, i64::from(size.trailing_zeros()));
            (self.b.ins().iadd(pointer, bytes), at)
        });
        pointers.collect()
    }

    fn load_scalar(&mut self, dtype: DType, pointer: ir::Value, at: i64) -> ir::Value {
        let (flags, at) = (memory_flags(), at as i32);
        match dtype {
            DType::F64 => self.b.ins().load(F64, flags, pointer, at),
            DType::F32 => self.b.ins().load(F32, flags, pointer, at),
            DType::I64 => self.b.ins().load(I64, flags, pointer, at),
            DType::I32 => self.b.ins().load(I32, flags, pointer, at),
            DType::F16 | DType::BF16 => self.b.ins().uload16(I32, flags, pointer, at),
            DType::I8 => self.b.ins().sload8(I32, flags, pointer, at),
            DType::U8 => self.b.ins().uload8(I32, flags, pointer, at),
            DType::Bool => {
                let byte = self.b.ins().uload8(I32, flags, pointer, at);
                self.nonzero(byte)
            }
        }
    }

    fn store_scalar(&mut self, dtype: DType, scalar: ir::Value, pointer: ir::Value, at: i64) {
        let (flags, at) = (memory_flags(), at as i32);
        match dtype {
            DType::F16 | DType::BF16 => self.b.ins().istore16(flags, scalar, pointer, at),
            DType::I8 | DType::U8 => self.b.ins().istore8(flags, scalar, pointer, at),
            _ => self.b.ins().store(flags, scalar, pointer, at),
        };
    }

    fn load_contiguous(&mut self, ty: VType, pointer: ir::Value, at: i64) -> Parts {
        let layout = Layout::of(ty);
        let size = ty.dtype.size() as i64;
        let mut parts = Parts::with_capacity(layout.parts());
        match size {
            4 | 8 => {
                for register in 0..layout.vectors() as i64 {
                    let offset = (at + 16 * register) as i32;
                    parts.push(self.b.ins().load(vector_type(ty.dtype), memory_flags(), pointer, offset));
                }
            }
            2 => {
                for group in 0..layout.groups as i64 {
                    parts.push(self.b.ins().uload16x4(memory_flags(), pointer, (at + 8 * group) as i32));
                }
            }
            _ => self.load_byte_groups(ty.dtype, layout.groups, pointer, at, &mut parts),
        }
        for lane in i64::from(ty.lanes - ty.lanes % GROUP)..i64::from(ty.lanes) {
            parts.push(self.load_scalar(ty.dtype, pointer, at + lane * size));
        }
        parts
    }

    /// Groups of four bytes: sixteen at a time where there are as many.
    fn load_byte_groups(&mut self, dtype: DType, groups: usize, pointer: ir::Value, at: i64, parts: &mut Parts) {
        for first in (0..groups).step_by(4) {
            let offset = (at + first as i64 * 4) as i32;
            let count = (groups - first).min(4);
            let mut bytes = match count {
                4 => self.b.ins().load(I8X16, memory_flags(), pointer, offset),
                _ => {
                    let mut words = None;
                    for word in 0..count {
                        let loaded = self.b.ins().load(I32, memory_flags(), pointer, offset + 4 * word as i32);
                        words = Some(match words {
                            None => self.b.ins().scalar_to_vector(I32X4, loaded),
                            Some(words) => self.b.ins().insertlane(words, loaded, word as u8),
                        });
                    }
                    let Some(words) = words else { continue };
                    self.cast(I8X16, words)
                }
            };
            if dtype == DType::Bool {
                let zero = self.vector_constant(I8X16, &[0; 16]);
                bytes = self.b.ins().icmp(IntCC::NotEqual, bytes, zero);
            }
            let mut halves = Vec::new();
            for high in [false, true].into_iter().take(count.div_ceil(2)) {
                halves.push(match (dtype, high) {
                    (DType::U8, false) => self.b.ins().uwiden_low(bytes),
                    (DType::U8, true) => self.b.ins().uwiden_high(bytes),
                    (_, false) => self.b.ins().swiden_low(bytes),
                    (_, true) => self.b.ins().swiden_high(bytes),
                });
            }
            for group in 0..count {
                let half = halves[group / 2];
                parts.push(match (dtype, group % 2) {
                    (DType::U8, 0) => self.b.ins().uwiden_low(half),
                    (DType::U8, _) => self.b.ins().uwiden_high(half),
                    (_, 0) => self.b.ins().swiden_low(half),
                    (_, _) => self.b.ins().swiden_high(half),
                });
            }
        }
    }

    fn store_contiguous(&mut self, ty: VType, parts: &[ir::Value], pointer: ir::Value, at: i64) {
        let layout = Layout::of(ty);
        let size = ty.dtype.size() as i64;
        let (registers, tail) = parts.split_at(layout.vectors());
        match size {
            4 | 8 => {
                for (i, &register) in registers.iter().enumerate() {
                    self.b.ins().store(memory_flags(), register, pointer, (at + 16 * i as i64) as i32);
                }
            }
            2 => {
                for (i, pair) in registers.chunks(2).enumerate() {
                    let packed = self.b.ins().unarrow(pair[0], *pair.last().unwrap_or(&pair[0]));
                    self.store_front(packed, pair.len() == 2, pointer, at + 16 * i as i64);
                }
            }
            _ => {
                for (i, groups) in registers.chunks(4).enumerate() {
                    self.store_byte_groups(ty.dtype, groups, pointer, at + 16 * i as i64);
                }
            }
        }
        let first = i64::from(ty.lanes - ty.lanes % GROUP);
        for (lane, &scalar) in tail.iter().enumerate() {
            self.store_scalar(ty.dtype, scalar, pointer, at + (first + lane as i64) * size);
        }
    }

    /// Stores a register, or its first half.
    fn store_front(&mut self, register: ir::Value, whole: bool, pointer: ir::Value, at: i64) {
        let value = match whole {
            true => register,
            false => {
                let words = self.cast(I64X2, register);
                self.b.ins().extractlane(words, 0)
            }
        };
        self.b.ins().store(memory_flags(), value, pointer, at as i32);
    }

    /// Stores up to four groups of four bytes.
    fn store_byte_groups(&mut self, dtype: DType, groups: &[ir::Value], pointer: ir::Value, at: i64) {
        // values are in range, so that saturation never happens
        let halves: Vec<ir::Value> =
            groups.chunks(2).map(|pair| self.b.ins().snarrow(pair[0], *pair.last().unwrap_or(&pair[0]))).collect();
        let (low, high) = (halves[0], *halves.last().unwrap_or(&halves[0]));
        debug_assert_eq!(self.b.func.dfg.value_type(low), I16X8);
        let mut bytes = match dtype {
            DType::U8 => self.b.ins().unarrow(low, high),
            _ => self.b.ins().snarrow(low, high),
        };
        if dtype == DType::Bool {
            let one = self.vector_constant(I8X16, &[1; 16]);
            bytes = self.b.ins().band(bytes, one);
        }
        if groups.len() == 4 {
            self.b.ins().store(memory_flags(), bytes, pointer, at as i32);
            return;
        }
        let words = self.cast(I32X4, bytes);
        // an odd pair was doubled: with one or two groups all bytes wanted are in the first 8, with three in the first 12
        for word in 0..groups.len() {
            let word_value = self.b.ins().extractlane(words, word as u8);
            self.b.ins().store(memory_flags(), word_value, pointer, (at + 4 * word as i64) as i32);
        }
    }
}
