//! The gradient of a maximum over windows.

use kiln_ir::NodeId;
use kiln_ir::attribute::{Extreme, Padding};
use kiln_ir::infer::{filled, padding_or_none};

use super::context::Lowering;
use super::error::LowerError;
use super::extreme::{Nan, key, key_dtype, pick};
use super::nest;
use super::scalar::{load, store};
use crate::kir::{self, Bits, Buffer, CompareOp, Condition, DType, Index, KernelBuilder, VType, Value};

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
    l.check_window(id, x.len(), &padding, &[&strides, window])?;
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
            store(b, out, &to, 1, sum);
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
