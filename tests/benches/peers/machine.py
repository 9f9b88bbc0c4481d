"""The machine: its name, the CPUs to run on, and what it can reach at most."""

import json
import os
import platform
import shutil
import subprocess
from pathlib import Path

CPUS = Path("/sys/devices/system/cpu")
PEAKS = Path(__file__).resolve().parent / "peaks.c"
# Vector extensions that engines choose their kernels by.
EXTENSIONS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "asimd", "sve")


def describe():
    """Name, CPUs and system, for the head of the report."""
    return {"cpu": cpu_name(), "cpus": os.cpu_count(), "extensions": extensions(), "system": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(), "load_average": round(os.getloadavg()[0], 2)}


def _cpuinfo(key):
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    except OSError:
        pass
    return ""


def cpu_name():
    """The CPU as it calls itself; with family and model, because virtual machines hide the name."""
    if platform.system() == "Darwin":
        said = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)
        return said.stdout.strip() or platform.machine()
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    numbers = [f"{key.split()[-1]} {_cpuinfo(key)}" for key in ("cpu family", "model", "stepping") if _cpuinfo(key)]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def extensions():
    """Those of EXTENSIONS that the CPU has."""
    flags = (_cpuinfo("flags") or _cpuinfo("Features")).split()
    return [name for name in EXTENSIONS if name in flags]


def choose_cpus(count):
    """CPUs to pin `count` threads to, one a core as far as there are cores; None where processes cannot be pinned."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    first_of_core, others, seen = [], [], set()
    for cpu in allowed:
        try:
            core = (CPUS / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip()
        except OSError:
            core = str(cpu)
        (others if core in seen else first_of_core).append(cpu)
        seen.add(core)
    return (first_of_core + others)[:count]


def peaks(out, threads, cpus):
    """What peaks.c measures on these CPUs, or the reason why there is nothing."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return {"skipped": "there is no C compiler"}
    program = out / "peaks"
    built = subprocess.run([compiler, "-O2", "-std=gnu11", "-pthread", str(PEAKS), "-o", str(program)], capture_output=True, text=True)
    if built.returncode:
        return {"skipped": f"{compiler} does not compile {PEAKS.name}: {built.stderr.strip()[-200:]}"}
    pin = (lambda: os.sched_setaffinity(0, cpus)) if cpus else None
    try:
        done = subprocess.run([program, str(threads)], capture_output=True, text=True, timeout=120, preexec_fn=pin)
        return json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        return {"skipped": f"{PEAKS.name}: {error}"}
