//! What this machine can run: its target triple and CPU features, by the names LLVM and Cranelift use.

use std::collections::BTreeSet;

/// CPU features of this machine that compiled code may need, by their LLVM names.
pub fn host_features() -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    /// Adds each feature that the standard library detects (which includes that the system saves its registers).
    #[allow(unused_macros, reason = "unused on targets without a list below")]
    macro_rules! detect {
        ($detected:ident: $($name:tt),*) => {$(
            if std::arch::$detected!($name) {
                found.insert($name);
            }
        )*};
    }
    #[cfg(target_arch = "x86_64")]
    detect!(is_x86_feature_detected:
        "sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx", "avx2", "bmi1", "bmi2", "fma", "lzcnt", "movbe", "f16c",
        "cmpxchg16b", "gfni", "vaes", "vpclmulqdq", "avxvnni", "avxifma", "avxneconvert", "avxvnniint8", "avxvnniint16",
        "avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl", "avx512ifma", "avx512vbmi", "avx512vbmi2",
        "avx512vnni", "avx512bitalg", "avx512vpopcntdq", "avx512bf16", "avx512fp16");
    #[cfg(target_arch = "aarch64")]
    detect!(is_aarch64_feature_detected:
        "neon", "lse", "fp16", "dotprod", "i8mm", "bf16", "sve", "sve2", "paca", "pacg");
    // Every float type of the kernels is in the base of this target; extensions are not used yet.
    #[cfg(target_arch = "riscv64")]
    found.extend(["m", "a", "f", "d"]);
    found
}

/// A machine that code may be loaded for: this one, or one like it with less. There is no way to make one that has more, so what it
/// runs runs here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    triple: String,
    features: BTreeSet<&'static str>,
}

impl Host {
    /// This machine.
    pub fn here() -> Host {
        Host { triple: host_triple(), features: host_features() }
    }

    /// The same machine without `features`: what an older CPU would be. A name that is not known takes nothing away.
    pub fn without(mut self, features: &[&str]) -> Host {
        self.features.retain(|feature| !features.contains(feature));
        self
    }

    /// Its target triple.
    pub fn triple(&self) -> &str {
        &self.triple
    }

    /// The features among `wanted` that it lacks.
    pub fn missing<'a>(&self, wanted: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
        wanted.into_iter().filter(|name| !self.features.contains(name)).collect()
    }
}

/// This machine's target triple, such as `x86_64-unknown-linux-gnu`.
pub fn host_triple() -> String {
    let arch = match std::env::consts::ARCH {
        "riscv64" => "riscv64gc",
        other => other,
    };
    let environment = if cfg!(target_env = "musl") {
        "-musl"
    } else if cfg!(target_env = "msvc") {
        "-msvc"
    } else if cfg!(target_env = "gnu") {
        "-gnu"
    } else {
        ""
    };
    match std::env::consts::OS {
        "macos" => format!("{arch}-apple-darwin"),
        "windows" => format!("{arch}-pc-windows{environment}"),
        other => format!("{arch}-unknown-{other}{environment}"),
    }
}

/// Whether kernels compiled for `triple` run here, CPU features aside. They call nothing, so what counts is the
/// architecture and the system's calling convention; vendor and C library do not.
pub fn triple_runs_here(triple: &str) -> bool {
    parts(triple).is_some_and(|p| Some(p) == parts(&host_triple()))
}

/// Architecture and operating system of a triple, without their versions.
fn parts(triple: &str) -> Option<(&str, &str)> {
    let mut fields = triple.split('-');
    let arch = fields.next().filter(|a| !a.is_empty())?;
    // The vendor may be left out: `aarch64-linux-android`.
    let system =
        fields.find(|f| ["linux", "darwin", "macosx", "windows", "freebsd"].iter().any(|s| f.starts_with(s)))?;
    let arch = if arch.starts_with("riscv64") { "riscv64" } else { arch };
    let arch = if arch == "arm64" { "aarch64" } else { arch };
    let system = system.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    Some((arch, if system == "macosx" { "darwin" } else { system }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_runs_its_own_triple_and_no_other_architecture() {
        assert!(triple_runs_here(&host_triple()), "{}", host_triple());
        let other = if cfg!(target_arch = "x86_64") { "aarch64" } else { "x86_64" };
        for foreign in [&format!("{other}-unknown-linux-gnu"), "", "-", "x86_64", "mips-unknown-none"] {
            assert!(!triple_runs_here(foreign), "{foreign}");
        }
    }

    #[test]
    fn vendor_c_library_and_spelling_do_not_matter_but_the_system_does() {
        assert_eq!(parts("x86_64-unknown-linux-gnu"), parts("x86_64-alpine-linux-musl"));
        assert_eq!(parts("arm64-apple-macosx14.0"), parts("aarch64-apple-darwin"));
        assert_ne!(parts("x86_64-pc-windows-msvc"), parts("x86_64-unknown-linux-gnu"));
    }

    #[test]
    fn what_the_host_has_is_not_missing() {
        let here = Host::here();
        assert!(here.missing(host_features()).is_empty());
        assert_eq!(here.missing(["warp-drive"]), ["warp-drive"]);
        if cfg!(target_arch = "x86_64") && here.missing(["avx512f"]).is_empty() {
            assert!(here.missing(["avx2", "fma", "sse4.2"]).is_empty(), "AVX-512 comes with these");
        }
    }

    #[test]
    fn a_lesser_machine_lacks_what_was_taken_away_and_nothing_else() {
        let Some(&one) = host_features().first() else { return };
        let lesser = Host::here().without(&[one, "warp-drive"]);
        assert_eq!(lesser.missing(host_features()), [one]);
        assert_eq!(lesser.triple(), host_triple());
    }
}
