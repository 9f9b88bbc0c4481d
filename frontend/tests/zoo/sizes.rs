//! Parameters and multiply-accumulates, against what is published.

use kiln::ir::cost::multiply_accumulates;
use kiln::ir::{Dim, Graph};
use kiln::prelude::*;
use kiln::zoo::bert::Bert;
use kiln::zoo::googlenet::googlenet_with_auxiliary;
use kiln::zoo::{self, Images, parameters};

/// The network as it was described, for one input.
fn published(name: &str) -> Graph {
    let model = zoo::model(name).unwrap_or_else(|| panic!("{name} is not in the zoo"));
    let images = Images { batch: Dim::Fixed(1), ..model.images() };
    model.graph(&images).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn every_network_has_as_many_parameters_as_published() {
    // The first fifteen are the `num_params` of torchvision's weights; the files of the others say where theirs come from.
    let expected = [
        ("alexnet", 61_100_840),
        ("vgg16", 138_357_544),
        ("vgg19", 143_667_240),
        ("googlenet", 6_624_904),
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
        ("wide_resnet50_2", 68_883_240),
        ("resnext50_32x4d", 25_028_904),
        ("densenet121", 7_978_856),
        ("squeezenet1_0", 1_248_424),
        ("squeezenet1_1", 1_235_496),
        ("mobilenet_v2", 3_504_872),
        ("lenet5", 61_706),
        ("zfnet", 62_357_608),
        ("nin_cifar10", 966_986),
        ("nin_imagenet", 7_595_176),
        ("preact_resnet50", 25_549_352),
        ("preact_resnet164", 1_703_258),
        ("preact_resnet1001", 10_327_706),
        ("fractalnet20", 33_724_618),
        ("unet", 31_030_658),
        ("unet_padded", 31_037_698),
        ("fcn8s", 134_489_759),
    ];
    let wrong: Vec<String> = expected
        .iter()
        .map(|&(name, expected)| (name, expected, parameters(&published(name))))
        .filter(|(_, expected, found)| expected != found)
        .map(|(name, expected, found)| format!("{name}: expected {expected}, found {found}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let untested: Vec<&str> =
        zoo::MODELS.iter().map(|m| m.name).filter(|name| !expected.iter().any(|(n, _)| n == name)).collect();
    assert!(untested.is_empty(), "{untested:?}");
}

#[test]
fn preactivation_networks_have_as_many_million_weights_as_their_paper_says() {
    // Table 4 of He et al. 2016, which leaves normalisations out: 10.3 million with them.
    for (name, expected) in [("preact_resnet164", "1.7"), ("preact_resnet1001", "10.2")] {
        let graph = published(name);
        let weights =
            graph.variables().iter().filter(|v| !v.name.contains("norm")).filter_map(|v| v.ty.element_count());
        assert_eq!(format!("{:.1}", weights.sum::<usize>() as f64 / 1e6), expected, "{name}");
    }
}

#[test]
fn the_auxiliary_heads_of_googlenet_make_its_parameters_13_million() {
    let scope = Scope::new("googlenet");
    let x = scope.placeholder::<f32>("image", dims![1, 3, 224, 224]);
    for (name, logits) in ["logits", "aux1", "aux2"].into_iter().zip(googlenet_with_auxiliary(x, 1000)) {
        assert_eq!(logits.dims(), dims![1, 1000]);
        scope.output(name, logits);
    }
    assert_eq!(parameters(&scope.finish().expect("a well-formed graph")), 13_004_888);
}

#[test]
fn bert_base_has_the_parameters_of_its_parts() {
    let graph = Bert::base().graph(1, 128).expect("a well-formed graph");
    let part = |prefix: &str| -> usize {
        graph.variables().iter().filter(|v| v.name.starts_with(prefix)).filter_map(|v| v.ty.element_count()).sum()
    };
    assert_eq!((part("embeddings."), part("encoder."), part("pooler.")), (23_837_184, 85_054_464, 590_592));
    // As Hugging Face counts `bert-base-uncased`; the paper says 110 million.
    assert_eq!(parameters(&graph), 109_482_240);
}

#[test]
fn every_network_of_torchvision_has_as_many_multiply_accumulates_as_published() {
    // The column "GFLOPS" of torchvision's table of models, which counts multiply-accumulates, in billions.
    let expected = [
        ("alexnet", "0.71"),
        ("vgg16", "15.47"),
        ("vgg19", "19.63"),
        ("googlenet", "1.50"),
        ("resnet18", "1.81"),
        ("resnet34", "3.66"),
        ("resnet50", "4.09"),
        ("resnet101", "7.80"),
        ("resnet152", "11.51"),
        ("wide_resnet50_2", "11.40"),
        ("resnext50_32x4d", "4.23"),
        ("densenet121", "2.83"),
        ("squeezenet1_0", "0.82"),
        ("squeezenet1_1", "0.35"),
        ("mobilenet_v2", "0.30"),
    ];
    let count = |name| multiply_accumulates(&published(name)).expect("fixed extents");
    let wrong: Vec<String> = expected
        .iter()
        .map(|&(name, expected)| (name, expected, format!("{:.2}", count(name) as f64 / 1e9)))
        .filter(|(_, expected, found)| expected != found)
        .map(|(name, expected, found)| format!("{name}: expected {expected}, found {found}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn docs_zoo_md_is_what_the_zoo_says() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/zoo.md");
    let table = zoo::summary().expect("well-formed graphs");
    let text = format!("{}\n{table}", include_str!("introduction.md"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).expect("docs/zoo.md is written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/zoo.md is out of date: run `UPDATE_DOCS=1 cargo test -p kiln --test zoo docs`");
}
