//! A compiled program as an object file and a C header, to be linked into programs that hold no part of Kiln.
//!
//! ```text
//!                     ┌─► driver: init, run (Cranelift, no CPU features) ─┐
//! NativeModule ─memory┤   kernels as they are, the weights or their file  ├─► object file, NAME.h, weights file
//!                     └─► header: types, sizes, offsets, error codes      ┘
//! ```
//!
//! What the runtime does with a plan as data, the driver does as code: `run` calls kernel after kernel with addresses
//! that are known but for four bases (inputs, outputs, arena, weights). The object refers to no symbol but its own,
//! not even to the C library, and every symbol but `NAME_init` and `NAME_run` is local to it, so any number of models go into one
//! program.
//!
//! # Invariants
//! - **One block of memory.** The caller's arena holds all that changes: a header, variables, intermediates, scratch
//!   (`memory`). It has no addresses into itself, so a copy of its bytes is another instance in the same state.
//! - **Nothing runs before it is known to run.** `init` is compiled for what every CPU of the architecture has, asks the CPU for what the
//!   kernels need, and marks the arena; `run` refuses an arena without the mark.
//! - **One thread.** A run stays on the thread that called it; results are the bits of [`kiln_runtime::Executor`] with the same code.

mod cpu_check;
mod driver;
mod header;
mod memory;
mod names;
mod status;

use std::convert::Infallible;
use std::io::{self, Write};

use cranelift_codegen::CodegenError;
use cranelift_module::ModuleError;
use kiln_runtime::{ALIGNMENT, PlanError, Signature, Weights};

use crate::compile::NativeModule;
use crate::executable;
use crate::lower::LowerError;
use crate::native::TargetError;
use memory::Memory;
use names::Members;
pub use names::{check_name, default_name};

/// Where the weights go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightPlace {
    /// Into a read-only section of the object.
    Object,
    /// Into a file of their own, which the program loads and gives to `init`.
    File,
}

/// Why a program cannot be embedded.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The name cannot begin C identifiers.
    #[error(
        "`{name}` cannot begin the names of C functions: expected a letter, then letters, digits and single underscores between them (ASCII); \
         choose another name, such as `{proposal}`"
    )]
    Name {
        /// What was asked for.
        name: String,
        /// A name like it.
        proposal: String,
    },
    /// No object file can be written for the target.
    #[error(
        "no object file can be written for {target}: {reason}; choose a target with ELF, such as x86_64-unknown-linux-gnu or \
         aarch64-unknown-linux-gnu"
    )]
    Format {
        /// The target.
        target: String,
        /// Why not.
        reason: String,
    },
    /// More weights than code reaches.
    #[error(
        "{bytes} bytes of weights do not fit into an object file: code reaches at most {most}; put them into a file of their own"
    )]
    Weights {
        /// Bytes there are.
        bytes: usize,
        /// Bytes there may be.
        most: usize,
    },
    /// More inputs or outputs than error codes can tell apart.
    #[error("{count} {what}: expected at most {most}, for every one has error codes of its own")]
    Tensors {
        /// `inputs` or `outputs`.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// The arena is larger than addresses.
    #[error("the arena takes more bytes than the target has addresses: compile for smaller extents")]
    Memory,
    /// The plan contradicts itself.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Plan and kernels do not go together.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// Cranelift cannot be set up for the target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The kernels use a CPU feature that `init` does not know how to ask for.
    #[error(
        "no way is known to ask the CPU for `{feature}`, which code for {target} needs (a bug in Kiln, please report it)"
    )]
    Feature {
        /// LLVM's name of it.
        feature: String,
        /// The target.
        target: String,
    },
    /// Cranelift or the object writer refused what it was given.
    #[error("cannot make the object file for {target} (a bug in Kiln, please report it): {reason}")]
    Object {
        /// The target.
        target: String,
        /// Their words.
        reason: String,
    },
    /// The system refused to write.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// A program that is about to be embedded: what the files below are made of.
#[derive(Debug)]
pub struct Embedding<'m> {
    module: &'m NativeModule,
    name: String,
    place: WeightPlace,
    memory: Memory,
    inputs: Members,
    outputs: Members,
    variables: Members,
    weights_id: [u8; 32],
    /// What `init` writes at the start of an arena, for `run` to find.
    mark: i64,
}

/// The most bytes of weights in an object: signed 32-bit distances reach 2 GiB, and something else must be there too.
const MOST_WEIGHTS: usize = 3 << 29;

/// Bytes of a weights file before the weights: its magic number, the weights' digest, and zeros.
const FILE_HEADER: usize = ALIGNMENT;

/// The first bytes of a weights file.
const FILE_MAGIC: [u8; 8] = *b"KILNWTS\x01";

impl<'m> Embedding<'m> {
    /// Prepares `module` to be embedded. Every identifier of its header begins with `name`.
    pub fn new(module: &'m NativeModule, name: &str, place: WeightPlace) -> Result<Embedding<'m>, EmbedError> {
        check_name(name)?;
        let plan = module.module().plan();
        plan.validate()?;
        executable::check(module.module())?;
        let Signature { inputs, outputs, .. } = &plan.signature;
        for (what, count) in [("inputs", inputs.len()), ("outputs", outputs.len())] {
            if count > status::MOST_TENSORS {
                return Err(EmbedError::Tensors { what, count, most: status::MOST_TENSORS });
            }
        }
        let weights = module.module().weights();
        if place == WeightPlace::Object && weights.len() > MOST_WEIGHTS {
            return Err(EmbedError::Weights { bytes: weights.len(), most: MOST_WEIGHTS });
        }
        let memory = Memory::of(plan).ok_or(EmbedError::Memory)?;
        let variables: Vec<_> = plan.states.iter().map(|s| s.spec.clone()).collect();
        let (inputs, outputs) = (Members::of(inputs), Members::of(outputs));
        let weights_id = digest(weights);
        let mut embedding = Embedding {
            module,
            name: name.to_owned(),
            place,
            memory,
            inputs,
            outputs,
            variables: Members::of(&variables),
            weights_id,
            mark: 0,
        };
        embedding.mark = embedding.fingerprint();
        Ok(embedding)
    }

    /// Bytes of the arena that a program gives to `init` and `run`.
    pub fn arena_bytes(&self) -> usize {
        self.memory.total
    }

    /// Where in the arena each of the plan's variables is.
    pub fn variable_offsets(&self) -> &[usize] {
        &self.memory.variables
    }

    /// The C header.
    pub fn header(&self) -> String {
        header::text(self)
    }

    /// Writes the object file.
    pub fn write_object(&self, out: &mut dyn Write) -> Result<(), EmbedError> {
        let object = driver::object(self)?;
        object.write_stream(out).map_err(|e| match e.downcast::<io::Error>() {
            Ok(refused) => EmbedError::Write(*refused),
            Err(other) => self.object_error(other),
        })
    }

    /// Writes the weights file, for [`WeightPlace::File`].
    pub fn write_weights(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut header = [0; FILE_HEADER];
        header[..8].copy_from_slice(&FILE_MAGIC);
        header[8..40].copy_from_slice(&self.weights_id);
        out.write_all(&header)?;
        pieces(self.module.module().weights(), &mut |bytes| out.write_all(bytes))
    }

    /// Bytes of the weights file.
    pub fn weights_file_bytes(&self) -> usize {
        FILE_HEADER + self.module.module().weights().len()
    }

    /// A number that another program has not, but by chance: of its code, its weights, and the layout of its arena.
    fn fingerprint(&self) -> i64 {
        let mut hash = blake3::Hasher::new();
        hash.update(self.header().as_bytes()).update(&self.weights_id);
        self.module.code().iter().for_each(|kernel| {
            hash.update(kernel.code());
        });
        let mut word = [0; 8];
        word.copy_from_slice(&hash.finalize().as_bytes()[..8]);
        // zeroed memory must not pass
        i64::from_le_bytes(word) | 1
    }

    fn target(&self) -> String {
        self.module.module().target().to_string()
    }

    fn object_error(&self, reason: impl std::fmt::Display) -> EmbedError {
        EmbedError::Object { target: self.target(), reason: reason.to_string() }
    }

    fn module_error(&self, error: &ModuleError) -> EmbedError {
        match error {
            // its own words say too little
            ModuleError::Compilation(CodegenError::Verifier(e)) => self.object_error(e),
            other => self.object_error(other),
        }
    }
}

/// The weight section from its first byte to its last, the gaps between its segments as zeros.
fn pieces<E>(weights: &Weights, give: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let mut at = 0;
    for segment in weights.segments() {
        give(&[0; ALIGNMENT][..segment.offset - at])?;
        give(&segment.bytes)?;
        at = segment.offset + segment.bytes.len();
    }
    Ok(())
}

fn digest(weights: &Weights) -> [u8; 32] {
    let mut hash = blake3::Hasher::new();
    let Ok(()) = pieces(weights, &mut |bytes| {
        hash.update(bytes);
        Ok::<(), Infallible>(())
    });
    *hash.finalize().as_bytes()
}
