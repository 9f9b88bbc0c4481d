//! What matrix products and convolutions share: from stride tables to a tile kernel.

use kiln_ir::infer::sum_dtype;
use kiln_ir::scalar::ScalarExpr;
use kiln_ir::{DType, NodeId};
use kiln_runtime::{Access, Piece, Relayout};

use super::context::Lowering;
use super::error::LowerError;
use super::grouped::Narrow;
use super::machine::{ByteProducts, Machine};
use super::nest::{self, Axis, volume};
use super::tile::{Combine, ENOUGH_PARALLEL, Guard, ROW_CHUNK, Tile, TileBuffer};
use crate::kir::MAX_LANES;
use crate::plan::program::{Use, View};
use crate::tuning::{Algorithm, Blocking};

/// The dtype in which products of `dtype` are summed. Wrapping sums of 8-bit products are those of 32 bits, cut off.
pub fn accumulator(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        DType::I8 | DType::U8 => DType::I32,
        other => other,
    }
}

/// An operand of a contraction.
#[derive(Clone, Debug)]
pub struct Input {
    /// Where.
    pub view: View,
    /// First element.
    pub start: i64,
    /// Elements that the loops touch.
    pub elements: usize,
}

impl Input {
    /// All of a view.
    pub fn whole(view: View) -> Input {
        Input { elements: view.len(), view, start: 0 }
    }

    fn used(&self) -> Use {
        self.view.used_in_part(Access::Read, self.elements)
    }

    fn bytes(&self) -> i64 {
        (self.elements * self.view.dtype.size()) as i64
    }
}

/// Loops by role. Strides are per operand: result, x, w, extras, guards.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    /// Loops in which x and w move together (batch, groups).
    pub outer: Vec<Axis>,
    /// Loops in which w stands still.
    pub rows: Vec<Axis>,
    /// Loops in which w moves along memory.
    pub columns: Vec<Axis>,
    /// Contracted loops.
    pub reduce: Vec<Axis>,
}

/// The second operand of a contraction.
#[derive(Clone, Debug)]
pub enum Right {
    /// In memory, with the strides the roles give.
    Strided(Input),
    /// A tensor known now: packed in panels. Its strides in the roles are those of the tensor.
    Constant {
        /// The tensor.
        tensor: kiln_ir::Tensor,
        /// First element.
        start: i64,
    },
    /// The filter of narrow groups, known now.
    Narrow {
        /// The filter.
        filter: kiln_ir::Tensor,
        /// First element.
        start: i64,
        /// Elements between input and between output channels.
        channels: [i64; 2],
        /// How the groups fill vectors: the columns are vectors and their lanes, in which the filter's stride in the roles is 0.
        groups: Narrow,
    },
}

impl Right {
    /// Element type.
    fn dtype(&self) -> DType {
        match self {
            Right::Strided(input) => input.view.dtype,
            Right::Constant { tensor, .. } | Right::Narrow { filter: tensor, .. } => tensor.dtype(),
        }
    }
}

/// Everything about a contraction but its loops.
#[derive(Clone, Debug)]
pub struct Contraction<'a> {
    /// Name of the kernel.
    pub name: &'static str,
    /// Result.
    pub result: Input,
    /// First operand.
    pub left: Input,
    /// Second operand.
    pub right: Right,
    /// Operands of the epilogue, after the product.
    pub extras: Vec<Input>,
    /// Coordinates that must be in range.
    pub guards: Vec<Guard>,
    /// The epilogue.
    pub epilogue: &'a ScalarExpr,
    /// Other algorithms that would give the same.
    pub others: Vec<Algorithm>,
}

/// Bytes of narrow groups' filters that are read again and again beside everything else in the first-level cache.
const NEAR_FILTERS: i64 = 20 << 10;

/// Columns and rows of a tile. Two registers of columns and as many rows as leave room for an operand of each kind
/// came out best where there are rows enough; one or two rows need more columns, to hide the latency of a sum.
pub fn tile_shape(machine: Machine, dtype: DType, rows: i64, columns: i64) -> (u32, i64) {
    let vector = machine.lanes(dtype);
    let fits = |vectors: u32| vector * vectors <= MAX_LANES && columns >= i64::from(vector * vectors);
    let vectors = match rows {
        1 if fits(8) => 8,
        1 | 2 if fits(4) => 4,
        _ if fits(2) => 2,
        _ => 1,
    };
    // so many rows make tiles of four at most: with two registers of columns they would load as long as they multiply
    let low = matches!(rows, 3 | 4 | 7 | 8) && vectors == 2;
    if low && machine == Machine::X86_64_256 && fits(3) {
        return (3 * vector, 4);
    }
    let free = i64::from(machine.registers) - 4;
    // with one register of columns the left operand's element is read by one instruction only, straight from memory
    let most = if vectors == 1 && machine.registers == 16 { 8 } else { 14 * i64::from(3 - vectors.min(2)) };
    (vector * vectors, (free / i64::from(vectors)).clamp(1, most))
}

/// The same of products of bytes: two halves of each register of columns and two of an element of a row are in registers beside the
/// sums, which no latency holds up, and products on their way to them.
fn tile_of_bytes(machine: Machine, rows: i64, columns: i64) -> (u32, i64) {
    let vector = machine.lanes(DType::I32);
    if machine.bytes == ByteProducts::Whole {
        return tile_shape(machine, DType::I32, rows, columns);
    }
    let vectors = match rows {
        1 if columns >= i64::from(4 * vector) => 4,
        _ if columns >= i64::from(2 * vector) => 2,
        _ => 1,
    };
    let products = machine.registers / 8;
    let free = i64::from(machine.registers - products - 2 - 2 * vectors);
    (vector * vectors, (free / i64::from(vectors)).max(1))
}

/// Bytes of an operand of a product that no second-level cache keeps beside the other one.
const UNCACHED: i64 = 1 << 20;

/// All ways to cut a product of `rows` × `columns` into tiles, the one that is estimated to be fastest first. `bytes` are those of the
/// left and the right operand; `single` says whether one loop is reduced over weights known
/// now, as in a matrix product; `fours` whether bytes are multiplied in fours.
pub fn blockings(
    machine: Machine,
    dtype: DType,
    [rows, columns]: [i64; 2],
    bytes: [i64; 2],
    single: bool,
    fours: bool,
) -> Vec<Blocking> {
    let vector = machine.lanes(dtype);
    let (lanes, tall) = match fours {
        true => tile_of_bytes(machine, rows, columns),
        false => tile_shape(machine, dtype, rows, columns),
    };
    let blocks = (columns + i64::from(lanes) - 1) / i64::from(lanes);
    // rows of a product may come in chunks that stay in the cache while all weights pass
    let large = single && bytes[0] > UNCACHED && bytes[1] > UNCACHED;
    let columns_first = blocks >= 4 && (bytes[1] > 2 * bytes[0] && bytes[1] > 64 << 10 || large);
    let estimated = Blocking { rows: tall as u32, vectors: lanes / vector, columns_first };
    let mut all = vec![estimated];
    // all but that of a row's element
    let free = machine.registers - 1;
    for vectors in [1, 2, 3, 4] {
        if vectors > 1 && (vector * vectors > MAX_LANES || i64::from(vector * vectors) > columns) {
            continue;
        }
        // registers left for sums, beside the columns and an element of a row; and half of them
        let most = ((free - vectors) / vectors).min(28);
        for height in [most, most.div_ceil(2)].into_iter().filter(|&height| i64::from(height) <= rows.max(1)) {
            for columns_first in [false, true] {
                let blocking = Blocking { rows: height, vectors, columns_first };
                if !all.contains(&blocking) {
                    all.push(blocking);
                }
            }
        }
    }
    all
}

/// Appends the contraction's step.
pub fn emit(l: &mut Lowering<'_>, id: NodeId, c: Contraction<'_>, roles: Roles) -> Result<(), LowerError> {
    let dtype = c.left.view.dtype;
    let reduced = sum_dtype(dtype, c.right.dtype()).unwrap_or(dtype);
    let accumulator = accumulator(reduced);
    let operands = 3 + c.extras.len() + c.guards.len();
    let unit = || Axis::unit(operands);
    let mut outer = roles.outer;
    let mut rows = nest::collapse(&roles.rows);
    let mut columns = nest::collapse(&roles.columns);
    let mut column = columns.pop().unwrap_or_else(unit);
    let row = rows.pop().unwrap_or_else(unit);
    outer.extend(rows);
    let mut vectors = matches!(c.right, Right::Narrow { .. }).then(|| columns.pop()).flatten();
    outer.extend(columns);
    let mut narrow = None;
    let mut fetch = Vec::new();
    let mut reduce = roles.reduce;
    let fours = in_fours(l.machine, &c, &reduce);
    if fours {
        reduce = nest::collapse(&reduce);
    }
    let moved = |axes: &[Axis]| axes.iter().filter(|a| a.strides[2] != 0).map(|a| a.extent).product::<i64>();
    let right_bytes = match &c.right {
        Right::Strided(input) => input.bytes(),
        _ => moved(&outer) * column.extent * volume(&reduce) * dtype.size() as i64,
    };
    let bytes = [c.left.bytes(), right_bytes];
    let vector = l.machine.lanes(accumulator);
    let blockings = match &c.right {
        // these have one shape of tile
        Right::Narrow { groups, .. } => {
            let vectors = groups.lanes.div_ceil(vector);
            vec![Blocking { rows: groups.rows(l.machine) as u32, vectors, columns_first: false }]
        }
        _ => {
            let single = matches!(c.right, Right::Constant { .. }) && nest::collapse(&reduce).len() <= 1;
            blockings(l.machine, accumulator, [row.extent, column.extent], bytes, single, fours)
        }
    };
    let layer = l.layer(id).unwrap_or_else(|| {
        let [rows, columns, depth] = [row.extent, column.extent, volume(&reduce)];
        format!("product {dtype} rows={rows} columns={columns} depth={depth}")
    });
    let mut decision = l.decide(id, layer, blockings.iter().copied().map(Algorithm::Direct).collect());
    decision.candidates.extend(c.others);
    let taken = blockings.iter().find(|&&b| decision.algorithm == Algorithm::Direct(b));
    let blocking = *taken.unwrap_or(&blockings[0]);
    let mut lanes = blocking.vectors * vector;
    let mut combine = Combine::MulAdd;
    let (right, panels) = match c.right {
        Right::Strided(input) => (input, false),
        Right::Constant { tensor, start } => {
            let relayout = match fours {
                true => {
                    let overlap = reduce.last().map_or(0, |axis| -axis.extent & (FOUR - 1));
                    combine = Combine::DotBytes { overlap };
                    panels_of_fours(&mut outer, &column, &mut reduce, i64::from(lanes), start)
                }
                false => panels(&mut outer, &column, &mut reduce, i64::from(lanes), start),
            };
            column.strides[2] = if fours { FOUR } else { 1 };
            (Input::whole(l.packed(id, &tensor, relayout)?), true)
        }
        Right::Narrow { filter, start, channels, groups } => {
            lanes = groups.lanes;
            narrow = Some(groups);
            let relayout = groups.relayout(vectors.as_mut(), &mut reduce, channels, start);
            column.strides[2] = 1;
            fetch = groups.fetch(outer.last(), &row, i64::from(blocking.rows), &reduce);
            let size = groups.filter_bytes(&reduce, c.left.view.dtype);
            let chunks = volume(&outer) * (row.extent / ROW_CHUNK).max(1);
            vectors = vectors.map(|vectors| {
                let fits = |n: &i64| {
                    let blocks = vectors.extent / n;
                    vectors.extent % n == 0
                        && n * size <= NEAR_FILTERS
                        && (*n == 1 || chunks * blocks >= ENOUGH_PARALLEL)
                };
                let inside = (1..=vectors.extent).rev().find(fits).unwrap_or(1);
                let strides = vectors.strides.iter().map(|s| s * inside).collect();
                outer.push(Axis { extent: vectors.extent / inside, strides });
                Axis { extent: inside, ..vectors }
            });
            (Input::whole(l.packed(id, &filter, relayout)?), false)
        }
    };
    let outer = nest::collapse(&outer);
    // the last of its fours is no step like the others, so a loop over fours is never one with those around it
    let fours = if fours { reduce.pop() } else { None };
    let mut reduce = nest::collapse(&reduce);
    reduce.extend(fours);
    let mut dtypes = vec![reduced];
    dtypes.extend(c.extras.iter().map(|e| e.view.dtype));
    let epilogue = l.typed(id, c.epilogue, &dtypes)?;
    let inputs: Vec<&Input> = [&c.result, &c.left, &right].into_iter().chain(&c.extras).collect();
    let buffer = |i: &Input| TileBuffer { dtype: i.view.dtype, len: i.view.len() as i64, start: i.start };
    let buffers = inputs.iter().map(|i| buffer(i)).collect();
    let tile = Tile {
        name: c.name,
        buffers,
        inputs: 2,
        guards: c.guards,
        outer,
        row,
        column,
        reduce,
        combine,
        accumulator,
        reduced,
        epilogue,
        panels,
        lanes,
        rows: i64::from(blocking.rows),
        columns_first: blocking.columns_first,
        narrow,
        fetch,
        inside: vectors.filter(|axis| axis.extent > 1),
    };
    let uses = inputs.iter().map(|i| i.used()).collect();
    l.step_with(l.label(id), tile.emit(), uses, tile.flops())?;
    l.decided(decision);
    Ok(())
}

/// Bytes that are multiplied together.
const FOUR: i64 = 4;

/// Whether bytes can be multiplied in fours: those of the left operand are unsigned and lie side by side along the innermost
/// reduction loop, and the right operand is signed and packed, so that its bytes lie as they are wanted.
fn in_fours(machine: Machine, c: &Contraction<'_>, reduce: &[Axis]) -> bool {
    let dtypes = [c.left.view.dtype, c.right.dtype()] == [DType::U8, DType::I8];
    let packed = matches!(c.right, Right::Constant { .. }) && c.guards.is_empty();
    let run = nest::collapse(reduce).last().is_some_and(|axis| axis.strides[1] == 1 && axis.extent >= FOUR);
    machine.bytes != ByteProducts::Single && dtypes && packed && run
}

/// The second operand's position.
const W: usize = 2;

/// A run of packed elements.
fn piece(start: i64, loops: &[(i64, i64)]) -> Piece {
    Piece {
        start: start as usize,
        loops: loops.iter().filter(|l| l.0 != 1).map(|&(extent, stride)| (extent as usize, stride as isize)).collect(),
        padding: 0,
    }
}

/// Rewrites the second operand's outer strides to count whole sets of panels, one for each combination of the loops in which it
/// moves, of `depth` elements a column. Where each set was before.
fn sets_of_panels(outer: &mut [Axis], depth: i64, columns: i64, first: i64) -> Vec<i64> {
    let mut sets: Vec<(i64, i64)> = Vec::new();
    let mut size = depth * columns;
    for axis in outer.iter_mut().rev() {
        if axis.strides[W] != 0 {
            sets.insert(0, (axis.extent, axis.strides[W]));
            axis.strides[W] = size;
            size *= axis.extent;
        }
    }
    every(first, &sets)
}

/// The places that nested loops of (extent, stride) come to.
fn every(first: i64, loops: &[(i64, i64)]) -> Vec<i64> {
    loops.iter().fold(vec![first], |starts, &(extent, step)| {
        starts.iter().flat_map(|&s| (0..extent).map(move |i| s + i * step)).collect()
    })
}

/// Packs the second operand in panels of `lanes` columns, in each of which four elements of a column along the innermost loop lie
/// side by side, and rewrites its strides as [`panels`] does. The innermost loop, which both operands then go along by fours,
/// ends with the last four: some of them may be among those before.
fn panels_of_fours(outer: &mut [Axis], column: &Axis, reduce: &mut [Axis], lanes: i64, first: i64) -> Relayout {
    let Some((innermost, around)) = reduce.split_last_mut() else { return Relayout::default() };
    let (extent, step) = (innermost.extent, innermost.strides[W]);
    let loops: Vec<(i64, i64)> = around.iter().map(|a| (a.extent, a.strides[W])).collect();
    innermost.extent = (extent + FOUR - 1) / FOUR;
    innermost.strides.iter_mut().for_each(|stride| *stride *= FOUR);
    innermost.strides[W] = FOUR;
    let mut unit = FOUR * innermost.extent;
    for axis in around.iter_mut().rev() {
        axis.strides[W] = unit;
        unit *= axis.extent;
    }
    let (full, rest) = (column.extent / lanes, column.extent % lanes);
    let stride = column.strides[W];
    let fours = (extent / FOUR, FOUR * step);
    let last = (extent % FOUR != 0).then_some((extent - FOUR) * step);
    let mut pieces = Vec::new();
    for start in sets_of_panels(outer, unit, column.extent, first) {
        let mut panels = |start: i64, count: i64, lanes: i64| {
            let four = [(lanes, stride), (FOUR, step)];
            match last {
                None => {
                    let around = [&[(count, stride * lanes)], &loops[..]].concat();
                    pieces.push(piece(start, &[&around[..], &[fours], &four].concat()));
                }
                Some(last) => {
                    for start in every(start, &[&[(count, stride * lanes)], &loops[..]].concat()) {
                        pieces.push(piece(start, &[&[fours], &four[..]].concat()));
                        pieces.push(piece(start + last, &four));
                    }
                }
            }
        };
        if full > 0 {
            panels(start, full, lanes);
        }
        if rest > 0 {
            panels(start + full * lanes * stride, 1, rest);
        }
    }
    Relayout { pieces }
}

/// Packs the second operand in panels of `lanes` columns and rewrites its strides: reduction strides count rows of a
/// panel, outer strides whole sets of panels.
fn panels(outer: &mut [Axis], column: &Axis, reduce: &mut [Axis], lanes: i64, first: i64) -> Relayout {
    let depth = volume(reduce);
    let loops: Vec<(i64, i64)> = reduce.iter().map(|a| (a.extent, a.strides[W])).collect();
    let mut unit = 1;
    for axis in reduce.iter_mut().rev() {
        axis.strides[W] = unit;
        unit *= axis.extent;
    }
    let (full, rest) = (column.extent / lanes, column.extent % lanes);
    let stride = column.strides[W];
    let mut pieces = Vec::new();
    for start in sets_of_panels(outer, depth, column.extent, first) {
        if full > 0 {
            pieces.push(piece(start, &[&[(full, stride * lanes)], &loops[..], &[(lanes, stride)]].concat()));
        }
        if rest > 0 {
            pieces.push(piece(start + full * lanes * stride, &[&loops[..], &[(rest, stride)]].concat()));
        }
    }
    Relayout { pieces }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_leaves_room_for_an_operand_of_each_kind() {
        for machine in [Machine::X86_64_128, Machine::X86_64_256, Machine::X86_64_512, Machine::WIDE_FILE_128] {
            for (rows, columns) in [(1, 4096), (2, 4096), (100, 4096), (100, 17), (100, 5), (7, 4096), (4, 24)] {
                let (lanes, tall) = tile_shape(machine, DType::F32, rows, columns);
                let vectors = lanes / machine.lanes(DType::F32);
                let rows = tall.min(rows) as u32;
                // the sums, a row's element, and the columns where more than one row takes them
                let used = vectors * rows + 1 + if rows > 1 { vectors } else { 0 };
                assert!(used <= machine.registers, "{machine:?}: {rows} rows of {vectors} registers");
            }
        }
        assert_eq!(tile_shape(Machine::X86_64_256, DType::F32, 100, 4096), (16, 6));
        assert_eq!(tile_shape(Machine::X86_64_256, DType::F32, 7, 4096), (24, 4));
        assert_eq!(tile_shape(Machine::X86_64_512, DType::F32, 100, 4096), (32, 14));
    }
}
