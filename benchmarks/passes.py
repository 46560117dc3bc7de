"""Time the passes over an array that a layer norm is made of, beside PyTorch's whole layer norm.

    python -m benchmarks.passes

NumPy computes one operation at a time, each a pass over the block; a compiled kernel reads an
element once and does everything with it. So the sum of the passes is the least that a norm written
in NumPy can take. All is timed on one thread, on arrays that fit the cache, interleaved.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .command_line import keep, measuring, parsed
from .grid import Entry, Problem
from .machine import setting, warn_if_busy
from .side_by_side import interleaved

RESULTS = Path(__file__).parent / "results" / "passes.json"
SHAPE = (128, 768)
ROUNDS = 60
TURN = 2e-3  # seconds
WHOLE = "PyTorch's layer norm"

# The forward pass of a layer norm, in the order in which the passes are made; in float32 of a mean
# that is near zero, in standard deviations.
PASSES = {
    "float32": (
        "average",
        "subtract the mean",
        "average of squares",
        "times rstd",
        "times gamma",
        "plus beta",
    ),
    "float64": (
        "cast and subtract the pivot",
        "average",
        "subtract the rest",
        "average of squares",
        "times rstd",
        "times gamma",
        "plus beta and round",
    ),
}


def calls(dtype: str, problem: Problem) -> dict[str, Any]:
    """Return each pass as a call."""
    x, work = problem.x, np.dtype(dtype)
    gamma, beta = problem.gamma.astype(work), problem.beta.astype(work)
    a, own, y = x.astype(work), np.empty(x.shape, work), np.empty_like(x)
    ones, each = np.ones(x.shape[1], work), np.ones((len(x), 1), work)
    subtract = lambda: np.subtract(a, each, out=own)  # noqa: E731
    return {
        "average": lambda: np.vecdot(a, ones),
        "average of squares": lambda: np.vecdot(a, a),
        "cast and subtract the pivot": lambda: np.subtract(x, each, out=own),
        "subtract the mean": subtract,
        "subtract the rest": subtract,
        "times rstd": lambda: np.multiply(a, each, out=own),
        "times gamma": lambda: np.multiply(gamma, a, out=own),
        "plus beta": lambda: np.add(a, beta, out=own),
        "plus beta and round": lambda: np.add(a, beta, out=y),
    }


def measure(rounds: int) -> list[dict[str, Any]]:
    """Return ns for each element: every pass, and PyTorch's whole norm."""
    import torch

    problem = Problem.of(Entry("layer", SHAPE))
    tensors = [torch.tensor(a) for a in problem.arguments]
    rows = []
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with np.errstate(all="ignore"):
        np.setbufsize(SHAPE[1])  # as the library does
        for dtype, passes in PASSES.items():
            every = calls(dtype, problem)
            timed = {name: every[name] for name in passes}
            timed[WHOLE] = lambda: torch.nn.functional.layer_norm(
                tensors[0], SHAPE[1:], *tensors[1:]
            )
            times = interleaved(timed, rounds, TURN)
            ns = {name: 1e9 * t["min"] / problem.x.size for name, t in times.items()}
            rows.append({"dtype": dtype, "ns": ns, "sum": sum(ns[name] for name in passes)})
    torch.set_num_threads(before)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = measuring("passes", __doc__, RESULTS, smoke="two rounds")
    options = parsed(parser, arguments)
    where = setting(["torch"])
    warn_if_busy(where)
    rows = measure(2 if options.smoke else ROUNDS)
    for row in rows:
        print(f"\n{row['dtype']}, ns for each element")
        for name, ns in row["ns"].items():
            print(f"  {name:28}{ns:6.2f}")
        print(f"  {'sum of the passes':28}{row['sum']:6.2f}")
    keep(options, where, rows=rows)


if __name__ == "__main__":
    main()
