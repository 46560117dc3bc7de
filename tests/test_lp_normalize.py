"""L_p normalization: every p, the divisor eps, and the gradient at zero."""

from functools import partial

import numpy as np
import pytest
import torch
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
from numpy.testing import assert_allclose, assert_array_equal

from numpy_norms import lp_normalize_backward, lp_normalize_forward

EVERY_P = [2, 1, 3, 4.5, 1.5, 0.5, 0.0, -1.0, -2.5, np.inf, -np.inf]
every_p = pytest.mark.parametrize("p", EVERY_P)


def torch_normalize(x, dy, **options):
    """Return PyTorch's y and dx."""
    leaf = torch.tensor(x, requires_grad=True)
    y = torch.nn.functional.normalize(leaf, **options)
    y.backward(torch.tensor(dy))
    return y.detach().numpy(), leaf.grad.numpy()


def both(x, dy, **options):
    """Return our y and dx."""
    y, cache = lp_normalize_forward(x, **options)
    return y, lp_normalize_backward(dy, cache)


@every_p
@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2)])
def test_every_p_and_axis_is_pytorch(p, axis):
    x, dy = draw((3, 5, 4))
    y, dx = both(x, dy, p=p, axis=axis)
    expected_y, expected_dx = torch_normalize(x, dy, p=p, dim=axis)
    assert_close(y, expected_y, 1e-14)
    assert_close(dx, expected_dx, 1e-14)


@every_p
@pytest.mark.parametrize("eps", [1e-12, 0.3])
def test_zeros_and_ties_have_the_gradient_of_pytorch(p, eps):
    x = np.array([[0.0, -2.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0], [-1.0, 1.0, 3.0, 1.0]])
    _, dy = draw(x.shape)
    y, dx = both(x, dy, p=p, eps=eps)
    expected_y, expected_dx = torch_normalize(x, dy, p=p, dim=-1, eps=eps)
    assert_close(y, expected_y, 1e-14)
    assert_close(dx, expected_dx, 1e-14)


@every_p
def test_backward_is_the_complex_step(p):
    x, _ = draw((2, 4, 3), mean=0.5)
    forward = partial(lp_normalize_forward, p=p, axis=1)
    assert_jacobians_agree(forward, lp_normalize_backward, x)


def test_hand_computed():
    # n = 5, y = 3/5, -4/5; u = y; dx = (dy - y <dy, y>) / n = (1 - 9/25, 12/25) / 5.
    y, dx = both(np.array([3.0, -4.0]), np.array([1.0, 0.0]))
    assert_allclose(y, [0.6, -0.8], rtol=1e-15)
    assert_allclose(dx, [0.128, 0.096], rtol=1e-15)


def test_l1_takes_absolute_values():
    y, _ = lp_normalize_forward(np.array([-3.0, 4.0, 1.0]), p=1)
    assert_array_equal(y, [-0.375, 0.5, 0.125])


@pytest.mark.parametrize("p", [p for p in EVERY_P if p != 0])
def test_the_norm_of_the_result_is_one_and_the_gradient_lies_along_the_sphere(p):
    x, dy = draw((3, 7))
    y, dx = both(x, dy, p=p)
    for row in y:
        assert abs(np.linalg.norm(row, p) - 1) < 1e-13
    assert np.abs((dx * x).sum(axis=1)).max() < 1e-13


@every_p
def test_a_set_below_eps_is_divided_by_eps(p):
    x, dy = draw((2, 5))
    y, dx = both(x, dy, p=p, eps=1e6)
    assert_close(y, x / 1e6, 1e-15)
    assert_close(dx, dy / 1e6, 1e-15)


@pytest.mark.parametrize("p", [1, 2, np.inf])
def test_a_set_of_zeros_without_eps_gives_zeros_and_has_gradient_zero(p):
    y, dx = both(np.zeros((2, 3)), np.ones((2, 3)), p=p, eps=0.0)
    assert_array_equal(y, np.zeros((2, 3)))
    assert_array_equal(dx, np.zeros((2, 3)))


@given(exponent=st.integers(-1000, 1000), p=st.sampled_from([p for p in EVERY_P if p != 0]))
def test_a_power_of_two_changes_no_bit_at_any_scale(exponent, p):
    x, dy = draw((3, 5))
    y, dx = both(x, dy, p=p, eps=0.0)
    far, far_dx = both(np.ldexp(x, exponent), dy, p=p, eps=0.0)
    assert_array_equal(far, y)
    assert_array_equal(far_dx, np.ldexp(dx, -exponent))


@pytest.mark.parametrize("p", [1, 2, 3])
def test_sums_beyond_the_largest_number_are_exact(p):
    largest = np.finfo(np.float64).max
    y, _ = lp_normalize_forward(np.full(4, -largest), p=p)
    assert_allclose(y, np.full(4, -(4 ** (-1 / p))), rtol=1e-15)


@every_p
def test_narrow_results_are_rounded_once(p):
    x, dy = draw((5, 9), dtype=np.float32)
    y, dx = both(x, dy, p=p)
    wide, wide_dx = both(x.astype(np.float64), dy.astype(np.float64), p=p)
    assert y.dtype == dx.dtype == np.float32
    assert_rounded_once(y, wide)
    assert_rounded_once(dx, wide_dx)


@every_p
def test_nan_stays_within_its_set(p):
    x, dy = draw((3, 5))
    x[1, 2] = np.nan
    y, dx = both(x, dy, p=p)
    assert np.isnan(y[1, 2])
    assert np.isfinite(y[[0, 2]]).all()
    assert np.isfinite(dx[[0, 2]]).all()


def test_a_sample_alone_has_the_bits_that_it_has_in_a_large_batch():
    x, dy = draw((70, 31, 29), dtype=np.float32)
    x[-1, 0, 0] = np.inf
    forward = partial(lp_normalize_forward, p=3)
    assert_sets_do_not_see_each_other(forward, lp_normalize_backward, x, dy)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layout_is_irrelevant(layout):
    x, dy = draw((2, 5, 3))
    forward = partial(lp_normalize_forward, p=3, axis=1)
    assert_layout_is_irrelevant(forward, lp_normalize_backward, x, dy, layout)


@every_p
def test_empty_sets_and_no_sets_give_empty_arrays(p):
    for shape in [(0, 5), (3, 0)]:
        y, dx = both(np.empty(shape), np.empty(shape), p=p)
        assert y.shape == dx.shape == shape


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"p": np.nan}, "p is nan; pass a real number"),
        ({"eps": -1.0}, "eps is -1.0"),
        ({"axis": 2}, "axis is 2"),
        ({"axis": (0, 0)}, "names an axis twice"),
    ],
)
def test_a_wrong_option_is_named(option, message):
    with pytest.raises(ValueError, match=message):
        lp_normalize_forward(np.ones((2, 5)), **option)


def test_wrong_arrays_are_named():
    with pytest.raises(TypeError, match="x has dtype int64"):
        lp_normalize_forward(np.ones((2, 5), int))
    _, cache = lp_normalize_forward(np.ones((2, 5)))
    with pytest.raises(ValueError, match=r"dy has shape \(5,\), but y has \(2, 5\)"):
        lp_normalize_backward(np.ones(5), cache)
