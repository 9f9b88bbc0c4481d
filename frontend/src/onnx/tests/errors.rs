use std::path::Path;

use kiln_ir::DType;

use super::super::{ImportError, import, supported_operators};
use super::*;

#[test]
fn all_unknown_operators_are_reported_at_once_with_their_nodes() {
    let branch = Model::new(17).node("Inside", &[], &["i"], vec![]).output("i").graph();
    let mut far = node("Far", &["x"], &["c"], vec![]);
    far.domain = Some("com.example".into());
    far.name = Some("far_node".into());
    let text = Model::new(17)
        .input("x", DType::F32, &["2"])
        .node("Foo", &["x"], &["a"], vec![])
        .node("Foo", &["a"], &["b"], vec![])
        .add(far)
        .node("If", &["x"], &["d"], vec![graph_attribute("then_branch", branch)])
        .output("d")
        .error();
    for part in [
        "3 problems",
        "operator `Foo` (opset 17) is not supported: 2 nodes (`a`, `b`)",
        "operator `com.example.Far` is not supported: 1 node (`far_node`)",
        "operator `Inside` (opset 17)",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn unknown_attributes_are_errors_on_every_node() {
    let text = Model::new(17)
        .input("x", DType::F32, &["2"])
        .node("Relu", &["x"], &["a"], vec![float("slope", 0.5)])
        .node("Sigmoid", &["a"], &["b"], vec![int("fast", 1), int("precise", 0)])
        .output("b")
        .error();
    assert!(text.contains("node `a` (Relu): unknown attribute `slope` (opset 17)"), "{text}");
    assert!(text.contains("node `b` (Sigmoid): unknown attributes `fast`, `precise`"), "{text}");
}

#[test]
fn an_attribute_that_moved_to_an_input_is_unknown_afterwards() {
    let squeeze = |opset| {
        Model::new(opset)
            .input("x", DType::F32, &["1", "2"])
            .node("Squeeze", &["x"], &["y"], vec![ints("axes", &[0])])
            .output("y")
    };
    assert!(squeeze(11).import(&ImportOptions::default()).is_ok());
    assert!(squeeze(13).error().contains("unknown attribute `axes` (opset 13)"));
}

#[test]
fn one_failed_node_does_not_hide_the_others_nor_blame_its_users() {
    let text = Model::new(17)
        .input("x", DType::F32, &["2", "3"])
        .node("MatMul", &["x", "x"], &["a"], vec![])
        .node("Relu", &["a"], &["b"], vec![])
        .node("Transpose", &["x"], &["c"], vec![ints("perm", &[0, 0])])
        .node("Concat", &["b", "c"], &["d"], vec![int("axis", 0)])
        .output("d")
        .error();
    assert!(text.contains("2 problems"), "{text}");
    assert!(text.contains("node `a` (MatMul)") && text.contains("node `c` (Transpose)"), "{text}");
}

#[test]
fn errors_say_what_was_expected_and_what_was_found() {
    let x = || Model::new(17).input("x", DType::F32, &["1", "4", "5", "5"]);
    let w = f32s(&[2, 3, 3, 3], &[0.0; 54]);
    for (model, part) in [
        (x().node("Relu", &["x", "x"], &["y"], vec![]), "takes at most 1 inputs, found 2"),
        (x().node("Add", &["x"], &["y"], vec![]), "input 1 (B) is missing"),
        (x().node("Relu", &["z"], &["y"], vec![]), "input `z` is not defined before this node"),
        (x().constant("w", &w).node("Conv", &["x", "w"], &["y"], vec![]), "4 channels, 1 groups × 3"),
        (
            x().constant("w", &w).node("Conv", &["x", "w"], &["y"], vec![int("group", 0)]),
            "`group`: expected an integer of at least 1, found 0",
        ),
        (
            x().constant("w", &w).node("Conv", &["x", "w"], &["y"], vec![ints("strides", &[1])]),
            "`strides`: expected 2 entries",
        ),
        (
            x().constant("w", &w).node("Conv", &["x", "w"], &["y"], vec![ints("kernel_shape", &[5, 5])]),
            "is not that of the weights",
        ),
        (
            x().constant("w", &w).node("Conv", &["x", "w"], &["y"], vec![string("auto_pad", "SAME")]),
            "one of NOTSET, SAME_UPPER",
        ),
        (x().node("Softmax", &["x"], &["y"], vec![int("axis", 4)]), "axis 4 is out of range for rank 4"),
        (
            x().node("Softmax", &["x"], &["y"], vec![float("axis", 1.0)]),
            "`axis`: expected an integer, found a value of type Float",
        ),
        (x().node("Reshape", &["x", "x"], &["y"], vec![]), "input 1 (shape) must be known at import"),
        (x().constant("s", &i64s(&[7, -1])).node("Reshape", &["x", "s"], &["y"], vec![]), "cannot become [7, -1]"),
        (x().node("Cast", &["x"], &["y"], vec![int("to", 8)]), "not supported: a cast to string"),
        (x().node("MaxPool", &["x"], &["y"], vec![]), "the attribute `kernel_shape` is missing"),
        (x().node("MaxPool", &["x"], &["y"], vec![ints("kernel_shape", &[9, 9])]), "does not fit extent 5"),
        (x().node("Dropout", &["x", "", "t"], &["y"], vec![]).constant("t", &Tensor::scalar(true)), "training_mode"),
        (x().node("If", &["x"], &["y"], vec![]), "the attribute `then_branch` is missing"),
        (
            x().constant("i", &i64s(&[9])).node("Gather", &["x", "i"], &["y"], vec![]),
            "index 9 is out of range for extent 1",
        ),
        (x().constant("s", &i64s(&[0])).node("Slice", &["x", "s", "s", "s", "s"], &["y"], vec![]), "a step of 0"),
    ] {
        let text = model.output("y").error();
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn a_result_that_is_not_supported_is_an_error_only_where_it_is_used() {
    let pool = |extent: &str, window: i64| {
        Model::new(17)
            .input("x", DType::F32, &["1", "1", extent])
            .node("MaxPool", &["x"], &["y", "indices"], vec![ints("kernel_shape", &[window])])
            .output("y")
    };
    assert!(pool("4", 2).output("indices").import(&ImportOptions::default()).is_ok());
    // places are worked out of all elements of a window, one by one
    assert!(pool("5000", 5000).import(&ImportOptions::default()).is_ok());
    let text = pool("5000", 5000).output("indices").error();
    assert!(text.contains("uses `indices`, a result of node `y` that is not supported"), "{text}");
}

#[test]
fn constants_that_cannot_be_read_are_named() {
    let mut model =
        Model::new(17).input("x", DType::F32, &["2"]).node("Add", &["x", "w"], &["y"], vec![]).output("y").proto();
    let broken = TensorProto {
        name: Some("w".into()),
        data_type: Some(1),
        dims: vec![3],
        float_data: vec![1.0],
        ..TensorProto::default()
    };
    model.graph.as_mut().unwrap().initializer.push(broken);
    let text = import_proto(&model, &ImportOptions::default()).unwrap_err().to_string();
    assert!(text.contains(": tensor `w`: extents [3] say 3 elements, found 1"), "{text}");
    // uint16, int16, uint32, uint4
    for (data_type, value, name) in
        [(4, 70_000_i64, "uint16"), (5, 40_000, "int16"), (12, 1 << 40, "uint32"), (21, 256, "uint4")]
    {
        let broken = TensorProto {
            name: Some("w".into()),
            data_type: Some(data_type),
            dims: vec![1],
            int32_data: if data_type == 12 { vec![] } else { vec![value as i32] },
            uint64_data: if data_type == 12 { vec![value as u64] } else { vec![] },
            ..TensorProto::default()
        };
        *model.graph.as_mut().unwrap().initializer.last_mut().unwrap() = broken;
        let text = import_proto(&model, &ImportOptions::default()).unwrap_err().to_string();
        assert!(text.contains(&format!("tensor `w`: element {value} does not fit in {name}")), "{text}");
    }
}

#[test]
fn what_is_no_model_is_refused() {
    assert!(matches!(import(Path::new("absent.onnx"), &ImportOptions::default()), Err(ImportError::Read { .. })));
    for bytes in [&b"\xff\xff\xff"[..], b"\x3a\x05abc", b"hello world, this is text"] {
        let e = import_bytes(Bytes::copy_from_slice(bytes), "x.onnx", &ImportOptions::default()).unwrap_err();
        assert!(e.to_string().contains("x.onnx"), "{e}");
    }
    let e = import_bytes(Bytes::new(), "x.onnx", &ImportOptions::default()).unwrap_err();
    assert!(e.to_string().contains("the model has no graph"), "{e}");
}

#[test]
fn every_truncation_of_a_model_is_an_error_or_a_model() {
    let model = Model::new(17)
        .input("x", DType::F32, &["1", "1", "4", "4"])
        .constant("w", &f32s(&[1, 1, 3, 3], &[1.0; 9]))
        .node("Conv", &["x", "w"], &["y"], vec![ints("pads", &[1, 1, 1, 1])])
        .output("y")
        .proto();
    let whole = Bytes::from(model.encode_to_vec());
    for length in 0..whole.len() {
        // The signature and the graph are separate fields: a cut between them leaves a smaller model.
        let _ = import_bytes(whole.slice(..length), "cut.onnx", &ImportOptions::default());
    }
    assert!(import_bytes(whole, "whole.onnx", &ImportOptions::default()).is_ok());
}

#[test]
fn flipped_bits_never_panic() {
    let model = Model::new(17)
        .input("x", DType::F32, &["1", "2", "4", "4"])
        .constant("w", &f32s(&[2, 2, 3, 3], &[1.0; 36]))
        .constant("shape", &i64s(&[1, -1]))
        .node("Conv", &["x", "w"], &["a"], vec![ints("pads", &[1, 1, 1, 1]), ints("strides", &[2, 2])])
        .node("AveragePool", &["a"], &["b"], vec![ints("kernel_shape", &[2, 2]), int("ceil_mode", 1)])
        .node("Reshape", &["b", "shape"], &["c"], vec![])
        .node("Softmax", &["c"], &["y"], vec![int("axis", -1)])
        .output("y")
        .proto();
    let whole = model.encode_to_vec();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            let _ = import_bytes(Bytes::from(bytes), "flipped.onnx", &ImportOptions::default());
        }
    }
}

#[test]
fn functions_that_call_themselves_are_refused_before_anything_is_inlined() {
    let mut model =
        Model::new(17).input("x", DType::F32, &["2"]).node("Relu", &["x"], &["y"], vec![]).output("y").proto();
    let mut call = node("Again", &["a"], &["b"], vec![]);
    call.domain = Some("local".into());
    let function = FunctionProto {
        name: Some("Again".into()),
        domain: Some("local".into()),
        input: vec!["a".into()],
        output: vec!["b".into()],
        // twice: refused only at some depth, there would be 2^depth problems
        node: vec![call.clone(), NodeProto { output: vec!["c".into()], ..call.clone() }],
        ..FunctionProto::default()
    };
    call.input = vec!["x".into()];
    call.output = vec!["y".into()];
    model.graph.as_mut().unwrap().node = vec![call];
    model.functions.push(function);
    let text = import_proto(&model, &ImportOptions::default()).unwrap_err().to_string();
    assert_eq!(
        text,
        "cannot import `test.onnx`: functions call themselves, directly or through others: `local.Again`; expected functions that can be \
         inlined"
    );
}

/// Functions each of which calls the next one so many times, the last one `last`.
fn chain(levels: usize, calls: usize, last: &str) -> ModelProto {
    let name = |i: usize| format!("f{i}");
    let mut model = Model::new(17).input("x", DType::F32, &["2"]).output("y").proto();
    for level in 0..levels {
        let call = |input: &str, output: &str| NodeProto {
            domain: Some("local".into()),
            ..node(&name(level + 1), &[input], &[output], vec![])
        };
        let result = |i: usize| if i == 0 { "b".to_owned() } else { format!("b{i}") };
        let mut body: Vec<NodeProto> = (0..calls).map(|i| call("a", &result(i))).collect();
        if level + 1 == levels {
            body = vec![node(last, &["a"], &["b"], vec![])];
        }
        model.functions.push(FunctionProto {
            name: Some(name(level)),
            domain: Some("local".into()),
            input: vec!["a".into()],
            output: vec!["b".into()],
            node: body,
            opset_import: vec![OperatorSetIdProto { domain: None, version: Some(17) }],
            ..FunctionProto::default()
        });
    }
    let call = NodeProto { domain: Some("local".into()), ..node("f0", &["x"], &["y"], vec![]) };
    model.graph.as_mut().unwrap().node.push(call);
    model
}

#[test]
fn deep_nesting_is_refused() {
    let text = |levels| import_proto(&chain(levels, 1, "Relu"), &ImportOptions::default()).map_err(|e| e.to_string());
    assert!(text(64).is_ok());
    let text = text(65).unwrap_err();
    assert!(text.contains("nested more than 64 deep"), "{text}");
}

#[test]
fn import_stops_after_a_thousand_problems() {
    // Without an axis: each of the 2^11 inlined nodes is wrong.
    let model = chain(12, 2, "Concat");
    let text = import_proto(&model, &ImportOptions::default()).unwrap_err().to_string();
    assert!(text.contains("1001 problems"), "{}", &text[..text.len().min(2000)]);
    assert!(text.ends_with("import stopped here: more than 1000 problems; mend the first ones first"));
}

#[test]
fn functions_that_double_at_every_level_are_refused() {
    let model = chain(40, 2, "Relu");
    let text = import_proto(&model, &ImportOptions::default()).unwrap_err().to_string();
    assert!(text.contains("expand to more than 16384 nodes"), "{}", &text[..text.len().min(2000)]);
}

#[test]
fn tensors_of_too_many_axes_are_refused() {
    let axes = vec!["1"; 1000];
    let text = Model::new(17).input("x", DType::F32, &axes).node("Relu", &["x"], &["y"], vec![]).output("y").error();
    assert!(text.contains("a tensor of 1000 axes (up to 64 are)"), "{text}");
}

#[test]
fn the_list_of_operators_has_no_doubles() {
    let names = supported_operators();
    assert!(names.windows(2).all(|w| w[0] < w[1]), "{names:?}");
}

#[test]
fn what_recurrent_layers_cannot_do_is_named() {
    let layer = |op_type: &str, w: &[usize], attributes: Vec<AttributeProto>, lengths: Option<Tensor>| {
        let zeros = |dims: &[usize]| Tensor::zeros(DType::F32, dims).unwrap();
        let mut model = Model::new(14)
            .input("x", DType::F32, &["5", "2", "3"])
            .constant("w", &zeros(w))
            .constant("r", &zeros(&[1, 16, 4]));
        let mut inputs = vec!["x", "w", "r"];
        if let Some(lengths) = &lengths {
            model = model.constant("lengths", lengths);
            inputs.extend(["", "lengths"]);
        }
        model.node(op_type, &inputs, &["y"], attributes).output("y").error()
    };
    let lengths = Tensor::from_slice(&[2], &[5i32, 3]).unwrap();
    let narrow = layer("LSTM", &[1, 12, 3], vec![int("hidden_size", 4)], None);
    assert!(narrow.contains("W must have extents [1, 16, 3], found [1, 12, 3]"), "{narrow}");
    let units = layer("LSTM", &[1, 16, 3], vec![int("hidden_size", 5)], None);
    assert!(units.contains("hidden_size is 5, but R has 4 columns"), "{units}");
    let clip = layer("LSTM", &[1, 16, 3], vec![float("clip", 0.0)], None);
    assert!(clip.contains("clip must be greater than 0, found 0"), "{clip}");
    let gates = strings("activations", &["Relu", "Tanh", "Tanh"]);
    let coupled = layer("LSTM", &[1, 16, 3], vec![int("input_forget", 1), gates], None);
    assert!(coupled.contains("not supported: input_forget = 1 with another activation"), "{coupled}");
    let short = layer("LSTM", &[1, 16, 3], vec![], Some(lengths));
    assert!(short.contains("sequence_lens [5, 3] (only sequences of all 5 steps are)"), "{short}");
    let sideways = layer("GRU", &[1, 16, 3], vec![string("direction", "sideways")], None);
    assert!(sideways.contains("one of forward, reverse, bidirectional"), "{sideways}");
}

#[test]
fn constants_that_import_works_out_have_a_budget_in_all() {
    let scalar = |model: Model, name: &str, value: i64| model.constant(name, &Tensor::scalar(value));
    let numbers = [("zero", 0), ("one", 1), ("many", 1 << 25), ("some", 1 << 12), ("length", 1 << 11)];
    let mut model = numbers.iter().fold(Model::new(20), |model, (name, value)| scalar(model, name, *value));
    for (name, hertz) in [("low", 0.0f32), ("high", 4000.0)] {
        model = model.constant(name, &Tensor::scalar(hertz));
    }
    let model = model
        .input("signal", DType::F32, &["1", "4096", "1"])
        .input("image", DType::F32, &["1", "1", "40", "40"])
        .input("columns", DType::F32, &["1", "6400", "1681"])
        .constant("sizes", &i64s(&[1, 1, 80, 3000]))
        .constant("picked", &i64s(&[0; 100]))
        .constant("image_extents", &i64s(&[120, 120]))
        .constant("block_extents", &i64s(&[80, 80]))
        // the whole budget, but for what the file's own constants add
        .node("Range", &["zero", "many", "one"], &["range"], vec![])
        .node("Range", &["zero", "some", "one"], &["second_range"], vec![])
        .node("HannWindow", &["some"], &["hann"], vec![])
        .node("HammingWindow", &["some"], &["hamming"], vec![])
        .node("BlackmanWindow", &["some"], &["blackman"], vec![])
        .node("MelWeightMatrix", &["length", "some", "many", "low", "high"], &["mel"], vec![])
        .node("DFT", &["signal", "", ""], &["dft"], vec![])
        .node("STFT", &["signal", "one", "", "length"], &["stft"], vec![])
        .node("Trilu", &["signal"], &["triangle"], vec![])
        .node("Col2Im", &["columns", "image_extents", "block_extents"], &["col2im"], vec![])
        .node("Resize", &["image", "", "", "sizes"], &["resized"], vec![string("mode", "cubic")])
        .output("range");
    let text = model.error();
    let wanted = [
        ("second_range", "Range", "i64[4096]"),
        ("hann", "HannWindow", "f32[4096]"),
        ("hamming", "HammingWindow", "f32[4096]"),
        ("blackman", "BlackmanWindow", "f32[4096]"),
        ("mel", "MelWeightMatrix", "f32[2049, 2048]"),
        ("dft", "DFT", "f32[4096, 1, 4096, 2]"),
        ("stft", "STFT", "f32[2048, 1, 1025, 2]"),
        ("triangle", "Trilu", "bool[4096, 1]"),
        ("col2im", "Col2Im", "i64[10758400]"),
        ("resized", "Resize", "i64[3000]"),
    ];
    for (name, op_type, constant) in wanted {
        let line = format!(
            "- node `{name}` ({op_type}): not supported: a constant {constant} that import would have to work out, beside"
        );
        assert!(text.contains(&line), "{line} is missing:\n{text}");
    }
    assert!(text.contains("store it in the file as an initializer, or make it an input of the model"), "{text}");
}

#[test]
fn constants_of_the_file_widen_the_budget_of_those_that_import_works_out() {
    let model = |held: usize| {
        Model::new(17)
            .constant("held", &Tensor::zeros(DType::U8, &[held]).unwrap())
            .constant("zero", &Tensor::scalar(0i64))
            .constant("one", &Tensor::scalar(1i64))
            .constant("many", &Tensor::scalar((1i64 << 25) + 1000))
            .node("Range", &["zero", "many", "one"], &["range"], vec![])
            .output("range")
            .import(&ImportOptions::default())
    };
    let text = model(1000).unwrap_err().to_string();
    assert!(text.contains("beside 0 bytes of others (up to 268439552 are in all)"), "{text}");
    assert!(model(2000).is_ok());
}

#[test]
fn constants_of_one_value_are_known_as_long_as_there_is_room_and_then_broadcast() {
    let imported = Model::new(17)
        .constant("half", &i64s(&[(1 << 23) + 1]))
        .node("ConstantOfShape", &["half"], &["first"], vec![])
        .node("ConstantOfShape", &["half"], &["second"], vec![])
        .output("first")
        .output("second");
    let value = tensor_proto("value", &Tensor::from_slice(&[1], &[7u8]).unwrap());
    let mut proto = imported.proto();
    for node in &mut proto.graph.as_mut().unwrap().node {
        node.attribute = vec![AttributeProto { t: Some(value.clone()), ..attribute("value", AttributeType::Tensor) }];
    }
    let graph = import_proto(&proto, &ImportOptions::default()).unwrap().graph;
    let made: Vec<&str> = graph.outputs().iter().map(|(_, value)| graph.node(value.node).op.mnemonic()).collect();
    assert_eq!(made, ["constant", "broadcast"]);
}

#[test]
fn names_of_two_values_are_errors_that_name_both() {
    let two = |name: &str| f32s(&[2], &if name == "w" { [1.0, 2.0] } else { [3.0, 4.0] });
    let x = || Model::new(17).input("x", DType::F32, &["2"]);
    let text = x().node("Relu", &["x"], &["y"], vec![]).node("Neg", &["x"], &["y"], vec![]).output("y").error();
    assert!(
        text.contains("`y` is the name of two values, of node number 0 (Relu) and of node number 1 (Neg)"),
        "{text}"
    );
    let constants = || x().constant("w", &two("w")).constant("w", &two("v"));
    let text = constants().node("Add", &["x", "w"], &["y"], vec![]).output("y").error();
    assert!(text.contains("`w` is the name of two values, of an initializer and of an initializer"), "{text}");
    let text = x().node("Relu", &["x"], &["x"], vec![]).output("x").error();
    assert!(text.contains("`x` is the name of two values, of an input and of node number 0 (Relu)"), "{text}");
    let text = x().input("x", DType::F32, &["2"]).node("Relu", &["x"], &["y"], vec![]).output("y").error();
    assert!(text.contains("of an input and of an input"), "{text}");
    // an initializer that is an input's value, and an omitted result, are neither
    let model = x().constant("x", &two("w")).node("Dropout", &["x"], &["y", ""], vec![]);
    model.node("Dropout", &["y"], &["z", ""], vec![]).output("z").import(&ImportOptions::default()).unwrap();
}

#[test]
fn outputs_that_are_not_as_declared_are_errors() {
    let declared = |dtype: DType, dims: &[&str]| {
        let mut proto = Model::new(17).input("x", DType::F32, &["3", "2"]).node("Relu", &["x"], &["y"], vec![]).proto();
        proto.graph.as_mut().unwrap().output.push(value_info("y", dtype, dims));
        import_proto(&proto, &ImportOptions::default()).map_err(|e| e.to_string())
    };
    for dims in [&["3", "2"], &["n", "2"], &["", "0"], &["-1", "m"]] {
        declared(DType::F32, dims).unwrap();
    }
    for (dtype, dims, says) in [
        (DType::I64, &["3", "2"][..], "int64[3, 2]"),
        (DType::F32, &["n", "4"], "float[n, 4]"),
        (DType::F32, &["3"], "float[3]"),
        (DType::F32, &["3", "2", "1"], "float[3, 2, 1]"),
    ] {
        let text = declared(dtype, dims).unwrap_err();
        let whole = format!(
            "output `y`: the model declares {says}, but it is float[3, 2]: mend what it declares, or node `y` (Relu)"
        );
        assert!(text.contains(&whole), "{text}");
    }
}

#[test]
fn an_output_that_nothing_makes_is_said_to_be_one() {
    let text = Model::new(17).input("x", DType::F32, &["2"]).output("q").error();
    assert!(text.contains("output `q`: no node makes it, and it is neither an input nor an initializer"), "{text}");
}

#[test]
fn what_an_unusable_input_makes_unusable_is_not_reported() {
    let huge = (1u64 << 40).to_string();
    let model = Model::new(17).input("x", DType::F32, &[&huge, &huge]);
    let text = model.node("Relu", &["x"], &["y"], vec![]).output("y").error();
    assert!(text.starts_with("cannot import `test.onnx`: input `x`: ") && !text.contains("Relu"), "{text}");
}
