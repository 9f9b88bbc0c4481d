//! Tensor types: a dtype and a list of dims, each a number or a named symbol.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::dtype::DType;
use crate::text::is_word;

/// One extent of a tensor type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    /// A number of elements.
    Fixed(usize),
    /// A named extent, bound by [`specialize`](crate::specialize()). Equal names are equal extents.
    Symbol(Arc<str>),
}

impl Dim {
    /// A symbolic dim.
    pub fn symbol(name: &str) -> Dim {
        Dim::Symbol(Arc::from(name))
    }

    /// The extent, where it is a number.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Dim::Fixed(n) => Some(*n),
            Dim::Symbol(_) => None,
        }
    }

    /// The dim with symbols that `bindings` names replaced by their extents.
    pub fn bind(&self, bindings: &BTreeMap<String, usize>) -> Dim {
        match self {
            Dim::Symbol(name) => bindings.get(&**name).map_or_else(|| self.clone(), |&n| Dim::Fixed(n)),
            Dim::Fixed(_) => self.clone(),
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Dim {
        Dim::Fixed(n)
    }
}

impl From<&str> for Dim {
    fn from(name: &str) -> Dim {
        Dim::symbol(name)
    }
}

impl fmt::Display for Dim {
    /// A symbol that is no word is quoted, as in the text format.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Symbol(name) if is_word(name) => f.write_str(name),
            Dim::Symbol(name) => write!(f, "{name:?}"),
        }
    }
}

/// The type of a value: element type and extents. Rank 0 is a scalar.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Extents, outermost first (row-major).
    pub dims: Vec<Dim>,
}

impl TensorType {
    /// A type with fixed extents.
    pub fn fixed(dtype: DType, dims: &[usize]) -> TensorType {
        TensorType { dtype, dims: dims.iter().copied().map(Dim::Fixed).collect() }
    }

    /// A type of any dims.
    pub fn new(dtype: DType, dims: impl IntoIterator<Item = impl Into<Dim>>) -> TensorType {
        TensorType { dtype, dims: dims.into_iter().map(Into::into).collect() }
    }

    /// Number of dims.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// The extents, where all of them are numbers.
    pub fn static_dims(&self) -> Option<Vec<usize>> {
        self.dims.iter().map(Dim::fixed).collect()
    }

    /// Number of elements, where all extents are numbers and the product fits `usize`.
    pub fn element_count(&self) -> Option<usize> {
        self.dims.iter().try_fold(1usize, |n, d| n.checked_mul(d.fixed()?))
    }

    /// Bytes of a dense tensor of this type, where known and addressable.
    pub fn byte_count(&self) -> Option<usize> {
        self.element_count()?.checked_mul(self.dtype.size())
    }

    /// The names of the symbolic dims, in order of appearance.
    pub fn symbols(&self) -> impl Iterator<Item = &str> {
        self.dims.iter().filter_map(|d| match d {
            Dim::Symbol(name) => Some(&**name),
            Dim::Fixed(_) => None,
        })
    }

    /// The type with symbols that `bindings` names replaced.
    pub fn bind(&self, bindings: &BTreeMap<String, usize>) -> TensorType {
        TensorType { dtype: self.dtype, dims: self.dims.iter().map(|d| d.bind(bindings)).collect() }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, d) in self.dims.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{d}")?;
        }
        f.write_str("]")
    }
}
