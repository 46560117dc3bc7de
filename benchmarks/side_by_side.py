"""Time this library beside what a user would pick instead; print a table, write JSON and a plot.

    python -m benchmarks.side_by_side            the whole grid, some minutes
    python -m benchmarks.side_by_side --smoke    tiny shapes, to see that everything runs

The runs are interleaved: every round gives each contender one turn, in a new random order. A turn
is one call that is not timed, so that the caches hold the contender's own data as far as they can,
and then timed calls. Of the rounds the minimum and the median are kept.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .command_line import keep, measuring, parsed
from .contenders import CONTENDERS, DEFAULT, FLOAT32, TORCH, Call, Contender, installed
from .grid import DIRECTIONS, GRID, SMOKE, Entry, Problem
from .machine import copy_bandwidth, setting, warn_if_busy
from .summary import Result, aims

RESULTS = Path(__file__).parent / "results" / "side_by_side.json"
ROUNDS = {"large": 15, "middle": 60, "small": 100}
TURN = {"large": 0.0, "middle": 4e-3, "small": 2e-3}  # seconds that a turn lasts at least
UNITS = {"large": (1e3, "ms"), "middle": (1e3, "ms"), "small": (1e6, "us")}


def seconds_per_call(call: Call, calls: int) -> float:
    """Return the average time of a few calls in a row, after one that is not timed."""
    call()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def interleaved(calls: dict[str, Call], rounds: int, turn: float) -> dict[str, dict[str, float]]:
    """Return the minimum and the median time of each call, in seconds."""
    lengths = {
        name: max(1, round(turn / min(seconds_per_call(call, 1) for _ in range(3))))
        for name, call in calls.items()
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    order, shuffle = list(calls), random.Random(0).shuffle
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            shuffle(order)
            for name in order:
                times[name].append(seconds_per_call(calls[name], lengths[name]))
    finally:
        gc.enable()
    return {name: {"min": min(t), "median": statistics.median(t)} for name, t in times.items()}


def measure(
    size: str, entry: Entry, contenders: Sequence[Contender], rounds: int, turn: float
) -> list[Result]:
    """Return the results of one entry of the grid, forward and backward."""
    problem = Problem.of(entry)
    ready = {c.name: c.prepare(problem) for c in contenders}
    results = []
    for direction in DIRECTIONS:
        calls = {name: call for name, both in ready.items() if (call := getattr(both, direction))}
        times = interleaved(calls, rounds, turn)
        results.append(
            {
                "size": size,
                "norm": entry.norm,
                "shape": list(entry.shape),
                "direction": direction,
                "rounds": rounds,
                "times": times,
            }
        )
    return results


def row(result: Result, names: Sequence[str], which: str = "min") -> str:
    """Return one line of the table: every time, and the two ratios to PyTorch."""
    scale, unit = UNITS[result["size"]]
    times = result["times"]
    cells = [f"{scale * times[n][which]:10.2f}" if n in times else f"{'-':>10}" for n in names]
    if TORCH in times:
        cells += [f"{times[n][which] / times[TORCH][which]:10.2f}" for n in (FLOAT32, DEFAULT)]
    what = f"{result['norm']} {'x'.join(map(str, result['shape']))} {result['direction']}"
    return f"{what:31} {unit}" + "".join(cells)


def heading(names: Sequence[str]) -> str:
    """Return the two lines above the rows."""
    words = [("", *name.replace("numpy_norms", "ours").split())[-2:] for name in names]
    columns = [*words, ("float32", "/PyTorch"), ("ours", "/PyTorch")]
    return "\n".join(" " * 34 + "".join(f"{c[i]:>10}" for c in columns) for i in (0, 1))


def run(options: argparse.Namespace) -> tuple[dict[str, Any], list[Result]]:
    """Measure, printing as it goes; return where that was, and the results."""
    contenders = installed()
    names = [c.name for c in contenders]
    missing = [c.name for c in CONTENDERS if c.name not in names]
    grid = SMOKE if options.smoke else GRID
    where = setting(dict.fromkeys(c.package for c in contenders if c.package != "numpy"))
    where["copy bandwidth, GB/s"] = round(copy_bandwidth(8 if options.smoke else 256) / 1e9, 1)
    where["not installed"] = missing
    for key, value in where.items():
        print(f"{key}: {value}")
    warn_if_busy(where)
    results: list[Result] = []
    for size in options.sizes:
        rounds = 2 if options.smoke else max(2, round(ROUNDS[size] * options.rounds))
        print(f"\n{size}, best of {rounds} rounds\n{heading(names)}", flush=True)
        for entry in grid[size]:
            turn = 0.0 if options.smoke else TURN[size]
            for result in measure(size, entry, contenders, rounds, turn):
                print(row(result, names), flush=True)
                results.append(result)
    return where, results


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = measuring("side_by_side", __doc__, RESULTS, smoke="tiny shapes, two rounds")
    parser.add_argument("--sizes", nargs="+", choices=list(GRID), default=list(GRID))
    parser.add_argument("--rounds", type=float, default=1.0, help="times the usual number")
    options = parsed(parser, arguments)
    where, results = run(options)
    if not options.smoke:
        print("\nBy the minima:", *aims(results), sep="\n  ")
        print("By the medians:", *aims(results, "median"), sep="\n  ")
    report = keep(options, where, results=results)
    draw(report, options.json.with_suffix(".svg"))


def draw(report: dict[str, Any], path: Path) -> None:
    """Write the plot of a run, if matplotlib is installed."""
    try:
        from .pictures import side_by_side
    except ImportError as error:
        print(f"no plot: {error}", file=sys.stderr)
        return
    path.write_text(side_by_side(report).file_text("#1f2328") + "\n", encoding="utf-8")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
