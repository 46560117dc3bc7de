"""The grid of the comparisons: which norms at which shapes, on what data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

EPS = 1e-5
NUM_GROUPS = 8
DIRECTIONS = ("forward", "backward")


class Entry(NamedTuple):
    """A norm and the shape of x; channels are on axis 1, layer and RMS norm take the last axis."""

    norm: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.norm} {self.shape}"

    @property
    def width(self) -> int:
        """The length of gamma."""
        return self.shape[1]

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters that the norm has."""
        return ("gamma",) if self.norm == "rms" else ("gamma", "beta")


def _each(norms: str, *shapes: tuple[int, ...]) -> tuple[Entry, ...]:
    return tuple(Entry(norm, shape) for norm in norms.split() for shape in shapes)


GRID: dict[str, tuple[Entry, ...]] = {
    "large": (
        *_each("layer rms", (8192, 1024), (1024, 8192)),
        *_each("group instance batch", (32, 64, 56, 56), (32, 256, 28, 28)),
        *_each("batch", (65536, 128)),
    ),
    "middle": (
        *_each("layer rms", (1024, 768), (256, 768)),
        *_each("group instance batch", (8, 64, 28, 28)),
        *_each("batch", (2048, 256)),
    ),
    "small": (
        *_each("layer rms", (1, 768), (8, 768)),
        *_each("group instance batch", (1, 32, 8, 8)),
        *_each("batch", (32, 64)),
    ),
}

# Shapes that take no time, to see that everything still runs.
SMOKE: dict[str, tuple[Entry, ...]] = {
    "large": (*_each("layer rms", (6, 40)), *_each("group instance batch", (3, 16, 5, 7))),
    "middle": _each("batch", (12, 10)),
    "small": _each("layer", (1, 20)),
}


class Problem(NamedTuple):
    """An entry with float32 data: mean / standard deviation 1/3, signed gamma, random dy."""

    entry: Entry
    x: Array
    gamma: Array
    beta: Array
    dy: Array

    @classmethod
    def of(cls, entry: Entry, seed: int = 0, mean: float = 1 / 3) -> Problem:
        """Draw the data of an entry."""
        rng = np.random.default_rng(seed)

        def normal(shape: tuple[int, ...]) -> Array:
            return rng.standard_normal(shape, dtype=np.float32)

        x = normal(entry.shape)
        x += np.float32(mean)
        gamma, beta = normal((entry.width,)), normal((entry.width,))
        return cls(entry, x, gamma, beta, normal(entry.shape))

    @property
    def named(self) -> dict[str, Array]:
        """The array arguments of the norm's forward pass, by name."""
        return {name: getattr(self, name) for name in ("x", *self.entry.parameters)}

    @property
    def arguments(self) -> tuple[Array, ...]:
        """The array arguments of the norm's forward pass, in order."""
        return tuple(self.named.values())
