//! Whole networks: what all passes together make of them, and that they compute the same.

mod common;

use common::{check_equal, count, same_structure};
use kiln_ir::attribute::Padding;
use kiln_ir::{Builder, ConvOptions, DType, Graph, Initializer, Value, WindowOptions};
use kiln_passes::{Options, PASSES, Pass, optimize};

fn conv_bn(b: &mut Builder, x: Value, name: &str, outputs: usize, window: usize, stride: usize) -> Value {
    let inputs = b.dims(x)[1].fixed().unwrap();
    let w = b.variable(
        &format!("{name}/w"),
        DType::F32,
        &[outputs, inputs, window, window],
        Initializer::He { fan_in: inputs * window * window, seed: 3 },
    );
    let padding = vec![Padding::same((window / 2) as i64); 2];
    let y = b.conv(x, w, &ConvOptions { strides: vec![stride; 2], padding, ..ConvOptions::default() });
    let mut vector = |what: &str, low: f64, high: f64| {
        let init = Initializer::Uniform { low: low.into(), high: high.into(), seed: 5 + outputs as u64 };
        b.variable(&format!("{name}/{what}"), DType::F32, &[outputs], init)
    };
    let statistics =
        [vector("scale", 0.5, 1.5), vector("bias", -0.5, 0.5), vector("mean", -0.5, 0.5), vector("variance", 0.5, 1.5)];
    b.batch_norm(y, statistics, 1, 1e-5)
}

/// A ResNet of bottleneck blocks (He et al. 2016) over small pictures.
fn resnet(blocks: usize, width: usize, extent: usize) -> Graph {
    let mut b = Builder::new("resnet");
    let x = b.placeholder("x", DType::F32, &[1.into(), 3.into(), extent.into(), extent.into()]);
    let stem = conv_bn(&mut b, x, "stem", width, 7, 2);
    let stem = b.relu(stem);
    let pool = WindowOptions {
        window: vec![1, 1, 3, 3],
        strides: vec![1, 1, 2, 2],
        padding: vec![Padding::NONE, Padding::NONE, Padding::same(1), Padding::same(1)],
        dilation: vec![],
    };
    let mut y = b.max_pool(stem, &pool);
    for i in 0..blocks {
        let first = conv_bn(&mut b, y, &format!("{i}/a"), width, 1, 1);
        let first = b.relu(first);
        let second = conv_bn(&mut b, first, &format!("{i}/b"), width, 3, 1);
        let second = b.relu(second);
        let third = conv_bn(&mut b, second, &format!("{i}/c"), width * 2, 1, 1);
        let skip = if b.dims(y)[1] == (width * 2).into() {
            y
        } else {
            conv_bn(&mut b, y, &format!("{i}/skip"), width * 2, 1, 1)
        };
        let sum = b.add(third, skip);
        y = b.relu(sum);
    }
    let dims = b.dims(y);
    let window = vec![1, 1, dims[2].fixed().unwrap(), dims[3].fixed().unwrap()];
    let pooled = b.avg_pool(y, &WindowOptions { window, ..WindowOptions::default() }, false);
    let flat = b.reshape(pooled, &[1.into(), (width * 2).into()]);
    let w = b.variable(
        "fc/w",
        DType::F32,
        &[width * 2, 10],
        Initializer::Xavier { fan_in: width * 2, fan_out: 10, seed: 9 },
    );
    let bias =
        b.variable("fc/b", DType::F32, &[10], Initializer::Uniform { low: (-1.0).into(), high: 1.0.into(), seed: 8 });
    let logits = b.matmul(flat, w);
    let logits = b.add(logits, bias);
    let p = b.softmax(logits, 1);
    b.output("p", p);
    b.finish().unwrap()
}

#[test]
fn a_residual_network_becomes_fused_convolutions_and_little_else() {
    let before = resnet(2, 8, 16);
    let got = optimize(&before, &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    check_equal(&before, &got.graph);
    let of = |mnemonic| count(&got.graph, mnemonic);
    assert_eq!(
        (of("fused_conv"), of("fused_dot"), of("conv_general"), of("dot_general")),
        (8, 1, 0, 0),
        "{}",
        got.graph
    );
    // The input arrives channels-first; the mean before the classifier is in its weights.
    assert_eq!(
        (of("transpose"), of("fused_elementwise"), of("mul"), of("add"), of("relu")),
        (1, 0, 0, 0, 0),
        "{}",
        got.graph
    );
    assert_eq!(got.report.fired("fold_scale_into_conv"), 8);
}

#[test]
fn every_pass_and_rule_can_be_left_out() {
    let before = resnet(2, 8, 16);
    let names = PASSES.iter().map(|p| p.name).chain(kiln_passes::rule_names());
    for name in names {
        let got = optimize(&before, &Options::default().without(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(got.report.fired(name), 0);
        check_equal(&before, &got.graph);
    }
    let none = optimize(&before, &Options::none()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(none.graph, before);
}

#[test]
fn any_amount_of_fuel_gives_an_equal_graph() {
    let before = resnet(1, 4, 8);
    let full = optimize(&before, &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    let firings: usize = full.report.passes.iter().flat_map(|p| p.fired.values()).sum();
    for fuel in (0..=firings as u64 + 1).step_by(3) {
        let options = Options { fuel: Some(fuel), ..Options::default() };
        let got = optimize(&before, &options).unwrap_or_else(|e| panic!("{fuel}: {e}"));
        check_equal(&before, &got.graph);
    }
}

#[test]
fn two_optimisations_of_one_graph_print_the_same() {
    let before = resnet(2, 8, 16);
    let run = || optimize(&before, &Options::default()).unwrap_or_else(|e| panic!("{e}")).graph.to_string();
    assert_eq!(run(), run());
}

#[test]
fn an_optimised_graph_has_nothing_left_to_do() {
    let once = optimize(&resnet(2, 8, 16), &Options::default()).unwrap_or_else(|e| panic!("{e}")).graph;
    let twice = optimize(&once, &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    assert!(same_structure(&once, &twice.graph), "{once}\n{}\n{}", twice.graph, twice.report);
}

#[test]
fn work_grows_no_faster_than_the_graph() {
    // Firings and nodes, not time: what a long chain of equal blocks costs per block must not depend on its length.
    let measure = |blocks: usize| {
        let before = resnet(blocks, 4, 4);
        let got = optimize(&before, &Options::default()).unwrap_or_else(|e| panic!("{e}"));
        let firings: usize = got.report.passes.iter().flat_map(|p| p.fired.values()).sum();
        (before.len(), firings, got.graph.len())
    };
    let (small, large) = (measure(20), measure(100));
    assert!(large.0 > 2000, "{large:?}");
    let ratio = large.0 as f64 / small.0 as f64;
    assert!((large.1 as f64) < 1.1 * ratio * small.1 as f64, "{small:?} {large:?}");
    assert!((large.2 as f64) < 1.1 * ratio * small.2 as f64, "{small:?} {large:?}");
}

#[test]
fn unknown_names_are_refused_with_the_known_ones() {
    let graph = resnet(1, 4, 8);
    let error = optimize(&graph, &Options::default().without("fuse_bais")).unwrap_err().to_string();
    assert!(error.contains("`fuse_bais`") && error.contains("fuse_bias"), "{error}");
    let error = optimize(&graph, &Options::default().until("layuot")).unwrap_err().to_string();
    assert!(error.contains("`layuot`") && error.contains("layout") && !error.contains("fuse_bias"), "{error}");
}

#[test]
fn the_driver_names_the_pass_that_breaks_the_graph() {
    let graph = resnet(1, 4, 8);
    let broken = Pass {
        name: "broken",
        doc: "fails",
        rules: Vec::new,
        run: |graph, context| {
            let mut rewriter = kiln_passes::rewrite::Rewriter::new(graph, context, |_| true)?;
            rewriter.add(kiln_ir::Op::Neg {}, &[])?;
            Ok(rewriter.finish()?)
        },
    };
    let error = kiln_passes::driver::run(&[broken], &graph, &Options::default(), &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("pass `broken` failed"), "{error}");
}

#[test]
fn the_driver_names_the_pass_that_changes_what_comes_out() {
    let other = Pass {
        name: "other",
        doc: "gives another graph",
        rules: Vec::new,
        run: |_, _| {
            let mut b = Builder::new("other");
            let x = b.placeholder("x", DType::F32, &[2.into()]);
            b.output("half", x);
            Ok(b.finish().expect("a graph"))
        },
    };
    let graph = resnet(1, 4, 8);
    let error = kiln_passes::driver::run(&[other], &graph, &Options::default(), &mut |_, _| {});
    let error = error.map(drop).unwrap_err().to_string();
    assert!(error.contains("invalid after pass `other`") && error.contains("the outputs were %"), "{error}");
}

#[test]
fn stages_can_be_observed_and_stopped_at() {
    let graph = resnet(1, 4, 8);
    let mut seen = Vec::new();
    let options = Options::default().until("layout").without("rewrite");
    let got = kiln_passes::optimize_observed(&graph, &options, &mut |pass, graph| seen.push((pass.name, graph.len())));
    let got = got.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(seen.iter().map(|s| s.0).collect::<Vec<_>>(), ["variables", "canonicalise", "layout"]);
    assert_eq!(seen.last().map(|s| s.1), Some(got.graph.len()));
    assert_eq!(got.report.passes.len(), 3);
}
