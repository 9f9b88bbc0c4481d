//! What is asked for ahead of time.

use super::dealing::CACHED_WEIGHTS;
use super::loops::Emitter;
use crate::kir::Index;

/// Largest panel that is asked for ahead: two of them stay in the second-level cache. Deeper products are summed in parts.
pub(super) const MOST_PANEL: i64 = 200 << 10;
/// Fewest passes of a product over a panel among which asking for the next one is divided: in fewer it gets in the way of
/// loads. (The frequencies of Winograd's algorithm have so few that it pays from the first.)
pub(super) const FEWEST_PASSES: i64 = 3;
/// Most passes over a panel among which the next panel is divided.
const MOST_PARTS: i64 = 32;
/// Bytes of a cache line.
pub(super) const LINE: i64 = 64;

/// Iterations of the loops around the rows of a panel.
#[derive(Clone)]
pub(super) struct Turns {
    pub(super) count: i64,
    pub(super) done: Index,
}

impl Turns {
    pub(super) fn once() -> Turns {
        Turns { count: 1, done: Index::constant(0) }
    }
}

/// What a pass over a panel of weights asks for meanwhile: its share of the next panel.
pub(super) struct Ahead {
    /// Where the panel starts.
    panel: Index,
    /// Where the share starts.
    share: Index,
    /// How many shares the next panel has, a power of two.
    pub(super) parts: i64,
}

impl Ahead {
    /// What corresponds to a place of the panel in the share.
    pub(super) fn place(&self, at: &Index) -> Index {
        let mut moved = at - self.panel.clone();
        moved.terms.iter_mut().for_each(|(_, stride)| *stride /= self.parts);
        moved.offset /= self.parts;
        moved + &self.share
    }
}

impl Emitter<'_> {
    /// What pass number `pass` of `passes` over a panel asks for, where weights are too many for the cache.
    pub(super) fn ahead(&self, at: &[Index], passes: i64, pass: &Index, width: u32) -> Option<Ahead> {
        let tile = self.tile;
        if !tile.panels {
            return None;
        }
        let size = tile.buffers[2].dtype.size() as i64;
        let depth = tile.depth();
        let parts = (1 << passes.ilog2()).min(MOST_PARTS).min(i64::from(width));
        let large = tile.buffers[2].len * size > CACHED_WEIGHTS;
        // where sums cannot wait for other rows, the panel must be asked for whole
        let most_panel = if self.turns.count > 1 { 2 * MOST_PANEL } else { MOST_PANEL };
        let worth = large
            && depth * i64::from(width) * size <= most_panel
            && (self.fewest_passes..=2 * MOST_PARTS).contains(&passes)
            && i64::from(width) % parts == 0;
        worth.then(|| {
            let panel = at[2].clone();
            let length = depth * i64::from(width);
            let share = &panel + length + pass * (length / parts);
            Ahead { panel, share, parts }
        })
    }
}
