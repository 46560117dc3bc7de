"""The faults that may be meant: what each predicts, and which predict a few cases well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from numpy_norms.verify.arrangement import Arrangement
from numpy_norms.verify.catalogue import KNOWN
from numpy_norms.verify.faults.coordinates import PARAMETERS
from numpy_norms.verify.faults.grammar import Fault
from numpy_norms.verify.faults.pairs import COMMON, pairs
from numpy_norms.verify.faults.residuals import RESIDUAL
from numpy_norms.verify.faults.sentences import sentences
from numpy_norms.verify.faults.slips import slips
from numpy_norms.verify.plain import Array, Kernel, worked_again
from numpy_norms.verify.runs import Run, run

from .evidence import Piece
from .fitting import clamped, fitted, scaled

__all__ = ["SMALL", "Candidates"]

SMALL = 20_000  # elements: larger cases are asked only about what is likely
MOST, SHORTLIST = 200, 9  # that are kept after the first cases, and after the last
STATISTICS = {"mean", "var", "rstd", "x_hat", "scale"}
# The steps that an output depends on.
STEPS = {
    "y": STATISTICS | {"y"},
    "dx": STATISTICS | {"dx_hat", "centre", "projection", "dx"},
    "dgamma": STATISTICS | {"dgamma"},
    "dbeta": {"dbeta"},
}


class Candidates:
    """The faults of the grammar with their predictions; those of a whole battery computed once."""

    def __init__(self, arrangement: Arrangement) -> None:
        self.arrangement = arrangement
        # Each fault is kept with what comes of it, so that its id stays its own.
        self._kept: dict[tuple[int, int, str], tuple[Fault, Array | None]] = {}
        self._kernels: dict[int, tuple[Fault, tuple[Kernel, Kernel]]] = {}
        self._runs: dict[tuple[int, int, bool], Run] = {}

    def of(self, output: str, ill: list[Piece]) -> Iterator[list[Fault]]:
        """Yield shortlists for an output: known or fitted, sentences, slips, pairs, and factors."""
        chosen = _chosen(ill)
        norm, case = self.arrangement.norm, chosen[0].judge.case
        known = [f for f in KNOWN if norm in f.norms and _concerns(f, output)]
        if output == "y" and case.residual is not None:
            known += RESIDUAL
        yield self._shortlist(chosen, [*known, *fitted(chosen, output), *clamped(ill, output)])
        longest = max(p.view.set_size for p in chosen), max(p.view.sum_size for p in chosen)
        rank = max(piece.judge.case.x.ndim for piece in ill)
        every = sentences(norm, rank, case.gamma.ndim, *longest)
        for pool in (every, slips(norm), slips(norm, otherwise=True)):
            yield self._shortlist(chosen, [fault for fault in pool if _concerns(fault, output)])
        common = [f for f in COMMON if norm in f.norms and _concerns(f, output)]
        yield self._shortlist(chosen, [*pairs(common)])
        yield self._shortlist(chosen, [*scaled(chosen, self._predicted)])

    def predicted(self, piece: Piece, fault: Fault) -> Array | None:
        """Return what a kernel with the fault would have returned in a piece."""
        key = id(fault), id(piece.judge), piece.output
        if key not in self._kept:
            self._kept[key] = fault, self._predicted(piece, fault)
        return self._kept[key][1]

    def _predicted(self, piece: Piece, fault: Fault) -> Array | None:
        if fault.of_memory:
            return self._returned(piece, fault)
        judge, output = piece.judge, piece.output
        ahead = output == "y"
        right = judge.plain_forward if ahead else judge.plain
        edits = fault.edits if ahead else {**fault.edits, **fault.backward}
        try:
            wrong = worked_again(right, edits, output)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            return None  # what it is about is not there: groups, elements, dy in a forward pass
        return piece.rounded(getattr(wrong, output))

    def _returned(self, piece: Piece, fault: Fault) -> Array | None:
        """Return what a kernel returns that is called for each case once, as it remembers calls."""
        ahead = piece.output == "y"
        key = id(fault), id(piece.judge), ahead
        if key not in self._runs:
            if id(fault) not in self._kernels:
                kernel = fault.kernel(self.arrangement.norm, piece.judge.scheme)
                self._kernels[id(fault)] = fault, self.arrangement.arranged(*kernel)
            forward, backward = self._kernels[id(fault)][1]
            passes = (forward, None) if ahead else (None, backward)
            plain = replace(piece.judge.case, residual=None, where=None)
            self._runs[key] = run(plain, *passes)
        found = self._runs[key].results.get(piece.output)
        if found is None or found.shape != piece.judge.expected[piece.output].shape:
            return None
        return np.asarray(piece.flat(found), np.float64)

    def _shortlist(self, chosen: Sequence[Piece], pool: list[Fault]) -> list[Fault]:
        ranked = [(fault, 0.0) for fault in pool]
        for number, piece in enumerate(chosen, 1):
            scores = [(fault, s + self._first_score(piece, fault)) for fault, s in ranked]
            best = sorted(scores, key=lambda pair: -pair[1])  # stable: the simpler first
            most = MOST if number < len(chosen) else SHORTLIST
            ranked = [pair for pair in best[:most] if pair[1] > 0.3 * number]
        return [fault for fault, _ in ranked]

    def _first_score(self, piece: Piece, fault: Fault) -> float:
        prediction = self._predicted(piece, fault)
        if prediction is None:
            return 0.0
        sample = piece.sample
        left = float(sample.off_of(prediction[piece.some]).sum())
        return 1 - sample.weight * left / sample.total


def _concerns(fault: Fault, output: str) -> bool:
    """Whether a fault can change an output; what only overwrites an argument changes none."""
    if not fault.edits and not fault.backward:
        return fault.kind != "overwritten"
    steps = {*fault.edits, *(fault.backward if output != "y" else ())}
    return bool(steps & STEPS[output])


def _chosen(ill: list[Piece]) -> list[Piece]:
    """Return a few pieces to judge by: small ones with much that is wrong, of several shapes."""
    # Sets of one or two tell least: there m - 1 and m - 2 are 0.
    late = {id(p): (p.size > SMALL, p.view.set_size < 3) for p in ill}
    order = sorted(ill, key=lambda p: (late[id(p)], -p.wrong.mean() * (p.got.size > 30), p.size))
    chosen: list[Piece] = []
    for piece in order:
        if all(piece.got.shape != other.got.shape for other in chosen):
            chosen.append(piece)
    chosen = (chosen + [piece for piece in order if all(piece is not c for c in chosen)])[:4]
    # Blocks are told apart by the longest sets, or sums, where those are small enough.
    size = "sum_size" if ill[0].output in PARAMETERS else "set_size"
    longest = max(order, key=lambda p: (p.size <= SMALL) * getattr(p.view, size))
    if getattr(longest.view, size) > max(getattr(p.view, size) for p in chosen):
        chosen = [chosen[0], longest, *chosen[1:3]]
    return chosen
