"""What needs no fault to be said: arguments overwritten, exceptions, other shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

from numpy_norms.verify.catalogue import KNOWN
from numpy_norms.verify.finding import Finding
from numpy_norms.verify.judge import Judge
from numpy_norms.verify.plain import Array
from numpy_norms.verify.runs import Run, gradient_names

from .places import conditions
from .saved import STATISTICS

__all__ = ["failures", "overwritten", "reordered"]

NUMBERS = re.compile(r"\d[\d.,x× ]*")


def overwritten(runs: Sequence[Run]) -> Iterator[Finding]:
    """Yield the arguments that were written into."""
    known = {fault.name: fault for fault in KNOWN}
    for name in dict.fromkeys(n for made in runs for n in made.changed):
        fault = known.get(f"{name}_overwritten")
        what = f"the argument {name} is overwritten"
        yield Finding(
            name,
            "overwritten",
            what,
            name=fault.name if fault else "",
            issue=fault.issue if fault else "",
        )


def failures(judges: Sequence[Judge], runs: Sequence[Run]) -> Iterator[Finding]:
    """Yield what raised, or came back in another shape, and when."""
    notes: dict[tuple[str, str], dict[str, set[int]]] = {}
    written: dict[str, str] = {}  # the first of those that differ in their numbers, such as shapes
    for number, (judge, made) in enumerate(zip(judges, runs, strict=True)):
        for output, note in made.failures.items():
            kind = "shape" if note.startswith("returned") else "raises"
            note = written.setdefault(NUMBERS.sub("", note), note)
            notes.setdefault((kind, note), {}).setdefault(output, set()).add(number)
        for output, got in made.results.items():
            expected = judge.expected[output].shape
            number_of_each = output in STATISTICS
            if got.size != math.prod(expected) if number_of_each else got.shape != expected:
                what = "its shape is not that of the argument"
                if number_of_each:
                    what = "it is not one number for each set"
                notes.setdefault(("shape", what), {}).setdefault(output, set()).add(number)
    for (kind, note), outputs in notes.items():
        ill = set.union(*outputs.values())
        calls = [
            (judge.traits | made.traits, 1.0 if number in ill else -1.0)
            for number, (judge, made) in enumerate(zip(judges, runs, strict=True))
        ]
        when = next(conditions(calls), None)
        what = f"raises {note}" if kind == "raises" else note
        yield Finding(", ".join(outputs), kind, what, condition=str(when) if when else "")


def reordered(judges: Sequence[Judge], runs: Sequence[Run]) -> Iterator[Finding]:
    """Yield that the gradients are right, and come in another order, if dx is not where it is."""
    names = gradient_names(judges[0].case.norm)
    calls = [
        (j, m.results) for j, m in zip(judges, runs, strict=True) if set(names) <= {*m.results}
    ]
    for order in permutations(names):
        if order[0] != names[0] and calls and all(_come_as(order, *call) for call in calls):
            what = f"the gradients come in another order: {', '.join(order)}"
            yield Finding(", ".join(names), "shape", what)


def _come_as(order: Sequence[str], judge: Judge, results: Mapping[str, Array]) -> bool:
    return all(
        results[here].shape == judge.expected[name].shape
        and judge.apart(name, results[here], judge.expected[name]) <= 1
        for here, name in zip(gradient_names(judge.case.norm), order, strict=True)
    )
