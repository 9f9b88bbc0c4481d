"""Batches, and engines in processes. `target/peers/venv/bin/python -m unittest discover tests/benches/peers` runs these, once
compare.py has made that environment; other interpreters skip them."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "models"))

try:
    import numpy as np

    import cases
    from bench_models import MODELS
    from engine_process import EngineFailed, EngineProcess
    from generate import generate
except ModuleNotFoundError as missing:
    raise unittest.SkipTest(f"{missing}; compare.py makes an environment that has it") from None


def row(folder, name):
    """The manifest's row of a benchmark model, generated in the folder."""
    made = generate(name, MODELS[name], Path(folder))
    return made | {k: str(Path(folder) / made[k]) for k in ("file", "npz")}


class Batches(unittest.TestCase):
    def test_each_example_of_a_batch_gives_what_it_gives_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            case = cases.make(row(folder, "lenet5"), 3, Path(folder) / "work")
            self.assertEqual((case.inputs, case.outputs), ({"input": [3, 1, 28, 28]}, {"output": [3, 10]}))
            batch, together = case.read_inputs()["input"], case.read_reference()["output"]
            self.assertFalse(np.array_equal(batch[0], batch[1]))
            for i in range(3):
                alone = cases.run_unoptimised(case.single, {"input": batch[i:i + 1]})["output"]
                self.assertLess(cases.relative_error(together[i:i + 1], alone), 1e-6)

    def test_a_model_whose_first_example_changes_with_the_batch_is_refused(self):
        with self.assertRaisesRegex(ValueError, "cannot be given batch 2: output `y`"):
            cases.check_example("y", np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 2.1]]), 2)

    def test_a_model_without_an_axis_of_one_is_refused_by_its_shapes(self):
        with tempfile.TemporaryDirectory() as folder:
            lenet = row(folder, "lenet5")
            np.savez(lenet["npz"], in_input=np.zeros((2, 3, 28, 28), np.float32), out_0=np.zeros((2, 10), np.float32))
            with self.assertRaisesRegex(ValueError, r"no batch of 1 to make 4 of.*\[2, 3, 28, 28\]"):
                cases.make(lenet, 4, Path(folder) / "work")

    def test_a_missing_output_is_an_infinite_error(self):
        self.assertEqual(cases.largest_error({}, {"y": np.zeros(1)}), float("inf"))

    def test_a_changed_model_makes_the_case_anew(self):
        with tempfile.TemporaryDirectory() as folder:
            lenet, work = row(folder, "lenet5"), Path(folder) / "work"
            left = Path(cases.make(lenet, 1, work).path("left.mnn"))
            left.touch()
            cases.make(lenet, 1, work)
            self.assertTrue(left.exists())
            Path(lenet["file"]).touch()
            cases.make(lenet, 1, work)
            self.assertFalse(left.exists())


class Processes(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.case = cases.make(row(self.folder.name, "lenet5"), 1, Path(self.folder.name) / "work")

    def start(self):
        process = EngineProcess("onnxruntime", self.case, 1, None)
        self.addCleanup(process.close)
        return process

    def test_an_engine_measures_and_gives_the_reference_results(self):
        process, outputs = self.start(), self.case.path("outputs.npz")
        self.assertEqual(len(process.measure(1, 4)), 4)
        process.write_outputs(outputs)
        with np.load(outputs) as arrays:
            self.assertLess(cases.largest_error(dict(arrays), self.case.read_reference()), 1e-5)

    def test_an_engine_waits_stopped_for_its_turn(self):
        process = self.start()
        status = Path(f"/proc/{process._process.pid}/status")
        if not status.exists():
            self.skipTest("this system has no /proc")
        process.measure(0, 1)
        self.assertRegex(status.read_text(), r"State:\s+T")

    def test_an_engine_that_is_killed_is_named_with_its_signal(self):
        process = self.start()
        process._process.kill()
        with self.assertRaisesRegex(EngineFailed, "SIGKILL"):
            process.measure(1, 1)

    def test_an_engine_that_is_not_there_gives_the_reason(self):
        with self.assertRaisesRegex(EngineFailed, "No module named 'engines.nothing'"):
            EngineProcess("nothing", self.case, 1, None)


if __name__ == "__main__":
    unittest.main()
