//! Local response normalisation across channels.

use kiln_ir::NodeId;

use super::context::Lowering;
use super::error::LowerError;
use super::nest::Axis;
use super::normalize::around;
use super::scalar::{compute_dtype, load, store};
use super::walk::{Body, run, walk};
use crate::kir::{Buffer, Condition, Index, KernelBuilder, LoopKind, VType, Value};

/// The numbers of a local response normalisation.
#[derive(Clone, Copy, Debug)]
pub struct Lrn {
    /// Channels in a window.
    pub size: usize,
    /// Weight of the sum.
    pub alpha: f64,
    /// Exponent.
    pub beta: f64,
    /// Added to the sum.
    pub bias: f64,
}

/// Local response normalisation across the channels along `axis`.
pub fn lrn(l: &mut Lowering<'_>, id: NodeId, axis: usize, numbers: Lrn) -> Result<(), LowerError> {
    let v = l.graph.value(id);
    let x = l.view(l.operand(id, 0));
    let (outer, channels, inner) = around(&x.dims, axis);
    let dtype = compute_dtype(x.dtype);
    // channels after this one are read when it has been written, unless squares are kept in scratch
    let result = if inner == 1 { l.result_in_place(id, v, &[0]) } else { l.result(v) };
    if result.is_empty() {
        return Ok(());
    }
    if inner == 1 && (channels as usize).saturating_mul(2 * dtype.size()) > isize::MAX as usize / 2 {
        return Err(l.too_large(id, format!("squares of {channels} channels")));
    }
    let mut b = KernelBuilder::new("lrn");
    let out = b.output("y", x.dtype, x.len() as i64);
    let from = b.input("x", x.dtype, x.len() as i64);
    let lanes = l.machine.stream_lanes(dtype, false);
    // channels that do not exist add nothing
    let most = (channels as usize).saturating_sub(1);
    let (before, after) = ((numbers.size - 1) / 2, numbers.size / 2);
    let (before, after) = (before.min(most) as i64, after.min(most) as i64);
    let taps = before + 1 + after;
    if inner == 1 {
        let width = channels + taps - 1;
        let squares = b.scratch("squares", dtype, width);
        let row = b.parallel(outer);
        let first = row * channels;
        let zero = b.constant(VType::scalar(dtype), 0.0);
        b.for_each(before, |b, i| b.store(squares, i, zero));
        b.for_each(width - before - channels, |b, i| b.store(squares, i + (before + channels), zero));
        let axis = Axis { extent: channels, strides: vec![1, 1] };
        let mut square = Squares { from, squares };
        run(&mut b, &[first.clone(), Index::constant(before)], &axis, channels, lanes, &mut square);
        let mut body = Across { out, from, squares, numbers, taps };
        run(&mut b, &[first, Index::constant(0)], &axis, channels, lanes, &mut body);
    } else {
        let extents = [(outer, channels * inner), (channels, inner), (inner, 1)];
        let axes: Vec<Axis> =
            extents.into_iter().zip([0, 1, 0]).map(|((n, s), c)| Axis { extent: n, strides: vec![s, c] }).collect();
        let axes: Vec<Axis> = axes.into_iter().filter(|a| a.extent != 1).collect();
        let mut body = Columns { out, from, numbers, taps, before, channels, inner };
        walk(&mut b, &axes, &[Index::constant(0), Index::constant(0)], lanes, &mut body);
    }
    l.step(l.label(id), b, &[&result, &x], (x.len() as u64).saturating_mul(taps as u64 + 10))
}

struct Squares {
    from: Buffer,
    squares: Buffer,
}

impl Body for Squares {
    fn lanes(&mut self, b: &mut KernelBuilder, at: &[Index], _: &[Value], lanes: u32) {
        let x = load(b, self.from, &at[0], 1, lanes);
        let square = b.mul(x, x);
        b.store(self.squares, &at[1], square);
    }
}

struct Across {
    out: Buffer,
    from: Buffer,
    squares: Buffer,
    numbers: Lrn,
    taps: i64,
}

/// Short windows are written out.
fn loop_kind(taps: i64) -> LoopKind {
    if taps <= 8 { LoopKind::Unrolled } else { LoopKind::Serial }
}

impl Body for Across {
    fn lanes(&mut self, b: &mut KernelBuilder, at: &[Index], _: &[Value], lanes: u32) {
        let first = b.load(self.squares, &at[1], lanes);
        let squares = self.squares;
        let sum = b.loop_of(loop_kind(self.taps), self.taps - 1, &[first], |b, tap, sum| {
            let next = b.load(squares, &at[1] + tap + 1, lanes);
            vec![b.add(sum[0], next)]
        })[0];
        let x = load(b, self.from, &at[0], 1, lanes);
        let value = self.numbers.apply(b, x, sum);
        store(b, self.out, &at[0], 1, value);
    }
}

struct Columns {
    out: Buffer,
    from: Buffer,
    numbers: Lrn,
    taps: i64,
    before: i64,
    channels: i64,
    inner: i64,
}

impl Body for Columns {
    fn lanes(&mut self, b: &mut KernelBuilder, at: &[Index], _: &[Value], lanes: u32) {
        let x = load(b, self.from, &at[0], 1, lanes);
        let zero = b.constant(VType::new(b.type_of(x).dtype, lanes), 0.0);
        let (before, inner, channels, from) = (self.before, self.inner, self.channels, self.from);
        let sum = b.loop_of(loop_kind(self.taps), self.taps, &[zero], |b, tap, sum| {
            let channel = &at[1] + tap - before;
            let inside = vec![channel.clone(), Index::constant(channels - 1) - channel];
            let index = &at[0] + tap * inner - before * inner;
            let old = sum[0];
            b.if_else(
                Condition::NonNegative(inside),
                |b| {
                    let x = load(b, from, &index, 1, lanes);
                    let square = b.mul(x, x);
                    vec![b.add(old, square)]
                },
                |_| vec![old],
            )
        })[0];
        let value = self.numbers.apply(b, x, sum);
        store(b, self.out, &at[0], 1, value);
    }
}

impl Lrn {
    /// x / (bias + alpha / size · sum)^beta.
    fn apply(&self, b: &mut KernelBuilder, x: Value, sum: Value) -> Value {
        let ty = b.type_of(x);
        let weight = b.constant(ty, self.alpha / self.size as f64);
        let bias = b.constant(ty, self.bias);
        let scaled = b.mul(sum, weight);
        let base = b.add(scaled, bias);
        let divisor = match self.beta {
            1.0 => base,
            0.5 => b.sqrt(base),
            0.75 => {
                // two roots are cheaper than a power, and as accurate
                let half = b.sqrt(base);
                let quarter = b.sqrt(half);
                b.mul(half, quarter)
            }
            beta => {
                let beta = b.constant(ty, beta);
                b.pow(base, beta)
            }
        };
        b.div(x, divisor)
    }
}
