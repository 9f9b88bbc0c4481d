//! ONNX files on the command line.

use kiln::onnx::proto::{
    AttributeProto, AttributeType, DataLocation, Dimension, DimensionValue, ElementTypeProto, GraphProto, ModelProto,
    NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorDataType, TensorProto, TensorShapeProto,
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
fn external_data_is_not_overwritten() {
    let place = Place::new();
    let entry = |key: &str, value: &str| StringStringEntryProto { key: Some(key.into()), value: Some(value.into()) };
    let mut proto = ModelProto::decode(&model(&["Neg"])[..]).expect("a model");
    let graph = proto.graph.as_mut().expect("a graph");
    graph.node[0].op_type = Some("Add".into());
    graph.node[0].input.push("w".into());
    graph.initializer.push(TensorProto {
        name: Some("w".into()),
        data_type: Some(TensorDataType::Float as i32),
        dims: vec![4],
        data_location: Some(DataLocation::External as i32),
        external_data: vec![entry("location", "w.bin")],
        ..TensorProto::default()
    });
    place.write("m.onnx", proto.encode_to_vec());
    place.write("w.bin", [0u8; 16]);
    for command in ["compile -o w.bin", "compile --emit obj -o net --weights-file ./w.bin", "opt -o w.bin"] {
        place.kiln(&format!("{command} m.onnx --dim batch=1")).fails(2, &["external data", "w.bin", "which is read"]);
    }
    assert_eq!(std::fs::read(place.path("w.bin")).expect("a file"), [0u8; 16]);
    place.kiln("compile m.onnx --dim batch=1 -o m.art").ok();
}

/// A model that joins the sequence `xs`; if the optional `extra` has an element, `has` says so.
fn joining() -> Vec<u8> {
    let row = value("", vec![DimensionValue::Param("n".into())]).r#type;
    let of = || ElementTypeProto { elem_type: row.clone().map(Box::new) };
    let typed = |name: &str, value| ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { value: Some(value) }),
        ..ValueInfoProto::default()
    };
    let axis = AttributeProto {
        name: Some("axis".into()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(0),
        ..AttributeProto::default()
    };
    let node = |op_type: &str, input: &str, output: &str, attribute| NodeProto {
        op_type: Some(op_type.into()),
        input: vec![input.into()],
        output: vec![output.into()],
        attribute,
        ..NodeProto::default()
    };
    let graph = GraphProto {
        name: Some("joining".into()),
        node: vec![
            node("ConcatFromSequence", "xs", "y", vec![axis]),
            node("OptionalHasElement", "extra", "has", Vec::new()),
        ],
        input: vec![typed("xs", TypeValue::Sequence(of())), typed("extra", TypeValue::Optional(of()))],
        output: ["y", "has"].map(|name| ValueInfoProto { name: Some(name.into()), ..ValueInfoProto::default() }).into(),
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { domain: None, version: Some(18) };
    let model =
        ModelProto { ir_version: Some(8), graph: Some(graph), opset_import: vec![opset], ..ModelProto::default() };
    model.encode_to_vec()
}

#[test]
fn sequences_are_one_input_for_each_element_and_optionals_may_be_absent() {
    let place = Place::new();
    place.write("joining.onnx", joining());
    let row = |values: &[f32]| Tensor::from_slice(&[values.len()], values).expect("a tensor");
    place.write_npz("xs.npz", &[("xs.0", row(&[1.0])), ("xs.1", row(&[2.0, 3.0]))]);
    let given = "--length xs=2 --shape xs.0=1 --shape xs.1=2 --absent extra";
    place.kiln(&format!("run joining.onnx {given} --inputs xs.npz --outputs y.npz")).ok();
    let results = place.read_npz("y.npz");
    assert_eq!(floats(&results["y"]), [1.0, 2.0, 3.0]);
    assert_eq!(results["has"], Tensor::scalar(false));
    place.kiln(&format!("compile joining.onnx {given} -o joining.art")).ok();
    place.kiln(&format!("run joining.art {given} --inputs xs.npz")).fails(2, &["does not go with an artifact"]);

    let run = place.kiln("compile joining.onnx --absent extra -o x.art").fails(1, &["joining.onnx", "--length xs="]);
    assert!(!run.stderr.contains("panicked"), "{run:?}");
    let run = place.kiln(&format!("compile joining.onnx {given} --absent xs -o x.art")).fails(2, &["joining.onnx"]);
    assert!(run.stderr.contains("`xs` is to be absent, but no input of this name is optional"), "{run:?}");
    place.kiln(&format!("compile joining.onnx {given} --length extra=1 -o x.art")).fails(2, &["`extra`", "sequence"]);
    place.write("text.kiln", "kiln 1\ngraph @g(%x: f32[2]) -> (%y: f32[2]) {\n  %y = relu %x : f32[2]\n}\n");
    place.kiln("compile text.kiln --absent x -o x.art").fails(2, &["--absent is for ONNX models"]);
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
