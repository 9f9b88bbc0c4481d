//! Artifacts: what is written comes back, on the machines it is for.

mod common;

use std::sync::Arc;

use artifact::{
    Digests, NativeOptions, PortableCompiler, PortableModel, inspect, load, load_native, load_native_file,
    read_portable,
};
use bytes::Bytes;
use common::{N, input, native, whole};
use kiln_ir::Tensor;
use kiln_runtime::*;

fn host() -> String {
    cpu::host_triple()
}

/// A compiler that knows one graph: it gives the program whose kernels are Rust functions.
struct Known;

impl PortableCompiler for Known {
    fn compile(&self, model: PortableModel) -> Result<Arc<Executable>, Box<dyn std::error::Error + Send + Sync>> {
        if model.graph != common::graph() {
            return Err("not the graph this test compiles".into());
        }
        Ok(common::executable())
    }
}

fn run(executable: Arc<Executable>) -> Vec<f32> {
    let x = Tensor::from_slice(&[10, 100], &input()).unwrap();
    let mut executor = Executor::new(executable, PoolHandle::new(2)).unwrap();
    executor.run_tensors(&[&x]).unwrap()[0].to_vec::<f32>().unwrap()
}

#[cfg(all(target_arch = "x86_64", not(windows)))]
#[test]
fn a_program_loaded_from_a_mapped_file_gives_the_bits_it_gave_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.kiln");
    whole(vec![native(&host(), &[])]).write(&path).unwrap();
    for verify_weights in [false, true] {
        let options = NativeOptions { verify_weights, ..NativeOptions::default() };
        // SAFETY: this test wrote the file.
        let loaded = unsafe { load_native_file(&path, options) }.unwrap();
        assert_eq!(run(loaded), run(common::executable()));
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
}

#[cfg(all(target_arch = "x86_64", not(windows)))]
#[test]
fn bytes_at_any_address_load_too() {
    let bytes = whole(vec![native(&host(), &[])]).to_bytes().unwrap();
    let mut shifted = vec![0];
    shifted.extend_from_slice(&bytes);
    // SAFETY: this test made the bytes.
    let loaded = unsafe { load_native(&Bytes::from(shifted).slice(1..), NativeOptions::default()) }.unwrap();
    assert_eq!(run(loaded), run(common::executable()));
}

#[test]
fn a_weight_that_native_code_has_packed_is_stored_once_and_comes_back() {
    let native_only = Artifact { portable: None, ..whole(vec![native(&host(), &[])]) }.to_bytes().unwrap();
    let both = whole(vec![native(&host(), &[])]).to_bytes().unwrap();
    assert!(both.len() < native_only.len() + 1000, "{} and {}", both.len(), native_only.len());
    assert_eq!(read_portable(&both).unwrap().graph, common::graph());
    let weights = inspect(&both, Digests::Check).unwrap().portable.unwrap().weights;
    let packed = weights.iter().filter(|w| w.packed).map(|w| w.content.as_str()).collect::<Vec<_>>();
    assert_eq!((weights.len(), packed), (2, vec![common::ramp(500).content_id().to_hex().as_str()]));
}

#[test]
fn a_packing_that_does_not_give_the_weight_back_is_not_used() {
    let mut contents = whole(vec![native(&host(), &[])]);
    let weights = &mut contents.portable.as_mut().unwrap().weights;
    let packed = weights.iter_mut().find_map(|w| w.packed.as_mut()).unwrap();
    packed.relayout.pieces.swap(0, 1);
    packed.relayout.pieces[0].start += 1;
    packed.relayout.pieces[0].loops[0].0 -= 1;
    packed.relayout.pieces[0].padding = 1;
    let bytes = contents.to_bytes().unwrap();
    assert_eq!(read_portable(&bytes).unwrap().graph, common::graph());
    assert!(inspect(&bytes, Digests::Check).unwrap().portable.unwrap().weights.iter().all(|w| !w.packed));
}

#[test]
fn two_targets_share_their_weights() {
    let one = whole(vec![native(&host(), &[])]).to_bytes().unwrap();
    let two = whole(vec![native(&host(), &[]), native("aarch64-apple-darwin", &["neon"])]).to_bytes().unwrap();
    assert!(two.len() < one.len() + 2000, "{} and {}", two.len(), one.len());
    let summary = inspect(&two, Digests::Check).unwrap();
    assert_eq!(summary.natives.len(), 2);
    assert_eq!(summary.natives[0].kernels, [("add".to_owned(), 37), ("square".to_owned(), 31)]);
}

#[test]
fn the_same_contents_give_the_same_bytes() {
    let make = || whole(vec![native("x86_64-unknown-linux-gnu", &["fma", "avx2"])]).to_bytes().unwrap();
    let (first, second) = (make(), make());
    assert_eq!(first, second);
    assert!(artifact::is_artifact(&first[..8]) && !artifact::is_artifact(&first[1..]));
    assert!(first.len().is_multiple_of(4) && first.starts_with(b"\x8bKILN\r\n\x1a\x02\0\0\0"));
}

#[test]
fn every_section_starts_at_a_multiple_of_64() {
    let bytes = whole(vec![native(&host(), &[])]).to_bytes().unwrap();
    let summary = inspect(&bytes, Digests::Skip).unwrap();
    assert!(summary.sections.len() == 6 && summary.sections.iter().all(|s| s.offset % 64 == 0));
    assert_eq!(summary.signature, common::plan().0.signature);
    assert_eq!((summary.natives[0].steps, summary.natives[0].arena_bytes), (4, 4 * N));
}

#[test]
fn either_half_may_be_missing_and_is_then_missed_by_name() {
    let portable_only = whole(Vec::new()).to_bytes().unwrap();
    // SAFETY: there is no code in it.
    let error = unsafe { load_native(&portable_only, NativeOptions::default()) }.unwrap_err().to_string();
    assert!(error.contains("no native half; load its portable half"), "{error}");
    assert_eq!(run(load(&portable_only, &Known).unwrap()), run(common::executable()));

    let native_only = Artifact { portable: None, ..whole(vec![native(&host(), &[])]) }.to_bytes().unwrap();
    let error = load(&native_only, &Known).unwrap_err().to_string();
    assert!(error.contains("no portable half"), "{error}");

    let neither = Artifact { portable: None, ..whole(Vec::new()) }.to_bytes().unwrap_err().to_string();
    assert!(neither.contains("neither"), "{neither}");
}

#[test]
fn code_for_another_machine_is_refused_with_the_reason_or_compiled_from_the_portable_half() {
    let foreign = if cfg!(target_arch = "x86_64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };
    let bytes = whole(vec![native(foreign, &[]), native(&host(), &["avx9999"])]).to_bytes().unwrap();
    // SAFETY: refused before anything is run.
    let error = unsafe { load_native(&bytes, NativeOptions::default()) }.unwrap_err().to_string();
    for part in [foreign, "another architecture or system", "this CPU lacks avx9999", &host()] {
        assert!(error.contains(part), "expected `{part}` in {error}");
    }
    let options = NativeOptions { fallback: Some(&Known), ..NativeOptions::default() };
    // SAFETY: no native part runs here, so the portable half is compiled.
    let loaded = unsafe { load_native(&bytes, options) }.unwrap();
    assert_eq!(run(loaded), run(common::executable()));
}

/// On a simulated CPU, which has less than this one: nothing of the file is run that it could not run.
#[cfg(all(target_arch = "x86_64", not(windows)))]
#[test]
fn code_for_a_better_cpu_is_refused_with_field_expected_found_and_remedy_or_compiled_where_that_is_allowed() {
    let lesser = cpu::Host::here().without(&["sse4.2", "popcnt"]);
    let bytes = whole(vec![native(&host(), &["sse3", "sse4.2"])]).to_bytes().unwrap();
    let options = NativeOptions { host: Some(&lesser), ..NativeOptions::default() };
    // SAFETY: refused before anything is run.
    let error = unsafe { load_native(&bytes, options) }.unwrap_err().to_string();
    for part in
        ["CPU features", "expected sse3, sse4.2", "found that this CPU lacks sse4.2", "compile it for this machine"]
    {
        assert!(error.contains(part), "expected `{part}` in {error}");
    }
    // SAFETY: no native part is for that CPU, so the portable half is compiled.
    let loaded = unsafe { load_native(&bytes, NativeOptions { fallback: Some(&Known), ..options }) }.unwrap();
    assert_eq!(run(loaded), run(common::executable()));

    // Beside code that the CPU runs, the better code is passed over.
    let mut small = native(&host(), &["sse3"]);
    small.plan.steps[0].label = "small".to_owned();
    let both = whole(vec![native(&host(), &["sse3", "sse4.2"]), small]).to_bytes().unwrap();
    for (options, label) in [(options, "small"), (NativeOptions::default(), "add x w")] {
        // SAFETY: this test made the bytes.
        let loaded = unsafe { load_native(&both, options) }.unwrap();
        assert_eq!(loaded.plan().steps[0].label, label);
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn of_several_parts_that_run_here_the_one_with_the_most_features_is_taken() {
    let mut small = native(&host(), &[]);
    small.plan.steps[0].label = "small".to_owned();
    let bytes = whole(vec![small.clone(), native(&host(), &["sse3"]), small]).to_bytes().unwrap();
    // SAFETY: this test made the bytes.
    let loaded = unsafe { load_native(&bytes, NativeOptions::default()) }.unwrap();
    assert_eq!(loaded.plan().steps[0].label, "add x w");
}

#[test]
fn the_interpreter_runs_the_portable_half_and_takes_and_refuses_the_same_feeds() {
    let bytes = whole(vec![native(&host(), &[])]).to_bytes().unwrap();
    let x = Tensor::from_slice(&[10, 100], &input()).unwrap();
    let mut interpreted = artifact::interpret(&bytes).unwrap();
    let results = interpreted.run_named(&[("x", &x)]).unwrap();
    assert_eq!(results[0].0, "y");
    // The same additions and multiplications in the same order: the same bits.
    assert_eq!(results[0].1.to_vec::<f32>().unwrap(), run(common::executable()));
    assert_eq!(results[1].1, x);
    let mut compiled = Executor::new(common::executable(), PoolHandle::new(1)).unwrap();
    let wrong = Tensor::from_slice(&[1], &[1i64]).unwrap();
    for feeds in [vec![], vec![("z", &x)], vec![("x", &wrong)]] {
        assert_eq!(interpreted.run_named(&feeds), compiled.run_named(&feeds));
    }
}

#[test]
fn the_interpreter_keeps_variables_from_run_to_run() {
    let text = "kiln 1
graph @count(%x: i64[2]) -> (y = %n) {
  variable \"total\": i64[2] = fill(3)
  %t = read_var {variable = \"total\"} : i64[2]
  %n = add %t, %x
  assign %n {variable = \"total\"}
}
";
    let graph = kiln_ir::text::parse(text, "test").unwrap_or_else(|e| panic!("{e}"));
    let signature = Signature::of(&graph).unwrap();
    let portable = Some(artifact::PortablePart::of(&graph));
    let bytes = Artifact { signature, portable, ..Artifact::default() }.to_bytes().unwrap();
    let mut interpreted = artifact::interpret(&bytes).unwrap();
    let x = Tensor::from_slice(&[2], &[1i64, 10]).unwrap();
    let totals = |i: &Interpreted| i.state("total").unwrap().to_vec::<i64>().unwrap();
    assert_eq!(totals(&interpreted), [3, 3]);
    interpreted.run_tensors(&[&x]).unwrap();
    interpreted.run_tensors(&[&x]).unwrap();
    assert_eq!(totals(&interpreted), [5, 23]);
    interpreted.set_state("total", &x).unwrap();
    interpreted.run_tensors(&[&x]).unwrap();
    assert_eq!(totals(&interpreted), [2, 20]);
    interpreted.reset_states();
    assert_eq!(totals(&interpreted), [3, 3]);
    assert!(interpreted.state("sum").unwrap_err().to_string().contains("those that the graph assigns are `total`"));
    let wrong = Tensor::from_slice(&[1], &[1i64]).unwrap();
    assert!(interpreted.set_state("total", &wrong).unwrap_err().to_string().contains("i64[2]"));
}

#[test]
fn a_portable_half_with_another_interface_than_the_signature_is_refused() {
    let mut contents = whole(Vec::new());
    contents.signature.outputs[1].name = "other".to_owned();
    let error = read_portable(&contents.to_bytes().unwrap()).unwrap_err().to_string();
    assert!(error.contains("not the signature's"), "{error}");
    let mut contents = whole(Vec::new());
    contents.portable.as_mut().unwrap().graph.push_str("graph again");
    let error = read_portable(&contents.to_bytes().unwrap()).unwrap_err().to_string();
    assert!(error.contains("does not parse"), "{error}");
    let mut contents = whole(Vec::new());
    contents.portable.as_mut().unwrap().weights.pop();
    assert!(read_portable(&contents.to_bytes().unwrap()).is_err(), "a weight that the text names is not there");
}

#[test]
fn what_contradicts_itself_is_not_written() {
    let mut other = native(&host(), &[]);
    other.plan.signature.inputs[0].name = "other".to_owned();
    assert!(whole(vec![other]).to_bytes().unwrap_err().to_string().contains("another signature"));
    let mut broken = native(&host(), &[]);
    broken.plan.arena_bytes = 0;
    assert!(whole(vec![broken]).to_bytes().unwrap_err().to_string().contains("arena"));
    let mut lost = native(&host(), &[]);
    lost.weights = Weights::default();
    assert!(whole(vec![lost]).to_bytes().unwrap_err().to_string().contains("no weight lies at offset 0"));
}

#[test]
fn files_that_cannot_be_written_or_read_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing").join("model.kiln");
    let contents = whole(vec![native(&host(), &[])]);
    let error = contents.write(&path).unwrap_err().to_string();
    assert!(error.contains("missing/model.kiln") && error.contains("cannot create"), "{error}");
    // SAFETY: there is no file.
    let error = unsafe { load_native_file(&path, NativeOptions::default()) }.unwrap_err().to_string();
    assert!(error.contains("cannot map") && error.contains("missing/model.kiln"), "{error}");
    // A directory cannot be written to, and no temporary file must stay behind.
    let taken = directory.path().join("taken");
    std::fs::create_dir_all(taken.join("full")).unwrap();
    let error = contents.write(&taken).unwrap_err().to_string();
    assert!(error.contains("cannot open") && error.contains("taken"), "{error}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn links_are_followed_and_devices_are_written_to_instead_of_being_replaced() {
    use std::os::unix::fs::FileTypeExt;
    let contents = whole(vec![native(&host(), &[])]);
    let error = contents.write(std::path::Path::new("/dev/full")).unwrap_err().to_string();
    assert!(error.contains("/dev/full"), "{error}");
    assert!(std::fs::metadata("/dev/full").unwrap().file_type().is_char_device());
    let directory = tempfile::tempdir().unwrap();
    let (file, link) = (directory.path().join("model.kiln"), directory.path().join("link.kiln"));
    std::fs::write(&file, b"old").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    contents.write(&link).unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(std::fs::read(&file).unwrap(), contents.to_bytes().unwrap());
}

#[cfg(all(target_arch = "x86_64", not(windows)))]
#[test]
fn a_file_can_be_replaced_while_it_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.kiln");
    whole(vec![native(&host(), &[])]).write(&path).unwrap();
    // SAFETY: this test wrote the file, and replaces it by renaming only.
    let loaded = unsafe { load_native_file(&path, NativeOptions::default()) }.unwrap();
    whole(Vec::new()).write(&path).unwrap();
    assert_eq!(run(loaded), run(common::executable()));
    assert!(inspect(&artifact::read_file(&path).unwrap(), Digests::Check).unwrap().natives.is_empty());
}

#[test]
fn a_profile_travels_with_the_artifact() {
    let profile = Profile::new(&common::plan().0);
    let bytes = Artifact { profile: Some(profile.clone()), ..whole(Vec::new()) }.to_bytes().unwrap();
    assert_eq!(inspect(&bytes, Digests::Check).unwrap().profile, Some(profile));
}

#[test]
fn text_and_code_can_be_taken_out_for_printing() {
    let bytes = whole(vec![native(&host(), &[])]).to_bytes().unwrap();
    assert!(artifact::graph_text(&bytes).unwrap().unwrap().starts_with("kiln 1"));
    let (plan, code) = artifact::native_code(&bytes, 0).unwrap().unwrap();
    assert_eq!((plan.steps.len(), code.kernel(1)), (4, Some(common::SQUARE_CODE)));
    assert!(artifact::native_code(&bytes, 1).unwrap().is_none());
}
