//! Small well-formed files of each format, to be damaged.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;

use bytes::Bytes;
use image::{ImageBuffer, ImageFormat, Rgb};
use kiln::compile::{ArtifactOptions, CompileOptions, compile};
use kiln::files::safetensors::Contents;
use kiln::files::{npy, npz, safetensors};
use kiln::onnx::proto::*;
use kiln::random_feeds::random_tensor;
use kiln::tune::{Circumstances, Database};
use kiln_codegen::native::Target;
use kiln_codegen::tuning::{Algorithm, Blocking, Measurement, Tiling};
use kiln_ir::{DType, Tensor, text};
use prost::Message;

use super::Format;
use super::mutate::Random;
use crate::filetest::{files, root};

/// A convolution that Winograd's algorithm may compute, and a product: layers with several ways to be computed.
pub const LAYERS: &str = "kiln 1
graph @layers(%x: f32[1, 12, 12, 32]) -> (%y: f32[1, 12, 12, 8]) {
  %w = constant normal(mean=0.0, std=0.1, seed=1) : f32[3, 3, 32, 32]
  %c = conv_general %x, %w {padding = [[1, 1], [1, 1]], layout = channels_last} : f32[1, 12, 12, 32]
  %v = constant normal(mean=0.0, std=0.1, seed=2) : f32[32, 8]
  %y = dot_general %c, %v {lhs_contract = [3], rhs_contract = [0]} : f32[1, 12, 12, 8]
}
";

/// Files of a format, each small.
pub fn seeds(format: Format) -> Result<Vec<Vec<u8>>, String> {
    match format {
        Format::Text => texts(&["run", "rewrite", "parse", "infer", "specialize"]),
        Format::Onnx => Ok(models().iter().map(Message::encode_to_vec).collect()),
        Format::Artifact => artifacts(),
        Format::Safetensors => files_of(|path, tensors| {
            let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
            let contents = Contents { tensors: tensors.iter().cloned().collect(), metadata };
            safetensors::write(path, &contents).map_err(|e| e.to_string())
        }),
        Format::Npy => {
            let one =
                |tensor: &(String, Tensor)| files_of(|path, _| npy::write(path, &tensor.1).map_err(|e| e.to_string()));
            let narrow = tensors(); // NumPy has no bf16.
            let all: Result<Vec<_>, _> = narrow.iter().filter(|(_, t)| t.dtype() != DType::BF16).map(one).collect();
            Ok(all?.concat())
        }
        Format::Npz => files_of(|path, tensors| {
            let known = tensors.iter().filter(|(_, t)| t.dtype() != DType::BF16);
            npz::write(path, known.map(|(name, t)| (name.as_str(), t))).map_err(|e| e.to_string())
        }),
        Format::Image => images(),
        Format::Tuning => files_of(|path, _| database()?.write(path).map_err(|e| e.to_string())),
        Format::Kir => Ok((0..64).map(kernel_bytes).collect()),
    }
}

/// The files of folders of `filetests/`.
fn texts(folders: &[&str]) -> Result<Vec<Vec<u8>>, String> {
    let paths = folders.iter().flat_map(|folder| files(&root().join(folder)));
    paths.map(|path| std::fs::read(&path).map_err(|e| e.to_string())).collect()
}

fn kernel_bytes(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..32 + random.below(600)).map(|_| random.bits() as u8).collect()
}

/// A tensor of every dtype, and of odd extents.
fn tensors() -> Vec<(String, Tensor)> {
    let of = |dtype: DType, dims: &[usize]| random_tensor(dtype, dims, 3).map(|t| (format!("layer.{dtype}"), t));
    let every = DType::ALL.into_iter().filter_map(|dtype| of(dtype, &[2, 3]).ok());
    let odd = [("scalar", &[][..]), ("empty", &[3, 0]), ("vector", &[7])];
    let odd = odd.into_iter().filter_map(|(name, dims)| Some((name.to_owned(), of(DType::F32, dims).ok()?.1)));
    every.chain(odd).collect()
}

/// What `write` writes of all [`tensors`], and of the first two alone.
fn files_of(write: impl Fn(&Path, &[(String, Tensor)]) -> Result<(), String>) -> Result<Vec<Vec<u8>>, String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let path = folder.path().join("seed");
    let all = tensors();
    let file = |tensors: &[(String, Tensor)]| {
        write(&path, tensors)?;
        std::fs::read(&path).map_err(|e| e.to_string())
    };
    Ok(vec![file(&all)?, file(&all[..2])?])
}

fn images() -> Result<Vec<Vec<u8>>, String> {
    let picture = ImageBuffer::from_fn(21, 13, |x, y| Rgb([(x * 12) as u8, (y * 19) as u8, (x * y) as u8]));
    let file = |format| {
        let mut out = Cursor::new(Vec::new());
        picture.write_to(&mut out, format).map_err(|e| e.to_string())?;
        Ok(out.into_inner())
    };
    [ImageFormat::Png, ImageFormat::Jpeg].into_iter().map(file).collect()
}

fn database() -> Result<Database, String> {
    let target = Target::host().map_err(|e| e.to_string())?;
    let here = Circumstances { cpu: "a processor".into(), ..Circumstances::here(&target, 1, false) };
    let direct = |rows| Algorithm::Direct(Blocking { rows, vectors: 2, columns_first: false });
    let winograd = Algorithm::Winograd(Tiling { results: 4, taps: 3, blocks: 1, parts: 1 });
    let measured =
        |algorithm| Measurement { algorithm, nanoseconds: 10_000, estimated: direct(6), estimated_nanoseconds: 12_000 };
    let mut database = Database::default();
    database.insert(&here, "a layer", measured(winograd));
    database.insert(&here, "another layer", measured(direct(4)));
    database.insert(&Circumstances { exact: true, ..here }, "a layer", measured(direct(14)));
    Ok(database)
}

/// Artifacts of graphs with weights, state and several outputs, with either half and with both.
fn artifacts() -> Result<Vec<Vec<u8>>, String> {
    let stateful = "kiln 1
graph @counter(%x: f32[4]) -> (%n: f32[4]) {
  variable \"count\": f32[4] = fill(1.0)
  %c = read_var {variable = \"count\"} : f32[4]
  %n = add %c, %x : f32[4]
  %a = assign %n {variable = \"count\"} : f32[4]
}
";
    let dense = "kiln 1
graph @dense(%x: f32[2, 8]) -> (%p: f32[2, 5], %s: f32[2]) {
  %w = constant normal(mean=0.0, std=1.0, seed=1) : f32[8, 5]
  %b = constant dense<[0.5, -0.5, 0.25, 1.0, 2.0]> : f32[5]
  %h = dot_general %x, %w {lhs_contract = [1], rhs_contract = [0]}
  %c = broadcast %b {axes = [1]} : f32[2, 5]
  %y = add %h, %c
  %p = softmax %y {axis = 1}
  %s = reduce %y {axes = [1], reducer = max}
}
";
    let mut all = Vec::new();
    for source in [LAYERS, stateful, dense] {
        let graph = text::parse(source, "seed").map_err(|e| e.to_string())?;
        let options = CompileOptions { threads: Some(1), ..CompileOptions::default() };
        let compiled = compile(&graph, &options).map_err(|e| e.to_string())?;
        for (portable, native) in [(true, true), (true, false), (false, true)] {
            let artifact = compiled.artifact(&ArtifactOptions { portable, native }).map_err(|e| e.to_string())?;
            all.push(artifact.to_bytes().map_err(|e| e.to_string())?.to_vec());
        }
    }
    Ok(all)
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(kind as i32), ..AttributeProto::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i: Some(i), ..attribute(name, AttributeType::Int) }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { ints: ints.to_vec(), ..attribute(name, AttributeType::Ints) }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f: Some(f), ..attribute(name, AttributeType::Float) }
}

fn string(name: &str, s: &'static str) -> AttributeProto {
    AttributeProto { s: Some(Bytes::from_static(s.as_bytes())), ..attribute(name, AttributeType::String) }
}

/// `result = op(operands)`
fn node(op: &str, operands: &[&str], results: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    NodeProto {
        op_type: Some(op.into()),
        input: owned(operands),
        output: owned(results),
        attribute,
        ..NodeProto::default()
    }
}

fn value(name: &str, elem_type: TensorDataType, dims: &[&str]) -> ValueInfoProto {
    let dim = |text: &&str| Dimension {
        value: Some(text.parse().map_or_else(|_| DimensionValue::Param((*text).to_owned()), DimensionValue::Value)),
        denotation: None,
    };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor = TypeValue::Tensor(TensorTypeProto { elem_type: Some(elem_type as i32), shape });
    ValueInfoProto { name: Some(name.into()), r#type: Some(TypeProto { value: Some(tensor) }), doc_string: None }
}

fn weights(name: &str, dims: &[usize]) -> TensorProto {
    let tensor = random_tensor(DType::F32, dims, dims.len() as u64).unwrap_or_else(|_| Tensor::scalar(0.0f32));
    TensorProto {
        name: Some(name.into()),
        dims: tensor.dims().iter().map(|&d| d as i64).collect(),
        data_type: Some(TensorDataType::Float as i32),
        raw_data: Some(tensor.bytes().clone()),
        ..TensorProto::default()
    }
}

fn numbers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: vec![values.len() as i64],
        data_type: Some(TensorDataType::Int64 as i32),
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

fn byte(name: &str, value: u8) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        data_type: Some(TensorDataType::Uint8 as i32),
        int32_data: vec![value.into()],
        ..TensorProto::default()
    }
}

fn model(
    node: Vec<NodeProto>,
    input: Vec<ValueInfoProto>,
    output: &[&str],
    initializer: Vec<TensorProto>,
) -> ModelProto {
    let output = output.iter().map(|name| ValueInfoProto { name: Some((*name).into()), ..ValueInfoProto::default() });
    let graph = GraphProto {
        name: Some("seed".into()),
        node,
        input,
        output: output.collect(),
        initializer,
        ..GraphProto::default()
    };
    ModelProto {
        ir_version: Some(9),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(18) }],
        ..ModelProto::default()
    }
}

/// ONNX models: between them convolutions, windows, shape arithmetic, branches, functions, quantisation, recurrence, indexing,
/// loops, sequences, transforms, trees and narrow types.
fn models() -> Vec<ModelProto> {
    use TensorDataType::{Bool, Float, Int64, Uint8};
    let image = || vec![value("x", Float, &["1", "2", "6", "6"])];
    let branch = |op: &str| GraphProto {
        name: Some(op.into()),
        node: vec![node(op, &["x"], &["inner"], vec![])],
        output: vec![ValueInfoProto { name: Some("inner".into()), ..ValueInfoProto::default() }],
        ..GraphProto::default()
    };
    let body = |name: &str, op: &str| AttributeProto { g: Some(branch(op)), ..attribute(name, AttributeType::Graph) };
    let convolution = model(
        vec![
            node("Conv", &["x", "w", "b"], &["c"], vec![ints("pads", &[1, 1, 1, 1]), ints("kernel_shape", &[3, 3])]),
            node("BatchNormalization", &["c", "s", "b", "b", "s"], &["n"], vec![float("epsilon", 1e-5)]),
            node("Relu", &["n"], &["r"], vec![]),
            node("MaxPool", &["r"], &["p"], vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])]),
            node("AveragePool", &["p"], &["a"], vec![ints("kernel_shape", &[2, 2]), string("auto_pad", "SAME_UPPER")]),
            node("GlobalAveragePool", &["a"], &["g"], vec![]),
            node("Flatten", &["g"], &["f"], vec![int("axis", 1)]),
            node("Gemm", &["f", "m", "b"], &["y"], vec![int("transB", 1), float("alpha", 0.5)]),
        ],
        image(),
        &["y"],
        vec![
            weights("w", &[3, 2, 3, 3]),
            weights("b", &[3]),
            weights("m", &[3, 3]),
            TensorProto { float_data: vec![1.0, 2.0, 0.5], raw_data: None, ..weights("s", &[3]) },
        ],
    );
    let shapes = model(
        vec![
            node("Shape", &["x"], &["s"], vec![]),
            node("Gather", &["s", "zero"], &["n"], vec![int("axis", 0)]),
            node("Concat", &["n", "minus"], &["to"], vec![int("axis", 0)]),
            node("Reshape", &["x", "to"], &["r"], vec![]),
            node("ConstantOfShape", &["to2"], &["c"], vec![]),
            node("Expand", &["one", "to2"], &["e"], vec![]),
            node("Cast", &["e"], &["f"], vec![int("to", 1)]),
            node("Slice", &["r", "zero", "three", "one", "two"], &["l"], vec![]),
            node("Add", &["c", "f"], &["k"], vec![]),
            node("Transpose", &["k"], &["t"], vec![ints("perm", &[1, 0])]),
            node("Unsqueeze", &["t", "zero"], &["u"], vec![]),
            node("Tile", &["u", "reps"], &["y"], vec![]),
            node("Range", &["a", "b", "d"], &["range"], vec![]),
        ],
        vec![value("x", Float, &["batch", "2", "6"])],
        &["l", "y", "range"],
        vec![
            numbers("zero", &[0]),
            numbers("one", &[1]),
            numbers("two", &[2]),
            numbers("three", &[3]),
            numbers("minus", &[-1]),
            numbers("to2", &[2, 3]),
            numbers("reps", &[2, 1, 1]),
            TensorProto { dims: vec![], ..numbers("a", &[1]) },
            TensorProto { dims: vec![], ..numbers("b", &[9]) },
            TensorProto { dims: vec![], ..numbers("d", &[2]) },
        ],
    );
    let control = model(
        vec![
            node(
                "Constant",
                &[],
                &["yes"],
                vec![AttributeProto {
                    t: Some(TensorProto {
                        data_type: Some(Bool as i32),
                        int32_data: vec![1],
                        ..TensorProto::default()
                    }),
                    ..attribute("value", AttributeType::Tensor)
                }],
            ),
            node("If", &["yes"], &["r"], vec![body("then_branch", "Relu"), body("else_branch", "Neg")]),
            NodeProto { domain: Some("local".into()), ..node("Twice", &["r"], &["y"], vec![float("by", 2.0)]) },
        ],
        image(),
        &["y"],
        vec![],
    );
    let twice = FunctionProto {
        name: Some("Twice".into()),
        domain: Some("local".into()),
        input: vec!["i".into()],
        output: vec!["o".into()],
        attribute: vec!["by".into()],
        node: vec![
            node(
                "LeakyRelu",
                &["i"],
                &["h"],
                vec![AttributeProto { ref_attr_name: Some("by".into()), ..attribute("alpha", AttributeType::Float) }],
            ),
            node("Add", &["h", "h"], &["o"], vec![]),
        ],
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(18) }],
        ..FunctionProto::default()
    };
    let local = OperatorSetIdProto { domain: Some("local".into()), version: Some(1) };
    let control = ModelProto {
        functions: vec![twice],
        opset_import: control.opset_import.iter().cloned().chain([local]).collect(),
        ..control
    };
    let quantized = model(
        vec![
            node("QuantizeLinear", &["x", "scale", "point"], &["q"], vec![]),
            node("DequantizeLinear", &["q", "scale", "point"], &["d"], vec![]),
            node("DynamicQuantizeLinear", &["d"], &["e", "es", "ep"], vec![]),
            node("MatMulInteger", &["e", "u", "ep"], &["y"], vec![]),
        ],
        vec![value("x", Float, &["2", "4"]), value("u", Uint8, &["4", "3"])],
        &["y", "d"],
        vec![
            TensorProto { dims: vec![], float_data: vec![0.1], raw_data: None, ..weights("scale", &[1]) },
            byte("point", 128),
        ],
    );
    let recurrent = model(
        vec![
            node(
                "LSTM",
                &["x", "w", "r", "b"],
                &["y", "h", "c"],
                vec![int("hidden_size", 3), string("direction", "bidirectional")],
            ),
            node("GRU", &["x", "gw", "gr"], &["g"], vec![int("hidden_size", 2), int("linear_before_reset", 1)]),
            node("RNN", &["x", "rw", "rr"], &["n"], vec![int("hidden_size", 2)]),
        ],
        vec![value("x", Float, &["4", "1", "2"])],
        &["y", "c", "g", "n"],
        vec![
            weights("w", &[2, 12, 2]),
            weights("r", &[2, 12, 3]),
            weights("b", &[2, 24]),
            weights("gw", &[1, 6, 2]),
            weights("gr", &[1, 6, 2]),
            weights("rw", &[1, 2, 2]),
            weights("rr", &[1, 2, 2]),
        ],
    );
    let pixels = model(
        vec![
            node("Pad", &["x", "pads", "fill"], &["p"], vec![string("mode", "constant")]),
            node(
                "Resize",
                &["p", "", "", "sizes"],
                &["z"],
                vec![string("mode", "linear"), string("coordinate_transformation_mode", "half_pixel")],
            ),
            node("ConvTranspose", &["z", "w"], &["t"], vec![ints("strides", &[2, 2]), ints("output_padding", &[1, 1])]),
            node("InstanceNormalization", &["t", "s", "s"], &["n"], vec![]),
            node("LRN", &["n"], &["l"], vec![int("size", 3)]),
            node("DepthToSpace", &["x4"], &["d"], vec![int("blocksize", 2)]),
        ],
        vec![value("x", Float, &["1", "2", "4", "4"]), value("x4", Float, &["1", "4", "2", "3"])],
        &["l", "d"],
        vec![
            numbers("pads", &[0, 0, 1, 1, 0, 0, 1, 2]),
            TensorProto { dims: vec![], float_data: vec![0.5], raw_data: None, ..weights("fill", &[1]) },
            numbers("sizes", &[1, 2, 5, 9]),
            weights("w", &[2, 3, 3, 3]),
            weights("s", &[3]),
        ],
    );
    let indexing = model(
        vec![
            node("TopK", &["x", "k"], &["v", "i"], vec![int("axis", -1), int("largest", 1)]),
            node("GatherElements", &["x", "i"], &["g"], vec![int("axis", 1)]),
            node("Einsum", &["x", "x"], &["e"], vec![string("equation", "ij,kj->ik")]),
            node("MatMul", &["e", "g"], &["m"], vec![]),
            node("Softmax", &["m"], &["s"], vec![int("axis", -1)]),
            node("ArgMax", &["s"], &["a"], vec![int("axis", 1), int("keepdims", 0)]),
            node("ReduceMean", &["s", "axes"], &["r"], vec![int("keepdims", 1)]),
            node("Split", &["x"], &["h1", "h2"], vec![int("axis", 1), int("num_outputs", 2)]),
            node("Where", &["mask", "h1", "h2"], &["w"], vec![]),
            node("LayerNormalization", &["w", "scale"], &["y"], vec![int("axis", -1)]),
            node("CumSum", &["y", "axis"], &["z"], vec![int("reverse", 1)]),
        ],
        vec![value("x", Float, &["3", "6"]), value("mask", Bool, &["3", "3"]), value("unused", Int64, &["N"])],
        &["a", "r", "z"],
        vec![
            numbers("k", &[3]),
            numbers("axes", &[1]),
            weights("scale", &[3]),
            TensorProto { dims: vec![], ..numbers("axis", &[1]) },
        ],
    );
    let mut models = vec![convolution, shapes, control, quantized, recurrent, pixels, indexing];
    models.extend([loops(), signals(), features(), narrow()]);
    models
}

/// A graph with typed inputs, as a subgraph.
fn subgraph(
    node: Vec<NodeProto>,
    input: Vec<ValueInfoProto>,
    output: &[&str],
    initializer: Vec<TensorProto>,
) -> GraphProto {
    model(node, input, output, initializer).graph.unwrap_or_default()
}

fn graph(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto { g: Some(graph), ..attribute(name, AttributeType::Graph) }
}

fn tensor(name: &str, value: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(value), ..attribute(name, AttributeType::Tensor) }
}

/// Loops and scans, sequences and optionals.
fn loops() -> ModelProto {
    use TensorDataType::{Bool, Float, Int64};
    let scalar = |name: &str, value: i64| TensorProto { dims: vec![], ..numbers(name, &[value]) };
    let grow = subgraph(
        vec![
            node("Less", &["i", "two"], &["on"], vec![]),
            node("Cast", &["i"], &["f"], vec![int("to", 1)]),
            node("Mul", &["x", "f"], &["m"], vec![]),
            node("SequenceInsert", &["s", "m"], &["t"], vec![]),
        ],
        vec![value("i", Int64, &[]), value("go", Bool, &[]), value("s", Float, &["3"])],
        &["on", "t", "f"],
        vec![scalar("two", 2)],
    );
    let sum = subgraph(
        vec![node("Add", &["v", "r"], &["w"], vec![]), node("Neg", &["w"], &["n"], vec![])],
        vec![value("v", Float, &["3"]), value("r", Float, &["3"])],
        &["w", "n"],
        vec![],
    );
    let twice =
        subgraph(vec![node("Add", &["a", "a"], &["b"], vec![])], vec![value("a", Float, &["3"])], &["b"], vec![]);
    model(
        vec![
            node("SequenceConstruct", &["x"], &["s0"], vec![]),
            node("Loop", &["five", "yes", "s0"], &["s1", "fs"], vec![graph("body", grow)]),
            node("SequenceMap", &["s1"], &["s2"], vec![graph("body", twice)]),
            node("SequenceErase", &["s2", "minus"], &["s3"], vec![]),
            node("SequenceLength", &["s3"], &["length"], vec![]),
            node("SequenceAt", &["s3", "minus"], &["last"], vec![]),
            node("ConcatFromSequence", &["s3"], &["all"], vec![int("axis", 0), int("new_axis", 1)]),
            node(
                "Scan",
                &["last", "all"],
                &["total", "so_far"],
                vec![
                    graph("body", sum),
                    int("num_scan_inputs", 1),
                    ints("scan_input_axes", &[0]),
                    ints("scan_output_directions", &[1]),
                ],
            ),
            node("SplitToSequence", &["so_far", "two"], &["parts"], vec![int("axis", 1)]),
            node("Optional", &["parts"], &["maybe"], vec![]),
            node("OptionalHasElement", &["maybe"], &["has"], vec![]),
            node("OptionalGetElement", &["maybe"], &["y"], vec![]),
        ],
        vec![value("x", Float, &["3"])],
        &["y", "fs", "length", "has", "total"],
        vec![
            scalar("five", 5),
            scalar("two", 2),
            scalar("minus", -1),
            TensorProto { data_type: Some(Bool as i32), int64_data: vec![], int32_data: vec![1], ..scalar("yes", 1) },
        ],
    )
}

/// Fourier transforms and what goes with them.
fn signals() -> ModelProto {
    let scalar = |name: &str, value: i64| TensorProto { dims: vec![], ..numbers(name, &[value]) };
    let hertz = |name: &str, value: f32| TensorProto {
        dims: vec![],
        float_data: vec![value],
        raw_data: None,
        ..weights(name, &[1])
    };
    model(
        vec![
            node("HannWindow", &["eight"], &["w"], vec![int("periodic", 0)]),
            node("STFT", &["x", "four", "w", "eight"], &["s"], vec![int("onesided", 1)]),
            node("DFT", &["x", "eight"], &["d"], vec![int("axis", 1)]),
            node("DFT", &["d"], &["i"], vec![int("inverse", 1)]),
            node("MelWeightMatrix", &["four", "eight", "rate", "low", "high"], &["m"], vec![]),
            node("ReduceSumSquare", &["s", "last"], &["p"], vec![int("keepdims", 0)]),
            node("MatMul", &["p", "m"], &["y"], vec![]),
        ],
        vec![value("x", TensorDataType::Float, &["1", "24", "1"])],
        &["y", "i"],
        vec![
            scalar("four", 4),
            scalar("eight", 8),
            scalar("rate", 8000),
            numbers("last", &[-1]),
            hertz("low", 0.0),
            hertz("high", 4000.0),
        ],
    )
}

/// Trees, n-grams and a step of an optimiser.
fn features() -> ModelProto {
    use TensorDataType::{Float, Int64};
    let within = |domain: &str, node: NodeProto| NodeProto { domain: Some(domain.into()), ..node };
    let modes = TensorProto { dims: vec![2], int32_data: vec![0, 6], ..byte("modes", 0) };
    let floats = |name: &str, values: &[f32]| TensorProto {
        dims: vec![values.len() as i64],
        float_data: values.to_vec(),
        raw_data: None,
        ..weights(name, &[1])
    };
    let tree = vec![
        ints("nodes_featureids", &[0, 1]),
        tensor("nodes_modes", modes),
        tensor("nodes_splits", floats("splits", &[0.5, 0.0])),
        ints("nodes_truenodeids", &[1, 0]),
        ints("nodes_trueleafs", &[0, 1]),
        ints("nodes_falsenodeids", &[2, 1]),
        ints("nodes_falseleafs", &[1, 1]),
        ints("leaf_targetids", &[0, 1, 0]),
        tensor("leaf_weights", floats("leaves", &[1.0, 2.0, 4.0])),
        tensor("membership_values", floats("members", &[0.0, 1.0, f32::NAN])),
        ints("tree_roots", &[0]),
        int("n_targets", 2),
    ];
    let grams = vec![
        int("min_gram_length", 1),
        int("max_gram_length", 2),
        int("max_skip_count", 1),
        ints("pool_int64s", &[2, 3, 5, 6]),
        ints("ngram_counts", &[0, 2]),
        ints("ngram_indexes", &[1, 0, 2]),
        string("mode", "TF"),
    ];
    let seed = model(
        vec![
            within("ai.onnx.ml", node("TreeEnsemble", &["x"], &["t"], tree)),
            within("ai.onnx.ml", node("Binarizer", &["t"], &["b"], vec![float("threshold", 1.5)])),
            within("ai.onnx.ml", node("ArrayFeatureExtractor", &["b", "which"], &["f"], vec![])),
            node("TfIdfVectorizer", &["words"], &["g"], grams),
            within(
                "ai.onnx.preview.training",
                node("Adam", &["r", "n", "g", "g", "g", "g"], &["w", "v", "h"], vec![float("alpha", 0.5)]),
            ),
        ],
        vec![value("x", Float, &["3", "2"]), value("words", Int64, &["6"]), value("r", Float, &[])],
        &["f", "w", "v"],
        vec![numbers("which", &[1, 0, 1]), numbers("n", &[1])],
    );
    let domains = ["ai.onnx.ml", "ai.onnx.preview.training"];
    let imports = domains.map(|d| OperatorSetIdProto { domain: Some(d.into()), version: Some(1) });
    ModelProto { opset_import: seed.opset_import.iter().cloned().chain(imports).collect(), ..seed }
}

/// Element types that are held in wider ones.
fn narrow() -> ModelProto {
    use TensorDataType::{Float, Float8e4m3fn, Int4};
    let packed = |name: &str, ty: TensorDataType, dims: &[i64], raw: &'static [u8]| TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(ty as i32),
        raw_data: Some(Bytes::from_static(raw)),
        ..TensorProto::default()
    };
    let seed = model(
        vec![
            node("Transpose", &["w"], &["t"], vec![ints("perm", &[1, 0])]),
            node("DequantizeLinear", &["t", "s"], &["d"], vec![int("axis", 0), int("block_size", 2)]),
            node("MatMul", &["x", "d"], &["m"], vec![]),
            node("Cast", &["m"], &["c"], vec![int("to", 17), int("saturate", 1)]),
            node("Cast", &["c"], &["y"], vec![int("to", 1)]),
            node("QuantizeLinear", &["m", "one", "z"], &["q"], vec![int("axis", 1)]),
        ],
        vec![value("x", Float, &["2", "3"])],
        &["y", "q"],
        vec![
            packed("w", Int4, &[2, 3], &[0xe1, 0x83, 0x07]),
            packed("z", Float8e4m3fn, &[], &[0x38]),
            weights("s", &[2, 2]),
            TensorProto { dims: vec![], float_data: vec![0.5], raw_data: None, ..weights("one", &[1]) },
        ],
    );
    ModelProto { opset_import: vec![OperatorSetIdProto { domain: None, version: Some(21) }], ..seed }
}
