//! A register tile: its sums, their reduction, the epilogue and the stores.

use super::Combine;
use super::ahead::{Ahead, LINE};
use super::loops::{Emitter, Partial};
use crate::kir::{Bits, Buffer, Condition, Index, KernelBuilder, VType, Value};
use crate::lower::nest::{Axis, volume};
use crate::lower::scalar::{compute_dtype, load, store};
use crate::lower::walk::advance;

/// Steps of the innermost reduction loop that are written out instead of looped over.
const UNROLL_WHOLE: i64 = 12;
/// Steps of the innermost reduction loop per iteration.
const UNROLL: i64 = 8;

/// One step of a reduction loop: the sums after it.
type Step<'a> = &'a dyn Fn(&mut KernelBuilder, &Index, Vec<Value>) -> Vec<Value>;

impl Emitter<'_> {
    /// One tile, for each of the vectors inside it.
    pub(super) fn tile_at(
        &self,
        b: &mut KernelBuilder,
        at: &[Index],
        rows: i64,
        width: u32,
        guarded: bool,
        ahead: Option<&Ahead>,
    ) {
        match &self.tile.inside {
            None => self.vector_at(b, at, rows, width, guarded, ahead),
            Some(axis) => b.for_each(axis.extent, |b, var| {
                let mut at = at.to_vec();
                advance(&mut at, axis, &Index::from(var));
                self.vector_at(b, &at, rows, width, guarded, ahead);
            }),
        }
    }

    /// One tile of one vector: its accumulators, reduction, epilogue and stores.
    fn vector_at(
        &self,
        b: &mut KernelBuilder,
        at: &[Index],
        rows: i64,
        width: u32,
        guarded: bool,
        ahead: Option<&Ahead>,
    ) {
        let tile = self.tile;
        let ty = VType::new(tile.accumulator, width);
        let identity = match tile.combine {
            Combine::MulAdd | Combine::DotBytes { .. } => Bits(0),
            Combine::Fold { identity, .. } => identity,
        };
        for &fetch in &tile.fetch {
            b.prefetch(self.buffers[1], &at[1] + fetch);
        }
        let zero = b.constant_bits(ty, identity);
        let mut reduce = tile.reduce.clone();
        if tile.panels {
            reduce.iter_mut().for_each(|a| a.strides[2] *= i64::from(width));
        }
        let guards: Vec<usize> = (tile.buffers.len()..tile.buffers.len() + tile.guards.len())
            .filter(|&g| guarded || tile.row.strides[g] == 0)
            .collect();
        let place = |row: i64| at.last().map_or(Index::constant(0), |sums| sums + row * i64::from(tile.lanes));
        let acc = (0..rows * tile.sums() as i64).map(|row| match &self.partial {
            Some(Partial { sums, resumes: true, .. }) => load(b, *sums, &place(row), 1, width),
            _ => zero,
        });
        let acc = acc.collect();
        let acc = self.reduction(b, &reduce, &guards, at.to_vec(), acc, ahead);
        if let Some(Partial { sums, suspends: true, .. }) = &self.partial {
            for (row, acc) in (0..).zip(acc) {
                store(b, *sums, &place(row), 1, acc);
            }
            return;
        }
        let extras = &self.buffers[1 + tile.inputs..];
        let mut shared: Vec<Option<Value>> = vec![None; extras.len()];
        for (row, sums) in acc.chunks(tile.sums()).enumerate() {
            let acc = tile.narrow.map_or(sums[0], |narrow| narrow.gather(b, sums));
            let width = b.type_of(acc).lanes;
            let mut arguments = vec![b.convert(acc, compute_dtype(tile.reduced))];
            for (i, &buffer) in extras.iter().enumerate() {
                let operand = 1 + tile.inputs + i;
                let value = shared[i].unwrap_or_else(|| self.lanes_of(b, buffer, operand, at, row as i64, width));
                shared[i] = (tile.row.strides[operand] == 0).then_some(value);
                arguments.push(value);
            }
            let value = tile.epilogue.emit(b, &arguments);
            let index = &at[0] + Index::constant(tile.row.strides[0] * row as i64);
            store(b, self.buffers[0], &index, tile.column.strides[0], value);
        }
    }

    fn lanes_of(
        &self,
        b: &mut KernelBuilder,
        buffer: Buffer,
        operand: usize,
        at: &[Index],
        row: i64,
        width: u32,
    ) -> Value {
        let index = &at[operand] + Index::constant(self.tile.row.strides[operand] * row);
        load(b, buffer, &index, self.tile.column.strides[operand], width)
    }

    /// The reduction loops, outermost first, each guard asked as soon as its coordinate is known.
    fn reduction(
        &self,
        b: &mut KernelBuilder,
        axes: &[Axis],
        guards: &[usize],
        at: Vec<Index>,
        acc: Vec<Value>,
        ahead: Option<&Ahead>,
    ) -> Vec<Value> {
        let (known, later): (Vec<usize>, Vec<usize>) =
            guards.iter().copied().partition(|&g| axes.iter().all(|a| a.strides[g] == 0));
        let mut conditions = Vec::new();
        for g in known {
            let limit = self.tile.guards[g - self.tile.buffers.len()].extent;
            for side in [at[g].clone(), Index::constant(limit - 1) - &at[g]] {
                match side.terms.is_empty() {
                    true if side.offset < 0 => return acc,
                    true => {}
                    false => conditions.push(side),
                }
            }
        }
        if conditions.is_empty() {
            return self.loops(b, axes, &later, at, acc, ahead);
        }
        let then = |b: &mut KernelBuilder| self.loops(b, axes, &later, at, acc.clone(), ahead);
        b.if_else(Condition::NonNegative(conditions), then, |_| acc.clone())
    }

    fn loops(
        &self,
        b: &mut KernelBuilder,
        axes: &[Axis],
        guards: &[usize],
        at: Vec<Index>,
        acc: Vec<Value>,
        ahead: Option<&Ahead>,
    ) -> Vec<Value> {
        let Some((axis, rest)) = axes.split_first() else { return self.combine(b, &at, acc) };
        let step = |b: &mut KernelBuilder, by: &Index, acc: Vec<Value>| {
            let mut at = at.clone();
            advance(&mut at, axis, by);
            self.reduction(b, rest, guards, at, acc, ahead)
        };
        let innermost = rest.is_empty() && guards.is_empty();
        if let (Combine::DotBytes { overlap: overlap @ 1.. }, true) = (&self.tile.combine, innermost) {
            let before = Axis { extent: axis.extent - 1, ..axis.clone() };
            let acc = self.steps(b, (&before, innermost), &at, acc, ahead, &step);
            let mut last = at;
            advance(&mut last, axis, &Index::constant(before.extent));
            last[1] = &last[1] - *overlap;
            return self.combine_bytes(b, &last, acc, *overlap);
        }
        self.steps(b, (axis, innermost), &at, acc, ahead, &step)
    }

    /// All steps of a reduction loop.
    fn steps(
        &self,
        b: &mut KernelBuilder,
        (axis, innermost): (&Axis, bool),
        at: &[Index],
        acc: Vec<Value>,
        ahead: Option<&Ahead>,
        step: Step<'_>,
    ) -> Vec<Value> {
        if innermost && axis.extent <= UNROLL_WHOLE {
            return (0..axis.extent).fold(acc, |acc, i| step(b, &Index::constant(i), acc));
        }
        let unroll = if innermost { UNROLL } else { 1 };
        let acc = b.for_loop(axis.extent / unroll, &acc, |b, var, acc| {
            if let Some(ahead) = ahead.filter(|_| innermost) {
                let mut from = at[2].clone();
                from += &(var * (unroll * axis.strides[2]));
                // the lines that correspond to what this iteration reads
                let bytes = unroll * axis.strides[2] * self.tile.buffers[2].dtype.size() as i64 / ahead.parts;
                for line in 0..(bytes - 1) / LINE + 1 {
                    b.prefetch(
                        self.buffers[2],
                        ahead.place(&from) + line * LINE / self.tile.buffers[2].dtype.size() as i64,
                    );
                }
            }
            (0..unroll).fold(acc.to_vec(), |acc, i| step(b, &(var * unroll + i), acc))
        });
        let done = axis.extent / unroll * unroll;
        (done..axis.extent).fold(acc, |acc, i| step(b, &Index::constant(i), acc))
    }

    /// One reduction index of all rows of a tile.
    fn combine(&self, b: &mut KernelBuilder, at: &[Index], acc: Vec<Value>) -> Vec<Value> {
        let tile = self.tile;
        let Some(&first) = acc.first() else { return acc };
        let width = b.type_of(first).lanes;
        if tile.narrow.is_some() {
            return self.combine_sums(b, at, acc, width);
        }
        if matches!(tile.combine, Combine::DotBytes { .. }) {
            return self.combine_bytes(b, at, acc, 0);
        }
        let mut shared: Vec<Option<Value>> = vec![None; tile.inputs];
        let mut next = Vec::with_capacity(acc.len());
        for (row, acc) in acc.into_iter().enumerate() {
            let mut inputs = Vec::with_capacity(tile.inputs);
            // the second input first: it is the vector that all rows of a product share
            for i in (0..tile.inputs).rev() {
                let value = match shared[i] {
                    Some(value) => value,
                    None => {
                        let value = self.lanes_of(b, self.buffers[1 + i], 1 + i, at, row as i64, width);
                        match &tile.combine {
                            Combine::Fold { .. } => value,
                            Combine::MulAdd | Combine::DotBytes { .. } => b.convert(value, tile.accumulator),
                        }
                    }
                };
                shared[i] = (tile.row.strides[1 + i] == 0).then_some(value);
                inputs.push(value);
            }
            inputs.reverse();
            next.push(match (&tile.combine, inputs.as_slice()) {
                (Combine::Fold { op, prologue, .. }, inputs) => {
                    let value = prologue.emit(b, inputs);
                    let value = b.convert(value, tile.accumulator);
                    b.binary(*op, acc, value)
                }
                (Combine::MulAdd, &[x, y]) => self.multiply_add(b, x, y, acc),
                (Combine::MulAdd | Combine::DotBytes { .. }, _) => acc,
            });
        }
        next
    }

    /// The same of four bytes, of which the first `done` of each row have been added already.
    fn combine_bytes(&self, b: &mut KernelBuilder, at: &[Index], acc: Vec<Value>, done: i64) -> Vec<Value> {
        let Some(&first) = acc.first() else { return acc };
        let ty = b.type_of(first);
        let columns = b.load_words(self.buffers[2], &at[2], self.tile.column.strides[2], ty.lanes);
        let row = |(row, acc): (i64, Value)| {
            let index = &at[1] + self.tile.row.strides[1] * row;
            let mut bytes = b.load_words(self.buffers[1], index, 0, ty.lanes);
            if done > 0 {
                let open = b.constant_int(ty, -1 << (8 * done));
                bytes = b.and(bytes, open);
            }
            b.dot_bytes(bytes, columns, acc)
        };
        (0..).zip(acc).map(row).collect()
    }

    /// The same where each row has several sums.
    fn combine_sums(&self, b: &mut KernelBuilder, at: &[Index], mut acc: Vec<Value>, width: u32) -> Vec<Value> {
        let tile = self.tile;
        let sums = tile.sums();
        let rows = acc.len() / sums;
        let apart = volume(&tile.reduce) * i64::from(width);
        let (mut x, mut w): (Vec<Option<Value>>, Vec<Option<Value>>) = (vec![None; rows], vec![None; sums]);
        // what there is less of stays in registers, what there is more of comes one by one
        let order = |i: usize| if sums <= rows { (i / sums, i % sums) } else { (i % rows, i / rows) };
        for (row, sum) in (0..rows * sums).map(order) {
            let filter = *w[sum].get_or_insert_with(|| {
                let value = load(b, self.buffers[2], &(&at[2] + sum as i64 * apart), tile.column.strides[2], width);
                b.convert(value, tile.accumulator)
            });
            let pixel = *x[row].get_or_insert_with(|| {
                let value = self.lanes_of(b, self.buffers[1], 1, at, row as i64, width);
                b.convert(value, tile.accumulator)
            });
            let acc = &mut acc[row * sums + sum];
            *acc = self.multiply_add(b, pixel, filter, *acc);
        }
        acc
    }

    fn multiply_add(&self, b: &mut KernelBuilder, x: Value, y: Value, acc: Value) -> Value {
        if self.tile.accumulator.is_float() {
            return b.fma(x, y, acc);
        }
        let product = b.mul(x, y);
        b.add(acc, product)
    }
}
