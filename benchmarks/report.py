"""Write the measured figures into docs/performance.md, from the JSON in benchmarks/results.

    python -m benchmarks.report              the page from the JSON that is there
    python -m benchmarks.report --measure    measure everything anew before that: 15 minutes
    python -m benchmarks.report --check      fail if the page and the JSON differ

On the page every generated part stands between two comments; the text between them is replaced.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from . import accuracy, memory, side_by_side, straight
from .command_line import program
from .contenders import DEFAULT, FLOAT32, PLAIN, TORCH
from .grid import DIRECTIONS, GRID
from .machine import IDLE
from .memory_cases import MIB
from .summary import geometric_mean, ratios

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
SOURCES = {
    "side_by_side": side_by_side,
    "straight": straight,
    "accuracy": accuracy,
    "memory": memory,
}
Report = dict[str, Any]
MODES = {"float32": FLOAT32, "default": DEFAULT}


def machine(side: Report, alone: Report) -> str:
    """Say when, where and with what the times were taken."""
    where = side["setting"]
    versions = ", ".join(f"{name} {v}" for name, v in where["versions"].items())
    variables = ", ".join(f"{k}={v}" for k, v in where["thread variables"].items()) or "none"
    loads = [report["setting"]["load average at the start"] for report in (side, alone)]
    busy = bool(max(loads) > IDLE or side["smoke"] or alone["smoke"])
    return (
        f"Measured on {where['date']}: {where['processor']}, {where['cores']} cores, "
        f"{where['memory, GB']:g} GB, {where['system']}, Python {where['python']}, "
        f"BLAS {where['blas']}; numpy_norms {where['numpy_norms']} on "
        f"{where['numpy_norms threads']} threads, {versions}. Thread variables set: {variables}. "
        f"Load average at the start: {loads[0]:g}, and {loads[1]:g} for the last column of times."
        + " **Something else was running: these times say little.**"
        * busy
    )


def figures(side: Report, alone: Report, space: Report) -> str:
    """Return the table: geometric means over the entries of a size, and the most memory."""

    def cells(size: str, mode: str) -> Iterable[str]:
        yield f"{size}, {mode}"
        own = MODES[mode]
        for other in (TORCH, PLAIN):
            yield f"{geometric_mean(ratios(side['results'], (own, other), size)):.2f}"
        pair = next(pair for pair in straight.PAIRS if pair[0] == own)
        yield f"{geometric_mean(ratios(alone['results'], pair, size)):.2f}"
        yield f"{most_memory(space, size, mode):.1f}"

    header = ["", f"ours / {TORCH}", "ours / formula", "ours / straight", "MiB beside outputs"]
    rows = [list(cells(size, mode)) for size in GRID for mode in MODES]
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def most_memory(space: Report, size: str, mode: str) -> float:
    """Return the most MiB that a pass allocates beside its outputs, over the entries of a size."""
    rows = [r for r in space["allocations"] if (r["size"], r["dtype"]) == (size, mode)]
    return float(max(r[d]["traced"] for r in rows for d in DIRECTIONS) / MIB)


def exactness(report: Report) -> str:
    """Return the least share of correctly rounded results over all norms and ratios."""
    names = dict.fromkeys(r["contender"] for r in report["rows"])

    def told(name: str) -> str:
        rows = [r for r in report["rows"] if r["contender"] == name]
        least = (min(r[key]["share"] for r in rows) for key in ("y", "dx"))
        y, dx = (math.floor(1e6 * share) / 1e4 for share in least)  # 100 only if all are
        return f"{name} {y:g} % of y and {dx:g} % of dx"

    return f"The least over all norms and ratios: {'; '.join(map(told, names))}."


def beyond(space: Report) -> str:
    """Say what was allocated at 1 GiB, and how it went with a file larger than the limit."""
    most = {mode: most_memory(space, "1 GiB", mode) for mode in MODES}
    told = " and ".join(f"{mib:.1f} MiB in {mode}" for mode, mib in most.items())
    slowest = max(sum(r["seconds"].values()) for r in space["file"])
    first = space["file"][0]
    right = all(all(r["right"].values()) and all(r["refused"].values()) for r in space["file"])
    return (
        f"For arrays of 1 GiB it was at most {told}. A file of {first['bytes'] / MIB:.0f} MiB took "
        f"a process that may allocate {first['limit'] / MIB:.0f} MiB at most {slowest:.0f} seconds "
        f"for both passes; {'all results were right' if right else '**it went wrong**'}."
    )


def parts(reports: dict[str, Report]) -> dict[str, str]:
    """Return the text of every generated part of the page."""
    side, alone, space = (reports[name] for name in ("side_by_side", "straight", "memory"))
    return {
        "machine": machine(side, alone),
        "figures": figures(side, alone, space),
        "exactness": exactness(reports["accuracy"]),
        "beyond": beyond(space),
    }


def filled(page: str, texts: dict[str, str]) -> str:
    """Return the page with every generated part replaced; each must be there once."""
    for name, text in texts.items():
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
    new = filled(page, parts(reports))
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
