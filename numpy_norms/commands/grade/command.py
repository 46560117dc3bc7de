"""``grade``: run somebody's function beside ours, and name the mistake."""

from __future__ import annotations

import argparse
import json

import numpy as np

from numpy_norms.cli import DISAGREEMENT, OK
from numpy_norms.commands import isolated
from numpy_norms.commands.arguments import Progress, norm_among, seconds, seed
from numpy_norms.commands.grade.answers import Answers, ask
from numpy_norms.commands.grade.graded import battery
from numpy_norms.commands.grade.report import (
    NOT_RUN,
    OUTPUTS,
    Grade,
    distance,
    print_aside,
    print_grade,
)
from numpy_norms.oracle.sets import NORMS
from numpy_norms.verify import Case, Row
from numpy_norms.verify.arrangement import Arrangement
from numpy_norms.verify.diagnosis import diagnose
from numpy_norms.verify.judge import Judge
from numpy_norms.verify.runs import Run

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
it. The file runs in a process of its own, with limits of time, memory and output; but it has your
rights: grade only what you would run.
"""


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
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=isolated.TIMEOUT,
        metavar="SECONDS",
        help=f"for the whole run; {isolated.TIMEOUT:g}",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--traceback", action="store_true", help="show where the function raised")


def run(args: argparse.Namespace) -> int:
    """Grade, print what was found, and return 0 where everything is right, 1 otherwise."""
    chosen = battery(args.norm, args.seed, args.rank)
    answers = ask(args, chosen)
    print_aside(answers, args.traceback)
    grade = _grade(args, chosen, answers)
    if args.json:
        print(json.dumps(grade.to_dict(), indent=1, allow_nan=False))
    else:
        print_grade(grade, chosen, args)
    return OK if grade.passed else DISAGREEMENT


def _grade(args: argparse.Namespace, chosen: list[Case], answers: Answers) -> Grade:
    grade = Grade(
        args.target,
        args.norm,
        answers.form,
        chosen[0].x.shape,
        answers.happened,
        answers.rank,
        raised=bool(answers.details),
    )
    if not answers.runs:
        return grade
    progress = Progress()
    arrangement = Arrangement.of(args.norm, {})
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


def _rows(judge: Judge, found: Run) -> list[Row]:
    rows = [judge.row(name, found, found) for name in _outputs(found)]
    note = "the argument was overwritten"
    return rows + [Row.failure(judge.case.name, name, note) for name in found.changed]


def _outputs(found: Run) -> list[str]:
    return [name for name in OUTPUTS if name in found.results or name in found.failures]
