//! Recurrent layers against loops that spell their published formulas out.

use super::tensor;
use crate::attribute::Cell;
use crate::dtype::DType;
use crate::infer::infer;
use crate::interp::fold;
use crate::ops::Op;
use crate::random::uniform;
use crate::tensor::Tensor;
use crate::types::TensorType;

type Function = fn(f64) -> f64;

const STEPS: usize = 4;
const BATCH: usize = 2;
const UNITS: usize = 3;

fn drawn(seed: u64, n: usize) -> Vec<f64> {
    uniform(seed, n).map(|u| u * 3.0 - 1.5).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn relu(x: f64) -> f64 {
    x.max(0.0)
}

/// The layer by loops: x [T, B, G·H], w [G·H, H], h and c [B, H], vectors [n, H]; (y, c).
#[expect(clippy::too_many_arguments, reason = "the operands of the op")]
fn spelled_out(
    cell: Cell,
    f: Function,
    g: Function,
    reverse: bool,
    x: &[f64],
    w: &[f64],
    h: &[f64],
    c: &[f64],
    vectors: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let gates = cell.gates();
    let (mut h, mut c, mut y) = (h.to_vec(), c.to_vec(), vec![0.0; STEPS * BATCH * UNITS]);
    let order: Vec<usize> = if reverse { (0..STEPS).rev().collect() } else { (0..STEPS).collect() };
    for t in order {
        let before = h.clone();
        for b in 0..BATCH {
            let state = &before[b * UNITS..][..UNITS];
            let product = |state: &[f64], gate: usize, unit: usize| -> f64 {
                let row = gate * UNITS + unit;
                state.iter().zip(&w[row * UNITS..][..UNITS]).map(|(s, w)| s * w).sum()
            };
            for u in 0..UNITS {
                let input = |gate: usize| x[(t * BATCH + b) * gates * UNITS + gate * UNITS + u];
                let z = |gate: usize| product(state, gate, u);
                let at = b * UNITS + u;
                let peephole = |n: usize| vectors.get(n * UNITS + u).copied().unwrap_or(0.0);
                h[at] = match cell {
                    Cell::Rnn => f(input(0) + z(0)),
                    Cell::Lstm => {
                        let i = f(input(0) + z(0) + peephole(0) * c[at]);
                        let forget = f(input(1) + z(1) + peephole(1) * c[at]);
                        c[at] = forget * c[at] + i * g(input(2) + z(2));
                        f(input(3) + z(3) + peephole(2) * c[at]) * c[at].tanh()
                    }
                    Cell::Gru => {
                        let (r, z_gate) = (f(input(0) + z(0)), f(input(1) + z(1)));
                        (1.0 - z_gate) * g(input(2) + r * (z(2) + vectors[u])) + z_gate * state[u]
                    }
                    Cell::GruResetBefore => {
                        let reset: Vec<f64> = (0..UNITS)
                            .map(|v| {
                                let sum = x[(t * BATCH + b) * gates * UNITS + v] + product(state, 0, v);
                                f(sum) * state[v]
                            })
                            .collect();
                        let z_gate = f(input(1) + z(1));
                        (1.0 - z_gate) * g(input(2) + product(&reset, 2, u)) + z_gate * state[u]
                    }
                };
                y[t * BATCH * UNITS + at] = h[at];
            }
        }
    }
    (y, c)
}

#[test]
fn every_cell_computes_its_published_formula() {
    for &cell in Cell::ALL {
        for (reverse, peepholes, other) in [(false, false, false), (true, true, false), (false, true, true)] {
            let sums = cell.gates() * UNITS;
            let (x, w) = (drawn(1, STEPS * BATCH * sums), drawn(2, sums * UNITS));
            let (h, c) = (drawn(3, BATCH * UNITS), drawn(4, BATCH * UNITS));
            let rows = match cell {
                Cell::Lstm if peepholes => 3,
                Cell::Gru => 1,
                _ => 0,
            };
            let vectors = drawn(5, rows * UNITS);
            let mut operands =
                vec![tensor(&[STEPS, BATCH, sums], &x), tensor(&[sums, UNITS], &w), tensor(&[BATCH, UNITS], &h)];
            if cell == Cell::Lstm {
                operands.push(tensor(&[BATCH, UNITS], &c));
            }
            if rows > 0 {
                operands.push(tensor(&[rows, UNITS], &vectors));
            }
            // an rnn's only activation is tanh by default, the others' first is the sigmoid
            let (f, g): (Function, Function) = match (other, cell) {
                (true, _) => (relu, relu),
                (false, Cell::Rnn) => (f64::tanh, f64::tanh),
                (false, _) => (sigmoid, f64::tanh),
            };
            let mut activations = Vec::new();
            if other {
                activations = vec!["max(a0, 0)".parse().unwrap(); cell.default_activations().len()];
                if cell == Cell::Lstm {
                    activations[2] = "tanh(a0)".parse().unwrap();
                }
            }
            let op = Op::Recurrent { cell, activations, reverse };
            let found = fold(&op, &operands).unwrap();
            let (y, last) = spelled_out(cell, f, g, reverse, &x, &w, &h, &c, &vectors);
            let mut expected = vec![y];
            if cell == Cell::Lstm {
                expected.push(last);
            }
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                for (f, e) in found.to_vec::<f64>().unwrap().iter().zip(expected) {
                    // sums of three products, a few functions, four steps: well below a thousand roundings of f64
                    assert!((f - e).abs() <= 1e-13, "{cell:?} {reverse} {peepholes}: {f} for {e}");
                }
            }
        }
    }
}

#[test]
fn operands_that_do_not_fit_are_named_all_at_once() {
    let types =
        |dims: &[&[usize]]| -> Vec<TensorType> { dims.iter().map(|d| TensorType::fixed(DType::F32, d)).collect() };
    let error = |cell: Cell, activations: &[&str], dims: &[&[usize]]| {
        let activations = activations.iter().map(|a| a.parse().unwrap()).collect();
        infer(&Op::Recurrent { cell, activations, reverse: false }, &types(dims)).unwrap_err().to_string()
    };
    insta::assert_snapshot!(
        [
            error(Cell::Lstm, &[], &[&[5, 2, 12], &[12, 4], &[3, 4], &[2, 4], &[2, 4]]),
            error(Cell::Gru, &["tanh(a0)"], &[&[0, 2, 12], &[12, 4], &[2, 4]]),
            error(Cell::Rnn, &["a0 + a1"], &[&[5, 4], &[4, 4], &[2, 4], &[1, 4]]),
            error(Cell::Rnn, &[], &[&[5, 2, 0], &[0, 0], &[2, 0]]),
        ]
        .join("\n\n")
    );
    let mixed = [types(&[&[5, 2, 4], &[4, 4]]), vec![TensorType::fixed(DType::F64, &[2, 4])]].concat();
    let error = infer(&Op::Recurrent { cell: Cell::Rnn, activations: vec![], reverse: false }, &mixed).unwrap_err();
    assert!(error.to_string().contains("C1: all operands have one float dtype; found f32, f32, f64"), "{error}");
}

#[test]
fn one_step_is_a_sequence_too() {
    let ones = |dims: &[usize]| tensor(dims, &vec![1f32; dims.iter().product()]);
    let op = Op::Recurrent { cell: Cell::Rnn, activations: vec!["a0".parse().unwrap()], reverse: true };
    let y: Vec<Tensor> = fold(&op, &[ones(&[1, 1, 2]), ones(&[2, 2]), ones(&[1, 2])]).unwrap();
    assert_eq!((y[0].dims(), y[0].to_vec::<f32>().unwrap()), (&[1, 1, 2][..], vec![3.0, 3.0]));
}
