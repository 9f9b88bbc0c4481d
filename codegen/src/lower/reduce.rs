//! Reductions: along the innermost axis with vectors that are folded at the end, along other axes column by column.
//!
//! Either way an element is combined in an order that depends on the extents alone, so that results do not depend on
//! the number of threads.

use kiln_ir::attribute::Reducer;
use kiln_ir::scalar::ScalarExpr;
use kiln_ir::{DType, NodeId, Value};

use super::context::Lowering;
use super::error::LowerError;
use super::nest::{self, Axis, volume};
use super::scalar::{TypedExpr, compute_dtype, load, store};
use super::tile::{Combine, Tile, TileBuffer};
use super::walk::advance;
use crate::kir::{BinaryOp, Bits, Buffer, Index, KernelBuilder, ReduceOp, VType, Value as KirValue};
use crate::plan::program::View;

/// The instruction that combines two elements, and what an empty reduction gives.
pub fn combiner(reducer: Reducer, dtype: DType) -> (BinaryOp, Bits) {
    let least = match dtype {
        DType::I64 => Bits::from_i64(dtype, i64::MIN),
        DType::I32 => Bits::from_i64(dtype, i32::MIN.into()),
        DType::I8 => Bits::from_i64(dtype, i8::MIN.into()),
        DType::U8 | DType::Bool => Bits(0),
        _ => Bits::from_f64(dtype, f64::NEG_INFINITY),
    };
    let greatest = match dtype {
        DType::I64 => Bits::from_i64(dtype, i64::MAX),
        DType::I32 => Bits::from_i64(dtype, i32::MAX.into()),
        DType::I8 => Bits::from_i64(dtype, i8::MAX.into()),
        DType::U8 => Bits::from_i64(dtype, u8::MAX.into()),
        DType::Bool => Bits(1),
        _ => Bits::from_f64(dtype, f64::INFINITY),
    };
    match reducer {
        Reducer::Sum => (BinaryOp::Add, Bits(0)),
        Reducer::Prod => (BinaryOp::Mul, Bits::from_f64(dtype, 1.0)),
        Reducer::Max => (BinaryOp::Max, least),
        Reducer::Min => (BinaryOp::Min, greatest),
        Reducer::And => (BinaryOp::And, Bits(1)),
        Reducer::Or => (BinaryOp::Or, Bits(0)),
    }
}

/// The fold of lanes that goes with an instruction.
pub fn lane_fold(op: BinaryOp) -> ReduceOp {
    match op {
        BinaryOp::Mul => ReduceOp::Mul,
        BinaryOp::Min => ReduceOp::Min,
        BinaryOp::Max => ReduceOp::Max,
        BinaryOp::And => ReduceOp::And,
        BinaryOp::Or => ReduceOp::Or,
        _ => ReduceOp::Add,
    }
}

/// A reduction over any axes.
#[derive(Clone, Debug)]
pub struct Reduction<'a> {
    /// Name of the kernel.
    pub name: &'static str,
    /// Result.
    pub result: &'a View,
    /// Operands of the prologue.
    pub inputs: &'a [View],
    /// Operands of the epilogue.
    pub extras: &'a [View],
    /// Loops that stay. Strides: result, inputs, extras.
    pub kept: Vec<Axis>,
    /// Loops that are reduced.
    pub reduce: Vec<Axis>,
    /// How.
    pub op: BinaryOp,
    /// What it starts with.
    pub identity: Bits,
    /// What is reduced.
    pub prologue: &'a ScalarExpr,
    /// Dtype it is reduced in. Inputs are converted to it where it is wider than theirs.
    pub accumulator: DType,
    /// Dtype of the reduction's result.
    pub reduced: DType,
    /// What becomes of it.
    pub epilogue: &'a ScalarExpr,
}

/// Lowers `reduce` and `fused_reduce`: `prologue` of the operands, whose extents are equal or 1, is reduced.
pub fn lower(
    l: &mut Lowering<'_>,
    id: NodeId,
    reduced_axes: &[usize],
    reducer: Reducer,
    prologue: &ScalarExpr,
) -> Result<(), LowerError> {
    let v = l.graph.value(id);
    let operands: Vec<Value> = l.graph.node(id).operands.to_vec();
    let inputs: Vec<View> = operands.iter().map(|&o| l.view(o)).collect();
    let result = l.result(v);
    let rank = inputs[0].dims.len();
    let dims: Vec<usize> = (0..rank).map(|i| inputs.iter().map(|x| x.dims[i]).find(|&d| d != 1).unwrap_or(1)).collect();
    let kept_dims: Vec<usize> = (0..rank).filter(|i| !reduced_axes.contains(i)).map(|i| dims[i]).collect();
    let mut out = nest::row_major(&kept_dims).into_iter();
    let strides: Vec<Vec<i64>> = inputs.iter().map(|x| nest::broadcast_strides(&x.dims)).collect();
    let (mut kept, mut reduce) = (Vec::new(), Vec::new());
    for (i, &dim) in dims.iter().enumerate() {
        let moves: Vec<i64> = strides.iter().map(|s| s[i]).collect();
        let (list, first) = match reduced_axes.contains(&i) {
            true => (&mut reduce, 0),
            false => (&mut kept, out.next().unwrap_or(0)),
        };
        list.push(Axis::new(dim, [vec![first], moves].concat()));
    }
    if result.is_empty() {
        return Ok(());
    }
    let dtype = result.dtype;
    let (op, identity) = combiner(reducer, compute_dtype(dtype));
    let identity_expr = ScalarExpr::identity();
    let reduction = Reduction {
        name: "reduce",
        result: &result,
        inputs: &inputs,
        extras: &[],
        kept,
        reduce,
        op,
        identity,
        prologue,
        accumulator: compute_dtype(dtype),
        reduced: dtype,
        epilogue: &identity_expr,
    };
    let main = |a: &Axis| a.extent > 1 && a.strides[1..].contains(&1);
    let along_columns = nest::collapse(&reduction.kept).iter().any(|a| main(a) && a.extent >= 4);
    if along_columns { columns(l, id, reduction) } else { horizontal(l, id, reduction) }
}

/// Reduces column by column: a kept axis is contiguous, and a vector of it is reduced at once.
fn columns(l: &mut Lowering<'_>, id: NodeId, r: Reduction<'_>) -> Result<(), LowerError> {
    let dtypes: Vec<DType> = r.inputs.iter().map(|x| x.dtype).collect();
    let operands = 1 + r.inputs.len() + r.extras.len();
    let mut outer = nest::collapse(&r.kept);
    let at = outer.iter().rposition(|a| a.strides[1..].contains(&1)).unwrap_or(outer.len() - 1);
    let column = outer.remove(at);
    let row = outer.pop().unwrap_or_else(|| Axis::unit(operands));
    let prologue = l.typed(id, r.prologue, &dtypes)?;
    let lanes = l.machine.stream_lanes(r.accumulator, prologue.is_heavy());
    let buffer = |view: &View| TileBuffer { dtype: view.dtype, len: view.len() as i64, start: 0 };
    let tile = Tile {
        name: r.name,
        buffers: std::iter::once(r.result).chain(r.inputs).chain(r.extras).map(buffer).collect(),
        inputs: r.inputs.len(),
        guards: Vec::new(),
        outer,
        row,
        column,
        reduce: nest::collapse(&r.reduce),
        combine: Combine::Fold { op: r.op, identity: r.identity, prologue },
        accumulator: r.accumulator,
        reduced: r.reduced,
        epilogue: l.typed(id, r.epilogue, &[r.reduced])?,
        panels: false,
        lanes,
        rows: 1,
        columns_first: false,
        narrow: None,
        inside: None,
        fetch: Vec::new(),
    };
    let views: Vec<&View> = std::iter::once(r.result).chain(r.inputs).chain(r.extras).collect();
    l.step(l.label(id), tile.emit(), &views, tile.flops())
}

/// Reduces along memory: each result has vector accumulators of its own, folded at the end.
pub fn horizontal(l: &mut Lowering<'_>, id: NodeId, r: Reduction<'_>) -> Result<(), LowerError> {
    let widen = r.inputs.iter().any(|x| x.dtype.size() < r.accumulator.size()) && r.accumulator.is_integer();
    let dtypes: Vec<DType> = r.inputs.iter().map(|x| if widen { r.accumulator } else { x.dtype }).collect();
    let prologue = l.typed(id, r.prologue, &dtypes)?;
    let mut epilogue_dtypes = vec![r.reduced];
    epilogue_dtypes.extend(r.extras.iter().map(|e| e.dtype));
    let epilogue = l.typed(id, r.epilogue, &epilogue_dtypes)?;
    let mut b = KernelBuilder::new(r.name);
    let out = b.output("y", r.result.dtype, r.result.len() as i64);
    let buffer = |b: &mut KernelBuilder, v: &View| b.input("x", v.dtype, v.len() as i64);
    let inputs: Vec<Buffer> = r.inputs.iter().map(|v| buffer(&mut b, v)).collect();
    let extras: Vec<Buffer> = r.extras.iter().map(|v| buffer(&mut b, v)).collect();
    let operands = 1 + inputs.len() + extras.len();
    let mut at = vec![Index::constant(0); operands];
    for axis in &nest::collapse(&r.kept) {
        let var = b.parallel(axis.extent);
        advance(&mut at, axis, &Index::from(var));
    }
    let mut reduce = nest::collapse(&r.reduce);
    // the loop along memory innermost
    if let Some(position) = reduce.iter().rposition(|a| a.strides[1..=inputs.len()].contains(&1)) {
        let axis = reduce.remove(position);
        reduce.push(axis);
    }
    let inner = reduce.pop().unwrap_or_else(|| Axis::unit(operands));
    let lanes = l.machine.stream_lanes(r.accumulator, prologue.is_heavy());
    let fold = Fold { inputs: &inputs, inner: &inner, prologue: &prologue, r: &r, widen };
    let widths = widths(inner.extent, lanes);
    let start: Vec<KirValue> =
        widths.iter().map(|&w| b.constant_bits(VType::new(r.accumulator, w), r.identity)).collect();
    let acc = fold.loops(&mut b, &reduce, &at, &widths, start);
    let scalars: Vec<KirValue> = acc.into_iter().map(|v| b.reduce(lane_fold(r.op), v)).collect();
    let mut scalars = scalars.into_iter();
    let first = match scalars.next() {
        Some(first) => first,
        None => b.constant_bits(VType::scalar(r.accumulator), r.identity),
    };
    let total = scalars.fold(first, |a, c| b.binary(r.op, a, c));
    let mut arguments = vec![b.convert(total, compute_dtype(r.reduced))];
    for (i, &extra) in extras.iter().enumerate() {
        arguments.push(load(&mut b, extra, &at[1 + inputs.len() + i], 0, 1));
    }
    let value = epilogue.emit(&mut b, &arguments);
    store(&mut b, out, &at[0], 1, value);
    let views: Vec<&View> = std::iter::once(r.result).chain(r.inputs).chain(r.extras).collect();
    let count = volume(&r.kept).saturating_mul(volume(&r.reduce)) as u64;
    l.step(l.label(id), b, &views, count.saturating_mul(prologue.cost() + 1))
}

/// Combines `extent` elements along memory into a scalar: `element` gives the `width` elements from an index on.
pub fn fold_run(
    b: &mut KernelBuilder,
    (extent, lanes): (i64, u32),
    (op, dtype, identity): (BinaryOp, DType, Bits),
    element: &mut dyn FnMut(&mut KernelBuilder, &Index, u32) -> KirValue,
) -> KirValue {
    let mut done = 0;
    let mut total = None;
    for width in widths(extent, lanes) {
        let size = i64::from(width);
        let steps = if done == 0 { extent / size } else { 1 };
        let acc = match steps {
            1 => element(b, &Index::constant(done), width),
            _ => {
                let start = b.constant_bits(VType::new(dtype, width), identity);
                let step = &mut |b: &mut KernelBuilder, at: &Index| element(b, &(at * size + done), width);
                fold_chains(b, (steps, WIDE_CHAINS), start, step, &|b, x, y| b.binary(op, x, y))
            }
        };
        done += steps * size;
        let scalar = b.reduce(lane_fold(op), acc);
        total = Some(match total {
            Some(total) => b.binary(op, total, scalar),
            None => scalar,
        });
    }
    total.unwrap_or_else(|| b.constant_bits(VType::scalar(dtype), identity))
}

/// Chains of a fold over vectors of two registers, and of four: so many sums are under way that none is waited for.
pub const NARROW_CHAINS: i64 = 4;
const WIDE_CHAINS: i64 = 2;

/// Combines what `element` gives for `0..count` lane by lane: element `i` goes to chain `i mod chains`, which begins with
/// `start`, and the chains are combined in order.
pub fn fold_chains(
    b: &mut KernelBuilder,
    (count, chains): (i64, i64),
    start: KirValue,
    element: &mut dyn FnMut(&mut KernelBuilder, &Index) -> KirValue,
    combine: &dyn Fn(&mut KernelBuilder, KirValue, KirValue) -> KirValue,
) -> KirValue {
    let chains = chains.min(count);
    if chains < 1 {
        return start;
    }
    let mut step = |b: &mut KernelBuilder, at: &Index, acc: KirValue| {
        let value = element(b, at);
        combine(b, acc, value)
    };
    let steps = count / chains;
    let start = vec![start; chains as usize];
    let mut acc: Vec<KirValue> = match steps {
        1 => start.into_iter().zip(0..).map(|(acc, chain)| step(b, &Index::constant(chain), acc)).collect(),
        _ => b.for_loop(steps, &start, |b, var, acc| {
            acc.iter().zip(0..).map(|(&acc, chain)| step(b, &(var * chains + chain), acc)).collect()
        }),
    };
    for (acc, at) in acc.iter_mut().zip(steps * chains..count) {
        *acc = step(b, &Index::constant(at), *acc);
    }
    let first = acc.remove(0);
    acc.into_iter().fold(first, |x, y| combine(b, x, y))
}

/// The lane counts in which a loop of `extent` iterations runs: the full one, then powers of two for what is left.
fn widths(extent: i64, lanes: u32) -> Vec<u32> {
    let mut widths = Vec::new();
    if extent >= i64::from(lanes) {
        widths.push(lanes);
    }
    let rest = extent % i64::from(lanes);
    let mut width = lanes / 2;
    while width > 0 {
        if rest & i64::from(width) != 0 {
            widths.push(width);
        }
        width /= 2;
    }
    widths
}

struct Fold<'a> {
    inputs: &'a [Buffer],
    inner: &'a Axis,
    prologue: &'a TypedExpr,
    r: &'a Reduction<'a>,
    widen: bool,
}

impl Fold<'_> {
    /// The outer reduction loops, then one run along the inner one; one accumulator per width.
    fn loops(
        &self,
        b: &mut KernelBuilder,
        axes: &[Axis],
        at: &[Index],
        widths: &[u32],
        acc: Vec<KirValue>,
    ) -> Vec<KirValue> {
        match axes.split_first() {
            None => self.run(b, at, widths, acc),
            Some((axis, rest)) => b.for_loop(axis.extent, &acc, |b, var, acc| {
                let mut at = at.to_vec();
                advance(&mut at, axis, &Index::from(var));
                self.loops(b, rest, &at, widths, acc.to_vec())
            }),
        }
    }

    fn run(&self, b: &mut KernelBuilder, at: &[Index], widths: &[u32], acc: Vec<KirValue>) -> Vec<KirValue> {
        let mut done = 0;
        let mut next = Vec::with_capacity(acc.len());
        for (&width, acc) in widths.iter().zip(acc) {
            let lanes = i64::from(width);
            // the first width takes as many steps as fit, the narrower ones one each
            let steps = if done == 0 && self.inner.extent >= lanes { self.inner.extent / lanes } else { 1 };
            next.push(match steps {
                1 => self.step(b, at, &Index::constant(done), width, acc),
                _ => b.for_loop(steps, &[acc], |b, var, acc| vec![self.step(b, at, &(var * lanes), width, acc[0])])[0],
            });
            done += steps * lanes;
        }
        next
    }

    fn step(&self, b: &mut KernelBuilder, at: &[Index], by: &Index, width: u32, acc: KirValue) -> KirValue {
        let mut at = at.to_vec();
        advance(&mut at, self.inner, by);
        let mut values = Vec::with_capacity(self.inputs.len());
        for (i, &buffer) in self.inputs.iter().enumerate() {
            let value = load(b, buffer, &at[1 + i], self.inner.strides[1 + i], width);
            values.push(if self.widen { b.convert(value, self.r.accumulator) } else { value });
        }
        let value = self.prologue.emit(b, &values);
        b.binary(self.r.op, acc, value)
    }
}

#[cfg(test)]
mod tests {
    use super::widths;

    #[test]
    fn widths_cover_every_extent() {
        assert_eq!(widths(37, 16), [16, 4, 1]);
        assert_eq!(widths(5, 16), [4, 1]);
        assert_eq!(widths(16, 16), [16]);
        assert!(widths(0, 16).is_empty());
    }
}
