//! An execution plan as text.

use std::fmt::Write;

use kiln_runtime::{Access, Argument, Buffer, Plan, Split, Work};

use crate::output::tensor_type;

/// Buffers and steps, a line each.
pub fn plan_text(plan: &Plan) -> String {
    let mut out = format!(
        "plan: {} steps, {} kernels, arena {} bytes (lower bound {}), weights {} bytes, scratch {} bytes a thread\n\nbuffers\n",
        plan.steps.len(),
        plan.kernel_count,
        plan.arena_bytes,
        plan.arena_lower_bound,
        plan.weight_bytes,
        plan.scratch_bytes
    );
    for (index, buffer) in plan.buffers.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "  b{index:<4} {}", place(plan, buffer));
    }
    out.push_str("\nsteps\n");
    for (index, step) in plan.steps.iter().enumerate() {
        let _ = writeln!(out, "  {index:<4} {}: {}", step.label, work(&step.work));
    }
    out
}

fn place(plan: &Plan, buffer: &Buffer) -> String {
    let signature = &plan.signature;
    let named = |what: &str, spec: Option<&kiln_runtime::TensorSpec>| {
        spec.map_or(what.to_owned(), |s| format!("{what} {}: {}", s.name, tensor_type(s.dtype, &s.dims)))
    };
    match *buffer {
        Buffer::Input(i) => named("input", signature.inputs.get(i)),
        Buffer::Output(i) => named("output", signature.outputs.get(i)),
        Buffer::State(i) => named("state", plan.states.get(i).map(|s| &s.spec)),
        Buffer::Weight { offset, len } => format!("weights[{offset}..{}]", offset.saturating_add(len)),
        Buffer::Arena { offset, len } => format!("arena[{offset}..{}]", offset.saturating_add(len)),
    }
}

fn work(work: &Work) -> String {
    match work {
        Work::Kernel { kernel, arguments, extent, split } => {
            let views: Vec<String> = arguments.iter().map(view).collect();
            let split = match split {
                Split::Serial => "serial".to_owned(),
                Split::Parallel { grain } => format!("parallel, grain {grain}"),
            };
            format!("kernel {kernel} over {extent} ({split}) {}", views.join(", "))
        }
        Work::Copy { from, to } => format!("copy {}, {}", view(from), view(to)),
        Work::Fill { to, element } => format!("fill {} with {element:#x}", view(to)),
    }
}

fn view(argument: &Argument) -> String {
    let access = match argument.access {
        Access::Read => "read",
        Access::Write => "write",
        Access::ReadWrite => "update",
    };
    let end = argument.offset.saturating_add(argument.len);
    let gaps = if argument.strided { " with gaps" } else { "" };
    format!("{access} b{}[{}..{end}] {}{gaps}", argument.buffer, argument.offset, argument.dtype)
}
