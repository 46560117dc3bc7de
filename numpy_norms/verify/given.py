"""Inputs that somebody brings: refused where this library's own passes refuse them."""

from __future__ import annotations

import numpy as np

import numpy_norms

from .arrangement import Arrangement
from .plain import Array

__all__ = ["passed_through"]


def passed_through(
    arrangement: Arrangement,
    x: Array,
    gamma: Array,
    beta: Array | None,
    dy: Array,
    eps: float,
    num_groups: int | None,
) -> None:
    """Refuse, in its own words, what this library refuses: shapes, types, eps, groups.

    Raises
    ------
    ValueError, TypeError
        As the passes of the norm; for `num_groups` where there are none.
    """
    norm = arrangement.norm
    if (num_groups is not None) != (norm == "group_norm"):
        needs = "needs num_groups; pass it" if num_groups is None else "has none; leave it out"
        raise ValueError(f"num_groups is {num_groups}, and {norm} {needs}")
    for name, a in (("x", x), ("gamma", gamma), ("dy", dy)):
        if a.dtype.kind not in "fV":  # V is bfloat16
            raise TypeError(f"{name} holds {a.dtype}; floating-point numbers are expected")
    groups = () if num_groups is None else (num_groups,)
    parameters = (gamma,) if norm == "rms_norm" else (gamma, beta)
    with np.errstate(all="ignore"):
        forward = getattr(numpy_norms, f"{norm}_forward")
        _, cache = forward(x, *groups, *parameters, eps=eps, **arrangement.options)
        getattr(numpy_norms, f"{norm}_backward")(dy, cache)
