"""Gradients that follow from a wrong y are said to: automatic differentiation makes no mistake."""

from itertools import product

import pytest
import torch
from trials import without_large

from numpy_norms.verify.adapters import torch_kernel
from numpy_norms.verify.diagnosis.findings import FOLLOWS
from numpy_norms.verify.plain import plain_kernel


def normalized(x, axes, eps, *, correction=0, centre=1.0):
    mean = x.mean(axes, keepdim=True)
    var = x.var(axes, keepdim=True, correction=correction)
    return (x - centre * mean) * torch.rsqrt(var + eps)


WRONG = {
    "unbiased": lambda x, a, eps: normalized(x, a, eps, correction=1),
    "not centred": lambda x, a, eps: normalized(x, a, eps, centre=0.0),
    "mean added": lambda x, a, eps: normalized(x, a, eps, centre=-1.0),
    "eps outside": lambda x, a, eps: (
        (x - x.mean(a, keepdim=True)) / (x.std(a, keepdim=True, correction=0) + eps)
    ),
}


def kernel(norm, x_hat_of):
    def forward(x, gamma, beta, eps):
        if norm == "layer_norm":
            return x_hat_of(x, (-1,), eps) * gamma + beta
        axes = tuple(a for a in range(x.ndim) if a != 1)
        shape = [-1, *[1] * (x.ndim - 2)]
        return x_hat_of(x, axes, eps) * gamma.reshape(shape) + beta.reshape(shape)

    return torch_kernel(forward)


@pytest.mark.parametrize(
    ("norm", "way"),
    [("batch_norm", "unbiased"), *product(("layer_norm", "batch_norm"), list(WRONG)[1:])],
)
def test_what_autograd_makes_of_a_wrong_y_follows_from_it(norm, way):
    report = without_large(norm, "float64").of(*kernel(norm, WRONG[way]))
    said = {finding.output: finding.what for finding in report.diagnosis}
    assert said["dx"] == FOLLOWS
    assert said["dgamma"] == said["y"] != FOLLOWS
    assert "dbeta" not in said


def test_a_gradient_that_is_wrong_beside_a_wrong_y_does_not_follow():
    forward, _ = kernel("layer_norm", WRONG["not centred"])
    _, backward = plain_kernel("layer_norm", {}, {"centre": lambda w, centre: 0 * centre})
    said = {f.output: f.what for f in without_large("layer_norm").of(forward, backward).diagnosis}
    assert said["dx"].startswith("the mean term")
    _, right = plain_kernel("layer_norm")
    assert {f.output for f in without_large("layer_norm").of(forward, right).diagnosis} == {"y"}


def test_of_a_right_y_nothing_follows():
    norm = "layer_norm"
    assert without_large(norm).of(*kernel(norm, normalized)).passed
