"""Measures: prepares models and engines, lets them take turns, and hands over what was found.

Started by compare.py, in an environment that has the engines.
"""

import fcntl
import json
import math
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import numpy as np

import cases
import engines
import fetch
import machine
import report
import work
from bench_models import LAYERS, MODELS, ODD
from engine_process import EngineFailed, EngineProcess
from results import Engine, Measurement

# A turn of a fast model has more runs than asked for, so that the clock and cold caches do not matter.
TURN_MS = 50
RUNS_MOST = 1000


def run(arguments, out):
    """The whole comparison; returns the exit status."""
    with open(out / "lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit("another comparison is running in this checkout; two at once would measure each other")
        return compare(arguments, out)


def compare(arguments, out):
    """The whole comparison, while no other runs here."""
    models = Path(os.environ.get("KILN_MODELS", fetch.DEFAULT_OUT))
    rows = find_models(arguments.models or list(MODELS), models)
    command = find_kiln(arguments.kiln)
    os.environ["KILN"] = str(command)

    head = machine.describe() | {"started": time.strftime("%Y-%m-%d %H:%M:%S %z"), "kiln": kiln_version(command, arguments.kiln),
                                 "batch": arguments.batch, "rounds": arguments.rounds, "runs": arguments.runs}
    print(f"{head['cpu']}, {head['cpus']} CPUs, load average {head['load_average']}", file=sys.stderr)
    peaks = {}
    for threads in arguments.threads:
        cpus = machine.choose_cpus(threads)
        peaks[threads] = {"cpus": cpus} | machine.peaks(out, threads, cpus)
    head["peaks"] = peaks

    measurements = []
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    with open(arguments.json, "w", encoding="utf-8") as lines:
        def write(value):
            lines.write(json.dumps(value) + "\n")
            lines.flush()

        write({"kind": "machine"} | head)
        for row in rows:
            for measurement in measure_model(row, arguments, peaks, out / "work"):
                measurements.append(measurement)
                write({"kind": "measurement"} | asdict(measurement) | measurement.summary())
        for threads in arguments.threads:
            write({"kind": "geometric_means", "threads": threads} | report.geometric_means(measurements, threads))

    text = report.markdown(head, measurements)
    if arguments.markdown:
        arguments.markdown.parent.mkdir(parents=True, exist_ok=True)
        arguments.markdown.write_text(text, encoding="utf-8")
    print(text)
    return 0 if measurements and all(m.ratio() is not None for m in measurements) else 1


def find_models(names, models):
    """Rows of the manifests, after generating the benchmark models that are missing."""
    rows = cases.known(models)
    missing = [n for n in names if n not in rows or not Path(rows[n]["file"]).exists()]
    unknown = [n for n in missing if n not in MODELS | ODD | LAYERS]
    if unknown:
        print(f"unknown model {', '.join(unknown)}; known are {', '.join(sorted({*rows, *MODELS, *ODD, *LAYERS}))}", file=sys.stderr)
        sys.exit(2)
    if missing:
        subprocess.run([sys.executable, Path(fetch.__file__).with_name("generate.py"), "--out", models / "bench",
                        "--only", ",".join(missing)], stdout=sys.stderr, check=True)
        rows = cases.known(models)
    return [rows[n] for n in names]


def find_kiln(given):
    """The command to measure: the one given, else that of this checkout, built if it is not up to date."""
    if given:
        if not given.is_file():
            print(f"--kiln {given}: there is no such file", file=sys.stderr)
            sys.exit(2)
        return given.resolve()
    try:
        subprocess.run(["cargo", "build", "--release", "--package", "kiln", "--bin", "kiln"], cwd=fetch.REPOSITORY, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"cannot build the kiln command: {error}\nInstall Rust, or name a command that is there with --kiln PATH.")
    return Path(os.environ.get("CARGO_TARGET_DIR", fetch.REPOSITORY / "target")).resolve() / "release" / "kiln"


def kiln_version(command, given):
    """The version, and the commit where it was built from this checkout."""
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    if given:
        return version
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=fetch.REPOSITORY, capture_output=True, text=True)
    return f"{version} ({commit.stdout.strip()})" if commit.returncode == 0 else version


def stdout_to_stderr():
    """Engines print when they are imported; stdout is the report's."""
    os.dup2(2, 1)


def in_own_process(function, *arguments):
    """Calls a function where neither its memory nor its crash is ours. Raises EngineFailed with the reason."""
    with ProcessPoolExecutor(1, get_context("spawn"), stdout_to_stderr) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise EngineFailed("the process that prepares it crashed") from None
        except Exception as error:  # Whatever a converter raises is a reason to list.
            raise EngineFailed(engines.reason(error)) from error


def measure_model(row, arguments, peaks, folder):
    """Measurements of one model, one for each number of threads."""
    name = row["name"]
    names = ["kiln", *arguments.peers]
    try:
        case = in_own_process(cases.make, row, arguments.batch, folder)
    except EngineFailed as failure:
        return [Measurement(name, threads, arguments.batch, None, {n: Engine(failed=str(failure)) for n in names})
                for threads in arguments.threads]
    try:
        least = in_own_process(work.of_model, case.model)
    except EngineFailed as failure:
        print(f"{name}: its limit is not known: {failure}", file=sys.stderr)
        least = None
    prepared = {}
    for engine in names:
        started = time.monotonic()
        try:
            in_own_process(engines.prepare, engine, case)
            prepared[engine] = Engine(prepare_s=time.monotonic() - started)
        except EngineFailed as failure:
            prepared[engine] = Engine(failed=str(failure))
        print(f"{name}: {engine} prepared in {time.monotonic() - started:.1f} s", file=sys.stderr)

    done = []
    for threads in arguments.threads:
        found = {n: Engine(failed=e.failed, prepare_s=e.prepare_s) for n, e in prepared.items()}
        take_turns(case, found, threads, peaks[threads]["cpus"], arguments)
        measurement = Measurement(name, threads, arguments.batch, case.macs, found, least and least.limit_ms(peaks[threads]))
        print(f"{name}, {threads} thread{'s' if threads > 1 else ''}: "
              + ", ".join(f"{n} {e.ms():.3g} ms" if e.rounds else f"{n} failed" for n, e in found.items()), file=sys.stderr)
        done.append(measurement)
    return done


def take_turns(case, found, threads, cpus, arguments):
    """Loads every engine, checks its results, and measures them in turn; what fails is noted and left out."""
    reference = case.read_reference()
    running = {}

    def attempt(engine, action):
        """Does something with an engine; if that fails, it is out."""
        try:
            return action()
        except EngineFailed as failure:
            found[engine].failed = str(failure)
            found[engine].rounds = []
            if engine in running:
                running.pop(engine).close()
            return None

    def start(engine):
        process = EngineProcess(engine, case, threads, cpus)
        running[engine] = process
        found[engine].version, found[engine].load_ms = process.version, process.load_ms
        outputs = case.path(f"{engine}_outputs.npz")
        process.write_outputs(outputs)
        with np.load(outputs) as arrays:
            found[engine].error = cases.largest_error(dict(arrays), reference)
        Path(outputs).unlink()

    try:
        for engine in [n for n, e in found.items() if e.failed is None]:
            attempt(engine, lambda: start(engine))
        runs = {}
        for engine, process in list(running.items()):
            first = attempt(engine, lambda: process.measure(1, 3))
            if first:
                estimate = max(statistics.median(first), 1e-3)
                runs[engine] = min(max(arguments.runs, math.ceil(TURN_MS / estimate)), RUNS_MOST)
        for turn in range(arguments.rounds):
            # Who follows whom changes.
            order = list(running)
            shift = turn % max(len(order), 1)
            for engine in order[shift:] + order[:shift]:
                # The first runs of a turn find the caches full of what the engine before needed.
                times = attempt(engine, lambda: running[engine].measure(max(1, runs[engine] // 5), runs[engine]))
                if times:
                    found[engine].rounds.append(statistics.median(times))
        for engine, process in list(running.items()):
            found[engine].peak_bytes = attempt(engine, process.peak_bytes)
    finally:
        for process in running.values():
            process.close()
