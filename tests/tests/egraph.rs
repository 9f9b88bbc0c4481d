//! Whatever the rules make of a graph is the same function: random graphs, and random members of the e-graph that the rules grow of them.
//!
//! The passes take one graph of all that an e-graph holds; a wrong equality may hide in the others until a cost changes. Here
//! members are taken at random, whatever they cost.

use kiln_ir::interp::run;
use kiln_ir::{Graph, Stage, Tensor, verify};
use kiln_passes::egraph::random_member;
use kiln_passes::{Options as PassOptions, optimize};
use kiln_tests::compare::check_close;
use kiln_tests::random_graph::{Options, RandomGraph, config, random_graph};
use kiln_tests::shapes::Shape;
use proptest::prelude::*;

/// Members that are looked at for each graph.
const MEMBERS: u64 = 4;

/// Results in f64.
fn results(graph: &Graph, random: &RandomGraph) -> Result<Vec<(String, Tensor)>, TestCaseError> {
    let feeds: Vec<(&str, Tensor)> = random.inputs.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    run::<f64>(graph, &feeds, None).map_err(|e| TestCaseError::fail(format!("{e}\n{graph}")))
}

/// Checks members of the e-graph of the graph as it is drawn, and of its canonical form, which more rules know.
fn check(random: &RandomGraph) -> Result<(), TestCaseError> {
    let fail = |e: String| TestCaseError::fail(e);
    let expected = results(&random.graph, random)?;
    // Tolerances are bounds for f32; f64 rounds 2²⁹ times less, and members may round more often and at larger values.
    let tolerances: Vec<f64> = random.tolerances.iter().map(|t| t * 1e-6).collect();
    let canonical = PassOptions::default().until("canonicalise");
    let canonical = optimize(&random.graph, &canonical).map_err(|e| fail(e.to_string()))?.graph;
    // Folding rounds constants to f32: the canonical form is what its members are compared with.
    let of_canonical = results(&canonical, random)?;
    for (graph, expected) in [(&random.graph, &expected), (&canonical, &of_canonical)] {
        for seed in 0..MEMBERS {
            let member = random_member(graph, &PassOptions::default(), seed).map_err(|e| fail(e.to_string()))?;
            let said = |e: String| fail(format!("{e}\nin member {seed}\n{member}\nof\n{graph}"));
            verify(&member, Stage::Lowered)
                .map_err(|errors| said(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;
            let found = results(&member, random).map_err(|e| said(e.to_string()))?;
            check_close(expected, &found, &tolerances).map_err(said)?;
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn every_member_of_an_e_graph_computes_what_the_graph_does(random in random_graph(Options::default())) {
        check(&random)?;
    }
}

proptest! {
    #![proptest_config(config(5000))]

    /// `cargo test --release -p kiln-tests --test egraph -- --ignored`; `PROPTEST_RNG_SEED=N` before it draws others.
    #[test]
    #[ignore = "5,000 graphs take minutes"]
    fn every_member_of_many_e_graphs_computes_what_the_graph_does(
        random in random_graph(Options { steps: 1..=24, ..Options::default() })
    ) {
        check(&random)?;
    }
}

#[test]
fn e_graphs_grow_in_proportion_to_their_graphs() {
    for shape in Shape::ALL {
        let grown = |ops| {
            let optimized = optimize(&shape.graph(ops), &PassOptions::default()).unwrap();
            optimized.report.passes.iter().find_map(|p| p.growth).unwrap()
        };
        let (small, large) = (grown(100), grown(1000));
        let each = |g: kiln_passes::Growth| g.after as f64 / g.before as f64;
        assert!(each(large) < 1.05 * each(small), "{}: {small:?} {large:?}", shape.name());
        assert_eq!(large.rounds, small.rounds, "{}", shape.name());
    }
}
