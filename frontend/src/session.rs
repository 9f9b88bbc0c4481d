//! A fired graph with its memory: feeds in, named results out.

use std::sync::Arc;

use kiln_ir::{Element, Graph, Tensor};
use kiln_runtime::{Executable, Executor, MemoryError, PoolHandle, RunError};
use ndarray::ArrayD;

use crate::arrays::{ToTensor, to_array};
use crate::compile::{CompileError, CompileOptions, compile};

/// Runs one compiled graph, any number of times. It cannot be given more nodes: build another graph for that.
#[derive(Debug)]
pub struct Session {
    executor: Executor,
}

/// What kept a session from being made, or a run from giving results.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The graph does not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The arena cannot be allocated.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The feeds do not fit the graph's inputs.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Results that the graph does not have.
    #[error("the graph has no output named {}; its outputs are {}", quoted(.unknown), quoted(.known))]
    Fetch {
        /// What was asked for.
        unknown: Vec<String>,
        /// What there is.
        known: Vec<String>,
    },
    /// A result read as another element type than it has.
    #[error("output `{name}`: {source}")]
    Element {
        /// The output.
        name: String,
        /// What is wrong.
        source: kiln_ir::TensorError,
    },
}

fn quoted(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
    if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") }
}

/// Results of a run by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Results(Vec<(String, Tensor)>);

impl Results {
    /// The result `name` as it is.
    pub fn tensor(&self, name: &str) -> Result<&Tensor, SessionError> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, t)| t).ok_or_else(|| SessionError::Fetch {
            unknown: vec![name.to_owned()],
            known: self.0.iter().map(|(n, _)| n.clone()).collect(),
        })
    }

    /// The result `name` as an array of its element type.
    pub fn get<T: Element>(&self, name: &str) -> Result<ArrayD<T>, SessionError> {
        to_array(self.tensor(name)?).map_err(|source| SessionError::Element { name: name.to_owned(), source })
    }

    /// Names and tensors, in the order they were fetched.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(n, t)| (n.as_str(), t))
    }
}

impl Session {
    /// Compiles `graph` for this machine and allocates its memory.
    pub fn fire(graph: &Graph, options: &CompileOptions) -> Result<Session, SessionError> {
        let executable = compile(graph, options)?.executable()?;
        Session::new(executable, PoolHandle::default())
    }

    /// A session of a program that is already compiled, or loaded from an artifact, on a pool that others may share.
    pub fn new(executable: Arc<Executable>, pool: PoolHandle) -> Result<Session, SessionError> {
        Ok(Session { executor: Executor::new(executable, pool)? })
    }

    /// Runs once. `fetches` names the results wanted; none means all. Missing, unknown and ill-shaped feeds, and
    /// unknown fetches, are all reported.
    pub fn run(&mut self, feeds: &[(&str, &dyn ToTensor)], fetches: &[&str]) -> Result<Results, SessionError> {
        let known: Vec<String> = self.executor.signature().outputs.iter().map(|o| o.name.clone()).collect();
        let unknown: Vec<String> =
            fetches.iter().filter(|f| !known.iter().any(|k| k == *f)).map(|f| (*f).to_owned()).collect();
        if !unknown.is_empty() {
            return Err(SessionError::Fetch { unknown, known });
        }
        let tensors: Vec<(&str, Tensor)> = feeds.iter().map(|(n, t)| (*n, t.to_tensor())).collect();
        let feeds: Vec<(&str, &Tensor)> = tensors.iter().map(|(n, t)| (*n, t)).collect();
        let results = self.executor.run_named(&feeds)?;
        if fetches.is_empty() {
            return Ok(Results(results));
        }
        let take = |name: &str| results.iter().position(|(n, _)| n == name).map(|i| results[i].clone());
        Ok(Results(fetches.iter().filter_map(|f| take(f)).collect()))
    }

    /// The value of a variable that the graph assigns.
    pub fn variable<T: Element>(&self, name: &str) -> Result<ArrayD<T>, SessionError> {
        let value = self.executor.state(name)?;
        to_array(&value).map_err(|source| SessionError::Element { name: name.to_owned(), source })
    }

    /// Sets a variable that the graph assigns.
    pub fn set_variable(&mut self, name: &str, value: &dyn ToTensor) -> Result<(), SessionError> {
        Ok(self.executor.set_state(name, &value.to_tensor())?)
    }

    /// The executor underneath: runs on slices without allocating, profiles.
    pub fn executor(&mut self) -> &mut Executor {
        &mut self.executor
    }
}
