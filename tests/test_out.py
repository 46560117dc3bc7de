"""``out``: where results may be written, and where not."""

import numpy as np
import pytest
from cases import INFERENCE, SIX, parametrize
from layouts import LAYOUTS
from numpy.testing import assert_array_equal

writeable = [layout for layout in LAYOUTS if layout.__name__ not in ("read_only", "big_endian")]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("layout", writeable, ids=lambda f: f.__name__)
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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
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


@parametrize(SIX)
def test_out_broadcast_onto_itself_is_refused(norm):
    arrays, _ = norm.draw()
    out = np.lib.stride_tricks.as_strided(np.zeros(1), norm.shape, (0,) * len(norm.shape))
    with pytest.raises(ValueError, match="out"):
        norm.forward(arrays, out=out)
