"""Norms that are other norms on other axes, and inference as an affine map."""

import numpy as np
from cases import INFERENCE
from each import each
from measure import assert_close

import numpy_norms as nn

x, dy = np.random.default_rng(11).standard_normal((2, 5, 6, 4)) * 2 + 3
options = {"eps": 0.3}


def both(name, dy, *args, **options):
    """Run a norm forward and backward; return y and dx."""
    y, cache = getattr(nn, f"{name}_forward")(*args, **options)
    return y, getattr(nn, f"{name}_backward")(dy, cache)[0]


def assert_same(first, second):
    for got, expected in zip(first, second, strict=True):
        assert_close(got, expected, 1e-14)


def test_one_group_is_layer_norm_over_channels_and_positions():
    group = both("group_norm", dy, x, 1, **options)
    assert_same(group, both("layer_norm", dy, x, axis=(1, 2), **options))


def test_a_group_per_channel_is_instance_norm(rng):
    gamma, beta = rng.standard_normal((2, 6))
    group = both("group_norm", dy, x, 6, gamma, beta, **options)
    assert_same(group, both("instance_norm", dy, x, gamma, beta, **options))


def test_instance_norm_of_one_sample_is_batch_norm(rng):
    gamma, beta = rng.standard_normal((2, 6))
    instance = both("instance_norm", dy[:1], x[:1], gamma, beta, **options)
    assert_same(instance, both("batch_norm", dy[:1], x[:1], gamma, beta, **options))


def test_batch_norm_of_a_matrix_is_layer_norm_of_its_transpose():
    y, dx = both("batch_norm", dy[:, :, 0], x[:, :, 0], **options)
    assert_same((y.T, dx.T), both("layer_norm", dy[:, :, 0].T, x[:, :, 0].T, **options))


def test_instance_norm_is_layer_norm_over_positions():
    instance = both("instance_norm", dy, x, **options)
    assert_same(instance, both("layer_norm", dy, x, axis=2, **options))


def test_layer_norm_is_rms_norm_of_centered_x():
    centered = x - x.mean(axis=-1, keepdims=True)
    y, dx = both("rms_norm", dy, centered, **options)
    projected = dx - dx.mean(axis=-1, keepdims=True)
    assert_same((y, projected), both("layer_norm", dy, x, **options))


@each("name", ["batch_norm", "instance_norm"])
@each("channel_axis", [-1, 0, 2])
def test_channels_on_another_axis_are_channels_moved_there(name, channel_axis, rng):
    gamma, beta = rng.standard_normal((2, 6))
    first = both(name, dy, x, gamma, beta, **options)
    moved = (np.moveaxis(a, 1, channel_axis) for a in (dy, x))
    second = both(name, *moved, gamma, beta, channel_axis=channel_axis, **options)
    assert_same(first, [np.moveaxis(a, channel_axis, 1) for a in second])


def test_groups_are_neighbouring_channels(rng):
    gamma, beta = rng.standard_normal((2, 6))
    y, dx = both("group_norm", dy, x, 2, gamma, beta, **options)
    for block in (slice(0, 3), slice(3, 6)):
        mine = x[:, block], 1, gamma[block], beta[block]
        alone = both("group_norm", dy[:, block], *mine, **options)
        assert_same((y[:, block], dx[:, block]), alone)


def test_batch_norm_is_inference_with_the_statistics_of_the_batch():
    _, cache = nn.batch_norm_forward(x)
    y, _ = nn.batch_norm_inference_forward(x, cache.mean, cache.var)
    assert_close(y, nn.batch_norm_forward(x)[0], 1e-14)


def test_training_couples_the_samples_and_inference_does_not(rng):
    changed = np.concatenate([x[:1] + rng.standard_normal((1, 6, 4)), x[1:]])
    for name, coupled in (("batch_norm", True), ("batch_norm_inference", False)):
        statistics = () if coupled else (np.zeros(6), np.ones(6))
        before, after = (both(name, dy, a, *statistics)[1] for a in (x, changed))
        assert np.array_equal(before[1:], after[1:]) != coupled


def test_inference_is_an_affine_map_that_can_be_folded_into_a_matrix(rng):
    arrays, _ = INFERENCE.draw()
    weight, inputs = rng.standard_normal((3, 8)), rng.standard_normal((20, 8))
    y, _ = nn.batch_norm_inference_forward(**{**arrays, "x": inputs @ weight.T}, eps=0.3)
    factor = arrays["gamma"] / np.sqrt(arrays["running_var"] + 0.3)
    folded = inputs @ (factor[:, None] * weight).T
    assert_close(y, folded + arrays["beta"] - factor * arrays["running_mean"], 1e-14)
