"""What a fault is: an edit of one step of the plain kernel, as a sentence of a small grammar.

A sentence has a verb (the kind of the fault), a step of the equations as its object, and, where it
does not hold everywhere, a place and a condition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from numpy_norms.oracle.sets import NORMS
from numpy_norms.verify.plain import OUTPUTS, Array, Edit, Kernel, Work, plain_kernel

from .factors import Factor

__all__ = [
    "CENTRED",
    "TERMS",
    "Fault",
    "averaged",
    "cast",
    "factor",
    "left_out",
    "replaced",
    "sign",
]

CENTRED = tuple(norm for norm in NORMS if norm != "rms_norm")
Average = Callable[[Work, Array], Array]
Around = Callable[[Kernel, Kernel], tuple[Kernel, Kernel]]

# What a step is called in a sentence, and how it is written in a formula.
TERMS = {
    "mean": ("the mean", "mu"),
    "var": ("the variance", "var"),
    "rstd": ("the reciprocal root", "r"),
    "x_hat": ("x_hat", "x_hat"),
    "scale": ("gamma", "gamma"),
    "y": ("y", "y"),
    "dbeta": ("dbeta", "dbeta"),
    "dgamma": ("dgamma", "dgamma"),
    "dx_hat": ("dx_hat = gamma dy", "dx_hat"),
    "centre": ("the mean term", "E[dx_hat]"),
    "projection": ("the variance term", "x_hat E[dx_hat x_hat]"),
    "dx": ("dx", "dx"),
}
# What is averaged or added up in a step.
INSIDE: dict[str, Callable[[Work], Any]] = {
    "mean": lambda w: w.x,
    "var": lambda w: (w.x - w.mean) ** 2,
    "centre": lambda w: w.dx_hat,
    "projection": lambda w: w.dx_hat * w.x_hat,
    "dgamma": lambda w: w.dy * w.x_hat,
    "dbeta": lambda w: w.dy,
}


def _unchanged(forward: Kernel, backward: Kernel) -> tuple[Kernel, Kernel]:
    return forward, backward


@dataclass(frozen=True)
class Fault:
    """A sentence of the grammar.

    Parameters
    ----------
    kind : str
        The verb: "sign", "term left out", "factor", "axis", "block lost", "count wrong",
        "stride ignored", "stale buffer", "cast too early", "overwritten" or "formula".
    what : str
        What is wrong, as a phrase that completes "equals ours, but ...".
    formula : str
        The wrong formula, in the notation of the equations.
    name, issue : str
        Of one in the catalogue: its name and a public issue that had it.
    norms : tuple of str
        Norms that can have it.
    edits, backward : mapping of str to callable
        What it makes of the steps of the plain kernel: in both passes, and in the backward pass
        alone.
    around : callable
        Takes the two passes and returns them wrapped, for faults in how memory is read.
    """

    kind: str
    what: str
    formula: str = ""
    name: str = ""
    issue: str = ""
    norms: tuple[str, ...] = NORMS
    edits: Mapping[str, Edit] = field(default_factory=dict)
    backward: Mapping[str, Edit] = field(default_factory=dict)
    around: Around = _unchanged

    @property
    def of_memory(self) -> bool:
        """Whether it is in how memory is read or written, and in no step."""
        return self.around is not _unchanged

    def kernel(self, norm: str, scheme: str = "exact") -> tuple[Kernel, Kernel]:
        """Return the kernel of `norm` with this fault in it."""
        return self.around(*plain_kernel(norm, self.edits, self.backward, scheme))

    def known(self, name: str, issue: str, what: str = "", formula: str = "") -> Fault:
        """Return it with a name, a source and, where they say more, words of its own."""
        return replace(
            self, name=name, issue=issue, what=what or self.what, formula=formula or self.formula
        )

    def of(self, *norms: str) -> Fault:
        """Return it for some of the norms."""
        return replace(self, norms=norms)

    def in_backward(self) -> Fault:
        """Return it for the backward pass alone."""
        return replace(self, edits={}, backward=self.edits)


def sign(step: str) -> Fault:
    """A step has the wrong sign."""
    words, symbol = TERMS[step]
    return Fault("sign", f"{words} has the wrong sign", f"- {symbol}", edits={step: _negative})


def _negative(_: Work, value: Any) -> Any:
    return -value


def left_out(step: str) -> Fault:
    """A term is missing: the scale is 1 then, a sum 0."""
    words, symbol = TERMS[step]
    nothing = 1.0 if step in ("scale", "rstd") else 0.0
    return Fault(
        "term left out",
        _absence(step, words, symbol),
        edits={step: lambda w, value: np.zeros_like(value) + nothing},
    )


def _absence(step: str, words: str, symbol: str) -> str:
    if step in ("centre", "projection"):
        return f"{words} {symbol} is left out"
    return f"{words} is never written: it is 0" if step in OUTPUTS else f"{words} is left out"


def factor(step: str, by: Factor, *, inside: bool = False) -> Fault:
    """A step, or what is averaged in it, is multiplied by something."""
    words, symbol = TERMS[step]
    if inside:
        edit: Edit = lambda w, _: _rebuilt(w, step, w.average, by.value(w) * INSIDE[step](w))  # noqa: E731
        return Fault("factor", f"{by.name} is once more in {words}", edits={step: edit})
    return Fault(
        by.kind,
        by.phrase(step, words),
        f"{by.name} {symbol}",
        edits={step: lambda w, value: by.value(w) * value},
    )


def averaged(steps: tuple[str, ...], over: Average, kind: str, where: str) -> Fault:
    """Averages or sums run over something else."""

    def edit(step: str) -> Edit:
        return lambda w, _: _rebuilt(w, step, lambda a: over(w, a), INSIDE[step](w))

    return Fault(kind, f"{_listed(steps)} {where}", edits={step: edit(step) for step in steps})


def _rebuilt(w: Work, step: str, average: Callable[[Array], Array], inside: Array) -> Any:
    if not w.centred and step in ("mean", "centre"):
        return 0 * w.x
    return w.x_hat * average(inside) if step == "projection" else average(inside)


def _listed(steps: tuple[str, ...]) -> str:
    words = ["E[dx_hat x_hat]" if s == "projection" else TERMS[s][0] for s in steps]
    words = ["E[dx_hat]" if s == "centre" else w for s, w in zip(steps, words, strict=True)]
    verb = "is" if len(words) == 1 else "are"
    return f"{', '.join(words[:-1])}{' and ' if words[:-1] else ''}{words[-1]} {verb} taken over"


def cast(step: str, words: str = "") -> Fault:
    """A step is rounded to half precision."""
    return Fault(
        "cast too early",
        f"{words or TERMS[step][0]} is rounded to half precision",
        f"half({TERMS[step][1]})",
        edits={step: lambda w, value: in_half(w, value)},
    )


def in_half(w: Work, a: Any) -> Array:
    """Round to half precision and back."""
    a = np.asarray(a)
    return np.asarray(np.real(a).astype(w.half).astype(a.dtype))


def replaced(kind: str, what: str, formula: str, **edits: Callable[[Work], Any]) -> Fault:
    """Steps have other formulas."""

    def edit(formula: Callable[[Work], Any]) -> Edit:
        return lambda w, _: formula(w)

    return Fault(kind, what, formula, edits={step: edit(f) for step, f in edits.items()})
