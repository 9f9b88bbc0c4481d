//! Optimises a ResNet-50 with random weights and prints what each pass did and how long it took.
//!
//! `cargo run --release -p kiln-passes --example resnet50 [RUNS]`

use kiln_ir::attribute::Padding;
use kiln_ir::{Builder, ConvOptions, DType, Tensor, Value, WindowOptions};
use kiln_passes::{Options, optimize};

fn random(b: &mut Builder, dims: &[usize], low: f64, high: f64, seed: u64) -> Value {
    let n = dims.iter().product();
    let values: Vec<f32> = kiln_ir::random::uniform(seed, n).map(|u| (low + (high - low) * u) as f32).collect();
    match Tensor::from_slice(dims, &values) {
        Ok(t) => b.constant(t),
        Err(e) => panic!("{e}"),
    }
}

struct Net {
    b: Builder,
    seed: u64,
}

impl Net {
    fn conv_bn(&mut self, x: Value, inputs: usize, outputs: usize, window: usize, stride: usize) -> Value {
        self.seed += 10;
        let (b, seed) = (&mut self.b, self.seed);
        let w = random(b, &[outputs, inputs, window, window], -0.05, 0.05, seed);
        let padding = vec![Padding::same((window / 2) as i64); 2];
        let y = b.conv(x, w, &ConvOptions { strides: vec![stride; 2], padding, ..ConvOptions::default() });
        let ranges = [(0.5, 1.5), (-0.5, 0.5), (-0.5, 0.5), (0.5, 1.5)];
        let mut i = 0;
        let statistics = ranges.map(|(low, high)| {
            i += 1;
            random(b, &[outputs], low, high, seed + i)
        });
        b.batch_norm(y, statistics, 1, 1e-5)
    }
}

fn main() {
    let mut n = Net { b: Builder::new("resnet50"), seed: 0 };
    let x = n.b.placeholder("x", DType::F32, &[1.into(), 3.into(), 224.into(), 224.into()]);
    let y = n.conv_bn(x, 3, 64, 7, 2);
    let y = n.b.relu(y);
    let none = Padding::NONE;
    let pool = WindowOptions {
        window: vec![1, 1, 3, 3],
        strides: vec![1, 1, 2, 2],
        padding: vec![none, none, Padding::same(1), Padding::same(1)],
        dilation: vec![],
    };
    let mut y = n.b.max_pool(y, &pool);
    let mut channels = 64;
    for (stage, (blocks, width)) in [(3, 64), (4, 128), (6, 256), (3, 512)].into_iter().enumerate() {
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let a = n.conv_bn(y, channels, width, 1, 1);
            let a = n.b.relu(a);
            let a = n.conv_bn(a, width, width, 3, stride);
            let a = n.b.relu(a);
            let a = n.conv_bn(a, width, width * 4, 1, 1);
            let skip = if block == 0 { n.conv_bn(y, channels, width * 4, 1, stride) } else { y };
            channels = width * 4;
            let sum = n.b.add(a, skip);
            y = n.b.relu(sum);
        }
    }
    let pooled = n.b.avg_pool(y, &WindowOptions { window: vec![1, 1, 7, 7], ..WindowOptions::default() }, false);
    let flat = n.b.reshape(pooled, &[1.into(), 2048.into()]);
    let w = random(&mut n.b, &[1000, 2048], -0.05, 0.05, 1);
    let bias = random(&mut n.b, &[1000], -0.5, 0.5, 2);
    let logits = n.b.dot(flat, w, &[], &[], &[1], &[1]);
    let logits = n.b.add(logits, bias);
    n.b.output("logits", logits);
    let graph = match n.b.finish() {
        Ok(graph) => graph,
        Err(e) => panic!("{e}"),
    };
    let runs = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(3);
    for _ in 0..runs {
        match optimize(&graph, &Options::default()) {
            Ok(got) => println!("{}\n", got.report),
            Err(e) => println!("{e}"),
        }
    }
}
