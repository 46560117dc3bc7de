"""Checking a kernel of one of the norms: the battery, the expected values, the laws, the report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .arrangement import Arrangement
from .battery import cases
from .diagnosis import diagnose
from .laws import law_rows
from .plain import Kernel, plain_kernel
from .report import Report, Row
from .runs import Judge, Run, library_kernel, run
from .tolerances import Accumulator

__all__ = ["Trial", "check_kernel"]


def check_kernel(
    norm: str,
    forward: Kernel | None = None,
    backward: Kernel | None = None,
    *,
    dtype: DTypeLike = np.float32,
    accumulate: DTypeLike | Accumulator | None = None,
    seed: int = 0,
    **options: Any,
) -> Report:
    """Check a normalization kernel on a designed battery, and say what is wrong with it.

    Its results are compared with those of this library in a wider type, within tolerances that
    know the condition of each set, and with laws that need no expected values.

    Parameters
    ----------
    norm : str
        One of "batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm".
    forward : callable, optional
        ``forward(x, gamma, beta, eps) -> y``; group norm has ``num_groups`` after ``x``, RMS norm
        no ``beta``. Anything that ``np.asarray`` takes may come back.
    backward : callable, optional
        ``backward(dy, x, gamma, beta, eps) -> (dx, dgamma, dbeta)``, likewise. A pass that is not
        given is not checked; if neither is, this library's own are.
    dtype : dtype, default float32
        The type of the arrays that the kernel is given.
    accumulate : dtype or Accumulator, optional
        What the kernel declares to add up in; the wider of float32 and `dtype` by default.
    seed : int, default 0
        Of the values in the battery.
    **options
        `axis` (layer, RMS norm) or `channel_axis`: where the kernel expects its axes.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If there is no such norm.
    TypeError
        If the norm has no such option.

    Examples
    --------
    >>> def forward(x, gamma, beta, eps):
    ...     x_hat = (x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + eps)
    ...     return gamma * x_hat + beta
    >>> report = check_kernel("layer_norm", forward)
    >>> report.passed
    False
    >>> report.suspects[0]
    'eps_outside_root'
    """
    return Trial(norm, dtype, accumulate, seed, options).of(forward, backward)


class Trial:
    """The battery with everything that does not depend on the kernel: made once, used for many."""

    def __init__(
        self,
        norm: str,
        dtype: DTypeLike,
        accumulate: DTypeLike | Accumulator | None,
        seed: int,
        options: dict[str, Any],
    ) -> None:
        self.arrangement = Arrangement.of(norm, options)
        self.dtype = np.dtype(dtype)
        more = "".join(f", {name}={value!r}" for name, value in options.items())
        self.made_by = f'cases("{norm}", dtype="{self.dtype}", seed={seed}{more})'
        battery = cases(norm, dtype=self.dtype, seed=seed, **options)
        self.judges = [Judge(case, self.arrangement, self.dtype, accumulate) for case in battery]
        plain = self.arrangement.arranged(*plain_kernel(norm))
        self.plain = [run(case, *plain) for case in battery]

    def of(self, forward: Kernel | None, backward: Kernel | None) -> Report:
        """Return what a kernel does on the battery."""
        norm = self.arrangement.norm
        if forward is None and backward is None:
            forward, backward = library_kernel(norm, **self.arrangement.options)
        runs = [run(judge.case, forward, backward) for judge in self.judges]
        rows = [
            row
            for judge, found, plain in zip(self.judges, runs, self.plain, strict=True)
            for row in _rows(judge, found, plain)
        ]
        with np.errstate(all="ignore"):
            rows += law_rows(self.arrangement, self.judges, forward, backward)
        report = Report(
            f"{norm}, {self.dtype} kernel against numpy_norms",
            tuple(rows),
            ()
            if all(row.passed for row in rows)
            else diagnose(self.arrangement, self.judges, runs),
            f"plain {np.promote_types(self.dtype, np.float32)} NumPy",
            unit=f"1 unit is {self.dtype} roundoff times the magnitude of the terms added up",
        )
        again = f'case = {{case.name: case for case in {self.made_by}}}["{report.worst.case}"]'
        imported = "import ml_dtypes; " if self.dtype.kind == "V" else ""
        return replace(report, reproduce=f"{imported}from numpy_norms.verify import cases; {again}")


def _rows(judge: Judge, found: Run, plain: Run) -> list[Row]:
    rows = [judge.row(name, found, plain) for name in (*found.results, *found.failures)]
    name = judge.case.name
    return rows + [Row.failure(name, a, "argument was overwritten") for a in found.changed]
