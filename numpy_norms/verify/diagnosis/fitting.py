"""Factors of terms and of steps that are fitted to what came back, and recognised by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from numpy_norms.verify.faults.factors import SIZES, Factor, scalars
from numpy_norms.verify.faults.grammar import TERMS as TERMED
from numpy_norms.verify.faults.grammar import Fault
from numpy_norms.verify.plain import OUTPUTS, Array, Work

from .evidence import Piece

__all__ = ["affine", "clamped", "fitted", "scaled"]

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
WORDS = {
    "r dx_hat": "the first term r dx_hat",
    "r E[dx_hat]": "the mean term r E[dx_hat]",
    "r x_hat E[dx_hat x_hat]": "the variance term r x_hat E[dx_hat x_hat]",
}
# What a number may multiply within a step, or be added to: its name, the step, and what that is
# then.
Scaled = Callable[[float, Work, Any], Any]
TIMES: dict[str, tuple[str, Scaled]] = {
    "the mean": ("mean", lambda c, _, mean: c * mean),
    "the variance": ("var", lambda c, _, var: c * var),
    "x in the variance": ("var", lambda c, w, _: w.average((c * w.x - w.mean) ** 2)),
    "mu in the variance": ("var", lambda c, w, _: w.average((w.x - c * w.mean) ** 2)),
    "eps": ("rstd", lambda c, w, _: (w.var + c * w.eps) ** -0.5),
    "the reciprocal root": ("rstd", lambda c, _, rstd: c * rstd),
    "x in x - mu": ("x_hat", lambda c, w, _: (c * w.x - w.mean) * w.rstd),
    "mu in x - mu": ("x_hat", lambda c, w, _: (w.x - c * w.mean) * w.rstd),
    "x_hat": ("x_hat", lambda c, _, x_hat: c * x_hat),
    "dx_hat": ("dx_hat", lambda c, _, dx_hat: c * dx_hat),
    "the first term r dx_hat": ("dx", lambda c, w, dx: dx + (c - 1) * w.rstd * w.dx_hat),
    "the mean term": ("centre", lambda c, _, centre: c * centre),
    "the variance term": ("projection", lambda c, _, projection: c * projection),
}
ADDED: dict[str, tuple[str, Scaled]] = {
    f"{{:.4g}} is added to {TERMED[step][0]}": (step, lambda c, _, value: value + c)
    for step in ("mean", "var", "rstd", "x_hat", "scale", *OUTPUTS)
}
WITHIN = {f"{words} is multiplied by {{:.{{}}g}}": made for words, made in TIMES.items()} | ADDED
NEWTON = 8  # steps at most
SAME = 2e-4
SEVERAL, FEW = 3, 100


def fitted(pieces: Sequence[Piece], output: str) -> Iterator[Fault]:
    """Yield the output as a combination of its own terms, if it is one."""
    terms = _terms(output, pieces[0].arrangement.norm)
    found: list[tuple[Array, Mapping[str, float]]] = []
    for piece in pieces:
        case = piece.judge.case
        work = piece.judge.worked(np.float64)
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
    named = dict(zip(terms, (name or "" for name in names), strict=True))
    yield _fault(output, terms, named)


def scaled(
    pieces: Sequence[Piece], predicted: Callable[[Piece, Fault], Array | None]
) -> Iterator[Fault]:
    """Yield what is multiplied within a step, or added, by the number that fits best: by Newton."""
    narrow = pieces[0].judge.dtype != np.float64
    still = 1e-7 if narrow else 1e-15
    for words in WITHIN:
        neutral = 0.0 if words in ADDED else 1.0
        number, moved = neutral, np.inf
        for _ in range(NEWTON):
            moved = _correction(pieces, predicted, words, number)
            number += moved
            if not abs(moved) > still:  # or NaN
                break
        if abs(moved) <= still < abs(number - neutral):
            yield _with(number, words)


def _with(number: float, words: str) -> Fault:
    step, change = WITHIN[words]
    kind = "formula" if words in ADDED else "factor"
    what = words.format(number, 6 if abs(number - 1) > 1e-5 else 9)
    return Fault(kind, what, edits={step: partial(change, number)})


def _correction(
    pieces: Sequence[Piece],
    predicted: Callable[[Piece, Fault], Array | None],
    words: str,
    number: float,
) -> float:
    """Return by how much a number is too small, by least squares about what it predicts."""
    change = 0.01 * (number or 1)
    both = 0.0, 0.0
    for piece in pieces:
        here, there = (predicted(piece, _with(c, words)) for c in (number, number + change))
        if here is None or there is None:
            return np.nan
        weights = 1 / np.maximum(piece.sample.tolerance, 1e-300)
        slope = (there - here)[piece.some] / change * weights
        error = (piece.got - here)[piece.some] * weights
        usable = np.isfinite(slope) & np.isfinite(error)
        products = slope[usable] @ error[usable], slope[usable] @ slope[usable]
        both = both[0] + float(products[0]), both[1] + float(products[1])
    return both[0] / both[1] if both[1] else np.nan


def clamped(pieces: Sequence[Piece], output: str) -> Iterator[Fault]:
    """Yield the output, and x_hat behind y, held between the bounds at which wrong ones lie."""
    for step in ("y", "x_hat") if output == "y" else (output,):
        lying: list[Array] = []
        off: list[Array] = []
        for piece in pieces:
            usable = piece.wrong & np.isfinite(piece.got) & np.isfinite(piece.expected)
            scale, shift = affine(piece, step, usable)
            lying.append((piece.got[usable] - shift) / scale)
            off.append((piece.got - piece.expected)[usable] / scale)
        values, moved = np.concatenate(lying), np.concatenate(off)
        low = _bound(values, moved, moved > 0, -np.inf)
        high = low if np.isnan(low) else _bound(values, moved, moved < 0, np.inf)
        if low < high and np.isfinite([low, high]).any():
            to = f"[{low:.4g}, {high:.4g}]" if np.isfinite(high - low) else ""
            to = to or (f"{low:.4g} at least" if np.isfinite(low) else f"{high:.4g} at most")
            edits = {step: partial(_held, low, high)}
            yield Fault("formula", f"{step} is clamped to {to}", edits=edits)


def affine(piece: Piece, step: str, usable: Array) -> tuple[Any, Any]:
    """Return what a step is multiplied by and added to, for each element that is usable.

    Between x_hat and y these are gamma and beta, and nothing for an output itself.
    """
    if step == piece.output:
        return 1.0, 0.0
    case, view = piece.judge.case, piece.view
    scale, shift = (
        np.broadcast_to(np.asarray(a, np.float64).reshape(view.params), view.shape)
        for a in (piece.judge.scale, case.beta)
    )
    return scale.ravel()[usable], shift.ravel()[usable]


def _bound(values: Array, moved: Array, there: Array, none: float) -> float:
    """Return the number at which several that were different lie; NaN if they still are."""
    moved = moved[there]
    if len(np.unique(moved[:FEW])) < SEVERAL and len(np.unique(moved)) < SEVERAL:
        return none
    low, middle, high = np.quantile(values[there], (0.1, 0.5, 0.9))
    return float(middle) if high - low <= 1e-2 * abs(middle) + 1e-5 else np.nan


def _held(low: float, high: float, _: Work, value: Any) -> Array:
    return np.asarray(np.clip(value, low, high))


def _terms(output: str, norm: str) -> dict[str, tuple[int, Any]]:
    """Return the terms that a norm has: RMS norm has no beta, and no mean."""
    lacking = ("beta", "r E[dx_hat]") if norm == "rms_norm" else ()
    return {name: term for name, term in TERMS[output].items() if name not in lacking}


def _named(values: list[tuple[float, Mapping[str, float]]]) -> str | None:
    """Return the name that fits the factor in every case; the number where it is the same."""

    def close(a: float, b: float) -> bool:
        same = abs(a - b) <= SAME * abs(b) + 1e-7 or (b == 0 and abs(a) < 1e-4)
        return same and (b == 1 or abs(a - b) <= abs(b - 1) / 10)

    first = values[0][0]
    if all(close(value, 1) and abs(value - 1) < 2e-7 for value, _ in values):
        return "1"
    for name in values[0][1]:
        if all(known.get(name) == 1 for _, known in values):
            continue  # no factor, here
        if all(name in known and close(value, known[name]) for value, known in values):
            return name
    if all(close(value, 1) for value, _ in values) and np.std([v for v, _ in values]) > 1e-6:
        return "1"
    if all(abs(value - first) <= 0.03 * min(abs(first - 1), abs(first)) for value, _ in values):
        return f"{first:.6g}" if abs(first - 1) > 1e-5 else f"{first:.9g}"
    return None


def _fault(output: str, terms: dict[str, tuple[int, Any]], names: dict[str, str]) -> Fault:
    formula = ""
    for term, (sign, _) in terms.items():
        name = names[term]
        minus = (sign < 0) != (name == "-1")
        size = "" if name in ("1", "-1") else f"{name} "
        formula += f" {'-' if minus else '+'} {size}{term}" if name != "0" else ""

    def combined(w: Work, value: Any) -> Array:
        known = scalars(w.view, w.shape, float(w.eps))
        total: Any = 0.0
        for term, (sign, made) in terms.items():
            name = names[term]
            total = total + sign * (known[name] if name in known else float(name)) * made(w)
        return np.asarray(total)

    return Fault(
        _kind(list(names.values())),
        _what(output, names),
        f"{output} = {formula.removeprefix(' + ').strip() or '0'}",
        edits={output: combined},
    )


def _kind(names: list[str]) -> str:
    wrong = {name for name in names if name != "1"}
    one = wrong.pop() if len(wrong) == 1 else ""
    return SIZES[one].kind if one in SIZES else "factor"


def _what(output: str, names: dict[str, str]) -> str:
    values = list(names.values())
    if len(set(values)) == 1:
        return _times(values[0], output)
    if output == "dx" and values[0] == "1" and set(values[1:]) == {"0"}:
        held = "the mean and the variance are" if values[2:] else "the root mean square is"
        return f"{held} held constant"
    return " and ".join(
        _times(name, WORDS.get(term, term)) for term, name in names.items() if name != "1"
    )


def _times(name: str, words: str) -> str:
    if name == "0":
        return f"{words} is never written: it is 0" if words in TERMS else f"{words} is left out"
    by = SIZES.get(name) or Factor(name, lambda w: float(name))
    return by.phrase("", words)
