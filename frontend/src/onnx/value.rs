//! What a name of the model stands for: a tensor, a sequence of tensors, or an optional without an element.
//!
//! Kiln's graphs know tensors only. How many tensors a sequence has and whether an optional has an element
//! is therefore decided at import: every operator on them becomes a choice among names, and no node of the graph.

use std::fmt;
use std::rc::Rc;

use kiln_ir::DType;

use super::emit::Operand;
use super::error::{NodeError, Result};
use super::narrow::{Narrow, NarrowType};
use super::tensor::onnx_name;

/// A value of the model during import. An optional with an element is that element.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Tensor(Operand),
    /// A tensor of an element type that no dtype of Kiln is.
    Narrow(Narrow),
    Sequence(Sequence),
    /// An optional without an element.
    Absent,
}

/// A list of tensors of one dtype; extents may differ. [`super::emit::Emitter::sequence`] makes them.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    /// `None` of a sequence that was made empty without a dtype.
    pub dtype: Option<DType>,
    pub elements: Rc<[Operand]>,
}

impl Value {
    /// The tensor that input `index` must be.
    pub fn tensor(&self, index: usize) -> Result<&Operand> {
        match self {
            Value::Tensor(operand) => Ok(operand),
            other => Err(NodeError::Kind { index, expected: "a tensor", found: other.to_string() }),
        }
    }

    /// The tensor that this is, or that holds it.
    pub fn held(&self) -> Option<&Operand> {
        match self {
            Value::Tensor(operand) | Value::Narrow(Narrow { held: operand, .. }) => Some(operand),
            Value::Sequence(_) | Value::Absent => None,
        }
    }

    /// Its narrow element type, where it has one.
    pub fn narrow(&self) -> Option<NarrowType> {
        match self {
            Value::Narrow(narrow) => Some(narrow.ty),
            _ => None,
        }
    }

    /// What the model calls the type of its elements, or what it is where it has none.
    pub fn element_type(&self) -> String {
        match self {
            Value::Tensor(operand) => onnx_name(operand.dtype()).to_owned(),
            Value::Narrow(narrow) => narrow.ty.name().to_owned(),
            other => other.to_string(),
        }
    }

    /// A tensor of this narrow type, where there is one.
    pub fn of(narrow: Option<NarrowType>, held: Operand) -> Value {
        match narrow {
            Some(ty) => Value::Narrow(Narrow { ty, held }),
            None => Value::Tensor(held),
        }
    }

    /// The sequence that input `index` must be.
    pub fn sequence(&self, index: usize) -> Result<&Sequence> {
        match self {
            Value::Sequence(sequence) => Ok(sequence),
            other => Err(NodeError::Kind { index, expected: "a sequence", found: other.to_string() }),
        }
    }
}

impl From<Operand> for Value {
    fn from(operand: Operand) -> Value {
        Value::Tensor(operand)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Tensor(operand) => write!(f, "a tensor of extents {:?}", operand.dims()),
            Value::Narrow(narrow) => {
                write!(f, "a tensor of {}, which this operator does not take", narrow.ty.name())
            }
            Value::Sequence(sequence) => write!(f, "a sequence of {} tensors", sequence.elements.len()),
            Value::Absent => f.write_str("an optional without an element"),
        }
    }
}
