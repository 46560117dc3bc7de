"""Batch norm of a batch whose samples are on several ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .. import checks, pieces
from ..batch_norm import layout
from ..cache import Array, Cache
from ..engine import lifting
from ..engine.plans import Asked, Plan, plan_for
from ..engine.rounding import round_to
from ..engine.tiles import run
from ..masks import Mask, mask_of
from ..moments import Moments, of_statistics
from ..passes import Statistics
from . import passes
from .exchange import Communicator, exchanged


class SyncCache(NamedTuple):
    """What `sync_batch_norm_backward` needs; `update_running_stats` takes it, too.

    `moments` are count, mean and squared deviations of each channel in the whole batch, the same
    bits on all ranks. `cache` has this rank's part, with statistics of the whole; it is internal.
    """

    moments: Moments
    cache: Cache

    @property
    def mean(self) -> Array:
        """The mean of each channel, of the whole batch."""
        return self.moments.mean

    @property
    def var(self) -> Array:
        """The biased variance of each channel, of the whole batch."""
        return self.cache.var

    @property
    def rstd(self) -> Array:
        """The reciprocal standard deviation of each channel, of the whole batch."""
        return self.cache.rstd

    def __repr__(self) -> str:
        return f"<part of a batch: {self.cache!r}>"


def sync_batch_norm_forward(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    comm: Communicator,
    channel_axis: int | Sequence[int] = 1,
    eps: float = 1e-5,
    dtype: DTypeLike | None = None,
    where: ArrayLike | None = None,
) -> tuple[Array, SyncCache]:
    """Normalize each channel with the statistics of the batch that all ranks have together.

    With A all axes but the channel axis, of all samples on all ranks::

        y = gamma * (x - E_A[x]) / sqrt(Var_A[x] + eps) + beta

    Every rank of `comm` calls this, with its own samples, and each sends count, mean and variance
    of its channels to all. What differs from `batch_norm_forward` of the whole batch is the last
    bit of an element now and then. All ranks have the same bits of the statistics.

    Parameters
    ----------
    x : ndarray, shape (N, C, *S)
        This rank's samples; N and S may differ between ranks, and may be 0.
    gamma, beta : ndarray, shape (C,), optional
        Scale and shift of each channel, the same on all ranks; None stands for ones and zeros.
    comm : mpi4py.MPI.Comm
        The ranks that have a part of the batch; of another kind, anything with an ``allgather`` of
        Python's objects.
    channel_axis : int or sequence of int, default 1
        The axis of the channels; -1 where they are last.
    eps : float, default 1e-5
        Added to the variance; in units of `x` squared.
    dtype : dtype, optional
        The type to compute in; float64 if `x` is narrower, and otherwise that of `x`.
    where : ndarray of bool, optional
        What counts, True by default; it broadcasts to `x`. A channel may be without any on one
        rank, but not on all.

    Returns
    -------
    y : ndarray, of the shape and dtype of `x`
    cache : SyncCache
        For `sync_batch_norm_backward` and `update_running_stats`, which counts the whole batch.

    Raises
    ------
    ValueError
        If a shape, `channel_axis` or `eps` is wrong on one rank: then on all, with the number of
        the rank; or if channels, dtypes or `eps` differ between ranks.
    TypeError
        If a dtype is wrong on one rank: then on all; or if `comm` is no communicator.
    RuntimeError
        If ranks call different functions.

    References
    ----------
    Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 1; Chan, Golub and LeVeque 1983.

    Examples
    --------
    >>> import numpy as np
    >>> from mpi4py import MPI
    >>> y, cache = sync_batch_norm_forward(np.array([[1.0], [3.0]]), eps=0, comm=MPI.COMM_WORLD)
    >>> y.ravel(), cache.mean, cache.moments.count
    (array([-1., 1.]), array([2.]), array([2]))
    """

    def part() -> Any:
        a = checks.array("x", x)
        c = checks.channel_axes(checks.integers("channel_axis", channel_axis), a)
        parameters = checks.per_channel(gamma, beta, c, a)
        value = checks.epsilon(eps)
        work = checks.working_dtype(a, dtype)
        wide = np.promote_types(work, np.float64)
        plan = plan_for(layout(a, *parameters, c), work, a.dtype, Asked(True, wide, wide))
        plan = lifting.careful(plan, parameters[0], value)
        mask = None if where is None else mask_of(plan, checks.mask(where, a), a)
        channels = tuple([a.shape[i] for i in c])
        record = pieces.record(plan, a, value, mask).reshape(channels)
        types = {"the dtype of x": plan.result.name, "the working dtype": work.name}
        agreed = {"the number of channels": channels, **types, "eps": value}
        return agreed, (plan.m, record), (a, *parameters, value, plan, mask)

    parts, kept = exchanged(comm, "sync_batch_norm_forward", part)
    a, g, b, value, plan, mask = kept
    whole = pieces.merged(plan, value, np.stack([record for _, record in parts]), axis=0)
    empty = whole["count"][0] == 0
    if any(m for m, _ in parts) and empty.any():
        checks.none_empty(empty)
    statistics = pieces.of_record(plan, whole)
    y = pieces.normalized(plan, a, g, b, value, statistics)
    moments = of_statistics(plan, whole["count"].reshape(plan.set_shape), statistics)
    return y, SyncCache(moments, Cache("sync_batch_norm", a, g, b, value, plan, statistics, mask))


def sync_batch_norm_backward(
    dy: ArrayLike, cache: SyncCache, *, comm: Communicator, reduce_parameters: bool = False
) -> tuple[Array, Array | None, Array | None]:
    """Return the gradients of `x`, `gamma` and `beta` of `sync_batch_norm_forward`.

    With dx_hat = gamma * dy, and A all axes but the channel axis, of all samples on all ranks::

        dx = rstd * (dx_hat - E_A[dx_hat] - x_hat * E_A[dx_hat * x_hat])

    and dgamma, dbeta the sums of ``dy * x_hat`` and ``dy`` over this rank's samples. Every rank
    sends these two sums to all, from which each has the averages.

    Parameters
    ----------
    dy : ndarray
        Gradient of `y`, of its shape: that of the loss of all ranks together.
    cache : SyncCache
        What `sync_batch_norm_forward` returned.
    comm : mpi4py.MPI.Comm
        The same ranks as in the forward pass.
    reduce_parameters : bool, default False
        Whether dgamma and dbeta are summed over all ranks. By default they are this rank's own
        share, as in PyTorch's SyncBatchNorm, to be reduced with the gradients of other layers.

    Returns
    -------
    dx, dgamma, dbeta : ndarray
        Of the shapes and dtypes of `x`, `gamma` and `beta`; None for one that was None.

    Raises
    ------
    ValueError
        If the shape of `dy` is wrong on one rank, or `cache` comes from elsewhere: then on all.
    TypeError
        If the dtype of `dy` is wrong on one rank: then on all; or if `comm` is no communicator.
    RuntimeError
        If ranks call different functions.

    Examples
    --------
    >>> import numpy as np
    >>> from mpi4py import MPI
    >>> x, gamma = np.array([[1.0], [3.0], [2.0]]), np.array([2.0])
    >>> y, cache = sync_batch_norm_forward(x, gamma, comm=MPI.COMM_WORLD)
    >>> dy = np.array([[1.0], [0.0], [0.0]])
    >>> dx, dgamma, dbeta = sync_batch_norm_backward(dy, cache, comm=MPI.COMM_WORLD)
    >>> dx.ravel().round(4), dgamma.round(4), dbeta
    (array([ 0.4083,  0.4082, -0.8165]), array([-1.2247]), None)
    """

    def part() -> Any:
        checks.made_by("sync_batch_norm", SyncCache, cache)
        d, x = checks.upstream(dy, cache.cache, "sync_batch_norm")
        plan, eps, statistics, mask = _of(cache)
        hidden = None if mask is None else mask.hidden
        _, sums = run(passes.parameter_sums, plan, (x, d, hidden), (), statistics, eps, slots=2)
        own = np.stack(sums).reshape(2, *cache.mean.shape)
        agreed = {"the number of channels": cache.mean.shape}
        return agreed, own, (d, x, own)

    parts, (d, x, own) = exchanged(comm, "sync_batch_norm_backward", part)
    plan, eps, statistics, mask = _of(cache)
    gamma, beta = cache.cache.gamma, cache.cache.beta
    with np.errstate(all="ignore"):
        total = np.add.reduce(np.stack(parts), axis=0)
        scale, power = lifting.moderate(plan, gamma)
        of_x_hat = total if scale is None else scale.astype(plan.few) * total
        share = of_x_hat / np.maximum(cache.moments.count, 1).astype(plan.few)
    dx_hat_x_hat, dx_hat = share.reshape(2, *plan.set_shape)
    dx, about = plan.result_like(x), (*statistics, dx_hat, dx_hat_x_hat)
    hidden, slots = (None, 2) if mask is None else (mask.hidden, 3)
    views = x, d, hidden, dx
    run(passes.input_gradient, plan, views, (scale,), about, eps, power, slots=slots)
    dgamma, dbeta = total if reduce_parameters else own
    return dx, _rounded(dgamma, gamma), _rounded(dbeta, beta)


def _of(cache: SyncCache) -> tuple[Plan, float, Statistics, Mask | None]:
    _, _, _, _, eps, plan, statistics, mask, *_ = cache.cache
    return plan, eps, statistics, mask


def _rounded(total: Array, a: Array | None) -> Array | None:
    return None if a is None else round_to(total, a.dtype)
