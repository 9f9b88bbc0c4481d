//! `Pad`.

use kiln_ir::attribute::Padding;

use super::super::emit::{Emitter, Operand, axes, axis, set};
use super::super::error::{NodeError, Result, invalid};
use super::super::node::NodeContext;
use super::Results;

/// `pads` and the value are attributes before opset 11, then inputs. Negative padding crops.
pub(super) fn pad(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "data")?;
    let name = if n.opset < 2 { "paddings" } else { "pads" };
    let pads = n
        .integers_since(11, name, 1, "pads")?
        .ok_or(NodeError::MissingAttribute { name: name.into(), expected: "a list of integers" })?;
    let value = if n.opset < 11 {
        n.attributes.float_or("value", 0.0)?
    } else {
        match n.known(2, "constant_value")? {
            None => 0.0,
            Some(t) => match t.to_f64_vec().as_slice() {
                [] => 0.0,
                [one] => *one,
                _ => return invalid(format!("the value to pad with must be a scalar, found {t:?}")),
            },
        }
    };
    let list = if n.opset >= 18 { n.integers(3, "axes")? } else { None };
    let mode = n.attributes.word("mode", &["constant", "reflect", "edge", "wrap"])?;
    let padding = per_axis(&pads, list.as_deref(), x.rank())?;

    let e = &mut *n.emit;
    let x = crop(e, &x, &padding)?;
    let grown: Vec<Padding> = padding.iter().map(|p| Padding { low: p.low.max(0), high: p.high.max(0) }).collect();
    if mode == "constant" {
        return Ok(vec![e.pad(&x, &grown, value)?]);
    }
    let mut y = x;
    for (at, p) in grown.iter().enumerate() {
        y = extend(e, &y, at, *p, mode)?;
    }
    Ok(vec![y])
}

/// Crops or pads with zeros around the middle; of an odd difference the end gets more.
pub(super) fn center_crop_pad(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "input_data")?;
    let shape = super::movement::extents(&n.required_integers(1, "shape")?, "extents")?;
    let places = match n.attributes.ints("axes")? {
        Some(list) => {
            axes(list, x.rank())?;
            list.iter().map(|&at| axis(at, x.rank())).collect::<Result<Vec<usize>>>()?
        }
        None => (0..x.rank()).collect(),
    };
    if shape.len() != places.len() {
        return invalid(format!("{} extents for {} axes", shape.len(), places.len()));
    }
    let (mut start, mut limit) = (vec![0; x.rank()], x.dims().to_vec());
    let mut padding = vec![Padding::NONE; x.rank()];
    for (&at, &to) in places.iter().zip(&shape) {
        let from = x.extent(at);
        if to <= from {
            set(&mut start, at, (from - to) / 2);
            set(&mut limit, at, (from - to) / 2 + to);
        } else if let Some(p) = padding.get_mut(at) {
            let more = (to - from) as i64;
            *p = Padding { low: more / 2, high: more - more / 2 };
        }
    }
    let cropped = n.emit.slice(&x, &start, &limit, &[])?;
    Ok(vec![n.emit.pad(&cropped, &padding, 0.0)?])
}

/// The padding of every axis, from all beginnings and then all ends of `list`'s axes.
fn per_axis(pads: &[i64], list: Option<&[i64]>, rank: usize) -> Result<Vec<Padding>> {
    let all: Vec<i64>;
    let list = match list {
        Some(list) => list,
        None => {
            all = (0..rank as i64).collect();
            &all
        }
    };
    axes(list, rank)?;
    if pads.len() != 2 * list.len() {
        return invalid(format!("{} entries in `pads` for {} axes", pads.len(), list.len()));
    }
    let (low, high) = pads.split_at(list.len());
    let mut padding = vec![Padding::NONE; rank];
    for ((&at, &low), &high) in list.iter().zip(low).zip(high) {
        if let Some(p) = padding.get_mut(axis(at, rank)?) {
            *p = Padding { low, high };
        }
    }
    Ok(padding)
}

fn crop(e: &mut Emitter, x: &Operand, padding: &[Padding]) -> Result<Operand> {
    let removed = |p: i64| usize::try_from(p.min(0).unsigned_abs()).unwrap_or(usize::MAX);
    let start: Vec<usize> = padding.iter().map(|p| removed(p.low)).collect();
    let limit: Option<Vec<usize>> =
        x.dims().iter().zip(padding).map(|(&d, p)| d.checked_sub(removed(p.high))).collect();
    match limit {
        Some(limit) if start.iter().zip(&limit).all(|(s, l)| s <= l) => e.slice(x, &start, &limit, &[]),
        _ => invalid(format!("padding {padding:?} removes more than extents {:?} have", x.dims())),
    }
}

/// Surrounds one axis with what `mode` says.
fn extend(e: &mut Emitter, x: &Operand, at: usize, p: Padding, mode: &str) -> Result<Operand> {
    if p == Padding::NONE {
        return Ok(x.clone());
    }
    let extent = x.extent(at);
    let (low, high) = (p.low as usize, p.high as usize);
    let most = match mode {
        "reflect" => extent.saturating_sub(1),
        "wrap" => extent,
        _ if extent == 0 => 0,
        _ => usize::MAX,
    };
    if low > most || high > most {
        return invalid(format!("mode `{mode}` cannot pad an axis of extent {extent} by {low} and {high}"));
    }
    let (before, after) = match mode {
        "reflect" => {
            let before = e.slice_axis(x, at, 1, 1 + low)?;
            let after = e.slice_axis(x, at, extent - 1 - high, extent - 1)?;
            (e.reverse(&before, &[at])?, e.reverse(&after, &[at])?)
        }
        "wrap" => (e.slice_axis(x, at, extent - low, extent)?, e.slice_axis(x, at, 0, high)?),
        _ => {
            let (first, last) = (e.slice_axis(x, at, 0, 1)?, e.slice_axis(x, at, extent - 1, extent)?);
            (repeat(e, &first, at, low)?, repeat(e, &last, at, high)?)
        }
    };
    let parts: Vec<&Operand> =
        [(&before, low), (x, extent), (&after, high)].into_iter().filter(|(_, n)| *n > 0).map(|(o, _)| o).collect();
    e.concat(&parts, at)
}

/// An axis of extent 1 repeated `n` times.
fn repeat(e: &mut Emitter, x: &Operand, at: usize, n: usize) -> Result<Operand> {
    let mut dims = x.dims().to_vec();
    set(&mut dims, at, n);
    e.broadcast_to(x, &dims)
}
