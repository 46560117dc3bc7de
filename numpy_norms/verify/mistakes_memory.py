"""Mistakes in how memory is read and written: strides, blocks, tails, and arguments overwritten."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .mistake import Mistake
from .mistakes_forward import statistics_over
from .plain import STEPS, Array, Kernel, Step, Work

__all__ = ["MEMORY_MISTAKES"]

BLOCK = 1024
TILE = 32
GRID = 65535


def _one_block(w: Work, a: Array) -> Array:
    sizes = [size if axis in w.view.over else 1 for axis, size in enumerate(w.view.shape)]
    inside = np.arange(math.prod(sizes)).reshape(sizes) < BLOCK
    return w.average(a * inside)


def _padded_count(w: Work, a: Array) -> Array:
    size = w.view.set_size
    padded = -(-size // TILE) * TILE
    return np.asarray(w.average(a) * (size / padded))


def _within_grid(name: str) -> Step:
    """Return a step that leaves the sets from number 65535 on at zero."""

    def step(w: Work) -> Array:
        sets = [1 if axis in w.view.over else size for axis, size in enumerate(w.view.shape)]
        inside = np.arange(math.prod(sets)).reshape(sets) < GRID
        return np.asarray(np.where(inside, STEPS[name](w), 0))

    return step


def _memory(a: Any) -> Array:
    """Return `a` as a kernel sees it that was given the address and no strides."""
    a = np.asarray(a)
    owner = a
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    start = (a.ctypes.data - owner.ctypes.data) // max(a.itemsize, 1)
    return np.resize(owner.ravel(order="K")[start:], a.shape)


def _x_by_address(forward: Kernel, backward: Kernel) -> tuple[Kernel, Kernel]:
    return (
        lambda x, *rest: forward(_memory(x), *rest),
        lambda dy, x, *rest: backward(dy, _memory(x), *rest),
    )


def _dy_by_address(forward: Kernel, backward: Kernel) -> tuple[Kernel, Kernel]:
    return forward, lambda dy, *rest: backward(_memory(dy), *rest)


def _dx_into_dy(forward: Kernel, backward: Kernel) -> tuple[Kernel, Kernel]:
    def in_place(dy: Any, *rest: Any) -> Any:
        dx, *others = backward(dy, *rest)
        if dy.flags.writeable:
            dy[...] = dx
        return (dx, *others)

    return forward, in_place


def _interleaved(forward: Kernel, backward: Kernel) -> tuple[Kernel, Kernel]:
    """Have channel c belong to group c mod G."""

    def ahead(x: Any, groups: int, gamma: Any, beta: Any, eps: float) -> Any:
        order = np.arange(len(gamma)).reshape(-1, groups).T.ravel()
        y = forward(x[:, order], groups, gamma[order], beta[order], eps)
        return y[:, np.argsort(order)]

    def back(dy: Any, x: Any, groups: int, gamma: Any, beta: Any, eps: float) -> Any:
        order = np.arange(len(gamma)).reshape(-1, groups).T.ravel()
        undo = np.argsort(order)
        arrays = (dy[:, order], x[:, order], groups, gamma[order], beta[order], eps)
        dx, dgamma, dbeta = backward(*arrays)
        return dx[:, undo], dgamma[undo], dbeta[undo]

    return ahead, back


MEMORY_MISTAKES = (
    Mistake(
        "one_block_only",
        "statistics leave out what lies beyond the first 1024 positions of a set",
        "mu = sum of the first 1024 x / m, likewise var",
        "facebookresearch/xformers#785",
        steps=statistics_over(_one_block),
    ),
    Mistake(
        "padding_in_count",
        "sums are divided by the size of a set rounded up to tiles of 32",
        "mu = sum x / (ceil(m / 32) 32), likewise var",
        "tenstorrent/tt-metal#42801",
        steps=statistics_over(_padded_count),
    ),
    Mistake(
        "grid_overflow",
        "sets from number 65535 on are never computed",
        "y = 0 and dx = 0 in these sets",
        "NVIDIA/apex#411",
        steps={"y": _within_grid("y"), "dx": _within_grid("dx")},
    ),
    Mistake(
        "x_strides_ignored",
        "x is read as if it were contiguous",
        "x = memory of x, in order",
        "unslothai/unsloth#10675",
        around=_x_by_address,
    ),
    Mistake(
        "dy_strides_ignored",
        "dy is read as if it were contiguous",
        "dy = memory of dy, in order",
        "unslothai/unsloth#10617",
        around=_dy_by_address,
    ),
    Mistake(
        "dy_overwritten",
        "dx is written into the caller's dy",
        "dy := dx",
        "linkedin/Liger-Kernel#1305",
        around=_dx_into_dy,
    ),
    Mistake(
        "interleaved_groups",
        "channel c belongs to group c mod G, not to group c // (C / G)",
        "group of c = c mod G",
        "chainer/chainer#7706",
        ("group_norm",),
        around=_interleaved,
    ),
)
