//! The language of the e-graph: interned ops over classes, and what is known about a class.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use egg::{Analysis, DidMerge, EGraph, Id, Language};
use kiln_ir::infer::infer;
use kiln_ir::{NodeId, Op, TensorType};
use smallvec::SmallVec;

use crate::canonicalise::intern::{op_hash, same_op};

/// The e-graph of a Kiln graph.
pub type Classes = EGraph<ENode, Facts>;

/// What an e-node computes from its children.
#[derive(Clone, Debug)]
pub enum Symbol {
    /// A node of the graph that the e-graph does not look into: an input, a variable's value.
    Leaf(NodeId, TensorType),
    /// An op with its attributes.
    Op(Arc<Op>),
    /// One result of an op that has several.
    Result(u32),
}

/// Index of an interned [`Symbol`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SymbolId(u32);

/// An interned symbol over classes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ENode {
    /// What is computed.
    pub symbol: SymbolId,
    /// Of what.
    pub children: SmallVec<[Id; 4]>,
}

impl Language for ENode {
    type Discriminant = SymbolId;

    fn discriminant(&self) -> SymbolId {
        self.symbol
    }

    fn matches(&self, other: &ENode) -> bool {
        self.symbol == other.symbol && self.children.len() == other.children.len()
    }

    fn children(&self) -> &[Id] {
        &self.children
    }

    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.children
    }
}

/// Symbols, each once.
#[derive(Debug, Default)]
pub struct Symbols {
    list: Vec<Symbol>,
    by_hash: HashMap<u64, Vec<SymbolId>>,
}

impl Symbols {
    /// The symbol of an id.
    pub fn get(&self, id: SymbolId) -> &Symbol {
        &self.list[id.0 as usize]
    }

    /// The id of an op.
    pub fn op(&mut self, op: Op) -> SymbolId {
        let mut h = DefaultHasher::new();
        op_hash(&op, &mut h);
        let bucket = self.by_hash.entry(h.finish()).or_default();
        let same = |id: &&SymbolId| matches!(&self.list[id.0 as usize], Symbol::Op(o) if same_op(o, &op));
        if let Some(&id) = bucket.iter().find(same) {
            return id;
        }
        let id = SymbolId(self.list.len() as u32);
        bucket.push(id);
        self.list.push(Symbol::Op(Arc::new(op)));
        id
    }

    /// A leaf: always a new symbol.
    pub fn leaf(&mut self, node: NodeId, ty: TensorType) -> SymbolId {
        self.list.push(Symbol::Leaf(node, ty));
        SymbolId(self.list.len() as u32 - 1)
    }

    /// The id of a projection.
    pub fn result(&mut self, result: u32) -> SymbolId {
        let found = self.list.iter().position(|s| matches!(s, Symbol::Result(r) if *r == result));
        SymbolId(found.unwrap_or_else(|| {
            self.list.push(Symbol::Result(result));
            self.list.len() - 1
        }) as u32)
    }
}

/// The analysis: types and constness of classes.
#[derive(Debug, Default)]
pub struct Facts {
    /// The interned symbols.
    pub symbols: Symbols,
}

/// What is known about a class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassFacts {
    /// Types of the results; more than one only for an op of several results.
    pub types: Arc<[TensorType]>,
    /// Whether the value is known at compile time, so that it costs nothing at run time.
    pub constant: bool,
    /// How many nodes and outputs of the graph use the value; 0 for values that only rules have made.
    pub users: u32,
}

impl Analysis<ENode> for Facts {
    type Data = ClassFacts;

    fn make(egraph: &mut Classes, enode: &ENode, _: Id) -> ClassFacts {
        let child = |i: usize| &egraph[enode.children[i]].data;
        match egraph.analysis.symbols.get(enode.symbol) {
            Symbol::Leaf(_, ty) => ClassFacts { types: Arc::from([ty.clone()]), constant: false, users: 0 },
            Symbol::Result(r) => {
                let facts = child(0);
                let ty = facts.types.get(*r as usize).cloned();
                ClassFacts { types: ty.into_iter().collect(), constant: facts.constant, users: 0 }
            }
            Symbol::Op(op) => {
                let operands: Vec<TensorType> =
                    (0..enode.children.len()).filter_map(|i| child(i).types.first().cloned()).collect();
                // Nodes are checked before they are added; an op that does not fit would have no type here.
                let types = infer(op, &operands).unwrap_or_default();
                let pure = !matches!(**op, Op::RandomBits { .. }) && !op.has_effect();
                let known = !enode.children.is_empty() && (0..enode.children.len()).all(|i| child(i).constant);
                let constant = matches!(**op, Op::Constant { .. }) || pure && known;
                ClassFacts { types: Arc::from(types), constant, users: 0 }
            }
        }
    }

    fn merge(&mut self, a: &mut ClassFacts, b: ClassFacts) -> DidMerge {
        debug_assert_eq!(a.types, b.types, "equal values have equal types");
        // Each node of the graph is counted in one class, so the counts of classes that become one add up.
        let merged =
            ClassFacts { types: a.types.clone(), constant: a.constant || b.constant, users: a.users + b.users };
        let did = DidMerge(merged != *a, merged != b);
        *a = merged;
        did
    }
}
