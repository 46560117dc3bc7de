"""The network of the digits tutorial: its gradients. What it learns, the page asserts."""

import importlib
import io
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from extras import need
from measure import assert_close

need("sklearn", "threadpoolctl", "tqdm")
sys.path.append(str(Path(__file__).parents[1] / "docs"))
digits = importlib.import_module("examples.digits")


@pytest.fixture(scope="module")
def data():
    return digits.load_data()


def torch_scores(x, tensors, batch_norm):
    """Write the network once more in PyTorch; parameters in the order of the layers."""
    for stride in (1, 2, 2):
        weight = next(tensors)
        x = F.conv2d(x, weight, None if batch_norm else next(tensors), stride, padding=1)
        if batch_norm:
            x = F.batch_norm(x, None, None, next(tensors), next(tensors), training=True)
        x = x.relu()
    return F.linear(x.flatten(1), next(tensors), next(tensors))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_gradients_of_all_parameters_are_those_of_pytorch(data, batch_norm):
    layers = digits.build(batch_norm, seed=3, dtype=np.float64)
    rng = np.random.default_rng(4)
    for layer in layers:
        for p in layer.parameters.values():
            p += 0.3 * rng.standard_normal(p.shape)
    batch = digits.Digits(data[0].x[:20].astype(np.float64), data[0].labels[:20])
    loss, dy = digits.loss_and_gradient(digits.scores(layers, batch.x, training=True), batch.labels)
    digits.backward(layers, dy)

    tensors = [torch.tensor(p, requires_grad=True) for a in layers for p in a.parameters.values()]
    theirs = torch_scores(torch.from_numpy(batch.x), iter(tensors), batch_norm)
    expected = F.cross_entropy(theirs, torch.from_numpy(batch.labels))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    gradients = [layer.gradients[name] for layer in layers for name in layer.parameters]
    for got, tensor in zip(gradients, tensors, strict=True):
        assert_close(got, tensor.grad.numpy(), 1e-12)


def test_training_is_the_same_every_time_and_shows_its_progress(data):
    first = digits.train(digits.build(True), data[0], epochs=1)
    with mock.patch.object(sys, "stderr", io.StringIO()) as shown:
        second = digits.train(digits.build(True), data[0], epochs=1, hide_progress=False)
    assert first == second
    assert "22/22" in shown.getvalue()
    assert "loss=" in shown.getvalue()
