//! What compiling makes of a graph, as text that stays the same from machine to machine: kernels, CLIF, artifacts.

use std::fmt::Write;

use kiln::compile::{ArtifactOptions, CompileOptions, Compiled, compile};
use kiln_codegen::clif::emit_clif;
use kiln_codegen::native::Target;
use kiln_ir::Graph;
use kiln_runtime::artifact::{Digests, inspect, native_code};
use kiln_runtime::{Access, Argument, Buffer, Plan, Split, TensorSpec, Work};

/// The machine that snapshots are of, whichever one makes them; Cranelift's code, so that one machine has all stages.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Kir,
    Clif,
    Artifact,
}

/// The text of `stage` for `graph`.
pub(super) fn show(graph: &Graph, stage: Stage) -> Result<String, String> {
    let triple = TRIPLE.parse().map_err(|e| format!("{TRIPLE}: {e}"))?;
    let target = Target::new(triple, kiln_codegen::native::Features::V3).map_err(text)?.portable();
    let options = CompileOptions { target: Some(target), threads: Some(1), ..CompileOptions::default() };
    let compiled = compile(graph, &options).map_err(text)?;
    match stage {
        Stage::Kir => Ok(compiled.kernels().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        Stage::Clif => clif(&compiled),
        Stage::Artifact => artifact(&compiled),
    }
}

fn clif(compiled: &Compiled) -> Result<String, String> {
    let mut out = String::new();
    for kernel in compiled.kernels() {
        let listing = emit_clif(kernel, compiled.target()).map_err(text)?;
        // Writing to a string cannot fail.
        let _ = writeln!(out, "; {}\n{}", kernel.name, listing.clif);
    }
    Ok(out)
}

/// What `kiln inspect` says of the artifact, and its plan, but for what changes with every version and with every byte
/// of code: producer, digests, and where code and plan end.
fn artifact(compiled: &Compiled) -> Result<String, String> {
    let file = compiled.artifact(&ArtifactOptions::default()).map_err(text)?.to_bytes().map_err(text)?;
    let summary = inspect(&file, Digests::Check).map_err(text)?;
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    let signature = &summary.signature;
    signature.inputs.iter().for_each(|s| line(format!("input {}", spec(s))));
    signature.outputs.iter().for_each(|s| line(format!("output {}", spec(s))));
    signature.metadata.iter().for_each(|(key, value)| line(format!("metadata {key} = {value}")));
    line(format!("weights {} bytes", summary.weight_bytes));
    for weight in summary.portable.iter().flat_map(|p| &p.weights) {
        let order = if weight.packed { ", in native order" } else { "" };
        line(format!("  {}: {}{:?}{order}", weight.content.get(..8).unwrap_or_default(), weight.dtype, weight.dims));
    }
    let kinds: Vec<&str> = summary.sections.iter().map(|s| s.kind.name()).collect();
    line(format!("sections {}", kinds.join(", ")));
    for (index, native) in summary.natives.iter().enumerate() {
        let features: Vec<&str> = native.features.iter().map(String::as_str).collect();
        line(format!("native {} with {}", native.triple, features.join(", ")));
        line(format!("  {} flops a run, {} bytes of scratch a thread", native.flops, native.scratch_bytes));
        line(format!("  arena {} bytes, lower bound {}", native.arena_bytes, native.arena_lower_bound));
        let (plan, _) = native_code(&file, index).map_err(text)?.ok_or("a native part that is not there")?;
        for (number, buffer) in plan.buffers.iter().enumerate() {
            line(format!("  b{number} = {}", place(&plan, buffer)));
        }
        for step in &plan.steps {
            line(format!("  {}: {}", step.label, work(&step.work, &native.kernels)));
        }
    }
    Ok(out)
}

fn spec(s: &TensorSpec) -> String {
    format!("{}: {}{:?}", s.name, s.dtype, s.dims)
}

fn place(plan: &Plan, buffer: &Buffer) -> String {
    let named = |what: &str, s: Option<&TensorSpec>| format!("{what} {}", s.map_or("?", |s| s.name.as_str()));
    match *buffer {
        Buffer::Input(i) => named("input", plan.signature.inputs.get(i)),
        Buffer::Output(i) => named("output", plan.signature.outputs.get(i)),
        Buffer::State(i) => named("state", plan.states.get(i).map(|s| &s.spec)),
        Buffer::Weight { offset, len } => format!("weights[{offset}..{}]", offset + len),
        Buffer::Arena { offset, len } => format!("arena[{offset}..{}]", offset + len),
    }
}

fn work(work: &Work, kernels: &[(String, usize)]) -> String {
    match work {
        Work::Kernel { kernel, arguments, extent, split } => {
            let name = kernels.get(*kernel).map_or("?", |(name, _)| name.as_str());
            let views: Vec<String> = arguments.iter().map(view).collect();
            let split = match split {
                Split::Serial => "serial".to_owned(),
                Split::Parallel { grain } => format!("parallel by {grain}"),
            };
            format!("{name} over {extent}, {split}: {}", views.join(", "))
        }
        Work::Copy { from, to } => format!("copy {} to {}", view(from), view(to)),
        Work::Fill { to, element } => format!("fill {} with {element:#x}", view(to)),
    }
}

fn view(a: &Argument) -> String {
    let access = match a.access {
        Access::Read => "read",
        Access::Write => "write",
        Access::ReadWrite => "update",
    };
    let gaps = if a.strided { " with gaps" } else { "" };
    format!("{access} b{}[{}..{}]{gaps}", a.buffer, a.offset, a.offset + a.len)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
