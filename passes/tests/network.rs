//! Whole networks: what all passes together make of them, and that they compute the same.

mod common;

use common::{check_equal, count};
use kiln_ir::attribute::Padding;
use kiln_ir::{Builder, ConvOptions, DType, Graph, Initializer, Value, WindowOptions};
use kiln_passes::{Options, optimize};

fn conv_bn(b: &mut Builder, x: Value, name: &str, outputs: usize, window: usize, stride: usize) -> Value {
    let inputs = b.dims(x)[1].fixed().unwrap();
    let w = b.variable(
        &format!("{name}/w"),
        DType::F32,
        &[outputs, inputs, window, window],
        Initializer::He { fan_in: inputs * window * window, seed: 3 },
    );
    let padding = vec![Padding::same((window / 2) as i64); 2];
    let y = b.conv(x, w, &ConvOptions { strides: vec![stride; 2], padding, ..ConvOptions::default() });
    let mut vector = |what: &str, low: f64, high: f64| {
        let init = Initializer::Uniform { low: low.into(), high: high.into(), seed: 5 + outputs as u64 };
        b.variable(&format!("{name}/{what}"), DType::F32, &[outputs], init)
    };
    let statistics =
        [vector("scale", 0.5, 1.5), vector("bias", -0.5, 0.5), vector("mean", -0.5, 0.5), vector("variance", 0.5, 1.5)];
    b.batch_norm(y, statistics, 1, 1e-5)
}

/// A ResNet of bottleneck blocks (He et al. 2016) over small pictures.
fn resnet(blocks: usize, width: usize, extent: usize) -> Graph {
    let mut b = Builder::new("resnet");
    let x = b.placeholder("x", DType::F32, &[1.into(), 3.into(), extent.into(), extent.into()]);
    let stem = conv_bn(&mut b, x, "stem", width, 7, 2);
    let stem = b.relu(stem);
    let pool = WindowOptions {
        window: vec![1, 1, 3, 3],
        strides: vec![1, 1, 2, 2],
        padding: vec![Padding::NONE, Padding::NONE, Padding::same(1), Padding::same(1)],
        dilation: vec![],
    };
    let mut y = b.max_pool(stem, &pool);
    for i in 0..blocks {
        let first = conv_bn(&mut b, y, &format!("{i}/a"), width, 1, 1);
        let first = b.relu(first);
        let second = conv_bn(&mut b, first, &format!("{i}/b"), width, 3, 1);
        let second = b.relu(second);
        let third = conv_bn(&mut b, second, &format!("{i}/c"), width * 2, 1, 1);
        let skip = if b.dims(y)[1] == (width * 2).into() {
            y
        } else {
            conv_bn(&mut b, y, &format!("{i}/skip"), width * 2, 1, 1)
        };
        let sum = b.add(third, skip);
        y = b.relu(sum);
    }
    let dims = b.dims(y);
    let window = vec![1, 1, dims[2].fixed().unwrap(), dims[3].fixed().unwrap()];
    let pooled = b.avg_pool(y, &WindowOptions { window, ..WindowOptions::default() }, false);
    let flat = b.reshape(pooled, &[1.into(), (width * 2).into()]);
    let w = b.variable(
        "fc/w",
        DType::F32,
        &[width * 2, 10],
        Initializer::Xavier { fan_in: width * 2, fan_out: 10, seed: 9 },
    );
    let bias =
        b.variable("fc/b", DType::F32, &[10], Initializer::Uniform { low: (-1.0).into(), high: 1.0.into(), seed: 8 });
    let logits = b.matmul(flat, w);
    let logits = b.add(logits, bias);
    let p = b.softmax(logits, 1);
    b.output("p", p);
    b.finish().unwrap()
}

#[test]
fn a_residual_network_becomes_fused_convolutions_and_nothing_else() {
    let before = resnet(2, 8, 16);
    let got = optimize(&before, &Options::default()).unwrap();
    check_equal(&before, &got.graph);
}
