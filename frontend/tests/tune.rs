//! Tuning: what it measures, and that code is made as it found.

#[path = "../../tests/src/target.rs"]
mod target;

use std::sync::Arc;
use std::time::Duration;

use kiln::compile::{ArtifactOptions, CompileOptions, compile};
use kiln::ir::attribute::{ConvLayout, Padding};
use kiln::ir::{Builder, ConvOptions, DType, Dim, Graph, Tensor, WindowOptions};
use kiln::layer_error::layer_error;
use kiln::random_feeds::random_tensor;
use kiln::tune::{Database, TuneOptions, tune};
use kiln_codegen::native::Target;
use kiln_codegen::tuning::{Algorithm, Blocking, Choice, Choices, Tiling};

/// A convolution that Winograd's algorithm may compute, a pool, and another convolution of the same layer's text.
fn model() -> (Graph, Tensor) {
    let mut b = Builder::new("two_layers");
    let dims = [1, 12, 12, 32];
    let mut x = b.placeholder("x", DType::F32, &dims.map(Dim::Fixed));
    let options = ConvOptions {
        padding: vec![Padding { low: 1, high: 1 }; 2],
        layout: ConvLayout::ChannelsLast,
        ..ConvOptions::default()
    };
    for seed in 0..2 {
        let w = b.constant(random_tensor(DType::F32, &[3, 3, 32, 32], seed).expect("a filter"));
        x = b.conv(x, w, &options);
        x = b.max_pool(x, &WindowOptions { window: vec![1, 1, 1, 1], ..WindowOptions::default() });
    }
    b.output("y", x);
    (b.finish().expect("the model is well formed"), random_tensor(DType::F32, &dims, 9).expect("an input"))
}

fn with(choices: Choices) -> CompileOptions {
    CompileOptions { target: target::chosen(), choices: Arc::new(choices), ..CompileOptions::default() }
}

#[test]
fn a_layer_is_computed_as_prescribed_and_only_in_ways_that_it_has() {
    let (graph, _) = model();
    let estimated = compile(&graph, &with(Choices::default())).expect("it compiles");
    let decision = &estimated.decisions()[0];
    assert_eq!(estimated.decisions().len(), 2, "two convolutions");
    assert_eq!(estimated.decisions()[1].layer, decision.layer, "of one text");
    assert!(decision.candidates.contains(&decision.algorithm) && decision.candidates.len() > 3);
    for &way in &decision.candidates {
        let mut choices = Choices::default();
        choices.insert(decision.layer.as_str(), Choice::Prescribed(way));
        let compiled = compile(&graph, &with(choices)).expect("it compiles");
        for d in compiled.decisions() {
            assert_eq!(d.algorithm, way, "{}", d.layer);
            let step = &compiled.plan().steps[d.steps.end - 1];
            assert_eq!(step.note, format!("{way}; prescribed"));
        }
    }
    let foreign = [
        Algorithm::Direct(Blocking { rows: 1000, vectors: 7, columns_first: true }),
        Algorithm::Winograd(Tiling { results: 8, taps: 3, blocks: 1, parts: 1 }),
    ];
    for way in foreign {
        let mut choices = Choices::default();
        choices.insert(decision.layer.as_str(), Choice::Prescribed(way));
        let compiled = compile(&graph, &with(choices)).expect("it compiles");
        assert_eq!(compiled.decisions()[0].algorithm, decision.algorithm, "{way} is none of its ways");
        let note = compiled.decisions()[0].note();
        assert!(
            note.contains("estimated, for what was known is no way of this layer") && note.contains(&way.to_string())
        );
    }
}

#[test]
fn what_is_known_about_one_machine_is_not_followed_for_another() {
    let (graph, _) = model();
    let target = |name: &str| Target::named(name).expect("a known target");
    let [v3, v2] = [target("x86-64-v3"), target("x86-64-v2")];
    let estimated = |target: &Target| {
        let options = CompileOptions { target: Some(target.clone()), ..CompileOptions::default() };
        compile(&graph, &options).expect("it compiles").decisions()[0].clone()
    };
    let (first, second) = (estimated(&v3), estimated(&v2));
    // a way that both have and neither would take
    let both = |way: &Algorithm| second.candidates.contains(way) && ![first.algorithm, second.algorithm].contains(way);
    let way = *first.candidates.iter().find(|&way| both(way)).expect("they have ways in common");
    let mut choices = Choices::default();
    choices.insert(first.layer.as_str(), Choice::Prescribed(way));
    let options = CompileOptions {
        target: Some(v3),
        choices: Arc::new(choices),
        more_targets: vec![(v2, Arc::default())],
        ..CompileOptions::default()
    };
    let compiled = compile(&graph, &options).expect("it compiles");
    let ways: Vec<Algorithm> = compiled.decisions_by_target().map(|(_, decisions)| decisions[0].algorithm).collect();
    assert_eq!(ways, [way, second.algorithm]);
}

#[test]
fn the_error_of_a_convolution_that_leaves_out_the_edge_of_its_input_is_measured() {
    let mut b = Builder::new("cropped");
    let x = b.placeholder("x", DType::F32, &[1, 30, 30, 32].map(Dim::Fixed));
    let padding = vec![Padding { low: -2, high: 1 }, Padding { low: 1, high: -3 }];
    let options = ConvOptions { padding, layout: ConvLayout::ChannelsLast, ..ConvOptions::default() };
    let w = b.constant(random_tensor(DType::F32, &[3, 3, 32, 32], 1).expect("a filter"));
    let y = b.conv(x, w, &options);
    b.output("y", y);
    let compiled = compile(&b.finish().expect("a graph"), &CompileOptions::default()).expect("it compiles");
    let (target, node) = (Target::host().expect("this machine is supported"), compiled.decisions()[0].node);
    let error = layer_error(compiled.graph(), node, &target, &Arc::default()).expect("it runs");
    assert!(error.is_some_and(|error| error < 1e-4), "{error:?}");
}

#[test]
fn tuning_files_every_layer_and_what_it_files_is_used() {
    let (graph, input) = model();
    let options = TuneOptions { compile: with(Choices::default()), threads: 1, budget: Duration::from_secs(1) };
    let mut shares = Vec::new();
    let tuned = tune(&graph, std::slice::from_ref(&input), &options, &mut |share| shares.push(share)).expect("it runs");
    assert!(shares.iter().all(|s| (0.0..=1.0).contains(s)) && shares.last() == Some(&1.0), "{shares:?}");
    assert_eq!(tuned.layers.len(), 1);
    let layer = &tuned.layers[0];
    assert_eq!(layer.nodes, 2);
    assert!(layer.tried.0 > 1 && layer.measurement.nanoseconds > 0, "{layer:?}");
    let mut database = Database::default();
    tuned.file(&mut database);
    let choices = database.choices(&tuned.circumstances);
    assert!(matches!(choices.get(&layer.layer), Some(Choice::Measured(_))));
    let compiled = compile(&graph, &with(choices)).expect("it compiles");
    assert!(compiled.decisions()[0].note().contains("measured: "), "{}", compiled.decisions()[0].note());
}

#[test]
fn the_error_of_every_way_is_measured_and_within_1e_4() {
    let (graph, _) = model();
    let compiled = compile(&graph, &with(Choices::default())).expect("it compiles");
    let decision = &compiled.decisions()[0];
    for &way in &decision.candidates {
        let mut choices = Choices::default();
        choices.insert(decision.layer.as_str(), Choice::Prescribed(way));
        let error =
            layer_error(compiled.graph(), decision.node, compiled.target(), &Arc::new(choices)).expect("it runs");
        let error = error.expect("a convolution with a known filter");
        let least = if matches!(way, Algorithm::Winograd(_)) { 0.0 } else { -1.0 };
        assert!(error > least && error < 1e-4, "{way}: {error:e}");
    }
}

#[test]
fn an_artifact_has_code_for_every_target_that_is_asked_for() {
    let (graph, _) = model();
    let target = |name: &str| Target::named(name).expect("a known target");
    let options = CompileOptions {
        target: Some(target("x86-64-v2")),
        more_targets: ["x86-64-v3", "aarch64-unknown-linux-gnu"].map(|name| (target(name), Arc::default())).to_vec(),
        ..CompileOptions::default()
    };
    let compiled = compile(&graph, &options).expect("it compiles");
    let bytes = compiled.artifact(&ArtifactOptions::default()).and_then(|a| Ok(a.to_bytes()?)).expect("an artifact");
    let summary = kiln_runtime::artifact::inspect(&bytes, kiln_runtime::artifact::Digests::Check).expect("it is whole");
    let triples: Vec<&str> = summary.natives.iter().map(|n| n.triple.as_str()).collect();
    assert_eq!(triples.len(), 3, "{triples:?}");
    assert!(triples[2].starts_with("aarch64"), "{triples:?}");
    assert!(summary.natives[0].features.len() < summary.natives[1].features.len());
}
