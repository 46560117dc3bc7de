"""Cases made of others: under masks, and with a part of x given apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .arrangement import Arrangement
from .plain import Array

if TYPE_CHECKING:
    from .battery import Case

__all__ = ["leading", "under_masks"]

ANYTHING = {"far": 1e3, "nan": np.nan}  # what lies where nothing counts


def under_masks(arrangement: Arrangement, case: Case, seed: int) -> Iterator[Case]:
    """Yield a case under masks with holes, with ends left out, and with whole sets left out."""
    inner = arrangement.inward(case.x)
    for kind, counts in _masks(arrangement, case, np.random.default_rng(seed)):
        where = np.ascontiguousarray(arrangement.outward(counts.reshape(inner.shape)))
        for what, size in ANYTHING.items():
            x = np.where(where, case.x, size * (1 + abs(case.x))).astype(case.x.dtype)
            yield replace(
                case,
                name=f"mask_{kind}_{what}",
                why=f"a mask with {kind} over {what} numbers",
                x=x,
                residual=None if case.residual is None else leading(x),
                dy=np.where(where, case.dy, 0).astype(case.dy.dtype),
                where=where,
                exact_for=(),
            )


def _masks(
    arrangement: Arrangement, case: Case, rng: np.random.Generator
) -> Iterator[tuple[str, Array]]:
    """Yield masks on the norm's own view; without eps, no set is left without variance."""
    view = arrangement.view(arrangement.inward(case.x), case.gamma, case.num_groups)
    shape = view.shape
    axis = max(view.over, key=shape.__getitem__)
    place = np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(4)])
    lengths = [1 if a == axis else n for a, n in enumerate(shape)]
    least = 2 if case.eps == 0 and case.norm != "rms_norm" else 1
    ends = place < rng.integers(least, shape[axis] + 1, lengths)
    yield "holes", ends | (rng.random(shape) < 0.6)
    yield "ends", ends
    some = rng.random([1 if a in view.over else n for a, n in enumerate(shape)]) < 0.5
    some.flat[0], some.flat[-1] = False, True
    if case.norm != "batch_norm" and case.eps > 0 and not some.all():
        yield "sets", ends & some


def leading(x: Array) -> Array:
    """Return x to three bits, so that x less this, and the sum again, are exact."""
    wide = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        mantissa, exponent = np.frexp(wide)
        found = np.ldexp(np.round(mantissa * 8) / 8, exponent)
    limit = float(np.finfo(x.dtype).max) if x.dtype.kind == "f" else math.inf
    return np.asarray(np.where(abs(found) <= limit, found, wide).astype(x.dtype))
