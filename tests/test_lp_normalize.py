"""L_p normalization: every p, the divisor eps, and the gradient at zero."""

from fractions import Fraction
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

from numpy_norms import lp_normalize_backward, lp_normalize_forward

EVERY_P = [2, 1, 3, 4.5, 1.5, 0.5, 0.0, -1.0, -2.5, np.inf, -np.inf]
every_p = each("p", EVERY_P)


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
@each("axis", [0, 1, -1, (0, 2)])
def test_every_p_and_axis_is_pytorch(p, axis):
    x, dy = draw((3, 5, 4))
    y, dx = both(x, dy, p=p, axis=axis)
    expected_y, expected_dx = torch_normalize(x, dy, p=p, dim=axis)
    assert_close(y, expected_y, 1e-14)
    assert_close(dx, expected_dx, 1e-14)


@every_p
@each("eps", [1e-12, 0.3])
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


@each("p", [p for p in EVERY_P if p != 0])
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


@each("p", [1, 2, np.inf])
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
    if 0 < p < 1:  # where roots of powers of two are taken
        assert_close(np.ldexp(far_dx, exponent), dx, 1e-15)
    else:
        assert_array_equal(far_dx, np.ldexp(dx, -exponent))


def exact(x, dy, p, eps, eps_place="max"):
    """Return y and dx of one set, by the definition in 400 digits, and the size of dx's terms."""
    with mp.workdps(400):
        x, dy, p, eps = [mpf(v) for v in x], [mpf(v) for v in dy], mpf(p), mpf(eps)
        none = not any(x) or (p < 0 and not all(x))
        powers = mpf(0) if none else mp.fsum(abs(v) ** p for v in x if v)
        norm = powers if none else powers ** (1 / p)
        n = {
            "max": max(norm, eps),
            "outside": norm + eps,
            "inside": mpf(0) if none and p < 0 else (powers + eps) ** (1 / p),
        }[eps_place]
        if not n:
            return [[mpf(0)] * len(x)] * 3
        y = [v / n for v in x]
        if norm < eps and eps_place == "max":
            dx = [d / eps for d in dy]
            return y, dx, [abs(d) for d in dx]
        root = n if eps_place == "inside" else norm
        slope = [mp.sign(v) * (abs(v) / root) ** (p - 1) if v else mpf(0) for v in x]
        products = [d * v for d, v in zip(dy, y, strict=True)]
        along_y, largest = mp.fsum(products), mp.fsum(map(abs, products))
        dx = [(d - u * along_y) / n for d, u in zip(dy, slope, strict=True)]
        return y, dx, [(abs(d) + abs(u) * largest) / n for d, u in zip(dy, slope, strict=True)]


powers = st.one_of(st.floats(0.3, 1e3), st.floats(-1e3, -0.3), st.sampled_from([1.0, 2.0]))
entries = st.one_of(st.integers(-3, 3), st.floats(0.1, 4), st.sampled_from([1e-200, -1e100, 1e150]))
rows = st.lists(entries, min_size=2, max_size=6)


places = st.sampled_from(["max", "outside", "inside"])
epsilons = st.sampled_from([1e-100, 1e-12, 0.3, 1e50])


@given(p=powers, row=rows, seed=st.integers(0, 99), place=places, eps=epsilons)
def test_any_power_of_any_elements_is_the_definition(p, row, seed, place, eps):
    x, dy = np.array(row, float), np.random.default_rng(seed).standard_normal(len(row))
    y, dx = both(x, dy, p=p, eps=eps, eps_place=place)
    expected_y, expected_dx, terms = (np.array(a, float) for a in exact(x, dy, p, eps, place))
    units = 8 + 8 / abs(p)
    assert_allclose(y, expected_y, rtol=units * 2.0**-53, atol=1e-300)
    # A power of a rounded ratio is off by p units, and p - 1 may be rounded itself.
    span = np.abs(np.log(np.abs(x[x != 0]))).max(initial=1) * 2
    units += abs(p) + span * float(abs(Fraction(p) - 1 - Fraction(p - 1))) * 2.0**53
    beyond = np.isinf(expected_dx)
    assert_array_equal(dx[beyond], expected_dx[beyond])
    within = np.abs(dx - expected_dx, where=~beyond, out=np.zeros_like(dx))
    assert (within <= units * 2.0**-53 * terms + 1e-300).all()


@each("place", ["max", "outside", "inside"])
@each("p", [2, 3, 1, 0.5, 0.05, -1.5])
@each("eps", [1e-12, 0.5])
@each("scale", [1e-320, 1e-200, 1e-155, 1e-6, 1.0, 1e200])
def test_eps_in_every_place_is_the_definition_at_every_scale(scale, eps, p, place):
    x, dy = scale * np.array([[1.5, -2.0, 0.7]]), np.array([[0.3, -1.1, 0.8]])
    y, dx = both(x, dy, p=p, eps=eps, eps_place=place)
    expected_y, expected_dx, terms = (np.array(a, float) for a in exact(x[0], dy[0], p, eps, place))
    units = (8 + 8 / abs(p) + abs(p)) * 2.0**-52
    within = np.isfinite(expected_dx)
    assert_allclose(y[0], expected_y, rtol=units, atol=1e-300)
    assert_array_equal(dx[0][~within], expected_dx[~within])
    error = np.abs(dx[0][within] - expected_dx[within])
    assert (error <= units * terms[within] + 1e-300).all()


@each("place", ["outside", "inside"])
@each("p", [2, 3, 1, 0.5])
def test_eps_places_differ_by_what_the_formula_says_at_zero_and_far_from_it(p, place):
    x, (_, dy) = np.array([[0.0, 0.0, 0.0], [3e9, -4e9, 1e9]]), draw((2, 3))
    y, dx = both(x, dy, p=p, eps=1e-12, eps_place=place)
    plain, plain_dx = both(x, dy, p=p, eps=0.0)
    smallest = 1e-12 if place == "outside" else 1e-12 ** (1 / p)
    with np.errstate(over="ignore", divide="ignore"):
        assert_allclose(dx[0], dy[0] / smallest, rtol=1e-14)
    assert not y[0].any()
    assert_allclose(y[1], plain[1], rtol=1e-13)
    assert_close(dx[1], plain_dx[1], 1e-13)


@every_p
@each("place", ["outside", "inside"])
def test_without_eps_its_place_makes_no_difference(p, place):
    x, dy = draw((3, 7))
    x[1] = 0
    if place == "inside" and p in (0, np.inf, -np.inf):
        return
    for got, expected in zip(
        both(x, dy, p=p, eps=0.0, eps_place=place), both(x, dy, p=p, eps=0.0), strict=True
    ):
        assert_close(got, expected, 1e-15)


@given(exponent=st.integers(-900, 900), p=st.sampled_from([1, 2, 3]))
def test_eps_inside_scales_as_the_powers_do_and_outside_as_x(exponent, p):
    x, dy = draw((3, 5))
    for place, power in (("outside", 1), ("inside", p)):
        if abs(exponent * power) > 900:
            continue
        y, dx = both(x, dy, p=p, eps=0.5, eps_place=place)
        eps = np.ldexp(0.5, power * exponent)
        far, far_dx = both(np.ldexp(x, exponent), dy, p=p, eps=eps, eps_place=place)
        assert_allclose(far, y, rtol=1e-14)
        assert_close(np.ldexp(far_dx, exponent), dx, 1e-14)


@each(
    ("row", "p", "expected"),
    [
        ([1.99, 1.0], 1040, [1.0, 1 / 1.99]),
        ([1.99, 1.0], -1040, [1.99, 1.0]),
        ([1.99, -1.0], 1e308, [1.0, -1 / 1.99]),
        ([1.99, -1.0], -1e308, [1.99, -1.0]),
        ([1e308, 1e308], 3, [2 ** (-1 / 3)] * 2),
    ],
)
def test_no_power_of_a_ratio_leaves_the_range(row, p, expected):
    y, _ = lp_normalize_forward(np.array(row), p=p)
    assert_allclose(y, expected, rtol=1e-15)


@each("p", [-1e-3, -1e-300])
def test_a_norm_too_small_to_be_a_number_gives_infinity_or_eps_counts(p):
    """It is 2 to the 1/p times about 1, and no set of zeros."""
    x, dy = np.array([-2.0, 3.0]) * 1e-10, np.ones(2)
    assert_array_equal(both(x, dy, p=p / 100, eps=0.0)[0], [-np.inf, np.inf])
    y, dx = both(x, dy, p=p / 100, eps=0.5)
    assert_array_equal(y, x / 0.5)
    assert_array_equal(dx, dy / 0.5)


@every_p
@each("row", [[1.0, 0.0, -0.0], [np.inf, 1.0, -2.0], [np.nan, 1.0], [0.0, np.inf]])
def test_sets_whose_norm_is_zero_or_infinite_or_nan_are_pytorch_s(row, p):
    x, dy = np.array(row), np.arange(1.0, len(row) + 1)
    for got, expected in zip(both(x, dy, p=p), torch_normalize(x, dy, p=p, dim=0), strict=True):
        assert_allclose(got, expected, rtol=1e-14)


@each("p", [3, 2.5, 0.7, -1.5])
def test_longdouble_is_exact_to_its_own_units(p):
    x, dy = (a.astype(np.longdouble) / 3 for a in draw(7))
    y, dx = both(x, dy, p=p)
    with mp.workdps(60):
        sums = [[mpf(float(v)) + mpf(float(v - float(v))) for v in a] for a in (x, dy)]
        expected = [[np.longdouble(mp.nstr(v, 40)) for v in a] for a in exact(*sums, p, 0)[:2]]
    for got, e in zip((y, dx), expected, strict=True):
        assert_close(got, e, 8 * np.finfo(np.longdouble).eps)


@each("p", [2, 0.5, -2.5, 0, np.inf])
@each("shape", [(2, 410_000), (300_000, 3)])
def test_a_set_that_is_worked_on_in_parts_is_the_same(shape, p):
    x, dy = draw(shape)
    axis = int(np.argmax(shape))
    results = both(x, dy, p=p, axis=axis)
    for got, expected in zip(results, torch_normalize(x, dy, p=p, dim=axis), strict=True):
        assert_close(got, expected, 1e-13)


@each("p", [1, 2, 3])
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


@each("layout", LAYOUTS)
def test_memory_layout_is_irrelevant(layout):
    x, dy = draw((2, 5, 3))
    forward = partial(lp_normalize_forward, p=3, axis=1)
    assert_layout_is_irrelevant(forward, lp_normalize_backward, x, dy, layout)


@every_p
def test_empty_sets_and_no_sets_give_empty_arrays(p):
    for shape in [(0, 5), (3, 0)]:
        y, dx = both(np.empty(shape), np.empty(shape), p=p)
        assert y.shape == dx.shape == shape


@each(
    ("option", "message"),
    [
        ({"p": np.nan}, "p is nan; pass a real number"),
        ({"eps": -1.0}, "eps is -1.0"),
        ({"eps_place": "under"}, "eps_place is 'under'; pass 'max'"),
        ({"eps_place": "inside", "p": np.inf}, "p is inf, .*pass eps_place='outside'"),
        ({"eps_place": "inside", "p": 0}, r"p is 0\.0, .*pass eps_place='outside'"),
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
