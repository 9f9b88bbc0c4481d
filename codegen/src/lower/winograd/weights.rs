//! Filters transformed and packed at compile time.

use bytes::Bytes;
use kiln_runtime::AlignedBuffer;

use super::cook_toom::CookToom;

/// How the filter of a convolution becomes the right operands of one product per frequency.
#[derive(Clone, Debug)]
pub struct FilterTransform {
    /// Along both axes.
    pub transform: CookToom,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Elements of the filter between input channels, output channels, rows and columns of taps.
    pub strides: [usize; 4],
    /// Output channels of a panel.
    pub panel: usize,
}

impl FilterTransform {
    /// Elements of the result.
    pub fn elements(&self) -> usize {
        self.transform.products().pow(2) * self.inputs * self.outputs
    }

    /// The filter (little-endian f32) transformed, in the same form: for each frequency, panels of `panel` output channels
    /// (the last may be narrower), each with a row for every input channel. Computed in f64 and rounded once.
    pub fn apply(&self, filter: &[u8]) -> Bytes {
        let CookToom { r, filter: matrix, .. } = &self.transform;
        let (r, n) = (*r, self.transform.products());
        let (c_count, k_count) = (self.inputs, self.outputs);
        let [cs, ks, hs, ws] = self.strides;
        let source = filter.as_chunks::<4>().0;
        let mut bytes = AlignedBuffer::zeroed(self.elements() * 4);
        let out = bytes.as_chunks_mut::<4>().0;
        // f64 numbers of all output channels, so that the innermost loops are contiguous
        let mut half = vec![0f64; n * r * k_count];
        let mut row = vec![0f64; k_count];
        for c in 0..c_count {
            half.fill(0.0);
            for (i, j) in (0..n).flat_map(|i| (0..r).map(move |j| (i, j))) {
                let to = &mut half[(i * r + j) * k_count..][..k_count];
                for (a, &factor) in matrix[i].iter().enumerate().filter(|(_, f)| **f != 0.0) {
                    let from = c * cs + a * hs + j * ws;
                    to.iter_mut()
                        .enumerate()
                        .for_each(|(k, t)| *t += factor * f64::from(f32::from_le_bytes(source[from + k * ks])));
                }
            }
            for (i, j) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))) {
                row.fill(0.0);
                for (tap, &factor) in matrix[j].iter().enumerate().filter(|(_, f)| **f != 0.0) {
                    let from = &half[(i * r + tap) * k_count..][..k_count];
                    row.iter_mut().zip(from).for_each(|(t, &x)| *t += factor * x);
                }
                let frequency = (i * n + j) * c_count * k_count;
                for first in (0..k_count).step_by(self.panel) {
                    let width = self.panel.min(k_count - first);
                    let at = frequency + first * c_count + c * width;
                    out[at..at + width]
                        .iter_mut()
                        .zip(&row[first..])
                        .for_each(|(to, &x)| *to = (x as f32).to_le_bytes());
                }
            }
        }
        bytes.freeze()
    }
}
