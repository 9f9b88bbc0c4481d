//! Moving elements: reshape, transpose, slice, join, repeat.

use kiln_ir::{DType, Tensor};

use super::super::emit::{Operand, axes, axis, joint_dims, set};
use super::super::error::{NodeError, Result, invalid, unsupported};
use super::super::node::NodeContext;
use super::Results;

pub(super) fn transpose(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "data")?;
    let perm = n.attributes.extents("perm", 0)?.unwrap_or_else(|| (0..x.rank()).rev().collect());
    Ok(vec![n.emit.transpose(&x, &perm)?])
}

/// 0 keeps an extent (unless `allowzero`), −1 is what is left over.
pub(super) fn reshape(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "data")?;
    let shape = if n.opset < 5 {
        n.attributes.ints("shape")?.map(<[i64]>::to_vec).unwrap_or_default()
    } else {
        n.required_integers(1, "shape")?
    };
    let allow_zero = n.attributes.flag("allowzero", false)?;
    let dims = reshaped(x.dims(), &shape, allow_zero)?;
    Ok(vec![n.emit.reshape(&x, &dims)?])
}

fn reshaped(from: &[usize], shape: &[i64], allow_zero: bool) -> Result<Vec<usize>> {
    let problem = || NodeError::Invalid(format!("extents {from:?} cannot become {shape:?}"));
    let mut dims = Vec::with_capacity(shape.len());
    let mut left_over = None;
    for (i, &s) in shape.iter().enumerate() {
        dims.push(match s {
            -1 if left_over.is_none() => {
                left_over = Some(i);
                1
            }
            0 if !allow_zero => from.get(i).copied().ok_or_else(problem)?,
            s => usize::try_from(s).map_err(|_| problem())?,
        });
    }
    let count = |dims: &[usize]| dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(problem);
    let (have, want) = (count(from)?, count(&dims)?);
    if let Some(i) = left_over {
        if want == 0 || have % want != 0 {
            return Err(problem());
        }
        set(&mut dims, i, have / want);
    } else if have != want {
        return Err(problem());
    }
    Ok(dims)
}

/// A matrix: the axes before `axis` as rows, the others as columns.
pub(super) fn flatten(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "input")?;
    let at = n.attributes.int_or("axis", 1)?;
    let rank = x.rank() as i64;
    let at = if at < 0 { at + rank } else { at };
    if !(0..=rank).contains(&at) {
        return invalid(format!("axis {at} is out of range for rank {rank}"));
    }
    let (rows, columns) = x.dims().split_at(at as usize);
    let dims = [rows.iter().product(), columns.iter().product()];
    Ok(vec![n.emit.reshape(&x, &dims)?])
}

pub(super) fn squeeze(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "data")?;
    let list = n.integers_since(13, "axes", 1, "axes")?;
    let gone = match list {
        Some(list) => axes(&list, x.rank())?,
        None => (0..x.rank()).filter(|&i| x.extent(i) == 1).collect(),
    };
    if let Some(&i) = gone.iter().find(|&&i| x.extent(i) != 1) {
        return invalid(format!("axis {i} of {:?} has not extent 1", x.dims()));
    }
    let dims: Vec<usize> = x.dims().iter().enumerate().filter(|(i, _)| !gone.contains(i)).map(|(_, &d)| d).collect();
    Ok(vec![n.emit.reshape(&x, &dims)?])
}

pub(super) fn unsqueeze(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "data")?;
    let list = n.integers_since(13, "axes", 1, "axes")?;
    let list = list.ok_or(NodeError::MissingAttribute { name: "axes".into(), expected: "a list of integers" })?;
    let rank = x.rank() + list.len();
    let new = axes(&list, rank)?;
    let mut old = x.dims().iter();
    let dims: Vec<usize> =
        (0..rank).map(|i| if new.contains(&i) { 1 } else { old.next().copied().unwrap_or(1) }).collect();
    Ok(vec![n.emit.reshape(&x, &dims)?])
}

/// Broadcasting in both directions: an extent of 1 in the shape keeps x's.
pub(super) fn expand(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "input")?;
    let shape = n.required_integers(1, "shape")?;
    let dims = joint_dims(x.dims(), &extents(&shape, "extents")?)?;
    Ok(vec![n.emit.broadcast_to(&x, &dims)?])
}

/// A list of extents, called `role`, none negative.
pub(super) fn extents(list: &[i64], role: &str) -> Result<Vec<usize>> {
    list.iter()
        .map(|&d| usize::try_from(d))
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| NodeError::Invalid(format!("{role} must not be negative, found {list:?}")))
}

/// Each axis is split in two, [repeats, extent], of which the first is broadcast.
pub(super) fn tile(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "input")?;
    let repeats = extents(&n.required_integers(1, "repeats")?, "extents")?;
    if repeats.len() != x.rank() {
        return invalid(format!("{} repeats for rank {}", repeats.len(), x.rank()));
    }
    let pairs: Vec<usize> = repeats.iter().zip(x.dims()).flat_map(|(&r, &d)| [r, d]).collect();
    let dims: Vec<usize> = repeats
        .iter()
        .zip(x.dims())
        .map(|(&r, &d)| r.checked_mul(d))
        .collect::<Option<_>>()
        .ok_or_else(|| NodeError::Invalid(format!("repeats {repeats:?} are too large")))?;
    if dims == x.dims() {
        return Ok(vec![x]);
    }
    let places: Vec<usize> = (0..x.rank()).map(|i| 2 * i + 1).collect();
    let wide = n.emit.broadcast(&x, &pairs, &places)?;
    Ok(vec![n.emit.reshape(&wide, &dims)?])
}

pub(super) fn concat(n: &mut NodeContext<'_>) -> Results {
    let parts = n.all_inputs("inputs")?;
    let at = if n.opset < 4 { n.attributes.int_or("axis", 1)? } else { n.attributes.required_int("axis")? };
    let at = axis(at, parts.first().map_or(0, Operand::rank))?;
    let parts: Vec<&Operand> = parts.iter().collect();
    Ok(vec![n.emit.concat(&parts, at)?])
}

/// Parts of stated extents, or as many equal parts as there are results (the last may be smaller).
pub(super) fn split(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "input")?;
    let at = axis(n.attributes.int_or("axis", 0)?, x.rank())?;
    let extent = x.extent(at);
    let sizes = match n.integers_since(13, "split", 1, "split")? {
        Some(sizes) => extents(&sizes, "extents")?,
        None => {
            let parts = if n.opset >= 18 { n.attributes.int("num_outputs")? } else { None };
            let parts = match parts {
                None => n.outputs,
                Some(p) if usize::try_from(p) == Ok(n.outputs) => n.outputs,
                Some(p) => return invalid(format!("`num_outputs` is {p}, but the node has {} results", n.outputs)),
            };
            if parts == 0 || (n.opset < 18 && !extent.is_multiple_of(parts)) {
                return invalid(format!("extent {extent} does not split into {parts} equal parts"));
            }
            let size = extent.div_ceil(parts);
            (0..parts).map(|i| extent.saturating_sub(i * size).min(size)).collect()
        }
    };
    if sizes.len() != n.outputs || sizes.iter().sum::<usize>() != extent {
        return invalid(format!("parts of {sizes:?} for extent {extent} and {} results", n.outputs));
    }
    let mut start = 0;
    sizes
        .iter()
        .map(|&size| {
            let part = n.emit.slice_axis(&x, at, start, start + size);
            start += size;
            part
        })
        .collect()
}

/// Attributes before opset 10, then inputs. A negative step walks back from `start` to just after `end`.
pub(super) fn slice(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "data")?;
    let missing = |name: &str| NodeError::MissingAttribute { name: name.into(), expected: "a list of integers" };
    let starts = n.integers_since(10, "starts", 1, "starts")?.ok_or_else(|| missing("starts"))?;
    let ends = n.integers_since(10, "ends", 2, "ends")?.ok_or_else(|| missing("ends"))?;
    let list = n.integers_since(10, "axes", 3, "axes")?;
    let steps = if n.opset < 10 { None } else { n.integers(4, "steps")? };
    let list = list.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || list.len() != starts.len() || steps.len() != starts.len() {
        return invalid(format!(
            "starts {starts:?}, ends {ends:?}, axes {list:?} and steps {steps:?} differ in length"
        ));
    }
    axes(&list, x.rank())?;
    let (mut start, mut limit, mut stride) = (vec![0; x.rank()], x.dims().to_vec(), vec![1; x.rank()]);
    let mut turned = Vec::new();
    for (i, &at) in list.iter().enumerate() {
        let at = axis(at, x.rank())?;
        let entry = |v: &[i64]| v.get(i).copied().unwrap_or(0);
        let (s, l, step, backwards) = range(entry(&starts), entry(&ends), entry(&steps), x.extent(at))?;
        set(&mut start, at, s);
        set(&mut limit, at, l);
        set(&mut stride, at, step);
        if backwards {
            turned.push(at);
        }
    }
    turned.sort_unstable();
    let turned_x = n.emit.reverse(&x, &turned)?;
    Ok(vec![n.emit.slice(&turned_x, &start, &limit, &stride)?])
}

/// (start, limit, step, whether the axis is reversed first) of one sliced axis.
fn range(start: i64, end: i64, step: i64, extent: usize) -> Result<(usize, usize, usize, bool)> {
    let n = i64::try_from(extent).map_err(|_| NodeError::Invalid(format!("extent {extent} is too large")))?;
    let absolute = |v: i64| if v < 0 { v.saturating_add(n) } else { v };
    let step_size = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
    let (s, l) = match step {
        0 => return invalid("a step of 0"),
        1.. => (absolute(start).clamp(0, n), absolute(end).clamp(0, n)),
        // In the reversed axis, element i is at n − 1 − i.
        _ => {
            let (first, beyond) = (absolute(start).clamp(-1, n - 1), absolute(end).clamp(-1, n - 1));
            (n - 1 - first, n - 1 - beyond)
        }
    };
    // Both are within 0..=n by the clamps.
    let (s, l) = (s as usize, l.max(s) as usize);
    Ok((s, l, step_size, step < 0))
}

/// [N, C, H, W] → [N, C/b², H·b, W·b].
pub(super) fn depth_to_space(n: &mut NodeContext<'_>) -> Results {
    let (x, b) = (n.input(0, "input")?, block_size(n)?);
    let column_first = n.attributes.word("mode", &["DCR", "CRD"])? == "CRD";
    let [batch, channels, height, width] = *x.dims() else {
        return invalid(format!("input must have 4 axes, found {:?}", x.dims()));
    };
    let depth = channels / (b * b);
    if depth * b * b != channels {
        return invalid(format!("{channels} channels do not divide by {b}²"));
    }
    let (split, perm) = if column_first {
        ([batch, depth, b, b, height, width], [0, 1, 4, 2, 5, 3])
    } else {
        ([batch, b, b, depth, height, width], [0, 3, 4, 1, 5, 2])
    };
    let y = n.emit.reshape(&x, &split)?;
    let y = n.emit.transpose(&y, &perm)?;
    Ok(vec![n.emit.reshape(&y, &[batch, depth, height * b, width * b])?])
}

/// [N, C, H, W] → [N, C·b², H/b, W/b].
pub(super) fn space_to_depth(n: &mut NodeContext<'_>) -> Results {
    let (x, b) = (n.input(0, "input")?, block_size(n)?);
    let [batch, channels, height, width] = *x.dims() else {
        return invalid(format!("input must have 4 axes, found {:?}", x.dims()));
    };
    if height % b != 0 || width % b != 0 {
        return invalid(format!("extents {height} × {width} do not divide by {b}"));
    }
    let y = n.emit.reshape(&x, &[batch, channels, height / b, b, width / b, b])?;
    let y = n.emit.transpose(&y, &[0, 3, 5, 1, 2, 4])?;
    Ok(vec![n.emit.reshape(&y, &[batch, channels * b * b, height / b, width / b])?])
}

fn block_size(n: &NodeContext<'_>) -> Result<usize> {
    // More than any image has pixels a side would overflow the products.
    const LARGEST: i64 = 1 << 15;
    let b = n.attributes.required_int("blocksize")?;
    match usize::try_from(b) {
        Ok(size) if (1..=LARGEST).contains(&b) => Ok(size),
        _ => invalid(format!("`blocksize` must be 1 to {LARGEST}, found {b}")),
    }
}

/// The upper or lower triangle of the last two axes; the rest becomes zero.
pub(super) fn triangle(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "input")?;
    let upper = n.attributes.flag("upper", true)?;
    let k = n.integers(1, "k")?.and_then(|k| k.first().copied()).unwrap_or(0);
    let [.., rows, columns] = *x.dims() else { return invalid("input must have at least 2 axes") };
    // A mask larger than this belongs to no network.
    const LARGEST: usize = 1 << 26;
    if rows.checked_mul(columns).is_none_or(|c| c > LARGEST) {
        return unsupported(format!("a triangle of {rows} × {columns}"));
    }
    n.emit.room_for_constant(DType::Bool, &[rows, columns])?;
    let kept = |r: usize, c: usize| {
        let offset = (c as i64 - r as i64).saturating_sub(k);
        if upper { offset >= 0 } else { offset <= 0 }
    };
    let mask: Vec<bool> = (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))).map(|(r, c)| kept(r, c)).collect();
    let mask = Operand::known(Tensor::from_slice(&[rows, columns], &mask)?);
    let zero = Operand::scalar(x.dtype(), 0.0)?;
    if x.dtype() == DType::Bool {
        let op = kiln_ir::Op::And {};
        return Ok(vec![n.emit.binary(op, &x, &mask)?]);
    }
    Ok(vec![n.emit.select(&mask, &x, &zero)?])
}
