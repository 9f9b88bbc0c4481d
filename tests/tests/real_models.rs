//! Pretrained models and benchmark models against ONNX Runtime: compiled, from a saved artifact, and interpreted. What
//! is claimed of their memory and of compiling them again holds for each of them too.
//!
//! `tests/models/fetch.py` fetches them. Without them every test here is listed as ignored, with what to do.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kiln::files::image::{Channels, Filter, ImagePreprocess, Layout, Resize};
use kiln::onnx::{ImportOptions, import};
use kiln::{ArtifactOptions, CompileOptions, Compiled, compile};
use kiln_ir::{Graph, Tensor};
use kiln_runtime::{Executable, Executor, PoolHandle};
use kiln_tests::answers;
use kiln_tests::claims::{check_arena, check_same_artifact};
use kiln_tests::models::{Arrays, Case, Model, Named, folder, manifest, relative_error};
use kiln_tests::target::chosen;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value as Json;

/// The interpreter is naive: it runs only models of at most this many multiply-adds, some seconds' worth.
const INTERPRETED_MACS: u64 = if cfg!(debug_assertions) { 1_000_000_000 } else { 4_000_000_000 };

fn main() {
    let arguments = Arguments::from_args();
    let folder = folder();
    let mut trials = Vec::new();
    for (group, folder) in [("", folder.clone()), ("bench/", folder.join("bench"))] {
        match manifest(&folder) {
            None => {
                let name = format!("{group}models_fetched_with_python3_tests_models_fetch_py");
                trials.push(Trial::test(name, || Ok(())).with_ignored_flag(true));
            }
            Some(Err(e)) => trials.push(Trial::test(format!("{group}manifest"), move || Err(e.into()))),
            Some(Ok(models)) => {
                for model in models {
                    let name = format!("{group}{}", model.name);
                    let (here, again) = (folder.clone(), (model.clone(), folder.clone()));
                    let claimed = format!("{name}: arena_and_artifact");
                    trials.push(Trial::test(claimed, move || claims(&again.0, &again.1)));
                    trials.push(Trial::test(name, move || check(&model, &here)));
                }
            }
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// Everything that is claimed of one model.
fn check(model: &Model, folder: &Path) -> Result<(), Failed> {
    let mut programs: BTreeMap<Vec<Vec<usize>>, Program> = BTreeMap::new();
    let mut answers = Vec::new();
    for case in &model.cases {
        let key: Vec<Vec<usize>> = case.arrays.inputs.iter().map(|a| a.shape.clone()).collect();
        if !programs.contains_key(&key) {
            let first = programs.is_empty();
            programs.insert(key.clone(), Program::new(model, folder, &case.arrays, first)?);
        }
        let program = programs.get_mut(&key).ok_or("just inserted")?;
        let (inputs, expected) = case.arrays.read(folder)?;
        let outputs = program.check(&inputs, &expected, model.tolerance).map_err(|e| format!("{}: {e}", case.name))?;
        answers.push(answer(model, case, folder, program, outputs)?);
    }
    judge(model, &answers)
}

/// The arena is close to its lower bound, and compiling the file again gives the same artifact byte for byte.
fn claims(model: &Model, folder: &Path) -> Result<(), Failed> {
    let shapes = model.cases.first().map(|c| c.arrays.shapes()).unwrap_or_default();
    let compiled = check_same_artifact(|| load(model, folder, shapes.clone()))?;
    Ok(check_arena(compiled.plan())?)
}

fn load(model: &Model, folder: &Path, shapes: BTreeMap<String, Vec<usize>>) -> Result<Graph, String> {
    let options = ImportOptions { shapes, ..ImportOptions::default() };
    import(&folder.join(&model.file), &options).map(|i| i.graph).map_err(|e| e.to_string())
}

/// A model compiled for one set of shapes, in every way it can run.
struct Program {
    graph: Graph,
    compiled: Executor,
    reloaded: Executor,
    interpret: bool,
}

impl Program {
    fn new(model: &Model, folder: &Path, arrays: &Arrays, first: bool) -> Result<Program, String> {
        let graph = load(model, folder, arrays.shapes())?;
        let options = CompileOptions { target: chosen(), ..CompileOptions::default() };
        let compiled: Compiled = compile(&graph, &options).map_err(|e| e.to_string())?;
        let pool = PoolHandle::new(2);
        let start = |e: Arc<Executable>| Executor::new(e, pool.clone()).map_err(|e| e.to_string());
        let directory = tempfile::tempdir().map_err(|e| e.to_string())?;
        let path = directory.path().join("model.kiln");
        // Native alone: the portable half of models of this size doubles the time for nothing that is tested here.
        let options = ArtifactOptions { portable: false, ..ArtifactOptions::default() };
        compiled.artifact(&options).and_then(|a| Ok(a.write(&path)?)).map_err(|e| e.to_string())?;
        // Safety: this process wrote the file.
        let reloaded = unsafe { kiln_runtime::artifact::load_native_file(&path, Default::default()) };
        let macs: u64 = compiled.plan().flops() / 2;
        Ok(Program {
            compiled: start(compiled.executable().map_err(|e| e.to_string())?)?,
            reloaded: start(reloaded.map_err(|e| e.to_string())?)?,
            // the interpreter knows no targets
            interpret: first && macs <= INTERPRETED_MACS && chosen().is_none(),
            graph,
        })
    }

    fn run(&mut self, inputs: &Named) -> Result<Named, String> {
        let feeds: Vec<(&str, &Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
        self.compiled.run_named(&feeds).map_err(|e| e.to_string())
    }

    /// Runs every way on `inputs`, compares with `expected`, and gives the compiled program's outputs.
    fn check(&mut self, inputs: &Named, expected: &Named, tolerance: f64) -> Result<Named, String> {
        let outputs = self.run(inputs)?;
        compare("compiled", &outputs, expected, tolerance)?;
        let feeds: Vec<(&str, &Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let again = self.reloaded.run_named(&feeds).map_err(|e| e.to_string())?;
        if again != outputs {
            return Err("the reloaded artifact gives other bits than the compiled program".into());
        }
        if std::mem::take(&mut self.interpret) {
            let feeds: Vec<(&str, Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
            let interpreted = kiln_ir::interp::run::<f32>(&self.graph, &feeds, None).map_err(|e| e.to_string())?;
            compare("interpreted", &interpreted, expected, tolerance)?;
        }
        Ok(outputs)
    }
}

fn compare(what: &str, outputs: &Named, expected: &Named, tolerance: f64) -> Result<(), String> {
    for (name, want) in expected {
        let (_, got) = outputs.iter().find(|(n, _)| n == name).ok_or_else(|| format!("{what}: no output `{name}`"))?;
        let error = relative_error(got, want);
        if error.is_nan() || error > tolerance {
            return Err(format!(
                "{what}: output `{name}` is off by {error:.3e} (relative to its largest value), more than {tolerance:e}"
            ));
        }
    }
    Ok(())
}

/// What a case came to: whether it is right, and in the first place, where there are places.
struct Answer {
    best: bool,
    good: bool,
    text: String,
}

fn number(json: &Json) -> f64 {
    json.as_f64().unwrap_or(f64::NAN)
}

fn numbers(json: &Json) -> Vec<f64> {
    json.as_array().map(|a| a.iter().map(number).collect()).unwrap_or_default()
}

fn values(outputs: &Named, index: usize) -> Vec<f64> {
    outputs.get(index).map(|(_, t)| t.to_f64_vec()).unwrap_or_default()
}

fn answer(model: &Model, case: &Case, folder: &Path, program: &mut Program, outputs: Named) -> Result<Answer, String> {
    let close = |a: f64, b: f64, by: &Json| (a - b).abs() <= number(by);
    let expect = &case.expect;
    let of = |good: bool, text: String| Answer { best: good, good, text };
    Ok(match model.expect["kind"].as_str() {
        // The photograph itself, through Kiln's own decoding and resizing, must give the answer.
        Some("classify") => {
            let prepared = photograph(case, folder)?;
            let name = outputs_input_name(program);
            let outputs = program.run(&vec![(name, prepared)])?;
            let label = expect["label"].as_u64().ok_or("a label")? as usize;
            let top = answers::top_k(&values(&outputs, 0), 5);
            Answer { best: top.first() == Some(&label), good: top.contains(&label), text: format!("{label}: {top:?}") }
        }
        Some("ctc_text") => {
            let path = folder.join(model.dictionary.as_ref().ok_or("a dictionary")?);
            // Not a label file: a space is one of the characters.
            let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let alphabet: Vec<String> = text.lines().map(str::to_owned).collect();
            let classes = outputs[0].1.dims().last().copied().unwrap_or(1);
            let text = answers::ctc_text(&values(&outputs, 0), classes, &alphabet);
            of(Some(text.as_str()) == expect["text"].as_str(), format!("read `{text}`, drawn {}", expect["text"]))
        }
        Some("yolox_boxes") => {
            let strides: Vec<usize> = numbers(&model.expect["strides"]).iter().map(|&s| s as usize).collect();
            let (least, overlap) = (number(&model.expect["score_at_least"]), number(&model.expect["overlap_below"]));
            let boxes = answers::yolox_boxes(&values(&outputs, 0), 416, &strides, least, overlap);
            let wanted = expect["boxes"].as_array().ok_or("boxes")?;
            let same = |(b, w): (&answers::Detection, &Json)| {
                let corners = b.corners.iter().zip(numbers(&w["xyxy"]));
                close(b.score, number(&w["score"]), &model.expect["score_tolerance"])
                    && corners.into_iter().all(|(&c, w)| close(c, w, &model.expect["pixel_tolerance"]))
            };
            of(boxes.len() == wanted.len() && boxes.iter().zip(wanted).all(same), format!("{boxes:?}"))
        }
        Some("cosines") if !expect.is_null() => {
            let width = outputs[0].1.dims().last().copied().unwrap_or(1);
            let rows: Vec<Vec<f64>> = values(&outputs, 0).chunks_exact(width).map(<[f64]>::to_vec).collect();
            let dot = |i: usize| rows[0].iter().zip(&rows[i]).map(|(a, b)| a * b).sum::<f64>();
            let wanted = expect["cosines_of_row_0"].as_object().ok_or("cosines")?;
            let tolerance = &model.expect["cosine_tolerance"];
            let good = wanted.iter().all(|(i, w)| i.parse().is_ok_and(|i| close(dot(i), number(w), tolerance)));
            of(good, format!("{:?}", (1..rows.len()).map(dot).collect::<Vec<_>>()))
        }
        Some("face") => {
            let pick = |key: &str| values(&outputs, model.expect[key].as_u64().unwrap_or(0) as usize);
            let (score, centre) = answers::best_face(&pick("scores_output"), &pick("boxes_output"));
            let wanted = numbers(&expect["centre"]);
            // The picture is 512 pixels wide and high.
            let near = centre.iter().zip(&wanted).all(|(&c, &w)| close(c * 512.0, w, &model.expect["pixel_tolerance"]));
            of(
                near && close(score, number(&expect["best_score"]), &model.expect["score_tolerance"]),
                format!("{score} at {centre:?}"),
            )
        }
        Some("speech") => {
            let probabilities = values(&outputs, 0);
            let frames = |key: &str| {
                let ends: Vec<usize> = numbers(&expect[key]).iter().map(|&n| n as usize).collect();
                probabilities.get(ends.first().copied()?..ends.get(1).copied()?)
            };
            let (speech, silence) = (frames("speech_in_frames"), frames("silence_in_frames"));
            let (least, below) = (number(&expect["at_least"]), number(&expect["below"]));
            let heard = speech.is_some_and(|frames| frames.iter().all(|&p| p >= least));
            let quiet = silence.is_some_and(|frames| frames.iter().all(|&p| p < below));
            of(heard && quiet, format!("{probabilities:.2?}"))
        }
        Some("psnr") => {
            let picture = ImagePreprocess { layout: Layout::Nhwc, ..ImagePreprocess::default() };
            let path = folder.join(expect["image"].as_str().ok_or("an image")?);
            let wanted = picture.load(&path).map_err(|e| e.to_string())?.to_f64_vec();
            // The model gives 0..255 unclipped; a picture holds whole numbers in that range.
            let got = values(&outputs, 0);
            let squares = got.iter().zip(&wanted).map(|(g, w)| (g.clamp(0.0, 255.0).round() - w).powi(2)).sum::<f64>();
            let psnr = 10.0 * (255.0 * 255.0 * got.len() as f64 / squares).log10();
            of(got.len() == wanted.len() && psnr >= number(&expect["psnr_at_least"]), format!("{psnr:.1} dB"))
        }
        _ => of(true, String::new()),
    })
}

fn outputs_input_name(program: &Program) -> String {
    program.graph.input_types().next().map(|(n, _)| n.to_owned()).unwrap_or_default()
}

/// EfficientNet-Lite0's preprocessing: bicubic to a short side of 256, centre crop 224, (x − 127) / 128.
fn photograph(case: &Case, folder: &Path) -> Result<Tensor, String> {
    let preprocess = ImagePreprocess {
        resize: Some(Resize::ShortSide(256)),
        filter: Filter::Bicubic,
        crop: Some((224, 224)),
        channels: Channels::Rgb,
        mean: [127.0; 3],
        std: [128.0; 3],
        ..ImagePreprocess::default()
    };
    let path = folder.join(case.image.as_ref().ok_or("a photograph")?);
    preprocess.load(&path).map_err(|e| e.to_string())
}

fn judge(model: &Model, answers: &[Answer]) -> Result<(), Failed> {
    let listed = || answers.iter().map(|a| a.text.as_str()).collect::<Vec<_>>().join("\n");
    let (best, good) = (answers.iter().filter(|a| a.best).count(), answers.iter().filter(|a| a.good).count());
    let at_least = |key: &str| model.expect[key].as_u64().unwrap_or(answers.len() as u64) as usize;
    if best < at_least("top_1_at_least") || good < at_least("top_5_at_least") {
        return Err(format!("{best} first and {good} good of {} answers\n{}", answers.len(), listed()).into());
    }
    Ok(())
}
