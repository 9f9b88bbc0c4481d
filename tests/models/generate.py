#!/usr/bin/env python3
"""Generate the benchmark models: known architectures with seeded random weights, and reference results.

Needs numpy, onnx and onnxruntime in the versions of requirements.txt; `fetch.py` makes a virtual environment that
has them. For each model OUT gets NAME.onnx, NAME.npz (inputs and ONNX Runtime's outputs), and a row in
manifest.json. What is already there is left alone. The models take about 3 GB in all; `--only` takes less.
"""

import json
import sys
import time
import zlib

import numpy as np
import onnx

import fetch
import reference
from bench_models import LAYERS, MODELS, ODD
from onnx_graph import GraphBuilder

DEFAULT_OUT = fetch.DEFAULT_OUT / "bench"
# Index inputs stay below this, the smallest vocabulary of the models that take indices.
VOCABULARY = 128


def reference_input(name, shape, element):
    """Standard normal images, uniform token ids; the seed depends on the model's name only."""
    rng = np.random.default_rng(zlib.crc32(f"{name}/input".encode()))
    if element == onnx.TensorProto.INT64:
        return rng.integers(0, VOCABULARY, shape)
    return rng.standard_normal(shape, dtype=np.float32)


def generate(name, build, out):
    """Writes the files of one model and returns its row of the manifest."""
    graph = GraphBuilder(name)
    model = out / f"{name}.onnx"
    graph.save(build(graph), str(model))
    feed, shape, element = graph.graph_input
    npz = out / f"{name}.npz"
    row = {"name": name, "file": model.name, "npz": npz.name}
    row |= reference.make(str(model), str(npz), {feed: reference_input(name, shape, element)})
    row |= {"macs": int(graph.macs), "parameters": int(graph.parameters), "nodes": len(graph.nodes)}
    return row


def main():
    parser = fetch.argument_parser(__doc__, DEFAULT_OUT, "names separated by commas", "make again what is there")
    parser.add_argument("--layers", action="store_true", help="also the single layers and chains of five")
    arguments = parser.parse_args()

    known = MODELS | ODD | LAYERS
    if arguments.only:
        names = arguments.only.split(",")
        unknown = [n for n in names if n not in known]
        if unknown:
            parser.error(f"unknown model {', '.join(unknown)}; known are {', '.join(known)}")
    else:
        names = list(known if arguments.layers else MODELS)

    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    manifest_path = out / "manifest.json"
    rows = {}
    if manifest_path.exists():
        rows = {row["name"]: row for row in json.loads(manifest_path.read_text(encoding="utf-8"))["models"]}

    failed = []
    for name in names:
        row = rows.get(name)
        if row and not arguments.force and all((out / row[k]).exists() for k in ("file", "npz")):
            print(f"{name}: there already")
            continue
        started = time.monotonic()
        try:
            rows[name] = generate(name, known[name], out)
        except (ValueError, RuntimeError, OSError, onnx.checker.ValidationError) as error:
            failed.append(name)
            print(f"{name}: FAILED: {error}", file=sys.stderr)
            continue
        reference.write_json(str(manifest_path), {"schema": 1, "models": list(rows.values())})
        row = rows[name]
        print(f"{name}: {row['macs'] / 1e6:.1f} M multiply-accumulates, {row['parameters'] / 1e6:.3f} M parameters, "
              f"{row['nodes']} nodes, {time.monotonic() - started:.1f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
