"""What needs no fault to be said: arguments overwritten, exceptions, other shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from numpy_norms.verify.catalogue import KNOWN
from numpy_norms.verify.finding import Finding
from numpy_norms.verify.judge import Judge
from numpy_norms.verify.runs import Run

from .places import conditions
from .saved import STATISTICS

__all__ = ["failures", "overwritten"]

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
