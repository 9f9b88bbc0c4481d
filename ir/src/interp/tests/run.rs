//! Whole graphs: feeds, state, errors, precision.

use super::{counting, tensor};
use crate::attribute::Extreme;
use crate::builder::Builder;
use crate::dtype::DType;
use crate::graph::{Graph, Location};
use crate::initializer::Initializer;
use crate::interp::{EvalError, FeedError, Fp, InterpError, State, run};
use crate::ops::Op;
use crate::tensor::Tensor;

/// y = x · w + b with variables w and b; b is assigned y's first row.
fn affine() -> Graph {
    let mut b = Builder::new("affine");
    let x = b.placeholder("x", DType::F32, &[2.into(), 2.into()]);
    let w = b.variable("w", DType::F32, &[2, 2], Initializer::Fill(2.0.into()));
    let bias = b.variable("b", DType::F32, &[2], Initializer::ONES);
    let y = b.matmul(x, w);
    let y = b.add(y, bias);
    let row = b.slice_axis(y, 0, 0, 1);
    let row = b.reshape(row, &[2.into()]);
    b.assign("b", row);
    b.output("y", y);
    b.finish().unwrap()
}

fn y(results: Vec<(String, Tensor)>) -> Vec<f32> {
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].0, "y");
    results[0].1.to_vec().unwrap()
}

#[test]
fn reads_see_the_state_before_the_run_and_assignments_come_after_it() {
    let (graph, feeds) = (affine(), [("x", counting(&[2, 2]))]);
    let mut state = State::new();
    assert_eq!(y(run::<f32>(&graph, &feeds, Some(&mut state)).unwrap()), [3., 3., 11., 11.]);
    assert_eq!(state.get("b").unwrap(), &tensor(&[2], &[3f32, 3.0]));
    assert_eq!(state.get("w"), None, "never assigned");
    assert_eq!(y(run::<f32>(&graph, &feeds, Some(&mut state)).unwrap()), [5., 5., 13., 13.]);
    assert_eq!(state.get("b").unwrap(), &tensor(&[2], &[5f32, 5.0]));
    // Without a state every run starts from the initialisers.
    assert_eq!(y(run::<f32>(&graph, &feeds, None).unwrap()), [3., 3., 11., 11.]);
    state.set("w", Tensor::zeros(DType::F32, &[2, 2]).unwrap());
    assert_eq!(y(run::<f32>(&graph, &feeds, Some(&mut state)).unwrap()), [5., 5., 5., 5.]);
}

#[test]
fn a_failed_run_leaves_the_state_alone() {
    let mut state = State::new();
    state.set("b", tensor(&[2], &[7f32, 7.0]));
    run::<f32>(&affine(), &[], Some(&mut state)).unwrap_err();
    assert_eq!(state.get("b").unwrap(), &tensor(&[2], &[7f32, 7.0]));
    assert_eq!(state.iter().count(), 1);
}

#[test]
fn everything_wrong_with_feeds_and_state_is_reported_at_once() {
    let mut b = Builder::new("many");
    for name in ["a", "b", "c", "d"] {
        let x = b.placeholder(name, DType::F32, &[2.into()]);
        b.output(name, x);
    }
    let v = b.variable("v", DType::F32, &[3], Initializer::ZEROS);
    b.output("v", v);
    let graph = b.finish().unwrap();
    let mut state = State::new();
    state.set("v", Tensor::scalar(1f32));
    let feeds = [
        ("a", tensor(&[2], &[1i64, 2])),
        ("b", counting(&[3])),
        ("c", counting(&[2])),
        ("c", counting(&[2])),
        ("z", counting(&[2])),
    ];
    let error = run::<f32>(&graph, &feeds, Some(&mut state)).unwrap_err();
    let text = error.to_string();
    let InterpError::Feeds(problems) = error else { panic!("{text}") };
    assert_eq!(problems.len(), 6, "{text}");
    for line in [
        "input `a`: expected f32[2], found i64[2]",
        "input `b`: expected f32[2], found f32[3]",
        "input `c` is fed twice: feed it once",
        "input `d` is not fed: expected f32[2]",
        "`z` is not an input: the inputs are a, b, c, d",
        "variable `v`: expected f32[3], found f32[]",
    ] {
        assert!(text.lines().any(|l| l == line), "no line {line:?} in\n{text}");
    }
}

#[test]
fn unbound_symbols_are_named() {
    let mut b = Builder::new("symbolic");
    let x = b.placeholder("x", DType::F32, &["batch".into(), "seq".into()]);
    b.output("x", x);
    let error = run::<f32>(&b.finish().unwrap(), &[], None).unwrap_err();
    assert_eq!(error, InterpError::Symbolic { names: vec!["batch".into(), "seq".into()] });
}

#[test]
fn f64_runs_take_and_give_doubles_for_any_float() {
    let mut b = Builder::new("third");
    let x = b.placeholder("x", DType::F32, &[]);
    let three = b.scalar(DType::F32, 3.0);
    let q = b.div(x, three);
    let h = b.convert(q, DType::F16);
    b.output("q", q);
    b.output("h", h);
    let graph = b.finish().unwrap();
    let results = run::<f64>(&graph, &[("x", Tensor::scalar(1.0 + 1e-12))], None).unwrap();
    assert!(results.iter().all(|(_, t)| *t == Tensor::scalar((1.0 + 1e-12) / 3.0)), "{results:?}");
    assert_eq!(run::<f64>(&graph, &[("x", Tensor::scalar(1f32))], None).unwrap()[0].1, Tensor::scalar(1.0 / 3.0));
    // In f32 a double is a feed of another dtype.
    assert!(run::<f32>(&graph, &[("x", Tensor::scalar(1f64))], None).is_err());
    let narrow = run::<f32>(&graph, &[("x", Tensor::scalar(1f32))], None).unwrap();
    assert_eq!(narrow[1].1.to_f64_vec(), [0.333251953125]);
}

#[test]
fn field_runs_take_numbers_or_residues_and_give_residues() {
    let mut b = Builder::new("poly");
    let x = b.placeholder("x", DType::F32, &[2.into()]);
    let sixth = b.scalar(DType::F32, 1.0 / 6.0);
    let y = b.mul(x, sixth);
    let six = b.scalar(DType::F32, 6.0);
    let z = b.mul(y, six);
    b.output("z", z);
    let graph = b.finish().unwrap();
    let z = |feed: Tensor| run::<Fp>(&graph, &[("x", feed)], None).unwrap()[0].1.to_vec::<i64>().unwrap();
    assert_eq!(z(tensor(&[2], &[5f32, -1.0])), [5, i64::from(Fp::P) - 1]);
    assert_eq!(z(tensor(&[2], &[123_456_789i64, -2])), [123_456_789, i64::from(Fp::P) - 2]);
    let error = run::<Fp>(&graph, &[("x", tensor(&[2], &[f32::NAN, 0.0]))], None).unwrap_err();
    assert!(matches!(&error, InterpError::Feeds(p) if matches!(&p[..], [FeedError::Value { .. }])), "{error}");
}

#[test]
fn a_node_that_fails_is_named_with_its_place() {
    let mut b = Builder::new("exp");
    let x = b.placeholder("x", DType::F32, &[]);
    b.set_name(Some("attention".into()));
    b.set_location(Some(Location::Model { file: "model.onnx".into(), node: "Exp_3".into() }));
    let y = b.exp(x);
    b.output("y", y);
    let error = run::<Fp>(&b.finish().unwrap(), &[("x", Tensor::scalar(1f32))], None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "model.onnx: node `Exp_3`: `exp` %attention: `exp` has no meaning over the prime field of 2^31 - 1"
    );
    assert!(matches!(error, InterpError::Node { error: EvalError::Undefined(_), .. }));
}

#[test]
fn only_what_is_needed_is_computed() {
    let mut b = Builder::new("lazy");
    let x = b.placeholder("x", DType::F32, &[]);
    // Over the field this would fail.
    let _ = b.exp(x);
    b.output("x", x);
    assert!(run::<Fp>(&b.finish().unwrap(), &[("x", Tensor::scalar(1f32))], None).is_ok());
}

#[test]
fn a_value_may_be_output_several_times_and_used_twice_by_one_node() {
    let mut b = Builder::new("shared");
    let x = b.placeholder("x", DType::F32, &[3.into()]);
    let top = b.add_node(Op::TopK { k: 2, axis: 0, extreme: Extreme::Max }, &[x], 2);
    let square = b.mul(top[0], top[0]);
    for (name, v) in [("a", square), ("b", square), ("values", top[0]), ("indices", top[1]), ("x", x)] {
        b.output(name, v);
    }
    let results = run::<f32>(&b.finish().unwrap(), &[("x", counting(&[3]))], None).unwrap();
    let all: Vec<Vec<f64>> = results.iter().map(|(_, t)| t.to_f64_vec()).collect();
    assert_eq!(all, [vec![4., 1.], vec![4., 1.], vec![2., 1.], vec![2., 1.], vec![0., 1., 2.]]);
}

#[test]
fn a_group_runs_its_effects() {
    let mut b = Builder::new("grouped");
    let v = b.variable("v", DType::F32, &[], Initializer::ZEROS);
    let one = b.scalar(DType::F32, 1.0);
    let next = b.add(v, one);
    let assigned = b.assign("v", next);
    b.add_node(Op::Group {}, &[assigned], 0);
    let (graph, mut state) = (b.finish().unwrap(), State::new());
    for count in 1..=3 {
        assert!(run::<f32>(&graph, &[], Some(&mut state)).unwrap().is_empty());
        assert_eq!(state.get("v"), Some(&Tensor::scalar(count as f32)));
    }
}
