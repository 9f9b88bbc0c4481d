//! A graph under construction.

use std::cell::{Cell, RefCell};
use std::panic::Location as Caller;

use kiln_ir::{
    BuildErrors, Builder, DType, Dim, Element, Graph, GraphError, Initializer, Location, Tensor as TensorData, Value,
};

use super::Tensor;

/// A graph under construction. Tensors borrow it, so it can be finished only when none is left: what was fired
/// cannot grow any more.
///
/// ```
/// use kiln::prelude::*;
///
/// let scope = Scope::new("double");
/// let x = scope.placeholder::<f32>("x", dims![2, "n"]);
/// scope.output("y", x + x);
/// let graph = scope.finish()?;
/// assert_eq!(graph.outputs().len(), 1);
/// # Ok::<(), kiln::ir::BuildErrors>(())
/// ```
#[derive(Debug)]
pub struct Scope {
    pub(super) builder: RefCell<Builder>,
    seed: Cell<u64>,
    /// The names that [`Scope::within`] is inside of, joined.
    prefix: RefCell<String>,
}

impl Scope {
    /// An empty graph. Random initialisers take seed 0; see [`Scope::set_seed`].
    pub fn new(name: &str) -> Scope {
        Scope { builder: RefCell::new(Builder::new(name)), seed: Cell::new(0), prefix: RefCell::default() }
    }

    /// Puts `name` and a dot before the names of the layers and variables that `part` makes, so that a block is written
    /// once and used under many names. Parts nest. See also [`Tensor::within`].
    pub fn within<R>(&self, name: &str, part: impl FnOnce() -> R) -> R {
        let inner = self.path(name);
        let outer = self.prefix.replace(inner);
        let made = part();
        self.prefix.replace(outer);
        made
    }

    /// The full name of `name` here.
    pub(super) fn path(&self, name: &str) -> String {
        let prefix = self.prefix.borrow();
        if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
    }

    /// Sets the seed from which, with its name, each variable declared from now on draws its first value.
    pub fn set_seed(&self, seed: u64) {
        self.seed.set(seed);
    }

    /// The seed of the variable `name`: the same for the same scope seed and name, whatever else the graph has.
    pub(super) fn seed_of(&self, name: &str) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.get().to_le_bytes());
        hasher.update(name.as_bytes());
        let mut first = [0; 8];
        hasher.finalize_xof().fill(&mut first);
        u64::from_le_bytes(first)
    }

    /// A value fed at run time. Dims are numbers or names: `dims!["batch", 784]`.
    #[track_caller]
    pub fn placeholder<T: Element>(&self, name: &str, dims: impl AsRef<[Dim]>) -> Tensor<'_> {
        self.emit(Caller::caller(), |b| b.placeholder(name, T::DTYPE, dims.as_ref()))
    }

    /// A constant.
    #[track_caller]
    pub fn constant(&self, value: impl crate::ToTensor) -> Tensor<'_> {
        self.emit(Caller::caller(), |b| b.constant(value.to_tensor()))
    }

    /// A rank-0 constant.
    #[track_caller]
    pub fn scalar<T: Element>(&self, value: T) -> Tensor<'_> {
        self.emit(Caller::caller(), |b| b.constant(TensorData::scalar(value)))
    }

    /// Declares a variable with its first value, and reads it.
    #[track_caller]
    pub fn variable<T: Element>(&self, name: &str, dims: &[usize], init: Initializer) -> Tensor<'_> {
        self.variable_of(Caller::caller(), &self.path(name), T::DTYPE, dims, init)
    }

    pub(super) fn variable_of(
        &self,
        at: &Caller<'_>,
        name: &str,
        dtype: DType,
        dims: &[usize],
        init: Initializer,
    ) -> Tensor<'_> {
        self.emit(at, |b| b.variable(name, dtype, dims, init))
    }

    /// Gives the variable `name` its value for the runs after this one.
    #[track_caller]
    pub fn assign<'g>(&'g self, name: &str, value: Tensor<'g>) -> Tensor<'g> {
        let value = self.own(value, Caller::caller());
        let name = self.path(name);
        self.emit(Caller::caller(), |b| b.assign(&name, value.value))
    }

    /// Names a result.
    #[track_caller]
    pub fn output<'g>(&'g self, name: &str, value: Tensor<'g>) {
        let at = Caller::caller();
        let value = self.own(value, at);
        let mut builder = self.builder.borrow_mut();
        builder.set_location(Some(Location::caller(at)));
        builder.output(name, value.value);
    }

    /// The graph, or every error in it, each with the line that made it.
    pub fn finish(self) -> Result<Graph, BuildErrors> {
        self.builder.into_inner().finish()
    }

    /// `t`, or an error where it is a tensor of another scope.
    pub(super) fn own<'g>(&'g self, t: Tensor<'g>, at: &Caller<'_>) -> Tensor<'g> {
        if std::ptr::eq(t.scope, self) {
            return t;
        }
        let location = Some(Location::caller(at));
        self.emit(at, |b| {
            b.fail(GraphError::ForeignValue { mnemonic: "tensor of another scope", operand: 0, location })
        })
    }

    /// Adds nodes that are said to come from `at`.
    pub(super) fn emit(&self, at: &Caller<'_>, f: impl FnOnce(&mut Builder) -> Value) -> Tensor<'_> {
        let mut b = self.builder.borrow_mut();
        b.set_location(Some(Location::caller(at)));
        Tensor { scope: self, value: f(&mut b) }
    }

    /// Names the nodes that `f` adds.
    pub(super) fn named<R>(&self, name: &str, f: impl FnOnce() -> R) -> R {
        self.builder.borrow_mut().set_name(Some(name.into()));
        let made = f();
        self.builder.borrow_mut().set_name(None);
        made
    }
}

/// Dims from numbers and names: `dims!["batch", 3, 224, 224]`.
#[macro_export]
macro_rules! dims {
    ($($d:expr),* $(,)?) => { [$($crate::ir::Dim::from($d)),*] };
}
