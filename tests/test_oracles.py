"""The oracles against the definition in 60 digits, differentiated by differences."""

import longhand
import mpmath
import numpy as np
import pytest
from cases import FIVE, parametrize
from extended import Extended, Reference, is_nearest
from hypothesis import given
from hypothesis import strategies as st

EPS = 0.25


def definition(norm, x, gamma, beta):
    """Return y as a dict of numbers of any precision."""
    y = {}
    for i in x:
        same = [x[k] for k in x if norm.set_of(k) == norm.set_of(i)]
        mean = mpmath.fsum(same) / len(same) if norm.centered else mpmath.mpf(0)
        var = mpmath.fsum((value - mean) ** 2 for value in same) / len(same)
        p = norm.parameter_of(i)
        y[i] = gamma[p] * (x[i] - mean) / mpmath.sqrt(var + EPS) + beta[p]
    return y


def exact(array):
    """Index the entries of ``array``, as they are, in 60 digits."""
    return {i: mpmath.mpf(float(array[i])) for i in np.ndindex(array.shape)}


def slope(norm, dy, inputs, name, at):
    """Differentiate sum(dy * y) with respect to one entry of one input."""
    step, losses = mpmath.mpf(10) ** -20, []
    for sign in (1, -1):
        moved = {**inputs, name: {**inputs[name], at: inputs[name][at] + sign * step}}
        y = definition(norm, **moved)
        losses.append(mpmath.fsum(dy[i] * y[i] for i in y))
    return (losses[0] - losses[1]) / (2 * step)


def options_of(norm):
    """Describe ``norm`` to `longhand`."""
    sets = {"set_of": norm.set_of, "parameter_of": norm.parameter_of}
    return {**sets, "eps": EPS, "centered": norm.centered}


@pytest.fixture(params=FIVE, ids=str)
def problem(request):
    norm = request.param
    arrays, dy = norm.draw(mean=300.0)
    arrays = {"beta": np.zeros(norm.parameter_shape), **arrays}
    with mpmath.workdps(60):
        yield norm, arrays, dy, {name: exact(a) for name, a in arrays.items()}


def test_both_oracles_give_y_by_definition(problem):
    norm, arrays, _, inputs = problem
    expected = definition(norm, **inputs)
    loops = longhand.forward(**arrays, **options_of(norm))
    y, scale = Reference(norm, **arrays, eps=EPS).y()
    for i in expected:
        assert abs(loops[i] - expected[i]) < 1e-12 * scale[i]
        assert abs(mpmath.mpf(y.hi[i]) + mpmath.mpf(y.lo[i]) - expected[i]) < 1e-27 * scale[i]


def test_both_oracles_give_the_slopes_of_the_definition(problem, rng):
    norm, arrays, dy, inputs = problem
    loops = longhand.backward(dy, **arrays, **options_of(norm))
    reference = Reference(norm, **arrays, eps=EPS)
    sums = [reference.dx(dy), reference.dgamma(dy), reference.dbeta(dy)]
    for name, loop, (total, scale) in zip(("x", "gamma", "beta"), loops, sums, strict=True):
        places = list(inputs[name])
        for at in [places[0], places[-1], places[int(rng.integers(len(places)))]]:
            expected = slope(norm, exact(dy), inputs, name, at)
            assert abs(loop[at] - expected) < 1e-12 * scale[at]
            whole = mpmath.mpf(total.hi[at]) + mpmath.mpf(total.lo[at])
            assert abs(whole - expected) < 1e-27 * scale[at]


@given(st.lists(st.tuples(st.floats(-1, 1), st.integers(-60, 60)), min_size=1, max_size=20))
def test_extended_sums_are_exact_to_30_digits(terms):
    values = np.array([m * 2.0**e for m, e in terms])
    total = Extended(values).sum()
    with mpmath.workdps(80):
        expected = mpmath.fsum(mpmath.mpf(v) for v in values)
        got = mpmath.mpf(total.hi[0]) + mpmath.mpf(total.lo[0])
        assert abs(got - expected) <= 1e-29 * np.abs(values).sum()


@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9))
def test_extended_quotients_and_roots_are_exact_to_29_digits(a, b):
    third = Extended(a) / b / 3.0
    root = third.sqrt()
    with mpmath.workdps(80):
        quotient = mpmath.mpf(a) / mpmath.mpf(b) / 3
        for got, expected in ((third, quotient), (root, mpmath.sqrt(quotient))):
            value = mpmath.mpf(float(got.hi)) + mpmath.mpf(float(got.lo))
            assert abs(value - expected) <= 1e-29 * expected


def test_the_nearest_number_is_told_from_its_neighbours():
    exact_value = Extended(np.full(3, 1 / 3), np.full(3, 1e-20))
    nearest = np.float32(1 / 3)
    up, down = np.nextafter(nearest, np.float32(1)), np.nextafter(nearest, np.float32(0))
    assert is_nearest(np.array([down, nearest, up]), exact_value).tolist() == [False, True, False]


def test_a_tie_is_broken_by_the_low_part():
    midpoint = 1 + 2.0**-24
    above = Extended(np.array([midpoint]), np.array([1e-20]))
    assert not is_nearest(np.array([1.0], dtype=np.float32), above)[0]
    assert is_nearest(np.nextafter(np.ones(1, np.float32), np.float32(2)), above)[0]


@parametrize(FIVE)
def test_the_test_shapes_have_distinct_sizes(norm):
    assert len(set(norm.shape)) == len(norm.shape)
    assert norm.set_size > 2
