//! What is claimed of every compiled model, on a network that is built here: it runs where no model was fetched.
//! `real_models.rs` claims the same of the fetched ones.

use kiln::compile::{CompileOptions, compile};
use kiln_ir::attribute::Padding;
use kiln_ir::{Builder, ConvOptions, DType, Graph, Initializer, Tensor, Value, WindowOptions};
use kiln_tests::claims::{check_arena, check_same_artifact};
use kiln_tests::target::chosen;

struct Network {
    b: Builder,
    seed: u64,
}

impl Network {
    fn weights(&mut self, dims: &[usize]) -> Value {
        self.seed += 1;
        let (mean, std) = (0.0.into(), 0.1.into());
        let value = Initializer::Normal { mean, std, seed: self.seed }.materialize(DType::F32, dims).unwrap();
        self.b.constant(value)
    }

    fn extents(&self, x: Value) -> Vec<usize> {
        self.b.dims(x).iter().map(|d| d.fixed().unwrap()).collect()
    }

    /// A convolution, a batch normalisation and an activation.
    fn block(&mut self, x: Value, outputs: usize, window: usize, stride: usize, grouped: bool) -> Value {
        let inputs = self.extents(x)[1];
        let groups = if grouped { inputs } else { 1 };
        let w = self.weights(&[outputs, inputs / groups, window, window]);
        let pad = (window / 2) as i64;
        let padding = vec![Padding { low: pad, high: pad }; 2];
        let y = self.b.conv(x, w, &ConvOptions { strides: vec![stride; 2], padding, groups, ..Default::default() });
        let [scale, bias, mean] = [(); 3].map(|()| self.weights(&[outputs]));
        let ones = self.b.constant(Tensor::from_slice(&[outputs], &vec![1f32; outputs]).unwrap());
        let n = self.b.batch_norm(y, [scale, bias, mean, ones], 1, 1e-5);
        self.b.relu(n)
    }

    fn dense(&mut self, x: Value, outputs: usize) -> Value {
        let inputs = *self.extents(x).last().unwrap();
        let (w, bias) = (self.weights(&[inputs, outputs]), self.weights(&[outputs]));
        let y = self.b.matmul(x, w);
        self.b.add(y, bias)
    }

    fn attention(&mut self, x: Value) -> Value {
        let width = *self.extents(x).last().unwrap();
        let [q, k, v] = [(); 3].map(|()| self.dense(x, width));
        let scores = self.b.dot(q, k, &[0], &[0], &[2], &[2]);
        let weights = self.b.softmax(scores, 2);
        let mixed = self.b.dot(weights, v, &[0], &[0], &[2], &[1]);
        self.b.add(mixed, x)
    }
}

/// A stem, a residual, branches that are joined, a depthwise block, pooling, attention over places, and classes: every
/// kind of lifetime that a network has.
fn network() -> Result<Graph, String> {
    let mut n = Network { b: Builder::new("everything"), seed: 0 };
    let x = n.b.placeholder("image", DType::F32, &[2.into(), 3.into(), 32.into(), 32.into()]);
    let stem = n.block(x, 16, 3, 2, false);
    let inner = n.block(stem, 16, 3, 1, false);
    let sum = n.b.add(inner, stem);
    let branches = [n.block(sum, 8, 1, 1, false), n.block(sum, 24, 3, 1, false), n.block(sum, 12, 5, 1, false)];
    let joined = n.b.concat(&branches, 1);
    let depthwise = n.block(joined, 44, 3, 2, true);
    let window = WindowOptions { window: vec![1, 1, 2, 2], strides: vec![1, 1, 2, 2], ..Default::default() };
    let pooled = n.b.max_pool(depthwise, &window);
    let places = n.b.reshape(pooled, &[2.into(), 44.into(), 16.into()]);
    let tokens = n.b.transpose(places, &[0, 2, 1]);
    let attended = n.attention(tokens);
    let flat = n.b.reshape(attended, &[2.into(), (16 * 44).into()]);
    let hidden = n.dense(flat, 64);
    let hidden = n.b.tanh(hidden);
    let logits = n.dense(hidden, 10);
    let y = n.b.softmax(logits, 1);
    n.b.output("classes", y);
    n.b.finish().map_err(|e| e.to_string())
}

fn options() -> CompileOptions {
    CompileOptions { target: chosen(), ..CompileOptions::default() }
}

#[test]
fn a_model_compiled_again_by_any_number_of_threads_is_the_same_artifact() {
    check_same_artifact(network).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn the_arena_is_close_to_the_most_that_lives_at_once() {
    let compiled = compile(&network().unwrap(), &options()).unwrap_or_else(|e| panic!("{e}"));
    check_arena(compiled.plan()).unwrap_or_else(|e| panic!("{e}"));
    assert!(compiled.plan().arena_lower_bound > 100_000, "{}", compiled.plan().arena_lower_bound);
}

#[test]
fn an_arena_that_is_too_large_and_an_artifact_that_changes_are_noticed() {
    let mut plan = compile(&network().unwrap(), &options()).unwrap().plan().clone();
    plan.arena_bytes = plan.arena_lower_bound + plan.arena_lower_bound / 5;
    let error = check_arena(&plan).unwrap_err();
    assert!(error.contains("20.0 % above its lower bound"), "{error}");
    let mut seed = 0;
    let changing = || {
        seed += 1;
        let mut n = Network { b: Builder::new("changing"), seed };
        let x = n.b.placeholder("x", DType::F32, &[2.into(), 4.into()]);
        let y = n.dense(x, 4);
        n.b.output("y", y);
        n.b.finish().map_err(|e| e.to_string())
    };
    let error = check_same_artifact(changing).unwrap_err();
    assert!(error.starts_with("compiled again, the artifact of "), "{error}");
}
