//! Trees, n-grams and optimisers' steps, against values worked out by hand.

use kiln_ir::{DType, Tensor, interp};

use super::operators::{assert_close, assert_is};
use super::*;

fn tensor_attribute(name: &str, tensor: &Tensor) -> AttributeProto {
    AttributeProto { t: Some(tensor_proto(name, tensor)), ..attribute(name, AttributeType::Tensor) }
}

fn in_domain(domain: &str, mut node: NodeProto) -> NodeProto {
    node.domain = Some(domain.to_owned());
    node
}

fn run(model: Model, feeds: &[(&str, Tensor)]) -> Vec<Tensor> {
    let imported = model.import(&ImportOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    let results = interp::run::<f32>(&imported.graph, feeds, None).unwrap_or_else(|e| panic!("{e}"));
    results.into_iter().map(|(_, t)| t).collect()
}

/// Two trees over two features: the first asks x₀ ≤ 1 and then, if not, x₁ ∈ {5, 7}; the second is x₁ > 6 alone. `extra` are
/// further attributes, which replace those of the same name.
fn trees(extra: Vec<AttributeProto>) -> Model {
    let base = vec![
        ints("nodes_featureids", &[0, 1, 1]),
        tensor_attribute("nodes_modes", &Tensor::from_slice(&[3], &[0u8, 6, 3]).unwrap()),
        tensor_attribute("nodes_splits", &f32s(&[3], &[1.0, f32::NAN, 6.0])),
        ints("nodes_truenodeids", &[0, 1, 3]),
        ints("nodes_trueleafs", &[1, 1, 1]),
        ints("nodes_falsenodeids", &[1, 2, 4]),
        ints("nodes_falseleafs", &[0, 1, 1]),
        ints("leaf_targetids", &[0, 1, 0, 1, 1]),
        tensor_attribute("leaf_weights", &f32s(&[5], &[1.0, 2.0, 4.0, 8.0, 16.0])),
        tensor_attribute("membership_values", &f32s(&[3], &[5.0, 7.0, f32::NAN])),
        ints("tree_roots", &[0, 2]),
        int("n_targets", 2),
    ];
    let replaced = |a: &AttributeProto| extra.iter().any(|e| e.name == a.name);
    let attributes = base.into_iter().filter(|a| !replaced(a)).chain(extra.clone()).collect();
    Model::new(20)
        .input("x", DType::F32, &["5", "2"])
        .add(in_domain("ai.onnx.ml", node("TreeEnsemble", &["x"], &["y"], attributes)))
        .output("y")
}

fn samples() -> Tensor {
    f32s(&[5, 2], &[0.0, 9.0, 2.0, 5.0, 2.0, 7.0, 2.0, 6.0, f32::NAN, 0.0])
}

#[test]
fn trees_compare_features_with_thresholds_and_sets() {
    let y = &run(trees(vec![]), &[("x", samples())])[0];
    assert_is(y, &[5, 2], &[1.0, 8.0, 0.0, 18.0, 0.0, 10.0, 4.0, 16.0, 4.0, 16.0]);
    // the mean over the two trees
    let y = &run(trees(vec![int("aggregate_function", 0)]), &[("x", samples())])[0];
    assert_is(y, &[5, 2], &[0.5, 4.0, 0.0, 9.0, 0.0, 5.0, 2.0, 8.0, 2.0, 8.0]);
    // a missing value counts as yes at the first node
    let y = &run(trees(vec![ints("nodes_missing_value_tracks_true", &[1, 0, 0])]), &[("x", samples())])[0];
    assert_is(y, &[5, 2], &[1.0, 8.0, 0.0, 18.0, 0.0, 10.0, 4.0, 16.0, 1.0, 16.0]);
    // the greatest leaf
    let one = vec![int("n_targets", 1), ints("leaf_targetids", &[0; 5]), int("aggregate_function", 3)];
    assert_is(&run(trees(one), &[("x", samples())])[0], &[5, 1], &[8.0, 16.0, 8.0, 16.0, 16.0]);
}

#[test]
fn trees_that_are_not_trees_are_refused() {
    for (extra, part) in [
        (vec![ints("nodes_falsenodeids", &[0, 2, 4])], "or whose nodes go in circles"),
        (
            vec![ints("nodes_falsenodeids", &[1, 2, 5])],
            "`nodes_falsenodeids`: expected integers of at least 0 and below 5, found 5",
        ),
        (vec![ints("nodes_falsenodeids", &[4, 2, 4])], "a child 4 of 3"),
        (
            vec![ints("nodes_featureids", &[0, 1, 2])],
            "`nodes_featureids`: expected integers of at least 0 and below 2, found 2",
        ),
        (vec![ints("tree_roots", &[])], "`tree_roots` names no tree"),
        (vec![ints("leaf_targetids", &[0, 1])], "`leaf_targetids`: expected 5 entries, found 2"),
        (vec![int("n_targets", 0)], "`n_targets`: expected 1 to 65536, found 0"),
        (vec![int("aggregate_function", 2)], "the least or greatest leaf of several targets"),
        (vec![int("post_transform", 4)], "post_transform = 4"),
        (
            vec![
                tensor_attribute("membership_values", &f32s(&[1], &[f32::NAN])),
                tensor_attribute("nodes_modes", &Tensor::from_slice(&[3], &[0u8, 6, 6]).unwrap()),
            ],
            "fewer sets than there are nodes of mode 6",
        ),
        (vec![tensor_attribute("nodes_modes", &Tensor::from_slice(&[3], &[0u8, 9, 3]).unwrap())], "nodes_modes 9"),
        (vec![tensor_attribute("nodes_splits", &f32s(&[1], &[0.0]))], "1 entries of `nodes_splits` for 3 nodes"),
    ] {
        let text = trees(extra).error();
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn features_are_thresholded_and_chosen() {
    let model = Model::new(20)
        .input("x", DType::F32, &["2", "3"])
        .constant("which", &i64s(&[2, 0]))
        .add(in_domain("ai.onnx.ml", node("Binarizer", &["x"], &["a"], vec![float("threshold", 2.0)])))
        .add(in_domain("ai.onnx.ml", node("ArrayFeatureExtractor", &["x", "which"], &["b"], vec![])))
        .output("a")
        .output("b");
    let results = run(model, &[("x", count(&[2, 3]))]);
    assert_is(&results[0], &[2, 3], &[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    assert_is(&results[1], &[2, 2], &[2.0, 0.0, 5.0, 3.0]);
    let below = node("Binarizer", &["x"], &["a"], vec![float("threshold", -0.5)]);
    let model = Model::new(20).input("x", DType::I64, &["3"]).add(in_domain("ai.onnx.ml", below)).output("a");
    assert_is(&run(model, &[("x", i64s(&[-1, 0, 1]))])[0], &[3], &[0.0, 1.0, 1.0]);
}

fn ngrams(extra: Vec<AttributeProto>) -> Vec<AttributeProto> {
    let base = vec![
        int("min_gram_length", 1),
        int("max_gram_length", 2),
        int("max_skip_count", 1),
        // 2, 3; then 5 6, 6 5
        ints("pool_int64s", &[2, 3, 5, 6, 6, 5]),
        ints("ngram_counts", &[0, 2]),
        ints("ngram_indexes", &[1, 0, 3, 2]),
        string("mode", "TF"),
    ];
    let replaced = |a: &AttributeProto| extra.iter().any(|e| e.name == a.name);
    base.into_iter().filter(|a| !replaced(a)).chain(extra.clone()).collect()
}

#[test]
fn n_grams_are_counted_with_and_without_skips() {
    let x = Tensor::from_slice(&[2, 5], &[2i32, 5, 6, 6, 5, 3, 3, 5, 2, 6]).unwrap();
    let count = |extra| apply(9, "TfIdfVectorizer", &[Ok(x.clone())], ngrams(extra));
    // 5 6 at 1 and, over one number, at 1; 6 5 at 3 and, over one number, at 2
    assert_is(&count(vec![]), &[2, 4], &[0.0, 1.0, 2.0, 2.0, 2.0, 1.0, 0.0, 1.0]);
    assert_is(&count(vec![int("max_skip_count", 0)]), &[2, 4], &[0.0, 1.0, 1.0, 1.0, 2.0, 1.0, 0.0, 0.0]);
    assert_is(&count(vec![int("min_gram_length", 2)]), &[2, 4], &[0.0, 0.0, 2.0, 2.0, 0.0, 0.0, 0.0, 1.0]);
    let weights = AttributeProto { floats: vec![1.0, 2.0, 3.0, 4.0], ..attribute("weights", AttributeType::Floats) };
    let weighted = |mode| count(vec![string("mode", mode), weights.clone()]);
    assert_is(&weighted("TFIDF"), &[2, 4], &[0.0, 1.0, 8.0, 6.0, 4.0, 1.0, 0.0, 3.0]);
    assert_is(&weighted("IDF"), &[2, 4], &[0.0, 1.0, 4.0, 3.0, 2.0, 1.0, 0.0, 3.0]);
    // a column that no n-gram has stays 0
    assert_is(
        &count(vec![ints("ngram_indexes", &[1, 0, 4, 3])]),
        &[2, 5],
        &[0.0, 1.0, 0.0, 2.0, 2.0, 2.0, 1.0, 0.0, 0.0, 1.0],
    );
    // one row is a vector
    let row = Tensor::from_slice(&[5], &[2i64, 5, 6, 6, 5]).unwrap();
    assert_is(&apply(9, "TfIdfVectorizer", &[Ok(row)], ngrams(vec![])), &[4], &[0.0, 1.0, 2.0, 2.0]);
    // a skip of any size ends where the input does
    assert_is(&count(vec![int("max_skip_count", i64::MAX)]), &[2, 4], &[0.0, 1.0, 2.0, 2.0, 2.0, 1.0, 0.0, 1.0]);
}

#[test]
fn pools_that_do_not_divide_into_n_grams_are_refused() {
    for (extra, part) in [
        (vec![ints("ngram_counts", &[0, 3])], "does not divide a pool of 6"),
        (vec![ints("ngram_counts", &[0, 99])], "does not divide a pool of 6"),
        (vec![ints("ngram_indexes", &[0, 1, 2])], "3 `ngram_indexes` and 4 `weights` for 4 n-grams"),
        (vec![ints("ngram_indexes", &[0, 1, 2, -1])], "`ngram_indexes` from Some(-1) to Some(2)"),
        (vec![ints("ngram_indexes", &[0, 1, 2, i64::MAX])], "to Some(9223372036854775807) (0 to 1048575 are)"),
        (vec![ints("ngram_indexes", &[0, 1, 1, 2])], "that name column 1 twice"),
        (vec![string("mode", "BM25")], "one of TF, IDF, TFIDF"),
        (vec![int("min_gram_length", 0)], "`min_gram_length`: expected an integer of at least 1, found 0"),
        (
            vec![AttributeProto { strings: vec!["a".into()], ..attribute("pool_strings", AttributeType::Strings) }],
            "pool_strings (numbers are)",
        ),
    ] {
        let text = Model::new(9)
            .input("x", DType::I64, &["5"])
            .node("TfIdfVectorizer", &["x"], &["y"], ngrams(extra))
            .output("y")
            .error();
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

/// One step of an optimiser on two tensors at once; R and T are fed.
fn step(op_type: &str, states: usize, at: i64, attributes: Vec<AttributeProto>) -> Vec<Vec<f64>> {
    let roles = 2 + states;
    let mut model = Model::new(20).input("r", DType::F32, &[]).input("t", DType::I64, &[]);
    let mut feeds = vec![("r".to_owned(), Tensor::scalar(0.5f32)), ("t".to_owned(), Tensor::scalar(at))];
    let mut names = vec!["r".to_owned(), "t".to_owned()];
    for role in 0..roles {
        for tensor in 0..2 {
            let name = format!("i{role}{tensor}");
            model = model.input(&name, DType::F32, &["1"]);
            // x = 2, g = 3, states 4, 9 of the first tensor; ten times as much of the second
            let value = [2.0, 3.0, 4.0, 9.0][role] * [1.0, 10.0][tensor];
            feeds.push((name.clone(), f32s(&[1], &[value])));
            names.push(name);
        }
    }
    let outputs: Vec<String> = (0..2 * (1 + states)).map(|i| format!("o{i}")).collect();
    let (inputs, results): (Vec<&str>, Vec<&str>) =
        (names.iter().map(String::as_str).collect(), outputs.iter().map(String::as_str).collect());
    let model = model.add(in_domain("ai.onnx.preview.training", node(op_type, &inputs, &results, attributes)));
    let model = results.iter().fold(model, |model, name| model.output(name));
    let feeds: Vec<(&str, Tensor)> = feeds.iter().map(|(name, t)| (name.as_str(), t.clone())).collect();
    run(model, &feeds).iter().map(Tensor::to_f64_vec).collect()
}

#[test]
fn optimisers_make_one_step_of_each_tensor() {
    let close = |found: Vec<Vec<f64>>, expected: &[f64]| {
        let found: Vec<f32> = found.concat().iter().map(|&v| v as f32).collect();
        assert_close(&f32s(&[found.len()], &found), &[expected.len()], expected);
    };
    let settings =
        |more: Vec<AttributeProto>| [vec![float("norm_coefficient", 0.5), float("epsilon", 1.0)], more].concat();

    // g′ = 0.5·2 + 3 = 4 and 40
    let (h1, h2) = (4.0 + 16.0, 40.0 + 1600.0);
    let rate = 0.5 / (1.0 + 2.0 * 0.25);
    let expected = [2.0 - rate * 4.0 / (f64::sqrt(h1) + 1.0), 20.0 - rate * 40.0 / (f64::sqrt(h2) + 1.0), h1, h2];
    close(step("Adagrad", 1, 2, settings(vec![float("decay_factor", 0.25)])), &expected);

    let adam = |at: i64| {
        let (alpha, beta) = (0.5f64, 0.75f64);
        let rate = if at == 0 { 0.5 } else { 0.5 * (1.0 - beta.powi(2)).sqrt() / (1.0 - alpha.powi(2)) };
        let of = |s: f64| {
            let (v, h) = (alpha * 4.0 * s + 0.5 * 4.0 * s, beta * 9.0 * s + 0.25 * 16.0 * s * s);
            [0.75 * (2.0 * s - rate * v / (h.sqrt() + 1.0)), v, h]
        };
        let (a, b) = (of(1.0), of(10.0));
        [a[0], b[0], a[1], b[1], a[2], b[2]]
    };
    let attributes = || settings(vec![float("alpha", 0.5), float("beta", 0.75), float("norm_coefficient_post", 0.25)]);
    close(step("Adam", 2, 0, attributes()), &adam(0));
    close(step("Adam", 2, 2, attributes()), &adam(2));

    let momentum = |mode: &str, at: i64| {
        let attributes =
            vec![float("alpha", 0.5), float("beta", 0.25), float("norm_coefficient", 0.5), string("mode", mode)];
        step("Momentum", 1, at, attributes)
    };
    close(momentum("standard", 0), &[2.0 - 0.5 * 6.0, 20.0 - 0.5 * 60.0, 6.0, 60.0]);
    close(momentum("standard", 1), &[2.0 - 0.5 * 3.0, 20.0 - 0.5 * 30.0, 3.0, 30.0]);
    close(momentum("nesterov", 1), &[2.0 - 0.5 * 5.5, 20.0 - 0.5 * 55.0, 3.0, 30.0]);
}

#[test]
fn steps_of_optimisers_that_do_not_fit_are_refused() {
    let momentum = |inputs: &[&str], attributes: Vec<AttributeProto>| {
        Model::new(20)
            .input("r", DType::F32, &[])
            .input("x", DType::F32, &["2"])
            .input("g", DType::F32, &["3"])
            .add(in_domain("ai.onnx.preview.training", node("Momentum", inputs, &["y", "v"], attributes)))
            .output("y")
            .error()
    };
    let all =
        || vec![float("alpha", 0.5), float("beta", 0.25), float("norm_coefficient", 0.5), string("mode", "standard")];
    assert!(momentum(&["r", "r", "x", "x"], all()).contains("2 inputs after R and T; expected a multiple of 3"));
    assert!(momentum(&["r"], all()).contains("input 1 (T) is missing"));
    assert!(
        momentum(&["r", "r", "x", "g", "x"], all()).contains("a tensor of f32[2] with a gradient or state of f32[3]")
    );
    assert!(momentum(&["x", "r", "x", "x", "x"], all()).contains("R must be one number, found extents [2]"));
    assert!(momentum(&["r", "r", "x", "x", "x"], all()[..3].to_vec()).contains("the attribute `mode` is missing"));
    assert!(momentum(&["r", "r", "x", "x", "x"], all()[1..].to_vec()).contains("the attribute `alpha` is missing"));
}
