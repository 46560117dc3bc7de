"""Count the correctly rounded float32 results against mean / standard deviation.

    python -m benchmarks.accuracy            five norms, mean / std from 0 to 1e6
    python -m benchmarks.accuracy --smoke    two ratios, to see that everything runs

The truth is 106-bit arithmetic (`numpy_norms.oracle`). A result is correctly rounded if neither
of its neighbours in float32 is nearer to the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from numpy_norms.oracle.double_double import Pair
from numpy_norms.oracle.reference import evaluate

from .command_line import keep, measuring, parsed
from .contenders import installed
from .grid import EPS, NUM_GROUPS, Array, Entry, Problem
from .machine import setting

RESULTS = Path(__file__).parent / "results" / "accuracy.json"
RATIOS = (0.0, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6)
ENTRIES = (
    Entry("layer", (256, 1024)),
    Entry("rms", (256, 1024)),
    Entry("group", (8, 64, 24, 24)),
    Entry("instance", (8, 64, 24, 24)),
    Entry("batch", (8, 64, 24, 24)),
)


def largest_error(got: Array, exact: Pair) -> float:
    """Return the largest error, as a multiple of the root mean square of the true values."""
    return float(exact.error(got).max() / np.sqrt(np.mean(exact.hi**2)))


def measure(entry: Entry, ratios: Sequence[float]) -> Iterator[dict[str, Any]]:
    """Yield the figures of every contender at every ratio."""
    for ratio in ratios:
        problem = Problem.of(entry, seed=1, mean=ratio)
        norm = f"{entry.norm}_norm"
        exact = evaluate(norm, problem.named, problem.dy, num_groups=NUM_GROUPS, eps=EPS)
        for contender in installed():
            calls = contender.prepare(problem)
            got = {"y": _result(calls.forward), "dx": _result(calls.backward)}
            figures = {
                key: {
                    "share": float(exact[key].value.is_nearest(value).mean()),
                    "largest error": largest_error(value, exact[key].value),
                }
                for key, value in got.items()
            }
            yield {
                "norm": entry.norm,
                "shape": list(entry.shape),
                "ratio": ratio,
                "contender": contender.name,
                **figures,
            }


def _result(call: Callable[[], Any]) -> Array:
    got = call()
    return np.asarray(got[0] if isinstance(got, tuple) else got)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = measuring("accuracy", __doc__, RESULTS, smoke="two ratios, small arrays")
    options = parsed(parser, arguments)
    ratios = (0.0, 1e4) if options.smoke else RATIOS
    entries = (Entry("layer", (16, 64)),) if options.smoke else ENTRIES
    rows = []
    print(f"{'correctly rounded':32}{'mean / std':>10}{'y':>12}{'dx':>12}   largest errors")
    for entry in entries:
        for row in measure(entry, ratios):
            rows.append(row)
            shares = "".join(f"{row[key]['share']:12.4%}" for key in ("y", "dx"))
            errors = "".join(f"{row[key]['largest error']:9.0e}" for key in ("y", "dx"))
            print(f"{entry.norm:9}{row['contender']:23}{row['ratio']:10g}{shares}   {errors}")
    keep(options, setting(["torch"]), ratios=list(ratios), rows=rows)


if __name__ == "__main__":
    main()
