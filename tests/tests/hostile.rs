//! Damaged and malformed files: each gives an error or a right answer, without a panic, in bounded time and memory.
//!
//! Cases run in processes of their own, so that one that aborts (a stack overflow, memory that is not there) is a finding like any other.
//! `cargo test` runs a part; the whole run is `cargo test --release -p kiln-tests --test hostile -- --ignored`. Each finding's bytes are kept
//! in `target/hostile/`; once it is mended, they belong into `tests/malformed/`, whose files are all tried here, as are those of the fuzz
//! targets' corpus.

mod budget;

use std::fs;
use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use budget::{measured, thread_time, trap};
use kiln_tests::hostile::mutate::{Random, mutate};
use kiln_tests::hostile::seeds::seeds;
use kiln_tests::hostile::{Examined, Format, examine};
use libtest_mimic::{Arguments, Failed, Trial};

/// Cases of each format that `cargo test` runs, and that the whole run has.
fn amounts(format: Format) -> (u64, u64) {
    match format {
        Format::Text | Format::Onnx => (900, 35_000),
        Format::Artifact => (500, 35_000),
        Format::Safetensors | Format::Npy | Format::Npz | Format::Tuning => (500, 4_000),
        Format::Kir | Format::Image => (300, 4_000),
    }
}

/// Time of a case on its processor that is a finding in the whole run.
const LONGEST: Duration = Duration::from_secs(5);
/// Seconds by the clock after which a case hangs.
const HANG: u64 = 120;
/// A case may take up to this many times the bytes of its file and of the tensors that it declares, beside [`FLOOR`].
const TIMES: u64 = 4;
/// What compiling takes whatever the graph is.
const FLOOR: u64 = 32 << 20;
/// Findings after which a run stops.
const ENOUGH: usize = 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, format, kind, from, to] = arguments.as_slice()
        && flag == "--cases"
    {
        return finished(child(format, kind, from, to));
    }
    if let [_, flag, folder] = arguments.as_slice()
        && flag == "--seeds"
    {
        return finished(write_seeds(Path::new(folder)));
    }
    if let [_, flag, format, path, largest @ ..] = arguments.as_slice()
        && flag == "--file"
    {
        return finished(one_file(format, Path::new(path), largest.first()));
    }
    let mut trials = Vec::new();
    for format in Format::ALL {
        let (name, (few, all)) = (format.name(), amounts(format));
        let trial = |name, kind, count| Trial::test(name, move || watched(format, kind, count));
        trials.push(trial(format!("damaged_{name}_files_give_errors_or_right_answers"), "damaged", few));
        trials.push(
            trial(format!("every_damaged_{name}_file_gives_an_error_or_a_right_answer"), "strict", all)
                .with_ignored_flag(true),
        );
        let kept = kept(format).len() as u64;
        trials.push(trial(format!("malformed_{name}_files_give_errors_or_right_answers"), "kept", kept));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn finished(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn named(format: &str) -> Result<Format, String> {
    let names: Vec<&str> = Format::ALL.iter().map(|f| f.name()).collect();
    let found = Format::ALL.into_iter().find(|f| f.name() == format);
    found.ok_or_else(|| format!("`{format}` is no format: they are {}", names.join(", ")))
}

/// Tries one file in this process, for a debugger; it aborts at an allocation of more than `largest` bytes.
fn one_file(format: &str, path: &Path, largest: Option<&String>) -> Result<(), String> {
    if let Some(largest) = largest {
        trap(largest.parse().map_err(|e| format!("{largest}: {e}"))?);
    }
    let bytes = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (outcome, peak) = measured(|| examine(named(format)?, &bytes));
    println!("{peak} bytes allocated, {:?}", outcome?);
    Ok(())
}

/// Writes the seeds of every format into a folder of its name, for the fuzz targets.
fn write_seeds(folder: &Path) -> Result<(), String> {
    for format in Format::ALL {
        let folder = folder.join(format.name());
        fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        for (number, seed) in seeds(format)?.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed).map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

/// The files of `malformed/` and of the fuzz targets' corpus.
fn kept(format: Format) -> Vec<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [here.join("malformed"), here.join("../fuzz/corpus")].map(|folder| folder.join(format.name()));
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    paths
}

/// Runs cases `0..count` in other processes, a new one after each that ended badly.
fn watched(format: Format, kind: &'static str, count: u64) -> Result<(), Failed> {
    let (mut from, mut findings, mut report) = (0, Vec::new(), Report::default());
    while from < count && findings.len() < ENOUGH {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--cases", format.name(), kind, &from.to_string(), &count.to_string()]);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let errors = process.stderr.take().ok_or("no stderr")?;
        // Read beside stdout: a full pipe would stop the process.
        let errors =
            std::thread::spawn(move || BufReader::new(errors).lines().map_while(Result::ok).collect::<Vec<_>>());
        let mut at = from;
        for line in BufReader::new(process.stdout.take().ok_or("no stdout")?).lines() {
            let line = line?;
            match line.split_once(' ') {
                Some(("at", number)) => at = number.parse()?,
                Some(("finding", text)) => findings.push(format!("case {at}: {}", text.replace('\r', "\n"))),
                Some(("done", numbers)) => report.add(numbers),
                _ => {}
            }
        }
        let (status, errors) = (process.wait()?, errors.join().unwrap_or_default());
        if status.success() {
            break;
        }
        let end = errors.iter().rev().take(6).rev().cloned().collect::<Vec<_>>().join("\n");
        findings.push(format!("case {at} ended its process: {status}\n{end}"));
        from = at + 1;
    }
    println!("{} ({kind}): {report:?}", format.name());
    let count = findings.len();
    if findings.is_empty() { Ok(()) } else { Err(format!("{count} findings\n{}", findings.join("\n")).into()) }
}

/// What came of cases.
#[derive(Debug, Default)]
#[allow(dead_code, reason = "shown")]
struct Report {
    cases: u64,
    refused: u64,
    ran: u64,
    /// Milliseconds of the longest case.
    longest: u64,
    /// KiB of the largest case beyond those that it declares.
    largest: u64,
}

impl Report {
    fn add(&mut self, numbers: &str) {
        let n: Vec<u64> = numbers.split(' ').filter_map(|n| n.parse().ok()).collect();
        if let [refused, ran, milliseconds, kib] = n[..] {
            self.cases += 1;
            self.refused += refused;
            self.ran += ran;
            self.longest = self.longest.max(milliseconds);
            self.largest = self.largest.max(kib);
        }
    }
}

/// The bytes of a case.
fn case(format: Format, kind: &str, number: u64, seeds: &[Vec<u8>]) -> Result<Vec<u8>, String> {
    if kind == "kept" {
        let path = kept(format).get(number as usize).cloned().ok_or("no such file")?;
        return fs::read(&path).map_err(|e| e.to_string());
    }
    let mut random = Random::new(number.wrapping_mul(0x1000_0001).wrapping_add(format as u64));
    let (seed, other) = (random.pick(seeds), random.pick(seeds));
    Ok(mutate(format, seed, other, &mut random))
}

/// Runs cases here, and says on stdout which, and what came of them.
fn child(format: &str, kind: &str, from: &str, to: &str) -> Result<(), String> {
    let format = named(format)?;
    let number = |text: &str| text.parse::<u64>().map_err(|e| e.to_string());
    let (from, to) = (number(from)?, number(to)?);
    let mut seeds = if kind == "kept" { Vec::new() } else { seeds(format)? };
    if kind == "strict" && format == Format::Onnx {
        seeds.extend(fetched_models());
    }
    static STARTED: AtomicU64 = AtomicU64::new(0);
    std::thread::spawn(|| {
        let (mut last, mut same) = (0, 0);
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let now = STARTED.load(Ordering::Relaxed);
            same = if now == last { same + 1 } else { 0 };
            last = now;
            if same >= HANG {
                eprintln!("it has run for {HANG} s");
                std::process::abort();
            }
        }
    });
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../hostile");
    fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    for number in from..to {
        STARTED.fetch_add(1, Ordering::Relaxed);
        let bytes = case(format, kind, number, &seeds)?;
        println!("at {number}");
        let path = folder.join(format!("{}-{kind}-{number}", format.name()));
        // Before the attempt: nobody writes it after an abort.
        fs::write(&path, &bytes).map_err(|e| e.to_string())?;
        let start = thread_time();
        let (outcome, peak) = measured(|| catch_unwind(AssertUnwindSafe(|| examine(format, &bytes))));
        let time = thread_time().zip(start).map_or(Duration::ZERO, |(end, start)| end.saturating_sub(start));
        let finding = match outcome {
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&s| s.to_owned()));
                Some(format!("panicked: {}", text.unwrap_or_default()))
            }
            Ok(Err(finding)) => Some(finding),
            Ok(Ok(examined)) => {
                let Examined { refused, ran, declared } = examined;
                let allowed = declared.saturating_add(bytes.len() as u64).saturating_mul(TIMES).saturating_add(FLOOR);
                let (ms, beyond) = (time.as_millis(), peak.saturating_sub(declared.saturating_mul(TIMES)) >> 10);
                println!("done {} {} {ms} {beyond}", u8::from(refused.is_some()), u8::from(ran));
                if peak > allowed {
                    Some(format!("{peak} bytes allocated, for a file of {} that declares {declared}", bytes.len()))
                } else if kind == "strict" && time > LONGEST {
                    Some(format!("it took {} s", time.as_secs_f64()))
                } else {
                    None
                }
            }
        };
        match finding {
            Some(finding) => println!("finding {}\r{}", path.display(), finding.replace('\n', "\r")),
            None => fs::remove_file(&path).map_err(|e| e.to_string())?,
        }
    }
    Ok(())
}

/// The small models among the ONNX project's own tests, where `tests/models/fetch.py` put them.
fn fetched_models() -> Vec<Vec<u8>> {
    use kiln_tests::{models, onnx_nodes};
    let folder = models::folder().join("onnx-tests");
    let cases = onnx_nodes::SETS.iter().flat_map(|set| onnx_nodes::cases(&folder, set));
    let models = cases.filter_map(|case| fs::read(case.join("model.onnx")).ok());
    models.filter(|model| model.len() < 1 << 16).collect()
}
