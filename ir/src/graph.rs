//! The graph: nodes over typed values, growing only.
//!
//! A node's operands exist before the node does, so ids are a topological order and there are no cycles.
//! Passes never change a graph: they build another. petgraph holds the nodes and the use edges.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;
use smallvec::SmallVec;

use crate::attribute::Real;
use crate::dtype::DType;
use crate::infer::{InferError, infer};
use crate::initializer::Initializer;
use crate::ops::Op;
use crate::types::{Dim, TensorType};

/// A node of one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// One result of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    /// The node.
    pub node: NodeId,
    /// Which of its results.
    pub result: u32,
}

/// Where a node comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Location {
    /// A line of source: Rust (DSL) or IR text.
    Source {
        /// File name.
        file: Arc<str>,
        /// Line, from 1.
        line: u32,
        /// Column, from 1.
        column: u32,
    },
    /// A node of a model file.
    Model {
        /// File name.
        file: Arc<str>,
        /// The node's name there, or its op type and position where it has none.
        node: Arc<str>,
    },
}

impl Location {
    /// The location of a `#[track_caller]` caller.
    pub fn caller(at: &std::panic::Location<'_>) -> Location {
        Location::Source { file: Arc::from(at.file()), line: at.line(), column: at.column() }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Source { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Location::Model { file, node } => write!(f, "{file}: node `{node}`"),
        }
    }
}

/// An op applied to values.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// Operands, in the op's order.
    pub operands: SmallVec<[Value; 4]>,
    /// Types of the results.
    pub types: SmallVec<[TensorType; 1]>,
    /// A name for people: `%name` in the text format, labels in profiles. Need not be unique.
    pub name: Option<Arc<str>>,
    /// Where it comes from.
    pub location: Option<Location>,
}

/// A use edge: result `result` of the source is operand `operand` of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// Result index of the producer.
    pub result: u32,
    /// Operand index of the consumer.
    pub operand: u32,
}

/// A named tensor that lives from run to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// Unique name, as weight files spell it.
    pub name: String,
    /// Type; fixed dims.
    pub ty: TensorType,
    /// What it starts as.
    pub init: Initializer,
}

/// A static graph with named inputs, outputs and variables.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    name: String,
    nodes: DiGraph<Node, Use>,
    inputs: Vec<NodeId>,
    outputs: Vec<(String, Value)>,
    effects: Vec<NodeId>,
    variables: Vec<Variable>,
    metadata: BTreeMap<String, String>,
}

/// The most bytes that a value of a graph may take, extents of 0 and symbolic ones counting as 1: two exbibytes, which no machine has. Products
/// of any of a value's extents, its strides, and sums of a few such numbers then fit an index.
pub const MOST_VALUE_BYTES: u64 = 1 << 61;

fn check_sizes(mnemonic: &'static str, types: &[TensorType], location: &Option<Location>) -> Result<(), GraphError> {
    let bytes = |ty: &TensorType| {
        let extent = |dim: &Dim| match dim {
            Dim::Fixed(n) => (*n).max(1) as u64,
            Dim::Symbol(_) => 1,
        };
        ty.dims.iter().map(extent).fold(ty.dtype.size() as u64, u64::saturating_mul)
    };
    match types.iter().find(|ty| bytes(ty) > MOST_VALUE_BYTES) {
        None => Ok(()),
        Some(ty) => Err(GraphError::TooLarge { mnemonic, ty: ty.clone(), location: location.clone() }),
    }
}

/// A change that would make a graph inconsistent.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GraphError {
    /// The op does not take these operands.
    #[error("{}{error}", at(.location))]
    Infer {
        /// What is wrong.
        error: Box<InferError>,
        /// Where the node comes from.
        location: Option<Location>,
    },
    /// A value of more bytes than [`MOST_VALUE_BYTES`].
    #[error("{}`{mnemonic}` gives {ty}, which takes more memory than can be addressed: expected at most {MOST_VALUE_BYTES} bytes, an extent of 0 counting as 1; use smaller extents", at(.location))]
    TooLarge {
        /// The op, or `variable`.
        mnemonic: &'static str,
        /// The type.
        ty: TensorType,
        /// Where the node comes from.
        location: Option<Location>,
    },
    /// A value of another graph, or a result that its node does not have.
    #[error("{}`{mnemonic}`: operand {operand} is not a value of this graph", at(.location))]
    ForeignValue {
        /// The op.
        mnemonic: &'static str,
        /// Which operand.
        operand: usize,
        /// Where the node comes from.
        location: Option<Location>,
    },
    /// Two inputs, outputs or variables of one name.
    #[error("{}the graph already has {what} named `{name}`: names are unique", at(.location))]
    Duplicate {
        /// `an input`, `an output` or `a variable`.
        what: &'static str,
        /// The name.
        name: String,
        /// Where the second one comes from.
        location: Option<Location>,
    },
    /// A variable that the graph does not have, or has with another type.
    #[error("{}variable `{name}`: expected {expected}, found {found}", at(.location))]
    Variable {
        /// The variable.
        name: String,
        /// What the op says.
        expected: String,
        /// What the graph has.
        found: String,
        /// Where the node comes from.
        location: Option<Location>,
    },
    /// A number of elements that is needed while the graph is built, of a symbolic extent.
    #[error("{}{what} needs the number of elements of axis {axis}, whose extent is {dim}: build the graph with a number there", at(.location))]
    SymbolicExtent {
        /// What needs it: `a mean`, or a layer.
        what: String,
        /// The axis.
        axis: usize,
        /// Its extent.
        dim: String,
        /// Where the node comes from.
        location: Option<Location>,
    },
    /// A tensor with too few or too many axes for what is built of it.
    #[error("{}{what} takes {expected}, found {found}", at(.location))]
    Rank {
        /// What is built.
        what: String,
        /// The axes it takes.
        expected: Cow<'static, str>,
        /// The tensor's type.
        found: TensorType,
        /// Where it is built.
        location: Option<Location>,
    },
    /// A number that is too small for what is built with it.
    #[error("{}{what}: `{argument}` must be at least {least}, found {found}", at(.location))]
    TooSmall {
        /// What is built.
        what: String,
        /// Which number.
        argument: &'static str,
        /// The smallest that makes sense.
        least: usize,
        /// The number given.
        found: usize,
        /// Where it is built.
        location: Option<Location>,
    },
    /// An axis that the tensor does not have.
    #[error("{}axis {axis} of {found}: expected one from {} to {}", at(.location), -(found.rank() as i64), found.rank() as i64 - 1)]
    Axis {
        /// The axis asked for; negative ones count from the end.
        axis: i64,
        /// The tensor's type.
        found: TensorType,
        /// Where it is asked for.
        location: Option<Location>,
    },
    /// A number that its dtype does not hold exactly.
    #[error("{}the number {value} is not exact in {dtype}: convert the tensor, or write a number that {dtype} holds", at(.location))]
    Inexact {
        /// The number.
        value: Real,
        /// The dtype it was to take.
        dtype: DType,
        /// Where it was written.
        location: Option<Location>,
    },
    /// More nodes than ids.
    #[error("the graph is full: it has 2^32 − 1 nodes")]
    Full,
}

impl GraphError {
    /// Where what is wrong comes from.
    pub(crate) fn location_mut(&mut self) -> Option<&mut Option<Location>> {
        match self {
            GraphError::Infer { location, .. }
            | GraphError::TooLarge { location, .. }
            | GraphError::ForeignValue { location, .. }
            | GraphError::Duplicate { location, .. }
            | GraphError::Variable { location, .. }
            | GraphError::SymbolicExtent { location, .. }
            | GraphError::Rank { location, .. }
            | GraphError::TooSmall { location, .. }
            | GraphError::Axis { location, .. }
            | GraphError::Inexact { location, .. } => Some(location),
            GraphError::Full => None,
        }
    }

    /// The same error, coming from `place` unless it says where it comes from.
    pub(crate) fn located(mut self, place: Option<Location>) -> GraphError {
        if let Some(location) = self.location_mut() {
            *location = location.take().or(place);
        }
        self
    }
}

fn at(location: &Option<Location>) -> String {
    location.as_ref().map(|l| format!("{l}: ")).unwrap_or_default()
}

impl Graph {
    /// An empty graph.
    pub fn new(name: &str) -> Graph {
        Graph { name: name.to_owned(), ..Graph::default() }
    }

    /// The graph's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Renames the graph.
    pub fn set_name(&mut self, name: &str) {
        name.clone_into(&mut self.name);
    }

    /// Free text about the graph, by key: kept by passes, stored in artifacts.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Sets a metadata entry.
    pub fn set_metadata(&mut self, key: &str, value: &str) {
        self.metadata.insert(key.to_owned(), value.to_owned());
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.node_count()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All node ids, operands before their users.
    pub fn node_ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + ExactSizeIterator + use<> {
        (0..self.len()).map(|i| NodeId(i as u32))
    }

    /// A node of this graph. An id of another graph gives some node or panics, as an index would.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[NodeIndex::new(id.0 as usize)]
    }

    /// The type of a value of this graph.
    pub fn ty(&self, v: Value) -> &TensorType {
        &self.node(v.node).types[v.result as usize]
    }

    /// Whether `v` is a value of this graph.
    pub fn contains(&self, v: Value) -> bool {
        self.nodes.node_weight(NodeIndex::new(v.node.0 as usize)).is_some_and(|n| (v.result as usize) < n.types.len())
    }

    /// The nodes that use results of `id`, with the edge, in id order (a node once per operand).
    pub fn users(&self, id: NodeId) -> Vec<(NodeId, Use)> {
        let mut users: Vec<(NodeId, Use)> = self
            .nodes
            .edges_directed(NodeIndex::new(id.0 as usize), Direction::Outgoing)
            .map(|e| (NodeId(e.target().index() as u32), *e.weight()))
            .collect();
        users.sort_by_key(|(n, u)| (*n, u.operand));
        users
    }

    /// The producers of the operands of `id`, with the edge, in no order.
    pub(crate) fn operand_edges(&self, id: NodeId) -> Vec<(NodeId, Use)> {
        let edges = self.nodes.edges_directed(NodeIndex::new(id.0 as usize), Direction::Incoming);
        edges.map(|e| (NodeId(e.source().index() as u32), *e.weight())).collect()
    }

    /// The petgraph underneath, for its algorithms. Node indices are [`NodeId`]s.
    pub fn petgraph(&self) -> &DiGraph<Node, Use> {
        &self.nodes
    }

    /// Placeholders, in signature order.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// Name and type of each input, in signature order.
    pub fn input_types(&self) -> impl Iterator<Item = (&str, &TensorType)> {
        self.inputs.iter().filter_map(|&id| match &self.node(id).op {
            Op::Placeholder { name, .. } => Some((name.as_str(), &self.node(id).types[0])),
            _ => None,
        })
    }

    /// Named results, in signature order.
    pub fn outputs(&self) -> &[(String, Value)] {
        &self.outputs
    }

    /// Nodes with effects, in program order: they run whether or not an output needs them.
    pub fn effects(&self) -> &[NodeId] {
        &self.effects
    }

    /// The variables, in declaration order.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// The variable of this name.
    pub fn variable(&self, name: &str) -> Option<&Variable> {
        self.variables.iter().find(|v| v.name == name)
    }

    /// Replaces a variable's initialiser, as loading weights does. The type must be the same.
    pub fn set_initializer(&mut self, name: &str, init: Initializer) -> Result<(), GraphError> {
        let found = match self.variables.iter_mut().find(|v| v.name == name) {
            None => "no such variable".to_owned(),
            Some(v) if init.fits(&v.ty) => {
                v.init = init;
                return Ok(());
            }
            Some(v) => format!("a value that does not fit {}", v.ty),
        };
        Err(GraphError::Variable {
            name: name.to_owned(),
            expected: "a variable of the value's type".into(),
            found,
            location: None,
        })
    }

    /// Declares a variable.
    pub fn add_variable(&mut self, variable: Variable) -> Result<(), GraphError> {
        if self.variable(&variable.name).is_some() {
            return Err(GraphError::Duplicate { what: "a variable", name: variable.name, location: None });
        }
        if !variable.init.fits(&variable.ty) || variable.ty.static_dims().is_none() {
            return Err(GraphError::Variable {
                found: format!("an initialiser {}", variable.init),
                expected: format!("one for fixed dims {}", variable.ty),
                name: variable.name,
                location: None,
            });
        }
        check_sizes("variable", std::slice::from_ref(&variable.ty), &None)?;
        self.variables.push(variable);
        Ok(())
    }

    /// Adds a node, inferring its types. A placeholder becomes the next input, an op with effects the next effect.
    pub fn add(
        &mut self,
        op: Op,
        operands: &[Value],
        name: Option<Arc<str>>,
        location: Option<Location>,
    ) -> Result<NodeId, GraphError> {
        for (i, &v) in operands.iter().enumerate() {
            if !self.contains(v) {
                return Err(GraphError::ForeignValue { mnemonic: op.mnemonic(), operand: i, location });
            }
        }
        let operand_types: Vec<TensorType> = operands.iter().map(|&v| self.ty(v).clone()).collect();
        let types = infer(&op, &operand_types)
            .map_err(|e| GraphError::Infer { error: Box::new(e), location: location.clone() })?;
        check_sizes(op.mnemonic(), &types, &location)?;
        self.check_names(&op, &types, &operand_types, &location)?;
        let id = NodeId(u32::try_from(self.len()).ok().filter(|&n| n < u32::MAX).ok_or(GraphError::Full)?);
        match &op {
            Op::Placeholder { .. } => self.inputs.push(id),
            op if op.has_effect() => self.effects.push(id),
            _ => {}
        }
        let index = self.nodes.add_node(Node {
            op,
            operands: SmallVec::from_slice(operands),
            types: SmallVec::from_vec(types),
            name,
            location,
        });
        for (i, v) in operands.iter().enumerate() {
            let edge = Use { result: v.result, operand: i as u32 };
            self.nodes.add_edge(NodeIndex::new(v.node.0 as usize), index, edge);
        }
        Ok(id)
    }

    fn check_names(
        &self,
        op: &Op,
        types: &[TensorType],
        operands: &[TensorType],
        location: &Option<Location>,
    ) -> Result<(), GraphError> {
        let (variable, ty) = match op {
            Op::Placeholder { name, .. } => {
                return if self.input_types().any(|(n, _)| n == name) {
                    Err(GraphError::Duplicate { what: "an input", name: name.clone(), location: location.clone() })
                } else {
                    Ok(())
                };
            }
            Op::ReadVar { variable, .. } => (variable, &types[0]),
            Op::Assign { variable } => (variable, &operands[0]),
            _ => return Ok(()),
        };
        let found = match self.variable(variable) {
            Some(v) if v.ty == *ty => {
                let assigned =
                    |&id: &NodeId| matches!(&self.node(id).op, Op::Assign { variable: other } if other == variable);
                if !(matches!(op, Op::Assign { .. }) && self.effects.iter().any(assigned)) {
                    return Ok(());
                }
                "a second assignment (a variable is assigned at most once in a graph)".to_owned()
            }
            Some(v) => v.ty.to_string(),
            None => "no such variable".to_owned(),
        };
        Err(GraphError::Variable {
            name: variable.clone(),
            expected: ty.to_string(),
            found,
            location: location.clone(),
        })
    }

    /// Makes `value` a result of the graph.
    pub fn add_output(&mut self, name: &str, value: Value) -> Result<(), GraphError> {
        if !self.contains(value) {
            return Err(GraphError::ForeignValue { mnemonic: "output", operand: 0, location: None });
        }
        if self.outputs.iter().any(|(n, _)| n == name) {
            return Err(GraphError::Duplicate { what: "an output", name: name.to_owned(), location: None });
        }
        self.outputs.push((name.to_owned(), value));
        Ok(())
    }

    /// The first result of a node.
    pub fn value(&self, node: NodeId) -> Value {
        Value { node, result: 0 }
    }

    /// The names of the symbolic dims of inputs and nodes, in order of first appearance.
    pub fn symbols(&self) -> Vec<String> {
        let mut seen: Vec<String> = Vec::new();
        for id in self.node_ids() {
            for s in self.node(id).types.iter().flat_map(TensorType::symbols) {
                if !seen.iter().any(|n| n == s) {
                    seen.push(s.to_owned());
                }
            }
        }
        seen
    }
}

/// Everything but the nodes, to be damaged.
#[cfg(test)]
pub(crate) struct Parts<'a> {
    pub(crate) inputs: &'a mut Vec<NodeId>,
    pub(crate) outputs: &'a mut Vec<(String, Value)>,
    pub(crate) effects: &'a mut Vec<NodeId>,
    pub(crate) variables: &'a mut Vec<Variable>,
}

/// For tests of the verifier: breaks what the other methods uphold.
#[cfg(test)]
impl Graph {
    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[NodeIndex::new(id.0 as usize)]
    }

    pub(crate) fn parts_mut(&mut self) -> Parts<'_> {
        let Graph { inputs, outputs, effects, variables, .. } = self;
        Parts { inputs, outputs, effects, variables }
    }
}
