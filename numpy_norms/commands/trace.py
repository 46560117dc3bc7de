"""``trace``: a small example, step by step, forward and backward."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from itertools import zip_longest

from numpy_norms.cli import DISAGREEMENT, OK, UsageError
from numpy_norms.commands.arguments import norm_among, seed
from numpy_norms.commands.table import print_table, print_text
from numpy_norms.commands.trace_steps import (
    LAYOUTS,
    Array,
    Example,
    Step,
    against_library,
    arrows,
    example,
    trace,
)

HELP = "follow a 2 x 3 example through every step, forward and backward"
TOLERANCE = 1e-8

DX = "dx = rstd * (dx_hat - E[dx_hat]\n           - x_hat * E[dx_hat * x_hat])"

# Of every intermediate: the number and the formula of its value, and of its gradient.
FORMULAS = {
    "x": ("", "x", "(12)", DX),
    "mean": ("(1)", "mean = E[x]", "(11)", "dmean = -rstd * sum(dx_hat)"),
    "var": ("(2)", "var = E[(x - mean)**2]", "(10)", "dvar = -rstd**3 * drstd / 2"),
    "rstd": ("(3)", "rstd = 1 / sqrt(var + eps)", "(9)", "drstd = sum(dx_hat * (x - mean))"),
    "x_hat": ("(4)", "x_hat = rstd * (x - mean)", "(8)", "dx_hat = gamma * dy"),
    "gamma": ("", "gamma", "(7)", "dgamma = sum(dy * x_hat)"),
    "beta": ("", "beta", "(6)", "dbeta = sum(dy)"),
    "y": ("(5)", "y = gamma * x_hat + beta", "", "dy"),
}
DIFFERENT = {
    "rms_norm": {
        "x": ("", "x", "(13)", DX.replace(" - E[dx_hat]", "", 1)),
        "var": ("(2)", "var = E[x**2]", "(10)", "dvar = -rstd**3 * drstd / 2"),
        "rstd": ("(3)", "rstd = 1 / sqrt(var + eps)", "(9)", "drstd = sum(dx_hat * x)"),
        "x_hat": ("(4)", "x_hat = rstd * x", "(8)", "dx_hat = gamma * dy"),
        "y": ("(5)", "y = gamma * x_hat", "", "dy"),
    },
    "batch_norm_inference": {
        "x": ("", "x", "(14)", "dx = rstd * dx_hat"),
        "mean": ("", "mean, stored", "(11)", "dmean = -rstd * sum(dx_hat)"),
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
    backward: list[list[str]] = []
    for step in reversed(steps):
        if step.name == "x":
            backward += _arrows(e, steps)
        backward += _rows(*formulas[step.name][2:], step.gradient, _verdict(step.error))
    print_table(["", "backward", "gradient", "error"], backward, align="llll")
    errors = ", ".join(f"{name} {error:.0e}" for name, error in library.items())
    print_text(f"\n{e.norm}_forward and {e.norm}_backward differ from this by: {errors}")


def _arrows(e: Example, steps: list[Step]) -> Iterator[list[str]]:
    """The rows of the arrows into x, where there is more than one."""
    v, d = {s.name: s.value for s in steps}, {s.name: s.gradient for s in steps}
    terms = arrows(e, v, d)
    for k, (formula, value) in enumerate(terms.items() if len(terms) > 1 else ()):
        yield from _rows(
            "" if k else "(c)", f"     {formula}" if k else f"dx = {formula}", value, ""
        )


def _rows(number: str, formula: str, value: Array, *last: str) -> Iterator[list[str]]:
    """One row per line of the array or formula; what belongs to all of it stands in the first."""
    lines = [
        " ".join(f"{n + 0.0:7.3f}" for n in line) for line in value.reshape(-1, value.shape[-1])
    ]
    for k, (text, line) in enumerate(zip_longest(formula.split("\n"), lines, fillvalue="")):
        yield [number, text, line, *last] if k == 0 else ["", text, line, *("" for _ in last)]


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
