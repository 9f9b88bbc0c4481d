"""ESRGAN-slim x2 (Wang et al. 2018, reduced by UpscalerJS) from its TensorFlow.js layers model to ONNX."""

import json

import numpy as np
from onnx import TensorProto

from named_graph import NamedGraph


def read_layers_model(model_json, shard):
    """The layers in order and the weights by name."""
    model = json.loads(model_json)
    weights, offset = {}, 0
    for entry in (w for group in model["weightsManifest"] for w in group["weights"]):
        if entry["dtype"] != "float32" or "quantization" in entry:
            raise ValueError(f"weight {entry['name']}: expected plain float32, found {entry['dtype']}")
        count = int(np.prod(entry["shape"]))
        weights[entry["name"]] = np.frombuffer(shard, "<f4", count, offset).reshape(entry["shape"])
        offset += 4 * count
    if offset != len(shard):
        raise ValueError(f"the weights take {offset} bytes, the shard holds {len(shard)}")
    return model["modelTopology"]["model_config"]["config"]["layers"], weights


def build(layers, weights):
    """The model's bytes: `input` f32 [N, H, W, 3], 0 to 255, to `output` f32 [N, 2H, 2W, 3]."""
    g = NamedGraph(weights)
    value = {}
    for layer in layers:
        kind, config = layer["class_name"], layer["config"]
        name = config["name"]
        inputs = [value[source[0]] for source in layer["inbound_nodes"][0]] if layer["inbound_nodes"] else []
        value[name] = _LAYERS[kind](g, name, config, inputs)
    g.op("Transpose", [value[layers[-1]["config"]["name"]]], result="output", perm=[0, 2, 3, 1])
    return g.model("esrgan_slim_x2", [("input", TensorProto.FLOAT, ["N", "H", "W", 3])],
                   [("output", TensorProto.FLOAT, ["N", "H2", "W2", 3])], 13)


def _input(g, name, config, inputs):
    return g.op("Transpose", ["input"], perm=[0, 3, 1, 2])


def _conv(g, name, config, inputs):
    _expect(name, config, data_format="channels_last", strides=[1, 1], dilation_rate=[1, 1], activation="linear")
    kh, kw = config["kernel_size"]
    # At stride 1 and odd kernels "same" pads alike on both sides.
    pads = [kh // 2, kw // 2] * 2 if config["padding"] == "same" else [0] * 4
    kernel = g.weight(f"{name}/kernel/oihw", g.weights[f"{name}/kernel"].transpose(3, 2, 0, 1))
    return g.op("Conv", [*inputs, kernel, g.weight(f"{name}/bias")], kernel_shape=[kh, kw], pads=pads)


def _activation(g, name, config, inputs):
    _expect(name, config, activation="relu")
    return g.op("Relu", inputs)


def _concat(g, name, config, inputs):
    _expect(name, config, axis=3)
    return g.op("Concat", inputs, axis=1)


def _add(g, name, config, inputs):
    return g.op("Add", inputs)


def _upsample(g, name, config, inputs):
    _expect(name, config, data_format="channels_last", size=[2, 2], interpolation="nearest")
    scales = g.weight("upsample_scales", np.array([1, 1, 2, 2], np.float32))
    return g.op("Resize", [*inputs, "", scales], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")


_LAYERS = {"InputLayer": _input, "Conv2D": _conv, "Activation": _activation, "Concatenate": _concat, "Add": _add,
           "UpSampling2D": _upsample}


def _expect(name, config, **wanted):
    for key, value in wanted.items():
        if config[key] != value:
            raise ValueError(f"layer {name}: expected {key} = {value!r}, found {config[key]!r}")
