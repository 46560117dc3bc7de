"""Every bad argument is refused by name, with what came and what was expected, before a write."""

import re
from functools import partial

import ml_dtypes
import numpy as np
import pytest
from cases import FIVE, INFERENCE, SIX, parametrize
from each import each
from numpy.testing import assert_array_equal

import numpy_norms

REFUSED = {
    "int64": lambda a: a.astype(np.int64),
    "uint8": lambda a: np.abs(a).astype(np.uint8),
    "bool": lambda a: a > 0,
    "object": lambda a: a.astype(object),
    "complex64": lambda a: a.astype(np.complex64),
    "float8": lambda a: a.astype(ml_dtypes.float8_e4m3fn),
    "str": lambda a: a.astype(str),
    "datetime64": lambda a: a.astype(np.int64).astype("datetime64[s]"),
    "masked": np.ma.masked_array,
}
bad_dtypes = each("kind", REFUSED)
channel_norms = parametrize([norm for norm in SIX if "channel_axis" in norm.options])
axis_norms = parametrize([norm for norm in SIX if "axis" in norm.options])
with_parameters = parametrize(SIX)


def assert_refused(norm, arrays, kind, *fragments, **options):
    """Expect an error that names the fragments and offers a cure, with out left untouched."""
    out = np.full(norm.shape, 7.0)
    with pytest.raises(kind) as caught:
        norm.forward(arrays, **{"out": out, **options})
    message = str(caught.value)
    assert all(fragment in message for fragment in fragments), message
    assert re.search("; |, but ", message), message
    assert_array_equal(out, np.full(norm.shape, 7.0))


@bad_dtypes
@with_parameters
def test_an_array_of_another_kind_is_refused_by_name(norm, kind):
    arrays, dy = norm.draw()
    _, cache = norm.forward(arrays)
    came = {"float8": "float8_e4m3fn", "str": "<U"}.get(kind, kind)
    for name in arrays:
        wrong = {**arrays, name: REFUSED[kind](arrays[name])}
        assert_refused(norm, wrong, TypeError, name, came)
    with pytest.raises(TypeError, match=f"dy.*{came}"):
        norm.backward(REFUSED[kind](dy), cache)


@with_parameters
def test_lists_of_unequal_length_are_refused(norm):
    with pytest.raises(ValueError, match="inhomogeneous"):
        norm.forward({**norm.draw()[0], "x": [[1.0], [1.0, 2.0]]})


@each("eps", [-1e-5, -0.5, np.nan, np.inf, -np.inf])
@with_parameters
def test_an_eps_that_is_negative_or_not_finite_is_refused(norm, eps):
    assert_refused(norm, norm.draw()[0], ValueError, "eps", str(eps), "finite", eps=eps)


@each("eps", ["1e-5", None, [1e-5, 1e-5], 1e-5j])
@with_parameters
def test_an_eps_that_is_no_number_is_refused(norm, eps):
    assert_refused(norm, norm.draw()[0], TypeError, "eps", eps=eps)


@with_parameters
def test_a_parameter_that_would_broadcast_is_refused_with_both_shapes(norm):
    arrays, _ = norm.draw()
    shape = norm.parameter_shape
    for name in norm.parameters:
        for wrong in ((), (1,), (1, *shape), (*shape, 1), tuple(n + 1 for n in shape)):
            bad = {**arrays, name: np.ones(wrong)}
            assert_refused(norm, bad, ValueError, name, str(wrong), str(shape[0]))


@channel_norms
@each("axis", [3, -4, 100])
def test_a_channel_axis_that_x_does_not_have_is_refused(norm, axis):
    fragments = "channel_axis", str(axis), str(norm.shape)
    assert_refused(norm, norm.draw()[0], ValueError, *fragments, channel_axis=axis)


@channel_norms
@each("axis", [1.0, "1", None, (1.0,), True])
def test_a_channel_axis_that_is_no_int_is_refused(norm, axis):
    assert_refused(norm, norm.draw()[0], TypeError, "channel_axis", channel_axis=axis)


@channel_norms
@each("shape", [(), (3,)])
def test_an_x_without_batch_and_channel_axes_is_refused(norm, shape):
    with pytest.raises(ValueError, match="x has") as caught:
        norm.forward({**norm.draw()[0], "x": np.ones(shape)})
    assert str(shape) in str(caught.value)


@axis_norms
def test_an_x_without_axes_is_refused(norm):
    with pytest.raises(ValueError, match="x has no axes"):
        norm.forward({"x": np.array(1.0)}, axis=-1)


@channel_norms
def test_channels_last_taken_for_second_is_told_the_cure(norm):
    arrays, _ = norm.draw()
    arrays["x"] = np.moveaxis(arrays["x"], 1, -1)
    with pytest.raises(ValueError, match="channel_axis=-1"):
        norm.forward({name: arrays[name] for name in ("x", *norm.parameters)})


@each("dtype", [np.int64, np.float16, np.complex128, bool, "bfloat16"])
@with_parameters
def test_arithmetic_in_another_type_is_refused(norm, dtype):
    assert_refused(norm, norm.draw()[0], TypeError, "dtype", str(np.dtype(dtype)), dtype=dtype)


@with_parameters
def test_complex_parameters_of_a_real_x_are_refused(norm):
    arrays, dy = norm.draw()
    for name in norm.parameters:
        wrong = {**arrays, name: arrays[name].astype(np.complex128)}
        assert_refused(norm, wrong, TypeError, name, "complex128", "float64")
    _, cache = norm.forward(arrays)
    with pytest.raises(TypeError, match=r"dy.*complex128"):
        norm.backward(dy.astype(np.complex128), cache)


@with_parameters
def test_a_dy_of_another_shape_is_refused_with_both_shapes(norm):
    arrays, dy = norm.draw()
    _, cache = norm.forward(arrays)
    for wrong in (dy[:1], dy[None], dy.T, np.float64(1.0)):
        with pytest.raises(ValueError, match="dy has shape") as caught:
            norm.backward(wrong, cache)
        assert str(norm.shape) in str(caught.value)
        assert str(np.shape(wrong)) in str(caught.value)


@with_parameters
def test_the_cache_of_another_norm_is_refused_by_name(norm):
    for other in SIX:
        arrays, dy = other.draw()
        _, cache = other.forward(arrays)
        if other.name != norm.name:
            with pytest.raises(ValueError, match=f"{other.name}_forward.*{norm.name}_backward"):
                norm.backward(dy, cache)


@each("cache", [None, (), "cache", (1, 2)])
@with_parameters
def test_what_is_no_cache_is_refused(norm, cache):
    with pytest.raises(TypeError, match=f"cache.*{norm.name}_forward"):
        norm.backward(np.ones(norm.shape), cache)


@with_parameters
def test_cache_and_dy_in_the_wrong_order_are_told_the_order(norm):
    arrays, dy = norm.draw()
    _, cache = norm.forward(arrays)
    with pytest.raises(TypeError, match="dy"):
        norm.backward(cache, dy)


@with_parameters
def test_a_cache_whose_x_was_replaced_by_another_kind_is_refused(norm):
    arrays, dy = norm.draw()
    x, (_, cache) = arrays["x"], norm.forward(arrays)
    dx = norm.backward(dy, cache)["x"]
    assert_array_equal(norm.backward(dy, cache._replace(x=x.copy()))["x"], dx)
    words = rf"replaced by .*, but {x.size} .* float64 .*; call {norm.name}_forward"
    for wrong in (x.astype(np.float32), x[:1], x.astype(int), x.tolist(), 2.0, "x"):
        for differentiate in (
            partial(norm.backward, dy),
            partial(norm.backward, np.asarray(wrong)),
            numpy_norms.jvp,
            partial(numpy_norms.double_backward, dy),
        ):
            with pytest.raises(ValueError, match=words):
                differentiate(cache._replace(x=wrong))


@with_parameters
def test_options_are_keyword_only(norm):
    function = getattr(numpy_norms, f"{norm.name}_forward")
    arrays, _ = norm.draw()
    groups = [norm.options["num_groups"]] if "num_groups" in norm.options else []
    parameters = [arrays[name] for name in norm.parameters]
    with pytest.raises(TypeError, match="positional"):
        function(arrays["x"], *groups, *parameters, 1e-5)


@each("running_var", [-1e-300, -1.0, -np.inf])
def test_a_negative_running_variance_is_refused(running_var):
    arrays, _ = INFERENCE.draw()
    arrays["running_var"][1] = running_var
    assert_refused(INFERENCE, arrays, ValueError, "running_var", str(running_var))


@parametrize(FIVE)
def test_a_refused_call_leaves_nothing_behind(norm):
    arrays, dy = norm.draw()
    expected, gradients = norm.both(arrays, dy)
    with pytest.raises(ValueError, match="eps"):
        norm.forward(arrays, eps=-1.0)
    y, again = norm.both(arrays, dy)
    assert_array_equal(y, expected)
    assert_array_equal(again["x"], gradients["x"])
