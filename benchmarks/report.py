"""Write the measured figures into docs/performance.md, from the JSON in benchmarks/results.

    python -m benchmarks.report              the page from the JSON that is there
    python -m benchmarks.report --measure    measure everything anew before that: half an hour
    python -m benchmarks.report --check      fail if the page and the JSON differ

On the page every table stands between two comments; the text between them is replaced.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from . import accuracy, bounds, memory, passes, side_by_side
from .command_line import program
from .contenders import CONTENDERS, DEFAULT, FLOAT32, FLOOR, PLAIN, TORCH
from .grid import DIRECTIONS, GRID
from .machine import IDLE
from .memory import PER_THREAD
from .memory_cases import MIB
from .summary import aims, exceptions, geometric_mean, ratios

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
SOURCES = {
    "side_by_side": side_by_side,
    "bounds": bounds,
    "passes": passes,
    "accuracy": accuracy,
    "memory": memory,
}
Report = dict[str, Any]
SHORT = {FLOAT32: "float32", DEFAULT: "default", "PyTorch recording": "recording"}
SHORT |= {"plain NumPy": "plain", "ONNX reference": "ONNX", "HIPS autograd": "autograd"}
SHORT |= {"memory floor": "floor"}


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table; the first column is text, the others are to the right."""
    # What stands in the first column is not broken, nor is a number from its sign.
    unbroken = [[str(cell).replace(" ", "\u00a0") for cell in row[:1]] + [*row[1:]] for row in rows]
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *unbroken]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def machine(report: Report) -> str:
    """Say when, where and with what a run was made."""
    where = report["setting"]
    versions = ", ".join(f"{name} {v}" for name, v in where["versions"].items())
    missing = ", ".join(where.get("not installed", [])) or "nothing"
    variables = ", ".join(f"{k}={v}" for k, v in where["thread variables"].items()) or "none"
    busy = bool(where["load average at the start"] > IDLE)
    return (
        f"Measured on {where['date']}: {where['processor']}, {where['cores']} cores, "
        f"{where['memory, GB']:g} GB, {where['system']}, Python {where['python']}, "
        f"BLAS {where['blas']}; numpy_norms {where['numpy_norms']} on "
        f"{where['numpy_norms threads']} threads, {versions}. Not installed: {missing}. "
        f"Thread variables set: {variables}. Copy bandwidth, read plus written: "
        f"{where['copy bandwidth, GB/s']:g} GB/s. "
        f"Load average at the start: {where['load average at the start']:g}."
        + " **Something else was running: these times say little.**"
        * busy
    )


def aimed_at(report: Report) -> str:
    """Return the table of aims, reached or not."""
    results = report["results"]
    both = zip(aims(results), aims(results, "median"), strict=True)
    rows = [
        [
            _short(least.what),
            f"{least.measured:.2f}",
            f"{median.measured:.2f}",
            f"{'≤' if least.sign == '<=' else '≥'}\u00a0{least.target:g}",
            "yes" if least.reached else "**no**",
        ]
        for least, median in both
    ]
    return table(["figure", "by minima", "by medians", "aim", "reached"], rows)


def plain_beside(report: Report) -> str:
    """Return the geometric means of the plain formula and the floor over PyTorch."""
    rows = [
        [
            f"{size}: {SHORT[name]} / {TORCH}, mean",
            *[
                f"{geometric_mean(ratios(report['results'], name, TORCH, size, which)):.2f}"
                for which in ("min", "median")
            ],
        ]
        for size in GRID
        for name in (PLAIN, FLOOR)
    ]
    return table(["for comparison", "by minima", "by medians"], rows)


def exceptional(report: Report) -> str:
    """Return the entries that are above a limit for every entry."""
    rows = [
        [f"{_what(r)} {r['direction']}", _short(what), f"{ratio:.2f}"]
        for r, what, ratio in exceptions(report["results"])
    ]
    return table(["entries above a limit, by minima", "", ""], rows) if rows else "None."


def times(report: Report, size: str) -> str:
    """Return the table of one size: the minimum of every contender's times."""
    scale, unit = side_by_side.UNITS[size]
    results = [r for r in report["results"] if r["size"] == size]
    names = [c.name for c in CONTENDERS if any(c.name in r["times"] for r in results)]
    shares = [n for n in (FLOAT32, DEFAULT) if TORCH in names]

    def cells(r: Report) -> Iterable[str]:
        yield f"{_what(r)} {r['direction']}"
        for name in shares:
            yield f"{r['times'][name]['min'] / r['times'][TORCH]['min']:.2f}"
        for name in names:
            yield f"{scale * r['times'][name]['min']:.3g}" if name in r["times"] else "–"

    header = [f"{SHORT[name]} / {TORCH}" for name in shares]
    header = [f"{size}, {unit}", *header, *[SHORT.get(name, name) for name in names]]
    return table(header, [list(cells(r)) for r in results])


def costs(report: Report) -> str:
    """Return what moving memory and calling NumPy cost."""
    where = report["setting"]
    return (
        f"Copy bandwidth {where['copy bandwidth, GB/s']:g} GB/s, first touch "
        f"{where['first touch, ms for each MB']:g} ms for each MB, the least call of NumPy "
        f"{where['least call of NumPy, us']:g} us."
    )


def bounding(report: Report, size: str) -> str:
    """Return the table that says what bounds the times of one size."""
    scale, unit = side_by_side.UNITS[size]
    times = ("seconds", "seconds on one thread")
    parts = ("seconds of copying", "seconds of first touch")
    rows = [
        [
            f"{_what(r)} {r['direction']} {r['dtype']}",
            *[f"{scale * r[name]:.3g}" for name in times],
            r["sweeps"],
            f"{r['bytes'] / 1e6:.2g}",
            *[f"{scale * r[name]:.2g}" for name in parts],
            r["calls"],
            f"{scale * r['seconds of calls']:.2g}",
            f"{100 * r['share in NumPy']:.0f} %",
            r["bound by"],
        ]
        for r in report["rows"]
        if r["size"] == size
    ]
    header = [f"{size}, time in {unit}", "time", "one thread", "sweeps", "MB moved"]
    header += ["copying them", "first touch", "calls of NumPy", "at the least", "share in them"]
    return table([*header, "bound by"], rows)


def passing(report: Report) -> str:
    """Return the table of the passes that a layer norm is made of."""
    lines = []
    for row in report["rows"]:
        whole = row["ns"][passes.WHOLE]
        names = passes.PASSES[row["dtype"]]
        lines += [[f"{row['dtype']}: {name}", f"{row['ns'][name]:.2f}"] for name in names]
        lines.append([f"**{row['dtype']}: all passes**", f"**{row['sum']:.2f}**"])
        lines.append([f"{passes.WHOLE}, in the same rounds", f"{whole:.2f}"])
        lines.append(["all passes / PyTorch", f"{row['sum'] / whole:.1f}"])
    return table(["forward pass of a layer norm, one thread", "ns for each element"], lines)


def exactness(report: Report) -> str:
    """Return the shares of correctly rounded results of layer norm, by mean / std."""
    rows = [r for r in report["rows"] if r["norm"] == "layer"]
    names = list(dict.fromkeys(r["contender"] for r in rows))
    found = {(r["ratio"], r["contender"]): r for r in rows}

    def cells(ratio: float, key: str) -> Iterable[str]:
        yield f"{key}, {ratio:g}"
        for name in names:
            figures = found[ratio, name][key]
            yield f"{_percent(figures['share'])}, {figures['largest error']:.0e}"

    lines = [list(cells(ratio, key)) for key in ("y", "dx") for ratio in report["ratios"]]
    return table(["layer norm; mean / std", *names], lines)


def exactness_of_all(report: Report) -> str:
    """Return, for every norm, the least share over all ratios, and the share over all of them."""
    norms = list(dict.fromkeys(r["norm"] for r in report["rows"]))
    names = list(dict.fromkeys(r["contender"] for r in report["rows"]))

    def least(norm: str, name: str) -> str:
        rows = [r for r in report["rows"] if (r["norm"], r["contender"]) == (norm, name)]
        return ", ".join(_percent(min(r[key]["share"] for r in rows)) for key in ("y", "dx"))

    lines = [[norm, *[least(norm, name) for name in names]] for norm in norms]
    return table(["least share of y, of dx", *names], lines)


def allocations(report: Report) -> str:
    """Return what is allocated beside the outputs, by shape and size."""
    sizes = sorted({r["MiB"] for r in report["allocations"]})
    groups: dict[tuple[str, str], list[Report]] = {}
    for r in report["allocations"]:
        groups.setdefault((r["family"], r["dtype"]), []).append(r)

    def cells(rows: list[Report]) -> Iterable[str]:
        for direction in DIRECTIONS:
            for r in sorted(rows, key=lambda r: float(r["MiB"])):
                part = r[direction]
                traced = part["traced"] / MIB / r["threads"]
                resident = part["resident"]
                seen = "" if resident is None else f" ({resident / MIB / r['threads']:.1f})"
                mark = "**" if part["traced"] > PER_THREAD * r["threads"] else ""
                yield f"{mark}{traced:.1f}{mark}{seen}"

    header = [f"{d}, x of {size:g} MiB" for d in DIRECTIONS for size in sizes]
    lines = [[f"{family}, {dtype}", *cells(rows)] for (family, dtype), rows in groups.items()]
    return table(["MiB for each thread", *header], lines)


def larger_than_memory(report: Report) -> str:
    """Return how it went with a file larger than the memory limit."""
    rows = report["file"]
    first = rows[0]
    lines = [
        [
            f"{r['norm']}, {r['dtype']}",
            *[f"{r['seconds'][d]:.1f}" for d in DIRECTIONS],
            ", ".join(name for name, refused in r["refused"].items() if refused) or "nothing",
            "; ".join(f"{name}: {'yes' if ok else '**no**'}" for name, ok in r["right"].items()),
        ]
        for r in rows
    ]
    header = "", "forward, s", "backward, s", "refused for want of memory", "checked"
    return (
        f"A file of {first['bytes'] / MIB:.0f} MiB, a limit of {first['limit'] / MIB:.0f} MiB.\n\n"
        + table(header, lines)
    )


def growth(report: Report) -> str:
    """Return the time for each element by the size of x."""
    groups: dict[str, dict[float, float]] = {}
    for r in report["cost"]:
        name = f"{r['norm']}, {r['dtype']}, {r['direction']}"
        groups.setdefault(name, {})[r["bytes"]] = 4e9 * r["seconds"] / r["bytes"]
    sizes = sorted({round(size / MIB) for found in groups.values() for size in found})
    lines = [[name, *[f"{t:.2f}" for t in found.values()]] for name, found in groups.items()]
    return table(["ns for each element", *[f"{size} MiB" for size in sizes]], lines)


def _percent(share: float) -> str:
    text = f"{100 * share:.3g}"
    return f"{100 * share:.4f} %" if text == "100" and share < 1 else f"{text} %"


def _short(text: str) -> str:
    for long, short in {**SHORT, "geometric mean": "mean", "worst entry": "worst"}.items():
        text = text.replace(long, short)
    return text


def _what(row: Report) -> str:
    return f"{row['norm']} {'×'.join(map(str, row['shape']))}"


def blocks(reports: dict[str, Report]) -> dict[str, str]:
    """Return the text of every generated part of the page."""
    side, exact, space = (reports[name] for name in ("side_by_side", "accuracy", "memory"))
    return {
        "machine": machine(side),
        "aims": aimed_at(side),
        "comparison": plain_beside(side),
        "exceptions": exceptional(side),
        **{f"times {size}": times(side, size) for size in GRID},
        "costs": costs(reports["bounds"]),
        **{f"bounds {size}": bounding(reports["bounds"], size) for size in GRID},
        "passes": passing(reports["passes"]),
        "accuracy layer": exactness(exact),
        "accuracy all": exactness_of_all(exact),
        "allocations": allocations(space),
        "file": larger_than_memory(space),
        "cost": growth(space),
    }


def filled(page: str, parts: dict[str, str]) -> str:
    """Return the page with every generated part replaced; each must be there once."""
    for name, text in parts.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        head, found, rest = page.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed or begin in tail:
            raise ValueError(f"the page has no one part {name!r}; put {begin.strip()} and {end} in")
        page = f"{head}{begin}\n{text}\n\n{end}{tail}"
    return page


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = program("report", __doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--measure", action="store_true", help="measure everything anew")
    what.add_argument("--check", action="store_true", help="change nothing, compare")
    options = parser.parse_args(arguments)
    if options.measure:
        for module in SOURCES.values():
            module.main([])
    reports = {name: json.loads(module.RESULTS.read_text()) for name, module in SOURCES.items()}
    page = PAGE.read_text(encoding="utf-8")
    new = filled(page, blocks(reports))
    if options.check:
        if new != page:
            sys.exit(
                "docs/performance.md is not what the JSON says; run `python -m benchmarks.report`"
            )
        return
    PAGE.write_text(new, encoding="utf-8")
    print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
