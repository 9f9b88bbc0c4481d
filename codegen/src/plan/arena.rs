//! Where intermediate values lie: offsets such that no two values live at once overlap, in little memory.

use kiln_runtime::ALIGNMENT;

/// A value's life: the steps that first write and last touch it, and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// First step.
    pub first: usize,
    /// Last step, inclusive.
    pub last: usize,
    /// Size in bytes.
    pub bytes: usize,
}

/// Offsets for lives, and what they add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// First byte of each life's memory, aligned to [`ALIGNMENT`].
    pub offsets: Vec<usize>,
    /// Size of the arena.
    pub bytes: usize,
    /// The most bytes live at one step: no layout is smaller.
    pub lower_bound: usize,
}

/// What values are ordered by, greatest first.
type Key<'a> = &'a dyn Fn(&Life) -> (usize, usize);

/// Lays out `lives`: the best of several greedy orders, each putting a value into a gap that holds it among the values
/// already placed that live at the same time (the smallest one, or the first).
pub fn lay_out(lives: &[Life]) -> Layout {
    let crowd = crowd(lives);
    let lower_bound = crowd.iter().copied().max().unwrap_or(0);
    let most = |life: &Life| (life.first..=life.last).map(|s| crowd[s]).max().unwrap_or(0);
    let span = |life: &Life| life.last - life.first + 1;
    // what each order puts first: large values; those of the most crowded steps; large and long-lived ones; long-lived
    // ones; early ones
    let keys: [Key<'_>; 5] = [
        &|life| (life.bytes, 0),
        &|life| (most(life), life.bytes),
        &|life| (life.bytes.saturating_mul(span(life)), 0),
        &|life| (span(life), life.bytes),
        &|life| (usize::MAX - life.first, life.bytes),
    ];
    let mut best: Option<(Vec<usize>, usize)> = None;
    let mut best_order = Vec::new();
    for key in keys {
        let mut order: Vec<usize> = (0..lives.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(key(&lives[i])), lives[i].first, i));
        for tight in [true, false] {
            if best.as_ref().is_some_and(|b| b.1 == lower_bound) {
                break;
            }
            let layout = place(lives, &order, tight);
            if best.as_ref().is_none_or(|b| layout.1 < b.1) {
                best = Some(layout);
                best_order.clone_from(&order);
            }
        }
    }
    let (offsets, bytes) = improve(lives, best_order, best.unwrap_or_default(), lower_bound);
    Layout { offsets, bytes, lower_bound }
}

/// Places that are compared in all repairs of one layout, roughly: what bounds the time on large graphs.
const REPAIR_WORK: usize = 4_000_000;

/// Repairs a layout: the value that reaches highest is placed first, again and again, while that helps.
fn improve(
    lives: &[Life],
    mut order: Vec<usize>,
    (mut offsets, mut bytes): (Vec<usize>, usize),
    lower_bound: usize,
) -> (Vec<usize>, usize) {
    let rounds = (REPAIR_WORK / (lives.len() * lives.len()).max(1)).min(64);
    let mut last = offsets.clone();
    for _ in 0..rounds {
        if bytes == lower_bound {
            break;
        }
        let top = |&i: &usize| (last[i] + aligned(lives[i].bytes), i);
        let Some(at) = (0..order.len()).max_by_key(|&at| top(&order[at])) else { break };
        order[..=at].rotate_right(1);
        let (next, size) = place(lives, &order, true);
        if size < bytes {
            (offsets, bytes) = (next.clone(), size);
        }
        last = next;
    }
    (offsets, bytes)
}

fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

/// Bytes live at each step.
fn crowd(lives: &[Life]) -> Vec<usize> {
    let steps = lives.iter().map(|l| l.last + 1).max().unwrap_or(0);
    let mut crowd = vec![0usize; steps];
    for life in lives {
        for live in crowd.iter_mut().take(life.last + 1).skip(life.first) {
            *live += aligned(life.bytes);
        }
    }
    crowd
}

/// Offsets in this order, and what they add up to; `tight` takes the smallest gap that fits instead of the first.
fn place(lives: &[Life], order: &[usize], tight: bool) -> (Vec<usize>, usize) {
    let mut offsets = vec![0usize; lives.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(lives.len());
    let mut total = 0;
    for &index in order {
        let life = lives[index];
        let size = aligned(life.bytes);
        let mut around: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&p| lives[p].first <= life.last && life.first <= lives[p].last)
            .map(|&p| (offsets[p], offsets[p] + aligned(lives[p].bytes)))
            .collect();
        around.sort_unstable();
        let (mut free_from, mut best): (usize, Option<(usize, usize)>) = (0, None);
        for (start, end) in around {
            let gap = start.saturating_sub(free_from);
            if gap >= size && best.is_none_or(|(smallest, _)| tight && gap < smallest) {
                best = Some((gap, free_from));
            }
            free_from = free_from.max(end);
        }
        let offset = best.map_or(free_from, |(_, at)| at);
        offsets[index] = offset;
        total = total.max(offset + size);
        placed.push(index);
    }
    (offsets, total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn life(first: usize, last: usize, bytes: usize) -> Life {
        Life { first, last, bytes }
    }

    #[test]
    fn a_chain_needs_two_neighbours() {
        let layout = lay_out(&[life(0, 1, 640), life(1, 2, 64), life(2, 3, 640), life(3, 4, 64)]);
        assert_eq!(layout.bytes, 704);
        assert_eq!(layout.lower_bound, 704);
    }

    #[test]
    fn nothing_needs_no_memory() {
        assert_eq!(lay_out(&[]), Layout { offsets: vec![], bytes: 0, lower_bound: 0 });
    }

    proptest! {
        #[test]
        fn values_that_live_together_do_not_overlap(
            lives in proptest::collection::vec((0usize..30, 0usize..6, 0usize..5000), 0..60)
        ) {
            let lives: Vec<Life> = lives.into_iter().map(|(f, n, b)| life(f, f + n, b)).collect();
            let layout = lay_out(&lives);
            prop_assert!(layout.bytes >= layout.lower_bound);
            for (i, a) in lives.iter().enumerate() {
                prop_assert_eq!(layout.offsets[i] % ALIGNMENT, 0);
                prop_assert!(layout.offsets[i] + a.bytes <= layout.bytes);
                for (j, b) in lives.iter().enumerate().skip(i + 1) {
                    let together = a.first <= b.last && b.first <= a.last && a.bytes > 0 && b.bytes > 0;
                    let (x, y) = (layout.offsets[i], layout.offsets[j]);
                    prop_assert!(!together || x + a.bytes <= y || y + b.bytes <= x);
                }
            }
        }
    }
}
