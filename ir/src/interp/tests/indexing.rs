use super::{counting, folded, tensor, values};
use crate::attribute::ScatterMode;
use crate::dtype::DType;
use crate::ops::Op;
use crate::tensor::Tensor;

#[test]
fn gather_replaces_the_axis_by_the_dims_of_the_indices() {
    let x = counting(&[3, 2]);
    let rows = folded(Op::Gather { axis: 0 }, &[x.clone(), tensor(&[2, 2], &[2i64, 0, 1, 1])]);
    assert_eq!(rows.dims(), [2, 2, 2]);
    assert_eq!(rows.to_vec::<f32>().unwrap(), [4., 5., 0., 1., 2., 3., 2., 3.]);
    let columns = folded(Op::Gather { axis: 1 }, &[x.clone(), tensor(&[3], &[1i32, 1, 0])]);
    assert_eq!(columns.dims(), [3, 3]);
    assert_eq!(columns.to_vec::<f32>().unwrap(), [1., 1., 0., 3., 3., 2., 5., 5., 4.]);
    // A scalar index removes the axis.
    let row = folded(Op::Gather { axis: 0 }, &[x, Tensor::scalar(1i64)]);
    assert_eq!(row, tensor(&[2], &[2f32, 3.0]));
}

#[test]
fn gather_clamps_indices_to_the_ends() {
    let indices = tensor(&[4], &[-1i64, i64::MIN, 3, i64::MAX]);
    assert_eq!(values::<f32>(Op::Gather { axis: 0 }, &[counting(&[3]), indices]), [0., 0., 2., 2.]);
    let none = tensor::<i64>(&[0], &[]);
    assert_eq!(folded(Op::Gather { axis: 1 }, &[counting(&[2, 3]), none]).dims(), [2, 0]);
}

fn scatter(mode: ScatterMode) -> Op {
    Op::Scatter { axis: 0, mode }
}

#[test]
fn scatter_combines_updates_in_order_and_skips_indices_beyond_the_ends() {
    let x = tensor(&[4], &[1f32, 2.0, 3.0, 4.0]);
    let indices = tensor(&[5], &[1i64, 1, 4, -1, 3]);
    let updates = tensor(&[5], &[10f32, 20.0, 99.0, 98.0, 0.5]);
    let result = |mode| values::<f32>(scatter(mode), &[x.clone(), indices.clone(), updates.clone()]);
    assert_eq!(result(ScatterMode::Replace), [1.0, 20.0, 3.0, 0.5]);
    assert_eq!(result(ScatterMode::Add), [1.0, 32.0, 3.0, 4.5]);
    assert_eq!(result(ScatterMode::Mul), [1.0, 400.0, 3.0, 2.0]);
    assert_eq!(result(ScatterMode::Max), [1.0, 20.0, 3.0, 4.0]);
    assert_eq!(result(ScatterMode::Min), [1.0, 2.0, 3.0, 0.5]);
}

#[test]
fn scatter_works_along_inner_axes_and_several_index_dims() {
    let x = Tensor::zeros(DType::I32, &[2, 3]).unwrap();
    let op = Op::Scatter { axis: 1, mode: ScatterMode::Add };
    let updates = tensor(&[2, 2, 2], &[1i32, 2, 3, 4, 5, 6, 7, 8]);
    let y = values::<i32>(op, &[x, tensor(&[2, 2], &[0i32, 2, 2, 2]), updates]);
    assert_eq!(y, [1, 0, 9, 5, 0, 21]);
    let flags = [tensor(&[2], &[false, false]), tensor(&[1], &[1i64]), tensor(&[1], &[true])];
    assert_eq!(values::<bool>(scatter(ScatterMode::Replace), &flags), [false, true]);
}

#[test]
fn scatter_lets_nan_win_and_leaves_x_alone_without_updates() {
    let nan = [tensor(&[2], &[1f32, f32::NAN]), tensor(&[2], &[0i64, 1]), tensor(&[2], &[f32::NAN, 1.0])];
    assert!(values::<f32>(scatter(ScatterMode::Max), &nan).iter().all(|v| v.is_nan()));
    let none = [counting(&[2]), tensor::<i64>(&[0], &[]), tensor::<f32>(&[0], &[])];
    assert_eq!(folded(scatter(ScatterMode::Add), &none), counting(&[2]));
}
