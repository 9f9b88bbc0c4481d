//! Where the nodes of an optimised graph come from: source nodes, and the rules that made them.

use std::fmt;

use kiln_ir::{Graph, NodeId};
use smallvec::SmallVec;

/// What one node stands for. Both lists are sorted and have no duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The nodes of the graph given to the optimiser that this node computes, or is part of.
    pub sources: SmallVec<[NodeId; 2]>,
    /// The rules that had a hand in it.
    pub rules: SmallVec<[&'static str; 2]>,
}

impl Origin {
    /// The origin of a node as the user wrote it.
    pub fn of(node: NodeId) -> Origin {
        Origin { sources: SmallVec::from_slice(&[node]), rules: SmallVec::new() }
    }

    /// Adds what `other` stands for.
    pub fn absorb(&mut self, other: &Origin) {
        for &s in &other.sources {
            insert(&mut self.sources, s);
        }
        for &r in &other.rules {
            insert(&mut self.rules, r);
        }
    }

    /// Adds a rule.
    pub fn add_rule(&mut self, rule: &'static str) {
        insert(&mut self.rules, rule);
    }
}

fn insert<T: Ord + Copy, const N: usize>(list: &mut SmallVec<[T; N]>, item: T)
where
    [T; N]: smallvec::Array<Item = T>,
{
    if let Err(at) = list.binary_search(&item) {
        list.insert(at, item);
    }
}

/// The origin of every node of an optimised graph, by node id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    origins: Vec<Origin>,
}

impl Provenance {
    pub(crate) fn new(origins: Vec<Origin>) -> Provenance {
        Provenance { origins }
    }

    /// The origin of a node of the optimised graph; `None` for an id that it does not have.
    pub fn of(&self, node: NodeId) -> Option<&Origin> {
        self.origins.get(node.0 as usize)
    }

    /// For people: every node that rules made, with the source nodes' names and the rules.
    pub fn explain<'a>(&'a self, source: &'a Graph, optimized: &'a Graph) -> Explanation<'a> {
        Explanation { provenance: self, source, optimized }
    }
}

/// Displays a [`Provenance`], a line a node that some rule made.
pub struct Explanation<'a> {
    provenance: &'a Provenance,
    source: &'a Graph,
    optimized: &'a Graph,
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for id in self.optimized.node_ids() {
            let Some(origin) = self.provenance.of(id).filter(|o| !o.rules.is_empty()) else { continue };
            let label = |graph: &Graph, id: NodeId| match &graph.node(id).name {
                Some(name) => format!("%{name}"),
                None => format!("%{} ({})", id.0, graph.node(id).op.mnemonic()),
            };
            let sources: Vec<String> = origin.sources.iter().map(|&s| label(self.source, s)).collect();
            writeln!(
                f,
                "{} {} = {} by {}",
                label(self.optimized, id),
                self.optimized.node(id).op.mnemonic(),
                sources.join(", "),
                origin.rules.join(", ")
            )?;
        }
        Ok(())
    }
}
