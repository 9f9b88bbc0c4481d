//! Operators whose results are as long as values say, and two that changed with training.

use kiln_ir::{DType, Tensor};

use super::*;

fn bools(values: &[bool]) -> Tensor {
    Tensor::from_slice(&[values.len()], values).unwrap()
}

#[test]
fn compress_takes_slices_of_a_fed_tensor_by_a_known_condition() {
    let x = count(&[3, 2]);
    let compress = |condition: &[bool], attributes| apply_to(11, "Compress", &x, &[bools(condition)], attributes);
    let y = compress(&[false, true, true], vec![int("axis", 0)]);
    assert_eq!((y.dims(), y.to_f64_vec()), ([2, 2].as_slice(), vec![2.0, 3.0, 4.0, 5.0]));
    // a condition shorter than the axis leaves out the rest; without an axis elements count
    assert_eq!(compress(&[true], vec![int("axis", -2)]).to_f64_vec(), [0.0, 1.0]);
    assert_eq!(compress(&[false, true, false, true], vec![]).to_f64_vec(), [1.0, 3.0]);
    assert_eq!(compress(&[false, false], vec![int("axis", 1)]).dims(), [3, 0]);
    let model = Model::new(11).input("x", DType::F32, &["3", "2"]);
    let text =
        model.clone().input("c", DType::Bool, &["3"]).node("Compress", &["x", "c"], &["y"], vec![]).output("y").error();
    assert!(
        text.contains("input 1 (condition) decides the extents of the result, but depends on the values"),
        "{text}"
    );
    assert!(text.contains("make it a constant, or end the model before this node"), "{text}");
    let model = model.constant("c", &bools(&[true; 4])).node("Compress", &["x", "c"], &["y"], vec![int("axis", 0)]);
    let text = model.output("y").error();
    assert!(text.contains("condition must be a list of up to 3 truth values, found extents [4]"), "{text}");
}

#[test]
fn non_zero_gives_a_row_of_coordinates_for_each_axis() {
    let x = f32s(&[2, 3], &[0.0, 1.0, 0.0, f32::NAN, 0.0, -2.0]);
    let y = apply(13, "NonZero", &[Err(x)], vec![]);
    assert_eq!((y.dtype(), y.dims(), y.to_i64_vec()), (DType::I64, [2, 3].as_slice(), vec![0, 1, 1, 1, 0, 2]));
    assert_eq!(apply(13, "NonZero", &[Err(bools(&[false; 3]))], vec![]).dims(), [1, 0]);
}

/// All four results.
fn unique(x: &Tensor, attributes: Vec<AttributeProto>) -> Vec<(Vec<usize>, Vec<f64>)> {
    let names = ["y", "first", "inverse", "counts"];
    let model =
        names.iter().fold(Model::new(11).constant("x", x).node("Unique", &["x"], &names, attributes), |model, name| {
            model.output(name)
        });
    let graph = model.import(&ImportOptions::default()).unwrap_or_else(|e| panic!("{e}")).graph;
    let results = interp::run::<f32>(&graph, &[], None).unwrap();
    results.iter().map(|(_, t)| (t.dims().to_vec(), t.to_f64_vec())).collect()
}

#[test]
fn unique_sorts_or_keeps_the_order_of_first_occurrences() {
    let x = f32s(&[6], &[2.0, 1.0, 1.0, 3.0, 4.0, 3.0]);
    let list = |v: &[f64]| (vec![v.len()], v.to_vec());
    let sorted = unique(&x, vec![]);
    let expected = [
        list(&[1.0, 2.0, 3.0, 4.0]),
        list(&[1.0, 0.0, 3.0, 4.0]),
        list(&[1.0, 0.0, 0.0, 2.0, 3.0, 2.0]),
        list(&[2.0, 1.0, 2.0, 1.0]),
    ];
    assert_eq!(sorted, expected);
    let kept = unique(&x, vec![int("sorted", 0)]);
    assert_eq!(kept[..2], [list(&[2.0, 1.0, 3.0, 4.0]), list(&[0.0, 1.0, 3.0, 4.0])]);
    let columns = f32s(&[2, 3], &[1.0, 0.0, 1.0, 5.0, 7.0, 5.0]);
    let found = unique(&columns, vec![int("axis", 1)]);
    assert_eq!(found[0], (vec![2, 2], vec![0.0, 1.0, 7.0, 5.0]));
    assert_eq!(found[3], list(&[1.0, 2.0]));
    // integers that f64 would take for one
    let large = i64s(&[i64::MAX, i64::MAX - 1]);
    assert_eq!(unique(&large, vec![])[1], list(&[1.0, 0.0]));
}

#[test]
fn known_boxes_are_suppressed_at_import_and_fed_ones_are_refused() {
    let boxes = f32s(&[1, 4, 4], &[0.0, 0.0, 1.0, 1.0, 1.0, 1.1, 0.0, 0.1, 0.0, 10.0, 1.0, 11.0, 0.0, 0.0, 0.0, 0.0]);
    let scores = f32s(&[1, 2, 4], &[0.9, 0.8, 0.5, 0.1, 0.1, 0.6, 0.7, 0.9]);
    let suppress = |most: i64, overlap: f32, least: f32| {
        let numbers = [f32s(&[1], &[overlap]), f32s(&[1], &[least])].map(Err);
        let inputs = [Err(boxes.clone()), Err(scores.clone()), Err(i64s(&[most]))];
        apply(11, "NonMaxSuppression", &[inputs.to_vec(), numbers.to_vec()].concat(), vec![]).to_i64_vec()
    };
    // box 1 overlaps box 0 by nine elevenths, box 3 is empty and overlaps nothing
    assert_eq!(suppress(2, 0.5, 0.2), [0, 0, 0, 0, 0, 2, 0, 1, 3, 0, 1, 2]);
    assert_eq!(suppress(9, 0.9, 0.5), [0, 0, 0, 0, 0, 1, 0, 1, 3, 0, 1, 2, 0, 1, 1]);
    assert_eq!(suppress(0, 0.5, 0.0), [0i64; 0]);
    let model = Model::new(11).input("b", DType::F32, &["1", "4", "4"]).constant("s", &scores);
    let text = model.node("NonMaxSuppression", &["b", "s"], &["y"], vec![]).output("y").error();
    assert!(text.contains("input 0 (boxes) decides the extents of the result"), "{text}");
    let model = Model::new(11).constant("b", &boxes).constant("s", &f32s(&[1, 1, 3], &[0.0; 3]));
    let text = model.node("NonMaxSuppression", &["b", "s"], &["y"], vec![]).output("y").error();
    assert!(text.contains("scores must have extents [1, 1, 4], found [1, 1, 3]"), "{text}");
}

#[test]
fn shifts_by_all_bits_give_zero_and_signed_numbers_are_not_shifted() {
    let bytes = |v: &[u8]| Tensor::from_slice(&[v.len()], v).unwrap();
    let shift = |direction: &str| {
        let inputs = [Ok(bytes(&[255, 16, 1, 200])), Ok(bytes(&[1, 4, 0, 9]))];
        apply(11, "BitShift", &inputs, vec![string("direction", direction)]).to_f64_vec()
    };
    assert_eq!(shift("LEFT"), [254.0, 0.0, 1.0, 0.0]);
    assert_eq!(shift("RIGHT"), [127.0, 1.0, 1.0, 0.0]);
    let error = |dtype, attributes| {
        let model = Model::new(11).input("x", dtype, &["2"]).input("y", dtype, &["2"]);
        model.node("BitShift", &["x", "y"], &["z"], attributes).output("z").error()
    };
    assert!(error(DType::U8, vec![]).contains("attribute `direction`: expected LEFT or RIGHT, found nothing"));
    assert!(
        error(DType::I32, vec![string("direction", "LEFT")]).contains("only unsigned integers are shifted, found i32")
    );
}

#[test]
fn training_batch_norm_takes_the_batchs_statistics_and_moves_the_given_ones() {
    let x = f32s(&[2, 1, 2], &[1.0, 3.0, 5.0, 7.0]);
    let channel = |v: f32| f32s(&[1], &[v]);
    let model = ["s", "b", "m", "v"]
        .iter()
        .zip([2.0, 1.0, 10.0, 20.0])
        .fold(Model::new(15).input("x", DType::F32, &["2", "1", "2"]), |model, (name, v)| {
            model.constant(name, &channel(v))
        });
    let attributes = vec![int("training_mode", 1), float("momentum", 0.75), float("epsilon", 0.0)];
    let model = model.node("BatchNormalization", &["x", "s", "b", "m", "v"], &["y", "mean", "var"], attributes);
    let graph = model.output("y").output("mean").output("var").import(&ImportOptions::default()).unwrap().graph;
    let results = interp::run::<f32>(&graph, &[("x", x)], None).unwrap();
    // mean 4, variance 5
    let scale = 2.0 / 5f64.sqrt();
    for (found, expected) in results[0].1.to_f64_vec().iter().zip([-3.0, -1.0, 1.0, 3.0].map(|d| d * scale + 1.0)) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
    assert_eq!((results[1].1.to_f64_vec(), results[2].1.to_f64_vec()), (vec![8.5], vec![16.25]));
}

#[test]
fn training_dropout_is_imported_only_where_it_drops_nothing() {
    let dropout = |ratio: f32| {
        let model = Model::new(13).input("x", DType::F32, &["2"]).constant("r", &Tensor::scalar(ratio));
        let model =
            model.constant("t", &Tensor::scalar(true)).node("Dropout", &["x", "r", "t"], &["y", "mask"], vec![]);
        model.output("y").output("mask").import(&ImportOptions::default())
    };
    let kept = interp::run::<f32>(&dropout(0.0).unwrap().graph, &[("x", f32s(&[2], &[3.0, 4.0]))], None).unwrap();
    assert_eq!((kept[0].1.to_f64_vec(), kept[1].1.to_f64_vec()), (vec![3.0, 4.0], vec![1.0, 1.0]));
    let text = dropout(0.5).unwrap_err().to_string();
    assert!(text.contains("training_mode = true, which drops elements at random (a ratio of 0 drops none)"), "{text}");
}

#[test]
fn inverse_functions_are_those_of_c() {
    let x = f32s(&[3], &[-1.0, 0.25, 1.0]);
    type Function = fn(f64) -> f64;
    let functions: [(&str, Function); 6] = [
        ("Acos", f64::acos),
        ("Acosh", f64::acosh),
        ("Asin", f64::asin),
        ("Asinh", f64::asinh),
        ("Atan", f64::atan),
        ("Atanh", f64::atanh),
    ];
    for (name, function) in functions {
        for (found, x) in apply_to(9, name, &x, &[], vec![]).to_f64_vec().iter().zip([-1.0, 0.25, 1.0]) {
            let expected = function(x);
            let same = found == &expected || (found.is_nan() && expected.is_nan());
            assert!(same || (found - expected).abs() < 1e-6, "{name} {x}: {found} {expected}");
        }
    }
}
