//! The most likely classes of a classifier's output.

use std::cmp::Ordering;

use kiln_ir::Tensor;

/// One class and how it scored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// The class's number, from 0.
    pub class: usize,
    /// Its score, as the model gave it.
    pub score: f64,
}

/// The `k` best classes of every row of `scores`, best first.
///
/// The first axis is the batch; all others together are the classes, so `[n, 1000]` and `[n, 1000, 1, 1]` are the same.
/// A tensor of rank 0 or 1 is one row. Equal scores come in the order of their classes, NaN after every number.
pub fn top_k(scores: &Tensor, k: usize) -> Vec<Vec<Scored>> {
    let rows = if scores.dims().len() < 2 { 1 } else { scores.dims()[0] };
    if scores.is_empty() {
        return vec![Vec::new(); rows];
    }
    let classes = scores.len() / rows;
    (0..rows).map(|row| best(&scores.span(row * classes, classes).to_f64_vec(), k)).collect()
}

fn best(row: &[f64], k: usize) -> Vec<Scored> {
    let mut scored: Vec<Scored> = row.iter().enumerate().map(|(class, &score)| Scored { class, score }).collect();
    // The sort is stable, so equal scores stay in the order of their classes.
    scored.sort_by(|a, b| {
        a.score.is_nan().cmp(&b.score.is_nan()).then_with(|| b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal))
    });
    scored.truncate(k);
    scored
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(scores: &[f32], dims: &[usize], k: usize) -> Vec<Vec<usize>> {
        let tensor = Tensor::from_slice(dims, scores).expect("a tensor");
        top_k(&tensor, k).into_iter().map(|row| row.into_iter().map(|s| s.class).collect()).collect()
    }

    #[test]
    fn the_best_come_first_and_ties_in_order() {
        assert_eq!(classes(&[0.1, 0.7, 0.1, 0.1], &[4], 3), [[1, 0, 2]]);
    }

    #[test]
    fn rows_are_apart_and_unit_axes_do_not_matter() {
        assert_eq!(classes(&[1.0, 2.0, 4.0, 3.0], &[2, 2, 1, 1], 1), [[1], [0]]);
    }

    #[test]
    fn nan_is_never_better_than_a_number() {
        let row = [f32::NAN, f32::NEG_INFINITY, -f32::NAN, f32::INFINITY];
        assert_eq!(classes(&row, &[1, 4], 9), [[3, 1, 0, 2]]);
    }

    #[test]
    fn empty_tensors_have_no_classes() {
        assert_eq!(classes(&[], &[2, 0], 5), [[0; 0]; 2]);
        assert_eq!(classes(&[], &[0, 5], 5), [[0; 0]; 0]);
        assert_eq!(classes(&[3.0], &[], 5), [[0]]);
    }
}
