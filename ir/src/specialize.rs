//! Binding symbolic dims: from a graph for any `batch` to the graph for `batch = 8`.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::graph::{Graph, GraphError, NodeId, Value};

/// What keeps a graph from being specialised.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SpecializeError {
    /// A binding of a symbol that the graph does not have.
    #[error("the graph has no symbolic dim `{name}`; {}", if .known.is_empty() { "all its dims are fixed".to_owned() } else { format!("it has {}", .known.join(", ")) })]
    Unknown {
        /// The name.
        name: String,
        /// The symbols that the graph has.
        known: Vec<String>,
    },
    /// A symbol without a binding.
    #[error("symbolic dim `{name}` is not bound (`{name}=N`)")]
    Unbound {
        /// The name.
        name: String,
    },
    /// A node that does not take the extents.
    #[error("{0}")]
    Graph(GraphError),
}

/// Everything that keeps a graph from being specialised. Never empty.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub struct SpecializeErrors(pub Vec<SpecializeError>);

impl fmt::Display for SpecializeErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, e) in self.0.iter().enumerate() {
            write!(f, "{}{e}", if i > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

/// `graph` with every symbolic dim replaced by its extent in `bindings`, types inferred again. Node order, names and
/// locations stay. Each of the graph's symbols must be bound, and nothing else.
pub fn specialize(graph: &Graph, bindings: &BTreeMap<String, usize>) -> Result<Graph, SpecializeErrors> {
    let symbols = graph.symbols();
    let unknown = bindings.keys().filter(|name| !symbols.contains(name));
    let unknown = unknown.map(|name| SpecializeError::Unknown { name: name.clone(), known: symbols.clone() });
    let unbound = symbols.iter().filter(|name| !bindings.contains_key(*name));
    let unbound = unbound.map(|name| SpecializeError::Unbound { name: name.clone() });
    let errors: Vec<SpecializeError> = unknown.chain(unbound).collect();
    if errors.is_empty() { rebuild(graph, bindings) } else { Err(SpecializeErrors(errors)) }
}

fn rebuild(graph: &Graph, bindings: &BTreeMap<String, usize>) -> Result<Graph, SpecializeErrors> {
    let mut out = Graph::new(graph.name());
    let mut errors = Vec::new();
    for (key, value) in graph.metadata() {
        out.set_metadata(key, value);
    }
    for v in graph.variables() {
        errors.extend(out.add_variable(v.clone()).err());
    }
    let mut new: HashMap<NodeId, NodeId> = HashMap::new();
    let moved = |new: &HashMap<NodeId, NodeId>, v: Value| new.get(&v.node).map(|&node| Value { node, ..v });
    for id in graph.node_ids() {
        let node = graph.node(id);
        // A node whose operand could not be made is passed over: the cause is reported once.
        let Some(operands) = node.operands.iter().map(|&v| moved(&new, v)).collect::<Option<Vec<Value>>>() else {
            continue;
        };
        match out.add(node.op.bind(bindings), &operands, node.name.clone(), node.location.clone()) {
            Ok(made) => {
                new.insert(id, made);
            }
            Err(e) => errors.push(e),
        }
    }
    for (name, v) in graph.outputs() {
        if let Some(v) = moved(&new, *v) {
            errors.extend(out.add_output(name, v).err());
        }
    }
    if errors.is_empty() {
        Ok(out)
    } else {
        Err(SpecializeErrors(errors.into_iter().map(SpecializeError::Graph).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::parse;

    const TEXT: &str = "kiln 1\ngraph @g(%x: f32[batch, 3, seq]) -> (y = %y) {\n  metadata \"a\" = \"b\"\n  variable \"v\": f32[] = fill(1)\n  \
                        %v = read_var {variable = \"v\"} : f32[]\n  %0 = broadcast %v {axes = []} : f32[batch, 3, seq]\n  \
                        %1 = add %x, %0\n  %y = reshape %1 : f32[3, seq, batch]\n}";

    fn bind(pairs: &[(&str, usize)]) -> Result<Graph, String> {
        let graph = parse(TEXT, "t").unwrap_or_else(|e| panic!("{e}"));
        let bindings = pairs.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
        specialize(&graph, &bindings).map_err(|e| e.to_string())
    }

    #[test]
    fn bound_symbols_become_extents_everywhere() {
        let expected = parse(&TEXT.replace("batch", "8").replace("seq", "5"), "t").unwrap();
        assert_eq!(bind(&[("batch", 8), ("seq", 5)]), Ok(expected));
    }

    #[test]
    fn unknown_and_unbound_symbols_are_all_listed() {
        let expected = "the graph has no symbolic dim `bacth`; it has batch, seq\n\
                        the graph has no symbolic dim `n`; it has batch, seq\n\
                        symbolic dim `batch` is not bound (`batch=N`)\nsymbolic dim `seq` is not bound (`seq=N`)";
        assert_eq!(bind(&[("bacth", 1), ("n", 2)]), Err(expected.into()));
    }

    #[test]
    fn extents_that_an_op_cannot_take_are_reported_at_the_node() {
        let text = "kiln 1\ngraph @g(%x: f32[n], %i: f32[m]) -> () {\n  %y = broadcast %x {axes = [0]} : f32[n, m]\n}";
        let graph = parse(text, "t").unwrap_or_else(|e| panic!("{e}"));
        let huge = BTreeMap::from([("n".to_owned(), 1 << 50), ("m".to_owned(), 1 << 20)]);
        let error = specialize(&graph, &huge).unwrap_err().to_string();
        assert!(
            error.starts_with("t:3:3: `broadcast` gives f32[1125899906842624, 1048576], which takes more memory"),
            "{error}"
        );
    }
}
