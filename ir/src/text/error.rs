//! What can be wrong with a text, and where.

use std::fmt;

use crate::graph::GraphError;
use crate::ops::AttributeError;
use crate::tensor::TensorError;

/// What is wrong at one place of a text.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ParseErrorKind {
    /// Something else should stand here.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What should stand here.
        expected: String,
        /// What does.
        found: String,
    },
    /// The text is of another version of the format.
    #[error("the text is of format version {found}, this Kiln reads version {}", super::VERSION)]
    Version {
        /// The number after `kiln`.
        found: String,
    },
    /// A value that was not defined above.
    #[error("no value {name}: a value is defined before it is used")]
    UnknownValue {
        /// The name.
        name: String,
    },
    /// A value defined a second time.
    #[error("{name} is defined twice")]
    Redefined {
        /// The name.
        name: String,
    },
    /// Attributes that do not make the op, or an unknown op.
    #[error("{0}")]
    Attribute(AttributeError),
    /// The graph refuses what was read: types, names, variables.
    #[error("{0}")]
    Graph(Box<GraphError>),
    /// A written type is not the inferred one.
    #[error("{name} is written as {written}, but {mnemonic} gives {inferred}")]
    Type {
        /// The value.
        name: String,
        /// Its op.
        mnemonic: String,
        /// The type in the text.
        written: String,
        /// The type that inference gives.
        inferred: String,
    },
    /// More or fewer names or types than results.
    #[error("{mnemonic} has {expected} result{}, found {found} {what}", if *.expected == 1 { "" } else { "s" })]
    ResultCount {
        /// The op.
        mnemonic: String,
        /// Its results.
        expected: usize,
        /// `names` or `types`.
        what: &'static str,
        /// How many are written.
        found: usize,
    },
    /// The type that says an attribute is missing.
    #[error("`{mnemonic}` takes its {attribute} from the type of the result: write it after a colon")]
    NoType {
        /// The op.
        mnemonic: String,
        /// `dtype` or `dims`.
        attribute: &'static str,
    },
    /// The weights do not hold a tensor that the text names.
    #[error("no tensor of content id {id} among the weights given with this text")]
    UnknownWeight {
        /// The content id.
        id: String,
    },
    /// A tensor of another type than the text says.
    #[error("the tensor is {found}, the text says {expected}")]
    WeightType {
        /// The type in the text.
        expected: String,
        /// The tensor's type.
        found: String,
    },
    /// Elements that do not make the tensor.
    #[error("{expected} takes {count} element{}, found {found}", if *.count == 1 { "" } else { "s" })]
    ElementCount {
        /// The type in the text.
        expected: String,
        /// Elements of that type.
        count: usize,
        /// Elements written.
        found: usize,
    },
    /// An element that the dtype does not have.
    #[error("`{element}` is no {dtype}")]
    Element {
        /// The element.
        element: String,
        /// The dtype.
        dtype: &'static str,
    },
    /// A tensor in the text needs fixed extents.
    #[error("a tensor has fixed extents, found {found}")]
    SymbolicTensor {
        /// The type in the text.
        found: String,
    },
    /// The tensors that the text gives by a rule would take too much memory.
    #[error("the tensors written in this text take more than {limit} bytes: give large ones by content id")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The tensor cannot be made.
    #[error("{0}")]
    Tensor(#[from] TensorError),
    /// An initialiser with other arguments than it takes.
    #[error("expected {expected}, found `{found}`")]
    Initializer {
        /// The form it takes.
        expected: &'static str,
        /// What is written.
        found: String,
    },
    /// A number out of range.
    #[error("`{text}` is not {expected}")]
    Number {
        /// The number.
        text: String,
        /// What it should be.
        expected: &'static str,
    },
    /// More of something than any model has.
    #[error("{what}: at most {limit}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

/// An error at one place of a text. Displays place, message and the line with a caret below it.
#[derive(Clone, Debug, PartialEq)]
pub struct ParseError {
    /// The text's name.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong.
    pub kind: ParseErrorKind,
    excerpt: String,
    /// Offset of the carets in the excerpt, and their number.
    carets: (usize, usize),
}

/// Characters of a line that an error shows at most.
const EXCERPT: usize = 120;

impl ParseError {
    /// The error at bytes `start..end` of `text`.
    pub(super) fn new(
        text: &str,
        file: &str,
        place: (u32, u32),
        (start, end): (usize, usize),
        kind: ParseErrorKind,
    ) -> ParseError {
        let (line, column) = place;
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let before = &text[line_start..start];
        let marked = &text[start..end.clamp(start, line_end)];
        // A long line is shown from a little before the error on.
        let skipped = before.chars().count().saturating_sub(EXCERPT / 2);
        let shown = |s: &str| -> String { s.chars().map(|c| if c.is_control() { ' ' } else { c }).collect() };
        let excerpt: String = text[line_start..line_end].chars().skip(skipped).take(EXCERPT).collect();
        let at = before.chars().count() - skipped;
        let width = marked.chars().count().clamp(1, EXCERPT.saturating_sub(at).max(1));
        let excerpt = shown(&excerpt);
        ParseError { file: file.to_owned(), line, column, kind, excerpt, carets: (at, width) }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let gutter = number.len();
        writeln!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.kind)?;
        writeln!(f, " {number} | {}", self.excerpt)?;
        write!(f, " {:gutter$} | {:at$}{:^<width$}", "", "", "", at = self.carets.0, width = self.carets.1)
    }
}

impl std::error::Error for ParseError {}

/// Every error found in a text, in order of their places. Never empty.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub struct ParseErrors(pub Vec<ParseError>);

impl fmt::Display for ParseErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, e) in self.0.iter().enumerate() {
            write!(f, "{}{e}", if i > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}
