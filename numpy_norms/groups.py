"""Which elements share statistics: the sets of a norm, as a number for every element."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from . import checks

NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")


def groups(
    norm: str,
    shape: Sequence[int],
    *,
    num_groups: int | None = None,
    axis: int | Sequence[int] = -1,
    channel_axis: int = 1,
) -> NDArray[np.int64]:
    """Number the sets of elements that share a mean and a variance.

    Elements with the same number are averaged together in (1) and (2). The sets are numbered in
    the order in which the forward pass reports them: ``cache.rstd.ravel()[labels]`` is what every
    element was multiplied by.

    Parameters
    ----------
    norm : str
        ``"batch_norm"``, ``"layer_norm"``, ``"group_norm"``, ``"instance_norm"`` or
        ``"rms_norm"``.
    shape : sequence of int
        The shape of the input.
    num_groups : int, optional
        For group norm, and required there.
    axis : int or sequence of int, default -1
        For layer and RMS norm: the normalized axes.
    channel_axis : int, default 1
        For batch, group and instance norm; the batch axis is the first of the others.

    Returns
    -------
    labels : ndarray of int64, of shape `shape`

    Raises
    ------
    ValueError
        If `norm` is none of these, an axis does not exist, or `num_groups` does not divide the
        channels or is given where there are no groups.

    Examples
    --------
    >>> groups("layer_norm", (2, 3))
    array([[0, 0, 0],
           [1, 1, 1]])
    >>> groups("batch_norm", (2, 3))
    array([[0, 1, 2],
           [0, 1, 2]])
    >>> groups("group_norm", (2, 6), num_groups=3)
    array([[0, 0, 1, 1, 2, 2],
           [3, 3, 4, 4, 5, 5]])
    """
    if norm not in NORMS:
        raise ValueError(f"norm is {norm!r}, but one of {', '.join(NORMS)} was expected")
    if (num_groups is not None) != (norm == "group_norm"):
        cure = "pass num_groups=2, say" if num_groups is None else "leave it out"
        raise ValueError(f"num_groups is {num_groups} for {norm}; {cure}")
    x = np.broadcast_to(0.0, tuple(shape))
    index: tuple[NDArray[np.int64], ...] = np.indices(x.shape, sparse=True)
    if norm in ("layer_norm", "rms_norm"):
        over = checks.axes(axis, x)
        return _number(x.shape, [index[a] for a in range(x.ndim) if a not in over])
    channel = checks.channel_axis(channel_axis, x)
    batch, c = checks.batch_axis(channel), index[channel]
    if norm == "batch_norm":
        return _number(x.shape, [c])
    if num_groups is not None:
        channels = x.shape[channel]
        c = c // (channels // checks.number_of_groups(num_groups, channels))
    return _number(x.shape, [index[batch], c])


def _number(shape: tuple[int, ...], kept: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Number the combinations of the indices `kept`, the last one fastest."""
    labels = np.zeros(shape, np.int64)
    for index in kept:
        labels = labels * (index.max(initial=0) + 1) + index
    return labels
