//! Sources: counting and random bits.

use kiln_ir::NodeId;
use kiln_runtime::Access;

use super::context::Lowering;
use super::error::LowerError;
use super::nest::{self, Axis};
use super::walk::{Body, walk};
use crate::kir::{BinaryOp, Buffer, DType, Index, KernelBuilder, VType, Value};

/// 0, 1, 2 … along an axis.
pub fn iota(l: &mut Lowering<'_>, id: NodeId, axis: usize) -> Result<(), LowerError> {
    let v = l.graph.value(id);
    let dims = l.dims(v);
    let result = l.result(v);
    if result.is_empty() {
        return Ok(());
    }
    let mut count = vec![0; dims.len()];
    count[axis] = 1;
    let axes = nest::collapse(&nest::axes(&dims, &[nest::row_major(&dims), count]));
    let mut b = KernelBuilder::new("iota");
    let out = b.output("y", result.dtype, result.len() as i64);
    let step = axes.last().map_or(0, |a| a.strides[1]);
    let lanes = l.machine.stream_lanes(DType::I64, false);
    walk(&mut b, &axes, &[Index::constant(0), Index::constant(0)], lanes, &mut Counting { out, step });
    l.step(l.label(id), b, &[&result], 0)
}

struct Counting {
    out: Buffer,
    /// What the count grows by from lane to lane.
    step: i64,
}

impl Body for Counting {
    fn lanes(&mut self, b: &mut KernelBuilder, at: &[Index], _: &[Value], lanes: u32) {
        let count = b.iota(&at[1], self.step, lanes);
        let value = b.convert(count, b.dtype_of(self.out));
        b.store(self.out, &at[0], value);
    }
}

/// Threefry-2x32 words: a block of two per counter value. See `kiln_ir::random` for the algorithm.
pub fn random_bits(l: &mut Lowering<'_>, id: NodeId, seed: i64) -> Result<(), LowerError> {
    let v = l.graph.value(id);
    let counter = l.view(l.operand(id, 0));
    let result = l.result(v);
    if result.is_empty() {
        return Ok(());
    }
    let len = result.len() as i64;
    let mut b = KernelBuilder::new("random_bits");
    let out = b.output("y", DType::I32, len);
    let from = b.input("counter", DType::I64, 1);
    let mut body = Threefry { out, from, seed, len };
    // an odd last word has a block of its own
    let blocks = Axis { extent: (len + 1) / 2, strides: vec![2, 1] };
    let lanes = l.machine.lanes(DType::I32) * 2;
    walk(&mut b, &[blocks], &[Index::constant(0), Index::constant(0)], lanes, &mut body);
    let uses = vec![result.used(Access::Write), counter.used(Access::Read)];
    l.step_with(l.label(id), b, uses, (result.len() as u64).saturating_mul(50))
}

struct Threefry {
    out: Buffer,
    from: Buffer,
    seed: i64,
    len: i64,
}

impl Body for Threefry {
    fn lanes(&mut self, b: &mut KernelBuilder, at: &[Index], _: &[Value], lanes: u32) {
        let counter = b.load(self.from, 0, 1);
        let counter = b.splat(counter, lanes);
        let block = b.iota(&at[1], 1, lanes);
        let block = b.add(counter, block);
        let thirty_two = b.constant_int(VType::new(DType::I64, lanes), 32);
        let high = b.shr_logical(block, thirty_two);
        let words = [b.convert(block, DType::I32), b.convert(high, DType::I32)];
        let [even, odd] = threefry(b, self.seed, words);
        let both = b.concat(&[even, odd]);
        let order = (0..lanes).flat_map(|lane| [lane, lane + lanes]).collect();
        let words = b.shuffle(both, order);
        if self.len % 2 == 0 {
            return b.store(self.out, &at[0], words);
        }
        // the vector that holds the last block has one word too many
        let last = Index::constant(self.len - 2 * i64::from(lanes)) - &at[0];
        let (index, out) = (at[0].clone(), self.out);
        b.if_else(
            crate::kir::Condition::NonNegative(vec![last]),
            |b| {
                b.store(out, &index, words);
                Vec::new()
            },
            |b| {
                let kept = b.shuffle(words, (0..2 * lanes - 1).collect());
                b.store(out, Index::constant(self.len - 2 * i64::from(lanes) + 1), kept);
                Vec::new()
            },
        );
    }
}

fn threefry(b: &mut KernelBuilder, seed: i64, counter: [Value; 2]) -> [Value; 2] {
    // the rotations and the parity constant of the algorithm's 2×32 variant
    const ROTATIONS: [[i64; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
    let key = [seed as u32, (seed >> 32) as u32];
    let schedule = [key[0], key[1], 0x1BD1_1BDA ^ key[0] ^ key[1]];
    let ty = b.type_of(counter[0]);
    let plus = |b: &mut KernelBuilder, x: Value, word: u32| {
        let word = b.constant_int(ty, i64::from(word));
        b.binary(BinaryOp::Add, x, word)
    };
    let mut x = [plus(b, counter[0], schedule[0]), plus(b, counter[1], schedule[1])];
    for round in 0..5u32 {
        for rotation in ROTATIONS[round as usize % 2] {
            x[0] = b.add(x[0], x[1]);
            let (left, right) = (b.constant_int(ty, rotation), b.constant_int(ty, 32 - rotation));
            let (high, low) = (b.shl(x[1], left), b.shr_logical(x[1], right));
            let rotated = b.or(high, low);
            x[1] = b.xor(rotated, x[0]);
        }
        let next = round as usize + 1;
        x[0] = plus(b, x[0], schedule[next % 3]);
        x[1] = plus(b, x[1], schedule[(next + 1) % 3].wrapping_add(next as u32));
    }
    x
}
