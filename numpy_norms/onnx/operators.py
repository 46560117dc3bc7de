"""The operators of the standard, but batch norm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import checks
from ..cache import Cache
from ..further.local_response_norm import local_response_norm_forward
from ..further.lp_normalize import lp_normalize_forward
from ..further.mean_variance_norm import mean_variance_norm_forward
from ..group_norm import group_norm_forward
from ..instance_norm import instance_norm_forward
from ..layer_norm import layer_norm_forward
from ..rms_norm import rms_norm_forward
from .base import (
    EPSILON,
    Array,
    Operator,
    axes_from,
    channels_of,
    single,
    staged,
    stash_dtype,
    work_of,
)


class InstanceNormalization(Operator):
    """Versions 1, 6 and 22; `consumed_inputs` says which memory is free."""

    def compute(
        self,
        x: Array,
        scale: Array,
        bias: Array,
        *,
        epsilon: float = EPSILON,
        consumed_inputs: Sequence[int] = (),
    ) -> tuple[Array, ...]:
        """Y."""
        channels_of(x, scale=scale, B=bias)
        return (instance_norm_forward(x, scale, bias, eps=epsilon, dtype=work_of(x))[0],)


class GroupNormalization(Operator):
    """Version 18, where scale and bias have one number per group, and 21, one per channel."""

    def compute(
        self,
        x: Array,
        scale: Array,
        bias: Array,
        *,
        num_groups: int,
        epsilon: float = EPSILON,
        stash_type: int = 1,
    ) -> tuple[Array, ...]:
        """Y."""
        channels = channels_of(x)
        checks.number_of_groups(num_groups, channels)
        if self.version < 21 and scale.shape == (num_groups,):
            scale, bias = (np.repeat(a, channels // num_groups) for a in (scale, bias))
        channels_of(x, scale=scale, bias=bias)

        def normalize(x: Array, *parameters: Array | None) -> tuple[Array, Cache]:
            return group_norm_forward(x, num_groups, *parameters, eps=epsilon, dtype=work_of(x))

        along_channels = (-1,) + (1,) * (x.ndim - 2)
        y, _ = staged(normalize, x, scale, bias, x.shape[1:2], along_channels, stash_type)
        return (y,)


class LayerNormalization(Operator):
    """Version 17; and what ONNX Runtime writes under earlier opsets, where Y has scale's type."""

    def compute(
        self,
        x: Array,
        scale: Array,
        bias: Array | None = None,
        *,
        axis: int = -1,
        epsilon: float = EPSILON,
        stash_type: int = 1,
    ) -> tuple[Array, ...]:
        """Y, Mean and InvStdDev."""
        axes = axes_from(axis, x)

        def normalize(x: Array, *parameters: Array | None) -> tuple[Array, Cache]:
            return layer_norm_forward(x, *parameters, axis=axes, eps=epsilon, dtype=work_of(x))

        y, cache = staged(normalize, x, scale, bias, x.shape[axes[0] :], None, stash_type)
        kept = x.shape[: axes[0]] + (1,) * len(axes)
        assert cache.mean is not None
        stash = stash_dtype(stash_type)
        return y, *(a.astype(stash).reshape(kept) for a in (cache.mean, cache.rstd))


class RMSNormalization(Operator):
    """Version 23."""

    def compute(
        self,
        x: Array,
        scale: Array,
        *,
        axis: int = -1,
        epsilon: float = EPSILON,
        stash_type: int = 1,
    ) -> tuple[Array, ...]:
        """Y."""
        axes = axes_from(axis, x)

        def normalize(x: Array, gamma: Array | None = None, _: None = None) -> tuple[Array, Cache]:
            return rms_norm_forward(x, gamma, axis=axes, eps=epsilon, dtype=work_of(x))

        return (staged(normalize, x, scale, None, x.shape[axes[0] :], None, stash_type)[0],)


class MeanVarianceNormalization(Operator):
    """Versions 9 and 13."""

    def compute(self, x: Array, *, axes: Sequence[int] = (0, 2, 3)) -> tuple[Array, ...]:
        """Y."""
        return (mean_variance_norm_forward(x, axis=tuple(axes), dtype=work_of(x))[0],)


class LpNormalization(Operator):
    """Versions 1 and 22; a norm of 0 gives 0."""

    def compute(self, x: Array, *, axis: int = -1, p: int = 2) -> tuple[Array, ...]:
        """Y."""
        if p not in (1, 2):
            raise ValueError(f"p is {p}, but 1 or 2 was expected")
        return (lp_normalize_forward(x, p=p, axis=axis, eps=0.0, dtype=work_of(x))[0],)


class LRN(Operator):
    """Versions 1 and 13; a window of even size has one channel more above than below."""

    def compute(
        self,
        x: Array,
        *,
        size: int,
        alpha: float = single(1e-4),
        beta: float = 0.75,
        bias: float = 1.0,
    ) -> tuple[Array, ...]:
        """Y."""
        y, _ = local_response_norm_forward(
            x,
            size,
            alpha=alpha,
            beta=beta,
            k=bias,
            even_window="upper",
            dtype=work_of(x),
        )
        return (y,)
