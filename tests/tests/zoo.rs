//! Networks of the zoo with the weights of the benchmark models of the same architecture: they give what ONNX Runtime gave for those.
//!
//! `tests/models/fetch.py --bench` makes the models. Without them every test here is listed as ignored, with what to do.

use std::path::Path;

use kiln::ir::{DType, Dim, Graph, Tensor};
use kiln::onnx::{ExternalFiles, read_model, read_tensor};
use kiln::prelude::*;
use kiln::weights;
use kiln::zoo::bert::Bert;
use kiln::zoo::unet::UNet;
use kiln::zoo::{self, Images};
use kiln_tests::models::{Model, Named, folder, manifest, relative_error};
use libtest_mimic::{Arguments, Failed, Trial};

/// Benchmark models that the zoo has.
const IN_BOTH: [&str; 13] = [
    "lenet5",
    "alexnet",
    "vgg16",
    "vgg19",
    "googlenet",
    "resnet18",
    "resnet50",
    "wide_resnet50_2",
    "resnext50_32x4d",
    "densenet121",
    "squeezenet1_1",
    "mobilenet_v2",
    "unet_small",
];

fn main() {
    let arguments = Arguments::from_args();
    let folder = folder().join("bench");
    let trials = match manifest(&folder) {
        None => {
            let name = "benchmark_models_fetched_with_python3_tests_models_fetch_py_bench";
            vec![Trial::test(name, || Ok(())).with_ignored_flag(true)]
        }
        Some(Err(e)) => vec![Trial::test("manifest", move || Err(e.into()))],
        Some(Ok(models)) => {
            let both = models.into_iter().filter(|m| IN_BOTH.contains(&m.name.as_str()) || m.name == "bert_base");
            both.map(|model| {
                let folder = folder.clone();
                Trial::test(format!("{}_with_the_same_weights", model.name), move || check(&model, &folder))
            })
            .collect()
        }
    };
    libtest_mimic::run(&arguments, trials).exit();
}

fn check(model: &Model, folder: &Path) -> Result<(), Failed> {
    let case = model.cases.first().ok_or("a case")?;
    let (inputs, expected) = case.arrays.read(folder)?;
    let initialisers = initialisers(&folder.join(&model.file))?;
    let found = match model.name.as_str() {
        "bert_base" => bert(&initialisers, &inputs)?,
        name => images(name, &initialisers, &inputs)?,
    };
    let error = relative_error(&found, &expected.first().ok_or("an output")?.1);
    // the sum of other orders of summation over up to 121 layers, as for the models themselves
    if error <= model.tolerance { Ok(()) } else { Err(format!("{error:e} off, {:e} allowed", model.tolerance).into()) }
}

/// The floating-point initialisers with axes, in the order in which the generator made them.
fn initialisers(file: &Path) -> Result<Vec<Tensor>, Failed> {
    let protos = read_model(file)?.graph.ok_or("a graph")?.initializer;
    let files = ExternalFiles::new(None);
    let tensors = protos.iter().map(|proto| read_tensor(proto, proto.name.as_deref().unwrap_or_default(), &files));
    let all = tensors.collect::<Result<Vec<Tensor>, _>>()?;
    Ok(all.into_iter().filter(|t| t.dtype() == DType::F32 && !t.dims().is_empty()).collect())
}

/// Gives each variable of `graph` the tensor of its place. Both make their layers in the same order.
fn load_in_order(graph: &mut Graph, tensors: &[Tensor]) -> Result<(), Failed> {
    let variables = graph.variables();
    if variables.len() != tensors.len() {
        return Err(format!("{} variables, {} initialisers", variables.len(), tensors.len()).into());
    }
    let named = variables.iter().zip(tensors).map(|(v, t)| (v.name.clone(), t.clone())).collect();
    Ok(weights::load(graph, &named)?)
}

fn images(name: &str, initialisers: &[Tensor], inputs: &Named) -> Result<Tensor, Failed> {
    let mut graph = match zoo::model(name) {
        Some(model) => model.graph(&Images { batch: Dim::Fixed(1), ..model.images() })?,
        None => {
            let scope = Scope::new(name);
            let x = scope.placeholder::<f32>("image", dims![1, 3, 224, 224]);
            scope.output("logits", UNet { filters: 32, levels: 4, padded: true }.apply(x, 21));
            scope.finish()?
        }
    };
    load_in_order(&mut graph, initialisers)?;
    let mut session = Session::fire(&graph, &CompileOptions::default())?;
    let image = &inputs.first().ok_or("an input")?.1;
    Ok(session.run(&[("image", image)], &["logits"])?.tensor("logits")?.clone())
}

/// The generator's encoder adds up words and positions, multiplies by transposed matrices, and has no mask and no pooler.
fn bert(initialisers: &[Tensor], inputs: &Named) -> Result<Tensor, Failed> {
    let ids = &inputs.first().ok_or("an input")?.1;
    let length = ids.dims().last().copied().ok_or("ids of [1, length]")?;
    let bert = Bert { positions: length, ..Bert::base() };
    let mut graph = bert.graph(1, length)?;
    let mut tensors = weights::values(&graph)?;
    let mut given = initialisers.iter();
    for variable in graph.variables() {
        let dims = variable.ty.static_dims().unwrap_or_default();
        let name = variable.name.as_str();
        let value = if name.starts_with("embeddings.token_type") {
            Tensor::zeros(DType::F32, &dims)?
        } else if name.starts_with("pooler.") {
            continue;
        } else {
            let tensor = given.next().ok_or("fewer initialisers than variables")?;
            match name.contains("embeddings") || dims.len() < 2 {
                true => Tensor::from_bytes(DType::F32, &dims, tensor.bytes().clone())?,
                false => transposed(tensor)?,
            }
        };
        tensors.insert(name.to_owned(), value);
    }
    if given.next().is_some() {
        return Err("more initialisers than variables".into());
    }
    weights::load(&mut graph, &tensors)?;
    let filled = |value: i64| Tensor::from_slice(&[1, length], &vec![value; length]);
    let (types, mask) = (filled(0)?, filled(1)?);
    let mut session = Session::fire(&graph, &CompileOptions::default())?;
    let feeds: [(&str, &dyn ToTensor); 3] = [("input_ids", ids), ("token_type_ids", &types), ("attention_mask", &mask)];
    Ok(session.run(&feeds, &["last_hidden_state"])?.tensor("last_hidden_state")?.clone())
}

/// A matrix turned around.
fn transposed(matrix: &Tensor) -> Result<Tensor, Failed> {
    let [rows, columns] = *matrix.dims() else { return Err("a matrix".into()) };
    let values = matrix.to_vec::<f32>()?;
    let turned: Vec<f32> = (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect();
    Ok(Tensor::from_slice(&[columns, rows], &turned)?)
}
