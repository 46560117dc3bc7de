"""Results are the exact ones, rounded once: the share of them, for every norm and mean.

Rows go up to 300,000 and channels lie first, in the middle and last.
"""

import itertools
import math

import ml_dtypes
import numpy as np
from cases import batch_norm, group_norm, instance_norm, layer_norm, parametrize, rms_norm
from each import each
from measure import assert_rounded_once, assert_within_float64

REQUIRED = 0.99999
MIDDLE = [
    batch_norm((15_013, 5)),
    batch_norm((7, 5, 41, 47)),
    batch_norm((7, 41, 47, 5), channel_axis=-1),
    layer_norm((97, 769)),
    layer_norm((5, 96, 13, 11), axis=1),
    group_norm((5, 12, 31, 37), 4),
    group_norm((5, 31, 37, 12), 4, channel_axis=-1),
    instance_norm((5, 12, 31, 37)),
    instance_norm((5, 31, 37, 12), channel_axis=-1),
    rms_norm((97, 769)),
]
LONG = [
    batch_norm((100_003, 2)),
    batch_norm((1, 100_007, 1), channel_axis=-1),
    layer_norm((1, 300_000)),
    instance_norm((1, 50_021, 2), channel_axis=-1),
    rms_norm((1, 100_000)),
]
NARROW = [
    batch_norm((7, 5, 41, 37)),
    layer_norm((73, 769)),
    group_norm((5, 12, 31, 29), 4),
    instance_norm((5, 31, 29, 12), channel_axis=-1),
    rms_norm((73, 769)),
]
MIDDLE_AND_LONG = [
    *itertools.product(MIDDLE, [0.0, 1.0, 1e2, 1e6]),
    *itertools.product(LONG, [0.0, 1e4]),
]


def results(norm, mean, dtype):
    """Return names, results and exact results of y and of every gradient."""
    arrays, dy = norm.draw(mean=mean, std=1.0, dtype=dtype)
    y, gradients = norm.both(arrays, dy)
    exact_y, exact = norm.exact(arrays, dy)
    return [("y", y, exact_y), *((name, gradients[name], exact[name]) for name in arrays)]


@each(("norm", "mean"), MIDDLE_AND_LONG)
def test_float32_results_are_correctly_rounded(norm, mean):
    for name, got, exact in results(norm, mean, np.float32):
        assert_rounded_once(got, exact)
        if name in ("y", "x"):
            assert exact.value.is_nearest(got).mean() >= REQUIRED


@each("dtype", [np.float16, ml_dtypes.bfloat16])
@each("mean", [0.0, 1.0, 1e2])
@parametrize(NARROW)
def test_half_precision_results_are_correctly_rounded(norm, mean, dtype):
    for _, got, exact in results(norm, mean, dtype):
        assert got.dtype == dtype
        assert exact.value.is_nearest(got).mean() >= REQUIRED


@each(("norm", "mean"), [(norm, mean) for norm, mean in MIDDLE_AND_LONG if mean not in (1.0, 1e2)])
def test_float64_results_are_exact_to_a_few_roundoffs(norm, mean):
    for name, got, exact in results(norm, mean, np.float64):
        sums = norm.set_size if name in ("y", "x") else math.prod(norm.shape) // got.size
        assert_within_float64(got, exact, terms=sums)


@each("mean", [0.0, 1e2, 1e6])
@each("work", [np.float64, np.float32])
def test_a_far_set_is_lifted_less_a_number_of_its_own_dtype_near_its_mean(mean, work, rng):
    x = (mean + rng.standard_normal((1, 1000))).astype(np.float32)
    pivot, exponent, rest, var = layer_norm((1, 1000)).forward({"x": x}, dtype=work)[1].statistics
    assert exponent is None
    assert (pivot is not None) == (mean > 20 or (mean > 0 and work is np.float32))
    assert rest**2 < 256 * var
    if pivot is not None:
        assert abs(pivot - x.astype(np.float64).mean()) <= np.spacing(np.float32(mean))
        assert pivot == pivot.astype(np.float32)
