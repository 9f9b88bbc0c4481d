//! Convolutions by Winograd's minimal filtering.
//!
//! ```text
//! parallel block of tiles (and part of the output channels)
//!   for each tile, a vector of channels at a time:   V[frequency][tile][c] = Bᵀ x B         in scratch
//!   for each frequency:                              M[f][tile][k] = V[f] · U[f]            a product, in scratch
//!   for each tile, a vector of channels at a time:   y = epilogue(Aᵀ M A)
//! ```
//!
//! Tiles of all images are numbered and dealt to blocks of equal size, small enough that a block's V and M stay in the
//! second-level cache. A table made at compile time says where each tile lies in x, the result and the epilogue's operands, and how many of its rows
//! and columns are results: those at the lower and right edges store less. x is padded so that every tile can be read whole.

mod choose;
mod cook_toom;
mod transform;
mod weights;

use kiln_ir::scalar::ScalarExpr;
use kiln_ir::{DType, NodeId, Tensor};
use kiln_runtime::Access;

pub use choose::{Choice, Layer, alternatives, choose};
use cook_toom::CookToom;
pub use weights::FilterTransform;

use super::context::{Lowering, Slot};
use super::contraction::tile_shape;
use super::error::LowerError;
use super::halo::Halo;
use super::machine::Machine;
use super::nest::{self, Axis};
use super::scalar::{TypedExpr, load, store};
use super::tile::{Tile, TileBuffer};
use crate::kir::{Buffer, CompareOp, Index, KernelBuilder, VType, Value, Var};
use crate::plan::program::View;
use crate::tuning::Decision;

/// Elements between rows of V and M beyond their channels, so that rows do not fall into the same cache sets.
const ROW_PADDING: i64 = 16;

/// A convolution to lower: channels last, stride 1, dilation 1, one group, `r × r` taps.
pub struct Convolution<'a> {
    /// The node.
    pub id: NodeId,
    /// The algorithm.
    pub choice: Choice,
    /// That it was chosen.
    pub decision: Decision,
    /// The layer.
    pub layer: Layer,
    /// x in memory that holds all of every tile: batch, rows, columns, channels.
    pub x: Halo,
    /// The corner of the first tile.
    pub start: i64,
    /// The filter, and its strides by input channel, output channel, row and column.
    pub filter: (Tensor, [usize; 4]),
    /// The result.
    pub y: Slot,
    /// Operands of the epilogue, after the convolution.
    pub extras: Vec<View>,
    /// The epilogue.
    pub epilogue: &'a ScalarExpr,
}

/// Columns and rows of the register tile of the products: the largest one.
fn product_shape(machine: Machine) -> (u32, i64) {
    tile_shape(machine, DType::F32, i64::MAX, i64::MAX)
}

/// Rows (or columns) that x must have so that every tile can be read.
pub fn needed(results: usize, choice: &Choice) -> usize {
    let CookToom { m, r, .. } = choice.transform;
    results.div_ceil(m) * m + r - 1
}

/// An operand that moves with the results: the result itself, or one of the epilogue.
struct Moving {
    /// By image, row, column and channel, in elements.
    strides: [i64; 4],
    start: i64,
    /// Column of the table with the tiles' offsets; `None` where the operand does not move in images, rows and columns.
    column: Option<i64>,
    /// Largest offset of a whole tile, and of any pixel.
    most_whole: i64,
    most: i64,
}

/// Appends the convolution's step.
pub fn lower(l: &mut Lowering<'_>, c: Convolution<'_>) -> Result<(), LowerError> {
    let [height, width] = c.layer.results;
    let CookToom { m, .. } = c.choice.transform;
    let n = c.choice.transform.products();
    let mut moving: Vec<Moving> = Vec::with_capacity(1 + c.extras.len());
    let strides_of = |strides: &[i64]| [strides[0], strides[1], strides[2], strides[3]];
    let operands = std::iter::once((strides_of(&c.y.strides), c.y.start))
        .chain(c.extras.iter().map(|e| (strides_of(&nest::broadcast_strides(&e.dims)), 0)));
    // the table: offset in x, rows, columns, whether whole, then the offsets of operands that move
    let mut columns = 4;
    for (strides, start) in operands {
        let moves = strides[..3].iter().any(|&s| s != 0);
        moving.push(Moving { strides, start, column: moves.then_some(columns), most_whole: 0, most: 0 });
        columns += i64::from(moves);
    }
    let tiles_per_row = width.div_ceil(m);
    let tiles_per_image = height.div_ceil(m) * tiles_per_row;
    let x_strides = &c.x.strides();
    let slots = c.choice.blocks * c.choice.block_tiles();
    let mut table: Vec<i64> = Vec::with_capacity(slots * columns as usize);
    let (mut most_x, mut whole_tiles, mut part_tiles) = (0, false, false);
    for tile in 0..slots {
        if tile >= c.choice.tiles {
            // rows and columns of 0: computed, never stored
            table.extend(std::iter::repeat_n(0, columns as usize));
            part_tiles = true;
            continue;
        }
        let (image, rest) = (tile / tiles_per_image, tile % tiles_per_image);
        let (top, left) = (rest / tiles_per_row * m, rest % tiles_per_row * m);
        let (rows, cols) = ((height - top).min(m), (width - left).min(m));
        let whole = rows == m && cols == m;
        whole_tiles |= whole;
        part_tiles |= !whole;
        let offset = |s: &[i64]| image as i64 * s[0] + top as i64 * s[1] + left as i64 * s[2];
        let corner = c.start + offset(x_strides);
        most_x = most_x.max(corner);
        table.extend([corner, rows as i64, cols as i64, i64::from(whole)]);
        for operand in moving.iter_mut().filter(|o| o.column.is_some()) {
            let at = offset(&operand.strides);
            let last = at + (rows as i64 - 1) * operand.strides[1] + (cols as i64 - 1) * operand.strides[2];
            operand.most = operand.most.max(last);
            if whole {
                operand.most_whole = operand.most_whole.max(at);
            }
            table.push(at);
        }
    }
    let table = l.constant(DType::I64, &[table.len()], bytemuck::cast_slice(&table).to_vec());
    let shape = product_shape(l.machine);
    let filter = FilterTransform {
        transform: c.choice.transform.clone(),
        inputs: c.layer.inputs,
        outputs: c.layer.outputs,
        strides: c.filter.1,
        panel: shape.0 as usize,
    };
    let u = l.transformed(&c.filter.0, filter);
    let lanes = l.machine.lanes(DType::F32);
    let mut dtypes = vec![DType::F32];
    dtypes.extend(c.extras.iter().map(|e| e.dtype));
    let epilogue = l.typed(c.id, c.epilogue, &dtypes)?;

    let mut b = KernelBuilder::new(match m {
        2 => "winograd_2",
        4 => "winograd_4",
        _ => "winograd_6",
    });
    let y = b.output("y", c.y.view.dtype, c.y.view.len() as i64);
    let x = b.input("x", DType::F32, c.x.tensor.len() as i64);
    let filters = b.input("u", DType::F32, u.len() as i64);
    let places = b.input("tiles", DType::I64, table.len() as i64);
    let extras: Vec<Buffer> =
        c.extras.iter().enumerate().map(|(i, e)| b.input(format!("x{}", i + 1), e.dtype, e.len() as i64)).collect();
    let (rows, frequencies) = (c.choice.block_tiles() as i64, (n * n) as i64);
    let (inputs, outputs) = (c.layer.inputs as i64, c.layer.outputs as i64);
    let parts = c.choice.parts as i64;
    let part_outputs = outputs / parts;
    let (v_row, m_row) = (inputs + ROW_PADDING, part_outputs + ROW_PADDING);
    let v = b.scratch("v", DType::F32, frequencies * rows * v_row);
    let products = b.scratch("m", DType::F32, frequencies * rows * m_row);
    let block = b.parallel(c.choice.blocks as i64);
    let first_output = b.parallel(parts) * part_outputs;
    let emitter = Emitter {
        transform: &c.choice.transform,
        lanes,
        columns,
        rows,
        block,
        places,
        moving: &moving,
        whole_tiles,
        part_tiles,
        x_strides,
        most_x,
        epilogue: &epilogue,
        y,
        extras: &extras,
    };
    b.for_each(rows, |b, tile| {
        emitter.channels(b, inputs, &mut |b, channel, lanes| emitter.input(b, x, v, v_row, tile, channel, lanes));
    });
    b.for_each(frequencies, |b, f| {
        let buffer = |len: i64| TileBuffer { dtype: DType::F32, len, start: 0 };
        let buffers = vec![
            buffer(frequencies * rows * m_row),
            buffer(frequencies * rows * v_row),
            buffer(frequencies * inputs * outputs),
        ];
        let axes = [
            Axis { extent: rows, strides: vec![m_row, v_row, 0] },
            Axis { extent: part_outputs, strides: vec![1, 0, 1] },
            Axis { extent: inputs, strides: vec![0, 1, 1] },
        ];
        let product = Tile::product("product", buffers, axes, TypedExpr::identity(DType::F32), shape);
        let product = Tile { panels: true, ..product };
        let at = vec![f * (rows * m_row), f * (rows * v_row), f * (inputs * outputs) + &first_output * inputs];
        product.emit_inside(b, vec![products, v, filters], &at);
    });
    b.for_each(rows, |b, tile| {
        emitter.channels(b, part_outputs, &mut |b, channel, lanes| {
            emitter.output(b, products, m_row, tile, channel, &first_output, lanes);
        });
    });
    let mut uses = vec![c.y.written(), c.x.read(), u.used(Access::Read)];
    uses.push(table.used(Access::Read));
    uses.extend(c.extras.iter().map(|e| e.used(Access::Read)));
    let flops = 2 * (slots as u64) * frequencies as u64 * (inputs * outputs) as u64;
    let label = format!("{} (Winograd F({m},{}))", l.label(c.id), c.choice.transform.r);
    l.step_with(label, b, uses, flops)?;
    l.decided(c.decision);
    Ok(())
}

struct Emitter<'a> {
    transform: &'a CookToom,
    /// Channels that transforms handle at once: those of a register.
    lanes: u32,
    /// Of the table.
    columns: i64,
    /// Tiles of a block.
    rows: i64,
    block: Var,
    places: Buffer,
    moving: &'a [Moving],
    whole_tiles: bool,
    part_tiles: bool,
    x_strides: &'a [i64],
    most_x: i64,
    epilogue: &'a TypedExpr,
    y: Buffer,
    extras: &'a [Buffer],
}

type Channels<'a> = &'a mut dyn FnMut(&mut KernelBuilder, &Index, u32);

impl Emitter<'_> {
    /// All channels, as many at once as a register has lanes; the rest in a narrower piece.
    fn channels(&self, b: &mut KernelBuilder, count: i64, emit: Channels<'_>) {
        let lanes = i64::from(self.lanes);
        let full = count / lanes;
        match full {
            0 => {}
            1 => emit(b, &Index::constant(0), self.lanes),
            _ => b.for_each(full, |b, block| emit(b, &(block * lanes), self.lanes)),
        }
        if count % lanes > 0 {
            emit(b, &Index::constant(full * lanes), (count % lanes) as u32);
        }
    }

    /// An entry of the table.
    fn place(&self, b: &mut KernelBuilder, tile: Var, column: i64) -> Value {
        b.load(self.places, self.block * (self.rows * self.columns) + tile * self.columns + column, 1)
    }

    /// `place`, at most `most`: which it is, and which the verifier sees.
    fn bounded(&self, b: &mut KernelBuilder, place: Value, most: i64) -> Index {
        let most_value = b.constant_int(VType::scalar(DType::I64), most);
        let place = b.min(place, most_value);
        Index::dynamic(place, most + 1)
    }

    #[allow(clippy::too_many_arguments)] // where from and where to
    fn input(&self, b: &mut KernelBuilder, x: Buffer, v: Buffer, v_row: i64, tile: Var, channel: &Index, lanes: u32) {
        let n = self.transform.products();
        let place = self.place(b, tile, 0);
        let origin = self.bounded(b, place, self.most_x) + channel;
        let matrix = &self.transform.input;
        let halfway = transform::columns(b, matrix, |b, row, column| {
            b.load(x, &origin + (row * self.x_strides[1] + column * self.x_strides[2]), lanes)
        });
        for row in 0..n {
            for (column, value) in transform::row(b, matrix, &halfway, row).into_iter().enumerate() {
                let f = (row * n + column) as i64;
                b.store(v, tile * v_row + channel + f * self.rows * v_row, value);
            }
        }
    }

    #[allow(clippy::too_many_arguments)] // where from and where to
    fn output(
        &self,
        b: &mut KernelBuilder,
        products: Buffer,
        m_row: i64,
        tile: Var,
        channel: &Index,
        first: &Index,
        lanes: u32,
    ) {
        let (n, m) = (self.transform.products(), self.transform.m);
        let matrix = &self.transform.output;
        let halfway = transform::columns(b, matrix, |b, row, column| {
            let f = row * n as i64 + column;
            b.load(products, tile * m_row + channel + f * self.rows * m_row, lanes)
        });
        let channel = &(channel + first);
        let whole = |b: &mut KernelBuilder| {
            let origins = self.origins(b, tile, |o| o.most_whole);
            for row in 0..m {
                for (column, pixel) in transform::row(b, matrix, &halfway, row).into_iter().enumerate() {
                    let by = |o: &Moving| row as i64 * o.strides[1] + column as i64 * o.strides[2];
                    let places: Vec<Index> = self.moving.iter().zip(&origins).map(|(o, at)| at + by(o)).collect();
                    self.finish(b, &places, channel, pixel);
                }
            }
        };
        let part = |b: &mut KernelBuilder| {
            let [rows, columns] = [1, 2].map(|column| self.place(b, tile, column));
            for row in 0..m as i64 {
                let number = b.constant_int(VType::scalar(DType::I64), row);
                let there = b.compare(CompareOp::Gt, rows, number);
                b.when(there, |b| {
                    let pixels = transform::row(b, matrix, &halfway, row as usize);
                    for (column, pixel) in (0..).zip(pixels) {
                        let number = b.constant_int(VType::scalar(DType::I64), column);
                        let there = b.compare(CompareOp::Gt, columns, number);
                        b.when(there, |b| {
                            let places: Vec<Index> = self
                                .moving
                                .iter()
                                .map(|o| {
                                    let Some(at) = o.column else { return Index::constant(0) };
                                    let origin = self.place(b, tile, at);
                                    let by = row * o.strides[1] + column * o.strides[2];
                                    let by = b.constant_int(VType::scalar(DType::I64), by);
                                    let place = b.add(origin, by);
                                    self.bounded(b, place, o.most)
                                })
                                .collect();
                            self.finish(b, &places, channel, pixel);
                        });
                    }
                });
            }
        };
        match (self.whole_tiles, self.part_tiles) {
            (true, false) => whole(b),
            (false, _) => part(b),
            (true, true) => {
                let is_whole = self.place(b, tile, 3);
                let zero = b.constant_int(VType::scalar(DType::I64), 0);
                let is_whole = b.compare(CompareOp::Gt, is_whole, zero);
                let condition = crate::kir::Condition::Value(is_whole);
                b.if_else(
                    condition,
                    |b| {
                        whole(b);
                        Vec::new()
                    },
                    |b| {
                        part(b);
                        Vec::new()
                    },
                );
            }
        }
    }

    /// Where a tile's first pixel lies in each operand.
    fn origins(&self, b: &mut KernelBuilder, tile: Var, most: impl Fn(&Moving) -> i64) -> Vec<Index> {
        let origin = |o: &Moving| match o.column {
            None => Index::constant(0),
            Some(at) => {
                let place = self.place(b, tile, at);
                self.bounded(b, place, most(o))
            }
        };
        self.moving.iter().map(origin).collect()
    }

    /// The epilogue of one pixel's channels, and their store; `places` are those of the result and the extras.
    fn finish(&self, b: &mut KernelBuilder, places: &[Index], channel: &Index, pixel: Value) {
        let lanes = b.type_of(pixel).lanes;
        let at = |i: usize| &places[i] + channel * self.moving[i].strides[3] + self.moving[i].start;
        let mut arguments = vec![pixel];
        for (i, &buffer) in self.extras.iter().enumerate() {
            arguments.push(load(b, buffer, &at(i + 1), self.moving[i + 1].strides[3], lanes));
        }
        let value = self.epilogue.emit(b, &arguments);
        store(b, self.y, &at(0), self.moving[0].strides[3], value);
    }
}
