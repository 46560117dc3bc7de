"""Forward and backward of every norm that standardizes: the equations, run over the blocks.

A norm comes here as a `Layout`: what is averaged over what. Where a block holds its sets whole,
one visit computes everything; where a set is larger than a block, one sweep gathers what is
averaged and a second sweep applies it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import equations as eq
from .blocks import Block, Gathered, Layout, Visit, plan_for
from .cache import Cache, Statistics
from .equations import Moments
from .rounding import round_to
from .scaling import power_of_two, squares_fail

Array = NDArray[Any]


def forward(
    norm: str,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    *,
    layout: Layout,
    eps: float,
    work: np.dtype[Any],
    out: Array | None,
    centered: bool = True,
) -> tuple[Array, Cache]:
    """y and the cache of a norm that shares statistics over ``layout.over``."""
    y = np.empty(x.shape, x.dtype.newbyteorder("=")) if out is None else out
    in_place = out is not None and np.may_share_memory(x, out)
    run = _Forward(x, y, gamma, beta, layout, eps, work, centered)
    with np.errstate(all="ignore"):
        statistics = run.run(in_place) if x.size else run.of_nothing()
        mean, var, rstd = _reported(statistics, layout)
    kept = None if in_place else x
    return y, Cache(norm, kept, gamma, beta, mean, var, rstd, eps, layout, statistics, work)


def backward(dy: Array, cache: Cache) -> tuple[Array, Array | None, Array | None]:
    """dx, dgamma and dbeta of the norm that made `cache`."""
    assert cache.x is not None
    dx = np.empty(cache.x.shape, cache.x.dtype.newbyteorder("="))
    run = _Backward(dy, dx, cache)
    with np.errstate(all="ignore"):
        dgamma, dbeta = run.run() if dx.size else run.of_nothing()
    return dx, _as_given(dgamma, cache.gamma), _as_given(dbeta, cache.beta)


class _Forward:
    """A forward pass: what its visits to the blocks share."""

    def __init__(
        self,
        x: Array,
        y: Array,
        gamma: Array | None,
        beta: Array | None,
        layout: Layout,
        eps: float,
        work: np.dtype[Any],
        centered: bool,
    ):
        self.plan = plan_for(layout, work.itemsize)
        self.x = self.plan.view(x)
        self.y = self.plan.view(y)
        self.gamma = self.plan.parameter(gamma, work)
        self.beta = self.plan.parameter(beta, work)
        self.eps = eps
        self.work = work
        self.centered = centered
        self.precision = _precision(x.dtype, work)
        self.squares_fit = work.itemsize > x.dtype.itemsize
        self.scale: Array | None = None
        self.statistics: Statistics

    def run(self, in_place: bool) -> Statistics:
        one_sweep = self.plan.whole and (self.squares_fit or not in_place)
        self.statistics = self.collect(self.normalize_whole if one_sweep else self.gather_moments)
        if not self.squares_fit and squares_fail(self.statistics.var, self.eps):
            smallest, largest = self.plan.of_sets(self.sweep(self.gather_extremes), _extremes)
            self.scale = power_of_two(smallest, largest, self.eps)
            self.statistics = self.collect(self.gather_moments)
            one_sweep = False
        if not one_sweep:
            self.sweep(self.normalize)
        return self.statistics

    def of_nothing(self) -> Statistics:
        zero = np.zeros(self.plan.set_shape, self.work)
        return Statistics(
            zero if self.centered else None, None, zero, eq.rstd(zero, self.eps), None
        )

    def collect(self, visit: Visit) -> Statistics:
        _, mean, rest, var = self.plan.of_sets(self.sweep(visit), eq.merge)
        eps = self.eps if self.scale is None else self.eps * self.scale * self.scale
        return Statistics(mean, rest, var, eq.rstd(var, eps), self.scale)

    def sweep(self, visit: Visit) -> list[Gathered]:
        return self.plan.sweep(visit, self.work)

    def moments(self, block: Block) -> tuple[Array, Moments]:
        x = _lift(block, self.x, self.scale)
        if not self.centered:
            return x, eq.moments_about_zero(x, block.count, block.average)
        precision = self.precision
        return eq.moments(x, block.count, block.average, precision=precision, out=block.own(0))

    def gather_extremes(self, block: Block, gathered: Gathered) -> None:
        x, over = block.lift(self.x, 0).real, self.plan.over
        extremes = np.min(x, over, keepdims=True), np.max(x, over, keepdims=True)
        gathered.add_of_sets(block, extremes, _extremes)

    def gather_moments(self, block: Block, gathered: Gathered) -> None:
        gathered.add_of_sets(block, self.moments(block)[1], eq.merge)

    def normalize_whole(self, block: Block, gathered: Gathered) -> None:
        xc, moments = self.moments(block)
        gathered.add_of_sets(block, moments, eq.merge)
        self.finish(block, xc, eq.rstd(moments.var, self.eps))

    def normalize(self, block: Block, _: Gathered) -> None:
        xc, rstd = _center(block, self.x, self.statistics)
        self.finish(block, xc, rstd)

    def finish(self, block: Block, xc: Array, rstd: Array) -> None:
        gamma, beta = block.of_parameters(self.gamma), block.of_parameters(self.beta)
        own, y = block.own(0), block.place(self.y, 1)
        x_hat = eq.standardize(xc, rstd, out=y if gamma is None and beta is None else own)
        block.store(eq.affine(x_hat, gamma, beta, own=own, out=y), self.y)


class _Backward:
    """A backward pass: what its visits to the blocks share."""

    def __init__(self, dy: Array, dx: Array, cache: Cache):
        assert cache.x is not None
        work = self.work = cache.work
        self.plan = plan_for(cache.layout, work.itemsize)
        self.x = self.plan.view(cache.x)
        self.dy = self.plan.view(dy)
        self.dx = self.plan.view(dx)
        self.gamma = self.plan.parameter(cache.gamma, work)
        self.wants = cache.gamma is not None, cache.beta is not None
        self.statistics = cache.statistics
        self.centered = cache.mean is not None
        self.averages: tuple[Array | None, Array]

    def run(self) -> tuple[Array | None, Array | None]:
        if self.plan.whole:
            gathered = self.plan.sweep(self.differentiate_whole, self.work)
        else:
            gathered = self.plan.sweep(self.gather_sums, self.work)
            sums = self.plan.of_sets(gathered, _add)
            m = self.plan.count
            self.averages = None if sums[0] is None else sums[0] / m, sums[1] / m
            self.plan.sweep(self.differentiate, self.work)
        return self.plan.of_parameters(gathered)

    def of_nothing(self) -> tuple[Array, Array]:
        zero = np.zeros(self.plan.parameter_shape, self.work)
        return zero, zero

    def x_hat_and_dy(self, block: Block) -> tuple[Array, Array]:
        xc, rstd = _center(block, self.x, self.statistics)
        return eq.standardize(xc, rstd, out=block.own(0)), block.lift(self.dy, 1)

    def dx_hat(self, block: Block, dy: Array) -> Array:
        return eq.dx_hat(dy, block.of_parameters(self.gamma), out=block.own(1))

    def gather_parameters(self, block: Block, x_hat: Array, dy: Array, gathered: Gathered) -> None:
        S = block.parameter_sum
        dgamma = eq.dgamma(dy, x_hat, S) if self.wants[0] else None
        dbeta = eq.dbeta(dy, S) if self.wants[1] else None
        gathered.add_of_parameters(block, (dgamma, dbeta))

    def differentiate_whole(self, block: Block, gathered: Gathered) -> None:
        x_hat, dy = self.x_hat_and_dy(block)
        self.gather_parameters(block, x_hat, dy, gathered)
        dx_hat, E = self.dx_hat(block, dy), block.average
        self.finish(block, x_hat, dx_hat, E(dx_hat) if self.centered else None, E(dx_hat, x_hat))

    def gather_sums(self, block: Block, gathered: Gathered) -> None:
        x_hat, dy = self.x_hat_and_dy(block)
        self.gather_parameters(block, x_hat, dy, gathered)
        dx_hat, total = self.dx_hat(block, dy), block.set_sum
        sums = total(dx_hat) if self.centered else None, total(dx_hat, x_hat)
        gathered.add_of_sets(block, sums, _add)

    def differentiate(self, block: Block, _: Gathered) -> None:
        x_hat, dy = self.x_hat_and_dy(block)
        average, average_x_hat = self.averages
        average = None if average is None else block.of_sets(average)
        self.finish(block, x_hat, self.dx_hat(block, dy), average, block.of_sets(average_x_hat))

    def finish(
        self, block: Block, x_hat: Array, dx_hat: Array, average: Array | None, average_x_hat: Array
    ) -> None:
        rstd = block.of_sets(self.statistics.rstd)
        if self.statistics.scale is not None:
            rstd = rstd * block.of_sets(self.statistics.scale)
        own, dx = block.own(1), block.place(self.dx, 1)
        dx = eq.dx(dx_hat, x_hat, rstd, average, average_x_hat, own=own, out=dx)
        block.store(dx, self.dx)


def _lift(block: Block, view: Array, scale: Array | None) -> Array:
    x = block.lift(view, 0)
    return x if scale is None else np.multiply(x, block.of_sets(scale), out=block.own(0))


def _center(block: Block, view: Array, statistics: Statistics) -> tuple[Array, Array]:
    x = _lift(block, view, statistics.scale)
    mean = None if statistics.mean is None else block.of_sets(statistics.mean)
    rest = None if statistics.rest is None else block.of_sets(statistics.rest)
    return eq.center(x, mean, rest, out=block.own(0)), block.of_sets(statistics.rstd)


def _extremes(a: Any, b: Any) -> tuple[Array, Array]:
    return np.minimum(a[0], b[0]), np.maximum(a[1], b[1])


def _add(a: Any, b: Any) -> tuple[Array | None, Array]:
    return None if a[0] is None else a[0] + b[0], a[1] + b[1]


def _as_given(gradient: Array | None, parameter: Array | None) -> Array | None:
    if gradient is None or parameter is None:
        return None
    return round_to(gradient, parameter.dtype).reshape(parameter.shape)


def _reported(statistics: Statistics, layout: Layout) -> tuple[Array | None, Array, Array]:
    """Mean, variance and rstd of x itself, one number for each set, without axes of length one."""
    mean, rest, var, rstd, scale = statistics
    if mean is not None and rest is not None:
        mean = mean + rest
    if scale is not None:
        mean = None if mean is None else mean / scale
        var, rstd = var / scale / scale, rstd * scale
    shape = [n for axis, n in enumerate(layout.shape) if axis not in layout.over]
    return None if mean is None else mean.reshape(shape), var.reshape(shape), rstd.reshape(shape)


@cache
def _precision(x: np.dtype[Any], work: np.dtype[Any]) -> float:
    """The error of x_hat that is not worth a pass over the data.

    It is far below the rounding of the result, and no smaller than that of the arithmetic.
    """
    of_result = 2.0**-8 if x.kind not in "fc" else float(np.finfo(x).eps)
    return max(4 * float(np.finfo(work).eps), of_result * 2.0**-17)
