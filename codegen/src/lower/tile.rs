//! The tile generator: contractions, convolutions, window and column reductions.
//!
//! All of these are one nest: *outer* loops, a *row* loop, a *column* loop and *reduction* loops, over which every
//! operand moves with strides of its own (0 where it does not move). A tile of some rows × a vector of columns is kept
//! in registers while the reduction loops run; then an epilogue is applied and the tile stored.
//!
//! ```text
//! parallel outer…, chunk of rows            (or: block of columns, where weights outweigh activations)
//!   for each block of columns
//!     for each tile of rows
//!       acc[row][column] = identity
//!       for each reduction index: acc[row][column] = combine(acc, inputs…)
//!       result[row][column] = epilogue(acc, extras…)
//! ```
//!
//! A *guard* is a coordinate that moves like an operand and must lie in 0..extent, elsewhere the reduction skips: that
//! is how padding costs no memory. Guards that move with rows are only asked in the rows near an end.

use kiln_ir::DType;

use super::grouped::Narrow;
use super::nest::{Axis, volume};
use super::scalar::{TypedExpr, compute_dtype, load, store};
use super::walk::advance;
use crate::kir::{BinaryOp, Bits, Buffer, Condition, Index, KernelBuilder, VType, Value};

/// What happens to an accumulator per reduction index.
#[derive(Clone, Debug)]
pub enum Combine {
    /// Adds the product of the two inputs.
    MulAdd,
    /// Combines with an expression of the inputs.
    Fold {
        /// How.
        op: BinaryOp,
        /// What an empty reduction gives.
        identity: Bits,
        /// Of the inputs.
        prologue: TypedExpr,
    },
}

/// A buffer of a tile kernel.
#[derive(Clone, Debug)]
pub struct TileBuffer {
    /// Element type.
    pub dtype: DType,
    /// Elements.
    pub len: i64,
    /// First element.
    pub start: i64,
}

/// A coordinate that must lie in `0..extent`.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    /// Bound.
    pub extent: i64,
    /// Value where all loops are at 0.
    pub start: i64,
}

/// A nest to emit; see the module page. Strides are per operand in this order: result, inputs, extras, guards.
#[derive(Clone, Debug)]
pub struct Tile {
    /// Name of the kernel.
    pub name: &'static str,
    /// Result, inputs, extras.
    pub buffers: Vec<TileBuffer>,
    /// How many of the buffers are inputs.
    pub inputs: usize,
    /// Coordinates to check.
    pub guards: Vec<Guard>,
    /// Loops around.
    pub outer: Vec<Axis>,
    /// The loop that is tiled.
    pub row: Axis,
    /// The loop that runs in vectors.
    pub column: Axis,
    /// Loops that are reduced, innermost last.
    pub reduce: Vec<Axis>,
    /// How.
    pub combine: Combine,
    /// Dtype of the accumulators.
    pub accumulator: DType,
    /// Dtype of the reduction's result, which is the epilogue's first argument.
    pub reduced: DType,
    /// Of the reduction's result and the extras.
    pub epilogue: TypedExpr,
    /// Whether input 1 (the second) is packed in panels of `lanes` columns: its reduction strides are then in units of
    /// the panel's width, and panels follow one another.
    pub panels: bool,
    /// Columns of a tile.
    pub lanes: u32,
    /// Rows of a tile.
    pub rows: i64,
    /// Whether blocks of columns are the parallel loop and rows run inside it.
    pub columns_first: bool,
    /// Narrow groups: a row has a sum for each output channel of a group, whose filters follow one another in input 1. The
    /// columns are one vector of input channels, or of output channels for the result and the extras.
    pub narrow: Option<Narrow>,
    /// A loop inside each tile of rows: vectors of columns that lie side by side, so that a tile reads whole runs of memory.
    pub inside: Option<Axis>,
    /// What a tile asks the first input for ahead, as elements from where the tile starts.
    pub fetch: Vec<i64>,
}

/// Rows that share a block of columns before the next block is taken, so that they stay in the second-level cache.
pub const ROW_CHUNK: i64 = 48;
/// Parallel iterations below which blocks of columns are made parallel too.
pub const ENOUGH_PARALLEL: i64 = 8;
/// Most groups of blocks of columns: the rows are read again for each.
const MOST_GROUPS: i64 = 8;
/// Steps of the innermost reduction loop that are written out instead of looped over.
const UNROLL_WHOLE: i64 = 12;
/// Steps of the innermost reduction loop per iteration.
const UNROLL: i64 = 8;
/// Bytes of packed weights that fit beside everything else into the second-level cache: larger ones are asked for ahead.
const CACHED_WEIGHTS: i64 = 512 << 10;
/// Largest panel that is asked for ahead: two of them stay in the second-level cache. Deeper products are summed in parts.
const MOST_PANEL: i64 = 200 << 10;
/// Most of a panel that a product of a single depth loop goes over at once, if it is cut at all: the first-level cache keeps it.
const NEAR_PANEL: i64 = 50 << 10;
/// Most bytes of sums that are kept between the parts of a deep product.
const MOST_PARTIAL: i64 = 64 << 10;
/// Fewest passes of a product over a panel among which asking for the next one is divided: in fewer it gets in the way of
/// loads. (The frequencies of Winograd's algorithm have so few that it pays from the first.)
const FEWEST_PASSES: i64 = 3;
/// Most passes over a panel among which the next panel is divided.
const MOST_PARTS: i64 = 32;
/// Bytes of a cache line.
const LINE: i64 = 64;

impl Tile {
    /// A product of 32-bit floats for [`Tile::emit_inside`], in tiles of `lanes` columns and `rows` rows.
    pub fn product(
        name: &'static str,
        buffers: Vec<TileBuffer>,
        [row, column, reduce]: [Axis; 3],
        epilogue: TypedExpr,
        (lanes, rows): (u32, i64),
    ) -> Tile {
        Tile {
            name,
            buffers,
            inputs: 2,
            guards: Vec::new(),
            outer: Vec::new(),
            row,
            column,
            reduce: vec![reduce],
            combine: Combine::MulAdd,
            accumulator: DType::F32,
            reduced: DType::F32,
            epilogue,
            panels: false,
            lanes,
            rows,
            columns_first: false,
            narrow: None,
            inside: None,
            fetch: Vec::new(),
        }
    }

    /// Emits the kernel; its buffers are in the order of `self.buffers`.
    pub fn emit(&self) -> KernelBuilder {
        let mut b = KernelBuilder::new(self.name);
        let mut buffers = Vec::with_capacity(self.buffers.len());
        for (i, buffer) in self.buffers.iter().enumerate() {
            buffers.push(match i {
                0 => b.output("y", buffer.dtype, buffer.len),
                _ => b.input(format!("x{}", i - 1), buffer.dtype, buffer.len),
            });
        }
        let starts = self.buffers.iter().map(|t| t.start).chain(self.guards.iter().map(|g| g.start));
        let at: Vec<Index> = starts.map(Index::constant).collect();
        // where rows come in chunks, weights are read again for each, and from a cache
        let fewest_passes = if self.columns_first { FEWEST_PASSES } else { i64::MAX };
        Emitter { tile: self, buffers, fewest_passes, partial: None, turns: Turns::once() }.nest(&mut b, at);
        b
    }

    /// Emits the nest inside another kernel, serially: its buffers are `buffers`, and `at` their indices where all loops are
    /// at 0. There are no outer loops and guards.
    pub fn emit_inside(&self, b: &mut KernelBuilder, buffers: Vec<Buffer>, at: &[Index]) {
        let emitter = Emitter { tile: self, buffers, fewest_passes: 1, partial: None, turns: Turns::once() };
        emitter.columns(b, at, false, &mut |b, at, width| emitter.rows(b, at, width));
    }

    /// Arithmetic operations.
    pub fn flops(&self) -> u64 {
        let inside = self.inside.as_ref().map_or(1, |axis| axis.extent);
        let rows = volume(&self.outer).saturating_mul(self.row.extent).saturating_mul(inside);
        let results = rows.saturating_mul(self.narrow.map_or(self.column.extent, |n| i64::from(n.results()))) as u64;
        let sums = rows.saturating_mul(self.column.extent).saturating_mul(self.sums() as i64) as u64;
        let each = match &self.combine {
            Combine::MulAdd => 2,
            Combine::Fold { prologue, .. } => prologue.cost(),
        };
        let reduced = sums.saturating_mul((volume(&self.reduce) as u64).saturating_mul(each));
        reduced.saturating_add(results.saturating_mul(self.epilogue.cost() - 1))
    }

    /// Sums of a row.
    fn sums(&self) -> usize {
        self.narrow.map_or(1, |n| n.outputs as usize)
    }

    /// Into how many parts the outermost reduction loop is cut, so that the panel of a part is small enough to be asked for
    /// ahead while all `rows` go over the one before. Weights that are read once are not worth it.
    fn depth_parts(&self, rows: i64) -> i64 {
        let outermost = match self.reduce.first() {
            Some(axis) if self.columns_first && self.panels && self.guards.is_empty() => axis.extent,
            _ => return 1,
        };
        let bytes = |dtype: DType, n: i64| n * i64::from(self.lanes) * dtype.size() as i64;
        let (panel, sums) = (bytes(self.buffers[2].dtype, volume(&self.reduce)), bytes(self.accumulator, rows));
        let again = (rows > self.row.extent || rows > self.rows)
            && sums <= MOST_PARTIAL
            && matches!(self.combine, Combine::MulAdd);
        let fits = |most: i64| move |parts: &i64| outermost % parts == 0 && panel / parts <= most;
        if !again || panel <= MOST_PANEL {
            return 1;
        }
        let mut counts = 2..=outermost.min(16);
        let near = if self.reduce.len() == 1 { counts.clone().find(fits(NEAR_PANEL)) } else { None };
        near.or_else(|| counts.find(fits(MOST_PANEL))).unwrap_or(1)
    }

    /// How rows and columns are dealt to threads where rows are many.
    fn chunks(&self) -> Chunks {
        let tiles = (ROW_CHUNK / self.rows).max(1);
        let blocks = self.column.extent / i64::from(self.lanes);
        let weights = match self.inputs {
            2 => volume(&self.reduce) * self.column.extent * self.buffers[2].dtype.size() as i64,
            _ => 0,
        };
        let units = volume(&self.outer) * ((self.row.extent - 1) / (tiles * self.rows) + 1);
        let fits = |groups: &i64| {
            blocks % groups == 0 && units * groups >= ENOUGH_PARALLEL && weights / groups <= CACHED_WEIGHTS
        };
        let even = self.column.extent % i64::from(self.lanes) == 0;
        let groups = if even { (1..=MOST_GROUPS).find(fits).unwrap_or(1) } else { 1 };
        // of two threads the first has as many chunks as the second, or one more
        let longest = |rows: i64| {
            let chunks = volume(&self.outer) * groups * ((self.row.extent - 1) / rows + 1);
            (chunks + 1) / 2 * rows
        };
        let rows = ((tiles + 1) / 2..=tiles).rev().map(|tiles| tiles * self.rows).min_by_key(|&rows| longest(rows));
        Chunks { groups, rows: rows.unwrap_or(self.rows) }
    }

    /// Where everything is from column `first` on, which begins a block.
    fn at_column(&self, at: &[Index], first: &Index) -> Vec<Index> {
        let mut moved = at.to_vec();
        advance(&mut moved, &self.column, first);
        if self.panels {
            // panels follow one another, each as deep as the reduction
            moved[2] = &at[2] + first * volume(&self.reduce);
        }
        moved
    }

    fn row_guard(&self) -> Option<usize> {
        let first = self.buffers.len();
        (0..self.guards.len()).find(|&g| self.row.strides.get(first + g).is_some_and(|&s| s != 0))
    }

    /// The rows as runs of (first, count, whether guards that move with rows must be asked).
    fn segments(&self) -> Vec<(i64, i64, bool)> {
        let extent = self.row.extent;
        let Some(guard) = self.row_guard() else { return vec![(0, extent, false)] };
        let at = self.buffers.len() + guard;
        let (stride, Guard { extent: limit, start }) = (self.row.strides[at], self.guards[guard]);
        let reach: i64 = self.reduce.iter().map(|a| a.strides[at] * (a.extent - 1)).sum();
        let simple = stride > 0 && self.outer.iter().all(|a| a.strides[at] == 0);
        if !simple {
            return vec![(0, extent, true)];
        }
        let low = (-start + stride - 1).div_euclid(stride).clamp(0, extent);
        let high = ((limit - 1 - reach - start).div_euclid(stride) + 1).clamp(low, extent);
        let all = [(0, low, true), (low, high - low, false), (high, extent - high, true)];
        all.into_iter().filter(|&(_, count, _)| count > 0).collect()
    }
}

/// How rows and columns are dealt to threads.
struct Chunks {
    /// Groups of blocks of columns: each goes over all rows before the next one comes, so that its weights stay in the second-level cache.
    groups: i64,
    /// Rows of a chunk, which share a block of columns before the next block is taken.
    rows: i64,
}

/// `count` rows as (tiles of n rows, n), in at most `most` rows a tile and as evenly as possible.
fn balanced(count: i64, most: i64) -> Vec<(i64, i64)> {
    let tiles = (count + most - 1) / most;
    if tiles == 0 {
        return Vec::new();
    }
    let big = (count + tiles - 1) / tiles;
    let small_tiles = tiles * big - count;
    [(tiles - small_tiles, big), (small_tiles, big - 1)].into_iter().filter(|&(n, rows)| n > 0 && rows > 0).collect()
}

struct Emitter<'t> {
    tile: &'t Tile,
    buffers: Vec<Buffer>,
    /// Passes over a panel of weights from which on the next one is asked for.
    fewest_passes: i64,
    /// Where a part of a deep product begins and ends.
    partial: Option<Partial>,
    /// The loops around the rows that go over the same panel of weights.
    turns: Turns,
}

/// Iterations of the loops around the rows of a panel.
#[derive(Clone)]
struct Turns {
    count: i64,
    done: Index,
}

impl Turns {
    fn once() -> Turns {
        Turns { count: 1, done: Index::constant(0) }
    }
}

/// Sums on their way from one part of a deep product to the next. Their place is the operand after all others.
#[derive(Clone, Copy)]
struct Partial {
    sums: Buffer,
    /// Whether the part goes on from the sums of another.
    resumes: bool,
    /// Whether another part goes on from its sums.
    suspends: bool,
}

/// What a pass over a panel of weights asks for meanwhile: its share of the next panel.
struct Ahead {
    /// Where the panel starts.
    panel: Index,
    /// Where the share starts.
    share: Index,
    /// How many shares the next panel has, a power of two.
    parts: i64,
}

impl Ahead {
    /// What corresponds to a place of the panel in the share.
    fn place(&self, at: &Index) -> Index {
        let mut moved = at - self.panel.clone();
        moved.terms.iter_mut().for_each(|(_, stride)| *stride /= self.parts);
        moved.offset /= self.parts;
        moved + &self.share
    }
}

type Emit<'a> = &'a mut dyn FnMut(&mut KernelBuilder, &[Index], u32);

impl Emitter<'_> {
    fn nest(&self, b: &mut KernelBuilder, mut at: Vec<Index>) {
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
            let rows = volume(&serial) * tile.row.extent;
            match tile.depth_parts(rows) {
                1 => self.columns(b, &at, true, &mut |b, at, width| self.serial(b, &serial, at, width)),
                parts => {
                    let sums = b.scratch("sums", tile.accumulator, rows * i64::from(tile.lanes));
                    self.columns(b, &at, true, &mut |b, at, width| self.parts(b, parts, sums, &serial, at, width));
                }
            }
            return;
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
        let (full, rest) = (tile.row.extent / rows, tile.row.extent % rows);
        let chunk = b.parallel(full + i64::from(rest > 0));
        let whole = |b: &mut KernelBuilder, first: &Index, count: i64| {
            let mut at = at.clone();
            advance(&mut at, &tile.row, first);
            this.columns(b, &at, false, &mut |b, at, width| this.tiles(b, at, count, tile.rows, width, false));
        };
        if rest == 0 {
            return whole(b, &(chunk * rows), rows);
        }
        either(b, Index::constant(full - 1) - chunk, &mut |b| whole(b, &(chunk * rows), rows), &mut |b| {
            whole(b, &Index::constant(full * rows), rest)
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
    fn columns(&self, b: &mut KernelBuilder, at: &[Index], parallel: bool, emit: Emit<'_>) {
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

    fn rows(&self, b: &mut KernelBuilder, at: &[Index], width: u32) {
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

    /// What pass number `pass` of `passes` over a panel asks for, where weights are too many for the cache.
    fn ahead(&self, at: &[Index], passes: i64, pass: &Index, width: u32) -> Option<Ahead> {
        let tile = self.tile;
        if !tile.panels {
            return None;
        }
        let size = tile.buffers[2].dtype.size() as i64;
        let depth = volume(&tile.reduce);
        let parts = (1 << passes.ilog2()).min(MOST_PARTS).min(i64::from(width));
        let large = tile.buffers[2].len * size > CACHED_WEIGHTS;
        // where sums cannot wait for other rows, the panel must be asked for whole
        let most_panel = if self.turns.count > 1 { 2 * MOST_PANEL } else { MOST_PANEL };
        let worth = large
            && depth * i64::from(width) * size <= most_panel
            && (self.fewest_passes..=2 * MOST_PARTS).contains(&passes)
            && i64::from(width) % parts == 0;
        worth.then(|| {
            let panel = at[2].clone();
            let length = depth * i64::from(width);
            let share = &panel + length + pass * (length / parts);
            Ahead { panel, share, parts }
        })
    }

    /// One tile, for each of the vectors inside it.
    fn tile_at(
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
            Combine::MulAdd => Bits(0),
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
                            Combine::MulAdd => b.convert(value, tile.accumulator),
                            Combine::Fold { .. } => value,
                        }
                    }
                };
                shared[i] = (tile.row.strides[1 + i] == 0).then_some(value);
                inputs.push(value);
            }
            inputs.reverse();
            next.push(match (&tile.combine, inputs.as_slice()) {
                (Combine::MulAdd, &[x, y]) => self.multiply_add(b, x, y, acc),
                (Combine::Fold { op, prologue, .. }, inputs) => {
                    let value = prologue.emit(b, inputs);
                    let value = b.convert(value, tile.accumulator);
                    b.binary(*op, acc, value)
                }
                (Combine::MulAdd, _) => acc,
            });
        }
        next
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

#[cfg(test)]
mod tests {
    use super::balanced;

    #[test]
    fn rows_are_dealt_out_evenly() {
        assert_eq!(balanced(7, 4), [(1, 4), (1, 3)]);
        assert_eq!(balanced(13, 4), [(1, 4), (3, 3)]);
        assert_eq!(balanced(12, 4), [(3, 4)]);
        assert_eq!(balanced(1, 4), [(1, 1)]);
        assert_eq!(balanced(0, 4), []);
        for count in 1..60 {
            for most in 1..9 {
                let dealt = balanced(count, most);
                assert_eq!(dealt.iter().map(|(n, rows)| n * rows).sum::<i64>(), count);
                assert!(dealt.iter().all(|&(_, rows)| rows <= most));
            }
        }
    }
}
