//! The optimiser: how its time and its e-graph grow with the graph, and what its rules are worth.
//!
//! `cargo bench -p kiln-tests --bench optimiser [-- shapes | zoo]`
//!
//! The first table has networks of three shapes and four sizes, the second every model of the zoo at batch 1. Times are medians
//! of several runs of all passes, without the verification between them. Modelled costs are those by which rules are chosen
//! (`egraph::cost`), summed over the graph as it is lowered, with rules on and off; `docs/performance.md` says more.

use std::time::Duration;

use kiln::zoo::{Images, MODELS, bert::Bert};
use kiln_ir::{Dim, Graph};
use kiln_passes::egraph::cost::node_costs;
use kiln_passes::{Growth, Options, Report, optimize};
use kiln_tests::shapes::{Shape, ops};

const RUNS: usize = 5;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let runs = |table: &str| wanted.is_empty() || wanted.iter().any(|w| w == table);
    if runs("shapes") {
        shapes();
    }
    if runs("zoo") {
        zoo();
    }
}

/// What optimising a graph took.
struct Measured {
    ops: usize,
    growth: Growth,
    rewrite: Duration,
    all: Duration,
    reports: Vec<Report>,
}

fn measure(graph: &Graph, runs: usize) -> Measured {
    let optimise = |_| optimize(graph, &Options::default()).unwrap_or_else(|e| panic!("{e}")).report;
    let reports: Vec<Report> = (0..runs).map(optimise).collect();
    let pass = |report: &Report| report.passes.iter().find(|p| p.growth.is_some()).cloned().expect("the e-graph ran");
    let median = |of: &dyn Fn(&Report) -> Duration| {
        let mut times: Vec<Duration> = reports.iter().map(of).collect();
        times.sort_unstable();
        times[times.len() / 2]
    };
    Measured {
        ops: ops(graph),
        growth: pass(&reports[0]).growth.expect("the e-graph ran"),
        rewrite: median(&|r| pass(r).time),
        all: median(&Report::time),
        reports,
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn shapes() {
    println!("| shape | ops | e-nodes before | after | classes | rounds | e-graph, ms | all passes, ms | µs an op |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for shape in Shape::ALL {
        for size in [300, 1_000, 3_000, 10_000] {
            let m = measure(&shape.graph(size), RUNS);
            let Growth { before, after, classes, rounds } = m.growth;
            let (rewrite, all) = (ms(m.rewrite), ms(m.all));
            let each = all * 1e3 / m.ops as f64;
            println!(
                "| {} | {} | {before} | {after} | {classes} | {rounds} | {rewrite:.1} | {all:.1} | {each:.1} |",
                shape.name(),
                m.ops
            );
            if std::env::args().any(|a| a == "--passes") {
                eprintln!("{}", m.reports[0]);
            }
        }
    }
}

/// The modelled time of the graph that is lowered, in ms.
fn modelled(graph: &Graph, options: &Options) -> f64 {
    let optimized = optimize(graph, options).unwrap_or_else(|e| panic!("{e}"));
    node_costs(&optimized.graph).iter().sum::<u64>() as f64 * 1e-9
}

fn zoo() {
    println!(
        "| model | ops | e-nodes before | after | e-graph, ms | all passes, ms | as written | canonical | rewritten | e-graph's gain | all rules' gain |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let images = |m: &kiln::zoo::Model| (m.name, m.graph(&Images { batch: Dim::Fixed(1), ..m.images() }));
    let all = MODELS.iter().map(images).chain([("bert_base", Bert::base().graph(1, 128))]);
    for (name, graph) in all {
        let graph = graph.unwrap_or_else(|e| panic!("{name}: {e}"));
        // With weights that are there: to make random ones takes far longer.
        let ready = optimize(&graph, &Options::default().until("variables")).unwrap_or_else(|e| panic!("{name}: {e}"));
        let graph = ready.graph;
        let m = measure(&graph, RUNS);
        let off = |passes: &[&str]| passes.iter().fold(Options::default(), |options, pass| options.without(pass));
        let written = modelled(&graph, &off(&["canonicalise", "rewrite", "tidy"]));
        let canonical = modelled(&graph, &off(&["rewrite"]));
        let rewritten = modelled(&graph, &Options::default());
        let gain = |before: f64| 100.0 * (before / rewritten - 1.0);
        println!(
            "| {name} | {} | {} | {} | {:.1} | {:.1} | {written:.3} | {canonical:.3} | {rewritten:.3} | {:.1} % | {:.1} % |",
            m.ops,
            m.growth.before,
            m.growth.after,
            ms(m.rewrite),
            ms(m.all),
            gain(canonical),
            gain(written)
        );
    }
}
