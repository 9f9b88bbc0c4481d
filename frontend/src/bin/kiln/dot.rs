//! A graph in Graphviz's DOT language.

use std::fmt::Write;

use kiln_ir::text::Names;
use kiln_ir::{Graph, NodeId, Op};

/// The graph as DOT: a box for each node, an arrow for each use, labelled with the value's type.
pub fn dot(graph: &Graph) -> String {
    let names = Names::new(graph);
    let mut out =
        format!("digraph {} {{\n  rankdir = TB;\n  node [shape = box, fontname = monospace];\n", quoted(graph.name()));
    for id in graph.node_ids() {
        let label = format!("{}\n{}", names.node(graph, id), description(graph, id));
        let style = match &graph.node(id).op {
            Op::Placeholder { .. } => ", style = rounded",
            Op::Constant { .. } | Op::ReadVar { .. } => ", style = filled, fillcolor = gray92",
            _ => "",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "  n{} [label = {}{style}];", id.0, quoted(&label));
    }
    for id in graph.node_ids() {
        for v in &graph.node(id).operands {
            let _ = writeln!(out, "  n{} -> n{} [label = {}];", v.node.0, id.0, quoted(&graph.ty(*v).to_string()));
        }
    }
    for (index, (name, v)) in graph.outputs().iter().enumerate() {
        let _ = writeln!(out, "  out{index} [label = {}, style = rounded];", quoted(name));
        let _ = writeln!(out, "  n{} -> out{index} [label = {}];", v.node.0, quoted(&graph.ty(*v).to_string()));
    }
    out.push('}');
    out
}

/// What a node does: its op, and the attributes that say most about it.
fn description(graph: &Graph, id: NodeId) -> String {
    match &graph.node(id).op {
        Op::Constant { .. } => format!("constant {}", graph.ty(graph.value(id))),
        Op::ReadVar { variable, .. } => format!("read_var {variable}"),
        op => op.mnemonic().to_owned(),
    }
}

/// A DOT string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_quotes_and_backslashes_stay_inside_their_strings() {
        assert_eq!(quoted("a\"b\\c\nd"), r#""a\"b\\c\nd""#);
    }
}
