use super::{counting, folded, tensor, values};
use crate::attribute::{Padding, Real, Reducer};
use crate::dtype::DType;
use crate::ops::Op;
use crate::tensor::Tensor;

#[test]
fn reshape_keeps_the_row_major_order() {
    let y = folded(Op::Reshape { dims: vec![3.into(), 2.into()] }, &[counting(&[2, 3])]);
    assert_eq!(y, counting(&[3, 2]));
    let scalar = folded(Op::Reshape { dims: vec![] }, &[counting(&[1, 1])]);
    assert_eq!(scalar, Tensor::scalar(0f32));
}

#[test]
fn transpose_takes_result_axis_i_from_axis_perm_i() {
    let y = folded(Op::Transpose { perm: vec![2, 0, 1] }, &[counting(&[2, 3, 2])]);
    assert_eq!(y.dims(), [2, 2, 3]);
    assert_eq!(y.to_vec::<f32>().unwrap(), [0., 2., 4., 6., 8., 10., 1., 3., 5., 7., 9., 11.]);
    assert_eq!(folded(Op::Transpose { perm: vec![1, 0] }, &[counting(&[0, 3])]).dims(), [3, 0]);
    assert_eq!(folded(Op::Transpose { perm: vec![] }, &[Tensor::scalar(2i8)]), Tensor::scalar(2i8));
}

#[test]
fn broadcast_repeats_along_new_and_unit_axes() {
    let op = |dims: &[usize], axes: &[usize]| Op::Broadcast {
        dims: dims.iter().map(|&d| d.into()).collect(),
        axes: axes.to_vec(),
    };
    assert_eq!(values::<f32>(op(&[2, 3], &[1]), &[counting(&[3])]), [0., 1., 2., 0., 1., 2.]);
    assert_eq!(values::<f32>(op(&[2, 3], &[0]), &[counting(&[2])]), [0., 0., 0., 1., 1., 1.]);
    assert_eq!(values::<f32>(op(&[2, 2, 2], &[0, 2]), &[counting(&[2, 1])]), [0., 0., 0., 0., 1., 1., 1., 1.]);
    assert_eq!(values::<bool>(op(&[3], &[]), &[Tensor::scalar(true)]), [true; 3]);
    assert!(values::<f32>(op(&[0, 3], &[1]), &[counting(&[3])]).is_empty());
    assert!(values::<f32>(op(&[0], &[0]), &[counting(&[1])]).is_empty());
}

#[test]
fn slice_steps_from_start_to_before_limit() {
    let op = |start: &[usize], limit: &[usize], stride: &[usize]| Op::Slice {
        start: start.to_vec(),
        limit: limit.to_vec(),
        stride: stride.to_vec(),
    };
    assert_eq!(values::<f32>(op(&[1, 0], &[3, 2], &[]), &[counting(&[4, 3])]), [3., 4., 6., 7.]);
    assert_eq!(values::<f32>(op(&[1], &[8], &[3]), &[counting(&[9])]), [1., 4., 7.]);
    assert_eq!(values::<f32>(op(&[0, 1], &[3, 3], &[2, 1]), &[counting(&[3, 3])]), [1., 2., 7., 8.]);
    assert_eq!(folded(op(&[2, 1], &[2, 3], &[]), &[counting(&[3, 3])]).dims(), [0, 2]);
}

#[test]
fn pad_surrounds_and_separates() {
    let op = |padding: Vec<Padding>, interior: Vec<usize>, value| Op::Pad { padding, interior, value: Real(value) };
    let x = counting(&[3]);
    assert_eq!(
        values::<f32>(op(vec![Padding { low: 1, high: 2 }], vec![], 9.0), std::slice::from_ref(&x)),
        [9., 0., 1., 2., 9., 9.]
    );
    assert_eq!(values::<f32>(op(vec![Padding::NONE], vec![2], 9.0), &[x]), [0., 9., 9., 1., 9., 9., 2.]);
    let y = folded(op(vec![Padding::same(1), Padding { low: 0, high: 1 }], vec![0, 1], -1.0), &[counting(&[1, 2])]);
    assert_eq!(y.dims(), [3, 4]);
    assert_eq!(y.to_vec::<f32>().unwrap(), [-1., -1., -1., -1., 0., -1., 1., -1., -1., -1., -1., -1.]);
    let infinite = values::<f32>(op(vec![Padding::same(1)], vec![], f64::NEG_INFINITY), &[counting(&[0])]);
    assert_eq!(infinite, [f32::NEG_INFINITY; 2]);
    assert_eq!(values::<i8>(op(vec![Padding::same(1)], vec![], 1e3), &[tensor(&[1], &[5i8])]), [127, 5, 127]);
}

#[test]
fn concat_joins_along_any_axis_and_skips_empty_parts() {
    let (x, y, none) = (counting(&[2, 2]), counting(&[2, 1]), Tensor::zeros(DType::F32, &[2, 0]).unwrap());
    let joined = folded(Op::Concat { axis: 1 }, &[x.clone(), none, y]);
    assert_eq!(joined.dims(), [2, 3]);
    assert_eq!(joined.to_vec::<f32>().unwrap(), [0., 1., 0., 2., 3., 1.]);
    let stacked = folded(Op::Concat { axis: 0 }, &[x.clone(), x.clone()]);
    assert_eq!(stacked.to_vec::<f32>().unwrap(), [0., 1., 2., 3., 0., 1., 2., 3.]);
    assert_eq!(folded(Op::Concat { axis: 0 }, std::slice::from_ref(&x)), x);
}

#[test]
fn reverse_turns_only_its_axes_around() {
    let x = counting(&[2, 3]);
    let reversed = |axes: &[usize]| values::<f32>(Op::Reverse { axes: axes.to_vec() }, std::slice::from_ref(&x));
    assert_eq!(reversed(&[1]), [2., 1., 0., 5., 4., 3.]);
    assert_eq!(reversed(&[0]), [3., 4., 5., 0., 1., 2.]);
    assert_eq!(reversed(&[0, 1]), [5., 4., 3., 2., 1., 0.]);
    assert_eq!(reversed(&[]), [0., 1., 2., 3., 4., 5.]);
    assert_eq!(folded(Op::Reverse { axes: vec![0, 1] }, &[counting(&[0, 3])]).dims(), [0, 3]);
}

#[test]
fn steps_between_neighbours_that_do_not_exist_may_be_anything() {
    let slice = Op::Slice { start: vec![1, 2], limit: vec![2, 3], stride: vec![usize::MAX, usize::MAX / 2] };
    assert_eq!(values::<f32>(slice, &[counting(&[3, 3])]), [5.]);
    let pad = Op::Pad { padding: vec![Padding::NONE; 2], interior: vec![usize::MAX - 1, 1 << 62], value: Real(0.0) };
    assert_eq!(folded(pad, &[counting(&[1, 1])]), counting(&[1, 1]));
    let window = Op::ReduceWindow {
        window: vec![1, 1],
        strides: vec![usize::MAX, 1 << 62],
        padding: vec![],
        dilation: vec![usize::MAX, 1 << 62],
        reducer: Reducer::Sum,
    };
    assert_eq!(values::<f32>(window, &[counting(&[2, 2])]), [0.]);
}

#[test]
fn empty_tensors_may_have_any_other_extents() {
    let empty = Tensor::zeros(DType::F32, &[0, usize::MAX, usize::MAX, 7]).unwrap();
    let reversed = folded(Op::Reverse { axes: vec![0, 1] }, std::slice::from_ref(&empty));
    assert_eq!(reversed.dims(), empty.dims());
    let part = Op::Slice { start: vec![0; 4], limit: vec![0, 5, 5, 5], stride: vec![] };
    assert_eq!(folded(part, std::slice::from_ref(&empty)).dims(), [0, 5, 5, 5]);
    let sum = Op::Reduce { axes: vec![0, 1, 2, 3], reducer: Reducer::Sum };
    assert_eq!(values::<f32>(sum, &[empty]), [0.]);
}
