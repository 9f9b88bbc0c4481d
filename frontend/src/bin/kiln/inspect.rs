//! `kiln inspect`: what a model is made of, without running it.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;
use kiln_ir::tensor::element_count;
use kiln_ir::{Graph, Op};
use kiln_runtime::artifact::{self, Digests, Summary};
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome};
use crate::model::{Format, Model, ModelArgs, of_file};
use crate::output::{Output, bytes, facts, table, tensor_type};

/// Say what a model is made of: signature, ops, weights; of an artifact also sections, plan and digests.
#[derive(Debug, Args)]
pub struct InspectArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Compare every section and weight of an artifact with its digest, which reads the whole file
    #[arg(long)]
    digests: bool,
}

impl InspectArgs {
    /// Reports.
    pub fn run(self, output: Output) -> Outcome {
        match self.model.open()? {
            Model::Graph(_) if self.digests => Err(Failure::Usage(format!(
                "--digests is for artifacts, and `{}` is none: leave it out",
                self.model.path.display()
            ))),
            Model::Graph(source) => {
                let facts = GraphFacts::of(&source.graph);
                output.write(&facts.json(source.format), || facts.text(source.format))
            }
            Model::Artifact(path) => artifact_report(&path, self.digests, output),
        }
    }
}

/// What a graph is made of.
struct GraphFacts<'a> {
    graph: &'a Graph,
    /// How many nodes have each op.
    ops: BTreeMap<&'static str, usize>,
    /// Elements and bytes of all constants and variables.
    parameters: (usize, usize),
}

/// How many nodes have each op.
pub fn op_counts(graph: &Graph) -> BTreeMap<&'static str, usize> {
    let mut ops = BTreeMap::new();
    for id in graph.node_ids() {
        *ops.entry(graph.node(id).op.mnemonic()).or_insert(0) += 1;
    }
    ops
}

impl<'a> GraphFacts<'a> {
    fn of(graph: &'a Graph) -> GraphFacts<'a> {
        let (mut elements, mut size) = (0, 0);
        for id in graph.node_ids() {
            if let Op::Constant { value } = &graph.node(id).op {
                elements += value.tensor().len();
                size += value.tensor().bytes().len();
            }
        }
        for variable in graph.variables() {
            let n = variable.ty.static_dims().and_then(|dims| element_count(&dims)).unwrap_or(0);
            elements += n;
            size += n.saturating_mul(variable.ty.dtype.size());
        }
        GraphFacts { graph, ops: op_counts(graph), parameters: (elements, size) }
    }

    fn json(&self, format: Format) -> Value {
        let graph = self.graph;
        let spec = |name: &str, ty: &kiln_ir::TensorType| {
            let dims: Vec<Value> = ty
                .dims
                .iter()
                .map(|dim| match dim {
                    kiln_ir::Dim::Fixed(n) => json!(n),
                    kiln_ir::Dim::Symbol(name) => json!(&**name),
                })
                .collect();
            json!({ "name": name, "dtype": ty.dtype.name(), "dims": dims })
        };
        json!({
            "format": format.name(),
            "name": graph.name(),
            "inputs": graph.input_types().map(|(name, ty)| spec(name, ty)).collect::<Vec<_>>(),
            "outputs": graph.outputs().iter().map(|(name, v)| spec(name, graph.ty(*v))).collect::<Vec<_>>(),
            "variables": graph.variables().iter().map(|v| spec(&v.name, &v.ty)).collect::<Vec<_>>(),
            "symbols": graph.symbols(),
            "nodes": graph.len(),
            "ops": self.ops,
            "parameters": self.parameters.0,
            "parameter_bytes": self.parameters.1,
            "metadata": graph.metadata(),
        })
    }

    fn text(&self, format: Format) -> String {
        let graph = self.graph;
        let mut rows = vec![("graph", format!("@{} ({})", graph.name(), format.name()))];
        rows.extend(graph.input_types().map(|(name, ty)| ("input", format!("{name}: {ty}"))));
        rows.extend(graph.outputs().iter().map(|(name, v)| ("output", format!("{name}: {}", graph.ty(*v)))));
        if !graph.symbols().is_empty() {
            rows.push(("named extents", graph.symbols().join(", ")));
        }
        let (elements, size) = self.parameters;
        rows.push(("variables", graph.variables().len().to_string()));
        rows.push(("parameters", format!("{elements} ({})", bytes(size as u64))));
        rows.extend(graph.metadata().iter().map(|(key, value)| ("metadata", format!("{key} = {value}"))));
        rows.push(("nodes", graph.len().to_string()));
        format!("{}\n{}", facts(rows), ops_table(&self.ops))
    }
}

/// How many nodes have each op, the most frequent first.
fn ops_table(ops: &BTreeMap<&'static str, usize>) -> String {
    let mut table = table(&["op", ">nodes"]);
    let mut counts: Vec<_> = ops.iter().collect();
    counts.sort_by_key(|&(op, n)| (std::cmp::Reverse(*n), *op));
    table.add_rows(counts.into_iter().map(|(op, n)| [(*op).to_owned(), n.to_string()]));
    table.to_string()
}

fn artifact_report(path: &Path, digests: bool, output: Output) -> Outcome {
    let file = artifact::read_file(path)?;
    let summary =
        artifact::inspect(&file, if digests { Digests::Check } else { Digests::Skip }).map_err(of_file(path))?;
    let graph = summary
        .portable
        .is_some()
        .then(|| artifact::read_portable(&file))
        .transpose()
        .map_err(of_file(path))?
        .map(|model| model.graph);
    let mut object = serde_json::to_value(&summary)?;
    if let Some(fields) = object.as_object_mut() {
        fields.insert("format".into(), json!(Format::Artifact.name()));
        if let Some(graph) = &graph {
            fields.insert("ops".into(), json!(op_counts(graph)));
        }
    }
    output.write(&object, || {
        let ops = graph.map(|graph| format!("\n{}", ops_table(&op_counts(&graph))));
        artifact_text(&summary) + &ops.unwrap_or_default()
    })
}

fn artifact_text(summary: &Summary) -> String {
    let mut rows = vec![
        ("artifact", format!("format {}, made by {}", summary.format_version, summary.producer)),
        ("digest", summary.digest.clone()),
        ("size", bytes(summary.total_bytes as u64)),
    ];
    let signature = &summary.signature;
    rows.extend(signature.inputs.iter().map(|s| ("input", format!("{}: {}", s.name, tensor_type(s.dtype, &s.dims)))));
    rows.extend(signature.outputs.iter().map(|s| ("output", format!("{}: {}", s.name, tensor_type(s.dtype, &s.dims)))));
    rows.extend(signature.metadata.iter().map(|(key, value)| ("metadata", format!("{key} = {value}"))));
    rows.push(("weights", bytes(summary.weight_bytes as u64)));
    rows.push((
        "portable half",
        match &summary.portable {
            Some(p) => {
                let packed = p.weights.iter().filter(|w| w.packed).count();
                format!(
                    "{} of text, {} weights ({packed} stored in native order)",
                    bytes(p.graph_bytes as u64),
                    p.weights.len()
                )
            }
            None => "none".to_owned(),
        },
    ));
    for n in &summary.natives {
        let features: Vec<&str> = n.features.iter().map(String::as_str).collect();
        rows.push((
            "native half",
            format!(
                "{} with {}",
                n.triple,
                if features.is_empty() { "no features".to_owned() } else { features.join(", ") }
            ),
        ));
        rows.push(("  runs here", n.not_here.clone().map_or("yes".to_owned(), |why| format!("no: {why}"))));
        rows.push((
            "  code",
            format!("{} in {} kernels, {} steps", bytes(n.code_bytes as u64), n.kernels.len(), n.steps),
        ));
        rows.push((
            "  arena",
            format!("{} (lower bound {})", bytes(n.arena_bytes as u64), bytes(n.arena_lower_bound as u64)),
        ));
        rows.push(("  work", format!("{:.3} GFLOP a run", n.flops as f64 / 1e9)));
    }
    if summary.natives.is_empty() {
        rows.push(("native half", "none".to_owned()));
    }
    rows.push((
        "digests",
        if summary.verified {
            "all compared".to_owned()
        } else {
            "header and portable half (--digests compares all)".to_owned()
        },
    ));
    let mut sections = table(&["section", ">offset", ">bytes", "blake3"]);
    sections.add_rows(summary.sections.iter().map(|s| {
        [
            s.kind.name().to_owned(),
            s.offset.to_string(),
            s.len.to_string(),
            s.digest.get(..16).unwrap_or_default().to_owned(),
        ]
    }));
    format!("{}\n{sections}\n", facts(rows))
}
