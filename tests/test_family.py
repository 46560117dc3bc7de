"""The further norms with several arguments: PyTorch, the complex step, tiles, layouts, rounding."""

from itertools import product

import ml_dtypes
import numpy as np
import pytest
from each import each
from family import MEMBERS, Member, parametrize
from further import STEP, assert_rounded_once
from hypothesis import given
from hypothesis import strategies as st
from layouts import LAYOUTS
from measure import assert_close
from numpy.testing import assert_array_equal
from small_tiles import small_tiles

import numpy_norms

LARGE = [
    Member("weight_norm", (40, 30), {}),
    Member("weight_norm", (30, 40), {"channel_axis": 1}),
    Member("spectral_norm", (40, 30), {}),
    Member("spectral_norm", (6, 20, 7), {"channel_axis": 1}),
    Member("spectral_norm", (3, 400), {"channel_axis": -1}),
    Member("batch_renorm", (90, 17), {"r_max": 1.5, "d_max": 0.7}),
    Member("batch_renorm", (7, 4, 6, 18), {"r_max": 1.5, "d_max": 0.7}),
    Member("global_response_norm", (3, 4, 15, 12), {}),
    Member("global_response_norm", (3, 15, 12, 4), {"channel_axis": -1}),
    Member("lp_normalize", (3, 400), {"eps": 0.8, "eps_place": "outside"}),
    Member("lp_normalize", (300, 7), {"p": 3, "axis": 0, "eps": 0.8, "eps_place": "inside"}),
]


@parametrize(MEMBERS)
def test_a_cache_prints_as_one_line_without_its_arrays(member):
    arrays, _ = member.draw()
    text = repr(member.forward(*arrays)[1])
    assert "cache of " in text
    assert len(text.splitlines()) == 1
    assert f"{arrays[0].dtype.name} {arrays[0].shape}" in text


@pytest.fixture
def threads():
    """Set the number of threads for one test."""
    before = numpy_norms.get_num_threads()
    yield numpy_norms.set_num_threads
    numpy_norms.set_num_threads(before)


@parametrize([*MEMBERS, *LARGE])
def test_results_are_pytorch_s_of_the_definition(member):
    arrays, dy = member.draw()
    for got, expected in zip(member.both(arrays, dy), member.by_torch(arrays, dy), strict=True):
        assert_close(got, expected, 1e-13)


def assert_gradients_are_the_complex_step(member, arrays, dy, seed):
    """Nudge all arguments that have gradients along one random direction."""
    rng = np.random.default_rng(seed)
    _, *gradients = member.both(arrays, dy)
    directions = {i: rng.standard_normal(arrays[i].shape) for i in member.differentiable}
    nudged = [a + STEP * 1j * directions[i] if i in directions else a for i, a in enumerate(arrays)]
    y, _ = member.forward(*nudged)
    slope = np.sum(dy * y.imag) / STEP
    terms = [g * t for g, t in zip(gradients, directions.values(), strict=True)]
    # A set of one element has gradients that are 0, made of terms as large as those of y.
    scale = sum(np.abs(t).sum() for t in terms) + np.abs(dy * y).sum()
    assert abs(slope - sum(t.sum() for t in terms)) <= 1e-13 * scale


@parametrize([*MEMBERS, *LARGE])
def test_gradients_are_the_complex_step(member):
    arrays, dy = member.draw(1)
    assert_gradients_are_the_complex_step(member, arrays, dy, 2)


sides = st.lists(st.integers(1, 5), min_size=2, max_size=4).map(tuple)
names = ["weight_norm", "spectral_norm", "batch_renorm", "global_response_norm"]


@given(shape=sides, axis=st.integers(0, 3), name=st.sampled_from(names), seed=st.integers(0, 99))
def test_gradients_are_the_complex_step_on_any_shape(name, shape, axis, seed):
    options = {"channel_axis": axis % len(shape)}
    if name == "batch_renorm":
        options["eps"] = 0.3  # a set of one element is constant, and so is x_hat
    member = Member(name, shape, options)
    arrays, dy = member.draw(seed)
    assert_gradients_are_the_complex_step(member, arrays, dy, seed)


@given(shape=sides, name=st.sampled_from(names), seed=st.integers(0, 99))
def test_gradients_are_slopes_of_central_differences(name, shape, seed):
    member = Member(name, shape, {"r_max": 1.0, "d_max": 0.0} if name == "batch_renorm" else {})
    arrays, dy = member.draw(seed)
    _, *gradients = member.both(arrays, dy)
    rng, h = np.random.default_rng(seed), 1e-6
    for i, gradient in zip(member.differentiable, gradients, strict=True):
        t = rng.standard_normal(arrays[i].shape)
        up, down = (
            np.sum(dy * member.forward(*arrays[:i], arrays[i] + s * t, *arrays[i + 1 :])[0])
            for s in (h, -h)
        )
        terms = np.abs(gradient * t).sum()
        assert abs((up - down) / (2 * h) - np.sum(gradient * t)) <= 1e-4 * (1 + terms)


@each("layout", LAYOUTS)
@parametrize(MEMBERS)
def test_memory_layout_is_irrelevant_and_no_argument_changes(member, layout):
    arrays, dy = member.draw(dtype=np.float32)
    there = [layout(a) for a in (*arrays, dy)]
    results = member.both(there[:-1], there[-1])
    for got, expected in zip(results, member.both(arrays, dy), strict=True):
        assert_array_equal(got, expected)
    for a, b in zip(there, (*arrays, dy), strict=True):
        assert_array_equal(a, b)


@each(("member", "size"), [*product(MEMBERS, ["tiny"]), *product(LARGE, ["small", "middle"])])
@each("dtype", [np.float32, np.float64])
def test_many_small_tiles_agree_with_one_whatever_the_number_of_threads(
    member, dtype, size, threads
):
    arrays, dy = member.draw(dtype=dtype)
    expected = member.both(arrays, dy)
    found = []
    with small_tiles(size):
        for number in (1, 2, 5):
            threads(number)
            found.append(member.both(arrays, dy))
    for k, e in enumerate(expected):
        assert_close(found[0][k], e, 1e-13 if dtype == np.float64 else 2e-7)
        assert_array_equal(found[1][k], found[0][k])
        assert_array_equal(found[2][k], found[0][k])


@each("dtype", [np.float32, np.float16])
@parametrize([*MEMBERS, *LARGE])
def test_narrow_results_are_rounded_once(member, dtype):
    arrays, dy = member.draw(3, dtype=dtype)
    wide = [a.astype(np.float64) for a in arrays]
    exact = member.both(wide, dy.astype(np.float64))
    for got, e in zip(member.both(arrays, dy), exact, strict=True):
        assert got.dtype == dtype
        if np.abs(e).max() < np.finfo(dtype).max:
            assert_rounded_once(got, e)


@parametrize(MEMBERS)
def test_every_dtype_comes_back(member):
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.longdouble):
        arrays, dy = member.draw(dtype=dtype)
        for got in member.both(arrays, dy):
            assert got.dtype == dtype


@parametrize([*MEMBERS, *LARGE])
def test_float32_in_float32_is_right_to_its_roundoff(member):
    arrays, dy = member.draw(dtype=np.float32)
    in_float64 = member.both(arrays, dy)
    for got, expected in zip(member.both(arrays, dy, dtype=np.float32), in_float64, strict=True):
        assert got.dtype == np.float32
        assert_close(got, expected, 4e-6)


@parametrize(MEMBERS)
def test_an_empty_array_gives_empty_results_and_sums_of_nothing(member):
    for axis in range(len(member.shape)):
        if member.name == "batch_renorm" and axis in member.axes:
            continue
        shape = tuple(0 if a == axis else n for a, n in enumerate(member.shape))
        empty = Member(member.name, shape, member.options)
        if member.name == "spectral_norm":
            c = empty.axes[0]
            u = np.ones(shape[c])
            arrays = [np.ones(shape), u, np.ones(int(np.prod(shape[:c] + shape[c + 1 :])))]
            dy = np.ones(shape)
        else:
            arrays, dy = empty.draw()
        y, *gradients = empty.both(arrays, dy)
        assert y.shape == shape
        for i, gradient in zip(member.differentiable, gradients, strict=True):
            assert gradient.shape == arrays[i].shape
            assert not gradient.any()


REFUSED = {
    "int64": lambda a: a.astype(np.int64),
    "bool": lambda a: a > 0,
    "object": lambda a: a.astype(object),
    "masked": np.ma.masked_array,
}


@each("kind", REFUSED)
@parametrize(MEMBERS)
def test_an_array_of_another_kind_is_refused(member, kind):
    arrays, dy = member.draw()
    _, cache = member.forward(*arrays)
    for i, a in enumerate(arrays):
        with pytest.raises(TypeError, match=kind):
            member.forward(*arrays[:i], REFUSED[kind](a), *arrays[i + 1 :])
    backward = getattr(numpy_norms, f"{member.name}_backward")
    with pytest.raises(TypeError, match=f"d[yw].*{kind}"):
        backward(REFUSED[kind](dy), cache)
    with pytest.raises(ValueError, match=r"d[yw] has shape .*, but [yw] has"):
        backward(dy[..., :0], cache)
    with pytest.raises(TypeError, match=f"the cache of {member.name}_forward was expected"):
        backward(cache, dy)


@parametrize([m for m in MEMBERS if len(m.draw()[0]) > 1])
def test_a_parameter_of_another_shape_is_refused_and_the_cure_works(member):
    arrays, _ = member.draw()
    for i in range(1, len(arrays)):
        wrong = [*arrays[:i], np.ones((7, 7)), *arrays[i + 1 :]]
        with pytest.raises(ValueError, match=r"has shape \(7, 7\), but .*; pass"):
            member.forward(*wrong)


@parametrize([m for m in MEMBERS if len(m.differentiable) > 1])
def test_a_real_parameter_of_a_complex_array_has_no_gradient_here_and_the_cure_works(member):
    arrays, dy = member.draw()
    arrays[0] = arrays[0] + 0j
    with pytest.raises(TypeError, match=r"pass \w+\.astype\(np\.complex128\) to the forward pass"):
        member.both(arrays, dy)
    of_complex = member.both([a + 0j for a in arrays], dy)
    for got, expected in zip(of_complex, member.both([a.real for a in arrays], dy), strict=True):
        assert_close(got, expected, 1e-13)


@parametrize([m for m in MEMBERS if "channel_axis" in m.options])
def test_an_axis_that_is_not_there_is_refused(member):
    arrays, _ = member.draw()
    with pytest.raises(ValueError, match="channel_axis is 9"):
        member.forward(*arrays, channel_axis=9)
    with pytest.raises(TypeError, match=r"channel_axis is 1\.5"):
        member.forward(*arrays, channel_axis=1.5)
