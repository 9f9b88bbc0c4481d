//! Running the portable half of an artifact without a compiler: slowly, but on any machine.

use kiln_ir::interp::{State, run};
use kiln_ir::{Graph, Tensor};

use crate::artifact::PortableModel;
use crate::executor::RunError;
use crate::feeds::{by_name, check_tensors};
use crate::signature::Signature;

/// A portable model that the reference interpreter runs, with its persistent variables. It takes and gives what
/// [`crate::Executor`] does.
#[derive(Clone, Debug)]
pub struct Interpreted {
    signature: Signature,
    graph: Graph,
    state: State,
}

impl Interpreted {
    /// Makes a model runnable; every variable has the value it starts with.
    pub fn new(model: PortableModel) -> Interpreted {
        Interpreted { signature: model.signature, graph: model.graph, state: State::new() }
    }

    /// Inputs, outputs and metadata.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Runs once on tensors in signature order and returns the outputs in signature order.
    pub fn run_tensors(&mut self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, RunError> {
        check_tensors(&self.signature, inputs)?;
        let names = self.signature.inputs.iter().map(|spec| spec.name.as_str());
        let feeds: Vec<(&str, Tensor)> = names.zip(inputs.iter().map(|&t| t.clone())).collect();
        let results = run::<f32>(&self.graph, &feeds, Some(&mut self.state))?;
        Ok(results.into_iter().map(|(_, tensor)| tensor).collect())
    }

    /// Runs once on tensors bound by name, in any order, and returns the outputs with their names.
    pub fn run_named(&mut self, feeds: &[(&str, &Tensor)]) -> Result<Vec<(String, Tensor)>, RunError> {
        let ordered = by_name(&self.signature, feeds)?;
        let results = self.run_tensors(&ordered)?;
        Ok(self.signature.outputs.iter().map(|spec| spec.name.clone()).zip(results).collect())
    }

    /// Gives every persistent variable the value it started with.
    pub fn reset_states(&mut self) {
        self.state = State::new();
    }

    /// The value of the persistent variable `name`.
    pub fn state(&self, name: &str) -> Result<Tensor, RunError> {
        let variable = self.graph.variable(name).ok_or_else(|| self.no_variable(name))?;
        match self.state.get(name) {
            Some(value) => Ok(value.clone()),
            None => {
                let dims = variable.ty.static_dims().unwrap_or_default();
                Ok(variable.init.materialize(variable.ty.dtype, &dims)?)
            }
        }
    }

    /// Sets the persistent variable `name`.
    pub fn set_state(&mut self, name: &str, value: &Tensor) -> Result<(), RunError> {
        let variable = self.graph.variable(name).ok_or_else(|| self.no_variable(name))?;
        let dims = variable.ty.static_dims().unwrap_or_default();
        if value.dtype() != variable.ty.dtype || value.dims() != dims {
            let spec = crate::TensorSpec::new(name, variable.ty.dtype, dims);
            return Err(RunError::wrong_state(&spec, value));
        }
        self.state.set(name, value.clone());
        Ok(())
    }

    fn no_variable(&self, name: &str) -> RunError {
        RunError::no_state(name, self.graph.variables().iter().map(|v| v.name.as_str()))
    }
}
