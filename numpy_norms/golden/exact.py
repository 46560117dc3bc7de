"""Expected values: the definition of a norm and its staged gradient, in multiple precision.

Nothing here is shared with the library's own equations: sums run over explicit sets, and the
gradient goes through the variance and the mean one at a time instead of through the closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf, ldexp, nan
from typing import Any

import numpy as np

from numpy_norms.golden.formats import Array, Format, extra
from numpy_norms.oracle.sets import Sharing

PRECISION = 320  # bits; the test suite regenerates every vector at twice as many

Numbers = Sequence[Any]  # of mpmath.mpf


def expected(
    norm: str, arrays: dict[str, Array], eps: float, share: Sharing, precision: int = PRECISION
) -> dict[str, Numbers]:
    """Return every output of `norm` and its gradients, each a flat list of mpmath numbers.

    `arrays` holds x, gamma, dy, beta (but for RMS norm), and for batch norm inference running_mean
    and running_var, all as float64.
    """
    mp = extra("mpmath").mp
    with mp.workprec(precision):
        values: dict[str, Numbers] = {
            name: [mp.mpf(float(v)) for v in a.ravel()] for name, a in arrays.items()
        }
        return _longhand(mp, norm, values, mp.mpf(eps), share)


def round_to(numbers: Numbers, form: Format) -> Array:
    """Round mpmath numbers once to the format, ties to even; return the results as float64."""
    return np.array([_nearest(number, form) for number in numbers], dtype=np.float64)


def _longhand(
    mp: Any, norm: str, v: dict[str, Numbers], eps: Any, share: Sharing
) -> dict[str, Any]:
    x, gamma, dy = v["x"], v["gamma"], v["dy"]
    sets, parameter = share.sets.tolist(), share.parameters.tolist()
    positions = range(len(x))
    over_set = _sums(mp, sets)
    over_parameter = _sums(mp, parameter)
    m = over_set(1 for _ in positions)
    batch_statistics = norm != "batch_norm_inference"
    mean: Numbers
    var: Numbers
    if batch_statistics:
        total = over_set(x)
        mean = [mp.mpf(0) if norm == "rms_norm" else t / n for t, n in zip(total, m, strict=True)]
        xc = [x[i] - mean[sets[i]] for i in positions]
        var = [s / n for s, n in zip(over_set(c * c for c in xc), m, strict=True)]
    else:
        mean, var = v["running_mean"], v["running_var"]
        xc = [x[i] - mean[sets[i]] for i in positions]
    rstd = [1 / mp.sqrt(a + eps) for a in var]
    x_hat = [xc[i] * rstd[sets[i]] for i in positions]
    beta = v.get("beta", [mp.mpf(0)] * len(gamma))
    y = [gamma[parameter[i]] * x_hat[i] + beta[parameter[i]] for i in positions]

    dx_hat = [gamma[parameter[i]] * dy[i] for i in positions]
    dvar = [
        s * r**3 / -2
        for s, r in zip(over_set(dx_hat[i] * xc[i] for i in positions), rstd, strict=True)
    ]
    dmean = [-r * s for s, r in zip(over_set(dx_hat), rstd, strict=True)]
    dx = [dx_hat[i] * rstd[sets[i]] for i in positions]
    if batch_statistics:
        along = [2 * d / n for d, n in zip(dvar, m, strict=True)]
        dx = [dx[i] + xc[i] * along[sets[i]] for i in positions]
    if batch_statistics and norm != "rms_norm":
        residual = over_set(xc)  # zero but for rounding; kept, as this is the longhand
        dmean = [dmu - 2 * d * s / n for dmu, d, s, n in zip(dmean, dvar, residual, m, strict=True)]
        about = [d / n for d, n in zip(dmean, m, strict=True)]
        dx = [dx[i] + about[sets[i]] for i in positions]

    out = {"y": y, "mean": mean, "rstd": rstd, "dx": dx}
    out["dgamma"] = over_parameter(dy[i] * x_hat[i] for i in positions)
    out["dbeta"] = over_parameter(dy)
    if norm == "rms_norm":
        del out["mean"], out["dbeta"]
    if not batch_statistics:
        del out["mean"]
        out |= {"drunning_mean": dmean, "drunning_var": dvar}
    return out


def _sums(mp: Any, number: list[int]) -> Callable[[Iterable[Any]], list[Any]]:
    """Return a function that adds up the values at positions with the same number."""

    def total(values: Iterable[Any]) -> list[Any]:
        parts: list[list[Any]] = [[] for _ in range(max(number) + 1)]
        for n, value in zip(number, values, strict=True):
            parts[n].append(value)
        return [mp.fsum(part) for part in parts]  # fsum: exact, then rounded once

    return total


def _nearest(number: Any, form: Format) -> float:
    sign, mantissa, exponent, bits = number._mpf_
    if not mantissa:
        return 0.0 if number == 0 else nan
    quantum = max(exponent + bits - form.digits, form.least)
    steps, lost = int(mantissa), quantum - exponent
    if lost > 0:  # all but a half is added, and that too where ties go up to the even number
        steps = steps + (1 << lost - 1) - 1 + (steps >> lost & 1) >> lost
    else:
        steps <<= -lost
    overflows = steps.bit_length() + quantum > form.greatest
    size = inf if overflows else ldexp(steps, quantum)
    return -size if sign else size
