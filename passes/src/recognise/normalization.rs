//! Softmax and layer normalisation spelled out.

use kiln_ir::attribute::{Real, Reducer};
use kiln_ir::{Dim, Op, TensorType, Value};

use super::{close, made};
use crate::canonicalise::{Canonicaliser, Rewritten, Rule};

type C<'x, 'r, 'a, 'o> = &'x mut Canonicaliser<'r, 'a, 'o>;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "recognise_softmax",
        doc: "exp(x − max x) / Σ exp(x − max x) is softmax(x), with or without the maximum",
        apply: softmax,
    },
    Rule {
        name: "recognise_layer_norm",
        doc: "(x − mean x) / √(mean (x − mean x)² + epsilon) over trailing axes is layer_norm(x, 1, 0)",
        apply: layer_norm,
    },
    Rule {
        name: "scale_into_layer_norm",
        doc: "layer_norm(x, a, 0) · s = layer_norm(x, a · s, 0)",
        apply: scale_into_layer_norm,
    },
    Rule {
        name: "shift_into_layer_norm",
        doc: "layer_norm(x, a, b) + t = layer_norm(x, a, b + t)",
        apply: shift_into_layer_norm,
    },
];

/// What is below a broadcast, without the reshapes that only add or drop extents of 1.
fn below_broadcast(c: &Canonicaliser<'_, '_, '_>, v: Value) -> Option<Value> {
    match made(c, v) {
        (Op::Broadcast { .. }, &[x]) => Some(squeezed(c, x)),
        _ => None,
    }
}

fn long_extents(c: &Canonicaliser<'_, '_, '_>, v: Value) -> Vec<Dim> {
    c.ty(v).dims.iter().filter(|d| **d != Dim::Fixed(1)).cloned().collect()
}

fn squeezed(c: &Canonicaliser<'_, '_, '_>, v: Value) -> Value {
    match made(c, v) {
        (Op::Reshape { .. }, &[x]) if long_extents(c, v) == long_extents(c, x) => squeezed(c, x),
        _ => v,
    }
}

/// A reduction of a value of the same dims as the broadcast `spread` that repeats its result along the reduced axes.
struct Spread {
    x: Value,
    axes: Vec<usize>,
}

/// Checks that `reduced` (under reshapes) is `reducer` over some axes of a value, that `spread` puts each element
/// back where it came from; gives that value and the axes.
fn reduction(c: &Canonicaliser<'_, '_, '_>, spread: Value, reduced: Value, reducer: Reducer) -> Option<Spread> {
    let (Op::Reduce { axes, reducer: r }, &[x]) = made(c, squeezed(c, reduced)) else { return None };
    let (Op::Broadcast { dims, axes: places }, &[inner]) = made(c, spread) else { return None };
    if *r != reducer || *dims != c.ty(x).dims {
        return None;
    }
    let long = |extents: &[Dim], i: usize| extents[i] != Dim::Fixed(1);
    let kept: Vec<usize> = (0..dims.len()).filter(|a| !axes.contains(a) && long(dims, *a)).collect();
    let filled: Vec<usize> =
        places.iter().enumerate().filter(|(i, _)| long(&c.ty(inner).dims, *i)).map(|(_, &a)| a).collect();
    (kept == filled).then(|| Spread { x, axes: axes.clone() })
}

/// As [`reduction`], for the mean: a sum divided by the number of elements it sums.
fn mean(c: &Canonicaliser<'_, '_, '_>, spread: Value, value: Value) -> Option<Spread> {
    let value = squeezed(c, value);
    let (sum, factor) = match made(c, value) {
        (Op::Div {}, &[sum, n]) => (sum, 1.0 / c.splat(n)?),
        (Op::Mul {}, &[sum, n]) => (sum, c.splat(n)?),
        _ => return None,
    };
    let found = reduction(c, spread, sum, Reducer::Sum)?;
    let count = found.axes.iter().try_fold(1.0, |n, &a| Some(n * c.ty(found.x).dims[a].fixed()? as f64))?;
    close(factor * count, 1.0).then_some(found)
}

fn softmax(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let (Op::Div {}, &[e, total]) = (op, operands) else { return Ok(None) };
    let Some(sum) = below_broadcast(c, total) else { return Ok(None) };
    let Some(Spread { x: summed, axes }) = reduction(c, total, sum, Reducer::Sum) else { return Ok(None) };
    let (&[axis], (Op::Exp {}, &[exponent])) = (axes.as_slice(), made(c, e)) else { return Ok(None) };
    if summed != e {
        return Ok(None);
    }
    let shifted = match made(c, exponent) {
        (Op::Sub {}, &[x, max]) => {
            let below = below_broadcast(c, max);
            let found = below.and_then(|m| reduction(c, max, m, Reducer::Max));
            found.filter(|s| s.x == x && s.axes == axes).map(|_| x)
        }
        _ => None,
    };
    Ok(Some(c.emit(Op::Softmax { axis }, &[shifted.unwrap_or(exponent)])?))
}

/// d and √(mean d² + epsilon) where the op divides d by it: the value that is broadcast, and the broadcast.
fn deviation(c: &Canonicaliser<'_, '_, '_>, op: &Op, operands: &[Value]) -> Option<(Value, Value, Value)> {
    let &[a, b] = operands else { return None };
    let candidates = match op {
        Op::Div {} => [Some((a, b)), None],
        Op::Mul {} => [Some((a, b)), Some((b, a))],
        _ => return None,
    };
    candidates.into_iter().flatten().find_map(|(d, spread)| {
        let root = below_broadcast(c, spread)?;
        match (op, made(c, root)) {
            (Op::Div {}, (Op::Sqrt {}, &[v])) | (Op::Mul {}, (Op::Rsqrt {}, &[v])) => Some((d, spread, squeezed(c, v))),
            _ => None,
        }
    })
}

fn layer_norm(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let Some((d, spread, shifted)) = deviation(c, op, operands) else { return Ok(None) };
    let (Op::Add {}, &[variance, e]) = made(c, shifted) else { return Ok(None) };
    let Some(epsilon) = c.splat(e) else { return Ok(None) };
    let Some(Spread { x: square, axes }) = mean(c, spread, variance) else { return Ok(None) };
    let squares = matches!(made(c, square), (Op::Mul {}, &[p, q]) if p == d && q == d);
    let (Op::Sub {}, &[x, average]) = made(c, d) else { return Ok(None) };
    let Some(found) = below_broadcast(c, average).and_then(|m| mean(c, average, m)) else { return Ok(None) };
    let ty = c.ty(x).clone();
    let Some(&axis) = axes.first() else { return Ok(None) };
    let trailing = axes.iter().copied().eq(axis..ty.rank());
    if !squares || found.x != x || found.axes != axes || !trailing || !ty.dtype.is_float() {
        return Ok(None);
    }
    let vector = TensorType { dtype: ty.dtype, dims: ty.dims[axis..].to_vec() };
    let (Some(ones), Some(zeros)) = (c.fill(&vector, 1.0)?, c.fill(&vector, 0.0)?) else { return Ok(None) };
    Ok(Some(c.emit(Op::LayerNorm { axis, epsilon: Real(epsilon) }, &[x, ones, zeros])?))
}

/// A layer normalisation among two operands, and what the other broadcasts along the normalised axes, with the
/// dims of scale and bias.
fn normalized_with(
    c: C<'_, '_, '_, '_>,
    operands: &[Value],
) -> Result<Option<(Op, [Value; 3], Value)>, kiln_ir::GraphError> {
    let &[a, b] = operands else { return Ok(None) };
    for (norm, other) in [(a, b), (b, a)] {
        let (Op::LayerNorm { axis, .. }, &[x, scale, bias]) = made(c, norm) else { continue };
        let (Op::Broadcast { dims, axes }, &[vector]) = made(c, other) else { continue };
        let (axis, op, dims) = (*axis, made(c, norm).0.clone(), dims.clone());
        let axes: Vec<usize> = axes.clone();
        if axes.iter().any(|&a| a < axis) {
            continue;
        }
        // The vector over all normalised axes.
        let places = axes.iter().map(|a| a - axis).collect();
        let vector = c.emit(Op::Broadcast { dims: dims[axis..].to_vec(), axes: places }, &[vector])?;
        return Ok(Some((op, [x, scale, bias], vector)));
    }
    Ok(None)
}

fn scale_into_layer_norm(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    if !matches!(op, Op::Mul {}) {
        return Ok(None);
    }
    let Some((norm, [x, scale, bias], vector)) = normalized_with(c, operands)? else { return Ok(None) };
    if c.splat(bias) != Some(0.0) {
        return Ok(None);
    }
    // Ones times a vector is that vector, whether or not it is a constant.
    let scale = if c.splat(scale) == Some(1.0) { vector } else { c.emit(Op::Mul {}, &[scale, vector])? };
    Ok(Some(c.emit(norm, &[x, scale, bias])?))
}

fn shift_into_layer_norm(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    if !matches!(op, Op::Add {}) {
        return Ok(None);
    }
    let Some((norm, [x, scale, bias], vector)) = normalized_with(c, operands)? else { return Ok(None) };
    let bias = if c.splat(bias) == Some(0.0) { vector } else { c.emit(Op::Add {}, &[bias, vector])? };
    Ok(Some(c.emit(norm, &[x, scale, bias])?))
}
