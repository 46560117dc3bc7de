"""What a kernel may make of the part of x that it is given apart, and is to add first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy_norms.verify.plain import Edit, Work

from .grammar import Fault, in_half

__all__ = ["RESIDUAL"]


def _of(added: Callable[[Work], Any], **more: Edit) -> dict[str, Edit]:
    """Return the edits with which something else is normalized than the sum, which is x."""
    return {
        "mean": lambda w, mean: w.average(added(w)) if w.centred else mean,
        "var": lambda w, _: w.average((added(w) - w.mean) ** 2),
        "x_hat": lambda w, _: (added(w) - w.mean) * w.rstd,
        **more,
    }


def _also(w: Work, y: Any) -> Any:
    return y + w.residual


RESIDUAL = (
    Fault(
        "term left out",
        "the residual is not added: x alone is normalized",
        edits=_of(lambda w: w.x - w.residual),
    ),
    Fault(
        "factor",
        "the residual is added twice before the norm",
        edits=_of(lambda w: w.x + w.residual),
    ),
    Fault("sign", "the residual is subtracted", edits=_of(lambda w: w.x - 2 * w.residual)),
    Fault("formula", "the residual alone is normalized", edits=_of(lambda w: w.residual)),
    Fault(
        "formula",
        "the residual is added after the norm, where it belongs before it",
        edits=_of(lambda w: w.x - w.residual, y=_also),
    ),
    Fault("formula", "the residual is added once more after the norm", edits={"y": _also}),
    Fault(
        "formula",
        "the sum of x and the residual is added once more after the norm",
        edits={"y": lambda w, y: y + w.x},
    ),
    Fault(
        "cast too early",
        "the sum of x and the residual is rounded to half precision",
        edits=_of(lambda w: in_half(w, w.x)),
    ),
)
