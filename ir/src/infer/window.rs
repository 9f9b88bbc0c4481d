//! Inference of sliding windows.

use super::{Checker, Inferred};
use crate::attribute::{Padding, Reducer};
use crate::dtype::DType;
use crate::types::{Dim, TensorType};

/// Number of window places along an axis: `None` where the dilated window does not fit the padded extent, or a
/// number is out of range.
pub fn window_extent(extent: usize, window: usize, stride: usize, padding: Padding, dilation: usize) -> Option<usize> {
    let padded = i64::try_from(extent).ok()?.checked_add(padding.low)?.checked_add(padding.high)?;
    let span = i64::try_from(window.checked_sub(1)?.checked_mul(dilation)?).ok()?.checked_add(1)?;
    let room = padded.checked_sub(span).filter(|&r| r >= 0)?;
    Some(usize::try_from(room).ok()?.checked_div(stride)? + 1)
}

/// `list`, or `n` times `default` where it is empty.
pub fn filled(list: &[usize], n: usize, default: usize) -> Vec<usize> {
    if list.is_empty() { vec![default; n] } else { list.to_vec() }
}

/// `list`, or `n` times no padding where it is empty.
pub fn padding_or_none(list: &[Padding], n: usize) -> Vec<Padding> {
    if list.is_empty() { vec![Padding::NONE; n] } else { list.to_vec() }
}

fn windows(
    window: &[usize],
    strides: &[usize],
    padding: &[Padding],
    dilation: &[usize],
    x: &TensorType,
    c: &mut Checker,
) -> Option<TensorType> {
    let rank = x.rank();
    let fits = |n: usize| n == rank || n == 0;
    let ok = window.len() == rank && fits(strides.len()) && fits(padding.len()) && fits(dilation.len());
    if !c.check("C1", ok, || {
        format!("{}, {}, {} and {} entries for rank {rank}", window.len(), strides.len(), padding.len(), dilation.len())
    }) {
        return None;
    }
    let (strides, dilation) = (filled(strides, rank, 1), filled(dilation, rank, 1));
    let padding = padding_or_none(padding, rank);
    c.check("C5", x.dtype != DType::Bool, || x.dtype.to_string());
    let mut dims = Vec::with_capacity(rank);
    for axis in 0..rank {
        let (w, s, p, d) = (window[axis], strides[axis], padding[axis], dilation[axis]);
        let shown = || format!("window {w}, stride {s}, padding [{}, {}], dilation {d} at axis {axis}", p.low, p.high);
        if !c.check("C2", w >= 1 && s >= 1 && d >= 1 && p.low >= 0 && p.high >= 0, shown) {
            continue;
        }
        match x.dims[axis].fixed() {
            None => {
                c.check("C4", w == 1 && s == 1 && p == Padding::NONE, shown);
                dims.push(x.dims[axis].clone());
            }
            // No window crosses this axis: an empty batch is as good as another.
            Some(0) if w == 1 && s == 1 && p == Padding::NONE => dims.push(Dim::Fixed(0)),
            Some(n) => {
                let out = window_extent(n, w, s, p, d);
                c.check("C3", out.is_some(), || format!("extent {n}, {}", shown()));
                dims.extend(out.map(Dim::Fixed));
            }
        }
    }
    c.clean().then_some(TensorType { dtype: x.dtype, dims })
}

pub(super) fn reduce_window(
    window: &[usize],
    strides: &[usize],
    padding: &[Padding],
    dilation: &[usize],
    reducer: Reducer,
    t: &[TensorType],
    c: &mut Checker,
) -> Inferred {
    let arithmetic = !matches!(reducer, Reducer::And | Reducer::Or);
    c.check("C6", arithmetic, || reducer.word().to_owned());
    Some(vec![windows(window, strides, padding, dilation, &t[0], c)?])
}

pub(super) fn select_and_scatter(
    window: &[usize],
    strides: &[usize],
    padding: &[Padding],
    t: &[TensorType],
    c: &mut Checker,
) -> Inferred {
    let want = windows(window, strides, padding, &[], &t[0], c)?;
    c.check("C6", t[1] == want, || format!("{}, expected {want}", t[1]));
    Some(vec![t[0].clone()])
}
