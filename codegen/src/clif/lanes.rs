//! Values as 128-bit registers and scalars; see the [back end's page](super).

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32, F32X4, F64, F64X2, I8, I8X16, I32, I32X4, I64, I64X2};
use cranelift_codegen::ir::{self, ConstantData, InstBuilder, MemFlagsData};
use kiln_ir::DType;

use super::emit::Emitter;
use crate::kir::{Bits, VType};

/// Lanes of a group.
pub(super) const GROUP: u32 = 4;

/// The CLIF values that make up one KIR value: its groups' registers in lane order, then its scalars.
pub(super) type Parts = Vec<ir::Value>;

/// How a type is laid out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Groups of four lanes.
    pub groups: usize,
    /// Registers of a group: 1, or 2 for 64-bit lanes.
    pub registers: usize,
    /// Scalars after the groups.
    pub tail: usize,
}

impl Layout {
    pub fn of(ty: VType) -> Layout {
        let registers = if is_wide(ty.dtype) { 2 } else { 1 };
        Layout { groups: (ty.lanes / GROUP) as usize, registers, tail: (ty.lanes % GROUP) as usize }
    }

    /// Registers before the scalars.
    pub fn vectors(self) -> usize {
        self.groups * self.registers
    }

    /// All parts.
    pub fn parts(self) -> usize {
        self.vectors() + self.tail
    }

    /// Lanes of one register.
    pub fn lanes_per_register(self) -> usize {
        GROUP as usize / self.registers
    }
}

/// Whether a lane has 64 bits.
pub(super) fn is_wide(dtype: DType) -> bool {
    dtype.size() == 8
}

/// The type of a register.
pub(super) fn vector_type(dtype: DType) -> ir::Type {
    match dtype {
        DType::F64 => F64X2,
        DType::F32 => F32X4,
        DType::I64 => I64X2,
        _ => I32X4,
    }
}

/// The type of a scalar.
pub(super) fn scalar_type(dtype: DType) -> ir::Type {
    match dtype {
        DType::F64 => F64,
        DType::F32 => F32,
        DType::I64 => I64,
        DType::Bool => I8,
        _ => I32,
    }
}

/// The types of all parts.
pub(super) fn part_types(ty: VType) -> impl Iterator<Item = ir::Type> {
    let layout = Layout::of(ty);
    let vectors = std::iter::repeat_n(vector_type(ty.dtype), layout.vectors());
    vectors.chain(std::iter::repeat_n(scalar_type(ty.dtype), layout.tail))
}

impl Emitter<'_> {
    /// The same bits as another type.
    pub(super) fn cast(&mut self, to: ir::Type, value: ir::Value) -> ir::Value {
        if self.b.func.dfg.value_type(value) == to {
            return value;
        }
        // which half of a vector comes first does matter for a cast between vectors of different lanes
        let flags = MemFlagsData::new().with_endianness(ir::Endianness::Little);
        self.b.ins().bitcast(to, flags, value)
    }

    /// A register from its bytes.
    pub(super) fn vector_constant(&mut self, ty: ir::Type, bytes: &[u8]) -> ir::Value {
        let constant = self.b.func.dfg.constants.insert(ConstantData::from(bytes));
        self.b.ins().vconst(ty, constant)
    }

    /// A register of four equal 32-bit lanes.
    pub(super) fn splat_i32(&mut self, value: u32) -> ir::Value {
        self.vector_constant(I32X4, &value.to_le_bytes().repeat(4))
    }

    /// The parts of a constant.
    pub(super) fn constant(&mut self, ty: VType, bits: Bits) -> Parts {
        let layout = Layout::of(ty);
        // the register's form of a narrow element
        let lane = match ty.dtype {
            DType::I8 => u64::from(bits.to_i64(DType::I8) as u32),
            DType::Bool => u64::from(if bits.0 != 0 { u32::MAX } else { 0 }),
            _ => bits.0,
        };
        let mut parts = Parts::with_capacity(layout.parts());
        if layout.groups > 0 {
            let bytes = match layout.registers {
                2 => lane.to_le_bytes().repeat(2),
                _ => (lane as u32).to_le_bytes().repeat(4),
            };
            let register = self.vector_constant(vector_type(ty.dtype), &bytes);
            parts.resize(layout.vectors(), register);
        }
        if layout.tail > 0 {
            let scalar = match ty.dtype {
                DType::F64 => self.b.ins().f64const(f64::from_bits(bits.0)),
                DType::F32 => self.b.ins().f32const(f32::from_bits(bits.0 as u32)),
                DType::I64 => self.b.ins().iconst(I64, bits.0 as i64),
                DType::Bool => self.b.ins().iconst(I8, bits.0 as i64),
                _ => self.b.ins().iconst(I32, i64::from(lane as u32)),
            };
            parts.resize(layout.parts(), scalar);
        }
        parts
    }

    /// One lane as a scalar.
    pub(super) fn lane(&mut self, ty: VType, parts: &[ir::Value], lane: usize) -> ir::Value {
        let layout = Layout::of(ty);
        let grouped = layout.groups * GROUP as usize;
        if lane >= grouped {
            return parts[layout.vectors() + lane - grouped];
        }
        let per_register = layout.lanes_per_register();
        let scalar = self.b.ins().extractlane(parts[lane / per_register], (lane % per_register) as u8);
        match ty.dtype {
            DType::Bool => {
                let byte = self.b.ins().ireduce(I8, scalar);
                self.b.ins().band_imm_u(byte, 1)
            }
            _ => scalar,
        }
    }

    /// All lanes as scalars.
    pub(super) fn lanes(&mut self, ty: VType, parts: &[ir::Value]) -> Vec<ir::Value> {
        (0..ty.lanes as usize).map(|lane| self.lane(ty, parts, lane)).collect()
    }

    /// The parts of a value with these lanes.
    pub(super) fn gather_lanes(&mut self, dtype: DType, lanes: &[ir::Value]) -> Parts {
        let layout = Layout::of(VType::new(dtype, lanes.len() as u32));
        let (grouped, tail) = lanes.split_at(layout.groups * GROUP as usize);
        let registers = grouped.chunks(layout.lanes_per_register()).map(|chunk| {
            let elements: Vec<ir::Value> = match dtype {
                DType::Bool => chunk.iter().map(|&lane| self.b.ins().bmask(I32, lane)).collect(),
                _ => chunk.to_vec(),
            };
            let mut register = self.b.ins().scalar_to_vector(vector_type(dtype), elements[0]);
            for (lane, &element) in elements.iter().enumerate().skip(1) {
                register = self.b.ins().insertlane(register, element, lane as u8);
            }
            register
        });
        let mut parts: Parts = registers.collect();
        parts.extend_from_slice(tail);
        parts
    }

    /// A scalar in every lane.
    pub(super) fn splat(&mut self, ty: VType, scalar: ir::Value) -> Parts {
        let layout = Layout::of(ty);
        let mut parts = Parts::new();
        if layout.groups > 0 {
            let element = match ty.dtype {
                DType::Bool => self.b.ins().bmask(I32, scalar),
                _ => scalar,
            };
            let register = self.b.ins().splat(vector_type(ty.dtype), element);
            parts.resize(layout.vectors(), register);
        }
        parts.resize(layout.parts(), scalar);
        parts
    }

    /// Applies a scalar function to every lane.
    pub(super) fn by_lane(
        &mut self,
        from: VType,
        parts: &[ir::Value],
        to: DType,
        mut f: impl FnMut(&mut Self, ir::Value) -> ir::Value,
    ) -> Parts {
        let lanes = self.lanes(from, parts);
        let results: Vec<ir::Value> = lanes.into_iter().map(|lane| f(self, lane)).collect();
        self.gather_lanes(to, &results)
    }

    /// Applies a scalar function to every pair of lanes.
    pub(super) fn by_lane_pair(
        &mut self,
        ty: VType,
        a: &[ir::Value],
        b: &[ir::Value],
        mut f: impl FnMut(&mut Self, ir::Value, ir::Value) -> ir::Value,
    ) -> Parts {
        let (a, b) = (self.lanes(ty, a), self.lanes(ty, b));
        let results: Vec<ir::Value> = a.into_iter().zip(b).map(|(a, b)| f(self, a, b)).collect();
        self.gather_lanes(ty.dtype, &results)
    }

    /// A group's mask of four 32-bit lanes as two registers of 64-bit lanes.
    pub(super) fn widen_mask(&mut self, mask: ir::Value) -> [ir::Value; 2] {
        [self.b.ins().swiden_low(mask), self.b.ins().swiden_high(mask)]
    }

    /// The low halves of the 64-bit lanes of two registers.
    pub(super) fn narrow_pair(&mut self, low: ir::Value, high: ir::Value) -> ir::Value {
        let bytes: Vec<u8> = [0u8, 8, 16, 24].iter().flat_map(|&lane| lane..lane + 4).collect();
        self.byte_shuffle(I32X4, low, high, &bytes)
    }

    /// A shuffle of the 32 bytes of two registers.
    pub(super) fn byte_shuffle(&mut self, ty: ir::Type, a: ir::Value, b: ir::Value, bytes: &[u8]) -> ir::Value {
        let (a, b) = (self.cast(I8X16, a), self.cast(I8X16, b));
        let pattern = self.b.func.dfg.immediates.push(ConstantData::from(bytes));
        let shuffled = self.b.ins().shuffle(a, b, pattern);
        self.cast(ty, shuffled)
    }

    /// A scalar mask of a register's comparison.
    pub(super) fn nonzero(&mut self, scalar: ir::Value) -> ir::Value {
        self.b.ins().icmp_imm_u(IntCC::NotEqual, scalar, 0)
    }
}
