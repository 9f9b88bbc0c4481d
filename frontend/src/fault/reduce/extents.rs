//! Smaller extents.
//!
//! An extent comes into a graph by what names a tensor or a type (inputs, constants, variables, reshapes, broadcasts)
//! and goes through it by inference. A cut makes it smaller where it comes in, mends what follows from it
//! (the extents of reshapes, limits of slices, windows as wide as the tensor), and lets inference say whether the rest still fits together.

use kiln_ir::{Dim, Graph, Initializer, NodeId, Op, TensorType, Value, Variable};

use super::constants::corner;
use super::rebuild::empty_like;

/// Which extents are made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// All that are this number.
    Every(usize),
    /// One axis of a node without operands.
    Axis(NodeId, usize),
}

impl Cut {
    /// The extent now.
    pub(super) fn extent(self, graph: &Graph) -> usize {
        match self {
            Cut::Every(extent) => extent,
            Cut::Axis(id, axis) => graph.node(id).types.first().and_then(|ty| ty.dims.get(axis)?.fixed()).unwrap_or(0),
        }
    }
}

/// All cuts of a graph: the largest extents first, then axes one by one.
pub(super) fn cuts(graph: &Graph) -> Vec<Cut> {
    let mut extents = Vec::new();
    let mut axes = Vec::new();
    for id in graph.node_ids() {
        let node = graph.node(id);
        for ty in &node.types {
            extents.extend(ty.dims.iter().filter_map(Dim::fixed));
        }
        if let (true, [ty]) = (node.operands.is_empty(), &node.types[..]) {
            axes.extend((0..ty.rank()).map(|axis| Cut::Axis(id, axis)));
        }
    }
    extents.sort_unstable();
    extents.dedup();
    extents.into_iter().rev().map(Cut::Every).chain(axes).filter(|cut| cut.extent(graph) > 1).collect()
}

/// `graph` with the extents of `cut`, which are `from` now, made `to`; and with as many groups of convolutions, where `groups` says
/// so. `None` where what comes of it does not fit together.
pub(super) fn apply(graph: &Graph, cut: Cut, from: usize, to: usize, groups: bool) -> Option<Graph> {
    let all = matches!(cut, Cut::Every(_));
    let less = |n: usize| if all && n == from { to } else { n };
    let source = |id: NodeId, dims: &[usize]| -> Vec<usize> {
        let of_axis = |(axis, &n): (usize, &usize)| match cut {
            Cut::Axis(only, which) if only == id && which == axis => to.min(n),
            _ => less(n),
        };
        dims.iter().enumerate().map(of_axis).collect()
    };
    let mut out = empty_like(graph, |_| false)?;
    for variable in graph.variables() {
        let reads =
            graph.node_ids().find(|&id| super::rebuild::variable_of(&graph.node(id).op) == Some(&variable.name));
        let dims = variable.ty.static_dims()?;
        let dims = reads.map_or(dims.clone(), |id| source(id, &dims));
        out.add_variable(smaller_variable(variable, &dims)?).ok()?;
    }
    let mut map: Vec<NodeId> = Vec::with_capacity(graph.len());
    for id in graph.node_ids() {
        let node = graph.node(id);
        let operands: Vec<Value> =
            node.operands.iter().map(|v| Value { node: map[v.node.0 as usize], result: v.result }).collect();
        let before: Vec<&TensorType> = node.operands.iter().map(|&v| graph.ty(v)).collect();
        let now: Vec<Vec<usize>> = operands.iter().map(|&v| out.ty(v).static_dims()).collect::<Option<_>>()?;
        let dims = || node.types.first().and_then(TensorType::static_dims);
        let op = match &node.op {
            Op::Placeholder { .. } | Op::ReadVar { .. } | Op::Iota { .. } | Op::RandomBits { .. } => {
                with_dims(&node.op, source(id, &dims()?))
            }
            Op::Constant { value } => Op::Constant { value: corner(value.tensor(), &source(id, &dims()?))?.into() },
            Op::Broadcast { axes, .. } => {
                let mut dims: Vec<usize> = dims()?.into_iter().map(less).collect();
                for (&axis, &extent) in axes.iter().zip(now.first()?).filter(|(_, extent)| **extent != 1) {
                    *dims.get_mut(axis)? = extent;
                }
                with_dims(&node.op, dims)
            }
            Op::Reshape { .. } => {
                let before = before.first()?.static_dims()?;
                with_dims(&node.op, reshaped(&before, now.first()?, &dims()?, less)?)
            }
            op => mended(op, &before, &now, &|n| if groups { less(n) } else { n })?,
        };
        map.push(out.add(op, &operands, node.name.clone(), node.location.clone()).ok()?);
    }
    for (name, v) in graph.outputs() {
        out.add_output(name, Value { node: map[v.node.0 as usize], result: v.result }).ok()?;
    }
    Some(out)
}

fn smaller_variable(variable: &Variable, dims: &[usize]) -> Option<Variable> {
    let init = match &variable.init {
        Initializer::Value(value) => Initializer::Value(corner(value.tensor(), dims)?.into()),
        recipe => recipe.clone(),
    };
    Some(Variable { name: variable.name.clone(), ty: TensorType::fixed(variable.ty.dtype, dims), init })
}

/// The op with other dims, where it names some.
fn with_dims(op: &Op, extents: Vec<usize>) -> Op {
    let mut op = op.clone();
    match &mut op {
        Op::Placeholder { dims, .. }
        | Op::ReadVar { dims, .. }
        | Op::Iota { dims, .. }
        | Op::RandomBits { dims, .. }
        | Op::Broadcast { dims, .. }
        | Op::Reshape { dims } => *dims = extents.into_iter().map(Dim::Fixed).collect(),
        _ => {}
    }
    op
}

/// The dims of a reshape from `before` to `after`, now that it is from `now`: axes that hold the same elements together keep doing so.
fn reshaped(before: &[usize], now: &[usize], after: &[usize], less: impl Fn(usize) -> usize) -> Option<Vec<usize>> {
    let mut dims: Vec<usize> = after.iter().map(|&n| less(n)).collect();
    let (mut i, mut j) = (0, 0);
    while i < before.len() || j < after.len() {
        let (first_i, first_j) = (i, j);
        let (mut from, mut to) = (1usize, 1usize);
        // A group: as few axes of each side as have one product.
        loop {
            if i < before.len() && (from <= to || j == after.len()) {
                from = from.checked_mul(before[i])?;
                i += 1;
            } else if j < after.len() {
                to = to.checked_mul(after[j])?;
                j += 1;
            }
            if from == to || (i == before.len() && j == after.len()) {
                break;
            }
        }
        let total: usize = now[first_i..i].iter().product();
        let group = dims.get_mut(first_j..j)?;
        if group.iter().product::<usize>() == total {
            continue;
        }
        // One axis of the group takes what the others leave.
        let mend = (0..group.len()).find_map(|at| {
            let others: usize = group.iter().enumerate().filter(|(k, _)| *k != at).map(|(_, n)| n).product();
            (others > 0 && total.is_multiple_of(others)).then(|| (at, total / others))
        });
        let (at, extent) = mend?;
        group[at] = extent;
    }
    Some(dims)
}

/// An op whose attributes are about extents of its operands, with those that it has now.
fn mended(op: &Op, before: &[&TensorType], now: &[Vec<usize>], groups_now: &dyn Fn(usize) -> usize) -> Option<Op> {
    let was = |axis: usize| before.first().and_then(|ty| ty.dims.get(axis)?.fixed());
    let mut op = op.clone();
    match &mut op {
        Op::Slice { start, limit, .. } => {
            for (axis, (start, limit)) in start.iter_mut().zip(limit).enumerate() {
                let extent = *now.first()?.get(axis)?;
                *limit = (*limit).min(extent);
                *start = (*start).min(limit.saturating_sub(1));
            }
        }
        Op::TopK { k, axis, .. } => *k = (*k).min(*now.first()?.get(*axis)?),
        Op::ReduceWindow { window, .. } | Op::SelectAndScatter { window, .. } => {
            for (axis, window) in window.iter_mut().enumerate() {
                let extent = *now.first()?.get(axis)?;
                if was(axis) == Some(*window) {
                    *window = extent;
                }
            }
        }
        Op::Conv { groups, .. } | Op::FusedConv { groups, .. } => *groups = groups_now(*groups),
        _ => {}
    }
    Some(op)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reshape_follows_the_extents_that_it_joins_and_splits() {
        let same = |n| n;
        assert_eq!(reshaped(&[1, 16, 5, 5], &[1, 16, 3, 3], &[1, 400], same), Some(vec![1, 144]));
        assert_eq!(reshaped(&[2, 6], &[2, 3], &[2, 2, 3], same), Some(vec![2, 1, 3]));
        assert_eq!(reshaped(&[4, 6], &[4, 2], &[4, 1, 6, 1], same), Some(vec![4, 1, 2, 1]));
        assert_eq!(reshaped(&[2, 6], &[2, 5], &[3, 4], same), None);
    }

    #[test]
    fn an_extent_is_cut_wherever_it_is_and_the_rest_follows() {
        let text = "kiln 1
graph @g(%x: f32[1, 8, 6, 6]) -> (%y: f32[1, 288]) {
  %b = constant dense<[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]> : f32[8]
  %0 = broadcast %b {axes = [1]} : f32[1, 8, 6, 6]
  %1 = add %x, %0 : f32[1, 8, 6, 6]
  %2 = slice %1 {start = [0, 0, 0, 0], limit = [1, 8, 6, 6]} : f32[1, 8, 6, 6]
  %y = reshape %2 : f32[1, 288]
}
";
        let graph = kiln_ir::text::parse(text, "t").unwrap_or_else(|e| panic!("{e}"));
        let cut = apply(&graph, Cut::Every(8), 8, 2, false).expect("fits together");
        let cut = apply(&cut, Cut::Every(6), 6, 1, false).expect("fits together");
        let expected = text
            .replace("dense<[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]>", "dense<[1.0, 2.0]>")
            .replace("288", "2")
            .replace("8, 6, 6", "2, 1, 1")
            .replace("[8]", "[2]");
        assert_eq!(cut.to_string(), expected);
        assert!(apply(&graph, Cut::Axis(NodeId(0), 1), 8, 2, false).is_none(), "x no longer fits the sum");
    }
}
