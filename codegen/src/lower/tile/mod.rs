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

mod ahead;
mod dealing;
mod loops;
mod registers;

use kiln_ir::DType;

use self::ahead::{FEWEST_PASSES, Turns};
pub use self::dealing::{ENOUGH_PARALLEL, ROW_CHUNK};
use self::loops::Emitter;
pub use self::loops::in_parts;
use super::grouped::Narrow;
use super::nest::{Axis, volume};
use super::scalar::TypedExpr;
use super::walk::advance;
use crate::kir::{BinaryOp, Bits, Buffer, Index, KernelBuilder};

/// What happens to an accumulator per reduction index.
#[derive(Clone, Debug)]
pub enum Combine {
    /// Adds the product of the two inputs.
    MulAdd,
    /// Adds the products of four bytes of each input, those of the first unsigned and side by side along the innermost reduction
    /// loop, which counts fours. Its last four begin `overlap` bytes before the end of those before: what they share with
    /// them is not added again.
    DotBytes {
        /// 0 to 3; 0 where the bytes are a multiple of four.
        overlap: i64,
    },
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
            Combine::DotBytes { .. } => 8,
            Combine::Fold { prologue, .. } => prologue.cost(),
        };
        let reduced = sums.saturating_mul((volume(&self.reduce) as u64).saturating_mul(each));
        reduced.saturating_add(results.saturating_mul(self.epilogue.cost() - 1))
    }

    /// Elements of an input that a sum takes.
    fn depth(&self) -> i64 {
        let each = if matches!(self.combine, Combine::DotBytes { .. }) { 4 } else { 1 };
        volume(&self.reduce) * each
    }

    /// Sums of a row.
    fn sums(&self) -> usize {
        self.narrow.map_or(1, |n| n.outputs as usize)
    }

    /// Where everything is from column `first` on, which begins a block.
    fn at_column(&self, at: &[Index], first: &Index) -> Vec<Index> {
        let mut moved = at.to_vec();
        advance(&mut moved, &self.column, first);
        if self.panels {
            // panels follow one another, each as deep as the reduction
            moved[2] = &at[2] + first * self.depth();
        }
        moved
    }

    fn row_guard(&self) -> Option<usize> {
        let first = self.buffers.len();
        (0..self.guards.len()).find(|&g| self.row.strides.get(first + g).is_some_and(|&s| s != 0))
    }
}
