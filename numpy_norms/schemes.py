"""Where trained models round on the way from x to y: what ``scheme=`` chooses.

exact
    ``y = gamma * x_hat + beta``, rounded once.
llama, onnx
    ``x_hat`` is rounded to the dtype of `x`, then ``gamma * x_hat``, then the sum with `beta`.
    Llama has no beta; up to there both are the same.
gemma
    ``y = (1 + gamma) * x_hat + beta``, rounded once: the model stores how far the scale is from 1.

Statistics are rounded to the working dtype. In half precision the places of these roundings decide
the last bit of many elements. A backward pass takes every rounding for the identity, as automatic
differentiation does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import checks, normalize
from .cache import Cache
from .normalize import LayoutOf

Array = NDArray[Any]
Scheme = Literal["exact", "llama", "gemma", "onnx"]


def forward_of(scheme: Scheme) -> Callable[..., tuple[Array, Cache]]:
    """The forward pass with these roundings; its arguments are those of `normalize.forward`."""
    return _FORWARD[checks.choice("scheme", scheme, ["exact", *_FORWARD])]


def _round_each_step(
    scheme: str, norm: str, layout_of: LayoutOf, x: ArrayLike, *arguments: Any, **options: Any
) -> tuple[Array, Cache]:
    x = checks.array("x", x)
    output = _each_step_rounded(x.dtype)
    y, cache = normalize.forward(norm, layout_of, x, *arguments, **options, output=output)
    return y, cache._replace(scheme=scheme)


def _scale_from_one(
    scheme: str,
    norm: str,
    layout_of: LayoutOf,
    x: ArrayLike,
    gamma: ArrayLike | None,
    *arguments: Any,
    **options: Any,
) -> tuple[Array, Cache]:
    x = checks.array("x", x)
    scale = None
    if gamma is not None:
        gamma = checks.array("gamma", gamma)
        checks.real_for_real("gamma", gamma, x)
        if options["out"] is not None:  # the pass sees the scale alone
            checks.output(options["out"], x, gamma=gamma)
        with np.errstate(all="ignore"):
            work = checks.working_dtype(x, options["dtype"])
            scale = np.add(gamma, 1, dtype=work, casting="unsafe")
            # At least float64, as the sums are, so that dgamma is rounded once.
            scale = scale.astype(np.promote_types(work, np.float64), copy=False)
    y, cache = normalize.forward(norm, layout_of, x, scale, *arguments, **options)
    return y, cache._replace(gamma=gamma, scale=scale, scheme=scheme)


@lru_cache(maxsize=16)
def _each_step_rounded(dtype: np.dtype[Any]) -> Any:
    """(5) with x_hat, the product and the sum rounded to `dtype`, one after the other."""

    def output(x_hat: Any, gamma: Any, beta: Any) -> Any:
        y = x_hat
        y.round(dtype)
        y *= gamma
        y.round(dtype)
        y += beta
        return y

    return output


_FORWARD: dict[str, Callable[..., tuple[Array, Cache]]] = {
    "llama": partial(_round_each_step, "llama", narrow=True),
    "gemma": partial(_scale_from_one, "gemma", narrow=True),
    "onnx": partial(_round_each_step, "onnx", narrow=True),
}
