"""A builder of ONNX graphs over named weights, for models whose weights come from a file. Dims may be symbolic."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

# As in onnx_graph.py: old enough for every reader.
IR_VERSION = 8


class NamedGraph:
    """Collects nodes, and each weight once."""

    def __init__(self, weights):
        self.weights = weights
        self.nodes = []
        self.initializers = {}

    def weight(self, name, array=None):
        """The weight of that name, or `array` under that name."""
        if name not in self.initializers:
            value = np.ascontiguousarray(self.weights[name] if array is None else array)
            self.initializers[name] = numpy_helper.from_array(value, name)
        return name

    def scalar(self, value):
        """An f32 scalar."""
        return self.weight(f"f32_{value!r}", np.float32(value))

    def integers(self, *values):
        """An i64 vector."""
        return self.weight("i64_" + "_".join(map(str, values)), np.array(values, np.int64))

    def op(self, op_type, inputs, result=None, **attributes):
        """A node with one result, whose name is returned."""
        result = result or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [result], name=f"{op_type}_{len(self.nodes)}", **attributes))
        return result

    def model(self, name, inputs, outputs, opset):
        """The checked bytes of the model; `inputs` and `outputs` are (name, element type, dims)."""
        graph = helper.make_graph(self.nodes, name, [helper.make_tensor_value_info(*i) for i in inputs],
                                  [helper.make_tensor_value_info(*o) for o in outputs], list(self.initializers.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="kiln-tests")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True).SerializeToString(deterministic=True)
