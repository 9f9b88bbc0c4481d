//! The DSL: what it builds, and what it says when it cannot.

use kiln::prelude::*;
use kiln_ir::Dim;

#[test]
fn layers_give_the_shapes_of_a_small_network() {
    let scope = Scope::new("net");
    let x = scope.placeholder::<f32>("image", dims!["batch", 3, 32, 30]);
    let x = Conv2d::new(8, 3).padding(Padding::Same).stride(2).apply("stem", x);
    assert_eq!(x.dims(), dims!["batch", 8, 16, 15]);
    let x = layers::batch_norm("bn", x, 1e-5).relu();
    let y = layers::depthwise("dw", x, 3, 1, Padding::Each(1));
    let x = concat(&scope, &[x, y, x + y], 1);
    assert_eq!(x.dims(), dims!["batch", 24, 16, 15]);
    let up = layers::upsample(x, 2);
    assert_eq!(up.dims(), dims!["batch", 24, 32, 30]);
    let x = Pool::new(3).stride(2).max(x);
    assert_eq!(x.dims(), dims!["batch", 24, 7, 7]);
    let logits = layers::dense("head", layers::flatten(x), 10);
    scope.output("probabilities", logits.softmax(-1));
    scope.output("mean", layers::global_avg_pool(up));
    let graph = scope.finish().expect("a well-formed graph");
    let types: Vec<String> = graph.outputs().iter().map(|(n, v)| format!("{n}: {}", graph.ty(*v))).collect();
    assert_eq!(types, ["probabilities: f32[batch, 10]", "mean: f32[batch, 24]"]);
    let head = graph.variable("head.weight").expect("the dense layer's weight");
    assert_eq!(head.ty.static_dims(), Some(vec![10, 24 * 49]));
}

#[test]
fn recurrent_layers_take_pytorchs_weights_and_go_on_from_a_state() {
    let scope = Scope::new("sequence");
    let x = scope.placeholder::<f32>("x", dims![5, "batch", 3]);
    let (y, end) = Recurrent::lstm(4).apply("l", x);
    let (z, later) = Recurrent::lstm(4).no_bias().apply_from("m", x, end);
    let (g, last) = Recurrent::gru(2).reverse().apply("g", z);
    let (r, _) = Recurrent::rnn(6).apply("r", g);
    for (name, value) in [("y", y), ("r", r), ("last", last.hidden), ("later", later.hidden)] {
        scope.output(name, value);
    }
    scope.output("cell", later.cell.expect("an LSTM has one"));
    assert!(last.cell.is_none());
    let graph = scope.finish().expect("a well-formed graph");
    let types: Vec<String> = graph.outputs().iter().map(|(n, v)| format!("{n}: {}", graph.ty(*v))).collect();
    let expected = [
        "y: f32[5, batch, 4]",
        "r: f32[5, batch, 6]",
        "last: f32[batch, 2]",
        "later: f32[batch, 4]",
        "cell: f32[batch, 4]",
    ];
    assert_eq!(types, expected);
    let variables: Vec<String> = graph.variables().iter().map(|v| format!("{} {}", v.name, v.ty)).collect();
    assert_eq!(
        variables[..4],
        ["l.weight_ih f32[16, 3]", "l.weight_hh f32[16, 4]", "l.bias_ih f32[16]", "l.bias_hh f32[16]"]
    );
    assert_eq!(variables.len(), 4 + 2 + 4 + 4);
}

#[test]
fn a_sequence_in_two_parts_is_the_sequence_in_one() {
    let steps = |scope: &Scope, x: Tensor<'_>| {
        let (y, end) = Recurrent::gru(3).apply("g", x);
        scope.output("y", y);
        scope.output("end", end.hidden);
    };
    let whole = Scope::new("whole");
    let x = whole.placeholder::<f32>("x", dims![4, 2, 3]);
    steps(&whole, x);
    let whole = whole.finish().expect("a well-formed graph");
    let part = Scope::new("part");
    let x = part.placeholder::<f32>("x", dims![2, 2, 3]);
    let hidden = part.placeholder::<f32>("h", dims![2, 3]);
    let (y, end) = Recurrent::gru(3).apply_from("g", x, layers::RecurrentState { hidden, cell: None });
    part.output("y", y);
    part.output("end", end.hidden);
    let part = part.finish().expect("a well-formed graph");
    let values: Vec<f32> = (0..24).map(|i| ((i * 7 % 11) as f32 - 5.0) / 4.0).collect();
    let tensor = |dims: &[usize], values: &[f32]| kiln_ir::Tensor::from_slice(dims, values).expect("sizes agree");
    let run = |graph: &kiln_ir::Graph, feeds: &[(&str, kiln_ir::Tensor)]| {
        kiln_ir::interp::run::<f32>(graph, feeds, None).expect("it runs")
    };
    let all = run(&whole, &[("x", tensor(&[4, 2, 3], &values))]);
    let first = run(&part, &[("x", tensor(&[2, 2, 3], &values[..12])), ("h", tensor(&[2, 3], &[0.0; 6]))]);
    let second = run(&part, &[("x", tensor(&[2, 2, 3], &values[12..])), ("h", first[1].1.clone())]);
    let joined = [first[0].1.to_vec::<f32>().expect("f32"), second[0].1.to_vec::<f32>().expect("f32")].concat();
    assert_eq!(all[0].1.to_vec::<f32>().expect("f32"), joined);
    assert_eq!(all[1].1, second[1].1);
}

#[test]
fn numbers_beside_tensors_take_their_dtype_and_operands_broadcast() {
    let scope = Scope::new("arithmetic");
    let x = scope.placeholder::<f64>("x", dims![4, 1]);
    let y = scope.placeholder::<f64>("y", dims![3]);
    let z = 1.0 - (x * 2 + y) / 0.5;
    assert_eq!(z.ty().map(|t| t.to_string()).as_deref(), Some("f64[4, 3]"));
    assert_eq!(x.less(y).ty().map(|t| t.to_string()).as_deref(), Some("bool[4, 3]"));
}

#[test]
fn every_independent_mistake_is_reported_once_with_its_line() {
    let scope = Scope::new("wrong");
    let x = scope.placeholder::<f32>("x", dims![2, 3]);
    let y = scope.placeholder::<f32>("y", dims![4, 5]);
    let line = line!();
    let bad = x + y;
    let worse = (bad * 2.0).relu();
    let other = x.matmul(y);
    scope.output("bad", worse);
    scope.output("other", other);
    let errors = scope.finish().expect_err("two mistakes");
    let text = errors.to_string();
    assert_eq!(errors.0.len(), 2, "{text}");
    assert!(text.contains(&format!("tests/dsl.rs:{}:", line + 1)) && text.contains("`add`"), "{text}");
    assert!(text.contains(&format!("tests/dsl.rs:{}:", line + 3)) && text.contains("`dot_general`"), "{text}");
}

#[test]
fn a_variable_declared_twice_is_an_error() {
    let scope = Scope::new("twice");
    let x = scope.placeholder::<f32>("x", [Dim::Fixed(1), Dim::Fixed(4)]);
    let y = layers::dense("fc", x, 4);
    let z = layers::dense("fc", y, 4);
    scope.output("z", z);
    let text = scope.finish().expect_err("a name used twice").to_string();
    assert!(text.contains("a variable named `fc.weight`"), "{text}");
}

#[test]
fn a_variables_first_value_depends_on_its_name_and_the_seed_alone() {
    let build = |first: &str| {
        let scope = Scope::new("seeds");
        scope.set_seed(7);
        let x = scope.placeholder::<f32>("x", dims![1, 4]);
        layers::dense(first, x, 2);
        layers::dense("fc", x, 2);
        scope.finish().expect("a well-formed graph").variable("fc.weight").map(|v| v.init.clone())
    };
    assert_eq!(build("a"), build("b"));
}

#[test]
fn a_mean_over_a_symbolic_extent_is_refused_where_it_is_written() {
    let scope = Scope::new("mean");
    let x = scope.placeholder::<f32>("x", dims!["n", 3]);
    scope.output("over_n", x.mean(&[0]));
    scope.output("over_3", x.mean(&[1]));
    let errors = scope.finish().expect_err("the number of rows is not known");
    assert_eq!(errors.0.len(), 1, "{errors}");
    assert!(errors.to_string().contains("axis 0, whose extent is n"), "{errors}");
}

#[test]
fn numbers_that_an_integer_dtype_does_not_hold_are_refused() {
    let scope = Scope::new("numbers");
    let x = scope.placeholder::<i32>("x", dims![2]);
    let y = scope.placeholder::<u8>("y", dims![2]);
    let z = scope.placeholder::<i64>("z", dims![2]);
    scope.output("half", x * 0.5);
    scope.output("negative", y + (-1));
    scope.output("large", y + 300);
    scope.output("exact", z + (i64::MAX - 1));
    let errors = scope.finish().expect_err("three numbers do not fit");
    assert_eq!(errors.0.len(), 3, "{errors}");
    assert!(errors.to_string().contains("the number 0.5 is not exact in i32"), "{errors}");
}

#[test]
fn tensors_of_two_scopes_do_not_mix() {
    let (left, right) = (Scope::new("left"), Scope::new("right"));
    let x = left.placeholder::<f32>("x", dims![2]);
    let y = right.placeholder::<f32>("y", dims![2]);
    left.output("sum", x + y);
    left.output("product", x.matmul(y));
    let errors = left.finish().expect_err("y belongs to the other scope");
    assert_eq!(errors.0.len(), 2, "{errors}");
}

/// `file:line:` of the line that is `offset` below the one that `line` is.
fn place(line: u32, offset: u32) -> String {
    format!("tests/dsl.rs:{}:", line + offset)
}

#[test]
fn names_used_twice_and_unfit_initialisers_are_reported_with_their_line() {
    let scope = Scope::new("twice");
    let value = kiln_ir::Tensor::from_slice(&[3], &[1.0f32, 2.0, 3.0]).expect("three numbers");
    let line = line!();
    let x = scope.placeholder::<f32>("x", dims![2]);
    scope.placeholder::<f32>("x", dims![3]);
    scope.variable::<f32>("v", &[2], Initializer::ZEROS);
    scope.variable::<f32>("v", &[2], Initializer::ZEROS);
    scope.variable::<f32>("w", &[2], Initializer::Value(value.into()));
    scope.variable::<i32>("random", &[2], Initializer::Uniform { low: 0.0.into(), high: 1.0.into(), seed: 1 });
    scope.output("y", x);
    scope.output("y", x);
    let errors = scope.finish().expect_err("five mistakes");
    let text: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    let expected = [
        (2, "an input named `x`"),
        (4, "a variable named `v`"),
        (5, "`w`"),
        (6, "`random`"),
        (8, "an output named `y`"),
    ];
    assert_eq!(text.len(), expected.len(), "{errors}");
    for (error, (offset, part)) in text.iter().zip(expected) {
        assert!(error.contains(&place(line, offset)) && error.contains(part), "{part}: {error}");
    }
}

#[test]
fn layers_that_need_the_number_of_a_symbolic_extent_name_it_and_the_line() {
    let scope = Scope::new("symbolic");
    let rows = scope.placeholder::<f32>("rows", dims![4, "n"]);
    let deep = scope.placeholder::<f32>("deep", dims![1, "c", 8, 8]);
    let wide = scope.placeholder::<f32>("wide", dims![1, 3, 8, "w"]);
    let line = line!();
    scope.output("dense", layers::dense("fc", rows, 10));
    scope.output("conv", Conv2d::new(4, 3).apply("conv", deep));
    scope.output("same", Conv2d::new(4, 3).padding(Padding::Same).apply("same", wide));
    scope.output("depthwise", layers::depthwise("dw", deep, 3, 1, Padding::Valid));
    scope.output("norm", layers::batch_norm("bn", deep, 1e-5));
    scope.output("pool", Pool::new(2).padding(Padding::Same).max(wide));
    scope.output("mean", Pool::new(2).padding(Padding::Same).avg(wide));
    scope.output("flat", layers::flatten(wide));
    scope.output("up", layers::upsample(wide, 2).relu());
    let errors = scope.finish().expect_err("nine extents");
    let text: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    let expected = [
        "layer `fc` needs the number of elements of axis 1, whose extent is n",
        "layer `conv` needs the number of elements of axis 1, whose extent is c",
        "layer `same` needs the number of elements of axis 3, whose extent is w",
        "layer `dw` needs the number of elements of axis 1, whose extent is c",
        "layer `bn` needs the number of elements of axis 1, whose extent is c",
        "`Pool` needs the number of elements of axis 3, whose extent is w",
        "`Pool` needs the number of elements of axis 3, whose extent is w",
        "`flatten` needs the number of elements of axis 3, whose extent is w",
        "`upsample` needs the number of elements of axis 3, whose extent is w",
    ];
    assert_eq!(text.len(), expected.len(), "{errors}");
    for (offset, (error, part)) in (1..).zip(text.iter().zip(expected)) {
        assert!(error.contains(&place(line, offset)) && error.contains(part), "{part}: {error}");
    }
}

#[test]
fn layers_on_tensors_of_another_rank_say_which_axes_they_take() {
    let scope = Scope::new("rank");
    let row = scope.placeholder::<f32>("row", dims![3]);
    let number = scope.scalar(1f32);
    let line = line!();
    scope.output("dense", layers::dense("fc", number, 10));
    scope.output("conv", Conv2d::new(4, 3).apply("conv", row));
    scope.output("norm", layers::batch_norm("bn", row, 1e-5));
    scope.output("pool", Pool::new(2).max(row));
    scope.output("up", layers::upsample(row, 2));
    let errors = scope.finish().expect_err("five ranks");
    let text: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    let expected = [
        "layer `fc` takes […, inputs], found f32[]",
        "layer `conv` takes [N, C, H, W], found f32[3]",
        "layer `bn` takes [N, C, …], found f32[3]",
        "`Pool` takes [N, C, H, W], found f32[3]",
        "`upsample` takes [N, C, H, W], found f32[3]",
    ];
    assert_eq!(text.len(), expected.len(), "{errors}");
    for (offset, (error, part)) in (1..).zip(text.iter().zip(expected)) {
        assert!(error.contains(&place(line, offset)) && error.contains(part), "{part}: {error}");
    }
}

#[test]
fn an_axis_that_is_not_there_is_named_as_it_was_written_and_nothing_else_is_blamed() {
    let scope = Scope::new("axes");
    let x = scope.placeholder::<f32>("x", dims![2, 3]);
    scope.output("a", x.mean(&[-9]));
    scope.output("b", x.softmax(2).relu());
    scope.output("c", concat(&scope, &[x.slice(1, 0, 1), x], -3));
    let errors = scope.finish().expect_err("three mistakes");
    let text = errors.to_string();
    assert_eq!(errors.0.len(), 3, "{text}");
    for axis in ["axis -9 of f32[2, 3]: expected one from -2 to 1", "axis 2 of f32[2, 3]", "axis -3 of f32[2, 1]"] {
        assert!(text.contains(axis), "{text}");
    }
}

#[test]
fn a_layer_with_a_bias_that_fails_is_one_error() {
    let scope = Scope::new("wrong");
    let x = scope.placeholder::<f32>("x", dims!["b", 8, "h", 32]);
    scope.output("y", Conv2d::new(4, 3).apply("conv", x));
    let errors = scope.finish().expect_err("one mistake");
    assert_eq!(errors.0.len(), 1, "{errors}");
    assert!(errors.to_string().contains("`conv_general`"), "{errors}");
}

/// The results of a graph of one output, interpreted.
fn interpreted(scope: Scope, feeds: &[(&str, &[usize], &[f32])]) -> Vec<f32> {
    let graph = scope.finish().expect("a well-formed graph");
    let tensor = |dims: &[usize], values: &[f32]| kiln_ir::Tensor::from_slice(dims, values).expect("sizes agree");
    let feeds: Vec<(&str, kiln_ir::Tensor)> = feeds.iter().map(|(name, dims, v)| (*name, tensor(dims, v))).collect();
    let results = kiln_ir::interp::run::<f32>(&graph, &feeds, None).expect("it runs");
    results[0].1.to_vec::<f32>().expect("f32")
}

#[test]
fn the_names_of_blocks_come_before_those_of_their_layers_and_variables() {
    let scope = Scope::new("blocks");
    let x = scope.placeholder::<f32>("x", dims![1, 4, 2, 2]);
    let y = x.within("outer", |x| x.within("inner", |x| Conv2d::new(4, 1).no_bias().apply("conv", x)));
    let bias = scope.within("outer", || scope.variable::<f32>("shift", &[1], Initializer::ZEROS));
    let wrong = scope.within("outer", || layers::dense("fc", scope.scalar(1f32), 2));
    let after = Conv2d::new(4, 1).no_bias().apply("conv", y + bias);
    scope.output("y", after);
    scope.output("wrong", wrong);
    let errors = scope.finish().expect_err("a number has no inputs").to_string();
    assert!(errors.contains("layer `outer.fc` takes"), "{errors}");

    let scope = Scope::new("blocks");
    let x = scope.placeholder::<f32>("x", dims![1, 4, 2, 2]);
    let y = x.within("outer", |x| x.within("inner", |x| Conv2d::new(4, 1).no_bias().apply("conv", x)));
    let bias = scope.within("outer", || scope.variable::<f32>("shift", &[1], Initializer::ZEROS));
    scope.output("y", Conv2d::new(4, 1).no_bias().apply("conv", y + bias));
    scope.within("outer", || scope.assign("shift", bias + 1.0));
    let graph = scope.finish().expect("a well-formed graph");
    let names: Vec<&str> = graph.variables().iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["outer.inner.conv.weight", "outer.shift", "conv.weight"]);
    // other names draw other values
    assert_ne!(graph.variables()[0].init, graph.variables()[2].init);
}

#[test]
fn padding_for_ceil_mode_gives_pytorchs_extents() {
    // (extent, window, stride, padding, what torch.nn.MaxPool2d(window, stride, padding, ceil_mode=True) makes of it)
    let cases = [
        (112, 3, 2, 0, 56),
        (111, 3, 2, 0, 55),
        (7, 2, 2, 0, 4),
        (6, 2, 2, 0, 3),
        // the last window would begin in the padding behind: it is left out
        (3, 2, 2, 1, 2),
        (5, 3, 3, 1, 2),
        (1, 2, 2, 0, 1),
    ];
    for (extent, window, stride, padding, expected) in cases {
        let scope = Scope::new("ceil");
        let x = scope.placeholder::<f32>("x", dims!["n", 1, extent, extent]);
        let y = Pool::new(window).stride(stride).padding(Padding::Ceil(padding)).max(x);
        assert_eq!(y.dims(), dims!["n", 1, expected, expected], "{extent} {window} {stride} {padding}");
    }
}

#[test]
fn a_transposed_convolution_spreads_each_element_over_its_window() {
    let scope = Scope::new("up");
    let x = scope.placeholder::<f32>("x", dims![1, 2, 1, 2]);
    let y = layers::ConvTranspose2d::new(1, 3).stride(2).apply("up", x);
    assert_eq!(y.dims(), dims![1, 1, 3, 5]);
    scope.output("y", layers::crop(y, (1, 0), (1, 5)));
    let mut graph = scope.finish().expect("a well-formed graph");
    // [2, 1, 3, 3]: the middle row of the first channel's window is 1 2 3, of the second's 10 20 30
    let mut values = vec![0f32; 18];
    values[3..6].copy_from_slice(&[1.0, 2.0, 3.0]);
    values[12..15].copy_from_slice(&[10.0, 20.0, 30.0]);
    let weight = kiln_ir::Tensor::from_slice(&[2, 1, 3, 3], &values).expect("18 values");
    let bias = kiln_ir::Tensor::from_slice(&[1], &[0.5f32]).expect("a value");
    graph.set_initializer("up.weight", Initializer::Value(weight.into())).expect("PyTorch's [C, filters, k, k]");
    graph.set_initializer("up.bias", Initializer::Value(bias.into())).expect("[filters]");
    let x = kiln_ir::Tensor::from_slice(&[1, 2, 1, 2], &[1f32, 2.0, 100.0, 200.0]).expect("4 values");
    let found = kiln_ir::interp::run::<f32>(&graph, &[("x", x)], None).expect("it runs");
    // 1·(1 2 3) at 0 and 2·(1 2 3) at 2, and a thousand times that of the second channel
    assert_eq!(found[0].1.to_vec::<f32>().expect("f32"), [1001.5, 2002.5, 5005.5, 4004.5, 6006.5]);
}

#[test]
fn max_unpooling_puts_each_element_where_the_maximum_was() {
    let scope = Scope::new("unpool");
    let x = scope.placeholder::<f32>("x", dims![1, 1, 2, 4]);
    let pool = Pool::new(2);
    scope.output("y", pool.max_unpool(pool.max(x) * 10.0, x));
    let found = interpreted(scope, &[("x", &[1, 1, 2, 4], &[1.0, 2.0, 8.0, 8.0, 4.0, 3.0, 5.0, 6.0])]);
    assert_eq!(found, [0.0, 0.0, 80.0, 0.0, 40.0, 0.0, 0.0, 0.0]);
}

#[test]
fn adaptive_pooling_takes_the_means_of_pytorchs_windows() {
    let pooled = |width: usize, windows: usize| {
        let scope = Scope::new("adaptive");
        let x = scope.placeholder::<f32>("x", dims![1, 1, 1, width]);
        let y = layers::adaptive_avg_pool(x, 1, windows);
        assert_eq!(y.dims(), dims![1, 1, 1, windows]);
        scope.output("y", y);
        let values: Vec<f32> = (0..width).map(|i| (i * i) as f32).collect();
        interpreted(scope, &[("x", &[1, 1, 1, width], &values)])
    };
    assert_eq!(pooled(4, 4), [0.0, 1.0, 4.0, 9.0]);
    assert_eq!(pooled(4, 2), [0.5, 6.5]);
    // windows 0..2, 1..4, 3..5
    let found = pooled(5, 3);
    for (found, expected) in found.iter().zip([0.5, 14.0 / 3.0, 12.5]) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
    // windows 0..1, 0..2, 1..2
    assert_eq!(pooled(2, 3), [0.0, 0.5, 1.0]);
}

#[test]
fn rows_of_a_table_are_normalised_and_scaled() {
    let scope = Scope::new("text");
    let ids = scope.placeholder::<i64>("ids", dims!["n", 3]);
    let words = layers::embedding::<f32>("words", ids, 5, 2);
    assert_eq!(words.dims(), dims!["n", 3, 2]);
    let x = scope.placeholder::<f32>("x", dims![1, 2]);
    let y = layers::layer_norm("norm", x, 0.0);
    scope.output("y", y);
    scope.output("words", words);
    let graph = scope.finish().expect("a well-formed graph");
    let variables: Vec<String> = graph.variables().iter().map(|v| format!("{} {}", v.name, v.ty)).collect();
    assert_eq!(variables, ["words.weight f32[5, 2]", "norm.weight f32[2]", "norm.bias f32[2]"]);
    let x = kiln_ir::Tensor::from_slice(&[1, 2], &[3f32, 7.0]).expect("2 values");
    let ids = kiln_ir::Tensor::from_slice(&[1, 3], &[0i64, 4, 0]).expect("3 values");
    let graph = kiln_ir::specialize::specialize(&graph, &[("n".to_owned(), 1)].into()).expect("n is bound");
    let found = kiln_ir::interp::run::<f32>(&graph, &[("ids", ids), ("x", x)], None).expect("it runs");
    assert_eq!(found[0].1.to_vec::<f32>().expect("f32"), [-1.0, 1.0]);
    let words = found[1].1.to_vec::<f32>().expect("f32");
    assert!(words[..2] == words[4..] && words[..2] != words[2..4], "{words:?}");
}

#[test]
fn a_part_that_the_image_does_not_have_is_an_error_and_a_symbolic_batch_is_none() {
    let scope = Scope::new("crop");
    let x = scope.placeholder::<f32>("x", dims!["n", 3, 8, 8]);
    assert_eq!(layers::crop(x, (1, 2), (4, 6)).dims(), dims!["n", 3, 4, 6]);
    let line = line!();
    scope.output("y", layers::crop(x, (1, 3), (4, 6)).relu());
    scope.output("row", layers::crop(scope.scalar(1f32), (0, 0), (1, 1)));
    scope.output("norm", layers::lrn(scope.scalar(1f32), 5, 1e-4, 0.75));
    scope.output("up", layers::ConvTranspose2d::new(4, 2).apply("up", scope.scalar(1f32)));
    scope.output("pool", layers::adaptive_avg_pool(scope.scalar(1f32), 2, 2));
    scope.output("layer", layers::layer_norm("ln", scope.scalar(1f32), 1e-5));
    let errors = scope.finish().expect_err("six mistakes");
    let text: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    let expected = [
        "`crop` to rows 1..5 and columns 3..9 takes [N, C, H, W] with these rows and columns, found f32[n, 3, 8, 8]",
        "`crop` takes [N, C, H, W], found f32[]",
        "`lrn` takes [N, C, …], found f32[]",
        "layer `up` takes [N, C, H, W], found f32[]",
        "`adaptive_avg_pool` takes [N, C, H, W], found f32[]",
        "layer `ln` takes […, width], found f32[]",
    ];
    assert_eq!(text.len(), expected.len(), "{errors}");
    for (offset, (error, part)) in (1..).zip(text.iter().zip(expected)) {
        assert!(error.contains(&place(line, offset)) && error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_cropped_part_is_the_same_with_a_fixed_and_a_symbolic_batch() {
    let build = |batch: kiln_ir::Dim| {
        let scope = Scope::new("crop");
        let x = scope.placeholder::<f32>("x", [batch, 1.into(), 3.into(), 4.into()]);
        scope.output("y", layers::crop(x, (1, 1), (2, 2)));
        scope.finish().expect("a well-formed graph")
    };
    let values: Vec<f32> = (0..12).map(|i| i as f32).collect();
    let symbolic = kiln_ir::specialize::specialize(&build("n".into()), &[("n".to_owned(), 1)].into()).expect("bound");
    for graph in [build(1.into()), symbolic] {
        let x = kiln_ir::Tensor::from_slice(&[1, 1, 3, 4], &values).expect("12 values");
        let found = kiln_ir::interp::run::<f32>(&graph, &[("x", x)], None).expect("it runs");
        assert_eq!(found[0].1.to_vec::<f32>().expect("f32"), [5.0, 6.0, 9.0, 10.0]);
    }
}
