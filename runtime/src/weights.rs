//! The weight section: read-only bytes that plans refer to by offset.
//!
//! It is either assembled in memory from many tensors (after a compilation) or one range of a mapped file (after a
//! load). Either way it is a list of segments at increasing offsets, each 64-byte aligned in memory, so nothing has
//! to be concatenated and a mapped file is never copied. Equal contents are stored once.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

use bytes::Bytes;

use crate::plan::ALIGNMENT;

/// A weight section, cheap to clone: the bytes are shared.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    segments: Vec<Segment>,
    len: usize,
}

/// One contiguous piece of a weight section.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Offset in the section, a multiple of [`ALIGNMENT`].
    pub offset: usize,
    /// The bytes, aligned to [`ALIGNMENT`] in memory.
    pub bytes: Bytes,
}

impl Weights {
    /// A section that already lies in memory as a whole (a mapped file). Copied only where it is not aligned.
    pub fn from_section(section: Bytes) -> Weights {
        let len = section.len();
        Weights { segments: vec![Segment { offset: 0, bytes: aligned(section) }], len }
    }

    /// Length of the section in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no weights.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, by increasing offset.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The bytes `offset..offset + len`, where one segment holds them all.
    pub fn get(&self, offset: usize, len: usize) -> Option<&[u8]> {
        if len == 0 {
            return (offset <= self.len).then_some(&[]);
        }
        let after = self.segments.partition_point(|s| s.offset <= offset);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        let start = offset - segment.offset;
        segment.bytes.get(start..start.checked_add(len)?)
    }
}

/// Assembles a weight section.
#[derive(Debug, Default)]
pub struct WeightsBuilder {
    weights: Weights,
    by_content: HashMap<[u8; 32], usize>,
}

impl WeightsBuilder {
    /// An empty section.
    pub fn new() -> WeightsBuilder {
        WeightsBuilder::default()
    }

    /// Adds `bytes` and returns their offset. Bytes that are there already are not added again.
    ///
    /// The bytes are shared, not copied, where they are aligned to [`ALIGNMENT`].
    pub fn push(&mut self, bytes: Bytes) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        let offset = self.weights.len.next_multiple_of(ALIGNMENT);
        match self.by_content.entry(*blake3::hash(&bytes).as_bytes()) {
            std::collections::hash_map::Entry::Occupied(there) => *there.get(),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(offset);
                self.weights.len = offset + bytes.len();
                self.weights.segments.push(Segment { offset, bytes: aligned(bytes) });
                offset
            }
        }
    }

    /// Length of the section so far.
    pub fn len(&self) -> usize {
        self.weights.len
    }

    /// Whether nothing has been added.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// The section.
    pub fn finish(self) -> Weights {
        self.weights
    }
}

/// The same bytes at an address that is a multiple of [`ALIGNMENT`]: themselves, or a copy.
pub(crate) fn aligned(bytes: Bytes) -> Bytes {
    if bytes.is_empty() || bytes.as_ptr().addr().is_multiple_of(ALIGNMENT) {
        return bytes;
    }
    let mut copy = AlignedBuffer::zeroed(bytes.len());
    copy.copy_from_slice(&bytes);
    copy.freeze()
}

/// Bytes to be written, at an address that is a multiple of [`ALIGNMENT`]: a weight section takes them as they are.
#[derive(Debug)]
pub struct AlignedBuffer {
    memory: Vec<u8>,
    padding: usize,
}

impl AlignedBuffer {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> AlignedBuffer {
        // The vector is allocated once, at its final size, and never moves: the padding found now stays right.
        let memory = vec![0; len + ALIGNMENT - 1];
        let padding = memory.as_ptr().addr().wrapping_neg() % ALIGNMENT;
        let mut buffer = AlignedBuffer { memory, padding };
        buffer.memory.truncate(padding + len);
        buffer
    }

    /// The bytes, to be shared from now on.
    pub fn freeze(self) -> Bytes {
        Bytes::from(self.memory).slice(self.padding..)
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory[self.padding..]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.padding..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_contents_are_stored_once_and_every_piece_is_aligned() {
        let mut builder = WeightsBuilder::new();
        let big = Bytes::from((0..200u8).collect::<Vec<_>>());
        let a = builder.push(big.clone());
        let b = builder.push(big.slice(1..100));
        let again = builder.push(Bytes::copy_from_slice(&big));
        assert_eq!((a, b, again), (0, 256, 0));
        let weights = builder.finish();
        assert_eq!(weights.len(), 256 + 99);
        assert_eq!(weights.get(256, 99), Some(&big[1..100]));
        assert_eq!(weights.get(256 + 98, 1), Some(&big[99..100]));
        for segment in weights.segments() {
            assert_eq!(segment.bytes.as_ptr().addr() % ALIGNMENT, 0);
        }
    }

    #[test]
    fn a_range_outside_a_segment_is_not_there() {
        let mut builder = WeightsBuilder::new();
        builder.push(Bytes::from_static(&[1; 10]));
        builder.push(Bytes::from_static(&[2; 10]));
        let weights = builder.finish();
        assert_eq!(weights.get(0, 11), None, "the padding between segments belongs to nobody");
        assert_eq!(weights.get(70, 5), None);
        assert_eq!(weights.get(usize::MAX, 2), None);
        assert_eq!(Weights::default().get(0, 1), None);
        assert_eq!(Weights::default().get(0, 0), Some(&[][..]));
    }

    #[test]
    fn a_misaligned_copy_keeps_the_bytes() {
        let bytes = Bytes::from((0..=255u8).collect::<Vec<_>>());
        for start in 0..70 {
            let view = bytes.slice(start..);
            let copy = aligned(view.clone());
            assert_eq!(copy, view);
            assert_eq!(copy.as_ptr().addr() % ALIGNMENT, 0);
        }
    }
}
