//! The interpreter: the reference that back ends are compared with. Naive, and checks every access.

use std::fmt::Debug;
use std::ops::Range;

use kiln_ir::DType;

use super::eval;
use super::index::{Index, Var};
use super::kernel::{Block, Buffer, Condition, For, If, Inst, Kernel, Statement, Value};
use super::math;
use super::types::{Bits, VType};
use super::verify::{VerifyErrors, verify};

/// Why a kernel could not be interpreted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InterpretError {
    /// The verifier refused it.
    #[error(transparent)]
    Malformed(#[from] VerifyErrors),
    /// The number of buffers differs from the kernel's.
    #[error("kernel `{kernel}` takes {expected} buffers, found {found}")]
    BufferCount {
        /// The kernel's name.
        kernel: String,
        /// Buffers it has.
        expected: usize,
        /// Buffers given.
        found: usize,
    },
    /// A buffer has the wrong number of bytes.
    #[error("buffer `{buffer}` of kernel `{kernel}` has {expected} bytes, found {found}")]
    BufferSize {
        /// The kernel's name.
        kernel: String,
        /// The buffer's name.
        buffer: String,
        /// Bytes that it needs.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// A run-time index is not in the range that the kernel promises.
    #[error("kernel `{kernel}`: {value} is {found}, not in 0..{extent} as promised")]
    DynamicIndex {
        /// The kernel's name.
        kernel: String,
        /// The value.
        value: String,
        /// What it is.
        found: i64,
        /// One more than the largest value promised.
        extent: i64,
    },
    /// An instruction that has to be expanded first.
    #[error("kernel `{kernel}`: {operation} of {dtype} is no primitive instruction")]
    NotPrimitive {
        /// The kernel's name.
        kernel: String,
        /// The instruction.
        operation: String,
        /// What it was applied to.
        dtype: DType,
    },
    /// An access outside a buffer.
    #[error("kernel `{kernel}`: element {element} of {buffer:?}, which has {len}")]
    OutOfBounds {
        /// The kernel's name.
        kernel: String,
        /// The buffer.
        buffer: Buffer,
        /// The element.
        element: i64,
        /// Elements it has.
        len: i64,
    },
}

/// Runs the parallel indices `range` of a kernel on little-endian `buffers`, in argument order. `fused` says whether
/// [`Inst::Fma`] rounds once. Bytes that the kernel does not store to are left alone.
pub fn interpret(
    kernel: &Kernel,
    buffers: &mut [Vec<u8>],
    range: Range<i64>,
    fused: bool,
) -> Result<(), InterpretError> {
    verify(kernel)?;
    if buffers.len() != kernel.buffers.len() {
        return Err(InterpretError::BufferCount {
            kernel: kernel.name.clone(),
            expected: kernel.buffers.len(),
            found: buffers.len(),
        });
    }
    for (param, bytes) in kernel.buffers.iter().zip(buffers.iter()) {
        let expected = param.len as usize * param.dtype.size();
        if bytes.len() != expected {
            return Err(InterpretError::BufferSize {
                kernel: kernel.name.clone(),
                buffer: param.name.clone(),
                expected,
                found: bytes.len(),
            });
        }
    }
    let kernel = &math::expand(kernel);
    // undefined content: a pattern that is neither zero nor a sensible float
    let scratch = kernel.scratch.iter().map(|b| vec![0xCD; b.len as usize * b.dtype.size()]).collect();
    let mut machine = Machine {
        kernel,
        buffers,
        scratch,
        vars: vec![0; kernel.vars.len()],
        values: vec![Vec::new(); kernel.values.len()],
        fused,
    };
    for parallel in range {
        let mut rest = parallel;
        for &var in kernel.parallel.iter().rev() {
            let extent = kernel.extent(var).max(1);
            machine.vars[var.0 as usize] = rest % extent;
            rest /= extent;
        }
        machine.block(&kernel.body)?;
    }
    Ok(())
}

struct Machine<'a> {
    kernel: &'a Kernel,
    buffers: &'a mut [Vec<u8>],
    scratch: Vec<Vec<u8>>,
    vars: Vec<i64>,
    values: Vec<Vec<Bits>>,
    fused: bool,
}

type Outcome<T> = Result<T, InterpretError>;

impl Machine<'_> {
    fn get(&self, value: Value) -> &[Bits] {
        &self.values[value.0 as usize]
    }

    fn set(&mut self, value: Value, lanes: Vec<Bits>) {
        self.values[value.0 as usize] = lanes;
    }

    fn copies(&self, values: &[Value]) -> Vec<Vec<Bits>> {
        values.iter().map(|&v| self.get(v).to_vec()).collect()
    }

    fn block(&mut self, block: &Block) -> Outcome<()> {
        block.statements.iter().try_for_each(|s| self.statement(s))
    }

    fn statement(&mut self, statement: &Statement) -> Outcome<()> {
        match statement {
            Statement::Let(value, inst) => {
                let lanes = self.inst(self.kernel.type_of(*value), inst)?;
                self.set(*value, lanes);
                Ok(())
            }
            Statement::Store { buffer, index, stride, value } => {
                let base = self.index(index)?;
                let lanes = self.get(*value).to_vec();
                let mut at = (0i64..).map(|lane| base.wrapping_add(lane.wrapping_mul(*stride)));
                lanes.into_iter().try_for_each(|bits| self.write(*buffer, at.next().unwrap_or(0), bits))
            }
            Statement::Scatter { buffer, index, offsets, extent, value } => {
                let base = self.index(index)?;
                let offsets = self.offsets(*offsets, *extent)?;
                let lanes = self.get(*value).to_vec();
                let mut pairs = offsets.into_iter().zip(lanes);
                pairs.try_for_each(|(offset, bits)| self.write(*buffer, base.wrapping_add(offset), bits))
            }
            Statement::Prefetch { .. } => Ok(()),
            Statement::For(inner) => self.for_loop(inner),
            Statement::If(inner) => self.conditional(inner),
        }
    }

    fn for_loop(&mut self, inner: &For) -> Outcome<()> {
        let init: Vec<Value> = inner.carried.iter().map(|c| c.init).collect();
        let mut current = self.copies(&init);
        for i in 0..self.kernel.extent(inner.var) {
            self.vars[inner.var.0 as usize] = i;
            for (carried, lanes) in inner.carried.iter().zip(current) {
                self.set(carried.param, lanes);
            }
            self.block(&inner.body)?;
            current = self.copies(&inner.body.yields);
        }
        for (carried, lanes) in inner.carried.iter().zip(current) {
            self.set(carried.result, lanes);
        }
        Ok(())
    }

    fn conditional(&mut self, inner: &If) -> Outcome<()> {
        let holds = match &inner.condition {
            Condition::Value(value) => self.get(*value)[0].0 != 0,
            Condition::NonNegative(indices) => {
                indices.iter().map(|i| self.index(i)).collect::<Outcome<Vec<i64>>>()?.iter().all(|&i| i >= 0)
            }
        };
        let branch = if holds { &inner.then } else { &inner.otherwise };
        self.block(branch)?;
        let values = self.copies(&branch.yields);
        for (&result, lanes) in inner.results.iter().zip(values) {
            self.set(result, lanes);
        }
        Ok(())
    }

    fn var(&self, var: Var) -> i64 {
        self.vars[var.0 as usize]
    }

    fn index(&self, index: &Index) -> Outcome<i64> {
        let affine = index.terms.iter().map(|&(var, stride)| self.var(var).wrapping_mul(stride));
        let mut sum = affine.fold(index.offset, i64::wrapping_add);
        for term in &index.dynamic {
            let offset = self.offsets(term.value, term.extent)?[0];
            sum = sum.wrapping_add(offset.wrapping_mul(term.stride));
        }
        Ok(sum)
    }

    fn offsets(&self, value: Value, extent: i64) -> Outcome<Vec<i64>> {
        let lanes: Vec<i64> = self.get(value).iter().map(|bits| bits.0 as i64).collect();
        match lanes.iter().find(|&&found| !(0..extent).contains(&found)) {
            None => Ok(lanes),
            Some(&found) => Err(InterpretError::DynamicIndex {
                kernel: self.kernel.name.clone(),
                value: value.to_string(),
                found,
                extent,
            }),
        }
    }

    /// The bytes of one element: first byte and size.
    fn element(&self, buffer: Buffer, element: i64) -> Outcome<Range<usize>> {
        let (dtype, len) = self.kernel.buffer_shape(buffer).unwrap_or((DType::U8, 0));
        if !(0..len).contains(&element) {
            return Err(InterpretError::OutOfBounds { kernel: self.kernel.name.clone(), buffer, element, len });
        }
        let at = element as usize * dtype.size();
        Ok(at..at + dtype.size())
    }

    fn read(&self, buffer: Buffer, element: i64) -> Outcome<Bits> {
        let range = self.element(buffer, element)?;
        let bytes = match buffer {
            Buffer::Param(i) => &self.buffers[i as usize][range],
            Buffer::Scratch(i) => &self.scratch[i as usize][range],
        };
        let mut raw = [0; 8];
        raw[..bytes.len()].copy_from_slice(bytes);
        Ok(match self.kernel.buffer_shape(buffer) {
            // any byte but 0 is true, as in tensors
            Some((DType::Bool, _)) => Bits(u64::from(raw[0] != 0)),
            _ => Bits(u64::from_le_bytes(raw)),
        })
    }

    /// A lane of `elements` elements, the first lowest.
    fn read_wide(&self, buffer: Buffer, first: i64, elements: i64) -> Outcome<Bits> {
        if elements == 1 {
            return self.read(buffer, first);
        }
        let bytes = (0..elements).map(|i| Ok(self.read(buffer, first.wrapping_add(i))?.0 << (8 * i)));
        bytes.sum::<Outcome<u64>>().map(Bits)
    }

    fn write(&mut self, buffer: Buffer, element: i64, bits: Bits) -> Outcome<()> {
        let range = self.element(buffer, element)?;
        let bytes = match buffer {
            Buffer::Param(i) => &mut self.buffers[i as usize][range],
            Buffer::Scratch(i) => &mut self.scratch[i as usize][range],
        };
        let size = bytes.len();
        bytes.copy_from_slice(&bits.0.to_le_bytes()[..size]);
        Ok(())
    }

    fn inst(&self, ty: VType, inst: &Inst) -> Outcome<Vec<Bits>> {
        let dtype = ty.dtype;
        let lanes = 0..i64::from(ty.lanes);
        Ok(match inst {
            Inst::Const(bits) => vec![*bits; ty.lanes as usize],
            Inst::Load { buffer, index, stride } => {
                let base = self.index(index)?;
                let at = |lane: i64| base.wrapping_add(lane.wrapping_mul(*stride));
                let elements = dtype.size() as i64 / self.kernel.element_size(*buffer);
                lanes.map(|lane| self.read_wide(*buffer, at(lane), elements)).collect::<Outcome<_>>()?
            }
            Inst::Gather { buffer, index, offsets, extent } => {
                let base = self.index(index)?;
                let offsets = self.offsets(*offsets, *extent)?;
                let read = |offset: i64| self.read(*buffer, base.wrapping_add(offset));
                offsets.into_iter().map(read).collect::<Outcome<_>>()?
            }
            Inst::IndexValue { index, step } => {
                let base = self.index(index)?;
                lanes.map(|lane| Bits(base.wrapping_add(lane.wrapping_mul(*step)) as u64)).collect()
            }
            Inst::Splat(value) => vec![self.get(*value)[0]; ty.lanes as usize],
            Inst::Shuffle { value, lanes } => lanes.iter().map(|&lane| self.get(*value)[lane as usize]).collect(),
            Inst::Concat(values) => values.iter().flat_map(|&v| self.get(v)).copied().collect(),
            Inst::Unary(op, a) => {
                let lanes: Option<_> = self.get(*a).iter().map(|&x| eval::unary(*op, dtype, x)).collect();
                lanes.ok_or_else(|| self.not_primitive(op, dtype))?
            }
            Inst::Binary(op, a, b) => {
                let lanes: Option<_> = self.zip(*a, *b).map(|(x, y)| eval::binary(*op, dtype, x, y)).collect();
                lanes.ok_or_else(|| self.not_primitive(op, dtype))?
            }
            Inst::Fma(a, b, c) => {
                let lanes = self.zip(*a, *b).zip(self.get(*c));
                let lanes: Option<_> = lanes.map(|((a, b), &c)| eval::fma(dtype, a, b, c, self.fused)).collect();
                lanes.ok_or_else(|| self.not_primitive("Fma", dtype))?
            }
            Inst::DotBytes(a, b, c) => {
                let lanes = self.zip(*a, *b).zip(self.get(*c));
                lanes.map(|((a, b), &c)| eval::dot_bytes(a, b, c)).collect()
            }
            Inst::Compare(op, a, b) => {
                let from = self.kernel.type_of(*a).dtype;
                let holds = self.zip(*a, *b).map(|(x, y)| eval::compare(*op, from, x, y));
                let lanes: Option<_> = holds.map(|holds| holds.map(|h| Bits(h.into()))).collect();
                lanes.ok_or_else(|| self.not_primitive(op, from))?
            }
            Inst::Select(mask, a, b) => {
                let choices = self.get(*mask).iter().zip(self.get(*a)).zip(self.get(*b));
                choices.map(|((mask, &a), &b)| if mask.0 != 0 { a } else { b }).collect()
            }
            Inst::Convert(a) => {
                let from = self.kernel.type_of(*a).dtype;
                self.get(*a).iter().map(|&x| eval::convert(from, dtype, x)).collect()
            }
            Inst::Bitcast(a) => self.get(*a).to_vec(),
            Inst::Reduce(op, a) => {
                let mut lanes = self.get(*a).to_vec();
                while lanes.len() > 1 {
                    let half = lanes.len().div_ceil(2);
                    for i in 0..lanes.len() - half {
                        let pair = eval::binary(op.binary(), dtype, lanes[i], lanes[i + half]);
                        lanes[i] = pair.ok_or_else(|| self.not_primitive(op, dtype))?;
                    }
                    lanes.truncate(half);
                }
                lanes
            }
        })
    }

    fn zip(&self, a: Value, b: Value) -> impl Iterator<Item = (Bits, Bits)> {
        self.get(a).iter().copied().zip(self.get(b).iter().copied())
    }

    fn not_primitive(&self, operation: impl Debug, dtype: DType) -> InterpretError {
        InterpretError::NotPrimitive { kernel: self.kernel.name.clone(), operation: format!("{operation:?}"), dtype }
    }
}
