"""A check as an assertion of a test."""

from __future__ import annotations

from typing import Any

from .kernel import check_kernel
from .plain import Kernel
from .report import Report

__all__ = ["assert_kernel"]


def assert_kernel(
    norm: str, forward: Kernel | None = None, backward: Kernel | None = None, **options: Any
) -> Report:
    """Check a kernel in a test: `check_kernel` that raises, with the report as its message.

    Parameters
    ----------
    norm : str
        As in `check_kernel`, like all that follows.
    forward, backward : callable, optional
        The kernel.
    **options
        Its other arguments.

    Returns
    -------
    Report

    Raises
    ------
    AssertionError
        If the kernel is wrong.

    Examples
    --------
    >>> def no_eps(x, gamma, eps):
    ...     return gamma * x / ((x * x).mean(-1, keepdims=True)) ** 0.5
    >>> assert_kernel("rms_norm", no_eps)
    Traceback (most recent call last):
        ...
    AssertionError: rms_norm, float32 kernel against numpy_norms: FAILED
    Wrong: y in ...
    """
    __tracebackhide__ = True  # pytest shows the line of the test
    report = check_kernel(norm, forward, backward, **options)
    if not report.passed:
        raise AssertionError(str(report))
    return report
