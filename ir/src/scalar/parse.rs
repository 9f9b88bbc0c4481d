//! Text form of scalar expressions.
//!
//! ```text
//! expr   = { name "=" term ";" } term
//! term   = the usual infix operators; loosest first: |  ^  &  comparisons  + -  * /  unary - !
//! atom   = number | inf | nan | name | function "(" term, … ")" | dtype "(" term ")" | "(" term ")"
//! ```

use std::collections::HashMap;
use std::str::FromStr;

use super::{BinaryFn, ScalarBuilder, ScalarExpr, ScalarId, ScalarNode, UnaryFn};
use crate::attribute::Real;
use crate::dtype::DType;

/// Text that is no scalar expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("scalar expression `{text}`, byte {at}: expected {expected}")]
pub struct ParseScalarError {
    /// The text.
    pub text: String,
    /// Where in it.
    pub at: usize,
    /// What should have been there.
    pub expected: &'static str,
}

/// Nesting that no formula needs; it bounds the parser's stack.
const MAX_DEPTH: usize = 200;

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    names: &'a [&'a str],
    constants: &'a [(&'a str, f64)],
    lets: HashMap<&'a str, ScalarId>,
    b: ScalarBuilder,
}

pub(super) fn parse(text: &str, names: &[&str], constants: &[(&str, f64)]) -> Result<ScalarExpr, ParseScalarError> {
    let mut p = Parser { text, at: 0, depth: 0, names, constants, lets: HashMap::new(), b: ScalarBuilder::default() };
    loop {
        let start = p.at;
        if let Some(name) = p.word().filter(|_| p.rest().starts_with('=') && !p.rest().starts_with("==")) {
            p.at += 1;
            let value = p.binary(0)?;
            p.expect(";", "`;`")?;
            p.lets.insert(name, value);
            continue;
        }
        p.at = start;
        let root = p.binary(0)?;
        if !p.rest().is_empty() {
            return Err(p.error("an operator or the end"));
        }
        return Ok(p.b.finish(root));
    }
}

impl FromStr for ScalarExpr {
    type Err = ParseScalarError;

    fn from_str(s: &str) -> Result<ScalarExpr, ParseScalarError> {
        parse(s, &[], &[])
    }
}

/// Infix operators by precedence, loosest first; within a level, longer texts first.
const LEVELS: [&[BinaryFn]; 6] = [
    &[BinaryFn::Or],
    &[BinaryFn::Xor],
    &[BinaryFn::And],
    &[BinaryFn::Eq, BinaryFn::Ne, BinaryFn::Le, BinaryFn::Ge, BinaryFn::Lt, BinaryFn::Gt],
    &[BinaryFn::Add, BinaryFn::Sub],
    &[BinaryFn::Mul, BinaryFn::Div],
];

impl<'a> Parser<'a> {
    fn rest(&mut self) -> &'a str {
        let trimmed = self.text[self.at..].trim_start();
        self.at = self.text.len() - trimmed.len();
        trimmed
    }

    fn error(&self, expected: &'static str) -> ParseScalarError {
        ParseScalarError { text: self.text.to_owned(), at: self.at, expected }
    }

    fn eat(&mut self, token: &str) -> bool {
        let hit = self.rest().starts_with(token);
        if hit {
            self.at += token.len();
        }
        hit
    }

    fn expect(&mut self, token: &str, expected: &'static str) -> Result<(), ParseScalarError> {
        if self.eat(token) { Ok(()) } else { Err(self.error(expected)) }
    }

    fn word(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let word = &rest[..len];
        if !word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return None;
        }
        self.at += len;
        // Leaves the parser on the next token, so that callers may look at it.
        self.rest();
        Some(word)
    }

    fn binary(&mut self, level: usize) -> Result<ScalarId, ParseScalarError> {
        let Some(&operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some(&f) = operators.iter().find(|f| self.text[self.at..].trim_start().starts_with(f.text())) {
            self.eat(f.text());
            let right = self.binary(level + 1)?;
            left = self.b.node(ScalarNode::Binary(f, left, right));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<ScalarId, ParseScalarError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error("less nesting (at most 200 levels)"));
        }
        let result = if self.rest().starts_with('-') {
            match self.number() {
                Some(v) => Ok(self.b.constant(v)),
                None => {
                    self.at += 1;
                    self.unary().map(|x| self.b.node(ScalarNode::Unary(UnaryFn::Neg, x)))
                }
            }
        } else if self.eat("!") {
            self.unary().map(|x| self.b.node(ScalarNode::Unary(UnaryFn::Not, x)))
        } else {
            self.atom()
        };
        self.depth -= 1;
        result
    }

    /// A numeric literal, with its sign.
    fn number(&mut self) -> Option<f64> {
        let rest = self.rest();
        let unsigned = rest.strip_prefix('-').unwrap_or(rest);
        let sign = rest.len() - unsigned.len();
        let len = if unsigned.starts_with("inf") || unsigned.starts_with("nan") {
            3
        } else {
            let mut len = 0;
            let mut previous = ' ';
            for c in unsigned.chars() {
                let exponent_sign = (c == '-' || c == '+') && (previous == 'e' || previous == 'E');
                if !(c.is_ascii_digit() || c == '.' || ((c == 'e' || c == 'E') && len > 0) || exponent_sign) {
                    break;
                }
                previous = c;
                len += c.len_utf8();
            }
            len
        };
        let boundary = !unsigned[len..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let value = rest[..sign + len].parse().ok().filter(|_| len > 0 && boundary)?;
        self.at += sign + len;
        Some(value)
    }

    fn atom(&mut self) -> Result<ScalarId, ParseScalarError> {
        if self.eat("(") {
            let e = self.binary(0)?;
            self.expect(")", "`)`")?;
            return Ok(e);
        }
        if let Some(v) = self.number() {
            return Ok(self.b.constant(v));
        }
        let start = self.at;
        let Some(word) = self.word() else { return Err(self.error("a number, a name or `(`")) };
        if self.rest().starts_with('(') {
            return self.call(word, start);
        }
        if let Some(&id) = self.lets.get(word) {
            return Ok(id);
        }
        if let Some(i) = self.names.iter().position(|n| *n == word) {
            return Ok(self.b.arg(i as u32));
        }
        if let Some(&(_, v)) = self.constants.iter().find(|(n, _)| *n == word) {
            return Ok(self.b.node(ScalarNode::Const(Real(v))));
        }
        // Arguments are numbered where they are not named. 4096 is far more than any fused op has.
        if self.names.is_empty()
            && let Some(i) = word.strip_prefix('a').and_then(|n| n.parse::<u32>().ok()).filter(|&i| i < 4096)
        {
            return Ok(self.b.arg(i));
        }
        self.at = start;
        Err(self.error("a known name"))
    }

    fn call(&mut self, word: &str, start: usize) -> Result<ScalarId, ParseScalarError> {
        self.expect("(", "`(`")?;
        let mut arguments = vec![self.binary(0)?];
        while self.eat(",") {
            arguments.push(self.binary(0)?);
        }
        self.expect(")", "`,` or `)`")?;
        let node = match arguments[..] {
            [x] if word == "neg" => Some(ScalarNode::Unary(UnaryFn::Neg, x)),
            [x] => UnaryFn::ALL
                .iter()
                .find(|f| f.text() == word)
                .map(|&f| ScalarNode::Unary(f, x))
                .or_else(|| word.parse::<DType>().ok().map(|d| ScalarNode::Convert(d, x))),
            [x, y] => {
                BinaryFn::ALL.iter().find(|f| !f.is_infix() && f.text() == word).map(|&f| ScalarNode::Binary(f, x, y))
            }
            [c, x, y] if word == "select" => Some(ScalarNode::Select(c, x, y)),
            _ => None,
        };
        match node {
            Some(node) => Ok(self.b.node(node)),
            None => {
                self.at = start;
                Err(self.error("a known function with the right number of arguments"))
            }
        }
    }
}
