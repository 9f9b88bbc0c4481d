//! Whether a convolution is better computed by Winograd's minimal filtering, and with which tiles.

use super::super::machine::Machine;
use super::cook_toom::CookToom;

/// What the decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// Images.
    pub batch: usize,
    /// Rows and columns of results.
    pub results: [usize; 2],
    /// Rows and columns of taps.
    pub taps: usize,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
}

/// Multiply-adds per nanosecond of one core, in 512-bit code: a little less than the machines measured have.
const FMA_PER_NS: f64 = 64.0;
/// Share of that which a direct convolution reaches.
const DIRECT: f64 = 0.90;
/// Share of that which the products of the frequencies reach with tiles enough.
const FREQUENCIES: f64 = 0.82;
/// Bytes per nanosecond at which transforms move tiles, and at which transformed filters come from the last cache.
const TRANSFORM_BYTES_PER_NS: f64 = 50.0;
/// See [`TRANSFORM_BYTES_PER_NS`].
const FILTER_BYTES_PER_NS: f64 = 25.0;
/// Winograd must win by so much: its arithmetic is less exact.
const MARGIN: f64 = 0.92;
/// Bytes of transformed tiles that should stay in the second-level cache.
const BLOCK_BYTES: usize = 1 << 20;
/// Tiles of a block: fewer and the filters are read too often, more and nothing is gained.
const BLOCK_TILES: std::ops::RangeInclusive<usize> = 14..=56;

/// A way to compute a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The transforms, alike along both axes.
    pub transform: CookToom,
    /// Tiles of all images.
    pub tiles: usize,
    /// Blocks into which they are dealt.
    pub blocks: usize,
}

impl Choice {
    /// Tiles of a block; the last block may have some that count for nothing.
    pub fn block_tiles(&self) -> usize {
        self.tiles.div_ceil(self.blocks)
    }
}

/// The best Winograd algorithm for a layer; `None` where a direct convolution is better.
pub fn choose(layer: Layer, machine: Machine) -> Option<Choice> {
    // narrower registers are too few for the transforms
    if machine.vector_bytes < 64 || layer.inputs < 16 || layer.outputs < 16 {
        return None;
    }
    let pixels = layer.batch * layer.results[0] * layer.results[1];
    let channels = layer.inputs as f64 * layer.outputs as f64;
    let direct = pixels as f64 * channels * (layer.taps * layer.taps) as f64 / (FMA_PER_NS * DIRECT);
    let sizes: &[usize] = match layer.taps {
        3 => &[2, 4, 6],
        5 => &[2, 4],
        _ => return None,
    };
    let candidates = sizes.iter().filter_map(|&m| {
        let transform = CookToom::new(m, layer.taps)?;
        let tiles = layer.batch * layer.results[0].div_ceil(m) * layer.results[1].div_ceil(m);
        let squared = transform.products() * transform.products();
        let per_tile = squared * (layer.inputs + layer.outputs) * 4;
        let most = (BLOCK_BYTES / per_tile).clamp(*BLOCK_TILES.start(), *BLOCK_TILES.end());
        let blocks = tiles.div_ceil(most);
        // an even number of blocks keeps two threads busy
        let blocks = if blocks > 1 && blocks < 16 && tiles >= 2 * blocks { blocks.next_multiple_of(2) } else { blocks };
        let choice = Choice { transform, tiles, blocks };
        let rows = choice.block_tiles();
        let arithmetic =
            (blocks * rows * squared) as f64 * channels / (FMA_PER_NS * FREQUENCIES * (rows as f64 / 8.0).min(1.0));
        let filters = blocks as f64 * squared as f64 * channels * 4.0 / FILTER_BYTES_PER_NS;
        let transforms = 2.0 * (tiles * per_tile) as f64 / TRANSFORM_BYTES_PER_NS;
        Some((arithmetic.max(filters) + transforms, choice))
    });
    let (time, choice) = candidates.min_by(|a, b| a.0.total_cmp(&b.0))?;
    (time < MARGIN * direct).then_some(choice)
}
