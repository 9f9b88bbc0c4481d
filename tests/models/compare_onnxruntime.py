#!/usr/bin/env python3
"""Compare results that Kiln computed with ONNX Runtime's on the same model and inputs.

    compare_onnxruntime.py MODEL.onnx INPUTS.npz OUTPUTS.npz [--tolerance 1e-4]

Arrays are looked up by the tensor's name, or as `in_NAME` and `out_NAME` with other characters than letters and
digits as `_`, or as `out_0`, `out_1` … in the model's order. For each output it prints the largest relative
error, max |a - b| / max |b|, where b is ONNX Runtime's; NaN and infinities must agree in place. Exit status: 0 all
within the tolerance, 1 not, 2 wrong usage.
"""

import argparse
import sys

import numpy as np
import onnxruntime

import reference


def lookup(arrays, path, candidates):
    """The first array that is there."""
    for name in candidates:
        if name in arrays:
            return arrays[name]
    sys.exit(f"{path}: holds none of {', '.join(candidates)}; it holds {', '.join(arrays)}")


def relative_error(a, b):
    """max |a - b| / max |b| over the finite values; infinite where the special values or the shapes differ."""
    if a.shape != b.shape:
        return float("inf")
    a, b = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return float("inf")
    difference = np.abs(a[finite] - b[finite]).max(initial=0.0)
    largest = np.abs(b[finite]).max(initial=0.0)
    return float(difference / largest) if largest else float(difference)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("inputs")
    parser.add_argument("outputs")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    arguments = parser.parse_args()

    session = onnxruntime.InferenceSession(arguments.model, providers=["CPUExecutionProvider"])
    with np.load(arguments.inputs) as arrays:
        feeds = {i.name: lookup(arrays, arguments.inputs, (i.name, reference.array_name("in_", i.name)))
                 for i in session.get_inputs()}
    wrong = False
    with np.load(arguments.outputs) as arrays:
        for i, (name, expected) in enumerate(reference.run(arguments.model, feeds)):
            found = lookup(arrays, arguments.outputs, (name, reference.array_name("out_", name), f"out_{i}"))
            if found.shape != expected.shape:
                print(f"{name}: shape {list(found.shape)}, ONNX Runtime gives {list(expected.shape)}")
            error = relative_error(found, expected)
            within = error <= arguments.tolerance
            wrong |= not within
            print(f"{name}: relative error {error:.3e} {'within' if within else 'ABOVE'} {arguments.tolerance:g}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
