//! `Einsum`: sums over products, written with one letter per axis.
//!
//! An ellipsis stands for letters of its own, aligned at their ends; a letter that a term has twice
//! takes the diagonal.

use kiln_ir::attribute::Reducer;
use kiln_ir::{DType, Op};

use super::super::emit::{Emitter, Operand, fixed};
use super::super::error::{NodeError, Result, invalid};
use super::super::node::NodeContext;
use super::Results;

/// An operand and the letter of each of its axes.
struct Term {
    operand: Operand,
    letters: Vec<char>,
}

pub(super) fn einsum(n: &mut NodeContext<'_>) -> Results {
    let equation = n
        .attributes
        .string("equation")?
        .ok_or(NodeError::MissingAttribute { name: "equation".into(), expected: "a string" })?;
    let operands = n.all_inputs("Inputs")?;
    let ranks: Vec<usize> = operands.iter().map(Operand::rank).collect();
    let (inputs, output) = parse(equation, &ranks)?;
    let mut terms = Vec::with_capacity(operands.len());
    for (operand, letters) in operands.into_iter().zip(inputs) {
        terms.push(without_diagonals(n.emit, Term { operand, letters })?);
    }
    if let Some(unknown) = output.iter().find(|c| !terms.iter().any(|t| t.letters.contains(c))) {
        return invalid(format!("equation `{equation}`: `{unknown}` is in the result only"));
    }

    let mut terms = terms.into_iter();
    let Some(mut product) = terms.next() else { return invalid("takes at least one input") };
    let rest: Vec<Term> = terms.collect();
    for (i, term) in rest.iter().enumerate() {
        let needed = |c: &char| output.contains(c) || rest[i + 1..].iter().any(|t| t.letters.contains(c));
        product = contract(n.emit, product, term, needed)?;
    }
    let e = &mut *n.emit;
    let summed: Vec<usize> = (0..product.letters.len()).filter(|&i| !output.contains(&product.letters[i])).collect();
    let y = e.reduce(&product.operand, &summed, Reducer::Sum)?;
    let letters: Vec<char> = product.letters.into_iter().filter(|c| output.contains(c)).collect();
    let perm: Vec<usize> = output.iter().filter_map(|c| letters.iter().position(|l| l == c)).collect();
    Ok(vec![e.transpose(&y, &perm)?])
}

/// The letters that an ellipsis of `count` axes stands for; the last are those of shorter ones too.
fn ellipsis(count: usize) -> impl Iterator<Item = char> {
    // Characters for private use: no equation that parses has them.
    const LAST: u32 = 0xEFFF;
    (0..count as u32).rev().filter_map(|i| char::from_u32(LAST - i))
}

/// The letters of the axes of operands of these ranks, and the result's; without `->` the result has the
/// ellipsis, then the letters that occur once, in alphabetical order.
fn parse(equation: &str, ranks: &[usize]) -> Result<(Vec<Vec<char>>, Vec<char>)> {
    let compact: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match compact.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (compact.as_str(), None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != ranks.len() {
        return invalid(format!("equation `{equation}` has {} terms for {} inputs", terms.len(), ranks.len()));
    }
    let letters = |term: &str, hidden: usize| -> Result<Vec<char>> {
        let (before, after) = term.split_once("...").unwrap_or((term, ""));
        if let Some(other) = [before, after].concat().chars().find(|c| !c.is_ascii_alphabetic()) {
            return invalid(format!("equation `{equation}`: `{other}` is not a letter"));
        }
        Ok(before.chars().chain(ellipsis(hidden)).chain(after.chars()).collect())
    };
    let mut widest = 0;
    let mut inputs = Vec::with_capacity(terms.len());
    for (term, &rank) in terms.iter().zip(ranks) {
        let named = term.chars().filter(|c| *c != '.').count();
        let hidden = if term.contains("...") { rank.checked_sub(named) } else { (rank == named).then_some(0) };
        let Some(hidden) = hidden else {
            return invalid(format!("equation `{equation}`: term `{term}` for rank {rank}"));
        };
        widest = widest.max(hidden);
        inputs.push(letters(term, hidden)?);
    }
    let output = match right {
        Some(right) => letters(right, if right.contains("...") { widest } else { 0 })?,
        None => {
            let mut once: Vec<char> = inputs.concat();
            once.sort_unstable();
            let all = once.clone();
            once.retain(|c| c.is_ascii() && all.iter().filter(|d| *d == c).count() == 1);
            ellipsis(widest).chain(once).collect()
        }
    };
    if output.iter().enumerate().any(|(i, c)| output[..i].contains(c)) {
        return invalid(format!("equation `{equation}`: one letter twice in the result"));
    }
    Ok((inputs, output))
}

/// A term that has every letter once: of a letter that it had twice, the diagonal of those two axes.
fn without_diagonals(e: &mut Emitter, term: Term) -> Result<Term> {
    let Term { mut operand, mut letters } = term;
    loop {
        let twice = (0..letters.len()).find_map(|j| letters[..j].iter().position(|c| *c == letters[j]).map(|i| (i, j)));
        let Some((i, j)) = twice else { return Ok(Term { operand, letters }) };
        if operand.extent(i) != operand.extent(j) {
            return invalid(format!("axes {i} and {j} of {:?} have one letter, but not one extent", operand.dims()));
        }
        let iota = |axis| Op::Iota { dtype: DType::I64, dims: fixed(operand.dims()), axis };
        let (row, column) = (e.op(iota(i), &[])?, e.op(iota(j), &[])?);
        let on = e.binary(Op::Equal {}, &row, &column)?;
        let zero = Operand::scalar(operand.dtype(), 0.0)?;
        let kept = e.select(&on, &operand, &zero)?;
        operand = e.reduce(&kept, &[j], Reducer::Sum)?;
        letters.remove(j);
    }
}

/// The product of two terms, summed over the letters that both have and nobody needs.
fn contract(e: &mut Emitter, a: Term, b: &Term, needed: impl Fn(&char) -> bool) -> Result<Term> {
    let (mut lhs_batch, mut rhs_batch, mut lhs_contract, mut rhs_contract) = (vec![], vec![], vec![], vec![]);
    let mut letters = Vec::new();
    for (i, c) in a.letters.iter().enumerate() {
        if let Some(j) = b.letters.iter().position(|d| d == c) {
            if needed(c) {
                lhs_batch.push(i);
                rhs_batch.push(j);
                letters.push(*c);
            } else {
                lhs_contract.push(i);
                rhs_contract.push(j);
            }
        }
    }
    letters.extend(a.letters.iter().filter(|c| !b.letters.contains(c)));
    letters.extend(b.letters.iter().filter(|c| !a.letters.contains(c)));
    let op = Op::Dot { lhs_batch, rhs_batch, lhs_contract, rhs_contract };
    Ok(Term { operand: e.op(op, &[&a.operand, &b.operand])?, letters })
}
