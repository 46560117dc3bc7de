"""Say what bounds the library's times: memory, page faults, NumPy's loops or Python between them.

    python -m benchmarks.bounds            the whole grid
    python -m benchmarks.bounds --smoke    tiny shapes, to see that everything runs

For every entry: the sweeps over memory are counted, the bytes that they move are divided by the
measured copy bandwidth, and the cost of memory that is touched for the first time is added (y and
dx are new arrays). On one thread, every call of a NumPy function that is not an operator is counted
and timed, so that what is left is Python's own work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np

import numpy_norms
from numpy_norms import blocks

from .command_line import keep, measuring, parsed
from .contenders import ours
from .grid import DIRECTIONS, GRID, SMOKE, Entry, Problem
from .machine import best, copy_bandwidth, cores, setting

RESULTS = Path(__file__).parent / "results" / "bounds.json"
FUNCTIONS = ("copyto", "einsum", "empty", "zeros")
REPEATS = {"large": 7, "middle": 40, "small": 200}


class Machine(NamedTuple):
    """What moving memory costs here."""

    bandwidth: float  # bytes per second, read plus written, all cores
    first_touch: float  # seconds for each byte of new memory, on all cores
    call: float  # seconds for a call of NumPy on one element

    @classmethod
    def measured(cls, megabytes: int) -> Machine:
        """Measure both."""
        size = megabytes << 18
        old = np.zeros(size, np.float32)
        old.fill(1)
        new = best(lambda: np.empty(size, np.float32).fill(1), 5)
        touch = max(0.0, new - best(lambda: old.fill(1), 5)) / old.nbytes / cores()
        one, out = np.ones(1), np.ones(1)
        thousand = best(lambda: [np.add(one, one, out=out) for _ in range(1000)], 20)
        return cls(copy_bandwidth(megabytes), touch, thousand / 1000)


class Watch:
    """How often NumPy's functions were called, and how long that took.

    Watching costs some tenths of a microsecond for each call, which count as Python's.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.seconds = 0.0

    def wrap(self, function: Any) -> Any:
        """Return a function that does the same and is counted."""
        watch = self

        class Watched:
            def __call__(self, *arguments: Any, **options: Any) -> Any:
                start = time.perf_counter()
                try:
                    return function(*arguments, **options)
                finally:
                    watch.seconds += time.perf_counter() - start
                    watch.calls += 1

            def __getattr__(self, name: str) -> Any:
                return watch.wrap(getattr(function, name))

        return Watched()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count every call that is made by its name in `numpy`."""
        ufuncs = [name for name in dir(np) if isinstance(getattr(np, name), np.ufunc)]
        wrapped = {name: self.wrap(getattr(np, name)) for name in (*ufuncs, *FUNCTIONS)}
        with patch.multiple(np, **wrapped):
            yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Have the library work on one thread."""
    before = numpy_norms.get_num_threads()
    numpy_norms.set_num_threads(1)
    try:
        yield
    finally:
        numpy_norms.set_num_threads(before)


def sweeps(call: Callable[[], object]) -> int:
    """Return how often a call goes over the whole array."""
    with patch("numpy_norms.normalization.sweep", wraps=blocks.sweep) as counted:
        call()
    return counted.call_count


def examine(
    entry: Entry, direction: str, dtype: Any, machine: Machine, repeats: int
) -> dict[str, Any]:
    """Return the time of one pass, and what it consists of."""
    problem = Problem.of(entry)
    call = getattr(ours(problem, dtype), direction)
    call()
    size, count = problem.x.nbytes, sweeps(call)
    inputs = 1 if direction == "forward" else 2
    with one_thread():
        alone = best(call, repeats)
        seconds, calls, within = min(_watched(call) for _ in range(min(repeats, 5)))
    return {
        "norm": entry.norm,
        "shape": list(entry.shape),
        "direction": direction,
        "dtype": "default" if dtype is None else np.dtype(dtype).name,
        "seconds": best(call, repeats),
        "seconds on one thread": alone,
        "sweeps": count,
        "bytes": (inputs * count + 1) * size,
        "seconds of copying": (inputs * count + 1) * size / machine.bandwidth,
        "seconds of first touch": size * machine.first_touch,
        "calls": calls,
        "seconds of calls": calls * machine.call,
        "share in NumPy": within / seconds,
    }


def _watched(call: Callable[[], object]) -> tuple[float, int, float]:
    """Return the seconds that a pass takes, its calls of NumPy, and the seconds within them."""
    watch = Watch()
    with watch.watching():
        seconds = best(call, 1)
    return seconds, watch.calls, watch.seconds


def verdict(row: dict[str, Any]) -> str:
    """Name the largest part of a time."""
    memory = row["seconds of copying"] + row["seconds of first touch"]
    if memory > row["seconds"] / 2:
        return "memory"
    return "NumPy's loops" if row["share in NumPy"] > 0.5 else "calls from Python"


def line(row: dict[str, Any]) -> str:
    """Return a row of the printed table."""
    what = f"{row['norm']} {'x'.join(map(str, row['shape']))} {row['direction']}"
    times = ("seconds", "seconds on one thread", "seconds of copying", "seconds of first touch")
    return (
        f"{what:31} {row['dtype']:8}"
        + "".join(f"{1e3 * row[name]:9.2f}" for name in times)
        + f"{row['sweeps']:8}{row['calls']:8}{row['share in NumPy']:9.0%}  {verdict(row)}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = measuring("bounds", __doc__, RESULTS, smoke="tiny shapes")
    parser.add_argument("--sizes", nargs="+", choices=list(REPEATS), default=list(REPEATS))
    options = parsed(parser, arguments)
    machine = Machine.measured(8 if options.smoke else 256)
    where = setting() | {
        "copy bandwidth, GB/s": round(machine.bandwidth / 1e9, 1),
        "first touch, ms for each MB": round(1e9 * machine.first_touch, 3),
        "least call of NumPy, us": round(1e6 * machine.call, 2),
    }
    print(*(f"{key}: {value}" for key, value in where.items()), sep="\n")
    print(f"\n{'ms':40}{'time':>9}{'1 thread':>9}{'copying':>9}{'1st touch':>10}", end="")
    print(f"{'sweeps':>7}{'calls':>8}{'in NumPy':>9}  bound by")
    rows = []
    for size in options.sizes:
        for entry in (SMOKE if options.smoke else GRID)[size]:
            for direction in DIRECTIONS:
                for dtype in (np.float32, None):
                    repeats = 1 if options.smoke else REPEATS[size]
                    row = {"size": size} | examine(entry, direction, dtype, machine, repeats)
                    rows.append(row | {"bound by": verdict(row)})
                    print(line(row), flush=True)
    keep(options, where, rows=rows)


if __name__ == "__main__":
    main()
