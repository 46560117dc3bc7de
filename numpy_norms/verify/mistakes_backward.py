"""Mistakes of the backward pass: terms of (12) lost or doubled, wrong saved statistics."""

from __future__ import annotations

import numpy as np

from numpy_norms.oracle.sets import FEATURE_NORMS

from .mistake import CENTRED, Mistake
from .mistakes_forward import in_half, per_sample, statistics_over
from .plain import STEPS, Array, Work

__all__ = ["BACKWARD_MISTAKES"]


def _projection(w: Work) -> Array:
    return np.asarray(w.x_hat * w.average(w.dx_hat * w.x_hat))


def _other_count(w: Work) -> Array:
    """Compute (12) with its means divided by the number of sets."""
    size = w.view.set_size
    wrong = size / max(w.x.size // size, 1)
    centre = 0 if w.norm == "rms_norm" else w.average(w.dx_hat)
    return np.asarray(w.rstd * (w.dx_hat - wrong * centre - wrong * _projection(w)))


def _clamped_x_hat(w: Work) -> Array:
    sign = np.where(w.gamma < 0, -1, 1)
    gamma = np.where(abs(w.gamma) < w.eps, sign * w.eps, w.gamma)
    return np.asarray((w.y - w.beta) / gamma)


def _recovered(w: Work) -> Array:
    return np.asarray((w.gamma * (w.x - w.mean) * w.rstd + w.beta - w.beta) / w.gamma)


def _recovered_clamped(w: Work) -> Array:
    w.y = w.gamma * (w.x - w.mean) * w.rstd + w.beta
    return _clamped_x_hat(w)


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


BACKWARD_MISTAKES = (
    Mistake(
        "mean_term_dropped",
        "the mean term is missing from dx",
        "dx = r (dx_hat - x_hat E[dx_hat x_hat])",
        "BVLC/caffe#1891",
        CENTRED,
        backward={"dx": lambda w: w.rstd * (w.dx_hat - _projection(w))},
    ),
    Mistake(
        "mean_term_doubled",
        "the mean term is subtracted from dx twice",
        "dx = r (dx_hat - 2 E[dx_hat] - x_hat E[dx_hat x_hat])",
        "tenstorrent/tt-metal#53204",
        CENTRED,
        backward={
            "dx": lambda w: w.rstd * (w.dx_hat - 2 * w.average(w.dx_hat) - _projection(w)),
        },
    ),
    Mistake(
        "mean_term_not_divided",
        "the mean term of dx is a sum: the division by m is missing",
        "dx = r (dx_hat - sum dx_hat - x_hat E[dx_hat x_hat])",
        "mlpack/mlpack#1923",
        CENTRED,
        backward={
            "dx": lambda w: (
                w.rstd * (w.dx_hat - w.view.set_size * w.average(w.dx_hat) - _projection(w))
            ),
        },
    ),
    Mistake(
        "projection_dropped",
        "the variance is taken as a constant: the x_hat term is missing from dx",
        "dx = r (dx_hat - E[dx_hat])",
        "abhiskk/ladder#2",
        backward={
            "dx": lambda w: (
                w.rstd * (w.dx_hat - (0 if w.norm == "rms_norm" else w.average(w.dx_hat)))
            ),
        },
    ),
    Mistake(
        "wrong_count",
        "the sums in dx are divided by the number of sets instead of their size",
        "dx = r (dx_hat - sum dx_hat / N - x_hat sum(dx_hat x_hat) / N)",
        "RubixML/ML#423",
        backward={"dx": _other_count},
    ),
    Mistake(
        "gamma_forgotten",
        "dy is not multiplied by gamma on its way to dx",
        "dx_hat = dy",
        "denizyuret/Knet.jl#288",
        backward={"dx_hat": lambda w: w.dy},
    ),
    Mistake(
        "eps_forgotten",
        "the backward pass has no eps",
        "r = var^(-1/2) in dx and dgamma",
        "chainer/chainer#4191",
        backward={"rstd": lambda w: 1 / np.sqrt(w.var)},
    ),
    Mistake(
        "x_hat_recovered",
        "x_hat is recovered by dividing by gamma, which fails where gamma is 0",
        "x_hat = (y - beta) / gamma in the backward pass",
        "ServiceNow/Fast-LLM#220",
        backward={"x_hat": _recovered},
    ),
    Mistake(
        "x_hat_recovered_clamped",
        "x_hat is recovered by dividing by gamma held away from 0 by eps",
        "x_hat = (y - beta) / clamp(gamma, eps) in the backward pass",
        "NVIDIA/apex#1715",
        backward={"x_hat": _recovered_clamped},
    ),
    Mistake(
        "statistics_saved_in_half",
        "mean and rstd are saved in half precision",
        "x_hat = half(r) (x - half(mu)) in the backward pass",
        "flagos-ai/FlagGems#221",
        backward={
            "mean": lambda w: in_half(w, STEPS["mean"](w)),
            "rstd": lambda w: in_half(w, 1 / np.sqrt(w.var + w.eps)),
        },
    ),
    Mistake(
        "var_for_rstd",
        "the variance is saved where rstd is read",
        "r = var in the backward pass",
        "flagos-ai/FlagGems#5771",
        backward={"rstd": lambda w: w.var},
    ),
    Mistake(
        "rstd_for_var",
        "rstd is saved where the variance is read",
        "r = (r + eps)^(-1/2) in the backward pass",
        "flagos-ai/FlagGems#5222",
        backward={"rstd": lambda w: 1 / np.sqrt(1 / np.sqrt(w.var + w.eps) + w.eps)},
    ),
    Mistake(
        "backward_over_sample",
        "the backward pass takes everything but the first axis as one set",
        "mu, var and the means in dx over all but axis 0",
        "flagos-ai/FlagGems#5392",
        FEATURE_NORMS,
        backward=statistics_over(per_sample),
    ),
    Mistake(
        "dx_missing",
        "no gradient reaches x",
        "dx = 0",
        "huggingface/candle#3613",
        backward={"dx": lambda w: 0 * w.dy},
    ),
    Mistake(
        "dgamma_missing",
        "dgamma is never written",
        "dgamma = 0",
        "paiml/trueno#178",
        backward={"dgamma": lambda w: 0 * w.gamma},
    ),
    Mistake(
        "parameter_gradients_missing",
        "no gradient reaches gamma and beta",
        "dgamma = dbeta = 0",
        "paiml/aprender#2200",
        CENTRED,
        backward={"dgamma": lambda w: 0 * w.gamma, "dbeta": lambda w: 0 * w.beta},
    ),
    Mistake(
        "dgamma_dbeta_swapped",
        "dgamma and dbeta are swapped",
        "dgamma = sum dy, dbeta = sum dy x_hat",
        "Oneflow-Inc/oneflow#6149",
        CENTRED,
        backward={
            "dbeta": lambda w: w.total(w.dy * w.x_hat),
            "dgamma": lambda w: w.total(w.dy),
        },
    ),
    Mistake(
        "last_rows_lost",
        "dgamma and dbeta leave out the rows after the last full block of 4",
        "dgamma = sum of dy x_hat over floor(N / 4) 4 rows, likewise dbeta",
        "BobMcDear/attorch#18",
        backward={"dgamma": _last_rows_lost},
    ),
    Mistake(
        "dgamma_channels_last",
        "dy x_hat is summed as if channels were last",
        "dgamma[c] = sum of (dy x_hat) read as (N, S, C)",
        "pytorch/pytorch#140913",
        ("batch_norm", "group_norm", "instance_norm"),
        backward={"dgamma": _channels_last_dgamma},
    ),
    Mistake(
        "dgamma_of_other_group",
        "dgamma of channel c takes the statistics of group c mod G",
        "dgamma[c] = sum dy (x - mu[c mod G]) r[c mod G]",
        "tenstorrent/tt-metal#56202",
        ("group_norm",),
        backward={"dgamma": _dgamma_of_other_group},
    ),
    Mistake(
        "aliased_in_place",
        "dx is built in the memory of dy, which is read again after it was overwritten",
        "dx = -2 r x_hat E[dx_hat x_hat]",
        "ggml-org/ggml#1519",
        ("rms_norm",),
        backward={"dx": lambda w: -2 * w.rstd * _projection(w)},
    ),
)
