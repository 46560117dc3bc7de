"""What no formula predicts and results tell: rough reciprocal roots, elements that are dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from numpy_norms.verify.faults.grammar import Fault
from numpy_norms.verify.plain import Array, Edit, Work, worked_again
from numpy_norms.verify.tolerances import roundoff

from .evidence import Piece
from .fitting import affine

__all__ = ["dropped", "rooted"]

NEWTON, STEP = 4, 1e-4  # how often, and how far a root is moved, relative to itself
ROUGH = 0.1  # that a root is off at most, relative to itself
DECLARED = 2.0**-10  # up to which it may be meant
LEFT = 0.2  # of what is wrong, that other roots may leave
PLAIN = 2.0  # tolerances that a root has to be off by
SAME = 1e-4
CLEAR = 0.99  # of the elements, that have to be as is said
FEWEST = 0.01  # of the elements that are dropped, or are not


def rooted(pieces: Sequence[Piece]) -> Iterator[Fault]:
    """Yield that the reciprocal root of each set is another, which is found by Newton."""
    ratios: dict[int, Array] = {}  # by the x of a case
    off, spare = 0.0, LEFT * sum(piece.total for piece in pieces)
    for piece in sorted(pieces, key=lambda piece: piece.size):
        work = piece.judge.worked(np.float64)
        ratio = np.ones_like(work.rstd)
        for _ in range(NEWTON):
            here, there = (_with_roots(work, ratio * by, piece.output) for by in (1, 1 + STEP))
            slope, error = (a / piece.tolerance for a in ((there - here) / STEP, piece.got - here))
            usable = np.isfinite(slope) & np.isfinite(error)
            moved, size = (
                np.where(usable, a * slope, 0)
                .reshape(work.view.shape)
                .sum(work.view.over, keepdims=True)
                for a in (error, slope)
            )
            ratio = ratio * (1 + np.divide(moved, size, out=np.zeros_like(size), where=size > 0))
        spare -= piece.weight * float(piece.off_of(here).sum())
        if spare < 0:
            return
        ratios[id(piece.judge.plain.x)] = ratio
        certain = abs(ratio - 1) * np.sqrt(size) > PLAIN
        off = max(off, float(abs(ratio - 1).max(where=certain, initial=0.0)))
    if off < ROUGH:
        judge = pieces[0].judge
        dtype = np.promote_types(judge.dtype, np.float32)
        ulps = float(f"{1.1 * off / roundoff(dtype):.1e}")
        declared = f"accumulate=Accumulator({str(dtype)!r}, rsqrt_ulp={ulps:.6g})"
        cure = f"{declared} would allow it" if off < DECLARED else ""
        what = f"the reciprocal root is rough: it is off by up to {off:.1e} of itself"

        def rough(w: Work, rstd: Array) -> Array:
            return np.asarray(rstd * ratios.get(id(w.x), 1.0), rstd.dtype)

        yield Fault("cast too early", what, cure, edits={"rstd": rough})


def _with_roots(work: Work, ratio: Array, output: str) -> Array:
    edits: dict[str, Edit] = {"rstd": lambda _, rstd: rstd * ratio}
    return np.ravel(getattr(worked_again(work, edits, output), output))


def dropped(pieces: Sequence[Piece], output: str) -> Iterator[tuple[Fault, bool]]:
    """Yield that elements are 0 here and there, and whether the others make up for it.

    They are those of the output, or of x_hat behind y.
    """
    for step in ("y", "x_hat") if output == "y" else (output,):
        found: list[Array] = []
        for piece in pieces:
            usable = np.isfinite(piece.got) & np.isfinite(piece.expected)
            scale, shift = affine(piece, step, usable)
            both = (np.stack([piece.got, piece.expected])[:, usable] - shift) / scale
            found.append(np.vstack([both, abs(piece.tolerance[usable] / scale)]))
        got, expected, allowed = np.concatenate(found, axis=1)
        usable = abs(expected) > 10 * allowed
        got, expected, allowed = got[usable], expected[usable], allowed[usable]
        kept = got != 0
        share = 1 - kept.mean() if kept.size else 0.0
        if not FEWEST < share < 1 - FEWEST:
            continue
        by = float(np.median(got[kept] / expected[kept]))
        near = abs(got - by * expected) <= SAME * abs(got) + 10 * allowed
        if near[kept].mean() < CLEAR:
            continue
        if abs(by - 1) < SAME:
            yield Fault("formula", f"{share:.0%} of {step} is 0, here and there"), False
        elif abs(1 - 1 / by - share) < FEWEST + 3 / np.sqrt(kept.size):
            rest = f"and the rest is divided by {1 / by:.3g}: dropout, as in training"
            yield Fault("formula", f"{1 - 1 / by:.0%} of {step} is 0, {rest}"), True
