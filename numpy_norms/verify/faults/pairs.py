"""Two of the commonest faults at once: an estimate with m - 1, say, and eps outside of the root."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from .factors import SIZES
from .grammar import Fault, factor, left_out, replaced, sign
from .known_backward import BACKWARD_FAULTS
from .known_forward import FORWARD_FAULTS

__all__ = ["COMMON", "pairs"]

KNOWN = {fault.name: fault for fault in (*FORWARD_FAULTS, *BACKWARD_FAULTS)}
NAMED = (
    "unbiased_variance",
    "eps_outside_root",
    "divided_by_squared_variance",
    "mean_term_dropped",
    "projection_dropped",
    "gamma_forgotten",
)
COMMON: tuple[Fault, ...] = (
    *(KNOWN[name] for name in NAMED),
    replaced("term left out", "eps is ignored", "r = var^(-1/2)", rstd=lambda w: w.var**-0.5),
    replaced(
        "term left out", "beta is not added", "y = gamma x_hat", y=lambda w: w.scale * w.x_hat
    ),
    left_out("scale"),
    replaced("term left out", "x is not centred", "x_hat = r x", x_hat=lambda w: w.x * w.rstd),
    replaced(
        "factor",
        "gamma is outside of the averages",
        "gamma r (dy - E[dy] - x_hat E[dy x_hat])",
        centre=lambda w: w.scale * w.average(w.dy) if w.centred else 0,
        projection=lambda w: w.x_hat * w.scale * w.average(w.dy * w.x_hat),
    ),
    factor("centre", SIZES["m"]),
    factor("projection", SIZES["m"]),
    *(sign(step) for step in ("centre", "projection", "dx", "dgamma")),
    *(factor(step, SIZES["1/N"]) for step in ("dx", "dgamma")),
    factor("dgamma", SIZES["1/n"]),
)


def pairs(faults: Sequence[Fault]) -> Iterator[Fault]:
    """Yield the faults that two at a time, which are of different steps, come to."""
    for one, other in combinations(faults, 2):
        if not {*one.edits, *one.backward} & {*other.edits, *other.backward}:
            yield Fault(
                one.kind,
                f"two things: {one.what}; and {other.what}",
                edits={**one.edits, **other.edits},
                backward={**one.backward, **other.backward},
            )
