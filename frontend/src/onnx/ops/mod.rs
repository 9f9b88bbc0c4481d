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
use reduce::Kind;

/// What a handler gives: the node's results.
type Results = Result<Vec<Operand>>;

/// As [`Results`], of an operator that gives other values than tensors.
type Values = Result<Vec<Value>>;

/// The handler of an operator; the standard domain is the empty name. Operators whose meaning changed between opsets have one
/// handler that looks at the opset.
pub(super) fn handler(domain: &str, op_type: &str) -> Option<Handler> {
    let tensors = DOMAINS.iter().find(|(name, _)| *name == domain)?.1;
    if let Some(handler) = find(tensors, op_type) {
        return Some(Handler::Tensors(handler));
    }
    find(VALUES, op_type).filter(|_| domain.is_empty()).map(Handler::Values)
}

fn find<H: Copy>(table: &[(&str, H)], op_type: &str) -> Option<H> {
    table.iter().find(|(name, _)| *name == op_type).map(|(_, handler)| *handler)
}

/// The names of all operators, those of other domains than the standard one with their domain.
pub(super) fn names() -> Vec<String> {
    let qualified =
        |domain: &str, name: &str| if domain.is_empty() { name.to_owned() } else { format!("{domain}.{name}") };
    let tensors = DOMAINS.iter().flat_map(|(domain, table)| table.iter().map(|(name, _)| qualified(domain, name)));
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

/// Makes operands of a narrow type tensors where the operator takes such; says what it makes of them.
pub(super) fn unwrap_narrow(op_type: &str, n: &mut NodeContext<'_>) -> Result<OfNarrow> {
    type Fits = fn(NarrowType) -> bool;
    use OfNarrow::{Keeps, KeepsFirst, Others, Wraps};
    const FIRST: Option<&[usize]> = Some(&[0]);
    const ALL: Option<&[usize]> = None;
    let any = |_: NarrowType| true;
    let computes = NarrowType::computes;
    let (places, fits, makes): (Option<&[usize]>, Fits, OfNarrow) = match op_type {
        "CenterCropPad" | "Compress" | "DepthToSpace" | "Expand" | "Flatten" | "Gather" | "GatherElements"
        | "GatherND" | "Reshape" | "ReverseSequence" | "Slice" | "SpaceToDepth" | "Split" | "Squeeze" | "Tile"
        | "Transpose" | "Trilu" | "Unsqueeze" => (FIRST, any, Keeps),
        "Concat" => (ALL, any, Keeps),
        "OneHot" => (Some(&[2]), any, Keeps),
        "Pad" => (Some(&[0, 2]), any, Keeps),
        "Where" => (Some(&[1, 2]), any, Keeps),
        "Scatter" | "ScatterElements" | "ScatterND" => match n.attributes.string("reduction")? {
            None | Some("none") => (Some(&[0, 2]), any, Keeps),
            Some(_) => (Some(&[0, 2]), computes, Wraps),
        },
        "NonZero" | "Shape" | "Size" => (FIRST, any, Others),
        "Unique" => (FIRST, any, KeepsFirst),
        "IsInf" | "IsNaN" => (FIRST, NarrowType::is_float, Others),
        "TopK" => (FIRST, computes, KeepsFirst),
        "ArgMax" | "ArgMin" => (FIRST, computes, Others),
        "ReduceMax" | "ReduceMin" | "Sign" => (FIRST, computes, Keeps),
        "Abs" | "BitwiseNot" | "CumSum" | "Neg" | "ReduceProd" | "ReduceSum" | "ReduceSumSquare" => {
            (FIRST, computes, Wraps)
        }
        "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" | "Clip" | "Max" | "Min" | "Mod" | "Range" => (ALL, computes, Keeps),
        "Add" | "BitShift" | "Div" | "Mul" | "Sub" => (ALL, computes, Wraps),
        "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" => (ALL, computes, Others),
        // the exponent
        "Pow" => (Some(&[1]), computes, Others),
        _ => return Ok(Others),
    };
    n.unwrap_narrow(places, fits)?;
    Ok(makes)
}

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

/// The operators of tensors, by domain.
static DOMAINS: &[(&str, &[(&str, TensorHandler)])] =
    &[("", TABLE), ("ai.onnx.ml", LEARNING), ("ai.onnx.preview.training", TRAINING)];

static LEARNING: &[(&str, TensorHandler)] = &[
    ("ArrayFeatureExtractor", features::array_feature_extractor),
    ("Binarizer", features::binarizer),
    ("TreeEnsemble", features::tree_ensemble),
];

static TRAINING: &[(&str, TensorHandler)] =
    &[("Adagrad", training::adagrad), ("Adam", training::adam), ("Momentum", training::momentum)];

static TABLE: &[(&str, TensorHandler)] = &[
    // Elementwise, one operand.
    ("Abs", elementwise::absolute),
    ("Acos", |n| elementwise::unary(n, Op::Acos {})),
    ("Acosh", |n| elementwise::unary(n, Op::Acosh {})),
    ("Asin", |n| elementwise::unary(n, Op::Asin {})),
    ("Asinh", |n| elementwise::unary(n, Op::Asinh {})),
    ("Atan", |n| elementwise::unary(n, Op::Atan {})),
    ("Atanh", |n| elementwise::unary(n, Op::Atanh {})),
    ("Ceil", |n| elementwise::unary(n, Op::Ceil {})),
    ("Cosh", elementwise::cosh),
    ("Cos", |n| elementwise::unary(n, Op::Cos {})),
    ("Erf", |n| elementwise::unary(n, Op::Erf {})),
    ("Exp", |n| elementwise::unary(n, Op::Exp {})),
    ("Floor", |n| elementwise::unary(n, Op::Floor {})),
    ("IsInf", elementwise::is_inf),
    ("IsNaN", |n| elementwise::unary(n, Op::IsNan {})),
    ("Log", |n| elementwise::unary(n, Op::Log {})),
    ("Neg", |n| elementwise::unary(n, Op::Neg {})),
    ("Not", |n| elementwise::unary(n, Op::Not {})),
    ("BitwiseNot", |n| elementwise::unary(n, Op::Not {})),
    ("Reciprocal", |n| elementwise::unary(n, Op::Reciprocal {})),
    ("Round", |n| elementwise::unary(n, Op::Round {})),
    ("Sign", |n| elementwise::unary(n, Op::Sign {})),
    ("Sinh", elementwise::sinh),
    ("Sin", |n| elementwise::unary(n, Op::Sin {})),
    ("Sqrt", |n| elementwise::unary(n, Op::Sqrt {})),
    ("Tan", elementwise::tan),
    ("Tanh", |n| elementwise::unary(n, Op::Tanh {})),
    // Elementwise, several operands.
    ("Add", |n| elementwise::binary(n, Op::Add {})),
    ("And", |n| elementwise::binary(n, Op::And {})),
    ("BitwiseAnd", |n| elementwise::binary(n, Op::And {})),
    ("BitwiseOr", |n| elementwise::binary(n, Op::Or {})),
    ("BitwiseXor", |n| elementwise::binary(n, Op::Xor {})),
    ("BitShift", elementwise::bit_shift),
    ("Clip", elementwise::clip),
    ("Div", |n| elementwise::binary(n, Op::Div {})),
    ("Equal", |n| elementwise::binary(n, Op::Equal {})),
    ("Greater", |n| elementwise::binary(n, Op::Greater {})),
    ("GreaterOrEqual", |n| elementwise::binary(n, Op::GreaterEqual {})),
    ("Less", |n| elementwise::binary(n, Op::Less {})),
    ("LessOrEqual", |n| elementwise::binary(n, Op::LessEqual {})),
    ("Max", |n| elementwise::variadic(n, Op::Maximum {})),
    ("Mean", elementwise::mean),
    ("Min", |n| elementwise::variadic(n, Op::Minimum {})),
    ("Mod", elementwise::modulo),
    ("Mul", |n| elementwise::binary(n, Op::Mul {})),
    ("Or", |n| elementwise::binary(n, Op::Or {})),
    ("Pow", elementwise::pow),
    ("Sub", |n| elementwise::binary(n, Op::Sub {})),
    ("Sum", |n| elementwise::variadic(n, Op::Add {})),
    ("Where", elementwise::select),
    ("Xor", |n| elementwise::binary(n, Op::Xor {})),
    // Activations.
    ("Celu", activation::celu),
    ("Elu", activation::elu),
    ("Gelu", activation::gelu),
    ("HardSigmoid", activation::hard_sigmoid),
    ("HardSwish", |n| elementwise::unary(n, Op::HardSwish {})),
    ("Hardmax", activation::hardmax),
    ("LeakyRelu", activation::leaky_relu),
    ("LogSoftmax", |n| activation::softmax(n, |axis| Op::LogSoftmax { axis })),
    ("Mish", |n| elementwise::unary(n, Op::Mish {})),
    ("PRelu", activation::prelu),
    ("Relu", |n| elementwise::unary(n, Op::Relu {})),
    ("Selu", activation::selu),
    ("Shrink", activation::shrink),
    ("Sigmoid", |n| elementwise::unary(n, Op::Sigmoid {})),
    ("Softmax", |n| activation::softmax(n, |axis| Op::Softmax { axis })),
    ("Softplus", |n| elementwise::unary(n, Op::Softplus {})),
    ("Softsign", |n| elementwise::unary(n, Op::Softsign {})),
    ("Swish", activation::swish),
    ("ThresholdedRelu", activation::thresholded_relu),
    // Contractions.
    ("Conv", conv::conv),
    ("ConvInteger", conv::conv_integer),
    ("ConvTranspose", conv::conv_transpose),
    ("Einsum", einsum::einsum),
    ("Gemm", contraction::gemm),
    ("MatMul", contraction::matmul),
    ("MatMulInteger", contraction::matmul_integer),
    ("Det", linear_algebra::determinant),
    ("DeformConv", sampling::deformable_conv),
    // Recurrent layers.
    ("GRU", recurrent::gru),
    ("LSTM", recurrent::lstm),
    ("RNN", recurrent::rnn),
    // Pools.
    ("AveragePool", pool::average_pool),
    ("GlobalAveragePool", pool::global_average_pool),
    ("GlobalMaxPool", pool::global_max_pool),
    ("GlobalLpPool", pool::global_lp_pool),
    ("LpPool", pool::lp_pool),
    ("MaxPool", pool::max_pool),
    ("Col2Im", unpool::col2im),
    ("MaxUnpool", unpool::max_unpool),
    // Normalisations.
    ("BatchNormalization", normalization::batch_norm),
    ("GroupNormalization", normalization::group_norm),
    ("InstanceNormalization", normalization::instance_norm),
    ("LRN", normalization::lrn),
    ("LayerNormalization", normalization::layer_norm),
    ("LpNormalization", normalization::lp_norm),
    ("MeanVarianceNormalization", normalization::mean_variance),
    ("RMSNormalization", normalization::rms_norm),
    // Reductions.
    ("ArgMax", |n| reduce::arg_reduce(n, Extreme::Max)),
    ("ArgMin", |n| reduce::arg_reduce(n, Extreme::Min)),
    ("CumSum", reduce::cumulative_sum),
    ("ReduceL1", |n| reduce::reduce(n, Kind::L1)),
    ("ReduceL2", |n| reduce::reduce(n, Kind::L2)),
    ("ReduceLogSum", |n| reduce::reduce(n, Kind::LogSum)),
    ("ReduceLogSumExp", |n| reduce::reduce(n, Kind::LogSumExp)),
    ("ReduceMax", |n| reduce::reduce(n, Kind::Plain(Reducer::Max))),
    ("ReduceMean", |n| reduce::reduce(n, Kind::Mean)),
    ("ReduceMin", |n| reduce::reduce(n, Kind::Plain(Reducer::Min))),
    ("ReduceProd", |n| reduce::reduce(n, Kind::Plain(Reducer::Prod))),
    ("ReduceSum", |n| reduce::reduce(n, Kind::Plain(Reducer::Sum))),
    ("ReduceSumSquare", |n| reduce::reduce(n, Kind::SumSquare)),
    ("TopK", reduce::top_k),
    // Movement.
    ("CenterCropPad", pad::center_crop_pad),
    ("Concat", movement::concat),
    ("DepthToSpace", movement::depth_to_space),
    ("Expand", movement::expand),
    ("Flatten", movement::flatten),
    ("Pad", pad::pad),
    ("Reshape", movement::reshape),
    ("Resize", resize::resize),
    ("Slice", movement::slice),
    ("SpaceToDepth", movement::space_to_depth),
    ("Split", movement::split),
    ("Squeeze", movement::squeeze),
    ("Tile", movement::tile),
    ("Transpose", movement::transpose),
    ("Trilu", movement::triangle),
    ("Unsqueeze", movement::unsqueeze),
    ("Upsample", resize::upsample),
    // Indices.
    ("Gather", index::gather),
    ("GatherElements", index::gather_elements),
    ("GatherND", index::gather_nd),
    ("OneHot", index::one_hot),
    ("ReverseSequence", index::reverse_sequence),
    ("Scatter", index::scatter_elements),
    ("ScatterElements", index::scatter_elements),
    ("ScatterND", index::scatter_nd),
    // Between pixels.
    ("AffineGrid", sampling::affine_grid),
    ("GridSample", sampling::grid_samples),
    ("RoiAlign", sampling::roi_aligned),
    // What values select.
    ("Compress", selection::compress),
    ("NonMaxSuppression", selection::non_max_suppression),
    ("NonZero", selection::non_zero),
    ("Unique", selection::unique),
    // Constants, shapes and dtypes.
    ("Dropout", shape::dropout),
    ("EyeLike", shape::eye_like),
    ("Range", shape::range),
    ("Shape", shape::shape),
    ("Size", shape::size),
    // Quantisation.
    ("DynamicQuantizeLinear", quantization::dynamic_quantize),
    ("QLinearConv", quantization::quantized_conv),
    ("QLinearMatMul", quantization::quantized_matmul),
    // Signals.
    ("BlackmanWindow", |n| signal::window(n, &[0.42, -0.5, 0.08])),
    ("DFT", signal::dft),
    ("HammingWindow", |n| signal::window(n, &[25.0 / 46.0, -21.0 / 46.0])),
    ("HannWindow", |n| signal::window(n, &[0.5, -0.5])),
    ("MelWeightMatrix", signal::mel_weights),
    ("STFT", signal::stft),
    ("TfIdfVectorizer", features::tfidf),
    // Losses.
    ("NegativeLogLikelihoodLoss", loss::negative_log_likelihood),
    ("SoftmaxCrossEntropyLoss", loss::softmax_cross_entropy),
];
