//! What one step of a recurrent layer computes, said once: the interpreter, the body in L0 and the lowering all read
//! it here.
//!
//! A step has the sums of its gates from two sides: `x`, from the input, and `z`, the product of the hidden state with
//! the recurrent weights. What becomes of them is a list of [`Update`]s, done in order, each one scalar expression for
//! every hidden unit. With σ and τ the layer's activations (by default sigmoid and tanh) and ⊙ left out:
//!
//! ```text
//! rnn    h = τ(x + z)                                             (Elman 1990)
//! lstm   c = σ(x_f + z_f + p_f c) c + σ(x_i + z_i + p_i c) τ(x_g + z_g)
//!        h = σ(x_o + z_o + p_o c) τ'(c)                           (Hochreiter & Schmidhuber 1997; Gers & Schmidhuber 2000)
//! gru    h = (1 − u) τ(x_n + r (z_n + b)) + u h                   (the form of cuDNN and PyTorch)
//! gru_reset_before                                                (Cho et al. 2014)
//!        s = r h;  z_n is the product of s;  h = (1 − u) τ(x_n + z_n) + u h
//!        where r = σ(x_r + z_r), u = σ(x_u + z_u)
//! ```

use crate::attribute::Cell;
use crate::ops::Op;
use crate::scalar::{BinaryFn, ScalarBuilder, ScalarExpr, ScalarId, ScalarNode};

/// Something that an [`Update`] reads, for the hidden unit that it works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The input's sum for a gate.
    Input(usize),
    /// The product of the hidden state (of [`Target::Reset`], where the update says so) with a gate's weights.
    Product(usize),
    /// The hidden state before the step.
    Hidden,
    /// An LSTM's cell state: before the step in the update that makes it, after it in later ones.
    Cell,
    /// Row `n` of the vectors after the states: peepholes, or the bias of a GRU's candidate.
    Vector(usize),
}

/// What an [`Update`] makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The cell state.
    Cell,
    /// The reset hidden state: the products of the gates from the last on are those of it.
    Reset,
    /// The hidden state, which is the step's result.
    Hidden,
}

/// One scalar expression of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// What it makes.
    pub target: Target,
    /// What its arguments `a0, a1 …` are.
    pub sources: Vec<Source>,
    /// How.
    pub expr: ScalarExpr,
}

impl Cell {
    /// Gates, in the order of the weights: one; input, forget, cell, output; reset, update, new.
    pub const fn gates(self) -> usize {
        match self {
            Cell::Rnn => 1,
            Cell::Lstm => 4,
            Cell::Gru | Cell::GruResetBefore => 3,
        }
    }

    /// The activations where none are given.
    pub fn default_activations(self) -> Vec<ScalarExpr> {
        let of = |op: Op| op.scalar().unwrap_or_else(ScalarExpr::identity);
        let (sigmoid, tanh) = (of(Op::Sigmoid {}), of(Op::Tanh {}));
        match self {
            Cell::Rnn => vec![tanh],
            Cell::Lstm => vec![sigmoid, tanh.clone(), tanh],
            Cell::Gru | Cell::GruResetBefore => vec![sigmoid, tanh],
        }
    }

    /// What a step does with its sums, in order. `activations` are as many as the default ones, or none: those then;
    /// `peepholes` says whether an LSTM's gates see its cell state.
    pub fn updates(self, activations: &[ScalarExpr], peepholes: bool) -> Vec<Update> {
        let own = self.default_activations();
        let activations = if activations.is_empty() { &own } else { activations };
        let mut e = Expression::default();
        // activations that are missing are the identity; inference refuses them
        let identity = ScalarExpr::identity();
        let f = |i: usize| activations.get(i).unwrap_or(&identity);
        match self {
            Cell::Rnn => {
                let sum = e.sum(&[Source::Input(0), Source::Product(0)]);
                let h = e.apply(f(0), sum);
                vec![e.finish(Target::Hidden, h)]
            }
            Cell::Lstm => {
                let gate = |e: &mut Expression, gate: usize, peephole: usize| {
                    let mut sum = e.sum(&[Source::Input(gate), Source::Product(gate)]);
                    if peepholes {
                        let (p, c) = (e.read(Source::Vector(peephole)), e.read(Source::Cell));
                        let seen = e.binary(BinaryFn::Mul, p, c);
                        sum = e.binary(BinaryFn::Add, sum, seen);
                    }
                    e.apply(f(0), sum)
                };
                let forget = gate(&mut e, 1, 1);
                let input = gate(&mut e, 0, 0);
                let sum = e.sum(&[Source::Input(2), Source::Product(2)]);
                let candidate = e.apply(f(1), sum);
                let c = e.read(Source::Cell);
                let kept = e.binary(BinaryFn::Mul, forget, c);
                let new = e.binary(BinaryFn::Mul, input, candidate);
                let cell = e.binary(BinaryFn::Add, kept, new);
                let cell = e.finish(Target::Cell, cell);
                let mut e = Expression::default();
                let output = gate(&mut e, 3, 2);
                let c = e.read(Source::Cell);
                let squashed = e.apply(f(2), c);
                let h = e.binary(BinaryFn::Mul, output, squashed);
                vec![cell, e.finish(Target::Hidden, h)]
            }
            Cell::Gru => {
                let sum = e.sum(&[Source::Product(2), Source::Vector(0)]);
                let reset = e.sum(&[Source::Input(0), Source::Product(0)]);
                let reset = e.apply(f(0), reset);
                let product = e.binary(BinaryFn::Mul, reset, sum);
                let h = e.mixed(product, f(0), f(1));
                vec![e.finish(Target::Hidden, h)]
            }
            Cell::GruResetBefore => {
                let sum = e.sum(&[Source::Input(0), Source::Product(0)]);
                let reset = e.apply(f(0), sum);
                let h = e.read(Source::Hidden);
                let kept = e.binary(BinaryFn::Mul, reset, h);
                let reset = e.finish(Target::Reset, kept);
                let mut e = Expression::default();
                let product = e.read(Source::Product(2));
                let h = e.mixed(product, f(0), f(1));
                vec![reset, e.finish(Target::Hidden, h)]
            }
        }
    }
}

/// An expression under construction, with what its arguments are.
#[derive(Default)]
struct Expression {
    builder: ScalarBuilder,
    sources: Vec<Source>,
}

impl Expression {
    fn read(&mut self, source: Source) -> ScalarId {
        let known = self.sources.iter().position(|&s| s == source);
        let at = known.unwrap_or_else(|| {
            self.sources.push(source);
            self.sources.len() - 1
        });
        self.builder.arg(at as u32)
    }

    fn binary(&mut self, f: BinaryFn, x: ScalarId, y: ScalarId) -> ScalarId {
        self.builder.node(ScalarNode::Binary(f, x, y))
    }

    fn sum(&mut self, [x, y]: &[Source; 2]) -> ScalarId {
        let (x, y) = (self.read(*x), self.read(*y));
        self.binary(BinaryFn::Add, x, y)
    }

    fn apply(&mut self, activation: &ScalarExpr, x: ScalarId) -> ScalarId {
        self.builder.splice(activation, |_, _| x)
    }

    /// (1 − u) τ(x_n + product) + u h, the state of a GRU.
    fn mixed(&mut self, product: ScalarId, gate: &ScalarExpr, candidate: &ScalarExpr) -> ScalarId {
        let sum = self.sum(&[Source::Input(1), Source::Product(1)]);
        let update = self.apply(gate, sum);
        let x = self.read(Source::Input(2));
        let sum = self.binary(BinaryFn::Add, x, product);
        let new = self.apply(candidate, sum);
        let h = self.read(Source::Hidden);
        let one = self.builder.constant(1.0);
        let rest = self.binary(BinaryFn::Sub, one, update);
        let (new, kept) = (self.binary(BinaryFn::Mul, rest, new), self.binary(BinaryFn::Mul, update, h));
        self.binary(BinaryFn::Add, new, kept)
    }

    /// The update of `target`. Arguments are numbered as they are read: sources that the result does not need stay.
    fn finish(&mut self, target: Target, root: ScalarId) -> Update {
        let Expression { builder, sources } = std::mem::take(self);
        Update { target, sources, expr: builder.finish(root) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_ends_with_its_hidden_state_and_reads_gates_that_it_has() {
        for &cell in Cell::ALL {
            for peepholes in [false, true] {
                let updates = cell.updates(&cell.default_activations(), peepholes);
                assert_eq!(updates.last().map(|u| u.target), Some(Target::Hidden), "{cell:?}");
                for update in &updates {
                    assert!(update.expr.arity() <= update.sources.len());
                    for source in &update.sources {
                        if let Source::Input(gate) | Source::Product(gate) = source {
                            assert!(*gate < cell.gates());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_formulas_read_as_they_are_documented() {
        let text = |cell: Cell, peepholes| -> Vec<String> {
            let relu: ScalarExpr = "max(a0, 0)".parse().unwrap();
            let half: ScalarExpr = "a0 / 2".parse().unwrap();
            let activations = vec![relu.clone(), half, relu];
            cell.updates(&activations, peepholes).iter().map(|u| format!("{:?} {}", u.sources, u.expr)).collect()
        };
        insta::assert_debug_snapshot!([
            text(Cell::Rnn, false),
            text(Cell::Lstm, false),
            text(Cell::Lstm, true),
            text(Cell::Gru, false),
            text(Cell::GruResetBefore, false)
        ]);
    }
}
