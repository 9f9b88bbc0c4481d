//! How nodes of the optimised graph came about: rules, source nodes, cost.

use std::collections::BTreeSet;

use kiln_ir::cost::node_cost;
use kiln_ir::text::Names;
use kiln_ir::{Graph, NodeId};
use kiln_passes::egraph::cost::node_costs;
use kiln_passes::{Optimized, optimize};
use serde_json::{Value, json};

use super::source_name;
use crate::failure::{Failure, Outcome};
use crate::model::{Model, ModelArgs};
use crate::output::{Output, bytes};
use crate::passes::{PassArgs, near_miss};
use crate::progress::spinning;

/// Nodes together: how many, and what they cost.
#[derive(Clone, Copy, Debug, Default)]
struct Total {
    nodes: usize,
    flops: u64,
    bytes: u64,
    /// Estimated time, as the e-graph weighs alternatives.
    picoseconds: u64,
}

impl Total {
    /// Of the nodes `ids`; those that cost nothing at run time are counted as nodes only.
    fn of(graph: &Graph, costs: &[u64], ids: impl IntoIterator<Item = NodeId>) -> Total {
        ids.into_iter().fold(Total::default(), |sum, id| {
            let time = costs.get(id.0 as usize).copied().unwrap_or(0);
            // what is known at compile time takes no time, whatever it would take at run time
            let cost = node_cost(graph, id).filter(|_| time > 0).unwrap_or_default();
            Total {
                nodes: sum.nodes + 1,
                flops: sum.flops.saturating_add(cost.flops),
                bytes: sum.bytes.saturating_add(cost.bytes()),
                picoseconds: sum.picoseconds.saturating_add(time),
            }
        })
    }

    fn json(self) -> Value {
        json!({
            "nodes": self.nodes,
            "flops": self.flops,
            "bytes": self.bytes,
            "estimated_us": self.picoseconds as f64 / 1e6,
        })
    }

    fn text(self) -> String {
        let nodes = if self.nodes == 1 { "1 node".to_owned() } else { format!("{} nodes", self.nodes) };
        format!(
            "{nodes}, {:.3} MFLOP, {} read and written, {:.1} µs estimated",
            self.flops as f64 / 1e6,
            bytes(self.bytes),
            self.picoseconds as f64 / 1e6
        )
    }
}

/// A rule in the history of a node.
struct Made {
    firing: u64,
    pass: &'static str,
    rule: &'static str,
}

/// A node of the optimised graph, explained.
struct Explained {
    name: String,
    op: &'static str,
    ty: String,
    rules: Vec<Made>,
    sources: Vec<String>,
    /// Other nodes that take time and come of some of the same computing source nodes.
    shared_with: Vec<String>,
    before: Total,
    after: Total,
}

/// Reports the nodes that rules made, or the one that is asked for.
pub(super) fn explain(model: &ModelArgs, passes: &PassArgs, wanted: Option<&str>, output: Output) -> Outcome {
    let source = match model.open()? {
        Model::Graph(source) => source.specialized()?,
        Model::Artifact(path) => {
            return Err(Failure::Usage(format!(
                "`{}` is compiled already, and holds nothing of what its nodes were made of: explain the model that it was made from",
                path.display()
            )));
        }
    };
    let optimized = spinning("optimising", || optimize(&source, &passes.options()))?;
    let history = History::new(&source, &optimized);
    let ids = match wanted {
        Some(name) => vec![history.find(name)?],
        None => history.made(),
    };
    let rows: Vec<Explained> = ids.into_iter().map(|id| history.of(id)).collect();
    let all = |graph: &Graph, costs: &[u64]| Total::of(graph, costs, graph.node_ids());
    let (before, after) = (all(&source, &history.source_costs), all(&optimized.graph, &history.costs));
    let object = json!({
        "before": before.json(),
        "after": after.json(),
        "firings": optimized.report.firings(),
        "nodes": rows.iter().map(row_json).collect::<Vec<_>>(),
    });
    output.write(&object, || {
        let total = format!("graph before  {}\ngraph after   {}", before.text(), after.text());
        let rows: Vec<String> = rows.iter().map(row_text).collect();
        format!("{total}\n\n{}", rows.join("\n\n"))
    })
}

struct History<'a> {
    source: &'a Graph,
    optimized: &'a Optimized,
    names: Names,
    source_costs: Vec<u64>,
    costs: Vec<u64>,
}

impl<'a> History<'a> {
    fn new(source: &'a Graph, optimized: &'a Optimized) -> History<'a> {
        History {
            source,
            optimized,
            names: Names::new(&optimized.graph),
            source_costs: node_costs(source),
            costs: node_costs(&optimized.graph),
        }
    }

    fn name(&self, id: NodeId) -> String {
        self.names.node(&self.optimized.graph, id)
    }

    /// The node of a name.
    fn find(&self, wanted: &str) -> Outcome<NodeId> {
        let plain = |name: &str| name.trim_start_matches('%').replace('"', "");
        let names: Vec<String> = self.optimized.graph.node_ids().map(|id| plain(&self.name(id))).collect();
        if let Some(at) = names.iter().position(|name| *name == plain(wanted)) {
            return Ok(NodeId(at as u32));
        }
        if let Some(places) = self.became(&plain(wanted), plain) {
            return Err(Failure::Usage(format!(
                "--node {wanted}: the optimised graph has no node of that name; {places}"
            )));
        }
        let meant = near_miss(&plain(wanted), names.iter().map(String::as_str));
        let meant = meant.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default();
        Err(Failure::Usage(format!(
            "--node {wanted}: the optimised graph has no node of that name{meant}; `kiln opt` prints them all"
        )))
    }

    /// What became of the node of the model that has this name, where one has.
    fn became(&self, wanted: &str, plain: impl Fn(&str) -> String) -> Option<String> {
        let names = Names::new(self.source);
        let source = self.source.node_ids().find(|&id| plain(&names.node(self.source, id)) == wanted)?;
        let comes_of_it =
            |id: &NodeId| self.optimized.provenance.of(*id).is_some_and(|origin| origin.sources.contains(&source));
        let into: Vec<NodeId> = self.optimized.graph.node_ids().filter(comes_of_it).collect();
        // the one that computes: weights that were made beside it are of less interest
        let shown = into.iter().rev().take(3).map(|&id| self.name(id)).collect::<Vec<_>>().join(", ");
        Some(match into.len() {
            0 => "the model has one, and nothing of it is left".to_owned(),
            n if n > 3 => format!("the model's went into {n} nodes, among them {shown}: ask for one of these"),
            _ => format!("the model's went into {shown}: ask for that"),
        })
    }

    /// The nodes that rules made and that compute something.
    fn made(&self) -> Vec<NodeId> {
        let graph = &self.optimized.graph;
        let by_rules = |id: &NodeId| self.optimized.provenance.of(*id).is_some_and(|origin| !origin.rules.is_empty());
        graph.node_ids().filter(|&id| !graph.node(id).operands.is_empty()).filter(by_rules).collect()
    }

    /// The source nodes of a node that compute something.
    fn sources(&self, id: NodeId) -> BTreeSet<NodeId> {
        let sources = self.optimized.provenance.of(id).into_iter().flat_map(|origin| origin.sources.iter().copied());
        sources.filter(|&source| !self.source.node(source).operands.is_empty()).collect()
    }

    fn of(&self, id: NodeId) -> Explained {
        let graph = &self.optimized.graph;
        let node = graph.node(id);
        let origin = self.optimized.provenance.of(id).cloned().unwrap_or_default();
        let computing = self.sources(id);
        let runs = |other: NodeId| self.costs.get(other.0 as usize).is_some_and(|&cost| cost > 0);
        let shares = |other: &NodeId| *other != id && runs(*other) && !self.sources(*other).is_disjoint(&computing);
        let report = &self.optimized.report;
        let rules = origin.rules.iter().map(|firing| Made {
            firing: firing.number,
            pass: report.pass_of(firing.number).map_or("", |pass| pass.name),
            rule: firing.rule,
        });
        Explained {
            name: self.name(id),
            op: node.op.mnemonic(),
            ty: node.types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            rules: rules.collect(),
            sources: origin.sources.iter().map(|&source| source_name(self.source, source)).collect(),
            shared_with: graph.node_ids().filter(shares).map(|other| self.name(other)).collect(),
            before: Total::of(self.source, &self.source_costs, computing.iter().copied()),
            after: Total::of(graph, &self.costs, [id]),
        }
    }
}

fn row_json(row: &Explained) -> Value {
    let rules = row.rules.iter().map(|m| json!({ "firing": m.firing, "pass": m.pass, "rule": m.rule }));
    json!({
        "name": row.name,
        "op": row.op,
        "type": row.ty,
        "rules": rules.collect::<Vec<_>>(),
        "sources": row.sources,
        "shared_with": row.shared_with,
        "before": row.before.json(),
        "after": row.after.json(),
    })
}

fn row_text(row: &Explained) -> String {
    let mut out = vec![format!("{} = {} : {}", row.name, row.op, row.ty)];
    let mut list = |name: &str, items: Vec<String>| {
        for (index, item) in items.into_iter().enumerate() {
            out.push(format!("  {:10}{item}", if index == 0 { name } else { "" }));
        }
    };
    let rule = |m: &Made| format!("{} ({}, firing {})", m.rule, m.pass, m.firing);
    let rules: Vec<String> = row.rules.iter().map(rule).collect();
    list("by rules", if rules.is_empty() { vec!["none: it is as in the model".to_owned()] } else { rules });
    list("from", row.sources.clone());
    list("before", vec![row.before.text()]);
    list("after", vec![row.after.text()]);
    if !row.shared_with.is_empty() {
        list("beside", vec![format!("{}, made of some of the same nodes", row.shared_with.join(", "))]);
    }
    out.join("\n")
}
