//! What holds of a graph that was read from somewhere, whatever is in it.

use std::collections::BTreeMap;

use bytes::Bytes;
use kiln::compile::{CompileOptions, compile};
use kiln::onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use kiln::onnx::{ExternalFiles, ImportOptions, import_bytes, import_model};
use kiln::random_feeds::random_feeds;
use kiln_ir::cost::graph_cost;
use kiln_ir::interp::{State, run};
use kiln_ir::text::{PrintOptions, WeightStore, parse_with, print_into};
use kiln_ir::{DType, Graph, Op, Stage, Tensor, specialize, verify};
use kiln_runtime::{Executor, PoolHandle, Signature};
use prost::Message;

use super::Examined;

/// Graphs that take more operations, or more bytes of values, than these are compiled but not run: the interpreter is naive.
const MOST_FLOPS: u64 = 400_000;
const MOST_BYTES: u64 = 1 << 20;

/// How far a compiled result may be from the interpreter's in f64, relative to the output's largest magnitude, where the interpreter
/// itself is within [`CONDITIONED`] in f32. Mutated constants make sums whose rounding errors no fixed bound holds; those are not compared.
const TOLERANCE: f64 = 1e-3;
/// See [`TOLERANCE`].
const CONDITIONED: f64 = 1e-5;

/// [`super::examine`] for IR text.
pub(super) fn examine_text(bytes: &[u8]) -> Result<Examined, String> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Ok(Examined::accepted(0)) };
    // Named weights are small tensors of a type that fits nowhere: that is an error, too.
    let weights = |_: &blake3::Hash| Some(Tensor::scalar(0.5f32));
    match parse_with(text, "hostile", &weights) {
        Ok(graph) => examine(&graph),
        Err(e) => Examined::refused(e, declared_in_text(text)),
    }
}

/// [`super::examine`] for ONNX models.
pub(super) fn examine_onnx(bytes: &[u8]) -> Result<Examined, String> {
    let declared = ModelProto::decode(bytes).map_or(0, |model| declared_in_model(&model));
    let named = ["batch", "N", "n", "seq", "H", "W"].map(|name| (name.to_owned(), 2));
    let options = ImportOptions { dims: BTreeMap::from(named), ..ImportOptions::default() };
    let plain = import_bytes(Bytes::copy_from_slice(bytes), "hostile.onnx", &ImportOptions::default());
    let imported = match plain {
        // Not a name that the model has: bind those that it has.
        Err(_) => {
            let Ok(model) = ModelProto::decode(bytes) else { return refused_or_symbolic(plain, declared) };
            let names = symbols(&model);
            let dims = options.dims.into_iter().filter(|(name, _)| names.contains(name)).collect();
            import_model(
                &model,
                "hostile.onnx",
                &ExternalFiles::new(None),
                &ImportOptions { dims, ..ImportOptions::default() },
            )
        }
        imported => imported,
    };
    let graph = match imported {
        Ok(imported) => imported.graph,
        Err(e) => return Examined::refused(e, declared),
    };
    if let Err(errors) = verify(&graph, Stage::Composite) {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Err(format!("import made a graph that does not verify: {}\n{graph}", errors.join("\n")));
    }
    let examined = examine(&graph)?;
    Ok(Examined { declared: examined.declared.saturating_add(declared), ..examined })
}

fn refused_or_symbolic<T>(outcome: Result<T, kiln::onnx::ImportError>, declared: u64) -> Result<Examined, String> {
    match outcome {
        Ok(_) => Ok(Examined::accepted(declared)),
        Err(e) => Examined::refused(e, declared),
    }
}

fn symbols(model: &ModelProto) -> Vec<String> {
    use kiln::onnx::proto::{DimensionValue, TypeValue};
    let inputs = model.graph.iter().flat_map(|g| &g.input);
    let shapes = inputs.filter_map(|input| match input.r#type.as_ref()?.value.as_ref()? {
        TypeValue::Tensor(tensor) => tensor.shape.as_ref(),
        _ => None,
    });
    let names = shapes.flat_map(|s| &s.dim).filter_map(|d| match d.value.as_ref()? {
        DimensionValue::Param(name) => Some(name.clone()),
        DimensionValue::Value(_) => None,
    });
    names.collect()
}

/// A graph that was read: it prints and reads back; passes and back ends take it or say why not; where it is small it runs, and all ways
/// of running it agree.
pub fn examine(graph: &Graph) -> Result<Examined, String> {
    round_trip(graph)?;
    if let Err(errors) = verify(graph, Stage::Lowered) {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Examined::refused(errors.join("\n"), declared(graph));
    }
    let dims = graph.symbols().into_iter().map(|name| (name, 2)).collect();
    let graph = match specialize(graph, &dims) {
        Ok(graph) => graph,
        Err(e) => return Examined::refused(e, declared(graph)),
    };
    let declared = declared(&graph);
    let options = CompileOptions { threads: Some(1), ..CompileOptions::default() };
    let compiled = match compile(&graph, &options) {
        Ok(compiled) => compiled,
        Err(e) => return Examined::refused(e, declared),
    };
    let small =
        |graph: &Graph| graph_cost(graph).is_some_and(|cost| cost.flops <= MOST_FLOPS && cost.bytes() <= MOST_BYTES);
    if declared > MOST_BYTES || !small(&graph) || !small(compiled.graph()) {
        return Ok(Examined::accepted(declared));
    }
    let executable = compiled.executable().map_err(|e| e.to_string())?;
    let signature = Signature::of(&graph).map_err(|e| e.to_string())?;
    let feeds = match random_feeds(&signature, &[], 7) {
        Ok(feeds) => feeds,
        Err(e) => return Examined::refused(e, declared),
    };
    let named: Vec<(&str, Tensor)> = feeds.iter().map(|(name, t)| (name.as_str(), t.clone())).collect();
    let interpreted = match run::<f32>(&graph, &named, Some(&mut State::new())) {
        Ok(results) => results,
        // What only exists in code cannot be compared.
        Err(e) => return Examined::refused(e, declared),
    };
    let exact = run::<f64>(&graph, &named, Some(&mut State::new())).map_err(|e| format!("in f64 only: {e}"))?;
    let mut executor = Executor::new(executable, PoolHandle::new(1)).map_err(|e| e.to_string())?;
    let borrowed: Vec<(&str, &Tensor)> = feeds.iter().map(|(name, t)| (name.as_str(), t)).collect();
    let found = executor.run_named(&borrowed).map_err(|e| format!("interpreted, but not run: {e}\n{graph}"))?;
    let optimized = run::<f64>(compiled.graph(), &named, Some(&mut State::new()));
    let optimized = optimized.map_err(|e| format!("interpreted, but not when optimised: {e}\n{graph}"))?;
    agree(&exact, &interpreted, &optimized, "optimised")
        .map_err(|e| format!("{e}\n{graph}\noptimised:\n{}", compiled.graph()))?;
    agree(&exact, &interpreted, &found, "compiled")
        .map_err(|e| format!("{e}\n{graph}\noptimised:\n{}", compiled.graph()))?;
    Ok(Examined { ran: true, ..Examined::accepted(declared) })
}

/// A graph prints, and what it prints reads back as it.
fn round_trip(graph: &Graph) -> Result<(), String> {
    let mut weights = WeightStore::new();
    let text = print_into(graph, &PrintOptions::default(), &mut weights);
    match parse_with(&text, "printed", &|id| weights.get(id).cloned()) {
        Ok(again) if again == *graph => Ok(()),
        Ok(again) => Err(format!("the printed graph reads back as another:\n{text}\nand\n{again}")),
        Err(e) => Err(format!("the printed graph does not read back:\n{e}\n{text}")),
    }
}

/// Whether results are as near as they can be expected to be: see [`TOLERANCE`].
fn agree(
    exact: &[(String, Tensor)],
    interpreted: &[(String, Tensor)],
    found: &[(String, Tensor)],
    what: &str,
) -> Result<(), String> {
    if exact.len() != found.len() {
        return Err(format!("{what}: {} results, {} expected", found.len(), exact.len()));
    }
    for (((name, e), (_, i)), (other, f)) in exact.iter().zip(interpreted).zip(found) {
        let fits = e.dtype() == f.dtype() || (e.dtype().is_float() && f.dtype().is_float());
        if name != other || e.dims() != f.dims() || !fits {
            return Err(format!(
                "{what}: `{name}` {}{:?}, found `{other}` {}{:?}",
                e.dtype(),
                e.dims(),
                f.dtype(),
                f.dims()
            ));
        }
        let (e, i, f) = (e.to_f64_vec(), i.to_f64_vec(), f.to_f64_vec());
        let narrow = interpreted.iter().any(|(_, t)| matches!(t.dtype(), DType::F16 | DType::BF16));
        let finite = e.iter().chain(&i).all(|v| v.is_finite());
        let scale = e.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
        let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| (x - y).abs() / scale).fold(0.0, f64::max);
        if !finite || narrow || apart(&e, &i) > CONDITIONED {
            continue;
        }
        // A NaN makes every comparison false.
        let near = f.iter().all(|v| v.is_finite()) && apart(&e, &f) <= TOLERANCE;
        if !near {
            let worst = e.iter().zip(&f).max_by(|(a, b), (c, d)| (*a - *b).abs().total_cmp(&(*c - *d).abs()));
            return Err(format!("{what}: `{name}` is off: {worst:?} (right, found)"));
        }
    }
    Ok(())
}

/// Bytes of a plan for each step of a recurrent layer, which becomes a few steps of the plan.
const STEP_BYTES: u64 = 2 << 10;

/// Bytes of every value and variable of a graph; symbolic extents count as 2. The steps of recurrent layers are declared by their sequences.
fn declared(graph: &Graph) -> u64 {
    let bytes = |ty: &kiln_ir::TensorType| {
        let extents = ty.dims.iter().map(|d| match d {
            kiln_ir::Dim::Fixed(n) => *n as u64,
            kiln_ir::Dim::Symbol(_) => 2,
        });
        extents.fold(ty.dtype.size() as u64, u64::saturating_mul)
    };
    let values = graph.node_ids().flat_map(|id| &graph.node(id).types);
    let variables = graph.variables().iter().map(|v| &v.ty);
    let recurrent = graph.node_ids().map(|id| graph.node(id)).filter(|node| matches!(node.op, Op::Recurrent { .. }));
    let steps = recurrent.filter_map(|node| graph.ty(*node.operands.first()?).static_dims()?.first().copied());
    let plans = steps.map(|steps| (steps as u64).saturating_mul(STEP_BYTES));
    values.chain(variables).map(bytes).chain(plans).fold(0, u64::saturating_add)
}

/// Bytes of all types that a text writes down.
fn declared_in_text(text: &str) -> u64 {
    let mut total = 0u64;
    for dtype in DType::ALL {
        for (at, _) in text.match_indices(&format!("{dtype}[")) {
            let inner = &text[at + dtype.name().len() + 1..];
            let inner = inner.split(']').next().unwrap_or_default();
            let extents = inner.split(',').map(|d| d.trim().parse::<u64>().unwrap_or(2));
            total = total.saturating_add(extents.fold(dtype.size() as u64, u64::saturating_mul));
        }
    }
    total
}

/// Bytes of all constants of a model, and of the tensors that its shapes and its numbers may ask for: what import folds is limited
/// besides, so that only constants count.
fn declared_in_model(model: &ModelProto) -> u64 {
    fn tensor(t: &TensorProto) -> u64 {
        t.dims.iter().map(|&d| d.max(0) as u64).fold(8, u64::saturating_mul)
    }
    fn attribute(a: &AttributeProto) -> u64 {
        let tensors = a.t.iter().chain(&a.tensors).map(tensor).fold(0, u64::saturating_add);
        a.g.iter().chain(&a.graphs).map(graph).fold(tensors, u64::saturating_add)
    }
    fn node(n: &NodeProto) -> u64 {
        n.attribute.iter().map(attribute).fold(0, u64::saturating_add)
    }
    fn graph(g: &GraphProto) -> u64 {
        let constants = g.initializer.iter().map(tensor).fold(0, u64::saturating_add);
        g.node.iter().map(node).fold(constants, u64::saturating_add)
    }
    model.graph.iter().map(graph).fold(0, u64::saturating_add)
}
