"""``check``: every norm, forward and backward, against routes that share no line with the library.

Large inputs are held against 106-bit arithmetic and PyTorch; small ones, whose gradients are taken
element by element, against the complex step and central differences.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence

import numpy as np

from numpy_norms.cli import DISAGREEMENT, OK, UsageError
from numpy_norms.commands.arguments import Progress, filename, norm_among, seed
from numpy_norms.commands.check.activations import load_activations
from numpy_norms.commands.check.cases import (
    Array,
    article_case,
    case_of,
    corner,
    small_case,
    why_not,
)
from numpy_norms.commands.check.findings import Job, measure
from numpy_norms.commands.check.oracles import pytorch
from numpy_norms.commands.check.report import Report
from numpy_norms.oracle.sets import SIX_NORMS

HELP = "check every norm, forward and backward, on this machine or on your own activations"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `check`."""
    parser.add_argument(
        "norms",
        nargs="*",
        type=norm_among(SIX_NORMS),
        metavar="NORM",
        help=f"{', '.join(SIX_NORMS)}; default: all of them",
    )
    parser.add_argument(
        "--input", type=filename, metavar="FILE", help="a .npy or .npz file of your own activations"
    )
    parser.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="of every random array; default: 0"
    )
    parser.add_argument(
        "--eps", type=_eps, default=1e-5, metavar="EPS", help="of every norm; default: 1e-5"
    )
    parser.add_argument("--json", action="store_true", help="print every figure, as JSON")


def run(args: argparse.Namespace) -> int:
    """Check, print what was found, and return 0 where all agree, 1 otherwise."""
    norms = args.norms or SIX_NORMS
    given = load_activations(args.input) if args.input else {}
    torch = pytorch()
    progress = Progress(patience=10.0)
    start = time.perf_counter()
    skipped: list[str] = []
    jobs = _jobs(given, norms, args, skipped) if given else _article_jobs(norms, args)
    findings = [finding for job in jobs for finding in measure(job, torch, progress)]
    progress("")
    if not findings:
        raise UsageError(f"nothing to check in {args.input}: {'; '.join(skipped)}")
    report = Report(
        findings,
        skipped,
        seed=args.seed,
        eps=args.eps,
        input=args.input,
        torch=torch.__version__ if torch else None,
        seconds=time.perf_counter() - start,
    )
    report.print_json() if args.json else report.print_tables()
    return OK if report.agrees else DISAGREEMENT


def _article_jobs(norms: Sequence[str], args: argparse.Namespace) -> Iterator[Job]:
    for norm in norms:
        large = [article_case(norm, dtype, args.seed, args.eps) for dtype in ("f4", "f8")]
        yield Job("x", large, small_case(norm, args.seed, args.eps))


def _jobs(
    given: dict[str, Array], norms: Sequence[str], args: argparse.Namespace, skipped: list[str]
) -> Iterator[Job]:
    for name, x in given.items():
        for norm in norms:
            if reason := why_not(norm, x.shape):
                skipped.append(f"{norm} of {name}: {reason}")
                continue
            case = case_of(norm, x, args.seed, args.eps)
            large = [case] if x.dtype == np.float64 else [case, case.in_float64()]
            yield Job(name, large, case_of(norm, corner(x), args.seed, args.eps))


def _eps(text: str) -> float:
    try:
        eps = float(text)
    except ValueError:
        eps = 0.0
    if not 0 < eps < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number above 0")
    return eps
