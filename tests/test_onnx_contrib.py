"""What ONNX Runtime's optimizer writes, against ONNX Runtime and PyTorch."""

import warnings

import numpy as np
import onnx
import pytest
import torch
from each import each
from extras import need
from numpy.testing import assert_allclose, assert_array_equal
from test_onnx_versions import model_of, run

from numpy_norms.onnx import evaluator

rng = np.random.default_rng(61)
MICROSOFT = {"domain": "com.microsoft", "opset": 17}
SKIP_OUTPUTS = ["y", "", "", "s"]
dtypes = each("dtype", [np.float32, np.float16])


def draw(*shape, dtype=np.float32):
    """Draw numbers about a mean of 0.5."""
    return (0.5 + rng.standard_normal(shape)).astype(dtype)


def peer(model, feed):
    """Run a model in ONNX Runtime, as it is."""
    need("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    typed = onnx.ModelProto()
    typed.CopyFrom(model)
    typed.ir_version = 8
    kind = typed.graph.input[0].type.tensor_type.elem_type
    for end in typed.graph.output:
        end.type.tensor_type.elem_type = kind if end.name != "index" else onnx.TensorProto.INT32
    session = onnxruntime.InferenceSession(
        typed.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feed)


def agree(operator, inputs, outputs, **options):
    """Compare the outputs with those of ONNX Runtime."""
    model = model_of(operator, inputs, outputs, **(MICROSOFT | options))
    feed = {f"in{i}": a for i, a in enumerate(inputs) if a is not None}
    for got, expected in zip(evaluator(model).run(None, feed), peer(model, feed), strict=True):
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        tolerance = 2e-3 if got.dtype == np.float16 else 2e-6
        assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@dtypes
@each("skip_shape", [(2, 3, 8), (1, 3, 8), (3, 8)])
@each("given", ["", "beta", "bias", "beta bias"])
def test_skip_layer_normalization_is_that_of_onnx_runtime(skip_shape, given, dtype):
    x, skip, gamma = (
        draw(2, 3, 8, dtype=dtype),
        draw(*skip_shape, dtype=dtype),
        draw(8, dtype=dtype),
    )
    beta, bias = (draw(8, dtype=dtype) if name in given else None for name in ("beta", "bias"))
    inputs = (x, skip, gamma, beta, bias)
    agree("SkipLayerNormalization", inputs, SKIP_OUTPUTS, epsilon=1e-3)


@dtypes
@each("given", ["", "bias"])
@each("shape", [(2, 3, 8), (5, 8)])
def test_skip_simplified_layer_normalization_is_that_of_onnx_runtime(shape, given, dtype):
    x, skip, gamma = draw(*shape, dtype=dtype), draw(*shape, dtype=dtype), draw(8, dtype=dtype)
    inputs = (x, skip, gamma, draw(8, dtype=dtype) if given else None)
    agree("SkipSimplifiedLayerNormalization", inputs, SKIP_OUTPUTS)


@dtypes
@each("axis", [-1, 1, -2])
def test_simplified_layer_normalization_is_that_of_onnx_runtime(axis, dtype):
    x = draw(2, 3, 8, dtype=dtype)
    gamma = draw(*x.shape[axis % 3 :], dtype=dtype)
    options = {"domain": "", "axis": axis, "epsilon": 1e-3}
    agree("SimplifiedLayerNormalization", (x, gamma), ["y"], **options)


def test_a_sum_and_its_norm_are_those_of_pytorch():
    x, skip, gamma, beta, bias = draw(2, 3, 8), draw(3, 8), draw(8), draw(8), draw(8)
    s = torch.from_numpy((x + skip + bias).astype(np.float64))
    mean, var = s.mean(-1, keepdim=True), s.var(-1, keepdim=True, correction=0)
    expected = torch.nn.functional.layer_norm(s, (8,), eps=1e-3).numpy() * gamma + beta
    got = run(
        "SkipLayerNormalization", x, skip, gamma, beta, bias,
        outputs=4, epsilon=1e-3, **MICROSOFT,
    )  # fmt: skip
    for a, b in zip(got, (expected, mean, (var + 1e-3) ** -0.5, s), strict=True):
        assert_allclose(a, b, rtol=2e-6, atol=2e-6)
    expected = torch.nn.functional.rms_norm(s, (8,), eps=1e-3).numpy() * gamma
    got = run(
        "SkipSimplifiedLayerNormalization", x, np.broadcast_to(skip, x.shape), gamma, bias,
        outputs=4, epsilon=1e-3, **MICROSOFT,
    )  # fmt: skip
    rstd = ((s**2).mean(-1, keepdim=True) + 1e-3) ** -0.5
    for a, b in zip(got, (expected, 0 * mean, rstd, s), strict=True):
        assert_allclose(a, b, rtol=2e-6, atol=2e-6)


@each("domain", ["", "com.microsoft"])
def test_simplified_layer_normalization_is_rms_norm_in_both_domains(domain):
    x, gamma = draw(2, 3, 8), draw(8)
    y, rstd = run(
        "SimplifiedLayerNormalization", x, gamma, outputs=2, opset=13, domain=domain, epsilon=0.25
    )
    expected = torch.nn.functional.rms_norm(*map(torch.from_numpy, (x,)), (8,), eps=0.25)
    assert_allclose(y, expected.numpy() * gamma, rtol=1e-6, atol=1e-6)
    assert_allclose(rstd, ((x**2).mean(-1, keepdims=True) + 0.25) ** -0.5, rtol=1e-6)


@each("given", ["", "segments", "mask", "positions", "segments mask positions"])
def test_embed_layer_normalization_is_that_of_onnx_runtime(given):
    ids = rng.integers(0, 11, (2, 4)).astype(np.int32)
    segments = rng.integers(0, 2, (2, 4)).astype(np.int32) if "segments" in given else None
    positions = np.array([[3, 1, 2, 0]], np.int32) if "positions" in given else None
    mask = np.array([[1, 1, 1, 0], [1, 0, 0, 0]], np.int32) if "mask" in given else None
    tables = draw(11, 8), draw(5, 8), draw(2, 8) if segments is not None else None
    inputs = (ids, segments, *tables, draw(8), draw(8), mask, positions)
    model = model_of("EmbedLayerNormalization", inputs, ["y", "index", "s"], **MICROSOFT)
    feed = {f"in{i}": a for i, a in enumerate(inputs) if a is not None}
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    ours = evaluator(model).run(None, feed)
    need("onnxruntime")
    model.graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.INT32
    model.graph.output[2].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    import onnxruntime

    model.ir_version = 8
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    theirs = session.run(None, feed)
    for got, expected in zip(ours, theirs, strict=True):
        assert got.dtype == expected.dtype
        assert_allclose(got, expected, rtol=2e-6, atol=2e-6)


def test_an_index_beyond_its_embedding_is_refused():
    ids = np.array([[0, -1]], np.int32)
    inputs = (ids, None, draw(11, 8), draw(5, 8), None, draw(8), draw(8))
    with pytest.raises(ValueError, match="input_ids holds -1, but its embedding has 11 rows"):
        run("EmbedLayerNormalization", *inputs, **MICROSOFT)


# ONNX Runtime has the next two for GPUs alone: PyTorch stands for it.


def silu_group_norm(x, groups, gamma, beta, activation, eps=1e-5):
    """Group norm of (N, C, H, W) in PyTorch, and SiLU."""
    tensors = [torch.from_numpy(a.astype(np.float64)) for a in (x, gamma, beta)]
    y = torch.nn.functional.group_norm(tensors[0], groups, *tensors[1:], eps=eps)
    return (torch.nn.functional.silu(y) if activation else y).numpy()


@dtypes
@each("activation", [0, 1])
@each("channels_last", [0, 1])
def test_group_norm_with_silu(channels_last, activation, dtype):
    x, gamma, beta = draw(2, 6, 3, 4, dtype=dtype), draw(6), draw(6)
    expected = silu_group_norm(x, 3, gamma, beta, activation)
    given = x.transpose(0, 2, 3, 1) if channels_last else x
    options = {"groups": 3, "activation": activation, "channels_last": channels_last}
    (y,) = run("GroupNorm", given, gamma, beta, **options, **MICROSOFT)
    assert y.dtype == dtype
    y = y.transpose(0, 3, 1, 2) if channels_last else y
    tolerance = 1e-3 if dtype == np.float16 else 2e-6
    assert_allclose(y, expected, rtol=tolerance, atol=tolerance)


@each("bias", [False, True])
@each("channels_last", [0, 1])
@each("kind", ["whole", "ones", "flat"])
def test_skip_group_norm(kind, channels_last, bias):
    x, skip, gamma, beta, b = draw(2, 6, 3, 4), draw(2, 6, 3, 4), draw(6), draw(6), draw(6)
    skip = skip if kind == "whole" else skip[:, :, :1, :1]
    s = x + skip + (b[:, None, None] if bias else 0)
    expected = silu_group_norm(s, 2, gamma, beta, 1)
    if channels_last:
        x, skip = x.transpose(0, 2, 3, 1), skip.transpose(0, 2, 3, 1)
    skip = skip.reshape(2, 6) if kind == "flat" else skip
    options = {"groups": 2, "activation": 1, "channels_last": channels_last}
    y, total = run(
        "SkipGroupNorm", x, gamma, beta, skip, b if bias else None,
        outputs=2, **options, **MICROSOFT,
    )  # fmt: skip
    back = (0, 3, 1, 2) if channels_last else (0, 1, 2, 3)
    assert_allclose(y.transpose(back), expected, rtol=2e-6, atol=2e-6)
    assert_array_equal(total.transpose(back), s)


@each(
    ("options", "message"),
    [
        ({"groups": 4, "activation": 0}, "num_groups is 4"),
        ({"groups": 3, "activation": 2}, "activation is 2, but 0 .none. or 1"),
        ({"groups": 3}, "attribute 'activation' is missing"),
        ({"groups": 3, "activation": 0, "spin": 1}, "attribute 'spin' is unknown"),
    ],
)
def test_a_wrong_group_norm_names_the_node(options, message):
    x = draw(2, 3, 4, 6)
    with pytest.raises(ValueError, match=f"GroupNorm node that computes 'out0': .*{message}"):
        run("GroupNorm", x, draw(6), draw(6), **options, **MICROSOFT)


def test_a_skip_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"skip has shape \(4, 8\), which does not broadcast"):
        run("SkipLayerNormalization", draw(2, 3, 8), draw(4, 8), draw(8), **MICROSOFT)


@each(
    ("changes", "message"),
    [
        ({0: np.zeros(3, np.int32)}, "input_ids has shape"),
        ({3: draw(4, 6)}, "position_embedding has shape"),
        ({2: draw(7)}, "word_embedding has shape"),
    ],
)
def test_an_embedding_of_a_wrong_shape_is_named(changes, message):
    ids = np.zeros((2, 3), np.int32)
    arrays = {0: ids, 1: None, 2: draw(7, 5), 3: draw(4, 5), 4: None, 5: draw(5), 6: draw(5)}
    with pytest.raises(ValueError, match=f"node that computes 'out0': {message}"):
        run("EmbedLayerNormalization", *(arrays | changes).values(), **MICROSOFT)


@each(
    ("operator", "others", "attributes"),
    [
        ("SimplifiedLayerNormalization", 1, {}),
        ("SkipLayerNormalization", 2, {}),
        ("SkipSimplifiedLayerNormalization", 2, {}),
        ("GroupNorm", 2, {"groups": 2, "activation": 0}),
    ],
)
def test_integers_are_no_numbers_to_normalize(operator, others, attributes):
    x = np.ones((1, 6), np.int8)
    with pytest.raises(ValueError, match="has dtype int8"):
        run(operator, x, *[np.ones(6, np.int8)] * others, **attributes, **MICROSOFT)


# What ONNX Runtime's optimizer makes of a network that PyTorch exports.


class Residual(torch.nn.Module):
    """Two sums, each with a layer norm after it."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.LayerNorm(8), torch.nn.LayerNorm(8)
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, x):
        x = self.first(x + self.linear(x))
        return self.second(x + torch.relu(self.linear(x)))


@pytest.mark.parametrize("opset", [12, 17])
def test_what_the_optimizer_writes_is_run(tmp_path, opset):
    need("onnxruntime")
    import onnxruntime

    network, x = Residual().eval(), torch.from_numpy(draw(2, 5, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (x,), tmp_path / "in.onnx", opset_version=opset, dynamo=False,
            input_names=["x"], dynamic_axes={"x": {0: "n", 1: "t"}},
        )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "out.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(tmp_path / "in.onnx", options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node]
    assert operators.count("SkipLayerNormalization") == 2
    (y,) = evaluator(tmp_path / "out.onnx").run(None, {"x": x.numpy()})
    assert_allclose(y, network(x).detach(), rtol=1e-5, atol=1e-5)
