//! `kiln bisect` and `kiln reduce`.
//!
//! Kiln has no wrong rule to find, but rules may change rounding: asked for not the smallest error, these commands find the
//! rule that does. `tests/fault.rs` has rules that are wrong.

use crate::harness::{DOUBLE, Place};

/// Optimised, it multiplies by one number, rounded, where products were rounded.
const SCALE: &str = "kiln 1
graph @scale(%x: f32[64]) -> (%y: f32[64], %z: f32[64]) {
  %z = neg %x : f32[64]
  %a = constant dense<0.3> : f32[]
  %b = constant dense<0.1> : f32[]
  %0 = broadcast %a {axes = []} : f32[64]
  %1 = broadcast %b {axes = []} : f32[64]
  %2 = abs %x : f32[64]
  %3 = mul %2, %0 : f32[64]
  %y = mul %3, %1 : f32[64]
}
";

#[test]
fn bisect_says_that_results_agree_and_how_well() {
    let place = Place::with_digits();
    let run = place.kiln("bisect digits.kiln --weights digits.safetensors --dim batch=2").ok();
    assert!(run.stdout.starts_with("the compiled model agrees with the interpreter: the largest error is "), "{run:?}");
    let json = place
        .kiln("bisect digits.kiln --weights digits.safetensors --dim batch=1 --inputs digit.npz --json")
        .ok()
        .json();
    assert_eq!(json["comparison"]["verdict"], "agrees", "{json}");
    assert!(json["comparison"]["relative_error"].as_f64().is_some_and(|e| e < 1e-5), "{json}");
}

#[test]
fn bisect_names_the_rule_that_changes_the_result_and_how_to_see_it() {
    let place = Place::new();
    place.write("m.kiln", SCALE);
    place.kiln("bisect m.kiln").ok();
    let run = place.kiln("bisect m.kiln --tolerance 0").fails(1, &["m.kiln", "rule `merge_scales`", "pass `rewrite`"]);
    assert!(run.stdout.contains("\n-  %y = mul %v3, %v1 : f32[64]\n+  %y = mul %v0, %v1"), "{}", run.stdout);
    let json = place.kiln("bisect m.kiln --tolerance 0 --json").fails(1, &["merge_scales"]).json();
    assert_eq!((&json["pass"], &json["rules"][0]), (&"rewrite".into(), &"merge_scales".into()), "{json}");
    assert_eq!((&json["rewriting_is_wrong"], &json["disabled"]["verdict"]), (&true.into(), &"agrees".into()), "{json}");
    // The commands that it gives do what it says.
    let arguments =
        |key: &str| json[key].as_str().and_then(|line| line.strip_prefix("kiln ")).expect("a command").to_owned();
    let wrong = place.kiln(&arguments("reproduce")).fails(1, &["merge_scales"]);
    assert!(wrong.stdout.contains("culprit"), "{wrong:?}");
    place.kiln(&arguments("right_with")).ok();
    place.kiln("bisect m.kiln --tolerance 0 --disable merge_scales").ok();
}

#[test]
fn bisect_blames_code_generation_where_no_pass_is_needed() {
    let place = Place::new();
    // The interpreter rounds a sine once; compiled code is within a few units in the last place.
    place.write("m.kiln", "kiln 1\ngraph @g(%x: f32[512]) -> (%y: f32[512]) {\n  %y = sin %x : f32[512]\n}\n");
    let json =
        place.kiln("bisect m.kiln --tolerance 0 --json").fails(1, &["code generation", "without any pass"]).json();
    assert!(json["reproduce"].as_str().is_some_and(|line| line.ends_with("--no-opt")), "{json}");
    place.kiln("bisect m.kiln --tolerance 0 --no-opt").fails(1, &["code generation"]);
    place.kiln("bisect m.kiln --tolerance nan").fails(2, &["--tolerance", "1e-4"]);
    place.kiln("bisect m.kiln --tolerance=-1").fails(2, &["--tolerance", "1e-4"]);
}

#[test]
fn reduce_leaves_what_is_wrong_and_a_command_that_shows_it() {
    let place = Place::new();
    // Everything but the products is exact.
    let body: String = (0..6).map(|i| format!("  %h{} = add %h{i}, %k : f32[4, 64]\n", i + 1)).collect();
    let text = format!(
        "kiln 1\ngraph @deep(%h0: f32[4, 64], %k: f32[4, 64]) -> (%y: f32[4, 64], %h6: f32[4, 64]) {{\n{body}  %a = constant dense<0.3> : f32[4, 64]\n  \
         %b = constant dense<0.1> : f32[4, 64]\n  %p = mul %h3, %a : f32[4, 64]\n  %q = mul %p, %b : f32[4, 64]\n  %y = neg %q : f32[4, 64]\n}}\n"
    );
    place.write("q.kiln", text);
    let options = "--tolerance 0 --seed 1";
    let json = place.kiln(&format!("reduce q.kiln -o small.kiln {options} --json")).ok().json();
    let small = std::fs::read_to_string(place.path("small.kiln")).expect("the small graph");
    assert_eq!(json["text"].as_str(), Some(small.as_str()), "{json}");
    assert!(small.contains(" = mul ") && !small.contains(" add ") && !small.contains("neg"), "{small}");
    assert!(json["nodes_after"].as_u64() <= Some(5), "{small}");
    let next = json["next"].as_str().and_then(|line| line.strip_prefix("kiln ")).expect("a command").to_owned();
    assert!(next.contains("--seed 1"), "{next}");
    place.kiln(&next).fails(1, &["merge_scales"]);
    place.kiln("verify small.kiln").ok();
    let again = place.kiln(&format!("reduce q.kiln -o again.kiln {options}")).ok();
    assert!(
        again.stdout.contains("the result is wrong") && again.stdout.contains("kiln bisect again.kiln"),
        "{again:?}"
    );
    assert_eq!(std::fs::read_to_string(place.path("again.kiln")).ok(), Some(small));
}

#[test]
#[cfg(unix)]
fn reduce_asks_a_command_which_graphs_are_of_interest() {
    let place = Place::with_digits();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kiln"));
    let model = ["reduce", "digits.kiln", "--weights", "digits.safetensors", "--dim", "batch=3", "-o", "small.kiln"];
    let kiln = env!("CARGO_BIN_EXE_kiln");
    let interesting = format!("'{kiln}' verify {{}} --weights {{weights}} && grep -q conv_general {{}}");
    let run = place.run(command.args(model).args(["--command", &interesting])).ok();
    let small = std::fs::read_to_string(place.path("small.kiln")).expect("the small graph");
    assert!(small.contains("conv_general") && small.lines().count() <= 5, "{small}");
    assert!(run.stdout.contains("the command ends with exit code 0"), "{}", run.stdout);
    // Nothing is left half written.
    assert!(place.names().iter().all(|name| !name.starts_with('.')), "{:?}", place.names());
}

#[test]
fn reduce_refuses_what_has_no_fault_and_commands_that_look_at_nothing() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    place.kiln("reduce double.kiln --dim n=2 -o small.kiln").fails(1, &["double.kiln", "nothing to reduce", "agrees"]);
    place.kiln("reduce double.kiln --dim n=2 -o small.kiln --command true").fails(2, &["--command true", "{}"]);
    place.kiln("reduce double.kiln --dim n=2 -o small.kiln --command {} --seed 1").fails(2, &["cannot be used with"]);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kiln"));
    let arguments = ["reduce", "double.kiln", "--dim", "n=2", "-o", "small.kiln", "--command", "test -d {}"];
    place.run(command.args(arguments)).fails(1, &["nothing to reduce", "exit code 0"]);
    assert!(!place.path("small.kiln").exists());
    place.kiln("reduce double.kiln -o small.kiln").fails(1, &["n", "--dim n=4"]);
}
