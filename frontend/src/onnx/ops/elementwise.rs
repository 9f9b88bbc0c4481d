//! Arithmetic, comparison and logic, under numpy's broadcasting.

use kiln_ir::attribute::Real;
use kiln_ir::{DType, Op};

use super::super::emit::{Operand, axis};
use super::super::error::{NodeError, Result, invalid, unsupported};
use super::super::node::NodeContext;
use super::Results;

/// One operand, one op.
pub(super) fn unary(n: &mut NodeContext<'_>, op: Op) -> Results {
    let x = n.input(0, "X")?;
    Ok(vec![n.emit.op(op, &[&x])?])
}

/// Two operands, one op.
pub(super) fn binary(n: &mut NodeContext<'_>, op: Op) -> Results {
    let (a, b) = (n.input(0, "A")?, n.input(1, "B")?);
    let b = if n.opset < 7 { aligned(n, &a, &b)? } else { b };
    Ok(vec![n.emit.binary(op, &a, &b)?])
}

/// Before opset 7 the second operand broadcasts only where `broadcast` says so, from `axis` on.
fn aligned(n: &mut NodeContext<'_>, a: &Operand, b: &Operand) -> Result<Operand> {
    let broadcast = n.attributes.flag("broadcast", false)?;
    let at = n.attributes.int("axis")?;
    // How gradients were shared.
    n.attributes.dismiss("consumed_inputs");
    if !broadcast {
        if a.dims() != b.dims() {
            return invalid(format!("extents {:?} and {:?} differ, and `broadcast` is 0", a.dims(), b.dims()));
        }
        return Ok(b.clone());
    }
    let Some(at) = at else { return Ok(b.clone()) };
    let at = axis(at, a.rank())?;
    let after = a.rank().saturating_sub(at + b.rank());
    let dims = [b.dims(), vec![1; after].as_slice()].concat();
    n.emit.reshape(b, &dims)
}

/// Of unsigned integers: x · 2^y, wrapping, or ⌊x / 2^y⌋. A shift by all bits or more gives 0, since then 2^y wraps to 0 and so does
/// x · 0, and a quotient by 0 is 0.
pub(super) fn bit_shift(n: &mut NodeContext<'_>) -> Results {
    let (x, y) = (n.input(0, "X")?, n.input(1, "Y")?);
    let op = match n.attributes.string("direction")? {
        Some("LEFT") => Op::Mul {},
        Some("RIGHT") => Op::Div {},
        found => {
            return Err(NodeError::Attribute {
                name: "direction".into(),
                expected: "LEFT or RIGHT".into(),
                found: found.map_or_else(|| "nothing".to_owned(), |word| format!("`{word}`")),
            });
        }
    };
    let unsigned = n.narrow.map_or(x.dtype() == DType::U8, |ty| !ty.signed());
    if !unsigned {
        let found = n.narrow.map_or(x.dtype().to_string(), |ty| ty.name().to_owned());
        return invalid(format!("only unsigned integers are shifted, found {found}"));
    }
    let two = Operand::scalar(x.dtype(), 2.0)?;
    let power = n.emit.binary(Op::Pow {}, &two, &y)?;
    Ok(vec![n.emit.binary(op, &x, &power)?])
}

/// Nothing, for an unsigned type.
pub(super) fn absolute(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "X")?;
    Ok(vec![if x.dtype() == DType::U8 { x } else { n.emit.op(Op::Abs {}, &[&x])? }])
}

/// Any number of operands, folded from the left.
pub(super) fn variadic(n: &mut NodeContext<'_>, op: Op) -> Results {
    let operands = n.all_inputs("data")?;
    Ok(vec![fold_left(n, &op, &operands)?])
}

fn fold_left(n: &mut NodeContext<'_>, op: &Op, operands: &[Operand]) -> Result<Operand> {
    let mut rest = operands.iter();
    let Some(first) = rest.next() else { return invalid("takes at least one input") };
    rest.try_fold(first.clone(), |so_far, next| n.emit.binary(op.clone(), &so_far, next))
}

pub(super) fn mean(n: &mut NodeContext<'_>) -> Results {
    let operands = n.all_inputs("data")?;
    let sum = fold_left(n, &Op::Add {}, &operands)?;
    Ok(vec![n.emit.with_scalar(Op::Div {}, &sum, operands.len() as f64)?])
}

/// The result has the base's dtype. Squares and cubes become products, which are exact to the last bit
/// where `pow` need not be.
pub(super) fn pow(n: &mut NodeContext<'_>) -> Results {
    let (x, y) = (n.input(0, "X")?, n.input(1, "Y")?);
    let exponent = y.tensor().filter(|t| t.len() == 1 && y.rank() <= x.rank()).map(|t| t.to_f64_vec());
    match exponent.as_deref() {
        Some([1.0]) => return Ok(vec![x]),
        Some([2.0]) => return Ok(vec![n.emit.op(Op::Mul {}, &[&x, &x])?]),
        Some([3.0]) => {
            let square = n.emit.op(Op::Mul {}, &[&x, &x])?;
            return Ok(vec![n.emit.op(Op::Mul {}, &[&square, &x])?]);
        }
        _ => {}
    }
    if !x.dtype().is_float() && y.dtype().is_float() {
        let wide = n.emit.convert(&x, y.dtype())?;
        let power = n.emit.binary(Op::Pow {}, &wide, &y)?;
        return Ok(vec![n.emit.convert(&power, x.dtype())?]);
    }
    let y = n.emit.convert(&y, x.dtype())?;
    Ok(vec![n.emit.binary(Op::Pow {}, &x, &y)?])
}

/// With `fmod` the remainder has the dividend's sign (C); without, the divisor's (Python).
pub(super) fn modulo(n: &mut NodeContext<'_>) -> Results {
    let fmod = n.attributes.flag("fmod", false)?;
    let (a, b) = (n.input(0, "A")?, n.input(1, "B")?);
    if a.dtype().is_float() && !fmod {
        return invalid(format!("fmod = 0 is defined for integers only, found {}", a.dtype()));
    }
    let rem = n.emit.binary(Op::Rem {}, &a, &b)?;
    if fmod || a.dtype() == DType::U8 {
        return Ok(vec![rem]);
    }
    let e = &mut *n.emit;
    let nonzero = e.with_scalar(Op::NotEqual {}, &rem, 0.0)?;
    let negative = e.with_scalar(Op::Less {}, &rem, 0.0)?;
    let divisor_negative = e.with_scalar(Op::Less {}, &b, 0.0)?;
    let differ = e.binary(Op::Xor {}, &negative, &divisor_negative)?;
    let adjust = e.binary(Op::And {}, &nonzero, &differ)?;
    let shifted = e.add(&rem, &b)?;
    Ok(vec![e.select(&adjust, &shifted, &rem)?])
}

/// Limits are attributes before opset 11, then inputs; a missing one does not limit.
pub(super) fn clip(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "input")?;
    let limit = |n: &NodeContext<'_>, i: usize, name: &'static str| -> Result<Option<Operand>> {
        if n.opset < 11 {
            n.attributes.float(name)?.map(|v| Operand::scalar(x.dtype(), v)).transpose()
        } else {
            Ok(n.optional(i))
        }
    };
    let (min, max) = (limit(n, 1, "min")?, limit(n, 2, "max")?);
    for bound in [&min, &max].into_iter().flatten() {
        if bound.dims().iter().product::<usize>() != 1 {
            return invalid(format!("limits are scalars, found extents {:?}", bound.dims()));
        }
    }
    let number = |bound: &Option<Operand>, missing: f64| match bound {
        None => Some(missing),
        Some(b) => b.tensor().and_then(|t| t.to_f64_vec().first().copied()).filter(|v| !v.is_nan()),
    };
    if x.dtype().is_float()
        && let (Some(low), Some(high)) = (number(&min, f64::NEG_INFINITY), number(&max, f64::INFINITY))
    {
        let unlimited = low == f64::NEG_INFINITY && high == f64::INFINITY;
        let clipped = if unlimited { x } else { n.emit.op(Op::Clip { min: Real(low), max: Real(high) }, &[&x])? };
        return Ok(vec![clipped]);
    }
    let mut y = x;
    for (bound, op) in [(min, Op::Maximum {}), (max, Op::Minimum {})] {
        if let Some(bound) = bound {
            let bound = n.emit.reshape(&bound, &[])?;
            y = n.emit.binary(op, &y, &bound)?;
        }
    }
    Ok(vec![y])
}

pub(super) fn select(n: &mut NodeContext<'_>) -> Results {
    let (condition, x, y) = (n.input(0, "condition")?, n.input(1, "X")?, n.input(2, "Y")?);
    Ok(vec![n.emit.select(&condition, &x, &y)?])
}

pub(super) fn is_inf(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "X")?;
    let (negative, positive) =
        (n.attributes.flag("detect_negative", true)?, n.attributes.flag("detect_positive", true)?);
    let e = &mut *n.emit;
    let found = match (negative, positive) {
        (true, true) => {
            let magnitude = e.op(Op::Abs {}, &[&x])?;
            e.with_scalar(Op::Equal {}, &magnitude, f64::INFINITY)?
        }
        (false, true) => e.with_scalar(Op::Equal {}, &x, f64::INFINITY)?,
        (true, false) => e.with_scalar(Op::Equal {}, &x, f64::NEG_INFINITY)?,
        (false, false) => return unsupported("detect_negative = 0 together with detect_positive = 0"),
    };
    Ok(vec![found])
}

pub(super) fn tan(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "input")?;
    let (sin, cos) = (n.emit.op(Op::Sin {}, &[&x])?, n.emit.op(Op::Cos {}, &[&x])?);
    Ok(vec![n.emit.div(&sin, &cos)?])
}

/// (eˣ + e⁻ˣ) / 2.
pub(super) fn cosh(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "input")?;
    Ok(vec![hyperbolic_cosine(n, &x)?])
}

/// tanh x · cosh x, which keeps its precision near 0 where eˣ − e⁻ˣ does not.
pub(super) fn sinh(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "input")?;
    let (tanh, cosh) = (n.emit.op(Op::Tanh {}, &[&x])?, hyperbolic_cosine(n, &x)?);
    Ok(vec![n.emit.mul(&tanh, &cosh)?])
}

fn hyperbolic_cosine(n: &mut NodeContext<'_>, x: &Operand) -> Result<Operand> {
    let e = &mut *n.emit;
    let up = e.op(Op::Exp {}, &[x])?;
    let negative = e.op(Op::Neg {}, &[x])?;
    let down = e.op(Op::Exp {}, &[&negative])?;
    let sum = e.add(&up, &down)?;
    e.with_scalar(Op::Mul {}, &sum, 0.5)
}
