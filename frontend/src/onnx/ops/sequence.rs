//! Sequences and optionals: which tensors they hold is known at import, and so are the places asked for.

use kiln_ir::{DType, Tensor};

use super::super::emit::{Operand, axis};
use super::super::error::{NodeError, Result, invalid};
use super::super::node::NodeContext;
use super::super::value::{Sequence, Value};
use super::Values;
use super::movement::extents;

fn required(n: &NodeContext<'_>, index: usize, role: &'static str) -> Result<Value> {
    n.value(index).ok_or(NodeError::MissingInput { index, role })
}

pub(super) fn identity(n: &mut NodeContext<'_>) -> Values {
    Ok(vec![required(n, 0, "input")?])
}

pub(super) fn construct(n: &mut NodeContext<'_>) -> Values {
    n.check_tensors()?;
    let elements = n.all_inputs("inputs")?;
    Ok(vec![n.emit.sequence(elements, None)?])
}

pub(super) fn empty(n: &mut NodeContext<'_>) -> Values {
    let dtype = n.attributes.dtype("dtype")?.unwrap_or(DType::F32);
    Ok(vec![n.emit.sequence(Vec::new(), Some(dtype))?])
}

pub(super) fn length(n: &mut NodeContext<'_>) -> Values {
    let count = n.sequence(0, "input_sequence")?.elements.len();
    Ok(vec![Operand::known(Tensor::scalar(count as i64)).into()])
}

/// The place that input `index` says, which may count from the end; `None` where it is omitted. It may lie `beyond` places
/// after the last element.
fn place(n: &NodeContext<'_>, index: usize, sequence: &Sequence, beyond: usize) -> Result<Option<usize>> {
    let Some(value) = n.value(index) else { return Ok(None) };
    value.tensor(index)?;
    let Some(known) = n.integers(index, "position")? else { return Ok(None) };
    let [position] = known[..] else {
        return invalid(format!("position must be one integer, found {known:?}"));
    };
    let count = sequence.elements.len();
    let from_start = if position < 0 { position.saturating_add(count as i64) } else { position };
    match usize::try_from(from_start) {
        Ok(place) if place < count + beyond => Ok(Some(place)),
        _ => invalid(format!("position {position} is out of range for a sequence of {count} tensors")),
    }
}

pub(super) fn at(n: &mut NodeContext<'_>) -> Values {
    let sequence = n.sequence(0, "input_sequence")?;
    let place = place(n, 1, &sequence, 0)?.ok_or(NodeError::MissingInput { index: 1, role: "position" })?;
    let element = sequence.elements.get(place).cloned();
    Ok(element.map(Value::Tensor).into_iter().collect())
}

pub(super) fn insert(n: &mut NodeContext<'_>) -> Values {
    let sequence = n.sequence(0, "input_sequence")?;
    let tensor = required(n, 1, "tensor")?.tensor(1)?.clone();
    let place = place(n, 2, &sequence, 1)?.unwrap_or(sequence.elements.len());
    if let Some(dtype) = sequence.dtype.filter(|&d| d != tensor.dtype()) {
        return invalid(format!("a tensor of {} does not go into a sequence of {dtype}", tensor.dtype()));
    }
    let mut elements = sequence.elements.to_vec();
    elements.insert(place, tensor);
    Ok(vec![n.emit.sequence(elements, sequence.dtype)?])
}

pub(super) fn erase(n: &mut NodeContext<'_>) -> Values {
    let sequence = n.sequence(0, "input_sequence")?;
    let place = place(n, 1, &sequence, 0)?;
    let Some(place) = place.or(sequence.elements.len().checked_sub(1)) else {
        return invalid("an empty sequence has no element to erase");
    };
    let mut elements = sequence.elements.to_vec();
    elements.remove(place);
    Ok(vec![n.emit.sequence(elements, sequence.dtype)?])
}

/// Parts of the extents that `split` lists, or of the one that it is (the last may be smaller); of extent 1 without it, and
/// only then may the axis vanish.
pub(super) fn split(n: &mut NodeContext<'_>) -> Values {
    let x = required(n, 0, "input")?.tensor(0)?.clone();
    let at = axis(n.attributes.int_or("axis", 0)?, x.rank())?;
    let keep = n.attributes.flag("keepdims", true)?;
    let extent = x.extent(at);
    let split = match n.value(1) {
        None => None,
        Some(value) => Some((value.tensor(1)?.rank() == 0, extents(&n.required_integers(1, "split")?, "extents")?)),
    };
    let sizes = match &split {
        Some((false, sizes)) => {
            if sizes.iter().try_fold(0usize, |sum, &s| sum.checked_add(s)) != Some(extent) {
                return invalid(format!("parts of {sizes:?} for extent {extent}"));
            }
            n.emit.room_for(sizes.len())?;
            sizes.clone()
        }
        _ => {
            let size = split.as_ref().and_then(|(_, sizes)| sizes.first()).copied().unwrap_or(1);
            if size == 0 {
                return invalid("parts of extent 0");
            }
            let parts = extent.div_ceil(size);
            n.emit.room_for(parts)?;
            (0..parts).map(|i| (extent - i * size).min(size)).collect()
        }
    };
    let mut start = 0;
    let mut elements = Vec::with_capacity(sizes.len());
    for size in sizes {
        elements.push(match keep || split.is_some() {
            true => n.emit.slice_axis(&x, at, start, start + size)?,
            false => n.emit.element(&x, at, start)?,
        });
        start += size;
    }
    Ok(vec![n.emit.sequence(elements, Some(x.dtype()))?])
}

pub(super) fn concat(n: &mut NodeContext<'_>) -> Values {
    let sequence = n.sequence(0, "input_sequence")?;
    let at = n.attributes.required_int("axis")?;
    let new = n.attributes.flag("new_axis", false)?;
    let Some(first) = sequence.elements.first() else {
        return invalid("an empty sequence cannot be joined");
    };
    let joined = if new {
        if let Some(other) = sequence.elements.iter().find(|e| e.dims() != first.dims()) {
            return invalid(format!("elements of extents {:?} and {:?} cannot be stacked", first.dims(), other.dims()));
        }
        n.emit.stack(&sequence.elements, axis(at, first.rank() + 1)?)?
    } else {
        let at = axis(at, first.rank())?;
        n.emit.concat(&sequence.elements.iter().collect::<Vec<_>>(), at)?
    };
    Ok(vec![joined.into()])
}

pub(super) fn optional(n: &mut NodeContext<'_>) -> Values {
    // Nothing asks for the type of an element that is not there, and the others have their own.
    n.attributes.dismiss("type");
    Ok(vec![n.value(0).unwrap_or(Value::Absent)])
}

pub(super) fn has_element(n: &mut NodeContext<'_>) -> Values {
    let has = !matches!(n.value(0), None | Some(Value::Absent));
    Ok(vec![Operand::known(Tensor::scalar(has)).into()])
}

pub(super) fn get_element(n: &mut NodeContext<'_>) -> Values {
    match required(n, 0, "input")? {
        Value::Absent => invalid("the optional has no element"),
        value => Ok(vec![value]),
    }
}
