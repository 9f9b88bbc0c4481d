use proptest::prelude::*;

use super::{counting, folded, tensor, values};
use crate::attribute::{Extreme, Padding, Reducer};
use crate::dtype::DType;
use crate::ops::Op;
use crate::tensor::Tensor;

const PAD: Padding = Padding { low: 1, high: 1 };

fn pool(window: &[usize], strides: &[usize], padding: &[Padding], dilation: &[usize], reducer: Reducer) -> Op {
    Op::ReduceWindow {
        window: window.to_vec(),
        strides: strides.to_vec(),
        padding: padding.to_vec(),
        dilation: dilation.to_vec(),
        reducer,
    }
}

#[test]
fn windows_slide_by_their_strides() {
    let x = [counting(&[4, 4])];
    assert_eq!(values::<f32>(pool(&[2, 2], &[2, 2], &[], &[], Reducer::Max), &x), [5., 7., 13., 15.]);
    assert_eq!(values::<f32>(pool(&[3, 1], &[], &[], &[], Reducer::Sum), &x), [12., 15., 18., 21., 24., 27., 30., 33.]);
    // A stride that does not fit the rest leaves it out.
    assert_eq!(values::<f32>(pool(&[2, 2], &[3, 3], &[], &[], Reducer::Min), &x), [0.]);
    assert_eq!(folded(pool(&[], &[], &[], &[], Reducer::Sum), &[Tensor::scalar(3f32)]), Tensor::scalar(3f32));
}

#[test]
fn padding_is_the_reducers_identity_and_windows_may_be_dilated() {
    let x = [tensor(&[3], &[-1f32, -2.0, -3.0])];
    assert_eq!(values::<f32>(pool(&[3], &[], &[PAD], &[], Reducer::Max), &x), [-1., -1., -2.]);
    assert_eq!(values::<f32>(pool(&[3], &[2], &[PAD], &[], Reducer::Sum), &x), [-3., -5.]);
    assert_eq!(values::<f32>(pool(&[2], &[], &[PAD], &[], Reducer::Prod), &x), [-1., 2., 6., -3.]);
    assert_eq!(values::<f32>(pool(&[2], &[], &[], &[2], Reducer::Sum), &x), [-4.]);
    // A window wholly on padding is the identity.
    let wide = Padding { low: 2, high: 0 };
    assert_eq!(values::<f32>(pool(&[2], &[], &[wide], &[], Reducer::Max), &x)[0], f32::NEG_INFINITY);
    assert_eq!(values::<i8>(pool(&[1], &[], &[PAD], &[], Reducer::Max), &[tensor(&[1], &[-5i8])]), [-128, -5, -128]);
    assert_eq!(values::<f32>(pool(&[1], &[], &[PAD], &[], Reducer::Sum), &[counting(&[0])]), [0., 0.]);
}

#[test]
fn nan_wins_in_every_window_that_holds_it() {
    let x = [tensor(&[4], &[1f32, f32::NAN, 2.0, 3.0])];
    let y = values::<f32>(pool(&[2], &[], &[], &[], Reducer::Max), &x);
    assert!(y[0].is_nan() && y[1].is_nan());
    assert_eq!(y[2], 3.0);
}

fn scatter(window: &[usize], strides: &[usize], padding: &[Padding], extreme: Extreme) -> Op {
    Op::SelectAndScatter { window: window.to_vec(), strides: strides.to_vec(), padding: padding.to_vec(), extreme }
}

#[test]
fn select_and_scatter_adds_at_each_windows_first_extreme() {
    let x = tensor(&[5], &[1f32, 3.0, 3.0, 2.0, 0.0]);
    let source = tensor(&[4], &[10f32, 20.0, 40.0, 80.0]);
    let op = scatter(&[2], &[], &[], Extreme::Max);
    assert_eq!(values::<f32>(op, &[x.clone(), source.clone()]), [0., 30., 40., 80., 0.]);
    let op = scatter(&[2], &[], &[], Extreme::Min);
    assert_eq!(values::<f32>(op, &[x, source]), [10., 20., 0., 40., 80.]);
}

#[test]
fn select_and_scatter_never_chooses_padding_and_takes_nan_for_an_extreme() {
    let lowest = tensor(&[2], &[f32::NEG_INFINITY, f32::NEG_INFINITY]);
    let source = tensor(&[3], &[1f32, 2.0, 4.0]);
    assert_eq!(values::<f32>(scatter(&[2], &[], &[PAD], Extreme::Max), &[lowest, source]), [3., 4.]);
    let nan = tensor(&[3], &[1f32, f32::NAN, 9.0]);
    assert_eq!(values::<f32>(scatter(&[3], &[], &[], Extreme::Min), &[nan, tensor(&[1], &[5f32])]), [0., 5., 0.]);
    // A window that covers nothing but padding adds nowhere.
    let wide = Padding { low: 2, high: 0 };
    let op = scatter(&[2], &[], &[wide], Extreme::Max);
    assert_eq!(values::<f32>(op, &[tensor(&[1], &[7f32]), tensor(&[2], &[1f32, 2.0])]), [2.]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Against an explicitly padded buffer, in integers, where every order of summation gives the same.
    #[test]
    fn sliding_sums_equal_sums_over_a_padded_buffer(
        extents in prop::array::uniform2(0usize..6),
        window in prop::array::uniform2(1usize..4),
        strides in prop::array::uniform2(1usize..4),
        dilation in prop::array::uniform2(1usize..3),
        pads in prop::array::uniform4(0i64..4),
        seed in any::<u64>(),
    ) {
        let padded = [0, 1].map(|i| extents[i] + (pads[2 * i] + pads[2 * i + 1]) as usize);
        let span = [0, 1].map(|i| (window[i] - 1) * dilation[i] + 1);
        prop_assume!(padded[0] >= span[0] && padded[1] >= span[1]);
        let count = extents[0] * extents[1];
        let x: Vec<i32> = crate::random::uniform(seed, count).map(|u| (u * 2000.0) as i32 - 1000).collect();

        let mut buffer = vec![0i32; padded[0] * padded[1]];
        for i in 0..extents[0] {
            for j in 0..extents[1] {
                buffer[(i + pads[0] as usize) * padded[1] + j + pads[2] as usize] = x[i * extents[1] + j];
            }
        }
        let mut expected = Vec::new();
        for i in (0..=padded[0] - span[0]).step_by(strides[0]) {
            for j in (0..=padded[1] - span[1]).step_by(strides[1]) {
                let mut sum = 0;
                for r in 0..window[0] {
                    for s in 0..window[1] {
                        sum += buffer[(i + r * dilation[0]) * padded[1] + j + s * dilation[1]];
                    }
                }
                expected.push(sum);
            }
        }
        let padding = [Padding { low: pads[0], high: pads[1] }, Padding { low: pads[2], high: pads[3] }];
        let op = pool(&window, &strides, &padding, &dilation, Reducer::Sum);
        prop_assert_eq!(values::<i32>(op, &[tensor(&extents, &x)]), expected);
    }
}

#[test]
fn empty_batches_have_no_windows() {
    let x = Tensor::zeros(DType::F32, &[0, 3]).unwrap();
    assert_eq!(folded(pool(&[1, 2], &[], &[], &[], Reducer::Max), &[x]).dims(), [0, 2]);
}
