"""``sweep``: the error of a finite difference against its step, and of the complex step."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

import numpy_norms
from numpy_norms.cli import DISAGREEMENT, OK, UsageError
from numpy_norms.commands.arguments import filename, norm_among, seed
from numpy_norms.commands.check.cases import Array, Case, small_case
from numpy_norms.commands.check.oracles import complex_step
from numpy_norms.commands.table import print_table, print_text
from numpy_norms.oracle.sets import SIX_NORMS

HELP = "show how the error of a finite difference depends on its step, beside the complex step"
STEPS = [10 ** (-k / 2) for k in range(2, 27)]  # 1e-1 to 1e-13
COMPLEX_STEP = 1e-30
# Where the best of each has to be, or something is wrong with the gradient.
LIMITS = {"float64": 1e-8, "float32": 1e-2, "complex step": 1e-12}


@dataclass(frozen=True)
class Sweep:
    """Relative errors of the gradient of x: ||difference - dx|| / ||dx||, one per step."""

    norm: str
    shape: tuple[int, ...]
    seed: int
    steps: list[float]
    float64: list[float]
    float32: list[float]
    complex_step: float

    @property
    def best(self) -> dict[str, float]:
        """The smallest error of each."""
        numbers = (min(self.float64), min(self.float32), self.complex_step)
        return dict(zip(LIMITS, numbers, strict=True))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sweep`."""
    parser.add_argument(
        "norm", type=norm_among(SIX_NORMS), metavar="NORM", help="one of: " + ", ".join(SIX_NORMS)
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of every random array; 0")
    parser.add_argument("--json", action="store_true", help="print every figure, as JSON")
    parser.add_argument(
        "--png", type=filename, metavar="FILE", help="draw the curves too; needs matplotlib"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, draw, and return 0 where the differences agree with the gradient at their best."""
    figure = _figure(args.png) if args.png else None
    sweep = measure(args.norm, args.seed)
    if figure:
        _draw_png(figure, sweep, args.png)
    if args.json:
        print(json.dumps({**asdict(sweep), "complex_step_size": COMPLEX_STEP}, indent=1))
    else:
        _print(sweep)
    agree = all(sweep.best[name] <= limit for name, limit in LIMITS.items())
    return OK if agree else DISAGREEMENT


def measure(norm: str, seed: int) -> Sweep:
    """Differentiate sum(dy * y) by every element of x, with every step, in both precisions."""
    case = small_case(norm, seed)
    dx = case.results()["dx"]
    return Sweep(
        norm,
        dx.shape,
        seed,
        STEPS,
        [_error(_differences(case, step, np.float64), dx) for step in STEPS],
        [_error(_differences(case, step, np.float32), dx) for step in STEPS],
        _error(complex_step(case)["dx"], dx),
    )


def _differences(case: Case, step: float, dtype: DTypeLike) -> Array:
    """Central differences as one writes them first: everything in `dtype`, one step for all."""
    arrays = {name: a.astype(dtype) for name, a in case.arrays.items()}
    dy = case.dy.astype(dtype)
    options: dict[str, Any] = {"num_groups": case.num_groups} if case.norm == "group_norm" else {}
    forward = getattr(numpy_norms, f"{case.norm}_forward")

    def loss(index: tuple[int, ...], change: float) -> Any:
        x = arrays["x"].copy()
        x[index] += change
        y, _ = forward(**(arrays | {"x": x}), **options, dtype=dtype)
        return (dy * y).sum()

    slopes = [(loss(i, step) - loss(i, -step)) / (2 * step) for i in np.ndindex(dy.shape)]
    return np.array(slopes, dtype=np.float64).reshape(dy.shape)


def _error(got: Array, expected: Array) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def _print(sweep: Sweep) -> None:
    print_text(f"{sweep.norm}, x {sweep.shape}, seed {sweep.seed}: error of dx against the step")
    for line in chart(sweep):
        print_text(line.rstrip())
    print_text("")
    best = [errors.index(min(errors)) for errors in (sweep.float64, sweep.float32)]
    rows = [
        [f"{step:.0e}", _cell(sweep.float64, k, best[0]), _cell(sweep.float32, k, best[1])]
        for k, step in enumerate(sweep.steps)
        if k % 2 == 0 or k in best
    ]
    print_table(["step", "float64", "float32"], rows)
    print_text(f"complex step {COMPLEX_STEP:.0e}: error {sweep.complex_step:.0e}")


def _cell(errors: Sequence[float], k: int, best: int) -> str:
    return f"best  {errors[k]:.0e}" if k == best else f"{errors[k]:.0e}"


def chart(sweep: Sweep) -> list[str]:
    """Draw the errors as text, one row per power of ten, one column per step."""
    curves = (("-", [sweep.complex_step] * len(sweep.steps)), ("o", sweep.float32))
    marks: dict[tuple[int, int], str] = {}
    for mark, errors in (*curves, ("*", sweep.float64)):
        marks |= {(_decade(error), k): mark for k, error in enumerate(errors)}
    decades = range(max(d for d, _ in marks), min(d for d, _ in marks) - 1, -1)
    columns = range(len(sweep.steps))
    lines = [
        f" 1e{d:+03d} |" + "".join(f"{marks.get((d, k), ' '):>2}" for k in columns) for d in decades
    ]
    ticks = "".join(f"{f'1e-{1 + k // 2}':<8}" for k in columns if k % 4 == 0)
    legend = "        * float64   o float32   - complex step"
    return [*lines, "       +" + "--" * len(columns), "         " + ticks, legend]


def _decade(error: float) -> int:
    return round(math.log10(min(max(error, 1e-17), 1e3)))


def _figure(path: str) -> Any:
    if Path(path).suffix.lower() != ".png":
        raise UsageError(f"--png got {path!r}, but a name that ends in .png was expected")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError(
            "--png draws with matplotlib, which is not installed; pip install matplotlib"
        ) from None
    return Figure(figsize=(7, 4.5), layout="constrained")


def _draw_png(figure: Any, sweep: Sweep, path: str) -> None:
    axes = figure.subplots()
    axes.loglog(sweep.steps, sweep.float64, "o-", label="float64")
    axes.loglog(sweep.steps, sweep.float32, "s-", label="float32")
    axes.axhline(sweep.complex_step, color="black", linestyle="--", label="complex step")
    axes.set(xlabel="step", ylabel="relative error of dx", title=f"{sweep.norm}, seed {sweep.seed}")
    axes.invert_xaxis()
    axes.legend()
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None
