"""Analytic gradients against the complex step, differences and whole Jacobians."""

import numpy as np
from cases import FIVE, INFERENCE, NORMS, parametrize
from each import each
from measure import assert_close

EPS = 0.7
means = each("mean", [3.0, -1e6])


def loss(norm, arrays, dy, eps=EPS):
    """Return sum(dy * y), the number that dx, dgamma and dbeta differentiate."""
    y, _ = norm.forward(arrays, eps=eps)
    return (dy * y).sum()


def moved(arrays, name, at, step):
    """Copy ``arrays`` with one entry of one of them changed by ``step``."""
    kind = np.result_type(arrays[name], type(step))
    copies = {key: np.array(a, dtype=kind) for key, a in arrays.items()}
    copies[name][at] += step
    return copies


def complex_step(norm, arrays, dy, name):
    """Differentiate the loss; no subtraction, so no error but rounding."""
    gradient = np.empty(arrays[name].shape)
    for at in np.ndindex(gradient.shape):
        gradient[at] = loss(norm, moved(arrays, name, at, 1e-30j), dy).imag / 1e-30
    return gradient


def central_differences(norm, arrays, dy, name, *, step, eps):
    """Differentiate the loss to fourth order."""
    gradient = np.empty(arrays[name].shape)
    for at in np.ndindex(gradient.shape):
        near, far = (
            loss(norm, moved(arrays, name, at, k * step), dy, eps)
            - loss(norm, moved(arrays, name, at, -k * step), dy, eps)
            for k in (1, 2)
        )
        gradient[at] = (8 * near - far) / (12 * step)
    return gradient


@means
@parametrize([*NORMS, INFERENCE])
def test_gradients_are_the_complex_step(norm, mean):
    arrays, dy = norm.draw(mean=mean)
    _, gradients = norm.both(arrays, dy, eps=EPS)
    for name in arrays:
        assert_close(gradients[name], complex_step(norm, arrays, dy, name), 1e-12)


@each("std", [1e-20, 2.0, 1e20])
@parametrize(FIVE)
def test_gradients_are_central_differences_at_any_scale(norm, std):
    arrays, dy = norm.draw(mean=std, std=std)
    eps = 0.3 * std**2
    _, gradients = norm.both(arrays, dy, eps=eps)
    for name in arrays:
        step = 2e-3 * (std if name == "x" else 1.0)
        numeric = central_differences(norm, arrays, dy, name, step=step, eps=eps)
        assert_close(gradients[name], numeric, 1e-10)


def test_inference_gradients_are_central_differences_for_statistics_too():
    arrays, dy = INFERENCE.draw()
    _, gradients = INFERENCE.both(arrays, dy, eps=EPS)
    for name in arrays:
        numeric = central_differences(INFERENCE, arrays, dy, name, step=2e-3, eps=EPS)
        assert_close(gradients[name], numeric, 1e-10)


@parametrize(FIVE)
def test_the_jacobian_by_rows_is_the_jacobian_by_columns(norm):
    arrays, dy = norm.draw()
    _, cache = norm.forward(arrays, eps=EPS)
    units = np.eye(dy.size).reshape(-1, *dy.shape)
    rows = [norm.backward(unit, cache)["x"].ravel() for unit in units]
    columns = [
        norm.forward({**arrays, "x": arrays["x"] + 1e-30j * unit}, eps=EPS)[0].imag.ravel() / 1e-30
        for unit in units
    ]
    assert_close(np.array(rows), np.array(columns).T, 1e-12)
