"""What ONNX Runtime's optimizer writes in place of an addition and a norm, or of a lookup and one.

They compute half precision in float32 and round once, as ONNX Runtime does.
"""

from __future__ import annotations

import numpy as np

from ..cache import Cache
from ..group_norm import group_norm_forward
from ..layer_norm import layer_norm_forward
from ..rms_norm import rms_norm_forward
from .base import EPSILON, Array, Operator, axes_from, floats_that_fit, single, stash_dtype

_SKIP_EPSILON = single(1e-12)


class SimplifiedLayerNormalization(Operator):
    """RMS norm; Y has the type of scale."""

    def compute(
        self,
        x: Array,
        scale: Array,
        *,
        axis: int = -1,
        epsilon: float = EPSILON,
        stash_type: int = 1,
    ) -> tuple[Array, ...]:
        """Y, and 1 / sqrt(E[X^2] + epsilon)."""
        axes, stash = axes_from(axis, x), stash_dtype(stash_type)
        floats_that_fit(x, scale=scale)
        wide = _wide(x)
        exact = scale.shape == x.shape[axes[0] :]
        gamma = _wide(scale).astype(wide.dtype) if exact else None
        y, cache = rms_norm_forward(wide, gamma, axis=axes, eps=epsilon, dtype=wide.dtype)
        y = y if exact else y * _wide(scale)
        return y.astype(scale.dtype), _kept(cache.rstd, x, axes).astype(stash)


class SkipLayerNormalization(Operator):
    """Layer norm of input + skip + bias."""

    op_domain = "com.microsoft"

    def compute(
        self,
        x: Array,
        skip: Array,
        gamma: Array,
        beta: Array | None = None,
        bias: Array | None = None,
        *,
        epsilon: float = _SKIP_EPSILON,
    ) -> tuple[Array | None, ...]:
        """Y; mean and 1 / std of the sum, in float32; the sum."""
        s = _sum(x, skip, bias)
        y, cache = _layer_norm(s, gamma, beta, epsilon)
        return y.astype(x.dtype), *_statistics(cache, x), s.astype(x.dtype)


class SkipSimplifiedLayerNormalization(Operator):
    """RMS norm of input + skip + bias."""

    op_domain = "com.microsoft"

    def compute(
        self,
        x: Array,
        skip: Array,
        gamma: Array,
        bias: Array | None = None,
        *,
        epsilon: float = _SKIP_EPSILON,
    ) -> tuple[Array | None, ...]:
        """Y; a mean of 0 and 1 / sqrt(E[sum^2] + epsilon), in float32; the sum."""
        s = _sum(x, skip, bias)
        y, cache = rms_norm_forward(s, gamma.astype(s.dtype), eps=epsilon, dtype=s.dtype)
        return y.astype(x.dtype), *_statistics(cache, x), s.astype(x.dtype)


class EmbedLayerNormalization(Operator):
    """Layer norm of the sum of the embeddings of words, positions and segments."""

    op_domain = "com.microsoft"

    def compute(
        self,
        input_ids: Array,
        segment_ids: Array | None,
        words: Array,
        positions: Array,
        segments: Array | None,
        gamma: Array,
        beta: Array,
        mask: Array | None = None,
        position_ids: Array | None = None,
        *,
        epsilon: float = _SKIP_EPSILON,
        mask_index_type: int = 1,
    ) -> tuple[Array | None, ...]:
        """Y; how many words of each sentence the mask lets through; the sum."""
        if input_ids.ndim != 2:
            raise ValueError(
                f"input_ids has shape {input_ids.shape}, but (sentences, words) was expected"
            )
        tables = {"word_embedding": words, "position_embedding": positions}
        for name, a in {**tables, "segment_embedding": segments}.items():
            if a is not None and (a.ndim != 2 or a.shape[1] != len(gamma)):
                raise ValueError(
                    f"{name} has shape {a.shape}, but gamma has {len(gamma)}, one for each column"
                )
        batch, length = input_ids.shape
        if position_ids is None:
            position_ids = np.arange(length)[None]
        s = _wide(_rows(words, input_ids, "input_ids"))
        s = s + _wide(_rows(positions, position_ids, "position_ids"))
        if segment_ids is not None and segments is not None:
            s = s + _wide(_rows(segments, segment_ids, "segment_ids"))
        y, _ = _layer_norm(s, gamma, beta, epsilon)
        counts = np.zeros(batch) if mask is None else (mask == 1).sum(axis=1)
        return y.astype(words.dtype), counts.astype(np.int32), s.astype(words.dtype)


class GroupNorm(Operator):
    """Group norm with the channels last, or on axis 1; and SiLU after it, y * sigmoid(y)."""

    op_domain = "com.microsoft"

    def compute(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        *,
        groups: int,
        activation: int,
        channels_last: int = 1,
        epsilon: float = EPSILON,
    ) -> tuple[Array | None, ...]:
        """Y."""
        floats_that_fit(x)
        y = _group_norm(_wide(x), gamma, beta, groups, activation, channels_last, epsilon)
        return (y.astype(x.dtype, copy=False),)


class SkipGroupNorm(Operator):
    """Group norm of X + skip + bias, and SiLU."""

    op_domain = "com.microsoft"

    def compute(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        skip: Array,
        bias: Array | None = None,
        *,
        groups: int,
        activation: int,
        channels_last: int = 1,
        epsilon: float = EPSILON,
    ) -> tuple[Array | None, ...]:
        """Y, and the sum."""
        between = (1,) * (x.ndim - 2)
        along = (-1, *between) if not channels_last else (-1,)
        if skip.ndim == 2:  # one number for each sample and channel
            n, c = skip.shape
            skip = skip.reshape((n, *between, c) if channels_last else (n, c, *between))
        s = _sum(x, skip, None if bias is None else bias.reshape(along))
        y = _group_norm(s, gamma, beta, groups, activation, channels_last, epsilon)
        return y.astype(x.dtype, copy=False), s.astype(x.dtype)


def _group_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    groups: int,
    activation: int,
    channels_last: int,
    epsilon: float,
) -> Array:
    if activation not in (0, 1):
        raise ValueError(f"activation is {activation}, but 0 (none) or 1 (SiLU) was expected")
    y, _ = group_norm_forward(
        x,
        groups,
        gamma.astype(x.dtype),
        beta.astype(x.dtype),
        channel_axis=-1 if channels_last else 1,
        eps=epsilon,
        dtype=x.dtype,
    )
    return y * (0.5 + 0.5 * np.tanh(0.5 * y)) if activation else y


def _wide(a: Array) -> Array:
    """Float32 for half precision."""
    return a.astype(np.float32) if a.dtype.itemsize < 4 else a


def _sum(x: Array, skip: Array, bias: Array | None) -> Array:
    """The sum in the type to compute in; `skip` and `bias` may lack axes or repeat along them."""
    floats_that_fit(x, skip=skip, bias=bias)
    s = _wide(x)
    for a in (skip, bias):
        if a is not None:
            s = s + _wide(a).astype(s.dtype)
    return s


def _layer_norm(s: Array, gamma: Array, beta: Array | None, epsilon: float) -> tuple[Array, Cache]:
    beta = None if beta is None else beta.astype(s.dtype)
    return layer_norm_forward(s, gamma.astype(s.dtype), beta, eps=epsilon, dtype=s.dtype)


def _kept(statistic: Array, x: Array, axes: tuple[int, ...]) -> Array:
    """A statistic with the axes over which it was taken, each of length 1."""
    return statistic.reshape(x.shape[: axes[0]] + (1,) * len(axes))


def _statistics(cache: Cache, x: Array) -> tuple[Array, Array]:
    mean = np.zeros_like(cache.rstd) if cache.mean is None else cache.mean
    both = (_kept(a, x, (x.ndim - 1,)).astype(np.float32) for a in (mean, cache.rstd))
    return next(both), next(both)


def _rows(table: Array, ids: Array, name: str) -> Array:
    """The rows of an embedding; no index counts from the end."""
    wrong = ids[(ids < 0) | (ids >= len(table))]
    if wrong.size:
        raise ValueError(f"{name} holds {wrong[0]}, but its embedding has {len(table)} rows")
    return table[ids]
