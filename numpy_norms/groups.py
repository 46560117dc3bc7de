"""Which elements share statistics: the sets of a norm, as a number for every element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import batch_norm, checks, group_norm, instance_norm, layer_norm

LAYOUTS: dict[str, Any] = {
    "batch_norm": (batch_norm.layout, "channel_axis"),
    "layer_norm": (layer_norm.layout, "axis"),
    "group_norm": (group_norm.layout, "channel_axis", "num_groups"),
    "instance_norm": (instance_norm.layout, "channel_axis"),
    "rms_norm": (layer_norm.layout, "axis"),
}


def groups(
    norm: str,
    shape: Sequence[int],
    *,
    num_groups: int | None = None,
    axis: int | Sequence[int] = -1,
    channel_axis: int | Sequence[int] = 1,
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
    channel_axis : int or sequence of int, default 1
        For batch, group and instance norm; the batch axis is the first of the others.

    Returns
    -------
    labels : ndarray of int64, of shape `shape`

    Raises
    ------
    ValueError
        If `norm` is none of these, an axis does not exist, or `num_groups` does not divide the
        channels or is given where there are no groups.
    TypeError
        If an axis or a size is no integer.

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
    checks.choice("norm", norm, LAYOUTS)
    if (num_groups is not None) != (norm == "group_norm"):
        cure = "pass num_groups=2, say" if num_groups is None else "leave it out"
        raise ValueError(f"num_groups is {checks.shown(num_groups)} for {norm}; {cure}")
    x = np.broadcast_to(0.0, checks.sizes("shape", shape))
    options = {
        "axis": checks.integers("axis", axis),
        "channel_axis": checks.integers("channel_axis", channel_axis),
        "num_groups": 1 if num_groups is None else checks.integer("num_groups", num_groups, 2),
    }
    layout_of, *names = LAYOUTS[norm]
    least = 2 if "channel_axis" in names else 1
    if x.ndim < least:
        raise ValueError(
            f"shape is {x.shape}, but {norm} takes arrays of {least} or more axes; pass shape="
            f"{(2,) * (least - x.ndim) + x.shape}, say"
        )
    layout = layout_of(x, None, None, *[options[name] for name in names])
    index = np.indices(layout.shape, sparse=True)
    labels = np.zeros(layout.shape, np.int64)
    for a in layout.sets:
        labels = labels * layout.shape[a] + index[a]
    return labels.reshape(x.shape)
