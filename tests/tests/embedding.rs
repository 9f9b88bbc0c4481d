//! Graphs in C programs without Kiln, on this machine: they give what the interpreter gives, and the bits that Kiln gives.

use std::fs;
use std::path::Path;
use std::process::Command;

use kiln::compile::{CompileOptions, compile};
use kiln_codegen::embed::WeightPlace;
use kiln_codegen::native::Target;
use kiln_ir::interp::{State, run as interpret};
use kiln_ir::text::parse;
use kiln_ir::{Graph, Tensor};
use kiln_passes::Options;
use kiln_runtime::{Executor, PoolHandle};
use kiln_tests::compare::check_close;
use kiln_tests::embed::{Machine, build_any, emit, exists, run, run_filetests, source};
use kiln_tests::target;

const STRICT: [&str; 5] = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-O1"];

/// This machine's C compiler; `None`, with a message, where there is none.
fn machine() -> Option<Machine> {
    Machine::here().installed()
}

fn host() -> Target {
    target::chosen().unwrap_or_else(|| Target::host().unwrap())
}

fn graph(text: &str) -> Graph {
    parse(text, "test").unwrap()
}

/// Two dense layers: weights that are packed.
const MLP: &str = "kiln 1
graph @mlp(%x: f32[1, 8]) -> (%y: f32[1, 4]) {
  %w = constant uniform(low=-0.6, high=0.6, seed=1) : f32[8, 16]
  %v = constant uniform(low=-0.6, high=0.6, seed=2) : f32[16, 4]
  %h = dot_general %x, %w {lhs_contract = [1], rhs_contract = [0]}
  %r = relu %h
  %y = dot_general %r, %v {lhs_contract = [1], rhs_contract = [0]}
}
";

/// One step of stochastic gradient descent for a linear model, written out, and a counter.
const TRAINING: &str = r#"kiln 1
graph @train(%x: f32[16, 3], %t: f32[16, 1]) -> (%loss: f32[], %seen: i64[]) {
  variable "w": f32[3, 1] = fill(0.5)
  variable "steps": i64[] = fill(0)
  %w = read_var {variable = "w"} : f32[3, 1]
  %p = dot_general %x, %w {lhs_contract = [1], rhs_contract = [0]}
  %e = sub %p, %t
  %s = mul %e, %e
  %loss = reduce %s {axes = [0, 1], reducer = sum}
  %g = dot_general %x, %e {lhs_contract = [0], rhs_contract = [0]}
  %rate = constant dense<0.01> : f32[]
  %rates = broadcast %rate {axes = []} : f32[3, 1]
  %d = mul %g, %rates
  %next = sub %w, %d
  assign %next {variable = "w"}
  %n = read_var {variable = "steps"} : i64[]
  %one = constant dense<1> : i64[]
  %seen = add %n, %one
  assign %seen {variable = "steps"}
}
"#;

fn normal(dims: &[usize], seed: u64) -> Tensor {
    let normal = kiln_ir::Initializer::Normal { mean: 0.0.into(), std: 1.0.into(), seed };
    normal.materialize(kiln_ir::DType::F32, dims).unwrap()
}

/// The results of Kiln's own executor, run after run.
fn executed(graph: &Graph, inputs: &[(String, Tensor)], runs: usize) -> Vec<Vec<(String, Tensor)>> {
    let options = CompileOptions { target: Some(host()), threads: Some(1), ..CompileOptions::default() };
    let executable = compile(graph, &options).unwrap().executable().unwrap();
    let mut executor = Executor::new(executable, PoolHandle::new(1)).unwrap();
    let feeds: Vec<_> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    (0..runs).map(|_| executor.run_named(&feeds).unwrap()).collect()
}

#[test]
fn every_graph_of_the_run_filetests_gives_the_right_results_and_the_executors_bits() {
    let Some(machine) = machine() else { return };
    let places = [WeightPlace::Object, WeightPlace::File];
    let problems = run_filetests(&machine, &host(), places, |graph, case, found| {
        let exact = executed(graph, &case.feeds, 1).remove(0);
        check_close(&exact, found, &vec![0.0; exact.len()])
    });
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn variables_are_kept_from_run_to_run_and_can_be_read_where_the_header_says() {
    let Some(machine) = machine() else { return };
    let folder = tempfile::tempdir().unwrap();
    build_any(&machine, folder.path()).unwrap();
    let graph = graph(TRAINING);
    let inputs = vec![("x".to_owned(), normal(&[16, 3], 1)), ("t".to_owned(), normal(&[16, 1], 2))];
    let feeds: Vec<_> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    for passes in [Options::default(), Options::none()] {
        let how = (&passes, WeightPlace::Object);
        let (outputs, variables) = run(&graph, &inputs, 5, &host(), how, &machine, folder.path()).unwrap();
        let mut state = State::new();
        for found in &outputs {
            let expected = interpret::<f32>(&graph, &feeds, Some(&mut state)).unwrap();
            check_close(&expected, found, &[1e-5, 0.0]).unwrap();
        }
        assert_eq!(variables.len(), 2);
        for found in variables {
            let expected = (found.0.clone(), state.get(&found.0).unwrap().clone());
            check_close(&[expected], &[found], &[1e-5]).unwrap();
        }
    }
}

#[test]
fn two_models_share_a_program_and_every_mistake_of_a_caller_has_its_status() {
    let Some(machine) = machine() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let graph = graph(MLP);
    emit(&graph, &host(), &Options::default(), WeightPlace::Object, "one", folder.path()).unwrap();
    emit(&graph, &host(), &Options::default(), WeightPlace::File, "two", folder.path()).unwrap();
    let files = [at("one.o"), at("two.o"), source("two.c"), "-o".into(), at("program")];
    let include = format!("-I{}", folder.path().display());
    // `-z execstack` and text relocations would pass silently without these
    let linked = ["-std=c99", "-pie", "-fPIE", "-Wl,--fatal-warnings", "-Wl,-z,text", &include];
    machine.cc(STRICT.into_iter().chain(linked).map(Into::into).chain(files)).unwrap();
    let x = Tensor::from_slice(&[1, 8], &std::array::from_fn::<f32, 8, _>(|i| i as f32 - 2.0)).unwrap();
    let y = executed(&graph, &[("x".to_owned(), x)], 1).remove(0).remove(0).1.to_vec::<f32>().unwrap();
    let found = machine.run(&at("program"), [at("two.weights")]).unwrap();
    let mut lines = found.lines();
    for message in [
        "input `x` is null",
        "input `x` is not aligned to 4 bytes",
        "output `y` is null",
        "output `y` is not aligned to 4 bytes",
    ] {
        assert_eq!(lines.next(), Some(message));
    }
    for value in y {
        let (one, two) = lines.next().unwrap().split_once(' ').unwrap();
        assert_eq!(one, two);
        let printed: f32 = one.parse().unwrap();
        assert!((printed - value).abs() <= 1e-5 * value.abs(), "{printed} {value}: %g prints six digits");
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn the_object_needs_no_symbol_exports_two_and_links_into_a_shared_library() {
    let Some(machine) = machine() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    emit(&graph(TRAINING), &host(), &Options::default(), WeightPlace::Object, "net", folder.path()).unwrap();
    let shared = ["-shared", "-nostdlib", "-Wl,--no-undefined", "-Wl,--fatal-warnings", "-Wl,-z,text", "-o"];
    machine.cc(shared.map(Into::into).into_iter().chain([at("net.so"), at("net.o")])).unwrap();
    if !exists("nm") || !exists("readelf") {
        println!("skipped: binutils are not installed");
        return;
    }
    let tool = |tool: &str, option: &str, file: &str| {
        let out = Command::new(tool)
            .args([option, "--wide", file].into_iter().filter(|a| tool != "nm" || *a != "--wide"))
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(out.status.success());
        String::from_utf8(out.stdout).unwrap()
    };
    let symbols = tool("nm", "--extern-only", "net.o");
    let mut external: Vec<&str> = symbols.lines().map(|line| line.trim().split_once(' ').unwrap().1).collect();
    external.sort_unstable();
    assert_eq!(external, ["T net_init", "T net_run"]);
    let sections = tool("readelf", "--sections", "net.o");
    assert!(sections.contains(".note.GNU-stack") && sections.contains(".rodata.net_weights"), "{sections}");
    let segments = tool("readelf", "--segments", "net.so");
    let stack = segments.lines().find(|line| line.contains("GNU_STACK")).unwrap();
    assert!(stack.contains("RW ") && !stack.contains("RWE"), "{stack}");
    assert!(!segments.lines().any(|line| line.contains("RWE")), "{segments}");
}

/// A graph whose names are chosen to break a header.
const NAMES: &str = r#"kiln 1
graph @g(%"*/ int": f32[2], %"class": bool[3], %"Class": f16[2], %"\"??/": i8[1], %"7": bf16[1]) -> ("int" = %v0, "a*/b" = %v1, "no/*such" = %v2, "8" = %v3, "ü" = %v4) {
  %v0 = neg %"*/ int"
  %v1 = not %"class"
  %v2 = neg %"Class"
  %v3 = neg %"\"??/"
  %v4 = neg %"7"
}
"#;

#[test]
fn headers_are_c99_and_c_plus_plus_without_a_warning_whatever_names_a_model_has() {
    let Some(machine) = machine() else { return };
    let folder = tempfile::tempdir().unwrap();
    let names = parse(NAMES, "test").unwrap();
    let nothing = graph("kiln 1\ngraph @g() -> (%y) {\n  %y = constant dense<[1.0, 2.0]> : f32[2]\n}\n");
    for (i, graph) in [names, nothing, graph(TRAINING), graph(MLP)].iter().enumerate() {
        let place = if i == 3 { WeightPlace::File } else { WeightPlace::Object };
        emit(graph, &host(), &Options::default(), place, "net", folder.path()).unwrap();
        let include = "#include \"net.h\"\n#include \"net.h\"\nint main(void) { return net_message(0) == 0; }\n";
        for (language, standards) in [("c", &["c99", "c11", "c17"][..]), ("c++", &["c++98", "c++11", "c++20"])] {
            if language == "c++" && !exists("c++") {
                continue;
            }
            let file = folder.path().join(if language == "c" { "main.c" } else { "main.cc" });
            fs::write(&file, include).unwrap();
            for standard in standards {
                // long long is no part of C++98; every compiler has it, and `stdint.h` wants it
                let standard = [format!("-std={standard}"), "-Wno-long-long".to_owned()];
                let rest = ["-fsyntax-only".into(), format!("-x{language}"), file.display().to_string()];
                let options = STRICT.into_iter().map(str::to_owned).chain(standard).chain(rest);
                machine.cc(options).unwrap_or_else(|e| panic!("{e}\n{}", read(folder.path(), "net.h")));
            }
        }
    }
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn the_header_says_all_that_a_caller_has_to_know() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::named("aarch64-unknown-linux-gnu").unwrap();
    emit(&graph(TRAINING), &target, &Options::default(), WeightPlace::File, "step", folder.path()).unwrap();
    insta::assert_snapshot!(read(folder.path(), "step.h"));
}

#[test]
fn the_same_graph_gives_the_same_files() {
    let emitted = || {
        let folder = tempfile::tempdir().unwrap();
        emit(&graph(MLP), &host(), &Options::default(), WeightPlace::File, "net", folder.path()).unwrap();
        ["net.o", "net.h", "net.weights"].map(|name| fs::read(folder.path().join(name)).unwrap())
    };
    assert_eq!(emitted(), emitted());
}

#[test]
fn truth_values_other_than_0_and_1_are_refused() {
    let Some(machine) = machine() else { return };
    let folder = tempfile::tempdir().unwrap();
    let not = graph("kiln 1\ngraph @g(%x: bool[13]) -> (%y) {\n  %y = not %x\n}\n");
    emit(&not, &host(), &Options::default(), WeightPlace::Object, "net", folder.path()).unwrap();
    let main = r#"#include <stdio.h>
#include "net.h"
int main(void)
{
    static union { double align; char bytes[NET_ARENA_BYTES + 64]; } memory;
    char *arena = memory.bytes + (64 - (size_t)memory.bytes % 64) % 64;
    uint8_t x[13] = { 0 }, y[13];
    struct net_inputs in;
    struct net_outputs out;
    int i, status = net_init(arena);
    in.x = x;
    out.y = y;
    for (i = 0; !status && i < 13; i++) {
        x[i] = 1;
        status = net_run(arena, &in, &out);
        if (y[i] != 0 || (i < 12 && y[i + 1] != 1))
            return 1;
        x[i] = (uint8_t)(2 << i % 7);
        if (net_run(arena, &in, &out) != NET_ERROR_INPUT_TRUTH + 0)
            return 2;
        x[i] = 1;
    }
    puts(net_message(NET_ERROR_INPUT_TRUTH + 0));
    return status;
}
"#;
    fs::write(folder.path().join("main.c"), main).unwrap();
    let at = |name: &str| folder.path().join(name);
    machine.cc(["-std=c99".into(), at("main.c"), at("net.o"), "-o".into(), at("program")]).unwrap();
    let printed = machine.run(&at("program"), [""; 0]).unwrap();
    assert_eq!(printed, "input `x` has bytes other than 0 and 1\n");
}

#[test]
fn a_cpu_without_the_features_is_refused_by_init_and_one_with_them_runs_the_code() {
    // 128-bit vectors of SSE4.2; 256-bit ones of AVX2, which QEMU emulates from 7.2 on; AVX-512, which it does not
    let old = Machine::x86_64("Nehalem");
    let new = Machine::x86_64("Haswell");
    if let Some(tool) =
        old.missing().or((!cfg!(all(target_arch = "x86_64", target_os = "linux"))).then_some("an x86-64 Linux"))
    {
        println!("skipped: `{tool}` is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let graph = graph(MLP);
    let inputs = vec![("x".to_owned(), normal(&[1, 8], 3))];
    let feeds: Vec<_> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    let expected = interpret::<f32>(&graph, &feeds, None).unwrap();
    build_any(&old, folder.path()).unwrap();
    for (machine, name, runs) in
        [(&old, "x86-64-v2", true), (&old, "x86-64-v3", false), (&new, "x86-64-v3", true), (&new, "x86-64-v4", false)]
    {
        let target = Target::named(name).unwrap();
        let how = (&Options::default(), WeightPlace::Object);
        let result = run(&graph, &inputs, 1, &target, how, machine, folder.path());
        match result {
            Ok((outputs, _)) => {
                assert!(runs, "{name} on {machine:?}");
                check_close(&expected, &outputs[0], &[1e-5]).unwrap();
            }
            Err(e) => assert!(!runs && e.contains("init: 1"), "{name} on {machine:?}: {e}"),
        }
    }
}
