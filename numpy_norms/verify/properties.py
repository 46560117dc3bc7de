"""What servers of models ask of a kernel: the same bits again, whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .arrangement import Arrangement
from .battery import Case
from .plain import Array
from .report import Row
from .runs import Run

__all__ = ["REQUIRABLE", "properties", "required_rows"]

AGAIN = "the same bits when called again"
ALONE = "the same bits for a row alone and in a batch"
POSITION = "the same bits at any position in the batch"
OTHERS = "the same bits whatever else is in the batch: padding, packed rows"
REQUIRABLE = {"repeatable": (AGAIN,), "batch_invariant": (ALONE, POSITION, OTHERS)}
Call = Callable[[Case], Run]


def properties(
    arrangement: Arrangement,
    case: Case,
    call: Call,
    pairs: Sequence[tuple[Run, Run]],
    *,
    alone: bool,
) -> dict[str, bool]:
    """Return what a kernel has of them, by their names; those that can be asked of it.

    Parameters
    ----------
    arrangement : Arrangement
    case : Case
        The one whose rows are moved about.
    call : callable
        Runs the kernel on a case.
    pairs : sequence of pairs of Run
        What came of the same case twice, of `case` first.
    alone : bool
        Whether it may be called with a batch of one.
    """
    found = {AGAIN: all(one.bits() == two.bits() for one, two in pairs)}
    if case.norm == "batch_norm" or arrangement.inward(case.x).ndim <= arrangement.features:
        return found
    whole = list(_rows(arrangement, case, pairs[0][0]))
    n = len(arrangement.inward(case.x))
    if not whole:
        return found

    def same(batch: Array, others: Array | None, kept: Sequence[int], at: Sequence[int]) -> bool:
        moved = _with_rows(arrangement, case, batch, others)
        rows = _rows(arrangement, moved, call(moved))
        return all(
            np.array_equal(one[list(kept)], two[list(at)], equal_nan=True)
            for one, two in zip(whole, rows, strict=True)
        )

    every = np.arange(n)
    try:
        if alone:
            found[ALONE] = all(same(every[i : i + 1], None, [i], [0]) for i in range(n))
        found[POSITION] = same(every[::-1], None, range(n), range(n)[::-1])
        half = range(-(-n // 2))
        packed = np.where(every < len(half), every, (every + 1) % n)
        found[OTHERS] = same(packed, None, half, half) and same(every, packed, half, half)
    except ValueError:  # it raised, or returned another number of rows
        found |= dict.fromkeys((ALONE, POSITION, OTHERS)[not alone :], False)
    return found


def required_rows(has: dict[str, bool], require: Sequence[str]) -> Iterator[Row]:
    """Yield a law for each property that a kernel promises."""
    for promise in require:
        for name in REQUIRABLE[promise]:
            if name in has:
                size = 0.0 if has[name] else np.inf
                yield Row("properties", name, size, size, size, has[name], law=True)


def _rows(arrangement: Arrangement, case: Case, found: Run) -> Iterator[Array]:
    for name in ("y", "dx"):
        if name in found.results and found.results[name].shape == case.x.shape:
            yield arrangement.inward(found.results[name])


def _with_rows(arrangement: Arrangement, case: Case, batch: Array, padded: Any) -> Case:
    """Return the case with these of its rows; with 0 where `padded` is another number."""

    def taken(a: Array) -> Array:
        rows = arrangement.inward(a)[batch].copy()
        if padded is not None:
            rows[padded != batch] = 0
        return np.ascontiguousarray(arrangement.outward(rows))

    residual = None if case.residual is None else taken(case.residual)
    return replace(case, x=taken(case.x), dy=taken(case.dy), residual=residual)
