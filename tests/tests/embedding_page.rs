//! `docs/embedding.md` does what it says: its model, commands and program give its output.

use std::fs;
use std::path::Path;

use kiln_codegen::embed::WeightPlace;
use kiln_codegen::native::Target;
use kiln_ir::text::parse;
use kiln_passes::Options;
use kiln_tests::embed::{Machine, emit};

/// The code blocks of a page: language and text.
fn blocks(page: &str) -> Vec<(&str, String)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else { continue };
        let text = lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n"));
        blocks.push((language, text.collect()));
    }
    blocks
}

#[test]
fn the_example_of_the_page_builds_and_prints_what_the_page_says() {
    let Some(machine) = Machine::here().installed() else { return };
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/embedding.md");
    let page = fs::read_to_string(page).unwrap();
    let blocks = blocks(&page);
    let block = |language: &str| &blocks.iter().find(|(l, _)| *l == language).unwrap().1;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("main.c"), block("c")).unwrap();
    // The command itself is tested where it is built: `frontend/tests/cli/embed.rs` runs this line.
    assert_eq!(block("sh"), "kiln compile mlp.kiln --emit obj,header -o mlp\n");
    let graph = parse(block("kiln"), "mlp.kiln").unwrap();
    let target = Target::host().unwrap();
    emit(&graph, &target, &Options::default(), WeightPlace::Object, "mlp", folder.path()).unwrap();
    let build = blocks.iter().filter(|(l, _)| *l == "sh").nth(1).unwrap().1.clone();
    assert_eq!(build, "cc -std=c11 main.c mlp.o -o main\n./main\n");
    let strict = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic"].map(Into::into);
    machine.cc(strict.into_iter().chain([at("main.c"), at("mlp.o"), "-o".into(), at("main")])).unwrap();
    assert_eq!(machine.run(&at("main"), [""; 0]).unwrap(), *block("text"));
}
