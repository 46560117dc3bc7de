"""Batch renorm: between batch norm and inference, with corrections that are constants."""

import numpy as np
import pytest
from each import each
from hypothesis import given
from hypothesis import strategies as st
from measure import assert_close
from numpy.testing import assert_allclose, assert_array_equal

from numpy_norms import (
    batch_norm_backward,
    batch_norm_forward,
    batch_norm_inference_forward,
    batch_renorm_backward,
    batch_renorm_forward,
    update_running_stats,
)
from numpy_norms.oracle.double_double import Pair

UNCLIPPED = {"r_max": np.inf, "d_max": np.inf}


def draw(shape, seed=0, *, mean=2.0, dtype=np.float64):
    """Draw x, the moving statistics of axis 1, gamma, beta and dy."""
    rng = np.random.default_rng(seed)
    c = shape[1]
    arrays = [
        mean + 1.5 * rng.standard_normal(shape),
        mean + rng.standard_normal(c),
        rng.uniform(0.5, 4, c),
        *rng.standard_normal((2, c)),
        rng.standard_normal(shape),
    ]
    *arguments, dy = (a.astype(dtype) for a in arrays)
    return arguments, dy


@each("mean", [0.0, 1e3, 1e6])
def test_without_limits_it_is_inference_with_the_moving_statistics(mean):
    arguments, _ = draw((6, 3, 5), mean=mean)
    y, cache = batch_renorm_forward(*arguments, **UNCLIPPED)
    expected, _ = batch_norm_inference_forward(*arguments)
    assert_close(y, expected, 1e-14)
    assert np.abs(cache.d).max() > 0.1


def test_with_no_room_for_correction_it_is_batch_norm():
    (x, mean, var, gamma, beta), dy = draw((6, 3, 5))
    y, cache = batch_renorm_forward(x, mean, var, gamma, beta, r_max=1, d_max=0)
    expected, of_batch = batch_norm_forward(x, gamma, beta)
    assert_close(y, expected, 1e-15)
    gradients = batch_renorm_backward(dy, cache)
    for got, e in zip(gradients, batch_norm_backward(dy, of_batch), strict=True):
        assert_close(got, e, 1e-15)


def test_with_the_statistics_of_the_batch_itself_it_is_batch_norm():
    (x, _, _, gamma, beta), _ = draw((6, 3, 5))
    _, of_batch = batch_norm_forward(x)
    y, cache = batch_renorm_forward(x, of_batch.mean, of_batch.var, gamma, beta)
    assert_close(y, batch_norm_forward(x, gamma, beta)[0], 1e-14)
    assert_allclose(cache.r, 1, rtol=1e-14)
    assert_allclose(cache.d, 0, atol=1e-14)


def exact(x, running_mean, running_var, gamma, beta, dy, r_max, d_max):
    """Evaluate y and dx of (N, C) in 106 bits, and the sizes of y's terms; eps is 1e-5."""
    columns = [Pair.of(a.T.astype(np.float64)) for a in (x, dy)]
    mean, var, gamma, beta = (
        Pair.of(a.astype(np.float64)[:, None]) for a in (running_mean, running_var, gamma, beta)
    )
    xc = columns[0] - columns[0].mean()
    sigma, running_sigma = ((v + 1e-5).root() for v in ((xc * xc).mean(), var))
    r, d = sigma / running_sigma, (columns[0].mean() - mean) / running_sigma
    for a, low, high in ((r, 1 / r_max, r_max), (d, -d_max, d_max)):
        for limit, beyond in ((low, a.hi < low), (high, a.hi > high)):
            a.hi[beyond], a.lo[beyond] = limit, 0
    y = gamma * (r * (xc / sigma) + d) + beta
    g = gamma * r * columns[1]
    dsigma = -((g * xc).sum() / (sigma * sigma))
    dxc = g / sigma + dsigma * xc / (sigma * float(len(x)))
    terms = np.abs(gamma.hi) * (np.abs(r.hi * xc.hi / sigma.hi) + np.abs(d.hi)) + np.abs(beta.hi)
    return y, dxc - dxc.mean(), terms


@each("mean", [0.0, 1e2, 1e6])
def test_no_neighbour_in_float32_is_nearer_to_the_truth(mean):
    arguments, dy = draw((333, 200), mean=mean, dtype=np.float32)
    y, cache = batch_renorm_forward(*arguments, r_max=1.5, d_max=0.7)
    dx, _, _ = batch_renorm_backward(dy, cache)
    of_y, of_dx, terms = exact(*arguments, dy, 1.5, 0.7)
    assert (of_y.error(y.T) <= np.spacing(np.abs(y.T)) * 0.5 + 2.0**-48 * terms).all()
    assert of_y.is_nearest(y.T).mean() >= 0.999
    assert of_dx.is_nearest(dx.T).mean() >= 0.99999


def test_r_and_d_are_clipped_and_reported():
    x = np.array([[1.0, 1.0], [3.0, 3.0]])  # mean 2, variance 1
    _, cache = batch_renorm_forward(
        x, np.array([0.0, 1.0]), np.array([16.0, 4.0]), r_max=3, d_max=0.25, eps=0
    )
    assert_allclose(cache.r, [1 / 3, 0.5], rtol=1e-15)
    assert_allclose(cache.d, [0.25, 0.25], rtol=1e-15)


def test_hand_computed():
    # mean 2, sigma 1, running sigma 2: r = 1/2, d = clip(2/2) = 1/4; x_hat = -1, 1.
    x = np.array([[1.0], [3.0]])
    gamma, beta = np.array([-2.0]), np.array([10.0])
    y, cache = batch_renorm_forward(x, np.zeros(1), np.array([4.0]), gamma, beta, d_max=0.25, eps=0)
    assert_allclose(y.ravel(), [10.5, 8.5], rtol=1e-15)
    dx, dgamma, dbeta = batch_renorm_backward(np.array([[1.0], [2.0]]), cache)
    assert_allclose(dgamma, [-0.25 + 1.5], rtol=1e-15)  # 1 (-1/2 + 1/4) + 2 (1/2 + 1/4)
    assert_array_equal(dbeta, [3.0])
    assert_allclose(dx, 0, atol=1e-15)  # of two elements, x_hat does not move


@given(seed=st.integers(0, 99), shift=st.floats(-1e3, 1e3), scale=st.floats(0.01, 100))
def test_units_and_origin_of_x_and_its_moving_statistics_make_no_difference(seed, shift, scale):
    (x, mean, var, gamma, beta), dy = draw((6, 3, 5), seed)
    y, cache = batch_renorm_forward(x, mean, var, gamma, beta, eps=0.0)
    far, far_cache = batch_renorm_forward(
        scale * x + shift, scale * mean + shift, scale**2 * var, gamma, beta, eps=0.0
    )
    loss = 1e-14 * (1 + abs(shift) / scale)
    assert_close(far, y, loss)
    dx, *_ = batch_renorm_backward(dy, cache)
    assert_close(scale * batch_renorm_backward(dy, far_cache)[0], dx, 10 * loss)


def test_dx_sums_to_zero_and_is_orthogonal_to_x_hat_but_for_eps():
    arguments, dy = draw((6, 3, 5))
    _, cache = batch_renorm_forward(*arguments, eps=0.0)
    dx, _, _ = batch_renorm_backward(dy, cache)
    assert_allclose(dx.sum(axis=(0, 2)), 0, atol=1e-14)
    assert_allclose((dx * arguments[0]).sum(axis=(0, 2)), 0, atol=1e-13)


def test_absent_parameters_are_ones_and_zeros_and_have_no_gradients():
    (x, mean, var, gamma, beta), dy = draw((6, 3, 5))
    ones, zeros = np.ones_like(gamma), np.zeros_like(beta)
    expected, cache = batch_renorm_forward(x, mean, var, ones, zeros)
    of_all = batch_renorm_backward(dy, cache)
    for given_gamma, given_beta in ((None, None), (ones, None), (None, zeros)):
        y, cache = batch_renorm_forward(x, mean, var, given_gamma, given_beta)
        assert_array_equal(y, expected)
        dx, dgamma, dbeta = batch_renorm_backward(dy, cache)
        assert_array_equal(dx, of_all[0])
        assert (dgamma is None) == (given_gamma is None)
        assert (dbeta is None) == (given_beta is None)


def test_running_statistics_are_those_of_batch_norm():
    (x, mean, var, *_), _ = draw((6, 3, 5))
    _, cache = batch_renorm_forward(x, mean, var)
    _, of_batch = batch_norm_forward(x)
    found = update_running_stats(mean, var, cache)
    for got, expected in zip(found, update_running_stats(mean, var, of_batch), strict=True):
        assert_array_equal(got, expected)


@given(exponent=st.integers(-508, 480))
def test_a_power_of_two_makes_no_difference_at_any_scale(exponent):
    (x, mean, var, gamma, beta), dy = draw((6, 3))
    y, cache = batch_renorm_forward(x, mean, var, gamma, beta, eps=0.0)
    far, far_cache = batch_renorm_forward(
        np.ldexp(x, exponent), np.ldexp(mean, exponent), np.ldexp(var, 2 * exponent), gamma, beta,
        eps=0.0,
    )  # fmt: skip
    assert_close(far, y, 1e-14)
    dx, *_ = batch_renorm_backward(dy, cache)
    assert_close(np.ldexp(batch_renorm_backward(dy, far_cache)[0], exponent), dx, 1e-14)


@each("eps", [0.0, 1e-5])
@each(("x", "y"), [(0.0, 0.0), (7.0, 5.0), (-7.0, -5.0)])
def test_a_channel_that_never_moved_gives_what_d_says_and_no_nan(eps, x, y):
    gamma, beta = np.array([2.0]), np.array([0.5])
    x = np.full((4, 1), x)
    found, cache = batch_renorm_forward(x, np.zeros(1), np.zeros(1), gamma, beta, eps=eps)
    assert_array_equal(found, np.full((4, 1), 2 * y + 0.5))
    assert_array_equal(cache.r, [1])
    dx, dgamma, dbeta = batch_renorm_backward(np.ones((4, 1)), cache)
    assert_array_equal(dx, np.zeros((4, 1)))
    assert_array_equal([dgamma, dbeta], [[4 * y], [4]])


@given(exponent=st.sampled_from([*range(-537, -480, 3), *range(480, 512, 3)]))
def test_r_is_right_where_the_variance_of_x_leaves_the_range(exponent):
    (x, mean, _, gamma, beta), _ = draw((6, 3))
    at = [(x, mean, 1.0), (np.ldexp(x, exponent), np.ldexp(mean, exponent), 4.0**exponent)]
    (y, cache), (far, far_cache) = (
        batch_renorm_forward(x, mean, np.zeros(3), gamma, beta, eps=eps, **UNCLIPPED)
        for x, mean, eps in at
    )
    assert_close(far_cache.r, cache.r, 1e-14)
    assert_close(far_cache.d, cache.d, 1e-14)
    assert_close(far, y, 1e-14)


def test_nan_stays_within_its_channel():
    arguments, dy = draw((6, 3, 5))
    arguments[0][2, 1, 3] = np.nan
    y, cache = batch_renorm_forward(*arguments)
    for a in (y, batch_renorm_backward(dy, cache)[0]):
        assert_array_equal(np.isnan(a).any(axis=(0, 2)), [False, True, False])


def test_no_samples_give_an_empty_y_and_zero_gradients():
    (_, *others), _ = draw((6, 3, 5))
    y, cache = batch_renorm_forward(np.empty((0, 3, 5)), *others)
    dx, dgamma, dbeta = batch_renorm_backward(y, cache)
    assert y.shape == dx.shape == (0, 3, 5)
    assert not dgamma.any()
    assert not dbeta.any()


@each(
    ("option", "message"),
    [
        ({"r_max": 0.5}, "r_max is 0.5 and d_max is 5.0, but r_max >= 1"),
        ({"d_max": -1.0}, "d_max is -1.0"),
        ({"r_max": np.nan}, "r_max is nan"),
        ({"eps": -1.0}, "eps is -1.0"),
    ],
)
def test_a_wrong_option_is_named(option, message):
    arguments, _ = draw((6, 3, 5))
    with pytest.raises(ValueError, match=message):
        batch_renorm_forward(*arguments, **option)
    arguments[2][1] = -1.0
    with pytest.raises(ValueError, match=r"running_var is -1.0 for channel 1"):
        batch_renorm_forward(*arguments)
