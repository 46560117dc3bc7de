"""Hypothesis strategies that draw inputs of the norms by their structure, not by raw floats."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

try:
    from hypothesis import strategies as st
    from hypothesis import target
except ImportError as error:
    raise ImportError(
        "numpy_norms.verify.strategies needs hypothesis: pip install hypothesis"
    ) from error

from numpy_norms.oracle.sets import FEATURE_NORMS

from . import draft
from .arrangement import Arrangement
from .asked import axes_needed, floating
from .battery import Case
from .judge import Judge
from .plain import Array
from .recipes import every_second, first_row_only
from .runs import gradient_names
from .tolerances import Accumulator, roundoff

__all__ = ["aim", "norm_cases"]

_LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "contiguous": np.ascontiguousarray,
    "strided": every_second,
    "column_major": np.asfortranarray,
}
_CHANGES: dict[str, Callable[[draft.Draft], None]] = {
    "none": lambda _: None,
    "spike": partial(draft.spike, 100.0),
    "far set": partial(draft.far_set, 100.0),
    "constant": draft.constant_sets,
    "gamma 0": draft.zero_gamma,
}


@st.composite
def norm_cases(
    draw: st.DrawFn, /, norm: str, *, dtype: DTypeLike = np.float32, **options: Any
) -> Case:
    """Draw a case of a norm: sizes, the ratio of mean and deviation, scale, eps, ties and layout.

    Parameters
    ----------
    norm : str
    dtype : dtype, default float32
    **options
        `axis` or `channel_axis`, as in this library's functions.

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5, database=None, derandomize=True)
    ... @given(norm_cases("layer_norm"))
    ... def test_my_kernel(case):
    ...     assert case.x.shape[-1:] == case.gamma.shape
    >>> test_my_kernel()
    """
    arrangement = Arrangement.of(norm, options)
    theirs = floating("dtype", dtype)
    least = max(axes_needed(arrangement), arrangement.features + 1)
    shape, num_groups = draw(_shapes(norm, least))
    features = shape[-arrangement.features :] if norm in FEATURE_NORMS else shape[1:2]
    view = arrangement.view(np.empty(shape, bool), np.empty(features, bool), num_groups)
    top = math.log10(0.15 / roundoff(theirs))
    made = draft.draw(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        view,
        std=10.0 ** draw(st.integers(-1 if theirs == np.float16 else -3, 2)),  # r dy overflows
        mean=10.0 ** draw(st.floats(-1, min(top, 4))),
        eps=10.0 ** draw(st.integers(-3, 1)),
    )
    _CHANGES[draw(st.sampled_from(sorted(_CHANGES)))](made)
    if norm == "rms_norm":
        made.beta[...] = 0
    layout = _LAYOUTS[draw(st.sampled_from(sorted(_LAYOUTS)))]

    def laid_out(a: Array) -> Array:
        return layout(np.ascontiguousarray(arrangement.outward(a.reshape(shape).astype(theirs))))

    dy = laid_out(made.dy)
    return Case(
        "drawn",
        norm,
        "drawn by hypothesis",
        laid_out(made.x),
        made.gamma.reshape(features).astype(theirs),
        made.beta.reshape(features).astype(theirs),
        first_row_only(dy) if draw(st.booleans()) else dy,
        made.eps,
        num_groups,
    )


@st.composite
def _shapes(draw: st.DrawFn, norm: str, least: int) -> tuple[tuple[int, ...], int | None]:
    """Draw distinct sizes: (N, C, *S), or (*B, *D) with the normalized axes last."""
    sizes = st.lists(st.integers(2, 9), unique=True, min_size=least, max_size=least + 2)
    shape = tuple(draw(sizes))
    if norm in FEATURE_NORMS:
        return shape, None
    if norm != "group_norm":
        return (shape if norm == "batch_norm" else (*shape, 11)), None
    groups = draw(st.integers(1, 3))
    return (shape[0], groups * shape[1], *shape[2:], 11), groups


def aim(
    case: Case,
    *,
    accumulate: DTypeLike | Accumulator | None = None,
    options: dict[str, Any] | None = None,
    **results: Any,
) -> float:
    """Return the largest error / tolerance of some results, and steer Hypothesis towards it.

    Parameters
    ----------
    case : Case
    accumulate : dtype or Accumulator, optional
        What the kernel declares to add up in.
    options : dict, optional
        `axis` or `channel_axis`, as they were given to `norm_cases`.
    **results
        Any of `y`, `dx`, `dgamma`, `dbeta`.

    Raises
    ------
    ValueError
        If there is no result, or one of another name or shape.
    """
    judge = Judge(case, Arrangement.of(case.norm, options or {}), case.x.dtype, accumulate)
    names = ("y", *gradient_names(case.norm))
    if not results or not {*results} <= {*names}:
        came = ", ".join(results) or "no result"
        raise ValueError(f"aim is given {came}; it takes {', '.join(names)} by name")
    for name, got in results.items():
        if np.shape(got) != judge.expected[name].shape:
            expected = judge.expected[name].shape
            raise ValueError(f"{name} has shape {np.shape(got)}; {expected} is expected")
    worst = max(
        judge.apart(name, np.asarray(got, np.float64), judge.expected[name])
        for name, got in results.items()
    )
    target(min(worst, 1e9), label="error / tolerance")
    return worst
