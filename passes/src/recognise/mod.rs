//! Recognition of composites that model files spell out in primitives.
//!
//! Rules of the canonicaliser: they look at canonical operands, so each spelling has few variants (constants stand
//! second, powers are products, equal subexpressions are one value). Numbers are compared with the tolerance of one
//! f32 rounding, because that is how files store them.

mod activation;
mod normalization;

use kiln_ir::{Op, Value};

use crate::canonicalise::{Canonicaliser, Rule};

pub(crate) const RULES: &[&[Rule]] = &[activation::RULES, normalization::RULES];

/// Whether `value` is `wanted` as f32 stores it, or as close as products of such numbers come.
fn close(value: f64, wanted: f64) -> bool {
    (value - wanted).abs() <= 4.0 * f64::from(f32::EPSILON) * wanted.abs()
}

/// The op of `v` and its operands.
fn made<'c>(c: &'c Canonicaliser<'_, '_, '_>, v: Value) -> (&'c Op, &'c [Value]) {
    let node = c.producer(v);
    (&node.op, &node.operands)
}

/// A product: a number and values, as far as multiplications and divisions by numbers go.
struct Product {
    number: f64,
    factors: Vec<Value>,
}

/// The product that `op` over `operands` is, its factors taken apart to `depth` levels.
fn product(c: &Canonicaliser<'_, '_, '_>, op: &Op, operands: &[Value], depth: usize) -> Product {
    let mut p = Product { number: 1.0, factors: Vec::new() };
    collect(c, op, operands, depth, &mut p);
    p
}

fn collect(c: &Canonicaliser<'_, '_, '_>, op: &Op, operands: &[Value], depth: usize, p: &mut Product) {
    match (op, operands) {
        (Op::Mul {}, &[x, y]) => {
            collect_value(c, x, depth, p);
            collect_value(c, y, depth, p);
        }
        (Op::Div {}, &[x, y]) => match c.splat(y) {
            Some(n) => {
                p.number /= n;
                collect_value(c, x, depth, p);
            }
            None => p.number = f64::NAN,
        },
        _ => p.number = f64::NAN,
    }
}

fn collect_value(c: &Canonicaliser<'_, '_, '_>, v: Value, depth: usize, p: &mut Product) {
    if let Some(n) = c.splat(v) {
        p.number *= n;
        return;
    }
    let (op, operands) = made(c, v);
    match op {
        Op::Mul {} if depth > 0 => collect(c, op, operands, depth - 1, p),
        Op::Div {} if depth > 0 && c.splat(operands[1]).is_some() => collect(c, op, operands, depth - 1, p),
        // A cube is not spelled as a product.
        Op::Pow {} if c.splat(operands[1]) == Some(3.0) => p.factors.extend([operands[0]; 3]),
        _ => p.factors.push(v),
    }
}

/// The product that makes `v`, if one does; else `v` alone.
fn product_of(c: &Canonicaliser<'_, '_, '_>, v: Value, depth: usize) -> Product {
    let mut p = Product { number: 1.0, factors: Vec::new() };
    collect_value(c, v, depth, &mut p);
    p
}

/// x where `v` = x + `number`.
fn plus(c: &Canonicaliser<'_, '_, '_>, v: Value, number: f64) -> Option<Value> {
    match made(c, v) {
        (Op::Add {}, &[x, n]) if c.splat(n).is_some_and(|n| close(n, number)) => Some(x),
        _ => None,
    }
}
