//! Scalar expressions: what an elementwise op or an epilogue computes for one element.
//!
//! An expression is a list of nodes in definition order, the last of them its result; equal nodes are
//! stored once, so shared subexpressions cost nothing (but constants that meet different dtypes are kept apart).
//! Arguments are `a0, a1, …`; constants take the dtype of what they are combined with. The interpreter evaluates expressions over any
//! [`crate::interp`] scalar; code generation lowers them to vector instructions.

mod canonical;
mod parse;
mod typing;

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

pub use parse::ParseScalarError;
pub use typing::ScalarTypeError;

use crate::attribute::Real;
use crate::dtype::DType;

macro_rules! functions {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// Every function, in declaration order.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// The operator or function name of the text form.
            pub const fn text(self) -> &'static str {
                match self { $($name::$variant => $text),* }
            }
        }
    };
}

functions! {
    /// A scalar function of one argument.
    UnaryFn {
        /// −x. Integers wrap.
        Neg = "-",
        /// |x|. Integers wrap.
        Abs = "abs",
        /// −1, 0 or 1; NaN gives NaN; a zero keeps its sign.
        Sign = "sign",
        /// Greatest integer not above x.
        Floor = "floor",
        /// Least integer not below x.
        Ceil = "ceil",
        /// Nearest integer, ties to even.
        Round = "round",
        /// Towards zero.
        Trunc = "trunc",
        /// Square root, correctly rounded; NaN below 0.
        Sqrt = "sqrt",
        /// 1/√x as a division by the square root.
        Rsqrt = "rsqrt",
        /// 1/x.
        Reciprocal = "reciprocal",
        /// eˣ.
        Exp = "exp",
        /// Natural logarithm.
        Log = "log",
        /// ln(1 + x), accurate near 0.
        Log1p = "log1p",
        /// Sine of radians.
        Sin = "sin",
        /// Cosine of radians.
        Cos = "cos",
        /// Inverse tangent, −π/2 to π/2.
        Atan = "atan",
        /// Hyperbolic tangent.
        Tanh = "tanh",
        /// Error function, 2/√π ∫₀ˣ e^(−t²) dt.
        Erf = "erf",
        /// Logical not of `bool`, bitwise not of integers.
        Not = "!",
        /// Whether x is NaN.
        IsNan = "isnan",
    }
}

functions! {
    /// A scalar function of two arguments of one dtype.
    BinaryFn {
        /// Sum. Integers wrap.
        Add = "+",
        /// Difference. Integers wrap.
        Sub = "-",
        /// Product. Integers wrap.
        Mul = "*",
        /// Quotient; of integers towards zero, x/0 = 0 and the most negative number over −1 wraps.
        Div = "/",
        /// Remainder of the division towards zero (the sign of x, as C `fmod`); integers: x rem 0 = 0.
        Rem = "rem",
        /// x to the power y; of integers wrapping, a negative power truncated towards zero (0 to one is 0).
        Pow = "pow",
        /// Larger; NaN wins.
        Max = "max",
        /// Smaller; NaN wins.
        Min = "min",
        /// Equal.
        Eq = "==",
        /// Not equal.
        Ne = "!=",
        /// Less.
        Lt = "<",
        /// Less or equal.
        Le = "<=",
        /// Greater.
        Gt = ">",
        /// Greater or equal.
        Ge = ">=",
        /// Logical and of `bool`, bitwise and of integers.
        And = "&",
        /// Logical or of `bool`, bitwise or of integers.
        Or = "|",
        /// Exclusive or of `bool` or of the bits of integers.
        Xor = "^",
    }
}

impl BinaryFn {
    /// Whether the result is `bool` whatever the arguments are.
    pub const fn is_comparison(self) -> bool {
        matches!(self, BinaryFn::Eq | BinaryFn::Ne | BinaryFn::Lt | BinaryFn::Le | BinaryFn::Gt | BinaryFn::Ge)
    }

    /// Whether f(x, y) = f(y, x).
    pub const fn is_commutative(self) -> bool {
        use BinaryFn::*;
        matches!(self, Add | Mul | Max | Min | Eq | Ne | And | Or | Xor)
    }

    /// Whether the text form writes the function between its arguments.
    const fn is_infix(self) -> bool {
        !matches!(self, BinaryFn::Rem | BinaryFn::Pow | BinaryFn::Max | BinaryFn::Min)
    }
}

/// Index of a node of one [`ScalarExpr`].
pub type ScalarId = u32;

/// One step of a scalar expression; the ids are of earlier steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScalarNode {
    /// Argument `a{n}`.
    Arg(u32),
    /// A constant; its dtype is that of what it meets.
    Const(Real),
    /// f(x).
    Unary(UnaryFn, ScalarId),
    /// f(x, y).
    Binary(BinaryFn, ScalarId, ScalarId),
    /// `select(condition, then, otherwise)`.
    Select(ScalarId, ScalarId, ScalarId),
    /// Conversion: float to integer truncates and saturates, NaN gives 0; to `bool` is ≠ 0; else rounds to nearest even.
    Convert(DType, ScalarId),
}

/// A scalar expression; see the module page.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScalarExpr {
    nodes: Vec<ScalarNode>,
}

impl ScalarExpr {
    /// The expression `a0`.
    pub fn identity() -> ScalarExpr {
        ScalarExpr { nodes: vec![ScalarNode::Arg(0)] }
    }

    /// Parses `formula` with `names` for arguments 0, 1, … and `constants` for named constants.
    pub fn parse_named(
        formula: &str,
        names: &[&str],
        constants: &[(&str, f64)],
    ) -> Result<ScalarExpr, ParseScalarError> {
        parse::parse(formula, names, constants)
    }

    /// The nodes in definition order; the last is the result. Never empty.
    pub fn nodes(&self) -> &[ScalarNode] {
        &self.nodes
    }

    /// One more than the highest argument used.
    pub fn arity(&self) -> usize {
        self.nodes.iter().map(|n| if let ScalarNode::Arg(i) = n { *i as usize + 1 } else { 0 }).max().unwrap_or(0)
    }

    /// Whether this is just `a0`.
    pub fn is_identity(&self) -> bool {
        self.nodes == [ScalarNode::Arg(0)]
    }

    /// The expression with argument `i` replaced by `arguments[i]`, whose own arguments are renumbered
    /// by `renumber[i][j]`. Arguments beyond the list keep their number.
    pub fn substitute(&self, arguments: &[ScalarExpr], renumber: &[Vec<u32>]) -> ScalarExpr {
        let mut b = ScalarBuilder::default();
        let roots: Vec<ScalarId> = arguments
            .iter()
            .zip(renumber)
            .map(|(e, map)| b.splice(e, |b, i| b.arg(map.get(i as usize).copied().unwrap_or(i))))
            .collect();
        let root = b.splice(self, |b, i| match roots.get(i as usize) {
            Some(&r) => r,
            None => b.arg(i),
        });
        b.finish(root)
    }
}

/// Builds a [`ScalarExpr`], storing equal nodes once.
#[derive(Default)]
pub struct ScalarBuilder {
    nodes: Vec<ScalarNode>,
    ids: HashMap<ScalarNode, ScalarId>,
}

impl ScalarBuilder {
    /// The id of `node`, adding it if it is new.
    pub fn node(&mut self, node: ScalarNode) -> ScalarId {
        let next = self.nodes.len() as ScalarId;
        let nodes = &mut self.nodes;
        *self.ids.entry(node).or_insert_with(|| {
            nodes.push(node);
            next
        })
    }

    /// Argument `a{i}`.
    pub fn arg(&mut self, i: u32) -> ScalarId {
        self.node(ScalarNode::Arg(i))
    }

    /// A constant.
    pub fn constant(&mut self, v: f64) -> ScalarId {
        self.node(ScalarNode::Const(Real(v)))
    }

    /// Copies `expr` in, with `argument` giving the node for each of its arguments; returns its root.
    pub fn splice(
        &mut self,
        expr: &ScalarExpr,
        mut argument: impl FnMut(&mut ScalarBuilder, u32) -> ScalarId,
    ) -> ScalarId {
        let mut map: Vec<ScalarId> = Vec::with_capacity(expr.nodes.len());
        for node in &expr.nodes {
            let at = |i: ScalarId| map[i as usize];
            let id = match *node {
                ScalarNode::Arg(i) => argument(self, i),
                ScalarNode::Const(c) => self.node(ScalarNode::Const(c)),
                ScalarNode::Unary(f, x) => self.node(ScalarNode::Unary(f, at(x))),
                ScalarNode::Binary(f, x, y) => self.node(ScalarNode::Binary(f, at(x), at(y))),
                ScalarNode::Select(c, x, y) => self.node(ScalarNode::Select(at(c), at(x), at(y))),
                ScalarNode::Convert(d, x) => self.node(ScalarNode::Convert(d, at(x))),
            };
            map.push(id);
        }
        map.last().copied().unwrap_or(0)
    }

    /// The expression that computes `root`: only the nodes it needs, in a canonical order.
    pub fn finish(self, root: ScalarId) -> ScalarExpr {
        ScalarExpr { nodes: canonical::canonical(&self.nodes, root) }
    }
}

/// The nodes that `node` uses: a count and that many ids.
fn children(node: ScalarNode) -> (usize, [ScalarId; 3]) {
    match node {
        ScalarNode::Arg(_) | ScalarNode::Const(_) => (0, [0; 3]),
        ScalarNode::Unary(_, x) | ScalarNode::Convert(_, x) => (1, [x, 0, 0]),
        ScalarNode::Binary(_, x, y) => (2, [x, y, 0]),
        ScalarNode::Select(c, x, y) => (3, [c, x, y]),
    }
}

impl fmt::Display for ScalarExpr {
    /// The text form: steps used more than once are named first (`t0 = a0 + a1; max(t0, 0.0) * t0`), and so are some
    /// of a deep nest, which the parser bounds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX_NESTING: usize = 24;
        let mut uses = vec![0usize; self.nodes.len()];
        for &node in &self.nodes {
            let (count, kids) = children(node);
            for &k in &kids[..count] {
                uses[k as usize] += 1;
            }
        }
        let mut text: Vec<String> = Vec::with_capacity(self.nodes.len());
        let mut nesting: Vec<usize> = Vec::with_capacity(self.nodes.len());
        let mut named = 0;
        for (i, &node) in self.nodes.iter().enumerate() {
            let at = |id: ScalarId| text[id as usize].as_str();
            let (s, leaf) = match node {
                ScalarNode::Arg(n) => (format!("a{n}"), true),
                ScalarNode::Const(c) if c.0.is_sign_negative() && !c.0.is_nan() => (format!("({c})"), true),
                ScalarNode::Const(c) => (c.to_string(), true),
                ScalarNode::Unary(UnaryFn::Neg, x) => (format!("neg({})", at(x)), false),
                ScalarNode::Unary(UnaryFn::Not, x) => (format!("!{}", at(x)), false),
                ScalarNode::Unary(g, x) => (format!("{}({})", g.text(), at(x)), false),
                ScalarNode::Binary(g, x, y) if g.is_infix() => (format!("({} {} {})", at(x), g.text(), at(y)), false),
                ScalarNode::Binary(g, x, y) => (format!("{}({}, {})", g.text(), at(x), at(y)), false),
                ScalarNode::Select(c, x, y) => (format!("select({}, {}, {})", at(c), at(x), at(y)), false),
                ScalarNode::Convert(d, x) => (format!("{d}({})", at(x)), false),
            };
            let (count, kids) = children(node);
            let inside = kids[..count].iter().map(|&k| nesting[k as usize] + 1).max().unwrap_or(0);
            if !leaf && (uses[i] > 1 || uses[i] == 1 && inside >= MAX_NESTING) {
                write!(f, "t{named} = {s}; ")?;
                text.push(format!("t{named}"));
                nesting.push(0);
                named += 1;
            } else {
                text.push(s);
                nesting.push(inside);
            }
        }
        let result = text.last().map(String::as_str).unwrap_or_default();
        // The outermost parentheses of an infix result say nothing.
        let infix = matches!(self.nodes.last(), Some(ScalarNode::Binary(g, ..)) if g.is_infix());
        f.write_str(if infix { &result[1..result.len() - 1] } else { result })
    }
}
