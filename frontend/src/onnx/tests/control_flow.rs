//! Loops and scans written out at import, and what cannot be.

use kiln_ir::{DType, Tensor, interp};

use super::*;

/// A body that adds its step to the sum `v`, gives the sum as scan output `s`, and goes on as `go` says.
fn counting_body() -> Model {
    Model::new(17)
        .input("i", DType::I64, &[])
        .input("go", DType::Bool, &[])
        .input("v", DType::F32, &["2"])
        .node("Cast", &["i"], &["step"], vec![int("to", 1)])
        .node("Add", &["v", "step"], &["w"], vec![])
        .node("Identity", &["w"], &["s"], vec![])
        .node("Identity", &["go"], &["on"], vec![])
        .output("on")
        .output("w")
        .output("s")
}

fn loop_model(body: Model, inputs: &[&str]) -> Model {
    Model::new(17)
        .input("x", DType::F32, &["2"])
        .constant("yes", &Tensor::scalar(true))
        .node("Loop", inputs, &["last", "all"], vec![graph_attribute("body", body.graph())])
        .output("last")
        .output("all")
}

fn run(model: Model, feeds: &[(&str, Tensor)]) -> Vec<(String, Tensor)> {
    let imported = model.import(&ImportOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    interp::run::<f32>(&imported.graph, feeds, None).unwrap_or_else(|e| panic!("{e}"))
}

fn values(results: &[(String, Tensor)]) -> Vec<(&str, Vec<usize>, Vec<f64>)> {
    results.iter().map(|(name, t)| (name.as_str(), t.dims().to_vec(), t.to_f64_vec())).collect()
}

#[test]
fn a_loop_gives_its_last_values_and_stacks_its_scan_outputs() {
    let model = loop_model(counting_body(), &["three", "yes", "x"]).constant("three", &Tensor::scalar(3i64));
    let results = run(model, &[("x", f32s(&[2], &[10.0, 20.0]))]);
    assert_eq!(
        values(&results),
        [("last", vec![2], vec![13.0, 23.0]), ("all", vec![3, 2], vec![10.0, 20.0, 11.0, 21.0, 13.0, 23.0])]
    );
}

#[test]
fn a_loop_ends_by_its_condition_before_its_number_of_steps() {
    // goes on while the step is below 1: two steps
    let body =
        counting_body().constant("one", &Tensor::scalar(1i64)).node("Less", &["i", "one"], &["below"], vec![]).graph();
    let mut body = Model { graph: body, opset: 17 };
    body.graph.output[0].name = Some("below".into());
    for trips in ["nine", ""] {
        let model = loop_model(body.clone(), &[trips, "yes", "x"]).constant("nine", &Tensor::scalar(9i64));
        let results = run(model, &[("x", f32s(&[2], &[0.0, 0.0]))]);
        assert_eq!(results[1].1.dims(), [2, 2]);
    }
    // without a condition the body's is not asked
    let model = loop_model(body, &["nine", "", "x"]).constant("nine", &Tensor::scalar(9i64));
    assert_eq!(run(model, &[("x", f32s(&[2], &[0.0, 0.0]))])[1].1.dims(), [9, 2]);
}

#[test]
fn a_loop_of_no_steps_gives_what_it_is_given_and_empty_scans() {
    let mut body = counting_body();
    body.graph.output[2] = value_info("s", DType::F32, &["2"]);
    let none = |body| loop_model(body, &["zero", "yes", "x"]).constant("zero", &Tensor::scalar(0i64));
    let results = run(none(body), &[("x", f32s(&[2], &[1.0, 2.0]))]);
    assert_eq!(values(&results), [("last", vec![2], vec![1.0, 2.0]), ("all", vec![0, 2], vec![])]);
    let text = none(counting_body()).error();
    assert!(text.contains("does not declare the extents of `s`"), "{text}");
}

#[test]
fn a_body_sees_the_values_around_it_and_loops_nest() {
    // v ← v + x for each inner step, twice each
    let inner = Model::new(17)
        .input("j", DType::I64, &[])
        .input("jgo", DType::Bool, &[])
        .input("iv", DType::F32, &["2"])
        .node("Add", &["iv", "x"], &["iw"], vec![])
        .output("jgo")
        .output("iw")
        .graph();
    let outer = Model::new(17)
        .input("i", DType::I64, &[])
        .input("go", DType::Bool, &[])
        .input("v", DType::F32, &["2"])
        .node("Loop", &["two", "go", "v"], &["w"], vec![graph_attribute("body", inner)])
        .output("go")
        .output("w");
    let model = Model::new(17)
        .input("x", DType::F32, &["2"])
        .constant("two", &Tensor::scalar(2i64))
        .constant("yes", &Tensor::scalar(true))
        .node("Loop", &["two", "yes", "x"], &["y"], vec![graph_attribute("body", outer.graph())])
        .output("y");
    assert_eq!(run(model, &[("x", f32s(&[2], &[1.0, -2.0]))])[0].1.to_f64_vec(), [5.0, -10.0]);
}

/// Running sums over x, whose sum so far is also the result of each step.
fn sum_body() -> GraphProto {
    Model::new(17)
        .input("sum", DType::F32, &["2"])
        .input("next", DType::F32, &["2"])
        .node("Add", &["sum", "next"], &["total"], vec![])
        .node("Identity", &["total"], &["so_far"], vec![])
        .output("total")
        .output("so_far")
        .graph()
}

fn scan(opset: i64, dims: &[&str], attributes: Vec<AttributeProto>, inputs: &[&str]) -> Model {
    let all = [attributes, vec![graph_attribute("body", sum_body()), int("num_scan_inputs", 1)]].concat();
    Model::new(opset)
        .input("x", DType::F32, dims)
        .constant("zero", &f32s(&[2], &[0.0, 0.0]))
        .node("Scan", inputs, &["total", "so_far"], all)
        .output("total")
        .output("so_far")
}

#[test]
fn a_scan_walks_along_the_axes_and_directions_it_is_told() {
    let x = f32s(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let results = run(scan(11, &["3", "2"], vec![], &["zero", "x"]), &[("x", x.clone())]);
    assert_eq!(results[1].1.to_f64_vec(), [1.0, 2.0, 4.0, 6.0, 9.0, 12.0]);

    // backwards over the columns of xᵀ, results as columns, the last step's first
    let attributes = vec![
        ints("scan_input_axes", &[-1]),
        ints("scan_input_directions", &[1]),
        ints("scan_output_axes", &[1]),
        ints("scan_output_directions", &[1]),
    ];
    let transposed = f32s(&[2, 3], &[1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    let results = run(scan(11, &["2", "3"], attributes, &["zero", "x"]), &[("x", transposed)]);
    assert_eq!(
        values(&results),
        [("total", vec![2], vec![9.0, 12.0]), ("so_far", vec![2, 3], vec![9.0, 8.0, 5.0, 12.0, 10.0, 6.0])]
    );
}

#[test]
fn a_scan_before_opset_9_scans_each_entry_of_the_batch() {
    let x = count(&[2, 3, 2]);
    let mut model = scan(8, &["2", "3", "2"], vec![], &["", "start", "x"]).proto();
    model.graph.as_mut().unwrap().initializer.push(tensor_proto("start", &f32s(&[2, 2], &[0.0, 0.0, 100.0, 0.0])));
    let imported = import_proto(&model, &ImportOptions::default()).unwrap();
    let results = interp::run::<f32>(&imported.graph, &[("x", x)], None).unwrap();
    assert_eq!(values(&results)[0], ("total", vec![2, 2], vec![6.0, 9.0, 124.0, 27.0]));
    assert_eq!(results[1].1.dims(), [2, 3, 2]);
    // entries count though there are no steps
    let mut model = scan(8, &["2"], vec![], &["", "start", "none"]).proto();
    for (name, dims) in [("start", vec![1 << 36, 0]), ("none", vec![1 << 36, 0, 2])] {
        let empty = Tensor::zeros(DType::F32, &dims).unwrap();
        model.graph.as_mut().unwrap().initializer.push(tensor_proto(name, &empty));
    }
    let text = import_proto(&model, &ImportOptions::default()).unwrap_err().to_string();
    assert!(text.contains("expand to more than"), "{text}");
}

#[test]
fn loops_that_cannot_be_written_out_say_why() {
    let condition = || {
        let mut body = counting_body().node("ReduceSum", &["w"], &["sum"], vec![int("keepdims", 0)]).node(
            "Cast",
            &["sum"],
            &["more"],
            vec![int("to", 9)],
        );
        body.graph.output[0].name = Some("more".into());
        body
    };
    let million = Tensor::scalar(1i64 << 60);
    for (model, part) in [
        (
            loop_model(counting_body(), &["many", "yes", "x"]).constant("many", &million),
            "loops and functions that expand to more than 16384 nodes",
        ),
        (loop_model(counting_body(), &["", "", "x"]), "a loop without M and cond, which does not end"),
        (loop_model(counting_body(), &["", "yes", "x"]), "expand to more than 16384 nodes"),
        (
            loop_model(condition(), &["", "yes", "x"]),
            "a condition that depends on the values of the graph's inputs (before step 1)",
        ),
        (loop_model(counting_body(), &["x", "yes", "x"]), "input 0 (M) must be known at import"),
        (loop_model(counting_body(), &["two", "yes", "x"]).constant("two", &i64s(&[1, 2])), "M must be one integer"),
        (
            loop_model(counting_body(), &["two", "yes", "x", "x"]).constant("two", &Tensor::scalar(2i64)),
            "the body has 3 inputs, the node gives it 4",
        ),
        (
            loop_model(counting_body(), &["two", "yes", ""]).constant("two", &Tensor::scalar(2i64)),
            "input 2 (a value that the body takes) is missing",
        ),
        (
            Model::new(17).constant("two", &Tensor::scalar(2i64)).node("Loop", &["two"], &["y"], vec![]).output("y"),
            "the attribute `body` is missing",
        ),
        (
            Model::new(17)
                .node("Loop", &[], &["y"], vec![graph_attribute("body", Model::new(17).graph()), int("fast", 1)])
                .output("y"),
            "unknown attribute `fast`",
        ),
        (
            scan(11, &["3", "2"], vec![ints("scan_input_axes", &[2])], &["zero", "x"]),
            "axis 2 is out of range for rank 2",
        ),
        (
            scan(11, &["3", "2"], vec![ints("scan_input_directions", &[2])], &["zero", "x"]),
            "`scan_input_directions`: expected 0 or 1 for each of 1 values",
        ),
        (scan(11, &["3", "2"], vec![], &["x"]), "the body has 2 inputs, the node gives it 1"),
        (scan(11, &["100000", "2"], vec![], &["zero", "x"]), "expand to more than 16384 nodes"),
        (scan(8, &["1", "3", "2"], vec![], &["zero", "x", "x"]), "sequence_lens"),
    ] {
        let text = model.error();
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn what_is_wrong_in_a_body_is_said_once() {
    let body = counting_body().node("Relu", &["absent"], &["z"], vec![]);
    let text = loop_model(body, &["nine", "yes", "x"]).constant("nine", &Tensor::scalar(9i64)).error();
    assert_eq!(text.matches("input `absent` is not defined").count(), 1, "{text}");
}

#[test]
fn a_body_cannot_use_the_results_of_its_own_loop() {
    let body = counting_body().node("Add", &["w", "last"], &["z"], vec![]);
    let text = loop_model(body, &["two", "yes", "x"]).constant("two", &Tensor::scalar(2i64)).error();
    assert!(text.contains("input `last` is not defined before this node"), "{text}");
}

#[test]
fn scan_outputs_of_unequal_extents_are_refused() {
    let body = counting_body()
        .constant("zeros", &i64s(&[0]))
        .node("Unsqueeze", &["i", "zeros"], &["end"], vec![])
        .node("Slice", &["w", "zeros", "end"], &["part"], vec![]);
    let mut body = body;
    body.graph.output[2].name = Some("part".into());
    let text = loop_model(body, &["two", "yes", "x"]).constant("two", &Tensor::scalar(2i64)).error();
    assert!(text.contains("extents [0] in one step and [1] in another"), "{text}");
}

#[test]
fn constants_of_a_body_are_read_once() {
    // 4096 steps over a constant of 1 MiB: read at each step, they would take 4 GiB
    let big = f32s(&[1 << 18], &vec![1.0; 1 << 18]);
    let typed = TensorProto { float_data: vec![1.0; 1 << 18], raw_data: None, ..tensor_proto("c", &big) };
    let value = AttributeProto { t: Some(typed.clone()), ..attribute("value", AttributeType::Tensor) };
    let mut body = Model::new(17)
        .input("i", DType::I64, &[])
        .input("go", DType::Bool, &[])
        .node("Constant", &[], &["c"], vec![value])
        .node("Size", &["c"], &["n"], vec![])
        .node("Size", &["d"], &["m"], vec![])
        .output("go")
        .output("n")
        .output("m");
    body.graph.initializer.push(TensorProto { name: Some("d".into()), ..typed });
    let model = Model::new(17)
        .constant("many", &Tensor::scalar(4096i64))
        .constant("yes", &Tensor::scalar(true))
        .node("Loop", &["many", "yes"], &["n", "m"], vec![graph_attribute("body", body.graph())])
        .output("n")
        .output("m");
    let start = std::time::Instant::now();
    let results = run(model, &[]);
    assert_eq!(results[0].1.dims(), [4096]);
    // Reading them 4096 times over takes minutes; once, less than a second.
    assert!(start.elapsed().as_secs() < 60);
}

#[test]
fn loops_that_copy_large_constants_over_and_over_are_refused() {
    // 10000 times an inner loop of no steps, which has a constant of 1 MiB
    let big = f32s(&[1 << 18], &vec![1.0; 1 << 18]);
    let typed = TensorProto { float_data: vec![1.0; 1 << 18], raw_data: None, ..tensor_proto("c", &big) };
    let mut inner = Model::new(17).input("j", DType::I64, &[]).input("jgo", DType::Bool, &[]).output("jgo").graph();
    inner.initializer.push(typed);
    let outer = Model::new(17)
        .input("i", DType::I64, &[])
        .input("go", DType::Bool, &[])
        .node("Loop", &["none", "go"], &[], vec![graph_attribute("body", inner)])
        .output("go");
    let text = Model::new(17)
        .constant("none", &Tensor::scalar(0i64))
        .constant("many", &Tensor::scalar(10000i64))
        .constant("yes", &Tensor::scalar(true))
        .node("Loop", &["many", "yes"], &[], vec![graph_attribute("body", outer.graph())])
        .error();
    assert!(text.contains("expand to more than 16384 nodes"), "{text}");
}
