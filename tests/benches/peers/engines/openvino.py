"""OpenVINO: the latency hint, one stream, 32-bit floats (its default is bfloat16 where the CPU has it)."""

import openvino

from engines import Session as Base


def prepare(case):
    """It reads ONNX."""


class Session(Base):
    def __init__(self, case, threads):
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(case.model), "CPU", {
            "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(threads), "NUM_STREAMS": "1",
            "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": "YES"})
        self._request = compiled.create_infer_request()
        self._inputs = case.read_inputs()
        for name, value in self._inputs.items():
            self._request.set_tensor(name, openvino.Tensor(value, shared_memory=True))
        self._names = list(case.outputs)

    def version(self):
        return openvino.__version__.split("-")[0]

    def run(self):
        self._request.infer()

    def outputs(self):
        return {name: self._request.get_output_tensor(i).data for i, name in enumerate(self._names)}
