//! kiln-ir
pub mod attribute;
pub mod builder;
pub mod dtype;
pub mod graph;
pub mod infer;
pub mod initializer;
pub mod ops;
pub mod random;
pub mod scalar;
pub mod tensor;
pub mod types;
pub use builder::{BuildErrors, Builder, ConvOptions, WindowOptions};
pub use dtype::DType;
pub use graph::{Graph, GraphError, Location, Node, NodeId, Value, Variable};
pub use initializer::Initializer;
pub use ops::Op;
pub use tensor::{Element, Tensor, TensorError};
pub use types::{Dim, TensorType};
