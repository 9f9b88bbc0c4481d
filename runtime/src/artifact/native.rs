//! Loading machine code: mapped, checked, trusted.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::contents::Sections;
use super::error::ArtifactError;
use super::layout::Layout;
use super::load::{PortableCompiler, load};
use crate::code_memory;
use crate::cpu::{Host, triple_runs_here};
use crate::executable::Executable;
use crate::mapped_file;
use crate::weights::Weights;

/// How to load native code.
#[derive(Clone, Copy, Default)]
pub struct NativeOptions<'a> {
    /// Compare the weights with their digest too. Off, loading takes no longer for more weights, because none is
    /// read until a kernel needs it; damaged weights then give wrong numbers, never wrong memory accesses.
    pub verify_weights: bool,
    /// Compile the portable half with this where no native part runs here. Without it, that is an error.
    pub fallback: Option<&'a dyn PortableCompiler>,
    /// The machine to load for; `None` is this one. A lesser one shows here what an older CPU would do.
    pub host: Option<&'a Host>,
}

/// Why a native part does not run on `host`; `None` where it does.
pub(crate) fn unusable(triple: &str, features: &BTreeSet<String>, host: &Host) -> Option<String> {
    if !triple_runs_here(triple) {
        return Some(format!("{triple}: another architecture or system: expected {triple}, found {}", host.triple()));
    }
    let missing = host.missing(features.iter().map(String::as_str));
    (!missing.is_empty()).then(|| {
        let expected: Vec<&str> = features.iter().map(String::as_str).collect();
        let (expected, missing) = (expected.join(", "), missing.join(", "));
        format!("{triple}: CPU features: expected {expected}; found that this CPU lacks {missing}")
    })
}

/// Loads the best native part that runs here: the one that uses the most CPU features.
///
/// Checked first: magic, version, length, places of all sections, digests of everything but the weights (see
/// [`NativeOptions`]), target triple, CPU features, kernel ranges, and the plan. The bytes are shared, not copied,
/// where they are 64-byte aligned, as mapped files are.
///
/// # Safety
/// The machine code is run as it is: a digest shows that it is what somebody wrote, not that it is harmless. The caller
/// vouches that the artifact comes from a trusted origin.
pub unsafe fn load_native(file: &Bytes, options: NativeOptions<'_>) -> Result<Arc<Executable>, ArtifactError> {
    let layout = Layout::parse(file)?;
    let sections = Sections::of(&layout)?;
    if sections.natives.is_empty() && options.fallback.is_none() {
        let remedy = "load its portable half, or compile it again with native code";
        return Err(ArtifactError::Absent { half: "native", remedy });
    }
    sections.signature.verify(file)?;
    if options.verify_weights {
        sections.weights.verify(file)?;
    }
    let signature = sections.signature(file)?;
    let here = Host::here();
    let host = options.host.unwrap_or(&here);
    let mut best: Option<(usize, _, _)> = None;
    let mut rejected = Vec::new();
    for part in &sections.natives {
        part.0.verify(file)?;
        let native = sections.native(part, file, &signature)?;
        let features = native.features.len();
        match unusable(&native.triple, &native.features, host) {
            Some(why) => rejected.push(why),
            None if best.as_ref().is_none_or(|(most, _, _)| features > *most) => {
                best = Some((features, native, part.1))
            }
            None => {}
        }
    }
    let Some((_, native, code)) = best else {
        return match options.fallback {
            // Where there is neither, what the native code is for says more.
            Some(compiler) if sections.portable.is_some() => load(file, compiler),
            _ => Err(ArtifactError::NoNativeCode { host: host.triple().to_owned(), candidates: rejected }),
        };
    };
    code.verify(file)?;
    let kernels = code_memory::load(&code.bytes(file), &native.kernels).map_err(ArtifactError::CodeMemory)?;
    let weights = Weights::from_section(sections.weights.bytes(file));
    // SAFETY: the caller vouches for the origin of plan and code; the digests just compared say that they are as they
    // were written.
    Ok(unsafe { Executable::new(native.plan, kernels, weights) }?)
}

/// Maps the file at `path` and loads it as [`load_native`] does. Weights cost page faults when a kernel first reads
/// them; processes that load the same file share them.
///
/// # Safety
/// As for [`load_native`]; and nobody may write to the file in place while the program is alive. Replacing it by
/// renaming, as [`super::Artifact::write`] does, is fine.
pub unsafe fn load_native_file(path: &Path, options: NativeOptions<'_>) -> Result<Arc<Executable>, ArtifactError> {
    // SAFETY: by this function's contract.
    let file = unsafe { mapped_file::map(path) };
    let file = file.map_err(|source| ArtifactError::Io { action: "map", path: path.to_owned(), source })?;
    // SAFETY: by this function's contract.
    unsafe { load_native(&file, options) }
}
