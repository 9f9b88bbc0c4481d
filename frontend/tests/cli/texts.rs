//! What the command says of command lines that are wrong: a snapshot for each group, to be read as a user would.
//!
//! Each text names the option or the file, says what was expected and what was found, and what to do where that does not follow.

use std::fmt::Write;
use std::fs;

use kiln_ir::{DType, Tensor};

use crate::harness::{DOUBLE, Place};

/// Files of every kind that commands read, right and wrong.
fn place() -> Place {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    for noise in ["noise", "noise.onnx", "noise.npz", "noise.npy", "noise.png", "noise.json", "noise.safetensors"] {
        place.write(noise, "noise");
    }
    fs::create_dir(place.path("folder")).expect("a directory");
    let zeros = |dtype, dims: &[usize]| Tensor::zeros(dtype, dims).expect("a tensor");
    kiln::files::npy::write(&place.path("x.npy"), &zeros(DType::F32, &[1, 3])).expect("an array written");
    kiln::files::npy::write(&place.path("wrong.npy"), &zeros(DType::F64, &[2, 2])).expect("an array written");
    place.write_npz("other.npz", &[("other", zeros(DType::F32, &[1, 3]))]);
    place.kiln("compile double.kiln --dim n=1 -o double.art").ok();
    place
}

/// What the command says of each line, after the line. All of them fail, and change no file.
fn said(lines: &[&str]) -> String {
    let place = place();
    let before = place.names();
    let mut all = String::new();
    for line in lines {
        let run = place.kiln(line);
        assert!(matches!(run.code, Some(1 | 2)) && run.stdout.is_empty(), "{line}: {run:?}");
        // how it is written rightly and where help is: the same for every line
        let what = run.stderr.split("\n\nUsage:").next().and_then(|t| t.split("\n\nFor more information").next());
        writeln!(all, "$ kiln {line} ({})\n{}\n", run.code.unwrap_or(-1), what.unwrap_or_default().trim_end())
            .expect("a string");
    }
    assert_eq!(place.names(), before);
    all
}

#[test]
fn options_that_are_unknown_or_missing() {
    insta::assert_snapshot!(said(&[
        "fire double.kiln",
        "--loud",
        "compile",
        "compile double.kiln",
        "compile double.kiln -o x --loud",
        "run",
        "run double.kiln --input",
        "run double.kiln --inptus x.npz",
        "bench double.kiln --rnus 3",
        "tune double.kiln",
        "demo x",
        "import",
        "explain double.kiln --steps x",
        "inspect double.kiln --loud",
        "cat double.kiln --stag plan",
        "verify",
        "opt double.kiln --disabel layout",
        "bisect double.kiln --command true",
        "reduce double.kiln",
        "interp double.kiln --f32",
    ]));
}

#[test]
fn extents() {
    insta::assert_snapshot!(said(&[
        "inspect double.kiln --dim n",
        "inspect double.kiln --dim n=x",
        "inspect double.kiln --dim n=-1",
        "inspect double.kiln --dim n=99999999999999999999999",
        "inspect double.kiln --dim =1",
        "inspect double.kiln --dim m=1",
        "inspect double.kiln --dim n=1 --dim n=2",
        "inspect double.kiln --shape x",
        "inspect double.kiln --shape =1x3",
        "inspect double.kiln --shape x=1xa",
        "inspect double.kiln --shape y=1x3",
        "inspect double.kiln --shape x=3",
        "inspect double.kiln --shape x=2x4",
        "inspect double.kiln --shape x=2x3 --dim n=3",
        "inspect double.art --dim n=2",
        "compile double.kiln -o x",
        "run double.kiln",
        "opt double.kiln",
        "explain double.kiln",
    ]));
}

#[test]
fn models_that_are_missing_or_none() {
    insta::assert_snapshot!(said(&[
        "compile missing.kiln -o x",
        "run missing.onnx",
        "bench folder",
        "tune noise -o x.json",
        "import noise.onnx",
        "explain missing",
        "inspect folder",
        "cat noise.npz",
        "verify missing",
        "opt folder",
        "bisect noise",
        "reduce missing -o x",
        "interp noise.onnx",
        "run double.kiln --weights missing.npz",
        "run double.kiln --weights noise.npz",
        "run double.kiln --weights noise.safetensors",
        "run double.kiln --weights folder",
        "run double.kiln --weights other.npz",
        "run noise.onnx --weights other.npz",
        "run double.art --weights other.npz",
    ]));
}

#[test]
fn files_that_cannot_be_written() {
    insta::assert_snapshot!(said(&[
        "compile double.kiln --dim n=1 -o folder",
        "compile double.kiln --dim n=1 -o no/such/x",
        "compile double.kiln --dim n=1 --emit obj -o folder",
        "compile double.kiln --dim n=1 --emit obj -o no/such/x",
        "compile double.kiln --dim n=1 --emit obj -o x --weights-file folder",
        "compile double.kiln --dim n=1 --emit obj -o x --weights-file x.o",
        "run double.kiln --dim n=1 --input x.npy --outputs folder",
        "run double.kiln --dim n=1 --input x.npy --outputs no/such/y.npz",
        "tune double.kiln --dim n=1 -o folder",
        "tune double.kiln --dim n=1 -o no/such/t.json",
        "tune double.kiln --dim n=1 -o noise.json",
        "import double.kiln -o folder",
        "import double.kiln --save-weights no/such/w",
        "cat double.kiln -o folder",
        "opt double.kiln --dim n=1 -o no/such/x",
        "opt double.kiln --dim n=1 --save-weights folder",
        "reduce double.kiln --dim n=1 -o folder",
        "interp double.kiln --dim n=1 --input x.npy --outputs folder",
    ]));
}

#[test]
fn inputs() {
    insta::assert_snapshot!(said(&[
        "run double.kiln --dim n=1",
        "run double.kiln --dim n=1 --interpret",
        "interp double.kiln --dim n=1",
        "run double.art",
        "run double.kiln --dim n=1 --inputs missing.npz",
        "run double.kiln --dim n=1 --inputs noise.npz",
        "run double.kiln --dim n=1 --inputs folder",
        "run double.kiln --dim n=1 --inputs x.npy",
        "run double.kiln --dim n=1 --inputs other.npz",
        "run double.kiln --dim n=1 --input missing.npy",
        "run double.kiln --dim n=1 --input noise.npy",
        "run double.kiln --dim n=1 --input noise.png",
        "run double.kiln --dim n=1 --input noise",
        "run double.kiln --dim n=1 --input other.npz",
        "run double.kiln --dim n=1 --input =x.npy",
        "run double.kiln --dim n=1 --input x=",
        "run double.kiln --dim n=1 --input wrong.npy",
        "run double.kiln --dim n=1 --input z=x.npy",
        "run double.kiln --dim n=1 --input x.npy --input x=x.npy",
        "bench double.kiln --dim n=1 --input wrong.npy",
        "bench double.kiln --dim n=1 --input z=x.npy",
        "bisect double.kiln --dim n=1 --inputs noise.npz",
        "bisect double.kiln --dim n=1 --input wrong.npy",
        "reduce double.kiln --dim n=1 -o r.kiln --input wrong.npy",
        "reduce double.kiln --dim n=1 -o r.kiln --input z=x.npy",
        "interp double.kiln --dim n=1 --input wrong.npy",
    ]));
}

#[test]
fn images() {
    insta::assert_snapshot!(said(&[
        "run double.kiln --dim n=1 --input noise.png --preset sepia",
        "run double.kiln --dim n=1 --input noise.png --preprocess missing.json",
        "run double.kiln --dim n=1 --input noise.png --preprocess noise.json",
        "run double.kiln --dim n=1 --input noise.png --resize 0",
        "run double.kiln --dim n=1 --input noise.png --crop 4x",
        "run double.kiln --dim n=1 --input noise.png --filter sharp",
        "run double.kiln --dim n=1 --input noise.png --channels cmyk",
        "run double.kiln --dim n=1 --input noise.png --layout nhc",
        "run double.kiln --dim n=1 --input noise.png --scale nan",
        "run double.kiln --dim n=1 --input noise.png --scale a",
        "run double.kiln --dim n=1 --input noise.png --mean 1,2",
        "run double.kiln --dim n=1 --input noise.png --std 0",
        "run double.kiln --dim n=1 --mean 1",
    ]));
}

#[test]
fn numbers() {
    insta::assert_snapshot!(said(&[
        "run double.kiln --threads 0",
        "run double.kiln --threads two",
        "run double.kiln --threads -1",
        "run double.kiln --threads 65535",
        "run double.kiln --top-k 0",
        "run double.kiln --top-k -1",
        "run double.kiln --fuel many",
        "run double.kiln --fuel -1",
        "run double.kiln --fuel 99999999999999999999999",
        "bench double.kiln --runs 0",
        "bench double.kiln --warmup -1",
        "bench double.kiln --seed x",
        "tune double.kiln -o t.json --budget 0",
        "tune double.kiln -o t.json --threads 1,0",
        "compile double.kiln -o x --tuning noise.json --tuning-threads 0",
        "demo --digit 10",
        "demo --digit x",
        "import double.kiln --elements -1",
        "bisect double.kiln --tolerance -1",
        "bisect double.kiln --tolerance x",
    ]));
}

#[test]
fn names_of_things_that_are_not_there() {
    insta::assert_snapshot!(said(&[
        "compile double.kiln -o x --target pdp11",
        "compile double.kiln -o x --target x86-64-v2,x86-64-v2",
        "compile double.kiln -o x --target x86-64-v2 --backend wide",
        "compile double.kiln -o x --backend jit",
        "compile double.kiln -o x --emit exe",
        "compile double.kiln -o x --tuning missing.json",
        "compile double.kiln -o x --tuning noise.json",
        "compile double.kiln -o x --tuning folder",
        "run double.kiln --disable fuse_bais",
        "bench double.kiln --until melt",
        "opt double.kiln --until canonicalize",
        "explain double.kiln --dim n=1 --step fry",
        "explain double.kiln --dim n=1 --node fry",
        "cat double.kiln --stage fried",
        "cat double.kiln --format png",
        "cat double.kiln --dim n=1 --stage asm --target x86-64-v2 --kernel fry",
        "verify double.kiln --stage fried",
        "run double.kiln --dim n=1 --input x.npy --top-k 2 --scores z",
        "run double.kiln --dim n=1 --input x.npy --top-k 2 --labels missing.txt",
        "compile double.kiln --emit obj,header -o x --name 1a",
        "compile double.kiln --emit obj,header -o x --name a__b --no-portable",
    ]));
}

#[test]
fn options_that_do_not_go_together() {
    insta::assert_snapshot!(said(&[
        "compile double.kiln -o x --no-portable --no-native",
        "compile double.kiln -o x --no-opt --until fusion",
        "compile double.kiln -o x --emit obj,artifact",
        "compile double.kiln -o x --name a --weights-file w",
        "compile double.kiln -o x --emit obj --no-native",
        "compile double.kiln -o x --emit obj --target x86-64-v2,x86-64-v3",
        "compile double.kiln -o x --tuning-threads 4",
        "run double.kiln --interpret --threads 2",
        "run double.kiln --labels l",
        "run double.kiln --verify-weights",
        "run double.art --disable layout",
        "run double.art --tuning noise.json",
        "tune double.kiln -o t.json --tuning noise.json",
        "demo --all --digit 1",
        "explain double.kiln --nodes --step x",
        "explain double.kiln --recompile",
        "explain double.art --disable layout",
        "inspect double.kiln --digests",
        "cat double.kiln --kernel x",
        "cat double.kiln --target host",
        "cat double.kiln --stage asm --format dot",
        "reduce double.kiln -o x --command true --threads 2",
    ]));
}
