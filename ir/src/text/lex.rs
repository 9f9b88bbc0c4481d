//! Tokens of the text format, read one at a time.

use super::name::{Base, ValueName, is_name_char};

/// A token's meaning.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind<'a> {
    /// A letter or `_`, then letters, digits and `_`.
    Word(&'a str),
    /// `%name`
    Value(ValueName),
    /// `@name` without the `@`
    At(String),
    /// `"text"`, unescaped
    Str(String),
    /// A number with its sign, unread; also `-inf`.
    Number(&'a str),
    /// Punctuation: one of `( ) { } [ ] < > , : =` or `->`.
    Punct(&'static str),
    /// No token: what is wrong.
    Bad(&'static str),
    /// The end of the text.
    End,
}

/// A token and where it is.
#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    /// Bytes of the text.
    pub(super) start: usize,
    pub(super) end: usize,
    /// From 1, in characters.
    pub(super) line: u32,
    pub(super) column: u32,
    /// Whether it is the first token of its line.
    pub(super) first: bool,
}

/// Reads tokens.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    column: u32,
    first: bool,
}

const PUNCTUATION: [&str; 12] = ["->", "(", ")", "{", "}", "[", "]", "<", ">", ",", ":", "="];

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Lexer<'a> {
        Lexer { text, at: 0, line: 1, column: 1, first: true }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Goes on over `len` bytes of one line.
    fn skip(&mut self, len: usize) -> &'a str {
        let taken = &self.text[self.at..self.at + len];
        self.at += len;
        self.column = self.column.saturating_add(taken.chars().count() as u32);
        taken
    }

    /// The bytes from here on whose characters satisfy `keep`.
    fn span(&self, keep: impl Fn(char) -> bool) -> usize {
        self.rest().find(|c| !keep(c)).unwrap_or(self.rest().len())
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            if rest.starts_with('\n') {
                self.at += 1;
                self.line = self.line.saturating_add(1);
                self.column = 1;
                self.first = true;
            } else if rest.starts_with("//") {
                let len = self.span(|c| c != '\n');
                self.skip(len);
            } else {
                let len = self.span(|c| c.is_whitespace() && c != '\n');
                if len == 0 {
                    return;
                }
                self.skip(len);
            }
        }
    }

    pub(super) fn next(&mut self) -> Token<'a> {
        self.skip_blank();
        let (start, line, column) = (self.at, self.line, self.column);
        let first = std::mem::replace(&mut self.first, false);
        let kind = self.kind();
        Token { kind, start, end: self.at, line, column, first }
    }

    fn kind(&mut self) -> Kind<'a> {
        let rest = self.rest();
        let Some(c) = rest.chars().next() else { return Kind::End };
        let signed_number = rest.strip_prefix('-').is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()));
        if c.is_ascii_digit() || signed_number {
            let len = number_length(rest);
            return Kind::Number(self.skip(len));
        }
        if rest.starts_with("-inf") {
            return Kind::Number(self.skip("-inf".len()));
        }
        if let Some(&p) = PUNCTUATION.iter().find(|p| rest.starts_with(**p)) {
            self.skip(p.len());
            return Kind::Punct(p);
        }
        match c {
            '"' => match self.string() {
                Ok(s) => Kind::Str(s),
                Err(e) => Kind::Bad(e),
            },
            '%' => self.value(),
            '@' => self.at_name(),
            _ if c.is_ascii_alphabetic() || c == '_' => {
                let len = self.span(|c| c.is_ascii_alphanumeric() || c == '_');
                Kind::Word(self.skip(len))
            }
            _ => {
                self.skip(c.len_utf8());
                Kind::Bad("a character that has no meaning here")
            }
        }
    }

    /// `%name`, `%"name"`, each with an optional `.suffix` and `#result`.
    fn value(&mut self) -> Kind<'a> {
        self.skip(1);
        let mut name = if self.rest().starts_with('"') {
            match self.string() {
                Ok(s) => {
                    let suffix = self.counter('.').unwrap_or(0);
                    ValueName { base: Base::Name(s), suffix, result: 0 }
                }
                Err(e) => return Kind::Bad(e),
            }
        } else {
            let len = self.span(is_name_char);
            let len = self.rest()[..len].find("//").unwrap_or(len);
            if len == 0 {
                return Kind::Bad("a `%` without a name");
            }
            ValueName::bare(self.skip(len))
        };
        name.result = self.counter('#').unwrap_or(0);
        Kind::Value(name)
    }

    /// A number right after `mark`.
    fn counter(&mut self, mark: char) -> Option<u32> {
        let digits = self.rest().strip_prefix(mark)?;
        let len = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let number = digits[..len].parse().ok()?;
        self.skip(mark.len_utf8() + len);
        Some(number)
    }

    fn at_name(&mut self) -> Kind<'a> {
        self.skip(1);
        if self.rest().starts_with('"') {
            return match self.string() {
                Ok(s) => Kind::At(s),
                Err(e) => Kind::Bad(e),
            };
        }
        let len = self.span(|c| c.is_ascii_alphanumeric() || c == '_');
        if len == 0 { Kind::Bad("an `@` without a name") } else { Kind::At(self.skip(len).to_owned()) }
    }

    /// A quoted string, with the escapes that Rust's `{:?}` writes.
    fn string(&mut self) -> Result<String, &'static str> {
        self.skip(1);
        let mut out = String::new();
        loop {
            let len = self.span(|c| !matches!(c, '"' | '\\' | '\n'));
            out.push_str(self.skip(len));
            let mut rest = self.rest().chars();
            match (rest.next(), rest.next()) {
                (Some('"'), _) => {
                    self.skip(1);
                    return Ok(out);
                }
                (Some('\\'), Some(escape)) if escape != '\n' => {
                    self.skip(1 + escape.len_utf8());
                    out.push(match escape {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        '0' => '\0',
                        '"' | '\\' | '\'' => escape,
                        'u' => self.unicode().ok_or("a string with a malformed \\u{…}")?,
                        _ => return Err("a string with an unknown escape"),
                    });
                }
                _ => return Err("a string without its closing quote"),
            }
        }
    }

    /// `{1f600}`
    fn unicode(&mut self) -> Option<char> {
        let digits = self.rest().strip_prefix('{')?;
        let len = digits.find('}').filter(|&n| n <= 6)?;
        let c = char::from_u32(u32::from_str_radix(&digits[..len], 16).ok()?)?;
        self.skip(len + 2);
        Some(c)
    }
}

/// Bytes of the number at the start of `text`: `-1`, `2.5`, `1e-5`.
fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |from: usize| from + bytes.iter().skip(from).take_while(|b| b.is_ascii_digit()).count();
    let mut end = digits(usize::from(text.starts_with('-')));
    if text[end..].starts_with('.') {
        end = digits(end + 1);
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    end
}
