//! What a handler sees of the node it imports.

use std::cell::RefCell;

use kiln_ir::Tensor;

use super::attributes::Attributes;
use super::emit::{Emitter, Operand};
use super::error::{NodeError, Result, invalid};
use super::narrow::NarrowType;
use super::ops::Takes;
use super::tensor::ExternalFiles;
use super::value::{Sequence, Value};

/// Imports one node: its results, in order. Fewer results than the operator has means that the
/// missing ones are not supported, which is an error where they are used.
pub(super) type TensorHandler = fn(&mut NodeContext<'_>) -> Result<Vec<Operand>>;

/// As [`TensorHandler`], of an operator that takes or gives sequences and optionals.
pub(super) type ValueHandler = fn(&mut NodeContext<'_>) -> Result<Vec<Value>>;

/// How an operator is imported.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    Tensors(TensorHandler, Takes),
    Values(ValueHandler),
}

/// One node with its operands.
pub(super) struct NodeContext<'a> {
    /// Where results are made.
    pub emit: &'a mut Emitter,
    /// The node's attributes.
    pub attributes: Attributes<'a>,
    /// Version of the operator set.
    pub opset: i64,
    /// Results the node names.
    pub outputs: usize,
    /// Files beside the model.
    pub files: &'a ExternalFiles,
    /// The narrow element type that operands had, which are now the tensors that hold them.
    pub narrow: Option<NarrowType>,
    inputs: Vec<Option<Value>>,
    read: RefCell<Vec<bool>>,
}

impl<'a> NodeContext<'a> {
    pub fn new(
        emit: &'a mut Emitter,
        attributes: Attributes<'a>,
        opset: i64,
        outputs: usize,
        files: &'a ExternalFiles,
        inputs: Vec<Option<Value>>,
    ) -> NodeContext<'a> {
        let read = RefCell::new(vec![false; inputs.len()]);
        NodeContext { emit, attributes, opset, outputs, files, narrow: None, inputs, read }
    }

    /// Input `index`, whatever it is; `None` where it is omitted.
    pub fn value(&self, index: usize) -> Option<Value> {
        if let Some(read) = self.read.borrow_mut().get_mut(index) {
            *read = true;
        }
        self.inputs.get(index).cloned().flatten()
    }

    /// Input `index`, or `None` where it is omitted. Operators on tensors see no other values: those are refused
    /// before; what is no tensor counts as omitted for the others, which ask for [`NodeContext::value`].
    pub fn optional(&self, index: usize) -> Option<Operand> {
        match self.value(index) {
            Some(Value::Tensor(operand)) => Some(operand),
            _ => None,
        }
    }

    /// Input `index`, a sequence.
    pub fn sequence(&self, index: usize, role: &'static str) -> Result<Sequence> {
        self.value(index).ok_or(NodeError::MissingInput { index, role })?.sequence(index).cloned()
    }

    /// Makes inputs of a narrow element type the tensors that hold them: those at `places`, or all where it is `None`, which
    /// must be of one type. Nothing is done where one of them does not fit; it is then refused with what else is no tensor.
    pub fn unwrap_narrow(&mut self, places: Option<&[usize]>, fits: fn(NarrowType) -> bool) -> Result<()> {
        let taken = |i: &usize| places.is_none_or(|places| places.contains(i));
        let places: Vec<usize> = (0..self.inputs.len()).filter(taken).collect();
        let given = |i: usize| self.inputs.get(i).and_then(Option::as_ref);
        let narrow: Vec<NarrowType> = places.iter().filter_map(|&i| given(i)?.narrow()).collect();
        let Some(&ty) = narrow.first().filter(|_| narrow.iter().all(|&ty| fits(ty))) else { return Ok(()) };
        let others = places.iter().filter_map(|&i| given(i)).any(|value| value.narrow() != Some(ty));
        if others {
            let found = places.iter().filter_map(|&i| Some(format!("{} (input {i})", given(i)?.element_type())));
            let found = found.collect::<Vec<_>>().join(", ");
            return invalid(format!("its operands must be of one element type, found {found}; cast them to one"));
        }
        for i in places {
            if let Some(Some(value)) = self.inputs.get_mut(i)
                && let Some(held) = value.held().cloned()
            {
                *value = Value::Tensor(held);
            }
        }
        self.narrow = Some(ty);
        Ok(())
    }

    /// Refuses inputs that are no tensors.
    pub fn check_tensors(&self) -> Result<()> {
        let mut given = self.inputs.iter().enumerate().filter_map(|(i, value)| Some((i, value.as_ref()?)));
        given.try_for_each(|(i, value)| value.tensor(i).map(|_| ()))
    }

    /// Input `index`.
    pub fn input(&self, index: usize, role: &'static str) -> Result<Operand> {
        self.optional(index).ok_or(NodeError::MissingInput { index, role })
    }

    /// All inputs of a variadic operator: at least one, none omitted.
    pub fn all_inputs(&self, role: &'static str) -> Result<Vec<Operand>> {
        if self.inputs.is_empty() {
            return Err(NodeError::MissingInput { index: 0, role });
        }
        (0..self.inputs.len()).map(|i| self.input(i, role)).collect()
    }

    /// An input that must be known at import, where it is there.
    pub fn known(&self, index: usize, role: &'static str) -> Result<Option<Tensor>> {
        let Some(operand) = self.optional(index) else { return Ok(None) };
        operand.tensor().cloned().map(Some).ok_or(NodeError::NotConstant { index, role })
    }

    /// A list of integers (or one) that must be known at import, where it is there.
    pub fn integers(&self, index: usize, role: &'static str) -> Result<Option<Vec<i64>>> {
        let Some(tensor) = self.known(index, role)? else { return Ok(None) };
        if !tensor.dtype().is_integer() || tensor.dims().len() > 1 {
            return invalid(format!("input {index} ({role}) must be a list of integers, found {tensor:?}"));
        }
        Ok(Some(tensor.to_i64_vec()))
    }

    /// As [`NodeContext::integers`], but the input must be there.
    pub fn required_integers(&self, index: usize, role: &'static str) -> Result<Vec<i64>> {
        self.integers(index, role)?.ok_or(NodeError::MissingInput { index, role })
    }

    /// A list of integers that is the attribute `name` before opset `since`, and input `index` from then on.
    pub fn integers_since(&self, since: i64, name: &str, index: usize, role: &'static str) -> Result<Option<Vec<i64>>> {
        if self.opset < since {
            Ok(self.attributes.ints(name)?.map(<[i64]>::to_vec))
        } else {
            self.integers(index, role)
        }
    }

    /// Inputs beyond those that the operator has.
    pub fn check_all_read(&self) -> Result<()> {
        let read = self.read.borrow();
        let unread = |(i, operand): (usize, &Option<Value>)| operand.is_some() && !read.get(i).is_some_and(|r| *r);
        match self.inputs.iter().enumerate().position(unread) {
            None => Ok(()),
            Some(expected) => Err(NodeError::TooManyInputs { expected, found: self.inputs.len() }),
        }
    }
}
