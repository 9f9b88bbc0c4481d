//! The loops around a register tile.

use super::Tile;
use super::ahead::Turns;
use super::dealing::{Chunks, ENOUGH_PARALLEL, ROW_CHUNK, balanced};
use crate::kir::{Buffer, Condition, Index, KernelBuilder, Var};
use crate::lower::nest::{Axis, volume};
use crate::lower::walk::advance;

pub(super) struct Emitter<'t> {
    pub(super) tile: &'t Tile,
    pub(super) buffers: Vec<Buffer>,
    /// Passes over a panel of weights from which on the next one is asked for.
    pub(super) fewest_passes: i64,
    /// Where a part of a deep product begins and ends.
    pub(super) partial: Option<Partial>,
    /// The loops around the rows that go over the same panel of weights.
    pub(super) turns: Turns,
}

/// Sums on their way from one part of a deep product to the next. Their place is the operand after all others.
#[derive(Clone, Copy)]
pub(super) struct Partial {
    pub(super) sums: Buffer,
    /// Whether the part goes on from the sums of another.
    pub(super) resumes: bool,
    /// Whether another part goes on from its sums.
    pub(super) suspends: bool,
}

type Emit<'a> = &'a mut dyn FnMut(&mut KernelBuilder, &[Index], u32);

impl Emitter<'_> {
    pub(super) fn nest(&self, b: &mut KernelBuilder, mut at: Vec<Index>) {
        let tile = self.tile;
        let mut serial: Vec<Axis> = Vec::new();
        for axis in &tile.outer {
            if tile.columns_first && axis.strides.get(2) == Some(&0) {
                serial.push(axis.clone());
                continue;
            }
            let var = b.parallel(axis.extent);
            advance(&mut at, axis, &Index::from(var));
        }
        if tile.columns_first {
            return self.columns_first(b, &serial, &at);
        }
        let outer = volume(&tile.outer);
        let chunked = tile.row_guard().is_none() && tile.row.extent > ROW_CHUNK + tile.rows;
        if !chunked {
            let parallel_columns = outer < ENOUGH_PARALLEL;
            self.columns(b, &at, parallel_columns, &mut |b, at, width| self.rows(b, at, width));
            return;
        }
        let Chunks { groups, rows } = tile.chunks();
        let group = (groups > 1).then(|| b.parallel(groups));
        let columns = tile.column.extent / groups;
        let tile = &Tile { column: Axis { extent: columns, strides: tile.column.strides.clone() }, ..tile.clone() };
        if let Some(group) = group {
            at = tile.at_column(&at, &(group * columns));
        }
        let this = Emitter { tile, buffers: self.buffers.clone(), turns: Turns::once(), ..*self };
        let chunk = b.parallel((tile.row.extent - 1) / rows + 1);
        in_chunk(b, chunk, tile.row.extent, rows, &|b, first, count| {
            let mut at = at.clone();
            advance(&mut at, &tile.row, first);
            this.columns(b, &at, false, &mut |b, at, width| this.tiles(b, at, count, tile.rows, width, false));
        });
    }

    /// Chunks of rows, each of which takes block of columns after block of columns.
    fn columns_first(&self, b: &mut KernelBuilder, serial: &[Axis], at: &[Index]) {
        let tile = self.tile;
        let rows = tile.row_chunk();
        let sums_of = volume(serial) * rows;
        let parts = tile.depth_parts(sums_of);
        let sums = (parts > 1).then(|| b.scratch("sums", tile.accumulator, sums_of * i64::from(tile.lanes)));
        let panel = |b: &mut KernelBuilder, at: &[Index], first: &Index, count: i64, width: u32| {
            let mut at = at.to_vec();
            advance(&mut at, &tile.row, first);
            let chunk = &Tile { row: Axis { extent: count, strides: tile.row.strides.clone() }, ..tile.clone() };
            let this = Emitter { tile: chunk, buffers: self.buffers.clone(), turns: Turns::once(), ..*self };
            match sums {
                None => this.serial(b, serial, &at, width),
                Some(sums) => this.parts(b, parts, sums, serial, &at, width),
            }
        };
        if tile.row.extent <= rows {
            let all = &Index::constant(0);
            return self.columns(b, at, true, &mut |b, at, width| panel(b, at, all, tile.row.extent, width));
        }
        let chunk = b.parallel((tile.row.extent - 1) / rows + 1);
        self.columns(b, at, true, &mut |b, at, width| {
            in_chunk(b, chunk, tile.row.extent, rows, &|b, first, count| panel(b, at, first, count, width));
        });
    }

    /// All rows of one block of columns, in `parts` of the outermost reduction loop.
    fn parts(&self, b: &mut KernelBuilder, parts: i64, sums: Buffer, serial: &[Axis], at: &[Index], width: u32) {
        let mut tile = self.tile.clone();
        let outermost = &mut tile.reduce[0];
        outermost.extent /= parts;
        let mut step = Axis { extent: parts, strides: outermost.strides.clone() };
        step.strides.iter_mut().for_each(|s| *s *= outermost.extent);
        step.strides[2] *= i64::from(width);
        // where sums wait is one more operand
        let moved = |axis: &Axis, by: i64| {
            let mut strides = axis.strides.clone();
            strides.resize(at.len(), 0);
            strides.push(by);
            Axis { extent: axis.extent, strides }
        };
        let lanes = i64::from(tile.lanes);
        let mut apart = lanes * tile.row.extent;
        tile.row = moved(&tile.row, lanes);
        let mut around = Vec::with_capacity(serial.len());
        for axis in serial.iter().rev() {
            around.insert(0, moved(axis, apart));
            apart *= axis.extent;
        }
        let emit = |b: &mut KernelBuilder, part: &Index, (resumes, suspends): (bool, bool)| {
            let partial = Some(Partial { sums, resumes, suspends });
            let emitter =
                Emitter { tile: &tile, buffers: self.buffers.clone(), partial, turns: Turns::once(), ..*self };
            let mut at = at.to_vec();
            advance(&mut at, &step, part);
            at.push(Index::constant(0));
            emitter.serial(b, &around, &at, width);
        };
        in_parts(b, parts, emit);
    }

    /// All rows of one block of columns, in each iteration of the loops `axes`.
    fn serial(&self, b: &mut KernelBuilder, axes: &[Axis], at: &[Index], width: u32) {
        let Some((axis, rest)) = axes.split_first() else { return self.rows(b, at, width) };
        let turns = self.turns.clone();
        b.for_each(axis.extent, |b, var| {
            let mut at = at.to_vec();
            advance(&mut at, axis, &Index::from(var));
            let turns = Turns { count: turns.count * axis.extent, done: turns.done * axis.extent + var };
            Emitter { turns, buffers: self.buffers.clone(), ..*self }.serial(b, rest, &at, width);
        });
    }

    /// Full blocks of columns, then what is left in one narrower block.
    pub(super) fn columns(&self, b: &mut KernelBuilder, at: &[Index], parallel: bool, emit: Emit<'_>) {
        let tile = self.tile;
        let lanes = i64::from(tile.lanes);
        let (full, rest) = (tile.column.extent / lanes, tile.column.extent % lanes);
        let moved = |block: &Index| tile.at_column(at, &(block * lanes));
        let last = moved(&Index::constant(full));
        if parallel && full + i64::from(rest > 0) > 1 {
            let block = b.parallel(full + i64::from(rest > 0));
            let main = moved(&Index::from(block));
            if rest == 0 {
                return emit(b, &main, tile.lanes);
            }
            let emit = std::cell::RefCell::new(emit);
            return either(
                b,
                Index::constant(full - 1) - block,
                &mut |b| (*emit.borrow_mut())(b, &main, tile.lanes),
                &mut |b| (*emit.borrow_mut())(b, &last, rest as u32),
            );
        }
        match full {
            0 => {}
            1 => emit(b, at, tile.lanes),
            _ => b.for_each(full, |b, var| emit(b, &moved(&Index::from(var)), tile.lanes)),
        }
        if rest > 0 {
            emit(b, &last, rest as u32);
        }
    }

    pub(super) fn rows(&self, b: &mut KernelBuilder, at: &[Index], width: u32) {
        for (first, count, guarded) in self.tile.segments() {
            let mut at = at.to_vec();
            advance(&mut at, &self.tile.row, &Index::constant(first));
            let most = if guarded { 1 } else { self.tile.rows };
            self.tiles(b, &at, count, most, width, guarded);
        }
    }

    fn tiles(&self, b: &mut KernelBuilder, at: &[Index], count: i64, most: i64, width: u32, guarded: bool) {
        let dealt = balanced(count, most);
        let of_turn: i64 = dealt.iter().map(|&(tiles, _)| tiles).sum();
        let passes = of_turn * self.turns.count;
        let before_turn = self.turns.done.clone() * of_turn;
        let (mut first, mut pass) = (0, 0);
        for (tiles, rows) in dealt {
            let mut here = at.to_vec();
            advance(&mut here, &self.tile.row, &Index::constant(first));
            let before = &before_turn + pass;
            first += tiles * rows;
            pass += tiles;
            if tiles == 1 {
                let ahead = self.ahead(at, passes, &before, width);
                self.tile_at(b, &here, rows, width, guarded, ahead.as_ref());
                continue;
            }
            b.for_each(tiles, |b, var| {
                let mut moved = here.clone();
                advance(&mut moved, &self.tile.row, &(var * rows));
                let ahead = self.ahead(at, passes, &(&before + var), width);
                self.tile_at(b, &moved, rows, width, guarded, ahead.as_ref());
            });
        }
    }
}

/// Emits the parts of a reduction, those in the middle in a loop: `emit` is told the part, whether it goes on from the sums of
/// another, and whether another goes on from its own.
pub fn in_parts(b: &mut KernelBuilder, parts: i64, emit: impl Fn(&mut KernelBuilder, &Index, (bool, bool))) {
    emit(b, &Index::constant(0), (false, parts > 1));
    match parts - 2 {
        ..=0 => {}
        1 => emit(b, &Index::constant(1), (true, true)),
        middle => b.for_each(middle, |b, var| emit(b, &(var + 1), (true, true))),
    }
    if parts > 1 {
        emit(b, &Index::constant(parts - 1), (true, false));
    }
}

/// Emits the chunk of rows number `chunk` of those that `extent` rows are cut into: `emit` is told its first row and how many it
/// has, `rows` but in the last one.
fn in_chunk(b: &mut KernelBuilder, chunk: Var, extent: i64, rows: i64, emit: &dyn Fn(&mut KernelBuilder, &Index, i64)) {
    let (full, rest) = (extent / rows, extent % rows);
    if rest == 0 {
        return emit(b, &(chunk * rows), rows);
    }
    either(b, Index::constant(full - 1) - chunk, &mut |b| emit(b, &(chunk * rows), rows), &mut |b| {
        emit(b, &Index::constant(full * rows), rest);
    });
}

/// `first` where `index` ≥ 0, else `second`.
fn either(
    b: &mut KernelBuilder,
    index: Index,
    first: &mut dyn FnMut(&mut KernelBuilder),
    second: &mut dyn FnMut(&mut KernelBuilder),
) {
    b.if_else(
        Condition::NonNegative(vec![index]),
        |b| {
            first(b);
            Vec::new()
        },
        |b| {
            second(b);
            Vec::new()
        },
    );
}
