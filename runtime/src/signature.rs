//! What a compiled program takes and gives: names, dtypes, extents, and free-form metadata.

use std::collections::BTreeMap;
use std::fmt;

use kiln_ir::{DType, Graph, TensorType};
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

/// A graph whose extents are not all numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the graph's extents {} are not bound: give each a number before compiling", symbols.join(", "))]
pub struct UnboundError {
    /// The named extents.
    pub symbols: Vec<String>,
}

impl Signature {
    /// The interface of `graph`, whose extents are numbers.
    pub fn of(graph: &Graph) -> Result<Signature, UnboundError> {
        let unbound = || UnboundError { symbols: graph.symbols() };
        let spec = |name: &str, ty: &TensorType| {
            ty.static_dims().map(|dims| TensorSpec::new(name, ty.dtype, dims)).ok_or_else(unbound)
        };
        let outputs = graph.outputs().iter().map(|(name, value)| spec(name, graph.ty(*value)));
        Ok(Signature {
            inputs: graph.input_types().map(|(name, ty)| spec(name, ty)).collect::<Result<_, _>>()?,
            outputs: outputs.collect::<Result<_, _>>()?,
            metadata: graph.metadata().clone(),
        })
    }

    /// Position of the input called `name`.
    pub fn input_index(&self, name: &str) -> Option<usize> {
        self.inputs.iter().position(|s| s.name == name)
    }

    /// Position of the output called `name`.
    pub fn output_index(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|s| s.name == name)
    }
}
