//! The text form of kernels: `kernel.to_string()`. It is for people, snapshots and diffs; nothing parses it.

use std::fmt::{self, Display, Formatter};

use super::index::Index;
use super::kernel::{Access, Block, Buffer, Condition, Inst, Kernel, LoopKind, Statement, Value};

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

impl Display for Index {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let vars = self.terms.iter().map(|&(var, stride)| (format!("i{}", var.0), stride));
        let dynamic = self.dynamic.iter().map(|d| (format!("{}<{}", d.value, d.extent), d.stride));
        let mut first = true;
        for (name, stride) in vars.chain(dynamic) {
            let sign = match (first, stride < 0) {
                (true, false) => "",
                (true, true) => "-",
                (false, false) => " + ",
                (false, true) => " - ",
            };
            match stride.unsigned_abs() {
                1 => write!(f, "{sign}{name}")?,
                factor => write!(f, "{sign}{factor} {name}")?,
            }
            first = false;
        }
        match (first, self.offset) {
            (true, offset) => write!(f, "{offset}"),
            (false, 0) => Ok(()),
            (false, offset) if offset < 0 => write!(f, " - {}", offset.unsigned_abs()),
            (false, offset) => write!(f, " + {offset}"),
        }
    }
}

impl Display for Kernel {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "kernel @{}(", self.name)?;
        for (i, b) in self.buffers.iter().enumerate() {
            let access = match b.access {
                Access::Read => "read",
                Access::Write => "write",
                Access::ReadWrite => "read write",
            };
            let comma = if i == 0 { "" } else { ", " };
            let streamed = if b.streamed { "streamed " } else { "" };
            write!(f, "{comma}{}: {streamed}{access} {}[{}]", b.name, b.dtype, b.len)?;
        }
        write!(f, ")")?;
        for b in &self.scratch {
            write!(f, " scratch {}: {}[{}]", b.name, b.dtype, b.len)?;
        }
        for var in &self.parallel {
            write!(f, " parallel i{} < {}", var.0, self.extent(*var))?;
        }
        writeln!(f, " {{")?;
        block(f, self, &self.body, 1)?;
        writeln!(f, "}}")
    }
}

/// A list separated by commas.
struct List<T>(Vec<T>);

impl<T: Display> Display for List<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// An operation's name: its identifier in snake case.
fn name(op: impl fmt::Debug) -> String {
    let mut name = String::new();
    for c in format!("{op:?}").chars() {
        if c.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

impl Kernel {
    /// What people call a buffer.
    pub fn buffer_name(&self, buffer: Buffer) -> String {
        let name = match buffer {
            Buffer::Param(i) => self.buffers.get(i as usize).map(|b| b.name.clone()),
            Buffer::Scratch(i) => self.scratch.get(i as usize).map(|b| b.name.clone()),
        };
        name.unwrap_or_else(|| format!("{buffer:?}"))
    }

    /// The definition of a value as text, without its type.
    pub(crate) fn describe(&self, value: Value, inst: &Inst) -> String {
        Definition { kernel: self, value, inst }.to_string()
    }
}

/// What defines a value, as text.
struct Definition<'a> {
    kernel: &'a Kernel,
    value: Value,
    inst: &'a Inst,
}

impl Display for Definition<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} = ", self.value)?;
        inst(f, self.kernel, self.value, self.inst)
    }
}

fn block(f: &mut Formatter<'_>, kernel: &Kernel, block: &Block, depth: usize) -> fmt::Result {
    let indent = "  ".repeat(depth);
    for s in &block.statements {
        write!(f, "{indent}")?;
        statement(f, kernel, s, depth)?;
    }
    if !block.yields.is_empty() {
        writeln!(f, "{indent}yield {}", List(block.yields.clone()))?;
    }
    Ok(())
}

fn nested(f: &mut Formatter<'_>, kernel: &Kernel, body: &Block, depth: usize) -> fmt::Result {
    writeln!(f, " {{")?;
    block(f, kernel, body, depth + 1)?;
    write!(f, "{}}}", "  ".repeat(depth))
}

fn statement(f: &mut Formatter<'_>, kernel: &Kernel, statement: &Statement, depth: usize) -> fmt::Result {
    match statement {
        Statement::Let(value, i) => {
            write!(f, "{}", Definition { kernel, value: *value, inst: i })?;
            match kernel.values.get(value.0 as usize) {
                Some(ty) => writeln!(f, " : {ty}"),
                None => writeln!(f, " : ?"),
            }
        }
        Statement::Store { buffer, index, stride, value } => {
            writeln!(f, "store {}[{index}]{}, {value}", kernel.buffer_name(*buffer), Step(*stride))
        }
        Statement::Scatter { buffer, index, offsets, extent, value } => {
            let name = kernel.buffer_name(*buffer);
            writeln!(f, "scatter {name}[{index} + {offsets}<{extent}], {value}")
        }
        Statement::Prefetch { buffer, index } => writeln!(f, "prefetch {}[{index}]", kernel.buffer_name(*buffer)),
        Statement::For(inner) => {
            let kind = match inner.kind {
                LoopKind::Serial => "for",
                LoopKind::Unrolled => "unroll",
            };
            write!(f, "{kind} i{} < {}", inner.var.0, kernel.extent(inner.var))?;
            if !inner.carried.is_empty() {
                let carried = inner.carried.iter().map(|c| format!("{} = {}", c.param, c.init)).collect();
                write!(f, " carry ({})", List(carried))?;
            }
            nested(f, kernel, &inner.body, depth)?;
            match inner.carried.is_empty() {
                true => writeln!(f),
                false => writeln!(f, " gives {}", List(inner.carried.iter().map(|c| c.result).collect())),
            }
        }
        Statement::If(inner) => {
            match &inner.condition {
                Condition::Value(value) => write!(f, "if {value}")?,
                Condition::NonNegative(indices) => {
                    let all = indices.iter().map(|i| format!("{i} >= 0")).collect();
                    write!(f, "if {}", List(all))?;
                }
            }
            nested(f, kernel, &inner.then, depth)?;
            if inner.otherwise != Block::default() {
                write!(f, " else")?;
                nested(f, kernel, &inner.otherwise, depth)?;
            }
            match inner.results.is_empty() {
                true => writeln!(f),
                false => writeln!(f, " gives {}", List(inner.results.clone())),
            }
        }
    }
}

/// The stride between lanes, where it is not 1.
struct Step(i64);

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => Ok(()),
            0 => write!(f, " splat"),
            stride => write!(f, " by {stride}"),
        }
    }
}

fn inst(f: &mut Formatter<'_>, kernel: &Kernel, result: Value, inst: &Inst) -> fmt::Result {
    match inst {
        Inst::Const(bits) => match kernel.values.get(result.0 as usize).map(|ty| ty.dtype) {
            Some(dtype) if dtype.is_float() => {
                let value = bits.to_f64(dtype);
                match value.is_nan() {
                    true => write!(f, "const nan:{:#x}", bits.0),
                    false => write!(f, "const {value:?}"),
                }
            }
            Some(dtype) => write!(f, "const {}", bits.to_i64(dtype)),
            None => write!(f, "const {:#x}", bits.0),
        },
        Inst::Load { buffer, index, stride } => {
            write!(f, "load {}[{index}]{}", kernel.buffer_name(*buffer), Step(*stride))
        }
        Inst::Gather { buffer, index, offsets, extent } => {
            write!(f, "gather {}[{index} + {offsets}<{extent}]", kernel.buffer_name(*buffer))
        }
        Inst::IndexValue { index, step } => write!(f, "index {index}{}", Step(*step)),
        Inst::Splat(a) => write!(f, "splat {a}"),
        Inst::Shuffle { value, lanes } => write!(f, "shuffle {value} {lanes:?}"),
        Inst::Concat(values) => write!(f, "concat {}", List(values.clone())),
        Inst::Unary(op, a) => write!(f, "{} {a}", name(op)),
        Inst::Binary(op, a, b) => write!(f, "{} {a}, {b}", name(op)),
        Inst::Fma(a, b, c) => write!(f, "fma {a}, {b}, {c}"),
        Inst::DotBytes(a, b, c) => write!(f, "dot_bytes {a}, {b}, {c}"),
        Inst::Compare(op, a, b) => write!(f, "compare {} {a}, {b}", name(op)),
        Inst::Select(mask, a, b) => write!(f, "select {mask}, {a}, {b}"),
        Inst::Convert(a) => write!(f, "convert {a}"),
        Inst::Bitcast(a) => write!(f, "bitcast {a}"),
        Inst::Reduce(op, a) => write!(f, "reduce {} {a}", name(op)),
    }
}
