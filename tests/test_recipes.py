"""The functions of the page of recipes, by PyTorch's operations and their gradients."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from measure import assert_close
from torch.nn import functional as F

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"


@pytest.fixture(scope="module")
def page():
    """Run the page, and return what it defines."""
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S):
        exec(block, names)
    return names


def column(a, ndim):
    """Give numbers of channels, (C,) or (N, C), axes of length 1 for the positions."""
    return a.reshape(*a.shape, *[1] * (ndim - 2))


def weight_standardization(weight):
    """Normalize as a batch of one with a channel for each row, as trained models do."""
    flat = weight.reshape(1, len(weight), -1)
    return F.batch_norm(flat, None, None, training=True, eps=1e-5).reshape(weight.shape)


def adain(content, style):
    """Give each map of the content the mean and the deviation of that of the style."""
    over = tuple(range(2, content.ndim))
    var, mean = torch.var_mean(style, over, correction=0, keepdim=True)
    return (var + 1e-5).sqrt() * F.instance_norm(content) + mean


LABELS = np.array([2, 0, 2, 1])


def conditional_norm(x, gamma_table, beta_table):
    """Look gamma and beta up by class."""
    gamma, beta = (F.embedding(torch.tensor(LABELS), t) for t in (gamma_table, beta_table))
    x_hat = F.batch_norm(x, None, None, training=True)
    return column(gamma, x.ndim) * x_hat + column(beta, x.ndim)


def modulated_norm(x, scale, shift):
    """Modulate as in DiT."""
    x_hat = F.layer_norm(x, x.shape[-1:], eps=1e-6)
    return x_hat * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


def qk_norm(q, k, gamma_q, gamma_k):
    """Multiply normalized queries and keys."""
    q, k = (F.rms_norm(a, a.shape[-1:], gamma, 1e-6) for a, gamma in ((q, gamma_q), (k, gamma_k)))
    return torch.einsum("nhid,nhjd->nhij", q, k) / q.shape[-1] ** 0.5


def pixel_norm(x):
    """Divide by the root mean square of the channels."""
    return x / torch.sqrt(torch.mean(x**2, dim=1, keepdim=True) + 1e-8)


def filter_response_norm(x, gamma, beta, tau):
    """Normalize, and take the larger of the result and the threshold."""
    gamma, beta, tau = (column(a[None], x.ndim) for a in (gamma, beta, tau))
    nu2 = torch.mean(x**2, dim=tuple(range(2, x.ndim)), keepdim=True)
    return torch.maximum(gamma * x * torch.rsqrt(nu2 + 1e-6) + beta, tau)


def scale_norm(x, g):
    """Give each vector the length g."""
    return g * F.normalize(x, dim=-1, eps=1e-5)


def unit_offset_rms_norm(x, w):
    """Scale by 1 + w, as Gemma does."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * (1.0 + w)


CASES = [
    (weight_standardization, [(6, 3, 2, 4)]),
    (weight_standardization, [(6, 5)]),
    (adain, [(2, 3, 4, 5), (2, 3, 6, 2)]),
    (adain, [(2, 3, 7), (2, 3, 4)]),
    (conditional_norm, [(4, 3, 5, 2), (5, 3), (5, 3)]),
    (conditional_norm, [(4, 3), (5, 3), (5, 3)]),
    (modulated_norm, [(2, 5, 4), (2, 4), (2, 4)]),
    (qk_norm, [(2, 3, 6, 4), (2, 3, 5, 4), (4,), (4,)]),
    (pixel_norm, [(2, 5, 3, 4)]),
    (filter_response_norm, [(2, 3, 4, 5), (3,), (3,), (3,)]),
    (filter_response_norm, [(2, 3, 9), (3,), (3,), (3,)]),
    (scale_norm, [(5, 3, 4), ()]),
    (unit_offset_rms_norm, [(2, 3, 5), (5,)]),
]


@pytest.mark.parametrize(("definition", "shapes"), CASES)
def test_a_recipe_and_its_gradients_are_pytorch_s(page, definition, shapes):
    rng = np.random.default_rng(7)
    arrays = [np.asarray(rng.normal(0.7, 1.5, size=shape)) for shape in shapes]
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    expected = definition(*leaves)
    name = definition.__name__
    forward, backward = page[f"{name}_forward"], page[f"{name}_backward"]
    if definition is conditional_norm:
        forward = partial(forward, labels=LABELS)
    y, cache = forward(*arrays)
    assert_close(y, expected.detach().numpy(), 1e-13)
    dy = rng.standard_normal(y.shape)
    expected.backward(torch.tensor(dy))
    gradients = backward(dy, cache)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    for got, leaf in zip(gradients, leaves, strict=True):
        assert_close(np.asarray(got), leaf.grad.numpy(), 1e-13)


def test_every_recipe_of_the_page_is_compared(page):
    pairs = {name.removesuffix("_forward") for name in page if name.endswith("_forward")}
    assert pairs == {definition.__name__ for definition, _ in CASES}


def test_one_is_added_before_bfloat16_would_swallow_what_is_learned(page):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.array([[1.0, -3.0, 2.0]], np.float32)
    w = np.array([2.0**-9, 0.0, 0.0]).astype(ml_dtypes.bfloat16)
    y, cache = page["unit_offset_rms_norm_forward"](x, w)
    plain, _ = page["unit_offset_rms_norm_forward"](x, np.zeros_like(w))
    assert y[0, 0] > plain[0, 0]
    _, dw = page["unit_offset_rms_norm_backward"](x, cache)
    assert dw.dtype == ml_dtypes.bfloat16
