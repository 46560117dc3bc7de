"""All versions of ONNX' operators, against their definitions, PyTorch and its exporter."""

import inspect
import io
import warnings

import numpy as np
import onnx
import pytest
import torch
from each import each
from numpy.testing import assert_allclose, assert_array_equal
from onnx_graphs import Builder

from numpy_norms.onnx import evaluator, fused, new_ops

rng = np.random.default_rng(16)
OPSETS = {
    "BatchNormalization": (1, 6, 7, 8, 9, 13, 14, 15),
    "InstanceNormalization": (1, 6, 22),
    "GroupNormalization": (18, 21),
    "LayerNormalization": (17,),
    "RMSNormalization": (23,),
    "MeanVarianceNormalization": (9, 13),
    "LpNormalization": (1, 22),
    "LRN": (1, 13),
}


def model_of(operator, inputs, outputs=1, *, opset, domain="", name="", **attributes):
    """Return a model of one node, whose outputs have no shape."""
    names = [f"in{i}" if a is not None else "" for i, a in enumerate(inputs)]
    results = [f"out{i}" for i in range(outputs)] if isinstance(outputs, int) else outputs
    node = onnx.helper.make_node(operator, names, results, name=name, domain=domain, **attributes)
    infos = [
        onnx.helper.make_tensor_value_info(
            n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape
        )
        for n, a in zip(names, inputs, strict=True)
        if a is not None
    ]
    kinds = onnx.TypeProto()
    ends = [onnx.ValueInfoProto(name=n, type=kinds) for n in results if n]
    imports = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid("com.microsoft", 1)]
    graph = onnx.helper.make_graph([node], "one", infos, ends)
    return onnx.helper.make_model(graph, opset_imports=imports)


def run(operator, *inputs, outputs=1, **options):
    """Run one node on arrays and return its outputs."""
    feed = {f"in{i}": a for i, a in enumerate(inputs) if a is not None}
    return evaluator(model_of(operator, inputs, outputs, **options)).run(None, feed)


def drawn(channels):
    """Draw scale, bias, mean and variance, in float32."""
    scale, bias, mean = rng.standard_normal((3, channels)).astype(np.float32)
    return scale, bias, mean, (0.5 + rng.random(channels)).astype(np.float32)


def test_defaults_are_those_of_every_registered_version():
    classes = {o.__name__: o for o in new_ops if not o.op_domain}
    seen = set()
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.name not in OPSETS or schema.domain:
            continue
        ours = inspect.signature(classes[schema.name].compute).parameters
        for name, attribute in schema.attributes.items():
            if name in ("consumed_inputs", "is_test"):  # see the class
                continue
            seen.add((schema.name, schema.since_version))
            if attribute.required:
                assert ours[name].default is inspect.Parameter.empty
            else:
                default = onnx.helper.get_attribute_value(attribute.default_value)
                got = ours[name].default
                assert (list(got) if isinstance(got, tuple) else got) == default
    assert len(seen) == 19  # all versions of the eight operators


# Batch norm.

WORKED = [np.array(a, np.float32) for a in ([[1], [3]], [1], [0], [10], [4])]


@each("opset", OPSETS["BatchNormalization"])
def test_inference_uses_the_statistics_that_are_given(opset):
    attributes = {"is_test": 1} if opset < 7 else {}
    attributes |= {"consumed_inputs": [0, 0, 0, 1, 1]} if opset == 1 else {}
    (y,) = run("BatchNormalization", *WORKED, opset=opset, **attributes)
    assert_allclose(y, [[-4.5], [-3.5]], rtol=1e-5)


TRAINING = [
    (opset, outputs)
    for opset in OPSETS["BatchNormalization"]
    for outputs in ((1, 2, 3) if opset >= 14 else (1, 2, 3, 4, 5) if opset < 7 else (2, 3, 4, 5))
]


@each(("opset", "outputs"), TRAINING)
def test_training_uses_those_of_the_batch(opset, outputs):
    x = (2 + rng.standard_normal((4, 3, 2))).astype(np.float32)
    scale, bias, mean, var = drawn(3)
    attributes = {"momentum": 0.75}
    attributes |= {"training_mode": 1} if opset >= 14 else {"is_test": 0} if opset < 7 else {}
    got = run(
        "BatchNormalization", x, scale, bias, mean, var, outputs=outputs, opset=opset, **attributes
    )
    wide = torch.from_numpy(x.astype(np.float64))
    batch_mean, batch_var = wide.mean((0, 2)).numpy(), wide.var((0, 2), correction=0).numpy()
    y = torch.nn.functional.batch_norm(
        wide, None, None, *(torch.from_numpy(a.astype(np.float64)) for a in (scale, bias)), True
    )
    moved = 0.75 * mean + 0.25 * batch_mean, 0.75 * var + 0.25 * batch_var
    for a, b in zip(got, (y, *moved, batch_mean, batch_var), strict=False):
        assert_allclose(a, b, rtol=2e-6, atol=2e-6)
    assert len(got) == outputs


@each("opset", [8, 9, 13, 14, 15])
def test_what_pytorch_exports_in_training_mode_gives_its_outputs(opset):
    module = torch.nn.BatchNorm2d(4).train()
    with torch.no_grad():
        for tensor in (module.weight, module.bias):
            tensor.copy_(torch.from_numpy(rng.standard_normal(4)))
    x = torch.from_numpy(rng.standard_normal((3, 4, 2, 5)).astype(np.float32))
    expected, file = module(x).detach().numpy(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mode = torch.onnx.TrainingMode.TRAINING
        torch.onnx.export(module, (x,), file, opset_version=opset, dynamo=False, training=mode)
    got = evaluator(onnx.load_from_string(file.getvalue()))
    (y, *_) = got.run(None, {got.input_names[0]: x.numpy()})
    assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@each("opset", [1, 6, 7, 8])
@each("training", [False, True])
def test_without_spatial_each_element_of_a_sample_has_its_own_mean(opset, training):
    x = rng.standard_normal((5, 2, 3)).astype(np.float32)
    scale, bias, mean = rng.standard_normal((3, 2, 3)).astype(np.float32)
    var = (0.5 + rng.random((2, 3))).astype(np.float32)
    attributes = {"is_test": int(not training)} if opset < 7 else {}
    got = run(
        "BatchNormalization", x, scale, bias, mean, var,
        opset=opset, spatial=0, outputs=5 if training else 1, **attributes,
    )  # fmt: skip
    m, v = (x.mean(0), x.var(0)) if training else (mean, var)
    assert_allclose(got[0], scale * (x - m) / np.sqrt(v + 1e-5) + bias, rtol=1e-4, atol=1e-5)
    if training:
        assert_allclose(got[1], 0.9 * mean + 0.1 * m, rtol=1e-5, atol=1e-6)
        assert_allclose(got[4], v, rtol=1e-5)


def test_an_absent_is_test_with_one_output_means_inference_and_warns():
    with pytest.warns(UserWarning, match="node bn: is_test is absent, which in version 6 means"):
        (y,) = run("BatchNormalization", *WORKED, opset=6, name="bn")
    assert_allclose(y, [[-4.5], [-3.5]], rtol=1e-5)
    y, *_ = run("BatchNormalization", *WORKED, opset=6, outputs=3)
    assert_allclose(y, [[-1], [1]], rtol=1e-5)


@each(
    ("opset", "attributes", "said"),
    [(6, {"is_test": 1}, "is_test is 1"), (15, {}, "training_mode")],
)
def test_inference_with_several_outputs_is_refused(opset, attributes, said):
    with pytest.raises(ValueError, match=rf"3 outputs are asked for, but {said}"):
        run("BatchNormalization", *WORKED, opset=opset, outputs=3, **attributes)


# The others.


@each("opset", [1, 6, 22])
def test_instance_norm(opset):
    x, scale, bias = rng.standard_normal((2, 3, 4)).astype(np.float32), *drawn(3)[:2]
    attributes = {"consumed_inputs": [0, 0, 0]} if opset == 1 else {}
    (y,) = run("InstanceNormalization", x, scale, bias, opset=opset, **attributes)
    tensors = [torch.from_numpy(a.astype(np.float64)) for a in (x, scale, bias)]
    expected = torch.nn.functional.instance_norm(tensors[0], weight=tensors[1], bias=tensors[2])
    assert_allclose(y, expected, rtol=2e-6, atol=2e-6)


@each("opset", [1, 13, 22])
def test_lp_and_lrn_in_old_opsets(opset):
    x = rng.standard_normal((3, 5, 2)).astype(np.float32)
    (y,) = run("LpNormalization", x, opset=opset, p=1, axis=1)
    assert_allclose(y, x / np.abs(x).sum(1, keepdims=True), rtol=1e-6)
    (y,) = run("LRN", x, opset=opset, size=3)
    expected = torch.nn.functional.local_response_norm(torch.from_numpy(x), 3)
    assert_allclose(y, expected, rtol=1e-6)


@each("opset", [9, 13])
def test_mean_variance_norm_in_old_opsets(opset):
    x = rng.standard_normal((3, 5, 2, 4)).astype(np.float32)
    (y,) = run("MeanVarianceNormalization", x, opset=opset, axes=[1, -1])
    mean, std = x.mean((1, 3), keepdims=True), x.std((1, 3), keepdims=True)
    assert_allclose(y, (x - mean) / std, rtol=1e-5, atol=1e-6)


@each("opset", [11, 16, 17])
def test_layer_norm_under_an_opset_that_has_none_yet(opset):
    x, (scale, bias, *_) = rng.standard_normal((2, 3, 4)).astype(np.float32), drawn(4)
    (y,) = run("LayerNormalization", x, scale, bias, opset=opset)
    expected = torch.nn.functional.layer_norm(
        *(torch.from_numpy(a) for a in (x,)), (4,), *(torch.from_numpy(a) for a in (scale, bias))
    )
    assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


# What a version does not know.

A = np.ones(6, np.float32)
X = rng.standard_normal((2, 6, 3)).astype(np.float32)


@each(
    ("operator", "inputs", "options", "message"),
    [
        ("BatchNormalization", (X, A, A, A, A), {"opset": 9, "spatial": 1},
         "attribute 'spatial' is unknown to version 9 of this operator, which has epsilon"),
        ("BatchNormalization", (X, A, A, A, A), {"opset": 15, "is_test": 1}, "'is_test'"),
        ("BatchNormalization", (X, A, A, A, A), {"opset": 7, "spatial": 0},
         r"scale has shape \(6,\), but spatial=0 .* \(6, 3\); set spatial to 1"),
        ("GroupNormalization", (X, A, A), {"opset": 21}, "'num_groups' is missing"),
        ("GroupNormalization", (X, A, A), {"opset": 21, "num_groups": 0}, "num_groups is 0"),
        ("GroupNormalization", (X, A, A), {"opset": 21, "num_groups": -2}, "num_groups is -2"),
        ("LayerNormalization", (X, A[:3]), {"opset": 17, "stash_type": 999}, "stash_type is 999"),
        ("RMSNormalization", (X, A[:3]), {"opset": 23, "stash_type": 7}, "stash_type is 7"),
        ("RMSNormalization", (X, A[:3]), {"opset": 23, "eps": 1.0}, "'eps' is unknown"),
        ("LpNormalization", (X,), {"opset": 22, "p": 3}, "p is 3, but 1 or 2"),
        ("LRN", (X,), {"opset": 13, "size": 0}, "size is 0"),
        ("LRN", (X,), {"opset": 13}, "attribute 'size' is missing"),
        ("MeanVarianceNormalization", (X,), {"opset": 13, "axes": [7]}, "axis is 7"),
        ("LayerNormalization", (X, A[:3]), {"opset": 17, "axis": "last"},
         "attribute 'axis' is of the kind STRING, but INT was expected; export"),
        ("LayerNormalization", (X, A[:3]), {"opset": 17, "outputs": 4},
         "4 outputs are asked for, but at most 3 were expected; export"),
    ],
)  # fmt: skip
def test_unknown_attributes_and_values_are_named(operator, inputs, options, message):
    with pytest.raises(ValueError, match=f"{operator} node odd: .*{message}"):
        run(operator, *inputs, name="odd", **options)


@each("operator", [operator for operator in new_ops if operator.op_domain != "numpy_norms"])
@each("fuse", [True, False])
def test_inputs_that_are_missing_or_too_many_are_named(operator, fuse):
    options = {"opset": 23, "domain": operator.op_domain}
    for inputs, message in ([], "the input .* is missing"), ([A] * 12, "12 inputs, but at most"):
        model = model_of(operator.__name__, inputs, name="odd", **options)
        with pytest.raises(ValueError, match=f"{operator.__name__} node odd: .*{message}"):
            evaluator(model, fuse=fuse)


# Where nodes and files are found.


def test_norms_in_the_model_s_own_functions_are_ours():
    # Version 1.23 of the stock evaluator leaves out channels where the batch is small (onnx#7805).
    x = rng.standard_normal((1, 5, 2)).astype(np.float32)
    node = onnx.helper.make_node("LRN", ["a"], ["b"], size=3)
    opset = onnx.helper.make_opsetid("", 13)
    function = onnx.helper.make_function("own", "Twice", ["a"], ["b"], [node], [opset])
    call = onnx.helper.make_node("Twice", ["in0"], ["out0"], domain="own")
    model = model_of("LRN", [x], opset=13, size=3)
    (expected,) = evaluator(model).run(None, {"in0": x})
    model.graph.node[0].CopyFrom(call)
    model.functions.append(function)
    model.opset_import.append(onnx.helper.make_opsetid("own", 1))
    (y,) = evaluator(model).run(None, {"in0": x})
    assert_array_equal(y, expected)


def test_a_file_runs_as_its_model_does(tmp_path):
    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    model = model_of("LayerNormalization", [x, None], opset=14)
    scale = rng.standard_normal((4,)).astype(np.float32)
    model.graph.node[0].input[1] = "scale"
    model.graph.initializer.append(onnx.numpy_helper.from_array(scale, "scale"))
    (expected,) = evaluator(model).run(None, {"in0": x})
    onnx.save(model, tmp_path / "all.onnx")
    onnx.save(model, tmp_path / "apart.onnx", save_as_external_data=True, size_threshold=0)
    assert len(list(tmp_path.iterdir())) == 3
    for name in ("all.onnx", "apart.onnx"):
        assert_array_equal(evaluator(tmp_path / name).run(None, {"in0": x})[0], expected)
    without = onnx.load(tmp_path / "apart.onnx", load_external_data=False)
    with pytest.raises(ValueError, match=r"the weight 'scale' is in a file .*onnx\.load\(it\)"):
        evaluator(without)
    whole = onnx.load(tmp_path / "apart.onnx")
    assert_array_equal(evaluator(whole).run(None, {"in0": x})[0], expected)
    (weights,) = set(tmp_path.iterdir()) - {tmp_path / "all.onnx", tmp_path / "apart.onnx"}
    weights.unlink()
    with pytest.raises(ValueError, match=r"apart\.onnx"):
        evaluator(tmp_path / "apart.onnx")


def big_model(folder, length, *, place="w.bin"):
    """Write a lookup in 2.25 GB of weights, which take no room on the disk, and a layer norm."""
    rows = length // 1024
    table = onnx.TensorProto(name="table", data_type=1, dims=[rows, 256], data_location=1)
    for key, value in (("location", place), ("offset", "0"), ("length", str(rows * 1024))):
        table.external_data.add(key=key, value=value)
    nodes = [
        onnx.helper.make_node("Gather", ["table", "i"], ["rows"]),
        onnx.helper.make_node("LayerNormalization", ["rows", "scale"], ["y"]),
    ]
    scale = onnx.numpy_helper.from_array(np.ones(256, np.float32), "scale")
    ids = onnx.helper.make_tensor_value_info("i", onnx.TensorProto.INT64, [2])
    end = onnx.ValueInfoProto(name="y", type=onnx.TypeProto())
    graph = onnx.helper.make_graph(nodes, "big", [ids], [end], [table, scale])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)])
    (folder / "big.onnx").write_bytes(model.SerializeToString())
    return rows


def test_more_than_2_gb_of_weights_beside_a_model_take_no_memory(tmp_path):
    resource = pytest.importorskip("resource")
    rows = big_model(tmp_path, 2_250_000_000)
    row = rng.standard_normal(256).astype(np.float32)
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(rows * 1024)
        file.seek((rows - 1) * 1024)
        file.write(row.tobytes())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (y,) = evaluator(tmp_path / "big.onnx").run(None, {"i": np.array([0, rows - 1])})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes
    assert_allclose(y[1], (row - row.mean()) / row.std(), rtol=1e-4, atol=1e-5)
    assert not y[0].any()


@pytest.mark.parametrize("place", ["../w.bin", "/etc/hostname", "link"])
def test_weights_outside_the_folder_are_not_read(tmp_path, place):
    folder = tmp_path / "inside"
    folder.mkdir()
    rows = big_model(folder, 2048, place=place)
    (tmp_path / "w.bin").write_bytes(bytes(rows * 1024))
    (folder / "link").symlink_to(tmp_path / "w.bin")
    with pytest.raises(ValueError, match=r"big\.onnx: .*outside its folder"):
        evaluator(folder / "big.onnx")


def test_parameters_beside_a_model_are_constants_too(tmp_path):
    b = Builder()
    mean = b.mean("x", (-1,))
    d = b.Sub("x", mean)
    root = b.Sqrt(b.Add(b.mean(b.Mul(d, d), (-1,)), np.float32(1e-3)))
    gamma = rng.standard_normal(300).astype(np.float32)
    model = b.model(b.Mul(b.Div(d, root), gamma), (2, 300))
    x = rng.standard_normal((2, 300)).astype(np.float32)
    expected = evaluator(model).run(None, {"x": x})[0]
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=1000)
    (found,) = fused(tmp_path / "m.onnx")
    assert (found.norm, found.gamma) == ("layer_norm", "c1")
    runs = evaluator(tmp_path / "m.onnx")
    assert [type(node).__name__ for node in runs.rt_nodes_] == ["Norm"]
    assert_array_equal(runs.run(None, {"x": x})[0], expected)
