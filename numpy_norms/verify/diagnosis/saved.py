"""What is wrong with what comes back after y: the sum, the mean and the reciprocal root."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from numpy_norms.verify.faults.grammar import in_half
from numpy_norms.verify.finding import Finding
from numpy_norms.verify.judge import Judge, distances
from numpy_norms.verify.plain import Array, Work
from numpy_norms.verify.runs import Run

from .places import conditions

__all__ = ["STATISTICS", "saved"]

STATISTICS = ("mean", "rstd")
LEAST = 0.9  # of what is wrong, that a sentence has to explain
FURTHEST = 1e9  # tolerances: further off is no worse


def _unbiased(w: Work) -> Any:
    return w.var * w.view.set_size / max(w.view.set_size - 1, 1)


# What may have been returned: its kind, its words, and how it is computed.
MISTAKES: dict[str, tuple[tuple[str, str, Callable[[Work], Any]], ...]] = {
    "mean": (
        ("term left out", "the mean is never written: it is 0", lambda w: 0 * w.mean),
        ("sign", "the mean has the wrong sign", lambda w: -w.mean),
        ("factor", "the sum is returned, not the mean", lambda w: w.mean * w.view.set_size),
        ("cast too early", "the mean is rounded to half precision", lambda w: in_half(w, w.mean)),
        ("formula", "the reciprocal root is returned for the mean", lambda w: w.rstd),
    ),
    "rstd": (
        ("formula", "the variance is returned for its reciprocal root", lambda w: w.var),
        ("formula", "var + eps is returned: the root is missing", lambda w: w.var + w.eps),
        (
            "formula",
            "the standard deviation is returned, not its reciprocal: (var + eps)^(1/2)",
            lambda w: 1 / w.rstd,
        ),
        ("formula", "1 / (var + eps) is returned: the root is missing", lambda w: w.rstd**2),
        ("term left out", "eps is ignored: var^(-1/2)", lambda w: w.var**-0.5),
        (
            "formula",
            "eps is added to the standard deviation: 1 / (sqrt(var) + eps)",
            lambda w: 1 / (np.sqrt(w.var) + w.eps),
        ),
        (
            "count wrong",
            "the variance is divided by m - 1",
            lambda w: (_unbiased(w) + w.eps) ** -0.5,
        ),
        (
            "cast too early",
            "the reciprocal root is rounded to half precision",
            lambda w: in_half(w, w.rstd),
        ),
        ("term left out", "the reciprocal root is never written: it is 0", lambda w: 0 * w.rstd),
        ("formula", "the mean is returned for the reciprocal root", lambda w: w.mean),
    ),
    "sum": (
        ("term left out", "the sum is never written: it is 0", lambda w: 0 * w.x),
        ("term left out", "x is returned: the residual is not added", lambda w: w.x - w.residual),
        ("term left out", "the residual is returned, not the sum", lambda w: w.residual),
        ("sign", "the residual is subtracted from x", lambda w: w.x - 2 * w.residual),
        ("factor", "the residual is added twice", lambda w: w.x + w.residual),
        ("formula", "y is returned for the sum", lambda w: w.y),
        ("formula", "x_hat is returned for the sum", lambda w: w.x_hat),
        ("cast too early", "the sum is rounded to half precision", lambda w: in_half(w, w.x)),
    ),
}


def saved(judges: Sequence[Judge], runs: Sequence[Run]) -> Iterator[Finding]:
    """Yield what is wrong with the sum and the statistics, the likeliest of each."""
    for name in MISTAKES:
        measured = [
            (judge, made, made.results[name].reshape(judge.expected[name].shape))
            for judge, made in zip(judges, runs, strict=True)
            if name in made.results and made.results[name].size == judge.expected[name].size
        ]
        sizes = [_off(name, judge, got, judge.expected[name]) for judge, _, got in measured]
        total = sum(sizes)
        if not total:
            continue
        works = [judge.worked(np.float64) for judge, _, _ in measured]
        found = Finding(name, "unknown", f"{name} is wrong in no way that is known here")
        for kind, what, made_of in MISTAKES[name]:
            left = sum(
                _off(name, judge, got, _seen(name, judge, work, made_of(work)))
                for (judge, _, got), work in zip(measured, works, strict=True)
            )
            share = round(1 - left / total, 3)
            if share >= max(LEAST, found.share if found.kind != "unknown" else 0):
                found = Finding(name, kind, what, share=share)
        if found.kind == "unknown":
            found = _times(name, measured, total) or found
        if found.kind == "unknown":
            calls = [
                (judge.traits | made.traits, 1.0 if size else -1.0)
                for (judge, made, _), size in zip(measured, sizes, strict=True)
            ]
            when = next(conditions(calls), None)
            found = Finding(name, found.kind, found.what, condition=str(when or ""))
        yield found


def _seen(name: str, judge: Judge, work: Work, a: Array) -> Array:
    """Return what was worked out in the form in which it is expected."""
    if name == "sum":
        return judge.arrangement.outward(a.reshape(work.shape))
    return np.squeeze(a, work.view.over)


def _times(name: str, measured: Sequence[tuple[Judge, Run, Array]], total: float) -> Finding | None:
    """Return that it is multiplied by a number, if it is."""
    with np.errstate(all="ignore"):
        ratios = [(got / judge.expected[name]).ravel() for judge, _, got in measured]
    by = float(np.nanmedian(np.concatenate(ratios)))
    left = sum(_off(name, judge, got, by * judge.expected[name]) for judge, _, got in measured)
    share = round(1 - left / total, 3)
    if share < LEAST:
        return None
    return Finding(name, "factor", f"{name} is multiplied by {by:.6g}", share=share)


def _off(name: str, judge: Judge, got: Array, expected: Array) -> float:
    """Return how far results are apart, in tolerances, as a sum of logarithms."""
    with np.errstate(all="ignore"):
        apart = distances(got, expected, judge.tolerances[name])
        return float(np.log(np.clip(apart, 1, FURTHEST)).sum())
