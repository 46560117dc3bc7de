"""``trace``: a small example, step by step, forward and backward."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator

from numpy_norms.cli import DISAGREEMENT, OK, UsageError
from numpy_norms.commands.arguments import norm_among, seed
from numpy_norms.commands.table import print_table, print_text
from numpy_norms.commands.trace_steps import (
    LAYOUTS,
    Array,
    Example,
    Step,
    against_library,
    example,
    trace,
)

HELP = "follow a 2 x 3 example through every step, forward and backward"
TOLERANCE = 1e-8

# Of every intermediate: the number and the formula of its value, and of its gradient.
FORMULAS = {
    "x": ("", "x", "(12)", "dx = dxc + dmean / m"),
    "mean": ("(1)", "mean = E[x]", "(11)", "dmean = -rstd * sum(dx_hat)"),
    "xc": ("", "xc = x - mean", "", "dxc = rstd * dx_hat + 2 * xc * dvar / m"),
    "var": ("(2)", "var = E[xc * xc]", "(10)", "dvar = -rstd**3 * drstd / 2"),
    "rstd": ("(3)", "rstd = 1 / sqrt(var + eps)", "(9)", "drstd = sum(dx_hat * xc)"),
    "x_hat": ("(4)", "x_hat = rstd * xc", "(8)", "dx_hat = gamma * dy"),
    "gamma": ("", "gamma", "(7)", "dgamma = sum(dy * x_hat)"),
    "beta": ("", "beta", "(6)", "dbeta = sum(dy)"),
    "y": ("(5)", "y = gamma * x_hat + beta", "", "dy"),
}
DIFFERENT = {
    "rms_norm": {
        "x": ("", "x", "(13)", "dx = rstd * dx_hat + 2 * x * dvar / m"),
        "var": ("(2)", "var = E[x * x]", "(10)", "dvar = -rstd**3 * drstd / 2"),
        "rstd": ("(3)", "rstd = 1 / sqrt(var + eps)", "(9)", "drstd = sum(dx_hat * x)"),
        "x_hat": ("(4)", "x_hat = rstd * x", "(8)", "dx_hat = gamma * dy"),
        "y": ("(5)", "y = gamma * x_hat", "", "dy"),
    },
    "batch_norm_inference": {
        "x": ("", "x", "(14)", "dx = dxc"),
        "mean": ("", "mean, stored", "(11)", "dmean = -rstd * sum(dx_hat)"),
        "xc": ("", "xc = x - mean", "", "dxc = rstd * dx_hat"),
        "var": ("", "var, stored", "(10)", "dvar = -rstd**3 * drstd / 2"),
    },
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `trace`."""
    names = ", ".join(LAYOUTS)
    parser.add_argument("norm", type=norm_among(tuple(LAYOUTS)), metavar="NORM", help=names)
    parser.add_argument("--eps", type=float, default=1e-5, help="eps; 1e-5")
    parser.add_argument("--seed", type=seed, help="random numbers instead of the fixed example")
    parser.add_argument("--json", action="store_true", help="print every number, as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the steps; return 1 if a gradient disagrees with its difference or the library."""
    if not 0 <= args.eps < math.inf:
        raise UsageError(f"--eps is {args.eps}, but a finite number >= 0 was expected; pass 1e-5")
    e = example(args.norm, args.eps, args.seed)
    steps = trace(e)
    library = against_library(e, steps)
    if args.json:
        print(_as_json(e, steps, library))
    else:
        _print(e, steps, library)
    agree = max(step.error for step in steps) <= TOLERANCE and max(library.values()) <= TOLERANCE
    return OK if agree else DISAGREEMENT


def _print(e: Example, steps: list[Step], library: dict[str, float]) -> None:
    formulas = FORMULAS | DIFFERENT.get(e.norm, {})
    print_text(f"{e.norm}, x {e.x.shape}: {LAYOUTS[e.norm].words}; eps = {e.eps:g}\n")
    forward = [row for step in steps for row in _rows(*formulas[step.name][:2], step.value)]
    print_table(["", "forward", "value"], forward, align="lll")
    print_text("\nGradients of sum(dy * y), each with its distance from a finite difference.\n")
    backward = [
        row
        for step in reversed(steps)
        for row in _rows(*formulas[step.name][2:], step.gradient, _verdict(step.error))
    ]
    print_table(["", "backward", "gradient", "error"], backward, align="llll")
    errors = ", ".join(f"{name} {error:.0e}" for name, error in library.items())
    print_text(f"\n{e.norm}_forward and {e.norm}_backward differ from this by: {errors}")


def _rows(number: str, formula: str, value: Array, *last: str) -> Iterator[list[str]]:
    """One row per line of the array; what belongs to all of it stands in the first."""
    lines = value.reshape(-1, value.shape[-1])
    for k, line in enumerate(lines):
        text = " ".join(f"{n + 0.0:7.3f}" for n in line)
        yield [number, formula, text, *last] if k == 0 else ["", "", text, *("" for _ in last)]


def _verdict(error: float) -> str:
    return f"{error:.0e}" if error <= TOLERANCE else f"{error:.0e} DIFFERS"


def _as_json(e: Example, steps: list[Step], library: dict[str, float]) -> str:
    shown = {
        step.name: {
            "value": step.value.tolist(),
            "gradient": step.gradient.tolist(),
            "error": step.error,
        }
        for step in steps
    }
    return json.dumps({"norm": e.norm, "eps": e.eps, "steps": shown, "library": library})
