//! Finding faults of Kiln itself: whether a compiled graph computes what the graph means, which firing of which rule
//! changes the result, and which small graph still shows it.
//!
//! ```text
//! Graph ──interpreter──► Reference ─┐
//!   └──passes, code──► results ─────┴─► Verdict ──► bisect: the pass, the rule, the firing
//!                                          └──────► reduce: a graph of a few nodes with the same fault
//! ```
//!
//! The oracle is the reference interpreter on the graph before any pass. A [`Trial`] holds what a comparison needs: the
//! passes (others than Kiln's own, where a test wants a fault to find), options, feeds and a tolerance. Everything is a
//! function of its arguments: the same graph and seed give the same verdict, culprit and reduced graph.

pub mod agreement;
pub mod bisect;
pub mod reduce;
pub mod trial;

pub use agreement::{Difference, Results, default_tolerance, largest_difference};
pub use bisect::{Blame, Cause, Culprit, Finding, Step, bisect};
pub use reduce::{Fault, Progress, Reduction, reduce};
pub use trial::{Reference, Trial, Verdict};
