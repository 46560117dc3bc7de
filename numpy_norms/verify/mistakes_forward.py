"""Mistakes of the forward pass: wrong variance, eps in the wrong place, wrong scale, wrong sets."""

from __future__ import annotations

import math

import numpy as np

from numpy_norms.oracle.sets import FEATURE_NORMS

from .mistake import CENTRED, Mistake
from .plain import Array, Average, Step, Work

__all__ = ["FORWARD_MISTAKES", "in_half", "per_sample", "statistics_over"]


def in_half(w: Work, a: Array) -> Array:
    """Round to half precision and back."""
    return np.asarray(np.real(a).astype(w.half).astype(a.dtype))


def per_sample(w: Work, a: Array) -> Array:
    """Average over everything but the first axis of `x`."""
    means = a.reshape(w.samples, -1).mean(axis=1)
    return np.asarray(np.repeat(means, w.view.shape[0] // w.samples).reshape(-1, 1, 1, 1))


def statistics_over(average: Average) -> dict[str, Step]:
    """Return the steps of a kernel that takes its means over other sets."""
    return {
        "mean": lambda w: 0 * w.x if w.norm == "rms_norm" else average(w, w.x),
        "var": lambda w: average(w, (w.x - w.mean) ** 2),
        "dx": lambda w: (
            w.rstd
            * (
                w.dx_hat
                - (0 if w.norm == "rms_norm" else average(w, w.dx_hat))
                - w.x_hat * average(w, w.dx_hat * w.x_hat)
            )
        ),
    }


def _one_pass(w: Work) -> Array:
    return np.asarray(w.average(w.x * w.x) - w.mean * w.mean)


def _padded(w: Work) -> Array:
    size = w.view.set_size
    padding = 2 ** math.ceil(math.log2(size)) - size
    return np.asarray(w.average((w.x - w.mean) ** 2) + padding * w.mean**2 / size)


def _unbiased(w: Work) -> Array:
    size = w.view.set_size
    return w.average((w.x - w.mean) ** 2) * size / max(size - 1, 1)


def _rescaled(w: Work) -> Array:
    top = np.maximum(abs(w.x).max(axis=w.view.over, keepdims=True), np.finfo(w.x.dtype).tiny)
    return np.asarray(1 / (top * np.sqrt(w.var / top**2 + w.eps)))


def _deviation(w: Work) -> Array:
    return w.average((w.x - w.average(w.x)) ** 2)


def _shards(w: Work, a: Array) -> Array:
    cut = max(1, len(a) // 3)
    parts = (a[:cut], a[cut:]) if len(a) > 1 else (a,)
    means = [part.mean(axis=w.view.over, keepdims=True) for part in parts]
    return np.asarray(sum(means) / len(means))


def _gamma_of_group(w: Work) -> Array:
    groups = w.view.shape[1]
    return np.asarray(w.gamma.reshape(-1)[:groups].reshape(1, groups, 1, 1))


def _gamma_plus_one(w: Work) -> Array:
    return np.asarray(w.gamma + 1)


FORWARD_MISTAKES = (
    Mistake(
        "one_pass_variance",
        "the variance is the mean of the squares minus the square of the mean",
        "var = E[x^2] - E[x]^2",
        "pytorch/pytorch#51102",
        CENTRED,
        steps={"var": _one_pass},
    ),
    Mistake(
        "clamped_one_pass_variance",
        "the one-pass variance is clamped at zero, which hides the NaN and keeps the error",
        "var = max(E[x^2] - E[x]^2, 0)",
        "tracel-ai/burn#5607",
        CENTRED,
        steps={"var": lambda w: np.maximum(_one_pass(w), 0)},
    ),
    Mistake(
        "padding_counted",
        "zeros that pad a set to a power of two count as deviations of size mean",
        "var = (sum (x - mu)^2 + (B - m) mu^2) / m",
        "triton-lang/triton#9838",
        CENTRED,
        steps={"var": _padded},
    ),
    Mistake(
        "unbiased_variance",
        "the variance is divided by m - 1",
        "var = sum (x - mu)^2 / (m - 1)",
        "LBANN/lbann#2024",
        steps={"var": _unbiased},
    ),
    Mistake(
        "half_precision_squares",
        "deviations are squared in float16, which overflows from 256 on",
        "var = E[half(x - mu)^2]",
        "microsoft/onnxruntime#28442",
        steps={"var": lambda w: w.average(in_half(w, in_half(w, w.x - w.mean) ** 2))},
    ),
    Mistake(
        "eps_outside_root",
        "eps is added to the standard deviation",
        "r = 1 / (sqrt(var) + eps)",
        "pyg-team/pytorch_geometric#2917",
        steps={"rstd": lambda w: 1 / (np.sqrt(w.var) + w.eps)},
    ),
    Mistake(
        "eps_as_floor",
        "eps replaces small variances instead of being added",
        "r = max(var, eps)^(-1/2)",
        "vacancy/Synchronized-BatchNorm-PyTorch#43",
        steps={"rstd": lambda w: 1 / np.sqrt(np.maximum(w.var, w.eps))},
    ),
    Mistake(
        "eps_floored",
        "eps is raised to 1e-4",
        "r = (var + max(eps, 1e-4))^(-1/2)",
        "nntrainer/nntrainer#4318",
        steps={"rstd": lambda w: 1 / np.sqrt(w.var + max(w.eps, type(w.eps)(1e-4)))},
    ),
    Mistake(
        "eps_hard_coded",
        "eps is always 1e-6",
        "r = (var + 1e-6)^(-1/2)",
        "NVIDIA/cutlass#1112",
        steps={"rstd": lambda w: 1 / np.sqrt(w.var + type(w.eps)(1e-6))},
    ),
    Mistake(
        "eps_in_half",
        "eps is rounded to float16",
        "r = (var + half(eps))^(-1/2)",
        "keras-team/keras#22586",
        steps={"rstd": lambda w: 1 / np.sqrt(w.var + in_half(w, w.eps))},
    ),
    Mistake(
        "variance_in_half",
        "var + eps is rounded to float16",
        "r = half(var + eps)^(-1/2)",
        "deepspeedai/DeepSpeed#581",
        steps={"rstd": lambda w: 1 / np.sqrt(in_half(w, w.var + w.eps))},
    ),
    Mistake(
        "eps_not_rescaled",
        "x is divided by its largest magnitude, and eps is not",
        "r = (var / max|x|^2 + eps)^(-1/2) / max|x|",
        "apple/coremltools#2822",
        steps={"rstd": _rescaled},
    ),
    Mistake(
        "divided_by_squared_variance",
        "the root is a square",
        "r = (var + eps)^(-2)",
        "jax-ml/jax#442",
        steps={"rstd": lambda w: 1 / (w.var + w.eps) ** 2},
    ),
    Mistake(
        "divided_by_rstd",
        "x is divided by the reciprocal root",
        "x_hat = (x - mu) / r",
        "mosaicml/llm-foundry#371",
        steps={"x_hat": lambda w: (w.x - w.mean) / w.rstd},
    ),
    Mistake(
        "divided_by_deviation",
        "the square is taken about the mean: the standard deviation, not the root mean square",
        "var = E[(x - E[x])^2]",
        "keras-team/keras#21234",
        ("rms_norm",),
        steps={"var": _deviation},
    ),
    Mistake(
        "root_of_root",
        "eps is added to the root mean square, of which the root is taken again",
        "r = (sqrt(E[x^2]) + eps)^(-1/2)",
        "pytorch/pytorch#139274",
        ("rms_norm",),
        steps={"rstd": lambda w: 1 / np.sqrt(np.sqrt(w.var) + w.eps)},
    ),
    Mistake(
        "gamma_plus_one",
        "one is added to gamma, which holds it already",
        "y = (1 + gamma) x_hat + beta",
        "utensils/mold#1078",
        steps={
            "y": lambda w: _gamma_plus_one(w) * w.x_hat + w.beta,
            "dx_hat": lambda w: _gamma_plus_one(w) * w.dy,
        },
    ),
    Mistake(
        "gamma_per_group",
        "gamma and its gradient are indexed by the group, not by the channel",
        "y = gamma[group] x_hat + beta",
        "apache/mxnet#17139",
        ("group_norm",),
        steps={
            "y": lambda w: _gamma_of_group(w) * w.x_hat + w.beta,
            "dx_hat": lambda w: _gamma_of_group(w) * w.dy,
        },
    ),
    Mistake(
        "statistics_over_first_axis",
        "only the batch axis is averaged, each position has its own statistics",
        "mu = E_N[x], var = E_N[(x - mu)^2]",
        "Nico-Curti/NumPyNet#7",
        ("batch_norm",),
        steps=statistics_over(lambda w, a: a.mean(axis=0, keepdims=True)),
    ),
    Mistake(
        "statistics_over_batch",
        "the batch axis is averaged too: batch norm",
        "mu = E_{N,S}[x], var = E_{N,S}[(x - mu)^2]",
        "sonos/tract#2863",
        ("instance_norm",),
        steps=statistics_over(lambda w, a: a.mean(axis=(0, 3), keepdims=True)),
    ),
    Mistake(
        "statistics_over_sample",
        "everything but the first axis is averaged",
        "mu = E_{all but axis 0}[x], likewise var",
        "Qualcomm-AI-research/geometric-algebra-transformer#8",
        FEATURE_NORMS,
        steps=statistics_over(per_sample),
    ),
    Mistake(
        "shards_averaged",
        "statistics of parts of unequal size are averaged with equal weight",
        "mu = (mu_1 + mu_2) / 2, likewise var",
        "PaddlePaddle/Paddle#32464",
        ("batch_norm",),
        steps={
            "mean": lambda w: _shards(w, w.x),
            "var": lambda w: _shards(w, (w.x - w.mean) ** 2),
        },
    ),
)
