//! Simpler constants, constants in the place of variables, and parts of tensors.

use bytes::Bytes;
use kiln_ir::{Graph, NodeId, Op, Tensor};

use super::rebuild::{empty_like, uniform, variable_of};
use crate::compile::EXACT;

/// The leading corner of `tensor` with these extents; `None` where it has another rank or is smaller along some axis.
pub fn corner(tensor: &Tensor, dims: &[usize]) -> Option<Tensor> {
    let from = tensor.dims();
    if from == dims {
        return Some(tensor.clone());
    }
    if from.len() != dims.len() || from.iter().zip(dims).any(|(have, want)| have < want) {
        return None;
    }
    let size = tensor.dtype().size();
    let mut bytes: Bytes = tensor.bytes().clone();
    let mut element = size;
    // From the last axis on: rows of `element` bytes, of which the first ones stay.
    for (&have, &want) in from.iter().zip(dims).rev() {
        if want == 0 {
            bytes = Bytes::new();
            break;
        }
        if have != want {
            bytes = bytes.chunks_exact(element * have).flat_map(|row| &row[..element * want]).copied().collect();
        }
        element *= want;
    }
    Tensor::from_bytes(tensor.dtype(), dims, bytes).ok()
}

/// Simpler ops than that of node number `at`, where it names a tensor; the simplest first.
pub(super) fn simpler(graph: &Graph, at: usize) -> Vec<Op> {
    let node = graph.node(NodeId(at as u32));
    match &node.op {
        Op::Constant { value } => {
            let tensor = value.tensor();
            let (dtype, dims) = (tensor.dtype(), tensor.dims());
            let first = tensor.span(0, tensor.len().min(1)).to_f64_vec();
            let mut tensors: Vec<Tensor> =
                [1.0, 0.0].into_iter().chain(first).filter_map(|v| uniform(dtype, dims, v)).collect();
            if dtype.is_float() && tensor.len() <= SHOWN {
                let values = tensor.to_f64_vec();
                for digits in [1.0, 10.0, 100.0] {
                    let rounded = values.iter().map(|v| (v * digits).round() / digits);
                    tensors.extend(Tensor::from_f64_iter(dtype, dims, rounded).ok());
                }
            }
            tensors.into_iter().map(|tensor| Op::Constant { value: tensor.into() }).collect()
        }
        Op::ReadVar { variable, dtype, dims } => {
            let ones = node.types.first().and_then(|ty| uniform(*dtype, &ty.static_dims()?, 1.0));
            let free = !graph.input_types().any(|(name, _)| name == variable);
            let input = Op::Placeholder { name: variable.clone(), dtype: *dtype, dims: dims.clone() };
            let constant = ones.map(|tensor| Op::Constant { value: tensor.into() });
            free.then_some(input).into_iter().chain(constant).collect()
        }
        _ => Vec::new(),
    }
}

/// Elements of constants whose every number is looked at.
const SHOWN: usize = 64;

/// `graph` with another op, of the same type, in the place of node number `at`. Variables that nothing mentions any more are dropped.
pub(super) fn replaced(graph: &Graph, at: usize, op: Op) -> Option<Graph> {
    let op_of = |id: NodeId| if id.0 as usize == at { &op } else { &graph.node(id).op };
    let used = |name: &str| graph.node_ids().any(|id| variable_of(op_of(id)) == Some(name));
    let mut out = empty_like(graph, used)?;
    for id in graph.node_ids() {
        let node = graph.node(id);
        out.add(op_of(id).clone(), &node.operands, node.name.clone(), node.location.clone()).ok()?;
    }
    for (name, v) in graph.outputs() {
        out.add_output(name, *v).ok()?;
    }
    Some(out)
}

/// `graph` without what its metadata says, but for how it must be compiled.
pub(super) fn without_metadata(graph: &Graph) -> Option<Graph> {
    let mut out = Graph::new(graph.name());
    if let Some(exact) = graph.metadata().get(EXACT) {
        out.set_metadata(EXACT, exact);
    }
    for variable in graph.variables() {
        out.add_variable(variable.clone()).ok()?;
    }
    for id in graph.node_ids() {
        let node = graph.node(id);
        out.add(node.op.clone(), &node.operands, node.name.clone(), node.location.clone()).ok()?;
    }
    for (name, v) in graph.outputs() {
        out.add_output(name, *v).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corner_is_the_first_elements_along_every_axis() {
        let tensor = Tensor::from_slice(&[2, 3, 2], &(0..12).collect::<Vec<i32>>()).expect("fits");
        let of = |dims: &[usize]| corner(&tensor, dims).map(|t| t.to_vec::<i32>().expect("i32"));
        assert_eq!(of(&[2, 3, 2]), Some((0..12).collect()));
        assert_eq!(of(&[2, 2, 1]), Some(vec![0, 2, 6, 8]));
        assert_eq!(of(&[1, 3, 2]), Some(vec![0, 1, 2, 3, 4, 5]));
        assert_eq!(of(&[0, 3, 2]), Some(vec![]));
        assert_eq!((of(&[3, 3, 2]), of(&[2, 3])), (None, None));
    }
}
