"""What a check was asked for, refused where it has no meaning: what came, what is expected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from numpy_norms.checks import shown
from numpy_norms.oracle.sets import FEATURE_NORMS

from .arrangement import Arrangement
from .plain import as_dtype
from .tolerances import Accumulator

__all__ = [
    "axes_needed",
    "floating",
    "kernels",
    "reachable",
    "shaped",
    "whole_number",
    "yes_or_no",
]

TYPES = ("float16", "bfloat16", "float32", "float64")


def floating(what: str, dtype: DTypeLike) -> np.dtype[Any]:
    """Return one of the types that arrays of a kernel may have; TypeError for any other."""
    try:
        found = as_dtype(dtype)
    except TypeError:
        raise TypeError(f"{what} is {shown(dtype)}; it must be one of {', '.join(TYPES)}") from None
    if str(found) not in TYPES:
        raise TypeError(f"{what} is {found}; it must be one of {', '.join(TYPES)}")
    return found


def kernels(forward: Any, backward: Any, accumulate: Any) -> None:
    """Refuse, with a TypeError, passes that cannot be called, and sums that are no numbers."""
    for what, given in (("forward", forward), ("backward", backward)):
        if given is not None and not callable(given):
            raise TypeError(
                f"{what} is {shown(given)}; a function is expected, or None to check none"
            )
    if accumulate is not None and not isinstance(accumulate, Accumulator):
        found = as_dtype(accumulate, "accumulate")
        if found.kind not in "fV":  # V is bfloat16
            raise TypeError(f"accumulate is {found}; it must be a floating-point type")


def whole_number(what: str, value: Any) -> None:
    """Refuse what is no number of 0 or more: TypeError or ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{what} is {shown(value)}; a whole number is expected")
    if value < 0:
        raise ValueError(f"{what} is {shown(value)}; a number of 0 or more is expected")


def yes_or_no(**options: Any) -> None:
    """Refuse, with a TypeError, what is neither True nor False."""
    for name, value in options.items():
        if not isinstance(value, (bool, np.bool_)):
            kind = type(value).__name__
            raise TypeError(f"{name} is a {kind}; True or False is expected: arrays are made here")


def axes_needed(arrangement: Arrangement) -> int:
    """Return how many axes x has at least, so that there are those of the norm."""
    features = arrangement.norm in FEATURE_NORMS
    axes = arrangement.axis if features else (1, arrangement.channel_axis)
    return max(a + 1 if a >= 0 else -a for a in axes)


def reachable(places: Sequence[str]) -> None:
    """Refuse, with a ValueError, names that are of no argument that a kernel may write into."""
    for name in places:
        if name not in ("x", "residual", "gamma", "beta", "dy"):
            raise ValueError(
                f"in_place has {shown(name)}; it must be of x, residual, gamma, beta, dy"
            )


def shaped(
    arrangement: Arrangement, shapes: Sequence[tuple[int, ...]] | None, num_groups: int | None
) -> None:
    """Refuse, with a ValueError, shapes that the norm does not have."""
    grouped = arrangement.norm == "group_norm"
    if num_groups is not None and (shapes is None or not grouped):
        raise ValueError("num_groups is for group_norm with shapes; leave it out")
    if shapes is None:
        return
    if grouped and num_groups is None:
        raise ValueError("shapes of group_norm need num_groups; pass num_groups too")
    given = shapes if isinstance(shapes, (list, tuple)) else []
    if not given or not all(isinstance(shape, (tuple, list)) for shape in given):
        raise ValueError(f"shapes is {shown(shapes)}; a list is expected, such as [(64, 8192)]")
    if grouped:
        whole_number("num_groups", num_groups)
    least = axes_needed(arrangement)
    for shape in given:
        if len(shape) < least:
            raise ValueError(f"shapes has {shape}; {arrangement.norm} needs {least} axes here")
        for size in shape:
            whole_number(f"a size in shapes, {shape},", size)
        if 0 in shape:
            raise ValueError(
                f"shapes has {shape}, which holds nothing to check; leave it out, and pass "
                "empty=True for a batch of none"
            )
        if grouped:
            channels = shape[arrangement.channel_axis]
            if num_groups < 1 or channels % num_groups:  # type: ignore[operator]
                fit = [n for n in range(1, channels + 1) if channels % n == 0]
                raise ValueError(
                    f"num_groups is {num_groups}, which does not divide the {channels} channels of "
                    f"{shape}; pass one of {fit}"
                )
