//! Looking at models: inspect, cat, verify, opt, import.

use kiln_ir::text::parse;

use crate::harness::{DOUBLE, Place, text};

#[test]
fn inspect_says_what_a_graph_is_made_of() {
    let place = Place::with_digits();
    let object = place.kiln("inspect digits.kiln --weights digits.safetensors --json").ok().json();
    assert_eq!(object["inputs"][0]["dims"], serde_json::json!(["batch", 1, 28, 28]));
    assert_eq!(object["symbols"], serde_json::json!(["batch"]));
    // Two layers of filters, a dense layer with its bias, and the number that the average pool divides by.
    assert_eq!(object["parameters"], 16 * 25 + 64 * 16 * 25 + 10 * 3136 + 10 + 1);
    assert_eq!(object["ops"]["conv_general"], 2);
    let shown = place.kiln("inspect digits.kiln --weights digits.safetensors").ok().stdout;
    assert!(shown.contains("f32[batch, 1, 28, 28]") && shown.contains("conv_general"), "{shown}");
}

#[test]
fn every_graph_stage_is_text_that_reads_back() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    assert_eq!(place.kiln("cat double.kiln").ok().stdout, DOUBLE);
    for stage in ["import", "specialized", "canonicalise", "fusion", "optimized"] {
        let shown = place.kiln(&format!("cat double.kiln --dim n=2 --stage {stage}")).ok().stdout;
        let graph = parse(&shown, stage).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(graph.inputs().len(), 1, "{shown}");
        assert_eq!(shown.contains("f32[2, 3]"), stage != "import", "{shown}");
    }
    let run = place.kiln("cat double.kiln --dim n=2 --stage fusion --disable fusion");
    run.fails(2, &["fusion", "did not run"]);
}

#[test]
fn every_code_stage_is_printed() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    let stage = |name: &str| place.kiln(&format!("cat double.kiln --dim n=64 --stage {name}")).ok().stdout;
    assert!(stage("plan").contains("steps"));
    assert!(stage("kir").contains("kernel @"));
    assert!(stage("clif").contains("function "));
    assert!(stage("asm").lines().count() > 5);
    assert!(stage("kir --kernel ad").contains("kernel @add"));
}

#[test]
fn machine_instructions_are_those_of_the_back_end_that_was_asked_for() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    let asm = |options: &str| place.kiln(&format!("cat double.kiln --dim n=64 --stage asm {options}"));
    let wide = asm("--target x86-64-v4").ok().stdout;
    // each group of instructions stands under what it computes
    assert!(wide.contains("zmm") && wide.contains("; store"), "{wide}");
    let narrow = asm("--target x86-64-v4 --backend cranelift").ok().stdout;
    assert!(!narrow.contains("zmm") && narrow.contains("xmm"), "{narrow}");
    let half = asm("--target x86-64-v3 --backend wide").ok().stdout;
    assert!(half.contains("ymm") && !half.contains("zmm") && half.contains("; store"), "{half}");
    assert_eq!(asm("--target x86-64-v3").ok().stdout, half);
    let narrow = asm("--target x86-64-v3 --backend cranelift").ok().stdout;
    assert!(!narrow.contains("ymm") && narrow.contains("xmm"), "{narrow}");
    asm("--target x86-64-v2 --backend wide").fails(2, &["x86-64-v4", "x86-64-v3", "x86-64-v2"]);
    asm("--target aarch64-unknown-linux-gnu --backend wide").fails(2, &["--backend", "aarch64"]);
    place.kiln("cat double.kiln --exact").fails(2, &["--exact", "import"]);
    place.kiln("compile double.kiln --dim n=2 --exact -o double.kiln-art").ok();
    place.kiln("bench double.kiln-art --backend cranelift").fails(2, &["--backend", "--portable"]);
    place.kiln("bench double.kiln-art --exact --portable --runs 1").ok();
    place
        .kiln("compile double.kiln --dim n=2 --no-native --backend cranelift -o x")
        .fails(2, &["--backend", "--no-native"]);
    place.kiln("run double.kiln --dim n=2 --interpret --exact").fails(2, &["--exact", "--interpret"]);
    place.kiln("run double.kiln --dim n=2 --interpret --backend cranelift").fails(2, &["--backend", "--interpret"]);
}

#[test]
fn an_artifact_compiled_exactly_stays_exact_wherever_it_is_compiled_again() {
    let place = Place::new();
    let body = "  %w = constant normal(mean=0.0, std=0.1, seed=1) : f32[64, 64, 3, 3]\n  \
                %y = conv_general %x, %w {padding = [[1, 1], [1, 1]]}\n";
    place.write("conv.kiln", format!("kiln 1\ngraph @conv(%x: f32[1, 64, 56, 56]) -> (%y) {{\n{body}}}\n"));
    place.kiln("compile conv.kiln -o fast.art --no-native").ok();
    place.kiln("compile conv.kiln -o exact.art --no-native --exact").ok();
    let kernels = |name: &str| place.kiln(&format!("cat {name} --stage kir")).ok().stdout;
    let winograd = |name: &str| kernels(name).contains("kernel @winograd");
    assert_eq!(winograd("fast.art"), winograd("conv.kiln"));
    assert!(winograd("conv.kiln"), "the test's convolution is one that Winograd suits");
    assert!(!winograd("exact.art"));
    let plan = place.kiln("cat conv.kiln --stage plan").ok().stdout;
    assert!(plan.contains("(Winograd F("), "{plan}");
}

#[test]
fn compiling_an_artifact_for_another_machine_is_said() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    place.kiln("compile double.kiln --dim n=2 --target aarch64-unknown-linux-gnu -o other.art").ok();
    if cfg!(target_arch = "x86_64") {
        let run = place.kiln("bench other.art --runs 1").ok();
        assert!(run.stderr.contains("no machine code for this CPU"), "{}", run.stderr);
    }
}

#[test]
fn dot_has_a_node_for_each_node_and_output() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    let dot = place.kiln("cat double.kiln --format dot").ok().stdout;
    assert!(dot.starts_with("digraph \"double\" {") && dot.trim_end().ends_with('}'), "{dot}");
    assert_eq!(dot.matches("n0 -> n1").count(), 2, "{dot}");
    assert!(dot.contains("n1 -> out0"), "{dot}");
}

#[test]
fn opt_writes_text_and_weights_that_every_command_reads_back() {
    let place = Place::with_digits();
    place
        .kiln("opt digits.kiln --weights digits.safetensors --dim batch=1 -o opt.kiln --save-weights opt.safetensors")
        .ok();
    place.kiln("verify opt.kiln --weights opt.safetensors").ok();
    place.kiln("verify opt.kiln").fails(1, &["opt.kiln", "content id"]);
    // What is optimised already stays as it is.
    let again = place.kiln("opt opt.kiln --weights opt.safetensors").ok().stdout;
    let once = std::fs::read_to_string(place.path("opt.kiln")).expect("the text");
    assert_eq!(again.trim_end(), once.trim_end());
    for file in ["digits.kiln --weights digits.safetensors --dim batch=1", "opt.kiln --weights opt.safetensors"] {
        place.kiln(&format!("run {file} --inputs digit.npz --outputs out.npz")).ok();
        assert_eq!(place.read_npz("out.npz").len(), 1);
    }
}

#[test]
fn opt_stops_after_a_pass_and_reports_what_fired() {
    let place = Place::with_digits();
    let opt = |more: &str| {
        let arguments = format!("opt digits.kiln --weights digits.safetensors --dim batch=1 --json {more}");
        place.kiln(&arguments).ok().json()
    };
    let all = opt("");
    let until = opt("--until canonicalise");
    let passes = |object: &serde_json::Value| object["passes"].as_array().map_or(0, Vec::len);
    assert!(passes(&until) < passes(&all), "{until}");
    assert!(until["text"].as_str().is_some_and(|t| t.contains("conv_general")), "{until}");
    assert!(all["text"].as_str().is_some_and(|t| t.contains("fused_conv")), "{all}");
    assert!(opt("--no-opt")["text"].as_str().is_some_and(|t| t.contains("read_var")));
    let shown = place.kiln("opt digits.kiln --weights digits.safetensors --dim batch=1 --report").ok().stdout;
    assert!(shown.contains("canonicalise") && !shown.contains("graph @"), "{shown}");
}

#[test]
fn verify_refuses_ops_above_the_stage_and_lists_each() {
    let place = Place::new();
    let text = "kiln 1\ngraph @g(%x: f32[4]) -> (%z: f32[4]) {\n  %y = relu %x : f32[4]\n  %z = relu %y : f32[4]\n}\n";
    place.write("relu.kiln", text);
    place.kiln("verify relu.kiln").ok();
    let run = place.kiln("verify relu.kiln --stage primitive --json").fails(1, &["relu.kiln", "2 problems"]);
    let object = run.json();
    assert_eq!((&object["valid"], object["problems"].as_array().map(Vec::len)), (&false.into(), Some(2)), "{object}");
}

#[test]
fn graph_text_comes_from_stdin_too() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    let file = std::fs::File::open(place.path("double.kiln")).expect("the text");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kiln"));
    let run = place.run(command.args(["cat", "-"]).stdin(file)).ok();
    assert_eq!(run.stdout, DOUBLE);
}

#[test]
fn import_writes_what_cat_prints() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    let out = place.path("out.kiln");
    place.kiln(&format!("import double.kiln -o {}", text(&out))).ok();
    assert_eq!(std::fs::read_to_string(out).expect("the text"), DOUBLE);
}

#[test]
fn an_artifact_shows_the_plan_and_the_machine_code_that_it_holds() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    place.kiln("compile double.kiln --dim n=64 -o double.art").ok();
    let plan = place.kiln("cat double.art --stage plan").ok().stdout;
    for part in ["input x: f32[64, 3]", "output y: f32[64, 3]", "kernel 0 over", "read b", "write b"] {
        assert!(plan.contains(part), "`{part}` is not in {plan}");
    }
    if cfg!(target_arch = "x86_64") {
        let asm = place.kiln("cat double.art --stage asm").ok().stdout;
        assert!(asm.contains("add") && asm.contains("ret") && !asm.contains("(bad)"), "{asm}");
        let other = "compile double.kiln --dim n=64 -o arm.art --target aarch64-unknown-linux-gnu";
        place.kiln(other).ok();
        place.kiln("cat arm.art --stage asm").fails(1, &["aarch64"]);
    }
    place.kiln("compile double.kiln --dim n=64 -o portable.art --no-native").ok();
    place.kiln("cat portable.art --stage plan").fails(1, &["portable.art", "no native half"]);
    assert!(place.kiln("cat portable.art --stage kir").ok().stdout.contains("kernel @"));
}

#[test]
fn opt_shows_how_the_text_changed() {
    let place = Place::new();
    let text = "kiln 1
graph @g(%x: f32[4]) -> (%y: f32[4]) {
  %0 = neg %x : f32[4]
  %1 = neg %0 : f32[4]
  %2 = exp %1 : f32[4]
  %y = tanh %2 : f32[4]
}
";
    place.write("m.kiln", text);
    let shown = place.kiln("opt m.kiln --diff --until canonicalise").ok().stdout;
    assert!(shown.starts_with("--- before\n+++ after\n@@"), "{shown}");
    assert!(
        shown.contains(
            "\n-  %v0 = neg %x : f32[4]\n-  %v1 = neg %v0 : f32[4]\n-  %v2 = exp %v1 : f32[4]\n+  %v2 = exp %x"
        ),
        "{shown}"
    );
    assert!(shown.contains("\n   %y = tanh %v2 : f32[4]\n"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "no colours where stdout is no terminal: {shown:?}");
    assert_eq!(place.kiln("opt m.kiln --diff --no-opt").ok().stdout.trim_end(), "nothing changed");
    assert_eq!(place.kiln("opt m.kiln --diff --fuel 0 --until canonicalise").ok().stdout.trim_end(), "nothing changed");
    let json = place.kiln("opt m.kiln --diff --json").ok().json();
    assert!(json["diff"].as_str().is_some_and(|diff| diff.contains("fused_elementwise")), "{json}");
    place.kiln("opt m.kiln --diff -o changes.diff").ok();
    assert!(std::fs::read_to_string(place.path("changes.diff")).is_ok_and(|diff| diff.starts_with("--- before")));
    place.kiln("opt m.kiln --diff --locations").fails(2, &["--locations", "--diff"]);
    place.kiln("opt m.kiln --diff --report").fails(2, &["cannot be used with"]);
}

#[test]
fn explain_says_by_which_rules_in_which_order_each_node_came_about_and_what_that_bought() {
    let place = Place::with_digits();
    let explain =
        |more: &str| place.kiln(&format!("explain digits.kiln --weights digits.safetensors --dim batch=1 {more}"));
    let object = explain("--nodes --json").ok().json();
    let nodes = object["nodes"].as_array().expect("nodes");
    let conv = nodes.iter().find(|n| n["op"] == "fused_conv").expect("a convolution");
    let rules: Vec<&str> = conv["rules"].as_array().expect("rules").iter().filter_map(|r| r["rule"].as_str()).collect();
    let place_of =
        |rule: &str| rules.iter().position(|r| *r == rule).unwrap_or_else(|| panic!("{rule} is not in {rules:?}"));
    assert!(place_of("convolve_channels_last") < place_of("fuse_activation"), "{rules:?}");
    let firings: Vec<u64> =
        conv["rules"].as_array().expect("rules").iter().filter_map(|r| r["firing"].as_u64()).collect();
    assert!(
        firings.is_sorted() && firings.iter().all(|&n| n <= object["firings"].as_u64().unwrap_or(0)),
        "{firings:?}"
    );
    assert!(
        conv["sources"]
            .as_array()
            .is_some_and(|s| s.iter().any(|s| s.as_str().is_some_and(|s| s.contains("digits.kiln:")))),
        "{conv}"
    );
    // fusing spares traffic, not arithmetic
    assert!(conv["before"]["bytes"].as_u64() > conv["after"]["bytes"].as_u64(), "{conv}");
    assert!(object["before"]["estimated_us"].as_f64() > object["after"]["estimated_us"].as_f64(), "{object}");
    let name = conv["name"].as_str().expect("a name");
    let one = explain(&format!("--node {name}")).ok().stdout;
    assert!(
        one.contains(name) && one.contains("fuse_activation (fusion, firing ") && one.matches("by rules").count() == 1,
        "{one}"
    );
    assert_eq!(explain(&format!("--node {}", name.trim_start_matches('%'))).ok().stdout, one);
    explain("--node fire").fails(2, &["--node fire", "no node of that name"]);
    explain(&format!("--node {name}x")).fails(2, &["did you mean", name.trim_start_matches('%')]);
    // a node that was fused away: into which, and no other of a like name
    let text = "kiln 1
graph @fused(%x: f32[4, 4]) -> (y = %sum: f32[4, 4]) {
  %first = exp %x : f32[4, 4]
  %second = tanh %first : f32[4, 4]
  %sum = add %second, %x : f32[4, 4]
}
";
    place.write("fused.kiln", text);
    let fused = place.kiln("explain fused.kiln --node first").fails(2, &["--node first", "the model's went into %sum"]);
    assert!(!fused.stderr.contains("did you mean"), "{}", fused.stderr);
    explain("--nodes --step conv").fails(2, &["cannot be used with"]);
    place.kiln("compile digits.kiln --weights digits.safetensors --dim batch=1 -o digits.art").ok();
    place.kiln("explain digits.art --nodes").fails(2, &["digits.art", "compiled already"]);
}
