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
DECLARED = 2.0**14  # units in the last place, up to which it may be meant
LEFT = 0.2  # of what is wrong, that other roots may leave
PLAIN = 2.0  # tolerances that a root has to be off by
HALF = 0.5  # of the cases in which such an error would show, that have to show one
SAME = 1e-4
CLEAR = 0.99  # of the elements, that have to be as is said
FEWEST = 0.01  # of the elements that are dropped, or are not
FEW = 100  # elements, among which some are dropped in half of the cases at least


def rooted(pieces: Sequence[Piece]) -> Iterator[Fault]:
    """Yield that the reciprocal root of each set is another, which is found by Newton."""
    ratios: dict[int, Array] = {}  # by the x of a case
    found: list[tuple[float, float]] = []  # by how much it is off in a case, and what would show
    spare = LEFT * sum(piece.total for piece in pieces)
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
        least = PLAIN / np.sqrt(size)
        moved = abs(ratio - 1)
        found.append((moved.max(where=moved > least, initial=0.0), least.min(initial=np.inf)))
    off = float(max(off for off, _ in found))
    shown = [by > 0 for by, least in found if least < off / 2]
    if off < ROUGH and np.mean(shown) > HALF:
        judge = pieces[0].judge
        dtype = np.promote_types(judge.dtype, np.float32)
        ulps = float(f"{1.1 * off / roundoff(dtype):.1e}")
        declared = f"accumulate=Accumulator({str(dtype)!r}, rsqrt_ulp={ulps:.6g})"
        cure = f"{declared} would allow it" if ulps < DECLARED else ""
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
        shares: list[float] = []
        for piece in pieces:
            usable = np.isfinite(piece.got) & np.isfinite(piece.expected)
            scale, shift = affine(piece, step, usable)
            got, expected = (np.stack([piece.got, piece.expected])[:, usable] - shift) / scale
            allowed = abs(piece.tolerance[usable] / scale)
            usable = abs(expected) > 10 * allowed
            found.append(np.stack([got, expected, allowed])[:, usable])
            if usable.sum() > FEW:
                shares.append(float((got[usable] == 0).mean()))
        got, expected, allowed = np.concatenate(found, axis=1)
        kept = got != 0
        share = 1 - kept.mean() if kept.size else 0.0
        if not FEWEST < share < 1 - FEWEST or np.mean([s > 0 for s in shares or [1.0]]) < HALF:
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
