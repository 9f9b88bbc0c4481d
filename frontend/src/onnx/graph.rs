//! From a model's graph to the IR: scopes of named values, nodes in order, `If` branches and the
//! model's own functions inlined.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kiln_ir::{Graph, Location};

use super::attributes::Attributes;
use super::emit::{Emitter, Operand};
use super::error::{NodeError, Problem, Result, invalid, unsupported};
use super::node::NodeContext;
use super::ops;
use super::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};
use super::signature::Input;
use super::tensor::{ExternalFiles, read_tensor};

/// Branches in branches and functions in functions: deeper nesting is refused.
pub const MOST_NESTED: usize = 64;

/// How often inlining may import each node of the file, on average: functions that call functions twice grow as 2^depth.
pub const MOST_INLINED_TIMES: usize = 64;

/// Nodes that inlining may import however few the file has.
pub const LEAST_INLINED: usize = 1 << 12;

/// Problems after which import stops: what is wrong with so many nodes has one cause.
pub const MOST_PROBLEMS: usize = 1000;

/// What a name stands for.
#[derive(Clone)]
enum Slot {
    Ready(Operand),
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
    emit: Emitter,
    /// Innermost last. Inside a function only the scopes from `visible` on can be seen.
    scopes: Vec<HashMap<String, Slot>>,
    visible: usize,
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
            let location = self.location(&input.name);
            self.emit.at(Arc::from(input.name.as_str()), location);
            match self.emit.placeholder(&input.name, input.dtype, &input.dims) {
                Ok(operand) => self.define(&input.name, Slot::Ready(operand)),
                Err(error) => self.problems.push(Problem::Signature(format!("input `{}`: {error}", input.name))),
            }
        }
        self.constants(graph);
        self.nodes(&graph.node, opsets);
        for output in &graph.output {
            let name = output.name.as_deref().unwrap_or_default();
            if let Err(error) = self.output(name) {
                self.problems.push(Problem::Malformed(format!("output `{name}`: {error}")));
            }
        }
    }

    pub fn finish(self) -> (Graph, Vec<Problem>) {
        (self.emit.finish(), self.problems)
    }

    fn location(&self, node: &str) -> Location {
        Location::Model { file: self.file.clone(), node: Arc::from(node) }
    }

    fn output(&mut self, name: &str) -> Result<()> {
        let Some(operand) = self.lookup(name)? else { return Ok(()) };
        let location = self.location(name);
        self.emit.at(Arc::from(name), location);
        let value = self.emit.value(&operand)?;
        self.emit.graph().add_output(name, value)?;
        Ok(())
    }

    fn define(&mut self, name: &str, slot: Slot) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.to_owned(), slot);
        }
    }

    /// The operand of a name; `None` where its node failed.
    fn lookup(&self, name: &str) -> Result<Option<Operand>> {
        let visible = self.scopes.get(self.visible..).unwrap_or_default();
        match visible.iter().rev().find_map(|scope| scope.get(name)) {
            Some(Slot::Ready(operand)) => Ok(Some(operand.clone())),
            Some(Slot::Failed) => Ok(None),
            Some(Slot::Unsupported { producer }) => {
                Err(NodeError::UnsupportedResult { value: name.to_owned(), producer: producer.clone() })
            }
            None => Err(NodeError::Undefined(name.to_owned())),
        }
    }

    fn constants(&mut self, graph: &GraphProto) {
        for proto in &graph.initializer {
            let name = proto.name.as_deref().unwrap_or_default();
            let slot = match read_tensor(proto, name, self.files) {
                Ok(tensor) => Slot::Ready(Operand::named(tensor, Some(Arc::from(name)))),
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

    fn nodes(&mut self, nodes: &[NodeProto], opsets: &Opsets) {
        for (position, node) in nodes.iter().enumerate() {
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

    fn results(&mut self, node: &NodeProto, name: &str, results: Vec<Operand>) {
        let mut results = results.into_iter();
        for output in &node.output {
            let result = results.next();
            if output.is_empty() {
                continue;
            }
            let slot = match result {
                Some(operand) => Slot::Ready(operand),
                None => Slot::Unsupported { producer: name.to_owned() },
            };
            self.define(output, slot);
        }
    }

    /// The results of a node; `None` where an operand failed.
    fn node(&mut self, node: &NodeProto, name: &str, opsets: &Opsets) -> Result<Option<Vec<Operand>>> {
        let mut inputs = Vec::with_capacity(node.input.len());
        for input in &node.input {
            if input.is_empty() {
                inputs.push(None);
                continue;
            }
            match self.lookup(input)? {
                Some(operand) => inputs.push(Some(operand)),
                None => return Ok(None),
            }
        }
        let domain = standard(node.domain.as_deref().unwrap_or_default());
        if let Some(function) = find_function(&self.functions, node) {
            return self.function(function, node, inputs);
        }
        let location = self.location(name);
        self.emit.at(Arc::from(name), location);
        if domain.is_empty() && node.op_type() == "If" {
            return self.branch(node, &inputs, opsets);
        }
        let handler = match ops::handler(node.op_type()) {
            Some(handler) if domain.is_empty() => handler,
            // Reported for all nodes before import begins.
            _ => return Ok(None),
        };
        let opset = opsets.get("").copied().unwrap_or(1);
        let attributes = Attributes::new(&node.attribute);
        let mut context = NodeContext::new(&mut self.emit, attributes, opset, node.output.len(), self.files, inputs);
        let results = handler(&mut context)?;
        context.check_all_read()?;
        let names = context.attributes.left();
        if !names.is_empty() {
            // The results have the right types all the same, so what follows can still be checked.
            let error = NodeError::UnknownAttributes { names, opset };
            self.problems.push(Problem::Node { node: name.to_owned(), op_type: node.op_type().to_owned(), error });
        }
        Ok(Some(results))
    }

    /// The branch that a known condition takes, inlined.
    fn branch(
        &mut self,
        node: &NodeProto,
        inputs: &[Option<Operand>],
        opsets: &Opsets,
    ) -> Result<Option<Vec<Operand>>> {
        let attributes = Attributes::new(&node.attribute);
        let (then, otherwise) = (attributes.graph("then_branch")?, attributes.graph("else_branch")?);
        let opset = opsets.get("").copied().unwrap_or(1);
        let names = attributes.left();
        if !names.is_empty() {
            return Err(NodeError::UnknownAttributes { names, opset });
        }
        let [Some(condition)] = inputs else {
            return Err(NodeError::MissingInput { index: 0, role: "cond" });
        };
        let known = condition.tensor().ok_or(NodeError::NotConstant { index: 0, role: "cond" })?;
        let [taken] = known.to_f64_vec()[..] else {
            return invalid(format!("the condition must be one truth value, found {known:?}"));
        };
        let graph = if taken != 0.0 { then } else { otherwise };
        self.count_inlined(graph.node.len())?;
        self.nested(self.visible, HashMap::new(), |importer| {
            importer.constants(graph);
            importer.nodes(&graph.node, opsets);
            graph.output.iter().map(|o| importer.lookup(o.name.as_deref().unwrap_or_default())).collect()
        })
    }

    /// A function of the model: its body with the operands under its parameters' names.
    fn function(
        &mut self,
        function: &FunctionProto,
        node: &NodeProto,
        inputs: Vec<Option<Operand>>,
    ) -> Result<Option<Vec<Operand>>> {
        if inputs.len() > function.input.len() {
            return Err(NodeError::TooManyInputs { expected: function.input.len(), found: inputs.len() });
        }
        self.count_inlined(function.node.len())?;
        let scope = function
            .input
            .iter()
            .zip(inputs)
            .filter_map(|(name, operand)| operand.map(|o| (name.clone(), Slot::Ready(o))))
            .collect();
        let body: Vec<NodeProto> = function.node.iter().map(|n| with_attributes(n, function, node)).collect();
        let opsets = opsets(&function.opset_import);
        let inner = self.scopes.len();
        self.nested(inner, scope, |importer| {
            importer.nodes(&body, &opsets);
            function.output.iter().map(|o| importer.lookup(o)).collect()
        })
    }

    fn count_inlined(&mut self, nodes: usize) -> Result<()> {
        self.inlined = self.inlined.saturating_add(nodes.max(1));
        let most = self.most_inlined;
        if self.inlined <= most {
            return Ok(());
        }
        unsupported(format!(
            "branches and functions that expand to more than {most} nodes: inline them before export, or simplify the model"
        ))
    }

    /// Runs `import` in a new scope, which sees the scopes from `visible` on.
    fn nested(
        &mut self,
        visible: usize,
        scope: HashMap<String, Slot>,
        import: impl FnOnce(&mut Self) -> Result<Option<Vec<Operand>>>,
    ) -> Result<Option<Vec<Operand>>> {
        if self.depth == MOST_NESTED {
            return unsupported(format!("branches or functions nested more than {MOST_NESTED} deep"));
        }
        let outside = std::mem::replace(&mut self.visible, visible);
        self.scopes.push(scope);
        self.depth += 1;
        let results = import(self);
        self.depth -= 1;
        self.scopes.pop();
        self.visible = outside;
        results
    }
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
        let known = (domain.is_empty() && (node.op_type() == "If" || ops::handler(node.op_type()).is_some()))
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
