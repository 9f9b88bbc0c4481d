//! Names that a model gives twice. Every name of a graph stands for one value: whichever of two were taken, the other would be
//! lost without a word.

use std::collections::HashMap;
use std::fmt;

use super::error::Problem;
use super::graph::MOST_PROBLEMS;
use super::proto::{GraphProto, ModelProto, NodeProto};

/// What gives a name.
#[derive(Clone, Copy)]
enum Giver<'a> {
    Input,
    Initializer,
    Node(&'a NodeProto, usize),
}

impl fmt::Display for Giver<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Giver::Input => f.write_str("an input"),
            Giver::Initializer => f.write_str("an initializer"),
            Giver::Node(node, place) => match node.name.as_deref().filter(|name| !name.is_empty()) {
                Some(name) => write!(f, "node `{name}` ({})", node.op_type()),
                // what else a node is called by is its result, the name that is in question
                None => write!(f, "node number {place} ({})", node.op_type()),
            },
        }
    }
}

/// The names that a graph, a branch or a function of the model gives twice, up to as many as are reported.
pub(super) fn given_twice(model: &ModelProto, graph: &GraphProto) -> Vec<Problem> {
    let mut problems = Vec::new();
    of_graph(graph, &mut problems);
    for function in &model.functions {
        let mut names = Names { given: HashMap::new(), problems: &mut problems };
        function.input.iter().for_each(|name| names.give(name, Giver::Input));
        names.nodes(&function.node);
    }
    problems
}

fn of_graph(graph: &GraphProto, problems: &mut Vec<Problem>) {
    let mut names = Names { given: HashMap::new(), problems };
    graph.input.iter().filter_map(|input| input.name.as_deref()).for_each(|name| names.give(name, Giver::Input));
    let sparse = graph.sparse_initializer.iter().filter_map(|s| s.values.as_ref());
    let initializers = graph.initializer.iter().chain(sparse).filter_map(|t| t.name.as_deref());
    initializers.for_each(|name| names.give(name, Giver::Initializer));
    names.nodes(&graph.node);
}

/// The names of one graph so far.
struct Names<'a, 'p> {
    given: HashMap<&'a str, Giver<'a>>,
    problems: &'p mut Vec<Problem>,
}

impl<'a> Names<'a, '_> {
    fn nodes(&mut self, nodes: &'a [NodeProto]) {
        for (place, node) in nodes.iter().enumerate() {
            node.output.iter().for_each(|name| self.give(name, Giver::Node(node, place)));
            for graph in node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
                of_graph(graph, self.problems);
            }
        }
    }

    fn give(&mut self, name: &'a str, giver: Giver<'a>) {
        // an omitted result has no name; an initializer may be the value of an input
        if name.is_empty() {
            return;
        }
        match (self.given.insert(name, giver), giver) {
            (None, _) | (Some(Giver::Input), Giver::Initializer) => {}
            (Some(first), _) if self.problems.len() < MOST_PROBLEMS => {
                self.problems.push(Problem::Malformed(format!(
                    "`{name}` is the name of two values, of {first} and of {giver}: rename one of them, and its uses"
                )));
            }
            _ => {}
        }
    }
}
