//! Fusion and layout: what each rule joins or moves, and what must stay apart.

mod common;

use common::{Case, check_equal, check_silent, count, graph, same_structure};
use kiln_ir::Op;
use kiln_passes::{Options, optimize};

/// A product that everything below is added to.
const DOT: &str = "%p = dot_general %x, %w {lhs_contract = [1], rhs_contract = [0]}\n";
const SIGNATURE: &str = "(%x: f32[3, 2], %w: f32[2, 4], %r: f32[3, 4]) -> (%y: f32[3, 4])";

const CASES: &[Case] = &[
    Case {
        rule: "fuse_bias",
        signature: SIGNATURE,
        before: "%k = constant dense<[1.0, 2.0, 3.0, 4.0]> : f32[4]\n%b = broadcast %k {axes = [1]} : f32[3, 4]\n%y = add %p, %b",
        after: "%b = constant dense<[1.0, 2.0, 3.0, 4.0]> : f32[1, 4]\n%y = fused_dot %x, %w, %b {lhs_contract = [1], rhs_contract = [0], epilogue = \"a0 + a1\"}",
    },
    Case {
        rule: "fuse_scale",
        signature: SIGNATURE,
        before: "%y = mul %p, %r",
        after: "%y = fused_dot %x, %w, %r {lhs_contract = [1], rhs_contract = [0], epilogue = \"a0 * a1\"}",
    },
    Case {
        rule: "fuse_activation",
        signature: SIGNATURE,
        before: "%y = tanh %p",
        after: "%y = fused_dot %x, %w {lhs_contract = [1], rhs_contract = [0], epilogue = \"tanh(a0)\"}",
    },
    Case {
        rule: "fuse_residual",
        signature: SIGNATURE,
        before: "%a = add %p, %r\n%y = relu %a",
        after: "%y = fused_dot %x, %w, %r {lhs_contract = [1], rhs_contract = [0], epilogue = \"max(a0 + a1, 0.0)\"}",
    },
    Case {
        // Two users that come together: fused first with each other, then with the product.
        rule: "fuse_activation",
        signature: SIGNATURE,
        before: "%a = tanh %p\n%b = exp %p\n%y = sub %a, %b",
        after: "%y = fused_dot %x, %w {lhs_contract = [1], rhs_contract = [0], epilogue = \"tanh(a0) - exp(a0)\"}",
    },
    Case {
        rule: "fuse_epilogue",
        signature: SIGNATURE,
        before: "%y = maximum %p, %r",
        after: "%y = fused_dot %x, %w, %r {lhs_contract = [1], rhs_contract = [0], epilogue = \"max(a0, a1)\"}",
    },
    Case {
        // A value with two users that are fused has one user then.
        rule: "fuse_elementwise",
        signature: "(%x: f32[3], %z: f32[3]) -> (%y: f32[3])",
        before: "%a = exp %x\n%b = mul %a, %z\n%y = sub %b, %a",
        after: "%y = fused_elementwise %x, %z {expr = \"t0 = exp(a0); (t0 * a1) - t0\"}",
    },
    Case {
        rule: "inline_number",
        signature: "(%x: f32[3]) -> (%y: f32[3])",
        before: "%k = constant dense<2.0> : f32[]\n%l = broadcast %k {axes = []} : f32[3]\n%y = mul %x, %l",
        after: "%y = fused_elementwise %x {expr = \"a0 * 2.0\"}",
    },
    Case {
        rule: "inline_broadcast",
        signature: "(%x: f32[3, 4], %z: f32[4]) -> (%y: f32[3, 4])",
        before: "%b = broadcast %z {axes = [1]} : f32[3, 4]\n%y = sub %x, %b",
        after: "%b = reshape %z : f32[1, 4]\n%y = fused_elementwise %x, %b {expr = \"a0 - a1\"}",
    },
    Case {
        rule: "fuse_attention",
        signature: "(%q: f32[2, 8, 3], %k: f32[5, 2, 3], %v: f32[2, 5, 4], %m: f32[5]) -> (%y: f32[2, 8, 4])",
        before: "%s = dot_general %q, %k {lhs_batch = [0], rhs_batch = [1], lhs_contract = [2], rhs_contract = [2]}\n%b = broadcast %m {axes = [2]} : f32[2, 8, 5]\n%n = add %s, %b\n%p = softmax %n {axis = 2}\n%y = dot_general %p, %v {lhs_batch = [0], rhs_batch = [0], lhs_contract = [2], rhs_contract = [1]}",
        after: "%b = reshape %m : f32[1, 1, 5]\n%y = fused_attention %q, %k, %v, %b {q_batch = [0], k_batch = [1], v_batch = [0], q_depth = 2, k_depth = 2, v_keys = 1, epilogue = \"a0 + a1\"}",
    },
    Case {
        rule: "fuse_reduce",
        signature: "(%x: f32[3, 4], %z: f32[3, 4]) -> (%y: f32[3])",
        before: "%a = mul %x, %z\n%y = reduce %a {axes = [1], reducer = sum}",
        after: "%y = fused_reduce %x, %z {axes = [1], reducer = sum, prologue = \"a0 * a1\"}",
    },
    Case {
        rule: "convolve_channels_last",
        signature: "(%x: f32[1, 2, 3, 3]) -> (%y: f32[1, 1])",
        before: "%w = constant dense<[1.0, 2.0, 3.0, 4.0]> : f32[1, 2, 1, 2]\n%a = conv_general %x, %w\n%y = reduce %a {axes = [2, 3], reducer = max}",
        after: "%t = transpose %x {perm = [0, 2, 3, 1]}\n%w = constant dense<[1.0, 3.0, 2.0, 4.0]> : f32[1, 2, 2, 1]\n%a = conv_general %t, %w {layout = channels_last}\n%y = reduce %a {axes = [1, 2], reducer = max}",
    },
    Case {
        rule: "relabel_transpose",
        signature: "(%x: f32[2, 3, 4], %z: f32[2, 4, 5]) -> (%y: f32[2, 3, 5])",
        before: "%a = transpose %x {perm = [0, 2, 1]}\n%y = dot_general %a, %z {lhs_batch = [0], rhs_batch = [0], lhs_contract = [1], rhs_contract = [1]}",
        after: "%y = dot_general %x, %z {lhs_batch = [0], rhs_batch = [0], lhs_contract = [2], rhs_contract = [1]}",
    },
    Case {
        // Kernels pack weights that they know; a broadcast would be repeated at every run.
        rule: "store_broadcast_constant",
        signature: "(%x: f32[3, 2]) -> (%y: f32[3, 4])",
        before: "%w = constant dense<0.5> : f32[2, 4]\n%y = dot_general %x, %w {lhs_contract = [1], rhs_contract = [0]}",
        after: "%w = constant dense<0.5> : f32[2, 4]\n%y = dot_general %x, %w {lhs_contract = [1], rhs_contract = [0]}",
    },
    Case {
        rule: "store_transposed_constant",
        signature: "(%x: f32[1, 1, 3, 3]) -> (%y: f32[1, 1])",
        before: "%w = constant normal(mean=0.0, std=1.0, seed=1) : f32[200, 1, 10, 10]\n%p = pad %x {padding = [[0, 0], [0, 0], [9, 9], [9, 9]], value = 1.0}\n%a = conv_general %p, %w\n%y = reduce %a {axes = [2, 3], reducer = max}",
        after: "",
    },
];

#[test]
fn every_rule_gives_what_it_says() {
    for Case { rule, signature, before, after } in CASES {
        let dot = if *signature == SIGNATURE { DOT } else { "" };
        let before = if after.is_empty() { big_weight() } else { graph(signature, &format!("{dot}{before}")) };
        let got = optimize(&before, &Options::default()).unwrap_or_else(|e| panic!("{rule}: {e}"));
        assert!(got.report.fired(rule) > 0, "{rule} did not fire:\n{}\n{}", got.report, got.graph);
        check_equal(&before, &got.graph);
        let off = optimize(&before, &Options::default().without(rule)).unwrap_or_else(|e| panic!("{rule}: {e}"));
        assert_eq!(off.report.fired(rule), 0);
        check_equal(&before, &off.graph);
        assert!(!same_structure(&off.graph, &got.graph), "{rule} makes no difference:\n{}", got.graph);
        if !after.is_empty() {
            let want = graph(signature, after);
            assert!(same_structure(&got.graph, &want), "{rule}: expected\n{want}\nfound\n{}", got.graph);
        }
    }
}

/// A convolution by a weight that is too large to be transposed before its final order is known.
fn big_weight() -> kiln_ir::Graph {
    let body = "%w = constant normal(mean=0.0, std=1.0, seed=1) : f32[200, 2, 10, 10]\n%a = conv_general %x, %w\n%y = reduce %a {axes = [2, 3], reducer = max}";
    graph("(%x: f32[1, 2, 10, 11]) -> (%y: f32[1, 200])", body)
}

#[test]
fn every_fusion_rule_has_a_case() {
    for (rule, _) in kiln_passes::fusion::RULES {
        assert!(CASES.iter().any(|c| c.rule == *rule), "{rule}");
    }
}

#[test]
fn what_others_read_is_made_and_not_fused() {
    let silent = |rule: &str, signature: &str, body: &str| check_silent(rule, signature, body, "fusion");
    // The product is an output, or is read by a reduction too.
    silent(
        "fuse_activation",
        "(%x: f32[3, 2], %w: f32[2, 4]) -> (%p: f32[3, 4], %y: f32[3, 4])",
        &format!("{DOT}%y = tanh %p"),
    );
    silent(
        "fuse_activation",
        "(%x: f32[3, 2], %w: f32[2, 4]) -> (%s: f32[3], %y: f32[3, 4])",
        &format!("{DOT}%s = reduce %p {{axes = [1], reducer = sum}}\n%y = tanh %p"),
    );
    // What a softmax reads is no epilogue of it.
    silent("fuse_reduce", "(%x: f32[3, 4]) -> (%y: f32[3, 4])", "%a = exp %x\n%y = softmax %a {axis = 1}");
    // A sum that broadcasts the product repeats it.
    silent(
        "fuse_residual",
        "(%x: f32[3, 2], %w: f32[2, 4], %r: f32[5, 3, 4]) -> (%y: f32[5, 3, 4])",
        &format!("{DOT}%b = broadcast %p {{axes = [1, 2]}} : f32[5, 3, 4]\n%y = add %r, %b"),
    );
    silent("fuse_elementwise", "(%x: f32[3]) -> (%y: f32[3], %z: f32[3])", "%a = exp %x\n%y = neg %a\n%z = sqrt %a");
}

#[test]
fn of_two_products_the_later_takes_the_other_in() {
    let body = "%p = dot_general %x, %w {lhs_contract = [1], rhs_contract = [0]}\n%q = dot_general %x, %v {lhs_contract = [1], rhs_contract = [0]}\n%a = add %q, %p\n%y = relu %a";
    let before = graph("(%x: f32[3, 2], %w: f32[2, 4], %v: f32[2, 4]) -> (%y: f32[3, 4])", body);
    let got = optimize(&before, &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    check_equal(&before, &got.graph);
    assert_eq!((count(&got.graph, "dot_general"), count(&got.graph, "fused_dot")), (1, 1), "{}", got.graph);
}

#[test]
fn a_group_has_a_bounded_number_of_operands() {
    let names: Vec<String> = (0..20).map(|i| format!("%i{i}: f32[3]")).collect();
    let mut body = "%s0 = add %i0, %i1\n".to_owned();
    for i in 2..20 {
        body += &format!("%s{} = add %s{}, %i{i}\n", i - 1, i - 2);
    }
    let before = graph(&format!("({}) -> (y = %s18: f32[3])", names.join(", ")), &body);
    let got = optimize(&before, &Options::default()).unwrap_or_else(|e| panic!("{e}")).graph;
    check_equal(&before, &got);
    assert!(got.node_ids().all(|id| got.node(id).operands.len() <= 8), "{got}");
    assert_eq!(count(&got, "fused_elementwise"), 3, "{got}");
}

#[test]
fn of_equal_elements_the_first_still_takes_the_gradient() {
    // Stored the other way round, another of two equal elements would come first in the window.
    let body = "%t = transpose %x {perm = [1, 0]}\n%y = select_and_scatter %t, %s {window = [2, 2]}";
    let before = graph("(%x: f32[3, 3], %s: f32[2, 2]) -> (%y: f32[3, 3])", body);
    let got = optimize(&before, &Options::default()).unwrap_or_else(|e| panic!("{e}")).graph;
    let ones = kiln_ir::Tensor::from_slice(&[3, 3], &[1.0f32, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0]);
    let scatter = kiln_ir::Tensor::from_slice(&[2, 2], &[1.0f32, 2.0, 4.0, 8.0]);
    let feeds = [("x".to_owned(), ones.unwrap()), ("s".to_owned(), scatter.unwrap())];
    assert_eq!(common::outputs(&before, &feeds), common::outputs(&got, &feeds), "{got}");
}

#[test]
fn a_channel_shuffle_between_convolutions_costs_one_transpose() {
    let weight = |seed: u32| format!("constant normal(mean=0.0, std=1.0, seed={seed}) : f32[4, 2, 1, 1]");
    let body = format!(
        "%v = {}\n%w = {}\n%a = conv_general %x, %v {{groups = 2}}\n%b = reshape %a : f32[1, 2, 2, 3, 3]\n%c = transpose %b {{perm = [0, 2, 1, 3, 4]}}\n%d = reshape %c : f32[1, 4, 3, 3]\n%e = conv_general %d, %w {{groups = 2}}\n%y = reduce %e {{axes = [2, 3], reducer = max}}",
        weight(1),
        weight(2)
    );
    let before = graph("(%x: f32[1, 4, 3, 3]) -> (%y: f32[1, 4])", &body);
    let got = optimize(&before, &Options::default()).unwrap_or_else(|e| panic!("{e}")).graph;
    check_equal(&before, &got);
    assert_eq!(count(&got, "transpose"), 2, "one at the input, one for the shuffle:\n{got}");
}

#[test]
fn merging_the_heads_of_an_attention_copies_whole_rows_once() {
    // The softmax's product has its heads outermost. Merging them with their columns needs a copy either way: that in the order
    // of the axes' numbers keeps the columns innermost, and an output needs no other.
    let body = "%o = dot_general %p, %v {lhs_batch = [0], rhs_batch = [0], lhs_contract = [2], rhs_contract = [1]}\n%t = transpose %o {perm = [1, 0, 2]}\n%y = reshape %t : f32[3, 8]";
    let before = graph("(%p: f32[2, 3, 5], %v: f32[2, 5, 4]) -> (%y: f32[3, 8])", body);
    let got = optimize(&before, &Options::default()).unwrap_or_else(|e| panic!("{e}")).graph;
    check_equal(&before, &got);
    let transposes: Vec<&Op> =
        got.node_ids().map(|id| &got.node(id).op).filter(|op| matches!(op, Op::Transpose { .. })).collect();
    assert_eq!(transposes, [&Op::Transpose { perm: vec![1, 0, 2] }], "{got}");
}
