"""Laws of the forward pass: what normalization means, with no expected values."""

import numpy as np
from cases import CENTERED, FIVE, INFERENCE, NORMS, parametrize
from each import each
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from strategies import has_constant_set, problems

powers = each("k", [-20, -3, 1, 11, 20])


def x_hat_of(norm, x, eps=1e-5):
    """Normalize without gamma and beta."""
    return norm.forward({"x": x}, eps=eps)[0]


@given(problems())
def test_x_hat_sums_to_zero_over_every_set(problem):
    assume(problem.norm.centered)
    rows = problem.norm.rows(x_hat_of(problem.norm, problem.arrays["x"], problem.eps))
    assert np.abs(rows.mean(axis=1)).max() <= 1e-14 * max(np.abs(rows).max(), 1e-300)


@given(problems())
def test_the_mean_square_of_x_hat_is_var_over_var_plus_eps(problem):
    norm, x = problem.norm, problem.arrays["x"]
    y, cache = norm.forward({"x": x}, eps=problem.eps)
    squares = (norm.rows(y) ** 2).mean(axis=1)
    assert_allclose(squares, 1 - problem.eps * cache.rstd.ravel() ** 2, atol=1e-13)


@given(problems())
def test_no_entry_of_x_hat_exceeds_the_root_of_the_others_count(problem):
    norm = problem.norm
    y = x_hat_of(norm, problem.arrays["x"], problem.eps)
    bound = np.sqrt(norm.set_size - norm.centered)
    assert np.abs(y).max() <= bound * (1 + 1e-14)


@parametrize(CENTERED)
def test_a_shift_of_x_changes_nothing(norm):
    arrays, _ = norm.draw()
    shifted = {**arrays, "x": arrays["x"] + 4.0}
    assert_allclose(norm.forward(shifted)[0], norm.forward(arrays)[0], rtol=1e-12)


@parametrize([norm for norm in NORMS if not norm.centered])
def test_a_shift_of_x_changes_rms_norm(norm):
    arrays, _ = norm.draw()
    shifted = {**arrays, "x": arrays["x"] + 4.0}
    assert np.abs(norm.forward(shifted)[0] - norm.forward(arrays)[0]).max() > 0.1


@powers
@parametrize(NORMS)
def test_scaling_x_by_a_power_of_two_and_eps_by_its_square_changes_no_bit(norm, k):
    arrays, dy = norm.draw()
    scaled = {**arrays, "x": np.ldexp(arrays["x"], k)}
    y, gradients = norm.both(arrays, dy, eps=0.7)
    scaled_y, scaled_gradients = norm.both(scaled, dy, eps=0.7 * 4.0**k)
    assert_array_equal(scaled_y, y)
    assert_array_equal(np.ldexp(scaled_gradients.pop("x"), k), gradients.pop("x"))
    for name, gradient in gradients.items():
        assert_array_equal(scaled_gradients[name], gradient)


@given(problems(np.float32))
def test_negating_x_negates_x_hat_to_the_last_bit(problem):
    x = problem.arrays["x"]
    y = x_hat_of(problem.norm, x, problem.eps)
    assert_array_equal(x_hat_of(problem.norm, -x, problem.eps), -y)


@parametrize(NORMS)
def test_negating_x_negates_x_hat_and_dgamma_in_float64(norm):
    arrays, dy = norm.draw()
    arrays.pop("beta", None)
    y, gradients = norm.both(arrays, dy)
    negated_y, negated = norm.both({**arrays, "x": -arrays["x"]}, dy)
    assert_array_equal(negated_y, -y)
    assert_array_equal(negated["x"], gradients["x"])
    assert_array_equal(negated["gamma"], -gradients["gamma"])


@given(problems(np.float32))
def test_order_is_kept_and_ties_stay_ties(problem):
    norm, x = problem.norm, problem.arrays["x"]
    y = x_hat_of(norm, x, problem.eps)
    order = np.argsort(norm.rows(x), axis=1)
    x_sorted, y_sorted = (np.take_along_axis(norm.rows(a), order, axis=1) for a in (x, y))
    assert (np.diff(y_sorted) >= 0).all()
    assert (np.diff(y_sorted)[np.diff(x_sorted) == 0] == 0).all()


@given(problems())
def test_normalizing_twice_is_normalizing_once_when_eps_is_0(problem):
    norm, x = problem.norm, problem.arrays["x"]
    assume(not has_constant_set(norm, x) and norm.set_size > 2)
    once = x_hat_of(norm, x, 0.0)
    assert_allclose(x_hat_of(norm, once, 0.0), once, atol=1e-13)


@parametrize(FIVE)
def test_permuting_a_set_permutes_its_results(norm):
    places = norm.rows(np.arange(np.prod(norm.shape))).astype(int)
    order = np.random.default_rng(2).permutation(norm.set_size)
    x, permuted = norm.draw()[0]["x"], np.empty(norm.shape)
    permuted.flat[places] = x.flat[places[:, order]]
    y, y_permuted = x_hat_of(norm, x), x_hat_of(norm, permuted)
    assert_allclose(y_permuted.flat[places], y.flat[places[:, order]], rtol=1e-12)


@given(data=st.data())
@parametrize(FIVE)
def test_permuting_a_set_of_exact_sums_permutes_its_results_to_the_last_bit(norm, data):
    # As many 2 as 4 in a set: mean, deviations and squares are small integers.
    places = norm.rows(np.arange(np.prod(norm.shape))).astype(int)
    x, permuted = np.empty(norm.shape), np.empty(norm.shape)
    x.flat[places] = np.where(np.arange(norm.set_size) % 2, 4.0, 2.0)
    order = data.draw(st.permutations(range(norm.set_size)))
    permuted.flat[places] = x.flat[places[:, order]]
    expected = x_hat_of(norm, x).flat[places[:, order]]
    assert_array_equal(x_hat_of(norm, permuted).flat[places], expected)


@parametrize([*NORMS, INFERENCE])
def test_y_is_linear_in_gamma_and_beta(norm):
    (first, _), (second, _) = norm.draw(1), norm.draw(2)
    fixed = {n: a for n, a in first.items() if n not in ("gamma", "beta")}
    y = {}
    for weight in (0.0, 1.0, 0.25):
        mixed = {n: (1 - weight) * first[n] + weight * second[n] for n in first.keys() - fixed}
        y[weight] = norm.forward({**fixed, **mixed})[0]
    assert_allclose(y[0.25], 0.75 * y[0.0] + 0.25 * y[1.0], atol=1e-13)


@parametrize([*NORMS, INFERENCE])
def test_an_absent_gamma_is_1_and_an_absent_beta_is_0(norm):
    arrays, dy = norm.draw()
    given_as = {"gamma": np.ones(norm.parameter_shape), "beta": np.zeros(norm.parameter_shape)}
    explicit = {n: given_as.get(n, a) for n, a in arrays.items()}
    absent = {n: a for n, a in arrays.items() if n not in given_as}
    y, gradients = norm.both(explicit, dy)
    y_absent, gradients_absent = norm.both(absent, dy)
    assert_allclose(y_absent, y, rtol=1e-14)
    assert_allclose(gradients_absent["x"], gradients["x"], atol=1e-14)
    assert gradients_absent["gamma"] is None


@parametrize(FIVE)
def test_one_set_never_touches_another(norm):
    arrays, dy = norm.draw()
    mine = np.zeros(norm.shape, dtype=bool)
    mine.flat[norm.rows(np.arange(mine.size)).astype(int)[1]] = True
    others = {**arrays, "x": np.where(mine, arrays["x"], 1e9 - arrays["x"])}
    y, gradients = norm.both(arrays, dy)
    y_others, gradients_others = norm.both(others, np.where(mine, dy, -dy))
    assert_array_equal(y_others[mine], y[mine])
    assert_array_equal(gradients_others["x"][mine], gradients["x"][mine])
