"""Three trained networks, from an image to its text, against ONNX Runtime."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from each import each
from extras import need
from numpy.testing import assert_allclose
from onnx.reference import ReferenceEvaluator

need("rapidocr_onnxruntime", "onnxruntime", "PIL")

import onnxruntime  # noqa: E402

from benchmarks import real_models  # noqa: E402
from numpy_norms.onnx import evaluator, fold, fused  # noqa: E402

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs"))
ocr = importlib.import_module("examples.ocr")
INPUTS = real_models.inputs_of(ocr)
INPUTS["recognizer"] = INPUTS["recognizer"][..., :96]  # a few letters
NORMS = {"classifier": (35, 0), "recognizer": (6, 5), "detector": (3, 0)}  # batch, layer norms
names = each("name", ["classifier", "recognizer"])


@pytest.fixture(scope="module")
def models():
    """The models as they are in the files."""
    return {name: onnx.load(ocr.model_file(name)) for name in ocr.FILES}


def by_runtime(model):
    """Return a function that runs a model in ONNX Runtime."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


@each("name", NORMS)
def test_all_norms_are_found_and_folded(models, name):
    batch, layer = NORMS[name]
    model = models[name]
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("BatchNormalization") == batch
    found = fused(model)
    assert [f.norm for f in found] == ["layer_norm"] * layer
    assert all(f.gamma and f.beta and f.axes == (-1,) for f in found)
    folded = fold(model)
    onnx.checker.check_model(folded)
    assert "BatchNormalization" not in [node.op_type for node in folded.graph.node]


def logits(model):
    """Return the model without the softmax or sigmoid at its end, which bends differences."""
    ends = ("Softmax", "Sigmoid")
    last = next(node for node in reversed(model.graph.node) if node.op_type in ends)
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    del cut.graph.output[:]
    cut.graph.output.append(onnx.helper.make_tensor_value_info(last.input[0], 1, None))
    return cut


def in_float64(model):
    """Return the model with numbers, and casts to numbers, of float64."""
    narrow, wide = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
    model = onnx.ModelProto.FromString(model.SerializeToString())
    attributes = [a for node in model.graph.node for a in node.attribute]
    for tensor in (*model.graph.initializer, *[a.t for a in attributes if a.HasField("t")]):
        if tensor.data_type == narrow:
            a = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(a, tensor.name))
    for a in attributes:
        if a.name == "to" and a.i == narrow:
            a.i = wide
    return model


@names
def test_outputs_are_those_of_onnx_runtime(models, name):
    # In float32 either side rounds in its own way; ours is closer to what float64 gives.
    model, x = logits(models[name]), INPUTS[name]
    exact = ocr.network(evaluator(in_float64(model)))(x.astype(np.float64))
    assert exact.dtype == np.float64
    scale = np.abs(exact).max()
    assert_allclose(by_runtime(model)(x), exact, rtol=0, atol=2e-5 * scale)
    alone = [evaluator(model, fuse=False)] if fused(model) else []
    for kept in (*alone, evaluator(model), evaluator(fold(model))):
        assert_allclose(ocr.network(kept)(x), exact, rtol=0, atol=5e-6 * scale)


@each("name", NORMS)
def test_a_folded_model_gives_onnx_runtime_the_same(models, name):
    model, x = logits(models[name]), INPUTS[name]
    expected = by_runtime(model)(x)
    got = by_runtime(fold(model))(x)
    assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_stock_evaluator_mixes_batch_statistics_into_inference(models):
    # Version 1.23; see onnx PR #8442. If this fails, the page has to be told.
    x = INPUTS["recognizer"]
    expected = by_runtime(models["recognizer"])(x)
    got = ocr.network(ReferenceEvaluator(models["recognizer"]))(x)
    assert np.abs(got - expected).max() > 0.1


@each("turned", [0, 180])
def test_an_image_is_read(models, turned):
    image = ocr.draw(["E[x] = 0"], (160, 64)).rotate(turned)
    networks = {name: ocr.network(evaluator(model)) for name, model in models.items()}
    text = ocr.read(image, networks, ocr.characters(ocr.model_file("recognizer")))
    assert [line.replace(" ", "") for line in text] == ["E[x]=0"]


def test_what_was_recorded_has_every_network():
    kept = json.loads(real_models.RESULTS.read_text())
    for name, (batch, layer) in NORMS.items():
        figures = kept["figures"][name]
        assert (figures["batch norms"], figures["layer norms in many nodes"]) == (batch, layer)
        assert figures["numpy_norms, apart"] < 1e-4


def test_the_benchmark_runs(capsys):
    real_models.main(["--smoke"])
    assert "numpy_norms, folded, apart" in capsys.readouterr().out
