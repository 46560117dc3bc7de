"""Values that break careless kernels: constant, huge, tiny, spiked, offset, nearly equal."""

import math
from dataclasses import replace

import numpy as np
from cases import FIVE, SIX, layer_norm, parametrize, rms_norm, with_large_gamma
from each import each
from hypothesis import given
from hypothesis import strategies as st
from measure import assert_close, assert_rounded_once, assert_within_float64
from numpy.testing import assert_allclose, assert_array_equal

from numpy_norms import layer_norm_backward, layer_norm_forward

FIVE_CENTERED = [norm for norm in FIVE if norm.centered]
ONE_EACH = [layer_norm((3, 7)), rms_norm((3, 7))]


@each("start", [4e4, 1e6, 1e7])
@parametrize(FIVE)
def test_an_offset_far_above_the_spread_costs_no_digit(norm, start, rng):
    # Mean squares minus squared means give NaN here.
    arrays, dy = norm.draw(dtype=np.float32)
    arrays["x"] = (start + rng.integers(0, 4, norm.shape)).astype(np.float32)
    y, gradients = norm.both(arrays, dy)
    exact_y, exact = norm.exact(arrays, dy)
    assert_rounded_once(y, exact_y)
    assert_rounded_once(gradients["x"], exact["x"])


@each("scale", [1e19, 1e30, 1e37])
@parametrize(FIVE)
def test_float32_whose_squares_overflow_is_exact(norm, scale):
    arrays, dy = norm.draw(dtype=np.float32)
    arrays["x"] = (scale * arrays["x"]).astype(np.float32)
    y, gradients = norm.both(arrays, dy)
    exact_y, exact = norm.exact(arrays, dy)
    assert_rounded_once(y, exact_y)
    assert_rounded_once(gradients["x"], exact["x"])


@each("exponent", [-1000, -530, 505, 600, 1019])
@parametrize(FIVE)
def test_float64_whose_squares_overflow_or_vanish_scales_like_any_other(norm, exponent):
    # eps = 0 leaves the scale free; gamma brings dx back into range.
    arrays, dy = norm.draw()
    far = {**arrays, "x": np.ldexp(arrays["x"], exponent)}
    dy_far = np.ldexp(dy, min(exponent, 0)) if exponent < 0 else dy
    y, gradients = norm.both(arrays, dy, eps=0.0)
    y_far, gradients_far = norm.both(far, dy_far, eps=0.0)
    assert_allclose(y_far, y, rtol=1e-14, atol=1e-15)
    expected = np.ldexp(gradients["x"], min(0, -exponent))
    assert np.isfinite(gradients_far["x"]).all()
    if abs(exponent) < 1000:
        assert_close(gradients_far["x"], expected, 1e-13)


@parametrize(FIVE)
def test_huge_float64_with_the_usual_eps_is_finite(norm):
    arrays, dy = norm.draw()
    y, _ = norm.both(arrays, dy, eps=0.0)
    y_far, gradients = norm.both({**arrays, "x": 1e200 * arrays["x"]}, dy)
    assert_allclose(y_far, y, rtol=1e-13, atol=1e-15)
    assert all(np.isfinite(g).all() for g in gradients.values())


@each(("dtype", "scale"), [(np.float32, 1e-30), (np.float64, 1e-30), (np.float64, 1e-200)])
@parametrize(FIVE_CENTERED)
def test_values_far_below_eps_are_divided_by_its_root(norm, dtype, scale):
    arrays, dy = norm.draw(dtype=dtype)
    x = (scale * arrays["x"]).astype(dtype)
    y, gradients = norm.both({"x": x}, dy, eps=1e-4)
    rows, g = norm.rows(x), norm.rows(dy)
    tolerance = 2 * np.finfo(dtype).eps
    assert_close(norm.rows(y), 100 * (rows - rows.mean(axis=1, keepdims=True)), tolerance)
    expected = 100 * (g - g.mean(axis=1, keepdims=True))
    assert_close(norm.rows(gradients["x"]), expected, 2 * tolerance)


@each("dtype", [np.float32, np.float64])
@parametrize(FIVE)
def test_subnormal_values_without_eps_are_normalized_like_integers(norm, dtype, rng):
    integers = rng.permuted(np.arange(np.prod(norm.shape)).reshape(norm.shape) - 5)
    x = (integers * np.finfo(dtype).smallest_subnormal).astype(dtype)
    y, _ = norm.forward({"x": x}, eps=0.0)
    expected, _ = norm.forward({"x": integers.astype(np.float64)}, eps=0.0)
    assert_allclose(y, expected, rtol=np.finfo(dtype).eps, atol=1e-15)


@each("dtype", [np.float32, np.float64])
@each("size", [3, 1000, 100_003])
def test_a_spike_keeps_its_order_and_reaches_the_bound(size, dtype):
    x = np.ones((1, size), dtype=dtype)
    x[0, size // 2] = 1e8
    y, _ = layer_norm_forward(x, eps=0.0)
    # float32 is computed in float64; for float64 the bound is that of every other test.
    bound = 2.0**-23 if dtype == np.float32 else (2 * math.log2(size) + 8) * 2.0**-53
    assert_allclose(y.max(), np.sqrt(size - 1), rtol=bound)
    assert (y[0, : size // 2] == y[0, 0]).all()


@given(st.floats(1e-20, 1e20), st.floats(1e-6, 1e6))
def test_two_values_become_plus_and_minus_one_number(a, ratio):
    eps = ratio * a * a
    y, _ = layer_norm_forward(np.array([a, -a, -a, a]), eps=eps)
    expected = 1 / np.sqrt(1 + eps / a / a)
    assert_allclose(y, [expected, -expected, -expected, expected], rtol=1e-15)


@parametrize(FIVE)
def test_float16_above_256_does_not_overflow(norm):
    arrays, dy = norm.draw(mean=20_000.0, std=8_000.0, dtype=np.float16)
    y, gradients = norm.both(arrays, dy)
    exact_y, exact = norm.exact(arrays, dy)
    assert_rounded_once(y, exact_y)
    assert_rounded_once(gradients["x"], exact["x"])


@parametrize(FIVE)
def test_eps_below_every_float16_still_counts(norm):
    arrays, dy = norm.draw(mean=1e-5, std=3e-6, dtype=np.float16)
    y, _ = norm.both(arrays, dy, eps=1e-11)
    assert_rounded_once(y, norm.exact(arrays, dy, eps=1e-11)[0])


@each("dtype", [np.float16, np.float32])
@parametrize(SIX)
def test_results_beyond_the_type_are_infinite_without_a_warning(norm, dtype):
    arrays, dy = norm.draw(dtype=dtype)
    arrays["gamma"] = np.full(norm.parameter_shape, np.finfo(dtype).max)
    y, gradients = norm.both(arrays, 10 * dy)
    assert np.isinf(y).any()
    assert np.isinf(gradients["x"]).any()
    assert not np.isnan(y).any()


@each("eps", [0.0, 0.5, 10.0, 1e3, 1e300])
@parametrize(FIVE)
def test_eps_from_0_to_far_above_the_variance(norm, eps):
    arrays, dy = norm.draw()
    y, gradients = norm.both(arrays, dy, eps=eps)
    exact_y, exact = norm.exact(arrays, dy, eps=eps)
    assert_within_float64(y, exact_y, terms=20)
    assert_within_float64(gradients["x"], exact["x"], terms=20)


@each("dtype", [np.float32, np.float64])
def test_two_features_leave_what_eps_leaves(dtype):
    # The Jacobian is of the order of eps: everything else cancels.
    x, dy = np.array([[1.0, 3.0]], dtype), np.array([[0.7, -0.4]], dtype)
    _, cache = layer_norm_forward(x, eps=1e-6)
    dx, _, _ = layer_norm_backward(dy, cache)
    expected = (1 + 1e-6) ** -1.5 * 1e-6 * (dy.astype(float) - dy.astype(float).mean())
    assert_allclose(dx, expected, rtol=1e-9 if dtype == np.float64 else 1e-6)


@each("kind", ["zero", "negative", "huge", "subnormal", "mixed"])
@parametrize(FIVE)
def test_gamma_of_any_size_leaves_dgamma_alone(norm, kind):
    arrays, dy = norm.draw()
    size = {"zero": 0.0, "negative": -1.0, "huge": 1e200, "subnormal": 5e-324, "mixed": 1.0}[kind]
    gamma = np.full(norm.parameter_shape, size)
    if kind == "mixed":
        gamma.flat[::2] = 1e-200
    y, gradients = norm.both({**arrays, "gamma": gamma}, dy)
    _, usual = norm.both(arrays, dy)
    assert_array_equal(gradients["gamma"], usual["gamma"])
    assert np.isfinite(y).all()
    assert np.isfinite(gradients["x"]).all()


@parametrize(FIVE_CENTERED)
def test_outputs_that_beta_cancels_are_right_on_the_scale_of_beta(norm):
    arrays, dy = norm.draw(dtype=np.float32)
    x_hat, _ = norm.forward({"x": arrays["x"]})
    arrays["gamma"] = np.ones(norm.parameter_shape, np.float32)
    arrays["beta"] = np.full(norm.parameter_shape, -x_hat.flat[0], np.float32)
    y, _ = norm.forward(arrays)
    assert_rounded_once(y, norm.exact(arrays, dy)[0])


@each("size", [*range(1, 35), 127, 1151, 3000, 4099])
@parametrize(ONE_EACH)
def test_every_length_counts_every_element(norm, size):
    # A tail read twice or left out shows only with a mean that is not zero.
    long = replace(norm, shape=(3, size))
    arrays, dy = long.draw(mean=50.0)
    y, gradients = long.both(arrays, dy, eps=0.1)
    exact_y, exact = long.exact(arrays, dy, eps=0.1)
    assert_within_float64(y, exact_y, terms=size)
    assert_within_float64(gradients["x"], exact["x"], terms=size)


@parametrize(SIX)
@each("exponent", [200, 300, 308])
@each("dtype", [np.float32, np.float64])
def test_gamma_near_the_largest_number_leaves_a_finite_dx_finite(norm, exponent, dtype):
    arrays, dy = with_large_gamma(norm, exponent, dtype)
    wide = {name: a.astype(np.longdouble) for name, a in arrays.items()}
    _, exact = norm.both(wide, dy.astype(np.longdouble))
    got = norm.both(arrays, dy, dtype=dtype)[1]["x"]
    assert np.abs(exact["x"]).max() < np.finfo(dtype).max
    assert_close(got.astype(np.longdouble), exact["x"], 50 * np.finfo(dtype).eps)
