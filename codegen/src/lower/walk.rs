//! Emission of a nest whose iterations are independent: some outer loops become the kernel's parallel loop, the
//! innermost one runs in vectors.

use super::nest::Axis;
use crate::kir::{Index, KernelBuilder, Value};

/// Elements after which a loop is worth being a parallel dimension: less, and finding out where an iteration is costs
/// more than the iteration.
const PARALLEL_INNER: i64 = 512;

/// Elements of one parallel piece of a long innermost loop.
const CHUNK: i64 = 4096;

/// What is emitted at the two inner levels of a walk.
pub trait Body {
    /// Emitted before a run of the innermost loop in vectors of `lanes`: what does not change in it.
    fn prepare(&mut self, _b: &mut KernelBuilder, _at: &[Index], _lanes: u32) -> Vec<Value> {
        Vec::new()
    }

    /// Emitted for `lanes` consecutive iterations of the innermost loop, the first of them at `at`.
    fn lanes(&mut self, b: &mut KernelBuilder, at: &[Index], prepared: &[Value], lanes: u32);
}

/// Walks `axes` (collapsed) from `start`, one index per operand, with vectors of up to `lanes` lanes (a power of two).
pub fn walk(b: &mut KernelBuilder, axes: &[Axis], start: &[Index], lanes: u32, body: &mut dyn Body) {
    let unit = Axis::unit(start.len());
    let (inner, outer) = axes.split_last().map_or((&unit, &[][..]), |(i, o)| (i, o));
    let mut at = start.to_vec();
    let mut serial = Vec::new();
    let mut inside = inner.extent * outer.iter().map(|a| a.extent).product::<i64>();
    for (position, axis) in outer.iter().enumerate() {
        inside /= axis.extent.max(1);
        if serial.is_empty() && (position == 0 || inside >= PARALLEL_INNER) {
            let var = b.parallel(axis.extent);
            advance(&mut at, axis, &Index::from(var));
        } else {
            serial.push(axis.clone());
        }
    }
    if serial.is_empty() && inner.extent >= 2 * CHUNK {
        let full = inner.extent / CHUNK;
        let rest = inner.extent % CHUNK;
        let var = b.parallel(full + i64::from(rest > 0));
        let mut here = at.clone();
        advance(&mut here, inner, &(var * CHUNK));
        if rest == 0 {
            run(b, &here, inner, CHUNK, lanes, body);
            return;
        }
        let body = std::cell::RefCell::new(body);
        b.if_else(
            crate::kir::Condition::NonNegative(vec![Index::constant(full - 1) - var]),
            |b| {
                run(b, &here, inner, CHUNK, lanes, *body.borrow_mut());
                Vec::new()
            },
            |b| {
                advance(&mut at, inner, &Index::constant(full * CHUNK));
                run(b, &at, inner, rest, lanes, *body.borrow_mut());
                Vec::new()
            },
        );
        return;
    }
    nested(b, &serial, &at, inner, lanes, body);
}

fn nested(b: &mut KernelBuilder, serial: &[Axis], at: &[Index], inner: &Axis, lanes: u32, body: &mut dyn Body) {
    match serial.split_first() {
        None => run(b, at, inner, inner.extent, lanes, body),
        Some((axis, rest)) => b.for_each(axis.extent, |b, var| {
            let mut at = at.to_vec();
            advance(&mut at, axis, &Index::from(var));
            nested(b, rest, &at, inner, lanes, body);
        }),
    }
}

/// Walks `len` iterations of one loop in vectors: as many full ones as fit, then ever narrower ones.
pub fn run(b: &mut KernelBuilder, at: &[Index], axis: &Axis, len: i64, lanes: u32, body: &mut dyn Body) {
    let full = len / i64::from(lanes);
    let moved = |by: &Index| {
        let mut at = at.to_vec();
        advance(&mut at, axis, by);
        at
    };
    let prepared = if full > 0 { body.prepare(b, at, lanes) } else { Vec::new() };
    match full {
        0 => {}
        1 => body.lanes(b, at, &prepared, lanes),
        _ => b.for_each(full, |b, var| body.lanes(b, &moved(&(var * i64::from(lanes))), &prepared, lanes)),
    }
    let mut done = full * i64::from(lanes);
    let mut width = lanes / 2;
    while done < len && width > 0 {
        if len - done >= i64::from(width) {
            let prepared = body.prepare(b, at, width);
            body.lanes(b, &moved(&Index::constant(done)), &prepared, width);
            done += i64::from(width);
        }
        width /= 2;
    }
}

/// Moves every operand's index along `axis` by `by` iterations.
pub fn advance(at: &mut [Index], axis: &Axis, by: &Index) {
    for (index, &stride) in at.iter_mut().zip(&axis.strides) {
        if stride != 0 {
            *index += &(by * stride);
        }
    }
}
