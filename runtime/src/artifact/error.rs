//! What can be wrong with an artifact, or keep one from being written.

use std::io;
use std::path::PathBuf;

use kiln_ir::text::ParseErrors;
use kiln_ir::verify::VerifyError;

use crate::executable::ExecutableError;

/// Why an artifact cannot be read, loaded or written.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The system refused to read or write a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes are no artifact of this version, or not one this machine can use.
    #[error("{field}: expected {expected}, found {found}; {remedy}")]
    Mismatch {
        /// What was looked at.
        field: String,
        /// What would have been right.
        expected: String,
        /// What was there.
        found: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A section whose contents do not decode or do not fit the rest.
    #[error("the artifact is damaged: {section}: {reason}; fetch the file again, or compile the model again")]
    Damaged {
        /// The section.
        section: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A half of the artifact that was left out when it was written.
    #[error("the artifact has no {half} half; {remedy}")]
    Absent {
        /// `portable` or `native`.
        half: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// Native code, but none that this machine runs.
    #[error(
        "the artifact has no native code for this machine ({host}):{}; compile it for this machine, or load its portable half where it has one",
        lines(candidates)
    )]
    NoNativeCode {
        /// This machine's target triple.
        host: String,
        /// Every native part, and why it does not run here.
        candidates: Vec<String>,
    },
    /// Plan, kernels and weights that do not go together.
    #[error(transparent)]
    Executable(#[from] ExecutableError),
    /// Memory for code was refused.
    #[error("cannot get executable memory for the kernels: {0}; free memory, or allow this process to map code")]
    CodeMemory(io::Error),
    /// The portable graph's text does not parse.
    #[error("the portable graph does not parse: {0}")]
    Graph(#[from] ParseErrors),
    /// The portable graph breaks invariants of graphs.
    #[error("the portable graph is not valid:{}", lines(.0))]
    Verifier(Vec<VerifyError>),
    /// The portable graph was refused by the compiler.
    #[error("the portable graph does not compile: {0}")]
    Compiler(Box<dyn std::error::Error + Send + Sync>),
    /// What was to be written contradicts itself: a mistake of the program that writes.
    #[error("cannot write this artifact: {0}")]
    Inconsistent(String),
}

fn lines(items: &[impl std::fmt::Display]) -> String {
    items.iter().map(|item| format!("\n  {item}")).collect()
}

/// What to do about a file that is no artifact, or was changed since it was written.
pub(crate) const FETCH_AGAIN: &str = "fetch the file again, or compile the model again";

impl ArtifactError {
    pub(crate) fn damaged(section: impl Into<String>, reason: impl ToString) -> ArtifactError {
        ArtifactError::Damaged { section: section.into(), reason: reason.to_string() }
    }

    pub(crate) fn mismatch(
        field: impl Into<String>,
        expected: impl ToString,
        found: impl ToString,
        remedy: &'static str,
    ) -> ArtifactError {
        ArtifactError::Mismatch {
            field: field.into(),
            expected: expected.to_string(),
            found: found.to_string(),
            remedy,
        }
    }
}
