"""``out``: where results may be written, and where not."""

from itertools import pairwise

import numpy as np
import pytest
from cases import INFERENCE, SIX, parametrize
from each import each
from hypothesis import given, settings
from hypothesis.strategies import booleans, data, integers, lists
from layouts import LAYOUTS
from numpy.testing import assert_array_equal

from numpy_norms import layer_norm_forward, rms_norm_forward

writeable = [layout for layout in LAYOUTS if layout.__name__ not in ("read_only", "big_endian")]


@each("dtype", [np.float16, np.float32, np.float64])
@each("layout", writeable)
@parametrize(SIX)
def test_y_is_written_to_out_whatever_its_layout(norm, layout, dtype):
    arrays, dy = norm.draw(dtype=dtype)
    expected = norm.both(arrays, dy)
    out = layout(np.full(norm.shape, np.nan, dtype=dtype))
    y, cache = norm.forward(arrays, out=out)
    assert y is out
    assert_array_equal(out, expected[0])
    assert_array_equal(norm.backward(dy, cache)["x"], expected[1]["x"])


@parametrize(SIX)
def test_nothing_but_out_is_written_to(norm):
    arrays, _ = norm.draw()
    wide = np.full((*norm.shape[:-1], 2 * norm.shape[-1]), 7.0)
    norm.forward(arrays, out=wide[..., ::2])
    assert (wide[..., 1::2] == 7.0).all()


@each("dtype", [np.float32, np.float64])
@parametrize(SIX)
def test_x_itself_may_be_out_but_then_backward_has_lost_x(norm, dtype):
    arrays, dy = norm.draw(dtype=dtype)
    expected, _ = norm.forward(arrays)
    x = arrays["x"].copy()
    y, cache = norm.forward({**arrays, "x": x}, out=x)
    assert y is x
    assert_array_equal(x, expected)
    with pytest.raises(ValueError, match="out"):
        norm.backward(dy, cache)


@parametrize(SIX)
def test_out_that_overlaps_x_in_part_is_refused_before_a_write(norm):
    arrays, _ = norm.draw()
    memory = np.concatenate([arrays["x"].ravel(), [7.0]])
    x, out = (memory[k : memory.size - 1 + k].reshape(norm.shape) for k in (0, 1))
    before = memory.copy()
    with pytest.raises(ValueError, match="overlap"):
        norm.forward({**arrays, "x": x}, out=out)
    assert_array_equal(memory, before)


@parametrize(SIX)
def test_x_reversed_onto_itself_is_an_overlap(norm):
    arrays, _ = norm.draw()
    with pytest.raises(ValueError, match="overlap"):
        norm.forward(arrays, out=arrays["x"][::-1])


def test_out_that_is_a_parameter_is_refused():
    arrays, _ = INFERENCE.draw()
    x = np.ones((1, 3, 1))
    for name in INFERENCE.parameters:
        out = arrays[name].reshape(1, 3, 1)
        with pytest.raises(ValueError, match="overlap"):
            INFERENCE.forward({**arrays, "x": x}, out=out)


@each("scheme", ["exact", "llama", "gemma", "onnx"])
@each("forward", [layer_norm_forward, rms_norm_forward])
def test_out_that_is_gamma_is_refused_by_every_scheme(forward, scheme):
    gamma = np.ones(3)
    with pytest.raises(ValueError, match="out overlaps gamma; pass an array apart from it"):
        forward(np.arange(3.0), gamma, out=gamma, scheme=scheme)
    assert_array_equal(gamma, np.ones(3))


@parametrize(SIX)
def test_out_may_interleave_with_x_where_no_number_is_shared(norm):
    arrays, _ = norm.draw()
    expected, _ = norm.forward(arrays)
    both = np.empty((*norm.shape[:-1], 2 * norm.shape[-1]))
    both[..., ::2] = arrays["x"]
    y, _ = norm.forward({**arrays, "x": both[..., ::2]}, out=both[..., 1::2])
    assert_array_equal(y, expected)


@parametrize(SIX)
def test_out_of_another_shape_type_or_kind_is_refused(norm):
    arrays, _ = norm.draw()
    with pytest.raises(ValueError, match=r"out has shape .* y") as caught:
        norm.forward(arrays, out=np.empty((*norm.shape, 1)))
    assert str((*norm.shape, 1)) in str(caught.value)
    with pytest.raises(TypeError, match=r"out.*float32.*float64"):
        norm.forward(arrays, out=np.empty(norm.shape, dtype=np.float32))
    with pytest.raises(TypeError, match="out"):
        norm.forward(arrays, out=[[0.0]])


@parametrize(SIX)
def test_out_that_is_read_only_is_refused(norm):
    arrays, _ = norm.draw()
    out = np.empty(norm.shape)
    out.flags.writeable = False
    with pytest.raises(ValueError, match=r"out.*(read-only|writ)"):
        norm.forward(arrays, out=out)


@settings(max_examples=150)
@given(data())
def test_out_whose_elements_overlap_is_refused_and_any_other_is_written(data):
    """Strides of any kind, also such as nobody but a search would take."""
    shape = tuple(data.draw(lists(integers(0, 4), min_size=2, max_size=3)))
    unit = 8 if data.draw(booleans()) else 1
    strides = [unit * s for s in data.draw(lists(integers(-40, 40), min_size=3, max_size=3))]
    strides = strides[: len(shape)]
    memory = np.zeros(40 * 8 * 4 * 3 * 2 + 8, np.uint8)
    start = memory.size // 2 - 4
    buffer = np.ndarray((), np.float64, memory, start)
    out = np.lib.stride_tricks.as_strided(buffer, shape, strides)
    x = np.random.default_rng(0).normal(size=shape)
    places = {
        start + sum(s * i for s, i in zip(strides, at, strict=True)) for at in np.ndindex(shape)
    }
    apart = all(abs(a - b) >= 8 for a, b in pairwise(sorted(places)))
    if len(places) == out.size and apart:
        expected, _ = layer_norm_forward(x)
        assert layer_norm_forward(x, out=out)[0] is out
        assert_array_equal(out, expected)
    else:
        with pytest.raises(ValueError, match="out has elements that share memory; pass out"):
            layer_norm_forward(x, out=out)
        assert not memory.any()


@each("order", ["C", "F"])
@parametrize(SIX)
def test_empty_out_is_as_good_as_any(norm, order):
    for axis in range(len(norm.shape)):
        shape = tuple(0 if i == axis else n for i, n in enumerate(norm.shape))
        kept = {"x": np.empty(shape)}
        if norm is INFERENCE:
            kept |= {n: np.ones(shape[1]) for n in ("running_mean", "running_var")}
        options = {"num_groups": 1} if "num_groups" in norm.options else {}
        if "axis" in norm.options:
            options["axis"] = -1
        for out in (np.empty(shape, order=order), kept["x"], np.empty((*shape, 2))[..., 0]):
            y, _ = norm.forward(kept, out=out, **options)
            assert y is out


def test_a_masked_out_is_refused():
    x = np.ones((2, 3))
    with pytest.raises(TypeError, match="out is a MaskedArray"):
        layer_norm_forward(x, out=np.ma.masked_array(np.ones((2, 3))))
