//! Taking a graph out of the e-graph: one e-node a class, each counted once however many use it.
//!
//! Classes are settled one by one, each only after the children of its e-node, so what comes out is acyclic by
//! construction, whatever cycles the e-graph has; a check says so all the same. `cheapest` settles a class by its
//! cheapest e-node, `random` by any: what it gives tests the e-graph itself.

mod cheapest;
mod random;

use std::collections::BTreeMap;

use egg::Id;
use kiln_ir::{Op, TensorType};

use super::cost::{cost, is_elementwise};
use super::language::{Classes, ENode, Symbol};
use crate::driver::PassFailure;

/// Which graph of all that the e-graph holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// The cheapest, as far as a greedy search finds it.
    Cheapest,
    /// A random one, from a seed.
    Random(u64),
}

/// The e-nodes chosen, operands before their users.
pub struct Extraction {
    /// Class and e-node; children are canonical ids.
    pub nodes: Vec<(Id, ENode)>,
}

/// A dense copy of what the roots reach.
struct Dense {
    ids: Vec<Id>,
    /// By class: its e-nodes.
    choices: Vec<Vec<Choice>>,
    /// By class: whether its value is known at compile time.
    constant: Vec<bool>,
}

/// An e-node.
struct Choice {
    enode: ENode,
    /// Distinct classes, sorted.
    children: Vec<usize>,
    /// Its own cost.
    cost: u64,
}

/// What a strategy gives: the e-node of each settled class, and the classes in the order in which they were settled.
struct Settled {
    chosen: Vec<Option<usize>>,
    order: Vec<usize>,
}

/// An acyclic graph that computes all `roots`.
pub fn extract(classes: &Classes, roots: &[Id], member: Member) -> Result<Extraction, PassFailure> {
    let (dense, numbers) = dense(classes, roots);
    let settled = match member {
        Member::Cheapest => cheapest::settle(&dense),
        Member::Random(seed) => random::settle(&dense, seed),
    };
    collect(classes, &dense, &numbers, roots, &settled)
}

fn dense(classes: &Classes, roots: &[Id]) -> (Dense, BTreeMap<Id, usize>) {
    let mut numbers: BTreeMap<Id, usize> = BTreeMap::new();
    let mut ids: Vec<Id> = Vec::new();
    let mut number = |id: Id, ids: &mut Vec<Id>| {
        *numbers.entry(classes.find(id)).or_insert_with_key(|&id| {
            ids.push(id);
            ids.len() - 1
        })
    };
    for &root in roots {
        number(root, &mut ids);
    }
    let (mut choices, mut constant) = (Vec::new(), Vec::new());
    while let Some(&id) = ids.get(choices.len()) {
        let mut list = Vec::new();
        for enode in &classes[id].nodes {
            let mut children: Vec<usize> = enode.children.iter().map(|&c| number(c, &mut ids)).collect();
            children.sort_unstable();
            children.dedup();
            list.push(Choice { enode: enode.clone(), children, cost: own_cost(classes, id, enode) });
        }
        choices.push(list);
        constant.push(classes[id].data.constant);
    }
    (Dense { ids, choices, constant }, numbers)
}

fn own_cost(classes: &Classes, id: Id, enode: &ENode) -> u64 {
    let facts = &classes[id].data;
    match classes.analysis.symbols.get(enode.symbol) {
        Symbol::Op(op) if !facts.constant => {
            let operands: Vec<&TensorType> =
                enode.children.iter().filter_map(|&c| classes[c].data.types.first()).collect();
            let in_registers: Vec<bool> = enode.children.iter().map(|&c| takes_elementwise(classes, c)).collect();
            cost(op, &operands, &in_registers, &facts.types)
        }
        _ => 0,
    }
}

/// Whether a class is made by something that fusion joins elementwise work to.
fn takes_elementwise(classes: &Classes, id: Id) -> bool {
    !classes[id].data.constant
        && classes[id].nodes.iter().any(|n| match classes.analysis.symbols.get(n.symbol) {
            Symbol::Op(op) => matches!(**op, Op::Conv { .. } | Op::Dot { .. }) || is_elementwise(op),
            _ => false,
        })
}

/// The chosen e-nodes that the roots need, checked: every child is settled before its user.
fn collect(
    classes: &Classes,
    dense: &Dense,
    numbers: &BTreeMap<Id, usize>,
    roots: &[Id],
    settled: &Settled,
) -> Result<Extraction, PassFailure> {
    let missing = |what: &str| PassFailure::Extraction { what: what.to_owned() };
    let number = |id: Id| numbers.get(&classes.find(id)).copied().ok_or_else(|| missing("a value has no class"));
    let mut place = vec![usize::MAX; dense.ids.len()];
    settled.order.iter().enumerate().for_each(|(at, &class)| place[class] = at);
    // Depth first from the roots, so that the graph keeps the order in which it was written as far as it goes.
    let mut done = vec![false; dense.ids.len()];
    let mut nodes = Vec::new();
    for &root in roots {
        let mut stack = vec![(number(root)?, 0)];
        while let Some((class, next)) = stack.pop() {
            if done[class] {
                continue;
            }
            let n = settled.chosen[class].ok_or_else(|| missing("a value has no finite e-node"))?;
            let enode = &dense.choices[class][n].enode;
            match enode.children.get(next) {
                Some(&child) => {
                    let child = number(child)?;
                    if place[child] >= place[class] {
                        return Err(missing("the choice is cyclic"));
                    }
                    stack.extend([(class, next + 1), (child, 0)]);
                }
                None => {
                    done[class] = true;
                    nodes.push((dense.ids[class], enode.clone()));
                }
            }
        }
    }
    Ok(Extraction { nodes })
}
