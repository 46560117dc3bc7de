"""What a forward pass leaves for its backward pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .plans import Layout

Array = NDArray[Any]


class Statistics(NamedTuple):
    """Mean, variance and reciprocal standard deviation of every set, ready to broadcast.

    The mean is `pivot` + `rest` (None is zero). They are those of ``scale * x``, where `scale` is a
    power of two for each set, None where it is 1 for all.
    """

    pivot: Array | None
    rest: Array | None
    var: Array
    rstd: Array
    scale: Array | None


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
    mean: Array | None
    var: Array
    rstd: Array
    eps: float
    layout: Layout
    statistics: Statistics
    work: np.dtype[Any]
    scheme: str = "exact"

    def __repr__(self) -> str:
        x = "overwritten" if self.x is None else f"{self.x.dtype.name} {self.x.shape}"
        scheme = "" if self.scheme == "exact" else f", scheme {self.scheme}"
        given = [n for n in ("gamma", "beta") if getattr(self, n) is not None]
        return (
            f"<cache of {self.norm}: x {x}, {' and '.join(given) or 'no parameters'}, "
            f"{self.rstd.size} sets, statistics {self.rstd.shape} in {self.work.name}, "
            f"eps {self.eps:g}{scheme}>"
        )
