"""Layer norm by hand, and what only layer norm does: any axes, a parameter per feature."""

import numpy as np
import pytest
from each import each
from numpy.testing import assert_allclose, assert_array_equal

from numpy_norms import layer_norm_backward, layer_norm_forward


def test_hand_computed_forward():
    y, cache = layer_norm_forward(
        np.array([[1.0, 3.0], [10.0, 10.0]]), np.array([2.0, -2.0]), np.array([0.0, 1.0]), eps=3.0
    )
    assert_allclose(y, [[-1.0, 0.0], [0.0, 1.0]])
    assert_allclose(cache.mean, [2.0, 10.0])
    assert_allclose(cache.rstd, [0.5, 3**-0.5])


def test_hand_computed_backward():
    # x_hat = -1/2, 1/2; r = 1/2; dx_hat = 2, -4 has mean -1, and times x_hat it has mean -3/2.
    _, cache = layer_norm_forward(np.array([[1.0, 3.0]]), np.array([2.0, -2.0]), eps=3.0)
    dx, dgamma, dbeta = layer_norm_backward(np.array([[1.0, 2.0]]), cache)
    assert_allclose(dx, [[1.125, -1.125]])
    assert_allclose(dgamma, [-0.5, 1.0])
    assert dbeta is None


def test_hand_computed_row_of_four():
    y, _ = layer_norm_forward(np.array([1.0, 2.0, 3.0, 6.0]), eps=0.0)
    assert_allclose(y, np.array([-2.0, -1.0, 0.0, 3.0]) / np.sqrt(3.5))


def test_a_single_row_needs_no_batch_axis(rng):
    x = rng.standard_normal(5)
    y, cache = layer_norm_forward(x)
    assert cache.mean.shape == cache.rstd.shape == ()
    assert_array_equal(y, layer_norm_forward(x[None])[0][0])


@each("axis", [0, 1, -1, (1, 2), (2, 1), (-1, 0), (0, 1, 2), (1,)])
def test_statistics_have_the_shape_of_numpy_s_mean(axis, rng):
    x = rng.standard_normal((4, 3, 5))
    _, cache = layer_norm_forward(x, axis=axis)
    assert_allclose(cache.mean, np.mean(x, axis=axis))
    assert_allclose(cache.var, np.var(x, axis=axis))
    assert cache.rstd.shape == np.shape(np.mean(x, axis=axis))


def test_the_order_of_axes_does_not_matter_and_gamma_lies_as_x_does(rng):
    x, gamma = rng.standard_normal((4, 3, 5)), rng.standard_normal((4, 5))
    first, second = (layer_norm_forward(x, gamma, axis=axis)[0] for axis in ((0, 2), (-1, 0)))
    assert_array_equal(first, second)
    assert_allclose(first, layer_norm_forward(x, axis=(0, 2))[0] * gamma[:, None, :])


def test_channels_of_an_image_are_normalized_at_each_position(rng):
    x, gamma = rng.standard_normal((2, 5, 3, 4)), rng.standard_normal(5)
    y, _ = layer_norm_forward(x, gamma, axis=1)
    last, _ = layer_norm_forward(np.moveaxis(x, 1, -1), gamma)
    assert_allclose(np.moveaxis(y, 1, -1), last, rtol=1e-14)


def test_one_feature_gives_beta_and_no_dx(rng):
    gamma, beta = np.array([1e200]), np.array([0.3])
    y, cache = layer_norm_forward(rng.standard_normal((4, 1)), gamma, beta)
    dx, dgamma, _ = layer_norm_backward(rng.standard_normal((4, 1)), cache)
    assert_array_equal(y, np.full((4, 1), 0.3))
    assert_array_equal(dx, np.zeros((4, 1)))
    assert_array_equal(dgamma, [0.0])


@each("shape", [(4, 3), (1,), (5, 1), (), (3,)])
@each("name", ["gamma", "beta"])
def test_a_parameter_is_never_broadcast(name, shape):
    with pytest.raises(ValueError, match=rf"{name} has shape \(") as caught:
        layer_norm_forward(np.ones((3, 5)), **{name: np.ones(shape)})
    assert str(shape) in str(caught.value)
    assert "(5,)" in str(caught.value)


@each(
    ("axis", "fragments"),
    [
        (2, ["2", "(3, 5)"]),
        (-3, ["-3", "(3, 5)"]),
        ((0, 7), ["7", "(3, 5)"]),
        ((1, -1), ["(1, -1)"]),
        ((), ["empty"]),
    ],
)
def test_an_axis_that_x_does_not_have_is_refused(axis, fragments):
    with pytest.raises(ValueError, match="axis") as caught:
        layer_norm_forward(np.ones((3, 5)), axis=axis)
    assert all(fragment in str(caught.value) for fragment in fragments)


@each("axis", [1.0, "1", None, (0, 1.0), True])
def test_an_axis_that_is_no_int_is_refused(axis):
    with pytest.raises(TypeError, match="axis"):
        layer_norm_forward(np.ones((3, 5)), axis=axis)
