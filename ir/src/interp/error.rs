//! What can go wrong while interpreting.

use std::fmt;

use super::number::Undefined;
use crate::builder::BuildErrors;
use crate::dtype::DType;
use crate::graph::Location;
use crate::infer::InferError;
use crate::types::TensorType;

/// One node that cannot be evaluated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// A function or constant without meaning in the scalar type.
    #[error(transparent)]
    Undefined(#[from] Undefined),
    /// The op does not take these operands.
    #[error(transparent)]
    Infer(#[from] Box<InferError>),
    /// A composite without a body for these operands.
    #[error(transparent)]
    Body(#[from] BuildErrors),
    /// Extents that are not numbers.
    #[error("{ty} has symbolic extents: bind them first (`specialize`)")]
    Symbolic {
        /// The type.
        ty: TensorType,
    },
    /// A result that memory will not hold.
    #[error("a result of type {ty} does not fit in memory, or has more than 2^32 elements: use smaller extents")]
    TooLarge {
        /// The type.
        ty: TensorType,
    },
    /// The op is no function of its operands alone.
    #[error("`{mnemonic}` depends on feeds or state, so it has no value outside a run")]
    NotConstant {
        /// The op.
        mnemonic: &'static str,
    },
    /// Types and values disagree: the interpreter's own mistake.
    #[error("internal error: {what}; this is a bug in Kiln, please report it with the graph")]
    Bug {
        /// What was found.
        what: &'static str,
    },
}

/// What is wrong with one feed or variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// An input without a feed.
    #[error("input `{name}` is not fed: expected {expected}")]
    Missing {
        /// The input.
        name: String,
        /// Its type.
        expected: TensorType,
    },
    /// A feed for no input.
    #[error("`{name}` is not an input: the inputs are {known}")]
    Unknown {
        /// The feed's name.
        name: String,
        /// The graph's inputs.
        known: String,
    },
    /// Two feeds for one input.
    #[error("input `{name}` is fed twice: feed it once")]
    Twice {
        /// The input.
        name: String,
    },
    /// A feed or a variable's value of another type.
    #[error("{what} `{name}`: expected {expected}{}, found {found}", alternative(.exchange))]
    Type {
        /// `input` or `variable`.
        what: &'static str,
        /// Its name.
        name: String,
        /// Its type.
        expected: TensorType,
        /// The other dtype that would do.
        exchange: Option<DType>,
        /// Type of what was given.
        found: TensorType,
    },
    /// A value that the scalar type cannot hold.
    #[error("{what} `{name}`: {error}")]
    Value {
        /// `input` or `variable`.
        what: &'static str,
        /// Its name.
        name: String,
        /// Why not.
        error: String,
    },
}

fn alternative(exchange: &Option<DType>) -> String {
    exchange.map(|d| format!(" (or {d} elements)")).unwrap_or_default()
}

/// A graph that cannot be run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InterpError {
    /// The graph has symbolic dims.
    #[error("the graph has unbound symbols: bind {} first (`specialize`)", .names.join(", "))]
    Symbolic {
        /// Their names.
        names: Vec<String>,
    },
    /// Everything that is wrong with feeds and state.
    #[error("{}", Lines(.0))]
    Feeds(Vec<FeedError>),
    /// A node that cannot be evaluated.
    #[error("{}`{mnemonic}`{}: {error}", place(.location), called(.name))]
    Node {
        /// The op.
        mnemonic: &'static str,
        /// The node's name.
        name: Option<String>,
        /// Where it comes from.
        location: Option<Location>,
        /// What is wrong.
        error: EvalError,
    },
}

struct Lines<'a>(&'a [FeedError]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, e) in self.0.iter().enumerate() {
            write!(f, "{}{e}", if i > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

fn place(location: &Option<Location>) -> String {
    location.as_ref().map(|l| format!("{l}: ")).unwrap_or_default()
}

fn called(name: &Option<String>) -> String {
    name.as_ref().map(|n| format!(" %{n}")).unwrap_or_default()
}
