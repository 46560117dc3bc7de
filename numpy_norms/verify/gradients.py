"""Checking the gradients of any pair of forward and backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from numpy_norms.checks import read, shown

from .asked import whole_number
from .pair import Pair, copied, several
from .plain import Array
from .report import Report, Row

__all__ = ["check_gradients"]


def check_gradients(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    *arrays: ArrayLike | None,
    seed: int = 0,
) -> Report:
    """Check a backward pass against numerical derivatives of its forward pass.

    For random dy and directions t it compares sum t d(array) with the derivative of
    sum dy y(array + s t) at s = 0: by complex step if the forward pass carries complex numbers as
    an analytic function does, and otherwise by extrapolated central differences. Directions are
    random, and in the row space of the Jacobian, so that none is wasted on its null space.
    At a kink any slope between those on its two sides is right, and the report says so.

    Parameters
    ----------
    forward : callable
        ``forward(*arrays) -> (y, cache)``; options are bound with `functools.partial`.
    backward : callable
        ``backward(dy, cache) ->`` one gradient for each array; more are allowed if they are None.
    *arrays : array_like or None
        What the passes are checked at. Taken to float64 first: this checks formulas, not rounding.
        None stays None, and so must its gradient.
    seed : int, default 0

    Returns
    -------
    Report
        Errors in units of the estimated error of the numerical derivative.

    Raises
    ------
    TypeError
        If an array does not hold real floating-point numbers, a pass is no function, or forward
        does not return a pair.
    ValueError
        If there is no array, or one holds NaN or infinity.

    Examples
    --------
    >>> from numpy_norms import rms_norm_backward, rms_norm_forward
    >>> x, gamma = np.random.default_rng(0).standard_normal((2, 5))
    >>> check_gradients(rms_norm_forward, rms_norm_backward, x, gamma).passed
    True
    """
    for what, given in (("forward", forward), ("backward", backward)):
        if not callable(given):
            raise TypeError(f"{what} is {shown(given)}; a function is expected")
    whole_number("seed", seed)
    points = [None if array is None else _point(array, i) for i, array in enumerate(arrays)]
    if all(point is None for point in points):
        raise ValueError("there is no array to check a gradient of; pass one after the two passes")
    rng = np.random.default_rng(seed)
    y, cache = _ahead(forward, copied(points))
    if not np.isfinite(y).all():
        note = "is not finite here: there is no derivative to compare with"
        return Report("gradients", (Row.failure("values", "y", note),))
    dy = rng.standard_normal(y.shape)
    gradients = several(backward(dy.copy(), cache))
    wrong = list(_shape_rows(points, gradients))
    if wrong:
        return Report("gradients", tuple(wrong))
    checked = [i for i, point in enumerate(points) if point is not None]
    pair = Pair(
        forward, backward, points, rng, dy, [np.asarray(g) for g in gradients if g is not None]
    )
    rows = [row for place, i in enumerate(checked) for row in pair.rows(i, place)]
    rows += [*pair.linear_rows(), *pair.rounding_rows()]
    method = "complex step" if all(pair.methods) else "extrapolated differences"
    return Report(
        f"gradients against {method}",
        tuple(rows),
        unit="1 unit is the estimated error of the numerical derivative",
        remark="\n".join(pair.remarks()),
    )


def _point(array: ArrayLike, i: int) -> Array:
    value = read(f"array {i}", array)
    if value.dtype.kind not in "fV":
        raise TypeError(
            f"array {i} has dtype {value.dtype}; pass real floating-point numbers, "
            "and bind other arguments with functools.partial"
        )
    if not np.isfinite(value.astype(np.float64)).all():
        raise ValueError(
            f"array {i} holds NaN or infinity, where there is no derivative; pass finite numbers"
        )
    return value.astype(np.float64)


def _ahead(forward: Callable[..., Any], points: Sequence[Array | None]) -> tuple[Array, Any]:
    """Return y and the cache, of a forward pass that returns the two."""
    found = forward(*points)
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        of = f" of {len(found)}" if isinstance(found, (tuple, list)) else ""
        raise TypeError(
            f"forward returned a {type(found).__name__}{of}; y and a cache are expected: "
            "return y, None if backward needs none, and stack several outputs into one y"
        )
    try:
        y = np.asarray(found[0])
    except ValueError:  # arrays of several shapes
        y = np.asarray(None)
    if y.dtype.kind not in "fiuV":
        raise TypeError(
            f"forward returned a {type(found[0]).__name__} as y; one array of real numbers is "
            "expected: stack several outputs into one"
        )
    return y, found[1]


def _shape_rows(points: Sequence[Array | None], gradients: Sequence[Any]) -> Iterator[Row]:
    count = len(gradients)
    if count < len(points) or any(g is not None for g in gradients[len(points) :]):
        note = f"returned {count} gradients for {len(points)} arrays"
        yield Row.failure("shapes", "gradients", note)
        return
    for i, (point, gradient) in enumerate(zip(points, gradients, strict=False)):
        expected = None if point is None else point.shape
        got = None if gradient is None else np.shape(gradient)
        if got != expected:
            note = f"is {'None' if got is None else f'of shape {got}'}; {expected} is expected"
            yield Row.failure("shapes", f"gradient {i}", note)
        elif gradient is not None and np.asarray(gradient).dtype.kind not in "fiuV":
            note = f"holds {np.asarray(gradient).dtype}; real numbers are expected"
            yield Row.failure("types", f"gradient {i}", note)
