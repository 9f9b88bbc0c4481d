//! The one form of an expression: only the nodes it needs, in post-order, constants apart by dtype.
//!
//! A constant takes the dtype of what it meets. One constant that meets an f32 in one place and an f64 in another
//! must therefore be two nodes, or it would have no dtype. dtypes are not known here, but which nodes must agree is:
//! everything between two conversions or comparisons. So each such class gets its own copy of the constants, and of
//! whatever is computed from constants alone.

use std::collections::HashMap;

use super::{ScalarId, ScalarNode, UnaryFn, children};

/// What decides the dtype of a node that is made of constants alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Context {
    /// Nothing: the node does not wait to be told its dtype.
    Own,
    /// The nodes that agree with this one.
    Class(ScalarId),
    /// It is the operand of this node, whose dtype says nothing about it.
    Alone(ScalarId),
    /// It is a condition.
    Condition,
}

/// The nodes that compute `root`.
pub(super) fn canonical(nodes: &[ScalarNode], root: ScalarId) -> Vec<ScalarNode> {
    let free = free(nodes);
    let mut classes = Classes::new(nodes, &free);
    let mut out: Vec<ScalarNode> = Vec::new();
    let mut map: HashMap<(ScalarId, Context), ScalarId> = HashMap::new();
    let mut stack = vec![(root, Context::Own, false)];
    while let Some((id, context, ready)) = stack.pop() {
        if map.contains_key(&(id, context)) {
            continue;
        }
        let node = nodes[id as usize];
        let (count, kids) = children(node);
        let wanted: Vec<(ScalarId, Context)> = (0..count)
            .map(|i| {
                (
                    kids[i],
                    if free[kids[i] as usize] { classes.context(node, id, i, context, &free) } else { Context::Own },
                )
            })
            .collect();
        if !ready {
            stack.push((id, context, true));
            stack.extend(wanted.iter().rev().map(|&(kid, context)| (kid, context, false)));
            continue;
        }
        let at = |i: usize| wanted.get(i).and_then(|key| map.get(key)).copied().unwrap_or(0);
        out.push(match node {
            ScalarNode::Arg(_) | ScalarNode::Const(_) => node,
            ScalarNode::Unary(f, _) => ScalarNode::Unary(f, at(0)),
            ScalarNode::Binary(f, ..) => ScalarNode::Binary(f, at(0), at(1)),
            ScalarNode::Select(..) => ScalarNode::Select(at(0), at(1), at(2)),
            ScalarNode::Convert(d, _) => ScalarNode::Convert(d, at(0)),
        });
        map.insert((id, context), (out.len() - 1) as ScalarId);
    }
    out
}

/// Which nodes take their dtype from their users: constants, and what is computed from them alone.
fn free(nodes: &[ScalarNode]) -> Vec<bool> {
    let mut free: Vec<bool> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let at = |id: ScalarId| free[id as usize];
        free.push(match *node {
            ScalarNode::Const(_) => true,
            ScalarNode::Arg(_) | ScalarNode::Convert(..) => false,
            ScalarNode::Unary(f, x) => f != UnaryFn::IsNan && at(x),
            ScalarNode::Binary(f, x, y) => !f.is_comparison() && at(x) && at(y),
            ScalarNode::Select(_, x, y) => at(x) && at(y),
        });
    }
    free
}

/// Which nodes must have one dtype: a union-find over those that do not wait for their users.
struct Classes(Vec<ScalarId>);

impl Classes {
    fn new(nodes: &[ScalarNode], free: &[bool]) -> Classes {
        let mut classes = Classes((0..nodes.len() as ScalarId).collect());
        for (id, node) in nodes.iter().enumerate() {
            let id = id as ScalarId;
            let pairs: Vec<(ScalarId, ScalarId)> = match *node {
                ScalarNode::Arg(_) | ScalarNode::Const(_) | ScalarNode::Convert(..) => Vec::new(),
                ScalarNode::Unary(UnaryFn::IsNan, _) => Vec::new(),
                ScalarNode::Unary(_, x) => vec![(id, x)],
                ScalarNode::Binary(f, x, y) if f.is_comparison() => vec![(x, y)],
                ScalarNode::Binary(_, x, y) | ScalarNode::Select(_, x, y) => vec![(id, x), (id, y)],
            };
            for (a, b) in pairs.into_iter().filter(|&(a, b)| !free[a as usize] && !free[b as usize]) {
                let (a, b) = (classes.find(a), classes.find(b));
                classes.0[a as usize] = b;
            }
        }
        classes
    }

    fn find(&mut self, mut id: ScalarId) -> ScalarId {
        while self.0[id as usize] != id {
            let up = self.0[self.0[id as usize] as usize];
            self.0[id as usize] = up;
            id = up;
        }
        id
    }

    /// The context of operand `i`, made of constants alone, of the node `id`, which itself has `outer`.
    fn context(&mut self, node: ScalarNode, id: ScalarId, i: usize, outer: Context, free: &[bool]) -> Context {
        match node {
            ScalarNode::Select(..) if i == 0 => Context::Condition,
            ScalarNode::Convert(..) | ScalarNode::Unary(UnaryFn::IsNan, _) => Context::Alone(id),
            ScalarNode::Binary(f, x, y) if f.is_comparison() => match [x, y].into_iter().find(|&k| !free[k as usize]) {
                Some(other) => Context::Class(self.find(other)),
                None => Context::Alone(id),
            },
            _ if free[id as usize] => outer,
            _ => Context::Class(self.find(id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::dtype::DType;
    use crate::scalar::ScalarExpr;

    #[test]
    fn a_constant_has_one_dtype_in_each_place() {
        let text = "t0 = f64(select((a0 < 0.0), (a0 * a0), a0)); max(t0, 0.0) + log((1.0 + exp(neg(abs(t0)))))";
        let e: ScalarExpr = text.parse().unwrap();
        let types = e.types(&[DType::F32]).unwrap();
        let zeros: Vec<DType> = e
            .nodes()
            .iter()
            .zip(&types)
            .filter(|(n, _)| matches!(n, crate::scalar::ScalarNode::Const(c) if c.0 == 0.0))
            .map(|(_, t)| *t)
            .collect();
        assert_eq!(zeros, [DType::F32, DType::F64]);
        assert_eq!(e.to_string(), text);
    }

    #[test]
    fn what_is_computed_from_constants_alone_is_kept_apart_too() {
        let e: ScalarExpr = "c = 1.0 + 2.0; select(c < 4.0, f64(a0 * c) * c, c)".parse().unwrap();
        let types = e.types(&[DType::F32]).unwrap();
        assert_eq!(types.last(), Some(&DType::F64));
        assert_eq!(e.to_string().parse(), Ok(e.clone()));
        // Within one dtype, a constant is stored once.
        let shared: ScalarExpr = "(a0 + 1.0) * (a1 + 1.0) * (a0 + 1.0)".parse().unwrap();
        assert_eq!(shared.nodes().len(), 7);
    }
}
