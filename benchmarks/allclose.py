"""What an allclose lets through: wrong modules under KernelBench's criterion, and under `judge`.

Every problem is run with its own inputs, torch.rand, at its own shape as far as `--megabytes` allow
(the batch is shortened, then said), and compared as the benchmark does: torch.allclose with
atol = rtol = 1e-4 in float32, 1e-2 in bfloat16. Run from the repository's root::

    python -m benchmarks.allclose --out docs/allclose.md
"""

from __future__ import annotations

import argparse
import datetime
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from numpy_norms.commands.judge.judging import judged
from numpy_norms.commands.judge.module import Subject
from numpy_norms.commands.judge.problems import KERNELBENCH

from .allclose_modules import reference, wrong_modules
from .pages import deliver

# Level 1, as of March 2026.
SHAPES = {
    33: (64, 64, 512, 512),
    34: (112, 64, 512, 512),
    35: (112, 64, 512, 512),
    36: (112, 64, 512, 512),
    37: (112, 64, 512, 512),
    38: (32768, 65535),
    39: (32768, 65535),
    40: (16, 64, 256, 256),
}
CRITERIA = {torch.float32: 1e-4, torch.bfloat16: 1e-2}
SEEDS = (42,)


def shape_of(problem: int, megabytes: int) -> tuple[int, ...]:
    """Return the shape of a problem, its batch shortened to what memory allows."""
    batch, *rest = SHAPES[problem]
    most = megabytes * 2**20 // (4 * math.prod(rest))
    return (max(1, min(batch, most)), *rest)


def made(problem: int, made_by: Any, shape: tuple[int, ...]) -> Any:
    """Return a module as the benchmark makes it: gamma 1, beta 0."""
    asked = KERNELBENCH[problem]
    known = {"C": shape[1], "G": asked.num_groups, "shape": shape[1:]}
    return made_by(*(known[name] for name in asked.init))


def passes(problem: int, made_by: Any, shape: tuple[int, ...], dtype: Any) -> bool:
    """Return whether a module passes the benchmark's criterion at every seed."""
    bound = CRITERIA[dtype]
    for seed in SEEDS:
        torch.manual_seed(seed)
        x = torch.rand(shape).to(dtype)
        theirs = made(problem, reference(problem), shape).to(dtype)
        ours = made(problem, made_by, shape).to(dtype)
        with torch.no_grad():
            if not torch.allclose(theirs(x), ours(x), atol=bound, rtol=bound):
                return False
    return True


def _reference_passes(problem: int) -> bool:
    subject = Subject(reference(problem), KERNELBENCH[problem], "cpu")
    return judged(subject, "float32", 0, backward=True).passed


def page(megabytes: int) -> Iterator[str]:
    """Yield the lines of the page."""
    yield "# What an allclose lets through"
    yield ""
    yield (
        f"Measured {datetime.date.today()} by `benchmarks/allclose.py`, "
        f"PyTorch {torch.__version__}."
    )
    yield ""
    yield (
        "[KernelBench](https://github.com/ScalingIntelligence/KernelBench) asks for fast kernels "
        "and is good for that: real workloads, one interface, timing that others can repeat. Eight "
        "of its level-1 problems are norms. As of March 2026 a solution is right there if, for "
        "a few seeds, its output at one shape is within `torch.allclose` of the reference's: "
        "atol = rtol = 1e-4 in float32, 1e-2 in bfloat16; inputs are `torch.rand`, gamma is 1 and "
        "beta 0; forward alone. `python -m numpy_norms judge FILE.py:ModelNew --kernelbench N` "
        "gives the same module random parameters, other sizes and layouts, means far from zero, "
        "small variances, eval mode and a gradient."
    )
    yield ""
    yield (
        "Below, modules that are wrong, and whether they pass the published criterion, with one "
        f"seed. Arrays are limited to {megabytes} MB here, so that the batch is shorter than "
        "there where the shape says so; the size of a set is the same, but for batch norm and the "
        "Frobenius norm."
    )
    yield ""
    yield "| problem | shape | what is wrong | float32 | bfloat16 | what `judge` says first |"
    yield "|---|---|---|---|---|---|"
    through = caught = total = 0
    for wrong in wrong_modules():
        shape = shape_of(wrong.problem, megabytes)
        verdicts = [passes(wrong.problem, wrong.made_by, shape, dtype) for dtype in CRITERIA]
        subject = Subject(wrong.made_by, KERNELBENCH[wrong.problem], "cpu")
        report = judged(subject, "float32", 0, backward=True)
        said = str(report.diagnosis[0]) if report.diagnosis else "nothing"
        total += 1
        through += any(verdicts)
        caught += not report.passed
        words = ["**passes**" if passed else "fails" for passed in verdicts]
        norm = KERNELBENCH[wrong.problem].norm
        cells = [f"{wrong.problem} {norm}", str(shape), wrong.what, *words, said]
        print(*cells, sep=" | ", file=sys.stderr, flush=True)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""
    yield (
        f"{through} of {total} pass the criterion in one type at least; `judge` rejects {caught}. "
        f"Of the {len(KERNELBENCH)} references {sum(map(_reference_passes, KERNELBENCH))} pass it."
    )


def main() -> None:
    """Print the page or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    deliver(page(options.megabytes), options.out)


if __name__ == "__main__":
    main()
