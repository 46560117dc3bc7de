"""Folding the batch norms of whole graphs: outputs stay, and what is not exact stays unfolded."""

import io
import warnings

import numpy as np
import onnx
import torch
from each import each
from extras import need
from numpy.testing import assert_allclose
from onnx_graphs import Builder

from numpy_norms.onnx import evaluator, fold

rng = np.random.default_rng(4)
C = 6


def draw(*shape):
    """Draw numbers of both signs."""
    return rng.standard_normal(shape).astype(np.float32)


def norm(b, x, dtype=np.float32, **options):
    """Add a trained batch norm of C channels."""
    scale, bias, mean = rng.standard_normal((3, C)).astype(dtype)
    var = rng.uniform(0.1, 4, C).astype(dtype)
    return b.BatchNormalization(x, scale, bias, mean, var, epsilon=1e-2, **options)


# The maps, and the shape of x.
MAPS = {
    "conv": (lambda b: b.Conv("x", draw(C, 5, 3, 2), draw(C), pads=[1, 1, 1, 1]), (2, 5, 7, 4)),
    "conv without bias": (lambda b: b.Conv("x", draw(C, 5, 3)), (2, 5, 7)),
    "conv in groups": (lambda b: b.Conv("x", draw(C, 2, 3, 2), group=3), (2, 6, 7, 4)),
    "conv, then a bias": (
        lambda b: b.Add(b.Conv("x", draw(C, 5, 3, 2)), draw(C, 1, 1)), (2, 5, 7, 4)
    ),
    "bias of a bias": (
        lambda b: b.Add(draw(1, C, 1, 1), b.Conv("x", draw(C, 5, 3, 2), draw(C))), (2, 5, 7, 4)
    ),
    "transposed": (lambda b: b.ConvTranspose("x", draw(5, C, 3, 2), draw(C)), (2, 5, 7, 4)),
    "transposed in groups": (
        lambda b: b.ConvTranspose("x", draw(4, 3, 3, 2), group=2), (2, 4, 7, 4)
    ),
    "gemm": (lambda b: b.Gemm("x", draw(5, C), draw(C)), (4, 5)),
    "gemm, turned and scaled": (
        lambda b: b.Gemm("x", draw(C, 5), draw(1, C), transB=1, alpha=0.5, beta=-2.0), (4, 5)
    ),
    "gemm, one bias": (lambda b: b.Gemm("x", draw(5, C), draw(1), transA=1), (5, 4)),
    "gemm without bias": (lambda b: b.Gemm("x", draw(5, C)), (4, 5)),
    "matmul": (lambda b: b.MatMul("x", draw(5, C)), (4, 5)),
    "matmul, then a bias": (lambda b: b.Add(b.MatMul("x", draw(5, C)), draw(C)), (4, 5)),
    "a weight on its way": (
        lambda b: b.Conv("x", b.Identity(b.Transpose(draw(3, 5, C), perm=[2, 1, 0]))), (2, 5, 7)
    ),
}  # fmt: skip


def operators(model):
    """List the operators of a graph."""
    return [node.op_type for node in model.graph.node]


def outputs(model, x):
    """Run a model as it is; in groups by ONNX Runtime, which ONNX 1.23 does not do right."""
    if not any(a.name == "group" and a.i > 1 for n in model.graph.node for a in n.attribute):
        return evaluator(model).run(None, {"x": x})[0]
    need("onnxruntime")
    from onnxruntime import InferenceSession

    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@each("name", MAPS)
def test_a_folded_graph_gives_what_it_gave(name):
    make, shape = MAPS[name]
    b = Builder()
    y = b.Relu(norm(b, make(b)))
    model, x = b.model(y, shape), draw(*shape)
    folded = fold(model)
    assert set(operators(folded)) <= {"Conv", "ConvTranspose", "Gemm", "Relu"}
    assert len(folded.graph.node) == 2
    assert len(folded.graph.initializer) == 2
    expected = outputs(model, x)
    assert_allclose(outputs(folded, x), expected, rtol=1e-5, atol=1e-5 * abs(expected).max())


def test_a_norm_after_a_norm_is_folded_too():
    b = Builder()
    model, x = b.model(norm(b, norm(b, b.Conv("x", draw(C, 5, 3)))), (2, 5, 7)), draw(2, 5, 7)
    folded = fold(model)
    assert operators(folded) == ["Conv"]
    assert_allclose(outputs(folded, x), outputs(model, x), rtol=1e-5, atol=1e-5)


@each("is_test", [0, 1])
def test_a_convolution_of_an_old_opset_is_folded_where_it_says_inference(is_test):
    b = Builder(6)
    model = b.model(norm(b, conv(b), is_test=is_test), (2, 5, 7))
    assert operators(fold(model)) == ["Conv"] + ["BatchNormalization"] * (1 - is_test)


def test_two_maps_with_one_weight_are_folded_apart():
    b = Builder()
    weight = b.name(draw(C, 5, 3))
    y = b.Add(norm(b, b.Conv("x", weight)), norm(b, b.Conv("x", weight)))
    model, x = b.model(y, (2, 5, 7)), draw(2, 5, 7)
    folded = fold(model)
    assert operators(folded) == ["Conv", "Conv", "Add"]
    assert_allclose(outputs(folded, x), outputs(model, x), rtol=1e-5, atol=1e-5)


@each("ir_version", [3, 8])
def test_inputs_are_those_of_the_model(ir_version):
    b = Builder()
    y = norm(b, b.Conv("x", draw(C, 5, 3)))
    names = [t.name for t in b.tensors] if ir_version == 3 else []
    model = b.model(y, (2, 5, 7), ir_version=ir_version, graph_inputs=names)
    folded = fold(model)
    weights = {t.name for t in folded.graph.initializer}
    assert {i.name for i in folded.graph.input} == {"x"} | (weights if ir_version == 3 else set())


def conv(b, **options):
    return b.Conv("x", draw(C, 5, 3), **options)


def training(b):
    return norm(b, conv(b), training_mode=1)


def used_twice(b):
    y = conv(b)
    return b.Add(norm(b, y), y)


def after_relu(b):
    return norm(b, b.Relu(conv(b)))


def matmul_of_three_axes(b):
    return norm(b, b.MatMul("x", draw(7, C)))


def a_bias_for_each_position(b):
    return norm(b, b.Add(conv(b), draw(C, 5)))


def made_while_it_runs(b):
    weight = b.Mul(draw(C, 5, 3), b.ReduceMean("x", keepdims=0))
    return norm(b, b.Conv("x", weight))


@each(
    "make", [training, used_twice, after_relu, matmul_of_three_axes, a_bias_for_each_position,
             made_while_it_runs, conv],
)  # fmt: skip
def test_what_can_not_be_folded_is_unchanged(make):
    b = Builder(15)
    model = b.model(make(b), (2, 6 if make is matmul_of_three_axes else 5, 7))
    assert fold(model) == model


def test_five_outputs_are_training_and_stay():
    b = Builder(9)
    y = norm(b, conv(b))
    b.nodes[-1].output.extend(["m", "v", "sm", "sv"])
    model = b.model(y, (2, 5, 7))
    assert fold(model) == model


def test_weights_that_would_leave_their_type_stay():
    b = Builder(15)
    half = np.float16
    y = b.Conv("x", 6e4 * np.ones((C, 5, 3), half))
    ones = np.ones(C, half)
    y = b.BatchNormalization(y, ones, ones, ones, half(1e-2) * ones, epsilon=0.0)
    model = b.model(y, (2, 5, 7), dtype=half)
    assert fold(model) == model


def test_a_file_is_folded_as_its_model(tmp_path):
    b = Builder()
    model = b.model(norm(b, conv(b)), (2, 5, 7))
    onnx.save(model, tmp_path / "conv.onnx")
    assert fold(tmp_path / "conv.onnx") == fold(model)


def test_the_model_given_is_not_changed():
    b = Builder()
    model = b.model(norm(b, conv(b)), (2, 5, 7))
    before = model.SerializeToString()
    fold(model)
    assert model.SerializeToString() == before


def test_a_network_as_pytorch_exports_it():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(8, 4, 2), torch.nn.BatchNorm2d(4), torch.nn.Flatten(),
        torch.nn.Linear(4 * 7 * 6, 5), torch.nn.BatchNorm1d(5),
    )  # fmt: skip
    x = torch.from_numpy(draw(16, 3, 6, 5))
    network.train()(x)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(), (x,), file, dynamo=False, input_names=["x"],
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        )  # fmt: skip
    model = onnx.load_from_string(file.getvalue())
    assert operators(model).count("BatchNormalization") == 3
    folded = fold(model)
    assert operators(folded).count("BatchNormalization") == 0
    expected = network(x).detach()
    assert_allclose(outputs(folded, x.numpy()), expected, rtol=1e-5, atol=1e-5)
