"""Mean-variance norm: eps outside the root, and a derivative at constant sets."""

from functools import partial

import numpy as np
import pytest
import torch
from each import each
from further import (
    assert_jacobians_agree,
    assert_layout_is_irrelevant,
    assert_rounded_once,
    assert_sets_do_not_see_each_other,
    draw,
)
from hypothesis import given
from hypothesis import strategies as st
from layouts import LAYOUTS
from measure import assert_close
from mpmath import mp, mpf
from numpy.testing import assert_allclose, assert_array_equal

from numpy_norms import mean_variance_norm_backward, mean_variance_norm_forward
from numpy_norms.oracle.double_double import Pair

EPS = 0.7
axes = each("axis", [(0, 2, 3), 1, (-1, 0), (0, 1, 2, 3)])


def torch_norm(x, dy, axis, eps):
    """Return y and dx of the definition, differentiated by PyTorch."""
    leaf = torch.tensor(x, requires_grad=True)
    var, mean = torch.var_mean(leaf, axis, correction=0, keepdim=True)
    y = (leaf - mean) / (var.sqrt() + eps)
    y.backward(torch.tensor(dy))
    return y.detach().numpy(), leaf.grad.numpy()


def exact(row, eps):
    """Normalize one set in 60 digits."""
    with mp.workdps(60):
        row = [mpf(float(v)) for v in row]
        mean = mp.fsum(row) / len(row)
        sigma = mp.sqrt(mp.fsum((v - mean) ** 2 for v in row) / len(row))
        return np.array([float((v - mean) / (sigma + mpf(eps))) for v in row])


def both(x, dy, **options):
    """Return y and dx."""
    y, cache = mean_variance_norm_forward(x, **options)
    return y, mean_variance_norm_backward(dy, cache)


@axes
def test_forward_and_backward_are_pytorch_s_derivative_of_the_definition(axis):
    x, dy = draw((3, 2, 5, 4))
    y, dx = both(x, dy, axis=axis, eps=EPS)
    expected_y, expected_dx = torch_norm(x, dy, axis, EPS)
    assert_close(y, expected_y, 1e-14)
    assert_close(dx, expected_dx, 1e-14)


@axes
def test_backward_is_the_complex_step(axis):
    x, _ = draw((2, 3, 1, 4))
    forward = partial(mean_variance_norm_forward, axis=axis, eps=EPS)
    assert_jacobians_agree(forward, mean_variance_norm_backward, x)


def test_eps_is_added_outside_the_root():
    # mean 2, sigma 1: 1 / (1 + 1) and not 1 / sqrt(1 + 1).
    y, dx = both(np.array([1.0, 3.0]), np.array([1.0, 0.0]), axis=0, eps=1.0)
    assert_array_equal(y, [-0.5, 0.5])
    assert_array_equal(dx, [0.125, -0.125])


@given(mean=st.sampled_from([0.0, 1.0, -1e4, 1e9]), std=st.sampled_from([1e-3, 1.0, 1e5]))
def test_float64_is_right_to_a_few_units_whatever_the_mean(mean, std):
    x = mean + std * np.random.default_rng(5).standard_normal(17)
    y, _ = mean_variance_norm_forward(x, axis=0, eps=0.3 * std)
    assert_close(y, exact(x, 0.3 * std), 1e-15)


@each("mean", [0.0, 1e2, 1e6])
def test_narrow_results_are_rounded_once(mean):
    x, dy = draw((5, 33), mean=mean, dtype=np.float32)
    y, dx = both(x, dy, axis=1)
    wide, wide_dx = both(x.astype(np.float64), dy.astype(np.float64), axis=1)
    assert y.dtype == dx.dtype == np.float32
    assert_rounded_once(y, np.array([exact(row, 1e-9) for row in x]))
    assert_rounded_once(y, wide)
    assert_rounded_once(dx, wide_dx)


@each("mean", [0.0, 1e3, 1e6])
def test_no_neighbour_in_float32_is_nearer_to_the_truth(mean):
    x = (mean + np.random.default_rng(2).standard_normal((200, 333))).astype(np.float32)
    xc = Pair.of(x) - Pair.of(x).mean()
    truth = xc / ((xc * xc).mean().root() + 1e-9)
    y, _ = mean_variance_norm_forward(x, axis=1)
    assert truth.is_nearest(y).mean() >= 0.99999


@each("value", [0.1, 1234.1, -1e300])
def test_a_constant_set_gives_zeros_and_a_finite_derivative(value):
    _, dy = draw((2, 7))
    y, dx = both(np.full((2, 7), value), dy, axis=1, eps=1e-3)
    assert_array_equal(y, np.zeros((2, 7)))
    assert_close(dx, (dy - dy.mean(axis=1, keepdims=True)) / 1e-3, 1e-15)


@each("dtype", [np.float32, np.float64, np.longdouble])
@each("eps", [0.0, 1e-300, 1e-9, 1e300])
@each("value", [1e308, -3.3e200, 0.1, 1e-320])
def test_a_constant_set_gives_zeros_whatever_its_size_and_eps(value, eps, dtype):
    value = np.clip(value, -np.finfo(dtype).max, np.finfo(dtype).max)
    y, dx = both(np.full((2, 7), value, dtype), draw((2, 7), dtype=dtype)[1], axis=1, eps=eps)
    assert_array_equal(y, np.zeros((2, 7)))
    assert not np.isnan(dx).any()


@each("axis", [0, 1, (0, 2, 3)])
def test_sets_that_are_worked_on_in_parts_are_the_definition(axis):
    shape = {0: (150_000, 3), 1: (2, 250_000), (0, 2, 3): (3, 2, 250, 350)}[axis]
    x, dy = draw(shape, mean=1e4)
    y, dx = both(x, dy, axis=axis, eps=EPS)
    mean = partial(np.mean, axis=axis, keepdims=True, dtype=np.longdouble)
    xc, dyc = x - mean(x), dy - mean(dy)
    xc -= mean(xc)  # what rounding took from the first mean
    sigma = np.sqrt(mean(xc * xc))
    expected_y = xc / (sigma + EPS)
    assert_close(y, expected_y, 1e-15)
    assert_close(dx, (dyc - xc / sigma * mean(dy * expected_y)) / (sigma + EPS), 1e-15)


def test_the_derivative_at_a_constant_set_is_the_limit_of_differences():
    x, (_, dy) = np.full(5, 3.0), draw(5)
    y, dx = both(x, dy, axis=0, eps=EPS)
    t = np.random.default_rng(1).standard_normal(5)
    moved, _ = mean_variance_norm_forward(x + 1e-9 * t, axis=0, eps=EPS)
    assert abs((dy @ (moved - y)) / 1e-9 - dx @ t) < 1e-6


@given(exponent=st.integers(-900, 900))
def test_scaling_x_and_eps_by_a_power_of_two_changes_nothing_at_any_scale(exponent):
    x, dy = draw((3, 5))
    y, dx = both(x, dy, axis=1, eps=EPS)
    far, far_dx = both(np.ldexp(x, exponent), dy, axis=1, eps=np.ldexp(EPS, exponent))
    assert_allclose(far, y, rtol=1e-14)
    assert_close(far_dx, np.ldexp(dx, -exponent), 1e-14)


def test_dx_sums_to_zero_and_is_orthogonal_to_x_but_for_eps():
    x, dy = draw((3, 5))
    y, dx = both(x, dy, axis=1, eps=EPS)
    sigma = x.std(axis=1)
    assert_allclose(dx.sum(axis=1), 0, atol=1e-15)
    # Euler: y is homogeneous of degree 0 in (x, eps), and dy/deps = -y / (sigma + eps).
    assert_allclose((dx * x).sum(axis=1), EPS * (dy * y).sum(axis=1) / (sigma + EPS), rtol=1e-12)


def test_nan_stays_within_its_set():
    x, dy = draw((3, 5))
    x[1, 2] = np.nan
    y, dx = both(x, dy, axis=1)
    for a in (y, dx):
        assert_array_equal(np.isnan(a).any(axis=1), [False, True, False])


def test_a_sample_alone_has_the_bits_that_it_has_in_a_large_batch():
    x, dy = draw((70, 31, 29), dtype=np.float32)
    x[-1, 0, 0] = np.inf
    forward = partial(mean_variance_norm_forward, axis=(1, 2))
    assert_sets_do_not_see_each_other(forward, mean_variance_norm_backward, x, dy)


@each("layout", LAYOUTS)
def test_memory_layout_is_irrelevant(layout):
    x, dy = draw((2, 5, 3, 4))
    assert_layout_is_irrelevant(
        mean_variance_norm_forward, mean_variance_norm_backward, x, dy, layout
    )


def test_empty_sets_and_no_sets_give_empty_arrays():
    for shape in [(0, 5), (3, 0)]:
        y, dx = both(np.empty(shape), np.empty(shape), axis=1)
        assert y.shape == dx.shape == shape


@each(
    ("option", "message"),
    [
        ({"eps": -1.0}, "eps is -1.0"),
        ({"axis": (0, 2, 3)}, "axis is 2"),
        ({"axis": (1, -1)}, "names an axis twice"),
    ],
)
def test_a_wrong_option_is_named(option, message):
    with pytest.raises(ValueError, match=message):
        mean_variance_norm_forward(np.ones((2, 5)), **{"axis": 1, **option})


def test_wrong_arrays_are_named():
    with pytest.raises(TypeError, match="x has dtype int64"):
        mean_variance_norm_forward(np.ones((2, 5), int), axis=1)
    y, cache = mean_variance_norm_forward(np.ones((2, 5)), axis=1)
    with pytest.raises(TypeError, match="cache is a ndarray, but the cache of mean_variance_norm"):
        mean_variance_norm_backward(cache, y)


@given(
    value=st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.just(65504.0)),
    eps=st.one_of(st.floats(0, 1e300), st.sampled_from([0.0, 5e-324, 1e-300, 1e-46, 1e-32, 1e-9])),
    dtype=st.sampled_from([np.float16, np.float32, np.float64, np.longdouble]),
    work=st.sampled_from([None, np.float32, np.float64, np.longdouble]),
    size=st.sampled_from([1, 3, 700]),
)
def test_a_constant_of_any_size_gives_zeros_for_any_eps(value, eps, dtype, work, size):
    largest = float(min(np.finfo(dtype).max, np.finfo(work or np.float64).max))
    x = np.full((2, size), min(max(value, -largest), largest), dtype)
    y, _ = mean_variance_norm_forward(x, axis=1, eps=eps, dtype=work)
    assert_array_equal(y, np.zeros_like(x))


@each("exponent", range(-40, -18))
def test_squares_that_vanish_beside_eps_leave_y_finite(exponent):
    x, dy = draw((2, 3, 4, 4), mean=0, dtype=np.float32)
    x *= np.float32(10.0**exponent)
    y, dx = both(x, dy, axis=(0, 2, 3), dtype=np.float32)
    wide_y, wide_dx = both(x, dy, axis=(0, 2, 3))
    assert_allclose(y, wide_y, rtol=1e-5, atol=1e-5 * np.abs(wide_y).max())
    assert_allclose(dx, wide_dx, rtol=1e-5, atol=1e-5 * np.abs(wide_dx).max())
