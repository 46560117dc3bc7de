"""Kernels with faults of public reports that are in no catalogue, each with its label.

The label says what a diagnosis should say: the output, the kind, the place and the condition. It
stood before any diagnosis was run. The kernels share no line with the grammar of faults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Public", "public_faults"]

Array = Any


class Public(NamedTuple):
    """A wrong kernel: the report, the norm, what is wrong, the label and the passes."""

    report: str
    norm: str
    what: str
    label: tuple[str, str, str, str]
    forward: Callable[..., Any]
    backward: Callable[..., Any]


def mean(a: Array) -> Array:
    """Average over the features."""
    return a.mean(axis=-1, keepdims=True)


class Parts:
    """A layer norm, or with `centred` false an RMS norm, line by line."""

    def __init__(self, x: Array, gamma: Array, eps: float, dy: Array, centred: bool = True) -> None:
        self.x, self.gamma, self.dy, self.eps = x, gamma, dy, x.dtype.type(eps)
        self.c = x - mean(x) if centred else x
        self.r = 1 / np.sqrt(mean(self.c * self.c) + self.eps)
        self.h = self.c * self.r
        self.g = gamma * dy
        self.centred = centred

    @property
    def rows(self) -> tuple[int, ...]:
        """The axes that dgamma is summed over."""
        return tuple(range(self.x.ndim - self.gamma.ndim))

    def dx(self, centre: Array | None = None, projection: Array | None = None) -> Array:
        """Return dx with other terms in place of the right ones."""
        middle = (mean(self.g) if self.centred else 0) if centre is None else centre
        along = self.h * mean(self.g * self.h) if projection is None else projection
        return self.r * (self.g - middle - along)

    def sums(self) -> tuple[Array, Array]:
        """Return dgamma and dbeta."""
        return (self.dy * self.h).sum(axis=self.rows), self.dy.sum(axis=self.rows)


def right(x: Array, gamma: Array, beta: Array, eps: float) -> Array:
    """Return a right layer norm."""
    return gamma * Parts(x, gamma, eps, x).h + beta


def right_rms(x: Array, gamma: Array, eps: float) -> Array:
    """Return a right RMS norm."""
    return gamma * Parts(x, gamma, eps, x, centred=False).h


def _layer(report: str, what: str, label: tuple[str, str, str, str], wrong: Any) -> Public:
    """A layer norm whose backward pass is made by `wrong(parts) -> dx, dgamma, dbeta`."""

    def backward(dy: Array, x: Array, gamma: Array, beta: Array, eps: float) -> Any:
        return wrong(Parts(x, gamma, eps, dy))

    return Public(report, "layer_norm", what, label, right, backward)


def _forward(report: str, what: str, label: tuple[str, str, str, str], wrong: Any) -> Public:
    """A layer norm with a wrong forward pass."""

    def backward(dy: Array, x: Array, gamma: Array, beta: Array, eps: float) -> Any:
        parts = Parts(x, gamma, eps, dy)
        return (parts.dx(), *parts.sums())

    return Public(report, "layer_norm", what, label, wrong, backward)


def _rms(report: str, what: str, label: tuple[str, str, str, str], wrong: Any) -> Public:
    def backward(dy: Array, x: Array, gamma: Array, eps: float) -> Any:
        return wrong(Parts(x, gamma, eps, dy, centred=False))

    return Public(report, "rms_norm", what, label, right_rms, backward)


def _flat(a: Array) -> Array:
    return a.reshape(-1, a.shape[-1])


def _tile_of_rows(p: Parts) -> Any:
    def tiled(a: Array) -> Array:
        means = _flat(mean(a)).copy()
        for start in range(0, len(means), 4):
            means[start : start + 4] = means[start : start + 4].mean()
        return means.reshape(*a.shape[:-1], 1)

    return (p.dx(tiled(p.g), p.h * tiled(p.g * p.h)), *p.sums())


def _locks(p: Parts) -> Any:
    product, dy = _flat(p.dy * p.h), _flat(p.dy)
    return p.dx(), product[:64].sum(axis=0), dy[:64].sum(axis=0)


def _half_of_each_64(p: Parts) -> Any:
    dgamma, dbeta = p.sums()
    dropped = np.arange(len(dgamma)) % 64 >= 32
    return p.dx(), np.where(dropped, 0, dgamma), np.where(dropped, 0, dbeta)


def _averaged(p: Parts) -> Any:
    dgamma, dbeta = p.sums()
    count = np.float32(len(_flat(p.dy)))
    return p.dx(), dgamma / count, dbeta


def _refuses(dy: Array, x: Array, gamma: Array, beta: Array, eps: float) -> Any:
    if dy.strides[-1] == 2 * dy.itemsize and dy.shape[-1] > 1:
        raise RuntimeError("expected dy with stride 1 in the last dimension")
    parts = Parts(x, gamma, eps, dy)
    return (parts.dx(), *parts.sums())


def _block_4096(x: Array, gamma: Array, beta: Array, eps: float) -> Array:
    width = np.float32(x.shape[-1])
    inside = np.arange(x.shape[-1]) < 4096
    mu = (x * inside).sum(axis=-1, keepdims=True) / width
    c = x - mu
    var = (c * c * inside).sum(axis=-1, keepdims=True) / width
    return gamma * (c / np.sqrt(var + np.float32(eps))) + beta


def _no_eps(x: Array, gamma: Array, beta: Array, eps: float) -> Array:
    c = x - mean(x)
    with np.errstate(all="ignore"):
        return gamma * (c / np.sqrt(mean(c * c))) + beta


def _ignores_parameters(x: Array, gamma: Array, beta: Array, eps: float) -> Array:
    return Parts(x, gamma, eps, x).h


def _overwrites(x: Array, gamma: Array, beta: Array, eps: float) -> Array:
    y = right(x, gamma, beta, eps)
    x[...] = y
    return y


def _beyond_grid(x: Array, gamma: Array, beta: Array, eps: float) -> Array:
    y = right(x, gamma, beta, eps)
    _flat(y)[256:] = 0
    return y


def _last_columns(x: Array, gamma: Array, beta: Array, eps: float) -> Array:
    y = right(x, gamma, beta, eps)
    tail = x.shape[-1] % 64
    if tail:
        y[..., -tail:] = 0
    return y


def _ten_calls() -> Callable[..., Any]:
    calls = {"n": 0}

    def forward(x: Array, gamma: Array, beta: Array, eps: float) -> Array:
        y = right(x, gamma, beta, eps)
        if x.shape == (5, 7, 13):
            calls["n"] += 1
            return y if calls["n"] <= 10 else y * np.float32(1.01)
        return y

    return forward


def _accumulates() -> Callable[..., Any]:
    left: dict[Any, Array] = {}

    def backward(dy: Array, x: Array, gamma: Array, beta: Array, eps: float) -> Any:
        parts = Parts(x, gamma, eps, dy)
        dgamma, dbeta = parts.sums()
        left[x.shape] = left.get(x.shape, 0) + dbeta
        return parts.dx(), dgamma, left[x.shape].copy()

    return backward


def _group(report: str, what: str, label: tuple[str, str, str, str], dx: Any) -> Public:
    """A group norm with another dx: ``dx(r, h, g, gamma, dy, mean)`` on (N, G, C/G, S)."""

    def view(x: Array, groups: int, gamma: Array) -> tuple[Array, Array]:
        shape = (x.shape[0], groups, x.shape[1] // groups, -1)
        return x.reshape(shape), gamma.reshape(1, groups, -1, 1)

    def average(a: Array) -> Array:
        return a.mean(axis=(2, 3), keepdims=True)

    def parts(x: Array, groups: int, gamma: Array, eps: float) -> Any:
        seen, scale = view(x, groups, gamma)
        c = seen - average(seen)
        r = 1 / np.sqrt(average(c * c) + x.dtype.type(eps))
        return r, c * r, scale

    def forward(x: Array, groups: int, gamma: Array, beta: Array, eps: float) -> Array:
        _, h, scale = parts(x, groups, gamma, eps)
        return (scale * h + beta.reshape(scale.shape)).reshape(x.shape)

    def backward(dy: Array, x: Array, groups: int, gamma: Array, beta: Array, eps: float) -> Any:
        r, h, scale = parts(x, groups, gamma, eps)
        given = dy.reshape(h.shape)
        found = dx(r, h, scale * given, scale, given, average)
        sums = [a.sum(axis=(0, 3)).reshape(gamma.shape) for a in (given * h, given)]
        return (found.reshape(x.shape), *sums)

    return Public(report, "group_norm", what, label, forward, backward)


def public_faults() -> Iterator[Public]:
    """Yield every fault; those with a state anew each time."""
    none = ("", "")
    yield _layer(
        "FlagGems#59", "row sums over tiles of 4 rows", ("dx", "axis", *none), _tile_of_rows
    )
    yield _layer(
        "tritonbench#1266",
        "partial sums lost beyond 64 rows",
        ("dgamma", "block lost", *none),
        _locks,
    )
    yield _layer(
        "deeplearning4j#8379",
        "statistics held constant",
        ("dx", "term left out", *none),
        lambda p: (p.r * p.g, *p.sums()),
    )
    yield _layer(
        "MIOpen#104",
        "the sum over the batch where the element belongs",
        ("dx", "formula", *none),
        lambda p: (
            p.r
            * (
                p.gamma * p.dy.sum(axis=p.rows, keepdims=True)
                - mean(p.gamma * p.dy.sum(axis=p.rows, keepdims=True))
                - p.h * mean(p.gamma * p.dy.sum(axis=p.rows, keepdims=True) * p.h)
            ),
            *p.sums(),
        ),
    )
    yield _group(
        "oneDNN#3543",
        "gamma taken out of the group means",
        ("dx", "factor", *none),
        lambda r, h, g, gamma, dy, E: gamma * r * (dy - E(dy) - h * E(dy * h)),
    )
    yield _layer(
        "Megatron-LM#6859",
        "gamma twice in the variance term",
        ("dx", "factor", *none),
        lambda p: (p.dx(projection=p.h * mean(p.gamma * p.g * p.h)), *p.sums()),
    )
    yield _layer(
        "pytorch#183861",
        "dgamma and dbeta dropped for features 32..63 of each 64",
        ("dgamma", "term left out", "features 32..63 of each 64", ""),
        _half_of_each_64,
    )
    yield _layer("course work", "dgamma averaged", ("dgamma", "factor", *none), _averaged)
    yield Public(
        "quack#88",
        "layer_norm",
        "refuses a strided dy",
        ("dx, dgamma, dbeta", "raises", "", "only when dy is strided"),
        right,
        _refuses,
    )
    yield _forward(
        "xformers#785",
        "columns beyond a block of 4096 left out",
        ("y", "block lost", *none),
        _block_4096,
    )
    yield _forward("llama.cpp#8818", "eps ignored", ("y", "term left out", *none), _no_eps)
    yield _forward(
        "KernelBench, problem 40",
        "gamma and beta ignored",
        ("y", "term left out", *none),
        _ignores_parameters,
    )
    yield _forward("Liger in_place", "x overwritten", ("x", "overwritten", *none), _overwrites)
    yield _forward(
        "apex#1768",
        "rows beyond a grid of 256 never written",
        ("y", "term left out", "rows from 256 on", ""),
        _beyond_grid,
    )
    yield _forward(
        "triton#9838, its mask",
        "the columns after the last whole block of 64 never written",
        ("y", "term left out", "the features after the last whole block of 64", ""),
        _last_columns,
    )
    yield _forward(
        "llm.c#852",
        "right for ten calls, then 1.01 times that",
        ("y", "factor", "", "only when called after more than 9 other times"),
        _ten_calls(),
    )
    yield Public(
        "a buffer never cleared",
        "layer_norm",
        "dbeta added to what the last call left",
        ("dbeta", "stale buffer", "", "only when called a second time"),
        right,
        _accumulates(),
    )
    yield _layer(
        "unsloth, dW of RMS",
        "dgamma lacks rstd",
        ("dgamma", "formula", *none),
        lambda p: (p.dx(), (p.dy * p.c).sum(axis=p.rows), p.sums()[1]),
    )
    yield _layer(
        "course work",
        "r squared in dx",
        ("dx", "factor", *none),
        lambda p: (p.r * p.dx(), *p.sums()),
    )
    yield _layer(
        "course work",
        "both means summed",
        ("dx", "factor", *none),
        lambda p: (
            p.dx(p.g.sum(axis=-1, keepdims=True), p.h * (p.g * p.h).sum(axis=-1, keepdims=True)),
            *p.sums(),
        ),
    )
    yield _layer(
        "course work",
        "the variance term has the wrong sign",
        ("dx", "sign", *none),
        lambda p: (p.dx(projection=-p.h * mean(p.g * p.h)), *p.sums()),
    )
    yield _rms(
        "fla#1071, the pre-gate value",
        "dgamma is a sum of dy y",
        ("dgamma", "formula", *none),
        lambda p: (p.dx(), (p.dy * p.h * p.gamma).sum(axis=p.rows)),
    )
    yield _rms(
        "course work",
        "dx divided by the batch size",
        ("dx", "factor", *none),
        lambda p: (p.dx() / np.float32(len(p.x)), p.sums()[0]),
    )
    yield _layer(
        "Flux#2096",
        "dbeta is a sum of gamma dy",
        ("dbeta", "formula", *none),
        lambda p: (p.dx(), p.sums()[0], p.g.sum(axis=p.rows)),
    )
    yield _layer(
        "Megatron-LM, sequence parallel",
        "dgamma of the last row alone",
        ("dgamma", "block lost", *none),
        lambda p: (p.dx(), _flat(p.dy * p.h)[-1], p.sums()[1]),
    )
