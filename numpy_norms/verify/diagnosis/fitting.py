"""Terms of the equations fitted to what came back, their factors recognised by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from numpy_norms.verify.faults.factors import scalars
from numpy_norms.verify.faults.grammar import Fault
from numpy_norms.verify.plain import SCHEMES, Array, Work, worked

from .evidence import Piece

__all__ = ["fitted"]

# The terms of each output, and their signs in it.
TERMS: dict[str, dict[str, tuple[int, Any]]] = {
    "y": {"gamma x_hat": (1, lambda w: w.scale * w.x_hat), "beta": (1, lambda w: w.beta + 0 * w.x)},
    "dx": {
        "r dx_hat": (1, lambda w: w.rstd * w.dx_hat),
        "r E[dx_hat]": (-1, lambda w: w.rstd * w.centre + 0 * w.x),
        "r x_hat E[dx_hat x_hat]": (-1, lambda w: w.rstd * w.projection),
    },
    "dgamma": {"dgamma": (1, lambda w: w.total(w.dy * w.x_hat))},
    "dbeta": {"dbeta": (1, lambda w: w.total(w.dy))},
}
SAME = 2e-4


def fitted(pieces: Sequence[Piece], output: str, scheme: str) -> Iterator[Fault]:
    """Yield the output as a combination of its own terms, if it is one."""
    terms = TERMS[output]
    found: list[tuple[Array, Mapping[str, float]]] = []
    for piece in pieces:
        case = piece.judge.case
        work = _work(piece, scheme)
        basis = np.stack([(sign * term(work)).ravel() for sign, term in terms.values()], axis=1)
        usable = piece.wrong & np.isfinite(piece.got) & np.isfinite(basis).all(axis=1)
        kept = [i for i in range(len(terms)) if np.any(basis[:, i])]
        if usable.sum() < max(2 * len(kept), 1):
            continue
        weights = 1 / np.maximum(piece.tolerance[usable], 1e-300)
        matrix = basis[usable][:, kept] * weights[:, None]
        factors = np.ones(len(terms))
        factors[kept] = np.linalg.lstsq(matrix, piece.got[usable] * weights, rcond=None)[0]
        left = piece.off_of(basis @ factors)[usable].mean()
        if left > 0.1 * piece.off[usable].mean():
            return
        inner = piece.arrangement.inward(case.x).shape
        found.append((factors, scalars(piece.view, inner, case.eps)))
    if not found:
        return
    names = [_named([(f[i], known) for f, known in found]) for i in range(len(terms))]
    if any(name is None for name in names):
        return
    yield _fault(output, [name or "" for name in names])


def _work(piece: Piece, scheme: str) -> Work:
    case, bring = piece.judge.case, piece.arrangement.inward
    wide = [np.asarray(a, np.float64) for a in (bring(case.x), case.gamma, case.beta)]
    groups = () if case.num_groups is None else (case.num_groups,)
    arrays = (wide[0], *groups, *wide[1:], case.eps)
    dy = np.asarray(bring(case.dy), np.float64)
    return worked(case.norm, arrays, dy, (SCHEMES.get(scheme, {}),))


def _named(values: list[tuple[float, Mapping[str, float]]]) -> str | None:
    """Return the name that fits the factor in every case; the number where it is the same."""

    def close(a: float, b: float) -> bool:
        return abs(a - b) <= SAME * abs(b) + 1e-7 or (b == 0 and abs(a) < 1e-4)

    first = values[0][0]
    if all(close(value, 1) and abs(value - 1) < 2e-7 for value, _ in values):
        return "1"
    for name in values[0][1]:
        if all(name in known and close(value, known[name]) for value, known in values):
            return name
    if all(close(value, 1) for value, _ in values) and np.std([v for v, _ in values]) > 1e-6:
        return "1"
    if all(abs(value - first) <= 1e-3 * max(abs(first), abs(value)) for value, _ in values):
        return f"{first:.6g}"
    return None


def _fault(output: str, names: list[str]) -> Fault:
    terms = TERMS[output]
    formula, what = "", []
    for (term, (sign, _)), name in zip(terms.items(), names, strict=True):
        if name == "0":
            what.append(f"{term} is left out")
            continue
        if name != "1":
            what.append(
                f"{term} has the wrong sign" if name == "-1" else f"{term} is {name} times ours"
            )
        minus = (sign < 0) != (name == "-1")
        size = "" if name in ("1", "-1") else f"{name} "
        formula += f" {'-' if minus else '+'} {size}{term}"
    kinds = {"0": "term left out", "-1": "sign"}
    wrong = [name for name in names if name != "1"]
    kind = kinds.get(wrong[0], "factor") if len(wrong) == 1 else "factor"
    return Fault(
        kind,
        " and ".join(what) or "it is ours",
        f"{output} = {formula.removeprefix(' + ').strip() or '0'}",
        edits={output: lambda w, value: _combined(w, output, names)},
    )


def _combined(w: Work, output: str, names: list[str]) -> Array:
    known = scalars(w.view, w.shape, float(w.eps))
    total: Any = 0.0
    for (sign, term), name in zip(TERMS[output].values(), names, strict=True):
        value = known[name] if name in known else float(name)
        total = total + sign * value * term(w)
    return np.asarray(total)
