//! Reordering of weights at compile time.

use bytes::Bytes;
use kiln_ir::Tensor;
use kiln_runtime::Relayout;

/// A reordering: pieces one after another, each a nest of loops over the source, innermost last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Packing {
    /// The pieces.
    pub pieces: Vec<Piece>,
}

/// A dense run of the destination.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Piece {
    /// First source element.
    pub start: i64,
    /// Extent and source stride of each loop, in elements; innermost last.
    pub loops: Vec<(i64, i64)>,
}

impl Piece {
    fn len(&self) -> usize {
        self.loops.iter().map(|&(extent, _)| extent as usize).product()
    }
}

impl Packing {
    /// Elements of the result.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Piece::len).sum()
    }

    /// Whether nothing is taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same, as artifacts describe it: they store packed weights only and bring the plain ones back.
    pub fn relayout(&self) -> Relayout {
        let piece = |p: &Piece| kiln_runtime::Piece {
            start: p.start as usize,
            loops: p.loops.iter().map(|&(extent, stride)| (extent as usize, stride as isize)).collect(),
            padding: 0,
        };
        Relayout { pieces: self.pieces.iter().map(piece).collect() }
    }

    /// The elements of `tensor` in the new order. Elements outside the tensor (a fault of the lowering) are left out.
    pub fn apply(&self, tensor: &Tensor) -> Bytes {
        let source = &tensor.bytes()[..];
        let size = tensor.dtype().size();
        let mut out = Vec::with_capacity(self.len() * size);
        for piece in &self.pieces {
            match size {
                1 => gather::<1>(&mut out, source, piece.start, &piece.loops),
                2 => gather::<2>(&mut out, source, piece.start, &piece.loops),
                4 => gather::<4>(&mut out, source, piece.start, &piece.loops),
                _ => gather::<8>(&mut out, source, piece.start, &piece.loops),
            }
        }
        Bytes::from(out)
    }
}

fn gather<const SIZE: usize>(out: &mut Vec<u8>, source: &[u8], start: i64, loops: &[(i64, i64)]) {
    match loops {
        [] => out.extend_from_slice(element::<SIZE>(source, start)),
        &[(extent, 1)] => {
            let from = start as usize * SIZE;
            out.extend_from_slice(source.get(from..from + extent as usize * SIZE).unwrap_or_default());
        }
        &[(extent, stride)] => {
            (0..extent).for_each(|i| out.extend_from_slice(element::<SIZE>(source, start + i * stride)));
        }
        [(extent, stride), rest @ ..] => {
            (0..*extent).for_each(|i| gather::<SIZE>(out, source, start + i * stride, rest));
        }
    }
}

fn element<const SIZE: usize>(source: &[u8], at: i64) -> &[u8] {
    let from = at as usize * SIZE;
    source.get(from..from + SIZE).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_of_columns_follow_one_another() {
        let w = Tensor::from_f64(kiln_ir::DType::I32, &[2, 3], &[0., 1., 2., 3., 4., 5.]).expect("sizes agree");
        let packing = Packing {
            pieces: vec![
                Piece { start: 0, loops: vec![(1, 2), (2, 3), (2, 1)] },
                Piece { start: 2, loops: vec![(2, 3), (1, 1)] },
            ],
        };
        assert_eq!(packing.relayout().pack(w.bytes(), 4), Ok(packing.apply(&w).to_vec()));
        let packed = Tensor::from_bytes(kiln_ir::DType::I32, &[6], packing.apply(&w)).expect("as many elements");
        assert_eq!(packed.to_i64_vec(), [0, 1, 3, 4, 2, 5]);
    }
}
