//! Vector instructions by what they do: one code for each register width.

use iced_x86::Code;

/// Width of a vector register. AVX-512VL has every instruction of [`Op`] in all of them.
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
    ($($(#[$doc:meta])* $name:ident: $x:ident, $y:ident, $z:ident;)*) => {
        /// A vector instruction; where lanes change size, the width is that of the wider operand.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(super) enum Op {
            $($(#[$doc])* $name,)*
        }

        impl Op {
            /// The instruction's code at a width.
            pub const fn code(self, width: Width) -> Code {
                match (self, width) {
                    $((Op::$name, Width::X) => Code::$x,
                    (Op::$name, Width::Y) => Code::$y,
                    (Op::$name, Width::Z) => Code::$z,)*
                }
            }
        }
    };
}

ops! {
    /// D = a + b.
    AddF32:
        EVEX_Vaddps_xmm_k1z_xmm_xmmm128b32,
        EVEX_Vaddps_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er;
    /// D = a + b.
    AddF64:
        EVEX_Vaddpd_xmm_k1z_xmm_xmmm128b64,
        EVEX_Vaddpd_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vaddpd_zmm_k1z_zmm_zmmm512b64_er;
    /// D = a - b.
    SubF32:
        EVEX_Vsubps_xmm_k1z_xmm_xmmm128b32,
        EVEX_Vsubps_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er;
    /// D = a - b.
    SubF64:
        EVEX_Vsubpd_xmm_k1z_xmm_xmmm128b64,
        EVEX_Vsubpd_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vsubpd_zmm_k1z_zmm_zmmm512b64_er;
    /// D = a * b.
    MulF32:
        EVEX_Vmulps_xmm_k1z_xmm_xmmm128b32,
        EVEX_Vmulps_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er;
    /// D = a * b.
    MulF64:
        EVEX_Vmulpd_xmm_k1z_xmm_xmmm128b64,
        EVEX_Vmulpd_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vmulpd_zmm_k1z_zmm_zmmm512b64_er;
    /// D = a / b.
    DivF32:
        EVEX_Vdivps_xmm_k1z_xmm_xmmm128b32,
        EVEX_Vdivps_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er;
    /// D = a / b.
    DivF64:
        EVEX_Vdivpd_xmm_k1z_xmm_xmmm128b64,
        EVEX_Vdivpd_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vdivpd_zmm_k1z_zmm_zmmm512b64_er;
    /// D = a < b ? a : b.
    MinF32:
        EVEX_Vminps_xmm_k1z_xmm_xmmm128b32,
        EVEX_Vminps_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae;
    /// D = a < b ? a : b.
    MinF64:
        EVEX_Vminpd_xmm_k1z_xmm_xmmm128b64,
        EVEX_Vminpd_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vminpd_zmm_k1z_zmm_zmmm512b64_sae;
    /// D = a > b ? a : b.
    MaxF32:
        EVEX_Vmaxps_xmm_k1z_xmm_xmmm128b32,
        EVEX_Vmaxps_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae;
    /// D = a > b ? a : b.
    MaxF64:
        EVEX_Vmaxpd_xmm_k1z_xmm_xmmm128b64,
        EVEX_Vmaxpd_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vmaxpd_zmm_k1z_zmm_zmmm512b64_sae;
    /// D = sqrt(a).
    SqrtF32:
        EVEX_Vsqrtps_xmm_k1z_xmmm128b32,
        EVEX_Vsqrtps_ymm_k1z_ymmm256b32,
        EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er;
    /// D = sqrt(a).
    SqrtF64:
        EVEX_Vsqrtpd_xmm_k1z_xmmm128b64,
        EVEX_Vsqrtpd_ymm_k1z_ymmm256b64,
        EVEX_Vsqrtpd_zmm_k1z_zmmm512b64_er;
    /// D = a rounded as the immediate says.
    RoundF32:
        EVEX_Vrndscaleps_xmm_k1z_xmmm128b32_imm8,
        EVEX_Vrndscaleps_ymm_k1z_ymmm256b32_imm8,
        EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae;
    /// D = a rounded as the immediate says.
    RoundF64:
        EVEX_Vrndscalepd_xmm_k1z_xmmm128b64_imm8,
        EVEX_Vrndscalepd_ymm_k1z_ymmm256b64_imm8,
        EVEX_Vrndscalepd_zmm_k1z_zmmm512b64_imm8_sae;
    /// D = a * b + d.
    FmaAcc32:
        EVEX_Vfmadd231ps_xmm_k1z_xmm_xmmm128b32,
        EVEX_Vfmadd231ps_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er;
    /// D = a * b + d.
    FmaAcc64:
        EVEX_Vfmadd231pd_xmm_k1z_xmm_xmmm128b64,
        EVEX_Vfmadd231pd_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vfmadd231pd_zmm_k1z_zmm_zmmm512b64_er;
    /// D = a + b.
    AddI32:
        EVEX_Vpaddd_xmm_k1z_xmm_xmmm128b32,
        EVEX_Vpaddd_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32;
    /// D = a + b.
    AddI64:
        EVEX_Vpaddq_xmm_k1z_xmm_xmmm128b64,
        EVEX_Vpaddq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpaddq_zmm_k1z_zmm_zmmm512b64;
    /// D = a - b.
    SubI32:
        EVEX_Vpsubd_xmm_k1z_xmm_xmmm128b32,
        EVEX_Vpsubd_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32;
    /// D = a - b.
    SubI64:
        EVEX_Vpsubq_xmm_k1z_xmm_xmmm128b64,
        EVEX_Vpsubq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpsubq_zmm_k1z_zmm_zmmm512b64;
    /// D = low half of a * b.
    MulI32:
        EVEX_Vpmulld_xmm_k1z_xmm_xmmm128b32,
        EVEX_Vpmulld_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpmulld_zmm_k1z_zmm_zmmm512b32;
    /// D = low half of a * b.
    MulI64:
        EVEX_Vpmullq_xmm_k1z_xmm_xmmm128b64,
        EVEX_Vpmullq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpmullq_zmm_k1z_zmm_zmmm512b64;
    /// Signed minimum.
    MinI32:
        EVEX_Vpminsd_xmm_k1z_xmm_xmmm128b32,
        EVEX_Vpminsd_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpminsd_zmm_k1z_zmm_zmmm512b32;
    /// Signed minimum.
    MinI64:
        EVEX_Vpminsq_xmm_k1z_xmm_xmmm128b64,
        EVEX_Vpminsq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpminsq_zmm_k1z_zmm_zmmm512b64;
    /// Signed maximum.
    MaxI32:
        EVEX_Vpmaxsd_xmm_k1z_xmm_xmmm128b32,
        EVEX_Vpmaxsd_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpmaxsd_zmm_k1z_zmm_zmmm512b32;
    /// Signed maximum.
    MaxI64:
        EVEX_Vpmaxsq_xmm_k1z_xmm_xmmm128b64,
        EVEX_Vpmaxsq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpmaxsq_zmm_k1z_zmm_zmmm512b64;
    /// Absolute value.
    AbsI32:
        EVEX_Vpabsd_xmm_k1z_xmmm128b32,
        EVEX_Vpabsd_ymm_k1z_ymmm256b32,
        EVEX_Vpabsd_zmm_k1z_zmmm512b32;
    /// Absolute value.
    AbsI64:
        EVEX_Vpabsq_xmm_k1z_xmmm128b64,
        EVEX_Vpabsq_ymm_k1z_ymmm256b64,
        EVEX_Vpabsq_zmm_k1z_zmmm512b64;
    /// Bitwise.
    And32:
        EVEX_Vpandd_xmm_k1z_xmm_xmmm128b32,
        EVEX_Vpandd_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpandd_zmm_k1z_zmm_zmmm512b32;
    /// Bitwise.
    And64:
        EVEX_Vpandq_xmm_k1z_xmm_xmmm128b64,
        EVEX_Vpandq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpandq_zmm_k1z_zmm_zmmm512b64;
    /// Bitwise.
    Or32:
        EVEX_Vpord_xmm_k1z_xmm_xmmm128b32,
        EVEX_Vpord_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpord_zmm_k1z_zmm_zmmm512b32;
    /// Bitwise.
    Or64:
        EVEX_Vporq_xmm_k1z_xmm_xmmm128b64,
        EVEX_Vporq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vporq_zmm_k1z_zmm_zmmm512b64;
    /// Bitwise.
    Xor32:
        EVEX_Vpxord_xmm_k1z_xmm_xmmm128b32,
        EVEX_Vpxord_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32;
    /// Bitwise.
    Xor64:
        EVEX_Vpxorq_xmm_k1z_xmm_xmmm128b64,
        EVEX_Vpxorq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpxorq_zmm_k1z_zmm_zmmm512b64;
    /// Each lane by its own amount.
    Shl32:
        EVEX_Vpsllvd_xmm_k1z_xmm_xmmm128b32,
        EVEX_Vpsllvd_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpsllvd_zmm_k1z_zmm_zmmm512b32;
    /// Each lane by its own amount.
    Shl64:
        EVEX_Vpsllvq_xmm_k1z_xmm_xmmm128b64,
        EVEX_Vpsllvq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpsllvq_zmm_k1z_zmm_zmmm512b64;
    /// Each lane by its own amount, sign fills.
    Shr32:
        EVEX_Vpsravd_xmm_k1z_xmm_xmmm128b32,
        EVEX_Vpsravd_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpsravd_zmm_k1z_zmm_zmmm512b32;
    /// Each lane by its own amount, sign fills.
    Shr64:
        EVEX_Vpsravq_xmm_k1z_xmm_xmmm128b64,
        EVEX_Vpsravq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpsravq_zmm_k1z_zmm_zmmm512b64;
    /// Each lane by its own amount, zeros fill.
    ShrLogical32:
        EVEX_Vpsrlvd_xmm_k1z_xmm_xmmm128b32,
        EVEX_Vpsrlvd_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpsrlvd_zmm_k1z_zmm_zmmm512b32;
    /// Each lane by its own amount, zeros fill.
    ShrLogical64:
        EVEX_Vpsrlvq_xmm_k1z_xmm_xmmm128b64,
        EVEX_Vpsrlvq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpsrlvq_zmm_k1z_zmm_zmmm512b64;
    /// Mask of the lanes where the immediate's predicate holds.
    CompareF32:
        EVEX_Vcmpps_kr_k1_xmm_xmmm128b32_imm8,
        EVEX_Vcmpps_kr_k1_ymm_ymmm256b32_imm8,
        EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae;
    /// Mask of the lanes where the immediate's predicate holds.
    CompareF64:
        EVEX_Vcmppd_kr_k1_xmm_xmmm128b64_imm8,
        EVEX_Vcmppd_kr_k1_ymm_ymmm256b64_imm8,
        EVEX_Vcmppd_kr_k1_zmm_zmmm512b64_imm8_sae;
    /// Mask of the lanes where the immediate's predicate holds.
    CompareI32:
        EVEX_Vpcmpd_kr_k1_xmm_xmmm128b32_imm8,
        EVEX_Vpcmpd_kr_k1_ymm_ymmm256b32_imm8,
        EVEX_Vpcmpd_kr_k1_zmm_zmmm512b32_imm8;
    /// Mask of the lanes where the immediate's predicate holds.
    CompareI64:
        EVEX_Vpcmpq_kr_k1_xmm_xmmm128b64_imm8,
        EVEX_Vpcmpq_kr_k1_ymm_ymmm256b64_imm8,
        EVEX_Vpcmpq_kr_k1_zmm_zmmm512b64_imm8;
    /// D = mask ? b : a.
    Blend32:
        EVEX_Vpblendmd_xmm_k1z_xmm_xmmm128b32,
        EVEX_Vpblendmd_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpblendmd_zmm_k1z_zmm_zmmm512b32;
    /// D = mask ? b : a.
    Blend64:
        EVEX_Vpblendmq_xmm_k1z_xmm_xmmm128b64,
        EVEX_Vpblendmq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpblendmq_zmm_k1z_zmm_zmmm512b64;
    /// Unaligned load.
    Load32:
        EVEX_Vmovups_xmm_k1z_xmmm128,
        EVEX_Vmovups_ymm_k1z_ymmm256,
        EVEX_Vmovups_zmm_k1z_zmmm512;
    /// Unaligned load.
    Load64:
        EVEX_Vmovupd_xmm_k1z_xmmm128,
        EVEX_Vmovupd_ymm_k1z_ymmm256,
        EVEX_Vmovupd_zmm_k1z_zmmm512;
    /// Unaligned store.
    Store32:
        EVEX_Vmovups_xmmm128_k1z_xmm,
        EVEX_Vmovups_ymmm256_k1z_ymm,
        EVEX_Vmovups_zmmm512_k1z_zmm;
    /// Unaligned store.
    Store64:
        EVEX_Vmovupd_xmmm128_k1z_xmm,
        EVEX_Vmovupd_ymmm256_k1z_ymm,
        EVEX_Vmovupd_zmmm512_k1z_zmm;
    /// Mask of the 32-bit lanes where a & b is not 0.
    TestLanes:
        EVEX_Vptestmd_kr_k1_xmm_xmmm128b32,
        EVEX_Vptestmd_kr_k1_ymm_ymmm256b32,
        EVEX_Vptestmd_kr_k1_zmm_zmmm512b32;
    /// Lane 0 of a in every lane.
    Broadcast32:
        EVEX_Vbroadcastss_xmm_k1z_xmmm32,
        EVEX_Vbroadcastss_ymm_k1z_xmmm32,
        EVEX_Vbroadcastss_zmm_k1z_xmmm32;
    /// Lane 0 of a in every lane.
    Broadcast64:
        EVEX_Vpbroadcastq_xmm_k1z_xmmm64,
        EVEX_Vpbroadcastq_ymm_k1z_xmmm64,
        EVEX_Vpbroadcastq_zmm_k1z_xmmm64;
    /// A general register in every lane.
    BroadcastGpr32:
        EVEX_Vpbroadcastd_xmm_k1z_r32,
        EVEX_Vpbroadcastd_ymm_k1z_r32,
        EVEX_Vpbroadcastd_zmm_k1z_r32;
    /// A general register in every lane.
    BroadcastGpr64:
        EVEX_Vpbroadcastq_xmm_k1z_r64,
        EVEX_Vpbroadcastq_ymm_k1z_r64,
        EVEX_Vpbroadcastq_zmm_k1z_r64;
    /// 8-bit lanes to 32-bit lanes.
    SignExtendBytes:
        EVEX_Vpmovsxbd_xmm_k1z_xmmm32,
        EVEX_Vpmovsxbd_ymm_k1z_xmmm64,
        EVEX_Vpmovsxbd_zmm_k1z_xmmm128;
    /// 8-bit lanes to 32-bit lanes.
    ZeroExtendBytes:
        EVEX_Vpmovzxbd_xmm_k1z_xmmm32,
        EVEX_Vpmovzxbd_ymm_k1z_xmmm64,
        EVEX_Vpmovzxbd_zmm_k1z_xmmm128;
    /// 16-bit lanes to 32-bit lanes.
    ZeroExtendWords:
        EVEX_Vpmovzxwd_xmm_k1z_xmmm64,
        EVEX_Vpmovzxwd_ymm_k1z_xmmm128,
        EVEX_Vpmovzxwd_zmm_k1z_ymmm256;
    /// 32-bit lanes cut to 8-bit lanes.
    NarrowToBytes:
        EVEX_Vpmovdb_xmmm32_k1z_xmm,
        EVEX_Vpmovdb_xmmm64_k1z_ymm,
        EVEX_Vpmovdb_xmmm128_k1z_zmm;
    /// 32-bit lanes cut to 16-bit lanes.
    NarrowToWords:
        EVEX_Vpmovdw_xmmm64_k1z_xmm,
        EVEX_Vpmovdw_xmmm128_k1z_ymm,
        EVEX_Vpmovdw_ymmm256_k1z_zmm;
    /// 64-bit lanes cut to 32-bit lanes.
    Narrow:
        EVEX_Vpmovqd_xmmm64_k1z_xmm,
        EVEX_Vpmovqd_xmmm128_k1z_ymm,
        EVEX_Vpmovqd_ymmm256_k1z_zmm;
    /// 64-bit lanes saturated to 32-bit lanes.
    NarrowSaturated:
        EVEX_Vpmovsqd_xmmm64_k1z_xmm,
        EVEX_Vpmovsqd_xmmm128_k1z_ymm,
        EVEX_Vpmovsqd_ymmm256_k1z_zmm;
    /// 32-bit lanes to 64-bit lanes.
    SignExtend:
        EVEX_Vpmovsxdq_xmm_k1z_xmmm64,
        EVEX_Vpmovsxdq_ymm_k1z_xmmm128,
        EVEX_Vpmovsxdq_zmm_k1z_ymmm256;
    /// F16 lanes to f32 lanes.
    HalfToF32:
        EVEX_Vcvtph2ps_xmm_k1z_xmmm64,
        EVEX_Vcvtph2ps_ymm_k1z_xmmm128,
        EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae;
    /// F32 lanes to f16 lanes.
    F32ToHalf:
        EVEX_Vcvtps2ph_xmmm64_k1z_xmm_imm8,
        EVEX_Vcvtps2ph_xmmm128_k1z_ymm_imm8,
        EVEX_Vcvtps2ph_ymmm256_k1z_zmm_imm8_sae;
    /// Truncates.
    F32ToI32:
        EVEX_Vcvttps2dq_xmm_k1z_xmmm128b32,
        EVEX_Vcvttps2dq_ymm_k1z_ymmm256b32,
        EVEX_Vcvttps2dq_zmm_k1z_zmmm512b32_sae;
    /// Rounds.
    I32ToF32:
        EVEX_Vcvtdq2ps_xmm_k1z_xmmm128b32,
        EVEX_Vcvtdq2ps_ymm_k1z_ymmm256b32,
        EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er;
    /// Truncates.
    F64ToI64:
        EVEX_Vcvttpd2qq_xmm_k1z_xmmm128b64,
        EVEX_Vcvttpd2qq_ymm_k1z_ymmm256b64,
        EVEX_Vcvttpd2qq_zmm_k1z_zmmm512b64_sae;
    /// Rounds.
    I64ToF32:
        EVEX_Vcvtqq2ps_xmm_k1z_xmmm128b64,
        EVEX_Vcvtqq2ps_xmm_k1z_ymmm256b64,
        EVEX_Vcvtqq2ps_ymm_k1z_zmmm512b64_er;
    /// Rounds.
    I64ToF64:
        EVEX_Vcvtqq2pd_xmm_k1z_xmmm128b64,
        EVEX_Vcvtqq2pd_ymm_k1z_ymmm256b64,
        EVEX_Vcvtqq2pd_zmm_k1z_zmmm512b64_er;
    /// Exact.
    I32ToF64:
        EVEX_Vcvtdq2pd_xmm_k1z_xmmm64b32,
        EVEX_Vcvtdq2pd_ymm_k1z_xmmm128b32,
        EVEX_Vcvtdq2pd_zmm_k1z_ymmm256b32_er;
    /// Exact.
    F32ToF64:
        EVEX_Vcvtps2pd_xmm_k1z_xmmm64b32,
        EVEX_Vcvtps2pd_ymm_k1z_xmmm128b32,
        EVEX_Vcvtps2pd_zmm_k1z_ymmm256b32_sae;
    /// Rounds.
    F64ToF32:
        EVEX_Vcvtpd2ps_xmm_k1z_xmmm128b64,
        EVEX_Vcvtpd2ps_xmm_k1z_ymmm256b64,
        EVEX_Vcvtpd2ps_ymm_k1z_zmmm512b64_er;
    /// All ones where the mask holds.
    MaskToLanes:
        EVEX_Vpmovm2d_xmm_kr,
        EVEX_Vpmovm2d_ymm_kr,
        EVEX_Vpmovm2d_zmm_kr;
    /// The sign bits.
    LanesToMask:
        EVEX_Vpmovd2m_kr_xmm,
        EVEX_Vpmovd2m_kr_ymm,
        EVEX_Vpmovd2m_kr_zmm;
    /// Lanes of b then a, from the lane that the immediate says.
    Align32:
        EVEX_Valignd_xmm_k1z_xmm_xmmm128b32_imm8,
        EVEX_Valignd_ymm_k1z_ymm_ymmm256b32_imm8,
        EVEX_Valignd_zmm_k1z_zmm_zmmm512b32_imm8;
    /// 32-bit elements at 64-bit indices.
    GatherIndex64Of32:
        EVEX_Vgatherqps_xmm_k1_vm64x,
        EVEX_Vgatherqps_xmm_k1_vm64y,
        EVEX_Vgatherqps_ymm_k1_vm64z;
    /// 64-bit elements at 64-bit indices.
    GatherIndex64Of64:
        EVEX_Vgatherqpd_xmm_k1_vm64x,
        EVEX_Vgatherqpd_ymm_k1_vm64y,
        EVEX_Vgatherqpd_zmm_k1_vm64z;
    /// 32-bit elements at 32-bit indices.
    GatherIndex32Of32:
        EVEX_Vgatherdps_xmm_k1_vm32x,
        EVEX_Vgatherdps_ymm_k1_vm32y,
        EVEX_Vgatherdps_zmm_k1_vm32z;
}
