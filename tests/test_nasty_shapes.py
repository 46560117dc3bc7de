"""Shapes and arrays at the edge: empty, single, many, mixed in type, shared between threads."""

from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
from cases import (
    FIVE,
    INFERENCE,
    SIX,
    batch_norm,
    batch_norm_inference,
    group_norm,
    instance_norm,
    layer_norm,
    parametrize,
    rms_norm,
)
from each import each
from measure import assert_within_float64
from numpy.testing import assert_allclose, assert_array_equal

import numpy_norms as nn

EMPTY = [
    batch_norm((0, 3, 4)),
    layer_norm((0, 7)),
    group_norm((0, 6, 4), 2),
    instance_norm((0, 3, 4)),
    rms_norm((0, 7)),
    batch_norm_inference((0, 3, 4)),
]
SINGLE = [
    batch_norm((1, 3)),
    layer_norm((5, 1)),
    layer_norm((2, 1, 3), axis=1),
    group_norm((5, 6), 6),
    instance_norm((2, 3, 1)),
]


@each("dtype", [np.float32, np.float64])
@parametrize(EMPTY)
def test_an_empty_batch_gives_empty_results_and_zero_sums(norm, dtype):
    arrays, dy = norm.draw(dtype=dtype)
    y, gradients = norm.both(arrays, dy)
    assert y.shape == gradients.pop("x").shape == norm.shape
    for name, gradient in gradients.items():
        assert_array_equal(gradient, np.zeros(norm.parameter_shape))
        assert gradient.dtype == arrays[name].dtype


@parametrize([layer_norm((5, 0)), rms_norm((5, 0)), batch_norm((5, 0)), instance_norm((5, 3, 0))])
def test_empty_features_or_channels_or_positions_give_empty_results(norm):
    arrays, dy = norm.draw()
    y, gradients = norm.both(arrays, dy)
    assert y.shape == gradients["x"].shape == norm.shape
    assert gradients["gamma"].shape == norm.parameter_shape


@each("dtype", [np.float16, np.float32, np.float64])
@parametrize(SINGLE)
def test_one_value_per_set_gives_beta_and_no_dx(norm, dtype):
    arrays, dy = norm.draw(dtype=dtype)
    arrays["gamma"] *= dtype(100)
    y, gradients = norm.both(arrays, dy)
    assert_array_equal(y, arrays["beta"].ravel()[norm.entries])
    assert_array_equal(gradients["x"], np.zeros(norm.shape))
    assert_array_equal(gradients["gamma"], np.zeros(norm.parameter_shape))


@each("shape", [(70_001, 3), (3, 70_001), (31, 8191)])
@each("make", [batch_norm, layer_norm, rms_norm])
def test_many_rows_and_long_rows_leave_nothing_out(make, shape):
    norm = make(shape)
    arrays, dy = norm.draw(mean=50.0)
    y, gradients = norm.both(arrays, dy)
    exact_y, exact = norm.exact(arrays, dy)
    assert_within_float64(y, exact_y, terms=norm.set_size)
    assert_within_float64(gradients["x"], exact["x"], terms=norm.set_size)
    for name in norm.parameters:
        assert_within_float64(gradients[name], exact[name], terms=dy.size)


@each("x_dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@each("other", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@parametrize(SIX)
def test_results_follow_the_types_of_their_own_arguments(norm, x_dtype, other):
    arrays, dy = norm.draw(dtype=other)
    arrays["x"] = arrays["x"].astype(x_dtype)
    y, gradients = norm.both(arrays, dy)
    wide, wide_gradients = norm.both(
        {n: a.astype(np.float64) for n, a in arrays.items()}, dy.astype(np.float64)
    )
    assert (y.dtype, gradients["x"].dtype) == (x_dtype, x_dtype)
    assert_array_equal(y, wide.astype(x_dtype))
    for name in norm.parameters:
        assert gradients[name].dtype == other
        expected = wide_gradients[name].astype(other).astype(np.float64)
        assert_allclose(gradients[name].astype(np.float64), expected, rtol=1e-12)


@parametrize(SIX)
def test_longdouble_is_computed_in_its_own_type(norm):
    arrays, dy = norm.draw(dtype=np.longdouble)
    arrays["x"] += np.longdouble(2.0) ** -60
    y, gradients = norm.both(arrays, dy)
    wide, _ = norm.forward({n: a.astype(np.float64) for n, a in arrays.items()})
    assert y.dtype == gradients["x"].dtype == np.longdouble
    assert np.abs(y - wide).max() <= 1e-14


@parametrize(FIVE)
def test_longdouble_is_exact_to_its_own_roundoff(norm):
    arrays, dy = norm.draw()
    y, _ = norm.forward({n: a.astype(np.longdouble) for n, a in arrays.items()}, eps=0.5)
    (exact, scale), _ = norm.exact(arrays, dy, eps=0.5)
    difference = (y - exact.hi.astype(np.longdouble)) - exact.lo.astype(np.longdouble)
    assert np.abs(difference).max() <= 30 * np.finfo(np.longdouble).eps * scale.max()


@parametrize(SIX)
def test_lists_and_subclasses_are_taken_as_arrays(norm):
    arrays, dy = norm.draw()
    expected, gradients = norm.both(arrays, dy)
    as_lists = {n: a.tolist() for n, a in arrays.items()}
    y, of_lists = norm.both(as_lists, dy.tolist())
    y_memmap, _ = norm.forward({**arrays, "x": arrays["x"].view(np.recarray)})
    assert_array_equal(y, expected)
    assert_array_equal(of_lists["x"], gradients["x"])
    assert type(y_memmap) is np.ndarray


def test_a_memory_map_is_read_in_place(tmp_path):
    arrays, _ = INFERENCE.draw()
    np.save(tmp_path / "x.npy", arrays["x"])
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert_array_equal(INFERENCE.forward({**arrays, "x": x})[0], INFERENCE.forward(arrays)[0])


@parametrize(SIX)
def test_callers_on_many_threads_do_not_disturb_each_other(norm):
    inputs = [norm.draw(seed) for seed in range(8)]
    expected = [norm.both(*pair) for pair in inputs]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda pair: norm.both(*pair), inputs * 5))
    for (y, gradients), (y_alone, alone) in zip(got, expected * 5, strict=True):
        assert_array_equal(y, y_alone)
        assert_array_equal(gradients["x"], alone["x"])


def test_large_arrays_on_many_threads_do_not_disturb_each_other():
    norm = layer_norm((701, 389))
    inputs = [norm.draw(seed, dtype=np.float32) for seed in range(4)]
    expected = [norm.both(*pair) for pair in inputs]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda pair: norm.both(*pair), inputs))
    for (y, gradients), (y_alone, alone) in zip(got, expected, strict=True):
        assert_array_equal(y, y_alone)
        assert_array_equal(gradients["gamma"], alone["gamma"])


@parametrize(SIX)
def test_the_caller_s_error_state_is_neither_met_nor_changed(norm):
    arrays, dy = norm.draw(dtype=np.float32)
    arrays["x"].flat[0] = 3e38
    with np.errstate(all="raise"):
        before = np.geterr()
        norm.both(arrays, dy)
        assert np.geterr() == before


@parametrize(SIX)
def test_the_cache_prints_as_one_short_line(norm):
    _, cache = norm.forward(norm.draw()[0])
    text = repr(cache)
    assert norm.name in text
    assert str(norm.shape) in text
    assert len(text) < 200
    assert "\n" not in text


def test_the_cache_keeps_references_and_no_array_of_the_size_of_x():
    x, gamma = np.ones((64, 5)), np.ones(5)
    _, cache = nn.layer_norm_forward(x, gamma)
    assert cache.x is x
    assert cache.gamma is gamma
    own = [a for a in cache if isinstance(a, np.ndarray) and a is not x]
    assert all(a.size <= 64 for a in own)
