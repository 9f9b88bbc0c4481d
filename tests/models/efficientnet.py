"""EfficientNet-Lite0 (Tan and Le 2019, the "lite" variant: ReLU6, no squeeze-and-excitation) as ONNX."""

from onnx import TensorProto

from named_graph import NamedGraph

# Depth, kernel, first stride, expansion, channels in, channels out of each stage (table 1 of the paper).
STAGES = ((1, 3, 1, 1, 32, 16), (2, 3, 2, 6, 16, 24), (2, 5, 2, 6, 24, 40), (3, 3, 2, 6, 40, 80),
          (3, 5, 1, 6, 80, 112), (4, 5, 2, 6, 112, 192), (1, 3, 1, 6, 192, 320))
EXTENT = 224
EPSILON = 1e-3


def build(weights):
    """The model's bytes: `image` f32 [N, 3, 224, 224] to `prob` f32 [N, 1000]."""
    g = NamedGraph(weights)

    def conv(x, name, stride, groups, extent):
        """"Same" padding as TensorFlow does it: the odd pixel goes to the end. Returns the value and its extent."""
        kernel = weights[name].shape[2]
        out = -(-extent // stride)
        total = max((out - 1) * stride + kernel - extent, 0)
        before, after = total // 2, total - total // 2
        y = g.op("Conv", [x, g.weight(name)], strides=[stride] * 2, pads=[before, before, after, after],
                 group=groups, kernel_shape=[kernel] * 2)
        return y, out

    def norm(x, name):
        parts = ("weight", "bias", "running_mean", "running_var")
        return g.op("BatchNormalization", [x, *(g.weight(f"{name}.{p}") for p in parts)], epsilon=EPSILON)

    def norm_relu6(x, name):
        return g.op("Clip", [norm(x, name), g.scalar(0.0), g.scalar(6.0)])

    x, extent = conv("image", "_conv_stem.weight", 2, 1, EXTENT)
    x = norm_relu6(x, "_bn0")
    block = 0
    for depth, _, first_stride, expansion, first_channels, out_channels in STAGES:
        for j in range(depth):
            prefix = f"_blocks.{block}."
            stride = first_stride if j == 0 else 1
            channels = first_channels if j == 0 else out_channels
            y = x
            if expansion != 1:
                y, _ = conv(y, prefix + "_expand_conv.weight", 1, 1, extent)
                y = norm_relu6(y, prefix + "_bn0")
            y, extent = conv(y, prefix + "_depthwise_conv.weight", stride, channels * expansion, extent)
            y = norm_relu6(y, prefix + "_bn1")
            y, _ = conv(y, prefix + "_project_conv.weight", 1, 1, extent)
            y = norm(y, prefix + "_bn2")
            x = g.op("Add", [y, x]) if stride == 1 and channels == out_channels else y
            block += 1
    x, _ = conv(x, "_conv_head.weight", 1, 1, extent)
    x = g.op("GlobalAveragePool", [norm_relu6(x, "_bn1")])
    x = g.op("Gemm", [g.op("Flatten", [x]), g.weight("_fc.weight"), g.weight("_fc.bias")], transB=1)
    g.op("Softmax", [x], result="prob", axis=1)
    return g.model("efficientnet_lite0", [("image", TensorProto.FLOAT, ["N", 3, EXTENT, EXTENT])],
                   [("prob", TensorProto.FLOAT, ["N", 1000])], 13)
