"""Folding batch norm into the map before it: outputs stay, and known mistakes would show."""

import json
from functools import partial

import framework_vectors as vectors
import ml_dtypes
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from each import each
from numpy.testing import assert_allclose, assert_array_equal

from numpy_norms import conventions, fold_batch_norm, fold_batch_norm_into_next
from numpy_norms.fold_layouts import LAYOUTS
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
cases = each("case", CASES.values())


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
@each("has_bias", [True, False])
@each("affine", [True, False])
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


@each("name", ["linear", "conv2d", "grouped", "transposed"])
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


@each("dtype", [np.float16, np.float32, ml_dtypes.bfloat16])
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


@each(
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


# Every layout against its framework: what Keras and Flax computed by map and norm is stored, and
# PyTorch applies the folded kernel, turned to its own layout.

STORED = {
    name: (framework, vectors.as_arrays(entry))
    for framework, results in json.loads(vectors.FILE.read_text("utf-8")).items()
    for name, entry in results["maps"].items()
}


def apply_by_torch(layout, x, kernel, bias):
    """Apply a map of Keras or Flax to x with its channels last."""
    x, kernel, bias = (torch.from_numpy(a.astype(np.float64)) for a in (x, kernel, bias))
    if layout.endswith("dense"):
        return (x @ kernel + bias).numpy()
    space = list(range(kernel.ndim - 2))
    inputs, outputs = kernel.ndim - 2, kernel.ndim - 1
    if layout in ("keras-conv-transpose", "flax-conv-transpose-kernel"):
        inputs, outputs = outputs, inputs
    turned = kernel.permute(outputs, inputs, *space)
    x = x.movedim(-1, 1)
    if "transpose" in layout:
        turned = turned.flip(*range(2, turned.ndim)) if layout == "flax-conv-transpose" else turned
        stride = 2 if layout == "keras-conv-transpose" and turned.shape[1] == 4 else 1
        y = F.conv_transpose2d(x, turned.swapaxes(0, 1), bias, stride=stride)
    elif layout == "keras-depthwise-conv":
        turned = kernel.permute(inputs, outputs, *space).reshape(-1, 1, *kernel.shape[:-2])
        y = F.conv2d(x, turned, bias, groups=x.shape[1])
    elif len(space) == 1:
        y = F.conv1d(F.pad(x, (0, 1)), turned, bias)
    else:
        y = F.conv2d(x, turned, bias, groups=x.shape[1] // turned.shape[1])
    return y.movedim(1, -1).numpy()


@each("name", STORED)
def test_every_layout_is_that_of_its_framework(name):
    framework, entry = STORED[name]
    layout = name.split()[0]
    norm = conventions.load(entry["norm"], framework)
    weight, bias = fold_batch_norm(entry["kernel"], entry["bias"], **norm, layout=layout)
    y = apply_by_torch(layout, entry["x"], weight, bias)
    scale = abs(entry["y"]).max()
    assert_allclose(y, entry["y"], rtol=1e-5, atol=1e-5 * scale)


def test_every_layout_is_tried():
    tried = {name.split()[0] for name in STORED} | {name for name, *_ in PYTORCH}
    assert tried == set(LAYOUTS)


PYTORCH = [
    ("pytorch-linear", "linear"), ("pytorch-conv", "conv2d"), ("pytorch-conv", "grouped"),
    ("pytorch-conv", "depthwise"), ("pytorch-conv-transpose", "transposed"),
    ("pytorch-conv-transpose", "transposed grouped"),
]  # fmt: skip


@each(("layout", "name"), PYTORCH)
def test_a_layout_of_pytorch_is_its_axis(layout, name):
    case = CASES[name]
    arguments = draw(case[1], case[2])
    for got, expected in zip(
        fold_batch_norm(*arguments, layout=layout),
        fold_batch_norm(*arguments, axis=case[4]),
        strict=True,
    ):
        assert_array_equal(got, expected)


def test_a_square_transposed_kernel_of_keras_needs_its_layout():
    entry = STORED["keras-conv-transpose square"][1]
    norm = conventions.load(entry["norm"], "keras")
    right, _ = fold_batch_norm(entry["kernel"], None, **norm, layout="keras-conv-transpose")
    assert_array_equal(right, fold_batch_norm(entry["kernel"], None, **norm, axis=-2)[0])
    assert not np.allclose(right, fold_batch_norm(entry["kernel"], None, **norm, axis=-1)[0])


@each(
    ("options", "message"),
    [
        (
            {"layout": np.ones(99)},
            r"layout is array\(\[1., [1., ]*\.\.\.; pass one of 'pytorch-linear'",
        ),
        ({"layout": "caffe-conv"}, "layout is 'caffe-conv'; pass one of 'pytorch-linear'"),
        ({"layout": "keras-dense", "axis": 1}, "axis is 1 and layout 'keras-dense'; pass one"),
        ({"layout": "keras-dense"}, "layout it has: of 'pytorch-linear'"),
        ({"layout": "keras-conv"}, "which as 'keras-conv' has other output channels than running"),
        ({"axis": 1}, "so 5 output channels on axis 1, but running_mean has 2; pass the layout"),
    ],
)
def test_a_layout_that_does_not_fit_is_named_with_those_that_do(options, message):
    with pytest.raises(ValueError, match=message):
        fold_batch_norm(np.ones((2, 5)), None, np.zeros(2), np.ones(2), **options)


def test_statistics_that_are_a_type_are_no_array():
    for call in (
        lambda a: fold_batch_norm(np.ones((2, 5)), None, a, np.ones(2)),
        lambda a: conventions.convert_running_var(a, 5, "pytorch", "keras"),
    ):
        with pytest.raises(TypeError, match="it is a type; pass an array of floats"):
            call(np.float32)


def test_a_small_eps_counts_beside_a_variance_of_0_in_half_precision():
    var = np.zeros(2, np.float16)
    weight, _ = fold_batch_norm(np.ones((2, 3)), None, np.zeros(2), var, eps=1e-9)
    assert_allclose(weight, 1e-9**-0.5, rtol=1e-12)


# Into the map after it.

NEXT = {
    # layout -> map of PyTorch, weight shape, channels before it, outputs, input shape
    "pytorch-linear": (F.linear, (6, 5), 5, 6, (4, 5)),
    "pytorch-conv": (partial(F.conv2d, stride=2), (6, 5, 3, 2), 5, 6, (2, 5, 7, 4)),
    "pytorch-conv grouped": (partial(F.conv2d, groups=2), (6, 5, 3, 2), 10, 6, (2, 10, 7, 4)),
    "pytorch-conv depthwise": (partial(F.conv2d, groups=3), (6, 1, 3, 2), 3, 6, (2, 3, 7, 4)),
}


@each("name", NEXT)
@each("has_bias", [True, False])
def test_the_map_after_a_norm_gives_what_norm_and_map_gave(name, has_bias):
    apply, shape, channels, outputs, x_shape = NEXT[name]
    rng = np.random.default_rng(6)
    weight = rng.standard_normal(shape)
    mean, var, gamma, beta = draw((1,), channels)[2:]
    bias = rng.standard_normal(outputs) if has_bias else None
    x = torch.from_numpy(rng.standard_normal(x_shape))
    tensors = [torch.from_numpy(a) for a in (mean, var, gamma, beta)]
    before = F.batch_norm(x, *tensors, eps=EPS)
    as_tensor = lambda a: None if a is None else torch.from_numpy(a)  # noqa: E731
    expected = apply(before, as_tensor(weight), as_tensor(bias))
    folded = fold_batch_norm_into_next(
        weight, bias, mean, var, gamma, beta, eps=EPS, layout=name.split()[0]
    )
    got = apply(x, *map(as_tensor, folded))
    assert_allclose(got, expected, rtol=1e-11, atol=1e-11)


@each("name", [n for n in STORED if "transpose" not in n and "1d" not in n])
def test_the_map_after_a_norm_in_every_layout_of_other_frameworks(name):
    _, entry = STORED[name]
    layout, x, kernel = name.split()[0], entry["x"].astype(float), entry["kernel"].astype(float)
    mean, var, gamma, beta = draw((1,), x.shape[-1])[2:]
    normalized = (x - mean) / np.sqrt(var + EPS) * gamma + beta
    expected = apply_by_torch(layout, normalized, kernel, entry["bias"])
    weight, bias = fold_batch_norm_into_next(
        kernel, entry["bias"].astype(float), mean, var, gamma, beta, eps=EPS, layout=layout
    )
    assert_allclose(apply_by_torch(layout, x, weight, bias), expected, rtol=1e-11, atol=1e-11)


def test_into_the_next_is_refused_where_it_is_not_exact():
    norm = np.full(5, 2.0), np.ones(5)
    with pytest.raises(ValueError, match="with zeros as padding the result would be wrong"):
        fold_batch_norm_into_next(
            np.ones((6, 5, 3)), None, *norm, layout="pytorch-conv", padding=True
        )
    with pytest.raises(ValueError, match="a transposed convolution cannot take it over"):
        fold_batch_norm_into_next(np.ones((5, 6, 3)), None, *norm, layout="pytorch-conv-transpose")
    with pytest.raises(ValueError, match="other input channels than running_mean, 5"):
        fold_batch_norm_into_next(np.ones((5, 6)), None, *norm, layout="pytorch-linear")


@each("layout", ["pytorch-conv", "pytorch-conv-transpose"])
def test_without_a_shift_it_is_exact_with_padding_and_transposed(layout):
    rng = np.random.default_rng(3)
    transposed = "transpose" in layout
    weight = rng.standard_normal((5, 6, 3) if transposed else (6, 5, 3))
    mean, gamma = np.zeros(5), rng.standard_normal(5)
    x, var = rng.standard_normal((2, 5, 7)), rng.uniform(1, 2, 5)
    apply = F.conv_transpose1d if transposed else F.conv1d
    options = {"stride": 2, "padding": 1}
    normalized = x * (gamma / np.sqrt(var + EPS))[:, None]
    expected = apply(torch.from_numpy(normalized), torch.from_numpy(weight), None, **options)
    folded, bias = fold_batch_norm_into_next(
        weight, None, mean, var, gamma, eps=EPS, layout=layout, padding=not transposed
    )
    assert not bias.any()
    got = apply(torch.from_numpy(x), torch.from_numpy(folded), None, **options)
    assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_padding_with_what_the_norm_takes_to_0_is_the_cure_that_the_error_names():
    rng = np.random.default_rng(4)
    weight, x = rng.standard_normal((6, 5, 3)), rng.standard_normal((2, 5, 7))
    mean, var, gamma, beta = draw((1,), 5)[2:]
    normalized = (x - mean[:, None]) / np.sqrt(var + EPS)[:, None] * gamma[:, None] + beta[:, None]
    expected = F.conv1d(torch.from_numpy(normalized), torch.from_numpy(weight), padding=1)
    folded = fold_batch_norm_into_next(
        weight, None, mean, var, gamma, beta, eps=EPS, layout="pytorch-conv"
    )
    edge = np.broadcast_to((mean - beta / gamma * np.sqrt(var + EPS))[:, None], (2, 5, 1))
    padded = np.concatenate([edge, x, edge], axis=2)
    got = F.conv1d(torch.from_numpy(padded), *map(torch.from_numpy, folded))
    assert_allclose(got, expected, rtol=1e-11, atol=1e-11)


@each("function", [fold_batch_norm, fold_batch_norm_into_next])
@each(
    ("dtype", "name", "change", "wider"),
    [
        (np.float16, "weight", {"gamma": [3e4, 1.0]}, np.float32),
        (np.float16, "bias", {"beta": [1e6, 0.0]}, np.float32),
        (np.float16, "weight", {"gamma": [1e300, 1.0]}, np.float64),
        (np.float32, "weight", {"gamma": [1e60, 1.0]}, np.float64),
        (np.float32, "bias", {"beta": [1e60, 0.0]}, np.float64),
        (np.float64, "weight", {"gamma": [1e307, 1.0]}, None),
        (np.float64, "weight", {"gamma": [1e300, 1.0], "running_var": [1e-200, 1.0]}, None),
        (np.float64, "bias", {"beta": [1e308, 1e308], "running_mean": [-1e308, -1e308]}, None),
    ],
)
@each("has_bias", [False, True])
def test_what_leaves_the_range_is_refused_with_a_cure_that_cures(
    function, dtype, name, change, wider, has_bias
):
    given = {
        "weight": np.full((2, 2), 100, dtype),
        "bias": np.zeros(2, dtype) if has_bias else None,
        "running_mean": np.zeros(2),
        "running_var": np.ones(2),
        **{k: np.array(a) for k, a in change.items()},
        "eps": 0.0,
    }
    with pytest.raises(ValueError, match=r"folded|beyond the range") as error:
        function(**given)
    cure = str(error.value).rpartition("; ")[2]
    if wider is None:
        assert cure == "run the norm by itself"
        return
    assert name in cure
    cured = eval(cure.split()[-1], {"np": np, **given})
    assert cured.dtype == wider
    found = function(**{**given, name: cured})
    assert all(np.isfinite(a).all() for a in found)


def test_nan_and_infinity_of_a_weight_stay_what_they_are():
    weight = np.array([[np.nan, 1.0], [np.inf, 2.0]], np.float32)
    folded, bias = fold_batch_norm(weight, None, np.ones(2), np.ones(2), eps=0.0)
    assert_array_equal(folded, weight)
    assert_array_equal(bias, [-1, -1])


@each("padding", [[1, 1], np.array([1, 2]), "same", None, 2])
def test_padding_is_said_with_true_or_false(padding):
    given = np.ones((2, 2)), None, np.zeros(2), np.ones(2)
    with pytest.raises(TypeError, match="pass True where zeros are put around"):
        fold_batch_norm_into_next(*given, padding=padding)
    with pytest.raises(ValueError, match="layout is None"):
        fold_batch_norm_into_next(*given, layout=None)
