//! What lowering has to know of the machine that kernels will run on.

use kiln_ir::DType;

use crate::kir::MAX_LANES;

/// How a target multiplies bytes and sums the products in 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByteProducts {
    /// One by one, as 32-bit numbers.
    Single,
    /// In fours, by several instructions, which need registers for both halves of each operand.
    Split,
    /// In fours, by one instruction.
    Whole,
}

/// Vector registers of a target. Lowering sizes its tiles by them; the kernels are right on any machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    /// Bytes of a vector register.
    pub vector_bytes: u32,
    /// Number of vector registers.
    pub registers: u32,
    /// How bytes are multiplied.
    pub bytes: ByteProducts,
}

impl Machine {
    /// x86-64 with 128-bit vectors.
    pub const X86_64_128: Machine = Machine { vector_bytes: 16, registers: 16, bytes: ByteProducts::Single };
    /// x86-64 with AVX2.
    pub const X86_64_256: Machine = Machine { vector_bytes: 32, registers: 16, bytes: ByteProducts::Split };
    /// x86-64 with AVX-512.
    pub const X86_64_512: Machine = Machine { vector_bytes: 64, registers: 32, bytes: ByteProducts::Split };
    /// x86-64 with AVX-512 and VNNI.
    pub const X86_64_512_VNNI: Machine = Machine { bytes: ByteProducts::Whole, ..Machine::X86_64_512 };
    /// aarch64 and others with 32 registers of 128 bits.
    pub const WIDE_FILE_128: Machine = Machine { vector_bytes: 16, registers: 32, bytes: ByteProducts::Single };

    /// Lanes of one register.
    pub fn lanes(self, dtype: DType) -> u32 {
        self.vector_bytes / dtype.size() as u32
    }

    /// Lanes that elementwise code handles at once: four registers of `dtype` hide latencies; expanded functions need
    /// registers of their own, so fewer.
    pub fn stream_lanes(self, dtype: DType, heavy: bool) -> u32 {
        let registers = if heavy { 2 } else { 4 };
        (self.vector_bytes / dtype.size().max(2) as u32 * registers).min(MAX_LANES)
    }
}
