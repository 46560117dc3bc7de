"""Local response normalization: each element divided by the energy of its neighbours (AlexNet)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import checks
from ..engine.parts import Index, parts
from ..engine.rounding import native, round_into
from ..engine.threads import in_threads

Array = NDArray[Any]
Slices = tuple[slice, ...]


class LocalResponseCache(NamedTuple):
    """What `local_response_norm_backward` needs; made by the forward pass."""

    x: Array
    axis: tuple[int, ...]
    below: int  # along each axis, the window of place c is c - below, ..., c + above
    above: int
    alpha: float
    beta: float
    k: float
    work: np.dtype[Any]

    def __repr__(self) -> str:
        x, _, below, above, alpha, beta, k, _ = self
        shown = f"size {below + 1 + above}, alpha {alpha:g}, beta {beta:g}, k {k:g}"
        return f"<cache of local_response_norm: x {x.dtype.name} {x.shape}, {shown}>"


def local_response_norm_forward(
    x: ArrayLike,
    size: int,
    *,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    even_window: Literal["lower", "upper"] = "lower",
    axis: int | Sequence[int] = 1,
    dtype: DTypeLike | None = None,
) -> tuple[Array, LocalResponseCache]:
    """Divide each element by a power of the mean square of those around it.

    With W(c) the window of `size` places around place c along each of the axes `axis`, m in all::

        y_c = x_c / (k + alpha / m * sum over j in W(c) of x_j**2) ** beta

    The letters are the paper's: beta is an exponent, and no parameter is learned. Where
    the base of the power is 0, as in a window of zeros with ``k=0``, y is.

    Parameters
    ----------
    x : ndarray
        Of any shape with at least one axis.
    size : int
        The length of a window along each axis; places that do not exist count as zeros.
    alpha, beta, k : float, default 1e-4, 0.75, 1
        The paper has alpha without ``/ m``; ONNX calls k bias.
    even_window : {"lower", "upper"}, default "lower"
        Where a window of even size has one place more: below (PyTorch) or above (ONNX).
    axis : int or sequence of ints, default 1
        The axes of the window: 1 is that of the channels, across which AlexNet normalizes;
        (2, 3) in (N, C, H, W) is within each channel, as in Caffe.
    dtype : dtype, optional
        The type to compute in; float64 if `x` is narrower, and otherwise that of `x`.

    Returns
    -------
    y : ndarray, of the shape and dtype of `x`
    cache : LocalResponseCache
        For `local_response_norm_backward`.

    Raises
    ------
    ValueError
        If `axis` or an option is out of range; alpha and k must not be negative.
    TypeError
        If `x` is no array of floats, or an option no number.

    References
    ----------
    Krizhevsky, Sutskever and Hinton 2012, section 3.3; equations (L1) to (L3) of
    ``docs/further_norms.md``.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 2.0, 3.0]])
    >>> y, cache = local_response_norm_forward(x, 2, alpha=2.0, beta=1.0, k=0.0)
    >>> y
    array([[1.        , 0.4       , 0.23076923]])
    """
    x = checks.array("x", x)
    below, above = _window(size, even_window)
    alpha, beta, k = _letters(alpha, beta, k)
    axes = checks.axes(checks.integers("axis", axis), x)
    work = checks.working_dtype(x, dtype)
    cache = LocalResponseCache(x, axes, below, above, alpha, beta, k, work)
    return _by_windows(lambda x: _divide(x, _root(x, cache), cache), cache), cache


def local_response_norm_backward(dy: ArrayLike, cache: LocalResponseCache) -> Array:
    """Return dx for the gradient `dy` of ``y``.

    With s_c the base of the power in the forward formula, over the places c whose window holds
    place j::

        dx_j = dy_j / s_j**beta - 2 * alpha * beta / m * x_j * sum over c of dy_c * y_c / s_c

    The first term is 0 where s_j is, if beta is not.

    Parameters
    ----------
    dy : ndarray
        Gradient of the loss with respect to ``y``, of its shape.
    cache : LocalResponseCache
        From `local_response_norm_forward`.

    Returns
    -------
    dx : ndarray
        Shape and dtype of ``x``.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 2.0, 2.0]])
    >>> y, cache = local_response_norm_forward(x, 2, alpha=2.0, beta=1.0, k=0.0)
    >>> local_response_norm_backward(np.array([[1.0, 0.0, 0.0]]), cache)
    array([[-1.,  0.,  0.]])
    """
    checks.made_by("local_response_norm", LocalResponseCache, cache)
    dy = checks.gradient("dy", dy, cache.x)

    def pull_back(x: Array, dy: Array) -> Array:
        t = _root(x, cache)
        direct, y = _divide(dy, t, cache), _divide(x, t, cache)
        if not cache.k:
            t = np.where(t == 0, 1, t)  # where y is 0, too
        through_s = dy * y / t
        spread = np.zeros_like(x)
        for c, j in _neighbours(x, cache) if cache.alpha else ():  # else s is k
            spread[j] += through_s[c] * (x[j] / t[c])
        dx: Array = direct - _weight(cache, 2 * cache.beta) * spread  # (L3)
        return dx

    return _by_windows(pull_back, cache, dy)


def _by_windows(compute: Callable[..., Array], cache: LocalResponseCache, *more: Array) -> Array:
    """`compute` of x (and of more arrays of its shape), windows on the last axes, rounded once."""
    y = np.empty(cache.x.shape, native(cache.x.dtype))
    last = range(-len(cache.axis), 0)
    target, *sources = (np.moveaxis(a, cache.axis, last) for a in (y, cache.x, *more))
    before = y.ndim - len(last)

    def visit(part: Index) -> None:
        seen, inner = _around(part[before:], cache)
        with np.errstate(all="ignore"):
            pieces = [np.array(a[(*part[:before], *seen)], cache.work, order="C") for a in sources]
            result = compute(*[a.reshape(-1, *a.shape[a.ndim - len(last) :]) for a in pieces])
            there = target[part]
            round_into(there, result[(slice(None), *inner)].reshape(there.shape))

    in_threads(visit, parts(target.shape))
    return y


def _around(part: Index, cache: LocalResponseCache) -> tuple[Slices, Slices]:
    """What a part of windows' axes sees: the windows of its windows; and the part of that."""
    reach = cache.below + cache.above
    seen, inner = [], []
    for piece in part:
        start, stop = (piece.start, piece.stop) if isinstance(piece, slice) else (piece, piece + 1)
        first = max(0, start - reach)
        seen.append(slice(first, stop + reach))
        inner.append(slice(start - first, stop - first))
    return tuple(seen), tuple(inner)


def _root(x: Array, cache: LocalResponseCache) -> Array:
    """The root of s."""
    s = np.zeros_like(x)
    for c, j in _neighbours(x, cache):
        s[c] += x[j] * x[j]
    s = cache.k + _weight(cache) * s  # (L1)
    good = np.isfinite(s) & (s != 0)
    if np.iscomplexobj(s) or good.all():
        return np.sqrt(s)
    # Squares of float64 overflow above 1e154 and vanish below 1e-162; hypot takes none.
    t = np.full_like(s, np.sqrt(s.dtype.type(cache.k)))
    for c, j in _neighbours(x, cache):
        t[c] = np.hypot(t[c], np.sqrt(_weight(cache)) * x[j])
    return np.where(good, np.sqrt(s), t)


def _divide(x: Array, t: Array, cache: LocalResponseCache) -> Array:
    d = t**-cache.beta
    if cache.beta and not cache.k:
        np.copyto(d, 0, where=t == 0)
    return x * d * d  # (L2)


def _weight(cache: LocalResponseCache, factor: float = 1.0) -> Array:
    """alpha / m, times a factor, rounded once to the dtype that is computed in."""
    work = np.finfo(cache.work).dtype
    wide: Any = np.promote_types(work, np.float64).type
    size = wide(cache.below + 1 + cache.above)
    return np.asarray(wide(factor) * wide(cache.alpha) / size ** len(cache.axis), work)


def _neighbours(x: Array, cache: LocalResponseCache) -> Iterator[tuple[Slices, Slices]]:
    """Places c and, for one place in the window at a time, their neighbours j."""
    steps = [range(-min(cache.below, n - 1), min(cache.above, n - 1) + 1) for n in x.shape[1:]]
    for step in product(*steps):
        pairs = zip(x.shape[1:], step, strict=True)
        ends = [((max(0, -s), n - max(0, s)), (max(0, s), n + min(0, s))) for n, s in pairs]
        here, there = ([slice(*end) for end in side] for side in zip(*ends, strict=True))
        yield (slice(None), *here), (slice(None), *there)


def _window(size: int, even_window: str) -> tuple[int, int]:
    """How many places a window holds below and above its own."""
    size = checks.integer("size", size, 5)
    if not 1 <= size < 1 << 62:
        raise ValueError(
            f"size is {checks.shown(size)}; pass the number of places in a window, 1 or more"
        )
    if not isinstance(even_window, str) or even_window not in ("lower", "upper"):
        raise ValueError(
            f"even_window is {checks.shown(even_window)}; pass 'lower' (PyTorch) or 'upper' (ONNX)"
        )
    below, above = size // 2, (size - 1) // 2
    return (below, above) if even_window == "lower" else (above, below)


def _letters(alpha: float, beta: float, k: float) -> tuple[float, float, float]:
    found = [checks.number(*pair, 1) for pair in (("alpha", alpha), ("beta", beta), ("k", k))]
    alpha, beta, k = found
    if not (np.isfinite(found).all() and alpha >= 0 and k >= 0):
        raise ValueError(
            f"alpha={alpha}, beta={beta}, k={k}; pass finite numbers, alpha and k not negative, "
            "so that the base of the power is not negative"
        )
    return alpha, beta, k
