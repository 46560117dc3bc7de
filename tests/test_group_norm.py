"""Group norm by hand, and what only group norm does: blocks of neighbouring channels."""

import numpy as np
import pytest
from each import each
from numpy.testing import assert_allclose, assert_array_equal

from numpy_norms import group_norm_backward, group_norm_forward


def test_hand_computed_forward():
    x = np.array([[1.0, 3.0, 20.0, 40.0]])
    y, cache = group_norm_forward(x, 2, np.array([1.0, 2.0, 3.0, 4.0]), np.arange(4.0), eps=0.0)
    assert_allclose(y, [[-1.0, 3.0, -1.0, 7.0]])
    assert_allclose(cache.mean, [[2.0, 30.0]])
    assert_allclose(cache.rstd, [[1.0, 0.1]])


def test_hand_computed_backward():
    # One group of two channels: the row that layer norm has by hand, with its gradients.
    _, cache = group_norm_forward(np.array([[1.0, 3.0]]), 1, np.array([2.0, -2.0]), eps=3.0)
    dx, dgamma, dbeta = group_norm_backward(np.array([[1.0, 2.0]]), cache)
    assert_allclose(dx, [[1.125, -1.125]])
    assert_allclose(dgamma, [-0.5, 1.0])
    assert dbeta is None


@each("shape", [(5, 6), (5, 6, 4), (2, 6, 3, 5), (2, 6, 3, 4, 5)])
def test_statistics_have_one_entry_per_sample_and_group(shape, rng):
    x = rng.standard_normal(shape)
    _, cache = group_norm_forward(x, 2)
    sets = x.reshape(shape[0], 2, -1)
    assert_allclose(cache.mean, sets.mean(axis=-1))
    assert_allclose(cache.var, sets.var(axis=-1))
    assert cache.rstd.shape == (shape[0], 2)


def test_the_batch_axis_is_the_first_that_does_not_hold_channels(rng):
    _, cache = group_norm_forward(rng.standard_normal((6, 5, 4)), 2, channel_axis=0)
    assert cache.mean.shape == (5, 2)


def test_gamma_has_an_entry_per_channel_and_not_per_group():
    with pytest.raises(ValueError, match=r"gamma has shape \(2,\).*6 channels"):
        group_norm_forward(np.ones((5, 6, 4)), 2, np.ones(2))


@each(("num_groups", "numbers"), [(4, "64"), (7, "67"), (0, "0"), (-2, "-2")])
def test_groups_that_do_not_divide_the_channels_are_refused(num_groups, numbers):
    with pytest.raises(ValueError, match="num_groups") as caught:
        group_norm_forward(np.ones((5, 6, 4)), num_groups)
    assert all(number in str(caught.value) for number in (str(num_groups), *numbers[:1]))


@each("num_groups", [2.0, "2", None, True, (2,)])
def test_a_number_of_groups_that_is_no_int_is_refused(num_groups):
    with pytest.raises(TypeError, match="num_groups"):
        group_norm_forward(np.ones((5, 6, 4)), num_groups)


def test_a_vector_has_no_samples():
    with pytest.raises(ValueError, match=r"\(6,\)"):
        group_norm_forward(np.ones(6), 2)


def test_one_value_per_group_gives_beta_and_no_dx(rng):
    x, dy, beta = rng.standard_normal((5, 6)), rng.standard_normal((5, 6)), np.arange(6.0)
    y, cache = group_norm_forward(x, 6, beta + 1, beta)
    assert_array_equal(y, np.broadcast_to(beta, (5, 6)))
    assert_array_equal(group_norm_backward(dy, cache)[0], np.zeros((5, 6)))


def test_a_numpy_integer_counts_groups_too(rng):
    x = rng.standard_normal((5, 6))
    assert_array_equal(group_norm_forward(x, np.int64(2))[0], group_norm_forward(x, 2)[0])
