"""Arrays read or written in the wrong way: strides ignored, buffers left over, overwritten."""

from __future__ import annotations

from typing import Any

import numpy as np

from numpy_norms.verify.plain import Array, Kernel, Work

from .grammar import Fault

__all__ = [
    "accumulating",
    "as_if_channels_were_last",
    "by_address",
    "dx_into_dy",
    "interleaved_groups",
    "width_for_number",
    "within_grid",
]


def as_memory(a: Any) -> Array:
    """Return `a` as a kernel sees it that was given the address and no strides."""
    a = np.asarray(a)
    owner = a
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    start = (a.ctypes.data - owner.ctypes.data) // max(a.itemsize, 1)
    return np.resize(owner.ravel(order="K")[start:], a.shape)


def by_address(name: str) -> Fault:
    """An array is read as if it were contiguous."""

    def around(forward: Kernel, backward: Kernel) -> tuple[Kernel, Kernel]:
        def ahead(*arguments: Any) -> Any:
            return forward(*_read(name, arguments, backward=False))

        def back(*arguments: Any) -> Any:
            return backward(*_read(name, arguments, backward=True))

        return ahead, back

    what = f"{name} is read as if it were contiguous"
    return Fault("stride ignored", what, f"{name} = memory of {name}, in order", around=around)


def _read(name: str, arguments: tuple[Any, ...], *, backward: bool) -> list[Any]:
    """Replace an argument by its memory, where a pass has it."""
    found = list(arguments)
    rms = len(found) == 3 + backward
    parameters = {"gamma": -2} if rms else {"gamma": -3, "beta": -2}
    places = {"x": int(backward), **parameters} | ({"dy": 0} if backward else {})
    if name in places:
        found[places[name]] = as_memory(found[places[name]])
    return found


def accumulating(output: int, name: str) -> Fault:
    """A gradient is added to what an earlier call left in its buffer."""

    def around(forward: Kernel, backward: Kernel) -> tuple[Kernel, Kernel]:
        left: dict[tuple[int, ...], Array] = {}

        def back(*arguments: Any) -> Any:
            found = list(backward(*arguments))
            found[output] = found[output] + left.get(found[output].shape, 0)
            left[found[output].shape] = found[output]
            return tuple(found)

        return forward, back

    what = f"{name} is added to what an earlier call left in its buffer"
    return Fault("stale buffer", what, f"{name} += ...", around=around)


def dx_into_dy() -> Fault:
    """The gradient is written into the caller's dy."""

    def around(forward: Kernel, backward: Kernel) -> tuple[Kernel, Kernel]:
        def in_place(dy: Any, *rest: Any) -> Any:
            dx, *others = backward(dy, *rest)
            if dy.flags.writeable:
                dy[...] = dx
            return (dx, *others)

        return forward, in_place

    return Fault("overwritten", "dx is written into the caller's dy", "dy := dx", around=around)


def interleaved_groups() -> Fault:
    """Channel c belongs to group c mod G."""

    def around(forward: Kernel, backward: Kernel) -> tuple[Kernel, Kernel]:
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

    what = "channel c belongs to group c mod G, not to group c // (C / G)"
    return Fault("axis", what, "group of c = c mod G", norms=("group_norm",), around=around)


def as_if_channels_were_last() -> Fault:
    """The memory of (N, C, *S) is taken for that of (N, *S, C)."""

    def taken(a: Any) -> Array:
        return np.moveaxis(np.reshape(a, (a.shape[0], *a.shape[2:], a.shape[1])), -1, 1)

    def given(a: Array, shape: tuple[int, ...]) -> Array:
        return np.moveaxis(a, 1, -1).reshape(shape)

    def around(forward: Kernel, backward: Kernel) -> tuple[Kernel, Kernel]:
        def ahead(x: Any, *rest: Any) -> Any:
            return given(forward(taken(x), *rest), x.shape)

        def back(dy: Any, x: Any, *rest: Any) -> Any:
            dx, *others = backward(taken(dy), taken(x), *rest)
            return (given(dx, x.shape), *others)

        return ahead, back

    what = "x is read as if channels were last"
    norms = ("batch_norm", "group_norm", "instance_norm")
    return Fault("axis", what, "x as (N, S, C)", norms=norms, around=around)


def width_for_number() -> Fault:
    """The number of groups is taken for the channels of a group."""

    def around(forward: Kernel, backward: Kernel) -> tuple[Kernel, Kernel]:
        def ahead(x: Any, groups: int, *rest: Any) -> Any:
            return forward(x, x.shape[1] // groups, *rest)

        def back(dy: Any, x: Any, groups: int, *rest: Any) -> Any:
            return backward(dy, x, x.shape[1] // groups, *rest)

        return ahead, back

    what = "num_groups is taken for the number of channels of a group"
    return Fault("axis", what, "C / G groups", norms=("group_norm",), around=around)


def within_grid(grid: int) -> Fault:
    """The sets from a number on are never computed."""

    def inside(w: Work, value: Any) -> Array:
        sets = [1 if axis in w.view.over else size for axis, size in enumerate(w.view.shape)]
        return np.asarray(np.where(np.arange(np.prod(sets)).reshape(sets) < grid, value, 0))

    what = f"sets from number {grid} on are never computed"
    edits = {"y": inside, "dx": inside}
    return Fault("block lost", what, "y = 0 and dx = 0 in these sets", edits=edits)
