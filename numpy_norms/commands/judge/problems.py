"""What a module is asked to be: the norms, and the eight problems of KernelBench."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from numpy_norms.oracle.sets import FEATURE_NORMS
from numpy_norms.verify.arrangement import Arrangement

__all__ = ["KERNELBENCH", "Problem", "shapes_of"]

LP = {"frobenius_norm": 2.0, "l1_norm": 1.0, "l2_norm": 2.0}


@dataclass(frozen=True)
class Problem:
    """A norm with its axes, and how its module is made.

    Parameters
    ----------
    norm : str
        One of this library's five, or "frobenius_norm", "l1_norm" (divided by the mean of |x|, as
        KernelBench has it: m times L_1) or "l2_norm".
    axis : tuple of int or None
        The normalized axes, where the norm has such.
    rank : int
        The number of axes of x.
    init : tuple or dict
        What the module is made with, by name if it is a dict; "C", "G", "shape" and "eps" stand
        for the channels or features, the groups, the shape of gamma, and eps.
    num_groups : int or None
    track : bool
        Whether it has to keep running statistics.
    """

    norm: str
    axis: tuple[int, ...] | None = None
    rank: int = 4
    init: tuple[Any, ...] | dict[str, Any] = ()
    num_groups: int | None = None
    track: bool = field(default=False)

    @property
    def arguments(self) -> list[tuple[str, Any]]:
        """What the module is made with: names, empty where there is none, and values."""
        if isinstance(self.init, dict):
            return list(self.init.items())
        return [("", value) for value in self.init]

    @property
    def options(self) -> dict[str, Any]:
        """The keyword options of `check_kernel`."""
        return {} if self.axis is None else {"axis": self.axis}


# ScalingIntelligence/KernelBench, level 1.
KERNELBENCH = {
    33: Problem("batch_norm", init=("C",), track=True),
    34: Problem("instance_norm", init=("C",)),
    35: Problem("group_norm", init=("C", "G"), num_groups=8),
    36: Problem("rms_norm", (1,), init=("C",)),
    37: Problem("frobenius_norm", (0, 1, 2, 3)),
    38: Problem("l1_norm", (1,), 2),
    39: Problem("l2_norm", (1,), 2),
    40: Problem("layer_norm", (1, 2, 3), init=("shape",)),
}


def shapes_of(problem: Problem) -> list[tuple[int, ...]]:
    """Return the shapes of x on which a module is judged: few, since some are compiled for each."""
    rank = problem.rank
    if problem.norm in LP:
        few, long = (5, 3, 7, 2)[:rank], (3, 65537, 1, 1)[:rank]
        return [few, (1, *few[1:]), (129, 8, 2, 2)[:rank], long]
    if problem.norm in FEATURE_NORMS:
        arrangement = Arrangement.of(problem.norm, problem.options)
        features = arrangement.features
        kept = ((5, 7, 3, 2), (1, 7, 3, 2), (3, 2, 1, 1), (257, 2, 1, 1), (3, 1, 2, 1))
        widths = ((13,), (13,), (16411,), (3,), (128,))
        volumes = ((3, 5, 2, 7), (3, 5, 2, 7), (11, 37, 41, 1), (2, 3, 1, 1), (4, 8, 4, 1))
        found = []
        for rows, width, volume in zip(kept, widths, volumes, strict=True):
            inner = rows[: rank - features] + (width if features == 1 else volume[:features])
            found.append(arrangement.outward(np.empty(inner, bool)).shape)
        return found
    channels = 2 * problem.num_groups if problem.num_groups else 5
    spatial = ((3, 2, 5), (3, 2, 5), (41, 123, 1), (2, 3, 1), (8, 4, 1))
    batches = (7, 1, 13, 257, 8)
    return [(n, channels, *s[: rank - 2]) for n, s in zip(batches, spatial, strict=True)]
