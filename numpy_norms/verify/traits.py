"""What may tell the cases in which a kernel fails from those in which it does not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .arrangement import Arrangement
from .battery import Case
from .faults.place import DIVISORS
from .plain import Array

__all__ = ["traits"]


def traits(arrangement: Arrangement, case: Case) -> dict[str, Any]:
    """Return the sizes, values and layouts of a case by the names of `faults.place.CONDITIONS`."""
    inner = arrangement.inward(case.x)
    view = arrangement.view(inner, case.gamma, case.num_groups)
    m, shape = view.set_size, view.shape
    sets = max(math.prod(shape) // max(m, 1), 1)
    x = np.asarray(inner, np.float64).reshape(shape)
    with np.errstate(all="ignore"):
        mean = x.mean(axis=view.over, keepdims=True) if x.size else np.zeros(1)
        deviation = np.sqrt(((x - mean) ** 2).mean(axis=view.over)) if x.size else np.zeros(1)
        typical = float(np.nanmedian(deviation))
        largest = float(np.nanmax(abs(x), initial=0))
        ratio = float(np.nanmax(abs(mean))) / typical if typical > 0 else np.inf
    features = case.norm in ("layer_norm", "rms_norm")
    contiguous = {name: getattr(case, name).flags.c_contiguous for name in ("x", "dy", "gamma")}
    return {
        "x strided": _strided(case.x),
        "dy strided": _strided(case.dy),
        "gamma strided": not contiguous["gamma"],
        "x not contiguous": not contiguous["x"],
        "dy not contiguous": not contiguous["dy"],
        "dy of one number": case.dy.size > 1 and not any(case.dy.strides),
        "dy repeated": 0 in case.dy.strides and case.dy.size > 1,
        "not contiguous": not all(contiguous.values()),
        "set size": m,
        "N": inner.shape[0],
        "rows" if features else "sets": sets,
        "C": 0 if features else shape[1] * shape[2],
        "S": shape[3] if not features else 0,
        "rank": case.x.ndim,
        "size": case.x.size,
        "mean/deviation": ratio,
        "eps/variance": case.eps / typical**2 if typical > 0 else np.inf,
        "eps": case.eps,
        "|x|": largest,
        "deviation": typical,
        "m odd": m % 2,
        **{f"m no multiple of {number}": m % number > 0 for number in DIVISORS},
        "m no power of two": m & (m - 1) > 0,
        "zero in gamma": bool((np.asarray(case.gamma, np.float64) == 0).any()),
        "nan": bool(np.isnan(x).any()),
        "constant": typical == 0,
        "narrow weights": case.gamma.dtype != case.x.dtype,
        "empty": case.x.size == 0,
    }


def _strided(a: Array) -> bool:
    """Whether the last axis of an array has gaps."""
    return (
        a.ndim > 0
        and a.shape[-1] > 1
        and a.strides[-1] not in (0, a.itemsize)
        and not a.flags.f_contiguous
    )
