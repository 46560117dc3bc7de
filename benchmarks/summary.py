"""What follows from times: ratios and their geometric means.

A result is a plain dict, as it stands in the JSON: size, norm, shape, direction, and under "times"
the minimum and the median of every contender, in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

Result = dict[str, Any]
Pair = tuple[str, str]  # one contender over the other


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean of positive numbers; NaN if there are none."""
    logs = [math.log(value) for value in values]
    return math.exp(math.fsum(logs) / len(logs)) if logs else math.nan


def ratios(results: Iterable[Result], pair: Pair, size: str, which: str = "min") -> list[float]:
    """Return the time of one contender over that of another, for every result that has both."""
    name, other = pair
    times = [r["times"] for r in results if r["size"] == size]
    return [t[name][which] / t[other][which] for t in times if name in t and other in t]


def means(results: Sequence[Result], pairs: Iterable[Pair]) -> Iterator[str]:
    """Yield a line for each size and pair: geometric means by minima and by medians, the worst."""
    sizes = dict.fromkeys(r["size"] for r in results)
    for size in sizes:
        for pair in pairs:
            by = {which: ratios(results, pair, size, which) for which in ("min", "median")}
            if by["min"]:
                minima, medians = (geometric_mean(values) for values in by.values())
                yield (
                    f"{size:7} {' / '.join(pair):32} {minima:6.2f} by minima,{medians:6.2f} by "
                    f"medians, worst{max(by['min']):6.2f}"
                )
