//! The operators: a table from name to handler, one file per theme.

mod activation;
mod contraction;
mod conv;
mod einsum;
mod elementwise;
mod features;
mod index;
mod linear_algebra;
mod loss;
mod movement;
mod normalization;
mod pad;
mod pool;
mod quantization;
mod recurrent;
mod reduce;
mod resize;
mod sampling;
mod selection;
mod sequence;
mod shape;
mod signal;
mod training;
mod unpool;
mod window;

use kiln_ir::Op;
use kiln_ir::attribute::{Extreme, Reducer};

use super::emit::Operand;
use super::error::Result;
use super::narrow::NarrowType;
use super::node::{Handler, NodeContext, TensorHandler, ValueHandler};
use super::value::Value;
use OfNarrow::{Keeps, KeepsFirst, Others, Wraps};
use reduce::Kind;

/// What a handler gives: the node's results.
type Results = Result<Vec<Operand>>;

/// As [`Results`], of an operator that gives other values than tensors.
type Values = Result<Vec<Value>>;

/// The handler of an operator; the standard domain is the empty name. Operators whose meaning changed between opsets have one
/// handler that looks at the opset.
pub(super) fn handler(domain: &str, op_type: &str) -> Option<Handler> {
    let tensors = DOMAINS.iter().find(|(name, _)| *name == domain)?.1;
    if let Some(&(_, handler, takes)) = tensors.iter().find(|(name, ..)| *name == op_type) {
        return Some(Handler::Tensors(handler, takes));
    }
    let mut values = VALUES.iter().filter(|(name, _)| domain.is_empty() && *name == op_type);
    values.next().map(|&(_, handler)| Handler::Values(handler))
}

/// The names of all operators, those of other domains than the standard one with their domain.
pub(super) fn names() -> Vec<String> {
    let qualified =
        |domain: &str, name: &str| if domain.is_empty() { name.to_owned() } else { format!("{domain}.{name}") };
    let tensors = DOMAINS.iter().flat_map(|(domain, table)| table.iter().map(|(name, ..)| qualified(domain, name)));
    tensors.chain(VALUES.iter().map(|(name, _)| (*name).to_owned())).collect()
}

/// What an operator on tensors makes of narrow ones.
#[derive(Clone, Copy)]
pub(super) enum OfNarrow {
    /// Values of the same type.
    Keeps,
    /// As `Keeps` for the first result; the others are places or counts.
    KeepsFirst,
    /// Integers that lose their higher bits, as in the narrow type.
    Wraps,
    /// Truth values, places, or values of another operand's type.
    Others,
}

/// Which narrow types.
type Fits = fn(NarrowType) -> bool;

/// What an operator on tensors takes of narrow types.
#[derive(Clone, Copy)]
pub(super) enum Takes {
    /// Nothing: it refuses them by name.
    Nothing,
    /// Operands of a type that fits, at these places or all of them.
    These(Option<&'static [usize]>, Fits, OfNarrow),
    /// Data and updates, which it moves unless `reduction` computes with them.
    Updates,
}

const NONE: Takes = Takes::Nothing;
const SCATTERS: Takes = Takes::Updates;
const ANY: Fits = |_| true;
const COMPUTES: Fits = NarrowType::computes;
const FLOATS: Fits = NarrowType::is_float;

const fn first(fits: Fits, makes: OfNarrow) -> Takes {
    at(&[0], fits, makes)
}

const fn at(places: &'static [usize], fits: Fits, makes: OfNarrow) -> Takes {
    Takes::These(Some(places), fits, makes)
}

const fn all(fits: Fits, makes: OfNarrow) -> Takes {
    Takes::These(None, fits, makes)
}

/// Makes operands of a narrow type tensors where the operator takes such; says what it makes of them.
pub(super) fn unwrap_narrow(takes: Takes, n: &mut NodeContext<'_>) -> Result<OfNarrow> {
    let (places, fits, makes) = match takes {
        Takes::Nothing => return Ok(Others),
        Takes::These(places, fits, makes) => (places, fits, makes),
        Takes::Updates => match n.attributes.string("reduction")? {
            None | Some("none") => (UPDATES, ANY, Keeps),
            Some(_) => (UPDATES, COMPUTES, Wraps),
        },
    };
    n.unwrap_narrow(places, fits)?;
    Ok(makes)
}

/// The places of data and updates.
const UPDATES: Option<&[usize]> = Some(&[0, 2]);

/// Operators of the standard domain that take or give values other than tensors of Kiln's dtypes.
static VALUES: &[(&str, ValueHandler)] = &[
    ("Cast", shape::cast),
    ("CastLike", shape::cast_like),
    ("ConcatFromSequence", sequence::concat),
    ("Constant", shape::constant),
    ("ConstantOfShape", shape::constant_of_shape),
    ("DequantizeLinear", quantization::dequantize),
    ("Identity", sequence::identity),
    ("Optional", sequence::optional),
    ("OptionalGetElement", sequence::get_element),
    ("OptionalHasElement", sequence::has_element),
    ("QuantizeLinear", quantization::quantize),
    ("SequenceAt", sequence::at),
    ("SequenceConstruct", sequence::construct),
    ("SequenceEmpty", sequence::empty),
    ("SequenceErase", sequence::erase),
    ("SequenceInsert", sequence::insert),
    ("SequenceLength", sequence::length),
    ("SplitToSequence", sequence::split),
];

/// An operator of tensors: its name, what imports it, and what it takes of narrow types.
type Row = (&'static str, TensorHandler, Takes);

/// The operators of tensors, by domain.
static DOMAINS: &[(&str, &[Row])] = &[("", TABLE), ("ai.onnx.ml", LEARNING), ("ai.onnx.preview.training", TRAINING)];

static LEARNING: &[Row] = &[
    ("ArrayFeatureExtractor", features::array_feature_extractor, NONE),
    ("Binarizer", features::binarizer, NONE),
    ("TreeEnsemble", features::tree_ensemble, NONE),
];

static TRAINING: &[Row] =
    &[("Adagrad", training::adagrad, NONE), ("Adam", training::adam, NONE), ("Momentum", training::momentum, NONE)];

static TABLE: &[Row] = &[
    // Elementwise, one operand.
    ("Abs", elementwise::absolute, first(COMPUTES, Wraps)),
    ("Acos", |n| elementwise::unary(n, Op::Acos {}), NONE),
    ("Acosh", |n| elementwise::unary(n, Op::Acosh {}), NONE),
    ("Asin", |n| elementwise::unary(n, Op::Asin {}), NONE),
    ("Asinh", |n| elementwise::unary(n, Op::Asinh {}), NONE),
    ("Atan", |n| elementwise::unary(n, Op::Atan {}), NONE),
    ("Atanh", |n| elementwise::unary(n, Op::Atanh {}), NONE),
    ("Ceil", |n| elementwise::unary(n, Op::Ceil {}), NONE),
    ("Cosh", elementwise::cosh, NONE),
    ("Cos", |n| elementwise::unary(n, Op::Cos {}), NONE),
    ("Erf", |n| elementwise::unary(n, Op::Erf {}), NONE),
    ("Exp", |n| elementwise::unary(n, Op::Exp {}), NONE),
    ("Floor", |n| elementwise::unary(n, Op::Floor {}), NONE),
    ("IsInf", elementwise::is_inf, first(FLOATS, Others)),
    ("IsNaN", |n| elementwise::unary(n, Op::IsNan {}), first(FLOATS, Others)),
    ("Log", |n| elementwise::unary(n, Op::Log {}), NONE),
    ("Neg", |n| elementwise::unary(n, Op::Neg {}), first(COMPUTES, Wraps)),
    ("Not", |n| elementwise::unary(n, Op::Not {}), NONE),
    ("BitwiseNot", |n| elementwise::unary(n, Op::Not {}), first(COMPUTES, Wraps)),
    ("Reciprocal", |n| elementwise::unary(n, Op::Reciprocal {}), NONE),
    ("Round", |n| elementwise::unary(n, Op::Round {}), NONE),
    ("Sign", |n| elementwise::unary(n, Op::Sign {}), first(COMPUTES, Keeps)),
    ("Sinh", elementwise::sinh, NONE),
    ("Sin", |n| elementwise::unary(n, Op::Sin {}), NONE),
    ("Sqrt", |n| elementwise::unary(n, Op::Sqrt {}), NONE),
    ("Tan", elementwise::tan, NONE),
    ("Tanh", |n| elementwise::unary(n, Op::Tanh {}), NONE),
    // Elementwise, several operands.
    ("Add", |n| elementwise::binary(n, Op::Add {}), all(COMPUTES, Wraps)),
    ("And", |n| elementwise::binary(n, Op::And {}), NONE),
    ("BitwiseAnd", |n| elementwise::binary(n, Op::And {}), all(COMPUTES, Keeps)),
    ("BitwiseOr", |n| elementwise::binary(n, Op::Or {}), all(COMPUTES, Keeps)),
    ("BitwiseXor", |n| elementwise::binary(n, Op::Xor {}), all(COMPUTES, Keeps)),
    ("BitShift", elementwise::bit_shift, all(COMPUTES, Wraps)),
    ("Clip", elementwise::clip, all(COMPUTES, Keeps)),
    ("Div", |n| elementwise::binary(n, Op::Div {}), all(COMPUTES, Wraps)),
    ("Equal", |n| elementwise::binary(n, Op::Equal {}), all(COMPUTES, Others)),
    ("Greater", |n| elementwise::binary(n, Op::Greater {}), all(COMPUTES, Others)),
    ("GreaterOrEqual", |n| elementwise::binary(n, Op::GreaterEqual {}), all(COMPUTES, Others)),
    ("Less", |n| elementwise::binary(n, Op::Less {}), all(COMPUTES, Others)),
    ("LessOrEqual", |n| elementwise::binary(n, Op::LessEqual {}), all(COMPUTES, Others)),
    ("Max", |n| elementwise::variadic(n, Op::Maximum {}), all(COMPUTES, Keeps)),
    ("Mean", elementwise::mean, NONE),
    ("Min", |n| elementwise::variadic(n, Op::Minimum {}), all(COMPUTES, Keeps)),
    ("Mod", elementwise::modulo, all(COMPUTES, Keeps)),
    ("Mul", |n| elementwise::binary(n, Op::Mul {}), all(COMPUTES, Wraps)),
    ("Or", |n| elementwise::binary(n, Op::Or {}), NONE),
    ("Pow", elementwise::pow, at(&[1], COMPUTES, Others)),
    ("Sub", |n| elementwise::binary(n, Op::Sub {}), all(COMPUTES, Wraps)),
    ("Sum", |n| elementwise::variadic(n, Op::Add {}), NONE),
    ("Where", elementwise::select, at(&[1, 2], ANY, Keeps)),
    ("Xor", |n| elementwise::binary(n, Op::Xor {}), NONE),
    // Activations.
    ("Celu", activation::celu, NONE),
    ("Elu", activation::elu, NONE),
    ("Gelu", activation::gelu, NONE),
    ("HardSigmoid", activation::hard_sigmoid, NONE),
    ("HardSwish", |n| elementwise::unary(n, Op::HardSwish {}), NONE),
    ("Hardmax", activation::hardmax, NONE),
    ("LeakyRelu", activation::leaky_relu, NONE),
    ("LogSoftmax", |n| activation::softmax(n, |axis| Op::LogSoftmax { axis }), NONE),
    ("Mish", |n| elementwise::unary(n, Op::Mish {}), NONE),
    ("PRelu", activation::prelu, NONE),
    ("Relu", |n| elementwise::unary(n, Op::Relu {}), NONE),
    ("Selu", activation::selu, NONE),
    ("Shrink", activation::shrink, NONE),
    ("Sigmoid", |n| elementwise::unary(n, Op::Sigmoid {}), NONE),
    ("Softmax", |n| activation::softmax(n, |axis| Op::Softmax { axis }), NONE),
    ("Softplus", |n| elementwise::unary(n, Op::Softplus {}), NONE),
    ("Softsign", |n| elementwise::unary(n, Op::Softsign {}), NONE),
    ("Swish", activation::swish, NONE),
    ("ThresholdedRelu", activation::thresholded_relu, NONE),
    // Contractions.
    ("Conv", conv::conv, NONE),
    ("ConvInteger", conv::conv_integer, NONE),
    ("ConvTranspose", conv::conv_transpose, NONE),
    ("Einsum", einsum::einsum, all(COMPUTES, Wraps)),
    ("Gemm", contraction::gemm, NONE),
    ("MatMul", contraction::matmul, all(COMPUTES, Wraps)),
    ("MatMulInteger", contraction::matmul_integer, NONE),
    ("Det", linear_algebra::determinant, NONE),
    ("DeformConv", sampling::deformable_conv, NONE),
    // Recurrent layers.
    ("GRU", recurrent::gru, NONE),
    ("LSTM", recurrent::lstm, NONE),
    ("RNN", recurrent::rnn, NONE),
    // Pools.
    ("AveragePool", pool::average_pool, NONE),
    ("GlobalAveragePool", pool::global_average_pool, NONE),
    ("GlobalMaxPool", pool::global_max_pool, NONE),
    ("GlobalLpPool", pool::global_lp_pool, NONE),
    ("LpPool", pool::lp_pool, NONE),
    ("MaxPool", pool::max_pool, NONE),
    ("Col2Im", unpool::col2im, NONE),
    ("MaxUnpool", unpool::max_unpool, NONE),
    // Normalisations.
    ("BatchNormalization", normalization::batch_norm, NONE),
    ("GroupNormalization", normalization::group_norm, NONE),
    ("InstanceNormalization", normalization::instance_norm, NONE),
    ("LRN", normalization::lrn, NONE),
    ("LayerNormalization", normalization::layer_norm, NONE),
    ("LpNormalization", normalization::lp_norm, NONE),
    ("MeanVarianceNormalization", normalization::mean_variance, NONE),
    ("RMSNormalization", normalization::rms_norm, NONE),
    // Reductions.
    ("ArgMax", |n| reduce::arg_reduce(n, Extreme::Max), first(COMPUTES, Others)),
    ("ArgMin", |n| reduce::arg_reduce(n, Extreme::Min), first(COMPUTES, Others)),
    ("CumSum", reduce::cumulative_sum, first(COMPUTES, Wraps)),
    ("ReduceL1", |n| reduce::reduce(n, Kind::L1), first(COMPUTES, Wraps)),
    ("ReduceL2", |n| reduce::reduce(n, Kind::L2), NONE),
    ("ReduceLogSum", |n| reduce::reduce(n, Kind::LogSum), NONE),
    ("ReduceLogSumExp", |n| reduce::reduce(n, Kind::LogSumExp), NONE),
    ("ReduceMax", |n| reduce::reduce(n, Kind::Plain(Reducer::Max)), first(COMPUTES, Keeps)),
    ("ReduceMean", |n| reduce::reduce(n, Kind::Mean), first(COMPUTES, Keeps)),
    ("ReduceMin", |n| reduce::reduce(n, Kind::Plain(Reducer::Min)), first(COMPUTES, Keeps)),
    ("ReduceProd", |n| reduce::reduce(n, Kind::Plain(Reducer::Prod)), first(COMPUTES, Wraps)),
    ("ReduceSum", |n| reduce::reduce(n, Kind::Plain(Reducer::Sum)), first(COMPUTES, Wraps)),
    ("ReduceSumSquare", |n| reduce::reduce(n, Kind::SumSquare), first(COMPUTES, Wraps)),
    ("TopK", reduce::top_k, first(COMPUTES, KeepsFirst)),
    // Movement.
    ("CenterCropPad", pad::center_crop_pad, first(ANY, Keeps)),
    ("Concat", movement::concat, all(ANY, Keeps)),
    ("DepthToSpace", movement::depth_to_space, first(ANY, Keeps)),
    ("Expand", movement::expand, first(ANY, Keeps)),
    ("Flatten", movement::flatten, first(ANY, Keeps)),
    ("Pad", pad::pad, at(&[0, 2], ANY, Keeps)),
    ("Reshape", movement::reshape, first(ANY, Keeps)),
    ("Resize", resize::resize, NONE),
    ("Slice", movement::slice, first(ANY, Keeps)),
    ("SpaceToDepth", movement::space_to_depth, first(ANY, Keeps)),
    ("Split", movement::split, first(ANY, Keeps)),
    ("Squeeze", movement::squeeze, first(ANY, Keeps)),
    ("Tile", movement::tile, first(ANY, Keeps)),
    ("Transpose", movement::transpose, first(ANY, Keeps)),
    ("Trilu", movement::triangle, first(ANY, Keeps)),
    ("Unsqueeze", movement::unsqueeze, first(ANY, Keeps)),
    ("Upsample", resize::upsample, NONE),
    // Indices.
    ("Gather", index::gather, first(ANY, Keeps)),
    ("GatherElements", index::gather_elements, first(ANY, Keeps)),
    ("GatherND", index::gather_nd, first(ANY, Keeps)),
    ("OneHot", index::one_hot, at(&[2], ANY, Keeps)),
    ("ReverseSequence", index::reverse_sequence, first(ANY, Keeps)),
    ("Scatter", index::scatter_elements, SCATTERS),
    ("ScatterElements", index::scatter_elements, SCATTERS),
    ("ScatterND", index::scatter_nd, SCATTERS),
    // Between pixels.
    ("AffineGrid", sampling::affine_grid, NONE),
    ("GridSample", sampling::grid_samples, NONE),
    ("RoiAlign", sampling::roi_aligned, NONE),
    // What values select.
    ("Compress", selection::compress, first(ANY, Keeps)),
    ("NonMaxSuppression", selection::non_max_suppression, NONE),
    ("NonZero", selection::non_zero, first(ANY, Others)),
    ("Unique", selection::unique, first(ANY, KeepsFirst)),
    // Constants, shapes and dtypes.
    ("Dropout", shape::dropout, NONE),
    ("EyeLike", shape::eye_like, NONE),
    ("Range", shape::range, all(COMPUTES, Keeps)),
    ("Shape", shape::shape, first(ANY, Others)),
    ("Size", shape::size, first(ANY, Others)),
    // Quantisation.
    ("DynamicQuantizeLinear", quantization::dynamic_quantize, NONE),
    ("QLinearConv", quantization::quantized_conv, NONE),
    ("QLinearMatMul", quantization::quantized_matmul, NONE),
    // Signals.
    ("BlackmanWindow", |n| signal::window(n, &[0.42, -0.5, 0.08]), NONE),
    ("DFT", signal::dft, NONE),
    ("HammingWindow", |n| signal::window(n, &[25.0 / 46.0, -21.0 / 46.0]), NONE),
    ("HannWindow", |n| signal::window(n, &[0.5, -0.5]), NONE),
    ("MelWeightMatrix", signal::mel_weights, NONE),
    ("STFT", signal::stft, NONE),
    ("TfIdfVectorizer", features::tfidf, NONE),
    // Losses.
    ("NegativeLogLikelihoodLoss", loss::negative_log_likelihood, NONE),
    ("SoftmaxCrossEntropyLoss", loss::softmax_cross_entropy, NONE),
];
