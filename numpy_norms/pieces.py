"""Passes over an array in pieces: statistics of each, of all together, and what is made of them.

A piece's statistics are the engine's, less a pivot and times a power of two. So all together are
as good as one pass over the whole, however far from zero they lie: means of pieces are brought
about one pivot before they are averaged, which loses nothing, and the pivot stays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import equations as eq
from .engine import lifting
from .engine.plans import Layout, Plan, plan_for
from .engine.tiles import TRIES, Numbers, Steps, Tile, run
from .masks import Mask, of_portion
from .passes import Statistics, mean_and_variance, standardized

Array = NDArray[Any]


def statistics(plan: Plan, x: Array, eps: float, mask: Mask | None) -> Statistics:
    """The statistics of every set, of the positions that count."""
    return Statistics(*made_of_sets(plan, x, eps, mask, None, _as_they_are))


def made_of_sets(
    plan: Plan,
    x: Array,
    eps: float,
    mask: Mask | None,
    count: Array | None,
    make: Callable[..., Numbers],
) -> Numbers:
    """``make(plan, count, pivot, exponent, mean, var)`` of every set; of an empty array none."""
    hidden, portion = (None, None) if mask is None else (mask.hidden, mask.portion)
    about = None, None, portion, count
    made, _ = run(_of_sets, plan, (x, hidden), (), about, eps, make, slots=1)
    return made


def _of_sets(
    tile: Tile, x_view: Array, hidden: Any, eps: float, make: Callable[..., Numbers]
) -> Steps:
    def reduce(pivot: Any, exponent: Any, portion: Any, _: Any) -> Any:
        x = tile.lift(x_view, pivot, exponent, zeros=hidden)
        return (), of_portion(portion, *eq.moments(x, tile.E, tile.M)), ()

    def apply(pivot: Any, exponent: Any, _: Any, count: Any, *found: Any) -> Numbers:
        return make(tile.plan, count, pivot, exponent, *found)

    return Steps(reduce, mean_and_variance, apply, partial(lifting.nearer, tile.plan, eps))


def _as_they_are(plan: Plan, count: Any, *numbers: Any) -> Numbers:
    return numbers


def counts(plan: Plan, mask: Mask | None) -> Array:
    """How many numbers of each set count."""
    if mask is None:
        return np.full(plan.set_shape, plan.m)
    n: Array = np.rint(plan.m * mask.counting.real).astype(np.int64)
    return n


def record_dtype(plan: Plan) -> np.dtype[Any]:
    """Counts and statistics, of one set."""
    few = plan.few
    fields = [("count", np.int64), ("pivot", few), ("exponent", np.int64), ("mean", few)]
    return np.dtype([*fields, ("var", few)])


def record(plan: Plan, x: Array, eps: float, mask: Mask | None) -> Array:
    """Counts and statistics as one array, with the axes of x, those that are averaged of length 1.

    Records of pieces are joined along these axes, or along another, and merged by `merged`.
    """
    numbers = counts(plan, mask), *statistics(plan, x, eps, mask)
    shape = [1 if a in plan.layout.over else n for a, n in enumerate(plan.layout.shape)]
    piece = np.zeros(shape, record_dtype(plan))
    for name, a in zip(piece.dtype.names or (), numbers, strict=True):
        if a is not None:
            piece[name] = a.reshape(shape)
    return piece


def merged(plan: Plan, eps: float, pieces: Array, axis: int | tuple[int, ...]) -> Array:
    """The record of all pieces along some axes together, which stay, of length 1.

    With n the number of all, and d how far a piece's mean is from that of all::

        mean = sum(n_k * mean_k) / n
        var = sum(n_k * (var_k + d_k**2)) / n

    which is (15) to (17) for any number of pieces, added in their order. How they are lifted does
    not depend on their sizes, so that it is the same in every piece.
    """
    plan = plan_for(Layout((2**20, 1), (0,), (1,), (1,)), plan.work, plan.x, plan.asked)
    n = np.add.reduce(pieces["count"], axis=axis, keepdims=True)
    share = np.divide(pieces["count"], np.maximum(n, 1), dtype=plan.few)
    whole = np.zeros(n.shape, pieces.dtype)
    about: lifting.Lifted = (None, None)
    with np.errstate(all="ignore"):
        for tries in range(TRIES):
            means, variances = _lifted(plan, pieces, *about)
            mean = np.add.reduce(share * means, axis=axis, keepdims=True)
            d = means - mean
            var = np.add.reduce(share * (variances + d * d), axis=axis, keepdims=True)
            averages = mean, var + mean * mean
            better = lifting.nearer(plan, eps, about, averages, (mean, var))
            if better is None or tries == TRIES - 1:
                break
            about = better
    for name, a in zip(pieces.dtype.names or (), (n, *about, mean, var), strict=True):
        if a is not None:
            whole[name] = a
    return whole


def _lifted(plan: Plan, pieces: Array, pivot: Any, exponent: Any) -> tuple[Array, Array]:
    """Means and variances of pieces, all of them less one pivot and times one power of two."""
    own, pivots = pieces["exponent"], pieces["pivot"]
    if exponent is None and not own.any():
        return (pivots if pivot is None else pivots - pivot) + pieces["mean"], pieces["var"]
    power = np.int64(0) if exponent is None else exponent
    more = power - own
    shift = plan.times(pivots, np.minimum(power, 0) - np.minimum(own, 0))
    if pivot is not None:
        shift = shift - pivot
    mean = plan.times(shift, np.maximum(power, 0)) + plan.times(pieces["mean"], more)
    return mean, plan.times(pieces["var"], 2 * more)


def of_record(plan: Plan, whole: Array) -> Statistics:
    """The statistics of a record, as a piece's plan has them."""
    numbers = [whole[name].reshape(plan.set_shape) for name in ("pivot", "exponent")]
    pivot, exponent = (a if a.any() else None for a in numbers)
    mean, var = (whole[name].reshape(plan.set_shape) for name in ("mean", "var"))
    return Statistics(pivot, exponent, mean if plan.asked.means else None, var)


def normalized(
    plan: Plan,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    eps: float,
    statistics: Statistics,
) -> Array:
    """y of a piece, where the statistics are known."""
    y = plan.result_like(x)
    run(_of_statistics, plan, (x, y), (gamma, beta), statistics, eps, slots=1)
    return y


def _of_statistics(
    tile: Tile, x_view: Array, y_view: Array, gamma: Array | None, beta: Array | None, eps: float
) -> Steps:
    def reduce(*statistics: Any) -> Any:
        x_hat, _ = standardized(tile, x_view, eps, *statistics, into=y_view)
        return (x_hat,), (), ()

    def apply(x_hat: Any, *_: Any) -> None:
        tile.store(eq.output(x_hat, gamma, beta), y_view)

    return Steps(reduce, None, apply)
