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
    let compiled = place.kiln("compile m.kiln.txt -o m.kiln --tuning db.json --tuning-threads 2").ok();
    assert!(!compiled.stderr.contains("note:"), "{}", compiled.stderr);
    for of in ["explain m.kiln", "explain m.kiln.txt --tuning db.json --tuning-threads 2"] {
        let explained = place.kiln(&format!("{of} --json")).ok().json();
        let note = explained["programs"][0]["steps"][0]["note"].as_str().unwrap_or_default().to_owned();
        assert!(note.starts_with("direct, tiles of") && note.contains("measured: "), "{of}: {note}");
    }
    let exactly = place.kiln("explain m.kiln.txt --tuning db.json --tuning-threads 2 --exact").ok();
    assert!(exactly.stderr.contains("with 2 thread(s) and --exact"), "{}", exactly.stderr);
    let refused = place.kiln("run m.kiln --tuning db.json");
    assert!(!refused.stderr.contains("note:"), "{}", refused.stderr);
    refused.fails(2, &["--tuning does not go with the machine code"]);
    let elsewhere = place.kiln("compile m.kiln.txt -o n.kiln --tuning db.json --tuning-threads 3").ok();
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
    place.kiln("compile m.kiln.txt -o m.kiln --tuning-threads 2").fails(2, &["required arguments"]);
    place.kiln("compile m.kiln.txt -o m.kiln --no-native --tuning none.json").fails(2, &["cannot be used with"]);
    place.kiln("tune m.kiln.txt -o new.json --threads 2,1,2").fails(2, &["--threads names 2 twice"]);
    place.kiln("tune m.kiln.txt -o new.json --tuning db.json").fails(2, &["--output"]);
    place.kiln("explain m.kiln.txt --step nothing").fails(2, &["no step's label contains it"]);
    place.kiln("explain m.kiln.txt --recompile").fails(2, &["leave it out"]);
    place.kiln("compile m.kiln.txt -o m.kiln --target host,host").fails(2, &["twice"]);
    place.kiln("compile m.kiln.txt -o m.kiln").ok();
    place.kiln("explain m.kiln --exact").fails(2, &["--recompile"]);
    place.kiln("explain m.kiln --recompile --exact").ok();
}

#[test]
fn an_artifact_for_several_targets_is_explained_target_by_target() {
    let place = Place::new();
    place.write("m.kiln.txt", GRAPH);
    place.kiln("compile m.kiln.txt -o m.kiln --target x86-64-v3,aarch64-unknown-linux-gnu").ok();
    let explained = place.kiln("explain m.kiln --json").ok().json();
    let programs = explained["programs"].as_array().cloned().unwrap_or_default();
    let titles: Vec<&str> = programs.iter().filter_map(|p| p["program"].as_str()).collect();
    assert!(titles.len() == 2 && titles[0].contains("x86_64") && titles[1].contains("aarch64"), "{explained}");
    for program in &programs {
        assert!(program["steps"].as_array().is_some_and(|steps| steps.len() < 4), "{explained}");
        assert_eq!(program["steps"][0]["step"], 0);
    }
    let text = place.kiln("explain m.kiln").ok().stdout;
    assert_eq!(text.matches("as it was compiled for").count(), 2, "{text}");
}

#[test]
fn what_a_database_says_nothing_about_is_named() {
    let place = Place::new();
    place.write("m.kiln.txt", GRAPH);
    place.kiln("tune m.kiln.txt -o db.json --budget 1 --threads 1").ok();
    place.write("other.kiln.txt", GRAPH.replace("64", "48"));
    let commands = [
        "compile other.kiln.txt -o other.kiln --tuning db.json --tuning-threads 1",
        "explain other.kiln.txt --tuning db.json --tuning-threads 1",
        "cat other.kiln.txt --stage plan --tuning db.json --tuning-threads 1",
        "bench other.kiln.txt --runs 1 --tuning db.json --threads 1",
    ];
    for command in commands {
        let stderr = place.kiln(command).ok().stderr;
        assert!(stderr.contains("of 1 of the model's 1 layers it has no measurements"), "{command}: {stderr}");
    }
    let database = std::fs::read_to_string(place.path("db.json")).expect("the database");
    let mut database: serde_json::Value = serde_json::from_str(&database).expect("JSON");
    database["layers"][0]["algorithm"]["rows"] = 999.into();
    place.write("odd.json", database.to_string());
    let odd = place.kiln("explain m.kiln.txt --tuning odd.json --tuning-threads 1").ok();
    assert!(odd.stderr.contains("the way it has is none of theirs"), "{}", odd.stderr);
    assert!(odd.stdout.contains("estimated, for what was known is no way of this layer"), "{}", odd.stdout);
}

#[test]
fn a_database_that_cannot_be_written_is_refused_before_anything_is_measured() {
    let place = Place::new();
    place.write("m.kiln.txt", GRAPH);
    let start = std::time::Instant::now();
    place
        .kiln("tune m.kiln.txt -o no/such/db.json --budget 100")
        .fails(2, &["--output", "there is no folder `no/such`"]);
    if cfg!(target_os = "linux") {
        place.kiln("tune m.kiln.txt -o /proc/db.json --budget 100").fails(1, &["cannot write `/proc/db.json`"]);
    }
    assert!(start.elapsed().as_secs() < 60, "it has measured first");
    place.write("db.json", "{");
    place.kiln("tune m.kiln.txt -o db.json").fails(1, &["where there is no FILE yet"]);
}
