//! Where the nodes of an optimised graph come from: source nodes, and the rules that made them.

use kiln_ir::NodeId;
use smallvec::SmallVec;

/// A rule that fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Firing {
    /// Firings are numbered from 1 in their order: this many units of fuel are enough for it.
    pub number: u64,
    /// The rule.
    pub rule: &'static str,
}

/// What one node stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The nodes of the graph given to the optimiser that this node computes, or is part of: sorted, each once.
    pub sources: SmallVec<[NodeId; 2]>,
    /// The rules that had a hand in it, in the order of their first firings: each once.
    pub rules: SmallVec<[Firing; 2]>,
}

impl Origin {
    /// The origin of a node as the user wrote it.
    pub fn of(node: NodeId) -> Origin {
        Origin { sources: SmallVec::from_slice(&[node]), rules: SmallVec::new() }
    }

    /// Adds what `other` stands for.
    pub fn absorb(&mut self, other: &Origin) {
        for &source in &other.sources {
            if let Err(at) = self.sources.binary_search(&source) {
                self.sources.insert(at, source);
            }
        }
        other.rules.iter().for_each(|&firing| self.add_rule(firing));
    }

    /// Adds a rule.
    pub fn add_rule(&mut self, firing: Firing) {
        match self.rules.iter().position(|known| known.rule == firing.rule) {
            Some(at) if self.rules[at].number <= firing.number => return,
            Some(later) => drop(self.rules.remove(later)),
            None => {}
        }
        let at = self.rules.partition_point(|known| known.number <= firing.number);
        self.rules.insert(at, firing);
    }

    /// Whether a rule of this name had a hand in it.
    pub fn has_rule(&self, rule: &str) -> bool {
        self.rules.iter().any(|firing| firing.rule == rule)
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_stand_in_the_order_of_their_first_firings_each_once() {
        let mut origin = Origin::of(NodeId(3));
        let mut other = Origin::of(NodeId(1));
        for (number, rule) in [(7, "c"), (2, "a")] {
            origin.add_rule(Firing { number, rule });
        }
        for (number, rule) in [(9, "a"), (5, "b"), (1, "c"), (2, "d")] {
            other.add_rule(Firing { number, rule });
        }
        origin.absorb(&other);
        assert_eq!(
            origin.rules.iter().map(|f| (f.number, f.rule)).collect::<Vec<_>>(),
            [(1, "c"), (2, "a"), (2, "d"), (5, "b")]
        );
        assert_eq!(origin.sources[..], [NodeId(1), NodeId(3)]);
    }
}
