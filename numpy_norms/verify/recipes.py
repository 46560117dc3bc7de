"""What each case of the battery is made of, and why it is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from numpy_norms.oracle.sets import NORMS

from . import draft
from .faults.grammar import CENTRED
from .plain import Array, View
from .tolerances import roundoff

__all__ = ["EMPTY", "RECIPES", "Recipe"]

Change = Callable[[draft.Draft], None]
Layout = Callable[[Array], Array]


def _as_is(_: draft.Draft) -> None:
    return


def _contiguous(a: Array) -> Array:
    return a


def every_second(a: Array) -> Array:
    """Return `a` with a stride of 2 along its last axis, other values in between."""
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), 3, a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def first_row_only(a: Array) -> Array:
    """Return the first row of `a` in place of all, with a stride of 0.

    It can be written to, as PyTorch demands of what it shares memory with.
    """
    row = np.array(a[:1])
    return np.lib.stride_tricks.as_strided(row, a.shape, (0, *row.strides[1:]))


def one_everywhere(a: Array) -> Array:
    """Return the gradient that the sum of all outputs sends back: a single 1, strides of 0."""
    return np.lib.stride_tricks.as_strided(np.ones(1, a.dtype), a.shape, (0,) * a.ndim)


@dataclass(frozen=True)
class Recipe:
    """A case before its values are drawn.

    `kind` names a shape. `std` is the standard deviation within a set, `offset` the mean in units
    of it, or a power of the largest that the type can take; `eps` is in units of its square.
    """

    name: str
    why: str
    kind: str = "ordinary"
    std: float = 1.5
    offset: float | str = 2.0
    eps: float = 0.3
    change: Change = _as_is
    x_layout: Layout = _contiguous
    dy_layout: Layout = _contiguous
    parameter_layout: Layout = _contiguous
    norms: tuple[str, ...] = NORMS
    exact_for: tuple[str, ...] = ()

    def fits(self, view: View) -> bool:
        """Return whether an x of the caller's own shape can have these values."""
        size = view.set_size
        if self.kind in ("exact", "exact_long"):
            return self.kind == "exact" and size >= 4 and size & (size - 1) == 0 and size <= 4096
        if self.kind == "tail":
            return view.shape[0] > 3
        return self.kind not in ("single", "pair", "long", "many", "flat", "few")

    def divides(self, view: View) -> bool:
        """Return whether the variance of each set is above 0, so that eps may be 0."""
        constant = self.change in (draft.constant_sets, draft.constant_about_mean)
        return view.set_size > 1 and not constant

    def mean(self, dtype: np.dtype[Any]) -> float:
        """Return the mean in units of the standard deviation."""
        if not isinstance(self.offset, str):
            return self.offset
        largest = min(0.15 / roundoff(dtype), 5e3 if roundoff(dtype) > 1e-10 else 1e7)
        return float(largest) if self.offset == "large" else float(np.sqrt(2 * largest))


EMPTY = Recipe("empty", "a batch of none: y and dx are empty, dgamma and dbeta 0")
_ANY = ("any", "pairwise", "naive")
_SUMS = ("pairwise", "naive")

RECIPES = (
    Recipe("ordinary", "nothing special: distinct sizes, a mean, eps near the variance"),
    Recipe("flat", "x of the lowest rank", "flat", eps=0.1),
    Recipe("deep", "x of rank 5", "deep", eps=1.0),
    Recipe("few", "a batch of one, in sets of 4095: whole blocks of no size", "few"),
    Recipe("single", "sets of one value: y is beta, dx is 0", "single"),
    Recipe("pair", "sets of two values: dx is small against its terms", "pair"),
    Recipe("large_eps", "eps ten times the variance", eps=10.0),
    Recipe("common_eps", "eps 1e-5 beside a variance of 1", std=1.0, eps=1e-5),
    Recipe("small_scale", "eps and variance of 1e-6", std=1e-3, eps=1.0),
    Recipe(
        "tiny_scale",
        "eps of 2e-8, which float16 cannot hold",
        std=1.5e-4,
        eps=0.9,
        change=draft.small_dy,
    ),
    Recipe("medium_offset", "a mean far above the deviation", offset="medium"),
    Recipe("large_offset", "a mean at the end of what the type allows", offset="large"),
    Recipe("far_set", "one set far from the others", change=partial(draft.far_set, 300.0)),
    Recipe("spike", "one value of each set far above the rest", change=partial(draft.spike, 300.0)),
    Recipe("constant_sets", "sets without variance", std=0.2, eps=0.5, change=draft.constant_sets),
    Recipe(
        "far_constant",
        "sets without variance, far from 0, with a small eps",
        "deep",
        std=1.0,
        offset="large",
        eps=1e-4,
        change=draft.constant_about_mean,
    ),
    Recipe("half_overflow", "values whose squares overflow float16", std=300.0),
    Recipe(
        "long_sets",
        "sets longer than 65536, and than any block, whose last value counts most",
        "long",
        change=draft.heavy_end,
    ),
    Recipe(
        "many_sets",
        "more than 65535 sets; the gradient of the last row weighs most",
        "many",
        change=draft.heavy_last_rows,
    ),
    Recipe(
        "tail", "1031 rows, the gradient in the last 3", "tail", change=draft.dy_only_in_last_rows
    ),
    Recipe("strided_x", "x with a stride of 2 in its last axis", x_layout=every_second),
    Recipe("strided_dy", "dy with a stride of 2 in its last axis", dy_layout=every_second),
    Recipe(
        "strided_gamma",
        "gamma and beta with a stride of 2 in their last axis",
        parameter_layout=every_second,
    ),
    Recipe(
        "column_major",
        "x and dy with their first axis fastest",
        x_layout=np.asfortranarray,
        dy_layout=np.asfortranarray,
    ),
    Recipe("repeated_dy", "dy repeated with a stride of 0", dy_layout=first_row_only),
    Recipe("dy_of_a_sum", "dy of 1 everywhere: dx is rounding noise", dy_layout=one_everywhere),
    Recipe("zero_dy", "no gradient comes in: none goes out", change=draft.zero_dy),
    Recipe("zero_gamma", "one gamma 0, one tiny", change=draft.zero_gamma),
    Recipe("one_nan", "a NaN stays within its set", change=draft.one_nan),
    Recipe(
        "exact",
        "values that make every operation exact",
        "exact",
        change=partial(draft.exact, 0.0),
        exact_for=_ANY,
    ),
    Recipe(
        "exact_long",
        "the same in sets of 4096",
        "exact_long",
        change=partial(draft.exact, 0.0),
        exact_for=_ANY,
    ),
    Recipe(
        "exact_offset",
        "the same about a mean of 5",
        "exact",
        change=partial(draft.exact, 5.0),
        norms=CENTRED,
        exact_for=_SUMS,
    ),
)
