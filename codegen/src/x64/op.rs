//! Vector instructions by what they do: one code for each instruction set and register width.

use iced_x86::Code;

use super::isa::Isa;

/// Width of a vector register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Width {
    /// 128 bits.
    X,
    /// 256 bits.
    Y,
    /// 512 bits.
    Z,
}

impl Width {
    /// Bytes of a register.
    pub const fn bytes(self) -> u32 {
        match self {
            Width::X => 16,
            Width::Y => 32,
            Width::Z => 64,
        }
    }

    /// The narrowest register that holds `bytes`, of which there are at most 64.
    pub const fn holding(bytes: u32) -> Width {
        match bytes {
            0..=16 => Width::X,
            17..=32 => Width::Y,
            _ => Width::Z,
        }
    }

    /// A register of half the bytes; 128 bits have no narrower one.
    pub const fn half(self) -> Width {
        match self {
            Width::Z => Width::Y,
            _ => Width::X,
        }
    }
}

macro_rules! ops {
    ($(
        $(#[$doc:meta])*
        $name:ident: [$($x:ident, $y:ident, $z:ident $(,)?)?] [$($vex_x:ident, $vex_y:ident $(,)?)?];
    )*) => {
        /// A vector instruction; where lanes change size, the width is that of the wider operand.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(super) enum Op {
            $($(#[$doc])* $name,)*
        }

        impl Op {
            /// The instruction's code at a width, where the instruction set has it.
            pub const fn code(self, isa: Isa, width: Width) -> Option<Code> {
                match (self, isa, width) {
                    $($((Op::$name, Isa::Avx512, Width::X) => Some(Code::$x),
                    (Op::$name, Isa::Avx512, Width::Y) => Some(Code::$y),
                    (Op::$name, Isa::Avx512, Width::Z) => Some(Code::$z),)?
                    $((Op::$name, Isa::Avx2, Width::X) => Some(Code::$vex_x),
                    (Op::$name, Isa::Avx2, Width::Y) => Some(Code::$vex_y),)?)*
                    _ => None,
                }
            }
        }
    };
}

/// A move between the lowest lane of a vector register and memory or a general register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lowest {
    /// 32 bits into a register whose other bits become 0.
    Load32,
    /// 64 bits into a register whose other bits become 0.
    Load64,
    /// 32 bits out of a register.
    Store32,
    /// 64 bits out of a register.
    Store64,
}

impl Lowest {
    /// The instruction's code.
    pub const fn code(self, isa: Isa) -> Code {
        match (self, isa) {
            (Lowest::Load32, Isa::Avx2) => Code::VEX_Vmovd_xmm_rm32,
            (Lowest::Load64, Isa::Avx2) => Code::VEX_Vmovq_xmm_rm64,
            (Lowest::Store32, Isa::Avx2) => Code::VEX_Vmovd_rm32_xmm,
            (Lowest::Store64, Isa::Avx2) => Code::VEX_Vmovq_rm64_xmm,
            (Lowest::Load32, Isa::Avx512) => Code::EVEX_Vmovd_xmm_rm32,
            (Lowest::Load64, Isa::Avx512) => Code::EVEX_Vmovq_xmm_rm64,
            (Lowest::Store32, Isa::Avx512) => Code::EVEX_Vmovd_rm32_xmm,
            (Lowest::Store64, Isa::Avx512) => Code::EVEX_Vmovq_rm64_xmm,
        }
    }
}

// first the codes of AVX-512 at 128, 256 and 512 bits, then those of AVX2 at 128 and 256; none where there is none
ops! {
    /// D = a + b.
    AddF32:
        [
            EVEX_Vaddps_xmm_k1z_xmm_xmmm128b32,
            EVEX_Vaddps_ymm_k1z_ymm_ymmm256b32,
            EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er,
        ]
        [VEX_Vaddps_xmm_xmm_xmmm128, VEX_Vaddps_ymm_ymm_ymmm256];
    /// D = a + b.
    AddF64:
        [
            EVEX_Vaddpd_xmm_k1z_xmm_xmmm128b64,
            EVEX_Vaddpd_ymm_k1z_ymm_ymmm256b64,
            EVEX_Vaddpd_zmm_k1z_zmm_zmmm512b64_er,
        ]
        [VEX_Vaddpd_xmm_xmm_xmmm128, VEX_Vaddpd_ymm_ymm_ymmm256];
    /// D = a - b.
    SubF32:
        [
            EVEX_Vsubps_xmm_k1z_xmm_xmmm128b32,
            EVEX_Vsubps_ymm_k1z_ymm_ymmm256b32,
            EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er,
        ]
        [VEX_Vsubps_xmm_xmm_xmmm128, VEX_Vsubps_ymm_ymm_ymmm256];
    /// D = a - b.
    SubF64:
        [
            EVEX_Vsubpd_xmm_k1z_xmm_xmmm128b64,
            EVEX_Vsubpd_ymm_k1z_ymm_ymmm256b64,
            EVEX_Vsubpd_zmm_k1z_zmm_zmmm512b64_er,
        ]
        [VEX_Vsubpd_xmm_xmm_xmmm128, VEX_Vsubpd_ymm_ymm_ymmm256];
    /// D = a * b.
    MulF32:
        [
            EVEX_Vmulps_xmm_k1z_xmm_xmmm128b32,
            EVEX_Vmulps_ymm_k1z_ymm_ymmm256b32,
            EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er,
        ]
        [VEX_Vmulps_xmm_xmm_xmmm128, VEX_Vmulps_ymm_ymm_ymmm256];
    /// D = a * b.
    MulF64:
        [
            EVEX_Vmulpd_xmm_k1z_xmm_xmmm128b64,
            EVEX_Vmulpd_ymm_k1z_ymm_ymmm256b64,
            EVEX_Vmulpd_zmm_k1z_zmm_zmmm512b64_er,
        ]
        [VEX_Vmulpd_xmm_xmm_xmmm128, VEX_Vmulpd_ymm_ymm_ymmm256];
    /// D = a / b.
    DivF32:
        [
            EVEX_Vdivps_xmm_k1z_xmm_xmmm128b32,
            EVEX_Vdivps_ymm_k1z_ymm_ymmm256b32,
            EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er,
        ]
        [VEX_Vdivps_xmm_xmm_xmmm128, VEX_Vdivps_ymm_ymm_ymmm256];
    /// D = a / b.
    DivF64:
        [
            EVEX_Vdivpd_xmm_k1z_xmm_xmmm128b64,
            EVEX_Vdivpd_ymm_k1z_ymm_ymmm256b64,
            EVEX_Vdivpd_zmm_k1z_zmm_zmmm512b64_er,
        ]
        [VEX_Vdivpd_xmm_xmm_xmmm128, VEX_Vdivpd_ymm_ymm_ymmm256];
    /// D = a < b ? a : b.
    MinF32:
        [
            EVEX_Vminps_xmm_k1z_xmm_xmmm128b32,
            EVEX_Vminps_ymm_k1z_ymm_ymmm256b32,
            EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae,
        ]
        [VEX_Vminps_xmm_xmm_xmmm128, VEX_Vminps_ymm_ymm_ymmm256];
    /// D = a < b ? a : b.
    MinF64:
        [
            EVEX_Vminpd_xmm_k1z_xmm_xmmm128b64,
            EVEX_Vminpd_ymm_k1z_ymm_ymmm256b64,
            EVEX_Vminpd_zmm_k1z_zmm_zmmm512b64_sae,
        ]
        [VEX_Vminpd_xmm_xmm_xmmm128, VEX_Vminpd_ymm_ymm_ymmm256];
    /// D = a > b ? a : b.
    MaxF32:
        [
            EVEX_Vmaxps_xmm_k1z_xmm_xmmm128b32,
            EVEX_Vmaxps_ymm_k1z_ymm_ymmm256b32,
            EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae,
        ]
        [VEX_Vmaxps_xmm_xmm_xmmm128, VEX_Vmaxps_ymm_ymm_ymmm256];
    /// D = a > b ? a : b.
    MaxF64:
        [
            EVEX_Vmaxpd_xmm_k1z_xmm_xmmm128b64,
            EVEX_Vmaxpd_ymm_k1z_ymm_ymmm256b64,
            EVEX_Vmaxpd_zmm_k1z_zmm_zmmm512b64_sae,
        ]
        [VEX_Vmaxpd_xmm_xmm_xmmm128, VEX_Vmaxpd_ymm_ymm_ymmm256];
    /// D = sqrt(a).
    SqrtF32:
        [
            EVEX_Vsqrtps_xmm_k1z_xmmm128b32,
            EVEX_Vsqrtps_ymm_k1z_ymmm256b32,
            EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er,
        ]
        [VEX_Vsqrtps_xmm_xmmm128, VEX_Vsqrtps_ymm_ymmm256];
    /// D = sqrt(a).
    SqrtF64:
        [
            EVEX_Vsqrtpd_xmm_k1z_xmmm128b64,
            EVEX_Vsqrtpd_ymm_k1z_ymmm256b64,
            EVEX_Vsqrtpd_zmm_k1z_zmmm512b64_er,
        ]
        [VEX_Vsqrtpd_xmm_xmmm128, VEX_Vsqrtpd_ymm_ymmm256];
    /// D = a rounded as the immediate says.
    RoundF32:
        [
            EVEX_Vrndscaleps_xmm_k1z_xmmm128b32_imm8,
            EVEX_Vrndscaleps_ymm_k1z_ymmm256b32_imm8,
            EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae,
        ]
        [VEX_Vroundps_xmm_xmmm128_imm8, VEX_Vroundps_ymm_ymmm256_imm8];
    /// D = a rounded as the immediate says.
    RoundF64:
        [
            EVEX_Vrndscalepd_xmm_k1z_xmmm128b64_imm8,
            EVEX_Vrndscalepd_ymm_k1z_ymmm256b64_imm8,
            EVEX_Vrndscalepd_zmm_k1z_zmmm512b64_imm8_sae,
        ]
        [VEX_Vroundpd_xmm_xmmm128_imm8, VEX_Vroundpd_ymm_ymmm256_imm8];
    /// D = a * b + d.
    FmaAcc32:
        [
            EVEX_Vfmadd231ps_xmm_k1z_xmm_xmmm128b32,
            EVEX_Vfmadd231ps_ymm_k1z_ymm_ymmm256b32,
            EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er,
        ]
        [VEX_Vfmadd231ps_xmm_xmm_xmmm128, VEX_Vfmadd231ps_ymm_ymm_ymmm256];
    /// D = a * b + d.
    FmaAcc64:
        [
            EVEX_Vfmadd231pd_xmm_k1z_xmm_xmmm128b64,
            EVEX_Vfmadd231pd_ymm_k1z_ymm_ymmm256b64,
            EVEX_Vfmadd231pd_zmm_k1z_zmm_zmmm512b64_er,
        ]
        [VEX_Vfmadd231pd_xmm_xmm_xmmm128, VEX_Vfmadd231pd_ymm_ymm_ymmm256];
    /// D = d * a + b.
    FmaAdd32:
        [
            EVEX_Vfmadd213ps_xmm_k1z_xmm_xmmm128b32,
            EVEX_Vfmadd213ps_ymm_k1z_ymm_ymmm256b32,
            EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er,
        ]
        [VEX_Vfmadd213ps_xmm_xmm_xmmm128, VEX_Vfmadd213ps_ymm_ymm_ymmm256];
    /// D = d * a + b.
    FmaAdd64:
        [
            EVEX_Vfmadd213pd_xmm_k1z_xmm_xmmm128b64,
            EVEX_Vfmadd213pd_ymm_k1z_ymm_ymmm256b64,
            EVEX_Vfmadd213pd_zmm_k1z_zmm_zmmm512b64_er,
        ]
        [VEX_Vfmadd213pd_xmm_xmm_xmmm128, VEX_Vfmadd213pd_ymm_ymm_ymmm256];
    /// D = a + b.
    AddI32:
        [
            EVEX_Vpaddd_xmm_k1z_xmm_xmmm128b32,
            EVEX_Vpaddd_ymm_k1z_ymm_ymmm256b32,
            EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32,
        ]
        [VEX_Vpaddd_xmm_xmm_xmmm128, VEX_Vpaddd_ymm_ymm_ymmm256];
    /// D = a + b.
    AddI64:
        [
            EVEX_Vpaddq_xmm_k1z_xmm_xmmm128b64,
            EVEX_Vpaddq_ymm_k1z_ymm_ymmm256b64,
            EVEX_Vpaddq_zmm_k1z_zmm_zmmm512b64,
        ]
        [VEX_Vpaddq_xmm_xmm_xmmm128, VEX_Vpaddq_ymm_ymm_ymmm256];
    /// D = a - b.
    SubI32:
        [
            EVEX_Vpsubd_xmm_k1z_xmm_xmmm128b32,
            EVEX_Vpsubd_ymm_k1z_ymm_ymmm256b32,
            EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32,
        ]
        [VEX_Vpsubd_xmm_xmm_xmmm128, VEX_Vpsubd_ymm_ymm_ymmm256];
    /// D = a - b.
    SubI64:
        [
            EVEX_Vpsubq_xmm_k1z_xmm_xmmm128b64,
            EVEX_Vpsubq_ymm_k1z_ymm_ymmm256b64,
            EVEX_Vpsubq_zmm_k1z_zmm_zmmm512b64,
        ]
        [VEX_Vpsubq_xmm_xmm_xmmm128, VEX_Vpsubq_ymm_ymm_ymmm256];
    /// D = low half of a * b.
    MulI32:
        [
            EVEX_Vpmulld_xmm_k1z_xmm_xmmm128b32,
            EVEX_Vpmulld_ymm_k1z_ymm_ymmm256b32,
            EVEX_Vpmulld_zmm_k1z_zmm_zmmm512b32,
        ]
        [VEX_Vpmulld_xmm_xmm_xmmm128, VEX_Vpmulld_ymm_ymm_ymmm256];
    /// D = sums of the two products of 16-bit halves, signed.
    MulAddWords:
        [
            EVEX_Vpmaddwd_xmm_k1z_xmm_xmmm128,
            EVEX_Vpmaddwd_ymm_k1z_ymm_ymmm256,
            EVEX_Vpmaddwd_zmm_k1z_zmm_zmmm512,
        ]
        [VEX_Vpmaddwd_xmm_xmm_xmmm128, VEX_Vpmaddwd_ymm_ymm_ymmm256];
    /// D = d + the four products of bytes, those of a unsigned, those of b signed. AVX512-VNNI.
    DotBytes:
        [
            EVEX_Vpdpbusd_xmm_k1z_xmm_xmmm128b32,
            EVEX_Vpdpbusd_ymm_k1z_ymm_ymmm256b32,
            EVEX_Vpdpbusd_zmm_k1z_zmm_zmmm512b32,
        ]
        [];
    /// D = low half of a * b.
    MulI64:
        [
            EVEX_Vpmullq_xmm_k1z_xmm_xmmm128b64,
            EVEX_Vpmullq_ymm_k1z_ymm_ymmm256b64,
            EVEX_Vpmullq_zmm_k1z_zmm_zmmm512b64,
        ]
        [];
    /// 64-bit products of the even 32-bit lanes, unsigned.
    MulEven:
        []
        [VEX_Vpmuludq_xmm_xmm_xmmm128, VEX_Vpmuludq_ymm_ymm_ymmm256];
    /// Signed minimum.
    MinI32:
        [
            EVEX_Vpminsd_xmm_k1z_xmm_xmmm128b32,
            EVEX_Vpminsd_ymm_k1z_ymm_ymmm256b32,
            EVEX_Vpminsd_zmm_k1z_zmm_zmmm512b32,
        ]
        [VEX_Vpminsd_xmm_xmm_xmmm128, VEX_Vpminsd_ymm_ymm_ymmm256];
    /// Signed minimum.
    MinI64:
        [
            EVEX_Vpminsq_xmm_k1z_xmm_xmmm128b64,
            EVEX_Vpminsq_ymm_k1z_ymm_ymmm256b64,
            EVEX_Vpminsq_zmm_k1z_zmm_zmmm512b64,
        ]
        [];
    /// Signed maximum.
    MaxI32:
        [
            EVEX_Vpmaxsd_xmm_k1z_xmm_xmmm128b32,
            EVEX_Vpmaxsd_ymm_k1z_ymm_ymmm256b32,
            EVEX_Vpmaxsd_zmm_k1z_zmm_zmmm512b32,
        ]
        [VEX_Vpmaxsd_xmm_xmm_xmmm128, VEX_Vpmaxsd_ymm_ymm_ymmm256];
    /// Signed maximum.
    MaxI64:
        [
            EVEX_Vpmaxsq_xmm_k1z_xmm_xmmm128b64,
            EVEX_Vpmaxsq_ymm_k1z_ymm_ymmm256b64,
            EVEX_Vpmaxsq_zmm_k1z_zmm_zmmm512b64,
        ]
        [];
    /// Absolute value.
    AbsI32:
        [
            EVEX_Vpabsd_xmm_k1z_xmmm128b32,
            EVEX_Vpabsd_ymm_k1z_ymmm256b32,
            EVEX_Vpabsd_zmm_k1z_zmmm512b32,
        ]
        [VEX_Vpabsd_xmm_xmmm128, VEX_Vpabsd_ymm_ymmm256];
    /// Absolute value.
    AbsI64:
        [
            EVEX_Vpabsq_xmm_k1z_xmmm128b64,
            EVEX_Vpabsq_ymm_k1z_ymmm256b64,
            EVEX_Vpabsq_zmm_k1z_zmmm512b64,
        ]
        [];
    /// Bitwise.
    And32:
        [
            EVEX_Vpandd_xmm_k1z_xmm_xmmm128b32,
            EVEX_Vpandd_ymm_k1z_ymm_ymmm256b32,
            EVEX_Vpandd_zmm_k1z_zmm_zmmm512b32,
        ]
        [VEX_Vpand_xmm_xmm_xmmm128, VEX_Vpand_ymm_ymm_ymmm256];
    /// Bitwise.
    And64:
        [
            EVEX_Vpandq_xmm_k1z_xmm_xmmm128b64,
            EVEX_Vpandq_ymm_k1z_ymm_ymmm256b64,
            EVEX_Vpandq_zmm_k1z_zmm_zmmm512b64,
        ]
        [VEX_Vpand_xmm_xmm_xmmm128, VEX_Vpand_ymm_ymm_ymmm256];
    /// Bitwise: D = !a & b.
    AndNot:
        []
        [VEX_Vpandn_xmm_xmm_xmmm128, VEX_Vpandn_ymm_ymm_ymmm256];
    /// Bitwise.
    Or32:
        [
            EVEX_Vpord_xmm_k1z_xmm_xmmm128b32,
            EVEX_Vpord_ymm_k1z_ymm_ymmm256b32,
            EVEX_Vpord_zmm_k1z_zmm_zmmm512b32,
        ]
        [VEX_Vpor_xmm_xmm_xmmm128, VEX_Vpor_ymm_ymm_ymmm256];
    /// Bitwise.
    Or64:
        [
            EVEX_Vporq_xmm_k1z_xmm_xmmm128b64,
            EVEX_Vporq_ymm_k1z_ymm_ymmm256b64,
            EVEX_Vporq_zmm_k1z_zmm_zmmm512b64,
        ]
        [VEX_Vpor_xmm_xmm_xmmm128, VEX_Vpor_ymm_ymm_ymmm256];
    /// Bitwise.
    Xor32:
        [
            EVEX_Vpxord_xmm_k1z_xmm_xmmm128b32,
            EVEX_Vpxord_ymm_k1z_ymm_ymmm256b32,
            EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32,
        ]
        [VEX_Vpxor_xmm_xmm_xmmm128, VEX_Vpxor_ymm_ymm_ymmm256];
    /// Bitwise.
    Xor64:
        [
            EVEX_Vpxorq_xmm_k1z_xmm_xmmm128b64,
            EVEX_Vpxorq_ymm_k1z_ymm_ymmm256b64,
            EVEX_Vpxorq_zmm_k1z_zmm_zmmm512b64,
        ]
        [VEX_Vpxor_xmm_xmm_xmmm128, VEX_Vpxor_ymm_ymm_ymmm256];
    /// Each lane by its own amount.
    Shl32:
        [
            EVEX_Vpsllvd_xmm_k1z_xmm_xmmm128b32,
            EVEX_Vpsllvd_ymm_k1z_ymm_ymmm256b32,
            EVEX_Vpsllvd_zmm_k1z_zmm_zmmm512b32,
        ]
        [VEX_Vpsllvd_xmm_xmm_xmmm128, VEX_Vpsllvd_ymm_ymm_ymmm256];
    /// Each lane by its own amount.
    Shl64:
        [
            EVEX_Vpsllvq_xmm_k1z_xmm_xmmm128b64,
            EVEX_Vpsllvq_ymm_k1z_ymm_ymmm256b64,
            EVEX_Vpsllvq_zmm_k1z_zmm_zmmm512b64,
        ]
        [VEX_Vpsllvq_xmm_xmm_xmmm128, VEX_Vpsllvq_ymm_ymm_ymmm256];
    /// Each lane by its own amount, sign fills.
    Shr32:
        [
            EVEX_Vpsravd_xmm_k1z_xmm_xmmm128b32,
            EVEX_Vpsravd_ymm_k1z_ymm_ymmm256b32,
            EVEX_Vpsravd_zmm_k1z_zmm_zmmm512b32,
        ]
        [VEX_Vpsravd_xmm_xmm_xmmm128, VEX_Vpsravd_ymm_ymm_ymmm256];
    /// Each lane by its own amount, sign fills.
    Shr64:
        [
            EVEX_Vpsravq_xmm_k1z_xmm_xmmm128b64,
            EVEX_Vpsravq_ymm_k1z_ymm_ymmm256b64,
            EVEX_Vpsravq_zmm_k1z_zmm_zmmm512b64,
        ]
        [];
    /// Each lane by its own amount, zeros fill.
    ShrLogical32:
        [
            EVEX_Vpsrlvd_xmm_k1z_xmm_xmmm128b32,
            EVEX_Vpsrlvd_ymm_k1z_ymm_ymmm256b32,
            EVEX_Vpsrlvd_zmm_k1z_zmm_zmmm512b32,
        ]
        [VEX_Vpsrlvd_xmm_xmm_xmmm128, VEX_Vpsrlvd_ymm_ymm_ymmm256];
    /// Each lane by its own amount, zeros fill.
    ShrLogical64:
        [
            EVEX_Vpsrlvq_xmm_k1z_xmm_xmmm128b64,
            EVEX_Vpsrlvq_ymm_k1z_ymm_ymmm256b64,
            EVEX_Vpsrlvq_zmm_k1z_zmm_zmmm512b64,
        ]
        [VEX_Vpsrlvq_xmm_xmm_xmmm128, VEX_Vpsrlvq_ymm_ymm_ymmm256];
    /// Every half by the immediate.
    ShlFixed16:
        [
            EVEX_Vpsllw_xmm_k1z_xmmm128_imm8,
            EVEX_Vpsllw_ymm_k1z_ymmm256_imm8,
            EVEX_Vpsllw_zmm_k1z_zmmm512_imm8,
        ]
        [VEX_Vpsllw_xmm_xmm_imm8, VEX_Vpsllw_ymm_ymm_imm8];
    /// Every half by the immediate, the sign fills.
    ShrFixed16:
        [
            EVEX_Vpsraw_xmm_k1z_xmmm128_imm8,
            EVEX_Vpsraw_ymm_k1z_ymmm256_imm8,
            EVEX_Vpsraw_zmm_k1z_zmmm512_imm8,
        ]
        [VEX_Vpsraw_xmm_xmm_imm8, VEX_Vpsraw_ymm_ymm_imm8];
    /// Every half by the immediate, zeros fill.
    ShrLogicalFixed16:
        [
            EVEX_Vpsrlw_xmm_k1z_xmmm128_imm8,
            EVEX_Vpsrlw_ymm_k1z_ymmm256_imm8,
            EVEX_Vpsrlw_zmm_k1z_zmmm512_imm8,
        ]
        [VEX_Vpsrlw_xmm_xmm_imm8, VEX_Vpsrlw_ymm_ymm_imm8];
    /// Every lane by the immediate.
    ShlFixed64:
        []
        [VEX_Vpsllq_xmm_xmm_imm8, VEX_Vpsllq_ymm_ymm_imm8];
    /// Every lane by the immediate, zeros fill.
    ShrFixed64:
        []
        [VEX_Vpsrlq_xmm_xmm_imm8, VEX_Vpsrlq_ymm_ymm_imm8];
    /// Mask of the lanes where the immediate's predicate holds.
    CompareF32:
        [
            EVEX_Vcmpps_kr_k1_xmm_xmmm128b32_imm8,
            EVEX_Vcmpps_kr_k1_ymm_ymmm256b32_imm8,
            EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae,
        ]
        [VEX_Vcmpps_xmm_xmm_xmmm128_imm8, VEX_Vcmpps_ymm_ymm_ymmm256_imm8];
    /// Mask of the lanes where the immediate's predicate holds.
    CompareF64:
        [
            EVEX_Vcmppd_kr_k1_xmm_xmmm128b64_imm8,
            EVEX_Vcmppd_kr_k1_ymm_ymmm256b64_imm8,
            EVEX_Vcmppd_kr_k1_zmm_zmmm512b64_imm8_sae,
        ]
        [VEX_Vcmppd_xmm_xmm_xmmm128_imm8, VEX_Vcmppd_ymm_ymm_ymmm256_imm8];
    /// Mask of the lanes where the immediate's predicate holds.
    CompareI32:
        [
            EVEX_Vpcmpd_kr_k1_xmm_xmmm128b32_imm8,
            EVEX_Vpcmpd_kr_k1_ymm_ymmm256b32_imm8,
            EVEX_Vpcmpd_kr_k1_zmm_zmmm512b32_imm8,
        ]
        [];
    /// Mask of the lanes where the immediate's predicate holds.
    CompareI64:
        [
            EVEX_Vpcmpq_kr_k1_xmm_xmmm128b64_imm8,
            EVEX_Vpcmpq_kr_k1_ymm_ymmm256b64_imm8,
            EVEX_Vpcmpq_kr_k1_zmm_zmmm512b64_imm8,
        ]
        [];
    /// All ones in the lanes where a = b.
    EqualI32:
        []
        [VEX_Vpcmpeqd_xmm_xmm_xmmm128, VEX_Vpcmpeqd_ymm_ymm_ymmm256];
    /// All ones in the lanes where a = b.
    EqualI64:
        []
        [VEX_Vpcmpeqq_xmm_xmm_xmmm128, VEX_Vpcmpeqq_ymm_ymm_ymmm256];
    /// All ones in the lanes where a > b.
    GreaterI32:
        []
        [VEX_Vpcmpgtd_xmm_xmm_xmmm128, VEX_Vpcmpgtd_ymm_ymm_ymmm256];
    /// All ones in the lanes where a > b.
    GreaterI64:
        []
        [VEX_Vpcmpgtq_xmm_xmm_xmmm128, VEX_Vpcmpgtq_ymm_ymm_ymmm256];
    /// D = mask ? b : a.
    Blend32:
        [
            EVEX_Vpblendmd_xmm_k1z_xmm_xmmm128b32,
            EVEX_Vpblendmd_ymm_k1z_ymm_ymmm256b32,
            EVEX_Vpblendmd_zmm_k1z_zmm_zmmm512b32,
        ]
        [];
    /// D = mask ? b : a.
    Blend64:
        [
            EVEX_Vpblendmq_xmm_k1z_xmm_xmmm128b64,
            EVEX_Vpblendmq_ymm_k1z_ymm_ymmm256b64,
            EVEX_Vpblendmq_zmm_k1z_zmm_zmmm512b64,
        ]
        [];
    /// D = sign of c ? b : a, by 32-bit lanes.
    BlendLanes:
        []
        [VEX_Vblendvps_xmm_xmm_xmmm128_xmm, VEX_Vblendvps_ymm_ymm_ymmm256_ymm];
    /// D = bit of the immediate ? b : a, by 32-bit lanes.
    BlendFixed:
        []
        [VEX_Vpblendd_xmm_xmm_xmmm128_imm8, VEX_Vpblendd_ymm_ymm_ymmm256_imm8];
    /// Unaligned load.
    Load32:
        [
            EVEX_Vmovups_xmm_k1z_xmmm128,
            EVEX_Vmovups_ymm_k1z_ymmm256,
            EVEX_Vmovups_zmm_k1z_zmmm512,
        ]
        [VEX_Vmovups_xmm_xmmm128, VEX_Vmovups_ymm_ymmm256];
    /// Unaligned load.
    Load64:
        [
            EVEX_Vmovupd_xmm_k1z_xmmm128,
            EVEX_Vmovupd_ymm_k1z_ymmm256,
            EVEX_Vmovupd_zmm_k1z_zmmm512,
        ]
        [VEX_Vmovupd_xmm_xmmm128, VEX_Vmovupd_ymm_ymmm256];
    /// Aligned store past the caches.
    Stream:
        [EVEX_Vmovntps_m128_xmm, EVEX_Vmovntps_m256_ymm, EVEX_Vmovntps_m512_zmm]
        [VEX_Vmovntps_m128_xmm, VEX_Vmovntps_m256_ymm];
    /// Unaligned store.
    Store32:
        [
            EVEX_Vmovups_xmmm128_k1z_xmm,
            EVEX_Vmovups_ymmm256_k1z_ymm,
            EVEX_Vmovups_zmmm512_k1z_zmm,
        ]
        [VEX_Vmovups_xmmm128_xmm, VEX_Vmovups_ymmm256_ymm];
    /// Unaligned store.
    Store64:
        [
            EVEX_Vmovupd_xmmm128_k1z_xmm,
            EVEX_Vmovupd_ymmm256_k1z_ymm,
            EVEX_Vmovupd_zmmm512_k1z_zmm,
        ]
        [VEX_Vmovupd_xmmm128_xmm, VEX_Vmovupd_ymmm256_ymm];
    /// Unaligned load of the 32-bit lanes where a is negative; the others become 0 and are not touched.
    LoadWhere32:
        []
        [VEX_Vpmaskmovd_xmm_xmm_m128, VEX_Vpmaskmovd_ymm_ymm_m256];
    /// Unaligned load of the 64-bit lanes where a is negative.
    LoadWhere64:
        []
        [VEX_Vpmaskmovq_xmm_xmm_m128, VEX_Vpmaskmovq_ymm_ymm_m256];
    /// Unaligned store of the 32-bit lanes where a is negative.
    StoreWhere32:
        []
        [VEX_Vpmaskmovd_m128_xmm_xmm, VEX_Vpmaskmovd_m256_ymm_ymm];
    /// Unaligned store of the 64-bit lanes where a is negative.
    StoreWhere64:
        []
        [VEX_Vpmaskmovq_m128_xmm_xmm, VEX_Vpmaskmovq_m256_ymm_ymm];
    /// Mask of the 32-bit lanes where a & b is not 0.
    TestLanes:
        [
            EVEX_Vptestmd_kr_k1_xmm_xmmm128b32,
            EVEX_Vptestmd_kr_k1_ymm_ymmm256b32,
            EVEX_Vptestmd_kr_k1_zmm_zmmm512b32,
        ]
        [];
    /// Lane 0 of a in every lane.
    Broadcast32:
        [
            EVEX_Vbroadcastss_xmm_k1z_xmmm32,
            EVEX_Vbroadcastss_ymm_k1z_xmmm32,
            EVEX_Vbroadcastss_zmm_k1z_xmmm32,
        ]
        [VEX_Vpbroadcastd_xmm_xmmm32, VEX_Vpbroadcastd_ymm_xmmm32];
    /// Lane 0 of a in every lane.
    Broadcast64:
        [
            EVEX_Vpbroadcastq_xmm_k1z_xmmm64,
            EVEX_Vpbroadcastq_ymm_k1z_xmmm64,
            EVEX_Vpbroadcastq_zmm_k1z_xmmm64,
        ]
        [VEX_Vpbroadcastq_xmm_xmmm64, VEX_Vpbroadcastq_ymm_xmmm64];
    /// A general register in every lane.
    BroadcastGpr32:
        [
            EVEX_Vpbroadcastd_xmm_k1z_r32,
            EVEX_Vpbroadcastd_ymm_k1z_r32,
            EVEX_Vpbroadcastd_zmm_k1z_r32,
        ]
        [];
    /// A general register in every lane.
    BroadcastGpr64:
        [
            EVEX_Vpbroadcastq_xmm_k1z_r64,
            EVEX_Vpbroadcastq_ymm_k1z_r64,
            EVEX_Vpbroadcastq_zmm_k1z_r64,
        ]
        [];
    /// 8-bit lanes to 32-bit lanes.
    SignExtendBytes:
        [
            EVEX_Vpmovsxbd_xmm_k1z_xmmm32,
            EVEX_Vpmovsxbd_ymm_k1z_xmmm64,
            EVEX_Vpmovsxbd_zmm_k1z_xmmm128,
        ]
        [VEX_Vpmovsxbd_xmm_xmmm32, VEX_Vpmovsxbd_ymm_xmmm64];
    /// 8-bit lanes to 32-bit lanes.
    ZeroExtendBytes:
        [
            EVEX_Vpmovzxbd_xmm_k1z_xmmm32,
            EVEX_Vpmovzxbd_ymm_k1z_xmmm64,
            EVEX_Vpmovzxbd_zmm_k1z_xmmm128,
        ]
        [VEX_Vpmovzxbd_xmm_xmmm32, VEX_Vpmovzxbd_ymm_xmmm64];
    /// 16-bit lanes to 32-bit lanes.
    ZeroExtendWords:
        [
            EVEX_Vpmovzxwd_xmm_k1z_xmmm64,
            EVEX_Vpmovzxwd_ymm_k1z_xmmm128,
            EVEX_Vpmovzxwd_zmm_k1z_ymmm256,
        ]
        [VEX_Vpmovzxwd_xmm_xmmm64, VEX_Vpmovzxwd_ymm_xmmm128];
    /// 32-bit lanes cut to 8-bit lanes.
    NarrowToBytes:
        [
            EVEX_Vpmovdb_xmmm32_k1z_xmm,
            EVEX_Vpmovdb_xmmm64_k1z_ymm,
            EVEX_Vpmovdb_xmmm128_k1z_zmm,
        ]
        [];
    /// 32-bit lanes cut to 16-bit lanes.
    NarrowToWords:
        [
            EVEX_Vpmovdw_xmmm64_k1z_xmm,
            EVEX_Vpmovdw_xmmm128_k1z_ymm,
            EVEX_Vpmovdw_ymmm256_k1z_zmm,
        ]
        [];
    /// 64-bit lanes cut to 32-bit lanes.
    Narrow:
        [
            EVEX_Vpmovqd_xmmm64_k1z_xmm,
            EVEX_Vpmovqd_xmmm128_k1z_ymm,
            EVEX_Vpmovqd_ymmm256_k1z_zmm,
        ]
        [];
    /// 32-bit lanes to 64-bit lanes.
    SignExtend:
        [
            EVEX_Vpmovsxdq_xmm_k1z_xmmm64,
            EVEX_Vpmovsxdq_ymm_k1z_xmmm128,
            EVEX_Vpmovsxdq_zmm_k1z_ymmm256,
        ]
        [VEX_Vpmovsxdq_xmm_xmmm64, VEX_Vpmovsxdq_ymm_xmmm128];
    /// F16 lanes to f32 lanes.
    HalfToF32:
        [
            EVEX_Vcvtph2ps_xmm_k1z_xmmm64,
            EVEX_Vcvtph2ps_ymm_k1z_xmmm128,
            EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae,
        ]
        [VEX_Vcvtph2ps_xmm_xmmm64, VEX_Vcvtph2ps_ymm_xmmm128];
    /// F32 lanes to f16 lanes.
    F32ToHalf:
        [
            EVEX_Vcvtps2ph_xmmm64_k1z_xmm_imm8,
            EVEX_Vcvtps2ph_xmmm128_k1z_ymm_imm8,
            EVEX_Vcvtps2ph_ymmm256_k1z_zmm_imm8_sae,
        ]
        [VEX_Vcvtps2ph_xmmm64_xmm_imm8, VEX_Vcvtps2ph_xmmm128_ymm_imm8];
    /// Truncates.
    F32ToI32:
        [
            EVEX_Vcvttps2dq_xmm_k1z_xmmm128b32,
            EVEX_Vcvttps2dq_ymm_k1z_ymmm256b32,
            EVEX_Vcvttps2dq_zmm_k1z_zmmm512b32_sae,
        ]
        [VEX_Vcvttps2dq_xmm_xmmm128, VEX_Vcvttps2dq_ymm_ymmm256];
    /// Truncates.
    F64ToI32:
        [
            EVEX_Vcvttpd2dq_xmm_k1z_xmmm128b64,
            EVEX_Vcvttpd2dq_xmm_k1z_ymmm256b64,
            EVEX_Vcvttpd2dq_ymm_k1z_zmmm512b64_sae,
        ]
        [VEX_Vcvttpd2dq_xmm_xmmm128, VEX_Vcvttpd2dq_xmm_ymmm256];
    /// Rounds.
    I32ToF32:
        [
            EVEX_Vcvtdq2ps_xmm_k1z_xmmm128b32,
            EVEX_Vcvtdq2ps_ymm_k1z_ymmm256b32,
            EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er,
        ]
        [VEX_Vcvtdq2ps_xmm_xmmm128, VEX_Vcvtdq2ps_ymm_ymmm256];
    /// Truncates.
    F64ToI64:
        [
            EVEX_Vcvttpd2qq_xmm_k1z_xmmm128b64,
            EVEX_Vcvttpd2qq_ymm_k1z_ymmm256b64,
            EVEX_Vcvttpd2qq_zmm_k1z_zmmm512b64_sae,
        ]
        [];
    /// Rounds.
    I64ToF32:
        [
            EVEX_Vcvtqq2ps_xmm_k1z_xmmm128b64,
            EVEX_Vcvtqq2ps_xmm_k1z_ymmm256b64,
            EVEX_Vcvtqq2ps_ymm_k1z_zmmm512b64_er,
        ]
        [];
    /// Rounds.
    I64ToF64:
        [
            EVEX_Vcvtqq2pd_xmm_k1z_xmmm128b64,
            EVEX_Vcvtqq2pd_ymm_k1z_ymmm256b64,
            EVEX_Vcvtqq2pd_zmm_k1z_zmmm512b64_er,
        ]
        [];
    /// Exact.
    I32ToF64:
        [
            EVEX_Vcvtdq2pd_xmm_k1z_xmmm64b32,
            EVEX_Vcvtdq2pd_ymm_k1z_xmmm128b32,
            EVEX_Vcvtdq2pd_zmm_k1z_ymmm256b32_er,
        ]
        [VEX_Vcvtdq2pd_xmm_xmmm64, VEX_Vcvtdq2pd_ymm_xmmm128];
    /// Exact.
    F32ToF64:
        [
            EVEX_Vcvtps2pd_xmm_k1z_xmmm64b32,
            EVEX_Vcvtps2pd_ymm_k1z_xmmm128b32,
            EVEX_Vcvtps2pd_zmm_k1z_ymmm256b32_sae,
        ]
        [VEX_Vcvtps2pd_xmm_xmmm64, VEX_Vcvtps2pd_ymm_xmmm128];
    /// Rounds.
    F64ToF32:
        [
            EVEX_Vcvtpd2ps_xmm_k1z_xmmm128b64,
            EVEX_Vcvtpd2ps_xmm_k1z_ymmm256b64,
            EVEX_Vcvtpd2ps_ymm_k1z_zmmm512b64_er,
        ]
        [VEX_Vcvtpd2ps_xmm_xmmm128, VEX_Vcvtpd2ps_xmm_ymmm256];
    /// All ones where the mask holds.
    MaskToLanes:
        [
            EVEX_Vpmovm2d_xmm_kr,
            EVEX_Vpmovm2d_ymm_kr,
            EVEX_Vpmovm2d_zmm_kr,
        ]
        [];
    /// The sign bits.
    LanesToMask:
        [
            EVEX_Vpmovd2m_kr_xmm,
            EVEX_Vpmovd2m_kr_ymm,
            EVEX_Vpmovd2m_kr_zmm,
        ]
        [];
    /// Lanes of b then a, from the lane that the immediate says.
    Align32:
        [
            EVEX_Valignd_xmm_k1z_xmm_xmmm128b32_imm8,
            EVEX_Valignd_ymm_k1z_ymm_ymmm256b32_imm8,
            EVEX_Valignd_zmm_k1z_zmm_zmmm512b32_imm8,
        ]
        [];
    /// Floats of each 128 bits in the order of the immediate.
    PermuteFixed32:
        [
            EVEX_Vpermilps_xmm_k1z_xmmm128b32_imm8,
            EVEX_Vpermilps_ymm_k1z_ymmm256b32_imm8,
            EVEX_Vpermilps_zmm_k1z_zmmm512b32_imm8,
        ]
        [VEX_Vpermilps_xmm_xmmm128_imm8, VEX_Vpermilps_ymm_ymmm256_imm8];
    /// 32-bit lanes of each 128 bits in the order of the immediate.
    Shuffle32:
        []
        [VEX_Vpshufd_xmm_xmmm128_imm8, VEX_Vpshufd_ymm_ymmm256_imm8];
    /// In each 128 bits two 32-bit lanes of a and two of b, as the immediate says.
    ShufflePair32:
        []
        [VEX_Vshufps_xmm_xmm_xmmm128_imm8, VEX_Vshufps_ymm_ymm_ymmm256_imm8];
    /// 32-bit elements at 64-bit indices.
    GatherIndex64Of32:
        [
            EVEX_Vgatherqps_xmm_k1_vm64x,
            EVEX_Vgatherqps_xmm_k1_vm64y,
            EVEX_Vgatherqps_ymm_k1_vm64z,
        ]
        [VEX_Vgatherqps_xmm_vm64x_xmm, VEX_Vgatherqps_xmm_vm64y_xmm];
    /// 64-bit elements at 64-bit indices.
    GatherIndex64Of64:
        [
            EVEX_Vgatherqpd_xmm_k1_vm64x,
            EVEX_Vgatherqpd_ymm_k1_vm64y,
            EVEX_Vgatherqpd_zmm_k1_vm64z,
        ]
        [VEX_Vgatherqpd_xmm_vm64x_xmm, VEX_Vgatherqpd_ymm_vm64y_ymm];
    /// 32-bit elements at 32-bit indices.
    GatherIndex32Of32:
        [
            EVEX_Vgatherdps_xmm_k1_vm32x,
            EVEX_Vgatherdps_ymm_k1_vm32y,
            EVEX_Vgatherdps_zmm_k1_vm32z,
        ]
        [VEX_Vgatherdps_xmm_vm32x_xmm, VEX_Vgatherdps_ymm_vm32y_ymm];
}
