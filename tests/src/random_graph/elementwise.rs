//! Elementwise steps. Each bounds the error of its result by a Lipschitz constant of the function on the operands'
//! intervals, plus the roundings of its own evaluation.

use kiln_ir::attribute::Real;
use kiln_ir::{DType, Op, Value};

use super::generator::Generator;
use super::range::Range;

/// Roundings allowed to one evaluation of an elementary function: a few ulp for the function, and a few operations
/// around it.
const FUNCTION: f64 = 16.0;

impl Generator {
    pub(super) fn unary(&mut self) -> Option<()> {
        let x = self.value(|_, _| true)?;
        let r = self.range(x);
        let candidates: Vec<(Op, Range)> = if r.dtype.is_float() { float_unary(&r) } else { integer_unary(&r) };
        let i = self.choose(candidates.len());
        let (op, range) = candidates.into_iter().nth(i)?;
        self.add(op, &[x], range).map(drop)
    }

    pub(super) fn arithmetic(&mut self) -> Option<()> {
        let x = self.value(|ty, _| ty.dtype != DType::Bool)?;
        let y = self.partner(x);
        let candidates = binary(&self.range(x), &self.range(y));
        let i = self.choose(candidates.len());
        let (op, range) = candidates.into_iter().nth(i)?;
        self.add(op, &[x, y], range).map(drop)
    }

    pub(super) fn compare(&mut self) -> Option<()> {
        self.allows(DType::Bool).then_some(())?;
        let x = self.value(|_, r| r.is_exact())?;
        let y = self.partner(x);
        self.range(y).is_exact().then_some(())?;
        let all = [Op::Less {}, Op::Equal {}, Op::NotEqual {}, Op::LessEqual {}, Op::Greater {}, Op::GreaterEqual {}];
        // bool has no order.
        let i = if self.range(x).dtype == DType::Bool { 1 + self.choose(2) } else { self.choose(all.len()) };
        self.add(all[i].clone(), &[x, y], Range::bool()).map(drop)
    }

    pub(super) fn logic(&mut self) -> Option<()> {
        let x = self.value(|ty, _| !ty.dtype.is_float())?;
        let y = self.partner(x);
        let op = [Op::And {}, Op::Or {}, Op::Xor {}][self.choose(3)].clone();
        // Bits combine to any value of the dtype.
        let range = Range::computed(self.range(x).dtype, (f64::NEG_INFINITY, f64::INFINITY), None, 0.0, (0.0, 0.0))?;
        self.add(op, &[x, y], range).map(drop)
    }

    pub(super) fn select(&mut self) -> Option<()> {
        let condition = self.value(|ty, _| ty.dtype == DType::Bool)?;
        let dims = self.dims(condition);
        let x = self.value(|_, _| true)?;
        let x = self.broadcast_to(x, &dims)?;
        let y = self.partner(x);
        let range = self.range(x).union(&self.range(y));
        self.add(Op::Select {}, &[condition, x, y], range).map(drop)
    }

    pub(super) fn prelu(&mut self) -> Option<()> {
        let x = self.float()?;
        let y = self.partner(x);
        let (a, s) = (self.range(x), self.range(y));
        let product = mul(&a, &s)?;
        self.add(Op::PRelu {}, &[x, y], product.union(&a)).map(drop)
    }

    pub(super) fn convert(&mut self) -> Option<()> {
        let x = self.value(|_, _| true)?;
        let r = self.range(x);
        let dtype = self.dtype(|d| d != r.dtype)?;
        let range = converted(&r, dtype)?;
        self.add(Op::Convert { dtype }, &[x], range).map(drop)
    }

    pub(super) fn quantize(&mut self) -> Option<()> {
        let x = self.value(|ty, r| ty.dtype.is_float() && r.is_exact())?;
        let dtype = self.dtype(|d| matches!(d, DType::I8 | DType::U8 | DType::I32))?;
        let r = self.range(x);
        let (scale, zero, axis) = self.quantization(x, r.dtype, dtype)?;
        // The result saturates: anything the dtype holds.
        let range = Range::computed(dtype, (f64::NEG_INFINITY, f64::INFINITY), None, 0.0, (0.0, 0.0))?;
        self.add(Op::Quantize { dtype, axis }, &[x, scale, zero], range).map(drop)
    }

    pub(super) fn dequantize(&mut self) -> Option<()> {
        let x = self.value(|ty, _| matches!(ty.dtype, DType::I8 | DType::U8 | DType::I32))?;
        let dtype = self.dtype(DType::is_float)?;
        let r = self.range(x);
        let (low, high) = ((r.low - 10.0) / 8.0, (r.high + 10.0) / 8.0);
        let range = Range::computed(dtype, (low, high), Some(3), 0.0, (r.magnitude() + 10.0, 2.0))?;
        let (scale, zero, axis) = self.quantization(x, dtype, r.dtype)?;
        self.add(Op::Dequantize { axis }, &[x, scale, zero], range).map(drop)
    }

    /// A scale of 1/8 (so that dividing by it is exact) and a zero point, scalars or vectors along an axis.
    fn quantization(&mut self, x: Value, float: DType, integer: DType) -> Option<(Value, Value, usize)> {
        let dims = self.dims(x);
        let axis = self.choose(dims.len());
        let along = dims.get(axis).copied().filter(|_| self.choose(2) == 1);
        let dims: Vec<usize> = along.into_iter().collect();
        let scale = self.fresh_within(float, &dims, 0.125, 0.125)?;
        let zero = self.fresh_within(integer, &dims, 0.0, 10.0)?;
        Some((scale, zero, axis))
    }
}

/// What an exact conversion gives; `None` where it would not be exact, or not be defined the same everywhere.
fn converted(r: &Range, dtype: DType) -> Option<Range> {
    if dtype.is_float() {
        return Range::computed(dtype, (r.low, r.high), r.fraction, r.error, (r.magnitude(), 1.0));
    }
    if !r.is_exact() {
        return None;
    }
    if dtype == DType::Bool {
        return Some(Range::bool());
    }
    let whole = Range::computed(dtype, (r.low.trunc(), r.high.trunc()), None, 0.0, (0.0, 0.0))?;
    // Narrowing that does not fit is left to the tests of `convert`.
    (whole.low == r.low.trunc() && whole.high == r.high.trunc()).then_some(whole)
}

fn integer_unary(r: &Range) -> Vec<(Op, Range)> {
    let exact = |op: Op, low: f64, high: f64| {
        Range::computed(r.dtype, (low, high), None, 0.0, (0.0, 0.0)).map(|range| (op, range))
    };
    let any = (f64::NEG_INFINITY, f64::INFINITY);
    let not = exact(Op::Not {}, any.0, any.1);
    if r.dtype == DType::Bool {
        return not.into_iter().collect();
    }
    // |least value| wraps.
    let abs = if r.dtype == DType::U8 { (r.low, r.high) } else { (r.least_magnitude(), r.magnitude()) };
    let wrapping = abs.1 > 2f64.powi(30) || r.dtype == DType::I8 && abs.1 >= 128.0;
    let abs = if wrapping { any } else { abs };
    [not, exact(Op::Neg {}, -r.high, -r.low), exact(Op::Abs {}, abs.0, abs.1), exact(Op::Sign {}, -1.0, 1.0)]
        .into_iter()
        .flatten()
        // −1 is no u8: the sign of one is 0 or 1.
        .map(|(op, range)| {
            if range.low < 0.0 && r.dtype == DType::U8 { (op, Range::exact(r.dtype, 0.0, 1.0, 0)) } else { (op, range) }
        })
        .collect()
}

/// The functions of a float that its range admits.
fn float_unary(r: &Range) -> Vec<(Op, Range)> {
    let (low, high, top) = (r.low, r.high, r.magnitude());
    // A function with Lipschitz constant `slope` and values in `low..=high`.
    let smooth = |slope: f64, low: f64, high: f64| {
        let inherited = if r.is_exact() { 0.0 } else { slope * r.error };
        Range::computed(r.dtype, (low, high), None, inherited, (top.max(1.0), FUNCTION))
    };
    // A function that moves no bits: what is exact stays exact.
    let same = |low: f64, high: f64| Some(Range { low, high, ..*r });
    let whole = |low: f64, high: f64| r.is_exact().then(|| Range::exact(r.dtype, low, high, 0));
    let when = |ok: bool, range: Option<Range>| range.filter(|_| ok);
    let from_zero = |f: f64| f.max(0.0);
    let clip = (-1.0f64, 1.5f64);
    // alpha · x is exact for a slope of 1/4.
    let quarter = |low: f64, high: f64| {
        let fraction = r.fraction.map(|f| f + 2);
        Range::computed(r.dtype, (low, high), fraction, r.error, (top, 2.0))
    };
    let least = r.least_magnitude();
    // √ is steep at 0: only an exact operand may be there.
    let root_ok = if r.is_exact() { low >= 0.0 } else { low >= 0.01 };
    // so is arcosh at 1
    let hyperbolic_ok = if r.is_exact() { low >= 1.0 } else { low >= 1.01 };
    let candidates: Vec<(Op, Option<Range>)> = vec![
        (Op::Relu {}, same(from_zero(low), from_zero(high))),
        (Op::Neg {}, same(-high, -low)),
        (Op::Abs {}, same(least, top)),
        (Op::Tanh {}, smooth(1.0, -1.0, 1.0)),
        (Op::Exp {}, when(high <= 4.0, smooth(high.exp(), low.exp(), high.exp()))),
        (Op::Sigmoid {}, smooth(0.25, 0.0, 1.0)),
        (
            Op::Sqrt {},
            when(root_ok, smooth(0.5 / low.max(1e-30).sqrt(), from_zero(low).sqrt(), from_zero(high).sqrt())),
        ),
        (Op::Rsqrt {}, when(low >= 0.1, smooth(0.5 * low.powf(-1.5), high.powf(-0.5), low.powf(-0.5)))),
        (Op::Reciprocal {}, when(least >= 0.1, smooth(least.powi(-2), -1.0 / least, 1.0 / least))),
        (Op::Log {}, when(low >= 0.1, smooth(1.0 / low, low.ln(), high.ln()))),
        (Op::Sin {}, smooth(1.0, -1.0, 1.0)),
        (Op::Cos {}, smooth(1.0, -1.0, 1.0)),
        (Op::Atan {}, smooth(1.0, low.atan(), high.atan())),
        (Op::Asinh {}, smooth(1.0, low.asinh(), high.asinh())),
        (Op::Asin {}, when(top <= 0.9, smooth(2.3, low.asin(), high.asin()))),
        (Op::Acos {}, when(top <= 0.9, smooth(2.3, high.acos(), low.acos()))),
        (Op::Acosh {}, when(hyperbolic_ok, smooth(7.1, low.acosh(), high.acosh()))),
        (Op::Atanh {}, when(top <= 0.9, smooth(5.3, low.atanh(), high.atanh()))),
        (Op::Log1p {}, when(low >= -0.5, smooth(1.0 / (1.0 + low), low.ln_1p(), high.ln_1p()))),
        (Op::Erf {}, smooth(1.2, -1.0, 1.0)),
        (Op::Floor {}, whole(low.floor(), high.floor())),
        (Op::Ceil {}, whole(low.ceil(), high.ceil())),
        (Op::Round {}, whole(low.round_ties_even(), high.round_ties_even())),
        (Op::Sign {}, whole(-1.0, 1.0)),
        (Op::IsNan {}, Some(Range::bool())),
        (
            Op::Clip { min: Real(clip.0), max: Real(clip.1) },
            same(low.clamp(clip.0, clip.1), high.clamp(clip.0, clip.1)),
        ),
        (Op::LeakyRelu { slope: Real(0.25) }, quarter(low, high)),
        (Op::LeakyRelu { slope: Real(0.01) }, smooth(1.0, low, high)),
        (Op::Elu { alpha: Real(1.5) }, smooth(1.5, -1.5, from_zero(high))),
        (Op::HardSigmoid { alpha: Real(0.25), beta: Real(0.5) }, smooth(0.25, 0.0, 1.0)),
        (Op::HardSwish {}, smooth(1.6, -0.4, from_zero(high))),
        (Op::Silu {}, smooth(1.2, -0.3, from_zero(high))),
        (Op::Gelu {}, smooth(1.2, -0.2, from_zero(high))),
        (Op::GeluTanh {}, smooth(1.2, -0.2, from_zero(high))),
        (Op::Softplus {}, smooth(1.0, 0.0, from_zero(high) + 0.7)),
        (Op::Mish {}, smooth(1.2, -0.4, from_zero(high))),
        (Op::Softsign {}, smooth(1.0, -1.0, 1.0)),
    ];
    candidates.into_iter().filter_map(|(op, range)| Some((op, range?))).collect()
}

fn mul(x: &Range, y: &Range) -> Option<Range> {
    let inherited = x.error * y.magnitude() + y.error * x.magnitude();
    let fraction = x.fraction.zip(y.fraction).map(|(a, b)| a + b);
    Range::computed(x.dtype, x.products(y), fraction, inherited, (0.0, 1.0))
}

/// The functions of two numbers of one dtype that their ranges admit.
fn binary(x: &Range, y: &Range) -> Vec<(Op, Range)> {
    let dtype = x.dtype;
    let finest = x.fraction.zip(y.fraction).map(|(a, b)| a.max(b));
    let sum = |low, high| Range::computed(dtype, (low, high), finest, x.error + y.error, (0.0, 1.0));
    let either = |low, high| Some(Range { low, high, ..x.union(y) });
    let mut candidates = vec![
        (Op::Add {}, sum(x.low + y.low, x.high + y.high)),
        (Op::Sub {}, sum(x.low - y.high, x.high - y.low)),
        (Op::Mul {}, mul(x, y)),
        (Op::Maximum {}, either(x.low.max(y.low), x.high.max(y.high))),
        (Op::Minimum {}, either(x.low.min(y.low), x.high.min(y.high))),
    ];
    let (top, least) = (x.magnitude(), y.least_magnitude());
    if !dtype.is_float() {
        // x/0 = 0, and the quotient of the least value by −1 wraps.
        let quotient = Range::computed(dtype, (-top, top), None, 0.0, (0.0, 0.0));
        candidates.push((Op::Div {}, quotient));
        candidates.push((Op::Rem {}, quotient));
    } else {
        if least >= 0.1 {
            let inherited = x.error / least + y.error * top / (least * least);
            let quotient = Range::computed(dtype, (-top / least, top / least), None, inherited, (0.0, 2.0));
            candidates.push((Op::Div {}, quotient));
            // A remainder jumps where the quotient is whole.
            let rem =
                finest.map(|fraction| Range::exact(dtype, -top.min(y.magnitude()), top.min(y.magnitude()), fraction));
            candidates.push((Op::Rem {}, rem));
        }
        if x.low >= 0.1 && y.magnitude() <= 3.0 {
            let corners = [x.low.powf(y.low), x.low.powf(y.high), x.high.powf(y.low), x.high.powf(y.high)];
            let high = corners.into_iter().fold(0.0, f64::max);
            let low = corners.into_iter().fold(f64::INFINITY, f64::min);
            let log = x.low.ln().abs().max(x.high.ln().abs());
            let inherited = high * (x.error * y.magnitude() / x.low + y.error * log);
            // exp(y · log x): the logarithm's roundings count y · log x times.
            let roundings = FUNCTION * (2.0 + y.magnitude() * log);
            candidates.push((Op::Pow {}, Range::computed(dtype, (low, high), None, inherited, (0.0, roundings))));
        }
    }
    candidates.into_iter().filter_map(|(op, range)| Some((op, range?))).collect()
}
