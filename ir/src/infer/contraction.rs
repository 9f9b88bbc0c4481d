//! Inference of matrix products and convolutions, and the reading of their attributes that lowering shares.

use super::window::{filled, padding_or_none, window_extent};
use super::{Checker, Inferred, elementwise, show_dims};
use crate::attribute::{ConvLayout, Padding};
use crate::dtype::DType;
use crate::ops::Op;
use crate::scalar::ScalarExpr;
use crate::types::{Dim, TensorType};

/// The axes of a `dot_general` by role; see [`dot_dims`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DotDims {
    /// Axes of lhs that are neither batch nor contracted, in order.
    pub lhs_free: Vec<usize>,
    /// Axes of rhs that are neither batch nor contracted, in order.
    pub rhs_free: Vec<usize>,
}

/// The free axes of a `dot_general` over operands of these ranks.
pub fn dot_dims(
    lhs_rank: usize,
    rhs_rank: usize,
    lhs_used: (&[usize], &[usize]),
    rhs_used: (&[usize], &[usize]),
) -> DotDims {
    let free =
        |rank: usize, (a, b): (&[usize], &[usize])| (0..rank).filter(|i| !a.contains(i) && !b.contains(i)).collect();
    DotDims { lhs_free: free(lhs_rank, lhs_used), rhs_free: free(rhs_rank, rhs_used) }
}

/// The dtype of a sum of products of elements of these dtypes: their own where they are one, i32 of a u8 and an i8. `None`: they
/// are not multiplied.
pub fn sum_dtype(a: DType, b: DType) -> Option<DType> {
    match (a, b) {
        (DType::U8, DType::I8) | (DType::I8, DType::U8) => Some(DType::I32),
        _ => (a == b && a != DType::Bool).then_some(a),
    }
}

pub(super) fn dot(
    lb: &[usize],
    rb: &[usize],
    lc: &[usize],
    rc: &[usize],
    t: &[TensorType],
    c: &mut Checker,
) -> Inferred {
    let (lhs, rhs) = (&t[0], &t[1]);
    let dtype = sum_dtype(lhs.dtype, rhs.dtype);
    c.check("C1", dtype.is_some(), || format!("{} and {}", lhs.dtype, rhs.dtype));
    let proper = |rank: usize, a: &[usize], b: &[usize]| {
        let all = [a, b].concat();
        all.iter().enumerate().all(|(i, x)| *x < rank && !all[..i].contains(x))
    };
    let ok = proper(lhs.rank(), lb, lc) && proper(rhs.rank(), rb, rc);
    if !c.check("C2", ok, || {
        format!("lhs {lb:?} {lc:?} of rank {}, rhs {rb:?} {rc:?} of rank {}", lhs.rank(), rhs.rank())
    }) {
        return None;
    }
    let counts = lb.len() == rb.len() && lc.len() == rc.len();
    if !c.check("C3", counts, || format!("{lb:?} {rb:?} and {lc:?} {rc:?}")) {
        return None;
    }
    for (&a, &b) in lb.iter().zip(rb).chain(lc.iter().zip(rc)) {
        c.check("C3", lhs.dims[a] == rhs.dims[b], || {
            format!("lhs axis {a} of extent {}, rhs axis {b} of extent {}", lhs.dims[a], rhs.dims[b])
        });
    }
    let free = dot_dims(lhs.rank(), rhs.rank(), (lb, lc), (rb, rc));
    let dims = lb
        .iter()
        .chain(&free.lhs_free)
        .map(|&a| lhs.dims[a].clone())
        .chain(free.rhs_free.iter().map(|&a| rhs.dims[a].clone()))
        .collect();
    Some(vec![TensorType { dtype: dtype?, dims }])
}

/// Positions of (x's channel axis, x's first spatial axis, w's output channels, w's input channels, w's first
/// spatial axis) in operands of `rank`.
pub fn conv_dims(layout: ConvLayout, rank: usize) -> (usize, usize, usize, usize, usize) {
    match layout {
        ConvLayout::ChannelsFirst => (1, 2, 0, 1, 2),
        ConvLayout::ChannelsLast => (rank - 1, 1, rank - 1, rank - 2, 0),
    }
}

/// The attributes of a convolution, as its op has them: lists may be empty.
#[derive(Clone, Copy, Debug)]
pub struct ConvAttributes<'a> {
    /// Steps of the window.
    pub strides: &'a [usize],
    /// Zeros around x.
    pub padding: &'a [Padding],
    /// Spread of x.
    pub lhs_dilation: &'a [usize],
    /// Spread of the window.
    pub rhs_dilation: &'a [usize],
    /// Groups.
    pub groups: usize,
    /// Where the channels are.
    pub layout: ConvLayout,
}

/// The attributes of a convolution that have one entry per spatial axis, with the defaults where its op has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvWindow {
    /// Steps of the window.
    pub strides: Vec<usize>,
    /// Zeros around x.
    pub padding: Vec<Padding>,
    /// Spread of x.
    pub lhs_dilation: Vec<usize>,
    /// Spread of the window.
    pub rhs_dilation: Vec<usize>,
}

impl ConvAttributes<'_> {
    /// The lists, each with `n` entries, one per spatial axis.
    pub fn window(&self, n: usize) -> ConvWindow {
        ConvWindow {
            strides: filled(self.strides, n, 1),
            padding: padding_or_none(self.padding, n),
            lhs_dilation: filled(self.lhs_dilation, n, 1),
            rhs_dilation: filled(self.rhs_dilation, n, 1),
        }
    }
}

pub(super) fn conv(a: &ConvAttributes<'_>, t: &[TensorType], c: &mut Checker) -> Inferred {
    let &ConvAttributes { strides, padding, lhs_dilation, rhs_dilation, groups, layout } = a;
    let (x, w) = (&t[0], &t[1]);
    let rank = x.rank();
    let dtype = sum_dtype(x.dtype, w.dtype);
    if !c.check("C1", dtype.is_some() && rank >= 3 && w.rank() == rank, || format!("{x} and {w}")) {
        return None;
    }
    let n = rank - 2;
    let fits = |len: usize| len == 0 || len == n;
    let ok = fits(strides.len()) && fits(padding.len()) && fits(lhs_dilation.len()) && fits(rhs_dilation.len());
    if !c.check("C2", ok, || {
        format!(
            "{}, {}, {} and {} entries for {n} spatial axes",
            strides.len(),
            padding.len(),
            lhs_dilation.len(),
            rhs_dilation.len()
        )
    }) {
        return None;
    }
    let ConvWindow { strides, padding, lhs_dilation, rhs_dilation } = a.window(n);
    let positive = strides.iter().chain(&lhs_dilation).chain(&rhs_dilation).all(|&v| v >= 1) && groups >= 1;
    if !c.check("C3", positive, || {
        format!("strides {strides:?}, dilations {lhs_dilation:?} {rhs_dilation:?}, groups {groups}")
    }) {
        return None;
    }
    let (xc, xs, wk, wc, ws) = conv_dims(layout, rank);
    let fixed = x.dims.iter().enumerate().all(|(i, d)| i == 0 || d.fixed().is_some()) && w.static_dims().is_some();
    if !c.check("C7", fixed, || format!("x {}, w {}: bind the symbols first", show_dims(&x.dims), show_dims(&w.dims))) {
        return None;
    }
    let at = |ty: &TensorType, i: usize| ty.dims[i].fixed().unwrap_or(0);
    let (channels, inputs, outputs) = (at(x, xc), at(w, wc), at(w, wk));
    c.check("C4", Some(channels) == inputs.checked_mul(groups), || {
        format!("{channels} channels, {groups} groups × {inputs}")
    });
    c.check("C5", outputs % groups == 0, || format!("{outputs} output channels, {groups} groups"));
    let mut spatial = Vec::with_capacity(n);
    for i in 0..n {
        let extent = at(x, xs + i);
        let dilated = extent.checked_sub(1).map_or(Some(0), |gaps| gaps.checked_mul(lhs_dilation[i])?.checked_add(1));
        let window = at(w, ws + i);
        let out = dilated.and_then(|d| window_extent(d, window, strides[i], padding[i], rhs_dilation[i]));
        c.check("C6", out.is_some(), || {
            format!(
                "extent {extent}, window {window}, padding [{}, {}], dilations {} and {} at spatial axis {i}",
                padding[i].low, padding[i].high, lhs_dilation[i], rhs_dilation[i]
            )
        });
        spatial.extend(out.map(Dim::Fixed));
    }
    let (batch, out) = (x.dims[0].clone(), Dim::Fixed(outputs));
    let dims = match layout {
        ConvLayout::ChannelsFirst => [vec![batch, out], spatial].concat(),
        ConvLayout::ChannelsLast => [vec![batch], spatial, vec![out]].concat(),
    };
    Some(vec![TensorType { dtype: dtype?, dims }])
}

/// A contraction with an epilogue: `base`'s own inference, then the extras.
pub(super) fn fused(base: &Op, epilogue: &ScalarExpr, t: &[TensorType], c: &mut Checker) -> Inferred {
    let inner = super::infer(base, &t[..2]);
    c.check("C1", inner.is_ok(), || inner.as_ref().err().map(ToString::to_string).unwrap_or_default());
    let result = inner.ok()?.into_iter().next()?;
    for (i, extra) in t[2..].iter().enumerate() {
        let fits = extra.rank() == result.rank()
            && extra.dims.iter().zip(&result.dims).all(|(e, r)| e == r || *e == Dim::Fixed(1));
        c.check("C2", fits, || format!("extra {i} {}, result {}", show_dims(&extra.dims), show_dims(&result.dims)));
    }
    let mut operands = vec![result.clone()];
    operands.extend_from_slice(&t[2..]);
    let dtype = elementwise::expression_type("C3", epilogue, &operands, c)?;
    Some(vec![TensorType { dtype, dims: result.dims }])
}

/// `products` are the two of `op`, which is a `fused_attention`.
pub(super) fn attention(
    op: &Op,
    products: &[Op; 2],
    epilogue: &ScalarExpr,
    t: &[TensorType],
    c: &mut Checker,
) -> Inferred {
    let Op::FusedAttention { q_batch, k_batch, v_batch, q_depth, k_depth, v_keys, .. } = op else { return None };
    let inputs = [("q", q_batch, *q_depth), ("k", k_batch, *k_depth), ("v", v_batch, *v_keys)];
    for ((name, batch, named), ty) in inputs.into_iter().zip(t) {
        c.check("C1", ty.dtype == DType::F32, || format!("{name} is {}", ty.dtype));
        let axes = [batch.as_slice(), &[named]].concat();
        let proper = axes.iter().enumerate().all(|(i, a)| *a < ty.rank() && !axes[..i].contains(a));
        let ok = proper && ty.rank() == axes.len() + 1 && batch.len() == q_batch.len();
        c.check("C2", ok, || format!("{name} has axes {batch:?} and {named} of rank {}", ty.rank()));
    }
    if !c.clean() {
        return None;
    }
    let infer = |product: &Op, operands: &[TensorType], c: &mut Checker| {
        let inner = super::infer(product, operands);
        c.check("C3", inner.is_ok(), || inner.as_ref().err().map(ToString::to_string).unwrap_or_default());
        inner.ok()?.into_iter().next()
    };
    let scores = infer(&products[0], &t[..2], c)?;
    let result = infer(&products[1], &[scores.clone(), t[2].clone()], c)?;
    for (i, extra) in t[3..].iter().enumerate() {
        let fits = extra.rank() == scores.rank()
            && extra.dims.iter().zip(&scores.dims).all(|(e, s)| e == s || *e == Dim::Fixed(1));
        c.check("C4", fits, || format!("extra {i} {}, scores {}", show_dims(&extra.dims), show_dims(&scores.dims)));
    }
    let operands = [&[scores], &t[3..]].concat();
    let dtype = elementwise::expression_type("C5", epilogue, &operands, c)?;
    c.check("C5", dtype == DType::F32, || format!("the epilogue gives {dtype}"));
    Some(vec![result])
}
