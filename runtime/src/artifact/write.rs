//! Writing an artifact: deterministic, and never a half-written file.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;
use kiln_ir::text::{PrintOptions, WeightStore};
use kiln_ir::{Graph, Tensor};

use super::contents::{Native, Stored, WeightEntry, encode};
use super::error::ArtifactError;
use super::layout::{Layout, SectionKind};
use crate::atomic_file::write_atomically;
use crate::code_memory::KernelCode;
use crate::plan::{Buffer, Plan};
use crate::profile::Profile;
use crate::relayout::Relayout;
use crate::signature::Signature;
use crate::weights::{Weights, WeightsBuilder};

/// What goes into an artifact. Leave either half out, but not both.
#[derive(Clone, Debug, Default)]
pub struct Artifact {
    /// Inputs, outputs and metadata.
    pub signature: Signature,
    /// The graph that any machine can compile or interpret.
    pub portable: Option<PortablePart>,
    /// Compiled programs, each for one target.
    pub natives: Vec<NativePart>,
    /// A profile measured when the artifact was made.
    pub profile: Option<Profile>,
}

/// The portable half.
#[derive(Clone, Debug, Default)]
pub struct PortablePart {
    /// The graph as IR text. It names its larger weights by content id.
    pub graph: String,
    /// Every weight the text names, by content id in order.
    pub weights: Vec<PortableWeight>,
}

impl PortablePart {
    /// The portable half of `graph`, which is printed without source locations.
    pub fn of(graph: &Graph) -> PortablePart {
        let mut weights = WeightStore::new();
        let text = kiln_ir::text::print_into(graph, &PrintOptions::default(), &mut weights);
        let weight = |(_, value): (_, &Tensor)| PortableWeight { value: value.clone(), packed: None };
        PortablePart { graph: text, weights: weights.iter().map(weight).collect() }
    }

    /// Says where a native part holds the elements of `plain`, in another order. Every weight with these bytes, of
    /// whatever extents, is stored only there; returns how many there are.
    pub fn pack(&mut self, plain: &Tensor, place: &PackedWeight) -> usize {
        let same = |w: &&mut PortableWeight| w.value.dtype() == plain.dtype() && w.value.bytes() == plain.bytes();
        self.weights.iter_mut().filter(same).map(|w| w.packed = Some(place.clone())).count()
    }
}

/// A weight of the portable half.
#[derive(Clone, Debug)]
pub struct PortableWeight {
    /// Its value.
    pub value: Tensor,
    /// Where a native part may hold the same elements in another order. Compared when written: where the elements
    /// found there are not the value, bit for bit, the value is stored by itself.
    pub packed: Option<PackedWeight>,
}

/// Where the elements of a portable weight lie in the weights of a native part.
#[derive(Clone, Debug)]
pub struct PackedWeight {
    /// Index into [`Artifact::natives`].
    pub native: usize,
    /// First byte in that part's weight section.
    pub offset: usize,
    /// Bytes there.
    pub len: usize,
    /// How these elements were taken from the portable ones.
    pub relayout: Relayout,
}

/// A native half: a program compiled for one target.
#[derive(Clone, Debug)]
pub struct NativePart {
    /// Target triple, such as `x86_64-unknown-linux-gnu`.
    pub triple: String,
    /// CPU features that the code needs, by LLVM's names ([`crate::cpu`]).
    pub features: BTreeSet<String>,
    /// The execution plan; its signature is the artifact's.
    pub plan: Plan,
    /// The kernels.
    pub code: KernelCode,
    /// The weight section the plan refers to.
    pub weights: Weights,
}

/// An artifact ready to be written: header, and every section as a list of pieces.
struct Encoded {
    layout: Layout,
    sections: Vec<Vec<Bytes>>,
}

impl Artifact {
    /// The artifact's bytes. The same contents give the same bytes.
    pub fn to_bytes(&self) -> Result<Bytes, ArtifactError> {
        let encoded = self.encode()?;
        let mut out = Vec::with_capacity(encoded.layout.total());
        encoded.write(&mut out).map_err(|e| ArtifactError::Inconsistent(e.to_string()))?;
        Ok(Bytes::from(out))
    }

    /// Writes the artifact to `path`, whole or not at all: to a temporary name beside it, which is flushed to the
    /// disk and renamed. A process that has the old file mapped keeps the old contents.
    pub fn write(&self, path: &Path) -> Result<(), ArtifactError> {
        let encoded = self.encode()?;
        let failed = |action, source| ArtifactError::Io { action, path: path.to_owned(), source };
        write_atomically(path, failed, |out| encoded.write(out).map_err(|e| failed("write", e)))
    }

    fn encode(&self) -> Result<Encoded, ArtifactError> {
        if self.portable.is_none() && self.natives.is_empty() {
            return Err(ArtifactError::Inconsistent("it has neither a portable nor a native half".to_owned()));
        }
        let mut weights = WeightsBuilder::new();
        let mut natives = Vec::with_capacity(self.natives.len());
        for part in &self.natives {
            if part.plan.signature != self.signature {
                return Err(ArtifactError::Inconsistent(format!("the plan for {} has another signature", part.triple)));
            }
            if part.plan.kernel_count != part.code.kernels().len() {
                return Err(ArtifactError::Inconsistent(format!("the plan for {} has other kernels", part.triple)));
            }
            part.plan.validate().map_err(crate::ExecutableError::from)?;
            natives.push((rebase(part, &mut weights)?, Bytes::copy_from_slice(part.code.bytes())));
        }
        let portable = match &self.portable {
            Some(part) => {
                let entries = part.weights.iter().map(|w| self.entry(w, &natives, &mut weights));
                let index: Vec<WeightEntry> = entries.collect();
                Some((Bytes::copy_from_slice(part.graph.as_bytes()), Bytes::from(encode(&index)?)))
            }
            None => None,
        };
        let weights = weights.finish();
        let mut sections = vec![(SectionKind::Signature, vec![Bytes::from(encode(&self.signature)?)])];
        if let Some((graph, index)) = portable {
            sections.extend([(SectionKind::Graph, vec![graph]), (SectionKind::WeightIndex, vec![index])]);
        }
        for ((mut native, _), code) in natives {
            native.plan.weight_bytes = weights.len();
            let native = Bytes::from(encode(&native)?);
            sections.extend([(SectionKind::Native, vec![native]), (SectionKind::Code, vec![code])]);
        }
        if let Some(profile) = &self.profile {
            sections.push((SectionKind::Profile, vec![Bytes::from(encode(profile)?)]));
        }
        sections.push((SectionKind::Weights, pieces(&weights)));
        let contents: Vec<_> = sections
            .iter()
            .map(|(kind, pieces)| {
                let mut hasher = blake3::Hasher::new();
                for piece in pieces {
                    hasher.update(piece);
                }
                (*kind, pieces.iter().map(Bytes::len).sum(), *hasher.finalize().as_bytes())
            })
            .collect();
        let layout = Layout::new(concat!("kiln ", env!("CARGO_PKG_VERSION")), &contents)?;
        Ok(Encoded { layout, sections: sections.into_iter().map(|(_, pieces)| pieces).collect() })
    }

    /// How a portable weight is stored: as what is there already (plain or packed), or by itself.
    fn entry(
        &self,
        weight: &PortableWeight,
        natives: &[((Native, Moves), Bytes)],
        weights: &mut WeightsBuilder,
    ) -> WeightEntry {
        let value = &weight.value;
        let stored = match self.packed(weight, natives) {
            Some(stored) => stored,
            None => Stored::Plain { offset: weights.push(value.bytes().clone()) },
        };
        let (dtype, dims) = (value.dtype(), value.dims().to_vec());
        WeightEntry { content: *value.content_id().as_bytes(), dtype, dims, stored }
    }

    fn packed(&self, weight: &PortableWeight, natives: &[((Native, Moves), Bytes)]) -> Option<Stored> {
        let packed = weight.packed.as_ref()?;
        let stored = self.natives.get(packed.native)?.weights.get(packed.offset, packed.len)?;
        let found = packed.relayout.unpack(stored, weight.value.dtype().size(), weight.value.len()).ok()?;
        let ((_, moves), _) = natives.get(packed.native)?;
        let offset =
            moves.new_offset(packed.offset).filter(|_| !found.is_empty() && found == weight.value.bytes()[..])?;
        Some(Stored::Packed { offset, len: packed.len, relayout: packed.relayout.clone() })
    }
}

/// Where the segments of a native part's weights went in the common section: (old offset, new offset, length).
struct Moves(Vec<(usize, usize, usize)>);

impl Moves {
    fn new_offset(&self, old: usize) -> Option<usize> {
        let after = self.0.partition_point(|&(start, _, _)| start <= old);
        let &(start, new, len) = self.0.get(after.checked_sub(1)?)?;
        (old - start <= len).then_some(new + (old - start))
    }
}

/// Merges a native part's weights into the common section and points its plan there.
fn rebase(part: &NativePart, weights: &mut WeightsBuilder) -> Result<(Native, Moves), ArtifactError> {
    let segments = part.weights.segments().iter();
    let moves = Moves(segments.map(|s| (s.offset, weights.push(s.bytes.clone()), s.bytes.len())).collect());
    let mut plan = part.plan.clone();
    let lost = |offset: usize| ArtifactError::Inconsistent(format!("no weight lies at offset {offset} of its section"));
    let moved = |offset: usize, len: usize| match len {
        0 => Ok(0),
        _ => part.weights.get(offset, len).and_then(|_| moves.new_offset(offset)).ok_or_else(|| lost(offset)),
    };
    for buffer in &mut plan.buffers {
        if let Buffer::Weight { offset, len } = buffer {
            *offset = moved(*offset, *len)?;
        }
    }
    for state in &mut plan.states {
        state.initial = moved(state.initial, state.spec.byte_len().unwrap_or(0))?;
    }
    let (triple, features) = (part.triple.clone(), part.features.clone());
    Ok((Native { triple, features, plan, kernels: part.code.kernels().to_vec() }, moves))
}

/// The weight section as pieces, with the zeros between its segments.
fn pieces(weights: &Weights) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut at = 0;
    for segment in weights.segments() {
        pieces.push(zeros(segment.offset - at));
        pieces.push(segment.bytes.clone());
        at = segment.offset + segment.bytes.len();
    }
    pieces
}

/// Fewer than 64 zeros: what aligns the next thing.
fn zeros(count: usize) -> Bytes {
    const ZEROS: [u8; crate::plan::ALIGNMENT] = [0; crate::plan::ALIGNMENT];
    Bytes::from_static(ZEROS.get(..count).unwrap_or(&ZEROS))
}

impl Encoded {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let header = self.layout.encode();
        out.write_all(&header)?;
        let mut at = header.len();
        for (section, pieces) in self.layout.sections.iter().zip(&self.sections) {
            out.write_all(&zeros(section.offset - at))?;
            pieces.iter().try_for_each(|piece| out.write_all(piece))?;
            at = section.offset + section.len;
        }
        Ok(())
    }
}
