"""Kernels with a mask: what it leaves out may be anything, and reaches nothing that counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from .arrangement import Arrangement
from .battery import Case
from .diagnosis.symptoms import failures, overwritten
from .finding import Finding
from .judge import Judge
from .plain import Array
from .report import Row
from .runs import Run

__all__ = ["checked"]

CONDITION = "only where a mask leaves elements out"
CONDITIONS = {  # by the only kind of mask under which an output is wrong
    "holes": "only where a mask has holes",
    "sets": "only where nothing of a set counts",
}
ON_X = ("y", "dx", "sum")  # outputs of the shape of x
LEAST = 0.9  # of what is wrong, that a sentence has to explain
BY_SIZE = "divided by the size of the set, not by the number that counts"
SHIFTED = "the mask is that of the neighbour: it is shifted by one"
INVERTED = "the mask is read the other way round: True says what counts, and not what is hidden"
REACHED = "a NaN that does not count reaches it: 0 times NaN is NaN, so select, and do not multiply"
EMPTY = "averages of nothing, 0 / 0, reach it: 0 times NaN is NaN, so select, and do not multiply"


def _first(masked: _Masked) -> Array:
    return masked.seen(np.broadcast_to(masked.where[:1], masked.where.shape))


def _moved(by: int, end: bool | None, masked: _Masked) -> Array:
    """Return the mask of the neighbour in memory, or in a row, whose end has another."""
    if end is None:
        return masked.seen(np.roll(masked.where.ravel(), by).reshape(masked.where.shape))
    moved = np.roll(masked.where, by, -1)
    moved[..., 0 if by > 0 else -1] = end
    return masked.seen(moved)


def _packed(masked: _Masked) -> Array:
    """Return as many at the beginning of each set."""
    over = masked.view.over
    sizes = [n if a in over else 1 for a, n in enumerate(masked.view.shape)]
    place: Array = np.arange(np.prod(sizes)).reshape(sizes)
    return np.asarray(place < masked.counts.sum(over, keepdims=True))


# What a kernel makes of a mask: its words, what counts for it, and what an average is divided by.
MISTAKES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("the mask is not used", {"counts": lambda masked: np.ones_like(masked.counts)}),
    (INVERTED, {"counts": lambda masked: ~masked.counts}),
    *(
        (SHIFTED, {"counts": partial(_moved, by, end)})
        for by in (1, -1)
        for end in (None, False, True)
    ),
    ("the mask of the first row or sample is used for all", {"counts": _first}),
    (
        "the first positions of a set are taken, as many as count, not those that do",
        {"counts": _packed},
    ),
    (f"averages are {BY_SIZE}", dict.fromkeys(("mean", "var", "centre", "projection"), "size")),
    ("what does not count is taken for 0, and counts", {"zeros": True}),
    ("what does not count adds the square of the mean to the variance", {"distances": True}),
    (f"the averages of (12) are {BY_SIZE}", {"centre": "size", "projection": "size"}),
    (f"the variance alone is {BY_SIZE}", {"var": "size"}),
    (f"the variance alone is {BY_SIZE}", {"var": "size", "projection": "size"}),
    (f"the mean alone is {BY_SIZE}", {"mean": "size"}),
    (f"E[dx_hat] alone is {BY_SIZE}", {"centre": "size"}),
    (f"E[dx_hat x_hat] alone is {BY_SIZE}", {"projection": "size"}),
    ("the mean is taken over all positions, those that count or not", {"mean": "all"}),
    ("the variance is taken over all positions, those that count or not", {"var": "all"}),
    (
        "averages are divided by the number that counts in the first set, not in each",
        dict.fromkeys(("mean", "var", "centre", "projection"), "first"),
    ),
)


def checked(
    arrangement: Arrangement,
    cases: Sequence[Case],
    call: Callable[[Case], Run],
    judge_of: Callable[[Case], Judge],
    rows_of: Callable[[Judge, Run], Iterable[Row]],
) -> tuple[list[Row], list[Finding]]:
    """Return the rows of a kernel's results under masks, and what is wrong with them.

    Parameters
    ----------
    arrangement : Arrangement
    cases : sequence of Case
        Those under masks.
    call, judge_of, rows_of : callable
        Run the kernel on a case, know what is expected of one, and hold a run against that.
    """
    rows: list[Row] = []
    under: list[tuple[_Masked, Run]] = []
    for case in cases:
        masked = _Masked(case, arrangement, judge_of)
        found = masked.heard(call(case))
        rows += rows_of(masked.judge, found)
        under.append((masked, found))
    judges, runs = [masked.judge for masked, _ in under], [found for _, found in under]
    plain = [*overwritten(runs), *failures(judges, runs)]
    findings = [replace(f, condition=f.condition or CONDITION) for f in plain]
    told = {name for finding in findings for name in finding.output.split(", ")}
    wrong = dict.fromkeys(row.output for row in rows if not row.passed and row.output not in told)
    findings += [_said(name, under) for name in wrong]
    all_of_it = [finding for finding in findings if finding.what == INVERTED]
    return rows, all_of_it or findings


class _Masked:
    """A case under a mask, its judge, and what right and wrong kernels make of it."""

    def __init__(
        self, case: Case, arrangement: Arrangement, judge_of: Callable[[Case], Judge]
    ) -> None:
        self.case, self.arrangement = case, arrangement
        self.inner = arrangement.inward(case.x).shape
        self.view = arrangement.view(arrangement.inward(case.x), case.gamma, case.num_groups)
        self.where = np.asarray(case.where)
        self.kind, self.spoilt = case.name.split("_")[1], bool(np.isnan(case.x).any())
        self.counts = self.seen(self.where)
        # Tolerances are those of sets of what counts, over and over.
        x, dy = self.repeated(case.x), self.repeated(case.dy)
        self.judge = judge_of(replace(case, where=None, x=x, dy=dy))
        self.judge.case = case
        self.judge.expected |= self.results()
        for name, tolerance in self.judge.tolerances.items():
            last = self.judge.roundoff * abs(self.judge.expected[name])  # which is another
            self.judge.tolerances[name] = tolerance + last

    def seen(self, a: Any) -> Array:
        """Return an array with the four axes of the view."""
        seen: Array = self.arrangement.inward(np.asarray(a)).reshape(self.view.shape)
        return seen

    def repeated(self, a: Array) -> Array:
        """Return an array with the elements of a set that count in place of those that do not."""
        over = self.view.over
        last = tuple(range(-len(over), 0))
        moved, counts = (np.moveaxis(self.seen(b), over, last).copy() for b in (a, self.where))
        sets = moved.reshape(-1, self.view.set_size)
        for row, that in zip(sets, counts.reshape(sets.shape), strict=True):
            row[~that] = np.resize(row[that], (~that).sum())
        there = np.moveaxis(sets.reshape(moved.shape), last, over)
        return np.ascontiguousarray(self.arrangement.outward(there.reshape(self.inner)))

    def results(self, mistake: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Array]:
        """Return what comes of a mistake, or of none, by (1) to (12) over what counts."""
        over, centred = self.view.over, self.case.norm != "rms_norm"
        x, dy = (self.seen(a).astype(np.float64) for a in (self.case.x, self.case.dy))
        gamma, beta = (
            np.asarray(a, np.float64).reshape(self.view.params)
            for a in (self.judge.scale, self.case.beta)
        )
        counts = mistake["counts"](self) if "counts" in mistake else self.counts
        if "zeros" in mistake:
            x, counts = np.where(self.counts, x, 0), np.ones_like(counts)
        some = counts.sum(over, keepdims=True)
        n = np.maximum(some, 1)

        def average(a: Array, step: str) -> Array:
            total: Array = np.where(counts, a, 0).sum(over, keepdims=True)
            other = {"size": self.view.set_size, "first": n.flat[0]}
            return np.asarray(total / other.get(mistake.get(step, ""), n))

        mean = average(x, "mean") if centred else 0.0 * n
        if centred and "mean" not in mistake:
            mean = mean + average(x - mean, "mean")
        if centred and mistake.get("mean") == "all":
            mean = x.mean(over, keepdims=True)
        var = average((x - mean) ** 2, "var")
        if mistake.get("var") == "all":
            var = ((x - mean) ** 2).mean(over, keepdims=True)
        if "distances" in mistake:
            var = var + (self.view.set_size - n) * mean**2 / n
        rstd = 1 / np.sqrt(var + self.case.eps)
        if "counts" in mistake:
            rstd = np.where(some == 0, np.nan, rstd)  # anything may come of no average
        x_hat, g = (x - mean) * rstd, gamma * dy
        back = x_hat * average(g * x_hat, "projection") + centred * average(g, "centre")
        dx = rstd * (g - back)
        on_x = {"y": gamma * x_hat + beta, "dx": dx}
        found = {name: self.unseen(a) for name, a in on_x.items()}
        for name, a in (("dgamma", dy * x_hat), ("dbeta", dy)):
            total = np.where(self.counts, a, 0).sum(self.view.summed)  # where dy is 0 otherwise
            found[name] = total.reshape(self.case.gamma.shape)
        return {**found, "mean": mean.squeeze(over), "rstd": rstd.squeeze(over)}

    def unseen(self, a: Array) -> Array:
        """Return an array in the caller's order."""
        return self.arrangement.outward(a.reshape(self.inner))

    def heard(self, found: Run) -> Run:
        """Return a run with what is expected where nothing is asked for."""
        for name, got in found.results.items():
            expected = self.judge.expected[name]
            if name in ("mean", "rstd") and got.size == expected.size:
                some = self.counts.any(self.view.over)
                found.results[name] = np.where(some, got.reshape(expected.shape), expected)
            elif name in ON_X and got.shape == expected.shape:
                found.results[name] = np.where(self.where, got, expected)
        return found

    def off(self, name: str, got: Array, expected: Array, some: Array | bool = True) -> float:
        """Return how far results are apart that count, in tolerances, as a sum of logarithms."""
        apart = abs(got - expected) / self.judge.tolerances[name]
        counts = some & self.where if name in ON_X else np.broadcast_to(some, apart.shape)
        known = np.nan_to_num(apart[counts], nan=1e9, posinf=1e9)
        return float(np.log(np.clip(known, 1, 1e9)).sum())

    def explained(self, name: str, got: Array, mistake: Mapping[str, Any]) -> tuple[float, float]:
        """Return how much is wrong of what a mistake makes a number of, and how much it leaves."""
        made = self.results(mistake)[name]
        some = ~np.isnan(made)
        expected = self.judge.expected[name]
        return self.off(name, got, expected, some), self.off(name, got, made, some)


def _said(name: str, under: Sequence[tuple[_Masked, Run]]) -> Finding:
    """Return what is wrong with an output: of several mistakes that which explains most."""
    measured = [(masked, found.results[name]) for masked, found in under if name in found.results]
    if not measured:
        what = f"{name} is None here, and an array elsewhere"
        return Finding(name, "shape", what, condition=CONDITION)
    if name not in measured[0][0].results():
        return Finding(name, "unknown", f"{name} is wrong under a mask", condition=CONDITION)

    wrong = [(m, got) for m, got in measured if m.off(name, got, m.judge.expected[name])]
    kinds = {m.kind for m, _ in wrong}
    condition = CONDITIONS.get(min(kinds), CONDITION) if len(kinds) == 1 else CONDITION
    unknown = Finding(name, "unknown", f"{name} is wrong under a mask", condition=condition)
    if kinds == {"sets"}:
        nan = all(np.isnan(got[~np.isclose(got, m.judge.expected[name])]).all() for m, got in wrong)
        return replace(unknown, kind="mask", what=EMPTY) if nan else unknown
    finite = [(m, got) for m, got in measured if m.kind != "sets" and not m.spoilt]
    if not any(m.off(name, got, m.judge.expected[name]) for m, got in finite):
        return Finding(name, "mask", REACHED, condition=CONDITION)
    shares = []
    for _, mistake in MISTAKES:
        of, left = map(
            sum, zip(*(m.explained(name, got, mistake) for m, got in finite), strict=True)
        )
        shares.append(1 - left / of if of else 0.0)
    best = int(np.argmax(shares))
    if shares[best] < LEAST:
        return unknown
    what = MISTAKES[best][0]
    where = "" if what == INVERTED else condition
    return Finding(name, "mask", what, condition=where, share=round(shares[best], 3))
