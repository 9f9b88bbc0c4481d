//! Weights by name: into the variables of a graph, and out of them.
//!
//! ```
//! use kiln::weights;
//! use kiln::zoo::{self, Images};
//!
//! let lenet = zoo::model("lenet5").ok_or("a model of the zoo")?;
//! let mut graph = lenet.graph(&lenet.images())?;
//! // From a file: `files::safetensors::read(path)?.tensors`.
//! let mut tensors = weights::values(&graph)?;
//! weights::load(&mut graph, &tensors)?;
//!
//! tensors.remove("fc3.bias");
//! let errors = weights::load(&mut graph, &tensors).unwrap_err();
//! assert_eq!(errors.0.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;

use kiln_ir::{Graph, Initializer, Tensor, TensorError, TensorType};

use crate::files::npz::Arrays;

/// What PyTorch stores beside the weights of a batch normalisation: how many batches it has seen in training.
const TRAINING_COUNTER: &str = ".num_batches_tracked";

/// Gives every variable of `graph` the tensor of its name. Nothing changes unless all of them are there, of the right type, and
/// nothing else is (but for PyTorch's `num_batches_tracked`, which training alone reads).
pub fn load(graph: &mut Graph, tensors: &Arrays) -> Result<(), WeightErrors> {
    let mut errors = Vec::new();
    for variable in graph.variables() {
        let expected = variable.ty.clone();
        match tensors.get(&variable.name).map(type_of) {
            None => errors.push(WeightError::Missing { name: variable.name.clone(), expected }),
            Some(found) if found != expected => {
                errors.push(WeightError::Type { name: variable.name.clone(), expected, found });
            }
            Some(_) => {}
        }
    }
    for (name, tensor) in tensors {
        if graph.variable(name).is_none() && !name.ends_with(TRAINING_COUNTER) {
            errors.push(WeightError::Surplus { name: name.clone(), found: type_of(tensor) });
        }
    }
    if !errors.is_empty() {
        return Err(WeightErrors(errors));
    }
    for (name, tensor) in tensors {
        if graph.variable(name).is_some() {
            let value = Initializer::Value(tensor.clone().into());
            graph.set_initializer(name, value).unwrap_or_else(|e| unreachable!("its type was compared: {e}"));
        }
    }
    Ok(())
}

/// The first value of every variable of `graph`, by name: what [`load`] takes, and `files::safetensors::write` writes.
pub fn values(graph: &Graph) -> Result<Arrays, TensorError> {
    let value = |v: &kiln_ir::Variable| {
        let dims = v.ty.static_dims().unwrap_or_default();
        Ok((v.name.clone(), v.init.materialize(v.ty.dtype, &dims)?))
    };
    graph.variables().iter().map(value).collect()
}

fn type_of(tensor: &Tensor) -> TensorType {
    TensorType::fixed(tensor.dtype(), tensor.dims())
}

/// A weight that does not fit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WeightError {
    /// A variable without a tensor.
    #[error("missing: `{name}`, {expected}")]
    Missing {
        /// The variable.
        name: String,
        /// Its type.
        expected: TensorType,
    },
    /// A tensor without a variable.
    #[error("surplus: `{name}`, {found}: the graph has no such variable")]
    Surplus {
        /// The tensor.
        name: String,
        /// Its type.
        found: TensorType,
    },
    /// A tensor of another type than its variable.
    #[error("wrong type: `{name}`, expected {expected}, found {found}")]
    Type {
        /// Both.
        name: String,
        /// The variable's type.
        expected: TensorType,
        /// The tensor's.
        found: TensorType,
    },
}

/// Every weight that does not fit.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightErrors(pub Vec<WeightError>);

impl fmt::Display for WeightErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0.len();
        write!(f, "the weights do not fit the graph: {n} {}", if n == 1 { "problem" } else { "problems" })?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for WeightErrors {}
