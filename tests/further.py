"""What the tests of the norms outside the common equation share."""

import numpy as np
from measure import assert_close

STEP = 1e-30


def draw(shape, seed=0, *, mean=2.0, dtype=np.float64):
    """Draw x with a nonzero mean, and a random dy (ones prove nothing)."""
    rng = np.random.default_rng(seed)
    x = mean + 1.5 * rng.standard_normal(shape)
    return x.astype(dtype), rng.standard_normal(shape).astype(dtype)


def jacobian_by_columns(forward, x):
    """Differentiate every output along one input at a time, by the complex step."""
    units = np.eye(x.size).reshape(-1, *x.shape)
    return np.array([forward(x + STEP * 1j * u)[0].imag.ravel() / STEP for u in units]).T


def jacobian_by_rows(forward, backward, x):
    """Pull one output at a time back to all inputs."""
    _, cache = forward(x)
    units = np.eye(x.size).reshape(-1, *x.shape)
    return np.array([backward(u, cache).ravel() for u in units])


def assert_jacobians_agree(forward, backward, x, tolerance=1e-12):
    """Compare the backward pass with the complex step of the forward pass."""
    rows = jacobian_by_rows(forward, backward, x)
    assert_close(rows, jacobian_by_columns(forward, x), tolerance)


def assert_layout_is_irrelevant(forward, backward, x, dy, layout):
    """Compare, bit for bit, with contiguous arrays; no argument may change."""
    y, cache = forward(x)
    expected = y, backward(dy, cache)
    there, dy_there = layout(x), layout(dy)
    y, cache = forward(there)
    np.testing.assert_array_equal(y, expected[0])
    np.testing.assert_array_equal(backward(dy_there, cache), expected[1])
    np.testing.assert_array_equal(there, x)
    np.testing.assert_array_equal(dy_there, dy)


def assert_sets_do_not_see_each_other(forward, backward, x, dy):
    """Compare, bit for bit, with the first index of the first axis alone."""
    y, cache = forward(x)
    first, first_cache = forward(x[:1])
    np.testing.assert_array_equal(first, y[:1])
    dx = backward(dy, cache)
    np.testing.assert_array_equal(backward(dy[:1], first_cache), dx[:1])


def assert_rounded_once(got, exact):
    """Allow half a unit in the last place, and the rounding of float64."""
    half = np.spacing(np.abs(got)).astype(np.float64) / 2
    assert (np.abs(got.astype(np.float64) - exact) <= half * (1 + 1e-6)).all()
