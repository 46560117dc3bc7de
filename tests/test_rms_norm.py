"""RMS norm by hand, and what only RMS norm does: no mean, no beta."""

import inspect

import numpy as np
import pytest
from each import each
from numpy.testing import assert_allclose, assert_array_equal

from numpy_norms import rms_norm_backward, rms_norm_forward


def test_hand_computed_forward():
    # (1 + 49)/2 = 25, so r = 1/5.
    y, cache = rms_norm_forward(np.array([[1.0, 7.0]]), np.array([5.0, -10.0]), eps=0.0)
    assert_allclose(y, [[1.0, -14.0]])
    assert_allclose(cache.rstd, [0.2])


def test_eps_is_added_under_the_root():
    y, _ = rms_norm_forward(np.array([1.0, 3.0]), eps=11.0)
    assert_allclose(y, [0.25, 0.75])


def test_hand_computed_backward():
    # r = 1/5, x_hat = 1/5, 7/5; dx_hat = 10, 0, times x_hat of mean 1.
    _, cache = rms_norm_forward(np.array([[1.0, 7.0]]), np.array([5.0, 1.0]), eps=0.0)
    dx, dgamma = rms_norm_backward(np.array([[2.0, 0.0]]), cache)
    assert_allclose(dx, [[(10 - 0.2) / 5, -1.4 / 5]])
    assert_allclose(dgamma, [0.4, 0.0])


def test_the_mean_is_not_computed(rng):
    _, cache = rms_norm_forward(rng.standard_normal((4, 5)))
    assert cache.mean is None


@each("axis", [0, -1, (0, 2), (2, 1)])
def test_var_is_the_mean_square(axis, rng):
    x = 3 + rng.standard_normal((4, 3, 5))
    _, cache = rms_norm_forward(x, axis=axis)
    assert_allclose(cache.var, np.mean(x * x, axis=axis))
    assert cache.rstd.shape == np.mean(x, axis=axis).shape


def test_there_is_no_beta():
    assert "beta" not in inspect.signature(rms_norm_forward).parameters


def test_a_row_of_zeros_stays_zero_and_has_the_steepest_slope(rng):
    dy = rng.standard_normal((2, 3))
    y, cache = rms_norm_forward(np.zeros((2, 3)), eps=1e-4)
    dx, dgamma = rms_norm_backward(dy, cache)
    assert_array_equal(y, np.zeros((2, 3)))
    assert_allclose(dx, 100 * dy, rtol=1e-14)
    assert dgamma is None


def test_one_feature_gives_its_sign():
    y, _ = rms_norm_forward(np.array([[3.0], [-0.2]]), eps=0.0)
    assert_allclose(y, [[1.0], [-1.0]], rtol=1e-15)


def test_a_constant_row_is_not_centered():
    y, _ = rms_norm_forward(np.full((1, 7), -1234.1), eps=0.0)
    assert_allclose(y, np.full((1, 7), -1.0), rtol=1e-15)


def test_gamma_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"gamma has shape \(3,\).*\(5,\)"):
        rms_norm_forward(np.ones((3, 5)), np.ones(3))
