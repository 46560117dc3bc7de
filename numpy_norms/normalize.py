"""From arguments to a pass, and back: checked and laid out once for every kind of arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import checks, masks, passes
from . import equations as eq
from .cache import Cache
from .engine.lifting import careful, moderate
from .engine.plans import Asked, Layout, Plan, plan_for
from .engine.programs import repeated
from .engine.rounding import round_to
from .engine.tiles import run

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
    where: ArrayLike | None = None,
    output: Callable[..., Any] = eq.output,
    narrow: bool = False,
) -> tuple[Array, Cache]:
    """y and the cache of a norm, which ``layout_of(x, gamma, beta, *options)`` lays out.

    A scheme has another last step, `output`, and statistics that are `narrow`, rounded to `dtype`.
    """
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
        dtype if dtype is None else checks.dtype_of(dtype),
        (x.shape, x.dtype),
        None if gamma is None else (gamma.shape, gamma.dtype),
        None if beta is None else (beta.shape, beta.dtype),
        narrow,
    )
    eps = checks.epsilon(eps)
    if where is not None:
        where = checks.mask(where, x)
    y, kept = (None, x) if out is None else place(x, out, gamma=gamma, beta=beta, where=where)
    mask = None if where is None else masks.mask_of(plan, where, x)
    if mask is None:
        y, plan, statistics = _filled(plan, x, gamma, beta, eps, output, y)
    else:
        y = plan.result_like(x) if y is None else y
        plan = careful(plan, gamma, eps)
        if norm == "batch_norm":
            checks.none_empty(None if mask.empty is None else plan.in_order(mask.empty))
        about, views = (None, None, *mask.of_sets), (x, mask.hidden, y)
        numbers, _ = run(masks.forward, plan, views, (gamma, beta), about, eps, output, slots=2)
        statistics = passes.Statistics(*numbers)
    y = y if out is None else delivered(y, out)
    return y, Cache(norm, kept, gamma, beta, eps, plan, statistics, mask)


def place(x: Array, out: Array, **others: Array | None) -> tuple[Array | None, Array | None]:
    """Where to fill y, which may be x, or None for elsewhere; and x, unless it is overwritten."""
    checks.output(out, x, **others)
    same = checks.same_memory(x, out)
    y = x if same else np.asarray(out)  # of a memory map, its array
    return y if out.flags.carray else None, None if same else x  # contiguous and aligned


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
    plan, gamma, beta, eps = cache.plan, cache.gamma, cache.beta, cache.eps
    if cache.mask is None:
        dx, dgamma, dbeta = _gradients(
            plan, dy, x, gamma, beta, cache.scale, eps, ds, *cache.statistics
        )
        return dx, dgamma, dbeta
    dx = plan.result_like(x)
    scale, power = moderate(plan, gamma if cache.scale is None else cache.scale)
    about, views = (*cache.statistics, *cache.mask.of_sets), (x, cache.mask.hidden, dy, dx)
    _, sums = run(masks.backward, plan, views, (scale,), about, eps, power, slots=3)
    return dx, *gradients_of((gamma, beta), sums)


@repeated
def _filled(
    plan: Plan,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    eps: float,
    output: Callable[..., Any],
    y: Array | None,
) -> tuple[Array, Plan, passes.Statistics]:
    """Fill y; return it, the plan that did, and the statistics."""
    y = plan.result_like(x) if y is None else y
    plan = careful(plan, gamma, eps)
    about = None, None
    kept, _ = run(passes.forward, plan, (x, y), (gamma, beta), about, eps, output, slots=1)
    return y, plan, passes.Statistics(*kept)


@repeated
def _gradients(
    plan: Plan,
    dy: Array,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    scale: Array | None,
    eps: float,
    ds: Array | None,
    *statistics: Any,
) -> Any:
    """dx, and dgamma and dbeta, rounded."""
    dx = plan.result_like(x)
    scale, power = moderate(plan, gamma if scale is None else scale)
    slots = plan.slots + (ds is not None)
    views = x, dy, dx, ds
    _, sums = run(passes.backward, plan, views, (scale,), statistics, eps, power, slots=slots)
    return dx, *gradients_of((gamma, beta), sums)


@np.errstate(all="ignore")
def gradients_of(parameters: tuple[Array | None, ...], sums: Sequence[Any]) -> Any:
    """The gradients of parameters, which may be absent, from sums."""
    gradients: list[Array | None] = []
    for a, total in zip(parameters, sums, strict=True):
        if a is None:
            gradients.append(None)
        else:
            rounded = total if total.dtype == a.dtype else round_to(total, a.dtype)
            gradients.append(rounded.reshape(a.shape))
    return gradients


@lru_cache(maxsize=256)
def _plan(
    norm: str,
    layout_of: LayoutOf,
    options: tuple[Any, ...],
    dtype: np.dtype[Any] | None,
    x: Kind,
    gamma: Kind | None,
    beta: Kind | None,
    narrow: bool,
) -> Plan:
    """The plan for arguments of these kinds, which are checked here."""
    a = of_kind("x", x)
    parameters = [of_kind("gamma", gamma), of_kind("beta", beta)]
    layout = layout_of(a, *parameters, *options)
    if gamma is beta is None:
        layout = layout._replace(along=())
    asked = Asked(norm != "rms_norm", gamma and gamma[1], beta and beta[1], narrow=narrow)
    return plan_for(layout, checks.working_dtype(a, dtype), a.dtype, asked)


def of_kind(name: str, kind: Kind | None) -> Any:
    """An array of a kind, without memory, to be checked."""
    if kind is None:
        return None
    return checks.array(name, np.broadcast_to(np.zeros((), kind[1]), kind[0]))
