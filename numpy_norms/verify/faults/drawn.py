"""Faults drawn at random from the grammar, confined to a place and to a condition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from numpy_norms.oracle.sets import FEATURE_NORMS
from numpy_norms.verify.arrangement import Arrangement
from numpy_norms.verify.battery import Case
from numpy_norms.verify.plain import Array, Kernel, plain_kernel
from numpy_norms.verify.traits import traits

from .coordinates import PARAMETERS, coordinates
from .factors import QUANTITIES, SIZES
from .grammar import Fault, averaged, cast, factor, left_out, sign
from .memory import by_address
from .place import Condition, Place
from .regions import WORDS, axes_by_name, over_axes, within_set, within_sum

__all__ = ["Drawn", "confined", "drawn"]

STEPS = {
    "y": ("y", "x_hat", "scale"),
    "dx": ("centre", "projection", "dx", "dx_hat"),
    "dgamma": ("dgamma",),
    "dbeta": ("dbeta",),
}
MEANS = {"y": ("mean", "var"), "dx": ("centre", "projection")}
SCALARS = ("m", "1/m", "1/n", "N", "1/N", "2", "1/2", "m/(m - 1)", "sqrt(m)")


@dataclass(frozen=True)
class Drawn:
    """A fault with its label: the output, the kind, the place and the condition."""

    norm: str
    fault: Fault
    output: str
    place: Place | None = None
    when: Condition | None = None
    passes: tuple[Kernel, Kernel] = field(repr=False, default=(lambda: None, lambda: None))

    @property
    def label(self) -> tuple[str, str, str, str]:
        """Return what a diagnosis should say."""
        return self.output, self.fault.kind, str(self.place or ""), str(self.when or "")


def confined(
    norm: str, fault: Fault, output: str, place: Place | None, when: Condition | None
) -> tuple[Kernel, Kernel]:
    """Return the plain kernel of a norm with a fault in one output, at a place, in some cases."""
    right, wrong = plain_kernel(norm), fault.kernel(norm)
    arrangement = Arrangement(norm)
    calls: dict[tuple[int, ...], int] = {}

    def merged(name: str, good: Array, bad: Array, arguments: tuple[Any, ...], dy: Array) -> Array:
        if name != output or good.shape != bad.shape:
            return good
        x, *groups, gamma, beta, eps = (
            arguments
            if norm != "rms_norm"
            else (*arguments[:2], np.zeros_like(arguments[1]), arguments[2])
        )
        case = Case("", norm, "", x, gamma, beta, dy, eps, *groups)
        known = traits(arrangement, case) | {"calls": calls.get(x.shape, 1) - 1}
        if when is not None and not when.holds(known):
            return good
        if place is None:
            return bad
        view = arrangement.view(x, gamma, groups[0] if groups else None)
        along = [c for c in coordinates(norm, view, x.shape, name) if c.axis == place.axis]
        if not along:
            return good
        mask = place.holds(along[0].size)[along[0].indices].reshape(good.shape)
        return np.where(mask, bad, good)

    def forward(*arguments: Any) -> Any:
        if output == "y":
            calls[arguments[0].shape] = calls.get(arguments[0].shape, 0) + 1
        x = arguments[0]
        return merged("y", right[0](*arguments), wrong[0](*arguments), arguments, x)

    def backward(dy: Any, *arguments: Any) -> Any:
        if output != "y":
            calls[arguments[0].shape] = calls.get(arguments[0].shape, 0) + 1
        pairs = zip(right[1](dy, *arguments), wrong[1](dy, *arguments), strict=True)
        names = ("dx", *PARAMETERS)
        return tuple(
            merged(name, good, bad, arguments, dy)
            for name, (good, bad) in zip(names, pairs, strict=False)
        )

    return forward, backward


def drawn(seed: int) -> Iterator[Drawn]:
    """Yield faults without end."""
    rng = np.random.default_rng(seed)
    norms = (*FEATURE_NORMS, "batch_norm", "group_norm", "instance_norm")
    while True:
        norm = str(rng.choice(norms))
        output = str(rng.choice(("y", "dx", "dx", "dgamma", *["dbeta"] * (norm != "rms_norm"))))
        fault = _fault(rng, norm, output)
        if fault is None or norm not in fault.norms:
            continue
        place = _place(rng, norm, output) if rng.random() < 0.4 else None
        when = _condition(rng, output) if rng.random() < 0.25 else None
        yield Drawn(norm, fault, output, place, when, confined(norm, fault, output, place, when))


def _fault(rng: np.random.Generator, norm: str, output: str) -> Fault | None:
    """Draw a verb and its object."""
    step = str(rng.choice(STEPS[output]))
    means = MEANS.get(output, ())
    centred = norm != "rms_norm"
    if not centred and (step == "centre"):
        step = "projection"
    about = tuple(s for s in means if centred or s not in ("mean", "centre"))
    verbs: dict[str, Callable[[], Fault]] = {
        "sign": lambda: sign(step),
        "left out": lambda: left_out(step),
        "factor": lambda: factor(step, SIZES[str(rng.choice(SCALARS))]),
        "quantity": lambda: factor(step, QUANTITIES[str(rng.choice(list(QUANTITIES)))]),
        "cast": lambda: cast(step),
    }
    if about:
        chosen = about if rng.random() < 0.5 else (str(rng.choice(about)),)
        axes = list(axes_by_name(norm, 4, 1))
        verbs["axis"] = lambda: _over(chosen, str(rng.choice(axes)))
        verbs["block"] = lambda: _within(rng, chosen)
    else:
        verbs["block"] = lambda: _within(rng, (step,))
    if output in ("y", "dx"):
        verbs["stride"] = lambda: by_address("x" if output == "y" else "dy")
    verb = str(rng.choice(list(verbs)))
    if verb == "quantity" and output in PARAMETERS:
        verb = "factor"  # a sum has no element of its own
    return verbs[verb]()


def _over(steps: tuple[str, ...], name: str) -> Fault:
    return averaged(steps, over_axes(name), "axis", name)


def _within(rng: np.random.Generator, steps: tuple[str, ...]) -> Fault:
    name = str(rng.choice(("first", "last block", "whole blocks", "but last block")))
    size = int(2 ** rng.integers(2, 12))
    words = WORDS[name].format(size)
    region = within_sum if steps[0] in PARAMETERS else within_set
    return averaged(steps, region(name, size), "block lost", words)


def _place(rng: np.random.Generator, norm: str, output: str) -> Place:
    axis = "feature" if norm in FEATURE_NORMS else "channel"
    if output not in PARAMETERS and rng.random() < 0.4:
        axis = "row" if norm in FEATURE_NORMS else "sample"
    period = int(rng.choice((2, 4, 8, 64)))
    low = int(rng.integers(0, period))
    high = int(rng.integers(low, period - (low == 0)))
    number = int(rng.choice((1, 2, 3, 5, 17)))
    forms = (
        Place(axis, "from", (int(rng.choice((2, 3, 16, 192))),)),
        Place(axis, "first", (number,)),
        Place(axis, "last", (number,)),
        Place(axis, "each", (low, high, period)),
    )
    return forms[int(rng.integers(len(forms)))]


def _condition(rng: np.random.Generator, output: str) -> Condition:
    choices = [
        Condition("set size", float(rng.choice((64, 1024, 4096)))),
        Condition("N", float(rng.choice((4, 128)))),
        Condition("calls"),
        Condition("x strided" if output == "y" else "dy strided"),
        Condition("mean/deviation", 100.0),
    ]
    return choices[int(rng.integers(len(choices)))]
