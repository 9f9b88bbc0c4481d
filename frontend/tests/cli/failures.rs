//! Work that fails: exit code 1, and what went wrong in the first line of stderr.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use kiln_ir::{DType, Tensor};

use crate::harness::{DOUBLE, Place};

#[test]
fn files_that_are_missing_or_no_models_are_named() {
    let place = Place::new();
    place.kiln("inspect missing.onnx").fails(1, &["missing.onnx"]);
    place.write("noise.kiln", [7u8; 100]);
    place.kiln("run noise.kiln").fails(1, &["noise.kiln", "no model"]);
    place.write("empty", "");
    place.kiln("verify empty").fails(1, &["empty"]);
    place.write("broken.onnx", [0xff; 100]);
    place.kiln("compile broken.onnx -o x.kiln").fails(1, &["broken.onnx"]);
    fs::create_dir(place.path("folder")).expect("a directory");
    place.kiln("inspect folder").fails(1, &["folder"]);
}

#[test]
fn graph_text_is_wrong_at_a_place_with_an_excerpt() {
    let place = Place::new();
    place.write("bad.kiln", DOUBLE.replace("add %x, %x", "add %x, %z"));
    let run = place.kiln("verify bad.kiln").fails(1, &["bad.kiln:3:16", "%z"]);
    assert!(run.stderr.contains("%y = add %x, %z") && run.stderr.contains("^^"), "{}", run.stderr);
}

#[test]
fn extents_without_a_value_are_listed_with_the_option_that_binds_them() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    for command in ["compile double.kiln -o x.kiln", "interp double.kiln", "opt double.kiln"] {
        place.kiln(command).fails(1, &["n"]);
    }
    place.kiln("opt double.kiln").fails(1, &["--dim n=4"]);
}

#[test]
fn every_wrong_feed_is_reported_at_once() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    let wrong = Tensor::zeros(DType::F64, &[2, 2]).expect("a tensor");
    place.write_npz("wrong.npz", &[("x", wrong.clone()), ("z", wrong)]);
    for how in ["", "--interpret"] {
        let run = place.kiln(&format!("run double.kiln --dim n=2 --inputs wrong.npz {how}")).fails(1, &[]);
        assert!(run.stderr.contains("`x`") && run.stderr.contains("`z`"), "{}", run.stderr);
        place.kiln(&format!("run double.kiln --dim n=2 {how}")).fails(1, &["`x`"]);
    }
    place.kiln("run double.kiln --dim n=2 --inputs missing.npz").fails(1, &["missing.npz"]);
    place.write("text.npz", "no archive");
    place.kiln("run double.kiln --dim n=2 --inputs text.npz").fails(1, &["text.npz"]);
}

#[test]
fn extents_that_memory_does_not_hold_are_reported_by_every_way_of_running() {
    let place = Place::new();
    // 2^52 bytes: more than any address space has. Constant, so that no feed is needed.
    let text = "kiln 1
graph @huge() -> (y = %y: f32[n]) {
  %0 = constant dense<1.0> : f32[]
  %y = broadcast %0 {axes = []} : f32[n]
}
";
    place.write("huge.kiln", text);
    let dim = format!("huge.kiln --dim n={}", 1usize << 50);
    for command in ["run", "bench", "run --no-opt"] {
        place
            .kiln(&format!("{command} {dim}"))
            .fails(1, &["4503599627370496 bytes", "output `y` f32[1125899906842624]"]);
    }
    place.kiln(&format!("run {dim} --interpret")).fails(1, &["f32[1125899906842624]", "memory"]);
    place.write("double.kiln", DOUBLE);
    let fed = format!("bench double.kiln --dim n={}", 1usize << 50);
    place.kiln(&fed).fails(1, &["bytes", "f32[1125899906842624, 3]"]);
    let variable = "kiln 1
graph @v() -> (y = %y) {
  variable \"v\": f32[1125899906842624] = uniform(low=0, high=1, seed=1)
  %y = read_var {variable = \"v\"} : f32[1125899906842624]
}
";
    place.write("variable.kiln", variable);
    for command in ["run", "run --interpret", "run --no-opt", "bench", "compile -o v.art"] {
        place.kiln(&format!("{command} variable.kiln")).fails(1, &["bytes", "f32[1125899906842624]"]);
    }
}

#[test]
fn json_failures_are_one_object_on_stdout_and_a_line_on_stderr() {
    let place = Place::new();
    let run = place.kiln("--json inspect missing.onnx").fails(1, &["missing.onnx"]);
    assert!(run.json()["error"].as_str().is_some_and(|e| e.contains("missing.onnx")), "{run:?}");
}

#[test]
fn damaged_artifacts_are_refused_by_every_command() {
    let place = Place::with_digits();
    place.kiln("compile digits.kiln --weights digits.safetensors --dim batch=1 -o digits.art").ok();
    let whole = fs::read(place.path("digits.art")).expect("the artifact");
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    place.write("flipped.art", &flipped);
    place.write("short.art", &whole[..whole.len() - 64]);
    place.kiln("verify flipped.art").fails(1, &["flipped.art"]);
    place.kiln("verify short.art").fails(1, &[]);
    place.kiln("run short.art --portable --inputs digit.npz").fails(1, &[]);
    for command in ["inspect", "cat", "bench", "interp", "run"] {
        place.kiln(&format!("{command} short.art")).fails(1, &[]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_error_that_nobody_can_read_is_no_crash() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    for (arguments, code) in [("opt missing.kiln", 1), ("opt double.kiln --dim n=1 --until melt", 2), ("fire", 2)] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
        command.args(arguments.split_whitespace()).current_dir(place.path("")).stderr(Stdio::from(full));
        let output = command.stdout(Stdio::piped()).spawn().and_then(|c| c.wait_with_output());
        assert_eq!(output.expect("the command runs").status.code(), Some(code), "{arguments}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_reported() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    let full = || Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full"));
    for json in ["", "--json"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
        let arguments = format!("cat double.kiln {json}");
        let child = command.args(arguments.split_whitespace()).current_dir(place.path("")).stdout(full());
        let output = child.stderr(Stdio::piped()).spawn().and_then(|c| c.wait_with_output()).expect("the command runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.starts_with("error: cannot write to standard output: "), "{stderr}");
    }
}

#[test]
fn outputs_that_cannot_be_written_leave_nothing_behind() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    fs::create_dir(place.path("folder")).expect("a directory");
    // found out before anything is compiled, so that it is wrong usage
    place.kiln("compile double.kiln -o no/such/folder/x.kiln").fails(2, &["no/such/folder"]);
    place.kiln("opt double.kiln -o no/such/x.kiln").fails(2, &["no/such"]);
    place.kiln("compile double.kiln -o folder").fails(2, &["folder"]);
    assert_eq!(place.names(), ["double.kiln", "folder"]);
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command.args(["inspect", "-"]).current_dir(place.path(""));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(DOUBLE.as_bytes()).expect("text taken");
    drop(stdin);
    let output = child.wait_with_output().expect("the command ends");
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

#[test]
fn an_artifact_for_another_machine_says_which_one() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    let other = if cfg!(target_arch = "x86_64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };
    place.kiln(&format!("compile double.kiln --dim n=4 --no-portable --target {other} -o other.art")).ok();
    for command in ["run", "bench"] {
        let run =
            place.kiln(&format!("{command} other.art")).fails(1, &["other.art", "no native code for this machine"]);
        assert!(run.stderr.contains(other), "{run:?}");
    }
}
