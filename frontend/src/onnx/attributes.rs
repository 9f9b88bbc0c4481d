//! Reading a node's attributes, so that none is ignored without a word.

use std::cell::RefCell;

use kiln_ir::DType;

use super::error::{NodeError, Result};
use super::proto::{AttributeProto, AttributeType, GraphProto, TensorProto};
use super::tensor::dtype_of;

/// The attributes of one node. Every attribute must be taken or dismissed: what is left is an error.
pub(super) struct Attributes<'a> {
    given: &'a [AttributeProto],
    taken: RefCell<Vec<&'a str>>,
}

impl<'a> Attributes<'a> {
    pub fn new(given: &'a [AttributeProto]) -> Attributes<'a> {
        Attributes { given, taken: RefCell::default() }
    }

    /// The attribute `name`, taken.
    fn take(&self, name: &str, wanted: AttributeType, expected: &'static str) -> Result<Option<&'a AttributeProto>> {
        let Some(a) = self.given.iter().find(|a| a.name.as_deref() == Some(name)) else { return Ok(None) };
        self.taken.borrow_mut().push(a.name.as_deref().unwrap_or_default());
        let found = a.r#type();
        // Files before IR version 2 do not say the type; what is there must then be of the type wanted.
        if found == wanted || found == AttributeType::Undefined {
            Ok(Some(a))
        } else {
            let found = format!("a value of type {found:?}");
            Err(NodeError::Attribute { name: name.to_owned(), expected: expected.to_owned(), found })
        }
    }

    /// Says that an attribute does not change what is imported; the caller states why.
    pub fn dismiss(&self, name: &str) {
        if let Some(a) = self.given.iter().find(|a| a.name.as_deref() == Some(name)) {
            self.taken.borrow_mut().push(a.name.as_deref().unwrap_or_default());
        }
    }

    pub fn int(&self, name: &str) -> Result<Option<i64>> {
        let expected = "an integer";
        self.take(name, AttributeType::Int, expected)?
            .map(|a| a.i.ok_or_else(|| NodeError::MissingAttribute { name: name.to_owned(), expected }))
            .transpose()
    }

    pub fn int_or(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// The attribute that names an element type; `None` where it is missing.
    pub fn dtype(&self, name: &str) -> Result<Option<DType>> {
        let Some(number) = self.int(name)? else { return Ok(None) };
        let dtype = i32::try_from(number).map_err(|_| format!("number {number}")).and_then(dtype_of);
        dtype.map(Some).map_err(|found| NodeError::Unsupported(format!("{name} {found}")))
    }

    pub fn required_int(&self, name: &str) -> Result<i64> {
        self.int(name)?.ok_or_else(|| NodeError::MissingAttribute { name: name.to_owned(), expected: "an integer" })
    }

    /// An integer that is 0 or 1.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.int(name)? {
            None => Ok(default),
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            Some(other) => {
                Err(NodeError::Attribute { name: name.to_owned(), expected: "0 or 1".into(), found: other.to_string() })
            }
        }
    }

    pub fn float(&self, name: &str) -> Result<Option<f64>> {
        let expected = "a float";
        self.take(name, AttributeType::Float, expected)?
            .map(|a| a.f.map(f64::from).ok_or_else(|| NodeError::MissingAttribute { name: name.to_owned(), expected }))
            .transpose()
    }

    pub fn float_or(&self, name: &str, default: f64) -> Result<f64> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    pub fn string(&self, name: &str) -> Result<Option<&'a str>> {
        let Some(a) = self.take(name, AttributeType::String, "a string")? else { return Ok(None) };
        match std::str::from_utf8(a.s.as_deref().unwrap_or_default()) {
            Ok(s) => Ok(Some(s)),
            Err(e) => {
                Err(NodeError::Attribute { name: name.to_owned(), expected: "UTF-8 text".into(), found: e.to_string() })
            }
        }
    }

    /// A string that is one of `words`; the first is the default.
    pub fn word(&self, name: &str, words: &[&'static str]) -> Result<&'static str> {
        let Some(found) = self.string(name)? else { return Ok(words.first().copied().unwrap_or_default()) };
        words.iter().find(|w| **w == found).copied().ok_or_else(|| NodeError::Attribute {
            name: name.to_owned(),
            expected: format!("one of {}", words.join(", ")),
            found: format!("`{found}`"),
        })
    }

    pub fn ints(&self, name: &str) -> Result<Option<&'a [i64]>> {
        Ok(self.take(name, AttributeType::Ints, "a list of integers")?.map(|a| a.ints.as_slice()))
    }

    pub fn floats(&self, name: &str) -> Result<Option<&'a [f32]>> {
        Ok(self.take(name, AttributeType::Floats, "a list of floats")?.map(|a| a.floats.as_slice()))
    }

    pub fn strings(&self, name: &str) -> Result<Option<Vec<&'a str>>> {
        let expected = "a list of strings";
        let Some(a) = self.take(name, AttributeType::Strings, expected)? else { return Ok(None) };
        let text = |e: std::str::Utf8Error| NodeError::Attribute {
            name: name.to_owned(),
            expected: "UTF-8 text".into(),
            found: e.to_string(),
        };
        a.strings.iter().map(|s| std::str::from_utf8(s).map_err(text)).collect::<Result<Vec<_>>>().map(Some)
    }

    pub fn tensor(&self, name: &str) -> Result<Option<&'a TensorProto>> {
        Ok(self.take(name, AttributeType::Tensor, "a tensor")?.and_then(|a| a.t.as_ref()))
    }

    pub fn graph(&self, name: &str) -> Result<&'a GraphProto> {
        let expected = "a graph";
        self.take(name, AttributeType::Graph, expected)?
            .and_then(|a| a.g.as_ref())
            .ok_or_else(|| NodeError::MissingAttribute { name: name.to_owned(), expected })
    }

    /// A list of integers that are at least `least`; `None` where it is missing.
    pub fn extents(&self, name: &str, least: i64) -> Result<Option<Vec<usize>>> {
        let Some(list) = self.ints(name)? else { return Ok(None) };
        list.iter()
            .map(|&v| usize::try_from(v).ok().filter(|_| v >= least))
            .collect::<Option<Vec<usize>>>()
            .map(Some)
            .ok_or_else(|| NodeError::Attribute {
                name: name.to_owned(),
                expected: format!("integers of at least {least}"),
                found: format!("{list:?}"),
            })
    }

    /// The attributes that nobody took.
    pub fn left(&self) -> Vec<String> {
        let taken = self.taken.borrow();
        self.given
            .iter()
            .map(|a| a.name.as_deref().unwrap_or_default())
            .filter(|name| !taken.contains(name))
            .map(str::to_owned)
            .collect()
    }
}

/// The `value` of the attribute `name`, which must be at least `least` (which is not negative).
pub fn at_least(name: &str, value: i64, least: i64) -> Result<usize> {
    usize::try_from(value).ok().filter(|_| value >= least).ok_or_else(|| NodeError::Attribute {
        name: name.to_owned(),
        expected: format!("an integer of at least {least}"),
        found: value.to_string(),
    })
}
