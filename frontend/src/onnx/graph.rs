//! From a model's graph to the IR: scopes of named values, nodes in order, the model's own functions inlined.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kiln_ir::{Graph, Location};

use super::attributes::Attributes;
use super::control_flow;
use super::declared::contradiction;
use super::emit::{Emitter, Operand};
use super::error::{NodeError, Problem, Result, unsupported};
use super::narrow::Narrow;
use super::node::{Handler, NodeContext};
use super::ops::{self, OfNarrow};
use super::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto};
use super::signature::{Input, InputValue, TensorInput, element_name};
use super::tensor::{ExternalFiles, copied_bytes, read_value};
use super::value::Value;

/// Branches, loops and functions in one another: deeper nesting is refused.
pub const MOST_NESTED: usize = 64;

/// How often inlining may import each node of the file, on average: functions that call functions twice grow as 2^depth.
pub const MOST_INLINED_TIMES: usize = 64;

/// Nodes that inlining may import however few the file has: loops of models repeat some tens of nodes some hundred times.
pub const LEAST_INLINED: usize = 1 << 14;

/// Problems after which import stops: what is wrong with so many nodes has one cause.
pub const MOST_PROBLEMS: usize = 1000;

/// What a name stands for.
#[derive(Clone)]
pub(super) enum Slot {
    Ready(Value),
    /// Its node was not imported; the reason is among the problems already.
    Failed,
    /// A result that the handler does not give.
    Unsupported {
        producer: String,
    },
}

/// Versions of the operator sets by domain; the standard domain is the empty name.
pub(super) type Opsets = BTreeMap<String, i64>;

pub(super) fn opsets<'a>(imports: impl IntoIterator<Item = &'a super::proto::OperatorSetIdProto>) -> Opsets {
    imports
        .into_iter()
        .map(|o| (standard(o.domain.as_deref().unwrap_or_default()).to_owned(), o.version.unwrap_or(1)))
        .collect()
}

/// The standard domain has two names.
fn standard(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// A node's name for people: its own, or its first result's, or its place.
fn node_name(node: &NodeProto, position: usize) -> String {
    let named = |s: &str| (!s.is_empty()).then(|| s.to_owned());
    node.name
        .as_deref()
        .and_then(named)
        .or_else(|| node.output.iter().find_map(|o| named(o)))
        .unwrap_or_else(|| format!("{} #{position}", node.op_type()))
}

/// Imports one model.
pub(super) struct Importer<'a> {
    functions: Functions<'a>,
    files: &'a ExternalFiles,
    file: Arc<str>,
    pub(super) emit: Emitter,
    /// Innermost last. Inside a function only the scopes from `visible` on can be seen.
    scopes: Vec<HashMap<String, Slot>>,
    pub(super) visible: usize,
    depth: usize,
    inlined: usize,
    most_inlined: usize,
    pub problems: Vec<Problem>,
}

impl<'a> Importer<'a> {
    pub fn new(model: &'a ModelProto, files: &'a ExternalFiles, file: &str, name: &str) -> Importer<'a> {
        Importer {
            functions: functions(model),
            files,
            file: Arc::from(file),
            emit: Emitter::new(Graph::new(name)),
            scopes: vec![HashMap::new()],
            visible: 0,
            depth: 0,
            inlined: 0,
            most_inlined: nodes_of(model).saturating_mul(MOST_INLINED_TIMES).max(LEAST_INLINED),
            problems: Vec::new(),
        }
    }

    /// The whole graph: inputs, nodes, outputs.
    pub fn run(&mut self, graph: &GraphProto, inputs: &[Input], opsets: &Opsets) {
        for input in inputs {
            match self.input(input) {
                Ok(value) => self.define(&input.name, Slot::Ready(value)),
                Err(error) => {
                    self.problems.push(Problem::Signature(format!("input `{}`: {error}", input.name)));
                    self.define(&input.name, Slot::Failed);
                }
            }
        }
        self.constants(graph);
        self.nodes(graph.node.iter().enumerate(), opsets);
        for output in &graph.output {
            if self.problems.len() > MOST_PROBLEMS {
                return;
            }
            let name = output.name.as_deref().unwrap_or_default();
            match self.lookup(name) {
                Ok(Some(value)) => {
                    if let Some(what) = contradiction(&value, output) {
                        let made = made_by(graph, name);
                        self.problems.push(Problem::Malformed(format!("output `{name}`: {what}{made}")));
                    }
                    if let Err(error) = self.output(name, value) {
                        self.problems.push(Problem::Malformed(format!("output `{name}`: {error}")));
                    }
                }
                Ok(None) => {}
                Err(NodeError::Undefined(_)) => self.problems.push(Problem::Malformed(format!(
                    "output `{name}`: no node makes it, and it is neither an input nor an initializer"
                ))),
                Err(error) => self.problems.push(Problem::Malformed(format!("output `{name}`: {error}"))),
            }
        }
    }

    fn input(&mut self, input: &Input) -> Result<Value> {
        let mut placeholder = |tensor: &TensorInput| {
            let location = self.location(&tensor.name);
            self.emit.at(Arc::from(tensor.name.as_str()), location);
            self.emit.placeholder(&tensor.name, tensor.dtype, &tensor.dims)
        };
        match &input.value {
            InputValue::Tensor(tensor) => Ok(placeholder(tensor)?.into()),
            InputValue::Narrow(ty, tensor) => {
                let fed = placeholder(tensor)?;
                Ok(Value::Narrow(Narrow { ty: *ty, held: ty.cast(&mut self.emit, &fed, true)? }))
            }
            InputValue::Sequence { dtype, elements } => {
                let elements = elements.iter().map(placeholder).collect::<Result<Vec<_>>>()?;
                self.emit.sequence(elements, Some(*dtype))
            }
            InputValue::Absent => Ok(Value::Absent),
        }
    }

    pub fn finish(self) -> (Graph, Vec<Problem>) {
        (self.emit.finish(), self.problems)
    }

    fn location(&self, node: &str) -> Location {
        Location::Model { file: self.file.clone(), node: Arc::from(node) }
    }

    /// A sequence becomes one output for each element, an optional without an element none.
    fn output(&mut self, name: &str, value: Value) -> Result<()> {
        match value {
            Value::Tensor(operand) => self.output_tensor(name, &operand),
            // Kiln has the values, not the type.
            Value::Narrow(narrow) => self.output_tensor(name, &narrow.held),
            Value::Sequence(sequence) => {
                let named = |(i, element)| self.output_tensor(&element_name(name, i), element);
                (0..).zip(sequence.elements.iter()).try_for_each(named)
            }
            Value::Absent => Ok(()),
        }
    }

    fn output_tensor(&mut self, name: &str, operand: &Operand) -> Result<()> {
        let location = self.location(name);
        self.emit.at(Arc::from(name), location);
        let value = self.emit.value(operand)?;
        self.emit.graph().add_output(name, value)?;
        Ok(())
    }

    pub(super) fn define(&mut self, name: &str, slot: Slot) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.to_owned(), slot);
        }
    }

    /// What a name stands for; `None` where its node failed.
    pub(super) fn lookup(&self, name: &str) -> Result<Option<Value>> {
        let visible = self.scopes.get(self.visible..).unwrap_or_default();
        match visible.iter().rev().find_map(|scope| scope.get(name)) {
            Some(Slot::Ready(value)) => Ok(Some(value.clone())),
            Some(Slot::Failed) => Ok(None),
            Some(Slot::Unsupported { producer }) => {
                Err(NodeError::UnsupportedResult { value: name.to_owned(), producer: producer.clone() })
            }
            None => Err(NodeError::Undefined(name.to_owned())),
        }
    }

    pub(super) fn constants(&mut self, graph: &GraphProto) {
        for proto in &graph.initializer {
            let name = proto.name.as_deref().unwrap_or_default();
            let slot = match read_value(proto, name, self.files, Some(Arc::from(name))) {
                Ok(value) => {
                    if self.depth == 0
                        && let Some(constant) = value.held().and_then(Operand::tensor)
                    {
                        self.emit.holds(constant);
                    }
                    Slot::Ready(value)
                }
                Err(error) => {
                    self.problems.push(error.into());
                    Slot::Failed
                }
            };
            self.define(name, slot);
        }
        for sparse in &graph.sparse_initializer {
            let name = sparse.values.as_ref().and_then(|v| v.name.as_deref()).unwrap_or_default();
            self.problems
                .push(Problem::Malformed(format!("initializer `{name}` is sparse: only dense tensors are supported")));
            self.define(name, Slot::Failed);
        }
    }

    /// Imports nodes, each with its place among the nodes of its graph.
    pub(super) fn nodes<'n>(&mut self, nodes: impl Iterator<Item = (usize, &'n NodeProto)>, opsets: &Opsets) {
        for (position, node) in nodes {
            if self.problems.len() > MOST_PROBLEMS {
                return;
            }
            if self.problems.len() == MOST_PROBLEMS {
                let text =
                    format!("import stopped here: more than {MOST_PROBLEMS} problems; mend the first ones first");
                self.problems.push(Problem::Malformed(text));
                return;
            }
            let name = node_name(node, position);
            match self.node(node, &name, opsets) {
                Ok(Some(results)) => self.results(node, &name, results),
                failed => {
                    if let Err(error) = failed {
                        let op_type = node.op_type().to_owned();
                        self.problems.push(Problem::Node { node: name, op_type, error });
                    }
                    for output in node.output.iter().filter(|o| !o.is_empty()) {
                        self.define(output, Slot::Failed);
                    }
                }
            }
        }
    }

    fn results(&mut self, node: &NodeProto, name: &str, results: Vec<Value>) {
        let mut results = results.into_iter();
        for output in &node.output {
            let result = results.next();
            if output.is_empty() {
                continue;
            }
            let slot = match result {
                Some(value) => Slot::Ready(value),
                None => Slot::Unsupported { producer: name.to_owned() },
            };
            self.define(output, slot);
        }
    }

    /// The results of a node; `None` where an operand failed.
    fn node(&mut self, node: &NodeProto, name: &str, opsets: &Opsets) -> Result<Option<Vec<Value>>> {
        let mut inputs = Vec::with_capacity(node.input.len());
        for input in &node.input {
            if input.is_empty() {
                inputs.push(None);
                continue;
            }
            match self.lookup(input)? {
                Some(value) => inputs.push(Some(value)),
                None => return Ok(None),
            }
        }
        let domain = standard(node.domain.as_deref().unwrap_or_default());
        if let Some(function) = find_function(&self.functions, node) {
            return self.function(function, node, inputs);
        }
        let location = self.location(name);
        self.emit.at(Arc::from(name), location);
        if domain.is_empty() && control_flow::OPERATORS.contains(&node.op_type()) {
            return self.control_flow(node, &inputs, opsets);
        }
        // Reported for all nodes before import begins.
        let Some(handler) = ops::handler(domain, node.op_type()) else { return Ok(None) };
        let opset = opsets.get(domain).copied().unwrap_or(1);
        let attributes = Attributes::new(&node.attribute);
        let mut context = NodeContext::new(&mut self.emit, attributes, opset, node.output.len(), self.files, inputs);
        let results = match handler {
            Handler::Tensors(handler, takes) => {
                let makes = ops::unwrap_narrow(takes, &mut context)?;
                context.check_tensors()?;
                let results = handler(&mut context)?;
                let (narrow, emit) = (context.narrow, &mut *context.emit);
                let wrapped = |(i, result): (usize, Operand)| match (narrow, makes) {
                    (Some(ty), OfNarrow::Wraps) => {
                        Ok(Value::Narrow(Narrow { ty, held: ty.cast(emit, &result, true)? }))
                    }
                    (Some(_), OfNarrow::Keeps) => Ok(Value::of(narrow, result)),
                    (Some(_), OfNarrow::KeepsFirst) if i == 0 => Ok(Value::of(narrow, result)),
                    _ => Ok(Value::Tensor(result)),
                };
                results.into_iter().enumerate().map(wrapped).collect::<Result<Vec<Value>>>()?
            }
            Handler::Values(handler) => handler(&mut context)?,
        };
        context.check_all_read()?;
        let names = context.attributes.left();
        if self.depth == 0 && node.op_type() == "Constant" {
            results.iter().filter_map(|value| value.held()?.tensor()).for_each(|constant| self.emit.holds(constant));
        }
        if !names.is_empty() {
            // The results have the right types all the same, so what follows can still be checked.
            let error = NodeError::UnknownAttributes { names, opset };
            self.problems.push(Problem::Node { node: name.to_owned(), op_type: node.op_type().to_owned(), error });
        }
        Ok(Some(results))
    }

    /// A function of the model: its body with the operands under its parameters' names.
    fn function(
        &mut self,
        function: &FunctionProto,
        node: &NodeProto,
        inputs: Vec<Option<Value>>,
    ) -> Result<Option<Vec<Value>>> {
        if inputs.len() > function.input.len() {
            return Err(NodeError::TooManyInputs { expected: function.input.len(), found: inputs.len() });
        }
        self.count_inlined(function.node.len() + copies(&function.node, &[]))?;
        let scope = function
            .input
            .iter()
            .zip(inputs)
            .filter_map(|(name, value)| value.map(|v| (name.clone(), Slot::Ready(v))))
            .collect();
        let body: Vec<NodeProto> = function.node.iter().map(|n| with_attributes(n, function, node)).collect();
        let opsets = opsets(&function.opset_import);
        let inner = self.scopes.len();
        self.nested(inner, scope, |importer| {
            importer.nodes(body.iter().enumerate(), &opsets);
            function.output.iter().map(|o| importer.lookup(o)).collect()
        })
    }

    /// Counts nodes before they are inlined.
    pub(super) fn count_inlined(&mut self, nodes: usize) -> Result<()> {
        self.inlined = self.inlined.saturating_add(nodes.max(1));
        let most = self.most_inlined;
        if self.inlined <= most {
            return Ok(());
        }
        unsupported(format!(
            "branches, loops and functions that expand to more than {most} nodes: simplify the model, or let loops take fewer steps"
        ))
    }

    /// Runs `import` in a new scope, which sees the scopes from `visible` on.
    pub(super) fn nested<T>(
        &mut self,
        visible: usize,
        scope: HashMap<String, Slot>,
        import: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        if self.depth == MOST_NESTED {
            return unsupported(format!("branches, loops or functions nested more than {MOST_NESTED} deep"));
        }
        let outside = std::mem::replace(&mut self.visible, visible);
        self.depth += 1;
        let results = self.scoped(scope, import);
        self.depth -= 1;
        self.visible = outside;
        results
    }

    /// Runs `import` in a new scope within the present one.
    pub(super) fn scoped<T>(
        &mut self,
        scope: HashMap<String, Slot>,
        import: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.scopes.push(scope);
        let results = import(self);
        self.scopes.pop();
        results
    }
}

/// The node of a graph that makes a value, for people.
fn made_by(graph: &GraphProto, name: &str) -> String {
    let maker = graph.node.iter().enumerate().find(|(_, node)| node.output.iter().any(|output| output == name));
    maker.map_or(String::new(), |(i, node)| {
        format!(": mend what it declares, or node `{}` ({}), which makes it", node_name(node, i), node.op_type())
    })
}

/// Constants of so many bytes count as a node where they are copied each time that they are inlined.
const BYTES_OF_A_NODE: usize = 1 << 16;

/// What copying the constants among nodes and initializers counts as, in nodes.
pub(super) fn copies(nodes: &[NodeProto], initializers: &[TensorProto]) -> usize {
    let attributes = nodes.iter().flat_map(|n| &n.attribute).filter_map(|a| a.t.as_ref());
    initializers.iter().chain(attributes).map(copied_bytes).sum::<usize>() / BYTES_OF_A_NODE
}

/// The model's function that a node calls.
fn find_function<'a>(functions: &Functions<'a>, node: &NodeProto) -> Option<&'a FunctionProto> {
    functions.get(&(node.domain(), node.op_type(), node.overload())).copied()
}

/// The model's functions by domain, name and overload.
type Functions<'a> = HashMap<(&'a str, &'a str, &'a str), &'a FunctionProto>;

fn functions(model: &ModelProto) -> Functions<'_> {
    model.functions.iter().map(|f| ((f.domain(), f.name(), f.overload()), f)).collect()
}

/// The functions that call themselves, through others or not: inlining them would not end.
pub(super) fn recursive_functions(model: &ModelProto) -> Option<Problem> {
    let functions = functions(model);
    let index: HashMap<*const FunctionProto, usize> = model.functions.iter().map(std::ptr::from_ref).zip(0..).collect();
    let (mut calls, mut callers) = (vec![Vec::new(); index.len()], vec![Vec::new(); index.len()]);
    for (caller, function) in model.functions.iter().enumerate() {
        each_node(&function.node, &mut |node| {
            let called = find_function(&functions, node).and_then(|f| index.get(&std::ptr::from_ref(f)));
            if let Some(&called) = called {
                calls[caller].push(called);
                callers[called].push(caller);
            }
        });
    }
    // What is left without those that call nothing that is left, and without those that nothing left calls, goes in circles.
    let mut left = vec![true; calls.len()];
    for (out, back) in [(&calls, &callers), (&callers, &calls)] {
        let mut degree: Vec<usize> = out.iter().map(|list| list.iter().filter(|&&f| left[f]).count()).collect();
        let mut ends: Vec<usize> = (0..left.len()).filter(|&f| left[f] && degree[f] == 0).collect();
        while let Some(end) = ends.pop() {
            left[end] = false;
            for &f in back[end].iter().filter(|&&f| left[f]) {
                degree[f] -= 1;
                if degree[f] == 0 {
                    ends.push(f);
                }
            }
        }
    }
    let name = |f: &FunctionProto| format!("`{}.{}`", f.domain(), f.name());
    let names: Vec<String> = model.functions.iter().zip(left).filter(|(_, left)| *left).map(|(f, _)| name(f)).collect();
    let all = names.len();
    let shown = names.into_iter().take(5).collect::<Vec<_>>().join(", ");
    let more = if all > 5 { format!(" and {} more", all - 5) } else { String::new() };
    (all > 0).then(|| {
        Problem::Malformed(format!("functions call themselves, directly or through others: {shown}{more}; expected functions that can be inlined"))
    })
}

/// Visits every node, those of branches too.
fn each_node<'n>(nodes: &'n [NodeProto], visit: &mut impl FnMut(&'n NodeProto)) {
    for node in nodes {
        visit(node);
        for attribute in &node.attribute {
            attribute.g.iter().chain(&attribute.graphs).for_each(|graph| each_node(&graph.node, visit));
        }
    }
}

/// Nodes of a model's file, those of functions and branches too.
fn nodes_of(model: &ModelProto) -> usize {
    let mut count = 0usize;
    let graphs = model.graph.iter().map(|g| &g.node).chain(model.functions.iter().map(|f| &f.node));
    graphs.for_each(|nodes| each_node(nodes, &mut |_| count += 1));
    count
}

/// A node of a function's body with references to the function's attributes replaced: by the caller's
/// attribute, or the default, or nothing.
fn with_attributes(node: &NodeProto, function: &FunctionProto, caller: &NodeProto) -> NodeProto {
    let value = |reference: &str| -> Option<&AttributeProto> {
        let named = |a: &&AttributeProto| a.name.as_deref() == Some(reference);
        caller.attribute.iter().find(named).or_else(|| function.attribute_proto.iter().find(named))
    };
    let mut node = node.clone();
    node.attribute = node
        .attribute
        .into_iter()
        .filter_map(|mut a| {
            if let Some(g) = &mut a.g {
                g.node = g.node.iter().map(|n| with_attributes(n, function, caller)).collect();
            }
            match a.ref_attr_name.as_deref().filter(|r| !r.is_empty()) {
                None => Some(a),
                Some(reference) => value(reference).map(|v| AttributeProto { name: a.name, ..v.clone() }),
            }
        })
        .collect();
    node
}

/// The operators that import does not know, with all nodes that use them, in branches and functions too.
pub(super) fn unsupported_ops(model: &ModelProto, graph: &GraphProto, opsets: &Opsets) -> Vec<Problem> {
    let mut found: BTreeMap<(String, String, i64), Vec<String>> = BTreeMap::new();
    let functions = functions(model);
    scan(&functions, &graph.node, opsets, &mut found);
    for function in &model.functions {
        scan(&functions, &function.node, &self::opsets(&function.opset_import), &mut found);
    }
    found
        .into_iter()
        .map(|((domain, op_type, opset), nodes)| Problem::UnsupportedOp { domain, op_type, opset, nodes })
        .collect()
}

fn scan(
    functions: &Functions<'_>,
    nodes: &[NodeProto],
    opsets: &Opsets,
    found: &mut BTreeMap<(String, String, i64), Vec<String>>,
) {
    for (position, node) in nodes.iter().enumerate() {
        let domain = standard(node.domain.as_deref().unwrap_or_default());
        let known = (domain.is_empty() && control_flow::OPERATORS.contains(&node.op_type()))
            || ops::handler(domain, node.op_type()).is_some()
            || find_function(functions, node).is_some();
        if !known {
            let opset = opsets.get(domain).copied().unwrap_or(1);
            let key = (domain.to_owned(), node.op_type().to_owned(), opset);
            found.entry(key).or_default().push(node_name(node, position));
        }
        for attribute in &node.attribute {
            for graph in attribute.g.iter().chain(&attribute.graphs) {
                scan(functions, &graph.node, opsets, found);
            }
        }
    }
}
