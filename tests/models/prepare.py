"""Makes the folder of real models. Started by fetch.py, in an environment that has requirements.txt."""

import argparse
import hashlib
import json
import sys
import time
import traceback
from importlib import metadata
from pathlib import Path

import packages
import real_models
import reference

HERE = Path(__file__).resolve().parent
SCHEMA = 1


def recipe():
    """A digest of everything that decides what the files are: when it changes, they are made again."""
    digest = hashlib.sha256()
    for path in sorted([*HERE.glob("*.py"), HERE / "requirements.txt"]):
        if path.name not in ("fetch.py", "generate.py", "bench_models.py", "onnx_graph.py", "compare_onnxruntime.py"):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def files_of(row):
    """Every file that a row of the manifest names."""
    yield row["file"]
    yield from (row[key] for key in ("dictionary",) if key in row)
    for case in row.get("cases", ()):
        yield case["npz"]
        if "image" in case:
            yield case["image"]


def main(arguments):
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    path = out / "manifest.json"
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept = [r for r in old.get("models", []) + old.get("data", []) if old.get("schema") == SCHEMA]
    entries = real_models.MODELS | real_models.DATA
    if arguments.only:
        unknown = [n for n in arguments.only.split(",") if n not in entries]
        if unknown:
            print(f"unknown: {', '.join(unknown)}; known are {', '.join(entries)}", file=sys.stderr)
            return 2
    wanted = arguments.only.split(",") if arguments.only else list(entries)

    current = recipe()
    shop = real_models.Workshop(out, packages.Downloads(out / "downloads"))
    failed = {}
    for name in wanted:
        present = [r for r in kept if r["entry"] == name]
        if present and not arguments.force and all(
                r["recipe"] == current and all((out / f).exists() for f in files_of(r)) for r in present):
            print(f"{name}: there already", flush=True)
            continue
        print(f"{name}: {entries[name].__doc__.strip()}", flush=True)
        started = time.monotonic()
        try:
            rows = entries[name](shop)
        except Exception as error:  # One entry's failure must not keep the others from being made.
            failed[name] = f"{type(error).__name__}: {error}"
            if not isinstance(error, (packages.FetchError, real_models.WrongAnswer)):
                traceback.print_exc()
            print(f"{name}: FAILED: {error}", file=sys.stderr, flush=True)
            continue
        rows = [{"entry": name, "recipe": current} | r for r in rows]
        kept = [r for r in kept if r["entry"] != name] + rows
        write_manifest(path, kept)
        cases = sum(len(r.get("cases", ())) for r in rows)
        print(f"{name}: done in {time.monotonic() - started:.1f} s" + (f", {cases} cases" if cases else ""), flush=True)
    if failed:
        print("failed:", file=sys.stderr)
        for name, why in failed.items():
            print(f"  {name}: {why}", file=sys.stderr)
        return 1
    print(f"all there: {path}")
    return 0


def write_manifest(path, rows):
    order = list(real_models.MODELS | real_models.DATA)
    rows = sorted((r for r in rows if r["entry"] in order), key=lambda r: order.index(r["entry"]))
    versions = {n: metadata.version(n) for n in ("numpy", "onnx", "onnxruntime", "pillow")}
    reference.write_json(str(path), {
        "schema": SCHEMA, "made_with": versions,
        "models": [r for r in rows if r["entry"] in real_models.MODELS],
        "data": [r for r in rows if r["entry"] in real_models.DATA]})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "target" / "models")
    parser.add_argument("--only", help="entries separated by commas")
    parser.add_argument("--force", action="store_true")
    sys.exit(main(parser.parse_args()))
