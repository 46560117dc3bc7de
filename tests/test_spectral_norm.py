"""Spectral norm: PyTorch's parametrization, the singular values, 106-bit arithmetic."""

import numpy as np
import pytest
import torch
from each import each
from hypothesis import given
from hypothesis import strategies as st
from measure import assert_close
from numpy.testing import assert_allclose, assert_array_equal
from small_tiles import small_tiles
from torch.nn.utils.parametrizations import spectral_norm

from numpy_norms import power_iteration, spectral_norm_backward, spectral_norm_forward
from numpy_norms.oracle.double_double import Pair


def draw(shape, seed=0, dtype=np.float64):
    """Draw weights, u and v of length 1 for the first axis, and dw."""
    rng = np.random.default_rng(seed)
    weight, dw = 0.3 + rng.standard_normal(shape), rng.standard_normal(shape)
    u, v = rng.standard_normal(shape[0]), rng.standard_normal(int(np.prod(shape[1:])))
    u, v = u / np.linalg.norm(u), v / np.linalg.norm(v)
    return [a.astype(dtype) for a in (weight, u, v, dw)]


@each("iterations", [1, 3])
@each(
    ("kind", "options", "dim"),
    [
        (torch.nn.Linear, (5, 3), 0),
        (torch.nn.Conv2d, (4, 3, (2, 5)), 0),
        (torch.nn.ConvTranspose2d, (4, 3, (2, 5)), 1),
    ],
)
def test_a_layer_with_pytorch_s_parametrization_goes_the_same_way(kind, options, dim, iterations):
    torch.manual_seed(0)
    layer = spectral_norm(
        kind(*options, dtype=torch.float64), dim=dim, n_power_iterations=iterations
    )
    of = layer.parametrizations.weight
    weight, u, v = (a.detach().numpy().copy() for a in (of.original, of[0]._u, of[0]._v))
    dw = np.random.default_rng(0).standard_normal(weight.shape)
    for _ in range(3):  # each access in training is a step
        of.original.grad = None
        expected = layer.weight
        expected.backward(torch.tensor(dw))
        u, v = power_iteration(weight, u, v, channel_axis=dim, iterations=iterations)
        w, cache = spectral_norm_forward(weight, u, v, channel_axis=dim)
        assert_close(u, of[0]._u.numpy(), 1e-13)
        assert_close(v, of[0]._v.numpy(), 1e-13)
        assert_close(w, expected.detach().numpy(), 1e-13)
        assert_close(spectral_norm_backward(dw, cache), of.original.grad.numpy(), 1e-12)


def exact(weight, u, v, dw):
    """Evaluate w and dweight of a matrix in 106 bits, by 1 / sigma as an arrow of its own."""
    weight, dw = (Pair.of(a.astype(np.float64).ravel()) for a in (weight, dw))
    outer = Pair.of(np.repeat(u.astype(np.float64), v.size)) * np.tile(v.astype(np.float64), u.size)
    r = Pair.of(1.0) / (outer * weight).sum()
    return weight * r, dw * r - r * r * (dw * weight).sum() * outer


def test_no_neighbour_in_float32_is_nearer_to_the_truth():
    weight, u, v, dw = draw((200, 333), dtype=np.float32)
    u, v = power_iteration(weight, u, v, iterations=15)
    w, cache = spectral_norm_forward(weight, u, v)
    results = w, spectral_norm_backward(dw, cache)
    for got, truth in zip(results, exact(weight, u, v, dw), strict=True):
        assert truth.is_nearest(got.ravel()).mean() >= 0.99999


@given(seed=st.integers(0, 99), shape=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_float64_is_right_to_a_few_units_of_the_terms_of_sigma(seed, shape):
    weight, u, v, dw = draw(shape, seed)
    w, cache = spectral_norm_forward(weight, u, v)
    dweight = spectral_norm_backward(dw, cache)
    of_w, of_dweight = exact(weight, u, v, dw)
    sigma, outer = abs(u @ weight @ v), np.abs(np.outer(u, v))
    loss = 16 * 2.0**-52 * (outer * np.abs(weight)).sum() / sigma
    terms = (np.abs(dw) + outer * np.abs(dw * w).sum()) / sigma
    assert (of_w.error(w.ravel()) <= (loss * np.abs(w)).ravel()).all()
    assert (of_dweight.error(dweight.ravel()) <= 2 * (loss * terms).ravel()).all()


@each("shape", [(5, 7), (7, 5), (6, 2, 3)])
def test_many_iterations_find_the_largest_singular_value(shape):
    weight, u, v, _ = draw(shape)
    u, v = power_iteration(weight, u, v, iterations=500)
    w, _ = spectral_norm_forward(weight, u, v)
    left, values, right = np.linalg.svd(weight.reshape(shape[0], -1))
    assert_allclose(np.linalg.svd(w.reshape(shape[0], -1))[1], values / values[0], atol=1e-13)
    assert_allclose(np.abs([u @ left[:, 0], v @ right[0]]), 1, rtol=1e-13)


def test_iterations_one_by_one_are_those_at_once():
    weight, u, v, _ = draw((5, 7))
    at_once = power_iteration(weight, u, v, iterations=4)
    for _ in range(4):
        u, v = power_iteration(weight, u, v)
    assert_array_equal(u, at_once[0])
    assert_array_equal(v, at_once[1])


def test_u_and_v_of_float32_are_rounded_after_the_last_iteration_alone():
    weight, u, v, _ = draw((50, 70), dtype=np.float32)
    wide = power_iteration(*(a.astype(np.float64) for a in (weight, u, v)), iterations=9)
    for got, expected in zip(power_iteration(weight, u, v, iterations=9), wide, strict=True):
        assert got.dtype == np.float32
        assert_array_equal(got, expected.astype(np.float32))


def test_sigma_of_w_is_1_and_dweight_leaves_it_so():
    weight, u, v, dw = draw((5, 2, 4))
    w, cache = spectral_norm_forward(weight, u, v)
    assert abs(u @ w.reshape(5, -1) @ v - 1) < 1e-14
    # w does not change with the size of the weights.
    assert abs(np.sum(spectral_norm_backward(dw, cache) * weight)) < 1e-13


@given(exponent=st.integers(-960, 1000))
def test_the_size_of_the_weights_makes_no_difference_at_any_scale(exponent):
    weight, u, v, dw = draw((4, 5))
    w, cache = spectral_norm_forward(weight, u, v)
    dweight = spectral_norm_backward(dw, cache)
    far, far_cache = spectral_norm_forward(np.ldexp(weight, exponent), u, v)
    assert_allclose(far, w, rtol=1e-14)
    assert_close(np.ldexp(spectral_norm_backward(dw, far_cache), exponent), dweight, 1e-13)


@each("scale", [1e-310, 1e307])
def test_weights_near_the_ends_of_the_range_are_divided_by_what_they_are(scale):
    weight, u, v, dw = draw((40, 50))
    weight, small = np.abs(weight) * scale, min(1.0, scale * 1e20)  # dweight is about dw / scale
    u, v = np.full_like(u, 40**-0.5), np.full_like(v, 50**-0.5)
    w, cache = spectral_norm_forward(weight, u, v)
    assert abs(u @ w @ v - 1) < 1e-13
    dweight = spectral_norm_backward(dw * small, cache) * scale / small
    _, near = spectral_norm_forward(weight / scale, u, v)
    assert_close(dweight, spectral_norm_backward(dw, near), 1e-12)


def test_weights_of_zero_stay_zero_and_have_no_gradient():
    _, u, v, dw = draw((3, 5))
    w, cache = spectral_norm_forward(np.zeros((3, 5)), u, v)
    assert not w.any()
    assert not spectral_norm_backward(dw, cache).any()
    for a in power_iteration(np.zeros((3, 5)), u, v):
        assert not a.any()


@each("shape", [(40, 30), (3, 400), (300, 4), (6, 20, 7)])
@each("size", ["tiny", "middle"])
def test_power_iteration_in_many_tiles_is_that_in_one(shape, size):
    weight, u, v, _ = draw(shape)
    expected = power_iteration(weight, u, v, iterations=3)
    with small_tiles(size):
        found = power_iteration(weight, u, v, iterations=3)
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b, 1e-14)


def test_wrong_arguments_are_named():
    weight, u, v, _ = draw((3, 5))
    with pytest.raises(ValueError, match=r"u has shape \(5,\).* pass u of shape \(3,\)"):
        power_iteration(weight, v, u)
    with pytest.raises(ValueError, match=r"v has shape \(5, 1\).* pass v of shape \(5,\)"):
        spectral_norm_forward(weight, u, v[:, None])
    with pytest.raises(ValueError, match="iterations is 0, but 1 or more"):
        power_iteration(weight, u, v, iterations=0)
    with pytest.raises(ValueError, match="eps is -1"):
        power_iteration(weight, u, v, eps=-1.0)
    with pytest.raises(TypeError, match=r"pass weight\.real"):
        power_iteration(weight + 0j, u, v)
    with pytest.raises(ValueError, match="at least 2 axes"):
        spectral_norm_forward(u, u, np.ones(1))


@each("name", ["weight", "u", "v"])
def test_power_iteration_names_what_is_complex_with_a_cure_that_cures(name):
    given = {"weight": np.ones((2, 3)), "u": np.ones(2), "v": np.ones(3)}
    wrong = {**given, name: given[name] + 0j}
    with pytest.raises(TypeError, match=rf"{name} is complex128, .* pass {name}\.real"):
        power_iteration(**wrong)
    power_iteration(**{**wrong, name: wrong[name].real})
