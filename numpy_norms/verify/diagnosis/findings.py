"""Faults of the grammar tried against the evidence; the likeliest said first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from numpy_norms.verify.arrangement import Arrangement
from numpy_norms.verify.catalogue import KNOWN
from numpy_norms.verify.faults.grammar import Fault
from numpy_norms.verify.faults.place import Condition, Place
from numpy_norms.verify.faults.sentences import sentences
from numpy_norms.verify.plain import Array
from numpy_norms.verify.runs import Judge, Run, run

from .evidence import Piece, pieces
from .fitting import fitted
from .places import Ground, conditions, places, weighed

__all__ = ["Finding", "diagnose"]

OUTPUTS = ("y", "dx", "dgamma", "dbeta")
SMALL = 20_000  # elements: larger cases are asked only about what is likely
LIKELY = 0.5
CERTAIN = 0.99
SHORTLIST = 6
# The steps that an output depends on.
STEPS = {
    "y": {"mean", "var", "rstd", "x_hat", "scale", "y"},
    "dx": {"mean", "var", "rstd", "x_hat", "scale", "dx_hat", "centre", "projection", "dx"},
    "dgamma": {"mean", "var", "rstd", "x_hat", "dgamma", "scale"},
    "dbeta": {"dbeta"},
}


@dataclass(frozen=True)
class Finding:
    """One sentence about one output.

    Parameters
    ----------
    output : str
        "y", "dx", "dgamma", "dbeta", or an argument that was overwritten.
    kind : str
        The kind of the fault: "sign", "term left out", "factor", "axis", "block lost",
        "count wrong", "stride ignored", "stale buffer", "cast too early", "overwritten",
        "formula"; "raises", "shape" where nothing came back that could be measured; "rounding"
        where errors are larger than declared and no fault fits; or "unknown".
    what : str
        What is wrong.
    place : str
        Which elements are wrong: an index condition; empty if any may be.
    condition : str
        In which cases: a condition on sizes, values or layouts; empty if in all.
    share : float
        How much of the evidence it explains: 1 if every element that is wrong is what the fault
        makes of it, and every one that is right is out of its reach.
    formula, name, issue : str
        The wrong formula; of a fault in the catalogue its name and a public issue that had it.
    """

    output: str
    kind: str
    what: str
    place: str = ""
    condition: str = ""
    share: float = 1.0
    formula: str = ""
    name: str = ""
    issue: str = ""

    @property
    def where(self) -> str:
        """The place and the condition, as they are said."""
        return ", ".join(part for part in (self.place, self.condition) if part)

    def __str__(self) -> str:
        where = f" ({self.where})" if self.where else ""
        formula = f": {self.formula}" if self.formula else ""
        return f"{self.output}{where}: {self.what}{formula}"


class _Likely(NamedTuple):
    """A fault with where it is, and how well it explains an output."""

    score: float
    share: float
    fault: Fault
    place: Place | None
    when: Condition | None


def diagnose(
    arrangement: Arrangement, judges: Sequence[Judge], runs: Sequence[Run], scheme: str = "exact"
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
    scheme : str
        What the kernel's scale is stored as.
    """
    doctor = _Doctor(arrangement, judges, runs, scheme)
    found = [*doctor.overwritten(), *doctor.failures()]
    for output in OUTPUTS:
        found += doctor.of(output)
    known = {
        name: sum(f.share for f in found if f.name == name) for name in {f.name for f in found}
    }
    found.sort(
        key=lambda f: (
            f.kind in ("unknown", "rounding"),
            -known.get(f.name, 0) * bool(f.name),
            -round(f.share, 2),
        )
    )
    return tuple(found)


class _Doctor:
    """The evidence, and what every fault predicts of it, computed once."""

    def __init__(
        self,
        arrangement: Arrangement,
        judges: Sequence[Judge],
        runs: Sequence[Run],
        scheme: str,
    ) -> None:
        self.arrangement, self.scheme = arrangement, scheme
        self.judges, self.runs = judges, runs
        self.evidence = {
            o: pieces(arrangement, judges, runs, o) for o in OUTPUTS if o in judges[0].expected
        }
        self.predicted: dict[tuple[int, int, bool], Run] = {}
        self.kernels: dict[int, Any] = {}

    def overwritten(self) -> Iterator[Finding]:
        """Yield the arguments that were written into."""
        for name in dict.fromkeys(n for made in self.runs for n in made.changed):
            known = next(
                (f for f in KNOWN if f.kind == "overwritten" and f.name == f"{name}_overwritten"),
                None,
            )
            what = f"the argument {name} was overwritten"
            yield Finding(
                name,
                "overwritten",
                known.what if known else what,
                formula=known.formula if known else "",
                name=known.name if known else "",
                issue=known.issue if known else "",
            )

    def failures(self) -> Iterator[Finding]:
        """Yield what raised, or came back in another shape, and when."""
        notes: dict[str, dict[str, list[int]]] = {}
        for number, (judge, made) in enumerate(zip(self.judges, self.runs, strict=True)):
            for output, note in made.failures.items():
                notes.setdefault(note, {}).setdefault(output, []).append(number)
            for output, got in made.results.items():
                expected = judge.expected[output].shape
                if got.shape != expected:
                    note = f"another shape than {output} should have came back"
                    notes.setdefault(note, {}).setdefault(output, []).append(number)
        for note, outputs in notes.items():
            failed = {n for numbers in outputs.values() for n in numbers}
            stub = np.ones(1)
            grounds = []
            for number, judge in enumerate(self.judges):
                piece = Piece(
                    self.arrangement,
                    judge,
                    "",
                    stub,
                    stub,
                    stub,
                    judge.traits(self.arrangement) | self.runs[number].traits,
                )
                bad = stub if number in failed else 0 * stub
                grounds.append(Ground(piece, bad, 1 - bad))
            when = next(conditions(grounds), None)
            kind = "shape" if note.startswith("another shape") else "raises"
            what = note if kind == "shape" else f"it raises {note}"
            yield Finding(", ".join(outputs), kind, what, condition=str(when) if when else "")

    def of(self, output: str) -> Iterator[Finding]:
        """Yield the likeliest sentence about an output that is wrong."""
        evidence = self.evidence.get(output, [])
        ill = [piece for piece in evidence if piece.wrong.any()]
        if not ill:
            return
        chosen = _chosen(ill)
        plain = self._everywhere(evidence, Fault("rounding", ""))
        likely: list[_Likely] = []
        for pool in self._pools(output, chosen):  # what is known and simple first
            faults = self._shortlist(chosen, pool)
            likely += [self._everywhere(evidence, fault) for fault in faults]
            if any(one.share > CERTAIN for one in likely):
                break
        else:
            likely = [
                self._placed(evidence, one.fault, self._predictions(evidence, one.fault))
                for one in likely
            ]
            likely += self._stale(evidence)
        likely = [one for one in likely if one.score > max(LIKELY, plain.share)]
        if likely:
            best = max(
                likely,
                key=lambda one: (
                    one.score + 0.05 * self._joint(one.fault) + 0.01 * bool(one.fault.name)
                ),
            )
            yield _finding(output, best)
        else:
            yield self._unknown(output, evidence, plain)

    def _joint(self, fault: Fault) -> float:
        """Return how well a fault explains all outputs together, for the order of equals."""
        total = left = 0.0
        for evidence in self.evidence.values():
            for piece, prediction in zip(
                evidence, self._predictions(evidence, fault, most=SMALL), strict=True
            ):
                if prediction is not None:
                    weight = _weight(piece)
                    total += weight * piece.off.sum()
                    left += weight * piece.off_of(prediction).sum()
        return max(1 - left / total, 0.0) if total else 0.0

    def _pools(self, output: str, chosen: Sequence[Piece]) -> Iterator[list[Fault]]:
        """Yield the faults to try: those that are known or fitted, and then every sentence."""
        norm, case = self.arrangement.norm, chosen[0].judge.case
        known = [
            fault
            for fault in KNOWN
            if norm in fault.norms
            and (fault.edits or fault.backward or fault.kind != "overwritten")
        ]
        yield [*fitted(chosen, output, self.scheme), *(f for f in known if _concerns(f, output))]
        longest = max(p.view.set_size for p in chosen), max(p.view.sum_size for p in chosen)
        every = sentences(norm, case.x.ndim, case.gamma.ndim, *longest)
        yield [fault for fault in every if _concerns(fault, output)]

    def _shortlist(self, chosen: Sequence[Piece], pool: list[Fault]) -> list[Fault]:
        """Return the faults that predict a few cases well."""
        for piece in chosen:
            scores = [self._first_score(piece, fault) for fault in pool]
            best = sorted(range(len(pool)), key=lambda i: -scores[i])
            most = 60 if piece is not chosen[-1] else SHORTLIST
            pool = [pool[i] for i in sorted(i for i in best[:most] if scores[i] > 0.3)]
        return pool

    def _first_score(self, piece: Piece, fault: Fault) -> float:
        (prediction,) = self._predictions([piece], fault)
        if prediction is None:
            return 0.0
        wrong = piece.wrong
        return 1 - float(piece.off_of(prediction)[wrong].sum() / piece.off[wrong].sum())

    def _predictions(
        self, evidence: Sequence[Piece], fault: Fault, most: int = 10**9
    ) -> list[Array | None]:
        """Return what a kernel with the fault would have returned in each piece."""
        return [self._prediction(p, fault) if p.got.size <= most else None for p in evidence]

    def _prediction(self, piece: Piece, fault: Fault) -> Array | None:
        ahead = piece.output == "y"
        key = (id(fault), id(piece.judge), ahead)
        if key not in self.predicted:
            if id(fault) not in self.kernels:
                kernel = self.arrangement.arranged(
                    *fault.kernel(self.arrangement.norm, self.scheme)
                )
                self.kernels[id(fault)] = (fault, kernel)  # kept, so that its id stays its own
            forward, backward = self.kernels[id(fault)][1]
            passes = (forward, None) if ahead else (None, backward)
            self.predicted[key] = run(piece.judge.case, *passes)
        found = self.predicted[key].results.get(piece.output)
        if found is None or found.shape != piece.judge.expected[piece.output].shape:
            return None
        return np.asarray(piece.flat(found), np.float64)

    def _stale(self, evidence: Sequence[Piece]) -> Iterator[_Likely]:
        """Yield what an earlier call may have left: added to, or in place of, the results."""
        for what, formula in (
            ("is added to what an earlier call left", "+="),
            ("is that of an earlier call", ":="),
        ):
            fault = Fault("stale buffer", f"{evidence[0].output} {what}", "")
            predictions = [
                None if p.earlier is None else p.earlier + (p.expected if formula == "+=" else 0)
                for p in evidence
            ]
            if any(p is not None for p in predictions):
                yield self._placed(evidence, fault, predictions)

    def _placed(
        self, evidence: Sequence[Piece], fault: Fault, predictions: Sequence[Array | None]
    ) -> _Likely:
        """Return where a fault has to be so that it explains most."""
        gains, total = self._gains(evidence, predictions)
        everywhere = sum(float(g.sum()) for g in gains) / total
        best = _Likely(everywhere, everywhere, fault, None, None)
        grounds = [
            Ground(p, np.maximum(g, 0), np.maximum(-g, 0))
            for p, g in zip(evidence, gains, strict=True)
        ]
        for place in (None, *places(grounds)):
            within = [
                0.0 if mask is None else float(g.sum() if mask is True else g[mask].sum())
                for mask, g in zip(weighed(grounds, place, None), gains, strict=True)
            ]
            left = [
                Ground(p, np.float64(max(w, 0)).reshape(1), np.float64(max(-w, 0)).reshape(1))
                for (p, _, _), w in zip(grounds, within, strict=True)
            ]
            for when in (None, *conditions(left)):
                share = (
                    sum(
                        w
                        for (p, _, _), w in zip(grounds, within, strict=True)
                        if when is None or when.holds(p.traits)
                    )
                    / total
                )
                price = (
                    0.02 * (place is not None)
                    + 0.02 * (when is not None)
                    + 0.01
                    * (
                        place is not None
                        and place.axis not in ("feature", "channel", "row", "sample", "group")
                    )
                )
                if share - price > best.score:
                    best = _Likely(share - price, share, fault, place, when)
        return best

    def _everywhere(self, evidence: Sequence[Piece], fault: Fault) -> _Likely:
        gains, total = self._gains(evidence, self._predictions(evidence, fault))
        share = sum(float(g.sum()) for g in gains) / total
        return _Likely(share, share, fault, None, None)

    def _gains(
        self, evidence: Sequence[Piece], predictions: Sequence[Array | None]
    ) -> tuple[list[Array], float]:
        """Return how much nearer each element comes by a prediction, and how far off all are."""
        gains, total = [], 0.0
        for piece, prediction in zip(evidence, predictions, strict=True):
            weight = _weight(piece)
            total += weight * piece.off.sum()
            after = piece.off if prediction is None else piece.off_of(prediction)
            gains.append(weight * (piece.off - after))
        return gains, total

    def _unknown(self, output: str, evidence: Sequence[Piece], plain: _Likely) -> Finding:
        """Say where an output is wrong that no fault explains."""
        ratio = max(float(piece.off.max(initial=0)) for piece in evidence)
        if ratio < np.log(30) and plain.share > -1:
            what = f"errors of up to {np.exp(ratio):.1f} tolerances, and no fault fits: it rounds more than was declared"
            kind = "rounding"
        else:
            what, kind = _described(output, evidence), "unknown"
        typical = np.median(
            [piece.off[piece.wrong].mean() for piece in evidence if piece.wrong.any()]
        )
        predictions = []
        for piece in evidence:
            dull = piece.judge.dull(output) or (kind == "rounding")
            prediction = np.where(
                piece.wrong | dull, piece.got, piece.got + np.exp(typical) * piece.tolerance
            )
            predictions.append(prediction)
        where = self._placed(evidence, Fault(kind, what), predictions)
        finding = _finding(output, where)
        return finding


def _chosen(ill: list[Piece]) -> list[Piece]:
    """Return a few pieces to judge by: small ones with much that is wrong, of several shapes."""
    order = sorted(
        ill, key=lambda p: (p.got.size > SMALL, -p.wrong.mean() * (p.got.size > 30), p.got.size)
    )
    chosen: list[Piece] = []
    for piece in order:
        if all(piece.got.shape != other.got.shape for other in chosen):
            chosen.append(piece)
    return (chosen + [piece for piece in order if all(piece is not c for c in chosen)])[:4]


def _weight(piece: Piece) -> float:
    return 1 / max(int(piece.wrong.sum()) or piece.got.size, 1)


def _concerns(fault: Fault, output: str) -> bool:
    steps = {*fault.edits, *(fault.backward if output != "y" else ())}
    return (not steps and not fault.backward) or bool(steps & STEPS[output])


def _described(output: str, evidence: Sequence[Piece]) -> str:
    got = np.concatenate([piece.got[piece.wrong] for piece in evidence])
    if np.isnan(got).all():
        return f"{output} is NaN"
    if not got.any():
        return f"{output} is 0"
    return f"{output} is wrong, in a way that is not known here"


def _finding(output: str, likely: _Likely) -> Finding:
    fault, place, when = likely.fault, likely.place, likely.when
    return Finding(
        output,
        fault.kind,
        fault.what,
        str(place) if place else "",
        str(when) if when else "",
        round(float(min(max(likely.share, 0.0), 1.0)), 3),
        fault.formula,
        fault.name,
        fault.issue,
    )
