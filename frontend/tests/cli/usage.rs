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
    place.kiln("bench x --threads 0").fails(2, &["--threads"]);
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
    let help = place.kiln("--help --json");
    assert_eq!((help.code, help.stdout.starts_with('{')), (Some(0), false));
}

#[test]
fn malformed_values_are_wrong_usage() {
    let place = Place::new();
    for wrong in ["--dim batch", "--dim batch=x", "--dim =1", "--shape x", "--shape x=1x", "--shape x=-1"] {
        place.kiln(&format!("inspect m {wrong}")).fails(2, &["invalid value"]);
    }
    for wrong in ["--resize 0", "--scale nan", "--mean 1,2", "--channels cmyk", "--filter sharp", "--input =f.npy"] {
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
}

#[test]
fn help_and_version_succeed() {
    let place = Place::new();
    assert!(place.kiln("--version").ok().stdout.starts_with("kiln "));
    let help = place.kiln("--help").ok().stdout;
    for command in ["compile", "run", "bench", "inspect", "cat", "verify", "opt", "interp", "demo", "import"] {
        assert!(help.contains(command), "{command} is not in {help}");
        place.kiln(&format!("{command} --help")).ok();
    }
}
