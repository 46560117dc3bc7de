"""From arguments to a pass, and back: checked and laid out once for every kind of arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

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
Kind = tuple[tuple[int, ...], np.dtype[Any]]


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
    if type(x) is not np.ndarray:
        x = checks.array("x", x)
    if gamma is not None and type(gamma) is not np.ndarray:
        gamma = checks.array("gamma", gamma)
    if beta is not None and type(beta) is not np.ndarray:
        beta = checks.array("beta", beta)
    plan = _plan(
        norm,
        layout_of,
        options,
        dtype if dtype is None else np.dtype(dtype),
        (x.shape, x.dtype),
        None if gamma is None else (gamma.shape, gamma.dtype),
        None if beta is None else (beta.shape, beta.dtype),
    )
    eps = checks.epsilon(eps)
    if plan.joins and not factors_fit(plan, gamma, eps):
        plan = plan.kept_apart()
    y, kept = place(plan, x, out, gamma=gamma, beta=beta)
    statistics = passes.forward(plan, x, gamma, beta, eps, y, output)
    y = y if out is None else delivered(y, out)
    return y, Cache(norm, kept, gamma, beta, eps, plan, statistics)


def place(
    plan: Plan, x: Array, out: Array | None, **others: Array | None
) -> tuple[Array, Array | None]:
    """Where to fill y: in `out`, which may be x; and x, unless it will be overwritten."""
    if out is None:
        return np.empty(x.shape, plan.result), x
    checks.output(out, x, **others)
    same = checks.same_memory(x, out)
    y = np.empty(x.shape, plan.result) if not out.flags.c_contiguous else x if same else out
    return y, None if same else x


def delivered(y: Array, out: Array) -> Array:
    """`out` with y in it."""
    if not checks.same_memory(y, out):
        np.copyto(out, y)
    return out


def backward(
    norm: str, dy: ArrayLike, cache: Cache, ds: Array | None = None
) -> tuple[Array, Array | None, Array | None]:
    """dx, dgamma and dbeta of the norm that made `cache`; `ds` joins dx before it is rounded."""
    dy, x = checks.upstream(dy, cache, norm)
    dx = np.empty(x.shape, cache.plan.result)
    make = np.empty if x.size else np.zeros
    gamma, beta = cache.gamma, cache.beta
    dgamma = None if gamma is None else make(gamma.shape, native(gamma.dtype))
    dbeta = None if beta is None else make(beta.shape, native(beta.dtype))
    gradients = dx, dgamma, dbeta
    scale = gamma if cache.scale is None else cache.scale
    passes.backward(cache.plan, dy, x, scale, cache.eps, cache.statistics, gradients, ds)
    return dx, dgamma, dbeta


@lru_cache(maxsize=256)
def _plan(
    norm: str,
    layout_of: LayoutOf,
    options: tuple[Any, ...],
    dtype: np.dtype[Any] | None,
    x: Kind,
    gamma: Kind | None,
    beta: Kind | None,
) -> Plan:
    """The plan for arguments of these kinds, which are checked here."""
    a = _like("x", x)
    parameters = [_like("gamma", gamma), _like("beta", beta)]
    layout = layout_of(a, *parameters, *options)
    if gamma is beta is None:
        layout = layout._replace(along=())
    asked = Asked(norm != "rms_norm", gamma is not None, beta is not None)
    return plan_for(layout, checks.working_dtype(a, dtype), a.dtype, asked)


def _like(name: str, kind: Kind | None) -> Any:
    """An array of a kind, without memory, to be checked."""
    if kind is None:
        return None
    return checks.array(name, np.broadcast_to(np.zeros((), kind[1]), kind[0]))
