"""Batch norm by hand, and what only batch norm does."""

import numpy as np
import pytest
from each import each
from numpy.testing import assert_allclose, assert_array_equal

from numpy_norms import batch_norm_backward, batch_norm_forward

x = np.array([[1.0, 10.0], [3.0, 30.0]])


def test_hand_computed_forward():
    y, _ = batch_norm_forward(x, np.array([1.0, -2.0]), np.array([0.5, 0.0]), eps=0.0)
    assert_allclose(y, [[-0.5, 2.0], [1.5, -2.0]])


def test_hand_computed_statistics():
    _, cache = batch_norm_forward(x, eps=3.0)
    assert_allclose(cache.mean, [2.0, 20.0])
    assert_allclose(cache.var, [1.0, 100.0])
    assert_allclose(cache.rstd, [0.5, 103**-0.5])


def test_hand_computed_backward():
    # x_hat = -1/2, 1/2; r = 1/2; dx_hat = 2, 0 has mean 1, and times x_hat it has mean -1/2.
    _, cache = batch_norm_forward(np.array([[1.0], [3.0]]), np.array([2.0]), np.zeros(1), eps=3.0)
    dx, dgamma, dbeta = batch_norm_backward(np.array([[1.0], [0.0]]), cache)
    assert_allclose(dx, [[0.375], [-0.375]])
    assert_allclose([*dgamma, *dbeta], [-0.5, 1.0])


def test_statistics_are_shared_over_samples_and_positions_of_a_channel():
    images = np.random.default_rng(0).standard_normal((4, 3, 5, 2))
    _, cache = batch_norm_forward(images)
    assert_allclose(cache.mean, images.mean(axis=(0, 2, 3)))
    assert_allclose(cache.var, images.var(axis=(0, 2, 3)))


@each("channel_axis", [0, 1, 2, -1])
def test_statistics_have_one_entry_per_channel(channel_axis):
    _, cache = batch_norm_forward(np.ones((4, 3, 5)), channel_axis=channel_axis)
    assert cache.mean.shape == cache.var.shape == cache.rstd.shape == ((4, 3, 5)[channel_axis],)


def test_one_value_per_channel_gives_beta_and_no_dx():
    beta = np.array([7.0, -1.0])
    y, cache = batch_norm_forward(x[:1], np.array([3.0, 1e200]), beta)
    dx, dgamma, dbeta = batch_norm_backward(x[:1], cache)
    assert_array_equal(y, [beta])
    assert_array_equal(dx, np.zeros((1, 2)))
    assert_array_equal([dgamma, dbeta], [[0.0, 0.0], x[0]])


def test_gamma_of_another_length_is_refused_with_both_sizes_and_the_cure():
    with pytest.raises(ValueError, match=r"gamma has shape \(4,\).*3 channels.*channel_axis=-1"):
        batch_norm_forward(np.ones((2, 3, 4)), np.ones(4))


def test_a_vector_has_no_channels():
    with pytest.raises(ValueError, match=r"\(3,\)"):
        batch_norm_forward(np.ones(3))


def test_a_million_rows_of_float32_are_summed_exactly():
    # Naive sums along the slow axis are off by a third here.
    rows = np.full((1_000_000, 2), 100.0, dtype=np.float32)
    rows[::2] = -100.0
    y, cache = batch_norm_forward(rows)
    assert_allclose(cache.var, [1e4, 1e4], rtol=1e-14)
    assert_array_equal(np.abs(y), np.float32(100 / np.sqrt(1e4 + 1e-5)))
