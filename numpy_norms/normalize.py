"""From arguments to a pass, and back: checked and laid out once for every kind of arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import checks, passes
from . import equations as eq
from .cache import Cache
from .engine.lifting import factors_fit
from .engine.plans import Asked, Layout, Plan, plan_for
from .engine.rounding import native

Array = NDArray[Any]
LayoutOf = Callable[..., Layout]
T = TypeVar("T")


def forward(
    norm: str,
    layout_of: LayoutOf,
    x: ArrayLike,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    options: tuple[Any, ...],
    *,
    eps: float,
    dtype: DTypeLike | None,
    out: Array | None,
    output: Callable[..., Any] = eq.output,
) -> tuple[Array, Cache]:
    """y and the cache of a norm, which ``layout_of(x, gamma, beta, *options)`` lays out."""
    x = checks.array("x", x)
    gamma = None if gamma is None else checks.array("gamma", gamma)
    beta = None if beta is None else checks.array("beta", beta)
    plan = plan_of(norm, layout_of, x, gamma, beta, options, dtype)
    eps = checks.epsilon(eps)
    out = checks.output(out, x, gamma=gamma, beta=beta)
    if not factors_fit(plan, gamma, eps):
        plan = plan.careful()
    if not x.size:
        y = np.empty(x.shape, native(x.dtype)) if out is None else out
        return y, Cache(norm, x, gamma, beta, eps, plan, _of_nothing(plan))

    def fill(x: Array, y: Array) -> passes.Statistics:
        return passes.forward(plan, x, gamma, beta, eps, y, output)

    y, kept, statistics = filled(plan, x, out, fill)
    return y, Cache(norm, kept, gamma, beta, eps, plan, statistics)


def filled(
    plan: Plan, x: Array, out: Array | None, fill: Callable[[Array, Array], T]
) -> tuple[Array, Array | None, T]:
    """y, written to `out` where that is given; x, unless it has been overwritten; what fill returns."""
    if out is None:
        y = np.empty(x.shape, native(x.dtype))
        return y, x, fill(x, y)
    in_place = checks.same_memory(x, out)
    if plan.has_view(out):
        return out, None if in_place else x, fill(x, x if in_place else out)
    y = np.empty(x.shape, out.dtype)
    result = fill(x, y)
    np.copyto(out, y)
    return out, None if in_place else x, result


def backward(
    norm: str, dy: ArrayLike, cache: Cache, ds: Array | None = None
) -> tuple[Array, Array | None, Array | None]:
    """dx, dgamma and dbeta of the norm that made `cache`; `ds` joins dx before it is rounded."""
    dy, x = checks.upstream(dy, cache, norm)
    dx = np.empty(x.shape, native(x.dtype))
    make = np.empty if x.size else np.zeros
    gamma, beta = cache.gamma, cache.beta
    dgamma = None if gamma is None else make(gamma.shape, native(gamma.dtype))
    dbeta = None if beta is None else make(beta.shape, native(beta.dtype))
    gradients = dx, dgamma, dbeta
    scale = gamma if cache.scale is None else cache.scale
    passes.backward(cache.plan, dy, x, scale, cache.eps, cache.statistics, gradients, ds)
    return dx, dgamma, dbeta


def plan_of(
    norm: str,
    layout_of: LayoutOf,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    options: tuple[Any, ...],
    dtype: DTypeLike | None,
) -> Plan:
    """The plan for arguments of this kind."""
    return _plan(
        norm,
        layout_of,
        x.shape,
        x.dtype,
        None if gamma is None else (gamma.shape, gamma.dtype),
        None if beta is None else (beta.shape, beta.dtype),
        options,
        None if dtype is None else np.dtype(dtype),
    )


@lru_cache(maxsize=256)
def _plan(
    norm: str,
    layout_of: LayoutOf,
    shape: tuple[int, ...],
    x_dtype: np.dtype[Any],
    gamma: Any,
    beta: Any,
    options: tuple[Any, ...],
    dtype: np.dtype[Any] | None,
) -> Plan:
    x = _like(shape, x_dtype)
    parameters = [None if kind is None else _like(*kind) for kind in (gamma, beta)]
    layout = layout_of(x, *parameters, *options)
    work = checks.working_dtype(x, dtype)
    if gamma is beta is None:
        layout = layout._replace(along=())
    asked = Asked(norm != "rms_norm", gamma is not None, beta is not None)
    return plan_for(layout, work, x_dtype, asked)


def _like(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array of a kind, without memory, to be checked."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def _of_nothing(plan: Plan) -> passes.Statistics:
    zero = np.zeros(plan.set_shape, plan.work)
    return passes.Statistics(None, None, zero if plan.asked.means else None, zero)
