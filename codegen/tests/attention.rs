//! Attention whose scores are not stored, against the interpreter, on every back end and with several numbers of threads.

mod graph;

use graph::{Case, Numbers};
use kiln_codegen::native::Target;
use kiln_codegen::{CompileOptions, compile};
use kiln_ir::{Builder, DType, Dim, Op, Tensor, Value};

/// How q, k and v lie.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Lies {
    /// [batch, heads, length, depth] all.
    Split,
    /// [batch, length, heads, depth] all: as one product made them.
    Joined,
    /// k [batch, heads, depth, length], v [batch, heads, columns, length].
    Turned,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    batch: [usize; 2],
    queries: usize,
    keys: usize,
    depth: usize,
    columns: usize,
    lies: Lies,
}

fn op(lies: Lies, epilogue: &str) -> Op {
    let (batch, [q_depth, k_depth, v_keys]) = match lies {
        Lies::Split => ([0, 1], [3, 3, 2]),
        Lies::Joined => ([0, 2], [3, 3, 1]),
        Lies::Turned => ([0, 1], [3, 2, 3]),
    };
    Op::FusedAttention {
        q_batch: batch.to_vec(),
        k_batch: batch.to_vec(),
        v_batch: batch.to_vec(),
        q_depth,
        k_depth,
        v_keys,
        epilogue: epilogue.parse().expect("an expression"),
    }
}

fn inputs(c: &mut Case, s: Shape) -> [Value; 3] {
    let [b, h] = s.batch;
    let (q, k, v) = ((s.queries, s.depth), (s.keys, s.depth), (s.keys, s.columns));
    let dims = match s.lies {
        Lies::Split => [q, k, v].map(|(n, d)| [b, h, n, d]),
        Lies::Joined => [q, k, v].map(|(n, d)| [b, n, h, d]),
        Lies::Turned => [[b, h, q.0, q.1], [b, h, k.1, k.0], [b, h, v.1, v.0]],
    };
    dims.map(|dims| c.input(DType::F32, &dims))
}

/// Zeros and −∞, a whole row among them.
fn mask(c: &mut Case, dims: &[usize]) -> Tensor {
    let last = dims[dims.len() - 1];
    let values: Vec<f64> = (0..dims.iter().product::<usize>())
        .map(|i| if c.numbers.unit() < -0.4 || (i / last) % 5 == 4 { f64::NEG_INFINITY } else { 0.0 })
        .collect();
    Tensor::from_f64(DType::F32, dims, &values).expect("as many values as elements")
}

/// Sums of thousands of products, and those of exponentials that are accurate to a few units in the last place.
const TOLERANCE: f64 = 2e-5;

fn shape(batch: [usize; 2], [queries, keys, depth, columns]: [usize; 4], lies: Lies) -> Shape {
    Shape { batch, queries, keys, depth, columns, lies }
}

#[test]
fn shapes_around_the_sizes_of_blocks_vectors_and_parts_agree_with_the_interpreter() {
    let shapes = [
        shape([1, 2], [16, 16, 8, 8], Lies::Split),
        shape([2, 3], [7, 9, 5, 3], Lies::Joined),
        shape([1, 1], [32, 64, 16, 16], Lies::Joined),
        shape([1, 2], [33, 31, 4, 33], Lies::Split),
        shape([1, 2], [65, 17, 12, 40], Lies::Turned),
        shape([1, 1], [1, 5, 3, 2], Lies::Split),
        shape([1, 1], [40, 1, 3, 1], Lies::Turned),
        // two, three and four parts of the keys, with a rest and without
        shape([1, 1], [9, 512, 4, 5], Lies::Split),
        shape([1, 1], [9, 900, 4, 5], Lies::Joined),
        shape([1, 1], [35, 1100, 4, 17], Lies::Turned),
    ];
    for (seed, s) in (1..).zip(shapes) {
        let mut c = Case::new(seed);
        let operands = inputs(&mut c, s);
        let y = c.b.add_op(op(s.lies, "a0 * 0.5"), &operands);
        c.check(&[y], TOLERANCE);
    }
}

#[test]
fn random_shapes_and_masks_agree_with_the_interpreter() {
    let mut numbers = Numbers::new(11);
    for seed in 0..24 {
        let mut below = |n: u64| (numbers.next() >> 20) % n;
        let extent = |below: &mut dyn FnMut(u64) -> u64, most| 1 + below(most) as usize;
        let batch = [2, 3].map(|most| extent(&mut below, most));
        let extents = [80, 70, 20, 40].map(|most| extent(&mut below, most));
        let s = shape(batch, extents, [Lies::Split, Lies::Joined, Lies::Turned][below(3) as usize]);
        let mut dims = [s.batch[0], s.batch[1], s.queries, s.keys];
        dims.iter_mut().for_each(|d| *d = if below(2) == 0 { 1 } else { *d });
        let constant = below(2) == 0;
        let mut c = Case::new(seed);
        let [q, k, v] = inputs(&mut c, s);
        let mask = mask(&mut c, &dims);
        let mask = if constant { c.b.constant(mask) } else { c.feed(mask) };
        let y = c.b.add_op(op(s.lies, "a0 * 0.3 + a1"), &[q, k, v, mask]);
        c.check(&[y], TOLERANCE);
    }
}

#[test]
fn masks_of_every_extent_agree_and_a_row_without_a_key_is_nan() {
    let s = shape([2, 2], [37, 19, 6, 10], Lies::Joined);
    for (seed, constant) in [(1, false), (2, true)] {
        for dims in [[1, 1, 1, 19], [2, 1, 37, 19], [1, 2, 37, 19], [2, 2, 37, 1], [1, 1, 37, 19]] {
            let mut c = Case::new(seed);
            let [q, k, v] = inputs(&mut c, s);
            let mask = mask(&mut c, &dims);
            let mask = if constant { c.b.constant(mask) } else { c.feed(mask) };
            let y = c.b.add_op(op(s.lies, "a0 * 0.25 + a1"), &[q, k, v, mask]);
            c.check(&[y], TOLERANCE);
        }
    }
}

#[test]
fn a_mask_may_be_of_truth_and_an_epilogue_may_have_several_operands() {
    let s = shape([1, 2], [34, 21, 6, 10], Lies::Split);
    let mut c = Case::new(5);
    let [q, k, v] = inputs(&mut c, s);
    let allowed = c.input(DType::Bool, &[1, 1, 34, 21]);
    let bias = c.input(DType::F32, &[1, 2, 34, 21]);
    let y = c.b.add_op(op(s.lies, "select(a1, tanh(a0) + a2, -10000.0)"), &[q, k, v, allowed, bias]);
    c.check(&[y], TOLERANCE);
}

#[test]
fn without_keys_columns_queries_or_depth_nothing_goes_wrong() {
    for extents in [[12, 0, 4, 5], [12, 3, 0, 5], [12, 3, 4, 0], [0, 3, 4, 5]] {
        let s = shape([1, 2], extents, Lies::Joined);
        let mut c = Case::new(6);
        let operands = inputs(&mut c, s);
        let y = c.b.add_op(op(s.lies, "a0"), &operands);
        c.check(&[y], TOLERANCE);
    }
}

#[test]
fn a_mean_of_large_elements_is_finite_though_their_sum_is_not() {
    let s = shape([1, 1], [8, 300, 4, 6], Lies::Split);
    let mut c = Case::new(7);
    let [q, k, _] = inputs(&mut c, s);
    let large = Tensor::from_f64(DType::F32, &[1, 1, 300, 6], &vec![3e38; 1800]).expect("as many values as elements");
    let v = c.feed(large);
    let y = c.b.add_op(op(s.lies, "a0"), &[q, k, v]);
    c.check(&[y], TOLERANCE);
}

#[test]
fn infinite_scores_and_elements_are_nan_where_the_separate_steps_give_nan() {
    let s = shape([1, 1], [10, 12, 2, 3], Lies::Split);
    let mut c = Case::new(8);
    let [q, k, _] = inputs(&mut c, s);
    let mut values: Vec<f64> = (0..36).map(f64::from).collect();
    (values[4], values[8]) = (f64::INFINITY, f64::NAN);
    let v = c.feed(Tensor::from_f64(DType::F32, &[1, 1, 12, 3], &values).expect("as many values as elements"));
    let mut shift = vec![0.0; 120];
    (shift[3], shift[17], shift[30]) = (f64::INFINITY, f64::NAN, 3e38);
    let shift = c.feed(Tensor::from_f64(DType::F32, &[1, 1, 10, 12], &shift).expect("as many values as elements"));
    let y = c.b.add_op(op(s.lies, "a0 + a1"), &[q, k, v, shift]);
    c.check(&[y], TOLERANCE);
}

#[test]
fn heads_are_merged_where_the_result_is_made_and_scores_are_not_stored() {
    let s = shape([2, 4], [64, 96, 8, 8], Lies::Joined);
    let mut c = Case::new(9);
    let operands = inputs(&mut c, s);
    let heads = c.b.add_op(op(s.lies, "a0"), &operands);
    let merged = c.b.transpose(heads, &[0, 2, 1, 3]);
    let merged = c.b.reshape(merged, &[2, 64, 32].map(Dim::Fixed));
    let y = c.b.neg(merged);
    let module = c.check(&[y], TOLERANCE);
    let labels: Vec<&str> = module.plan().steps.iter().map(|step| step.label.as_str()).collect();
    assert_eq!(labels.len(), 2, "attention and what uses it: {labels:?}");
    // the result of attention, and neither 2 · 4 · 64 · 96 scores nor another copy of the result
    assert!(module.plan().arena_bytes <= 2 * 4 * 64 * 8 * 4, "{} bytes", module.plan().arena_bytes);
}

#[test]
fn heads_that_are_turned_or_used_twice_are_transposed_apart() {
    let s = shape([1, 3], [20, 11, 4, 6], Lies::Joined);
    let mut c = Case::new(10);
    let operands = inputs(&mut c, s);
    let heads = c.b.add_op(op(s.lies, "a0"), &operands);
    let turned = c.b.transpose(heads, &[0, 1, 3, 2]);
    let again = inputs(&mut c, s);
    let twice = c.b.add_op(op(s.lies, "a0"), &again);
    let merged = c.b.transpose(twice, &[0, 2, 1, 3]);
    let merged_too = c.b.transpose(twice, &[2, 0, 1, 3]);
    c.check(&[turned, twice, merged, merged_too], TOLERANCE);
}

#[test]
fn scores_that_nobody_stores_are_counted_without_overflow_and_refused_where_a_block_of_them_has_no_address() {
    let compiled = |queries: usize, keys: usize| {
        let mut b = Builder::new("far");
        let dims = [queries, keys, keys].map(|n| [n, 1].map(Dim::Fixed));
        let [q, k, v] = [0, 1, 2].map(|i| b.placeholder(&format!("x{i}"), DType::F32, &dims[i]));
        let op = Op::FusedAttention {
            q_batch: Vec::new(),
            k_batch: Vec::new(),
            v_batch: Vec::new(),
            q_depth: 1,
            k_depth: 1,
            v_keys: 0,
            epilogue: "a0".parse().expect("an expression"),
        };
        let y = b.add_op(op, &[q, k, v]);
        b.output("y", y);
        let target = Target::host().expect("this machine is supported");
        compile(&b.finish().expect("a graph"), &target, CompileOptions::default())
    };
    let far = compiled(1 << 33, 1 << 33).expect("2^33 elements have addresses");
    assert!(far.plan().flops() as f64 > 2f64.powi(63), "{} operations", far.plan().flops());
    let error = compiled(8, 1 << 59).expect_err("2^59 keys for 32 queries").to_string();
    assert!(error.contains("`fused_attention` gives scores of 576460752303423488 keys"), "{error}");
}
