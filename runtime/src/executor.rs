//! One running instance of an [`Executable`]: its arena, scratch, states and profile.

use std::sync::Arc;

use bytes::Bytes;
use kiln_ir::interp::InterpError;
use kiln_ir::{Tensor, TensorError};

use crate::call::Frame;
pub use crate::call::MemoryError;
use crate::executable::Executable;
use crate::feeds::{FeedError, by_name, check_tensors, output_buffers, zeroed};
use crate::pool::PoolHandle;
use crate::profile::Profile;
use crate::signature::{Signature, TensorSpec};

/// Runs a compiled program, any number of times, one run at a time.
///
/// All memory is allocated when it is made; [`Executor::run`] allocates nothing, but for aligned copies of slices
/// that are not aligned to their elements, which are made once and kept.
pub struct Executor {
    frame: Frame,
    profile: Option<Profile>,
}

/// What kept a run on tensors from giving results.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RunError {
    /// Inputs or outputs that do not fit the signature.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// A tensor that cannot be made.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The interpreter met something it cannot evaluate.
    #[error(transparent)]
    Interpreter(#[from] InterpError),
    /// A variable the program does not have, or a value that does not fit it.
    #[error("{0}")]
    State(String),
}

impl RunError {
    /// There is no variable `name`.
    pub(crate) fn no_state<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> RunError {
        let known: Vec<_> = known.map(|name| format!("`{name}`")).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        RunError::State(format!(
            "no variable `{name}` is kept from run to run: those that the graph assigns are {known}"
        ))
    }

    /// The variable `spec` cannot hold `value`.
    pub(crate) fn wrong_state(spec: &TensorSpec, value: &Tensor) -> RunError {
        let (dtype, dims) = (value.dtype(), value.dims());
        RunError::State(format!("variable {spec} cannot be set to a tensor {dtype}{dims:?}"))
    }
}

impl Executor {
    /// An instance of `executable` that runs on `pool`.
    pub fn new(executable: Arc<Executable>, pool: PoolHandle) -> Result<Executor, MemoryError> {
        Ok(Executor { frame: Frame::new(executable, pool)?, profile: None })
    }

    /// Runs once, reading `inputs` and writing `outputs` in place: one slice per input and output, in signature
    /// order, of exactly its little-endian row-major bytes. Nothing runs and nothing is written where an error comes
    /// back, which lists all problems.
    pub fn run(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), FeedError> {
        self.frame.run(inputs, outputs, self.profile.as_mut())
    }

    /// Memory for the outputs of [`Executor::run`]: zeros, one buffer each, in signature order.
    pub fn output_buffers(&self) -> Result<Vec<Vec<u8>>, FeedError> {
        output_buffers(self.signature())
    }

    /// Runs once on tensors in signature order and returns the outputs in signature order.
    pub fn run_tensors(&mut self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, RunError> {
        let executable = Arc::clone(self.frame.executable());
        let signature = executable.signature();
        check_tensors(signature, inputs)?;
        let inputs: Vec<&[u8]> = inputs.iter().map(|t| &t.bytes()[..]).collect();
        let mut results = self.output_buffers()?;
        let mut outputs: Vec<&mut [u8]> = results.iter_mut().map(Vec::as_mut_slice).collect();
        self.run(&inputs, &mut outputs)?;
        let tensors = signature.outputs.iter().zip(results);
        tensors.map(|(spec, bytes)| Ok(Tensor::from_bytes(spec.dtype, &spec.dims, Bytes::from(bytes))?)).collect()
    }

    /// Runs once on tensors bound by name, in any order, and returns the outputs with their names.
    pub fn run_named(&mut self, feeds: &[(&str, &Tensor)]) -> Result<Vec<(String, Tensor)>, RunError> {
        let ordered = by_name(self.signature(), feeds)?;
        let results = self.run_tensors(&ordered)?;
        let names = self.signature().outputs.iter().map(|spec| spec.name.clone());
        Ok(names.zip(results).collect())
    }

    /// Inputs, outputs and metadata.
    pub fn signature(&self) -> &Signature {
        self.frame.executable().signature()
    }

    /// The program this runs.
    pub fn executable(&self) -> &Arc<Executable> {
        self.frame.executable()
    }

    /// The pool this runs on.
    pub fn pool(&self) -> &PoolHandle {
        self.frame.pool()
    }

    /// Starts measuring every step of the runs that follow, from zero.
    pub fn enable_profile(&mut self) {
        self.profile = Some(Profile::new(self.frame.executable().plan()));
    }

    /// Stops measuring and returns what was measured.
    pub fn take_profile(&mut self) -> Option<Profile> {
        self.profile.take()
    }

    /// What was measured so far, where that was asked for.
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }

    /// Gives every persistent variable the value it started with.
    pub fn reset_states(&mut self) {
        self.frame.reset_states();
    }

    /// The value of the persistent variable `name`.
    pub fn state(&self, name: &str) -> Result<Tensor, RunError> {
        let (index, spec) = self.state_spec(name)?;
        let mut bytes = zeroed("variable", &spec).map_err(|problem| FeedError { problems: vec![problem] })?;
        if let Some(value) = self.frame.state(index) {
            bytes.copy_from_slice(value);
        }
        Ok(Tensor::from_bytes(spec.dtype, &spec.dims, Bytes::from(bytes))?)
    }

    /// Sets the persistent variable `name`.
    pub fn set_state(&mut self, name: &str, value: &Tensor) -> Result<(), RunError> {
        let (index, spec) = self.state_spec(name)?;
        if value.dtype() != spec.dtype || value.dims() != spec.dims {
            return Err(RunError::wrong_state(&spec, value));
        }
        if let Some(bytes) = self.frame.state_mut(index) {
            bytes.copy_from_slice(value.bytes());
        }
        Ok(())
    }

    fn state_spec(&self, name: &str) -> Result<(usize, TensorSpec), RunError> {
        let states = &self.frame.executable().plan().states;
        let found = states.iter().enumerate().find(|(_, s)| s.spec.name == name);
        let found = found.map(|(index, s)| (index, s.spec.clone()));
        found.ok_or_else(|| RunError::no_state(name, states.iter().map(|s| s.spec.name.as_str())))
    }
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").field("executable", self.frame.executable()).field("pool", self.pool()).finish()
    }
}
