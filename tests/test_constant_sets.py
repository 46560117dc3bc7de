"""Sets whose values are all the same, or nearly: exact results, no quotient of rounding errors."""

import numpy as np
from cases import CENTERED, FIVE, parametrize, rms_norm
from each import each
from measure import assert_close, assert_rounded_once, assert_within_float64
from numpy.testing import assert_allclose, assert_array_equal

from numpy_norms import batch_norm_forward, layer_norm_forward

FIVE_CENTERED = [norm for norm in FIVE if norm.centered]


@each("dtype", [np.float16, np.float32, np.float64, np.longdouble])
@each("value", [0.1, -1234.1, 65504.0, 1e-7, 1e30, -1e200, 1e-300, 1.7e308])
@parametrize(FIVE_CENTERED)
def test_a_constant_set_gives_beta_to_the_last_bit(norm, value, dtype):
    arrays, _ = norm.draw(dtype=dtype)
    largest = float(np.finfo(dtype).max)
    arrays["x"] = np.full(norm.shape, min(max(value, -largest), largest), dtype=dtype)
    assert_array_equal(norm.forward(arrays)[0], arrays["beta"].ravel()[norm.entries])


@each("size", [769, 5003, 300_001])
@each("value", [0.1, -1e200, 1.7e308])
def test_a_long_constant_set_gives_exact_zeros(size, value):
    y, cache = layer_norm_forward(np.full((2, size), value))
    columns, _ = batch_norm_forward(np.full((size, 2), value))
    assert_array_equal(y, np.zeros((2, size)))
    assert_array_equal(columns, np.zeros((size, 2)))
    assert_array_equal(cache.var, [0.0, 0.0])


@each("size", [7, 769, 2851])
def test_constant_sets_of_complex_numbers_give_exact_zeros(size, rng):
    values = rng.standard_normal((50, 1)) * 10.0 ** rng.integers(-8, 8, (50, 1))
    x = np.repeat(values.astype(np.complex128), size, axis=1)
    zeros = np.zeros((50, size))
    assert_array_equal(layer_norm_forward(x)[0], zeros)
    assert_array_equal(batch_norm_forward(np.ascontiguousarray(x.T))[0], zeros.T)
    nudge = rng.standard_normal(x.shape)
    slope = layer_norm_forward(x + 1e-30j * nudge, eps=1e-4)[0].imag / 1e-30
    assert_close(slope, 100 * (nudge - nudge.mean(axis=1, keepdims=True)), 1e-12)


@each("value", [0.0, 0.1, 1e9, -1e200, 1.7e308])
@parametrize(CENTERED)
def test_dx_of_a_constant_set_is_dx_hat_without_its_mean_over_root_eps(norm, value):
    arrays, dy = norm.draw()
    arrays = {"x": np.full(norm.shape, value)}
    _, gradients = norm.both(arrays, dy, eps=1e-4)
    g = norm.rows(dy)
    assert_close(norm.rows(gradients["x"]), 100 * (g - g.mean(axis=1, keepdims=True)), 1e-14)


@each("size", [3, 1000, 300_001])
@each("value", [0.1, -3e38, 1e-200, 1e200, -1.7e308])
def test_a_constant_row_of_rms_norm_becomes_its_sign(value, size, rng):
    norm = rms_norm((2, size))
    dy = rng.standard_normal(norm.shape)
    y, gradients = norm.both({"x": np.full(norm.shape, value)}, dy, eps=0.0)
    assert_allclose(y, np.full(norm.shape, np.sign(value)), rtol=1e-14)
    expected = (dy - dy.mean(axis=1, keepdims=True)) / abs(value)
    assert_allclose(gradients["x"], expected, rtol=1e-9, atol=1e-12 / abs(value))


@each("dtype", [np.float32, np.float64])
@each("value", [1.0, 0.1, -1234.1, 1e30])
@parametrize(FIVE_CENTERED)
def test_sets_that_differ_in_the_last_bit_only(norm, value, dtype, rng):
    arrays, dy = norm.draw(dtype=dtype)
    x = np.full(norm.shape, value, dtype=dtype)
    arrays["x"] = np.where(rng.random(norm.shape) < 0.5, x, np.nextafter(x, dtype(np.inf)))
    eps = 0.1 * float(np.spacing(dtype(value))) ** 2
    y, gradients = norm.both(arrays, dy, eps=eps)
    exact_y, exact = norm.exact(arrays, dy, eps)
    for got, expected in ((y, exact_y), (gradients["x"], exact["x"])):
        if dtype == np.float32:
            assert_rounded_once(got, expected)
        else:
            assert_within_float64(got, expected, terms=norm.set_size)


@each("eps", [0.0, 1e-300, 1e-46, 1e-5])
@each("value", [0.0, 0.1, -1234.1, 1e30])
@each(("dtype", "work"), [(np.float64, None), (np.float32, None), (np.float32, np.float32)])
@parametrize(FIVE_CENTERED)
def test_x_hat_is_0_where_x_is_the_mean_for_any_eps(norm, dtype, work, value, eps):
    arrays, dy = norm.draw(dtype=dtype)
    arrays["x"] = np.full(norm.shape, value, dtype)
    y, gradients = norm.both(arrays, dy, eps=eps, dtype=work)
    beta = arrays["beta"].ravel()[norm.entries]
    assert_array_equal(y, beta)
    assert_array_equal(gradients["gamma"], np.zeros(norm.parameter_shape))
    if eps == 0:
        assert_array_equal(gradients["x"], np.zeros(norm.shape))


@each("value", [1e200, -1.7e308, 1e-200])
@each("eps", [0.0, 1e-300, 1e-32, 1e-5, 1e300])
@parametrize(FIVE_CENTERED)
def test_a_constant_of_any_size_gives_beta_for_any_eps(norm, value, eps):
    arrays, _ = norm.draw()
    arrays["x"] = np.full(norm.shape, value)
    y, cache = norm.forward(arrays, eps=eps)
    assert_array_equal(y, arrays["beta"].ravel()[norm.entries])
    assert_array_equal(cache.mean, np.full(cache.mean.shape, value))
    assert_array_equal(cache.var, np.zeros(cache.var.shape))
