"""MiniLM-L6 sentence embeddings (Wang et al. 2020; a BERT encoder, mean pooling, unit length) as ONNX."""

import json
import math

import numpy as np
from onnx import TensorProto

from named_graph import NamedGraph

LAYERS, HEADS, HEAD, WIDTH = 6, 12, 32, 384
_DTYPES = {"F32": np.float32, "I64": np.int64}


def read_safetensors(data):
    """The tensors by name: a length, a JSON header, then raw little-endian data."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    body = memoryview(data)[8 + length:]
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            tensors[name] = np.frombuffer(body[begin:end], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def tokenize(vocabulary, sentences):
    """Ids and mask of sentences all of whose words are in the vocabulary (no word pieces), padded at the end."""
    index = {word: i for i, word in enumerate(vocabulary)}
    rows = []
    for sentence in sentences:
        words = ["[CLS]", *sentence.lower().split(), "[SEP]"]
        missing = [w for w in words if w not in index]
        if missing:
            raise ValueError(f"not in the vocabulary: {missing}; write the sentence with whole words only")
        rows.append([index[w] for w in words])
    longest = max(map(len, rows))
    ids = np.array([row + [index["[PAD]"]] * (longest - len(row)) for row in rows], np.int64)
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in rows], np.int64)
    return {"input_ids": ids, "attention_mask": mask}


def build(weights):
    """The model's bytes: `input_ids`, `attention_mask` i64 [N, T] to `embedding` f32 [N, 384]."""
    g = NamedGraph(weights)

    def norm(x, name):
        return g.op("LayerNormalization", [x, g.weight(name + ".weight"), g.weight(name + ".bias")], epsilon=1e-12, axis=-1)

    def linear(x, name):
        transposed = g.weight(name + ".weight.transposed", weights[name + ".weight"].T)
        return g.op("Add", [g.op("MatMul", [x, transposed]), g.weight(name + ".bias")])

    def heads(x):
        return g.op("Transpose", [g.op("Reshape", [x, g.integers(0, 0, HEADS, HEAD)])], perm=[0, 2, 1, 3])

    tokens = g.op("Gather", [g.op("Shape", ["input_ids"]), g.integers(1)])
    positions = g.op("Slice", [g.weight("embeddings.position_embeddings.weight"), g.integers(0), tokens, g.integers(0)])
    x = g.op("Gather", [g.weight("embeddings.word_embeddings.weight"), "input_ids"])
    x = g.op("Add", [x, positions])
    x = g.op("Add", [x, g.weight("token_type_0", weights["embeddings.token_type_embeddings.weight"][0])])
    x = norm(x, "embeddings.LayerNorm")
    mask = g.op("Cast", ["attention_mask"], to=TensorProto.FLOAT)
    hidden = g.op("Sub", [g.scalar(1.0), g.op("Unsqueeze", [mask, g.integers(1, 2)])])
    penalty = g.op("Mul", [hidden, g.scalar(-1e9)])
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}."
        q, k, v = (heads(linear(x, f"{prefix}attention.self.{part}")) for part in ("query", "key", "value"))
        scores = g.op("MatMul", [q, g.op("Transpose", [k], perm=[0, 1, 3, 2])])
        scores = g.op("Add", [g.op("Mul", [scores, g.scalar(HEAD ** -0.5)]), penalty])
        y = g.op("MatMul", [g.op("Softmax", [scores], axis=-1), v])
        y = g.op("Reshape", [g.op("Transpose", [y], perm=[0, 2, 1, 3]), g.integers(0, 0, WIDTH)])
        x = norm(g.op("Add", [linear(y, prefix + "attention.output.dense"), x]), prefix + "attention.output.LayerNorm")
        y = linear(x, prefix + "intermediate.dense")
        erf = g.op("Erf", [g.op("Div", [y, g.scalar(math.sqrt(2.0))])])
        y = g.op("Mul", [g.op("Mul", [y, g.scalar(0.5)]), g.op("Add", [erf, g.scalar(1.0)])])
        x = norm(g.op("Add", [linear(y, prefix + "output.dense"), x]), prefix + "output.LayerNorm")
    weight = g.op("Unsqueeze", [mask, g.integers(2)])
    total = g.op("ReduceSum", [g.op("Mul", [x, weight]), g.integers(1)], keepdims=0)
    mean = g.op("Div", [total, g.op("ReduceSum", [weight, g.integers(1)], keepdims=0)])
    g.op("Div", [mean, g.op("ReduceL2", [mean], axes=[1], keepdims=1)], result="embedding")
    return g.model("minilm_l6", [("input_ids", TensorProto.INT64, ["N", "T"]), ("attention_mask", TensorProto.INT64, ["N", "T"])],
                   [("embedding", TensorProto.FLOAT, ["N", WIDTH])], 17)
