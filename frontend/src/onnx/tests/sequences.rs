//! Sequences and optionals: which tensors they hold is decided at import.

use kiln_ir::{DType, Tensor, interp};

use super::*;

fn typed(name: &str, value: TypeValue) -> ValueInfoProto {
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(TypeProto { value: Some(value) }), doc_string: None }
}

fn of(value: TypeValue) -> ElementTypeProto {
    ElementTypeProto { elem_type: Some(Box::new(TypeProto { value: Some(value) })) }
}

fn tensor_type(dims: &[&str]) -> TypeValue {
    value_info("", DType::F32, dims).r#type.unwrap().value.unwrap()
}

/// A model with an input of another type than a tensor.
fn with_input(name: &str, ty: TypeValue) -> Model {
    let mut model = Model::new(18);
    model.graph.input.push(typed(name, ty));
    model
}

fn sequence_of(dims: &[&str]) -> TypeValue {
    TypeValue::Sequence(of(tensor_type(dims)))
}

fn options(lengths: &[(&str, usize)], absent: &[&str], shapes: &[(&str, &[usize])]) -> ImportOptions {
    ImportOptions {
        lengths: lengths.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
        absent: absent.iter().map(|name| (*name).to_owned()).collect(),
        shapes: shapes.iter().map(|(name, dims)| ((*name).to_owned(), dims.to_vec())).collect(),
        ..ImportOptions::default()
    }
}

fn run(model: Model, options: &ImportOptions, feeds: &[(&str, Tensor)]) -> Vec<(String, Vec<f64>)> {
    let imported = model.import(options).unwrap_or_else(|e| panic!("{e}"));
    let results = interp::run::<f32>(&imported.graph, feeds, None).unwrap_or_else(|e| panic!("{e}"));
    results.into_iter().map(|(name, t)| (name, t.to_f64_vec())).collect()
}

fn plain() -> ImportOptions {
    ImportOptions::default()
}

/// A model with tensors a and b of two elements, and the sequence `s` of both.
fn pair() -> Model {
    Model::new(18).input("a", DType::F32, &["2"]).input("b", DType::F32, &["2"]).node(
        "SequenceConstruct",
        &["a", "b"],
        &["s"],
        vec![],
    )
}

fn feeds() -> [(&'static str, Tensor); 2] {
    [("a", f32s(&[2], &[1.0, 2.0])), ("b", f32s(&[2], &[3.0, 4.0]))]
}

#[test]
fn elements_are_found_inserted_and_erased_from_either_end() {
    let model = pair()
        .constant("last", &Tensor::scalar(-1i64))
        .constant("first", &Tensor::scalar(0i32))
        .node("SequenceAt", &["s", "last"], &["y0"], vec![])
        .node("SequenceInsert", &["s", "b", "first"], &["bab"], vec![])
        .node("SequenceInsert", &["bab", "a"], &["baba"], vec![])
        .node("SequenceErase", &["baba", "first"], &["aba"], vec![])
        .node("SequenceErase", &["aba"], &["ab"], vec![])
        .node("SequenceLength", &["baba"], &["y1"], vec![])
        .node("ConcatFromSequence", &["baba"], &["y2"], vec![int("axis", 0)])
        .node("ConcatFromSequence", &["ab"], &["y3"], vec![int("axis", -1), int("new_axis", 1)]);
    let model = ["y0", "y1", "y2", "y3"].into_iter().fold(model, Model::output);
    let results = run(model, &plain(), &feeds());
    assert_eq!(results[0].1, [3.0, 4.0]);
    assert_eq!(results[1].1, [4.0]);
    assert_eq!(results[2].1, [3.0, 4.0, 1.0, 2.0, 3.0, 4.0, 1.0, 2.0]);
    assert_eq!(results[3].1, [1.0, 3.0, 2.0, 4.0]);
}

#[test]
fn a_tensor_splits_into_a_sequence_by_one_size_or_several_or_into_slices() {
    let split = |inputs: &[&str], attributes: Vec<AttributeProto>| {
        let model = Model::new(18)
            .input("x", DType::F32, &["3", "2"])
            .constant("two", &Tensor::scalar(2i64))
            .constant("sizes", &i64s(&[1, 0, 2]))
            .node("SplitToSequence", inputs, &["s"], attributes)
            .output("s");
        let imported = model.import(&plain()).unwrap_or_else(|e| panic!("{e}"));
        let results = interp::run::<f32>(&imported.graph, &[("x", count(&[3, 2]))], None).unwrap();
        results.into_iter().map(|(name, t)| (name, t.dims().to_vec())).collect::<Vec<_>>()
    };
    let expected = |dims: &[&[usize]]| -> Vec<(String, Vec<usize>)> {
        dims.iter().enumerate().map(|(i, d)| (format!("s.{i}"), d.to_vec())).collect()
    };
    assert_eq!(split(&["x", "two"], vec![]), expected(&[&[2, 2], &[1, 2]]));
    // keepdims counts without `split` only
    assert_eq!(split(&["x", "sizes"], vec![int("keepdims", 0)]), expected(&[&[1, 2], &[0, 2], &[2, 2]]));
    assert_eq!(split(&["x"], vec![int("axis", -1)]), expected(&[&[3, 1], &[3, 1]]));
    assert_eq!(split(&["x"], vec![int("keepdims", 0)]), expected(&[&[2], &[2], &[2]]));
}

#[test]
fn a_body_is_mapped_over_sequences_and_tensors() {
    let body = Model::new(18)
        .input("p", DType::F32, &["2"])
        .input("q", DType::F32, &["2"])
        .input("r", DType::F32, &["2"])
        .node("Mul", &["p", "q"], &["pq"], vec![])
        .node("Add", &["pq", "r"], &["sum"], vec![])
        .output("sum")
        .output("pq")
        .graph();
    let model = pair()
        .node("SequenceMap", &["s", "s", "a"], &["sums", "squares"], vec![graph_attribute("body", body)])
        .output("sums")
        .output("squares");
    let results = run(model, &plain(), &feeds());
    let expected = [
        ("sums.0", vec![2.0, 6.0]),
        ("sums.1", vec![10.0, 18.0]),
        ("squares.0", vec![1.0, 4.0]),
        ("squares.1", vec![9.0, 16.0]),
    ];
    assert_eq!(results, expected.map(|(name, values)| (name.to_owned(), values)));
}

#[test]
fn a_sequence_among_the_inputs_is_one_input_for_each_element() {
    let model = || {
        with_input("xs", sequence_of(&["N"]))
            .node("ConcatFromSequence", &["xs"], &["y"], vec![int("axis", 0)])
            .output("y")
    };
    // The elements need not have equal extents, though their type names them alike.
    let given = options(&[("xs", 2)], &[], &[("xs.0", &[1]), ("xs.1", &[2])]);
    let results = run(model(), &given, &[("xs.0", f32s(&[1], &[5.0])), ("xs.1", f32s(&[2], &[6.0, 7.0]))]);
    assert_eq!(results, [("y".to_owned(), vec![5.0, 6.0, 7.0])]);

    let text = model().error();
    assert!(text.contains("input `xs` is a sequence") && text.contains("`--length xs=…`"), "{text}");
    let refused = |given: ImportOptions| model().import(&given).unwrap_err();
    let unbound = refused(options(&[("xs", 2)], &[], &[])).to_string();
    assert!(unbound.contains("input `xs.1`, axis 0") && unbound.contains("--shape xs.1=…"), "{unbound}");
    let many = refused(options(&[("xs", usize::MAX)], &[], &[]));
    assert!(many.is_about_options() && many.to_string().contains("up to 4096 are supported"), "{many}");
    let other = refused(options(&[("xs", 1), ("ys", 1)], &[], &[("xs.0", &[1])]));
    assert!(other.to_string().contains("no input of this name is a sequence"), "{other}");
}

#[test]
fn an_optional_input_has_an_element_unless_it_is_said_to_be_absent() {
    let model = || {
        let otherwise = Model::new(18).constant("none", &f32s(&[1], &[-1.0])).output("none").graph();
        let then = Model::new(18).node("OptionalGetElement", &["x"], &["e"], vec![]).output("e").graph();
        with_input("x", TypeValue::Optional(of(tensor_type(&["2"]))))
            .node("OptionalHasElement", &["x"], &["has"], vec![])
            .node(
                "If",
                &["has"],
                &["y"],
                vec![graph_attribute("then_branch", then), graph_attribute("else_branch", otherwise)],
            )
            .output("y")
    };
    assert_eq!(run(model(), &plain(), &[("x", f32s(&[2], &[1.0, 2.0]))])[0].1, [1.0, 2.0]);
    assert_eq!(run(model(), &options(&[], &["x"], &[]), &[])[0].1, [-1.0]);
    let text = model().import(&options(&[], &["z"], &[])).unwrap_err();
    assert!(text.is_about_options() && text.to_string().contains("no input of this name is optional"), "{text}");
}

#[test]
fn an_empty_sequence_grows_in_a_loop() {
    let body = Model::new(18)
        .input("i", DType::I64, &[])
        .input("go", DType::Bool, &[])
        .input("grown", DType::F32, &[])
        .node("Cast", &["i"], &["f"], vec![int("to", 1)])
        .node("Mul", &["f", "a"], &["m"], vec![])
        .node("SequenceInsert", &["grown", "m"], &["more"], vec![])
        .output("go")
        .output("more")
        .graph();
    let model = Model::new(18)
        .input("a", DType::F32, &["2"])
        .constant("three", &Tensor::scalar(3i64))
        .constant("yes", &Tensor::scalar(true))
        .node("SequenceEmpty", &[], &["none"], vec![])
        .node("Loop", &["three", "yes", "none"], &["all"], vec![graph_attribute("body", body)])
        .node("ConcatFromSequence", &["all"], &["y"], vec![int("axis", 0)])
        .output("y");
    assert_eq!(run(model, &plain(), &feeds()[..1])[0].1, [0.0, 0.0, 1.0, 2.0, 2.0, 4.0]);
}

#[test]
fn what_sequences_and_optionals_cannot_do_is_named() {
    let nine = Tensor::scalar(9i64);
    for (model, part) in [
        (pair().node("Relu", &["s"], &["y"], vec![]), "input 0 must be a tensor, found a sequence of 2 tensors"),
        (
            pair().node("SequenceLength", &["a"], &["y"], vec![]),
            "input 0 must be a sequence, found a tensor of extents [2]",
        ),
        (
            pair().constant("i", &nine).node("SequenceAt", &["s", "i"], &["y"], vec![]),
            "position 9 is out of range for a sequence of 2 tensors",
        ),
        (pair().node("SequenceAt", &["s"], &["y"], vec![]), "input 1 (position) is missing"),
        (
            pair().input("i", DType::I64, &[]).node("SequenceAt", &["s", "i"], &["y"], vec![]),
            "input 1 (position) must be known at import",
        ),
        (
            pair().constant("i", &nine).node("SequenceInsert", &["s", "i"], &["y"], vec![]),
            "a tensor of i64 does not go into a sequence of f32",
        ),
        (
            pair().constant("i", &nine).node("SequenceConstruct", &["a", "i"], &["y"], vec![]),
            "an element of i64 in a sequence of f32",
        ),
        (pair().node("SequenceEmpty", &[], &["y"], vec![int("dtype", 8)]), "not supported: dtype string"),
        (
            pair().node("SequenceEmpty", &[], &["e"], vec![]).node("SequenceErase", &["e"], &["y"], vec![]),
            "an empty sequence has no element to erase",
        ),
        (pair().node("ConcatFromSequence", &["s"], &["y"], vec![]), "the attribute `axis` is missing"),
        (pair().node("ConcatFromSequence", &["s"], &["y"], vec![int("axis", 1)]), "axis 1 is out of range for rank 1"),
        (
            pair().node("Optional", &[], &["o"], vec![]).node("OptionalGetElement", &["o"], &["y"], vec![]),
            "the optional has no element",
        ),
        (
            pair().node("Optional", &[], &["o"], vec![]).node("Relu", &["o"], &["y"], vec![]),
            "found an optional without an element",
        ),
        (
            pair().node("SplitToSequence", &["a", "i"], &["y"], vec![]).constant("i", &i64s(&[1, 2])),
            "parts of [1, 2] for extent 2",
        ),
        (
            pair().node("SplitToSequence", &["a", "i"], &["y"], vec![]).constant("i", &Tensor::scalar(0i64)),
            "parts of extent 0",
        ),
        (pair().node("SequenceMap", &["s"], &["y"], vec![]), "the attribute `body` is missing"),
        (
            pair().node("SequenceMap", &["s"], &["y"], vec![graph_attribute("body", Model::new(18).graph())]),
            "the body has 0 inputs, the node gives it 1",
        ),
        (
            Model::new(18).input("x", DType::F32, &["1000000000"]).node("SplitToSequence", &["x"], &["y"], vec![]),
            "sequences of more than 262144 elements together",
        ),
    ] {
        let text = model.output("y").error();
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn sequences_that_double_at_every_step_are_refused() {
    // each element of a node list of n inserts costs n: 2^10 of them together half a million
    let mut model = pair();
    for i in 0..1024 {
        let (from, to) = (if i == 0 { "s".to_owned() } else { format!("s{}", i - 1) }, format!("s{i}"));
        model = model.node("SequenceInsert", &[&from, "a"], &[&to], vec![]);
    }
    let text = model.output("s1023").error();
    assert!(text.contains("sequences of more than 262144 elements together"), "{text}");
}
