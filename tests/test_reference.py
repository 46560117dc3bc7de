"""The 106-bit reference of `check`, against fractions and against the definition in 60 digits."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest

from numpy_norms.oracle.double_double import Pair, two_product, two_sum
from numpy_norms.oracle.reference import evaluate, sets_of, sharers_of

SHAPE, GROUPS, EPS = (2, 4, 3), 2, 0.3
SETS = {  # what positions with the same key share: statistics, parameters
    "batch_norm": (lambda n, c, s: c, lambda n, c, s: c),
    "batch_norm_inference": (lambda n, c, s: c, lambda n, c, s: c),
    "layer_norm": (lambda n, c, s: (n, c), lambda n, c, s: s),
    "group_norm": (lambda n, c, s: (n, c // 2), lambda n, c, s: c),
    "instance_norm": (lambda n, c, s: (n, c), lambda n, c, s: c),
    "rms_norm": (lambda n, c, s: (n, c), lambda n, c, s: s),
}


def fractions(pair):
    halves = zip(pair.hi.ravel().tolist(), pair.lo.ravel().tolist(), strict=True)
    return [Fraction(hi) + Fraction(lo) for hi, lo in halves]


def draw_pairs(seed, shape=(3, 7)):
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-9, 9, shape)
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
        (Pair.plus, Fraction.__add__, max),
        (Pair.minus, Fraction.__sub__, max),
        (Pair.times, Fraction.__mul__, Fraction.__mul__),
        (Pair.over, Fraction.__truediv__, Fraction.__truediv__),
    ],
    ids=["plus", "minus", "times", "over"],
)
def test_one_operation_on_pairs_is_right_to_100_bits(compute, expect, size):
    a, b = draw_pairs(2), draw_pairs(3)
    triples = zip(fractions(compute(a, b)), fractions(a), fractions(b), strict=True)
    for got, p, q in triples:
        assert abs(got - expect(p, q)) <= size(abs(p), abs(q)) / 2**100


def test_the_root_of_a_pair_is_right_to_100_bits():
    square = draw_pairs(4).times(draw_pairs(4))
    for root, number in zip(fractions(square.root()), fractions(square), strict=True):
        assert abs(root * root / number - 1) < Fraction(1, 2**100)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1001])
def test_the_sum_of_pairs_is_right_to_95_bits_of_its_terms(n):
    pairs = draw_pairs(5, (1, n))
    terms = fractions(pairs)
    (total,) = fractions(pairs.sum())
    assert abs(total - sum(terms)) <= sum(map(abs, terms)) / 2**95


def draw(norm, mean):
    rng = np.random.default_rng(6)
    size = SHAPE[2] if norm in ("layer_norm", "rms_norm") else SHAPE[1]
    arrays = {"x": mean + rng.standard_normal(SHAPE)}
    if norm == "batch_norm_inference":
        arrays |= {"running_mean": mean + rng.random(size), "running_var": 0.5 + rng.random(size)}
    arrays["gamma"] = rng.standard_normal(size)
    if norm != "rms_norm":
        arrays["beta"] = rng.standard_normal(size)
    return arrays, rng.standard_normal(SHAPE)


def output(norm, arrays):
    """Return y by definition, from arrays of mpmath numbers, one position at a time."""
    set_of, parameter_of = SETS[norm]
    y = np.empty(SHAPE, dtype=object)
    for i in np.ndindex(SHAPE):
        members = [arrays["x"][k] for k in np.ndindex(SHAPE) if set_of(*k) == set_of(*i)]
        mean = 0 if norm == "rms_norm" else sum(members) / len(members)
        var = sum((x - mean) ** 2 for x in members) / len(members)
        p = parameter_of(*i)
        if norm == "batch_norm_inference":
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
@pytest.mark.parametrize("norm", SETS)
def test_the_reference_has_30_digits_of_the_definition(norm, mean):
    arrays, dy = draw(norm, mean)
    got = evaluate(norm, arrays, dy, num_groups=GROUPS, eps=EPS)
    with mpmath.workdps(80):
        precise = {k: np.vectorize(mpmath.mpf, otypes=[object])(a) for k, a in arrays.items()}
        expected = {"y": output(norm, precise)}
        for name, array in arrays.items():
            slopes = [slope(norm, precise, dy, name, i) for i in np.ndindex(array.shape)]
            expected[f"d{name}"] = np.array(slopes, dtype=object).reshape(array.shape)
        for name, exact in got.items():
            error = abs(expected[name] - (exact.value.hi + exact.value.lo * mpmath.mpf(1)))
            assert (error <= exact.scale * max(1.0, mean) * 1e-30).all(), name


@pytest.mark.parametrize("norm", SETS)
def test_rows_of_positions_are_the_sets_of_the_definition(norm):
    both = sets_of(norm, SHAPE, GROUPS), sharers_of(norm, SHAPE)
    for rows, key in zip(both, SETS[norm], strict=True):
        groups = {}
        for position, i in enumerate(np.ndindex(SHAPE)):
            groups.setdefault(key(*i), []).append(position)
        assert rows.tolist() == list(groups.values())


@pytest.mark.parametrize("exponent", [-400, 400])
@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_the_scale_of_x_changes_no_digit_where_eps_follows_it(norm, exponent):
    arrays, dy = draw(norm, 3.0)
    scaled = arrays | {"x": np.ldexp(arrays["x"], exponent)}
    plain = evaluate(norm, arrays, dy, eps=EPS)
    other = evaluate(norm, scaled, dy, eps=np.ldexp(EPS, 2 * exponent))
    for name, shift in {"y": 0, "dx": exponent, "dgamma": 0}.items():
        got = [np.ldexp(half, shift) for half in other[name].value]
        np.testing.assert_array_equal(got, plain[name].value)


def test_half_an_ulp_is_correctly_rounded():
    arrays, dy = draw("layer_norm", 3.0)
    exact = evaluate("layer_norm", arrays, dy, eps=EPS)["y"]
    nearest = exact.value.hi.astype(np.float32)
    assert 0.3 < exact.ulps(nearest) <= 0.5
    assert 0.5 < exact.ulps(np.nextafter(nearest, np.float32(np.inf))) <= 1.5
    assert np.isnan(exact.ulps(nearest * np.float32(np.nan)))
