//! Extremes and where they are: `arg_reduce`, `top_k` (and so sorting), and the gradient of a windowed maximum.
//!
//! Elements are compared through integer keys whose order is that of the elements, best last: equal elements have equal
//! keys (zeros of either sign too), a NaN has an extreme one, and ties go by position. So the order is total, and every
//! way of sorting gives the same result.

use kiln_ir::attribute::{Extreme, Padding};
use kiln_ir::infer::{filled, padding_or_none};
use kiln_ir::{DType, NodeId, Value as GraphValue};
use kiln_runtime::Access;

use super::context::Lowering;
use super::error::LowerError;
use super::nest;
use super::normalize::around;
use super::scalar::load;
use crate::kir::{self, Bits, Buffer, CompareOp, Condition, Index, KernelBuilder, VType, Value};

/// Where a NaN stands among keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nan {
    /// It is the extreme looked for, whichever that is.
    Wins,
    /// It is the largest element.
    Largest,
}

/// The dtype of the keys of elements of `dtype`.
fn key_dtype(dtype: DType) -> DType {
    match dtype {
        DType::F64 | DType::I64 => DType::I64,
        _ => DType::I32,
    }
}

/// Keys of elements in their compute dtype: the greater, the closer to the extreme.
fn key(b: &mut KernelBuilder, x: Value, extreme: Extreme, nan: Nan) -> Value {
    let ty = b.type_of(x);
    let dtype = key_dtype(ty.dtype);
    let ordered = if ty.dtype.is_float() {
        // adding +0 makes the zeros equal
        let zero = b.constant(ty, 0.0);
        let x0 = b.add(x, zero);
        let bits = b.bitcast(x0, dtype);
        let ty = b.type_of(bits);
        let width = 8 * dtype.size() as i64;
        let shift = b.constant_int(ty, width - 1);
        let sign = b.shr(bits, shift);
        let (greatest, least) = match dtype {
            DType::I64 => (i64::MAX, i64::MIN),
            _ => (i32::MAX.into(), i32::MIN.into()),
        };
        // negative floats order backwards
        let magnitude = b.constant_int(ty, greatest);
        let flip = b.and(sign, magnitude);
        let ordered = b.xor(bits, flip);
        let is_nan = b.compare(CompareOp::Ne, x, x);
        let first = nan == Nan::Wins && extreme == Extreme::Min;
        let of_nan = b.constant_int(ty, if first { least } else { greatest });
        b.select(is_nan, of_nan, ordered)
    } else {
        b.convert(x, dtype)
    };
    match extreme {
        Extreme::Max => ordered,
        Extreme::Min => b.not(ordered),
    }
}

/// Whether (key, index) `a` comes before `b`: greater key, or the same and an earlier position.
fn before(b: &mut KernelBuilder, (ak, ai): (Value, Value), (bk, bi): (Value, Value)) -> Value {
    let greater = b.compare(CompareOp::Gt, ak, bk);
    let equal = b.compare(CompareOp::Eq, ak, bk);
    let earlier = b.compare(CompareOp::Lt, ai, bi);
    let tie = b.and(equal, earlier);
    b.or(greater, tie)
}

fn pick(b: &mut KernelBuilder, mask: Value, x: (Value, Value), y: (Value, Value)) -> (Value, Value) {
    (b.select(mask, x.0, y.0), b.select(mask, x.1, y.1))
}

/// Index of the extreme along `axis`.
pub fn arg_reduce(l: &mut Lowering<'_>, id: NodeId, axis: usize, extreme: Extreme) -> Result<(), LowerError> {
    let v = l.graph.value(id);
    let x = l.view(l.operand(id, 0));
    let result = l.result(v);
    if result.is_empty() {
        return Ok(());
    }
    let (outer, extent, inner) = around(&x.dims, axis);
    let mut b = KernelBuilder::new("arg_reduce");
    let out = b.output("y", DType::I64, result.len() as i64);
    let from = b.input("x", x.dtype, x.len() as i64);
    let block = b.parallel(outer);
    let lanes = l.machine.lanes(key_dtype(x.dtype)) * 2;
    let scan = Scan { from, extreme, extent };
    if inner == 1 {
        let wide = if extent >= i64::from(lanes) { lanes } else { 1 };
        let (keys, places) = scan.along(&mut b, &(block * extent), 1, i64::from(wide), wide);
        let mut best = (b.extract(keys, 0), b.extract(places, 0));
        for lane in 1..wide {
            let other = (b.extract(keys, lane), b.extract(places, lane));
            let better = before(&mut b, other, best);
            best = pick(&mut b, better, other, best);
        }
        for i in extent / i64::from(wide) * i64::from(wide)..extent {
            let place = b.constant_int(b.type_of(best.1), i);
            best = scan.step(&mut b, &(block * extent + i), place, best);
        }
        let place = b.convert(best.1, DType::I64);
        b.store(out, block, place);
    } else {
        let (full, rest) = (inner / i64::from(lanes), inner % i64::from(lanes));
        let column = |b: &mut KernelBuilder, first: &Index, width: u32| {
            let (_, places) = scan.along(b, &(block * (extent * inner) + first), inner, 1, width);
            let places = b.convert(places, DType::I64);
            b.store(out, block * inner + first, places);
        };
        b.for_each(full, |b, var| column(b, &(var * i64::from(lanes)), lanes));
        (inner - rest..inner).for_each(|i| column(&mut b, &Index::constant(i), 1));
    }
    l.step(l.label(id), b, &[&result, &x], x.len() as u64 * 4)
}

struct Scan {
    from: Buffer,
    extreme: Extreme,
    extent: i64,
}

impl Scan {
    /// Scans positions `stride` elements apart, `width` lanes at a time of which neighbours are `advance` positions
    /// apart from step to step: one position per lane (advance = width), or a position of its own (advance = 1).
    fn along(&self, b: &mut KernelBuilder, first: &Index, stride: i64, advance: i64, width: u32) -> (Value, Value) {
        let apart = i64::from(advance > 1);
        let x = load(b, self.from, first, 1, width);
        let keys = key(b, x, self.extreme, Nan::Wins);
        let places = b.iota(0, apart, width);
        let places = b.convert(places, b.type_of(keys).dtype);
        let steps = self.extent / advance;
        let best = b.for_loop(steps - 1, &[keys, places], |b, var, best| {
            let at = (var + 1) * advance;
            let place = b.iota(&at, apart, width);
            let place = b.convert(place, b.type_of(best[0]).dtype);
            let (keys, places) = self.step(b, &(first + at * stride), place, (best[0], best[1]));
            vec![keys, places]
        });
        (best[0], best[1])
    }

    /// The better of what was best and the elements at `at`; the earlier of equals, since positions come in order.
    fn step(&self, b: &mut KernelBuilder, at: &Index, place: Value, best: (Value, Value)) -> (Value, Value) {
        let x = load(b, self.from, at, 1, b.type_of(place).lanes);
        let keys = key(b, x, self.extreme, Nan::Wins);
        let better = b.compare(CompareOp::Gt, keys, best.0);
        pick(b, better, (keys, place), best)
    }
}

/// Up to this many, the best are kept in order while the row is scanned; for more, the row is sorted.
const FEW: i64 = 16;

/// The k most extreme elements along `axis` and their indices.
pub fn top_k(l: &mut Lowering<'_>, id: NodeId, k: usize, axis: usize, extreme: Extreme) -> Result<(), LowerError> {
    let values = l.graph.value(id);
    let indices = GraphValue { result: 1, ..values };
    let x = l.view(l.operand(id, 0));
    let (value_view, index_view) = (l.result(values), l.result(indices));
    if value_view.is_empty() {
        return Ok(());
    }
    let (outer, extent, inner) = around(&x.dims, axis);
    let k = k as i64;
    let mut b = KernelBuilder::new("top_k");
    let value_out = b.output("values", x.dtype, value_view.len() as i64);
    let index_out = b.output("indices", DType::I64, index_view.len() as i64);
    let from = b.input("x", x.dtype, x.len() as i64);
    let few = k <= FEW || k * 8 <= extent.min(256);
    let size = if few { k } else { (extent as u64).next_power_of_two() as i64 };
    let dtype = key_dtype(x.dtype);
    let keys = b.scratch("keys", dtype, size);
    let places = b.scratch("places", DType::I64, size);
    let block = b.parallel(outer);
    let column = b.parallel(inner);
    let first = block * (extent * inner) + column;
    let order = Order { from, extreme, keys, places, dtype, extent, stride: inner, first };
    if few {
        order.select(&mut b, k)
    } else {
        order.sort(&mut b, size)
    }
    b.for_each(k, |b, i| {
        let place = b.load(places, i, 1);
        let value = b.load(from, &order.first + Index::dynamic(place, extent) * inner, 1);
        let to = block * (k * inner) + i * inner + column;
        b.store(value_out, to.clone(), value);
        b.store(index_out, to, place);
    });
    let steps = if few { k as u64 } else { u64::from(size.ilog2()).pow(2) };
    let uses = vec![value_view.used(Access::Write), index_view.used(Access::Write), x.used(Access::Read)];
    l.step_with(l.label(id), b, uses, x.len() as u64 * steps * 4)
}

struct Order {
    from: Buffer,
    extreme: Extreme,
    keys: Buffer,
    places: Buffer,
    dtype: DType,
    extent: i64,
    stride: i64,
    first: Index,
}

impl Order {
    fn key_at(&self, b: &mut KernelBuilder, i: &Index) -> Value {
        let x = load(b, self.from, &(&self.first + i * self.stride), 1, 1);
        key(b, x, self.extreme, Nan::Largest)
    }

    fn least(&self) -> Bits {
        Bits::from_i64(self.dtype, if self.dtype == DType::I64 { i64::MIN } else { i32::MIN.into() })
    }

    /// Keeps the best `k` in order; an element that beats the worst of them is inserted.
    fn select(&self, b: &mut KernelBuilder, k: i64) {
        let least = b.constant_bits(VType::scalar(self.dtype), self.least());
        // later than every element, so that even one with the least key comes before
        let nowhere = b.constant_int(VType::scalar(DType::I64), self.extent);
        b.for_each(k, |b, i| {
            b.store(self.keys, i, least);
            b.store(self.places, i, nowhere);
        });
        b.for_each(self.extent, |b, i| {
            let new = (self.key_at(b, &i.into()), b.index_value(i));
            let worst = (b.load(self.keys, k - 1, 1), b.load(self.places, k - 1, 1));
            let enters = before(b, new, worst);
            b.when(enters, |b| {
                b.for_loop(k, &[new.0, new.1], |b, j, moving| {
                    let moving = (moving[0], moving[1]);
                    let there = (b.load(self.keys, j, 1), b.load(self.places, j, 1));
                    let better = before(b, moving, there);
                    let kept = pick(b, better, moving, there);
                    b.store(self.keys, j, kept.0);
                    b.store(self.places, j, kept.1);
                    let next = pick(b, better, there, moving);
                    vec![next.0, next.1]
                });
            });
        });
    }

    /// Sorts the whole row, best first: Batcher's bitonic network in the form whose comparisons all go one way. Places
    /// after the row have the least key and the latest positions.
    fn sort(&self, b: &mut KernelBuilder, size: i64) {
        b.for_each(self.extent, |b, i| {
            let key = self.key_at(b, &i.into());
            let place = b.index_value(i);
            b.store(self.keys, i, key);
            b.store(self.places, i, place);
        });
        let least = b.constant_bits(VType::scalar(self.dtype), self.least());
        b.for_each(size - self.extent, |b, i| {
            let place = b.index_value(i + self.extent);
            b.store(self.keys, i + self.extent, least);
            b.store(self.places, i + self.extent, place);
        });
        let mut run = 2;
        while run <= size {
            // two sorted halves: the first meets the second backwards, then each half is merged
            self.exchange(b, size / run, run, &|t| t, &|t| Index::constant(run - 1) - t, -1);
            let mut distance = run / 4;
            while distance >= 1 {
                let apart = distance;
                self.exchange(b, size / (2 * apart), 2 * apart, &|t| t, &|t| t + apart, 1);
                distance /= 2;
            }
            run *= 2;
        }
    }

    /// Puts the better of each pair first: in each of `groups` of `run` places, `low(t)` and `high(t)` for t in
    /// `0..run / 2`; `high` goes through memory in steps of `step`.
    fn exchange(
        &self,
        b: &mut KernelBuilder,
        groups: i64,
        run: i64,
        low: &dyn Fn(Index) -> Index,
        high: &dyn Fn(Index) -> Index,
        step: i64,
    ) {
        let width = (run / 2).min(4) as u32;
        b.for_each(groups, |b, group| {
            b.for_each(run / 2 / i64::from(width), |b, t| {
                let t = t * i64::from(width);
                let (low, high) = (group * run + low(t.clone()), group * run + high(t));
                let first = (b.load(self.keys, &low, width), b.load(self.places, &low, width));
                let second =
                    (b.load_strided(self.keys, &high, step, width), b.load_strided(self.places, &high, step, width));
                let swap = before(b, second, first);
                let better = pick(b, swap, second, first);
                let worse = pick(b, swap, first, second);
                b.store(self.keys, low.clone(), better.0);
                b.store(self.places, low, better.1);
                b.store_strided(self.keys, high.clone(), step, worse.0);
                b.store_strided(self.places, high, step, worse.1);
            });
        });
    }
}

/// Adds each element of `source` at the first extreme of its window in x.
pub fn select_and_scatter(
    l: &mut Lowering<'_>,
    id: NodeId,
    window: &[usize],
    strides: &[usize],
    padding: &[Padding],
    extreme: Extreme,
) -> Result<(), LowerError> {
    let v = l.graph.value(id);
    let (x, source) = (l.view(l.operand(id, 0)), l.view(l.operand(id, 1)));
    let result = l.result(v);
    let rank = window.len();
    let (strides, padding) = (filled(strides, rank, 1), padding_or_none(padding, rank));
    l.fill(l.label(id), &result, Bits(0));
    if result.is_empty() || source.is_empty() {
        return Ok(());
    }
    let dims = &source.dims;
    let (xs, ss) = (nest::row_major(&x.dims), nest::row_major(dims));
    let len = x.len() as i64;
    let mut b = KernelBuilder::new("select_and_scatter");
    let out = b.buffer("y", x.dtype, len, kir::Access::ReadWrite);
    let from = b.input("x", x.dtype, len);
    let given = b.input("source", source.dtype, source.len() as i64);
    // windows meet only along axes on which they are wider than 1: the others are independent
    let alone = |i: usize| window[i] == 1 && padding[i] == Padding::NONE;
    let mut place: Vec<Index> = vec![Index::constant(0); rank];
    let mut parallel_outer = Vec::new();
    for i in (0..rank).filter(|&i| alone(i)) {
        parallel_outer.push(i);
        place[i] = b.parallel(dims[i] as i64).into();
    }
    let windows = Windows {
        from,
        extreme,
        window,
        strides: &strides,
        padding: &padding,
        x_dims: &x.dims,
        xs: &xs,
        ss: &ss,
        dims,
        out,
        given,
        len,
    };
    let serial: Vec<usize> = (0..rank).filter(|i| !parallel_outer.contains(i)).collect();
    windows.places(&mut b, &serial, place);
    l.step(l.label(id), b, &[&result, &x, &source], source.len() as u64 * window.iter().product::<usize>() as u64 * 4)
}

struct Windows<'a> {
    from: Buffer,
    extreme: Extreme,
    window: &'a [usize],
    strides: &'a [usize],
    padding: &'a [Padding],
    x_dims: &'a [usize],
    xs: &'a [i64],
    ss: &'a [i64],
    dims: &'a [usize],
    out: Buffer,
    given: Buffer,
    len: i64,
}

impl Windows<'_> {
    fn places(&self, b: &mut KernelBuilder, axes: &[usize], place: Vec<Index>) {
        let Some((&axis, rest)) = axes.split_first() else { return self.window(b, &place) };
        b.for_each(self.dims[axis] as i64, |b, var| {
            let mut place = place.clone();
            place[axis] = var.into();
            self.places(b, rest, place);
        });
    }

    /// One window: finds its first extreme, and adds there.
    fn window(&self, b: &mut KernelBuilder, place: &[Index]) {
        let dtype = key_dtype(b.dtype_of(self.from));
        let key_least = if dtype == DType::I64 { i64::MIN } else { i32::MIN.into() };
        let least = b.constant_int(VType::scalar(dtype), key_least);
        let nowhere = b.constant_int(VType::scalar(DType::I64), -1);
        let corner: Vec<Index> = place
            .iter()
            .zip(self.strides)
            .zip(self.padding)
            .map(|((at, &stride), p)| at * stride as i64 - p.low)
            .collect();
        let best = self.taps(b, 0, &corner, vec![least, nowhere]);
        let zero = b.constant_int(VType::scalar(DType::I64), 0);
        let found = b.compare(CompareOp::Ge, best[1], zero);
        let (out, given) = (self.out, self.given);
        let index = place.iter().zip(self.ss).fold(Index::constant(0), |sum, (at, &s)| sum + at * s);
        b.when(found, |b| {
            let to = Index::dynamic(best[1], self.len);
            let old = load(b, out, &to, 1, 1);
            let new = load(b, given, &index, 1, 1);
            let sum = b.add(old, new);
            super::scalar::store(b, out, &to, 1, sum);
        });
    }

    /// The taps along `axis` and those after it; what is outside x is skipped.
    fn taps(&self, b: &mut KernelBuilder, axis: usize, at: &[Index], best: Vec<Value>) -> Vec<Value> {
        if axis == self.window.len() {
            let index = at.iter().zip(self.xs).fold(Index::constant(0), |sum, (at, &s)| sum + at * s);
            let x = load(b, self.from, &index, 1, 1);
            let key = key(b, x, self.extreme, Nan::Wins);
            let place = b.index_value(index);
            // the least key beats the start, where nothing has been found yet
            let better = b.compare(CompareOp::Gt, key, best[0]);
            let zero = b.constant_int(VType::scalar(DType::I64), 0);
            let first = b.compare(CompareOp::Lt, best[1], zero);
            let better = b.or(better, first);
            let (key, place) = pick(b, better, (key, place), (best[0], best[1]));
            return vec![key, place];
        }
        b.for_loop(self.window[axis] as i64, &best, |b, var, best| {
            let mut at = at.to_vec();
            at[axis] = &at[axis] + var;
            if self.padding[axis] == Padding::NONE {
                return self.taps(b, axis + 1, &at, best.to_vec());
            }
            let inside = vec![at[axis].clone(), Index::constant(self.x_dims[axis] as i64 - 1) - &at[axis]];
            b.if_else(Condition::NonNegative(inside), |b| self.taps(b, axis + 1, &at, best.to_vec()), |_| best.to_vec())
        })
    }
}
