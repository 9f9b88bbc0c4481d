//! Dense tensors: constants, feeds and results.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use half::{bf16, f16};

use crate::dtype::DType;
use crate::narrow::{bf16_from_f64, f16_from_f64};

/// A dense, row-major tensor with static extents. Cloning shares the bytes.
///
/// The bytes may be owned, or a view into something else that lives long enough (a mapped file):
/// `Bytes` counts the references. Elements are little-endian.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    dims: Vec<usize>,
    elements: Elements,
}

#[derive(Clone)]
enum Elements {
    Stored(Bytes),
    Deferred(Arc<Deferred>),
}

type Fill = dyn Fn(&mut [u8]) + Send + Sync;

/// Elements that are worked out when something first reads them.
struct Deferred {
    len: usize,
    fill: Box<Fill>,
    filled: OnceLock<Bytes>,
}

/// Bytes and extents that do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The byte count is not elements × element size.
    #[error("a tensor {dtype}{dims:?} takes {expected} bytes, found {found}")]
    Length {
        /// The dtype asked for.
        dtype: DType,
        /// The extents asked for.
        dims: Vec<usize>,
        /// Bytes that dtype and extents need.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The extents multiply to more than the address space holds.
    #[error("a tensor {dtype}{dims:?} is too large for this machine's address space")]
    TooLarge {
        /// The dtype asked for.
        dtype: DType,
        /// The extents asked for.
        dims: Vec<usize>,
    },
    /// The system refused memory for the elements.
    #[error("cannot get {bytes} bytes for a tensor {dtype}{dims:?}: free memory, or use smaller extents")]
    Memory {
        /// The dtype asked for.
        dtype: DType,
        /// The extents asked for.
        dims: Vec<usize>,
        /// Bytes that were refused.
        bytes: usize,
    },
    /// Elements were asked for as another type.
    #[error("the tensor holds {found} elements, not {expected}")]
    DType {
        /// The dtype of the element type asked for.
        expected: DType,
        /// The tensor's dtype.
        found: DType,
    },
}

/// A Rust type that is the element of a tensor.
pub trait Element: Copy + Send + Sync + fmt::Debug + PartialEq + 'static {
    /// The matching dtype.
    const DTYPE: DType;
    /// Little-endian bytes to value; `bytes` holds exactly `DTYPE.size()` bytes.
    fn read(bytes: &[u8]) -> Self;
    /// Appends the value's little-endian bytes.
    fn write(self, out: &mut Vec<u8>);
}

macro_rules! elements {
    ($($rust:ty => $dtype:ident),*) => {$(
        impl Element for $rust {
            const DTYPE: DType = DType::$dtype;
            fn read(bytes: &[u8]) -> Self {
                let mut raw = [0; size_of::<$rust>()];
                raw.copy_from_slice(bytes);
                <$rust>::from_le_bytes(raw)
            }
            fn write(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
elements!(f64 => F64, f32 => F32, f16 => F16, bf16 => BF16, i64 => I64, i32 => I32, i8 => I8, u8 => U8);

impl Element for bool {
    const DTYPE: DType = DType::Bool;
    fn read(bytes: &[u8]) -> bool {
        bytes.first().is_some_and(|&b| b != 0)
    }
    fn write(self, out: &mut Vec<u8>) {
        out.push(u8::from(self));
    }
}

/// No elements, with room for `n`. Extents decide how much is asked for, so a refusal is an error, not the end.
fn room<T>(n: usize, dtype: DType, dims: &[usize]) -> Result<Vec<T>, TensorError> {
    let mut elements = Vec::new();
    match elements.try_reserve_exact(n) {
        Ok(()) => Ok(elements),
        Err(_) => {
            let bytes = n.saturating_mul(size_of::<T>());
            Err(TensorError::Memory { dtype, dims: dims.to_vec(), bytes })
        }
    }
}

/// Number of elements, or `None` where the product overflows `usize`.
pub fn element_count(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

fn byte_count(dtype: DType, dims: &[usize]) -> Result<usize, TensorError> {
    let bytes = element_count(dims).and_then(|n| n.checked_mul(dtype.size()));
    bytes.ok_or_else(|| TensorError::TooLarge { dtype, dims: dims.to_vec() })
}

impl Tensor {
    /// A tensor over raw little-endian bytes. A `bool` byte other than 0 counts as true.
    pub fn from_bytes(dtype: DType, dims: &[usize], bytes: Bytes) -> Result<Tensor, TensorError> {
        let expected = byte_count(dtype, dims)?;
        if bytes.len() != expected {
            return Err(TensorError::Length { dtype, dims: dims.to_vec(), expected, found: bytes.len() });
        }
        Ok(Tensor { dtype, dims: dims.to_vec(), elements: Elements::Stored(bytes) })
    }

    /// A tensor whose elements are worked out when something first reads them: `fill` gets as many bytes as they take,
    /// of any value, and must write every one, the same ones each time. Copies share what has been worked out.
    pub fn deferred(
        dtype: DType,
        dims: &[usize],
        fill: impl Fn(&mut [u8]) + Send + Sync + 'static,
    ) -> Result<Tensor, TensorError> {
        let len = byte_count(dtype, dims)?;
        // asked for and given back: a size that no memory holds is refused now
        drop(room::<u8>(len, dtype, dims)?);
        let deferred = Deferred { len, fill: Box::new(fill), filled: OnceLock::new() };
        Ok(Tensor { dtype, dims: dims.to_vec(), elements: Elements::Deferred(Arc::new(deferred)) })
    }

    /// A tensor of `values` in row-major order.
    pub fn from_slice<T: Element>(dims: &[usize], values: &[T]) -> Result<Tensor, TensorError> {
        let mut bytes = room(size_of_val(values), T::DTYPE, dims)?;
        for &v in values {
            v.write(&mut bytes);
        }
        Tensor::from_bytes(T::DTYPE, dims, Bytes::from(bytes))
    }

    /// A rank-0 tensor.
    pub fn scalar<T: Element>(value: T) -> Tensor {
        let mut bytes = Vec::with_capacity(T::DTYPE.size());
        value.write(&mut bytes);
        Tensor { dtype: T::DTYPE, dims: Vec::new(), elements: Elements::Stored(Bytes::from(bytes)) }
    }

    /// A tensor of zero bytes (zero, or false).
    pub fn zeros(dtype: DType, dims: &[usize]) -> Result<Tensor, TensorError> {
        let n = byte_count(dtype, dims)?;
        let mut bytes = room(n, dtype, dims)?;
        bytes.resize(n, 0);
        Tensor::from_bytes(dtype, dims, Bytes::from(bytes))
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extents, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.byte_len() / self.dtype.size()
    }

    /// Whether some extent is 0.
    pub fn is_empty(&self) -> bool {
        self.byte_len() == 0
    }

    /// Number of bytes.
    pub fn byte_len(&self) -> usize {
        match &self.elements {
            Elements::Stored(bytes) => bytes.len(),
            Elements::Deferred(deferred) => deferred.len,
        }
    }

    /// The little-endian bytes, row-major. Those of a deferred tensor are worked out now, and kept.
    pub fn bytes(&self) -> &Bytes {
        match &self.elements {
            Elements::Stored(bytes) => bytes,
            Elements::Deferred(deferred) => deferred.filled.get_or_init(|| {
                let mut bytes = vec![0; deferred.len];
                (deferred.fill)(&mut bytes);
                Bytes::from(bytes)
            }),
        }
    }

    /// The bytes, for one look at them: those of a deferred tensor are worked out in `scratch` and not kept.
    pub fn bytes_in<'a>(&'a self, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        match &self.elements {
            Elements::Deferred(deferred) if deferred.filled.get().is_none() => {
                if scratch.len() < deferred.len {
                    scratch.resize(deferred.len, 0);
                }
                let bytes = &mut scratch[..deferred.len];
                (deferred.fill)(bytes);
                bytes
            }
            _ => self.bytes(),
        }
    }

    /// Whether it was made by [`Tensor::deferred`], so that a look at its elements may cost a computation.
    pub fn is_deferred(&self) -> bool {
        matches!(self.elements, Elements::Deferred(_))
    }

    /// Whether both are the same elements in the same memory, or the same elements deferred.
    pub fn shares_elements(&self, other: &Tensor) -> bool {
        match (&self.elements, &other.elements) {
            (Elements::Stored(a), Elements::Stored(b)) => a.as_ptr() == b.as_ptr() && a.len() == b.len(),
            (Elements::Deferred(a), Elements::Deferred(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// Elements `start .. start + n`, or as many of them as there are, as a vector that shares the bytes.
    pub fn span(&self, start: usize, n: usize) -> Tensor {
        let start = start.min(self.len());
        let n = n.min(self.len() - start);
        let size = self.dtype.size();
        Tensor {
            dtype: self.dtype,
            dims: vec![n],
            elements: Elements::Stored(self.bytes().slice(start * size..(start + n) * size)),
        }
    }

    /// The elements, row-major.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>, TensorError> {
        if T::DTYPE != self.dtype {
            return Err(TensorError::DType { expected: T::DTYPE, found: self.dtype });
        }
        let mut elements = room(self.len(), self.dtype, &self.dims)?;
        elements.extend(self.bytes().chunks_exact(self.dtype.size()).map(T::read));
        Ok(elements)
    }

    /// Every element converted to f64 (exact but for large i64, which round to nearest).
    pub fn to_f64_vec(&self) -> Vec<f64> {
        fn all<T: Element>(bytes: &[u8], convert: impl Fn(T) -> f64) -> Vec<f64> {
            bytes.chunks_exact(T::DTYPE.size()).map(|b| convert(T::read(b))).collect()
        }
        let b = &self.bytes()[..];
        match self.dtype {
            DType::F64 => all::<f64>(b, |v| v),
            DType::F32 => all::<f32>(b, f64::from),
            DType::F16 => all::<f16>(b, f64::from),
            DType::BF16 => all::<bf16>(b, f64::from),
            DType::I64 => all::<i64>(b, |v| v as f64),
            DType::I32 => all::<i32>(b, f64::from),
            DType::I8 => all::<i8>(b, f64::from),
            DType::U8 => all::<u8>(b, f64::from),
            DType::Bool => all::<bool>(b, |v| f64::from(u8::from(v))),
        }
    }

    /// Every element converted to i64 (floats truncate towards zero and saturate).
    pub fn to_i64_vec(&self) -> Vec<i64> {
        match self.dtype {
            DType::I64 => self.bytes().chunks_exact(8).map(i64::read).collect(),
            _ => self.to_f64_vec().into_iter().map(|v| v as i64).collect(),
        }
    }

    /// A tensor of `dtype` from f64 values: floats round to nearest even, integers truncate and
    /// saturate, `bool` is `value != 0`.
    pub fn from_f64(dtype: DType, dims: &[usize], values: &[f64]) -> Result<Tensor, TensorError> {
        Tensor::from_f64_iter(dtype, dims, values.iter().copied())
    }

    /// As [`Tensor::from_f64`], of values that need not exist at the same time.
    pub fn from_f64_iter(
        dtype: DType,
        dims: &[usize],
        values: impl Iterator<Item = f64>,
    ) -> Result<Tensor, TensorError> {
        let mut out = room(values.size_hint().0.saturating_mul(dtype.size()), dtype, dims)?;
        for v in values {
            match dtype {
                DType::F64 => v.write(&mut out),
                DType::F32 => (v as f32).write(&mut out),
                DType::F16 => f16_from_f64(v).write(&mut out),
                DType::BF16 => bf16_from_f64(v).write(&mut out),
                DType::I64 => (v as i64).write(&mut out),
                DType::I32 => (v as i32).write(&mut out),
                DType::I8 => (v as i8).write(&mut out),
                DType::U8 => (v as u8).write(&mut out),
                DType::Bool => (v != 0.0).write(&mut out),
            }
        }
        Tensor::from_bytes(dtype, dims, Bytes::from(out))
    }

    /// The same elements in the same order under other extents of the same product.
    pub fn reshape(&self, dims: &[usize]) -> Result<Tensor, TensorError> {
        let (expected, found) = (byte_count(self.dtype, dims)?, self.byte_len());
        if expected != found {
            return Err(TensorError::Length { dtype: self.dtype, dims: dims.to_vec(), expected, found });
        }
        Ok(Tensor { dtype: self.dtype, dims: dims.to_vec(), elements: self.elements.clone() })
    }

    /// Content id: BLAKE3 over dtype, extents and bytes. Equal tensors have equal ids.
    pub fn content_id(&self) -> blake3::Hash {
        let mut h = blake3::Hasher::new();
        h.update(self.dtype.name().as_bytes());
        h.update(&(self.dims.len() as u64).to_le_bytes());
        for &d in &self.dims {
            h.update(&(d as u64).to_le_bytes());
        }
        h.update(self.bytes());
        h.finalize()
    }
}

impl PartialEq for Tensor {
    fn eq(&self, other: &Tensor) -> bool {
        let same_type = self.dtype == other.dtype && self.dims == other.dims;
        same_type && (self.shares_elements(other) || self.bytes() == other.bytes())
    }
}
impl Eq for Tensor {}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.dims)?;
        if self.len() <= 16 && !self.is_deferred() {
            write!(f, " {:?}", self.to_f64_vec())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_for_which_there_is_no_memory_are_an_error() {
        // 2^53 bytes: more than any address space has, and no overflow.
        let dims = [1 << 50];
        let refused = TensorError::Memory { dtype: DType::F64, dims: dims.to_vec(), bytes: 1 << 53 };
        assert_eq!(Tensor::zeros(DType::F64, &dims), Err(refused.clone()));
        let ones = std::iter::repeat_n(1.0, 1 << 50);
        assert_eq!(Tensor::from_f64_iter(DType::F64, &dims, ones), Err(refused.clone()));
        let text = refused.to_string();
        assert!(text.contains("9007199254740992 bytes") && text.contains("f64[1125899906842624]"), "{text}");
    }

    #[test]
    fn deferred_elements_are_worked_out_once_or_in_scratch() {
        let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = calls.clone();
        let t = Tensor::deferred(DType::U8, &[2, 2], move |bytes| {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            bytes.copy_from_slice(&[1, 2, 3, 4]);
        })
        .unwrap();
        let calls = || calls.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!((t.len(), t.byte_len(), t.is_deferred(), calls()), (4, 4, true, 0));
        let mut scratch = vec![9; 7];
        assert_eq!(t.bytes_in(&mut scratch), [1, 2, 3, 4]);
        let row = t.reshape(&[4]).unwrap();
        assert_eq!(t, Tensor::from_slice(&[2, 2], &[1u8, 2, 3, 4]).unwrap());
        assert_eq!(
            (row.bytes()[..].to_vec(), calls()),
            (vec![1, 2, 3, 4], 2),
            "a look did not keep them, a comparison did"
        );
        assert_eq!(t.bytes_in(&mut scratch), [1, 2, 3, 4]);
        assert_eq!(calls(), 2, "known elements are not worked out again");
        let odd = TensorError::Length { dtype: DType::U8, dims: vec![5], expected: 5, found: 4 };
        assert_eq!(t.reshape(&[5]), Err(odd));
    }

    #[test]
    fn a_deferred_tensor_that_no_memory_holds_is_refused_at_once() {
        let refused = Tensor::deferred(DType::F64, &[1 << 50], |_| ()).unwrap_err();
        assert!(matches!(refused, TensorError::Memory { bytes: 9_007_199_254_740_992, .. }), "{refused}");
    }

    #[test]
    fn a_span_is_cut_where_the_elements_end() {
        let t = Tensor::from_slice(&[2, 2], &[1i32, 2, 3, 4]).unwrap();
        let values = |start, n| t.span(start, n).to_vec::<i32>().unwrap();
        assert_eq!((values(1, 2), values(3, 9), values(9, 1)), (vec![2, 3], vec![4], vec![]));
        assert_eq!(t.span(1, 2).dims(), [2]);
    }
}
