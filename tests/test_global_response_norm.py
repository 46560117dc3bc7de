"""Global response norm: ConvNeXt V2's layer, 106-bit arithmetic, maps of zeros."""

import numpy as np
import pytest
import torch
from each import each
from further import assert_sets_do_not_see_each_other
from hypothesis import given
from hypothesis import strategies as st
from measure import assert_close
from numpy.testing import assert_allclose, assert_array_equal

from numpy_norms import global_response_norm_backward, global_response_norm_forward
from numpy_norms.oracle.double_double import Pair


def draw(shape, seed=0, *, mean=2.0, dtype=np.float64):
    """Draw x, gamma and beta of axis 1, and dy."""
    rng = np.random.default_rng(seed)
    x, dy = mean + 1.5 * rng.standard_normal(shape), rng.standard_normal(shape)
    return [a.astype(dtype) for a in (x, *rng.standard_normal((2, shape[1])), dy)]


def test_the_layer_of_convnext_v2_has_these_results():
    x, gamma, beta, dy = (torch.tensor(a) for a in draw((4, 3, 6, 5)))
    x, dy = (a.movedim(1, -1).contiguous() for a in (x, dy))
    leaves = [a.requires_grad_() for a in (x, gamma, beta)]
    sizes = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
    expected = gamma * (x * (sizes / (sizes.mean(dim=-1, keepdim=True) + 1e-6))) + beta + x
    expected.backward(dy)
    y, cache = global_response_norm_forward(*(a.detach().numpy() for a in leaves), channel_axis=-1)
    assert_close(y, expected.detach().numpy(), 1e-15)
    gradients = global_response_norm_backward(dy.numpy(), cache)
    for got, leaf in zip(gradients, leaves, strict=True):
        assert_close(got, leaf.grad.numpy(), 1e-14)


def exact(x, gamma, beta, dy, eps):
    """Evaluate y, dx, dgamma and dbeta of (N, C, S) in 106 bits, through |x| and its mean."""
    x, dy = (Pair.of(a.astype(np.float64)) for a in (x, dy))
    gamma, beta = (Pair.of(a.astype(np.float64)[:, None]) for a in (gamma, beta))
    size = (x * x).sum().root()
    largest = Pair(size.hi.swapaxes(1, 2), size.lo.swapaxes(1, 2)).mean() + eps
    n = size / largest
    dn = (gamma * dy * x).sum()
    products = dn * size
    dlargest = -(Pair(products.hi.swapaxes(1, 2), products.lo.swapaxes(1, 2)).sum())
    dlargest = dlargest / (largest * largest)
    dsize = dn / largest + dlargest / float(x.hi.shape[1])
    return gamma * x * n + beta + x, dy + dy * gamma * n + dsize * x / size


@each("mean", [0.0, 10.0, 1e6])
def test_no_neighbour_in_float32_is_nearer_to_the_truth(mean):
    x, gamma, beta, dy = draw((20, 50, 33), mean=mean, dtype=np.float32)
    y, cache = global_response_norm_forward(x, gamma, beta)
    dx, _, _ = global_response_norm_backward(dy, cache)
    for got, truth in zip((y, dx), exact(x, gamma, beta, dy, 1e-6), strict=True):
        assert truth.is_nearest(got).mean() >= 0.99999


def test_hand_computed():
    # Sizes 5 and 15, their mean 10: n = 1/2, 3/2.
    x = np.array([[[3.0, 4.0], [0.0, 15.0]]])
    gamma, beta = np.array([2.0, -1.0]), np.array([0.0, 1.0])
    y, _ = global_response_norm_forward(x, gamma, beta, eps=0.0)
    assert_allclose(y, [[[6.0, 8.0], [1.0, -6.5]]], rtol=1e-15)


def test_with_gamma_and_beta_zero_it_does_nothing():
    x, _, _, dy = draw((4, 3, 6, 5))
    zeros = np.zeros(3)
    y, cache = global_response_norm_forward(x, zeros, zeros)
    assert_array_equal(y, x)
    assert_array_equal(global_response_norm_backward(dy, cache)[0], dy)


@given(exponent=st.integers(-1000, 1000))
def test_without_eps_a_power_of_two_scales_y_and_leaves_dx_at_any_scale(exponent):
    x, gamma, _, dy = draw((4, 3, 5))
    zeros = np.zeros(3)
    y, cache = global_response_norm_forward(x, gamma, zeros, eps=0.0)
    dx, dgamma, _ = global_response_norm_backward(dy, cache)
    far, cache = global_response_norm_forward(np.ldexp(x, exponent), gamma, zeros, eps=0.0)
    far_dx, far_dgamma, _ = global_response_norm_backward(dy, cache)
    tiny = np.ldexp(1.0, -1074)
    assert (np.abs(far - np.ldexp(y, exponent)) <= 1e-14 * np.abs(far) + tiny).all()
    assert_close(far_dx, dx, 1e-14)
    assert (np.abs(far_dgamma - np.ldexp(dgamma, exponent)) <= 1e-13 * np.abs(far).max()).all()


@each(("of_x", "of_dy"), [(531, -950), (-540, 950), (900, -1000), (-900, 950)])
def test_powers_of_two_in_x_and_dy_come_back_in_the_gradients(of_x, of_dy):
    x, gamma, beta, dy = draw((4, 3, 5))
    _, cache = global_response_norm_forward(x, gamma, beta, eps=0.0)
    expected = global_response_norm_backward(dy, cache)
    _, cache = global_response_norm_forward(np.ldexp(x, of_x), gamma, beta, eps=0.0)
    found = global_response_norm_backward(np.ldexp(dy, of_dy), cache)
    powers = of_dy, of_x + of_dy, of_dy
    for got, a, k in zip(found, expected, powers, strict=True):
        assert_close(np.ldexp(got, -k), a, 1e-13)


def test_permuting_the_channels_permutes_the_results():
    x, gamma, beta, dy = draw((4, 5, 6))
    order = np.random.default_rng(1).permutation(5)
    y, cache = global_response_norm_forward(x, gamma, beta)
    dx, dgamma, _ = global_response_norm_backward(dy, cache)
    other, cache = global_response_norm_forward(x[:, order], gamma[order], beta[order])
    other_dx, other_dgamma, _ = global_response_norm_backward(dy[:, order], cache)
    assert_allclose(other, y[:, order], rtol=1e-14)
    assert_close(other_dx, dx[:, order], 1e-14)
    assert_close(other_dgamma, dgamma[order], 1e-14)


def test_a_map_of_zeros_has_the_gradient_of_pytorch_and_all_zeros_do_no_harm():
    x, gamma, beta, dy = draw((2, 3, 5))
    x[0, 1] = 0
    leaf = torch.tensor(x, requires_grad=True)
    sizes = torch.linalg.vector_norm(leaf, dim=2, keepdim=True)
    g, b = (torch.tensor(a)[:, None] for a in (gamma, beta))
    (g * leaf * sizes / (sizes.mean(dim=1, keepdim=True) + 1e-6) + b + leaf).backward(
        torch.tensor(dy)
    )
    _, cache = global_response_norm_forward(x, gamma, beta)
    assert_close(global_response_norm_backward(dy, cache)[0], leaf.grad.numpy(), 1e-14)
    for eps in (0.0, 1e-6):
        y, cache = global_response_norm_forward(np.zeros((2, 3, 5)), gamma, beta, eps=eps)
        assert_array_equal(y, np.broadcast_to(beta[:, None], y.shape))
        assert_array_equal(global_response_norm_backward(dy, cache)[0], dy)


def test_nan_stays_within_its_sample():
    x, gamma, beta, dy = draw((4, 3, 5))
    x[1, 2, 0] = np.nan
    y, cache = global_response_norm_forward(x, gamma, beta)
    dx, _, _ = global_response_norm_backward(dy, cache)
    assert_array_equal(np.isnan(y).any(axis=(1, 2)), [False, True, False, False])
    assert_array_equal(np.isnan(dx).any(axis=(1, 2)), [False, True, False, False])


@each(("shape", "axis"), [((70, 31, 29), 1), ((70, 29, 31), -1), ((70, 31), 1)])
def test_a_sample_alone_has_the_bits_that_it_has_in_a_large_batch(shape, axis):
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    gamma, beta = rng.standard_normal((2, 31))

    def forward(x):
        return global_response_norm_forward(x, gamma, beta, channel_axis=axis)

    def backward(dy, cache):
        return global_response_norm_backward(dy, cache)[0]

    assert_sets_do_not_see_each_other(forward, backward, x, dy)


def test_wrong_arguments_are_named():
    x, gamma, beta, _ = draw((4, 3, 5))
    with pytest.raises(ValueError, match=r"beta has shape \(5,\)"):
        global_response_norm_forward(x, gamma, np.ones(5))
    with pytest.raises(ValueError, match=r"eps is -1\.0"):
        global_response_norm_forward(x, gamma, beta, eps=-1.0)
    with pytest.raises(TypeError, match="gamma has dtype object"):
        global_response_norm_forward(x, None, beta)
