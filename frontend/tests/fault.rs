//! Finding faults: bisection and reduction, with passes that are wrong on purpose.

use kiln::fault::reduce::class_of;
use kiln::fault::{Blame, Cause, Culprit, Fault, Finding, Step, Trial, Verdict, bisect, reduce};
use kiln::ir::text::parse;
use kiln::ir::{Graph, GraphError, Op, Stage, Tensor, verify};
use kiln_passes::rewrite::{Rewriter, Values, rewrite};
use kiln_passes::{Context, PASSES, Pass, PassFailure};

/// Wrong: a − b is not b − a.
const SWAP: &str = "swap_subtraction";

fn rewriting(
    graph: &Graph,
    context: &mut Context<'_>,
    mut replace: impl FnMut(&mut Rewriter<'_, '_>, &Op, &[kiln::ir::Value]) -> Result<Option<kiln::ir::Value>, GraphError>,
) -> Result<Graph, PassFailure> {
    Ok(rewrite(graph, context, |rewriter, id, operands| {
        let op = rewriter.source().node(id).op.clone();
        Ok(replace(rewriter, &op, operands)?.map(|v| Values::from_slice(&[v])))
    })?)
}

/// Swaps the operands of every subtraction, each by a firing.
fn swap(graph: &Graph, context: &mut Context<'_>) -> Result<Graph, PassFailure> {
    rewriting(graph, context, |r, op, operands| match op {
        Op::Sub {} if r.context.may_fire(SWAP) => {
            r.fired(SWAP);
            r.add(Op::Sub {}, &[operands[1], operands[0]]).map(Some)
        }
        _ => Ok(None),
    })
}

/// Makes hyperbolic tangents sines, and tells nobody.
fn silent(graph: &Graph, context: &mut Context<'_>) -> Result<Graph, PassFailure> {
    rewriting(graph, context, |r, op, operands| match op {
        Op::Tanh {} => r.add(Op::Sin {}, operands).map(Some),
        _ => Ok(None),
    })
}

/// Makes a node that does not fit of every hyperbolic tangent, by a rule.
fn failing(graph: &Graph, context: &mut Context<'_>) -> Result<Graph, PassFailure> {
    rewriting(graph, context, |r, op, operands| match op {
        Op::Tanh {} if r.context.may_fire("break_tanh") => {
            r.fired("break_tanh");
            r.add(Op::Add {}, operands).map(Some)
        }
        Op::Exp {} if r.context.may_fire("keep_exp") => {
            r.fired("keep_exp");
            Ok(None)
        }
        _ => Ok(None),
    })
}

/// A trial with a wrong pass before canonicalisation, which would make other things of subtractions.
fn with(pass: Pass) -> Trial {
    let mut passes = PASSES.to_vec();
    passes.insert(1, pass);
    Trial { passes, ..Trial::default() }
}

fn swapping() -> Trial {
    with(Pass { name: "wrong", doc: "swaps", rules: || vec![SWAP], run: swap })
}

fn graph(signature: &str, body: &str) -> Graph {
    let text = format!("kiln 1\ngraph @g{signature} {{\n{body}\n}}\n");
    parse(&text, "g.kiln").unwrap_or_else(|e| panic!("{e}"))
}

/// Three subtractions, of which only the last one's sign reaches the result.
fn three() -> Graph {
    let body = "  %a = sub %x, %y : f32[4, 6]
  %b = mul %a, %a : f32[4, 6]
  %c = sub %b, %y : f32[4, 6]
  %d = abs %c : f32[4, 6]
  %e = exp %x : f32[4, 6]
  %f = sub %d, %e : f32[4, 6]
  %g = tanh %f : f32[4, 6]
  %z = add %g, %b : f32[4, 6]";
    graph("(%x: f32[4, 6], %y: f32[4, 6]) -> (%z: f32[4, 6])", body)
}

#[track_caller]
fn culprit(graph: &Graph, trial: &Trial) -> Box<Culprit> {
    match bisect(graph, trial, &mut |_| {}).unwrap_or_else(|e| panic!("{e}")) {
        Finding::Wrong(culprit) => culprit,
        Finding::Right { verdict } => panic!("{verdict}"),
    }
}

#[test]
fn a_right_result_is_said_to_be_right_with_its_error() {
    let found = bisect(&three(), &Trial::default(), &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    let Finding::Right { verdict: Verdict::Agrees(Some(largest)) } = found else { panic!("{found:?}") };
    assert!(largest.error < 1e-5, "{largest}");
}

#[test]
fn bisection_finds_the_one_firing_that_changes_the_result() {
    let found = culprit(&three(), &swapping());
    let Cause::Rule { rules, firing, step } = &found.cause else { panic!("{found:?}") };
    assert_eq!((&rules[..], step.pass), (&[SWAP][..], "wrong"));
    // the passes before it fire on nothing here, so the third subtraction is the third firing
    let before: u64 = {
        let options = kiln_passes::Options::default().until("variables");
        kiln_passes::optimize(&three(), &options).unwrap_or_else(|e| panic!("{e}")).report.firings()
    };
    assert_eq!(*firing, before + 3);
    let Step { before, after: Some(after), verdict, blame, without, .. } = step else { panic!("{step:?}") };
    assert!(before.to_string().contains("%f = sub %d, %e") && after.to_string().contains("%f = sub %e, %d"));
    assert!(before.to_string().contains("%c = sub %y, %b"), "the harmless firings stay:\n{before}");
    assert!(matches!(verdict, Verdict::Differs(worst) if worst.output == "z"), "{verdict}");
    assert!(matches!(blame, Blame::Rewriting), "{blame:?}");
    assert!(without.agrees(), "{without}");
    // few comparisons: halves of passes, halves of firings
    assert!(found.comparisons < 20, "{}", found.comparisons);
}

#[test]
fn the_options_of_the_trial_bound_the_search() {
    let mut trial = swapping();
    trial.options.passes.fuel = Some(2);
    let found = bisect(&three(), &trial, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    assert!(matches!(found, Finding::Right { .. }), "the harmless two alone: {found:?}");
    trial.options.passes = kiln_passes::Options::default().without(SWAP);
    let found = bisect(&three(), &trial, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    assert!(matches!(found, Finding::Right { .. }), "{found:?}");
    trial.options.passes = kiln_passes::Options::default().until("wrong");
    assert!(matches!(culprit(&three(), &trial).cause, Cause::Rule { .. }));
}

#[test]
fn a_pass_that_changes_the_result_without_a_rule_is_named() {
    let found = culprit(&three(), &with(Pass { name: "silent", doc: "lies", rules: Vec::new, run: silent }));
    let Cause::Pass(step) = &found.cause else { panic!("{found:?}") };
    assert_eq!(step.pass, "silent");
    assert!(step.without.agrees(), "{}", step.without);
}

#[test]
fn a_pass_that_fails_is_bisected_too() {
    let pass = Pass { name: "failing", doc: "fails", rules: || vec!["break_tanh", "keep_exp"], run: failing };
    let found = culprit(&three(), &with(pass));
    assert!(matches!(found.verdict, Verdict::Fails(_)), "{}", found.verdict);
    let Cause::Rule { rules, step, .. } = &found.cause else { panic!("{found:?}") };
    assert!(step.after.is_none() && step.pass == "failing", "{step:?}");
    // There is no report of a pass that fails, so no rule can be named but by its number.
    assert!(rules.is_empty(), "{rules:?}");
    assert!(step.without.agrees(), "{}", step.without);
}

/// `shows` of a fault in a trial.
fn reduced(graph: &Graph, fault: &Fault, trial: &Trial) -> Graph {
    let mut shows =
        |candidate: &Graph| -> Result<bool, std::convert::Infallible> { Ok(fault.shown_by(candidate, trial)) };
    let Ok(reduction) = reduce(graph, &mut shows, &mut |_| {});
    reduction.expect("the fault is there").graph
}

/// A deep graph of convolutions, in the middle of which there is one subtraction.
fn deep() -> Graph {
    let mut body = String::from(
        "  variable \"w\": f32[8, 8, 3, 3] = normal(mean=0.0, std=0.2, seed=1)
  variable \"v\": f32[1, 8, 12, 12] = normal(mean=0.0, std=1.0, seed=2)
  metadata \"author\" = \"somebody\"
  %w = read_var {variable = \"w\"} : f32[8, 8, 3, 3]
  %v = read_var {variable = \"v\"} : f32[1, 8, 12, 12]
  %h0 = relu %x : f32[1, 8, 12, 12]\n",
    );
    for i in 0..8 {
        let h = format!("%c{i} = conv_general %h{i}, %w {{padding = [[1, 1], [1, 1]]}} : f32[1, 8, 12, 12]");
        let op = if i == 4 { format!("sub %c{i}, %v") } else { format!("tanh %c{i}") };
        body += &format!("  {h}\n  %h{} = {op} : f32[1, 8, 12, 12]\n", i + 1);
    }
    body += "  %flat = reshape %h8 : f32[1, 1152]\n  %p = softmax %flat {axis = 1} : f32[1, 1152]";
    graph("(%x: f32[1, 8, 12, 12], %unused: i32[3]) -> (%p: f32[1, 1152], also = %h3: f32[1, 8, 12, 12])", &body)
}

#[test]
fn a_deep_graph_is_reduced_to_the_node_that_is_computed_wrongly() {
    let trial = swapping();
    assert_eq!(Fault::of(&deep(), &trial).unwrap_or_else(|e| panic!("{e}")), Some(Fault::WrongResult));
    let small = reduced(&deep(), &Fault::WrongResult, &trial);
    let text = small.to_string();
    assert_eq!(verify(&small, Stage::Lowered), Ok(()));
    assert_eq!(parse(&text, "small.kiln").map(|read| read == small), Ok(true), "{text}");
    assert!(small.len() <= 3 && text.contains(" = sub "), "{text}");
    assert!(text.contains("f32[1, 1, 1, 1]") && !text.contains("variable") && !text.contains("metadata"), "{text}");
    assert!(Fault::WrongResult.shown_by(&small, &trial), "{text}");
    // The same again: nothing depends on time or on the order of a map.
    assert_eq!(reduced(&deep(), &Fault::WrongResult, &trial).to_string(), text);
}

#[test]
fn a_failure_is_reduced_to_one_with_the_same_message_but_for_names() {
    let pass = Pass { name: "failing", doc: "fails", rules: || vec!["break_tanh", "keep_exp"], run: failing };
    let trial = with(pass);
    let fault = Fault::of(&deep(), &trial).unwrap_or_else(|e| panic!("{e}")).expect("a fault");
    assert!(matches!(&fault, Fault::Failure(class) if class.contains("a bug in Kiln")), "{fault:?}");
    let text = reduced(&deep(), &fault, &trial).to_string();
    assert!(text.contains("tanh") && text.lines().count() == 4, "{text}");
    assert_ne!(fault, Fault::Failure(class_of("out of memory")));
}

#[test]
fn what_is_right_is_not_reduced() {
    let trial = Trial::default();
    assert_eq!(Fault::of(&three(), &trial).unwrap_or_else(|e| panic!("{e}")), None);
    let mut shows =
        |g: &Graph| -> Result<bool, std::convert::Infallible> { Ok(Fault::WrongResult.shown_by(g, &trial)) };
    assert!(reduce(&three(), &mut shows, &mut |_| {}).is_ok_and(|none| none.is_none()));
}

#[test]
fn inputs_that_are_given_are_cut_with_the_graph() {
    // Only where x is exactly 3 does the fault show: swapping 3 − 1 gives −2, of all else 0.
    let body = "  %one = constant dense<1.0> : f32[]
  %ones = broadcast %one {axes = []} : f32[2, 4]
  %three = constant dense<3.0> : f32[]
  %threes = broadcast %three {axes = []} : f32[2, 4]
  %is = equal %x, %threes : bool[2, 4]
  %d = sub %x, %ones : f32[2, 4]
  %y = select %is, %d, %ones : f32[2, 4]";
    let graph = graph("(%x: f32[2, 4]) -> (%y: f32[2, 4])", body);
    let mut trial = swapping();
    assert_eq!(Fault::of(&graph, &trial).unwrap_or_else(|e| panic!("{e}")), None, "random inputs do not show it");
    trial.given = vec![("x".into(), Tensor::from_slice(&[2, 4], &[3f32; 8]).expect("fits"))];
    let small = reduced(&graph, &Fault::WrongResult, &trial);
    assert!(small.to_string().contains("f32[1, 1]") && small.to_string().contains("sub"), "{small}");
}

#[test]
fn an_assignment_that_is_wrong_is_a_wrong_result() {
    let body = "  variable \"state\": f32[3] = fill(1.0)
  %s = read_var {variable = \"state\"} : f32[3]
  %d = sub %x, %s : f32[3]
  %t = assign %d {variable = \"state\"} : f32[3]";
    let graph = graph("(%x: f32[3]) -> (same = %x: f32[3])", body);
    let found = culprit(&graph, &swapping());
    assert!(matches!(&found.verdict, Verdict::Differs(worst) if worst.output == "state"), "{}", found.verdict);
}
