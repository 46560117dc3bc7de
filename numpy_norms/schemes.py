"""Where trained models round on the way from x to y: what ``scheme=`` chooses.

exact
    ``y = gamma * x_hat + beta``, rounded once.
llama, onnx
    ``x_hat`` is rounded to the dtype of `x`, then ``gamma * x_hat``, then the sum with `beta`.
    Llama has no beta; up to there both are the same.
gemma
    ``y = (1 + gamma) * x_hat + beta``, rounded once: the model stores how far the scale is from 1.

In half precision the places of these roundings decide the last bit of many elements. A backward
pass takes every rounding for the identity, as automatic differentiation does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import equations as eq
from . import normalization
from .blocks import Block, Gathered, sweep
from .cache import Cache
from .plans import Layout, plan_for
from .rounding import round_to

Array = NDArray[Any]
Scheme = Literal["exact", "llama", "gemma", "onnx"]
Forward = Callable[..., tuple[Array, Cache]]


def forward_of(scheme: Scheme) -> Forward:
    """The forward pass with these roundings; its arguments are those of `normalization.forward`."""
    if scheme == "exact":
        return normalization.forward
    if not isinstance(scheme, str) or scheme not in _FORWARD:
        choices = ", ".join(map(repr, ["exact", *_FORWARD]))
        raise ValueError(f"scheme is {scheme!r}, but one of {choices} was expected; pass 'exact'")
    return partial(_FORWARD[scheme], scheme)


def backward(dy: Array, cache: Cache) -> tuple[Array, Array | None, Array | None]:
    """dx, dgamma and dbeta of the norm that made `cache`; dgamma is that of the gamma passed."""
    if cache.scheme != "gemma" or cache.gamma is None:
        return normalization.backward(dy, cache)
    scale = _one_plus(cache.gamma, cache.work)
    # At least float64, as the sums are, so that dgamma is rounded once.
    scale = scale.astype(np.promote_types(scale.dtype, np.float64), copy=False)
    dx, dscale, dbeta = normalization.backward(dy, cache._replace(gamma=scale))
    assert dscale is not None
    with np.errstate(all="ignore"):
        return dx, round_to(dscale, cache.gamma.dtype), dbeta


def _round_each_step(
    scheme: str,
    norm: str,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    *,
    layout: Layout,
    work: np.dtype[Any],
    **options: Any,
) -> tuple[Array, Cache]:
    y, cache = normalization.forward(norm, x, None, None, layout=layout, work=work, **options)
    _scale_and_shift(y, gamma, beta, layout, np.promote_types(work, y.dtype))
    return y, cache._replace(gamma=gamma, beta=beta, layout=layout, scheme=scheme)


def _scale_and_shift(
    y: Array, gamma: Array | None, beta: Array | None, layout: Layout, work: np.dtype[Any]
) -> None:
    """Turn x_hat into y where it lies, and round the product before beta is added."""
    plan = plan_for(layout, work.itemsize)
    view = plan.view(y)

    def step(block: Block, gamma: Array | None, beta: Array | None) -> None:
        x_hat, own, out = block.lift(view, 0), block.own(0), block.place(view, 0)
        block.store(eq.affine(x_hat, gamma, beta, own=own, out=out), view)

    def visit(block: Block, _: Gathered) -> None:
        if scale is not None:
            step(block, block.parameters(scale), None)
        if shift is not None:
            step(block, None, block.parameters(shift))

    with np.errstate(all="ignore"):
        scale, shift = plan.parameter(gamma, work), plan.parameter(beta, work)
        sweep(plan, visit, work)


def _scale_from_one(
    scheme: str,
    norm: str,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    *,
    work: np.dtype[Any],
    **options: Any,
) -> tuple[Array, Cache]:
    scale = None if gamma is None else _one_plus(gamma, work)
    y, cache = normalization.forward(norm, x, scale, beta, work=work, **options)
    return y, cache._replace(gamma=gamma, scheme=scheme)


def _one_plus(gamma: Array, work: np.dtype[Any]) -> Array:
    with np.errstate(all="ignore"):
        one_plus: Array = np.add(gamma, 1, dtype=work, casting="unsafe")
    return one_plus


_FORWARD: dict[str, Forward] = {
    "llama": _round_each_step,
    "gemma": _scale_from_one,
    "onnx": _round_each_step,
}
