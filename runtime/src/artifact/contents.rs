//! What the sections hold, decoded and checked against each other.
//!
//! Decoding allocates in proportion to the bytes decoded: a length that a section lies about runs out of bytes long
//! before it runs out of memory.

use std::collections::BTreeSet;

use bytes::Bytes;
use kiln_ir::{DType, Tensor};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::ArtifactError;
use super::layout::{Layout, Section, SectionKind};
use crate::code_memory::{KernelRange, check_ranges};
use crate::plan::{ALIGNMENT, Plan};
use crate::profile::Profile;
use crate::relayout::Relayout;
use crate::signature::Signature;

/// One weight of the portable graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WeightEntry {
    /// [`Tensor::content_id`] of the weight: what the graph text calls it.
    pub(crate) content: [u8; 32],
    pub(crate) dtype: DType,
    pub(crate) dims: Vec<usize>,
    pub(crate) stored: Stored,
}

/// Where the elements of a portable weight are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stored {
    /// As they are, from this offset of the weight section on.
    Plain { offset: usize },
    /// Among packed elements of the same type.
    Packed { offset: usize, len: usize, relayout: Relayout },
}

/// Target, plan and kernel table of one native part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Native {
    pub(crate) triple: String,
    pub(crate) features: BTreeSet<String>,
    pub(crate) plan: Plan,
    pub(crate) kernels: Vec<KernelRange>,
}

/// How often the weight section may be read in total: weights that differ in their extents only may share their bytes.
const MOST_READS: usize = 16;

/// The sections of a file, by what they are.
pub(crate) struct Sections {
    pub(crate) signature: Section,
    pub(crate) portable: Option<(Section, Section)>,
    pub(crate) natives: Vec<(Section, Section)>,
    pub(crate) profile: Option<Section>,
    pub(crate) weights: Section,
}

impl Sections {
    /// Sorts the sections of a layout, whose order is fixed: signature, graph and index, native parts, profile,
    /// weights.
    pub(crate) fn of(layout: &Layout) -> Result<Sections, ArtifactError> {
        use SectionKind as Kind;
        let mut rest = layout.sections.as_slice();
        let mut next = |kind: Kind| match rest {
            [first, others @ ..] if first.kind == kind => {
                rest = others;
                Some(*first)
            }
            _ => None,
        };
        let missing =
            |kind: Kind| ArtifactError::damaged("the section table", format!("no {} where one belongs", kind.name()));
        let signature = next(Kind::Signature).ok_or_else(|| missing(Kind::Signature))?;
        let portable = match next(Kind::Graph) {
            Some(graph) => Some((graph, next(Kind::WeightIndex).ok_or_else(|| missing(Kind::WeightIndex))?)),
            None => None,
        };
        let mut natives = Vec::new();
        while let Some(native) = next(Kind::Native) {
            natives.push((native, next(Kind::Code).ok_or_else(|| missing(Kind::Code))?));
        }
        let profile = next(Kind::Profile);
        let weights = next(Kind::Weights).ok_or_else(|| missing(Kind::Weights))?;
        if let [extra, ..] = rest {
            return Err(ArtifactError::damaged("the section table", format!("a {} out of place", extra.kind.name())));
        }
        if portable.is_none() && natives.is_empty() {
            return Err(ArtifactError::damaged("the section table", "neither a portable nor a native half"));
        }
        Ok(Sections { signature, portable, natives, profile, weights })
    }
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, ArtifactError> {
    postcard::to_stdvec(value).map_err(|e| ArtifactError::Inconsistent(e.to_string()))
}

fn decode<T: DeserializeOwned>(section: &Section, file: &Bytes) -> Result<T, ArtifactError> {
    let damaged = |reason: &dyn ToString| ArtifactError::damaged(section.kind.name(), reason.to_string());
    let bytes = section.bytes(file);
    let (value, rest) = postcard::take_from_bytes(&bytes).map_err(|e| damaged(&e))?;
    if rest.is_empty() { Ok(value) } else { Err(damaged(&format!("{} bytes left over", rest.len()))) }
}

impl Sections {
    pub(crate) fn signature(&self, file: &Bytes) -> Result<Signature, ArtifactError> {
        let signature: Signature = decode(&self.signature, file)?;
        for spec in signature.inputs.iter().chain(&signature.outputs) {
            if spec.byte_len().is_none() {
                return Err(ArtifactError::damaged("signature", format!("{spec} is too large for this machine")));
            }
        }
        Ok(signature)
    }

    pub(crate) fn profile(&self, file: &Bytes) -> Result<Option<Profile>, ArtifactError> {
        self.profile.as_ref().map(|section| decode(section, file)).transpose()
    }

    /// A native part, checked: plan against its verifier, kernels against the code, both against the weights.
    pub(crate) fn native(
        &self,
        (part, code): &(Section, Section),
        file: &Bytes,
        signature: &Signature,
    ) -> Result<Native, ArtifactError> {
        let native: Native = decode(part, file)?;
        native.plan.validate().map_err(crate::ExecutableError::from)?;
        check_ranges(&native.kernels, code.len).map_err(|e| ArtifactError::damaged("native code", e))?;
        let damaged = |reason: String| Err(ArtifactError::damaged("native plan", reason));
        if native.plan.kernel_count != native.kernels.len() {
            return damaged(format!("{} kernels, of which it has {}", native.plan.kernel_count, native.kernels.len()));
        }
        if native.plan.weight_bytes > self.weights.len {
            return damaged(format!(
                "{} bytes of weights, of which there are {}",
                native.plan.weight_bytes, self.weights.len
            ));
        }
        if native.plan.signature != *signature {
            return damaged("another signature than the artifact's".to_owned());
        }
        Ok(native)
    }

    /// The portable graph's text.
    pub(crate) fn graph(section: &Section, file: &Bytes) -> Result<String, ArtifactError> {
        let text = section.bytes(file).to_vec();
        String::from_utf8(text).map_err(|e| ArtifactError::damaged("portable graph", e))
    }

    /// The weight index, with every entry's place checked.
    pub(crate) fn weight_index(&self, section: &Section, file: &Bytes) -> Result<Vec<WeightEntry>, ArtifactError> {
        let entries: Vec<WeightEntry> = decode(section, file)?;
        let mut ids = BTreeSet::new();
        let mut read = 0usize;
        for entry in &entries {
            let damaged = |reason: &str| Err(ArtifactError::damaged(entry.name(), reason));
            if !ids.insert(entry.content) {
                return damaged("is there twice");
            }
            let Some(bytes) = entry.byte_len() else { return damaged("is too large for this machine") };
            let (offset, len) = match &entry.stored {
                Stored::Plain { offset } => (*offset, bytes),
                Stored::Packed { offset, len, .. } => (*offset, *len),
            };
            if !offset.is_multiple_of(ALIGNMENT) || offset.checked_add(len).is_none_or(|end| end > self.weights.len) {
                return damaged("lies outside the weight section");
            }
            // Many entries in one place could otherwise ask for any amount of work.
            read = read.saturating_add(len);
            if read / MOST_READS > self.weights.len {
                return damaged("would take more work than the weights of any model do");
            }
        }
        Ok(entries)
    }
}

impl WeightEntry {
    /// What errors call it: the beginning of its content id, element type and extents.
    fn name(&self) -> String {
        let id = blake3::Hash::from(self.content).to_hex();
        format!("weight {}… {}{:?}", id.get(..12).unwrap_or_default(), self.dtype, self.dims)
    }

    fn byte_len(&self) -> Option<usize> {
        kiln_ir::tensor::element_count(&self.dims)?.checked_mul(self.dtype.size())
    }

    /// The weight's tensor, compared with its content id.
    pub(crate) fn tensor(&self, section: &Bytes) -> Result<Tensor, ArtifactError> {
        let damaged = |reason: &dyn ToString| ArtifactError::damaged(self.name(), reason.to_string());
        let part = |offset: usize, len: usize| {
            let end = offset.checked_add(len).filter(|&end| end <= section.len());
            end.map(|end| section.slice(offset..end)).ok_or_else(|| damaged(&"lies outside the weight section"))
        };
        let bytes = match &self.stored {
            Stored::Plain { offset } => part(*offset, self.byte_len().unwrap_or(usize::MAX))?,
            Stored::Packed { offset, len, relayout } => {
                let elements = kiln_ir::tensor::element_count(&self.dims).unwrap_or(usize::MAX);
                let plain = relayout.unpack(&part(*offset, *len)?, self.dtype.size(), elements);
                Bytes::from(plain.map_err(|e| damaged(&e))?)
            }
        };
        let tensor = Tensor::from_bytes(self.dtype, &self.dims, bytes).map_err(|e| damaged(&e))?;
        if *tensor.content_id().as_bytes() != self.content {
            return Err(damaged(&"its contents are not those that were saved"));
        }
        Ok(tensor)
    }
}
