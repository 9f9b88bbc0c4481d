//! What changed between two graphs, as lines of their text.

use std::sync::Arc;

use console::style;
use kiln_ir::text::Names;
use kiln_ir::{Graph, GraphError};
use similar::TextDiff;

/// Lines around each change.
const CONTEXT: usize = 3;

/// The changes from `before` to `after` as a unified diff of their texts; nothing where they are the same.
pub fn diff(before: &Graph, after: &Graph) -> String {
    let (old, new) = (before.to_string(), after.to_string());
    if old == new {
        return String::new();
    }
    TextDiff::from_lines(&old, &new).unified_diff().context_radius(CONTEXT).header("before", "after").to_string()
}

/// A unified diff with removals red and additions green, where stdout is a terminal that shows colours.
pub fn coloured(diff: &str) -> String {
    let line = |line: &str| match line.as_bytes().first() {
        _ if line.starts_with("---") || line.starts_with("+++") => style(line).bold().to_string(),
        Some(b'-') => style(line).red().to_string(),
        Some(b'+') => style(line).green().to_string(),
        Some(b'@') => style(line).cyan().to_string(),
        _ => line.to_owned(),
    };
    diff.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// `graph` with a name for every node: `v3` for one that the text would call `%3`. What passes make of it
/// keeps the names, so that a diff shows what changed and not that numbers moved.
pub fn named(graph: &Graph) -> Result<Graph, GraphError> {
    let names = Names::new(graph);
    let mut out = Graph::new(graph.name());
    for (key, value) in graph.metadata() {
        out.set_metadata(key, value);
    }
    for variable in graph.variables() {
        out.add_variable(variable.clone())?;
    }
    for id in graph.node_ids() {
        let node = graph.node(id);
        let numbered = || Arc::from(names.value(graph.value(id)).replace('%', "v"));
        let name = node.name.clone().unwrap_or_else(numbered);
        out.add(node.op.clone(), &node.operands, Some(name), node.location.clone())?;
    }
    for (name, v) in graph.outputs() {
        out.add_output(name, *v)?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_shows_what_changed_and_nothing_of_equal_graphs() {
        let graph = |op: &str| {
            let text = format!(
                "kiln 1\ngraph @g(%x: f32[2]) -> (%y: f32[2]) {{\n  %0 = {op} %x : f32[2]\n  %y = exp %0 : f32[2]\n}}\n"
            );
            named(&kiln_ir::text::parse(&text, "t").unwrap_or_else(|e| panic!("{e}"))).expect("named")
        };
        let shown = diff(&graph("neg"), &graph("abs"));
        assert!(shown.contains("\n-  %v0 = neg %x : f32[2]\n+  %v0 = abs %x : f32[2]\n   %y = exp %v0"), "{shown}");
        assert_eq!(diff(&graph("neg"), &graph("neg")), "");
    }
}
