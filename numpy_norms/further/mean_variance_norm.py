"""Mean-variance normalization: zero mean, unit standard deviation, eps outside the root (ONNX)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import checks
from .. import equations as eq
from ..engine import lifting
from ..engine.plans import Asked, Plan, plan_for
from ..engine.programs import repeated
from ..engine.tiles import Steps, Tile, as_found, run
from ..layer_norm import layout
from ..passes import Statistics, mean_and_variance, standardized

Array = NDArray[Any]


class MeanVarianceCache(NamedTuple):
    """What `mean_variance_norm_backward` needs; made by the forward pass."""

    x: Array
    eps: float
    plan: Plan
    statistics: Statistics

    def __repr__(self) -> str:
        x = self.x
        return f"<cache of mean_variance_norm: x {x.dtype.name} {x.shape}, eps {self.eps:g}>"


def mean_variance_norm_forward(
    x: ArrayLike,
    *,
    axis: int | Sequence[int] = (0, 2, 3),
    eps: float = 1e-9,
    dtype: DTypeLike | None = None,
) -> tuple[Array, MeanVarianceCache]:
    """Normalize to zero mean and unit standard deviation, over the axes given.

    Over A = `axis`, with eps added to the standard deviation, not to the variance::

        y = (x - E_A[x]) / (sqrt(Var_A[x]) + eps)

    A constant set gives zeros. This is MeanVarianceNormalization of ONNX, opset 13.

    Parameters
    ----------
    x : ndarray
        Of any shape that has these axes.
    axis : int or sequence of ints, default (0, 2, 3)
        The axes that share statistics; the default is ONNX', one set per channel of (N, C, H, W).
    eps : float, default 1e-9
        Added to the standard deviation; in units of x.
    dtype : dtype, optional
        The type to compute in; float64 if `x` is narrower, and otherwise that of `x`.

    Returns
    -------
    y : ndarray, of the shape and dtype of `x`
    cache : MeanVarianceCache
        For `mean_variance_norm_backward`.

    Raises
    ------
    ValueError
        If `axis` or `eps` is out of range.
    TypeError
        If `x` is no array of floats.

    References
    ----------
    ONNX, operator MeanVarianceNormalization, opset 13; the (V) equations of
    ``docs/further_norms.md``.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = mean_variance_norm_forward(np.array([[1.0, 3.0]]), axis=1, eps=1.0)
    >>> y
    array([[-0.5,  0.5]])
    """
    x = checks.array("x", x)
    eps = checks.epsilon(eps)
    sets = layout(x, None, None, checks.integers("axis", axis))._replace(along=())
    plan = plan_for(sets, checks.working_dtype(x, dtype), x.dtype, Asked())
    y = plan.result_like(x)
    return y, MeanVarianceCache(x, eps, plan, _filled(plan, x, eps, y))


def mean_variance_norm_backward(dy: ArrayLike, cache: MeanVarianceCache) -> Array:
    """Return dx for the gradient `dy` of ``y``.

    Over A = the axes of the forward pass, with sigma = sqrt(Var_A[x])::

        dx = (dy - E_A[dy] - x_hat * E_A[dy * y]) / (sigma + eps)    x_hat = (x - E_A[x]) / sigma

    In a constant set x_hat counts as zero, which makes this the derivative there too.

    Parameters
    ----------
    dy : ndarray
        Gradient of the loss with respect to ``y``, of its shape.
    cache : MeanVarianceCache
        From `mean_variance_norm_forward`.

    Returns
    -------
    dx : ndarray
        Shape and dtype of ``x``.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = mean_variance_norm_forward(np.array([[1.0, 3.0]]), axis=1, eps=1.0)
    >>> mean_variance_norm_backward(np.array([[1.0, 0.0]]), cache)
    array([[ 0.125, -0.125]])
    """
    checks.made_by("mean_variance_norm", MeanVarianceCache, cache)
    dy = checks.gradient("dy", dy, cache.x)
    x, eps, plan, statistics = cache
    dx = plan.result_like(dy)
    run(_backward, plan, (x, dy, dx), (), statistics, eps, slots=2)
    return dx


@repeated
def _filled(plan: Plan, x: Array, eps: float, y: Array) -> Statistics:
    kept, _ = run(_forward, plan, (x, y), (), (None, None), eps, slots=1)
    return Statistics(*kept)


def _forward(tile: Tile, x_view: Array, y_view: Array, eps: float) -> Steps:
    def reduce(pivot: Any, exponent: Any) -> Any:
        x = tile.lift(x_view, pivot, exponent, into=y_view)
        return (x,), eq.moments(x, tile.E, tile.M), ()  # (V1), (V2)

    def apply(x: Any, pivot: Any, exponent: Any, mean: Any, var: Any) -> Any:
        r = _reciprocal(tile.plan, eps, exponent, var)
        tile.store(eq.standardized(x, mean, r), y_view)  # (V4)
        return pivot, exponent, mean, var

    return Steps(reduce, _found, apply, partial(lifting.nearer, tile.plan, eps * eps))


def _backward(tile: Tile, x_view: Array, dy_view: Array, dx_view: Array, eps: float) -> Steps:
    def reduce(*statistics: Any) -> Any:
        x_hat, _ = standardized(tile, x_view, 0, *statistics)
        dy = tile.lift(dy_view, into=dx_view)
        return (dy, x_hat), eq.averages(dy, x_hat, tile.E, tile.M), ()

    def apply(dy: Any, x_hat: Any, *numbers: Any) -> None:
        _, exponent, _, var, mean_dy, mean_dy_x_hat = numbers
        r = _reciprocal(tile.plan, eps, exponent, var)
        mean_dy_y = mean_dy_x_hat * np.sqrt(var) * r
        dx = eq.input_gradient(dy, x_hat, r, mean_dy, mean_dy_y)  # (V5)
        tile.unlift(dx, exponent)
        tile.store(dx, dx_view)

    return Steps(reduce, as_found, apply)


def _found(*averages: Any) -> tuple[Any, Any]:
    """The mean and the variance, which has no eps beside it under the root."""
    mean, var = mean_and_variance(*averages)
    return mean, lifting.at_least_zero(var)


def _reciprocal(plan: Plan, eps: float, exponent: Any, var: Array) -> Any:
    """1 / (sigma + eps) of lifted sets; 0 where both are too small for one, so that y is."""
    r = 1 / (np.sqrt(var) + (eps if exponent is None else eps * plan.power(exponent)))  # (V3)
    return np.where(np.abs(r) > np.finfo(plan.work).max, 0, r)
