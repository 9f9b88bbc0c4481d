//! Names of values in the text: from nodes to names, and the names themselves.

use std::collections::HashMap;
use std::fmt;

use crate::graph::{Graph, NodeId, Value};
use crate::ops::Op;

/// What stands after `%`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ValueName {
    pub(super) base: Base,
    /// Tells nodes of one name apart; 0 is not written.
    pub(super) suffix: u32,
    /// Which result of the node; 0 is not written.
    pub(super) result: u32,
}

/// A node's name in the text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Base {
    /// A node without a name.
    Number(u32),
    /// A node with a name.
    Name(String),
}

impl ValueName {
    /// From the text of a bare name: digits, a name, or a name with a suffix.
    pub(super) fn bare(text: &str) -> ValueName {
        let (base, suffix) = match text.parse::<u32>() {
            Ok(n) if n.to_string() == text => (Base::Number(n), 0),
            _ => match split_suffix(text) {
                Some((name, suffix)) => (Base::Name(name.to_owned()), suffix),
                None => (Base::Name(text.to_owned()), 0),
            },
        };
        ValueName { base, suffix, result: 0 }
    }

    /// The name of the input or output that this stands for in a signature: all of it, without quotes.
    pub(super) fn input_name(&self) -> String {
        let base = match (&self.base, self.suffix) {
            (Base::Number(n), _) => n.to_string(),
            (Base::Name(name), 0) => name.clone(),
            (Base::Name(name), suffix) => format!("{name}.{suffix}"),
        };
        if self.result == 0 { base } else { format!("{base}#{}", self.result) }
    }
}

impl fmt::Display for ValueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.base {
            Base::Number(n) => write!(f, "%{n}")?,
            Base::Name(name) if is_bare(name) => write!(f, "%{name}")?,
            Base::Name(name) => write!(f, "%{name:?}")?,
        }
        if self.suffix > 0 {
            write!(f, ".{}", self.suffix)?;
        }
        if self.result > 0 {
            write!(f, "#{}", self.result)?;
        }
        Ok(())
    }
}

/// Whether `c` may stand in a bare value name.
pub(super) fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/')
}

/// `x.3` → (`x`, 3): a name and the number that tells it from others.
fn split_suffix(name: &str) -> Option<(&str, u32)> {
    let (base, digits) = name.rsplit_once('.')?;
    let suffix: u32 = digits.parse().ok()?;
    (suffix > 0 && suffix.to_string() == digits && !base.is_empty()).then_some((base, suffix))
}

/// Whether `name` reads back as itself without quotes.
fn is_bare(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(is_name_char)
        && !name.contains("//")
        && !name.ends_with('.')
        && ValueName::bare(name) == ValueName { base: Base::Name(name.to_owned()), suffix: 0, result: 0 }
}

/// Whether `s` is a word: a letter or `_`, then letters, digits and `_`.
pub(crate) fn is_word(s: &str) -> bool {
    s.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The names that the text format gives the values of a graph.
#[derive(Clone, Debug)]
pub struct Names {
    nodes: Vec<(Base, u32)>,
}

impl Names {
    /// The names of `graph`'s values.
    pub fn new(graph: &Graph) -> Names {
        // How often each name was given out. Inputs come first: their names are theirs alone.
        let mut used: HashMap<&str, u32> = graph.input_types().map(|(name, _)| (name, 1)).collect();
        let mut unnamed = 0;
        let nodes = graph
            .node_ids()
            .map(|id| {
                let node = graph.node(id);
                match (&node.op, &node.name) {
                    (Op::Placeholder { name, .. }, _) => (Base::Name(name.clone()), 0),
                    (_, Some(name)) if !node.types.is_empty() => {
                        let count = used.entry(name).or_insert(0);
                        *count += 1;
                        (Base::Name(name.to_string()), *count - 1)
                    }
                    _ if node.types.is_empty() => (Base::Number(u32::MAX), 0),
                    _ => {
                        unnamed += 1;
                        (Base::Number(unnamed - 1), 0)
                    }
                }
            })
            .collect();
        Names { nodes }
    }

    /// The name of a value, `%` included.
    pub fn value(&self, v: Value) -> String {
        self.get(v).to_string()
    }

    /// The name of a node's first result, or `node 17` where it has no results.
    pub fn node(&self, graph: &Graph, id: NodeId) -> String {
        if graph.node(id).types.is_empty() { format!("node {}", id.0) } else { self.value(graph.value(id)) }
    }

    pub(super) fn get(&self, v: Value) -> ValueName {
        let (base, suffix) = self.nodes.get(v.node.0 as usize).cloned().unwrap_or((Base::Number(u32::MAX), 0));
        ValueName { base, suffix, result: v.result }
    }
}
