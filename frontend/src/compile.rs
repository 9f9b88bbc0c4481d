//! From a graph to something that runs: specialise, optimise, lower, generate code.
//!
//! This is the one place where the crates meet:
//!
//! ```text
//! Graph ──specialize──► ──passes──► ──codegen──► kernels + plan + weights ──► Executable (in this process)
//!                                                                        ├──► Artifact (a file)
//!                                                                        └──► Embedding (an object file, a C header)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_codegen::NativeModule;
use kiln_codegen::embed::{EmbedError, Embedding, WeightPlace};
use kiln_codegen::kir::Kernel;
use kiln_codegen::native::{self, CompiledKernel, Target};
use kiln_codegen::tuning::{Choices, Decision};
use kiln_ir::Graph;
use kiln_ir::specialize::{SpecializeErrors, specialize};
use kiln_passes::{Optimized, PassError, Provenance, Report};
use kiln_runtime::artifact::PortableCompiler;
use kiln_runtime::artifact::{Artifact, ArtifactError, NativePart, PortableModel, PortablePart};
use kiln_runtime::{Executable, KernelCode, Plan};

/// What is bound, which passes run, and for which machine.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// Extents of symbolic dims.
    pub dims: BTreeMap<String, usize>,
    /// Passes and rules.
    pub passes: kiln_passes::Options,
    /// The machine; `None` is this one.
    pub target: Option<Target>,
    /// More machines, whose code artifacts carry as well, each with what is known about layers there: loading picks the best half
    /// that runs.
    pub more_targets: Vec<(Target, Arc<Choices>)>,
    /// Threads that compile; `None` is as many as there are.
    pub threads: Option<usize>,
    /// Uses only algorithms that multiply what the graph multiplies: no Winograd convolutions. Kept in the graph's metadata
    /// ([`EXACT`]), so that it holds wherever an artifact's graph is compiled again.
    pub exact: bool,
    /// What is known about convolutions and products of the machine, by measuring them: see [`crate::tune`]. All others are estimated.
    pub choices: Arc<Choices>,
}

impl Default for CompileOptions {
    /// Everything on, for this machine.
    fn default() -> CompileOptions {
        CompileOptions {
            dims: BTreeMap::new(),
            passes: kiln_passes::Options::default(),
            target: None,
            more_targets: Vec::new(),
            threads: None,
            exact: false,
            choices: Arc::default(),
        }
    }
}

impl CompileOptions {
    /// With a symbolic dim bound.
    pub fn dim(mut self, name: &str, extent: usize) -> CompileOptions {
        self.dims.insert(name.to_owned(), extent);
        self
    }
}

/// Why a graph could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Symbolic dims are left, or bindings name none.
    #[error(transparent)]
    Specialize(#[from] SpecializeErrors),
    /// A pass failed.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// No code can be made of the optimised graph.
    #[error(transparent)]
    Codegen(#[from] kiln_codegen::CompileError),
    /// The target is not supported.
    #[error(transparent)]
    Target(#[from] native::TargetError),
    /// The artifact cannot be made or written.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// No object file and no header can be made.
    #[error(transparent)]
    Embed(#[from] EmbedError),
}

/// The metadata entry of a graph that must be compiled with [`CompileOptions::exact`]: `true`.
pub const EXACT: &str = "kiln.exact";

/// Time of each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompileTimes {
    /// Specialising, and all passes with their verification.
    pub optimize: Duration,
    /// Lowering to kernels, memory planning and weight packing.
    pub lower: Duration,
    /// Machine code.
    pub generate: Duration,
}

impl CompileTimes {
    /// All stages.
    pub fn total(&self) -> Duration {
        self.optimize + self.lower + self.generate
    }
}

/// A compiled graph: kernels, plan and weights for one target, and how they came about.
#[derive(Debug)]
pub struct Compiled {
    source: Graph,
    optimized: Optimized,
    native: NativeModule,
    more_natives: Vec<NativeModule>,
    times: CompileTimes,
}

/// A graph after all passes.
#[derive(Debug)]
pub struct Optimization {
    /// The graph with its dims bound, before any pass.
    pub source: Graph,
    /// The graph after them, and what they did.
    pub optimized: Optimized,
    /// Whether [`CompileOptions::exact`] holds for it.
    pub exact: bool,
}

/// Binds dims and runs the passes.
pub fn optimize(graph: &Graph, options: &CompileOptions) -> Result<Optimization, CompileError> {
    let mut source = specialize(graph, &options.dims)?;
    let exact = options.exact || source.metadata().get(EXACT).is_some_and(|v| v == "true");
    if exact {
        source.set_metadata(EXACT, "true");
    }
    let optimized = kiln_passes::optimize(&source, &options.passes)?;
    Ok(Optimization { source, optimized, exact })
}

/// Compiles `graph`.
pub fn compile(graph: &Graph, options: &CompileOptions) -> Result<Compiled, CompileError> {
    let target = match &options.target {
        Some(target) => target.clone(),
        None => Target::host()?,
    };
    let available = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.unwrap_or_else(available);
    let start = Instant::now();
    let Optimization { source, optimized, exact } = optimize(graph, options)?;
    let mut times = CompileTimes { optimize: start.elapsed(), ..CompileTimes::default() };
    let mut generate = |target: &Target, choices: &Arc<Choices>| -> Result<NativeModule, CompileError> {
        let start = Instant::now();
        let choices = Arc::clone(choices);
        let options = kiln_codegen::CompileOptions { threads, exact, choices };
        let module = kiln_codegen::compile(&optimized.graph, target, options)?;
        times.lower += start.elapsed();
        let start = Instant::now();
        let native = module.native()?;
        times.generate += start.elapsed();
        Ok(native)
    };
    let native = generate(&target, &options.choices)?;
    let more_natives = options.more_targets.iter().map(|(target, choices)| generate(target, choices));
    let more_natives = more_natives.collect::<Result<_, _>>()?;
    Ok(Compiled { source, optimized, native, more_natives, times })
}

/// Which halves an artifact has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArtifactOptions {
    /// The optimised graph as text, with its weights: runs on any machine that has the compiler or the interpreter.
    pub portable: bool,
    /// Machine code: runs with the runtime alone.
    pub native: bool,
}

impl Default for ArtifactOptions {
    fn default() -> ArtifactOptions {
        ArtifactOptions { portable: true, native: true }
    }
}

impl Compiled {
    /// The graph that was compiled, dims bound, before any pass.
    pub fn source(&self) -> &Graph {
        &self.source
    }

    /// The graph after all passes.
    pub fn graph(&self) -> &Graph {
        &self.optimized.graph
    }

    /// What each pass did.
    pub fn report(&self) -> &Report {
        &self.optimized.report
    }

    /// Where each node of [`Compiled::graph`] comes from.
    pub fn provenance(&self) -> &Provenance {
        &self.optimized.provenance
    }

    /// How each convolution and product is computed, and why.
    pub fn decisions(&self) -> &[Decision] {
        self.native.module().decisions()
    }

    /// The same of all [`Compiled::targets`].
    pub fn decisions_by_target(&self) -> impl Iterator<Item = (&Target, &[Decision])> {
        let modules = std::iter::once(&self.native).chain(&self.more_natives).map(NativeModule::module);
        modules.map(|module| (module.target(), module.decisions()))
    }

    /// The execution plan.
    pub fn plan(&self) -> &Plan {
        self.native.module().plan()
    }

    /// The kernels, as the plan numbers them.
    pub fn kernels(&self) -> &[Kernel] {
        self.native.module().kernels()
    }

    /// Machine code of the kernels.
    pub fn code(&self) -> &[CompiledKernel] {
        self.native.code()
    }

    /// The machine it is for.
    pub fn target(&self) -> &Target {
        self.native.module().target()
    }

    /// All machines that the program is compiled for, [`Compiled::target`] first.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        std::iter::once(&self.native).chain(&self.more_natives).map(|native| native.module().target())
    }

    /// How long each stage took.
    pub fn times(&self) -> CompileTimes {
        self.times
    }

    /// The program, callable in this process.
    pub fn executable(&self) -> Result<Arc<Executable>, CompileError> {
        Ok(self.native.executable()?)
    }

    /// The artifact, to be written to a file.
    pub fn artifact(&self, options: &ArtifactOptions) -> Result<Artifact, CompileError> {
        let modules = std::iter::once(&self.native).chain(&self.more_natives);
        Ok(Artifact {
            signature: self.plan().signature.clone(),
            portable: options.portable.then(|| self.portable_part(options.native)),
            natives: modules.filter(|_| options.native).map(native_part).collect(),
            profile: None,
        })
    }

    /// The program for [`Compiled::target`] as an object file and a C header, to be linked into programs without Kiln. Identifiers of
    /// the header begin with `name`.
    pub fn embedding(&self, name: &str, weights: WeightPlace) -> Result<Embedding<'_>, CompileError> {
        Ok(Embedding::new(&self.native, name, weights)?)
    }

    /// The optimised graph. Beside a native half, weights that it has packed are not stored again.
    fn portable_part(&self, beside_native: bool) -> PortablePart {
        let mut part = PortablePart::of(&self.optimized.graph);
        for (plain, place) in self.native.module().packed().iter().filter(|_| beside_native) {
            part.pack(plain, place);
        }
        part
    }
}

fn native_part(native: &NativeModule) -> NativePart {
    let module = native.module();
    let mut code = KernelCode::new();
    for (kernel, compiled) in module.kernels().iter().zip(native.code()) {
        code.push(kernel.name.as_str(), compiled.code());
    }
    NativePart {
        triple: module.target().triple().to_string(),
        features: module.feature_names().iter().map(|f| (*f).to_owned()).collect::<BTreeSet<_>>(),
        plan: module.plan().clone(),
        code,
        weights: module.weights().clone(),
    }
}

/// Compiles the portable half of artifacts; what [`kiln_runtime::artifact::load`] is given.
#[derive(Clone, Debug, Default)]
pub struct Compiler(pub CompileOptions);

impl PortableCompiler for Compiler {
    fn compile(&self, model: PortableModel) -> Result<Arc<Executable>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(compile(&model.graph, &self.0)?.executable()?)
    }
}
