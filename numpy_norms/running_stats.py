"""Running statistics: what inference uses in place of the statistics of the batch."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from . import checks
from .cache import Array, Cache
from .engine.rounding import round_to
from .moments import Moments
from .pieces import counts

if TYPE_CHECKING:
    from .distributed import SyncCache


def update_running_stats(
    running_mean: ArrayLike,
    running_var: ArrayLike,
    cache: Cache | SyncCache | Moments,
    *,
    momentum: float = 0.1,
    correction: int = 1,
) -> tuple[Array, Array]:
    """Return the running mean and variance after one more batch, in new arrays.

    With n the number of values of a channel in the batch::

        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var = (1 - momentum) * running_var + momentum * var * n / (n - correction)

    A channel without values is left as it is, and so all are by an empty batch. A momentum of 1
    forgets what was there before, NaN included.

    Parameters
    ----------
    running_mean, running_var : ndarray, shape (C,)
        The averages so far; start with zeros and ones.
    cache : Cache, SyncCache or Moments
        What `batch_norm_forward`, `batch_renorm_forward`, `sync_batch_norm_forward` or
        `instance_norm_forward` returned, of which the last's are averaged over the samples; or
        moments of shape (C,), of a batch in pieces.
    momentum : float, default 0.1
        The weight of the new value, from 0 to 1, as in PyTorch; Keras, Flax and ONNX give the
        weight of the old one, 1 minus this.
    correction : int, default 1
        1 averages the unbiased variance, as PyTorch does; 0 the biased one, as Keras, Flax and
        ONNX do.

    Returns
    -------
    running_mean, running_var : ndarray, shape (C,)
        Of the dtypes that came in.

    Raises
    ------
    ValueError
        If a shape, `momentum` or `correction` is wrong, if a running variance is negative, or if
        n is not greater than `correction`.
    TypeError
        If a dtype is wrong, `cache` is neither, or a number none.

    References
    ----------
    Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_norms import batch_norm_forward
    >>> _, cache = batch_norm_forward(np.array([[1.0], [3.0]]))
    >>> update_running_stats(np.zeros(1), np.ones(1), cache)
    (array([0.2]), array([1.1]))
    """
    n, mean, m2 = _of_samples(cache)
    running_mean = checks.statistic("running_mean", running_mean, mean.shape[1:])
    running_var = checks.variance("running_var", running_var, mean.shape[1:])
    for name, a in (("running_mean", running_mean), ("running_var", running_var)):
        checks.real_for_real("the batch", mean, a, name)
    momentum = _weight(momentum)
    correction = checks.integer("correction", correction, 1)
    if correction not in (0, 1):
        raise ValueError(
            f"correction is {checks.shown(correction)}, but 0 (biased) or 1 (unbiased) was "
            "expected; pass 1 for PyTorch's running variance"
        )
    if ((n > 0) & (n <= correction)).any():
        raise ValueError(
            "the batch has 1 value for a channel, and the unbiased variance divides by "
            "n - 1 = 0; pass correction=0, or a larger batch"
        )
    with np.errstate(all="ignore"):
        seen = np.count_nonzero(n, axis=0)
        of_batch = [
            np.add.reduce(np.where(n > 0, a, 0), axis=0) / np.maximum(seen, 1)
            for a in (mean, m2 / np.maximum(n - correction, 1))
        ]
        weight = np.where(seen == 0, 0, momentum)
        return _mix(running_mean, of_batch[0], weight), _mix(running_var, of_batch[1], weight)


def _of_samples(cache: Any) -> tuple[Array, Array, Array]:
    """Counts, means and sums of squared deviations: of the batch as one sample, or of each."""
    if hasattr(cache, "compute"):
        raise TypeError(
            f"cache is a {type(cache).__name__}, whose numbers are not there yet; pass what its "
            "compute() returns"
        )
    cache = getattr(cache, "moments", cache)  # of a batch on several ranks
    if isinstance(cache, Moments):
        shape = np.shape(cache.mean)
        if not shape:
            raise ValueError(
                "the moments have shape (), but one set for each channel was expected; take them "
                "over all axes but the channel axis"
            )
        n, mean, m2 = (np.broadcast_to(a, shape)[None] for a in (cache.count, cache.mean, cache.m2))
        return n, mean, m2
    cache = getattr(cache, "batch", cache)  # of batch renorm
    if not isinstance(cache, Cache):
        raise TypeError(
            f"cache is a {type(cache).__name__}, but what batch_norm_forward returned second was "
            "expected; pass that"
        )
    if cache.norm not in ("batch_norm", "instance_norm") or cache.mean is None:
        raise ValueError(
            f"cache comes from {cache.norm}_forward, which keeps no running statistics; pass the "
            "cache of batch_norm_forward, or of instance_norm_forward"
        )
    mean, var, n = cache.mean, cache.var, cache.plan.in_order(counts(cache.plan, cache.mask))
    if cache.norm == "batch_norm":
        n, mean, var = (a[None] for a in (n, mean, var))
    with np.errstate(all="ignore"):
        return n, mean, n * var


def _weight(momentum: float) -> float:
    if momentum is None:
        raise TypeError(
            "momentum is None, with which PyTorch's batch norm takes the average over all batches; "
            "pass momentum=1 / n for the n-th batch"
        )
    value = checks.number("momentum", momentum, 0.1)
    if not (isfinite(value) and 0 <= value <= 1):
        raise ValueError(
            f"momentum is {value}, but a weight of the new value from 0 to 1 was expected; pass "
            "1 - m for a framework's m that weighs the old value"
        )
    return value


def _mix(old: Array, new: Array, weight: Array) -> Array:
    wide = np.result_type(new.dtype, old.dtype, np.float64)
    weight = weight.astype(np.finfo(wide).dtype)  # 1 less it is rounded, too
    kept, taken = (1 - weight) * old.astype(wide), weight * new.astype(wide)
    mixed = np.where(weight == 0, 0, taken) + np.where(weight == 1, 0, kept)  # 0 NaN is none
    return round_to(mixed, old.dtype)
