//! Movement that cancels, and movement past elementwise work so that it can.

use std::sync::Arc;

use egg::Id;
use kiln_ir::{Dim, Op};
use smallvec::SmallVec;

use super::{Found, Rule, none, one};
use crate::axes::{inverse, is_identity, pick};
use crate::driver::PassFailure;
use crate::egraph::cost::is_elementwise;
use crate::egraph::saturate::{Matched, Rewrites};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "cancel_transposes",
        doc: "transpose(transpose(x)) is one transpose, or x",
        when: "always",
        why: "a copy less",
        root: |op| matches!(op, Op::Transpose { .. }),
        apply: cancel_transposes,
    },
    Rule {
        name: "cancel_reshapes",
        doc: "reshape(reshape(x)) is one reshape, or x",
        when: "always",
        why: "a step less, and what lies around meets",
        root: |op| matches!(op, Op::Reshape { .. }),
        apply: cancel_reshapes,
    },
    Rule {
        name: "transpose_after_elementwise",
        doc: "f(transpose(x), transpose(y)) = transpose(f(x, y))",
        when: "each operand is so transposed or a constant, and nothing else uses the first that is transposed",
        why: "transposes meet, and cancel",
        root: is_elementwise,
        apply: transpose_after_elementwise,
    },
    Rule {
        name: "reshape_after_elementwise",
        doc: "f(reshape(x), reshape(y)) = reshape(f(x, y))",
        when: "each operand is reshaped from the same dims or a constant number, and nothing else uses the first reshape",
        why: "reshapes meet, and cancel",
        root: is_elementwise,
        apply: reshape_after_elementwise,
    },
    Rule {
        name: "slice_of_concat",
        doc: "a slice within one part of a concat is a slice of that part",
        when: "along the concat's axis the slice lies within the part",
        why: "the other parts need not be there",
        root: |op| matches!(op, Op::Slice { .. }),
        apply: slice_of_concat,
    },
    Rule {
        name: "concat_of_slices",
        doc: "neighbouring slices of one value, joined again, are one slice",
        when: "all operands are slices of one value with step 1, each beginning where the one before ends",
        why: "copies there and back are gone",
        root: |op| matches!(op, Op::Concat { .. }),
        apply: concat_of_slices,
    },
    Rule {
        name: "flatten_concats",
        doc: "concat(concat(x, y), z) = concat(x, y, z)",
        when: "both are along one axis",
        why: "parts are copied once",
        root: |op| matches!(op, Op::Concat { .. }),
        apply: flatten_concats,
    },
    Rule {
        name: "elementwise_before_concat",
        doc: "f(concat(x, y)) = concat(f(x), f(y))",
        when: "f's other operands are constant numbers, nothing else uses the concat, and at least one part is made by a contraction or elementwise work",
        why: "what makes a part takes in f, and the parts are written to their places once",
        root: is_elementwise,
        apply: elementwise_before_concat,
    },
];

fn cancel_transposes(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let (Op::Transpose { perm }, &[inner]) = (m.op, m.children) else { return none() };
    for (op, kids) in r.find(inner, |o| matches!(o, Op::Transpose { .. })) {
        let Op::Transpose { perm: first } = &*op else { continue };
        let both = pick(first, perm);
        return if is_identity(&both) { one(kids[0]) } else { one(r.add(Op::Transpose { perm: both }, &kids)?) };
    }
    none()
}

fn cancel_reshapes(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let (Op::Reshape { dims }, &[inner]) = (m.op, m.children) else { return none() };
    if r.dims(inner) == *dims {
        return one(inner);
    }
    match r.find(inner, |o| matches!(o, Op::Reshape { .. })).first() {
        Some((_, kids)) if r.dims(kids[0]) == *dims => one(kids[0]),
        Some((_, kids)) => one(r.add(m.op.clone(), kids)?),
        None => none(),
    }
}

fn transpose_after_elementwise(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let Some(&first) = m.children.iter().find(|&&c| !r.is_constant(c)) else { return none() };
    for (op, _) in r.find_sole(first, |o| matches!(o, Op::Transpose { .. })) {
        let Op::Transpose { perm } = &*op else { continue };
        let inverse = inverse(perm);
        let mut inner = Vec::with_capacity(m.children.len());
        for &c in m.children {
            if r.is_constant(c) {
                inner.push(r.add(Op::Transpose { perm: inverse.clone() }, &[c])?);
            } else if let Some((_, kids)) = r.find(c, |o| *o == *op).first() {
                inner.push(kids[0]);
            }
        }
        if inner.len() == m.children.len() {
            let y = r.add(m.op.clone(), &inner)?;
            return one(r.add((*op).clone(), &[y])?);
        }
    }
    none()
}

fn reshape_after_elementwise(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let Some(&first) = m.children.iter().find(|&&c| !r.is_constant(c)) else { return none() };
    for (_, kids) in r.find_sole(first, |o| matches!(o, Op::Reshape { .. })) {
        let dims = r.dims(kids[0]);
        let mut inner = Vec::with_capacity(m.children.len());
        for &c in m.children {
            match reshaped_from(r, c, &dims)? {
                Some(x) => inner.push(x),
                None => break,
            }
        }
        if inner.len() == m.children.len() {
            let y = r.add(m.op.clone(), &inner)?;
            let to = r.dims(first);
            return one(r.add(Op::Reshape { dims: to }, &[y])?);
        }
    }
    none()
}

/// What `id` is a reshape of, if that has `dims`; a constant number fills any dims.
fn reshaped_from(r: &mut Rewrites, id: Id, dims: &[Dim]) -> Result<Option<Id>, PassFailure> {
    if r.is_constant(id) {
        return filled(r, id, dims);
    }
    let found = r.find(id, |o| matches!(o, Op::Reshape { .. }));
    Ok(found.iter().map(|(_, kids)| kids[0]).find(|&x| r.dims(x) == dims))
}

fn slice_of_concat(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let (Op::Slice { start, limit, stride }, &[inner]) = (m.op, m.children) else { return none() };
    for (op, parts) in r.find(inner, |o| matches!(o, Op::Concat { .. })) {
        let Op::Concat { axis } = &*op else { continue };
        let mut offset = 0;
        for &part in &parts {
            let Some(dims) = r.ty(part).static_dims() else { return none() };
            let end = offset + dims[*axis];
            if start[*axis] >= offset && limit[*axis] <= end && start[*axis] < limit[*axis] {
                let (mut start, mut limit) = (start.clone(), limit.clone());
                start[*axis] -= offset;
                limit[*axis] -= offset;
                let whole = start.iter().all(|&s| s == 0) && limit == dims && stride.iter().all(|&s| s == 1);
                return if whole {
                    one(part)
                } else {
                    one(r.add(Op::Slice { start, limit, stride: stride.clone() }, &[part])?)
                };
            }
            offset = end;
        }
    }
    none()
}

fn concat_of_slices(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let (Op::Concat { axis }, [first, rest @ ..]) = (m.op, m.children) else { return none() };
    if rest.is_empty() {
        return none();
    }
    let plain = |o: &Op| matches!(o, Op::Slice { stride, .. } if stride.iter().all(|&s| s == 1));
    for (op, kids) in r.find(*first, plain) {
        let Op::Slice { start, limit: mut end, .. } = (*op).clone() else { continue };
        let joined = rest.iter().all(|&next| {
            let follows = r.find(next, plain).into_iter().find_map(|(op, source)| match &*op {
                Op::Slice { start: s, limit: l, .. } if source == kids && follows(&start, &end, s, l, *axis) => {
                    Some(l[*axis])
                }
                _ => None,
            });
            follows.is_some_and(|l| {
                end[*axis] = l;
                true
            })
        });
        if joined {
            let dims = r.ty(kids[0]).static_dims();
            let whole = start.iter().all(|&s| s == 0) && dims.as_ref() == Some(&end);
            return if whole {
                one(kids[0])
            } else {
                one(r.add(Op::Slice { start, limit: end, stride: Vec::new() }, &kids)?)
            };
        }
    }
    none()
}

/// Whether the slice `s..l` goes on where `start..end` ends along `axis`, and agrees with it along the others.
fn follows(start: &[usize], end: &[usize], s: &[usize], l: &[usize], axis: usize) -> bool {
    (0..start.len()).all(|a| if a == axis { s[a] == end[a] } else { s[a] == start[a] && l[a] == end[a] })
}

fn flatten_concats(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let mut parts: SmallVec<[Id; 8]> = SmallVec::new();
    for &c in m.children {
        let inner: Vec<(Arc<Op>, SmallVec<[Id; 4]>)> = r.find(c, |o| o == m.op);
        match inner.first() {
            Some((_, kids)) => parts.extend(kids.iter().copied()),
            None => parts.push(c),
        }
    }
    if parts.len() == m.children.len() { none() } else { one(r.add(m.op.clone(), &parts)?) }
}

fn elementwise_before_concat(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let Some(&first) = m.children.iter().find(|&&c| !r.is_constant(c)) else { return none() };
    let joins = |op: &Op| is_elementwise(op) || matches!(op, Op::Conv { .. } | Op::Dot { .. });
    for (op, parts) in r.find_sole(first, |o| matches!(o, Op::Concat { .. })) {
        if !parts.iter().any(|&part| !r.is_constant(part) && !r.find_sole(part, joins).is_empty()) {
            continue;
        }
        let mut made = SmallVec::<[Id; 8]>::new();
        for &part in &parts {
            let dims = r.dims(part);
            let mut operands = SmallVec::<[Id; 4]>::new();
            for &c in m.children {
                let filled = if c == first { Some(part) } else { filled(r, c, &dims)? };
                let Some(operand) = filled else { return none() };
                operands.push(operand);
            }
            made.push(r.add(m.op.clone(), &operands)?);
        }
        return one(r.add((*op).clone(), &made)?);
    }
    none()
}

/// The constant number `id` with other dims.
fn filled(r: &mut Rewrites, id: Id, dims: &[Dim]) -> Result<Option<Id>, PassFailure> {
    if !r.is_constant(id) {
        return Ok(None);
    }
    match r.find(id, |o| matches!(o, Op::Broadcast { axes, .. } if axes.is_empty())).first() {
        Some((_, kids)) => Ok(Some(r.add(Op::Broadcast { dims: dims.to_vec(), axes: Vec::new() }, &[kids[0]])?)),
        None => Ok(None),
    }
}
