"""Time this library on one thread over straight NumPy code, which shows what NumPy itself allows.

    python -m benchmarks.straight            the whole grid, some minutes
    python -m benchmarks.straight --smoke    tiny shapes, to see that everything runs

The code is in `straight_norms.py`: the same norms at the same accuracy, with no checks and nothing
else that can be left out. That it computes the same is looked at first. A bound is shown by such
code if nobody can make it faster.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import numpy_norms

from . import straight_norms as norms
from .command_line import keep
from .contenders import DEFAULT, FLOAT32, OURS, Calls, Contender, plain
from .grid import Entry, Problem
from .machine import setting, warn_if_busy
from .side_by_side import asked, run

RESULTS = Path(__file__).parent / "results" / "straight.json"
PAIRS = ((FLOAT32, "straight float32"), (DEFAULT, "straight"))
# In one block and in several, with rows that have to be cut, and numbers that nothing divides.
CHECKED = (
    Entry("layer", (1, 300)),
    Entry("layer", (701, 1290)),
    Entry("rms", (7, 331)),
    Entry("rms", (300, 3100)),
    Entry("group", (1, 16, 7, 5)),
    Entry("group", (9, 32, 61, 53)),
    Entry("instance", (5, 6, 19, 23)),
    Entry("instance", (9, 31, 61, 53)),
    Entry("batch", (1, 3, 31, 7)),
    Entry("batch", (9, 31, 61, 53)),
    Entry("batch", (31, 70)),
    Entry("batch", (9001, 99)),
)
RATIOS = (1 / 3, 100.0)  # mean / standard deviation
FLOAT32_ERROR = 1e-6  # of the largest value
ROUNDING = 2.0**-24  # of the value itself, if it is correctly rounded


def straight(problem: Problem, dtype: Any) -> Calls:
    """Set up the straight code in one of the two modes."""
    (norm, shape), x, gamma, beta, dy = problem
    work = np.dtype(dtype)
    how: tuple[str, ...] = (norm,)
    forward: Any
    backward: Any
    if norm in ("layer", "rms"):
        forward, backward, how = norms.rows_forward, norms.rows_backward, ()
    elif len(shape) == 2:
        forward, backward, how = norms.columns_forward, norms.columns_backward, ()
    else:
        forward, backward = norms.maps_forward, norms.maps_backward
    arguments = x, gamma, None if norm == "rms" else beta, work, *how
    _, stats = forward(*arguments)
    return Calls(lambda: forward(*arguments)[0], lambda: backward(dy, x, gamma, work, *how, stats))


STRAIGHT = (
    Contender("straight float32", "numpy", partial(straight, dtype=np.float32)),
    Contender("straight", "numpy", partial(straight, dtype=np.float64)),
)


def check(entry: Entry, ratio: float) -> Iterator[str]:
    """Yield what of the straight code is not the textbook formula in float64, to rounding."""
    problem = Problem.of(entry, mean=ratio)
    calls = plain(Problem(entry, *(a.astype(np.float64) for a in problem[1:])))
    expected = [calls.forward(), *calls.backward()]
    for contender in STRAIGHT:
        with np.errstate(all="ignore"):  # far from zero, the first try may fail
            calls = contender.prepare(problem)
            got = [calls.forward(), *calls.backward()]
        names = ("y", "dx", "dgamma", "dbeta")
        for name, value, truth in zip(names, got, expected, strict=False):
            size = np.abs(truth).max()
            allowed = FLOAT32_ERROR * size
            if contender.name == "straight":
                allowed = 1.001 * ROUNDING * np.abs(truth) + 1e-12 * ratio * size
            worst = float((np.abs(value - truth) / allowed).max())
            if not worst <= 1:
                yield f"{entry}, mean/std {ratio:g}: {contender.name}, {name}: {worst:.2f} allowed"


@contextmanager
def one_thread() -> Iterator[None]:
    """Have the library work on one thread."""
    before = numpy_norms.get_num_threads()
    numpy_norms.set_num_threads(1)
    try:
        yield
    finally:
        numpy_norms.set_num_threads(before)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    options = asked("straight", __doc__, RESULTS, arguments)
    wrong = [line for entry in CHECKED for ratio in RATIOS for line in check(entry, ratio)]
    if wrong:
        raise SystemExit("the straight code is wrong:\n  " + "\n  ".join(wrong))
    with one_thread():
        where = setting()
        warn_if_busy(where)
        keep(options, where, results=run(options, (*OURS, *STRAIGHT), PAIRS))


if __name__ == "__main__":
    main()
