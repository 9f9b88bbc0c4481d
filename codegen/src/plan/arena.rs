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

/// Lays out `lives`: the best of two greedy orders (largest first; from the most crowded step outwards), each putting a
/// value into the smallest gap that holds it among the values already placed that live at the same time.
pub fn lay_out(lives: &[Life]) -> Layout {
    let lower_bound = lower_bound(lives);
    let by_size = place(lives, &order_by_size(lives));
    let chosen = if by_size.1 == lower_bound {
        by_size
    } else {
        let by_crowd = place(lives, &order_by_crowd(lives));
        if by_crowd.1 < by_size.1 { by_crowd } else { by_size }
    };
    Layout { offsets: chosen.0, bytes: chosen.1, lower_bound }
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

fn lower_bound(lives: &[Life]) -> usize {
    crowd(lives).into_iter().max().unwrap_or(0)
}

fn order_by_size(lives: &[Life]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(lives[i].bytes), lives[i].first, i));
    order
}

fn order_by_crowd(lives: &[Life]) -> Vec<usize> {
    let crowd = crowd(lives);
    let most = |life: &Life| (life.first..=life.last).map(|s| crowd[s]).max().unwrap_or(0);
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse((most(&lives[i]), lives[i].bytes)), lives[i].first, i));
    order
}

fn place(lives: &[Life], order: &[usize]) -> (Vec<usize>, usize) {
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
            if gap >= size && best.is_none_or(|(smallest, _)| gap < smallest) {
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
