"""The norms in 106-bit arithmetic: what the library is measured against.

Shares no line with the library. A set of positions that share statistics is a row of flat
positions, found by their keys; the gradient goes back through the reciprocal root, the variance and
the mean one after the other, as the chain rule says, and not through the collapsed form (12).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numpy_norms.oracle.double_double import Float64, Pair
from numpy_norms.oracle.sets import Positions, sharing

BLOCK = 1 << 15  # elements at a time, so that a block's temporaries stay in the cache


class Exact(NamedTuple):
    """A result to about 30 digits, and per element the sum of the sizes of its terms."""

    value: Pair
    scale: Float64

    def reshape(self, shape: tuple[int, ...]) -> Exact:
        """Return the same elements in another shape."""
        value = Pair(self.value.hi.reshape(shape), self.value.lo.reshape(shape))
        return Exact(value, self.scale.reshape(shape))

    def ulps(self, got: NDArray[Any]) -> float:
        """Return the largest error of `got` in units in the last place of its dtype.

        The unit is that of the scale for float64 results, where sums cancel; for narrower results,
        computed in float64, it is that of the value itself (of 2**-16 of the scale at least), so
        that 0.5 means correctly rounded.
        """
        least = self.scale if got.dtype == np.float64 else self.scale * 2.0**-16
        size = np.minimum(np.maximum(np.abs(self.value.hi), least), np.finfo(got.dtype).max)
        unit = np.spacing(size.astype(got.dtype)).astype(np.float64)
        return largest_ratio(self.value.error(got), unit)


def evaluate(
    norm: str,
    arrays: Mapping[str, NDArray[Any]],
    dy: NDArray[Any],
    *,
    eps: float = 1e-5,
    **options: Any,
) -> dict[str, Exact]:
    """Evaluate y and the gradient of sum(dy * y) for every array of `arrays`.

    `arrays` has x; gamma and beta, or without them 1 and 0; and for batch norm inference
    running_mean and running_var. The options are those of `sharing`.
    """
    x = arrays["x"]
    share = sharing(norm, x.shape, **options)
    full = {"gamma": np.broadcast_to(1.0, x.size), "beta": np.broadcast_to(0.0, x.size)}
    full |= {name: _flat(array)[share.parameters] for name, array in arrays.items() if name != "x"}
    full |= {"x": _flat(x), "dy": _flat(dy)}
    results: dict[str, Exact] = {}
    for rows in _blocks(share.set_rows):
        part = {name: array[rows] for name, array in full.items()}
        for name, exact in _evaluate_sets(norm, part, eps).items():
            target = results.setdefault(name, _empty(x.size))
            target.value.hi[rows], target.value.lo[rows] = exact.value.hi, exact.value.lo
            target.scale[rows] = exact.scale
    whole = {name: results[name].reshape(x.shape) for name in ("y", "dx")}
    sums = {
        f"d{name}": _summed(results[f"d{name}"], share.parameter_rows).reshape(array.shape)
        for name, array in arrays.items()
        if name != "x"
    }
    return whole | sums


def largest_ratio(error: Float64, unit: Float64) -> float:
    """Return the largest of error / unit; no error is 0, whatever its unit."""
    ratio = np.divide(error, unit, out=np.full_like(error, np.inf), where=unit > 0)
    return float(np.where(error == 0, 0.0, ratio).max(initial=0.0))


def _evaluate_sets(norm: str, part: dict[str, Float64], eps: float) -> dict[str, Exact]:
    """Evaluate whole sets, one per row; a parameter's gradient is left as the terms of its sum."""
    dy, gamma, beta = part["dy"], part["gamma"], part["beta"]
    g = Pair.of(gamma) * dy
    if norm == "batch_norm_inference":
        x_hat, results = _given_statistics(part, g, eps)
    else:
        x_hat, results = _own_statistics(part["x"], g, eps, centered=norm != "rms_norm")
    return results | {
        "y": Exact(x_hat.value * gamma + beta, np.abs(gamma) * x_hat.scale + np.abs(beta)),
        "dgamma": Exact(x_hat.value * dy, np.abs(dy) * x_hat.scale),
        "dbeta": Exact(Pair.of(dy), np.abs(dy)),
    }


def _own_statistics(
    x: Float64, g: Pair, eps: float, *, centered: bool
) -> tuple[Exact, dict[str, Exact]]:
    """Return x_hat and dx, where every row of `x` has the statistics of its own elements."""
    # Powers of two keep squares finite and nonzero, and change no digit: one for x, and one for
    # what is left about the mean, which eps may exceed by far.
    root_eps, m = np.sqrt(eps), float(x.shape[-1])
    exponent = _exponent(x, root_eps)
    c = Pair.of(np.ldexp(x, -exponent))
    c = c - c.mean() if centered else c
    further = _exponent(c.hi, np.ldexp(root_eps, -exponent))
    c, exponent = c.ldexp(-further), exponent + further
    r = _reciprocal_root((c * c).mean(), np.ldexp(eps, -2 * exponent))
    x_hat = c * r

    dr = (g * c).sum()
    dvar = dr * r * r * r * -0.5
    dc = g * r + dvar * 2.0 / m * c
    dx = dc - dc.mean() if centered else dc

    h, size = np.abs(x_hat.hi), np.abs(g.hi)
    of_dx = r.hi * (size + h * _mean(size * h) + (_mean(size) if centered else 0.0))
    # What is averaged away is known no better than the terms of the average.
    return Exact(x_hat, h + (_mean(h) if centered else 0.0)), {
        "dx": Exact(dx.ldexp(-exponent), np.ldexp(of_dx, -exponent))
    }


def _given_statistics(
    part: dict[str, Float64], g: Pair, eps: float
) -> tuple[Exact, dict[str, Exact]]:
    """Return x_hat, and the gradients of x and of the statistics, which are arguments."""
    c = Pair.of(part["x"]) - part["running_mean"]
    r = _reciprocal_root(Pair.of(part["running_var"]), eps)
    x_hat, dx = c * r, g * r
    dvar = g * c * r * r * r * -0.5
    return Exact(x_hat, np.abs(x_hat.hi)), {
        "dx": Exact(dx, np.abs(dx.hi)),
        "drunning_mean": Exact(-dx, np.abs(dx.hi)),
        "drunning_var": Exact(dvar, np.abs(dvar.hi)),
    }


def _mean(a: Float64) -> Float64:
    mean: Float64 = a.mean(axis=-1, keepdims=True)
    return mean


def _exponent(a: Float64, least: Float64) -> NDArray[np.int32]:
    """Return for each row the power of two above its largest element, or above `least`."""
    largest = np.abs(a).max(axis=-1, keepdims=True)
    exponent: NDArray[np.int32] = np.frexp(np.maximum(largest, least))[1]
    return exponent


def _reciprocal_root(var: Pair, eps: Float64 | float) -> Pair:
    return Pair.of(1.0) / (var + eps).root()


def _summed(terms: Exact, rows: Positions) -> Exact:
    return Exact(terms.value[rows].sum(), terms.scale[rows].sum(axis=-1))


def _flat(array: NDArray[Any]) -> Float64:
    return array.astype(np.float64).ravel()


def _blocks(sets: Positions) -> Iterator[Positions]:
    rows = max(1, BLOCK // max(1, sets.shape[1]))
    return (sets[start : start + rows] for start in range(0, len(sets), rows))


def _empty(size: int) -> Exact:
    return Exact(Pair(np.empty(size), np.empty(size)), np.empty(size))
