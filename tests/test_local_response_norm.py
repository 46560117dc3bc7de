"""Local response norm: the window, both its even forms, and the gradient through it."""

from functools import partial

import numpy as np
import pytest
import torch
from each import each
from further import (
    assert_jacobians_agree,
    assert_layout_is_irrelevant,
    assert_rounded_once,
    assert_sets_do_not_see_each_other,
    draw,
)
from layouts import LAYOUTS
from measure import assert_close
from mpmath import mp, mpf
from numpy.testing import assert_allclose, assert_array_equal

from numpy_norms import local_response_norm_backward, local_response_norm_forward

LETTERS = {"alpha": 0.7, "beta": 0.6, "k": 1.3}
sizes = each("size", [1, 2, 3, 4, 5, 12])
windows = each("even_window", ["lower", "upper"])


def by_definition(x, size, even_window, *, alpha, beta, k):
    """Loop over (N, C, S), channel by channel, in 40 digits."""
    more, less = size // 2, (size - 1) // 2
    below, above = (more, less) if even_window == "lower" else (less, more)
    y = np.empty(x.shape)
    with mp.workdps(40):
        for n, c, s in np.ndindex(x.shape):
            window = range(max(0, c - below), min(x.shape[1], c + above + 1))
            energy = sum(mpf(float(x[n, j, s])) ** 2 for j in window)
            y[n, c, s] = mpf(float(x[n, c, s])) / (k + mpf(alpha) / size * energy) ** mpf(beta)
    return y


@sizes
@windows
def test_forward_is_the_definition(size, even_window):
    x, _ = draw((2, 5, 3))
    y, _ = local_response_norm_forward(x, size, even_window=even_window, **LETTERS)
    assert_allclose(y, by_definition(x, size, even_window, **LETTERS), rtol=1e-14)


@sizes
@windows
def test_backward_is_the_complex_step(size, even_window):
    x, _ = draw((2, 5, 3), mean=-1.0)
    forward = partial(local_response_norm_forward, size=size, even_window=even_window, **LETTERS)
    assert_jacobians_agree(forward, local_response_norm_backward, x)


@sizes
@each("shape", [(2, 5, 3), (2, 5, 3, 4), (2, 5, 3, 4, 1)])
def test_the_lower_window_is_pytorch(size, shape):
    x, dy = draw(shape, size)
    leaf = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.local_response_norm(leaf, size, **LETTERS)
    expected.backward(torch.tensor(dy))
    y, cache = local_response_norm_forward(x, size, **LETTERS)
    assert_close(y, expected.detach().numpy(), 1e-14)
    assert_close(local_response_norm_backward(dy, cache), leaf.grad.numpy(), 1e-14)


def within_by_definition(x, size, axes, below, *, alpha, beta, k):
    """Loop over all places and their windows, in 40 digits."""
    y = np.empty(x.shape)
    with mp.workdps(40):
        for place in np.ndindex(x.shape):
            window = tuple(
                slice(max(0, i - below), i - below + size) if a in axes else slice(i, i + 1)
                for a, i in enumerate(place)
            )
            energy = mp.fsum(mpf(float(v)) ** 2 for v in x[window].ravel())
            s = k + mpf(alpha) / size ** len(axes) * energy
            y[place] = mpf(float(x[place])) / s ** mpf(beta)
    return y


@each("axes", [(2, 3), (-1, 0), (1, 2, 3), (0,)])
@each(("size", "even_window", "below"), [(3, "lower", 1), (4, "lower", 2), (4, "upper", 1)])
def test_a_window_over_any_axes_is_the_definition(axes, size, even_window, below):
    x, _ = draw((2, 3, 5, 4))
    y, _ = local_response_norm_forward(x, size, axis=axes, even_window=even_window, **LETTERS)
    counted = [a % 4 for a in axes]
    assert_allclose(y, within_by_definition(x, size, counted, below, **LETTERS), rtol=1e-14)


@windows
@each("size", [1, 2, 3, 9])
@each("axes", [(2, 3), (0, 2), (1, 2, 3)])
def test_backward_over_several_axes_is_the_complex_step(axes, size, even_window):
    x, _ = draw((2, 3, 4, 1), mean=-1.0)
    options = {"size": size, "axis": axes, "even_window": even_window}
    forward = partial(local_response_norm_forward, **options, **LETTERS)
    assert_jacobians_agree(forward, local_response_norm_backward, x)


@each("shape", [(2, 2, 300, 200), (1, 1, 3, 40_000), (1, 2, 40_000, 2)])
def test_within_channels_in_pieces_is_caffe_s_pooling_of_squares(shape):
    x, dy = draw(shape)
    leaf = torch.tensor(x, requires_grad=True)
    mean_square = torch.nn.functional.avg_pool2d(leaf * leaf, 5, stride=1, padding=2)
    expected = leaf / (1 + 0.7 * mean_square) ** 0.6
    expected.backward(torch.tensor(dy))
    y, cache = local_response_norm_forward(x, 5, alpha=0.7, beta=0.6, axis=(2, 3))
    assert_close(y, expected.detach().numpy(), 1e-14)
    assert_close(local_response_norm_backward(dy, cache), leaf.grad.numpy(), 1e-14)


@each("size", [1, 4, 5, 300])
def test_channels_that_are_worked_on_in_pieces_are_pytorch_s(size):
    x, dy = draw((2, 70_000, 1), size)
    leaf = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.local_response_norm(leaf, size, **LETTERS)
    expected.backward(torch.tensor(dy))
    y, cache = local_response_norm_forward(x, size, **LETTERS)
    assert_close(y, expected.detach().numpy(), 1e-14)
    assert_close(local_response_norm_backward(dy, cache), leaf.grad.numpy(), 1e-14)


@each(("even_window", "touched"), [("lower", [3, 4]), ("upper", [2, 3])])
def test_an_even_window_reaches_one_channel_further_on_one_side(even_window, touched):
    x = np.ones((1, 6))
    changed = x.copy()
    changed[0, 3] = 2.0
    option = {"even_window": even_window}
    before, _ = local_response_norm_forward(x, 2, **option)
    after, _ = local_response_norm_forward(changed, 2, **option)
    assert_array_equal(np.flatnonzero(before != after), touched)


@each("size", [2, 3, 4, 7])
def test_the_upper_window_is_the_lower_one_seen_from_the_other_end(size):
    x, dy = draw((3, 6, 2))
    y, cache = local_response_norm_forward(x, size, **LETTERS)
    back = np.s_[:, ::-1]
    other, other_cache = local_response_norm_forward(x[back], size, even_window="upper", **LETTERS)
    assert_allclose(other[back], y, rtol=1e-15)
    dx = local_response_norm_backward(dy, cache)
    assert_close(local_response_norm_backward(dy[back], other_cache)[back], dx, 1e-15)


@each("axis", [0, 2, -1])
def test_channels_may_lie_on_any_axis(axis):
    x, dy = draw((2, 5, 3))
    y, cache = local_response_norm_forward(x, 3, **LETTERS)
    there = partial(np.moveaxis, source=1, destination=axis)
    moved, moved_cache = local_response_norm_forward(there(x), 3, axis=axis, **LETTERS)
    assert_array_equal(moved, there(y))
    dx = local_response_norm_backward(there(dy), moved_cache)
    assert_array_equal(dx, there(local_response_norm_backward(dy, cache)))


def test_the_paper_s_alpha_is_ours_divided_by_size():
    # Krizhevsky et al. 2012: k = 2, n = 5, alpha = 1e-4, beta = 0.75.
    x = np.full((1, 7), 30.0)
    y, _ = local_response_norm_forward(x, 5, alpha=5e-4, beta=0.75, k=2.0)
    assert_allclose(y[0, 3], 30.0 / (2 + 1e-4 * 5 * 900.0) ** 0.75, rtol=1e-15)


def test_scaling_x_and_the_root_of_k_scales_y_by_a_power():
    x, dy = draw((2, 5, 3))
    y, cache = local_response_norm_forward(x, 3, alpha=0.7, beta=0.6, k=1.3)
    y4, cache4 = local_response_norm_forward(4 * x, 3, alpha=0.7, beta=0.6, k=16 * 1.3)
    power = 4.0 ** (1 - 2 * 0.6)
    assert_allclose(y4, power * y, rtol=1e-14)
    dx = local_response_norm_backward(dy, cache)
    assert_close(local_response_norm_backward(dy, cache4), power / 4 * dx, 1e-14)


def test_narrow_results_are_rounded_once():
    x, dy = draw((3, 7, 5), dtype=np.float32)
    y, cache = local_response_norm_forward(x, 5, **LETTERS)
    dx = local_response_norm_backward(dy, cache)
    wide, wide_cache = local_response_norm_forward(x.astype(np.float64), 5, **LETTERS)
    assert y.dtype == dx.dtype == np.float32
    assert_rounded_once(y, wide)
    assert_rounded_once(dx, local_response_norm_backward(dy.astype(np.float64), wide_cache))


@each("scale", [1e-200, 1e180, 1e300])
def test_squares_that_leave_float64_do_no_harm(scale):
    x, dy = draw((2, 5, 3))
    letters = {"alpha": 0.7, "beta": 0.4, "k": 0.0}
    y, cache = local_response_norm_forward(x, 3, **letters)
    far, far_cache = local_response_norm_forward(scale * x, 3, **letters)
    assert_allclose(far / scale**0.2, y, rtol=1e-13)
    dx = local_response_norm_backward(dy, cache)
    assert_close(local_response_norm_backward(dy, far_cache) * scale**0.8, dx, 1e-13)


def test_a_nan_stays_within_its_window():
    x, dy = draw((2, 7, 3))
    x[1, 2, 0] = np.nan
    y, cache = local_response_norm_forward(x, 3)
    dx = local_response_norm_backward(dy, cache)
    bad_y, bad_dx = np.argwhere(np.isnan(y)), np.argwhere(np.isnan(dx))
    assert_array_equal(bad_y, [[1, 1, 0], [1, 2, 0], [1, 3, 0]])
    assert_array_equal(bad_dx, [[1, c, 0] for c in range(5)])


def test_a_sample_alone_has_the_bits_that_it_has_in_a_large_batch():
    x, dy = draw((70, 31, 29), dtype=np.float32)
    x[-1, 0, 0] = np.inf
    forward = partial(local_response_norm_forward, size=5)
    assert_sets_do_not_see_each_other(forward, local_response_norm_backward, x, dy)


@each("layout", LAYOUTS)
def test_memory_layout_is_irrelevant(layout):
    x, dy = draw((2, 5, 3))
    forward = partial(local_response_norm_forward, size=3)
    assert_layout_is_irrelevant(forward, local_response_norm_backward, x, dy, layout)


def test_without_a_weight_it_is_a_division_at_any_scale():
    x, dy = np.array([[1e160, -1e300, 0.0]]), np.array([[1e100, 2.0, -3.0]])
    y, cache = local_response_norm_forward(x, 3, alpha=0, beta=1, k=2)
    assert_allclose(y, x / 2, rtol=1e-15)
    assert_allclose(local_response_norm_backward(dy, cache), dy / 2, rtol=1e-15)


@each("beta", [0.5, 0.75, 1.0, 0.0, -0.5])
@each("dtype", [np.float32, np.float64, np.complex128])
def test_a_window_of_zeros_without_k_gives_zeros_and_reaches_no_other(beta, dtype):
    x, dy = draw((2, 9, 3), dtype=dtype)
    x[:, 2:6] = 0
    y, cache = local_response_norm_forward(x, 3, beta=beta, k=0.0)
    dx = local_response_norm_backward(dy, cache)
    near, near_cache = local_response_norm_forward(x, 3, beta=beta, k=1e-30)
    near_dx = local_response_norm_backward(dy, near_cache)
    assert_array_equal(y[:, 3:5], 0)
    assert_array_equal(dx[:, 3:5], 0 if beta else dy[:, 3:5])
    seen = [0, 1, 6, 7, 8]  # of whose own windows none is all zeros
    assert_close(y[:, seen], near[:, seen], 1e-6)
    assert_close(dx[:, seen], near_dx[:, seen], 1e-6)


def test_no_channels_and_no_samples_give_empty_arrays():
    for shape in [(0, 5, 3), (2, 0, 3)]:
        y, cache = local_response_norm_forward(np.empty(shape), 3)
        assert y.shape == local_response_norm_backward(np.empty(shape), cache).shape == shape


@each(
    ("option", "message"),
    [
        ({"size": 0}, "size is 0; pass the number of places"),
        ({"even_window": "both"}, "even_window is 'both'; pass 'lower'"),
        ({"alpha": -1.0}, "alpha=-1.0"),
        ({"k": np.nan}, "k=nan"),
        ({"axis": 3}, "axis is 3"),
        ({"axis": (1, 1)}, "names an axis twice"),
    ],
)
def test_a_wrong_option_is_named(option, message):
    with pytest.raises(ValueError, match=message):
        local_response_norm_forward(np.ones((2, 5, 3)), **{"size": 3, **option})


def test_wrong_arguments_of_the_backward_pass_are_named():
    x = np.ones((2, 5))
    y, cache = local_response_norm_forward(x, 3)
    with pytest.raises(ValueError, match=r"dy has shape \(5,\), but y has \(2, 5\)"):
        local_response_norm_backward(x[0], cache)
    with pytest.raises(TypeError, match="cache is a ndarray, but the cache of local_response_norm"):
        local_response_norm_backward(cache, y)
    with pytest.raises(TypeError, match="x has dtype int64"):
        local_response_norm_forward(np.ones((2, 5), int), 3)
