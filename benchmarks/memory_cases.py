"""What memory is measured on: norms at shapes that grow, and data for them that is quickly made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import numpy_norms

from .grid import EPS, NUM_GROUPS, Array, Entry, Problem

MIB = 2**20

# A family is a norm and a shape that grows with `n`.
FAMILIES: dict[str, Callable[[int], Entry]] = {
    "layer (n, 1024)": lambda n: Entry("layer", (n // 1024, 1024)),
    "layer (8, n)": lambda n: Entry("layer", (8, n // 8)),
    "rms (n, 1024)": lambda n: Entry("rms", (n // 1024, 1024)),
    "batch (n, 64, 28, 28)": lambda n: Entry("batch", (n // (64 * 784), 64, 28, 28)),
    "batch (n, 128)": lambda n: Entry("batch", (n // 128, 128)),
    "group (n, 64, 28, 28)": lambda n: Entry("group", (n // (64 * 784), 64, 28, 28)),
    "instance (4, 8, n)": lambda n: Entry("instance", (4, 8, n // 32)),
}


def entry_of(family: str, mebibytes: float) -> Entry:
    """Return the entry of a family whose float32 x takes about so many MiB."""
    return FAMILIES[family](int(mebibytes * MIB) // 4)


def passes(entry: Entry, dtype: str | None) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the forward and the backward function of a norm."""
    module = numpy_norms
    forward = getattr(module, f"{entry.norm}_norm_forward")
    if entry.norm == "group":
        group = forward

        def forward(x: Array, *rest: Any, **options: Any) -> Any:
            return group(x, NUM_GROUPS, *rest, **options)

    return partial(forward, eps=EPS, dtype=dtype), getattr(module, f"{entry.norm}_norm_backward")


def data(entry: Entry) -> Problem:
    """Return a problem whose large arrays repeat a piece of random numbers: quickly made."""
    size = int(np.prod(entry.shape))
    piece = Problem.of(Entry("layer", (min(size, 1 << 20), 1)))
    ends = Problem.of(Entry(entry.norm, (1, entry.width)))
    x, dy = (np.resize(a, entry.shape) for a in (piece.x, piece.dy))
    return Problem(entry, x, ends.gamma, ends.beta, dy)
