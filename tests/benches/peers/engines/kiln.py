"""Kiln itself, through its command: an artifact, then one `kiln bench` a turn. Loading it takes about a millisecond.
One artifact serves every number of threads.

The environment variable KILN names the command.
"""

import json
import os
import subprocess

import numpy as np

from engines import Session as Base
from engines import last_lines

SECONDS = 600
# The command starts a process a turn, whose pages and caches are cold.
LEAST_WARMUP = 3


def kiln(*arguments):
    """What the command writes to stdout; raises RuntimeError with what it says when it fails."""
    done = subprocess.run([os.environ["KILN"], *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=SECONDS)
    if done.returncode:
        raise RuntimeError(f"kiln {arguments[0]}: {last_lines(done.stderr)}")
    return done.stdout


def prepare(case):
    """Compiles anew: the command may be another one than last time."""
    kiln("compile", case.model, "-o", case.path("model.kiln"))


class Session(Base):
    def __init__(self, case, threads):
        self._case = case
        self._artifact = case.path("model.kiln")
        self._threads = threads
        self._bench(1, 1)

    def _bench(self, warmup, runs):
        self._last = json.loads(kiln("bench", self._artifact, "--inputs", self._case.path("inputs.npz"), "--threads", self._threads,
                                     "--warmup", max(warmup, LEAST_WARMUP), "--runs", runs, "--json"))

    def version(self):
        return kiln("--version").split()[-1]

    def run(self):
        """Runs are the command's; see `measure`."""

    def measure(self, warmup, runs):
        """The median alone: that is what the command reports."""
        self._bench(warmup, runs)
        return [self._last["median_ms"]]

    def outputs(self):
        path = self._case.path("kiln_outputs.npz")
        kiln("run", self._artifact, "--inputs", self._case.path("inputs.npz"), "--outputs", path, "--threads", self._threads)
        with np.load(path) as arrays:
            return dict(arrays)

    def load_ms(self):
        return self._last["load_ms"]

    def peak_bytes(self):
        return self._last["peak_rss_bytes"] or 0
