//! Activation functions and softmax.

use kiln_ir::attribute::{Extreme, Real};
use kiln_ir::{DType, Op};

use super::super::emit::{Operand, axis, fixed, joint_dims, kept_dims};
use super::super::error::{Result, invalid};
use super::super::node::NodeContext;
use super::Results;
use super::elementwise::unary;

pub(super) fn leaky_relu(n: &mut NodeContext<'_>) -> Results {
    let slope = n.attributes.float_or("alpha", 0.01)?;
    unary(n, Op::LeakyRelu { slope: Real(slope) })
}

pub(super) fn elu(n: &mut NodeContext<'_>) -> Results {
    let alpha = n.attributes.float_or("alpha", 1.0)?;
    unary(n, Op::Elu { alpha: Real(alpha) })
}

pub(super) fn hard_sigmoid(n: &mut NodeContext<'_>) -> Results {
    let (alpha, beta) = (n.attributes.float_or("alpha", 0.2)?, n.attributes.float_or("beta", 0.5)?);
    unary(n, Op::HardSigmoid { alpha: Real(alpha), beta: Real(beta) })
}

pub(super) fn gelu(n: &mut NodeContext<'_>) -> Results {
    let tanh = n.attributes.word("approximate", &["none", "tanh"])? == "tanh";
    unary(n, if tanh { Op::GeluTanh {} } else { Op::Gelu {} })
}

/// x · sigmoid(alpha · x).
pub(super) fn swish(n: &mut NodeContext<'_>) -> Results {
    let alpha = n.attributes.float_or("alpha", 1.0)?;
    if alpha == 1.0 {
        return unary(n, Op::Silu {});
    }
    let x = n.input(0, "X")?;
    let scaled = n.emit.with_scalar(Op::Mul {}, &x, alpha)?;
    let gate = n.emit.op(Op::Sigmoid {}, &[&scaled])?;
    Ok(vec![n.emit.mul(&x, &gate)?])
}

/// gamma · x above 0, gamma · alpha · (eˣ − 1) below. The defaults are the spec's float32 constants.
pub(super) fn selu(n: &mut NodeContext<'_>) -> Results {
    let alpha = n.attributes.float_or("alpha", 1.673_263_192_176_818_8)?;
    let gamma = n.attributes.float_or("gamma", 1.050_701_022_148_132_3)?;
    let x = n.input(0, "X")?;
    let y = n.emit.op(Op::Elu { alpha: Real(alpha) }, &[&x])?;
    Ok(vec![n.emit.with_scalar(Op::Mul {}, &y, gamma)?])
}

/// max(x, 0) + min(0, alpha · (e^(x/alpha) − 1)) = alpha · elu(x / alpha), for alpha > 0.
pub(super) fn celu(n: &mut NodeContext<'_>) -> Results {
    let alpha = n.attributes.float_or("alpha", 1.0)?;
    if alpha <= 0.0 || alpha.is_nan() {
        return invalid(format!("alpha must be positive, found {alpha}"));
    }
    let x = n.input(0, "X")?;
    let scaled = n.emit.with_scalar(Op::Div {}, &x, alpha)?;
    let y = n.emit.op(Op::Elu { alpha: Real(1.0) }, &[&scaled])?;
    Ok(vec![n.emit.with_scalar(Op::Mul {}, &y, alpha)?])
}

pub(super) fn thresholded_relu(n: &mut NodeContext<'_>) -> Results {
    let alpha = n.attributes.float_or("alpha", 1.0)?;
    let x = n.input(0, "X")?;
    let above = n.emit.with_scalar(Op::Greater {}, &x, alpha)?;
    let zero = Operand::scalar(x.dtype(), 0.0)?;
    Ok(vec![n.emit.select(&above, &x, &zero)?])
}

/// x moved towards 0 by `bias` outside [−lambd, lambd], and 0 inside.
pub(super) fn shrink(n: &mut NodeContext<'_>) -> Results {
    let (lambd, bias) = (n.attributes.float_or("lambd", 0.5)?, n.attributes.float_or("bias", 0.0)?);
    let x = n.input(0, "input")?;
    let e = &mut *n.emit;
    let (below, above) = (e.with_scalar(Op::Less {}, &x, -lambd)?, e.with_scalar(Op::Greater {}, &x, lambd)?);
    let (raised, lowered) = (e.with_scalar(Op::Add {}, &x, bias)?, e.with_scalar(Op::Sub {}, &x, bias)?);
    let zero = Operand::scalar(x.dtype(), 0.0)?;
    let inner = e.select(&above, &lowered, &zero)?;
    Ok(vec![e.select(&below, &raised, &inner)?])
}

/// The slope broadcasts to x, not the other way round.
pub(super) fn prelu(n: &mut NodeContext<'_>) -> Results {
    let (x, slope) = (n.input(0, "X")?, n.input(1, "slope")?);
    if n.opset < 7 && slope.rank() == 1 && x.rank() >= 2 {
        // Then it was a slope per channel, or one for all.
        let slope = if slope.dims() == [1] { n.emit.reshape(&slope, &[])? } else { slope };
        let axes: &[usize] = if slope.rank() == 0 { &[] } else { &[1] };
        let slope = n.emit.broadcast(&slope, x.dims(), axes)?;
        return Ok(vec![n.emit.op(Op::PRelu {}, &[&x, &slope])?]);
    }
    if joint_dims(x.dims(), slope.dims())? != x.dims() {
        return invalid(format!("slope {:?} does not broadcast to X {:?}", slope.dims(), x.dims()));
    }
    let slope = n.emit.broadcast_to(&slope, x.dims())?;
    Ok(vec![n.emit.op(Op::PRelu {}, &[&x, &slope])?])
}

/// Along one axis from opset 13 on. Before, over all axes from `axis` on, taken as one.
pub(super) fn softmax(n: &mut NodeContext<'_>, op: fn(usize) -> Op) -> Results {
    let x = n.input(0, "input")?;
    let at = softmax_axis(n, x.rank())?;
    if n.opset >= 13 || x.dims().iter().skip(at + 1).all(|&d| d == 1) {
        return Ok(vec![n.emit.op(op(at), &[&x])?]);
    }
    let (outer, inner) = x.dims().split_at(at);
    let rows = [outer.iter().product(), inner.iter().product()];
    let flat = n.emit.reshape(&x, &rows)?;
    let y = n.emit.op(op(1), &[&flat])?;
    Ok(vec![n.emit.reshape(&y, x.dims())?])
}

fn softmax_axis(n: &NodeContext<'_>, rank: usize) -> Result<usize> {
    let default = if n.opset >= 13 { -1 } else { 1 };
    axis(n.attributes.int_or("axis", default)?, rank)
}

/// 1 at the first largest element along the axis, 0 elsewhere.
pub(super) fn hardmax(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "input")?;
    let at = softmax_axis(n, x.rank())?;
    let rows = if n.opset >= 13 {
        x.dims().to_vec()
    } else {
        let (outer, inner) = x.dims().split_at(at);
        vec![outer.iter().product(), inner.iter().product()]
    };
    let at = if n.opset >= 13 { at } else { 1 };
    let e = &mut *n.emit;
    let flat = e.reshape(&x, &rows)?;
    let best = e.op(Op::ArgReduce { axis: at, extreme: Extreme::Max }, &[&flat])?;
    let best = e.reshape(&best, &kept_dims(&rows, &[at]))?;
    let place = e.op(Op::Iota { dtype: DType::I64, dims: fixed(&rows), axis: at }, &[])?;
    let hit = e.binary(Op::Equal {}, &place, &best)?;
    let y = e.convert(&hit, x.dtype())?;
    Ok(vec![e.reshape(&y, x.dims())?])
}
