//! How far a convolution's algorithm is from the definition, measured.

use std::sync::Arc;

use kiln_codegen::native::Target;
use kiln_codegen::tuning::Choices;
use kiln_ir::attribute::{ConvLayout, Padding};
use kiln_ir::builder::ConvOptions;
use kiln_ir::interp;
use kiln_ir::{BuildErrors, Builder, DType, Dim, Graph, NodeId, Op, Tensor};
use kiln_runtime::{Executor, PoolHandle, RunError};

use crate::compile::CompileError;
use crate::measure::MeasureError;
use crate::random_feeds::random_tensor;

/// Rows and columns of results of each sample: two tiles of the largest transform.
const SAMPLE: usize = 12;
/// Output channels of each sample.
const CHANNELS: usize = 32;

/// The largest difference of a convolution of `graph` from its definition in f64, relative to the largest result: its own filter, inputs
/// uniform in [-1, 1), compiled for `target`, which must run here, as `choices` say. Compared are samples at both corners and in the
/// middle, of the first channels. `None` for what Winograd's algorithm does not compute: other nodes than convolutions of 32-bit floats over
/// two axes, channels last, of stride 1, by a filter known at compile time.
pub fn layer_error(
    graph: &Graph,
    node: NodeId,
    target: &Target,
    choices: &Arc<Choices>,
) -> Result<Option<f64>, MeasureError> {
    let Some((op, filter)) = convolution(graph, node) else { return Ok(None) };
    let dims = |v| graph.ty(v).static_dims().unwrap_or_default();
    let n = graph.node(node);
    let x_dims = dims(n.operands[0]);
    let mut b = Builder::new("layer");
    let x = b.placeholder("x", DType::F32, &x_dims.iter().map(|&n| Dim::Fixed(n)).collect::<Vec<_>>());
    let w = b.constant(filter.clone());
    let y = b.add_op(op.clone(), &[x, w]);
    b.output("y", y);
    let layer = b.finish()?;
    let input = random_tensor(DType::F32, &x_dims, 1)?;
    let options = kiln_codegen::CompileOptions { choices: Arc::clone(choices), ..Default::default() };
    let module = kiln_codegen::compile(&layer, target, options).map_err(CompileError::from)?;
    let executable = module.executable().map_err(CompileError::from)?;
    let found = Executor::new(executable, PoolHandle::new(1))?.run_tensors(&[&input])?;
    let mut largest = 0f64;
    let mut error = 0f64;
    for part in 0..3 {
        let compared = sample(&op, &x_dims, &filter, &dims(graph.value(node)), part)?;
        let feeds = [("x", input.clone()), ("y", found[0].clone())];
        let samples = interp::run::<f64>(&compared, &feeds, None).map_err(RunError::from)?;
        let [mine, definition] = [0, 1].map(|i| samples[i].1.to_f64_vec());
        for (a, b) in mine.into_iter().zip(definition) {
            largest = largest.max(b.abs());
            // a NaN is an error, not a number that is smaller than others
            error = if (a - b).abs() <= error { error } else { (a - b).abs() };
        }
    }
    Ok(Some(if largest > 0.0 { error / largest } else { error }))
}

/// The plain convolution of a node, and its filter.
fn convolution(graph: &Graph, node: NodeId) -> Option<(Op, Tensor)> {
    let n = graph.node(node);
    let op = n.op.contraction()?;
    let Op::Conv { strides, lhs_dilation, rhs_dilation, groups: 1, layout: ConvLayout::ChannelsLast, .. } = &op else {
        return None;
    };
    let plain = [strides, lhs_dilation, rhs_dilation].into_iter().flatten().all(|&n| n == 1);
    let x = graph.ty(n.operands[0]);
    match &graph.node(n.operands[1].node).op {
        Op::Constant { value } if plain && x.dtype == DType::F32 && x.dims.len() == 4 => {
            Some((op, value.tensor().clone()))
        }
        _ => None,
    }
}

/// A graph of some results, as they are in the input `y`, and by the definition from the input `x`.
fn sample(op: &Op, x_dims: &[usize], filter: &Tensor, y_dims: &[usize], part: usize) -> Result<Graph, BuildErrors> {
    let fixed = |dims: &[usize]| dims.iter().map(|&n| Dim::Fixed(n)).collect::<Vec<_>>();
    let around = match op {
        Op::Conv { padding, .. } if !padding.is_empty() => padding.clone(),
        _ => vec![Padding::NONE; 2],
    };
    let channels = y_dims[3].min(CHANNELS);
    // first row and column of results, and how many
    let places = [1, 2].map(|axis| {
        let count = y_dims[axis].min(SAMPLE);
        ((y_dims[axis] - count) * part / 2, count)
    });
    let mut b = Builder::new("samples");
    let mut y = b.placeholder("y", DType::F32, &fixed(y_dims));
    for (axis, (first, count)) in (1..).zip(places) {
        y = b.slice_axis(y, axis, first, first + count);
    }
    y = b.slice_axis(y, 3, 0, channels);
    b.output("computed", y);
    let x = b.placeholder("x", DType::F32, &fixed(x_dims));
    // negative padding leaves out elements of x
    let added = |p: Padding| Padding { low: p.low.max(0), high: p.high.max(0) };
    let mut x = b.pad(x, &[Padding::NONE, added(around[0]), added(around[1]), Padding::NONE], 0.0);
    for ((axis, (first, count)), around) in (1..).zip(places).zip(around) {
        let first = first + usize::try_from(-around.low).unwrap_or(0);
        x = b.slice_axis(x, axis, first, first + count + filter.dims()[axis - 1] - 1);
    }
    let w = b.constant(filter.clone());
    let w = b.slice_axis(w, 3, 0, channels);
    let options = ConvOptions { layout: ConvLayout::ChannelsLast, ..ConvOptions::default() };
    let y = b.conv(x, w, &options);
    b.output("defined", y);
    b.finish()
}
