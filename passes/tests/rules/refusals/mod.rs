//! Graphs that look like a rule's left side and violate its precondition: it must leave them alone.

mod bytes;
mod canonical;
mod fused;
mod recognised;
mod rewrites;

use crate::draw::Draw;

/// A rule, and a random graph that violates its precondition.
pub type Refusal = (&'static str, fn(&mut Draw));

pub fn all() -> impl Iterator<Item = &'static Refusal> {
    let canonical = canonical::REFUSALS.iter().chain(bytes::REFUSALS);
    canonical.chain(recognised::REFUSALS).chain(rewrites::REFUSALS).chain(fused::REFUSALS)
}
