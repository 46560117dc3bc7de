"""Known faults of the backward pass: terms of (12) lost or doubled, wrong saved statistics."""

from __future__ import annotations

import numpy as np

from numpy_norms.oracle.sets import FEATURE_NORMS
from numpy_norms.verify.plain import STEPS, Array, Work

from .factors import SIZES
from .grammar import CENTRED, Fault, averaged, factor, in_half, left_out, replaced
from .memory import dx_into_dy
from .regions import over_axes

__all__ = ["BACKWARD_FAULTS"]

CHANNEL_NORMS = ("batch_norm", "group_norm", "instance_norm")


def _clamped_x_hat(w: Work) -> Array:
    sign = np.where(w.gamma < 0, -1, 1)
    gamma = np.where(abs(w.gamma) < w.eps, sign * w.eps, w.gamma)
    return np.asarray((w.gamma * (w.x - w.mean) * w.rstd + w.beta - w.beta) / gamma)


def _recovered(w: Work) -> Array:
    return np.asarray((w.gamma * (w.x - w.mean) * w.rstd + w.beta - w.beta) / w.gamma)


def _channels_last_dgamma(w: Work) -> Array:
    product = w.dy * w.x_hat
    return np.asarray(product.reshape(-1, w.gamma.size).sum(axis=0).reshape(w.gamma.shape))


def _dgamma_of_other_group(w: Work) -> Array:
    groups, width = w.view.shape[1:3]
    other = np.arange(groups * width).reshape(groups, width) % groups
    mean, rstd = (a[:, other, 0] for a in (w.mean, w.rstd))
    return w.total(w.dy * (w.x - mean) * rstd)


def _last_rows_lost(w: Work) -> Array:
    rows = w.view.shape[0]
    kept = np.arange(rows) < (rows - rows % 4 if rows > 4 else rows)
    return w.total(w.dy * w.x_hat * kept.reshape(-1, 1, 1, 1))


def _rstd_of_rstd(w: Work) -> Array:
    return np.asarray(1 / np.sqrt(1 / np.sqrt(w.var + w.eps) + w.eps))


_ALL: tuple[Fault, ...] = (
    left_out("centre")
    .of(*CENTRED)
    .known(
        "mean_term_dropped",
        "BVLC/caffe#1891",
        "the mean term is missing from dx",
        "dx = r (dx_hat - x_hat E[dx_hat x_hat])",
    ),
    factor("centre", SIZES["2"])
    .of(*CENTRED)
    .known(
        "mean_term_doubled",
        "tenstorrent/tt-metal#53204",
        "the mean term is subtracted from dx twice",
        "dx = r (dx_hat - 2 E[dx_hat] - x_hat E[dx_hat x_hat])",
    ),
    factor("centre", SIZES["m"])
    .of(*CENTRED)
    .known(
        "mean_term_not_divided",
        "mlpack/mlpack#1923",
        "the mean term of dx is summed where the average over m is meant",
        "dx = r (dx_hat - sum dx_hat - x_hat E[dx_hat x_hat])",
    ),
    left_out("projection").known(
        "projection_dropped",
        "abhiskk/ladder#2",
        "the variance is taken as a constant: the x_hat term is missing from dx",
        "dx = r (dx_hat - E[dx_hat])",
    ),
    averaged(
        ("centre", "projection"),
        lambda w, a: w.average(a) * SIZES["m/sets"].value(w),
        "count wrong",
        "",
    ).known(
        "wrong_count",
        "RubixML/ML#423",
        "the sums in dx are divided by the number of sets instead of their size",
        "dx = r (dx_hat - sum dx_hat / N - x_hat sum(dx_hat x_hat) / N)",
    ),
    replaced(
        "term left out",
        "dy is not multiplied by gamma on its way to dx",
        "dx_hat = dy",
        dx_hat=lambda w: w.dy,
    ).known("gamma_forgotten", "denizyuret/Knet.jl#288"),
    replaced(
        "term left out",
        "the backward pass has no eps",
        "r = var^(-1/2) in dx and dgamma",
        rstd=lambda w: 1 / np.sqrt(w.var),
    ).known("eps_forgotten", "chainer/chainer#4191"),
    replaced(
        "formula",
        "x_hat is recovered by dividing by gamma, which fails where gamma is 0",
        "x_hat = (y - beta) / gamma in the backward pass",
        x_hat=_recovered,
    ).known("x_hat_recovered", "ServiceNow/Fast-LLM#220"),
    replaced(
        "formula",
        "x_hat is recovered by dividing by gamma held away from 0 by eps",
        "x_hat = (y - beta) / clamp(gamma, eps) in the backward pass",
        x_hat=_clamped_x_hat,
    ).known("x_hat_recovered_clamped", "NVIDIA/apex#1715"),
    replaced(
        "cast too early",
        "mean and rstd are saved in half precision",
        "x_hat = half(r) (x - half(mu)) in the backward pass",
        mean=lambda w: in_half(w, STEPS["mean"](w)),
        rstd=lambda w: in_half(w, 1 / np.sqrt(w.var + w.eps)),
    ).known("statistics_saved_in_half", "flagos-ai/FlagGems#221"),
    replaced(
        "formula",
        "the variance is saved where rstd is read",
        "r = var in the backward pass",
        rstd=lambda w: w.var,
    ).known("var_for_rstd", "flagos-ai/FlagGems#5771"),
    replaced(
        "formula",
        "rstd is saved where the variance is read",
        "r = (r + eps)^(-1/2) in the backward pass",
        rstd=_rstd_of_rstd,
    ).known("rstd_for_var", "flagos-ai/FlagGems#5222"),
    averaged(
        ("mean", "var", "centre", "projection"), over_axes("all axes but the first"), "axis", ""
    )
    .of(*FEATURE_NORMS)
    .known(
        "backward_over_sample",
        "flagos-ai/FlagGems#5392",
        "the backward pass takes everything but the first axis as one set",
        "mu, var and the means in dx over all but axis 0",
    ),
    left_out("dx").known(
        "dx_missing", "huggingface/candle#3613", "no gradient reaches x", "dx = 0"
    ),
    left_out("dgamma").known(
        "dgamma_missing", "paiml/trueno#178", "dgamma is never written", "dgamma = 0"
    ),
    replaced(
        "term left out",
        "no gradient reaches gamma and beta",
        "dgamma = dbeta = 0",
        dgamma=lambda w: 0 * w.gamma,
        dbeta=lambda w: 0 * w.beta,
    )
    .of(*CENTRED)
    .known("parameter_gradients_missing", "paiml/aprender#2200"),
    replaced(
        "formula",
        "dgamma and dbeta are swapped",
        "dgamma = sum dy, dbeta = sum dy x_hat",
        dbeta=lambda w: w.total(w.dy * w.x_hat),
        dgamma=lambda w: w.total(w.dy),
    )
    .of(*CENTRED)
    .known("dgamma_dbeta_swapped", "Oneflow-Inc/oneflow#6149"),
    replaced(
        "block lost",
        "dgamma and dbeta leave out the rows after the last full block of 4",
        "dgamma = sum of dy x_hat over floor(N / 4) 4 rows, likewise dbeta",
        dgamma=_last_rows_lost,
    ).known("last_rows_lost", "BobMcDear/attorch#18"),
    replaced(
        "axis",
        "dy x_hat is summed as if channels were last",
        "dgamma[c] = sum of (dy x_hat) read as (N, S, C)",
        dgamma=_channels_last_dgamma,
    )
    .of(*CHANNEL_NORMS)
    .known("dgamma_channels_last", "pytorch/pytorch#140913"),
    replaced(
        "axis",
        "dgamma of channel c takes the statistics of group c mod G",
        "dgamma[c] = sum dy (x - mu[c mod G]) r[c mod G]",
        dgamma=_dgamma_of_other_group,
    )
    .of("group_norm")
    .known("dgamma_of_other_group", "tenstorrent/tt-metal#56202"),
    replaced(
        "overwritten",
        "dx is built in the memory of dy, which is read again after it was overwritten",
        "dx = -2 r x_hat E[dx_hat x_hat]",
        dx=lambda w: -2 * w.rstd * w.projection,
    )
    .of("rms_norm")
    .known("aliased_in_place", "ggml-org/ggml#1519"),
)
BACKWARD_FAULTS = (
    *(fault.in_backward() for fault in _ALL),
    dx_into_dy().known("dy_overwritten", "linkedin/Liger-Kernel#1305"),
)
