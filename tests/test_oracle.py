"""The oracles against fractions, the definition in 80 digits, and its differences."""

from fractions import Fraction

import longhand
import mpmath
import numpy as np
import pytest
from cases import (
    FIVE,
    INFERENCE,
    NORMS,
    SIX,
    batch_norm,
    batch_norm_inference,
    group_norm,
    instance_norm,
    layer_norm,
    parametrize,
    rms_norm,
)

from numpy_norms.oracle.double_double import Pair, two_product, two_sum

EPS = 0.3
SMALL = [
    batch_norm((2, 4, 3)),
    batch_norm_inference((2, 3, 4), channel_axis=-1),
    layer_norm((2, 3, 4), axis=(-1, 0)),
    group_norm((4, 2, 3), 2, channel_axis=0),
    instance_norm((2, 4, 3), channel_axis=-1),
    rms_norm((4, 2, 3)),
]


def fractions(pair):
    halves = zip(pair.hi.ravel().tolist(), pair.lo.ravel().tolist(), strict=True)
    return [Fraction(hi) + Fraction(lo) for hi, lo in halves]


def draw_pairs(seed, shape=(3, 7)):
    rng = np.random.default_rng(seed)
    scale = 2.0 ** rng.integers(-60, 60, shape)
    return Pair(*two_product(rng.standard_normal(shape), scale * rng.standard_normal(shape)))


@pytest.mark.parametrize("exact", [two_sum, two_product])
def test_error_free_transformations_lose_nothing(exact):
    a, b = draw_pairs(0).hi, draw_pairs(1).hi
    operation = Fraction.__add__ if exact is two_sum else Fraction.__mul__
    inputs = zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)
    expected = [operation(Fraction(p), Fraction(q)) for p, q in inputs]
    assert fractions(Pair(*exact(a, b))) == expected


@pytest.mark.parametrize(
    ("compute", "expect", "size"),
    [
        (Pair.__add__, Fraction.__add__, max),
        (Pair.__sub__, Fraction.__sub__, max),
        (Pair.__mul__, Fraction.__mul__, Fraction.__mul__),
        (Pair.__truediv__, Fraction.__truediv__, Fraction.__truediv__),
    ],
)
def test_one_operation_on_pairs_is_right_to_100_bits(compute, expect, size):
    a, b = draw_pairs(2), draw_pairs(3)
    triples = zip(fractions(compute(a, b)), fractions(a), fractions(b), strict=True)
    for got, p, q in triples:
        assert abs(got - expect(p, q)) <= size(abs(p), abs(q)) / 2**100


def test_the_root_of_a_pair_is_right_to_100_bits():
    square = draw_pairs(4) * draw_pairs(4)
    for root, number in zip(fractions(square.root()), fractions(square), strict=True):
        assert abs(root * root / number - 1) < Fraction(1, 2**100)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1001])
def test_the_sum_of_pairs_is_right_to_97_bits_of_its_terms(n):
    pairs = draw_pairs(5, (1, n))
    terms = fractions(pairs)
    (total,) = fractions(pairs.sum())
    assert abs(total - sum(terms)) <= sum(map(abs, terms)) / 2**97


def test_the_nearest_number_is_told_from_its_neighbours():
    exact = Pair(np.full(3, 1 / 3), np.full(3, 1e-20))
    nearest = np.float32(1 / 3)
    up, down = np.nextafter(nearest, np.float32(1)), np.nextafter(nearest, np.float32(0))
    assert exact.is_nearest(np.array([down, nearest, up])).tolist() == [False, True, False]


def test_a_tie_is_broken_by_the_low_part():
    above = Pair(np.array([1 + 2.0**-24]), np.array([1e-20]))
    assert not above.is_nearest(np.array([1.0], dtype=np.float32))[0]
    assert above.is_nearest(np.nextafter(np.ones(1, np.float32), np.float32(2)))[0]


def test_half_an_ulp_is_correctly_rounded():
    norm = layer_norm((5, 7))
    exact, _ = norm.exact(*norm.draw())
    nearest = exact.value.hi.astype(np.float32)
    assert 0.3 < exact.ulps(nearest) <= 0.5
    assert 0.5 < exact.ulps(np.nextafter(nearest, np.float32(np.inf))) <= 1.5
    assert np.isnan(exact.ulps(nearest * np.float32(np.nan)))


@parametrize([*NORMS, INFERENCE])
def test_numbers_are_those_of_the_keys_of_the_definition_in_their_order(norm):
    rules, places = longhand.rules(norm), list(np.ndindex(norm.shape))
    keys = [rules["set_of"](i) for i in places]
    assert norm.sets.ravel().tolist() == [sorted(set(keys)).index(key) for key in keys]
    indices = tuple(zip(*map(rules["parameter_of"], places), strict=True))
    expected = np.ravel_multi_index(indices, norm.parameter_shape)
    np.testing.assert_array_equal(norm.entries.ravel(), expected)


@parametrize([*NORMS, INFERENCE])
def test_rows_hold_the_positions_of_one_number_each(norm):
    numbers, parameters, *_ = share = norm.sharing
    for of, rows in ((numbers, share.set_rows), (parameters, share.parameter_rows)):
        expected = [np.flatnonzero(of == number) for number in range(len(rows))]
        np.testing.assert_array_equal(rows, expected)


def precise(array):
    """Return the numbers as they are, for arithmetic of any precision."""
    return np.vectorize(mpmath.mpf, otypes=[object])(array)


def output(norm, arrays):
    """Return y by definition, from arrays of mpmath numbers, one position at a time."""
    set_of, parameter_of, centered = longhand.rules(norm).values()
    y = np.empty(norm.shape, dtype=object)
    for i in np.ndindex(norm.shape):
        members = [arrays["x"][k] for k in longhand.members(i, norm.shape, set_of)]
        mean = mpmath.fsum(members) / len(members) if centered else 0
        var = mpmath.fsum((x - mean) ** 2 for x in members) / len(members)
        p = parameter_of(i)
        if "running_var" in arrays:
            mean, var = arrays["running_mean"][p], arrays["running_var"][p]
        x_hat = (arrays["x"][i] - mean) / mpmath.sqrt(var + mpmath.mpf(EPS))
        y[i] = arrays["gamma"][p] * x_hat + (arrays["beta"][p] if "beta" in arrays else 0)
    return y


def slope(norm, arrays, dy, name, index):
    """Differentiate sum(dy * y) by one element, by a difference with 20 digits to spare."""
    step, ends = mpmath.mpf(10) ** -20, []
    for sign in (1, -1):
        moved = arrays | {name: arrays[name].copy()}
        moved[name][index] += sign * step
        ends.append((output(norm, moved) * dy).sum())
    return (ends[0] - ends[1]) / (2 * step)


@pytest.mark.parametrize("mean", [0.0, 1e6])
@parametrize(SMALL)
def test_the_exact_results_have_30_digits_of_the_definition(norm, mean):
    arrays, dy = norm.draw(mean=mean, std=1.0)
    if "running_mean" in arrays:
        arrays["running_mean"] += mean
    y, gradients = norm.exact(arrays, dy, eps=EPS)
    with mpmath.workdps(80):
        inputs = {name: precise(array) for name, array in arrays.items()}
        pairs = [(y, output(norm, inputs))]
        for name, exact in gradients.items():
            slopes = [slope(norm, inputs, dy, name, i) for i in np.ndindex(exact.scale.shape)]
            pairs.append((exact, np.array(slopes, dtype=object).reshape(exact.scale.shape)))
        for exact, expected in pairs:
            error = abs(expected - (precise(exact.value.hi) + precise(exact.value.lo)))
            assert (error <= exact.scale * max(1.0, mean) * 1e-30).all()


@parametrize(FIVE)
def test_loops_over_the_definition_have_12_digits_of_the_exact_results(norm):
    arrays, dy = norm.draw(mean=300.0)
    y, gradients = norm.exact(arrays, dy, eps=EPS)
    rules = longhand.rules(norm) | {"eps": EPS}
    got = longhand.forward(**arrays, **rules), *longhand.backward(dy, **arrays, **rules)
    for exact, loop in zip((y, *gradients.values()), got, strict=norm.centered):
        assert (exact.value.error(loop) <= 1e-12 * exact.scale).all()


@parametrize(SIX)
def test_absent_parameters_are_one_and_zero(norm):
    arrays, dy = norm.draw()
    given = {name: a for name, a in arrays.items() if name not in ("gamma", "beta")}
    ones = {"gamma": np.ones(norm.parameter_shape), "beta": np.zeros(norm.parameter_shape)}
    y, gradients = norm.exact(given, dy)
    same, same_gradients = norm.exact(given | ones, dy)
    assert gradients.keys() == given.keys()
    np.testing.assert_array_equal(y.value.lo, same.value.lo)
    np.testing.assert_array_equal(gradients["x"].value.lo, same_gradients["x"].value.lo)


@pytest.mark.parametrize("exponent", [-400, 400])
@parametrize(FIVE)
def test_the_scale_of_x_changes_no_digit_where_eps_follows_it(norm, exponent):
    arrays, dy = norm.draw()
    y, gradients = norm.exact(arrays, dy, eps=EPS)
    far = arrays | {"x": np.ldexp(arrays["x"], exponent)}
    same, others = norm.exact(far, dy, eps=np.ldexp(EPS, 2 * exponent))
    assert_same_digits(same, y, 0)
    assert_same_digits(others["x"], gradients["x"], exponent)
    assert_same_digits(others["gamma"], gradients["gamma"], 0)


@parametrize([layer_norm((3, 7)), rms_norm((3, 7))])
def test_rows_of_any_magnitude_keep_their_digits_side_by_side(norm):
    arrays, dy = norm.draw()
    exponent = np.array([[-900], [900], [3]])
    y, gradients = norm.exact(arrays, dy, eps=0.0)
    far = arrays | {"x": np.ldexp(arrays["x"], exponent)}
    same, others = norm.exact(far, dy, eps=0.0)
    assert_same_digits(same, y, 0)
    assert_same_digits(others["x"], gradients["x"], exponent)


@pytest.mark.parametrize("value", [3.0, 1e200, -1e308])
def test_a_constant_set_has_the_same_results_wherever_it_lies(value):
    norm = layer_norm((3, 7))
    arrays, dy = norm.draw()
    y, gradients = norm.exact(arrays | {"x": np.full(norm.shape, value)}, dy)
    at_zero, zero_gradients = norm.exact(arrays | {"x": np.zeros(norm.shape)}, dy)
    np.testing.assert_array_equal(y.value.hi, np.broadcast_to(arrays["beta"], norm.shape))
    assert_same_digits(y, at_zero, 0)
    assert_same_digits(gradients["x"], zero_gradients["x"], 0)


def assert_same_digits(got, expected, exponent):
    """Compare both parts, those of ``got`` times a power of two."""
    for part, same in ((got.value.hi, expected.value.hi), (got.value.lo, expected.value.lo)):
        np.testing.assert_array_equal(np.ldexp(part, exponent), same)


@parametrize(FIVE)
def test_the_test_shapes_have_distinct_sizes(norm):
    assert len(set(norm.shape)) == len(norm.shape)
    assert norm.set_size > 2
