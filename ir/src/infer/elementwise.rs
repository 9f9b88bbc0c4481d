//! Inference of elementwise ops: equal dims, dtypes by the scalar expression.

use super::{Checker, Inferred, show_dims};
use crate::dtype::DType;
use crate::ops::Op;
use crate::scalar::ScalarExpr;
use crate::types::{Dim, TensorType};

pub(super) fn same_dims(op: &Op, t: &[TensorType], c: &mut Checker) -> Inferred {
    let dims = &t[0].dims;
    for other in &t[1..] {
        c.check("operands", other.dims == *dims, || {
            format!(
                "dims {} and {}: elementwise operands have equal dims (broadcast them)",
                show_dims(dims),
                show_dims(&other.dims)
            )
        });
    }
    if let Op::Clip { min, max } = op {
        c.check("C1", !min.0.is_nan() && !max.0.is_nan(), || format!("min {min}, max {max}"));
    }
    let dtype = expression_type("operands", &op.scalar()?, t, c)?;
    Some(vec![TensorType { dtype, dims: dims.clone() }])
}

/// The dtype `expr` gives for operands `t`, or a violation of `label`.
pub(super) fn expression_type(
    label: &'static str,
    expr: &ScalarExpr,
    t: &[TensorType],
    c: &mut Checker,
) -> Option<DType> {
    let dtypes: Vec<DType> = t.iter().map(|ty| ty.dtype).collect();
    let ty = expr.result_type(&dtypes);
    c.check(label, ty.is_ok(), || ty.as_ref().err().map(ToString::to_string).unwrap_or_default());
    ty.ok()
}

/// The common dims of operands whose extents are equal or 1, or a violation of `label`.
pub(super) fn joined_dims(label: &'static str, t: &[TensorType], c: &mut Checker) -> Option<Vec<Dim>> {
    let mut dims = t.first()?.dims.clone();
    let mut ok = true;
    for ty in &t[1..] {
        ok &= ty.rank() == dims.len();
        for (have, new) in dims.iter_mut().zip(&ty.dims) {
            if *have == Dim::Fixed(1) {
                *have = new.clone();
            } else {
                ok &= *new == Dim::Fixed(1) || new == have;
            }
        }
    }
    let shown = || t.iter().map(|ty| show_dims(&ty.dims)).collect::<Vec<_>>().join(" ");
    c.check(label, ok, shown).then_some(dims)
}

pub(super) fn fused(expr: &ScalarExpr, t: &[TensorType], c: &mut Checker) -> Inferred {
    if !c.check("C1", !t.is_empty(), || "no operand".into()) {
        return None;
    }
    let dims = joined_dims("C1", t, c)?;
    let dtype = expression_type("C2", expr, t, c)?;
    Some(vec![TensorType { dtype, dims }])
}
