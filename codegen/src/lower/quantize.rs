//! Between real numbers and the integers that stand for them, and normalisation by given statistics: scalar
//! expressions with vectors along one axis.

use kiln_ir::scalar::ScalarExpr;
use kiln_ir::{DType, NodeId};

use super::context::Lowering;
use super::elementwise::{Operand, pointwise};
use super::error::LowerError;

/// Lowers an op whose first operand is a tensor and whose others are scalars or vectors along `axis`.
pub fn along_axis(l: &mut Lowering<'_>, id: NodeId, axis: usize, expr: &ScalarExpr) -> Result<(), LowerError> {
    let v = l.graph.value(id);
    let dims = l.dims(v);
    let mut inputs = vec![Operand::from(&l.halo(l.operand(id, 0)))];
    for i in 1..l.graph.node(id).operands.len() {
        let view = l.view(l.operand(id, i));
        inputs.push(Operand::along(&view, axis, dims.len()));
    }
    let result = l.slot_in_place(id, v, &[0]);
    let label = l.label(id);
    pointwise(l, (id, label), &dims, result, &inputs, expr)
}

/// A formula of this module. They are constants, and tests parse them all.
fn formula(text: &str, constants: &[(&str, f64)]) -> ScalarExpr {
    let names = ["x", "a", "b", "c", "d"];
    ScalarExpr::parse_named(text, &names, constants).unwrap_or_else(|_| ScalarExpr::identity())
}

/// round(x / scale) + zero_point, saturated; NaN counts as 0 steps.
pub fn quantize(dtype: DType, x: DType) -> ScalarExpr {
    // 8-bit results are saturated long before f32 stops being exact; 32-bit ones need f64
    let wide = if dtype == DType::I32 || x == DType::F64 { "f64" } else { "f32" };
    formula(&format!("s = round(x / a); {dtype}({wide}(select(isnan(s), 0.0, s)) + {wide}(b))"), &[])
}

/// (x − zero_point) · scale; the difference is exact before it is rounded to the scale's dtype.
pub fn dequantize(dtype: DType, scale: DType) -> ScalarExpr {
    match dtype {
        DType::I32 => formula(&format!("{scale}(i64(x) - i64(b)) * a"), &[]),
        // f32 holds the difference of 8-bit integers
        _ if scale == DType::F64 => formula("(f64(x) - f64(b)) * a", &[]),
        _ => formula(&format!("{scale}((f32(x) - f32(b)) * f32(a))"), &[]),
    }
}

/// (x − mean) / √(variance + epsilon) · scale + bias.
pub fn batch_norm(epsilon: f64) -> ScalarExpr {
    formula("(x - c) / sqrt(d + epsilon) * a + b", &[("epsilon", epsilon)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_formula_parses_and_is_typed() {
        for scale in [DType::F64, DType::F32, DType::F16, DType::BF16] {
            for dtype in [DType::I8, DType::U8, DType::I32] {
                let q = quantize(dtype, scale);
                assert_eq!(q.result_type(&[scale, scale, dtype]), Ok(dtype));
                assert!(!q.is_identity());
                let d = dequantize(dtype, scale);
                assert_eq!(d.result_type(&[dtype, scale, dtype]), Ok(scale));
                assert!(!d.is_identity());
            }
            assert_eq!(batch_norm(1e-5).result_type(&[scale; 5]), Ok(scale));
        }
        assert!(!batch_norm(1e-5).is_identity());
    }
}
