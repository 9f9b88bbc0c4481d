//! What can be wrong with a model, all of it reported at once.

use std::fmt;
use std::path::PathBuf;

use kiln_ir::infer::InferError;
use kiln_ir::{GraphError, TensorError};

use super::tensor::TensorProtoError;

/// Why a model could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file could not be read.
    #[error("cannot read the model `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not an ONNX protobuf.
    #[error("`{file}` is not an ONNX model: {source}")]
    Decode {
        /// The file.
        file: String,
        /// Where decoding stopped.
        source: prost::DecodeError,
    },
    /// The model was read, but cannot become a graph: everything that was found.
    #[error("cannot import `{file}`: {}", listed(problems))]
    Refused {
        /// The file.
        file: String,
        /// Every problem, in the model's order.
        problems: Vec<Problem>,
    },
}

impl ImportError {
    /// Whether the [`super::ImportOptions`] are wrong, whatever else is.
    pub fn is_about_options(&self) -> bool {
        matches!(self, ImportError::Refused { problems, .. } if problems.iter().any(|p| matches!(p, Problem::Option(_))))
    }
}

fn listed(problems: &[Problem]) -> String {
    match problems {
        [only] => only.to_string(),
        all => {
            let lines: String = all.iter().map(|p| format!("\n- {p}")).collect();
            format!("{} problems{lines}", all.len())
        }
    }
}

/// One thing that keeps a model from being imported.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// An extent that only the user can tell.
    #[error("input `{input}`, axis {axis}: the extent {} is not bound; {}", symbol_text(symbol), remedy(input, symbol))]
    UnboundDim {
        /// The input.
        input: String,
        /// The axis.
        axis: usize,
        /// The extent's name, where it has one.
        symbol: Option<String>,
    },
    /// An input that import cannot take.
    #[error("{0}")]
    Signature(String),
    /// An extent or a shape among the [`super::ImportOptions`] that does not fit the model.
    #[error("{0}")]
    Option(String),
    /// An operator that import does not know.
    #[error("operator {} is not supported: {} node{} ({})", qualified(domain, op_type, *opset), nodes.len(), if nodes.len() == 1 { "" } else { "s" }, first_names(nodes))]
    UnsupportedOp {
        /// Its domain; empty for the standard one.
        domain: String,
        /// Its name.
        op_type: String,
        /// The version of its domain's operator set that the model asks for.
        opset: i64,
        /// The nodes that use it.
        nodes: Vec<String>,
    },
    /// A node that cannot be imported as it is.
    #[error("node `{node}` ({op_type}): {error}")]
    Node {
        /// The node's name, or where it is.
        node: String,
        /// Its operator.
        op_type: String,
        /// What is wrong.
        error: NodeError,
    },
    /// A constant that cannot be read.
    #[error(transparent)]
    Constant(#[from] TensorProtoError),
    /// The graph itself is malformed.
    #[error("{0}")]
    Malformed(String),
}

fn symbol_text(symbol: &Option<String>) -> String {
    symbol.as_ref().map_or_else(|| "(unnamed)".to_owned(), |s| format!("`{s}`"))
}

fn remedy(input: &str, symbol: &Option<String>) -> String {
    match symbol {
        Some(s) => format!("bind it with `--dim {s}=…`, or give the whole shape with `--shape {input}=…`"),
        None => format!("give the whole shape with `--shape {input}=…`"),
    }
}

fn qualified(domain: &str, op_type: &str, opset: i64) -> String {
    if domain.is_empty() { format!("`{op_type}` (opset {opset})") } else { format!("`{domain}.{op_type}`") }
}

/// Enough names to find the nodes by, not hundreds.
fn first_names(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text = names.iter().take(SHOWN).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

/// What is wrong with one node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// An attribute of another type or an unusable value.
    #[error("attribute `{name}`: expected {expected}, found {found}")]
    Attribute {
        /// The attribute.
        name: String,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A required attribute that is not there.
    #[error("the attribute `{name}` is missing: expected {expected}")]
    MissingAttribute {
        /// The attribute.
        name: String,
        /// What it must be.
        expected: &'static str,
    },
    /// Attributes that the operator does not have (at the model's opset), or that import does not support.
    #[error("unknown attribute{} {} (opset {opset})", if names.len() == 1 { "" } else { "s" }, names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", "))]
    UnknownAttributes {
        /// The attributes.
        names: Vec<String>,
        /// The version of the operator set.
        opset: i64,
    },
    /// Inputs that the operator does not have.
    #[error("takes at most {expected} inputs, found {found}")]
    TooManyInputs {
        /// Inputs the operator reads.
        expected: usize,
        /// Inputs given.
        found: usize,
    },
    /// A required input that is not there.
    #[error("input {index} ({role}) is missing")]
    MissingInput {
        /// Which input, from 0.
        index: usize,
        /// What it is for.
        role: &'static str,
    },
    /// A sequence or an optional where a tensor belongs, or the other way round.
    #[error("input {index} must be {expected}, found {found}")]
    Kind {
        /// Which input, from 0.
        index: usize,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// An input that decides shapes, but depends on what is fed.
    #[error(
        "input {index} ({role}) must be known at import, but it depends on the graph's inputs, or on more than import works out"
    )]
    NotConstant {
        /// Which input, from 0.
        index: usize,
        /// What it is for.
        role: &'static str,
    },
    /// An input or a combination of settings that the operator does not allow.
    #[error("{0}")]
    Invalid(String),
    /// Something that ONNX allows and import does not.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// A value that no node, input or initializer gives.
    #[error("input `{0}` is not defined before this node")]
    Undefined(String),
    /// A result that import does not compute, used by this node.
    #[error("uses `{value}`, a result of node `{producer}` that is not supported")]
    UnsupportedResult {
        /// The value.
        value: String,
        /// The node that gives it.
        producer: String,
    },
    /// The operands do not fit the op.
    #[error(transparent)]
    Infer(Box<InferError>),
    /// The graph refused the node.
    #[error(transparent)]
    Graph(GraphError),
    /// A constant among the attributes cannot be read.
    #[error(transparent)]
    Constant(#[from] TensorProtoError),
    /// A tensor does not fit its extents.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl From<GraphError> for NodeError {
    fn from(e: GraphError) -> NodeError {
        match e {
            // The location is said by the problem that holds this.
            GraphError::Infer { error, .. } => NodeError::Infer(error),
            other => NodeError::Graph(other),
        }
    }
}

/// What a handler gives.
pub(super) type Result<T> = std::result::Result<T, NodeError>;

/// A [`NodeError::Invalid`].
pub(super) fn invalid<T>(problem: impl fmt::Display) -> Result<T> {
    Err(NodeError::Invalid(problem.to_string()))
}

/// A [`NodeError::Unsupported`].
pub(super) fn unsupported<T>(what: impl fmt::Display) -> Result<T> {
    Err(NodeError::Unsupported(what.to_string()))
}
