//! Which target tests compile for.

use kiln_codegen::native::{Backend, Target};
use kiln_tests::target::named;

#[test]
fn a_test_target_is_a_level_of_this_machine_or_cranelift() {
    let host = Target::host().expect("this machine is supported");
    let cranelift = named("cranelift").expect("Cranelift knows every machine");
    assert_eq!((cranelift.backend(), cranelift.features()), (Backend::Cranelift, host.features()));
    assert_eq!(named("host").map(|t| t.to_string()), Ok(host.to_string()));
    if cfg!(target_arch = "x86_64") {
        let level = host.features().name();
        assert_eq!(named(level).map(|t| (t.features(), t.backend())), Ok((host.features(), host.backend())));
    }
}

#[test]
fn a_test_target_that_is_none_or_does_not_run_here_is_refused() {
    for nonsense in ["avx512", "", "x86-64-v5"] {
        let error = named(nonsense).map(|t| t.to_string()).unwrap_err();
        assert!(error.contains(&format!("unknown target `{nonsense}`: expected host")), "{error}");
        assert!(error.ends_with("; or cranelift"), "{error}");
    }
    let foreign = if cfg!(target_arch = "x86_64") { "aarch64-unknown-linux-gnu" } else { "x86-64-v2" };
    let error = named(foreign).map(|t| t.to_string()).unwrap_err();
    assert!(error.starts_with("this machine (") && error.contains("cannot run code for"), "{error}");
    assert!(error.contains(foreign) || error.contains("x86_64"), "{error}");
}
