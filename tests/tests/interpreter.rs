//! The interpreter against itself on random graphs: precisions, bodies of composites, the text format.

use kiln_ir::interp::{State, run};
use kiln_ir::ops::Level;
use kiln_ir::{Graph, Tensor, expand::expand_graph};
use kiln_tests::random_graph::{Options, RandomGraph, random_graph};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult};

fn feeds(random: &RandomGraph) -> Vec<(&str, Tensor)> {
    random.inputs.iter().map(|(name, t)| (name.as_str(), t.clone())).collect()
}

/// Whether each output of `graph`, interpreted in f32, is within its tolerance of `expected`.
fn agrees(graph: &Graph, random: &RandomGraph, expected: &[(String, Tensor)]) -> TestCaseResult {
    let found = run::<f32>(graph, &feeds(random), None);
    let found = found.map_err(|e| TestCaseError::fail(format!("{e}\n{random:?}")))?;
    prop_assert_eq!(found.len(), expected.len());
    for (((name, f), (_, e)), &tolerance) in found.iter().zip(expected).zip(&random.tolerances) {
        prop_assert_eq!(f.dims(), e.dims());
        for (i, (f, e)) in f.to_f64_vec().into_iter().zip(e.to_f64_vec()).enumerate() {
            let same = f == e || (f.is_nan() && e.is_nan());
            prop_assert!(
                same || (f - e).abs() <= tolerance,
                "{name}[{i}]: {f} for {e}, tolerance {tolerance:e}\n{random:?}"
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(Config::with_cases(1000))]

    #[test]
    fn expanding_the_composites_of_a_graph_keeps_its_values(random in random_graph(Options::default())) {
        let direct = run::<f32>(&random.graph, &feeds(&random), None);
        let direct = direct.map_err(|e| TestCaseError::fail(format!("{e}\n{random:?}")))?;
        let expanded = expand_graph(&random.graph, Level::L0);
        let expanded = expanded.map_err(|e| TestCaseError::fail(format!("{e}\n{random:?}")))?;
        agrees(&expanded, &random, &direct)?;
    }

    /// Runs are functions of feeds and state alone.
    #[test]
    fn equal_runs_have_equal_results_and_states(random in random_graph(Options::default())) {
        let mut states = [State::new(), State::new()];
        let [first, second] = states.each_mut().map(|state| {
            (run::<f32>(&random.graph, &feeds(&random), Some(state)), run::<f32>(&random.graph, &feeds(&random), Some(state)))
        });
        // By bits, so that NaN equals itself.
        prop_assert!(first == second, "{:?}", random);
        prop_assert_eq!(&states[0], &states[1]);
    }
}
