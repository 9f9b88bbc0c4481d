//! The lines of a graph's body: metadata, variables, nodes.

use super::tensor::Written;
use super::{Mark, Parsed, Parser, Reported};
use crate::attribute::{Attribute, AttributeType};
use crate::graph::{Value, Variable};
use crate::initializer::Initializer;
use crate::ops::{AttributeError, Op, ROWS, Row};
use crate::text::error::ParseErrorKind;
use crate::text::lex::Kind;
use crate::text::name::{Base, ValueName};
use crate::text::said_by_type;
use crate::types::TensorType;

/// What stands between a node's mnemonic and its location.
struct NodeText<'a> {
    /// The mnemonic's place.
    mark: Mark,
    mnemonic: &'a str,
    tensor: Option<Written<'a>>,
    operands: Vec<(ValueName, Mark)>,
    attributes: Vec<(String, Attribute)>,
    /// Places of the attributes' names.
    attribute_marks: Vec<Mark>,
    types: Vec<TensorType>,
    types_mark: Mark,
}

impl<'a> Parser<'a> {
    /// Reads a line; skips what is left of it after an error.
    pub(super) fn line(&mut self) {
        let before = self.token.start;
        // From here on, the first token of a line is one too many.
        self.token.first = false;
        let mut read = self.statement();
        if read.is_ok() && !(self.token.first || self.at("}") || self.at_end()) {
            read = Err(self.expected("the end of the line"));
        }
        if read.is_err() {
            if self.token.start == before {
                self.bump();
            }
            while !self.token.first && !self.at_end() {
                self.bump();
            }
        }
    }

    fn statement(&mut self) -> Parsed<()> {
        match self.token.kind {
            Kind::Word("metadata") => self.metadata(),
            Kind::Word("variable") => self.variable(),
            _ => self.node(),
        }
    }

    fn metadata(&mut self) -> Parsed<()> {
        self.bump();
        let mark = self.mark();
        let key = self.string("a key in quotes")?;
        self.expect("=")?;
        let value = self.string("a text in quotes")?;
        if self.graph.metadata().contains_key(&key) {
            return Err(self.error(mark, ParseErrorKind::Redefined { name: format!("metadata {key:?}") }));
        }
        self.graph.set_metadata(&key, &value);
        Ok(())
    }

    fn variable(&mut self) -> Parsed<()> {
        self.bump();
        let mark = self.mark();
        let name = self.string("the variable's name in quotes")?;
        self.expect(":")?;
        let type_mark = self.mark();
        let ty = self.tensor_type()?;
        self.expect("=")?;
        let init = match self.written_tensor()? {
            Written::Recipe(recipe, _) => recipe,
            written => Initializer::Value(self.make_tensor(written, &ty, type_mark)?.into()),
        };
        match self.graph.add_variable(Variable { name, ty, init }) {
            Ok(()) => Ok(()),
            Err(e) => Err(self.graph_error(mark, e)),
        }
    }

    fn node(&mut self) -> Parsed<()> {
        let start = self.mark();
        let mut results: Vec<(ValueName, Mark)> = Vec::new();
        while matches!(self.token.kind, Kind::Value(_)) {
            let mark = self.mark();
            results.push((self.value_name()?, mark));
            if !self.eat(",") {
                self.expect("=")?;
                break;
            }
        }
        let values = self.node_values(start, &results);
        let read = values.as_ref().map(|_| ()).map_err(|_| Reported);
        let values = values.unwrap_or_default();
        for (i, (name, mark)) in results.into_iter().enumerate() {
            self.define(mark, name, values.get(i).copied());
        }
        read
    }

    /// Reads the node and adds it; its results.
    fn node_values(&mut self, start: Mark, results: &[(ValueName, Mark)]) -> Parsed<Vec<Value>> {
        if self.token.first {
            return Err(self.expected("an op"));
        }
        let mut text = self.node_text()?;
        let location = self.location(start)?;
        let row = ROWS.iter().find(|r| r.mnemonic == text.mnemonic);
        let op = match row {
            Some(row) => self.op(row, &mut text),
            None => {
                let unknown = AttributeError::UnknownOp { mnemonic: text.mnemonic.to_owned() };
                Err(self.error(text.mark, ParseErrorKind::Attribute(unknown)))
            }
        };
        let operands = self.operands(&text.operands);
        let (op, Some(operands)) = (op?, operands?) else { return Ok(Vec::new()) };
        let name = match results.first().map(|(n, _)| &n.base) {
            Some(Base::Name(name)) => Some(name.as_str().into()),
            _ => None,
        };
        let id = match self.graph.add(op, &operands, name, Some(location)) {
            Ok(id) => id,
            Err(e) => return Err(self.graph_error(text.mark, e)),
        };
        let inferred = self.graph.node(id).types.to_vec();
        self.check_counts(&text, results, inferred.len())?;
        for (i, (written, inferred)) in text.types.iter().zip(&inferred).enumerate() {
            if written != inferred {
                let name = results.get(i).map_or("the result".to_owned(), |(n, _)| n.to_string());
                let mnemonic = format!("`{}`", text.mnemonic);
                let (written, inferred) = (written.to_string(), inferred.to_string());
                self.error(text.types_mark, ParseErrorKind::Type { name, mnemonic, written, inferred });
            }
        }
        Ok((0..inferred.len() as u32).map(|result| Value { node: id, result }).collect())
    }

    fn check_counts(&mut self, text: &NodeText<'a>, results: &[(ValueName, Mark)], expected: usize) -> Parsed<()> {
        let counts = [(results.len(), "names", text.mark), (text.types.len(), "types", text.types_mark)];
        for (found, what, mark) in counts {
            if found != 0 && found != expected {
                let mnemonic = format!("`{}`", text.mnemonic);
                return Err(self.error(mark, ParseErrorKind::ResultCount { mnemonic, expected, what, found }));
            }
        }
        Ok(())
    }

    fn node_text(&mut self) -> Parsed<NodeText<'a>> {
        let mark = self.mark();
        let mnemonic = self.word("an op, `variable`, `metadata` or `}`")?;
        let tensor = if mnemonic == "constant" { Some(self.written_tensor()?) } else { None };
        let mut operands = Vec::new();
        if matches!(self.token.kind, Kind::Value(_)) && !self.token.first {
            loop {
                let mark = self.mark();
                operands.push((self.value_name()?, mark));
                if !self.eat(",") {
                    break;
                }
            }
        }
        let (mut attributes, mut attribute_marks) = (Vec::new(), Vec::new());
        if self.eat("{") {
            self.list("}", |p| {
                attribute_marks.push(p.mark());
                let name = p.word("an attribute's name")?.to_owned();
                p.expect("=")?;
                attributes.push((name, p.attribute(0)?));
                Ok(())
            })?;
        }
        let (mut types, mut types_mark) = (Vec::new(), mark);
        if self.eat(":") {
            types_mark = self.mark();
            types.push(self.tensor_type()?);
            while self.eat(",") {
                types.push(self.tensor_type()?);
            }
            types_mark.end = self.last.end;
        }
        Ok(NodeText { mark, mnemonic, tensor, operands, attributes, attribute_marks, types, types_mark })
    }

    /// The op that was written. Every wrong attribute is reported.
    fn op(&mut self, row: &Row, text: &mut NodeText<'a>) -> Parsed<Op> {
        if let Some(written) = text.tensor.take() {
            if let (Some((name, _)), Some(&mark)) = (text.attributes.first(), text.attribute_marks.first()) {
                let (mnemonic, name) = (row.mnemonic.to_owned(), name.clone());
                let unknown = AttributeError::Unknown { mnemonic, name, known: Vec::new() };
                return Err(self.error(mark, ParseErrorKind::Attribute(unknown)));
            }
            let Some(ty) = text.types.first().cloned() else {
                let (mnemonic, attribute) = (row.mnemonic.to_owned(), "type");
                return Err(self.error(text.mark, ParseErrorKind::NoType { mnemonic, attribute }));
            };
            let value = self.make_tensor(written, &ty, text.types_mark)?.into();
            return Ok(Op::Constant { value });
        }
        for attribute in row.attributes.iter().filter(|a| said_by_type(a.name)) {
            if text.attributes.iter().any(|(n, _)| n == attribute.name) {
                continue;
            }
            let Some(ty) = text.types.first() else {
                let (mnemonic, attribute) = (row.mnemonic.to_owned(), attribute.name);
                return Err(self.error(text.mark, ParseErrorKind::NoType { mnemonic, attribute }));
            };
            let value = if attribute.name == "dtype" { ty.dtype.to_attribute() } else { ty.dims.to_attribute() };
            text.attributes.push((attribute.name.to_owned(), value));
        }
        Op::from_attributes(row.mnemonic, &text.attributes).map_err(|errors| {
            for e in errors {
                let mark = self.attribute_mark(&e, text);
                self.error(mark, ParseErrorKind::Attribute(e));
            }
            Reported
        })
    }

    /// The place of the attribute that `e` is about, or of the mnemonic.
    fn attribute_mark(&self, e: &AttributeError, text: &NodeText<'a>) -> Mark {
        let name = match e {
            AttributeError::Unknown { name, .. } | AttributeError::Twice { name, .. } => name.as_str(),
            AttributeError::Type { name, .. } => name,
            AttributeError::Missing { .. } | AttributeError::UnknownOp { .. } => return text.mark,
        };
        let at = text.attributes.iter().rposition(|(n, _)| n == name);
        at.and_then(|i| text.attribute_marks.get(i)).copied().unwrap_or(text.mark)
    }

    /// The operands; `None` where the definition of one was wrong.
    fn operands(&mut self, names: &[(ValueName, Mark)]) -> Parsed<Option<Vec<Value>>> {
        let mut known = Ok(());
        let mut values = Some(Vec::with_capacity(names.len()));
        for (name, mark) in names {
            match self.values.get(name) {
                Some(Some(v)) => values.iter_mut().for_each(|list| list.push(*v)),
                Some(None) => values = None,
                None => {
                    known = Err(self.error(*mark, ParseErrorKind::UnknownValue { name: name.to_string() }));
                    // Reported once: further uses are passed over.
                    self.values.insert(name.clone(), None);
                }
            }
        }
        known.map(|()| values)
    }
}
