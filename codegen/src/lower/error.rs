//! What lowering refuses.

use kiln_ir::Location;

use super::context::MOST_STEPS;
use crate::kir::VerifyErrors;

/// Why a graph was not lowered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LowerError {
    /// Extents that are not numbers yet.
    #[error("the graph has symbolic dims {}: bind them before compiling (`--dim NAME=EXTENT`)", names.join(", "))]
    Symbols {
        /// Their names.
        names: Vec<String>,
    },
    /// A value that no machine can hold.
    #[error("{}`{op}` gives {ty}, which takes more memory than can be addressed: use smaller extents", at(location))]
    TooLarge {
        /// The op.
        op: &'static str,
        /// The type.
        ty: String,
        /// Where the node comes from.
        location: Option<Location>,
    },
    /// A loop that is unrolled to more steps than a program may have.
    #[error(
        "{}`{op}` makes a program of {steps} steps, but at most {MOST_STEPS} are compiled: use a shorter sequence, and more runs",
        at(location)
    )]
    TooManySteps {
        /// The op.
        op: &'static str,
        /// Steps of the program with all of the op's.
        steps: usize,
        /// Where the node comes from.
        location: Option<Location>,
    },
    /// An op that compiled programs do not have.
    #[error("{}`{op}` cannot be compiled: {reason}", at(location))]
    Unsupported {
        /// The op.
        op: &'static str,
        /// Why, and what to do.
        reason: String,
        /// Where the node comes from.
        location: Option<Location>,
    },
    /// A variable without a value.
    #[error("variable `{name}`: {reason}")]
    Variable {
        /// The variable.
        name: String,
        /// Why.
        reason: String,
    },
    /// A step whose arguments are not those its kernel takes: a fault of the lowering.
    #[error("step `{step}` does not give its kernel what it takes: this is a bug in Kiln, please report it")]
    Mismatch {
        /// The step.
        step: String,
    },
    /// A kernel that the verifier refuses: a fault of the lowering.
    #[error(transparent)]
    Kernel(#[from] VerifyErrors),
}

fn at(location: &Option<Location>) -> String {
    location.as_ref().map(|l| format!("{l}: ")).unwrap_or_default()
}
