"""Kernels with a mask: what it leaves out may be anything, and reaches nothing that counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .arrangement import Arrangement
from .battery import Case, leading
from .diagnosis.symptoms import failures, overwritten
from .finding import Finding
from .judge import Judge
from .plain import Array
from .report import Row
from .runs import Run

__all__ = ["checked"]

CONDITION = "only where a mask leaves elements out"
ON_X = ("y", "dx", "sum")  # outputs of the shape of x
LEAST = 0.9  # of what is wrong, that a sentence has to explain
ANYTHING = {"far": 1e3, "nan": np.nan}  # what lies where nothing counts
MISTAKES = {
    "ignored": "the mask is not used",
    "divided": "averages are divided by the size of the set, not by the number that counts",
    "zeros": "what does not count is taken for 0, and counts",
    "distances": "what does not count adds the square of the mean to the variance",
    "divided back": "the averages of (12) are divided by the size of the set, not by the number "
    "that counts",
}
REACHED = "a NaN that does not count reaches it: 0 times NaN is NaN, so select, and do not multiply"


def checked(
    arrangement: Arrangement,
    ordinary: Case,
    call: Callable[[Case], Run],
    judge_of: Callable[[Case], Judge],
    rows_of: Callable[[Judge, Run], Iterable[Row]],
    seed: int,
) -> tuple[list[Row], list[Finding]]:
    """Return the rows of a kernel's results under masks, and what is wrong with them.

    Parameters
    ----------
    arrangement : Arrangement
    ordinary : Case
        Whose elements are left out.
    call, judge_of, rows_of : callable
        Run the kernel on a case, know what is expected of one, and hold a run against that.
    seed : int
        Of the masks.
    """
    rows: list[Row] = []
    under: list[tuple[_Masked, Run]] = []
    for case in _cases(arrangement, ordinary, np.random.default_rng(seed)):
        masked = _Masked(case, arrangement, judge_of)
        found = masked.heard(call(case))
        rows += rows_of(masked.judge, found)
        under.append((masked, found))
    judges, runs = [masked.judge for masked, _ in under], [found for _, found in under]
    plain = [*overwritten(runs), *failures(judges, runs)]
    findings = [replace(f, condition=f.condition or CONDITION) for f in plain]
    told = {name for finding in findings for name in finding.output.split(", ")}
    wrong = dict.fromkeys(row.output for row in rows if not row.passed and row.output not in told)
    return rows, findings + [_said(name, under) for name in wrong]


def _cases(arrangement: Arrangement, case: Case, rng: np.random.Generator) -> Iterator[Case]:
    """Yield the case under masks with holes, and with ends of different lengths left out."""
    inner = arrangement.inward(case.x)
    view = arrangement.view(inner, case.gamma, case.num_groups)
    shape = view.shape
    axis = max(view.over, key=shape.__getitem__)
    place = np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(4)])
    lengths = [1 if a == axis else n for a, n in enumerate(shape)]
    ends = place < rng.integers(1, shape[axis] + 1, lengths)
    for kind, counts in (("holes", ends | (rng.random(shape) < 0.6)), ("ends", ends)):
        where = np.ascontiguousarray(arrangement.outward(counts.reshape(inner.shape)))
        for what, size in ANYTHING.items():
            x = np.where(where, case.x, size * (1 + abs(case.x))).astype(case.x.dtype)
            yield replace(
                case,
                name=f"mask_{kind}_{what}",
                why=f"a mask with {kind} over {what} numbers",
                x=x,
                residual=None if case.residual is None else leading(x),
                dy=np.where(where, case.dy, 0).astype(case.dy.dtype),
                where=where,
                exact_for=(),
            )


class _Masked:
    """A case under a mask, its judge, and what right and wrong kernels make of it."""

    def __init__(
        self, case: Case, arrangement: Arrangement, judge_of: Callable[[Case], Judge]
    ) -> None:
        self.case, self.arrangement = case, arrangement
        self.inner = arrangement.inward(case.x).shape
        self.view = arrangement.view(arrangement.inward(case.x), case.gamma, case.num_groups)
        self.where = np.asarray(case.where)
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

    def results(self, mistake: str = "") -> dict[str, Array]:
        """Return what comes of a mistake, or of none, by (1) to (12) over what counts."""
        over, centred = self.view.over, self.case.norm != "rms_norm"
        x, dy = (self.seen(a).astype(np.float64) for a in (self.case.x, self.case.dy))
        gamma, beta = (
            np.asarray(a, np.float64).reshape(self.view.params)
            for a in (self.judge.scale, self.case.beta)
        )
        counts = self.counts if mistake not in ("ignored", "zeros") else np.True_
        x = np.where(self.counts, x, 0) if mistake == "zeros" else x
        counts = np.broadcast_to(counts, x.shape)
        n = counts.sum(over, keepdims=True)
        m = np.full_like(n, self.view.set_size)

        def average(a: Array, number: Array) -> Array:
            total: Array = np.where(counts, a, 0).sum(over, keepdims=True)
            return total / number

        ahead = m if mistake == "divided" else n
        mean = average(x, ahead) if centred else 0 * n
        mean = mean + average(x - mean, ahead) * (centred and mistake != "divided")
        var = average((x - mean) ** 2, ahead)
        if mistake == "distances":
            var = var + (m - n) * mean**2 / n
        rstd = 1 / np.sqrt(var + self.case.eps)
        x_hat, g = (x - mean) * rstd, gamma * dy
        back = n if mistake in ("", "distances") else m
        dx = rstd * (g - centred * average(g, back) - x_hat * average(g * x_hat, back))
        on_x = {"y": gamma * x_hat + beta, "dx": dx}
        found = {name: self.unseen(a) for name, a in on_x.items()}
        for name, a in (("dgamma", dy * x_hat), ("dbeta", dy)):
            total = np.where(counts, a, 0).sum(self.view.summed)
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
                found.results[name] = got.reshape(expected.shape)
            elif name in ON_X and got.shape == expected.shape:
                found.results[name] = np.where(self.where, got, expected)
        return found

    def off(self, name: str, got: Array, expected: Array) -> float:
        """Return how far results are apart that count, in tolerances, as a sum of logarithms."""
        apart = abs(got - expected) / self.judge.tolerances[name]
        if name in ON_X:
            apart = apart[self.where]
        return float(np.log(np.clip(np.nan_to_num(apart, nan=1e9, posinf=1e9), 1, 1e9)).sum())


def _said(name: str, under: Sequence[tuple[_Masked, Run]]) -> Finding:
    """Return what is wrong with an output: of several mistakes that which explains most."""
    measured = [(masked, found.results[name]) for masked, found in under if name in found.results]
    if not measured:
        what = f"{name} is None here, and an array elsewhere"
        return Finding(name, "shape", what, condition=CONDITION)
    unknown = Finding(name, "unknown", f"{name} is wrong under a mask", condition=CONDITION)
    if name not in measured[0][0].results():
        return unknown
    finite = [(m, got) for m, got in measured if not np.isnan(m.seen(m.case.x)).any()]
    expected = [m.judge.expected[name] for m, _ in finite]
    total = sum(m.off(name, got, e) for (m, got), e in zip(finite, expected, strict=True))
    if total == 0:
        return Finding(name, "mask", REACHED, condition=CONDITION)
    shares = {
        mistake: 1 - sum(m.off(name, got, m.results(mistake)[name]) for m, got in finite) / total
        for mistake in MISTAKES
    }
    mistake = max(shares, key=shares.__getitem__)
    if shares[mistake] < LEAST:
        return unknown
    share = round(shares[mistake], 3)
    return Finding(name, "mask", MISTAKES[mistake], condition=CONDITION, share=share)
