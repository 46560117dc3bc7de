"""Batch norm inference: how few operations, how little memory, and that nothing is lost by it."""

import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from each import each
from numpy.testing import assert_array_equal

import numpy_norms
from numpy_norms import batch_norm_inference_forward
from numpy_norms.engine.lifting import NEAR_WIDER, factors_fit, of_given
from numpy_norms.oracle.double_double import Pair

FAR = NEAR_WIDER**0.5  # deviations from which on means are subtracted first


def draw(rng, distance, dtype, parameters, shape=(20, 61, 100)):
    """Draw x and its statistics, every mean ``distance`` standard deviations from zero."""
    std = 1 + rng.random(61)
    mean = distance * std * rng.choice([-1, 1], 61)
    x = mean[:, np.newaxis] + std[:, np.newaxis] * rng.standard_normal(shape)
    numbers = [mean, std**2, *rng.standard_normal((2, 61))]
    return x.astype(dtype), [a.astype(parameters) for a in numbers]


def definition(x, mean, var, gamma, beta, eps=1e-5):
    """Return y and the scale of its rounding, in eleven bits more than float64 has."""
    wide = [a.astype(np.longdouble)[:, np.newaxis] for a in (mean, var, gamma, beta)]
    product = (x.astype(np.longdouble) - wide[0]) / np.sqrt(wide[1] + eps) * wide[2]
    return product + wide[3], np.abs(product) + np.abs(wide[3])


@pytest.mark.skipif(np.finfo(np.longdouble).nmant <= 52, reason="longdouble is float64 here")
@each("distance", [0, 1, 0.99 * FAR, 1.01 * FAR, 1e2, 1e4, 1e6])
@each("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_y_is_correctly_rounded_however_far_the_mean(dtype, distance, rng):
    if dtype is np.float16 and distance > 1e3:
        distance = 1e3
    x, numbers = draw(rng, distance, dtype, np.float32)
    exact, _ = definition(x, *numbers)
    y, _ = batch_norm_inference_forward(x, *numbers)
    hi = exact.astype(np.float64)
    assert Pair(hi, (exact - hi).astype(np.float64)).is_nearest(y).mean() >= 0.99999


@pytest.mark.skipif(np.finfo(np.longdouble).nmant <= 52, reason="longdouble is float64 here")
@each("distance", [0, 0.3, 1, 1e6])
@each("std", [1.0, 1e10])
@each("size", [1e-305, 1e-20, 1.0, 1e290])
@each("beta", ["random", "zero"])
def test_float64_is_exact_to_four_roundoffs_of_what_is_added(distance, std, size, beta, rng):
    x, (mean, var, gamma, shift) = draw(rng, distance, np.float64, np.float64)
    beta = size * shift if beta == "random" else np.zeros(61)
    x, mean, var, gamma = std * x, std * mean, std**2 * var, size * gamma
    exact, scale = definition(x, mean, var, gamma, beta)
    y, _ = batch_norm_inference_forward(x, mean, var, gamma, beta)
    assert (np.abs(y - exact) <= 4 * 2.0**-53 * scale + 2.0**-1074).all()


def plan(dtype):
    """Return the plan for two channels of float32 or float64."""
    return batch_norm_inference_forward(np.ones((3, 2), dtype), np.ones(2), np.ones(2))[1].plan


def test_a_mean_near_zero_needs_no_step_of_its_own_where_digits_are_to_spare():
    mean = np.array([[0.4, -0.4]])
    pivot, rest = of_given(plan(np.float32), mean, np.ones((1, 2)), 1e-5)
    assert pivot is None
    assert rest is mean


def test_a_mean_that_would_cost_digits_is_subtracted_first():
    mean = np.array([[0.1, 1000.1]])
    pivot, rest = of_given(plan(np.float32), mean, np.ones((1, 2)), 1e-5)
    assert_array_equal(pivot, [[0, np.float32(1000.1)]])
    assert_array_equal(pivot + rest, mean)
    pivot, rest = of_given(plan(np.float64), mean, np.ones((1, 2)), 1e-5)
    assert pivot is mean
    assert rest is None


@each("extreme", [1e-200, 1e200, np.inf])
def test_gamma_stays_alone_where_its_product_with_rstd_may_leave_the_range(extreme):
    assert factors_fit(plan(np.float64), np.array([1.0, -3.0]), 1e-5)
    assert factors_fit(plan(np.float64), np.array([1.0, 0.0]), 1e-5)
    assert not factors_fit(plan(np.float64), np.array([1.0, extreme]), 1e-5)
    assert not factors_fit(plan(np.float64), np.array([1.0, -3.0]), 1e-40)


def test_an_infinite_gamma_gives_infinity_and_not_a_nan():
    numbers = [np.array([a], np.float32) for a in (1.0, 1.0, np.inf, 1.0)]
    y, _ = batch_norm_inference_forward(np.array([[3.0], [-3.0]], np.float32), *numbers)
    assert_array_equal(y, [[np.inf], [-np.inf]])


@each("distance", [1, 10])
def test_a_sample_alone_has_the_same_bits(distance, rng):
    x, numbers = draw(rng, distance, np.float32, np.float32, shape=(20, 61, 500))
    y, _ = batch_norm_inference_forward(x, *numbers)
    alone, _ = batch_norm_inference_forward(x[3:4], *numbers)
    assert_array_equal(alone, y[3:4])


@each("dtype", [np.float16, np.float32, np.float64])
@each(("shape", "axis"), [((8, 61, 90, 90), 1), ((8, 90, 90, 61), -1)])
def test_nothing_but_y_is_allocated_beside_the_scratch_of_two_threads(dtype, shape, axis, rng):
    x, numbers = rng.random(shape, np.float32).astype(dtype), rng.random((4, 61), np.float32)
    before = numpy_norms.get_num_threads()
    numpy_norms.set_num_threads(2)
    tracemalloc.start()
    y, _ = batch_norm_inference_forward(x, *numbers, channel_axis=axis)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    numpy_norms.set_num_threads(before)
    assert y.nbytes <= peak <= y.nbytes + 2 * 2**22
