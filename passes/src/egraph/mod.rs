//! Exact rewriting over the whole graph with an e-graph (equality saturation, on egg).
//!
//! ```text
//! graph ──► classes ── rules until nothing changes ──► classes ── extraction ──► graph ── siblings ──► graph
//! ```
//!
//! A class holds expressions that are the same function of real numbers; nothing approximate is ever equal. Effects
//! stay outside: they are rebuilt in program order over the values extracted for their operands. The fuel is counted
//! in e-nodes and rounds, never in time, so equal graphs give equal results.

pub mod cost;
pub mod extract;
pub mod language;
pub mod rules;
pub mod saturate;
pub mod siblings;

use std::collections::{BTreeMap, HashMap};

use egg::{EGraph, Id};
use kiln_ir::{Graph, NodeId, Op, Value};
use smallvec::SmallVec;

use crate::driver::{Context, Options, PassFailure};
use crate::provenance::Origin;
use crate::rewrite::{Rewriter, Values, live_nodes, results};
use extract::Member;
use language::{ClassFacts, ENode, Facts, Symbol};
use saturate::Rewrites;

/// The names of all rules, those of [`siblings`] included.
pub fn rule_names() -> Vec<&'static str> {
    rules::RULES.iter().copied().flatten().map(|r| r.name).chain([siblings::PRODUCTS, siblings::CONVOLUTIONS]).collect()
}

/// The pass.
pub fn run(graph: &Graph, context: &mut Context<'_>) -> Result<Graph, PassFailure> {
    let rewritten = run_to(graph, context, Member::Cheapest)?;
    siblings::merge(rewritten, context)
}

/// Any of the graphs that the rules make of `graph`: with all of them equal to it, every rule is, wherever it fired.
pub fn random_member(graph: &Graph, options: &Options, seed: u64) -> Result<Graph, PassFailure> {
    run_to(graph, &mut Context::new(options, graph), Member::Random(seed))
}

fn run_to(graph: &Graph, context: &mut Context<'_>, member: Member) -> Result<Graph, PassFailure> {
    let live = live_nodes(graph);
    let mut rewrites = Rewrites::new(EGraph::new(Facts::default()));
    let mut values: HashMap<Value, Id> = HashMap::new();
    for id in graph.node_ids().filter(|id| live[id.0 as usize]) {
        insert(graph, id, &mut rewrites, &mut values);
    }
    rewrites.classes.rebuild();
    rewrites.settle_origins();
    count_users(graph, &live, &mut rewrites, &values);
    rewrites.saturate(context)?;
    let effects = graph.effects().iter().flat_map(|&id| graph.node(id).operands.iter().copied());
    let roots: Vec<Id> =
        graph.outputs().iter().map(|(_, v)| *v).chain(effects).filter_map(|v| values.get(&v).copied()).collect();
    let extraction = extract::extract(&rewrites.classes, &roots, member)?;
    rebuild(graph, context, &rewrites, &values, &extraction.nodes)
}

/// Adds a node of the graph to the e-graph.
fn insert(graph: &Graph, id: NodeId, rewrites: &mut Rewrites, values: &mut HashMap<Value, Id>) {
    let node = graph.node(id);
    let symbols = &mut rewrites.classes.analysis.symbols;
    let symbol = match &node.op {
        Op::Placeholder { .. } | Op::ReadVar { .. } => symbols.leaf(id, node.types[0].clone()),
        op if op.has_effect() => {
            // The result of an assignment is the assigned value.
            if let Some(&value) = node.operands.first().and_then(|v| values.get(v)) {
                values.insert(graph.value(id), value);
            }
            return;
        }
        op => symbols.op(op.clone()),
    };
    let children = node.operands.iter().filter_map(|v| values.get(v).copied()).collect();
    let class = rewrites.add_from(ENode { symbol, children }, Origin::of(id));
    if node.types.len() == 1 {
        values.insert(graph.value(id), class);
        return;
    }
    for result in 0..node.types.len() as u32 {
        let symbol = rewrites.classes.analysis.symbols.result(result);
        let projection = ENode { symbol, children: SmallVec::from_slice(&[class]) };
        let class = rewrites.add_from(projection, Origin::of(id));
        values.insert(Value { node: id, result }, class);
    }
}

/// Tells the classes how many nodes and outputs use them.
fn count_users(graph: &Graph, live: &[bool], rewrites: &mut Rewrites, values: &HashMap<Value, Id>) {
    let mut users: BTreeMap<Id, u32> = BTreeMap::new();
    let mut count = |v: &Value| {
        if let Some(&id) = values.get(v) {
            *users.entry(rewrites.classes.find(id)).or_insert(0) += 1;
        }
    };
    for id in graph.node_ids().filter(|id| live[id.0 as usize]) {
        let mut operands: Vec<Value> = graph.node(id).operands.to_vec();
        operands.sort_unstable();
        operands.dedup();
        operands.iter().for_each(&mut count);
    }
    graph.outputs().iter().for_each(|(_, v)| count(v));
    for (id, users) in users {
        let facts = ClassFacts { users, ..rewrites.classes[id].data.clone() };
        rewrites.classes.set_analysis_data(id, facts);
    }
    rewrites.classes.rebuild();
}

fn rebuild(
    graph: &Graph,
    context: &mut Context<'_>,
    rewrites: &Rewrites,
    values: &HashMap<Value, Id>,
    chosen: &[(Id, ENode)],
) -> Result<Graph, PassFailure> {
    let classes = &rewrites.classes;
    let missing = |what: &str| PassFailure::Extraction { what: what.to_owned() };
    let mut rewriter = Rewriter::new(graph, context, |_| true)?;
    // Inputs are the signature, whether or not anything uses them.
    for &id in graph.inputs() {
        rewriter.enter(id);
        let copied = rewriter.copy(id)?;
        rewriter.set(id, copied);
    }
    let mut made: HashMap<Id, Values> = HashMap::new();
    for (class, enode) in chosen {
        let mut operands = Values::new();
        for child in &enode.children {
            let of = made.get(&classes.find(*child)).ok_or_else(|| missing("an operand comes after its user"))?;
            operands.push(of[0]);
        }
        let built = match classes.analysis.symbols.get(enode.symbol) {
            Symbol::Leaf(id, _) => match rewriter.mapped(graph.value(*id)) {
                Some(v) => Values::from_slice(&[v]),
                None => {
                    rewriter.enter(*id);
                    rewriter.copy(*id)?
                }
            },
            Symbol::Result(r) => {
                let of = made.get(&classes.find(enode.children[0])).and_then(|v| v.get(*r as usize));
                Values::from_slice(&[*of.ok_or_else(|| missing("an op lacks a result"))?])
            }
            Symbol::Op(op) => {
                if let Some(origin) = rewrites.origin(enode) {
                    come_from(&mut rewriter, graph, op, origin);
                }
                results(rewriter.add_node((**op).clone(), &operands)?, classes[*class].data.types.len())
            }
        };
        made.insert(*class, built);
    }
    let value_of = |v: Value| values.get(&v).and_then(|&id| made.get(&classes.find(id))).map(|values| values[0]);
    for &id in graph.effects() {
        rewriter.enter(id);
        let node = graph.node(id);
        let operands: Option<Values> = node.operands.iter().map(|&v| value_of(v)).collect();
        let operands = operands.ok_or_else(|| missing("an effect lacks an operand"))?;
        let effect = rewriter.add_node(node.op.clone(), &operands)?;
        rewriter.set(id, results(effect, node.types.len()));
    }
    for (_, v) in graph.outputs() {
        let all: Option<Values> = (0..graph.node(v.node).types.len() as u32)
            .map(|result| value_of(Value { node: v.node, result }).or_else(|| value_of(*v)))
            .collect();
        if rewriter.mapped(*v).is_none() {
            rewriter.set(v.node, all.ok_or_else(|| missing("an output has no value"))?);
        }
    }
    Ok(rewriter.finish()?)
}

/// New nodes come from `origin`: named and placed like the source node of the same op, or else the last one.
fn come_from(rewriter: &mut Rewriter<'_, '_>, graph: &Graph, op: &Op, origin: &Origin) {
    let same = |id: &&NodeId| graph.node(**id).op.mnemonic() == op.mnemonic();
    let Some(&best) = origin.sources.iter().rev().find(same).or(origin.sources.last()) else { return };
    rewriter.enter(best);
    for &source in &origin.sources {
        rewriter.absorb(source);
    }
    for &firing in &origin.rules {
        rewriter.credit(firing);
    }
}
