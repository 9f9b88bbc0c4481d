//! The op table: everything that is said about an op once, in its row.
//!
//! From the rows follow the `Op` enum, mnemonics, attribute printing and parsing, equality and hash, and
//! `docs/ops.md`. What needs code rather than data (shape inference, bodies of composites, evaluation, cost) is
//! an exhaustive match elsewhere, so that the compiler walks whoever adds a row to each of them.

mod define;
mod elementwise;
mod literal;
mod row;

pub use literal::Literal;
pub use row::{AttributeError, AttributeRow, Level, Row};

use std::collections::BTreeMap;

use crate::attribute::{Attribute, AttributeType, Cell, ConvLayout, Extreme, Padding, Real, Reducer, ScatterMode};
use crate::dtype::DType;
use crate::scalar::{ScalarBuilder, ScalarExpr, ScalarNode};
use crate::text::said_by_type;
use crate::types::Dim;
use define::define_ops;
use row::{AttributeReader, first};

define_ops! {
    // ---- L0: sources ----
    /// A value fed at run time.
    L0 Placeholder = "placeholder" () {
        /// Name by which it is fed.
        name: String,
        /// Element type.
        dtype: DType,
        /// Extents; may be symbols.
        dims: Vec<Dim>,
    };
    /// A tensor known at compile time.
    L0 Constant = "constant" () {
        /// The tensor.
        value: Literal,
    };
    /// 0, 1, 2 … along `axis`, the same along every other axis.
    L0 Iota = "iota" () {
        /// Element type: a number.
        dtype: DType,
        /// Extents.
        dims: Vec<Dim>,
        /// The axis that counts.
        axis: usize,
    } ["C1": "axis < rank", "C2": "dtype is not bool"];
    /// Counter-based random bits: element i is a word of Threefry-2x32 with 20 rounds (Salmon et al. 2011), key
    /// (seed's low half, seed's high half), block (low half of counter + i div 2, high half), word i mod 2.
    L0 RandomBits = "random_bits" (counter) {
        /// Extents.
        dims: Vec<Dim>,
        /// The key: 64 bits.
        seed: i64,
    } ["C1": "counter is i64[]"];

    // ---- L0: elementwise ----
    /// Negation.
    L0 Neg = "neg" (x) {} scalar "-x";
    /// Absolute value.
    L0 Abs = "abs" (x) {} scalar "abs(x)";
    /// −1, 0 or 1 by sign; NaN stays NaN.
    L0 Sign = "sign" (x) {} scalar "sign(x)";
    /// Greatest integer not above x.
    L0 Floor = "floor" (x) {} scalar "floor(x)";
    /// Least integer not below x.
    L0 Ceil = "ceil" (x) {} scalar "ceil(x)";
    /// Nearest integer, ties to even.
    L0 Round = "round" (x) {} scalar "round(x)";
    /// Square root.
    L0 Sqrt = "sqrt" (x) {} scalar "sqrt(x)";
    /// Reciprocal square root.
    L0 Rsqrt = "rsqrt" (x) {} scalar "rsqrt(x)";
    /// Reciprocal.
    L0 Reciprocal = "reciprocal" (x) {} scalar "reciprocal(x)";
    /// Exponential.
    L0 Exp = "exp" (x) {} scalar "exp(x)";
    /// Natural logarithm.
    L0 Log = "log" (x) {} scalar "log(x)";
    /// ln(1 + x), accurate near 0.
    L0 Log1p = "log1p" (x) {} scalar "log1p(x)";
    /// Sine of radians.
    L0 Sin = "sin" (x) {} scalar "sin(x)";
    /// Cosine of radians.
    L0 Cos = "cos" (x) {} scalar "cos(x)";
    /// Inverse tangent in radians, −π/2 to π/2.
    L0 Atan = "atan" (x) {} scalar "atan(x)";
    /// Hyperbolic tangent.
    L0 Tanh = "tanh" (x) {} scalar "tanh(x)";
    /// Error function.
    L0 Erf = "erf" (x) {} scalar "erf(x)";
    /// Logical not; bitwise not of integers.
    L0 Not = "not" (x) {} scalar "!x";
    /// Whether an element is NaN.
    L0 IsNan = "is_nan" (x) {} scalar "isnan(x)";
    /// Conversion between dtypes: float to integer truncates towards zero and saturates, NaN gives 0; to bool is ≠ 0.
    L0 Convert = "convert" (x) {
        /// Element type of the result.
        dtype: DType,
    };
    /// Sum. Integers wrap.
    L0 Add = "add" (x, y) {} scalar "x + y";
    /// Difference. Integers wrap.
    L0 Sub = "sub" (x, y) {} scalar "x - y";
    /// Product. Integers wrap.
    L0 Mul = "mul" (x, y) {} scalar "x * y";
    /// Quotient; of integers towards zero, and x/0 = 0.
    L0 Div = "div" (x, y) {} scalar "x / y";
    /// Remainder with the sign of x; of integers, x rem 0 = 0.
    L0 Rem = "rem" (x, y) {} scalar "rem(x, y)";
    /// Power; of integers wrapping, and to a negative power truncated towards zero as a quotient (0 to one is 0).
    L0 Pow = "pow" (x, y) {} scalar "pow(x, y)";
    /// Larger of two; NaN wins.
    L0 Maximum = "maximum" (x, y) {} scalar "max(x, y)";
    /// Smaller of two; NaN wins.
    L0 Minimum = "minimum" (x, y) {} scalar "min(x, y)";
    /// Equality.
    L0 Equal = "equal" (x, y) {} scalar "x == y";
    /// Inequality.
    L0 NotEqual = "not_equal" (x, y) {} scalar "x != y";
    /// x < y.
    L0 Less = "less" (x, y) {} scalar "x < y";
    /// x ≤ y.
    L0 LessEqual = "less_equal" (x, y) {} scalar "x <= y";
    /// x > y.
    L0 Greater = "greater" (x, y) {} scalar "x > y";
    /// x ≥ y.
    L0 GreaterEqual = "greater_equal" (x, y) {} scalar "x >= y";
    /// Logical and; bitwise of integers.
    L0 And = "and" (x, y) {} scalar "x & y";
    /// Logical or; bitwise of integers.
    L0 Or = "or" (x, y) {} scalar "x | y";
    /// Exclusive or; bitwise of integers.
    L0 Xor = "xor" (x, y) {} scalar "x ^ y";
    /// `then` where the condition holds, else `otherwise`.
    L0 Select = "select" (condition, then, otherwise) {} scalar "select(condition, then, otherwise)";

    // ---- L0: movement ----
    /// The same elements in the same row-major order under other extents.
    L0 Reshape = "reshape" (x) {
        /// Extents of the result.
        dims: Vec<Dim>,
    } ["C1": "the extents of x and of the result have the same product, symbol by symbol"];
    /// Axis i of the result is axis `perm[i]` of x.
    L0 Transpose = "transpose" (x) {
        /// A permutation of x's axes.
        perm: Vec<usize>,
    } ["C1": "perm is a permutation of 0..rank"];
    /// Repeats x along new or extent-1 axes: axis i of x becomes axis `axes[i]` of the result.
    L0 Broadcast = "broadcast" (x) {
        /// Extents of the result.
        dims: Vec<Dim>,
        /// Where each axis of x goes, strictly increasing.
        axes: Vec<usize>,
    } [
        "C1": "axes has one entry per axis of x, strictly increasing, each < rank of the result",
        "C2": "each extent of x is 1 or the result's extent at its place",
    ];
    /// Elements start, start + stride, … below limit, along each axis.
    L0 Slice = "slice" (x) {
        /// First index, per axis.
        start: Vec<usize>,
        /// One past the last index, per axis.
        limit: Vec<usize>,
        /// Step, per axis; empty means 1.
        stride: Vec<usize> = Vec::new(),
    } [
        "C1": "start, limit and stride have one entry per axis (stride may be empty)",
        "C2": "0 ≤ start ≤ limit ≤ extent, and stride ≥ 1",
        "C3": "an axis of symbolic extent cannot be sliced",
    ];
    /// Surrounds x with `value`; `interior` puts that many between neighbours.
    L0 Pad = "pad" (x) {
        /// Elements added at each end, per axis.
        padding: Vec<Padding>,
        /// Elements added between neighbours, per axis; empty means none.
        interior: Vec<usize> = Vec::new(),
        /// What is added.
        value: Real = Real(0.0),
    } [
        "C1": "padding has one entry per axis (so has interior, unless it is empty)",
        "C2": "padding is not negative",
        "C3": "an axis of symbolic extent cannot be padded",
    ];
    /// Joins along `axis`.
    L0 Concat = "concat" (; parts) {
        /// The axis.
        axis: usize,
    } [
        "C1": "at least one operand",
        "C2": "operands have one dtype and one rank, and axis < rank",
        "C3": "extents agree on every other axis",
        "C4": "extents along the axis are fixed where there are several operands",
    ];
    /// Turns each of `axes` around.
    L0 Reverse = "reverse" (x) {
        /// The axes.
        axes: Vec<usize>,
    } ["C1": "axes are distinct and < rank"];
    /// Slices of x along `axis` picked by `indices`: result dims are x's with the axis replaced by the dims of
    /// `indices`. Indices beyond the ends are clamped to them.
    L0 Gather = "gather" (x, indices) {
        /// The axis that is indexed.
        axis: usize,
    } ["C1": "axis < rank of x", "C2": "indices are i64 or i32", "C3": "the axis of x has a fixed extent ≥ 1"];
    /// Combines `updates` into x at `indices` along `axis`; the dims of `updates` are those `gather` would give.
    /// Indices beyond the ends are skipped. Updates combine in row-major order.
    L0 Scatter = "scatter" (x, indices, updates) {
        /// The axis that is indexed.
        axis: usize,
        /// How an update meets what is there.
        mode: ScatterMode = ScatterMode::Replace,
    } [
        "C1": "axis < rank of x",
        "C2": "indices are i64 or i32",
        "C3": "updates have x's dtype and the dims of the corresponding gather",
        "C4": "x is not bool, unless mode is replace",
    ];

    // ---- L0: reductions ----
    /// Combines all elements along `axes`, which vanish.
    L0 Reduce = "reduce" (x) {
        /// The axes.
        axes: Vec<usize>,
        /// How.
        reducer: Reducer,
    } ["C1": "axes are strictly increasing and < rank", "C2": "and/or take bool, the others numbers"];
    /// Index of the extreme element along `axis`, which vanishes; the first of equals; NaN is an extreme. i64.
    L0 ArgReduce = "arg_reduce" (x) {
        /// The axis.
        axis: usize,
        /// Which extreme.
        extreme: Extreme = Extreme::Max,
    } ["C1": "axis < rank, with a fixed extent ≥ 1", "C2": "x is not bool"];
    /// The k most extreme elements along `axis` in order, and their i64 indices; equal elements keep their order.
    /// With k = extent this is a stable sort. NaN counts as the largest.
    L0 TopK = "top_k" (x) {
        /// How many.
        k: usize,
        /// The axis.
        axis: usize,
        /// Which extreme comes first.
        extreme: Extreme = Extreme::Max,
    } ["C1": "axis < rank, with a fixed extent", "C2": "k ≤ extent", "C3": "x is not bool"];
    /// Reduces each window of a sliding window. Padding counts as the reducer's identity.
    L0 ReduceWindow = "reduce_window" (x) {
        /// Window extents, per axis.
        window: Vec<usize>,
        /// Window steps, per axis; empty means 1.
        strides: Vec<usize> = Vec::new(),
        /// Padding, per axis; empty means none.
        padding: Vec<Padding> = Vec::new(),
        /// Distance between the elements of a window, per axis; empty means 1.
        dilation: Vec<usize> = Vec::new(),
        /// How.
        reducer: Reducer,
    } [
        "C1": "window has one entry per axis (so have strides, padding and dilation, unless empty)",
        "C2": "window, strides and dilation ≥ 1, padding ≥ 0",
        "C3": "the dilated window fits the padded extent",
        "C4": "an axis of symbolic extent has window 1, stride 1 and no padding",
        "C5": "x is a number",
        "C6": "the reducer is one of numbers: not and, or",
    ];
    /// The gradient of a maximum over windows: adds each element of `source` at the place of its window's first
    /// maximum (or minimum) in x.
    L0 SelectAndScatter = "select_and_scatter" (x, source) {
        /// Window extents, per axis.
        window: Vec<usize>,
        /// Window steps, per axis; empty means 1.
        strides: Vec<usize> = Vec::new(),
        /// Padding, per axis; empty means none.
        padding: Vec<Padding> = Vec::new(),
        /// Which extreme.
        extreme: Extreme = Extreme::Max,
    } [
        "C1": "window has one entry per axis (so have strides and padding, unless empty)",
        "C2": "window and strides ≥ 1, padding ≥ 0",
        "C3": "the window fits the padded extent",
        "C4": "an axis of symbolic extent has window 1, stride 1 and no padding",
        "C5": "x is a number",
        "C6": "source has x's dtype and the dims of the corresponding reduce_window",
    ];

    // ---- L0: contractions ----
    /// Sums products over the contracted axes. Result dims: batch, then lhs's free axes, then rhs's, each in order. Products of
    /// a u8 and an i8 are i32, and so is the result.
    L0 Dot = "dot_general" (lhs, rhs) {
        /// Batch axes of lhs.
        lhs_batch: Vec<usize> = Vec::new(),
        /// Batch axes of rhs, pairwise.
        rhs_batch: Vec<usize> = Vec::new(),
        /// Contracted axes of lhs.
        lhs_contract: Vec<usize>,
        /// Contracted axes of rhs, pairwise.
        rhs_contract: Vec<usize>,
    } [
        "C1": "lhs and rhs have one numeric dtype, or are u8 and i8",
        "C2": "axes are in range and distinct within an operand",
        "C3": "as many lhs as rhs axes, batch and contracted, with equal extents pairwise",
    ];
    /// Convolution (cross-correlation) over any number of spatial axes; both its gradients are of the same form.
    /// result[n, k, o] = Σ_{c, r} x[n, c, o·stride + r·rhs_dilation − low] · w[k, c, r], x first dilated by lhs_dilation.
    /// Products of a u8 and an i8 are i32, and so is the result.
    L0 Conv = "conv_general" (x, w) {
        /// Steps of the window, per spatial axis; empty means 1.
        strides: Vec<usize> = Vec::new(),
        /// Zeros around x (after its dilation), per spatial axis; empty means none. Negative crops.
        padding: Vec<Padding> = Vec::new(),
        /// Distance between neighbours of x after zeros are put in (transposed convolution); empty means 1.
        lhs_dilation: Vec<usize> = Vec::new(),
        /// Distance between the elements of the window (dilated convolution); empty means 1.
        rhs_dilation: Vec<usize> = Vec::new(),
        /// Number of groups.
        groups: usize = 1,
        /// Where the channels are.
        layout: ConvLayout = ConvLayout::ChannelsFirst,
    } [
        "C1": "x and w have one numeric dtype, or are u8 and i8, and one rank ≥ 3",
        "C2": "the lists have one entry per spatial axis, or are empty",
        "C3": "strides, dilations and groups ≥ 1",
        "C4": "channels of x = groups × input channels of w",
        "C5": "output channels of w are a multiple of groups",
        "C6": "the dilated window fits the padded extent",
        "C7": "only the batch extent of x may be symbolic",
    ];

    // ---- L0: quantisation ----
    /// round(x / scale) + zero_point, ties to even, saturated to the dtype's range.
    L0 Quantize = "quantize" (x, scale, zero_point) {
        /// i8, u8 or i32.
        dtype: DType,
        /// The channel axis, where scale and zero_point are vectors.
        axis: usize = 0,
    } [
        "C1": "x and scale are of one float dtype; dtype is i8, u8 or i32",
        "C2": "zero_point has the dtype attribute's dtype and scale's dims",
        "C3": "scale is a scalar, or a vector as long as the axis of x",
    ];
    /// (x − zero_point) · scale.
    L0 Dequantize = "dequantize" (x, scale, zero_point) {
        /// The channel axis, where scale and zero_point are vectors.
        axis: usize = 0,
    } [
        "C1": "x is i8, u8 or i32; scale is a float",
        "C2": "zero_point has x's dtype and scale's dims",
        "C3": "scale is a scalar, or a vector as long as the axis of x",
    ];

    // ---- L0: state ----
    /// The value of a variable at the start of the run.
    L0 ReadVar = "read_var" () {
        /// The variable.
        variable: String,
        /// Its dtype.
        dtype: DType,
        /// Its extents.
        dims: Vec<Dim>,
    } ["C1": "the graph has the variable, of this dtype and these dims"];
    /// Gives a variable a value for the runs after this one. The result is the value.
    L0 Assign = "assign" (value) {
        /// The variable.
        variable: String,
    } ["C1": "the graph has the variable, of the value's type", "C2": "a variable is assigned at most once in a graph"];
    /// Bundles effects: has no result.
    L0 Group = "group" (; effects) {};

    // ---- L1: elementwise composites ----
    /// Rectified linear unit.
    L1 Relu = "relu" (x) {} scalar "max(x, 0)";
    /// Limits x to [min, max].
    L1 Clip = "clip" (x) {
        /// Lower limit.
        min: Real = Real(f64::NEG_INFINITY),
        /// Upper limit.
        max: Real = Real(f64::INFINITY),
    } scalar "min(max(x, min_), max_)" ["C1": "neither limit is NaN"];
    /// Leaky rectified linear unit: max(x, 0) + slope · min(x, 0).
    L1 LeakyRelu = "leaky_relu" (x) {
        /// Slope below 0.
        slope: Real = Real(0.01),
    } scalar "select(x < 0, slope * x, x)";
    /// Rectified linear unit with a learned slope below 0.
    L1 PRelu = "prelu" (x, slope) {} scalar "select(x < 0, slope * x, x)";
    /// Exponential linear unit.
    L1 Elu = "elu" (x) {
        /// Limit towards −∞, negated.
        alpha: Real = Real(1.0),
    } scalar "select(x < 0, alpha * (exp(x) - 1), x)";
    /// Logistic function.
    L1 Sigmoid = "sigmoid" (x) {} scalar "reciprocal(1 + exp(-x))";
    /// Piecewise linear sigmoid: alpha·x + beta, limited to [0, 1].
    L1 HardSigmoid = "hard_sigmoid" (x) {
        /// Slope.
        alpha: Real = Real(0.2),
        /// Offset.
        beta: Real = Real(0.5),
    } scalar "min(max(alpha * x + beta, 0), 1)";
    /// x · hard_sigmoid(x) with slope 1/6 (Howard et al. 2019).
    L1 HardSwish = "hard_swish" (x) {} scalar "x * (min(max(x + 3, 0), 6) / 6)";
    /// x · sigmoid(x).
    L1 Silu = "silu" (x) {} scalar "x * reciprocal(1 + exp(-x))";
    /// Gaussian error linear unit, exact (Hendrycks & Gimpel 2016).
    L1 Gelu = "gelu" (x) {} scalar "0.5 * x * (1 + erf(x * 0.7071067811865476))";
    /// Gaussian error linear unit, the tanh approximation.
    L1 GeluTanh = "gelu_tanh" (x) {} scalar "0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))";
    /// log(1 + eˣ), without overflow.
    L1 Softplus = "softplus" (x) {} scalar "max(x, 0) + log(1 + exp(-abs(x)))";
    /// x · tanh(softplus(x)) (Misra 2019).
    L1 Mish = "mish" (x) {} scalar "x * tanh(max(x, 0) + log(1 + exp(-abs(x))))";
    /// x / (1 + |x|).
    L1 Softsign = "softsign" (x) {} scalar "x / (1 + abs(x))";
    /// Inverse sine in radians; NaN beyond ±1.
    L1 Asin = "asin" (x) {} scalar "2 * atan(x / (1 + sqrt((1 - x) * (1 + x))))";
    /// Inverse cosine in radians, 0 to π; NaN beyond ±1.
    L1 Acos = "acos" (x) {} scalar "2 * atan(sqrt((1 - x) / (1 + x)))";
    /// Inverse hyperbolic sine. Far out, where squares would overflow, it is ln 2|x|.
    L1 Asinh = "asinh" (x) {} scalar "sign(x) * (log1p(abs(x) + select(abs(x) < 1e18, x * x / (1 + sqrt(1 + x * x)), 0)) + select(abs(x) < 1e18, 0, 0.6931471805599453))";
    /// Inverse hyperbolic cosine; NaN below 1. Far out, where sums would overflow, it is ln 2x.
    L1 Acosh = "acosh" (x) {} scalar "log1p(select(x < 1e18, sqrt(x - 1) * (sqrt(x - 1) + sqrt(x + 1)), x)) + select(x < 1e18, 0, 0.6931471805599453)";
    /// Inverse hyperbolic tangent; NaN beyond ±1.
    L1 Atanh = "atanh" (x) {} scalar "0.5 * sign(x) * log1p(2 * abs(x) / (1 - abs(x)))";

    // ---- L1: other composites ----
    /// exp(x − max x) / Σ exp(x − max x) along `axis`.
    L1 Softmax = "softmax" (x) {
        /// The axis.
        axis: usize,
    } ["C1": "axis < rank", "C2": "x is a float"];
    /// x − max x − log Σ exp(x − max x) along `axis`.
    L1 LogSoftmax = "log_softmax" (x) {
        /// The axis.
        axis: usize,
    } ["C1": "axis < rank", "C2": "x is a float"];
    /// Normalises over the trailing axes from `axis` on: (x − mean) / √(var + epsilon) · scale + bias (Ba et al. 2016).
    L1 LayerNorm = "layer_norm" (x, scale, bias) {
        /// First normalised axis.
        axis: usize,
        /// Added to the variance.
        epsilon: Real = Real(1e-5),
    } ["C1": "axis < rank", "C2": "operands are of one float dtype", "C3": "scale and bias have x's dims from axis on"];
    /// Normalises each channel by given statistics: (x − mean) / √(variance + epsilon) · scale + bias
    /// (Ioffe & Szegedy 2015, inference form).
    L1 BatchNorm = "batch_norm" (x, scale, bias, mean, variance) {
        /// Channel axis.
        axis: usize = 1,
        /// Added to the variance.
        epsilon: Real = Real(1e-5),
    } [
        "C1": "axis < rank",
        "C2": "operands are of one float dtype",
        "C3": "scale, bias, mean and variance are vectors as long as the channel axis",
    ];
    /// Local response normalisation across channels (Krizhevsky et al. 2012):
    /// x / (bias + alpha/size · Σ x² over the `size` nearest channels)^beta.
    L1 Lrn = "lrn" (x) {
        /// Channels in a window; ⌊(size−1)/2⌋ of them before.
        size: usize,
        /// Weight of the sum.
        alpha: Real = Real(1e-4),
        /// Exponent.
        beta: Real = Real(0.75),
        /// Added to the sum.
        bias: Real = Real(1.0),
        /// Channel axis.
        axis: usize = 1,
    } ["C1": "axis < rank", "C2": "x is a float", "C3": "size ≥ 1"];

    /// A recurrent layer in one direction, of T steps over a batch with H hidden units in G gates. x has the sums of the
    /// gates that come of the input, with all biases, so that the products of all steps are one. Each step adds h · wᵀ
    /// and makes the next hidden state; y has the hidden states in the order of x, also where the layer runs in reverse.
    /// An LSTM takes its first cell state c and, if its gates see it, the peepholes of the input, forget and output gate,
    /// and gives the last cell state as well. A `gru` takes the bias inside its reset.
    L1 Recurrent = "recurrent" (x, w, h; more) {
        /// What a step does.
        cell: Cell,
        /// Activations of one argument: of the gates, of the candidate, of an LSTM's result. None means the cell's own.
        activations: Vec<ScalarExpr> = Vec::new(),
        /// Whether the last step of x comes first.
        reverse: bool = false,
    } [
        "C1": "all operands have one float dtype",
        "C2": "x is [T, batch, G·H], w [G·H, H], h [batch, H]",
        "C3": "H is fixed and at least 1, and x and w have H sums for each of the cell's gates",
        "C4": "there is a step",
        "C5": "lstm takes c [batch, H] and perhaps peepholes [3, H]; gru a bias [1, H]; the others nothing more",
        "C6": "activations are as many as the cell has, functions of one argument that keep the dtype",
    ];

    // ---- L2: lowered ----
    /// One scalar expression over operands of one rank, each extent 1 or the result's.
    L2 FusedElementwise = "fused_elementwise" (; operands) {
        /// The expression; `a0, a1 …` are the operands.
        expr: ScalarExpr,
    } [
        "C1": "at least one operand, all of one rank; extents per axis are equal or 1",
        "C2": "the expression is defined for the operands' dtypes",
    ];
    /// `conv_general`, then an epilogue for each element.
    L2 FusedConv = "fused_conv" (x, w; extras) {
        /// As in `conv_general`.
        strides: Vec<usize> = Vec::new(),
        /// As in `conv_general`.
        padding: Vec<Padding> = Vec::new(),
        /// As in `conv_general`.
        lhs_dilation: Vec<usize> = Vec::new(),
        /// As in `conv_general`.
        rhs_dilation: Vec<usize> = Vec::new(),
        /// As in `conv_general`.
        groups: usize = 1,
        /// As in `conv_general`.
        layout: ConvLayout = ConvLayout::ChannelsFirst,
        /// `a0` is the convolution, `a1 …` the extras.
        epilogue: ScalarExpr,
    } [
        "C1": "the convolution's own constraints hold",
        "C2": "extras have the convolution's rank, extents equal to its result's or 1",
        "C3": "the epilogue is defined for the operands' dtypes",
    ];
    /// `dot_general`, then an epilogue for each element.
    L2 FusedDot = "fused_dot" (lhs, rhs; extras) {
        /// As in `dot_general`.
        lhs_batch: Vec<usize> = Vec::new(),
        /// As in `dot_general`.
        rhs_batch: Vec<usize> = Vec::new(),
        /// As in `dot_general`.
        lhs_contract: Vec<usize>,
        /// As in `dot_general`.
        rhs_contract: Vec<usize>,
        /// `a0` is the product, `a1 …` the extras.
        epilogue: ScalarExpr,
    } [
        "C1": "the product's own constraints hold",
        "C2": "extras have the product's rank, extents equal to its result's or 1",
        "C3": "the epilogue is defined for the operands' dtypes",
    ];
    /// Scaled dot-product attention (Vaswani et al. 2017, section 3.2.1): softmax(q · kᵀ) · v for each entry of the batch, with
    /// an epilogue for each score before the softmax, which goes along the keys. Scores have dims [batch, queries, keys] and are
    /// not stored. q has its batch axes, queries and depth; k its batch axes, keys and depth; v its batch axes, keys and columns;
    /// each in any order. The result has dims [batch, queries, columns].
    L2 FusedAttention = "fused_attention" (q, k, v; extras) {
        /// Batch axes of q.
        q_batch: Vec<usize> = Vec::new(),
        /// Batch axes of k, pairwise.
        k_batch: Vec<usize> = Vec::new(),
        /// Batch axes of v, pairwise.
        v_batch: Vec<usize> = Vec::new(),
        /// The axis of q that is contracted with k.
        q_depth: usize,
        /// The axis of k that is contracted with q.
        k_depth: usize,
        /// The axis of v that counts keys.
        v_keys: usize,
        /// `a0` is the score, `a1 …` the extras.
        epilogue: ScalarExpr,
    } [
        "C1": "q, k and v are f32",
        "C2": "each of q, k and v has its batch axes, the axis that the other attribute names, and one more, all distinct",
        "C3": "batch axes are pairwise of equal extents, q and k of equal depth, k and v of equally many keys",
        "C4": "extras have the scores' rank, extents equal to theirs or 1",
        "C5": "the epilogue is defined for the operands' dtypes and gives f32",
    ];
    /// `reduce` of a scalar expression of the operands, without storing what is reduced.
    L2 FusedReduce = "fused_reduce" (; operands) {
        /// The reduced axes.
        axes: Vec<usize>,
        /// How.
        reducer: Reducer,
        /// What is reduced; `a0, a1 …` are the operands.
        prologue: ScalarExpr,
    } [
        "C1": "at least one operand, all of one rank; extents per axis are equal or 1",
        "C2": "the prologue is defined for the operands' dtypes",
        "C3": "reduce's own constraints hold",
    ];
}

impl Op {
    /// Name in the text format.
    pub fn mnemonic(&self) -> &'static str {
        self.row().mnemonic
    }

    /// Stage.
    pub fn level(&self) -> Level {
        self.row().level
    }

    /// What an elementwise op computes for one element, in terms of its operands `a0, a1 …`; `None` for other ops.
    /// The operands have the same dims (for `fused_elementwise`, dims that broadcast).
    pub fn scalar(&self) -> Option<ScalarExpr> {
        match self {
            Op::Convert { dtype } => {
                let mut b = ScalarBuilder::default();
                let x = b.arg(0);
                let root = b.node(ScalarNode::Convert(*dtype, x));
                Some(b.finish(root))
            }
            Op::FusedElementwise { expr } => Some(expr.clone()),
            _ => {
                let row = self.row();
                let formula = row.formula?;
                let values: Vec<(String, f64)> = self
                    .attributes()
                    .into_iter()
                    .filter_map(|(name, a)| match a {
                        // `min` and `max` are functions of the formula language: attributes of that name get a `_`.
                        Attribute::Real(v) if name == "min" || name == "max" => Some((format!("{name}_"), v)),
                        Attribute::Real(v) => Some((name.to_owned(), v)),
                        _ => None,
                    })
                    .collect();
                let constants: Vec<(&str, f64)> = values.iter().map(|(n, v)| (n.as_str(), *v)).collect();
                // The formulas are the table's own; a test parses every one.
                ScalarExpr::parse_named(formula, row.operands, &constants).ok()
            }
        }
    }

    /// The attributes that the text format shows: not those equal to their default, nor what the result's type says.
    pub fn shown_attributes(&self) -> Vec<(&'static str, Attribute)> {
        let said_elsewhere = |name: &str| said_by_type(name) || matches!(self, Op::Constant { .. });
        let given = self
            .attributes()
            .into_iter()
            .zip(self.row().attributes)
            .filter(|((name, value), row)| !said_elsewhere(name) && (row.default)().as_ref() != Some(value));
        given.map(|(attribute, _)| attribute).collect()
    }

    /// Whether the op reads or changes state, so that it must run exactly once and in order.
    pub fn has_effect(&self) -> bool {
        matches!(self, Op::Assign { .. } | Op::Group {})
    }
}

impl Op {
    /// The plain contraction inside a fused one (`fused_conv`, `fused_dot`); the op itself where it is a plain
    /// contraction; `None` for other ops.
    pub fn contraction(&self) -> Option<Op> {
        match self {
            Op::Conv { .. } | Op::Dot { .. } => Some(self.clone()),
            Op::FusedConv { strides, padding, lhs_dilation, rhs_dilation, groups, layout, .. } => Some(Op::Conv {
                strides: strides.clone(),
                padding: padding.clone(),
                lhs_dilation: lhs_dilation.clone(),
                rhs_dilation: rhs_dilation.clone(),
                groups: *groups,
                layout: *layout,
            }),
            Op::FusedDot { lhs_batch, rhs_batch, lhs_contract, rhs_contract, .. } => Some(Op::Dot {
                lhs_batch: lhs_batch.clone(),
                rhs_batch: rhs_batch.clone(),
                lhs_contract: lhs_contract.clone(),
                rhs_contract: rhs_contract.clone(),
            }),
            _ => None,
        }
    }

    /// The two products of `fused_attention`: scores of q and k, and the result of the softmax's weights and v; `None` for other
    /// ops.
    pub fn attention(&self) -> Option<[Op; 2]> {
        let Op::FusedAttention { q_batch, k_batch, v_batch, q_depth, k_depth, v_keys, .. } = self else { return None };
        let scores = Op::Dot {
            lhs_batch: q_batch.clone(),
            rhs_batch: k_batch.clone(),
            lhs_contract: vec![*q_depth],
            rhs_contract: vec![*k_depth],
        };
        let values = Op::Dot {
            lhs_batch: (0..q_batch.len()).collect(),
            rhs_batch: v_batch.clone(),
            lhs_contract: vec![q_batch.len() + 1],
            rhs_contract: vec![*v_keys],
        };
        Some([scores, values])
    }

    /// The contraction with `epilogue` after it, whether it had one or not; `None` for other ops.
    pub fn with_epilogue(&self, epilogue: ScalarExpr) -> Option<Op> {
        Some(match self.contraction()? {
            Op::Conv { strides, padding, lhs_dilation, rhs_dilation, groups, layout } => {
                Op::FusedConv { strides, padding, lhs_dilation, rhs_dilation, groups, layout, epilogue }
            }
            Op::Dot { lhs_batch, rhs_batch, lhs_contract, rhs_contract } => {
                Op::FusedDot { lhs_batch, rhs_batch, lhs_contract, rhs_contract, epilogue }
            }
            _ => return None,
        })
    }
}
