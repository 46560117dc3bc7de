"""The norms in 106-bit arithmetic: what the library is measured against.

Shares no line with the library. A set of positions that share statistics is a row of flat
positions, found by counting; the gradient goes back through the reciprocal root, the variance and
the mean one after the other, as the chain rule says, and not through the collapsed form (12).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numpy_norms.oracle.double_double import Float64, Pair

Positions = NDArray[np.intp]
BLOCK = 1 << 15  # elements at a time, so that a block's temporaries stay in the cache
CHANNEL_NORMS = ("batch_norm", "batch_norm_inference", "group_norm", "instance_norm")


class Exact(NamedTuple):
    """A result to about 30 digits, and per element the sum of the sizes of its terms."""

    value: Pair
    scale: Float64

    def error(self, got: NDArray[Any]) -> Float64:
        """Return the absolute error of each element of `got`."""
        return np.abs((self.value.hi - got.astype(np.float64)) + self.value.lo)

    def ulps(self, got: NDArray[Any]) -> float:
        """Return the largest error of `got` in units in the last place of its dtype.

        The unit is that of the scale for float64 results, where sums cancel; for narrower results,
        computed in float64, it is that of the value itself (of 2**-16 of the scale at least), so
        that 0.5 means correctly rounded.
        """
        least = self.scale if got.dtype == np.float64 else self.scale * 2.0**-16
        size = np.minimum(np.maximum(np.abs(self.value.hi), least), np.finfo(got.dtype).max)
        return largest_ratio(self.error(got), np.spacing(size.astype(got.dtype)).astype(np.float64))


def evaluate(
    norm: str,
    arrays: dict[str, NDArray[Any]],
    dy: NDArray[Any],
    *,
    num_groups: int = 1,
    eps: float = 1e-5,
) -> dict[str, Exact]:
    """Evaluate y and the gradient of sum(dy * y) for every array of `arrays`.

    The channels of x are on axis 1; layer and RMS norm run over the last axis. `arrays` has x,
    gamma, beta (but for RMS norm) and, for batch norm inference, running_mean and running_var.
    """
    shape = arrays["x"].shape
    sets, sharers = sets_of(norm, shape, num_groups), sharers_of(norm, shape)
    full = {name: _spread(norm, array, shape) for name, array in arrays.items()} | {"dy": _flat(dy)}
    results: dict[str, Exact] = {}
    for rows in _blocks(sets):
        part = {name: array[rows] for name, array in full.items()}
        for name, exact in _evaluate_sets(norm, part, eps).items():
            target = results.setdefault(name, _empty(sets.size))
            target.value.hi[rows], target.value.lo[rows] = exact.value
            target.scale[rows] = exact.scale
    gradients = {f"d{name}" for name in arrays} - {"dx"}
    return {
        name: _summed(exact, sharers, arrays[name[1:]].shape)
        if name in gradients
        else Exact(Pair(*(half.reshape(shape) for half in exact.value)), exact.scale.reshape(shape))
        for name, exact in results.items()
    }


def sets_of(norm: str, shape: tuple[int, ...], num_groups: int = 1) -> Positions:
    """Return the flat positions of x that share statistics, one set per row."""
    positions = np.arange(np.prod(shape, dtype=np.intp)).reshape(shape)
    if norm in ("layer_norm", "rms_norm"):
        return positions.reshape(-1, shape[-1])
    if norm == "group_norm":
        return positions.reshape(shape[0] * num_groups, -1)
    if norm == "instance_norm":
        return positions.reshape(shape[0] * shape[1], -1)
    return np.moveaxis(positions, 1, 0).reshape(shape[1], -1)


def sharers_of(norm: str, shape: tuple[int, ...]) -> Positions:
    """Return the flat positions of x that share an element of gamma, one element per row."""
    positions = np.arange(np.prod(shape, dtype=np.intp)).reshape(shape)
    axis = 1 if norm in CHANNEL_NORMS else -1
    return np.moveaxis(positions, axis, 0).reshape(shape[axis], -1)


def largest_ratio(error: Float64, unit: Float64) -> float:
    """Return the largest of error / unit; no error is 0, whatever its unit."""
    ratio = np.divide(error, unit, out=np.full_like(error, np.inf), where=unit > 0)
    return float(np.where(error == 0, 0.0, ratio).max(initial=0.0))


def _evaluate_sets(norm: str, part: dict[str, Float64], eps: float) -> dict[str, Exact]:
    """Evaluate whole sets, one per row; a parameter's gradient is left as the terms of its sum."""
    dy, gamma, beta = Pair.of(part["dy"]), Pair.of(part["gamma"]), part.get("beta")
    g = gamma.times(dy)
    if norm == "batch_norm_inference":
        x_hat, results = _given_statistics(part, g, eps)
    else:
        x_hat, dx = _own_statistics(part["x"], g, eps, centered=norm != "rms_norm")
        results = {"dx": dx}
    y = gamma.times(x_hat.value)
    scale = np.abs(gamma.hi) * x_hat.scale
    if beta is None:
        results["y"] = Exact(y, scale)
    else:
        results["y"] = Exact(y.plus(Pair.of(beta)), scale + np.abs(beta))
        results["dbeta"] = Exact(dy, np.abs(dy.hi))
    results["dgamma"] = Exact(dy.times(x_hat.value), np.abs(dy.hi) * x_hat.scale)
    return results


def _own_statistics(x: Float64, g: Pair, eps: float, *, centered: bool) -> tuple[Exact, Exact]:
    """Return x_hat and dx, where every row of `x` has the statistics of its own elements."""
    # A power of two keeps squares finite and nonzero, and changes no digit.
    largest = np.maximum(np.abs(x).max(axis=-1, keepdims=True), np.sqrt(eps))
    unit = np.exp2(-np.floor(np.log2(largest)))
    c = Pair.of(x * unit)
    c = c.minus(c.mean()) if centered else c
    r = _reciprocal_root(c.times(c).mean(), eps * unit * unit)
    x_hat = c.times(r)

    dr = g.times(c).sum()
    dvar = _scaled(r.times(r).times(r).times(dr), -0.5)
    dc = g.times(r).plus(_scaled(dvar.times(c), 2.0).over(Pair.of(float(x.shape[-1]))))
    dx = _scaled(dc.minus(dc.mean()) if centered else dc, unit)

    h, size = np.abs(x_hat.hi), np.abs(g.hi)
    of_dx = size + h * _mean(size * h) + (_mean(size) if centered else 0.0)
    # What is averaged away is known no better than the terms of the average.
    return Exact(x_hat, h + (_mean(h) if centered else 0.0)), Exact(dx, r.hi * unit * of_dx)


def _given_statistics(
    part: dict[str, Float64], g: Pair, eps: float
) -> tuple[Exact, dict[str, Exact]]:
    """Return x_hat, and the gradients of x and of the statistics, which are arguments."""
    c = Pair.of(part["x"]).minus(Pair.of(part["running_mean"]))
    r = _reciprocal_root(Pair.of(part["running_var"]), eps)
    x_hat, dx = c.times(r), g.times(r)
    dvar = _scaled(r.times(r).times(r).times(g.times(c)), -0.5)
    return Exact(x_hat, np.abs(x_hat.hi)), {
        "dx": Exact(dx, np.abs(dx.hi)),
        "drunning_mean": Exact(_scaled(dx, -1.0), np.abs(dx.hi)),
        "drunning_var": Exact(dvar, np.abs(dvar.hi)),
    }


def _mean(a: Float64) -> Float64:
    mean: Float64 = a.mean(axis=-1, keepdims=True)
    return mean


def _reciprocal_root(var: Pair, eps: Float64 | float) -> Pair:
    return Pair.of(1.0).over(var.plus(Pair.of(eps)).root())


def _scaled(pair: Pair, factor: Float64 | float) -> Pair:
    """Multiply by a power of two, exactly."""
    return Pair(pair.hi * factor, pair.lo * factor)


def _summed(terms: Exact, sharers: Positions, shape: tuple[int, ...]) -> Exact:
    value = Pair(*(half[sharers] for half in terms.value)).sum()
    scale = terms.scale[sharers].sum(axis=-1)
    return Exact(Pair(*(half.reshape(shape) for half in value)), scale.reshape(shape))


def _spread(norm: str, array: NDArray[Any], shape: tuple[int, ...]) -> Float64:
    """Return x, or a parameter repeated to the shape of x, flat."""
    if norm in CHANNEL_NORMS and array.ndim == 1:
        array = array.reshape(-1, *(1,) * (len(shape) - 2))
    return _flat(np.broadcast_to(array, shape))


def _flat(array: NDArray[Any]) -> Float64:
    return array.astype(np.float64).ravel()


def _blocks(sets: Positions) -> Iterator[Positions]:
    rows = max(1, BLOCK // max(1, sets.shape[1]))
    return (sets[start : start + rows] for start in range(0, len(sets), rows))


def _empty(size: int) -> Exact:
    return Exact(Pair(np.empty(size), np.empty(size)), np.empty(size))
