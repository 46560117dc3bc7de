"""Batch norm inference: how few operations, how little memory, and that nothing is lost by it."""

import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from extended import Extended, is_nearest
from numpy.testing import assert_array_equal

import numpy_norms
from numpy_norms import batch_norm_inference_forward
from numpy_norms.batch_norm_inference import NEAR, _fewest_operations

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


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
@pytest.mark.parametrize("distance", [0, 1, 0.99 * NEAR, 1.01 * NEAR, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_y_is_correctly_rounded_however_far_the_mean(dtype, distance, rng):
    if dtype is np.float16 and distance > 1e3:
        distance = 1e3
    x, numbers = draw(rng, distance, dtype, np.float32)
    exact, _ = definition(x, *numbers)
    y, _ = batch_norm_inference_forward(x, *numbers)
    hi = exact.astype(np.float64)
    assert is_nearest(y, Extended(hi, exact - hi)).mean() >= 0.99999


@pytest.mark.skipif(np.finfo(np.longdouble).nmant <= 52, reason="longdouble is float64 here")
@pytest.mark.parametrize("distance", [0, 1, 1e6])
@pytest.mark.parametrize("std", [1.0, 1e10])
@pytest.mark.parametrize("size", [1e-305, 1e-20, 1.0, 1e290])
def test_float64_is_exact_to_four_roundoffs_for_gamma_of_any_size(distance, std, size, rng):
    x, (mean, var, gamma, beta) = draw(rng, distance, np.float64, np.float64)
    x, mean, var, gamma, beta = std * x, std * mean, std**2 * var, size * gamma, size * beta
    exact, scale = definition(x, mean, var, gamma, beta)
    y, _ = batch_norm_inference_forward(x, mean, var, gamma, beta)
    assert (np.abs(y - exact) <= 4 * 2.0**-53 * scale + 2.0**-1074).all()


def test_one_multiplication_and_one_addition_are_left_where_digits_are_to_spare(rng):
    mean, rstd = np.array([3.0, -1.0]), np.array([1.0, 2.0])
    gamma, beta = rng.standard_normal((2, 2))
    center, slope, scale, shift = _fewest_operations(mean, rstd, gamma, beta, FLOAT32, 1e-5)
    assert center is None
    assert scale is None
    assert_array_equal(slope, rstd * gamma)
    assert_array_equal(shift, beta - mean * (rstd * gamma))


def test_the_mean_is_subtracted_where_no_digit_is_to_spare(rng):
    mean, rstd, (gamma, beta) = np.array([3.0, 5.0]), np.ones(2), rng.standard_normal((2, 2))
    for x in (FLOAT32, FLOAT64):
        center, slope, scale, shift = _fewest_operations(mean, rstd, gamma, beta, x, 1e-5)
        assert center is mean
        assert scale is None
        assert shift is beta
        assert_array_equal(slope, rstd * gamma)


def test_gamma_stays_alone_where_its_product_with_rstd_may_vanish():
    numbers = np.zeros(2), np.ones(2), np.array([1.0, 1e-200]), np.ones(2)
    assert _fewest_operations(*numbers, FLOAT64, 1e-5) == numbers


def test_an_infinite_gamma_gives_infinity_and_not_a_nan():
    numbers = [np.array([a], np.float32) for a in (1.0, 1.0, np.inf, 1.0)]
    y, _ = batch_norm_inference_forward(np.array([[3.0], [-3.0]], np.float32), *numbers)
    assert_array_equal(y, [[np.inf], [-np.inf]])


@pytest.mark.parametrize("distance", [1, 10])
def test_a_sample_alone_has_the_same_bits(distance, rng):
    x, numbers = draw(rng, distance, np.float32, np.float32, shape=(20, 61, 500))
    y, _ = batch_norm_inference_forward(x, *numbers)
    alone, _ = batch_norm_inference_forward(x[3:4], *numbers)
    assert_array_equal(alone, y[3:4])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("shape", "axis"), [((8, 61, 90, 90), 1), ((8, 90, 90, 61), -1)])
def test_nothing_but_y_is_allocated_beside_the_scratch_of_two_threads(dtype, shape, axis, rng):
    x, numbers = rng.random(shape, np.float32).astype(dtype), rng.random((4, 61), np.float32)
    before = numpy_norms.get_num_threads()
    numpy_norms.set_num_threads(2)
    tracemalloc.start()
    y, _ = batch_norm_inference_forward(x, *numbers, channel_axis=axis)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    numpy_norms.set_num_threads(before)
    assert y.nbytes <= peak <= y.nbytes + 4.5e6
