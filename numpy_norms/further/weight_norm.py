"""Weight norm: the length of each output channel's weights is a parameter of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import checks, normalize
from ..cache import Cache
from ..engine.plans import Layout

Array = NDArray[Any]


class WeightNormCache(NamedTuple):
    """What `weight_norm_backward` needs; made by the forward pass."""

    v: Array
    g: Array
    root_m: Any  # of the number of weights of a channel
    rms: Cache  # of the RMS norm with gamma = g / root_m that this is

    def __repr__(self) -> str:
        return f"<cache of weight_norm: v {self.v.dtype.name} {self.v.shape}>"


def weight_norm_forward(
    v: ArrayLike, g: ArrayLike, *, channel_axis: int = 0, dtype: DTypeLike | None = None
) -> tuple[Array, WeightNormCache]:
    """Give the weights `v` of each output channel the length `g`.

    For each channel, over A, all axes but the channel axis::

        w = g * v / |v|      |v| = sqrt(sum over A of v**2)

    There is no eps. A channel whose `v` is 0 has ``w = 0``.

    Parameters
    ----------
    v : ndarray, shape (C, *K)
        The direction of the weights, or with the output channels at `channel_axis`.
    g : ndarray, shape (C,)
        The length of each channel's weights; PyTorch's has axes of length 1 beside.
    channel_axis : int, default 0
        The axis of the output channels (PyTorch's ``dim``); 1 for a transposed convolution.
    dtype : dtype, optional
        The type to compute in; float64 if `v` is narrower, and otherwise that of `v`.

    Returns
    -------
    w : ndarray, of the shape and dtype of `v`
    cache : WeightNormCache
        For `weight_norm_backward`.

    Raises
    ------
    ValueError
        If the shape of `g`, or `channel_axis`, is wrong.
    TypeError
        If a dtype is: integers, booleans, objects and masked arrays are refused.

    References
    ----------
    Salimans and Kingma 2016, arXiv:1602.07868, equation 2; equations (W1) and (W2) of
    ``docs/further_norms.md``.

    Examples
    --------
    >>> import numpy as np
    >>> w, cache = weight_norm_forward(np.array([[3.0, -4.0], [0.0, 0.0]]), np.array([10.0, 1.0]))
    >>> w
    array([[ 6., -8.],
           [ 0.,  0.]])
    """
    v, g = checks.array("v", v), checks.array("g", g)
    c = checks.weight_axis("v", channel_axis, v, 1)
    _check(v, g, c)
    work = np.promote_types(checks.working_dtype(v, dtype), np.float64)
    root_m = np.sqrt(work.type(max(1, v.size // max(1, g.size))))
    with np.errstate(all="ignore"):
        gamma = g.astype(work) / root_m  # (W1)
    w, cache = normalize.forward(
        "rms_norm", _layout, v, gamma, None, (c,), eps=0.0, dtype=dtype, out=None
    )
    return w, WeightNormCache(v, g, root_m, cache)


def weight_norm_backward(dw: ArrayLike, cache: WeightNormCache) -> tuple[Array, Array]:
    """Return the gradients of `v` and `g` of `weight_norm_forward`.

    For each channel, over A, all axes but the channel axis::

        dg = sum over A of dw * v / |v|
        dv = g / |v| * (dw - v / |v| * dg)

    Both are 0 where `v` is.

    Parameters
    ----------
    dw : ndarray
        Gradient of the loss with respect to ``w``, of its shape.
    cache : WeightNormCache
        From `weight_norm_forward`.

    Returns
    -------
    dv, dg : ndarray
        Of the shapes and dtypes of `v` and `g`.

    Examples
    --------
    >>> import numpy as np
    >>> w, cache = weight_norm_forward(np.array([[3.0, -4.0]]), np.array([10.0]))
    >>> weight_norm_backward(np.array([[1.0, 0.0]]), cache)
    (array([[1.28, 0.96]]), array([0.6]))
    """
    checks.made_by("weight_norm", WeightNormCache, cache)
    dw = checks.gradient("dw", dw, cache.v, "v")
    checks.complex_for_complex("g", cache.g, cache.v, "v")
    dv, dgamma, _ = normalize.backward("rms_norm", dw, cache.rms)
    assert dgamma is not None
    with np.errstate(all="ignore"):
        dg = dgamma / cache.root_m  # (W2)
    return dv, *normalize.gradients_of((cache.g,), (dg,))


def _layout(v: Array, gamma: Array | None, beta: None, c: int) -> Layout:
    over = tuple([a for a in range(v.ndim) if a != c])
    return Layout(v.shape, over=over, along=(c,), sets=(c,))


def _check(v: Array, g: Array, c: int) -> None:
    """Refuse a g that is not one number for each channel of v."""
    channels = v.shape[c]
    if g.shape != (channels,):
        cure = f"g.reshape({channels})" if g.size == channels else f"g of shape ({channels},)"
        raise ValueError(
            f"g has shape {g.shape}, but v of shape {v.shape} has {channels} channels on axis "
            f"{c}; pass {cure}, or another channel_axis"
        )
    checks.real_for_real("g", g, v, "v")
