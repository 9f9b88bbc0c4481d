//! Models made in the tests, imported, and run by the reference interpreter. Expected values are those of
//! the operator's specification, or worked out by hand.

mod control_flow;
mod errors;
mod features;
mod folding;
mod operators;
mod sampling;
mod selection;
mod sequences;
mod signal;
mod signature;

use bytes::Bytes;
use kiln_ir::{DType, Tensor, interp};
use prost::Message;

use super::proto::*;
use super::{ImportOptions, Imported, import_bytes};

/// A model under construction.
#[derive(Clone)]
pub struct Model {
    graph: GraphProto,
    opset: i64,
}

fn data_type(dtype: DType) -> i32 {
    (match dtype {
        DType::F64 => TensorDataType::Double,
        DType::F32 => TensorDataType::Float,
        DType::F16 => TensorDataType::Float16,
        DType::BF16 => TensorDataType::Bfloat16,
        DType::I64 => TensorDataType::Int64,
        DType::I32 => TensorDataType::Int32,
        DType::I8 => TensorDataType::Int8,
        DType::U8 => TensorDataType::Uint8,
        DType::Bool => TensorDataType::Bool,
    }) as i32
}

pub fn tensor_proto(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: tensor.dims().iter().map(|&d| d as i64).collect(),
        data_type: Some(data_type(tensor.dtype())),
        raw_data: Some(tensor.bytes().clone()),
        ..TensorProto::default()
    }
}

pub fn dimension(text: &str) -> Dimension {
    let value = match text.parse() {
        Ok(n) => Some(DimensionValue::Value(n)),
        Err(_) if text.is_empty() => None,
        Err(_) => Some(DimensionValue::Param(text.to_owned())),
    };
    Dimension { value, denotation: None }
}

pub fn value_info(name: &str, dtype: DType, dims: &[&str]) -> ValueInfoProto {
    let shape = Some(TensorShapeProto { dim: dims.iter().map(|d| dimension(d)).collect() });
    let tensor = TensorTypeProto { elem_type: Some(data_type(dtype)), shape };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { value: Some(TypeValue::Tensor(tensor)) }),
        doc_string: None,
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(kind as i32), ..AttributeProto::default() }
}

pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

pub fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) }
}

pub fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(Bytes::copy_from_slice(value.as_bytes())), ..attribute(name, AttributeType::String) }
}

pub fn strings(name: &str, values: &[&str]) -> AttributeProto {
    let strings = values.iter().map(|s| Bytes::copy_from_slice(s.as_bytes())).collect();
    AttributeProto { strings, ..attribute(name, AttributeType::Strings) }
}

pub fn graph_attribute(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto { g: Some(graph), ..attribute(name, AttributeType::Graph) }
}

pub fn node(op_type: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    NodeProto {
        op_type: Some(op_type.to_owned()),
        input: owned(inputs),
        output: owned(outputs),
        attribute: attributes,
        ..NodeProto::default()
    }
}

pub fn f32s(dims: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_slice(dims, values).unwrap()
}

pub fn i64s(values: &[i64]) -> Tensor {
    Tensor::from_slice(&[values.len()], values).unwrap()
}

/// 0, 1, 2 …
pub fn count(dims: &[usize]) -> Tensor {
    let n: usize = dims.iter().product();
    f32s(dims, &(0..n).map(|i| i as f32).collect::<Vec<_>>())
}

impl Model {
    pub fn new(opset: i64) -> Model {
        Model { graph: GraphProto::default(), opset }
    }

    pub fn input(mut self, name: &str, dtype: DType, dims: &[&str]) -> Model {
        self.graph.input.push(value_info(name, dtype, dims));
        self
    }

    pub fn constant(mut self, name: &str, tensor: &Tensor) -> Model {
        self.graph.initializer.push(tensor_proto(name, tensor));
        self
    }

    pub fn node(self, op_type: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) -> Model {
        self.add(node(op_type, inputs, outputs, attributes))
    }

    pub fn add(mut self, node: NodeProto) -> Model {
        self.graph.node.push(node);
        self
    }

    pub fn output(mut self, name: &str) -> Model {
        self.graph.output.push(ValueInfoProto { name: Some(name.to_owned()), ..ValueInfoProto::default() });
        self
    }

    pub fn graph(self) -> GraphProto {
        self.graph
    }

    pub fn proto(self) -> ModelProto {
        ModelProto {
            ir_version: Some(8),
            opset_import: vec![OperatorSetIdProto { domain: None, version: Some(self.opset) }],
            graph: Some(self.graph),
            ..ModelProto::default()
        }
    }

    /// Encoded and imported.
    pub fn import(self, options: &ImportOptions) -> Result<Imported, super::ImportError> {
        import_proto(&self.proto(), options)
    }

    /// The text of the error that importing gives.
    pub fn error(self) -> String {
        self.import(&ImportOptions::default()).unwrap_err().to_string()
    }
}

pub fn import_proto(model: &ModelProto, options: &ImportOptions) -> Result<Imported, super::ImportError> {
    import_bytes(Bytes::from(model.encode_to_vec()), "test.onnx", options)
}

/// One node of one op: its inputs fed (`Ok`) or constant (`Err`), its first result.
pub fn apply(opset: i64, op_type: &str, inputs: &[Result<Tensor, Tensor>], attributes: Vec<AttributeProto>) -> Tensor {
    let mut model = Model::new(opset);
    let mut feeds = Vec::new();
    let mut options = ImportOptions::default();
    let names: Vec<String> = (0..inputs.len()).map(|i| format!("in{i}")).collect();
    for (name, input) in names.iter().zip(inputs) {
        match input {
            Ok(fed) => {
                let dims: Vec<String> = fed.dims().iter().map(usize::to_string).collect();
                model = model.input(name, fed.dtype(), &dims.iter().map(String::as_str).collect::<Vec<_>>());
                options.shapes.insert(name.clone(), fed.dims().to_vec());
                feeds.push((name.as_str(), fed.clone()));
            }
            Err(constant) => model = model.constant(name, constant),
        }
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let model = model.node(op_type, &names, &["out"], attributes).output("out");
    let imported = model.import(&options).unwrap_or_else(|e| panic!("{e}"));
    let results = interp::run::<f32>(&imported.graph, &feeds, None).unwrap_or_else(|e| panic!("{e}"));
    results.into_iter().next().unwrap().1
}

/// [`apply`] to one fed tensor and constants.
pub fn apply_to(
    opset: i64,
    op_type: &str,
    x: &Tensor,
    constants: &[Tensor],
    attributes: Vec<AttributeProto>,
) -> Tensor {
    let mut inputs = vec![Ok(x.clone())];
    inputs.extend(constants.iter().cloned().map(Err));
    apply(opset, op_type, &inputs, attributes)
}
