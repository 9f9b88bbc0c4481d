//! Attention without its scores in memory: softmax(q · kᵀ) · v.
//!
//! ```text
//! parallel batch…, block of queries
//!   queries[depth][query]  = q                                  a block of queries, transposed
//!   scores[key][query]     = epilogue(k · queries, extras…)     a tile nest: keys are its rows, queries its columns
//!   scores[key][query]     = exp(score − most of the query)     queries in the lanes: nothing is folded across them
//!   result[query][column]  = (scoresᵀ · v) · 1 / sum            a tile nest: queries are its rows
//! ```
//!
//! Scores lie with the queries of a block next to one another, so k is the operand of a product whose elements are read one by
//! one and lies as it likes; of q, which is transposed, a block is small. v is read as it lies. A block's scores stay in the
//! second-level cache, and a row is there as a whole: its maximum is known before anything is raised.
//!
//! Weights are not divided by their sum; the result is, once. Instead all are scaled by a power of two, which costs no digits,
//! so that sums of as many weighted elements as there are keys overflow only where the weighted mean does.

use kiln_ir::scalar::{BinaryFn, ScalarExpr};
use kiln_ir::{DType, NodeId, Value as GraphValue};
use kiln_runtime::{Access, Piece, Relayout};

use super::context::{Lowering, Slot};
use super::contraction::{Input, Roles, tile_shape};
use super::dot::transposed;
use super::error::LowerError;
use super::nest::{self, Axis, volume};
use super::reduce::{NARROW_CHAINS, fold_chains};
use super::scalar::{TypedExpr, of_two};
use super::tile::{Tile, TileBuffer, in_parts};
use super::walk::{Body, advance, run};
use crate::kir::{Buffer, Condition, Index, KernelBuilder, VType, Value};
use crate::plan::program::View;

/// Queries of a block: as many as make k and v worth reading for, and as few as keep the scores of thousands of keys in the
/// second-level cache.
const BLOCK: i64 = 32;
/// Keys of a part of the second product.
const PART: i64 = 256;

/// The axes of `fused_attention`.
#[derive(Clone, Copy, Debug)]
pub struct AttentionAxes<'a> {
    /// Batch axes of q, k and v.
    pub batch: [&'a [usize]; 3],
    /// The contracted axes of q and k, and the axis of v that counts keys.
    pub named: [usize; 3],
}

impl AttentionAxes<'_> {
    /// The one axis of operand `i` that is left, which has `batch + 2`.
    fn free(&self, i: usize) -> usize {
        let taken = |axis: &usize| self.batch[i].contains(axis) || self.named[i] == *axis;
        (0..self.batch[i].len() + 2).find(|axis| !taken(axis)).unwrap_or(0)
    }
}

/// Lowers `fused_attention`.
pub fn attention(
    l: &mut Lowering<'_>,
    id: NodeId,
    axes: AttentionAxes<'_>,
    epilogue: &ScalarExpr,
) -> Result<(), LowerError> {
    let result = l.graph.value(id);
    let operands: Vec<GraphValue> = l.graph.node(id).operands.to_vec();
    let y = l.slot(result);
    if y.view.is_empty() {
        return Ok(());
    }
    let dims: Vec<Vec<usize>> = operands[..3].iter().map(|&v| l.dims(v)).collect();
    let keys = dims[1][axes.free(1)];
    if keys == 0 {
        // a sum of nothing
        l.fill(l.label(id), &y.view, crate::kir::Bits(0));
        return Ok(());
    }
    // scores are nobody's value, so nothing has counted them yet
    if keys.checked_mul(BLOCK as usize * DType::F32.size()).is_none_or(|bytes| bytes > isize::MAX as usize / 2) {
        return Err(l.too_large(id, format!("scores of {keys} keys")));
    }
    let mut dtypes = vec![DType::F32];
    dtypes.extend(operands[3..].iter().map(|&v| l.dtype(v)));
    let epilogue = l.typed(id, epilogue, &dtypes)?;
    let (sum, scaled) = (of_two(BinaryFn::Add, 0, 1), of_two(BinaryFn::Mul, 0, 1));
    let both = of_two(BinaryFn::Mul, 0, 2).substitute(std::slice::from_ref(&sum), &[Vec::new()]);
    let finish = [
        TypedExpr::identity(DType::F32),
        l.typed(id, &sum, &[DType::F32; 2])?,
        l.typed(id, &scaled, &[DType::F32; 2])?,
        l.typed(id, &both, &[DType::F32; 3])?,
    ];
    let strides: Vec<Vec<i64>> = dims.iter().map(|d| nest::row_major(d)).collect();
    let (rank, batches) = (axes.batch[0].len() + 2, axes.batch[0].len());
    let extras: Vec<(View, Vec<i64>)> = operands[3..].iter().map(|&v| mask(l, id, v)).collect::<Result<_, _>>()?;
    let batch = |n: usize| {
        let mut of: Vec<i64> = vec![y.strides[n]];
        of.extend((0..3).map(|i| strides[i][axes.batch[i][n]]));
        of.extend(extras.iter().map(|(_, strides)| strides[n]));
        Axis::new(dims[0][axes.batch[0][n]], of)
    };
    let mut outer: Vec<Axis> = (0..batches).map(batch).collect();
    let mut value_strides = [strides[2][axes.named[2]], strides[2][axes.free(2)]];
    let columns = dims[2][axes.free(2)];
    let mut v = l.view(operands[2]);
    if value_strides[1] != 1 && columns > 1 {
        v = columns_last(l, id, v, &mut outer, [keys, columns], &mut value_strides)?;
    }
    let kernel = Attention {
        y: &y,
        views: [l.view(operands[0]), l.view(operands[1]), v],
        outer: nest::collapse(&outer),
        queries: dims[0][axes.free(0)] as i64,
        depth: dims[0][axes.named[0]] as i64,
        keys: keys as i64,
        columns: columns as i64,
        y_strides: [y.strides[rank - 2], y.strides[rank - 1]],
        q_strides: [strides[0][axes.free(0)], strides[0][axes.named[0]]],
        k_strides: [strides[1][axes.free(1)], strides[1][axes.named[1]]],
        v_strides: value_strides,
        extra_strides: extras.iter().map(|(_, strides)| [strides[rank - 2], strides[rank - 1]]).collect(),
        extras: extras.into_iter().map(|(view, _)| view).collect(),
        epilogue,
        finish,
    };
    kernel.step(l, id)
}

/// An extra and its strides over the scores' axes. One that is known is transposed where that lets it be read along the queries.
fn mask(l: &mut Lowering<'_>, id: NodeId, v: GraphValue) -> Result<(View, Vec<i64>), LowerError> {
    let dims = l.dims(v);
    let [outer @ .., queries, keys] = dims.as_slice() else { return Ok((l.view(v), nest::broadcast_strides(&dims))) };
    let (queries, keys) = (*queries, *keys);
    let tensor = match l.literal(v) {
        Some(tensor) if queries > 1 && keys > 1 => tensor.clone(),
        _ => return Ok((l.view(v), nest::broadcast_strides(&dims))),
    };
    let whole = outer.iter().product::<usize>();
    let loops = [(whole, (queries * keys) as isize), (keys, 1), (queries, keys as isize)];
    let loops = loops.into_iter().filter(|l| l.0 != 1).collect();
    let view = l.packed(id, &tensor, Relayout { pieces: vec![Piece { start: 0, loops, padding: 0 }] })?;
    let mut strides = nest::broadcast_strides(&dims);
    let last = strides.len() - 1;
    (strides[last - 1], strides[last]) = (1, queries as i64);
    Ok((view, strides))
}

/// v with its columns contiguous.
fn columns_last(
    l: &mut Lowering<'_>,
    id: NodeId,
    view: View,
    outer: &mut [Axis],
    [keys, columns]: [usize; 2],
    strides: &mut [i64; 2],
) -> Result<View, LowerError> {
    // `transposed` moves the third operand of products
    const V: usize = 3;
    let axis = |extent: usize, stride: i64| Axis::new(extent, [0, 0, stride]);
    let mut roles = Roles {
        outer: outer.iter().map(|a| axis(a.extent as usize, a.strides[V])).collect(),
        rows: Vec::new(),
        columns: vec![axis(columns, strides[1])],
        reduce: vec![axis(keys, strides[0])],
    };
    let Input { view, .. } = transposed(l, id, view, &mut roles)?;
    for (axis, moved) in outer.iter_mut().zip(&roles.outer) {
        axis.strides[V] = moved.strides[2];
    }
    *strides = [roles.reduce[0].strides[2], roles.columns[0].strides[2]];
    Ok(view)
}

/// One kernel of attention. Outer strides are per operand: result, q, k, v, extras.
struct Attention<'a> {
    y: &'a Slot,
    views: [View; 3],
    extras: Vec<View>,
    outer: Vec<Axis>,
    queries: i64,
    depth: i64,
    keys: i64,
    columns: i64,
    /// Between queries, and columns.
    y_strides: [i64; 2],
    /// Between queries, and along the depth.
    q_strides: [i64; 2],
    /// Between keys, and along the depth.
    k_strides: [i64; 2],
    /// Between keys, and columns.
    v_strides: [i64; 2],
    /// Between queries, and keys.
    extra_strides: Vec<[i64; 2]>,
    epilogue: TypedExpr,
    /// What becomes of a sum of the second product: by whether another comes before it, and (two further on) whether a query's
    /// factor ends it.
    finish: [TypedExpr; 4],
}

/// The memory of a kernel.
struct Buffers {
    y: Buffer,
    inputs: [Buffer; 3],
    extras: Vec<Buffer>,
    queries: Buffer,
    scores: Buffer,
    factors: Buffer,
    sums: Buffer,
}

/// A part of the second product: `keys` from `first` on.
struct Part {
    first: Index,
    keys: i64,
    /// Whether it begins with the sums of another part.
    resumes: bool,
    /// Whether it leaves sums, not the result.
    suspends: bool,
}

impl Attention<'_> {
    fn step(&self, l: &mut Lowering<'_>, id: NodeId) -> Result<(), LowerError> {
        let mut b = KernelBuilder::new("attention");
        let y = b.output("y", DType::F32, self.y.view.len() as i64);
        let len = |view: &View| view.len() as i64;
        let [q, k, v] = [("q", 0), ("k", 1), ("v", 2)].map(|(name, i)| b.input(name, DType::F32, len(&self.views[i])));
        let extras: Vec<Buffer> = self.extras.iter().map(|e| b.input("x", e.dtype, len(e))).collect();
        let size = BLOCK.min(self.queries);
        let queries = b.scratch("queries", DType::F32, (self.depth * size).max(1));
        let scores = b.scratch("scores", DType::F32, self.keys * size);
        let factors = b.scratch("factors", DType::F32, size);
        let sums = b.scratch("sums", DType::F32, if self.keys >= 2 * PART { size * self.columns } else { 1 });
        let buffers = Buffers { y, inputs: [q, k, v], extras, queries, scores, factors, sums };
        let mut at = vec![Index::constant(0); 4 + self.extras.len()];
        at[0] = Index::constant(self.y.start);
        for axis in &self.outer {
            let var = b.parallel(axis.extent);
            advance(&mut at, axis, &Index::from(var));
        }
        let mut strides = vec![self.y_strides[0], self.q_strides[0], 0, 0];
        strides.extend(self.extra_strides.iter().map(|s| s[0]));
        let query = Axis { extent: self.queries, strides };
        let (full, rest) = (self.queries / size, self.queries % size);
        let block = b.parallel(full + i64::from(rest > 0));
        let body = |b: &mut KernelBuilder, first: &Index, count: i64| {
            let mut at = at.clone();
            advance(&mut at, &query, first);
            self.block(b, l, &buffers, &at, count);
            Vec::new()
        };
        if rest == 0 {
            body(&mut b, &(block * size), size);
        } else {
            b.if_else(
                Condition::NonNegative(vec![Index::constant(full - 1) - block]),
                |b| body(b, &(block * size), size),
                |b| body(b, &Index::constant(full * size), rest),
            );
        }
        let mut uses = vec![self.y.written()];
        uses.extend(self.views.iter().chain(&self.extras).map(|view| view.used(Access::Read)));
        let count = volume(&self.outer).saturating_mul(self.queries).saturating_mul(self.keys) as u64;
        let each = 2 * (self.depth + self.columns) as u64 + self.epilogue.cost() - 1 + 25;
        l.step_with(l.label(id), b, uses, count.saturating_mul(each))
    }

    fn block(&self, b: &mut KernelBuilder, l: &Lowering<'_>, buffers: &Buffers, at: &[Index], count: i64) {
        let Buffers { inputs: [q, k, _], queries, scores, factors, .. } = *buffers;
        let zero = || Index::constant(0);
        let lanes = l.machine.stream_lanes(DType::F32, true);
        if self.depth > 0 {
            let axis = Axis { extent: count, strides: vec![self.q_strides[0], 1] };
            b.for_each(self.depth, |b, depth| {
                let at = [&at[1] + depth * self.q_strides[1], depth * count];
                let mut pack = Pack { q, queries, stride: self.q_strides[0] };
                run(b, &at, &axis, count, l.machine.lanes(DType::F32), &mut pack);
            });
        }
        let of = |len: i64| TileBuffer { dtype: DType::F32, len, start: 0 };
        let extra_buffers = || self.extras.iter().map(|e| TileBuffer { dtype: e.dtype, len: e.len() as i64, start: 0 });
        let with_extras = |own: [i64; 3], extras: usize, at: &dyn Fn(&[i64; 2]) -> i64| {
            let mut strides = own.to_vec();
            strides.extend(self.extra_strides[..extras].iter().map(at));
            strides
        };
        let all = self.extras.len();
        let shape = tile_shape(l.machine, DType::F32, self.keys, count);
        let axes = [
            Axis { extent: self.keys, strides: with_extras([count, self.k_strides[0], 0], all, &|s| s[1]) },
            Axis { extent: count, strides: with_extras([1, 0, 1], all, &|s| s[0]) },
            Axis { extent: self.depth, strides: with_extras([0, self.k_strides[1], count], all, &|_| 0) },
        ];
        let own = [of(self.keys * count), of(self.views[1].len() as i64), of(self.depth * count)];
        let product = Tile::product(
            "scores",
            own.into_iter().chain(extra_buffers()).collect(),
            axes,
            self.epilogue.clone(),
            shape,
        );
        let starts: Vec<Index> = [zero(), at[2].clone(), zero()].into_iter().chain(at[4..].iter().cloned()).collect();
        let memory = [&[scores, k, queries], buffers.extras.as_slice()].concat();
        product.emit_inside(b, memory, &starts);

        let axis = Axis { extent: count, strides: vec![1, 1] };
        let mut softmax = Softmax { scores, factors, keys: self.keys, stride: count };
        run(b, &[zero(), zero()], &axis, count, lanes, &mut softmax);

        self.values(b, l, buffers, at, count);
    }

    /// The second product, in parts of the keys, so that the rows of v that a part reads again for each tile are still at hand.
    fn values(&self, b: &mut KernelBuilder, l: &Lowering<'_>, buffers: &Buffers, at: &[Index], count: i64) {
        let parts = (self.keys / PART).max(1);
        let last = self.keys - (parts - 1) * PART;
        in_parts(b, parts, |b, number, (resumes, suspends)| {
            let part = Part { first: number * PART, keys: if suspends { PART } else { last }, resumes, suspends };
            self.values_part(b, l, buffers, at, count, &part);
        });
    }

    fn values_part(
        &self,
        b: &mut KernelBuilder,
        l: &Lowering<'_>,
        buffers: &Buffers,
        at: &[Index],
        count: i64,
        part: &Part,
    ) {
        let &Part { ref first, keys, resumes, suspends } = part;
        // operands: result, weights, v, and those of the epilogue: sums so far, factors
        let [in_sums, in_result] = [[self.columns, 1], self.y_strides];
        let (place, to, start) = match suspends {
            true => (in_sums, buffers.sums, Index::constant(0)),
            false => (in_result, buffers.y, at[0].clone()),
        };
        let mut row = vec![place[0], 1, 0];
        let mut column = vec![place[1], 0, self.v_strides[1]];
        let mut memory = vec![to, buffers.scores, buffers.inputs[2]];
        let mut starts = vec![start, first * count, &at[3] + first * self.v_strides[0]];
        if resumes {
            row.push(in_sums[0]);
            column.push(in_sums[1]);
            memory.push(buffers.sums);
            starts.push(Index::constant(0));
        }
        if !suspends {
            row.push(1);
            column.push(0);
            memory.push(buffers.factors);
            starts.push(Index::constant(0));
        }
        let of = |len: i64| TileBuffer { dtype: DType::F32, len, start: 0 };
        let mut reduce = vec![0, count, self.v_strides[0]];
        reduce.resize(memory.len(), 0);
        let axes = [
            Axis { extent: count, strides: row },
            Axis { extent: self.columns, strides: column },
            Axis { extent: keys, strides: reduce },
        ];
        let epilogue = self.finish[usize::from(resumes) + 2 * usize::from(!suspends)].clone();
        let shape = tile_shape(l.machine, DType::F32, count, self.columns);
        // nothing is asked for ahead, so lengths do not matter
        let product = Tile::product("values", vec![of(0); memory.len()], axes, epilogue, shape);
        product.emit_inside(b, memory, &starts);
    }
}

/// A block of q, with its queries contiguous.
struct Pack {
    q: Buffer,
    queries: Buffer,
    stride: i64,
}

impl Body for Pack {
    fn lanes(&mut self, b: &mut KernelBuilder, at: &[Index], _: &[Value], lanes: u32) {
        let value = b.load_strided(self.q, &at[0], self.stride, lanes);
        b.store(self.queries, &at[1], value);
    }
}

/// Scores to weights, and the factors that make sums of weighted elements their means.
struct Softmax {
    scores: Buffer,
    factors: Buffer,
    keys: i64,
    /// Between keys.
    stride: i64,
}

/// A vector of queries.
impl Body for Softmax {
    fn lanes(&mut self, b: &mut KernelBuilder, at: &[Index], _: &[Value], lanes: u32) {
        let ty = VType::new(DType::F32, lanes);
        let place = |key: &Index| &at[0] + key * self.stride;
        let load = |b: &mut KernelBuilder, key: &Index| b.load(self.scores, place(key), lanes);
        let least = b.constant(ty, f64::NEG_INFINITY);
        let most = fold_chains(b, (self.keys, NARROW_CHAINS), least, &mut { load }, &|b, x, y| b.max(x, y));
        let scale = b.constant(ty, 1.0 / self.keys.unsigned_abs().next_power_of_two() as f64);
        let weight = &mut |b: &mut KernelBuilder, key: &Index| {
            let score = load(b, key);
            let shifted = b.sub(score, most);
            let raised = b.exp(shifted);
            let weight = b.mul(raised, scale);
            b.store(self.scores, place(key), weight);
            weight
        };
        let zero = b.constant(ty, 0.0);
        let sum = fold_chains(b, (self.keys, NARROW_CHAINS), zero, weight, &|b, x, y| b.add(x, y));
        let one = b.constant(ty, 1.0);
        let factor = b.div(one, sum);
        b.store(self.factors, &at[1], factor);
    }
}
