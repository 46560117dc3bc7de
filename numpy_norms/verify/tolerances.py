"""How far a right kernel may be from the exact result, element by element.

The bounds follow the rounding errors of the plain algorithm to first order. Per set, with g =
gamma dy, h = x_hat, a = the growth of rounding errors in its sums and kappa = E|x| r, the
condition of centring (0 for RMS norm)::

    (V1) y:      u_w |gamma| ((a/2 + 8) |h| + a kappa (1 + |h|)) + 2 u_w |beta| + u_o |y|
    (V2) dx:     r (u_w (a + 12) + (u_w a kappa)^2) S + u_w r a kappa K + u_o |dx|
    (V3) dgamma: u_w ((a_N + a/2 + 8) sum |dy h| + a sum kappa |dy|) + u_o |dgamma|
    (V4) dbeta:  u_w a_N sum |dy| + u_o |dbeta|
    (V5) mean:   u_w a E|x| + u_s |mean|
    (V6) rstd:   r (u_w (a/2 + 8 + a kappa) + u_s)

u_w and u_o are the roundoff of the accumulator and of the output, u_s that of what is saved:
float32, or the type of x if that is wider. A kernel that rounds between the steps, as Llama's
does, is allowed u_o S r more in dx and 2 u_o sum |dy h| in dgamma. S is |g| + E|g| + |h| E|g h|. K
is E|g h| + (1 + |h|) E|g|, or, for a kernel declared to be centred, |E[g h]| + |h E[g]|. How much
of these bounds right kernels use is measured by ``benchmarks/calibrate_tolerances.py``.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from numpy_norms.checks import choice, shown

from .arrangement import Arrangement
from .given import passed_through
from .plain import Array, View, as_dtype

__all__ = ["Accumulator", "Bounds", "Tolerances", "bounds", "roundoff", "tolerances"]


class Tolerances(NamedTuple):
    """One array for each output of a kernel; `dbeta` is None for RMS norm."""

    y: Array
    dx: Array
    dgamma: Array
    dbeta: Array | None


class Bounds(NamedTuple):
    """The tolerances; the scales in which errors are expressed; those of mean and rstd."""

    tolerances: Tolerances
    scales: Tolerances
    statistics: tuple[Array, Array]


_GROWTH: dict[str, Callable[[int], float]] = {
    "any": lambda n: min(n, 4 * math.sqrt(n)) + 2,
    "pairwise": lambda n: math.log2(max(n, 1)) + 3,
    "naive": lambda n: n + 2.0,
}


@dataclass(frozen=True)
class Accumulator:
    """How a kernel says that it adds up.

    Parameters
    ----------
    dtype : dtype
        The type of its sums and of its arithmetic.
    order : {"any", "pairwise", "naive"}
        The order of its sums. ``"pairwise"`` promises rounding errors that grow with log2 n,
        ``"naive"`` only with n; ``"any"`` stands for what the usual orders, Welford's recurrence
        among them, come to: 4 sqrt(n).
    centred : bool
        Whether the backward pass subtracts the mean from `x` before it adds up products with `x`.
    rsqrt_ulp : float
        The error of its reciprocal root, in units in the last place.
    """

    dtype: DTypeLike
    order: str = "any"
    centred: bool = False
    rsqrt_ulp: float = 0.0

    def __post_init__(self) -> None:
        choice("order", self.order, _GROWTH)
        if as_dtype(self.dtype).kind not in "fV":  # V is bfloat16
            raise TypeError(f"dtype is {shown(self.dtype)}; it must be a floating-point type")
        if not isinstance(self.rsqrt_ulp, (int, float)) or not 0 <= self.rsqrt_ulp < math.inf:
            raise ValueError(
                f"rsqrt_ulp is {shown(self.rsqrt_ulp)}; a number of 0 or more is expected"
            )

    def growth(self, n: int) -> float:
        """Return the error of a sum of `n` terms, in units of roundoff times sum of magnitudes."""
        return float(_GROWTH[self.order](n))

    @classmethod
    def declared(
        cls, dtype: np.dtype[Any], accumulate: DTypeLike | Accumulator | None
    ) -> Accumulator:
        """Return `accumulate` as an accumulator; None is float32 or `dtype`, the wider one."""
        if isinstance(accumulate, Accumulator):
            return accumulate
        if accumulate is None:
            return cls(np.promote_types(dtype, np.float32))
        return cls(as_dtype(accumulate))


def roundoff(dtype: DTypeLike) -> float:
    """Return half the distance from 1 to the next number of a floating-point type."""
    return float(_limits(np.dtype(dtype)).eps) / 2


def _limits(dtype: np.dtype[Any]) -> Any:
    if np.issubdtype(dtype, np.floating):
        return np.finfo(dtype)
    # bfloat16 and its kind are not NumPy's own.
    return importlib.import_module("ml_dtypes").finfo(dtype)


def tolerances(
    norm: str,
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike | None = None,
    dy: ArrayLike | None = None,
    *,
    eps: float = 1e-5,
    num_groups: int | None = None,
    dtype: DTypeLike | None = None,
    accumulate: DTypeLike | Accumulator | None = None,
    **options: Any,
) -> Tolerances:
    """Return how far each element of a right kernel's results may be from the exact ones.

    Formulas (V1) to (V4) of this module.

    Parameters
    ----------
    norm : str
    x, gamma, beta, dy : array_like
        The inputs. Without `beta` it is 0; without `dy` it is 1.
    eps : float, default 1e-5
    num_groups : int, optional
        Of a group norm.
    dtype : dtype, optional
        The type of the results; that of `x` by default.
    accumulate : dtype or Accumulator, optional
        What the kernel adds up in; the wider of float32 and `dtype` by default.
    **options
        `axis` or `channel_axis`, as in this library's functions.

    Raises
    ------
    ValueError, TypeError
        If there is no such norm, `dtype` is no floating-point type, or the norm does not take such
        inputs.

    Examples
    --------
    >>> x = np.array([[0.0, 1.0, 2.0], [1000.0, 1001.0, 1002.0]], np.float32)
    >>> allowed = tolerances("layer_norm", x, np.ones(3))
    >>> bool(allowed.y[1, 0] > 100 * allowed.y[0, 0])
    True
    """
    arrangement = Arrangement.of(norm, options)
    x = np.asarray(x)
    gamma = np.asarray(gamma)
    shift = np.broadcast_to(0 if beta is None else beta, gamma.shape)
    cotangent = np.ones(x.shape) if dy is None else np.asarray(dy)
    passed_through(
        arrangement,
        x,
        gamma,
        None if beta is None else np.asarray(beta),
        cotangent,
        eps,
        num_groups,
    )
    theirs = x.dtype if dtype is None else as_dtype(dtype)
    if theirs.kind not in "fV":
        raise TypeError(f"dtype is {theirs}; it must be a floating-point type")
    return bounds(
        arrangement, x, gamma, shift, cotangent, eps, num_groups, theirs, accumulate
    ).tolerances


def bounds(
    arrangement: Arrangement,
    x: Array,
    gamma: Array,
    beta: Array,
    dy: Array,
    eps: float,
    num_groups: int | None,
    dtype: DTypeLike,
    accumulate: DTypeLike | Accumulator | None,
    *,
    cast_between: bool = False,
) -> Bounds:
    """Return the tolerances and scales of every output, in the caller's order of axes."""
    theirs = np.dtype(dtype)
    declared = Accumulator.declared(theirs, accumulate)
    inner = arrangement.inward(x)
    view = arrangement.view(inner, gamma, num_groups)

    def lifted(a: Array, shape: tuple[int, ...]) -> Array:
        return np.asarray(a, np.float64).reshape(shape)

    terms = _Terms.of(
        view,
        arrangement.norm != "rms_norm",
        lifted(inner, view.shape),
        lifted(arrangement.inward(dy), view.shape),
        lifted(gamma, view.params),
        lifted(beta, view.params),
        eps,
    )
    once = accumulate is not None and roundoff(declared.dtype) < roundoff(theirs)
    with np.errstate(all="ignore"):
        pairs = terms.pairs(declared, theirs, 1 if once else 3, cast_between)
        statistics = terms.statistics(declared, roundoff(np.promote_types(theirs, np.float32)))

    def outward(a: Array, parameter: bool) -> Array:
        return a.reshape(gamma.shape) if parameter else arrangement.outward(a.reshape(inner.shape))

    found = [
        Tolerances(
            outward(pairs[0][i], False),
            outward(pairs[1][i], False),
            outward(pairs[2][i], True),
            None if arrangement.norm == "rms_norm" else outward(pairs[3][i], True),
        )
        for i in range(2)
    ]
    mean, rstd = (a.squeeze(view.over) for a in statistics)
    return Bounds(found[0], found[1], (mean, rstd))


class _Terms(NamedTuple):
    """The magnitudes that the bounds are made of, on the four-axis view."""

    view: View
    centred: bool
    x: Array
    gamma: Array
    beta: Array
    dy: Array
    h: Array
    r: Array
    kappa: Array

    @classmethod
    def of(
        cls, view: View, centred: bool, x: Array, dy: Array, gamma: Array, beta: Array, eps: float
    ) -> _Terms:
        def average(a: Array) -> Array:
            return np.asarray(a.mean(axis=view.over, keepdims=True))

        with np.errstate(all="ignore"):
            deviation = x - average(x) if centred else x
            r = 1 / np.sqrt(average(deviation**2) + eps)
            kappa = average(abs(x)) * r * centred
        return cls(view, centred, x, gamma, beta, dy, deviation * r, r, kappa)

    def statistics(self, by: Accumulator, u_s: float) -> tuple[Array, Array]:
        """Return the tolerances of the mean and of the reciprocal root."""
        u_w, a = roundoff(by.dtype), by.growth(self.view.set_size)
        size = abs(self.x).mean(axis=self.view.over, keepdims=True)
        relative = u_w * (a / 2 + 8 + by.rsqrt_ulp + a * self.kappa) + u_s
        return np.asarray(u_w * a * size + u_s * size), np.asarray(self.r * relative)

    def pairs(
        self, by: Accumulator, out: np.dtype[Any], casts: int, cast_between: bool
    ) -> list[tuple[Array, Array]]:
        """Return (tolerance, scale) of y, dx, dgamma and dbeta."""
        u_w, u_o = roundoff(by.dtype), roundoff(out)
        tiny = float(_limits(out).smallest_subnormal)
        a = by.growth(self.view.set_size) + 2 * by.rsqrt_ulp
        a_n = by.growth(self.view.sum_size)

        def average(t: Array) -> Array:
            return np.asarray(t.mean(axis=self.view.over, keepdims=True))

        def total(t: Array) -> Array:
            return np.asarray(t.sum(axis=self.view.summed, keepdims=True))

        h, size, scale = abs(self.h), abs(self.dy), abs(self.gamma)
        g = self.gamma * self.dy
        average_g, average_gh = average(g), average(g * self.h)
        dy_h = self.dy * self.h
        y = self.gamma * self.h + self.beta
        dx = self.r * (g - self.centred * average_g - self.h * average_gh)
        dgamma, dbeta = total(dy_h), total(self.dy)
        g, dy_h = abs(g), abs(dy_h)
        sizes_g, sizes_gh = average(g), average(g * h)
        spread = g + self.centred * sizes_g + h * sizes_gh
        if by.centred:
            common = abs(average_gh) + h * abs(average_g)
        else:
            common = (sizes_gh + sizes_g) + h * sizes_g
        sum_dy, sum_dy_h = total(size), total(dy_h)
        shifted = a * self.kappa
        between = u_o * cast_between
        # The factors of a set are multiplied before they meet its elements.
        per_y = h * (u_w * (a / 2 + 8 + shifted) + u_o * (casts - 1)) + u_w * shifted
        per_y = scale * per_y + 2 * u_w * abs(self.beta) + u_o * abs(y)
        per_dx = self.r * (u_w * (a + 12 + u_w * shifted**2) + between) * spread
        per_dx += self.r * u_w * shifted * common + u_o * abs(dx)
        per_dgamma = u_w * ((a_n + a / 2 + 8) * sum_dy_h + total(shifted * size))
        per_dgamma += u_o * abs(dgamma) + 2 * between * sum_dy_h
        # What is rounded before the last step may be subnormal then, and is multiplied.
        return [
            (per_y + tiny * (1 + (casts > 1) * scale), u_o * (scale * h + abs(self.beta))),
            (per_dx + tiny, u_o * self.r * spread),
            (
                per_dgamma + tiny * (1 + cast_between * sum_dy),
                u_o * total(np.maximum(dy_h, size)),
            ),
            (u_w * a_n * sum_dy + u_o * abs(dbeta) + tiny, u_o * sum_dy),
        ]
