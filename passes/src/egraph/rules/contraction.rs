//! Constants move into the weights of convolutions and matrix products.

use egg::Id;
use kiln_ir::attribute::{Padding, Reducer};
use kiln_ir::infer::{conv_dims, dot_dims};
use kiln_ir::{DType, Dim, Op};

use super::{Found, Rule, Spread, broadcast, none, one, scaled_weight, spreads};
use crate::canonicalise::constant::FOLDED_WORK;
use crate::driver::PassFailure;
use crate::egraph::saturate::{Equals, Matched, Rewrites};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "fold_scale_into_conv",
        doc: "conv(x, w) · s = conv(x, w · s), and / s in f64 and f32 where 1 ≤ |s| ≤ 2²⁴",
        when: "w is constant, s a constant number or one a channel of the result, and nothing else uses the convolution",
        why: "the multiplication of each result is gone; weights are scaled at compile time",
        root: is_scaling,
        apply: fold_scale_into_conv,
    },
    Rule {
        name: "fold_scale_into_dot",
        doc: "dot(x, w) · s = dot(x, w · s), and / s in f64 and f32 where 1 ≤ |s| ≤ 2²⁴",
        when: "w is constant, s a constant along w's free axes, and nothing else uses the product",
        why: "the multiplication of each result is gone; weights are scaled at compile time",
        root: is_scaling,
        apply: fold_scale_into_dot,
    },
    Rule {
        name: "fold_input_scale_into_conv",
        doc: "conv(x · s, w) = conv(x, w · s), and / s in f64 and f32 where 1 ≤ |s| ≤ 2²⁴",
        when: "w is constant, s a constant number, or one a channel of x where there is one group, and nothing else uses x · s",
        why: "the multiplication of each input is gone; weights are scaled at compile time",
        root: |op| matches!(op, Op::Conv { .. }),
        apply: fold_input_scale_into_conv,
    },
    Rule {
        name: "fold_input_scale_into_dot",
        doc: "dot(x · s, w) = dot(x, w · s), and / s in f64 and f32 where 1 ≤ |s| ≤ 2²⁴",
        when: "w is constant, s a constant along contracted axes, and nothing else uses x · s",
        why: "the multiplication of each input is gone; weights are scaled at compile time",
        root: |op| matches!(op, Op::Dot { .. }),
        apply: fold_input_scale_into_dot,
    },
    Rule {
        name: "fold_input_shift_into_conv",
        doc: "conv(x + a, w) = conv(x, w) + Σ a · w",
        when: "w is constant, a a constant number or one a channel; one group, no padding, x not dilated, and nothing else uses x + a",
        why: "an addition before a convolution is work of its own, one behind it is done in its registers",
        root: |op| matches!(op, Op::Conv { .. }),
        apply: fold_input_shift_into_conv,
    },
    Rule {
        name: "fold_input_shift_into_dot",
        doc: "dot(x + a, w) = dot(x, w) + dot(a, w)",
        when: "w is a constant matrix, a a constant along the contracted axis, and nothing else uses x + a",
        why: "an addition before a product is work of its own, one behind it is done in its registers",
        root: |op| matches!(op, Op::Dot { .. }),
        apply: fold_input_shift_into_dot,
    },
    Rule {
        name: "merge_constant_products",
        doc: "dot(dot(x, a), b) = dot(x, dot(a, b))",
        when: "a and b are constant matrices, their product has fewer elements than both, and nothing else uses dot(x, a)",
        why: "one product less, with fewer weights to read",
        root: |op| matches!(op, Op::Dot { .. }),
        apply: merge_constant_products,
    },
    Rule {
        name: "conv_of_one_place_as_dot",
        doc: "a convolution whose window covers all of x once is a matrix product",
        when: "channels first, no padding or dilation of x, one group, one place of the window",
        why: "a product has the simpler loops",
        root: |op| matches!(op, Op::Conv { .. }),
        apply: conv_of_one_place_as_dot,
    },
];

fn is_scaling(op: &Op) -> bool {
    matches!(op, Op::Mul {} | Op::Div {})
}

/// Most that weights are divided by, and what they have digits to spare for: the numbers of elements of means are in this range.
const MOST_DIVISOR: f64 = (1u32 << 24) as f64;

/// Whether weights may take the scaling by the numbers `s` over. Division is another thing in integers; by less than 1 it could make weights
/// infinite that results are not, and f16 has no room for small ones.
fn scales(r: &mut Rewrites, op: &Op, s: Id) -> bool {
    match op {
        Op::Mul {} => true,
        Op::Div {} => {
            let fits = |v: &f64| (1.0..=MOST_DIVISOR).contains(&v.abs());
            matches!(r.ty(s).dtype, DType::F64 | DType::F32)
                && r.tensor(s).is_some_and(|numbers| numbers.to_f64_vec().iter().all(fits))
        }
        _ => false,
    }
}

/// Whether both factors have the dtype of their products: what is moved from one into the other, or out of it, is of that dtype.
fn alike(r: &Rewrites, x: Id, w: Id) -> bool {
    r.ty(x).dtype == r.ty(w).dtype
}

/// The axis of a spread vector, or nothing for a number; `None` where it lies along several axes.
fn single_axis(s: &Spread) -> Option<Option<usize>> {
    match s.axes.as_slice() {
        [] => Some(None),
        [a] => Some(Some(*a)),
        _ => None,
    }
}

fn fold_scale_into_conv(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let &[product, s] = m.children else { return none() };
    let mut equals = Equals::new();
    for spread in spreads(r, s) {
        if !scales(r, m.op, spread.inner) {
            continue;
        }
        for (op, kids) in r.find_sole(product, |o| matches!(o, Op::Conv { .. })) {
            let (Op::Conv { layout, .. }, &[x, w]) = (&*op, &kids[..]) else { continue };
            let rank = r.ty(w).rank();
            let (channel, _, output, _, _) = conv_dims(*layout, rank);
            let axes = match single_axis(&spread) {
                Some(None) => vec![],
                Some(Some(a)) if a == channel => vec![output],
                _ => continue,
            };
            if r.is_constant(w) && !r.is_constant(x) && alike(r, x, w) {
                let w = scaled_weight(r, m.op, w, spread.inner, axes)?;
                equals.push(r.add((*op).clone(), &[x, w])?);
            }
        }
    }
    Ok(equals)
}

fn fold_input_scale_into_conv(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let (Op::Conv { groups, layout, .. }, &[scaled, w]) = (m.op, m.children) else { return none() };
    if !r.is_constant(w) || r.is_constant(scaled) || !alike(r, scaled, w) {
        return none();
    }
    let (channel, _, _, input, _) = conv_dims(*layout, r.ty(w).rank());
    let mut equals = Equals::new();
    for (scaling, kids) in r.find_sole(scaled, is_scaling) {
        for spread in spreads(r, kids[1]) {
            if !scales(r, &scaling, spread.inner) {
                continue;
            }
            let axes = match single_axis(&spread) {
                Some(None) => vec![],
                Some(Some(a)) if a == channel && *groups == 1 => vec![input],
                _ => continue,
            };
            let w = scaled_weight(r, &scaling, w, spread.inner, axes)?;
            equals.push(r.add(m.op.clone(), &[kids[0], w])?);
        }
    }
    Ok(equals)
}

fn fold_input_shift_into_conv(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let (Op::Conv { padding, lhs_dilation, groups: 1, layout, .. }, &[shifted, w]) = (m.op, m.children) else {
        return none();
    };
    // Zeros that padding or dilation puts in are not shifted.
    let bare = padding.iter().all(|p| *p == Padding::NONE) && lhs_dilation.iter().all(|&d| d == 1);
    if !bare || !r.is_constant(w) || r.is_constant(shifted) || !alike(r, shifted, w) {
        return none();
    }
    let rank = r.ty(w).rank();
    let (channel, _, output, input, _) = conv_dims(*layout, rank);
    let mut equals = Equals::new();
    for (_, kids) in r.find_sole(shifted, |o| matches!(o, Op::Add {})) {
        for spread in spreads(r, kids[1]) {
            let axes = match single_axis(&spread) {
                Some(None) => vec![],
                Some(Some(a)) if a == channel => vec![input],
                _ => continue,
            };
            let moved = scaled_weight(r, &Op::Mul {}, w, spread.inner, axes)?;
            let axes = (0..rank).filter(|&a| a != output).collect();
            let bias = r.add(Op::Reduce { axes, reducer: Reducer::Sum }, &[moved])?;
            let y = r.add(m.op.clone(), &[kids[0], w])?;
            let dims = r.dims(y);
            let bias = broadcast(r, bias, &dims, vec![channel])?;
            equals.push(r.add(Op::Add {}, &[y, bias])?);
        }
    }
    Ok(equals)
}

fn fold_scale_into_dot(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let &[product, s] = m.children else { return none() };
    let mut equals = Equals::new();
    for spread in spreads(r, s) {
        if !scales(r, m.op, spread.inner) {
            continue;
        }
        for (op, kids) in r.find_sole(product, |o| matches!(o, Op::Dot { .. })) {
            let (Op::Dot { lhs_batch, rhs_batch, lhs_contract, rhs_contract }, &[x, y]) = (&*op, &kids[..]) else {
                continue;
            };
            if !alike(r, x, y) {
                continue;
            }
            let free = dot_dims(r.ty(x).rank(), r.ty(y).rank(), (lhs_batch, lhs_contract), (rhs_batch, rhs_contract));
            // Which axis of each operand the result's axes are.
            let (batch, left) = (lhs_batch.len(), free.lhs_free.len());
            let in_lhs = |a: usize| if a < batch { lhs_batch.get(a) } else { free.lhs_free.get(a - batch) }.copied();
            let in_rhs = |a: usize| {
                if a < batch {
                    rhs_batch.get(a).copied()
                } else {
                    free.rhs_free.get(a.checked_sub(batch + left)?).copied()
                }
            };
            if r.is_constant(y) && !r.is_constant(x) {
                if let Some(axes) = spread.axes.iter().map(|&a| in_rhs(a)).collect::<Option<Vec<_>>>() {
                    let y = scaled_weight(r, m.op, y, spread.inner, axes)?;
                    equals.push(r.add((*op).clone(), &[x, y])?);
                }
            } else if r.is_constant(x)
                && !r.is_constant(y)
                && let Some(axes) = spread.axes.iter().map(|&a| in_lhs(a)).collect::<Option<Vec<_>>>()
            {
                let x = scaled_weight(r, m.op, x, spread.inner, axes)?;
                equals.push(r.add((*op).clone(), &[x, y])?);
            }
        }
    }
    Ok(equals)
}

fn fold_input_scale_into_dot(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let (Op::Dot { lhs_contract, rhs_contract, .. }, &[scaled, w]) = (m.op, m.children) else { return none() };
    if !r.is_constant(w) || r.is_constant(scaled) || !alike(r, scaled, w) {
        return none();
    }
    let mut equals = Equals::new();
    for (scaling, kids) in r.find_sole(scaled, is_scaling) {
        for spread in spreads(r, kids[1]) {
            if !scales(r, &scaling, spread.inner) {
                continue;
            }
            let place = |a: &usize| lhs_contract.iter().position(|b| b == a).map(|i| rhs_contract[i]);
            let Some(axes) = spread.axes.iter().map(place).collect::<Option<Vec<_>>>() else { continue };
            let w = scaled_weight(r, &scaling, w, spread.inner, axes)?;
            equals.push(r.add(m.op.clone(), &[kids[0], w])?);
        }
    }
    Ok(equals)
}

/// The one contracted axis of each operand of a product without batch axes, where the right one is a matrix.
fn matrix_axes(r: &Rewrites, op: &Op, rhs: Id) -> Option<(usize, usize)> {
    match op {
        Op::Dot { lhs_batch, lhs_contract, rhs_contract, .. } if lhs_batch.is_empty() && r.ty(rhs).rank() == 2 => {
            match (lhs_contract.as_slice(), rhs_contract.as_slice()) {
                (&[l], &[k]) => Some((l, k)),
                _ => None,
            }
        }
        _ => None,
    }
}

fn fold_input_shift_into_dot(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let &[shifted, w] = m.children else { return none() };
    let Some((l, k)) = matrix_axes(r, m.op, w) else { return none() };
    if !r.is_constant(w) || r.is_constant(shifted) || !alike(r, shifted, w) {
        return none();
    }
    let mut equals = Equals::new();
    for (_, kids) in r.find_sole(shifted, |o| matches!(o, Op::Add {})) {
        for spread in spreads(r, kids[1]) {
            let axes = match single_axis(&spread) {
                Some(None) => vec![],
                Some(Some(a)) if a == l => vec![k],
                _ => continue,
            };
            let moved = scaled_weight(r, &Op::Mul {}, w, spread.inner, axes)?;
            let bias = r.add(Op::Reduce { axes: vec![k], reducer: Reducer::Sum }, &[moved])?;
            let y = r.add(m.op.clone(), &[kids[0], w])?;
            let dims = r.dims(y);
            let bias = broadcast(r, bias, &dims, vec![dims.len() - 1])?;
            equals.push(r.add(Op::Add {}, &[y, bias])?);
        }
    }
    Ok(equals)
}

fn merge_constant_products(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let &[inner, b] = m.children else { return none() };
    let Some((l, k)) = matrix_axes(r, m.op, b) else { return none() };
    if !r.is_constant(b) || r.is_constant(inner) || l + 1 != r.ty(inner).rank() {
        return none();
    }
    for (op, kids) in r.find_sole(inner, |o| matches!(o, Op::Dot { .. })) {
        let (x, a) = (kids[0], kids[1]);
        let Some((_, ka)) = matrix_axes(r, &op, a) else { continue };
        if !r.is_constant(a) || r.is_constant(x) || !alike(r, x, a) || !alike(r, inner, b) {
            continue;
        }
        let extent = |id: Id, axis: usize| r.ty(id).dims[axis].fixed().unwrap_or(0);
        let (inputs, middle, outputs) = (extent(a, ka), extent(a, 1 - ka), extent(b, 1 - k));
        let fewer = inputs * outputs < middle * (inputs + outputs);
        if !fewer || inputs.saturating_mul(middle).saturating_mul(outputs) > FOLDED_WORK {
            continue;
        }
        let dot = |lhs: usize, rhs: usize| Op::Dot {
            lhs_batch: vec![],
            rhs_batch: vec![],
            lhs_contract: vec![lhs],
            rhs_contract: vec![rhs],
        };
        let product = r.add(dot(1 - ka, k), &[a, b])?;
        let Op::Dot { lhs_contract, .. } = &*op else { continue };
        return one(r.add(dot(lhs_contract[0], 0), &[x, product])?);
    }
    none()
}

fn conv_of_one_place_as_dot(r: &mut Rewrites, m: &Matched<'_>) -> Result<Equals, PassFailure> {
    let (Op::Conv { padding, lhs_dilation, rhs_dilation, groups: 1, layout, .. }, &[x, w]) = (m.op, m.children) else {
        return none();
    };
    let bare = padding.iter().all(|p| *p == Padding::NONE)
        && lhs_dilation.iter().chain(rhs_dilation).all(|&d| d == 1)
        && *layout == kiln_ir::attribute::ConvLayout::ChannelsFirst;
    let (Some(from), Some(window)) = (r.ty(x).static_dims(), r.ty(w).static_dims()) else { return none() };
    if !bare || from[2..] != window[2..] || !r.is_constant(w) {
        return none();
    }
    let inner: usize = window[1..].iter().product();
    let flat = |rows: usize| Op::Reshape { dims: vec![Dim::Fixed(rows), Dim::Fixed(inner)] };
    let rows = r.add(flat(from[0]), &[x])?;
    let weights = r.add(flat(window[0]), &[w])?;
    let dot = Op::Dot { lhs_batch: vec![], rhs_batch: vec![], lhs_contract: vec![1], rhs_contract: vec![1] };
    let y = r.add(dot, &[rows, weights])?;
    let mut dims = vec![Dim::Fixed(from[0]), Dim::Fixed(window[0])];
    dims.resize(from.len(), Dim::Fixed(1));
    one(r.add(Op::Reshape { dims }, &[y])?)
}
