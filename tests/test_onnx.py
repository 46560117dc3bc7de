"""ONNX' operators: the official node tests, and what they leave untested."""

import importlib
import warnings
from unittest import mock

import ml_dtypes
import numpy as np
import onnx
import pytest
from each import each
from mpmath import mp, mpf
from numpy.testing import assert_allclose, assert_array_equal
from onnx.backend.test.case import node as official
from onnx.reference import ReferenceEvaluator

from benchmarks.onnx_models import MODELS, SMALL, compare
from numpy_norms.onnx import evaluator, new_ops

STANDARD = [o for o in new_ops if not o.op_domain and o.__name__ != "SimplifiedLayerNormalization"]
OPERATORS = {operator.__name__ for operator in STANDARD}
MODULES = [
    "batch_normalization",
    "groupnormalization",
    "instance_normalization",
    "layernormalization",
    "lpnormalization",
    "lrn",
    "meanvariancenormalization",
    "rmsnormalization",
]
rng = np.random.default_rng(8)


def import_norms(package):
    """Import the cases of the norms only; those of all operators take ten seconds."""
    for name in MODULES:
        importlib.import_module(f"{package.__name__}.{name}")


def official_cases():
    """Collect the cases of single operators, without those of expanded functions."""
    with warnings.catch_warnings(), mock.patch.object(official, "import_recursive", import_norms):
        warnings.simplefilter("ignore")
        cases = official.collect_testcases()
    return [
        case
        for case in cases
        if case.model.graph.node[0].op_type in OPERATORS and "_expanded" not in case.name
    ]


CASES = official_cases()


def run(operator, *inputs, outputs=1, opset=23, name="", **attributes):
    """Run one node on arrays."""
    names = [f"in{i}" for i in range(len(inputs))]
    results = [f"out{i}" for i in range(outputs)]
    node = onnx.helper.make_node(operator, names, results, name=name, **attributes)
    infos = [
        onnx.helper.make_tensor_value_info(
            n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape
        )
        for n, a in zip(names, inputs, strict=True)
    ]
    ends = [
        onnx.helper.make_tensor_value_info(n, infos[0].type.tensor_type.elem_type, None)
        for n in results
    ]
    graph = onnx.helper.make_graph([node], "one", infos, ends)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    got = evaluator(model).run(None, dict(zip(names, inputs, strict=True)))
    return got[0] if outputs == 1 else got


def test_there_are_55_official_cases():
    assert len(CASES) == 55
    assert {case.model.graph.node[0].op_type for case in CASES} == OPERATORS


@each("case", CASES)
def test_official_case(case):
    names = [entry.name for entry in case.model.graph.input]
    for inputs, expected in case.data_sets:
        feed = dict(zip(names, inputs, strict=True))
        got = ReferenceEvaluator(case.model, new_ops=new_ops).run(None, feed)
        for a, b in zip(got, expected, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# Rounding: x_hat in more than 40 digits, rounded to the stash type, then as the standard says.


def exact_x_hat(x, eps, *, centered=True):
    """Standardize the rows of x and round once to float64."""
    rows = []
    with mp.workdps(40):
        for row in x:
            values = [mpf(float(v)) for v in row]
            mean = mp.fsum(values) / len(values) if centered else mpf(0)
            var = mp.fsum((v - mean) ** 2 for v in values) / len(values)
            rows.append([float((v - mean) / mp.sqrt(var + mpf(float(eps)))) for v in values])
    return np.array(rows)


STASH = {1: np.float32, 11: np.float64, 16: ml_dtypes.bfloat16, 10: np.float16}
stashes = each("stash_type", STASH)
halves = each("dtype", [np.float16, ml_dtypes.bfloat16])


@halves
@stashes
@each("operator", ["LayerNormalization", "RMSNormalization"])
def test_half_precision_is_rounded_where_the_standard_rounds(operator, stash_type, dtype):
    # Squares of 300 do not fit into float16: the stock evaluator returns 0 (onnx#8439).
    x = (300 + 40 * rng.standard_normal((5, 16))).astype(dtype)
    scale, bias = rng.standard_normal((2, 16)).astype(dtype)
    stash, centered = STASH[stash_type], operator.startswith("Layer")
    x_hat = exact_x_hat(x.astype(stash), np.float32(1e-3), centered=centered)
    expected = x_hat.astype(stash).astype(dtype) * scale
    inputs = (x, scale)
    if centered:
        expected, inputs = expected + bias, (x, scale, bias)
    y = run(operator, *inputs, stash_type=stash_type, epsilon=1e-3)
    assert y.dtype == dtype
    assert_array_equal(y, expected)


def test_float64_has_the_precision_of_the_stash_type():
    x, scale = rng.standard_normal((3, 16)), np.ones(16)
    narrow = run("LayerNormalization", x, scale)
    assert_array_equal(narrow, narrow.astype(np.float32))
    wide = run("LayerNormalization", x, scale, stash_type=11)
    assert_allclose(wide, exact_x_hat(x, np.float32(1e-5)), rtol=1e-14)


def test_mean_and_inv_std_dev_have_the_stash_type():
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float16)
    outputs = run("LayerNormalization", x, x[0, 0], x[0, 1], axis=-2, outputs=3)
    wide = x.astype(np.float64)
    assert [a.dtype for a in outputs] == [np.float16, np.float32, np.float32]
    assert [a.shape for a in outputs[1:]] == [(2, 3, 1, 1)] * 2
    assert_allclose(outputs[1], wide.mean((2, 3), keepdims=True), rtol=1e-6, atol=1e-7)
    assert_allclose(outputs[2], (wide.var((2, 3), keepdims=True) + 1e-5) ** -0.5, rtol=1e-6)


@each("first", [np.float32(40000), np.float32(-1e7)])
def test_a_large_mean_does_not_drown_the_variance(first):
    row = first + np.arange(4, dtype=np.float32)
    expected = (np.arange(4) - 1.5) / np.sqrt(1.25 + 1e-5)
    for y in (
        run("LayerNormalization", row[None], np.ones(4, np.float32)),
        run("InstanceNormalization", row[None, None], *np.ones((2, 1), np.float32)) - 1,
        run("GroupNormalization", row[None, None], *np.ones((2, 1), np.float32), num_groups=1) - 1,
    ):
        assert_allclose(y.ravel(), expected, rtol=1e-6)


@each("shape", [(), (1,), (4, 5), (3, 1, 1), (2, 3, 4, 5), (1, 1, 5)])
def test_scale_and_bias_broadcast(shape):
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    scale, bias = rng.standard_normal((2, *shape)).astype(np.float32)
    plain = run("LayerNormalization", x, np.float32(1)[None], axis=2)
    y = run("LayerNormalization", x, np.asarray(scale), np.asarray(bias), axis=2)
    assert_allclose(y, plain * scale + bias, rtol=1e-5, atol=1e-6)


# Group norm: one number per group until opset 20, one per channel from 21 on.


def test_scale_per_group_and_per_channel():
    x = rng.standard_normal((2, 6, 5)).astype(np.float32)
    scale, bias = rng.standard_normal((2, 3)).astype(np.float32)
    by_channel = np.repeat(scale, 2), np.repeat(bias, 2)
    new = run("GroupNormalization", x, *by_channel, num_groups=3, opset=21)
    old = run("GroupNormalization", x, scale, bias, num_groups=3, opset=18)
    assert_array_equal(old, new)
    with pytest.raises(ValueError, match=r"scale has shape \(3,\), but X has 6 channels"):
        run("GroupNormalization", x, scale, bias, num_groups=3, opset=21)


@halves
def test_half_precision_group_norm_applies_scale_in_half_precision(dtype):
    x = rng.standard_normal((3, 4, 4)).astype(dtype)
    scale, bias = rng.standard_normal((2, 4)).astype(dtype)
    x_hat = exact_x_hat(x.reshape(6, 8), np.float32(1e-5)).reshape(x.shape)
    expected = x_hat.astype(np.float32).astype(dtype) * scale[:, None] + bias[:, None]
    assert_array_equal(run("GroupNormalization", x, scale, bias, num_groups=2), expected)


# Batch norm.


@each("shape", [(7, 3), (5, 3, 2), (2, 3, 4, 5), (7,)])
def test_batch_norm_in_training_moves_the_old_statistics(shape):
    x = (2 + rng.standard_normal(shape)).astype(np.float32)
    channels = 1 if x.ndim == 1 else 3
    scale, bias, mean, var = (1 + rng.random((4, channels))).astype(np.float32)
    y, new_mean, new_var = run(
        "BatchNormalization", x, scale, bias, mean, var, training_mode=1, momentum=0.75, outputs=3
    )
    rows = np.moveaxis(x.reshape(x.shape if x.ndim > 1 else (-1, 1)), 1, 0).reshape(channels, -1)
    wide = rows.astype(np.float64)
    assert_allclose(new_mean, 0.75 * mean + 0.25 * wide.mean(axis=1), rtol=1e-6)
    assert_allclose(new_var, 0.75 * var + 0.25 * wide.var(axis=1), rtol=1e-6)
    expected = exact_x_hat(rows, np.float32(1e-5)) * scale[:, None] + bias[:, None]
    got = np.moveaxis(y.reshape(x.shape if x.ndim > 1 else (-1, 1)), 1, 0).reshape(channels, -1)
    assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_batch_norm_in_inference_before_training_mode_existed():
    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    scale, bias, mean, var = rng.random((4, 3)).astype(np.float32)
    parameters = scale, bias, mean, var
    old = run("BatchNormalization", x, *parameters, opset=9)
    assert_array_equal(old, run("BatchNormalization", x, *parameters, opset=15))


@each("name", MODELS)
def test_a_whole_model_gives_what_the_stock_evaluator_gives(name):
    make, norm = MODELS[name]
    assert compare(make(norm, *SMALL[make]), runs=1)["apart"] < 2e-6


# The stock evaluator's known mistakes.


def test_lrn_with_another_number_of_samples_than_channels():
    x = rng.standard_normal((2, 5, 3, 4)).astype(np.float32)
    y = run("LRN", x, size=4, alpha=0.5, beta=0.75, bias=2.0)
    wide = x.astype(np.float64)
    for c in range(5):
        energy = (wide[:, max(0, c - 1) : c + 3] ** 2).sum(axis=1)  # onnx#7805
        assert_allclose(y[:, c], wide[:, c] / (2 + 0.125 * energy) ** 0.75, rtol=1e-6)


def test_l1_of_negative_numbers_and_the_norm_zero():
    x = np.array([[-3, 4, 1], [0, 0, 0]], np.float32)
    expected = np.array([[-0.375, 0.5, 0.125], [0, 0, 0]], np.float32)
    assert_array_equal(run("LpNormalization", x, p=1), expected)  # onnx#8427


def test_mvn_of_a_constant_is_zero():
    assert not run("MeanVarianceNormalization", np.full((2, 3, 4, 5), 1234.1, np.float32)).any()


# Bad input.

CHANNELS = {"scale": np.ones(6), "bias": np.ones(6), "mean": np.zeros(6), "var": np.ones(6)}


@each(
    ("changes", "message"),
    [
        ({"var": -np.ones(6)}, "input_var is -1.0 for channel 0"),
        ({"var": np.array([1, 1, np.nan, 1, 1, 1])}, "input_var is nan for channel 2"),
        ({"mean": np.full(6, np.inf)}, "input_mean is inf for channel 0"),
        ({"scale": np.ones(2)}, r"scale has shape \(2,\), but X has 6 channels"),
    ],
)
def test_a_wrong_batch_norm_names_node_and_input(changes, message):
    arrays = [a.astype(np.float32) for a in (CHANNELS | changes).values()]
    with pytest.raises(ValueError, match=f"BatchNormalization node bn7: {message}"):
        run("BatchNormalization", np.ones((2, 6), np.float32), *arrays, name="bn7")


def test_groups_that_do_not_divide_and_axes_that_do_not_exist():
    x, ones = np.ones((2, 6, 3), np.float32), np.ones(6, np.float32)
    with pytest.raises(ValueError, match="node that computes 'out0': num_groups is 4"):
        run("GroupNormalization", x, ones, ones, num_groups=4)
    with pytest.raises(ValueError, match="axis is 3, but X has 3 axes"):
        run("LayerNormalization", x, ones, axis=3)


@each("operator", ["LayerNormalization", "RMSNormalization"])
@each("shape", [(4,), (2, 1, 1), (1, 2, 6, 3)])
def test_a_scale_that_would_make_y_larger_than_x_is_refused(operator, shape):
    x, scale = np.ones((1, 6, 3), np.float32), np.ones(shape, np.float32)
    with pytest.raises(ValueError, match="which does not broadcast to that of X"):
        run(operator, x, scale)


@each("x", [np.ones((2, 6), np.int64), np.ones((2, 6), np.int8)])
@each(
    ("operator", "parameters", "attributes"),
    [
        ("LayerNormalization", 1, {}),
        ("RMSNormalization", 1, {}),
        ("GroupNormalization", 2, {"num_groups": 2}),
        ("InstanceNormalization", 2, {}),
        ("BatchNormalization", 4, {}),
        ("LpNormalization", 0, {}),
        ("LRN", 0, {"size": 3}),
    ],
)
def test_integers_are_no_numbers_to_normalize(x, operator, parameters, attributes):
    with pytest.raises(ValueError, match="has dtype int"):
        run(operator, x, *[np.ones(6, x.dtype)] * parameters, **attributes)


@each(
    ("attributes", "message"),
    [
        ({"momentum": 1.5}, "momentum is 1.5"),
        ({"epsilon": -1.0}, "epsilon is -1.0"),
        ({"epsilon": float("nan")}, "epsilon is nan"),
    ],
)
def test_an_attribute_out_of_range_is_named_as_it_came(attributes, message):
    arrays = [a.astype(np.float32) for a in CHANNELS.values()]
    x, options = np.ones((2, 6), np.float32), {"training_mode": 1, "outputs": 3, **attributes}
    with pytest.raises(ValueError, match=f"node that computes 'out0': {message}"):
        run("BatchNormalization", x, *arrays, **options)


@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1\n", b"\x08", b""])
def test_a_file_that_holds_no_model_is_named(tmp_path, content):
    path = tmp_path / "network.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"network\.onnx holds no ONNX model"):
        evaluator(path)


def test_a_model_is_read_from_its_file(tmp_path):
    case = next(case for case in CASES if case.name == "test_lrn")
    onnx.save(case.model, tmp_path / "lrn.onnx")
    (x,), (expected,) = case.data_sets[0]
    assert_allclose(evaluator(tmp_path / "lrn.onnx").run(None, {"x": x})[0], expected, rtol=1e-5)
