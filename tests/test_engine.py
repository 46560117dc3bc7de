"""The engine takes passes that no norm has yet: a mask, and three arrays."""

import numpy as np
from each import each
from numpy.testing import assert_allclose
from small_tiles import SIZES, small_tiles

from numpy_norms.engine.plans import Asked, Layout, plan_for
from numpy_norms.engine.tiles import run

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


def masked(plan, x, where, eps, y):
    """Standardize all of x with mean and variance of the elements where `where` is true."""
    x, where, y = plan.views(x, where, y)
    found = {}

    def prepare(tile):
        return tile.lift(x, into=y), tile.lift(where)

    def reduce(tile, x, weight):
        count = tile.E(weight)
        weight *= x
        return (x,), (count, tile.E(weight), tile.E(weight, x)), ()

    def finish(count, total, total_square):
        mean = total / count
        return mean, total_square / count - mean * mean

    def apply(tile, x, mean, var):
        tile.keep(found, mean, var)
        x -= mean
        x *= 1 / np.sqrt(var + eps)
        tile.store(x, y)

    run(plan, prepare, reduce, finish, apply, slots=2)
    return found[0], found[1]


@layouts
@dtypes
@sizes
def test_a_masked_pass(layout, dtype, size, rng):
    plan, kind, over, _ = plan_of(layout, dtype)
    x = rng.standard_normal(plan.layout.shape).astype(kind) + kind.type(0.3)
    where = rng.random(x.shape) < 0.7
    y = np.empty_like(x)
    if size is None:
        mean, var = masked(plan, x, where, 1e-3, y)
    else:
        with small_tiles(size):
            plan, *_ = plan_of(layout, dtype)
            mean, var = masked(plan, x, where, 1e-3, y)
    wide = x.astype(np.float64)
    expected_mean = wide.mean(over, where=where, keepdims=True)
    expected_var = wide.var(over, where=where, keepdims=True)
    tolerance = DTYPES[dtype]
    assert_allclose(plan.report(mean), expected_mean.squeeze(over), atol=tolerance)
    assert_allclose(plan.report(var), expected_var.squeeze(over), rtol=tolerance)
    assert_allclose(y, (wide - expected_mean) / np.sqrt(expected_var + 1e-3), atol=5 * tolerance)


def second_order(plan, x_hat, dy, v, rstd, dx):
    """The gradient of sum(v * dx) at x, where dx is the gradient (12) of sum(dy * x_hat).

    And the sums of dy * v and of v over all axes but those of the parameters.
    """
    x_hat, dy, v, dx = plan.views(x_hat, dy, v, dx)
    sums = {}

    def prepare(tile, rstd):
        return tile.lift(x_hat), tile.lift(dy), tile.lift(v, into=dx)

    def reduce(tile, x_hat, dy, v):
        means = tile.M(dy), tile.M(v)
        products = tile.E(dy, x_hat), tile.E(v, x_hat), tile.E(v, dy)
        return (x_hat, dy, v), (*means, *products), (tile.G(v, dy), tile.B(v))

    def finish(mean_dy, mean_v, c, b, product):
        shift = c * mean_v + b * mean_dy
        return b, c, product - mean_v * mean_dy - 3 * b * c, shift

    def apply(tile, x_hat, dy, v, rstd, b, c, q, shift):
        x_hat *= q
        dy *= b
        v *= c
        v += dy
        v += x_hat
        v -= shift
        v *= -rstd * rstd
        tile.store(v, dx)

    run(plan, prepare, reduce, finish, apply, about=(rstd,), sums=sums, slots=3)
    return sums[0], sums[1]


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

    def of_plan(plan):
        few = rstd.reshape(plan.set_shape).astype(plan.work)
        return second_order(plan, x_hat, dy, v, few, dx)

    if size is None:
        totals = of_plan(plan)
    else:
        with small_tiles(size):
            totals = of_plan(plan_of(layout, dtype)[0])
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
