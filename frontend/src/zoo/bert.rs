//! BERT: Devlin, Chang, Lee & Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2018.
//! Names are those of Hugging Face's `BertModel`.

use kiln_ir::{BuildErrors, DType, Dim, Graph, Initializer};

use crate::dsl::layers::{dense, embedding, layer_norm};
use crate::dsl::{Scope, Tensor};

/// Layer normalisation's ε.
const EPSILON: f64 = 1e-12;

/// The encoder's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bert {
    /// Token ids.
    pub vocabulary: usize,
    /// Longest text.
    pub positions: usize,
    /// Kinds of segments.
    pub types: usize,
    /// Elements of a token's vector.
    pub width: usize,
    /// Heads of an attention.
    pub heads: usize,
    /// Elements between the two products of a feed-forward part.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
}

/// What the encoder reads, each [N, length] of integers.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'g> {
    /// Ids in the vocabulary.
    pub ids: Tensor<'g>,
    /// The segment of each.
    pub types: Tensor<'g>,
    /// 1 where there is a token, 0 where the text has ended.
    pub mask: Tensor<'g>,
}

impl Bert {
    /// BERT-base, uncased: 109,482,240 parameters, of which 23,837,184 are of the embeddings, 85,054,464 of the twelve layers and
    /// 590,592 of the pooler (the paper says 110 million).
    pub fn base() -> Bert {
        Bert { vocabulary: 30_522, positions: 512, types: 2, width: 768, heads: 12, hidden: 3072, layers: 12 }
    }

    /// The encoder with its pooler: `input_ids`, `token_type_ids` and `attention_mask` [batch, length] of i64 to
    /// `last_hidden_state` [batch, length, width] and `pooler_output` [batch, width].
    pub fn graph(&self, batch: impl Into<Dim>, length: usize) -> Result<Graph, BuildErrors> {
        let scope = Scope::new("bert");
        let batch = batch.into();
        let input = |name| scope.placeholder::<i64>(name, [batch.clone(), length.into()]);
        let tokens = Tokens { ids: input("input_ids"), types: input("token_type_ids"), mask: input("attention_mask") };
        let x = self.encode(tokens);
        scope.output("last_hidden_state", x);
        scope.output("pooler_output", self.pool(x));
        scope.finish()
    }

    /// Tokens to a vector for each: [N, length, width]. The length is a number.
    pub fn encode<'g>(&self, tokens: Tokens<'g>) -> Tensor<'g> {
        let mut x = tokens.ids.within("embeddings", |_| self.embed(tokens));
        // nothing is added to the scores of tokens that are there, and what no number adds up to elsewhere
        let dims = tokens.mask.dims();
        let spread: Vec<Dim> =
            dims.iter().take(1).cloned().chain([1.into(), 1.into()]).chain(dims.last().cloned()).collect();
        let bias = (1.0 - tokens.mask.cast(DType::F32)).reshape(spread) * f64::from(f32::MIN);
        for i in 0..self.layers {
            x = x.within(&format!("encoder.layer.{i}"), |x| self.layer(x, bias));
        }
        x
    }

    /// What stands for the text as a whole: [N, length, width] to [N, width].
    pub fn pool<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let first = x.gather(x.scope().scalar(0i64), 1);
        dense("pooler.dense", first, self.width).tanh()
    }

    fn embed<'g>(&self, tokens: Tokens<'g>) -> Tensor<'g> {
        let length = tokens.ids.dims().get(1).and_then(Dim::fixed).unwrap_or(0);
        let words = embedding::<f32>("word_embeddings", tokens.ids, self.vocabulary, self.width);
        let init = Initializer::Normal { mean: 0.0.into(), std: 0.02.into(), seed: 0 };
        let scope = tokens.ids.scope();
        let positions = scope.variable::<f32>("position_embeddings.weight", &[self.positions, self.width], init);
        let types = embedding::<f32>("token_type_embeddings", tokens.types, self.types, self.width);
        layer_norm("LayerNorm", words + types + positions.slice(0, 0, length), EPSILON)
    }

    fn layer<'g>(&self, x: Tensor<'g>, bias: Tensor<'g>) -> Tensor<'g> {
        let y = x.within("attention.self", |x| self.attention(x, bias));
        let x = x.within("attention.output", |x| layer_norm("LayerNorm", dense("dense", y, self.width) + x, EPSILON));
        let y = dense("intermediate.dense", x, self.hidden).gelu();
        x.within("output", |x| layer_norm("LayerNorm", dense("dense", y, self.width) + x, EPSILON))
    }

    /// softmax(q · kᵀ / √depth + bias) · v, for each head.
    fn attention<'g>(&self, x: Tensor<'g>, bias: Tensor<'g>) -> Tensor<'g> {
        let depth = self.width / self.heads.max(1);
        let dims = x.dims();
        let heads: Vec<Dim> = dims.iter().take(2).cloned().chain([self.heads.into(), depth.into()]).collect();
        let part = |name, perm| dense(name, x, self.width).reshape(&heads).transpose(perm);
        let (q, k, v) = (part("query", &[0, 2, 1, 3]), part("key", &[0, 2, 3, 1]), part("value", &[0, 2, 1, 3]));
        let scores = q.matmul(k) / (depth as f64).sqrt() + bias;
        scores.softmax(-1).matmul(v).transpose(&[0, 2, 1, 3]).reshape(dims)
    }
}
