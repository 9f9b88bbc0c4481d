//! Inference of sources and quantisation.

use super::{Checker, Inferred, show_dims};
use crate::dtype::DType;
use crate::types::{Dim, TensorType};

pub(super) fn iota(dtype: DType, dims: &[Dim], axis: usize, c: &mut Checker) -> Inferred {
    c.check("C1", axis < dims.len(), || format!("axis {axis}, rank {}", dims.len()));
    c.check("C2", dtype != DType::Bool, || dtype.to_string());
    Some(vec![TensorType { dtype, dims: dims.to_vec() }])
}

pub(super) fn random_bits(dims: &[Dim], t: &[TensorType], c: &mut Checker) -> Inferred {
    c.check("C1", t[0].dtype == DType::I64 && t[0].dims.is_empty(), || t[0].to_string());
    Some(vec![TensorType { dtype: DType::I32, dims: dims.to_vec() }])
}

/// Checks that `scale` is a scalar or a vector along `axis` of `x`, and `zero_point` has its dims.
fn scales(axis: usize, x: &TensorType, scale: &TensorType, zero: &TensorType, zero_dtype: DType, c: &mut Checker) {
    c.check("C2", zero.dtype == zero_dtype && zero.dims == scale.dims, || zero.to_string());
    let fits = match scale.dims.as_slice() {
        [] => true,
        [n] => x.dims.get(axis) == Some(n),
        _ => false,
    };
    c.check("C3", fits, || format!("scale {scale}, x {}, axis {axis}", show_dims(&x.dims)));
}

fn quantized(d: DType) -> bool {
    matches!(d, DType::I8 | DType::U8 | DType::I32)
}

pub(super) fn quantize(dtype: DType, axis: usize, t: &[TensorType], c: &mut Checker) -> Inferred {
    let ok = t[0].dtype.is_float() && t[1].dtype == t[0].dtype && quantized(dtype);
    c.check("C1", ok, || format!("x {}, scale {}, dtype {dtype}", t[0].dtype, t[1].dtype));
    scales(axis, &t[0], &t[1], &t[2], dtype, c);
    Some(vec![TensorType { dtype, dims: t[0].dims.clone() }])
}

pub(super) fn dequantize(axis: usize, t: &[TensorType], c: &mut Checker) -> Inferred {
    c.check("C1", quantized(t[0].dtype) && t[1].dtype.is_float(), || format!("x {}, scale {}", t[0].dtype, t[1].dtype));
    scales(axis, &t[0], &t[1], &t[2], t[0].dtype, c);
    Some(vec![TensorType { dtype: t[1].dtype, dims: t[0].dims.clone() }])
}
