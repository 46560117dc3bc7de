"""Normalize a file larger than the memory that the process may allocate, and check the result."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .contenders import plain
from .grid import EPS, Array, Entry, Problem
from .memory_cases import passes


def capped(path: str, norm: str, width: int, dtype: str | None, limit: int) -> dict[str, Any]:
    """Normalize a file under a limit that is smaller, from one `np.memmap` into another.

    RLIMIT_DATA bounds what a process may allocate; files that are mapped and shared do not count.
    Then the backward pass, with the limit raised by the size of dx, which it has to allocate.
    """
    x = np.memmap(path, np.float32, "r").reshape(-1, width)
    ends = Problem.of(Entry(norm, (1, width)))
    problem = ends._replace(entry=Entry(norm, x.shape), x=x, dy=x[::-1])
    forward, backward = passes(problem.entry, dtype)
    picked = [0, len(x) // 3, len(x) - 1]
    seconds, right = {}, {}
    _limit(limit)
    refused = {
        "a copy of x": _is_refused(lambda: np.array(x)),
        "the plain formula": _is_refused(lambda: plain(problem)),
    }
    expected = rows_alone if norm == "layer" else rows_in_float64
    agree, y_of_rows, dx_of_rows = expected(problem, picked, dtype)

    target = Path(path).with_suffix(".y")
    y = np.memmap(target, np.float32, "w+", shape=x.shape)
    start = time.perf_counter()
    _, cache = forward(*problem.arguments, out=y)
    seconds["forward"] = time.perf_counter() - start
    right[f"y {agree}"] = _agree(y[picked], y_of_rows)
    del _, y
    target.unlink()

    _limit(limit + x.nbytes)
    start = time.perf_counter()
    dx, *_ = backward(problem.dy, cache)
    seconds["backward"] = time.perf_counter() - start
    right[f"dx {agree}"] = _agree(dx[picked], dx_of_rows)
    return {"bytes": x.nbytes, "seconds": seconds, "refused": refused, "right": right}


def rows_alone(problem: Problem, picked: list[int], dtype: str | None) -> tuple[str, Array, Array]:
    """Return y and dx of some rows of a layer norm, computed from these rows alone."""
    forward, backward = passes(problem.entry, dtype)
    y, cache = forward(np.array(problem.x[picked]), problem.gamma, problem.beta)
    return "has the bits of the rows alone", y, backward(np.array(problem.dy[picked]), cache)[0]


def rows_in_float64(problem: Problem, picked: list[int], _: Any) -> tuple[str, Array, Array]:
    """Return y and dx of some rows of a batch norm, from sums in float64 over the whole file."""
    x, dy, gamma, beta = (
        a.astype(np.float64) if a.ndim == 1 else a
        for a in (problem.x, problem.dy, problem.gamma, problem.beta)
    )
    mean = _average(len(x), lambda rows: x[rows])
    var = _average(len(x), lambda rows: (x[rows] - mean) ** 2)
    rstd = (var + EPS) ** -0.5

    def x_hat(rows: Any) -> Array:
        return np.asarray((x[rows] - mean) * rstd)

    average = _average(len(x), lambda rows: dy[rows])
    average_x_hat = _average(len(x), lambda rows: dy[rows] * x_hat(rows))
    h = x_hat(picked)
    dx = gamma * rstd * (dy[picked] - average - h * average_x_hat)
    return "agrees with float64 sums", gamma * h + beta, dx


def _average(length: int, part: Callable[[slice], Array], step: int = 1024) -> Array:
    """Return the mean over the rows, taken piece by piece."""
    starts = range(0, length, step)
    return np.asarray(
        sum(part(slice(i, i + step)).sum(axis=0, dtype=np.float64) for i in starts) / length
    )


def _agree(got: Array, expected: Array) -> bool:
    if expected.dtype == np.float32:
        return np.array_equal(got, expected)
    return bool(np.abs(got - expected).max() < 1e-5 * np.abs(expected).max())


def _limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (size, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _is_refused(make: Callable[[], object]) -> bool:
    try:
        make()
    except MemoryError:
        return True
    return False
