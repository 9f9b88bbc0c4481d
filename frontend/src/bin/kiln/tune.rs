//! `kiln tune`: measure the ways to compute each layer of a model, and keep the fastest in a database.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kiln::compile::CompileOptions;
use kiln::tune::{Database, TuneOptions, Tuned, TunedLayer, tune};
use kiln_ir::Tensor;
use kiln_runtime::Signature;
use serde_json::{Value, json};

use crate::code::CodeArgs;
use crate::engine::{available_threads, threads};
use crate::failure::{Failure, Outcome};
use crate::inputs::{InputArgs, fill_randomly, in_order};
use crate::model::ModelArgs;
use crate::output::{Output, facts};
use crate::passes::PassArgs;
use crate::progress::share_bar;
use crate::touched::Touched;
use crate::values;

/// Measure the ways to compute each layer of a model, and file the fastest in a database.
///
/// `kiln compile`, `run`, `bench`, `cat` and `explain` use the database with `--tuning`. Measurements count for the same processor, target,
/// back end and number of threads, with `--exact` or without. Inputs that no option gives are random, as `kiln bench` makes them. Nothing else should run meanwhile.
#[derive(Debug, Args)]
pub struct TuneArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The database: made where there is none, added to otherwise
    #[arg(short, long, value_name = "DATABASE.json", value_parser = values::output_file())]
    output: PathBuf,
    /// Seconds to measure for each number of threads, about; what was measured until then counts
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = values::at_least_one, allow_negative_numbers = true)]
    budget: usize,
    /// Threads to run on; several numbers between commas are tuned one after another; all cores where it is not given
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = threads, allow_negative_numbers = true)]
    threads: Vec<usize>,
    /// What code is made for: host, x86-64-v2, x86-64-v3, x86-64-v4 or x86-64-v4+vnni; it must run here
    #[arg(long, value_name = "TARGET", default_value = "host")]
    target: String,
    /// Seed of the random inputs
    #[arg(long, value_name = "SEED", default_value_t = 0, value_parser = values::whole::<u64>, allow_negative_numbers = true)]
    seed: u64,
    #[command(flatten)]
    code: CodeArgs,
    #[command(flatten)]
    passes: PassArgs,
    #[command(flatten)]
    inputs: InputArgs,
}

impl TuneArgs {
    /// Measures, files and reports.
    pub fn run(mut self, output: Output) -> Outcome {
        let mut touched = Touched::default();
        self.inputs.touch(&mut touched);
        touched.writes("--output", [&self.output]);
        self.model.protect(touched)?;
        if self.code.tuning.is_some() {
            let message =
                "--tuning is for what uses a database; `kiln tune` fills the one that --output names: leave it out";
            return Err(Failure::Usage(message.to_owned()));
        }
        let compile = CompileOptions {
            target: Some(self.code.target(&self.target)?),
            passes: self.passes.options(),
            exact: self.code.exact,
            ..CompileOptions::default()
        };
        let counts = self.counts()?;
        let graph = self.model.source()?.specialized()?;
        let inputs = self.inputs(&Signature::of(&graph)?)?;
        // before minutes of measuring: a file that is there must be a database, and it must be possible to write it
        Database::read_or_new(&self.output)?.write(&self.output)?;
        let mut all = Vec::new();
        for threads in counts {
            let bar = share_bar(&format!("tuning for {threads} thread(s)"));
            let budget = Duration::from_secs(self.budget as u64);
            let options = TuneOptions { compile: compile.clone(), threads, budget };
            let tuned = tune(&graph, &inputs, &options, &mut |share| bar.set_position((share * 1000.0) as u64));
            bar.finish_and_clear();
            let tuned = tuned?;
            // what somebody else has filed meanwhile stays
            let mut database = Database::read_or_new(&self.output)?;
            tuned.file(&mut database);
            database.write(&self.output)?;
            all.push(tuned);
        }
        let object = json!({ "database": self.output, "tuned": all.iter().map(tuned_json).collect::<Vec<_>>() });
        output.write(&object, || {
            let texts: Vec<String> = all.iter().map(|tuned| tuned_text(tuned, &self.output.display())).collect();
            texts.join("\n")
        })
    }

    /// The numbers of threads, each once.
    fn counts(&self) -> Outcome<Vec<usize>> {
        let twice = self.threads.iter().enumerate().find(|(i, n)| self.threads[..*i].contains(n));
        match twice {
            Some((_, n)) => Err(Failure::Usage(format!("--threads names {n} twice: leave out one of them"))),
            None if self.threads.is_empty() => Ok(vec![available_threads()]),
            None => Ok(self.threads.clone()),
        }
    }

    /// Tensors for all inputs, in signature order.
    fn inputs(&self, signature: &Signature) -> Outcome<Vec<Tensor>> {
        let mut feeds = self.inputs.read(signature)?;
        fill_randomly(signature, &mut feeds, self.seed)?;
        Ok(in_order(signature, feeds))
    }
}

fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

fn tuned_json(tuned: &Tuned) -> Value {
    let layers = tuned.layers.iter().map(|l| {
        json!({
            "layer": l.layer,
            "nodes": l.nodes,
            "ways_tried": l.tried.0,
            "ways": l.tried.1,
            "algorithm": l.measurement.algorithm.to_string(),
            "ms": milliseconds(l.measurement.nanoseconds),
            "estimated_algorithm": l.measurement.estimated.to_string(),
            "estimated_ms": milliseconds(l.measurement.estimated_nanoseconds),
        })
    });
    json!({
        "cpu": tuned.circumstances.cpu,
        "target": tuned.circumstances.target,
        "threads": tuned.circumstances.threads,
        "exact": tuned.circumstances.exact,
        "compilations": tuned.compilations,
        "estimated_ms": tuned.estimated_ms,
        "tuned_ms": tuned.tuned_ms,
        "kept": tuned.is_faster(),
        "layers": layers.collect::<Vec<_>>(),
    })
}

fn tuned_text(tuned: &Tuned, database: &dyn std::fmt::Display) -> String {
    let kept = if tuned.layers.is_empty() {
        "the model has no convolution or product, so there is nothing to choose".to_owned()
    } else if tuned.is_faster() {
        format!("the fastest way of each layer is in {database}")
    } else {
        format!("no faster together: {database} says to compute layers as estimated")
    };
    let rows = facts([
        ("processor", tuned.circumstances.cpu.clone()),
        ("target", tuned.circumstances.target.clone()),
        ("threads", tuned.circumstances.threads.to_string()),
        ("measured", format!("{} layers in {} compilations", tuned.layers.len(), tuned.compilations)),
        ("as estimated", format!("{:.3} ms", tuned.estimated_ms)),
        ("as tuned", format!("{:.3} ms ({:.3} of it); {kept}", tuned.tuned_ms, tuned.tuned_ms / tuned.estimated_ms)),
    ]);
    let layers = tuned.layers.iter().map(|TunedLayer { layer, nodes, tried, measurement: m }| {
        let times = if *nodes == 1 { String::new() } else { format!("{nodes} times ") };
        let mut text = format!(
            "{times}{layer}\n  {:9.3} ms  {}; {} of {} ways measured\n",
            milliseconds(m.nanoseconds),
            m.algorithm,
            tried.0,
            tried.1
        );
        if m.algorithm != m.estimated {
            text += &format!("  {:9.3} ms  {}, as estimated\n", milliseconds(m.estimated_nanoseconds), m.estimated);
        }
        text
    });
    format!("{rows}\n{}", layers.collect::<String>())
}
