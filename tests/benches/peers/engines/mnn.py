"""MNN: high precision (its default may compute in 16 bits), inputs and outputs copied as its interface demands."""

import os
import sys
from pathlib import Path

import MNN
import numpy as np

from engines import Session as Base
from engines import convert, shaped

# From NumPy's types to MNN's; it has no 64-bit integers.
ELEMENTS = {"float32": (np.float32, MNN.Halide_Type_Float), "int64": (np.int32, MNN.Halide_Type_Int),
            "int32": (np.int32, MNN.Halide_Type_Int)}


def prepare(case):
    made = case.path("model.mnn")
    if os.path.exists(made):
        return
    program = Path(sys.executable).with_name("mnnconvert")
    options = ["-f", "ONNX", "--modelFile", case.model, "--MNNModel", made, "--bizCode", "kiln"]
    try:
        convert(program, options, made, case.folder)
    except RuntimeError:
        # Recurrent layers become loops, which abort on some models; as layers of their own they do not.
        convert(program, [*options, "--useOriginRNNImpl"], made, case.folder)


class Session(Base):
    def __init__(self, case, threads):
        self._interpreter = MNN.Interpreter(case.path("model.mnn"))
        self._session = self._interpreter.createSession(
            {"backend": "CPU", "numThread": threads, "precision": "high", "memory": "normal"})
        self._inputs = []
        for name, x in case.read_inputs().items():
            if str(x.dtype) not in ELEMENTS:
                raise RuntimeError(f"MNN takes no input of type {x.dtype} (`{name}`)")
            dtype, element = ELEMENTS[str(x.dtype)]
            source = MNN.Tensor(x.shape, element, np.ascontiguousarray(x, dtype), MNN.Tensor_DimensionType_Caffe)
            self._inputs.append((self._interpreter.getSessionInput(self._session, name), source))
        self._outputs = []
        for name in case.outputs:
            inside = self._interpreter.getSessionOutput(self._session, name)
            shape = inside.getShape()
            outside = MNN.Tensor(shape, MNN.Halide_Type_Float, np.zeros(shape, np.float32), MNN.Tensor_DimensionType_Caffe)
            self._outputs.append((inside, outside))
        self._case = case

    def version(self):
        return MNN.version()

    def run(self):
        for inside, source in self._inputs:
            inside.copyFrom(source)
        self._interpreter.runSession(self._session)
        for inside, outside in self._outputs:
            inside.copyToHostTensor(outside)

    def outputs(self):
        return {name: shaped(name, np.array(outside.getNumpyData()), shape)
                for (name, shape), (_, outside) in zip(self._case.outputs.items(), self._outputs)}
