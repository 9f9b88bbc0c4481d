//! A small program whose kernels are Rust functions, shared by the tests.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::sync::Arc;

use bytes::Bytes;
use kiln_ir::DType::F32;
use kiln_runtime::*;

/// `args[2][i] = args[0][i] + args[1][i]`, elements f32.
pub unsafe extern "C" fn add(args: *const *mut u8, _scratch: *mut u8, begin: i64, end: i64) {
    unsafe {
        let (a, b, c) = ((*args).cast::<f32>(), (*args.add(1)).cast::<f32>(), (*args.add(2)).cast::<f32>());
        for i in begin as usize..end as usize {
            *c.add(i) = *a.add(i) + *b.add(i);
        }
    }
}

/// `args[1][i] = args[0][i]²`, through the thread's scratch (4 bytes).
pub unsafe extern "C" fn square(args: *const *mut u8, scratch: *mut u8, begin: i64, end: i64) {
    unsafe {
        let (a, b, kept) = ((*args).cast::<f32>(), (*args.add(1)).cast::<f32>(), scratch.cast::<f32>());
        for i in begin as usize..end as usize {
            *kept = *a.add(i);
            *b.add(i) = *kept * *kept;
        }
    }
}

pub const N: usize = 1000;

/// `y = (x + w)², total = total + x`, with `w[i] = i` and `total` a variable that starts at zero; `copy = x`.
pub fn plan() -> (Plan, Weights) {
    let bytes = 4 * N;
    let mut weights = WeightsBuilder::new();
    let ramp: Vec<u8> = (0..N).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let w = weights.push(Bytes::from(ramp));
    let initial = weights.push(Bytes::from(vec![0; bytes]));
    let weights = weights.finish();
    let kernel = |label: &str, kernel, arguments, grain| Step {
        label: label.to_owned(),
        work: Work::Kernel { kernel, arguments, extent: N, split: Split::Parallel { grain } },
        flops: N as u64,
        bytes: 3 * bytes as u64,
        scratch_bytes: 0,
        note: String::new(),
    };
    let read = |buffer| Argument::read(buffer, F32, 0, bytes);
    let write = |buffer| Argument::write(buffer, F32, 0, bytes);
    let plan = Plan {
        signature: Signature {
            inputs: vec![TensorSpec::new("x", F32, [10, 100])],
            outputs: vec![TensorSpec::new("y", F32, [10, 100]), TensorSpec::new("copy", F32, [10, 100])],
            metadata: [("model".to_owned(), "test".to_owned())].into(),
        },
        states: vec![StateSpec { spec: TensorSpec::new("total", F32, [N]), initial }],
        buffers: vec![
            Buffer::Input(0),
            Buffer::Output(0),
            Buffer::Output(1),
            Buffer::Weight { offset: w, len: bytes },
            Buffer::Arena { offset: 0, len: bytes },
            Buffer::State(0),
        ],
        steps: vec![
            kernel("add x w", 0, vec![read(0), read(3), write(4)], 16),
            kernel("square", 1, vec![read(4), write(1)], 64),
            kernel("accumulate", 0, vec![read(5), read(0), write(5)], 1),
            Step {
                label: "copy".to_owned(),
                work: Work::Copy { from: read(0), to: write(2) },
                flops: 0,
                bytes: 2 * bytes as u64,
                scratch_bytes: 0,
                note: String::new(),
            },
        ],
        kernel_count: 2,
        weight_bytes: weights.len(),
        arena_bytes: bytes,
        arena_lower_bound: bytes,
        scratch_bytes: 4,
    };
    (plan, weights)
}

pub fn kernels() -> KernelTable {
    KernelTable::new(vec![add, square], Arc::new(()))
}

pub fn executable() -> Arc<Executable> {
    let (plan, weights) = plan();
    // SAFETY: the two kernels touch exactly what the plan's arguments declare, and 4 bytes of scratch.
    unsafe { Executable::new(plan, kernels(), weights) }.expect("the plan is valid")
}

pub fn input() -> Vec<f32> {
    (0..N).map(|i| (i as f32 * 0.37).sin()).collect()
}

/// The bytes of `values` at an address that is `misalignment` past a multiple of 64.
pub struct Placed {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Placed {
    pub fn new(values: &[f32], misalignment: usize) -> Placed {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut bytes = vec![0; raw.len() + 128];
        let start = 64 - bytes.as_ptr().addr() % 64 + misalignment;
        bytes[start..start + raw.len()].copy_from_slice(&raw);
        Placed { bytes, start, len: raw.len() }
    }

    pub fn get(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    pub fn get_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }

    pub fn values(&self) -> Vec<f32> {
        self.get().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }
}

/// [`add`] as x86-64 code for the System V calling convention.
pub const ADD_CODE: &[u8] = &[
    0x48, 0x8b, 0x07, // mov rax, [rdi]
    0x4c, 0x8b, 0x47, 0x08, // mov r8, [rdi + 8]
    0x4c, 0x8b, 0x4f, 0x10, // mov r9, [rdi + 16]
    0xf3, 0x0f, 0x10, 0x04, 0x90, // again: movss xmm0, [rax + rdx * 4]
    0xf3, 0x41, 0x0f, 0x58, 0x04, 0x90, // addss xmm0, [r8 + rdx * 4]
    0xf3, 0x41, 0x0f, 0x11, 0x04, 0x91, // movss [r9 + rdx * 4], xmm0
    0x48, 0xff, 0xc2, // inc rdx
    0x48, 0x39, 0xca, // cmp rdx, rcx
    0x7c, 0xe7, // jl again
    0xc3, // ret
];

/// [`square`] as x86-64 code for the System V calling convention, without the scratch.
pub const SQUARE_CODE: &[u8] = &[
    0x48, 0x8b, 0x07, // mov rax, [rdi]
    0x4c, 0x8b, 0x47, 0x08, // mov r8, [rdi + 8]
    0xf3, 0x0f, 0x10, 0x04, 0x90, // again: movss xmm0, [rax + rdx * 4]
    0xf3, 0x0f, 0x59, 0xc0, // mulss xmm0, xmm0
    0xf3, 0x41, 0x0f, 0x11, 0x04, 0x90, // movss [r8 + rdx * 4], xmm0
    0x48, 0xff, 0xc2, // inc rdx
    0x48, 0x39, 0xca, // cmp rdx, rcx
    0x7c, 0xe9, // jl again
    0xc3, // ret
];

/// The program as a native part for `triple`. Its code is x86-64 whatever the triple says.
pub fn native(triple: &str, features: &[&str]) -> artifact::NativePart {
    let (plan, weights) = plan();
    let mut code = KernelCode::new();
    code.push("add", ADD_CODE);
    code.push("square", SQUARE_CODE);
    let features = features.iter().map(|&f| f.to_owned()).collect();
    artifact::NativePart { triple: triple.to_owned(), features, plan, code, weights }
}

/// The portable half: the same program, without the variable. Its weight is the ramp, so that the native half has the
/// same bytes; `shift` begins with 500.
pub fn graph() -> kiln_ir::Graph {
    let text = "kiln 1
graph @test(%x: f32[10, 100]) -> (y = %y, copy = %x) {
  metadata \"model\" = \"test\"
  %w = constant @RAMP : f32[1000]
  %r = reshape %w {dims = [10, 100]} : f32[10, 100]
  %shift = constant @SHIFT : f32[1000]
  %s = reshape %shift {dims = [10, 100]} : f32[10, 100]
  %z = sub %s, %s
  %a = add %x, %r
  %b = add %a, %z
  %y = mul %b, %b
}
";
    let [ramp, shift] = [0, 500].map(ramp);
    let text = text.replace("RAMP", ramp.content_id().to_hex().as_str());
    let text = text.replace("SHIFT", shift.content_id().to_hex().as_str());
    let find = |id: &blake3::Hash| [&ramp, &shift].into_iter().find(|t| t.content_id() == *id).cloned();
    kiln_ir::text::parse_with(&text, "test", &find).expect("the text is right")
}

/// 0 … 999, the first `rotation` of which come last.
pub fn ramp(rotation: usize) -> kiln_ir::Tensor {
    let values: Vec<f32> = (rotation..N).chain(0..rotation).map(|i| i as f32).collect();
    kiln_ir::Tensor::from_slice(&[N], &values).expect("a thousand values")
}

/// An artifact with both halves. The native part holds the portable graph's `shift` as the ramp with its two halves
/// of 500 elements swapped.
pub fn whole(natives: Vec<artifact::NativePart>) -> Artifact {
    let relayout = swapped(500);
    let mut portable = artifact::PortablePart::of(&graph());
    if !natives.is_empty() {
        let place = artifact::PackedWeight { native: 0, offset: 0, len: 4 * N, relayout };
        assert_eq!(portable.pack(&ramp(500).reshape(&[10, 100]).unwrap(), &place), 1);
    }
    Artifact { signature: plan().0.signature, portable: Some(portable), natives, profile: None }
}

/// How the ramp is packed from the ramp that is rotated by `rotation`.
pub fn swapped(rotation: usize) -> Relayout {
    let run = |start, extent| Piece { start, loops: vec![(extent, 1)], padding: 0 };
    Relayout { pieces: vec![run(N - rotation, rotation), run(0, N - rotation)] }
}

/// The number of 8 bytes at `at`.
pub fn number(bytes: &[u8], at: usize) -> usize {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
}

/// Puts the right digests into a file whose contents were changed, so that what lies behind them is reached.
pub fn sign(bytes: &mut [u8]) {
    let count = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let table = 128 + 64 * count;
    for entry in (128..table).step_by(64) {
        let (offset, len) = (number(bytes, entry + 8), number(bytes, entry + 16));
        if let Some(section) = bytes.get(offset..offset.saturating_add(len)) {
            let digest = *blake3::hash(section).as_bytes();
            bytes[entry + 32..entry + 64].copy_from_slice(&digest);
        }
    }
    bytes[64..96].fill(0);
    let digest = *blake3::hash(&bytes[..table]).as_bytes();
    bytes[64..96].copy_from_slice(&digest);
}
