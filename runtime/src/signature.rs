//! What a compiled program takes and gives: names, dtypes, extents, and free-form metadata.

use std::collections::BTreeMap;
use std::fmt;

use kiln_ir::DType;
use serde::{Deserialize, Serialize};

/// Name, element type and static extents of one input, output or state variable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TensorSpec {
    /// Name by which callers bind it.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extents, outermost first.
    pub dims: Vec<usize>,
}

impl TensorSpec {
    /// A spec from its parts.
    pub fn new(name: impl Into<String>, dtype: DType, dims: impl Into<Vec<usize>>) -> TensorSpec {
        TensorSpec { name: name.into(), dtype, dims: dims.into() }
    }

    /// Bytes the tensor takes, or `None` where that overflows `usize`.
    pub fn byte_len(&self) -> Option<usize> {
        kiln_ir::tensor::element_count(&self.dims)?.checked_mul(self.dtype.size())
    }
}

impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}{:?}", self.name, self.dtype, self.dims)
    }
}

/// The interface of a compiled program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Inputs, in the order in which positional feeds bind.
    pub inputs: Vec<TensorSpec>,
    /// Outputs, in the order in which results come back.
    pub outputs: Vec<TensorSpec>,
    /// Free-form facts about the program (model name, source, preprocessing …), sorted by key.
    pub metadata: BTreeMap<String, String>,
}

impl Signature {
    /// Position of the input called `name`.
    pub fn input_index(&self, name: &str) -> Option<usize> {
        self.inputs.iter().position(|s| s.name == name)
    }

    /// Position of the output called `name`.
    pub fn output_index(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|s| s.name == name)
    }
}
