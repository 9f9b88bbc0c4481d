use std::collections::BTreeMap;

use kiln_ir::DType;

use super::*;

fn two_inputs() -> Model {
    Model::new(17)
        .input("ids", DType::I64, &["N", "T"])
        .input("mask", DType::I64, &["N", "T"])
        .node("Add", &["ids", "mask"], &["sum"], vec![])
        .output("sum")
}

fn dims(list: &[(&str, usize)]) -> ImportOptions {
    ImportOptions { dims: list.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect(), ..ImportOptions::default() }
}

fn shapes(list: &[(&str, &[usize])]) -> ImportOptions {
    let shapes: BTreeMap<String, Vec<usize>> = list.iter().map(|(k, v)| ((*k).to_owned(), v.to_vec())).collect();
    ImportOptions { shapes, ..ImportOptions::default() }
}

fn types(imported: &Imported) -> Vec<String> {
    imported.graph.input_types().map(|(n, t)| format!("{n}: {t}")).collect()
}

#[test]
fn bound_dims_make_every_input_static() {
    let imported = two_inputs().import(&dims(&[("N", 2), ("T", 7)])).unwrap();
    assert_eq!(types(&imported), ["ids: i64[2, 7]", "mask: i64[2, 7]"]);
}

#[test]
fn the_shape_of_one_input_binds_the_symbols_of_the_others() {
    let imported = two_inputs().import(&shapes(&[("ids", &[2, 7])])).unwrap();
    assert_eq!(types(&imported), ["ids: i64[2, 7]", "mask: i64[2, 7]"]);
}

#[test]
fn every_unbound_dim_is_listed_with_the_flags_that_bind_it() {
    let text = two_inputs().error();
    assert!(text.contains("4 problems"), "{text}");
    for part in
        ["input `ids`, axis 0: the extent `N`", "input `mask`, axis 1: the extent `T`", "--dim N=…", "--shape ids=…"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn unnamed_extents_and_ranks_can_be_given_by_shape() {
    let unnamed = || Model::new(17).input("x", DType::F32, &["", "3"]).node("Relu", &["x"], &["y"], vec![]).output("y");
    let text = unnamed().error();
    assert!(text.contains("(unnamed)") && text.contains("--shape x=…"), "{text}");
    assert_eq!(types(&unnamed().import(&shapes(&[("x", &[5, 3])])).unwrap()), ["x: f32[5, 3]"]);

    let mut rankless = unnamed().proto();
    let input = &mut rankless.graph.as_mut().unwrap().input[0];
    let tensor = TensorTypeProto { elem_type: Some(1), shape: None };
    input.r#type = Some(TypeProto { value: Some(TypeValue::Tensor(tensor)) });
    let text = import_proto(&rankless, &ImportOptions::default()).unwrap_err().to_string();
    assert!(text.contains("input `x` has no shape in the model"), "{text}");
    assert_eq!(types(&import_proto(&rankless, &shapes(&[("x", &[4])])).unwrap()), ["x: f32[4]"]);
}

#[test]
fn two_question_marks_need_not_be_equal() {
    let model = Model::new(17).input("x", DType::F32, &["?", "?"]).node("Relu", &["x"], &["y"], vec![]).output("y");
    assert_eq!(types(&model.import(&shapes(&[("x", &[5, 3])])).unwrap()), ["x: f32[5, 3]"]);
}

#[test]
fn bindings_that_do_not_fit_are_all_reported() {
    let mut options = dims(&[("N", 2), ("batch", 1)]);
    options.shapes = shapes(&[("ids", &[3, 7]), ("tokens", &[1]), ("mask", &[2])]).shapes;
    let text = two_inputs().import(&options).unwrap_err().to_string();
    for part in [
        "dim `batch` is bound, but the inputs' symbolic dims are: `N`, `T`",
        "a shape is given for `tokens`, but the inputs are `ids`, `mask`",
        "dim `N` would be both 2 and 3",
        "input `mask` has rank 2, but the shape given is [2]",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn a_fixed_extent_cannot_be_overridden() {
    let model = Model::new(17).input("x", DType::F32, &["3"]).node("Relu", &["x"], &["y"], vec![]).output("y");
    let text = model.import(&shapes(&[("x", &[4])])).unwrap_err().to_string();
    assert!(text.contains("the model fixes the extent at 3"), "{text}");
}

#[test]
fn an_input_with_an_initializer_is_a_constant() {
    let model = Model::new(8)
        .input("x", DType::F32, &["2"])
        .input("w", DType::F32, &["2"])
        .constant("w", &f32s(&[2], &[1.0, 2.0]))
        .node("Mul", &["x", "w"], &["y"], vec![])
        .output("y");
    assert_eq!(types(&model.import(&ImportOptions::default()).unwrap()), ["x: f32[2]"]);
}

#[test]
fn metadata_producer_and_names_come_along() {
    let mut model = two_inputs().proto();
    model.metadata_props = vec![StringStringEntryProto { key: Some("character".into()), value: Some("abc".into()) }];
    model.producer_name = Some("exporter".into());
    model.producer_version = Some("1.2".into());
    model.graph.as_mut().unwrap().name = Some("net".into());
    model.graph.as_mut().unwrap().node[0].name = Some("the_sum".into());
    let imported = import_proto(&model, &dims(&[("N", 1), ("T", 1)])).unwrap();
    assert_eq!(imported.metadata["character"], "abc");
    assert_eq!(imported.graph.metadata()["character"], "abc");
    assert_eq!((imported.producer.as_str(), imported.opset), ("exporter 1.2", 17));
    assert_eq!(imported.graph.name(), "net");
    let (_, value) = &imported.graph.outputs()[0];
    let location = imported.graph.node(value.node).location.as_ref().unwrap().to_string();
    assert_eq!(location, "test.onnx: node `the_sum`");
}
