"""Every norm on inputs of any structure, against both oracles."""

import longhand
import numpy as np
import pytest
from cases import NORMS, parametrize
from extended import Reference
from hypothesis import assume, given
from hypothesis import strategies as st
from measure import assert_close, assert_rounded_once, assert_within_float64
from strategies import problems

narrow = pytest.mark.parametrize("dtype", [np.float16, np.float32])


def expected_of(problem):
    """Return exact results and their scales, by argument."""
    reference = Reference(problem.norm, **problem.arrays, eps=problem.eps)
    gradients = {"x": reference.dx(problem.dy)}
    for name in problem.arrays.keys() - {"x"}:
        gradients[name] = getattr(reference, f"d{name}")(problem.dy)
    return reference.y(), gradients


@parametrize(NORMS)
def test_forward_and_backward_agree_with_loops_over_the_definition(norm):
    arrays, dy = norm.draw()
    sets = {"set_of": norm.set_of, "parameter_of": norm.parameter_of, "eps": 0.7}
    sets["centered"] = norm.centered
    y, gradients = norm.both(arrays, dy, eps=0.7)
    assert_close(y, longhand.forward(**arrays, **sets), 1e-13)
    expected = longhand.backward(dy, **arrays, **sets)
    for name, gradient in gradients.items():
        assert_close(gradient, expected[("x", "gamma", "beta").index(name)], 1e-13)


@given(problems(np.float64))
def test_float64_is_exact_to_a_few_roundoffs_whatever_the_mean_and_the_scale(problem):
    y, gradients = problem.norm.both(problem.arrays, problem.dy, eps=problem.eps)
    exact_y, exact_gradients = expected_of(problem)
    assert_within_float64(y, *exact_y, terms=problem.norm.set_size)
    for name, exact in exact_gradients.items():
        assert_within_float64(gradients[name], *exact, terms=problem.dy.size)


@narrow
@given(data=st.data())
def test_narrow_results_are_rounded_once(dtype, data):
    problem = data.draw(problems(dtype))
    exact_y, exact_gradients = expected_of(problem)
    assume(np.abs(exact_gradients["x"][0].hi).max() < np.finfo(dtype).max)
    y, gradients = problem.norm.both(problem.arrays, problem.dy, eps=problem.eps)
    assert_rounded_once(y, *exact_y)
    for name, exact in exact_gradients.items():
        assert_rounded_once(gradients[name], *exact)


@given(problems(np.float32))
def test_results_have_the_shapes_and_types_of_their_arguments(problem):
    arrays = {name: a.astype(np.float64) for name, a in problem.arrays.items()}
    arrays["x"] = problem.arrays["x"]
    y, gradients = problem.norm.both(arrays, problem.dy, eps=problem.eps)
    assert (y.shape, y.dtype) == (problem.dy.shape, np.float32)
    for name, gradient in gradients.items():
        assert (gradient is None) == (name not in arrays)
        if gradient is not None:
            assert (gradient.shape, gradient.dtype) == (arrays[name].shape, arrays[name].dtype)


@given(problems(np.float64))
def test_the_cache_holds_the_statistics_of_the_sets(problem):
    norm = problem.norm
    _, cache = norm.forward(problem.arrays, eps=problem.eps)
    reference = Reference(norm, problem.arrays["x"], eps=problem.eps)
    expected_rstd = reference.rstd.hi[:, 0] * 2.0**-reference.exponent
    np.testing.assert_allclose(cache.rstd.ravel(), expected_rstd, rtol=1e-13)
    assert (cache.mean is None) == (not norm.centered)
    if norm.centered:
        mean = np.ldexp(reference.mean.hi[:, 0], reference.exponent)
        assert np.abs(cache.mean.ravel() - mean).max() <= 1e-14 * np.abs(problem.arrays["x"]).max()
