//! What is known of a value's elements.

use kiln_ir::DType;

/// An interval, an error bound and exactness of a value's elements; see the module page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Element type.
    pub dtype: DType,
    /// Least element.
    pub low: f64,
    /// Greatest element.
    pub high: f64,
    /// Bound of the absolute rounding error.
    pub error: f64,
    /// Bits behind the binary point, where the elements are computed exactly.
    pub fraction: Option<i32>,
}

/// The largest float magnitude that a graph may reach. Far from overflow of f32, so that errors stay small too.
const LARGEST: f64 = 1000.0;

/// The largest absolute error of a float. A value less certain than this says nothing in a comparison.
const LEAST_CERTAIN: f64 = 0.05;

/// Significant bits of a float dtype.
fn precision(dtype: DType) -> i32 {
    match dtype {
        DType::F64 => 53,
        DType::F16 => 11,
        DType::BF16 => 8,
        _ => 24,
    }
}

/// Half the distance from 1 to the next number of a float dtype.
pub fn unit_roundoff(dtype: DType) -> f64 {
    2f64.powi(-precision(dtype))
}

/// Least and greatest value of an integer dtype or bool.
fn limits(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::I64 => (-(2f64.powi(63)), 2f64.powi(63)),
        DType::I32 => (-(2f64.powi(31)), 2f64.powi(31) - 1.0),
        DType::I8 => (-128.0, 127.0),
        DType::U8 => (0.0, 255.0),
        _ => (0.0, 1.0),
    }
}

impl Range {
    /// Exact elements within `low..=high`, multiples of 2^−fraction.
    pub fn exact(dtype: DType, low: f64, high: f64, fraction: i32) -> Range {
        Range { dtype, low, high, error: 0.0, fraction: Some(fraction) }
    }

    /// `bool` elements.
    pub fn bool() -> Range {
        Range::exact(DType::Bool, 0.0, 1.0, 0)
    }

    /// Elements that an op computes. `scale` is the magnitude of its intermediate results and `roundings` how many
    /// roundings of that magnitude may add up; `inherited` is the operands' error as it reaches the result. With
    /// `fraction`, all intermediate results are multiples of 2^−fraction (and the result is exact where they fit the
    /// dtype). `None` where the result would be too large or too uncertain.
    pub fn computed(
        dtype: DType,
        (low, high): (f64, f64),
        fraction: Option<i32>,
        inherited: f64,
        (scale, roundings): (f64, f64),
    ) -> Option<Range> {
        if !dtype.is_float() {
            let (least, greatest) = limits(dtype);
            // Integers wrap.
            let wraps = !(low >= least && high <= greatest);
            let (low, high) = if wraps { (least, greatest) } else { (low, high) };
            return Some(Range::exact(dtype, low, high, 0));
        }
        let scale = scale.max(low.abs()).max(high.abs());
        if scale.is_nan() || scale > LARGEST {
            return None;
        }
        let whole_bits = scale.max(1.0).log2().floor() as i32 + 1;
        if let Some(fraction) = fraction.filter(|f| f + whole_bits <= precision(dtype)) {
            return Some(Range::exact(dtype, low, high, fraction));
        }
        let error = inherited + roundings * unit_roundoff(dtype) * scale;
        // Each later op sees the interval with its error, so that domains are kept whatever was rounded.
        (error <= LEAST_CERTAIN).then_some(Range { dtype, low: low - error, high: high + error, error, fraction: None })
    }

    /// Whether every implementation computes the same bits.
    pub fn is_exact(&self) -> bool {
        self.fraction.is_some()
    }

    /// The largest magnitude.
    pub fn magnitude(&self) -> f64 {
        self.low.abs().max(self.high.abs())
    }

    /// The least magnitude: 0 where the interval holds 0.
    pub fn least_magnitude(&self) -> f64 {
        if self.low <= 0.0 && self.high >= 0.0 { 0.0 } else { self.low.abs().min(self.high.abs()) }
    }

    /// Elements of either range.
    pub fn union(&self, other: &Range) -> Range {
        Range {
            dtype: self.dtype,
            low: self.low.min(other.low),
            high: self.high.max(other.high),
            error: self.error.max(other.error),
            fraction: self.fraction.zip(other.fraction).map(|(a, b)| a.max(b)),
        }
    }

    /// These elements and `v`.
    pub fn with(&self, v: f64) -> Range {
        Range { low: self.low.min(v), high: self.high.max(v), ..*self }
    }

    /// The interval of products of this range's elements and another's.
    pub fn products(&self, other: &Range) -> (f64, f64) {
        let corners = [self.low * other.low, self.low * other.high, self.high * other.low, self.high * other.high];
        (corners.into_iter().fold(f64::INFINITY, f64::min), corners.into_iter().fold(f64::NEG_INFINITY, f64::max))
    }

    /// Sums of up to `n` products of this range's elements and another's (or of 0, as padding gives).
    pub fn sum_of_products(&self, other: &Range, n: usize) -> Option<Range> {
        let n = n as f64;
        let (low, high) = self.products(other);
        let fraction = self.fraction.zip(other.fraction).map(|(a, b)| a + b);
        let inherited = n * (self.error * other.magnitude() + other.error * self.magnitude());
        let scale = n * low.abs().max(high.abs());
        Range::computed(self.dtype, ((n * low).min(0.0), (n * high).max(0.0)), fraction, inherited, (scale, n + 1.0))
    }

    /// Sums of up to `n` elements.
    pub fn sum(&self, n: usize) -> Option<Range> {
        self.sum_of_products(&Range::exact(self.dtype, 1.0, 1.0, 0), n)
    }
}
