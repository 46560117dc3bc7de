"""What `grade` found, as an object, as JSON and as text."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from io import StringIO
from typing import Any

import numpy as np

from numpy_norms.commands.grade.answers import Answers
from numpy_norms.commands.grade.words import FAILED, in_your_words
from numpy_norms.commands.table import print_table, print_text
from numpy_norms.verify import Case, Finding, Row
from numpy_norms.verify.plain import Array

OUTPUTS = ("y", "dx", "dgamma", "dbeta")
MOST = 8  # failing cases that are listed
SHOWN = 10_000  # characters of what the file prints
NOT_RUN = "was not run"


@dataclass(repr=False)
class Grade:
    """What came of it: the case that is shown, every row, and what is wrong where something is."""

    target: str
    norm: str
    form: str
    chosen: tuple[Case, ...]
    seed: int
    happened: str
    rank: int | None
    raised: bool
    differences: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every row passed, and nothing else happened."""
        return not self.happened and bool(self.rows) and all(row.passed for row in self.rows)

    @property
    def wrong(self) -> list[str]:
        """The outputs of the case that is shown that are wrong."""
        first = [row for row in self.rows if row.case == self.rows[0].case and not row.passed]
        return [name for name in OUTPUTS if name in {row.output for row in first}]

    def reasons(self) -> list[str]:
        """What is wrong, a sentence each: what happened, and what the outputs equal."""
        said = [*self.failures.values(), self.happened]
        findings = [f for f in self.findings if f.what.removeprefix("raises ") not in said]
        said += [in_your_words(finding, self.chosen[0]) for finding in findings]
        return list(dict.fromkeys(filter(None, said)))

    def __str__(self) -> str:
        stream = StringIO()
        with redirect_stdout(stream):
            print_grade(self)
        return stream.getvalue().rstrip()

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Return the grade as plain Python; what is not finite as text."""
        content = {"passed": self.passed, "wrong": self.wrong, **vars(self)}
        content["shape"] = content.pop("chosen")[0].x.shape
        content["rows"] = [asdict(row) for row in self.rows]
        content["findings"] = [{**asdict(f), "sentence": str(f)} for f in self.findings]
        return {name: finite(value) for name, value in content.items()}


def print_aside(answers: Answers, traceback: bool) -> None:
    """Print on stderr what the file printed, and where it raised if that is asked for."""
    if answers.printed:
        print_text(answers.printed[:SHOWN].removesuffix("\n"), sys.stderr)
    if (more := len(answers.printed) - SHOWN) > 0:
        print(f"... and {more} more characters", file=sys.stderr)
    if answers.details and traceback:
        print_text(answers.details, sys.stderr)
    for name, array in answers.runs[0].results.items() if answers.runs else ():
        if bad := int(np.sum(~np.isfinite(array))):
            print(f"{name} has {bad} of {array.size} values not finite", file=sys.stderr)


def print_grade(grade: Grade, *, traceback: bool = False) -> None:
    """Print what is right, what is wrong, and why."""
    shape = grade.chosen[0].x.shape
    form = grade.form or "function"
    print_text(f"{grade.target} as {grade.norm} {form}; x {shape}, seed {grade.seed}")
    print_text("")
    if grade.rows:
        _print_outputs(grade)
        _print_cases(grade)
    for line in dict.fromkeys((*grade.failures.values(), grade.happened)):
        if line:
            print_text(f"wrong: {line}")
    if grade.raised and not traceback:
        print_text("       --traceback shows where")
    if grade.rank:
        print_text(f"it works for x with {grade.rank} axes: --rank {grade.rank} grades that")
    for finding in grade.findings:
        if finding.kind not in FAILED:  # said above, as it happened
            print_text(f"diagnosis: {in_your_words(finding, grade.chosen[0])}")
            if finding.kind != "unknown":
                print_text(f"           (this explains {finding.share:.0%} of what differs)")


def _print_outputs(grade: Grade) -> None:
    rows = [
        [name, "wrong" if name in grade.wrong else "right", _size(grade.differences.get(name))]
        for name in OUTPUTS
        if name in grade.differences or name in grade.failures
    ]
    print_table(["output", "", "largest difference"], rows, align="llr")
    print_text("differences are relative to the largest value of the output that is expected")
    print_text("")


def _print_cases(grade: Grade) -> None:
    chosen = grade.chosen
    failed = [row for row in grade.rows if not row.passed]
    names = list(dict.fromkeys(row.case for row in failed))
    print_text(f"{len(chosen) - len(names)} of {len(chosen)} cases are right")
    if grade.wrong:
        return  # the list would be of cases like the one above
    known = {case.name: case for case in chosen}
    told = list(dict.fromkeys(row.case for row in failed if row.note != NOT_RUN))
    for name in told[:MOST]:
        reasons = ", ".join(dict.fromkeys(_reason(row) for row in failed if row.case == name))
        print_text(f"  {name} ({known[name].why}): {reasons}")
    if len(told) > MOST:
        print_text(f"  and {len(told) - MOST} more")
    rank = chosen[0].x.ndim
    if told and all(known[name].x.ndim != rank for name in names):
        print_text(f"  all with {rank} axes are right: --rank {rank} grades only such")


def distance(a: Array, b: Array) -> float:
    """Return the largest difference, relative to the largest element of `b`; NaN is infinity."""
    if a.shape != b.shape:
        return np.inf
    largest = float(np.max(np.abs(b), initial=0.0)) or 1.0
    return float(np.nan_to_num(np.max(np.abs(a - b), initial=0.0) / largest, nan=np.inf))


def _size(difference: float | None) -> str:
    if difference is None:
        return ""
    return f"{difference:.0e}" if np.isfinite(difference) else "not finite"


def _reason(row: Row) -> str:
    overwritten = row.output not in OUTPUTS
    return f"{row.output}: {row.note}" if overwritten else row.note or row.output


def finite(value: Any) -> Any:
    """Return plain Python with what is not finite as text, as JSON has no word for it."""
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value
