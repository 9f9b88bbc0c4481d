"""Reference inputs and outputs: what ONNX Runtime computes, kept as NAME.npz beside NAME.onnx."""

import json
import os
import re

import numpy as np
import onnxruntime


def array_name(prefix, name):
    """The name in an .npz of the tensor `name`: characters that are awkward in file names become `_`."""
    return prefix + re.sub(r"[^A-Za-z0-9]", "_", name)


def run(model_path, inputs):
    """Outputs of the model in order, as pairs of name and array. One thread, so that a rerun gives the same bits."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model_path, options, providers=["CPUExecutionProvider"])
    wanted = {i.name for i in session.get_inputs()}
    if wanted != set(inputs):
        raise ValueError(f"{model_path}: the model takes {sorted(wanted)}, given were {sorted(inputs)}")
    names = [o.name for o in session.get_outputs()]
    return list(zip(names, session.run(names, inputs)))


def write_npz(path, arrays):
    """Writes all arrays or nothing."""
    temporary = f"{path}.tmp.npz"
    np.savez_compressed(temporary, **arrays)
    os.replace(temporary, path)


def write_json(path, value):
    """Writes the whole document or nothing."""
    temporary = f"{path}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")
    os.replace(temporary, path)


def make(model_path, npz_path, inputs):
    """Runs the model, writes inputs and outputs to `npz_path`, and returns their description for the manifest."""
    outputs = run(model_path, inputs)
    arrays = {array_name("in_", name): value for name, value in inputs.items()}
    arrays |= {f"out_{i}": value for i, (_, value) in enumerate(outputs)}
    for key, value in arrays.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ValueError(f"{model_path}: {key} holds values that are not finite; they would prove nothing")
    write_npz(npz_path, arrays)

    def describe(key, name):
        return {"name": name, "array": key, "dtype": str(arrays[key].dtype), "shape": list(arrays[key].shape)}

    return {
        "inputs": [describe(array_name("in_", name), name) for name in inputs],
        "outputs": [describe(f"out_{i}", name) for i, (name, _) in enumerate(outputs)],
    }
