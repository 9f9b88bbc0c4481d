//! What one row of the op table says, and reading attributes by it.

use std::fmt;

use crate::attribute::{Attribute, AttributeType};

/// Which stage of compilation an op belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Primitive.
    L0,
    /// Composite: has a body in L0.
    L1,
    /// Lowered: made only by passes.
    L2,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::L0 => "L0",
            Level::L1 => "L1",
            Level::L2 => "L2",
        })
    }
}

/// A row of the op table.
#[derive(Debug)]
pub struct Row {
    /// Name in the text format.
    pub mnemonic: &'static str,
    /// Stage.
    pub level: Level,
    /// Documentation, a line an item.
    pub doc: &'static [&'static str],
    /// Names of the fixed operands.
    pub operands: &'static [&'static str],
    /// Name of the operands that may follow, any number of them.
    pub variadic: Option<&'static str>,
    /// Attributes.
    pub attributes: &'static [AttributeRow],
    /// The scalar formula of an elementwise op.
    pub formula: Option<&'static str>,
    /// Numbered constraints: label and statement.
    pub constraints: &'static [(&'static str, &'static str)],
}

/// An attribute of a row.
#[derive(Debug)]
pub struct AttributeRow {
    /// Name.
    pub name: &'static str,
    /// Documentation, a line an item.
    pub doc: &'static [&'static str],
    /// What a value must be.
    pub expected: &'static str,
    /// The default in generic form, where there is one.
    pub default: fn() -> Option<Attribute>,
}

impl Row {
    /// The statement of constraint `label`.
    pub fn constraint(&self, label: &str) -> Option<&'static str> {
        self.constraints.iter().find(|(l, _)| *l == label).map(|(_, text)| *text)
    }
}

/// The only item of a list of at most one; for rows, which are statics.
pub(super) const fn first(items: &[&'static str]) -> Option<&'static str> {
    if items.is_empty() { None } else { Some(items[0]) }
}

/// Attributes that do not make an op.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AttributeError {
    /// No such op.
    #[error("unknown op `{mnemonic}`")]
    UnknownOp {
        /// The name.
        mnemonic: String,
    },
    /// The op has no such attribute.
    #[error("`{mnemonic}` has no attribute `{name}`{}", known_attributes(.known))]
    Unknown {
        /// The op.
        mnemonic: String,
        /// The attribute.
        name: String,
        /// The attributes it has.
        known: Vec<&'static str>,
    },
    /// The attribute has no default and is missing.
    #[error("`{mnemonic}` needs the attribute `{name}`: {expected}")]
    Missing {
        /// The op.
        mnemonic: String,
        /// The attribute.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// The attribute's value is of another type.
    #[error("`{mnemonic}`: attribute `{name}` must be {expected}, found {found}{}", because(.fault))]
    Type {
        /// The op.
        mnemonic: String,
        /// The attribute.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What was given.
        found: String,
        /// What is wrong inside it, if its form is right.
        fault: Option<String>,
    },
    /// The attribute is given twice.
    #[error("`{mnemonic}`: attribute `{name}` is given twice")]
    Twice {
        /// The op.
        mnemonic: String,
        /// The attribute.
        name: String,
    },
}

fn because(fault: &Option<String>) -> String {
    fault.as_ref().map_or_else(String::new, |fault| format!(" ({fault})"))
}

fn known_attributes(names: &[&str]) -> String {
    if names.is_empty() { "; it has none".to_owned() } else { format!("; it has {}", names.join(", ")) }
}

/// Takes typed attributes out of a list, collecting every problem.
pub(super) struct AttributeReader<'a> {
    mnemonic: &'a str,
    given: &'a [(String, Attribute)],
    taken: Vec<&'static str>,
    errors: Vec<AttributeError>,
}

impl<'a> AttributeReader<'a> {
    pub(super) fn new(mnemonic: &'a str, given: &'a [(String, Attribute)]) -> AttributeReader<'a> {
        AttributeReader { mnemonic, given, taken: Vec::new(), errors: Vec::new() }
    }

    pub(super) fn take<T: AttributeType>(&mut self, name: &'static str, default: Option<T>) -> Option<T> {
        self.taken.push(name);
        let mnemonic = self.mnemonic.to_owned();
        let mut matches = self.given.iter().filter(|(n, _)| n == name);
        let Some((_, value)) = matches.next() else {
            if default.is_none() {
                self.errors.push(AttributeError::Missing { mnemonic, name, expected: T::EXPECTED });
            }
            return default;
        };
        if matches.next().is_some() {
            self.errors.push(AttributeError::Twice { mnemonic, name: name.to_owned() });
            return None;
        }
        let typed = T::from_attribute(value);
        if typed.is_none() {
            let (found, fault) = (value.to_string(), T::fault(value));
            self.errors.push(AttributeError::Type { mnemonic, name, expected: T::EXPECTED, found, fault });
        }
        typed
    }

    pub(super) fn finish(mut self) -> Result<(), Vec<AttributeError>> {
        for (name, _) in self.given {
            if !self.taken.contains(&name.as_str()) {
                self.errors.push(AttributeError::Unknown {
                    mnemonic: self.mnemonic.to_owned(),
                    name: name.clone(),
                    known: self.taken.clone(),
                });
            }
        }
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }
}
