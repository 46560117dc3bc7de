"""``grade``: run somebody's function beside ours, and name the mistake."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from numpy_norms.cli import DISAGREEMENT, OK, UsageError
from numpy_norms.commands.arguments import Progress, norm_among, seed
from numpy_norms.commands.grade.diagnosis import Finding, diagnose, distance
from numpy_norms.commands.grade.graded import Graded, battery, graded
from numpy_norms.commands.grade.student import Failure, load
from numpy_norms.commands.table import print_table, print_text
from numpy_norms.oracle.sets import NORMS
from numpy_norms.verify import Case, Row, mutants
from numpy_norms.verify.arrangement import Arrangement
from numpy_norms.verify.plain import Array
from numpy_norms.verify.runs import Judge, Run
from numpy_norms.verify.runs import run as run_case
from numpy_norms.verify.suspects import suspects

HELP = "run your function beside this library's, and name the mistake in it"
EPILOG = """\
The function is one of:
  forward(x, gamma, beta, eps) -> y             or (y, anything); only y is graded
  backward(dy, x, gamma, beta, eps) -> dx, dgamma, dbeta
  FILE.py:forward,backward                      a pair: forward -> (y, cache),
                                                backward(dy, cache) -> dx, dgamma, dbeta
group_norm: num_groups comes after x. rms_norm: without beta and dbeta. Parameters are passed by
name where all names are known (dout, grad_output, weight, bias, epsilon ... are known too), and
otherwise in this order. A parameter NAME_param is passed {"eps": ..., "mode": "train"}.

x is float64, has channels on axis 1 or the normalized features last, and 2 to 5 axes; --rank 2
folds it to two. Which pass a function is, is seen from its parameters and its name; --part says
it. The file is imported and the function is run in this process: grade only what you would run.
"""
MOST = 8  # failing cases that are listed


@dataclass
class Grade:
    """What came of it: the case that is shown, every row, and what is wrong where something is."""

    target: str
    norm: str
    form: str
    shape: tuple[int, ...]
    differences: dict[str, float]
    rows: list[Row]
    findings: list[Finding] = field(default_factory=list)
    resembles: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return all(row.passed for row in self.rows)

    @property
    def wrong(self) -> list[str]:
        """The outputs of the case that is shown that are wrong."""
        first = self.rows[0].case
        failed = [row.output for row in self.rows if row.case == first and not row.passed]
        return [name for name in self.differences if name in failed]

    def to_dict(self) -> dict[str, Any]:
        """Return the grade as plain Python; what is not finite as text."""
        content = {"passed": self.passed, "wrong": self.wrong, **asdict(self)}
        content["findings"] = [finding._asdict() for finding in self.findings]
        return {name: _finite(value) for name, value in content.items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `grade`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("target", metavar="FILE.py:function", help="what to grade")
    parser.add_argument(
        "--norm", type=norm_among(NORMS), required=True, help="one of: " + ", ".join(NORMS)
    )
    parser.add_argument("--part", choices=("forward", "backward"), help="which pass it is")
    parser.add_argument(
        "--rank", type=int, choices=range(2, 6), metavar="N", help="give it x with N axes only"
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of every random array; 0")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--traceback", action="store_true", help="show where the function raised")


def run(args: argparse.Namespace) -> int:
    """Grade, print what was found, and return 0 where everything is right, 1 otherwise."""
    try:
        grade = _grade(args)
    except Failure as failure:
        if args.traceback:
            print(failure.details, file=sys.stderr)
        hint = "" if args.traceback else "; --traceback shows where"
        raise UsageError(f"{failure}{hint}") from None
    if args.json:
        print(json.dumps(grade.to_dict(), indent=1, allow_nan=False))
    else:
        _print(grade, args)
    return OK if grade.passed else DISAGREEMENT


def _grade(args: argparse.Namespace) -> Grade:
    ours = graded(args.norm, load(args.target), args.part)
    chosen = battery(args.norm, args.seed, args.rank)
    with np.errstate(all="ignore"):  # as everywhere below: what matters is what comes back
        got = _first_results(ours, chosen[0], args)
    progress = Progress()
    arrangement = Arrangement.of(args.norm, {})
    judges, runs = [], []
    for number, case in enumerate(chosen, 1):
        progress(f"case {number} of {len(chosen)}: {case.name}")
        judges.append(Judge(case, arrangement, np.dtype(np.float64), None))
        runs.append(run_case(case, ours.forward, ours.backward))
    progress("")
    rows = [row for judge, found in zip(judges, runs, strict=True) for row in _rows(judge, found)]
    expected = {name: a.astype(np.float64) for name, a in judges[0].expected.items()}
    differences = {name: distance(got[name], expected[name]) for name in got}
    shape = chosen[0].x.shape
    grade = Grade(args.target, args.norm, ours.form, shape, differences, rows)
    grade.findings = diagnose(chosen[0], got, expected, grade.wrong)
    if failed := {row.case for row in rows if not row.passed}:
        grade.resembles = suspects(arrangement, judges, runs, failed)
    return grade


def _first_results(ours: Graded, case: Case, args: argparse.Namespace) -> dict[str, Array]:
    """Run the first case; where that fails, say so, and whether x with fewer axes would do."""
    try:
        got = ours.results(case)
    except (Failure, UsageError) as error:
        usual = 2 if args.norm in ("layer_norm", "rms_norm", "batch_norm") else 4
        if args.rank is None and _works(ours, battery(args.norm, args.seed, usual)[0]):
            hint = f"{error}; it works for x with {usual} axes: --rank {usual} grades that"
            raise UsageError(hint) from None
        raise
    for name, array in got.items():
        if bad := int(np.sum(~np.isfinite(array))):
            print(f"{name} has {bad} of {array.size} values not finite", file=sys.stderr)
    return got


def _works(ours: Graded, case: Case) -> bool:
    try:
        ours.results(case)
    except (Failure, UsageError):
        return False
    return True


def _rows(judge: Judge, found: Run) -> list[Row]:
    rows = [judge.row(name, found, found) for name in (*found.results, *found.failures)]
    note = "the argument was overwritten"
    spoilt = [
        Row(judge.case.name, name, np.inf, np.inf, np.inf, False, note=note)
        for name in found.changed
    ]
    return rows + spoilt


def _print(grade: Grade, args: argparse.Namespace) -> None:
    print_text(f"{grade.target} as {grade.norm} {grade.form}; x {grade.shape}, seed {args.seed}")
    print_text("")
    rows = [
        [name, "wrong" if name in grade.wrong else "right", _size(difference)]
        for name, difference in grade.differences.items()
    ]
    print_table(["output", "", "largest difference"], rows, align="llr")
    print_text("")
    failed = [row for row in grade.rows if not row.passed]
    names = list(dict.fromkeys(row.case for row in failed))
    total = len({row.case for row in grade.rows})
    print_text(f"{total - len(names)} of {total} cases are right")
    if names and not grade.wrong:  # otherwise the list would be of cases like the one above
        _print_cases(names, failed, args)
    for finding in grade.findings:
        print_text(f"diagnosis: your {finding.output} {finding.says}")
        print_text(f"           (largest difference {finding.difference:.0e})")
    if grade.resembles and not grade.findings:
        known = {mutant.name: mutant for mutant in mutants(grade.norm)}
        for name in grade.resembles[:2]:
            print_text(f"resembles a known mistake: {known[name].what}: {known[name].formula}")


def _print_cases(names: list[str], failed: list[Row], args: argparse.Namespace) -> None:
    known = {case.name: case for case in battery(args.norm, args.seed, args.rank)}
    for name in names[:MOST]:
        reasons = ", ".join(dict.fromkeys(_reason(row) for row in failed if row.case == name))
        print_text(f"  {name} ({known[name].why}): {reasons}")
    if len(names) > MOST:
        print_text(f"  and {len(names) - MOST} more")
    rank = next(iter(known.values())).x.ndim
    if all(known[name].x.ndim != rank for name in names):
        print_text(f"  all with {rank} axes are right: --rank {rank} grades only such")


def _size(difference: float) -> str:
    return f"{difference:.0e}" if np.isfinite(difference) else "not finite"


def _reason(row: Row) -> str:
    raised = row.note.removeprefix("Failure: ").removeprefix("UsageError: ")
    if raised != row.note:
        return raised  # the same for all outputs
    return f"{row.output}: {row.note}" if row.note else row.output


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value
