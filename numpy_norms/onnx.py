"""ONNX' normalization operators, for ``onnx.reference.ReferenceEvaluator``.

::

    from numpy_norms.onnx import evaluator

    outputs = evaluator("model.onnx").run(None, {"x": x})

The operators compute float32 in float32, as the standard has it, with the equations of this
library: a large mean does not drown the variance. Half precision is computed in float64; what is
normalized is rounded to the type that `stash_type` names and then to that of X, and scale and bias
are applied in the type of X.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from os import PathLike, fspath
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

try:
    import onnx
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun
except ImportError as error:
    raise ImportError("numpy_norms.onnx needs onnx: pip install 'numpy_norms[onnx]'") from error

from . import checks
from .batch_norm import batch_norm_forward
from .batch_norm_inference import batch_norm_inference_forward
from .cache import Cache
from .files import Damage, opened
from .further.local_response_norm import local_response_norm_forward
from .further.lp_normalize import lp_normalize_forward
from .further.mean_variance_norm import mean_variance_norm_forward
from .group_norm import group_norm_forward
from .instance_norm import instance_norm_forward
from .layer_norm import layer_norm_forward
from .rms_norm import rms_norm_forward
from .running_stats import update_running_stats

__all__ = ["evaluator", "new_ops"]

Array = NDArray[Any]


def evaluator(model: str | PathLike[str] | onnx.ModelProto) -> ReferenceEvaluator:
    """Return ONNX' reference evaluator of `model`, with the norms of this library in it.

    Parameters
    ----------
    model : path or onnx.ModelProto
        A model, or the file that holds it.

    Returns
    -------
    ReferenceEvaluator
        Its ``run(None, inputs)`` returns the outputs.

    Raises
    ------
    ValueError
        If the file holds no ONNX model, or one that is damaged.
    NotImplementedError
        If the evaluator does not know an operator.
    OSError
        If it cannot be opened.
    """
    if isinstance(model, onnx.ModelProto):
        return ReferenceEvaluator(model, new_ops=new_ops)
    name = fspath(model)
    proto = _read(name)
    try:
        return ReferenceEvaluator(proto, new_ops=new_ops)
    except NotImplementedError:
        raise
    except Exception as error:  # of every kind that a damaged model makes ONNX raise
        what = " ".join(str(error).split())[:200]
        raise ValueError(f"{name} cannot be run ({type(error).__name__}: {what})") from error


def _read(name: str) -> onnx.ModelProto:
    with opened(name) as file:
        try:
            model = onnx.load_model_from_string(file.read())
            onnx.load_external_data_for_model(model, os.path.dirname(name))
            onnx.checker.check_model(model)
        except Exception as error:
            raise Damage(f"holds no ONNX model: {' '.join(str(error).split())[:200]}") from None
    return model


class _Operator(OpRun):
    """Names the node in an error; a subclass computes the outputs."""

    op_domain = ""
    compute: Callable[..., tuple[Array, ...]]

    def _run(self, *inputs: Array, **attributes: Any) -> tuple[Array, ...]:
        try:
            return self.compute(*inputs, **attributes)
        except (ValueError, TypeError) as error:
            node = self.onnx_node.name or f"that computes {self.onnx_node.output[0]!r}"
            raise ValueError(f"{self.op_type} node {node}: {error}") from error


class BatchNormalization(_Operator):
    """Opset 9 and later, in inference and in training."""

    def compute(
        self,
        x: Array,
        scale: Array,
        bias: Array,
        mean: Array,
        var: Array,
        *,
        epsilon: float,
        momentum: float,
        training_mode: int,
    ) -> tuple[Array, ...]:
        """Y; and the new running mean and variance where ``training_mode`` is 1."""
        rows = x[:, np.newaxis] if x.ndim == 1 else x  # one axis: one channel
        checks.finite("input_mean", mean)
        checks.not_negative("input_var", checks.finite("input_var", var))
        if not training_mode:
            y, _ = batch_norm_inference_forward(
                rows, mean, var, scale, bias, eps=epsilon, dtype=_work(x)
            )
            return (y.reshape(x.shape),)
        y, cache = batch_norm_forward(rows, scale, bias, eps=epsilon, dtype=_work(x))
        weight = 1 - float(momentum)
        new = update_running_stats(mean, var, cache, momentum=weight, correction=0)
        return y.reshape(x.shape), *new


class InstanceNormalization(_Operator):
    """Opset 6 and later."""

    def compute(self, x: Array, scale: Array, bias: Array, *, epsilon: float) -> tuple[Array, ...]:
        """Y."""
        return (instance_norm_forward(x, scale, bias, eps=epsilon, dtype=_work(x))[0],)


class GroupNormalization(_Operator):
    """Opset 18, where scale and bias have one number per group, and 21, one per channel."""

    def compute(
        self,
        x: Array,
        scale: Array,
        bias: Array,
        *,
        num_groups: int,
        epsilon: float,
        stash_type: int,
    ) -> tuple[Array, ...]:
        """Y."""
        if self.run_params["opsets"][""] < 21 and scale.shape == (num_groups,):
            scale, bias = (np.repeat(a, x.shape[1] // num_groups) for a in (scale, bias))
        for name, a in (("scale", scale), ("bias", bias)):
            if a.shape != x.shape[1:2]:
                raise ValueError(f"{name} has shape {a.shape}, but X has {x.shape[1]} channels")

        def normalize(x: Array, *parameters: Array | None) -> tuple[Array, Cache]:
            return group_norm_forward(x, num_groups, *parameters, eps=epsilon, dtype=_work(x))

        along_channels = (-1,) + (1,) * (x.ndim - 2)
        y, _ = _staged(normalize, x, scale, bias, x.shape[1:2], along_channels, stash_type)
        return (y,)


class LayerNormalization(_Operator):
    """Opset 17 and later."""

    def compute(
        self,
        x: Array,
        scale: Array,
        bias: Array | None = None,
        *,
        axis: int,
        epsilon: float,
        stash_type: int,
    ) -> tuple[Array, ...]:
        """Y, Mean and InvStdDev."""
        axes = _from(axis, x)

        def normalize(x: Array, *parameters: Array | None) -> tuple[Array, Cache]:
            return layer_norm_forward(x, *parameters, axis=axes, eps=epsilon, dtype=_work(x))

        y, cache = _staged(normalize, x, scale, bias, x.shape[axes[0] :], None, stash_type)
        kept = x.shape[: axes[0]] + (1,) * len(axes)
        assert cache.mean is not None
        stash = _dtype(stash_type)
        return y, *(a.astype(stash).reshape(kept) for a in (cache.mean, cache.rstd))


class RMSNormalization(_Operator):
    """Opset 23 and later."""

    def compute(
        self, x: Array, scale: Array, *, axis: int, epsilon: float, stash_type: int
    ) -> tuple[Array, ...]:
        """Y."""
        axes = _from(axis, x)

        def normalize(x: Array, gamma: Array | None = None, _: None = None) -> tuple[Array, Cache]:
            return rms_norm_forward(x, gamma, axis=axes, eps=epsilon, dtype=_work(x))

        return (_staged(normalize, x, scale, None, x.shape[axes[0] :], None, stash_type)[0],)


class MeanVarianceNormalization(_Operator):
    """Opset 9 and later."""

    def compute(self, x: Array, *, axes: list[int]) -> tuple[Array, ...]:
        """Y."""
        return (mean_variance_norm_forward(x, axis=axes, dtype=_work(x))[0],)


class LpNormalization(_Operator):
    """Opset 1 and later; a norm of 0 gives 0."""

    def compute(self, x: Array, *, axis: int, p: int) -> tuple[Array, ...]:
        """Y."""
        return (lp_normalize_forward(x, p=p, axis=axis, eps=0.0, dtype=_work(x))[0],)


class LRN(_Operator):
    """Opset 1 and later; a window of even size has one channel more above than below."""

    def compute(
        self, x: Array, *, size: int, alpha: float, beta: float, bias: float
    ) -> tuple[Array, ...]:
        """Y."""
        y, _ = local_response_norm_forward(
            x,
            size,
            alpha=alpha,
            beta=beta,
            k=bias,
            even_window="upper",
            dtype=_work(x),
        )
        return (y,)


new_ops: list[type[OpRun]] = [
    BatchNormalization,
    InstanceNormalization,
    GroupNormalization,
    LayerNormalization,
    RMSNormalization,
    MeanVarianceNormalization,
    LpNormalization,
    LRN,
]


def _staged(
    normalize: Callable[..., tuple[Array, Cache]],
    x: Array,
    scale: Array,
    bias: Array | None,
    exact: tuple[int, ...],
    along: tuple[int, ...] | None,
    stash_type: int,
) -> tuple[Array, Cache]:
    """Normalize in the type `stash_type`, round to that of x, then scale and shift.

    One pass does it where both types are the same, no half precision (whose results depend on every
    rounding), and the parameters have the `exact` shape. `along` is the shape in which parameters
    broadcast against x, if it is not theirs.
    """
    stash = _dtype(stash_type)
    if (
        x.dtype == stash
        and stash.itemsize >= 4
        and all(a is None or a.shape == exact for a in (scale, bias))
    ):
        return normalize(x, scale, bias)
    x_hat, cache = normalize(x.astype(stash))
    y = x_hat.astype(x.dtype) * (scale if along is None else scale.reshape(along))
    if bias is not None:
        y = y + (bias if along is None else bias.reshape(along))
    return y.astype(x.dtype, copy=False), cache


def _work(x: Array) -> DTypeLike | None:
    """Float32 for float32, as the standard has it; wider for halves, rounded step by step."""
    return np.float32 if x.dtype == np.float32 else None


def _dtype(stash_type: int) -> np.dtype[Any]:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(stash_type))


def _from(axis: int, x: Array) -> tuple[int, ...]:
    """The axes from `axis` to the last."""
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis is {axis}, but X has {x.ndim} axes, of shape {x.shape}")
    return tuple(range(axis % x.ndim, x.ndim))
