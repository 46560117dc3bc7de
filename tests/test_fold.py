"""Folding batch norm into the map before it: outputs stay, and known mistakes would show."""

from functools import partial

import ml_dtypes
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose, assert_array_equal

from numpy_norms import fold_batch_norm
from numpy_norms.oracle.double_double import Pair

EPS = 0.3
CASES = {
    # map, weight shape, output channels, input shape, axis
    "linear": (F.linear, (6, 5), 6, (4, 5), 0),
    "conv1d": (F.conv1d, (6, 5, 3), 6, (2, 5, 7), 0),
    "conv2d": (F.conv2d, (6, 5, 3, 2), 6, (2, 5, 7, 4), 0),
    "conv3d": (F.conv3d, (6, 5, 3, 2, 1), 6, (2, 5, 7, 4, 3), 0),
    "grouped": (partial(F.conv2d, groups=2), (6, 5, 3, 2), 6, (2, 10, 7, 4), 0),
    "depthwise": (partial(F.conv2d, groups=6), (6, 1, 3, 2), 6, (2, 6, 7, 4), 0),
    "transposed": (F.conv_transpose2d, (5, 6, 3, 2), 6, (2, 5, 7, 4), 1),
    "transposed 1d": (F.conv_transpose1d, (5, 6, 3), 6, (2, 5, 7), 1),
    "transposed grouped": (
        partial(F.conv_transpose2d, groups=2), (10, 3, 3, 2), 6, (2, 10, 7, 4), 1
    ),
}  # fmt: skip
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def draw(weight_shape, channels, seed=0):
    """Draw weight, bias, and the parameters of a trained batch norm, all of both signs."""
    rng = np.random.default_rng(seed)
    bias, mean, gamma, beta = rng.standard_normal((4, channels))
    var = rng.uniform(0.1, 4.0, channels)
    return rng.standard_normal(weight_shape), bias, mean, var, gamma, beta


def torch_map(case, weight, bias, x):
    """Apply PyTorch's linear map of this case."""
    arrays = [None if a is None else torch.from_numpy(a) for a in (x, weight, bias)]
    return case[0](*arrays)


@cases
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_the_folded_map_gives_what_map_and_batch_norm_gave(case, has_bias, affine):
    weight, bias, mean, var, gamma, beta = draw(case[1], case[2])
    bias = bias if has_bias else None
    gamma, beta = (gamma, beta) if affine else (None, None)
    x = np.random.default_rng(1).standard_normal(case[3])
    statistics = [torch.from_numpy(a) for a in (mean, var)]
    scale = [None if a is None else torch.from_numpy(a) for a in (gamma, beta)]
    expected = F.batch_norm(torch_map(case, weight, bias, x), *statistics, *scale, eps=EPS)
    folded = fold_batch_norm(weight, bias, mean, var, gamma, beta, eps=EPS, axis=case[4])
    assert_allclose(torch_map(case, *folded, x), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["linear", "conv2d", "grouped", "transposed"])
def test_it_agrees_with_pytorch_s_own_folding(name):
    case = CASES[name]
    weight, bias, mean, var, gamma, beta = draw(case[1], case[2])
    tensors = [torch.from_numpy(a) for a in (weight, bias, mean, var)]
    tail = torch.from_numpy(gamma), torch.from_numpy(beta)
    fuse = torch.nn.utils.fusion.fuse_conv_bn_weights
    expected = fuse(*tensors, EPS, *tail, transpose=name == "transposed")
    got = fold_batch_norm(weight, bias, mean, var, gamma, beta, eps=EPS, axis=case[4])
    for a, b in zip(got, expected, strict=True):
        assert_allclose(a, b.detach().numpy(), rtol=1e-13)


def test_kernels_with_the_output_channels_last_fold_on_the_last_axis():
    weight, *rest = draw((3, 2, 5, 6), 6)
    last, bias = fold_batch_norm(weight, *rest, axis=-1)
    first, same_bias = fold_batch_norm(np.moveaxis(weight, -1, 0), *rest)
    assert_array_equal(last, np.moveaxis(first, 0, -1))
    assert_array_equal(bias, same_bias)


# The mistakes of others, by hand: gamma / sqrt(3 + 1) = 3.
HAND = {"running_mean": np.array([5.0]), "running_var": np.array([3.0]), "eps": 1.0}
WEIGHT, GAMMA, BETA = np.array([[2.0]]), np.array([6.0]), np.array([7.0])


def test_the_bias_of_the_map_is_scaled_too():
    # ultralytics/yolov3#807: the bias lost its factor.
    _, bias = fold_batch_norm(WEIGHT, np.array([11.0]), gamma=GAMMA, beta=BETA, **HAND)
    assert_array_equal(bias, [(11.0 - 5.0) * 3.0 + 7.0])


def test_without_a_bias_mean_and_shift_remain():
    # tenstorrent/tt-metal#5317: no bias before, none after.
    weight, bias = fold_batch_norm(WEIGHT, None, gamma=GAMMA, beta=BETA, **HAND)
    assert_array_equal(weight, [[6.0]])
    assert_array_equal(bias, [-5.0 * 3.0 + 7.0])


def test_a_transposed_convolution_is_scaled_along_its_second_axis():
    # quic/aimet#154: its first axis holds the input channels, even where there are as many.
    weight, ones = np.ones((2, 2, 1)), np.ones(2)
    folded, _ = fold_batch_norm(
        weight, None, np.zeros(2), ones, np.array([2.0, 3.0]), eps=0.0, axis=1
    )
    assert_array_equal(folded[..., 0], [[2.0, 3.0], [2.0, 3.0]])


def test_eps_is_added_to_the_variance_under_the_root():
    weight, _ = fold_batch_norm(WEIGHT, None, np.zeros(1), np.array([0.0]), eps=4.0)
    assert_array_equal(weight, [[1.0]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16])
def test_narrow_parameters_are_rounded_once(dtype):
    arrays = [a.astype(dtype) for a in draw((6, 50), 6)]
    wide = fold_batch_norm(*[a.astype(np.float64) for a in arrays], eps=EPS)
    for got, exact in zip(fold_batch_norm(*arrays, eps=EPS), wide, strict=True):
        assert got.dtype == dtype
        assert Pair.of(exact).is_nearest(got).all()


def test_a_wider_bias_keeps_its_type_and_no_argument_changes():
    arrays = draw((6, 5), 6)
    weight, bias = fold_batch_norm(arrays[0].astype(np.float16), *arrays[1:])
    assert (weight.dtype, bias.dtype) == (np.float16, np.float64)
    for before, after in zip(draw((6, 5), 6), arrays, strict=True):
        assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"running_var": np.array([1.0, -2.0])}, "running_var is -2.0 for channel 1"),
        ({"running_var": np.array([1.0, np.nan])}, "running_var is nan for channel 1"),
        ({"running_mean": np.array([np.inf, 0.0])}, "running_mean is inf for channel 0"),
        ({"running_mean": np.zeros((2, 1))}, r"running_mean has shape \(2, 1\)"),
        ({"running_var": np.ones(3)}, r"running_var has shape \(3,\), but there are 2 channels"),
        ({"gamma": np.ones(1)}, r"gamma has shape \(1,\), but there are 2 channels"),
        ({"bias": np.ones(5)}, r"bias has shape \(5,\)"),
        ({"weight": np.ones((3, 5))}, r"3 output channels on axis 0, but running_mean has 2"),
        ({"weight": np.ones((5, 1, 3)), "axis": 1}, r"1 output channels on axis 1"),
        ({"axis": 2}, "axis is 2"),
        ({"eps": -1.0}, "eps is -1.0"),
        ({"running_var": np.zeros(2), "eps": 0}, r"running_var \+ eps is 0 for channel 0"),
        ({"weight": np.full((2, 5), 3e4, np.float16)}, "folded weight reaches 9.49e.06"),
    ],
)
def test_bad_input_is_named(change, message):
    good = {
        "weight": np.ones((2, 5)),
        "bias": None,
        "running_mean": np.zeros(2),
        "running_var": np.array([1.0, 0.0]),
    }
    with pytest.raises(ValueError, match=message):
        fold_batch_norm(**{**good, **change})


def test_integers_are_refused():
    with pytest.raises(TypeError, match="weight has dtype int64"):
        fold_batch_norm(np.ones((2, 5), int), None, np.zeros(2), np.ones(2))
