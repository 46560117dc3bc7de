"""Which positions of `x` share statistics, and which a parameter, straight from the definition.

Wu and He (2018), section 3.1: a norm is a rule that gives every position i a set S_i. Here the rule
is a key for each index; positions with the same key are in the same set.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")
SIX_NORMS = ("batch_norm", "batch_norm_inference", *NORMS[1:])
FEATURE_NORMS = ("layer_norm", "rms_norm")

Positions = NDArray[np.int64]


class Sharing(NamedTuple):
    """For every position of `x`, in C order: the number of its set and of its parameter."""

    sets: Positions
    parameters: Positions
    set_shape: tuple[int, ...]
    parameter_shape: tuple[int, ...]

    @property
    def set_rows(self) -> Positions:
        """The flat positions of `x`, those of a set in one row."""
        return _rows(self.sets, self.set_shape)

    @property
    def parameter_rows(self) -> Positions:
        """The flat positions of `x`, those that use the same element of gamma in one row."""
        return _rows(self.parameters, self.parameter_shape)

    @property
    def set_size(self) -> int:
        """The number of positions in a set."""
        return self.sets.size // max(prod(self.set_shape), 1)


def sharing(
    norm: str,
    shape: tuple[int, ...],
    *,
    axis: int | Sequence[int] = -1,
    feature_axis: int | Sequence[int] | None = None,
    channel_axis: int | Sequence[int] = 1,
    num_groups: int = 1,
) -> Sharing:
    """Number the sets and the parameters of `norm` on an array of this shape.

    The options are those of the forward functions; what a norm does not take makes no difference.
    """
    keys = list(zip(np.indices(shape, sparse=True), shape, strict=True))  # and how many of each
    if norm in FEATURE_NORMS:
        over = _places(axis, shape)
        along = over if feature_axis is None else _places(feature_axis, shape)
        of_sets = [keys[a] for a in range(len(shape)) if a not in over]
    else:
        along = _places(channel_axis, shape)
        of_sets = [keys[c] for c in along]
        if norm == "group_norm":
            ((index, channels),) = of_sets
            of_sets = [(index * num_groups // max(channels, 1), num_groups)]
        if norm in ("group_norm", "instance_norm"):
            batch_axis = min({*range(len(shape))} - {*along})
            of_sets = [keys[batch_axis], *of_sets]
    of_parameters = [keys[a] for a in along]
    return Sharing(
        _numbers(shape, of_sets),
        _numbers(shape, of_parameters),
        tuple(count for _, count in of_sets),
        tuple(count for _, count in of_parameters),
    )


def _places(axes: int | Sequence[int], shape: tuple[int, ...]) -> list[int]:
    """Axes counted from the front, in the order in which they lie."""
    return sorted({int(a) % len(shape) for a in np.atleast_1d(axes)})


def _numbers(shape: tuple[int, ...], keys: list[tuple[Positions, int]]) -> Positions:
    """Number the combinations of the keys, the last one fastest."""
    numbers = np.zeros(shape, np.int64)
    for key, count in keys:
        numbers = numbers * count + key
    return numbers.ravel()


def _rows(numbers: Positions, shape: tuple[int, ...]) -> Positions:
    count = prod(shape)
    order = np.argsort(numbers, kind="stable")
    return order.reshape(count, numbers.size // max(count, 1))
