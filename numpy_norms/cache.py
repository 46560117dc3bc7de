"""What a forward pass leaves for its backward pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import equations as eq
from .engine import lifting
from .engine.plans import Plan
from .masks import Mask
from .passes import Statistics

Array = NDArray[Any]


class Cache(NamedTuple):
    """What a backward pass needs; made by a forward pass, the same for all norms.

    `x` and `gamma` are the caller's arrays, not copies; `x_hat` is computed again when it is
    needed, so that no array of the input's size is kept. `mean`, `var` (biased, without eps) and
    `rstd` have one number for each set that shares statistics, in the working dtype; `mean` is
    None for RMS norm, whose `var` is the mean square. Fields after `eps` are internal.
    """

    norm: str
    x: Array | None
    gamma: Array | None
    beta: Array | None
    eps: float
    plan: Plan
    statistics: Statistics
    mask: Mask | None = None
    scheme: str = "exact"
    scale: Array | None = None  # what x_hat was multiplied by, where that is not gamma
    given: tuple[Array, Array] | None = None  # mean and variance, where they are arguments

    @property
    def mean(self) -> Array | None:
        """The mean of each set."""
        pivot, exponent, mean, _ = self.statistics
        if mean is None:
            return None
        with np.errstate(all="ignore"):
            return self.plan.report(lifting.mean_of(self.plan, pivot, exponent, mean))

    @property
    def var(self) -> Array:
        """The biased variance of each set."""
        _, exponent, _, var = self.statistics
        with np.errstate(all="ignore"):
            if exponent is not None:
                var = self.plan.times(var, -2 * exponent)
            return self.plan.report(var)

    @property
    def rstd(self) -> Array:
        """The reciprocal standard deviation of each set."""
        _, exponent, _, var = self.statistics
        with np.errstate(all="ignore"):
            eps = lifting.eps_of(self.plan, self.eps, exponent, var)
            rstd = eq.reciprocal_std(var, eps)
            return self.plan.report(rstd if exponent is None else self.plan.times(rstd, exponent))

    def __repr__(self) -> str:
        x = "overwritten" if self.x is None else f"{self.x.dtype.name} {self.x.shape}"
        scheme = "" if self.scheme == "exact" else f", scheme {self.scheme}"
        given = [n for n in ("gamma", "beta") if getattr(self, n) is not None]
        return (
            f"<cache of {self.norm}: x {x}, {' and '.join(given) or 'no parameters'}, "
            f"{self.rstd.size} sets, statistics {self.rstd.shape} in {self.plan.work.name}, "
            f"eps {self.eps:g}{scheme}>"
        )
