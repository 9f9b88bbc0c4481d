//! What Kiln says when it is asked for what does not fit: one snapshot for each part of the library, to be read as a user would.
//!
//! Each text names the thing, says what was expected and what was found, and what to do where that does not follow; several mistakes
//! come at once. The ops' own constraints are in `filetests/infer`, one case for each.

use std::fmt::Display;
use std::path::Path;

use bytes::Bytes;
use kiln::compile::{ArtifactOptions, Compiler, compile};
use kiln::files::image::{ImagePreprocess, Resize};
use kiln::files::{npy, npz, safetensors};
use kiln::ir::interp;
use kiln::onnx::{ImportOptions, import_bytes};
use kiln::prelude::*;
use kiln::tune::Database;
use kiln::{weights, zoo};
use kiln_ir::{Stage, specialize, text, verify};
use kiln_runtime::artifact::{Digests, NativeOptions, inspect, load, load_native, read_portable};
use kiln_runtime::{Executor, PoolHandle};

/// Cases and what is said of each.
#[derive(Default)]
struct Texts(Vec<String>);

impl Texts {
    /// What `outcome` says, which must be an error.
    #[track_caller]
    fn of<T>(&mut self, case: &str, outcome: Result<T, impl Display>) {
        match outcome {
            Ok(_) => panic!("{case}: no error"),
            Err(e) => self.0.push(format!("# {case}\n{e}\n")),
        }
    }

    fn all(&self) -> String {
        self.0.join("\n")
    }
}

/// Every group of this file has its own test; together they are at least this many.
const LEAST: usize = 60;

#[test]
fn there_are_enough_texts() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    let files = std::fs::read_dir(here).expect("snapshots").filter_map(Result::ok);
    let ours = files.filter(|f| f.file_name().to_string_lossy().starts_with("error_texts__"));
    let texts: usize = ours.map(|f| std::fs::read_to_string(f.path()).expect("text").matches("\n# ").count()).sum();
    assert!(texts >= LEAST, "{texts} texts of errors are compared with snapshots");
}

/// The errors of one scope that is wrong in every line.
fn built(build: impl FnOnce(&Scope)) -> Result<(), String> {
    let scope = Scope::new("wrong");
    build(&scope);
    scope.finish().map(drop).map_err(|e| without_lines(&e.to_string()))
}

/// A text without the numbers of lines and columns of Rust files, which move.
fn without_lines(text: &str) -> String {
    let mut parts = text.split(".rs:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out += ".rs:";
        out += part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':');
    }
    out
}

#[test]
fn operators_of_the_dsl() {
    let mut t = Texts::default();
    t.of(
        "operands of other extents",
        built(|s| {
            let x = s.placeholder::<f32>("x", dims![2, 3]);
            let y = s.placeholder::<f32>("y", dims![4, 5]);
            s.output("sum", x + y);
            s.output("product", x.matmul(y));
            s.output("less", x.less(y));
        }),
    );
    t.of(
        "operands of other dtypes",
        built(|s| {
            let x = s.placeholder::<f32>("x", dims![2]);
            s.output("sum", x + s.placeholder::<i32>("i", dims![2]));
        }),
    );
    t.of(
        "a number that the dtype does not hold",
        built(|s| {
            s.output("half", s.placeholder::<i32>("i", dims![2]) * 0.5);
        }),
    );
    t.of(
        "an axis that is not there",
        built(|s| {
            let x = s.placeholder::<f32>("x", dims![2, 3]);
            s.output("softmax", x.softmax(2));
            s.output("mean", x.mean(&[-3]));
            s.output("slice", x.slice(5, 0, 1));
            s.output("gather", x.gather(s.placeholder::<i64>("i", dims![4]), 7));
        }),
    );
    t.of(
        "a slice that ends behind the end",
        built(|s| {
            s.output("y", s.placeholder::<f32>("x", dims![2, 3]).slice(1, 2, 9));
        }),
    );
    t.of(
        "a reshape to another number of elements",
        built(|s| {
            s.output("y", s.placeholder::<f32>("x", dims![2, 3]).reshape(dims![4]));
        }),
    );
    t.of(
        "a permutation of other axes",
        built(|s| {
            s.output("y", s.placeholder::<f32>("x", dims![2, 3]).transpose(&[0, 0]));
        }),
    );
    t.of(
        "a broadcast to fewer elements",
        built(|s| {
            s.output("y", s.placeholder::<f32>("x", dims![2, 3]).broadcast_to(dims![2, 1]));
        }),
    );
    t.of(
        "a condition that is none",
        built(|s| {
            let x = s.placeholder::<f32>("x", dims![2]);
            s.output("y", x.select(x, x));
            s.output("not", x.logical_not());
        }),
    );
    t.of(
        "parts that do not go beside each other",
        built(|s| {
            let (x, y) = (s.placeholder::<f32>("x", dims![2, 3]), s.placeholder::<f32>("y", dims![3, 3]));
            s.output("y", concat(s, &[x, y], 1));
        }),
    );
    t.of(
        "an assignment to nothing, and to a variable of another type",
        built(|s| {
            s.variable::<f32>("v", &[2], Initializer::ZEROS);
            s.assign("nothing", s.scalar(1f32));
            s.assign("v", s.placeholder::<f32>("x", dims![3]));
        }),
    );
    t.of(
        "names that are taken",
        built(|s| {
            let x = s.placeholder::<f32>("x", dims![2]);
            s.placeholder::<f32>("x", dims![2]);
            s.variable::<f32>("v", &[1], Initializer::ZEROS);
            s.variable::<f32>("v", &[1], Initializer::ZEROS);
            s.output("y", x);
            s.output("y", x);
        }),
    );
    t.of(
        "a value that no memory holds",
        built(|s| {
            s.output("y", s.placeholder::<f32>("x", dims![usize::MAX, 3]));
        }),
    );
    insta::assert_snapshot!(t.all());
}

#[test]
fn layers_of_the_dsl() {
    let mut t = Texts::default();
    let image = |s: &Scope, body: &dyn for<'g> Fn(kiln::dsl::Tensor<'g>) -> kiln::dsl::Tensor<'g>| {
        s.output("y", body(s.placeholder::<f32>("x", dims![1, 6, 8, 8])));
    };
    t.of("a window larger than the image", built(|s| image(s, &|x| Conv2d::new(4, 9).apply("conv", x))));
    t.of(
        "groups that do not divide the channels",
        built(|s| image(s, &|x| Conv2d::new(4, 3).groups(4).apply("conv", x))),
    );
    t.of("a stride of 0", built(|s| image(s, &|x| Conv2d::new(4, 3).stride(0).apply("conv", x))));
    t.of("a dilation of 0", built(|s| image(s, &|x| Conv2d::new(4, 3).dilation(0).apply("conv", x))));
    t.of("a pool larger than the image", built(|s| image(s, &|x| Pool::new(9).max(x))));
    t.of("a pool of no elements", built(|s| image(s, &|x| Pool::new(0).avg(x))));
    t.of("a crop outside", built(|s| image(s, &|x| layers::crop(x, (4, 4), (8, 8)))));
    t.of("a response normalisation over nothing", built(|s| image(s, &|x| layers::lrn(x, 0, 1e-4, 0.75))));
    t.of(
        "a transposed convolution of stride 0",
        built(|s| image(s, &|x| ConvTranspose2d::new(4, 2).stride(0).apply("up", x))),
    );
    t.of(
        "layers that need axes which are not there",
        built(|s| {
            let x = s.placeholder::<f32>("x", dims![3]);
            s.output("conv", Conv2d::new(4, 3).apply("conv", x));
            s.output("norm", layers::batch_norm("bn", x, 1e-5));
            s.output("up", layers::upsample(x, 2));
            s.output("lstm", Recurrent::lstm(2).apply("lstm", x).0);
            s.output("dense", layers::dense("fc", s.scalar(1f32), 4));
        }),
    );
    t.of(
        "layers that need extents which are symbols",
        built(|s| {
            let x = s.placeholder::<f32>("x", dims!["n", "c", "h", 8]);
            s.output("conv", Conv2d::new(4, 3).apply("conv", x));
            s.output("flat", layers::flatten(x));
            s.output("norm", layers::batch_norm("bn", x, 1e-5));
        }),
    );
    t.of(
        "rows of a table by numbers that are no integers",
        built(|s| {
            s.output("y", layers::embedding::<f32>("words", s.placeholder::<f32>("ids", dims![3]), 5, 2));
        }),
    );
    insta::assert_snapshot!(t.all());
}

#[test]
fn layers_of_the_dsl_over_what_is_no_image_and_no_sequence() {
    use kiln::dsl::layers::{GridSample, RecurrentState, RoiAlign};
    let mut t = Texts::default();
    t.of(
        "images of two axes",
        built(|s| {
            let x = s.placeholder::<f32>("x", dims![4, 6]);
            s.output("depthwise", layers::depthwise("dw", x, 3, 1, Padding::Same));
            s.output("transposed", ConvTranspose2d::new(4, 2).apply("up", x));
            s.output("pool", Pool::new(2).max(x));
            s.output("mean", Pool::new(2).avg(x));
            s.output("all", layers::global_avg_pool(x));
            s.output("adaptive", layers::adaptive_avg_pool(x, 2, 2));
            s.output("crop", layers::crop(x, (0, 0), (1, 1)));
            s.output("unpooled", Pool::new(2).max_unpool(x, x));
        }),
    );
    t.of(
        "images of no pixels",
        built(|s| {
            let x = s.placeholder::<f32>("x", dims![1, 2, 6, 6]);
            s.output("upsampled", layers::upsample(x, 0));
            s.output("adaptive", layers::adaptive_avg_pool(x, 0, 0));
        }),
    );
    t.of(
        "an unpooling of another image",
        built(|s| {
            let x = s.placeholder::<f32>("x", dims![1, 2, 6, 6]);
            s.output("unpooled", Pool::new(2).max_unpool(s.placeholder::<f32>("y", dims![1, 2, 4, 4]), x));
            s.output("of_vectors", Pool::new(2).max_unpool(s.placeholder::<f32>("z", dims![1, 2]), x));
            let wide = s.placeholder::<f32>("wide", dims!["n", 2, "h", 6]);
            s.output("of_symbols", Pool::new(2).max_unpool(wide, wide));
        }),
    );
    t.of(
        "sequences of two axes, and states of another layer",
        built(|s| {
            let x = s.placeholder::<f32>("x", dims![4, 6]);
            s.output("rnn", Recurrent::rnn(2).apply("rnn", x).0);
            s.output("gru", Recurrent::gru(2).apply("gru", x).0);
            let sequence = s.placeholder::<f32>("sequence", dims![5, 1, 6]);
            let state = s.placeholder::<f32>("state", dims![1, 3]);
            let of_others = RecurrentState { hidden: state, cell: None };
            s.output("gru_from", Recurrent::gru(2).apply_from("gru2", sequence, of_others).0);
            let right = s.placeholder::<f32>("right", dims![1, 2]);
            let of_others = RecurrentState { hidden: right, cell: Some(s.placeholder::<f32>("cell", dims![2])) };
            s.output("lstm_from", Recurrent::lstm(2).apply_from("lstm", sequence, of_others).0);
        }),
    );
    t.of(
        "a normalisation of a scalar, a response normalisation of a vector",
        built(|s| {
            s.output("norm", layers::layer_norm("norm", s.scalar(1f32), 1e-5));
            s.output("lrn", layers::lrn(s.placeholder::<f32>("x", dims![4]), 5, 1e-4, 0.75));
        }),
    );
    t.of(
        "grids and regions that do not fit the image",
        built(|s| {
            let x = s.placeholder::<f32>("x", dims![2, 3, 8, 8]);
            let theta = s.placeholder::<f32>("theta", dims![2, 3, 3]);
            s.output("grid", layers::affine_grid(theta, &[4, 4], false));
            let points = s.placeholder::<f32>("points", dims![1, 4, 4, 3]);
            s.output("sampled", GridSample::default().apply(x, points));
            let (regions, images) =
                (s.placeholder::<f32>("regions", dims![5, 3]), s.placeholder::<f32>("images", dims![4]));
            s.output("aligned", RoiAlign::new(2, 2).apply(x, regions, images));
            s.output("no_bins", RoiAlign::new(0, 2).apply(x, regions, images));
        }),
    );
    insta::assert_snapshot!(t.all());
}

/// y = x · 2 for `x: f32[n, 3]`.
fn double() -> kiln_ir::Graph {
    let scope = Scope::new("double");
    scope.output("y", scope.placeholder::<f32>("x", dims!["n", 3]) * 2.0);
    scope.finish().expect("a well-formed graph")
}

fn tensor(dims: &[usize]) -> kiln_ir::Tensor {
    kiln_ir::Tensor::zeros(DType::F32, dims).expect("a small tensor")
}

#[test]
fn sessions_and_feeds() {
    let mut t = Texts::default();
    let options = CompileOptions::default();
    t.of("symbols that are not bound", Session::fire(&double(), &options));
    t.of("symbols that are not there", Session::fire(&double(), &options.clone().dim("n", 2).dim("m", 3)));
    let mut session = Session::fire(&double(), &options.clone().dim("n", 2)).expect("it compiles");
    let (right, wrong, whole) =
        (tensor(&[2, 3]), tensor(&[3, 2]), kiln_ir::Tensor::zeros(DType::I64, &[2, 3]).expect("small"));
    t.of("no feed", session.run(&[], &[]));
    t.of("a feed of other extents", session.run(&[("x", &wrong)], &[]));
    t.of("a feed of another dtype", session.run(&[("x", &whole)], &[]));
    t.of("feeds that are not there, or there twice", session.run(&[("x", &right), ("x", &right), ("z", &right)], &[]));
    t.of("fetches that are not there", session.run(&[("x", &right)], &["y", "z", "w"]));
    let results = session.run(&[("x", &right)], &[]).expect("it runs");
    t.of("a result as another type", results.get::<i32>("y"));
    t.of("a result that was not fetched", results.get::<f32>("z"));
    t.of("a variable that is not there", session.variable::<f32>("v"));
    t.of("a variable to be set that is not there", session.set_variable("v", &right));
    let graph = specialize(&double(), &[("n".to_owned(), 2)].into()).expect("n is bound");
    t.of("the interpreter: symbols", interp::run::<f32>(&double(), &[], None));
    t.of("the interpreter: no feed", interp::run::<f32>(&graph, &[], None));
    t.of(
        "the interpreter: wrong feeds",
        interp::run::<f32>(&graph, &[("x", wrong.clone()), ("z", right.clone())], None),
    );
    let executable = compile(&graph, &options).expect("it compiles").executable().expect("code");
    let mut executor = Executor::new(executable, PoolHandle::new(1)).expect("memory");
    t.of("the executor: memory of other lengths", executor.run(&[&[0; 23]], &mut [&mut [0; 7]]));
    t.of("the executor: no memory", executor.run(&[], &mut []));
    t.of("bindings that do not fit", specialize(&double(), &[("k".to_owned(), 2)].into()));
    insta::assert_snapshot!(t.all());
}

#[test]
fn weights_and_the_zoo() {
    let mut t = Texts::default();
    let model = zoo::model("lenet5").expect("a model of the zoo");
    let mut graph = model.graph(&model.images()).expect("a graph");
    let mut tensors = weights::values(&graph).expect("small");
    tensors.remove("fc3.bias");
    tensors.insert("fc3.weight".into(), tensor(&[1, 2]));
    tensors.insert("fc4.weight".into(), tensor(&[1]));
    t.of("weights that do not fit", weights::load(&mut graph, &tensors));
    let images = zoo::Images { batch: kiln_ir::Dim::Fixed(1), size: (3, 3), classes: 10 };
    for name in ["vgg16", "squeezenet1_0", "unet"] {
        let outcome = zoo::model(name).map(|m| m.graph(&images).map_err(|e| without_lines(&e.to_string())));
        if let Some(outcome @ Err(_)) = outcome {
            t.of(&format!("{name} of images of 3 × 3"), outcome);
        }
    }
    insta::assert_snapshot!(t.all());
}

#[test]
fn texts_of_graphs() {
    let mut t = Texts::default();
    let mut wrong = |case: &str, body: &str| {
        t.of(case, text::parse(&format!("kiln 1\ngraph @g(%x: f32[2, 3]) -> (y = %y) {{\n{body}}}\n"), "m.kiln"));
    };
    wrong("an op that is none", "  %y = rleu %x\n");
    wrong("a value that is none", "  %y = relu %z\n");
    wrong("an attribute that is none", "  %y = softmax %x {axes = 1}\n");
    wrong("an attribute of another sort", "  %y = softmax %x {axis = \"last\"}\n");
    wrong("a type that is not the result's", "  %y = relu %x : f32[3, 2]\n");
    wrong("a constant of other extents", "  %c = constant dense<[1.0, 2.0]> : f32[3]\n  %y = relu %x\n");
    wrong("several mistakes", "  %y = add %x, %q\n  %y = relu %x {a = 1}\n  %z = softmax %x {axis = 9}\n");
    wrong("no end", "  %y = relu %x\n  %z = add %x,\n");
    t.of("another format", text::parse("kiln 7\ngraph @g() -> () {}\n", "m.kiln"));
    t.of("no format", text::parse("onnx", "m.kiln"));
    let fused = text::parse(
        "kiln 1\ngraph @g(%x: f32[2, 3], %w: f32[3, 4]) -> (%y) {\n  %y = fused_dot %x, %w {lhs_contract = [1], rhs_contract = [0], epilogue = \"a0\"}\n}\n",
        "m.kiln",
    );
    let verified = verify(&fused.expect("it reads"), Stage::Composite);
    t.of("an op of a later stage", verified.map_err(|e| e.iter().map(ToString::to_string).collect::<String>()));
    insta::assert_snapshot!(t.all());
}

#[test]
fn files() {
    let mut t = Texts::default();
    let path = Path::new("weights.file");
    let npy = |header: &str, data: &[u8]| {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        npy::decode(Bytes::from(bytes), path, "w")
    };
    t.of("npy: no array", npy::decode(Bytes::from_static(b"text"), path, "w"));
    t.of("npy: elements of another type", npy("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", &[0; 8]));
    t.of("npy: too few bytes", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", &[0; 8]));
    t.of("npy: no shape", npy("{'descr': '<f4', 'fortran_order': False}", &[]));
    t.of("npy: a shape that is none", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }", &[]));
    t.of("npz: no archive", npz::decode(std::io::Cursor::new(b"text"), path));
    t.of("npz: no file", npz::read(Path::new("missing.npz")));
    t.of("safetensors: no header", safetensors::decode(&Bytes::from_static(b"text"), path));
    let header = br#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend([0; 4]);
    t.of("safetensors: too few bytes", safetensors::decode(&Bytes::from(bytes), path));
    let image = ImagePreprocess::default();
    t.of("image: no image", image.decode(std::io::Cursor::new(b"text"), path));
    let resize = |resize| ImagePreprocess { resize: Some(resize), ..ImagePreprocess::default() };
    t.of("image: resized to nothing", resize(Resize::Exact(0, 5)).from_rgb(&[0; 12], 2, 2));
    t.of(
        "image: a crop that does not fit",
        ImagePreprocess { crop: Some((3, 3)), ..image.clone() }.from_rgb(&[0; 12], 2, 2),
    );
    t.of("image: of another length", image.from_rgb(&[0; 11], 2, 2));
    t.of("image: divided by nothing", ImagePreprocess { std: [0.0; 3], ..image }.from_rgb(&[0; 12], 2, 2));
    t.of("tuning: no database", Database::decode(b"[]", path));
    t.of("tuning: another format", Database::decode(br#"{"kiln_tuning": 9, "layers": []}"#, path));
    t.of("onnx: no model", import_bytes(Bytes::from_static(&[0xff; 9]), "m.onnx", &ImportOptions::default()));
    t.of("onnx: no graph", import_bytes(Bytes::new(), "m.onnx", &ImportOptions::default()));
    insta::assert_snapshot!(t.all());
}

#[test]
fn artifacts() {
    let mut t = Texts::default();
    let graph = specialize(&double(), &[("n".to_owned(), 2)].into()).expect("n is bound");
    let compiled = compile(&graph, &CompileOptions::default()).expect("it compiles");
    let bytes = |portable, native| {
        let artifact = compiled.artifact(&ArtifactOptions { portable, native }).expect("an artifact");
        artifact.to_bytes().expect("bytes")
    };
    let whole = bytes(true, true);
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.to_vec();
        change(&mut bytes);
        Bytes::from(bytes)
    };
    let check = |file: &Bytes| inspect(file, Digests::Check).map_err(|e| without_digests(&e.to_string()));
    // SAFETY: nothing is run.
    let native = |file: &Bytes| unsafe { load_native(file, NativeOptions::default()) }.map(drop);
    t.of("no artifact", check(&Bytes::from_static(b"text")));
    t.of("of another version", check(&damaged(&|b| b[8] = 9)));
    t.of("cut short", check(&damaged(&|b| b.truncate(200))).map_err(|e| without_numbers(&e)));
    t.of("a bit of the header changed", check(&damaged(&|b| b[40] ^= 1)));
    t.of(
        "a bit of the graph changed",
        check(&damaged(&|b| {
            let at = b.windows(6).position(|w| w == b"kiln 1").expect("a graph");
            b[at] ^= 1;
        })),
    );
    t.of("without a native half", native(&bytes(true, false)));
    t.of("without a portable half", read_portable(&bytes(false, true)));
    t.of("without a portable half, to be compiled", load(&bytes(false, true), &Compiler::default()));
    let mut other = compiled.artifact(&ArtifactOptions::default()).expect("an artifact");
    other.natives[0].triple = "riscv64gc-unknown-linux-gnu".to_owned();
    other.natives[0].features = ["v".to_owned()].into();
    t.of(
        "for another machine",
        native(&other.to_bytes().expect("bytes")).map_err(|e| e.to_string().replace(&host(), "HOST")),
    );
    insta::assert_snapshot!(t.all());
}

fn host() -> String {
    kiln_runtime::cpu::host_triple()
}

/// Digests are those of code, which every version changes.
fn without_digests(text: &str) -> String {
    let mut out = String::new();
    for word in text.split_inclusive([' ', ';', ',']) {
        let hex = word.trim_end_matches([' ', ';', ',']);
        let digest = hex.len() == 64 && hex.chars().all(|c| c.is_ascii_hexdigit());
        out += &if digest { word.replace(hex, "DIGEST") } else { word.to_owned() };
    }
    out
}

fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            c => out.push(c),
        }
    }
    out
}
