"""Group norm: each group of channels of each sample."""

from __future__ import annotations

from numpy.typing import ArrayLike, DTypeLike

from . import checks, normalize
from .cache import Array, Cache
from .engine.plans import Layout


def group_norm_forward(
    x: ArrayLike,
    num_groups: int,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    channel_axis: int = 1,
    eps: float = 1e-5,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
    where: ArrayLike | None = None,
) -> tuple[Array, Cache]:
    """Normalize each group of channels of each sample, then scale and shift each channel.

    `x` is seen as (N, G, C/G, *S): a group is C/G neighbouring channels. Over A, the axes C/G and
    S, for each sample and group::

        y = gamma * (x - E_A[x]) / sqrt(Var_A[x] + eps) + beta

    Parameters
    ----------
    x : ndarray, shape (N, C, *S)
        Or with the channels at `channel_axis`; samples lie along the first other axis.
    num_groups : int
        G, a divisor of C. 1 shares the statistics of a whole sample, C is instance norm.
    gamma, beta : ndarray, shape (C,), optional
        Scale and shift of each channel; None stands for ones and zeros.
    channel_axis : int, default 1
        The axis of the channels; -1 where they are last.
    eps : float, default 1e-5
        Added to the variance; in units of `x` squared.
    dtype : dtype, optional
        The type to compute in; float64 if `x` is narrower, and otherwise that of `x`.
    out : ndarray, optional
        Where to write `y`; `x` itself is allowed, but then there is no backward pass.
    where : ndarray of bool, optional
        What counts, True by default; it broadcasts to `x`. Mean and variance are of the elements
        that count, and every element is normalized with them. Where none counts x_hat is 0.

    Returns
    -------
    y : ndarray, of the shape and dtype of `x`
    cache : Cache
        For `group_norm_backward`; its statistics have shape (N, G).

    Raises
    ------
    ValueError
        If a shape, `num_groups`, `channel_axis`, `eps` or the place of `out` is wrong.
    TypeError
        If a dtype is: integers, booleans, objects and masked arrays are refused.

    References
    ----------
    Wu and He 2018, arXiv:1803.08494, equations 1, 2 and 7.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = group_norm_forward(np.array([[1.0, 3.0, 10.0, 30.0]]), 2, eps=0)
    >>> y
    array([[-1.,  1., -1.,  1.]])
    >>> cache.mean
    array([[ 2., 20.]])
    """
    axes = (
        checks.integer("channel_axis", channel_axis),
        checks.integer("num_groups", num_groups, 2),
    )
    return normalize.forward(
        "group_norm", layout, x, gamma, beta, axes, eps=eps, dtype=dtype, out=out, where=where
    )


def layout(
    x: Array, gamma: Array | None, beta: Array | None, channel_axis: int, num_groups: int
) -> Layout:
    """Group norm shares statistics over the channels of a group and all positions of a sample."""
    c = checks.channel_axis(channel_axis, x)
    checks.per_channel(gamma, beta, (c,), x)
    groups = checks.number_of_groups(num_groups, x.shape[c])
    n = checks.batch_axis((c,))
    grouped = (*x.shape[:c], groups, x.shape[c] // groups, *x.shape[c + 1 :])
    sets = (n + 1 if n > c else n, c)
    over = tuple([a for a in range(x.ndim + 1) if a not in sets])
    return Layout(grouped, over=over, along=(c, c + 1), sets=sets)


def group_norm_backward(dy: ArrayLike, cache: Cache) -> tuple[Array, Array | None, Array | None]:
    """Return the gradients of `x`, `gamma` and `beta` of `group_norm_forward`.

    With dx_hat = gamma * dy and A the channels and positions of a group of a sample::

        dx = rstd * (dx_hat - E_A[dx_hat] - x_hat * E_A[dx_hat * x_hat])

    and dgamma, dbeta the sums of ``dy * x_hat`` and ``dy`` over samples and positions.

    Parameters
    ----------
    dy : ndarray
        Gradient of `y`, of its shape.
    cache : Cache
        What `group_norm_forward` returned.

    Returns
    -------
    dx, dgamma, dbeta : ndarray
        Of the shapes and dtypes of `x`, `gamma` and `beta`; None for one that was None.

    Raises
    ------
    ValueError
        If the shape of `dy` is wrong, or `cache` comes from elsewhere.
    TypeError
        If the dtype of `dy` is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> x, gamma = np.array([[1.0, 3.0, 2.0]]), np.array([1.0, 2.0, 1.0])
    >>> y, cache = group_norm_forward(x, 1, gamma)
    >>> dx, dgamma, dbeta = group_norm_backward(np.array([[1.0, 0.0, 0.0]]), cache)
    >>> dx.round(4), dgamma.round(4), dbeta
    (array([[ 0.2041,  0.2041, -0.4082]]), array([-1.2247,  0.    ,  0.    ]), None)
    """
    return normalize.backward("group_norm", dy, cache)
