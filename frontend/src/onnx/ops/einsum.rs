//! `Einsum`: sums over products, written with one letter per axis.

use kiln_ir::Op;
use kiln_ir::attribute::Reducer;

use super::super::emit::{Emitter, Operand};
use super::super::error::{NodeError, Result, invalid, unsupported};
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
    let (inputs, output) = parse(equation)?;
    if inputs.len() != operands.len() {
        return invalid(format!("equation `{equation}` has {} terms for {} inputs", inputs.len(), operands.len()));
    }
    let mut terms = Vec::with_capacity(operands.len());
    for (operand, letters) in operands.into_iter().zip(inputs) {
        if letters.len() != operand.rank() {
            return invalid(format!(
                "equation `{equation}`: term `{}` for rank {}",
                String::from_iter(letters),
                operand.rank()
            ));
        }
        if letters.iter().enumerate().any(|(i, c)| letters[..i].contains(c)) {
            return unsupported(format!("equation `{equation}`: one letter twice in a term (a diagonal)"));
        }
        terms.push(Term { operand, letters });
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

/// The terms' letters and the result's; without `->` the result has the letters that occur once,
/// in alphabetical order.
fn parse(equation: &str) -> Result<(Vec<Vec<char>>, Vec<char>)> {
    let compact: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    if compact.contains('.') {
        return unsupported(format!("equation `{equation}`: an ellipsis"));
    }
    let (left, right) = match compact.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (compact.as_str(), None),
    };
    let letters = |term: &str| -> Result<Vec<char>> {
        match term.chars().find(|c| !c.is_ascii_alphabetic()) {
            None => Ok(term.chars().collect()),
            Some(other) => invalid(format!("equation `{equation}`: `{other}` is not a letter")),
        }
    };
    let inputs = left.split(',').map(letters).collect::<Result<Vec<_>>>()?;
    let output = match right {
        Some(right) => letters(right)?,
        None => {
            let mut once: Vec<char> = inputs.concat();
            once.sort_unstable();
            let all = once.clone();
            once.retain(|c| all.iter().filter(|d| *d == c).count() == 1);
            once
        }
    };
    if output.iter().enumerate().any(|(i, c)| output[..i].contains(c)) {
        return invalid(format!("equation `{equation}`: one letter twice in the result"));
    }
    Ok((inputs, output))
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
