"""Whether a gradient is the right one of a wrong y, as automatic differentiation gives it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from numpy_norms.verify.faults.grammar import Fault
from numpy_norms.verify.plain import Array

from .evidence import Piece

__all__ = ["derived_from"]

STEP = 1e-30  # nothing is subtracted, so that it may be as small
SURE = 5.0  # standard deviations of the rounding errors of a sum with random signs
MOST = 0.75  # rounding may hide some, where a wrong y loses digits that the right one does not
OF = {"dx": 0, "dgamma": 1, "dbeta": 2}  # the arguments that a gradient is of


def derived_from(fault: Fault, pieces: Sequence[Piece]) -> float:
    """Return the share of cases whose gradient is that of a y with this fault; 0 if not of most.

    Along random signs v the derivative of L, the sum of dy y, is Im L(x + ihv) / h, and the sum of
    v and the gradient. The right gradient has to be told from it.
    """
    rng = np.random.default_rng(0)
    same = told = 0
    for piece in pieces:
        signs = rng.choice([-1.0, 1.0], piece.got.size)
        with np.errstate(all="ignore"):
            try:
                wanted = _along(piece, fault, signs)
            except (ArithmeticError, LookupError, TypeError, ValueError):
                return 0.0  # it takes no complex numbers
            got, right = (float((a * signs).sum()) for a in (piece.got, piece.expected))
            off = piece.tolerance + 1e-4 * abs(piece.got - piece.expected)
            far = SURE * float(np.sqrt((off**2).sum()))
        same += abs(got - wanted) <= far
        told += abs(got - right) > far
    share = same / len(pieces)
    return share if share > MOST and told > len(pieces) / 2 else 0.0


def _along(piece: Piece, fault: Fault, signs: Array) -> float:
    *given, dy = piece.judge.arrays(np.complex128)
    number = OF[piece.output]
    given[number] = given[number] + 1j * STEP * signs.reshape(given[number].shape)
    x, gamma, beta = given
    work = piece.judge.worked_on(x, gamma, beta, None, fault.edits)
    return float((dy.real.reshape(work.view.shape) * np.imag(work.y)).sum() / STEP)
