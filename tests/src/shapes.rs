//! Networks of any number of ops, of the three shapes that optimisers meet: residual, Inception, attention.
//!
//! Sizes are small and weights few, because the optimiser looks at ops, not at elements; every weight is another one.

use kiln_ir::attribute::Padding;
use kiln_ir::{Builder, ConvOptions, DType, Graph, Tensor, Value, WindowOptions};

/// What a network is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Bottleneck blocks: convolutions, batch normalisation, relu, a sum with the block's input (He et al. 2015).
    Residual,
    /// Modules of four branches, joined (Szegedy et al. 2014), with batch normalisation.
    Inception,
    /// Encoder layers (Vaswani et al. 2017), with layer normalisation and GELU spelled out as exporters do.
    Attention,
}

impl Shape {
    /// All of them.
    pub const ALL: [Shape; 3] = [Shape::Residual, Shape::Inception, Shape::Attention];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Residual => "residual",
            Shape::Inception => "inception",
            Shape::Attention => "attention",
        }
    }

    /// A network of at least `ops` ops that are not constants, and at most one block more.
    pub fn graph(self, ops: usize) -> Graph {
        let mut net = Net { b: Builder::new(self.name()), seed: 0 };
        let x = match self {
            Shape::Attention => net.b.placeholder("x", DType::F32, &[1.into(), TOKENS.into(), WIDTH.into()]),
            _ => net.b.placeholder("x", DType::F32, &[1.into(), CHANNELS.into(), 14.into(), 14.into()]),
        };
        let (mut y, mut counted) = (x, 0);
        // Counting from the start in each block would take a time that grows with the square of the ops.
        while counted < ops {
            let before = net.b.graph().len();
            y = match self {
                Shape::Residual => net.bottleneck(y),
                Shape::Inception => net.inception(y),
                Shape::Attention => net.encoder_layer(y),
            };
            counted += (before..net.b.graph().len()).filter(|&at| is_op(net.b.graph(), at)).count();
        }
        net.b.output("y", y);
        net.b.finish().unwrap_or_else(|e| panic!("{e}"))
    }
}

const CHANNELS: usize = 16;
const TOKENS: usize = 8;
const WIDTH: usize = 16;
const HEADS: usize = 4;

fn is_op(graph: &Graph, at: usize) -> bool {
    !matches!(graph.node(kiln_ir::NodeId(at as u32)).op, kiln_ir::Op::Constant { .. })
}

/// The nodes of a graph that are not constants.
pub fn ops(graph: &Graph) -> usize {
    (0..graph.len()).filter(|&at| is_op(graph, at)).count()
}

struct Net {
    b: Builder,
    seed: u64,
}

impl Net {
    fn random(&mut self, dims: &[usize], low: f64, high: f64) -> Value {
        self.seed += 1;
        let uniform = kiln_ir::random::uniform(self.seed, dims.iter().product());
        let values: Vec<f32> = uniform.map(|u| (low + (high - low) * u) as f32).collect();
        self.b.constant(Tensor::from_slice(dims, &values).unwrap_or_else(|e| panic!("{e}")))
    }

    /// A convolution that keeps the image's extents, normalised.
    fn conv(&mut self, x: Value, [inputs, outputs, window]: [usize; 3], relu: bool) -> Value {
        let w = self.random(&[outputs, inputs, window, window], -0.1, 0.1);
        let options = ConvOptions { padding: vec![Padding::same(window as i64 / 2); 2], ..ConvOptions::default() };
        let y = self.b.conv(x, w, &options);
        let statistics =
            [(0.5, 1.5), (-0.5, 0.5), (-0.5, 0.5), (0.5, 1.5)].map(|(low, high)| self.random(&[outputs], low, high));
        let y = self.b.batch_norm(y, statistics, 1, 1e-5);
        if relu { self.b.relu(y) } else { y }
    }

    fn bottleneck(&mut self, x: Value) -> Value {
        const NARROW: usize = CHANNELS / 2;
        let y = self.conv(x, [CHANNELS, NARROW, 1], true);
        let y = self.conv(y, [NARROW, NARROW, 3], true);
        let y = self.conv(y, [NARROW, CHANNELS, 1], false);
        let y = self.b.add(y, x);
        self.b.relu(y)
    }

    fn inception(&mut self, x: Value) -> Value {
        const PART: usize = CHANNELS / 4;
        let one = self.conv(x, [CHANNELS, PART, 1], true);
        let three = self.conv(x, [CHANNELS, PART, 1], true);
        let three = self.conv(three, [PART, PART, 3], true);
        let five = self.conv(x, [CHANNELS, PART, 1], true);
        let five = self.conv(five, [PART, PART, 5], true);
        let window = WindowOptions {
            window: vec![1, 1, 3, 3],
            padding: vec![Padding::NONE, Padding::NONE, Padding::same(1), Padding::same(1)],
            ..WindowOptions::default()
        };
        let pooled = self.b.max_pool(x, &window);
        let pooled = self.conv(pooled, [CHANNELS, PART, 1], true);
        self.b.concat(&[one, three, five, pooled], 1)
    }

    fn linear(&mut self, x: Value, inputs: usize, outputs: usize) -> Value {
        let (w, bias) = (self.random(&[inputs, outputs], -0.2, 0.2), self.random(&[outputs], -0.1, 0.1));
        let y = self.b.matmul(x, w);
        self.b.add(y, bias)
    }

    fn layer_norm(&mut self, x: Value) -> Value {
        let (scale, bias) = (self.random(&[WIDTH], 0.5, 1.5), self.random(&[WIDTH], -0.1, 0.1));
        self.b.layer_norm(x, scale, bias, 2, 1e-5)
    }

    fn encoder_layer(&mut self, x: Value) -> Value {
        const DEPTH: usize = WIDTH / HEADS;
        let [q, k, v] = [(); 3].map(|()| {
            let y = self.linear(x, WIDTH, WIDTH);
            let y = self.b.reshape(y, &[1.into(), TOKENS.into(), HEADS.into(), DEPTH.into()]);
            self.b.transpose(y, &[0, 2, 1, 3])
        });
        let k = self.b.transpose(k, &[0, 1, 3, 2]);
        let scores = self.b.matmul(q, k);
        let root = self.b.scalar_like(scores, (DEPTH as f64).sqrt());
        let scores = self.b.div(scores, root);
        let weights = self.b.softmax(scores, 3);
        let y = self.b.matmul(weights, v);
        let y = self.b.transpose(y, &[0, 2, 1, 3]);
        let y = self.b.reshape(y, &[1.into(), TOKENS.into(), WIDTH.into()]);
        let y = self.linear(y, WIDTH, WIDTH);
        let y = self.b.add(y, x);
        let x = self.layer_norm(y);
        let y = self.linear(x, WIDTH, 4 * WIDTH);
        let y = self.gelu(y);
        let y = self.linear(y, 4 * WIDTH, WIDTH);
        let y = self.b.add(y, x);
        self.layer_norm(y)
    }

    /// x/2 · (1 + erf(x/√2)), op by op.
    fn gelu(&mut self, x: Value) -> Value {
        let root = self.b.scalar_like(x, std::f64::consts::SQRT_2);
        let y = self.b.div(x, root);
        let y = self.b.erf(y);
        let one = self.b.scalar_like(y, 1.0);
        let y = self.b.add(y, one);
        let y = self.b.mul(x, y);
        let half = self.b.scalar_like(y, 0.5);
        self.b.mul(y, half)
    }
}
