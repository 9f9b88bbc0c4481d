//! Operators whose results are as long as values say. Graphs are static, so the values that decide must be known at import;
//! they are then evaluated there.

use std::cmp::Ordering;

use kiln_ir::{DType, Tensor};

use super::super::emit::{Emitter, Operand, axis};
use super::super::error::{Result, invalid, unsupported};
use super::super::fold;
use super::super::node::NodeContext;
use super::Results;
use super::index::row_major_strides;

/// An operand whose values decide the length of a result.
fn deciding(n: &NodeContext<'_>, index: usize, role: &'static str) -> Result<Tensor> {
    let operand = n.input(index, role)?;
    let Some(tensor) = operand.tensor() else {
        return unsupported(format!(
            "input {index} ({role}) decides the extents of the result, but depends on the values of the graph's inputs, \
             and graphs are static; make it a constant, or end the model before this node and do the rest outside"
        ));
    };
    if tensor.len() > fold::LIMIT {
        return unsupported(format!("input {index} ({role}) of {} elements (up to {} are)", tensor.len(), fold::LIMIT));
    }
    Ok(tensor.clone())
}

/// Slices `picked` of the operand along an axis; what is known stays known.
fn take(e: &mut Emitter, x: &Operand, picked: &[i64], at: usize) -> Result<Operand> {
    if picked.is_empty() || x.extent(at) == 0 {
        return e.slice_axis(x, at, 0, 0);
    }
    e.room_for_constant(DType::I64, &[picked.len()])?;
    e.gather(x, &Operand::integers(picked)?, at)
}

/// Slices of x where a condition holds; elements of the flattened x where no axis is given.
pub(super) fn compress(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "input")?;
    let condition = deciding(n, 1, "condition")?;
    let (x, at) = match n.attributes.int("axis")? {
        Some(at) => (x.clone(), axis(at, x.rank())?),
        None => (n.emit.reshape(&x, &[x.dims().iter().product()])?, 0),
    };
    if condition.dims().len() != 1 || condition.len() > x.extent(at) {
        let found = condition.dims();
        return invalid(format!(
            "condition must be a list of up to {} truth values, found extents {found:?}",
            x.extent(at)
        ));
    }
    let holds = condition.to_f64_vec();
    let picked: Vec<i64> = (0..).zip(&holds).filter(|(_, holds)| **holds != 0.0).map(|(i, _)| i).collect();
    Ok(vec![take(n.emit, &x, &picked, at)?])
}

/// The coordinates of what is not zero, [axes, count].
pub(super) fn non_zero(n: &mut NodeContext<'_>) -> Results {
    let x = deciding(n, 0, "X")?;
    let values = x.to_f64_vec();
    let places: Vec<usize> = (0..values.len()).filter(|&i| values[i] != 0.0).collect();
    let strides = row_major_strides(x.dims());
    n.emit.room_for_constant(DType::I64, &[x.dims().len(), places.len()])?;
    let coordinates: Vec<i64> = strides
        .iter()
        .zip(x.dims())
        .flat_map(|(&stride, &extent)| places.iter().map(move |place| (place / stride % extent) as i64))
        .collect();
    Ok(vec![Operand::known(Tensor::from_slice(&[x.dims().len(), places.len()], &coordinates)?)])
}

/// What of slices along an axis (elements, where none is given) occurs, with the places of first occurrences, of each slice
/// in the result, and counts.
pub(super) fn unique(n: &mut NodeContext<'_>) -> Results {
    let x = deciding(n, 0, "X")?;
    let sorted = n.attributes.flag("sorted", true)?;
    let at = n.attributes.int("axis")?;
    let (tensor, at) = match at {
        Some(at) => (x.clone(), axis(at, x.dims().len())?),
        None => (x.reshape(&[x.len()])?, 0),
    };
    // Slices of no elements take no memory, so there may be any number of them.
    if tensor.is_empty() {
        return invalid(format!("X must have some elements, found extents {:?}", x.dims()));
    }
    let keys = slices(&tensor, at);
    let compare = |a: usize, b: usize| -> Ordering {
        keys[a].iter().zip(&keys[b]).map(|(x, y)| x.compare(y)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    };
    // equal slices side by side, the first occurrence first
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by(|&a, &b| compare(a, b).then(a.cmp(&b)));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for i in order {
        match groups.last_mut() {
            Some(group) if compare(group[0], i).is_eq() => group.push(i),
            _ => groups.push(vec![i]),
        }
    }
    if !sorted {
        groups.sort_by_key(|group| group[0]);
    }
    let first: Vec<i64> = groups.iter().map(|group| group[0] as i64).collect();
    let counts: Vec<i64> = groups.iter().map(|group| group.len() as i64).collect();
    let mut inverse = vec![0i64; keys.len()];
    for (place, group) in (0..).zip(&groups) {
        group.iter().for_each(|&i| inverse[i] = place);
    }
    n.emit.room_for_constant(DType::I64, &[3, keys.len()])?;
    let y = take(n.emit, &Operand::known(tensor), &first, at)?;
    Ok(vec![y, Operand::integers(&first)?, Operand::integers(&inverse)?, Operand::integers(&counts)?])
}

/// An element to be ordered: integers exactly, NaN after all other floats and equal to itself.
#[derive(Clone, Copy)]
enum Key {
    Integer(i64),
    Float(f64),
}

impl Key {
    fn compare(&self, other: &Key) -> Ordering {
        match (self, other) {
            (Key::Integer(a), Key::Integer(b)) => a.cmp(b),
            (Key::Float(a), Key::Float(b)) => a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())),
            (Key::Integer(_), Key::Float(_)) => Ordering::Less,
            (Key::Float(_), Key::Integer(_)) => Ordering::Greater,
        }
    }
}

/// The elements of each slice along an axis.
fn slices(tensor: &Tensor, at: usize) -> Vec<Vec<Key>> {
    let elements: Vec<Key> = if tensor.dtype().is_integer() {
        tensor.to_i64_vec().into_iter().map(Key::Integer).collect()
    } else {
        tensor.to_f64_vec().into_iter().map(Key::Float).collect()
    };
    let (outer, inner) = tensor.dims().split_at(at);
    let (extent, inner) = (inner[0], inner[1..].iter().product::<usize>());
    let outer: usize = outer.iter().product();
    let slice = |i: usize| -> Vec<Key> {
        let rows = (0..outer).map(|o| (o * extent + i) * inner);
        rows.flat_map(|start| elements[start..start + inner].iter().copied()).collect()
    };
    (0..extent).map(slice).collect()
}

/// A rectangle by its corners, the lesser first.
#[derive(Clone, Copy)]
struct Rectangle {
    low: [f32; 2],
    high: [f32; 2],
}

impl Rectangle {
    /// From two corners in any order, or from centre and extents.
    fn read(numbers: [f32; 4], by_centre: bool) -> Rectangle {
        let [a, b, c, d] = numbers;
        if by_centre {
            let (x, y, half_width, half_height) = (a, b, c / 2.0, d / 2.0);
            return Rectangle { low: [y - half_height, x - half_width], high: [y + half_height, x + half_width] };
        }
        Rectangle { low: [a.min(c), b.min(d)], high: [a.max(c), b.max(d)] }
    }

    fn area(self) -> f32 {
        (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])
    }

    /// Intersection over union; 0 where one is empty.
    fn overlap(self, other: Rectangle) -> f32 {
        let side = |i: usize| (self.high[i].min(other.high[i]) - self.low[i].max(other.low[i])).max(0.0);
        let common = side(0) * side(1);
        if common <= 0.0 { 0.0 } else { common / (self.area() + other.area() - common) }
    }
}

/// Of each class of each image, the boxes with the highest scores of which none overlaps one chosen before too much:
/// rows of (image, class, box).
pub(super) fn non_max_suppression(n: &mut NodeContext<'_>) -> Results {
    let by_centre = n.attributes.flag("center_point_box", false)?;
    let (boxes, scores) = (deciding(n, 0, "boxes")?, deciding(n, 1, "scores")?);
    let number = |index: usize, role: &'static str| -> Result<Option<f64>> {
        match n.known(index, role)?.map(|t| t.to_f64_vec()) {
            None => Ok(None),
            Some(values) if values.len() == 1 => Ok(Some(values[0])),
            Some(values) => invalid(format!("input {index} ({role}) must be one number, found {}", values.len())),
        }
    };
    let most = number(2, "max_output_boxes_per_class")?.unwrap_or(0.0).max(0.0) as usize;
    let most_overlap = number(3, "iou_threshold")?.unwrap_or(0.0) as f32;
    let least_score = number(4, "score_threshold")?.map(|s| s as f32);
    let (&[images, count, 4], &[_, classes, _]) = (boxes.dims(), scores.dims()) else {
        return invalid(format!(
            "boxes must be [N, boxes, 4] and scores [N, classes, boxes], found extents {:?} and {:?}",
            boxes.dims(),
            scores.dims()
        ));
    };
    if scores.dims() != [images, classes, count] {
        return invalid(format!("scores must have extents {:?}, found {:?}", [images, classes, count], scores.dims()));
    }
    if !(0.0..=1.0).contains(&most_overlap) {
        return invalid(format!("iou_threshold must be from 0 to 1, found {most_overlap}"));
    }
    // Each box is compared with each chosen one.
    const MOST_COMPARISONS: usize = 1 << 24;
    let comparisons = scores.len().checked_mul(most.min(count)).filter(|&c| c <= MOST_COMPARISONS);
    if comparisons.is_none() {
        let chosen = most.min(count);
        return unsupported(format!(
            "{count} boxes in {classes} classes of {images} images, of which {chosen} are chosen"
        ));
    }
    let corners: Vec<f32> = boxes.to_f64_vec().into_iter().map(|v| v as f32).collect();
    let rectangles: Vec<Rectangle> = corners.as_chunks().0.iter().map(|&c| Rectangle::read(c, by_centre)).collect();
    let scores: Vec<f32> = scores.to_f64_vec().into_iter().map(|v| v as f32).collect();
    let mut rows: Vec<i64> = Vec::new();
    // images without boxes may be any number
    for image in 0..if scores.is_empty() { 0 } else { images } {
        let rectangles = &rectangles[image * count..][..count];
        for class in 0..classes {
            let scores = &scores[(image * classes + class) * count..][..count];
            let chosen = suppressed(rectangles, scores, most, most_overlap, least_score);
            rows.extend(chosen.iter().flat_map(|&i| [image, class, i]).map(|i| i as i64));
        }
    }
    n.emit.room_for_constant(DType::I64, &[rows.len()])?;
    Ok(vec![Operand::known(Tensor::from_slice(&[rows.len() / 3, 3], &rows)?)])
}

/// The boxes that are kept, best first.
fn suppressed(boxes: &[Rectangle], scores: &[f32], most: usize, most_overlap: f32, least: Option<f32>) -> Vec<usize> {
    let counts = |i: &usize| least.is_none_or(|least| scores[*i] > least);
    let mut order: Vec<usize> = (0..boxes.len()).filter(counts).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let mut chosen: Vec<usize> = Vec::new();
    for i in order {
        if chosen.len() == most {
            break;
        }
        if chosen.iter().all(|&c| boxes[c].overlap(boxes[i]) <= most_overlap) {
            chosen.push(i);
        }
    }
    chosen
}
