//! The verifier of execution plans: every rule of [`crate::plan`], all breaches at once.
//!
//! It walks the steps once, in order, and remembers for every byte of the arena through which buffer it was last
//! written. A step that reads a byte last written through another buffer would see a value that another one has
//! overwritten: that is how a faulty memory plan shows.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use crate::plan::{ALIGNMENT, Argument, Buffer, Plan, Split, Work};

/// Everything that is wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PlanError {
    /// The breaches, in plan order; at most [`PlanError::MOST`] are kept.
    pub problems: Vec<PlanProblem>,
}

impl PlanError {
    /// Problems after which the walk stops: a corrupt plan has thousands.
    pub const MOST: usize = 64;
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the execution plan breaks {} rule(s); compile the model again", self.problems.len())?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the messages show")]
pub enum PlanProblem {
    #[error("{what}: two are called `{name}`")]
    DuplicateName { what: &'static str, name: String },
    #[error("{what} {index} takes more bytes than this machine can address")]
    TooLarge { what: &'static str, index: usize },
    #[error("buffer {buffer} is {what} {index}, of which the plan has {count}")]
    NoSuchBinding { buffer: usize, what: &'static str, index: usize, count: usize },
    #[error("{what} covers bytes {start}..{end} of the {section}, which has {size}")]
    OutsideSection { what: String, section: &'static str, start: usize, end: usize, size: usize },
    #[error("{what} starts at byte {offset} of its section: expected a multiple of {ALIGNMENT}")]
    Unaligned { what: String, offset: usize },
    #[error("step {step} `{label}`, argument {argument}: buffer {buffer} of {count} does not exist")]
    NoSuchBuffer { step: usize, label: String, argument: usize, buffer: usize, count: usize },
    #[error("step {step} `{label}`, argument {argument}: bytes {start}..{end} of buffer {buffer}, which has {size}")]
    ArgumentOutside {
        step: usize,
        label: String,
        argument: usize,
        buffer: usize,
        start: usize,
        end: usize,
        size: usize,
    },
    #[error(
        "step {step} `{label}`, argument {argument}: offset {offset} is not a multiple of its {size}-byte elements"
    )]
    ArgumentUnaligned { step: usize, label: String, argument: usize, offset: usize, size: usize },
    #[error("step {step} `{label}`, argument {argument}: writes to {what}, which is read only")]
    WritesReadOnly { step: usize, label: String, argument: usize, what: &'static str },
    #[error("step {step} `{label}`, argument {argument}: {what}")]
    WrongAccess { step: usize, label: String, argument: usize, what: &'static str },
    #[error("step {step} `{label}`: kernel {kernel} of {count} does not exist")]
    NoSuchKernel { step: usize, label: String, kernel: usize, count: usize },
    #[error("step {step} `{label}`: {what}")]
    BadStep { step: usize, label: String, what: String },
    #[error(
        "step {step} `{label}`: arguments {first} and {second} overlap without being the same range, and one is written"
    )]
    Hazard { step: usize, label: String, first: usize, second: usize },
    #[error("step {step} `{label}`, argument {argument}: reads byte {byte} of {place}, which no step has written")]
    ReadsUnwritten { step: usize, label: String, argument: usize, place: &'static str, byte: usize },
    #[error(
        "step {step} `{label}`, argument {argument}: reads arena byte {byte} as buffer {buffer}, but buffer {owner} has overwritten it"
    )]
    Overwritten { step: usize, label: String, argument: usize, byte: usize, buffer: usize, owner: usize },
    #[error("byte {byte} of output {output} `{name}` is written by no step")]
    OutputUnwritten { output: usize, name: String, byte: usize },
}

/// The most arguments one step may have: hazards are checked pairwise.
const MOST_ARGUMENTS: usize = 1024;

/// Memory in which ranges of two arguments can meet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Input(usize),
    Output(usize),
    Weights,
    Arena,
    State(usize),
}

/// For every byte of a memory, who wrote it last. Ranges are disjoint.
#[derive(Default)]
struct Writers(BTreeMap<usize, (usize, usize)>);

impl Writers {
    fn write(&mut self, range: Range<usize>, writer: usize) {
        if range.is_empty() {
            return;
        }
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        for (&start, &(end, owner)) in self.0.range(..range.end).rev() {
            if end <= range.start {
                break;
            }
            gone.push(start);
            if start < range.start {
                kept.push((start, range.start, owner));
            }
            if end > range.end {
                kept.push((range.end, end, owner));
            }
        }
        for start in gone {
            self.0.remove(&start);
        }
        for (start, end, owner) in kept {
            self.0.insert(start, (end, owner));
        }
        self.0.insert(range.start, (range.end, writer));
    }

    /// The first byte of `range` that `wanted` did not write last, and who did.
    fn first_foreign(&self, range: Range<usize>, wanted: usize) -> Option<(usize, Option<usize>)> {
        if range.is_empty() {
            return None;
        }
        let mut at = range.start;
        let before = self.0.range(..=at).next_back();
        let after = self.0.range(at.saturating_add(1)..range.end);
        for (&start, &(end, owner)) in before.into_iter().chain(after) {
            if at >= range.end {
                return None;
            }
            if end <= at {
                continue;
            }
            if start > at {
                return Some((at, None));
            }
            if owner != wanted {
                return Some((at, Some(owner)));
            }
            at = end;
        }
        (at < range.end).then_some((at, None))
    }
}

struct Validator<'a> {
    plan: &'a Plan,
    problems: Vec<PlanProblem>,
    /// Byte length of every buffer; 0 where it is broken.
    sizes: Vec<usize>,
    arena: Writers,
    outputs: Vec<Writers>,
}

pub(crate) fn validate(plan: &Plan) -> Result<(), PlanError> {
    let outputs = plan.signature.outputs.iter().map(|_| Writers::default()).collect();
    let mut v = Validator { plan, problems: Vec::new(), sizes: Vec::new(), arena: Writers::default(), outputs };
    v.signature();
    v.buffers();
    for (index, step) in plan.steps.iter().enumerate() {
        v.step(index, &step.label, &step.work);
        if v.problems.len() >= PlanError::MOST {
            v.problems.truncate(PlanError::MOST);
            return Err(PlanError { problems: v.problems });
        }
    }
    v.outputs_written();
    v.problems.truncate(PlanError::MOST);
    if v.problems.is_empty() { Ok(()) } else { Err(PlanError { problems: v.problems }) }
}

impl Validator<'_> {
    fn signature(&mut self) {
        let plan = self.plan;
        let states = || plan.states.iter().map(|s| &s.spec);
        self.specs("inputs", plan.signature.inputs.iter());
        self.specs("outputs", plan.signature.outputs.iter());
        self.specs("states", states());
        for (index, state) in plan.states.iter().enumerate() {
            let len = state.spec.byte_len().unwrap_or(0);
            self.section(
                format!("the initial value of state {index}"),
                "weights",
                state.initial,
                len,
                plan.weight_bytes,
            );
        }
    }

    fn specs<'s>(&mut self, what: &'static str, specs: impl Iterator<Item = &'s crate::TensorSpec>) {
        let mut names = std::collections::BTreeSet::new();
        for (index, spec) in specs.enumerate() {
            if !names.insert(spec.name.as_str()) {
                self.problems.push(PlanProblem::DuplicateName { what, name: spec.name.clone() });
            }
            if spec.byte_len().is_none_or(|n| isize::try_from(n).is_err()) {
                self.problems.push(PlanProblem::TooLarge { what, index });
            }
        }
    }

    fn section(&mut self, what: String, section: &'static str, start: usize, len: usize, size: usize) {
        if !start.is_multiple_of(ALIGNMENT) {
            self.problems.push(PlanProblem::Unaligned { what: what.clone(), offset: start });
        }
        let end = start.saturating_add(len);
        if end > size {
            self.problems.push(PlanProblem::OutsideSection { what, section, start, end, size });
        }
    }

    fn buffers(&mut self) {
        let plan = self.plan;
        for (buffer, &place) in plan.buffers.iter().enumerate() {
            let bound = |what, index: usize, spec: Option<&crate::TensorSpec>, count| match spec {
                Some(spec) => Ok(spec.byte_len().unwrap_or(0)),
                None => Err(PlanProblem::NoSuchBinding { buffer, what, index, count }),
            };
            let (inputs, outputs) = (&plan.signature.inputs, &plan.signature.outputs);
            let size = match place {
                Buffer::Input(i) => bound("input", i, inputs.get(i), inputs.len()),
                Buffer::Output(i) => bound("output", i, outputs.get(i), outputs.len()),
                Buffer::State(i) => bound("state", i, plan.states.get(i).map(|s| &s.spec), plan.states.len()),
                Buffer::Weight { offset, len } => {
                    self.section(format!("buffer {buffer}"), "weights", offset, len, plan.weight_bytes);
                    Ok(len)
                }
                Buffer::Arena { offset, len } => {
                    self.section(format!("buffer {buffer}"), "arena", offset, len, plan.arena_bytes);
                    Ok(len)
                }
            };
            self.sizes.push(size.unwrap_or_else(|problem| {
                self.problems.push(problem);
                0
            }));
        }
    }

    fn step(&mut self, step: usize, label: &str, work: &Work) {
        let bad = |what: String| PlanProblem::BadStep { step, label: label.to_owned(), what };
        let access = |argument, what| PlanProblem::WrongAccess { step, label: label.to_owned(), argument, what };
        match work {
            Work::Kernel { kernel, extent, split, arguments } => {
                if *kernel >= self.plan.kernel_count {
                    let count = self.plan.kernel_count;
                    self.problems.push(PlanProblem::NoSuchKernel {
                        step,
                        label: label.to_owned(),
                        kernel: *kernel,
                        count,
                    });
                }
                if i64::try_from(*extent).is_err() {
                    self.problems.push(bad(format!("its loop runs {extent} times: more than the kernel ABI can say")));
                }
                if *split == (Split::Parallel { grain: 0 }) {
                    self.problems.push(bad("its grain is 0: expected at least 1".to_owned()));
                }
                if arguments.len() > MOST_ARGUMENTS {
                    let count = arguments.len();
                    self.problems.push(bad(format!("it has {count} arguments: expected at most {MOST_ARGUMENTS}")));
                    return;
                }
            }
            Work::Copy { from, to } => {
                if from.len != to.len {
                    self.problems.push(bad(format!("copies {} bytes to a place of {}", from.len, to.len)));
                }
                if from.access.writes() {
                    self.problems.push(access(0, "the source of a copy is only read"));
                }
                if to.access.reads() {
                    self.problems.push(access(1, "the destination of a copy is only written"));
                }
            }
            Work::Fill { to, .. } => {
                if !to.len.is_multiple_of(to.dtype.size()) {
                    let (len, size) = (to.len, to.dtype.size());
                    self.problems.push(bad(format!("fills {len} bytes with {size}-byte elements")));
                }
                if to.access.reads() {
                    self.problems.push(access(0, "the destination of a fill is only written"));
                }
            }
        }
        let mut ranges = Vec::new();
        for (index, argument) in work.arguments().enumerate() {
            if let Some((place, range)) = self.argument(step, label, index, argument) {
                ranges.push((index, argument, place, range));
            }
        }
        if matches!(work, Work::Kernel { .. }) {
            self.hazards(step, label, &ranges);
        }
        for (index, argument, place, range) in &ranges {
            if argument.access.reads() {
                self.check_read(step, label, *index, argument.buffer, *place, range.clone());
            }
        }
        for (_, argument, place, range) in ranges {
            if argument.access.writes() {
                match place {
                    Place::Arena => self.arena.write(range, argument.buffer),
                    Place::Output(i) => {
                        if let Some(writers) = self.outputs.get_mut(i) {
                            writers.write(range, 0);
                        }
                    }
                    Place::Input(_) | Place::Weights | Place::State(_) => {}
                }
            }
        }
    }

    /// Where the argument lies, or `None` where that cannot be said.
    fn argument(&mut self, step: usize, label: &str, index: usize, a: &Argument) -> Option<(Place, Range<usize>)> {
        let label = || label.to_owned();
        let (argument, buffer) = (index, a.buffer);
        let (Some(&place), Some(&size)) = (self.plan.buffers.get(buffer), self.sizes.get(buffer)) else {
            let count = self.plan.buffers.len();
            self.problems.push(PlanProblem::NoSuchBuffer { step, label: label(), argument, buffer, count });
            return None;
        };
        if !a.offset.is_multiple_of(a.dtype.size()) {
            let (offset, size) = (a.offset, a.dtype.size());
            self.problems.push(PlanProblem::ArgumentUnaligned { step, label: label(), argument, offset, size });
        }
        let read_only = match place {
            Buffer::Input(_) => Some("an input"),
            Buffer::Weight { .. } => Some("a weight"),
            _ => None,
        };
        if let Some(what) = read_only.filter(|_| a.access.writes()) {
            self.problems.push(PlanProblem::WritesReadOnly { step, label: label(), argument, what });
        }
        // An input or output is aligned to its own element size only, so wider elements must not be read there.
        let spec = match place {
            Buffer::Input(i) => self.plan.signature.inputs.get(i),
            Buffer::Output(i) => self.plan.signature.outputs.get(i),
            _ => None,
        };
        if spec.is_some_and(|s| s.dtype.size() < a.dtype.size()) {
            let what =
                "its elements are wider than those of the input or output, whose memory is aligned to its own only";
            self.problems.push(PlanProblem::WrongAccess { step, label: label(), argument, what });
        }
        let (start, end) = (a.offset, a.offset.saturating_add(a.len));
        if end > size {
            self.problems.push(PlanProblem::ArgumentOutside {
                step,
                label: label(),
                argument,
                buffer,
                start,
                end,
                size,
            });
            return None;
        }
        let (place, base) = match place {
            Buffer::Input(i) => (Place::Input(i), 0),
            Buffer::Output(i) => (Place::Output(i), 0),
            Buffer::State(i) => (Place::State(i), 0),
            Buffer::Weight { offset, .. } => (Place::Weights, offset),
            Buffer::Arena { offset, .. } => (Place::Arena, offset),
        };
        Some((place, base.saturating_add(start)..base.saturating_add(end)))
    }

    fn hazards(&mut self, step: usize, label: &str, ranges: &[(usize, &Argument, Place, Range<usize>)]) {
        for (position, (first, a, a_place, a_range)) in ranges.iter().enumerate() {
            for (second, b, b_place, b_range) in ranges.iter().skip(position + 1) {
                let written = a.access.writes() || b.access.writes();
                let both_written = a.access.writes() && b.access.writes();
                let meet = a_place == b_place && a_range.start < b_range.end && b_range.start < a_range.end;
                let in_place = a_range == b_range && !both_written;
                // what is written between gaps may leave alone what lies in them
                let apart = [a, b].iter().any(|x| x.access.writes() && x.strided);
                if written && meet && !in_place && !apart {
                    let label = label.to_owned();
                    self.problems.push(PlanProblem::Hazard { step, label, first: *first, second: *second });
                }
            }
        }
    }

    fn check_read(
        &mut self,
        step: usize,
        label: &str,
        argument: usize,
        buffer: usize,
        place: Place,
        range: Range<usize>,
    ) {
        let label = label.to_owned();
        match place {
            Place::Arena => match self.arena.first_foreign(range, buffer) {
                Some((byte, None)) => {
                    let place = "the arena";
                    self.problems.push(PlanProblem::ReadsUnwritten { step, label, argument, place, byte });
                }
                Some((byte, Some(owner))) => {
                    self.problems.push(PlanProblem::Overwritten { step, label, argument, byte, buffer, owner });
                }
                None => {}
            },
            Place::Output(i) => {
                let foreign = self.outputs.get(i).and_then(|w| w.first_foreign(range, 0));
                if let Some((byte, _)) = foreign {
                    let place = "an output";
                    self.problems.push(PlanProblem::ReadsUnwritten { step, label, argument, place, byte });
                }
            }
            Place::Input(_) | Place::Weights | Place::State(_) => {}
        }
    }

    fn outputs_written(&mut self) {
        for (output, (spec, writers)) in self.plan.signature.outputs.iter().zip(&self.outputs).enumerate() {
            if let Some((byte, _)) = writers.first_foreign(0..spec.byte_len().unwrap_or(0), 0) {
                self.problems.push(PlanProblem::OutputUnwritten { output, name: spec.name.clone(), byte });
            }
        }
    }
}
