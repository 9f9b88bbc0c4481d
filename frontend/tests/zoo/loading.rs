//! Weights from safetensors, by name.

use kiln::files::safetensors::{self, Contents};
use kiln::ir::{DType, Dim, Graph, Tensor as TensorData};
use kiln::prelude::*;
use kiln::random_feeds::random_tensor;
use kiln::weights::{self, WeightError};
use kiln::zoo::{self, Images};

use crate::agreement::randomise;

fn small(name: &str) -> Graph {
    let model = zoo::model(name).expect("a model of the zoo");
    let graph = model.graph(&Images { batch: Dim::Fixed(1), size: (32, 32), classes: 4 });
    graph.expect("a well-formed graph")
}

fn logits(graph: &Graph) -> TensorData {
    let image = random_tensor(DType::F32, &[1, 3, 32, 32], 3).expect("a tensor");
    let mut session = Session::fire(graph, &CompileOptions::default()).expect("it compiles");
    session.run(&[("image", &image)], &[]).expect("it runs").tensor("logits").expect("an output").clone()
}

#[test]
fn weights_saved_and_loaded_by_name_give_the_same_results() {
    let mut graph = small("mobilenet_v2");
    randomise(&mut graph);
    let mut tensors = weights::values(&graph).expect("there is memory for them");
    // as PyTorch saves it
    let counter = TensorData::scalar(7i64);
    tensors.insert("features.0.1.num_batches_tracked".into(), counter);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mobilenet_v2.safetensors");
    safetensors::write(&path, &Contents { tensors, ..Contents::default() }).expect("it is written");

    let mut other = small("mobilenet_v2");
    let before = logits(&other);
    weights::load(&mut other, &safetensors::read(&path).expect("it is read").tensors).expect("they fit");
    assert_eq!(logits(&other), logits(&graph));
    assert_ne!(logits(&other), before);
}

#[test]
fn weights_that_do_not_fit_are_all_listed_and_nothing_is_loaded() {
    let mut graph = small("resnet18");
    let first = weights::values(&graph).expect("there is memory for them");
    let mut tensors = first.clone();
    let zeros = |dtype, dims: &[usize]| TensorData::zeros(dtype, dims).expect("a tensor");
    tensors.remove("layer1.0.bn1.running_var");
    tensors.remove("fc.bias");
    tensors.insert("fc.weight".into(), zeros(DType::F32, &[1000, 512]));
    tensors.insert("bn1.bias".into(), zeros(DType::F16, &[64]));
    tensors.insert("layer5.0.conv1.weight".into(), zeros(DType::F32, &[2]));
    tensors.insert("bn1.weight".into(), zeros(DType::F32, &[64]));
    let errors = weights::load(&mut graph, &tensors).expect_err("five problems");
    let expected = "\
the weights do not fit the graph: 5 problems
  wrong type: `bn1.bias`, expected f32[64], found f16[64]
  missing: `layer1.0.bn1.running_var`, f32[64]
  wrong type: `fc.weight`, expected f32[4, 512], found f32[1000, 512]
  missing: `fc.bias`, f32[4]
  surplus: `layer5.0.conv1.weight`, f32[2]: the graph has no such variable";
    assert_eq!(errors.to_string(), expected);
    assert!(matches!(errors.0[4], WeightError::Surplus { .. }));
    assert_eq!(weights::values(&graph).expect("there is memory for them"), first);
}

#[test]
fn variables_have_torchvisions_names() {
    // One of each kind of name, as torchvision's state dicts have them.
    let expected = [
        ("alexnet", "features.10.weight f32[256, 256, 3, 3]"),
        ("alexnet", "classifier.6.bias f32[1000]"),
        ("vgg19", "features.34.weight f32[512, 512, 3, 3]"),
        ("vgg16", "classifier.3.weight f32[4096, 4096]"),
        ("googlenet", "inception4e.branch3.1.conv.weight f32[128, 32, 3, 3]"),
        ("googlenet", "inception5b.branch4.1.bn.running_mean f32[128]"),
        ("resnet34", "layer3.0.downsample.1.running_var f32[256]"),
        ("resnet152", "layer3.35.conv3.weight f32[1024, 256, 1, 1]"),
        ("resnext50_32x4d", "layer1.0.conv2.weight f32[128, 4, 3, 3]"),
        ("densenet121", "features.denseblock4.denselayer16.norm2.weight f32[128]"),
        ("densenet121", "features.transition3.conv.weight f32[512, 1024, 1, 1]"),
        ("squeezenet1_0", "features.12.expand3x3.weight f32[256, 64, 3, 3]"),
        ("squeezenet1_1", "classifier.1.weight f32[1000, 512, 1, 1]"),
        ("mobilenet_v2", "features.1.conv.1.weight f32[16, 32, 1, 1]"),
        ("mobilenet_v2", "features.17.conv.3.running_mean f32[320]"),
        ("mobilenet_v2", "features.18.0.weight f32[1280, 320, 1, 1]"),
    ];
    for (name, variable) in expected {
        let model = zoo::model(name).expect("a model of the zoo");
        let graph = model.graph(&model.images()).expect("a well-formed graph");
        let found = graph.variables().iter().any(|v| format!("{} {}", v.name, v.ty) == variable);
        assert!(found, "{name} has no {variable}");
    }
}
