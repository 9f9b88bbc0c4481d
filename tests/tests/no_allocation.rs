//! Runs of whole networks touch no allocator. Without the test harness, whose own threads would be counted.
//!
//! The embedded network is always there; ResNet-50 where `tests/models/fetch.py --bench` put it.

#[path = "../../runtime/tests/counting/mod.rs"]
mod counting;

use std::error::Error;

use counting::calls;
use kiln::onnx::{ImportOptions, import};
use kiln::{CompileOptions, compile::compile, digits};
use kiln_ir::Graph;
use kiln_runtime::{AlignedBuffer, Executor, PoolHandle, TensorSpec};
use kiln_tests::models::folder;
use kiln_tests::target::chosen;

fn main() -> Result<(), Box<dyn Error>> {
    let options = CompileOptions { target: chosen(), ..CompileOptions::default() };
    let embedded = options.clone().dim("batch", 1);
    a_run_after_the_first_touches_no_allocator("the embedded network", &digits::graph()?, &embedded)?;
    let path = folder().join("bench/resnet50.onnx");
    if path.exists() {
        let graph = import(&path, &ImportOptions::default())?.graph;
        a_run_after_the_first_touches_no_allocator("ResNet-50", &graph, &options)?;
    } else {
        println!("skipped ResNet-50: fetch it with `python3 tests/models/fetch.py --bench`");
    }
    Ok(())
}

fn a_run_after_the_first_touches_no_allocator(
    name: &str,
    graph: &Graph,
    options: &CompileOptions,
) -> Result<(), Box<dyn Error>> {
    let executable = compile(graph, options)?.executable()?;
    let buffers = |specs: &[TensorSpec]| -> Vec<AlignedBuffer> {
        specs.iter().map(|spec| AlignedBuffer::zeroed(spec.byte_len().unwrap_or(0))).collect()
    };
    let (inputs, mut outputs) = (buffers(&executable.signature().inputs), buffers(&executable.signature().outputs));
    for threads in [1, 2] {
        let mut executor = Executor::new(executable.clone(), PoolHandle::new(threads))?;
        let fed: Vec<&[u8]> = inputs.iter().map(|b| &b[..]).collect();
        let mut made: Vec<&mut [u8]> = outputs.iter_mut().map(|b| &mut b[..]).collect();
        executor.run(&fed, &mut made)?;
        let before = calls();
        for _ in 0..3 {
            executor.run(&fed, &mut made)?;
        }
        let made_calls = calls() - before;
        assert_eq!(made_calls, 0, "{name} on {threads} threads");
        println!("{name} on {threads} threads: ok");
    }
    Ok(())
}
