//! From a graph to its text.

use std::fmt::{self, Write};

use super::name::{Names, is_word};
use super::tensor::{MAX_WRITTEN_BYTES, dense};
use super::{VERSION, WeightStore};
use crate::graph::{Graph, Location, Node, NodeId};
use crate::initializer::Initializer;
use crate::ops::{Literal, Op};

/// What a text shows.
#[derive(Clone, Debug)]
pub struct PrintOptions {
    /// Whether each node ends with `loc(…)`, where it has a location.
    pub locations: bool,
    /// Tensors of at most this many elements stand in the text, larger ones by content id (unless all their
    /// elements are the same).
    pub elements: usize,
}

impl Default for PrintOptions {
    fn default() -> PrintOptions {
        PrintOptions { locations: false, elements: 16 }
    }
}

/// Width up to which a signature stands on one line.
const WIDTH: usize = 110;

/// The text of `graph`.
pub fn print(graph: &Graph, options: &PrintOptions) -> String {
    print_into(graph, options, &mut WeightStore::new())
}

/// The text of `graph`; the tensors that it names by content id are added to `weights`.
pub fn print_into(graph: &Graph, options: &PrintOptions, weights: &mut WeightStore) -> String {
    let names = Names::new(graph);
    Printer { graph, options, weights, names, budget: MAX_WRITTEN_BYTES, out: String::new() }.graph()
}

impl fmt::Display for Graph {
    /// The text format, without locations.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print(self, &PrintOptions::default()))
    }
}

struct Printer<'a> {
    graph: &'a Graph,
    options: &'a PrintOptions,
    weights: &'a mut WeightStore,
    names: Names,
    budget: usize,
    out: String,
}

impl Printer<'_> {
    fn graph(mut self) -> String {
        let graph = self.graph;
        let name = if is_word(graph.name()) { graph.name().to_owned() } else { format!("{:?}", graph.name()) };
        let params: Vec<String> = graph.inputs().iter().map(|&id| self.param(id)).collect();
        let results: Vec<String> = graph
            .outputs()
            .iter()
            .map(|(name, v)| {
                let value = self.names.value(*v);
                let ty = graph.ty(*v);
                if value == format!("%{name}") {
                    format!("{value}: {ty}")
                } else if is_word(name) {
                    format!("{name} = {value}: {ty}")
                } else {
                    format!("{name:?} = {value}: {ty}")
                }
            })
            .collect();
        self.push(&format!("kiln {VERSION}\ngraph @{name}"));
        let width = params.iter().chain(&results).map(|s| s.len() + 2).sum::<usize>() + name.len();
        for (prefix, items) in [("(", params), (" -> (", results)] {
            self.push(prefix);
            if width <= WIDTH || items.len() < 2 {
                self.push(&items.join(", "));
            } else {
                self.push(&format!("\n    {},\n", items.join(",\n    ")));
            }
            self.push(")");
        }
        self.push(" {\n");
        for (key, value) in graph.metadata() {
            self.push(&format!("  metadata {key:?} = {value:?}\n"));
        }
        for v in graph.variables() {
            let init = match &v.init {
                Initializer::Value(value) => self.tensor(value),
                recipe => recipe.to_string(),
            };
            self.push(&format!("  variable {:?}: {} = {init}\n", v.name, v.ty));
        }
        for id in graph.node_ids() {
            if !matches!(graph.node(id).op, Op::Placeholder { .. }) {
                self.node(id);
            }
        }
        self.push("}\n");
        self.out
    }

    fn push(&mut self, s: &str) {
        self.out.push_str(s);
    }

    fn param(&self, id: NodeId) -> String {
        let node = self.graph.node(id);
        let types: Vec<String> = node.types.iter().map(ToString::to_string).collect();
        format!("{}: {}{}", self.names.value(self.graph.value(id)), types.join(", "), self.location(node))
    }

    fn node(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        let results: Vec<String> = (0..node.types.len() as u32)
            .map(|result| self.names.value(crate::graph::Value { node: id, result }))
            .collect();
        let equals = if results.is_empty() { "" } else { " = " };
        let mut line = format!("  {}{equals}{}", results.join(", "), node.op.mnemonic());
        if let Op::Constant { value } = &node.op {
            line += &format!(" {}", self.tensor(value));
        }
        for (i, &v) in node.operands.iter().enumerate() {
            line += &format!("{}{}", if i == 0 { " " } else { ", " }, self.names.value(v));
        }
        let attributes = node.op.shown_attributes();
        if !attributes.is_empty() {
            let items: Vec<String> = attributes.iter().map(|(name, a)| format!("{name} = {a}")).collect();
            line += &format!(" {{{}}}", items.join(", "));
        }
        if !node.types.is_empty() {
            let types: Vec<String> = node.types.iter().map(ToString::to_string).collect();
            line += &format!(" : {}", types.join(", "));
        }
        line += &self.location(node);
        let _ = writeln!(self.out, "{line}");
    }

    fn tensor(&mut self, value: &Literal) -> String {
        dense(value.tensor(), self.options.elements, &mut self.budget).unwrap_or_else(|| {
            let id = value.id();
            self.weights.insert_as(id, value.tensor().clone());
            format!("@{}", id.to_hex())
        })
    }

    fn location(&self, node: &Node) -> String {
        match &node.location {
            Some(Location::Source { file, line, column }) if self.options.locations => {
                format!(" loc({file:?}:{line}:{column})")
            }
            Some(Location::Model { file, node }) if self.options.locations => format!(" loc({file:?}, {node:?})"),
            _ => String::new(),
        }
    }
}

/// Whether the type of the result says the attribute of this name. The table's ops use the names for nothing else.
pub(crate) fn said_by_type(attribute: &str) -> bool {
    matches!(attribute, "dtype" | "dims")
}
