"""ONNX files that are damaged, or no files: an error that names the file, and nothing hangs."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_graphs import Builder
from test_files import damaged, most_memory

from numpy_norms.onnx import evaluator, fold, fused

posix = pytest.mark.skipif(os.name != "posix", reason="pipes and links")


def model():
    """Return a layer norm of a product, with weights."""
    weights = {"w": np.ones((4, 3), "f4"), "scale": np.ones(3, "f4"), "b": np.zeros(3, "f4")}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("LayerNormalization", ["h", "scale", "b"], ["y"], axis=-1, epsilon=1e-3),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(a, name) for name, a in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


@pytest.fixture
def folder(tmp_path):
    """A folder in memory, where the system has one."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


def said_of(path):
    """Return what reading a model says; None where it is read."""
    try:
        evaluator(path)
    except NotImplementedError:  # an operator's name is another
        return "network.onnx"
    except ValueError as error:
        return str(error)


def test_a_damaged_model_is_named_or_read(folder):
    path = folder / "network.onnx"
    good = model().SerializeToString()
    before, said = most_memory(), []
    for trial in range(1000):
        path.write_bytes(damaged(good, trial))
        said.append(said_of(path))
    refused = [line for line in said if line is not None]
    assert len(refused) > 333
    assert all("network.onnx" in line for line in refused)
    assert most_memory() - before < 100 << 20


@pytest.mark.parametrize("use", [evaluator, fused, fold])
def test_a_damaged_model_that_is_given_is_told(use):
    b = Builder()
    d = b.Sub("x", b.mean("x", [-1]))
    y = b.Div(d, b.Sqrt(b.Add(b.mean(b.Mul(d, d), [-1]), np.float32(1e-3))))
    h = b.Gemm(y, np.ones((4, 4), "f4"))
    good = b.model(b.BatchNormalization(h, *np.ones((4, 4), "f4")), [2, 4])
    use(good)
    said = []
    for number, node in enumerate(good.graph.node):
        for wrong in ([], ["", *node.input[1:]], list(node.input) * 6):
            if list(node.input) != wrong:
                bad = onnx.ModelProto()
                bad.CopyFrom(good)
                bad.graph.node[number].input[:] = wrong
                with pytest.raises(ValueError, match=f"{node.op_type} node .*; export") as told:
                    use(bad)
                said.append(str(told.value))
    assert all(line.startswith("the model") for line in said)


@pytest.mark.parametrize("fuse", [True, False])
def test_the_domain_of_the_standard_may_be_written_out(fuse):
    b = Builder(18)
    d = b.Sub("x", b.mean("x", [-1]))
    v = b.mean(b.Mul(d, d), [-1])
    gamma = b.Reciprocal(np.full(4, 0.5, "f4"))  # a constant that is computed
    h = b.Mul(b.Div(d, b.Sqrt(b.Add(v, np.float32(1e-3)))), gamma)
    short = b.model(b.InstanceNormalization(h, np.ones(3, "f4"), np.ones(3, "f4")), [2, 3, 4])
    whole = onnx.ModelProto()
    whole.CopyFrom(short)
    for entry in (*whole.opset_import, *whole.graph.node):
        entry.domain = "ai.onnx"
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("f4")
    (expected,) = evaluator(short, fuse=fuse).run(None, {"x": x})
    (y,) = evaluator(whole, fuse=fuse).run(None, {"x": x})
    np.testing.assert_array_equal(y, expected)
    assert fused(whole) == fused(short) != []


@posix
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "link to nothing", "nothing"])
def test_what_is_no_file_is_told_at_once(folder, kind):
    path = folder / "network.onnx"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("device", "link to nothing"):
        path.symlink_to("/dev/zero" if kind == "device" else "nowhere")
    with pytest.raises((ValueError, OSError), match=r"network\.onnx"):
        evaluator(path)


@posix
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "outside", "nothing", "short"])
def test_weights_beside_the_model_that_are_no_file_are_told_at_once(folder, kind, tmp_path):
    path = folder / "network.onnx"
    onnx.save(model(), path, save_as_external_data=True, location="weights", size_threshold=0)
    weights = folder / "weights"
    assert said_of(path) is None
    held = weights.read_bytes()
    weights.unlink()
    if kind == "pipe":
        os.mkfifo(weights)
    elif kind == "folder":
        weights.mkdir()
    elif kind == "device":
        weights.symlink_to("/dev/zero")
    elif kind == "outside":
        (tmp_path / "elsewhere").write_bytes(held)
        weights.symlink_to(tmp_path / "elsewhere")
    elif kind == "short":
        weights.write_bytes(held[:10])
    assert "network.onnx" in said_of(path)
