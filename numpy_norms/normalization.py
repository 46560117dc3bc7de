"""Forward and backward of every norm that standardizes: the equations, run over the blocks.

A norm comes here as a `Layout`: what is averaged over what. Where a block holds its sets whole,
one visit computes everything; where a set is larger than a block, one sweep gathers what is
averaged and a second sweep applies it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import equations as eq
from .blocks import Block, Gathered, Table, gather_parameters, gather_sets, sweep
from .cache import Cache, Statistics
from .checks import same_memory
from .equations import Moments
from .plans import Layout, Plan, Slices, plan_for
from .rounding import is_foreign, native, round_into
from .scaling import factors_fit, power_of_two, squares_fail, squares_fit
from .sums import Sum, number

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
    y = np.empty(x.shape, native(x.dtype)) if out is None else out
    in_place = out is not None and same_memory(x, out)
    if gamma is None and beta is None:
        layout = layout._replace(along=())
    with np.errstate(all="ignore"):
        run = _Forward(x, y, gamma, beta, layout, eps, work, centered)
        statistics = run.run(in_place) if x.size else run.of_nothing()
        mean, var, rstd = _reported(statistics, run.plan)
    kept = None if in_place else x
    return y, Cache(norm, kept, gamma, beta, mean, var, rstd, eps, layout, statistics, work)


def backward(
    dy: Array, cache: Cache, *, plus: Array | None = None
) -> tuple[Array, Array | None, Array | None]:
    """dx, dgamma and dbeta of the norm that made `cache`; `plus` joins dx before it is rounded."""
    assert cache.x is not None
    dx = np.empty(cache.x.shape, native(cache.x.dtype))
    make = np.empty if dx.size else np.zeros
    dgamma, dbeta = (
        None if a is None else make(a.shape, native(a.dtype)) for a in (cache.gamma, cache.beta)
    )
    if dx.size:
        with np.errstate(all="ignore"):
            _Backward(dy, dx, dgamma, dbeta, cache, plus).run()
    return dx, dgamma, dbeta


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
        plan = self.plan = plan_for(layout, work.itemsize)
        self.x = plan.view(x)
        self.y = plan.view(y)
        self.gamma = plan.parameter(gamma)
        self.beta = plan.parameter(beta)
        self.given_eps = eps
        self.eps = number(eps, work)
        self.work = work
        self.widened = work.itemsize > x.dtype.itemsize
        self.squares_fit = squares_fit(x.dtype, work)
        self.joined = _joins(plan, x, self.gamma, eps, work)
        self.moments = _mean_square if not centered else _exact if self.widened else _corrected
        self.scale: Array | None = None
        self.statistics: Statistics
        self.table: Table

    def run(self, in_place: bool) -> Statistics:
        if self.plan.whole and (self.squares_fit or not in_place):
            self.table = Table(self.plan.set_shape)
            sweep(self.plan, self.normalize_whole, self.work)
            statistics = Statistics(*self.table.arrays)
            if self.squares_fit or not squares_fail(statistics.var, self.given_eps):
                return statistics
        self.statistics = self.gathered()
        if not self.squares_fit and squares_fail(self.statistics.var, self.given_eps):
            self.rescale()
        sweep(self.plan, self.normalize, self.work)
        return self.statistics

    def of_nothing(self) -> Statistics:
        zero = np.zeros(self.plan.set_shape, self.work)
        pivot = None if self.moments is _mean_square else zero
        return Statistics(pivot, None, zero, eq.rstd(zero, self.eps), None)

    def gathered(self) -> Statistics:
        lanes = sweep(self.plan, self.gather_moments, self.work)
        _, pivot, rest, var = gather_sets(self.plan, lanes, eq.merge)
        return Statistics(pivot, rest, var, eq.rstd(var, self.eps), self.scale)

    def rescale(self) -> None:
        lanes = sweep(self.plan, self.gather_extremes, self.work)
        smallest, largest = gather_sets(self.plan, lanes, _extremes)
        if self.moments is _mean_square:
            smallest, largest = np.minimum(smallest, 0), np.maximum(largest, 0)
        if self.moments is _exact:
            self.moments = _corrected
        self.scale = power_of_two(smallest, largest, self.given_eps)
        self.eps = self.eps * self.scale * self.scale
        self.statistics = self.gathered()

    def normalize_whole(self, block: Block, _: Gathered) -> None:
        xc, moments = self.moments(self, block)
        rstd = eq.rstd(moments.var, self.eps)
        self.table.write(block.cut, (moments.pivot, moments.rest, moments.var, rstd, None))
        self.finish(block, xc, rstd)

    def gather_extremes(self, block: Block, gathered: Gathered) -> None:
        x, over = block.lift(self.x, 0).real, self.plan.over
        extremes = np.min(x, over, keepdims=True), np.max(x, over, keepdims=True)
        gathered.add_sets(block.cut, extremes, _extremes)

    def gather_moments(self, block: Block, gathered: Gathered) -> None:
        gathered.add_sets(block.cut, self.moments(self, block)[1], eq.merge)

    def normalize(self, block: Block, _: Gathered) -> None:
        xc = _centered(block, self.x, self.statistics)
        self.finish(block, xc, block.sets(self.statistics.rstd))

    def finish(self, block: Block, xc: Array, rstd: Array) -> None:
        gamma, beta = block.parameters(self.gamma), block.parameters(self.beta)
        if self.joined and gamma is not None:
            rstd, gamma = rstd * gamma, None
        own, y = block.own(0), block.place(self.y, 1)
        rstd, gamma, beta = block.wide(rstd), block.wide(gamma), block.wide(beta)
        x_hat = eq.standardize(xc, rstd, out=y if gamma is None and beta is None else own)
        block.store(eq.affine(x_hat, gamma, beta, own=own, out=y), self.y)


def _exact(run: _Forward, block: Block) -> tuple[Array, Moments]:
    # Narrower x: any element of a set is subtracted from the others without loss.
    x = _unscaled(block, run.x)
    E = run.plan.average
    pivot = E.first(x).astype(run.work)
    return eq.moments(x, block.cut.count, E, pivot=pivot, out=block.own(0))


def _corrected(run: _Forward, block: Block) -> tuple[Array, Moments]:
    # The pivot is subtracted from x with rounding: it is the mean, as well as it can be rounded.
    x, E, own = _scaled(block, run.x, run.scale), run.plan.average, block.own(0)
    return eq.rounded_moments(x, block.cut.count, E, out=own)


def _mean_square(run: _Forward, block: Block) -> tuple[Array, Moments]:
    x = _scaled(block, run.x, run.scale)
    return x, eq.moments_about_zero(x, block.cut.count, run.plan.average)


class _Backward:
    """A backward pass: what its visits to the blocks share."""

    def __init__(
        self,
        dy: Array,
        dx: Array,
        dgamma: Array | None,
        dbeta: Array | None,
        cache: Cache,
        plus: Array | None,
    ):
        assert cache.x is not None
        work = self.work = cache.work
        plan = self.plan = plan_for(cache.layout, work.itemsize)
        self.x = plan.view(cache.x)
        self.dy = plan.view(dy)
        self.dx = plan.view(dx)
        self.plus = None if plus is None else plan.view(plus)
        self.dgamma = plan.parameter(dgamma)
        self.dbeta = plan.parameter(dbeta)
        self.gamma = plan.parameter(cache.gamma)
        self.statistics = cache.statistics
        self.joined = _joins(plan, cache.x, self.gamma, cache.eps, work)
        self.m = number(plan.count, work)
        self.centered = cache.mean is not None
        self.averages: tuple[Array | None, Array]

    def run(self) -> None:
        plan, work = self.plan, self.work
        if plan.whole:
            lanes = sweep(plan, self.differentiate_whole, work, self.store_parameters)
        else:
            lanes = sweep(plan, self.gather_averages, work, self.store_parameters)
            self.averages = gather_sets(plan, lanes, _add)
            sweep(plan, self.differentiate, work)
        if plan.lanes_share_parts:
            self.store_parameters((), gather_parameters(plan, lanes))

    def store_parameters(self, part: Slices, sums: Sequence[Array | None]) -> None:
        for gradient, total in zip((self.dgamma, self.dbeta), sums, strict=True):
            if gradient is not None and total is not None:
                round_into(gradient[part], total)

    def differentiate_whole(self, block: Block, gathered: Gathered) -> None:
        x_hat, dy = self.x_hat_and_dy(block)
        dx_hat, average, average_x_hat = self.reduce(block, x_hat, dy, gathered)
        self.finish(block, x_hat, dx_hat, average, average_x_hat)

    def gather_averages(self, block: Block, gathered: Gathered) -> None:
        x_hat, dy = self.x_hat_and_dy(block)
        _, *averages = self.reduce(block, x_hat, dy, gathered)
        gathered.add_sets(block.cut, averages, _add)

    def differentiate(self, block: Block, _: Gathered) -> None:
        x_hat, dy = self.x_hat_and_dy(block)
        average, average_x_hat = self.averages
        dx_hat = self.dx_hat(block, dy)
        self.finish(block, x_hat, dx_hat, block.sets(average), block.sets(average_x_hat))

    def x_hat_and_dy(self, block: Block) -> tuple[Array, Array]:
        """x_hat, or x - mu where rstd joins other factors later; and dy."""
        x_hat = _centered(block, self.x, self.statistics)
        if not self.plan.few_factors:
            rstd = block.wide(block.sets(self.statistics.rstd))
            x_hat = eq.standardize(x_hat, rstd, out=block.own(0))
        return x_hat, block.lift(self.dy, 1)

    def dx_hat(self, block: Block, dy: Array) -> Array:
        """dx_hat; dy itself where gamma joins other factors later."""
        gamma = None if self.joined else block.parameters(self.gamma)
        return eq.dx_hat(dy, block.wide(gamma), out=block.own(1))

    def reduce(
        self, block: Block, x_hat: Array, dy: Array, gathered: Gathered
    ) -> tuple[Array, Array | None, Array]:
        """dx_hat and the block's share of E[dx_hat] and E[dx_hat * x_hat].

        Gathers dgamma and dbeta on the way.
        """
        plan, m = self.plan, self.m
        if plan.few_factors:
            # rstd and gamma are the same for many elements: these are summed first
            u, v = plan.inner_sum(dy), plan.inner_sum(dy, x_hat)
            v = eq.standardize(v, block.sets(self.statistics.rstd), out=v)
            self.gather_parameters(block, u, (v, None), plan.outer_parameter_sum, gathered)
            gamma = block.parameters(self.gamma)
            if gamma is not None:
                u, v = gamma * u, gamma * v
            average = plan.outer_set_sum(u) / m if self.centered else None
            return self.dx_hat(block, dy), average, plan.outer_set_sum(v) / m
        if self.dgamma is not None or self.dbeta is not None:
            self.gather_parameters(block, dy, (dy, x_hat), plan.parameter_sum, gathered)
        dx_hat = self.dx_hat(block, dy)
        average = plan.set_sum(dx_hat) / m if self.centered else None
        return dx_hat, average, plan.set_sum(dx_hat, x_hat) / m

    def gather_parameters(
        self,
        block: Block,
        dy: Array,
        dy_x_hat: tuple[Array, Array | None],
        S: Sum,
        gathered: Gathered,
    ) -> None:
        dgamma = None if self.dgamma is None else eq.dgamma(*dy_x_hat, S)
        dbeta = None if self.dbeta is None else eq.dbeta(dy, S)
        gathered.add_parameters(block.cut, (dgamma, dbeta))

    def finish(
        self,
        block: Block,
        x_hat: Array,
        dx_hat: Array,
        average: Array | None,
        average_x_hat: Array,
    ) -> None:
        rstd, scale = block.sets(self.statistics.rstd), block.sets(self.statistics.scale)
        if self.plan.few_factors:
            average_x_hat = rstd * average_x_hat
        gamma = block.parameters(self.gamma) if self.joined else None
        few = [block.wide(a) for a in (rstd, average, average_x_hat, gamma)]
        own, place = (block.own(0), block.own(1)), block.place(self.dx, 1)
        out = place if scale is None and self.plus is None else own[1]
        dx = eq.dx(dx_hat, x_hat, *few, own=own, out=out)
        if scale is not None:
            dx = np.multiply(dx, scale, out=place if self.plus is None else own[1])
        if self.plus is not None:
            dx = np.add(dx, block.lift(self.plus, 0), out=place)
        block.store(dx, self.dx)


def _joins(plan: Plan, x: Array, gamma: Array | None, eps: float, work: np.dtype[Any]) -> bool:
    """Whether gamma and rstd are multiplied with each other first, being few beside x."""
    return plan.few_factors and (squares_fit(x.dtype, work) or factors_fit(gamma, eps))


def _centered(block: Block, view: Array, statistics: Statistics) -> Array:
    """x - mu of a block, for statistics that are known."""
    pivot, rest, _, _, scale = statistics
    lift = _unscaled if scale is None and pivot is not None else _scaled
    x = lift(block, view, scale)
    pivot, rest = block.wide(block.sets(pivot)), block.wide(block.sets(rest))
    return eq.center(x, pivot, rest, out=block.own(0))


def _scaled(block: Block, view: Array, scale: Array | None) -> Array:
    x = block.lift(view, 0)
    return x if scale is None else np.multiply(x, block.sets(scale), out=block.own(0))


def _unscaled(block: Block, view: Array, _: Array | None = None) -> Array:
    # The subtraction that comes next casts as it goes, from NumPy's own dtypes.
    return block.lift(view, 0) if is_foreign(view.dtype) else block.part(view)


def _extremes(a: Any, b: Any) -> tuple[Array, Array]:
    return np.minimum(a[0], b[0]), np.maximum(a[1], b[1])


def _add(a: Any, b: Any) -> tuple[Array | None, Array]:
    return None if a[0] is None else a[0] + b[0], a[1] + b[1]


def _reported(statistics: Statistics, plan: Plan) -> tuple[Array | None, Array, Array]:
    """Mean, variance and rstd of x itself, one number for each set, without axes of length one."""
    mean, rest, var, rstd, scale = statistics
    if mean is not None and rest is not None:
        mean = mean + rest
    if scale is not None:
        mean = None if mean is None else mean / scale
        var, rstd = var / scale / scale, rstd * scale
    return None if mean is None else plan.report(mean), plan.report(var), plan.report(rstd)
