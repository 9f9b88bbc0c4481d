//! Convolutions of any kind: strided, dilated, grouped, depthwise, transposed, of any number of spatial axes.
//!
//! Channels last: a vector of output channels × a row of pixels is a tile, weights packed in panels. A depthwise
//! convolution has its vectors along the channels of both operands. Channels first: vectors lie along the last spatial
//! axis, and the tile's rows are output channels. Where x is padded and the tile needs no edges, a padded copy is made;
//! depthwise convolutions skip what lies outside instead.

use kiln_ir::attribute::{ConvLayout, Padding};
use kiln_ir::infer::{conv_dims, filled, padding_or_none};
use kiln_ir::scalar::ScalarExpr;
use kiln_ir::{NodeId, Value};

use super::context::Lowering;
use super::contraction::{Contraction, Input, Right, Roles, emit};
use super::error::LowerError;
use super::movement::padded;
use super::nest::{self, Axis};
use super::tile::Guard;
use crate::plan::program::View;

/// The attributes of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct ConvAttributes<'a> {
    /// Steps of the window.
    pub strides: &'a [usize],
    /// Zeros around x.
    pub padding: &'a [Padding],
    /// Spread of x.
    pub lhs_dilation: &'a [usize],
    /// Spread of the window.
    pub rhs_dilation: &'a [usize],
    /// Groups.
    pub groups: usize,
    /// Where the channels are.
    pub layout: ConvLayout,
}

/// A convolution with its numbers at hand.
struct Shape {
    groups: usize,
    /// Input channels of a group.
    inputs: usize,
    /// Output channels of a group.
    outputs: usize,
    strides: Vec<usize>,
    padding: Vec<Padding>,
    dilation: Vec<usize>,
    /// Window extents.
    window: Vec<usize>,
    /// Spatial extents of the result.
    spatial: Vec<usize>,
    batch: usize,
    /// Position of the channels and of the first spatial axis in x and the result.
    channel: usize,
    first: usize,
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
        strides: filled(a.strides, n, 1),
        padding: padding_or_none(a.padding, n),
        dilation: filled(a.rhs_dilation, n, 1),
        window: w_dims[ws..ws + n].to_vec(),
        spatial: y_dims[first..first + n].to_vec(),
        batch: x_dims[0],
        channel,
        first,
    };
    let spread = filled(a.lhs_dilation, n, 1);
    let mut x = l.view(operands[0]);
    let extras: Vec<View> = operands[2..].iter().map(|&e| l.view(e)).collect();
    let depthwise = shape.inputs == 1 && shape.outputs == 1 && a.layout == ConvLayout::ChannelsLast;
    let pads = shape.padding.iter().any(|p| *p != Padding::NONE);
    let guarded = depthwise && spread.iter().all(|&s| s == 1);
    if l.dims(v).contains(&0) {
        l.result(v);
        return Ok(());
    }
    let mut low: Vec<i64> = vec![0; n];
    if guarded {
        low = shape.padding.iter().map(|p| p.low).collect();
    } else if pads || spread.iter().any(|&s| s != 1) {
        let mut padding = vec![Padding::NONE; rank];
        let mut dilation = vec![1; rank];
        padding[first..first + n].copy_from_slice(&shape.padding);
        dilation[first..first + n].copy_from_slice(&spread);
        x = padded(l, id, &x, &padding, &dilation, 0.0)?;
    }
    let result = l.result(v);
    let mut guards = Vec::new();
    if guarded && pads {
        for (i, &low) in low.iter().enumerate() {
            guards.push(Guard { extent: x.dims[first + i] as i64, start: -low });
        }
    }
    let xs = nest::row_major(&x.dims);
    let start = -low.iter().zip(&xs[first..]).map(|(l, s)| l * s).sum::<i64>();
    let moves = Moves {
        y: nest::row_major(&y_dims),
        x: xs,
        w: nest::row_major(&w_dims),
        extras: extras.iter().map(|e| nest::broadcast_strides(&e.dims)).collect(),
        guards: guards.len(),
    };
    let roles = match a.layout {
        ConvLayout::ChannelsLast if depthwise => depthwise_last(&shape, &moves, wk, ws),
        ConvLayout::ChannelsLast => last(&shape, &moves, (wk, wc, ws)),
        ConvLayout::ChannelsFirst => first_roles(&shape, &moves, (wk, wc, ws)),
    };
    let x = Input { view: x, start };
    let contraction = |left: Input, right: Right| Contraction {
        name: "conv",
        result: &result,
        left,
        right,
        extras: &extras,
        guards: guards.clone(),
        epilogue,
    };
    if a.layout == ConvLayout::ChannelsFirst {
        let w = Input { view: l.view(operands[1]), start: 0 };
        return emit(l, id, contraction(w, Right::Strided(x)), roles);
    }
    let right = match l.literal(operands[1]) {
        Some(tensor) if !depthwise => Right::Constant(tensor.clone()),
        _ => Right::Strided(Input { view: l.view(operands[1]), start: 0 }),
    };
    emit(l, id, contraction(x, right), roles)
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
    fn guarded(&self, mut axis: Axis, i: usize, by: usize) -> Axis {
        if self.guards > 0 {
            axis.strides[3 + self.extras.len() + i] = by as i64;
        }
        axis
    }

    /// The loop over spatial axis `i` of the result.
    fn pixels(&self, s: &Shape, i: usize) -> Axis {
        let axis = s.first + i;
        self.guarded(self.kept(s.spatial[i], axis, 1, self.x[axis] * s.strides[i] as i64, 0), i, s.strides[i])
    }

    /// The loop over the window along spatial axis `i`.
    fn taps(&self, s: &Shape, i: usize, ws: usize) -> Axis {
        let axis = self.reduced(s.window[i], self.x[s.first + i] * s.dilation[i] as i64, self.w[ws + i]);
        self.guarded(axis, i, s.dilation[i])
    }
}

fn last(s: &Shape, m: &Moves, (wk, wc, ws): (usize, usize, usize)) -> Roles {
    let n = s.spatial.len();
    let group = m.kept(s.groups, s.channel, s.outputs, m.x[s.channel] * s.inputs as i64, m.w[wk] * s.outputs as i64);
    let mut rows = vec![m.kept(s.batch, 0, 1, m.x[0], 0)];
    rows.extend((0..n).map(|i| m.pixels(s, i)));
    let mut reduce: Vec<Axis> = (0..n).map(|i| m.taps(s, i, ws)).collect();
    reduce.push(m.reduced(s.inputs, m.x[s.channel], m.w[wc]));
    Roles { outer: vec![group], rows, columns: vec![m.kept(s.outputs, s.channel, 1, 0, m.w[wk])], reduce }
}

fn depthwise_last(s: &Shape, m: &Moves, wk: usize, ws: usize) -> Roles {
    let n = s.spatial.len();
    let mut rows = vec![m.kept(s.batch, 0, 1, m.x[0], 0)];
    rows.extend((0..n).map(|i| m.pixels(s, i)));
    Roles {
        outer: Vec::new(),
        rows,
        columns: vec![m.kept(s.groups, s.channel, 1, m.x[s.channel], m.w[wk])],
        reduce: (0..n).map(|i| m.taps(s, i, ws)).collect(),
    }
}

/// Channels first: w is the left operand (its elements are repeated over a vector of pixels), x the right one.
fn first_roles(s: &Shape, m: &Moves, (wk, wc, ws): (usize, usize, usize)) -> Roles {
    let n = s.spatial.len();
    let mut outer = vec![
        m.kept(s.batch, 0, 1, m.x[0], 0),
        m.kept(s.groups, s.channel, s.outputs, m.x[s.channel] * s.inputs as i64, m.w[wk] * s.outputs as i64),
    ];
    let mut rows = vec![m.kept(s.outputs, s.channel, 1, 0, m.w[wk])];
    let mut columns: Vec<Axis> = (0..n).map(|i| m.pixels(s, i)).collect();
    if s.outputs == 1 {
        // one output channel a group: rows of pixels make the tile
        let mut pixels = nest::collapse(&columns);
        columns = pixels.pop().into_iter().collect();
        outer.extend(std::mem::replace(&mut rows, pixels));
    }
    let mut reduce = vec![m.reduced(s.inputs, m.x[s.channel], m.w[wc])];
    reduce.extend((0..n).map(|i| m.taps(s, i, ws)));
    for axis in outer.iter_mut().chain(&mut rows).chain(&mut columns).chain(&mut reduce) {
        axis.strides.swap(1, 2);
    }
    Roles { outer, rows, columns, reduce }
}
