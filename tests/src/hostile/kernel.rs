//! Kernels out of bytes: mostly well formed, then damaged. The verifier must not panic, and what it passes must run the same by every back
//! end and touch nothing outside its buffers.

use kiln_codegen::kir::{
    Access, BinaryOp, Block, CompareOp, DType, Index, Inst, InterpretError, Kernel, LoopKind, ReduceOp, Statement,
    UnaryOp, Value, Var, interpret, verify,
};
use kiln_codegen::native::{Features, Target, compile_kernel};

use self::random::random_kernel;
use self::run::{first_difference, random_buffers, run_jit};
use super::Examined;

#[path = "../../../codegen/tests/kir/random.rs"]
mod random;
#[path = "../../../codegen/tests/kir/run.rs"]
mod run;

/// Iterations that a kernel may have and still be run.
const MOST_ITERATIONS: i64 = 1 << 14;

/// Bytes as decisions; once they are used up every decision is 0.
struct Decisions<'a>(&'a [u8]);

impl Decisions<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().map_or((0, &[][..]), |(&b, rest)| (b, rest));
        self.0 = rest;
        first
    }

    fn below(&mut self, n: usize) -> usize {
        let wide = usize::from(self.byte()) << 8 | usize::from(self.byte());
        wide % n.max(1)
    }

    /// A number, often one at which something overflows.
    fn number(&mut self) -> i64 {
        const EXTREMES: [i64; 12] =
            [0, 1, -1, i64::MAX, i64::MIN, i64::MAX / 2, 1 << 31, 1 << 32, -(1 << 40), 4095, 4096, 4097];
        match self.byte() {
            b if b < 128 => i64::from(b) - 64,
            _ => EXTREMES[self.below(EXTREMES.len())],
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A kernel: the first byte says how many changes it gets, two bytes of every four after it make the kernel, the rest the changes.
fn decode(bytes: &[u8]) -> Kernel {
    let (changes, rest) = bytes.split_first().map_or((0, &[][..]), |(&b, rest)| (b % 8, rest));
    let middle = rest.len() - (rest.len() / 4).min(128);
    let words = rest[..middle].chunks_exact(2).map(|c| u32::from(u16::from_le_bytes([c[0], c[1]]))).collect();
    let mut kernel = random_kernel(words);
    let mut decisions = Decisions(&rest[middle..]);
    for _ in 0..changes {
        change(&mut kernel, &mut decisions);
    }
    kernel
}

/// One change anywhere.
fn change(kernel: &mut Kernel, d: &mut Decisions<'_>) {
    let (buffers, values, vars) = (kernel.buffers.len(), kernel.values.len(), kernel.vars.len());
    match d.below(10) {
        0 if vars > 0 => kernel.vars[d.below(vars)] = d.number(),
        1 => kernel.buffers[d.below(buffers)].len = d.number(),
        2 => kernel.buffers[d.below(buffers)].access = d.pick(&[Access::Read, Access::Write, Access::ReadWrite]),
        3 => kernel.buffers[d.below(buffers)].dtype = d.pick(&DType::ALL),
        4 if values > 0 => {
            let at = d.below(values);
            kernel.values[at].lanes = d.number() as u32;
        }
        5 if values > 0 => {
            let at = d.below(values);
            kernel.values[at].dtype = d.pick(&DType::ALL);
        }
        6 => kernel.parallel.push(Var(d.byte().into())),
        7 => drop(kernel.parallel.pop()),
        _ => {
            let mut left = d.below(64);
            statement(&mut kernel.body, &mut left, d);
        }
    }
}

/// Changes the statement of number `left`, in program order; nothing where there are fewer.
fn statement(block: &mut Block, left: &mut usize, d: &mut Decisions<'_>) -> bool {
    for at in 0..block.statements.len() {
        if *left == 0 {
            change_statement(block, at, d);
            return true;
        }
        *left -= 1;
        let done = match &mut block.statements[at] {
            Statement::For(inner) => statement(&mut inner.body, left, d),
            Statement::If(inner) => statement(&mut inner.then, left, d) || statement(&mut inner.otherwise, left, d),
            _ => false,
        };
        if done {
            return true;
        }
    }
    false
}

fn change_index(index: &mut Index, d: &mut Decisions<'_>) {
    match d.below(4) {
        0 => index.offset = d.number(),
        1 => index.terms.push((Var(d.byte().into()), d.number())),
        2 => {
            if let Some(term) = index.terms.first_mut() {
                term.1 = d.number();
            }
        }
        _ => {
            if let Some(summand) = index.dynamic.first_mut() {
                (summand.stride, summand.extent) = (d.number(), d.number());
            }
        }
    }
}

fn change_statement(block: &mut Block, at: usize, d: &mut Decisions<'_>) {
    match d.below(6) {
        0 => drop(block.statements.remove(at)),
        1 => {
            let copy = block.statements[at].clone();
            block.statements.insert(d.below(at + 1), copy);
        }
        2 => block.statements[at].operands_mut(|value| {
            if d.byte() & 1 == 1 {
                *value = Value(d.byte().into());
            }
        }),
        3 => block.statements[at].indices_mut(|index| change_index(index, d)),
        4 => match &mut block.statements[at] {
            Statement::Store { stride, .. } => *stride = d.number(),
            Statement::Scatter { extent, .. } => *extent = d.number(),
            Statement::For(inner) => match d.below(4) {
                0 => inner.kind = LoopKind::Unrolled,
                1 => drop(inner.carried.pop()),
                2 => drop(inner.body.yields.pop()),
                _ => inner.var = Var(d.byte().into()),
            },
            Statement::If(inner) => match d.below(2) {
                0 => drop(inner.results.pop()),
                _ => drop(inner.then.yields.pop()),
            },
            Statement::Let(_, inst) => change_instruction(inst, d),
            Statement::Prefetch { index, .. } => change_index(index, d),
        },
        _ => block.yields.push(Value(d.byte().into())),
    }
}

fn change_instruction(inst: &mut Inst, d: &mut Decisions<'_>) {
    use BinaryOp::*;
    use UnaryOp::*;
    match inst {
        Inst::Const(bits) => bits.0 = d.number() as u64,
        Inst::Load { stride, .. } => *stride = d.number(),
        Inst::Gather { extent, .. } => *extent = d.number(),
        Inst::IndexValue { step, .. } => *step = d.number(),
        Inst::Shuffle { lanes, .. } => lanes.push(d.number() as u32),
        Inst::Concat(values) => drop(values.pop()),
        Inst::Unary(op, _) => {
            *op = d.pick(&[Neg, Abs, Sqrt, Floor, Ceil, Trunc, Round, Not, Exp, Log, Log1p, Tanh, Erf, Sin, Cos, Atan]);
        }
        Inst::Binary(op, ..) => {
            *op = d.pick(&[Add, Sub, Mul, Div, Rem, Min, Max, Pow, And, Or, Xor, Shl, Shr, ShrLogical]);
        }
        Inst::Compare(op, ..) => {
            *op = d.pick(&[CompareOp::Eq, CompareOp::Ne, CompareOp::Lt, CompareOp::Le, CompareOp::Gt, CompareOp::Ge]);
        }
        Inst::Reduce(op, _) => {
            *op = d.pick(&[ReduceOp::Add, ReduceOp::Mul, ReduceOp::Min, ReduceOp::Max, ReduceOp::And, ReduceOp::Or]);
        }
        Inst::Splat(_)
        | Inst::Fma(..)
        | Inst::DotBytes(..)
        | Inst::Select(..)
        | Inst::Convert(_)
        | Inst::Bitcast(_) => {}
    }
}

/// Iterations of all loops together, as far as they are known to be few.
fn iterations(kernel: &Kernel) -> i64 {
    kernel.vars.iter().fold(1i64, |n, &extent| n.saturating_mul(extent.max(1)))
}

/// [`super::examine`] for kernels.
pub(super) fn examine(bytes: &[u8]) -> Result<Examined, String> {
    let kernel = decode(bytes);
    let _ = kernel.to_string();
    if let Err(e) = verify(&kernel) {
        // Whoever built a kernel is to blame, and here that is the damage.
        return Ok(Examined { refused: Some(e.to_string()), ..Examined::default() });
    }
    let size = kernel.buffers.iter().map(|b| b.len).chain(kernel.scratch.iter().map(|b| b.len)).max().unwrap_or(0);
    if iterations(&kernel) > MOST_ITERATIONS || size > 1 << 16 {
        return Ok(Examined::default());
    }
    let host = Target::host().map_err(|e| e.to_string())?;
    let v3 = Target::new(host.triple().clone(), host.features().min(Features::V3)).map_err(|e| e.to_string())?;
    for target in [host.clone().portable(), v3, host] {
        let mut expected = random_buffers(&kernel, 7);
        let mut found = expected.clone();
        match interpret(&kernel, &mut expected, 0..kernel.parallel_extent(), target.has_fma()) {
            Ok(()) => {}
            // A promise that the verifier cannot check, and that code relies on.
            Err(InterpretError::DynamicIndex { .. }) => {
                compile_kernel(&kernel, &target).map_err(|e| e.to_string())?;
                continue;
            }
            Err(e) => return Err(format!("verified, but: {e}\n{kernel}")),
        }
        run_jit(&kernel, &target, &mut found);
        for ((param, expected), found) in kernel.buffers.iter().zip(&expected).zip(&found) {
            if let Some(at) = first_difference(param.dtype, expected, found) {
                return Err(format!("{target}: `{}` differs at {at}\n{kernel}", param.name));
            }
        }
    }
    Ok(Examined { ran: true, ..Examined::default() })
}
