//! Matrix multiplication: C = A · B, the weights B packed into panels when a model is compiled.
//!
//! B's columns are packed `tile.columns` at a time, so that one step of the reduction reads consecutive elements:
//! element (k, n) is at `[n / columns][k][n % columns]`, the last panel filled up with zeros. A tile of `rows × columns`
//! of C lives in registers while the reduction runs; A's elements are broadcast from memory. Around it, a block of
//! tiles reuses one panel of B from the innermost cache, and blocks are the parallel loop. A long reduction goes in
//! pieces of `k_block`, their sums kept in scratch.
//!
//! Every element of C is the sum of its products in order of k, however the work is split.

use kiln_ir::DType;

use crate::clif::Target;
use crate::kir::{Buffer, Index, KernelBuilder, VType, Value, Var};

/// The register tile: what the innermost loop computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Rows of C.
    pub rows: i64,
    /// Columns of C: the lanes of a value, and the width of B's panels.
    pub columns: i64,
    /// Steps of the reduction in one iteration of the innermost loop.
    pub unroll: i64,
}

impl Tile {
    /// The tile for `m` rows in a target's 128-bit registers.
    ///
    /// `rows · columns / 4` accumulators, a row of B and a broadcast have to fit into the vector registers. Of the
    /// heights that do, the one is taken whose whole tiles and the rest, at the fractions of the peak that they were
    /// measured at (the benchmark `gemm --tiles`), take the least time.
    pub fn for_target(target: &Target, m: i64) -> Tile {
        let (columns, heights): (i64, &[(i64, f64)]) = match target.vector_registers() {
            ..=16 => (8, &[(1, 0.25), (2, 0.5), (3, 0.7), (4, 0.84), (5, 0.90), (6, 0.89)]),
            _ => (16, &[(1, 0.25), (2, 0.5), (3, 0.7), (4, 0.85), (5, 0.9), (6, 0.9)]),
        };
        let cost = |rows: i64| heights.iter().find(|h| h.0 == rows).map_or(0.0, |h| rows as f64 / h.1);
        let time = |rows: i64| (m / rows) as f64 * cost(rows) + cost(m % rows);
        let best = heights.iter().min_by(|a, b| time(a.0).total_cmp(&time(b.0)));
        Tile { rows: best.map_or(1, |h| h.0), columns, unroll: 8 }
    }
}

/// Where an element of A is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rows {
    /// Element (m, k) at `m * stride + k`.
    Strided {
        /// Elements between rows.
        stride: i64,
    },
    /// Packed like B: element (m, k) at `[m / tile.rows][k][m % tile.rows]`.
    Packed,
}

/// One matrix multiplication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gemm {
    /// Rows of A and C.
    pub m: i64,
    /// Columns of B and C.
    pub n: i64,
    /// Columns of A, rows of B.
    pub k: i64,
    /// How A is laid out.
    pub rows: Rows,
    /// The register tile.
    pub tile: Tile,
    /// Row tiles of a block: an upper bound.
    pub m_tiles: i64,
    /// Panels of a block: an upper bound.
    pub n_panels: i64,
    /// Longest piece of the reduction.
    pub k_block: i64,
}

fn ceil_div(a: i64, b: i64) -> i64 {
    (a + b - 1) / b
}

/// Elements that B takes when it is packed.
pub fn packed_len(n: i64, k: i64, columns: i64) -> i64 {
    ceil_div(n, columns) * columns * k
}

/// Packs a row-major `k × n` matrix; see the [module's page](self).
pub fn pack<T: Copy + Default>(b: &[T], n: usize, k: usize, columns: usize) -> Vec<T> {
    let mut packed = vec![T::default(); n.div_ceil(columns) * columns * k];
    for (panel, to) in packed.chunks_mut((columns * k).max(1)).enumerate() {
        let first = panel * columns;
        let width = columns.min(n - first);
        for (row, to) in to.chunks_mut(columns).enumerate() {
            let from = row * n + first;
            to[..width].copy_from_slice(&b[from..from + width]);
        }
    }
    packed
}

/// What a store of finished sums gets: one row of a tile (one lane a column), the row, and the first column.
pub type StoreRow<'f> = dyn FnMut(&mut KernelBuilder, Value, Index, Index) + 'f;

impl Gemm {
    /// A multiplication with blocks for caches of usual sizes (32 KiB and 1 MiB).
    pub fn new(m: i64, n: i64, k: i64, rows: Rows, tile: Tile) -> Gemm {
        Gemm { m, n, k, rows, tile, m_tiles: 16, n_panels: 16, k_block: 512 }
    }

    /// Adds the parallel loop and its body to a kernel that has the `f32` buffers `a` and `b` (packed).
    pub fn emit(&self, builder: &mut KernelBuilder, a: Buffer, b: Buffer, store: &mut StoreRow<'_>) {
        let (row_tiles, panels) = (self.m / self.tile.rows, self.n / self.tile.columns);
        let (row_tiles_in, panels_in) =
            (divisor_at_most(row_tiles, self.m_tiles), divisor_at_most(panels, self.n_panels));
        let row_blocks = (row_tiles / row_tiles_in).max(1);
        let column_blocks = (panels / panels_in).max(1);
        let mut emitter = Emitter {
            gemm: *self,
            a,
            b,
            row_tiles: if row_tiles == 0 { 0 } else { row_tiles_in },
            panels: if panels == 0 { 0 } else { panels_in },
            last_row_block: row_blocks - 1,
            last_column_block: column_blocks - 1,
            row_block: builder.parallel(row_blocks),
            column_block: builder.parallel(column_blocks),
            partial: None,
        };
        emitter.block(builder, store);
    }
}

/// The largest divisor of `n` that is at most `limit`; 1 for 0.
fn divisor_at_most(n: i64, limit: i64) -> i64 {
    (1..=n.min(limit)).rev().find(|d| n % d == 0).unwrap_or(1)
}

/// A tile's place: its rows and columns in C, and in the block.
struct Place {
    rows: i64,
    columns: i64,
    /// First row of C.
    row: Index,
    /// Row tile of A.
    row_tile: Index,
    /// Panel of B.
    panel: Index,
    /// First row in the block.
    block_row: Index,
    /// First column in the block.
    block_column: Index,
}

struct Emitter {
    gemm: Gemm,
    a: Buffer,
    b: Buffer,
    /// Whole row tiles of a block.
    row_tiles: i64,
    /// Whole panels of a block.
    panels: i64,
    last_row_block: i64,
    last_column_block: i64,
    row_block: Var,
    column_block: Var,
    /// Sums of earlier pieces of the reduction, a row of the block after the other.
    partial: Option<Buffer>,
}

impl Emitter {
    fn block(&mut self, builder: &mut KernelBuilder, store: &mut StoreRow<'_>) {
        let k = self.gemm.k;
        let length = self.piece_length();
        if length == k {
            return self.tiles(builder, &mut |this, b, place| {
                let sums = this.zeros(b, place);
                let sums = this.reduce(b, place, Index::default(), k, &sums);
                this.store(b, place, &sums, store);
            });
        }
        let rows = self.row_tiles * self.gemm.tile.rows + self.gemm.m % self.gemm.tile.rows;
        self.partial = Some(builder.scratch("partial", DType::F32, rows * self.partial_stride()));
        self.tiles(builder, &mut |this, b, place| {
            let zeros = this.zeros(b, place);
            this.store_partial(b, place, &zeros);
        });
        let piece = |this: &mut Self, b: &mut KernelBuilder, first: &Index, length: i64| {
            this.tiles(b, &mut |this, b, place| {
                let sums = this.load_partial(b, place);
                let sums = this.reduce(b, place, first.clone(), length, &sums);
                this.store_partial(b, place, &sums);
            });
        };
        builder.for_each(k / length, |b, i| piece(self, b, &(i * length), length));
        if k % length > 0 {
            piece(self, builder, &Index::constant(k - k % length), k % length);
        }
        self.tiles(builder, &mut |this, b, place| {
            let sums = this.load_partial(b, place);
            this.store(b, place, &sums, store);
        });
    }

    /// Length of the pieces of the reduction (the last may be shorter): without a rest where there is such a length,
    /// since the rest's code comes on top.
    fn piece_length(&self) -> i64 {
        let (k, limit, unroll) = (self.gemm.k, self.gemm.k_block.max(1), self.gemm.tile.unroll.max(1));
        if k <= limit {
            return k;
        }
        let even = (1..=limit / unroll).rev().map(|n| n * unroll).find(|length| k % length == 0);
        match even {
            Some(length) if length >= limit / 2 => length,
            _ => ceil_div(k, ceil_div(k, limit)),
        }
    }

    /// Calls `tile` for every tile of the block, panel by panel; the last blocks have the narrower tiles at the edges
    /// of C as well.
    fn tiles(&mut self, builder: &mut KernelBuilder, tile: &mut dyn FnMut(&Self, &mut KernelBuilder, &Place)) {
        let Tile { rows, columns, .. } = self.gemm.tile;
        let (edge_rows, edge_columns) = (self.gemm.m % rows, self.gemm.n % columns);
        let this = &*self;
        let mut row_tiles = |b: &mut KernelBuilder, columns: i64, panel: Index, block_column: Index| {
            let place = |rows: i64, row_tile: Index, block_row: Index| Place {
                rows,
                columns,
                row: row_tile.clone() * this.gemm.tile.rows,
                row_tile,
                panel: panel.clone(),
                block_row,
                block_column: block_column.clone(),
            };
            if this.row_tiles > 0 {
                b.for_each(this.row_tiles, |b, i| {
                    tile(this, b, &place(rows, this.row_block * this.row_tiles + i, i * rows));
                });
            }
            if edge_rows > 0 {
                b.when_non_negative(vec![this.row_block - this.last_row_block], |b| {
                    let edge = Index::constant(this.gemm.m / rows);
                    tile(this, b, &place(edge_rows, edge, Index::constant(this.row_tiles * rows)));
                });
            }
        };
        if this.panels > 0 {
            builder.for_each(this.panels, |b, j| {
                row_tiles(b, columns, this.column_block * this.panels + j, j * columns);
            });
        }
        if edge_columns > 0 {
            builder.when_non_negative(vec![this.column_block - this.last_column_block], |b| {
                let edge = Index::constant(this.gemm.n / columns);
                row_tiles(b, edge_columns, edge, Index::constant(this.panels * columns));
            });
        }
    }

    fn zeros(&self, b: &mut KernelBuilder, place: &Place) -> Vec<Value> {
        let zero = b.constant(VType::new(DType::F32, place.columns as u32), 0.0);
        vec![zero; place.rows as usize]
    }

    /// Adds `length` steps of the reduction, from `first` on, to a tile's sums.
    fn reduce(&self, b: &mut KernelBuilder, place: &Place, first: Index, length: i64, sums: &[Value]) -> Vec<Value> {
        let unroll = self.gemm.tile.unroll.max(1);
        let sums = b.for_loop(length / unroll, sums, |b, i, sums| {
            (0..unroll).fold(sums.to_vec(), |sums, u| self.step(b, place, i * unroll + u + &first, sums))
        });
        let rest = length - length % unroll..length;
        rest.fold(sums, |sums, k| self.step(b, place, &first + k, sums))
    }

    /// One step of the reduction: the outer product of a column of A and a row of B.
    fn step(&self, b: &mut KernelBuilder, place: &Place, k: Index, sums: Vec<Value>) -> Vec<Value> {
        let Tile { rows, columns, .. } = self.gemm.tile;
        let lanes = place.columns as u32;
        let weights = b.load(self.b, place.panel.clone() * (self.gemm.k * columns) + k.clone() * columns, lanes);
        let mut next = Vec::with_capacity(sums.len());
        for (row, sum) in (0..).zip(sums) {
            let element = match self.gemm.rows {
                Rows::Strided { stride } => (place.row.clone() + row) * stride + &k,
                Rows::Packed => place.row_tile.clone() * (self.gemm.k * rows) + k.clone() * rows + row,
            };
            let element = b.load_splat(self.a, element, lanes);
            next.push(b.fma(element, weights, sum));
        }
        next
    }

    fn store(&self, b: &mut KernelBuilder, place: &Place, sums: &[Value], store: &mut StoreRow<'_>) {
        for (row, &sum) in (0..).zip(sums) {
            store(b, sum, place.row.clone() + row, place.panel.clone() * self.gemm.tile.columns);
        }
    }

    fn partial_stride(&self) -> i64 {
        self.panels * self.gemm.tile.columns + self.gemm.n % self.gemm.tile.columns
    }

    fn load_partial(&self, b: &mut KernelBuilder, place: &Place) -> Vec<Value> {
        let Some(partial) = self.partial else { return self.zeros(b, place) };
        let at = place.block_row.clone() * self.partial_stride() + &place.block_column;
        let rows = (0..place.rows).map(|row| b.load(partial, &at + row * self.partial_stride(), place.columns as u32));
        rows.collect()
    }

    fn store_partial(&self, b: &mut KernelBuilder, place: &Place, sums: &[Value]) {
        let Some(partial) = self.partial else { return };
        let at = place.block_row.clone() * self.partial_stride() + &place.block_column;
        for (row, &sum) in (0..).zip(sums) {
            b.store(partial, &at + row * self.partial_stride(), sum);
        }
    }
}
