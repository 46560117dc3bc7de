"""``grade``: run somebody's function beside ours, and name the mistake."""

from __future__ import annotations

import argparse
import json

from numpy_norms.cli import DISAGREEMENT, OK, UsageError
from numpy_norms.commands import isolated
from numpy_norms.commands.arguments import norm_among, seconds, seed
from numpy_norms.commands.grade import folder
from numpy_norms.commands.grade.answers import ask
from numpy_norms.commands.grade.graded import battery
from numpy_norms.commands.grade.marking import mark
from numpy_norms.commands.grade.report import print_aside, print_grade
from numpy_norms.oracle.sets import NORMS

HELP = "run your function beside this library's, and name the mistake in it"
EPILOG = """\
The function is one of:
  forward(x, gamma, beta, eps) -> y             or (y, anything); only y is graded
  backward(dy, x, gamma, beta, eps) -> dx, dgamma, dbeta
  FILE.py:forward,backward                      a pair: forward -> (y, cache),
                                                backward(dy, cache) -> dx, dgamma, dbeta
  FILE.py:Class                                 with forward(x) -> y and backward(dy) -> dx; gamma,
                                                beta, eps are passed to it or set as attributes;
                                                dgamma, dbeta are returned or kept as attributes;
                                                or with the pair as static methods
FILE.py alone is searched for one of these, after the norm's name first; a FOLDER is a class: every
file in it, one after the other.
group_norm: num_groups comes after x. rms_norm: without beta and dbeta. Parameters are passed by
name where it is known (dout, grad_output, weight, bias, epsilon ... are known too), and the others
in this order. A parameter NAME_param is passed {"eps": ..., "mode": "train"}.

x is float64, has channels on axis 1 or the normalized features last, and 2 to 5 axes; --rank 2
folds it to two. Which pass a function is, is seen from its parameters and its name; --part says
it. The file runs in a process of its own, with limits of time, memory and output; but it has your
rights: grade only what you would run.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `grade`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument(
        "target",
        metavar="FILE.py:function",
        help="what to grade; also FILE.py:Class, FILE.py alone, FOLDER and FOLDER:function",
    )
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
    parser.add_argument("--csv", action="store_true", help="of a folder: print the marks as CSV")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--traceback", action="store_true", help="show where the function raised")


def run(args: argparse.Namespace) -> int:
    """Grade, print what was found, and return 0 where everything is right, 1 otherwise."""
    if of_a_class := folder.folder_of(args.target):
        return folder.run(args, *of_a_class)
    if args.csv:
        raise UsageError(f"--csv is for a folder of files, and {args.target} is none")
    chosen = battery(args.norm, args.seed, args.rank)
    answers = ask(args, chosen)
    print_aside(answers, args.traceback)
    grade = mark(args.target, args.norm, args.seed, chosen, answers)
    if args.json:
        print(json.dumps(grade.to_dict(), indent=1, allow_nan=False))
    else:
        print_grade(grade, traceback=args.traceback)
    return OK if grade.passed else DISAGREEMENT
