//! Concatenations whose parts are made where they belong.

mod graph;

use graph::{Case, Numbers, check};
use kiln_codegen::CompiledModule;
use kiln_ir::attribute::ConvLayout::ChannelsLast;
use kiln_ir::attribute::{Padding, Reducer};
use kiln_ir::{ConvOptions, DType, Op, Value, WindowOptions};
use kiln_runtime::Work;

/// Winograd's algorithm, several layers deep.
const TOLERANCE: f64 = 1e-4;

/// How many steps copy a part of a concatenation.
fn copies(module: &CompiledModule) -> usize {
    let copies = |work: &Work| match *work {
        Work::Kernel { kernel, .. } => module.kernels()[kernel].name.contains("concat"),
        Work::Copy { .. } => true,
        Work::Fill { .. } => false,
    };
    module.plan().steps.iter().filter(|s| copies(&s.work)).count()
}

fn conv(c: &mut Case, x: Value, taps: usize, [inputs, outputs]: [usize; 2]) -> Value {
    let w = c.constant(DType::F32, &[taps, taps, inputs, outputs]);
    let around = (taps as i64 - 1) / 2;
    let padding = vec![Padding { low: around, high: around }; 2];
    c.b.conv(x, w, &ConvOptions { padding, layout: ChannelsLast, ..ConvOptions::default() })
}

/// Each layer reads all feature maps before it, in two convolutions after scales and a ReLU.
fn dense_block(c: &mut Case, x: Value, [channels, growth, layers]: [usize; 3], nested: bool) -> Value {
    let mut maps = vec![x];
    let mut all = x;
    for layer in 0..layers {
        let inputs = channels + layer * growth;
        let scale = c.constant(DType::F32, &[1, 1, 1, inputs]);
        let y = c.b.mul(all, scale);
        let y = c.b.relu(y);
        let y = conv(c, y, 1, [inputs, 2 * growth]);
        let y = conv(c, y, 3, [2 * growth, growth]);
        maps.push(y);
        all = if nested { c.b.concat(&[all, y], 3) } else { c.b.concat(&maps, 3) };
    }
    all
}

#[test]
fn the_concatenations_of_a_dense_block_copy_no_feature_map() {
    for nested in [false, true] {
        for (batch, [height, width], shape) in
            [(1, [9, 9], [32, 16, 4]), (2, [7, 6], [5, 3, 5]), (1, [24, 24], [64, 32, 3])]
        {
            let mut c = Case::new(1);
            let x = c.input(DType::F32, &[batch, height, width, shape[0]]);
            let x = c.b.exp(x);
            let y = dense_block(&mut c, x, shape, nested);
            let y = c.b.relu(y);
            let module = c.check(&[y], TOLERANCE);
            // where the first concatenation is a part of the second, x has one place in all of them, and that saves one copy only
            assert_eq!(copies(&module), usize::from(nested), "{shape:?}");
        }
    }
}

#[test]
fn the_last_concatenation_may_be_an_output_or_lie_in_a_halo() {
    for nested in [false, true] {
        let mut c = Case::new(2);
        let x = c.input(DType::F32, &[2, 7, 8, 6]);
        let x = c.b.exp(x);
        let y = dense_block(&mut c, x, [6, 4, 3], nested);
        assert_eq!(copies(&c.check(&[y], TOLERANCE)), usize::from(nested));

        let mut c = Case::new(3);
        let x = c.input(DType::F32, &[2, 7, 8, 6]);
        let x = c.b.exp(x);
        let y = dense_block(&mut c, x, [6, 4, 3], nested);
        let y = conv(&mut c, y, 3, [18, 5]);
        assert_eq!(copies(&c.check(&[y], TOLERANCE)), usize::from(nested));
    }
}

#[test]
fn parts_are_read_where_they_lie_by_all_that_can() {
    let window = WindowOptions {
        window: vec![1, 3, 3, 1],
        strides: vec![1, 2, 2, 1],
        padding: vec![Padding::NONE, Padding { low: 1, high: 1 }, Padding { low: 1, high: 0 }, Padding::NONE],
        ..WindowOptions::default()
    };
    for axis in 1..4 {
        for reader in 0..6 {
            let mut c = Case::new(4);
            let inputs: Vec<Value> = (0..3).map(|_| c.input(DType::F32, &[2, 6, 6, 6])).collect();
            let parts: Vec<Value> = inputs.iter().map(|&x| c.b.exp(x)).collect();
            let some = c.b.concat(&parts[..2], axis);
            let all = c.b.concat(&parts, axis);
            // a part of both, and a concatenation that is a part of the other
            let read: Vec<Value> = [parts[0], some]
                .into_iter()
                .map(|x| {
                    let channels = if x == some && axis == 3 { 12 } else { 6 };
                    match reader {
                        0 => c.b.neg(x),
                        1 => c.b.max_pool(x, &window),
                        2 => conv(&mut c, x, 1, [channels, 5]),
                        3 => conv(&mut c, x, 3, [channels, 5]),
                        4 => {
                            let vectors: Vec<Value> = (0..4).map(|_| c.input(DType::F32, &[channels])).collect();
                            let variance = c.b.mul(vectors[3], vectors[3]);
                            c.b.batch_norm(x, [vectors[0], vectors[1], vectors[2], variance], 3, 1e-2)
                        }
                        _ => {
                            let scale = c.b.scalar(DType::F32, 0.05);
                            let zero = c.b.scalar(DType::I8, 3.0);
                            c.b.add_op(Op::Quantize { dtype: DType::I8, axis: 0 }, &[x, scale, zero])
                        }
                    }
                })
                .collect();
            let all = c.b.relu(all);
            let module = c.check(&[read[0], read[1], all], TOLERANCE);
            // what only a padded convolution reads is made in the middle of its padding instead
            let expected = if reader == 3 { 2 } else { 0 };
            assert_eq!(copies(&module), expected, "axis {axis}, reader {reader}");
        }
    }
}

#[test]
fn what_else_is_asked_of_a_part_leaves_a_copy() {
    for (way, expected) in [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2)] {
        let mut c = Case::new(5);
        let (x, z) = (c.input(DType::F32, &[2, 5, 4, 6]), c.input(DType::F32, &[2, 5, 4, 6]));
        let (x, z) = (c.b.exp(x), c.b.relu(z));
        let first = c.b.concat(&[x, z], 3);
        let other = match way {
            // an output; a reduction, which takes what is dense; one concatenation and something else
            0 => x,
            1 => c.b.reduce(x, &[1], Reducer::Sum),
            2 => c.b.neg(x),
            // twice in one; in two at different places
            3 => {
                let twice = c.b.concat(&[x, x], 3);
                c.b.neg(twice)
            }
            _ => {
                let back = c.b.concat(&[z, x], 3);
                c.b.neg(back)
            }
        };
        let first = c.b.neg(first);
        let module = c.check(&[first, other], TOLERANCE);
        assert_eq!(copies(&module), expected, "way {way}");
    }
}

#[test]
fn a_result_does_not_overwrite_a_tensor_whose_parts_are_still_to_be_read() {
    let mut c = Case::new(6);
    let inputs: Vec<Value> = (0..3).map(|_| c.input(DType::F32, &[2, 3, 4, 5])).collect();
    let parts: Vec<Value> = inputs.iter().map(|&x| c.b.exp(x)).collect();
    let some = c.b.concat(&parts[1..], 3);
    let all = c.b.concat(&parts, 3);
    let y = c.b.neg(all);
    let y = c.b.relu(y);
    let z = c.b.abs(some);
    let u = c.b.neg(parts[1]);
    c.b.output("y", y);
    c.b.output("z", z);
    c.b.output("u", u);
    let graph = c.b.finish().expect("it is well formed");
    check(&graph, &c.feeds, TOLERANCE);
}

#[test]
fn a_narrower_concatenation_is_a_view_where_parts_follow_one_another() {
    let mut c = Case::new(7);
    let inputs: Vec<Value> = (0..3).map(|_| c.input(DType::F32, &[1, 8, 4])).collect();
    let parts: Vec<Value> = inputs.iter().map(|&x| c.b.exp(x)).collect();
    let some = c.b.concat(&parts[..2], 1);
    let y = c.b.softmax(some, 2);
    let all = c.b.concat(&parts, 1);
    let z = c.b.softmax(all, 2);
    assert_eq!(copies(&c.check(&[y, z], TOLERANCE)), 0);
}

/// One of `n`.
fn below(numbers: &mut Numbers, n: usize) -> usize {
    (numbers.next() >> 20) as usize % n
}

/// Concatenations of concatenations and of the same parts in any order along any axis, with all kinds of readers between them.
fn tangle(seed: u64) -> Case {
    let mut c = Case::new(seed);
    let [batch, height, width] = [[1, 2], [1, 4], [1, 5]].map(|choices| choices[below(&mut c.numbers, 2)]);
    let mut values: Vec<(Value, [usize; 4])> = Vec::new();
    for _ in 0..=below(&mut c.numbers, 3) {
        let dims = [batch, height, width, [1, 3, 4, 16][below(&mut c.numbers, 4)]];
        let x = c.input(DType::F32, &dims);
        // tame: what is multiplied again and again must not grow
        let x = if below(&mut c.numbers, 3) > 0 { c.b.tanh(x) } else { x };
        values.push((x, dims));
    }
    for _ in 0..4 + below(&mut c.numbers, 9) {
        let recent = values.len().saturating_sub(5);
        let at = recent + below(&mut c.numbers, values.len() - recent);
        let (x, dims) = values[at];
        let same = |values: &[(Value, [usize; 4])], but: Option<usize>, like: [usize; 4]| {
            let alike = |d: &[usize; 4]| (0..4).all(|i| Some(i) == but || d[i] == like[i]);
            values.iter().filter(|(_, d)| alike(d)).copied().collect::<Vec<_>>()
        };
        let made = match below(&mut c.numbers, 10) {
            0..4 => {
                let axis = [3, 3, 3, 1, 2][below(&mut c.numbers, 5)];
                let others = same(&values, Some(axis), dims);
                let mut parts: Vec<_> =
                    (0..=below(&mut c.numbers, 3)).map(|_| others[below(&mut c.numbers, others.len())]).collect();
                parts.insert(below(&mut c.numbers, parts.len() + 1), (x, dims));
                let mut wide = dims;
                wide[axis] = parts.iter().map(|(_, d)| d[axis]).sum();
                if wide[axis] > 40 {
                    continue;
                }
                let parts: Vec<Value> = parts.iter().map(|&(v, _)| v).collect();
                (c.b.concat(&parts, axis), wide)
            }
            4..6 => {
                let (taps, outputs) = ([1, 3][below(&mut c.numbers, 2)], [3, 4, 16][below(&mut c.numbers, 3)]);
                let y = conv(&mut c, x, taps, [dims[3], outputs]);
                let y = c.b.tanh(y);
                (y, [dims[0], dims[1], dims[2], outputs])
            }
            6 => {
                let padding = vec![Padding::NONE, Padding::same(1), Padding::same(1), Padding::NONE];
                let o = WindowOptions { window: vec![1, 3, 3, 1], padding, ..WindowOptions::default() };
                (c.b.max_pool(x, &o), dims)
            }
            7 => (c.b.neg(x), dims),
            8 => (c.b.softmax(x, 3), dims),
            _ => {
                let others = same(&values, None, dims);
                let other = others[below(&mut c.numbers, others.len())].0;
                (c.b.maximum(x, other), dims)
            }
        };
        values.push(made);
    }
    let mut outputs = vec![values[values.len() - 1].0];
    for _ in 0..below(&mut c.numbers, 3) {
        let v = values[below(&mut c.numbers, values.len())].0;
        if !outputs.contains(&v) {
            outputs.push(v);
        }
    }
    outputs.iter().enumerate().for_each(|(i, &v)| c.b.output(&format!("y{i}"), v));
    c
}

#[test]
fn tangled_concatenations_are_right() {
    for seed in 100..400 {
        let Case { b, feeds, .. } = tangle(seed);
        let graph = b.finish().expect("it is well formed");
        check(&graph, &feeds, TOLERANCE);
    }
}
