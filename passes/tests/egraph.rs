//! The rules of the e-graph: graphs where each fires and what it gives, and graphs where it must not.

mod common;

use common::{Case, check_equal, check_silent, count, graph, same_structure};
use kiln_passes::{Options, optimize};

const CASES: &[Case] = &[
    Case {
        rule: "merge_scales",
        signature: "(%x: f32[2]) -> (%y: f32[2])",
        before: "%a = constant dense<[2.0, 3.0]> : f32[2]\n%b = constant dense<[4.0, 5.0]> : f32[2]\n%c = mul %x, %a\n%y = mul %c, %b",
        after: "%a = constant dense<[8.0, 15.0]> : f32[2]\n%y = mul %x, %a",
    },
    Case {
        rule: "merge_shifts",
        signature: "(%x: f32[2]) -> (%y: f32[2])",
        before: "%a = constant dense<[2.0, 3.0]> : f32[2]\n%b = constant dense<[4.0, 5.0]> : f32[2]\n%c = add %x, %a\n%y = add %c, %b",
        after: "%a = constant dense<[6.0, 8.0]> : f32[2]\n%y = add %x, %a",
    },
    Case {
        // A convolution with a bias, then a batch normalisation: one convolution and one bias.
        rule: "scale_before_shift",
        signature: "(%x: f32[1, 1, 3, 3]) -> (%y: f32[1, 2, 3, 3])",
        before: "%w = constant dense<[1.0, 2.0]> : f32[2, 1, 1, 1]\n%b = constant dense<[3.0, 4.0]> : f32[2]\n%s = constant dense<[2.0, 5.0]> : f32[2]\n%c = conv_general %x, %w\n%d = broadcast %b {axes = [1]} : f32[1, 2, 3, 3]\n%e = add %c, %d\n%f = broadcast %s {axes = [1]} : f32[1, 2, 3, 3]\n%y = mul %e, %f",
        after: "%w = constant dense<[2.0, 10.0]> : f32[2, 1, 1, 1]\n%b = constant dense<[6.0, 20.0]> : f32[2]\n%c = conv_general %x, %w\n%d = broadcast %b {axes = [1]} : f32[1, 2, 3, 3]\n%y = add %c, %d",
    },
    Case {
        rule: "div_by_constant",
        signature: "(%x: f32[2]) -> (%y: f32[2])",
        before: "%a = constant dense<[2.0, 4.0]> : f32[2]\n%y = div %x, %a",
        after: "%a = constant dense<[0.5, 0.25]> : f32[2]\n%y = mul %x, %a",
    },
    Case {
        // A mean of f16: its count is a power of two, so that its reciprocal goes into the weights.
        rule: "constant_before_broadcast",
        signature: "(%x: f16[3, 2]) -> (%y: f16[3, 2])",
        before: "%k = constant dense<4.0> : f16[]\n%s = broadcast %k {axes = []} : f16[3, 2]\n%a = div %x, %s\n%w = constant dense<[4.0, 8.0, 12.0, 16.0]> : f16[2, 2]\n%y = dot_general %a, %w {lhs_contract = [1], rhs_contract = [0]}",
        after: "%w = constant dense<[1.0, 2.0, 3.0, 4.0]> : f16[2, 2]\n%y = dot_general %x, %w {lhs_contract = [1], rhs_contract = [0]}",
    },
    Case {
        // A mean before a classifier: the division goes into the weights.
        rule: "fold_input_scale_into_dot",
        signature: "(%x: f32[3, 2]) -> (%y: f32[3, 2])",
        before: "%k = constant dense<49.0> : f32[]\n%s = broadcast %k {axes = []} : f32[3, 2]\n%a = div %x, %s\n%w = constant dense<[49.0, 98.0, 147.0, 196.0]> : f32[2, 2]\n%y = dot_general %a, %w {lhs_contract = [1], rhs_contract = [0]}",
        after: "%w = constant dense<[1.0, 2.0, 3.0, 4.0]> : f32[2, 2]\n%y = dot_general %x, %w {lhs_contract = [1], rhs_contract = [0]}",
    },
    Case {
        rule: "fold_scale_into_conv",
        signature: "(%x: f32[1, 1, 3, 3]) -> (%y: f32[1, 2, 3, 3])",
        before: "%w = constant dense<[1.0, 2.0]> : f32[2, 1, 1, 1]\n%s = constant dense<[3.0, 5.0]> : f32[2]\n%c = conv_general %x, %w\n%d = broadcast %s {axes = [1]} : f32[1, 2, 3, 3]\n%y = mul %c, %d",
        after: "%w = constant dense<[3.0, 10.0]> : f32[2, 1, 1, 1]\n%y = conv_general %x, %w",
    },
    Case {
        rule: "fold_scale_into_dot",
        signature: "(%x: f32[3, 2]) -> (%y: f32[3, 2])",
        before: "%w = constant dense<[1.0, 2.0, 3.0, 4.0]> : f32[2, 2]\n%s = constant dense<[10.0, 100.0]> : f32[2]\n%c = dot_general %x, %w {lhs_contract = [1], rhs_contract = [0]}\n%d = broadcast %s {axes = [1]} : f32[3, 2]\n%y = mul %c, %d",
        after: "%w = constant dense<[10.0, 200.0, 30.0, 400.0]> : f32[2, 2]\n%y = dot_general %x, %w {lhs_contract = [1], rhs_contract = [0]}",
    },
    Case {
        rule: "fold_input_scale_into_conv",
        signature: "(%x: f32[1, 2, 3, 3]) -> (%y: f32[1, 1, 5, 5])",
        before: "%w = constant dense<[1.0, 2.0]> : f32[1, 2, 1, 1]\n%s = constant dense<[3.0, 5.0]> : f32[2]\n%d = broadcast %s {axes = [1]} : f32[1, 2, 3, 3]\n%c = mul %x, %d\n%y = conv_general %c, %w {padding = [[1, 1], [1, 1]]}",
        after: "%w = constant dense<[3.0, 10.0]> : f32[1, 2, 1, 1]\n%y = conv_general %x, %w {padding = [[1, 1], [1, 1]]}",
    },
    Case {
        rule: "fold_input_scale_into_dot",
        signature: "(%x: f32[3, 2]) -> (%y: f32[3, 2])",
        before: "%w = constant dense<[1.0, 2.0, 3.0, 4.0]> : f32[2, 2]\n%s = constant dense<[10.0, 100.0]> : f32[2]\n%d = broadcast %s {axes = [1]} : f32[3, 2]\n%c = mul %x, %d\n%y = dot_general %c, %w {lhs_contract = [1], rhs_contract = [0]}",
        after: "%w = constant dense<[10.0, 20.0, 300.0, 400.0]> : f32[2, 2]\n%y = dot_general %x, %w {lhs_contract = [1], rhs_contract = [0]}",
    },
    Case {
        rule: "fold_input_shift_into_conv",
        signature: "(%x: f32[1, 2, 3, 3]) -> (%y: f32[1, 1, 3, 3])",
        before: "%w = constant dense<[1.0, 2.0]> : f32[1, 2, 1, 1]\n%s = constant dense<[3.0, 5.0]> : f32[2]\n%d = broadcast %s {axes = [1]} : f32[1, 2, 3, 3]\n%c = add %x, %d\n%e = conv_general %c, %w\n%t = constant dense<2.0> : f32[1, 1, 3, 3]\n%y = add %e, %t",
        after: "%w = constant dense<[1.0, 2.0]> : f32[1, 2, 1, 1]\n%y0 = conv_general %x, %w\n%t = constant dense<15.0> : f32[]\n%b = broadcast %t {axes = []} : f32[1, 1, 3, 3]\n%y = add %y0, %b",
    },
    Case {
        rule: "fold_input_shift_into_dot",
        signature: "(%x: f32[3, 2]) -> (%y: f32[3, 2])",
        before: "%w = constant dense<[1.0, 2.0, 3.0, 4.0]> : f32[2, 2]\n%s = constant dense<[10.0, 100.0]> : f32[2]\n%d = broadcast %s {axes = [1]} : f32[3, 2]\n%c = add %x, %d\n%e = dot_general %c, %w {lhs_contract = [1], rhs_contract = [0]}\n%t = constant dense<[1.0, 2.0]> : f32[2]\n%u = broadcast %t {axes = [1]} : f32[3, 2]\n%y = add %e, %u",
        after: "%w = constant dense<[1.0, 2.0, 3.0, 4.0]> : f32[2, 2]\n%e = dot_general %x, %w {lhs_contract = [1], rhs_contract = [0]}\n%t = constant dense<[311.0, 422.0]> : f32[2]\n%u = broadcast %t {axes = [1]} : f32[3, 2]\n%y = add %e, %u",
    },
    Case {
        rule: "merge_constant_products",
        signature: "(%x: f32[5, 2]) -> (%y: f32[5, 2])",
        before: "%a = constant dense<[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]> : f32[2, 3]\n%b = constant dense<[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]> : f32[3, 2]\n%c = dot_general %x, %a {lhs_contract = [1], rhs_contract = [0]}\n%y = dot_general %c, %b {lhs_contract = [1], rhs_contract = [0]}",
        after: "%a = constant dense<[4.0, 5.0, 10.0, 11.0]> : f32[2, 2]\n%y = dot_general %x, %a {lhs_contract = [1], rhs_contract = [0]}",
    },
    Case {
        rule: "conv_of_one_place_as_dot",
        signature: "(%x: f32[2, 1, 1, 2]) -> (%y: f32[2, 2, 1, 1])",
        before: "%w = constant dense<[1.0, 2.0, 3.0, 4.0]> : f32[2, 1, 1, 2]\n%y = conv_general %x, %w",
        after: "%a = reshape %x : f32[2, 2]\n%w = constant dense<[1.0, 2.0, 3.0, 4.0]> : f32[2, 2]\n%b = dot_general %a, %w {lhs_contract = [1], rhs_contract = [1]}\n%y = reshape %b : f32[2, 2, 1, 1]",
    },
    Case {
        rule: "pad_into_conv",
        signature: "(%x: f32[1, 1, 3, 3], %w: f32[1, 1, 3, 3]) -> (%y: f32[1, 1, 4, 6])",
        before: "%a = pad %x {padding = [[0, 0], [0, 0], [1, 1], [0, 3]]}\n%y = conv_general %a, %w {padding = [[0, 1], [2, 0]]}",
        after: "%y = conv_general %x, %w {padding = [[1, 2], [2, 3]]}",
    },
    Case {
        rule: "pad_into_window",
        signature: "(%x: f32[1, 1, 3, 3]) -> (%y: f32[1, 1, 4, 3])",
        before: "%a = pad %x {padding = [[0, 0], [0, 0], [1, 1], [0, 0]], value = -inf}\n%y = reduce_window %a {window = [1, 1, 2, 1], reducer = max}",
        after: "%y = reduce_window %x {window = [1, 1, 2, 1], padding = [[0, 0], [0, 0], [1, 1], [0, 0]], reducer = max}",
    },
    Case {
        rule: "cancel_transposes",
        signature: "(%x: f32[2, 3]) -> (%y: f32[2, 3])",
        before: "%a = transpose %x {perm = [1, 0]}\n%b = exp %a\n%y = transpose %b {perm = [1, 0]}",
        after: "%y = exp %x",
    },
    Case {
        rule: "transpose_after_elementwise",
        signature: "(%x: f32[2, 3], %z: f32[2, 3]) -> (%y: f32[2, 3])",
        before: "%a = transpose %x {perm = [1, 0]}\n%b = transpose %z {perm = [1, 0]}\n%c = mul %a, %b\n%k = constant dense<[1.0, 2.0, 3.0]> : f32[3]\n%l = broadcast %k {axes = [0]} : f32[3, 2]\n%d = add %c, %l\n%y = transpose %d {perm = [1, 0]}",
        after: "%c = mul %x, %z\n%k = constant dense<[1.0, 2.0, 3.0]> : f32[3]\n%l = broadcast %k {axes = [1]} : f32[2, 3]\n%y = add %c, %l",
    },
    Case {
        rule: "cancel_reshapes",
        signature: "(%x: f32[2, 3]) -> (%y: f32[2, 3])",
        before: "%a = reshape %x : f32[6]\n%b = exp %a\n%y = reshape %b : f32[2, 3]",
        after: "%y = exp %x",
    },
    Case {
        rule: "reshape_after_elementwise",
        signature: "(%x: f32[2, 3]) -> (%y: f32[3, 2])",
        before: "%a = reshape %x : f32[6]\n%k = constant dense<3.0> : f32[6]\n%b = mul %a, %k\n%y = reshape %b : f32[3, 2]",
        after: "%k = constant dense<3.0> : f32[]\n%l = broadcast %k {axes = []} : f32[2, 3]\n%b = mul %x, %l\n%y = reshape %b : f32[3, 2]",
    },
    Case {
        rule: "slice_of_concat",
        signature: "(%x: f32[2, 3], %z: f32[2, 4]) -> (%y: f32[2, 2])",
        before: "%a = concat %x, %z {axis = 1}\n%y = slice %a {start = [0, 4], limit = [2, 6]}",
        after: "%y = slice %z {start = [0, 1], limit = [2, 3]}",
    },
    Case {
        rule: "concat_of_slices",
        signature: "(%x: f32[2, 9]) -> (%y: f32[2, 5])",
        before: "%a = slice %x {start = [0, 1], limit = [2, 4]}\n%b = slice %x {start = [0, 4], limit = [2, 6]}\n%y = concat %a, %b {axis = 1}",
        after: "%y = slice %x {start = [0, 1], limit = [2, 6]}",
    },
    Case {
        rule: "flatten_concats",
        signature: "(%x: f32[2], %z: f32[3], %v: f32[4]) -> (%y: f32[9])",
        before: "%a = concat %x, %z {axis = 0}\n%y = concat %a, %v {axis = 0}",
        after: "%y = concat %x, %z, %v {axis = 0}",
    },
    Case {
        rule: "elementwise_before_concat",
        signature: "(%x: f32[2, 3], %z: f32[2, 4]) -> (%y: f32[2, 7])",
        before: "%a = exp %x\n%b = concat %a, %z {axis = 1}\n%y = tanh %b",
        after: "%a = exp %x\n%b = tanh %a\n%c = tanh %z\n%y = concat %b, %c {axis = 1}",
    },
    Case {
        rule: "slice_before_elementwise",
        signature: "(%x: f32[64, 64], %z: f32[64, 64]) -> (%y: f32[2, 64])",
        before: "%a = add %x, %z\n%y = slice %a {start = [4, 0], limit = [6, 64]}",
        after: "%a = slice %x {start = [4, 0], limit = [6, 64]}\n%b = slice %z {start = [4, 0], limit = [6, 64]}\n%y = add %a, %b",
    },
    Case {
        rule: "slice_before_dot",
        signature: "(%x: f32[64, 64], %z: f32[64, 64]) -> (%y: f32[2, 64])",
        before: "%a = dot_general %x, %z {lhs_contract = [1], rhs_contract = [0]}\n%y = slice %a {start = [4, 0], limit = [6, 64]}",
        after: "%a = slice %x {start = [4, 0], limit = [6, 64]}\n%y = dot_general %a, %z {lhs_contract = [1], rhs_contract = [0]}",
    },
    Case {
        rule: "slice_before_normalization",
        signature: "(%x: f32[64, 64]) -> (%y: f32[2, 64])",
        before: "%a = softmax %x {axis = 1}\n%y = slice %a {start = [4, 0], limit = [6, 64]}",
        after: "%a = slice %x {start = [4, 0], limit = [6, 64]}\n%y = softmax %a {axis = 1}",
    },
    Case {
        rule: "merge_reduces",
        signature: "(%x: f32[2, 3, 4, 5]) -> (%y: f32[2, 4])",
        before: "%a = reduce %x {axes = [3], reducer = sum}\n%y = reduce %a {axes = [1], reducer = sum}",
        after: "%y = reduce %x {axes = [1, 3], reducer = sum}",
    },
    Case {
        rule: "merge_clips",
        signature: "(%x: f32[9]) -> (%y: f32[9])",
        before: "%a = relu %x\n%y = clip %a {min = -1.0, max = 6.0}",
        after: "%y = clip %x {min = 0.0, max = 6.0}",
    },
    Case {
        rule: "relu_before_max_pool",
        signature: "(%x: f32[1, 1, 4, 4], %w: f32[1, 1, 1, 1]) -> (%y: f32[1, 1, 2, 2])",
        before: "%a = conv_general %x, %w\n%b = reduce_window %a {window = [1, 1, 2, 2], strides = [1, 1, 2, 2], reducer = max}\n%y = relu %b",
        after: "%a = conv_general %x, %w\n%b = relu %a\n%y = reduce_window %b {window = [1, 1, 2, 2], strides = [1, 1, 2, 2], reducer = max}",
    },
    Case {
        rule: "add_of_negative",
        signature: "(%x: f32[2], %z: f32[2]) -> (%y: f32[2], %v: f32[2])",
        before: "%n = neg %z\n%y = add %x, %n\n%v = sub %x, %n",
        after: "%y = sub %x, %z\n%v = add %x, %z",
    },
    Case {
        rule: "product_of_negatives",
        signature: "(%x: f32[2], %z: f32[2]) -> (%y: f32[2])",
        before: "%n = neg %z\n%m = neg %x\n%y = mul %m, %n",
        after: "%y = mul %x, %z",
    },
];

/// The passes up to the e-graph, and the folding of the constants it leaves; no layout.
fn options() -> Options {
    Options::default().without("layout").until("tidy")
}

#[test]
fn every_rule_gives_what_it_says() {
    for Case { rule, signature, before, after } in CASES {
        let (before, want) = (graph(signature, before), graph(signature, after));
        let got = optimize(&before, &options()).unwrap_or_else(|e| panic!("{rule}: {e}"));
        assert!(same_structure(&got.graph, &want), "{rule}: expected\n{want}\nfound\n{}\n{}", got.graph, got.report);
        assert!(got.report.fired(rule) > 0, "{rule} did not fire:\n{}\n{}", got.report, got.graph);
        check_equal(&before, &got.graph);
        let off = optimize(&before, &options().without(rule)).unwrap_or_else(|e| panic!("{rule}: {e}"));
        assert_eq!(off.report.fired(rule), 0);
        // Canonicalisation cancels what the e-graph brought together, too.
        if !rule.starts_with("cancel_") {
            assert!(!same_structure(&off.graph, &want), "{rule} is not what made\n{}", off.graph);
        }
        check_equal(&before, &off.graph);
    }
}

#[test]
fn every_rule_has_a_case() {
    for rule in kiln_passes::egraph::rules::RULES.iter().copied().flatten() {
        assert!(CASES.iter().any(|c| c.rule == rule.name), "{}", rule.name);
    }
}

#[test]
fn rules_are_silent_where_their_precondition_fails() {
    let silent = |rule: &str, signature: &str, body: &str| check_silent(rule, signature, body, "rewrite");
    let conv = "(%x: f32[1, 2, 3, 3], %v: f32[2], %w: f32[2, 2, 1, 1]) -> (%y: f32[1, 2, 3, 3])";
    let spread = "%k = constant dense<[3.0, 5.0]> : f32[2]\n%s = broadcast %k {axes = [1]} : f32[1, 2, 3, 3]\n";
    let weights = "%c = constant dense<[1.0, 2.0, 3.0, 4.0]> : f32[2, 2, 1, 1]\n";
    // Weights that are not known, scales that are not, and scales along another axis.
    silent("fold_scale_into_conv", conv, &format!("{spread}%a = conv_general %x, %w\n%y = mul %a, %s"));
    silent(
        "fold_scale_into_conv",
        conv,
        &format!(
            "{weights}%s = broadcast %v {{axes = [1]}} : f32[1, 2, 3, 3]\n%a = conv_general %x, %c\n%y = mul %a, %s"
        ),
    );
    silent(
        "fold_scale_into_conv",
        conv,
        &format!(
            "{weights}%k = constant dense<[1.0, 2.0, 3.0]> : f32[3]\n%s = broadcast %k {{axes = [2]}} : f32[1, 2, 3, 3]\n%a = conv_general %x, %c\n%y = mul %a, %s"
        ),
    );
    // A shift of zeros that padding puts in would not be a shift of all inputs.
    silent(
        "fold_input_shift_into_conv",
        "(%x: f32[1, 2, 3, 3]) -> (%y: f32[1, 2, 5, 5])",
        &format!("{spread}{weights}%a = add %x, %s\n%y = conv_general %a, %c {{padding = [[1, 1], [1, 1]]}}"),
    );
    let groups = "%c = constant dense<[1.0, 3.0]> : f32[2, 1, 1, 1]\n";
    silent(
        "fold_input_scale_into_conv",
        conv,
        &format!("{spread}{groups}%a = mul %x, %s\n%y = conv_general %a, %c {{groups = 2}}"),
    );
    silent(
        "fold_input_scale_into_dot",
        "(%x: f32[3, 2], %w: f32[2, 2]) -> (%y: f32[3, 2])",
        "%k = constant dense<[1.0, 2.0, 3.0]> : f32[3]\n%s = broadcast %k {axes = [0]} : f32[3, 2]\n%c = constant dense<[1.0, 2.0, 3.0, 4.0]> : f32[2, 2]\n%a = mul %x, %s\n%y = dot_general %a, %c {lhs_contract = [1], rhs_contract = [0]}",
    );
    silent(
        "merge_constant_products",
        "(%x: f32[5, 3]) -> (%y: f32[5, 3])",
        "%a = constant dense<[1.0, 2.0, 3.0]> : f32[3, 1]\n%b = constant dense<[1.0, 4.0, 5.0]> : f32[1, 3]\n%c = dot_general %x, %a {lhs_contract = [1], rhs_contract = [0]}\n%y = dot_general %c, %b {lhs_contract = [1], rhs_contract = [0]}",
    );
    silent(
        "div_by_constant",
        "(%x: f32[2]) -> (%y: f32[2])",
        "%a = constant dense<[2.0, 0.0]> : f32[2]\n%y = div %x, %a",
    );
    silent(
        "div_by_constant",
        "(%x: f32[2]) -> (%y: f32[2])",
        "%a = constant dense<[2.0, 41.0]> : f32[2]\n%y = div %x, %a",
    );
    silent("div_by_constant", "(%x: i32[2]) -> (%y: i32[2])", "%a = constant dense<[2, 3]> : i32[2]\n%y = div %x, %a");
    let pad = "(%x: f32[1, 1, 3, 3], %w: f32[1, 1, 1, 1]) -> (%y: f32[1, 1, 4, 3])";
    silent(
        "pad_into_conv",
        pad,
        "%a = pad %x {padding = [[0, 0], [0, 0], [1, 0], [0, 0]], value = 1.0}\n%y = conv_general %a, %w",
    );
    silent(
        "pad_into_conv",
        "(%x: f32[1, 1, 3, 3], %w: f32[1, 2, 1, 1]) -> (%y: f32[1, 1, 3, 3])",
        "%a = pad %x {padding = [[0, 0], [1, 0], [0, 0], [0, 0]]}\n%y = conv_general %a, %w",
    );
    silent(
        "pad_into_window",
        "(%x: f32[3]) -> (%y: f32[4])",
        "%a = pad %x {padding = [[1, 1]]}\n%y = reduce_window %a {window = [2], reducer = max}",
    );
    silent(
        "merge_clips",
        "(%x: f32[3]) -> (%y: f32[3])",
        "%a = clip %x {min = 0.0, max = 1.0}\n%y = clip %a {min = 2.0, max = 3.0}",
    );
    // A window of padding only gives −∞, and its relu 0.
    silent(
        "relu_before_max_pool",
        "(%x: f32[3]) -> (%y: f32[6])",
        "%a = reduce_window %x {window = [2], padding = [[2, 2]], reducer = max}\n%y = relu %a",
    );
    silent(
        "slice_of_concat",
        "(%x: f32[2], %z: f32[3]) -> (%y: f32[2])",
        "%a = concat %x, %z {axis = 0}\n%y = slice %a {start = [1], limit = [3]}",
    );
    silent(
        "concat_of_slices",
        "(%x: f32[9]) -> (%y: f32[5])",
        "%a = slice %x {start = [4], limit = [6]}\n%b = slice %x {start = [1], limit = [4]}\n%y = concat %a, %b {axis = 0}",
    );
    silent(
        "flatten_concats",
        "(%x: f32[2, 2], %z: f32[2, 2], %v: f32[2, 4]) -> (%y: f32[4, 4])",
        "%a = concat %x, %z {axis = 1}\n%y = concat %a, %v {axis = 0}",
    );
    silent(
        "transpose_after_elementwise",
        "(%x: f32[2, 2], %z: f32[2, 2]) -> (%y: f32[2, 2])",
        "%a = transpose %x {perm = [1, 0]}\n%y = add %a, %z",
    );
    silent(
        "merge_scales",
        "(%x: f32[2], %z: f32[2]) -> (%y: f32[2])",
        "%k = constant dense<[1.0, 2.0]> : f32[2]\n%a = mul %x, %z\n%y = mul %a, %k",
    );
}

#[test]
fn work_that_something_else_uses_is_not_done_twice() {
    // Two scales of one product: folding each into weights of its own would compute the product twice.
    let body = "%w = constant dense<[1.0, 2.0, 3.0, 4.0]> : f32[2, 2]
%a = dot_general %x, %w {lhs_contract = [1], rhs_contract = [0]}
%k = constant dense<[5.0, 6.0]> : f32[2]
%l = broadcast %k {axes = [1]} : f32[3, 2]
%b = add %a, %l
%m = constant dense<2.0> : f32[3, 2]
%c = mul %b, %m
%e = erf %b
%y = mul %c, %e";
    let before = graph("(%x: f32[3, 2]) -> (%y: f32[3, 2])", body);
    let got = optimize(&before, &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(count(&got.graph, "fused_dot"), 1, "{}", got.graph);
    assert_eq!(got.report.fired("fold_scale_into_dot") + got.report.fired("scale_before_shift"), 0);
    check_equal(&before, &got.graph);
}

#[test]
fn a_normalised_product_with_two_users_is_computed_once() {
    // A residual connection around a product: scale and shift could go into the second product's weights, but the sum needs them as well.
    let body = "%w = constant dense<[1.0, 2.0, 3.0, 4.0]> : f32[2, 2]
%a = dot_general %x, %w {lhs_contract = [1], rhs_contract = [0]}
%k = constant dense<[5.0, 6.0]> : f32[2]
%l = broadcast %k {axes = [1]} : f32[3, 2]
%b = mul %a, %l
%m = constant dense<[7.0, 8.0]> : f32[2]
%n = broadcast %m {axes = [1]} : f32[3, 2]
%c = add %b, %n
%v = constant dense<[1.0, -2.0, 3.0, -4.0]> : f32[2, 2]
%d = dot_general %c, %v {lhs_contract = [1], rhs_contract = [0]}
%e = erf %d
%y = add %c, %e";
    let before = graph("(%x: f32[3, 2]) -> (%y: f32[3, 2])", body);
    let got = optimize(&before, &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(count(&got.graph, "dot") + count(&got.graph, "fused_dot"), 2, "{}", got.graph);
    check_equal(&before, &got.graph);
}

#[test]
fn two_runs_give_one_graph() {
    for Case { signature, before, .. } in CASES {
        let before = graph(signature, before);
        let run = || optimize(&before, &Options::default()).unwrap().graph.to_string();
        assert_eq!(run(), run());
    }
}
