"""Faults of the grammar tried against the evidence; the likeliest said first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from numpy_norms.verify.arrangement import Arrangement
from numpy_norms.verify.faults.grammar import Fault
from numpy_norms.verify.faults.place import Condition
from numpy_norms.verify.finding import Finding
from numpy_norms.verify.judge import Judge, distances
from numpy_norms.verify.plain import OUTPUTS, Array, Work, worked_again
from numpy_norms.verify.runs import Run
from numpy_norms.verify.tolerances import roundoff

from .candidates import SMALL, Candidates
from .derived import derived_from
from .evidence import CAP, Piece, log_off, pieces
from .measured import dropped, rooted
from .placing import CERTAIN, DEAREST, Likely, Predict, everywhere, placed
from .saved import saved
from .sharpening import Probe, sharpened
from .symptoms import failures, overwritten, reordered

__all__ = ["diagnose"]

MORE = 0.06  # that one may be worth beyond its score: it explains other outputs, or has a name
LEAST = 0.5  # of the evidence that a sentence has to explain
SLIGHT = np.log(30)  # errors in tolerances, below which rounding may do it
SPREAD = 0.05  # of the elements, that a narrower type leaves wrong at least
SETTLED, LEAVES = 0.9, 0.1  # that a place has to explain of what no sentence does, and add to it
VAGUE = ("unknown", "rounding")  # findings that do not say what is wrong
FOLLOWS = "it is the right gradient of the wrong y"
# What may be kept from a first call: in words, and how steps are made with that call's.
FromFirst = Callable[[Work, Work, Any], Any]
STALE: dict[str, Mapping[str, FromFirst]] = {
    "gamma is that": {"scale": lambda first, w, _: first.scale},
    "gamma and beta are those": {
        "scale": lambda first, w, _: first.scale,
        "y": lambda first, w, _: w.scale * w.x_hat + first.beta,
    },
    "eps is that": {"rstd": lambda first, w, _: (w.var + first.eps) ** -0.5},
    "the mean and the reciprocal root are those": {
        "mean": lambda first, w, _: first.mean,
        "rstd": lambda first, w, _: first.rstd,
    },
}
HIDDEN = "a NaN in x is hidden"
NO_FAULT = Fault("rounding", "")


def diagnose(
    arrangement: Arrangement,
    judges: Sequence[Judge],
    runs: Sequence[Run],
    probe: Probe | None = None,
) -> tuple[Finding, ...]:
    """Say what is wrong with a kernel, the likeliest first; nothing of one that is right.

    Every sentence of the grammar predicts what a kernel returns. The share of the evidence that
    it explains is 1 - D(kernel, predicted) / D(kernel, expected), where D adds up the logarithms
    of the distances in units of the tolerance, as far as they are above 1.

    Parameters
    ----------
    arrangement : Arrangement
    judges, runs : sequence of Judge, Run
        Every call in order: the case with its expected values, and what the kernel did.
    probe : callable, optional
        Tries the kernel on other sizes.
    """
    with np.errstate(all="ignore"):
        doctor = _Doctor(arrangement, judges, runs, probe)
        found = [*overwritten(runs), *reordered(judges, runs)]
        told = ("dx", "dgamma", "dbeta") if any(f.kind == "shape" for f in found) else ()
        found += [f for f in failures(judges, runs) if not {*f.output.split(", ")} <= {*told}]
        outputs = [output for output in doctor.evidence if output not in told]
        found += [finding for output in outputs for finding in doctor.of(output)]
        found += saved(judges, runs)
    explains = {f.name: sum(o.share for o in found if o.name == f.name) for f in found}
    found.sort(
        key=lambda f: (f.kind in VAGUE, -explains[f.name] * bool(f.name), -round(f.share, 2))
    )
    return tuple(found)


class _Doctor:
    """The evidence about every output, and the faults that may explain it."""

    def __init__(
        self,
        arrangement: Arrangement,
        judges: Sequence[Judge],
        runs: Sequence[Run],
        probe: Probe | None,
    ) -> None:
        self.probe = probe
        outputs = [name for name in OUTPUTS if name in judges[0].expected]
        self.evidence = {name: pieces(arrangement, judges, runs, name) for name in outputs}
        self.candidates = Candidates(arrangement)
        self.of_y: Fault | None = None  # what explains y, everywhere
        self.rough: list[Fault] = []  # a reciprocal root that is

    def of(self, output: str) -> Iterator[Finding]:
        """Yield the likeliest sentence about an output, if it is wrong."""
        evidence = self.evidence[output]
        ill = [piece for piece in evidence if piece.wrong.any()]
        if not ill:
            return
        if all(np.isnan(piece.expected[piece.wrong]).all() for piece in ill):
            hidden = Fault("unknown", f"{output} is a number where NaN is expected: {HIDDEN}")
            yield self._finding(output, evidence, Likely(hidden, 1.0, 1.0, None, Condition("nan")))
            return
        predict, y = self.candidates.predicted, self.of_y
        for fault in self.rough:
            one = everywhere(evidence, fault, predict, SETTLED)
            if one.share > SETTLED:
                yield self._finding(output, evidence, one)
                return
        likely = [everywhere(evidence, y, predict, CERTAIN)] if y is not None else []
        if y is not None and likely[0].share <= CERTAIN:
            likely = []
            share = derived_from(y, ill)
            if share:
                yield Finding(output, y.kind, FOLLOWS, share=round(share, 3))
                return
        least = max(LEAST, everywhere(evidence, NO_FAULT, predict, LEAST).share)
        for faults in self.candidates.of(output, ill):
            likely += [everywhere(evidence, fault, predict, CERTAIN - MORE) for fault in faults]
            if any(one.share > CERTAIN for one in likely):
                break
        else:
            likely = list(_placed(evidence, [one.fault for one in likely], predict, least))
            likely += _scattered(ill, output)
            if output in ("y", "dx") and all(one.score < SETTLED + MORE for one in likely):
                likely += self._rooted(evidence)
        likely = [one for one in likely if one.score > least]
        one = self._best(likely) if likely else _unknown(output, evidence)
        if output == "y" and one.score > CERTAIN:
            self.of_y = one.fault
        yield self._finding(output, evidence, one)

    def _finding(self, output: str, evidence: Sequence[Piece], one: Likely) -> Finding:
        fault, when = one.fault, one.when
        if when is not None and self.probe is not None:
            when = sharpened(when, evidence, output, self.probe)
        return Finding(
            output,
            fault.kind,
            fault.what,
            str(one.place or ""),
            str(when or ""),
            round(min(max(one.share, 0.0), 1.0), 3),
            fault.formula,
            fault.name,
            fault.issue,
        )

    def _rooted(self, evidence: Sequence[Piece]) -> Iterator[Likely]:
        """Yield that the reciprocal root is rough, if that explains nearly all."""
        for fault in rooted(evidence):
            one = everywhere(evidence, fault, self.candidates.predicted, SETTLED)
            if one.share > SETTLED:
                self.rough.append(fault)
                yield one

    def _best(self, likely: Sequence[Likely]) -> Likely:
        """Return the likeliest."""
        most = max(one.score for one in likely)
        close = [one for one in likely if one.score > most - MORE]
        return max(close, key=self._order) if len(close) > 1 else close[0]

    def _order(self, one: Likely) -> float:
        """Prefer, among equals, what explains all outputs together, and what has a name."""
        total = left = 0.0
        for evidence in self.evidence.values():
            for piece in evidence:
                small = piece.size <= SMALL
                prediction = self.candidates.predicted(piece, one.fault) if small else None
                if prediction is not None:
                    total += piece.total
                    left += piece.weight * float(piece.off_of(prediction).sum())
        together = max(1 - left / total, 0.0) if total else 0.0
        return one.score + 0.05 * together + 0.01 * bool(one.fault.name)


def _placed(
    evidence: Sequence[Piece], faults: Sequence[Fault], predict: Predict, least: float
) -> Iterator[Likely]:
    """Yield the faults, and what earlier calls may have left, where they explain most."""
    stale = _stale(evidence) if any(_has_earlier(piece) for piece in evidence) else ()
    somewhere = any(np.isfinite(piece.got[piece.wrong]).any() for piece in evidence)
    for fault, by in (*((fault, predict) for fault in faults), *stale):
        one = placed(evidence, fault, by, least)
        # What is nowhere finite is explained by any fault that gives no number somewhere.
        if somewhere or (one.place is None and one.when is None):
            least = max(least, one.score - MORE)
            yield one


def _scattered(ill: Sequence[Piece], output: str) -> Iterator[Likely]:
    """Yield that elements are dropped; a place of those that are says more."""
    for fault, made_up in dropped(ill, output):
        yield Likely(fault, 1.0, 1.0 if made_up else SETTLED)


def _stale(evidence: Sequence[Piece]) -> Iterator[tuple[Fault, Predict]]:
    """Yield what an earlier call may have left: added to, or in place of, the results."""
    output = evidence[0].output
    for what, added in (("added to what an earlier call left", 1), ("that of an earlier call", 0)):
        yield Fault("stale buffer", f"{output} is {what}"), partial(_left, added)
    for words, edits in STALE.items():
        what = f"{words} of the first call with an x of this shape"
        yield Fault("stale buffer", what), partial(_with_first, edits, None)
    kept = partial(_with_first, STALE["eps is that"], evidence[0].judge)
    yield Fault("stale buffer", "eps is that of the first call"), kept


def _left(added: int, piece: Piece, _: Fault) -> Array | None:
    if not _has_earlier(piece):
        return None
    left = piece.earlier + added * piece.expected
    return np.where(piece.earlier == 0, piece.expected, left)  # 0 may come of anything


def _with_first(
    edits: Mapping[str, FromFirst], first_of_all: Judge | None, piece: Piece, _: Fault
) -> Array | None:
    """Return what comes of a case with something of the first one, or of the first of its shape."""
    judge = first_of_all or piece.first
    if judge is None:
        return None
    first, work = judge.plain, piece.judge.plain
    made = {step: partial(edit, first) for step, edit in edits.items()}
    return piece.rounded(getattr(worked_again(work, made, piece.output), piece.output))


def _has_earlier(piece: Piece) -> bool:
    return piece.earlier is not None and piece.earlier.size > 0


def _unknown(output: str, evidence: Sequence[Piece]) -> Likely:
    """Say where an output is wrong that no fault explains."""
    ill = [piece for piece in evidence if piece.wrong.any()]
    ratio = max(float(piece.off.max()) for piece in ill)
    narrow, allowed = _narrower(output, ill)
    if _unsteady(evidence):
        what = f"{output} is not the same when it is called again with the same arguments"
        fault = Fault("not repeatable", f"{what}: a race, or memory that is read unwritten")
    elif narrow:
        what = f"{output} is computed in {narrow}: its errors are those of such a kernel"
        cure = f"accumulate={narrow!r} would allow it" if allowed else ""
        fault = Fault("cast too early", what, cure)
    elif ratio < SLIGHT:
        size = f"errors are up to {np.exp(ratio):.1f} tolerances, and no fault fits"
        fault = Fault("rounding", f"{size}: it rounds more than was declared")
    else:
        fault = Fault("unknown", _described(output, ill))
    typical = float(np.median([_in_scales(piece)[piece.wrong].mean() for piece in ill]))

    def predict(piece: Piece, _: Fault) -> Array:
        """As if it were right to find all wrong where such errors would show."""
        silent = piece.judge.dull(output) or bool(narrow and piece.judge.case.exact_for)
        right = ~piece.wrong & (not silent)
        scale = piece.flat(piece.judge.scales[output])
        return np.where(right, piece.got + typical * scale, piece.got)

    if fault.kind == "not repeatable":  # which explains all, wherever it showed this time
        several = all(piece.traits.get("threads") for piece in ill)
        return Likely(fault, 1.0, 1.0, None, Condition("threads") if several else None)
    found = placed(evidence, fault, predict, SETTLED - DEAREST, exactly=True)
    # A place says something where it holds nearly all that is wrong, and leaves much that is right.
    anywhere = everywhere(evidence, fault, predict)
    return found if found.share > max(SETTLED, anywhere.share + LEAVES) else anywhere


def _in_scales(piece: Piece) -> Array:
    """Return the distances in units of roundoff times magnitude, as far as they are sensible."""
    scale = piece.flat(piece.judge.scales[piece.output])
    return np.minimum(distances(piece.got, piece.expected, scale), CAP)


def _unsteady(evidence: Sequence[Piece]) -> bool:
    """Return whether two calls of one case, that nothing tells apart, are apart themselves."""
    first: dict[int, Piece] = {}
    for piece in evidence:
        other = first.setdefault(id(piece.judge), piece)
        if log_off(piece.got, other.got, piece.tolerance).any():
            return True
    return False


def _narrower(output: str, ill: Sequence[Piece]) -> tuple[str, bool]:
    """Return the type in which a kernel seems to compute, and whether that allows its errors.

    An error of the size of float16's may be a formula's as well: its numbers have to be float16's.
    """
    own = ill[0].judge.dtype
    types = [np.dtype(n) for n in ("float32", "float16") if roundoff(n) > roundoff(own)]
    spread = float(np.mean([piece.wrong.mean() for piece in ill]))
    for dtype in (*types, own) if own.itemsize == 2 else types:
        narrow = dtype.itemsize == 2 and dtype != own
        if spread > SPREAD and (not narrow or _holds(dtype, ill)):
            allowed = _allowed_by(dtype, output, ill)
            if narrow or allowed:
                return str(dtype), allowed
    return "", False


def _holds(dtype: np.dtype[Any], ill: Sequence[Piece]) -> bool:
    """Return whether the results are numbers of a type, and of more than a few kinds."""
    got = np.concatenate([piece.got[piece.wrong & np.isfinite(piece.got)] for piece in ill])
    return bool((got == got.astype(dtype)).all()) and len(np.unique(got)) > len(got) / 10


def _allowed_by(dtype: np.dtype[Any], output: str, ill: Sequence[Piece]) -> bool:
    """Return whether a right kernel that adds up in a type may have such errors."""
    signs = [np.sign(piece.got - piece.expected)[piece.wrong].mean() for piece in ill]
    if abs(np.mean(signs)) > LEAST:  # rounding goes either way
        return False
    within = 0.0
    for piece in ill:
        tolerance = piece.flat(getattr(piece.judge.bounds(dtype).tolerances, output))
        within += float((abs(piece.got - piece.expected) <= tolerance)[piece.wrong].mean())
    return within > 0.95 * len(ill)


def _described(output: str, ill: Sequence[Piece]) -> str:
    got = np.concatenate([piece.got[piece.wrong] for piece in ill])
    if not np.isfinite(got).any():
        kind = "NaN" if np.isnan(got).all() else "infinite"
        return f"{output} is {kind} where a number is expected"
    if not got.any():
        return f"{output} is 0"
    return f"{output} is wrong in no way that is known here"
