//! Every canonicalisation rule: a graph where it fires and what it gives, and graphs where it must not.

mod common;

use common::{Case, after, check, check_silent, count, graph};
use kiln_ir::{Builder, DType, Op, Tensor};

const CASES: &[Case] = &[
    Case {
        rule: "constant_from_variable",
        signature: "(%x: f32[2]) -> (%y: f32[2])",
        before: "variable \"w\": f32[2] = dense<[1.0, 2.0]>\n%w = read_var {variable = \"w\"} : f32[2]\n%y = add %x, %w",
        after: "%w = constant dense<[1.0, 2.0]> : f32[2]\n%y = add %x, %w",
    },
    Case {
        rule: "merge_common_subexpressions",
        signature: "(%x: f32[2]) -> (%y: f32[2])",
        before: "%a = exp %x\n%b = exp %x\n%y = sub %a, %b",
        after: "%a = exp %x\n%y = sub %a, %a",
    },
    Case {
        rule: "drop_identity_movement",
        signature: "(%x: f32[2, 3]) -> (%y: f32[2, 3])",
        before: "%a = reshape %x : f32[2, 3]\n%b = transpose %a {perm = [0, 1]}\n%c = slice %b {start = [0, 0], limit = [2, 3]}\n%d = pad %c {padding = [[0, 0], [0, 0]]}\n%e = concat %d {axis = 1}\n%f = convert %e : f32[2, 3]\n%y = neg %f",
        after: "%y = neg %x",
    },
    Case {
        rule: "merge_reshapes",
        signature: "(%x: f32[batch, 6]) -> (%y: f32[3, batch, 2])",
        before: "%a = reshape %x : f32[2, 3, batch]\n%y = reshape %a : f32[3, batch, 2]",
        after: "%y = reshape %x : f32[3, batch, 2]",
    },
    Case {
        rule: "merge_transposes",
        signature: "(%x: f32[2, 3, 4]) -> (%y: f32[4, 3, 2])",
        before: "%a = transpose %x {perm = [1, 2, 0]}\n%y = transpose %a {perm = [1, 0, 2]}",
        after: "%y = transpose %x {perm = [2, 1, 0]}",
    },
    Case {
        rule: "transpose_as_reshape",
        signature: "(%x: f32[2, 3, 1, 1]) -> (%y: f32[2, 1, 1, 3])",
        before: "%y = transpose %x {perm = [0, 2, 3, 1]}",
        after: "%y = reshape %x : f32[2, 1, 1, 3]",
    },
    Case {
        rule: "transpose_before_broadcast",
        signature: "(%x: f32[2, 3]) -> (%y: f32[3, 4, 2])",
        before: "%a = broadcast %x {axes = [0, 2]} : f32[2, 4, 3]\n%y = transpose %a {perm = [2, 1, 0]}",
        after: "%a = transpose %x {perm = [1, 0]}\n%y = broadcast %a {axes = [0, 2]} : f32[3, 4, 2]",
    },
    Case {
        rule: "broadcast_as_reshape",
        signature: "(%x: f32[2, 3]) -> (%y: f32[1, 2, 3])",
        before: "%y = broadcast %x {axes = [1, 2]} : f32[1, 2, 3]",
        after: "%y = reshape %x : f32[1, 2, 3]",
    },
    Case {
        rule: "squeeze_broadcast",
        signature: "(%x: f32[1, 3, 1]) -> (%y: f32[2, 3, 4])",
        before: "%y = broadcast %x {axes = [0, 1, 2]} : f32[2, 3, 4]",
        after: "%a = reshape %x : f32[3]\n%y = broadcast %a {axes = [1]} : f32[2, 3, 4]",
    },
    Case {
        rule: "merge_broadcasts",
        signature: "(%x: f32[3]) -> (%y: f32[2, 3, 4])",
        before: "%a = broadcast %x {axes = [0]} : f32[3, 4]\n%y = broadcast %a {axes = [1, 2]} : f32[2, 3, 4]",
        after: "%y = broadcast %x {axes = [1]} : f32[2, 3, 4]",
    },
    Case {
        rule: "reshape_uniform",
        signature: "(%x: f32[]) -> (%y: f32[6])",
        before: "%a = broadcast %x {axes = []} : f32[2, 3]\n%y = reshape %a : f32[6]",
        after: "%y = broadcast %x {axes = []} : f32[6]",
    },
    Case {
        rule: "merge_slices",
        signature: "(%x: f32[20]) -> (%y: f32[3])",
        before: "%a = slice %x {start = [1], limit = [20], stride = [2]}\n%y = slice %a {start = [2], limit = [9], stride = [3]}",
        after: "%y = slice %x {start = [5], limit = [18], stride = [6]}",
    },
    Case {
        rule: "merge_pads",
        signature: "(%x: f32[2]) -> (%y: f32[9])",
        before: "%a = pad %x {padding = [[1, 2]]}\n%y = pad %a {padding = [[3, 1]]}",
        after: "%y = pad %x {padding = [[4, 3]]}",
    },
    Case {
        rule: "drop_empty_parts",
        signature: "(%x: f32[2], %z: f32[0], %v: f32[3]) -> (%y: f32[5])",
        before: "%y = concat %x, %z, %v {axis = 0}",
        after: "%y = concat %x, %v {axis = 0}",
    },
    Case {
        rule: "merge_converts",
        signature: "(%x: f16[2]) -> (%y: i32[2])",
        before: "%a = convert %x : f32[2]\n%y = convert %a : i32[2]",
        after: "%y = convert %x : i32[2]",
    },
    Case {
        rule: "gather_as_slice",
        signature: "(%x: f32[4, 9]) -> (%y: f32[4, 3])",
        before: "%i = constant dense<[1, 3, 5]> : i64[3]\n%y = gather %x, %i {axis = 1}",
        after: "%y = slice %x {start = [0, 1], limit = [4, 6], stride = [1, 2]}",
    },
    Case {
        rule: "fill_uniform",
        signature: "() -> (%y: f32[3])",
        before: "%y = constant dense<[2.0, 2.0, 2.0]> : f32[3]",
        after: "%a = constant dense<2.0> : f32[]\n%y = broadcast %a {axes = []} : f32[3]",
    },
    Case {
        rule: "elementwise_before_broadcast",
        signature: "(%x: f32[3]) -> (%y: f32[2, 3])",
        before: "%a = broadcast %x {axes = [1]} : f32[2, 3]\n%b = constant dense<2.0> : f32[]\n%c = broadcast %b {axes = []} : f32[2, 3]\n%y = mul %a, %c",
        after: "%b = constant dense<2.0> : f32[]\n%c = broadcast %b {axes = []} : f32[3]\n%d = mul %x, %c\n%y = broadcast %d {axes = [1]} : f32[2, 3]",
    },
    Case {
        rule: "constant_second",
        signature: "(%x: f32[2]) -> (%y: f32[2])",
        before: "%a = constant dense<[1.0, 2.0]> : f32[2]\n%y = mul %a, %x",
        after: "%a = constant dense<[1.0, 2.0]> : f32[2]\n%y = mul %x, %a",
    },
    Case {
        rule: "drop_neutral_operand",
        signature: "(%x: f32[2]) -> (%y: f32[2])",
        before: "%one = constant dense<1.0> : f32[2]\n%zero = constant dense<0.0> : f32[2]\n%a = mul %x, %one\n%b = add %zero, %a\n%c = div %b, %one\n%d = pow %c, %one\n%y = exp %d",
        after: "%y = exp %x",
    },
    Case {
        rule: "simplify_power",
        signature: "(%x: f32[2]) -> (%y: f32[2])",
        before: "%two = constant dense<2.0> : f32[2]\n%y = pow %x, %two",
        after: "%y = mul %x, %x",
    },
    Case {
        rule: "simplify_power",
        signature: "(%x: f32[2]) -> (%y: f32[2])",
        before: "%a = mul %x, %x\n%b = exp %x\n%c = add %a, %b\n%h = constant dense<0.5> : f32[2]\n%y = pow %c, %h",
        after: "%a = mul %x, %x\n%b = exp %x\n%c = add %a, %b\n%y = sqrt %c",
    },
    Case {
        rule: "simplify_unary",
        signature: "(%x: f32[2]) -> (%y: f32[2])",
        before: "%a = neg %x\n%b = neg %a\n%c = sqrt %b\n%y = reciprocal %c",
        after: "%y = rsqrt %x",
    },
    Case {
        rule: "div_as_reciprocal",
        signature: "(%x: f32[2]) -> (%y: f32[2])",
        before: "%a = constant dense<1.0> : f32[2]\n%y = div %a, %x",
        after: "%y = reciprocal %x",
    },
    Case {
        rule: "limits_as_clip",
        signature: "(%x: f32[2]) -> (%y: f32[2], %z: f32[2])",
        before: "%a = constant dense<0.0> : f32[2]\n%b = constant dense<6.0> : f32[2]\n%y = maximum %x, %a\n%z = minimum %b, %x",
        after: "%y = relu %x\n%z = clip %x {max = 6.0}",
    },
    Case {
        rule: "select_by_constant",
        signature: "(%x: f32[2], %z: f32[2]) -> (%y: f32[2])",
        before: "%a = constant dense<true> : bool[2]\n%b = select %a, %x, %z\n%y = exp %b",
        after: "%y = exp %x",
    },
    Case {
        rule: "drop_trivial_reduce",
        signature: "(%x: f32[2, 1, 3]) -> (%y: f32[2, 3])",
        before: "%y = reduce %x {axes = [1], reducer = sum}",
        after: "%y = reshape %x : f32[2, 3]",
    },
    Case {
        rule: "global_window_as_reduce",
        signature: "(%x: f32[2, 3, 4, 5]) -> (%y: f32[2, 3, 1, 1])",
        before: "%y = reduce_window %x {window = [1, 1, 4, 5], reducer = max}",
        after: "%a = reduce %x {axes = [2, 3], reducer = max}\n%y = reshape %a : f32[2, 3, 1, 1]",
    },
    Case {
        rule: "sort_contracted_axes",
        signature: "(%x: f32[2, 3, 4], %z: f32[3, 4, 5]) -> (%y: f32[2, 5])",
        before: "%y = dot_general %x, %z {lhs_contract = [2, 1], rhs_contract = [1, 0]}",
        after: "%y = dot_general %x, %z {lhs_contract = [1, 2], rhs_contract = [0, 1]}",
    },
    Case {
        rule: "drop_default_windows",
        signature: "(%x: f32[1, 3, 4, 4], %z: f32[5, 3, 1, 1]) -> (%y: f32[1, 5, 4, 4])",
        before: "%y = conv_general %x, %z {strides = [1, 1], padding = [[0, 0], [0, 0]], rhs_dilation = [1, 1]}",
        after: "%y = conv_general %x, %z",
    },
];

#[test]
fn every_rule_gives_what_it_says() {
    CASES.iter().for_each(|case| check(case, "canonicalise"));
}

#[test]
fn rules_are_silent_where_their_precondition_fails() {
    let silent = |rule: &str, signature: &str, body: &str| check_silent(rule, signature, body, "canonicalise");
    silent("merge_common_subexpressions", "(%x: f32[2]) -> (%y: f32[2])", "%a = exp %x\n%b = sqrt %x\n%y = add %a, %b");
    silent("transpose_as_reshape", "(%x: f32[2, 3, 1]) -> (%y: f32[1, 3, 2])", "%y = transpose %x {perm = [2, 1, 0]}");
    silent("broadcast_as_reshape", "(%x: f32[1]) -> (%y: f32[2])", "%y = broadcast %x {axes = [0]} : f32[2]");
    silent(
        "reshape_uniform",
        "(%x: f32[3]) -> (%y: f32[6])",
        "%a = broadcast %x {axes = [1]} : f32[2, 3]\n%y = reshape %a : f32[6]",
    );
    silent(
        "merge_pads",
        "(%x: f32[2]) -> (%y: f32[6])",
        "%a = pad %x {padding = [[1, 1]], value = 1.0}\n%y = pad %a {padding = [[1, 1]]}",
    );
    silent("merge_converts", "(%x: f32[2]) -> (%y: f32[2])", "%a = convert %x : i32[2]\n%y = convert %a : f32[2]");
    let gather = |indices: &str| format!("%i = constant dense<{indices}> : i64[3]\n%y = gather %x, %i {{axis = 0}}");
    for indices in ["[0, 2, 3]", "[2, 1, 0]", "[1, 1, 1]"] {
        silent("gather_as_slice", "(%x: f32[9]) -> (%y: f32[3])", &gather(indices));
    }
    silent("fill_uniform", "() -> (%y: f32[2])", "%y = constant dense<[1.0, 2.0]> : f32[2]");
    silent("simplify_power", "(%x: f32[2]) -> (%y: f32[2])", "%a = constant dense<3.0> : f32[2]\n%y = pow %x, %a");
    for half in ["0.5", "-0.5"] {
        let power = format!("%h = constant dense<{half}> : f32[2]\n%a = abs %x\n%b = sub %a, %x\n%y = pow %b, %h");
        silent("simplify_power", "(%x: f32[2]) -> (%y: f32[2])", &power);
        silent("simplify_power", "(%b: f32[2]) -> (%y: f32[2])", &power.replace("%a = abs %x\n%b = sub %a, %x\n", ""));
    }
    silent("limits_as_clip", "(%x: i32[2]) -> (%y: i32[2])", "%a = constant dense<0> : i32[2]\n%y = maximum %x, %a");
    silent("limits_as_clip", "(%x: f32[2]) -> (%y: f32[2])", "%a = constant dense<nan> : f32[2]\n%y = maximum %x, %a");
    silent(
        "drop_neutral_operand",
        "(%x: f32[2]) -> (%y: f32[2])",
        "%a = constant dense<1.0> : f32[2]\n%y = sub %a, %x",
    );
    silent(
        "global_window_as_reduce",
        "(%x: f32[4, 4]) -> (%y: f32[2, 1])",
        "%y = reduce_window %x {window = [3, 4], reducer = sum}",
    );
    silent("select_by_constant", "(%c: bool[2], %x: f32[2]) -> (%y: f32[2])", "%a = neg %x\n%y = select %c, %a, %x");
}

#[test]
fn a_variable_that_is_assigned_stays_a_variable() {
    let g = graph(
        "(%x: f32[2]) -> (%y: f32[2])",
        "variable \"w\": f32[2] = dense<0.0>\n%w = read_var {variable = \"w\"} : f32[2]\n%y = add %x, %w\n%a = assign %y {variable = \"w\"}",
    );
    let got = after("canonicalise", &g);
    assert_eq!((count(&got.graph, "read_var"), count(&got.graph, "assign")), (1, 1));
    assert_eq!(got.graph.variables().len(), 1);
}

#[test]
fn large_folded_constants_are_deferred_and_equal_ones_are_one() {
    let mut b = Builder::new("t");
    let w = b.constant(Tensor::from_slice(&[200, 200], &(0..40_000).map(|i| i as f32).collect::<Vec<_>>()).unwrap());
    let turned = b.transpose(w, &[1, 0]);
    let x = b.placeholder("x", DType::F32, &[200.into(), 200.into()]);
    let (s, t) = (b.sub(w, turned), b.sub(w, turned));
    let (p, q) = (b.mul(x, s), b.div(x, t));
    b.output("p", p);
    b.output("q", q);
    let graph = b.finish().unwrap();
    let got = after("canonicalise", &graph).graph;
    let constants: Vec<Tensor> = got
        .node_ids()
        .filter_map(|id| match &got.node(id).op {
            Op::Constant { value } => Some(value.tensor().clone()),
            _ => None,
        })
        .collect();
    let [constant] = &constants[..] else { panic!("one constant was expected\n{got}") };
    assert!(constant.is_deferred());
    let values = constant.to_vec::<f32>().unwrap();
    assert_eq!((values[1], values[201], values[5 * 200 + 7]), (1.0 - 200.0, 0.0, 1007.0 - 1405.0));
}

#[test]
fn dead_nodes_vanish_and_unused_inputs_stay() {
    let g = graph("(%x: f32[2], %unused: f32[3]) -> (%y: f32[2])", "%a = exp %x\n%b = neg %a\n%y = sqrt %x");
    let got = after("canonicalise", &g).graph;
    assert_eq!(got.len(), 3, "{got}");
    assert_eq!(got.input_types().map(|(name, _)| name).collect::<Vec<_>>(), ["x", "unused"]);
}

#[test]
fn names_locations_and_origins_survive() {
    let g = graph(
        "(%x: f32[2, 3, 4]) -> (%y: f32[4, 2, 3])",
        "%t = transpose %x {perm = [1, 2, 0]}\n%y = transpose %t {perm = [1, 2, 0]}",
    );
    let got = after("canonicalise", &g);
    let (_, y) = &got.graph.outputs()[0];
    let node = got.graph.node(y.node);
    assert_eq!(node.op.mnemonic(), "transpose");
    assert!(node.location.is_some());
    let origin = got.provenance.of(y.node).unwrap();
    assert!(origin.has_rule("merge_transposes"), "{origin:?}");
}
