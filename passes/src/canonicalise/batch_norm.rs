//! Batch normalisation by known statistics is a scale and a shift per channel.

use kiln_ir::{DType, Op, TensorType, Value};

use super::{Canonicaliser, Rewritten, Rule};

pub(super) const RULES: &[Rule] = &[Rule {
    name: "decompose_batch_norm",
    doc: "batch_norm = x · s + t with s = scale / √(variance + epsilon), t = bias − mean · s",
    apply: decompose,
}];

fn decompose(c: &mut Canonicaliser<'_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let (Op::BatchNorm { axis, epsilon }, &[x, scale, bias, mean, variance]) = (op, operands) else {
        return Ok(None);
    };
    let ty = c.ty(x).clone();
    // Constant statistics are combined in f64 and rounded once; others in the dtype they are used in.
    let known = [scale, bias, mean, variance].iter().all(|&v| c.is_constant(v));
    let wide = if known { DType::F64 } else { ty.dtype };
    let mut widen = |v: Value| c.emit(Op::Convert { dtype: wide }, &[v]);
    let (scale, bias, mean, variance) = (widen(scale)?, widen(bias)?, widen(mean)?, widen(variance)?);
    let vector = TensorType { dtype: wide, dims: ty.dims[*axis..=*axis].to_vec() };
    let Some(epsilon) = c.fill(&vector, epsilon.0)? else { return Ok(None) };
    let variance = c.emit(Op::Add {}, &[variance, epsilon])?;
    let deviation = c.emit(Op::Sqrt {}, &[variance])?;
    let s = c.emit(Op::Div {}, &[scale, deviation])?;
    let moved = c.emit(Op::Mul {}, &[mean, s])?;
    let t = c.emit(Op::Sub {}, &[bias, moved])?;
    let mut spread = |v: Value| {
        let v = c.emit(Op::Convert { dtype: ty.dtype }, &[v])?;
        c.emit(Op::Broadcast { dims: ty.dims.clone(), axes: vec![*axis] }, &[v])
    };
    let (s, t) = (spread(s)?, spread(t)?);
    let scaled = c.emit(Op::Mul {}, &[x, s])?;
    Ok(Some(c.emit(Op::Add {}, &[scaled, t])?))
}
