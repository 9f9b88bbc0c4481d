"""The least work of a model."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "models"))

try:
    import numpy as np

    import work
    from onnx_graph import GraphBuilder
except ModuleNotFoundError as missing:
    raise unittest.SkipTest(f"{missing}; compare.py makes an environment that has it") from None

PEAKS = {"gflops": {"256": 50.0, "512": 100.0}, "read_gb_s": {"16 KiB": 200.0, "memory": 10.0}}


def work_of(build):
    graph = GraphBuilder("model")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        graph.save(build(graph), path)
        return work.of_model(path), graph.macs


class LeastWork(unittest.TestCase):
    def test_only_3x3_convolutions_of_stride_1_and_one_group_count_less(self):
        for kernel, stride, groups, factor in ((3, 1, 1, 4), (3, 2, 1, 1), (3, 1, 2, 1), (1, 1, 1, 1), (5, 1, 1, 1)):
            found, macs = work_of(lambda g: g.conv(g.input((1, 8, 12, 10)), 16, kernel, stride, kernel // 2, groups))
            self.assertEqual(found, work.Work(macs / factor, 0.0), (kernel, stride, groups))

    def test_weights_for_one_row_are_read_and_others_multiplied(self):
        one, _ = work_of(lambda g: g.dense(g.input((1, 64)), 32))
        self.assertEqual(one, work.Work(0.0, 4.0 * 64 * 32))

        def five_rows(g):
            weights = g.constant(np.ones((64, 32), np.float32), "w")
            return g.op("MatMul", [g.input((5, 64)), weights], (5, 32))
        self.assertEqual(work_of(five_rows)[0], work.Work(5.0 * 64 * 32, 0.0))

    def test_the_limit_is_at_the_highest_arithmetic_and_the_lowest_bandwidth(self):
        self.assertAlmostEqual(work.Work(1e9, 1e7).limit_ms(PEAKS), 20.0 + 1.0)
        self.assertIsNone(work.Work(1e9, 0.0).limit_ms({"skipped": "no compiler"}))


if __name__ == "__main__":
    unittest.main()
