#!/usr/bin/env python3
"""Compare Kiln's speed with ONNX Runtime, OpenVINO, ncnn and MNN on this machine's CPU.

    python3 tests/benches/peers/compare.py [--models resnet50,vgg16] [--threads 1,2] [--batch 1] [--markdown FILE]

The first run makes a Python environment in target/peers (about 600 MB), generates the benchmark models that are missing,
and builds the `kiln` command. Every engine runs in a process of its own, on the same cores, and they take turns: what
the machine does meanwhile hits all alike. A ratio is reported only where results agree. Leave the machine alone
meanwhile. Exit status: 0 measured, 1 something that was asked for could not be measured (the report says what),
2 wrong usage.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODELS_SCRIPTS = HERE.parents[1] / "models"
sys.path.insert(0, str(MODELS_SCRIPTS))

import fetch  # noqa: E402  (it lies in the folder of the model scripts)

OUT = fetch.REPOSITORY / "target" / "peers"
PEERS = ("onnxruntime", "openvino", "ncnn", "mnn")


def whole_number(least):
    """A parser of numbers that are at least `least`."""
    def parse(text):
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, found {text!r}")
        return number
    return parse


def names(text):
    """Names separated by commas, each once, in order."""
    found = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not found:
        raise argparse.ArgumentTypeError("expected at least one, found none")
    return found


def threads(text):
    """Thread counts separated by commas; each thread gets a CPU of its own."""
    counts = [whole_number(1)(part) for part in names(text)]
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    too_many = [str(count) for count in counts if count > cpus]
    if too_many:
        raise argparse.ArgumentTypeError(f"expected counts from 1 to {cpus}, the CPUs this process may use; found {', '.join(too_many)}")
    return counts


def peers(text):
    """Names of engines."""
    chosen = names(text)
    unknown = [name for name in chosen if name not in PEERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(PEERS)}; found {', '.join(unknown)}")
    return chosen


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=names, metavar="NAME,NAME",
                        help="benchmark models (default: all), or models of the manifest that fetch.py writes")
    parser.add_argument("--peers", type=peers, default=list(PEERS), metavar="NAME,NAME", help=f"default: {','.join(PEERS)}")
    parser.add_argument("--threads", type=threads, default=[1], metavar="N,N", help="default: 1")
    parser.add_argument("--batch", type=whole_number(1), default=1, metavar="N", help="examples a run (default: 1)")
    parser.add_argument("--rounds", type=whole_number(1), default=9, metavar="R", help="turns of each engine (default: 9)")
    parser.add_argument("--runs", type=whole_number(1), default=5, metavar="R",
                        help="runs a turn at least; fast models get more (default: 5)")
    parser.add_argument("--kiln", type=Path, metavar="PATH", help="the command to measure (default: built with cargo --release)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the report there")
    parser.add_argument("--json", type=Path, metavar="FILE", default=OUT / "results.jsonl",
                        help="where to write one JSON object a line (default: target/peers/results.jsonl)")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    OUT.mkdir(parents=True, exist_ok=True)
    environment = OUT / "venv"
    python = fetch.environment(environment, fetch.REQUIREMENTS, HERE / "requirements.txt", alone=[HERE / "converters.txt"])
    if Path(sys.prefix).resolve() != environment.resolve():
        return subprocess.run([python, Path(__file__).resolve(), *sys.argv[1:]]).returncode
    # Only that environment has what this imports.
    import comparison
    return comparison.run(arguments, OUT)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
