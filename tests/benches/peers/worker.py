"""One engine with one model, in a process of its own: reads a JSON line, does it, answers with a JSON line.

    worker.py ENGINE CASE.json THREADS CPU,CPU

| line | answer |
|---|---|
| (at the start) | `{"version", "load_ms"}` |
| `{"do": "measure", "warmup": W, "runs": R}` | `{"ms": [of every run, or of the median run alone]}` |
| `{"do": "outputs", "path": P}` | `{}`; writes the outputs to an .npz |
| `{"do": "memory"}` | `{"peak_bytes"}` |

What fails is answered with `{"failed": why}`.
"""

import importlib
import json
import os
import sys
import time


def main():
    engine, case_path, threads, cpus = sys.argv[1:]
    # Before anything is imported: thread pools look at the CPUs they may use when they are made.
    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    # Engines print to stdout from C++; answers go where they cannot reach.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(value):
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    import numpy as np
    from cases import Case
    from engines import reason

    try:
        module = importlib.import_module(f"engines.{engine}")
        case = Case.load(case_path)
        start = time.perf_counter()
        session = module.Session(case, int(threads))
        load_ms = (time.perf_counter() - start) * 1e3
        session.run()
    except Exception as error:  # Whatever an engine raises is a reason to list, not to stop.
        answer({"failed": reason(error)})
        leave()
    answer({"version": session.version(), "load_ms": session.load_ms() or load_ms})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            match request["do"]:
                case "measure":
                    answer({"ms": session.measure(request["warmup"], request["runs"])})
                case "outputs":
                    np.savez(request["path"], **session.outputs())
                    answer({})
                case "memory":
                    answer({"peak_bytes": session.peak_bytes()})
        except Exception as error:
            answer({"failed": reason(error)})
    leave()


def leave():
    """Ends at once: destructors of some engines crash, and nothing is left to save."""
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
