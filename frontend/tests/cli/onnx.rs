//! ONNX files on the command line.

use kiln::onnx::proto::{
    Dimension, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorDataType, TensorShapeProto,
    TensorTypeProto, TypeProto, TypeValue, ValueInfoProto,
};
use kiln_ir::Tensor;
use prost::Message;

use crate::harness::{Place, floats};

fn value(name: &str, dims: Vec<DimensionValue>) -> ValueInfoProto {
    let dim = dims.into_iter().map(|value| Dimension { value: Some(value), denotation: None }).collect();
    let tensor =
        TensorTypeProto { elem_type: Some(TensorDataType::Float as i32), shape: Some(TensorShapeProto { dim }) };
    let ty = TypeProto { value: Some(TypeValue::Tensor(tensor)) };
    ValueInfoProto { name: Some(name.into()), r#type: Some(ty), ..ValueInfoProto::default() }
}

/// A model that does `operators`, one after the other, to `x` [batch, 4], which gives `y`.
fn model(operators: &[&str]) -> Vec<u8> {
    let dims = || vec![DimensionValue::Param("batch".into()), DimensionValue::Value(4)];
    let last = operators.len();
    let name = |i: usize| {
        if i == 0 {
            "x".to_owned()
        } else if i == last {
            "y".to_owned()
        } else {
            format!("t{i}")
        }
    };
    let node = operators.iter().enumerate().map(|(i, op)| NodeProto {
        name: Some(format!("node{i}")),
        op_type: Some((*op).to_owned()),
        input: vec![name(i)],
        output: vec![name(i + 1)],
        ..NodeProto::default()
    });
    let graph = GraphProto {
        name: Some("small".into()),
        node: node.collect(),
        input: vec![value("x", dims())],
        output: vec![value("y", dims())],
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { domain: None, version: Some(17) };
    let model =
        ModelProto { ir_version: Some(8), graph: Some(graph), opset_import: vec![opset], ..ModelProto::default() };
    model.encode_to_vec()
}

#[test]
fn a_model_is_compiled_and_run() {
    let place = Place::new();
    // Without the extension: it is told by its contents.
    place.write("small", model(&["Neg", "Relu"]));
    place.write_npz("x.npz", &[("x", Tensor::from_slice(&[1, 4], &[-1.0f32, 2.0, -3.5, 0.0]).expect("a tensor"))]);
    place.kiln("compile small --dim batch=1 -o small.art").ok();
    for run in ["run small.art", "run small --dim batch=1", "run small --shape x=1x4 --interpret"] {
        place.kiln(&format!("{run} --inputs x.npz --outputs y.npz")).ok();
        assert_eq!(floats(&place.read_npz("y.npz")["y"]), [1.0, 0.0, 3.5, 0.0], "{run}");
    }
    let object = place.kiln("bench small --dim batch=1 --runs 1 --warmup 0 --json").ok().json();
    assert!(object["compile_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{object}");
    let object = place.kiln("inspect small --dim batch=3 --json").ok().json();
    assert_eq!((&object["format"], &object["name"]), (&"onnx".into(), &"small".into()));
    assert!(place.kiln("import small --dim batch=2").ok().stdout.contains("graph @small(%x: f32[2, 4])"));
}

#[test]
fn extents_and_operators_that_are_missing_are_named() {
    let place = Place::new();
    place.write("small.onnx", model(&["Relu"]));
    place.kiln("compile small.onnx -o x.art").fails(1, &["small.onnx", "`batch`", "--dim batch="]);
    for (wrong, parts) in [
        ("--dim z=1", ["`z`", "`batch`"]),
        ("--dim batch=1 --dim z=1", ["`z`", "`batch`"]),
        ("--shape z=1x4", ["`z`", "`x`"]),
        ("--shape x=1", ["`x`", "rank 2"]),
        ("--shape x=1x5", ["`x`", "extent at 4"]),
        ("--shape x=2x4 --dim batch=1", ["`batch`", "`x`"]),
        ("--dim batch=1 --weights small.onnx", ["--weights", "ONNX"]),
    ] {
        let run = place.kiln(&format!("compile small.onnx -o x.art {wrong}")).fails(2, &["small.onnx"]);
        assert!(parts.iter().all(|part| run.stderr.contains(part)), "{wrong}: {run:?}");
        let run = place.kiln(&format!("inspect small.onnx --json {wrong}")).fails(2, &["small.onnx"]);
        assert!(run.json()["error"].as_str().is_some_and(|e| parts.iter().all(|p| e.contains(p))), "{wrong}: {run:?}");
    }
    place.write("odd.onnx", model(&["Fizz", "Relu", "Buzz"]));
    let run = place.kiln("compile odd.onnx --dim batch=1 -o x.art").fails(1, &["odd.onnx"]);
    assert!(run.stderr.contains("Fizz") && run.stderr.contains("Buzz") && run.stderr.contains("node2"), "{run:?}");
}
