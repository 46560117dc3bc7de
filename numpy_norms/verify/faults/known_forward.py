"""Known faults of the statistics and of the forward pass, each with a public issue."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from numpy_norms.oracle.sets import FEATURE_NORMS
from numpy_norms.verify.plain import Array, Work

from .factors import SIZES
from .grammar import CENTRED, Fault, averaged, in_half, replaced
from .memory import by_address, interleaved_groups, within_grid
from .regions import over_axes, within_set

__all__ = ["FORWARD_FAULTS"]

STATISTICS = ("mean", "var", "centre", "projection")
FLOAT16_SQUARES = "deviations are squared in float16, which overflows from 256 on"


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


def _shards(w: Work, a: Array) -> Array:
    cut = max(1, len(a) // 3)
    parts = (a[:cut], a[cut:]) if len(a) > 1 else (a,)
    means = [part.mean(axis=w.view.over, keepdims=True) for part in parts]
    return np.asarray(sum(means) / len(means))


def _gamma_of_group(w: Work) -> Array:
    groups = w.view.shape[1]
    return np.asarray(w.gamma.reshape(-1)[:groups].reshape(1, groups, 1, 1))


def _root(what: str, formula: str, rstd: Any, kind: str = "formula") -> Fault:
    return replaced(kind, what, formula, rstd=rstd)


FORWARD_FAULTS: tuple[Fault, ...] = (
    replaced(
        "formula",
        "the variance is the mean of the squares minus the square of the mean",
        "var = E[x^2] - E[x]^2",
        var=_one_pass,
    )
    .of(*CENTRED)
    .known("one_pass_variance", "pytorch/pytorch#51102"),
    replaced(
        "formula",
        "the one-pass variance is clamped at zero, which hides the NaN and keeps the error",
        "var = max(E[x^2] - E[x]^2, 0)",
        var=lambda w: np.maximum(_one_pass(w), 0),
    )
    .of(*CENTRED)
    .known("clamped_one_pass_variance", "tracel-ai/burn#5607"),
    replaced(
        "count wrong",
        "zeros that pad a set to a power of two count as deviations of size mean",
        "var = (sum (x - mu)^2 + (B - m) mu^2) / m",
        var=_padded,
    )
    .of(*CENTRED)
    .known("padding_counted", "triton-lang/triton#9838"),
    replaced(
        "count wrong",
        "the variance is divided by m - 1",
        "var = sum (x - mu)^2 / (m - 1)",
        var=_unbiased,
    ).known("unbiased_variance", "LBANN/lbann#2024"),
    replaced(
        "cast too early",
        FLOAT16_SQUARES,
        "var = E[half(x - mu)^2]",
        var=lambda w: w.average(in_half(w, in_half(w, w.x - w.mean) ** 2)),
    ).known("half_precision_squares", "microsoft/onnxruntime#28442"),
    _root(
        "eps is added to the standard deviation",
        "r = 1 / (sqrt(var) + eps)",
        lambda w: 1 / (np.sqrt(w.var) + w.eps),
    ).known("eps_outside_root", "pyg-team/pytorch_geometric#2917"),
    _root(
        "eps replaces small variances instead of being added",
        "r = max(var, eps)^(-1/2)",
        lambda w: 1 / np.sqrt(np.maximum(w.var, w.eps)),
    ).known("eps_as_floor", "vacancy/Synchronized-BatchNorm-PyTorch#43"),
    _root(
        "eps is raised to 1e-4",
        "r = (var + max(eps, 1e-4))^(-1/2)",
        lambda w: 1 / np.sqrt(w.var + max(w.eps, type(w.eps)(1e-4))),
    ).known("eps_floored", "nntrainer/nntrainer#4318"),
    _root(
        "eps is always 1e-6",
        "r = (var + 1e-6)^(-1/2)",
        lambda w: 1 / np.sqrt(w.var + type(w.eps)(1e-6)),
    ).known("eps_hard_coded", "NVIDIA/cutlass#1112"),
    _root(
        "eps is rounded to float16",
        "r = (var + half(eps))^(-1/2)",
        lambda w: 1 / np.sqrt(w.var + in_half(w, w.eps)),
        "cast too early",
    ).known("eps_in_half", "keras-team/keras#22586"),
    _root(
        "var + eps is rounded to float16",
        "r = half(var + eps)^(-1/2)",
        lambda w: 1 / np.sqrt(in_half(w, w.var + w.eps)),
        "cast too early",
    ).known("variance_in_half", "deepspeedai/DeepSpeed#581"),
    _root(
        "x is divided by its largest magnitude, and eps is not",
        "r = (var / max|x|^2 + eps)^(-1/2) / max|x|",
        _rescaled,
    ).known("eps_not_rescaled", "apple/coremltools#2822"),
    _root(
        "the root is a square",
        "r = (var + eps)^(-2)",
        lambda w: 1 / (w.var + w.eps) ** 2,
    ).known("divided_by_squared_variance", "jax-ml/jax#442"),
    replaced(
        "formula",
        "x is divided by the reciprocal root",
        "x_hat = (x - mu) / r",
        x_hat=lambda w: (w.x - w.mean) / w.rstd,
    ).known("divided_by_rstd", "mosaicml/llm-foundry#371"),
    replaced(
        "formula",
        "the square is taken about the mean: the standard deviation, not the root mean square",
        "var = E[(x - E[x])^2]",
        var=lambda w: w.average((w.x - w.average(w.x)) ** 2),
    )
    .of("rms_norm")
    .known("divided_by_deviation", "keras-team/keras#21234"),
    _root(
        "eps is added to the root mean square, of which the root is taken again",
        "r = (sqrt(E[x^2]) + eps)^(-1/2)",
        lambda w: 1 / np.sqrt(np.sqrt(w.var) + w.eps),
    )
    .of("rms_norm")
    .known("root_of_root", "pytorch/pytorch#139274"),
    Fault(
        "formula",
        "one is added to gamma, which holds it already",
        "y = (1 + gamma) x_hat + beta",
        edits={"scale": lambda w, scale: scale + 1},
    ).known("gamma_plus_one", "utensils/mold#1078"),
    replaced(
        "axis",
        "gamma and its gradient are indexed by the group, not by the channel",
        "y = gamma[group] x_hat + beta",
        scale=_gamma_of_group,
    )
    .of("group_norm")
    .known("gamma_per_group", "apache/mxnet#17139"),
    averaged(STATISTICS, over_axes("N alone"), "axis", "")
    .of("batch_norm")
    .known(
        "statistics_over_first_axis",
        "Nico-Curti/NumPyNet#7",
        "only the batch axis is averaged, each position has its own statistics",
        "mu = E_N[x], var = E_N[(x - mu)^2]",
    ),
    averaged(STATISTICS, over_axes("N and S: these are batch norm's axes"), "axis", "")
    .of("instance_norm")
    .known(
        "statistics_over_batch",
        "sonos/tract#2863",
        "the batch axis is averaged too: these are batch norm's axes",
        "mu = E_{N,S}[x], var = E_{N,S}[(x - mu)^2]",
    ),
    averaged(STATISTICS, over_axes("all axes but the first"), "axis", "")
    .of(*FEATURE_NORMS)
    .known(
        "statistics_over_sample",
        "Qualcomm-AI-research/geometric-algebra-transformer#8",
        "everything but the first axis is averaged",
        "mu = E_{all but axis 0}[x], likewise var",
    ),
    averaged(("mean", "var"), _shards, "count wrong", "")
    .of("batch_norm")
    .known(
        "shards_averaged",
        "PaddlePaddle/Paddle#32464",
        "statistics of parts of unequal size are averaged with equal weight",
        "mu = (mu_1 + mu_2) / 2, likewise var",
    ),
    averaged(STATISTICS, within_set("first", 1024), "block lost", "").known(
        "one_block_only",
        "facebookresearch/xformers#785",
        "statistics leave out what lies beyond the first 1024 positions of a set",
        "mu = sum of the first 1024 x / m, likewise var",
    ),
    averaged(
        STATISTICS,
        lambda w, a: w.average(a) * SIZES["m/m rounded up to 32"].value(w),
        "count wrong",
        "",
    ).known(
        "padding_in_count",
        "tenstorrent/tt-metal#42801",
        "sums are divided by the size of a set rounded up to tiles of 32",
        "mu = sum x / (ceil(m / 32) 32), likewise var",
    ),
    within_grid(65535).known("grid_overflow", "NVIDIA/apex#411"),
    by_address("x").known("x_strides_ignored", "unslothai/unsloth#10675"),
    by_address("dy").known("dy_strides_ignored", "unslothai/unsloth#10617"),
    interleaved_groups().known("interleaved_groups", "chainer/chainer#7706"),
)
