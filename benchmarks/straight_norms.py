"""The norms in straight NumPy: no checks, no options, one thread, nothing that can be left out.

What NumPy itself allows, at the library's accuracy. Three families differ in what is few:

rows      layer and RMS norm of (n, m): a mean for each row, a gamma for each column
maps      group, instance and batch norm of images: neighbours share their mean and their gamma
columns   batch norm of (n, c): a mean and a gamma for each column

`work` is the dtype that is computed in. Forward returns y and what backward takes: pivot, mean and
rstd, where x less the pivot has that mean. There is a pivot only where the mean is so far from zero
that the variance has lost digits: then all is done once more, about the mean rounded to x's dtype.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from .grid import EPS, NUM_GROUPS, Array

Work = np.dtype[Any]
Stats = tuple[Any, Any, Any]  # pivot, mean, rstd

SCRATCH = 3 * 2**20  # bytes; a set of maps has to fit
BLOCK = 448 * 2**10  # elements at a time, about
FEW = 4096  # elements below which to set NumPy's buffer takes longer than it saves
DOT, SLAB, DEEP = 1024, 8192, 32  # elements of a dot product, of a product; rows that einsum sums
WIDE = 2048  # elements of short rows that are taken side by side
LIMIT = {"f": 0.25, "d": 256.0}  # how far, in variances, the square of a mean may be from zero
CHANCE = 24  # the same times the elements of a set


def rows_forward(x: Array, gamma: Array, beta: Any, work: Work, pivot: Any = None) -> Any:
    """y = gamma (x - mean) rstd + beta; without beta RMS norm, whose mean is 0."""
    n, m = x.shape
    y = np.empty_like(x)
    x_, y_ = (x[0], y[0]) if n == 1 else (x, y)
    beside = 4 if n % 4 == 0 and x.size > SLAB and work.char == "f" else 1  # for long inner loops
    gamma_, beta_ = tiled(gamma, beside, work), tiled(beta, beside, work)
    average = filled((), 1 / m, work)

    def visit(rows: Any, a: Array, out: Array) -> Any:
        if beta is not None:
            mean = along(a) * average  # (1)
            a = np.subtract(a, mean, out)
        var = along(a, a) * average  # (2)
        rstd = root(var)  # (3)
        np.multiply(a, rstd, out)  # (4)
        flat = out if beside == 1 else out.reshape(-1, beside * m)
        flat *= gamma_
        if beta is None:
            return (rstd,)
        flat += beta_  # (5)
        return rstd, mean, var

    rstd, *rest = blocks(visit, np.concatenate, work, y_, x_, pivot=pivot)
    if beta is None:
        return y, (None, None, rstd)
    mean, var = rest
    if pivot is None and far(mean, var, m):
        return rows_forward(x, gamma, beta, work, mean.astype(x.dtype).astype(work))
    return y, (pivot, mean, rstd)


def rows_backward(dy: Array, x: Array, gamma: Array, work: Work, stats: Stats) -> Any:
    """dx = a - E[a] - xc r^2 E[a xc], with a = gamma r dy and xc = x - mean; RMS norm: no E[a]."""
    n, m = x.shape
    dx = np.empty_like(x)
    x_, dy_, dx_ = (x[0], dy[0], dx[0]) if n == 1 else (x, dy, dx)
    gamma_, average = gamma.astype(work, copy=False), filled((), 1 / m, work)
    pivot, mean, rstd = stats

    def visit(rows: Any, xc: Array, spare: Array, a: Array, out: Array) -> Any:
        r = rstd[rows]
        if mean is not None:
            xc = np.subtract(xc, mean[rows], spare)
            dbeta = down(a)  # (6)
        a = np.multiply(a, r, out)
        dgamma = down(a, xc)  # (7)
        a *= gamma_  # (8)
        slope = along(a, xc) * (r * r * average)
        if mean is None:
            a -= np.multiply(xc, slope, spare)  # (13)
            return (dgamma,)
        drop = along(a) * average
        a -= np.multiply(xc, slope, spare)
        a -= drop  # (12)
        return dgamma, dbeta

    sums = blocks(visit, sum, work, dx_, x_, dy_, pivot)
    return dx, *(s.astype(x.dtype) for s in sums)


def maps_forward(
    x: Array, gamma: Array, beta: Array, work: Work, norm: str, pivot: Any = None
) -> Any:
    """y = scale x + shift, with scale = gamma rstd and shift = beta - scale mean."""
    y = np.empty_like(x)
    x_, y_ = seen(norm, x), seen(norm, y)
    gamma_, beta_ = for_maps(norm, gamma, x, work), for_maps(norm, beta, x, work)
    m = x_[0].size
    average = filled((), 1 / m, work)

    def visit(sets: Any, a: Array, out: Array) -> Any:
        once, twice = over_sets(a)
        mean = once * average  # (1)
        var = twice * average - mean * mean  # (2)
        rstd = root(var)  # (3)
        scale = rstd * gamma_[sets]
        a = np.multiply(a, scale, out)
        a += beta_[sets] - scale * mean  # (4), (5)
        return rstd, mean, var

    rstd, mean, var = blocks(visit, np.concatenate, work, y_, x_, pivot=pivot)
    if pivot is None and far(mean, var, m):
        return maps_forward(x, gamma, beta, work, norm, mean.astype(x.dtype).astype(work))
    return y, (pivot, mean, rstd)


def maps_backward(dy: Array, x: Array, gamma: Array, work: Work, norm: str, stats: Stats) -> Any:
    """dx = scale dy - slope x - drop, which are made of the sums of dy and of dy x over maps."""
    dx = np.empty_like(x)
    x_, dy_, dx_ = seen(norm, x), seen(norm, dy), seen(norm, dx)
    gamma_, average = for_maps(norm, gamma, x, work), filled((), 1 / x_[0].size, work)
    pivot, mean, rstd = stats

    def visit(sets: Any, a: Array, spare: Array, b: Array, out: Array) -> Any:
        few = mean[sets], rstd[sets], gamma_[sets], average
        sums, scale, slope, drop = slopes(along(b), along(b, a), *few)
        b = np.multiply(b, scale, out)
        b -= np.multiply(a, slope, spare)
        b -= drop  # (12)
        return sums

    sums = blocks(visit, np.concatenate, work, dx_, x_, dy_, pivot)
    return dx, *(over_maps(norm, s, x.shape[1]).astype(x.dtype) for s in sums)


def columns_forward(x: Array, gamma: Array, beta: Array, work: Work, pivot: Any = None) -> Any:
    """As for maps, but in two sweeps: sums of all blocks, then y = scale x + shift."""
    y = np.empty_like(x)
    x_, beside = side_by_side(x)
    y_, about = y.reshape(x_.shape), each_row(pivot, x_, beside, work)
    average = filled((), 1 / len(x), work)

    def gather(rows: Any, a: Array, _: Array) -> Any:
        return down(a), down(a, a)

    def spread(rows: Any, a: Array, out: Array) -> Any:
        a = np.multiply(a, scale, out)
        a += shift  # (4), (5)

    sums = blocks(gather, sum, work, None, x_, pivot=about)
    mean, square = (folded(s, beside, work) * average for s in sums)  # (1)
    var = square - mean * mean  # (2)
    if pivot is None and far(mean, var, len(x)):
        return columns_forward(x, gamma, beta, work, mean.astype(x.dtype).astype(work))
    rstd = root(var)  # (3)
    scale = rstd * gamma.astype(work, copy=False)
    scale, shift = tiled(scale, beside, work), tiled(beta - scale * mean, beside, work)
    blocks(spread, sum, work, y_, x_, pivot=about)
    return y, (pivot, mean, rstd)


def columns_backward(dy: Array, x: Array, gamma: Array, work: Work, stats: Stats) -> Any:
    """As for maps, but in two sweeps: sums of all blocks, then dx = scale dy - slope x - drop."""
    dx = np.empty_like(x)
    x_, beside = side_by_side(x)
    dy_, dx_ = dy.reshape(x_.shape), dx.reshape(x_.shape)
    pivot, mean, rstd = stats
    about = each_row(pivot, x_, beside, work)

    def gather(rows: Any, a: Array, _: Array, b: Array, __: Array) -> Any:
        return down(b), down(b, a)

    def spread(rows: Any, a: Array, spare: Array, b: Array, out: Array) -> Any:
        b = np.multiply(b, scale, out)
        b -= np.multiply(a, slope, spare)
        b -= drop  # (12)

    u, v = (folded(s, beside, work) for s in blocks(gather, sum, work, None, x_, dy_, about))
    few = mean, rstd, gamma.astype(work, copy=False), filled((), 1 / len(x), work)
    sums, *few = slopes(u, v, *few)
    scale, slope, drop = (tiled(a, beside, work) for a in few)
    blocks(spread, sum, work, dx_, x_, dy_, about)
    return dx, *(s.astype(x.dtype) for s in sums)


def slopes(u: Array, v: Array, mean: Array, rstd: Array, gamma: Array, average: Array) -> Any:
    """From the sums u of dy and v of dy x: (7) and (6), and dx = scale dy - slope x - drop."""
    w = rstd * (v - mean * u)  # sums of dy x_hat
    slope = rstd * rstd * (over_set(gamma * w) * average)
    return (w, u), rstd * gamma, slope, rstd * (over_set(gamma * u) * average) - slope * mean


def root(var: Any) -> Any:
    """The reciprocal standard deviation."""
    return np.reciprocal(np.sqrt(var + filled((), EPS, var.dtype)))


def far(mean: Any, var: Any, m: int) -> Any:
    """Whether the variance of some set has lost digits: begin again, nearer to the mean."""
    limit = filled((), LIMIT[var.dtype.char] + CHANCE / m, var.dtype)
    return np.count_nonzero(mean * mean > limit * var) > 0


def blocks(
    visit: Any, join: Any, work: Work, result: Any, x: Array, dy: Any = None, pivot: Any = None
) -> Any:
    """Visit blocks of x less the pivot, and of dy: in the working dtype, with places to compute in.

    The last place becomes the result: it is in the result itself, if that has the working dtype,
    else in scratch, from where it is rounded. No ufunc casts, so that NumPy's buffer may be as
    small as it gets: a row times a number is much faster with it.
    """
    inputs = [x] if dy is None else [x, dy]

    def block(rows: Any) -> Any:
        given, to = [], None if result is None else result[rows]
        for slot, a in enumerate(inputs):
            a = a[rows]
            if to is not None and slot == len(inputs) - 1 and to.dtype == work:
                place = to
            else:
                place = np.ndarray(a.shape, work, memory(), slot * SCRATCH // 2)
            if a.dtype != work:
                np.copyto(place, a)
                a = place
            if slot == 0 and pivot is not None:
                a = np.subtract(a, pivot[rows], place)
            given += [a, place]
        found = visit(rows, *given)
        if to is not None and place is not to:
            np.copyto(to, place, casting="same_kind")
        return found

    if x.size <= FEW or x.ndim == 1:
        return block(...)
    places = len(inputs) - (result is not None and result.dtype == work)
    most = min(BLOCK, SCRATCH // (work.itemsize * max(1, places))) * len(x) // x.size
    eight = 8 if most >= 8 else 1  # rows of a slab
    number = -(-len(x) // max(1, most // eight * eight))
    step = -(-len(x) // (number * eight)) * eight
    with np.errstate():  # the size of the buffer ends with it
        np.setbufsize(16)
        found = [block(slice(i, i + step)) for i in range(0, len(x), step)]
    if number == 1 or found[0] is None:
        return found[0]
    return [join(parts) for parts in zip(*found, strict=True)]


@lru_cache(maxsize=1)
def memory() -> Array:
    """Scratch, from where a line of the cache begins."""
    own = np.empty(SCRATCH + 64, np.uint8)
    return own[-own.ctypes.data % 64 :][:SCRATCH]


def seen(norm: str, a: Array) -> Array:
    """Images as (sets, maps of a set, neighbours)."""
    n, c = a.shape[:2]
    if norm == "batch":
        return a.reshape(n, c, -1).swapaxes(0, 1)
    groups = NUM_GROUPS if norm == "group" else c
    return a.reshape(n * groups, c // groups, -1)


def for_maps(norm: str, a: Array, x: Array, work: Work) -> Array:
    """Numbers for channels, seen in the same way."""
    a = a.astype(work, copy=False).reshape(1, -1, 1)
    return seen(norm, a if norm == "batch" or len(x) == 1 else a.repeat(len(x), axis=0))


def over_sets(a: Array) -> tuple[Array, Array]:
    """Sums of a and of its squares over sets: of long rows, where they lie whole in memory."""
    if a.flags.c_contiguous:
        a = a.reshape(len(a), -1)
        return along(a)[..., None], along(a, a)[..., None]
    return over_set(along(a)), over_set(along(a, a))


def over_set(s: Array) -> Array:
    """Sums over the maps of a set, kept as an axis; of one number for each set nothing is to do."""
    return s if s.ndim < 3 or s.shape[1] == 1 else added(s, 1)[:, None].astype(s.dtype, copy=False)


def over_maps(norm: str, s: Array, c: int) -> Any:
    """Sums for each channel, from those for each map."""
    if s.size == c:
        return s.reshape(c)
    return added(s.reshape(c, -1), 1) if norm == "batch" else added(s.reshape(-1, c), 0)


def side_by_side(x: Array) -> tuple[Array, int]:
    """Short rows, as many side by side as make a wide one, and how many."""
    n, c = x.shape
    beside = divisor(n, max(1, WIDE // c)) if x.size > FEW else 1
    return x.reshape(n // beside, beside * c), beside


def tiled(a: Any, beside: int, work: Work) -> Any:
    """Numbers for columns, so many times side by side."""
    if a is not None and beside > 1:
        a = np.concatenate([a] * beside)
    return a if a is None else a.astype(work, copy=False)


def each_row(a: Any, x_: Array, beside: int, work: Work) -> Any:
    """Numbers for columns, for each row."""
    return None if a is None else np.broadcast_to(tiled(a, beside, work), x_.shape)


def folded(s: Array, beside: int, work: Work) -> Array:
    """Sums of columns, those that lie side by side added."""
    return (s if beside == 1 else added(s.reshape(beside, -1), 0)).astype(work, copy=False)


def along(a: Array, b: Array | None = None) -> Any:
    """Sums of a, or a b, along rows: in pieces for which a dot product keeps to one thread."""
    m = a.shape[-1]
    piece = divisor(m, DOT)
    if piece < m:
        a = a.reshape(*a.shape[:-1], -1, piece)
        b = None if b is None else b.reshape(a.shape)
    ones = filled(piece, 1.0, a.dtype)
    s = a.dot(ones) if b is None and a.size <= SLAB else np.vecdot(a, ones if b is None else b)
    if piece < m:
        s = added(s, -1).astype(a.dtype, copy=False)
    return s[..., None] if s.ndim else s


def down(a: Array, b: Array | None = None) -> Any:
    """Sums of a, or a b, down columns; for a single row, as 1-D, there is nothing to sum."""
    if a.size <= SLAB:
        a = a.copy() if b is None else a * b
        return a if a.ndim == 1 else filled(len(a), 1.0, a.dtype).dot(a)
    n, m = a.shape
    if b is not None:
        a, b = (s.reshape(-1, divisor(n, DEEP), m) for s in (a, b))
        return added(np.einsum("kij,kij->kj", a, b), 0)
    wide, deep = divisor(m, DOT), divisor(n, SLAB // DOT)
    slabs = a.reshape(n // deep, deep, m // wide, wide).swapaxes(1, 2)
    return added(filled(deep, 1.0, a.dtype) @ slabs, 0).reshape(m)


def added(s: Array, axis: int) -> Any:
    """Sums over an axis, of many in float64."""
    s = s.astype(np.float64, copy=False) if s.shape[axis] > DEEP else s
    return np.add.reduce(s, axis=axis)


@lru_cache(maxsize=64)
def filled(shape: Any, value: float, work: Work) -> Array:
    """The same number everywhere; as an array, which a ufunc takes faster than a float."""
    return np.full(shape, value, work)


@lru_cache(maxsize=64)
def divisor(n: int, most: int) -> int:
    """The largest divisor of n that is at most `most`."""
    return next(d for d in range(min(n, most), 0, -1) if n % d == 0)
