//! Looking into an artifact without running anything.

use std::collections::BTreeSet;

use bytes::Bytes;
use kiln_ir::DType;
use serde::Serialize;

use super::contents::{Native, Sections, Stored};
use super::error::ArtifactError;
use super::layout::{FORMAT_VERSION, Layout, SectionKind};
use crate::cpu::Host;
use crate::plan::Plan;
use crate::profile::Profile;
use crate::signature::Signature;

/// Whether to read every byte and compare it with the digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digests {
    /// Compare header and table only: takes no longer for more weights.
    Skip,
    /// Compare every section, and every portable weight with its content id.
    Check,
}

/// What an artifact holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Version of the file format.
    pub format_version: u32,
    /// Name and version of the program that wrote it.
    pub producer: String,
    /// Identifies the contents: the digest of all digests, in hexadecimal.
    pub digest: String,
    /// Length of the file in bytes.
    pub total_bytes: usize,
    /// Every section, in file order.
    pub sections: Vec<SectionSummary>,
    /// Inputs, outputs and metadata.
    pub signature: Signature,
    /// The portable half, unless it was left out.
    pub portable: Option<PortableSummary>,
    /// Native parts, one per target.
    pub natives: Vec<NativeSummary>,
    /// The profile measured when the artifact was made.
    pub profile: Option<Profile>,
    /// Bytes of the weight section.
    pub weight_bytes: usize,
    /// Whether all digests were compared.
    pub verified: bool,
}

/// A section of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SectionSummary {
    /// What it holds.
    pub kind: SectionKind,
    /// First byte.
    pub offset: usize,
    /// Length in bytes.
    pub len: usize,
    /// BLAKE3 of its bytes, in hexadecimal.
    pub digest: String,
}

/// The portable half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortableSummary {
    /// Bytes of graph text; [`graph_text`] returns it.
    pub graph_bytes: usize,
    /// Every weight.
    pub weights: Vec<WeightSummary>,
}

/// A weight of the portable half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WeightSummary {
    /// Content id, in hexadecimal: what the graph text calls it.
    pub content: String,
    /// Element type.
    pub dtype: DType,
    /// Extents, outermost first.
    pub dims: Vec<usize>,
    /// Whether its elements are stored in the order compiled code wants, to be brought back by a recipe.
    pub packed: bool,
}

/// A native part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NativeSummary {
    /// Target triple.
    pub triple: String,
    /// CPU features the code needs.
    pub features: BTreeSet<String>,
    /// Bytes of machine code.
    pub code_bytes: usize,
    /// Name and code size of every kernel.
    pub kernels: Vec<(String, usize)>,
    /// Steps of the plan.
    pub steps: usize,
    /// Floating-point operations of one run.
    pub flops: u64,
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// The most bytes live at once: no arena is smaller.
    pub arena_lower_bound: usize,
    /// Scratch bytes of each thread.
    pub scratch_bytes: usize,
    /// Why this machine cannot run it; `None` where it can.
    pub not_here: Option<String>,
}

/// Describes an artifact. Total: any bytes give a summary or an error, in time and memory linear in their number.
pub fn inspect(file: &Bytes, digests: Digests) -> Result<Summary, ArtifactError> {
    let layout = Layout::parse(file)?;
    let sections = Sections::of(&layout)?;
    if digests == Digests::Check {
        layout.sections.iter().try_for_each(|section| section.verify(file))?;
    }
    let signature = sections.signature(file)?;
    let portable = match &sections.portable {
        Some((graph, index)) => {
            let text = Sections::graph(graph, file)?;
            let entries = sections.weight_index(index, file)?;
            if digests == Digests::Check {
                let weights = sections.weights.bytes(file);
                entries.iter().try_for_each(|entry| entry.tensor(&weights).map(drop))?;
            }
            let weights = entries.into_iter().map(|entry| WeightSummary {
                content: blake3::Hash::from(entry.content).to_hex().to_string(),
                packed: matches!(entry.stored, Stored::Packed { .. }),
                dtype: entry.dtype,
                dims: entry.dims,
            });
            Some(PortableSummary { graph_bytes: text.len(), weights: weights.collect() })
        }
        None => None,
    };
    let host = Host::here();
    let mut natives = Vec::with_capacity(sections.natives.len());
    for part in &sections.natives {
        let Native { triple, features, plan, kernels } = sections.native(part, file, &signature)?;
        natives.push(NativeSummary {
            not_here: super::native::unusable(&triple, &features, &host),
            code_bytes: part.1.len,
            kernels: kernels.into_iter().map(|k| (k.name, k.len)).collect(),
            steps: plan.steps.len(),
            flops: plan.flops(),
            arena_bytes: plan.arena_bytes,
            arena_lower_bound: plan.arena_lower_bound,
            scratch_bytes: plan.scratch_bytes,
            triple,
            features,
        });
    }
    Ok(Summary {
        format_version: FORMAT_VERSION,
        digest: blake3::Hash::from(layout.digest).to_hex().to_string(),
        total_bytes: file.len(),
        sections: layout
            .sections
            .iter()
            .map(|s| SectionSummary {
                kind: s.kind,
                offset: s.offset,
                len: s.len,
                digest: blake3::Hash::from(s.digest).to_hex().to_string(),
            })
            .collect(),
        profile: sections.profile(file)?,
        weight_bytes: sections.weights.len,
        verified: digests == Digests::Check,
        producer: layout.producer,
        signature,
        portable,
        natives,
    })
}

/// The portable graph's text, or `None` where the portable half was left out.
pub fn graph_text(file: &Bytes) -> Result<Option<String>, ArtifactError> {
    let sections = Sections::of(&Layout::parse(file)?)?;
    sections.portable.as_ref().map(|(graph, _)| Sections::graph(graph, file)).transpose()
}

/// Plan and machine code of the native part at `index`, for printing and disassembling; `None` past the last.
pub fn native_code(file: &Bytes, index: usize) -> Result<Option<(Plan, crate::KernelCode)>, ArtifactError> {
    let sections = Sections::of(&Layout::parse(file)?)?;
    let signature = sections.signature(file)?;
    let Some(part) = sections.natives.get(index) else { return Ok(None) };
    let native = sections.native(part, file, &signature)?;
    let code = crate::KernelCode::from_parts(part.1.bytes(file).to_vec(), native.kernels);
    Ok(Some((native.plan, code.map_err(|e| ArtifactError::damaged("native code", e))?)))
}
