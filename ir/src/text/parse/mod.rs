//! From text to a graph.
//!
//! A hand-written recursive-descent parser with one token of lookahead. A statement that is wrong is reported and
//! skipped to its line's end; what uses its values is passed over in silence, so that every independent mistake is
//! reported once. Nesting and rank are bounded; the only large allocations are the tensors that the text declares,
//! up to a limit.

mod statement;
mod tensor;
mod types;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::VERSION;
use super::error::{ParseError, ParseErrorKind, ParseErrors};
use super::lex::{Kind, Lexer, Token};
use super::name::ValueName;
use super::tensor::MAX_WRITTEN_BYTES;
use crate::graph::{Graph, GraphError, Location, Value};
use crate::ops::Op;
use crate::tensor::Tensor;
use crate::types::TensorType;

/// Errors after which no more are collected.
const MAX_ERRORS: usize = 100;

/// Gives the tensor of a content id.
pub type Resolver<'a> = dyn Fn(&blake3::Hash) -> Option<Tensor> + 'a;

/// The graph that `text` describes; `file` names the text in errors and locations. The text must hold all its
/// tensors.
pub fn parse(text: &str, file: &str) -> Result<Graph, ParseErrors> {
    parse_with(text, file, &|_| None)
}

/// The graph that `text` describes, with the tensors that it names by content id from `weights`.
pub fn parse_with(text: &str, file: &str, weights: &Resolver<'_>) -> Result<Graph, ParseErrors> {
    let mut lexer = Lexer::new(text);
    let token = lexer.next();
    let mut parser = Parser {
        text,
        file: Arc::from(file),
        last: Mark::of(&token),
        lexer,
        token,
        graph: Graph::new(""),
        values: HashMap::new(),
        in_statement: false,
        errors: Vec::new(),
        weights,
        budget: MAX_WRITTEN_BYTES,
    };
    // What went wrong, if anything, is in `errors`.
    let _ = parser.file();
    if parser.errors.is_empty() {
        return Ok(parser.graph);
    }
    parser.errors.sort_by_key(|e| (e.line, e.column));
    Err(ParseErrors(parser.errors))
}

/// The error is already among the parser's errors.
struct Reported;

type Parsed<T> = Result<T, Reported>;

/// A place in the text.
#[derive(Clone, Copy)]
struct Mark {
    start: usize,
    end: usize,
    line: u32,
    column: u32,
}

impl Mark {
    fn of(token: &Token<'_>) -> Mark {
        Mark { start: token.start, end: token.end, line: token.line, column: token.column }
    }
}

/// A result of the signature, to be looked up when the body is read.
struct PendingResult {
    name: String,
    value: ValueName,
    ty: Option<TensorType>,
    mark: Mark,
}

struct Parser<'a> {
    text: &'a str,
    file: Arc<str>,
    lexer: Lexer<'a>,
    token: Token<'a>,
    /// The token before.
    last: Mark,
    graph: Graph,
    /// Values by name; `None` where the definition was wrong.
    values: HashMap<ValueName, Option<Value>>,
    /// Whether a line's end ends what is being read.
    in_statement: bool,
    errors: Vec<ParseError>,
    weights: &'a Resolver<'a>,
    /// Bytes that tensors written in the text may still take.
    budget: usize,
}

impl<'a> Parser<'a> {
    // ---- tokens and errors ----

    fn bump(&mut self) -> Token<'a> {
        let next = self.lexer.next();
        self.last = Mark::of(&self.token);
        std::mem::replace(&mut self.token, next)
    }

    fn mark(&self) -> Mark {
        Mark::of(&self.token)
    }

    fn error(&mut self, mark: Mark, kind: ParseErrorKind) -> Reported {
        if self.errors.len() < MAX_ERRORS {
            let place = (mark.line, mark.column);
            self.errors.push(ParseError::new(self.text, &self.file, place, (mark.start, mark.end), kind));
        }
        Reported
    }

    /// The graph's own error; its place is said by `mark`.
    fn graph_error(&mut self, mark: Mark, mut error: GraphError) -> Reported {
        if let Some(location) = error.location_mut() {
            *location = None;
        }
        self.error(mark, ParseErrorKind::Graph(Box::new(error)))
    }

    /// Reports that the current token is not `expected`.
    fn expected(&mut self, expected: &str) -> Reported {
        let (mark, found) = if self.in_statement && self.token.first {
            (self.last, "the end of the line".to_owned())
        } else {
            (self.mark(), self.describe())
        };
        self.error(mark, ParseErrorKind::Expected { expected: expected.to_owned(), found })
    }

    fn describe(&self) -> String {
        match &self.token.kind {
            Kind::Bad(what) => (*what).to_owned(),
            Kind::End => "the end of the text".to_owned(),
            _ => {
                let text: String = self.text[self.token.start..self.token.end].chars().take(60).collect();
                format!("`{text}`")
            }
        }
    }

    fn at(&self, punct: &str) -> bool {
        matches!(self.token.kind, Kind::Punct(p) if p == punct)
    }

    fn at_end(&self) -> bool {
        self.token.kind == Kind::End
    }

    fn eat(&mut self, punct: &str) -> bool {
        let hit = self.at(punct);
        if hit {
            self.bump();
        }
        hit
    }

    fn expect(&mut self, punct: &'static str) -> Parsed<()> {
        if self.eat(punct) { Ok(()) } else { Err(self.expected(&format!("`{punct}`"))) }
    }

    fn at_word(&self, word: &str) -> bool {
        matches!(self.token.kind, Kind::Word(w) if w == word)
    }

    fn expect_word(&mut self, word: &str) -> Parsed<()> {
        if self.at_word(word) {
            self.bump();
            Ok(())
        } else {
            Err(self.expected(&format!("`{word}`")))
        }
    }

    fn word(&mut self, expected: &str) -> Parsed<&'a str> {
        match self.token.kind {
            Kind::Word(w) => {
                self.bump();
                Ok(w)
            }
            _ => Err(self.expected(expected)),
        }
    }

    fn number(&mut self, expected: &str) -> Parsed<&'a str> {
        match self.token.kind {
            Kind::Number(n) => {
                self.bump();
                Ok(n)
            }
            _ => Err(self.expected(expected)),
        }
    }

    fn string(&mut self, expected: &str) -> Parsed<String> {
        if let Kind::Str(s) = &mut self.token.kind {
            let s = std::mem::take(s);
            self.bump();
            return Ok(s);
        }
        Err(self.expected(expected))
    }

    fn value_name(&mut self) -> Parsed<ValueName> {
        if let Kind::Value(name) = &self.token.kind {
            let name = name.clone();
            self.bump();
            return Ok(name);
        }
        Err(self.expected("a value (`%name`)"))
    }

    /// `item, item, …` up to `close`, which is taken; a comma may end the list.
    fn list(&mut self, close: &'static str, mut item: impl FnMut(&mut Self) -> Parsed<()>) -> Parsed<()> {
        loop {
            if self.eat(close) {
                return Ok(());
            }
            item(self)?;
            if !self.eat(",") && !self.at(close) {
                return Err(self.expected(&format!("`,` or `{close}`")));
            }
        }
    }

    // ---- file and signature ----

    fn file(&mut self) -> Parsed<()> {
        self.expect_word("kiln")?;
        let mark = self.mark();
        let version = self.number("the version of the text format")?;
        if version != VERSION.to_string() {
            return Err(self.error(mark, ParseErrorKind::Version { found: version.to_owned() }));
        }
        self.expect_word("graph")?;
        match &self.token.kind {
            Kind::At(name) => {
                let name = name.clone();
                self.graph.set_name(&name);
                self.bump();
            }
            _ => return Err(self.expected("the graph's name (`@name`)")),
        }
        self.expect("(")?;
        self.list(")", Parser::param)?;
        self.expect("->")?;
        self.expect("(")?;
        let mut results = Vec::new();
        self.list(")", |p| {
            results.push(p.result()?);
            Ok(())
        })?;
        self.expect("{")?;
        self.in_statement = true;
        while !self.at("}") && !self.at_end() {
            self.line();
        }
        self.in_statement = false;
        let closed = self.expect("}");
        for r in results {
            self.add_result(r);
        }
        closed?;
        if self.at_end() { Ok(()) } else { Err(self.expected("the end of the text after the graph")) }
    }

    fn param(&mut self) -> Parsed<()> {
        let mark = self.mark();
        let name = self.value_name()?;
        self.expect(":")?;
        let TensorType { dtype, dims } = self.tensor_type()?;
        let location = self.location(mark)?;
        let op = Op::Placeholder { name: name.input_name(), dtype, dims };
        let value = match self.graph.add(op, &[], None, Some(location)) {
            Ok(id) => Some(self.graph.value(id)),
            Err(e) => {
                self.graph_error(mark, e);
                return Ok(());
            }
        };
        self.define(mark, name, value);
        Ok(())
    }

    fn result(&mut self) -> Parsed<PendingResult> {
        let mark = self.mark();
        let name = match self.token.kind {
            Kind::Word(w) => {
                self.bump();
                Some(w.to_owned())
            }
            Kind::Str(_) => Some(self.string("the result's name")?),
            _ => None,
        };
        if name.is_some() {
            self.expect("=")?;
        }
        let value = self.value_name()?;
        let ty = if self.eat(":") { Some(self.tensor_type()?) } else { None };
        let name = name.unwrap_or_else(|| value.input_name());
        Ok(PendingResult { name, value, ty, mark })
    }

    fn add_result(&mut self, r: PendingResult) {
        let value = match self.values.get(&r.value) {
            Some(Some(v)) => *v,
            Some(None) => return,
            None => {
                // Where a wrong line is about, the value may be on it.
                if self.errors.is_empty() {
                    self.error(r.mark, ParseErrorKind::UnknownValue { name: r.value.to_string() });
                }
                return;
            }
        };
        let inferred = self.graph.ty(value).clone();
        if let Some(ty) = r.ty.filter(|ty| *ty != inferred) {
            let mnemonic = format!("`{}`", self.graph.node(value.node).op.mnemonic());
            let (written, inferred) = (ty.to_string(), inferred.to_string());
            self.error(r.mark, ParseErrorKind::Type { name: r.value.to_string(), mnemonic, written, inferred });
        }
        if let Err(e) = self.graph.add_output(&r.name, value) {
            self.graph_error(r.mark, e);
        }
    }

    /// Gives `name` its value (`None` where the definition was wrong), unless it has one.
    fn define(&mut self, mark: Mark, name: ValueName, value: Option<Value>) {
        match self.values.entry(name) {
            Entry::Vacant(entry) => {
                entry.insert(value);
            }
            Entry::Occupied(entry) => {
                let name = entry.key().to_string();
                self.error(mark, ParseErrorKind::Redefined { name });
            }
        }
    }

    /// `loc(…)`, or the place `mark` of the text.
    fn location(&mut self, mark: Mark) -> Parsed<Location> {
        if !self.at_word("loc") || self.token.first && self.in_statement {
            return Ok(Location::Source { file: self.file.clone(), line: mark.line, column: mark.column });
        }
        self.bump();
        self.expect("(")?;
        let file: Arc<str> = Arc::from(self.string("a file name in quotes")?);
        let location = if self.eat(",") {
            Location::Model { file, node: Arc::from(self.string("a node's name in quotes")?) }
        } else {
            self.expect(":")?;
            let line = self.integer("a line number")?;
            self.expect(":")?;
            Location::Source { file, line, column: self.integer("a column number")? }
        };
        self.expect(")")?;
        Ok(location)
    }
}
