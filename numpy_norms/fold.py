"""Batch norm folded into the linear map before it, for inference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import checks
from .engine.parts import Index, parts
from .engine.rounding import native, round_to
from .engine.threads import in_threads

Array = NDArray[Any]


def fold_batch_norm(
    weight: ArrayLike,
    bias: ArrayLike | None,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    eps: float = 1e-5,
    axis: int = 0,
) -> tuple[Array, Array]:
    """Fold a batch norm into the linear layer or convolution that feeds it.

    At inference batch norm is a factor and a summand per channel, which the parameters take over::

        scale  = gamma / sqrt(running_var + eps)
        weight = weight * scale                        along the output channels
        bias   = (bias - running_mean) * scale + beta

    Computed in float64 (longdouble if `weight` is), rounded once.

    Parameters
    ----------
    weight : ndarray of floats
        Linear (C, inputs); convolution (C, inputs / groups, *kernel); transposed convolution
        (inputs, C / groups, *kernel) with ``axis=1``, whose groups are read off the shapes.
    bias, running_mean, running_var, gamma, beta : ndarray, shape (C,)
        None stands for a bias of 0, a gamma of 1, a beta of 0.
    eps : float, default 1e-5
        That of the batch norm (Keras: 1e-3).
    axis : int, default 0
        Where `weight` has its output channels; -1 for the kernels of Keras and Flax.

    Returns
    -------
    weight, bias : ndarray
        New arrays, each with the dtype of its argument; a new bias has that of `weight`.

    Raises
    ------
    ValueError
        If a shape does not fit, a running statistic is not finite or a variance negative, or a
        folded value exceeds the range of its dtype.
    TypeError
        If a dtype is: integers, booleans, objects and masked arrays are refused.

    Examples
    --------
    >>> import numpy as np
    >>> fold_batch_norm(np.array([[2.0, 4.0]]), None, np.array([1.0]), np.array([3.0]), eps=1.0)
    (array([[1., 2.]]), array([-0.5]))
    """
    weight = checks.array("weight", weight)
    work = checks.working_dtype(weight, None)
    channels = _channels(np.shape(running_mean))
    mean = checks.finite("running_mean", checks.statistic("running_mean", running_mean, channels))
    var = checks.finite("running_var", checks.variance("running_var", running_var, channels))
    eps = checks.epsilon(eps)
    _check_divisor(var, eps)
    out = weight if bias is None else checks.statistic("bias", bias, channels)
    b = np.zeros(channels) if bias is None else out
    gamma = np.ones(channels) if gamma is None else checks.statistic("gamma", gamma, channels)
    beta = np.zeros(channels) if beta is None else checks.statistic("beta", beta, channels)
    given = {"bias": b, "running_mean": mean, "running_var": var, "gamma": gamma, "beta": beta}
    for name, a in given.items():
        checks.real_for_real(name, a, weight, "weight")
    checks.real_for_real("weight", weight, out, "bias")
    with np.errstate(all="ignore"):
        scale = gamma.astype(work) / np.sqrt(var.astype(work) + eps)
        shift = (b.astype(work) - mean.astype(work)) * scale + beta.astype(work)
        folded = _multiplied(weight, scale, axis)
        return folded, _rounded("bias", shift, out.dtype)


def _channels(shape: tuple[int, ...]) -> tuple[int]:
    if len(shape) != 1:
        raise ValueError(
            f"running_mean has shape {shape}, but one number for each channel was expected; "
            "pass running_mean of shape (C,)"
        )
    return shape


def _check_divisor(var: Array, eps: float) -> None:
    with np.errstate(all="ignore"):
        wrong = np.flatnonzero(var + eps == 0)
    if wrong.size:
        raise ValueError(f"running_var + eps is 0 for channel {wrong[0]}; pass eps > 0")


def _multiplied(weight: Array, scale: Array, axis: int) -> Array:
    """`weight` times the scale of each output channel."""
    shape, scale = _aligned(scale, weight, axis)
    result = np.empty(weight.shape, native(weight.dtype))
    source, target = weight.reshape(shape), result.reshape(shape)
    scale = np.broadcast_to(scale, shape)

    def visit(part: Index) -> None:
        with np.errstate(all="ignore"):
            product = source[part].astype(scale.dtype) * scale[part]
            target[part] = _rounded("weight", product, weight.dtype)

    in_threads(visit, parts(shape))
    return result


def _aligned(scale: Array, weight: Array, axis: int) -> tuple[tuple[int, ...], Array]:
    """A shape to see `weight` in, and one scale for each output channel that broadcasts to it."""
    (at,) = checks.axes(checks.integer("axis", axis, 0), weight)
    here, channels = weight.shape[at], scale.size
    if here == channels:
        return weight.shape, scale.reshape(channels, *[1] * (weight.ndim - 1 - at))
    groups = channels // max(here, 1)
    inputs, *rest = weight.shape
    if at != 1 or groups * here != channels or inputs % groups:
        raise ValueError(
            f"weight has shape {weight.shape}, so {here} output channels on axis {axis}, but "
            f"running_mean has {channels}; pass the axis of the output channels, which is 1 for a "
            "transposed convolution, whose groups divide both kinds of channels"
        )
    # Inputs of group g feed output channels g * here to (g + 1) * here - 1.
    shape = groups, inputs // groups, *rest
    return shape, scale.reshape(groups, 1, here, *[1] * (weight.ndim - 2))


def _rounded(name: str, a: Array, dtype: np.dtype[Any]) -> Array:
    result = round_to(a, dtype)
    if (np.isfinite(a) & ~np.isfinite(result)).any():
        raise ValueError(
            f"the folded {name} reaches {np.abs(a).max():.3g}, which {dtype} cannot hold; "
            f"pass {name}.astype(np.float32)"
        )
    return result
