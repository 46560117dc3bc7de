"""The result of a check: what was found, in sentences first, and the table of what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from .finding import Finding, told

__all__ = ["Report", "Row"]

_NAMED = 6
_TOLD = 4


@dataclass(frozen=True)
class Row:
    """What one output of one case came to.

    Errors are in units of the report: the distance to the expected value, divided by the roundoff
    of the output's type times the scale of the terms that were added up to form it. What is NaN
    or infinite on one side alone is counted, and hides no other error.

    Parameters
    ----------
    case, output : str
        The case of the battery and what was judged in it: an array, for instance ``"dx"``, or a
        law.
    max_error, p99_error : float
        The largest error and its 99th percentile, in units.
    ratio : float
        The largest error divided by its own tolerance; above 1 is a failure.
    passed : bool
    baseline : float
        `max_error` of the baseline that the report names; NaN without one.
    worst : tuple of int
        Index of the element with the largest ratio.
    got, expected : float
        That element.
    not_finite : int
        How many elements are NaN or infinite where the expected ones are not, or the other way.
    note : str
        Why it failed where numbers do not say it: an exception, a wrong shape.
    law : bool
        Whether `output` is a law, which has no expected values.
    """

    case: str
    output: str
    max_error: float
    p99_error: float
    ratio: float
    passed: bool
    baseline: float = math.nan
    worst: tuple[int, ...] = ()
    got: float = math.nan
    expected: float = math.nan
    not_finite: int = 0
    note: str = ""
    law: bool = False

    @classmethod
    def failure(cls, case: str, output: str, note: str) -> Row:
        """Return the row of an output that could not be measured."""
        return cls(case, output, math.inf, math.inf, math.inf, passed=False, note=note)


@dataclass(frozen=True)
class Report:
    """What a check found; prints as sentences and a table.

    Parameters
    ----------
    title : str
        What was checked, against what.
    rows : tuple of Row
        Every measurement, in the order in which it was made.
    diagnosis : tuple of Finding
        What is wrong, where and when, likeliest first; empty if the check passed.
    baseline : str
        What `Row.baseline` is, for instance ``"plain float32 NumPy"``; empty without one.
    reproduce : str
        Python that makes the worst case again, in a fresh interpreter, as ``case``.
    unit : str
        What an error of 1 is.
    remark : str
        What else is to be known; empty if nothing.
    properties : dict of str to bool
        Whether the kernel has what servers of models ask for, and nothing else requires.
    """

    title: str
    rows: tuple[Row, ...] = field(repr=False)
    diagnosis: tuple[Finding, ...] = ()
    baseline: str = ""
    reproduce: str = ""
    unit: str = ""
    remark: str = ""
    properties: dict[str, bool] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return all(row.passed for row in self.rows)

    @property
    def worst(self) -> Row:
        """The row furthest beyond its tolerance, or closest to it; one with numbers if any fails.

        A row that could not be measured comes after those that could.
        """
        measured = [row for row in self.rows if math.isfinite(row.ratio) and not row.law]
        failed = [row for row in measured if not row.passed]
        others = [row for row in self.rows if not row.passed] or measured or list(self.rows)
        return max(failed or others, key=lambda row: row.ratio)

    @property
    def suspects(self) -> tuple[str, ...]:
        """The names of the known faults in the diagnosis, likeliest first."""
        return tuple(dict.fromkeys(f.name for f in self.diagnosis if f.name))

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain Python: strings, numbers (infinity among them) and lists."""
        rows = [asdict(row) | {"worst": list(row.worst)} for row in self.rows]
        diagnosis = [asdict(f) | {"sentence": str(f)} for f in self.diagnosis]
        own = {"passed": self.passed, "rows": rows, "suspects": list(self.suspects)}
        return asdict(self) | own | {"diagnosis": diagnosis}

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.title}: {'passed' if self.passed else 'FAILED'}"
        yield from (self._wrong() if not self.passed else self._right())
        if self.remark:
            yield self.remark
        yield ""
        yield from self._table()
        laws = [row for row in self.rows if row.law]
        if laws:
            held = sum(row.passed for row in laws)
            yield f"laws that need no expected values: {held} of {len(laws)} hold"
        yield from (f"  broken: {row.output}" for row in laws if not row.passed)
        if self.unit:
            yield self.unit
        for name, has in self.properties.items():
            yield f"{'yes' if has else 'no':>3}: {name}"
        if not self.passed:
            yield ""
            yield from self._failures()

    def _right(self) -> Iterator[str]:
        cases = len({row.case for row in self.rows})
        measured = [row.ratio for row in self.rows if not row.law]
        if measured:
            used = f"at most {max(measured):.2f} of a tolerance is used"
            yield f"All {cases} cases are right; {used}."

    def _wrong(self) -> Iterator[str]:
        """Yield which outputs are wrong, how often, and what the diagnosis says."""
        measured = [row for row in self.rows if not row.law]
        wrong = list(dict.fromkeys(row.output for row in measured if not row.passed))
        right = [n for n in dict.fromkeys(row.output for row in measured) if n not in wrong]
        counts = [
            f"{name} in {len({r.case for r in measured if r.output == name and not r.passed})}"
            for name in wrong
        ]
        total = len({row.case for row in measured})
        also = f"; {' and '.join(right)} {'are' if right[1:] else 'is'} right" if right else ""
        if wrong:
            yield f"Wrong: {', '.join(counts)} of {total} cases{also}."
        yield from list(told(self.diagnosis))[:_TOLD]

    def _table(self) -> Iterator[str]:
        measured = [row for row in self.rows if not row.law]
        first = max((len(row.output) for row in measured), default=0)
        last = max((len(row.case) for row in measured), default=0) + 2
        head = f"{'':{first}} {'max':>9} {'p99':>9} {'of tolerance':>13} {'worst case':>{last}}"
        yield f"{head}   {self.baseline}".rstrip()
        for output in dict.fromkeys(row.output for row in measured):
            rows = [row for row in measured if row.output == output]
            finite = [row for row in rows if math.isfinite(row.ratio)]
            row = max(finite or rows, key=lambda r: r.ratio)
            numbers = f"{_short(row.max_error):>9} {_short(row.p99_error):>9}"
            beside = "" if math.isnan(row.baseline) else _short(row.baseline)
            spoilt = sum(r.not_finite for r in rows)
            beside += f"   {spoilt} not finite" if spoilt else ""
            line = (
                f"{output:{first}} {numbers} {_short(row.ratio):>13} {row.case:>{last}}   {beside}"
            )
            yield line.rstrip()

    def _failures(self) -> Iterator[str]:
        failed = [row for row in self.rows if not row.passed and not row.law]
        for output in dict.fromkeys(row.output for row in failed):
            rows = [row for row in failed if row.output == output]
            names = list(dict.fromkeys(row.case for row in rows))
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            yield f"{output} fails in {', '.join(names[:_NAMED])}{more}"
            notes: dict[str, list[str]] = {}
            for row in rows:
                if row.note:
                    notes.setdefault(row.note, []).append(row.case)
            for note, cases in notes.items():
                of = "" if len(cases) == len(names) else f"{', '.join(cases[:_NAMED])}: "
                yield f"  {of}{note}"
        worst = self.worst
        if not math.isnan(worst.got) or worst.worst:
            place = f"[{', '.join(map(str, worst.worst))}]" if worst.worst else ""
            element = f"{worst.output}{place} is {worst.got:.9g}, expected {worst.expected:.9g}"
            yield f"worst: {element}, in {worst.case}"
        if self.reproduce:
            yield f"make it again: {self.reproduce}"
            a_pass = "forward" if worst.output in ("y", "mean", "rstd") else "backward"
            yield f"               {a_pass}(*case.{a_pass}_arguments)"


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 1e4 else f"{value:.1e}"
