//! The families of ops with loops of their own, fused ops, and dtypes, against the reference interpreter.

mod graph;

use graph::{Case, check};
use kiln_codegen::lower::LowerError;
use kiln_codegen::native::Target;
use kiln_codegen::{CompileError, CompileOptions, compile};
use kiln_ir::attribute::{Cell, ConvLayout, Extreme, Padding, Real, Reducer, ScatterMode};
use kiln_ir::{Builder, ConvOptions, DType, Dim, Op, Tensor, Value, WindowOptions};

fn fixed(dims: &[usize]) -> Vec<Dim> {
    dims.iter().map(|&d| Dim::Fixed(d)).collect()
}

fn expr(text: &str) -> kiln_ir::scalar::ScalarExpr {
    text.parse().expect("the test's expression parses")
}

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

/// Numbers with ties, zeros of both signs, infinities and NaNs among them.
fn awkward(c: &mut Case, dtype: DType, dims: &[usize]) -> Value {
    let special = [0.0, -0.0, 1.0, 1.0, -1.0, NAN, INF, -INF, 2.5];
    let n = dims.iter().product();
    let values: Vec<f64> = (0..n)
        .map(|_| {
            let r = c.numbers.next();
            if r.is_multiple_of(3) { special[(r >> 8) as usize % special.len()] } else { c.numbers.unit() * 4.0 }
        })
        .collect();
    c.feed(Tensor::from_f64(dtype, dims, &values).expect("sizes agree"))
}

#[test]
fn softmax_normalises_along_any_axis() {
    for dtype in [DType::F32, DType::F64, DType::F16] {
        for axis in 0..3 {
            let mut c = Case::new(1);
            let x = c.input(dtype, &[3, 21, 18]);
            let y = c.b.softmax(x, axis);
            let z = c.b.add_op(Op::LogSoftmax { axis }, &[x]);
            // exp and log within a few ulp; f16 rounds once here, after every step there
            c.check(&[y, z], if dtype == DType::F16 { 2e-3 } else { 2e-6 });
        }
    }
}

#[test]
fn normalisations_match_their_bodies() {
    let mut c = Case::new(2);
    let x = c.input(DType::F32, &[4, 5, 39]);
    let (s, t) = (c.constant(DType::F32, &[39]), c.input(DType::F32, &[39]));
    let y = c.b.layer_norm(x, s, t, 2, 1e-5);
    let (s, t) = (c.constant(DType::F32, &[5, 39]), c.input(DType::F32, &[5, 39]));
    let z = c.b.layer_norm(x, s, t, 1, 1e-5);
    let stats: Vec<Value> = (0..4).map(|_| c.input(DType::F32, &[5])).collect();
    let variance = c.b.mul(stats[3], stats[3]);
    let n = c.b.batch_norm(x, [stats[0], stats[1], stats[2], variance], 1, 0.1);
    c.check(&[y, z, n], 1e-5);
    for axis in 0..3 {
        for size in [1, 4, 5] {
            let mut c = Case::new(3);
            let x = c.input(DType::F32, &[3, 7, 18]);
            let lrn = |beta| Op::Lrn { size, alpha: Real(0.5), beta: Real(beta), bias: Real(1.0), axis };
            let y = c.b.add_op(lrn(0.75), &[x]);
            let z = c.b.add_op(lrn(0.6), &[x]);
            c.check(&[y, z], 1e-6);
        }
    }
}

#[test]
fn gather_clamps_and_scatter_skips() {
    for inner in [1, 3, 50] {
        for index in [DType::I64, DType::I32] {
            let mut c = Case::new(4);
            let x = c.input(DType::F32, &[2, 9, inner]);
            let places: Vec<f64> = vec![0., 8., -1., 9., 4., 4., 100., 3.];
            let i = c.feed(Tensor::from_f64(index, &[2, 4], &places).expect("sizes agree"));
            let g = c.b.gather(x, i, 1);
            let u = c.input(DType::F32, &[2, 2, 4, inner]);
            let mut outputs = vec![g];
            for mode in ScatterMode::ALL {
                outputs.push(c.b.scatter(x, i, u, 1, *mode));
            }
            let x2 = c.b.mul(x, x);
            outputs.push(c.b.scatter(x2, i, u, 1, ScatterMode::Add));
            c.check(&outputs, 1e-6);
        }
    }
}

#[test]
fn extremes_go_by_position_among_equals() {
    for dtype in [DType::F32, DType::F64, DType::F16, DType::I64, DType::I8, DType::U8] {
        for dims in [[2, 40, 3], [3, 5, 1], [1, 33, 18]] {
            for extreme in [Extreme::Max, Extreme::Min] {
                let mut c = Case::new(5);
                let x = if dtype.is_float() { awkward(&mut c, dtype, &dims) } else { c.input(dtype, &dims) };
                let mut outputs = Vec::new();
                for (axis, &extent) in dims.iter().enumerate() {
                    outputs.push(c.b.add_op(Op::ArgReduce { axis, extreme }, &[x]));
                    for k in [1, extent.min(4), extent] {
                        outputs.extend(c.b.add_node(Op::TopK { k, axis, extreme }, &[x], 2));
                    }
                }
                c.check(&outputs, 0.0);
            }
        }
    }
}

#[test]
fn long_rows_are_sorted() {
    let mut c = Case::new(6);
    let x = awkward(&mut c, DType::F32, &[2, 300]);
    let sorted = c.b.add_node(Op::TopK { k: 300, axis: 1, extreme: Extreme::Min }, &[x], 2);
    let best = c.b.add_node(Op::TopK { k: 50, axis: 1, extreme: Extreme::Max }, &[x], 2);
    c.check(&[sorted[0], sorted[1], best[0], best[1]], 0.0);
}

#[test]
fn sources_count_and_draw() {
    for dims in [vec![7], vec![2, 3, 5], vec![1000], vec![9, 33]] {
        let mut c = Case::new(7);
        let counter = c.feed(Tensor::from_f64(DType::I64, &[], &[41.0]).expect("a scalar"));
        let mut outputs = vec![c.b.add_op(Op::RandomBits { dims: fixed(&dims), seed: -12345 }, &[counter])];
        for axis in 0..dims.len() {
            for dtype in [DType::F32, DType::I64, DType::U8, DType::F16] {
                outputs.push(c.b.add_op(Op::Iota { dtype, dims: fixed(&dims), axis }, &[]));
            }
        }
        c.check(&outputs, 0.0);
    }
}

#[test]
fn quantisation_is_exact() {
    for dtype in [DType::I8, DType::U8, DType::I32] {
        let mut c = Case::new(8);
        let x = awkward(&mut c, DType::F32, &[3, 4, 17]);
        for (dims, axis) in [(vec![], 0), (vec![4], 1), (vec![17], 2)] {
            let n: usize = dims.iter().product();
            let scale = c.feed(Tensor::from_f64(DType::F32, &dims, &vec![0.037; n]).expect("sizes agree"));
            let zero = c.feed(Tensor::from_f64(dtype, &dims, &vec![7.0; n]).expect("sizes agree"));
            let q = c.b.add_op(Op::Quantize { dtype, axis }, &[x, scale, zero]);
            let d = c.b.add_op(Op::Dequantize { axis }, &[q, scale, zero]);
            c.b.output(&format!("q{axis}"), q);
            c.b.output(&format!("d{axis}"), d);
        }
        c.check(&[], 0.0);
    }
}

#[test]
fn the_gradient_of_a_maximum_goes_to_the_first_of_equals() {
    for (dims, window, strides, padding) in [
        ([2, 7, 8, 3], [1, 3, 2, 1], [1, 2, 2, 1], [0, 1, 0, 0]),
        ([1, 2, 6, 6], [1, 1, 2, 2], [1, 1, 1, 1], [0, 0, 1, 1]),
    ] {
        for extreme in [Extreme::Max, Extreme::Min] {
            let mut c = Case::new(9);
            let x = awkward(&mut c, DType::F32, &dims);
            let o = WindowOptions {
                window: window.to_vec(),
                strides: strides.to_vec(),
                padding: padding.iter().map(|&p| Padding::same(p)).collect(),
                dilation: vec![],
            };
            let pooled = c.b.max_pool(x, &o);
            let dims: Vec<usize> = c.b.dims(pooled).iter().filter_map(Dim::fixed).collect();
            let source = c.input(DType::F32, &dims);
            let op = Op::SelectAndScatter {
                window: window.to_vec(),
                strides: strides.to_vec(),
                padding: padding.iter().map(|&p| Padding::same(p)).collect(),
                extreme,
            };
            let y = c.b.add_op(op, &[x, source]);
            c.check(&[y], 1e-6);
        }
    }
}

#[test]
fn integers_are_exact_in_every_op_that_takes_them() {
    for dtype in [DType::I8, DType::U8, DType::I32, DType::I64] {
        let mut c = Case::new(10);
        let x = c.input(dtype, &[5, 37]);
        let w = c.constant(dtype, &[37, 19]);
        let wd = c.input(dtype, &[37, 19]);
        let mut out = vec![c.b.matmul(x, w), c.b.matmul(x, wd), c.b.dot(x, x, &[], &[], &[1], &[1])];
        let image = c.input(dtype, &[1, 6, 7, 5]);
        let kernel = c.constant(dtype, &[3, 3, 5, 9]);
        let o = ConvOptions {
            padding: vec![Padding::same(1); 2],
            layout: ConvLayout::ChannelsLast,
            ..ConvOptions::default()
        };
        out.push(c.b.conv(image, kernel, &o));
        for reducer in [Reducer::Sum, Reducer::Prod, Reducer::Max, Reducer::Min] {
            out.push(c.b.reduce(x, &[0], reducer));
            out.push(c.b.reduce(x, &[1], reducer));
        }
        let y = c.input(dtype, &[5, 37]);
        out.push(c.b.add(x, y));
        out.push(c.b.mul(x, y));
        out.push(c.b.div(x, y));
        out.push(c.b.rem(x, y));
        out.push(c.b.maximum(x, y));
        out.push(c.b.xor(x, y));
        out.push(c.b.less(x, y));
        out.push(c.b.sign(x));
        out.push(c.b.convert(x, DType::F32));
        c.check(&out, 0.0);
    }
}

#[test]
fn conversions_between_all_dtypes() {
    for from in DType::ALL {
        let mut c = Case::new(11);
        let x = if from.is_float() { awkward(&mut c, from, &[77]) } else { c.input(from, &[77]) };
        let outputs: Vec<Value> = DType::ALL.into_iter().map(|to| c.b.convert(x, to)).collect();
        c.check(&outputs, 0.0);
    }
}

#[test]
fn truth_values_reduce_and_select() {
    let mut c = Case::new(12);
    let x = c.input(DType::Bool, &[6, 45]);
    let y = c.input(DType::Bool, &[6, 45]);
    let f = c.input(DType::F32, &[6, 45]);
    let g = c.input(DType::F32, &[6, 45]);
    let out = [
        c.b.reduce(x, &[0], Reducer::And),
        c.b.reduce(x, &[1], Reducer::Or),
        c.b.and(x, y),
        c.b.not(x),
        c.b.select(x, f, g),
        c.b.transpose(x, &[1, 0]),
    ];
    c.check(&out, 0.0);
}

#[test]
fn half_floats_are_computed_in_f32() {
    for dtype in [DType::F16, DType::BF16] {
        let mut c = Case::new(13);
        let x = c.input(dtype, &[9, 40]);
        let w = c.constant(dtype, &[40, 24]);
        let y = c.b.matmul(x, w);
        let z = c.b.relu(x);
        let r = c.b.reduce(x, &[1], Reducer::Sum);
        // bf16 has 8 bits: sums that are rounded once against ones rounded at every step
        c.check(&[y, z, r], 2e-2);
    }
}

#[test]
fn not_a_number_goes_through() {
    let mut c = Case::new(14);
    let x = awkward(&mut c, DType::F32, &[4, 40]);
    let y = awkward(&mut c, DType::F32, &[4, 40]);
    let out = [
        c.b.relu(x),
        c.b.maximum(x, y),
        c.b.minimum(x, y),
        c.b.clip(x, -1.0, 1.0),
        c.b.reduce(x, &[0], Reducer::Max),
        c.b.reduce(x, &[1], Reducer::Min),
        c.b.is_nan(x),
        c.b.sign(x),
        c.b.equal(x, y),
    ];
    c.check(&out, 0.0);
}

#[test]
fn epilogues_and_prologues_are_applied() {
    let mut c = Case::new(15);
    let x = c.input(DType::F32, &[6, 32]);
    let w = c.constant(DType::F32, &[32, 21]);
    let bias = c.constant(DType::F32, &[1, 21]);
    let residual = c.input(DType::F32, &[6, 21]);
    let row = c.input(DType::F32, &[6, 1]);
    let dot = Op::FusedDot {
        lhs_batch: vec![],
        rhs_batch: vec![],
        lhs_contract: vec![1],
        rhs_contract: vec![0],
        epilogue: expr("max((a0 + a1) * a3 + a2, 0)"),
    };
    let y = c.b.add_op(dot, &[x, w, bias, residual, row]);
    let image = c.input(DType::F32, &[2, 9, 9, 8]);
    let kernel = c.constant(DType::F32, &[3, 3, 8, 20]);
    let shift = c.constant(DType::F32, &[1, 1, 1, 20]);
    let skip = c.input(DType::F32, &[2, 9, 9, 20]);
    let conv = |groups, epilogue: &str| Op::FusedConv {
        strides: vec![],
        padding: vec![Padding::same(1); 2],
        lhs_dilation: vec![],
        rhs_dilation: vec![],
        groups,
        layout: ConvLayout::ChannelsLast,
        epilogue: expr(epilogue),
    };
    let z = c.b.add_op(conv(1, "max(a0 + a1 + a2, 0)"), &[image, kernel, shift, skip]);
    let deep = c.constant(DType::F32, &[3, 3, 1, 8]);
    let shift8 = c.constant(DType::F32, &[1, 1, 1, 8]);
    let u = c.b.add_op(conv(8, "min(max(a0 + a1, 0), 6)"), &[image, deep, shift8]);
    let f = c.b.add_op(Op::FusedElementwise { expr: expr("a0 * a1 + a2") }, &[image, shift8, image]);
    let r = Op::FusedReduce { axes: vec![1, 2], reducer: Reducer::Sum, prologue: expr("a0 * a1") };
    let r = c.b.add_op(r, &[image, shift8]);
    let s = Op::FusedReduce { axes: vec![3], reducer: Reducer::Sum, prologue: expr("exp(a0 * a1)") };
    let s = c.b.add_op(s, &[image, shift8]);
    let q = Op::FusedReduce { axes: vec![0, 3], reducer: Reducer::Max, prologue: expr("a0 - a1") };
    let q = c.b.add_op(q, &[image, shift8]);
    c.check(&[y, z, u, f, r, s, q], 1e-5);
}

#[test]
fn outputs_may_be_inputs_constants_views_and_twice_the_same() {
    let mut c = Case::new(16);
    let x = c.input(DType::F32, &[4, 6]);
    let k = c.constant(DType::F32, &[5]);
    let y = c.b.add(x, x);
    let r = c.b.reshape(y, &fixed(&[24]));
    let s = c.b.slice(y, &[1, 0], &[3, 6], &[]);
    c.check(&[x, k, y, y, r, s, x], 0.0);
}

#[test]
fn variables_are_read_before_they_are_assigned() {
    let mut c = Case::new(17);
    let x = c.input(DType::F32, &[4]);
    let zeros = kiln_ir::Initializer::ZEROS;
    let a = c.b.variable("a", DType::F32, &[4], zeros.clone());
    let b = c.b.variable("b", DType::F32, &[4], kiln_ir::Initializer::ONES);
    let fixed = c.b.variable("fixed", DType::F32, &[4], kiln_ir::Initializer::ONES);
    let sum = c.b.add(a, x);
    let sum = c.b.add(sum, fixed);
    c.b.assign("a", b);
    c.b.assign("b", sum);
    c.b.output("sum", sum);
    c.b.output("old", a);
    let graph = c.b.finish().expect("well-formed");
    check(&graph, &c.feeds, 0.0);
    let mut state = kiln_ir::interp::State::new();
    let module = compile(&graph, &Target::host().expect("supported"), CompileOptions::default()).expect("compiles");
    let pool = kiln_runtime::PoolHandle::new(1);
    let mut executor = kiln_runtime::Executor::new(module.executable().expect("runs here"), pool).expect("memory");
    let feeds: Vec<(&str, &Tensor)> = c.feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let named: Vec<(&str, Tensor)> = c.feeds.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    for _ in 0..4 {
        let want = kiln_ir::interp::run::<f32>(&graph, &named, Some(&mut state)).expect("runs");
        let got = executor.run_named(&feeds).expect("runs");
        assert_eq!(got, want);
    }
}

#[test]
fn parts_of_a_concatenation_are_made_in_their_places() {
    let mut c = Case::new(18);
    let x = c.input(DType::F32, &[2, 6, 6, 5]);
    let w = c.constant(DType::F32, &[1, 1, 5, 7]);
    let last = ConvOptions { layout: ConvLayout::ChannelsLast, ..ConvOptions::default() };
    let conv = c.b.conv(x, w, &last);
    let o = WindowOptions {
        window: vec![1, 3, 3, 1],
        padding: vec![Padding::NONE, Padding::same(1), Padding::same(1), Padding::NONE],
        ..WindowOptions::default()
    };
    let pool = c.b.max_pool(x, &o);
    let relu = c.b.relu(x);
    let twice = c.b.neg(x);
    let inner = c.b.concat(&[relu, twice], 3);
    let joined = c.b.concat(&[conv, pool, inner, twice], 3);
    let up = c.constant(DType::F32, &[2, 2, 27, 3]);
    let o = ConvOptions { lhs_dilation: vec![2, 2], padding: vec![Padding::same(1); 2], ..last };
    let spread = c.b.conv(joined, up, &o);
    let doubled = c.b.add(joined, joined);
    let module = c.check(&[spread, doubled], 1e-5);
    let copies = module.plan().steps.iter().filter(|s| s.label.starts_with("concat")).count();
    // the negation has two places and is made in one of them; the inner concatenation is made within the outer one
    assert_eq!(copies, 1);
}

#[test]
fn recurrent_layers_of_every_cell_match_their_bodies() {
    let layers: [(Cell, bool); 5] = [
        (Cell::Rnn, false),
        (Cell::Lstm, false),
        (Cell::Lstm, true),
        (Cell::Gru, false),
        (Cell::GruResetBefore, false),
    ];
    for (seed, (cell, peepholes)) in (0..).zip(layers) {
        // from the fourth step on, steps repeat the one before
        for (steps, batch, units, fed, reverse) in [
            (3, 1, 150, false, false),
            (4, 3, 7, false, true),
            (2, 2, 33, true, false),
            (3, 2, 1, true, false),
            (1, 1, 20, false, false),
            (9, 1, 12, false, false),
            (8, 2, 5, true, true),
        ] {
            for dtype in [DType::F32, DType::F64] {
                let mut c = Case::new(seed);
                let sums = cell.gates() * units;
                let x = c.input(dtype, &[steps, batch, sums]);
                // weights as layers have them: sums of many products stay where activations are steep
                let small = |c: &mut Case, dims: &[usize]| {
                    let drawn = c.numbers.tensor(dtype, dims);
                    let scaled: Vec<f64> = drawn.to_f64_vec().iter().map(|v| v / (units as f64).sqrt()).collect();
                    Tensor::from_f64(dtype, dims, &scaled).expect("sizes agree")
                };
                let w = small(&mut c, &[sums, units]);
                let w = if fed { c.feed(w) } else { c.b.constant(w) };
                let mut operands = vec![x, w, c.input(dtype, &[batch, units])];
                if cell == Cell::Lstm {
                    operands.push(c.constant(dtype, &[batch, units]));
                }
                if cell == Cell::Gru || peepholes {
                    operands.push(c.constant(dtype, &[if peepholes { 3 } else { 1 }, units]));
                }
                let op = Op::Recurrent { cell, activations: Vec::new(), reverse };
                let results = c.b.add_node(op, &operands, if cell == Cell::Lstm { 2 } else { 1 });
                // sums of 150 products in another order, through a few steps
                c.check(&results, 1e-5);
            }
        }
    }
}

#[test]
fn recurrent_weights_are_packed_once_for_all_steps() {
    let mut c = Case::new(7);
    let (x, w, h) =
        (c.input(DType::F32, &[5, 1, 40]), c.constant(DType::F32, &[40, 40]), c.input(DType::F32, &[1, 40]));
    let activations = vec![expr("max(a0, 0)")];
    let op = Op::Recurrent { cell: Cell::Rnn, activations, reverse: false };
    let y = c.b.add_op(op, &[x, w, h]);
    let module = c.check(&[y], 1e-5);
    assert_eq!((module.weights().segments().len(), module.packed().len()), (1, 1));
    assert_eq!((module.plan().steps.len(), module.kernels().len()), (10, 2), "each step runs the same two kernels");
    let decided = &module.decisions()[0];
    assert_eq!(decided.steps, 0..9, "the last product is of the layer, too");
}

#[test]
fn a_layer_of_more_steps_than_a_plan_may_have_is_refused_before_they_are_made() {
    for (cell, reverse) in [(Cell::Rnn, false), (Cell::Lstm, true), (Cell::GruResetBefore, false)] {
        let mut c = Case::new(11);
        let sums = cell.gates() * 2;
        let x = c.b.placeholder("x", DType::F32, &[1 << 50, 1, sums].map(kiln_ir::Dim::Fixed));
        let (w, h) = (c.constant(DType::F32, &[sums, 2]), c.input(DType::F32, &[1, 2]));
        let operands = if cell == Cell::Lstm { vec![x, w, h, h] } else { vec![x, w, h] };
        let op = Op::Recurrent { cell, activations: Vec::new(), reverse };
        let results = c.b.add_node(op, &operands, if cell == Cell::Lstm { 2 } else { 1 });
        c.b.output("y", results[0]);
        let graph = c.b.finish().expect("well-formed");
        let refused = compile(&graph, &Target::host().expect("supported"), CompileOptions::default());
        let refused = refused.map(drop).expect_err("too many steps");
        let CompileError::Lower(LowerError::TooManySteps { op: "recurrent", steps, .. }) = &refused else {
            panic!("{refused}");
        };
        let text = refused.to_string();
        assert!(text.contains(&steps.to_string()) && text.contains("at most 262144"), "{text}");
    }
}

#[test]
fn a_layer_over_an_empty_batch_makes_no_step() {
    let mut c = Case::new(7);
    let (x, w, h) = (c.input(DType::F32, &[3, 0, 8]), c.constant(DType::F32, &[8, 2]), c.input(DType::F32, &[0, 2]));
    let op = Op::Recurrent { cell: Cell::Lstm, activations: Vec::new(), reverse: false };
    let results = c.b.add_node(op, &[x, w, h, h], 2);
    assert_eq!(c.check(&results, 0.0).plan().steps.len(), 0);
}

#[test]
fn numbers_beyond_any_memory_are_refused_or_mean_nothing() {
    let huge = 1usize << 60;
    let mut c = Case::new(19);
    let x = c.input(DType::F32, &[1, 4, 4, 2]);
    // steps beyond the end take the first element only
    let s = c.b.slice(x, &[0, 1, 0, 0], &[1, 4, 4, 2], &[huge, huge, 1, huge]);
    // a window wider than all channels holds them all
    let wide = |axis| Op::Lrn { size: 1001, alpha: Real(1e3), beta: Real(0.75), bias: Real(1.0), axis };
    let l = c.b.add_op(wide(3), &[x]);
    let m = c.b.add_op(wide(1), &[x]);
    c.check(&[s, l, m], 1e-6);

    let mut c = Case::new(20);
    let x = c.input(DType::F32, &[1, 1, 1, 2]);
    let w = c.constant(DType::F32, &[1, 1, 2, 2]);
    let far = Padding { low: huge as i64, high: 0 };
    let o = ConvOptions {
        padding: vec![far; 2],
        strides: vec![huge; 2],
        layout: ConvLayout::ChannelsLast,
        ..ConvOptions::default()
    };
    let y = c.b.conv(x, w, &o);
    c.b.output("y", y);
    let graph = c.b.finish().expect("well-formed");
    let refused = compile(&graph, &Target::host().expect("supported"), CompileOptions::default());
    assert!(matches!(refused, Err(CompileError::Lower(LowerError::TooLarge { op: "conv_general", .. }))));
}

#[test]
fn a_response_normalisation_whose_squares_no_memory_holds_is_too_large() {
    let mut c = Case::new(22);
    let x = c.b.placeholder("x", DType::F32, &[1, 1 << 59].map(kiln_ir::Dim::Fixed));
    let y = c.b.add_op(Op::Lrn { size: 5, alpha: Real(1.0), beta: Real(0.75), bias: Real(1.0), axis: 1 }, &[x]);
    c.b.output("y", y);
    let graph = c.b.finish().expect("well-formed");
    let refused = compile(&graph, &Target::host().expect("supported"), CompileOptions::default());
    let text = refused.map(drop).expect_err("2^62 bytes of squares").to_string();
    assert!(text.contains("`lrn` gives squares of 576460752303423488 channels, which takes more memory"), "{text}");
}

#[test]
fn far_spread_convolutions_are_right() {
    let mut c = Case::new(21);
    let x = c.input(DType::F32, &[1, 3, 2, 2]);
    let w = c.constant(DType::F32, &[3, 2, 2, 3]);
    let o = ConvOptions {
        lhs_dilation: vec![11, 13],
        padding: vec![Padding::same(1), Padding { low: 2, high: 5 }],
        layout: ConvLayout::ChannelsLast,
        ..ConvOptions::default()
    };
    let y = c.b.conv(x, w, &o);
    c.check(&[y], 1e-6);
}

#[test]
fn interpreted_kernels_give_the_bits_of_compiled_ones() {
    let mut c = Case::new(22);
    let x = c.input(DType::F32, &[1, 9, 10, 6]);
    let w = c.constant(DType::F32, &[3, 3, 6, 11]);
    let o = ConvOptions {
        strides: vec![2, 1],
        padding: vec![Padding::same(1); 2],
        layout: ConvLayout::ChannelsLast,
        ..ConvOptions::default()
    };
    let y = c.b.conv(x, w, &o);
    let deep = c.constant(DType::F32, &[3, 3, 1, 11]);
    let depthwise = c.b.conv(y, deep, &ConvOptions { groups: 11, strides: vec![], ..o.clone() });
    let joined = c.b.concat(&[y, depthwise], 3);
    let up = c.constant(DType::F32, &[2, 2, 22, 4]);
    let spread = c.b.conv(joined, up, &ConvOptions { lhs_dilation: vec![2, 2], strides: vec![], ..o });
    let flat = c.b.reduce(spread, &[1, 2], Reducer::Max);
    let dense = c.constant(DType::F32, &[4, 40]);
    let logits = c.b.matmul(flat, dense);
    let p = c.b.softmax(logits, 1);
    let turned = c.b.transpose(spread, &[3, 0, 2, 1]);
    let best = c.b.add_node(Op::TopK { k: 3, axis: 1, extreme: Extreme::Max }, &[p], 2);
    for (i, v) in [p, turned, best[0], best[1]].into_iter().enumerate() {
        c.b.output(&format!("y{i}"), v);
    }
    let graph = c.b.finish().expect("well-formed");
    // exp, and sums in another order
    let module = check(&graph, &c.feeds, 1e-5);
    let inputs: Vec<Tensor> = c.feeds.iter().map(|(_, t)| t.clone()).collect();
    let interpreted = graph::interpret(&module, &inputs);
    let pool = kiln_runtime::PoolHandle::new(1);
    let mut executor = kiln_runtime::Executor::new(module.executable().expect("runs here"), pool).expect("memory");
    let compiled = executor.run_tensors(&inputs.iter().collect::<Vec<_>>()).expect("runs");
    for (a, b) in interpreted.iter().zip(&compiled) {
        assert_eq!(&a[..], &b.bytes()[..]);
    }
}

#[test]
fn equal_copies_at_other_places_share_a_kernel() {
    let mut c = Case::new(23);
    let x = c.input(DType::F32, &[6, 40]);
    let parts: Vec<Value> = (0..5).map(|i| c.b.slice_axis(x, 1, i * 8, i * 8 + 8)).collect();
    let joined = c.b.concat(&[parts[4], parts[2], parts[0], parts[1], parts[3]], 1);
    let module = c.check(&[joined], 0.0);
    // one takes a slice out, one puts it in
    assert!(module.kernels().len() <= 2, "{}", module.dump());

    let mut c = Case::new(24);
    let (x, nothing) = (c.input(DType::F32, &[6, 8]), c.input(DType::F32, &[6, 0]));
    let joined = c.b.concat(&[nothing, x, nothing, x], 1);
    assert_eq!(c.check(&[joined], 0.0).kernels().len(), 1);
}

#[test]
fn operations_on_more_elements_than_can_be_counted_are_as_many_as_can() {
    // as many bytes as a value may have
    let dims = [1usize << 60];
    let steps: [fn(&mut Builder, Value) -> Value; 2] = [|b, x| b.exp(x), |b, x| b.softmax(x, 0)];
    for (i, step) in steps.into_iter().enumerate() {
        let mut b = Builder::new("huge");
        let x = b.placeholder("x", DType::F16, &dims.map(Dim::Fixed));
        let y = step(&mut b, x);
        b.output("y", y);
        let target = Target::host().expect("this machine is supported");
        let module =
            compile(&b.finish().expect("a graph"), &target, CompileOptions::default()).expect("it has addresses");
        assert_eq!(module.plan().flops(), u64::MAX, "step {i}");
    }
}

#[test]
fn large_results_of_little_arithmetic_are_streamed() {
    let streamed = |extent: usize, build: fn(&mut Case, Value) -> Value| {
        let mut c = Case::new(extent as u64);
        let x = c.input(DType::F32, &[extent, 1 << 10]);
        let y = build(&mut c, x);
        let module = c.check(&[y], 1e-6);
        module.kernels().iter().any(|k| k.buffers.iter().any(|b| b.streamed))
    };
    let moved = |c: &mut Case, x: Value| {
        let t = c.b.transpose(x, &[1, 0]);
        c.b.neg(t)
    };
    assert!(streamed(1 << 12, |c, x| c.b.abs(x)));
    assert!(streamed((1 << 12) + 3, moved));
    // a cache holds it, or what is computed takes the time
    assert!(!streamed(1 << 8, |c, x| c.b.abs(x)));
    assert!(!streamed(1 << 12, |c, x| c.b.tanh(x)));
}
