//! The text format: what people read, diff, snapshot and paste into bug reports.
//!
//! ```text
//! kiln 1
//! graph @mlp(%x: f32[batch, 784]) -> (%p: f32[batch, 10]) {
//!   variable "fc/w": f32[784, 10] = xavier(fan_in=784, fan_out=10, seed=1)
//!   %w = read_var {variable = "fc/w"} : f32[784, 10]
//!   %b = constant dense<0.0> : f32[10]
//!   %h = dot_general %x, %w {lhs_contract = [1], rhs_contract = [0]} : f32[batch, 10]
//!   %0 = broadcast %b {axes = [1]} : f32[batch, 10]
//!   %y = add %h, %0 : f32[batch, 10]
//!   %p = softmax %y {axis = 1} : f32[batch, 10]
//! }
//! ```
//!
//! ```text
//! file       = "kiln" "1" "graph" "@"name "(" [param {"," param}] ")" "->" "(" [result {"," result}] ")" "{" {statement} "}"
//! param      = value ":" type [location]
//! result     = [(word | string) "="] value [":" type]
//! statement  = "metadata" string "=" string
//!            | "variable" string ":" type "=" (initialiser | tensor)
//!            | [value {"," value} "="] mnemonic [tensor] [value {"," value}] ["{" attributes "}"] [":" type {"," type}] [location]
//! tensor     = "dense" "<" (element | "[" [element {"," element}] "]") ">"  |  "@"content-id  |  initialiser
//! attributes = word "=" attribute {"," word "=" attribute}
//! attribute  = number | string | word | "[" [attribute {"," attribute}] "]"
//! type       = dtype "[" [dim {"," dim}] "]"            dim = number | word | string
//! location   = "loc" "(" string (":" line ":" column | "," string) ")"
//! ```
//!
//! - A statement ends with its line; lists go on after a comma. `//` starts a comment.
//! - **Values.** A node with a name is `%name`; a second one of that name is `%name.1`. Unnamed nodes are counted:
//!   `%0`, `%1`. Result k > 0 of a node is `%name#k`. Names that need it are quoted: `%"a b"`. Parameters are the
//!   placeholders, results the named outputs; `%p` as a result stands for `p = %p`.
//! - **Attributes** equal to their default are left out, and so are `dtype` and `dims`, which the type after the
//!   colon says. Other types may be left out when reading; where they are given they must be the inferred ones.
//! - **Tensors** of few elements, or of one value throughout, stand in the text; others are named by content id
//!   ([`Tensor::content_id`](crate::Tensor::content_id)) and live in a [`WeightStore`]. Where a constant is
//!   given by an initialiser (`constant normal(mean=0.0, std=1.0, seed=7) : f32[64]`), reading works it out.
//! - Reading what was printed gives an equal graph ([`Graph`](crate::Graph)'s `==`), and printing that the same text. Without
//!   `loc(…)`, a node's location is its place in the text.

mod error;
mod lex;
mod name;
mod parse;
mod print;
mod tensor;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use error::{ParseError, ParseErrorKind, ParseErrors};
pub use name::Names;
pub(crate) use name::is_word;
pub use parse::{Resolver, parse, parse_with};
pub(crate) use print::said_by_type;
pub use print::{PrintOptions, print, print_into};

use crate::tensor::Tensor;

/// Version of the format, the number after `kiln` in the first line.
pub const VERSION: u32 = 1;

/// Tensors by content id: what a text names but does not hold.
#[derive(Clone, Debug, Default)]
pub struct WeightStore {
    tensors: BTreeMap<[u8; 32], Tensor>,
}

impl WeightStore {
    /// An empty store.
    pub fn new() -> WeightStore {
        WeightStore::default()
    }

    /// Adds a tensor; returns its content id.
    pub fn insert(&mut self, tensor: Tensor) -> blake3::Hash {
        let id = tensor.content_id();
        self.insert_as(id, tensor);
        id
    }

    /// Adds a tensor whose content id is known to be `id`.
    pub(crate) fn insert_as(&mut self, id: blake3::Hash, tensor: Tensor) {
        self.tensors.entry(*id.as_bytes()).or_insert(tensor);
    }

    /// The tensor of content id `id`.
    pub fn get(&self, id: &blake3::Hash) -> Option<&Tensor> {
        self.tensors.get(id.as_bytes())
    }

    /// All tensors, by content id in order.
    pub fn iter(&self) -> impl Iterator<Item = (blake3::Hash, &Tensor)> {
        self.tensors.iter().map(|(id, t)| (blake3::Hash::from_bytes(*id), t))
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }
}
