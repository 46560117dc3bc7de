"""Global response norm: channels compete by their size over all positions (ConvNeXt V2)."""

from __future__ import annotations

from math import sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import checks, normalize
from .. import equations as eq
from ..engine import lifting, sums
from ..engine.plans import Asked, Plan, plan_for
from ..engine.tiles import Table, Tile, run
from ..instance_norm import layout

Array = NDArray[Any]


class GlobalResponseCache(NamedTuple):
    """What `global_response_norm_backward` needs; made by the forward pass."""

    x: Array
    gamma: Array
    beta: Array
    plan: Plan
    exponent: Array | None
    mean_square: Array  # of each map, times four to the exponent
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
    exponent, mean_square = _sizes(plan, x)
    with np.errstate(all="ignore"):
        q = _size(plan, exponent, mean_square)
        largest = _mean_of_channels(plan, q) + eps / sqrt(max(1, plan.m))
        n = q / np.where(largest == 0, np.inf, largest)  # (G2)
    y = np.empty(x.shape, plan.result)
    _forward(plan, x, gamma, beta, n, y)
    return y, GlobalResponseCache(x, gamma, beta, plan, exponent, mean_square, n)


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
    dx = np.empty(dy.shape, cache.plan.result)
    sums = _backward(cache, dy, dx)
    return dx, *normalize.gradients_of((cache.gamma, cache.beta), sums)


def _sizes(plan: Plan, x: Array) -> tuple[Array | None, Array]:
    """The mean square of each map, lifted, and the exponent."""
    (x,) = plan.views(x)
    found: Table = {}

    def prepare(tile: Tile, _: None, exponent: Any) -> Any:
        return (tile.lift(x, None, exponent),)

    def reduce(tile: Tile, x: Any) -> Any:
        return (), (tile.E(x, x),), ()

    def finish(mean_square: Any) -> Any:
        return None, mean_square

    def apply(tile: Tile, _: None, exponent: Any, mean: None, mean_square: Any) -> None:
        tile.keep(found, exponent, mean_square)

    def nearer(lifted: Any, averages: Any, sizes: Any) -> Any:
        return lifting.nearer(plan, 0.0, lifted, (None, *averages), sizes)

    run(plan, prepare, reduce, finish, apply, about=(None, None), nearer=nearer, slots=1)
    return found.get(0), found.get(1, np.zeros(plan.set_shape, plan.few))


def _forward(plan: Plan, x: Array, gamma: Array, beta: Array, n: Array, y: Array) -> None:
    x, y = plan.views(x, y)
    gamma, beta = plan.parameters(gamma, beta)

    def prepare(tile: Tile, n: Any) -> Any:
        return (tile.lift(x, into=y),)

    def reduce(tile: Tile, x: Any) -> Any:
        return (x,), (), ()

    def apply(tile: Tile, x: Any, n: Any) -> None:
        gamma_tile, beta_tile = tile.parameters(gamma, beta)
        tile.store(eq.output(x, 1 + gamma_tile * n, beta_tile), y)  # (G3)

    run(plan, prepare, reduce, None, apply, about=(n,), slots=1)


def _backward(cache: GlobalResponseCache, dy: Array, dx: Array) -> tuple[Array, Array]:
    x, gamma, _, plan, exponent, mean_square, n = cache
    x, dy, dx_view = plan.views(x, dy, dx)
    (gamma,) = plan.parameters(gamma.astype(plan.few))
    found: Table = {}
    totals: Table = {}

    def standardized(tile: Tile, exponent: Any, mean_square: Any) -> Any:
        rstd = eq.reciprocal_std(mean_square, lifting.eps_of(plan, 0.0, exponent, mean_square))
        return eq.standardized(tile.lift(x, None, exponent), None, rstd)

    def prepare(tile: Tile, *numbers: Any) -> Any:
        return tile.lift(dy), standardized(tile, *numbers)

    def reduce(tile: Tile, dy: Any, x_hat: Any) -> Any:
        return (), (tile.E(dy, x_hat),), (None, tile.B(dy))

    def finish(h: Any) -> Any:
        return (h,)

    def apply(tile: Tile, exponent: Any, mean_square: Any, h: Any) -> None:
        tile.keep(found, h)

    about = exponent, mean_square
    run(plan, prepare, reduce, finish, apply, about=about, sums=totals, slots=2)
    h = found.get(0, np.zeros_like(n))  # (G4)
    with np.errstate(all="ignore"):
        q = _size(plan, exponent, mean_square)
        dgamma = _sums_of_channels(plan, plan.m * n * q * h)  # (G5)
        along = gamma * n * h
        along = along - _mean_of_channels(plan, along * n)

    def prepare_dx(tile: Tile, exponent: Any, mean_square: Any, n: Any, along: Any) -> Any:
        return tile.lift(dy, into=dx_view), standardized(tile, exponent, mean_square)

    def reduce_dx(tile: Tile, dy: Any, x_hat: Any) -> Any:
        return (dy, x_hat), (), ()

    def apply_dx(tile: Tile, dy: Any, x_hat: Any, *numbers: Any) -> None:
        *_, n, along = numbers
        (gamma_tile,) = tile.parameters(gamma)
        dx = dy
        dx *= 1 + gamma_tile * n
        x_hat *= along
        dx += x_hat  # (G6)
        tile.store(dx, dx_view)

    run(plan, prepare_dx, reduce_dx, None, apply_dx, about=(*about, n, along), slots=2)
    return dgamma, totals.get(1, np.zeros(plan.parameter_shape)).ravel()


def _size(plan: Plan, exponent: Array | None, mean_square: Array) -> Array:
    """The root mean square of each map of x itself."""
    q = np.sqrt(mean_square)  # (G1)
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
