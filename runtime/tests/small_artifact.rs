//! An artifact of a few elements: written, read back, damaged, and run by kernels that are Rust functions. Small, because Miri runs
//! this file: it sees memory that is misused, also where nothing goes wrong. What it does not see is mapping files and code.

mod common;

use std::sync::Arc;

use artifact::{
    Digests, NativeOptions, NativePart, PackedWeight, PortableCompiler, PortableModel, PortablePart, inspect,
    interpret, load, load_native, read_portable,
};
use bytes::Bytes;
use common::{ADD_CODE, add, sign};
use kiln_ir::DType::F32;
use kiln_ir::{Graph, Tensor};
use kiln_runtime::*;

/// Elements: more than a text writes out, so that weights are named by their contents.
const N: usize = 24;

/// Damaged files of each kind. Miri takes some thousand times as long.
const CASES: usize = if cfg!(miri) { 8 } else { 20_000 };

/// 0 … N − 1, the last half of which come first.
fn weight(swapped: bool) -> Tensor {
    let rotation = if swapped { N / 2 } else { 0 };
    let values: Vec<f32> = (0..N).map(|i| ((i + rotation) % N) as f32).collect();
    Tensor::from_slice(&[N], &values).unwrap()
}

/// `y = x + w`, where `w` is stored with its halves swapped.
fn graph() -> Graph {
    let w = weight(true);
    let text = format!(
        "kiln 1
graph @small(%x: f32[{N}]) -> (%y: f32[{N}]) {{
  %w = constant @{} : f32[{N}]
  %y = add %x, %w
}}
",
        w.content_id().to_hex()
    );
    kiln_ir::text::parse_with(&text, "small", &|id| (*id == w.content_id()).then(|| w.clone())).unwrap()
}

/// The same, of the weight as it is stored.
fn plan() -> (Plan, Weights) {
    let mut weights = WeightsBuilder::new();
    let offset = weights.push(weight(false).bytes().clone());
    let weights = weights.finish();
    let bytes = 4 * N;
    let arguments =
        vec![Argument::read(0, F32, 0, bytes), Argument::read(2, F32, 0, bytes), Argument::write(1, F32, 0, bytes)];
    let plan = Plan {
        signature: Signature {
            inputs: vec![TensorSpec::new("x", F32, [N])],
            outputs: vec![TensorSpec::new("y", F32, [N])],
            metadata: [].into(),
        },
        states: Vec::new(),
        buffers: vec![Buffer::Input(0), Buffer::Output(0), Buffer::Weight { offset, len: bytes }],
        steps: vec![Step {
            label: "add x w".to_owned(),
            work: Work::Kernel { kernel: 0, arguments, extent: N, split: Split::Parallel { grain: 8 } },
            flops: N as u64,
            bytes: 3 * bytes as u64,
            scratch_bytes: 0,
            note: String::new(),
        }],
        kernel_count: 1,
        weight_bytes: weights.len(),
        arena_bytes: 0,
        arena_lower_bound: 0,
        scratch_bytes: 0,
    };
    (plan, weights)
}

/// Both halves, the native one for a machine that is not this one: it is read and checked, and its code is not mapped.
fn sample() -> Bytes {
    let (plan, weights) = plan();
    let signature = plan.signature.clone();
    let profile = Some(Profile::new(&plan));
    let mut code = KernelCode::new();
    code.push("add", ADD_CODE);
    let features = ["avx9999".to_owned()].into();
    let native = NativePart { triple: cpu::host_triple(), features, plan, code, weights };
    let mut portable = PortablePart::of(&graph());
    let run = |start| Piece { start, loops: vec![(N / 2, 1)], padding: 0 };
    let relayout = Relayout { pieces: vec![run(N / 2), run(0)] };
    let place = PackedWeight { native: 0, offset: 0, len: 4 * N, relayout };
    assert_eq!(portable.pack(&weight(true), &place), 1);
    Artifact { signature, portable: Some(portable), natives: vec![native], profile }.to_bytes().unwrap()
}

/// A compiler that knows one graph.
struct Known;

impl PortableCompiler for Known {
    fn compile(&self, model: PortableModel) -> Result<Arc<Executable>, Box<dyn std::error::Error + Send + Sync>> {
        if model.graph != graph() {
            return Err("not the graph this test compiles".into());
        }
        let mut weights = WeightsBuilder::new();
        weights.push(weight(true).bytes().clone());
        let (plan, weights) = (plan().0, weights.finish());
        // SAFETY: the kernel touches exactly what the plan's arguments declare.
        Ok(unsafe { Executable::new(plan, KernelTable::new(vec![add], Arc::new(())), weights) }?)
    }
}

/// Everything that reads an artifact. Whether each refused the bytes.
fn refused(bytes: &[u8]) -> [bool; 4] {
    let file = Bytes::copy_from_slice(bytes);
    let options = NativeOptions { verify_weights: true, fallback: Some(&Known), ..NativeOptions::default() };
    // SAFETY: no machine has the feature that the native half asks for, and the other half has kernels of this program.
    let native = unsafe { load_native(&file, options) };
    [
        inspect(&file, Digests::Skip).is_err(),
        inspect(&file, Digests::Check).is_err(),
        read_portable(&file).is_err(),
        native.is_err(),
    ]
}

/// A number below `n` (xorshift64, Marsaglia 2003).
fn below(state: &mut u64, n: usize) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as usize % n
}

/// The sample with some bytes replaced.
fn damaged(bytes: &[u8], state: &mut u64) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=below(state, 3) {
        let at = below(state, out.len());
        let new = match below(state, 4) {
            0 => out[at] ^ (1 << below(state, 8)),
            1 => 0,
            2 => 255,
            _ => below(state, 256) as u8,
        };
        out[at] = new;
    }
    out
}

#[test]
fn a_small_artifact_is_read_interpreted_and_run() {
    let file = sample();
    assert_eq!(refused(&file), [false; 4]);
    let summary = inspect(&file, Digests::Check).unwrap();
    assert_eq!((summary.natives.len(), summary.sections.len()), (1, 7));
    assert!(summary.portable.unwrap().weights.iter().all(|w| w.packed));
    assert_eq!(read_portable(&file).unwrap().graph, graph());
    let x = Tensor::from_slice(&[N], &[0.5f32; N]).unwrap();
    let want: Vec<f32> = (0..N).map(|i| 0.5 + ((i + N / 2) % N) as f32).collect();
    let interpreted = interpret(&file).unwrap().run_tensors(&[&x]).unwrap();
    assert_eq!(interpreted[0].to_vec::<f32>().unwrap(), want);
    let mut executor = Executor::new(load(&file, &Known).unwrap(), PoolHandle::new(2)).unwrap();
    for _ in 0..2 {
        assert_eq!(executor.run_tensors(&[&x]).unwrap()[0].to_vec::<f32>().unwrap(), want);
    }
}

#[test]
fn a_small_artifact_cut_short_is_refused() {
    let bytes = sample();
    for case in 0..CASES.min(bytes.len()) {
        let len = if CASES < bytes.len() { case * bytes.len() / CASES } else { case };
        assert_eq!(refused(&bytes[..len]), [true; 4], "the first {len} of {} bytes", bytes.len());
    }
}

#[test]
fn a_small_artifact_with_damaged_bytes_is_refused_by_its_digests() {
    let (bytes, mut state) = (sample(), 0x9E37_79B9_7F4A_7C15);
    for _ in 0..CASES {
        let damaged = damaged(&bytes, &mut state);
        if damaged != bytes {
            assert!(inspect(&Bytes::from(damaged), Digests::Check).is_err());
        }
    }
}

/// With the right digests what lies behind them is reached.
#[test]
fn a_small_artifact_with_damaged_bytes_and_their_digests_is_refused_or_right() {
    let (bytes, mut state) = (sample(), 0xD1B5_4A32_D192_ED03);
    let mut read = 0;
    for _ in 0..CASES {
        let mut damaged = damaged(&bytes, &mut state);
        if damaged[12..16] != bytes[12..16] {
            continue; // the number of sections, which says where digests are
        }
        sign(&mut damaged);
        let [.., portable, _] = refused(&damaged);
        if !portable {
            read += 1;
            let file = Bytes::from(damaged);
            let mut model = interpret(&file).unwrap();
            let inputs: Vec<Tensor> =
                model.signature().inputs.iter().map(|spec| Tensor::zeros(spec.dtype, &spec.dims).unwrap()).collect();
            let _ = model.run_tensors(&inputs.iter().collect::<Vec<_>>());
        }
    }
    assert!(read > 0, "no damage was left unnoticed: nothing behind the digests was reached");
}
