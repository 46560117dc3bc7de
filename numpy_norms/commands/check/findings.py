"""The measurements of `check`: a case, a route, an error and the limit it is held to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log2
from typing import Any, NamedTuple

import numpy as np

from numpy_norms.commands.check import oracles
from numpy_norms.commands.check.cases import Array, Case
from numpy_norms.oracle.reference import Exact, largest_ratio

EXACT, COMPLEX, CENTRAL, PYTORCH = "106 bits", "complex step", "central differences", "PyTorch"


class Job(NamedTuple):
    """One norm on the array called `x`: large cases, of which the last is float64, and a small."""

    x: str
    large: Sequence[Case]
    small: Case


@dataclass(frozen=True)
class Finding:
    """The largest error of one output by one route, and the largest that agrees.

    By the route "106 bits" in units in the last place; by the others relative to the sizes of the
    terms that the output is a sum of.
    """

    norm: str
    label: str
    x: str
    shape: tuple[int, ...]
    dtype: str
    route: str
    output: str
    error: float
    limit: float

    @property
    def agrees(self) -> bool:
        """Whether the error is a number, and within the limit."""
        return self.error <= self.limit


def measure(job: Job, torch: Any, progress: Callable[[str], None]) -> Iterator[Finding]:
    """Run the library and every route on `job`; `torch` is the module or None."""
    for case in job.large:
        progress(f"{case.norm} {case.arrays['x'].dtype} against 106-bit arithmetic")
        exact, got = case.exact(), case.results()
        for name, expected in exact.items():
            limit = _rounding_limit(case, name)
            yield _finding(job, case, EXACT, name, expected.ulps(got[name]), limit)
    if torch and (theirs := oracles.pytorch_results(torch, case)):
        scales = _plain_scales(case, exact)
        yield from _compare(job, case, PYTORCH, scales, got, theirs, 1e-12)

    small, got = job.small, job.small.results()
    scales = {name: exact.scale for name, exact in small.exact().items()}
    progress(f"{small.norm} against the complex step and central differences")
    yield from _compare(job, small, COMPLEX, scales, got, oracles.complex_step(small), 1e-12)
    yield from _compare(job, small, CENTRAL, scales, got, oracles.central_differences(small), 1e-9)


def _plain_scales(case: Case, exact: dict[str, Exact]) -> dict[str, Array]:
    """Return the scales of results whose mean was rounded to float64.

    Its error over the standard deviation is an error of x_hat, everywhere in the set: PyTorch's
    results cannot be better than that, whatever x_hat is.
    """
    scales = {name: exact.scale for name, exact in exact.items()}
    mean, std = case.spread()
    condition = np.abs(mean) / np.hypot(std, np.sqrt(case.eps))
    along, terms = case.sharing.parameters, np.abs(case.dy * condition).ravel()
    gamma = case.arrays["gamma"][along].reshape(condition.shape)
    scales["y"] = scales["y"] + np.abs(gamma) * condition
    scales["dx"] = scales["dx"] * (1.0 + condition)
    scales["dgamma"] = scales["dgamma"] + np.bincount(along, weights=terms)
    return scales


def _compare(
    job: Job,
    case: Case,
    route: str,
    scales: dict[str, Array],
    got: dict[str, Array],
    theirs: dict[str, Array],
    limit: float,
) -> Iterator[Finding]:
    for name, array in theirs.items():
        error = largest_ratio(np.abs(got[name] - array), scales[name])
        yield _finding(job, case, route, name, error, limit)


def _finding(job: Job, case: Case, route: str, output: str, error: float, limit: float) -> Finding:
    x = case.arrays["x"]
    dtype = x.dtype.name
    return Finding(case.norm, case.label, job.x, x.shape, dtype, route, output, error, limit)


def _rounding_limit(case: Case, output: str) -> float:
    if case.arrays["x"].dtype != np.float64:
        return 0.51  # rounded once, from float64
    thrice = output in ("dx", "drunning_var")  # rstd is a factor of theirs three times
    return (8.0 if thrice else 4.0) + log2(case.longest_sum(output))  # of summing pairwise
