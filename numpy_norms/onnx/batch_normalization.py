"""BatchNormalization, which every version of the standard has changed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import onnx

from .. import checks
from ..batch_norm import batch_norm_forward
from ..batch_norm_inference import batch_norm_inference_forward
from ..running_stats import update_running_stats
from .base import EPSILON, Array, Operator, channels_of, single, work_of

_NAMES = "scale", "B", "input_mean", "input_var"


class BatchNormalization(Operator):
    """Versions 1, 6, 7, 9, 14 and 15, in inference and in training.

    ======== ============================ ==========================================
    version  in training if               outputs in training
    ======== ============================ ==========================================
    14, 15   ``training_mode`` is 1       Y, running mean and variance
    7, 9     there are several outputs    these, and the batch's mean and variance
    1, 6     ``is_test`` is 0             the same
    ======== ============================ ==========================================

    In versions 1 and 6 an absent `is_test` means 0; but one output is said to mean inference, and
    where both hold, the statistics that are given are used, with a warning. Variances are biased.
    Up to version 8, ``spatial=0`` has one mean for each element of a sample.
    """

    def __init__(self, node: onnx.NodeProto, run_params: dict[str, Any], schema: Any = None):
        super().__init__(node, run_params, schema)
        if self.version < 7 and self.outputs == 1 and "is_test" not in self.attributes_names_:
            warnings.warn(
                str(
                    self._error(
                        f"is_test is absent, which in version {self.version} means training, but "
                        "there is one output, as in inference; the given statistics are used. Set "
                        "is_test to 0 or 1 to say which"
                    )
                ),
                stacklevel=2,
            )

    def compute(
        self,
        x: Array,
        scale: Array,
        bias: Array,
        mean: Array,
        var: Array,
        *,
        epsilon: float = EPSILON,
        momentum: float = single(0.9),
        spatial: int = 1,
        is_test: int | None = None,
        training_mode: int = 0,
        consumed_inputs: Sequence[int] = (),
    ) -> tuple[Array, ...]:
        """Y; in training also the new running statistics, and those of the batch."""
        rows, parameters = self._by_channel(x, (scale, bias, mean, var), spatial)
        scale, bias, mean, var = parameters
        checks.finite("input_mean", mean)
        checks.not_negative("input_var", checks.finite("input_var", var))
        if not self._trains(is_test, training_mode):
            y, _ = batch_norm_inference_forward(
                rows, mean, var, scale, bias, eps=epsilon, dtype=work_of(x)
            )
            return (y.reshape(x.shape),)
        y, cache = batch_norm_forward(rows, scale, bias, eps=epsilon, dtype=work_of(x))
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum is {momentum}, but 0 to 1 was expected, of the old values")
        weight = 1 - float(momentum)
        new = update_running_stats(mean, var, cache, momentum=weight, correction=0)
        assert cache.mean is not None
        statistics = *new, cache.mean.astype(mean.dtype), cache.var.astype(var.dtype)
        shape = (len(mean),) if spatial else x.shape[1:]
        return y.reshape(x.shape), *(a.reshape(shape) for a in statistics)

    def _by_channel(
        self, x: Array, parameters: tuple[Array, ...], spatial: int
    ) -> tuple[Array, tuple[Array, ...]]:
        """`x` with its channels on axis 1, and one number of each parameter for each of them."""
        if spatial:
            rows = x[:, None] if x.ndim == 1 else x  # one axis: one channel
            channels_of(rows, **dict(zip(_NAMES, parameters, strict=True)))
            return rows, parameters
        for name, a in zip(_NAMES, parameters, strict=True):
            if a.shape != x.shape[1:]:
                raise ValueError(
                    f"{name} has shape {a.shape}, but spatial=0 has a number for each element of a "
                    f"sample, {x.shape[1:]}; set spatial to 1 if one for each channel is meant"
                )
        rows = x.reshape(len(x), math.prod(x.shape[1:]))
        return rows, tuple(a.reshape(-1) for a in parameters)

    def _trains(self, is_test: int | None, training_mode: int) -> bool:
        if self.version < 7:
            trains = self.outputs > 1 if is_test is None else not is_test
        else:
            trains = self.outputs > 1 if self.version < 14 else bool(training_mode)
        if self.outputs > 1 and not trains:
            said = "training_mode is 0" if self.version >= 14 else f"is_test is {is_test}"
            raise ValueError(
                f"{self.outputs} outputs are asked for, but {said}, and inference has one; set "
                f"{'training_mode to 1' if self.version >= 14 else 'is_test to 0'}, or name one"
            )
        return trains
