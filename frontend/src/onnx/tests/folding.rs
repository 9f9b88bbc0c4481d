use kiln_ir::{DType, Op};

use super::*;

/// Mnemonics of the graph's nodes, in order.
fn ops(imported: &Imported) -> Vec<&'static str> {
    imported.graph.node_ids().map(|id| imported.graph.node(id).op.mnemonic()).collect()
}

#[test]
fn shape_arithmetic_leaves_no_node_behind() {
    // reshape(x, [shape(x)[0] * 2, floor(shape(x)[1] / 2.0)]), as exporters write it.
    let imported = Model::new(17)
        .input("x", DType::F32, &["3", "8"])
        .constant("zero", &i64s(&[0]))
        .constant("one", &i64s(&[1]))
        .constant("two", &i64s(&[2]))
        .constant("half", &f32s(&[1], &[0.5]))
        .node("Shape", &["x"], &["shape"], vec![])
        .node("Slice", &["shape", "zero", "one"], &["rows"], vec![])
        .node("Gather", &["shape", "one"], &["columns"], vec![int("axis", 0)])
        .node("Mul", &["rows", "two"], &["new_rows"], vec![])
        .node("Cast", &["columns"], &["columns_f"], vec![int("to", 1)])
        .node("Mul", &["columns_f", "half"], &["halved"], vec![])
        .node("Floor", &["halved"], &["floored"], vec![])
        .node("Cast", &["floored"], &["new_columns"], vec![int("to", 7)])
        .node("Concat", &["new_rows", "new_columns"], &["target"], vec![int("axis", 0)])
        .node("Reshape", &["x", "target"], &["y"], vec![])
        .output("y")
        .import(&ImportOptions::default())
        .unwrap();
    assert_eq!(ops(&imported), ["placeholder", "reshape"]);
    let (_, y) = imported.graph.outputs()[0];
    assert_eq!(imported.graph.ty(y).to_string(), "f32[6, 4]");
}

#[test]
fn an_if_over_a_known_condition_becomes_its_branch() {
    let branch = |op: &str| Model::new(17).node(op, &["x"], &["b"], vec![]).output("b").graph();
    let model = |rows: &str| {
        Model::new(17)
            .input("x", DType::F32, &[rows, "2"])
            .constant("zero", &i64s(&[0]))
            .constant("limit", &i64s(&[4]))
            .node("Shape", &["x"], &["shape"], vec![])
            .node("Gather", &["shape", "zero"], &["rows"], vec![])
            .node("Less", &["rows", "limit"], &["short"], vec![])
            .node(
                "If",
                &["short"],
                &["y"],
                vec![graph_attribute("then_branch", branch("Relu")), graph_attribute("else_branch", branch("Tanh"))],
            )
            .output("y")
            .import(&ImportOptions::default())
            .unwrap()
    };
    assert_eq!(ops(&model("3")), ["placeholder", "relu"]);
    assert_eq!(ops(&model("5")), ["placeholder", "tanh"]);
}

#[test]
fn an_if_over_an_input_is_an_error() {
    let branch = || Model::new(17).node("Relu", &["x"], &["b"], vec![]).output("b").graph();
    let text = Model::new(17)
        .input("x", DType::F32, &["2"])
        .input("c", DType::Bool, &["1"])
        .node(
            "If",
            &["c"],
            &["y"],
            vec![graph_attribute("then_branch", branch()), graph_attribute("else_branch", branch())],
        )
        .output("y")
        .error();
    assert!(text.contains("input 0 (cond) must be known at import"), "{text}");
}

#[test]
fn large_constants_are_not_evaluated_but_left_to_the_passes() {
    let w = Tensor::zeros(DType::F32, &[1000, 100]).unwrap();
    let imported = Model::new(17)
        .input("x", DType::F32, &["100", "1000"])
        .constant("w", &w)
        .node("Transpose", &["w"], &["t"], vec![])
        .node("Add", &["x", "t"], &["y"], vec![])
        .output("y")
        .import(&ImportOptions::default())
        .unwrap();
    assert_eq!(ops(&imported), ["placeholder", "constant", "transpose", "add"]);
}

#[test]
fn a_constant_is_in_the_graph_once_and_only_where_it_is_used() {
    let imported = Model::new(17)
        .input("x", DType::F32, &["2"])
        .constant("w", &f32s(&[2], &[1.0, 2.0]))
        .constant("unused", &f32s(&[2], &[1.0, 2.0]))
        .node("Mul", &["x", "w"], &["a"], vec![])
        .node("Add", &["a", "w"], &["y"], vec![])
        .output("y")
        .import(&ImportOptions::default())
        .unwrap();
    assert_eq!(ops(&imported), ["placeholder", "constant", "mul", "add"]);
}

#[test]
fn constant_of_shape_is_a_constant_unless_it_is_huge() {
    let fill = |dims: &[i64]| {
        Model::new(17)
            .constant("dims", &i64s(dims))
            .node(
                "ConstantOfShape",
                &["dims"],
                &["y"],
                vec![AttributeProto {
                    t: Some(tensor_proto("v", &f32s(&[1], &[2.5]))),
                    ..attribute("value", AttributeType::Tensor)
                }],
            )
            .output("y")
            .import(&ImportOptions::default())
            .unwrap()
    };
    let small = fill(&[2, 2]);
    let Op::Constant { value } = &small.graph.node(small.graph.outputs()[0].1.node).op else {
        panic!("not a constant")
    };
    assert_eq!(value.tensor().to_vec::<f32>().unwrap(), [2.5; 4]);
    assert_eq!(ops(&fill(&[1 << 20, 4])), ["constant"]);
    for huge in [&[1 << 20, 5], &[1 << 20, 1 << 20]] {
        assert_eq!(ops(&fill(huge)), ["constant", "broadcast"]);
    }
}

#[test]
fn ranges_of_every_dtype_are_exact() {
    let range = |values: [Tensor; 3]| {
        let [start, limit, delta] = values;
        apply(17, "Range", &[Err(start), Err(limit), Err(delta)], vec![])
    };
    let scalars = |dtype: DType, values: [f64; 3]| values.map(|v| Tensor::from_f64(dtype, &[], &[v]).unwrap());
    for dtype in [DType::I32, DType::I64, DType::F32, DType::F64] {
        let up = range(scalars(dtype, [-3.0, 4.0, 3.0]));
        assert_eq!((up.dtype(), up.to_f64_vec()), (dtype, vec![-3.0, 0.0, 3.0]), "{dtype}");
        assert_eq!(range(scalars(dtype, [2.0, -2.0, -2.0])).to_f64_vec(), [2.0, 0.0], "{dtype}");
        assert_eq!(range(scalars(dtype, [2.0, 2.0, 1.0])).len(), 0, "{dtype}");
    }
    // beyond the integers that an f64 has
    let far = [i64::MAX - 2, i64::MAX, 1].map(Tensor::scalar);
    assert_eq!(range(far).to_vec::<i64>().unwrap(), [i64::MAX - 2, i64::MAX - 1]);
}

#[test]
fn shapes_are_worked_out_whatever_else_was() {
    // a range that takes all that import may work out, then a reshape by what the shape comes to
    let imported = Model::new(17)
        .input("x", DType::F32, &["3", "4"])
        .constant("zero", &Tensor::scalar(0i64))
        .constant("one", &Tensor::scalar(1i64))
        .constant("many", &Tensor::scalar((1i64 << 25) + 8))
        .constant("two", &i64s(&[2]))
        .node("Range", &["zero", "many", "one"], &["r"], vec![])
        .node("Shape", &["x"], &["shape"], vec![])
        .node("Mul", &["shape", "two"], &["doubled"], vec![])
        .node("Div", &["doubled", "two"], &["halved"], vec![])
        .node("Range", &["zero", "two", "one"], &["axes"], vec![])
        .node("ReduceSum", &["x", "axes"], &["sum"], vec![])
        .node("Reshape", &["x", "halved"], &["y"], vec![])
        .output("y")
        .output("sum")
        .output("r")
        .import(&ImportOptions::default())
        .unwrap();
    let (_, y) = imported.graph.outputs()[0];
    assert_eq!(imported.graph.ty(y).to_string(), "f32[3, 4]");
}

#[test]
fn indices_in_constant_nodes_are_no_work_of_import() {
    let indices = Tensor::zeros(DType::I64, &[1 << 22]).unwrap();
    let value = AttributeProto { t: Some(tensor_proto("v", &indices)), ..attribute("value", AttributeType::Tensor) };
    let mut model = Model::new(17).input("x", DType::F32, &["1000"]);
    for i in 0..9 {
        let (constant, y) = (format!("i{i}"), format!("y{i}"));
        model = model
            .node("Constant", &[], &[&constant], vec![value.clone()])
            .node("Gather", &["x", &constant], &[&y], vec![])
            .output(&y);
    }
    let imported = model.import(&ImportOptions::default()).unwrap();
    assert_eq!(imported.graph.outputs().len(), 9);
}

#[test]
fn functions_of_the_model_are_inlined_with_the_callers_attributes() {
    // scaled(a; slope = 0.5) = leaky_relu(a, alpha = slope) + a
    let mut leaky = node("LeakyRelu", &["a"], &["t"], vec![]);
    leaky
        .attribute
        .push(AttributeProto { ref_attr_name: Some("slope".into()), ..attribute("alpha", AttributeType::Float) });
    let function = FunctionProto {
        name: Some("scaled".into()),
        domain: Some("local".into()),
        input: vec!["a".into()],
        output: vec!["b".into()],
        attribute_proto: vec![float("slope", 0.5)],
        node: vec![leaky, node("Add", &["t", "a"], &["b"], vec![])],
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(17) }],
        ..FunctionProto::default()
    };
    let call = |input: &str, output: &str, attributes: Vec<AttributeProto>| {
        let mut call = node("scaled", &[input], &[output], attributes);
        call.domain = Some("local".into());
        call
    };
    let mut model = Model::new(17)
        .input("x", DType::F32, &["2"])
        .add(call("x", "t", vec![]))
        .add(call("t", "y", vec![float("slope", 0.25)]))
        .output("y")
        .proto();
    model.functions.push(function);
    let imported = import_proto(&model, &ImportOptions::default()).unwrap();
    let feeds = [("x", f32s(&[2], &[-4.0, 3.0]))];
    let results = interp::run::<f32>(&imported.graph, &feeds, None).unwrap();
    // −4 → −4·0.5 − 4 = −6 → −6·0.25 − 6 = −7.5; 3 → 6 → 12.
    assert_eq!(results[0].1.to_vec::<f32>().unwrap(), [-7.5, 12.0]);
}

#[test]
fn a_bias_stays_a_vector_however_small_what_it_is_added_to() {
    let imported = Model::new(17)
        .input("x", DType::F32, &["1", "1", "4", "4"])
        .constant("w", &f32s(&[2, 1, 3, 3], &[1.0; 18]))
        .constant("b", &f32s(&[2], &[1.0, 2.0]))
        .node("Conv", &["x", "w", "b"], &["y"], vec![])
        .output("y")
        .import(&ImportOptions::default())
        .unwrap();
    assert_eq!(ops(&imported), ["placeholder", "constant", "conv_general", "constant", "broadcast", "add"]);
}
