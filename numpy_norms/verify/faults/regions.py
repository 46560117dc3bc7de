"""What a sum may run over in place of its set: other axes, a block, a tile of neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from numpy_norms.oracle.sets import FEATURE_NORMS
from numpy_norms.verify.plain import Array, Work

from .grammar import Average

__all__ = [
    "BLOCKS",
    "axes_by_name",
    "blocks",
    "in_rows",
    "over_axes",
    "over_blocks",
    "over_equal_blocks",
    "over_memory",
    "over_tiles",
    "over_view",
    "within_set",
    "within_sum",
]


def axes_by_name(norm: str, rank: int, features: int) -> dict[str, tuple[int, ...]]:
    """Return what the axes of an `x`, and their combinations, are called, but for its own."""
    named, own = _named(norm, rank, features)
    return {name: axes for name, axes in named.items() if axes and axes != own}


def _named(
    norm: str, rank: int, features: int
) -> tuple[dict[str, tuple[int, ...]], tuple[int, ...] | None]:
    """Return all, and the norm's own, if they are axes of `x`."""
    every = tuple(range(rank))
    if norm in FEATURE_NORMS:
        named = {
            "all axes but the first": every[1:],
            "the first axis": every[:1],
            "the rows: batch norm's axes": every[: rank - features],
            "all axes": every,
            "the last axis alone": every[-1:],
            "the last two axes": every[-2:],
            "all axes but the last": every[:-1],
            "the last of the other axes": every[rank - features - 1 : rank - features],
            "the other axes but the first": every[1 : rank - features],
        }
        return named, every[rank - features :]
    positions = every[2:]
    named = {
        "N and S: these are batch norm's axes": (0, *positions),
        "S alone: these are instance norm's axes": positions,
        "C and S: these are layer norm's axes": every[1:],
        "N, C and S: all axes": every,
        "N alone": (0,),
        "C alone": (1,),
        "N and C": (0, 1),
        "the last axis alone": every[-1:],
    }
    return named, {"batch_norm": (0, *positions), "instance_norm": positions}.get(norm)


def over_axes(name: str) -> Average:
    """Return an average over other axes of `x`, by their name; of none, each is its own."""

    def average(w: Work, a: Array) -> Array:
        named, own = _named(w.norm, len(w.shape), w.features)
        axes = named[name]
        if axes == own:
            return w.average(a)
        whole = np.broadcast_to(a, w.view.shape).reshape(w.shape)
        means = np.broadcast_to(whole.mean(axis=axes, keepdims=True), w.shape)
        return np.asarray(means.reshape(w.view.shape))

    return average


def over_view(axes: tuple[int, ...]) -> Average:
    """Return an average over other axes of the norm's own view of `x`."""

    def average(w: Work, a: Array) -> Array:
        return np.asarray(np.broadcast_to(a, w.view.shape).mean(axis=axes, keepdims=True))

    return average


def over_tiles(size: int) -> Average:
    """Return an average over so many neighbouring sets at once."""

    def average(w: Work, a: Array) -> Array:
        means = w.average(np.broadcast_to(a, w.view.shape))
        return _of_neighbours(size, means.reshape(-1)).reshape(means.shape)

    return average


def over_blocks(size: int) -> Average:
    """Return an average over each block of so many neighbours in a set."""
    return lambda w, a: in_rows(w, a, partial(_of_neighbours, size))


def over_equal_blocks(size: int) -> Average:
    """Return the average of the averages of blocks, of which the last may be shorter."""

    def average(w: Work, a: Array) -> Array:
        return in_rows(w, a, partial(_equally, size))

    return average


def _equally(size: int, rows: Array) -> Array:
    means = _of_neighbours(size, rows)[:, ::size].mean(axis=1, keepdims=True)
    return np.broadcast_to(means, rows.shape)


def over_memory(*, last: bool) -> Average:
    """Return an average over the sets that x would have if its memory had channels last.

    Or, where channels are last, second.
    """

    def average(w: Work, a: Array) -> Array:
        there, back = (_as_last, _as_second)[:: 1 if last else -1]
        whole = np.broadcast_to(a, w.view.shape).reshape(w.shape)
        means = w.average(there(whole).reshape(w.view.shape))
        every = np.broadcast_to(means, w.view.shape).reshape(w.shape)
        return np.asarray(back(every).reshape(w.view.shape))

    return average


def _as_last(a: Array) -> Array:
    """Take the memory of (N, C, *S) for that of (N, *S, C), and bring channels second again."""
    return np.moveaxis(a.reshape(a.shape[0], *a.shape[2:], a.shape[1]), -1, 1)


def _as_second(a: Array) -> Array:
    """Undo it: take the memory of (N, *S, C) for that of (N, C, *S)."""
    return np.moveaxis(a, 1, -1).reshape(a.shape)


def _of_neighbours(size: int, rows: Array) -> Array:
    """Return for each number the mean of the block of so many along the last axis that it is in."""
    starts = np.arange(0, rows.shape[-1], size)
    counts = np.diff(np.append(starts, rows.shape[-1]))
    means = np.add.reduceat(rows, starts, axis=-1) / counts.astype(rows.dtype)
    return np.asarray(np.repeat(means, counts, axis=-1))


def in_rows(w: Work, a: Array, change: Callable[[Array], Array]) -> Array:
    """Return what a change makes of an array whose rows are the sets."""
    order = [axis for axis in range(4) if axis not in w.view.over] + [*w.view.over]
    sets = np.transpose(np.broadcast_to(a, w.view.shape), order)
    changed = change(sets.reshape(-1, w.view.set_size)).reshape(sets.shape)
    return np.asarray(np.transpose(changed, np.argsort(order)))


def _kept(name: str, size: int, count: int) -> Array:
    """Return which of `count` terms a region holds, or how often."""
    index = np.arange(count)
    if name in TWICE:
        return np.int8(1) + _kept(TWICE[name], size, count)
    if name in PARTS:
        first, end = PARTS[name](size)
        return np.asarray((index % size >= first) & (index % size < end))
    last_block = (count - 1) // size * size
    first, end = {
        "first": (0, size),
        "last block": (last_block, count),
        "whole blocks": (0, count - count % size),
        "but last": (0, count - size),
        "but first": (size, count),
        "but last block": (0, max(last_block, 1)),
        "overlap": (max(count - size, 0), count // size * size),
        "first half": (0, max(count // 2, 1)),
        "first half, rounded up": (0, (count + 1) // 2),
        "second half": (count // 2, count),
    }[name]
    return np.asarray((index >= first) & (index < end))


def _shaped(kept: Array, w: Work, axes: tuple[int, ...]) -> Array:
    return kept.reshape([n if axis in axes else 1 for axis, n in enumerate(w.view.shape)])


def within_set(name: str, size: int, *, own_count: bool = False) -> Average:
    """Return an average that leaves out what lies beyond a region of each set.

    It is divided by m, or by its own count of terms.
    """

    def average(w: Work, a: Array) -> Array:
        kept = _kept(name, size, w.view.set_size)
        share = w.x.dtype.type(w.view.set_size / max(int(kept.sum()), 1) if own_count else 1)
        return np.asarray(w.average(a * _shaped(kept, w, w.view.over)) * share)

    return average


def within_sum(name: str, size: int, *, samples: bool = False) -> Average:
    """Return a sum over a region of what dgamma and dbeta add up, or of the samples."""

    def total(w: Work, a: Array) -> Array:
        axes = (0,) if samples else w.view.summed
        count = math.prod(w.view.shape[axis] for axis in axes)
        return w.total(a * _shaped(_kept(name, size, count), w, axes))

    return total


BLOCKS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
# Parts of each block of neighbours: what lanes or vectors that are lost leave.
PARTS: dict[str, Callable[[int], tuple[int, int]]] = {
    "first halves": lambda size: (0, size // 2),
    "last halves": lambda size: (size // 2, size),
    "heads": lambda size: (0, 1),
    "bodies": lambda size: (0, size - 1),
}
PERIODS = {
    "first halves": (2, 8, 32, 64, 256),
    "last halves": (2,),
    "heads": (4, 32),
    "bodies": (4, 8),
}
# Regions that are added up twice, with all others once.
TWICE = {
    "last block twice": "last block",
    "overlap twice": "overlap",
}
SHARES = {
    "first half": "the first half only",
    "first half, rounded up": "the first half only",
    "second half": "the second half only",
}
WORDS = {
    "last block twice": "all, and the last block of {} twice",
    "overlap twice": "all, and twice where the last {} overlap whole blocks of as many",
    "first halves": "the first half of each {} only",
    "last halves": "the last half of each {} only",
    "heads": "the first of each {} only",
    "bodies": "all but the last of each {}",
    "first": "the first {} only",
    "last block": "the last block of {} only",
    "whole blocks": "whole blocks of {} only: the rest at the end is lost",
    "but last": "all but the last {}",
    "but first": "all but the first {}",
    "but last block": "all but the last block of {}",
}


def blocks(largest: int) -> Iterator[tuple[str, int, str]]:
    """Yield the regions that sums over at most so many terms can lose, with their words."""
    powers = [2**k for k in range(20) if 2**k < largest]
    for name in ("first", "last block", "whole blocks", "but last block"):
        for size in powers if name != "whole blocks" else powers[1:]:
            yield name, size, WORDS[name].format(size)
    for name, sizes in PERIODS.items():
        for size in sizes:
            if size < largest:
                yield name, size, WORDS[name].format(size)
    for name in ("but last", "but first"):
        for size in (1, 2, 3):
            if size < largest:
                yield name, size, WORDS[name].format(size)
    yield from ((name, 2, words) for name, words in SHARES.items())
    for name in TWICE:
        for size in (1, 2, *BLOCKS) if name != "overlap twice" else BLOCKS:
            if size < largest:
                yield name, size, WORDS[name].format(size)
