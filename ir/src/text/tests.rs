//! Tests of the text format: round trips, errors with their places, hostile input.

use proptest::prelude::*;

use super::{PrintOptions, WeightStore, parse, parse_with, print, print_into};
use crate::attribute::Real;
use crate::graph::{Graph, Location};
use crate::{Builder, DType, Dim, Initializer, Op, Tensor, Variable};

const MLP: &str = r#"kiln 1
graph @mlp(%x: f32[batch, 784]) -> (%p: f32[batch, 10], logits = %y: f32[batch, 10]) {
  metadata "source" = "a \"test\"\n"
  variable "fc/w": f32[784, 10] = xavier(fan_in=784, fan_out=10, seed=1)
  variable "fc/b": f32[2] = dense<[1.5, -inf]>
  %w = read_var {variable = "fc/w"} : f32[784, 10]
  %b = constant dense<0.0> : f32[10]
  %h = dot_general %x, %w {lhs_contract = [1], rhs_contract = [0]} : f32[batch, 10]
  %0 = broadcast %b {axes = [1]} : f32[batch, 10]
  %y = add %h, %0 : f32[batch, 10]
  %p = softmax %y {axis = 1} : f32[batch, 10]
  %1, %1#1 = top_k %p {k = 3, axis = 1} : f32[batch, 3], i64[batch, 3]
  %y.1 = neg %1 : f32[batch, 3]
  %"a b" = abs %y.1 : f32[batch, 3]
}
"#;

fn errors(text: &str) -> String {
    match parse(text, "test.kiln") {
        Ok(g) => panic!("parsed:\n{g}"),
        Err(e) => e.to_string(),
    }
}

/// A graph whose body is `lines`, over inputs `%x: f32[2, 3]` and `%i: i64[4]`.
fn body(lines: &str) -> String {
    format!("kiln 1\ngraph @g(%x: f32[2, 3], %i: i64[4]) -> () {{\n{lines}\n}}\n")
}

#[test]
fn a_printed_graph_reads_back_as_itself() {
    let g = parse(MLP, "mlp.kiln").unwrap();
    assert_eq!(g.to_string(), MLP);
    assert_eq!(parse(&g.to_string(), "again.kiln").unwrap(), g);
}

#[test]
fn every_line_is_the_location_of_its_node() {
    let g = parse(MLP, "mlp.kiln").unwrap();
    let at = |i: u32| g.node(crate::NodeId(i)).location.as_ref().map(ToString::to_string).unwrap_or_default();
    assert_eq!((at(0), at(1)), ("mlp.kiln:2:12".into(), "mlp.kiln:6:3".into()));
}

#[test]
fn locations_print_and_read_back_on_demand() {
    let mut b = Builder::new("g");
    b.set_location(Some(Location::Source { file: "a.rs".into(), line: 3, column: 9 }));
    let x = b.placeholder("x", DType::F32, &[Dim::Fixed(2)]);
    b.set_location(Some(Location::Model { file: "m.onnx".into(), node: "Relu 7".into() }));
    let y = b.relu(x);
    b.output("y", y);
    let g = b.finish().unwrap();
    let options = PrintOptions { locations: true, ..PrintOptions::default() };
    let text = print(&g, &options);
    assert!(text.contains(r#"(%x: f32[2] loc("a.rs":3:9))"#), "{text}");
    assert!(text.contains(r#"relu %x : f32[2] loc("m.onnx", "Relu 7")"#), "{text}");
    assert_eq!(print(&parse(&text, "t").unwrap(), &options), text);
    assert!(!g.to_string().contains("loc("));
}

#[test]
fn large_tensors_go_by_content_id_and_come_back_from_the_weights() {
    let values: Vec<f32> = (0..40).map(|i| i as f32 / 8.0).collect();
    let large = Tensor::from_slice(&[5, 8], &values).unwrap();
    let mut b = Builder::new("g");
    let c = b.constant(large.clone());
    b.variable("v", DType::F32, &[5, 8], Initializer::Value(large.clone().into()));
    b.output("c", c);
    let g = b.finish().unwrap();
    let mut weights = WeightStore::new();
    let text = print_into(&g, &PrintOptions::default(), &mut weights);
    assert_eq!((weights.len(), weights.get(&large.content_id())), (1, Some(&large)));
    assert_eq!(parse_with(&text, "t", &|id| weights.get(id).cloned()).unwrap(), g);
    let missing = errors(&text);
    assert_eq!(missing.matches("no tensor of content id").count(), 2, "{missing}");
    let wrong = parse_with(&text, "t", &|_| Some(Tensor::scalar(1i32))).unwrap_err().to_string();
    assert!(wrong.contains("the tensor is i32[], the text says f32[5, 8]"), "{wrong}");
}

#[test]
fn tensors_stand_in_the_text_only_where_every_bit_survives() {
    let mut b = Builder::new("g");
    let odd_nan = f32::from_bits(0x7fc0_0001);
    for values in [[f32::NAN, 0.0], [odd_nan, 0.0], [odd_nan, odd_nan], [-0.0, f32::MIN_POSITIVE / 2.0]] {
        b.constant(Tensor::from_slice(&[2], &values).unwrap());
    }
    // A bool byte that is neither 0 nor 1.
    b.constant(Tensor::from_bytes(DType::Bool, &[1], vec![2].into()).unwrap());
    let g = b.finish().unwrap();
    let mut weights = WeightStore::new();
    let text = print_into(&g, &PrintOptions::default(), &mut weights);
    assert_eq!(weights.len(), 3, "{text}");
    assert!(text.contains("dense<[nan, 0.0]>") && text.contains("dense<[-0.0, 5.877472e-39]>"), "{text}");
    assert_eq!(parse_with(&text, "t", &|id| weights.get(id).cloned()).unwrap(), g);
}

#[test]
fn placeholders_may_stand_anywhere_among_the_nodes() {
    let mut b = Builder::new("g");
    let c = b.scalar(DType::F32, 2.0);
    let x = b.placeholder("x.1", DType::F32, &[]);
    let y = b.add(c, x);
    b.output("x.1", y);
    b.output("in", x);
    let g = b.finish().unwrap();
    let text = g.to_string();
    assert!(text.contains("graph @g(%\"x.1\": f32[]) -> (\"x.1\" = %1: f32[], in = %\"x.1\": f32[])"), "{text}");
    let again = parse(&text, "t").unwrap();
    assert_eq!(again, g);
    assert_eq!(again.to_string(), text);
}

#[test]
fn names_that_need_it_are_quoted_and_counted() {
    let names = ["a", "a", "a.1", "0", "a/b.c", "a//b", "", "é", "x.", "007", "a#1", "say \"hi\"\n"];
    let mut b = Builder::new("a graph");
    let x = b.placeholder("a", DType::F32, &[Dim::symbol("N + 1"), Dim::symbol("inf")]);
    for name in names {
        b.set_name(Some(name.into()));
        b.relu(x);
    }
    let g = b.finish().unwrap();
    let text = g.to_string();
    let again = parse(&text, "t").unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(again, g);
    assert_eq!(again.to_string(), text);
    assert!(
        text.contains("  %a.1 = relu") && text.contains("  %a.2 = relu") && text.contains("  %\"a.1\" = relu"),
        "{text}"
    );
}

#[test]
fn effects_and_bare_statements_read() {
    let text = "kiln 1\ngraph @step() -> () {\n  variable \"n\": i64[] = fill(0.0)\n  %n = read_var {variable = \"n\"} : i64[]\n  \
                %0 = constant dense<1> : i64[]\n  %1 = add %n, %0\n  assign %1 {variable = \"n\"}\n  group\n}\n";
    let g = parse(text, "t").unwrap();
    assert_eq!(g.effects().len(), 2);
    assert!(g.to_string().ends_with("  %2 = assign %1 {variable = \"n\"} : i64[]\n  group\n}\n"), "{g}");
    assert_eq!(parse(&g.to_string(), "t").unwrap(), g);
}

#[test]
fn constants_may_be_given_by_an_initialiser() {
    let g = parse(
        &body("  %c = constant normal(mean=1.0, std=0.5, seed=7) : f32[64]\n  %d = constant fill(3) : u8[2]"),
        "t",
    )
    .unwrap();
    let Op::Constant { value } = &g.node(crate::NodeId(2)).op else { panic!("{g}") };
    let recipe = Initializer::Normal { mean: Real(1.0), std: Real(0.5), seed: 7 };
    assert_eq!(*value.tensor(), recipe.materialize(DType::F32, &[64]).unwrap());
}

#[test]
fn a_scalar_expression_that_does_not_parse_says_where() {
    let found = |expr: &str| errors(&body(&format!("  %a = fused_elementwise %x {{expr = \"{expr}\"}}")));
    insta::assert_snapshot!([found("a0 + "), found("sni(a0)"), found("a0 a1"), found("(a0")].join("\n"));
}

#[test]
fn all_independent_errors_are_reported_with_their_places() {
    let text = body(
        "  %a = add %x, %i : f32[2, 3]\n  %b = relu %nope\n  %c = exp %b\n  %d = relu %x : f32[3, 2]\n  %e = rleu %x\n  %f = softmax %x {axes = 1}\n  \
         %g = constant dense<[1, 2, 300]> : u8[3]\n  %h = reshape %x\n  %x = abs %x\n  %v = abs %x %i\n  %w =\n  @oops\n  %z, %y = relu %x",
    );
    insta::assert_snapshot!(errors(&text));
}

#[test]
fn errors_in_the_signature_have_their_places() {
    let cases = [
        "kiln 2\n",
        "graph @g() -> () {}",
        "kiln 1 graph g() -> () {}",
        "kiln 1\ngraph @g(%x: f31[2]) -> () {}",
        "kiln 1\ngraph @g(%x: f32[2], %x: f32[2]) -> () {\n}",
        "kiln 1\ngraph @g(%x: f32[2]) -> (%y, z = %x: f32[3], z = %x) {\n}",
        "kiln 1\ngraph @g(%x: f32[99999999999999999999]) -> () {\n}",
        "kiln 1\ngraph @g() -> () {\n",
        "kiln 1\ngraph @g() -> () {\n}\nkiln",
        "kiln 1\ngraph @\"g) -> () {}",
        "kiln 1\ngraph @g() -> () {\n  variable \"v\": f32[n] = fill(0)\n  variable \"w\": i32[2] = he(fan_in=1, seed=2)\n  variable \"u\": f32[2] = she(1)\n  \
         variable \"t\": f32[2] = uniform(low=0, seed=1)\n  metadata \"a\" = \"b\"\n  metadata \"a\" = \"c\"\n}",
    ];
    insta::assert_snapshot!(cases.map(errors).join("\n\n"));
}

#[test]
fn limits_are_errors() {
    let deep = format!("  %a = softmax %x {{axis = {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(errors(&body(&deep)).contains("lists too deep: at most 16"));
    let rank = format!("  %a = reshape %x : f32[{}6]", "1, ".repeat(100));
    assert!(errors(&body(&rank)).contains("too many dims: at most 64"));
    assert!(errors(&body("  %a = constant dense<0> : u8[99999999999]")).contains("more than 1073741824 bytes"));
    let many: String = (0..500).map(|i| format!("  %{i} = nonsense\n")).collect();
    assert_eq!(errors(&body(&many)).matches("unknown op").count(), 100);
    let long = format!("  %a = relu %{}", "y".repeat(10_000));
    assert!(errors(&body(&long)).lines().all(|l| l.chars().count() < 300 || l.contains("no value")));
}

#[test]
fn a_scalar_expression_of_any_depth_reads_back() {
    let mut b = crate::scalar::ScalarBuilder::default();
    let mut root = b.arg(0);
    for i in 1..600 {
        let a = b.arg(i % 7);
        let f = crate::scalar::BinaryFn::ALL[i as usize % 4];
        root = b.node(crate::scalar::ScalarNode::Binary(f, root, a));
    }
    let e = b.finish(root);
    assert_eq!(e.to_string().parse::<crate::scalar::ScalarExpr>(), Ok(e));
}

#[test]
fn equality_sees_every_part_of_a_graph() {
    let same = || parse(MLP, "t").unwrap();
    let changes: [(&str, &str); 9] = [
        ("@mlp", "@other"),
        ("seed=1", "seed=2"),
        ("\"source\"", "\"origin\""),
        ("logits = %y", "logits = %h"),
        ("logits =", "scores ="),
        ("%p = softmax %y {axis = 1}", "%p = softmax %y {axis = 0}"),
        ("%y = add %h, %0", "%y = add %0, %h"),
        ("constant dense<0.0>", "constant dense<-0.0>"),
        ("%\"a b\"", "%\"a c\""),
    ];
    assert_eq!(same(), same());
    for (from, to) in changes {
        assert_ne!(same(), parse(&MLP.replace(from, to), "t").unwrap(), "{from} → {to}");
    }
    let mut larger: Graph = same();
    larger
        .add_variable(Variable {
            name: "w".into(),
            ty: crate::TensorType::fixed(DType::F32, &[]),
            init: Initializer::ONES,
        })
        .unwrap();
    assert_ne!(same(), larger);
}

/// Pieces that make a text likely to get far into the parser.
fn fragments() -> impl Strategy<Value = String> {
    let pieces: Vec<&str> = r#"kiln 1 graph @g ( ) -> { } % %x %x.1 %" " : f32 [ ] 2 -1 1e999 inf , = relu add constant dense < >
        variable metadata axis loc @00 %0#1 // \u{ fused_elementwise expr "a0+a1" reshape batch 18446744073709551615 group é
        concat iota"#
        .split_whitespace()
        .chain(["\n", "\0"])
        .collect();
    prop::collection::vec(prop::sample::select(pieces), 0..60).prop_map(|v| v.join(" "))
}

proptest! {
    #[test]
    fn any_bytes_give_a_graph_or_errors(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&String::from_utf8_lossy(&bytes), "t").map_err(|e| e.to_string());
    }

    #[test]
    fn any_tokens_give_a_graph_or_errors(text in fragments()) {
        for text in [text.clone(), format!("kiln 1\ngraph @g(%x: f32[2]) -> () {{\n{text}")] {
            if let Err(e) = parse(&text, "t") {
                prop_assert!(!e.0.is_empty() && !e.to_string().is_empty());
            }
        }
    }

    #[test]
    fn a_damaged_text_gives_a_graph_or_errors(at in 0..MLP.len(), len in 0..20usize, put in fragments()) {
        let end = (at + len).min(MLP.len());
        let text = format!("{}{}{}", &MLP[..at], put, &MLP[end..]);
        if let Ok(g) = parse(&text, "t") {
            prop_assert_eq!(parse(&g.to_string(), "t").unwrap(), g);
        }
    }

    #[test]
    fn every_element_comes_back_bit_for_bit(bits: u64, dtype in prop::sample::select(&DType::ALL[..])) {
        let bytes: Vec<u8> = bits.to_le_bytes().repeat(2)[..2 * dtype.size()].to_vec();
        let mut b = Builder::new("g");
        b.constant(Tensor::from_bytes(dtype, &[2], bytes.into()).unwrap());
        let g = b.finish().unwrap();
        let mut weights = WeightStore::new();
        let text = print_into(&g, &PrintOptions::default(), &mut weights);
        prop_assert_eq!(parse_with(&text, "t", &|id| weights.get(id).cloned()).unwrap(), g);
    }
}
