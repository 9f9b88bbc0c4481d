//! The value of a `constant`: a tensor compared and hashed by content id.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use crate::attribute::{Attribute, AttributeType};
use crate::tensor::Tensor;

/// A shared tensor whose equality and hash go by its content id, worked out once when first needed.
#[derive(Clone, Debug)]
pub struct Literal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tensor: Tensor,
    id: OnceLock<blake3::Hash>,
}

impl Literal {
    /// The tensor.
    pub fn tensor(&self) -> &Tensor {
        &self.0.tensor
    }

    /// Its content id; see [`Tensor::content_id`].
    pub fn id(&self) -> blake3::Hash {
        *self.0.id.get_or_init(|| self.0.tensor.content_id())
    }
}

impl From<Tensor> for Literal {
    fn from(tensor: Tensor) -> Literal {
        Literal(Arc::new(Inner { tensor, id: OnceLock::new() }))
    }
}

impl PartialEq for Literal {
    fn eq(&self, other: &Literal) -> bool {
        let (a, b) = (self.tensor(), other.tensor());
        Arc::ptr_eq(&self.0, &other.0) || (a.dtype() == b.dtype() && a.dims() == b.dims() && self.id() == other.id())
    }
}
impl Eq for Literal {}
impl Hash for Literal {
    fn hash<H: Hasher>(&self, h: &mut H) {
        self.id().as_bytes().hash(h);
    }
}

impl AttributeType for Literal {
    const EXPECTED: &'static str = "a tensor (the text format writes it in its own way)";
    fn to_attribute(&self) -> Attribute {
        Attribute::Str(self.id().to_hex().to_string())
    }
    fn from_attribute(_: &Attribute) -> Option<Literal> {
        None
    }
}
