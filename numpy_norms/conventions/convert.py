"""Momentum and running variance from one framework's meaning to another's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import checks
from ..engine.rounding import round_to
from .table import convention

Array = NDArray[Any]


def convert_momentum(momentum: float, source: str, target: str = "pytorch") -> float:
    """Convert a batch norm's momentum from one framework to another.

    Parameters
    ----------
    momentum : float
        As `source` has it, from 0 to 1.
    source, target : str
        Frameworks. This library's momentum is PyTorch's: the weight of the new value.

    Returns
    -------
    float
        The momentum for `target`: the same, or 1 minus it.

    Raises
    ------
    ValueError
        If momentum is not between 0 and 1, or a framework is unknown or has none.

    Examples
    --------
    >>> round(convert_momentum(0.99, "keras"), 12)
    0.01
    """
    value = checks.number("momentum", momentum, 0.1)
    if not 0 <= value <= 1:
        raise ValueError(f"momentum is {value}, but a weight was expected; pass one from 0 to 1")
    return value if _weighs(source) == _weighs(target) else 1 - value


def convert_running_var(running_var: ArrayLike, n: int, source: str, target: str) -> Array:
    """Convert a running variance between the biased and the unbiased estimate.

    The two differ by the factor n / (n - 1), exactly so if every batch had n values per channel
    and the first value of the running variance, 1 in all frameworks, has been forgotten.

    Parameters
    ----------
    running_var : ndarray, shape (C,)
        As `source` has kept it.
    n : int
        The number of values per channel in a training batch: N * H * W for (N, C, H, W).
    source, target : str
        Frameworks, ``"paper"`` among them.

    Returns
    -------
    ndarray, shape (C,)
        As `target` would have kept it; a new array.

    Raises
    ------
    ValueError
        If n is below 2, a variance is negative or not finite, or a framework is unknown.

    Examples
    --------
    >>> convert_running_var(np.array([4.0]), 5, "pytorch", "keras")
    array([3.2])
    """
    running_var = checks.not_negative("running_var", checks.array("running_var", running_var))
    n = checks.integer("n", n, 128)
    if not 2 <= n < 1 << 62:
        raise ValueError(
            f"n is {checks.shown(n)}, but the unbiased estimate needs 2 values; pass n >= 2"
        )
    biased, wanted = _estimator(source) == "biased", _estimator(target) == "biased"
    factor = 1.0 if biased == wanted else (n / (n - 1) if biased else (n - 1) / n)
    running_var = checks.finite("running_var", running_var)
    if running_var.dtype.kind == "c":
        raise TypeError(f"running_var is {running_var.dtype}; pass running_var.real")
    with np.errstate(all="ignore"):
        return round_to(factor * running_var.astype(np.float64), running_var.dtype)


def update_options(framework: str, momentum: float | None = None) -> dict[str, Any]:
    """Return the options with which `update_running_stats` does what `framework` does.

    Parameters
    ----------
    framework : str
        One that trains: ``"pytorch"``, ``"keras"``, ``"flax"`` or ``"onnx"``.
    momentum : float, optional
        In the framework's meaning; its default if left out.

    Returns
    -------
    dict
        ``momentum`` and ``correction``.

    Raises
    ------
    ValueError
        If the framework is unknown or has no momentum, or momentum is not between 0 and 1.

    Examples
    --------
    >>> update_options("pytorch"), update_options("onnx", 0.75)
    ({'momentum': 0.1, 'correction': 1}, {'momentum': 0.25, 'correction': 0})
    """
    default = convention(framework, "batch_norm").momentum
    _weighs(framework)
    assert default is not None
    momentum = convert_momentum(default if momentum is None else momentum, framework)
    return {"momentum": momentum, "correction": int(_estimator(framework) == "unbiased")}


def _weighs(framework: str) -> str:
    weighs = convention(framework, "batch_norm").momentum_weighs
    if weighs is None:
        raise ValueError(f"framework is {framework!r}, which has no momentum; pass another")
    return weighs


def _estimator(framework: str) -> str | None:
    return convention(framework, "batch_norm").estimator
