//! Index expressions: affine in loop variables, plus values known only at run time.

use std::ops::{Add, AddAssign, Mul, Neg, Sub};

use super::kernel::Value;

/// A loop variable. It counts from 0 to one less than its loop's extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Var(pub u32);

/// A run-time summand of an index: `value * stride`, with `value` an `i64` scalar in `0..extent`.
///
/// Who builds the kernel guarantees the range (by clamping); the verifier's bounds check assumes it, and the
/// interpreter checks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dynamic {
    /// The `i64` scalar.
    pub value: Value,
    /// Its factor.
    pub stride: i64,
    /// One more than the largest value it takes.
    pub extent: i64,
}

/// `Σ variable · stride + Σ value · stride + offset`, in elements of the buffer it indexes.
///
/// Variables are sorted and have non-zero strides, so that equal expressions are equal values.
/// Arithmetic on strides wraps; the verifier refuses indices outside the buffer long before that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Index {
    /// Loop variables and their strides, sorted by variable, no stride zero.
    pub terms: Vec<(Var, i64)>,
    /// Run-time summands.
    pub dynamic: Vec<Dynamic>,
    /// The constant.
    pub offset: i64,
}

impl Index {
    /// A constant index.
    pub fn constant(offset: i64) -> Index {
        Index { offset, ..Index::default() }
    }

    /// A run-time index: `value` is an `i64` scalar that the kernel keeps in `0..extent`.
    pub fn dynamic(value: Value, extent: i64) -> Index {
        Index { dynamic: vec![Dynamic { value, stride: 1, extent }], ..Index::default() }
    }

    /// The row-major index of `position` in an array of extents `dims`.
    ///
    /// Positions beyond `dims` (or missing ones) count as index 0 of extent 1.
    pub fn row_major(position: &[Index], dims: &[usize]) -> Index {
        let mut index = Index::default();
        for (at, &dim) in position.iter().zip(dims) {
            index = index * dim as i64 + at;
        }
        index
    }

    /// Calls `visit` on the value of every run-time summand.
    pub fn operands_mut(&mut self, mut visit: impl FnMut(&mut Value)) {
        self.dynamic.iter_mut().for_each(|summand| visit(&mut summand.value));
    }

    /// The stride of a variable, 0 where it does not occur.
    pub fn stride_of(&self, var: Var) -> i64 {
        self.terms.iter().find(|(v, _)| *v == var).map_or(0, |&(_, stride)| stride)
    }

    /// The offset and the terms of variables that are numbers, as `known` says, together.
    pub(crate) fn known_part(&self, known: impl Fn(Var) -> Option<i64>) -> i64 {
        let terms = self.terms.iter().map(|&(var, stride)| known(var).unwrap_or(0).wrapping_mul(stride));
        terms.fold(self.offset, i64::wrapping_add)
    }

    /// The index as a number, where all its variables are numbers and it has no run-time summands.
    pub(crate) fn as_number(&self, known: impl Fn(Var) -> Option<i64>) -> Option<i64> {
        let all = self.dynamic.is_empty() && self.terms.iter().all(|&(var, _)| known(var).is_some());
        all.then(|| self.known_part(known))
    }

    fn add_term(&mut self, var: Var, stride: i64) {
        match self.terms.binary_search_by_key(&var, |&(v, _)| v) {
            Ok(at) => {
                let sum = self.terms[at].1.wrapping_add(stride);
                if sum == 0 {
                    self.terms.remove(at);
                } else {
                    self.terms[at].1 = sum;
                }
            }
            Err(at) if stride != 0 => self.terms.insert(at, (var, stride)),
            Err(_) => {}
        }
    }
}

impl From<Var> for Index {
    fn from(var: Var) -> Index {
        Index { terms: vec![(var, 1)], ..Index::default() }
    }
}

impl From<i64> for Index {
    fn from(offset: i64) -> Index {
        Index::constant(offset)
    }
}

impl From<&Index> for Index {
    fn from(index: &Index) -> Index {
        index.clone()
    }
}

impl AddAssign<&Index> for Index {
    fn add_assign(&mut self, other: &Index) {
        for &(var, stride) in &other.terms {
            self.add_term(var, stride);
        }
        self.dynamic.extend_from_slice(&other.dynamic);
        self.offset = self.offset.wrapping_add(other.offset);
    }
}

impl<T: Into<Index>> Add<T> for Index {
    type Output = Index;
    fn add(mut self, other: T) -> Index {
        self += &other.into();
        self
    }
}

impl<T: Into<Index>> Add<T> for &Index {
    type Output = Index;
    fn add(self, other: T) -> Index {
        self.clone() + other
    }
}

impl<T: Into<Index>> Sub<T> for Index {
    type Output = Index;
    fn sub(self, other: T) -> Index {
        self + -other.into()
    }
}

impl<T: Into<Index>> Sub<T> for &Index {
    type Output = Index;
    fn sub(self, other: T) -> Index {
        self.clone() - other
    }
}

impl Neg for Index {
    type Output = Index;
    fn neg(self) -> Index {
        self * -1
    }
}

impl Mul<i64> for Index {
    type Output = Index;
    fn mul(mut self, factor: i64) -> Index {
        if factor == 0 {
            return Index::default();
        }
        for (_, stride) in &mut self.terms {
            *stride = stride.wrapping_mul(factor);
        }
        for term in &mut self.dynamic {
            term.stride = term.stride.wrapping_mul(factor);
        }
        self.offset = self.offset.wrapping_mul(factor);
        self
    }
}

impl Mul<i64> for &Index {
    type Output = Index;
    fn mul(self, factor: i64) -> Index {
        self.clone() * factor
    }
}

impl<T: Into<Index>> Add<T> for Var {
    type Output = Index;
    fn add(self, other: T) -> Index {
        Index::from(self) + other
    }
}

impl<T: Into<Index>> Sub<T> for Var {
    type Output = Index;
    fn sub(self, other: T) -> Index {
        Index::from(self) - other
    }
}

impl Mul<i64> for Var {
    type Output = Index;
    fn mul(self, factor: i64) -> Index {
        Index::from(self) * factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_expressions_are_equal_values() {
        let (i, j) = (Var(0), Var(1));
        assert_eq!(j * 3 + i * 2 + 1, i + i + j * 3 + 1);
        assert_eq!(i + j - i, Index::from(j));
        let zero = i64::from(i.0);
        assert_eq!((i + 4) * zero, Index::constant(0));
        assert_eq!((i + 4) * 3, i * 3 + 12);
    }

    #[test]
    fn row_major_multiplies_out_the_trailing_extents() {
        let (i, j) = (Var(0), Var(1));
        assert_eq!(Index::row_major(&[i.into(), j + 1, 2.into()], &[5, 7, 3]), i * 21 + j * 3 + 5);
    }
}
