//! Dense tensors: constants, feeds and results.

use std::fmt;

use bytes::Bytes;
use half::{bf16, f16};

use crate::dtype::DType;
use crate::narrow::{bf16_from_f64, f16_from_f64};

/// A dense, row-major tensor with static extents. Cloning shares the bytes.
///
/// The bytes may be owned, or a view into something else that lives long enough (a mapped file):
/// `Bytes` counts the references. Elements are little-endian.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    dtype: DType,
    dims: Vec<usize>,
    bytes: Bytes,
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

/// Number of elements, or `None` where the product overflows `usize`.
pub fn element_count(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

impl Tensor {
    /// A tensor over raw little-endian bytes. A `bool` byte other than 0 counts as true.
    pub fn from_bytes(dtype: DType, dims: &[usize], bytes: Bytes) -> Result<Tensor, TensorError> {
        let expected = element_count(dims)
            .and_then(|n| n.checked_mul(dtype.size()))
            .ok_or_else(|| TensorError::TooLarge { dtype, dims: dims.to_vec() })?;
        if bytes.len() != expected {
            return Err(TensorError::Length { dtype, dims: dims.to_vec(), expected, found: bytes.len() });
        }
        Ok(Tensor { dtype, dims: dims.to_vec(), bytes })
    }

    /// A tensor of `values` in row-major order.
    pub fn from_slice<T: Element>(dims: &[usize], values: &[T]) -> Result<Tensor, TensorError> {
        let mut bytes = Vec::with_capacity(size_of_val(values));
        for &v in values {
            v.write(&mut bytes);
        }
        Tensor::from_bytes(T::DTYPE, dims, Bytes::from(bytes))
    }

    /// A rank-0 tensor.
    pub fn scalar<T: Element>(value: T) -> Tensor {
        let mut bytes = Vec::with_capacity(T::DTYPE.size());
        value.write(&mut bytes);
        Tensor { dtype: T::DTYPE, dims: Vec::new(), bytes: Bytes::from(bytes) }
    }

    /// A tensor of zero bytes (zero, or false).
    pub fn zeros(dtype: DType, dims: &[usize]) -> Result<Tensor, TensorError> {
        let n = element_count(dims)
            .and_then(|n| n.checked_mul(dtype.size()))
            .ok_or_else(|| TensorError::TooLarge { dtype, dims: dims.to_vec() })?;
        Tensor::from_bytes(dtype, dims, Bytes::from(vec![0; n]))
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
        self.bytes.len() / self.dtype.size()
    }

    /// Whether some extent is 0.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The little-endian bytes, row-major.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The elements, row-major.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>, TensorError> {
        if T::DTYPE != self.dtype {
            return Err(TensorError::DType { expected: T::DTYPE, found: self.dtype });
        }
        Ok(self.bytes.chunks_exact(self.dtype.size()).map(T::read).collect())
    }

    /// Every element converted to f64 (exact but for large i64, which round to nearest).
    pub fn to_f64_vec(&self) -> Vec<f64> {
        fn all<T: Element>(bytes: &[u8], convert: impl Fn(T) -> f64) -> Vec<f64> {
            bytes.chunks_exact(T::DTYPE.size()).map(|b| convert(T::read(b))).collect()
        }
        let b = &self.bytes[..];
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
            DType::I64 => self.bytes.chunks_exact(8).map(i64::read).collect(),
            _ => self.to_f64_vec().into_iter().map(|v| v as i64).collect(),
        }
    }

    /// A tensor of `dtype` from f64 values: floats round to nearest even, integers truncate and
    /// saturate, `bool` is `value != 0`.
    pub fn from_f64(dtype: DType, dims: &[usize], values: &[f64]) -> Result<Tensor, TensorError> {
        let mut out = Vec::with_capacity(values.len() * dtype.size());
        for &v in values {
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
        Tensor::from_bytes(self.dtype, dims, self.bytes.clone())
    }

    /// Content id: BLAKE3 over dtype, extents and bytes. Equal tensors have equal ids.
    pub fn content_id(&self) -> blake3::Hash {
        let mut h = blake3::Hasher::new();
        h.update(self.dtype.name().as_bytes());
        h.update(&(self.dims.len() as u64).to_le_bytes());
        for &d in &self.dims {
            h.update(&(d as u64).to_le_bytes());
        }
        h.update(&self.bytes);
        h.finalize()
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.dims)?;
        if self.len() <= 16 {
            write!(f, " {:?}", self.to_f64_vec())?;
        }
        Ok(())
    }
}
