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
from .contenders import CONTENDERS, DEFAULT, FLOAT32, PLAIN, TORCH, Call, Contender, installed
from .grid import DIRECTIONS, GRID, SMOKE, Entry, Problem
from .machine import setting, warn_if_busy
from .summary import Pair, Result, means

RESULTS = Path(__file__).parent / "results" / "side_by_side.json"
ROUNDS = {"large": 15, "middle": 60, "small": 100}
TURN = {"large": 0.0, "middle": 4e-3, "small": 2e-3}  # seconds that a turn lasts at least
PAIRS = tuple((name, other) for other in (TORCH, PLAIN) for name in (FLOAT32, DEFAULT))


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
    what = {"size": size, "norm": entry.norm, "shape": list(entry.shape), "rounds": rounds}
    return [
        what
        | {
            "direction": direction,
            "times": interleaved(
                {name: getattr(calls, direction) for name, calls in ready.items()}, rounds, turn
            ),
        }
        for direction in DIRECTIONS
    ]


def run(
    options: argparse.Namespace, contenders: Sequence[Contender], pairs: Sequence[Pair]
) -> list[Result]:
    """Measure, printing times in milliseconds and ratios as it goes; return the results."""
    grid = SMOKE if options.smoke else GRID
    columns = [*(c.name for c in contenders), *(" / ".join(pair) for pair in pairs)]
    print("\nms, and ratios of the minima:", *columns, sep="\n  ")
    results: list[Result] = []
    for size in options.sizes:
        rounds = 2 if options.smoke else max(2, round(ROUNDS[size] * options.rounds))
        print(f"\n{size}, best of {rounds} rounds", flush=True)
        for entry in grid[size]:
            turn = 0.0 if options.smoke else TURN[size]
            for result in measure(size, entry, contenders, rounds, turn):
                print(row(result, pairs), flush=True)
                results.append(result)
    print("\nGeometric means", *means(results, pairs), sep="\n")
    return results


def row(result: Result, pairs: Sequence[Pair]) -> str:
    """Return one line of the table."""
    least = {name: t["min"] for name, t in result["times"].items()}
    cells = [f"{1e3 * t:10.4g}" for t in least.values()]
    cells += [f"{least[a] / least[b]:7.2f}" for a, b in pairs if a in least and b in least]
    what = f"{result['norm']} {'x'.join(map(str, result['shape']))} {result['direction']}"
    return f"{what:31}" + "".join(cells)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    options = asked("side_by_side", __doc__, RESULTS, arguments)
    contenders = installed()
    where = setting(dict.fromkeys(c.package for c in contenders if c.package != "numpy"))
    names = [c.name for c in contenders]
    where["not installed"] = [c.name for c in CONTENDERS if c.name not in names]
    print(*(f"{key}: {value}" for key, value in where.items()), sep="\n")
    warn_if_busy(where)
    report = keep(options, where, results=run(options, contenders, PAIRS))
    draw(report, options.json.with_suffix(".svg"))


def asked(
    name: str, description: str | None, results: Path, arguments: Sequence[str] | None
) -> argparse.Namespace:
    """Return the options of a program that goes over the grid."""
    parser = measuring(name, description, results, smoke="tiny shapes, two rounds")
    parser.add_argument("--sizes", nargs="+", choices=list(GRID), default=list(GRID))
    parser.add_argument("--rounds", type=float, default=1.0, help="times the usual number")
    return parsed(parser, arguments)


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
