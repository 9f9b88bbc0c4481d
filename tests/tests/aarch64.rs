//! Machine code for aarch64, run: C programs with embedded models, in QEMU's user mode. Skipped where the cross compiler or QEMU is not
//! installed (on Debian: `gcc-aarch64-linux-gnu` and `qemu-user`).

use kiln_codegen::embed::WeightPlace;
use kiln_codegen::native::Target;
use kiln_ir::Graph;
use kiln_ir::interp::{State, run as interpret};
use kiln_ir::text::parse;
use kiln_passes::Options;
use kiln_tests::compare::check_close;
use kiln_tests::embed::{Machine, build_any, run, run_filetests};
use kiln_tests::random_graph::{Options as Random, config, random_graph};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

/// The emulated machine; `None`, with a message, where a tool is missing.
fn machine() -> Option<Machine> {
    Machine::aarch64().installed()
}

fn target() -> Target {
    Target::named("aarch64-unknown-linux-gnu").unwrap()
}

#[test]
fn every_graph_of_the_run_filetests_gives_the_right_results_on_aarch64() {
    let Some(machine) = machine() else { return };
    let problems = run_filetests(&machine, &target(), [WeightPlace::File, WeightPlace::Object], |_, _, _| Ok(()));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Random graphs with and without passes, with variables; drawn from a fixed seed.
#[test]
fn random_graphs_give_the_right_results_on_aarch64() {
    let Some(machine) = machine() else { return };
    let folder = tempfile::tempdir().unwrap();
    build_any(&machine, folder.path()).unwrap();
    let mut runner = TestRunner::new_with_rng(config(40), TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]));
    let strategy = random_graph(Random { steps: 6..=24, ..Random::default() });
    for i in 0..40 {
        let random = strategy.new_tree(&mut runner).unwrap().current();
        let feeds: Vec<_> = random.inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
        let expected = interpret::<f32>(&random.graph, &feeds, Some(&mut State::new())).unwrap();
        let passes = if i % 4 == 3 { Options::none() } else { Options::default() };
        let how = (&passes, WeightPlace::Object);
        let found = run(&random.graph, &random.inputs, 1, &target(), how, &machine, folder.path());
        // a pass may regroup what is rounded
        let tolerances: Vec<f64> = random.tolerances.iter().map(|t| 4.0 * t).collect();
        let result = found.and_then(|(outputs, _)| check_close(&expected, &outputs[0], &tolerances));
        result.unwrap_or_else(|e| panic!("{e}\n{random:?}"));
    }
}

/// Momentum and a convolution: states that are read and assigned in one run.
const TRAINING: &str = r#"kiln 1
graph @train(%x: f32[1, 2, 8, 8], %t: f32[1, 3, 6, 6]) -> (%loss: f32[]) {
  variable "b": f32[3, 1, 1] = fill(0.25)
  variable "m": f32[3, 1, 1] = fill(0)
  %w = constant uniform(low=-0.3, high=0.3, seed=1) : f32[3, 2, 3, 3]
  %c = conv_general %x, %w
  %b = read_var {variable = "b"} : f32[3, 1, 1]
  %bs = broadcast %b {axes = [1, 2, 3]} : f32[1, 3, 6, 6]
  %y = add %c, %bs
  %e = sub %y, %t
  %s = mul %e, %e
  %loss = reduce %s {axes = [0, 1, 2, 3], reducer = sum}
  %g0 = reduce %e {axes = [0, 2, 3], reducer = sum}
  %g = reshape %g0 : f32[3, 1, 1]
  %m = read_var {variable = "m"} : f32[3, 1, 1]
  %k = constant dense<0.9> : f32[]
  %ks = broadcast %k {axes = []} : f32[3, 1, 1]
  %km = mul %m, %ks
  %rate = constant dense<0.01> : f32[]
  %rates = broadcast %rate {axes = []} : f32[3, 1, 1]
  %step = mul %g, %rates
  %n = add %km, %step
  assign %n {variable = "m"}
  %next = sub %b, %n
  assign %next {variable = "b"}
}
"#;

#[test]
fn a_training_step_run_again_and_again_on_aarch64_gives_what_the_interpreter_gives() {
    let Some(machine) = machine() else { return };
    let folder = tempfile::tempdir().unwrap();
    build_any(&machine, folder.path()).unwrap();
    let graph: Graph = parse(TRAINING, "test").unwrap();
    let normal = |dims: &[usize], seed| {
        let normal = kiln_ir::Initializer::Normal { mean: 0.0.into(), std: 1.0.into(), seed };
        normal.materialize(kiln_ir::DType::F32, dims).unwrap()
    };
    let inputs = vec![("x".to_owned(), normal(&[1, 2, 8, 8], 1)), ("t".to_owned(), normal(&[1, 3, 6, 6], 2))];
    let feeds: Vec<_> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    let how = (&Options::default(), WeightPlace::Object);
    let (outputs, variables) = run(&graph, &inputs, 6, &target(), how, &machine, folder.path()).unwrap();
    let mut state = State::new();
    let mut losses = Vec::new();
    for found in &outputs {
        let expected = interpret::<f32>(&graph, &feeds, Some(&mut state)).unwrap();
        check_close(&expected, found, &[1e-4]).unwrap();
        losses.extend(found[0].1.to_f64_vec());
    }
    assert!(losses[5] < losses[0], "{losses:?}");
    assert_eq!(variables.len(), 2);
    for found in variables {
        let expected = (found.0.clone(), state.get(&found.0).unwrap().clone());
        check_close(&[expected], &[found], &[1e-5]).unwrap();
    }
}
