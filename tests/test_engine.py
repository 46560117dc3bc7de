"""The engine takes passes that no norm has yet: a mask, and three arrays."""

from contextlib import nullcontext

import numpy as np
from each import each
from numpy.testing import assert_allclose
from small_tiles import SIZES, small_tiles

from numpy_norms.engine.plans import Asked, Layout, plan_for
from numpy_norms.engine.tiles import Steps, run

LAYOUTS = {
    "maps": Layout((6, 4, 31), over=(0, 2), along=(1,), sets=(1,)),
    "rows": Layout((12, 45), over=(1,), along=(1,), sets=(0,)),
    "columns": Layout((40, 17), over=(0,), along=(1,), sets=(1,)),
    "rows of columns": Layout((3, 12, 25), over=(1,), along=(1,), sets=(0, 2)),
    "groups": Layout((3, 2, 4, 15), over=(2, 3), along=(1, 2), sets=(0, 1)),
}
DTYPES = {"float64": 1e-13, "float32": 2e-7, "float32 in float32": 1e-5}
layouts = each("layout", LAYOUTS)
dtypes = each("dtype", DTYPES)
sizes = each("size", [None, *SIZES])


def plan_of(layout, dtype):
    """A plan, the dtype of its arrays and the axes that plain NumPy sums over."""
    name, _, work = dtype.partition(" in ")
    x = np.dtype(name)
    plan = plan_for(LAYOUTS[layout], np.dtype(work or "float64"), x, Asked(True, x, x))
    axes = range(len(plan.layout.shape))
    return plan, x, plan.layout.over, tuple([a for a in axes if a not in plan.layout.along])


def masked(tile, x, where, y, eps):
    """Standardize all of x with mean and variance of the elements where `where` is true."""

    def reduce():
        all_of_x, weight = tile.lift(x, into=y), tile.lift(where)
        count = tile.E(weight)
        weight *= all_of_x
        return (all_of_x,), (count, tile.E(weight), tile.E(weight, all_of_x)), ()

    def finish(count, total, total_square):
        mean = total / count
        return mean, total_square / count - mean * mean

    def apply(x_hat, mean, var):
        x_hat -= mean
        x_hat *= 1 / np.sqrt(var + eps)
        tile.store(x_hat, y)
        return mean, var

    return Steps(reduce, finish, apply)


@layouts
@dtypes
@sizes
def test_a_masked_pass(layout, dtype, size, rng):
    plan, kind, over, _ = plan_of(layout, dtype)
    x = rng.standard_normal(plan.layout.shape).astype(kind) + kind.type(0.3)
    where = rng.random(x.shape) < 0.7
    y = np.empty_like(x)
    with small_tiles(size) if size else nullcontext():
        plan, *_ = plan_of(layout, dtype)
        (mean, var), _ = run(masked, plan, (x, where, y), (), (), 1e-3, slots=2)
    wide = x.astype(np.float64)
    expected_mean = wide.mean(over, where=where, keepdims=True)
    expected_var = wide.var(over, where=where, keepdims=True)
    tolerance = DTYPES[dtype]
    assert_allclose(plan.report(mean), expected_mean.squeeze(over), atol=tolerance)
    assert_allclose(plan.report(var), expected_var.squeeze(over), rtol=tolerance)
    assert_allclose(y, (wide - expected_mean) / np.sqrt(expected_var + 1e-3), atol=5 * tolerance)


def second_order(tile, x_hat, dy, v, dx):
    """The gradient of sum(v * dx) at x, where dx is the gradient (12) of sum(dy * x_hat).

    And the sums of dy * v and of v over all axes but those of the parameters.
    """

    def reduce(_):
        arrays = h, g, u = tile.lift(x_hat), tile.lift(dy), tile.lift(v, into=dx)
        means = tile.M(g), tile.M(u)
        return arrays, (*means, tile.E(g, h), tile.E(u, h), tile.E(u, g)), (tile.G(u, g), tile.B(u))

    def finish(mean_dy, mean_v, c, b, product):
        shift = c * mean_v + b * mean_dy
        return b, c, product - mean_v * mean_dy - 3 * b * c, shift

    def apply(h, g, u, rstd, b, c, q, shift):
        h *= q
        g *= b
        u *= c
        u += g
        u += h
        u -= shift
        u *= -rstd * rstd
        tile.store(u, dx)

    return Steps(reduce, finish, apply)


@layouts
@dtypes
@sizes
def test_a_pass_with_three_arrays(layout, dtype, size, rng):
    plan, kind, over, rest = plan_of(layout, dtype)
    x = rng.standard_normal(plan.layout.shape)
    mean, var = x.mean(over, keepdims=True), x.var(over, keepdims=True)
    rstd = 1 / np.sqrt(var + 0.1)
    arrays = (x - mean) * rstd, *rng.standard_normal((2, *x.shape))
    x_hat, dy, v = (a.astype(kind) for a in arrays)
    dx = np.empty_like(dy)

    with small_tiles(size) if size else nullcontext():
        plan, *_ = plan_of(layout, dtype)
        few = rstd.reshape(plan.set_shape).astype(plan.work)
        _, totals = run(second_order, plan, (x_hat, dy, v, dx), (), (few,), slots=3)
    h, g, u = (a.astype(np.float64) for a in (x_hat, dy, v))

    def E(a):
        return a.mean(over, keepdims=True)

    b, c = E(u * h), E(g * h)
    of_rstd = E(u * g) - E(u) * E(g) - b * c
    expected = c * (u - E(u)) + b * (g - E(g)) + h * (of_rstd - 2 * b * c)
    assert_allclose(dx, -rstd * rstd * expected, atol=20 * DTYPES[dtype])
    for total, product in zip(totals, (u * g, u), strict=True):
        plain = product.sum(rest)
        assert_allclose(total.ravel(), plain.ravel(), atol=50 * DTYPES[dtype])
