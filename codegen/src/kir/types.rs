//! Types of KIR values.

use std::fmt;

use half::{bf16, f16};
use kiln_ir::DType;
use kiln_ir::narrow::{bf16_from_f64, bf16_from_i64, f16_from_f64};

/// Most lanes a value may have.
pub const MAX_LANES: u32 = 64;

/// Type of a KIR value: `lanes` elements of one dtype. A scalar has one lane; a mask is `bool` lanes.
///
/// `f16` and `bf16` are storage types: they can be loaded, stored, selected, shuffled and converted to and
/// from `f32`, not computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VType {
    /// Element type.
    pub dtype: DType,
    /// Number of lanes, 1 to [`MAX_LANES`].
    pub lanes: u32,
}

impl VType {
    /// `lanes` elements of `dtype`.
    pub const fn new(dtype: DType, lanes: u32) -> VType {
        VType { dtype, lanes }
    }

    /// One element of `dtype`.
    pub const fn scalar(dtype: DType) -> VType {
        VType { dtype, lanes: 1 }
    }

    /// The same dtype with another lane count.
    pub const fn with_lanes(self, lanes: u32) -> VType {
        VType { dtype: self.dtype, lanes }
    }

    /// The same lane count of another dtype.
    pub const fn with_dtype(self, dtype: DType) -> VType {
        VType { dtype, lanes: self.lanes }
    }

    /// The mask type that comparing two values of this type gives.
    pub const fn mask(self) -> VType {
        self.with_dtype(DType::Bool)
    }
}

impl fmt::Display for VType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lanes {
            1 => write!(f, "{}", self.dtype),
            n => write!(f, "{}x{n}", self.dtype),
        }
    }
}

/// The bits of one element, zero-extended to 64: how constants are kept, so that they compare and hash by bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bits(pub u64);

impl Bits {
    /// `value` as an element of `dtype`: floats round to nearest even (f16 and bf16 directly from f64), integers
    /// truncate and saturate, `bool` is `value != 0`.
    pub fn from_f64(dtype: DType, value: f64) -> Bits {
        Bits(match dtype {
            DType::F64 => value.to_bits(),
            DType::F32 => u64::from((value as f32).to_bits()),
            DType::F16 => u64::from(f16_from_f64(value).to_bits()),
            DType::BF16 => u64::from(bf16_from_f64(value).to_bits()),
            DType::I64 => (value as i64) as u64,
            DType::I32 => u64::from((value as i32) as u32),
            DType::I8 => u64::from((value as i8) as u8),
            DType::U8 => u64::from(value as u8),
            DType::Bool => u64::from(value != 0.0),
        })
    }

    /// `value` as an element of `dtype`: integers wrap, floats round to nearest even, `bool` is `value != 0`.
    pub fn from_i64(dtype: DType, value: i64) -> Bits {
        match dtype {
            DType::I64 => Bits(value as u64),
            DType::I32 => Bits(u64::from(value as u32)),
            DType::I8 | DType::U8 => Bits(u64::from(value as u8)),
            DType::Bool => Bits(u64::from(value != 0)),
            DType::F32 => Bits(u64::from((value as f32).to_bits())),
            DType::BF16 => Bits(u64::from(bf16_from_i64(value).to_bits())),
            // Integers that an f64 does not hold are beyond f16, so it rounds once too.
            DType::F64 | DType::F16 => Bits::from_f64(dtype, value as f64),
        }
    }

    /// The element as f64; exact but for large i64, which round to nearest.
    pub fn to_f64(self, dtype: DType) -> f64 {
        match dtype {
            DType::F64 => f64::from_bits(self.0),
            DType::F32 => f64::from(f32::from_bits(self.0 as u32)),
            DType::F16 => f16::from_bits(self.0 as u16).to_f64(),
            DType::BF16 => bf16::from_bits(self.0 as u16).to_f64(),
            DType::I64 | DType::I32 | DType::I8 | DType::U8 | DType::Bool => self.to_i64(dtype) as f64,
        }
    }

    /// The element of an integer dtype or `bool` as i64. Floats give their bits.
    pub fn to_i64(self, dtype: DType) -> i64 {
        match dtype {
            DType::I32 => i64::from(self.0 as u32 as i32),
            DType::I8 => i64::from(self.0 as u8 as i8),
            _ => self.0 as i64,
        }
    }
}
