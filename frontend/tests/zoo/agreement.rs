//! Small versions of the networks, compiled and interpreted.

use kiln::ir::{Dim, Graph, Initializer, Tensor as TensorData, interp};
use kiln::prelude::*;
use kiln::random_feeds::random_tensor;
use kiln::zoo::bert::Bert;
use kiln::zoo::fcn::Fcn8s;
use kiln::zoo::googlenet::googlenet_with_auxiliary;
use kiln::zoo::unet::UNet;
use kiln::zoo::{self, Images};

/// Gives every variable other values: weights that keep the size of what they are applied to (and less at the end of a residual branch,
/// so that hundreds of them do not add up to much), statistics and shifts that are not 0 and 1.
/// Drawn by a short formula, since the largest networks have a hundred million.
pub fn randomise(graph: &mut Graph) {
    let variables: Vec<(String, Vec<usize>)> =
        graph.variables().iter().map(|v| (v.name.clone(), v.ty.static_dims().unwrap_or_default())).collect();
    for (seed, (name, dims)) in variables.iter().enumerate() {
        let fan_in: usize = dims.iter().skip(1).product();
        let (low, high) = match name.rsplit('.').next() {
            Some("running_var") => (0.7, 1.3),
            Some("weight") if dims.len() == 1 => (0.7, 1.3),
            Some("weight") => {
                let limit = (if name.contains("conv3") { 0.2 } else { 6.0 } / fan_in as f32).sqrt();
                (-limit, limit)
            }
            _ => (-0.2, 0.2),
        };
        let mut state = seed as u32;
        let values: Vec<f32> = (0..dims.iter().product())
            .map(|_| {
                // Numerical Recipes' linear congruential generator; the high bits are good enough
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                low + (high - low) * (state >> 8) as f32 / (1u32 << 24) as f32
            })
            .collect();
        let value = TensorData::from_slice(dims, &values).expect("as many values as the dims say");
        graph.set_initializer(name, Initializer::Value(value.into())).expect("a variable of the graph");
    }
}

/// Runs the graph both ways with other weights and compares every output.
fn check(name: &str, mut graph: Graph) {
    randomise(&mut graph);
    let feeds: Vec<(String, TensorData)> = graph
        .input_types()
        .map(|(input, ty)| {
            let dims = ty.static_dims().expect("fixed extents");
            (input.to_owned(), random_tensor(ty.dtype, &dims, 7).expect("a tensor"))
        })
        .collect();
    let feeds: Vec<(&str, TensorData)> = feeds.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    let expected = interp::run::<f32>(&graph, &feeds, None).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut session = Session::fire(&graph, &CompileOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let given: Vec<(&str, &dyn ToTensor)> = feeds.iter().map(|(n, t)| (*n, t as &dyn ToTensor)).collect();
    let found = session.run(&given, &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
    for (output, value) in &expected {
        let (a, b) = (found.tensor(output).expect("an output of the graph").to_f64_vec(), value.to_f64_vec());
        let largest = b.iter().fold(0f64, |m, v| m.max(v.abs()));
        let error = a.iter().zip(&b).map(|(x, y)| (x - y).abs()).fold(0f64, f64::max);
        assert!(largest > 1e-3 && largest < 1e6, "{name}: `{output}` is {largest} at most: nothing to compare");
        // f32 by another order of summation, and Winograd's algorithm, over up to 200 layers
        assert!(a.len() == b.len() && error <= 1e-4 * largest, "{name}: `{output}` is {error:e} off, of {largest}");
    }
}

fn image_model(name: &str, size: usize) {
    let images = Images { batch: Dim::Fixed(2), size: (size, size), classes: 5 };
    check(name, zoo::model(name).expect("a model of the zoo").graph(&images).expect("a well-formed graph"));
}

/// A graph of one layer stack: `image` [1, 3, size, size] to `y`.
fn stack(name: &str, size: usize, build: impl for<'g> Fn(Tensor<'g>) -> Vec<Tensor<'g>>) {
    let scope = Scope::new(name);
    let x = scope.placeholder::<f32>("image", dims![1, 3, size, size]);
    for (i, y) in build(x).into_iter().enumerate() {
        scope.output(&format!("y{i}"), y);
    }
    check(name, scope.finish().expect("a well-formed graph"));
}

macro_rules! agreement {
    ($($test:ident: $model:ident at $size:literal;)*) => {$(
        #[test]
        fn $test() {
            image_model(stringify!($model), $size);
        }
    )*};
}

agreement! {
    lenet_compiled_is_lenet_interpreted: lenet5 at 28;
    alexnet_compiled_is_alexnet_interpreted: alexnet at 64;
    zfnet_compiled_is_zfnet_interpreted: zfnet at 64;
    network_in_network_compiled_is_itself_interpreted: nin_cifar10 at 16;
    network_in_network_for_imagenet_compiled_is_itself_interpreted: nin_imagenet at 64;
    resnet18_compiled_is_resnet18_interpreted: resnet18 at 32;
    resnet50_compiled_is_resnet50_interpreted: resnet50 at 32;
    wide_resnet_compiled_is_wide_resnet_interpreted: wide_resnet50_2 at 32;
    resnext_compiled_is_resnext_interpreted: resnext50_32x4d at 32;
    preactivation_resnet_compiled_is_itself_interpreted: preact_resnet50 at 32;
    preactivation_resnet_of_164_layers_compiled_is_itself_interpreted: preact_resnet164 at 16;
    densenet_compiled_is_densenet_interpreted: densenet121 at 32;
    the_first_squeezenet_compiled_is_itself_interpreted: squeezenet1_0 at 48;
    the_second_squeezenet_compiled_is_itself_interpreted: squeezenet1_1 at 32;
    mobilenet_compiled_is_mobilenet_interpreted: mobilenet_v2 at 32;
    fractalnet_compiled_is_fractalnet_interpreted: fractalnet20 at 32;
    vgg_compiled_is_vgg_interpreted: vgg16 at 32;
}

#[test]
fn googlenet_with_its_heads_compiled_is_itself_interpreted() {
    stack("googlenet", 64, |x| googlenet_with_auxiliary(x, 5).to_vec());
}

#[test]
fn both_forms_of_unet_compiled_are_themselves_interpreted() {
    stack("padded", 32, |x| vec![UNet { filters: 8, levels: 4, padded: true }.apply(x, 3)]);
    stack("cropped", 92, |x| vec![UNet { filters: 4, levels: 4, padded: false }.apply(x, 2)]);
}

#[test]
fn fcn_compiled_is_fcn_interpreted() {
    stack("fcn8s", 33, |x| vec![Fcn8s { filters: 4, hidden: 16 }.apply(x, 3)]);
}

#[test]
fn bert_compiled_is_bert_interpreted_and_nothing_behind_the_end_of_a_text_matters() {
    let bert = Bert { vocabulary: 50, positions: 16, types: 2, width: 32, heads: 4, hidden: 64, layers: 2 };
    check("bert", bert.graph(2, 12).expect("a well-formed graph"));

    let mut graph = bert.graph(1, 4).expect("a well-formed graph");
    randomise(&mut graph);
    let row = |values: [i64; 4]| TensorData::from_slice(&[1, 4], &values).expect("four values");
    let run = |ids| {
        let feeds =
            [("input_ids", row(ids)), ("token_type_ids", row([0, 0, 1, 1])), ("attention_mask", row([1, 1, 1, 0]))];
        let results = interp::run::<f32>(&graph, &feeds, None).expect("it runs");
        results[0].1.to_vec::<f32>().expect("f32")[..3 * 32].to_vec()
    };
    assert_eq!(run([3, 4, 5, 6]), run([3, 4, 5, 49]));
    assert_ne!(run([3, 4, 5, 6]), run([3, 4, 49, 6]));
}

#[test]
fn networks_keep_a_symbolic_batch_and_say_what_is_too_small() {
    for model in zoo::MODELS {
        let graph = model.graph(&model.images()).unwrap_or_else(|e| panic!("{}: {e}", model.name));
        let (_, value) = &graph.outputs()[0];
        assert_eq!(graph.ty(*value).dims[0], Dim::from("batch"), "{}", model.name);
        assert_eq!(graph.ty(*value).dims[1], Dim::from(model.classes), "{}", model.name);
    }
    let alexnet = zoo::model("alexnet").expect("a model of the zoo");
    let errors = alexnet.graph(&Images { batch: Dim::Fixed(1), size: (20, 20), classes: 5 }).expect_err("too small");
    assert_eq!(errors.0.len(), 1, "{errors}");
    assert!(errors.to_string().contains("alexnet.rs"), "{errors}");
    let vgg = zoo::model("unet").expect("a model of the zoo");
    let odd = vgg.graph(&Images { batch: Dim::Fixed(1), size: (30, 30), classes: 2 }).expect_err("too small");
    assert_eq!(odd.0.len(), 1, "{odd}");
}
