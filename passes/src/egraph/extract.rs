//! Taking the cheapest graph out of the e-graph: one e-node a class, each counted once however many use it.
//!
//! Classes are settled in the order of the cost of everything below them (Knuth's generalisation of Dijkstra's
//! algorithm), with the set of classes below as a bit set, so that shared values count once. A class is settled
//! only after the children of its e-node, so what comes out is acyclic by construction, whatever cycles the
//! e-graph has; a check says so all the same. Greedy: a class is settled by its own cost, not by what else its
//! choice might serve.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use egg::Id;
use kiln_ir::{Op, TensorType};

use super::cost::{cost, is_elementwise};
use super::language::{Classes, ENode, Symbol};
use crate::driver::PassFailure;

/// The e-nodes chosen, operands before their users.
pub struct Extraction {
    /// Class and e-node; children are canonical ids.
    pub nodes: Vec<(Id, ENode)>,
}

/// A dense copy of what the roots reach.
struct Dense {
    ids: Vec<Id>,
    /// By class: own cost and children of each e-node.
    choices: Vec<Vec<Choice>>,
}

struct Choice {
    enode: ENode,
    children: Vec<usize>,
    cost: u64,
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
    let mut choices = Vec::new();
    let mut at = 0;
    while let Some(&id) = ids.get(at) {
        let mut list = Vec::new();
        for enode in &classes[id].nodes {
            let children = enode.children.iter().map(|&c| number(c, &mut ids)).collect();
            list.push(Choice { enode: enode.clone(), children, cost: own_cost(classes, id, enode) });
        }
        choices.push(list);
        at += 1;
    }
    (Dense { ids, choices }, numbers)
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

/// Costs, then e-node counts: of equally cheap graphs the smaller.
type Cost = (u64, u32);

/// A set of classes.
type Bits = Vec<u64>;

/// The cheapest acyclic graph that computes all `roots`.
pub fn extract(classes: &Classes, roots: &[Id]) -> Result<Extraction, PassFailure> {
    let (dense, numbers) = dense(classes, roots);
    let count = dense.ids.len();
    let words = count.div_ceil(64);
    let mut users: Vec<Vec<(usize, usize)>> = vec![Vec::new(); count];
    let mut waiting: Vec<Vec<usize>> = Vec::with_capacity(count);
    let mut queue: BinaryHeap<Reverse<(Cost, usize, usize)>> = BinaryHeap::new();
    for (class, choices) in dense.choices.iter().enumerate() {
        let mut missing = Vec::with_capacity(choices.len());
        for (n, choice) in choices.iter().enumerate() {
            let mut distinct = choice.children.clone();
            distinct.sort_unstable();
            distinct.dedup();
            missing.push(distinct.len());
            distinct.iter().for_each(|&c| users[c].push((class, n)));
            if distinct.is_empty() {
                queue.push(Reverse(((choice.cost, 1), class, n)));
            }
        }
        waiting.push(missing);
    }
    let mut below: Vec<Bits> = vec![Bits::new(); count];
    let mut chosen: Vec<Option<usize>> = vec![None; count];
    let mut order = Vec::with_capacity(count);
    let unions = |below: &[Bits], choice: &Choice| {
        let mut set = vec![0u64; words];
        for &c in &choice.children {
            set.iter_mut().zip(&below[c]).for_each(|(a, b)| *a |= b);
        }
        set
    };
    while let Some(Reverse((_, class, n))) = queue.pop() {
        if chosen[class].is_some() {
            continue;
        }
        let mut set = unions(&below, &dense.choices[class][n]);
        set[class / 64] |= 1 << (class % 64);
        below[class] = set;
        chosen[class] = Some(n);
        order.push(class);
        for &(user, m) in &users[class] {
            waiting[user][m] -= 1;
            if waiting[user][m] == 0 && chosen[user].is_none() {
                let choice = &dense.choices[user][m];
                let set = unions(&below, choice);
                let total = total(&set, &dense, &chosen);
                queue.push(Reverse(((total.0.saturating_add(choice.cost), total.1 + 1), user, m)));
            }
        }
    }
    collect(classes, &dense, &numbers, roots, &chosen, &order)
}

fn total(set: &Bits, dense: &Dense, chosen: &[Option<usize>]) -> Cost {
    let mut sum: Cost = (0, 0);
    for (word, &bits) in set.iter().enumerate() {
        let mut bits = bits;
        while bits != 0 {
            let class = word * 64 + bits.trailing_zeros() as usize;
            bits &= bits - 1;
            let cost = chosen[class].map_or(0, |n| dense.choices[class][n].cost);
            sum = (sum.0.saturating_add(cost), sum.1 + 1);
        }
    }
    sum
}

/// The chosen e-nodes that the roots need, checked: every child is chosen before its user.
fn collect(
    classes: &Classes,
    dense: &Dense,
    numbers: &BTreeMap<Id, usize>,
    roots: &[Id],
    chosen: &[Option<usize>],
    order: &[usize],
) -> Result<Extraction, PassFailure> {
    let missing = |what: &str| PassFailure::Extraction { what: what.to_owned() };
    let mut place = vec![usize::MAX; chosen.len()];
    order.iter().enumerate().for_each(|(at, &class)| place[class] = at);
    // Depth first from the roots, so that the graph keeps the order in which it was written as far as it goes.
    let mut done = vec![false; chosen.len()];
    let mut nodes = Vec::new();
    for root in roots {
        let class = *numbers.get(&classes.find(*root)).ok_or_else(|| missing("a root has no class"))?;
        let mut stack = vec![(class, 0)];
        while let Some((class, next)) = stack.pop() {
            if done[class] {
                continue;
            }
            let n = chosen[class].ok_or_else(|| missing("a value has no finite e-node"))?;
            let choice = &dense.choices[class][n];
            match choice.children.get(next) {
                Some(&child) if place[child] >= place[class] => return Err(missing("the choice is cyclic")),
                Some(&child) => stack.extend([(class, next + 1), (child, 0)]),
                None => {
                    done[class] = true;
                    nodes.push((dense.ids[class], choice.enode.clone()));
                }
            }
        }
    }
    Ok(Extraction { nodes })
}
