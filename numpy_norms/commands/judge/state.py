"""The state of a batch norm, and what a module does in eval mode."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

import numpy_norms
from numpy_norms.commands.judge.module import Subject, buffers, only_y
from numpy_norms.verify import Finding, Row
from numpy_norms.verify.adapters.torch import as_array, as_tensor
from numpy_norms.verify.battery import Case
from numpy_norms.verify.plain import Array

__all__ = ["measured", "state_rows"]


def measured(case: str, output: str, got: Array, expected: Array, allowed: Array) -> Row:
    """Return the row of a result that is held against an expected one."""
    got = np.asarray(got, np.float64)
    if got.shape != expected.shape:
        note = f"has shape {got.shape}; {expected.shape} is expected"
        return Row.failure(case, output, note)
    ratios = abs(got - expected) / np.maximum(allowed, np.finfo(np.float64).tiny)
    spoilt = int((~np.isfinite(got)).sum())
    usable = np.where(np.isfinite(ratios), ratios, -1.0)
    worst = np.unravel_index(int(np.argmax(usable)), ratios.shape) if ratios.size else ()
    top = float(usable[worst]) if ratios.size else 0.0
    return Row(
        case,
        output,
        max(top, 0.0) if top >= 0 else math.inf,
        float(np.quantile(usable, 0.99)) if ratios.size else 0.0,
        top if top >= 0 else math.inf,
        passed=top <= 1 and not spoilt,
        worst=tuple(int(i) for i in worst),
        got=float(got[worst]) if ratios.size else math.nan,
        expected=float(expected[worst]) if ratios.size else math.nan,
        not_finite=spoilt,
    )


def state_rows(subject: Subject, case: Case) -> Iterator[tuple[Row, Finding | None]]:
    """Yield what a module's running statistics, and its outputs in eval mode, come to."""
    module = subject.module(case.x.shape, case.eps)
    x = as_tensor(case.x, subject.device)
    subject._forward(*case.forward_arguments)  # sets the parameters, in training mode
    if case.norm != "batch_norm":
        with torch.no_grad():
            y = as_array(only_y(module.train()(x)))
            same = as_array(only_y(module.eval()(x)))
        module.train()
        allowed = 16 * float(torch.finfo(x.dtype).eps) * (abs(y) + 1)
        yield measured("eval mode", "y, eval", same, np.asarray(y, np.float64), allowed), None
        return
    means, variances = list(buffers(module, "mean")), list(buffers(module, "var"))
    if not means or not variances:
        if subject.problem.track:
            note = "the module keeps no running statistics"
            finding = Finding("running_mean", "term left out", f"{note}, which eval mode needs")
            yield Row.failure("state", "running_mean", note), finding
        return
    yield from _running(module, means[0], variances[0], case, x)
    yield from _eval(module, means[0], variances[0], case, x)


def _reset(mean: Any, var: Any) -> tuple[Array, Array]:
    """Set running statistics that are none of the data's, and return them."""
    channels = mean.numel()
    old = np.linspace(-1.5, 2.0, channels), np.linspace(0.5, 3.0, channels)
    with torch.no_grad():
        for buffer, values in zip((mean, var), old, strict=True):
            buffer.copy_(torch.from_numpy(values).reshape(buffer.shape))
    return tuple(np.asarray(as_array(b), np.float64).ravel() for b in (mean, var))  # type: ignore[return-value]


def _running(
    module: Any, mean: Any, var: Any, case: Case, x: Any
) -> Iterator[tuple[Row, Finding | None]]:
    old = _reset(mean, var)
    with torch.no_grad():
        module.train()(x)
    momentum = next(
        (m.momentum for m in module.modules() if isinstance(getattr(m, "momentum", None), float)),
        0.1,
    )
    _, cache = numpy_norms.batch_norm_forward(case.x.astype(np.float64), eps=case.eps)
    expected = numpy_norms.update_running_stats(*old, cache, momentum=momentum)
    u = float(torch.finfo(mean.dtype).eps) * 64
    for name, buffer, new, before in zip(
        ("running_mean", "running_var"), (mean, var), expected, old, strict=True
    ):
        got = np.asarray(as_array(buffer), np.float64).ravel()
        row = measured(
            "state", name, got, np.asarray(new), u * (abs(np.asarray(new)) + abs(before))
        )
        finding = None
        if not row.passed:
            what = (
                f"{name} is not momentum {momentum:g} times that of the batch and the rest the old"
            )
            if np.array_equal(got, before):
                what = f"{name} is not updated in training"
            finding = Finding(name, "stale buffer" if "not updated" in what else "formula", what)
        yield row, finding


def _eval(
    module: Any, mean: Any, var: Any, case: Case, x: Any
) -> Iterator[tuple[Row, Finding | None]]:
    old = _reset(mean, var)
    with torch.no_grad():
        y = as_array(only_y(module.eval()(x)))
    module.train()
    wide = [a.astype(np.float64) for a in (case.x, case.gamma, case.beta)]
    expected, _ = numpy_norms.batch_norm_inference_forward(
        wide[0], *old, wide[1], wide[2], eps=case.eps
    )
    view = (-1, *(1,) * (case.x.ndim - 2))
    gamma, beta, m, r = (
        abs(a).reshape(view) for a in (wide[1], wide[2], old[0], (old[1] + case.eps) ** -0.5)
    )
    u = 16 * float(torch.finfo(x.dtype).eps)
    row = measured("eval mode", "y, eval", y, expected, u * (gamma * r * (abs(wide[0]) + m) + beta))
    finding = None
    if not row.passed:
        batch, _ = numpy_norms.batch_norm_forward(*wide, eps=case.eps)
        what = "eval mode does not use the running statistics"
        if np.allclose(np.asarray(y, np.float64), batch, rtol=1e-2, atol=1e-2):
            what = "eval mode uses the statistics of the batch, not the running ones"
        finding = Finding("y", "formula", what, condition="only in eval mode")
    yield row, finding
