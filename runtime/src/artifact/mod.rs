//! Artifacts: a compiled model in one file.
//!
//! ```text
//!   header, section table      magic, version, length, producer, a digest per section
//!   signature                  inputs, outputs, metadata
//!   portable graph             IR text                          ┐ portable half: any machine, safe
//!   weight index               name, content id, where stored   ┘
//!   native plan | native code  one pair per target              ] native half: fast, trusted
//!   profile                    optional
//!   weights                    the bytes of both halves, each stored once
//! ```
//!
//! Either half may be left out. Sections start at multiples of 64, numbers are little-endian, structured contents are
//! in [postcard](https://postcard.jamesmunns.com/wire-format) encoding, and the same contents give the same bytes.
//!
//! # Weights are stored once
//! The weight section holds what *native* code reads, in the order it reads it, so that loading native code touches no
//! weight at all: the section is mapped, and pages come in when kernels first read them. A portable weight whose bytes
//! are the same is an index entry that points there; one that native code has permuted, blocked or padded is an entry
//! with a recipe ([`crate::relayout`]) that brings it back. Only weights that native code has not (folded ones, say)
//! are added. The other way round, storing the portable order and packing at load, would make the file no smaller
//! and every native load read and write all weights: tens of milliseconds per 100 MB, against none. Unpacking costs that
//! only where the portable half is compiled or interpreted, which takes far longer anyway.
//!
//! # Trust
//! - [`inspect`], [`graph_text`], [`read_portable`], [`load`], [`interpret`] are safe for any bytes.
//! - [`load_native`] runs the file's machine code and so is `unsafe`: the caller vouches for the origin. It still compares
//!   everything that code and plan depend on with the digests; weights only on request, because that
//!   means reading them all, and a wrong weight cannot make a kernel leave its buffers.
//! - Digests show damage, not malice: whoever writes a file writes its digests.

mod contents;
mod error;
mod inspect;
mod layout;
mod load;
mod native;
mod write;

pub use error::ArtifactError;
pub use inspect::{
    Digests, NativeSummary, PortableSummary, SectionSummary, Summary, WeightSummary, graph_text, inspect, native_code,
};
pub use layout::{FORMAT_VERSION, SectionKind, is_artifact};
pub use load::{PortableCompiler, PortableModel, interpret, load, read_file, read_portable};
pub use native::{NativeOptions, load_native, load_native_file};
pub use write::{Artifact, NativePart, PackedWeight, PortablePart, PortableWeight};
