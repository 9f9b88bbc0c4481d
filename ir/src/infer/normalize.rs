//! Inference of softmax and the normalisations.

use super::{Checker, Inferred, show_dims};
use crate::types::TensorType;

fn axis_in_range(axis: usize, x: &TensorType, c: &mut Checker) -> bool {
    c.check("C1", axis < x.rank(), || format!("axis {axis}, rank {}", x.rank()))
}

pub(super) fn softmax(axis: usize, t: &[TensorType], c: &mut Checker) -> Inferred {
    axis_in_range(axis, &t[0], c);
    c.check("C2", t[0].dtype.is_float(), || t[0].dtype.to_string());
    Some(vec![t[0].clone()])
}

fn one_float_dtype(t: &[TensorType], c: &mut Checker) {
    let ok = t[0].dtype.is_float() && t.iter().all(|ty| ty.dtype == t[0].dtype);
    c.check("C2", ok, || t.iter().map(|ty| ty.dtype.name()).collect::<Vec<_>>().join(", "));
}

pub(super) fn layer_norm(axis: usize, t: &[TensorType], c: &mut Checker) -> Inferred {
    one_float_dtype(t, c);
    if axis_in_range(axis, &t[0], c) {
        for ty in &t[1..] {
            c.check("C3", ty.dims == t[0].dims[axis..], || {
                format!("{}, expected {}", show_dims(&ty.dims), show_dims(&t[0].dims[axis..]))
            });
        }
    }
    Some(vec![t[0].clone()])
}

pub(super) fn batch_norm(axis: usize, t: &[TensorType], c: &mut Checker) -> Inferred {
    one_float_dtype(t, c);
    if axis_in_range(axis, &t[0], c) {
        for ty in &t[1..] {
            c.check("C3", ty.dims == t[0].dims[axis..=axis], || {
                format!("{}, expected {}", show_dims(&ty.dims), show_dims(&t[0].dims[axis..=axis]))
            });
        }
    }
    Some(vec![t[0].clone()])
}

pub(super) fn lrn(size: usize, axis: usize, t: &[TensorType], c: &mut Checker) -> Inferred {
    axis_in_range(axis, &t[0], c);
    c.check("C2", t[0].dtype.is_float(), || t[0].dtype.to_string());
    c.check("C3", size >= 1, || size.to_string());
    Some(vec![t[0].clone()])
}
