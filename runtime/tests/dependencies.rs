//! An artifact runs without the compiler in the binary: the dependency tree of this crate says so.

use std::collections::{BTreeMap, BTreeSet};

/// Packages and what each depends on, from the workspace's lock file (which lists dev-dependencies of workspace
/// members too: the runtime's are none of the forbidden ones either).
fn lock_file() -> BTreeMap<String, Vec<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    let text = std::fs::read_to_string(path).expect("the workspace has a lock file");
    let mut packages = BTreeMap::new();
    for block in text.split("[[package]]").skip(1) {
        let quoted = |line: &str| line.split('"').nth(1).map(|s| s.split(' ').next().unwrap_or(s).to_owned());
        let name = block.lines().find(|l| l.starts_with("name = ")).and_then(quoted).expect("a package has a name");
        let list = block.split("dependencies = [").nth(1).and_then(|s| s.split(']').next()).unwrap_or("");
        packages.entry(name).or_insert_with(Vec::new).extend(list.lines().filter_map(quoted));
    }
    packages
}

#[test]
fn no_compiler_crate_is_in_the_dependency_tree() {
    let packages = lock_file();
    assert!(packages["kiln-codegen"].contains(&"cranelift-codegen".to_owned()), "the lock file is read as expected");
    let mut reached = BTreeSet::new();
    let mut open = vec!["kiln-runtime".to_owned()];
    while let Some(name) = open.pop() {
        if reached.insert(name.clone()) {
            open.extend(packages.get(&name).into_iter().flatten().cloned());
        }
    }
    assert!(reached.contains("kiln-ir") && reached.contains("postcard"));
    let forbidden = |n: &str| {
        ["kiln-passes", "kiln-codegen", "kiln", "egg", "regalloc2"].contains(&n) || n.starts_with("cranelift")
    };
    let found: Vec<_> = reached.iter().filter(|n| forbidden(n)).collect();
    assert!(found.is_empty(), "kiln-runtime depends on {found:?}");
}
