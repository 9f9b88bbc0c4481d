//! Every op compiled, against the reference interpreter.

mod graph;

use graph::Case;
use kiln_codegen::{CompileOptions, compile_for, lower::Machine};
use kiln_ir::attribute::{ConvLayout, Padding, Reducer};
use kiln_ir::{ConvOptions, DType, Dim, WindowOptions};

fn fixed(dims: &[usize]) -> Vec<Dim> {
    dims.iter().map(|&d| Dim::Fixed(d)).collect()
}

#[test]
fn elementwise_ops_run_over_whole_tensors_and_tails() {
    for dims in [vec![], vec![1], vec![37], vec![3, 5, 7], vec![9000], vec![0, 4]] {
        let mut c = Case::new(1);
        let x = c.input(DType::F32, &dims);
        let y = c.input(DType::F32, &dims);
        let sum = c.b.add(x, y);
        let product = c.b.mul(sum, x);
        let relu = c.b.relu(product);
        c.check(&[sum, relu], 0.0);
    }
}

#[test]
fn movement_is_exact() {
    let mut c = Case::new(2);
    let x = c.input(DType::F32, &[4, 19, 6, 33]);
    let t = c.b.transpose(x, &[0, 2, 3, 1]);
    let u = c.b.transpose(x, &[3, 2, 1, 0]);
    let s = c.b.slice(x, &[1, 2, 0, 3], &[4, 19, 6, 30], &[1, 3, 2, 5]);
    let r = c.b.reshape(x, &fixed(&[19, 4 * 6 * 33]));
    let p = c.b.pad(x, &[Padding::NONE, Padding::same(1), Padding { low: 2, high: 0 }, Padding::same(3)], 1.5);
    let b = c.b.broadcast(x, &fixed(&[2, 4, 19, 6, 33]), &[1, 2, 3, 4]);
    c.check(&[t, u, s, r, p, b], 0.0);
}

#[test]
fn concatenations_join_along_any_axis() {
    for axis in 0..3 {
        let mut c = Case::new(3);
        let dims = |n: usize| {
            let mut d = vec![1, 5, 7];
            d[axis] = n;
            d
        };
        let (x, y) = (c.input(DType::F32, &dims(3)), c.input(DType::F32, &dims(4)));
        let (x2, y2) = (c.b.add(x, x), c.b.mul(y, y));
        let k = c.b.concat(&[x2, y2, x2], axis);
        let z = c.b.neg(k);
        c.check(&[k, z], 0.0);
    }
}

#[test]
fn reductions_along_any_axes() {
    for axes in [vec![0], vec![1], vec![2], vec![0, 2], vec![0, 1], vec![1, 2], vec![0, 1, 2], vec![]] {
        for reducer in [Reducer::Sum, Reducer::Prod, Reducer::Max, Reducer::Min] {
            let mut c = Case::new(4);
            let x = c.input(DType::F32, &[5, 6, 43]);
            let r = c.b.reduce(x, &axes, reducer);
            // sums of 1,290 elements in another order
            c.check(&[r], 1e-5);
        }
    }
}

#[test]
fn matrix_products_of_any_shape() {
    for (m, k, n) in
        [(1, 7, 9), (1, 64, 100), (4, 16, 8), (13, 17, 19), (64, 64, 64), (100, 33, 5), (3, 5, 1), (1, 300, 1)]
    {
        for constant in [false, true] {
            let mut c = Case::new(5);
            let x = c.input(DType::F32, &[m, k]);
            let w = if constant { c.constant(DType::F32, &[k, n]) } else { c.input(DType::F32, &[k, n]) };
            let y = c.b.matmul(x, w);
            let wt = if constant { c.constant(DType::F32, &[n, k]) } else { c.input(DType::F32, &[n, k]) };
            let z = c.b.dot(x, wt, &[], &[], &[1], &[1]);
            c.check(&[y, z], 1e-5);
        }
    }
}

#[test]
fn batched_products_contract_any_axes() {
    let mut c = Case::new(6);
    let q = c.input(DType::F32, &[2, 9, 3, 8]);
    let k = c.input(DType::F32, &[2, 11, 3, 8]);
    let scores = c.b.dot(q, k, &[0, 2], &[0, 2], &[3], &[3]);
    let v = c.input(DType::F32, &[2, 11, 3, 8]);
    let out = c.b.dot(scores, v, &[0, 1], &[0, 2], &[3], &[1]);
    c.check(&[scores, out], 1e-5);
}

#[test]
fn convolutions_of_any_kind() {
    use ConvLayout::{ChannelsFirst, ChannelsLast};
    for layout in [ChannelsLast, ChannelsFirst] {
        for (h, ci, co, k, stride, pad, dilation, lhs, groups) in [
            (9, 3, 16, 3, 2, 1, 1, 1, 1),
            (8, 16, 24, 1, 1, 0, 1, 1, 1),
            (7, 8, 12, 3, 1, 1, 1, 1, 1),
            (11, 4, 6, 5, 3, 2, 2, 1, 2),
            (10, 12, 12, 3, 1, 1, 1, 1, 12),
            (10, 37, 37, 3, 2, 1, 1, 1, 37),
            (6, 4, 8, 3, 1, 1, 1, 2, 1),
            (9, 6, 12, 3, 1, 0, 1, 1, 6),
            (5, 6, 7, 5, 1, 4, 1, 1, 1),
        ] {
            for constant in [true, false] {
                let mut c = Case::new(7);
                let (xd, wd) = match layout {
                    ChannelsLast => (vec![2, h, h + 1, ci], vec![k, k, ci / groups, co]),
                    ChannelsFirst => (vec![2, ci, h, h + 1], vec![co, ci / groups, k, k]),
                };
                let x = c.input(DType::F32, &xd);
                let w = if constant { c.constant(DType::F32, &wd) } else { c.input(DType::F32, &wd) };
                let o = ConvOptions {
                    strides: vec![stride; 2],
                    padding: vec![Padding::same(pad), Padding { low: pad, high: 0 }],
                    lhs_dilation: vec![lhs; 2],
                    rhs_dilation: vec![dilation; 2],
                    groups,
                    layout,
                };
                let y = c.b.conv(x, w, &o);
                c.check(&[y], 1e-5);
            }
        }
    }
}

#[test]
fn windows_skip_their_padding() {
    for (dims, window, strides, padding) in [
        ([2, 9, 8, 20], [1, 3, 3, 1], [1, 2, 2, 1], [0, 1, 1, 0]),
        ([2, 20, 9, 8], [1, 1, 3, 3], [1, 1, 2, 2], [0, 0, 1, 1]),
        ([1, 6, 6, 3], [1, 2, 2, 1], [1, 2, 2, 1], [0, 0, 0, 0]),
    ] {
        let mut c = Case::new(8);
        let x = c.input(DType::F32, &dims);
        let o = WindowOptions {
            window: window.to_vec(),
            strides: strides.to_vec(),
            padding: padding.iter().map(|&p| Padding::same(p)).collect(),
            dilation: vec![],
        };
        let y = c.b.max_pool(x, &o);
        let z = c.b.reduce_window(x, &o, Reducer::Sum);
        c.check(&[y, z], 1e-6);
    }
}

#[test]
fn deep_products_are_summed_in_parts_with_the_same_sums() {
    for (rows, depth, columns) in [(20, 3072, 170), (49, 2048, 160), (29, 6144, 136), (16, 5000, 133)] {
        let mut c = Case::new(depth as u64);
        let x = c.input(DType::F32, &[rows, depth]);
        let w = c.constant(DType::F32, &[depth, columns]);
        let (bias, other) = (c.constant(DType::F32, &[columns]), c.input(DType::F32, &[rows, columns]));
        let y = c.b.dot(x, w, &[], &[], &[1], &[0]);
        let y = c.b.add(y, bias);
        let y = c.b.relu(y);
        let y = c.b.add(y, other);
        // thousands of products, summed in another order
        let module = c.check(&[y], 1e-4);
        let sums = |k: &kiln_codegen::kir::Kernel| k.scratch.iter().any(|s| s.name == "sums");
        assert!(module.kernels().iter().any(sums) || module.target().features() < kiln_codegen::native::Features::V4);
    }
    // taps are parts as well, where the input has room around it
    let mut c = Case::new(9);
    let x = c.input(DType::F32, &[1, 15, 15, 384]);
    let (first, w) = (c.constant(DType::F32, &[1, 1, 384, 384]), c.constant(DType::F32, &[3, 3, 384, 140]));
    let last = ConvOptions { layout: ConvLayout::ChannelsLast, ..ConvOptions::default() };
    let x = c.b.conv(x, first, &last);
    let o = ConvOptions { strides: vec![2, 2], padding: vec![Padding::same(1); 2], ..last };
    let y = c.b.conv(x, w, &o);
    let module = c.check(&[y], 1e-4);
    let deep = |k: &kiln_codegen::kir::Kernel| k.name == "conv" && k.scratch.iter().any(|s| s.name == "sums");
    assert!(module.kernels().iter().any(deep), "rows of pixels share the parts of a deep product");
}

#[test]
fn many_rows_are_dealt_in_chunks_and_groups_of_columns() {
    // few chunks, weights larger than the cache, both, and neither; columns that are no number of whole blocks stay together
    let shapes = [(200, 300, 256), (200, 64, 96), (300, 530, 256), (130, 300, 512), (70, 40, 64), (333, 50, 100)];
    for (rows, depth, columns) in shapes {
        for constant in [true, false] {
            let mut c = Case::new(rows as u64);
            let x = c.input(DType::F32, &[rows, depth]);
            let dims = [depth, columns];
            let w = if constant { c.constant(DType::F32, &dims) } else { c.input(DType::F32, &dims) };
            let bias = c.constant(DType::F32, &[columns]);
            let y = c.b.dot(x, w, &[], &[], &[1], &[0]);
            let y = c.b.add(y, bias);
            // hundreds of products, summed in another order
            c.check(&[y], 2e-5);
        }
    }
}

#[test]
fn rows_and_weights_that_no_cache_holds_are_cut_into_chunks_that_take_all_weights() {
    // chunks that come out even and whole blocks of columns, and neither
    for (rows, depth, columns) in [(270, 1100, 256), (290, 1031, 271)] {
        let mut c = Case::new(rows as u64);
        let x = c.input(DType::F32, &[rows, depth]);
        let (w, bias) = (c.constant(DType::F32, &[depth, columns]), c.constant(DType::F32, &[columns]));
        let y = c.b.dot(x, w, &[], &[], &[1], &[0]);
        let y = c.b.add(y, bias);
        // a thousand products, summed in another order
        let module = c.check(&[y], 1e-4);
        let chunked = |k: &kiln_codegen::kir::Kernel| {
            k.parallel.first().is_some_and(|&chunk| k.name == "dot" && k.extent(chunk) == 3)
        };
        assert!(module.kernels().iter().any(chunked), "three chunks of rows");
    }
}

#[test]
fn pixel_rows_that_go_over_the_same_panel_share_in_asking_for_the_next() {
    // seven rows of seven pixels each; 256-bit tiles have four pixels, so a panel is gone over 14 times
    let mut c = Case::new(11);
    let x = c.input(DType::F32, &[1, 14, 14, 128]);
    let w = c.constant(DType::F32, &[3, 3, 128, 120]);
    let o = ConvOptions {
        strides: vec![2, 2],
        padding: vec![Padding::same(1); 2],
        layout: ConvLayout::ChannelsLast,
        ..ConvOptions::default()
    };
    let y = c.b.conv(x, w, &o);
    c.b.output("y", y);
    let graph = c.b.finish().expect("the convolution is well formed");
    graph::check(&graph, &c.feeds, 1e-5);
    let target = kiln_codegen::native::Target::host().expect("this machine is supported");
    let module = compile_for(&graph, &target, Machine::X86_64_256, CompileOptions::default()).expect("it compiles");
    let kernel = module.kernels().iter().find(|k| k.name == "conv").expect("a direct convolution").to_string();
    // an iteration of eight steps reads 12 lines of a panel: an eighth of that is two lines, in each of two tiles
    assert_eq!(kernel.matches("prefetch").count(), 4, "{kernel}");
}
