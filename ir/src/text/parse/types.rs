//! Types and attributes.

use std::str::FromStr;

use super::{Parsed, Parser};
use crate::attribute::Attribute;
use crate::dtype::DType;
use crate::text::error::ParseErrorKind;
use crate::text::lex::Kind;
use crate::types::{Dim, TensorType};

/// Dims that a type may have. Far beyond any model; it keeps the checks of a hostile text cheap.
const MAX_RANK: usize = 64;

/// Nesting that no attribute needs; it bounds the stack.
const MAX_DEPTH: usize = 16;

impl<'a> Parser<'a> {
    /// A non-negative integer.
    pub(super) fn integer<T: FromStr>(&mut self, expected: &'static str) -> Parsed<T> {
        let mark = self.mark();
        let text = self.number(expected)?;
        text.parse().map_err(|_| self.error(mark, ParseErrorKind::Number { text: text.to_owned(), expected }))
    }

    /// `f32[batch, 784]`
    pub(super) fn tensor_type(&mut self) -> Parsed<TensorType> {
        let mark = self.mark();
        let word = match self.token.kind {
            Kind::Word(w) => w,
            _ => return Err(self.expected("a type (`f32[2, 3]`)")),
        };
        let Ok(dtype) = word.parse::<DType>() else {
            return Err(self.expected("a dtype (f64, f32, f16, bf16, i64, i32, i8, u8 or bool)"));
        };
        self.bump();
        self.expect("[")?;
        let mut dims = Vec::new();
        self.list("]", |p| {
            let dim = match p.token.kind {
                Kind::Word(w) => {
                    p.bump();
                    Dim::symbol(w)
                }
                Kind::Str(_) => Dim::symbol(&p.string("an extent")?),
                _ => Dim::Fixed(p.integer("an extent (a number of elements or a symbol)")?),
            };
            dims.push(dim);
            Ok(())
        })?;
        if dims.len() > MAX_RANK {
            return Err(self.error(mark, ParseErrorKind::Limit { what: "too many dims", limit: MAX_RANK }));
        }
        Ok(TensorType { dtype, dims })
    }

    /// The value of an attribute.
    pub(super) fn attribute(&mut self, depth: usize) -> Parsed<Attribute> {
        if depth > MAX_DEPTH {
            let mark = self.mark();
            return Err(self.error(mark, ParseErrorKind::Limit { what: "lists too deep", limit: MAX_DEPTH }));
        }
        if self.eat("[") {
            let mut items = Vec::new();
            self.list("]", |p| {
                items.push(p.attribute(depth + 1)?);
                Ok(())
            })?;
            return Ok(Attribute::List(items));
        }
        let mark = self.mark();
        match self.token.kind {
            Kind::Word(w) => {
                self.bump();
                Ok(Attribute::Word(w.to_owned()))
            }
            Kind::Str(_) => Ok(Attribute::Str(self.string("")?)),
            Kind::Number(text) => {
                self.bump();
                let whole = text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
                let value =
                    if whole { text.parse().ok().map(Attribute::Int) } else { text.parse().ok().map(Attribute::Real) };
                let expected = if whole { "a 64-bit integer" } else { "a number" };
                value.ok_or_else(|| self.error(mark, ParseErrorKind::Number { text: text.to_owned(), expected }))
            }
            _ => Err(self.expected("an attribute's value (a number, a word, a string in quotes or a list)")),
        }
    }
}
