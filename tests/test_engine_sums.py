"""Sums of any axes, accurate whatever the length, the same bits wherever rows lie."""

import math
import sys
import threading
import time

import numpy as np
import pytest
from each import each
from hypothesis import given
from hypothesis import strategies as st

import numpy_norms
from numpy_norms.engine import programs, sums

DTYPES = [np.float32, np.float64, np.longdouble, np.complex128]
dtypes = each("dtype", DTYPES)
floats = each("dtype", [np.float32, np.float64])
ROUNDOFFS = 32  # of the dtype, on the sum of the terms' sizes


def assert_are_sums(got, a, b, axes):
    """Compare with sums that are rounded once."""
    exact = exactly(a) if b is None else exactly(a) * exactly(b)
    terms = np.abs(exact).sum(axes, keepdims=True)
    assert got.dtype in (a.dtype, np.promote_types(a.dtype, np.float64))
    assert got.shape == terms.shape
    roundoff = np.finfo(a.dtype).eps / 2
    if a.dtype == np.longdouble:
        assert (np.abs(got - exact.sum(axes, keepdims=True)) <= ROUNDOFFS * roundoff * terms).all()
        return
    for part in (np.real, np.imag) if a.dtype == np.complex128 else (np.real,):
        rows = np.moveaxis(part(exact), axes, range(-len(axes), 0)).reshape(got.size, -1)
        error = [abs(math.fsum(row) - s) for row, s in zip(rows, part(got).flat, strict=True)]
        assert (error <= ROUNDOFFS * roundoff * terms.ravel()).all()


def exactly(a):
    """The numbers with digits to spare for their products."""
    return a.astype(np.clongdouble if a.dtype.kind == "c" else np.longdouble)


def draw(rng, shape, dtype):
    """Random numbers of both signs with a mean; complex ones in all directions."""
    a = rng.standard_normal(shape) + 0.5
    return (a + 1j * rng.standard_normal(shape) if dtype == np.complex128 else a).astype(dtype)


@st.composite
def shapes_and_axes(draw):
    """Draw a shape and some of its axes, at least one."""
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=2, max_size=4)))
    axes = draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    return shape, tuple(sorted(axes))


@given(drawn=shapes_and_axes(), seed=st.integers(0, 2**32 - 1))
@dtypes
@each("of", ["one", "a product"])
def test_sums_over_any_axes(of, dtype, drawn, seed):
    shape, axes = drawn
    rng = np.random.default_rng(seed)
    a, b = draw(rng, shape, dtype), draw(rng, shape, dtype) if of == "a product" else None
    assert_are_sums(sums.over(shape, axes)(a, b), a, b, axes)


@given(drawn=shapes_and_axes(), seed=st.integers(0, 2**32 - 1))
@dtypes
def test_sums_of_few_over_any_axes(dtype, drawn, seed):
    shape, axes = drawn
    a = draw(np.random.default_rng(seed), shape, dtype)
    assert_are_sums(sums.few(shape, axes)(a), a, None, axes)


def test_over_no_axes_nothing_is_summed(rng):
    a, b = rng.standard_normal((2, 3, 4))
    assert sums.few(a.shape, ()) is None
    of_none = sums.over(a.shape, ())
    assert (of_none(a) == a).all()
    assert not np.shares_memory(of_none(a), a)
    assert (of_none(a, b) == a * b).all()


@dtypes
@each("axis", [0, 1, 2, 3])
def test_along_one_axis_of_four(axis, dtype, rng):
    a, b = draw(rng, (2, 3, 4, 5, 6), dtype)
    assert_are_sums(sums.inner_sum(4, axis)(a), a, None, (axis,))
    assert_are_sums(sums.inner_sum(4, axis)(a, b), a, b, (axis,))


@floats
@each("length", [1, 2, 390, 1024, 1031, 2048, 4099, 300_007])
@each("kind", ["positive", "constant"])
def test_the_error_along_rows_does_not_grow_with_their_length(kind, length, dtype, rng):
    a = rng.random((3, length)).astype(dtype)
    b = np.full_like(a, 0.1) if kind == "constant" else a[::-1]
    assert_are_sums(sums.along(b), b, None, (1,))
    assert_are_sums(sums.along(a, b), a, b, (1,))


@floats
@each("columns", [1, 2, 7, 60, 1000, 1031, 2053])
def test_the_error_down_columns_does_not_grow_with_their_length(columns, dtype, rng):
    for rows in (1, 2, 3, 33, 390, 1021, 65_537):
        if rows * columns < 400_000:  # a tile
            a, b = rng.random((2, rows, columns)).astype(dtype)
            assert_are_sums(sums.down(a), a, None, (0,))
            assert_are_sums(sums.down(a, b), a, b, (0,))


def test_complex_numbers_are_not_conjugated():
    i = np.full((40, 1, 3), 1j)
    for axis, n in enumerate(i.shape):
        assert (sums.inner_sum(3, axis)(i, i) == -n).all()


@floats
@each("summed", [sums.along, sums.down])
@each("gap", [1, 4, 13])
@each("columns", [1, 2, 3, 4, 5, 8, 31, 1031])
def test_where_rows_lie_changes_no_bit(columns, gap, summed, dtype, rng):
    for rows in (2, 7, 40, 100, 170, 300):
        a, b = rng.standard_normal((2, rows, columns + gap)).astype(dtype)[..., :columns]
        close_a, close_b = a.copy(), b.copy()
        assert (summed(a) == summed(close_a)).all()
        assert (summed(a, b) == summed(close_a, close_b)).all()
        assert (summed(a, close_b) == summed(close_a, b)).all()


@given(st.integers(1, 10_000), st.integers(1, 2000))
def test_the_largest_divisor(n, most):
    found = sums.divisor(n, most)
    assert found <= most
    assert n % found == 0
    assert all(n % d for d in range(found + 1, min(n, most) + 1))


@pytest.mark.usefixtures("_without_programs")
@each("m", [1000, 1024, 3136, 8192])
@each("work", [np.float32, np.float64])
def test_no_sum_of_a_tile_has_the_other_threads_wait(m, work, monkeypatch, rng):
    # For 500 results or fewer NumPy keeps the global lock.
    sizes, vecdot, matmul = [], np.vecdot, np.matmul

    def counted(a, b):
        sizes.append(a[..., 0].size)
        return vecdot(a, b)

    def small(a, b):
        assert b.size <= sums.SMALL
        return matmul(a, b)

    x, gamma = rng.standard_normal((2**22 // m, m), np.float32), np.ones(m, np.float32)
    with monkeypatch.context() as patch:
        patch.setattr(np, "vecdot", counted)
        patch.setattr(np, "matmul", small)
        patch.setattr(programs, "OFTEN", 10**9)  # whose sums are not counted
        y, cache = numpy_norms.layer_norm_forward(x, gamma, gamma, dtype=work)
        numpy_norms.layer_norm_backward(y, cache)
    assert len(sizes) > 10
    assert sorted(sizes)[len(sizes) // 10] > 500  # all but the last tile


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="has no lock")
def test_numpy_keeps_the_global_lock_for_500_results_and_not_for_more():
    # If this fails, pieces need not be short.
    steps, done = [0], threading.Event()

    def step():
        while not done.is_set():
            steps[0] += 1
            time.sleep(0)  # lets others run

    def runs(n):
        a = np.ones((n, 10_000))
        start = steps[0]
        np.vecdot(a, a)
        return steps[0] > start

    before = sys.getswitchinterval()
    other = threading.Thread(target=step)
    sys.setswitchinterval(60)
    try:
        other.start()
        assert not any(runs(500) for _ in range(10))
        assert any(runs(501) for _ in range(1000))
    finally:
        done.set()
        sys.setswitchinterval(before)
        other.join()
