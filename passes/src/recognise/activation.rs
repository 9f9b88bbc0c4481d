//! Activations spelled out.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use kiln_ir::{Op, Value};

use super::{Product, close, made, plus, product, product_of};
use crate::canonicalise::{Canonicaliser, Rewritten, Rule};

type C<'x, 'r, 'a, 'o> = &'x mut Canonicaliser<'r, 'a, 'o>;

pub(super) const RULES: &[Rule] = &[
    Rule { name: "recognise_sigmoid", doc: "1 / (1 + exp(−x)) is sigmoid(x)", apply: sigmoid },
    Rule { name: "recognise_softplus", doc: "log(1 + exp(x)) is softplus(x)", apply: softplus },
    Rule { name: "recognise_gelu", doc: "½ · x · (1 + erf(x / √2)) is gelu(x)", apply: gelu },
    Rule {
        name: "recognise_gelu_tanh",
        doc: "½ · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))) is gelu_tanh(x)",
        apply: gelu_tanh,
    },
    Rule { name: "recognise_silu", doc: "x · sigmoid(x) is silu(x)", apply: silu },
    Rule {
        name: "recognise_hard_swish",
        doc: "x · clip(x + 3, 0, 6) / 6 and x · hard_sigmoid(x) are hard_swish(x)",
        apply: hard_swish,
    },
    Rule { name: "recognise_mish", doc: "x · tanh(softplus(x)) is mish(x)", apply: mish },
];

/// Whether the operands are floats. Integers have these ops too, but round at every step, so that the spelling matters.
fn floating(c: &Canonicaliser<'_, '_, '_>, operands: &[Value]) -> bool {
    operands.iter().all(|&v| c.ty(v).dtype.is_float())
}

fn sigmoid(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    if !floating(c, operands) {
        return Ok(None);
    }
    let (Op::Reciprocal {}, &[sum]) = (op, operands) else { return Ok(None) };
    let Some((Op::Exp {}, &[e])) = plus(c, sum, 1.0).map(|e| made(c, e)) else { return Ok(None) };
    match made(c, e) {
        (Op::Neg {}, &[x]) => Ok(Some(c.emit(Op::Sigmoid {}, &[x])?)),
        _ => Ok(None),
    }
}

fn softplus(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    if !floating(c, operands) {
        return Ok(None);
    }
    let (Op::Log {}, &[sum]) = (op, operands) else { return Ok(None) };
    match plus(c, sum, 1.0).map(|e| made(c, e)) {
        Some((Op::Exp {}, &[x])) => Ok(Some(c.emit(Op::Softplus {}, &[x])?)),
        _ => Ok(None),
    }
}

/// x and g where the op is `number` · x · g for two values, in either order.
fn pairs(c: &Canonicaliser<'_, '_, '_>, op: &Op, operands: &[Value], number: f64) -> [Option<(Value, Value)>; 2] {
    if !matches!(op, Op::Mul {} | Op::Div {}) {
        return [None, None];
    }
    let p = product(c, op, operands, 2);
    match p.factors.as_slice() {
        &[a, b] if close(p.number, number) => [Some((a, b)), Some((b, a))],
        _ => [None, None],
    }
}

fn gelu(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    if !floating(c, operands) {
        return Ok(None);
    }
    for (x, gate) in pairs(c, op, operands, 0.5).into_iter().flatten() {
        if let Some((Op::Erf {}, &[scaled])) = plus(c, gate, 1.0).map(|e| made(c, e)) {
            let Product { number, factors } = product_of(c, scaled, 1);
            if factors == [x] && close(number, FRAC_1_SQRT_2) {
                return Ok(Some(c.emit(Op::Gelu {}, &[x])?));
            }
        }
    }
    Ok(None)
}

fn gelu_tanh(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    if !floating(c, operands) {
        return Ok(None);
    }
    for (x, gate) in pairs(c, op, operands, 0.5).into_iter().flatten() {
        let Some((Op::Tanh {}, &[scaled])) = plus(c, gate, 1.0).map(|e| made(c, e)) else { continue };
        // √(2/π) = (2/√π) / √2
        let Product { number, factors } = product_of(c, scaled, 1);
        let &[sum] = factors.as_slice() else { continue };
        let (Op::Add {}, &[a, b]) = made(c, sum) else { continue };
        let cubic = |v: Value| {
            let p = product_of(c, v, 3);
            p.factors == [x, x, x] && close(p.number, 0.044715)
        };
        if close(number, FRAC_2_SQRT_PI * FRAC_1_SQRT_2) && ((a == x && cubic(b)) || (b == x && cubic(a))) {
            return Ok(Some(c.emit(Op::GeluTanh {}, &[x])?));
        }
    }
    Ok(None)
}

fn silu(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    if !floating(c, operands) {
        return Ok(None);
    }
    let (Op::Mul {}, &[a, b]) = (op, operands) else { return Ok(None) };
    for (x, gate) in [(a, b), (b, a)] {
        if matches!(made(c, gate), (Op::Sigmoid {}, &[y]) if y == x) {
            return Ok(Some(c.emit(Op::Silu {}, &[x])?));
        }
    }
    Ok(None)
}

fn hard_swish(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    if !floating(c, operands) {
        return Ok(None);
    }
    const SIXTH: f64 = 1.0 / 6.0;
    for (x, gate) in pairs(c, op, operands, SIXTH).into_iter().flatten() {
        // clip(x + 3, 0, 6), or relu(x + 3) limited to 6.
        let (limited, low) = match made(c, gate) {
            (Op::Clip { min, max }, &[v]) if max.0 == 6.0 => (v, min.0),
            _ => continue,
        };
        let inner = match made(c, limited) {
            (Op::Relu {}, &[v]) if low <= 0.0 => v,
            _ if low == 0.0 => limited,
            _ => continue,
        };
        if plus(c, inner, 3.0) == Some(x) {
            return Ok(Some(c.emit(Op::HardSwish {}, &[x])?));
        }
    }
    for (x, gate) in pairs(c, op, operands, 1.0).into_iter().flatten() {
        if let (Op::HardSigmoid { alpha, beta }, &[y]) = made(c, gate)
            && y == x
            && close(alpha.0, SIXTH)
            && beta.0 == 0.5
        {
            return Ok(Some(c.emit(Op::HardSwish {}, &[x])?));
        }
    }
    Ok(None)
}

fn mish(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    if !floating(c, operands) {
        return Ok(None);
    }
    let (Op::Mul {}, &[a, b]) = (op, operands) else { return Ok(None) };
    for (x, gate) in [(a, b), (b, a)] {
        if let (Op::Tanh {}, &[s]) = made(c, gate)
            && matches!(made(c, s), (Op::Softplus {}, &[y]) if y == x)
        {
            return Ok(Some(c.emit(Op::Mish {}, &[x])?));
        }
    }
    Ok(None)
}
