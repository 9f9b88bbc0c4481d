//! Random graphs: all ways of running one agree.

use kiln_ir::interp::{State, run};
use kiln_ir::{Graph, Tensor};
use kiln_passes::Options as PassOptions;
use kiln_tests::compare::check_close;
use kiln_tests::random_graph::{Options, RandomGraph, config, random_graph};
use kiln_tests::ways::Way;
use proptest::prelude::*;

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

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn a_compiled_graph_computes_what_the_graph_does(random in random_graph(Options::default())) {
        let expected = interpret(&random.graph, &random)?;
        let none = Way::Compiled(PassOptions::none());
        let compiled = [none, Way::Compiled(PassOptions::default()), Way::NativeArtifact, Way::PortableArtifact];
        for way in compiled.into_iter().chain(Way::whatever_the_target()) {
            let found = way.run(&random.graph, &random.inputs).map_err(|e| TestCaseError::fail(format!("{way:?}: {e}")))?;
            check_close(&expected, &found, &regrouped(&random.tolerances))
                .map_err(|e| TestCaseError::fail(format!("{way:?}: {e}")))?;
        }
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
