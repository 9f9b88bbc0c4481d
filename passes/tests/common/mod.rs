//! What the tests of this crate share.
#![allow(dead_code)] // Each test binary uses its part.

use kiln_ir::text::parse;
use kiln_ir::{DType, Graph, Tensor, TensorType, Value, interp};
use kiln_passes::{Optimized, Options, optimize};

/// A graph of this signature and body; the body is lines of the text format.
pub fn graph(signature: &str, body: &str) -> Graph {
    let text = format!("kiln 1\ngraph @test{signature} {{\n{body}\n}}\n");
    parse(&text, "test").unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// The graph after the passes up to `until`.
pub fn after(until: &str, graph: &Graph) -> Optimized {
    optimize(graph, &Options::default().until(until)).unwrap_or_else(|e| panic!("{e}"))
}

/// How many nodes have this mnemonic.
pub fn count(graph: &Graph, mnemonic: &str) -> usize {
    graph.node_ids().filter(|&id| graph.node(id).op.mnemonic() == mnemonic).count()
}

/// Whether two graphs compute their outputs by the same ops; names and node order do not count.
pub fn same_structure(a: &Graph, b: &Graph) -> bool {
    fn same(a: &Graph, x: Value, b: &Graph, y: Value) -> bool {
        let (p, q) = (a.node(x.node), b.node(y.node));
        x.result == y.result
            && p.op == q.op
            && p.operands.len() == q.operands.len()
            && p.operands.iter().zip(&q.operands).all(|(&x, &y)| same(a, x, b, y))
    }
    a.outputs().len() == b.outputs().len()
        && a.outputs().iter().zip(b.outputs()).all(|((n, x), (m, y))| n == m && same(a, *x, b, *y))
}

/// Feeds for every input: small numbers, different in each element, from `seed`.
pub fn feeds(graph: &Graph, seed: u64) -> Vec<(String, Tensor)> {
    let input = |(i, (name, ty)): (usize, (&str, &TensorType))| {
        let dims = ty.static_dims().unwrap();
        let n = dims.iter().product();
        let values: Vec<f64> = kiln_ir::random::uniform(seed + i as u64, n)
            .map(|u| match ty.dtype {
                DType::Bool => u.round(),
                d if d.is_integer() => (u * 4.0).floor(),
                _ => u * 3.0 - 1.5,
            })
            .collect();
        (name.to_owned(), Tensor::from_f64(ty.dtype, &dims, &values).unwrap())
    };
    graph.input_types().enumerate().map(input).collect()
}

/// The outputs of a graph in f64.
pub fn outputs(graph: &Graph, feeds: &[(String, Tensor)]) -> Vec<Vec<f64>> {
    let feeds: Vec<(&str, Tensor)> = feeds
        .iter()
        .map(|(name, t)| {
            let dtype = if t.dtype().is_float() { DType::F64 } else { t.dtype() };
            (name.as_str(), Tensor::from_f64(dtype, t.dims(), &t.to_f64_vec()).unwrap())
        })
        .collect();
    let results = interp::run::<f64>(graph, &feeds, None).unwrap_or_else(|e| panic!("{e}\n{graph}"));
    results.into_iter().map(|(_, t)| t.to_f64_vec()).collect()
}

/// Checks that two graphs give the same results. They are computed in f64; the tolerance is for constants, which
/// passes combine and round to f32 (2⁻²⁴ each, relative), in sums of up to some thousand terms of either sign.
pub fn check_equal(before: &Graph, after: &Graph) {
    if !before.symbols().is_empty() {
        return;
    }
    for seed in [1, 100] {
        let feeds = feeds(before, seed);
        for (want, got) in outputs(before, &feeds).into_iter().zip(outputs(after, &feeds)) {
            let scale = want.iter().filter(|v| v.is_finite()).fold(1.0, |m: f64, v| m.max(v.abs()));
            assert_eq!(want.len(), got.len());
            for (i, (w, g)) in want.iter().zip(&got).enumerate() {
                let same = (w.is_nan() && g.is_nan()) || w == g || (w - g).abs() <= 1e-5 * scale;
                assert!(same, "element {i}: {w} became {g}\n{before}\n{after}");
            }
        }
    }
}

/// A rule, a graph where it must fire, and what it must give.
pub struct Case {
    pub rule: &'static str,
    pub signature: &'static str,
    pub before: &'static str,
    pub after: &'static str,
}

/// Checks that `case.before` becomes `case.after` by the pass `until`, that the rule fired, and that it is what
/// did it: with the rule disabled it does not fire.
pub fn check(case: &Case, until: &str) {
    let Case { rule, signature, before, after: want } = case;
    let (before, want) = (graph(signature, before), graph(signature, want));
    let got = after(until, &before);
    assert!(same_structure(&got.graph, &want), "{rule}: expected\n{want}\nfound\n{}", got.graph);
    assert!(got.report.fired(rule) > 0, "{rule} did not fire:\n{}\n{}", got.report, got.graph);
    let off = optimize(&before, &Options::default().until(until).without(rule)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(off.report.fired(rule), 0);
    check_equal(&before, &got.graph);
    let again = after(until, &got.graph);
    assert!(same_structure(&again.graph, &got.graph), "{rule}: not idempotent:\n{}\n{}", got.graph, again.graph);
}

/// Checks that `rule` does not fire on a graph that violates its precondition.
pub fn check_silent(rule: &str, signature: &str, body: &str, until: &str) {
    let got = after(until, &graph(signature, body));
    assert_eq!(got.report.fired(rule), 0, "{rule} fired:\n{}", got.graph);
}
