"""Conventions against the frameworks themselves, and the loading of their states."""

import json
from importlib.util import find_spec

import framework_vectors as vectors
import numpy as np
import onnx
import pytest
import torch
from each import each
from numpy.testing import assert_allclose, assert_array_equal

import numpy_norms as nn
from numpy_norms import conventions
from numpy_norms.conventions import CONVENTIONS, convention, load, update_options
from numpy_norms.oracle.sets import NORMS

STORED = json.loads(vectors.FILE.read_text("utf-8"))
STORED_FRAMEWORKS = each("framework", STORED)
norms = each("norm", NORMS)
rng = np.random.default_rng(3)


def forward(norm, x, options):
    """Run our forward pass (batch norm: in inference) with a framework's arrays and eps."""
    name = "batch_norm_inference" if norm == "batch_norm" else norm
    groups = {"num_groups": vectors.GROUPS} if norm == "group_norm" else {}
    return getattr(nn, f"{name}_forward")(x, **groups, **options)[0]


def channels(framework, norm):
    """Say where the framework has its channels."""
    axis = convention(framework, norm).channel_axis
    return {} if axis is None else {"channel_axis": axis}


# Keras and Flax: what they compute is stored, and compared with them where they are installed.


@pytest.mark.parametrize("framework", STORED)
def test_stored_vectors_are_what_the_framework_computes(framework):
    if find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    live = vectors.results_of(framework)
    for norm in NORMS:
        for key in live[norm].keys() - {"state", "new_state"}:
            assert_allclose(live[norm][key], STORED[framework][norm][key], rtol=1e-5, atol=1e-6)
    for name, entry in live["maps"].items():
        assert_allclose(entry["y"], STORED[framework]["maps"][name]["y"], rtol=1e-4, atol=1e-4)


@STORED_FRAMEWORKS
@norms
def test_a_loaded_state_gives_the_framework_s_output(framework, norm):
    stored = vectors.as_arrays(STORED[framework][norm])
    options = load(stored["state"], framework, "here", norm=norm)
    y = forward(norm, vectors.inputs(), options | channels(framework, norm))
    assert_allclose(y, stored["y"], rtol=2e-5, atol=2e-6)


@STORED_FRAMEWORKS
def test_running_statistics_move_as_in_the_framework(framework):
    stored = vectors.as_arrays(STORED[framework]["batch_norm"])
    options = load(stored["state"], framework, "here")
    mean, var = options.pop("running_mean"), options.pop("running_var")
    y, cache = nn.batch_norm_forward(vectors.inputs(), **options, channel_axis=-1)
    assert_allclose(y, stored["y_training"], rtol=2e-5, atol=2e-6)
    mean, var = nn.update_running_stats(mean, var, cache, **update_options(framework))
    after = load(stored["new_state"], framework, "here")
    assert_allclose(mean, after["running_mean"], rtol=1e-5)
    assert_allclose(var, after["running_var"], rtol=1e-5)


# PyTorch: the real modules, in float64.


def torch_module(norm):
    """Build PyTorch's module with random parameters and statistics, for (N, 6, 5)."""
    make = {
        "batch_norm": lambda: torch.nn.BatchNorm1d(6),
        "layer_norm": lambda: torch.nn.LayerNorm((6, 5)),
        "group_norm": lambda: torch.nn.GroupNorm(vectors.GROUPS, 6),
        "instance_norm": lambda: torch.nn.InstanceNorm1d(6, affine=True),
        "rms_norm": lambda: torch.nn.RMSNorm((6, 5)),
    }
    module = make[norm]().float()
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            values = rng.standard_normal(tensor.shape)
            tensor.copy_(torch.from_numpy(values**2 if norm == "batch_norm" else values))
    return module


@norms
def test_a_state_dict_gives_pytorch_s_output(norm):
    module = torch_module(norm).eval()
    x = (1e-3 * rng.standard_normal((4, 6, 5))).astype(np.float32)
    axes = {"axis": (1, 2)} if convention("pytorch", norm).shape == "D" else {}
    state = {f"deep.{name}": tensor for name, tensor in module.state_dict().items()}
    y = forward(norm, x, load(state, "pytorch", "deep", norm=norm) | axes)
    assert_allclose(y, module(torch.from_numpy(x)).detach(), rtol=2e-5, atol=2e-6)


@each("momentum", [None, 0.0, 0.3, 1.0])
def test_running_statistics_move_as_in_pytorch(momentum):
    module = torch_module("batch_norm")
    options = load(dict(module.state_dict()), "pytorch")
    module.momentum = module.momentum if momentum is None else momentum
    before = [options[name].copy() for name in ("running_mean", "running_var")]
    x = rng.standard_normal((4, 6, 5)).astype(np.float32)
    module.train()(torch.from_numpy(x))
    _, cache = nn.batch_norm_forward(x)
    mean, var = nn.update_running_stats(*before, cache, **update_options("pytorch", momentum))
    assert_allclose(mean, module.running_mean, rtol=1e-5, atol=1e-6)
    assert_allclose(var, module.running_var, rtol=1e-5)


@norms
def test_defaults_are_those_of_pytorch(norm):
    row, module = convention("pytorch", norm), torch_module(norm)
    eps = torch.finfo(torch.float32).eps if module.eps is None else module.eps
    assert row.eps == eps
    if norm == "batch_norm":
        assert row.momentum == module.momentum


@each("row", [c for c in CONVENTIONS if c.framework == "onnx"])
def test_defaults_and_names_are_those_of_the_onnx_schema(row):
    words = {"rms": "RMS", "norm": "Normalization"}
    operator = "".join(words.get(word, word.title()) for word in row.norm.split("_"))
    schema = onnx.defs.get_schema(operator)
    assert list(row.names.values()) == [entry.name for entry in schema.inputs[1:]]
    defaults = {name: entry.default_value.f for name, entry in schema.attributes.items()}
    if row.norm != "mean_variance_norm":  # whose eps is not an attribute
        assert row.eps == pytest.approx(defaults["epsilon"], rel=1e-7)
    if row.momentum is not None:
        assert row.momentum == pytest.approx(defaults["momentum"], rel=1e-7)


# The table and the converters.


def test_every_framework_has_a_norm_once_and_batch_norm_whole():
    pairs = [(c.framework, c.norm) for c in CONVENTIONS]
    assert len(set(pairs)) == len(pairs)
    assert {n for _, n in pairs} == {*NORMS, "mean_variance_norm"}
    for framework in {f for f, _ in pairs}:
        row = convention(framework, "batch_norm")
        assert row.running_mean
        assert row.running_var
    for framework in ("pytorch", "keras", "flax", "onnx", "paper"):
        assert all((framework, norm) in pairs for norm in NORMS)


@each("momentum", [0.0, 0.25, 1.0])
def test_momentum_turns_round_between_new_and_old(momentum):
    assert conventions.convert_momentum(momentum, "keras") == 1 - momentum
    assert conventions.convert_momentum(momentum, "pytorch", "onnx") == 1 - momentum
    assert conventions.convert_momentum(momentum, "keras", "flax") == momentum


@each(("source", "correction"), [("pytorch", 1), ("keras", 0), ("onnx", 0)])
def test_a_converted_running_variance_is_the_one_the_target_keeps(source, correction):
    x = rng.standard_normal((5, 3))
    kept, wanted = x.var(axis=0, ddof=correction), x.var(axis=0, ddof=1 - correction)
    target = "keras" if source == "pytorch" else "pytorch"
    got = conventions.convert_running_var(kept, 5, source, target)
    assert_allclose(got, wanted, rtol=1e-15)
    assert_allclose(conventions.convert_running_var(got, 5, target, source), kept, rtol=1e-15)


def test_a_running_variance_of_the_same_estimator_is_copied():
    kept = np.array([2.0, 3.0], np.float32)
    got = conventions.convert_running_var(kept, 5, "keras", "onnx")
    assert_array_equal(got, kept)
    assert got.dtype == np.float32
    assert not np.shares_memory(got, kept)


@each(
    ("call", "message"),
    [
        (
            lambda: convention("theano", "batch_norm"),
            "framework is 'theano'; pass one of",
        ),
        (lambda: convention("keras", "lrn"), "norm is 'lrn', which keras does not have"),
        (lambda: update_options("paper"), "framework is 'paper', which has no momentum"),
        (lambda: update_options("keras", 1.5), "momentum is 1.5"),
        (
            lambda: conventions.convert_running_var(np.ones(2), 1, "keras", "pytorch"),
            "n is 1, but the unbiased estimate needs 2 values",
        ),
    ],
)
def test_a_wrong_word_or_number_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_variance_that_leaves_its_dtype_gives_no_warning():
    large = np.array([6e4, 1.0], np.float16)
    assert_array_equal(conventions.convert_running_var(large, 2, "keras", "pytorch"), [np.inf, 2.0])
