//! Tensors and initialisers.

use super::{Mark, Parsed, Parser};
use crate::attribute::Real;
use crate::initializer::Initializer;
use crate::tensor::Tensor;
use crate::text::error::ParseErrorKind;
use crate::text::lex::Kind;
use crate::text::tensor::read_element;
use crate::types::TensorType;

/// An element of `dense<…>`, unread.
type Element<'a> = (&'a str, Mark);

/// A tensor as it stands in the text, before its type is known.
pub(super) enum Written<'a> {
    /// `dense<0.0>`
    Splat(Element<'a>),
    /// `dense<[1, 2]>`
    List(Vec<Element<'a>>, Mark),
    /// `@id`
    Content(blake3::Hash, Mark),
    /// `normal(mean=0.0, std=1.0, seed=7)`
    Recipe(Initializer, Mark),
}

/// The forms of initialisers: name, parameters.
const RECIPES: [(&str, &[&str], &str); 5] = [
    ("fill", &["value"], "fill(value)"),
    ("uniform", &["low", "high", "seed"], "uniform(low=…, high=…, seed=…)"),
    ("normal", &["mean", "std", "seed"], "normal(mean=…, std=…, seed=…)"),
    ("xavier", &["fan_in", "fan_out", "seed"], "xavier(fan_in=…, fan_out=…, seed=…)"),
    ("he", &["fan_in", "seed"], "he(fan_in=…, seed=…)"),
];

impl<'a> Parser<'a> {
    pub(super) fn written_tensor(&mut self) -> Parsed<Written<'a>> {
        let mark = self.mark();
        match &self.token.kind {
            Kind::At(id) => {
                let id = blake3::Hash::from_hex(id);
                if id.is_err() {
                    return Err(self.expected("a content id of 64 hexadecimal digits"));
                }
                self.bump();
                id.map(|id| Written::Content(id, mark)).map_err(|_| super::Reported)
            }
            Kind::Word("dense") => {
                self.bump();
                self.expect("<")?;
                let written = if self.eat("[") {
                    let mut elements = Vec::new();
                    self.list("]", |p| {
                        elements.push(p.element()?);
                        Ok(())
                    })?;
                    Written::List(elements, mark)
                } else {
                    Written::Splat(self.element()?)
                };
                self.expect(">")?;
                Ok(written)
            }
            Kind::Word(_) => Ok(Written::Recipe(self.recipe()?, mark)),
            _ => Err(self.expected("a tensor (`dense<…>`, `@content-id` or an initialiser)")),
        }
    }

    fn element(&mut self) -> Parsed<Element<'a>> {
        let mark = self.mark();
        match self.token.kind {
            Kind::Number(text) | Kind::Word(text) => {
                self.bump();
                Ok((text, mark))
            }
            _ => Err(self.expected("an element (a number, `inf`, `nan`, `true` or `false`)")),
        }
    }

    /// `name(parameter=number, …)`
    fn recipe(&mut self) -> Parsed<Initializer> {
        let mark = self.mark();
        let name = self.word("an initialiser")?;
        let Some(&(_, parameters, form)) = RECIPES.iter().find(|(n, ..)| *n == name) else {
            let expected = "`dense<…>`, `@content-id`, fill, uniform, normal, xavier or he";
            return Err(self.error(mark, ParseErrorKind::Initializer { expected, found: name.to_owned() }));
        };
        self.expect("(")?;
        let mut given: Vec<(&str, &str)> = Vec::new();
        self.list(")", |p| {
            let mut name = "value";
            if let Kind::Word(w) = p.token.kind
                && parameters.contains(&w)
            {
                p.bump();
                p.expect("=")?;
                name = w;
            }
            given.push((name, p.element()?.0));
            Ok(())
        })?;
        let real = |i: usize| {
            given.iter().find(|(n, _)| Some(n) == parameters.get(i)).and_then(|(_, v)| v.parse().ok()).map(Real)
        };
        let count =
            |i: usize| given.iter().find(|(n, _)| Some(n) == parameters.get(i)).and_then(|(_, v)| v.parse().ok());
        let seed = given.iter().find(|(n, _)| *n == "seed").and_then(|(_, v)| v.parse().ok());
        let made = (given.len() == parameters.len()).then(|| match name {
            "fill" => Some(Initializer::Fill(real(0)?)),
            "uniform" => Some(Initializer::Uniform { low: real(0)?, high: real(1)?, seed: seed? }),
            "normal" => Some(Initializer::Normal { mean: real(0)?, std: real(1)?, seed: seed? }),
            "xavier" => Some(Initializer::Xavier { fan_in: count(0)?, fan_out: count(1)?, seed: seed? }),
            _ => Some(Initializer::He { fan_in: count(0)?, seed: seed? }),
        });
        let mark = Mark { end: self.last.end, ..mark };
        made.flatten().ok_or_else(|| {
            let found = self.text[mark.start..mark.end].chars().take(80).collect();
            self.error(mark, ParseErrorKind::Initializer { expected: form, found })
        })
    }

    /// The tensor of type `ty` that was written.
    pub(super) fn make_tensor(&mut self, written: Written<'a>, ty: &TensorType, at: Mark) -> Parsed<Tensor> {
        let Some(dims) = ty.static_dims() else {
            return Err(self.error(at, ParseErrorKind::SymbolicTensor { found: ty.to_string() }));
        };
        if let Written::Content(id, mark) = written {
            let Some(tensor) = (self.weights)(&id) else {
                return Err(self.error(mark, ParseErrorKind::UnknownWeight { id: id.to_hex().to_string() }));
            };
            if tensor.dtype() != ty.dtype || tensor.dims() != dims {
                let found = TensorType::fixed(tensor.dtype(), tensor.dims()).to_string();
                return Err(self.error(mark, ParseErrorKind::WeightType { expected: ty.to_string(), found }));
            }
            return Ok(tensor);
        }
        let left = ty.byte_count().and_then(|n| self.budget.checked_sub(n));
        let (Some(left), Some(count)) = (left, ty.element_count()) else {
            let limit = crate::text::tensor::MAX_WRITTEN_BYTES;
            return Err(self.error(at, ParseErrorKind::TooLarge { limit }));
        };
        self.budget = left;
        let (elements, repeat) = match written {
            Written::Recipe(recipe, mark) => {
                return recipe.materialize(ty.dtype, &dims).map_err(|e| self.error(mark, e.into()));
            }
            Written::Splat(element) => (vec![element], count),
            Written::List(elements, _) if elements.len() == count => (elements, 1),
            Written::List(elements, mark) => {
                let (expected, found) = (ty.to_string(), elements.len());
                return Err(self.error(mark, ParseErrorKind::ElementCount { expected, count, found }));
            }
            Written::Content(..) => (Vec::new(), 0),
        };
        let mut bytes = Vec::new();
        for (text, mark) in elements {
            if !read_element(ty.dtype, text, &mut bytes) {
                let (element, dtype) = (text.to_owned(), ty.dtype.name());
                return Err(self.error(mark, ParseErrorKind::Element { element, dtype }));
            }
        }
        let bytes = if repeat == 1 { bytes } else { bytes.repeat(repeat) };
        Tensor::from_bytes(ty.dtype, &dims, bytes.into()).map_err(|e| self.error(at, e.into()))
    }
}
