//! The machine's peak of fused multiply-adds, by registers alone: no kernel of as wide vectors can be faster.

use kiln_codegen::native::{Backend, Features, Target};

/// GFLOP/s of independent multiply-adds of the vectors that a target's kernels have; `None` where it is not measured.
pub fn gflops(target: &Target) -> Option<f64> {
    match target.backend() {
        Backend::Wide if target.features() >= Features::V4 => imp::gflops_512(),
        Backend::Wide => imp::gflops_256(),
        Backend::Cranelift => imp::gflops_128(),
    }
}

#[cfg(target_arch = "x86_64")]
mod imp {
    use std::arch::asm;
    use std::time::Instant;

    const ROUNDS: u64 = 200_000;

    /// Twelve independent chains of multiply-adds of one register width.
    macro_rules! multiply_adds {
        ($name:ident, $feature:tt, $register:literal, $lanes:literal) => {
            pub fn $name() -> Option<f64> {
                if !std::arch::is_x86_feature_detected!($feature) {
                    return None;
                }
                let start = Instant::now();
                // SAFETY: the CPU has the instructions; only the named registers and no memory are touched.
                unsafe {
                    asm!(
                        // what a register held before may be subnormal, and slow
                        "vxorps xmm0, xmm0, xmm0",
                        "vxorps xmm1, xmm1, xmm1",
                        "vxorps xmm2, xmm2, xmm2",
                        "vxorps xmm3, xmm3, xmm3",
                        "vxorps xmm4, xmm4, xmm4",
                        "vxorps xmm5, xmm5, xmm5",
                        "vxorps xmm6, xmm6, xmm6",
                        "vxorps xmm7, xmm7, xmm7",
                        "vxorps xmm8, xmm8, xmm8",
                        "vxorps xmm9, xmm9, xmm9",
                        "vxorps xmm10, xmm10, xmm10",
                        "vxorps xmm11, xmm11, xmm11",
                        "vxorps xmm14, xmm14, xmm14",
                        "vxorps xmm15, xmm15, xmm15",
                        "2:",
                        concat!("vfmadd231ps ", $register, "0, ", $register, "14, ", $register, "15"),
                        concat!("vfmadd231ps ", $register, "1, ", $register, "14, ", $register, "15"),
                        concat!("vfmadd231ps ", $register, "2, ", $register, "14, ", $register, "15"),
                        concat!("vfmadd231ps ", $register, "3, ", $register, "14, ", $register, "15"),
                        concat!("vfmadd231ps ", $register, "4, ", $register, "14, ", $register, "15"),
                        concat!("vfmadd231ps ", $register, "5, ", $register, "14, ", $register, "15"),
                        concat!("vfmadd231ps ", $register, "6, ", $register, "14, ", $register, "15"),
                        concat!("vfmadd231ps ", $register, "7, ", $register, "14, ", $register, "15"),
                        concat!("vfmadd231ps ", $register, "8, ", $register, "14, ", $register, "15"),
                        concat!("vfmadd231ps ", $register, "9, ", $register, "14, ", $register, "15"),
                        concat!("vfmadd231ps ", $register, "10, ", $register, "14, ", $register, "15"),
                        concat!("vfmadd231ps ", $register, "11, ", $register, "14, ", $register, "15"),
                        "dec {n}",
                        "jnz 2b",
                        n = inout(reg) ROUNDS => _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                        out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                        out("xmm14") _, out("xmm15") _,
                        options(nomem, nostack),
                    );
                }
                Some((ROUNDS * 12 * 2 * $lanes) as f64 / start.elapsed().as_secs_f64() / 1e9)
            }
        };
    }
    multiply_adds!(gflops_128, "fma", "xmm", 4);
    multiply_adds!(gflops_256, "fma", "ymm", 8);
    multiply_adds!(gflops_512, "avx512f", "zmm", 16);
}

#[cfg(not(target_arch = "x86_64"))]
mod imp {
    /// Measured on x86-64 only.
    pub fn gflops_128() -> Option<f64> {
        None
    }

    /// Measured on x86-64 only.
    pub fn gflops_256() -> Option<f64> {
        None
    }

    /// Measured on x86-64 only.
    pub fn gflops_512() -> Option<f64> {
        None
    }
}
