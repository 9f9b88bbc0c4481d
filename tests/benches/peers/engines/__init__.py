"""The engines, one a file: `prepare` converts a model once, `Session` loads it and runs it.

Settings are those that make each engine fastest in 32-bit floats: exact results are compared, so neither 16-bit floats nor
integers.
"""

import importlib
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

CONVERSION_SECONDS = 600


class Session:
    """A loaded model with its inputs in memory. Engines implement `version`, `run` and `outputs`."""

    def version(self):
        """The version of the engine."""
        raise NotImplementedError

    def run(self):
        """One inference: from inputs in memory to outputs in memory."""
        raise NotImplementedError

    def outputs(self):
        """The outputs of the last run, by name and in the model's shapes."""
        raise NotImplementedError

    def measure(self, warmup, runs):
        """Milliseconds of each run."""
        for _ in range(warmup):
            self.run()
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            self.run()
            times.append((time.perf_counter() - start) * 1e3)
        return times

    def load_ms(self):
        """How long loading took, where the engine itself says so."""
        return None

    def peak_bytes(self):
        """The most memory that the process ever held, Python included."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def prepare(engine, case):
    """Converts the model of the case for the engine unless that is done."""
    importlib.import_module(f"engines.{engine}").prepare(case)


def convert(program, options, made, folder):
    """Runs a converter, which must make the file `made`."""
    done = subprocess.run([program, *options], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", timeout=CONVERSION_SECONDS)
    if done.returncode or not Path(made).exists():
        # What a converter that failed leaves half written must not be taken for its result next time.
        Path(made).unlink(missing_ok=True)
        raise RuntimeError(f"{Path(program).name} ended with status {done.returncode} and made no {Path(made).name}: "
                           f"{last_lines(done.stdout)}")


def shaped(name, value, shape):
    """An output in the model's shape, which engines that drop or merge axes do not keep."""
    if value.size != np.prod(shape, dtype=int):
        raise RuntimeError(f"gives output `{name}` the shape {list(value.shape)}, the model {list(shape)}")
    return value.reshape(shape)


def last_lines(text, limit=300):
    """The end of what a program said, on one line."""
    said = " ".join(text.split())
    return said if len(said) <= limit else "… " + said[-limit:]


def reason(error):
    """Why something failed, for the report. Messages of our own need no name of a type before them."""
    return last_lines(str(error) if type(error) in (RuntimeError, ValueError) else f"{type(error).__name__}: {error}")
