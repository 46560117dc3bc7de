"""Modules that divide by a length: the Frobenius norm, the mean of |x|, L_2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import numpy_norms
from numpy_norms.commands.judge.module import Subject
from numpy_norms.commands.judge.problems import LP, Problem, shapes_of
from numpy_norms.commands.judge.state import measured
from numpy_norms.verify import Finding, Report, Row
from numpy_norms.verify.plain import Array, as_dtype
from numpy_norms.verify.tolerances import roundoff

__all__ = ["judge_length"]

VALUES = {
    "signed": (0.0, 1.5),
    "far from 0": (50.0, 1.0),
    "small": (0.0, 1e-3),
    "large": (0.0, 200.0),
}


def judge_length(
    subject: Subject, problem: Problem, dtype: str, seed: int, backward: bool
) -> Report:
    """Return what a module does on the shapes, values and layouts that it has to be right for."""
    rows: list[Row] = []
    ratios: dict[str, list[tuple[Array, Array, int]]] = {}
    for name, x, dy in _inputs(problem, dtype, seed):
        expected, allowed, size = _expected(problem, x, dy, dtype)
        forward, back = subject.passes(backward=backward)
        for _ in range(2):  # a state that stays shows in the second call
            got = {"y": forward(x, 1e-5)}
            if back:
                (got["dx"], *_) = back(dy, x, 1e-5)
            for output, a in got.items():
                row = measured(name, output, a, expected[output], allowed[output])
                rows.append(row)
                if not row.passed and a.shape == expected[output].shape:
                    ratios.setdefault(output, []).append((a, expected[output], size))
    found = tuple(_finding(output, seen) for output, seen in ratios.items())
    title = f"{problem.norm}, {dtype} module against numpy_norms"
    return Report(title, tuple(rows), found, unit="1 unit is the tolerance")


def _inputs(problem: Problem, dtype: str, seed: int) -> Iterator[tuple[str, Array, Array]]:
    rng = np.random.default_rng(seed)
    kind = as_dtype(dtype)
    for number, shape in enumerate(shapes_of(problem)):
        for name, (mean, std) in list(VALUES.items())[: None if number == 0 else 1]:
            x, dy = (
                (m + s * rng.standard_normal(shape)).astype(kind)
                for m, s in ((mean, std), (0.3, 1))
            )
            yield f"{name} {shape}", x, dy
            if number == 0 and name == "signed":
                wide = np.repeat(x, 2, axis=-1)
                yield f"strided {shape}", wide[..., ::2], dy


def _expected(
    problem: Problem, x: Array, dy: Array, dtype: str
) -> tuple[dict[str, Array], dict[str, Array], int]:
    """Return the exact results, what they may be off by, and the number of terms of a set."""
    p, axis = LP[problem.norm], problem.axis or -1
    axes = axis if isinstance(axis, tuple) else (axis,)
    size = int(np.prod([x.shape[a] for a in axes]))
    times = float(size) if problem.norm == "l1_norm" else 1.0
    wide, given = x.astype(np.float64), dy.astype(np.float64) * times
    y, cache = numpy_norms.lp_normalize_forward(wide, p=p, axis=axes, eps=0.0)
    dx = numpy_norms.lp_normalize_backward(given, cache)
    dx = dx[0] if isinstance(dx, tuple) else dx
    length = (abs(wide) ** p).sum(axis=axes, keepdims=True) ** (1 / p)
    inner = abs(given * y).sum(axis=axes, keepdims=True)
    pull = abs(y) if p == 2 else np.ones_like(y)
    inside = roundoff(np.promote_types(as_dtype(dtype), np.float32))
    u = inside * (4 * size**0.5 + 16) + 3 * roundoff(as_dtype(dtype))
    allowed = {"y": u * abs(y * times), "dx": u * (abs(given) + pull * inner) / length}
    return {"y": y * times, "dx": dx}, allowed, size


def _finding(output: str, seen: list[tuple[Array, Array, int]]) -> Finding:
    """Say what an output is beside the expected one."""
    if not any(np.any(got) for got, _, _ in seen):
        return Finding(output, "term left out", f"{output} is never written: it is 0")
    names: dict[str, Any] = {
        "m": lambda m: m,
        "1/m": lambda m: 1 / m,
        "sqrt(m)": lambda m: m**0.5,
        "1/sqrt(m)": lambda m: m**-0.5,
    }
    factors = [float(np.vdot(b, a) / np.vdot(b, b)) for a, b, _ in seen]
    exact = all(
        np.allclose(a, f * b, rtol=1e-2, atol=1e-2 * np.max(abs(f * b), initial=0.0))
        for f, (a, b, _) in zip(factors, seen, strict=True)
    )
    for name, value in names.items():
        if exact and all(
            abs(f / value(m) - 1) < 0.02 for f, (_, _, m) in zip(factors, seen, strict=True)
        ):
            return Finding(
                output, "factor", f"{output} is multiplied by {name}, the size of a set m"
            )
    if exact:
        return Finding(output, "factor", f"{output} is multiplied by {factors[0]:.6g}")
    return Finding(output, "unknown", f"{output} is wrong in no way that is known here")
