//! Inference of movement ops.

use super::{Checker, Inferred, show_dims};
use crate::attribute::{Padding, ScatterMode};
use crate::dtype::DType;
use crate::types::{Dim, TensorType};

/// Product of the fixed extents, and the symbols sorted.
fn product(dims: &[Dim]) -> (Option<usize>, Vec<&Dim>) {
    let mut symbols: Vec<&Dim> = dims.iter().filter(|d| d.fixed().is_none()).collect();
    symbols.sort();
    (dims.iter().filter_map(Dim::fixed).try_fold(1usize, usize::checked_mul), symbols)
}

pub(super) fn reshape(dims: &[Dim], t: &[TensorType], c: &mut Checker) -> Inferred {
    let (from, to) = (product(&t[0].dims), product(dims));
    c.check("C1", from == to && from.0.is_some(), || format!("{} and {}", show_dims(&t[0].dims), show_dims(dims)));
    Some(vec![TensorType { dtype: t[0].dtype, dims: dims.to_vec() }])
}

pub(super) fn transpose(perm: &[usize], t: &[TensorType], c: &mut Checker) -> Inferred {
    let mut sorted = perm.to_vec();
    sorted.sort_unstable();
    let ok = sorted.iter().copied().eq(0..t[0].rank());
    if !c.check("C1", ok, || format!("perm {perm:?}, rank {}", t[0].rank())) {
        return None;
    }
    Some(vec![TensorType { dtype: t[0].dtype, dims: perm.iter().map(|&p| t[0].dims[p].clone()).collect() }])
}

pub(super) fn broadcast(dims: &[Dim], axes: &[usize], t: &[TensorType], c: &mut Checker) -> Inferred {
    let ok = axes.len() == t[0].rank() && axes.windows(2).all(|w| w[0] < w[1]) && axes.iter().all(|&a| a < dims.len());
    if !c.check("C1", ok, || format!("axes {axes:?}, rank {} to {}", t[0].rank(), dims.len())) {
        return None;
    }
    for (d, &a) in t[0].dims.iter().zip(axes) {
        c.check("C2", *d == Dim::Fixed(1) || *d == dims[a], || format!("extent {d} for {} at axis {a}", dims[a]));
    }
    Some(vec![TensorType { dtype: t[0].dtype, dims: dims.to_vec() }])
}

pub(super) fn slice(start: &[usize], limit: &[usize], stride: &[usize], t: &[TensorType], c: &mut Checker) -> Inferred {
    let rank = t[0].rank();
    let ok = start.len() == rank && limit.len() == rank && (stride.is_empty() || stride.len() == rank);
    if !c.check("C1", ok, || format!("{}, {} and {} entries for rank {rank}", start.len(), limit.len(), stride.len())) {
        return None;
    }
    let mut dims = Vec::with_capacity(rank);
    for (axis, d) in t[0].dims.iter().enumerate() {
        let step = stride.get(axis).copied().unwrap_or(1);
        let (s, l) = (start[axis], limit[axis]);
        let Some(extent) = d.fixed() else {
            c.check("C3", false, || format!("axis {axis} of extent {d}"));
            continue;
        };
        let ok = s <= l && l <= extent && step >= 1;
        if c.check("C2", ok, || format!("{s}..{l} step {step} of extent {extent} at axis {axis}")) {
            dims.push(Dim::Fixed((l - s).div_ceil(step)));
        }
    }
    Some(vec![TensorType { dtype: t[0].dtype, dims }])
}

pub(super) fn pad(padding: &[Padding], interior: &[usize], t: &[TensorType], c: &mut Checker) -> Inferred {
    let rank = t[0].rank();
    let ok = padding.len() == rank && (interior.is_empty() || interior.len() == rank);
    if !c.check("C1", ok, || format!("{} and {} entries for rank {rank}", padding.len(), interior.len())) {
        return None;
    }
    let mut dims = Vec::with_capacity(rank);
    for (axis, (d, p)) in t[0].dims.iter().zip(padding).enumerate() {
        let between = interior.get(axis).copied().unwrap_or(0);
        let (Ok(low), Ok(high)) = (usize::try_from(p.low), usize::try_from(p.high)) else {
            c.check("C2", false, || format!("[{}, {}] at axis {axis}", p.low, p.high));
            continue;
        };
        let out = match d.fixed() {
            None if low == 0 && high == 0 && between == 0 => Some(d.clone()),
            None => {
                c.check("C3", false, || format!("axis {axis} of extent {d}"));
                None
            }
            Some(n) => n
                .checked_sub(1)
                .map_or(Some(0), |gaps| gaps.checked_mul(between))
                .and_then(|inside| n.checked_add(inside)?.checked_add(low)?.checked_add(high))
                .map(Dim::Fixed),
        };
        c.check("C1", out.is_some() || !c.clean(), || format!("an extent beyond the address space at axis {axis}"));
        dims.extend(out);
    }
    Some(vec![TensorType { dtype: t[0].dtype, dims }])
}

pub(super) fn concat(axis: usize, t: &[TensorType], c: &mut Checker) -> Inferred {
    let Some(first) = t.first() else {
        c.check("C1", false, || "none".into());
        return None;
    };
    let ok = t.iter().all(|ty| ty.dtype == first.dtype && ty.rank() == first.rank()) && axis < first.rank();
    if !c.check("C2", ok, || format!("axis {axis}")) {
        return None;
    }
    for (i, ty) in t.iter().enumerate() {
        for a in (0..first.rank()).filter(|&a| a != axis) {
            c.check("C3", ty.dims[a] == first.dims[a], || {
                format!("{} for {} at axis {a} of operand {i}", ty.dims[a], first.dims[a])
            });
        }
    }
    let mut dims = first.dims.clone();
    if t.len() > 1 {
        let total = t.iter().try_fold(0usize, |n, ty| n.checked_add(ty.dims[axis].fixed()?));
        c.check("C4", total.is_some(), || {
            format!("{:?}", t.iter().map(|ty| ty.dims[axis].to_string()).collect::<Vec<_>>())
        });
        dims[axis] = Dim::Fixed(total?);
    }
    Some(vec![TensorType { dtype: first.dtype, dims }])
}

pub(super) fn reverse(axes: &[usize], t: &[TensorType], c: &mut Checker) -> Inferred {
    let ok = axes.iter().enumerate().all(|(i, a)| *a < t[0].rank() && !axes[..i].contains(a));
    c.check("C1", ok, || format!("axes {axes:?}, rank {}", t[0].rank()));
    Some(vec![t[0].clone()])
}

fn index_dtype(ty: &TensorType) -> bool {
    matches!(ty.dtype, DType::I64 | DType::I32)
}

/// The dims `gather` gives, where the axis is in range.
fn gathered(axis: usize, x: &TensorType, indices: &TensorType) -> Vec<Dim> {
    [&x.dims[..axis], &indices.dims, &x.dims[axis + 1..]].concat()
}

pub(super) fn gather(axis: usize, t: &[TensorType], c: &mut Checker) -> Inferred {
    c.check("C2", index_dtype(&t[1]), || t[1].to_string());
    if !c.check("C1", axis < t[0].rank(), || format!("axis {axis}, rank {}", t[0].rank())) {
        return None;
    }
    let extent = &t[0].dims[axis];
    c.check("C3", extent.fixed().is_some_and(|n| n >= 1), || extent.to_string());
    Some(vec![TensorType { dtype: t[0].dtype, dims: gathered(axis, &t[0], &t[1]) }])
}

pub(super) fn scatter(axis: usize, mode: ScatterMode, t: &[TensorType], c: &mut Checker) -> Inferred {
    c.check("C2", index_dtype(&t[1]), || t[1].to_string());
    if !c.check("C1", axis < t[0].rank(), || format!("axis {axis}, rank {}", t[0].rank())) {
        return None;
    }
    let want = TensorType { dtype: t[0].dtype, dims: gathered(axis, &t[0], &t[1]) };
    c.check("C3", t[2] == want, || format!("{}, expected {want}", t[2]));
    c.check("C4", t[0].dtype != DType::Bool || mode == ScatterMode::Replace, || "bool".into());
    Some(vec![t[0].clone()])
}
