"""The parent's handle on a worker: one engine with one model and a number of threads."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from engines import last_lines

WORKER = Path(__file__).resolve().parent / "worker.py"
# For loading, or for one turn.
SECONDS = 600


class EngineFailed(Exception):
    """An engine cannot do what it was asked; the message is the reason that the report lists."""


class EngineProcess:
    """A worker that is stopped whenever it is not its turn: threads that spin while they wait would cost the others."""

    def __init__(self, engine, case, threads, cpus):
        self._said = tempfile.TemporaryFile()
        # Each OpenMP runtime reads the number of threads here.
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self._process = subprocess.Popen(
            [sys.executable, WORKER, engine, case.path("case.json"), str(threads), ",".join(map(str, cpus or []))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, env=environment)
        self._received = b""
        try:
            ready = self._answer()
        except EngineFailed:
            self.close()
            raise
        self.version, self.load_ms = ready["version"], ready["load_ms"]
        self._stop()

    def measure(self, warmup, runs):
        """Milliseconds of runs: of each, or one median."""
        return self._ask({"do": "measure", "warmup": warmup, "runs": runs})["ms"]

    def write_outputs(self, path):
        """Writes the results of the last run to an .npz."""
        self._ask({"do": "outputs", "path": str(path)})

    def peak_bytes(self):
        """The most memory that the engine's process held."""
        return self._ask({"do": "memory"})["peak_bytes"]

    def close(self):
        """Ends the process, stopped or not."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._said.close()

    def _stop(self):
        self._process.send_signal(signal.SIGSTOP)
        if hasattr(os, "waitid"):
            # The signal takes effect later than it is sent. WNOWAIT leaves the status of one that ended to Popen.
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def _ask(self, request):
        try:
            self._process.send_signal(signal.SIGCONT)
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # The missing answer says why.
        answer = self._answer()
        self._stop()
        return answer

    def _answer(self):
        deadline = time.monotonic() + SECONDS
        while b"\n" not in self._received:
            if not select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self._process.kill()
                raise EngineFailed(f"did not answer within {SECONDS} s")
            read = os.read(self._process.stdout.fileno(), 1 << 16)
            if not read:
                raise EngineFailed(self._ended())
            self._received += read
        line, _, self._received = self._received.partition(b"\n")
        answer = json.loads(line)
        if "failed" in answer:
            raise EngineFailed(answer["failed"])
        return answer

    def _ended(self):
        status = self._process.wait()
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        self._said.seek(0)
        return f"its process {how}: {last_lines(self._said.read().decode(errors='replace')) or 'it said nothing'}"
