//! Walking an array by strides.

/// Distance between neighbours along each axis of a dense row-major array. Those of an array without elements say
/// nothing, and may wrap.
pub fn row_major(dims: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis].wrapping_mul(dims[axis] as isize);
    }
    strides
}

/// start + Σ index · stride for every index below `dims`, in row-major order.
pub struct Offsets {
    dims: Vec<usize>,
    strides: Vec<isize>,
    index: Vec<usize>,
    at: isize,
    left: usize,
}

impl Offsets {
    /// The offsets; each must be ≥ 0.
    pub fn new(dims: &[usize], strides: &[isize], start: isize) -> Offsets {
        Offsets {
            dims: dims.to_vec(),
            strides: strides.to_vec(),
            index: vec![0; dims.len()],
            at: start,
            // Beside an extent of 0 the others may have any product.
            left: if dims.contains(&0) { 0 } else { dims.iter().product() },
        }
    }
}

impl Iterator for Offsets {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let now = self.at;
        for axis in (0..self.dims.len()).rev() {
            self.index[axis] += 1;
            self.at += self.strides[axis];
            if self.index[axis] < self.dims[axis] {
                break;
            }
            self.at -= self.strides[axis] * self.dims[axis] as isize;
            self.index[axis] = 0;
        }
        Some(now as usize)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

/// `of[i]` for each of `axes`.
pub fn pick<T: Copy>(of: &[T], axes: &[usize]) -> Vec<T> {
    axes.iter().map(|&a| of[a]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_no_axes_are_the_start_alone_and_of_an_empty_axis_none() {
        assert_eq!(Offsets::new(&[], &[], 7).collect::<Vec<_>>(), [7]);
        assert_eq!(Offsets::new(&[3, 0], &[1, 1], 0).count(), 0);
    }

    #[test]
    fn offsets_follow_negative_and_zero_strides() {
        assert_eq!(Offsets::new(&[2, 3], &[0, -1], 2).collect::<Vec<_>>(), [2, 1, 0, 2, 1, 0]);
        assert_eq!(row_major(&[2, 3, 4]), [12, 4, 1]);
    }
}
