"""Batch norm inference: statistics are arguments, with gradients of their own."""

import math

import numpy as np
import pytest
from cases import INFERENCE, batch_norm_inference, parametrize
from each import each
from measure import assert_close
from numpy.testing import assert_allclose, assert_array_equal

from numpy_norms import batch_norm_inference_backward, batch_norm_inference_forward

EPS = 0.7
SHAPES = [
    INFERENCE,
    batch_norm_inference((7, 3)),
    batch_norm_inference((4, 3, 5, 2), channel_axis=-1),
    batch_norm_inference((3, 7, 2), channel_axis=0),
]


def longhand(x, dy, channel_of, running_mean, running_var, gamma, beta):
    """Return y and the five gradients, position by position."""
    y, dx = np.empty(x.shape), np.empty(x.shape)
    terms = {name: [[] for _ in gamma] for name in ("mean", "var", "gamma", "beta")}
    for i in np.ndindex(x.shape):
        c = channel_of(i)
        deviation, spread = x[i] - running_mean[c], running_var[c] + EPS
        y[i] = gamma[c] * deviation / math.sqrt(spread) + beta[c]
        dx[i] = dy[i] * gamma[c] / math.sqrt(spread)
        terms["mean"][c].append(-dx[i])
        terms["var"][c].append(dy[i] * gamma[c] * deviation * -0.5 * spread**-1.5)
        terms["gamma"][c].append(dy[i] * deviation / math.sqrt(spread))
        terms["beta"][c].append(dy[i])
    return y, dx, *(np.array([math.fsum(t) for t in lists]) for lists in terms.values())


@parametrize(SHAPES)
def test_all_five_gradients_agree_with_loops_over_the_definition(norm):
    arrays, dy = norm.draw()
    y, gradients = norm.both(arrays, dy, eps=EPS)
    expected = longhand(dy=dy, channel_of=norm.entries.__getitem__, **arrays)
    for got, value in zip((y, *gradients.values()), expected, strict=True):
        assert_close(got, value, 1e-14)


def test_an_absent_gamma_is_one():
    arrays, dy = INFERENCE.draw()
    del arrays["gamma"], arrays["beta"]
    results = []
    for gamma in (None, np.ones(arrays["running_mean"].shape)):
        y, cache = batch_norm_inference_forward(**arrays, gamma=gamma, **INFERENCE.options)
        results.append([y, *batch_norm_inference_backward(dy, cache)[:3]])
    for got, expected in zip(*results, strict=True):
        assert_array_equal(got, expected)


def test_hand_computed():
    statistics = np.array([1.0]), np.array([3.0])
    y, cache = batch_norm_inference_forward(
        np.array([[5.0], [-1.0]]), *statistics, np.array([2.0]), np.array([0.5]), eps=1.0
    )
    gradients = batch_norm_inference_backward(np.array([[1.0], [3.0]]), cache)
    assert_allclose(y, [[4.5], [-1.5]])
    # r = 1/2; deviations 4 and -2; dx_hat = 2 and 6, whose product with them sums to -4.
    expected = [[[1.0], [3.0]], [-4.0], [0.25], [-1.0], [4.0]]
    for got, value in zip(gradients, expected, strict=True):
        assert_allclose(got, value)


def test_dgamma_uses_the_given_statistics_and_not_those_of_the_batch():
    arrays, dy = INFERENCE.draw()
    _, gradients = INFERENCE.both(arrays, dy)
    x_hat = arrays["x"] - arrays["x"].mean(axis=(0, 2), keepdims=True)
    x_hat /= np.sqrt(arrays["x"].var(axis=(0, 2), keepdims=True) + 1e-5)
    of_batch = (dy * x_hat).sum(axis=(0, 2))
    assert np.abs(gradients["gamma"] - of_batch).max() > 0.1


def test_absent_parameters_have_no_gradient():
    arrays, dy = INFERENCE.draw()
    _, cache = batch_norm_inference_forward(arrays["x"], np.zeros(3), np.ones(3))
    gradients = batch_norm_inference_backward(dy, cache)
    assert [g is None for g in gradients] == [False, False, False, True, True]


def test_a_variance_of_zero_is_legal_with_eps():
    y, cache = batch_norm_inference_forward(np.ones((2, 1)), np.zeros(1), np.zeros(1), eps=0.25)
    assert_array_equal(y, [[2.0], [2.0]])
    assert np.isfinite(batch_norm_inference_backward(np.ones((2, 1)), cache)[2]).all()


@each("bad", [-1.0, np.nan])
def test_a_negative_variance_is_refused_and_a_nan_stays_in_its_channel(bad):
    x, var = np.ones((2, 3, 4)), np.array([1.0, bad, 2.0])
    if np.isnan(bad):
        y, _ = batch_norm_inference_forward(x, np.zeros(3), var)
        assert_array_equal(np.isnan(y).any(axis=(0, 2)), [False, True, False])
    else:
        with pytest.raises(ValueError, match=r"running_var.*-1"):
            batch_norm_inference_forward(x, np.zeros(3), var)


def test_statistics_have_the_type_of_their_gradients():
    arrays, dy = INFERENCE.draw(dtype=np.float32)
    arrays["running_mean"] = arrays["running_mean"].astype(np.float64)
    y, gradients = INFERENCE.both(arrays, dy)
    assert y.dtype == np.float32
    assert {n: g.dtype for n, g in gradients.items()} == {n: a.dtype for n, a in arrays.items()}


def test_no_sample_depends_on_another():
    arrays, dy = INFERENCE.draw()
    y, gradients = INFERENCE.both(arrays, dy)
    one = {**arrays, "x": arrays["x"][2:3]}
    alone, cache = batch_norm_inference_forward(**one)
    assert_array_equal(alone, y[2:3])
    dx = batch_norm_inference_backward(dy[2:3], cache)[0]
    assert_array_equal(dx, gradients["x"][2:3])
