//! Artifacts across machines: one made for the best CPU, read on a lesser one, which is simulated.

use bytes::Bytes;
use kiln::compile::{ArtifactOptions, CompileOptions, Compiler, compile};
use kiln_codegen::native::{Features, Target};
use kiln_ir::Tensor;
use kiln_ir::interp::run as interpret;
use kiln_ir::text::parse;
use kiln_runtime::artifact::{Digests, NativeOptions, inspect, load_native};
use kiln_runtime::cpu::Host;
use kiln_runtime::{Executor, PoolHandle};
use kiln_tests::compare::check_close;

const GRAPH: &str = "kiln 1
graph @g(%x: f32[2, 40]) -> (%y) {
  %w = constant uniform(low=-0.6, high=0.6, seed=1) : f32[40, 24]
  %h = dot_general %x, %w {lhs_contract = [1], rhs_contract = [0]}
  %y = relu %h
}
";

fn artifact(targets: &[Target], halves: ArtifactOptions) -> Bytes {
    let graph = parse(GRAPH, "test").unwrap();
    let options = CompileOptions {
        target: Some(targets[0].clone()),
        more_targets: targets[1..].iter().map(|t| (t.clone(), Default::default())).collect(),
        ..CompileOptions::default()
    };
    compile(&graph, &options).unwrap().artifact(&halves).unwrap().to_bytes().unwrap()
}

fn level(features: Features) -> Target {
    Target::named(features.name()).unwrap()
}

/// Loads `file` as a machine without AVX-512, or without AVX2 either, would, compiling the portable half for x86-64-v2 if that is allowed.
fn load(file: &Bytes, lacks: &[&str], fallback: bool) -> Result<Vec<(String, Tensor)>, String> {
    let host = Host::here().without(lacks);
    let compiler = Compiler(CompileOptions { target: Some(level(Features::Baseline)), ..CompileOptions::default() });
    let options =
        NativeOptions { fallback: fallback.then_some(&compiler), host: Some(&host), ..NativeOptions::default() };
    // SAFETY: this test made the file.
    let executable = unsafe { load_native(file, options) }.map_err(|e| e.to_string())?;
    let mut executor = Executor::new(executable, PoolHandle::new(1)).map_err(|e| e.to_string())?;
    executor.run_named(&[("x", &x())]).map_err(|e| e.to_string())
}

fn x() -> Tensor {
    Tensor::from_slice(&[2, 40], &std::array::from_fn::<f32, 80, _>(|i| (i % 7) as f32 - 3.0)).unwrap()
}

const V4_ONLY: [&str; 5] = ["avx512f", "avx512dq", "avx512vl", "avx512bw", "avx512cd"];

#[test]
#[cfg(target_arch = "x86_64")]
fn an_artifact_for_x86_64_v4_is_refused_on_a_lesser_cpu_and_runs_there_where_falling_back_is_allowed() {
    let expected = interpret::<f32>(&parse(GRAPH, "test").unwrap(), &[("x", x())], None).unwrap();
    let right = |found: Vec<(String, Tensor)>| check_close(&expected, &found, &[1e-4]).unwrap();
    let file = artifact(&[level(Features::V4)], ArtifactOptions::default());
    let error = load(&file, &V4_ONLY, false).unwrap_err();
    for part in [
        "x86_64-unknown-linux",
        "CPU features: expected avx, avx2, avx512bw, ",
        "found that this CPU lacks avx512bw, avx512dq, avx512f, avx512vl",
        "compile it for this machine, or load its portable half",
    ] {
        assert!(error.contains(part), "expected `{part}` in {error}");
    }
    right(load(&file, &V4_ONLY, true).unwrap());

    let native_only = ArtifactOptions { portable: false, native: true };
    let file = artifact(&[level(Features::V4)], native_only);
    let error = load(&file, &V4_ONLY, true).unwrap_err();
    assert!(error.contains("lacks avx512bw"), "{error}");

    // Of two levels, the lesser CPU takes the one that it has.
    let file = artifact(&[level(Features::V4), level(Features::Baseline)], native_only);
    let none = ["avx", "avx2", "fma"];
    right(load(&file, &[&V4_ONLY[..], &none].concat(), false).unwrap());
}

#[test]
fn code_for_another_architecture_is_refused_by_its_name_and_can_be_looked_at() {
    let other = if cfg!(target_arch = "aarch64") { "x86_64-unknown-linux-gnu" } else { "aarch64-unknown-linux-gnu" };
    let file = artifact(&[Target::named(other).unwrap()], ArtifactOptions::default());
    let error = load(&file, &[], false).unwrap_err();
    for part in [other, "another architecture or system", "expected", "found", Host::here().triple(), "compile it"] {
        assert!(error.contains(part), "expected `{part}` in {error}");
    }
    let summary = inspect(&file, Digests::Check).unwrap();
    assert_eq!(summary.natives[0].triple, other);
    assert!(summary.natives[0].not_here.is_some());
}

#[test]
fn big_endian_and_32_bit_machines_are_no_targets_and_the_error_says_why() {
    for name in [
        "s390x-unknown-linux-gnu",
        "powerpc64-unknown-linux-gnu",
        "aarch64_be-unknown-linux-gnu",
        "i686-unknown-linux-gnu",
    ] {
        let error = Target::named(name).unwrap_err().to_string();
        assert!(error.contains("64-bit little-endian"), "{name}: {error}");
    }
}
