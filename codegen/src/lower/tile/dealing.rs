//! How a nest is dealt out: to threads, and in pieces that stay in caches.

use super::ahead::MOST_PANEL;
use super::{Combine, Guard, Tile};
use crate::lower::nest::volume;
use kiln_ir::DType;

/// Rows that share a block of columns before the next block is taken, so that they stay in the second-level cache.
pub const ROW_CHUNK: i64 = 48;
/// Parallel iterations below which blocks of columns are made parallel too.
pub const ENOUGH_PARALLEL: i64 = 8;
/// Most groups of blocks of columns: the rows are read again for each.
const MOST_GROUPS: i64 = 8;
/// Bytes of packed weights that fit beside everything else into the second-level cache: larger ones are asked for ahead.
pub(super) const CACHED_WEIGHTS: i64 = 512 << 10;
/// Bytes of rows that stay in the second-level cache while the panels of all weights pass.
const CACHED_ROWS: i64 = 512 << 10;
/// Most of a panel that a product of a single depth loop goes over at once, if it is cut at all: the first-level cache keeps it.
const NEAR_PANEL: i64 = 50 << 10;
/// Most bytes of sums that are kept between the parts of a deep product.
const MOST_PARTIAL: i64 = 64 << 10;

impl Tile {
    /// Into how many parts the outermost reduction loop is cut, so that the panel of a part is small enough to be asked for
    /// ahead while all `rows` go over the one before. Weights that are read once are not worth it.
    pub(super) fn depth_parts(&self, rows: i64) -> i64 {
        let outermost = match self.reduce.first() {
            Some(axis) if self.columns_first && self.panels && self.guards.is_empty() && self.is_uniform() => {
                axis.extent
            }
            _ => return 1,
        };
        let bytes = |dtype: DType, n: i64| n * i64::from(self.lanes) * dtype.size() as i64;
        let (panel, sums) = (bytes(self.buffers[2].dtype, self.depth()), bytes(self.accumulator, rows));
        let again = (rows > self.row.extent || rows > self.rows)
            && sums <= MOST_PARTIAL
            && !matches!(self.combine, Combine::Fold { .. });
        let fits = |most: i64| move |parts: &i64| outermost % parts == 0 && panel / parts <= most;
        if !again || panel <= MOST_PANEL {
            return 1;
        }
        let mut counts = 2..=outermost.min(16);
        let near = if self.reduce.len() == 1 { counts.clone().find(fits(NEAR_PANEL)) } else { None };
        near.or_else(|| counts.find(fits(MOST_PANEL))).unwrap_or(1)
    }

    /// Whether all steps of the outermost reduction loop are alike.
    fn is_uniform(&self) -> bool {
        self.reduce.len() > 1 || !matches!(self.combine, Combine::DotBytes { overlap: 1.. })
    }

    /// Rows of a product that take all blocks of columns before the next rows come, so that they stay in the second-level cache, where
    /// blocks of columns come first; all of them where the cache keeps them anyway, or where they are no single run.
    pub(super) fn row_chunk(&self) -> i64 {
        let rows = self.row.extent;
        let single = self.reduce.len() == 1 && self.guards.is_empty() && self.outer.iter().all(|a| a.strides[2] != 0);
        let row = self.depth() * self.buffers[1].dtype.size() as i64;
        let chunks = (rows * row - 1) / CACHED_ROWS + 1;
        if single && self.panels { ((rows - 1) / chunks + 1).max(self.rows) } else { rows }
    }

    /// How rows and columns are dealt to threads where rows are many.
    pub(super) fn chunks(&self) -> Chunks {
        let tiles = (ROW_CHUNK / self.rows).max(1);
        let blocks = self.column.extent / i64::from(self.lanes);
        let weights = match self.inputs {
            2 => self.depth() * self.column.extent * self.buffers[2].dtype.size() as i64,
            _ => 0,
        };
        let units = volume(&self.outer) * ((self.row.extent - 1) / (tiles * self.rows) + 1);
        let fits = |groups: &i64| {
            blocks % groups == 0 && units * groups >= ENOUGH_PARALLEL && weights / groups <= CACHED_WEIGHTS
        };
        let even = self.column.extent % i64::from(self.lanes) == 0;
        let groups = if even { (1..=MOST_GROUPS).find(fits).unwrap_or(1) } else { 1 };
        // of two threads the first has as many chunks as the second, or one more
        let longest = |rows: i64| {
            let chunks = volume(&self.outer) * groups * ((self.row.extent - 1) / rows + 1);
            (chunks + 1) / 2 * rows
        };
        let rows = ((tiles + 1) / 2..=tiles).rev().map(|tiles| tiles * self.rows).min_by_key(|&rows| longest(rows));
        Chunks { groups, rows: rows.unwrap_or(self.rows) }
    }

    /// The rows as runs of (first, count, whether guards that move with rows must be asked).
    pub(super) fn segments(&self) -> Vec<(i64, i64, bool)> {
        let extent = self.row.extent;
        let Some(guard) = self.row_guard() else { return vec![(0, extent, false)] };
        let at = self.buffers.len() + guard;
        let (stride, Guard { extent: limit, start }) = (self.row.strides[at], self.guards[guard]);
        let reach: i64 = self.reduce.iter().map(|a| a.strides[at] * (a.extent - 1)).sum();
        let simple = stride > 0 && self.outer.iter().all(|a| a.strides[at] == 0);
        if !simple {
            return vec![(0, extent, true)];
        }
        let low = (-start + stride - 1).div_euclid(stride).clamp(0, extent);
        let high = ((limit - 1 - reach - start).div_euclid(stride) + 1).clamp(low, extent);
        let all = [(0, low, true), (low, high - low, false), (high, extent - high, true)];
        all.into_iter().filter(|&(_, count, _)| count > 0).collect()
    }
}

/// How rows and columns are dealt to threads.
pub(super) struct Chunks {
    /// Groups of blocks of columns: each goes over all rows before the next one comes, so that its weights stay in the second-level cache.
    pub(super) groups: i64,
    /// Rows of a chunk, which share a block of columns before the next block is taken.
    pub(super) rows: i64,
}

/// `count` rows as (tiles of n rows, n), in at most `most` rows a tile and as evenly as possible.
pub(super) fn balanced(count: i64, most: i64) -> Vec<(i64, i64)> {
    let tiles = (count + most - 1) / most;
    if tiles == 0 {
        return Vec::new();
    }
    let big = (count + tiles - 1) / tiles;
    let small_tiles = tiles * big - count;
    [(tiles - small_tiles, big), (small_tiles, big - 1)].into_iter().filter(|&(n, rows)| n > 0 && rows > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::balanced;

    #[test]
    fn rows_are_dealt_out_evenly() {
        assert_eq!(balanced(7, 4), [(1, 4), (1, 3)]);
        assert_eq!(balanced(13, 4), [(1, 4), (3, 3)]);
        assert_eq!(balanced(12, 4), [(3, 4)]);
        assert_eq!(balanced(1, 4), [(1, 1)]);
        assert_eq!(balanced(0, 4), []);
        for count in 1..60 {
            for most in 1..9 {
                let dealt = balanced(count, most);
                assert_eq!(dealt.iter().map(|(n, rows)| n * rows).sum::<i64>(), count);
                assert!(dealt.iter().all(|&(_, rows)| rows <= most));
            }
        }
    }
}
