//! Wrong usage: exit code 2, and what is wrong in the first line of stderr.

use crate::harness::{DOUBLE, Place};

#[test]
fn commands_and_options_that_do_not_exist_are_wrong_usage() {
    let place = Place::new();
    place.kiln("fire x").fails(2, &["fire"]);
    place.kiln("inspect x --loud").fails(2, &["--loud"]);
    place.kiln("compile x").fails(2, &["required"]);
    place.kiln("compile x -o y --no-portable --no-native").fails(2, &["cannot be used with"]);
    place.kiln("bench x --runs 0").fails(2, &["--runs", "at least 1"]);
    place.kiln("bench x --threads 0").fails(2, &["--threads", "1 to 1024"]);
    place.kiln("bench x --threads 65535").fails(2, &["--threads", "1 to 1024"]);
    place.kiln("demo --digit 10").fails(2, &["--digit"]);
    place.kiln("run x --labels l").fails(2, &["required"]);
    let none = place.kiln("");
    assert_eq!(none.code, Some(2), "{none:?}");
}

#[test]
fn wrong_usage_is_one_json_object_where_json_is_asked_for() {
    let place = Place::new();
    let run = place.kiln("inspect x --loud --json").fails(2, &["--loud"]);
    assert!(run.json()["error"].as_str().is_some_and(|e| e.contains("--loud")), "{run:?}");
    let json = place.kiln("compile x --json").fails(2, &["required"]).json();
    let error = json["error"].as_str().expect("a text");
    assert!(error.contains("--output") && !error.contains("Usage"), "{error}");
    let json = place.kiln("cat x --format png --json").fails(2, &["png"]).json();
    assert!(json["error"].as_str().is_some_and(|e| e.contains("text, dot")), "{json}");
    let help = place.kiln("--help --json");
    assert_eq!((help.code, help.stdout.starts_with('{')), (Some(0), false));
}

#[test]
fn malformed_values_are_wrong_usage() {
    let place = Place::new();
    for wrong in ["--dim batch", "--dim batch=x", "--dim =1", "--shape x", "--shape x=1x", "--shape x=-1"] {
        place.kiln(&format!("inspect m {wrong}")).fails(2, &["invalid value"]);
    }
    for wrong in [
        "--resize 0",
        "--scale nan",
        "--mean 1,2",
        "--channels cmyk",
        "--filter sharp",
        "--input =f.npy",
        "--std 0",
        "--std 1,0,1",
        "--mean nan",
        "--top-k 0",
    ] {
        place.kiln(&format!("run m {wrong}")).fails(2, &["invalid value"]);
    }
}

#[test]
fn options_that_do_not_fit_the_model_are_wrong_usage() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    place.kiln("inspect double.kiln --dim m=2").fails(2, &["--dim m", "n"]);
    place.kiln("inspect double.kiln --dim n=2 --dim n=3").fails(2, &["--dim n", "twice"]);
    place.kiln("inspect double.kiln --shape y=1x3").fails(2, &["--shape y", "x"]);
    place.kiln("inspect double.kiln --shape x=1x4").fails(2, &["--shape x", "f32[n, 3]"]);
    place.kiln("inspect double.kiln --shape x=3").fails(2, &["--shape x", "f32[n, 3]"]);
    place.kiln("inspect double.kiln --shape x=2x3 --dim n=3").fails(2, &["`n` is 2 here and 3 elsewhere"]);
    place.kiln("cat double.kiln --stage fried").fails(2, &["fried", "import", "asm"]);
    place.kiln("compile double.kiln -o y --target pdp11").fails(2, &["pdp11", "x86-64-v3"]);
    place.kiln("run double.kiln --dim n=1 --input x.tiff").fails(2, &["x.tiff", ".npy"]);
    place.kiln("run double.kiln --dim n=1 --input x=x.npz").fails(2, &["x.npz", "--inputs"]);
    place.kiln("run double.kiln --dim n=1 --inputs x.npy").fails(2, &["x.npy", "--input"]);
}

#[test]
fn passes_and_rules_that_do_not_exist_are_wrong_usage() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    for command in ["opt", "run", "bench", "cat", "compile -o x.art"] {
        let model = format!("{command} double.kiln --dim n=1");
        place.kiln(&format!("{model} --disable melt")).fails(2, &["`melt`", "canonicalise", "fuse_bias"]);
        place.kiln(&format!("{model} --disable layout,melt")).fails(2, &["`melt`"]);
        place.kiln(&format!("{model} --until melt")).fails(2, &["`melt`", "canonicalise"]);
        // Rules are no passes.
        place.kiln(&format!("{model} --until fuse_bias")).fails(2, &["no pass `fuse_bias`"]);
    }
    for command in ["opt", "run", "bisect"] {
        let model = format!("{command} double.kiln --dim n=1");
        place.kiln(&format!("{model} --disable fuse_bais")).fails(2, &["did you mean `fuse_bias`?"]);
        place.kiln(&format!("{model} --until canonicalize")).fails(2, &["did you mean `canonicalise`?"]);
        let far = place.kiln(&format!("{model} --until zzz")).fails(2, &["`zzz`"]);
        assert!(!far.stderr.contains("did you mean"), "{}", far.stderr);
    }
    place.kiln("opt double.kiln --dim n=1 --disable layout,fuse_bias --until rewrite").ok();
    let json = place.kiln("opt double.kiln --dim n=1 --until melt --json").fails(2, &["melt"]).json();
    assert!(json["error"].as_str().is_some_and(|e| e.contains("canonicalise")), "{json}");
}

#[test]
fn options_that_would_do_nothing_are_wrong_usage() {
    let place = Place::with_digits();
    let model = "digits.kiln --weights digits.safetensors --dim batch=1";
    for code in ["plan", "kir", "clif", "asm"] {
        place.kiln(&format!("cat {model} --stage {code} --format dot")).fails(2, &["--format dot", code, "optimized"]);
        place.kiln(&format!("cat {model} --stage {code} --elements 9")).fails(2, &["--elements", code]);
    }
    place.kiln(&format!("cat {model} --stage plan --kernel conv")).fails(2, &["--kernel", "plan", "asm"]);
    place.kiln(&format!("cat {model} --stage import --until layout")).fails(2, &["--until", "import"]);
    place.kiln(&format!("cat {model} --stage optimized --target host")).fails(2, &["--target", "optimized", "asm"]);
    place.kiln(&format!("cat {model} --format dot --locations")).fails(2, &["--locations", "--format dot"]);
    place.kiln(&format!("run {model} --inputs digit.npz --interpret --no-opt")).fails(2, &["cannot be used with"]);
    place.kiln(&format!("run {model} --inputs digit.npz --std 2")).fails(2, &["--std", "no --input is one"]);
    place
        .kiln(&format!("run {model} --inputs digit.npz --verify-weights"))
        .fails(2, &["--verify-weights", "artifacts"]);
    place.kiln(&format!("inspect {model} --digests")).fails(2, &["--digests", "artifacts"]);
    place.kiln("demo --all --digit 1").fails(2, &["cannot be used with"]);
    place.kiln(&format!("compile {model} --no-native --target host -o x.art")).fails(2, &["cannot be used with"]);
    for stage in ["kir", "clif", "asm"] {
        let run = place.kiln(&format!("cat {model} --stage {stage} --kernel fry"));
        run.fails(2, &["--kernel fry", "no kernel", "fused_conv"]);
    }
    place.write_npz("other.npz", &[("other", crate::harness::digit(1))]);
    place.kiln(&format!("inspect {model} --weights other.npz")).fails(2, &["--weights other.npz", "1 tensor"]);

    place.kiln(&format!("compile {model} -o both.art")).ok();
    place.kiln(&format!("compile {model} -o native.art --no-portable")).ok();
    place.kiln(&format!("compile {model} -o portable.art --no-native")).ok();
    for stage in ["plan", "asm"] {
        place.kiln(&format!("cat both.art --stage {stage} --target x86-64-v2")).fails(2, &["--target", stage, "again"]);
        place.kiln(&format!("cat both.art --stage {stage} --disable layout")).fails(2, &["--disable", stage, "again"]);
    }
    place.kiln("cat both.art --stage asm --kernel fry").fails(2, &["--kernel fry", "no kernel", "fused_conv"]);
    place.kiln("verify native.art --stage primitive").fails(2, &["--stage", "native.art", "no portable half"]);
    for command in ["run", "bench --runs 1"] {
        for option in ["--disable layout", "--until layout", "--no-opt", "--fuel 3"] {
            let name = option.split(' ').next().unwrap_or_default();
            let run = format!("{command} --inputs digit.npz {option}");
            place.kiln(&format!("{run} both.art")).fails(2, &[name, "both.art", "--portable"]);
            place.kiln(&format!("{run} both.art --portable")).ok();
            place.kiln(&format!("{run} portable.art")).ok();
        }
    }
}

#[test]
fn outputs_that_are_read_or_written_twice_are_refused_before_anything_is_lost() {
    let place = Place::with_digits();
    place.write("double.kiln", DOUBLE);
    let names = ["digit.npz", "digits.kiln", "digits.safetensors", "double.kiln"];
    let before: Vec<Vec<u8>> = names.iter().map(|name| std::fs::read(place.path(name)).expect("a file")).collect();
    let digits = "digits.kiln --weights digits.safetensors --dim batch=1";
    for (command, parts) in [
        ("compile double.kiln --dim n=1 -o double.kiln", ["--output", "the model `double.kiln`"]),
        ("compile double.kiln --dim n=1 -o ./double.kiln", ["--output", "the model `double.kiln`"]),
        ("opt double.kiln --dim n=1 -o double.kiln", ["--output", "the model"]),
        ("import double.kiln -o double.kiln", ["--output", "the model"]),
        ("cat double.kiln -o double.kiln", ["--output", "the model"]),
        ("reduce double.kiln --dim n=1 -o double.kiln", ["--output", "the model"]),
        ("tune double.kiln --dim n=1 -o double.kiln", ["--output", "the model"]),
        ("interp double.kiln --dim n=1 --outputs double.kiln", ["--outputs", "the model"]),
        ("compile double.kiln --dim n=1 --emit obj -o x --weights-file double.kiln", ["--weights-file", "the model"]),
        ("compile double.kiln --dim n=1 --emit obj -o x --weights-file x.o", ["--output and --weights-file", "`x.o`"]),
        ("import double.kiln -o i --save-weights ./i", ["--output and --save-weights", "`./i`"]),
        ("reduce double.kiln --dim n=1 -o x.safetensors", ["--output", "`x.safetensors`"]),
    ] {
        place.kiln(command).fails(2, &parts);
    }
    place.kiln(&format!("opt {digits} -o digits.safetensors")).fails(2, &["--weights `digits.safetensors`"]);
    place.kiln(&format!("opt {digits} --save-weights digits.safetensors")).fails(2, &["--save-weights", "--weights"]);
    place
        .kiln(&format!("reduce {digits} -o digits.art --inputs digit.npz"))
        .fails(2, &["the file of the tensors", "--weights `digits.safetensors`"]);
    place.kiln(&format!("run {digits} --inputs digit.npz --outputs digit.npz")).fails(2, &["--inputs `digit.npz`"]);
    assert_eq!(place.names(), names);
    let after: Vec<Vec<u8>> = names.iter().map(|name| std::fs::read(place.path(name)).expect("a file")).collect();
    assert_eq!(before, after);
    // an older output is no source
    for _ in 0..2 {
        place.kiln("compile double.kiln --dim n=1 -o double.art").ok();
    }
}

#[test]
fn every_option_stands_under_the_heading_it_belongs_to() {
    let place = Place::new();
    for (command, heading, option) in [
        ("run", "Inputs", "--inputs"),
        ("run", "Images become tensors", "--mean"),
        ("run", "Outputs", "--top-k"),
        ("run", "Execution", "--verify-weights"),
        ("run", "Execution", "--interpret"),
        ("run", "Passes", "--fuel"),
        ("bench", "Inputs", "--input"),
        ("bench", "Execution", "--threads"),
        ("opt", "Graph text", "--elements"),
        ("opt", "Reports", "--diff"),
        ("bisect", "Comparison", "--tolerance"),
        ("bisect", "Passes", "--fuel"),
        ("reduce", "Inputs", "--inputs"),
        ("interp", "Execution", "--f64"),
    ] {
        let help = place.kiln(&format!("{command} --help")).ok().stdout;
        let mut under = "";
        for line in help.lines() {
            if !line.starts_with(' ') && line.ends_with(':') {
                under = line.trim_end_matches(':');
            }
            if line.split_whitespace().any(|word| word == option) && line.trim_start().starts_with('-') {
                assert_eq!(under, heading, "{command} {option}");
            }
        }
        assert!(help.contains(&format!(" {option}")), "{command} {option}");
    }
}

#[test]
fn help_and_version_succeed() {
    let place = Place::new();
    assert!(place.kiln("--version").ok().stdout.starts_with("kiln "));
    let help = place.kiln("--help").ok().stdout;
    for command in
        ["compile", "run", "bench", "inspect", "cat", "verify", "opt", "interp", "demo", "import", "bisect", "reduce"]
    {
        assert!(help.contains(command), "{command} is not in {help}");
        place.kiln(&format!("{command} --help")).ok();
    }
}
