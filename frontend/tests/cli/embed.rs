//! `kiln compile --emit obj,header`: the files it writes, and what it refuses.

use std::path::Path;
use std::process::Command;

use crate::harness::{DOUBLE, Place};

/// The first code block of `docs/embedding.md` in `language`.
fn block(language: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/embedding.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let begin = format!("```{language}\n");
    let (_, after) = page.split_once(&begin).expect("a block");
    after.split_once("```").expect("its end").0.to_owned()
}

#[test]
fn the_command_of_the_page_writes_an_object_and_a_header() {
    let place = Place::new();
    place.write("mlp.kiln", block("kiln"));
    let command = block("sh");
    let run = place.kiln(command.trim().strip_prefix("kiln ").expect("a command of kiln")).ok();
    assert_eq!(place.names(), ["mlp.h", "mlp.kiln", "mlp.o"]);
    for part in ["object", "mlp.o", "header", "mlp.h"] {
        assert!(run.stdout.contains(part), "{}", run.stdout);
    }
    let header = std::fs::read_to_string(place.path("mlp.h")).expect("the header");
    for name in ["MLP_ARENA_BYTES", "struct mlp_inputs", "int mlp_init(void *arena);", "int mlp_run("] {
        assert!(header.contains(name), "`{name}` is not in {header}");
    }
}

#[test]
fn files_have_the_outputs_name_and_their_own_extensions() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    let compile = |rest: &str| place.kiln(&format!("compile double.kiln --dim n=2 {rest}"));
    compile("--emit obj -o a.o").ok();
    compile("--emit header -o b.h").ok();
    compile("--emit header,obj -o c.v2 --weights-file c.bin --target aarch64").ok();
    compile("--emit obj -o d --target x86_64-pc-windows-msvc").ok();
    compile("--emit obj -o e --target aarch64-apple-darwin").ok();
    let names = ["a.o", "b.h", "c.bin", "c.v2.h", "c.v2.o", "d.obj", "double.kiln", "e.o"];
    assert_eq!(place.names(), names);
    let header = std::fs::read_to_string(place.path("c.v2.h")).expect("the header");
    assert!(header.contains("int c_v2_init(void *arena, const void *weights, size_t bytes);"), "{header}");
    let json = compile("--emit obj,header -o f --name net --json").ok().json();
    assert_eq!((json["object"].as_str(), json["header"].as_str()), (Some("f.o"), Some("f.h")));
    assert!(json["object_bytes"].as_u64() > Some(0) && json["embedded_arena_bytes"].as_u64() > Some(0), "{json}");
}

#[test]
fn what_cannot_be_emitted_is_refused_by_name_and_writes_nothing() {
    let place = Place::new();
    place.write("double.kiln", DOUBLE);
    std::fs::create_dir(place.path("folder")).expect("a folder");
    let fails = |rest: &str, code, parts: &[&str]| {
        place.kiln(&format!("compile double.kiln {rest}")).fails(code, parts);
    };
    let n = "--dim n=2 -o net";
    fails(&format!("{n} --emit elf"), 2, &["elf", "--emit"]);
    fails(&format!("{n} --emit artifact,obj"), 2, &["--emit artifact goes alone"]);
    fails(&format!("{n} --name net"), 2, &["--name is for object files", "--emit obj,header"]);
    fails(&format!("{n} --weights-file w"), 2, &["--weights-file is for object files"]);
    fails(&format!("{n} --emit obj --target x86-64-v2,x86-64-v3"), 2, &["one target", "names 2"]);
    fails(&format!("{n} --emit obj --no-portable"), 2, &["--no-portable is about artifacts"]);
    fails(&format!("{n} --emit obj --no-native"), 2, &["--no-native is about artifacts"]);
    fails(&format!("{n} --emit obj --name 7up"), 2, &["`7up`", "`model_7up`", "--name"]);
    fails(
        &format!("{n} --emit obj,header --weights-file net.h"),
        2,
        &["--output and --weights-file", "net.h", "two files"],
    );
    fails(&format!("{n} --emit obj --target aarch64-pc-windows-msvc"), 1, &["aarch64", "COFF", "choose a target"]);
    fails("--dim n=2 -o folder --emit obj", 2, &["--output", "it is a folder"]);
    fails("-o net --emit obj", 1, &["extents n are not bound", "--dim n=4"]);
    fails("-o no/such/net --emit obj", 2, &["there is no folder `no/such`"]);
    // before the model is compiled, which lacks an extent
    fails("-o net --emit obj --name 7up", 2, &["`7up`", "--name"]);
    assert_eq!(place.names(), ["double.kiln", "folder"]);
}

/// The command itself on a lesser CPU, emulated: an artifact for x86-64-v4 is compiled again there, or refused.
#[test]
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn on_an_emulated_cpu_without_avx_512_an_artifact_for_it_falls_back_or_is_refused() {
    let place = Place::new();
    if !Command::new("qemu-x86_64").arg("--version").output().is_ok_and(|out| out.status.success()) {
        println!("skipped: `qemu-x86_64` is not installed");
        return;
    }
    place.write("double.kiln", DOUBLE);
    for (name, more) in [("both.art", ""), ("native.art", "--no-portable")] {
        place.kiln(&format!("compile double.kiln --dim n=1 --target x86-64-v4 {more} -o {name}")).ok();
    }
    let emulated = |arguments: &str| {
        let mut command = Command::new("qemu-x86_64");
        place.run(command.args(["-cpu", "Nehalem", env!("CARGO_BIN_EXE_kiln")]).args(arguments.split_whitespace()))
    };
    place.write_npz("x.npz", &[("x", kiln_ir::Tensor::from_slice(&[1, 3], &[1.0f32, 2.0, 3.0]).expect("a tensor"))]);
    let run = emulated("run both.art --inputs x.npz --outputs y.npz --threads 1").ok();
    assert!(run.stderr.contains("no machine code for this CPU"), "{run:?}");
    let (name, tensor) = place.read_npz("y.npz").into_iter().next().expect("an output");
    assert_eq!((name.as_str(), tensor.to_vec::<f32>().expect("f32")), ("y", vec![2.0, 4.0, 6.0]));
    let refused = emulated("run native.art --inputs x.npz --outputs y.npz --threads 1");
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("CPU features: expected") && refused.stderr.contains("avx512f"), "{refused:?}");
}
