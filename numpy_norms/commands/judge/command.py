"""``judge``: a PyTorch module of a kernel benchmark, on inputs that show what is wrong with it."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from numpy_norms.cli import DISAGREEMENT, OK, UsageError
from numpy_norms.commands import isolated
from numpy_norms.commands.arguments import integers, norm_among, seconds, seed
from numpy_norms.commands.grade.report import finite
from numpy_norms.commands.judge.problems import KERNELBENCH, LP, Problem
from numpy_norms.commands.table import print_text
from numpy_norms.oracle.sets import FEATURE_NORMS, NORMS

HELP = "judge a PyTorch module that a kernel benchmark asks for, as a norm"
EPILOG = """\
FILE.py:ModelNew is a torch.nn.Module. It is made anew for each shape of x with --init, a JSON list,
or an object for arguments by name, in which "C" stands for the channels or features, "G" for the
groups, "shape" for the shape of gamma and "eps" for eps; an argument called eps or epsilon is
passed by name. gamma, beta and running statistics are set at
random where the module has such; where it has not, gamma and beta are applied to its result.

--kernelbench N knows problems 33 to 40 of KernelBench, level 1: norm, axes, --init, rank.

The file runs in a process of its own, with limits of time, memory and output; but it has your
rights, and shares the process with what judges it: this finds mistakes, not fraud. Judge only what
you would run.
"""
DTYPES = ("float32", "float16", "bfloat16", "float64")
TIMEOUT = 300.0
MEMORY = 8 << 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `judge`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("target", metavar="FILE.py:ModelNew", help="the module")
    names = (*NORMS, *LP)
    parser.add_argument("--norm", type=norm_among(names), help="one of: " + ", ".join(names))
    parser.add_argument(
        "--kernelbench", type=int, choices=KERNELBENCH, metavar="N", help="a problem, 33 to 40"
    )
    parser.add_argument("--axis", type=integers, metavar="A,...", help="the normalized axes")
    parser.add_argument("--rank", type=int, choices=range(2, 6), help="the number of axes of x; 4")
    parser.add_argument("--groups", type=int, help="of a group norm")
    parser.add_argument("--init", metavar="JSON", help='for instance \'["C", "eps"]\'')
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", default="float32", choices=DTYPES, help=", ".join(DTYPES))
    parser.add_argument("--forward-only", action="store_true", help="ask for no gradients")
    parser.add_argument("--seed", type=seed, default=0, help="seed of every random array; 0")
    parser.add_argument(
        "--timeout", type=seconds, default=TIMEOUT, metavar="SECONDS", help=f"{TIMEOUT:g}"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(args: argparse.Namespace) -> int:
    """Judge, print the report, and return 0 where everything is right, 1 otherwise."""
    path, name = _target(args.target)
    problem = _problem(args)
    asked = {
        "path": str(path.resolve()),
        "name": name,
        "problem": vars(problem),
        "device": args.device,
        "dtype": args.dtype,
        "seed": args.seed,
        "backward": not args.forward_only,
    }
    memory = MEMORY if args.device == "cpu" else 1 << 40  # a GPU's addresses count as data
    outcome = isolated.run(
        "numpy_norms.commands.judge.judging:answer",
        json.dumps(asked).encode(),
        timeout=args.timeout,
        memory=memory,
    )
    answer = json.loads(outcome.sent[0]) if outcome.sent else {}
    if "usage" in answer:
        raise UsageError(answer["usage"])
    if not answer:
        happened = f"{path.name} {outcome.happened or 'returned nothing'}"
        answer = {"report": {"passed": False, "happened": happened}, "text": f"wrong: {happened}"}
    if args.json:
        print(json.dumps(finite(answer["report"]), indent=1, allow_nan=False))
    else:
        print_text(f"{args.target} as {problem.norm}")
        print_text(answer["text"])
    return OK if answer["report"]["passed"] else DISAGREEMENT


def _target(target: str) -> tuple[Path, str]:
    file, colon, name = target.rpartition(":")
    path = Path(file)
    if not colon or not name or not file:
        raise UsageError(f"{target!r} names no module; expected FILE.py:ModelNew")
    if not path.is_file():
        raise UsageError(f"there is no file {file}")
    if path.suffix != ".py":
        raise UsageError(f"{file} is not a Python file; its name should end in .py")
    if find_spec("torch") is None:
        raise UsageError("judge needs PyTorch: pip install torch")
    return path, name


def _problem(args: argparse.Namespace) -> Problem:
    """Return what is asked of the module: a known problem, or the options."""
    if (args.kernelbench is None) == (args.norm is None):
        raise UsageError("expected either --norm or --kernelbench")
    if args.kernelbench is not None:
        known = KERNELBENCH[args.kernelbench]
        for option in ("axis", "rank", "groups"):
            if getattr(args, option) is not None:
                raise UsageError(f"--kernelbench says --{option} itself; leave it out")
        return known if args.init is None else replace(known, init=_init(args.init))
    features = args.norm in FEATURE_NORMS or args.norm in LP
    axis = args.axis or (-1,)
    if args.axis and not features:
        raise UsageError(f"{args.norm} has no --axis: its channels are on axis 1")
    rank = args.rank or (4 if not features or args.axis else 3)
    shown = ",".join(map(str, axis))
    if any(not -rank <= a < rank for a in axis):
        raise UsageError(f"--axis is {shown}, and x has {rank} axes; --rank says how many")
    axis = tuple(a % rank for a in axis)
    if len(set(axis)) < len(axis):
        raise UsageError(f"--axis is {shown}, which names an axis twice")
    if args.norm == "group_norm" and args.groups is None:
        raise UsageError("group_norm needs --groups")
    if args.norm != "group_norm" and args.groups is not None:
        raise UsageError(f"{args.norm} has no --groups; leave it out")
    if args.groups is not None and args.groups < 1:
        raise UsageError(f"--groups is {args.groups}; expected 1 or more")
    usual: dict[str, Any] = {"layer_norm": ["shape"], "group_norm": ["C", "G"]}
    init = tuple(usual.get(args.norm, [] if args.norm in LP else ["C"]))
    return Problem(
        args.norm,
        axis if features else None,
        rank,
        init if args.init is None else _init(args.init),
        args.groups,
    )


def _init(text: str) -> tuple[Any, ...] | dict[str, Any]:
    """What the module is made with, by place or by name."""
    try:
        init = json.loads(text)
    except ValueError:
        init = None
    if not isinstance(init, (list, dict)):
        raise UsageError(f"--init is {text!r}; expected a JSON list or object")
    return init if isinstance(init, dict) else tuple(init)
