"""What is measured: a model with every extent fixed, its inputs, and the results that all engines must give.

A case is a folder with `model.onnx`, `inputs.npz` and `reference.npz` (arrays named as in the model) and `case.json`.
The reference is ONNX Runtime with its optimisations off. Conversions for other engines lie in the same folder, and go
with it when the model changes.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from compare_onnxruntime import relative_error

# A batch of copies must give what one example gives, but for the order of summation.
SAME_EXAMPLE = 1e-4


@dataclass(frozen=True)
class Case:
    """`inputs` and `outputs` are shapes by name, in the model's order. `batch_axis` is of the inputs, None if there is none.
    `single` is the model at batch 1, for engines that know no batches; it is `model` at batch 1."""

    name: str
    folder: str
    model: str
    single: str
    batch: int
    batch_axis: int | None
    inputs: dict
    outputs: dict
    macs: int | None

    def path(self, name):
        """A file of this case."""
        return str(Path(self.folder) / name)

    def read_inputs(self):
        """The arrays to feed, by name."""
        return _read(self.path("inputs.npz"))

    def read_reference(self):
        """What comes out, by name."""
        return _read(self.path("reference.npz"))

    @staticmethod
    def load(path):
        """Reads `case.json`."""
        return Case(**json.loads(Path(path).read_text(encoding="utf-8")))


def _read(path):
    with np.load(path) as arrays:
        return dict(arrays)


def known(models):
    """Rows of the manifests by name: the benchmark models, and of the real ones the first case of each."""
    rows = {}
    for manifest in (models / "manifest.json", models / "bench" / "manifest.json"):
        if manifest.exists():
            for row in json.loads(manifest.read_text(encoding="utf-8"))["models"]:
                row = row | row.get("cases", [{}])[0] | {"name": row["name"]}
                rows[row["name"]] = row | {k: str(manifest.parent / row[k]) for k in ("file", "npz")}
    return rows


def make(row, batch, work):
    """The case of a manifest's row at this batch, made in a folder of `work` unless it is there already.
    Raises ValueError where the model cannot have this batch."""
    folder = work / f"{row['name']}-batch{batch}"
    description = folder / "case.json"
    source = os.stat(row["file"])
    stamp = folder / "made_from.json"
    made_from = json.dumps([source.st_size, source.st_mtime_ns, onnxruntime.__version__])
    if description.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == made_from:
        return Case.load(description)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    with np.load(row["npz"]) as arrays:
        inputs = {i["name"]: arrays[i["array"]] for i in row["inputs"]}
        expected = [arrays[o["array"]] for o in row["outputs"]]
    axis = batch_axis(inputs.values())
    if batch > 1 and axis is None:
        raise ValueError(f"has no batch of 1 to make {batch} of: the inputs are {[list(x.shape) for x in inputs.values()]}")
    single = folder / ("model.onnx" if batch == 1 else "single.onnx")
    fix_shapes(row["file"], single, {name: x.shape for name, x in inputs.items()})
    model = folder / "model.onnx"
    if batch > 1:
        inputs = {name: repeat(x, batch, axis) for name, x in inputs.items()}
        fix_shapes(row["file"], model, {name: x.shape for name, x in inputs.items()}, (axis, batch))
    reference = run_unoptimised(str(model), inputs)
    for (name, found), one in zip(reference.items(), expected):
        check_example(name, found, one, batch)
    np.savez(folder / "inputs.npz", **inputs)
    np.savez(folder / "reference.npz", **reference)
    macs = row.get("macs")
    case = Case(row["name"], str(folder), str(model), str(single), batch, axis,
                {name: list(x.shape) for name, x in inputs.items()}, {name: list(x.shape) for name, x in reference.items()},
                macs and macs * batch)
    description.write_text(json.dumps(asdict(case)), encoding="utf-8")
    stamp.write_text(made_from, encoding="utf-8")
    return case


def batch_axis(inputs):
    """The first axis that has extent 1 in every input, None if there is none."""
    shapes = [x.shape for x in inputs]
    return next((i for i in range(min(map(len, shapes))) if all(s[i] == 1 for s in shapes)), None)


def repeat(x, batch, axis):
    """A batch of one example. Each copy is shifted along the last axis, so that mixing them up shows."""
    return np.concatenate([np.roll(x, i, axis=-1) if x.ndim - 1 != axis else np.roll(x, i, axis=0) for i in range(batch)], axis=axis)


def check_example(name, found, one, batch):
    """The first example of a batch must give what it gives alone."""
    axis = next((i for i, (a, b) in enumerate(zip(found.shape, one.shape)) if a != b), None)
    first = found if axis is None else found.take(range(one.shape[axis]), axis)
    if (batch > 1 and axis is None) or relative_error(first, one) > SAME_EXAMPLE:
        raise ValueError(f"cannot be given batch {batch}: output `{name}` of the first example is not what it is alone")


def fix_shapes(source, target, shapes, batch=None):
    """Writes the model with all extents of its inputs fixed. With a batch (axis, extent), reshapes to constant shapes
    that hold 1 on that axis get the extent too."""
    model = onnx.load(source)
    graph = model.graph
    # Files before IR version 4 list their weights as inputs too, which not every converter expects.
    model.ir_version = max(model.ir_version, 4)
    weights = [value for value in graph.input if value.name not in shapes]
    for value in weights:
        graph.input.remove(value)
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        del dims[:]
        for extent in shapes[value.name]:
            dims.add().dim_value = extent
    if batch:
        axis, extent = batch
        targets = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
        for initializer in graph.initializer:
            if initializer.name in targets:
                shape = numpy_helper.to_array(initializer).copy()
                if axis < shape.size and shape[axis] == 1:
                    shape[axis] = extent
                    initializer.CopyFrom(numpy_helper.from_array(shape, initializer.name))
    # What the file says of the other shapes may be of another batch; all are inferred again.
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    model = onnx.shape_inference.infer_shapes(model)
    del model.graph.value_info[:]
    onnx.save(model, target)


def run_unoptimised(model, inputs):
    """ONNX Runtime's results with every graph optimisation off, by name."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    outputs = [o.name for o in session.get_outputs()]
    return dict(zip(outputs, session.run(outputs, inputs)))


def largest_error(found, reference):
    """The largest relative error of any output: max |a - b| / max |b|."""
    return max((relative_error(found[name], value) if name in found else float("inf") for name, value in reference.items()))
