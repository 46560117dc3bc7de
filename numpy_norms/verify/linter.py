"""What somebody's own test inputs cannot detect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .arrangement import Arrangement
from .battery import Case
from .catalogue import mutants
from .given import passed_through
from .judge import Judge
from .plain import Array
from .runs import run

__all__ = ["Weakness", "why_weak"]

_ALIKE = 1e-3


@dataclass(frozen=True)
class Weakness:
    """What test inputs hide; false if nothing.

    Parameters
    ----------
    reasons : tuple of str
        What is special about the inputs, and what that hides.
    undetected : tuple of str
        Names from the catalogue of known mistakes: kernels whose results on these inputs are within
        the tolerances of a right one's.
    """

    reasons: tuple[str, ...]
    undetected: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.reasons or self.undetected)

    def __str__(self) -> str:
        lines = [*self.reasons]
        if self.undetected:
            lines.append(f"not detected: {', '.join(self.undetected)}")
        return "\n".join(lines) or "nothing known stays hidden"


def why_weak(
    x: ArrayLike,
    gamma: ArrayLike,
    eps: float,
    dy: ArrayLike,
    *,
    norm: str = "layer_norm",
    num_groups: int | None = None,
    **options: Any,
) -> Weakness:
    """Say what a test of a kernel with these inputs cannot detect.

    Names what is special about them, and runs the catalogue of known mistakes on them.

    Parameters
    ----------
    x, gamma, dy : array_like
        The inputs of somebody's test; beta is taken as 0.5.
    eps : float
    norm : str, default "layer_norm"
    num_groups : int, optional
        Of a group norm.
    **options
        `axis` or `channel_axis`, as in this library's functions.

    Returns
    -------
    Weakness

    Raises
    ------
    ValueError, TypeError
        If there is no such norm, the norm does not take such inputs, or they hold nothing, NaN or
        infinity.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((4, 8))
    >>> weakness = why_weak(x, np.ones(8), 1e-5, np.ones((4, 8)))
    >>> print(weakness.reasons[0])
    gamma is 1 everywhere: a gamma forgotten, or used twice, changes nothing
    >>> "projection_dropped" in weakness.undetected
    True
    """
    arrangement = Arrangement.of(norm, options)
    x, gamma, dy = np.asarray(x), np.asarray(gamma), np.asarray(dy)
    beta = np.full(gamma.shape, 0.0 if norm == "rms_norm" else 0.5, gamma.dtype)
    passed_through(arrangement, x, gamma, beta, dy, eps, num_groups)
    for name, a in (("x", x), ("gamma", gamma), ("dy", dy)):
        if not a.size or not np.isfinite(a.astype(np.float64)).all():
            raise ValueError(f"{name} holds nothing, NaN or infinity; pass finite numbers")
    case = Case("yours", norm, "", x, gamma, beta, dy, eps, num_groups)
    judge = Judge(case, arrangement, x.dtype, None)
    undetected = [
        mutant.name
        for mutant in mutants(norm)
        if not _tells(judge, arrangement.arranged(mutant.forward, mutant.backward))
    ]
    return Weakness(tuple(_reasons(arrangement, case)), tuple(undetected))


def _tells(judge: Judge, kernel: tuple[Any, Any]) -> bool:
    """Return whether the results of a kernel are out of tolerance."""
    found = run(judge.case, *kernel)
    off = (judge.apart(name, got, judge.expected[name]) for name, got in found.results.items())
    return bool(found.changed) or any(ratio > 1 for ratio in off)


def _reasons(arrangement: Arrangement, case: Case) -> Iterator[str]:
    view = arrangement.view(arrangement.inward(case.x), case.gamma, case.num_groups)

    def seen(a: Array) -> Array:
        return arrangement.inward(np.asarray(a, np.float64)).reshape(view.shape)

    def average(a: Array) -> Array:
        return np.asarray(a.mean(axis=view.over, keepdims=True))

    x, dy = seen(case.x), seen(case.dy)
    gamma = np.asarray(case.gamma, np.float64).reshape(view.params)
    deviation = x - average(x) * (arrangement.norm != "rms_norm")
    var = average(deviation**2)
    x_hat = deviation / np.sqrt(var + case.eps)
    yield from _of_gamma(gamma)
    yield from _of_dy(gamma * dy, x_hat, average)
    if case.eps < _ALIKE * np.median(var):
        yield (
            f"eps is {case.eps:g} beside variances of {np.median(var):.2g}: "
            "where it is added, and whether at all, hardly shows"
        )
    if case.eps >= 1e-4:
        yield f"eps is {case.eps:g}: an eps raised to 1e-4 does not show"
    yield from _of_x(x, average(x) / np.sqrt(var + case.eps), arrangement.norm)
    yield from _of_sizes(view.set_size, view.shape, case)


def _of_gamma(gamma: Array) -> Iterator[str]:
    if (gamma == 1).all():
        yield "gamma is 1 everywhere: a gamma forgotten, or used twice, changes nothing"
    elif (gamma == gamma.flat[0]).all():
        yield "gamma is the same everywhere: a gamma taken from the wrong place changes nothing"
    elif (gamma > 0).all():
        yield "gamma is positive everywhere: a gamma whose sign is lost changes nothing"
    if abs(gamma).min() > 0.1:
        yield "no gamma is near 0: x_hat recovered as (y - beta) / gamma is right here"


def _of_dy(g: Array, x_hat: Array, average: Any) -> Iterator[str]:
    if not g.any():
        yield "dy is 0: every gradient is"
        return
    centre, projection = average(g), average(g * x_hat) / average(x_hat**2 + 1e-300)
    live = g - centre - projection * x_hat
    if (live**2).mean() < _ALIKE**2 * (g**2).mean():
        yield "gamma dy lies in the null space, spanned by 1 and x_hat: dx is 0 whatever is wrong"
    elif (centre**2).mean() < _ALIKE**2 * (g**2).mean():
        yield "the mean of gamma dy is 0: the mean term of dx does not show"
    elif (projection**2).mean() < _ALIKE**2 * (g**2).mean():
        yield "gamma dy has no component along x_hat: that term of dx does not show"


def _of_x(x: Array, offset: Array, norm: str) -> Iterator[str]:
    if np.median(abs(offset)) < 0.3 and norm != "rms_norm":
        yield "means are near 0: padding that is not masked and one-pass variances are right here"
    elif np.median(abs(offset)) < 30 and norm != "rms_norm":
        yield "means are below 30 deviations: a one-pass variance is right here"
    if x.min() >= 0:
        yield "x has no negative value: an absolute value in the wrong place does not show"
    if abs(x).max() < 256:
        yield "no |x| reaches 256: squares in float16 do not overflow"


def _of_sizes(size: int, shape: tuple[int, ...], case: Case) -> Iterator[str]:
    if size <= 2:
        yield f"sets have {size} values: dx is rounding noise beside its terms"
    elif size & (size - 1) == 0:
        yield f"sets have {size} values, a power of two: padding to one is never needed"
    if size <= 1024:
        yield "no set is longer than 1024: what lies beyond a first block is never read"
    sides = [side for side in case.x.shape if side > 1]
    if len(set(sides)) < len(sides):
        yield f"sizes repeat in {case.x.shape}: sums over the wrong axis can have the right shape"
    if case.x.ndim == 2:
        yield "x has rank 2: axes confused beyond it do not show"
    if case.x.flags.c_contiguous and case.dy.flags.c_contiguous:
        yield "x and dy are contiguous: a kernel that ignores strides reads them right"
