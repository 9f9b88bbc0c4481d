"""The architectures of the benchmark models: batch 1, random weights, batch normalisation left unfused.

They follow the published papers in the variants that are in common use (ResNet v1.5: the stride sits on the
3x3; GoogLeNet with batch normalisation, a 3x3 instead of the 5x5, and no auxiliary heads). `LAYERS` holds
single convolutions (`layer_*`: convolution, bias, ReLU) and five of them in a row (`chain5_*`, each with its own
weights): (chain5 - layer) / 4 is the cost of one convolution without converting layouts at the ends.
"""

import math

import numpy as np
from onnx import TensorProto



def lenet5(g):
    """LeCun et al. 1998, with ReLU and max pooling."""
    x = g.input((1, 1, 28, 28))
    x = g.pool(g.relu(g.conv(x, 6, 5, 1, 2)), 2, 2)
    x = g.pool(g.relu(g.conv(x, 16, 5)), 2, 2)
    x = g.relu(g.dense(g.flatten(x), 120))
    return g.dense(g.relu(g.dense(x, 84)), 10)


def alexnet(g):
    """Krizhevsky 2014 (one tower)."""
    x = g.image()
    x = g.pool(g.relu(g.conv(x, 64, 11, 4, 2)), 3, 2)
    x = g.pool(g.relu(g.conv(x, 192, 5, 1, 2)), 3, 2)
    for channels in (384, 256, 256):
        x = g.relu(g.conv(x, channels, 3, 1, 1))
    x = g.flatten(g.pool(x, 3, 2))
    return g.dense(g.relu(g.dense(g.relu(g.dense(x, 4096)), 4096)), 1000)


def vgg(depths):
    """Simonyan and Zisserman 2014."""
    def build(g):
        x = g.image()
        for depth, channels in zip(depths, (64, 128, 256, 512, 512)):
            for _ in range(depth):
                x = g.relu(g.conv(x, channels, 3, 1, 1))
            x = g.pool(x, 2, 2)
        x = g.flatten(x)
        return g.dense(g.relu(g.dense(g.relu(g.dense(x, 4096)), 4096)), 1000)
    return build


def googlenet(g):
    """Szegedy et al. 2014."""
    eps = 1e-3

    def inception(x, a, b0, b, c0, c, d):
        return g.concat([
            g.conv_bn(x, a, 1, epsilon=eps),
            g.conv_bn(g.conv_bn(x, b0, 1, epsilon=eps), b, 3, 1, 1, epsilon=eps),
            g.conv_bn(g.conv_bn(x, c0, 1, epsilon=eps), c, 3, 1, 1, epsilon=eps),
            g.conv_bn(g.pool(x, 3, 1, 1, True), d, 1, epsilon=eps)])

    x = g.conv_bn(g.image(), 64, 7, 2, 3, epsilon=eps)
    x = g.pool(x, 3, 2, 0, True)
    x = g.conv_bn(g.conv_bn(x, 64, 1, epsilon=eps), 192, 3, 1, 1, epsilon=eps)
    x = g.pool(x, 3, 2, 0, True)
    x = inception(inception(x, 64, 96, 128, 16, 32, 32), 128, 128, 192, 32, 96, 64)
    x = g.pool(x, 3, 2, 0, True)
    for widths in ((192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
                   (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128)):
        x = inception(x, *widths)
    x = g.pool(x, 2, 2, 0, True)
    x = inception(inception(x, 256, 160, 320, 32, 128, 128), 384, 192, 384, 48, 128, 128)
    return g.classifier(x)


def resnet(depths, bottleneck=True, groups=1, width_per_group=64, first=64):
    """He et al. 2015; with groups, Xie et al. 2016; with wider groups, Zagoruyko and Komodakis 2016.

    `first` is the number of channels of the stem. The last normalisation of a branch is scaled by 0.4, so that sums of 16 branches stay small.
    """
    def build(g):
        x = g.pool(g.conv_bn(g.image(), first, 7, 2, 3), 3, 2, 1)
        for i, depth in enumerate(depths):
            planes = first << i
            for j in range(depth):
                stride = 2 if i and j == 0 else 1
                if bottleneck:
                    width, out = planes * width_per_group // 64 * groups, planes * 4
                    y = g.conv_bn(g.conv_bn(x, width, 1), width, 3, stride, 1, groups)
                    y = g.conv_bn(y, out, 1, act=None, scale=0.4)
                else:
                    out = planes
                    y = g.conv_bn(x, planes, 3, stride, 1)
                    y = g.conv_bn(y, planes, 3, 1, 1, act=None, scale=0.4)
                if stride != 1 or g.shape[x][1] != out:
                    x = g.conv_bn(x, out, 1, stride, act=None)
                x = g.relu(g.add(y, x))
        return g.classifier(x)
    return build


def densenet121(g):
    """Huang et al. 2016: normalisation and ReLU before each convolution."""
    x = g.pool(g.conv_bn(g.image(), 64, 7, 2, 3), 3, 2, 1)
    for i, depth in enumerate((6, 12, 24, 16)):
        features = [x]
        for _ in range(depth):
            y = g.concat(features) if len(features) > 1 else features[0]
            y = g.conv_bn(g.relu(g.batch_norm(y)), 128, 1)
            features.append(g.conv(y, 32, 3, 1, 1, bias=False))
        x = g.relu(g.batch_norm(g.concat(features)))
        if i < 3:
            x = g.pool(g.conv(x, g.shape[x][1] // 2, 1, bias=False), 2, 2, kind="AveragePool")
    return g.classifier(x)


def squeezenet1_1(g):
    """Iandola et al. 2016, version 1.1."""
    def fire(x, squeeze, expand):
        x = g.relu(g.conv(x, squeeze, 1))
        return g.concat([g.relu(g.conv(x, expand, 1)), g.relu(g.conv(x, expand, 3, 1, 1))])

    x = g.pool(g.relu(g.conv(g.image(), 64, 3, 2)), 3, 2, 0, True)
    x = g.pool(fire(fire(x, 16, 64), 16, 64), 3, 2, 0, True)
    x = g.pool(fire(fire(x, 32, 128), 32, 128), 3, 2, 0, True)
    x = fire(fire(fire(fire(x, 48, 192), 48, 192), 64, 256), 64, 256)
    return g.flatten(g.global_pool(g.relu(g.conv(x, 1000, 1))))


def mobilenet_v2(g):
    """Sandler et al. 2018."""
    x = g.conv_bn(g.image(), 32, 3, 2, 1, act="relu6")
    for expansion, channels, depth, first_stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
                                                     (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):
        for i in range(depth):
            stride, c = (first_stride if i == 0 else 1), g.shape[x][1]
            y = g.conv_bn(x, c * expansion, 1, act="relu6") if expansion != 1 else x
            y = g.conv_bn(y, c * expansion, 3, stride, 1, c * expansion, act="relu6")
            y = g.conv_bn(y, channels, 1, act=None)
            x = g.add(x, y) if stride == 1 and c == channels else y
    return g.classifier(g.conv_bn(x, 1280, 1, act="relu6"))


def lstm_charlm(g, steps=64, vocabulary=128, embedding=128, hidden=512):
    """A character language model: two LSTM layers (Hochreiter and Schmidhuber 1997) over 64 characters."""
    x = g.input((steps, 1), TensorProto.INT64)
    x = g.op("Gather", [g.weight(g.normal((vocabulary, embedding), 1.0)), x], (steps, 1, embedding), axis=0)
    width, bound = embedding, 1 / math.sqrt(hidden)
    for _ in range(2):
        weights = [g.weight(g.uniform(-bound, bound, (1, *s)))
                   for s in ((4 * hidden, width), (4 * hidden, hidden), (8 * hidden,))]
        g.macs += steps * 4 * hidden * (width + hidden)
        x = g.op("LSTM", [x, *weights], (steps, 1, 1, hidden), hidden_size=hidden)
        x = g.op("Squeeze", [x, g.constant(np.array([1], np.int64), "axes")], (steps, 1, hidden))
        width = hidden
    g.macs += steps * hidden * vocabulary
    x = g.op("MatMul", [x, g.weight(g.normal((hidden, vocabulary), math.sqrt(1 / hidden)))], (steps, 1, vocabulary))
    return g.op("Add", [x, g.weight(g.normal((vocabulary,), 0.05))], (steps, 1, vocabulary))


def unet_small(g, base=32):
    """Ronneberger et al. 2015, three levels, padded so that extents match, 21 classes."""
    def double(x, channels):
        return g.conv_bn(g.conv_bn(x, channels, 3, 1, 1), channels, 3, 1, 1)

    x = g.image()
    skips = []
    for i in range(4):
        x = double(x, base << i)
        if i < 3:
            skips.append(x)
            x = g.pool(x, 2, 2)
    for i in (2, 1, 0):
        x = double(g.concat([skips[i], g.conv_transpose(x, base << i, 2, 2)]), base << i)
    return g.conv(x, 21, 1, gain=1.0)


def bert_base(g, layers=12, tokens=128, width=768, heads=12, inner=3072, vocabulary=30522):
    """Devlin et al. 2018: the encoder of BERT-base over 128 tokens, exact GELU, no mask."""
    whole, head = (1, tokens, width), width // heads

    def layer_norm(x):
        inputs = [x, g.weight(g.uniform(0.8, 1.2, width)), g.weight(g.normal((width,), 0.05))]
        return g.op("LayerNormalization", inputs, whole, axis=-1, epsilon=1e-12)

    def linear(x, out, gain=1.0):
        n = g.shape[x][-1]
        g.macs += tokens * n * out
        y = g.op("MatMul", [x, g.weight(g.normal((n, out), math.sqrt(gain / n)))], (1, tokens, out))
        return g.op("Add", [y, g.weight(g.normal((out,), 0.02))], (1, tokens, out))

    def scalar(value):
        return g.constant(np.array(value, np.float32))

    ids = g.input((1, tokens), TensorProto.INT64)
    x = g.op("Gather", [g.weight(g.normal((vocabulary, width), 1.0)), ids], whole, axis=0)
    x = layer_norm(g.op("Add", [x, g.weight(g.normal(whole, 0.5))], whole))
    split = g.constant(np.array([1, tokens, heads, head], np.int64), "shape")
    merge = g.constant(np.array(whole, np.int64), "shape")
    scores = (1, heads, tokens, tokens)
    for _ in range(layers):
        q, k, v = (g.op("Reshape", [linear(x, width), split], (1, tokens, heads, head)) for _ in range(3))
        q = g.op("Transpose", [q], (1, heads, tokens, head), perm=[0, 2, 1, 3])
        k = g.op("Transpose", [k], (1, heads, head, tokens), perm=[0, 2, 3, 1])
        v = g.op("Transpose", [v], (1, heads, tokens, head), perm=[0, 2, 1, 3])
        a = g.op("Div", [g.op("MatMul", [q, k], scores), scalar(math.sqrt(head))], scores)
        a = g.op("MatMul", [g.op("Softmax", [a], scores, axis=-1), v], (1, heads, tokens, head))
        g.macs += 2 * tokens * tokens * width
        a = g.op("Transpose", [a], (1, tokens, heads, head), perm=[0, 2, 1, 3])
        x = layer_norm(g.op("Add", [linear(g.op("Reshape", [a, merge], whole), width), x], whole))
        y = linear(x, inner, 2.0)
        deep = (1, tokens, inner)
        e = g.op("Erf", [g.op("Div", [y, scalar(math.sqrt(2))], deep)], deep)
        e = g.op("Mul", [y, g.op("Add", [e, scalar(1.0)], deep)], deep)
        y = linear(g.op("Mul", [e, scalar(0.5)], deep), width)
        x = layer_norm(g.op("Add", [y, x], whole))
    return x


def convolutions(channels, extent, outs, kernel, stride=1, pad=0, groups=1, repeats=1):
    """Convolutions with bias and ReLU in a row."""
    def build(g):
        x = g.input((1, channels, extent, extent))
        for _ in range(repeats):
            for out in outs:
                x = g.relu(g.conv(x, out, kernel, stride, pad, groups))
        return x
    return build


def sized(build, rows, columns):
    """A model for images of other extents than 224×224."""
    def resized(g):
        g.image_extents = (rows, columns)
        return build(g)
    return resized


MODELS = {
    "lenet5": lenet5,
    "alexnet": alexnet,
    "vgg16": vgg((2, 2, 3, 3, 3)),
    "vgg19": vgg((2, 2, 4, 4, 4)),
    "googlenet": googlenet,
    "resnet18": resnet((2, 2, 2, 2), bottleneck=False),
    "resnet50": resnet((3, 4, 6, 3)),
    "resnext50_32x4d": resnet((3, 4, 6, 3), groups=32, width_per_group=4),
    "wide_resnet50_2": resnet((3, 4, 6, 3), width_per_group=128),
    "densenet121": densenet121,
    "squeezenet1_1": squeezenet1_1,
    "mobilenet_v2": mobilenet_v2,
    "lstm_charlm": lstm_charlm,
    "unet_small": unet_small,
    "bert_base": bert_base,
}

# Sizes that nobody tunes for: two models and their extents were drawn at random, the third has channels that are no power of two.
ODD = {
    "alexnet_195x207": sized(alexnet, 195, 207),
    "squeezenet1_1_267x167": sized(squeezenet1_1, 267, 167),
    "resnet18_96_193x257": sized(resnet((2, 2, 2, 2), bottleneck=False, first=96), 193, 257),
}

LAYERS = {
    "layer_rn_1x1_256_64_56": convolutions(256, 56, [64], 1),
    "layer_rn_1x1_64_256_56": convolutions(64, 56, [256], 1),
    "layer_rn_1x1_pair_56": convolutions(256, 56, [64, 256], 1),
    "chain5_rn_1x1_pair_56": convolutions(256, 56, [64, 256], 1, repeats=5),
    "layer_rn_7x7s2_stem": convolutions(3, 224, [64], 7, 2, 3),
    "layer_dw3x3_144_56": convolutions(144, 56, [144], 3, 1, 1, groups=144),
    "chain5_dw3x3_144_56": convolutions(144, 56, [144], 3, 1, 1, groups=144, repeats=5),
}
for _name, _channels, _extent in (
        ("vgg_conv1_2", 64, 224), ("vgg_conv2_2", 128, 112), ("vgg_conv3_2", 256, 56), ("vgg_conv4_2", 512, 28),
        ("vgg_conv5_2", 512, 14), ("rn_3x3_64_56", 64, 56), ("rn_3x3_128_28", 128, 28), ("rn_3x3_256_14", 256, 14),
        ("rn_3x3_512_7", 512, 7)):
    LAYERS["layer_" + _name] = convolutions(_channels, _extent, [_channels], 3, 1, 1)
    LAYERS["chain5_" + _name] = convolutions(_channels, _extent, [_channels], 3, 1, 1, repeats=5)
