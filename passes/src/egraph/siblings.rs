//! Products of one value by several weights become one product by all of them, where that is cheaper.
//!
//! ```text
//! conv(x, v) + a ─┐                                        ┌─ slice
//!                 ├─►  conv(x, concat(v, w)) + concat(a, b) ┤
//! conv(x, w) + b ─┘                                        └─ slice
//! ```
//!
//! Members of a group read one value, agree in everything but the number of their outputs, and are found in one sweep: pairwise
//! merging in the e-graph explodes (Yang et al. 2021, section 4, limit it for that reason), and no greedy extraction would
//! choose what only pays for all members together. What follows each product alike (a bias, an activation) is merged with it,
//! because fusion would not reach through the slices. Runs on the extracted graph: whether a group pays depends on how many
//! users its values have, which is a property of a graph, not of a class.

use std::collections::BTreeMap;

use kiln_ir::infer::conv_dims;
use kiln_ir::{Dim, Graph, GraphError, NodeId, Op, TensorType, Value};

use super::cost::{Place, bound, copied, is_elementwise};
use crate::canonicalise::splat;
use crate::driver::{Context, PassFailure};
use crate::rewrite::{Rewriter, Values, live_nodes};

/// The rule of products.
pub const PRODUCTS: &str = "merge_sibling_products";
/// The rule of convolutions.
pub const CONVOLUTIONS: &str = "merge_sibling_convolutions";

/// What they do, and when.
pub const STATEMENTS: [(&str, &str, &str); 2] = [
    (
        PRODUCTS,
        "dot(x, v) and dot(x, w) are slices of dot(x, concat(v, w)), with what follows both alike",
        "v and w are constant matrices that differ in their outputs only, and the slices are views or joined again",
    ),
    (
        CONVOLUTIONS,
        "conv(x, v) and conv(x, w) are slices of conv(x, concat(v, w)), with what follows both alike",
        "v and w are constant and differ in their outputs only, one group, and the slices are views or joined again",
    ),
];

/// Products over one value that agree in all but their outputs.
struct Group {
    rule: &'static str,
    /// The axis of the weights that is the outputs'.
    weight_axis: usize,
    /// The axis of the results that is the outputs'.
    axis: usize,
    members: Vec<Member>,
    /// A concatenation that joins the results of all members, in their order.
    joined: Option<NodeId>,
}

/// What siblings share: the value, and the extents of their weights but for the outputs'.
type Kinship = (Value, Vec<Dim>);

/// A product and what follows it.
struct Member {
    /// The product, then elementwise ops of which each alone uses the one before, and constants.
    chain: Vec<NodeId>,
}

impl Member {
    fn last(&self) -> NodeId {
        self.chain[self.chain.len() - 1]
    }
}

/// Merges the groups of `graph` that pay.
pub fn merge(graph: Graph, context: &mut Context<'_>) -> Result<Graph, PassFailure> {
    let facts = Facts::of(&graph);
    let mut groups: Vec<Group> = Vec::new();
    for group in facts.groups() {
        let group = facts.complete(group);
        if facts.pays(&group) && context.may_fire(group.rule) {
            groups.push(group);
        }
    }
    if groups.is_empty() { Ok(graph) } else { Ok(rebuild(&facts, &groups, context)?) }
}

/// What is known about the values of a graph.
struct Facts<'g> {
    graph: &'g Graph,
    live: Vec<bool>,
    /// By node: whether its value is known at compile time.
    known: Vec<bool>,
    /// By node: the nodes that use its first result, once for each use; itself for an output.
    users: Vec<Vec<NodeId>>,
}

impl<'g> Facts<'g> {
    fn of(graph: &'g Graph) -> Facts<'g> {
        let live = live_nodes(graph);
        let known = super::cost::known(graph);
        let mut users = vec![Vec::new(); graph.len()];
        for id in graph.node_ids().filter(|id| live[id.0 as usize]) {
            graph.node(id).operands.iter().for_each(|v| users[v.node.0 as usize].push(id));
        }
        graph.outputs().iter().for_each(|(_, v)| users[v.node.0 as usize].push(v.node));
        Facts { graph, live, known, users }
    }

    fn known(&self, v: Value) -> bool {
        self.known[v.node.0 as usize]
    }

    fn dims(&self, id: NodeId) -> &'g [Dim] {
        &self.graph.ty(self.graph.value(id)).dims
    }

    /// The one node that uses the value of `id`; `None` for an output.
    fn sole_user(&self, id: NodeId) -> Option<NodeId> {
        match self.users[id.0 as usize].as_slice() {
            &[user] if user != id => Some(user),
            _ => None,
        }
    }

    /// Products by what must be equal for them to be siblings.
    fn groups(&self) -> Vec<Group> {
        let mut groups: BTreeMap<Kinship, Vec<(&'g Op, Group)>> = BTreeMap::new();
        for id in self.graph.node_ids().filter(|id| self.live[id.0 as usize]) {
            let node = self.graph.node(id);
            let Some((rule, weight_axis, axis)) = outputs(self.graph, id) else { continue };
            let &[x, w] = &node.operands[..] else { continue };
            if self.known(x) || !self.known(w) {
                continue;
            }
            let mut rest = self.graph.ty(w).dims.clone();
            rest.remove(weight_axis);
            let alike = groups.entry((x, rest)).or_default();
            let member = Member { chain: vec![id] };
            match alike.iter_mut().find(|(op, g)| **op == node.op && self.same_dtype(g.members[0].chain[0], id)) {
                Some((_, group)) => group.members.push(member),
                None => {
                    let members = vec![member];
                    alike.push((&node.op, Group { rule, weight_axis, axis, members, joined: None }));
                }
            }
        }
        groups.into_values().flatten().map(|(_, group)| group).filter(|g| g.members.len() > 1).collect()
    }

    fn same_dtype(&self, a: NodeId, b: NodeId) -> bool {
        let dtypes = |id: NodeId| self.graph.node(id).operands.iter().map(|&v| self.graph.ty(v).dtype);
        dtypes(a).eq(dtypes(b))
    }

    /// The group with what follows all members alike.
    fn complete(&self, mut group: Group) -> Group {
        loop {
            let next: Option<Vec<NodeId>> = group.members.iter().map(|m| self.follower(m.last(), group.axis)).collect();
            let Some(next) = next else { break };
            let alike = |&id: &NodeId| {
                let (a, b) = (self.graph.node(next[0]), self.graph.node(id));
                let place = |at: usize| self.known(a.operands[at]) == self.known(b.operands[at]);
                a.op == b.op && (0..a.operands.len()).all(place) && self.same_dtype(next[0], id)
            };
            if !next.iter().all(alike) {
                break;
            }
            group.members.iter_mut().zip(next).for_each(|(m, id)| m.chain.push(id));
        }
        self.join(&mut group);
        group
    }

    /// The elementwise op that alone uses `id`, beside constants that are numbers or lie along the outputs.
    fn follower(&self, id: NodeId, axis: usize) -> Option<NodeId> {
        let user = self.sole_user(id)?;
        let node = self.graph.node(user);
        let constant = |&v: &Value| v.node == id || self.known(v) && self.splits(v, axis);
        (is_elementwise(&node.op) && node.operands.iter().all(constant)).then_some(user)
    }

    /// Whether constants like `v` can be joined along `axis` without storing what they repeat.
    fn splits(&self, v: Value, axis: usize) -> bool {
        match &self.graph.node(v.node).op {
            Op::Broadcast { axes, .. } if axes == &[axis] => {
                // a vector of one element is repeated, too
                self.dims(self.graph.node(v.node).operands[0].node) == [self.graph.ty(v).dims[axis].clone()]
            }
            Op::Broadcast { axes, .. } => axes.is_empty(),
            _ => self.graph.ty(v).dims.iter().enumerate().all(|(a, d)| a == axis || *d == Dim::Fixed(1)),
        }
    }

    /// Finds the concatenation of all members' results, and sorts them as it does.
    fn join(&self, group: &mut Group) {
        let users: Option<Vec<NodeId>> = group.members.iter().map(|m| self.sole_user(m.last())).collect();
        let Some(&[first, ref rest @ ..]) = users.as_deref() else { return };
        let node = self.graph.node(first);
        let along = matches!(&node.op, Op::Concat { axis } if *axis == group.axis);
        if !along || rest.iter().any(|&user| user != first) {
            return;
        }
        let place = |m: &Member| node.operands.iter().position(|v| v.node == m.last()).unwrap_or(usize::MAX);
        group.members.sort_by_key(place);
        let start = place(&group.members[0]);
        if group.members.iter().zip(start..).all(|(m, at)| place(m) == at) {
            group.joined = Some(first);
        }
    }

    /// Whether the merged product is cheaper. Products are as fast as the slower of their arithmetic and their memory
    /// traffic; slices of a whole axis in one piece are views, others copies, and nothing is fused across them.
    fn pays(&self, group: &Group) -> bool {
        let types = |id: NodeId| {
            let node = self.graph.node(id);
            let operands: Vec<TensorType> = node.operands.iter().map(|&v| self.graph.ty(v).clone()).collect();
            (operands, node.types[0].clone())
        };
        let (mut before, mut after) = (0u64, 0u64);
        let mut wide: Option<(Vec<TensorType>, TensorType)> = None;
        for member in &group.members {
            let (operands, result) = types(member.chain[0]);
            before = before.saturating_add(bound(&self.graph.node(member.chain[0]).op, &operands, &result));
            if group.joined.is_none() {
                if result.static_dims().is_none() {
                    return false; // a slice says where it ends
                }
                let alone = result.dims.iter().enumerate().all(|(a, d)| a == group.axis || *d == Dim::Fixed(1));
                after = after.saturating_add(copied(&result, if alone { Place::View } else { Place::Apart }));
                // What would have been done in registers reads the copy.
                if self.sole_user(member.last()).is_some_and(|u| is_elementwise(&self.graph.node(u).op)) {
                    after = after.saturating_add(copied(&result, Place::Apart));
                }
            }
            wide = Some(match wide {
                None => (operands, result),
                Some((mut all, mut sum)) => {
                    let widths = [
                        (&mut all[1].dims[group.weight_axis], &operands[1].dims[group.weight_axis]),
                        (&mut sum.dims[group.axis], &result.dims[group.axis]),
                    ];
                    for (of_all, of_this) in widths {
                        let (Some(n), Some(m)) = (of_all.fixed(), of_this.fixed()) else { return false };
                        *of_all = Dim::Fixed(n + m);
                    }
                    (all, sum)
                }
            });
        }
        let Some((operands, result)) = wide else { return false };
        after = after.saturating_add(bound(&self.graph.node(group.members[0].chain[0]).op, &operands, &result));
        after < before
    }
}

/// For a product that may have siblings: its rule, and the axes of weights and results that are its outputs'.
fn outputs(graph: &Graph, id: NodeId) -> Option<(&'static str, usize, usize)> {
    let node = graph.node(id);
    let rank = |at: usize| node.operands.get(at).map(|&v| graph.ty(v).rank());
    match &node.op {
        Op::Conv { groups: 1, layout, .. } => {
            let (channel, _, output, ..) = conv_dims(*layout, rank(1)?);
            Some((CONVOLUTIONS, output, channel))
        }
        Op::Dot { lhs_batch, rhs_batch, rhs_contract, .. }
            if lhs_batch.is_empty() && rhs_batch.is_empty() && rhs_contract.len() == 1 && rank(1)? == 2 =>
        {
            Some((PRODUCTS, 1 - rhs_contract[0], node.types[0].rank().checked_sub(1)?))
        }
        _ => None,
    }
}

fn rebuild(facts: &Facts<'_>, groups: &[Group], context: &mut Context<'_>) -> Result<Graph, GraphError> {
    let graph = facts.graph;
    let mut member_of: Vec<Option<usize>> = vec![None; graph.len()];
    let mut joins = vec![false; graph.len()];
    for (at, group) in groups.iter().enumerate() {
        group.members.iter().flat_map(|m| &m.chain).for_each(|id| member_of[id.0 as usize] = Some(at));
        group.joined.iter().for_each(|id| joins[id.0 as usize] = true);
    }
    let mut merged: Vec<Option<Value>> = vec![None; groups.len()];
    let mut rewriter = Rewriter::new(graph, context, |_| true)?;
    // What is known comes first: the first member needs the weights of the last.
    let live = |id: &NodeId| facts.live[id.0 as usize];
    let (known, rest): (Vec<NodeId>, Vec<NodeId>) =
        graph.node_ids().filter(live).partition(|id| facts.known[id.0 as usize]);
    for id in known.into_iter().chain(rest) {
        rewriter.enter(id);
        if let Some(at) = member_of[id.0 as usize] {
            if merged[at].is_none() {
                merged[at] = Some(widen(facts, &groups[at], &mut rewriter)?);
            }
            continue;
        }
        let values = if joins[id.0 as usize] {
            let wide = |v: Value| member_of[v.node.0 as usize].filter(|&at| groups[at].joined == Some(id));
            let wide = |v: Value| wide(v).and_then(|at| merged[at]);
            Values::from_slice(&[joined(graph, id, wide, &mut rewriter)?])
        } else {
            rewriter.copy(id)?
        };
        rewriter.set(id, values);
    }
    rewriter.finish()
}

/// The concatenation `id` with one value in place of all members of a group: `wide` says which, for an operand that is a member.
fn joined(
    graph: &Graph,
    id: NodeId,
    wide: impl Fn(Value) -> Option<Value>,
    rewriter: &mut Rewriter<'_, '_>,
) -> Result<Value, GraphError> {
    let mut parts: Vec<Value> = Vec::new();
    for &v in &graph.node(id).operands {
        match wide(v) {
            // members follow one another: the first stands for all
            Some(wide) if parts.contains(&wide) => {}
            Some(wide) => parts.push(wide),
            None => parts.push(mapped(rewriter, v)?),
        }
    }
    match parts[..] {
        [only] => Ok(only),
        _ => rewriter.add(graph.node(id).op.clone(), &parts),
    }
}

/// The merged product of a group with what follows it; its members' results become slices of it.
fn widen(facts: &Facts<'_>, group: &Group, rewriter: &mut Rewriter<'_, '_>) -> Result<Value, GraphError> {
    let graph = facts.graph;
    group.members.iter().flat_map(|m| &m.chain).for_each(|&id| rewriter.absorb(id));
    rewriter.fired(group.rule);
    let mut wide: Option<Value> = None;
    for step in 0..group.members[0].chain.len() {
        let ids: Vec<NodeId> = group.members.iter().map(|m| m.chain[step]).collect();
        let node = graph.node(ids[0]);
        let mut operands = Values::new();
        for at in 0..node.operands.len() {
            let all: Vec<Value> = ids.iter().map(|&id| graph.node(id).operands[at]).collect();
            operands.push(match wide {
                _ if step == 0 && at == 1 => concat(rewriter, &all, group.weight_axis)?,
                Some(wide) if !facts.known(all[0]) => wide,
                Some(wide) => constants(graph, rewriter, &all, group.axis, wide)?,
                None => mapped(rewriter, all[0])?,
            });
        }
        wide = Some(rewriter.add(node.op.clone(), &operands)?);
    }
    let wide = wide.unwrap_or(graph.value(group.members[0].last()));
    if group.joined.is_none() {
        let mut start = 0;
        for member in &group.members {
            let dims: Vec<usize> = rewriter.ty(wide).dims.iter().filter_map(Dim::fixed).collect();
            let (mut from, mut to) = (vec![0; dims.len()], dims);
            from[group.axis] = start;
            start += facts.dims(member.last())[group.axis].fixed().unwrap_or(0);
            to[group.axis] = start;
            let part = rewriter.add(Op::Slice { start: from, limit: to, stride: Vec::new() }, &[wide])?;
            rewriter.set(member.last(), Values::from_slice(&[part]));
        }
    }
    Ok(wide)
}

fn mapped(rewriter: &Rewriter<'_, '_>, v: Value) -> Result<Value, GraphError> {
    rewriter.mapped(v).ok_or(GraphError::ForeignValue { mnemonic: "concat", operand: 0, location: None })
}

fn concat(rewriter: &mut Rewriter<'_, '_>, all: &[Value], axis: usize) -> Result<Value, GraphError> {
    let parts = all.iter().map(|&v| mapped(rewriter, v)).collect::<Result<Values, GraphError>>()?;
    rewriter.add(Op::Concat { axis }, &parts)
}

/// The constants `all` of the members side by side: a number where all are this one, else a vector along `axis`.
fn constants(
    graph: &Graph,
    rewriter: &mut Rewriter<'_, '_>,
    all: &[Value],
    axis: usize,
    wide: Value,
) -> Result<Value, GraphError> {
    let dims = rewriter.ty(wide).dims.clone();
    let inner = |v: Value| match &graph.node(v.node).op {
        Op::Broadcast { axes, .. } => Some((graph.node(v.node).operands[0], axes.is_empty())),
        _ => None,
    };
    let Some(parts) = all.iter().map(|&v| inner(v)).collect::<Option<Vec<_>>>() else {
        // Every other extent is 1.
        return concat(rewriter, all, axis);
    };
    let number = splat(graph, all[0]);
    if number.is_some() && parts.iter().all(|p| p.1) && all.iter().all(|&v| splat(graph, v) == number) {
        let number = mapped(rewriter, parts[0].0)?;
        return rewriter.add(Op::Broadcast { dims, axes: Vec::new() }, &[number]);
    }
    let mut vectors = Values::new();
    for (&v, (part, is_number)) in all.iter().zip(parts) {
        let part = mapped(rewriter, part)?;
        let along = graph.ty(v).dims[axis].clone();
        vectors.push(if is_number {
            rewriter.add(Op::Broadcast { dims: vec![along], axes: Vec::new() }, &[part])?
        } else {
            part
        });
    }
    let vector = rewriter.add(Op::Concat { axis: 0 }, &vectors)?;
    rewriter.add(Op::Broadcast { dims, axes: vec![axis] }, &[vector])
}
