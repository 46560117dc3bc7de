"""``dtype``: the type in which a norm computes, whatever its input is."""

import numpy as np
import pytest
from cases import (
    FIVE,
    SIX,
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    parametrize,
    rms_norm,
)
from each import each
from measure import ROUNDOFF, units
from numpy.testing import assert_array_equal

LENGTHS = [100, 100_000]
OF_LENGTH = {
    "layer_norm": lambda n: layer_norm((2, n)),
    "rms_norm": lambda n: rms_norm((2, n)),
    "batch_norm": lambda n: batch_norm((n, 3)),
    "batch_norm, channels last": lambda n: batch_norm((n // 100, 100, 3), channel_axis=-1),
    "group_norm": lambda n: group_norm((2, 4, n // 2), 2),
    "instance_norm, channels last": lambda n: instance_norm((1, n, 3), channel_axis=-1),
}
FLOAT32_UNITS = 2.0**-24 / ROUNDOFF


@each("length", LENGTHS)
@each("name", OF_LENGTH)
def test_the_error_of_float32_arithmetic_does_not_grow_with_the_length(name, length):
    norm = OF_LENGTH[name](length)
    arrays, dy = norm.draw(mean=0.5, std=1.0, dtype=np.float32)
    y, gradients = norm.both(arrays, dy, dtype=np.float32)
    exact_y, exact = norm.exact(arrays, dy)
    assert units(y, exact_y) <= 8 * FLOAT32_UNITS
    for name_of_array in arrays:
        assert units(gradients[name_of_array], exact[name_of_array]) <= 8 * FLOAT32_UNITS


@each("mean", [1e2, 1e4])
@parametrize(FIVE)
def test_float32_arithmetic_survives_an_offset(norm, mean):
    arrays, dy = norm.draw(mean=mean, std=1.0, dtype=np.float32)
    y, gradients = norm.both(arrays, dy, dtype=np.float32)
    exact_y, exact = norm.exact(arrays, dy)
    assert units(y, exact_y) <= 16 * FLOAT32_UNITS
    assert units(gradients["x"], exact["x"]) <= 16 * FLOAT32_UNITS


@each("work", [np.float32, np.float64, np.longdouble])
@each("dtype", [np.float16, np.float32, np.float64])
@parametrize(SIX)
def test_results_keep_the_type_of_the_input_and_statistics_have_the_working_type(norm, dtype, work):
    arrays, dy = norm.draw(dtype=dtype)
    y, cache = norm.forward(arrays, dtype=work)
    gradients = norm.backward(dy, cache)
    assert {a.dtype for a in (y, *gradients.values())} == {np.dtype(dtype)}
    assert cache.rstd.dtype == work


@parametrize(SIX)
def test_the_default_is_float64_for_narrower_input_and_the_input_s_own_type_else(norm):
    for dtype, work in ((np.float16, np.float64), (np.float32, np.float64), (np.float64,) * 2):
        arrays, dy = norm.draw(dtype=dtype)
        y, gradients = norm.both(arrays, dy)
        same, same_gradients = norm.both(arrays, dy, dtype=work)
        assert_array_equal(y, same)
        assert_array_equal(gradients["x"], same_gradients["x"])


@pytest.mark.skipif(np.finfo(np.longdouble).nmant <= 52, reason="longdouble is float64 here")
@parametrize([layer_norm((31, 257)), batch_norm((7, 5, 41)), rms_norm((31, 257))])
def test_float64_computed_in_longdouble_is_correctly_rounded_but_for_a_few(norm):
    arrays, dy = norm.draw()
    y, gradients = norm.both(arrays, dy, dtype=np.longdouble)
    exact_y, exact = norm.exact(arrays, dy)
    assert exact_y.value.is_nearest(y).mean() >= 0.99
    assert exact["x"].value.is_nearest(gradients["x"]).mean() >= 0.99


@parametrize(FIVE)
def test_complex_numbers_continue_the_real_function(norm):
    arrays, dy = norm.draw()
    y, gradients = norm.both(arrays, dy, eps=0.3)
    as_complex = {name: a.astype(np.complex128) for name, a in arrays.items()}
    z, complex_gradients = norm.both(as_complex, dy.astype(np.complex128), eps=0.3)
    assert z.dtype == np.complex128
    assert np.abs(z - y).max() <= 1e-14 * np.abs(y).max()
    assert np.abs(complex_gradients["x"] - gradients["x"]).max() <= 1e-14
    assert not z.imag.any()
