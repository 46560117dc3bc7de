"""Moments of data in pieces: those of the whole, however it was cut and merged."""

import pickle
from dataclasses import FrozenInstanceError
from functools import partial, reduce

import ml_dtypes
import numpy as np
import pytest
from each import each
from hypothesis import given
from hypothesis import strategies as st
from layouts import LAYOUTS
from mpmath import mp, mpf
from numpy.testing import assert_allclose, assert_array_equal

from numpy_norms import Moments, batch_norm_forward, update_running_stats
from numpy_norms.oracle.double_double import Pair

axes = each("axis", [0, 1, -1, (0, 2), (0, 1, 2), [2, 1]])


def draw(shape, mean=3.0, dtype=np.float64, seed=0):
    """Draw normal data."""
    return (mean + np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def exact(x):
    """Return mean and sum of squared deviations of one set, in 60 digits."""
    with mp.workdps(60):
        row = [mpf(float(v)) for v in x]
        mean = mp.fsum(row) / len(row)
        return float(mean), float(mp.fsum((v - mean) ** 2 for v in row))


def assert_same(a, b, rtol):
    """Compare moments; the variance on its own scale, the mean on that of the data."""
    assert_array_equal(a.count, b.count)
    assert_allclose(a.mean, b.mean, rtol=rtol)
    assert_allclose(a.m2, b.m2, rtol=rtol)


@axes
def test_moments_are_count_mean_and_squared_deviations(axis):
    x = draw((4, 5, 6))
    m = Moments.of(x, axis)
    over = tuple(axis) if isinstance(axis, list) else axis
    mean = x.mean(over)
    assert m.mean.shape == m.m2.shape == m.count.shape == mean.shape
    assert_array_equal(m.count, x.size // mean.size)
    assert_allclose(m.mean, mean, rtol=1e-15)
    assert_allclose(m.m2, x.var(over) * m.count, rtol=1e-14)
    for correction in (0, 1, 3):
        assert_allclose(m.var(correction=correction), x.var(over, ddof=correction), rtol=1e-14)


@given(
    mean=st.sampled_from([0.0, 1.0, -1e4, 1e9]),
    std=st.sampled_from([1e-3, 1.0, 1e5, 1e-160, 1e150]),
    m=st.integers(1, 30),
)
def test_one_piece_is_exact_to_a_few_units_whatever_its_mean(mean, std, m):
    x = std * (mean + np.random.default_rng(m).standard_normal(m))
    moments = Moments.of(x, 0)
    expected = exact(x)
    assert_allclose(moments.mean, expected[0], rtol=1e-15, atol=1e-15 * std)
    assert_allclose(moments.m2, expected[1], rtol=4e-15, atol=5e-324)


@each("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_narrow_data_loses_nothing(dtype):
    x = draw((7, 3000), mean=90.0, dtype=dtype)
    m, wide = Moments.of(x, 1), Moments.of(x.astype(np.float64), 1)
    assert m.mean.dtype == m.m2.dtype == np.float64
    assert_same(m, wide, 1e-13)


def test_longdouble_keeps_its_digits():
    x = draw(50).astype(np.longdouble) / 3
    m = Moments.merged([Moments.of(x[:20], 0), Moments.of(x[20:], 0)])
    assert m.mean.dtype == np.longdouble
    assert_allclose(m.var(), ((x - x.mean()) ** 2).mean(), rtol=1e-18)


@given(
    cuts=st.lists(st.integers(0, 60), max_size=9).map(sorted),
    mean=st.sampled_from([0.0, 3.0, -1e3]),
    seed=st.integers(0, 99),
)
def test_any_pieces_in_any_order_make_the_whole(cuts, mean, seed):
    x = draw((60, 2, 3), mean, seed=seed)
    pieces = [Moments.of(piece, 0) for piece in np.split(x, cuts)]
    whole = Moments.of(x, 0)
    assert_same(Moments.merged(pieces), whole, 1e-11)
    assert_same(reduce(Moments.merge, pieces), whole, 1e-11)
    np.random.default_rng(seed).shuffle(pieces)
    assert_same(Moments.merged(pieces), whole, 1e-11)


def test_a_thousand_pieces_far_from_zero_keep_their_variance():
    x = draw((1000, 700), mean=1e7)
    m = Moments.merged(Moments.of(piece, 0) for piece in x)
    xc = Pair.of(x.reshape(1, -1)) - Pair.of(x.reshape(1, -1)).mean()
    expected = float((xc * xc).mean().hi[0, 0])
    assert m.count == x.size
    assert_allclose(m.var(), expected, rtol=1e-11)


def test_the_tree_depends_on_the_number_of_parts_alone():
    pieces = [Moments.of(draw(5 + k, seed=k), 0) for k in range(11)]
    a, b, c, d, e, f, g, h, i, j, k = pieces
    left = a.merge(b).merge(c.merge(d)).merge(e.merge(f).merge(g.merge(h)))
    expected = left.merge(i.merge(j).merge(k))
    got = Moments.merged(iter(pieces))
    assert_array_equal([got.mean, got.m2], [expected.mean, expected.m2])


@each("value", [3.0, np.inf, 1e200, -1e308])
def test_an_empty_piece_changes_nothing(value):
    x = draw((4, 2))
    x[1, 1] = value
    m, empty = Moments.of(x, 0), Moments.empty(2)
    for merged in (m.merge(empty), empty.merge(m), Moments.merged([empty, m, empty])):
        assert_array_equal(merged.count, m.count)
        assert_array_equal(merged.mean, m.mean)
        assert_array_equal(merged.m2, m.m2)


@each("shape", [(0, 3), (3, 0), (0, 0)])
def test_data_without_elements_has_the_moments_of_nothing(shape):
    for axis in (0, 1):
        m = Moments.of(np.empty(shape), axis)
        assert_array_equal(m.count, np.full(shape[1 - axis], shape[axis]))
        assert_array_equal([m.mean, m.m2], np.zeros((2, shape[1 - axis])))


def test_counts_may_differ_by_position():
    first, second = draw((9, 2)), draw(5, seed=1)
    m = Moments.of(first, 0).merge(
        Moments(np.array([5, 0]), np.array([second.mean(), 0]), np.array([5 * second.var(), 0]))
    )
    assert_array_equal(m.count, [14, 9])
    both = np.concatenate([first[:, 0], second])
    assert_allclose(m.mean, [both.mean(), first[:, 1].mean()], rtol=1e-14)
    assert_allclose(m.var(), [both.var(), first[:, 1].var()], rtol=1e-14)


def test_constant_data_has_no_deviation():
    for value in (0.1, -1e308, 5e-324):
        m = Moments.merged([Moments.of(np.full((n, 3), value), 0) for n in (7, 2, 5)])
        assert_array_equal([m.mean, m.m2], [np.full(3, value), np.zeros(3)])


@each("axis", [0, 1])
@each("shape", [(3, 500_000), (150_000, 7), (300_000, 2)])
def test_sets_that_are_worked_on_in_parts_are_whole(shape, axis):
    x = draw(shape)
    m = Moments.of(x, axis)
    assert_allclose(m.mean, x.mean(axis), rtol=1e-12)
    assert_allclose(m.var(), x.var(axis), rtol=1e-12)


@each("layout", LAYOUTS)
def test_memory_layout_is_irrelevant(layout):
    x = draw((4, 5, 6))
    there, here = Moments.of(layout(x), (0, 2)), Moments.of(x, (0, 2))
    assert_array_equal([there.mean, there.m2], [here.mean, here.m2])


def test_a_set_alone_has_the_bits_that_it_has_beside_others():
    x = draw((300, 4000), dtype=np.float32)
    all_sets, one = Moments.of(x, 1), Moments.of(x[17:18], 1)
    assert_array_equal([all_sets.mean[17:18], all_sets.m2[17:18]], [one.mean, one.m2])


def test_running_statistics_take_the_moments_of_a_batch_in_pieces():
    x = draw((8, 3, 5))
    _, cache = batch_norm_forward(x)
    pieces = [Moments.of(piece, (0, 2)) for piece in np.split(x, [3, 4])]
    update = partial(update_running_stats, np.array([0.1, 0.2, 0.3]), np.array([1.0, 2.0, 3.0]))
    for correction in (0, 1):
        assert_allclose(
            update(Moments.merged(pieces), correction=correction),
            update(cache, correction=correction),
            rtol=1e-14,
        )


@axes
def test_of_what_counts(axis):
    x, where = draw((4, 5, 6)), draw((4, 5, 6), 0.5, seed=1) > 0
    m, over = Moments.of(x, axis, where=where), tuple(np.atleast_1d(axis))
    n = where.sum(over)
    assert n.min() > 0
    assert_array_equal(m.count, n)
    assert_allclose(m.mean, x.mean(over, where=where), rtol=1e-14)
    assert_allclose(m.var(), x.var(over, where=where), rtol=1e-13)


@each("shape", [(6,), (5, 1), (4, 1, 1), ()])
def test_what_counts_broadcasts(shape):
    x, where = draw((4, 5, 6)), draw(shape, 0.5, seed=2) > 0
    m = Moments.of(x, (0, 1), where=where)
    n = np.broadcast_to(where, x.shape).sum((0, 1))
    assert_array_equal(m.count, n)
    assert_allclose(m.mean, x.sum((0, 1), where=where) / np.maximum(n, 1), rtol=1e-14)


@each("dtype", [np.float16, np.float32, np.float64, np.complex128])
def test_all_true_changes_no_bit(dtype):
    x = draw((300, 4000), dtype=dtype)
    for axis in (0, 1, (0, 1)):
        m, same = Moments.of(x, axis), Moments.of(x, axis, where=True)
        assert_array_equal(same.count, m.count)
        assert_array_equal([same.mean, same.m2], [m.mean, m.m2])


@each("bad", [np.nan, np.inf, -1e308])
def test_what_does_not_count_is_as_if_absent(bad):
    x = draw((9, 4), 1e7)
    with_bad = np.where([[True]] * 5 + [[False]] * 4, x, bad)
    m, expected = Moments.of(with_bad, 0, where=np.arange(9)[:, None] < 5), Moments.of(x[:5], 0)
    assert_same(m, expected, 1e-13)


def test_a_set_in_which_nothing_counts_is_merged_as_nothing():
    x, where = np.full((4, 2), np.nan), np.array([False, True])
    x[:, 1] = [1, 2, 6, 7]
    m = Moments.of(x, 0, where=where)
    assert_array_equal([m.count, m.mean, m.m2], [[0, 4], [0, 4], [0, 26]])
    later = Moments.of(np.array([[3.0, 4.0], [5.0, 4.0]]), 0)
    assert_array_equal(m.merge(later).mean, [4, 4])
    assert_array_equal(m.merge(later).m2, [2, 26])


@given(
    cuts=st.lists(st.integers(0, 60), max_size=9).map(sorted),
    mean=st.sampled_from([0.0, -1e3]),
    seed=st.integers(0, 99),
)
def test_masked_pieces_make_the_masked_whole(cuts, mean, seed):
    x, where = draw((60, 2, 3), mean, seed=seed), draw((60, 2, 3), seed=seed + 1) > 3
    parts = [
        Moments.of(a, 0, where=w)
        for a, w in zip(np.split(x, cuts), np.split(where, cuts), strict=True)
    ]
    assert_same(Moments.merged(parts), Moments.of(x, 0, where=where), 1e-11)


def test_running_statistics_take_masked_pieces():
    x, where = draw((8, 3, 5)), draw((8, 1, 5), 0.5, seed=3) > 0
    _, cache = batch_norm_forward(x, where=where)
    pieces = [
        Moments.of(a, (0, 2), where=w)
        for a, w in zip(np.split(x, [3]), np.split(where, [3]), strict=True)
    ]
    old = np.array([0.1, 0.2, 0.3]), np.array([1.0, 2.0, 3.0])
    assert_allclose(
        update_running_stats(*old, Moments.merged(pieces)),
        update_running_stats(*old, cache),
        rtol=1e-14,
    )


def test_running_statistics_of_channels_without_values_stay():
    old = np.array([0.1, 0.2]), np.array([0.3, 0.7])
    seen = Moments(np.array([0, 4]), np.array([0.0, 5.0]), np.array([0.0, 8.0]))
    mean, var = update_running_stats(*old, seen, momentum=0.3)
    assert_array_equal([mean[0], var[0]], [0.1, 0.3])
    assert_allclose([mean[1], var[1]], [0.7 * 0.2 + 0.3 * 5, 0.7 * 0.7 + 0.3 * 8 / 3], rtol=1e-15)


def test_moments_cannot_be_changed_and_travel_as_pickles():
    m = Moments.of(draw((4, 2)), 0)
    with pytest.raises(FrozenInstanceError):
        m.mean = 0
    again = pickle.loads(pickle.dumps(m))
    assert_array_equal([again.mean, again.m2], [m.mean, m.m2])


@each("dtype", [np.int8, np.uint8, np.uint64, np.int32, list])
def test_moments_made_of_numbers_are_merged_as_those_of_data(dtype):
    counts = [120, 90] if dtype is list else np.array([120, 90], dtype)
    halves = [Moments(counts, [1.0, 2], [3.0, 0]), Moments(counts, np.float16([3, 2]), [1, 4])]
    m = Moments.merged(halves)
    assert m.count.dtype == np.int64
    assert m.mean.dtype == m.m2.dtype == np.float64
    assert_array_equal(m.count, [240, 180])
    assert_array_equal([m.mean, m.m2], [[2, 2], [3 + 1 + 4 * 60, 4]])
    assert Moments(2, 1, 0).merge(Moments(2, 3, 0)).m2 == 4


def test_what_others_say_of_nothing_is_merged_as_nothing():
    nothing = Moments([0, 2], [np.nan, 3.0], [np.nan, 8.0])
    m = nothing.merge(Moments([2, 0], [3.0, np.nan], [8.0, 0.0]))
    assert_array_equal([m.count, m.mean, m.m2], [[2, 2], [3, 3], [8, 8]])


@given(st.integers(-163, -155), st.integers(2, 9))
def test_no_sum_of_squares_is_negative_where_squares_vanish(exponent, m):
    rng = np.random.default_rng(m)
    x = 10.0**exponent * (rng.standard_normal((50, m)) + rng.standard_normal((50, 1)))
    assert (Moments.of(x, 1).m2 >= 0).all()


ONES = np.ones(3)


@each(
    ("call", "message"),
    [
        (lambda: Moments(ONES.astype(int), ONES, np.ones(2)), r"\(3,\), \(3,\) and \(2,\)"),
        (lambda: Moments.empty(3).merge(Moments.empty(2)), r"shapes \(3,\) and \(2,\)"),
        (lambda: Moments.merged([]), "parts is empty"),
        (lambda: Moments([3], [1.0], [-2.0]), "m2 is negative"),
        (lambda: Moments.of(np.ones((2, 3)), 2), "axis is 2"),
        (lambda: Moments.of(np.ones((2, 3)), (0, -2)), "names an axis twice"),
        (lambda: Moments.of(np.ones((1, 3)), 0).var(correction=1), "a set has 1 numbers"),
        (lambda: Moments.of(np.ones((2, 3)), 0, where=[True, False]), "where has shape"),
        (lambda: Moments.empty(3).var(), "a set has 0 numbers"),
        (
            lambda: update_running_stats(ONES, ONES, Moments.of(np.ones((1, 3)), 0)),
            "pass correction=0",
        ),
        (
            lambda: update_running_stats(ONES, ONES, Moments.of(np.ones((2, 3)), (0, 1))),
            r"the moments have shape \(\)",
        ),
    ],
)
def test_a_wrong_value_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@each(
    ("call", "message"),
    [
        (lambda: Moments(ONES, ONES, ONES), "count has dtype float64"),
        (lambda: Moments(10**400, 1.0, 1.0), "count has dtype object"),
        (lambda: Moments(1, "1", 1.0), "mean has dtype <U1"),
        (lambda: Moments(1, 1.0, None), "m2 has dtype object"),
        (lambda: Moments.of(np.ones((2, 3), int), 0), "x has dtype int64"),
        (lambda: Moments.of(np.ma.ones((2, 3)), 0), "x is a masked array"),
        (lambda: Moments.of(np.ones((2, 3)), 0, where=[1, 0, 1]), "where has dtype int64"),
        (lambda: Moments.empty(3).merge(ONES), "a part is a ndarray"),
        (lambda: Moments.merged([ONES]), "a part is a ndarray"),
        (lambda: Moments.merged(Moments.empty(3)), "parts is a Moments"),
        (lambda: Moments.merged(5), "parts is a int"),
        (lambda: Moments.merged(np.array(5)), r"parts is a ndarray, .* pass \[Moments.of"),
    ],
)
def test_a_wrong_type_is_named(call, message):
    with pytest.raises(TypeError, match=message):
        call()
