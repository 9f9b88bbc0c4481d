//! Whether a convolution is better computed by Winograd's minimal filtering, and with which tiles.

use super::super::machine::Machine;
use super::cook_toom::CookToom;
use super::product_shape;
use crate::tuning::{Algorithm, Tiling};

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

/// Multiply-adds per nanosecond of one core for each byte of its vectors: the lower end of the machines measured.
const FMA_PER_NS: f64 = 1.0;
/// Share of that which a direct convolution reaches.
const DIRECT: f64 = 0.90;
/// Share of that which the products of the frequencies reach with tiles enough.
const FREQUENCIES: f64 = 0.85;
/// Bytes per nanosecond at which filters come from the last cache or from memory.
const FILTER_BYTES_PER_NS: f64 = 16.0;
/// The same of a direct convolution, which goes through its filter once.
const DIRECT_FILTER_BYTES_PER_NS: f64 = 9.0;
/// Bytes of transformed filters that the next block still finds in the second-level cache, at [`CACHED_BYTES_PER_NS`].
const CACHED_FILTERS: f64 = 1_100_000.0;
/// Bytes per nanosecond at which transforms move tiles that stay in the second-level cache, and others.
const CACHED_BYTES_PER_NS: f64 = 50.0;
/// See [`CACHED_BYTES_PER_NS`].
const TILE_BYTES_PER_NS: f64 = 18.0;
/// Winograd must win by so much: its arithmetic is less exact.
const MARGIN: f64 = 0.92;
/// Bytes of transformed tiles that stay in the second-level cache.
const CACHED: usize = 1_200_000;
/// Ways to deal the tiles of one size of transform that are worth trying.
const ALTERNATIVES: usize = 4;
/// Most tiles of a block.
const MOST_TILES: usize = 112;

/// A way to compute a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The transforms, alike along both axes.
    pub transform: CookToom,
    /// Tiles of all images.
    pub tiles: usize,
    /// Blocks into which they are dealt.
    pub blocks: usize,
    /// Parts of the output channels that are computed independently, so that two threads have something to do: each
    /// transforms the input for itself.
    pub parts: usize,
}

impl Choice {
    /// The same as data.
    pub fn algorithm(&self) -> Algorithm {
        let CookToom { m, r, .. } = self.transform;
        Algorithm::Winograd(Tiling { results: m, taps: r, blocks: self.blocks, parts: self.parts })
    }

    /// Tiles of a block; the last block may have some that count for nothing.
    pub fn block_tiles(&self) -> usize {
        self.tiles.div_ceil(self.blocks)
    }
}

/// The best Winograd algorithm for a layer, and whether it is estimated to be better than a direct convolution; `None` where there is none.
pub fn choose(layer: Layer, machine: Machine) -> Option<(Choice, bool)> {
    let weighed = |choice: Choice| (weight(&layer, machine, &choice), choice);
    let (time, choice) =
        sizes(&layer, machine).flat_map(|t| dealings(layer, t)).map(weighed).min_by(|a, b| a.0.total_cmp(&b.0))?;
    Some((choice, time < MARGIN * direct(&layer, machine)))
}

/// The Winograd algorithms worth trying on a layer: of each size of transform the best and its best neighbours, which have fewer
/// or more blocks by a third at least.
pub fn alternatives(layer: Layer, machine: Machine) -> Vec<Choice> {
    let mut kept: Vec<Choice> = Vec::new();
    for transform in sizes(&layer, machine) {
        let mut all: Vec<(f64, Choice)> =
            dealings(layer, transform).map(|c| (weight(&layer, machine, &c), c)).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut of_size: Vec<Choice> = Vec::new();
        for (_, choice) in all {
            let apart = |other: &Choice| {
                let [few, many] = [choice.blocks.min(other.blocks), choice.blocks.max(other.blocks)];
                3 * many >= 4 * few
            };
            if of_size.len() < ALTERNATIVES && of_size.iter().all(apart) {
                of_size.push(choice);
            }
        }
        kept.append(&mut of_size);
    }
    kept
}

/// The transforms that a layer may be computed with.
fn sizes(layer: &Layer, machine: Machine) -> impl Iterator<Item = CookToom> {
    let sizes: &[usize] = match layer.taps {
        // 128-bit vectors are too slow for the transforms
        _ if machine.vector_bytes < 32 || layer.inputs < 16 || layer.outputs < 16 => &[],
        3 => &[2, 4, 6],
        5 => &[2, 4],
        _ => &[],
    };
    let taps = layer.taps;
    sizes.iter().filter_map(move |&m| CookToom::new(m, taps))
}

/// The ways to deal the tiles of a transform to blocks.
fn dealings(layer: Layer, transform: CookToom) -> impl Iterator<Item = Choice> {
    let m = transform.m;
    let tiles = layer.batch * layer.results[0].div_ceil(m) * layer.results[1].div_ceil(m);
    let counts = (tiles.div_ceil(MOST_TILES)..=tiles).take_while(move |&blocks| tiles / blocks >= 6 || blocks == 1);
    counts.take(64).map(move |blocks| {
        // blocks for two threads, or parts of channels
        let parts = if blocks % 2 == 1 && blocks < 8 && layer.outputs.is_multiple_of(64) { 2 } else { 1 };
        Choice { transform: transform.clone(), tiles, blocks, parts }
    })
}

/// What a choice is compared by.
fn weight(layer: &Layer, machine: Machine, choice: &Choice) -> f64 {
    time(layer, machine, choice) * on_two_threads(choice)
}

/// How much worse a choice is for leaving one of two threads without work: one choice serves any number of threads, so
/// one thread and two count alike (the root of the ratio is its geometric mean with 1). Direct convolutions share well.
fn on_two_threads(choice: &Choice) -> f64 {
    let units = choice.blocks * choice.parts;
    (2.0 * units.div_ceil(2) as f64 / units as f64).sqrt()
}

/// Multiply-adds per nanosecond of one core.
fn fma_per_ns(machine: Machine) -> f64 {
    FMA_PER_NS * f64::from(machine.vector_bytes)
}

/// Nanoseconds of a direct convolution on one thread.
fn direct(layer: &Layer, machine: Machine) -> f64 {
    let pixels = layer.batch * layer.results[0] * layer.results[1];
    let filter = (layer.taps * layer.taps * layer.inputs * layer.outputs) as f64;
    pixels as f64 * filter / (fma_per_ns(machine) * DIRECT) + filter * 4.0 / DIRECT_FILTER_BYTES_PER_NS
}

/// Nanoseconds of a choice on one thread.
fn time(layer: &Layer, machine: Machine, choice: &Choice) -> f64 {
    let frequencies = choice.transform.products() * choice.transform.products();
    let (inputs, outputs) = (layer.inputs as f64, layer.outputs as f64);
    let rows = choice.block_tiles();
    let computed = (choice.blocks * rows * frequencies) as f64;
    // a register tile of fewer rows than it could have reads a column of weights for less; five in seven are enough
    let (_, tall) = product_shape(machine);
    let passes = rows.div_ceil(tall as usize);
    let efficiency = FREQUENCIES * (rows as f64 / passes as f64 / (tall as f64 * 5.0 / 7.0)).min(1.0);
    let arithmetic = computed * inputs * outputs / (fma_per_ns(machine) * efficiency);
    let filter_bytes = frequencies as f64 * inputs * outputs * 4.0;
    let again = if filter_bytes <= CACHED_FILTERS { CACHED_BYTES_PER_NS } else { FILTER_BYTES_PER_NS };
    let filters = filter_bytes / FILTER_BYTES_PER_NS + (choice.blocks - 1) as f64 * filter_bytes / again;
    let block = (rows * frequencies * 4) as f64 * (inputs + outputs / choice.parts as f64);
    let speed = if block <= CACHED as f64 { CACHED_BYTES_PER_NS } else { TILE_BYTES_PER_NS };
    let moved = 2.0 * computed * 4.0 * (inputs * choice.parts as f64 + outputs);
    // measured: products of a few tiles wait for their filters, whatever is asked for ahead
    arithmetic + filters + moved / speed
}
