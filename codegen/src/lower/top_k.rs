//! The k best elements of a row in order; with k = extent, sorting.

use kiln_ir::attribute::Extreme;
use kiln_ir::{DType, NodeId, Value as GraphValue};
use kiln_runtime::Access;

use super::context::Lowering;
use super::error::LowerError;
use super::extreme::{Nan, before, key, key_dtype, pick};
use super::normalize::around;
use super::scalar::load;
use crate::kir::{Bits, Buffer, Index, KernelBuilder, VType, Value};

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
    l.step_with(l.label(id), b, uses, (x.len() as u64).saturating_mul(steps * 4))
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
