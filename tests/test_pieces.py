"""Statistics of pieces: merged in one go, about one pivot, however they lie."""

import numpy as np
from each import each
from mpmath import mp, mpf

from numpy_norms import Moments, pieces
from numpy_norms.batch_norm import layout
from numpy_norms.engine.plans import Asked, plan_for
from numpy_norms.moments import of_statistics

EPS = 1e-5


def plan_of(x, work=np.float64):
    """Return the plan of a batch norm of (N, C)."""
    return plan_for(layout(x, None, None, 1), np.dtype(work), x.dtype, Asked())


def records(parts, eps=EPS):
    """Return the records of arrays (N, C), along a first axis."""
    return np.concatenate([pieces.record(plan_of(x), x, eps, None) for x in parts])


def moments(whole, like):
    """Return the moments in a record."""
    plan = plan_of(like)
    count = whole["count"].reshape(plan.set_shape)
    return of_statistics(plan, count, pieces.of_record(plan, whole))


def exact(x):
    """Return the mean and the variance of numbers in 60 digits."""
    with mp.workdps(60):
        row = [mpf(float(v)) for v in x]
        mean = mp.fsum(row) / len(row)
        return mean, mp.fsum((v - mean) ** 2 for v in row) / len(row)


PARTS = {
    "alike": [(0, 1, 50), (0, 1, 7), (0, 2, 30)],
    "far": [(1e6, 1, 50), (1e6, 1, 7), (1e6, 2, 30)],
    "first far from all others": [(1e6, 1, 1), (0, 1, 500), (0, 1, 500)],
    "on either side": [(1e8, 1, 40), (-1e8, 1, 40)],
    "one number each": [(3, 1, 1)] * 5,
    "one is empty": [(1e3, 1, 9), (0, 1, 0), (1e3, 1, 4)],
    "apart by more than they are wide": [(k * 1e5, 1e-3, 20) for k in range(4)],
}


@each("dtype", [np.float32, np.float64])
@each("name", PARTS)
def test_the_standardized_are_exact_to_a_few_units(name, dtype):
    rng = np.random.default_rng(3)
    parts = [rng.normal(mean, std, (n, 1)).astype(dtype) for mean, std, n in PARTS[name]]
    x = np.concatenate(parts)
    whole = pieces.merged(plan_of(x), EPS, records(parts), 0)
    plan = plan_for(layout(x, None, None, 1), np.dtype(float), np.dtype(float), Asked())
    y = pieces.normalized(plan, x.astype(float), None, None, EPS, pieces.of_record(plan, whole))
    mean, var = exact(x[:, 0])
    with mp.workdps(60):
        expected = [float((mpf(float(v)) - mean) / mp.sqrt(var + mpf(EPS))) for v in x[:, 0]]
    assert np.abs(y[:, 0] - expected).max() <= 1e-15 * max(2, np.abs(expected).max())


@each("name", PARTS)
def test_the_merged_are_what_moments_merge(name):
    rng = np.random.default_rng(4)
    parts = [rng.normal(mean, std, (n, 3)) for mean, std, n in PARTS[name]]
    got = moments(pieces.merged(plan_of(parts[0]), 0.0, records(parts, 0.0), 0), parts[0])
    expected = Moments.merged([Moments.of(x, 0) for x in parts])
    assert np.array_equal(got.count, expected.count)
    unit = np.spacing(np.abs(np.concatenate(parts)).max())
    assert np.abs(got.mean - expected.mean).max() <= 2 * unit
    assert np.allclose(got.m2, expected.m2, rtol=1e-8)


@each("work", [np.float32, np.float64])
def test_every_size_of_a_piece_merges_to_the_same_bits(work):
    rng = np.random.default_rng(5)
    means = np.linspace(0, 30, 400)  # some are about as far from zero as matters
    parts = [rng.normal(means, 1, (n, 400)).astype(np.float32) for n in (2, 9, 1000)]
    of_all = np.concatenate([pieces.record(plan_of(x, work), x, EPS, None) for x in parts])
    found = [pieces.merged(plan_of(x, work), EPS, of_all, 0) for x in parts]
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()
    assert 0 < np.count_nonzero(found[0]["pivot"]) < 400


def test_a_merge_of_merges_is_the_merge_of_all():
    rng = np.random.default_rng(6)
    parts = records([rng.normal(1e5, 1, (n, 4)).astype(np.float32) for n in (3, 8, 5, 2)])
    plan = plan_of(np.empty((1, 4), np.float32))
    halves = [pieces.merged(plan, EPS, parts[i : i + 2], 0) for i in (0, 2)]
    tree = pieces.merged(plan, EPS, np.concatenate(halves), 0)
    flat = pieces.merged(plan, EPS, parts, 0)
    total = [w["pivot"] + w["mean"] for w in (tree, flat)]
    assert np.array_equal(tree["count"], flat["count"])
    assert np.allclose(*total, rtol=1e-15)
    assert np.allclose(tree["var"], flat["var"], rtol=1e-14)
