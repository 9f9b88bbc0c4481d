//! Reading and writing by index.

use kiln_ir::attribute::ScatterMode;
use kiln_ir::{DType, Element, Op, Tensor};

use super::super::emit::{Emitter, Operand, axis, fixed};
use super::super::error::{NodeError, Result, invalid};
use super::super::node::NodeContext;
use super::Results;

/// Indices counted from the end become counted from the start; i64.
pub(super) fn from_start(e: &mut Emitter, indices: &Operand, extent: usize) -> Result<Operand> {
    let indices = e.convert(indices, DType::I64)?;
    if let Some(known) = indices.tensor() {
        let n = extent as i64;
        // They may be as many as the file holds, so they are looked at where they are, and copied only to be changed.
        let list = || known.bytes().chunks_exact(DType::I64.size()).map(i64::read);
        if let Some(bad) = list().find(|&i| i < -n || i >= n) {
            return invalid(format!("index {bad} is out of range for extent {extent}"));
        }
        if list().all(|i| i >= 0) {
            return Ok(indices.clone());
        }
        e.room_for_constant(DType::I64, known.dims())?;
        let counted: Vec<i64> = list().map(|i| if i < 0 { i + n } else { i }).collect();
        return Ok(Operand::known(Tensor::from_slice(known.dims(), &counted)?));
    }
    let negative = e.with_scalar(Op::Less {}, &indices, 0.0)?;
    let shifted = e.with_scalar(Op::Add {}, &indices, extent as f64)?;
    e.select(&negative, &shifted, &indices)
}

pub(super) fn gather(n: &mut NodeContext<'_>) -> Results {
    let (x, indices) = (n.input(0, "data")?, n.input(1, "indices")?);
    let at = axis(n.attributes.int_or("axis", 0)?, x.rank())?;
    let indices = from_start(n.emit, &indices, x.extent(at))?;
    Ok(vec![n.emit.gather(&x, &indices, at)?])
}

/// Elements a step along each axis skips, row-major.
pub(super) fn row_major_strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(dims[i]);
    }
    strides
}

/// For each element of `indices`, the place in the flattened x of the element whose coordinates are
/// its own, but for `indices`' value along `at`.
fn element_places(e: &mut Emitter, x: &Operand, indices: &Operand, at: usize) -> Result<Operand> {
    if indices.rank() != x.rank() {
        return invalid(format!("indices of rank {} for data of rank {}", indices.rank(), x.rank()));
    }
    let strides = row_major_strides(x.dims());
    let along = from_start(e, indices, x.extent(at))?;
    let stride = |i: usize| strides.get(i).copied().unwrap_or(1) as f64;
    let mut places = e.with_scalar(Op::Mul {}, &along, stride(at))?;
    for i in (0..x.rank()).filter(|&i| i != at) {
        if indices.extent(i) > x.extent(i) {
            return invalid(format!("indices of extents {:?} for data of extents {:?}", indices.dims(), x.dims()));
        }
        if indices.extent(i) == 1 {
            continue;
        }
        let coordinate = e.op(Op::Iota { dtype: DType::I64, dims: fixed(indices.dims()), axis: i }, &[])?;
        let step = e.with_scalar(Op::Mul {}, &coordinate, stride(i))?;
        places = e.add(&places, &step)?;
    }
    Ok(places)
}

pub(super) fn gather_elements(n: &mut NodeContext<'_>) -> Results {
    let (x, indices) = (n.input(0, "data")?, n.input(1, "indices")?);
    let at = axis(n.attributes.int_or("axis", 0)?, x.rank())?;
    let e = &mut *n.emit;
    let places = element_places(e, &x, &indices, at)?;
    let flat = e.reshape(&x, &[x.dims().iter().product()])?;
    Ok(vec![e.gather(&flat, &places, 0)?])
}

/// The first elements of each sequence of a batch in reverse order, the rest as they are.
pub(super) fn reverse_sequence(n: &mut NodeContext<'_>) -> Results {
    let (x, lengths) = (n.input(0, "input")?, n.input(1, "sequence_lens")?);
    let (time, batch) = (n.attributes.int_or("time_axis", 0)?, n.attributes.int_or("batch_axis", 1)?);
    let (time, batch) = match (time, batch) {
        (0, 1) => (0, 1),
        (1, 0) => (1, 0),
        other => return invalid(format!("time_axis and batch_axis must be 0 and 1 or 1 and 0, found {other:?}")),
    };
    if x.rank() < 2 || lengths.dims() != [x.extent(batch)] {
        return invalid(format!(
            "sequence_lens must have one entry for each sequence of the input (axis {batch}), found extents {:?} for {:?}",
            lengths.dims(),
            x.dims()
        ));
    }
    if let Some(known) = lengths.tensor()
        && let Some(bad) = known.to_i64_vec().iter().find(|&&l| usize::try_from(l).map_or(true, |l| l > x.extent(time)))
    {
        return invalid(format!("sequence length {bad} is out of range for extent {}", x.extent(time)));
    }
    let e = &mut *n.emit;
    let leading = [x.extent(0), x.extent(1)];
    let iota = |axis: usize| Op::Iota { dtype: DType::I64, dims: fixed(&leading), axis };
    let (row, step) = (e.op(iota(0), &[])?, e.op(iota(time), &[])?);
    let lengths = e.convert(&lengths, DType::I64)?;
    let lengths = e.broadcast(&lengths, &leading, &[batch])?;
    let inside = e.binary(Op::Less {}, &step, &lengths)?;
    let last = e.with_scalar(Op::Sub {}, &lengths, 1.0)?;
    let mirrored = e.sub(&last, &step)?;
    let source = e.select(&inside, &mirrored, &step)?;
    // as one index into the two leading axes taken as one
    let columns = leading[1] as f64;
    let places = if time == 0 {
        let column = e.op(iota(1), &[])?;
        let first = e.with_scalar(Op::Mul {}, &source, columns)?;
        e.add(&first, &column)?
    } else {
        let first = e.with_scalar(Op::Mul {}, &row, columns)?;
        e.add(&first, &source)?
    };
    let rows = [&[leading[0] * leading[1]], &x.dims()[2..]].concat();
    let flat = e.reshape(&x, &rows)?;
    Ok(vec![if flat.extent(0) == 0 { x } else { e.gather(&flat, &places, 0)? }])
}

fn scatter_mode(n: &NodeContext<'_>) -> Result<ScatterMode> {
    Ok(match n.attributes.word("reduction", &["none", "add", "mul", "max", "min"])? {
        "add" => ScatterMode::Add,
        "mul" => ScatterMode::Mul,
        "max" => ScatterMode::Max,
        "min" => ScatterMode::Min,
        _ => ScatterMode::Replace,
    })
}

pub(super) fn scatter_elements(n: &mut NodeContext<'_>) -> Results {
    let (x, indices, updates) = (n.input(0, "data")?, n.input(1, "indices")?, n.input(2, "updates")?);
    let at = axis(n.attributes.int_or("axis", 0)?, x.rank())?;
    let mode = scatter_mode(n)?;
    let e = &mut *n.emit;
    let places = element_places(e, &x, &indices, at)?;
    let count = indices.dims().iter().product();
    let places = e.reshape(&places, &[count])?;
    let flat = e.reshape(&x, &[x.dims().iter().product()])?;
    let updates = e.reshape(&updates, &[count])?;
    let y = e.op(Op::Scatter { axis: 0, mode }, &[&flat, &places, &updates])?;
    Ok(vec![e.reshape(&y, x.dims())?])
}

/// Coordinates (the last axis of `indices`) over the axes of `dims` from `batch` on, as one index into
/// those axes taken as one. Leading batch axes index themselves.
fn coordinate_places(e: &mut Emitter, dims: &[usize], indices: &Operand, batch: usize) -> Result<(Operand, usize)> {
    let Some((&depth, outer)) = indices.dims().split_last() else { return invalid("indices must not be a scalar") };
    let Some(indexed) = dims.get(..batch + depth).filter(|d| outer.len() >= batch && outer[..batch] == d[..batch])
    else {
        return invalid(format!("indices of extents {:?} for data of extents {dims:?}", indices.dims()));
    };
    let strides = row_major_strides(indexed);
    let last = indices.rank() - 1;
    let mut places: Option<Operand> = None;
    let mut put = |e: &mut Emitter, term: Operand| -> Result<()> {
        places = Some(match &places {
            None => term,
            Some(so_far) => e.add(so_far, &term)?,
        });
        Ok(())
    };
    for (i, &stride) in strides.iter().enumerate() {
        let coordinate = match i.checked_sub(batch) {
            None => e.op(Op::Iota { dtype: DType::I64, dims: fixed(outer), axis: i }, &[])?,
            Some(column) => {
                let part = e.slice_axis(indices, last, column, column + 1)?;
                let part = e.reshape(&part, outer)?;
                from_start(e, &part, indexed.get(i).copied().unwrap_or(1))?
            }
        };
        let term = if stride == 1 { coordinate } else { e.with_scalar(Op::Mul {}, &coordinate, stride as f64)? };
        put(e, term)?;
    }
    match places {
        Some(places) => Ok((places, batch + depth)),
        None => invalid("indices have no coordinates"),
    }
}

pub(super) fn gather_nd(n: &mut NodeContext<'_>) -> Results {
    let (x, indices) = (n.input(0, "data")?, n.input(1, "indices")?);
    let batch = usize::try_from(n.attributes.int_or("batch_dims", 0)?)
        .map_err(|_| NodeError::Invalid("`batch_dims` must not be negative".into()))?;
    let e = &mut *n.emit;
    let (places, used) = coordinate_places(e, x.dims(), &indices, batch)?;
    let (front, rest) = x.dims().split_at(used);
    let rows = [&[front.iter().product()], rest].concat();
    let flat = e.reshape(&x, &rows)?;
    Ok(vec![e.gather(&flat, &places, 0)?])
}

pub(super) fn scatter_nd(n: &mut NodeContext<'_>) -> Results {
    let (x, indices, updates) = (n.input(0, "data")?, n.input(1, "indices")?, n.input(2, "updates")?);
    let mode = scatter_mode(n)?;
    let e = &mut *n.emit;
    let (places, used) = coordinate_places(e, x.dims(), &indices, 0)?;
    let (front, rest) = x.dims().split_at(used);
    let rows = [&[front.iter().product()], rest].concat();
    let flat = e.reshape(&x, &rows)?;
    let y = e.op(Op::Scatter { axis: 0, mode }, &[&flat, &places, &updates])?;
    Ok(vec![e.reshape(&y, x.dims())?])
}

/// `on` where the index is the place along the new axis, `off` elsewhere.
pub(super) fn one_hot(n: &mut NodeContext<'_>) -> Results {
    let (indices, values) = (n.input(0, "indices")?, n.input(2, "values")?);
    let depth = n.known(1, "depth")?.and_then(|t| t.to_i64_vec().first().copied()).unwrap_or(-1);
    let depth =
        usize::try_from(depth).map_err(|_| NodeError::Invalid(format!("depth must not be negative, found {depth}")))?;
    let at = axis(n.attributes.int_or("axis", -1)?, indices.rank() + 1)?;
    if values.dims() != [2] {
        return invalid(format!("values must be [off, on], found extents {:?}", values.dims()));
    }
    let e = &mut *n.emit;
    // Not `from_start`: an index out of range is no error, it gives a row without a hot element.
    let indices = e.convert(&indices, DType::I64)?;
    let negative = e.with_scalar(Op::Less {}, &indices, 0.0)?;
    let shifted = e.with_scalar(Op::Add {}, &indices, depth as f64)?;
    let indices = e.select(&negative, &shifted, &indices)?;
    let mut dims = indices.dims().to_vec();
    dims.insert(at, depth);
    let mut column = indices.dims().to_vec();
    column.insert(at, 1);
    let wanted = e.reshape(&indices, &column)?;
    let place = e.op(Op::Iota { dtype: DType::I64, dims: fixed(&dims), axis: at }, &[])?;
    let hot = e.binary(Op::Equal {}, &place, &wanted)?;
    let (off, on) = (e.slice_axis(&values, 0, 0, 1)?, e.slice_axis(&values, 0, 1, 2)?);
    let (off, on) = (e.reshape(&off, &[])?, e.reshape(&on, &[])?);
    Ok(vec![e.select(&hot, &on, &off)?])
}
