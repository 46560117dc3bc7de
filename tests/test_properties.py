"""Every norm on inputs of any structure, against both oracles."""

import longhand
import numpy as np
from cases import NORMS, parametrize
from hypothesis import assume, given
from hypothesis import strategies as st
from measure import assert_close, assert_rounded_once, assert_within_float64
from strategies import problems


@parametrize(NORMS)
def test_forward_and_backward_agree_with_loops_over_the_definition(norm):
    arrays, dy = norm.draw()
    rules = longhand.rules(norm) | {"eps": 0.7}
    y, gradients = norm.both(arrays, dy, eps=0.7)
    assert_close(y, longhand.forward(**arrays, **rules), 1e-13)
    expected = longhand.backward(dy, **arrays, **rules)
    for name, gradient in gradients.items():
        assert_close(gradient, expected[("x", "gamma", "beta").index(name)], 1e-13)


@given(problems(np.float64))
def test_float64_is_exact_to_a_few_roundoffs_whatever_the_mean_and_the_scale(problem):
    y, gradients = problem.norm.both(problem.arrays, problem.dy, eps=problem.eps)
    exact_y, exact = problem.norm.exact(problem.arrays, problem.dy, problem.eps)
    assert_within_float64(y, exact_y, terms=problem.norm.set_size)
    for name in problem.arrays:
        assert_within_float64(gradients[name], exact[name], terms=problem.dy.size)


@given(st.one_of(problems(np.float16), problems(np.float32)))
def test_narrow_results_are_rounded_once(problem):
    exact_y, exact = problem.norm.exact(problem.arrays, problem.dy, problem.eps)
    assume(np.abs(exact["x"].value.hi).max() < np.finfo(problem.dy.dtype).max)
    y, gradients = problem.norm.both(problem.arrays, problem.dy, eps=problem.eps)
    assert_rounded_once(y, exact_y)
    for name in problem.arrays:
        assert_rounded_once(gradients[name], exact[name])


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
    norm, eps, m = problem.norm, problem.eps, range(problem.norm.set_size)
    _, cache = norm.forward(problem.arrays, eps=eps)
    rows = norm.rows(problem.arrays["x"])
    found = [longhand.statistics(row, m, eps, norm.centered) for row in rows]
    mean, _, rstd = np.transpose(found)
    np.testing.assert_allclose(cache.rstd.ravel(), rstd, rtol=1e-13)
    assert (cache.mean is None) == (not norm.centered)
    if norm.centered:
        assert np.abs(cache.mean.ravel() - mean).max() <= 1e-14 * np.abs(rows).max()
