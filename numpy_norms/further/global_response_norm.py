"""Global response norm: channels compete by their size over all positions (ConvNeXt V2)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import checks, normalize, pieces
from .. import equations as eq
from ..engine import sums
from ..engine.plans import Asked, Plan, plan_for
from ..engine.tiles import Steps, Tile, as_found, run
from ..instance_norm import layout
from ..passes import Statistics, standardized

Array = NDArray[Any]


class GlobalResponseCache(NamedTuple):
    """What `global_response_norm_backward` needs; made by the forward pass."""

    x: Array
    gamma: Array
    beta: Array
    plan: Plan
    statistics: Statistics  # of each map, whose variance is the mean square
    n: Array  # of each map

    def __repr__(self) -> str:
        return f"<cache of global_response_norm: x {self.x.dtype.name} {self.x.shape}>"


def global_response_norm_forward(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    *,
    channel_axis: int = 1,
    eps: float = 1e-6,
    dtype: DTypeLike | None = None,
) -> tuple[Array, GlobalResponseCache]:
    """Scale each channel of a sample by how large it is beside the other channels.

    With S all axes but those of samples and channels, and C the channels of a sample::

        y = x + gamma * x * n + beta      n = |x|_S / (E_C[|x|_S] + eps)

    where ``|x|_S`` is the root of the sum of squares. With gamma and beta zero, y is x.

    Parameters
    ----------
    x : ndarray, shape (N, C, *S)
        Or with the channels at `channel_axis`; with at least two axes.
    gamma, beta : ndarray, shape (C,)
        Scale and shift of each channel.
    channel_axis : int, default 1
        The axis of the channels; -1 where they are last, as in ConvNeXt V2.
    eps : float, default 1e-6
        Added to the mean of the sizes; in units of x.
    dtype : dtype, optional
        The type to compute in; float64 if `x` is narrower, and otherwise that of `x`.

    Returns
    -------
    y : ndarray, of the shape and dtype of `x`
    cache : GlobalResponseCache
        For `global_response_norm_backward`.

    Raises
    ------
    ValueError
        If a shape, `channel_axis` or `eps` is wrong.
    TypeError
        If a dtype is: integers, booleans, objects and masked arrays are refused.

    References
    ----------
    Woo et al. 2023, arXiv:2301.00808, section 3.3; the (G) equations of
    ``docs/further_norms.md``.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[3.0, 4.0], [0.0, 15.0]]])
    >>> y, cache = global_response_norm_forward(x, np.ones(2), np.zeros(2), eps=0)
    >>> y
    array([[[ 4.5,  6. ],
            [ 0. , 37.5]]])
    """
    x = checks.array("x", x)
    c = (checks.channel_axis(channel_axis, x),)
    gamma = checks.given_of_channels("gamma", gamma, c, x)
    beta = checks.given_of_channels("beta", beta, c, x)
    eps, work = checks.epsilon(eps), checks.working_dtype(x, dtype)
    wide = np.promote_types(work, np.float64)
    plan = plan_for(layout(x, gamma, beta, c), work, x.dtype, Asked(False, None, wide))
    statistics = pieces.statistics(plan, x, 0.0, None)
    with np.errstate(all="ignore"):
        q = _size(plan, statistics)
        largest = _mean_of_channels(plan, q) + eps / np.sqrt(plan.number(max(1, plan.m)))
        n = q / np.where(largest == 0, np.inf, largest)  # (R2)
    y = plan.result_like(x)
    run(_forward, plan, (x, y), (gamma, beta), (n,), slots=1)
    return y, GlobalResponseCache(x, gamma, beta, plan, statistics, n)


def global_response_norm_backward(
    dy: ArrayLike, cache: GlobalResponseCache
) -> tuple[Array, Array, Array]:
    """Return the gradients of `x`, `gamma` and `beta` of `global_response_norm_forward`.

    With S, C and n as there, and x_hat each map divided by its root mean square::

        h = E_S[dy * x_hat]
        dx = dy + gamma * n * dy + x_hat * (gamma * n * h - E_C[gamma * n**2 * h])

    dgamma and dbeta are the sums of ``dy * x * n`` and ``dy``. In a map of zeros x_hat is 0.

    Parameters
    ----------
    dy : ndarray
        Gradient of `y`, of its shape.
    cache : GlobalResponseCache
        From `global_response_norm_forward`.

    Returns
    -------
    dx, dgamma, dbeta : ndarray
        Of the shapes and dtypes of `x`, `gamma` and `beta`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[3.0, 4.0], [0.0, 15.0]]])
    >>> y, cache = global_response_norm_forward(x, np.ones(2), np.zeros(2), eps=0)
    >>> dx, dgamma, dbeta = global_response_norm_backward(np.ones((1, 2, 2)), cache)
    >>> dx, dgamma, dbeta
    (array([[[1.14, 1.02],
            [2.5 , 2.7 ]]]), array([ 3.5, 22.5]), array([2., 2.]))
    """
    checks.made_by("global_response_norm", GlobalResponseCache, cache)
    dy = checks.gradient("dy", dy, cache.x)
    checks.complex_for_complex("gamma", cache.gamma, cache.x)
    checks.complex_for_complex("beta", cache.beta, cache.x)
    dx = cache.plan.result_like(dy)
    sums = _backward(cache, dy, dx)
    return dx, *normalize.gradients_of((cache.gamma, cache.beta), sums)


def _forward(tile: Tile, x_view: Array, y_view: Array, gamma: Array, beta: Array) -> Steps:
    def reduce(_: Any) -> Any:
        return (tile.lift(x_view, into=y_view),), (), ()

    def apply(x: Any, n: Any) -> None:
        tile.store(eq.output(x, 1 + gamma * n, beta), y_view)  # (R3)

    return Steps(reduce, None, apply)


def _backward(cache: GlobalResponseCache, dy: Array, dx: Array) -> Any:
    x, gamma, _, plan, statistics, n = cache
    kept, sums_dy = run(_averages, plan, (x, dy), (), statistics, slots=2)
    (h,) = kept  # (R4)
    with np.errstate(all="ignore"):
        q = _size(plan, statistics)
        dgamma = _sums_of_channels(plan, plan.m * (n * h) * q)  # (R5)
        gamma = gamma.astype(plan.few)
        (along,) = plan.parameters(gamma)
        along = along * n * h
        along = along - _mean_of_channels(plan, along * n)
    run(_input_gradient, plan, (x, dy, dx), (gamma,), (*statistics, n, along), slots=2)
    return dgamma, sums_dy[1]


def _averages(tile: Tile, x_view: Array, dy_view: Array) -> Steps:
    def reduce(*statistics: Any) -> Any:
        dy, (x_hat, _) = tile.lift(dy_view), standardized(tile, x_view, 0, *statistics)
        return (), (tile.E(dy, x_hat),), (None, tile.B(dy))

    def apply(*numbers: Any) -> Any:
        return numbers[-1:]

    return Steps(reduce, as_found, apply)


def _input_gradient(
    tile: Tile, x_view: Array, dy_view: Array, dx_view: Array, gamma: Array
) -> Steps:
    def reduce(*numbers: Any) -> Any:
        x_hat, _ = standardized(tile, x_view, 0, *numbers[:4])
        return (tile.lift(dy_view, into=dx_view), x_hat), (), ()

    def apply(dx: Any, x_hat: Any, *numbers: Any) -> None:
        *_, n, along = numbers
        dx *= 1 + gamma * n
        x_hat *= along
        dx += x_hat  # (R6)
        tile.store(dx, dx_view)

    return Steps(reduce, None, apply)


def _size(plan: Plan, statistics: Statistics) -> Array:
    """The root mean square of each map of x itself."""
    _, exponent, _, mean_square = statistics
    q = np.sqrt(mean_square)  # (R1)
    return q if exponent is None else plan.times(q, -exponent)


def _mean_of_channels(plan: Plan, a: Array) -> Array:
    """The means over the channels of a sample, repeated for each channel."""
    if not plan.along:  # there is one
        return a
    (c,) = plan.along
    rows = np.ascontiguousarray(np.moveaxis(a, c, -1))
    means = np.moveaxis(sums.along(rows), -1, c) / max(1, a.shape[c])
    return np.broadcast_to(means, a.shape)


def _sums_of_channels(plan: Plan, a: Array) -> Array:
    """The sums over samples, one for each channel."""
    c = plan.along[0] if plan.along else 0
    channels = a.shape[c] if plan.along else 1
    return sums.along(np.moveaxis(a, c, 0).reshape(channels, a.size // max(1, channels))).ravel()
