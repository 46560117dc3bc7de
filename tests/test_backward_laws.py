"""Laws of the backward pass: what must hold between gradients, with no expected values."""

import numpy as np
from cases import CENTERED, FIVE, INFERENCE, NORMS, parametrize
from each import each
from hypothesis import assume, given
from measure import assert_close
from numpy.testing import assert_allclose, assert_array_equal
from strategies import problems

EPS = 0.7


def jvp(norm, arrays, tangent, eps=EPS):
    """Differentiate y along ``tangent`` of x, by the complex step."""
    return norm.forward({**arrays, "x": arrays["x"] + 1e-30j * tangent}, eps=eps)[0].imag / 1e-30


def unscaled(norm, seed=0):
    """Draw x and dy and leave gamma and beta out."""
    arrays, dy = norm.draw(seed)
    return {"x": arrays["x"]}, dy


def random_tangent(norm):
    return np.random.default_rng(9).standard_normal(norm.shape)


@parametrize(NORMS)
def test_without_gamma_forward_and_backward_derivatives_are_the_same_function(norm):
    arrays, _ = unscaled(norm)
    tangent = random_tangent(norm)
    _, gradients = norm.both(arrays, tangent, eps=EPS)
    assert_close(gradients["x"], jvp(norm, arrays, tangent), 1e-13)


@parametrize([*NORMS, INFERENCE])
def test_backward_is_the_adjoint_of_the_forward_derivative(norm):
    arrays, dy = norm.draw()
    tangent = random_tangent(norm)
    _, gradients = norm.both(arrays, dy, eps=EPS)
    forward, backward = dy * jvp(norm, arrays, tangent), gradients["x"] * tangent
    assert abs(forward.sum() - backward.sum()) <= 1e-14 * np.abs(backward).sum()


@given(problems())
def test_dx_sums_to_zero_over_every_set(problem):
    norm = problem.norm
    _, gradients = norm.both(problem.arrays, problem.dy, eps=problem.eps)
    assume(norm.centered)
    _, exact = norm.exact(problem.arrays, problem.dy, problem.eps)
    sums = np.abs(norm.rows(gradients["x"] / exact["x"].scale.max()).sum(axis=1))
    assert sums.max() <= 1e-14 * norm.set_size


@parametrize([norm for norm in NORMS if not norm.centered])
def test_dx_of_rms_norm_does_not_sum_to_zero(norm):
    arrays, dy = norm.draw()
    _, gradients = norm.both(arrays, dy, eps=EPS)
    assert np.abs(norm.rows(gradients["x"]).sum(axis=1)).min() > 1e-3


@each("eps", [0.0, 1e-3, 0.7, 100.0])
@parametrize(NORMS)
def test_dx_along_x_hat_is_eps_rstd_cubed_times_that_of_dx_hat(norm, eps):
    # Exact for every eps; the well-known 0 is its limit. So this tests where eps enters.
    arrays, dy = unscaled(norm)
    x_hat, cache = norm.forward(arrays, eps=eps)
    dx = norm.rows(norm.backward(dy, cache)["x"])
    x_hat, rstd = norm.rows(x_hat), cache.rstd.ravel()
    expected = eps * rstd**3 * (norm.rows(dy) * x_hat).sum(axis=1)
    scale = rstd * np.abs(norm.rows(dy) * x_hat).sum(axis=1)
    assert (np.abs((dx * x_hat).sum(axis=1) - expected) <= 1e-13 * scale).all()


@parametrize(CENTERED)
def test_a_constant_dy_gives_no_dx(norm):
    arrays, _ = unscaled(norm)
    _, gradients = norm.both(arrays, np.full(norm.shape, 1.7), eps=EPS)
    assert np.abs(gradients["x"]).max() <= 1e-14


@parametrize(NORMS)
def test_x_hat_is_an_eigenvector_of_the_jacobian_with_value_eps_rstd_cubed(norm):
    arrays, _ = unscaled(norm)
    x_hat, cache = norm.forward(arrays, eps=EPS)
    dx = norm.rows(norm.backward(x_hat, cache)["x"])
    assert_close(dx, EPS * cache.rstd.reshape(-1, 1) ** 3 * norm.rows(x_hat), 1e-13)


@parametrize(FIVE)
def test_the_spectrum_of_the_jacobian_is_rstd_eps_rstd_cubed_and_0(norm):
    arrays, _ = unscaled(norm)
    _, cache = norm.forward(arrays, eps=EPS)
    units = np.eye(arrays["x"].size).reshape(-1, *norm.shape)
    jacobian = np.array([norm.backward(unit, cache)["x"].ravel() for unit in units])
    m, rstd = norm.set_size, cache.rstd.ravel()
    zeros = [0.0] * norm.centered
    values = [[*zeros, EPS * r**3, *[r] * (m - 1 - norm.centered)] for r in rstd]
    expected = np.sort(np.ravel(values))
    assert_allclose(jacobian, jacobian.T, atol=1e-15)
    assert_allclose(np.linalg.eigvalsh(jacobian), expected, atol=1e-13)


@given(problems())
def test_parameters_times_their_gradients_sum_to_dy_times_y(problem):
    arrays, norm, dy = problem.arrays, problem.norm, problem.dy
    arrays = {**arrays, "gamma": arrays.get("gamma", np.ones(norm.parameter_shape))}
    y, gradients = norm.both(arrays, dy, eps=problem.eps)
    products = [arrays[n] * gradients[n] for n in ("gamma", "beta") if n in arrays]
    total = sum(product.sum() for product in products)
    scale = np.abs(dy * y).sum() + sum(np.abs(product).sum() for product in products)
    assert abs(total - (dy * y).sum()) <= 1e-13 * scale


@parametrize([*NORMS, INFERENCE])
def test_gradients_are_linear_in_dy(norm):
    arrays, first = norm.draw(1)
    second = random_tangent(norm)
    _, cache = norm.forward(arrays, eps=EPS)
    whole = norm.backward(3 * first - second, cache)
    parts = norm.backward(first, cache), norm.backward(second, cache)
    for name, gradient in whole.items():
        assert_allclose(gradient, 3 * parts[0][name] - parts[1][name], atol=1e-13)


@parametrize([*NORMS, INFERENCE])
def test_dy_of_zeros_gives_exact_zeros(norm):
    arrays, dy = norm.draw()
    _, gradients = norm.both(arrays, np.zeros_like(dy))
    assert all((gradient == 0).all() for gradient in gradients.values())


@parametrize([norm for norm in [*NORMS, INFERENCE] if "beta" in norm.parameters])
def test_dbeta_is_the_sum_of_dy(norm):
    arrays, dy = norm.draw()
    _, gradients = norm.both(arrays, dy)
    expected = np.zeros(norm.parameter_shape)
    np.add.at(expected.reshape(-1), norm.entries, dy)
    assert_allclose(gradients["beta"], expected, rtol=1e-13)


@parametrize(NORMS)
def test_dx_is_shift_free_and_dgamma_ignores_gamma(norm):
    arrays, dy = norm.draw()
    _, gradients = norm.both(arrays, dy, eps=EPS)
    _, changed = norm.both({**arrays, "gamma": arrays["gamma"] - 2}, dy, eps=EPS)
    assert_array_equal(changed["gamma"], gradients["gamma"])
    if norm.centered:
        _, shifted = norm.both({**arrays, "x": arrays["x"] + 8}, dy, eps=EPS)
        assert_allclose(shifted["x"], gradients["x"], atol=1e-13)


@parametrize(NORMS)
def test_y_along_x_changes_as_eps_says(norm):
    # Euler on f(a x; a^2 eps) = f(x; eps): <x, dy/dx> = eps rstd^2 gamma x_hat.
    arrays, _ = norm.draw()
    arrays.pop("beta", None)
    y, cache = norm.forward(arrays, eps=EPS)
    along_x = jvp(norm, arrays, arrays["x"])
    assert_close(norm.rows(along_x), EPS * cache.rstd.reshape(-1, 1) ** 2 * norm.rows(y), 1e-13)
