"""Running a kernel on a case, and measuring what comes back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import numpy_norms

from .arrangement import Arrangement
from .battery import Case
from .plain import Array, Kernel
from .report import Row
from .tolerances import Accumulator, Tolerances, bounds, roundoff
from .traits import traits

__all__ = ["Judge", "Run", "gradient_names", "library_kernel", "run"]


@dataclass
class Run:
    """What a kernel did with a case: results by name, exceptions by name, arguments it changed.

    `traits` is what was special about the call.
    """

    results: dict[str, Array] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    traits: dict[str, Any] = field(default_factory=dict)


def gradient_names(norm: str) -> tuple[str, ...]:
    """Return the names of what a backward pass returns, in order."""
    return ("dx", "dgamma") if norm == "rms_norm" else ("dx", "dgamma", "dbeta")


def run(case: Case, forward: Kernel | None, backward: Kernel | None) -> Run:
    """Run the passes that are given; exceptions are kept, not raised."""
    found = Run()
    before = {name: getattr(case, name).copy() for name in ("x", "gamma", "beta", "dy")}
    with np.errstate(all="ignore"):
        if forward is not None:
            _call(found, ("y",), lambda: (forward(*case.forward_arguments),))
            _restore(found, case, before)
        if backward is not None:
            names = gradient_names(case.norm)
            _call(found, names, lambda: backward(*case.backward_arguments))
            _restore(found, case, before)
    return found


def _restore(found: Run, case: Case, before: Mapping[str, Array]) -> None:
    """Note which arguments were changed, and give them their values back."""
    for name, array in before.items():
        if array.tobytes() != getattr(case, name).tobytes():
            getattr(case, name)[...] = array
            found.changed = tuple(dict.fromkeys((*found.changed, name)))


def _call(found: Run, names: tuple[str, ...], call: Any) -> None:
    try:
        returned = call()
        if not isinstance(returned, (tuple, list)) or len(returned) != len(names):
            got = f"{len(returned)} values" if isinstance(returned, (tuple, list)) else "one value"
            raise ValueError(f"returned {got}; {len(names)} are expected: {', '.join(names)}")
        for name, value in zip(names, returned, strict=True):
            found.results[name] = _real_array(value)
    except Exception as error:  # whatever somebody else's kernel raises is a finding
        for name in names:
            found.failures[name] = f"{type(error).__name__}: {error}".splitlines()[0]


def _real_array(value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.kind in "OUSb":
        raise TypeError(f"returned an array of {array.dtype}; numbers are expected")
    return array.astype(np.promote_types(array.dtype, np.float64))


def library_kernel(norm: str, **options: Any) -> tuple[Kernel, Kernel]:
    """Return this library's functions in the form that `check_kernel` takes."""
    forward = getattr(numpy_norms, f"{norm}_forward")
    backward = getattr(numpy_norms, f"{norm}_backward")

    def ahead(*arrays: Any) -> Any:
        return forward(*arrays[:-1], eps=arrays[-1], **options)[0]

    def back(dy: Any, *arrays: Any) -> Any:
        return backward(dy, forward(*arrays[:-1], eps=arrays[-1], **options)[1])

    return ahead, back


class Judge:
    """The expected values of a case and how far a kernel may be from them."""

    def __init__(
        self, case: Case, arrangement: Arrangement, dtype: np.dtype[Any], accumulate: Any
    ) -> None:
        self.case = case
        wide = np.longdouble if dtype == np.float64 else np.float64
        names = ("x", "gamma", "beta", "dy")
        lifted = replace(case, **{name: getattr(case, name).astype(wide) for name in names})
        forward, backward = library_kernel(case.norm, **arrangement.options)
        with np.errstate(all="ignore"):
            y = forward(*lifted.forward_arguments)
            gradients = backward(*lifted.backward_arguments)
        self.expected: dict[str, Array] = {
            "y": y,
            **dict(zip(gradient_names(case.norm), gradients, strict=True)),
        }
        found = bounds(
            arrangement,
            case.x,
            case.gamma,
            case.beta,
            case.dy,
            case.eps,
            case.num_groups,
            dtype,
            accumulate,
        )
        self.tolerances, self.scales = (_by_name(t) for t in found)
        self.roundoff = roundoff(dtype)
        self.order = Accumulator.declared(dtype, accumulate).order
        self.exact = self.order in case.exact_for
        if self.exact:
            self.expected = {
                name: value.astype(dtype).astype(wide) for name, value in self.expected.items()
            }

    def traits(self, arrangement: Arrangement) -> dict[str, Any]:
        """Return what may tell this case from others."""
        return traits(arrangement, self.case)

    def dull(self, name: str) -> bool:
        """Return whether an output of this case is nothing but rounding noise."""
        expected, scale = abs(self.expected[name]), self.scales[name]
        return not bool((expected > 64 * scale).any())

    def allowed(self, name: str) -> Array:
        """Return the tolerances of an output: 0 where every operation is exact.

        The sums of products with x_hat in dgamma are exact only in kernels that centre first, so
        that an undeclared kernel is allowed one unit there.
        """
        if not self.exact:
            return self.tolerances[name]
        units = 1 if name == "dgamma" and self.order == "any" else 0
        return units * self.scales[name]

    def apart(self, name: str, one: Array, other: Array) -> float:
        """Return the largest distance between two results, in units of the tolerance."""
        return float(_distances(one, other, self.tolerances[name]).max(initial=0))

    def errors(self, name: str, got: Array) -> Array:
        """Return the distance of each element from the expected one, in units of its scale."""
        return _distances(got, self.expected[name], self.scales[name])

    def row(self, name: str, found: Run, baseline: Run) -> Row:
        """Return what one output came to."""
        if name in found.failures:
            return Row.failure(self.case.name, name, found.failures[name])
        got, expected = found.results[name], self.expected[name]
        if got.shape != expected.shape:
            note = f"has shape {got.shape}; {expected.shape} is expected"
            return Row.failure(self.case.name, name, note)
        ratios, errors = _distances(got, expected, self.allowed(name)), self.errors(name, got)
        measured = np.isfinite(ratios)
        if self.exact:  # where nothing is allowed, what differs at all is infinitely off
            measured = np.isfinite(got) | ~np.isfinite(expected)
        spoilt = int((~measured).sum())
        usable = np.where(measured, ratios, -1.0)
        worst = np.unravel_index(int(np.argmax(usable)), ratios.shape) if ratios.size else ()
        top = float(usable[worst]) if ratios.size else 0.0
        sizes = errors[measured]
        note = f"{spoilt} of {got.size} are not finite, or the other way" if spoilt else ""
        if self.exact and top > 0 and self.apart(name, got, expected) <= 1:
            note = "not equal to the last bit" + (f"; {note}" if note else "")
        return Row(
            self.case.name,
            name,
            float(sizes.max(initial=0)) if sizes.size or not spoilt else math.inf,
            float(np.quantile(sizes, 0.99, method="higher")) if sizes.size else 0.0,
            top if top >= 0 else math.inf,
            passed=top <= 1 and not spoilt,
            baseline=float(self.errors(name, baseline.results[name]).max(initial=0)),
            worst=tuple(int(i) for i in worst),
            got=float(got[worst]) if ratios.size else math.nan,
            expected=float(expected[worst]) if ratios.size else math.nan,
            not_finite=spoilt,
            note=note,
        )


def _distances(got: Array, expected: Array, unit: Array) -> Array:
    """Return |got - expected| / unit; 0 where both are NaN, infinity where one is."""
    with np.errstate(all="ignore"):
        same = (got == expected) | (np.isnan(got) & np.isnan(expected))
        distances = np.where(same, 0, abs(got - expected) / unit)
    return np.where(np.isnan(distances), np.inf, distances)


def _by_name(arrays: Tolerances) -> dict[str, Array]:
    return {name: a for name, a in arrays._asdict().items() if a is not None}
