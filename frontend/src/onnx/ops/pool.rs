//! Pools.

use kiln_ir::attribute::{Extreme, Padding, Reducer};
use kiln_ir::{DType, Op, Tensor};

use super::super::emit::{Operand, fixed};
use super::super::error::{NodeError, Result, invalid, unsupported};
use super::super::node::NodeContext;
use super::Results;
use super::conv::spatial_rank;
use super::index::row_major_strides as row_major;
use super::window::Window;

fn window(n: &NodeContext<'_>, x: &Operand) -> Result<Window> {
    spatial_rank(x, "X")?;
    let kernel = n
        .attributes
        .extents("kernel_shape", 1)?
        .ok_or(NodeError::MissingAttribute { name: "kernel_shape".into(), expected: "the window's extents" })?;
    let ceil = n.attributes.flag("ceil_mode", false)?;
    Window::read(n, kernel, x.dims().get(2..).unwrap_or_default(), ceil)
}

/// The window over all axes: batch and channels each by themselves.
fn reduce(n: &mut NodeContext<'_>, x: &Operand, w: &Window, reducer: Reducer) -> Result<Operand> {
    let all = |list: &[usize]| [&[1, 1], list].concat();
    let op = Op::ReduceWindow {
        window: all(&w.kernel),
        strides: all(&w.strides),
        padding: [&[Padding::NONE; 2], w.reach.as_slice()].concat(),
        dilation: all(&w.dilations),
        reducer,
    };
    n.emit.op(op, &[x])
}

pub(super) fn max_pool(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "X")?;
    let column_major = n.attributes.flag("storage_order", false)?;
    let w = window(n, &x)?;
    let mut results = vec![reduce(n, &x, &w, Reducer::Max)?];
    if n.outputs > 1 {
        results.extend(places_of_maxima(n, &x, &w, column_major)?);
    }
    Ok(results)
}

/// Of each window, the place in the flattened x of its largest element, the first of equals. With `column_major` the spatial axes
/// count from the first on. `None` for windows of so many elements that an axis of all of them would be too much.
fn places_of_maxima(n: &mut NodeContext<'_>, x: &Operand, w: &Window, column_major: bool) -> Result<Option<Operand>> {
    const MOST_ELEMENTS: usize = 1 << 12;
    let taps: usize = w.kernel.iter().fold(1, |n, &k| n.saturating_mul(k));
    // what is less than all of x, so that no window takes its padding for the first of its largest elements
    let (wide, least) = match x.dtype() {
        t if t.is_float() => (t, f64::NEG_INFINITY),
        DType::I8 | DType::U8 => (DType::I32, f64::from(i32::MIN)),
        // a pool takes no other types
        _ => return Ok(None),
    };
    if taps > MOST_ELEMENTS {
        return Ok(None);
    }
    let e = &mut *n.emit;
    let x = &e.convert(x, wide)?;
    let spatial = w.kernel.len();
    let padded = e.pad(x, &[&[Padding::NONE; 2], w.reach.as_slice()].concat(), least)?;
    let windows = [&x.dims()[..2], &w.extents].concat();
    let strides = [&[1, 1], w.strides.as_slice()].concat();
    let single = [&[1], windows.as_slice()].concat();
    // which element of the window each tap is, along each axis
    let steps = row_major(&w.kernel);
    let step = |tap: usize, i: usize| tap / steps[i] % w.kernel[i];
    let mut parts = Vec::with_capacity(taps);
    for tap in 0..taps {
        let start: Vec<usize> = (0..spatial).map(|i| step(tap, i) * w.dilations[i]).collect();
        let limit: Vec<usize> = (0..spatial).map(|i| start[i] + (w.extents[i] - 1) * w.strides[i] + 1).collect();
        let (start, limit) = ([&[0, 0], start.as_slice()].concat(), [&x.dims()[..2], limit.as_slice()].concat());
        let part = e.slice(&padded, &start, &limit, &strides)?;
        parts.push(e.reshape(&part, &single)?);
    }
    let stacked = e.concat(&parts.iter().collect::<Vec<_>>(), 0)?;
    let winner = e.op(Op::ArgReduce { axis: 0, extreme: Extreme::Max }, &[&stacked])?;

    let iota = |axis: usize| Op::Iota { dtype: DType::I64, dims: fixed(&windows), axis };
    let extents = &x.dims()[2..];
    let places: usize = extents.iter().product();
    let mut place = e.op(iota(0), &[])?;
    place = e.with_scalar(Op::Mul {}, &place, x.extent(1) as f64)?;
    let channel = e.op(iota(1), &[])?;
    place = e.add(&place, &channel)?;
    place = e.with_scalar(Op::Mul {}, &place, places as f64)?;
    let rows = row_major(extents);
    let columns = (0..spatial).map(|i| extents[..i].iter().product());
    let strides: Vec<usize> = if column_major { columns.collect() } else { rows };
    for i in 0..spatial {
        let offsets: Vec<i64> =
            (0..taps).map(|tap| (step(tap, i) * w.dilations[i]) as i64 - w.padding[i].low).collect();
        let offset = e.gather(&Operand::integers(&offsets)?, &winner, 0)?;
        let window = e.op(iota(2 + i), &[])?;
        let first = e.with_scalar(Op::Mul {}, &window, w.strides[i] as f64)?;
        let at = e.add(&first, &offset)?;
        // a window of nothing but the least number names its padding first: its first element instead
        let at = e.with_scalar(Op::Maximum {}, &at, 0.0)?;
        let at = e.with_scalar(Op::Minimum {}, &at, extents[i] as f64 - 1.0)?;
        let step = e.with_scalar(Op::Mul {}, &at, strides[i] as f64)?;
        place = e.add(&place, &step)?;
    }
    Ok(Some(place))
}

pub(super) fn average_pool(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "X")?;
    let include_pad = n.attributes.flag("count_include_pad", false)?;
    let w = window(n, &x)?;
    let sum = reduce(n, &x, &w, Reducer::Sum)?;
    let extents = x.dims().get(2..).unwrap_or_default();
    // The counts are a constant of the graph; a window with that many places is not one of a network.
    const MOST_PLACES: usize = 1 << 24;
    if w.extents.iter().try_fold(1usize, |n, &e| n.checked_mul(e)).is_none_or(|n| n > MOST_PLACES) {
        return unsupported(format!("an average pool with {:?} places", w.extents));
    }
    let counts: Vec<Vec<usize>> = (0..extents.len()).map(|i| counts(&w, i, extents, include_pad)).collect();

    let uniform: Option<usize> =
        counts.iter().map(|c| c.windows(2).all(|p| p[0] == p[1]).then(|| c.first().copied().unwrap_or(1))).product();
    if let Some(count) = uniform {
        return Ok(vec![n.emit.with_scalar(Op::Div {}, &sum, count as f64)?]);
    }
    // How many elements each window holds: the product over the axes.
    let dims: Vec<usize> = counts.iter().map(Vec::len).collect();
    n.emit.room_for_constant(x.dtype(), &dims)?;
    let mut products = vec![1.0];
    for axis in &counts {
        products = products.iter().flat_map(|p| axis.iter().map(move |&c| p * c as f64)).collect();
    }
    let count = Operand::known(Tensor::from_f64(x.dtype(), &dims, &products)?);
    Ok(vec![n.emit.div(&sum, &count)?])
}

/// Elements of each window along spatial axis `i` that count: those of the input, or of the input and
/// its stated padding. What `ceil_mode` adds never counts.
fn counts(w: &Window, i: usize, extents: &[usize], include_pad: bool) -> Vec<usize> {
    let at = |list: &[usize]| list.get(i).copied().unwrap_or(1) as i64;
    let padding = w.padding.get(i).copied().unwrap_or_default();
    let (low, high) = if include_pad { (padding.low, padding.high) } else { (0, 0) };
    let range = -low..at(extents) + high;
    let (kernel, dilation) = (at(&w.kernel), at(&w.dilations));
    // First k with start + k · dilation ≥ bound.
    let first = |bound: i64, start: i64| ((bound - start + dilation - 1).div_euclid(dilation)).clamp(0, kernel);
    (0..at(&w.extents))
        .map(|o| {
            let start = o * at(&w.strides) - padding.low;
            let count = first(range.end, start) - first(range.start, start);
            usize::try_from(count).unwrap_or(0).max(1)
        })
        .collect()
}

fn spatial_axes(x: &Operand) -> Result<Vec<usize>> {
    spatial_rank(x, "X").map(|_| (2..x.rank()).collect())
}

pub(super) fn global_average_pool(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "X")?;
    let axes = spatial_axes(&x)?;
    Ok(vec![n.emit.mean_keep(&x, &axes)?])
}

pub(super) fn global_max_pool(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "X")?;
    let axes = spatial_axes(&x)?;
    Ok(vec![n.emit.reduce_keep(&x, &axes, Reducer::Max)?])
}

/// The p-norm of each window.
pub(super) fn lp_pool(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "X")?;
    let p = norm_order(n)?;
    let w = window(n, &x)?;
    let powers = powers(n, &x, p)?;
    let sum = reduce(n, &powers, &w, Reducer::Sum)?;
    Ok(vec![root(n, &sum, p)?])
}

pub(super) fn global_lp_pool(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "X")?;
    let p = norm_order(n)?;
    let axes = spatial_axes(&x)?;
    let powers = powers(n, &x, p)?;
    let sum = n.emit.reduce_keep(&powers, &axes, Reducer::Sum)?;
    Ok(vec![root(n, &sum, p)?])
}

fn norm_order(n: &NodeContext<'_>) -> Result<i64> {
    match n.attributes.int_or("p", 2)? {
        p @ 1.. => Ok(p),
        p => invalid(format!("`p` must be at least 1, found {p}")),
    }
}

fn powers(n: &mut NodeContext<'_>, x: &Operand, p: i64) -> Result<Operand> {
    if p == 2 {
        return n.emit.op(Op::Mul {}, &[x, x]);
    }
    let magnitude = n.emit.op(Op::Abs {}, &[x])?;
    if p == 1 { Ok(magnitude) } else { n.emit.with_scalar(Op::Pow {}, &magnitude, p as f64) }
}

fn root(n: &mut NodeContext<'_>, sum: &Operand, p: i64) -> Result<Operand> {
    match p {
        1 => Ok(sum.clone()),
        2 => n.emit.op(Op::Sqrt {}, &[sum]),
        _ => n.emit.with_scalar(Op::Pow {}, sum, 1.0 / p as f64),
    }
}
