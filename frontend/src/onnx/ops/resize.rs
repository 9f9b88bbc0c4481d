//! `Resize` and `Upsample`.
//!
//! Along each axis an output element is a weighted sum of a few input elements whose indices are known
//! at import: one for nearest, two for linear, four for cubic, more where reducing is anti-aliased.
//! Coordinates are worked out in f32, as the reference runtimes do, so that ties fall the same way.

use kiln_ir::{DType, Op, Tensor};

use super::super::emit::{Emitter, Operand, axes, axis, set};
use super::super::error::{NodeError, Result, invalid, unsupported};
use super::super::node::NodeContext;
use super::Results;

/// The interpolation along every axis.
#[derive(Clone, Copy)]
struct Method {
    mode: &'static str,
    nearest: &'static str,
    coordinates: &'static str,
    cubic_a: f32,
    exclude_outside: bool,
    /// Widens linear and cubic filters by the factor of reduction.
    antialias: bool,
}

/// Factors are an attribute before opset 9, then an input.
pub(super) fn upsample(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "X")?;
    let mode = n.attributes.word("mode", &["nearest", "linear", "bilinear"])?;
    let scales = if n.opset < 9 {
        n.attributes.floats("scales")?.map(<[f32]>::to_vec)
    } else {
        n.known(1, "scales")?.map(|t| t.to_f64_vec().into_iter().map(|v| v as f32).collect())
    };
    let Some(scales) = scales else {
        return Err(NodeError::MissingAttribute { name: "scales".into(), expected: "a factor per axis" });
    };
    let mode = if mode == "bilinear" { "linear" } else { mode };
    let dims = scaled(x.dims(), &scales)?;
    let method = Method {
        mode,
        nearest: "simple",
        coordinates: "asymmetric",
        cubic_a: -0.75,
        exclude_outside: false,
        antialias: false,
    };
    Ok(vec![resize_all(n.emit, &x, &dims, &scales, method)?])
}

pub(super) fn resize(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "X")?;
    if n.opset < 11 {
        return upsample(n);
    }
    let a = &n.attributes;
    let method = Method {
        mode: a.word("mode", &["nearest", "linear", "cubic"])?,
        nearest: a.word("nearest_mode", &["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])?,
        coordinates: a.word(
            "coordinate_transformation_mode",
            &[
                "half_pixel",
                "pytorch_half_pixel",
                "align_corners",
                "asymmetric",
                "tf_half_pixel_for_nn",
                "half_pixel_symmetric",
                "tf_crop_and_resize",
            ],
        )?,
        cubic_a: a.float_or("cubic_coeff_a", -0.75)? as f32,
        exclude_outside: a.flag("exclude_outside", false)?,
        antialias: n.opset >= 18 && a.flag("antialias", false)?,
    };
    // Only that mode looks at the region and at what lies outside it.
    let crops = method.coordinates == "tf_crop_and_resize";
    let roi = if crops {
        n.known(1, "roi")?
    } else {
        n.optional(1);
        None
    };
    let extrapolation = a.float_or("extrapolation_value", 0.0)?;
    let picked: Vec<usize> = match if n.opset >= 18 { a.ints("axes")? } else { None } {
        Some(list) => {
            axes(list, x.rank())?;
            list.iter().map(|&at| axis(at, x.rank())).collect::<Result<_>>()?
        }
        None => (0..x.rank()).collect(),
    };
    let policy = if n.opset >= 18 {
        a.word("keep_aspect_ratio_policy", &["stretch", "not_larger", "not_smaller"])?
    } else {
        "stretch"
    };
    let regions = match &roi {
        None if crops => return Err(NodeError::MissingInput { index: 1, role: "roi" }),
        None => vec![None; x.rank()],
        Some(roi) => regions(&roi.to_f64_vec(), &picked, x.rank())?,
    };
    let scales = n.known(2, "scales")?.filter(|t| !t.is_empty());
    let sizes = n.integers(3, "sizes")?.filter(|s| !s.is_empty());
    let (dims, scales) = match (scales, sizes) {
        (Some(scales), None) => {
            let list: Vec<f32> = scales.to_f64_vec().into_iter().map(|v| v as f32).collect();
            let all = spread(&list, &picked, x.rank())?;
            // a factor is of the region, not of the whole axis
            let lengths: Vec<f32> = regions.iter().map(|r| r.map_or(1.0, |(start, end)| end - start)).collect();
            let factors: Vec<f32> = all.iter().zip(&lengths).map(|(s, length)| s * length).collect();
            (scaled(x.dims(), &factors)?, all)
        }
        (None, Some(sizes)) => sized(x.dims(), &sizes, &picked, policy)?,
        _ => return invalid("exactly one of scales and sizes must be given"),
    };
    if crops {
        return Ok(vec![crop_all(n.emit, &x, &dims, &regions, extrapolation, method)?]);
    }
    Ok(vec![resize_all(n.emit, &x, &dims, &scales, method)?])
}

/// The part of an axis that is resized, from and to, as shares of its length.
type Region = Option<(f32, f32)>;

/// The region of each axis of x: starts, then ends, of `picked`; none for the others.
fn regions(roi: &[f64], picked: &[usize], rank: usize) -> Result<Vec<Region>> {
    if roi.len() != 2 * picked.len() {
        return invalid(format!(
            "roi must have a start and an end for each of {} axes, found {}",
            picked.len(),
            roi.len()
        ));
    }
    let (starts, ends) = roi.split_at(picked.len());
    let mut all = vec![None; rank];
    for ((&at, &start), &end) in picked.iter().zip(starts).zip(ends) {
        if let Some(slot) = all.get_mut(at) {
            *slot = Some((start as f32, end as f32));
        }
    }
    Ok(all)
}

/// Resizes regions; what is outside the input becomes `extrapolation`.
fn crop_all(
    e: &mut Emitter,
    x: &Operand,
    dims: &[usize],
    regions: &[Region],
    extrapolation: f64,
    method: Method,
) -> Result<Operand> {
    let mut y = x.clone();
    let mut outside: Option<Operand> = None;
    for (at, (&to, region)) in dims.iter().zip(regions).enumerate() {
        let from = x.extent(at);
        let Some((start, end)) = *region else { continue };
        if to == 0 || from == 0 {
            return invalid(format!("cannot resize extent {from} to {to}"));
        }
        let (last, steps) = (from as f32 - 1.0, to as f32 - 1.0);
        let place = |i: usize| match to {
            1 => 0.5 * (start + end) * last,
            _ => start * last + i as f32 * (end - start) * last / steps,
        };
        let places: Vec<f32> = (0..to).map(place).collect();
        // a filter is widened by how much of the input an element of the output stands for
        let scale = to as f32 / (from as f32 * (end - start).abs());
        y = along(e, &y, at, to, &taps(&places, from, scale, method)?)?;
        let beyond: Vec<bool> = places.iter().map(|&v| !(0.0..=last).contains(&v)).collect();
        if beyond.contains(&true) {
            e.room_for_constant(DType::Bool, &[to])?;
            let line = Operand::known(Tensor::from_slice(&[to], &beyond)?);
            let line = e.broadcast(&line, dims, &[at])?;
            outside = Some(match outside {
                None => line,
                Some(so_far) => e.binary(Op::Or {}, &so_far, &line)?,
            });
        }
    }
    let Some(outside) = outside else { return Ok(y) };
    let value = Operand::scalar(x.dtype(), extrapolation)?;
    e.select(&outside, &value, &y)
}

/// One factor per axis of x: those given for `picked`, 1 for the others.
fn spread(list: &[f32], picked: &[usize], rank: usize) -> Result<Vec<f32>> {
    if list.len() != picked.len() {
        return invalid(format!("{} scales for {} axes", list.len(), picked.len()));
    }
    let mut all = vec![1.0; rank];
    for (&at, &s) in picked.iter().zip(list) {
        if let Some(slot) = all.get_mut(at) {
            *slot = s;
        }
    }
    Ok(all)
}

/// Extents scaled and rounded down.
fn scaled(dims: &[usize], scales: &[f32]) -> Result<Vec<usize>> {
    if scales.len() != dims.len() {
        return invalid(format!("{} scales for rank {}", scales.len(), dims.len()));
    }
    dims.iter()
        .zip(scales)
        .map(|(&d, &s)| {
            let out = (d as f32 * s).floor();
            if s > 0.0 && (0.0..MOST).contains(&out) {
                Ok(out as usize)
            } else {
                invalid(format!("extent {d} scaled by {s}"))
            }
        })
        .collect()
}

/// Largest extent of a resized axis: its indices are constants of the graph.
const MOST: f32 = (1u64 << 24) as f32;

/// Extents and factors from sizes; the policy keeps the aspect by using one factor for all axes.
fn sized(dims: &[usize], sizes: &[i64], picked: &[usize], policy: &str) -> Result<(Vec<usize>, Vec<f32>)> {
    if sizes.len() != picked.len() || sizes.iter().any(|&s| s < 1 || s as f32 > MOST) {
        return invalid(format!("sizes {sizes:?} for {} axes", picked.len()));
    }
    let (mut out, mut scales) = (dims.to_vec(), vec![1.0f32; dims.len()]);
    let at = |i: usize| dims.get(i).copied().unwrap_or(1).max(1) as f32;
    let factors = picked.iter().zip(sizes).map(|(&i, &s)| s as f32 / at(i));
    let common = match policy {
        "not_larger" => Some(factors.clone().fold(f32::INFINITY, f32::min)),
        "not_smaller" => Some(factors.clone().fold(0.0, f32::max)),
        _ => None,
    };
    for ((&i, &size), factor) in picked.iter().zip(sizes).zip(factors) {
        let (extent, scale) = match common {
            None => (size as usize, factor),
            Some(c) => ((c * at(i)).round() as usize, c),
        };
        set(&mut out, i, extent);
        if let Some(s) = scales.get_mut(i) {
            *s = scale;
        }
    }
    Ok((out, scales))
}

fn resize_all(e: &mut Emitter, x: &Operand, dims: &[usize], scales: &[f32], method: Method) -> Result<Operand> {
    let mut y = x.clone();
    for (at, (&to, &scale)) in dims.iter().zip(scales).enumerate() {
        let from = x.extent(at);
        if to == 0 || from == 0 {
            return invalid(format!("cannot resize extent {from} to {to}"));
        }
        // Scaling by exactly 1 keeps an element whatever the rounding would say of its coordinate.
        let kept = method.mode == "nearest" && from == to && scale == 1.0;
        let place = |i: usize| if kept { i as f32 } else { coordinate(i, from, to, scale, method.coordinates) };
        let places: Vec<f32> = (0..to).map(place).collect();
        let taps = taps(&places, from, scale, method)?;
        y = along(e, &y, at, to, &taps)?;
    }
    Ok(y)
}

/// One input index and weight for every output element.
struct Tap {
    indices: Vec<usize>,
    weights: Vec<f32>,
}

/// Where output element `i` lies in the input.
fn coordinate(i: usize, from: usize, to: usize, scale: f32, mode: &str) -> f32 {
    let (x, from, to) = (i as f32, from as f32, to as f32);
    match mode {
        "asymmetric" => x / scale,
        "align_corners" => {
            if to > 1.0 {
                x * (from - 1.0) / (to - 1.0)
            } else {
                0.0
            }
        }
        "pytorch_half_pixel" => {
            if to > 1.0 {
                (x + 0.5) / scale - 0.5
            } else {
                0.0
            }
        }
        "tf_half_pixel_for_nn" => (x + 0.5) / scale,
        "half_pixel_symmetric" => {
            // Centres the output on the input where scaling rounded its extent.
            let adjustment = to / (scale * from);
            from / 2.0 * (1.0 - adjustment) + (x + 0.5) / scale - 0.5
        }
        _ => (x + 0.5) / scale - 0.5,
    }
}

/// Most elements that an antialiasing filter takes in for all results along an axis.
const MOST_FILTERED: usize = 1 << 26;

/// The taps for output elements that lie at `places` in an input of extent `from`.
fn taps(places: &[f32], from: usize, scale: f32, method: Method) -> Result<Vec<Tap>> {
    let to = places.len();
    let clamp = |v: f32| v.clamp(0.0, (from - 1) as f32) as usize;
    if method.antialias && scale < 1.0 && method.mode != "nearest" {
        if places.len() as f64 / f64::from(scale) > MOST_FILTERED as f64 {
            return unsupported(format!(
                "antialias where {} elements take {} each (up to {MOST_FILTERED} in all)",
                places.len(),
                1.0 / scale
            ));
        }
        return Ok(filtered(places, from, method, scale));
    }
    Ok(match method.mode {
        "nearest" => {
            let round = |v: f32| match method.nearest {
                // Before opset 11: the nearest element not beyond the coordinate when enlarging, not
                // before it when reducing.
                "simple" if scale < 1.0 => v.ceil(),
                "floor" | "simple" => v.floor(),
                "ceil" => v.ceil(),
                "round_prefer_ceil" => (v + 0.5).floor(),
                _ => (v - 0.5).ceil(),
            };
            let indices = places.iter().map(|&v| clamp(round(v)));
            vec![Tap { indices: indices.collect(), weights: vec![1.0; to] }]
        }
        "linear" => {
            let inside: Vec<f32> = places.iter().map(|v| v.clamp(0.0, (from - 1) as f32)).collect();
            let low: Vec<usize> = inside.iter().map(|&v| v as usize).collect();
            let high: Vec<usize> = low.iter().map(|&i| (i + 1).min(from - 1)).collect();
            let share: Vec<f32> = inside.iter().zip(&low).map(|(&v, &i)| v - i as f32).collect();
            vec![
                Tap { indices: low, weights: share.iter().map(|s| 1.0 - s).collect() },
                Tap { indices: high, weights: share },
            ]
        }
        _ => filtered(places, from, method, 1.0),
    })
}

/// The filter of a method at distance `t`: linear, or cubic convolution (Keys 1981) with parameter `a`.
fn weight(method: Method, t: f32) -> f32 {
    let (t, a) = (t.abs(), method.cubic_a);
    if method.mode == "linear" {
        (1.0 - t).max(0.0)
    } else if t <= 1.0 {
        ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0
    } else if t < 2.0 {
        ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a
    } else {
        0.0
    }
}

/// Weighted sums over the filter's support, which `scale` < 1 widens. Beyond the border the border's element
/// is taken, or, with `exclude_outside`, the weights inside share its weight.
fn filtered(places: &[f32], from: usize, method: Method, scale: f32) -> Vec<Tap> {
    let support = if method.mode == "linear" { 1.0 } else { 2.0 };
    // Elements before and after ⌊place⌋ that the filter can reach.
    let before = (support / scale).ceil() as i32 - 1;
    let offsets = -before..=before + 1;
    let mut taps: Vec<Tap> = offsets.clone().map(|_| Tap { indices: Vec::new(), weights: Vec::new() }).collect();
    for &place in places {
        let base = place.floor();
        let at = |k: i32| base + k as f32;
        let inside = |k: i32| at(k) >= 0.0 && at(k) <= (from - 1) as f32;
        let counts = |k: i32| inside(k) || !method.exclude_outside;
        let raw = |k: i32| if counts(k) { weight(method, (place - at(k)) * scale) } else { 0.0 };
        let total: f32 = offsets.clone().map(raw).sum();
        for (tap, k) in taps.iter_mut().zip(offsets.clone()) {
            tap.indices.push(at(k).clamp(0.0, (from - 1) as f32) as usize);
            tap.weights.push(raw(k) / total);
        }
    }
    taps
}

/// Applies the taps along one axis.
fn along(e: &mut Emitter, x: &Operand, at: usize, to: usize, taps: &[Tap]) -> Result<Operand> {
    let used: Vec<&Tap> = taps.iter().filter(|t| t.weights.iter().any(|&w| w != 0.0)).collect();
    if used.len() > MOST_TAPS {
        return by_matrix(e, x, at, to, &used);
    }
    let mut sum: Option<Operand> = None;
    for tap in used {
        let mut term = pick(e, x, at, to, &tap.indices)?;
        if tap.weights.iter().any(|&w| w != 1.0) {
            e.room_for_constant(x.dtype(), &[to])?;
            let weights: Vec<f64> = tap.weights.iter().map(|&w| f64::from(w)).collect();
            let weights = Operand::known(Tensor::from_f64(x.dtype(), &[to], &weights)?);
            let weights = e.broadcast(&weights, term.dims(), &[at])?;
            term = e.op(Op::Mul {}, &[&term, &weights])?;
        }
        sum = Some(match sum {
            None => term,
            Some(so_far) => e.add(&so_far, &term)?,
        });
    }
    sum.map_or_else(|| invalid("all weights are zero"), Ok)
}

/// With more taps than this a product with the matrix of weights is less work than a gather for each.
const MOST_TAPS: usize = 4;

/// The taps as a matrix [to, from], multiplied into axis `at`.
fn by_matrix(e: &mut Emitter, x: &Operand, at: usize, to: usize, taps: &[&Tap]) -> Result<Operand> {
    let from = x.extent(at);
    if to.checked_mul(from).is_none_or(|n| n > MOST as usize) {
        return unsupported(format!("anti-aliased resizing of extent {from} to {to}"));
    }
    e.room_for_constant(x.dtype(), &[to, from])?;
    let mut matrix = vec![0.0; to * from];
    for tap in taps {
        for (row, (&index, &w)) in matrix.chunks_exact_mut(from).zip(tap.indices.iter().zip(&tap.weights)) {
            if let Some(entry) = row.get_mut(index) {
                *entry += f64::from(w);
            }
        }
    }
    let matrix = Operand::known(Tensor::from_f64(x.dtype(), &[to, from], &matrix)?);
    let op = Op::Dot { lhs_batch: Vec::new(), rhs_batch: Vec::new(), lhs_contract: vec![at], rhs_contract: vec![1] };
    // The product has the new axis last.
    let y = e.op(op, &[x, &matrix])?;
    let last = x.rank() - 1;
    let perm: Vec<usize> = (0..x.rank())
        .map(|i| {
            if i < at {
                i
            } else if i == at {
                last
            } else {
                i - 1
            }
        })
        .collect();
    e.transpose(&y, &perm)
}

/// Elements `indices` along axis `at`. Whole factors repeat by broadcasting, which fuses; the rest gathers.
fn pick(e: &mut Emitter, x: &Operand, at: usize, to: usize, indices: &[usize]) -> Result<Operand> {
    let from = x.extent(at);
    if to == from && indices.iter().copied().eq(0..from) {
        return Ok(x.clone());
    }
    let factor = to / from;
    if factor * from == to && indices.iter().enumerate().all(|(i, &index)| index == i / factor) {
        let mut wide = x.dims().to_vec();
        wide.insert(at + 1, factor);
        let places: Vec<usize> = (0..wide.len()).filter(|&i| i != at + 1).collect();
        let repeated = e.broadcast(x, &wide, &places)?;
        let mut dims = x.dims().to_vec();
        set(&mut dims, at, to);
        return e.reshape(&repeated, &dims);
    }
    e.room_for_constant(DType::I64, &[to])?;
    let indices: Vec<i64> = indices.iter().map(|&i| i as i64).collect();
    let indices = Operand::integers(&indices)?;
    e.gather(x, &indices, at)
}
