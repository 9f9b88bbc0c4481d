//! Orders of axes, and how transposes, broadcasts and reshapes carry them over.

use kiln_ir::{Dim, Op};

/// The axes of a value in the order in which they are stored.
pub type Order = Vec<usize>;

/// Axes in the order of their numbers.
pub fn identity(rank: usize) -> Order {
    (0..rank).collect()
}

/// Whether axes are in the order of their numbers.
pub fn is_identity(order: &[usize]) -> bool {
    order.iter().copied().eq(0..order.len())
}

/// Where each axis is stored.
pub fn inverse(order: &[usize]) -> Vec<usize> {
    let mut places = vec![0; order.len()];
    for (place, &axis) in order.iter().enumerate() {
        places[axis] = place;
    }
    places
}

/// `list`, which has an entry per axis (or none), in stored order.
pub fn pick<T: Clone>(list: &[T], order: &[usize]) -> Vec<T> {
    if list.is_empty() { Vec::new() } else { order.iter().map(|&a| list[a].clone()).collect() }
}

/// Whether a transpose of a value of `dims` moves only axes of extent 1: it is a reshape then.
pub fn moves_only_ones(dims: &[Dim], perm: &[usize]) -> bool {
    perm.iter().filter(|&&axis| dims[axis] != Dim::Fixed(1)).is_sorted()
}

/// The broadcast to `dims` along `axes` with its result's axes in `order`: the order in which that takes the axes of
/// what is broadcast, and the broadcast of it.
pub fn broadcast_in_order(dims: &[Dim], axes: &[usize], order: &[usize]) -> (Order, Op) {
    let places = inverse(order);
    let mut inner = identity(axes.len());
    inner.sort_by_key(|&i| places[axes[i]]);
    let axes = inner.iter().map(|&i| places[axes[i]]).collect();
    (inner, Op::Broadcast { dims: pick(dims, order), axes })
}

/// The channels-last order of a convolution's operand: batch, spatial axes, channels.
pub fn channels_last(rank: usize) -> Order {
    [0].into_iter().chain(2..rank).chain([1]).collect()
}

/// The channels-last order of a convolution's weights: spatial axes, inputs, outputs.
pub fn weights_last(rank: usize) -> Order {
    (2..rank).chain([1, 0]).collect()
}

/// How a reshape from `from` to `to` acts on a tensor stored in `order`: the order of the result, such that a
/// reshape of the stored tensor gives it. `None` where the reshape mixes axes that lie apart.
pub fn through_reshape(from: &[usize], to: &[usize], order: &[usize]) -> Option<Order> {
    let groups = groups(from, to)?;
    let stored: Vec<usize> = order.iter().copied().filter(|&a| from[a] != 1).collect();
    let mut result = Order::new();
    let mut at = 0;
    while at < stored.len() {
        let (inputs, outputs) = groups.iter().find(|(inputs, _)| inputs.contains(&stored[at]))?;
        let wanted: Vec<usize> = inputs.clone().filter(|&a| from[a] != 1).collect();
        if stored.get(at..at + wanted.len())? != wanted {
            return None;
        }
        result.extend(outputs.clone());
        at += wanted.len();
    }
    Some(with_the_rest(result, to.len()))
}

/// The order nearest to `order` in which the reshape mixes nothing: axes that it joins or splits come together where
/// the first of them is.
pub fn unmixed(from: &[usize], to: &[usize], order: &[usize]) -> Option<Order> {
    let groups = groups(from, to)?;
    let mut result = Order::new();
    for &axis in order.iter().filter(|&&a| from[a] != 1) {
        if !result.contains(&axis) {
            result.extend(groups.iter().find(|(inputs, _)| inputs.contains(&axis))?.0.clone());
        }
    }
    Some(with_the_rest(result, from.len()))
}

/// `order` with the axes of extent 1 that it lacks, where they do no harm.
fn with_the_rest(mut order: Order, rank: usize) -> Order {
    for axis in 0..rank {
        if !order.contains(&axis) {
            let place = order.iter().position(|&b| b > axis).unwrap_or(order.len());
            order.insert(place, axis);
        }
    }
    order
}

type Axes = std::ops::Range<usize>;

/// Cuts a reshape into the smallest runs of axes with equal products.
fn groups(from: &[usize], to: &[usize]) -> Option<Vec<(Axes, Axes)>> {
    if from.contains(&0) || from.iter().product::<usize>() != to.iter().product() {
        return None;
    }
    let mut groups = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < from.len() || j < to.len() {
        let (start_i, start_j) = (i, j);
        let (mut p, mut q) = (from.get(i).copied().unwrap_or(1), to.get(j).copied().unwrap_or(1));
        (i, j) = ((i + 1).min(from.len()), (j + 1).min(to.len()));
        // The products of all axes are equal, so the shorter side always has another axis.
        while p != q {
            if p < q {
                p *= from.get(i)?;
                i += 1;
            } else {
                q *= to.get(j)?;
                j += 1;
            }
        }
        groups.push((start_i..i, start_j..j));
    }
    Some(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broadcast_in_another_order_takes_its_operand_in_the_order_of_its_axes_there() {
        let dims = [2, 3, 5].map(Dim::Fixed);
        let (inner, broadcast) = broadcast_in_order(&dims, &[0, 2], &[2, 1, 0]);
        assert_eq!(inner, [1, 0], "axis 2 of the result comes before axis 0");
        assert_eq!(broadcast, Op::Broadcast { dims: [5, 3, 2].map(Dim::Fixed).into(), axes: vec![0, 2] });
    }

    #[test]
    fn only_axes_of_other_extents_count_as_moved() {
        let dims = [2, 1, 3].map(Dim::Fixed);
        assert!(moves_only_ones(&dims, &[1, 0, 2]));
        assert!(!moves_only_ones(&dims, &[2, 1, 0]));
    }

    #[test]
    fn a_reshape_keeps_an_order_that_it_does_not_mix() {
        let last = channels_last(4);
        assert_eq!(last, [0, 2, 3, 1]);
        // Flattening one pixel, splitting channels into groups, joining spatial axes.
        assert_eq!(through_reshape(&[2, 8, 1, 1], &[2, 8], &last), Some(vec![0, 1]));
        assert_eq!(through_reshape(&[2, 8, 3, 5], &[2, 2, 4, 3, 5], &last), Some(vec![0, 3, 4, 1, 2]));
        assert_eq!(through_reshape(&[2, 8, 3, 5], &[2, 8, 15], &last), Some(vec![0, 2, 1]));
        assert_eq!(through_reshape(&[2, 8], &[2, 8, 1, 1], &[0, 1]), Some(vec![0, 1, 2, 3]));
        assert_eq!(through_reshape(&[6], &[2, 3], &[0]), Some(vec![0, 1]));
        assert_eq!(through_reshape(&[1, 1], &[1], &[1, 0]), Some(vec![0]));
    }

    #[test]
    fn axes_that_a_reshape_joins_come_together() {
        // A channel shuffle, channels-last: the two halves of the channels lie the wrong way round.
        assert_eq!(unmixed(&[1, 2, 4, 3, 3], &[1, 8, 3, 3], &[0, 3, 4, 2, 1]), Some(vec![0, 3, 4, 1, 2]));
        assert_eq!(unmixed(&[2, 8, 3, 5], &[2, 120], &channels_last(4)), Some(vec![0, 1, 2, 3]));
    }

    #[test]
    fn a_reshape_that_mixes_axes_needs_the_numbered_order() {
        let last = channels_last(4);
        assert_eq!(through_reshape(&[2, 8, 3, 5], &[2, 120], &last), None);
        assert_eq!(through_reshape(&[2, 3, 4, 5], &[2, 4, 3, 5], &last), None);
        assert_eq!(through_reshape(&[2, 3], &[6], &[1, 0]), None);
    }
}
