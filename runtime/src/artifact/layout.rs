//! The outermost structure of the file: header, section table, sections.
//!
//! ```text
//!   0    magic 8 | version u32 | sections u32 | total length u64 | zero 8
//!   32   producer, UTF-8, padded with zeros to 32
//!   64   BLAKE3 of header and table, with these 32 bytes zero
//!   96   zero 32
//!   128  one entry of 64 bytes per section: kind u32 | zero u32 | offset u64 | length u64 | zero 8 | BLAKE3 32
//!   ...  the sections in table order, each at the next multiple of 64, zeros between
//! ```
//!
//! All numbers are little-endian. Nothing in the file is outside this: the sections follow each other without holes
//! or overlaps, padding is zero, and the file ends with the last one. So every bit of the file is either in a
//! section, whose digest the table holds, or checked when the layout is parsed.

use bytes::Bytes;

use super::error::{ArtifactError, FETCH_AGAIN};
use crate::plan::ALIGNMENT;

/// The first eight bytes. Like PNG's, they break when a transfer treats the file as text.
pub(crate) const MAGIC: [u8; 8] = *b"\x8bKILN\r\n\x1a";
/// The version of the format this crate reads and writes.
pub const FORMAT_VERSION: u32 = 2;
const HEADER: usize = 128;
const ENTRY: usize = 64;
const DIGEST_AT: usize = 64;
const PRODUCER: std::ops::Range<usize> = 32..64;
/// The most sections a file may have: bounds what a hostile header makes us allocate.
const MOST_SECTIONS: usize = 1024;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[repr(u32)]
pub enum SectionKind {
    /// Inputs, outputs and metadata.
    Signature = 1,
    /// The portable graph, as IR text.
    Graph = 2,
    /// Which weights the portable graph has, and how they are stored.
    WeightIndex = 3,
    /// Target, plan and kernel table of one native part.
    Native = 4,
    /// The machine code of the native part before it.
    Code = 5,
    /// A profile measured earlier.
    Profile = 6,
    /// The bytes of all weights.
    Weights = 7,
}

impl SectionKind {
    const ALL: [SectionKind; 7] = [
        SectionKind::Signature,
        SectionKind::Graph,
        SectionKind::WeightIndex,
        SectionKind::Native,
        SectionKind::Code,
        SectionKind::Profile,
        SectionKind::Weights,
    ];

    /// What errors and tables call it.
    pub fn name(self) -> &'static str {
        match self {
            SectionKind::Signature => "signature",
            SectionKind::Graph => "portable graph",
            SectionKind::WeightIndex => "weight index",
            SectionKind::Native => "native plan",
            SectionKind::Code => "native code",
            SectionKind::Profile => "profile",
            SectionKind::Weights => "weights",
        }
    }
}

/// One entry of the section table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) kind: SectionKind,
    pub(crate) offset: usize,
    pub(crate) len: usize,
    pub(crate) digest: [u8; 32],
}

/// Whether `head`, the first bytes of a file, are those of an artifact (of any version).
pub fn is_artifact(head: &[u8]) -> bool {
    head.starts_with(&MAGIC)
}

/// Header and section table of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) producer: String,
    pub(crate) sections: Vec<Section>,
    /// BLAKE3 of header and table, which hold the digests of the sections: it identifies the file's contents.
    pub(crate) digest: [u8; 32],
}

/// A field of the header or table; short input reads as zeros, which the length checks before exclude.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let field = at.checked_add(N).and_then(|end| bytes.get(at..end));
    field.and_then(|f| f.try_into().ok()).unwrap_or([0; N])
}

fn number(bytes: &[u8], at: usize, field: &'static str) -> Result<usize, ArtifactError> {
    let value = u64::from_le_bytes(array(bytes, at));
    let too_large = || ArtifactError::mismatch(field, "a number this machine can address", value, FETCH_AGAIN);
    usize::try_from(value).map_err(|_| too_large())
}

fn header_digest(bytes: &[u8], end: usize) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(bytes.get(..DIGEST_AT).unwrap_or_default());
    hasher.update(&[0; 32]);
    hasher.update(bytes.get(DIGEST_AT + 32..end).unwrap_or_default());
    *hasher.finalize().as_bytes()
}

impl Layout {
    /// Where the sections start that follow a table of `count` entries.
    fn first_section(count: usize) -> usize {
        HEADER + count * ENTRY
    }

    /// Lays out sections of the given kinds, lengths and digests.
    pub(crate) fn new(producer: &str, contents: &[(SectionKind, usize, [u8; 32])]) -> Result<Layout, ArtifactError> {
        if contents.len() > MOST_SECTIONS {
            return Err(ArtifactError::Inconsistent(format!("it has more than {MOST_SECTIONS} sections")));
        }
        if producer.len() > PRODUCER.len() {
            return Err(ArtifactError::Inconsistent(format!(
                "the producer's name is longer than 32 bytes: {producer}"
            )));
        }
        let mut at = Layout::first_section(contents.len());
        let mut sections = Vec::with_capacity(contents.len());
        for &(kind, len, digest) in contents {
            sections.push(Section { kind, offset: at, len, digest });
            at = at
                .checked_add(len)
                .and_then(|end| end.checked_next_multiple_of(ALIGNMENT))
                .ok_or_else(|| ArtifactError::Inconsistent("it is larger than this machine can address".to_owned()))?;
        }
        Ok(Layout { producer: producer.to_owned(), sections, digest: [0; 32] })
    }

    /// Length of the whole file.
    pub(crate) fn total(&self) -> usize {
        self.sections.last().map_or(Layout::first_section(0), |s| s.offset + s.len)
    }

    /// Header and table.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Layout::first_section(self.sections.len()));
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&(self.sections.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.total() as u64).to_le_bytes());
        out.resize(PRODUCER.start, 0);
        out.extend_from_slice(self.producer.as_bytes());
        out.resize(HEADER, 0);
        for section in &self.sections {
            out.extend_from_slice(&(section.kind as u32).to_le_bytes());
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&(section.offset as u64).to_le_bytes());
            out.extend_from_slice(&(section.len as u64).to_le_bytes());
            out.extend_from_slice(&[0; 8]);
            out.extend_from_slice(&section.digest);
        }
        let digest = header_digest(&out, out.len());
        if let Some(field) = out.get_mut(DIGEST_AT..DIGEST_AT + 32) {
            field.copy_from_slice(&digest);
        }
        out
    }

    /// Parses and checks header and table. Reads no section, but the padding between them.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Layout, ArtifactError> {
        let len = bytes.len();
        let mismatch = |field: &str, expected: String, found: String| {
            Err(ArtifactError::mismatch(field, expected, found, FETCH_AGAIN))
        };
        let magic: [u8; 8] = array(bytes, 0);
        if len < MAGIC.len() || magic != MAGIC {
            let found = bytes.get(..len.min(MAGIC.len())).unwrap_or_default().escape_ascii();
            let remedy = "this is no Kiln artifact: compile a model to one first";
            return Err(ArtifactError::mismatch("magic number", MAGIC.escape_ascii(), found, remedy));
        }
        if len < HEADER {
            return mismatch("length", format!("at least {HEADER} bytes"), len.to_string());
        }
        let version = u32::from_le_bytes(array(bytes, 8));
        if version != FORMAT_VERSION {
            let remedy = "compile the model again with this version of Kiln";
            return Err(ArtifactError::mismatch("format version", FORMAT_VERSION, version, remedy));
        }
        let total = number(bytes, 16, "total length")?;
        if total != len {
            return mismatch("length", format!("the {total} bytes its header says"), len.to_string());
        }
        let count = u32::from_le_bytes(array(bytes, 12)) as usize;
        let table_end = Layout::first_section(count.min(MOST_SECTIONS));
        if count > MOST_SECTIONS || table_end > len {
            return mismatch("number of sections", "a table that fits the file".to_owned(), count.to_string());
        }
        let digest: [u8; 32] = array(bytes, DIGEST_AT);
        if digest != header_digest(bytes, table_end) {
            let found = blake3::Hash::from(digest).to_hex().to_string();
            return mismatch("digest of the header", "that of the header's bytes".to_owned(), found);
        }
        let zero = |range: std::ops::Range<usize>| bytes.get(range).is_some_and(|b| b.iter().all(|&b| b == 0));
        if !zero(24..32) || !zero(96..HEADER) {
            return mismatch("reserved bytes of the header", "zeros".to_owned(), "something else".to_owned());
        }
        let producer = bytes.get(PRODUCER).unwrap_or_default();
        let producer = std::str::from_utf8(producer).map(|p| p.trim_end_matches('\0').to_owned());
        let producer = producer.map_err(|e| ArtifactError::damaged("the producer's name", e))?;
        let mut sections = Vec::with_capacity(count);
        let mut end = table_end;
        for index in 0..count {
            let at = HEADER + index * ENTRY;
            let code = u32::from_le_bytes(array(bytes, at));
            let Some(kind) = SectionKind::ALL.into_iter().find(|&k| k as u32 == code) else {
                return mismatch(&format!("kind of section {index}"), "1 to 7".to_owned(), code.to_string());
            };
            let (offset, len) = (number(bytes, at + 8, "section offset")?, number(bytes, at + 16, "section length")?);
            let start = end.next_multiple_of(ALIGNMENT);
            let field = format!("place of section {index} ({})", kind.name());
            if offset != start {
                return mismatch(&field, format!("a start at {start}"), offset.to_string());
            }
            if !zero(end..start) || !zero(at + 4..at + 8) || !zero(at + 24..at + 32) {
                return mismatch(&field, "zeros before it".to_owned(), "something else".to_owned());
            }
            end = match offset.checked_add(len) {
                Some(end) if end <= total => end,
                _ => return mismatch(&field, format!("an end up to {total}"), format!("{len} bytes from {offset}")),
            };
            sections.push(Section { kind, offset, len, digest: array(bytes, at + 32) });
        }
        if end != total {
            return mismatch("end of the last section", total.to_string(), end.to_string());
        }
        Ok(Layout { producer, sections, digest })
    }
}

impl Section {
    /// The section's bytes in `file`, shared with it.
    pub(crate) fn bytes(&self, file: &Bytes) -> Bytes {
        file.slice(self.offset..self.offset + self.len)
    }

    /// Compares the section's bytes with its digest.
    pub(crate) fn verify(&self, file: &[u8]) -> Result<(), ArtifactError> {
        let bytes = file.get(self.offset..self.offset + self.len).unwrap_or_default();
        let found = blake3::hash(bytes);
        if *found.as_bytes() != self.digest {
            let expected = blake3::Hash::from(self.digest).to_hex();
            let field = format!("digest of the {} section", self.kind.name());
            return Err(ArtifactError::mismatch(field, expected, found.to_hex(), FETCH_AGAIN));
        }
        Ok(())
    }
}
