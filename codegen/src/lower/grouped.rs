//! Convolutions of groups with fewer output channels than a vector has lanes.
//!
//! A vector of a group's output channels would leave lanes without work. Here a vector holds *input* channels instead, those
//! of as many groups as fill it, as they lie in memory. It is multiplied by one filter vector for each output channel of a
//! group, and each has a sum of its own; the sums are brought together after all taps. In groups of 4:
//!
//! ```text
//! lanes of x        0 1 2 3 │ 4 5 6 7 │ …        sums[r][lane] += x[lane] · w[lane → the output beside it, r away]
//! sums[0] is of     0 1 2 3 │ 4 5 6 7 │ …
//! sums[1] is of     1 0 3 2 │ 5 4 7 6 │ …        y = (sums[0] + exchanged(sums[1], 1))
//! sums[2] is of     2 3 0 1 │ 6 7 4 5 │ …            + exchanged(sums[2] + exchanged(sums[3], 1), 2)
//! sums[3] is of     3 2 1 0 │ 7 6 5 4 │ …
//! ```
//!
//! So taps cost no permutation, whatever their strides, and nothing is multiplied but what the graph multiplies. `r` away is
//! exclusive or, for which both numbers of channels are powers of two. Of the smaller and the larger of them the larger has
//! *blocks* of the smaller: blocks of outputs have sums of their own, blocks of inputs are added at the end.

use std::collections::BTreeSet;

use kiln_ir::DType;
use kiln_runtime::{Piece, Relayout};

use super::machine::Machine;
use super::nest::{self, Axis, volume};
use crate::kir::{KernelBuilder, MAX_LANES, Value};

/// Instructions that finish a vector of results, roughly.
const EPILOGUE: usize = 4;
/// Fewer lanes are handled one by one on some targets.
const FEWEST_LANES: u32 = 4;
/// Products of a tile for each line of memory that it may ask for ahead.
const PRODUCTS_A_LINE: i64 = 4;
/// Products of a tile beyond which it takes longer than memory does.
const MOST_PRODUCTS: i64 = 4096;

/// Groups that share a vector of their input channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Narrow {
    /// Input channels of a group in a vector: all of them, or as many as there are lanes.
    pub inputs: u32,
    /// Output channels of a group.
    pub outputs: u32,
    /// Lanes of a vector.
    pub lanes: u32,
}

impl Narrow {
    /// How `groups` of so many channels fill vectors of up to `lanes`; `None` where another way takes fewer instructions, or
    /// where the numbers of channels are not powers of two.
    pub fn choose(groups: usize, inputs: usize, outputs: usize, taps: usize, lanes: u32) -> Option<Narrow> {
        let suits = inputs.is_power_of_two() && outputs.is_power_of_two() && outputs < lanes as usize && taps > 0;
        if !suits {
            return None;
        }
        let held = inputs.min(lanes as usize);
        // vectors of equal numbers of groups, whose results are a value
        let most = (lanes as usize / held).min(MAX_LANES as usize / outputs);
        let together = (1 << groups.trailing_zeros().min(MAX_LANES.ilog2())).min(1 << most.ilog2());
        let blocks = outputs.div_ceil(held);
        // a product for each tap and sum, then an exchange and an addition for each sum, or an ordering of blocks
        let reduced = outputs * (taps * (inputs / held) + 1) + (blocks - 1) * blocks;
        let own = reduced + EPILOGUE * (together * outputs).div_ceil(lanes as usize);
        // a vector of outputs for each group, and a product for each of its taps and inputs
        let other = together * (taps * inputs + EPILOGUE);
        let lanes = (held * together) as u32;
        (own <= other && lanes >= FEWEST_LANES).then_some(Narrow {
            inputs: held as u32,
            outputs: outputs as u32,
            lanes,
        })
    }

    /// Groups of a vector.
    pub fn groups(&self) -> u32 {
        self.lanes / self.inputs
    }

    /// Output channels of a vector's groups.
    pub fn results(&self) -> u32 {
        self.groups() * self.outputs
    }

    /// Rows of a tile: as many as leave room for what the sums share.
    pub fn rows(&self, machine: Machine) -> i64 {
        let (sums, registers) = (i64::from(self.outputs), i64::from(machine.registers));
        let fits = |rows: &i64| rows * sums + (*rows).min(sums) < registers;
        (1..=14).rev().find(fits).unwrap_or(1)
    }

    /// The smaller of the numbers of channels.
    fn block(&self) -> u32 {
        self.inputs.min(self.outputs)
    }

    /// Bytes of the filters of one vector.
    pub fn filter_bytes(&self, reduce: &[Axis], dtype: DType) -> i64 {
        volume(reduce) * i64::from(self.lanes * self.outputs) * dtype.size() as i64
    }

    /// What of x a tile of `rows` rows reads in the next iteration of the loop around it and not in this one: the line of
    /// pixels below. Only a part of each pixel is read at a time, which no machine foresees; asked for in time, it is there.
    pub fn fetch(&self, around: Option<&Axis>, row: &Axis, rows: i64, reduce: &[Axis]) -> Vec<i64> {
        const X: usize = 1;
        let Some(step) = around.map(|axis| axis.strides[X]).filter(|&step| step != 0) else { return Vec::new() };
        let rows = rows.min(row.extent);
        let products = volume(reduce).saturating_mul(rows * i64::from(self.outputs));
        if products > MOST_PRODUCTS {
            return Vec::new();
        }
        let tile = Axis { extent: rows, strides: row.strides.clone() };
        let read = reduce.iter().chain([&tile]).fold(BTreeSet::from([0]), |read, axis| {
            let moved = |&at: &i64| (0..axis.extent).map(move |i| at + i * axis.strides[X]);
            read.iter().flat_map(moved).collect()
        });
        let next: Vec<i64> = read.iter().map(|at| at + step).filter(|at| !read.contains(at)).collect();
        if next.len() as i64 * PRODUCTS_A_LINE <= products { next } else { Vec::new() }
    }

    /// The order of a filter: for each vector, for each sum, for each combination of the reduced loops, the lanes. Rewrites the
    /// strides of these loops. `channels` are the elements between input and between output channels.
    pub fn relayout(
        &self,
        vectors: Option<&mut Axis>,
        reduce: &mut [Axis],
        channels: [i64; 2],
        start: i64,
    ) -> Relayout {
        const W: usize = 2;
        let mut loops: Vec<Axis> = Vec::new();
        let mut unit = i64::from(self.lanes);
        for axis in reduce.iter_mut().rev() {
            loops.insert(0, Axis { extent: axis.extent, strides: vec![axis.strides[W]] });
            axis.strides[W] = unit;
            unit *= axis.extent;
        }
        // sums of a vector together
        let vectors = vectors.map_or((1, 0), |axis| {
            let stride = std::mem::replace(&mut axis.strides[W], unit * i64::from(self.outputs));
            (axis.extent, stride)
        });
        let [input, output] = channels;
        let block = self.block();
        let axis = |extent: u32, stride: i64| Axis { extent: i64::from(extent), strides: vec![stride] };
        let piece = |(vector, sum): (i64, u32)| {
            let mut loops = loops.clone();
            loops.push(axis(self.groups(), i64::from(self.outputs) * output));
            loops.push(axis(self.inputs / block, i64::from(block) * input));
            // bit by bit: where the sum's number has one, the output goes down as the input goes up
            for bit in (0..block.ilog2()).rev().map(|i| 1 << i) {
                let sign = if sum & bit == 0 { 1 } else { -1 };
                loops.push(axis(2, i64::from(bit) * (input + sign * output)));
            }
            let loops = nest::collapse(&loops).into_iter();
            let loops = loops.map(|a| (a.extent as usize, a.strides[0] as isize)).collect();
            Piece { start: (start + vector * vectors.1 + i64::from(sum) * output) as usize, loops, padding: 0 }
        };
        let sums = |vector| (0..self.outputs).map(move |sum| (vector, sum));
        Relayout { pieces: (0..vectors.0).flat_map(sums).map(piece).collect() }
    }

    /// The results of a vector's groups from its sums.
    pub fn gather(&self, b: &mut KernelBuilder, sums: &[Value]) -> Value {
        let block = self.block();
        let parts: Vec<Value> = sums.chunks(block as usize).map(|sums| self.exchanged(b, sums)).collect();
        match parts[..] {
            [part] => self.folded(b, part),
            _ => {
                let all = b.concat(&parts);
                let lane = |group: u32, part: u32, i: u32| part * self.lanes + group * block + i;
                let parts = 0..parts.len() as u32;
                let of_group =
                    |group| parts.clone().flat_map(move |part| (0..block).map(move |i| lane(group, part, i)));
                let order = (0..self.groups()).flat_map(of_group).collect();
                b.shuffle(all, order)
            }
        }
    }

    /// Sums whose lanes are exchanged by their number, added up where they belong.
    fn exchanged(&self, b: &mut KernelBuilder, sums: &[Value]) -> Value {
        let mut sums = sums.to_vec();
        let mut distance = 1;
        while sums.len() > 1 {
            let order: Vec<u32> = (0..self.lanes).map(|lane| lane ^ distance).collect();
            let pair = |pair: &[Value]| match *pair {
                [near, far] => {
                    let far = b.shuffle(far, order.clone());
                    b.add(near, far)
                }
                _ => pair[0],
            };
            sums = sums.chunks(2).map(pair).collect();
            distance *= 2;
        }
        sums[0]
    }

    /// The sum of the blocks of inputs of each group, halves first.
    fn folded(&self, b: &mut KernelBuilder, mut sum: Value) -> Value {
        let mut inputs = self.inputs;
        while inputs > self.outputs {
            let half = inputs / 2;
            let lanes =
                |first: u32| (0..self.groups()).flat_map(move |g| (0..half).map(move |i| g * inputs + first + i));
            let (low, high) = (b.shuffle(sum, lanes(0).collect()), b.shuffle(sum, lanes(half).collect()));
            sum = b.add(low, high);
            inputs = half;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_fill_a_vector_where_that_takes_fewer_instructions() {
        let lanes = |groups, inputs, outputs, taps| {
            Narrow::choose(groups, inputs, outputs, taps, 16).map(|n| (n.groups(), n.lanes, n.results()))
        };
        assert_eq!(lanes(32, 4, 4, 9), Some((4, 16, 16)));
        assert_eq!(lanes(32, 8, 8, 1), Some((2, 16, 16)));
        assert_eq!(lanes(6, 4, 4, 9), Some((2, 8, 8)));
        assert_eq!(lanes(32, 4, 8, 9), Some((4, 16, 32)));
        // results are a value of 64 lanes at most
        assert_eq!(lanes(32, 1, 8, 9), None);
        assert_eq!(lanes(32, 2, 8, 9), Some((8, 16, 64)));
        assert_eq!(lanes(2, 64, 8, 9), Some((1, 16, 8)));
        // whole vectors of outputs, one group, other numbers than powers of two, no taps, few lanes
        let others = [(32, 16, 16, 9), (1, 8, 8, 9), (32, 3, 4, 9), (32, 4, 6, 9), (32, 4, 4, 0), (1, 2, 1, 9)];
        assert_eq!(others.map(|(g, i, o, t)| lanes(g, i, o, t)), [None; 6]);
    }

    #[test]
    fn each_lane_of_a_sum_has_the_filter_of_an_output_of_its_group() {
        // two vectors of two groups of two: element 10 · input + output channel of all eight
        let groups = Narrow { inputs: 2, outputs: 2, lanes: 4 };
        let plain: Vec<u8> = (0..2).flat_map(|input| (0..8).map(move |output| 10 * input + output)).collect();
        let mut vectors = Axis::new(2, [4, 4, 4]);
        let relayout = groups.relayout(Some(&mut vectors), &mut [], [8, 1], 0);
        let packed = relayout.pack(&plain, 1).unwrap();
        assert_eq!(packed[..], [0, 11, 2, 13, 1, 10, 3, 12, 4, 15, 6, 17, 5, 14, 7, 16]);
        assert_eq!(vectors.strides[2], 8);
        assert_eq!(relayout.unpack(&packed, 1, 16).unwrap(), plain);
    }

    #[test]
    fn a_tile_asks_for_the_pixels_that_only_the_next_one_reads() {
        let groups = Narrow { inputs: 4, outputs: 4, lanes: 16 };
        let (row, taps) = (Axis::new(2, [1, 10, 0]), [Axis::new(3, [0, 100, 3]), Axis::new(3, [0, 10, 1])]);
        let below = Axis::new(8, [1, 100, 0]);
        assert_eq!(groups.fetch(Some(&below), &row, 6, &taps), [300, 310, 320, 330]);
        assert_eq!(groups.fetch(None, &row, 6, &taps), []);
    }
}
