//! Extremes and where they are: the order of elements, and `arg_reduce`.
//!
//! Elements are compared through integer keys whose order is that of the elements, best last: equal elements have equal
//! keys (zeros of either sign too), a NaN has an extreme one, and ties go by position. So the order is total, and every
//! way of sorting gives the same result.

use kiln_ir::attribute::Extreme;
use kiln_ir::{DType, NodeId};

use super::context::Lowering;
use super::error::LowerError;
use super::normalize::around;
use super::scalar::load;
use crate::kir::{Buffer, CompareOp, Index, KernelBuilder, Value};

/// Where a NaN stands among keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nan {
    /// It is the extreme looked for, whichever that is.
    Wins,
    /// It is the largest element.
    Largest,
}

/// The dtype of the keys of elements of `dtype`.
pub(super) fn key_dtype(dtype: DType) -> DType {
    match dtype {
        DType::F64 | DType::I64 => DType::I64,
        _ => DType::I32,
    }
}

/// Keys of elements in their compute dtype: the greater, the closer to the extreme.
pub(super) fn key(b: &mut KernelBuilder, x: Value, extreme: Extreme, nan: Nan) -> Value {
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
pub(super) fn before(b: &mut KernelBuilder, (ak, ai): (Value, Value), (bk, bi): (Value, Value)) -> Value {
    let greater = b.compare(CompareOp::Gt, ak, bk);
    let equal = b.compare(CompareOp::Eq, ak, bk);
    let earlier = b.compare(CompareOp::Lt, ai, bi);
    let tie = b.and(equal, earlier);
    b.or(greater, tie)
}

pub(super) fn pick(b: &mut KernelBuilder, mask: Value, x: (Value, Value), y: (Value, Value)) -> (Value, Value) {
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
    l.step(l.label(id), b, &[&result, &x], (x.len() as u64).saturating_mul(4))
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
