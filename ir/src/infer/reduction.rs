//! Inference of reductions.

use super::{Checker, Inferred, elementwise};
use crate::attribute::Reducer;
use crate::dtype::DType;
use crate::scalar::ScalarExpr;
use crate::types::{Dim, TensorType};

pub(super) fn reduce(
    axes_label: &'static str,
    dtype_label: &'static str,
    axes: &[usize],
    reducer: Reducer,
    x: &TensorType,
    c: &mut Checker,
) -> Inferred {
    let ok = axes.windows(2).all(|w| w[0] < w[1]) && axes.iter().all(|&a| a < x.rank());
    c.check(axes_label, ok, || format!("axes {axes:?}, rank {}", x.rank()));
    let boolean = matches!(reducer, Reducer::And | Reducer::Or);
    c.check(dtype_label, boolean == (x.dtype == DType::Bool), || format!("{} of {}", reducer.word(), x.dtype));
    let dims = x.dims.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, d)| d.clone()).collect();
    Some(vec![TensorType { dtype: x.dtype, dims }])
}

pub(super) fn fused(
    axes: &[usize],
    reducer: Reducer,
    prologue: &ScalarExpr,
    t: &[TensorType],
    c: &mut Checker,
) -> Inferred {
    if !c.check("C1", !t.is_empty(), || "no operand".into()) {
        return None;
    }
    let dims = elementwise::joined_dims("C1", t, c)?;
    let dtype = elementwise::expression_type("C2", prologue, t, c)?;
    reduce("C3", "C3", axes, reducer, &TensorType { dtype, dims }, c)
}

pub(super) fn arg_reduce(axis: usize, t: &[TensorType], c: &mut Checker) -> Inferred {
    let x = &t[0];
    let extent = x.dims.get(axis).and_then(Dim::fixed);
    c.check("C1", extent.is_some_and(|n| n >= 1), || format!("axis {axis} of {x}"));
    c.check("C2", x.dtype != DType::Bool, || x.dtype.to_string());
    let dims = x.dims.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, d)| d.clone()).collect();
    Some(vec![TensorType { dtype: DType::I64, dims }])
}

pub(super) fn top_k(k: usize, axis: usize, t: &[TensorType], c: &mut Checker) -> Inferred {
    let x = &t[0];
    c.check("C3", x.dtype != DType::Bool, || x.dtype.to_string());
    let extent = x.dims.get(axis).and_then(Dim::fixed);
    if !c.check("C1", extent.is_some(), || format!("axis {axis} of {x}")) {
        return None;
    }
    c.check("C2", extent.is_some_and(|n| k <= n), || format!("k = {k}, extent {}", x.dims[axis]));
    let mut dims = x.dims.clone();
    dims[axis] = Dim::Fixed(k);
    Some(vec![TensorType { dtype: x.dtype, dims: dims.clone() }, TensorType { dtype: DType::I64, dims }])
}
