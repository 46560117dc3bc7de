"""Agreement with PyTorch in float64, forward and backward, to 1e-12."""

import numpy as np
import pytest
from cases import (
    NORMS,
    batch_norm,
    batch_norm_inference,
    group_norm,
    instance_norm,
    layer_norm,
    parametrize,
    rms_norm,
)
from measure import assert_close

import numpy_norms

torch = pytest.importorskip("torch")
F = torch.nn.functional

EPS = 0.3
RANKS = [
    batch_norm((2, 3, 4, 5, 6)),
    layer_norm((2, 3, 4, 5, 6), axis=(-2, -1)),
    group_norm((2, 6, 3, 4, 5), 3),
    instance_norm((2, 3, 4, 5, 6)),
    rms_norm((2, 3, 4, 5, 6), axis=(2, 3, 4)),
]
# Rows so short, and so many, that several are worked on as one; of them, also what fits no block.
SHORT_ROWS = [
    batch_norm((3000, 24)),
    batch_norm((20_000, 32)),
    batch_norm((5, 18, 30, 40), channel_axis=-1),
    instance_norm((3, 61, 60, 40), channel_axis=-1),
    layer_norm((9, 40, 13, 9), axis=1),
    rms_norm((9, 40, 13, 9), axis=1),
]
present = pytest.mark.parametrize("present", [(), ("gamma",), ("beta",), ("gamma", "beta")])


def tensors(arrays):
    """Copy ``arrays`` to tensors that collect gradients."""
    return {name: torch.tensor(a, requires_grad=True) for name, a in arrays.items()}


def torch_forward(norm, x, gamma=None, beta=None):
    """Run PyTorch's function for ``norm`` with its axes where PyTorch wants them."""
    if gamma is None and beta is not None:  # group_norm of 2.13 needs both
        gamma = torch.ones_like(beta)
    if (axis := norm.options.get("axis")) is not None:
        axes = sorted(a % x.ndim for a in np.atleast_1d(axis))
        last = list(range(-len(axes), 0))
        function = F.layer_norm if norm.centered else F.rms_norm
        parameters = (gamma, beta) if norm.centered else (gamma,)
        y = function(x.movedim(axes, last), norm.parameter_shape, *parameters, EPS)
        return y.movedim(last, axes)
    channel_axis = norm.options["channel_axis"]
    moved = x.movedim(channel_axis, 1)
    if norm.name == "group_norm":
        y = F.group_norm(moved, norm.options["num_groups"], gamma, beta, EPS)
    elif norm.name == "instance_norm":
        y = F.instance_norm(moved, weight=gamma, bias=beta, eps=EPS)
    else:
        y = F.batch_norm(moved, None, None, gamma, beta, training=True, eps=EPS)
    return y.movedim(1, channel_axis)


@present
@parametrize([*NORMS, *RANKS, *SHORT_ROWS])
def test_forward_and_backward_agree(norm, present):
    arrays, dy = norm.draw()
    arrays = {name: a for name, a in arrays.items() if name in ("x", *present)}
    y, gradients = norm.both(arrays, dy, eps=EPS)
    inputs = tensors(arrays)
    expected = torch_forward(norm, **inputs)
    expected.backward(torch.tensor(dy))
    assert_close(y, expected.detach().numpy(), 1e-12)
    for name, tensor in inputs.items():
        assert_close(gradients[name], tensor.grad.numpy(), 1e-12)


@present
@pytest.mark.parametrize(
    "shape", [(7, 3), (5, 3, 4), (4, 3, 2, 5), (2, 3, 4, 5, 6), (3000, 24), (20_000, 32)]
)
def test_inference_agrees(shape, present):
    norm = batch_norm_inference(shape)
    arrays, dy = norm.draw()
    arrays = {n: a for n, a in arrays.items() if n in ("x", *present) or n.startswith("running")}
    y, gradients = norm.both(arrays, dy, eps=EPS)
    inputs = tensors(arrays)
    mean, var = (inputs[n].detach() for n in ("running_mean", "running_var"))
    expected = F.batch_norm(
        inputs["x"], mean, var, inputs.get("gamma"), inputs.get("beta"), training=False, eps=EPS
    )
    expected.backward(torch.tensor(dy))
    assert_close(y, expected.detach().numpy(), 1e-12)
    for name in ("x", *present):
        assert_close(gradients[name], inputs[name].grad.numpy(), 1e-12)


def test_gradients_of_given_statistics_agree_with_automatic_differentiation():
    norm = batch_norm_inference((5, 3, 4))
    arrays, dy = norm.draw()
    t = tensors(arrays)
    per_channel = {name: t[name].reshape(1, -1, 1) for name in norm.parameters}
    x_hat = (t["x"] - per_channel["running_mean"]) / (per_channel["running_var"] + EPS).sqrt()
    y = per_channel["gamma"] * x_hat + per_channel["beta"]
    y.backward(torch.tensor(dy))
    _, gradients = norm.both(arrays, dy, eps=EPS)
    for name, tensor in t.items():
        assert_close(gradients[name], tensor.grad.numpy(), 1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.7, 1.0])
def test_running_statistics_agree_over_three_batches(momentum):
    norm = batch_norm((5, 3, 4))
    rng = np.random.default_rng(1)
    ours = rng.standard_normal(3), rng.random(3)
    theirs = [torch.tensor(a) for a in ours]
    for seed in range(3):
        arrays, _ = norm.draw(seed)
        _, cache = norm.forward({"x": arrays["x"]})
        ours = numpy_norms.update_running_stats(*ours, cache, momentum=momentum)
        F.batch_norm(torch.tensor(arrays["x"]), *theirs, training=True, momentum=momentum)
    for got, expected in zip(ours, theirs, strict=True):
        assert_close(got, expected.numpy(), 1e-14)


@parametrize(NORMS)
def test_float32_is_closer_to_float64_than_pytorch_in_float32(norm):
    arrays, _ = norm.draw(mean=1000.0, dtype=np.float32)
    y, _ = norm.forward(arrays, eps=EPS)
    expected = torch_forward(norm, **{n: torch.tensor(a).double() for n, a in arrays.items()})
    theirs = torch_forward(norm, **{n: torch.tensor(a) for n, a in arrays.items()})
    expected = expected.numpy()
    assert np.abs(y - expected).max() <= np.abs(theirs.numpy() - expected).max()
