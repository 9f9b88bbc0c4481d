//! The `kiln` command: compile models, run them, and look at every stage between.
//!
//! Each subcommand is a file. `--json` gives one JSON object on stdout instead of text for people. The exit code is 0
//! for success, 1 where the work failed, 2 where the command line is wrong; the first line of stderr says what went
//! wrong.

mod bench;
mod binding;
mod bisect;
mod cat;
mod code;
mod compile;
mod demo;
mod diff;
mod disassembly;
mod dot;
mod emit;
mod engine;
mod explain;
mod failure;
mod import;
mod inputs;
mod inspect;
mod interp;
mod model;
mod native;
mod opt;
mod output;
mod passes;
mod picture;
mod plan;
mod progress;
mod reduce;
mod results;
mod run;
mod text;
mod touched;
mod trial;
mod tune;
mod values;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Outcome;
use crate::output::Output;

/// A compiler for neural networks: define, fire, run.
#[derive(Debug, Parser)]
#[command(name = "kiln", version, max_term_width = 110, subcommand_required = true, arg_required_else_help = false)]
struct Cli {
    /// Write one JSON object to stdout instead of text for people
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Compile(compile::CompileArgs),
    Run(run::RunArgs),
    Bench(bench::BenchArgs),
    Tune(tune::TuneArgs),
    Demo(demo::DemoArgs),
    Import(import::ImportArgs),
    Explain(explain::ExplainArgs),
    Inspect(inspect::InspectArgs),
    Cat(cat::CatArgs),
    Verify(verify::VerifyArgs),
    Opt(opt::OptArgs),
    Bisect(bisect::BisectArgs),
    Reduce(reduce::ReduceArgs),
    Interp(interp::InterpArgs),
}

impl Command {
    fn run(self, output: Output) -> Outcome {
        match self {
            Command::Compile(args) => args.run(output),
            Command::Run(args) => args.run(output),
            Command::Bench(args) => args.run(output),
            Command::Tune(args) => args.run(output),
            Command::Demo(args) => args.run(output),
            Command::Import(args) => args.run(output),
            Command::Explain(args) => args.run(output),
            Command::Inspect(args) => args.run(output),
            Command::Cat(args) => args.run(output),
            Command::Verify(args) => args.run(output),
            Command::Opt(args) => args.run(output),
            Command::Bisect(args) => args.run(output),
            Command::Reduce(args) => args.run(output),
            Command::Interp(args) => args.run(output),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| wrong_usage(&error));
    failure::guarded(|| match cli.command.run(Output { json: cli.json }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::print_failure(&failure, cli.json);
            failure.code()
        }
    })
}

/// Ends the process: exit code 2 for wrong usage, 0 for `--help` and `--version`, which come this way too.
fn wrong_usage(error: &clap::Error) -> ! {
    // The command line was not understood, so it is searched for the flag.
    if error.use_stderr() && std::env::args_os().any(|a| a == "--json") {
        let text = error.to_string();
        // How to write it rightly, and where help is, is for people.
        let what = text.split("\n\nUsage:").next().and_then(|t| t.split("\n\nFor more information").next());
        let what = what.unwrap_or_default().trim_end();
        output::print_error(what.strip_prefix("error: ").unwrap_or(what));
    }
    error.exit()
}
