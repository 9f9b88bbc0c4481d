//! Loop nests: several operands walked together, each with its own strides.

/// One loop: how often it runs, and how many elements each operand moves per iteration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Iterations.
    pub extent: i64,
    /// Elements between iterations, by operand.
    pub strides: Vec<i64>,
}

impl Axis {
    /// A loop over `extent` iterations.
    pub fn new(extent: usize, strides: impl Into<Vec<i64>>) -> Axis {
        Axis { extent: extent as i64, strides: strides.into() }
    }

    /// A loop that runs once over `operands` operands.
    pub fn unit(operands: usize) -> Axis {
        Axis { extent: 1, strides: vec![0; operands] }
    }
}

/// Element strides of a dense row-major tensor.
pub fn row_major(dims: &[usize]) -> Vec<i64> {
    let mut strides = vec![0; dims.len()];
    let mut step = 1i64;
    for (stride, &dim) in strides.iter_mut().zip(dims).rev() {
        *stride = step;
        step = step.saturating_mul(dim as i64);
    }
    strides
}

/// Strides of an operand of `dims` that is broadcast: 0 along its axes of extent 1.
pub fn broadcast_strides(dims: &[usize]) -> Vec<i64> {
    let dense = row_major(dims);
    dense.into_iter().zip(dims).map(|(stride, &dim)| if dim == 1 { 0 } else { stride }).collect()
}

/// The nest over `dims` of operands with these strides (one list per operand, one stride per dim).
pub fn axes(dims: &[usize], operands: &[Vec<i64>]) -> Vec<Axis> {
    let at = |i: usize| operands.iter().map(|s| s.get(i).copied().unwrap_or(0)).collect::<Vec<i64>>();
    dims.iter().enumerate().map(|(i, &dim)| Axis::new(dim, at(i))).collect()
}

/// The same walk in as few loops as possible: loops of one iteration vanish, and a loop merges with the one inside it
/// where every operand goes on in steps of the inner one.
pub fn collapse(axes: &[Axis]) -> Vec<Axis> {
    let mut merged: Vec<Axis> = Vec::with_capacity(axes.len());
    for axis in axes.iter().filter(|a| a.extent != 1) {
        match merged.last_mut() {
            Some(outer) if continues(outer, axis) => {
                outer.extent *= axis.extent;
                outer.strides.clone_from(&axis.strides);
            }
            _ => merged.push(axis.clone()),
        }
    }
    merged
}

fn continues(outer: &Axis, inner: &Axis) -> bool {
    outer.strides.iter().zip(&inner.strides).all(|(&o, &i)| i.checked_mul(inner.extent) == Some(o))
}

/// Iterations of all loops together.
pub fn volume(axes: &[Axis]) -> i64 {
    axes.iter().fold(1i64, |n, a| n.saturating_mul(a.extent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_operands_collapse_to_one_loop() {
        let dims = [2, 1, 3, 4];
        let dense = row_major(&dims);
        assert_eq!(collapse(&axes(&dims, &[dense.clone(), dense])), [Axis::new(24, [1, 1])]);
    }

    #[test]
    fn a_broadcast_axis_stays_apart() {
        let dims = [2, 3, 4];
        let nest = collapse(&axes(&dims, &[row_major(&dims), broadcast_strides(&[1, 3, 1])]));
        assert_eq!(nest, [Axis::new(2, [12, 0]), Axis::new(3, [4, 1]), Axis::new(4, [1, 0])]);
    }

    #[test]
    fn a_transposition_keeps_its_inner_runs_together() {
        // [a, b, c, d] to [c, d, a, b]
        let dims = [4, 5, 2, 3];
        let nest = collapse(&axes(&dims, &[row_major(&dims), vec![5, 1, 60, 20]]));
        assert_eq!(nest, [Axis::new(20, [6, 1]), Axis::new(6, [1, 20])]);
    }

    #[test]
    fn a_scalar_is_no_loop() {
        assert_eq!(collapse(&axes(&[], &[vec![], vec![]])), []);
        assert_eq!(volume(&[]), 1);
    }
}
