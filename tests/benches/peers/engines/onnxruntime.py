"""ONNX Runtime: its own optimisations, convolutions in blocked layouts (MLAS)."""

import onnxruntime

from engines import Session as Base


def prepare(case):
    """It reads ONNX."""


class Session(Base):
    def __init__(self, case, threads):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        self._session = onnxruntime.InferenceSession(case.model, options, providers=["CPUExecutionProvider"])
        self._names = list(case.outputs)
        self._inputs = case.read_inputs()

    def version(self):
        return onnxruntime.__version__

    def run(self):
        self._outputs = self._session.run(self._names, self._inputs)

    def outputs(self):
        return dict(zip(self._names, self._outputs))
