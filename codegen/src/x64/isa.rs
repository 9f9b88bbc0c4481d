//! The vector instructions that code may use, and how values lie in their registers.

use regalloc2::RegClass;

use super::function::{MASK, VECTOR};
use super::op::Width;
use crate::kir::{DType, VType};
use crate::native::Features;

/// A vector instruction set. All that the back end makes of a kernel follows from it: widths, what a boolean is, and
/// which operands may be in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Isa {
    /// AVX2, FMA and F16C (x86-64-v3): 16 registers of 256 bits, VEX encodings. A boolean is a 32-bit lane of all ones
    /// or zeros.
    Avx2,
    /// AVX-512 F, BW, DQ and VL (x86-64-v4): 32 registers of 512 bits, EVEX encodings. A boolean is a bit of a mask
    /// register.
    Avx512,
}

impl Isa {
    /// The instruction set of a feature level; that of x86-64-v3 is the least there is.
    pub const fn of(features: Features) -> Isa {
        match features {
            Features::V4 | Features::V4Vnni => Isa::Avx512,
            Features::Baseline | Features::V3 => Isa::Avx2,
        }
    }

    /// Width of the widest register.
    pub(super) const fn widest(self) -> Width {
        match self {
            Isa::Avx2 => Width::Y,
            Isa::Avx512 => Width::Z,
        }
    }

    /// Number of vector registers.
    pub(super) const fn registers(self) -> usize {
        match self {
            Isa::Avx2 => 16,
            Isa::Avx512 => 32,
        }
    }

    /// Number of mask registers that hold booleans: all but k0, which means "no mask" in an instruction.
    pub(super) const fn masks(self) -> std::ops::Range<usize> {
        match self {
            Isa::Avx2 => 0..0,
            Isa::Avx512 => 1..8,
        }
    }

    /// Whether an operand in memory may be one element for every lane.
    pub(super) const fn embeds_broadcasts(self) -> bool {
        matches!(self, Isa::Avx512)
    }

    /// The register class of a dtype's values.
    pub(super) fn class(self, dtype: DType) -> RegClass {
        match (self, dtype) {
            (Isa::Avx512, DType::Bool) => MASK,
            _ => VECTOR,
        }
    }

    /// Lanes of a full register; a mask register has as many as a vector register has 32-bit lanes.
    pub(super) const fn lanes_per_part(self, dtype: DType) -> u32 {
        self.widest().bytes() / lane_bytes(dtype)
    }

    /// Registers of a value.
    pub(super) const fn parts(self, ty: VType) -> usize {
        ty.lanes.div_ceil(self.lanes_per_part(ty.dtype)) as usize
    }

    /// Lanes of part `i`.
    pub(super) fn lanes_of_part(self, ty: VType, i: usize) -> u32 {
        let per_part = self.lanes_per_part(ty.dtype);
        (ty.lanes - i as u32 * per_part).min(per_part)
    }

    /// Width of part `i`; of a mask, that of the 32-bit lanes it is for.
    pub(super) fn width(self, ty: VType, i: usize) -> Width {
        Width::holding(self.lanes_of_part(ty, i) * lane_bytes(ty.dtype))
    }

    /// Whether part `i` has no lanes but those of the value.
    pub(super) fn fills(self, ty: VType, i: usize) -> bool {
        self.lanes_of_part(ty, i) * lane_bytes(ty.dtype) == self.width(ty, i).bytes()
    }
}

/// Whether a lane has 64 bits.
pub(super) const fn is_wide(dtype: DType) -> bool {
    dtype.size() == 8
}

/// Bytes of a lane in a register: narrow dtypes have 4.
pub(super) const fn lane_bytes(dtype: DType) -> u32 {
    if is_wide(dtype) { 8 } else { 4 }
}
