//! Convolutions of any kind: strided, dilated, grouped, depthwise, transposed, of any number of spatial axes.
//!
//! Channels last: a vector of output channels × a row of pixels is a tile, weights packed in panels. A depthwise
//! convolution has its vectors along the channels of both operands. Channels first: vectors lie along the last spatial
//! axis, and the tile's rows are output channels. What is read beyond x is zeros in memory: x was made with a halo, or is
//! copied; depthwise convolutions skip what lies outside instead.

use kiln_ir::attribute::{ConvLayout, Padding};
use kiln_ir::infer::{ConvAttributes, ConvWindow, conv_dims};
use kiln_ir::scalar::ScalarExpr;
use kiln_ir::{DType, NodeId, Op, Tensor, Value};

use super::context::{Lowering, Slot};
use super::contraction::{Contraction, Input, Right, Roles, accumulator, blockings, emit, tile_shape};
use super::error::LowerError;
use super::grouped::Narrow;
use super::halo::{Halo, surrounded};
use super::machine::ByteProducts;
use super::movement::padded;
use super::nest::{self, Axis};
use super::tile::Guard;
use super::winograd::{self, Choice, Convolution, Layer, alternatives, choose};
use crate::plan::program::View;
use crate::tuning::Algorithm;

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

/// How a convolution is computed.
enum Method {
    /// By Winograd's minimal filtering, with this filter.
    Winograd(Layer, Choice, Tensor),
    /// By its definition, in these phases along each spatial axis. Guarded: taps outside x are skipped.
    Direct { phases: Vec<Vec<Phase>>, guarded: bool },
}

/// How a convolution is computed, and what it reads beyond x on each side, by axis; never negative.
struct Scheme {
    method: Method,
    around: Vec<Padding>,
    /// The layer, if Winograd's algorithms would give the same.
    layer: Option<Layer>,
}

fn attributes(op: &Op) -> Option<ConvAttributes<'_>> {
    match op {
        Op::Conv { strides, padding, lhs_dilation, rhs_dilation, groups, layout }
        | Op::FusedConv { strides, padding, lhs_dilation, rhs_dilation, groups, layout, .. } => {
            Some(ConvAttributes { strides, padding, lhs_dilation, rhs_dilation, groups: *groups, layout: *layout })
        }
        _ => None,
    }
}

fn unit(numbers: &[usize]) -> bool {
    numbers.iter().all(|&n| n == 1)
}

/// Whether x is spread over so many phases that its zeros are put in instead.
fn spread_far(window: &ConvWindow) -> bool {
    let phases = window.lhs_dilation.iter().try_fold(1usize, |n, &s| n.checked_mul(s));
    phases.is_none_or(|phases| phases > MOST_PHASES)
}

/// What the convolution reads beyond its operand x, wherever that lies; `None` for other nodes, and where nothing is
/// read beyond x or its zeros are not all around it.
pub fn reads_beyond(l: &Lowering<'_>, id: NodeId) -> Option<Vec<Padding>> {
    let a = attributes(&l.graph.node(id).op)?;
    let x = l.dims(l.operand(id, 0));
    let window = a.window(x.len().checked_sub(2)?);
    let elements = x.iter().product();
    if elements == 0 || l.dims(l.graph.value(id)).contains(&0) || spread_far(&window) {
        return None;
    }
    l.check_window(id, elements, &window.padding, &[&window.strides, &window.lhs_dilation, &window.rhs_dilation])
        .ok()?;
    let around = scheme(l, id, a, &window, &x).around;
    around.iter().any(|p| *p != Padding::NONE).then_some(around)
}

/// Most channels of an operand that is read as it lies: further apart than that, they share no cache lines. Winograd's transforms, which
/// read vectors of channels, have more.
const FEW_CHANNELS: usize = 4;

/// Whether the node is a convolution that takes single elements of its first operand, of a few channels: then it is not worth while
/// to have these side by side.
pub fn reads_by_element(l: &Lowering<'_>, id: NodeId) -> bool {
    let Some(a) = attributes(&l.graph.node(id).op) else { return false };
    let [x, w, y] = [l.operand(id, 0), l.operand(id, 1), l.graph.value(id)];
    let (dims, others) = ((l.dims(x), l.dims(w)), &l.graph.node(id).operands[1..]);
    let (_, _, _, wc, _) = conv_dims(a.layout, dims.0.len());
    // bytes are multiplied by fours that lie side by side
    let bytes =
        [x, w].map(|v| l.graph.ty(v).dtype) == [DType::U8, DType::I8] && l.machine.bytes != ByteProducts::Single;
    a.layout == ConvLayout::ChannelsLast
        && !bytes
        && a.groups == 1
        && dims.1[wc] <= FEW_CHANNELS
        && !is_depthwise(&a, dims.1[wc], l.dims(y)[dims.0.len() - 1])
        && !others.contains(&x)
}

/// Whether `v` is a convolution that is a matrix product over all pixels, and `room` would part these into rows that its tiles do not fit.
pub fn needs_whole_images(l: &Lowering<'_>, v: Value, room: &[Padding]) -> bool {
    let Some(a) = attributes(&l.graph.node(v.node).op) else { return false };
    let (w, y) = (l.dims(l.operand(v.node, 1)), l.dims(v));
    let rank = y.len();
    let (channel, first, _, _, ws) = conv_dims(a.layout, rank);
    let window = a.window(rank - 2);
    let parted = room[first + rank - 3] != Padding::NONE;
    let product = unit(&w[ws..ws + rank - 2])
        && unit(&window.strides)
        && unit(&window.lhs_dilation)
        && window.padding.iter().all(|p| *p == Padding::NONE);
    let (pixels, channels) = (y[first + rank - 3] as i64, (y[channel] / a.groups.max(1)) as i64);
    let tile = |rows, columns| tile_shape(l.machine, accumulator(l.dtype(v)), rows, columns);
    let whole = match a.layout {
        ConvLayout::ChannelsLast => pixels % tile(pixels, channels).1,
        ConvLayout::ChannelsFirst => pixels % i64::from(tile(channels, pixels).0),
    };
    parted && product && whole != 0
}

/// Decides how to compute the convolution of an x of extents `x_dims`.
fn scheme(l: &Lowering<'_>, id: NodeId, a: ConvAttributes<'_>, window: &ConvWindow, x_dims: &[usize]) -> Scheme {
    let ConvWindow { strides, padding, lhs_dilation: spread, rhs_dilation: dilation } = window;
    let (w_dims, y_dims) = (l.dims(l.operand(id, 1)), l.dims(l.graph.value(id)));
    let rank = x_dims.len();
    let n = rank - 2;
    let (channel, first, wk, wc, ws) = conv_dims(a.layout, rank);
    let mut around = vec![Padding::NONE; rank];
    let mut winograd = None;
    let one_by_one = unit(strides) && unit(spread) && unit(dilation) && a.groups == 1;
    if n == 2 && a.layout == ConvLayout::ChannelsLast && one_by_one && w_dims[ws] == w_dims[ws + 1] {
        let layer = Layer {
            batch: x_dims[0],
            results: [y_dims[first], y_dims[first + 1]],
            taps: w_dims[ws],
            inputs: w_dims[wc],
            outputs: w_dims[wk],
        };
        let filter = l.literal(l.operand(id, 1)).filter(|w| w.dtype() == DType::F32 && !l.exact);
        if filter.is_some() {
            winograd = Some(layer);
        }
        if let Some((choice, filter)) = winograd_choice(l, id, layer).zip(filter) {
            for i in 0..2 {
                let needed = winograd::needed(layer.results[i], &choice) as i64;
                let Padding { low, .. } = padding[i];
                let high = needed - low - x_dims[first + i] as i64;
                around[first + i] = Padding { low: low.max(0), high: high.max(0) };
            }
            return Scheme { method: Method::Winograd(layer, choice, filter.clone()), around, layer: winograd };
        }
    }
    let phases: Vec<Vec<Phase>> = (0..n)
        .map(|i| phases(y_dims[first + i], w_dims[ws + i], strides[i], padding[i].low, spread[i], dilation[i]))
        .collect();
    for (i, phases) in phases.iter().enumerate() {
        let extent = x_dims[first + i] as i64;
        around[first + i] = Padding {
            low: phases.iter().map(|p| -p.x.0).max().unwrap_or(0).max(0),
            high: phases.iter().map(|p| p.last() + 1 - extent).max().unwrap_or(0).max(0),
        };
    }
    let depthwise = is_depthwise(&a, w_dims[wc], y_dims[channel]);
    let guarded = depthwise && around.iter().any(|p| *p != Padding::NONE);
    if guarded {
        around = vec![Padding::NONE; rank];
    }
    Scheme { method: Method::Direct { phases, guarded }, around, layer: winograd }
}

/// The Winograd algorithm of a layer that should be computed by one: what is known about it decides, or the estimate.
fn winograd_choice(l: &Lowering<'_>, id: NodeId, layer: Layer) -> Option<Choice> {
    let known = l.known(id).map(|choice| choice.algorithm());
    if known.is_some_and(|known| direct_ways(l, id, layer).contains(&known)) {
        return None;
    }
    let known = known.and_then(|known| alternatives(layer, l.machine).into_iter().find(|c| c.algorithm() == known));
    known.or_else(|| choose(layer, l.machine).and_then(|(choice, better)| better.then_some(choice)))
}

/// Whether each output channel comes from an input channel of its own, with channels last.
fn is_depthwise(a: &ConvAttributes<'_>, inputs: usize, outputs: usize) -> bool {
    inputs == 1 && outputs == a.groups && a.layout == ConvLayout::ChannelsLast
}

/// Lowers a convolution and its epilogue.
pub fn lower(l: &mut Lowering<'_>, id: NodeId, a: ConvAttributes<'_>, epilogue: &ScalarExpr) -> Result<(), LowerError> {
    let v = l.graph.value(id);
    let rank = l.dims(v).len();
    let n = rank - 2;
    if l.dims(v).contains(&0) {
        l.slot(v);
        return Ok(());
    }
    let mut window = a.window(n);
    let mut x = l.halo(l.operand(id, 0));
    let lists: [&[usize]; 3] = [&window.strides, &window.lhs_dilation, &window.rhs_dilation];
    l.check_window(id, x.tensor.len(), &window.padding, &lists)?;
    if spread_far(&window) {
        let (_, first, ..) = conv_dims(a.layout, rank);
        let mut around = vec![Padding::NONE; rank];
        let mut apart = vec![1; rank];
        around[first..first + n].copy_from_slice(&window.padding);
        apart[first..first + n].copy_from_slice(&window.lhs_dilation);
        x = Halo::none(padded(l, id, &x, &around, &apart, 0.0)?);
        window.padding = vec![Padding::NONE; n];
        window.lhs_dilation = vec![1; n];
    }
    let Scheme { method, around, layer } = scheme(l, id, a, &window, &x.dims());
    let alternatives = layer.map_or(Vec::new(), |layer| alternatives(layer, l.machine));
    let winograd: Vec<Algorithm> = alternatives.iter().map(Choice::algorithm).collect();
    let x = surrounded(l, id, x, &around)?;
    match method {
        Method::Winograd(layer, choice, filter) => {
            let (_, _, wk, wc, ws) = conv_dims(a.layout, rank);
            let w = nest::row_major(filter.dims());
            let filter_strides = [w[wc], w[wk], w[ws], w[ws + 1]].map(|s| s as usize);
            let strides = x.strides();
            // the corner of the first tile
            let start = x.start() - window.padding.iter().zip(&strides[1..]).map(|(p, s)| p.low * s).sum::<i64>();
            let extras: Vec<View> = l.graph.node(id).operands[2..].iter().map(|&e| l.view(e)).collect();
            let y = result(l, id);
            let filter = (filter, filter_strides);
            let mut ways = vec![choice.algorithm()];
            ways.extend(winograd.into_iter().filter(|way| *way != choice.algorithm()));
            ways.extend(direct_ways(l, id, layer));
            let decision = l.decide(id, l.layer(id).unwrap_or_default(), ways);
            winograd::lower(l, Convolution { id, choice, decision, layer, x, start, filter, y, extras, epilogue })
        }
        Method::Direct { phases, guarded } => direct(l, id, a, &x, (&phases, guarded), epilogue, winograd),
    }
}

/// The ways to compute a layer directly that Winograd's algorithm may compute.
fn direct_ways(l: &Lowering<'_>, id: NodeId, layer: Layer) -> Vec<Algorithm> {
    let bytes = [0, 1].map(|i| (l.dims(l.operand(id, i)).iter().product::<usize>() * DType::F32.size()) as i64);
    let shape = [layer.results[1] as i64, layer.outputs as i64];
    blockings(l.machine, DType::F32, shape, bytes, false, false).into_iter().map(Algorithm::Direct).collect()
}

fn result(l: &mut Lowering<'_>, id: NodeId) -> Slot {
    let v = l.graph.value(id);
    if l.has_slot(v) { l.slot(v) } else { Slot::whole(l.result_over_extras(id, v)) }
}

/// Lowers a convolution by its definition: a contraction per phase.
fn direct(
    l: &mut Lowering<'_>,
    id: NodeId,
    a: ConvAttributes<'_>,
    x: &Halo,
    (axes, guarded): (&[Vec<Phase>], bool),
    epilogue: &ScalarExpr,
    others: Vec<Algorithm>,
) -> Result<(), LowerError> {
    let operands: Vec<Value> = l.graph.node(id).operands.to_vec();
    let (x_dims, w_dims) = (x.dims(), l.dims(operands[1]));
    let n = axes.len();
    let (channel, first, wk, wc, ws) = conv_dims(a.layout, n + 2);
    let shape = Shape {
        groups: a.groups,
        inputs: w_dims[wc],
        outputs: w_dims[wk] / a.groups.max(1),
        batch: x_dims[0],
        channel,
        first,
    };
    let depthwise = is_depthwise(&a, shape.inputs, w_dims[wk]);
    let filter = l.literal(operands[1]).cloned();
    let extras: Vec<View> = operands[2..].iter().map(|&e| l.view(e)).collect();
    let slot = result(l, id);
    let moves = Moves {
        y: slot.strides.clone(),
        x: x.strides(),
        w: nest::row_major(&w_dims),
        extras: extras.iter().map(|e| nest::broadcast_strides(&e.dims)).collect(),
        guards: if guarded { n } else { 0 },
    };
    let phase_count: usize = axes.iter().map(Vec::len).product();
    for chosen in choices(axes) {
        let narrow = match (a.layout, &filter) {
            (ConvLayout::ChannelsLast, Some(_)) if !depthwise => {
                let taps = chosen.iter().map(|phase| phase.w.2).product();
                let lanes = l.machine.lanes(accumulator(l.dtype(operands[1])));
                Narrow::choose(shape.groups, shape.inputs, shape.outputs, taps, lanes)
            }
            _ => None,
        };
        let roles = match a.layout {
            ConvLayout::ChannelsLast if depthwise => depthwise_last(&shape, &moves, &chosen, wk, ws),
            ConvLayout::ChannelsLast => match &narrow {
                Some(narrow) => narrow_last(&shape, &moves, &chosen, narrow, (wk, wc, ws)),
                None => last(&shape, &moves, &chosen, (wk, wc, ws)),
            },
            ConvLayout::ChannelsFirst => first_roles(&shape, &moves, &chosen, (wk, wc, ws)),
        };
        let sum = |strides: &[i64], at: &dyn Fn(&Phase) -> i64| {
            chosen.iter().zip(strides).map(|(phase, stride)| at(phase) * stride).sum::<i64>()
        };
        let guards = (0..moves.guards).map(|i| Guard { extent: x_dims[first + i] as i64, start: chosen[i].x.0 });
        let start = x.start() + sum(&moves.x[first..], &|p| p.x.0);
        let pixels = Input { view: x.tensor.clone(), start, elements: x.len() };
        let filter_from = |start, view: View| Input { start, ..Input::whole(view) };
        let weights = sum(&moves.w[ws..], &|p| p.w.0);
        let (left, right) = match (a.layout, &filter) {
            (ConvLayout::ChannelsFirst, _) => (filter_from(weights, l.view(operands[1])), Right::Strided(pixels)),
            (_, Some(tensor)) if let Some(groups) = narrow => {
                let (filter, channels) = (tensor.clone(), [moves.w[wc], moves.w[wk]]);
                (pixels, Right::Narrow { filter, start: weights, channels, groups })
            }
            (_, Some(tensor)) if !depthwise => (pixels, Right::Constant { tensor: tensor.clone(), start: weights }),
            _ => (pixels, Right::Strided(filter_from(weights, l.view(operands[1])))),
        };
        let contraction = Contraction {
            name: "conv",
            result: Input {
                view: slot.view.clone(),
                start: slot.start + sum(&moves.y[first..], &|p| p.y.0),
                elements: slot.elements / phase_count.max(1),
            },
            left,
            right,
            extras: extras
                .iter()
                .zip(&moves.extras)
                .map(|(e, strides)| Input { start: sum(&strides[first..], &|p| p.y.0), ..Input::whole(e.clone()) })
                .collect(),
            guards: guards.collect(),
            epilogue,
            others: others.clone(),
        };
        emit(l, id, contraction, roles)?;
    }
    Ok(())
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

/// Vectors of the input channels of several groups.
fn narrow_last(s: &Shape, m: &Moves, phases: &[Phase], narrow: &Narrow, (wk, wc, ws): (usize, usize, usize)) -> Roles {
    let (together, held) = (narrow.groups() as usize, narrow.inputs as usize);
    let (x, outputs) = (m.x[s.channel], together * s.outputs);
    let vectors =
        m.kept(s.groups / together, s.channel, outputs, x * (together * s.inputs) as i64, m.w[wk] * outputs as i64);
    let Roles { rows, mut reduce, .. } = last(s, m, phases, (wk, wc, ws));
    reduce.pop();
    reduce.push(m.reduced(s.inputs / held, x * held as i64, m.w[wc] * held as i64));
    Roles { outer: Vec::new(), rows, columns: vec![vectors, m.kept(narrow.lanes as usize, s.channel, 1, x, 0)], reduce }
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
