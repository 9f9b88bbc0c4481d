"""The least work that a model is: what its time cannot fall below on a machine whose peaks are known."""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import shape_inference

# Multiplications that Winograd's F(4x4, 3x3) saves (Lavin & Gray 2016).
WINOGRAD = 4


@dataclass
class Work:
    """Multiply-accumulates, those of 3x3 convolutions of stride 1 counted as Winograd's F(4x4, 3x3) needs them; and bytes of weights
    that are read once and multiplied with one row, where reading them takes longer."""

    macs: float
    bytes: float

    def limit_ms(self, peaks):
        """The time that arithmetic and reading take at these peaks; None where they are not known."""
        if not peaks.get("gflops") or not peaks.get("read_gb_s"):
            return None
        return 2e-6 * self.macs / max(peaks["gflops"].values()) + 1e-6 * self.bytes / min(peaks["read_gb_s"].values())


def of_model(path):
    """The work of an ONNX file whose shapes are fixed: of convolutions, matrix products and LSTM layers; the rest counts as nothing."""
    graph = shape_inference.infer_shapes(onnx.load(path)).graph
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.input, *graph.value_info, *graph.output)}
    weights = {w.name: list(w.dims) for w in graph.initializer}
    shapes |= weights
    macs = read = 0.0
    for node in graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        result = shapes[node.output[0]] if node.output[0] in shapes else []
        if node.op_type in ("Conv", "ConvTranspose"):
            kernel = weights[node.input[1]]
            moving = shapes[node.input[0]] if node.op_type == "ConvTranspose" else result
            products = float(np.prod(moving)) * np.prod(kernel[1:])
            plain = all(n == 1 for n in (attributes.get("group", 1), *attributes.get("strides", []), *attributes.get("dilations", [])))
            macs += products / WINOGRAD if node.op_type == "Conv" and plain and kernel[2:] == [3, 3] else products
        elif node.op_type in ("Gemm", "MatMul"):
            depth = shapes[node.input[0]][-2 if attributes.get("transA") else -1]
            rows = np.prod(result[:-1])
            if rows == 1 and node.input[1] in weights:
                read += 4.0 * np.prod(weights[node.input[1]])
            else:
                macs += float(np.prod(result)) * depth
        elif node.op_type == "LSTM":
            steps = shapes[node.input[0]][0] * shapes[node.input[0]][1]
            macs += float(steps) * sum(np.prod(weights[node.input[i]]) for i in (1, 2))
    return Work(float(macs), float(read))
