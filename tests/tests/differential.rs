//! Random graphs: all ways of running one agree.

use std::collections::BTreeSet;

use kiln_ir::interp::{State, run};
use kiln_ir::{DType, Dim, Graph, Op, Tensor};
use kiln_passes::Options as PassOptions;
use kiln_tests::compare::check_close;
use kiln_tests::random_graph::{Options, RandomGraph, config, random_graph};
use kiln_tests::ways::Way;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

fn feeds(random: &RandomGraph) -> Vec<(&str, Tensor)> {
    random.inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect()
}

/// Results of the interpreter in each dtype's own precision.
fn interpret(graph: &Graph, random: &RandomGraph) -> Result<Vec<(String, Tensor)>, TestCaseError> {
    run::<f32>(graph, &feeds(random), Some(&mut State::new())).map_err(|e| TestCaseError::fail(format!("{e}\n{graph}")))
}

/// Four times the bound for one implementation against another: a pass may regroup what is rounded.
fn regrouped(tolerances: &[f64]) -> Vec<f64> {
    tolerances.iter().map(|t| 4.0 * t).collect()
}

/// Fails unless the graph computes the same by all these ways as by the interpreter.
fn agree(random: &RandomGraph, ways: impl IntoIterator<Item = Way>) -> Result<(), TestCaseError> {
    let expected = interpret(&random.graph, random)?;
    for way in ways {
        let found = way.run(&random.graph, &random.inputs).map_err(|e| TestCaseError::fail(format!("{way:?}: {e}")))?;
        check_close(&expected, &found, &regrouped(&random.tolerances))
            .map_err(|e| TestCaseError::fail(format!("{way:?}: {e}")))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn a_compiled_graph_computes_what_the_graph_does(random in random_graph(Options::default())) {
        let none = Way::Compiled(PassOptions::none());
        let compiled = [none, Way::Compiled(PassOptions::default()), Way::NativeArtifact, Way::PortableArtifact];
        agree(&random, compiled.into_iter().chain(Way::whatever_the_target()))?;
    }
}

proptest! {
    #![proptest_config(config(10))]

    #[test]
    fn a_few_graphs_compiled_with_each_pass_off_compute_what_the_graph_does(random in random_graph(Options::default())) {
        agree(&random, Way::all())?;
    }
}

/// Later passes and lowering take what a rule would have made another of. For each rule, graphs in which it fires, where some do.
#[test]
fn random_graphs_compiled_with_each_rule_off_compute_what_the_graph_does() {
    const GRAPHS: usize = 400;
    const EACH: usize = 8;
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]));
    let strategy = random_graph(Options::default());
    let mut graphs = Vec::new();
    for _ in 0..GRAPHS {
        let random = strategy.new_tree(&mut runner).unwrap().current();
        let report = kiln_passes::optimize(&random.graph, &PassOptions::default()).unwrap().report;
        graphs.push((random, report));
    }
    let mut fired = 0;
    for (at, rule) in kiln_passes::rule_names().enumerate() {
        let (of_rule, others): (Vec<_>, Vec<_>) = graphs.iter().partition(|(_, report)| report.fired(rule) > 0);
        fired += usize::from(!of_rule.is_empty());
        let others = others.into_iter().cycle().skip(at * EACH);
        for (random, _) in of_rule.into_iter().chain(others).take(EACH) {
            let without = PassOptions::default().without(rule);
            let report = kiln_passes::optimize(&random.graph, &without).unwrap().report;
            assert_eq!(report.fired(rule), 0, "{rule} is off and fires on\n{}", random.graph);
            agree(random, [Way::Compiled(without)]).unwrap_or_else(|e| panic!("without {rule}: {e}\n{random:?}"));
        }
    }
    assert!(fired >= 40, "only {fired} rules fire on {GRAPHS} graphs");
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    #[ignore = "takes minutes: --release -- --ignored"]
    fn two_thousand_graphs_compute_the_same_by_every_way_and_with_each_pass_off(random in random_graph(Options::default())) {
        agree(&random, Way::all())?;
    }
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn the_interpreter_in_f32_is_within_the_derived_bound_of_f64(random in random_graph(Options::default())) {
        let exact = run::<f64>(&random.graph, &feeds(&random), None).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let found = interpret(&random.graph, &random)?;
        check_close(&exact, &found, &random.tolerances).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn an_optimised_graph_computes_what_the_graph_does(random in random_graph(Options::default())) {
        let expected = interpret(&random.graph, &random)?;
        let mut ways = vec![PassOptions::default()];
        ways.extend(kiln_passes::PASSES.iter().map(|p| PassOptions::default().without(p.name)));
        for way in ways {
            let optimized = kiln_passes::optimize(&random.graph, &way).map_err(|e| TestCaseError::fail(e.to_string()))?;
            let found = interpret(&optimized.graph, &random)?;
            check_close(&expected, &found, &regrouped(&random.tolerances))
                .map_err(|e| TestCaseError::fail(format!("{e}\nwith {way:?}:\n{}", optimized.graph)))?;
        }
    }
}

/// Attention that is fused, with and without a mask, a row of one key, and extents that fill no vector.
#[test]
fn random_graphs_reach_attention_of_every_kind_that_is_fused() {
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]));
    let strategy = random_graph(Options::inference());
    let mut reached = BTreeSet::new();
    for _ in 0..1500 {
        let graph = strategy.new_tree(&mut runner).unwrap().current().graph;
        let softmax = |id| matches!(graph.node(id).op, Op::Softmax { .. });
        if !graph.node_ids().any(softmax) {
            continue;
        }
        let optimized = kiln_passes::optimize(&graph, &PassOptions::default()).unwrap().graph;
        for node in optimized.node_ids().map(|id| optimized.node(id)) {
            let Op::FusedAttention { v_keys, q_depth, .. } = node.op else { continue };
            let dims = |i: usize| optimized.ty(node.operands[i]).static_dims().unwrap();
            reached.insert(match node.operands.get(3).map(|&mask| optimized.ty(mask)) {
                None => "no mask",
                Some(mask) if mask.dtype == DType::Bool => "a mask of truth",
                Some(mask) if mask.dims.contains(&Dim::Fixed(1)) => "a broadcast mask",
                Some(_) => "a whole mask",
            });
            reached.insert(if dims(2)[v_keys] == 1 { "one key" } else { "several keys" });
            reached.insert(if dims(0)[q_depth] % 4 == 0 { "vectors of depth" } else { "odd depth" });
        }
    }
    let all = ["no mask", "a mask of truth", "a broadcast mask", "a whole mask", "one key", "several keys"];
    let missed: Vec<_> =
        all.into_iter().chain(["vectors of depth", "odd depth"]).filter(|k| !reached.contains(k)).collect();
    assert!(missed.is_empty(), "never drawn: {missed:?}");
}
