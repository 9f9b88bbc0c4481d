"""The report for people, in Markdown."""

import statistics

from results import ERROR_MOST

NAMES = {"kiln": "Kiln", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "ncnn": "ncnn", "mnn": "MNN"}


def markdown(head, measurements):
    """The whole report."""
    engines = list(measurements[0].engines)
    threads = list(dict.fromkeys(m.threads for m in measurements))
    parts = [conditions(head, measurements, engines)]
    for count in threads:
        chosen = [m for m in measurements if m.threads == count]
        parts.append(f"### {count} thread{'s' if count > 1 else ''}\n\n{speed(chosen, engines)}\n\n{limits(head['peaks'][count])}")
    parts.append(f"### Loading and memory, {plural(threads[0], 'thread')}\n\n"
                 "Milliseconds to load a prepared model / MiB at most in the process (the peers' with Python).\n\n"
                 + loading([m for m in measurements if m.threads == threads[0]], engines))
    reasons = left_out(measurements)
    if reasons:
        parts.append("### Left out\n\n" + "\n".join(f"- {line}" for line in reasons))
    return "\n\n".join(parts) + "\n"


def conditions(head, measurements, engines):
    """Everything that somebody needs to measure again."""
    versions = [f"{NAMES[n]} {next((m.engines[n].version for m in measurements if m.engines[n].version), 'of unknown version')}"
                for n in engines if n != "kiln"]
    extensions = ", ".join(head["extensions"]) or "no known extension"
    return "\n".join([
        f"- CPU: {head['cpu']}, {plural(head['cpus'], 'CPU')}, with {extensions}; {head['system']}",
        f"- Engines: Kiln {head['kiln']}, {', '.join(versions)}",
        f"- {head['started']}, load average {head['load_average']} at the start",
        f"- Batch {head['batch']}, 32-bit floats. Median milliseconds of {plural(head['rounds'], 'turn')}, each the median of at least "
        f"{plural(head['runs'], 'run')} after warming up; engines take turns. ± is half the distance between the quartiles of the "
        "turns, that of the engine that varies most.",
        "- Error: Kiln's largest difference from ONNX Runtime without optimisations, relative to the largest value. "
        f"Above {ERROR_MOST:g} there is no ratio, and a peer in brackets does not count.",
        "- Kiln ÷ best: below 1, Kiln is faster than every peer.",
        "- Of limit: how much of Kiln's time it would take to multiply at the peak, 3×3 convolutions of stride 1 by Winograd's F(4×4), and to "
        "read weights of dense layers that have one row."])


def speed(measurements, engines):
    """The table of one number of threads."""
    rows = []
    for m in measurements:
        best, ratio = m.best_peer(), m.ratio()
        kiln = m.engines["kiln"]
        spreads = [e.spread() for e in m.engines.values() if e.spread() is not None]
        rows.append([m.model, *(time_cell(m.engines[n]) for n in engines),
                     NAMES[best] if best else "–",
                     f"**{ratio:.3f}**" if ratio else "–",
                     f"{100 * max(spreads):.1f} %" if spreads else "–",
                     f"{kiln.error:.1e}" if kiln.error is not None else "–",
                     f"{2e-6 * m.macs / kiln.ms():.1f}" if m.macs and kiln.rounds else "–",
                     f"{100 * m.share_of_limit():.0f} %" if m.share_of_limit() else "–"])
    means = geometric_means(measurements, measurements[0].threads)
    rows.append(["geometric mean of Kiln ÷ engine", "", *(number(means["over"].get(n)) for n in engines if n != "kiln"), "",
                 f"**{number(means['over_best'])}**", "", "", "", ""])
    table = lines(["model", *(NAMES[n] for n in engines), "best peer", "Kiln ÷ best", "±", "error", "Kiln's GFLOP/s", "of limit"], rows)
    return table + f"\n\nThe mean of Kiln ÷ best is over {means['models']} of {plural(len(measurements), 'model')}."


def time_cell(engine):
    """Milliseconds, in brackets where the results are wrong."""
    if not engine.rounds:
        return "–"
    text = f"{engine.ms():.3f}" if engine.ms() < 1 else f"{engine.ms():.2f}" if engine.ms() < 100 else f"{engine.ms():.1f}"
    return text if engine.counts() else f"({text})"


def geometric_means(measurements, threads):
    """Means of Kiln ÷ best peer, and of Kiln ÷ each peer, over the models where there is such a ratio."""
    chosen = [m for m in measurements if m.threads == threads]
    peers = [n for n in chosen[0].engines if n != "kiln"] if chosen else []
    ratios = [m.ratio() for m in chosen if m.ratio() is not None]
    over = {n: [r for m in chosen if (r := m.ratio(n)) is not None] for n in peers}
    return {"over_best": statistics.geometric_mean(ratios) if ratios else None, "models": len(ratios),
            "over": {n: statistics.geometric_mean(r) if r else None for n, r in over.items()}}


def limits(peaks):
    """What the CPU reached in registers and memory."""
    pinned = f"Pinned to CPU {', '.join(map(str, peaks['cpus']))}. " if peaks["cpus"] else "Processes cannot be pinned on this system. "
    if "skipped" in peaks:
        return f"{pinned}Peaks were not measured: {peaks['skipped']}."
    compute = ", ".join(f"{rate:.1f} with {bits}-bit vectors" for bits, rate in peaks["gflops"].items()) or "not known for this CPU"
    read = ", ".join(f"{rate:.1f} from {place}" for place, rate in peaks["read_gb_s"].items())
    return f"{pinned}Peaks measured before: multiply-adds in GFLOP/s: {compute}; reading in GB/s: {read}."


def loading(measurements, engines):
    """The table of load times and memory."""
    rows = []
    for m in measurements:
        cells = []
        for n in engines:
            e = m.engines[n]
            cells.append(f"{e.load_ms:.1f} / {e.peak_bytes / 2**20:.0f}" if e.rounds and e.peak_bytes else "–")
        rows.append([m.model, *cells])
    return lines(["model", *(NAMES[n] for n in engines)], rows)


def left_out(measurements):
    """Why engines have no time, or one that does not count; each reason once."""
    found = {}
    for m in measurements:
        for name, engine in m.engines.items():
            if engine.failed is not None:
                why = f"{NAMES[name]}: {engine.failed}"
            elif not engine.counts():
                why = f"{NAMES[name]}: its results are wrong, error {engine.error:.1e}"
            else:
                continue
            found.setdefault((m.model, why), []).append(str(m.threads))
    return [f"`{model}`, {' and '.join(counts)} thread{'' if counts == ['1'] else 's'}, {why}" for (model, why), counts in found.items()]


def lines(header, rows):
    """A Markdown table; all columns but the first are numbers."""
    table = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in table)


def number(value):
    """A ratio, or a dash."""
    return "–" if value is None else f"{value:.3f}"


def plural(count, noun):
    """A count with its noun."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
