//! Attributes of ops, and the one generic form that printer, parser and hash work on.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};

use crate::dtype::DType;
use crate::scalar::ScalarExpr;
use crate::types::Dim;

/// A real-valued attribute. Equality and hash go by bits (every NaN is first made the same one),
/// so that ops can be interned.
#[derive(Clone, Copy, Debug)]
pub struct Real(pub f64);

impl Real {
    fn bits(self) -> u64 {
        if self.0.is_nan() { f64::NAN.to_bits() } else { self.0.to_bits() }
    }
}

impl PartialEq for Real {
    fn eq(&self, other: &Real) -> bool {
        self.bits() == other.bits()
    }
}
impl Eq for Real {}
impl Hash for Real {
    fn hash<H: Hasher>(&self, h: &mut H) {
        self.bits().hash(h);
    }
}
impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Real) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Real {
    fn cmp(&self, other: &Real) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
impl From<f64> for Real {
    fn from(v: f64) -> Real {
        Real(v)
    }
}

impl fmt::Display for Real {
    /// Shortest text that parses back to the same f64; always recognisable as a real.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = self.0;
        if v.is_nan() {
            f.write_str("nan")
        } else if v.is_infinite() {
            f.write_str(if v > 0.0 { "inf" } else { "-inf" })
        } else {
            write!(f, "{v:?}")
        }
    }
}

/// The generic form of an attribute value, as the text format writes it.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// `3`
    Int(i64),
    /// `0.5`, `1e-5`, `inf`, `nan`
    Real(f64),
    /// `"text"`
    Str(String),
    /// A bare word: `true`, `max`, `f32`, a symbolic dim.
    Word(String),
    /// `[1, [2, 3], batch]`
    List(Vec<Attribute>),
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attribute::Int(v) => write!(f, "{v}"),
            Attribute::Real(v) => write!(f, "{}", Real(*v)),
            Attribute::Str(s) => write!(f, "{s:?}"),
            Attribute::Word(w) => f.write_str(w),
            Attribute::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{item}")?;
                }
                f.write_str("]")
            }
        }
    }
}

/// A Rust type that an op's attribute may have.
pub trait AttributeType: Clone {
    /// What the documentation and error texts call this type.
    const EXPECTED: &'static str;
    /// The generic form.
    fn to_attribute(&self) -> Attribute;
    /// Back from the generic form; `None` where it does not fit.
    fn from_attribute(a: &Attribute) -> Option<Self>;
    /// What is wrong inside a value of the right form that does not fit, where that can be said.
    fn fault(_: &Attribute) -> Option<String> {
        None
    }
    /// The value with the symbolic dims in it that `bindings` names replaced by their extents.
    fn bind(&self, _bindings: &BTreeMap<String, usize>) -> Self {
        self.clone()
    }
}

impl AttributeType for i64 {
    const EXPECTED: &'static str = "an integer";
    fn to_attribute(&self) -> Attribute {
        Attribute::Int(*self)
    }
    fn from_attribute(a: &Attribute) -> Option<i64> {
        match a {
            Attribute::Int(v) => Some(*v),
            _ => None,
        }
    }
}

impl AttributeType for usize {
    const EXPECTED: &'static str = "a non-negative integer";
    fn to_attribute(&self) -> Attribute {
        Attribute::Int(i64::try_from(*self).unwrap_or(i64::MAX))
    }
    fn from_attribute(a: &Attribute) -> Option<usize> {
        i64::from_attribute(a).and_then(|v| usize::try_from(v).ok())
    }
}

impl AttributeType for Real {
    const EXPECTED: &'static str = "a real number";
    fn to_attribute(&self) -> Attribute {
        Attribute::Real(self.0)
    }
    fn from_attribute(a: &Attribute) -> Option<Real> {
        match a {
            Attribute::Real(v) => Some(Real(*v)),
            Attribute::Int(v) => Some(Real(*v as f64)),
            Attribute::Word(w) if w == "inf" => Some(Real(f64::INFINITY)),
            Attribute::Word(w) if w == "nan" => Some(Real(f64::NAN)),
            _ => None,
        }
    }
}

impl AttributeType for bool {
    const EXPECTED: &'static str = "true or false";
    fn to_attribute(&self) -> Attribute {
        Attribute::Word(self.to_string())
    }
    fn from_attribute(a: &Attribute) -> Option<bool> {
        match a {
            Attribute::Word(w) => w.parse().ok(),
            _ => None,
        }
    }
}

impl AttributeType for String {
    const EXPECTED: &'static str = "a quoted string";
    fn to_attribute(&self) -> Attribute {
        Attribute::Str(self.clone())
    }
    fn from_attribute(a: &Attribute) -> Option<String> {
        match a {
            Attribute::Str(s) => Some(s.clone()),
            _ => None,
        }
    }
}

impl AttributeType for DType {
    const EXPECTED: &'static str = "a dtype";
    fn to_attribute(&self) -> Attribute {
        Attribute::Word(self.name().to_owned())
    }
    fn from_attribute(a: &Attribute) -> Option<DType> {
        match a {
            Attribute::Word(w) => w.parse().ok(),
            _ => None,
        }
    }
}

impl AttributeType for Dim {
    const EXPECTED: &'static str = "an extent or a symbol";
    fn to_attribute(&self) -> Attribute {
        match self {
            Dim::Fixed(n) => n.to_attribute(),
            Dim::Symbol(name) => Attribute::Word(name.to_string()),
        }
    }
    fn from_attribute(a: &Attribute) -> Option<Dim> {
        match a {
            Attribute::Word(w) => Some(Dim::symbol(w)),
            _ => usize::from_attribute(a).map(Dim::Fixed),
        }
    }
    fn bind(&self, bindings: &BTreeMap<String, usize>) -> Dim {
        Dim::bind(self, bindings)
    }
}

/// Padding of one axis: elements (or zeros of a convolution) added before and after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Padding {
    /// Before the first element. Negative crops.
    pub low: i64,
    /// After the last element. Negative crops.
    pub high: i64,
}

impl Padding {
    /// No padding.
    pub const NONE: Padding = Padding { low: 0, high: 0 };

    /// The same on both sides.
    pub const fn same(n: i64) -> Padding {
        Padding { low: n, high: n }
    }

    /// One padding and then another, per axis; `None` where that is beyond any memory.
    pub fn sum(first: &[Padding], second: &[Padding]) -> Option<Vec<Padding>> {
        let add = |(p, q): (&Padding, &Padding)| {
            Some(Padding { low: p.low.checked_add(q.low)?, high: p.high.checked_add(q.high)? })
        };
        first.iter().zip(second).map(add).collect()
    }
}

impl AttributeType for Padding {
    const EXPECTED: &'static str = "a pair [low, high]";
    fn to_attribute(&self) -> Attribute {
        Attribute::List(vec![Attribute::Int(self.low), Attribute::Int(self.high)])
    }
    fn from_attribute(a: &Attribute) -> Option<Padding> {
        match a {
            Attribute::List(items) => match items.as_slice() {
                [Attribute::Int(low), Attribute::Int(high)] => Some(Padding { low: *low, high: *high }),
                _ => None,
            },
            _ => None,
        }
    }
}

impl<T: AttributeType> AttributeType for Vec<T> {
    const EXPECTED: &'static str = "a list";
    fn to_attribute(&self) -> Attribute {
        Attribute::List(self.iter().map(T::to_attribute).collect())
    }
    fn from_attribute(a: &Attribute) -> Option<Vec<T>> {
        match a {
            Attribute::List(items) => items.iter().map(T::from_attribute).collect(),
            _ => None,
        }
    }
    fn bind(&self, bindings: &BTreeMap<String, usize>) -> Vec<T> {
        self.iter().map(|item| item.bind(bindings)).collect()
    }
}

impl AttributeType for ScalarExpr {
    const EXPECTED: &'static str = "a quoted scalar expression";
    fn to_attribute(&self) -> Attribute {
        Attribute::Str(self.to_string())
    }
    fn from_attribute(a: &Attribute) -> Option<ScalarExpr> {
        match a {
            Attribute::Str(s) => s.parse().ok(),
            _ => None,
        }
    }
    fn fault(a: &Attribute) -> Option<String> {
        let Attribute::Str(s) = a else { return None };
        let e = s.parse::<ScalarExpr>().err()?;
        Some(format!("byte {}: expected {}", e.at, e.expected))
    }
}

macro_rules! word_enum {
    ($(#[$doc:meta])* $name:ident ($expected:literal) { $($(#[$vdoc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// The word the text format uses.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }
        }

        impl AttributeType for $name {
            const EXPECTED: &'static str = $expected;
            fn to_attribute(&self) -> Attribute {
                Attribute::Word(self.word().to_owned())
            }
            fn from_attribute(a: &Attribute) -> Option<$name> {
                match a {
                    Attribute::Word(w) => $name::ALL.iter().copied().find(|v| v.word() == w),
                    _ => None,
                }
            }
        }
    };
}

word_enum! {
    /// How a reduction combines two elements. The identity is what an empty reduction gives.
    Reducer("one of sum, prod, max, min, and, or") {
        /// Sum; identity 0.
        Sum = "sum",
        /// Product; identity 1.
        Prod = "prod",
        /// Maximum, NaN wins; identity −∞ (or the dtype's least value).
        Max = "max",
        /// Minimum, NaN wins; identity +∞ (or the dtype's greatest value).
        Min = "min",
        /// Logical and of `bool`; identity true.
        And = "and",
        /// Logical or of `bool`; identity false.
        Or = "or",
    }
}

word_enum! {
    /// Which extreme an `arg_reduce` or `top_k` looks for.
    Extreme("max or min") {
        /// The largest.
        Max = "max",
        /// The smallest.
        Min = "min",
    }
}

word_enum! {
    /// How `scatter` combines an update with what is there.
    ScatterMode("one of replace, add, mul, max, min") {
        /// The update replaces the element; of several updates to one element, the last in row-major order stays.
        Replace = "replace",
        /// Sum.
        Add = "add",
        /// Product.
        Mul = "mul",
        /// Maximum.
        Max = "max",
        /// Minimum.
        Min = "min",
    }
}

word_enum! {
    /// What a recurrent layer does at each step; the formulas are in [`recurrence`](crate::recurrence).
    Cell("one of rnn, lstm, gru, gru_reset_before") {
        /// Elman's: one gate.
        Rnn = "rnn",
        /// Long short-term memory. Gates: input, forget, cell, output.
        Lstm = "lstm",
        /// Gated recurrent unit that resets the product of the hidden state. Gates: reset, update, new.
        Gru = "gru",
        /// Gated recurrent unit that resets the hidden state before its product. Gates: reset, update, new.
        GruResetBefore = "gru_reset_before",
    }
}

word_enum! {
    /// Where the channels of a convolution's operands and result are.
    ConvLayout("channels_first or channels_last") {
        /// x [N, C, spatial…], w [K, C/groups, spatial…], result [N, K, spatial…].
        ChannelsFirst = "channels_first",
        /// x [N, spatial…, C], w [spatial…, C/groups, K], result [N, spatial…, K].
        ChannelsLast = "channels_last",
    }
}
