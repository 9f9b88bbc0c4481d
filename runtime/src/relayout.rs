//! Recipes that say how packed elements were taken from a plain tensor, and bring them back.
//!
//! Compiled code wants weights packed: permuted, cut into blocks or panels, padded to whole vectors. The portable
//! graph wants the same elements row-major. Only the packed ones are stored; a [`Relayout`] says, for the packed
//! elements in order, which element of the plain tensor each one is: a few nests of loops with constant strides.
//!
//! ```text
//!   plain   w[k][n], 3 × 5                           packed in panels of 2 columns:
//!            0  1  2  3  4                             0 1  5 6  10 11 | 2 3  7 8  12 13 | 4  9  14
//!            5  6  7  8  9
//!           10 11 12 13 14                           piece 1: start 0, loops (2 by 2), (3 by 5), (2 by 1)
//!                                                    piece 2: start 4, loops (3 by 5)
//! ```
//!
//! A plain tensor never has more elements than are packed, so unpacking takes no more memory than the file has,
//! whoever wrote the recipe.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::weights::AlignedBuffer;

/// How packed elements were taken from a plain tensor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Relayout {
    /// Runs of packed elements, one after the other.
    pub pieces: Vec<Piece>,
}

/// A run of packed elements: a nest of loops over the plain tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Piece {
    /// Index of the first plain element taken.
    pub start: usize,
    /// Extent of each loop and plain elements from one iteration to the next; innermost last. No loop takes one
    /// element.
    pub loops: Vec<(usize, isize)>,
    /// Packed elements after these that are none of the plain tensor's.
    pub padding: usize,
}

/// The most loops a piece may have: as each takes two elements or more, more loops would take more elements than can be
/// addressed.
const MOST_LOOPS: usize = usize::BITS as usize;

/// A recipe that does not fit its elements.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelayoutError {
    /// A number overflows.
    #[error("a count or a position overflows")]
    Overflow,
    /// A nest is deeper than any layout needs.
    #[error("a nest of {found} loops: expected at most {MOST_LOOPS}")]
    Loops {
        /// Loops found.
        found: usize,
    },
    /// An element lies outside the plain tensor.
    #[error("a packed element is number {position} of a tensor of {elements}")]
    Outside {
        /// Its index.
        position: isize,
        /// Elements of the plain tensor.
        elements: usize,
    },
    /// The recipe is for another number of packed elements.
    #[error("the recipe is for {expected} packed elements, found {found}")]
    Packed {
        /// Elements of the recipe.
        expected: usize,
        /// Elements there are.
        found: usize,
    },
    /// The plain tensor has elements that are not packed.
    #[error("a tensor of {elements} elements cannot be unpacked from {packed}")]
    Expands {
        /// Elements of the plain tensor.
        elements: usize,
        /// Elements that are packed.
        packed: usize,
    },
}

impl Piece {
    /// Elements taken from the plain tensor.
    fn len(&self) -> Result<usize, RelayoutError> {
        if self.loops.len() > MOST_LOOPS {
            return Err(RelayoutError::Loops { found: self.loops.len() });
        }
        let product = self.loops.iter().try_fold(1usize, |n, &(extent, _)| n.checked_mul(extent));
        product.ok_or(RelayoutError::Overflow)
    }

    /// The lowest and highest plain element taken, of at least one.
    fn bounds(&self) -> Option<(isize, isize)> {
        let start = isize::try_from(self.start).ok()?;
        self.loops.iter().try_fold((start, start), |(low, high), &(extent, stride)| {
            let reach = isize::try_from(extent.checked_sub(1)?).ok()?.checked_mul(stride)?;
            Some((low.checked_add(reach.min(0))?, high.checked_add(reach.max(0))?))
        })
    }
}

impl Relayout {
    /// Number of packed elements, padding included.
    pub fn packed_len(&self) -> Result<usize, RelayoutError> {
        self.pieces.iter().try_fold(0usize, |n, piece| {
            n.checked_add(piece.len()?).and_then(|n| n.checked_add(piece.padding)).ok_or(RelayoutError::Overflow)
        })
    }

    /// Checks every position against a plain tensor of `elements`.
    fn check(&self, elements: usize) -> Result<(), RelayoutError> {
        for piece in &self.pieces {
            if piece.len()? > 0 {
                let (low, high) = piece.bounds().ok_or(RelayoutError::Overflow)?;
                let outside = |p: isize| usize::try_from(p).map_or(true, |p| p >= elements);
                if let Some(position) = [low, high].into_iter().find(|&p| outside(p)) {
                    return Err(RelayoutError::Outside { position, elements });
                }
            }
        }
        Ok(())
    }

    /// Packs a plain tensor with elements of `size` bytes, aligned as a weight section wants it; padding becomes zeros.
    pub fn pack(&self, plain: &[u8], size: usize) -> Result<Bytes, RelayoutError> {
        self.check(plain.len() / size.max(1))?;
        let bytes = self.packed_len()?.checked_mul(size).ok_or(RelayoutError::Overflow)?;
        let mut packed = AlignedBuffer::zeroed(bytes);
        match size {
            1 => self.copy::<1>(plain, &mut packed),
            2 => self.copy::<2>(plain, &mut packed),
            4 => self.copy::<4>(plain, &mut packed),
            _ => self.copy::<8>(plain, &mut packed),
        }
        Ok(packed.freeze())
    }

    /// Gives back the plain tensor of `elements` elements of `size` bytes. Elements that were not packed are zero.
    pub fn unpack(&self, packed: &[u8], size: usize, elements: usize) -> Result<Vec<u8>, RelayoutError> {
        let (expected, found) = (self.packed_len()?, packed.len() / size.max(1));
        if expected != found || !packed.len().is_multiple_of(size.max(1)) {
            return Err(RelayoutError::Packed { expected, found });
        }
        if elements > found {
            return Err(RelayoutError::Expands { elements, packed: found });
        }
        self.check(elements)?;
        let mut plain = vec![0; elements * size];
        match size {
            1 => self.copy_back::<1>(packed, &mut plain),
            2 => self.copy_back::<2>(packed, &mut plain),
            4 => self.copy_back::<4>(packed, &mut plain),
            _ => self.copy_back::<8>(packed, &mut plain),
        }
        Ok(plain)
    }

    fn copy<const SIZE: usize>(&self, plain: &[u8], packed: &mut [u8]) {
        let (plain, packed) = (plain.as_chunks::<SIZE>().0, packed.as_chunks_mut::<SIZE>().0);
        self.for_each_run(|run| {
            let Some(to) = packed.get_mut(run.at..run.at + run.extent) else { return };
            if run.stride == 1 {
                if let Some(from) = plain.get(run.position..run.position + run.extent) {
                    to.copy_from_slice(from);
                }
                return;
            }
            for (to, position) in to.iter_mut().zip(run.positions()) {
                if let Some(from) = plain.get(position) {
                    *to = *from;
                }
            }
        });
    }

    fn copy_back<const SIZE: usize>(&self, packed: &[u8], plain: &mut [u8]) {
        let (packed, plain) = (packed.as_chunks::<SIZE>().0, plain.as_chunks_mut::<SIZE>().0);
        self.for_each_run(|run| {
            let Some(from) = packed.get(run.at..run.at + run.extent) else { return };
            if run.stride == 1 {
                if let Some(to) = plain.get_mut(run.position..run.position + run.extent) {
                    to.copy_from_slice(from);
                }
                return;
            }
            for (from, position) in from.iter().zip(run.positions()) {
                if let Some(to) = plain.get_mut(position) {
                    *to = *from;
                }
            }
        });
    }

    /// Calls `visit` with every run of packed elements in order. The recipe has been checked.
    fn for_each_run(&self, mut visit: impl FnMut(Run)) {
        let mut at = 0;
        for piece in &self.pieces {
            // An empty loop inside a huge one would take for ever to do nothing.
            if piece.loops.iter().all(|&(extent, _)| extent > 0) {
                nest(&piece.loops, piece.start, &mut at, &mut visit);
            }
            at += piece.padding;
        }
    }
}

/// What the innermost loop of a piece takes.
#[derive(Clone, Copy)]
struct Run {
    /// Index of the first packed element.
    at: usize,
    /// Index of the plain element that it is.
    position: usize,
    /// Elements.
    extent: usize,
    /// Plain elements from one to the next.
    stride: isize,
}

impl Run {
    /// Indices of the plain elements.
    fn positions(self) -> impl Iterator<Item = usize> {
        (0..self.extent as isize).map(move |i| self.position.wrapping_add_signed(i.wrapping_mul(self.stride)))
    }
}

fn nest(loops: &[(usize, isize)], start: usize, at: &mut usize, visit: &mut impl FnMut(Run)) {
    let mut run = |extent, stride| {
        visit(Run { at: *at, position: start, extent, stride });
        *at += extent;
    };
    match loops {
        [] => run(1, 1),
        &[(extent, stride)] => run(extent, stride),
        [(extent, stride), inner @ ..] => {
            let mut position = start;
            for _ in 0..*extent {
                nest(inner, position, at, visit);
                position = position.wrapping_add_signed(*stride);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn piece(start: usize, loops: &[(usize, isize)], padding: usize) -> Piece {
        Piece { start, loops: loops.to_vec(), padding }
    }

    #[test]
    fn panels_with_a_narrow_last_one_come_back_row_major() {
        let panels = Relayout { pieces: vec![piece(0, &[(2, 2), (3, 5), (2, 1)], 0), piece(4, &[(3, 5)], 0)] };
        let plain: Vec<u8> = (0..15).collect();
        let packed = panels.pack(&plain, 1).unwrap();
        assert_eq!(packed[..], [0, 1, 5, 6, 10, 11, 2, 3, 7, 8, 12, 13, 4, 9, 14]);
        assert_eq!(panels.unpack(&packed, 1, 15), Ok(plain));
    }

    #[test]
    fn padding_is_zero_and_skipped_and_strides_may_be_negative() {
        let flipped = Relayout { pieces: vec![piece(2, &[(3, -1)], 1), piece(3, &[], 0)] };
        let plain: Vec<u8> = [10u16, 20, 30, 40].into_iter().flat_map(u16::to_le_bytes).collect();
        let packed = flipped.pack(&plain, 2).unwrap();
        assert_eq!(packed[..], [30, 0, 20, 0, 10, 0, 0, 0, 40, 0]);
        assert_eq!(flipped.unpack(&packed, 2, 4), Ok(plain));
    }

    #[test]
    fn a_recipe_that_does_not_fit_is_refused() {
        let unpack = |loops: &[(usize, isize)], packed: usize, elements| {
            Relayout { pieces: vec![piece(1, loops, 0)] }.unpack(&vec![0; packed], 1, elements).unwrap_err()
        };
        assert_eq!(unpack(&[(8, 1)], 8, 8), RelayoutError::Outside { position: 8, elements: 8 });
        assert_eq!(unpack(&[(8, -1)], 8, 8), RelayoutError::Outside { position: -6, elements: 8 });
        assert_eq!(unpack(&[(8, 1)], 9, 8), RelayoutError::Packed { expected: 8, found: 9 });
        assert_eq!(unpack(&[(8, 0)], 8, 9), RelayoutError::Expands { elements: 9, packed: 8 });
        assert_eq!(unpack(&[(usize::MAX, 0), (2, 0)], 8, 8), RelayoutError::Overflow);
        assert_eq!(unpack(&[(8, isize::MAX)], 8, 8), RelayoutError::Overflow);
        assert_eq!(unpack(&[(1, 0); MOST_LOOPS + 1], 1, 1), RelayoutError::Loops { found: MOST_LOOPS + 1 });
    }

    #[test]
    fn a_huge_loop_around_an_empty_one_does_no_work() {
        let nothing = Relayout { pieces: vec![piece(0, &[(0, 1), (1 << 60, 1)], 0)] };
        assert_eq!(nothing.unpack(&[], 4, 0), Ok(vec![]));
        let nothing = Relayout { pieces: vec![piece(0, &[(1 << 60, 1), (0, 1)], 0)] };
        assert_eq!(nothing.unpack(&[], 4, 0), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn any_recipe_gives_bytes_or_an_error(
            pieces in prop::collection::vec(
                (0usize..20, prop::collection::vec((0usize..5, -9isize..9), 0..4), 0usize..3), 0..4),
            size in prop::sample::select(vec![1usize, 2, 4, 8]),
            elements in 0usize..40,
        ) {
            let pieces = pieces.into_iter().map(|(start, loops, padding)| Piece { start, loops, padding }).collect();
            let recipe = Relayout { pieces };
            let plain = vec![7; elements * size];
            if let Ok(packed) = recipe.pack(&plain, size) {
                prop_assert_eq!(packed.len(), recipe.packed_len().unwrap() * size);
                if let Ok(back) = recipe.unpack(&packed, size, elements) {
                    prop_assert!(back.iter().all(|&b| b == 7 || b == 0));
                }
            }
        }

        #[test]
        fn a_permuted_tensor_comes_back(dims in prop::collection::vec(1usize..5, 3), order in Just(vec![0, 1, 2]).prop_shuffle()) {
            let strides = [dims[1] * dims[2], dims[2], 1];
            let loops = order.iter().map(|&axis| (dims[axis], strides[axis] as isize)).collect();
            let recipe = Relayout { pieces: vec![Piece { start: 0, loops, padding: 0 }] };
            let count: usize = dims.iter().product();
            let plain: Vec<u8> = (0..count as u32).flat_map(u32::to_le_bytes).collect();
            let packed = recipe.pack(&plain, 4).unwrap();
            prop_assert_eq!(recipe.unpack(&packed, 4, count), Ok(plain));
        }
    }
}
