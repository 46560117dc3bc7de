"""Instance norm by hand, and what only instance norm does: every channel of every sample alone."""

import numpy as np
import pytest
from each import each
from numpy.testing import assert_allclose, assert_array_equal

from numpy_norms import instance_norm_backward, instance_norm_forward


def test_hand_computed_forward():
    x = np.array([[[1.0, 3.0], [10.0, 30.0]]])
    y, cache = instance_norm_forward(x, np.array([2.0, -1.0]), np.array([0.0, 5.0]), eps=0.0)
    assert_allclose(y, [[[-2.0, 2.0], [6.0, 4.0]]])
    assert_allclose(cache.mean, [[2.0, 20.0]])
    assert_allclose(cache.rstd, [[1.0, 0.1]])


def test_hand_computed_backward():
    # x_hat = -1/2, 1/2; r = 1/2; dx_hat = 2, 0 has mean 1, and times x_hat it has mean -1/2.
    x, dy = np.array([[[1.0, 3.0]]]), np.array([[[1.0, 0.0]]])
    _, cache = instance_norm_forward(x, np.array([2.0]), np.zeros(1), eps=3.0)
    dx, dgamma, dbeta = instance_norm_backward(dy, cache)
    assert_allclose(dx, [[[0.375, -0.375]]])
    assert_allclose([*dgamma, *dbeta], [-0.5, 1.0])


@each("shape", [(4, 3, 5), (4, 3, 2, 5), (2, 3, 4, 5, 6)])
def test_statistics_have_one_entry_per_sample_and_channel(shape, rng):
    x = rng.standard_normal(shape)
    _, cache = instance_norm_forward(x)
    positions = tuple(range(2, x.ndim))
    assert_allclose(cache.mean, x.mean(axis=positions))
    assert_allclose(cache.var, x.var(axis=positions))
    assert cache.rstd.shape == shape[:2]


def test_with_channels_first_the_batch_axis_is_the_second(rng):
    x = rng.standard_normal((3, 4, 5))
    _, cache = instance_norm_forward(x, channel_axis=0)
    assert cache.mean.shape == (4, 3)
    assert_allclose(cache.mean, x.mean(axis=2).T)


def test_parameters_are_shared_by_the_samples(rng):
    x, dy = rng.standard_normal((4, 3, 5)), rng.standard_normal((4, 3, 5))
    _, cache = instance_norm_forward(x, np.ones(3), np.zeros(3))
    _, dgamma, dbeta = instance_norm_backward(dy, cache)
    assert dgamma.shape == dbeta.shape == (3,)
    assert_allclose(dbeta, dy.sum(axis=(0, 2)))


def test_one_position_gives_beta_and_no_dx_for_any_batch_size(rng):
    beta = np.array([1.0, -2.0, 0.5])
    for n in (1, 4):
        y, cache = instance_norm_forward(rng.standard_normal((n, 3, 1)), np.full(3, 1e9), beta)
        dx, _, _ = instance_norm_backward(rng.standard_normal((n, 3, 1)), cache)
        assert_array_equal(y[..., 0], np.broadcast_to(beta, (n, 3)))
        assert_array_equal(dx, np.zeros((n, 3, 1)))


@each("name", ["gamma", "beta"])
def test_a_parameter_per_sample_and_channel_is_refused(name):
    with pytest.raises(ValueError, match=rf"{name} has shape \(4, 3\).*3 channels"):
        instance_norm_forward(np.ones((4, 3, 5)), **{name: np.ones((4, 3))})


def test_a_vector_has_no_samples():
    with pytest.raises(ValueError, match=r"\(6,\)"):
        instance_norm_forward(np.ones(6))
