"""What came back is judged: from somebody's answers to a grade."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from numpy_norms.checks import choice, integer, shown
from numpy_norms.cli import UsageError
from numpy_norms.commands.arguments import Progress
from numpy_norms.commands.grade.answers import Answers
from numpy_norms.commands.grade.graded import battery, graded
from numpy_norms.commands.grade.report import NOT_RUN, OUTPUTS, Grade, distance
from numpy_norms.commands.grade.student import Student
from numpy_norms.oracle.sets import NORMS
from numpy_norms.verify import Case, Row
from numpy_norms.verify.arrangement import Arrangement
from numpy_norms.verify.diagnosis import diagnose
from numpy_norms.verify.judge import Judge
from numpy_norms.verify.runs import Run


def mark(target: str, norm: str, seed: int, chosen: Sequence[Case], answers: Answers) -> Grade:
    """Judge every run, and name what is wrong with the first."""
    grade = Grade(
        target,
        norm,
        answers.form,
        tuple(chosen),
        seed,
        answers.happened,
        answers.rank,
        raised=bool(answers.details),
    )
    if not answers.runs:
        return grade
    progress = Progress()
    arrangement = Arrangement.of(norm, {})
    judges = []
    for number, case in enumerate(chosen[: len(answers.runs)], 1):
        progress(f"case {number} of {len(chosen)}: {case.name}")
        judges.append(Judge(case, arrangement, np.dtype(np.float64), None))
    progress("")
    pairs = list(zip(judges, answers.runs, strict=True))
    grade.rows = [row for judge, found in pairs for row in _rows(judge, found)]
    for case in chosen[len(pairs) :]:
        grade.rows += [Row.failure(case.name, name, NOT_RUN) for name in _outputs(answers.runs[0])]
    got, grade.failures = answers.runs[0].results, answers.runs[0].failures
    expected = {name: a.astype(np.float64) for name, a in judges[0].expected.items()}
    grade.differences = {name: distance(got[name], expected[name]) for name in got}
    if not all(row.passed for row in grade.rows):
        grade.findings = list(diagnose(arrangement, judges, answers.runs))
    return grade


def mark_here(
    functions: Sequence[Callable[..., Any]],
    norm: str,
    part: str | None,
    rank: int | None,
    seed: int,
) -> Grade:
    """Run the functions in this process, and grade them; ValueError if they cannot be."""
    choice("norm", norm, NORMS)
    if part is not None:
        choice("part", part, ("forward", "backward"))
    if rank is not None and not 2 <= integer("rank", rank, 4) <= 5:
        raise ValueError(f"rank is {shown(rank)}; pass 2, 3, 4 or 5")
    students = [
        Student(_file_of(f), getattr(f, "__name__", type(f).__name__), f) for f in functions
    ]
    try:
        chosen = battery(norm, seed, rank)
        ours = graded(norm, students, part)
    except UsageError as error:
        raise ValueError(_said_here(str(error))) from None
    with np.errstate(all="ignore"):
        found = [ours.run(case) for case in chosen]
    runs = [run for run, _ in found]
    details = next((text for _, text in found if text), "")
    target = ", ".join(student.name for student in students)
    return mark(target, norm, seed, chosen, Answers(ours.form, runs, "", None, "", details))


def _said_here(text: str) -> str:
    """What the command says to its user, to a caller of ``grade``."""
    text = re.sub(r"as [^;]*:(\S+)$", r"as (\1)", text)
    return re.sub(r"--(\w+) ?", r"\1=", text)


def _file_of(function: Callable[..., Any]) -> Path:
    try:
        return Path(inspect.getfile(function))
    except (TypeError, OSError):  # of a notebook, or built in
        return Path("here")


def _rows(judge: Judge, found: Run) -> list[Row]:
    rows = [judge.row(name, found) for name in _outputs(found)]
    note = "the argument was overwritten"
    return rows + [Row.failure(judge.case.name, name, note) for name in found.changed]


def _outputs(found: Run) -> list[str]:
    return [name for name in OUTPUTS if name in found.results or name in found.failures]
