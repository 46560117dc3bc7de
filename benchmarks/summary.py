"""What follows from the times of a side-by-side run: ratios, their means, and the aims.

A result is a plain dict, as it stands in the JSON: size, norm, shape, direction, and under "times"
the minimum and the median of every contender, in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from .contenders import DEFAULT, FLOAT32, PLAIN, TORCH
from .grid import TARGETS, TIMES_PLAIN, WORST_LARGE

Result = dict[str, Any]

# No entry of a size, or of all sizes, may be above the limit: one contender over another.
LIMITS: tuple[tuple[str, str, str | None, float], ...] = (
    (FLOAT32, TORCH, "large", WORST_LARGE),
    (FLOAT32, PLAIN, None, 1.0),
    (DEFAULT, PLAIN, None, 1.0),
)


class Aim(NamedTuple):
    """A figure that was aimed at, and what was measured."""

    what: str
    measured: float
    target: float
    sign: str

    @property
    def reached(self) -> bool:
        """Whether the measured figure is on the right side of the target."""
        right = self.measured <= self.target
        return right if self.sign == "<=" else self.measured >= self.target

    def __str__(self) -> str:
        word = "reached" if self.reached else "NOT reached"
        return f"{self.what}: {self.measured:.2f} (aim {self.sign} {self.target:g}): {word}"


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean of positive numbers; NaN if there are none."""
    logs = [math.log(value) for value in values]
    return math.exp(math.fsum(logs) / len(logs)) if logs else math.nan


def ratios(
    results: Iterable[Result], name: str, other: str, size: str | None = None, which: str = "min"
) -> list[float]:
    """Return the time of one contender over that of another, for every result that has both."""
    times = [r["times"] for r in results if size in (None, r["size"])]
    return [t[name][which] / t[other][which] for t in times if name in t and other in t]


def aims(results: list[Result], which: str = "min") -> Iterator[Aim]:
    """Yield every figure that the grid aims at, where its contenders took part."""
    for size, targets in TARGETS.items():
        for name, target in zip((FLOAT32, DEFAULT), targets, strict=True):
            values = ratios(results, name, TORCH, size, which)
            if values:
                what = f"{size}: {name} / {TORCH}, geometric mean"
                yield Aim(what, geometric_mean(values), target, "<=")
    for name, other, where, limit in LIMITS:
        values = ratios(results, name, other, where, which)
        if values:
            what = f"{where or 'everywhere'}: {name} / {other}, worst entry"
            yield Aim(what, max(values), limit, "<=")
    values = ratios(results, PLAIN, FLOAT32, "large", which)
    if values:
        what = f"large: {PLAIN} / {FLOAT32}, geometric mean"
        yield Aim(what, geometric_mean(values), TIMES_PLAIN, ">=")


def exceptions(results: list[Result]) -> Iterator[tuple[Result, str, float]]:
    """Yield every entry above one of the limits: its result, the two contenders, the ratio."""
    for name, other, where, limit in LIMITS:
        for result in results:
            for ratio in ratios([result], name, other, where):
                if ratio > limit:
                    yield result, f"{name} / {other}", ratio
