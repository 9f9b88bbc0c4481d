//! Compiling and running: compile, run, bench, interp, demo.

#[cfg(target_arch = "x86_64")]
use kiln_codegen::native::{Features, Target};
use kiln_ir::Tensor;

use crate::harness::{DOUBLE, Place, floats};

const DIGITS: &str = "digits.kiln --weights digits.safetensors --dim batch=1";

/// The scores that a run writes.
fn scores(place: &Place, arguments: &str) -> Vec<f32> {
    place.kiln(&format!("{arguments} --inputs digit.npz --outputs out.npz")).ok();
    floats(&place.read_npz("out.npz")["scores"])
}

fn close(a: &[f32], b: &[f32]) -> bool {
    // Sums of 3,136 products in another order: 1e-5 is far above their rounding and far below a wrong score.
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
}

#[test]
fn the_network_gives_the_same_by_every_way_of_running_it() {
    let place = Place::with_digits();
    let expected = scores(&place, &format!("run {DIGITS} --interpret"));
    assert_eq!(expected.len(), 10);
    place.kiln(&format!("compile {DIGITS} -o both.art")).ok();
    place.kiln(&format!("compile {DIGITS} -o portable.art --no-native")).ok();
    place.kiln(&format!("compile {DIGITS} -o native.art --no-portable")).ok();
    for arguments in [
        &format!("interp {DIGITS}") as &str,
        &format!("run {DIGITS}"),
        &format!("run {DIGITS} --no-opt --threads 1"),
        "run both.art",
        "run both.art --portable",
        "run both.art --interpret",
        "run portable.art",
        "run native.art --threads 2",
    ] {
        let found = scores(&place, arguments);
        assert!(close(&found, &expected), "{arguments}: {found:?}, expected {expected:?}");
    }
    place.kiln("run native.art --portable --inputs digit.npz").fails(1, &["portable half"]);
    place.kiln("run native.art --interpret --inputs digit.npz").fails(1, &["portable half"]);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn native_code_for_older_cpus_runs_here() {
    let place = Place::with_digits();
    let expected = scores(&place, &format!("run {DIGITS} --interpret"));
    let host = Target::host().expect("this machine is supported");
    let levels = Features::ALL.into_iter().filter(|&level| level <= host.features());
    for level in levels.map(Features::name) {
        // without a portable half there is nothing else to run
        place.kiln(&format!("compile {DIGITS} -o {level}.art --target {level} --no-portable")).ok();
        let found = scores(&place, &format!("run {level}.art"));
        assert!(close(&found, &expected), "{level}: {found:?}, expected {expected:?}");
    }
}

#[test]
fn the_same_model_gives_the_same_artifact() {
    let place = Place::with_digits();
    for name in ["1.art", "2.art"] {
        place.kiln(&format!("compile {DIGITS} -o {name}")).ok();
    }
    let read = |name: &str| std::fs::read(place.path(name)).expect("an artifact");
    assert!(read("1.art") == read("2.art"));
}

#[test]
fn compile_reports_what_it_made_and_inspect_agrees() {
    let place = Place::with_digits();
    let made = place.kiln(&format!("compile {DIGITS} -o digits.art --json")).ok().json();
    let found = place.kiln("inspect digits.art --digests --json").ok().json();
    assert_eq!(made["artifact_bytes"], found["total_bytes"]);
    assert_eq!(made["arena_bytes"], found["natives"][0]["arena_bytes"]);
    assert_eq!(made["kernels"], found["natives"][0]["kernels"].as_array().map_or(0, Vec::len));
    assert_eq!(found["verified"], true);
    assert_eq!(found["signature"]["inputs"][0]["name"], "image");
    place.kiln("verify digits.art").ok();
    let shown = place.kiln("inspect digits.art").ok().stdout;
    assert!(shown.contains("image: f32[1, 1, 28, 28]") && shown.contains("blake3"), "{shown}");
    place.kiln("cat digits.art").ok();
    place.kiln("inspect digits.art --dim batch=2").fails(2, &["--dim", "compile the model again"]);
}

#[test]
fn bench_reports_every_figure_of_its_contract() {
    let place = Place::with_digits();
    place.kiln(&format!("compile {DIGITS} -o digits.art")).ok();
    for model in [DIGITS, "digits.art"] {
        let object = place.kiln(&format!("bench {model} --warmup 1 --runs 3 --threads 1 --profile --json")).ok().json();
        for figure in ["median_ms", "min_ms", "p90_ms", "load_ms", "compile_ms", "arena_bytes", "peak_rss_bytes"] {
            assert!(object[figure].is_number(), "{figure} in {object}");
        }
        assert!(object["min_ms"].as_f64() <= object["median_ms"].as_f64(), "{object}");
        assert!(object["median_ms"].as_f64() <= object["p90_ms"].as_f64(), "{object}");
        assert_eq!((&object["runs"], &object["threads"]), (&3.into(), &1.into()));
        let rows = object["profile"].as_array().expect("a row for each step");
        let shares: f64 = rows.iter().filter_map(|row| row["share_percent"].as_f64()).sum();
        assert!(!rows.is_empty() && (shares - 100.0).abs() < 0.1, "{object}");
        for figure in ["ms", "gflops", "gb_per_s"] {
            assert!(rows.iter().all(|row| row[figure].is_number()), "{figure} in {object}");
        }
    }
    let from_artifact = place.kiln("bench digits.art --warmup 0 --runs 1 --json").ok().json();
    assert_eq!(from_artifact["compile_ms"], 0.0);
    let shown = place.kiln("bench digits.art --runs 2 --profile").ok().stdout;
    assert!(shown.contains("median") && shown.contains("GFLOP/s"), "{shown}");
}

#[test]
fn classes_are_ranked_and_named() {
    let place = Place::with_digits();
    place.write("labels.txt", "zero\none\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n");
    let arguments = format!("run {DIGITS} --inputs digit.npz --top-k 2 --labels labels.txt");
    let object = place.kiln(&format!("{arguments} --json")).ok().json();
    assert_eq!(object["top_k"][0].as_array().map(Vec::len), Some(2), "{object}");
    assert_eq!(object["top_k"][0][0]["label"], "four");
    assert!(place.kiln(&arguments).ok().stdout.contains("four"));
    let bare = place.kiln(&format!("run {DIGITS} --inputs digit.npz --top-k 1")).ok().stdout;
    assert!(bare.contains("score") && !bare.contains("label"), "{bare}");
    place.kiln(&format!("{arguments} --scores logits")).fails(2, &["logits", "scores"]);
}

#[test]
fn images_become_inputs_as_the_options_say() {
    let place = Place::with_digits();
    let sample = kiln::digits::samples().expect("digits").into_iter().find(|s| s.digit == 7).expect("a seven");
    let picture = image::GrayImage::from_raw(28, 28, sample.pixels).expect("28 × 28 pixels");
    picture.save(place.path("seven.png")).expect("a picture written");
    let arguments = format!("run {DIGITS} --top-k 1 --json");
    for input in ["seven.png", "image=seven.png"] {
        let run = place.kiln(&format!("{arguments} --input {input} --channels gray --scale 1/255")).ok();
        assert_eq!(run.json()["top_k"][0][0]["class"], 7);
    }
    place.write("gray.json", r#"{ "channels": "gray", "scale": 0.003921569 }"#);
    let run = place.kiln(&format!("{arguments} --input seven.png --preprocess gray.json")).ok();
    assert_eq!(run.json()["top_k"][0][0]["class"], 7);
    // Three channels do not fit the network's one.
    place.kiln(&format!("{arguments} --input seven.png")).fails(1, &["image", "[1, 3, 28, 28]"]);
    place.write("zero.json", r#"{ "channels": "gray", "std": [0, 1, 1] }"#);
    place.kiln(&format!("{arguments} --input seven.png --preprocess zero.json")).fails(1, &["seven.png", "std", "0"]);
    place.write("wrong.json", r#"{ "sharpen": true }"#);
    place.kiln(&format!("{arguments} --input seven.png --preprocess wrong.json")).fails(1, &["wrong.json", "sharpen"]);
}

#[test]
fn arrays_come_from_npy_files_and_shapes_bind_extents() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    let x = Tensor::from_slice(&[2, 3], &[1.0f32, -2.0, 3.5, f32::INFINITY, f32::NAN, -0.0]).expect("a tensor");
    kiln::files::npy::write(&place.path("x.npy"), &x).expect("an array written");
    for how in ["", "--interpret"] {
        place.kiln(&format!("run double.kiln --shape x=2x3 --input x.npy --outputs y.npz {how}")).ok();
        let y = floats(&place.read_npz("y.npz")["y"]);
        assert_eq!(&y[..4], &[2.0, -4.0, 7.0, f32::INFINITY]);
        assert!(y[4].is_nan() && y[5] == 0.0 && y[5].is_sign_negative(), "{y:?}");
    }
    let f64s = place.kiln("interp double.kiln --shape x=2x3 --input x.npy --f64 --json").ok().json();
    assert_eq!(f64s["outputs"][0]["dtype"], "f64");
    let shown = place.kiln("run double.kiln --shape x=2x3 --input x.npy").ok().stdout;
    assert!(["f32[2, 3]", "NaN", "7.0"].iter().all(|part| shown.contains(part)), "{shown}");
}

#[test]
fn the_demo_reads_its_digits() {
    let place = Place::new();
    let object = place.kiln("demo --digit 5 --json").ok().json();
    assert_eq!((&object["digit"], &object["read"]), (&5.into(), &5.into()), "{object}");
    // 29 of the 30 embedded digits is what the fitted weights reach; rounding cannot change a digit that is read by a
    // clear margin.
    assert_eq!((&object["right"], &object["of"]), (&29.into(), &30.into()), "{object}");
    assert_eq!(object["ops_after"]["fused_conv"], 2);
    let shown = place.kiln("demo").ok().stdout;
    for part in ["This is a three.", "graph @digits", "fused_conv", "median", "29 of 30", "█"] {
        assert!(shown.contains(part), "`{part}` is not in {shown}");
    }
    let all = place.kiln("demo --all").ok().stdout;
    assert!(all.contains("but it is a") && !all.contains("graph @"), "{all}");
}

#[test]
fn damaged_weights_are_found_before_a_run_that_asks_for_it() {
    let place = Place::with_digits();
    for (name, half, ways) in [
        ("native.art", "--no-portable", ["run", "bench --runs 1"]),
        ("both.art", "", ["run", "bench --runs 1"]),
        ("portable.art", "--no-native", ["run", "run --portable"]),
    ] {
        place.kiln(&format!("compile {DIGITS} -o {name} {half}")).ok();
        let mut bytes = std::fs::read(place.path(name)).expect("the artifact");
        for way in ways {
            place.kiln(&format!("{way} {name} --inputs digit.npz --verify-weights")).ok();
        }
        // The weight section is the file's end.
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        place.write(name, bytes);
        for way in ways {
            let run = place.kiln(&format!("{way} {name} --inputs digit.npz --verify-weights"));
            run.fails(1, &[name, "weight", "compile the model again"]);
        }
    }
    // Not asked for, they are not read.
    place.kiln("run native.art --inputs digit.npz").ok();
}

#[test]
fn a_program_without_an_arena_has_none() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    let shown = place.kiln("compile double.kiln --dim n=4 -o double.art").ok().stdout;
    let arena = shown.lines().find(|line| line.starts_with("arena")).expect("a line about the arena");
    assert_eq!(arena.split_whitespace().collect::<Vec<_>>(), ["arena", "none"]);
}
