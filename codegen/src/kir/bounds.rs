//! Ranges of affine indices over the loops and guards around them.

use super::index::{Index, Var};
use super::kernel::Kernel;

/// A closed interval; empty where `low > high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Smallest value.
    pub low: i128,
    /// Largest value.
    pub high: i128,
}

impl Interval {
    fn point(at: i64) -> Interval {
        Interval { low: at.into(), high: at.into() }
    }

    fn plus(self, other: Interval) -> Interval {
        Interval { low: self.low.saturating_add(other.low), high: self.high.saturating_add(other.high) }
    }

    fn times(self, factor: i64) -> Interval {
        let (a, b) = (self.low.saturating_mul(factor.into()), self.high.saturating_mul(factor.into()));
        Interval { low: a.min(b), high: a.max(b) }
    }

    fn intersect(self, other: Interval) -> Interval {
        Interval { low: self.low.max(other.low), high: self.high.min(other.high) }
    }

    fn is_empty(self) -> bool {
        self.low > self.high
    }
}

/// A linear form that conditionals around a statement keep inside an interval. The coefficients have no common
/// factor and the first is positive, so that the two sides of a guard (`x ≥ 0`, `n - 1 - x ≥ 0`) share one form.
#[derive(Clone, Debug)]
struct Guard {
    terms: Vec<(Var, i64)>,
    interval: Interval,
}

/// What is known about loop variables at one place of a kernel.
#[derive(Debug)]
pub struct Bounds<'k> {
    kernel: &'k Kernel,
    guards: Vec<Guard>,
}

/// Guards considered for one index: each doubles the work, and real kernels nest two or three forms.
const MAX_GUARDS: usize = 8;

impl<'k> Bounds<'k> {
    /// Knows the variables' extents only.
    pub fn new(kernel: &'k Kernel) -> Bounds<'k> {
        Bounds { kernel, guards: Vec::new() }
    }

    /// How much is known; [`forget`](Bounds::forget) goes back to it.
    pub fn mark(&self) -> usize {
        self.guards.len()
    }

    /// Forgets what was assumed since `mark`.
    pub fn forget(&mut self, mark: usize) {
        self.guards.truncate(mark);
    }

    /// Assumes `index ≥ 0`.
    pub fn assume_non_negative(&mut self, index: &Index) {
        let common = index.terms.iter().fold(0, |g, &(_, stride)| gcd(g, stride));
        let Some(&(_, first)) = index.terms.first() else {
            // a constant: nothing to learn, except that a negative one makes the branch dead
            let high = if index.offset < 0 { -1 } else { 0 };
            self.guards.push(Guard { terms: Vec::new(), interval: Interval { low: 0, high } });
            return;
        };
        let divisor = if first < 0 { -common } else { common };
        let terms: Vec<(Var, i64)> = index.terms.iter().map(|&(var, stride)| (var, stride / divisor)).collect();
        // common · (±form) + offset ≥ 0
        let limit = -(i128::from(index.offset)).div_euclid(common.into());
        let side = match first < 0 {
            false => Interval { low: limit, high: i128::MAX },
            true => Interval { low: i128::MIN, high: -limit },
        };
        // a form already known is narrowed by a new entry, so that forgetting stays a truncation
        let known = self.guards.iter().rev().find(|g| g.terms == terms).map(|g| g.interval);
        let known = known.unwrap_or_else(|| self.plain(&Index { terms: terms.clone(), ..Index::default() }));
        self.guards.push(Guard { terms, interval: known.intersect(side) });
    }

    /// Whether the assumptions contradict each other: the place is never reached.
    pub fn unreachable(&self) -> bool {
        self.guards.iter().any(|g| g.interval.is_empty())
    }

    /// Every value of `index` is in this interval.
    pub fn range(&self, index: &Index) -> Interval {
        let mut guards: Vec<&Guard> = Vec::new();
        for guard in self.guards.iter().rev() {
            if guards.len() < MAX_GUARDS && !guards.iter().any(|g| g.terms == guard.terms) {
                guards.push(guard);
            }
        }
        self.guarded(index, &guards)
    }

    /// The range by replacing guarded forms inside the index with their intervals, in all ways.
    fn guarded(&self, index: &Index, guards: &[&Guard]) -> Interval {
        let mut best = self.plain(index);
        for (at, guard) in guards.iter().enumerate() {
            let Some(&(var, unit)) = guard.terms.first() else {
                continue;
            };
            let stride = index.stride_of(var);
            if stride == 0 || stride % unit != 0 {
                continue;
            }
            let factor = stride / unit;
            let form = Index { terms: guard.terms.clone(), ..Index::default() } * factor;
            let rest = self.guarded(&(index - form), &guards[at + 1..]);
            best = best.intersect(guard.interval.times(factor).plus(rest));
        }
        best
    }

    fn plain(&self, index: &Index) -> Interval {
        let last = |extent: i64| Interval { low: 0, high: i128::from(extent) - 1 };
        let vars = index.terms.iter().map(|&(var, stride)| last(self.kernel.extent(var)).times(stride));
        let dynamic = index.dynamic.iter().map(|d| last(d.extent).times(d.stride));
        vars.chain(dynamic).fold(Interval::point(index.offset), Interval::plus)
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    match b {
        0 => a.wrapping_abs(),
        _ => gcd(b, a.wrapping_rem(b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kir::KernelBuilder;

    fn vars(extents: &[i64]) -> Kernel {
        let mut b = KernelBuilder::new("bounds");
        for &extent in extents {
            b.parallel(extent);
        }
        b.finish_unverified()
    }

    #[test]
    fn guards_narrow_an_index_that_contains_their_form() {
        // a padded convolution's row access: x[(2 oh + kh - 1) * 10 + ow], rows 0..=7 guarded
        let kernel = vars(&[4, 3, 10]);
        let (oh, kh, ow) = (Var(0), Var(1), Var(2));
        let row = oh * 2 + kh - 1;
        let mut bounds = Bounds::new(&kernel);
        let access = &row * 10 + ow;
        assert_eq!(bounds.range(&access), Interval { low: -10, high: 79 });
        bounds.assume_non_negative(&row);
        assert_eq!(bounds.range(&access), Interval { low: 0, high: 79 });
        let mark = bounds.mark();
        bounds.assume_non_negative(&(Index::constant(4) - &row));
        assert_eq!(bounds.range(&access), Interval { low: 0, high: 49 });
        bounds.forget(mark);
        assert_eq!(bounds.range(&access), Interval { low: 0, high: 79 });
    }

    #[test]
    fn contradicting_guards_make_a_place_unreachable() {
        let kernel = vars(&[4]);
        let mut bounds = Bounds::new(&kernel);
        bounds.assume_non_negative(&(Var(0) - 2));
        assert!(!bounds.unreachable());
        bounds.assume_non_negative(&(Index::constant(1) - Var(0)));
        assert!(bounds.unreachable());
    }
}
