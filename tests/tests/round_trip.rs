//! Random graphs through the text format and the verifier.

use std::collections::{BTreeMap, BTreeSet};

use kiln_ir::text::{PrintOptions, WeightStore, parse_with, print_into};
use kiln_ir::{Stage, specialize, verify};
use kiln_tests::random_graph::{Options, config, random_graph};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn a_random_graph_is_valid_and_reads_back_as_itself(random in random_graph(Options::default())) {
        let graph = random.graph;
        prop_assert_eq!(verify(&graph, Stage::Composite), Ok(()));
        for (elements, locations) in [(16, false), (0, true), (1 << 20, false)] {
            let mut weights = WeightStore::new();
            let options = PrintOptions { elements, locations };
            let text = print_into(&graph, &options, &mut weights);
            let again = parse_with(&text, "t", &|id| weights.get(id).cloned());
            let again = again.map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
            prop_assert_eq!(&again, &graph, "{}", text);
            prop_assert_eq!(verify(&again, Stage::Composite), Ok(()));
            if !locations {
                prop_assert_eq!(print_into(&again, &options, &mut WeightStore::new()), text);
            }
        }
    }

    #[test]
    fn specialising_a_static_graph_changes_nothing(random in random_graph(Options::default())) {
        prop_assert_eq!(specialize(&random.graph, &BTreeMap::new()), Ok(random.graph));
    }
}

#[test]
fn random_graphs_reach_every_op_of_l0_and_l1_and_shrink_to_few_nodes() {
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]));
    let strategy = random_graph(Options::default());
    let mut reached = BTreeSet::new();
    for _ in 0..12_000 {
        let graph = strategy.new_tree(&mut runner).unwrap().current().graph;
        reached.extend(graph.node_ids().map(|id| graph.node(id).op.mnemonic()));
    }
    let all = kiln_ir::ops::ROWS.iter().filter(|r| r.level <= Stage::Composite.level());
    let missed: Vec<&str> = all.map(|r| r.mnemonic).filter(|m| !reached.contains(m)).collect();
    assert_eq!(missed, Vec::<&str>::new());

    let mut tree = strategy.new_tree(&mut runner).unwrap();
    while tree.simplify() {}
    assert!(tree.current().graph.len() <= 3, "{:?}", tree.current());
}
