"""A small builder of ONNX graphs that tracks shapes, parameters and multiply-accumulates.

Values are names of ONNX tensors; `GraphBuilder.shape` knows the shape of each. Weights are random with
a seed that depends only on the model's name, scaled so that activations keep their variance (He et al.
2015) and the outputs of deep models stay finite and informative.
"""

import math
import os
import zlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
# The IR version that ONNX 1.11 introduced: old enough for every reader of opset 17.
IR_VERSION = 8


class GraphBuilder:
    """Collects nodes and initialisers of one model."""

    def __init__(self, name):
        self.name = name
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.nodes = []
        self.initializers = []
        self.shape = {}
        self.graph_input = None
        self.image_extents = (224, 224)
        self.macs = 0
        self.parameters = 0
        self._serial = 0

    # -- plumbing ---------------------------------------------------------------------------------

    def fresh(self, prefix):
        """A name nobody else in the graph has."""
        self._serial += 1
        return f"{prefix}_{self._serial}"

    def weight(self, array, prefix="w"):
        """An initialiser that counts as parameters of the model."""
        self.parameters += array.size
        return self.constant(array, prefix)

    def constant(self, array, prefix="c"):
        """An initialiser that is part of the architecture, not a parameter."""
        name = self.fresh(prefix)
        self.initializers.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def op(self, op_type, inputs, shape, **attributes):
        """A node with one result of the given shape."""
        result = self.fresh(op_type.lower())
        self.nodes.append(helper.make_node(op_type, inputs, [result], name=result + "_n", **attributes))
        self.shape[result] = tuple(shape)
        return result

    def input(self, shape, element=TensorProto.FLOAT, name="input"):
        """The model's only input."""
        self.shape[name] = tuple(shape)
        self.graph_input = (name, shape, element)
        return name

    def image(self):
        """The model's only input: a colour image."""
        return self.input((1, 3, *self.image_extents))

    def normal(self, shape, std):
        """Normally distributed values around 0."""
        return self.rng.standard_normal(shape, dtype=np.float32) * np.float32(std)

    def uniform(self, low, high, shape):
        """Uniformly distributed values."""
        return self.rng.uniform(low, high, shape).astype(np.float32)

    # -- layers -----------------------------------------------------------------------------------

    def conv(self, x, channels, kernel, stride=1, pad=0, groups=1, bias=True, gain=2.0):
        """A convolution; `gain` is 2 before a ReLU and 1 elsewhere."""
        _, c, h, w = self.shape[x]
        fan = c // groups * kernel * kernel
        inputs = [x, self.weight(self.normal((channels, c // groups, kernel, kernel), math.sqrt(gain / fan)))]
        if bias:
            inputs.append(self.weight(self.normal((channels,), 0.05), "b"))
        oh, ow = ((n + 2 * pad - kernel) // stride + 1 for n in (h, w))
        self.macs += channels * oh * ow * fan
        return self.op("Conv", inputs, (1, channels, oh, ow), kernel_shape=[kernel] * 2, strides=[stride] * 2,
                       pads=[pad] * 4, dilations=[1, 1], group=groups)

    def conv_transpose(self, x, channels, kernel, stride, pad=0):
        """A transposed convolution, with bias."""
        _, c, h, w = self.shape[x]
        inputs = [x, self.weight(self.normal((c, channels, kernel, kernel), math.sqrt(2.0 / c))),
                  self.weight(self.normal((channels,), 0.05), "b")]
        self.macs += c * h * w * channels * kernel * kernel
        oh, ow = ((n - 1) * stride - 2 * pad + kernel for n in (h, w))
        return self.op("ConvTranspose", inputs, (1, channels, oh, ow), kernel_shape=[kernel] * 2,
                       strides=[stride] * 2, pads=[pad] * 4, dilations=[1, 1], group=1)

    def batch_norm(self, x, epsilon=1e-5, scale=1.0):
        """Batch normalisation in inference form, left unfused."""
        c = self.shape[x][1]
        inputs = [x, self.weight(self.uniform(0.7, 1.3, c) * np.float32(scale), "gamma"),
                  self.weight(self.normal((c,), 0.1), "beta"), self.weight(self.normal((c,), 0.2), "mean"),
                  self.weight(self.uniform(0.6, 1.6, c), "var")]
        return self.op("BatchNormalization", inputs, self.shape[x], epsilon=epsilon)

    def relu(self, x):
        """max(x, 0)."""
        return self.op("Relu", [x], self.shape[x])

    def relu6(self, x):
        """min(max(x, 0), 6)."""
        bounds = [self.constant(np.float32(v).reshape(()), n) for v, n in ((0, "lo"), (6, "hi"))]
        return self.op("Clip", [x, *bounds], self.shape[x])

    def conv_bn(self, x, channels, kernel, stride=1, pad=0, groups=1, epsilon=1e-5, act="relu", scale=1.0):
        """Convolution without bias, batch normalisation, activation (`relu`, `relu6` or None)."""
        x = self.batch_norm(self.conv(x, channels, kernel, stride, pad, groups, bias=False), epsilon, scale)
        return {"relu": self.relu, "relu6": self.relu6, None: lambda y: y}[act](x)

    def pool(self, x, kernel, stride, pad=0, ceil=False, kind="MaxPool"):
        """A max or average pool; `ceil` lets the last window hang over, but it must start inside."""
        _, c, h, w = self.shape[x]

        def extent(n):
            windows = (n + 2 * pad - kernel + (stride - 1 if ceil else 0)) // stride + 1
            return windows - 1 if ceil and (windows - 1) * stride >= n + pad else windows

        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4, "ceil_mode": int(ceil)}
        if kind == "AveragePool":
            attributes["count_include_pad"] = 1
        return self.op(kind, [x], (1, c, extent(h), extent(w)), **attributes)

    def global_pool(self, x):
        """The mean over each channel."""
        return self.op("GlobalAveragePool", [x], self.shape[x][:2] + (1, 1))

    def flatten(self, x):
        """[1, …] to [1, n]."""
        return self.op("Flatten", [x], (1, int(np.prod(self.shape[x]))), axis=1)

    def dense(self, x, units, gain=2.0):
        """A fully connected layer on [1, n], with the weights transposed as most exporters write them."""
        n = self.shape[x][1]
        self.macs += n * units
        inputs = [x, self.weight(self.normal((units, n), math.sqrt(gain / n))),
                  self.weight(self.normal((units,), 0.05), "b")]
        return self.op("Gemm", inputs, (1, units), transB=1, alpha=1.0, beta=1.0)

    def classifier(self, x, classes=1000):
        """Global average pool and a dense layer."""
        return self.dense(self.flatten(self.global_pool(x)), classes, gain=1.0)

    def add(self, a, b):
        """Element by element."""
        return self.op("Add", [a, b], self.shape[a])

    def concat(self, values):
        """Along the channels."""
        s = self.shape[values[0]]
        return self.op("Concat", values, (s[0], sum(self.shape[v][1] for v in values)) + s[2:], axis=1)

    # -- the end ----------------------------------------------------------------------------------

    def save(self, result, path):
        """Checks the model, proves that its shapes are what the builder thinks, and writes it whole or not at all."""
        name, shape, element = self.graph_input
        out_shape = self.shape[result]
        self.nodes[-1].output[0] = "output"
        graph = helper.make_graph(
            self.nodes, self.name,
            [helper.make_tensor_value_info(name, element, shape)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, out_shape)],
            self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="kiln-tests")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        found = tuple(d.dim_value for d in inferred.graph.output[0].type.tensor_type.shape.dim)
        if found != out_shape:
            raise ValueError(f"{self.name}: the builder expects the output {out_shape}, ONNX infers {found}")
        temporary = f"{path}.tmp"
        onnx.save(model, temporary)
        os.replace(temporary, path)
