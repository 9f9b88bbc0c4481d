//! Rules about movement: what moves nothing vanishes, neighbours join, and transposes and broadcasts that only
//! relabel extents of 1 become reshapes.

use kiln_ir::attribute::Padding;
use kiln_ir::{DType, Dim, Op, Value};

use super::{Canonicaliser, Rewritten, Rule};
use crate::axes::{broadcast_in_order, is_identity, moves_only_ones, pick};

type C<'x, 'r, 'a, 'o> = &'x mut Canonicaliser<'r, 'a, 'o>;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "drop_identity_movement",
        doc: "movement that gives its operand back is its operand",
        apply: identity,
    },
    Rule { name: "merge_reshapes", doc: "reshape of reshape is one reshape", apply: merge_reshapes },
    Rule { name: "merge_transposes", doc: "transpose of transpose is one transpose", apply: merge_transposes },
    Rule {
        name: "transpose_as_reshape",
        doc: "a transpose that moves only axes of extent 1 is a reshape",
        apply: transpose_as_reshape,
    },
    Rule {
        name: "transpose_before_broadcast",
        doc: "a broadcast is transposed by transposing what is broadcast",
        apply: transpose_before_broadcast,
    },
    Rule {
        name: "broadcast_as_reshape",
        doc: "a broadcast that repeats nothing is a reshape",
        apply: broadcast_as_reshape,
    },
    Rule {
        name: "squeeze_broadcast",
        doc: "axes of extent 1 are dropped before a broadcast",
        apply: squeeze_broadcast,
    },
    Rule { name: "merge_broadcasts", doc: "broadcast of broadcast is one broadcast", apply: merge_broadcasts },
    Rule {
        name: "reshape_uniform",
        doc: "reshape or slice of a broadcast scalar is a broadcast scalar",
        apply: reshape_uniform,
    },
    Rule { name: "merge_slices", doc: "slice of slice is one slice", apply: merge_slices },
    Rule { name: "merge_pads", doc: "pad of pad with the same value is one pad", apply: merge_pads },
    Rule {
        name: "drop_empty_parts",
        doc: "operands of extent 0 along a concat's axis are dropped",
        apply: drop_empty_parts,
    },
    Rule {
        name: "merge_converts",
        doc: "a conversion that loses nothing is skipped by the next conversion",
        apply: merge_converts,
    },
    Rule {
        name: "gather_as_slice",
        doc: "a gather by evenly spaced constant indices is a slice",
        apply: gather_as_slice,
    },
];

fn identity(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let Some(&x) = operands.first() else { return Ok(None) };
    let dims = &c.ty(x).dims;
    let same = match op {
        Op::Reshape { dims: to } => to == dims,
        Op::Transpose { perm } => is_identity(perm),
        Op::Broadcast { dims: to, .. } => to == dims,
        Op::Slice { start, limit, stride } => {
            let whole = |i: usize| start[i] == 0 && dims[i] == Dim::Fixed(limit[i]);
            stride.iter().all(|&s| s == 1) && (0..dims.len()).all(whole)
        }
        Op::Pad { padding, interior, .. } => {
            padding.iter().all(|p| p.low == 0 && p.high == 0) && interior.iter().all(|&n| n == 0)
        }
        Op::Concat { .. } => operands.len() == 1,
        Op::Reverse { axes } => axes.iter().all(|&a| dims[a] == Dim::Fixed(1)),
        Op::Convert { dtype } => c.ty(x).dtype == *dtype,
        _ => false,
    };
    Ok(same.then_some(x))
}

fn merge_reshapes(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let Op::Reshape { dims } = op else { return Ok(None) };
    let Some((Op::Reshape { .. }, inner)) = c.made_by(operands) else { return Ok(None) };
    Ok(Some(c.emit(Op::Reshape { dims: dims.clone() }, &inner)?))
}

fn merge_transposes(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let Op::Transpose { perm } = op else { return Ok(None) };
    let Some((Op::Transpose { perm: first }, inner)) = c.made_by(operands) else { return Ok(None) };
    let perm = pick(&first, perm);
    Ok(Some(c.emit(Op::Transpose { perm }, &inner)?))
}

fn transpose_as_reshape(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let Op::Transpose { perm } = op else { return Ok(None) };
    let dims = &c.ty(operands[0]).dims;
    if !moves_only_ones(dims, perm) {
        return Ok(None);
    }
    let dims = pick(dims, perm);
    Ok(Some(c.emit(Op::Reshape { dims }, operands)?))
}

fn transpose_before_broadcast(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let Op::Transpose { perm } = op else { return Ok(None) };
    let Some((Op::Broadcast { dims, axes }, inner)) = c.made_by(operands) else { return Ok(None) };
    let (perm, broadcast) = broadcast_in_order(&dims, &axes, perm);
    let x = c.emit(Op::Transpose { perm }, &inner)?;
    Ok(Some(c.emit(broadcast, &[x])?))
}

fn broadcast_as_reshape(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let Op::Broadcast { dims, axes } = op else { return Ok(None) };
    let x = &c.ty(operands[0]).dims;
    let kept = |a: usize| axes.iter().position(|&b| b == a).is_some_and(|i| x[i] == dims[a]);
    // A scalar that goes to one element stays a broadcast: that is how constants of one value are written.
    if x.is_empty() || !(0..dims.len()).all(|a| kept(a) || dims[a] == Dim::Fixed(1)) {
        return Ok(None);
    }
    Ok(Some(c.emit(Op::Reshape { dims: dims.clone() }, operands)?))
}

fn squeeze_broadcast(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let Op::Broadcast { dims, axes } = op else { return Ok(None) };
    let x = c.ty(operands[0]).dims.clone();
    let kept: Vec<usize> = (0..x.len()).filter(|&i| x[i] != Dim::Fixed(1)).collect();
    if kept.len() == x.len() {
        return Ok(None);
    }
    let squeezed = c.emit(Op::Reshape { dims: kept.iter().map(|&i| x[i].clone()).collect() }, operands)?;
    let axes = kept.iter().map(|&i| axes[i]).collect();
    Ok(Some(c.emit(Op::Broadcast { dims: dims.clone(), axes }, &[squeezed])?))
}

fn merge_broadcasts(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let Op::Broadcast { dims, axes } = op else { return Ok(None) };
    let Some((Op::Broadcast { axes: first, .. }, inner)) = c.made_by(operands) else { return Ok(None) };
    let axes = first.iter().map(|&a| axes[a]).collect();
    Ok(Some(c.emit(Op::Broadcast { dims: dims.clone(), axes }, &inner)?))
}

fn reshape_uniform(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    if !matches!(op, Op::Reshape { .. } | Op::Slice { .. }) {
        return Ok(None);
    }
    let Some((Op::Broadcast { axes, .. }, inner)) = c.made_by(operands) else { return Ok(None) };
    if !axes.is_empty() {
        return Ok(None);
    }
    let Ok(types) = kiln_ir::infer::infer(op, &[c.ty(operands[0]).clone()]) else { return Ok(None) };
    let dims = types.into_iter().next().map(|t| t.dims).unwrap_or_default();
    Ok(Some(c.emit(Op::Broadcast { dims, axes }, &inner)?))
}

fn merge_slices(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let Op::Slice { start, limit, stride } = op else { return Ok(None) };
    let Some((Op::Slice { start: s0, stride: k0, .. }, inner)) = c.made_by(operands) else { return Ok(None) };
    let rank = start.len();
    let step = |list: &[usize], i: usize| list.get(i).copied().unwrap_or(1);
    // A step beyond the extents may be anything, as long as it is taken no further than to the first element.
    let strides: Vec<usize> = (0..rank).map(|i| step(stride, i).saturating_mul(step(&k0, i))).collect();
    let starts: Vec<usize> = (0..rank).map(|i| s0[i].saturating_add(start[i].saturating_mul(step(&k0, i)))).collect();
    // An empty slice may start beyond its operand: let it be.
    let dims = c.ty(inner[0]).static_dims();
    if !dims.is_some_and(|d| starts.iter().zip(&d).all(|(s, n)| s <= n)) {
        return Ok(None);
    }
    let limits = (0..rank)
        .map(|i| match (limit[i] - start[i]).div_ceil(step(stride, i)) {
            0 => starts[i],
            n => starts[i] + (n - 1) * strides[i] + 1,
        })
        .collect();
    let plain = strides.iter().all(|&s| s == 1);
    let op = Op::Slice { start: starts, limit: limits, stride: if plain { Vec::new() } else { strides } };
    Ok(Some(c.emit(op, &inner)?))
}

fn merge_pads(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let Op::Pad { padding, interior, value } = op else { return Ok(None) };
    let Some((Op::Pad { padding: first, interior: i0, value: v0 }, inner)) = c.made_by(operands) else {
        return Ok(None);
    };
    if *value != v0 || interior.iter().chain(&i0).any(|&n| n != 0) {
        return Ok(None);
    }
    let Some(padding) = Padding::sum(padding, &first) else { return Ok(None) };
    Ok(Some(c.emit(Op::Pad { padding, interior: Vec::new(), value: *value }, &inner)?))
}

fn drop_empty_parts(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let Op::Concat { axis } = op else { return Ok(None) };
    let kept: Vec<Value> = operands.iter().copied().filter(|&v| c.ty(v).dims[*axis] != Dim::Fixed(0)).collect();
    if kept.is_empty() || kept.len() == operands.len() {
        return Ok(None);
    }
    Ok(Some(c.emit(op.clone(), &kept)?))
}

/// Whether every value of `from` is a value of `to`.
fn lossless(from: DType, to: DType) -> bool {
    use DType::*;
    matches!(
        (from, to),
        (Bool, _) | (I8 | U8, I32 | I64 | F32 | F64 | F16) | (I32, I64 | F64) | (F16 | BF16, F32 | F64) | (F32, F64)
    )
}

fn merge_converts(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let Op::Convert { dtype } = op else { return Ok(None) };
    let Some((Op::Convert { dtype: middle }, inner)) = c.made_by(operands) else { return Ok(None) };
    if !lossless(c.ty(inner[0]).dtype, middle) {
        return Ok(None);
    }
    Ok(Some(c.emit(Op::Convert { dtype: *dtype }, &inner)?))
}

fn gather_as_slice(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let (Op::Gather { axis }, &[x, indices]) = (op, operands) else { return Ok(None) };
    let Some(dims) = c.ty(x).static_dims() else { return Ok(None) };
    let Some(list) = c.view(indices).and_then(|v| v.store()).map(|t| t.to_i64_vec()) else { return Ok(None) };
    let last = dims[*axis] as i64 - 1;
    let list: Vec<usize> = list.into_iter().map(|i| i.clamp(0, last) as usize).collect();
    let (Some(&first), Some(&end)) = (list.first(), list.last()) else { return Ok(None) };
    let step = if list.len() > 1 && list[1] > list[0] { list[1] - list[0] } else { 1 };
    let even = list.windows(2).all(|w| w[1] > w[0] && w[1] - w[0] == step);
    if !even {
        return Ok(None);
    }
    let mut start = vec![0; dims.len()];
    let mut limit = dims.clone();
    let mut stride = vec![1; dims.len()];
    (start[*axis], limit[*axis], stride[*axis]) = (first, end + 1, step);
    let stride = if step == 1 { Vec::new() } else { stride };
    let sliced = c.emit(Op::Slice { start, limit, stride }, &[x])?;
    let mut result = c.ty(x).dims.clone();
    result.splice(*axis..=*axis, c.ty(indices).dims.clone());
    Ok(Some(c.emit(Op::Reshape { dims: result }, &[sliced])?))
}
