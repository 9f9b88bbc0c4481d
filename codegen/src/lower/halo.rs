//! Halos: room around a value, for convolutions that read beyond its edges.
//!
//! ```text
//!      room of the tensor: zeros        a value whose users are all convolutions that read beyond it is made in the
//!    ┌───────────────────────────┐      middle of a tensor with room for the one that reads farthest; each run fills
//!    │      ┌─────────────┐      │      the border alone, and no user makes a padded copy
//!    │      │    value    │      │
//!    │      └─────────────┘      │
//!    └───────────────────────────┘
//! ```
//!
//! A [`Halo`] is also where a part of a concatenation lies (see `concat`): the room around it is then the other parts, which are no zeros, and
//! nobody fills it.
//!
//! Room for padding is decided before anything is lowered, users first: a value gets a halo if the step that makes it writes by
//! strides and nothing but such convolutions uses it (an output, an operand of a residual addition or of a concatenation
//! is read in other ways as well). All other padding is a copy, made by [`surrounded`].
//!
//! A transpose whose users are all convolutions of few channels (an image's) is not made at all: they take single elements of it, and
//! read or pad its operand as that lies.

use std::collections::HashMap;

use kiln_ir::attribute::Padding;
use kiln_ir::{NodeId, Op, Value};
use kiln_runtime::Access;

use super::context::{Lowering, Slot};
use super::conv;
use super::error::LowerError;
use super::movement::{padded, reads_by_strides, writes_by_strides};
use super::nest::{self, Axis};
use super::walk::{Body, run};
use crate::kir::{Bits, Buffer, Index, KernelBuilder, VType, Value as KirValue};
use crate::plan::program::{Use, View};

/// A value inside a tensor: with zeros around it, as a part of a concatenation, or transposed. Around a dense value there is no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halo {
    /// The whole tensor.
    pub tensor: View,
    /// What of the tensor is not the value, by axis of the value; never negative.
    pub room: Vec<Padding>,
    /// Whether that is zeros; it is other values around a part of a concatenation.
    zeros: bool,
    /// The axis of the tensor that each axis of the value is: a transpose that nobody made has its operand's memory.
    axes: Vec<usize>,
}

impl Halo {
    /// A value in the middle of a tensor.
    pub fn new(tensor: View, room: Vec<Padding>) -> Halo {
        Halo { axes: (0..room.len()).collect(), zeros: true, tensor, room }
    }

    /// A value without room around it.
    pub fn none(value: View) -> Halo {
        Halo::new(value.clone(), vec![Padding::NONE; value.dims.len()])
    }

    /// The transpose of `x` in the memory of x: its axis i is axis `perm[i]` of x.
    pub fn transposed(x: View, perm: &[usize]) -> Halo {
        Halo { axes: perm.to_vec(), ..Halo::none(x) }
    }

    /// The part of the value that has `extent` of its places along `axis`, the first of them `first`.
    pub fn part(&self, axis: usize, first: usize, extent: usize) -> Halo {
        let mut room = self.room.clone();
        let rest = self.dims()[axis] - first - extent;
        room[axis].low += first as i64;
        room[axis].high += rest as i64;
        Halo { room, zeros: false, ..self.clone() }
    }

    /// What lies in the tensor with other room around it, which leaves something of it.
    pub fn with_room(&self, room: Vec<Padding>) -> Option<Halo> {
        let fits = |(&axis, p): (&usize, &Padding)| p.low + p.high < self.tensor.dims[axis] as i64;
        let fits = self.axes.iter().zip(&room).all(fits);
        fits.then(|| Halo { room, zeros: false, ..self.clone() })
    }

    /// Extents of the value.
    pub fn dims(&self) -> Vec<usize> {
        let extents = self.axes.iter().map(|&axis| self.tensor.dims[axis]);
        extents.zip(&self.room).map(|(n, p)| n - (p.low + p.high) as usize).collect()
    }

    /// Elements between neighbours of the value, by axis.
    pub fn strides(&self) -> Vec<i64> {
        let dense = nest::row_major(&self.tensor.dims);
        self.axes.iter().map(|&axis| dense[axis]).collect()
    }

    /// What is said of each axis of the value, by axis of the tensor.
    fn by_tensor(&self, room: &[Padding]) -> Vec<Padding> {
        let mut moved = room.to_vec();
        self.axes.iter().zip(room).for_each(|(&axis, &p)| moved[axis] = p);
        moved
    }

    /// The value's first element.
    pub fn start(&self) -> i64 {
        self.strides().iter().zip(&self.room).map(|(stride, p)| stride * p.low).sum()
    }

    /// Where the step that makes the value writes it.
    pub fn slot(&self) -> Slot {
        Slot { view: self.tensor.clone(), strides: self.strides(), start: self.start(), elements: self.len() }
    }

    /// Number of elements of the value.
    pub fn len(&self) -> usize {
        self.dims().iter().product()
    }

    /// What a step does that reads the value.
    pub fn read(&self) -> Use {
        self.tensor.used_in_part(Access::Read, self.len())
    }

    fn has_room(&self, around: &[Padding]) -> bool {
        let fits = |(room, p): (&Padding, &Padding)| room.low >= p.low && room.high >= p.high;
        around.iter().all(|p| *p == Padding::NONE) || (self.zeros && self.room.iter().zip(around).all(fits))
    }
}

/// x with room for `around` (which is not negative): where it lies, or a copy with zeros around it.
pub fn surrounded(l: &mut Lowering<'_>, id: NodeId, x: Halo, around: &[Padding]) -> Result<Halo, LowerError> {
    if x.has_room(around) {
        return Ok(x);
    }
    let lying = Halo::new(x.tensor.clone(), x.by_tensor(&x.room));
    let tensor = padded(l, id, &lying, &x.by_tensor(around), &vec![1; around.len()], 0.0)?;
    Ok(Halo { tensor, room: around.to_vec(), zeros: true, axes: x.axes })
}

/// Room that users want around values, collected from users to producers.
#[derive(Debug, Default)]
pub struct Wishes {
    /// The most that is wanted around a value, and by how many uses.
    by_value: HashMap<Value, (Vec<Padding>, usize)>,
    /// Uses of a value by convolutions that do not care in which order it lies.
    in_any_order: HashMap<Value, usize>,
    /// Uses of a value by steps that find it wherever it lies.
    anywhere: HashMap<Value, usize>,
    /// Those of them that concatenate.
    joined: HashMap<Value, usize>,
}

impl Wishes {
    /// Notes what the node wants of its operands.
    pub fn note(&mut self, l: &Lowering<'_>, id: NodeId) {
        let node = l.graph.node(id);
        for (_, &v) in node.operands.iter().enumerate().filter(|(i, _)| reads_by_strides(&node.op, *i)) {
            *self.anywhere.entry(v).or_default() += 1;
            if matches!(node.op, Op::Concat { .. }) {
                *self.joined.entry(v).or_default() += 1;
            }
        }
        if conv::reads_by_element(l, id) {
            *self.in_any_order.entry(l.operand(id, 0)).or_default() += 1;
        }
        let Some(around) = conv::reads_beyond(l, id) else { return };
        let (room, uses) =
            self.by_value.entry(l.operand(id, 0)).or_insert_with(|| (vec![Padding::NONE; around.len()], 0));
        for (room, p) in room.iter_mut().zip(&around) {
            *room = Padding { low: room.low.max(p.low), high: room.high.max(p.high) };
        }
        *uses += 1;
    }

    /// Gives the node's value the room that all of its users want, if they do and it can be made there. All users have
    /// been noted.
    pub fn grant(&mut self, l: &mut Lowering<'_>, id: NodeId) {
        let v = l.graph.value(id);
        if matches!(l.graph.node(id).op, Op::Transpose { .. }) && self.in_any_order.remove(&v) == Some(l.uses(v)) {
            l.see_through(v);
        }
        let Some((room, uses)) = self.by_value.remove(&v) else { return };
        if uses != l.uses(v) || !makes(l, v, &room) {
            return;
        }
        let wide = |(&n, p): (&usize, &Padding)| n.checked_add((p.low + p.high) as usize);
        let Some(dims) = l.dims(v).iter().zip(&room).map(wide).collect::<Option<Vec<usize>>>() else { return };
        let bytes = dims.iter().try_fold(l.dtype(v).size(), |n, &d| n.checked_mul(d));
        // a copy of that size is refused where it is made
        if bytes.is_some_and(|n| n <= isize::MAX as usize / 2) {
            let tensor = l.temporary(l.dtype(v), &dims);
            l.reserve_halo(v, Halo::new(tensor, room));
        }
    }

    /// Whether all that use `v` find it wherever it lies.
    pub fn anywhere(&self, l: &Lowering<'_>, v: Value) -> bool {
        self.anywhere.get(&v) == Some(&l.uses(v))
    }

    /// How many uses of `v` are those of a concatenation.
    pub fn joined(&self, v: Value) -> usize {
        self.joined.get(&v).copied().unwrap_or(0)
    }
}

/// Whether the step that makes `v` can write it with `room` around without being slower for that.
pub fn makes(l: &Lowering<'_>, v: Value, room: &[Padding]) -> bool {
    writes_by_strides(l, v) && !conv::needs_whole_images(l, v, room)
}

/// Fills the room around the node's value with zeros, if it has such room.
pub fn fill_room(l: &mut Lowering<'_>, id: NodeId) -> Result<(), LowerError> {
    match l.reserved_halo(l.graph.value(id)) {
        Some(Halo { tensor, room, zeros: true, .. }) => {
            border(l, id, &tensor, &room, Bits::from_f64(tensor.dtype, 0.0))
        }
        _ => Ok(()),
    }
}

/// Appends a step that sets the elements of `tensor` outside its middle, which is not empty: `room` on each side.
pub fn border(
    l: &mut Lowering<'_>,
    id: NodeId,
    tensor: &View,
    room: &[Padding],
    element: Bits,
) -> Result<(), LowerError> {
    let strides = nest::row_major(&tensor.dims);
    let sides = tensor.dims.iter().zip(&strides).zip(room);
    let mut sides: Vec<Side> =
        sides.map(|((&extent, &stride), &room)| Side { extent: extent as i64, stride, room }).collect();
    // inside the last axis with room the border is contiguous
    let last = sides.iter().rposition(|s| s.room != Padding::NONE);
    sides.truncate(last.map_or(0, |last| last + 1));
    let Some(first) = sides.iter().position(|s| s.room != Padding::NONE) else { return Ok(()) };
    let middle = tensor.dims.iter().zip(room).map(|(&n, p)| n - (p.low + p.high) as usize).product::<usize>();
    let mut b = KernelBuilder::new("border");
    let out = b.output("y", tensor.dtype, tensor.len() as i64);
    let lanes = l.machine.stream_lanes(tensor.dtype, false);
    let mut at = Index::constant(0);
    for side in sides[..first].iter().filter(|s| s.extent != 1) {
        at += &(Index::from(b.parallel(side.extent)) * side.stride);
    }
    around(&mut b, &sides[first..], &at, lanes, &mut Element { out, element });
    let border = tensor.used_in_part(Access::Write, tensor.len() - middle);
    l.step_with(format!("{} (border)", l.label(id)), b, vec![border], 0)
}

/// An axis of a tensor with a border.
struct Side {
    extent: i64,
    stride: i64,
    room: Padding,
}

/// The border of the part of the tensor that starts at `at`: what lies before and after the middle of its first axis, then
/// the borders of all that lies in the middle.
fn around(b: &mut KernelBuilder, sides: &[Side], at: &Index, lanes: u32, element: &mut Element) {
    let Some((&Side { extent, stride, room }, inner)) = sides.split_first() else { return };
    for (first, count) in [(0, room.low), (extent - room.high, room.high)] {
        let at = at + Index::constant(first * stride);
        run(b, &[at], &Axis::new(1, [1]), count * stride, lanes, element);
    }
    if !inner.is_empty() {
        let middle = at + Index::constant(room.low * stride);
        b.for_each(extent - room.low - room.high, |b, i| around(b, inner, &(&middle + i * stride), lanes, element));
    }
}

struct Element {
    out: Buffer,
    element: Bits,
}

impl Body for Element {
    fn prepare(&mut self, b: &mut KernelBuilder, _: &[Index], lanes: u32) -> Vec<KirValue> {
        vec![b.constant_bits(VType::new(b.dtype_of(self.out), lanes), self.element)]
    }

    fn lanes(&mut self, b: &mut KernelBuilder, at: &[Index], prepared: &[KirValue], _: u32) {
        for &value in prepared {
            b.store(self.out, &at[0], value);
        }
    }
}
