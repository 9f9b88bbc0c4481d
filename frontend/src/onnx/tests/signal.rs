//! Fourier transforms, windows and filter banks, against sums written out in f64.

use std::f64::consts::PI;

use kiln_ir::{DType, Tensor};

use super::operators::assert_close;
use super::*;

fn wave(n: usize) -> Vec<f64> {
    (0..n).map(|i| (i as f64 * 0.7).sin() + 0.25 * i as f64).collect()
}

fn tensor(dims: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_f64(DType::F32, dims, values).unwrap()
}

/// Parts of the transform of pairs (re, im), alternating.
fn transform(x: &[(f64, f64)], length: usize, count: usize, sign: f64) -> Vec<f64> {
    let at = |t: usize| x.get(t).copied().unwrap_or_default();
    let frequency = |k: usize| {
        (0..length).fold((0.0, 0.0), |(re, im), t| {
            let (sin, cos) = (sign * 2.0 * PI * (k * t) as f64 / length as f64).sin_cos();
            let (a, b) = at(t);
            (re + a * cos - b * sin, im + a * sin + b * cos)
        })
    };
    (0..count).map(frequency).flat_map(|(re, im)| [re, im]).collect()
}

#[test]
fn a_transform_is_cut_or_padded_to_its_length_and_may_be_one_sided() {
    let values = wave(6);
    let real: Vec<(f64, f64)> = values.iter().map(|&v| (v, 0.0)).collect();
    let x = tensor(&[1, 6, 1], &values);
    let dft = |length: i64, attributes| apply_to(17, "DFT", &x, &[Tensor::scalar(length)], attributes);
    assert_close(&dft(6, vec![]), &[1, 6, 2], &transform(&real, 6, 6, -1.0));
    assert_close(&dft(8, vec![]), &[1, 8, 2], &transform(&real, 8, 8, -1.0));
    assert_close(&dft(4, vec![int("onesided", 1)]), &[1, 3, 2], &transform(&real[..4], 4, 3, -1.0));
    assert_close(&dft(7, vec![int("onesided", 1)]), &[1, 4, 2], &transform(&real, 7, 4, -1.0));
}

#[test]
fn a_transform_goes_along_any_axis_and_the_inverse_undoes_it() {
    // complex [3, 4, 2], along the first axis
    let values = wave(24);
    let x = tensor(&[3, 4, 2], &values);
    let y = apply_to(17, "DFT", &x, &[], vec![int("axis", 0)]);
    let column: Vec<(f64, f64)> = (0..3).map(|t| (values[t * 8 + 2], values[t * 8 + 3])).collect();
    let found: Vec<f64> = (0..3).flat_map(|k| [y.to_f64_vec()[k * 8 + 2], y.to_f64_vec()[k * 8 + 3]]).collect();
    assert_close(&tensor(&[6], &found), &[6], &transform(&column, 3, 3, -1.0));
    // from opset 20 on the axis is an input, the last one of the signal by default
    let inputs = |y: &Tensor, axis: i64| vec![Ok(y.clone()), Err(Tensor::scalar(3i64)), Err(Tensor::scalar(axis))];
    let back = apply(20, "DFT", &inputs(&y, -3), vec![int("inverse", 1)]);
    assert_close(&back, &[3, 4, 2], &values);
    let last = apply(20, "DFT", &[Ok(x.clone())], vec![]);
    assert_eq!(last.to_f64_vec(), apply_to(17, "DFT", &x, &[], vec![int("axis", 1)]).to_f64_vec());
}

#[test]
fn frames_of_a_signal_are_windowed_and_transformed() {
    let values = wave(11);
    let x = tensor(&[1, 11, 1], &values);
    let window = [0.5, 1.0, 2.0, 0.25];
    let y = apply_to(17, "STFT", &x, &[Tensor::scalar(3i64), tensor(&[4], &window)], vec![]);
    let frame = |start: usize| -> Vec<(f64, f64)> { (0..4).map(|t| (values[start + t] * window[t], 0.0)).collect() };
    let expected: Vec<f64> = [0, 3, 6].iter().flat_map(|&start| transform(&frame(start), 4, 3, -1.0)).collect();
    assert_close(&y, &[1, 3, 3, 2], &expected);
    // a complex signal, all frequencies; the window is fed
    let both = tensor(&[1, 5, 2], &wave(10));
    let inputs = [Ok(both), Err(Tensor::scalar(1i64)), Ok(tensor(&[4], &window))];
    let y = apply(17, "STFT", &inputs, vec![int("onesided", 0)]);
    let w = wave(10);
    let frame = |s: usize| -> Vec<(f64, f64)> {
        (0..4).map(|t| (w[2 * (s + t)] * window[t], w[2 * (s + t) + 1] * window[t])).collect()
    };
    let expected: Vec<f64> = [0, 1].iter().flat_map(|&s| transform(&frame(s), 4, 4, -1.0)).collect();
    assert_close(&y, &[1, 2, 4, 2], &expected);
}

#[test]
fn windows_are_periodic_or_symmetric() {
    let window = |op_type: &str, size: i64, attributes| apply(17, op_type, &[Err(Tensor::scalar(size))], attributes);
    assert_close(&window("HannWindow", 4, vec![]), &[4], &[0.0, 0.5, 1.0, 0.5]);
    assert_close(&window("HannWindow", 3, vec![int("periodic", 0)]), &[3], &[0.0, 1.0, 0.0]);
    let ends = 25.0 / 46.0 - 21.0 / 46.0;
    assert_close(&window("HammingWindow", 3, vec![int("periodic", 0)]), &[3], &[ends, 1.0, ends]);
    assert_close(&window("BlackmanWindow", 3, vec![int("periodic", 0)]), &[3], &[0.0, 1.0, 0.0]);
    assert_close(&window("HannWindow", 1, vec![int("periodic", 0)]), &[1], &[0.0]);
    assert_eq!(window("HannWindow", 2, vec![int("output_datatype", 11)]).dtype(), DType::F64);
}

#[test]
fn mel_filters_are_triangles_between_their_corners() {
    let constants = [Tensor::scalar(2i64), Tensor::scalar(16i64), Tensor::scalar(8192i64)];
    let edges = [Tensor::scalar(0f32), Tensor::scalar(4096f32)];
    let inputs: Vec<_> = constants.into_iter().chain(edges).map(Err).collect();
    let y = apply(17, "MelWeightMatrix", &inputs, vec![]);
    // corners at 0, 542.2, 1084.4 and 1626.6 mel: 0, 432.5, 1132.3 and 2264.4 Hz, times 17/8192: 0, 0.9, 2.3, 4.7
    let columns = |c: usize| (0..9).map(|r| y.to_f64_vec()[r * 2 + c]).collect::<Vec<_>>();
    assert_eq!(y.dims(), [9, 2]);
    assert_eq!(columns(0), [1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(columns(1), [0.0, 0.5, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn what_transforms_and_windows_cannot_do_is_named() {
    let x = |dims: &[&str]| Model::new(17).input("x", DType::F32, dims);
    let number = |n: i64| Tensor::scalar(n);
    for (model, part) in [
        (x(&["4"]).node("DFT", &["x"], &["y"], vec![]), "a last axis of extent 1 (real) or 2"),
        (x(&["1", "4", "3"]).node("DFT", &["x"], &["y"], vec![]), "found [1, 4, 3]"),
        (x(&["1", "4", "2"]).node("DFT", &["x"], &["y"], vec![int("onesided", 1)]), "onesided = 1 is for real signals"),
        (
            x(&["1", "4", "1"]).node("DFT", &["x"], &["y"], vec![int("axis", 2)]),
            "axis 2 is the one of real and imaginary parts",
        ),
        (
            x(&["1", "4", "1"]).node("DFT", &["x"], &["y"], vec![int("inverse", 1), int("onesided", 1)]),
            "onesided = 1 of an inverse transform",
        ),
        (
            x(&["1"])
                .constant("none", &Tensor::zeros(DType::F32, &[1, 0, 1]).unwrap())
                .constant("n", &number(1 << 42))
                .node("DFT", &["none", "n"], &["y"], vec![]),
            "a transform of 0 samples to 4398046511104 frequencies",
        ),
        (
            x(&["1", "4", "1"]).constant("n", &number(0)).node("DFT", &["x", "n"], &["y"], vec![]),
            "dft_length must be one integer of at least 1, found [0]",
        ),
        (x(&["1", "100000", "1"]).node("DFT", &["x"], &["y"], vec![]), "whose matrix has more than 67108864 elements"),
        (x(&["1", "4", "1"]).node("STFT", &["x"], &["y"], vec![]), "input 1 (frame_step) is missing"),
        (
            x(&["1", "4", "1"]).constant("n", &number(9)).node("STFT", &["x", "n", "", "n"], &["y"], vec![]),
            "frames of 9 samples in a signal of 4",
        ),
        (
            x(&["4"]).constant("n", &number(-1)).node("HannWindow", &["n"], &["y"], vec![]),
            "size must be one integer of at least 1",
        ),
        (
            x(&["4"]).constant("n", &number(1 << 40)).node("HannWindow", &["n"], &["y"], vec![]),
            "a window of 1099511627776 samples",
        ),
        (
            x(&["4"]).constant("n", &number(4)).node("HannWindow", &["n"], &["y"], vec![int("output_datatype", 8)]),
            "output_datatype string",
        ),
    ] {
        let text = model.output("y").error();
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}
