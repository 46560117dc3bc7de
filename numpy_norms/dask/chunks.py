"""What is done to a chunk, and what the chunks' records become: NumPy arrays, on some worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import batch_norm, checks, layer_norm, pieces
from ..engine.lifting import careful
from ..engine.plans import Asked, Layout, Plan, plan_for
from ..moments import Moments, of_statistics
from ..normalize import forward

Array = NDArray[Any]
LAYOUTS: dict[str, Callable[..., Layout]] = {
    "batch_norm": batch_norm.layout,
    "layer_norm": layer_norm.layout,
    "rms_norm": layer_norm.layout,
}


class Task(NamedTuple):
    """A norm, with all that is not an array: the same for all chunks."""

    norm: str
    options: tuple[Any, ...]  # of its layout
    eps: float
    dtype: np.dtype[Any] | None
    parameters: tuple[str, ...] = ()  # those that are given

    def layout(self, x: Array, gamma: Array | None = None, beta: Array | None = None) -> Layout:
        """The layout of an array, or of a chunk."""
        return LAYOUTS[self.norm](x, gamma, beta, *self.options)

    def plan(self, x: Array, gamma: Array | None = None, beta: Array | None = None) -> Plan:
        """The plan of an array, or of a chunk."""
        first, second = (None if a is None else a.dtype for a in (gamma, beta))
        layout = self.layout(x, gamma, beta)
        if gamma is beta is None:
            layout = layout._replace(along=())
        asked = Asked(self.norm != "rms_norm", first, second)
        return plan_for(layout, checks.working_dtype(x, self.dtype), x.dtype, asked)

    def of_chunk(self, x: Array, parameters: tuple[Array, ...]) -> list[Array | None]:
        """gamma and beta of a chunk, whose axes they have, without those of length one."""
        along = self.layout(x).along
        given = {
            name: a.reshape([x.shape[i] for i in along])
            for name, a in zip(self.parameters, parameters, strict=True)
        }
        return [given.get("gamma"), given.get("beta")]


def normalized(x: Array, *parameters: Array, task: Task) -> Array:
    """y of a chunk that has its sets whole."""
    gamma, beta = task.of_chunk(x, parameters)
    norm, options, eps, dtype, _ = task
    layout = LAYOUTS[norm]
    y, _ = forward(norm, layout, x, gamma, beta, options, eps=eps, dtype=dtype, out=None)
    return y


def record(x: Array, *, axis: Any, keepdims: bool, task: Task) -> Array:
    """Counts and statistics of a chunk."""
    return pieces.record(task.plan(x), x, task.eps, None)


def merged(records: Array, *, axis: Any, keepdims: bool, plan: Plan, task: Task) -> Array:
    """The record of several chunks, from theirs, which are joined along the axes."""
    return pieces.merged(plan, task.eps, records, tuple(axis))


def applied(x: Array, whole: Array, *parameters: Array, task: Task) -> Array:
    """y of a chunk, whose sets have the statistics of a record."""
    gamma, beta = task.of_chunk(x, parameters)
    plan = task.plan(x, gamma, beta)
    plan = careful(plan, gamma, task.eps)
    return pieces.normalized(plan, x, gamma, beta, task.eps, pieces.of_record(plan, whole))


def moments(whole: Array, *, plan: Plan) -> Moments:
    """The moments in a record."""
    count = whole["count"].reshape(plan.set_shape)
    return of_statistics(plan, count, pieces.of_record(plan, whole))
