"""The result of a check: rows that were measured, and the table they print as."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from .catalogue import KNOWN

__all__ = ["Report", "Row"]

_NAMED = 6


@dataclass(frozen=True)
class Row:
    """What one output of one case came to.

    Errors are in units of the report: the distance to the expected value, divided by the roundoff
    of the output's type times the scale of the terms that were added up to form it.

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
    note: str = ""
    law: bool = False

    @classmethod
    def failure(cls, case: str, output: str, note: str) -> Row:
        """Return the row of an output that could not be measured."""
        return cls(case, output, math.inf, math.inf, math.inf, passed=False, note=note)


@dataclass(frozen=True)
class Report:
    """What a check found; prints as a table.

    Parameters
    ----------
    title : str
        What was checked, against what.
    rows : tuple of Row
        Every measurement, in the order in which it was made.
    suspects : tuple of str
        Names from the catalogue of known mistakes, likeliest first; empty if the check passed or
        if nothing in the catalogue resembles the results.
    baseline : str
        What `Row.baseline` is, for instance ``"plain float32 NumPy"``; empty without one.
    reproduce : str
        Python that makes the arrays of the worst case again.
    unit : str
        What an error of 1 is.
    remark : str
        What else is to be known; empty if nothing.
    """

    title: str
    rows: tuple[Row, ...] = field(repr=False)
    suspects: tuple[str, ...] = ()
    baseline: str = ""
    reproduce: str = ""
    unit: str = ""
    remark: str = ""

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return all(row.passed for row in self.rows)

    @property
    def worst(self) -> Row:
        """The row furthest beyond its tolerance, or closest to it."""
        return max(self.rows, key=lambda row: row.ratio)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain Python: strings, numbers (infinity among them) and lists."""
        rows = [asdict(row) | {"worst": list(row.worst)} for row in self.rows]
        return asdict(self) | {
            "passed": self.passed,
            "rows": rows,
            "suspects": list(self.suspects),
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.title}: {'passed' if self.passed else 'FAILED'}"
        yield ""
        yield from self._table()
        laws = [row for row in self.rows if row.law]
        if laws:
            held = sum(row.passed for row in laws)
            yield f"laws that need no expected values: {held} of {len(laws)} hold"
        yield from (f"  broken: {row.output}" for row in laws if not row.passed)
        if self.unit:
            yield self.unit
        if self.remark:
            yield self.remark
        if not self.passed:
            yield ""
            yield from self._findings()

    def _table(self) -> Iterator[str]:
        measured = [row for row in self.rows if not row.law]
        first = max((len(row.output) for row in measured), default=0)
        last = max((len(row.case) for row in measured), default=0) + 2
        head = f"{'':{first}} {'max':>9} {'p99':>9} {'of tolerance':>13} {'worst case':>{last}}"
        yield f"{head}   {self.baseline}".rstrip()
        for output in dict.fromkeys(row.output for row in measured):
            row = max((r for r in measured if r.output == output), key=lambda r: r.ratio)
            numbers = f"{_short(row.max_error):>9} {_short(row.p99_error):>9}"
            beside = "" if math.isnan(row.baseline) else _short(row.baseline)
            line = (
                f"{output:{first}} {numbers} {_short(row.ratio):>13} {row.case:>{last}}   {beside}"
            )
            yield line.rstrip()

    def _findings(self) -> Iterator[str]:
        failed = [row for row in self.rows if not row.passed and not row.law]
        for output in dict.fromkeys(row.output for row in failed):
            names = list(dict.fromkeys(row.case for row in failed if row.output == output))
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            yield f"{output} fails in {', '.join(names[:_NAMED])}{more}"
            note = next((row.note for row in failed if row.output == output and row.note), "")
            if note:
                yield f"  {note}"
        worst = self.worst
        if not math.isnan(worst.got):
            place = f"[{', '.join(map(str, worst.worst))}]" if worst.worst else ""
            element = f"{worst.output}{place} is {worst.got:.9g}, expected {worst.expected:.9g}"
            yield f"worst: {element}, in {worst.case}"
        if self.reproduce:
            yield f"make it again: {self.reproduce}"
        for number, name in enumerate(self.suspects[:3], 1):
            mistake = next(m for m in KNOWN if m.name == name)
            yield f"suspect {number}: {name} - {mistake.what}"
            yield f"           {mistake.formula}   ({mistake.issue})"


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 1e4 else f"{value:.1e}"
