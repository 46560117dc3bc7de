"""The expected values of a case, how far a kernel may be from them, and what it came to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

import numpy_norms
from numpy_norms.oracle.reference import evaluate

from .arrangement import Arrangement
from .battery import Case
from .plain import SCHEMES, Array, Edit, Work, worked
from .report import Row
from .runs import Run, gradient_names
from .tolerances import Accumulator, Bounds, Tolerances, bounds, roundoff
from .traits import traits

__all__ = ["Judge", "distances"]


# Units of the scale that any order of sums is allowed in exact sets of 4096.
ANY_ORDER = {"y": 4, "dx": 5, "dgamma": 3, "dbeta": 0}


class Judge:
    """The expected values of a case and how far a kernel may be from them."""

    def __init__(
        self,
        case: Case,
        arrangement: Arrangement,
        dtype: np.dtype[Any],
        accumulate: Any,
        scheme: str = "exact",
    ) -> None:
        self.case, self.arrangement, self.scheme = case, arrangement, scheme
        self.roundoff, self.dtype = roundoff(dtype), dtype
        declared = Accumulator.declared(dtype, accumulate)
        self.rsqrt_ulp, self.order = declared.rsqrt_ulp, declared.order
        self.scale = case.gamma.astype(np.float64) + (scheme == "gemma")
        with np.errstate(all="ignore"):
            self.expected = _expected(case, arrangement, self.scale)
            self.expected |= _statistics(case, arrangement)
            self.expected["sum"] = np.asarray(case.x, np.float64)
            found = self.bounds(accumulate)
        self.tolerances, self.scales = (_by_name(t) for t in found[:2])
        for name, tolerance in zip(("mean", "rstd"), found.statistics, strict=True):
            self.tolerances[name] = self.scales[name] = tolerance
        self.tolerances["sum"] = self.scales["sum"] = self.roundoff * abs(self.expected["sum"])
        self.exact = self.order in case.exact_for
        inner = arrangement.inward(case.x)
        self.set_size = arrangement.view(inner, case.gamma, case.num_groups).set_size
        if self.exact:
            for name in ("y", *gradient_names(case.norm)):
                rounded = self.expected[name].astype(dtype)
                self.expected[name] = rounded.astype(np.float64)

    def bounds(self, accumulate: Any) -> Bounds:
        """Return how far a right kernel may be off that declares to add up so."""
        case = self.case
        return bounds(
            self.arrangement,
            case.x,
            self.scale,
            case.beta,
            case.dy,
            case.eps,
            case.num_groups,
            self.dtype,
            accumulate,
            cast_between=self.scheme in ("llama", "onnx"),
        )

    @cached_property
    def traits(self) -> dict[str, Any]:
        """What may tell this case from others."""
        return traits(self.arrangement, self.case)

    @cached_property
    def plain(self) -> Work:
        """The steps of the plain kernel on this case."""
        return self.worked()

    @cached_property
    def plain_forward(self) -> Work:
        """The same of a forward pass, which has no dy."""
        return replace(self.plain, dy=None)

    def worked(self, dtype: DTypeLike | None = None) -> Work:
        """Return the steps of the plain kernel, on arrays of another type if one is given."""
        work = self.worked_on(*self.arrays(dtype))
        if self.case.residual is not None:
            apart = self.arrangement.inward(self.case.residual)
            work.residual = apart.astype(work.x.dtype).reshape(work.view.shape)
        return work

    def arrays(self, dtype: DTypeLike | None = None) -> tuple[Array, Array, Array, Array]:
        """Return x, gamma, beta and dy, in the norm's own order of axes."""
        case, bring = self.case, self.arrangement.inward
        x, gamma, beta, dy = (
            np.asarray(a, dtype) for a in (bring(case.x), case.gamma, case.beta, bring(case.dy))
        )
        return x, gamma, beta, dy

    def worked_on(
        self, x: Array, gamma: Array, beta: Array, dy: Array | None, *edits: Mapping[str, Edit]
    ) -> Work:
        """Return the steps of the plain kernel on such arrays, with edits; forward without dy."""
        case = self.case
        groups = () if case.num_groups is None else (case.num_groups,)
        arguments = x, *groups, gamma, beta, case.eps
        return worked(case.norm, arguments, dy, (SCHEMES[self.scheme], *edits))

    def plain_errors(self) -> dict[str, float]:
        """Return the largest error of the plain kernel in each output."""
        work, case = self.worked(), self.case
        inner = self.arrangement.inward(case.x).shape
        rounded = {
            name: np.asarray(getattr(work, name)).astype(case.x.dtype).reshape(inner)
            for name in ("y", "dx")
        }
        found = {name: self.arrangement.outward(a) for name, a in rounded.items()}
        for name in gradient_names(case.norm)[1:]:
            found[name] = getattr(work, name).astype(case.gamma.dtype).reshape(case.gamma.shape)
        wide = {name: a.astype(np.float64) for name, a in found.items()}
        return {name: float(self.errors(name, a).max(initial=0)) for name, a in wide.items()}

    def dull(self, name: str) -> bool:
        """Return whether an output of this case is nothing but rounding noise."""
        return not bool((abs(self.expected[name]) > 64 * self.scales[name]).any())

    def allowed(self, name: str) -> Array:
        """Return the tolerances of an output: 0 where every operation is exact.

        What a kernel may do without declaring it is allowed some units there: Welford's
        recurrence, which rounds at every step, sums of products with an x that is not centred, and
        a reciprocal root that is declared to be off.
        """
        if not self.exact or name not in self.scales or name in ("mean", "rstd", "sum"):
            return self.tolerances[name]
        units = ANY_ORDER[name] * math.log2(self.set_size) / 12 if self.order == "any" else 0
        off = self.rsqrt_ulp if name != "dbeta" else 0.0
        return (units + 2 * off) * self.scales[name]

    def apart(self, name: str, one: Array, other: Array) -> float:
        """Return the largest distance between two results, in units of the tolerance."""
        return float(distances(one, other, self.tolerances[name]).max(initial=0))

    def errors(self, name: str, got: Array) -> Array:
        """Return the distance of each element from the expected one, in units of its scale."""
        return distances(got, self.expected[name], self.scales[name])

    def row(self, name: str, found: Run, baseline: float = math.nan) -> Row:
        """Return what one output came to, beside the largest error of a baseline."""
        if name in found.failures:
            return Row.failure(self.case.name, name, found.failures[name])
        got, expected = found.results[name], self.expected[name]
        if name in ("mean", "rstd") and got.size == expected.size:
            got = got.reshape(expected.shape)
        if got.shape != expected.shape:
            note = f"has shape {got.shape}; {expected.shape} is expected"
            return Row.failure(self.case.name, name, note)
        if self.exact and name in ("y", *gradient_names(self.case.norm)):
            with np.errstate(all="ignore"):  # a wider type may come back
                got = got.astype(self.dtype).astype(np.float64)
        ratios, errors = distances(got, expected, self.allowed(name)), self.errors(name, got)
        measured = (np.isfinite(got) == np.isfinite(expected)) | (got == expected)
        spoilt = int((~measured).sum())
        usable = np.where(measured, np.minimum(ratios, np.finfo(float).max), -1.0)
        worst = np.unravel_index(int(np.argmax(usable)), ratios.shape) if ratios.size else ()
        top = float(usable[worst]) if ratios.size else 0.0
        sizes = errors[measured]
        notes = [f"{spoilt} of {got.size} elements are not finite"] if spoilt else []
        if self.exact and top > 1 and self.apart(name, got, expected) <= 1:
            notes.insert(0, "not equal to the last bit")
        return Row(
            self.case.name,
            name,
            float(sizes.max(initial=0)) if sizes.size or not spoilt else math.inf,
            _of_99_percent(sizes) if sizes.size else 0.0,
            top if top >= 0 else math.inf,
            passed=top <= 1 and not spoilt,
            baseline=baseline,
            worst=tuple(int(i) for i in worst),
            got=float(got[worst]) if ratios.size else math.nan,
            expected=float(expected[worst]) if ratios.size else math.nan,
            not_finite=spoilt,
            note="; ".join(notes),
        )


def _of_99_percent(sizes: Array) -> float:
    """Return the smallest of the sizes that 99 percent of them do not exceed."""
    rank = math.ceil(0.99 * (sizes.size - 1))
    return float(np.partition(sizes, rank)[rank])


def _expected(case: Case, arrangement: Arrangement, scale: Array) -> dict[str, Array]:
    """Return the exact results, rounded to float64 once: by the library from narrower types."""
    names = ("y", *gradient_names(case.norm))
    wide = {"x": case.x.astype(np.float64), "gamma": scale}
    if case.norm != "rms_norm":
        wide["beta"] = case.beta.astype(np.float64)
    options = {"eps": case.eps, **arrangement.options}
    options |= {} if case.num_groups is None else {"num_groups": case.num_groups}
    if case.x.dtype == np.float64:
        exact = evaluate(case.norm, wide, case.dy, **options)
        return {name: exact[name].value.hi for name in names}
    forward = getattr(numpy_norms, f"{case.norm}_forward")
    backward = getattr(numpy_norms, f"{case.norm}_backward")
    y, cache = forward(**wide, **options)
    return dict(zip(names, (y, *backward(case.dy.astype(np.float64), cache)), strict=True))


def _statistics(case: Case, arrangement: Arrangement) -> dict[str, Array]:
    """Return the mean and the reciprocal root of each set."""
    inner = arrangement.inward(case.x)
    view = arrangement.view(inner, case.gamma, case.num_groups)
    x = np.asarray(inner, np.float64).reshape(view.shape)
    mean = x.mean(axis=view.over, keepdims=True)
    mean += (x - mean).mean(axis=view.over, keepdims=True)
    deviation = x if case.norm == "rms_norm" else x - mean
    rstd = ((deviation**2).mean(axis=view.over) + case.eps) ** -0.5
    centre = {} if case.norm == "rms_norm" else {"mean": mean.squeeze(view.over)}
    return {**centre, "rstd": rstd}


def distances(got: Array, expected: Array, unit: Array) -> Array:
    """Return |got - expected| / unit; 0 where both are the same, infinity where one is NaN."""
    with np.errstate(all="ignore"):
        found = np.asarray(abs(got - expected) / unit)
    senseless = np.isnan(found)
    if senseless.any():
        same = (got == expected) | (np.isnan(got) & np.isnan(expected))
        found[senseless] = np.where(same, 0, np.inf)[senseless]
    return found


def _by_name(arrays: Tolerances) -> dict[str, Array]:
    return {name: a for name, a in arrays._asdict().items() if a is not None}
