//! Compiled programs through artifacts: native code read back runs to the same bits, packed weights are stored once.

mod graph;

use graph::Case;
use kiln_codegen::CompiledModule;
use kiln_ir::DType::F32;
use kiln_ir::{Graph, Tensor};
use kiln_runtime::artifact::{
    self, Digests, NativeOptions, NativePart, PortablePart, inspect, load_native, read_portable,
};
use kiln_runtime::{Artifact, Executor, KernelCode, PoolHandle};

/// Both halves of a compiled graph.
fn artifact(graph: &Graph, module: &CompiledModule) -> Artifact {
    let mut code = KernelCode::new();
    let native = module.clone().native().expect("it compiled before");
    for (kernel, compiled) in module.kernels().iter().zip(native.code()) {
        code.push(kernel.name.as_str(), compiled.code());
    }
    let native = NativePart {
        triple: module.target().triple().to_string(),
        features: module.feature_names().iter().map(|&name| name.to_owned()).collect(),
        plan: module.plan().clone(),
        code,
        weights: module.weights().clone(),
    };
    let mut portable = PortablePart::of(graph);
    for (plain, place) in module.packed() {
        portable.pack(plain, place);
    }
    Artifact {
        signature: module.plan().signature.clone(),
        portable: Some(portable),
        natives: vec![native],
        profile: None,
    }
}

/// A product with a constant matrix whose width is no multiple of any panel's.
fn product() -> (Graph, Vec<(String, Tensor)>, CompiledModule) {
    let mut case = Case::new(5);
    let x = case.input(F32, &[7, 300]);
    let w = case.constant(F32, &[300, 101]);
    let y = case.b.matmul(x, w);
    case.b.output("y", y);
    let graph = case.b.finish().expect("the graph is well-formed");
    // 300 products a sum, each rounded: 300 × 2^-24 relative to the largest is far below this.
    let module = graph::check(&graph, &case.feeds, 1e-4);
    (graph, case.feeds, module)
}

#[test]
fn a_packed_weight_is_stored_once_and_the_graph_comes_back() {
    let (graph, _, module) = product();
    assert_eq!(module.packed().len(), 1, "the constant is packed");
    let bytes = artifact(&graph, &module).to_bytes().expect("halves of one program go together");
    let weights = inspect(&bytes, Digests::Check).expect("it was just written").portable.expect("both halves").weights;
    assert!(weights.len() == 1 && weights[0].packed);
    let constant = 4 * 300 * 101;
    assert!(bytes.len() < constant + constant / 2, "{} bytes for one constant of {constant}", bytes.len());
    assert_eq!(read_portable(&bytes).expect("it was just written").graph, graph);
}

#[test]
fn native_code_read_back_gives_the_same_bits_and_so_do_two_compilations() {
    let (graph, feeds, module) = product();
    let bytes = artifact(&graph, &module).to_bytes().expect("halves of one program go together");
    assert_eq!(artifact(&graph, &product().2).to_bytes().expect("as before"), bytes, "compilation is deterministic");
    // SAFETY: this test made the code.
    let loaded = unsafe { load_native(&bytes, NativeOptions { verify_weights: true, ..NativeOptions::default() }) };
    let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let run = |executable| {
        Executor::new(executable, PoolHandle::new(2)).expect("memory").run_named(&feeds).expect("the feeds fit")
    };
    assert_eq!(run(loaded.expect("it is for this machine")), run(module.executable().expect("it compiled before")));
    let interpreted =
        artifact::interpret(&bytes).expect("it was just written").run_named(&feeds).expect("the feeds fit");
    assert_eq!(interpreted[0].1.dims(), [7, 101]);
}
