//! Choices between ways to compute a layer: the lowering's estimate, or what somebody measured.
//!
//! A *layer* is a convolution or a matrix product, known by its text ([`Decision::layer`]): op, attributes, types. Lowering decides each one
//! by an analytic estimate unless [`Choices`] know the layer. Every decision is on record with its alternatives
//! ([`CompiledModule::decisions`](crate::CompiledModule::decisions)), which is what a tuner tries, and why it was taken is part of the plan's step.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use kiln_ir::NodeId;
use serde::{Deserialize, Serialize};

/// A way to compute a layer. All give the same sums but for rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "algorithm")]
pub enum Algorithm {
    /// By its definition, in register tiles.
    Direct(Blocking),
    /// Winograd's minimal filtering.
    Winograd(Tiling),
}

/// How a product is cut into pieces that fit registers and caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blocking {
    /// Rows of a register tile, at most.
    pub rows: u32,
    /// Vectors of columns of a register tile.
    pub vectors: u32,
    /// Whether a block of columns takes all rows before the next block comes: weights are read once, rows again and again.
    pub columns_first: bool,
}

/// The size of Winograd's transforms, and how their tiles are dealt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tiling {
    /// Results of a tile along an axis.
    pub results: usize,
    /// Taps along an axis.
    pub taps: usize,
    /// Blocks of tiles.
    pub blocks: usize,
    /// Parts of the output channels that are computed independently.
    pub parts: usize,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Algorithm::Direct(b) => {
                let first = if b.columns_first { "columns" } else { "rows" };
                write!(f, "direct, tiles of {} rows × {} vectors, {first} first", b.rows, b.vectors)
            }
            Algorithm::Winograd(t) => {
                write!(
                    f,
                    "Winograd F({},{}), {} block{}",
                    t.results,
                    t.taps,
                    t.blocks,
                    if t.blocks == 1 { "" } else { "s" }
                )?;
                if t.parts > 1 { write!(f, " × {} parts of the channels", t.parts) } else { Ok(()) }
            }
        }
    }
}

/// What measuring a layer has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurement {
    /// The fastest way.
    pub algorithm: Algorithm,
    /// Its time in nanoseconds.
    pub nanoseconds: u64,
    /// The way the lowering estimates to be fastest.
    pub estimated: Algorithm,
    /// That one's time in nanoseconds.
    pub estimated_nanoseconds: u64,
}

/// What is known about layers, by their text. Empty by default: every layer is estimated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    by_layer: BTreeMap<String, Choice>,
}

/// What is known about a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Compute it so, whatever the reason.
    Prescribed(Algorithm),
    /// It was measured.
    Measured(Measurement),
}

impl Choice {
    /// The way to take.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Choice::Prescribed(algorithm) => *algorithm,
            Choice::Measured(measurement) => measurement.algorithm,
        }
    }
}

impl Choices {
    /// Makes `choice` the one for `layer`.
    pub fn insert(&mut self, layer: impl Into<String>, choice: Choice) {
        self.by_layer.insert(layer.into(), choice);
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.by_layer.is_empty()
    }

    /// What is known about `layer`. It may come from a file: lowering follows it only where it is one of the layer's own candidates.
    pub fn get(&self, layer: &str) -> Option<Choice> {
        self.by_layer.get(layer).copied()
    }
}

/// How one node is computed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The node of the compiled graph.
    pub node: NodeId,
    /// Op, attributes and types.
    pub layer: String,
    /// The way taken.
    pub algorithm: Algorithm,
    /// What was known, if that decided.
    pub choice: Option<Choice>,
    /// A way that was known but is none of the layer's.
    pub passed_over: Option<Algorithm>,
    /// All ways.
    pub candidates: Vec<Algorithm>,
    /// Steps of the plan that compute the node, with copies of its operands that it needs.
    pub steps: Range<usize>,
}

impl Decision {
    /// The way and the reason for it, for people.
    pub fn note(&self) -> String {
        let milliseconds = |nanoseconds: u64| nanoseconds as f64 / 1e6;
        let why = match &self.choice {
            None => match &self.passed_over {
                None => "estimated".to_owned(),
                Some(way) => format!("estimated, for what was known is no way of this layer ({way})"),
            },
            Some(Choice::Prescribed(_)) => "prescribed".to_owned(),
            Some(Choice::Measured(m)) if m.algorithm == m.estimated => {
                format!("measured: {:.3} ms, as estimated", milliseconds(m.nanoseconds))
            }
            Some(Choice::Measured(m)) => format!(
                "measured: {:.3} ms, against {:.3} ms of the estimate's choice ({})",
                milliseconds(m.nanoseconds),
                milliseconds(m.estimated_nanoseconds),
                m.estimated
            ),
        };
        format!("{}; {why}", self.algorithm)
    }
}
