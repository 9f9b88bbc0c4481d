//! Every rule alone: graphs drawn from its precondition become the same function, and a mistake in what it made of them
//! would have been noticed.
//!
//! A rule is a row of [`canonical::ROWS`], [`bytes::ROWS`], [`recognised::ROWS`], [`rewrites::ROWS`] or [`fused::ROWS`]: which others must
//! be on for it to be reached, how results are compared, and how a graph is drawn. To prove another rule, add a row. It has a row of
//! [`refusals::all`], too: graphs that it must leave alone. [`page`] makes `docs/rules.md` of the tables, and names the rules that
//! lack something.

mod bytes;
mod canonical;
mod draw;
mod fused;
mod mutants;
mod page;
mod recognised;
mod refusals;
mod rewrites;

use draw::Draw;
use kiln_ir::interp::{Fp, run};
use kiln_ir::{DType, Dim, Graph, Op, Tensor, Value};
use kiln_passes::{Options, optimize, rule_names};
use mutants::mutants;

/// A rule with graphs of its precondition.
pub struct Row {
    /// The rule.
    pub rule: &'static str,
    /// Rules that must be on too.
    pub with: &'static [&'static str],
    /// How results are compared.
    pub how: How,
    /// Draws a graph in which the rule must fire.
    pub make: fn(&mut Draw),
}

/// How results are compared.
#[derive(Clone, Copy, PartialEq)]
pub enum How {
    /// In the prime field 2³¹ − 1, where sums and products are exact: equal.
    Exactly,
    /// In f64: equal.
    Identically,
    /// In f64: within this many parts of the largest magnitude. 1e-12 is some thousand roundings; 1e-6 where the rule
    /// makes constants, which are rounded to f32.
    Closely(f64),
}

/// Graphs drawn for each rule.
const DRAWS: u64 = 24;

/// Graphs drawn for each rule that must leave them alone: up to eight kinds, of which each must come.
const REFUSED: u64 = 96;

fn rows() -> impl Iterator<Item = &'static Row> {
    canonical::ROWS.iter().chain(bytes::ROWS).chain(recognised::ROWS).chain(rewrites::ROWS).chain(fused::ROWS)
}

/// Outputs in numbers: residues, or f64.
#[derive(Clone, Debug, PartialEq)]
enum Results {
    Residues(Vec<Vec<i64>>),
    Reals(Vec<Vec<f64>>),
}

/// The outputs for random feeds.
fn results(graph: &Graph, how: How, seed: u64) -> Result<Results, String> {
    let feeds: Vec<(&str, Tensor)> = graph
        .input_types()
        .zip(1..)
        .map(|((name, ty), i)| {
            let dims = ty.static_dims().unwrap();
            let random = kiln_ir::random::uniform(seed * 100 + i, dims.iter().product());
            let field = how == How::Exactly && ty.dtype.is_float();
            let positive = name.starts_with("positive");
            let values: Vec<f64> = random
                .map(|u| match ty.dtype {
                    _ if field => (u * 2147483647.0).floor(),
                    DType::Bool => u.round(),
                    d if d.is_integer() => (u * 5.0).floor(),
                    _ if positive => 0.5 + u,
                    _ => u * 6.0 - 3.0,
                })
                .collect();
            let dtype = match ty.dtype {
                _ if field => DType::I64,
                d if d.is_float() => DType::F64,
                d => d,
            };
            (name, Tensor::from_f64(dtype, &dims, &values).unwrap())
        })
        .collect();
    let error = |e: kiln_ir::interp::InterpError| e.to_string();
    Ok(match how {
        How::Exactly => {
            let found = run::<Fp>(graph, &feeds, None).map_err(error)?;
            Results::Residues(found.iter().map(|(_, t)| t.to_i64_vec()).collect())
        }
        _ => {
            let found = run::<f64>(graph, &feeds, None).map_err(error)?;
            Results::Reals(found.iter().map(|(_, t)| t.to_f64_vec()).collect())
        }
    })
}

fn same(a: &Results, b: &Results, how: How) -> bool {
    match (a, b, how) {
        (Results::Reals(a), Results::Reals(b), How::Closely(tolerance)) => a.iter().zip(b).all(|(a, b)| {
            let scale = a.iter().filter(|v| v.is_finite()).fold(1.0, |m: f64, v| m.max(v.abs()));
            let close =
                |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * scale;
            a.len() == b.len() && a.iter().zip(b).all(close)
        }),
        (a, b, _) => a == b,
    }
}

/// Only `row`'s rules.
fn only(row: &Row) -> Options {
    let on = |rule: &str| rule == row.rule || row.with.contains(&rule);
    rule_names().filter(|rule| !on(rule)).fold(Options::default(), |options, rule| options.without(rule))
}

/// Checks a row over many graphs. The error says what is wrong with the first of them.
fn check(row: &Row) -> Result<(), String> {
    let options = only(row);
    let (mut noticed, mut missed) = (0, Vec::new());
    for seed in 0..DRAWS {
        let before = Draw::graph(seed, row.make);
        let got = optimize(&before, &options).map_err(|e| format!("{e}\n{before}"))?;
        let after = &got.graph;
        if got.report.fired(row.rule) == 0 {
            return Err(format!("did not fire on\n{before}"));
        }
        let want = results(&before, row.how, seed).map_err(|e| format!("{e}\n{before}"))?;
        let found = results(after, row.how, seed).map_err(|e| format!("{e}\n{after}"))?;
        if !same(&want, &found, row.how) {
            return Err(format!("{want:?} became {found:?}\n{before}\n{after}"));
        }
        if after.to_string() == before.to_string() {
            return Err(format!("fired, but nothing came of it\n{before}"));
        }
        for mutant in mutants(after, seed) {
            // Another function: the comparison must see it, or have none to compare.
            match results(&mutant, row.how, seed) {
                Ok(found) if same(&want, &found, row.how) => missed.push(mutant),
                _ => noticed += 1,
            }
        }
    }
    // A mutant may be the same function: a limit that nothing reaches, a comparison of equal things.
    if noticed == 0 || missed.len() * 5 > noticed {
        let first = missed.first().map(ToString::to_string).unwrap_or_default();
        return Err(format!("{noticed} mutants were noticed and {} were not, among them\n{first}", missed.len()));
    }
    Ok(())
}

#[test]
fn what_a_rule_makes_is_the_same_function_and_a_mistake_in_it_would_be_noticed() {
    let failures: Vec<String> =
        rows().filter_map(|row| check(row).err().map(|e| format!("---- {}: {e}", row.rule))).collect();
    assert!(failures.is_empty(), "{} rules fail\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_rule_leaves_graphs_alone_that_violate_its_precondition() {
    let mut failures = Vec::new();
    for (rule, make) in refusals::all() {
        let row = rows().find(|row| row.rule == *rule).unwrap_or_else(|| panic!("{rule} has no row"));
        let mut graphs = (0..REFUSED).map(|seed| Draw::graph(seed, *make));
        failures.extend(graphs.find_map(|graph| match optimize(&graph, &only(row)) {
            Ok(got) if got.report.fired(rule) == 0 => None,
            Ok(_) => Some(format!("---- {rule} fires on\n{graph}")),
            Err(e) => Some(format!("---- {rule}: {e}\n{graph}")),
        }));
    }
    assert!(failures.is_empty(), "{} rules fire\n{}", failures.len(), failures.join("\n"));
}

/// Groups of products and convolutions over one value that agree in all but the outputs of their constant weights.
fn groups_of_siblings(graph: &Graph) -> usize {
    let mut groups: Vec<(Value, Vec<Dim>, &Op, usize)> = Vec::new();
    for id in graph.node_ids() {
        let node = graph.node(id);
        let outputs = match &node.op {
            Op::Conv { .. } => 0,
            Op::Dot { rhs_contract, .. } => 1 - rhs_contract[0],
            _ => continue,
        };
        let mut rest = graph.ty(node.operands[1]).dims.clone();
        rest.remove(outputs);
        match groups.iter_mut().find(|(x, dims, op, _)| *x == node.operands[0] && *dims == rest && **op == node.op) {
            Some((.., members)) => *members += 1,
            None => groups.push((node.operands[0], rest, &node.op, 1)),
        }
    }
    groups.iter().filter(|(.., members)| *members > 1).count()
}

#[test]
fn each_group_of_siblings_is_merged_by_itself() {
    for rule in ["merge_sibling_products", "merge_sibling_convolutions"] {
        let row = rows().find(|row| row.rule == rule).unwrap();
        let mut most = 0;
        for seed in 0..DRAWS {
            let graph = Draw::graph(seed, row.make);
            let fired = optimize(&graph, &only(row)).unwrap().report.fired(rule);
            let groups = groups_of_siblings(&graph);
            assert_eq!(fired, groups, "{graph}");
            most = most.max(groups);
        }
        assert_eq!(most, 3, "{rule}: no graph of several groups was drawn");
    }
}

/// With all rules on, whatever else they make of these graphs.
#[test]
fn any_graph_that_the_rules_make_is_the_same_function() {
    for row in rewrites::ROWS {
        let how = if row.how == How::Exactly { How::Exactly } else { How::Closely(1e-12) };
        for seed in 0..DRAWS {
            let graph = Draw::graph(seed, row.make);
            let want = results(&graph, how, seed).unwrap_or_else(|e| panic!("{e}\n{graph}"));
            for choice in 0..4 {
                let member = kiln_passes::egraph::random_member(&graph, &Options::default(), choice)
                    .unwrap_or_else(|e| panic!("{e}\n{graph}"));
                let found = results(&member, how, seed).unwrap_or_else(|e| panic!("{e}\n{member}"));
                assert!(same(&want, &found, how), "{}: {want:?} became {found:?}\n{graph}\n{member}", row.rule);
            }
        }
    }
}
