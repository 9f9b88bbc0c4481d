//! `kiln tune` and `kiln explain`.

use crate::harness::Place;

const GRAPH: &str = "kiln 1
graph @layer(%x: f32[1, 64]) -> (%y: f32[1, 32]) {
  %w = constant dense<0.5> : f32[64, 32]
  %y = dot_general %x, %w {lhs_contract = [1], rhs_contract = [0]} : f32[1, 32]
}
";

#[test]
fn a_model_is_tuned_compiled_with_what_was_found_and_explained() {
    let place = Place::new();
    place.write("m.kiln.txt", GRAPH);
    let tuned = place.kiln("tune m.kiln.txt -o db.json --budget 1 --threads 1,2 --json").ok().json();
    assert_eq!(tuned["tuned"].as_array().map(Vec::len), Some(2), "{tuned}");
    assert_eq!(tuned["tuned"][1]["threads"], 2);
    assert!(tuned["tuned"][0]["layers"][0]["ms"].as_f64().is_some_and(|ms| ms > 0.0), "{tuned}");
    let compiled = place.kiln("compile m.kiln.txt -o m.kiln --tuning db.json --threads 2").ok();
    assert!(!compiled.stderr.contains("note:"), "{}", compiled.stderr);
    for of in ["explain m.kiln", "explain m.kiln.txt --tuning db.json --threads 2"] {
        let explained = place.kiln(&format!("{of} --json")).ok().json();
        let note = explained["steps"][0]["note"].as_str().unwrap_or_default().to_owned();
        assert!(note.starts_with("direct, tiles of") && note.contains("measured: "), "{of}: {note}");
    }
    let elsewhere = place.kiln("compile m.kiln.txt -o n.kiln --tuning db.json --threads 3").ok();
    assert!(elsewhere.stderr.contains("no measurements of code for"), "{}", elsewhere.stderr);
}

#[test]
fn databases_that_are_none_and_options_that_mean_nothing_are_refused() {
    let place = Place::new();
    place.write("m.kiln.txt", GRAPH);
    place.write("db.json", "{}");
    place.kiln("tune m.kiln.txt -o db.json").fails(1, &["is not a tuning database", "kiln_tuning"]);
    place
        .kiln("compile m.kiln.txt -o m.kiln --tuning none.json")
        .fails(1, &["cannot read the tuning database `none.json`"]);
    place.kiln("compile m.kiln.txt -o m.kiln --threads 2").fails(2, &["required arguments"]);
    place.kiln("tune m.kiln.txt -o new.json --tuning db.json").fails(2, &["--output"]);
    place.kiln("explain m.kiln.txt --step nothing").fails(2, &["no step's label contains it"]);
    place.kiln("explain m.kiln.txt --recompile").fails(2, &["leave it out"]);
    place.kiln("compile m.kiln.txt -o m.kiln --target host,host").fails(2, &["twice"]);
    place.kiln("compile m.kiln.txt -o m.kiln").ok();
    place.kiln("explain m.kiln --exact").fails(2, &["--recompile"]);
    place.kiln("explain m.kiln --recompile --exact").ok();
}
