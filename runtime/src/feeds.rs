//! Checks of what a caller binds: every problem of a run's inputs and outputs, at once.

use std::fmt;

use kiln_ir::{DType, Tensor};

use crate::signature::{Signature, TensorSpec};

/// Everything that is wrong with the inputs and outputs of a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FeedError {
    /// The problems, inputs first.
    pub problems: Vec<FeedProblem>,
}

impl fmt::Display for FeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [only] => write!(f, "{only}"),
            all => {
                write!(f, "{} problems with what the run was given", all.len())?;
                all.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

/// One wrong binding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedProblem {
    /// An input that nothing was bound to.
    #[error("input {0} is missing: feed it")]
    Missing(TensorSpec),
    /// A feed for an input that the program does not have.
    #[error("there is no input `{name}`: remove the feed; the inputs are {known}")]
    Unknown {
        /// The name fed.
        name: String,
        /// What the program has instead, for people.
        known: String,
    },
    /// Two feeds for one input.
    #[error("input `{name}` is fed twice: keep one")]
    Twice {
        /// The name fed.
        name: String,
    },
    /// Another element type than the signature's.
    #[error("input {spec} was fed {found} elements: convert them to {}", spec.dtype)]
    DType {
        /// What the signature says.
        spec: TensorSpec,
        /// What was fed.
        found: DType,
    },
    /// Other extents than the signature's.
    #[error("input {spec} was fed a tensor of {found:?}: reshape it, or compile the model for these extents")]
    Dims {
        /// What the signature says.
        spec: TensorSpec,
        /// What was fed.
        found: Vec<usize>,
    },
    /// Another number of slices than the signature has inputs or outputs.
    #[error("the program has {expected} {what}s, found {found} slices: bind one slice to each, in signature order")]
    Count {
        /// `input` or `output`.
        what: &'static str,
        /// How many the signature has.
        expected: usize,
        /// How many were bound.
        found: usize,
    },
    /// Memory for a whole input or output that the system refused.
    #[error("cannot get {bytes} bytes for {what} {spec}: free memory, or compile for smaller extents")]
    Memory {
        /// `input`, `output` or `variable`.
        what: &'static str,
        /// What the signature says.
        spec: TensorSpec,
        /// How much was asked for.
        bytes: usize,
    },
    /// A slice of the wrong length.
    #[error("{what} {spec} takes {expected} bytes, found a slice of {found}")]
    Bytes {
        /// `input` or `output`.
        what: &'static str,
        /// What the signature says.
        spec: TensorSpec,
        /// Bytes that dtype and extents need.
        expected: usize,
        /// Bytes bound.
        found: usize,
    },
}

/// Zeros for the elements of `spec`. A model decides how many, so a refusal is an error, not the end.
pub(crate) fn zeroed(what: &'static str, spec: &TensorSpec) -> Result<Vec<u8>, FeedProblem> {
    zeros(spec.byte_len().unwrap_or(usize::MAX), what, spec)
}

/// `len` zeros for `spec`.
pub(crate) fn zeros(len: usize, what: &'static str, spec: &TensorSpec) -> Result<Vec<u8>, FeedProblem> {
    let refused = |_| FeedProblem::Memory { what, spec: spec.clone(), bytes: len };
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(refused)?;
    bytes.resize(len, 0);
    Ok(bytes)
}

/// Zeros for every output, in signature order, or all outputs for which there is no memory.
pub(crate) fn output_buffers(signature: &Signature) -> Result<Vec<Vec<u8>>, FeedError> {
    let (mut buffers, mut problems) = (Vec::with_capacity(signature.outputs.len()), Vec::new());
    for spec in &signature.outputs {
        match zeroed("output", spec) {
            Ok(buffer) => buffers.push(buffer),
            Err(problem) => problems.push(problem),
        }
    }
    finish(problems)?;
    Ok(buffers)
}

/// All problems as one error, if there are any.
pub(crate) fn finish(problems: Vec<FeedProblem>) -> Result<(), FeedError> {
    if problems.is_empty() { Ok(()) } else { Err(FeedError { problems }) }
}

/// Checks positional slices. Allocates nothing where all is well.
pub(crate) fn check_slices(signature: &Signature, inputs: &[&[u8]], outputs: &[&mut [u8]]) -> Result<(), FeedError> {
    let mut problems = Vec::new();
    check_lengths("input", &signature.inputs, inputs.iter().map(|b| b.len()), &mut problems);
    check_lengths("output", &signature.outputs, outputs.iter().map(|b| b.len()), &mut problems);
    finish(problems)
}

fn check_lengths(
    what: &'static str,
    specs: &[TensorSpec],
    lengths: impl ExactSizeIterator<Item = usize>,
    problems: &mut Vec<FeedProblem>,
) {
    if lengths.len() != specs.len() {
        problems.push(FeedProblem::Count { what, expected: specs.len(), found: lengths.len() });
    }
    for (spec, found) in specs.iter().zip(lengths) {
        // A plan whose tensors overflow does not pass its verifier.
        let expected = spec.byte_len().unwrap_or(usize::MAX);
        if found != expected {
            problems.push(FeedProblem::Bytes { what, spec: spec.clone(), expected, found });
        }
    }
}

fn check_tensor(spec: &TensorSpec, tensor: &Tensor, problems: &mut Vec<FeedProblem>) {
    if tensor.dtype() != spec.dtype {
        problems.push(FeedProblem::DType { spec: spec.clone(), found: tensor.dtype() });
    }
    if tensor.dims() != spec.dims {
        problems.push(FeedProblem::Dims { spec: spec.clone(), found: tensor.dims().to_vec() });
    }
}

/// Checks positional tensors.
pub(crate) fn check_tensors(signature: &Signature, inputs: &[&Tensor]) -> Result<(), FeedError> {
    let mut problems = Vec::new();
    let (expected, found) = (signature.inputs.len(), inputs.len());
    if found > expected {
        problems.push(FeedProblem::Count { what: "input", expected, found });
    }
    for (index, spec) in signature.inputs.iter().enumerate() {
        match inputs.get(index) {
            Some(tensor) => check_tensor(spec, tensor, &mut problems),
            None => problems.push(FeedProblem::Missing(spec.clone())),
        }
    }
    finish(problems)
}

/// Refuses feeds that are not the inputs of a program with this signature, each once, with everything that is wrong about them.
pub fn check_feeds(signature: &Signature, feeds: &[(&str, &Tensor)]) -> Result<(), FeedError> {
    by_name(signature, feeds).map(drop)
}

/// Brings named feeds into signature order.
pub(crate) fn by_name<'t>(signature: &Signature, feeds: &[(&str, &'t Tensor)]) -> Result<Vec<&'t Tensor>, FeedError> {
    let mut problems = Vec::new();
    let mut bound: Vec<Option<&'t Tensor>> = vec![None; signature.inputs.len()];
    for &(name, tensor) in feeds {
        match signature.input_index(name).and_then(|i| bound.get_mut(i)) {
            None => {
                let known: Vec<_> = signature.inputs.iter().map(|s| format!("`{}`", s.name)).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                problems.push(FeedProblem::Unknown { name: name.to_owned(), known });
            }
            Some(Some(_)) => problems.push(FeedProblem::Twice { name: name.to_owned() }),
            Some(free) => *free = Some(tensor),
        }
    }
    let mut ordered = Vec::with_capacity(bound.len());
    for (spec, tensor) in signature.inputs.iter().zip(bound) {
        match tensor {
            None => problems.push(FeedProblem::Missing(spec.clone())),
            Some(tensor) => {
                check_tensor(spec, tensor, &mut problems);
                ordered.push(tensor);
            }
        }
    }
    finish(problems)?;
    Ok(ordered)
}
