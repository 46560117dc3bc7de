"""Several channel axes, and features that are not on the normalized axes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import Norm, parametrize
from each import each
from measure import assert_close
from numpy.testing import assert_array_equal

import numpy_norms as nn

AXES = [
    Norm("batch_norm", (5, 3, 4, 2), {"channel_axis": (1, 3)}),
    Norm("batch_norm", (5, 3, 4, 2), {"channel_axis": (-1, 2)}),
    Norm("batch_norm", (5, 3, 4), {"channel_axis": [2, 1]}),
    Norm("batch_norm_inference", (5, 3, 4, 2), {"channel_axis": (1, 3)}),
    Norm("instance_norm", (5, 3, 4, 2), {"channel_axis": (1, 2)}),
    Norm("instance_norm", (3, 5, 4, 2), {"channel_axis": (0, 3)}),
    Norm("layer_norm", (5, 3, 4), {"axis": -1, "feature_axis": (-2, -1)}),
    Norm("layer_norm", (5, 3, 4), {"axis": -1, "feature_axis": 1}),
    Norm("layer_norm", (5, 3, 4), {"axis": (1, 2), "feature_axis": 2}),
    Norm("layer_norm", (5, 3, 4), {"axis": (1, 2), "feature_axis": (0, 1)}),
    Norm("rms_norm", (5, 3, 4), {"axis": -1, "feature_axis": (1, -1)}),
    Norm("rms_norm", (5, 3, 4), {"axis": 0, "feature_axis": -1}),
]


@parametrize(AXES)
def test_y_and_gradients_are_exact(norm):
    arrays, dy = norm.draw(1)
    y, exact = norm.exact(arrays, dy)
    found = norm.both(arrays, dy)
    assert y.value.error(found[0]).max() <= 1e-14 * y.scale.max()
    for name, gradient in found[1].items():
        assert gradient.shape == arrays[name].shape
        assert exact[name].value.error(gradient).max() <= 1e-14 * exact[name].scale.max()


@parametrize(AXES)
def test_float32_is_rounded_once(norm):
    arrays, dy = norm.draw(2, mean=1e3, dtype=np.float32)
    y, exact = norm.exact(arrays, dy)
    found = norm.both(arrays, dy)
    for got, of in [(found[0], y), *((found[1][name], exact[name]) for name in arrays)]:
        assert (np.abs(of.value.error(got)) <= 0.5000001 * np.spacing(np.abs(got))).all()


@parametrize(AXES)
def test_the_tangent_is_the_adjoint(norm):
    arrays, dy = norm.draw(3)
    rng = np.random.default_rng(4)
    tangents = {name: rng.standard_normal(a.shape) for name, a in arrays.items()}
    _, cache = norm.forward(arrays)
    y_dot = nn.jvp(cache, **{f"{name}_dot": a for name, a in tangents.items()})
    backward = sum((a * tangents[name]).sum() for name, a in norm.backward(dy, cache).items())
    assert abs((dy * y_dot).sum() - backward) <= 1e-13 * np.abs(dy * y_dot).sum()


@parametrize([norm for norm in AXES if norm.name != "batch_norm_inference"])
def test_a_mask_counts_in_the_same_sets(norm):
    arrays, _ = norm.draw(5)
    del arrays["gamma"]
    arrays.pop("beta", None)
    where = np.random.default_rng(6).random(norm.shape) < 0.6
    where.ravel()[norm.sharing.set_rows[:, 0]] = True
    y, _ = norm.forward(arrays, where=where, eps=0.7)
    for s in np.unique(norm.sets):
        x, counts = arrays["x"][norm.sets == s], where[norm.sets == s]
        mean = x[counts].mean() if norm.centered else 0
        expected = (x - mean) / np.sqrt(((x[counts] - mean) ** 2).mean() + 0.7)
        assert np.abs(y[norm.sets == s] - expected).max() <= 1e-13


def test_several_channel_axes_are_one_that_holds_them(rng):
    x, dy = rng.standard_normal((2, 6, 3, 4, 5))
    gamma, beta = rng.standard_normal((2, 3, 4))
    y, cache = nn.batch_norm_forward(x, gamma, beta, channel_axis=(1, 2))
    merged = (a.reshape(6, 12, 5) for a in (x, dy))
    one, one_cache = nn.batch_norm_forward(next(merged), gamma.ravel(), beta.ravel())
    assert_array_equal(y, one.reshape(x.shape))
    for a, b in zip(
        nn.batch_norm_backward(dy, cache),
        nn.batch_norm_backward(next(merged), one_cache),
        strict=True,
    ):
        assert_array_equal(a, b.reshape(a.shape))
    assert cache.mean.shape == (3, 4)
    found = nn.update_running_stats(np.zeros((3, 4)), np.ones((3, 4)), cache)
    expected = nn.update_running_stats(np.zeros(12), np.ones(12), one_cache)
    for a, b in zip(found, expected, strict=True):
        assert_array_equal(a, b.reshape(3, 4))


def test_a_scale_of_each_head_is_pytorch_s(rng):
    x, dy = rng.standard_normal((2, 2, 5, 3, 8))  # (B, T, heads, features)
    gamma = rng.standard_normal((3, 8))
    _, cache = nn.rms_norm_forward(x, gamma, axis=-1, feature_axis=(-2, -1))
    dx, dgamma = nn.rms_norm_backward(dy, cache)
    tx, tg = (torch.tensor(a, requires_grad=True) for a in (x, gamma))
    (F.rms_norm(tx, (8,), eps=1e-5) * tg).backward(torch.tensor(dy))
    assert_close(dx, tx.grad.numpy(), 1e-13)
    assert_close(dgamma, tg.grad.numpy(), 1e-13)


@each("correction", [0, 1])
def test_running_statistics_of_instance_norm_are_pytorch_s(correction, rng):
    x = 3 + rng.standard_normal((4, 3, 6))
    running = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    F.instance_norm(torch.tensor(x), *running, momentum=0.3)
    _, cache = nn.instance_norm_forward(x)
    mean, var = nn.update_running_stats(
        np.zeros(3), np.ones(3), cache, momentum=0.3, correction=correction
    )
    assert_close(mean, running[0].numpy(), 1e-14)
    biased = 0.7 + 0.3 * x.var(axis=2).mean(axis=0)
    assert_close(var, running[1].numpy() if correction else biased, 1e-14)


@each(
    ("function", "options", "words"),
    [
        (nn.batch_norm_forward, {"channel_axis": (0, 1, 2)}, "all axes of x"),
        (nn.batch_norm_forward, {"channel_axis": (1, 1)}, "names an axis twice"),
        (nn.batch_norm_forward, {"channel_axis": ()}, "channel_axis is empty"),
        (nn.instance_norm_forward, {"channel_axis": (1, 5)}, "channel_axis is 5"),
        (nn.layer_norm_forward, {"feature_axis": 3}, "feature_axis is 3"),
        (nn.layer_norm_forward, {"gamma": np.ones(4), "feature_axis": 1}, "the axes \\(1,\\)"),
        (nn.batch_norm_forward, {"gamma": np.ones(3), "channel_axis": (1, 2)}, "channels on axes"),
    ],
)
def test_axes_that_cannot_be_meant_are_refused(function, options, words):
    with pytest.raises(ValueError, match=words):
        function(np.ones((2, 3, 4)), **options)


def test_axes_of_another_kind_are_told_that_there_may_be_several():
    with pytest.raises(TypeError, match="an integer or a tuple of integers was expected"):
        nn.layer_norm_forward(np.ones((2, 3, 4)), axis=range(1, 3))
