//! Compiled graphs against the reference interpreter.
#![allow(dead_code, reason = "each test binary uses a part")]

use kiln_codegen::kir::{self, math};
use kiln_codegen::lower::Machine;
use kiln_codegen::native::{Features, Target};
use kiln_codegen::{CompileOptions, CompiledModule, compile, compile_for};
use kiln_ir::interp::{self, State};
use kiln_ir::{Builder, DType, Dim, Graph, Tensor, Value};
use kiln_runtime::{Buffer, Executor, PoolHandle, Work};

/// A generator of reproducible numbers.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Uniform in [−1, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// A tensor: floats in [−2, 2), integers over a range in which products wrap for the narrow dtypes.
    pub fn tensor(&mut self, dtype: DType, dims: &[usize]) -> Tensor {
        let values: Vec<f64> = (0..dims.iter().product())
            .map(|_| match dtype {
                DType::Bool => f64::from(u8::from(self.next() & 1 == 1)),
                DType::I64 | DType::I32 => (self.unit() * 1000.0).round(),
                DType::I8 => (self.unit() * 127.0).round(),
                DType::U8 => (self.unit().abs() * 255.0).round(),
                _ => self.unit() * 2.0,
            })
            .collect();
        Tensor::from_f64(dtype, dims, &values).expect("as many values as elements")
    }
}

/// A builder with placeholders that get random values.
pub struct Case {
    pub b: Builder,
    pub feeds: Vec<(String, Tensor)>,
    pub numbers: Numbers,
}

impl Case {
    pub fn new(seed: u64) -> Case {
        Case { b: Builder::new("case"), feeds: Vec::new(), numbers: Numbers::new(seed) }
    }

    pub fn input(&mut self, dtype: DType, dims: &[usize]) -> Value {
        let value = self.numbers.tensor(dtype, dims);
        self.feed(value)
    }

    /// A placeholder fed with this tensor.
    pub fn feed(&mut self, value: Tensor) -> Value {
        let name = format!("x{}", self.feeds.len());
        let dims: Vec<Dim> = value.dims().iter().map(|&d| Dim::Fixed(d)).collect();
        let v = self.b.placeholder(&name, value.dtype(), &dims);
        self.feeds.push((name, value));
        v
    }

    pub fn constant(&mut self, dtype: DType, dims: &[usize]) -> Value {
        let value = self.numbers.tensor(dtype, dims);
        self.b.constant(value)
    }

    /// Compiles and runs, and compares with the interpreter; differences are relative to the largest expected value.
    pub fn check(mut self, outputs: &[Value], tolerance: f64) -> CompiledModule {
        for (i, &v) in outputs.iter().enumerate() {
            self.b.output(&format!("y{i}"), v);
        }
        let graph = self.b.finish().expect("the test's graph is well-formed");
        check(&graph, &self.feeds, tolerance)
    }
}

/// Compiles and runs `graph` on one and on three threads, and compares with the interpreter.
pub fn check(graph: &Graph, feeds: &[(String, Tensor)], tolerance: f64) -> CompiledModule {
    let named: Vec<(&str, Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    let want = interp::run::<f32>(graph, &named, Some(&mut State::new())).expect("the interpreter runs it");
    let [target, half, portable] = targets();
    let options = || CompileOptions { threads: 2, ..CompileOptions::default() };
    let module = compile(graph, &target, options()).unwrap_or_else(|e| panic!("{e}\n{graph}"));
    run(graph, &module, feeds, &want, tolerance);
    let narrower = compile(graph, &half, options()).unwrap_or_else(|e| panic!("{e}\n{graph}"));
    run(graph, &narrower, feeds, &want, tolerance);
    // Cranelift, with its own tiles and vectors, and with those for wider registers, which it legalises
    for machine in [kiln_codegen::compile::machine(&portable), Machine::X86_64_512_VNNI] {
        let module = compile_for(graph, &portable, machine, options()).unwrap_or_else(|e| panic!("{e}\n{graph}"));
        run(graph, &module, feeds, &want, tolerance);
    }
    module
}

/// What this machine can run: code with its widest vectors, with half of them, and Cranelift's.
pub fn targets() -> [Target; 3] {
    let host = Target::host().expect("this machine is supported");
    let half = Target::new(host.triple().clone(), host.features().min(Features::V3)).expect("a level below the host's");
    [host.clone(), half, host.portable()]
}

/// Runs a plan by interpreting its kernels, which checks every access.
pub fn interpret(module: &CompiledModule, inputs: &[Tensor]) -> Vec<Vec<u8>> {
    let plan = module.plan();
    let size = |spec: &kiln_runtime::TensorSpec| spec.byte_len().expect("small");
    let mut arena = vec![0xCD; plan.arena_bytes];
    let mut outputs: Vec<Vec<u8>> = plan.signature.outputs.iter().map(|s| vec![0; size(s)]).collect();
    let weights: Vec<u8> = (0..plan.weight_bytes).map(|_| 0).collect();
    let mut weights = weights;
    for segment in module.weights().segments() {
        weights[segment.offset..segment.offset + segment.bytes.len()].copy_from_slice(&segment.bytes);
    }
    for step in &plan.steps {
        let arguments: Vec<_> = step.work.arguments().cloned().collect();
        let mut buffers: Vec<Vec<u8>> = Vec::new();
        for a in &arguments {
            let range = a.offset..a.offset + a.len;
            buffers.push(match plan.buffers[a.buffer] {
                Buffer::Input(i) => inputs[i].bytes()[range].to_vec(),
                Buffer::Output(i) => outputs[i][range].to_vec(),
                Buffer::Weight { offset, .. } => weights[offset..][range].to_vec(),
                Buffer::Arena { offset, .. } => arena[offset..][range].to_vec(),
                Buffer::State(_) => panic!("the cases interpreted here have no state"),
            });
        }
        match &step.work {
            Work::Kernel { kernel, extent, .. } => {
                let kernel = math::expand(&module.kernels()[*kernel]);
                kir::interpret(&kernel, &mut buffers, 0..*extent as i64, module.target().has_fma())
                    .unwrap_or_else(|e| panic!("{}: {e}", step.label));
            }
            Work::Copy { .. } => buffers[1] = buffers[0].clone(),
            Work::Fill { to, element } => {
                let element = &element.to_le_bytes()[..to.dtype.size()];
                buffers[0].chunks_mut(element.len()).for_each(|chunk| chunk.copy_from_slice(element));
            }
        }
        for (a, bytes) in arguments.iter().zip(buffers).filter(|(a, _)| a.access.writes()) {
            let range = a.offset..a.offset + a.len;
            match plan.buffers[a.buffer] {
                Buffer::Output(i) => outputs[i][range].copy_from_slice(&bytes),
                Buffer::Arena { offset, .. } => arena[offset..][range].copy_from_slice(&bytes),
                _ => panic!("{}: writes to what is read only", step.label),
            }
        }
    }
    outputs
}

fn run(graph: &Graph, module: &CompiledModule, feeds: &[(String, Tensor)], want: &[(String, Tensor)], tolerance: f64) {
    let executable = module.executable().unwrap_or_else(|e| panic!("{e}\n{}", module.dump()));
    let refs: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let mut first: Option<Vec<(String, Tensor)>> = None;
    for threads in [1, 3] {
        let mut executor = Executor::new(executable.clone(), PoolHandle::new(threads)).expect("memory");
        let got = executor.run_named(&refs).expect("the feeds fit");
        for ((name, got), (_, want)) in got.iter().zip(want) {
            compare(name, got, want, tolerance, graph);
        }
        match &first {
            None => first = Some(got),
            Some(first) => {
                for ((name, a), (_, b)) in first.iter().zip(&got) {
                    assert_eq!(a.bytes(), b.bytes(), "{name} depends on the number of threads");
                }
            }
        }
    }
}

pub fn compare(name: &str, got: &Tensor, want: &Tensor, tolerance: f64, graph: &Graph) {
    assert_eq!((got.dtype(), got.dims()), (want.dtype(), want.dims()), "{name}\n{graph}");
    let (g, w) = (got.to_f64_vec(), want.to_f64_vec());
    let scale = w.iter().filter(|v| v.is_finite()).fold(0f64, |m, v| m.max(v.abs())).max(1e-6);
    for (i, (g, w)) in g.iter().zip(&w).enumerate() {
        let same = g == w || (g.is_nan() && w.is_nan());
        let close = (g - w).abs() <= tolerance * scale;
        assert!(same || close, "{name}[{i}]: got {g}, expected {w} (scale {scale})\n{graph}");
    }
}
