"""Norms of Dask arrays: what is asked for is checked at once, and computed when it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

try:
    import dask.array as da
    from dask import delayed
    from dask.delayed import Delayed
except ImportError as error:
    raise ImportError("numpy_norms.dask needs dask: pip install dask") from error

from .. import checks, pieces
from ..cache import Array
from ..engine.plans import Plan
from . import chunks
from .again import again
from .chunks import Task


def moments(x: da.Array, axis: int | Sequence[int]) -> Delayed:
    """Return count, mean and squared deviations of `x` over some of its axes, lazily.

    Chunks are read once, and what they have found is merged by a tree.

    Parameters
    ----------
    x : dask.array.Array
        Of any shape with at least one axis.
    axis : int or sequence of int
        The axes to take moments over.

    Returns
    -------
    dask.delayed.Delayed
        Whose ``compute()`` returns `numpy_norms.Moments`; ``mean``, ``var(correction=1)`` and so on
        are lazy, too.

    Raises
    ------
    ValueError
        If an axis does not exist or is named twice, or chunks are of unknown size.
    TypeError
        If `x` is no Dask array, or a dtype is wrong.

    Examples
    --------
    >>> import dask.array as da
    >>> m = moments(da.arange(10.0, chunks=3), axis=0).compute()
    >>> m.count, m.mean, m.var()
    (array(10), array(4.5), array(8.25))
    """
    task = Task("layer_norm", (checks.integers("axis", axis),), 0.0, None)
    plan = task.plan(_like("x", _checked(x)))
    whole = _statistics(x, plan, task)
    result: Delayed = delayed(partial(chunks.moments, plan=plan), pure=True)(whole)
    return result


def batch_norm(
    x: da.Array,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    channel_axis: int | Sequence[int] = 1,
    eps: float = 1e-5,
    dtype: DTypeLike | None = None,
) -> da.Array:
    """Normalize each channel with the statistics of the whole array, lazily.

    With the formula of `numpy_norms.batch_norm_forward`. `x` is computed twice, unless a channel
    lies in one chunk: for its statistics, and when they are known. If it is dear to make and there
    is memory for it, pass ``x.persist()``.

    Parameters
    ----------
    x : dask.array.Array, shape (N, C, *S)
        Or with the channels at `channel_axis`; with any chunks.
    gamma, beta : array, shape (C,), optional
        Scale and shift of each channel, of Dask or NumPy; None stands for ones and zeros.
    channel_axis : int or sequence of int, default 1
        The axis of the channels; -1 where they are last.
    eps : float, default 1e-5
        Added to the variance; in units of `x` squared.
    dtype : dtype, optional
        The type to compute in; float64 if `x` is narrower, and otherwise that of `x`.

    Returns
    -------
    dask.array.Array, of the shape, dtype and chunks of `x`

    Raises
    ------
    ValueError
        If a shape, `channel_axis` or `eps` is wrong, or chunks are of unknown size.
    TypeError
        If `x` is no Dask array, or a dtype is wrong.

    Examples
    --------
    >>> import dask.array as da
    >>> x = da.arange(8.0, chunks=8).reshape(4, 2).rechunk((1, 2))
    >>> batch_norm(x, eps=0).compute().round(2)
    array([[-1.34, -1.34],
           [-0.45, -0.45],
           [ 0.45,  0.45],
           [ 1.34,  1.34]])
    """
    options = (checks.integers("channel_axis", channel_axis),)
    return _normalized("batch_norm", x, {"gamma": gamma, "beta": beta}, options, eps, dtype)


def layer_norm(
    x: da.Array,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    axis: int | Sequence[int] = -1,
    feature_axis: int | Sequence[int] | None = None,
    eps: float = 1e-5,
    dtype: DTypeLike | None = None,
) -> da.Array:
    """Normalize over some axes, lazily.

    With the formula of `numpy_norms.layer_norm_forward`. Chunks that have these axes whole are
    normalized alone; otherwise `x` is computed twice.

    Parameters
    ----------
    x : dask.array.Array
        Of any shape with at least one axis, with any chunks.
    gamma, beta : array, of the shape of these axes, optional
        Scale and shift of each feature, of Dask or NumPy; None stands for ones and zeros.
    axis : int or sequence of int, default -1
        The axes to normalize over.
    feature_axis : int or sequence of int, optional
        The axes along which `gamma` and `beta` vary; by default `axis`.
    eps : float, default 1e-5
        Added to the variance; in units of `x` squared.
    dtype : dtype, optional
        The type to compute in; float64 if `x` is narrower, and otherwise that of `x`.

    Returns
    -------
    dask.array.Array, of the shape, dtype and chunks of `x`

    Raises
    ------
    ValueError
        If a shape, an axis or `eps` is wrong, or chunks are of unknown size.
    TypeError
        If `x` is no Dask array, or a dtype is wrong.

    Examples
    --------
    >>> import dask.array as da
    >>> layer_norm(da.arange(4.0, chunks=2).reshape(2, 2), eps=0).compute()
    array([[-1.,  1.],
           [-1.,  1.]])
    """
    options = checks.integers("axis", axis), checks.integers_or_none("feature_axis", feature_axis)
    return _normalized("layer_norm", x, {"gamma": gamma, "beta": beta}, options, eps, dtype)


def rms_norm(
    x: da.Array,
    gamma: ArrayLike | None = None,
    *,
    axis: int | Sequence[int] = -1,
    feature_axis: int | Sequence[int] | None = None,
    eps: float = 1e-5,
    dtype: DTypeLike | None = None,
) -> da.Array:
    """Divide by the root mean square over some axes, lazily.

    With the formula of `numpy_norms.rms_norm_forward`. Chunks that have these axes whole are
    normalized alone; otherwise `x` is computed twice.

    Parameters
    ----------
    x : dask.array.Array
        Of any shape with at least one axis, with any chunks.
    gamma : array, of the shape of these axes, optional
        Scale of each feature, of Dask or NumPy; None stands for ones.
    axis : int or sequence of int, default -1
        The axes to normalize over.
    feature_axis : int or sequence of int, optional
        The axes along which `gamma` varies; by default `axis`.
    eps : float, default 1e-5
        Added to the mean square; in units of `x` squared.
    dtype : dtype, optional
        The type to compute in; float64 if `x` is narrower, and otherwise that of `x`.

    Returns
    -------
    dask.array.Array, of the shape, dtype and chunks of `x`

    Raises
    ------
    ValueError
        If a shape, an axis or `eps` is wrong, or chunks are of unknown size.
    TypeError
        If `x` is no Dask array, or a dtype is wrong.

    Examples
    --------
    >>> import dask.array as da
    >>> rms_norm(da.from_array([[3.0, 3.0], [-2.0, 2.0]], chunks=1), eps=0).compute()
    array([[ 1.,  1.],
           [-1.,  1.]])
    """
    options = checks.integers("axis", axis), checks.integers_or_none("feature_axis", feature_axis)
    return _normalized("rms_norm", x, {"gamma": gamma}, options, eps, dtype)


def _normalized(
    norm: str,
    x: da.Array,
    parameters: dict[str, Any],
    options: tuple[Any, ...],
    eps: float,
    dtype: DTypeLike | None,
) -> da.Array:
    given = {name: _parameter(name, a) for name, a in parameters.items() if a is not None}
    work = None if dtype is None else checks.dtype_of(dtype)
    task = Task(norm, options, checks.epsilon(eps), work, tuple(given))
    like = {name: _like(name, a) for name, a in {"x": _checked(x), **given}.items()}
    plan, along = task.plan(**like), task.layout(**like).along
    spread = [_spread(a, x, along) for a in given.values()]
    meta = np.empty((0,) * x.ndim, plan.result)
    if all(x.numblocks[i] == 1 for i in plan.layout.over):
        return x.map_blocks(partial(chunks.normalized, task=task), *spread, meta=meta)
    whole = _statistics(x, plan, task)
    return again(x).map_blocks(partial(chunks.applied, task=task), whole, *spread, meta=meta)


def _statistics(x: da.Array, plan: Plan, task: Task) -> da.Array:
    """Counts and statistics, with the axes of x, those that are averaged of length 1."""
    dtype = pieces.record_dtype(plan)
    merged = partial(chunks.merged, plan=plan, task=task)
    return da.reduction(
        x,
        partial(chunks.record, task=task),
        merged,
        combine=merged,
        axis=plan.layout.over,
        keepdims=True,
        dtype=dtype,
        meta=np.empty((0,) * x.ndim, dtype),
    )


def _spread(a: da.Array, x: da.Array, along: tuple[int, ...]) -> da.Array:
    """A parameter with the axes of x, of length 1 where it does not vary, and the chunks of x."""
    shape = [n if i in along else 1 for i, n in enumerate(x.shape)]
    return a.reshape(shape).rechunk({i: x.chunks[i] for i in along})


def _checked(x: Any) -> da.Array:
    if not isinstance(x, da.Array):
        raise TypeError(
            f"x is a {type(x).__name__}, but a Dask array was expected; pass "
            "da.from_array(x, chunks='auto')"
        )
    return x


def _parameter(name: str, a: Any) -> da.Array:
    return a if isinstance(a, da.Array) else da.from_array(checks.array(name, a), chunks=-1)


def _like(name: str, a: da.Array) -> Array:
    """An array of the same kind, without memory, to be checked; its size has to be known."""
    if isinstance(a._meta, np.ma.MaskedArray):
        raise TypeError(
            f"{name} holds masked arrays; pass da.ma.filled({name}, value), or "
            f"da.ma.getdata({name})"
        )
    if any(isnan(n) for n in a.shape):
        raise ValueError(
            f"{name} has chunks of unknown size, {a.chunks}, so its sets cannot be told; pass "
            f"{name}.compute_chunk_sizes(), then {name}.rechunk(...) if it is to be cut otherwise"
        )
    return checks.array(name, np.broadcast_to(np.zeros((), a.dtype), a.shape))
