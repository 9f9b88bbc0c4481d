//! Convolutions of any kind: strided, dilated, grouped, depthwise, transposed, of any number of spatial axes.
//!
//! Channels last: a vector of output channels × a row of pixels is a tile, weights packed in panels. A depthwise
//! convolution has its vectors along the channels of both operands. Channels first: vectors lie along the last spatial
//! axis, and the tile's rows are output channels. Where x is padded and the tile needs no edges, a padded copy is made;
//! depthwise convolutions skip what lies outside instead.

use kiln_ir::attribute::{ConvLayout, Padding};
use kiln_ir::infer::{ConvAttributes, ConvWindow, conv_dims};
use kiln_ir::scalar::ScalarExpr;
use kiln_ir::{DType, NodeId, Tensor, Value};

use super::context::{Lowering, Slot};
use super::contraction::{Contraction, Input, Right, Roles, emit};
use super::error::LowerError;
use super::movement::padded;
use super::nest::{self, Axis};
use super::tile::Guard;
use super::winograd::{self, Choice, Convolution, Layer, choose};
use crate::plan::program::View;

/// A convolution with its numbers at hand.
struct Shape {
    groups: usize,
    /// Input channels of a group.
    inputs: usize,
    /// Output channels of a group.
    outputs: usize,
    batch: usize,
    /// Position of the channels and of the first spatial axis in x and the result.
    channel: usize,
    first: usize,
}

/// Some of the results along one spatial axis: those whose taps meet x in the same places. Where x is not spread there
/// is one phase with all results; spread by s, results take turns, and each phase is a convolution without zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Phase {
    /// First result, distance between results, number of them.
    y: (i64, i64, usize),
    /// First tap, distance between taps, number of them.
    w: (i64, i64, usize),
    /// Where the first tap of the first result meets x, and how far it moves per result and per tap.
    x: (i64, i64, i64),
}

impl Phase {
    /// The last place of x that is met.
    fn last(&self) -> i64 {
        let ((_, _, results), (_, _, taps), (first, step, tap)) = (self.y, self.w, self.x);
        first + step * (results as i64 - 1) + tap * (taps as i64 - 1).max(0)
    }
}

/// The phases along an axis with `results` results and `taps` taps.
fn phases(results: usize, taps: usize, stride: usize, low: i64, spread: usize, dilation: usize) -> Vec<Phase> {
    let (stride, spread, dilation) = (stride as i64, spread as i64, dilation as i64);
    // result o meets x at (o · stride + k · dilation − low) / spread, where that is whole
    let turns = spread / gcd(spread, stride);
    let period = spread / gcd(spread, dilation);
    let phase = |turn: i64| {
        let meets = |k: &i64| (turn * stride + k * dilation - low).rem_euclid(spread) == 0;
        let first = (0..period.min(taps as i64)).find(meets);
        let k = first.unwrap_or(0);
        let count = first.map_or(0, |k| (taps as i64 - k + period - 1) / period);
        Phase {
            y: (turn, turns, ((results as i64 - turn + turns - 1) / turns) as usize),
            w: (k, period, count as usize),
            x: (
                if first.is_some() { (turn * stride + k * dilation - low) / spread } else { 0 },
                turns * stride / spread,
                period * dilation / spread,
            ),
        }
    };
    (0..turns.min(results as i64)).map(phase).collect()
}

/// A step per phase pays for a few; convolutions spread further get their zeros put in.
const MOST_PHASES: usize = 64;

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Every choice of one item per list.
fn choices<T: Copy>(lists: &[Vec<T>]) -> Vec<Vec<T>> {
    lists.iter().fold(vec![Vec::new()], |all, list| {
        all.iter().flat_map(|chosen| list.iter().map(|&item| [&chosen[..], &[item]].concat())).collect()
    })
}

/// Lowers a convolution and its epilogue.
pub fn lower(l: &mut Lowering<'_>, id: NodeId, a: ConvAttributes<'_>, epilogue: &ScalarExpr) -> Result<(), LowerError> {
    let v = l.graph.value(id);
    let operands: Vec<Value> = l.graph.node(id).operands.to_vec();
    let (x_dims, w_dims, y_dims) = (l.dims(operands[0]), l.dims(operands[1]), l.dims(v));
    let rank = x_dims.len();
    let n = rank - 2;
    let (channel, first, wk, wc, ws) = conv_dims(a.layout, rank);
    let shape = Shape {
        groups: a.groups,
        inputs: w_dims[wc],
        outputs: w_dims[wk] / a.groups.max(1),
        batch: x_dims[0],
        channel,
        first,
    };
    if y_dims.contains(&0) {
        l.slot(v);
        return Ok(());
    }
    let ConvWindow { strides, mut padding, lhs_dilation: mut spread, rhs_dilation: dilation } = a.window(n);
    let mut x = l.view(operands[0]);
    l.check_window(id, x.len(), &padding, &[&strides, &spread, &dilation])?;
    if spread.iter().try_fold(1usize, |n, &s| n.checked_mul(s)).is_none_or(|phases| phases > MOST_PHASES) {
        let mut around = vec![Padding::NONE; rank];
        let mut apart = vec![1; rank];
        around[first..first + n].copy_from_slice(&padding);
        apart[first..first + n].copy_from_slice(&spread);
        x = padded(l, id, &x, &around, &apart, 0.0)?;
        padding = vec![Padding::NONE; n];
        spread = vec![1; n];
    }
    let unit = |numbers: &[usize]| numbers.iter().all(|&n| n == 1);
    if n == 2
        && a.layout == ConvLayout::ChannelsLast
        && a.groups == 1
        && unit(&strides)
        && unit(&spread)
        && unit(&dilation)
    {
        let layer = Layer {
            batch: shape.batch,
            results: [y_dims[first], y_dims[first + 1]],
            taps: w_dims[ws],
            inputs: shape.inputs,
            outputs: shape.outputs,
        };
        let suits = w_dims[ws] == w_dims[ws + 1] && x.dtype == DType::F32 && !l.exact;
        let choice = if suits { choose(layer, l.machine) } else { None };
        if let (Some(choice), Some(filter)) = (choice, l.literal(operands[1]).cloned()) {
            let w = nest::row_major(&w_dims);
            let strides = [w[wc], w[wk], w[ws], w[ws + 1]].map(|s| s as usize);
            return by_winograd(l, id, layer, choice, x, &padding, (filter, strides), epilogue);
        }
    }
    let x_dims = x.dims.clone();
    let mut axes: Vec<Vec<Phase>> = (0..n)
        .map(|i| phases(y_dims[first + i], w_dims[ws + i], strides[i], padding[i].low, spread[i], dilation[i]))
        .collect();
    let extras: Vec<View> = operands[2..].iter().map(|&e| l.view(e)).collect();
    let depthwise = shape.inputs == 1 && shape.outputs == 1 && a.layout == ConvLayout::ChannelsLast;
    let around: Vec<Padding> = axes
        .iter()
        .zip(&x_dims[first..])
        .map(|(phases, &extent)| Padding {
            low: phases.iter().map(|p| -p.x.0).max().unwrap_or(0).max(0),
            high: phases.iter().map(|p| p.last() + 1 - extent as i64).max().unwrap_or(0).max(0),
        })
        .collect();
    let pads = around.iter().any(|p| *p != Padding::NONE);
    if pads && !depthwise {
        let mut padding = vec![Padding::NONE; rank];
        padding[first..first + n].copy_from_slice(&around);
        x = padded(l, id, &x, &padding, &vec![1; rank], 0.0)?;
        for (phases, p) in axes.iter_mut().zip(&around) {
            phases.iter_mut().for_each(|phase| phase.x.0 += p.low);
        }
    }
    let slot = if l.has_slot(v) { l.slot(v) } else { Slot::whole(l.result_over_extras(id, v)) };
    let guarded = pads && depthwise;
    let moves = Moves {
        y: slot.strides.clone(),
        x: nest::row_major(&x.dims),
        w: nest::row_major(&w_dims),
        extras: extras.iter().map(|e| nest::broadcast_strides(&e.dims)).collect(),
        guards: if guarded { n } else { 0 },
    };
    for chosen in choices(&axes) {
        let roles = match a.layout {
            ConvLayout::ChannelsLast if depthwise => depthwise_last(&shape, &moves, &chosen, wk, ws),
            ConvLayout::ChannelsLast => last(&shape, &moves, &chosen, (wk, wc, ws)),
            ConvLayout::ChannelsFirst => first_roles(&shape, &moves, &chosen, (wk, wc, ws)),
        };
        let sum = |strides: &[i64], at: &dyn Fn(&Phase) -> i64| {
            chosen.iter().zip(strides).map(|(phase, stride)| at(phase) * stride).sum::<i64>()
        };
        let guards = (0..moves.guards).map(|i| Guard { extent: x.dims[first + i] as i64, start: chosen[i].x.0 });
        let pixels = Input { view: x.clone(), start: sum(&moves.x[first..], &|p| p.x.0) };
        let weights = sum(&moves.w[ws..], &|p| p.w.0);
        let (left, right) = match (a.layout, l.literal(operands[1])) {
            (ConvLayout::ChannelsFirst, _) => {
                (Input { view: l.view(operands[1]), start: weights }, Right::Strided(pixels))
            }
            (_, Some(tensor)) if !depthwise => (pixels, Right::Constant { tensor: tensor.clone(), start: weights }),
            _ => (pixels, Right::Strided(Input { view: l.view(operands[1]), start: weights })),
        };
        let contraction = Contraction {
            name: "conv",
            result: Input { view: slot.view.clone(), start: slot.start + sum(&moves.y[first..], &|p| p.y.0) },
            partial: slot.partial || axes.iter().any(|phases| phases.len() > 1),
            left,
            right,
            extras: extras
                .iter()
                .zip(&moves.extras)
                .map(|(e, strides)| Input { view: e.clone(), start: sum(&strides[first..], &|p| p.y.0) })
                .collect(),
            guards: guards.collect(),
            epilogue,
        };
        emit(l, id, contraction, roles)?;
    }
    Ok(())
}

/// Lowers a convolution by Winograd's minimal filtering, of x padded so that every tile can be read whole.
#[allow(clippy::too_many_arguments)] // what `lower` has worked out
fn by_winograd(
    l: &mut Lowering<'_>,
    id: NodeId,
    layer: Layer,
    choice: Choice,
    x: View,
    padding: &[Padding],
    filter: (Tensor, [usize; 4]),
    epilogue: &ScalarExpr,
) -> Result<(), LowerError> {
    let v = l.graph.value(id);
    let extras: Vec<View> = l.graph.node(id).operands[2..].iter().map(|&e| l.view(e)).collect();
    let mut around = vec![Padding::NONE; 4];
    for i in 0..2 {
        let needed = winograd::needed(layer.results[i], &choice) as i64;
        around[1 + i] = Padding { low: padding[i].low, high: needed - padding[i].low - x.dims[1 + i] as i64 };
    }
    let x = if around.iter().any(|p| *p != Padding::NONE) { padded(l, id, &x, &around, &[1; 4], 0.0)? } else { x };
    let y = if l.has_slot(v) { l.slot(v) } else { Slot::whole(l.result_over_extras(id, v)) };
    winograd::lower(l, Convolution { id, choice, layer, x, filter, y, extras, epilogue })
}

/// Strides of all operands, by axis.
struct Moves {
    y: Vec<i64>,
    x: Vec<i64>,
    w: Vec<i64>,
    extras: Vec<Vec<i64>>,
    guards: usize,
}

impl Moves {
    /// A loop in which the result moves `step` elements of `axis` per iteration, and x and w by so much.
    fn kept(&self, extent: usize, axis: usize, step: usize, x: i64, w: i64) -> Axis {
        let mut strides = vec![self.y[axis] * step as i64, x, w];
        strides.extend(self.extras.iter().map(|e| e[axis] * step as i64));
        strides.resize(strides.len() + self.guards, 0);
        Axis::new(extent, strides)
    }

    fn reduced(&self, extent: usize, x: i64, w: i64) -> Axis {
        let mut strides = vec![0, x, w];
        strides.resize(3 + self.extras.len() + self.guards, 0);
        Axis::new(extent, strides)
    }

    /// Makes the coordinate of spatial axis `i` move with a loop, where it is guarded.
    fn guarded(&self, mut axis: Axis, i: usize, by: i64) -> Axis {
        if self.guards > 0 {
            axis.strides[3 + self.extras.len() + i] = by;
        }
        axis
    }

    /// The loop over the results of a phase along spatial axis `i`.
    fn pixels(&self, s: &Shape, phase: &Phase, i: usize) -> Axis {
        let axis = s.first + i;
        let (_, step, count) = phase.y;
        self.guarded(self.kept(count, axis, step as usize, self.x[axis] * phase.x.1, 0), i, phase.x.1)
    }

    /// The loop over the taps of a phase along spatial axis `i`.
    fn taps(&self, s: &Shape, phase: &Phase, i: usize, ws: usize) -> Axis {
        let (_, step, count) = phase.w;
        self.guarded(self.reduced(count, self.x[s.first + i] * phase.x.2, self.w[ws + i] * step), i, phase.x.2)
    }
}

fn last(s: &Shape, m: &Moves, phases: &[Phase], (wk, wc, ws): (usize, usize, usize)) -> Roles {
    let group = m.kept(s.groups, s.channel, s.outputs, m.x[s.channel] * s.inputs as i64, m.w[wk] * s.outputs as i64);
    let mut rows = vec![m.kept(s.batch, 0, 1, m.x[0], 0)];
    rows.extend(phases.iter().enumerate().map(|(i, p)| m.pixels(s, p, i)));
    let mut reduce: Vec<Axis> = phases.iter().enumerate().map(|(i, p)| m.taps(s, p, i, ws)).collect();
    reduce.push(m.reduced(s.inputs, m.x[s.channel], m.w[wc]));
    Roles { outer: vec![group], rows, columns: vec![m.kept(s.outputs, s.channel, 1, 0, m.w[wk])], reduce }
}

fn depthwise_last(s: &Shape, m: &Moves, phases: &[Phase], wk: usize, ws: usize) -> Roles {
    let mut rows = vec![m.kept(s.batch, 0, 1, m.x[0], 0)];
    rows.extend(phases.iter().enumerate().map(|(i, p)| m.pixels(s, p, i)));
    Roles {
        outer: Vec::new(),
        rows,
        columns: vec![m.kept(s.groups, s.channel, 1, m.x[s.channel], m.w[wk])],
        reduce: phases.iter().enumerate().map(|(i, p)| m.taps(s, p, i, ws)).collect(),
    }
}

/// Channels first: w is the left operand (its elements are repeated over a vector of pixels), x the right one.
fn first_roles(s: &Shape, m: &Moves, phases: &[Phase], (wk, wc, ws): (usize, usize, usize)) -> Roles {
    let mut outer = vec![
        m.kept(s.batch, 0, 1, m.x[0], 0),
        m.kept(s.groups, s.channel, s.outputs, m.x[s.channel] * s.inputs as i64, m.w[wk] * s.outputs as i64),
    ];
    let mut rows = vec![m.kept(s.outputs, s.channel, 1, 0, m.w[wk])];
    let mut columns: Vec<Axis> = phases.iter().enumerate().map(|(i, p)| m.pixels(s, p, i)).collect();
    if s.outputs == 1 {
        // one output channel a group: rows of pixels make the tile
        let mut pixels = nest::collapse(&columns);
        columns = pixels.pop().into_iter().collect();
        outer.extend(std::mem::replace(&mut rows, pixels));
    }
    let mut reduce = vec![m.reduced(s.inputs, m.x[s.channel], m.w[wc])];
    reduce.extend(phases.iter().enumerate().map(|(i, p)| m.taps(s, p, i, ws)));
    for axis in outer.iter_mut().chain(&mut rows).chain(&mut columns).chain(&mut reduce) {
        axis.strides.swap(1, 2);
    }
    Roles { outer, rows, columns, reduce }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_spread_there_is_one_phase() {
        let one = phases(5, 3, 2, 1, 1, 1);
        assert_eq!(one, [Phase { y: (0, 1, 5), w: (0, 1, 3), x: (-1, 2, 1) }]);
    }

    #[test]
    fn phases_meet_x_where_the_spread_convolution_does() {
        for (results, taps, stride, low, spread, dilation) in
            [(9, 3, 1, 1, 2, 1), (7, 4, 1, 2, 2, 1), (8, 2, 1, 0, 2, 1), (10, 3, 2, 2, 3, 2), (5, 3, 2, -1, 2, 3)]
        {
            let mut met = Vec::new();
            for phase in phases(results, taps, stride, low, spread, dilation) {
                for o in 0..phase.y.2 as i64 {
                    for k in 0..phase.w.2 as i64 {
                        let place = phase.x.0 + o * phase.x.1 + k * phase.x.2;
                        met.push((phase.y.0 + o * phase.y.1, phase.w.0 + k * phase.w.1, place));
                    }
                }
            }
            met.sort_unstable();
            let mut expected = Vec::new();
            for o in 0..results as i64 {
                for k in 0..taps as i64 {
                    let at = o * stride as i64 + k * dilation as i64 - low;
                    if at.rem_euclid(spread as i64) == 0 {
                        expected.push((o, k, at.div_euclid(spread as i64)));
                    }
                }
            }
            assert_eq!(met, expected);
        }
    }
}
