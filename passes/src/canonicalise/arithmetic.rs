//! Rules of elementwise arithmetic: identities, normal forms with the constant second, and limits as `clip`.

use kiln_ir::attribute::{Real, Reducer};
use kiln_ir::{Op, Value};

use super::{Canonicaliser, Rewritten, Rule};

type C<'x, 'r, 'a, 'o> = &'x mut Canonicaliser<'r, 'a, 'o>;

pub(super) const RULES: &[Rule] = &[
    Rule { name: "constant_second", doc: "a commutative op has its constant operand second", apply: constant_second },
    Rule { name: "sub_as_add", doc: "x − c = x + (−c) for a constant c", apply: sub_as_add },
    Rule { name: "drop_neutral_operand", doc: "x + 0, x · 1, x / 1, x ^ 1 are x", apply: drop_neutral_operand },
    Rule {
        name: "simplify_power",
        doc: "powers −1 and 2 are reciprocals and products, powers ½ and −½ of what has no negative sign are roots",
        apply: simplify_power,
    },
    Rule {
        name: "simplify_unary", doc: "−(−x) = x, 1/√x = rsqrt(x), |−x| = |x|, and so on", apply: simplify_unary
    },
    Rule { name: "div_as_reciprocal", doc: "1 / x is a reciprocal", apply: div_as_reciprocal },
    Rule {
        name: "limits_as_clip",
        doc: "maximum or minimum with a constant number is a clip, and a clip at 0 is a relu",
        apply: limits_as_clip,
    },
    Rule {
        name: "select_by_constant",
        doc: "a select by a known condition is one of its operands",
        apply: select_by_constant,
    },
];

fn constant_second(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let commutative = matches!(
        op,
        Op::Add {}
            | Op::Mul {}
            | Op::Maximum {}
            | Op::Minimum {}
            | Op::Equal {}
            | Op::NotEqual {}
            | Op::And {}
            | Op::Or {}
            | Op::Xor {}
    );
    let &[x, y] = operands else { return Ok(None) };
    if !commutative || !c.is_constant(x) || c.is_constant(y) {
        return Ok(None);
    }
    Ok(Some(c.emit(op.clone(), &[y, x])?))
}

fn sub_as_add(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let (Op::Sub {}, &[x, y]) = (op, operands) else { return Ok(None) };
    if !c.is_constant(y) || c.is_constant(x) {
        return Ok(None);
    }
    let negated = c.emit(Op::Neg {}, &[y])?;
    // Without constant folding, or beyond its bounds, this would add work.
    if !c.is_constant(negated) {
        return Ok(None);
    }
    Ok(Some(c.emit(Op::Add {}, &[x, negated])?))
}

fn drop_neutral_operand(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let neutral = match op {
        Op::Add {} | Op::Sub {} => 0.0,
        Op::Mul {} | Op::Div {} | Op::Pow {} => 1.0,
        _ => return Ok(None),
    };
    let &[x, y] = operands else { return Ok(None) };
    Ok((c.splat(y) == Some(neutral)).then_some(x))
}

fn simplify_power(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let (Op::Pow {}, &[x, y]) = (op, operands) else { return Ok(None) };
    if !c.ty(x).dtype.is_float() {
        return Ok(None);
    }
    let Some(power) = c.splat(y) else { return Ok(None) };
    let simple = match power {
        2.0 => (Op::Mul {}, vec![x, x]),
        // Of −∞ and −0 a power is +∞ and +0 (or +0 and +∞), a root NaN and −0 (or NaN and −∞).
        0.5 if is_positive(c, x, 8) => (Op::Sqrt {}, vec![x]),
        -0.5 if is_positive(c, x, 8) => (Op::Rsqrt {}, vec![x]),
        -1.0 => (Op::Reciprocal {}, vec![x]),
        _ => return Ok(None),
    };
    Ok(Some(c.emit(simple.0, &simple.1)?))
}

/// Whether all elements are seen to be numbers with a positive sign, or NaN, from the `depth` ops above them.
fn is_positive(c: &Canonicaliser<'_, '_, '_>, v: Value, depth: usize) -> bool {
    if let Some(number) = c.splat(v) {
        return number.is_sign_positive();
    }
    let node = c.producer(v);
    let all = |operands: &[Value]| depth > 0 && operands.iter().all(|&x| is_positive(c, x, depth - 1));
    match (&node.op, &node.operands[..]) {
        (Op::Abs {} | Op::Exp {} | Op::Sigmoid {}, _) => true,
        (Op::Mul {}, &[x, y]) if x == y => true,
        (
            Op::Add {}
            | Op::Mul {}
            | Op::Div {}
            | Op::Sqrt {}
            | Op::Reciprocal {}
            | Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Broadcast { .. }
            | Op::Reduce { reducer: Reducer::Sum, .. },
            operands,
        ) => all(operands),
        _ => false,
    }
}

fn simplify_unary(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let unary = matches!(op, Op::Neg {} | Op::Reciprocal {} | Op::Abs {} | Op::Not {} | Op::Relu {} | Op::Sqrt {});
    let &[x] = operands else { return Ok(None) };
    if !unary {
        return Ok(None);
    }
    let Some((inner, kids)) = c.made_by(&[x]) else { return Ok(None) };
    Ok(match (op, inner) {
        (Op::Neg {}, Op::Neg {}) | (Op::Not {}, Op::Not {}) => Some(kids[0]),
        (Op::Reciprocal {}, Op::Sqrt {}) => Some(c.emit(Op::Rsqrt {}, &kids)?),
        (Op::Reciprocal {}, Op::Rsqrt {}) => Some(c.emit(Op::Sqrt {}, &kids)?),
        (Op::Abs {}, Op::Neg {} | Op::Abs {}) => Some(c.emit(Op::Abs {}, &kids)?),
        (Op::Relu {}, Op::Relu {} | Op::Sigmoid {} | Op::Exp {} | Op::Sqrt {}) => Some(x),
        // The absolute value of the most negative integer wraps to itself.
        (Op::Relu {}, Op::Abs {}) if c.ty(x).dtype.is_float() => Some(x),
        _ => None,
    })
}

fn div_as_reciprocal(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let (Op::Div {}, &[x, y]) = (op, operands) else { return Ok(None) };
    if c.splat(x) != Some(1.0) || !c.ty(x).dtype.is_float() {
        return Ok(None);
    }
    Ok(Some(c.emit(Op::Reciprocal {}, &[y])?))
}

fn limits_as_clip(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let clip = match (op, operands) {
        (Op::Clip { min, max }, _) if min.0 == 0.0 && max.0 == f64::INFINITY => Op::Relu {},
        (Op::Maximum {} | Op::Minimum {}, &[x, y]) => {
            let Some(limit) = c.splat(y).filter(|l| !l.is_nan() && c.ty(x).dtype.is_float()) else { return Ok(None) };
            match op {
                Op::Maximum {} => Op::Clip { min: Real(limit), max: Real(f64::INFINITY) },
                _ => Op::Clip { min: Real(f64::NEG_INFINITY), max: Real(limit) },
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(c.emit(clip, &operands[..1])?))
}

fn select_by_constant(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let (Op::Select {}, &[condition, then, otherwise]) = (op, operands) else { return Ok(None) };
    if then == otherwise {
        return Ok(Some(then));
    }
    Ok(c.splat(condition).map(|v| if v != 0.0 { then } else { otherwise }))
}
