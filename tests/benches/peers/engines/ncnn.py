"""ncnn, through pnnx: Winograd, packed layouts, 32-bit floats, pool allocators as its own benchmark has them.

It knows no batches: a batch is its examples one after another.
"""

import os
from importlib import metadata

import ncnn
import numpy as np

from engines import Session as Base
from engines import convert, shaped

ELEMENTS = {"float32": "f32", "int64": "i64", "int32": "i32"}


def _converted(case):
    folder = case.path("ncnn")
    return folder, os.path.join(folder, "model.ncnn.param"), os.path.join(folder, "model.ncnn.bin")


def _examples(case):
    """The inputs of each example of the batch, by name, with that axis left."""
    inputs = case.read_inputs()
    if case.batch_axis is None:
        return [inputs]
    return [{k: x.take([i], case.batch_axis) for k, x in inputs.items()} for i in range(case.batch)]


def prepare(case):
    folder, param, _ = _converted(case)
    if os.path.exists(param):
        return
    os.makedirs(folder, exist_ok=True)
    # pnnx writes beside the model, under its name.
    link = os.path.join(folder, "model.onnx")
    if not os.path.lexists(link):
        os.symlink(case.single, link)
    shapes = []
    for name, x in _examples(case)[0].items():
        if str(x.dtype) not in ELEMENTS:
            raise RuntimeError(f"pnnx takes no input of type {x.dtype} (`{name}`)")
        shapes.append(f"[{','.join(map(str, x.shape))}]{ELEMENTS[str(x.dtype)]}")
    # The program itself: what pip puts into `bin` imports PyTorch first.
    program = metadata.distribution("pnnx").locate_file("pnnx/pnnx")
    convert(program, ["model.onnx", f"inputshape={','.join(shapes)}", "fp16=0"], param, folder)
    for left in os.listdir(folder):
        if left.endswith((".pnnx.bin", ".pnnx.onnx", ".pnnxsim.onnx")):
            os.remove(os.path.join(folder, left))


class Session(Base):
    def __init__(self, case, threads):
        _, param, weights = _converted(case)
        self._net = net = ncnn.Net()
        options = net.opt
        options.num_threads = threads
        options.use_vulkan_compute = False
        options.use_winograd_convolution = options.use_sgemm_convolution = options.use_packing_layout = True
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_storage = False
        options.lightmode = True
        self._pools = ncnn.UnlockedPoolAllocator(), ncnn.PoolAllocator()
        options.blob_allocator, options.workspace_allocator = self._pools
        if net.load_param(param) or net.load_model(weights):
            raise RuntimeError("ncnn does not load what pnnx made of the model (it lacks a layer)")
        names = list(net.input_names())
        if len(names) != len(case.inputs):
            raise RuntimeError(f"pnnx kept {len(names)} of {len(case.inputs)} inputs")
        self._examples = [list(zip(names, map(self._matrix, example.values(), [case.batch_axis] * len(example))))
                          for example in _examples(case)]
        self._output_names = list(net.output_names())
        self._case = case

    @staticmethod
    def _matrix(x, batch_axis):
        """ncnn's tensor of one example: no batch axis, 32-bit integers."""
        if x.dtype == np.int64:
            x = x.astype(np.int32)
        if batch_axis is not None:
            x = x.squeeze(batch_axis)
        return ncnn.Mat(np.ascontiguousarray(x)).clone()

    def version(self):
        return metadata.version("ncnn")

    def run(self):
        self._results = []
        for example in self._examples:
            extractor = self._net.create_extractor()
            for name, matrix in example:
                extractor.input(name, matrix)
            results = []
            for name in self._output_names:
                status, result = extractor.extract(name)
                if status:
                    raise RuntimeError(f"ncnn cannot compute `{name}` (status {status})")
                results.append(np.array(result))
            self._results.append(results)

    def outputs(self):
        case, outputs = self._case, {}
        for i, (name, shape) in enumerate(case.outputs.items()):
            values = [results[i] for results in self._results]
            if case.batch == 1:
                outputs[name] = shaped(name, values[0], shape)
            else:
                axis = case.batch_axis
                one = [1 if k == axis else extent for k, extent in enumerate(shape)]
                outputs[name] = np.concatenate([shaped(name, v, one) for v in values], axis)
        return outputs
