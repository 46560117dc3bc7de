"""Weight norm: PyTorch's parametrization, 106-bit arithmetic, the directions that v can go."""

from math import sqrt

import numpy as np
import pytest
import torch
from each import each
from hypothesis import given
from hypothesis import strategies as st
from measure import assert_close
from numpy.testing import assert_allclose, assert_array_equal
from torch.nn.utils.parametrizations import weight_norm

from numpy_norms import rms_norm_forward, weight_norm_backward, weight_norm_forward
from numpy_norms.oracle.double_double import Pair


def draw(shape, seed=0, dtype=np.float64):
    """Draw v, a signed g for the first axis, and dw."""
    rng = np.random.default_rng(seed)
    arrays = (
        1 + rng.standard_normal(shape),
        rng.standard_normal(shape[0]),
        rng.standard_normal(shape),
    )
    return [a.astype(dtype) for a in arrays]


@each(
    ("kind", "options", "dim"),
    [
        (torch.nn.Linear, (5, 3), 0),
        (torch.nn.Conv2d, (4, 3, (2, 5)), 0),
        (torch.nn.ConvTranspose2d, (4, 3, (2, 5)), 1),
    ],
)
def test_a_layer_with_pytorch_s_parametrization_has_these_weights_and_gradients(kind, options, dim):
    torch.manual_seed(0)
    layer = weight_norm(kind(*options, dtype=torch.float64), dim=dim)
    g, v = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    with torch.no_grad():
        g.mul_(-0.7)
    dw = np.random.default_rng(0).standard_normal(v.shape)
    layer.weight.backward(torch.tensor(dw))
    ours = [a.detach().numpy() for a in (v, g)]
    w, cache = weight_norm_forward(ours[0], ours[1].ravel(), channel_axis=dim)
    dv, dg = weight_norm_backward(dw, cache)
    assert_close(w, layer.weight.detach().numpy(), 1e-15)
    assert_close(dv, v.grad.numpy(), 1e-14)
    assert_close(dg, g.grad.numpy().ravel(), 1e-14)


def exact(v, g, dw):
    """Evaluate w, dv and dg in 106 bits, by the two arrows into |v|, one after the other."""
    v, g, dw = (Pair.of(a.astype(np.float64)) for a in (v, g[:, None], dw))
    n = (v * v).sum().root()
    dn = -(g * (dw * v).sum() / (n * n))
    return g * v / n, g / n * dw + dn * v / n, (dw * v).sum() / n


@each("scale", [1.0, 1e-3, 1e3])
def test_no_neighbour_in_float32_is_nearer_to_the_truth(scale):
    v, g, dw = draw((200, 333), dtype=np.float32)
    v *= np.float32(scale)
    w, cache = weight_norm_forward(v, g)
    for got, truth in zip((w, *weight_norm_backward(dw, cache)), exact(v, g, dw), strict=True):
        assert truth.is_nearest(got.reshape(truth.hi.shape)).mean() >= 0.99999


@given(seed=st.integers(0, 99), n=st.integers(2, 300))
def test_float64_is_right_to_a_few_units(seed, n):
    v, g, dw = draw((3, n), seed)
    w, cache = weight_norm_forward(v, g)
    dv, dg = weight_norm_backward(dw, cache)
    of_w, of_dv, of_dg = exact(v, g, dw)
    h = np.abs(v) / np.linalg.norm(v, axis=1, keepdims=True)
    along = (np.abs(dw) * h).sum(axis=1, keepdims=True)
    r = np.abs(g)[:, None] * h / np.abs(v)
    assert (of_w.error(w) <= 4 * 2.0**-52 * np.abs(w)).all()
    assert (of_dv.error(dv) <= 8 * 2.0**-52 * r * (np.abs(dw) + h * along)).all()
    assert (of_dg.error(dg[:, None]) <= 8 * 2.0**-52 * along).all()


def test_hand_computed():
    w, cache = weight_norm_forward(np.array([[3.0, -4.0]]), np.array([-10.0]))
    assert_allclose(w, [[-6.0, 8.0]], rtol=1e-15)
    dv, dg = weight_norm_backward(np.array([[1.0, 0.0]]), cache)
    assert_allclose(dg, [0.6], rtol=1e-15)
    assert_allclose(dv, [[-1.28, -0.96]], rtol=1e-14)


def test_the_length_of_w_is_g_and_dv_is_orthogonal_to_v():
    v, g, dw = draw((4, 3, 5))
    w, cache = weight_norm_forward(v, g)
    dv, dg = weight_norm_backward(dw, cache)
    assert_allclose(np.linalg.norm(w.reshape(4, -1), axis=1), np.abs(g), rtol=1e-14)
    assert np.abs((dv * v).sum(axis=(1, 2))).max() < 1e-14
    assert_allclose((dw * w).sum(axis=(1, 2)), g * dg, rtol=1e-13)


@given(exponent=st.integers(-1000, 1000))
def test_the_length_of_v_makes_no_difference_at_any_scale(exponent):
    v, g, dw = draw((3, 5))
    w, cache = weight_norm_forward(v, g)
    dv, dg = weight_norm_backward(dw, cache)
    far, cache = weight_norm_forward(np.ldexp(v, exponent), g)
    far_dv, far_dg = weight_norm_backward(dw, cache)
    assert_allclose(far, w, rtol=1e-15)
    assert_close(far_dg, dg, 1e-15)
    if exponent > -1000:
        assert_close(np.ldexp(far_dv, exponent), dv, 1e-14)


def test_weights_of_zero_stay_zero_and_have_no_gradient():
    # PyTorch has 0 / 0 there (pytorch#19126).
    v, g, dw = draw((3, 5))
    v[1] = 0
    w, cache = weight_norm_forward(v, g)
    dv, dg = weight_norm_backward(dw, cache)
    for a in (w[1], dv[1], dg[1]):
        assert not a.any()
    assert np.isfinite(dv).all()


def test_one_weight_for_each_channel_is_a_sign_and_cannot_move():
    v, g, dw = draw((6,))
    w, cache = weight_norm_forward(v, g)
    dv, dg = weight_norm_backward(dw, cache)
    assert_allclose(w, g * np.sign(v), rtol=1e-15)
    assert_allclose(dg, dw * np.sign(v), rtol=1e-15)
    assert (np.abs(dv) <= 4 * 2.0**-52 * np.abs(g * dw / v)).all()


def test_nan_stays_within_its_channel():
    v, g, dw = draw((3, 5))
    v[1, 2] = np.nan
    w, cache = weight_norm_forward(v, g)
    for a in (w, *weight_norm_backward(dw, cache)):
        assert_array_equal(np.isnan(a.reshape(3, -1)).any(axis=1), [False, True, False])


def test_the_shape_of_pytorch_s_g_is_refused_and_the_cure_works():
    v, g, _ = draw((3, 5))
    with pytest.raises(ValueError, match=r"g has shape \(3, 1\).*pass g.reshape\(3\)"):
        weight_norm_forward(v, g[:, None])
    weight_norm_forward(v, g[:, None].reshape(3))
    with pytest.raises(TypeError, match="g is complex128, but v is float64"):
        weight_norm_forward(v, g + 0j)


def test_it_is_g_times_an_rms_norm_over_the_root_of_the_number_of_weights():
    v, g, _ = draw((3, 5))
    w, _ = weight_norm_forward(v, g)
    y, _ = rms_norm_forward(v, eps=0.0)
    assert_allclose(w, g[:, None] / sqrt(5) * y, rtol=1e-14)
