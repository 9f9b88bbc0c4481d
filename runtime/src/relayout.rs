//! Recipes that bring a stored weight into another element order.
//!
//! Compiled code wants weights packed: permuted, split into blocks, padded to whole vectors. The portable graph
//! wants the same elements row-major. Only one of the two is stored, and the other is described by a [`Relayout`]:
//! for every axis of the tensor wanted, how its index is split into digits and how far apart in the stored elements
//! consecutive values of each digit lie.
//!
//! ```text
//!   wanted  w[o][i], 60 × 32              axis o: extent 60, digits (4, stride 512), (16, stride 1)
//!   stored  p[o / 16][i][o % 16]          axis i: extent 32, digits (32, stride 16)
//!           4 × 32 × 16, 4 columns of padding
//! ```
//!
//! An element is wanted at most once, so a recipe never yields more bytes than it reads: a hostile one cannot ask
//! for more memory than the file has.

use serde::{Deserialize, Serialize};

/// How the elements of one tensor lie in other, stored elements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relayout {
    /// Index of the stored element that the wanted tensor's first element is.
    pub base: usize,
    /// One entry per axis of the wanted tensor, outermost first.
    pub axes: Vec<Axis>,
}

/// One axis of the wanted tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axis {
    /// Indices `0..extent`.
    pub extent: usize,
    /// The index in mixed radix, most significant digit first; the digits' extents multiply to at least `extent`.
    pub digits: Vec<Digit>,
}

/// One digit of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digit {
    /// Values the digit takes.
    pub extent: usize,
    /// Stored elements from one value to the next; may be negative (a flipped kernel).
    pub stride: isize,
}

impl Axis {
    /// An axis whose consecutive indices lie `stride` stored elements apart.
    pub fn strided(extent: usize, stride: isize) -> Axis {
        Axis { extent, digits: vec![Digit { extent, stride }] }
    }

    /// An axis cut into blocks of `block` indices.
    pub fn blocked(extent: usize, block: usize, outer_stride: isize, inner_stride: isize) -> Axis {
        let outer = Digit { extent: extent.div_ceil(block.max(1)), stride: outer_stride };
        Axis { extent, digits: vec![outer, Digit { extent: block.max(1), stride: inner_stride }] }
    }

    /// Offset of each index, relative to index 0.
    fn offsets(&self) -> Result<Vec<isize>, RelayoutError> {
        let covered = self.digits.iter().try_fold(1usize, |n, d| n.checked_mul(d.extent));
        if covered.is_none_or(|n| n < self.extent) {
            return Err(RelayoutError::Digits { extent: self.extent });
        }
        let offset = |index: usize| {
            let (mut rest, mut offset) = (index, 0isize);
            for digit in self.digits.iter().rev() {
                let value = isize::try_from(rest.checked_rem(digit.extent)?).ok()?;
                rest = rest.checked_div(digit.extent)?;
                offset = offset.checked_add(value.checked_mul(digit.stride)?)?;
            }
            Some(offset)
        };
        (0..self.extent).map(offset).collect::<Option<_>>().ok_or(RelayoutError::Overflow)
    }
}

/// A recipe that does not fit its stored elements or the tensor wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelayoutError {
    /// The digits of an axis do not cover it.
    #[error("the digits of an axis of extent {extent} do not cover it")]
    Digits {
        /// The axis' extent.
        extent: usize,
    },
    /// An offset does not fit the address space.
    #[error("an offset overflows")]
    Overflow,
    /// An element lies outside what is stored.
    #[error("an element lies at {position}, outside the {stored} stored ones")]
    Outside {
        /// Its index among the stored elements.
        position: isize,
        /// How many there are.
        stored: usize,
    },
    /// More elements are wanted than stored.
    #[error("{wanted} elements are wanted of {stored} stored ones")]
    Expands {
        /// Elements wanted.
        wanted: usize,
        /// Elements stored.
        stored: usize,
    },
}

impl Relayout {
    /// The wanted tensor's bytes, gathered from `stored` elements of `size` bytes each.
    pub fn gather(&self, stored: &[u8], size: usize) -> Result<Vec<u8>, RelayoutError> {
        let count = stored.len().checked_div(size).unwrap_or(0);
        let wanted =
            self.axes.iter().try_fold(1usize, |n, a| n.checked_mul(a.extent)).ok_or(RelayoutError::Overflow)?;
        if wanted > count {
            return Err(RelayoutError::Expands { wanted, stored: count });
        }
        if wanted == 0 {
            return Ok(Vec::new());
        }
        // From here on every extent, and so every table, is at most the number of stored elements.
        let mut tables = self.axes.iter().map(Axis::offsets).collect::<Result<Vec<_>, _>>()?;
        let base = isize::try_from(self.base).map_err(|_| RelayoutError::Overflow)?;
        let (mut least, mut most) = (base, base);
        for table in &tables {
            let (low, high) = (table.iter().min().copied().unwrap_or(0), table.iter().max().copied().unwrap_or(0));
            least = least.checked_add(low).ok_or(RelayoutError::Overflow)?;
            most = most.checked_add(high).ok_or(RelayoutError::Overflow)?;
        }
        let inside = |p: isize| usize::try_from(p).is_ok_and(|p| p < count);
        if let Some(position) = [least, most].into_iter().find(|&p| !inside(p)) {
            return Err(RelayoutError::Outside { position, stored: count });
        }
        let inner = tables.pop().unwrap_or_else(|| vec![0]);
        let mut out = Vec::with_capacity(wanted * size);
        match size {
            1 => collect::<1>(stored, base, &tables, &inner, &mut out),
            2 => collect::<2>(stored, base, &tables, &inner, &mut out),
            4 => collect::<4>(stored, base, &tables, &inner, &mut out),
            _ => collect::<8>(stored, base, &tables, &inner, &mut out),
        }
        Ok(out)
    }
}

/// Appends every element in row-major order: the outer axes by recursion, the innermost in a loop.
fn collect<const SIZE: usize>(stored: &[u8], base: isize, outer: &[Vec<isize>], inner: &[isize], out: &mut Vec<u8>) {
    match outer {
        [first, rest @ ..] => first.iter().for_each(|o| collect::<SIZE>(stored, base + o, rest, inner, out)),
        [] => {
            let (elements, _) = stored.as_chunks::<SIZE>();
            let element = |o: &isize| elements.get((base + o).unsigned_abs()).copied().unwrap_or([0; SIZE]);
            out.extend(inner.iter().flat_map(element));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_blocked_and_padded_matrix_comes_back_row_major() {
        let (rows, columns, block) = (60usize, 32usize, 16usize);
        let mut packed = vec![0u16; rows.next_multiple_of(block) * columns];
        for o in 0..rows {
            for i in 0..columns {
                packed[(o / block * columns + i) * block + o % block] = (o * columns + i) as u16;
            }
        }
        let bytes: Vec<u8> = packed.iter().flat_map(|v| v.to_le_bytes()).collect();
        let recipe = Relayout {
            base: 0,
            axes: vec![
                Axis::blocked(rows, block, (columns * block) as isize, 1),
                Axis::strided(columns, block as isize),
            ],
        };
        let plain = recipe.gather(&bytes, 2).unwrap();
        let expected: Vec<u8> = (0..(rows * columns) as u16).flat_map(u16::to_le_bytes).collect();
        assert_eq!(plain, expected);
    }

    #[test]
    fn negative_strides_flip_and_a_scalar_needs_no_axis() {
        let flip = Relayout { base: 3, axes: vec![Axis::strided(4, -1)] };
        assert_eq!(flip.gather(&[1, 2, 3, 4], 1).unwrap(), [4, 3, 2, 1]);
        let scalar = Relayout { base: 1, axes: vec![] };
        assert_eq!(scalar.gather(&[1, 2, 3, 4], 2).unwrap(), [3, 4]);
    }

    #[test]
    fn a_recipe_that_leaves_its_source_is_refused() {
        let gather = |base, axes| Relayout { base, axes }.gather(&[0; 8], 1).unwrap_err();
        assert_eq!(gather(0, vec![Axis::strided(9, 0)]), RelayoutError::Expands { wanted: 9, stored: 8 });
        assert_eq!(gather(1, vec![Axis::strided(8, 1)]), RelayoutError::Outside { position: 8, stored: 8 });
        assert_eq!(gather(0, vec![Axis::strided(2, -1)]), RelayoutError::Outside { position: -1, stored: 8 });
        assert_eq!(gather(usize::MAX, vec![]), RelayoutError::Overflow);
        assert_eq!(gather(0, vec![Axis::strided(3, isize::MAX)]), RelayoutError::Overflow);
        let short = Axis { extent: 5, digits: vec![Digit { extent: 2, stride: 1 }, Digit { extent: 2, stride: 2 }] };
        assert_eq!(gather(0, vec![short]), RelayoutError::Digits { extent: 5 });
    }

    #[test]
    fn a_huge_axis_beside_an_empty_one_allocates_nothing() {
        let recipe = Relayout { base: 0, axes: vec![Axis::strided(0, 1), Axis::strided(1 << 60, 1)] };
        assert_eq!(recipe.gather(&[0; 8], 1), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn any_recipe_gives_bytes_or_an_error(
            base in 0usize..20,
            axes in prop::collection::vec(
                (0usize..6, prop::collection::vec((0usize..6, -9isize..9), 0..4)), 0..4),
            size in prop::sample::select(vec![1usize, 2, 4, 8]),
        ) {
            let digits = |list: Vec<(usize, isize)>| list.into_iter().map(|(extent, stride)| Digit { extent, stride }).collect();
            let axes: Vec<Axis> = axes.into_iter().map(|(extent, d)| Axis { extent, digits: digits(d) }).collect();
            let wanted: usize = axes.iter().map(|a| a.extent).product();
            if let Ok(bytes) = (Relayout { base, axes }).gather(&[7; 160], size) {
                prop_assert_eq!(bytes, vec![7; wanted * size]);
            }
        }
    }
}
