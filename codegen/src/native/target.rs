//! What code is made for.

use std::fmt;

use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use target_lexicon::{Aarch64Architecture, Architecture, Triple};

/// CPU features, by the names of the x86-64 psABI levels, and beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Features {
    /// What every CPU of the architecture has. On x86-64 this is x86-64-v2 (SSE4.2): the oldest that is supported.
    Baseline,
    /// x86-64-v3: AVX2, FMA, F16C, BMI. Vectors of 256 bits by the wide back end, of 128 by Cranelift.
    V3,
    /// x86-64-v4: AVX-512 as well. Vectors of 512 bits by the wide back end, of 128 by Cranelift.
    V4,
    /// x86-64-v4 and AVX512-VNNI, which multiplies bytes.
    V4Vnni,
}

impl Features {
    /// All of them, the least first.
    pub const ALL: [Features; 4] = [Features::Baseline, Features::V3, Features::V4, Features::V4Vnni];

    /// Whether one instruction multiplies four bytes by four and adds the products to 32 bits.
    pub const fn has_vnni(self) -> bool {
        matches!(self, Features::V4Vnni)
    }

    /// The name that `--target` takes on x86-64.
    pub const fn name(self) -> &'static str {
        match self {
            Features::Baseline => "x86-64-v2",
            Features::V3 => "x86-64-v3",
            Features::V4 => "x86-64-v4",
            Features::V4Vnni => "x86-64-v4+vnni",
        }
    }

    /// Cranelift's flags for x86-64.
    fn flags(self) -> &'static [&'static str] {
        const V2: usize = 5;
        const V3: usize = 11;
        const ALL: [&str; 17] = [
            "has_sse3",
            "has_ssse3",
            "has_sse41",
            "has_sse42",
            "has_popcnt",
            "has_avx",
            "has_avx2",
            "has_fma",
            "has_bmi1",
            "has_bmi2",
            "has_lzcnt",
            "has_cmpxchg16b",
            "has_avx512f",
            "has_avx512dq",
            "has_avx512vl",
            "has_avx512vbmi",
            "has_avx512bitalg",
        ];
        match self {
            Features::Baseline => &ALL[..V2],
            Features::V3 => &ALL[..V3],
            // the psABI's v4 has no VBMI and BITALG
            Features::V4 | Features::V4Vnni => &ALL[..15],
        }
    }
}

/// What turns kernels into machine code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// Cranelift: every target, 128-bit vectors.
    Cranelift,
    /// The wide back end: vectors as wide as the CPU has them (256 bits on x86-64-v3, 512 on x86-64-v4), on systems with the
    /// System V calling convention.
    Wide,
}

impl Backend {
    /// The name that `--backend` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Backend::Cranelift => "cranelift",
            Backend::Wide => "wide",
        }
    }
}

/// Why a target cannot be compiled for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No such target, or the name does not parse.
    #[error(
        "unknown target `{0}`: expected host, x86-64-v2, x86-64-v3, x86-64-v4, x86-64-v4+vnni, aarch64, or a triple such as aarch64-unknown-linux-gnu"
    )]
    Unknown(String),
    /// Cranelift has no back end for it in this build.
    #[error("no back end for the target {triple}: {reason}")]
    Unsupported {
        /// The triple.
        triple: String,
        /// Cranelift's words.
        reason: String,
    },
    /// This machine is older than what is supported.
    #[error("this CPU lacks {0}, which the oldest supported level (x86-64-v2) has")]
    TooOld(String),
}

/// A machine to compile for: its triple, its features, and Cranelift configured for both.
#[derive(Clone)]
pub struct Target {
    isa: OwnedTargetIsa,
    features: Features,
    fma: bool,
    backend: Backend,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.isa.triple().architecture {
            Architecture::X86_64 => write!(f, "{} ({})", self.isa.triple(), self.features.name()),
            _ => write!(f, "{}", self.isa.triple()),
        }
    }
}

impl Target {
    /// This machine, with the highest feature level that its CPU has.
    pub fn host() -> Result<Target, TargetError> {
        Target::new(Triple::host(), host_features()?)
    }

    /// A target by name: `host`, `x86-64-v2`, `x86-64-v3`, `x86-64-v4`, `x86-64-v4+vnni`, `aarch64` (on the host's system), or a triple.
    pub fn named(name: &str) -> Result<Target, TargetError> {
        if name == "host" {
            return Target::host();
        }
        if let Some(features) = Features::ALL.into_iter().find(|level| level.name() == name) {
            return Target::new(Triple { architecture: Architecture::X86_64, ..Triple::host() }, features);
        }
        if name == "aarch64" {
            let architecture = Architecture::Aarch64(Aarch64Architecture::Aarch64);
            return Target::new(Triple { architecture, ..Triple::host() }, Features::Baseline);
        }
        let triple: Triple = name.parse().map_err(|_| TargetError::Unknown(name.to_owned()))?;
        Target::new(triple, Features::Baseline)
    }

    /// A triple and a feature level; the level matters on x86-64 only.
    pub fn new(triple: Triple, features: Features) -> Result<Target, TargetError> {
        let unsupported = |reason: String| TargetError::Unsupported { triple: triple.to_string(), reason };
        let little = triple.endianness() == Ok(target_lexicon::Endianness::Little);
        let wide = triple.pointer_width() == Ok(target_lexicon::PointerWidth::U64);
        if !little || !wide {
            return Err(unsupported("kernels are for 64-bit little-endian machines".to_owned()));
        }
        let mut builder = isa::lookup(triple.clone()).map_err(|e| unsupported(e.to_string()))?;
        let x86 = triple.architecture == Architecture::X86_64;
        if x86 {
            for flag in features.flags() {
                builder.enable(flag).map_err(|e| unsupported(e.to_string()))?;
            }
        }
        let isa = builder
            .finish(settings::Flags::new(flags(&[]).map_err(unsupported)?))
            .map_err(|e| unsupported(e.to_string()))?;
        let fma = match triple.architecture {
            Architecture::X86_64 => features >= Features::V3,
            Architecture::Aarch64(_) | Architecture::Riscv64(_) => true,
            _ => false,
        };
        let sysv = !matches!(triple.operating_system, target_lexicon::OperatingSystem::Windows);
        let backend = if x86 && sysv && features >= Features::V3 { Backend::Wide } else { Backend::Cranelift };
        Ok(Target { isa, features, fma, backend })
    }

    /// The same target, with kernels compiled by Cranelift.
    pub fn portable(self) -> Target {
        Target { backend: Backend::Cranelift, ..self }
    }

    /// What turns kernels into machine code: the fastest back end for the target, unless [`Self::portable`] was asked for.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The target triple.
    pub fn triple(&self) -> &Triple {
        self.isa.triple()
    }

    /// Whether its system is Windows.
    pub fn is_windows(&self) -> bool {
        matches!(self.triple().operating_system, target_lexicon::OperatingSystem::Windows)
    }

    /// The feature level.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Whether multiply-add rounds once.
    pub fn has_fma(&self) -> bool {
        self.fma
    }

    /// Vector registers of 128 bits that a kernel can use: what register blocking has to fit into.
    pub fn vector_registers(&self) -> u32 {
        match self.isa.triple().architecture {
            Architecture::X86_64 => 16,
            _ => 32,
        }
    }

    /// The CPU features that code for this target may use, by LLVM's names; empty where the architecture's base is
    /// all that is used.
    pub fn feature_names(&self) -> &'static [&'static str] {
        const ALL: [&str; 18] = [
            "sse3",
            "ssse3",
            "sse4.1",
            "sse4.2",
            "popcnt",
            "avx",
            "avx2",
            "fma",
            "f16c",
            "bmi1",
            "bmi2",
            "lzcnt",
            "cmpxchg16b",
            "avx512f",
            "avx512dq",
            "avx512vl",
            "avx512bw",
            "avx512vnni",
        ];
        match (self.isa.triple().architecture, self.features) {
            (Architecture::X86_64, Features::Baseline) => &ALL[..5],
            (Architecture::X86_64, Features::V3) => &ALL[..13],
            (Architecture::X86_64, Features::V4) => &ALL[..17],
            (Architecture::X86_64, Features::V4Vnni) => &ALL,
            _ => &[],
        }
    }

    /// Whether this machine runs its code.
    pub fn runs_here(&self) -> bool {
        kiln_runtime::cpu::triple_runs_here(&self.triple().to_string())
            && host_features().is_ok_and(|host| host >= self.features)
    }

    /// Cranelift's description of the target without any feature that a CPU of the architecture may lack, for code that is linked
    /// into programs and runs before features are looked at.
    pub(crate) fn baseline_isa(&self) -> Result<OwnedTargetIsa, TargetError> {
        let unsupported = |reason: String| TargetError::Unsupported { triple: self.triple().to_string(), reason };
        let builder = isa::lookup(self.triple().clone()).map_err(|e| unsupported(e.to_string()))?;
        let flags = flags(&[("is_pic", "true")]).map_err(unsupported)?;
        builder.finish(settings::Flags::new(flags)).map_err(|e| unsupported(e.to_string()))
    }

    /// Cranelift's description of the target.
    pub(crate) fn isa(&self) -> &OwnedTargetIsa {
        &self.isa
    }
}

/// Cranelift's settings for any target, and `more`.
fn flags(more: &[(&str, &str)]) -> Result<settings::Builder, String> {
    let shared = [
        // kernels arrive with their addresses and constants in place; Cranelift's optimiser would move all loads of
        // a block before its arithmetic, which costs registers (a GEMM tile ran at half the speed) and time
        ("opt_level", "none"),
        ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
        // kernels do not unwind, and their frames are small
        ("unwind_info", "false"),
        ("enable_probestack", "false"),
    ];
    let mut flags = settings::builder();
    for (name, value) in shared.iter().chain(more) {
        flags.set(name, value).map_err(|e| e.to_string())?;
    }
    Ok(flags)
}

#[cfg(target_arch = "x86_64")]
fn host_features() -> Result<Features, TargetError> {
    macro_rules! missing {
        ($($feature:tt),*) => {
            [$(($feature, std::arch::is_x86_feature_detected!($feature))),*]
                .into_iter().find(|(_, has)| !has).map(|(name, _)| name.to_owned())
        };
    }
    if let Some(name) = missing!("sse3", "ssse3", "sse4.1", "sse4.2", "popcnt") {
        return Err(TargetError::TooOld(name));
    }
    if missing!("avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "lzcnt").is_some() {
        return Ok(Features::Baseline);
    }
    if missing!("avx512f", "avx512dq", "avx512vl", "avx512bw", "avx512cd").is_some() {
        return Ok(Features::V3);
    }
    match missing!("avx512vnni") {
        Some(_) => Ok(Features::V4),
        None => Ok(Features::V4Vnni),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn host_features() -> Result<Features, TargetError> {
    Ok(Features::Baseline)
}
