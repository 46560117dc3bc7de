"""What may not change a single bit: memory layout, batch size, threads, what ran before."""

import hashlib
import math

import numpy as np
import pytest
from cases import (
    NORMS,
    SIX,
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    parametrize,
    rms_norm,
)
from each import each
from layouts import LAYOUTS
from numpy.testing import assert_array_equal

import numpy_norms
from numpy_norms.engine import plans

LARGE = [
    batch_norm((300_000, 3)),
    batch_norm((37, 5, 91, 29)),
    batch_norm((17, 91, 29, 5), channel_axis=-1),
    batch_norm((17, 91, 29, 40), channel_axis=-1),
    layer_norm((1501, 389)),
    layer_norm((3, 300_001)),
    layer_norm((13, 96, 41, 7), axis=1),
    group_norm((7, 12, 59, 61), 3),
    group_norm((7, 59, 61, 12), 3, channel_axis=-1),
    instance_norm((7, 12, 59, 61)),
    instance_norm((5, 301, 29, 3), channel_axis=-1),
    instance_norm((3, 301, 30, 36), channel_axis=-1),
    rms_norm((1501, 389)),
    rms_norm((3, 300_001)),
]
dtypes = each("dtype", [np.float16, np.float32, np.float64])


def assert_same_bits(first, second):
    """Compare y and gradients, as `Norm.both` returns them, for equality."""
    assert_array_equal(first[0], second[0])
    for name, gradient in first[1].items():
        assert_array_equal(gradient, second[1][name], err_msg=name)


@dtypes
@each("layout", LAYOUTS)
@parametrize(SIX)
def test_memory_layout_changes_no_bit(norm, layout, dtype):
    arrays, dy = norm.draw(dtype=dtype)
    expected = norm.both(arrays, dy)
    got = norm.both({name: layout(a) for name, a in arrays.items()}, layout(dy))
    assert_same_bits(got, expected)
    for result in (got[0], *got[1].values()):
        assert result.dtype.isnative
        assert result.flags.writeable


@each("axis", [0, 1, -1])
@parametrize(SIX)
def test_arrays_broadcast_along_an_axis_are_right(norm, axis):
    arrays, dy = norm.draw()
    first = [slice(None)] * len(norm.shape)
    first[axis] = slice(1)
    x, dy = (np.broadcast_to(a[tuple(first)], norm.shape) for a in (arrays["x"], dy))
    expected = norm.both({**arrays, "x": x.copy()}, dy.copy())
    assert_same_bits(norm.both({**arrays, "x": x}, dy), expected)


@dtypes
@parametrize(SIX)
def test_no_argument_is_changed(norm, dtype):
    arrays, dy = norm.draw(dtype=dtype)
    inputs = [*arrays.values(), dy]
    before = [hashlib.sha256(a.tobytes()).digest() for a in inputs]
    norm.both(arrays, dy)
    assert [hashlib.sha256(a.tobytes()).digest() for a in inputs] == before


@parametrize(SIX)
def test_results_share_no_memory_with_arguments_or_each_other(norm):
    arrays, dy = norm.draw()
    y, gradients = norm.both(arrays, dy)
    results, inputs = [y, *gradients.values()], [*arrays.values(), dy]
    pairs = [(a, b) for i, a in enumerate(results) for b in (*inputs, *results[:i])]
    assert not any(np.shares_memory(a, b) for a, b in pairs)


@parametrize(SIX)
def test_backward_can_be_run_twice(norm):
    arrays, dy = norm.draw()
    y, cache = norm.forward(arrays)
    assert_same_bits((y, norm.backward(dy, cache)), (y, norm.backward(dy, cache)))


@pytest.fixture
def threads():
    """Set the number of threads for one test."""
    before = numpy_norms.get_num_threads()
    yield numpy_norms.set_num_threads
    numpy_norms.set_num_threads(before)


@each("dtype", [np.float32, np.float64])
@parametrize([norm for norm in LARGE if math.prod(norm.shape) >= plans.PAYS // 8])
def test_the_number_of_threads_changes_no_bit(norm, dtype, threads):
    arrays, dy = norm.draw(dtype=dtype)
    threads(1)
    expected = norm.both(arrays, dy)
    for n in (2, 3):
        threads(n)
        assert_same_bits(norm.both(arrays, dy), expected)


@each("layout", LAYOUTS[:4])
@parametrize([norm for norm in LARGE if math.prod(norm.shape) < 600_000])
def test_memory_layout_changes_no_bit_of_many_blocks(norm, layout):
    arrays, dy = norm.draw(dtype=np.float32)
    expected = norm.both(arrays, dy)
    assert_same_bits(norm.both({**arrays, "x": layout(arrays["x"])}, layout(dy)), expected)


@each("dtype", [np.float32, np.float64])
@each("features", [1, 3, 17, 127, 1151, 30_011, 300_001])
@each("make", [layer_norm, rms_norm])
def test_a_row_alone_has_the_bits_it_has_in_a_batch(make, features, dtype):
    rows = max(3, min(500, 300_000 // features))
    batch, one = make((rows, features)), make((1, features))
    arrays, dy = batch.draw(dtype=dtype)
    y, gradients = batch.both(arrays, dy)
    for row in (0, rows // 2, rows - 1):
        part = slice(row, row + 1)
        y_alone, alone = one.both({**arrays, "x": arrays["x"][part]}, dy[part])
        assert_array_equal(y_alone, y[part])
        assert_array_equal(alone["x"], gradients["x"][part])


@each("shape", [(5, 6, 7), (3, 12, 171, 190), (260, 6, 3)])
@each("make", [lambda shape: group_norm(shape, 3), instance_norm])
def test_a_sample_alone_has_the_bits_it_has_in_a_batch(make, shape):
    batch, one = make(shape), make((1, *shape[1:]))
    arrays, dy = batch.draw(dtype=np.float32)
    y, gradients = batch.both(arrays, dy)
    y_alone, alone = one.both({**arrays, "x": arrays["x"][-1:]}, dy[-1:])
    assert_array_equal(y_alone, y[-1:])
    assert_array_equal(alone["x"], gradients["x"][-1:])


def test_the_order_of_calls_changes_no_bit():
    drawn = [(norm, *norm.draw()) for norm in NORMS]
    expected = [norm.both(arrays, dy) for norm, arrays, dy in drawn]
    LARGE[3].forward(LARGE[3].draw()[0])
    for (norm, arrays, dy), before in zip(reversed(drawn), reversed(expected), strict=True):
        assert_same_bits(norm.both(arrays, dy), before)


@each("n", [0, -1, 1.5, "2", None, True])
def test_a_number_of_threads_that_is_no_positive_int_is_refused(n, threads):
    with pytest.raises((ValueError, TypeError), match=r"n is .*pass"):
        threads(n)
